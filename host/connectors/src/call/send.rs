//! One attempt at a service, and what its refusal means.

use serde_json::Map;

use super::{CallRequest, Calls};
use crate::{
    ConnectorsError,
    channel::Resolved,
    control::{asking::Asking, retries},
    credentials::State,
    oauth,
    protocol::{
        service::{Answered, CALL_LIMIT, Call, Verdict},
        trouble::Trouble,
    },
    registry::Connector,
};

impl Calls {
    /// Sends a call, again if that makes sense.
    pub(super) async fn send(
        &self,
        call: &CallRequest<'_>,
        resolved: &Resolved,
        idempotent: bool,
    ) -> Result<Answered, ConnectorsError> {
        let (connector, control) = (&*call.connector, &call.connector.control);
        let most = control.timeout().min(CALL_LIMIT);
        let breaker = self.breakers.of(&connector.id, &connector.name, control.breaker);
        let retries = call.options.retries.unwrap_or(control.retries);
        let nothing = Map::new();
        let asked = &Call {
            tool: call.tool,
            arguments: call.arguments.as_object().unwrap_or(&nothing),
            idempotency_key: call.origin.map(|origin| origin.idempotency_key.as_str()),
            limit: call.options.timeout.map_or(most, |wanted| wanted.min(most)),
            max_bytes: control.max_response_bytes,
            conversation: &Asking::new(call.conversation, control.ask_timeout()),
        };
        retries::run(retries, idempotent, &breaker, || async move {
            let service = self.lines.service(connector, resolved).await?;
            // Another document may have come since the operation was looked at.
            if control.pin
                && let Some(definition) = service.definition(call.tool)
            {
                self.pins.check_operation(&connector.name, &connector.id, call.tool, &definition)?;
            }
            match service.call(asked).await {
                Err(trouble) => Err(self.refusal(connector, resolved, trouble)),
                Ok(answered) if answered.credential == Verdict::NotEnough => {
                    let trouble = ConnectorsError::Forbidden(String::new()).into();
                    match self.refusal(connector, resolved, trouble) {
                        more @ Trouble { error: ConnectorsError::Unauthorized(_), .. } => Err(more),
                        // It is the service's own matter: the caller gets what it said.
                        _ => Ok(answered),
                    }
                }
                answered => answered,
            }
        })
        .await
    }

    /// Looks at what a server said with a 401 or 403: a scope that is missing is noted with the credential.
    pub(super) fn refusal(&self, connector: &Connector, resolved: &Resolved, trouble: Trouble) -> Trouble {
        if !matches!(trouble.error, ConnectorsError::Unauthorized(_) | ConnectorsError::Forbidden(_)) {
            return trouble;
        }
        let challenge = self.lines.challenge(connector, resolved);
        let Some(scopes) = challenge.and_then(missing_scopes) else { return trouble };
        let granted = resolved.as_ref().and_then(|(_, credential)| credential.grant.as_ref());
        if !scopes.is_empty()
            && granted.is_some_and(|grant| scopes.iter().all(|scope| grant.scopes.contains(scope)))
        {
            // Nobody could give more by authorising again.
            return ConnectorsError::Forbidden(format!(
                "the server of connector '{}' ({}) says that scopes are missing which it has granted ({}): tell its \
                 operator",
                connector.name,
                connector.host(),
                scopes.join(" ")
            ))
            .into();
        }
        match self.authorization.mark(connector, resolved, State::NeedsScopes(scopes.clone())) {
            Err(error) => error.into(),
            Ok(()) => {
                let remedy = resolved.as_ref().map(|(_, credential)| credential.remedy(connector));
                ConnectorsError::Unauthorized(format!(
                    "the call needs more than was granted to the credential of connector '{}' (scopes: {}): {}",
                    connector.name,
                    if scopes.is_empty() { "not said".to_owned() } else { scopes.join(" ") },
                    remedy.unwrap_or_else(|| "store a credential that has them".to_owned())
                ))
                .into()
            }
        }
    }
}

/// The scopes that a server misses, if that is why it refused.
fn missing_scopes(challenge: oauth::Challenge) -> Option<Vec<String>> {
    (challenge.error == Some(oauth::Refusal::InsufficientScope)).then_some(challenge.scopes)
}
