//! airlock as a client of an authorization server: one that forgets it, and a check that walks the way to it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use airlock_connectors::{
    AuditFilter, Connectors, ConnectorsConfig, Keyring, MasterKey, Problem, Returned, Scope, Wanted,
};
use airlock_engine::{OrganizationId, Principal, UserId, WorkspaceId, records::Records};
use airlock_store::SqliteStore;
use axum::{
    Form, Json, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use url::Url;

/// A code that the authorization server takes.
const CODE: &str = "the-code-of-the-test";

/// A server for tools and its authorization server, in one.
struct Issuer {
    origin: String,
    state: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    clients: HashSet<String>,
    registered: usize,
    tokens: usize,
    /// Forms that came to the token endpoint.
    asked: Vec<HashMap<String, String>>,
    /// It knows nobody, whoever registers.
    is_confused: bool,
    /// It publishes nothing any more.
    is_silent: bool,
}

impl Issuer {
    async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let issuer = Arc::new(Self { origin, state: Mutex::default() });
        let router = Router::new()
            .route("/mcp", post(tools))
            .route("/.well-known/oauth-protected-resource/mcp", get(resource))
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/register", post(register))
            .route("/token", post(token))
            .with_state(Arc::clone(&issuer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    fn forget(&self) {
        self.state.lock().clients.clear();
    }

    fn registered(&self) -> usize {
        self.state.lock().registered
    }
}

type Server = State<Arc<Issuer>>;

async fn resource(State(issuer): Server) -> Response {
    if issuer.state.lock().is_silent {
        return StatusCode::NOT_FOUND.into_response();
    }
    let origin = &issuer.origin;
    Json(json!({ "resource": format!("{origin}/mcp"), "authorization_servers": [origin] })).into_response()
}

async fn metadata(State(issuer): Server) -> Response {
    if issuer.state.lock().is_silent {
        return StatusCode::NOT_FOUND.into_response();
    }
    let at = |path: &str| format!("{}{path}", issuer.origin);
    Json(json!({
        "issuer": issuer.origin, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"),
        "registration_endpoint": at("/register"), "code_challenge_methods_supported": ["S256"],
        "response_types_supported": ["code"], "token_endpoint_auth_methods_supported": ["none"],
    }))
    .into_response()
}

async fn register(State(issuer): Server) -> Response {
    let mut memory = issuer.state.lock();
    memory.registered += 1;
    let id = format!("client-{}", memory.registered);
    memory.clients.insert(id.clone());
    (StatusCode::CREATED, Json(json!({ "client_id": id, "token_endpoint_auth_method": "none" })))
        .into_response()
}

async fn token(State(issuer): Server, Form(form): Form<HashMap<String, String>>) -> Response {
    let mut memory = issuer.state.lock();
    let is_known = form.get("client_id").is_some_and(|id| memory.clients.contains(id));
    let is_good = form["grant_type"] == "refresh_token" || form.get("code").is_some_and(|code| code == CODE);
    memory.asked.push(form);
    let refused = |status, error: &str| (status, Json(json!({ "error": error }))).into_response();
    match (is_known && !memory.is_confused, is_good) {
        (false, _) => refused(StatusCode::UNAUTHORIZED, "invalid_client"),
        (true, false) => refused(StatusCode::BAD_REQUEST, "invalid_grant"),
        (true, true) => {
            memory.tokens += 1;
            let number = memory.tokens;
            // It ends before it is used again, so that each use renews it.
            Json(json!({
                "access_token": format!("access-token-{number}"), "token_type": "Bearer", "expires_in": 1,
                "refresh_token": format!("refresh-token-{number}"),
            }))
            .into_response()
        }
    }
}

async fn tools(State(issuer): Server, headers: HeaderMap, Json(request): Json<Value>) -> Response {
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !sent.starts_with("Bearer access-token-") {
        let place = format!("{}/.well-known/oauth-protected-resource/mcp", issuer.origin);
        let challenge = format!("Bearer resource_metadata=\"{place}\"");
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
    }
    let id = &request["id"];
    let result = match request["method"].as_str().unwrap_or_default() {
        _ if id.is_null() => return StatusCode::ACCEPTED.into_response(),
        "initialize" => json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
            "serverInfo": { "name": "of-a-test", "version": "1" } }),
        "tools/list" => json!({ "tools": [{ "name": "look", "inputSchema": { "type": "object" } }] }),
        _ => {
            let error = json!({ "code": -32601, "message": "there is no such method" });
            return Json(json!({ "jsonrpc": "2.0", "id": id, "error": error })).into_response();
        }
    };
    Json(json!({ "jsonrpc": "2.0", "id": id, "result": result })).into_response()
}

struct World {
    _folder: tempfile::TempDir,
    connectors: Connectors,
    who: Principal,
    issuer: Arc<Issuer>,
}

/// A browser on its way to the authorization server.
struct Browser {
    /// What it takes along.
    query: HashMap<String, String>,
    headers: HeaderMap,
}

impl World {
    async fn new(more: Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keyring = Keyring::open(folder.path(), &MasterKey::from_bytes([1; 32]), None).expect("a keyring");
        let store = SqliteStore::open(folder.path(), &keyring.journal()).expect("a store");
        let records: Arc<dyn Records> = store;
        let public_url = "http://127.0.0.1:1".parse().expect("an address");
        let mut config = ConnectorsConfig::new(folder.path(), &public_url);
        config.allow_loopback = true;
        let connectors = Connectors::open(records, Arc::new(keyring), config).expect("opens");
        let who = Principal {
            organization: OrganizationId::new("default"),
            workspace: WorkspaceId::new("default"),
            user: UserId::new("ada"),
        };
        let issuer = Issuer::start().await;
        let mut body = json!({
            "name": "crm", "description": "", "server": format!("{}/mcp", issuer.origin), "protocol": "mcp",
        });
        let fields = body.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        connectors.create(&who, true, body).await.expect("is registered");
        Self { _folder: folder, connectors, who, issuer }
    }

    /// Goes to the authorization server with a new link.
    async fn leave(&self, who: &Principal) -> Browser {
        let link = self.connectors.auth_url(who, "crm", Wanted::default()).await.expect("a link");
        let link = link["auth_url"].as_str().expect("a link").to_owned();
        let id = link.rsplit('/').next().expect("an id");
        let departure = self.connectors.depart(id, &HeaderMap::new()).unwrap_or_else(|problem| {
            panic!("the link is not good: {problem:?}");
        });
        let cookie = departure.cookie.to_str().expect("text").split(';').next().expect("a cookie").to_owned();
        let location = Url::parse(departure.location.to_str().expect("text")).expect("an address");
        let cookie = HeaderValue::from_str(&cookie).expect("a header");
        Browser {
            query: location.query_pairs().into_owned().collect(),
            headers: HeaderMap::from_iter([(header::COOKIE, cookie)]),
        }
    }

    /// Comes back with a code, or with an error. What went wrong, if something did.
    async fn back(&self, browser: &Browser, error: Option<&str>) -> Option<Problem> {
        let returned = Returned {
            code: error.is_none().then(|| CODE.to_owned()),
            state: browser.query.get("state").cloned(),
            error: error.map(str::to_owned),
            ..Returned::default()
        };
        self.connectors.arrive(returned, &browser.headers).await.problem
    }

    async fn connect(&self, who: &Principal) {
        let browser = self.leave(who).await;
        assert_eq!(self.back(&browser, None).await, None);
    }

    /// Uses the credential, which renews its token first.
    async fn lists(&self, who: &Principal) -> Result<(), String> {
        let listed = self.connectors.list_tools(who, "crm", None, true, false, false).await;
        listed.map(drop).map_err(|error| error.to_string())
    }

    fn state(&self, who: &Principal) -> Value {
        let listed = self.connectors.list_credentials(who, "crm", Scope::User, None, false).expect("a list");
        listed["credentials"][0]["state"].clone()
    }

    fn replaced(&self) -> usize {
        let filter = AuditFilter { kind: Some("client_replaced".into()), ..AuditFilter::default() };
        let entries = self.connectors.audit_entries(None, 10, filter).expect("entries");
        entries["entries"].as_array().expect("entries").len()
    }

    async fn steps(&self) -> HashMap<String, Value> {
        let report = self.connectors.check(&self.who, "crm", None, true).await.expect("is checked");
        let steps = report["steps"].as_array().expect("steps").iter();
        steps.map(|step| (step["step"].as_str().expect("a name").to_owned(), step.clone())).collect()
    }
}

fn other(who: &Principal) -> Principal {
    Principal { user: UserId::new("bob"), ..who.clone() }
}

#[tokio::test]
async fn a_client_that_the_server_has_forgotten_is_registered_anew_and_what_it_was_granted_is_asked_for_again()
 {
    let world = World::new(json!({})).await;
    let bob = other(&world.who);
    for who in [&world.who, &bob] {
        world.connect(who).await;
        world.lists(who).await.expect("a list");
    }
    assert_eq!((world.issuer.registered(), world.replaced()), (1, 0));
    world.issuer.forget();
    let told = world.lists(&world.who).await.expect_err("it cannot be renewed");
    assert!(told.contains("given to a client that its authorization server has forgotten"), "{told}");
    assert!(told.contains("authorise again with `airlock credentials authorize crm"), "{told}");
    assert_eq!((world.issuer.registered(), world.replaced()), (2, 1));
    // Others learn it without asking the server.
    let asked = world.issuer.state.lock().asked.len();
    for who in [&world.who, &bob] {
        assert_eq!(world.state(who), "needs_reauthorization");
        let told = world.lists(who).await.expect_err("it has to be granted again");
        assert!(told.contains("has forgotten"), "{told}");
    }
    assert_eq!(world.issuer.state.lock().asked.len(), asked);
    let browser = world.leave(&bob).await;
    assert_eq!(browser.query["client_id"], "client-2");
    assert_eq!(world.back(&browser, None).await, None);
    world.lists(&bob).await.expect("a list");
    assert_eq!(
        (world.state(&bob), world.state(&world.who)),
        (json!("valid"), json!("needs_reauthorization"))
    );
    // What it has taken may be forgotten as well, some day.
    world.issuer.forget();
    world.lists(&bob).await.expect_err("it cannot be renewed");
    assert_eq!((world.issuer.registered(), world.replaced()), (3, 2));
}

#[tokio::test]
async fn a_code_that_comes_back_to_a_forgotten_client_is_lost_and_the_next_attempt_goes_through_another() {
    let world = World::new(json!({})).await;
    let browser = world.leave(&world.who).await;
    world.issuer.forget();
    let problem = world.back(&browser, None).await;
    let Some(Problem::Failed(told)) = problem else { panic!("{problem:?}") };
    assert!(
        told.contains("invalid_client") && told.contains("registered there anew: authorise again"),
        "{told}"
    );
    let browser = world.leave(&world.who).await;
    assert_eq!(browser.query["client_id"], "client-2");
    assert_eq!(world.back(&browser, None).await, None);
    assert_eq!((world.issuer.registered(), world.replaced()), (2, 1));
}

#[tokio::test]
async fn whoever_does_not_come_back_from_a_server_that_forgot_the_client_is_sent_through_another() {
    let world = World::new(json!({})).await;
    let first = world.leave(&world.who).await;
    // A server that knows the client is asked, and nothing follows.
    let second = world.leave(&world.who).await;
    assert_eq!((&first.query["client_id"], world.issuer.registered()), (&second.query["client_id"], 1));
    world.issuer.forget();
    // Nobody else is asked about.
    assert_eq!(world.leave(&other(&world.who)).await.query["client_id"], "client-1");
    assert_eq!(world.leave(&world.who).await.query["client_id"], "client-2");
    assert_eq!((world.issuer.registered(), world.replaced()), (2, 1));
    let codes = |form: &HashMap<String, String>| form.get("code").cloned().unwrap_or_default();
    let codes: HashSet<String> = world.issuer.state.lock().asked.iter().map(codes).collect();
    assert!(!codes.contains(CODE) && codes.len() == 2, "codes that nobody gave: {codes:?}");
}

#[tokio::test]
async fn a_browser_alone_does_not_make_a_client_forgotten() {
    let world = World::new(json!({})).await;
    let browser = world.leave(&world.who).await;
    let problem = world.back(&browser, Some("invalid_client")).await;
    assert!(matches!(problem, Some(Problem::Denied(_))), "{problem:?}");
    assert_eq!((world.issuer.registered(), world.replaced()), (1, 0));
    let browser = world.leave(&world.who).await;
    world.issuer.forget();
    let problem = world.back(&browser, Some("invalid_client")).await;
    let Some(Problem::Failed(told)) = problem else { panic!("{problem:?}") };
    assert!(told.contains("authorise again"), "{told}");
    assert_eq!((world.issuer.registered(), world.replaced()), (2, 1));
}

#[tokio::test]
async fn a_server_that_knows_nobody_gets_one_registration_more_and_not_one_for_each_attempt() {
    let world = World::new(json!({})).await;
    world.issuer.state.lock().is_confused = true;
    for _ in 0..4 {
        let browser = world.leave(&world.who).await;
        let problem = world.back(&browser, None).await;
        assert!(matches!(problem, Some(Problem::Failed(_))), "{problem:?}");
    }
    assert_eq!((world.issuer.registered(), world.replaced()), (2, 1));
}

#[tokio::test]
async fn a_client_that_the_operator_gave_is_never_replaced() {
    let data = json!({ "client_id": "of-the-operator" });
    let methods = json!([{ "method_type": "oauth2", "auth_data": data }]);
    let world = World::new(json!({ "auth_methods": methods })).await;
    world.issuer.state.lock().clients.insert("of-the-operator".into());
    world.connect(&world.who).await;
    world.lists(&world.who).await.expect("a list");
    world.issuer.forget();
    let told = world.lists(&world.who).await.expect_err("it cannot be renewed");
    assert!(!told.contains("has forgotten"), "{told}");
    for error in [None, Some("invalid_client")] {
        let browser = world.leave(&world.who).await;
        assert!(world.back(&browser, error).await.is_some());
    }
    assert_eq!((world.issuer.registered(), world.replaced()), (0, 0));
    let step = world.steps().await.remove("registration").expect("a step");
    assert_eq!(step["message"], "the client 'of-the-operator' that was given with the connector is used");
}

#[tokio::test]
async fn a_check_walks_the_way_to_the_tokens_and_registers_nobody() {
    let world = World::new(json!({})).await;
    let asked = |step: &Value| step["asked"].as_array().expect("places").len();
    for message in ["airlock registers at ", "airlock is registered as client 'client-1' of "] {
        let steps = world.steps().await;
        let (resource, issuer, registration) = (&steps["resource"], &steps["issuer"], &steps["registration"]);
        assert_eq!(resource["message"], "the server's metadata name 1 authorization server", "{resource}");
        let place = resource["asked"][0]["place"].as_str().expect("a place");
        assert!(place.ends_with("/.well-known/oauth-protected-resource/…"), "{resource}");
        assert_eq!(resource["asked"][0]["outcome"], "used", "{resource}");
        let used = format!("the metadata of {} are used", world.issuer.origin);
        assert_eq!((&issuer["message"], asked(issuer)), (&json!(used), 1), "{issuer}");
        assert!(registration["message"].as_str().expect("words").starts_with(message), "{registration}");
        for step in [resource, issuer, registration] {
            assert!(step["state"] == "ok" && step["duration_ms"].is_u64(), "{step}");
        }
        if world.issuer.registered() == 0 {
            world.connect(&world.who).await;
        }
    }
    assert_eq!(world.issuer.registered(), 1);
    // What was found before is used when the places say nothing.
    world.issuer.state.lock().is_silent = true;
    let steps = world.steps().await;
    let issuer = &steps["issuer"];
    assert_eq!((&issuer["state"], &steps["resource"]["state"]), (&json!("not_tried"), &json!("not_tried")));
    let message = issuer["message"].as_str().expect("words");
    assert!(asked(&steps["resource"]) > 1 && asked(issuer) > 0, "{steps:?}");
    assert!(message.contains(&world.issuer.origin), "{issuer}");
    assert_eq!(steps["tools"]["state"], "ok", "{steps:?}");
}

#[tokio::test]
async fn a_check_asks_a_server_again_that_had_not_said_how_one_authenticates() {
    let world = World::new(json!({})).await;
    world.issuer.state.lock().is_silent = true;
    let body = json!({ "name": "late", "description": "", "server": world.issuer.origin.clone() + "/later",
        "protocol": "mcp" });
    let made = world.connectors.create(&world.who, true, body).await.expect("is registered");
    let first = made["found_out"][0]["message"].as_str().expect("words").to_owned();
    let report = world.connectors.check(&world.who, "late", None, true).await.expect("is checked");
    let steps = report["steps"].as_array().expect("steps");
    let again = steps.iter().find(|step| step["step"] == "discovery").expect("it is asked again");
    assert_eq!(again["message"], json!(first), "{report}");
}
