//! One attempt at a service, and what its refusal means.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value};
use url::Url;

use super::{CallRequest, Calls, Definitions, words::unanswered_trouble};
use crate::{
    ConnectorsError,
    channel::Resolved,
    control::{asking::Asking, retries},
    credentials::State,
    mcp::{self, CALL_LIMIT},
    oauth,
    protocol::{
        Answered,
        trouble::{Trouble, refused, status},
    },
    registry::Connector,
    rest::{self, Operation},
};

impl Calls {
    /// Sends a call, again if that makes sense.
    pub(super) async fn send(
        &self,
        call: &CallRequest<'_>,
        definitions: &Definitions,
        resolved: &Resolved,
        idempotent: bool,
    ) -> Result<Answered, ConnectorsError> {
        let (connector, control) = (&*call.connector, &call.connector.control);
        let most = control.timeout().min(CALL_LIMIT);
        let limit = call.options.timeout.map_or(most, |wanted| wanted.min(most));
        let breaker = self.breakers.of(&connector.id, &connector.name, control.breaker);
        let retries = call.options.retries.unwrap_or(control.retries);
        let arguments = call.arguments.as_object().cloned().unwrap_or_default();
        let arguments = &arguments;
        let asking = &Asking::new(call.conversation, control.ask_timeout());
        retries::run(retries, idempotent, &breaker, || async move {
            match definitions {
                Definitions::Mcp(_) => {
                    let session = self.lines.session(connector, resolved).await?;
                    let call = mcp::Call {
                        tool: call.tool,
                        arguments: arguments.clone(),
                        idempotency_key: call.origin.map(|origin| origin.idempotency_key.as_str()),
                        limit,
                        conversation: asking,
                    };
                    let answered = session.call(call).await;
                    let mut value = answered.map_err(|trouble| self.refusal(connector, resolved, trouble))?;
                    let redactions =
                        self.lines.channel(connector, resolved)?.scrub().scrubber.value(&mut value);
                    Ok(Answered { value, redactions })
                }
                Definitions::Http(api) => {
                    let operation = api.operation(&connector.name, call.tool)?;
                    self.send_http(call, operation, arguments, resolved, limit).await
                }
            }
        })
        .await
    }

    async fn send_http(
        &self,
        call: &CallRequest<'_>,
        operation: &Operation,
        arguments: &Map<String, Value>,
        resolved: &Resolved,
        limit: Duration,
    ) -> Result<Answered, Trouble> {
        let connector = &*call.connector;
        let base = Url::parse(&connector.server)
            .map_err(|_| ConnectorsError::Store("the connector's address is damaged".into()))?;
        let prepared = operation.request(&base, arguments)?;
        let sender = self.lines.channel(connector, resolved)?;
        let key = call.origin.map(|origin| origin.idempotency_key.as_str());
        let most = usize::try_from(connector.control.max_response_bytes).unwrap_or(usize::MAX);
        let answer = sender.send(prepared, key, limit, most).await;
        let answer = answer.map_err(|unanswered| unanswered_trouble(connector, limit, &unanswered))?;
        let (name, host) = (&connector.name, connector.host());
        if answer.status == StatusCode::UNAUTHORIZED {
            let sent = resolved.as_ref().map(|(_, credential)| credential.sent(connector));
            let error = ConnectorsError::Unauthorized(refused(name, &host, sent.as_ref()));
            return Err(self.refusal(connector, resolved, error.into()));
        }
        if answer.status == StatusCode::FORBIDDEN {
            let error = ConnectorsError::Forbidden(String::new());
            let trouble = self.refusal(connector, resolved, error.into());
            if matches!(trouble.error, ConnectorsError::Unauthorized(_)) {
                return Err(trouble);
            }
        }
        let code = answer.status.as_u16();
        if matches!(code, 429 | 502..=504) {
            let wait = answer.headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            return Err(status(name, &host, code, wait));
        }
        let rendered = sender.scrub();
        Ok(rest::answer(name, operation, code, &answer.headers, &answer.body, &rendered.scrubber))
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
