//! REST APIs as connectors: servers and documents that others wrote, mocks, and what becomes of a call on its way.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use airlock_tests::{Client, Daemon, LIMIT, Server, Service, Setup, dependency, guest};
use axum::{
    Router,
    body::Bytes,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use reqwest::Method;
use serde_json::{Value, json};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs the command line; it must succeed.
fn airlock(daemon: &Daemon, arguments: &[&str], input: &str) -> String {
    let output = daemon.cli(arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}{}", out(&output), err(&output));
    out(&output)
}

/// Registers a REST API with operations by hand.
async fn add_api(client: &Client, name: &str, server: &str, method: &Value, operations: &Value) -> Value {
    let body = json!({
        "name": name, "description": "for tests", "server": server, "protocol": "http",
        "visibility": "shared_org", "auth_methods": [method], "operations": operations,
    });
    client.post("/v1/connectors", &body).await
}

/// Calls a tool, with any other keys of the body.
async fn call(client: &Client, connector: &str, tool: &str, body: Value) -> (StatusCode, Value) {
    let path = format!("/v1/connectors/{connector}/tools/{tool}/call");
    let (status, answer) = client.call(Method::POST, &path, Some(&body)).await;
    (StatusCode::from_u16(status.as_u16()).expect("a status"), answer)
}

/// The envelope of a call that was answered.
async fn envelope(client: &Client, connector: &str, tool: &str, arguments: Value) -> Value {
    let (status, answer) = call(client, connector, tool, json!({ "arguments": arguments })).await;
    assert_eq!(status, StatusCode::OK, "{connector} {tool}: {answer}");
    answer["metadata"]["mcp_meta"]["structuredContent"].clone()
}

async fn set_control(client: &Client, connector: &str, control: Value) {
    let path = format!("/v1/airlock/connectors/{connector}/control");
    let (status, answer) = client.call(Method::PUT, &path, Some(&control)).await;
    assert!(status.is_success(), "{answer}");
}

fn figma() -> PathBuf {
    dependency("rest/node_modules/@figma/rest-api-spec/openapi/openapi.yaml")
}

/// What a document says of these paths alone. Prism takes most of a minute for all of Figma's.
fn cut(document: &Path, paths: &[&str]) -> Value {
    fn references(value: &Value, found: &mut Vec<String>) {
        if let Some(reference) = value["$ref"].as_str() {
            found.push(reference.to_owned());
        }
        let members = value.as_object().into_iter().flat_map(|members| members.values());
        members.chain(value.as_array().into_iter().flatten()).for_each(|inner| references(inner, found));
    }
    let text = fs::read_to_string(document).expect("the document is there");
    let whole: Value = serde_saphyr::from_str(&text).expect("the document is YAML");
    let mut small = whole.clone();
    small["paths"].as_object_mut().expect("paths").retain(|path, _| paths.contains(&path.as_str()));
    small["components"] = json!({ "securitySchemes": whole["components"]["securitySchemes"] });
    loop {
        let mut found = Vec::new();
        references(&small, &mut found);
        found.retain(|reference| small.pointer(&reference[1..]).is_none());
        for reference in &found {
            let mut steps = reference.split('/').skip(2);
            let (kind, name) = (steps.next().expect("a kind"), steps.next().expect("a name"));
            small["components"][kind][name] = whole["components"][kind][name].clone();
        }
        if found.is_empty() {
            return small;
        }
    }
}

/// Answers by the examples and schemas of an OpenAPI document, and wants the authentication that it declares.
async fn prism(document: PathBuf) -> Server {
    let program = dependency("rest/node_modules/@stoplight/prism-cli/dist/index.js");
    Server::start("prism", |port| {
        let mut command = Command::new("node");
        command.arg(program).args(["mock", "-h", "127.0.0.1", "-p", &port.to_string()]).arg(document);
        command
    })
    .await
}

/// What a server has been sent, in order, with the headers.
type Seen = Arc<Mutex<Vec<(String, BTreeMap<String, String>)>>>;

/// A server whose answer depends on how many requests it had, this one included.
async fn scripted(answer: impl Fn(usize) -> Response + Clone + Send + Sync + 'static) -> (Service, Seen) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let router = Router::new().fallback(move |request: Request| {
        let headers = request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let line = format!("{} {}", request.method(), request.uri());
        let count = {
            let mut noted = noted.lock().expect("no panic");
            noted.push((line, headers.collect()));
            noted.len()
        };
        let answer = answer.clone();
        async move { answer(count) }
    });
    (Service::start(router).await, seen)
}

fn count(seen: &Seen) -> usize {
    seen.lock().expect("no panic").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_document_is_imported_from_a_file_and_its_operations_are_called() {
    let folder = tempfile::tempdir().expect("a folder");
    let part = folder.path().join("part.json");
    let called = cut(&figma(), &["/v1/me", "/v1/files/{file_key}/comments"]);
    fs::write(&part, called.to_string()).expect("writes");
    let prism = prism(part).await;
    let daemon = Daemon::with(&[]).await;
    let (client, document) = (&daemon.client, figma());
    let (document, server) = (document.to_str().expect("a path"), prism.url(""));
    let add = ["connectors", "add", "figma", "--openapi", document, "--server", &server];
    let said = airlock(&daemon, &add, "");
    assert!(said.contains("connector figma was registered"), "{said}");
    let shown = client.get("/v1/connectors/figma").await;
    assert_eq!((&shown["protocol"], &shown["operations"]), (&json!("http"), &json!(54)), "{shown}");
    assert_eq!(shown["openapi_spec"]["source"], json!({ "type": "file", "filename": "openapi.yaml" }));
    let methods = client.get("/v1/connectors/figma/authentication_methods").await;
    let kinds: Vec<_> =
        methods.as_array().expect("methods").iter().map(|method| &method["method_type"]).collect();
    assert_eq!(kinds, ["oauth2", "api_key"], "{methods}");
    let key = methods.as_array().expect("methods").last().expect("a method");
    assert_eq!((&key["in"], &key["name"]), (&json!("header"), &json!("X-Figma-Token")));

    // Without a credential nothing is sent.
    let (status, answer) = call(client, "figma", "get-me", json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    assert!(answer["detail"].as_str().expect("a sentence").contains("`airlock credentials authorize figma`"));

    airlock(&daemon, &["credentials", "set", "figma", "main", "--api-key"], "figd_0123456789abcdef");
    let tools = client.get("/v1/connectors/figma/tools").await;
    assert_eq!(tools.as_array().map(Vec::len), Some(54));
    let get_file =
        tools.as_array().expect("tools").iter().find(|tool| tool["name"] == "get-file").expect("it");
    assert_eq!(get_file["inputSchema"]["required"], json!(["file_key"]), "{get_file}");
    let me = envelope(client, "figma", "get-me", json!({})).await;
    assert_eq!((&me["success"], &me["metadata"]["status"]), (&json!(true), &json!(200)), "{me}");
    assert!(me["data"]["handle"].is_string(), "{me}");
    let comment = json!({ "file_key": "abc", "message": "Looks good" });
    let posted = envelope(client, "figma", "post-comment", comment).await;
    assert_eq!(posted["success"], true, "{posted}");

    // The same API, told that nothing is needed: the server refuses, and one is told so.
    let body = json!({ "name": "open", "description": "no key", "server": server, "protocol": "http",
        "auth_methods": [{ "method_type": "none" }] });
    client.post("/v1/connectors", &body).await;
    airlock(&daemon, &["connectors", "import", "open", document], "");
    let (status, answer) = call(client, "open", "get-me", json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    let says = "the server of connector 'open' (127.0.0.1) wants a credential, and the connector takes none";
    assert!(answer["detail"].as_str().expect("a sentence").starts_with(says), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a08_a_document_becomes_a_template_that_needs_no_instance_and_whose_changes_reach_none() {
    let document = json!({
        "openapi": "3.1.0", "info": { "title": "Todos", "version": "1" },
        "servers": [{ "url": "https://todos.example" }],
        "paths": { "/todos/{id}": { "get": {
            "operationId": "getTodo", "summary": "One todo",
            "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "type": "integer" } }],
            "responses": { "200": { "description": "it", "content": { "application/json": {
                "schema": { "type": "object" },
                "example": { "userId": 1, "id": 1, "title": "delectus aut autem", "completed": false }
            } } } }
        } } }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("todos.json");
    fs::write(&file, document.to_string()).expect("writes");
    let api = prism(file).await;
    let text = document.to_string();
    let (publisher, _) = scripted(move |_| text.clone().into_response()).await;
    let daemon = Daemon::with(&[guest("echo")]).await;
    let client = &daemon.client;
    let address = publisher.url("/openapi.json");
    let template =
        ["connectors", "add", "todos", "--openapi", &address, "--server", &api.url(""), "--template"];
    airlock(&daemon, &template, "");
    let shown = client.get("/v1/connectors/todos").await;
    assert_eq!(shown["is_template"], true, "{shown}");
    assert_eq!(shown["openapi_spec"]["source"]["url"], json!(address), "{shown}");

    // Nothing of it needs a credential: it is called as it is.
    let todo = envelope(client, "todos", "get-todo", json!({ "id": 1 })).await;
    assert_eq!(todo["data"]["title"], "delectus aut autem", "{todo}");
    assert_eq!(
        (&todo["metadata"]["connector"], &todo["metadata"]["resource"]),
        (&json!("todos"), &json!("get-todo"))
    );

    // An instance has the template's operations, and a server and credentials of its own.
    let (own, seen) = scripted(|_| axum::Json(json!({ "title": "mine" })).into_response()).await;
    let instance =
        ["connectors", "add", "reflector", "--from", "todos", "--server", &own.origin, "--auth", "bearer"];
    airlock(&daemon, &instance, "");
    client.add_credential("reflector", "main", "a-token-of-the-instance").await;
    let mine = envelope(client, "reflector", "get-todo", json!({ "id": 7 })).await;
    assert_eq!(mine["data"]["title"], "mine");
    let (line, headers) = seen.lock().expect("no panic")[0].clone();
    assert_eq!(
        (line.as_str(), headers["authorization"].as_str()),
        ("GET /todos/7", "Bearer a-token-of-the-instance")
    );
    let by_workflow = json!({ "tool": "get-todo", "arguments": { "id": 8 } });
    assert_eq!(client.execute("data", by_workflow).await["title"], "mine");
    let shown = client.get("/v1/connectors/reflector").await;
    assert_eq!((&shown["is_template"], &shown["operations"]), (&json!(false), &json!(1)), "{shown}");
    // What becomes of the template changes no request of an instance (A8).
    let other = json!({ "openapi": "3.1.0", "paths": { "/other/{id}": { "get": { "operationId": "get-todo", "parameters": [
        { "name": "id", "in": "path", "required": true, "schema": { "type": "integer" } }
    ] } } } });
    let file = folder.path().join("other.json");
    fs::write(&file, other.to_string()).expect("writes");
    airlock(&daemon, &["connectors", "import", "todos", file.to_str().expect("a path")], "");
    let by_workflow = json!({ "tool": "get-todo", "arguments": { "id": 9 } });
    assert_eq!(client.execute("data", by_workflow).await["title"], "mine");
    let none = daemon.cli(&["connectors", "add", "other", "--from", "reflector"], "");
    assert!(err(&none).contains("is not a template"), "{}", err(&none));

    // What is no document is said with the host's answer, never with its text.
    for (path, says) in [("/status/404", "127.0.0.1: HTTP status 404"), ("/html", "OpenAPI")] {
        let httpbin = Server::httpbin().await;
        let wrong = daemon.cli(&["connectors", "add", "wrong", "--openapi", &httpbin.url(path)], "");
        assert_eq!(wrong.status.code(), Some(2), "{}", err(&wrong));
        assert!(err(&wrong).contains(says), "{path}: {}", err(&wrong));
    }
    let (status, _) = client.call(Method::GET, "/v1/connectors/wrong", None).await;
    assert_eq!(status.as_u16(), 404, "nothing is left of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_go_where_the_operations_say_and_wrong_ones_are_refused_before_anything_is_sent() {
    let httpbin = Server::httpbin().await;
    let daemon = Daemon::with(&[]).await;
    let client = &daemon.client;
    let operations = json!([
        {
            "name": "Update order", "method": "PUT", "path": "/clientes/{id}/pedidos/{pedidoId}",
            "parameters": [
                { "name": "expand", "in": "query", "schema": { "type": "array", "items": { "type": "string" } } },
                { "name": "X-Trace", "in": "header", "schema": { "type": "string" } },
            ],
            "body": { "type": "object", "required": ["state"], "additionalProperties": false, "properties": {
                "state": { "type": "string", "enum": ["open", "closed"] }, "note": { "type": "string" } } },
        },
        { "name": "Search", "method": "POST", "path": "/search", "content_type": "application/x-www-form-urlencoded",
          "body": { "type": "object", "properties": { "q": { "type": "string" } } } },
    ]);
    let method = json!({ "method_type": "api_key", "in": "query", "name": "api_key" });
    add_api(client, "orders", &httpbin.url("/anything/v1"), &method, &operations).await;
    let stored = json!({ "name": "main", "credentials": { "api_key": "key-0123456789" } });
    client.post("/v1/connectors/orders/user/credentials", &stored).await;

    let flat = json!({ "id": 123, "pedidoId": "a/b ü", "expand": ["items", "x&y"], "X-Trace": "t-1", "state": "open" });
    let grouped = json!({ "path": { "id": 123, "pedidoId": "a/b ü" }, "query": { "expand": ["items", "x&y"] },
        "header": { "X-Trace": "t-1" }, "body": { "state": "open" } });
    for arguments in [flat, grouped] {
        let answer = envelope(client, "orders", "update-order", arguments).await;
        let data = &answer["data"];
        assert_eq!((&data["method"], &data["json"]), (&json!("PUT"), &json!({ "state": "open" })), "{data}");
        assert_eq!(data["args"]["expand"], json!(["items", "x&y"]), "{data}");
        assert_eq!(data["headers"]["X-Trace"], "t-1");
        assert!(data["url"].as_str().expect("it").contains("/anything/v1/clientes/123/pedidos/"), "{data}");
        assert_eq!(
            data["args"]["api_key"], "[REDACTED]",
            "the key was sent, and taken out of the answer: {data}"
        );
    }
    let form = envelope(client, "orders", "search", json!({ "q": "a b&c" })).await;
    assert_eq!(form["data"]["form"], json!({ "q": "a b&c" }), "{form}");

    let before = daemon.cli(&["audit", "show", "--json", "--kind", "call"], "");
    let before: Value = serde_json::from_slice(&before.stdout).expect("entries");
    for (arguments, place) in [
        (json!({ "id": 1, "pedidoId": 2 }), "state"),
        (json!({ "id": 1, "pedidoId": 2, "state": "lost" }), "state"),
        (json!({ "id": 1, "pedidoId": "..", "state": "open" }), "pedidoId"),
        (json!({ "id": 1, "pedidoId": "", "state": "open" }), "pedidoId"),
        (json!({ "id": 1, "pedidoId": 2, "state": "open", "X-Trace": "a\r\nHost: b" }), "X-Trace"),
        (
            json!({ "id": 1, "pedidoId": 2, "state": "open", "Authorization": "Bearer of-the-guest" }),
            "Authorization",
        ),
    ] {
        let (status, answer) =
            call(client, "orders", "update-order", json!({ "arguments": arguments })).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{arguments}: {answer}");
        assert!(answer.to_string().contains(place), "{arguments}: {answer}");
    }
    let after = daemon.cli(&["audit", "show", "--json", "--kind", "call"], "");
    let after: Value = serde_json::from_slice(&after.stdout).expect("entries");
    let new = &after.as_array().expect("entries")[before.as_array().expect("entries").len()..];
    assert_eq!(new.len(), 6);
    assert!(
        new.iter().all(|entry| entry["code"] == "invalid" && entry["response_bytes"].is_null()),
        "{new:?}"
    );

    let unknown = call(client, "orders", "no-such", json!({})).await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND, "{unknown:?}");
    for (operations, says) in [
        (json!([{ "name": "x", "method": "GET", "path": "x" }]), "/operations/0/path"),
        (json!([{ "name": "x", "method": "FETCH", "path": "/x" }]), "GET"),
        (json!([{ "name": "x", "method": "GET", "path": "/x", "paht": 1 }]), "paht"),
        (json!([]), "operations"),
    ] {
        let body = json!({ "name": "bad", "description": "", "server": httpbin.url(""), "protocol": "http",
            "operations": operations });
        let (status, answer) = client.call(Method::POST, "/v1/connectors", Some(&body)).await;
        assert_eq!(status.as_u16(), 422, "{operations}: {answer}");
        let place = answer.to_string().replace("\",\"", "/").replace(',', "/").replace('"', "");
        assert!(
            answer.to_string().contains(says) || place.contains(says.trim_start_matches('/')),
            "{says}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_statuses_and_encodings_come_back_in_the_envelope() {
    let httpbin = Server::httpbin().await;
    let daemon = Daemon::with(&[]).await;
    let client = &daemon.client;
    let path = |name: &str, path: &str| json!({ "name": name, "method": "GET", "path": path });
    let operations = json!([
        path("status", "/status/{code}"), path("redirect", "/redirect/{n}"), path("gzip", "/gzip"),
        path("brotli", "/brotli"), path("image", "/image/png"), path("basic", "/basic-auth/ada/lovelace-1815"),
        { "name": "elsewhere", "method": "GET", "path": "/redirect-to",
          "parameters": [{ "name": "url", "in": "query", "required": true, "schema": { "type": "string" } }] },
        { "name": "delay", "method": "GET", "path": "/delay/{seconds}" },
    ]);
    add_api(client, "bin", &httpbin.url(""), &json!({ "method_type": "none" }), &operations).await;
    set_control(client, "bin", json!({ "retries": 0, "breaker": { "failures": 1000 } })).await;

    let missing = envelope(client, "bin", "status", json!({ "code": 404 })).await;
    assert_eq!(
        (&missing["success"], &missing["metadata"]["status"]),
        (&json!(false), &json!(404)),
        "{missing}"
    );
    let failed = daemon.cli(&["connectors", "call", "bin", "status", "--arguments", r#"{"code": 418}"#], "");
    assert_eq!(
        failed.status.code(),
        Some(1),
        "an error of the service is one of the command: {}",
        out(&failed)
    );
    assert!(out(&failed).contains("teapot"), "{}", out(&failed));
    let (status, busy) = call(client, "bin", "status", json!({ "arguments": { "code": 503 } })).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{busy}");
    assert_eq!(busy["detail"], "the server of connector 'bin' (127.0.0.1) answered with HTTP status 503");

    let followed = envelope(client, "bin", "redirect", json!({ "n": 2 })).await;
    assert!(followed["data"]["url"].as_str().expect("a url").ends_with("/get"), "{followed}");
    let (status, moved) =
        call(client, "bin", "elsewhere", json!({ "arguments": { "url": "http://127.0.0.1:9/" } })).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{moved}");
    assert!(moved["detail"].as_str().expect("a sentence").contains("redirects to another server"), "{moved}");

    assert_eq!(envelope(client, "bin", "gzip", json!({})).await["data"]["gzipped"], true);
    assert_eq!(envelope(client, "bin", "brotli", json!({})).await["data"]["brotli"], true);
    let (_, image) = call(client, "bin", "image", json!({})).await;
    assert_eq!(
        (&image["content"][0]["type"], &image["content"][0]["mimeType"]),
        (&json!("image"), &json!("image/png"))
    );

    let late = json!({ "arguments": { "seconds": 10 }, "options": { "timeout_ms": 300 } });
    let (status, late) = call(client, "bin", "delay", late).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{late}");
    assert!(late["detail"].as_str().expect("a sentence").ends_with("took longer than 300ms"), "{late}");

    // A password that the operation's server checks.
    let basic = json!([path("basic", "/basic-auth/ada/lovelace-1815")]);
    add_api(client, "private", &httpbin.url(""), &json!({ "method_type": "basic" }), &basic).await;
    airlock(&daemon, &["credentials", "set", "private", "main", "--username", "ada"], "lovelace-1815");
    assert_eq!(envelope(client, "private", "basic", json!({})).await["data"]["authenticated"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_tried_again_when_that_is_safe_and_as_late_as_the_server_asks() {
    let operations = json!([
        { "name": "read", "method": "GET", "path": "/read" },
        { "name": "write", "method": "POST", "path": "/write", "body": { "type": "object" } },
    ]);
    let daemon = Daemon::with(&[]).await;
    let client = &daemon.client;
    let none = json!({ "method_type": "none" });
    let good = || axum::Json(json!({ "done": true })).into_response();

    let (flaky, reads) =
        scripted(move |n| if n < 3 { StatusCode::BAD_GATEWAY.into_response() } else { good() }).await;
    add_api(client, "flaky", &flaky.origin, &none, &operations).await;
    assert_eq!(envelope(client, "flaky", "read", json!({})).await["data"]["done"], true);
    assert_eq!(count(&reads), 3, "twice again is the default");

    let (broken, writes) = scripted(|_| StatusCode::BAD_GATEWAY.into_response()).await;
    add_api(client, "broken", &broken.origin, &none, &operations).await;
    let (status, _) = call(client, "broken", "write", json!({})).await;
    assert_eq!((status, count(&writes)), (StatusCode::BAD_GATEWAY, 1), "it may have had its effect");
    let wish = json!({ "options": { "retries": 1 } });
    let (status, _) = call(client, "broken", "read", wish).await;
    assert_eq!((status, count(&writes)), (StatusCode::BAD_GATEWAY, 3), "once again, as asked");

    let busy =
        |seconds: &'static str| (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds)]).into_response();
    let (patient, asked) = scripted(move |n| if n == 1 { busy("1") } else { good() }).await;
    add_api(client, "patient", &patient.origin, &none, &operations).await;
    let began = Instant::now();
    assert_eq!(envelope(client, "patient", "write", json!({})).await["data"]["done"], true);
    assert_eq!(count(&asked), 2, "a 429 has done nothing, so a write is sent again");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());

    let (later, asked) = scripted(move |_| busy("3600")).await;
    add_api(client, "later", &later.origin, &none, &operations).await;
    let (status, answer) = call(client, "later", "read", json!({})).await;
    assert_eq!((status, count(&asked)), (StatusCode::TOO_MANY_REQUESTS, 1), "{answer}");
    assert!(
        answer["detail"].as_str().expect("a sentence").contains("asks to come back after 3600 s"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_chooses_time_retries_credential_and_mock_for_a_call() {
    let (server, seen) = scripted(|n| match n {
        1 | 2 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => axum::Json(json!({ "live": true })).into_response(),
    })
    .await;
    let operations =
        json!([{ "name": "read", "method": "GET", "path": "/read", "example": { "live": false } }]);
    let daemon = Daemon::with(&[guest("echo")]).await;
    let client = &daemon.client;
    add_api(client, "reflector", &server.origin, &json!({ "method_type": "bearer" }), &operations).await;
    client.add_credential("reflector", "main", "the-token-of-main").await;
    client.add_credential("reflector", "other", "the-token-of-other").await;
    for workflow in ["data", "data-in-workflow"] {
        let mocked = client.execute(workflow, json!({ "tool": "read", "use_mock": true })).await;
        assert_eq!(mocked, json!({ "live": false }), "{workflow}: the example of the operation");
    }
    // Preflight of a REST connector asks nothing of the server.
    assert_eq!(count(&seen), 0);
    let id = client.start("data", json!({ "tool": "read", "retries": 0 })).await;
    let ended = client.ended(&id, LIMIT).await;
    assert_eq!(
        (&ended["status"], &ended["failure"]["kind"]),
        (&json!("FAILED"), &json!("ConnectorError")),
        "{ended}"
    );
    assert_eq!(count(&seen), 1);
    for (workflow, name) in [("data", "other"), ("data-in-workflow", "main")] {
        let wanted = json!({ "tool": "read", "credentials_name": name, "retries": 2, "timeout_ms": 60_000 });
        assert_eq!(client.execute(workflow, wanted).await, json!({ "live": true }));
        let (_, headers) = seen.lock().expect("no panic").last().cloned().expect("a request");
        assert_eq!(headers["authorization"], format!("Bearer the-token-of-{name}"));
    }
    for (wanted, says) in [
        (json!({ "tool": "read", "credentials_name": "nobody" }), "Credential 'nobody' not found"),
        (json!({ "tool": "read", "timeout_ms": 999_999 }), "120"),
        (json!({ "tool": "read", "retries": 99 }), "10"),
    ] {
        for workflow in ["data", "data-in-workflow"] {
            let id = client.start(workflow, wanted.clone()).await;
            let ended = client.ended(&id, LIMIT).await;
            let message = ended["failure"]["message"].as_str().expect("a message");
            assert!(message.contains(says), "{workflow} {wanted}: {message}");
        }
    }
    // What the caller bound goes before what the plugin wishes.
    let bound = json!({ "input": { "tool": "read", "credentials_name": "other" }, "extensions": { "mistralai": {
        "connectors": { "bindings": [{ "connector_name": "reflector", "credentials_name": "main" }] } } } });
    let id = client.post("/v1/workflows/data/execute", &bound).await["execution_id"].clone();
    let ended = client.ended(id.as_str().expect("an id"), LIMIT).await;
    assert_eq!(ended["status"], "FAILED", "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mocks_are_written_recorded_and_taken_from_examples_and_never_reach_the_server() {
    let (server, seen) = scripted(|n| axum::Json(json!({ "live": n })).into_response()).await;
    let operations = json!([
        { "name": "read", "method": "GET", "path": "/read/{id}" },
        { "name": "list", "method": "GET", "path": "/list", "example": [{ "id": 1 }] },
    ]);
    let daemon = Daemon::with(&[guest("echo")]).await;
    let client = &daemon.client;
    add_api(client, "reflector", &server.origin, &json!({ "method_type": "bearer" }), &operations).await;
    let mock = async |tool: &str, arguments: Value| {
        call(client, "reflector", tool, json!({ "arguments": arguments, "options": { "use_mock": true } }))
            .await
    };
    let data = |answer: &Value| answer["metadata"]["mcp_meta"]["structuredContent"]["data"].clone();
    // There is no credential: a mocked call looks for none.
    assert_eq!(data(&mock("list", json!({})).await.1), json!([{ "id": 1 }]));
    let (status, none) = mock("read", json!({ "id": 1 })).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{none}");
    assert!(
        none["detail"].as_str().expect("a sentence").contains("airlock connectors mock reflector read"),
        "{none}"
    );

    // Recorded from live calls; then the server is gone.
    client.add_credential("reflector", "main", "a-token-that-is-good").await;
    set_control(client, "reflector", json!({ "record": true })).await;
    for id in [1, 2] {
        assert_eq!(envelope(client, "reflector", "read", json!({ "id": id })).await["data"]["live"], id);
    }
    client.call(Method::DELETE, "/v1/connectors/reflector/user/credentials/main", None).await;
    drop(server);
    for id in [2, 1] {
        assert_eq!(data(&mock("read", json!({ "id": id })).await.1), json!({ "live": id }));
    }
    let (status, none) = mock("read", json!({ "id": 3 })).await;
    assert!(none.to_string().contains("none of its mocks matches"), "{status} {none}");

    // Written by hand: with arguments before without, an error, a delay.
    let mocks = json!({ "mocks": [
        { "tool": "read", "answer": { "data": { "any": true } } },
        { "tool": "read", "arguments": { "id": 9 }, "answer": { "error": "gone", "status": 410 } },
        { "tool": "read", "arguments": { "id": 8 }, "answer": { "data": 8 }, "delay_ms": 300 },
    ] });
    let set = ["connectors", "mock", "reflector", "--set", &mocks.to_string()];
    airlock(&daemon, &set, "");
    assert_eq!(data(&mock("read", json!({ "id": 3 })).await.1), json!({ "any": true }));
    let gone = mock("read", json!({ "id": 9 })).await.1;
    assert_eq!(gone["metadata"]["mcp_meta"]["isError"], true, "{gone}");
    assert_eq!(gone["metadata"]["mcp_meta"]["structuredContent"]["metadata"]["status"], 410);
    let began = Instant::now();
    assert_eq!(data(&mock("read", json!({ "id": 8 })).await.1), json!(8));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(data(&mock("read", json!({ "id": 1 })).await.1), json!({ "live": 1 }), "recorded ones stay");
    let add = ["connectors", "mock", "reflector", "list", "--answer", r#"{"data": []}"#];
    airlock(&daemon, &add, "");
    assert_eq!(data(&mock("list", json!({})).await.1), json!([]), "written ones go before examples");
    // Arguments are checked as those of a live call are.
    let (status, _) = mock("read", json!({})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(count(&seen), 2);
    airlock(&daemon, &["connectors", "mock", "reflector", "--clear"], "");
    assert_eq!(mock("read", json!({ "id": 1 })).await.0, StatusCode::NOT_FOUND);
    assert_eq!(data(&mock("list", json!({})).await.1), json!([{ "id": 1 }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_execution_runs_on_mocks_with_no_server_and_no_credential() {
    // Nothing listens there, and without --allow-loopback nothing could be reached.
    let daemon = Setup::new(&[guest("echo"), guest("github-issues")]).start().await;
    let client = &daemon.client;
    let operations =
        json!([{ "name": "read", "method": "GET", "path": "/read", "example": { "mocked": true } }]);
    let bearer = json!({ "method_type": "bearer" });
    add_api(client, "reflector", "https://nowhere.invalid", &bearer, &operations).await;
    client.add_connector("github_app", "https://nowhere.invalid/mcp", "bearer").await;
    let mock = r#"{"data": {"number": 7, "url": "https://git.example/o/r/issues/7"}}"#;
    airlock(&daemon, &["connectors", "mock", "github_app", "issue_write", "--answer", mock], "");

    for workflow in ["data", "data-in-workflow"] {
        // What the plugin wishes is no way out.
        let body = json!({ "input": { "tool": "read", "use_mock": false }, "wait_for_result": true,
            "extensions": { "airlock": { "mocks": true } } });
        let answer = client.post(&format!("/v1/workflows/{workflow}/execute"), &body).await;
        assert_eq!(answer["result"], json!({ "mocked": true }), "{answer}");
    }
    let issue = r#"{"owner": "o", "repo": "r", "title": "t", "body": "b"}"#;
    let ran = airlock(&daemon, &["run", "github-issue-creator", "--input", issue, "--mock"], "");
    assert!(ran.contains("issues/7"), "{ran}");
    let ran = airlock(
        &daemon,
        &["run", "data", "--input", r#"{"tool": "read"}"#, "--mock-connector", "reflector"],
        "",
    );
    assert!(ran.contains("mocked"), "{ran}");

    // Without the wish, the same execution needs what is not there.
    let live = client.start("data", json!({ "tool": "read" })).await;
    let ended = client.ended(&live, LIMIT).await;
    assert_eq!(ended["status"], "FAILED", "{ended}");
    let audit: Value = client.get("/v1/airlock/audit?kind=call&limit=100").await;
    let entries = audit["entries"].as_array().expect("entries");
    assert_eq!(entries.len(), 4, "{audit}");
    for entry in entries {
        assert_eq!(entry["note"], "answered from a mock", "{entry}");
        assert!(entry["credential"].is_null(), "{entry}");
    }
}

/// An OpenAPI document of about 13 MB with so many operations.
fn large_document(operations: usize) -> String {
    let filler =
        "A sentence that describes what this property means to those who have never seen it. ".repeat(5);
    let properties: serde_json::Map<String, Value> = (0..24)
        .map(|n| {
            (format!("property_{n}"), json!({ "type": "string", "description": filler, "example": "text" }))
        })
        .collect();
    let paths: serde_json::Map<String, Value> = (0..operations)
        .map(|n| {
            let operation = json!({
                "operationId": format!("things/get-thing-{n}"), "summary": format!("Thing {n}"),
                "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "type": "integer" } }],
                "responses": { "200": { "description": "it", "content": { "application/json": {
                    "schema": { "type": "object", "properties": properties } } } } },
            });
            (format!("/things/{n}/{{id}}"), json!({ "get": operation }))
        })
        .collect();
    let document = json!({ "openapi": "3.0.3", "info": { "title": "Things", "version": "1" },
        "servers": [{ "url": "https://things.example" }], "paths": paths });
    document.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_13_mb_is_imported_whole_from_a_file_and_by_address() {
    const OPERATIONS: usize = 1_100;
    let document = large_document(OPERATIONS);
    assert!((12_000_000..16_000_000).contains(&document.len()), "{} bytes", document.len());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("things.json");
    fs::write(&file, &document).expect("writes");
    let file = file.to_str().expect("a path");
    let daemon = Daemon::with(&[]).await;
    let client = &daemon.client;

    let began = Instant::now();
    airlock(&daemon, &["connectors", "add", "things", "--openapi", file], "");
    println!(
        "{} bytes with {OPERATIONS} operations by the command line: {:?}",
        document.len(),
        began.elapsed()
    );
    let began = Instant::now();
    airlock(&daemon, &["connectors", "import", "things", file], "");
    println!("the same again: {:?}", began.elapsed());
    let began = Instant::now();
    let tools = client.get("/v1/connectors/things/tools").await;
    println!("its list of tools: {:?}", began.elapsed());
    assert_eq!(tools.as_array().map(Vec::len), Some(OPERATIONS));
    assert!(
        tools.as_array().expect("tools").iter().any(|tool| tool["name"] == "things-get-thing-7"),
        "{}",
        tools[0]
    );

    let bytes = Bytes::from(document);
    let (publisher, _) = scripted(move |_| bytes.clone().into_response()).await;
    let body = json!({ "name": "fetched", "description": "by address", "protocol": "http",
        "server": "https://things.example", "openapi_url": publisher.url("/openapi.json") });
    let began = Instant::now();
    let made = client.post("/v1/connectors", &body).await;
    println!("by address: {:?}", began.elapsed());
    assert_eq!(made["operations"], OPERATIONS, "{made}");
}
