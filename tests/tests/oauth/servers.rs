//! The OAuth servers that others wrote, and a server for tools that takes their tokens.

use std::{
    process::Command,
    sync::{Arc, Mutex},
};

use airlock_tests::{Server, Service, dependency, root, text_result};
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

/// The secret of the programs that `oidc-provider` knows.
pub const PROGRAM_SECRET: &str = "secret-of-a-program-0123456789abcdef";

/// An authorization server.
pub struct Issuer {
    server: Server,
    http: reqwest::Client,
}

impl Issuer {
    /// `oidc-provider`; its access tokens live so many seconds.
    pub async fn oidc(life: u32, program: Option<&str>) -> Self {
        let life = life.to_string();
        Self::start("oidc-provider.mjs", &[&life], program).await
    }

    /// `oauth2-mock-server`, which does what it is told.
    pub async fn mock() -> Self {
        Self::start("oauth2-mock.mjs", &[], None).await
    }

    async fn start(script: &str, arguments: &[&str], program: Option<&str>) -> Self {
        let folder = dependency("oauth");
        let server = Server::start(script, |port| {
            let mut command = Command::new("node");
            command.arg(root().join("tests/servers").join(script)).arg(folder).arg(port.to_string());
            command.args(arguments);
            command.envs(program.map(|key| ("PROGRAM_JWK", key)));
            command
        })
        .await;
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { server, http }
    }

    pub fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    /// What was asked of it.
    pub async fn seen(&self) -> Vec<Value> {
        let answer = self.http.get(self.url("/-/seen")).send().await.expect("the server answers");
        answer.json().await.expect("a list")
    }

    /// How often tokens were asked for with a grant.
    pub async fn grants(&self, grant: &str) -> usize {
        self.seen().await.iter().filter(|seen| seen["grant"] == grant).count()
    }

    /// Tells it what to do: `next`, `always` or `release`.
    pub async fn tell(&self, what: &str, body: Value) {
        let request = self.http.post(self.url(&format!("/-/{what}"))).json(&body);
        request.send().await.expect("the server answers");
    }
}

/// An MCP server with a door: it names its authorization server, and lets tokens in that are good.
pub struct Tools {
    pub service: Service,
    door: Arc<Door>,
}

struct Door {
    /// Where tokens come from.
    issuer: Mutex<String>,
    /// Tokens are looked up there; else all are good but those that are refused.
    introspects: bool,
    http: reqwest::Client,
    own: Mutex<String>,
    refused: Mutex<Vec<String>>,
    /// Tokens of calls, in their order.
    calls: Mutex<Vec<String>>,
}

impl Tools {
    /// For an issuer that tells about its tokens.
    pub async fn introspecting(issuer: &Issuer) -> Self {
        Self::start(issuer.url(""), true).await
    }

    /// For an issuer that does not: every token is good until it is refused.
    pub async fn trusting(issuer: &Issuer) -> Self {
        Self::start(issuer.url(""), false).await
    }

    async fn start(issuer: String, introspects: bool) -> Self {
        let door = Arc::new(Door {
            issuer: Mutex::new(issuer),
            introspects,
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            own: Mutex::default(),
            refused: Mutex::default(),
            calls: Mutex::default(),
        });
        let router = Router::new()
            .route("/.well-known/oauth-protected-resource/mcp", get(metadata))
            .route("/mcp", post(serve))
            .with_state(Arc::clone(&door));
        let service = Service::start(router).await;
        *door.own.lock().expect("no test panicked here") = service.origin.clone();
        Self { service, door }
    }

    pub fn url(&self) -> String {
        self.service.url("/mcp")
    }

    /// The tokens of all calls of tools.
    pub fn calls(&self) -> Vec<String> {
        self.door.calls.lock().expect("no test panicked here").clone()
    }

    /// From now on tokens come from another issuer, and those of the one before are refused.
    pub fn move_to(&self, issuer: &Issuer) {
        *self.door.issuer.lock().expect("no test panicked here") = issuer.url("");
        let calls = self.calls();
        calls.iter().for_each(|token| self.refuse(token));
    }

    /// From now on this token is refused, as an expired one is.
    pub fn refuse(&self, token: &str) {
        self.door.refused.lock().expect("no test panicked here").push(token.to_owned());
    }
}

impl Door {
    fn issuer(&self) -> String {
        self.issuer.lock().expect("no test panicked here").clone()
    }

    fn own(&self) -> String {
        self.own.lock().expect("no test panicked here").clone()
    }

    /// The scopes of a token; none if it is not good.
    async fn scopes(&self, token: &str) -> Option<String> {
        if self.refused.lock().expect("no test panicked here").iter().any(|refused| refused == token) {
            return None;
        }
        if !self.introspects {
            return Some("read".into());
        }
        let request = self.http.post(format!("{}/token/introspection", self.issuer()));
        let form = format!("token={token}");
        let request = request.basic_auth("basic", Some(PROGRAM_SECRET)).body(form);
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let about: Value = request.send().await.ok()?.json().await.ok()?;
        // A token for somebody else's tools is no key for these (RFC 8707).
        let is_ours = about["aud"] == format!("{}/mcp", self.own());
        (about["active"] == true && is_ours).then(|| about["scope"].as_str().unwrap_or_default().to_owned())
    }
}

async fn metadata(State(door): State<Arc<Door>>) -> Json<Value> {
    Json(json!({
        "resource": format!("{}/mcp", door.own()), "authorization_servers": [door.issuer()],
        "scopes_supported": ["read"],
    }))
}

fn refusal(door: &Door, status: StatusCode, more: &str) -> Response {
    let at = format!("{}/.well-known/oauth-protected-resource/mcp", door.own());
    let challenge = format!("Bearer resource_metadata=\"{at}\"{more}");
    (status, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
}

async fn serve(State(door): State<Arc<Door>>, headers: HeaderMap, Json(request): Json<Value>) -> Response {
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = sent.and_then(|sent| sent.strip_prefix("Bearer ")).map(str::to_owned) else {
        return refusal(&door, StatusCode::UNAUTHORIZED, "");
    };
    let Some(scopes) = door.scopes(&token).await else {
        return refusal(&door, StatusCode::UNAUTHORIZED, ", error=\"invalid_token\"");
    };
    let id = &request["id"];
    let result = match request["method"].as_str().unwrap_or_default() {
        _ if id.is_null() => return StatusCode::ACCEPTED.into_response(),
        "initialize" => json!({
            "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
            "serverInfo": { "name": "tools-of-a-test", "version": "1" },
        }),
        "tools/list" => airlock_tests::tools(&["read", "write"]),
        "tools/call" => {
            let needed = request["params"]["name"].as_str().unwrap_or_default();
            if !scopes.split(' ').any(|scope| scope == needed) {
                let more = format!(", error=\"insufficient_scope\", scope=\"{needed}\"");
                return refusal(&door, StatusCode::FORBIDDEN, &more);
            }
            door.calls.lock().expect("no test panicked here").push(token);
            text_result(&format!("done: {needed}"))
        }
        other => {
            let error = json!({ "code": -32601, "message": format!("there is no method {other}") });
            return Json(json!({ "jsonrpc": "2.0", "id": id, "error": error })).into_response();
        }
    };
    Json(json!({ "jsonrpc": "2.0", "id": id, "result": result })).into_response()
}
