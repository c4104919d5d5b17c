//! OAuth from one end to the other: the real binary, two authorization servers that others wrote, a browser, and a server
//! for tools that takes tokens. Tests that show a row of the threats begin with its number.

mod browser;
mod fastmcp;
mod moved;
mod servers;

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use airlock_tests::{Canary, Client, Daemon, LIMIT, Setup, dependency, eventually, guest, root};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use crate::{
    browser::{Browser, Page},
    servers::{Issuer, PROGRAM_SECRET, Tools},
};

/// Long enough that nothing is renewed while a test runs.
const LONG: u32 = 3_600;

/// A daemon with the connector `reflector`, which was told an address and, for issuers that take no registrations, a client.
struct World {
    daemon: Daemon,
    issuer: Issuer,
    tools: Tools,
}

impl World {
    /// With `oidc-provider`.
    async fn oidc(life: u32) -> Self {
        let issuer = Issuer::oidc(life, None).await;
        let tools = Tools::introspecting(&issuer).await;
        let daemon = Daemon::with(&[guest("echo")]).await;
        register(&daemon.client, &tools.url(), json!({})).await;
        Self { daemon, issuer, tools }
    }

    /// With `oauth2-mock-server`.
    async fn mock() -> Self {
        let issuer = Issuer::mock().await;
        let tools = Tools::trusting(&issuer).await;
        let daemon = Daemon::with(&[guest("echo")]).await;
        let methods = json!([{ "method_type": "oauth2", "auth_data": { "client_id": "airlock-of-a-test" } }]);
        register(&daemon.client, &tools.url(), json!({ "auth_methods": methods })).await;
        Self { daemon, issuer, tools }
    }

    /// With an account that is connected.
    async fn connected(self) -> Self {
        let page = Browser::new().visit(&link(&self.daemon.client, "").await).await;
        assert_connected(&page);
        self
    }

    fn client(&self) -> &Client {
        &self.daemon.client
    }

    /// Calls a tool in an execution that nothing stands in the way of.
    async fn call(&self, tool: &str) {
        let result = self.client().execute("echo", json!({ "tool": tool })).await;
        assert_eq!(result["content"][0]["text"], format!("done: {tool}"), "{result}");
    }
}

async fn register(client: &Client, server: &str, more: Value) -> Value {
    let mut body = json!({
        "name": "reflector", "description": "for tests", "server": server, "protocol": "mcp",
        "visibility": "shared_org",
    });
    let body_map = body.as_object_mut().expect("an object");
    body_map.extend(more.as_object().expect("an object").clone());
    client.post("/v1/connectors", &body).await
}

/// A link for the owner.
async fn link(client: &Client, query: &str) -> String {
    let answer = client.get(&format!("/v1/connectors/reflector/auth_url{query}")).await;
    assert_eq!(answer["ttl"], 600, "{answer}");
    answer["auth_url"].as_str().expect("a link").to_owned()
}

fn assert_connected(page: &Page) {
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    assert!(page.url.path().ends_with("/v1/airlock/oauth/callback"), "{page:?}");
    assert!(page.text.contains("reflector"), "{page:?}");
}

/// The event that asks somebody to authorise, the newest one.
async fn asked(client: &Client, id: &str, times: usize) -> Value {
    eventually(LIMIT, "somebody is asked to authorise", async || {
        let events = client.events(id).await;
        let asked = events.into_iter().filter(|event| {
            event["event_type"] == "CUSTOM_TASK_STARTED"
                && event["attributes"]["custom_task_type"] == "connector_auth"
        });
        let asked: Vec<Value> = asked.collect();
        (asked.len() >= times).then(|| asked[times - 1]["attributes"]["payload"]["value"].clone())
    })
    .await
}

async fn completed(client: &Client, id: &str) -> Value {
    let ended = client.ended(id, LIMIT).await;
    assert_eq!(ended["status"], "COMPLETED", "{ended}");
    ended
}

async fn credential(client: &Client) -> Value {
    client.get("/v1/connectors/reflector/user/credentials").await["credentials"][0].clone()
}

#[tokio::test]
async fn a_connector_of_which_only_the_address_is_known_is_authorised_when_a_workflow_needs_it() {
    let world = World::oidc(LONG).await;
    let client = world.client();
    let id = client.start("echo", json!({ "tool": "read" })).await;
    let state = asked(client, &id, 1).await;
    assert_eq!(
        (&state["connector_name"], &state["status"]),
        (&json!("reflector"), &json!("waiting_for_auth"))
    );
    assert_eq!(client.execution(&id).await["status"], "RUNNING");
    assert_eq!(world.issuer.grants("authorization_code").await, 0);

    let page = Browser::new().visit(state["auth_url"].as_str().expect("a link")).await;
    assert_connected(&page);
    let ended = completed(client, &id).await;
    assert_eq!(ended["result"]["content"][0]["text"], "done: read");
    assert!(client.event_types(&id).await.contains(&"CUSTOM_TASK_COMPLETED".to_owned()));

    let seen = world.issuer.seen().await;
    let count = |path: &str| seen.iter().filter(|seen| seen["path"] == path).count();
    assert_eq!((count("/reg"), count("/token")), (1, 1), "{seen:?}");
    let asked = seen.iter().find(|seen| seen["path"] == "/auth").expect("a browser came");
    assert_eq!(asked["query"]["resource"], world.tools.url());
    assert_eq!(asked["query"]["code_challenge_method"], "S256");
    let stored = credential(client).await;
    assert_eq!((&stored["state"], &stored["renewable"]), (&json!("valid"), &json!(true)), "{stored}");
    let token = world.tools.calls().remove(0);
    assert!(!client.events(&id).await.iter().any(|event| event.to_string().contains(&token)));
    assert!(!world.daemon.setup.log().contains(&token));

    // The next one finds everything in its place.
    world.call("read").await;
    assert_eq!(world.issuer.grants("authorization_code").await, 1);
}

#[tokio::test]
async fn the_public_clients_helper_sees_the_link_and_waits_for_the_result() {
    let world = World::oidc(LONG).await;
    let python = dependency("mistralai-3.7.0").join("bin/python");
    let mut helper = Command::new(python)
        .arg(root().join("tests/clients/connector_auth.py"))
        .args([&world.daemon.url(), &world.client().key, "echo", "{\"tool\": \"read\"}"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let out = BufReader::new(helper.stdout.take().expect("a pipe"));
    let (lines, mut read) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        out.lines().map_while(Result::ok).for_each(|line| {
            // The test may be over.
            let _ = lines.send(line);
        });
    });
    let mut line = async || tokio::time::timeout(LIMIT, read.recv()).await.expect("in time").expect("a line");
    let state: Value = serde_json::from_str(&line().await).expect("the state of the task");
    assert_eq!(state["connector_name"], "reflector", "{state}");
    assert_connected(&Browser::new().visit(state["auth_url"].as_str().expect("a link")).await);
    let response: Value = serde_json::from_str(&line().await).expect("the response");
    assert_eq!(response["status"], "COMPLETED", "{response}");
    assert_eq!(response["result"]["content"][0]["text"], "done: read", "{response}");
    assert!(helper.wait().expect("it ends").success());
}

#[tokio::test]
async fn row_14_an_expired_token_is_renewed_and_the_refresh_token_changes_each_time() {
    // Tokens that live shorter than the margin are renewed before every use.
    let world = World::oidc(5).await.connected().await;
    let before = world.issuer.grants("refresh_token").await;
    for _ in 0..3 {
        world.call("read").await;
    }
    let seen = world.issuer.seen().await;
    let renewals: Vec<_> = seen.iter().filter(|seen| seen["grant"] == "refresh_token").collect();
    assert!(renewals.len() >= before + 3, "{renewals:?}");
    // A refresh token that is used twice would be refused, and with it the whole grant.
    assert!(renewals.iter().all(|seen| seen["status"] == 200), "{renewals:?}");
    assert_eq!(credential(world.client()).await["state"], "valid");
    let mut tokens = world.tools.calls();
    tokens.dedup();
    assert_eq!(tokens.len(), 3, "each call had a token of its own");
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_of_a_run_is_renewed_without_a_word() {
    let world = World::mock().await.connected().await;
    world.call("read").await;
    let first = world.tools.calls().remove(0);
    world.tools.refuse(&first);
    let id = world.client().start("echo-twice", json!({ "tool": "read" })).await;
    completed(world.client(), &id).await;
    assert_eq!(world.issuer.grants("refresh_token").await, 1);
    let events = world.client().events(&id).await;
    assert!(!events.iter().any(|event| event.to_string().contains("connector_auth")), "{events:#?}");
    assert!(world.tools.calls()[1..].iter().all(|token| *token != first));
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_is_used_to_its_end() {
    let world = World::mock().await;
    world.issuer.tell("always", json!({ "body": { "expires_in": 25, "refresh_token": null } })).await;
    let world = world.connected().await;
    world.call("read").await;
    let stored = credential(world.client()).await;
    assert_eq!((&stored["state"], &stored["renewable"]), (&json!("expiring"), &json!(false)), "{stored}");
    // It ends before its time: somebody has to act.
    world.tools.refuse(&world.tools.calls()[0]);
    let id = world.client().start("echo-in-workflow", json!({ "tool": "read" })).await;
    let state = asked(world.client(), &id, 1).await;
    assert_connected(&Browser::new().visit(state["auth_url"].as_str().expect("a link")).await);
    completed(world.client(), &id).await;
}

#[tokio::test]
async fn an_authorisation_that_was_taken_back_is_asked_for_again_and_the_call_goes_on() {
    let world = World::mock().await.connected().await;
    world.call("read").await;
    let client = world.client();
    for (times, refusal) in [(1, "invalid_grant"), (2, "unauthorized_client")] {
        world.tools.refuse(world.tools.calls().last().expect("a call"));
        let rejected = json!([{ "status": 400, "body": { "error": refusal } }]);
        world.issuer.tell("next", rejected).await;
        let id = client.start("echo-in-workflow", json!({ "tool": "read" })).await;
        let state = asked(client, &id, 1).await;
        assert_eq!(credential(client).await["state"], "needs_reauthorization");
        assert_connected(&Browser::new().visit(state["auth_url"].as_str().expect("a link")).await);
        completed(client, &id).await;
        assert_eq!(credential(client).await["state"], "valid");
        let credentials = client.get("/v1/connectors/reflector/user/credentials").await;
        let count = credentials["credentials"].as_array().expect("a list").len();
        assert_eq!(count, 1, "it took the place of the old one");
        assert_eq!(world.issuer.grants("authorization_code").await, times + 1);
    }
}

#[tokio::test]
async fn a_call_that_needs_more_asks_for_it_and_keeps_what_was_granted() {
    let world = World::oidc(LONG).await.connected().await;
    let client = world.client();
    assert_eq!(credential(client).await["granted_scopes"], json!(["read"]));
    let id = client.start("echo", json!({ "tool": "write" })).await;
    let state = asked(client, &id, 1).await;
    let waiting = credential(client).await;
    assert_eq!((&waiting["state"], &waiting["missing_scopes"]), (&json!("needs_scopes"), &json!(["write"])));
    assert_connected(&Browser::new().visit(state["auth_url"].as_str().expect("a link")).await);
    let ended = completed(client, &id).await;
    assert_eq!(ended["result"]["content"][0]["text"], "done: write");
    world.call("read").await;
    let granted = credential(client).await["granted_scopes"].clone();
    assert_eq!(granted, json!(["read", "write"]));
}

#[tokio::test]
async fn row_14_fifty_calls_at_once_ask_for_one_token() {
    let world = World::mock().await;
    world.issuer.tell("always", json!({ "body": { "expires_in": 20 } })).await;
    let world = world.connected().await;
    world.issuer.tell("always", json!({})).await;
    let before = world.issuer.grants("refresh_token").await;
    let calls = (0..50).map(|_| async {
        let body = json!({ "arguments": {} });
        let path = "/v1/connectors/reflector/tools/read/call";
        let (status, answer) = world.client().call(Method::POST, path, Some(&body)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    });
    futures::future::join_all(calls).await;
    assert_eq!(world.tools.calls().len(), 50);
    assert_eq!(world.issuer.grants("refresh_token").await, before + 1);
}

#[tokio::test]
async fn row_14_a_daemon_that_dies_while_a_token_is_renewed_loses_no_execution() {
    for (lenient, word) in [(true, "goes on"), (false, "asks again")] {
        let mut world = World::mock().await.connected().await;
        world.call("read").await;
        let first = world.tools.calls().remove(0);
        world.tools.refuse(&first);
        world.issuer.tell("next", json!([{ "hold": true }])).await;
        let id = world.client().start("echo-in-workflow", json!({ "tool": "read" })).await;
        eventually(LIMIT, "the answer with the token is held", async || {
            world.issuer.seen().await.iter().any(|seen| seen["held"] == true).then_some(())
        })
        .await;
        world.daemon.kill();
        world.issuer.tell("release", json!([])).await;
        if !lenient {
            // The server counts the refresh token as used.
            let used = json!([{ "status": 400, "body": { "error": "invalid_grant" } }]);
            world.issuer.tell("next", used).await;
        }
        world.daemon.restart().await;
        let client = world.client();
        if !lenient {
            let state = asked(client, &id, 1).await;
            assert_connected(&Browser::new().visit(state["auth_url"].as_str().expect("a link")).await);
        }
        let ended = completed(client, &id).await;
        assert_eq!(ended["result"]["content"][0]["text"], "done: read", "the execution {word}");
        assert_eq!(credential(client).await["state"], "valid");
    }
}

#[tokio::test]
async fn row_26_deleting_a_credential_revokes_its_tokens_at_the_server() {
    let world = World::oidc(LONG).await.connected().await;
    world.call("read").await;
    let path = "/v1/connectors/reflector/user/credentials/default";
    let (status, answer) = world.client().call(Method::DELETE, path, None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(answer["message"].to_string().contains("revoked at the server"), "{answer}");
    let seen = world.issuer.seen().await;
    let revoked: Vec<_> = seen.iter().filter(|seen| seen["path"] == "/token/revocation").collect();
    assert!(!revoked.is_empty() && revoked.iter().all(|seen| seen["status"] == 200), "{revoked:?}");
    // Whoever kept a copy of the token has nothing.
    let token = world.tools.calls().remove(0);
    let http = reqwest::Client::new();
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let answer = http.post(world.tools.url()).bearer_auth(token).json(&body).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let (status, _) = world.client().call(Method::GET, "/v1/connectors/reflector/tools", None).await;
    assert!(status.is_client_error(), "{status}");
}

#[tokio::test]
async fn a_workflow_that_nobody_authorises_in_time_does_not_start_and_says_how_long_it_waited() {
    let issuer = Issuer::oidc(LONG, None).await;
    let tools = Tools::introspecting(&issuer).await;
    let arguments = ["--allow-loopback", "--auth-timeout", "2s"];
    let daemon = Setup::new(&[guest("echo")]).with(&arguments).start().await;
    register(&daemon.client, &tools.url(), json!({})).await;
    let id = daemon.client.start("echo", json!({ "tool": "read" })).await;
    asked(&daemon.client, &id, 1).await;
    let ended = daemon.client.ended(&id, LIMIT).await;
    assert_eq!(ended["failure"]["kind"], "ConnectorAuthTimeout", "{ended}");
    let message = ended["failure"]["message"].as_str().expect("a message");
    let says = "Connector 'reflector' auth timed out: nobody authorised within 2s. Run it again";
    assert!(message.starts_with(says) && message.contains("auth_timeout"), "{message}");
    let types = daemon.client.event_types(&id).await;
    assert!(!types.contains(&"ACTIVITY_TASK_STARTED".to_owned()), "{types:?}");
    assert_eq!(tools.calls(), Vec::<String>::new());
}

/// The notes that the audit log has of a connector, the oldest first.
async fn notes(client: &Client, kind: &str) -> Vec<Value> {
    let audit = client.get(&format!("/v1/airlock/audit?connector=reflector&kind={kind}&limit=100")).await;
    let entries = audit["entries"].as_array().expect("entries").iter();
    entries.map(|entry| entry["note"].clone()).collect()
}

#[tokio::test]
async fn the_operators_ways_round_are_set_shown_taken_back_and_written_down() {
    let daemon = Daemon::with(&[]).await;
    let client = &daemon.client;
    // Nobody listens there, and nobody has to.
    let server = "http://127.0.0.1:1/mcp";
    let more = json!({
        "auth_methods": [{ "method_type": "oauth2" }], "oauth_issuer": "https://as.example", "oauth_resource": "none",
        "control": { "review": true },
    });
    let made = register(client, server, more).await;
    let method = |connector: &Value| connector["supported_auth_methods"][0].clone();
    assert_eq!(method(&made)["oauth_issuer"], "https://as.example", "{made}");
    assert_eq!(method(&made)["oauth_resource"], "none", "{made}");
    let created = "oauth_issuer https://as.example, oauth_resource none, tools are reviewed";
    assert_eq!(notes(client, "connector_created").await, [json!(created)]);

    let change = async |change: Value| {
        let (status, changed) = client.call(Method::PATCH, "/v1/connectors/reflector", Some(&change)).await;
        assert!(status.is_success(), "{changed}");
        changed
    };
    let changed = change(json!({ "oauth_resource": "https://api.example/v1" })).await;
    assert_eq!(method(&changed)["oauth_resource"], "https://api.example/v1", "{changed}");
    let changed = change(json!({ "oauth_issuer": "", "oauth_resource": "" })).await;
    assert!(method(&changed).get("oauth_issuer").is_none(), "{changed}");
    assert!(method(&changed).get("oauth_resource").is_none(), "{changed}");
    let expected = [
        json!("oauth_issuer https://as.example, oauth_resource https://api.example/v1, tools are reviewed"),
        json!("tools are reviewed"),
    ];
    assert_eq!(notes(client, "connector_changed").await, expected);
    client.call(Method::PUT, "/v1/airlock/connectors/reflector/control", Some(&json!({}))).await;
    assert_eq!(notes(client, "control_changed").await, [Value::Null]);

    // They are not passed over where nobody authorises.
    let bearer = json!({
        "name": "other", "description": "", "server": server, "auth_methods": [{ "method_type": "bearer" }],
        "oauth_issuer": "https://as.example",
    });
    let (status, refused) = client.call(Method::POST, "/v1/connectors", Some(&bearer)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    let add = |flags: &[&str]| {
        daemon.cli(&[&["connectors", "add", "cli", "--server", server][..], flags].concat(), "")
    };
    let refused = add(&["--auth", "bearer", "--oauth-issuer", "https://as.example"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("--oauth-issuer is about OAuth, and --auth bearer is not"), "{said}");
    assert_eq!(refused.status.code(), Some(2), "{said}");
    let flags = ["--oauth-issuer", "https://as.example", "--oauth-resource", "none", "--review-tools"];
    let added = add(&[&["--auth", "oauth2"][..], &flags].concat());
    let (told, warned) = (String::from_utf8_lossy(&added.stdout), String::from_utf8_lossy(&added.stderr));
    assert!(added.status.success(), "{warned}");
    assert!(told.contains("authorise with `airlock credentials authorize cli`"), "{told}");
    assert!(warned.contains("it is registered and cannot be used yet"), "{told}{warned}");
    let shown = client.get("/v1/connectors/cli").await;
    assert_eq!(method(&shown)["oauth_issuer"], "https://as.example", "{shown}");
    let changed =
        daemon.cli(&["connectors", "update", "cli", "--auth", "oauth2", "--client-id", "known"], "");
    assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
    let shown = client.get("/v1/connectors/cli").await;
    assert_eq!(method(&shown)["client_id"], "known", "{shown}");
}

#[tokio::test]
async fn a14_nobody_is_sent_on_to_sign_in_before_a_page_has_said_for_whom() {
    let world = World::oidc(LONG).await;
    let begun = link(world.client(), "").await;
    let url = Url::parse(&begun).expect("an address");
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build();
    let http = http.expect("a client");
    let page = http.get(url.clone()).send().await.expect("an answer");
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(page.headers()["x-frame-options"], "DENY");
    let policy = page.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    let cookie = page.headers()["set-cookie"].to_str().expect("text").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a cookie");
    let text = page.text().await.expect("a page");
    for named in ["reflector", "127.0.0.1", "default", "owner"] {
        assert!(text.contains(&format!("<bdi>{named}</bdi>")), "{named}: {text}");
    }
    let token = text.split("name=\"token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let token = format!("token={}", token.expect("a token"));
    let agree = async |form: &str, headers: &[(&str, &str)]| {
        let mut request = http.post(url.clone()).body(form.to_owned());
        request = request.header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.headers().contains_key("location"))
    };
    // A form of somebody else's page, a browser that has not seen ours, a guess.
    let refused = (StatusCode::BAD_REQUEST, false);
    assert_eq!(agree("", &[]).await, refused);
    assert_eq!(agree(&token, &[]).await, refused);
    assert_eq!(agree("token=", &[("cookie", "airlock_oauth_page=")]).await, refused);
    assert_eq!(agree("token=x", &[("cookie", cookie)]).await, refused);
    assert_eq!(agree(&token, &[("cookie", cookie), ("sec-fetch-site", "cross-site")]).await, refused);
    assert_eq!(world.issuer.grants("authorization_code").await, 0);
    assert_eq!(agree(&token, &[("cookie", cookie)]).await, (StatusCode::SEE_OTHER, true));
}

#[tokio::test]
async fn row_12_a_flow_ends_in_the_browser_that_began_it_and_only_once() {
    let world = World::oidc(LONG).await;
    let (attacker, victim) = (Browser::new(), Browser::new());
    let begun = link(world.client(), "").await;
    // The attacker goes as far as the code, and has the victim open the rest.
    let stop = |url: &Url| !url.path().ends_with("/oauth/callback");
    let back = attacker.walk(&begun, stop).await.url;
    assert!(back.query().expect("a query").contains("code="), "{back}");
    let page = victim.visit(back.as_str()).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{page:?}");
    // A link that somebody else has opened is of no use either.
    let page = victim.visit(&begun).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{page:?}");
    assert_eq!(world.issuer.grants("authorization_code").await, 0);
    assert_connected(&attacker.visit(back.as_str()).await);
    let again = attacker.visit(back.as_str()).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST, "{again:?}");
    assert_eq!(world.issuer.grants("authorization_code").await, 1);
}

#[tokio::test]
async fn row_13_browsers_are_sent_back_to_allowed_origins_only() {
    let issuer = Issuer::oidc(LONG, None).await;
    let tools = Tools::introspecting(&issuer).await;
    let arguments = ["--allow-loopback", "--oauth-return-origin", "https://app.example"];
    let daemon = Setup::new(&[]).with(&arguments).start().await;
    register(&daemon.client, &tools.url(), json!({})).await;
    for evasion in [
        "https://evil.example/",
        "http://app.example/",
        "https://app.example:8443/",
        "https://app.example.evil.example/",
        "https://app.example@evil.example/",
        "https://user:word@app.example/",
        "https://evil.example/https://app.example/",
        "https://evil.example?https://app.example",
        "https://evil.example#https://app.example",
        "//evil.example",
        "https:/\\evil.example",
        "https://app.example\\@evil.example",
        "https://evil.example\\.app.example",
        "javascript:alert(1)//https://app.example",
        "data:text/html,https://app.example",
        "/relative",
        "https://аpp.example/",
    ] {
        let query: String = evasion.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/v1/connectors/reflector/auth_url?app_return_url={query}");
        let (status, answer) = daemon.client.call(Method::GET, &path, None).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{evasion}: {answer}");
    }
    let wanted = "?app_return_url=https%3A%2F%2Fapp.example%2Fdone%3Fwhere%3Dhere";
    let page = Browser::new().visit(&link(&daemon.client, wanted).await).await;
    assert_eq!(page.url.origin().ascii_serialization(), "https://app.example");
    let pairs: Vec<_> = page.url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert!(!pairs.iter().any(|name| name == "code" || name == "state"), "{}", page.url);
    assert!(page.url.query_pairs().any(|(name, value)| name == "where" && value == "here"), "{}", page.url);
    assert_eq!(credential(&daemon.client).await["state"], "valid");
}

#[tokio::test]
async fn row_09_hostile_metadata_are_refused_before_anybody_sees_a_link() {
    let daemon = Daemon::with(&[]).await;
    let good = json!({
        "issuer": "https://as.example", "authorization_endpoint": "https://as.example/authorize",
        "token_endpoint": "https://as.example/token", "registration_endpoint": "https://as.example/register",
        "revocation_endpoint": "https://as.example/revoke",
    });
    for (number, (field, address)) in [
        ("authorization_endpoint", "javascript:alert(document.cookie)"),
        ("authorization_endpoint", "data:text/html,hello"),
        ("authorization_endpoint", "file:///etc/passwd"),
        ("authorization_endpoint", "https://as.example/authorize?redirect_uri=https://evil.example"),
        ("token_endpoint", "http://as.example/token"),
        ("token_endpoint", "https://user:word@as.example/token"),
        ("token_endpoint", "http://169.254.169.254/token"),
        ("registration_endpoint", "gopher://as.example/"),
        ("revocation_endpoint", "http://10.0.0.1/revoke"),
        ("issuer", "not an address"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut metadata = good.clone();
        metadata[field] = address.into();
        let body = json!({
            "name": format!("hostile-{number}"), "description": "d", "server": "https://mcp.example/mcp",
            "protocol": "mcp", "auth_methods": [{ "method_type": "oauth2", "oauth2_server_metadata": metadata }],
        });
        let (status, answer) = daemon.client.call(Method::POST, "/v1/connectors", Some(&body)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{field} {address}: {answer}");
        assert!(answer.to_string().contains(field), "{answer}");
    }
    let listed = daemon.client.get("/v1/connectors").await;
    assert_eq!(listed["items"], json!([]));
}

#[tokio::test]
async fn row_10_a_connector_with_another_address_has_to_be_authorised_again() {
    let world = World::oidc(LONG).await.connected().await;
    world.call("read").await;
    let other = Tools::introspecting(&world.issuer).await;
    let path = "/v1/connectors/reflector";
    let (status, answer) =
        world.client().call(Method::PATCH, path, Some(&json!({ "server": other.url() }))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let token = world.tools.calls().remove(0);
    let (status, answer) = world.client().call(Method::GET, &format!("{path}/tools"), None).await;
    assert!(status.is_client_error(), "{status} {answer}");
    assert!(other.calls().is_empty());
    let id = world.client().start("echo", json!({ "tool": "read" })).await;
    let state = asked(world.client(), &id, 1).await;
    assert_connected(&Browser::new().visit(state["auth_url"].as_str().expect("a link")).await);
    completed(world.client(), &id).await;
    let calls = other.calls();
    assert!(calls.len() == 1 && calls[0] != token, "the new server never saw the old token");
}

#[tokio::test]
async fn row_11_an_answer_in_the_name_of_another_server_is_not_used() {
    let world = World::mock().await;
    world.issuer.tell("always", json!({ "iss": "https://evil.example" })).await;
    let page = Browser::new().visit(&link(world.client(), "").await).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{page:?}");
    assert_eq!(world.issuer.grants("authorization_code").await, 0, "the code went nowhere");
    world.issuer.tell("always", json!({ "iss": world.issuer.url("") })).await;
    assert_connected(&Browser::new().visit(&link(world.client(), "").await).await);
}

#[tokio::test]
async fn programs_prove_who_they_are_in_three_ways() {
    // A key of this test alone.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = "const { generateKeyPairSync } = require('node:crypto'); \
                  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' }); \
                  console.log(JSON.stringify({ jwk: publicKey.export({ format: 'jwk' }), \
                  pem: privateKey.export({ format: 'pem', type: 'pkcs8' }) }));";
    let made =
        Command::new("node").args(["-e", script]).current_dir(folder.path()).output().expect("node runs");
    let keys: Value = serde_json::from_slice(&made.stdout).expect("a pair of keys");
    let issuer = Issuer::oidc(LONG, Some(&keys["jwk"].to_string())).await;
    let tools = Tools::introspecting(&issuer).await;
    let daemon = Daemon::with(&[]).await;
    for (name, auth, secret) in [
        ("post", "client_secret_post", json!({ "client_secret": PROGRAM_SECRET })),
        ("basic", "client_secret_basic", json!({ "client_secret": PROGRAM_SECRET })),
        ("jwt", "private_key_jwt", json!({ "client_private_key": keys["pem"] })),
    ] {
        let method = json!({
            "method_type": "oauth2", "grant_type": "client_credentials", "token_endpoint_auth_method": auth,
            "auth_data": { "client_id": name, "client_scopes": ["read"] },
        });
        let body = json!({
            "name": name, "description": "d", "server": tools.url(), "protocol": "mcp", "auth_methods": [method],
        });
        daemon.client.post("/v1/connectors", &body).await;
        let mut oauth = json!({ "client_id": name });
        oauth.as_object_mut().expect("an object").extend(secret.as_object().expect("an object").clone());
        let path = format!("/v1/connectors/{name}/workspace/credentials");
        // A program that the server does not know is told so at once.
        let wrong = json!({ "name": "wrong", "credentials": { "oauth": { "client_id": "nobody",
            "client_secret": "wrong-secret-0123456789", "client_private_key": keys["pem"] } } });
        let (status, answer) = daemon.client.call(Method::POST, &path, Some(&wrong)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{name}: {answer}");
        let body = json!({ "name": "main", "is_default": true, "credentials": { "oauth": oauth } });
        daemon.client.post(&path, &body).await;
        let answer = daemon
            .client
            .post(
                &format!("/v1/connectors/{name}/tools/read/call"),
                &json!({ "arguments": {}, "credentials_name": "main" }),
            )
            .await;
        assert_eq!(answer["content"][0]["text"], "done: read", "{name}: {answer}");
    }
    assert_eq!(tools.calls().len(), 3);
}

#[tokio::test]
async fn a_connector_that_asks_for_a_person_says_so_where_there_is_none() {
    let world = World::oidc(LONG).await;
    let client = world.client();
    let (status, answer) = client.call(Method::GET, "/v1/connectors/reflector/tools", None).await;
    assert!(
        status.is_client_error() && answer.to_string().contains("airlock credentials authorize"),
        "{answer}"
    );
    let body = json!({ "input": { "tool": "read" }, "extensions": { "mistralai": { "connectors": { "bindings":
        [{ "connector_name": "reflector", "credentials_name": "nobody" }] } } } });
    let id = client.post("/v1/workflows/echo/execute", &body).await["execution_id"].clone();
    let ended = client.ended(id.as_str().expect("an id"), LIMIT).await;
    let expected = "Credential 'nobody' not found for connector 'reflector'";
    assert!(ended["failure"]["message"].as_str().expect("a message").starts_with(expected), "{ended}");
    assert_eq!(ended["failure"]["kind"], "ConnectorError", "{ended}");
    // Somebody who declines is told so, and the execution waits for a better answer.
    let id = client.start("echo", json!({ "tool": "read" })).await;
    let state = asked(client, &id, 1).await;
    let denied =
        format!("{}/v1/airlock/oauth/callback?state=unknown&error=access_denied", world.daemon.url());
    let page = Browser::new().visit(&denied).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{page:?}");
    assert_eq!(client.execution(&id).await["status"], "RUNNING");
    assert_connected(&Browser::new().visit(state["auth_url"].as_str().expect("a link")).await);
    completed(client, &id).await;
}

#[tokio::test]
async fn row_17_tokens_stand_nowhere_in_the_data_folder_and_nowhere_in_the_log() {
    let issuer = Issuer::mock().await;
    let tools = Tools::trusting(&issuer).await;
    let daemon = Setup::new(&[guest("echo")]).with(&["--allow-loopback", "--log", "trace"]).start().await;
    let secret = Canary::new("oauth-client");
    let data = json!({ "client_id": "airlock-of-a-test", "client_secret": secret.secret });
    let methods = json!([{ "method_type": "oauth2", "auth_data": data }]);
    register(&daemon.client, &tools.url(), json!({ "auth_methods": methods })).await;
    let world = World { daemon, issuer, tools }.connected().await;
    world.call("read").await;
    world.tools.refuse(&world.tools.calls()[0]);
    world.call("read").await;
    let refresh = world.issuer.seen().await;
    let refresh = refresh.iter().find_map(|seen| seen["refresh_token"].as_str()).expect("it was renewed");
    let log = world.daemon.setup.log();
    for token in world.tools.calls().iter().map(String::as_str).chain([refresh]) {
        assert!(!log.contains(token), "{token} stands in the log");
        for file in ["airlock.db", "airlock.db-wal"] {
            let bytes = std::fs::read(world.daemon.setup.data().join(file)).unwrap_or_default();
            assert!(
                !bytes.windows(token.len()).any(|window| window == token.as_bytes()),
                "{token} in {file}"
            );
        }
    }
    secret.check_text(&log, "the log");
    secret.check_folder(&world.daemon.setup.data());
}
