//! What strangers and callers may use up of the HTTP side: the real accept loop on a socket, with short times and small
//! numbers.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use airlock_api::{ApiState, Keys, Limits, router, serve};
use airlock_connectors::{Connectors, ConnectorsConfig, Keyring, MasterKey, MasterKeySource};
use airlock_engine::{
    Digest, Engine, EngineConfig, Json, PluginDefinition, WorkflowDefinition,
    guests::{
        Activation, ActivityCall, ActivityError, ActivityHost, GuestError, Guests, PluginState, PluginStatus,
        WorkflowInit, WorkflowInstance,
    },
    history::{Command, Outcome},
    records::{Records, RecordsError},
    schedule::Scheduler,
};
use airlock_patience::LIMIT;
use airlock_store::SqliteStore;
use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
    response::Response,
};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// `echo` ends with its input, `wait` never ends.
struct Cast(Arc<PluginDefinition>);

struct Instance {
    workflow: String,
    input: Json,
}

#[async_trait]
impl WorkflowInstance for Instance {
    async fn activate(&mut self, _: Activation<'_>) -> Result<Vec<Command>, GuestError> {
        Ok(match self.workflow.as_str() {
            "echo" => vec![Command::Complete { result: self.input.clone() }],
            _ => vec![Command::StartTimer { seq: 1, duration: Duration::from_secs(3_000) }],
        })
    }

    async fn query(&mut self, _: &str, _: &Json) -> Result<Outcome, GuestError> {
        Ok(Ok(self.input.clone()))
    }
}

#[async_trait]
impl Guests for Cast {
    fn plugins(&self) -> Vec<PluginStatus> {
        let state = PluginState::Ready { definition: Arc::clone(&self.0) };
        let (digest, loaded_at) = (Digest([1; 32]), SystemTime::UNIX_EPOCH);
        vec![PluginStatus { name: "cast".into(), digest, bytes: 1, loaded_at, state }]
    }

    fn serving(&self, workflow: &str) -> Option<Digest> {
        self.0.workflow(workflow).map(|_| Digest([1; 32]))
    }

    async fn definition(&self, _: &Digest) -> Result<Arc<PluginDefinition>, GuestError> {
        Ok(Arc::clone(&self.0))
    }

    async fn create(&self, _: &Digest, init: WorkflowInit) -> Result<Box<dyn WorkflowInstance>, GuestError> {
        Ok(Box::new(Instance { workflow: init.workflow, input: init.input }))
    }

    async fn run_activity(
        &self,
        _: &Digest,
        _: ActivityCall,
        _: Arc<dyn ActivityHost>,
    ) -> Result<Json, ActivityError> {
        Ok(Json::null())
    }

    fn retain(&self, _: &HashSet<Digest>) {}
}

fn cast() -> Cast {
    let workflow = |name: &str| WorkflowDefinition {
        name: name.into(),
        display_name: None,
        description: None,
        input_schema: json!({}).into(),
        output_schema: None,
        on_behalf_of: false,
        execution_timeout: None,
        slots: Vec::new(),
        signals: Vec::new(),
        queries: Vec::new(),
        updates: Vec::new(),
        retry: None,
        search_keys: Vec::new(),
    };
    Cast(Arc::new(PluginDefinition {
        workflows: ["echo", "wait"].map(workflow).into(),
        activities: Vec::new(),
    }))
}

/// A master key that nobody changes here.
struct Fixed;

impl MasterKeySource for Fixed {
    fn next(&self) -> Result<MasterKey, String> {
        Err("it stays as it is".into())
    }

    fn commit(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What the status shows of rooms that the API does not know.
fn rooms() -> Value {
    json!({ "schemas": { "lost_threads": 1, "lost_ever": 3 } })
}

/// An API on a socket.
struct House {
    address: SocketAddr,
    router: Router,
    owner: String,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
    _folder: TempDir,
}

impl House {
    async fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keyring = Keyring::open(folder.path(), &MasterKey::from_bytes([9; 32]), None).expect("a keyring");
        let store = SqliteStore::open(folder.path(), &[7; 32]).expect("the store opens");
        let records: Arc<dyn Records> = Arc::clone(&store) as _;
        let public_url = "http://127.0.0.1:1".parse().expect("an address");
        let mut config = ConnectorsConfig::new(folder.path(), &public_url);
        config.allow_loopback = true;
        let connectors = Connectors::open(Arc::clone(&records), Arc::new(keyring), config).expect("opens");
        let keys = Keys::open(Arc::clone(&records)).expect("the keys open");
        let mut owner = String::new();
        keys.first_owner(|key| {
            owner = key.into();
            Ok::<_, RecordsError>(())
        })
        .expect("a key");
        let tools = Arc::new(connectors.clone());
        let engine =
            Engine::open(store, Arc::new(cast()), tools, EngineConfig::default()).await.expect("opens");
        let scheduler = Scheduler::open(records, Arc::new(Arc::clone(&engine))).expect("the scheduler opens");
        let state = ApiState::new(engine, scheduler, connectors, keys, Arc::new(rooms), Arc::new(Fixed))
            .with_limits(limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, router) = (listener.local_addr().expect("an address"), router(state.clone()));
        let stop = CancellationToken::new();
        let serving = serve(listener, state, stop.clone());
        let ended = tokio::spawn(async move { serving.await.expect("the socket works") });
        Self { address, router, owner, stop, ended, _folder: folder }
    }

    /// Past the socket.
    async fn answer(&self, key: &str, method: Method, path: &str, body: impl Into<Body>) -> Response {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .body(body.into())
            .expect("a request");
        self.router.clone().oneshot(request).await.expect("an answer")
    }

    async fn call(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: impl Into<Body>,
    ) -> (StatusCode, Value) {
        let response = self.answer(key, method, path, body).await;
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn key(&self, user: &str, more: Value) -> (String, String) {
        let mut body = json!({ "user": user });
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let (status, key) = self.call(&self.owner, Method::POST, "/v1/airlock/keys", body.to_string()).await;
        assert_eq!(status, StatusCode::CREATED, "{key}");
        let text = |name: &str| key[name].as_str().expect("a text").to_owned();
        (text("key"), text("id"))
    }

    async fn member(&self, user: &str) -> String {
        self.key(user, json!({})).await.0
    }

    async fn revoke(&self, id: &str) {
        let path = format!("/v1/airlock/keys/{id}");
        assert_eq!(self.call(&self.owner, Method::DELETE, &path, "").await.0, StatusCode::OK);
    }

    async fn start(&self, key: &str, workflow: &str, input: &str) -> String {
        let body = format!("{{\"input\":{input}}}");
        let path = format!("/v1/workflows/{workflow}/execute");
        let (status, answer) = self.call(key, Method::POST, &path, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["execution_id"].as_str().expect("an id").into()
    }

    async fn completed(&self, id: &str) {
        let (path, began) = (format!("/v1/workflows/runs?execution_id={id}"), Instant::now());
        loop {
            let (_, runs) = self.call(&self.owner, Method::GET, &path, "").await;
            if runs["executions"][0]["status"] == "COMPLETED" {
                return;
            }
            assert!(began.elapsed() < LIMIT, "{runs}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the status of the HTTP side is as wished.
    async fn until(&self, pointer: &str, wished: impl Fn(u64) -> bool) {
        let began = Instant::now();
        loop {
            let (_, status) = self.call(&self.owner, Method::GET, "/v1/airlock/status", "").await;
            let found = status.pointer(pointer).and_then(Value::as_u64).expect("a number");
            if wished(found) {
                return;
            }
            assert!(began.elapsed() < LIMIT, "{pointer} is {found}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connects")
    }

    /// Sends a text on a connection of its own.
    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        // It may be closed before all of it is taken.
        let _ = stream.write_all(text.as_bytes()).await;
        stream
    }

    /// Bodies of these users that do not end, each of 1.8 MB so far, and are held.
    async fn filled_by(&self, users: &[String]) -> Vec<TcpStream> {
        let mut held = Vec::new();
        for key in users {
            let head = format!(
                "POST /v1/workflows/echo/execute HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: 1900000\r\n\r\n"
            );
            let mut stream = self.send(&head).await;
            stream.write_all(&vec![b' '; 1_800_000]).await.expect("is taken");
            held.push(stream);
        }
        let all = 1_800_000 * users.len() as u64;
        self.until("/http/memory/held", |held| held >= all).await;
        held
    }

    /// A whole request and its answer.
    async fn exchange(&self, text: &str) -> String {
        rest(&mut self.send(text).await).await
    }

    async fn is_served(&self) {
        let request = format!(
            "GET /v1/whoami HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
            self.owner
        );
        let answer = self.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// All that comes until the connection is closed.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 65536];
    loop {
        match timeout(LIMIT, stream.read(&mut piece)).await.expect("it is closed in time") {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&bytes).into_owned(),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

fn short() -> Limits {
    let ms = Duration::from_millis;
    Limits {
        head_time: ms(300),
        idle_time: ms(500),
        body_pause: ms(300),
        body_time: ms(900),
        write_time: ms(300),
        ..Limits::default()
    }
}

fn patient() -> Limits {
    Limits {
        head_time: 10 * LIMIT,
        idle_time: 10 * LIMIT,
        body_pause: 10 * LIMIT,
        body_time: 10 * LIMIT,
        ..Limits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a03_half_open_connections_beyond_all_places_do_not_stop_the_service() {
    let limits = Limits { connections: 64, connections_per_address: 16, ..patient() };
    let house = House::new(limits).await;
    let mut held = Vec::new();
    let kinds = [
        "",
        "G",
        "GET /health HTTP/1.1\r\nhost: x\r\nx-a: ",
        "POST /v1/workflows/echo/execute HTTP/1.1\r\nhost: x\r\ncontent-le",
    ];
    for n in 0..660 {
        held.push(house.send(kinds[n % kinds.len()]).await);
        if n % 60 == 0 {
            house.is_served().await;
        }
    }
    house.is_served().await;
    let told = rest(&mut held[2]).await;
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("others needed"), "{told}");
    let resting = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    for _ in 0..120 {
        held.push(house.send(resting).await);
    }
    house.is_served().await;
}

#[tokio::test]
async fn a03_a_slow_head_and_a_silent_connection_end_with_a_sentence() {
    let house = House::new(short()).await;
    for beginning in ["", "GET /health HTTP/1.1\r\nx: "] {
        let answer = rest(&mut house.send(beginning).await).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("no whole head"), "{answer}");
    }
    let mut trickle = house.send("GET /health HTTP/1.1\r\nx: ").await;
    let began = Instant::now();
    while trickle.write_all(b"y").await.is_ok() {
        assert!(began.elapsed() < LIMIT, "a head that never ends goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut resting = house.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = rest(&mut resting).await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "nothing is said after an answer: {answer}");
    let endless = format!("GET /health HTTP/1.1\r\nx: {}", "y".repeat(100_000));
    let answer = house.exchange(&endless).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    house.is_served().await;
}

#[tokio::test]
async fn a03_http2_without_tls_is_refused_with_a_sentence() {
    let house = House::new(patient()).await;
    let answer = house.exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(answer.starts_with("HTTP/1.1 505") && answer.contains("HTTP/1.1"), "{answer}");
}

/// Method and path of every route that is described.
async fn routes(house: &House) -> Vec<(String, String)> {
    let (_, document) = house.call(&house.owner, Method::GET, "/v1/airlock/openapi.json", "").await;
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let path = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
        let path = path.collect::<Vec<_>>().join("/");
        for method in methods.as_object().expect("methods").keys() {
            routes.push((method.to_uppercase(), path.clone()));
        }
    }
    assert!(routes.len() > 80, "{}", routes.len());
    routes
}

#[tokio::test]
async fn a03_nobody_without_a_key_has_a_body_read_on_any_route() {
    let house = House::new(patient()).await;
    let mut answers = Vec::new();
    for (method, path) in routes(&house).await {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{{");
        let mut stream = house.send(&head).await;
        answers.push(async move { (method, path, rest(&mut stream).await) });
    }
    for (method, path, answer) in futures::future::join_all(answers).await {
        let public = path == "/health" || path.contains("oauth") || path.contains("openapi.json");
        assert!(public || answer.starts_with("HTTP/1.1 401"), "{method} {path}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 "), "{method} {path}");
    }
}

#[tokio::test]
async fn a26_a_body_without_an_end_ends_on_every_route() {
    let house = House::new(short()).await;
    let mut waits = Vec::new();
    for (method, path) in routes(&house).await {
        // What these read is nothing, and they last.
        if path.ends_with("/stream") || path.ends_with("/follow") || path.ends_with("rotate") {
            continue;
        }
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 1000000\r\n\r\n{{",
            house.owner
        );
        let mut stream = house.send(&head).await;
        waits.push(async move { (format!("{method} {path}"), rest(&mut stream).await) });
    }
    let (mut late, all) = (0, futures::future::join_all(waits).await);
    for (route, answer) in &all {
        assert!(answer.starts_with("HTTP/1.1 "), "{route}: {answer}");
        late +=
            usize::from(answer.starts_with("HTTP/1.1 408") && answer.contains("nothing of the body came"));
    }
    assert!(late > 25, "{late} of {}", all.len());
}

#[tokio::test]
async fn a26_a_body_that_trickles_has_its_time_as_a_whole_and_one_beyond_its_size_is_not_read() {
    let house = House::new(short()).await;
    for path in ["/v1/workflows/echo/execute", "/v1/airlock/connectors/x/openapi"] {
        let method = if path.ends_with("openapi") { "PUT" } else { "POST" };
        let head = |length: &str| {
            format!(
                "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{length}\r\n\r\n",
                house.owner
            )
        };
        let mut trickle = house.send(&head("content-length: 1000000")).await;
        let began = Instant::now();
        while trickle.write_all(b" ").await.is_ok() {
            assert!(began.elapsed() < LIMIT, "a body that never ends goes on");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let answer = house.exchange(&head("content-length: 99999999")).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        let chunks = format!("{}5\r\n[1,2,\r\nzz\r\n", head("transfer-encoding: chunked"));
        let answer = house.exchange(&chunks).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a03_an_answer_that_nobody_takes_is_given_up_and_a_slow_reader_gets_all_of_it() {
    let house = House::new(short()).await;
    let input = format!("\"{}\"", "x".repeat(14_000_000));
    let id = house.start(&house.owner, "echo", &input).await;
    house.completed(&id).await;
    let ask = format!(
        "GET /v1/workflows/executions/{id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        house.owner
    );
    let mut idle = house.send(&ask).await;
    house.until("/http/memory/held", |held| held > 10_000_000).await;
    house.until("/http/memory/held", |held| held == 0).await;
    let taken = rest(&mut idle).await;
    assert!(taken.len() < 14_000_000, "{} bytes were taken at last", taken.len());
    let whole = house.exchange(&ask).await;
    assert!(whole.len() > 14_000_000);
    house.is_served().await;
}

#[tokio::test]
async fn a03_one_user_leaves_connections_to_others() {
    let house = House::new(Limits { connections: 16, connections_per_address: 16, ..patient() }).await;
    let (ada, bea) = (house.member("ada").await, house.member("bea").await);
    let id = house.start(&ada, "wait", "{}").await;
    let path = format!("/v1/workflows/executions/{id}/stream");
    let mut streams = Vec::new();
    for _ in 0..8 {
        let response = house.answer(&ada, Method::GET, &path, "").await;
        assert_eq!(response.status(), StatusCode::OK);
        streams.push(response);
    }
    let refused = house.answer(&ada, Method::GET, "/v1/whoami", "").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(house.call(&bea, Method::GET, "/v1/whoami", "").await.0, StatusCode::OK);
    streams.clear();
    assert_eq!(house.call(&ada, Method::GET, "/v1/whoami", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a05_bodies_beyond_the_budget_are_refused_with_a_time_and_small_ones_pass() {
    let house = House::new(Limits { bytes: 4 << 20, ..patient() }).await;
    let users = [house.member("ada").await, house.member("bea").await, house.member("cid").await];
    let held = house.filled_by(&users[..2]).await;
    for user in &users {
        let body = format!("{{\"input\":\"{}\"}}", "x".repeat(400_000));
        let answer = house.answer(user, Method::POST, "/v1/workflows/echo/execute", body).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
        house.start(user, "echo", "{\"small\":1}").await;
    }
    drop(held);
    house.until("/http/memory/held", |held| held == 0).await;
    house.start(&users[0], "echo", &format!("\"{}\"", "x".repeat(400_000))).await;
    let (status, why) =
        house.call(&users[0], Method::POST, "/v1/workflows/echo/execute", vec![b' '; 5_000_000]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{why}");
    assert!(why["detail"].as_str().is_some_and(|text| text.contains("request_memory")), "{why}");
}

#[tokio::test]
async fn the_status_shows_what_other_rooms_say_of_themselves_beside_its_own() {
    let house = House::new(patient()).await;
    let (status, shown) = house.call(&house.owner, Method::GET, "/v1/airlock/status", "").await;
    assert_eq!((status, &shown["schemas"]["lost_ever"]), (StatusCode::OK, &json!(3)));
    assert!(shown["http"]["memory"]["held"].is_u64() && shown["executions"]["open"].is_u64(), "{shown}");
}

#[tokio::test]
async fn a05_what_a_tool_answers_is_charged_for_when_it_is_there_and_refused_with_its_entry_in_the_audit_log()
{
    let house = House::new(Limits { bytes: 4 << 20, ..patient() }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let numbers = |count: usize| async move { axum::Json(vec![0; count]) };
    let service = Router::new()
        .route("/few", axum::routing::get(move || numbers(1_000)))
        .route("/some", axum::routing::get(move || numbers(15_000)))
        // A text of 0.4 MB, and as values more than everybody may hold.
        .route("/many", axum::routing::get(move || numbers(100_000)));
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });
    let operations: Vec<Value> = ["few", "some", "many"]
        .map(|name| json!({ "name": name, "method": "GET", "path": format!("/{name}") }))
        .into();
    let body = json!({ "name": "numbers", "description": "d", "protocol": "http", "server": origin,
        "operations": operations, "auth_methods": [{ "method_type": "none" }] });
    let (status, made) = house.call(&house.owner, Method::POST, "/v1/connectors", body.to_string()).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let users = [house.member("ada").await, house.member("bea").await, house.member("cid").await];
    let path = |tool: &str| format!("/v1/connectors/numbers/tools/{tool}/call");
    let call = async |user: &str, tool: &str| house.answer(user, Method::POST, &path(tool), "{}").await;
    assert_eq!(call(&users[0], "some").await.status(), StatusCode::OK);
    let refused = call(&users[0], "many").await;
    assert_eq!(refused.status(), StatusCode::INSUFFICIENT_STORAGE);
    let why = to_bytes(refused.into_body(), usize::MAX).await.expect("a body");
    assert!(String::from_utf8_lossy(&why).contains("request_memory"), "{why:?}");

    // While others hold nearly everything, what is small passes.
    let held = house.filled_by(&users[..2]).await;
    let refused = call(&users[2], "some").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    drop(held);
    house.until("/http/memory/held", |held| held == 0).await;
    assert_eq!(call(&users[2], "few").await.status(), StatusCode::OK);

    // Each of them was made, and is in the log as it ended at the service.
    let (_, log) = house.call(&house.owner, Method::GET, "/v1/airlock/audit?kind=call&limit=100", "").await;
    let entries = log["entries"].as_array().expect("entries").iter();
    let calls: Vec<String> = entries.map(|entry| format!("{} {}", entry["tool"], entry["outcome"])).collect();
    assert_eq!(calls, [r#""some" "ok""#, r#""many" "ok""#, r#""some" "ok""#, r#""few" "ok""#]);
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a05_a_large_history_is_written_from_its_text_as_it_is_taken_and_given_back_as_it_was() {
    let house = House::new(patient()).await;
    // As a tree it would take thirty times as much.
    let input = format!("{{\"n\":[{}1.5]}}", "0,".repeat(3_000_000));
    let id = house.start(&house.owner, "echo", &input).await;
    house.completed(&id).await;
    let path = format!("/v1/workflows/executions/{id}/history");
    let reads =
        futures::future::join_all((0..3).map(|_| house.answer(&house.owner, Method::GET, &path, ""))).await;
    for response in reads {
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key(header::CONTENT_LENGTH), "it is not built as a whole");
        let text = to_bytes(response.into_body(), usize::MAX).await.expect("all of it");
        let text = std::str::from_utf8(&text).expect("text");
        assert_eq!(text.matches(input.as_str()).count(), 2, "input and result, to the letter");
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    }
    house.until("/http/memory/held", |held| held == 0).await;
    let small = house.start(&house.owner, "wait", "{\"a\":1}").await;
    let path = format!("/v1/workflows/executions/{small}/history");
    let response = house.answer(&house.owner, Method::GET, &path, "").await;
    let text = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    let history: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(history["execution_id"], small.as_str());
    assert_eq!(history["events"][0]["event_id"], 1);
    assert_eq!(history["events"][0]["record"]["Started"]["input"], json!({ "a": 1 }), "{history}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a05_large_results_and_events_are_given_as_they_are_and_what_was_charged_for_them_comes_back() {
    let house = House::new(patient()).await;
    let input = format!("{{\"n\":[{}1.5]}}", "0,".repeat(3_000_000));
    let id = house.start(&house.owner, "echo", &input).await;
    house.completed(&id).await;
    let (of_run, of_events) = (
        format!("/v1/workflows/executions/{id}"),
        format!("/v1/workflows/events/list?workflow_exec_id={id}"),
    );
    for path in [of_run.clone(), of_run, of_events.clone()] {
        let response = house.answer(&house.owner, Method::GET, &path, "").await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let text = to_bytes(response.into_body(), usize::MAX).await.expect("all of it");
        let text = std::str::from_utf8(&text).expect("text");
        assert_eq!(text.matches(input.as_str()).count(), 1, "{path}: to the letter");
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(), "{path}");
        // A page has room for one such event: the next one has a number.
        assert_eq!(text.contains("\"next_cursor\":\""), path == of_events, "{path}");
    }
    house.until("/http/memory/held", |held| held == 0).await;
    let none = house.answer(&house.owner, Method::GET, &format!("{of_events}&cursor=1000000"), "").await;
    let text = to_bytes(none.into_body(), usize::MAX).await.expect("a body");
    assert_eq!(&text[..], b"{\"events\":[],\"next_cursor\":null}");
}

/// Whether a stream ends, with what it said last.
async fn last_words(response: Response) -> String {
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    while let Some(part) = timeout(LIMIT, body.next()).await.expect("the stream ends in time") {
        match part {
            Ok(part) => text.push_str(&String::from_utf8_lossy(&part)),
            Err(error) => text.push_str(&error.to_string()),
        }
    }
    text
}

#[tokio::test]
async fn a24_streams_of_all_kinds_and_calls_that_wait_end_with_their_key() {
    let house = House::new(patient()).await;
    for way in ["revoked", "expired"] {
        let more = match way {
            "expired" => json!({ "role": "owner", "expires_in_seconds": 6 }),
            _ => json!({ "role": "owner" }),
        };
        let (key, id) = house.key("ada", more).await;
        let execution = house.start(&key, "wait", "{}").await;
        let of = |rest: &str| format!("/v1/workflows/{rest}");
        let mut streams = Vec::new();
        for path in [
            of(&format!("executions/{execution}/stream")),
            of(&format!("events/stream?root_workflow_exec_id={execution}")),
            of(&format!("events/stream?parent_workflow_exec_id={execution}")),
            "/v1/airlock/audit/follow".into(),
        ] {
            let response = house.answer(&key, Method::GET, &path, "").await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            streams.push(response);
        }
        let body = "{\"input\":{},\"wait_for_result\":true}";
        let waits = house.call(&key, Method::POST, "/v1/workflows/wait/execute", body);
        let end = async {
            if way == "revoked" {
                house.revoke(&id).await;
            }
        };
        let ((status, why), ()) =
            timeout(LIMIT, async { tokio::join!(waits, end) }).await.expect("it ends in time");
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{why}");
        for stream in streams {
            let said = last_words(stream).await;
            assert!(said.contains(way), "{way}: {said}");
        }
    }
}

#[tokio::test]
async fn streams_end_when_the_daemon_stops_and_connections_with_them() {
    let house = House::new(patient()).await;
    let id = house.start(&house.owner, "wait", "{}").await;
    let ask = format!(
        "GET /v1/workflows/executions/{id}/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        house.owner
    );
    let (mut stream, mut silent) = (house.send(&ask).await, house.connect().await);
    let mut first = [0; 12];
    timeout(LIMIT, stream.read_exact(&mut first)).await.expect("in time").expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    house.stop.cancel();
    let whole = rest(&mut stream).await;
    assert!(whole.ends_with("0\r\n\r\n"), "the stream ended in order: {whole}");
    assert_eq!(rest(&mut silent).await, "");
    timeout(LIMIT, house.ended).await.expect("in time").expect("it ended in order");
}

#[tokio::test]
async fn a26_owners_name_and_archive_workflows_and_members_do_not() {
    let house = House::new(patient()).await;
    let ada = house.member("ada").await;
    let (_, list) = house.call(&ada, Method::GET, "/v1/workflows", "").await;
    let id = list["workflows"][0]["id"].as_str().expect("an id");
    let many = json!({ "workflow_ids": [id] }).to_string();
    for (method, path, body) in [
        (Method::PUT, "/v1/workflows/echo", "{\"display_name\":\"mine\"}"),
        (Method::POST, "/v1/workflows/echo/tags", "{\"tags\":[\"mine\"]}"),
        (Method::PUT, "/v1/workflows/echo/archive", "{}"),
        (Method::PUT, "/v1/workflows/echo/unarchive", "{}"),
        (Method::PUT, "/v1/workflows/archive", many.as_str()),
        (Method::PUT, "/v1/workflows/unarchive", many.as_str()),
    ] {
        let (status, why) = house.call(&ada, method.clone(), path, body.to_owned()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {why}");
        assert!(house.call(&house.owner, method, path, body.to_owned()).await.0.is_success(), "{path}");
    }
    let (_, echo) = house.call(&ada, Method::GET, "/v1/workflows/echo", "").await;
    assert_eq!(echo["workflow"]["display_name"], "mine", "members see what owners say");
}

#[test]
fn a26_bodies_are_read_and_streams_are_made_in_one_place_each() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the source") {
        let path = entry.expect("lists").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (word, places) in [
            (" to_bytes", &[][..]),
            (":to_bytes", &[]),
            ("into_data_stream", &[]),
            ("into_body()", &["body.rs"]),
            ("BodyExt", &[]),
            ("Multipart", &[]),
            ("Form<", &[]),
            ("): Json<", &[]),
            // A piece of an answer.
            (": Bytes,\n", &["visit.rs"]),
            ("body: String", &[]),
            ("form: String", &[]),
            ("Sse::new", &["streams.rs"]),
            ("from_stream", &["streams.rs"]),
        ] {
            if text.contains(word) && !places.contains(&name.as_str()) {
                found.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(found.is_empty(), "use body::read, JsonBody and streams: {found:?}");
}
