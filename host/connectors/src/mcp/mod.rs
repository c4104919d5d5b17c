//! MCP sessions: one for each connector and credential, kept while they are used.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use airlock_engine::{
    Json,
    tools::{Conversation, Question},
};
use parking_lot::Mutex;
use rmcp::{
    ClientHandler, ErrorData, Peer, RoleClient, ServiceError,
    model::{
        CallToolRequest, CallToolRequestParams, ClientConfig, ClientRequest, ElicitRequestParams,
        ElicitResult, ElicitationAction, ElicitationCapability, FormElicitationCapability, Implementation,
        InputRequest, InputRequiredResult, PaginatedRequestParams, ProgressNotificationParam,
        ProtocolVersion, RequestId, RequestMetaObject, ServerResult, UrlElicitationCapability,
    },
    service::{
        ClientInitializeError, ClientLifecycleMode, InboundStreamOrigin, NotificationContext,
        PeerRequestOptions, RequestContext, RunningService,
    },
    transport::{
        StreamableHttpClientTransport,
        streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError},
    },
};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::{
    ConnectorsError,
    egress::{Live, Sender},
    protocol::trouble::{Again, Trouble, status},
};

pub(crate) use crate::protocol::tools::Tools;

/// contract/preflight.md: a call may take 120 s, a list 30 s.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(120);
pub(crate) const LIST_LIMIT: Duration = Duration::from_secs(30);

/// The newest version that begins with `initialize`.
const LEGACY: ProtocolVersion = ProtocolVersion::V_2025_11_25;

/// A server may ask for input so many times in one call.
const MAX_ROUNDS: usize = 8;

/// A server may name so many tools on so many pages (THREATS row 22).
const MAX_PAGES: usize = 50;
const MAX_TOOLS: usize = 2_000;

/// How long a list of tools is good for.
const LIST_AGE: Duration = Duration::from_secs(300);

/// A session that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// What a session belongs to: connector, its version, credential, its generation.
pub(crate) type Key = (String, u32, Option<(String, u32)>);

/// All sessions.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<Key, Entry>>);

struct Entry {
    used: Instant,
    /// One task opens a session; others that want it wait for that.
    session: Arc<tokio::sync::Mutex<Option<Arc<Session>>>>,
}

/// How to open a session.
pub(crate) struct Opening {
    pub(crate) connector: String,
    pub(crate) host: String,
    pub(crate) credential: Option<String>,
    pub(crate) sender: Sender,
}

impl Sessions {
    /// The session for a key, opened if there is none.
    pub(crate) async fn get(
        &self,
        key: &Key,
        opening: impl FnOnce() -> Opening,
    ) -> Result<Arc<Session>, Trouble> {
        let slot = {
            let mut all = self.0.lock();
            all.retain(|_, entry| entry.used.elapsed() < IDLE);
            let entry = all
                .entry(key.clone())
                .or_insert_with(|| Entry { used: Instant::now(), session: Arc::default() });
            entry.used = Instant::now();
            Arc::clone(&entry.session)
        };
        let mut session = slot.lock().await;
        if let Some(open) = session.as_ref().filter(|session| !session.service.is_closed()) {
            return Ok(Arc::clone(open));
        }
        let opened = Arc::new(Session::open(opening()).await?);
        *session = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Closes the sessions of a connector.
    pub(crate) fn forget(&self, connector: &str) {
        self.0.lock().retain(|(id, ..), _| id != connector);
    }
}

/// An open session.
pub(crate) struct Session {
    connector: String,
    host: String,
    credential: Option<String>,
    live: Arc<Live>,
    service: RunningService<RoleClient, Client>,
    tools: Mutex<Option<(Instant, Arc<Tools>)>>,
}

/// One call.
pub(crate) struct Call<'a> {
    pub(crate) tool: &'a str,
    pub(crate) arguments: Map<String, Value>,
    pub(crate) idempotency_key: Option<&'a str>,
    /// Without the time that people take.
    pub(crate) limit: Duration,
    pub(crate) conversation: &'a dyn Conversation,
}

/// What a server wants in the middle of a call.
enum Ask {
    Elicit(Box<ElicitRequestParams>, oneshot::Sender<ElicitResult>),
    Progress(Value),
}

/// Our side of a session: it passes on what belongs to a call under way, and declines the rest.
#[derive(Clone, Default)]
struct Client {
    calls: Arc<Mutex<HashMap<RequestId, mpsc::UnboundedSender<Ask>>>>,
    /// The server's list of tools has changed.
    tools_changed: Arc<std::sync::atomic::AtomicBool>,
}

/// A server can ask before the task that sent the call has noted its number.
const REGISTRATION: Duration = Duration::from_secs(2);

impl Client {
    /// The call that a request of the server belongs to. One that did not come on a call's own stream belongs to the
    /// only call under way; if there are several, nobody can say whose it is.
    async fn call_of(&self, origin: &InboundStreamOrigin) -> Option<mpsc::UnboundedSender<Ask>> {
        let find = |calls: &HashMap<RequestId, mpsc::UnboundedSender<Ask>>| match origin {
            InboundStreamOrigin::OutboundRequest(id) => calls.get(id).cloned(),
            _ => {
                let first = calls.values().next()?;
                calls.values().all(|other| other.same_channel(first)).then(|| first.clone())
            }
        };
        let until = Instant::now() + REGISTRATION;
        loop {
            let found = find(&self.calls.lock());
            if found.is_some() {
                return found;
            }
            if Instant::now() > until {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl ClientHandler for Client {
    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let declined = || Ok(ElicitResult::new(ElicitationAction::Decline));
        let origin = context.extensions.get().unwrap_or(&InboundStreamOrigin::Unassociated);
        let Some(call) = self.call_of(origin).await else { return declined() };
        let (answer, answered) = oneshot::channel();
        if call.send(Ask::Elicit(Box::new(request), answer)).is_err() {
            return declined();
        }
        answered.await.or_else(|_| declined())
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let token = &progress.progress_token.0;
        let call = self.calls.lock().get(token).cloned();
        if let Some(call) = call {
            let state = json!({
                "progress": progress.progress, "total": progress.total, "message": progress.message,
            });
            // The call may have ended.
            let _ = call.send(Ask::Progress(state));
        }
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.tools_changed.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        info.protocol_version = LEGACY;
        info.client_info = Implementation::new("airlock", env!("CARGO_PKG_VERSION"));
        let elicitation = ElicitationCapability::new()
            .with_form(FormElicitationCapability::default())
            .with_url(UrlElicitationCapability::default());
        info.capabilities.elicitation = Some(elicitation);
        info
    }
}

/// A call that nobody waits for any more is cancelled at the server.
struct Abandoned<'a> {
    client: &'a Client,
    peer: Peer<RoleClient>,
    id: RequestId,
    token: RequestId,
    is_over: bool,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        let mut calls = self.client.calls.lock();
        calls.remove(&self.id);
        calls.remove(&self.token);
        drop(calls);
        if self.is_over {
            return;
        }
        let (peer, id) = (self.peer.clone(), self.id.clone());
        tokio::spawn(async move {
            let cancelled = rmcp::model::CancelledNotificationParam::new(Some(id), Some("given up".into()));
            // The session may be gone as well.
            let _ = peer.notify_cancelled(cancelled).await;
        });
    }
}

impl Session {
    async fn open(opening: Opening) -> Result<Self, Trouble> {
        let Opening { connector, host, credential, sender } = opening;
        let live = Arc::clone(sender.live());
        let told =
            Told { connector: &connector, host: &host, credential: credential.as_deref(), live: &live };
        let opened = async {
            let newest = ClientLifecycleMode::Auto {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
                legacy_version: Some(LEGACY),
            };
            match serve(&connector, &sender, newest).await {
                // Old servers do not know the question that the newest version begins with, and not all say so as they
                // should: some answer with an empty result, some with a status.
                Err(error) if knows_no_discovery(&error) => {
                    serve(&connector, &sender, ClientLifecycleMode::Initialize).await
                }
                opened => opened,
            }
        };
        let service = match tokio::time::timeout(LIST_LIMIT, opened).await {
            Ok(Ok(service)) => service,
            Ok(Err(error)) => return Err(told.not_opened(&error)),
            Err(_) => return Err(told.late(LIST_LIMIT)),
        };
        Ok(Self { connector, host, credential, live, service, tools: Mutex::new(None) })
    }

    fn told(&self) -> Told<'_> {
        let (connector, host) = (&self.connector, &self.host);
        Told { connector, host, credential: self.credential.as_deref(), live: &self.live }
    }

    /// The tools, scrubbed; from memory unless they are old, have changed or `refresh` is set.
    pub(crate) async fn tools(&self, refresh: bool) -> Result<Arc<Tools>, Trouble> {
        let changed = self.service.service().tools_changed.swap(false, std::sync::atomic::Ordering::Relaxed);
        if let Some((at, tools)) = &*self.tools.lock()
            && !refresh
            && !changed
            && at.elapsed() < LIST_AGE
        {
            return Ok(Arc::clone(tools));
        }
        let listed = tokio::time::timeout(LIST_LIMIT, self.list_pages()).await;
        let list = listed.map_err(|_| self.told().late(LIST_LIMIT))??;
        let tools = Arc::new(Tools::new(list));
        *self.tools.lock() = Some((Instant::now(), Arc::clone(&tools)));
        Ok(tools)
    }

    async fn list_pages(&self) -> Result<Vec<Value>, Trouble> {
        let (mut list, mut cursor) = (Vec::new(), None);
        let rendered = self.live.rendered();
        for _ in 0..MAX_PAGES {
            let parameters = PaginatedRequestParams::default().with_cursor(cursor.take());
            let page = self
                .service
                .list_tools(Some(parameters))
                .await
                .map_err(|error| self.told().failed(&error))?;
            for tool in page.tools {
                let mut tool = serde_json::to_value(tool).map_err(|_| self.told().not_as_expected())?;
                rendered.scrubber.value(&mut tool);
                list.push(tool);
            }
            cursor = page.next_cursor;
            if cursor.is_none() || list.len() > MAX_TOOLS {
                break;
            }
        }
        if cursor.is_some() || list.len() > MAX_TOOLS {
            let message = format!(
                "the server of connector '{}' ({}) lists more than {MAX_TOOLS} tools or {MAX_PAGES} pages",
                self.connector, self.host
            );
            return Err(ConnectorsError::Upstream(message).into());
        }
        Ok(list)
    }

    /// Calls a tool and gives its answer as `{content, metadata}` (contract: `ConnectorToolCallResponse`), not scrubbed.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Value, Trouble> {
        let Call { tool, arguments, idempotency_key, limit, conversation } = call;
        let mut parameters = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        if let Some(key) = idempotency_key {
            let mut meta = RequestMetaObject::default();
            meta.0.0.insert("airlock/idempotency-key".into(), key.into());
            parameters.meta = Some(meta);
        }
        let mut patience = Patience::new(limit);
        for _ in 0..MAX_ROUNDS {
            match self.call_once(parameters.clone(), &mut patience, conversation).await? {
                ServerResult::CallToolResult(result) => {
                    let mut result =
                        serde_json::to_value(result).map_err(|_| self.told().not_as_expected())?;
                    let mut meta = json!({ "isError": result["isError"].as_bool().unwrap_or(false) });
                    for key in ["structuredContent", "_meta"] {
                        if result[key].is_object() {
                            meta[key] = result[key].take();
                        }
                    }
                    return Ok(
                        json!({ "content": result["content"].take(), "metadata": { "mcp_meta": meta } }),
                    );
                }
                ServerResult::InputRequiredResult(InputRequiredResult {
                    input_requests,
                    request_state,
                    ..
                }) => {
                    let mut answers = std::collections::BTreeMap::new();
                    for (key, request) in input_requests.unwrap_or_default() {
                        let InputRequest::Elicitation(request) = request else {
                            return Err(self.told().not_as_expected());
                        };
                        let answer = patience.during(self.elicit(request.params, conversation)).await;
                        let answer =
                            serde_json::to_value(answer).map_err(|_| self.told().not_as_expected())?;
                        answers.insert(key, answer);
                    }
                    parameters.input_responses = Some(answers).filter(|answers| !answers.is_empty());
                    parameters.request_state = request_state;
                }
                _ => return Err(self.told().not_as_expected()),
            }
        }
        Err(self.told().not_as_expected())
    }

    /// One request, and what the server wants while it is under way.
    async fn call_once(
        &self,
        parameters: CallToolRequestParams,
        patience: &mut Patience,
        conversation: &dyn Conversation,
    ) -> Result<ServerResult, Trouble> {
        let (client, peer) = (self.service.service(), self.service.peer());
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(parameters));
        let handle = tokio::time::timeout(
            patience.rest(),
            peer.send_request_with_option(request, PeerRequestOptions::no_options()),
        )
        .await
        .map_err(|_| self.told().late(patience.limit))?
        .map_err(|error| self.told().failed(&error))?;
        let (sender, mut asks) = mpsc::unbounded_channel();
        let (id, token) = (handle.id.clone(), handle.progress_token.0.clone());
        client.calls.lock().extend([(id.clone(), sender.clone()), (token.clone(), sender)]);
        let mut guard = Abandoned { client, peer: peer.clone(), id, token, is_over: false };
        let response = handle.await_response();
        tokio::pin!(response);
        loop {
            tokio::select! {
                biased;
                result = &mut response => {
                    guard.is_over = true;
                    return result.map_err(|error| self.told().failed(&error));
                }
                Some(ask) = asks.recv() => match ask {
                    Ask::Progress(mut state) => {
                        self.live.rendered().scrubber.value(&mut state);
                        conversation.progress(state.into());
                    }
                    Ask::Elicit(request, answer) => {
                        let given = patience.during(self.elicit(*request, conversation)).await;
                        // The server may have given up.
                        let _ = answer.send(given);
                    }
                },
                () = tokio::time::sleep(patience.rest()) => return Err(self.told().late(patience.limit)),
            }
        }
    }

    /// Puts a server's question to the people who follow the execution.
    async fn elicit(&self, request: ElicitRequestParams, conversation: &dyn Conversation) -> ElicitResult {
        let rendered = self.live.rendered();
        let (message, content, url) = match request {
            ElicitRequestParams::FormElicitationParams { message, requested_schema, .. } => {
                (message, serde_json::to_value(requested_schema).unwrap_or_default(), Value::Null)
            }
            ElicitRequestParams::UrlElicitationParams { message, url, .. } => {
                (message, Value::Null, Value::from(url))
            }
            _ => return ElicitResult::new(ElicitationAction::Decline),
        };
        let mut schema = json!({
            "type": "object", "required": ["action"], "additionalProperties": false,
            "properties": { "action": { "enum": ["accept", "decline", "cancel"] } },
        });
        if content.is_object() {
            schema["properties"]["content"] = content;
        }
        let mut about = json!({
            "connector_name": self.connector, "asked_by": "server", "message": message,
        });
        if !url.is_null() {
            about["url"] = url;
        }
        rendered.scrubber.value(&mut schema);
        rendered.scrubber.value(&mut about);
        let label = format!("{}: {}", self.connector, rendered.scrubber.text(&message));
        let question = Question {
            label,
            input_schema: Json::from(schema),
            about: Json::from(about),
            expires_after: None,
        };
        let Ok(answer) = conversation.ask(question).await else {
            return ElicitResult::new(ElicitationAction::Decline);
        };
        let mut answer = answer.value();
        let mut result = ElicitResult::new(match answer["action"].as_str() {
            Some("accept") => ElicitationAction::Accept,
            Some("cancel") => ElicitationAction::Cancel,
            _ => ElicitationAction::Decline,
        });
        if result.action == ElicitationAction::Accept {
            result.content = Some(answer["content"].take()).filter(|content| !content.is_null());
        }
        result
    }
}

/// A time limit that stands still while people are asked.
struct Patience {
    limit: Duration,
    until: tokio::time::Instant,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { limit, until: tokio::time::Instant::now() + limit }
    }

    fn rest(&self) -> Duration {
        self.until.saturating_duration_since(tokio::time::Instant::now())
    }

    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let began = tokio::time::Instant::now();
        let done = work.await;
        self.until += began.elapsed();
        done
    }
}

/// What errors may say.
struct Told<'a> {
    connector: &'a str,
    host: &'a str,
    credential: Option<&'a str>,
    live: &'a Live,
}

impl Told<'_> {
    fn late(&self, limit: Duration) -> Trouble {
        let Self { connector, host, .. } = self;
        let message = format!("the server of connector '{connector}' ({host}) took longer than {limit:?}");
        Trouble { error: ConnectorsError::Timeout(message), again: Again::IfIdempotent }
    }

    fn not_as_expected(&self) -> Trouble {
        let Self { connector, host, .. } = self;
        let message =
            format!("the server of connector '{connector}' ({host}) does not speak MCP as expected");
        ConnectorsError::Upstream(message).into()
    }

    fn not_opened(&self, error: &ClientInitializeError) -> Trouble {
        match error {
            ClientInitializeError::JsonRpcError(error) => self.answered(error.code.0, &error.message).into(),
            // Nothing has been done yet.
            other => match self.sent(other) {
                Trouble { error, again: Again::IfIdempotent } => Trouble { error, again: Again::Always },
                trouble => trouble,
            },
        }
    }

    fn failed(&self, error: &ServiceError) -> Trouble {
        match error {
            ServiceError::McpError(error) => self.answered(error.code.0, &error.message).into(),
            other => self.sent(other),
        }
    }

    /// The server answered with an error of its own.
    fn answered(&self, code: i32, message: &str) -> ConnectorsError {
        let message: String = self.live.rendered().scrubber.text(message).chars().take(300).collect();
        let Self { connector, host, .. } = self;
        let text =
            format!("the server of connector '{connector}' ({host}) answered with error {code}: {message}");
        match code {
            -32602 => ConnectorsError::invalid("/arguments", text),
            _ => ConnectorsError::Upstream(text),
        }
    }

    /// The request did not get through. Only a code and a host are told: the error's own text may hold an address.
    fn sent(&self, error: &(dyn std::error::Error + 'static)) -> Trouble {
        let Self { connector, host, credential, .. } = self;
        match cause(error) {
            Cause::Refused => ConnectorsError::Unauthorized(refused(connector, host, *credential)).into(),
            Cause::Status(code, retry_after) => status(connector, host, code, retry_after.as_deref()),
            Cause::Timeout => {
                let message =
                    format!("the server of connector '{connector}' ({host}) did not answer in time");
                Trouble { error: ConnectorsError::Timeout(message), again: Again::IfIdempotent }
            }
            Cause::Unreachable => Trouble {
                error: ConnectorsError::Upstream(format!(
                    "the server of connector '{connector}' ({host}) cannot be reached"
                )),
                again: Again::Always,
            },
            Cause::Other => self.not_as_expected(),
        }
    }
}

/// A server did not accept what authenticates.
pub(crate) fn refused(connector: &str, host: &str, credential: Option<&str>) -> String {
    match credential {
        Some(name) => format!(
            "the server of connector '{connector}' ({host}) refused the credential '{name}': store a valid one with \
             `airlock credentials set {connector} {name}`"
        ),
        None => bearer_required(connector),
    }
}

/// The words of contract/preflight.md.
pub(crate) fn bearer_required(connector: &str) -> String {
    format!(
        "Connector '{connector}' requires bearer authentication but no credentials are configured. Create credentials \
         for this connector before running the workflow."
    )
}

/// Begins a session.
async fn serve(
    connector: &str,
    sender: &Sender,
    lifecycle: ClientLifecycleMode,
) -> Result<RunningService<RoleClient, Client>, ClientInitializeError> {
    let sender = sender.for_session();
    // The sender knows the address; what rmcp is given is a name for its log lines.
    let config = StreamableHttpClientTransportConfig::with_uri(format!("connector:{connector}"));
    let transport = StreamableHttpClientTransport::with_client(sender.clone(), config);
    let service = rmcp::service::serve_client_with_lifecycle(Client::default(), transport, lifecycle).await?;
    sender.hears().await;
    Ok(service)
}

/// Whether a session could not be begun because the server did not understand the first question.
fn knows_no_discovery(error: &ClientInitializeError) -> bool {
    match error {
        ClientInitializeError::LegacyFallbackFailed { .. } | ClientInitializeError::JsonRpcError(_) => false,
        error => match cause(error) {
            Cause::Other => true,
            Cause::Status(status, _) => (400..500).contains(&status) && !matches!(status, 403 | 408 | 429),
            Cause::Refused | Cause::Timeout | Cause::Unreachable => false,
        },
    }
}

enum Cause {
    Refused,
    Status(u16, Option<String>),
    Timeout,
    Unreachable,
    Other,
}

/// The HTTP failure at the bottom of rmcp's errors.
fn cause(error: &(dyn std::error::Error + 'static)) -> Cause {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
            match error {
                StreamableHttpError::HttpStatus(error) if error.status == 401 => return Cause::Refused,
                StreamableHttpError::HttpStatus(error) => {
                    return Cause::Status(error.status, error.retry_after.clone());
                }
                StreamableHttpError::Client(error) => return of_request(error),
                _ => {}
            }
        }
        if let Some(error) = error.downcast_ref::<reqwest::Error>() {
            return of_request(error);
        }
        // rmcp's own enums do not name their sources.
        next = match (error.downcast_ref::<ClientInitializeError>(), error.downcast_ref::<ServiceError>()) {
            (Some(ClientInitializeError::TransportError { error, .. }), _) => Some(error),
            (Some(ClientInitializeError::LegacyFallbackFailed { fallback, .. }), _) => Some(&**fallback),
            (_, Some(ServiceError::TransportSend(error))) => Some(error),
            _ => error.source(),
        };
    }
    Cause::Other
}

fn of_request(error: &reqwest::Error) -> Cause {
    match error.status() {
        Some(status) if status == http::StatusCode::UNAUTHORIZED => Cause::Refused,
        Some(status) => Cause::Status(status.as_u16(), None),
        None if error.is_connect() => Cause::Unreachable,
        None if error.is_timeout() => Cause::Timeout,
        None => Cause::Other,
    }
}
