//! What executions do with connectors: the engine's [`Tools`].

use std::sync::Arc;

use airlock_engine::{
    Failure, Json, Principal, Slot,
    tools::{
        AuthMoment, AuthNeeded, Authorization, BindRequest, Binding, BindingWish, CallOrigin, Mocks,
        ToolCall, Tools,
    },
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::{CallRequest, Calls, probe::Probed};
use crate::{
    ConnectorsError,
    authorization::{consent::Wanted, words::nothing_stored_for},
    registry::{Connector, Protocol, method::MethodKind, scope::Scope},
};

#[async_trait]
impl Tools for Calls {
    async fn bind(&self, request: BindRequest<'_>) -> Result<Vec<Binding>, Failure> {
        let BindRequest { principal: who, slots, wishes, on_behalf_of, mocks } = request;
        let mut wanted = wished(slots, wishes, on_behalf_of)?;
        let mut bindings = Vec::new();
        for slot in slots {
            let connector = self.registry.find(who, &slot.connector).map_err(failure)?;
            let wish = wanted.iter().position(|(name, _)| *name == slot.connector);
            let wish = wish.and_then(|position| wanted.swap_remove(position).1);
            let chosen = wish.is_some();
            let credentials_name = wish.or_else(|| slot.credentials_name.clone());
            if credentials_name.is_some() {
                self.credentials.resolve(&connector, who, credentials_name.as_deref()).map_err(failure)?;
            }
            bindings.push(Binding {
                slot: slot.connector.clone(),
                auto_auth: slot.auto_auth,
                connector_name: connector.name.clone(),
                connector_id: connector.id.clone(),
                credentials_name,
                chosen,
                mock: match mocks {
                    Mocks::None => false,
                    Mocks::All => true,
                    Mocks::Connectors(names) => names.contains(&slot.connector),
                },
            });
        }
        Ok(bindings)
    }

    async fn authorize(
        &self,
        who: &Principal,
        binding: &Binding,
        moment: AuthMoment,
    ) -> Result<Authorization, Failure> {
        // Before the check, so that a credential that lands meanwhile is not missed.
        let mut landed = self.credentials.news();
        let connector = self.bound(who, binding).map_err(failure)?;
        if binding.mock || connector.control.mock {
            return Ok(Authorization::Ready(ready(&connector, &Proof { credential: None, tried: true })));
        }
        let name = binding.credentials_name.as_deref();
        let (connector, problem) = match self.prove(connector, who, name).await {
            (connector, Ok(proof)) => {
                return Ok(Authorization::Ready(ready(&connector, &proof)));
            }
            (connector, Err(problem)) => (connector, problem),
        };
        // A named credential that does not exist is made by authorising only when the guest is prepared to wait.
        let can_wait = match (&problem, moment) {
            (ConnectorsError::Unauthorized(_), AuthMoment::Preflight) => connector.interactive().is_some(),
            (ConnectorsError::Unauthorized(_) | ConnectorsError::NotFound(_), AuthMoment::OnDemand) => true,
            _ => false,
        };
        if !can_wait {
            return Err(failure(problem));
        }
        let mut state = json!({
            "connector_name": connector.name, "connector_id": connector.id, "status": "waiting_for_auth",
            "message": problem.to_string(),
        });
        if connector.interactive().is_some() {
            if who.user.as_str() == Principal::DEPLOYMENT {
                return Err(failure(nothing_stored_for(&connector, who)));
            }
            let wanted = Wanted { credentials_name: name, ..Wanted::default() };
            state["auth_url"] =
                self.authorization.link(who, &connector, &wanted).await.map_err(failure)?.into();
        } else {
            // A name that was asked for may be made.
            if let ConnectorsError::NotFound(missing) = &problem {
                let scope = match who.user.as_str() == Principal::DEPLOYMENT {
                    true => Scope::Workspace,
                    false => Scope::User,
                };
                let kind = connector.kinds().into_iter().find(|kind| *kind != MethodKind::None);
                let kind = kind.unwrap_or(MethodKind::Bearer);
                let command = connector.storing(name, scope, kind);
                state["message"] = format!("{missing}, or store it with `{command}`").into();
            }
        }
        if let Some(name) = name {
            state["credentials_name"] = name.into();
        }
        let id = connector.id.clone();
        let changed = Box::pin(async move {
            loop {
                match landed.recv().await {
                    Ok(connector) if connector != id => {}
                    // It may have been among those that were missed.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        });
        Ok(Authorization::Needed(AuthNeeded { state: state.into(), changed }))
    }

    async fn call_tool(&self, call: ToolCall<'_>) -> Result<Json, Failure> {
        let ToolCall { origin, binding, tool, arguments, options, conversation } = call;
        let who = &origin.principal;
        let connector = self.bound(who, binding).map_err(failure)?;
        if let Some(wanted) = &options.credentials_name
            && binding.chosen
            && binding.credentials_name.as_ref() != Some(wanted)
        {
            let message = format!(
                "the caller chose the credential '{}' of connector '{}' for this execution: a call cannot choose \
                 '{wanted}'",
                binding.credentials_name.as_deref().unwrap_or("default"),
                connector.name
            );
            return Err(Failure::permanent(Failure::CONNECTOR, message));
        }
        let arguments = match arguments.value() {
            Value::Null => json!({}),
            arguments @ Value::Object(_) => arguments,
            _ => {
                let message = "the arguments of a tool are a JSON object";
                return Err(failure(ConnectorsError::invalid("/arguments", message)));
            }
        };
        let request = CallRequest {
            who,
            connector: Arc::clone(&connector),
            tool,
            arguments,
            credentials_name: binding.credentials_name.as_deref(),
            options,
            mock: binding.mock,
            origin: Some(origin),
            conversation,
            may_authorize: binding.auto_auth,
        };
        let answer = self.perform(request).await.map_err(failure)?;
        if answer["metadata"]["mcp_meta"]["isError"] != true {
            return Ok(answer.into());
        }
        let text = answer["content"][0]["text"].as_str().unwrap_or_default();
        let text: String = text.chars().take(300).collect();
        let message = format!("[{}] connector tool call failed: {text}", connector.name);
        let details = Some(answer.into());
        Err(Failure { details, ..Failure::permanent(Failure::CONNECTOR_TOOL_CALL, message) })
    }

    async fn list_tools(&self, origin: &CallOrigin, binding: &Binding) -> Result<Json, Failure> {
        let (who, name) = (&origin.principal, binding.credentials_name.as_deref());
        let connector = self.bound(who, binding).map_err(failure)?;
        let tools = self.tools_of(&connector, who, name, false, binding.mock, false).await;
        tools.map(|tools| Json::from(Value::from(tools))).map_err(failure)
    }
}

impl Calls {
    /// The connector of a slot, as it is now.
    fn bound(&self, who: &Principal, binding: &Binding) -> Result<Arc<Connector>, ConnectorsError> {
        let (id, name) = (&binding.connector_id, Some(binding.connector_name.as_str()));
        self.registry.still(who, id, name, "after this execution had begun")
    }

    /// Proves that the caller can use a connector, by a call to it. Gives the name of the credential that was used, and
    /// the connector as it is now: it may have been found out meanwhile how one authenticates.
    async fn prove(
        &self,
        connector: Arc<Connector>,
        who: &Principal,
        name: Option<&str>,
    ) -> (Arc<Connector>, Result<Proof, ConnectorsError>) {
        let proven = self.prove_now(&connector, who, name).await;
        let is_guess = !connector.methods_given && connector.interactive().is_none();
        if !is_guess || !matches!(proven, Err(ConnectorsError::Unauthorized(_))) {
            return (connector, proven);
        }
        let connector = self.authorization.find_out_methods(&connector).await.connector;
        match connector.interactive() {
            Some(_) => (Arc::clone(&connector), Err(nothing_stored_for(&connector, who))),
            None => (connector, proven),
        }
    }

    async fn prove_now(
        &self,
        connector: &Connector,
        who: &Principal,
        name: Option<&str>,
    ) -> Result<Proof, ConnectorsError> {
        let resolved = self.credentials.resolve(connector, who, name)?;
        if connector.protocol == Protocol::Http {
            // There is no list to ask a REST API for.
            let resolved = self.authorization.usable(connector, who, name).await?;
            let probed = self.probe(connector, who, &resolved, false).await?;
            let credential = resolved.map(|(_, credential)| credential.name);
            return Ok(Proof { credential, tried: probed == Probed::Taken });
        }
        self.tools_of(connector, who, name, false, false, false).await?;
        Ok(Proof { credential: resolved.map(|(_, credential)| credential.name), tried: true })
    }
}

/// That somebody can use a connector.
struct Proof {
    /// With which credential.
    credential: Option<String>,
    /// The server was asked. There are REST APIs that cannot be asked without doing something.
    tried: bool,
}

fn ready(connector: &Connector, proof: &Proof) -> Json {
    let mut who = json!({ "connector_name": connector.name, "connector_id": connector.id });
    if let Some(name) = &proof.credential {
        who["credentials_name"] = name.as_str().into();
    }
    if !proof.tried {
        who["tried"] = false.into();
    }
    who.into()
}

/// The caller's wishes by slot, checked (contract/preflight.md, workflow-features.md §8.6).
fn wished(
    slots: &[Slot],
    wishes: &[BindingWish],
    on_behalf_of: bool,
) -> Result<Vec<(String, Option<String>)>, Failure> {
    let refuse = |message: String| Err(Failure::permanent(Failure::CONNECTOR, message));
    let declared: Vec<&str> = slots.iter().map(|slot| slot.connector.as_str()).collect();
    let mut wanted: Vec<(String, Option<String>)> = Vec::new();
    for wish in wishes {
        let name = match (&wish.connector_name, declared.as_slice()) {
            (Some(name), declared) if !declared.contains(&name.as_str()) => {
                return refuse(format!(
                    "Extension bindings reference unknown connectors: '{name}' is not a slot of this workflow, which \
                     declares {declared:?}"
                ));
            }
            (Some(name), _) => name.clone(),
            (None, [only]) => (*only).to_owned(),
            (None, []) => {
                return refuse(
                    "Runtime connector credentials_name is only accepted when the workflow declares run_as='auto' \
                     connectors."
                        .into(),
                );
            }
            (None, _) => {
                return refuse(
                    "Runtime connector credentials_name must include connector_name when the workflow declares multiple \
                     run_as='auto' connectors."
                        .into(),
                );
            }
        };
        if !on_behalf_of {
            return refuse(
                "Runtime connector credentials_name is only accepted for run_as='auto' connectors on \
                 on_behalf_of=True workflows."
                    .into(),
            );
        }
        if wanted.iter().any(|(other, _)| *other == name) {
            return refuse(format!(
                "Runtime connector credentials_name includes duplicate binding for connector '{name}'."
            ));
        }
        wanted.push((name, wish.credentials_name.clone()));
    }
    Ok(wanted)
}

/// What is nobody's fault but the network's may be tried again; the rest will not change by itself.
fn failure(error: ConnectorsError) -> Failure {
    let reason = error.code();
    let details = Some(json!({ "reason": reason }).into());
    match error {
        ConnectorsError::Failed(failure) => failure,
        ConnectorsError::RateLimited { retry_after, .. } => {
            Failure::retryable(Failure::CONNECTOR, error.to_string())
                .without_a_call(reason, Some(retry_after))
        }
        ConnectorsError::NotCalled { ref error, retry_after, .. } => {
            Failure::retryable(Failure::CONNECTOR, error.to_string()).without_a_call(reason, retry_after)
        }
        ConnectorsError::Upstream(_)
        | ConnectorsError::Answered(_)
        | ConnectorsError::Timeout(_)
        | ConnectorsError::Store(_) => {
            Failure { details, ..Failure::retryable(Failure::CONNECTOR, error.to_string()) }
        }
        error => Failure { details, ..Failure::permanent(Failure::CONNECTOR, error.to_string()) },
    }
}
