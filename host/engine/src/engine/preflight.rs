//! Authorisation: before a workflow's body runs, and in the middle of it.

use std::{sync::Arc, time::Duration};

use super::{Engine, cell::Cell, now_ms, task::Task, waits::Waits};
use crate::{
    Failure, Json,
    history::UnixMs,
    machine::{Input, Machine},
    tools::{AuthMoment, AuthNeeded, Authorization, BindRequest, Binding, CallOrigin},
    witness::Step,
};

/// The type of the task events that ask somebody to authorise (contract/preflight.md).
const CONNECTOR_AUTH: &str = "connector_auth";

/// The preflight has no number of its own among a run's operations, which start at 1.
const PREFLIGHT: u32 = 0;

impl Engine {
    /// Matches the slots with connectors and makes sure that the caller is authorised.
    pub(super) fn preflight(&self, cell: &Arc<Cell>, machine: &Machine) {
        let Some((engine, admission)) = self.admit(cell, PREFLIGHT, false) else { return };
        let started = Arc::clone(machine.started());
        let definition = Arc::clone(machine.definition());
        let origin = engine.origin(cell, machine, PREFLIGHT);
        let cell = Arc::clone(cell);
        tokio::spawn(async move {
            let ticket = admission.ticket(&cell.operations);
            if !ticket.begin() {
                return;
            }
            let check = async {
                let workflow = definition.workflow(&started.workflow);
                let (slots, on_behalf_of) =
                    workflow.map_or((&[][..], false), |w| (w.slots.as_slice(), w.on_behalf_of));
                let (principal, wishes) = (&origin.principal, &started.wishes);
                let request = BindRequest { principal, slots, wishes, on_behalf_of, mocks: &started.mocks };
                let bindings = engine.tools.bind(request).await?;
                for binding in bindings.iter().filter(|binding| binding.auto_auth) {
                    // Each of them has the whole window, from when it is asked for.
                    engine.authorize(&cell, &origin, binding, AuthMoment::Preflight, None, None).await?;
                }
                Ok(bindings)
            };
            let step = Step::Operation { run: cell.row.run_id, seq: PREFLIGHT, attempt: 1 };
            let running = engine.crashes.begin(step);
            let bound = tokio::select! {
                biased;
                () = ticket.token().cancelled() => return,
                bound = check => bound,
            };
            drop(running);
            engine.settle(&cell, ticket, Input::Bound(bound)).await;
        });
    }

    /// Waits, if need be, until the principal can use a connector. `since` is when the wait began; without it, when the step
    /// asked first. `waits` are those of the attempt that waits, if it is one.
    pub(super) async fn authorize(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        origin: &CallOrigin,
        binding: &Binding,
        moment: AuthMoment,
        since: Option<UnixMs>,
        waits: Option<&Waits>,
    ) -> Result<Json, Failure> {
        // The same after a restart, so that clients see one task.
        let id = format!("{}:{}", origin.idempotency_key, binding.slot);
        let mut began = since;
        let mut asked: Option<Task> = None;
        // The last wait ended because it was time to look again, not because something was said to have changed.
        let mut again = false;
        loop {
            let needed = match self.tools.authorize(&origin.principal, binding, moment).await {
                Ok(Authorization::Needed(needed)) => Some(needed),
                Ok(Authorization::Ready(who)) => {
                    if let Some(task) = asked {
                        task.complete(connected(binding));
                    }
                    return Ok(who);
                }
                // The service may be away for a moment.
                Err(failure) if again && !failure.non_retryable => None,
                Err(failure) => return Err(failure),
            };
            let since = match began {
                Some(since) => since,
                None => *began.insert(self.shown_since(cell, &id).await),
            };
            let waited = Duration::from_millis(now_ms().saturating_sub(since));
            let rest = self.config.auth_window.saturating_sub(waited);
            let (task, look, changed) = match (needed, asked.take()) {
                (Some(AuthNeeded { state, changed }), None) => {
                    (Task::begin(self, cell, CONNECTOR_AUTH, id.clone(), state), next_look(rest), changed)
                }
                (Some(AuthNeeded { state, changed }), Some(task)) => {
                    if again {
                        // With a link that still works.
                        task.change(state);
                    }
                    (task, next_look(rest), changed)
                }
                (None, Some(task)) => (task, rest.min(AWAY), Box::pin(std::future::pending()) as _),
                // Nothing is looked at again before it was asked for.
                (None, None) => continue,
            };
            let changed = tokio::time::timeout(look, changed);
            let changed = match waits {
                Some(waits) => waits.during(changed).await,
                None => changed.await,
            };
            if changed.is_err() && look == rest {
                let text = format!("Connector '{}' auth timed out", binding.connector_name);
                task.fail(format!("[{}:{}] {text}", binding.connector_id, binding.connector_name));
                let text = format!(
                    "{text}: nobody authorised within {:?}. Run it again and authorise in time; the daemon's setting \
                     auth_timeout says how long there is",
                    self.config.auth_window
                );
                return Err(Failure::permanent(Failure::CONNECTOR_AUTH_TIMEOUT, text));
            }
            again = changed.is_err();
            asked = Some(task);
        }
    }
}

/// A link to authorise works for ten minutes. A wait that is longer asks anew in time, and shows another one.
const LINK_LIFE: Duration = Duration::from_secs(600);

/// A service that is away when it is looked at again is given so long to come back.
const AWAY: Duration = Duration::from_secs(10);

/// How long to wait before looking again, when there is so much time left.
fn next_look(rest: Duration) -> Duration {
    if rest > LINK_LIFE { LINK_LIFE * 9 / 10 } else { rest }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_shows_another_link_before_the_last_one_ends() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        for (rest, look) in [(0, 0), (1, 1), (10, 10), (11, 9), (60, 9), (43_200, 9)] {
            assert_eq!(next_look(minutes(rest)), minutes(look), "{rest}");
        }
    }
}
