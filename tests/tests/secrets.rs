//! The promise of THREATS.md as a whole: secrets are planted for every way to authenticate, everything is done with them
//! that can be done, at the most verbose log level, and then they are searched for wherever something is kept or told.

#[path = "secrets/forms.rs"]
mod forms;
#[path = "secrets/shapes.rs"]
mod shapes;

use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use airlock_tests::{Canary, Client, Daemon, Fault, LIMIT, Service, Setup, guest, text_result, tools};
use axum::{
    Form, Json, Router,
    extract::Request,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
    routing::post,
};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

/// Everything that must not be found.
struct Planted {
    bearer: Canary,
    header: Canary,
    password: Canary,
    header_key: Canary,
    query_key: Canary,
    of_organization: Canary,
    posted_secret: Canary,
    basic_secret: Canary,
    /// A line of a private key.
    private_key: Canary,
    client_secret: Canary,
    code: Canary,
    /// What the authorization server gives, by grant.
    granted: Canary,
    access: Canary,
    refresh: Canary,
    refreshed: Canary,
    next_refresh: Canary,
}

impl Planted {
    fn new(pem: &str) -> Self {
        Self {
            bearer: Canary::new("bearer"),
            header: Canary::new("header"),
            password: Canary::new("password"),
            header_key: Canary::new("header-key"),
            query_key: Canary::new("query-key"),
            of_organization: Canary::new("of-organization"),
            posted_secret: Canary::new("posted"),
            basic_secret: Canary::new("basic-secret"),
            private_key: Canary::of(pem.lines().nth(2).expect("a line of the key").to_owned()),
            client_secret: Canary::new("client"),
            code: Canary::new("code"),
            granted: Canary::new("granted"),
            access: Canary::new("access"),
            refresh: Canary::new("refresh"),
            refreshed: Canary::new("renewed"),
            next_refresh: Canary::new("next-refresh"),
        }
    }

    fn all(&self) -> Vec<&Canary> {
        vec![
            &self.bearer,
            &self.header,
            &self.password,
            &self.header_key,
            &self.query_key,
            &self.of_organization,
            &self.posted_secret,
            &self.basic_secret,
            &self.private_key,
            &self.client_secret,
            &self.code,
            &self.granted,
            &self.access,
            &self.refresh,
            &self.refreshed,
            &self.next_refresh,
        ]
    }

    fn check(&self, text: &str, place: &str) {
        self.all().iter().for_each(|canary| canary.check_text(text, place));
    }

    /// For a guest that searches its memory: every form with its bytes inverted, after one that has to be found.
    fn needles(&self) -> Vec<Vec<u8>> {
        let invert = |text: &str| text.bytes().map(|byte| !byte).collect();
        let forms = self.all().into_iter().flat_map(|canary| &canary.forms);
        std::iter::once(invert("[REDACTED]")).chain(forms.map(|(form, _)| invert(form))).collect()
    }
}

fn private_key() -> String {
    let arguments = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let made = Command::new("openssl").args(arguments).output().expect("`openssl` is installed");
    String::from_utf8(made.stdout).expect("a PEM file")
}

/// What the services were sent: only what did go out can come back.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<String>>);

impl Seen {
    fn note(&self, told: String) -> String {
        self.0.lock().expect("not poisoned").push_str(&told);
        told
    }
}

/// An authorization server that gives the planted tokens; the first access token is as good as expired.
async fn authorization_server(planted: &Planted, seen: Seen) -> Service {
    let of = |canary: &Canary| canary.secret.clone();
    let (code, refresh, granted) = (of(&planted.code), of(&planted.refresh), of(&planted.granted));
    let first = json!({ "access_token": of(&planted.access), "refresh_token": refresh, "expires_in": 10 });
    let second = json!({
        "access_token": of(&planted.refreshed), "refresh_token": of(&planted.next_refresh), "expires_in": 3600,
    });
    let answer = move |form: &[(String, String)]| -> Response {
        let field =
            |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
        let mut tokens = match field("grant_type") {
            "client_credentials" => json!({ "access_token": granted, "expires_in": 3600 }),
            "authorization_code" if field("code") == code => first.clone(),
            "refresh_token" if field("refresh_token") == refresh => second.clone(),
            other => {
                let error =
                    json!({ "error": "invalid_grant", "error_description": format!("{other}: {form:?}") });
                return (StatusCode::BAD_REQUEST, Json(error)).into_response();
            }
        };
        tokens["token_type"] = "Bearer".into();
        Json(tokens).into_response()
    };
    let answer = Arc::new(answer);
    let token = move |head: HeaderMap, Form(form): Form<Vec<(String, String)>>| {
        let answer = Arc::clone(&answer);
        seen.note(format!("{head:?} {form:?}"));
        async move { answer(&form) }
    };
    Service::start(Router::new().route("/token", post(token))).await
}

/// Tells all that it was sent, in results, in errors and at length.
async fn telltale(seen: Seen) -> Service {
    Service::mcp(move |method, parameters, head| {
        let told = seen.note(format!("{:?} {:?}", head.uri, head.headers));
        match (method, parameters["name"].as_str()) {
            ("tools/list", _) => Ok(tools(&["tell", "fail", "tell-much"])),
            (_, Some("fail")) => Err(Fault::Error(told)),
            (_, Some("tell-much")) => Ok(text_result(&format!("{} {told}", "long ".repeat(600_000)))),
            _ => Ok(text_result(&told)),
        }
    })
    .await
}

/// The same as a REST service.
async fn rest_telltale(seen: Seen) -> Service {
    let tell = move |request: Request| {
        let told = seen.note(format!("{:?} {:?}", request.uri(), request.headers()));
        let fails = request.uri().path() == "/fail";
        let status = if fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        async move { (status, told) }
    };
    Service::start(Router::new().fallback(tell)).await
}

/// Gives the connector that the guests know another name, and registers one in its place.
async fn next_connector(client: &Client, number: usize, mut body: Value) {
    if number > 0 {
        let renamed = json!({ "name": format!("reflector-{number}") });
        let path = "/v1/connectors/reflector";
        let (status, answer) = client.call(Method::PATCH, path, Some(&renamed)).await;
        assert!(status.is_success(), "{answer}");
    }
    body["name"] = "reflector".into();
    body["description"] = "for tests".into();
    body["visibility"] = "shared_org".into();
    body["control"] = json!({ "audit_arguments": true });
    client.post("/v1/connectors", &body).await;
}

/// Authorises as a browser does.
async fn authorise(daemon: &Daemon, code: &str) {
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build();
    let browser = browser.expect("a client");
    let link = daemon.client.get("/v1/connectors/reflector/auth_url").await;
    let link = link["auth_url"].as_str().expect("a link").to_owned();
    let header = |response: &reqwest::Response, name: &str| {
        response.headers()[name].to_str().expect("text").to_owned()
    };
    // The page that asks, and its button.
    let page = browser.get(&link).send().await.expect("answers");
    let given = header(&page, "set-cookie");
    let page = page.text().await.expect("a page");
    let token = page.split("name=\"token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let agreed = format!("token={}", token.expect("a token"));
    let agree = browser.post(&link).header("cookie", given.split(';').next().expect("a cookie"));
    let agree = agree.header("content-type", "application/x-www-form-urlencoded").body(agreed);
    let departed = agree.send().await.expect("answers");
    let cookie = header(&departed, "set-cookie");
    let location = Url::parse(&header(&departed, "location")).expect("an address");
    let state = location.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
    let mut callback = Url::parse(&daemon.url()).expect("an address");
    callback.set_path("/v1/airlock/oauth/callback");
    callback.query_pairs_mut().append_pair("code", code).append_pair("state", &state);
    let request = browser.get(callback).header("cookie", cookie.split(';').next().expect("a cookie"));
    let arrived = request.send().await.expect("answers");
    assert_eq!(arrived.status(), StatusCode::OK, "{}", arrived.text().await.expect("a page"));
}

/// Runs every fixture with the connector as it is now, and looks at all that is told.
async fn everything(daemon: &Daemon, planted: &Planted, place: &str, is_rest: bool) {
    let client = &daemon.client;
    let call = |tool: &str| json!({ "tool": tool });
    let search =
        json!({ "calls": [["tell", {}], ["fail", {}], ["no-such-tool", {}]], "needles": planted.needles() });
    let mut executions = vec![
        ("search", search.clone()),
        ("search-in-workflow", search),
        ("echo", call("tell")),
        ("echo-twice", call("tell")),
        ("echo-in-workflow", call("tell")),
        ("echo", call("fail")),
        ("echo", call("no-such-tool")),
        ("echo-list", json!({})),
        ("authorise", json!({})),
        ("authorise-in-workflow", json!({})),
        ("hostile", json!({ "deed": "environment" })),
        ("hostile", json!({ "deed": "panic" })),
        ("hostile-workflow", json!({ "plot": "panic" })),
    ];
    if !is_rest {
        executions.push(("echo", call("tell-much")));
    }
    for (workflow, input) in executions {
        let is_search = workflow.starts_with("search");
        let what = format!("{place}, {workflow} {}", if is_search { Value::Null } else { input.clone() });
        let id = client.start(workflow, input).await;
        let ended = client.ended(&id, LIMIT).await;
        planted.check(&ended.to_string(), &format!("{what}: the execution"));
        if is_search {
            assert_eq!(ended["status"], "COMPLETED", "{what}: {ended}");
            let found = ended["result"].as_array().cloned().unwrap_or_else(|| {
                ended["result"]["result"].as_array().cloned().unwrap_or_else(|| panic!("{what}: {ended}"))
            });
            assert_eq!(found.len(), 6, "{what}: {found:?}");
            for found in &found {
                // Row 16. The first needle is what stands in place of secrets: the search does find what is there.
                let expected = if found["after"] == "nothing" { json!([]) } else { json!([0]) };
                assert_eq!(found["needles"], expected, "{what}: in memory: {found}");
                assert!(found["bytes"].as_u64() > Some(100_000), "{found}");
            }
        }
        for event in client.events(&id).await {
            planted.check(&event.to_string(), &format!("{what}: an event"));
        }
        for path in ["history", "stream"] {
            let path = format!("/v1/workflows/executions/{id}/{path}");
            planted.check(&client.get_text(&path).await, &format!("{what}: {path}"));
        }
        let shown = daemon.cli(&["executions", "show", &id, "--json"], "");
        planted.check(&String::from_utf8_lossy(&shown.stdout), "the command line");
    }
    for scope in ["user", "workspace", "organization"] {
        let path = format!("/v1/connectors/reflector/{scope}/credentials");
        planted.check(&client.get(&path).await.to_string(), &path);
    }
    for path in ["?fetch_user_data=true", "/tools?refresh=true", "/authentication_methods"] {
        let path = format!("/v1/connectors/reflector{path}");
        planted.check(&client.get(&path).await.to_string(), &path);
    }
    for arguments in [
        ["connectors", "show", "reflector"].as_slice(),
        &["connectors", "tools", "reflector", "--json"],
        &["connectors", "call", "reflector", "tell"],
        &["connectors", "call", "reflector", "fail"],
        &["connectors", "pins", "reflector"],
        &["credentials", "list", "reflector"],
        &["audit", "show", "--limit", "1000", "--json"],
    ] {
        let output = daemon.cli(arguments, "");
        let text = [output.stdout, output.stderr].concat();
        planted.check(&String::from_utf8_lossy(&text), &format!("`airlock {}`", arguments.join(" ")));
    }
}

/// Stores a secret as a person does, on the command line.
fn set(daemon: &Daemon, options: &[&str], secret: &str) -> String {
    let arguments = [&["credentials", "set", "reflector", "main"], options].concat();
    let output = daemon.cli(&arguments, secret);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_01_02_16_17_18_25_no_planted_secret_is_left_anywhere() {
    let pem = private_key();
    let planted = Planted::new(&pem);
    let seen = Seen::default();
    let (mcp, rest) = (telltale(seen.clone()).await, rest_telltale(seen.clone()).await);
    let server = authorization_server(&planted, seen.clone()).await;
    let setup = Setup::new(&[guest("echo"), guest("hostile")]);
    let mut daemon = setup.with(&["--allow-loopback", "--log", "trace"]).start().await;
    let client = daemon.client.clone();
    let metadata = json!({
        "issuer": server.origin, "token_endpoint": server.url("/token"),
        "authorization_endpoint": server.url("/authorize"), "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
    });
    let programs = |auth: &str| {
        json!({
            "method_type": "oauth2", "grant_type": "client_credentials", "token_endpoint_auth_method": auth,
            "oauth2_server_metadata": metadata,
        })
    };
    let key = |place: &str| json!({ "method_type": "api_key", "in": place, "name": "x-api-key" });
    let people = json!({
        "method_type": "oauth2", "oauth2_server_metadata": metadata,
        "auth_data": { "client_id": "airlock", "client_secret": planted.client_secret.secret },
    });
    let ways: [(&str, Value, &[&str], &str); 9] = [
        ("bearer", json!({ "method_type": "bearer" }), &[], &planted.bearer.secret),
        ("headers", json!({ "method_type": "bearer" }), &["--header", "X-Token"], &planted.header.secret),
        ("basic", json!({ "method_type": "basic" }), &["--username", "user"], &planted.password.secret),
        ("key in a header", key("header"), &["--api-key"], &planted.header_key.secret),
        ("key in the query", key("query"), &["--api-key"], &planted.query_key.secret),
        (
            "client secret, posted",
            programs("client_secret_post"),
            &["--client-id", "program"],
            &planted.posted_secret.secret,
        ),
        (
            "client secret, basic",
            programs("client_secret_basic"),
            &["--client-id", "program"],
            &planted.basic_secret.secret,
        ),
        ("private key", programs("private_key_jwt"), &["--client-id", "program", "--client-key"], &pem),
        ("authorisation in a browser", people, &[], ""),
    ];
    let organization =
        json!({ "X-Organization": { "value": planted.of_organization.secret, "is_secret": true } });
    let mut number = 0;
    for (name, method, options, secret) in &ways {
        for (protocol, address) in [("mcp", mcp.url("/mcp")), ("http", rest.origin.clone())] {
            let mut connector = json!({
                "protocol": protocol, "server": address, "auth_methods": [method], "global_headers": organization,
            });
            if protocol == "http" {
                connector["operations"] = json!([
                    { "name": "tell", "method": "get", "path": "/tell" },
                    { "name": "fail", "method": "get", "path": "/fail" },
                ]);
            }
            next_connector(&client, number, connector).await;
            number += 1;
            let place = format!("{name}, {protocol}");
            if secret.is_empty() {
                authorise(&daemon, &planted.code.secret).await;
            } else {
                planted.check(&set(&daemon, options, secret), "`airlock credentials set`");
            }
            everything(&daemon, &planted, &place, protocol == "http").await;
        }
    }
    let sent = seen.0.lock().expect("not poisoned").clone();
    let stays = [&planted.private_key, &planted.access, &planted.next_refresh].map(|canary| &canary.secret);
    for canary in planted.all() {
        // A private key signs, the first access token is refreshed at once, and the last refresh token is not needed.
        let goes_out = !stays.contains(&&canary.secret);
        assert_eq!(canary.stands_in(&sent), goes_out, "{} went to a service", canary.secret);
    }
    let objects = daemon.setup.data().join("objects");
    assert!(has_files(&objects), "a long result went to the object store");
    let verified = daemon.cli(&["vault", "verify"], "");
    assert!(verified.status.success(), "{verified:?}");
    planted.check(&client.get_text("/v1/airlock/audit/export").await, "the audit log");

    // Also what the write-ahead log holds at the moment of a crash.
    daemon.kill();
    Canary::check_folder_for(&planted.all(), daemon.setup.folder.path());
    let log = daemon.setup.log();
    assert!(log.contains("TRACE") && log.contains("panic"), "the log is as verbose as it can be");
}

fn has_files(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).expect("lists").map(|entry| entry.expect("lists").path());
    entries.into_iter().any(|path| path.is_file() || has_files(&path))
}

#[tokio::test(flavor = "multi_thread")]
async fn row_16_a_guest_finds_nothing_of_another_one_in_its_memory() {
    let service = telltale(Seen::default()).await;
    let daemon = Setup::new(&[guest("hostile"), guest("echo")]).with(&["--allow-loopback"]).start().await;
    let client = &daemon.client;
    let body = json!({
        "name": "reflector", "description": "d", "server": service.url("/mcp"), "protocol": "mcp",
        "auth_methods": [{ "method_type": "none" }],
    });
    client.post("/v1/connectors", &body).await;
    let marker = "what-the-first-guest-was-told-0815";
    for workflow in ["echo", "echo-in-workflow"] {
        client.execute(workflow, json!({ "tool": "tell", "arguments": { "marker": marker } })).await;
    }
    let needle: Vec<u8> = marker.bytes().map(|byte| !byte).collect();
    for workflow in ["search", "search-in-workflow"] {
        // The last call has it as its argument, so that the search is seen to find it.
        let search = |calls: Value| json!({ "calls": calls, "needles": [needle] });
        let found = client.execute(workflow, search(json!([["tell", {}]]))).await.to_string();
        assert!(found.contains(r#""needles":[]"#) && !found.contains(r#""needles":[0]"#), "{found}");
        let found =
            client.execute(workflow, search(json!([["tell", { "marker": marker }]]))).await.to_string();
        assert!(found.contains(r#""needles":[0]"#), "{found}");
    }
}
