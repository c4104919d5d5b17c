//! What belongs to one running activity.

use std::sync::Arc;

use airlock_engine::guests::ActivityHost;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::{
    config::Limits,
    limits::{rate::Rate, space::Space},
    output::{Output, Printer, Stream},
    policy::{Mode, Policy},
};

/// The data of an activity's store.
pub(crate) struct ActivityState {
    pub(super) host: Arc<dyn ActivityHost>,
    pub(super) limits: Arc<Limits>,
    pub(super) table: ResourceTable,
    pub(super) space: Space,
    pub(super) output: Arc<Output>,
    pub(super) events: Rate,
    /// Calls that the guest holds.
    pub(super) open_calls: usize,
    policy: Arc<Policy>,
    /// Made at the first use: most activities never touch WASI.
    wasi: Option<Box<WasiCtx>>,
}

impl ActivityState {
    /// Fails when a granted folder cannot be opened.
    pub(super) fn new(
        host: Arc<dyn ActivityHost>,
        limits: Arc<Limits>,
        policy: Arc<Policy>,
        space: Space,
        output: Arc<Output>,
    ) -> wasmtime::Result<Self> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let mut state = Self {
            host,
            table,
            space,
            events: Rate::new(limits.events_per_second),
            open_calls: 0,
            limits,
            output,
            policy,
            wasi: None,
        };
        if !state.policy.dirs.is_empty() {
            let mut builder = state.builder();
            for dir in &state.policy.dirs {
                let perms = match dir.mode {
                    Mode::ReadOnly => FsPerms::ReadOnly,
                    Mode::ReadWrite => FsPerms::ReadWrite,
                };
                builder.preopened_dir(&dir.host, &dir.guest, perms)?;
            }
            state.wasi = Some(Box::new(builder.build()));
        }
        Ok(state)
    }

    /// WASI as granted, but for folders: real clocks and random, log output, the listed environment, no sockets.
    fn builder(&self) -> WasiCtxBuilder {
        let mut builder = WasiCtxBuilder::new();
        builder
            .stdout(Printer::new(self.output.clone(), Stream::Out))
            .stderr(Printer::new(self.output.clone(), Stream::Err))
            .envs(&self.policy.env)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(self.limits.payload_bytes as u64);
        builder
    }
}

impl WasiView for ActivityState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        if self.wasi.is_none() {
            self.wasi = Some(Box::new(self.builder().build()));
        }
        WasiCtxView {
            // Made just above.
            ctx: self.wasi.get_or_insert_default(),
            table: &mut self.table,
        }
    }
}
