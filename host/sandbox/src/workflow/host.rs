//! The imports of `wit/` for workflows: log lines, and refusals that say what to do instead.

use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::DynPollable;

use super::state::WorkflowState;
use crate::{
    activity::{host::log_level, pending::Pending},
    bindings::airlock::plugin::{activity_context, auth, events, log, tools, types},
    trap::Refusal,
};

const CALL_TOOL: Refusal = Refusal(
    "a workflow cannot call `tools.call-tool`, which is for activities: use `ctx.call_tool`, or call it in an activity",
);
const LIST_TOOLS: Refusal = Refusal(
    "a workflow cannot call `tools.list-tools`, which is for activities: use `ctx.list_tools`, or call it in an activity",
);
const AWAIT_AUTH: Refusal =
    Refusal("a workflow cannot call `auth.await-auth`, which is for activities: use `ctx.await_auth`");
const EMIT_EVENT: Refusal =
    Refusal("a workflow cannot call `events.emit-event`, which is for activities: use `ctx.emit_event`");
const CONTEXT: Refusal = Refusal(
    "a workflow has no activity context: heartbeats are for activities, and `ctx` tells a workflow that it is cancelled",
);

impl types::Host for WorkflowState {}

impl log::Host for WorkflowState {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.output.line(log_level(level), &message);
        Ok(())
    }
}

impl tools::Host for WorkflowState {
    fn call_tool(
        &mut self,
        _: String,
        _: String,
        _: String,
        _: types::CallOptions,
    ) -> wasmtime::Result<Resource<Pending>> {
        Err(CALL_TOOL.into())
    }

    fn list_tools(&mut self, _: String) -> wasmtime::Result<Resource<Pending>> {
        Err(LIST_TOOLS.into())
    }
}

impl tools::HostPending for WorkflowState {
    fn subscribe(&mut self, _: Resource<Pending>) -> wasmtime::Result<Resource<DynPollable>> {
        Err(CALL_TOOL.into())
    }

    fn get(&mut self, _: Resource<Pending>) -> wasmtime::Result<Option<Result<String, types::Failure>>> {
        Err(CALL_TOOL.into())
    }

    fn drop(&mut self, _: Resource<Pending>) -> wasmtime::Result<()> {
        Err(CALL_TOOL.into())
    }
}

impl auth::Host for WorkflowState {
    fn await_auth(&mut self, _: String) -> wasmtime::Result<Resource<Pending>> {
        Err(AWAIT_AUTH.into())
    }
}

impl events::Host for WorkflowState {
    fn emit_event(&mut self, _: types::TaskEvent) -> wasmtime::Result<Result<(), types::Failure>> {
        Err(EMIT_EVENT.into())
    }
}

impl activity_context::Host for WorkflowState {
    fn heartbeat(&mut self, _: Option<String>) -> wasmtime::Result<()> {
        Err(CONTEXT.into())
    }

    fn is_cancelled(&mut self) -> wasmtime::Result<bool> {
        Err(CONTEXT.into())
    }

    fn cancelled(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        Err(CONTEXT.into())
    }
}
