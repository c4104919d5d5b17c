//! Servers that a test writes itself, for what no honest server does.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// What a server answers instead of a result.
pub enum Fault {
    /// A JSON-RPC error with this message.
    Error(String),
    /// A whole HTTP response.
    Http(Box<Response>),
}

/// A server on a port of its own, which ends with this value.
pub struct Service {
    /// Scheme, host and port.
    pub origin: String,
    task: JoinHandle<()>,
}

impl Service {
    /// Serves these routes.
    pub async fn start(router: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { origin, task }
    }

    /// An MCP server at `/mcp`. The function is given the method, the parameters and the head of each request that is
    /// not of the handshake, and gives the result.
    pub async fn mcp<F>(answer: F) -> Self
    where
        F: Fn(&str, &Value, &Parts) -> Result<Value, Fault> + Send + Sync + 'static,
    {
        let answer = Arc::new(answer);
        let handle = move |head: Parts, body: Bytes| {
            let answer = Arc::clone(&answer);
            async move { speak_mcp(&*answer, &head, &body) }
        };
        Self::start(Router::new().route("/mcp", post(handle))).await
    }

    /// An address on this server.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tools by these names, which take any arguments.
pub fn tools(names: &[&str]) -> Value {
    let tool = |name: &&str| json!({ "name": name, "description": "of a test", "inputSchema": { "type": "object" } });
    json!({ "tools": names.iter().map(tool).collect::<Vec<_>>() })
}

/// What an MCP tool answers when it has only text to tell.
pub fn text_result(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

fn speak_mcp(
    answer: &dyn Fn(&str, &Value, &Parts) -> Result<Value, Fault>,
    head: &Parts,
    body: &[u8],
) -> Response {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let (id, method) = (&request["id"], request["method"].as_str().unwrap_or_default());
    if id.is_null() {
        return StatusCode::ACCEPTED.into_response();
    }
    let result = match method {
        "initialize" => Ok(json!({
            "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
            "serverInfo": { "name": "of-a-test", "version": "1" },
        })),
        "tools/list" | "tools/call" => answer(method, &request["params"], head),
        other => Err(Fault::Error(format!("there is no method {other}"))),
    };
    match result {
        Ok(result) => Json(json!({ "jsonrpc": "2.0", "id": id, "result": result })).into_response(),
        Err(Fault::Error(message)) => {
            let error = json!({ "code": -32601, "message": message });
            Json(json!({ "jsonrpc": "2.0", "id": id, "error": error })).into_response()
        }
        Err(Fault::Http(response)) => *response,
    }
}
