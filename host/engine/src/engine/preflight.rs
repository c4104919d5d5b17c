//! Authorisation: before a workflow's body runs, and in the middle of it.

use std::{sync::Arc, time::Duration};

use super::{Engine, cell::Cell, now_ms};
use crate::{
    Failure, Json,
    history::{TaskEvent, TaskPhase, UnixMs},
    machine::{Input, Machine},
    tools::{AuthMoment, AuthNeeded, Authorization, BindRequest, Binding, CallOrigin, Mocks},
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
                let request = BindRequest { principal, slots, wishes, on_behalf_of, mocks: &Mocks::None };
                let bindings = engine.tools.bind(request).await?;
                for binding in bindings.iter().filter(|binding| binding.auto_auth) {
                    engine.authorize(&cell, &origin, binding, AuthMoment::Preflight, since).await?;
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

    /// Waits, if need be, until the principal can use a connector. `since` is when the wait began.
    pub(super) async fn authorized(
        &self,
        cell: &Arc<Cell>,
        origin: &CallOrigin,
        binding: &Binding,
        since: UnixMs,
    ) -> Result<Json, Failure> {
        self.authorize(cell, origin, binding, AuthMoment::OnDemand, since).await
    }

    async fn authorize(
        &self,
        cell: &Arc<Cell>,
        origin: &CallOrigin,
        binding: &Binding,
        moment: AuthMoment,
        since: UnixMs,
    ) -> Result<Json, Failure> {
        let mut asked: Option<String> = None;
        loop {
            let needed = match self.tools.authorize(&origin.principal, binding, moment).await? {
                Authorization::Ready(who) => {
                    if let Some(id) = asked {
                        self.tell(cell, id, TaskPhase::Completed, connected(binding)).await;
                    }
                    return Ok(who);
                }
                Authorization::Needed(needed) => needed,
            };
            let AuthNeeded { state, changed } = needed;
            let id = match asked {
                Some(id) => id,
                None => {
                    // The same after a restart, so that clients see one task.
                    let id = format!("{}:{}", origin.idempotency_key, binding.slot);
                    self.tell(cell, id.clone(), TaskPhase::Started, state).await;
                    id
                }
            };
            let waited = Duration::from_millis(now_ms().saturating_sub(since));
            let rest = self.config.auth_window.saturating_sub(waited);
            if tokio::time::timeout(rest, changed).await.is_err() {
                let text = format!("Connector '{}' auth timed out", binding.connector_name);
                let message = format!("[{}:{}] {text}", binding.connector_id, binding.connector_name);
                self.tell(cell, id, TaskPhase::Failed, Json::from(serde_json::Value::from(message))).await;
                return Err(Failure::permanent(Failure::CONNECTOR_AUTH_TIMEOUT, text));
            }
            asked = Some(id);
        }
    }

    async fn tell(&self, cell: &Arc<Cell>, id: String, phase: TaskPhase, payload: Json) {
        let event = TaskEvent { id, task_type: CONNECTOR_AUTH.into(), phase, payload };
        cell.post(Input::Emit(event));
        self.drive(cell).await;
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
