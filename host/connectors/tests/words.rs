//! What a newcomer and an operator read: whose fault it is, where, and what to do, with commands that work as printed.

use std::sync::Arc;

use airlock_connectors::{Connectors, ConnectorsConfig, ConnectorsError, Keyring, MasterKey, Save, Scope};
use airlock_engine::{
    ExecutionId, Failure, Json, OrganizationId, Principal, Slot, UserId, WorkspaceId,
    records::Records,
    tools::{Binding, CallOptions, CallOrigin, Conversation, Question, ToolCall, Tools},
};
use airlock_store::SqliteStore;
use async_trait::async_trait;
use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde_json::{Value, json};

struct World {
    _folder: tempfile::TempDir,
    connectors: Connectors,
    who: Principal,
}

impl World {
    fn new() -> Self {
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
        Self { _folder: folder, connectors, who }
    }

    async fn add(&self, name: &str, server: &str, more: Value) -> Result<Value, ConnectorsError> {
        let mut body = json!({ "name": name, "description": "", "server": server, "protocol": "mcp" });
        let fields = body.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        self.connectors.create(&self.who, true, body).await
    }

    async fn step(&self, name: &str, credential: Option<&str>, step: &str) -> Value {
        let report = self.connectors.check(&self.who, name, credential, true).await.expect("is checked");
        let steps = report["steps"].as_array().expect("steps");
        steps.iter().find(|found| found["step"] == step).unwrap_or_else(|| panic!("{step}: {report}")).clone()
    }

    async fn tools(&self, name: &str, all: bool) -> Result<Value, ConnectorsError> {
        self.connectors.list_tools(&self.who, name, None, true, false, all).await
    }
}

fn says(step: &Value) -> &str {
    step["message"].as_str().expect("a message")
}

/// An MCP server with one tool, which wants this token if there is one.
async fn server(token: Option<&'static str>) -> String {
    let answer = move |headers: HeaderMap, axum::Json(request): axum::Json<Value>| async move {
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if token.is_some_and(|token| sent != Some(&format!("Bearer {token}"))) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        spoken(&request)
    };
    serve(Router::new().route("/mcp", post(answer))).await + "/mcp"
}

fn spoken(request: &Value) -> Response {
    let id = &request["id"];
    let result = match request["method"].as_str().unwrap_or_default() {
        _ if id.is_null() => return StatusCode::ACCEPTED.into_response(),
        "initialize" => json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
            "serverInfo": { "name": "of-a-test", "version": "1" } }),
        "tools/list" => json!({ "tools": [{ "name": "look", "inputSchema": { "type": "object" } }] }),
        "tools/call" => json!({ "content": [{ "type": "text", "text": "seen" }] }),
        _ => {
            let error = json!({ "code": -32601, "message": "there is no such method" });
            return axum::Json(json!({ "jsonrpc": "2.0", "id": id, "error": error })).into_response();
        }
    };
    axum::Json(json!({ "jsonrpc": "2.0", "id": id, "result": result })).into_response()
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    origin
}

/// An address at which nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}/mcp", listener.local_addr().expect("an address"))
}

#[tokio::test]
async fn a_server_that_is_down_is_not_taken_for_an_open_one() {
    let world = World::new();
    let open = world.add("open", &server(None).await, json!({})).await.expect("is registered");
    let found = &open["found_out"][0];
    assert_eq!((&found["state"], &open["reachable"]["ok"]), (&json!("ok"), &json!(true)), "{open}");
    assert!(says(found).contains("lets everybody in"), "{found}");

    for (name, address, reason) in [
        ("down", nowhere(), "the connection was refused"),
        ("unnamed", "http://no-such-host.invalid/mcp".to_owned(), "its name is not known (DNS)"),
    ] {
        let down = world.add(name, &address, json!({})).await.expect("is registered");
        let found = &down["found_out"][0];
        assert_eq!((&found["state"], &found["code"]), (&json!("not_tried"), &json!("upstream")), "{found}");
        assert!(says(found).contains(reason) && says(found).contains("is not known yet"), "{found}");
        let step = world.step(name, None, "tools").await;
        assert!(step["state"] == "failed" && says(&step).contains(reason), "{step}");
        let shown = world.connectors.get(&world.who, name, false).expect("is shown");
        assert_eq!((&shown["is_authenticated"], &shown["reachable"]["ok"]), (&json!(true), &json!(false)));
    }
    let list = world.connectors.list(&world.who, None, 10, None, None).expect("a list");
    let reached: Vec<&Value> =
        list["items"].as_array().expect("a list").iter().map(|item| &item["reachable"]["ok"]).collect();
    assert_eq!(reached, [&json!(false), &json!(true), &json!(false)], "{list}");
    let inside = world.add("inside", "http://10.0.0.1/mcp", json!({})).await.expect_err("is refused");
    assert!(inside.to_string().contains("--allow-private-networks"), "{inside}");
    assert!(!inside.to_string().contains("--allow-loopback"), "{inside}");
}

#[tokio::test]
async fn tools_that_wait_for_approval_say_so_and_how_it_is_given() {
    let world = World::new();
    let review = json!({ "control": { "review": true }, "auth_methods": [{ "method_type": "none" }] });
    world.add("crm", &server(None).await, review).await.expect("is registered");
    let step = world.step("crm", None, "tools").await;
    assert!(says(&step).starts_with("1 tool, 1 wait for approval"), "{step}");
    assert!(says(&step).contains("`airlock connectors approve crm`"), "{step}");
    assert_eq!(world.tools("crm", false).await.expect("a list"), json!([]));
    let listed = world.tools("crm", true).await.expect("a list");
    let reason = listed[0]["airlock"]["reason"].as_str().expect("a reason");
    assert_eq!(reason, "it is new and waits for approval: `airlock connectors approve crm look`");
    let pins = world.connectors.pins(&world.who, "crm").expect("pins");
    assert_eq!(
        (&pins["pins"][0]["state"], &pins["pins"][0]["digest"]),
        (&json!("new"), &Value::Null),
        "{pins}"
    );
    let refused = world.connectors.approve(&world.who, true, "crm", Some("nope")).expect_err("is refused");
    let told =
        "connector 'crm' has never listed a tool 'nope': see `airlock connectors pins crm` for those it has";
    assert_eq!(refused.to_string(), told);
    world.connectors.approve(&world.who, true, "crm", None).expect("is approved");
    let pins = world.connectors.pins(&world.who, "crm").expect("pins");
    assert_eq!(pins["pins"][0]["state"], "approved", "{pins}");
    assert_eq!(says(&world.step("crm", None, "tools").await), "1 tool");
}

#[tokio::test]
async fn a_check_with_a_credential_that_is_not_there_says_how_the_server_was_asked() {
    let world = World::new();
    world.add("open", &server(None).await, json!({})).await.expect("is registered");
    let missing = world.step("open", Some("nope"), "credential").await;
    assert_eq!(
        says(&missing),
        "Credential 'nope' not found for connector 'open': see `airlock credentials list open`"
    );
    let listed = world.step("open", Some("nope"), "tools").await;
    assert_eq!(says(&listed), "asked without a credential, the server lists 1 tool");
    world.add("shut", &server(Some("a-token-that-is-good")).await, json!({})).await.expect("is registered");
    let listed = world.step("shut", Some("nope"), "tools").await;
    assert_eq!(says(&listed), "asked without a credential, the server lists no tools");
}

#[tokio::test]
async fn whoever_has_no_credential_or_a_bad_one_is_given_the_command_for_their_scope() {
    let world = World::new();
    let bearer = json!({ "auth_methods": [{ "method_type": "bearer" }] });
    let made = world.add("crm", &server(Some("a-token-that-is-good")).await, bearer).await;
    let made = made.expect("is registered");
    assert_eq!(made["next_step"], "store a credential with `airlock credentials set crm NAME`", "{made}");
    let nobody = Principal { user: UserId::new(Principal::DEPLOYMENT), ..world.who.clone() };
    let list = async |who: &Principal| {
        world
            .connectors
            .list_tools(who, "crm", None, true, false, false)
            .await
            .map_err(|error| error.to_string())
    };
    let own = list(&world.who).await.expect_err("nothing is stored");
    assert!(own.ends_with(": store a credential with `airlock credentials set crm NAME`"), "{own}");
    assert!(own.contains("requires bearer authentication but no credentials are configured"), "{own}");
    let shared = list(&nobody).await.expect_err("nothing is stored");
    assert!(shared.ends_with("`airlock credentials set crm NAME --scope workspace`"), "{shared}");

    for (scope, flag) in
        [(Scope::Organization, " --scope organization"), (Scope::Workspace, " --scope workspace")]
    {
        let secret = json!({ "name": "team", "credentials": { "bearer_token": "a-token-that-is-bad" } });
        let stored = world.connectors.save_credentials(&world.who, "crm", scope, secret, Save::Create).await;
        stored.expect("is stored");
        for who in [&world.who, &nobody] {
            let refused = list(who).await.expect_err("is refused");
            let command = format!("store a valid one with `airlock credentials set crm team{flag}`");
            assert!(
                refused.contains("refused the credential 'team': ") && refused.ends_with(&command),
                "{refused}"
            );
        }
        let slot = Slot { connector: "crm".into(), auto_auth: true, credentials_name: None };
        let problem = world.connectors.slot(&world.who, false, &slot).problem.expect("a problem");
        assert!(problem.contains(&format!("set crm team{flag}`")), "{problem}");
    }
}

#[tokio::test]
async fn a_switch_for_oauth_is_refused_where_no_oauth_is() {
    let world = World::new();
    let both = json!({ "auth_methods": [{ "method_type": "bearer" }], "oauth_issuer": "https://as.example" });
    let refused = world.add("crm", "https://crm.example/mcp", both).await.expect_err("is refused");
    assert!(refused.to_string().contains("auth_methods has no oauth2"), "{refused}");
    let alone = json!({ "auth_methods": [{ "method_type": "oauth2" }], "oauth_resource": "none" });
    let made = world.add("crm", "https://crm.example/mcp", alone).await.expect("is registered");
    assert_eq!(made["next_step"], "authorise with `airlock credentials authorize crm`", "{made}");
}

#[tokio::test]
async fn a_rule_that_an_import_broke_is_named_by_the_import_and_by_the_check() {
    let world = World::new();
    let origin = serve(Router::new().fallback(|| async { axum::Json(json!({})) })).await;
    let document = |name: &str, required: bool| {
        let parameters =
            json!([{ "name": "q", "in": "query", "required": required, "schema": { "type": "string" } }]);
        let operation = json!({ "operationId": name, "parameters": parameters, "responses": {} });
        json!({ "openapi": "3.1.0", "info": {}, "paths": { "/me": { "get": operation } } })
            .to_string()
            .into_bytes()
    };
    let more = json!({ "protocol": "http", "auth_methods": [{ "method_type": "none" }] });
    world.add("api", &origin, more).await.expect("is registered");
    let import = async |document: Vec<u8>| {
        let imported =
            world.connectors.import(&world.who, true, "api", document, Some("api.json"), true).await;
        imported.expect("is imported")
    };
    let answer = import(document("me", false)).await;
    assert_eq!(
        (&answer["message"], &answer["warnings"]),
        (&json!("connector 'api' has 1 operation"), &Value::Null)
    );
    world.connectors.control(&world.who, true, "api", Some(json!({ "check": "me" }))).expect("is set");
    assert_eq!(world.step("api", None, "operation").await["state"], "ok");

    for (document, reason) in [
        (document("me", true), "'me' needs arguments"),
        (document("other", false), "connector 'api' has no operation 'me'"),
    ] {
        let answer = import(document).await;
        let warning = answer["warnings"][0].as_str().expect("a warning");
        assert!(
            warning.contains("the rule 'check' does not work any more") && warning.contains(reason),
            "{warning}"
        );
        let step = world.step("api", None, "operation").await;
        assert_eq!(step["state"], "failed", "{step}");
        assert!(
            says(&step).contains("the rule 'check' of connector 'api'") && says(&step).contains(reason),
            "{step}"
        );
    }
}

/// Somebody who removes the connector instead of answering, and then answers.
struct Remover(Connectors, Principal);

#[async_trait]
impl Conversation for Remover {
    async fn authorized(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn ask(&self, _: Question) -> Result<Json, Failure> {
        self.0.delete(&self.1, true, "crm").await.expect("is removed");
        Ok(json!({ "approve": true }).into())
    }

    fn progress(&self, _: Json) {}
}

#[tokio::test]
async fn a_connector_that_is_removed_meanwhile_is_told_by_its_name() {
    let world = World::new();
    let ask = json!({ "control": { "default": "ask" }, "auth_methods": [{ "method_type": "none" }] });
    let made = world.add("crm", &server(None).await, ask).await.expect("is registered");
    let binding = Binding {
        slot: "crm".into(),
        auto_auth: true,
        connector_name: "crm".into(),
        connector_id: made["id"].as_str().expect("an id").into(),
        credentials_name: None,
        chosen: false,
        mock: false,
    };
    let origin = CallOrigin {
        principal: world.who.clone(),
        execution: ExecutionId::generate(),
        idempotency_key: "k".into(),
    };
    let (conversation, options) =
        (Remover(world.connectors.clone(), world.who.clone()), CallOptions::default());
    let call = async || {
        let call = ToolCall {
            origin: &origin,
            binding: &binding,
            tool: "look",
            arguments: &Json::null(),
            options: &options,
            conversation: &conversation,
        };
        Tools::call_tool(&world.connectors, call).await.map(drop).expect_err("there is none").message
    };
    assert_eq!(call().await, "connector 'crm' was removed while its question waited");
    assert_eq!(call().await, "connector 'crm' was removed after this execution had begun");
}
