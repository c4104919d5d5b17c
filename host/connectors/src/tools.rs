//! What executions do with connectors: the engine's [`Tools`].

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

use crate::{
    Connectors, ConnectorsError,
    facade::bearer_required,
    registry::{Connector, Method},
};

#[async_trait]
impl Tools for Connectors {
    async fn bind(&self, request: BindRequest<'_>) -> Result<Vec<Binding>, Failure> {
        let BindRequest { principal: who, slots, wishes, on_behalf_of, mocks } = request;
        let mut wanted = wished(slots, wishes, on_behalf_of)?;
        let mut bindings = Vec::new();
        for slot in slots {
            let connector = self.find(who, &slot.connector).map_err(failure)?;
            let wish = wanted.iter().position(|(name, _)| *name == slot.connector);
            let wish = wish.and_then(|position| wanted.swap_remove(position).1);
            let chosen = wish.is_some();
            let credentials_name = wish.or_else(|| slot.credentials_name.clone());
            if credentials_name.is_some() {
                self.0.credentials.resolve(&connector, who, credentials_name.as_deref()).map_err(failure)?;
            }
            bindings.push(Binding {
                slot: slot.connector.clone(),
                auto_auth: slot.auto_auth,
                connector_name: connector.name,
                connector_id: connector.id,
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
        let mut landed = self.0.landed.subscribe();
        let connector = self.find(who, &binding.connector_id).map_err(failure)?;
        let name = binding.credentials_name.as_deref();
        let problem = match self.prove(&connector, who, name).await {
            Ok(credential) => return Ok(Authorization::Ready(ready(&connector, credential.as_deref()))),
            Err(problem @ (ConnectorsError::Unauthorized(_) | ConnectorsError::NotFound(_)))
                if moment == AuthMoment::OnDemand =>
            {
                problem
            }
            Err(problem) => return Err(failure(problem)),
        };
        let mut state = json!({
            "connector_name": connector.name, "connector_id": connector.id, "status": "waiting_for_auth",
            "message": format!("{problem} `airlock credentials set {} NAME` stores one.", connector.name),
        });
        if let Some(name) = name {
            state["credentials_name"] = name.into();
        }
        let id = connector.id;
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
        let ToolCall { origin, binding, tool, arguments, .. } = call;
        let who = &origin.principal;
        let connector = self.find(who, &binding.connector_id).map_err(failure)?;
        let arguments = match arguments.value() {
            Value::Null => json!({}),
            arguments => arguments,
        };
        let (name, key) = (binding.credentials_name.as_deref(), Some(origin.idempotency_key.as_str()));
        let answer = self.call(&connector, who, tool, arguments, name, key).await.map_err(failure)?;
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
        Connectors::list_tools(self, who, &binding.connector_id, name, false, false)
            .await
            .map(Json::from)
            .map_err(failure)
    }
}

impl Connectors {
    /// Proves that the caller can use a connector, by a call to it. Gives the name of the credential that was used.
    async fn prove(
        &self,
        connector: &Connector,
        who: &Principal,
        name: Option<&str>,
    ) -> Result<Option<String>, ConnectorsError> {
        let resolved = self.0.credentials.resolve(connector, who, name)?;
        if resolved.is_none() && !connector.allows(Method::None) {
            return Err(ConnectorsError::Unauthorized(bearer_required(&connector.name)));
        }
        self.session(connector, who, name).await?.tools(false).await?;
        Ok(resolved.map(|(_, credential)| credential.name))
    }
}

fn ready(connector: &Connector, credential: Option<&str>) -> Json {
    let mut who = json!({ "connector_name": connector.name, "connector_id": connector.id });
    if let Some(name) = credential {
        who["credentials_name"] = name.into();
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
    match &error {
        ConnectorsError::Upstream(_) | ConnectorsError::Timeout(_) | ConnectorsError::Store(_) => {
            Failure::retryable(Failure::CONNECTOR, error.to_string())
        }
        _ => Failure::permanent(Failure::CONNECTOR, error.to_string()),
    }
}
