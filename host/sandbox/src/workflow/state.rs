//! What belongs to one workflow instance.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::random::Seeded;
use crate::{
    config::Limits,
    limits::space::Space,
    output::{Output, Printer, Stream},
};

/// The data of a workflow's store.
pub(crate) struct WorkflowState {
    pub(super) table: ResourceTable,
    pub(super) space: Space,
    pub(super) output: Arc<Output>,
    pub(super) random: Seeded,
    pub(super) payload_bytes: usize,
    /// The time of the current turn.
    pub(super) now_ms: u64,
    /// The zero of the monotonic clock.
    pub(super) started_at_ms: u64,
    /// Arguments, environment, folders and sockets, none of which there are. Made at the first use, which is rare.
    wasi: Option<Box<WasiCtx>>,
}

impl WorkflowState {
    pub(super) fn new(
        seed: u64,
        started_at_ms: u64,
        space: Space,
        limits: &Limits,
        output: Arc<Output>,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Self {
            table,
            space,
            output,
            random: Seeded::new(seed),
            payload_bytes: limits.payload_bytes,
            now_ms: started_at_ms,
            started_at_ms,
            wasi: None,
        }
    }
}

impl WasiView for WorkflowState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let output = &self.output;
        let ctx = self.wasi.get_or_insert_with(|| {
            let wasi = WasiCtxBuilder::new()
                .stdout(Printer::new(output.clone(), Stream::Out))
                .stderr(Printer::new(output.clone(), Stream::Err))
                .allow_tcp(false)
                .allow_udp(false)
                .allow_ip_name_lookup(false)
                .build();
            Box::new(wasi)
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}
