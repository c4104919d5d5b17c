//! `airlock demo-server`: a small MCP server that wants a bearer token, written with rmcp's server side. It keeps issues
//! in memory, and has a tool that tells the headers of its own request, to show that a token does not come back.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{Request, State},
    http::{
        StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
        ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::ended::Ended;

/// How to run the demo server.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A variable with the token that callers must send. Without a token everybody may call.
    #[arg(long, conflicts_with = "token_file")]
    token_env: Option<String>,
    /// A file with that token.
    #[arg(long)]
    token_file: Option<PathBuf>,
}

/// Runs the server until it is interrupted.
pub(crate) async fn main(arguments: Arguments) -> anyhow::Result<Ended> {
    let token = match (&arguments.token_env, &arguments.token_file) {
        (Some(name), _) => {
            Some(std::env::var(name).with_context(|| format!("the variable {name} is not set"))?)
        }
        (None, Some(file)) => Some(
            std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?,
        ),
        (None, None) => None,
    };
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    println!("listening on http://{}/mcp", listener.local_addr()?);
    let router = router(token.map(|token| token.trim().to_owned()));
    axum::serve(listener, router).await.context("the socket failed")?;
    Ok(Ended::Well)
}

fn router(token: Option<String>) -> Router {
    let issues = Issues::default();
    let service = StreamableHttpService::new(
        move || Ok(issues.clone()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let expected: Option<Arc<str>> = token.map(|token| format!("Bearer {token}").into());
    Router::new().nest_service("/mcp", service).layer(middleware::from_fn_with_state(expected, authorize))
}

async fn authorize(State(expected): State<Option<Arc<str>>>, request: Request, next: Next) -> Response {
    let sent = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    match expected {
        Some(expected) if sent != Some(expected.as_bytes()) => {
            let challenge = [(WWW_AUTHENTICATE, "Bearer realm=\"airlock demo\"")];
            (StatusCode::UNAUTHORIZED, challenge, "a bearer token is needed").into_response()
        }
        _ => next.run(request).await,
    }
}

/// The issues that were written since the start.
#[derive(Clone, Default)]
struct Issues(Arc<Mutex<Vec<Value>>>);

fn tool(name: &'static str, about: &'static str, properties: Value, required: &[&str]) -> Tool {
    let schema = json!({ "type": "object", "properties": properties, "required": required });
    Tool::new(name, about, schema.as_object().cloned().unwrap_or_default())
}

impl Issues {
    fn write(&self, arguments: &Value) -> CallToolResult {
        if arguments["method"] != "create" {
            return CallToolResult::error(vec![ContentBlock::text("method: only 'create' is known here")]);
        }
        let mut issues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let field = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
        let number = issues.len() + 1;
        let url = format!("https://git.example/{}/{}/issues/{number}", field("owner"), field("repo"));
        let issue = json!({ "number": number, "url": url, "title": field("title"), "body": field("body") });
        issues.push(issue.clone());
        CallToolResult::structured(json!({ "number": number, "url": issue["url"] }))
    }
}

impl ServerHandler for Issues {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().build();
        info.server_info = Implementation::new("airlock-demo", env!("CARGO_PKG_VERSION"));
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let text = || json!({ "type": "string" });
        let issue = json!({
            "method": text(), "owner": text(), "repo": text(), "title": text(), "body": text(),
        });
        let tools = vec![
            tool("issue_write", "Writes an issue.", issue, &["method", "owner", "repo", "title"]),
            tool("issue_list", "Lists the issues that were written.", json!({}), &[]),
            tool("headers_echo", "Tells the headers of its own request.", json!({}), &[]),
            tool(
                "slow",
                "Answers after so many milliseconds.",
                json!({ "ms": { "type": "integer" } }),
                &["ms"],
            ),
        ];
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let result = match request.name.as_ref() {
            "issue_write" => self.write(&arguments),
            "issue_list" => {
                let issues = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
                CallToolResult::structured(json!({ "issues": issues }))
            }
            "headers_echo" => {
                let parts = context.extensions.get::<http::request::Parts>();
                let headers = parts.map(|parts| parts.headers.iter()).into_iter().flatten();
                let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                let headers: serde_json::Map<String, Value> =
                    headers.map(|(name, value)| (name.to_string(), text(value).into())).collect();
                CallToolResult::structured(Value::Object(headers))
            }
            "slow" => {
                let ms = arguments["ms"].as_u64().unwrap_or(0).min(600_000);
                tokio::time::sleep(Duration::from_millis(ms)).await;
                CallToolResult::success(vec![ContentBlock::text(format!("waited {ms} ms"))])
            }
            other => return Err(ErrorData::invalid_params(format!("there is no tool '{other}'"), None)),
        };
        Ok(result.into())
    }
}
