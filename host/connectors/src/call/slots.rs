//! What becomes of a slot of a workflow before anything is called: which connector it is, whose credential would be used,
//! and what stands in the way. The same answer for those who look at plugins and for those who schedule workflows.

use std::{sync::Arc, time::Duration};

use airlock_engine::{Principal, Slot, UserId};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::{Calls, words::inactive};
use crate::{
    ConnectorsError,
    authorization::words::{again, nothing_stored_for},
    credentials::{Credential, State},
    error::wording::word,
    registry::{Connector, Protocol, method::MethodKind, scope::Scope},
};

/// A slot as an execution would find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlotState {
    /// The slot: name or id of a connector.
    pub connector: String,
    /// Whether there is such a connector for whom the execution acts.
    pub registered: bool,
    /// The credential that a call would use.
    pub credential: Option<SlotCredential>,
    /// Whether its server answered when it was called last; absent: it was not called since the start.
    pub reachable: Option<Reached>,
    /// What stands in the way, and what to do; absent: nothing that is known.
    pub problem: Option<String>,
}

/// A credential in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlotCredential {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub scope: Scope,
}

/// How it went when a server was called last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// It answered.
    pub ok: bool,
    /// When that was.
    pub at: DateTime<Utc>,
}

impl Calls {
    /// The slot of a workflow that this caller starts. `on_behalf_of`: it acts for the caller; otherwise for nobody, and
    /// finds only what the workspace or the organisation has. Nobody is asked.
    pub(crate) fn slot(&self, caller: &Principal, on_behalf_of: bool, slot: &Slot) -> SlotState {
        self.slot_found(caller, on_behalf_of, slot).0
    }

    /// The same, with the connector, and whether its server refused the credential when it was last used.
    fn slot_found(
        &self,
        caller: &Principal,
        on_behalf_of: bool,
        slot: &Slot,
    ) -> (SlotState, Option<(Arc<Connector>, bool)>) {
        let who = acting(caller, on_behalf_of);
        let mut state = SlotState {
            connector: slot.connector.clone(),
            registered: false,
            credential: None,
            reachable: None,
            problem: None,
        };
        let connector = match self.registry.find(&who, &slot.connector) {
            Ok(connector) => connector,
            Err(error) => {
                // What one has for oneself is not there for a workflow that acts for nobody.
                state.problem = Some(match self.registry.find(caller, &slot.connector) {
                    Ok(private) => format!(
                        "connector '{0}' is private to you, and the workflow does not run on behalf of its caller: share \
                         it with `airlock connectors share {0}`",
                        private.name
                    ),
                    Err(_) => error.to_string(),
                });
                return (state, None);
            }
        };
        state.registered = true;
        let found = self.credentials.resolve(&connector, &who, slot.credentials_name.as_deref());
        if let Ok(Some((_, credential))) = &found {
            state.credential =
                Some(SlotCredential { name: credential.name.clone(), scope: credential.scope });
        }
        state.reachable = self.reached(&connector.id);
        let was_refused = matches!(found, Ok(Some((_, Credential { state: State::Refused, .. }))));
        if connector.control.mock {
            return (state, Some((connector, was_refused)));
        }
        state.problem = match found {
            _ if !connector.is_active_for(&who) => Some(inactive(&connector, &who).to_string()),
            Err(error) => Some(error.to_string()),
            Ok(None) if !connector.allows(MethodKind::None) => {
                Some(nothing_stored_for(&connector, &who).to_string())
            }
            Ok(Some((_, credential))) => unusable(&connector, &credential),
            Ok(None) => None,
        };
        if state.problem.is_none() {
            state.problem = state.reachable.filter(|reached| !reached.ok).map(|reached| {
                let at = reached.at.to_rfc3339_opts(SecondsFormat::Secs, true);
                format!(
                    "the server of connector '{0}' ({1}) did not answer at {at}, when it was called last: `airlock \
                     connectors check {0}` asks it again",
                    connector.name,
                    connector.host()
                )
            });
        }
        (state, Some((connector, was_refused)))
    }

    /// The same, with a question to the server, if there is a harmless one, for so long at most.
    pub(crate) async fn slot_asked(
        &self,
        caller: &Principal,
        on_behalf_of: bool,
        slot: &Slot,
        limit: Duration,
    ) -> SlotState {
        let (state, found) = self.slot_found(caller, on_behalf_of, slot);
        let Some((connector, was_refused)) = found else { return state };
        let who = acting(caller, on_behalf_of);
        // A REST API has no list to ask for. What cannot be called anyway is not tried, but for a server that may be back.
        let was_away = state.reachable.is_some_and(|reached| !reached.ok);
        if connector.protocol != Protocol::Mcp
            || connector.control.mock
            || (state.problem.is_some() && !was_away && !was_refused)
        {
            return state;
        }
        let name = slot.credentials_name.as_deref();
        let asked =
            tokio::time::timeout(limit, self.tools_of(&connector, &who, name, true, false, false)).await;
        let asked = asked.unwrap_or_else(|_| {
            Err(ConnectorsError::Timeout(format!(
                "the server of connector '{}' ({}) did not answer within {limit:?}",
                connector.name,
                connector.host()
            )))
        });
        let answered = !asked.as_ref().is_err_and(ConnectorsError::is_silence);
        let at = Utc::now();
        self.note(&connector, answered, at);
        SlotState {
            reachable: Some(Reached { ok: answered, at }),
            problem: asked.err().map(|error| error.to_string()),
            ..state
        }
    }
}

/// For whom an execution acts.
fn acting(caller: &Principal, on_behalf_of: bool) -> Principal {
    match on_behalf_of {
        true => caller.clone(),
        false => Principal { user: UserId::new(Principal::DEPLOYMENT), ..caller.clone() },
    }
}

fn unusable(connector: &Connector, credential: &Credential) -> Option<String> {
    if let Some(moved) = credential.moved(connector) {
        return Some(moved.to_string());
    }
    if credential.state == State::Refused {
        let (name, of) = (word(&credential.name), &connector.name);
        return Some(format!(
            "credential '{}' of connector '{of}' was refused by the server when it was last used: {}, or see `airlock \
             connectors check {of} --credential {name}`",
            credential.name,
            credential.remedy(connector)
        ));
    }
    credential.needs_somebody(Utc::now()).then(|| again(connector, credential).to_string())
}
