//! The imports of `wit/` for activities: each turns a call into one on the engine's [`ActivityHost`].
//!
//! [`ActivityHost`]: airlock_engine::guests::ActivityHost

use std::sync::Arc;

use airlock_engine::{Failure, Json, guests::ActivityHost};
use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::{pending::Pending, state::ActivityState};
use crate::{
    bindings::airlock::plugin::{activity_context, auth, events, log, tools, types},
    wire,
};

impl ActivityState {
    fn start(
        &mut self,
        call: impl Future<Output = Result<Json, Failure>> + Send + 'static,
    ) -> wasmtime::Result<Resource<Pending>> {
        let limit = self.limits.open_calls;
        let pending = if self.open_calls < limit {
            Pending::start(call)
        } else {
            Pending::answered(Err(Failure::retryable(
                Failure::RATE_LIMITED,
                format!("{limit} calls are under way already: wait for some of them first"),
            )))
        };
        let pending = self.table.push(pending)?;
        self.open_calls += 1;
        Ok(pending)
    }
}

fn invalid(error: wire::Invalid) -> Failure {
    Failure::permanent(Failure::INVALID_INPUT, error.0)
}

impl types::Host for ActivityState {}

impl tools::Host for ActivityState {
    fn call_tool(
        &mut self,
        slot: String,
        tool: String,
        arguments: String,
        options: types::CallOptions,
    ) -> wasmtime::Result<Resource<Pending>> {
        let host = self.host.clone();
        let arguments = wire::tool_arguments(arguments, &self.limits).map_err(invalid);
        let options = wire::call_options(options);
        self.start(async move {
            options.check()?;
            host.call_tool(&slot, &tool, arguments?, options).await
        })
    }

    fn list_tools(&mut self, slot: String) -> wasmtime::Result<Resource<Pending>> {
        let host = self.host.clone();
        self.start(async move { host.list_tools(&slot).await })
    }
}

impl tools::HostPending for ActivityState {
    fn subscribe(&mut self, pending: Resource<Pending>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, pending)
    }

    fn get(
        &mut self,
        pending: Resource<Pending>,
    ) -> wasmtime::Result<Option<Result<String, types::Failure>>> {
        let answer = self.table.get_mut(&pending)?.take();
        Ok(answer.map(|answer| match answer {
            Ok(value) => Ok(value.as_str().to_owned()),
            Err(failure) => Err(wire::failure_to_wit(&failure)),
        }))
    }

    fn drop(&mut self, pending: Resource<Pending>) -> wasmtime::Result<()> {
        self.table.delete(pending)?;
        self.open_calls = self.open_calls.saturating_sub(1);
        Ok(())
    }
}

impl auth::Host for ActivityState {
    fn await_auth(&mut self, slot: String) -> wasmtime::Result<Resource<Pending>> {
        let host = self.host.clone();
        self.start(async move { host.await_auth(&slot).await })
    }
}

impl events::Host for ActivityState {
    fn emit_event(&mut self, event: types::TaskEvent) -> wasmtime::Result<Result<(), types::Failure>> {
        let emitted = if self.events.take() {
            wire::task_event(event, &self.limits)
                .map_err(invalid)
                .and_then(|event| self.host.emit_event(event))
        } else {
            let limit = self.limits.events_per_second;
            Err(Failure::retryable(
                Failure::RATE_LIMITED,
                format!("more than {limit} events in a second: put several steps of progress into one event"),
            ))
        };
        Ok(emitted.map_err(|failure| wire::failure_to_wit(&failure)))
    }
}

impl log::Host for ActivityState {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.output.line(log_level(level), &message);
        Ok(())
    }
}

/// The level in the daemon's log.
pub(crate) fn log_level(level: log::Level) -> tracing::Level {
    match level {
        log::Level::Trace => tracing::Level::TRACE,
        log::Level::Debug => tracing::Level::DEBUG,
        log::Level::Info => tracing::Level::INFO,
        log::Level::Warn => tracing::Level::WARN,
        log::Level::Error => tracing::Level::ERROR,
    }
}

/// Ready when the activity is asked to stop.
struct Cancellation(Arc<dyn ActivityHost>);

#[async_trait::async_trait]
impl Pollable for Cancellation {
    async fn ready(&mut self) {
        self.0.cancelled().await;
    }
}

impl activity_context::Host for ActivityState {
    fn heartbeat(&mut self, details: Option<String>) -> wasmtime::Result<()> {
        let small = details.filter(|text| text.len() <= self.limits.event_bytes);
        self.host.heartbeat(small.and_then(|text| Json::parse(text).ok()));
        Ok(())
    }

    fn is_cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.host.is_cancelled())
    }

    fn cancelled(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let cancellation = self.table.push(Cancellation(self.host.clone()))?;
        subscribe(&mut self.table, cancellation)
    }
}
