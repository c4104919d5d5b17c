//! A call, from its name to its answer: what may be called, with which credential, how often, what comes back.
//!
//! The order is fixed. A mocked call ends before anything else is touched (THREATS row 23). Then: is it allowed, are its
//! arguments valid, does a person agree; only then is a credential made ready and something sent. What comes back is
//! scrubbed before anybody sees it, and every call leaves an entry in the audit log, whatever became of it.

mod ask;
mod check;
mod mocked;
mod probe;
mod review;
mod send;
pub(crate) mod slots;
mod tools;
mod words;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use airlock_engine::{
    Principal,
    records::Records,
    tools::{CallOptions, CallOrigin, Conversation},
};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::{
    ask::ask,
    probe::Proofs,
    slots::Reached,
    words::{inactive, not_allowed},
};
use crate::{
    ConnectorsError,
    audit::{AuditLog, CredentialVersion, Event, Kind, Outcome},
    authorization::Authorization,
    channel::{Lines, Resolved},
    control::{
        Decision,
        breaker::Breakers,
        limits::{Limits, Redactions},
        pins::Pins,
    },
    credentials::{Credentials, State},
    egress::scrub::REDACTED,
    mock::Mocks,
    protocol::{
        service::{Answered, Verdict},
        tools::{LeftOut, Tools},
        trouble::{Trouble, too_large},
    },
    registry::{Connector, Protocol, Registry},
};

/// What calls need, and what is remembered between them.
pub(crate) struct Calls {
    records: Arc<dyn Records>,
    registry: Arc<Registry>,
    credentials: Arc<Credentials>,
    authorization: Arc<Authorization>,
    lines: Arc<Lines>,
    audit: Arc<AuditLog>,
    mocks: Arc<Mocks>,
    pins: Arc<Pins>,
    limits: Limits,
    redactions: Redactions,
    breakers: Breakers,
    proofs: Proofs,
    /// What was left out of the last list of each connector's tools.
    left_out: Mutex<HashMap<String, Vec<LeftOut>>>,
}

/// A call to a tool.
pub(crate) struct CallRequest<'a> {
    /// On whose behalf.
    pub(crate) who: &'a Principal,
    pub(crate) connector: Arc<Connector>,
    pub(crate) tool: &'a str,
    pub(crate) arguments: Value,
    /// The credential that the execution is bound to, or that a caller of the API names.
    pub(crate) credentials_name: Option<&'a str>,
    pub(crate) options: &'a CallOptions,
    /// The execution wants mocks.
    pub(crate) mock: bool,
    /// The execution and step, if there is one.
    pub(crate) origin: Option<&'a CallOrigin>,
    pub(crate) conversation: &'a dyn Conversation,
    /// Whether people may be asked to authorise.
    pub(crate) may_authorize: bool,
}

/// What a call leaves behind for the audit log.
#[derive(Default)]
struct Trail {
    credential: Option<CredentialVersion>,
    response_bytes: usize,
    redactions: usize,
    mocked: bool,
}

/// What became of a try.
enum Attempt {
    Answered(Value),
    /// The rules want a person to agree first; nothing was sent.
    HasToBeAsked,
}

impl Calls {
    /// Nothing has been called yet.
    #[expect(clippy::too_many_arguments, reason = "it is made once, of the rooms below")]
    pub(crate) fn new(
        records: Arc<dyn Records>,
        registry: Arc<Registry>,
        credentials: Arc<Credentials>,
        authorization: Arc<Authorization>,
        lines: Arc<Lines>,
        audit: Arc<AuditLog>,
        mocks: Arc<Mocks>,
        pins: Arc<Pins>,
    ) -> Self {
        Self {
            records,
            registry,
            credentials,
            authorization,
            lines,
            audit,
            mocks,
            pins,
            limits: Limits::default(),
            redactions: Redactions::default(),
            breakers: Breakers::default(),
            proofs: Proofs::default(),
            left_out: Mutex::default(),
        }
    }

    /// Forgets what was counted for a connector that is gone.
    pub(crate) fn forget(&self, connector: &str) {
        self.limits.forget(connector);
        self.breakers.forget(connector);
        self.left_out.lock().remove(connector);
    }

    /// What was left out of the last list of a connector's tools: `[{"what", "reason"}]`.
    pub(crate) fn left_out(&self, connector: &str) -> Value {
        let all = self.left_out.lock();
        let left_out = all.get(connector).into_iter().flatten();
        left_out.map(LeftOut::wire).collect::<Vec<_>>().into()
    }

    /// Makes a call. The answer is `ConnectorToolCallResponse`, scrubbed.
    pub(crate) async fn perform(&self, mut call: CallRequest<'_>) -> Result<Value, ConnectorsError> {
        let began = Instant::now();
        // Before anything happens: a call that cannot be written down is not made.
        self.audit.is_writable()?;
        let mut trail = Trail::default();
        let outcome = self.perform_call(&mut call, &mut trail).await;
        let kept = self.write_down(&call, &trail, &outcome, began.elapsed());
        // The service has done it: the answer is worth more than the entry, whose absence stops the next call.
        if let Err(error) = kept {
            tracing::error!(%error, "a call could not be written to the audit log");
        }
        outcome
    }

    async fn perform_call(
        &self,
        call: &mut CallRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Value, ConnectorsError> {
        let user = call.who.user.as_str();
        let (mut may_authorize, mut agreed) = (call.may_authorize, false);
        loop {
            let connector = &*call.connector;
            if !connector.is_active_for(call.who) {
                return Err(inactive(connector, call.who));
            }
            if call.mock || connector.control.mock || call.options.use_mock == Some(true) {
                trail.mocked = true;
                return Box::pin(self.mocked(call)).await;
            }
            self.redactions.check(&connector.id, user)?;
            let when = match self.attempt(call, agreed, trail).await {
                Ok(Attempt::Answered(answer)) => return Ok(answer),
                Ok(Attempt::HasToBeAsked) => {
                    Box::pin(ask(call)).await?;
                    agreed = true;
                    "while its question waited"
                }
                Err(ConnectorsError::Unauthorized(_))
                    if may_authorize && connector.interactive().is_some() =>
                {
                    call.conversation.authorized().await.map_err(ConnectorsError::Failed)?;
                    may_authorize = false;
                    "while an authorisation was waited for"
                }
                Err(error) => return Err(error),
            };
            // People take days: rules, pins, limits and the connector itself are looked at as they are now.
            let (id, name) = (&call.connector.id, Some(call.connector.name.as_str()));
            call.connector = self.registry.still(call.who, id, name, when)?;
        }
    }

    /// One try with what the caller has now. `agreed`: a person has agreed to it.
    async fn attempt(
        &self,
        call: &CallRequest<'_>,
        agreed: bool,
        trail: &mut Trail,
    ) -> Result<Attempt, ConnectorsError> {
        let name = call.options.credentials_name.as_deref().or(call.credentials_name);
        let (connector, control) = (&*call.connector, &call.connector.control);
        let usable = self.authorization.usable(connector, call.who, name).await;
        let mut resolved = match usable {
            // What is public needs nobody's credential.
            Err(ConnectorsError::Unauthorized(_))
                if name.is_none() && self.is_public(connector, call.tool) =>
            {
                None
            }
            usable => usable?,
        };
        note(trail, &resolved);
        let tools = self.listed(connector, call.who, &mut resolved, false).await?;
        let definition = tools.get(&connector.name, call.tool)?;
        let annotations = Some(&definition["annotations"]).filter(|annotations| annotations.is_object());
        let (decision, rule) = control.decided(call.tool, annotations);
        if decision == Decision::Deny {
            return Err(not_allowed(call.tool, connector, rule));
        }
        if control.pin {
            self.pins.check(&connector.name, &connector.id, call.tool)?;
        }
        tools.check(&connector.name, call.tool, &call.arguments).await?;
        if decision == Decision::Ask && !agreed {
            return Ok(Attempt::HasToBeAsked);
        }
        let credential_key = resolved.as_ref().map(|(key, _)| key.as_str());
        self.limits.check(&connector.id, control, credential_key, call.who.user.as_str())?;
        let flag = |key: &str| annotations.is_some_and(|annotations| annotations[key] == true);
        let idempotent = flag("readOnlyHint") || flag("idempotentHint");
        let sent = self.send(call, &resolved, idempotent).await;
        let sent = match sent {
            Err(ConnectorsError::Unauthorized(_)) => {
                resolved = Box::pin(self.authorization.after_refusal(connector, call.who, resolved)).await?;
                note(trail, &resolved);
                self.send(call, &resolved, idempotent).await
            }
            sent => sent,
        };
        let Answered { value: answer, redactions, credential } = match sent {
            // A token that is new and still refused: a person has to act.
            Err(ConnectorsError::Unauthorized(message)) => {
                self.authorization.mark(connector, &resolved, State::Revoked)?;
                return Err(ConnectorsError::Unauthorized(message));
            }
            // What a server says with its errors can be guessed at as well (THREATS row 20).
            Err(error) => {
                trail.redactions = error.to_string().matches(REDACTED).count();
                self.redactions.note(&connector.id, call.who.user.as_str(), trail.redactions);
                return Err(error);
            }
            Ok(answer) => answer,
        };
        if credential == Verdict::Taken {
            self.authorization.accepted(connector, &resolved)?;
        }
        trail.redactions = redactions;
        trail.response_bytes = json_length(&answer);
        self.redactions.note(&connector.id, call.who.user.as_str(), trail.redactions);
        if trail.response_bytes as u64 > control.max_response_bytes {
            return Err(too_large(&connector.name, &connector.host(), control.max_response_bytes));
        }
        if control.record && answer["metadata"]["mcp_meta"]["isError"] != true {
            self.mocks.record(
                &*self.records,
                &connector.id,
                call.who.user.as_str(),
                call.tool,
                &call.arguments,
                &answer,
            )?;
        }
        Ok(Attempt::Answered(answer))
    }

    /// Whether a REST API gives something to everybody.
    fn is_public(&self, connector: &Connector, tool: &str) -> bool {
        connector.protocol == Protocol::Http
            && self.registry.api(&*self.records, connector).is_ok_and(|api| api.tools.is_public(tool))
    }

    /// What can be called, with another token if the server wants one.
    async fn listed(
        &self,
        connector: &Connector,
        who: &Principal,
        resolved: &mut Resolved,
        refresh: bool,
    ) -> Result<Arc<Tools>, ConnectorsError> {
        let listed = match self.tools(connector, resolved, refresh).await {
            Err(Trouble { error: ConnectorsError::Unauthorized(_), .. }) => {
                *resolved =
                    Box::pin(self.authorization.after_refusal(connector, who, resolved.take())).await?;
                self.tools(connector, resolved, refresh).await
            }
            listed => listed,
        };
        listed.map_err(Trouble::told)
    }

    /// What can be called, from memory if it was asked for lately.
    pub(crate) async fn tools(
        &self,
        connector: &Connector,
        resolved: &Resolved,
        refresh: bool,
    ) -> Result<Arc<Tools>, Trouble> {
        let listed = async { self.lines.service(connector, resolved).await?.tools(refresh).await };
        let listed = listed.await;
        if connector.protocol == Protocol::Http {
            self.review_operations(connector, None)?;
            return listed;
        }
        self.saw(connector, &listed);
        let tools = listed.map_err(|trouble| self.refusal(connector, resolved, trouble))?;
        if refresh || !tools.left_out.is_empty() {
            self.left_out.lock().insert(connector.id.clone(), tools.left_out.clone());
        }
        self.review_tools(connector, &tools)?;
        Ok(tools)
    }

    /// Remembers whether the server answered. A list may be one of memory: it says when it came.
    fn saw(&self, connector: &Connector, listed: &Result<Arc<Tools>, Trouble>) {
        let (answered, at) = match listed.as_ref().map_err(|trouble| &trouble.error) {
            Ok(tools) => (true, tools.listed_at),
            Err(ConnectorsError::Upstream(_) | ConnectorsError::Timeout(_)) => (false, Utc::now()),
            Err(ConnectorsError::Unauthorized(_) | ConnectorsError::Answered(_)) => (true, Utc::now()),
            // It may never have been asked.
            Err(_) => return,
        };
        self.note(connector, answered, at);
    }

    /// Remembers whether the server answered, when it was asked for no call.
    pub(crate) fn note(&self, connector: &Connector, answered: bool, at: DateTime<Utc>) {
        self.breakers.note(&connector.id, &connector.name, connector.control.breaker, (answered, at));
    }

    /// Whether the server answered when it was asked last; `None`: it was not asked since the start.
    pub(crate) fn reached(&self, connector: &str) -> Option<Reached> {
        self.breakers.last(connector).map(|(ok, at)| Reached { ok, at })
    }

    /// What the caller may see of a connector's tools: those that can be called, or with `all` the others as well, with the
    /// reason (`airlock`).
    pub(crate) async fn tools_of(
        &self,
        connector: &Connector,
        who: &Principal,
        name: Option<&str>,
        refresh: bool,
        mock: bool,
        all: bool,
    ) -> Result<Vec<Value>, ConnectorsError> {
        if !connector.is_active_for(who) {
            return Err(inactive(connector, who));
        }
        let list = if mock || connector.control.mock {
            self.mocked_tools(connector, who.user.as_str())?
                .map(|tools| tools.list.clone())
                .unwrap_or_default()
        } else {
            // What a document describes can be read without a credential.
            let mut resolved = match connector.protocol {
                Protocol::Http => None,
                Protocol::Mcp => self.authorization.usable(connector, who, name).await?,
            };
            self.listed(connector, who, &mut resolved, refresh).await?.list.clone()
        };
        let pinned = connector.control.pin;
        let hindrance = |tool: &Value| {
            let name = tool["name"].as_str().unwrap_or_default();
            match connector.control.decided(name, Some(&tool["annotations"])) {
                (Decision::Deny, rule) => Some(not_allowed(name, connector, rule).to_string()),
                _ if pinned => self.pins.held(&connector.id, name).map(|held| held.reason(&connector.name)),
                _ => None,
            }
        };
        let shown = list.into_iter().filter_map(|mut tool| match hindrance(&tool) {
            None => Some(tool),
            Some(why) if all => {
                tool["airlock"] = json!({ "callable": false, "reason": why });
                Some(tool)
            }
            Some(_) => None,
        });
        Ok(shown.collect())
    }

    /// Writes a call down.
    fn write_down(
        &self,
        call: &CallRequest<'_>,
        trail: &Trail,
        outcome: &Result<Value, ConnectorsError>,
        duration: Duration,
    ) -> Result<(), ConnectorsError> {
        let arguments = call.connector.control.audit_arguments.then(|| call.arguments.clone());
        let event = Event {
            on_behalf_of: call.origin.map(|_| call.who.user.to_string()),
            execution: call.origin.map(|origin| origin.execution.to_string()),
            step: call.origin.map(|origin| origin.idempotency_key.clone()),
            connector_id: Some(call.connector.id.clone()),
            connector: Some(call.connector.name.clone()),
            tool: Some(call.tool.to_owned()),
            credential: trail.credential.clone(),
            note: trail.mocked.then(|| "answered from a mock".into()),
            duration_us: duration.as_micros() as u64,
            request_bytes: json_length(&call.arguments) as u64,
            response_bytes: trail.response_bytes as u64,
            redactions: trail.redactions as u64,
            arguments,
            ..Event::by(Kind::Call, call.who)
        };
        self.audit.note(match outcome {
            Ok(answer) if answer["metadata"]["mcp_meta"]["isError"] == true => {
                Event { outcome: Outcome::ToolError, ..event }
            }
            Ok(_) => event,
            Err(error) => event.failed(error),
        })
    }
}

/// How long a value is as JSON, without writing it.
fn json_length(value: &Value) -> usize {
    let text = |text: &str| {
        let is_escaped = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
        // Counted without a branch first, as many at once as a byte can count: most texts have none.
        let in_some = |some: &[u8]| some.iter().map(|byte| u8::from(is_escaped(*byte))).sum::<u8>();
        let escaped: usize = text.as_bytes().chunks(255).map(|some| usize::from(in_some(some))).sum();
        let long = |byte: u8| byte < 0x20 && !matches!(byte, 0x08 | 0x09 | 0x0a | 0x0c | 0x0d);
        let long = if escaped == 0 { 0 } else { text.bytes().filter(|byte| long(*byte)).count() };
        // `\"` and the like take two bytes, `\u001f` six.
        2 + text.len() + escaped + 4 * long
    };
    match value {
        Value::Null => 4,
        Value::Bool(value) => {
            if *value {
                4
            } else {
                5
            }
        }
        Value::Number(number) => number.to_string().len(),
        Value::String(value) => text(value),
        Value::Array(items) => 1 + items.len().max(1) + items.iter().map(json_length).sum::<usize>(),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| text(name) + 1 + json_length(value);
            1 + members.len().max(1) + members.iter().map(member).sum::<usize>()
        }
    }
}

fn note(trail: &mut Trail, resolved: &Resolved) {
    trail.credential = resolved.as_ref().map(|(key, credential)| credential.used(key));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_as_long_as_it_would_be_written() {
        let odd = "\"\\/\n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f}é😀";
        for value in [
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(-1.5e300),
            json!(u64::MAX),
            json!(odd),
            json!([]),
            json!({}),
            json!([1]),
            json!([1, [2, {}], odd]),
            json!({ odd: { "a": [odd] }, "b": null }),
        ] {
            assert_eq!(json_length(&value), value.to_string().len(), "{value}");
        }
    }
}
