//! MCP sessions: one for each connector and credential, kept while they are used.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rmcp::{
    RoleClient, ServiceError,
    model::{CallToolRequestParams, ClientConfig, Implementation, PaginatedRequestParams, RequestMetaObject},
    service::{ClientInitializeError, RunningService},
    transport::{
        StreamableHttpClientTransport,
        streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError},
    },
};
use serde_json::{Map, Value, json};

use crate::{ConnectorsError, egress::Sender, scrub::Scrubber};

/// contract/preflight.md: a call may take 120 s, a list 30 s.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(120);
pub(crate) const LIST_LIMIT: Duration = Duration::from_secs(30);

/// A server may name so many tools on so many pages (THREATS row 22).
const MAX_PAGES: usize = 50;
const MAX_TOOLS: usize = 2_000;

/// How long a list of tools is good for.
const LIST_AGE: Duration = Duration::from_secs(300);

/// A session that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// What a session belongs to: connector, its version, credential, its version.
pub(crate) type Key = (String, u32, Option<(String, u32)>);

/// All sessions.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<Key, Entry>>);

struct Entry {
    used: Instant,
    /// One task opens a session; others that want it wait for that.
    session: Arc<tokio::sync::Mutex<Option<Arc<Session>>>>,
}

/// How to open a session: the sender and what scrubs its answers.
pub(crate) struct Opening {
    pub(crate) connector: String,
    pub(crate) host: String,
    pub(crate) credential: Option<String>,
    pub(crate) sender: Sender,
    pub(crate) scrubber: Scrubber,
}

impl Sessions {
    /// The session for a key, opened if there is none.
    pub(crate) async fn get(
        &self,
        key: &Key,
        open: impl FnOnce() -> Result<Opening, ConnectorsError>,
    ) -> Result<Arc<Session>, ConnectorsError> {
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
        let opened = Arc::new(Session::open(open()?).await?);
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
    scrubber: Scrubber,
    service: RunningService<RoleClient, ClientConfig>,
    tools: Mutex<Option<(Instant, Arc<Tools>)>>,
}

/// The tools of a server, with what checks their arguments.
pub(crate) struct Tools {
    pub(crate) list: Vec<Value>,
    validators: Mutex<HashMap<String, Arc<jsonschema::Validator>>>,
}

impl Session {
    async fn open(opening: Opening) -> Result<Self, ConnectorsError> {
        let Opening { connector, host, credential, sender, scrubber } = opening;
        // The sender knows the address; what rmcp is given is a name for its log lines.
        let config = StreamableHttpClientTransportConfig::with_uri(format!("connector:{connector}"));
        let transport = StreamableHttpClientTransport::with_client(sender, config);
        let mut info = ClientConfig::default();
        info.client_info = Implementation::new("airlock", env!("CARGO_PKG_VERSION"));
        let told = Told {
            connector: &connector,
            host: &host,
            credential: credential.as_deref(),
            scrubber: &scrubber,
        };
        let service = match tokio::time::timeout(LIST_LIMIT, rmcp::serve_client(info, transport)).await {
            Ok(Ok(service)) => service,
            Ok(Err(error)) => return Err(told.not_opened(&error)),
            Err(_) => return Err(told.late(LIST_LIMIT)),
        };
        Ok(Self { connector, host, credential, scrubber, service, tools: Mutex::new(None) })
    }

    fn told(&self) -> Told<'_> {
        let (connector, host) = (&self.connector, &self.host);
        Told { connector, host, credential: self.credential.as_deref(), scrubber: &self.scrubber }
    }

    /// The tools, scrubbed; from memory unless they are old or `refresh` is set.
    pub(crate) async fn tools(&self, refresh: bool) -> Result<Arc<Tools>, ConnectorsError> {
        if let Some((at, tools)) = &*self.tools.lock()
            && !refresh
            && at.elapsed() < LIST_AGE
        {
            return Ok(Arc::clone(tools));
        }
        let listed = tokio::time::timeout(LIST_LIMIT, self.list_pages()).await;
        let list = listed.map_err(|_| self.told().late(LIST_LIMIT))??;
        let tools = Arc::new(Tools { list, validators: Mutex::default() });
        *self.tools.lock() = Some((Instant::now(), Arc::clone(&tools)));
        Ok(tools)
    }

    async fn list_pages(&self) -> Result<Vec<Value>, ConnectorsError> {
        let (mut list, mut cursor) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let parameters = PaginatedRequestParams::default().with_cursor(cursor.take());
            let page = self
                .service
                .list_tools(Some(parameters))
                .await
                .map_err(|error| self.told().failed(&error))?;
            for tool in page.tools {
                let mut tool = serde_json::to_value(tool)?;
                self.scrubber.value(&mut tool);
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
            return Err(ConnectorsError::Upstream(message));
        }
        Ok(list)
    }

    /// Calls a tool and gives its answer as `{content, metadata}` (contract: `ConnectorToolCallResponse`), scrubbed.
    pub(crate) async fn call(
        &self,
        tool: &str,
        arguments: Map<String, Value>,
        idempotency_key: Option<&str>,
    ) -> Result<Value, ConnectorsError> {
        let mut parameters = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        if let Some(key) = idempotency_key {
            let mut meta = RequestMetaObject::default();
            meta.0.0.insert("airlock/idempotency-key".into(), key.into());
            parameters.meta = Some(meta);
        }
        tracing::trace!(connector = self.connector, tool, "a tool is called");
        let called = tokio::time::timeout(CALL_LIMIT, self.service.call_tool(parameters)).await;
        let result =
            called.map_err(|_| self.told().late(CALL_LIMIT))?.map_err(|error| self.told().failed(&error))?;
        let mut result = serde_json::to_value(result)?;
        let mut meta = json!({ "isError": result["isError"].as_bool().unwrap_or(false) });
        for key in ["structuredContent", "_meta"] {
            if result[key].is_object() {
                meta[key] = result[key].take();
            }
        }
        let mut answer = json!({ "content": result["content"].take(), "metadata": { "mcp_meta": meta } });
        self.scrubber.value(&mut answer);
        Ok(answer)
    }
}

impl Tools {
    /// Checks a call before anything is sent.
    pub(crate) fn check(
        &self,
        connector: &str,
        tool: &str,
        arguments: &Value,
    ) -> Result<(), ConnectorsError> {
        let Some(described) = self.list.iter().find(|described| described["name"] == tool) else {
            let message = format!(
                "connector '{connector}' has no tool '{tool}': see `airlock connectors tools {connector}` for those it has"
            );
            return Err(ConnectorsError::NotFound(message));
        };
        let known = self.validators.lock().get(tool).cloned();
        let validator = match known {
            Some(validator) => validator,
            // A server whose schema is broken checks by itself.
            None => match jsonschema::validator_for(&described["inputSchema"]) {
                Ok(validator) => {
                    let validator = Arc::new(validator);
                    self.validators.lock().insert(tool.to_owned(), Arc::clone(&validator));
                    validator
                }
                Err(_) => return Ok(()),
            },
        };
        match validator.iter_errors(arguments).next() {
            None => Ok(()),
            Some(problem) => {
                let place = problem.instance_path().to_string();
                let message = format!(
                    "the arguments of '{tool}' do not match its schema: {place} {}",
                    problem.masked()
                );
                Err(ConnectorsError::Invalid { pointer: format!("/arguments{place}"), message })
            }
        }
    }
}

/// What errors may say.
struct Told<'a> {
    connector: &'a str,
    host: &'a str,
    credential: Option<&'a str>,
    scrubber: &'a Scrubber,
}

impl Told<'_> {
    fn late(&self, limit: Duration) -> ConnectorsError {
        let Self { connector, host, .. } = self;
        ConnectorsError::Timeout(format!(
            "the server of connector '{connector}' ({host}) took longer than {limit:?}"
        ))
    }

    fn not_opened(&self, error: &ClientInitializeError) -> ConnectorsError {
        match error {
            ClientInitializeError::JsonRpcError(error) => self.answered(error.code.0, &error.message),
            other => self.sent(other),
        }
    }

    fn failed(&self, error: &ServiceError) -> ConnectorsError {
        match error {
            ServiceError::McpError(error) => self.answered(error.code.0, &error.message),
            other => self.sent(other),
        }
    }

    /// The server answered with an error of its own.
    fn answered(&self, code: i32, message: &str) -> ConnectorsError {
        let message: String = self.scrubber.text(message).chars().take(300).collect();
        let Self { connector, host, .. } = self;
        let text =
            format!("the server of connector '{connector}' ({host}) answered with error {code}: {message}");
        match code {
            -32602 => ConnectorsError::invalid("/arguments", text),
            _ => ConnectorsError::Upstream(text),
        }
    }

    /// The request did not get through. Only a code and a host are told: the error's own text may hold an address.
    fn sent(&self, error: &(dyn std::error::Error + 'static)) -> ConnectorsError {
        let Self { connector, host, credential, .. } = self;
        let refused = match credential {
            Some(name) => format!(
                "the server of connector '{connector}' ({host}) refused the credential '{name}': store a valid one with \
                 `airlock credentials set {connector} {name}`"
            ),
            None => format!(
                "Connector '{connector}' requires bearer authentication but no credentials are configured. Create \
                 credentials for this connector before running the workflow."
            ),
        };
        match cause(error) {
            Cause::Refused => ConnectorsError::Unauthorized(refused),
            Cause::Status(status) => ConnectorsError::Upstream(format!(
                "the server of connector '{connector}' ({host}) answered with HTTP status {status}"
            )),
            Cause::Timeout => ConnectorsError::Timeout(format!(
                "the server of connector '{connector}' ({host}) did not answer in time"
            )),
            Cause::Unreachable => ConnectorsError::Upstream(format!(
                "the server of connector '{connector}' ({host}) cannot be reached"
            )),
            Cause::Other => ConnectorsError::Upstream(format!(
                "the server of connector '{connector}' ({host}) does not speak MCP as expected"
            )),
        }
    }
}

enum Cause {
    Refused,
    Status(u16),
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
                StreamableHttpError::HttpStatus(error) => return Cause::Status(error.status),
                StreamableHttpError::Client(error) => return of_request(error),
                _ => {}
            }
        }
        if let Some(error) = error.downcast_ref::<reqwest::Error>() {
            return of_request(error);
        }
        next = match error.downcast_ref::<ClientInitializeError>() {
            Some(ClientInitializeError::TransportError { error, .. }) => Some(error),
            _ => error.source(),
        };
    }
    Cause::Other
}

fn of_request(error: &reqwest::Error) -> Cause {
    match error.status() {
        Some(status) if status == http::StatusCode::UNAUTHORIZED => Cause::Refused,
        Some(status) => Cause::Status(status.as_u16()),
        None if error.is_connect() => Cause::Unreachable,
        None if error.is_timeout() => Cause::Timeout,
        None => Cause::Other,
    }
}
