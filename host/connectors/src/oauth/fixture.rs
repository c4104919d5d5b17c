//! An HTTP server for tests: it answers as it was told and remembers what it was asked.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Server, exchange::Exchange};
use crate::egress::address::Allowed;

pub(crate) const LOOPBACK: Allowed = Allowed { loopback: true, private_networks: false };

/// What sends in tests: the client that the product has.
pub(crate) fn wire() -> Arc<dyn Exchange> {
    Arc::new(crate::egress::Egress::new(LOOPBACK).expect("a client"))
}

/// A server on a port of its own.
pub(crate) struct Fixture {
    pub(crate) origin: String,
    known: Arc<Known>,
}

#[derive(Default)]
struct Known {
    answers: Mutex<HashMap<String, Answer>>,
    otherwise: Mutex<Option<Answer>>,
    seen: Mutex<Vec<Seen>>,
}

#[derive(Clone)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    endless: bool,
    silent: bool,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `METHOD /path`
    pub(crate) what: String,
    pub(crate) authorization: Option<String>,
    body: Vec<u8>,
}

impl Seen {
    /// The fields of a form.
    pub(crate) fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

impl Fixture {
    /// Answers everything with 404 until it is told better.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let known = Arc::new(Known::default());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&known));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { origin, known }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Answers `METHOD /path` with a JSON text.
    pub(crate) fn on(&self, what: &str, status: u16, body: impl Into<String>) {
        self.set(what, status, vec![("content-type", "application/json".into())], body.into());
    }

    pub(crate) fn redirect(&self, what: &str, status: u16, location: &str) {
        self.set(what, status, vec![("location", location.into())], String::new());
    }

    pub(crate) fn challenge(&self, what: &str, status: u16, challenge: &str) {
        self.set(what, status, vec![("www-authenticate", challenge.into())], String::new());
    }

    fn set(&self, what: &str, status: u16, headers: Vec<(&'static str, String)>, body: String) {
        let answer = Answer { status, headers, body, endless: false, silent: false };
        self.known.answers.lock().insert(what.into(), answer);
    }

    /// An event stream that says nothing and does not end.
    pub(crate) fn endless_events(&self, what: &str) {
        let headers = vec![("content-type", "text/event-stream".into())];
        let answer = Answer { status: 200, headers, body: String::new(), endless: true, silent: false };
        self.known.answers.lock().insert(what.into(), answer);
    }

    /// Never answers.
    pub(crate) fn silent(&self, what: &str) {
        let answer =
            Answer { status: 200, headers: Vec::new(), body: String::new(), endless: false, silent: true };
        self.known.answers.lock().insert(what.into(), answer);
    }

    /// Answers everything that it was not told about with this instead of 404.
    pub(crate) fn otherwise(&self, status: u16, content_type: &str, body: &str) {
        let headers = vec![("content-type", content_type.to_owned())];
        let answer = Answer { status, headers, body: body.into(), endless: false, silent: false };
        *self.known.otherwise.lock() = Some(answer);
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.known.seen.lock().clone()
    }

    /// The newest request of a kind.
    pub(crate) fn last(&self, what: &str) -> Seen {
        let seen = self.seen();
        seen.into_iter().rfind(|seen| seen.what == what).unwrap_or_else(|| panic!("{what} was not asked"))
    }

    /// Metadata with the endpoints of this server.
    pub(crate) fn metadata(&self) -> Value {
        json!({
            "issuer": self.origin,
            "authorization_endpoint": self.url("/authorize"),
            "token_endpoint": self.url("/token"),
            "registration_endpoint": self.url("/register"),
            "revocation_endpoint": self.url("/revoke"),
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        })
    }

    /// [`Fixture::metadata`] with some members replaced, and validated.
    pub(crate) fn server(&self, changes: Value) -> Server {
        Server::provided(&merged(self.metadata(), changes), LOOPBACK).expect("valid metadata")
    }
}

/// An object with some members replaced.
pub(crate) fn merged(mut object: Value, changes: Value) -> Value {
    let (Value::Object(members), Value::Object(changes)) = (&mut object, changes) else { return object };
    members.extend(changes);
    object
}

async fn answer(State(known): State<Arc<Known>>, request: Request) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    let authorization = request.headers().get("authorization");
    let authorization = authorization.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body: Bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    known.seen.lock().push(Seen { what: what.clone(), authorization, body: body.to_vec() });
    let answer = known.answers.lock().get(&what).cloned();
    let answer = answer.or_else(|| known.otherwise.lock().clone());
    let mut response = Response::new(Body::empty());
    let Some(answer) = answer else {
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        return response;
    };
    if answer.silent {
        futures::future::pending::<()>().await;
    }
    *response.status_mut() = http::StatusCode::from_u16(answer.status).expect("a status");
    for (name, value) in &answer.headers {
        response.headers_mut().insert(*name, value.parse().expect("a header"));
    }
    *response.body_mut() = match answer.endless {
        true => Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>()),
        false => Body::from(answer.body),
    };
    response
}
