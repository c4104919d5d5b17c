//! A call, from its name to its answer: what may be called, with which credential, how often, what comes back.
//!
//! The order is fixed. A mocked call ends before anything else is touched (THREATS row 23). Then: is it allowed, are its
//! arguments valid, does a person agree; only then is a credential made ready and something sent. What comes back is
//! scrubbed before anybody sees it, and every call leaves an entry in the audit log, whatever became of it.

mod tools;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use airlock_engine::{
    Json, Principal,
    records::Records,
    tools::{CallOptions, CallOrigin, Conversation, Question},
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

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
        retries,
    },
    credentials::{Credentials, State},
    egress::{
        Unanswered,
        scrub::{REDACTED, Scrubber},
    },
    mcp::{self, CALL_LIMIT, refused},
    mock::{Mocks, Shape},
    oauth,
    protocol::{
        tools::Tools,
        trouble::{Again, Trouble, status},
    },
    registry::{Connector, Protocol, Registry},
    rest::{self, Example, Operation},
};

/// So much of a call's arguments is shown to the person who is asked about it.
const MAX_SHOWN: usize = 8 << 10;

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

/// What can be called at a connector.
pub(crate) enum Definitions {
    Mcp(Arc<Tools>),
    Http(Arc<crate::registry::apis::Api>),
}

impl Definitions {
    pub(crate) fn tools(&self) -> &Tools {
        match self {
            Self::Mcp(tools) => tools,
            Self::Http(api) => &api.tools,
        }
    }
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
        }
    }

    /// Forgets what was counted for a connector that is gone.
    pub(crate) fn forget(&self, connector: &str) {
        self.limits.forget(connector);
        self.breakers.forget(connector);
    }

    /// Makes a call. The answer is `ConnectorToolCallResponse`, scrubbed.
    pub(crate) async fn perform(&self, call: CallRequest<'_>) -> Result<Value, ConnectorsError> {
        let began = Instant::now();
        // Before anything happens: a call that cannot be written down is not made.
        self.audit.is_writable()?;
        let mut trail = Trail::default();
        let outcome = self.perform_call(&call, &mut trail).await;
        let kept = self.write_down(&call, &trail, &outcome, began.elapsed());
        // The service has done it: the answer is worth more than the entry, whose absence stops the next call.
        if let Err(error) = kept {
            tracing::error!(%error, "a call could not be written to the audit log");
        }
        outcome
    }

    async fn perform_call(
        &self,
        call: &CallRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Value, ConnectorsError> {
        let (connector, user) = (&*call.connector, call.who.user.as_str());
        if !connector.is_active_for(call.who) {
            return Err(inactive(connector));
        }
        if call.mock || connector.control.mock || call.options.use_mock == Some(true) {
            trail.mocked = true;
            return self.mocked(call).await;
        }
        self.redactions.check(&connector.id, user)?;
        let name = call.options.credentials_name.as_deref().or(call.credentials_name);
        let (mut may_authorize, mut agreed) = (call.may_authorize, false);
        loop {
            match self.attempt(call, name, &mut agreed, trail).await {
                Err(ConnectorsError::Unauthorized(_))
                    if may_authorize && connector.interactive().is_some() =>
                {
                    call.conversation.authorized().await.map_err(ConnectorsError::Failed)?;
                    may_authorize = false;
                }
                outcome => return outcome,
            }
        }
    }

    /// One try with what the caller has now. `agreed`: a person has been asked.
    async fn attempt(
        &self,
        call: &CallRequest<'_>,
        name: Option<&str>,
        agreed: &mut bool,
        trail: &mut Trail,
    ) -> Result<Value, ConnectorsError> {
        let (connector, control) = (&*call.connector, &call.connector.control);
        let mut resolved = self.authorization.usable(connector, call.who, name).await?;
        note(trail, &resolved);
        let definitions = match self.definitions(connector, &resolved, false).await {
            Err(Trouble { error: ConnectorsError::Unauthorized(_), .. }) => {
                resolved = self.authorization.after_refusal(connector, resolved).await?;
                self.definitions(connector, &resolved, false).await
            }
            found => found,
        }
        .map_err(|trouble| trouble.error)?;
        let tools = definitions.tools();
        let definition = tools.get(&connector.name, call.tool)?;
        let annotations = Some(&definition["annotations"]).filter(|annotations| annotations.is_object());
        let decision = control.decide(call.tool, annotations);
        if decision == Decision::Deny {
            return Err(ConnectorsError::Denied(format!(
                "the operator does not allow '{}' of connector '{}'",
                call.tool, connector.name
            )));
        }
        if control.pin && connector.protocol == Protocol::Mcp {
            self.pins.check(&connector.name, &connector.id, call.tool)?;
        }
        check_arguments(connector, tools, &definitions, call)?;
        let credential_key = resolved.as_ref().map(|(key, _)| key.as_str());
        self.limits.check(&connector.id, control, credential_key, call.who.user.as_str())?;
        if decision == Decision::Ask && !*agreed {
            ask(call).await?;
            *agreed = true;
            // It may have taken days.
            resolved = self.authorization.usable(connector, call.who, name).await?;
        }
        let flag = |key: &str| annotations.is_some_and(|annotations| annotations[key] == true);
        let idempotent = flag("readOnlyHint") || flag("idempotentHint");
        let sent = self.send(call, &definitions, &resolved, idempotent).await;
        let sent = match sent {
            Err(ConnectorsError::Unauthorized(_)) => {
                resolved = self.authorization.after_refusal(connector, resolved).await?;
                note(trail, &resolved);
                self.send(call, &definitions, &resolved, idempotent).await
            }
            sent => sent,
        };
        let mut answer = match sent {
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
        let rendered = self.lines.channel(connector, &resolved)?.scrub();
        trail.redactions = rendered.scrubber.value(&mut answer);
        let text = answer.to_string();
        trail.response_bytes = text.len();
        if connector.protocol == Protocol::Http {
            // They were taken out before anything was cut or encoded.
            trail.redactions += text.matches(REDACTED).count();
        }
        self.redactions.note(&connector.id, call.who.user.as_str(), trail.redactions);
        if trail.response_bytes as u64 > control.max_response_bytes {
            return Err(too_large(connector));
        }
        if control.record && answer["metadata"]["mcp_meta"]["isError"] != true {
            self.mocks.record(&*self.records, &connector.id, call.tool, &call.arguments, &answer)?;
        }
        Ok(answer)
    }

    /// What can be called, from memory if it was asked for lately.
    pub(crate) async fn definitions(
        &self,
        connector: &Connector,
        resolved: &Resolved,
        refresh: bool,
    ) -> Result<Definitions, Trouble> {
        if connector.protocol == Protocol::Http {
            return Ok(Definitions::Http(self.registry.api(&*self.records, connector)?));
        }
        let listed = async { self.lines.session(connector, resolved).await?.tools(refresh).await };
        let tools = listed.await.map_err(|trouble| self.refusal(connector, resolved, trouble))?;
        if connector.control.pin {
            tools.once(|| self.pins.review(&*self.records, &connector.id, &tools.list).map(drop))?;
        }
        Ok(Definitions::Mcp(tools))
    }

    /// What the caller may see of a connector's tools.
    pub(crate) async fn tools_of(
        &self,
        connector: &Connector,
        who: &Principal,
        name: Option<&str>,
        refresh: bool,
        mock: bool,
    ) -> Result<Vec<Value>, ConnectorsError> {
        if !connector.is_active_for(who) {
            return Err(inactive(connector));
        }
        let list = if mock || connector.control.mock {
            self.mocked_tools(connector)?.map(|tools| tools.list.clone()).unwrap_or_default()
        } else {
            let mut resolved = self.authorization.usable(connector, who, name).await?;
            let listed = match self.definitions(connector, &resolved, refresh).await {
                Err(Trouble { error: ConnectorsError::Unauthorized(_), .. }) => {
                    resolved = self.authorization.after_refusal(connector, resolved).await?;
                    self.definitions(connector, &resolved, refresh).await
                }
                listed => listed,
            };
            listed.map_err(|trouble| trouble.error)?.tools().list.clone()
        };
        let pinned = connector.control.pin && connector.protocol == Protocol::Mcp;
        let may = |tool: &Value| {
            let name = tool["name"].as_str().unwrap_or_default();
            connector.control.decide(name, Some(&tool["annotations"])) != Decision::Deny
                && (!pinned || self.pins.check(&connector.name, &connector.id, name).is_ok())
        };
        Ok(list.into_iter().filter(may).collect())
    }

    /// The definitions that mocks go by, if there are any.
    fn mocked_tools(&self, connector: &Connector) -> Result<Option<Arc<Tools>>, ConnectorsError> {
        Ok(match connector.protocol {
            Protocol::Http => Some(Arc::clone(&self.registry.api(&*self.records, connector)?.tools)),
            Protocol::Mcp => self.mocks.tools(&connector.id).map(|list| Arc::new(Tools::new(list.to_vec()))),
        })
    }

    /// Sends a call, again if that makes sense.
    async fn send(
        &self,
        call: &CallRequest<'_>,
        definitions: &Definitions,
        resolved: &Resolved,
        idempotent: bool,
    ) -> Result<Value, ConnectorsError> {
        let (connector, control) = (&*call.connector, &call.connector.control);
        let most = control.timeout().min(CALL_LIMIT);
        let limit = call.options.timeout.map_or(most, |wanted| wanted.min(most));
        let breaker = self.breakers.of(&connector.id, &connector.name, control.breaker);
        let retries = call.options.retries.unwrap_or(control.retries);
        let arguments = call.arguments.as_object().cloned().unwrap_or_default();
        let arguments = &arguments;
        retries::run(retries, idempotent, &breaker, || async move {
            match definitions {
                Definitions::Mcp(_) => {
                    let session = self.lines.session(connector, resolved).await?;
                    let call = mcp::Call {
                        tool: call.tool,
                        arguments: arguments.clone(),
                        idempotency_key: call.origin.map(|origin| origin.idempotency_key.as_str()),
                        limit,
                        conversation: call.conversation,
                    };
                    let answered = session.call(call).await;
                    answered.map_err(|trouble| self.refusal(connector, resolved, trouble))
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
    ) -> Result<Value, Trouble> {
        let connector = &*call.connector;
        let base = url::Url::parse(&connector.server)
            .map_err(|_| ConnectorsError::Store("the connector's address is damaged".into()))?;
        let prepared = operation.request(&base, arguments)?;
        let sender = self.lines.channel(connector, resolved)?;
        let key = call.origin.map(|origin| origin.idempotency_key.as_str());
        let most = usize::try_from(connector.control.max_response_bytes).unwrap_or(usize::MAX);
        let answer = sender.send(prepared, key, limit, most).await;
        let answer = answer.map_err(|unanswered| unanswered_trouble(connector, limit, &unanswered))?;
        let (name, host) = (&connector.name, connector.host());
        if answer.status == StatusCode::UNAUTHORIZED {
            let credential = resolved.as_ref().map(|(_, credential)| credential.name.as_str());
            let error = ConnectorsError::Unauthorized(refused(name, &host, credential));
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
    fn refusal(&self, connector: &Connector, resolved: &Resolved, trouble: Trouble) -> Trouble {
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
            Ok(()) => ConnectorsError::Unauthorized(format!(
                "the call needs more than was granted to the credential of connector '{}' (scopes: {}): authorise again",
                connector.name,
                if scopes.is_empty() { "not said".to_owned() } else { scopes.join(" ") }
            ))
            .into(),
        }
    }

    /// Answers from a mock: no credential is resolved and no socket is opened.
    async fn mocked(&self, call: &CallRequest<'_>) -> Result<Value, ConnectorsError> {
        let connector = &*call.connector;
        if let Some(tools) = self.mocked_tools(connector)? {
            let annotations = tools.get(&connector.name, call.tool)?["annotations"].clone();
            if connector.control.decide(call.tool, Some(&annotations)) == Decision::Deny {
                return Err(ConnectorsError::Denied(format!(
                    "the operator does not allow '{}' of connector '{}'",
                    call.tool, connector.name
                )));
            }
            let definitions = match connector.protocol {
                Protocol::Mcp => Definitions::Mcp(Arc::clone(&tools)),
                Protocol::Http => Definitions::Http(self.registry.api(&*self.records, connector)?),
            };
            check_arguments(connector, &tools, &definitions, call)?;
        }
        let shape = match connector.protocol {
            Protocol::Mcp => Shape::Mcp,
            Protocol::Http => Shape::Rest { connector: &connector.name },
        };
        if let Some(found) = self.mocks.find(&connector.id, call.tool, &call.arguments, shape) {
            tokio::time::sleep(found.delay).await;
            return Ok(found.answer);
        }
        if connector.protocol == Protocol::Http {
            let api = self.registry.api(&*self.records, connector)?;
            let operation = api.operation(&connector.name, call.tool)?;
            if let Some(Example { status, content_type, body }) = operation.example() {
                let mut headers = HeaderMap::new();
                if let Some(kind) = content_type.as_ref().and_then(|kind| HeaderValue::from_str(kind).ok()) {
                    headers.insert(http::header::CONTENT_TYPE, kind);
                }
                let (name, nothing) = (&connector.name, Scrubber::default());
                return Ok(rest::answer(name, operation, *status, &headers, body.as_bytes(), &nothing));
            }
        }
        Err(self.mocks.missing(&connector.name, &connector.id, call.tool))
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
            request_bytes: call.arguments.to_string().len() as u64,
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

/// Checks the arguments of a call before anything is sent. Those of a REST API may be grouped by place.
fn check_arguments(
    connector: &Connector,
    tools: &Tools,
    definitions: &Definitions,
    call: &CallRequest<'_>,
) -> Result<(), ConnectorsError> {
    let Definitions::Http(api) = definitions else {
        return tools.check(&connector.name, call.tool, &call.arguments);
    };
    let empty = Map::new();
    api.check(&connector.name, call.tool, call.arguments.as_object().unwrap_or(&empty))
}

/// The scopes that a server misses, if that is why it refused.
fn missing_scopes(challenge: oauth::Challenge) -> Option<Vec<String>> {
    (challenge.error == Some(oauth::Refusal::InsufficientScope)).then_some(challenge.scopes)
}

fn note(trail: &mut Trail, resolved: &Resolved) {
    trail.credential = resolved.as_ref().map(|(key, credential)| credential.used(key));
}

/// Asks the people who follow the execution whether a call may be made.
async fn ask(call: &CallRequest<'_>) -> Result<(), ConnectorsError> {
    let connector = &call.connector.name;
    if call.origin.is_none() {
        return Err(ConnectorsError::Denied(format!(
            "a person has to be asked before '{}' of connector '{connector}' is called: call it from a workflow, and \
             answer the question of its execution",
            call.tool
        )));
    }
    let mut shown = call.arguments.clone();
    if shown.to_string().len() > MAX_SHOWN {
        shown = json!(format!("{}…", shown.to_string().chars().take(MAX_SHOWN).collect::<String>()));
    }
    let question = Question {
        label: format!("May '{}' of connector '{connector}' be called?", call.tool),
        input_schema: Json::from(json!({
            "type": "object", "required": ["approve"], "additionalProperties": false,
            "properties": { "approve": { "type": "boolean" }, "reason": { "type": "string" } },
        })),
        about: Json::from(json!({
            "asked_by": "policy", "connector_name": connector, "tool_name": call.tool, "arguments": shown,
        })),
    };
    let answer = call.conversation.ask(question).await.map_err(ConnectorsError::Failed)?.value();
    if answer["approve"] == true {
        return Ok(());
    }
    let reason = answer["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    let message = format!("the call of '{}' of connector '{connector}' was not approved{reason}", call.tool);
    Err(ConnectorsError::Denied(message))
}

fn unanswered_trouble(connector: &Connector, limit: Duration, unanswered: &Unanswered) -> Trouble {
    let (name, host) = (&connector.name, connector.host());
    let upstream =
        |text: &str| ConnectorsError::Upstream(format!("the server of connector '{name}' ({host}) {text}"));
    match unanswered {
        Unanswered::Unreachable => {
            Trouble { error: upstream("cannot be reached"), again: Again::Always }
        }
        Unanswered::Late => {
            let message = format!("the server of connector '{name}' ({host}) took longer than {limit:?}");
            Trouble { error: ConnectorsError::Timeout(message), again: Again::IfIdempotent }
        }
        Unanswered::Broken => {
            Trouble { error: upstream("broke the connection off"), again: Again::IfIdempotent }
        }
        Unanswered::TooLarge => too_large(connector).into(),
        Unanswered::Redirected => upstream(
            "redirects to another server: that is not followed, so register the connector with the other address",
        )
        .into(),
        Unanswered::Forbidden => ConnectorsError::Forbidden(format!(
            "the address of connector '{name}' ({host}) may not be called: see --allow-loopback and \
             --allow-private-networks"
        ))
        .into(),
    }
}

fn inactive(connector: &Connector) -> ConnectorsError {
    let message = format!("connector '{}' is not active here: activate it first", connector.name);
    ConnectorsError::Forbidden(message)
}

fn too_large(connector: &Connector) -> ConnectorsError {
    ConnectorsError::TooLarge(format!(
        "the answer of connector '{}' ({}) is larger than {} bytes: ask for less, or let the operator raise \
         max_response_bytes of the connector",
        connector.name,
        connector.host(),
        connector.control.max_response_bytes
    ))
}
