//! A server that answers by a script, for tests.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use airlock_engine::tools::Silence;
use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use url::Url;

use super::{Key, Opening, Session, Sessions};
use crate::{
    egress::{Egress, Live, address::Allowed, secret::Secret},
    protocol::{
        service::{CALL_LIMIT, Call, Service as _},
        trouble::{Sent, Trouble},
    },
};

/// The credential of all sessions.
pub(super) const TOKEN: &str = "token-of-somebody-123";

/// A request, as a script sees it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Method of HTTP.
    pub(super) method: String,
    pub(super) path: String,
    /// Method of JSON-RPC; empty if there is none.
    pub(super) rpc: String,
    pub(super) message: Value,
    pub(super) headers: BTreeMap<String, String>,
    raw: http::HeaderMap,
}

impl Seen {
    /// A header as it came.
    pub(super) fn raw(&self, name: &str) -> Option<&[u8]> {
        self.raw.get(name).map(http::HeaderValue::as_bytes)
    }

    pub(super) fn session(&self) -> Option<&str> {
        self.headers.get("mcp-session-id").map(String::as_str)
    }
}

/// What a script answers.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    /// Pieces of the body, each sent by itself; a body that never ends if `hangs`.
    pub(super) body: Vec<Vec<u8>>,
    pub(super) hangs: bool,
    /// What comes behind them, as it comes.
    pub(super) later: Option<mpsc::UnboundedReceiver<Vec<u8>>>,
}

impl Reply {
    pub(super) fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type", kind.to_owned())];
        Self { status, headers, body: vec![body.into()], hangs: false, later: None }
    }

    pub(super) fn json(body: &Value) -> Self {
        Self::new(200, "application/json", body.to_string())
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), hangs: false, later: None }
    }

    /// Events that somebody sends.
    pub(super) fn spoken() -> (mpsc::UnboundedSender<Vec<u8>>, Self) {
        let (sender, later) = mpsc::unbounded_channel();
        (sender, Self { later: Some(later), ..events(": hello\n\n") })
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    fn response(self) -> Response {
        let pieces = self.body.into_iter().map(|piece| Ok::<_, std::io::Error>(bytes::Bytes::from(piece)));
        let later = futures::stream::unfold(self.later, |later| async move {
            let mut later = later?;
            Some((Ok(bytes::Bytes::from(later.recv().await?)), Some(later)))
        });
        let pieces = futures::StreamExt::chain(futures::stream::iter(pieces), later);
        let body = match self.hangs {
            true => Body::from_stream(futures::StreamExt::chain(pieces, futures::stream::pending())),
            false => Body::from_stream(pieces),
        };
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value.as_bytes());
        }
        response.body(body).expect("a response").into_response()
    }
}

/// A running server. It ends with the test.
pub(super) struct Server {
    pub(super) url: Url,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(super) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (log, script) = (Arc::clone(&seen), Arc::new(script));
        let answer = move |request: Request| {
            let (log, script) = (Arc::clone(&log), Arc::clone(&script));
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
                let message: Value = serde_json::from_slice(&body).unwrap_or_default();
                let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
                let request = Seen {
                    method: head.method.to_string(),
                    path: head.uri.path().to_owned(),
                    rpc: message["method"].as_str().unwrap_or_default().to_owned(),
                    message,
                    headers: head
                        .headers
                        .iter()
                        .map(|(name, value)| (name.to_string(), text(value)))
                        .collect(),
                    raw: head.headers.clone(),
                };
                log.lock().push(request.clone());
                script(&request).response()
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url: url.parse().expect("an address"), seen }
    }

    /// What was asked so far, as `METHOD rpc`.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(super) fn count(&self, rpc: &str) -> usize {
        self.seen.lock().iter().filter(|seen| seen.rpc == rpc).count()
    }

    /// What opens a session.
    pub(super) fn opening(&self) -> Opening {
        let secret = Secret { bearer: Some(TOKEN.into()), ..Secret::default() };
        let live = Live::new(secret.render(&[], &[]).expect("renders"));
        let egress = Egress::new(Allowed { loopback: true, private_networks: false }).expect("a client");
        let sender = egress.sender(&self.url, live);
        let credential = Some(Sent { name: "main".into(), remedy: "store another".into() });
        Opening { connector: "odd".into(), host: "odd.test".into(), credential, sender }
    }

    pub(super) async fn session(&self) -> Result<Arc<Session>, Trouble> {
        let key: Key = ("odd".into(), 1, None);
        Sessions::default().get(&key, || self.opening()).await
    }
}

/// A server without sessions of 2025-06-18.
pub(super) fn plain(seen: &Seen) -> Reply {
    let result = match seen.rpc.as_str() {
        "initialize" => json!({
            "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
            "serverInfo": { "name": "t", "version": "1" },
        }),
        "tools/list" => json!({ "tools": [{
            "name": "echo", "description": "Says it again.",
            "inputSchema": { "type": "object", "properties": { "message": { "type": "string" } } },
        }] }),
        "tools/call" => json!({ "content": [{ "type": "text", "text": "ok" }] }),
        "" if seen.method == "GET" => return Reply::empty(405),
        rpc if rpc.starts_with("notifications/") => return Reply::empty(202),
        "" => return Reply::empty(200),
        _ => {
            let error = json!({ "code": -32601, "message": "Method not found" });
            return Reply::json(&json!({ "jsonrpc": "2.0", "id": seen.message["id"], "error": error }));
        }
    };
    Reply::json(&answer(seen, &result))
}

/// Server-sent events.
pub(super) fn events(text: &str) -> Reply {
    Reply::new(200, "text/event-stream", text)
}

pub(super) fn answer(seen: &Seen, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": seen.message["id"], "result": result })
}

/// Calls `echo`.
pub(super) async fn call(session: &Session) -> Result<Value, Trouble> {
    call_within(session, CALL_LIMIT).await
}

/// The same with a limit.
pub(super) async fn call_within(session: &Session, limit: Duration) -> Result<Value, Trouble> {
    call_with(session, &Map::from_iter([("message".to_owned(), "hi".into())]), limit).await
}

/// The same with other arguments.
pub(super) async fn call_with(
    session: &Session,
    arguments: &Map<String, Value>,
    limit: Duration,
) -> Result<Value, Trouble> {
    let call = Call {
        tool: "echo",
        arguments,
        idempotency_key: None,
        limit,
        max_bytes: 1 << 20,
        conversation: &Silence,
    };
    // The limit of the call itself is minutes: nothing here may come near it.
    tokio::time::timeout(Duration::from_secs(100), session.call(&call))
        .await
        .expect("is told at once")
        .map(|answered| answered.value)
}

/// What an answer says in its first block, or what the error says.
pub(super) fn words(answered: Result<Value, Trouble>) -> String {
    match answered {
        Ok(answer) => answer["content"][0]["text"].as_str().unwrap_or_default().to_owned(),
        Err(trouble) => {
            let told = trouble.error.to_string();
            assert!(!told.contains(TOKEN), "{told}");
            told
        }
    }
}
