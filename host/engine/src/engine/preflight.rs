//! Authorisation: before a workflow's body runs, and in the middle of it.

use std::{sync::Arc, time::Duration};

use super::{Engine, cell::Cell, now_ms, task::Task, waits::Waits};
use crate::{
    Failure, Json,
    history::UnixMs,
    machine::{Input, Machine},
    tools::{AuthMoment, AuthNeeded, Authorization, BindRequest, Binding, CallOrigin},
};

/// The type of the task events that ask somebody to authorise (contract/preflight.md).
const CONNECTOR_AUTH: &str = "connector_auth";

/// The preflight has no number of its own among a run's operations, which start at 1.
const PREFLIGHT: u32 = 0;

impl Engine {
    /// Matches the slots with connectors and makes sure that the caller is authorised.
    pub(super) fn preflight(&self, cell: &Arc<Cell>, machine: &Machine) {
        let Some((engine, token)) = self.admit(cell, PREFLIGHT) else { return };
        let started = Arc::clone(machine.started());
        let definition = Arc::clone(machine.definition());
        let origin = engine.origin(cell, machine, PREFLIGHT);
        let since = machine.started_at();
        let cell = Arc::clone(cell);
        tokio::spawn(async move {
            let check = async {
                let workflow = definition.workflow(&started.workflow);
                let (slots, on_behalf_of) =
                    workflow.map_or((&[][..], false), |w| (w.slots.as_slice(), w.on_behalf_of));
                let (principal, wishes) = (&origin.principal, &started.wishes);
                let request = BindRequest { principal, slots, wishes, on_behalf_of, mocks: &started.mocks };
                let bindings = engine.tools.bind(request).await?;
                for binding in bindings.iter().filter(|binding| binding.auto_auth) {
                    engine.authorize(&cell, &origin, binding, AuthMoment::Preflight, since, None).await?;
                }
                Ok(bindings)
            };
            let bound = tokio::select! {
                bound = check => bound,
                () = token.cancelled() => return,
            };
            engine.settle(&cell, PREFLIGHT, Input::Bound(bound)).await;
        });
    }

    /// Waits, if need be, until the principal can use a connector. `since` is when the wait began; `waits` are those of the
    /// attempt that waits, if it is one.
    pub(super) async fn authorize(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        origin: &CallOrigin,
        binding: &Binding,
        moment: AuthMoment,
        since: UnixMs,
        waits: Option<&Waits>,
    ) -> Result<Json, Failure> {
        let mut asked: Option<Task> = None;
        loop {
            let AuthNeeded { state, changed } =
                match self.tools.authorize(&origin.principal, binding, moment).await? {
                    Authorization::Needed(needed) => needed,
                    Authorization::Ready(who) => {
                        if let Some(task) = asked {
                            task.complete(connected(binding));
                        }
                        return Ok(who);
                    }
                };
            let task = asked.take().unwrap_or_else(|| {
                // The same after a restart, so that clients see one task.
                let id = format!("{}:{}", origin.idempotency_key, binding.slot);
                Task::begin(self, cell, CONNECTOR_AUTH, id, state)
            });
            let waited = Duration::from_millis(now_ms().saturating_sub(since));
            let changed = tokio::time::timeout(self.config.auth_window.saturating_sub(waited), changed);
            let changed = match waits {
                Some(waits) => waits.during(changed).await,
                None => changed.await,
            };
            if changed.is_err() {
                let text = format!("Connector '{}' auth timed out", binding.connector_name);
                task.fail(format!("[{}:{}] {text}", binding.connector_id, binding.connector_name));
                return Err(Failure::permanent(Failure::CONNECTOR_AUTH_TIMEOUT, text));
            }
            asked = Some(task);
        }
    }
}

fn connected(binding: &Binding) -> Json {
    let mut state = serde_json::json!({
        "connector_name": binding.connector_name,
        "connector_id": binding.connector_id,
        "status": "connected",
    });
    if let Some(name) = &binding.credentials_name {
        state["credentials_name"] = name.as_str().into();
    }
    state.into()
}
