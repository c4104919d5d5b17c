//! `wasi:io` for workflows: what is ready is used, and what would have to be waited for is refused. The host never blocks.

use futures::FutureExt;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::{
    StreamError, StreamResult,
    bindings::sync::io::{poll, streams},
};
use wasmtime_wasi_io::{
    bindings::wasi::io::{poll as wait, streams as flow},
    poll::DynPollable,
    streams::{DynInputStream, DynOutputStream},
};

use super::state::WorkflowState;
use crate::trap::Refusal;

const NO_WAITING: Refusal = Refusal(
    "a workflow cannot wait inside a turn: use `ctx.sleep` for time, and an activity for everything else that takes time",
);

/// The value of something that must be ready.
fn now<T>(ready: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    ready.now_or_never().unwrap_or_else(|| Err(NO_WAITING.into()))
}

fn flow_now<T>(ready: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
    ready.now_or_never().unwrap_or_else(|| Err(StreamError::Trap(NO_WAITING.into())))
}

impl poll::Host for WorkflowState {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        now(wait::Host::poll(&mut self.table, pollables))
    }
}

impl poll::HostPollable for WorkflowState {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        now(wait::HostPollable::ready(&mut self.table, pollable))
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        now(wait::HostPollable::block(&mut self.table, pollable))
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        wait::HostPollable::drop(&mut self.table, pollable)
    }
}

impl streams::Host for WorkflowState {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        <ResourceTable as streams::Host>::convert_stream_error(&mut self.table, error)
    }
}

impl streams::HostOutputStream for WorkflowState {
    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        now(flow::HostOutputStream::drop(&mut self.table, stream))
    }

    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        flow::HostOutputStream::check_write(&mut self.table, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        flow::HostOutputStream::write(&mut self.table, stream, bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        flow_now(flow::HostOutputStream::blocking_write_and_flush(&mut self.table, stream, bytes))
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        flow_now(flow::HostOutputStream::blocking_write_zeroes_and_flush(&mut self.table, stream, len))
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        flow::HostOutputStream::subscribe(&mut self.table, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        flow::HostOutputStream::write_zeroes(&mut self.table, stream, len)
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        flow::HostOutputStream::flush(&mut self.table, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        flow_now(flow::HostOutputStream::blocking_flush(&mut self.table, stream))
    }

    fn splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        flow::HostOutputStream::splice(&mut self.table, to, from, len)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        flow_now(flow::HostOutputStream::blocking_splice(&mut self.table, to, from, len))
    }
}

impl streams::HostInputStream for WorkflowState {
    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        now(flow::HostInputStream::drop(&mut self.table, stream))
    }

    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        flow::HostInputStream::read(&mut self.table, stream, len)
    }

    fn blocking_read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        flow_now(flow::HostInputStream::blocking_read(&mut self.table, stream, len))
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        flow::HostInputStream::skip(&mut self.table, stream, len)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        flow_now(flow::HostInputStream::blocking_skip(&mut self.table, stream, len))
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        flow::HostInputStream::subscribe(&mut self.table, stream)
    }
}
