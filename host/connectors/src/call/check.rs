//! A connector is tried step by step, and each step says what came of it and how long it took.

use std::time::{Duration, Instant};

use airlock_engine::Principal;
use serde_json::{Value, json};

use super::{Calls, probe::Probed, words::inactive};
use crate::{
    ConnectorsError,
    authorization::words::nothing_stored,
    channel::Resolved,
    control::Decision,
    credentials::State,
    error::wording::count,
    protocol::{
        steps::{Stage, Step},
        tools::{LeftOut, Tools},
    },
    registry::{
        Connector, Protocol,
        method::{Method, MethodKind},
        scope::Scope,
    },
};

/// How long a server may take for one step.
const PATIENCE: Duration = Duration::from_secs(15);

impl Calls {
    /// Tries a connector as the caller would use it. With `anew`, nothing is taken from memory. `way` is what was found out
    /// about how one authenticates.
    pub(crate) async fn check(
        &self,
        connector: &Connector,
        who: &Principal,
        name: Option<&str>,
        anew: bool,
        way: Vec<Step>,
    ) -> Vec<Step> {
        let mut steps = vec![authentication(connector)];
        if !connector.is_active_for(who) {
            steps.push(Step::failed(Instant::now(), "credential", &inactive(connector, who)));
            return steps;
        }
        if connector.protocol == Protocol::Http {
            steps.push(self.document(connector));
        }
        steps.extend(way);
        let began = Instant::now();
        let usable = tokio::time::timeout(PATIENCE, self.authorization.usable(connector, who, name)).await;
        let resolved = match usable.unwrap_or_else(|_| Err(late())) {
            Ok(resolved) => {
                steps.push(credential(began, connector, &resolved));
                resolved
            }
            Err(error) => {
                steps.push(Step::failed(began, "credential", &error));
                if connector.protocol == Protocol::Http {
                    return steps;
                }
                // The server can be asked without one as well.
                None
            }
        };
        let lacks_credential = steps.iter().any(Step::is_failure);
        match connector.protocol {
            Protocol::Mcp => {
                self.check_server(connector, who, resolved, anew, lacks_credential, &mut steps).await;
            }
            Protocol::Http => self.check_operation(connector, who, resolved, anew, &mut steps).await,
        }
        steps
    }

    async fn check_server(
        &self,
        connector: &Connector,
        who: &Principal,
        mut resolved: Resolved,
        anew: bool,
        lacks_credential: bool,
        steps: &mut Vec<Step>,
    ) {
        let began = Instant::now();
        let asked = self.listed(connector, who, &mut resolved, anew);
        let listed = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()));
        match listed {
            Ok(tools) => {
                if let Err(error) = self.authorization.accepted(connector, &resolved) {
                    tracing::error!(%error, "a credential's state could not be written");
                }
                steps.push(self.tools_step(began, connector, &tools, lacks_credential));
            }
            // That was said of the credential.
            Err(error @ ConnectorsError::Unauthorized(_)) if lacks_credential => {
                let message = "asked without a credential, the server lists no tools";
                let step = Step::since(began, "tools", Stage::NotTried, message);
                steps.push(step.with("code", error.code().into()));
            }
            Err(error) => steps.push(Step::failed(began, "tools", &error)),
        }
    }

    /// What was listed, what was left out of it, and what the rules and pins leave.
    fn tools_step(
        &self,
        began: Instant,
        connector: &Connector,
        tools: &Tools,
        lacks_credential: bool,
    ) -> Step {
        let names = || tools.list.iter().filter_map(|tool| Some((tool["name"].as_str()?, tool)));
        let denied = |(name, tool): &(&str, &Value)| {
            connector.control.decide(name, Some(&tool["annotations"])) == Decision::Deny
        };
        let held = |name: &str| connector.control.pin && self.pins.held(&connector.id, name).is_some();
        let not_allowed = names().filter(denied).count();
        let waiting: Vec<&str> = names().map(|(name, _)| name).filter(|name| held(name)).collect();
        let mut message = count(tools.list.len(), "tool");
        if lacks_credential {
            message = format!("asked without a credential, the server lists {message}");
        }
        for (number, what) in [
            (tools.left_out.len(), "could not be used whole"),
            (not_allowed, "are not allowed by the rules"),
            (waiting.len(), "wait for approval"),
        ] {
            if number > 0 {
                message.push_str(&format!(", {number} {what}"));
            }
        }
        if !waiting.is_empty() {
            message.push_str(&format!(": {}", looking(&connector.name)));
        }
        let left_out: Vec<Value> = tools.left_out.iter().map(LeftOut::wire).collect();
        Step::since(began, "tools", Stage::Ok, message)
            .with("tools", tools.list.len().into())
            .with("left_out", left_out.into())
            .with("waiting", json!(waiting))
    }

    /// What the document gave, what it did not, and what of it waits for approval.
    fn document(&self, connector: &Connector) -> Step {
        let (began, api) = (Instant::now(), connector.api.as_ref());
        let operations = api.map_or(0, |api| api.operations);
        let (skipped, notes) = api.map_or((0, 0), |api| (api.told.skipped.len(), api.told.notes.len()));
        let waiting = match self.review(connector) {
            Ok(waiting) => waiting,
            Err(error) => return Step::failed(began, "document", &error),
        };
        let state = if operations > 0 { Stage::Ok } else { Stage::Failed };
        let mut message = match operations {
            0 => format!(
                "there are no operations yet: import a document with `airlock connectors import {} DOCUMENT`",
                connector.name
            ),
            _ => format!("{}, {skipped} left out, {}", count(operations, "operation"), count(notes, "note")),
        };
        if !waiting.is_empty() {
            message.push_str(&format!(", {} wait for approval: {}", waiting.len(), looking(&connector.name)));
        }
        let names: Vec<&str> = waiting.iter().map(|changed| changed.tool.as_str()).collect();
        Step::since(began, "document", state, message)
            .with("operations", operations.into())
            .with("waiting", json!(names))
    }

    async fn check_operation(
        &self,
        connector: &Connector,
        who: &Principal,
        resolved: Resolved,
        anew: bool,
        steps: &mut Vec<Step>,
    ) {
        let began = Instant::now();
        let probed = tokio::time::timeout(PATIENCE, self.probe(connector, who, &resolved, anew)).await;
        steps.push(match probed.unwrap_or_else(|_| Err(late())) {
            Ok(Probed::Taken) => Step::since(began, "operation", Stage::Ok, "the server answered"),
            Ok(Probed::NotTried) => {
                let message = match &connector.control.check {
                    Some(operation) => format!(
                        "whether the credential is taken is not known: '{operation}', which the rule 'check' names, was not \
                         answered with success, may not be called without a person, or waits for approval"
                    ),
                    None => format!(
                        "nothing was called: say in the rules which operation reads something and needs no arguments, as \
                         \"check\": \"OPERATION\" (`airlock connectors control {}` shows the rules, --set replaces them)",
                        connector.name
                    ),
                };
                Step::since(began, "operation", Stage::NotTried, message)
            }
            Err(error) => Step::failed(began, "operation", &error),
        });
    }
}

/// What to do about what waits for approval.
fn looking(connector: &str) -> String {
    format!(
        "look with `airlock connectors tools {connector} --all`, then `airlock connectors approve {connector}`"
    )
}

fn late() -> ConnectorsError {
    ConnectorsError::Timeout(format!("there was no answer within {} s", PATIENCE.as_secs()))
}

/// How one authenticates, and who said so.
fn authentication(connector: &Connector) -> Step {
    let kinds: Vec<&str> = connector.methods.iter().map(|method| method.kind().as_str()).collect();
    let protocol = match connector.protocol {
        Protocol::Mcp => "MCP",
        Protocol::Http => "HTTP",
    };
    let who = match (connector.methods_given, connector.protocol) {
        (true, _) => "as it was registered",
        (false, Protocol::Http) if connector.api.as_ref().is_some_and(|api| api.source.is_none()) => {
            "by its operations"
        }
        (false, Protocol::Http) => "by its document",
        (false, Protocol::Mcp) if connector.interactive().is_some() => "as its server says",
        (false, Protocol::Mcp) => "by default, as nobody has said anything else",
    };
    let message = format!("speaks {protocol}, takes {} {who}", kinds.join(", "));
    let mut step = Step::since(Instant::now(), "authentication", Stage::Ok, message);
    step = step.with("methods", json!(kinds));
    for method in &connector.methods {
        if let Method::Oauth2(oauth) = method
            && let Some(server) = oauth.authorization_server()
        {
            step = step.with("issuer", server.issuer().into()).with("left_out", json!(server.left_out()));
        }
    }
    step
}

/// Which credential is used.
fn credential(began: Instant, connector: &Connector, resolved: &Resolved) -> Step {
    match resolved {
        Some((_, credential)) => {
            let message = match &credential.state {
                State::Refused => {
                    format!("'{}' was refused when it was last used; it is tried again", credential.name)
                }
                _ => {
                    let whose = match credential.scope {
                        Scope::User => "",
                        Scope::Workspace => " of the workspace",
                        Scope::Organization => " of the organisation",
                    };
                    format!("'{}'{whose} is used ({})", credential.name, credential.method.as_str())
                }
            };
            Step::since(began, "credential", Stage::Ok, message)
                .with("credential", credential.name.as_str().into())
                .with("scope", json!(credential.scope))
        }
        None if connector.allows(MethodKind::None) => {
            Step::since(began, "credential", Stage::Ok, "none is stored, and none may be needed")
        }
        None => Step::failed(began, "credential", &nothing_stored(connector)),
    }
}
