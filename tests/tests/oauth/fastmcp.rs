//! An MCP server with OAuth of fastmcp. It advertises two ways for a client to prove itself, takes of each client the one
//! that it registered for, and looks for `client_id` in the body first.

use std::process::Command;

use airlock_tests::{Client, Daemon, Server, dependency, guest, root};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{assert_connected, browser::Browser, link, register};

struct World {
    daemon: Daemon,
    server: Server,
    http: reqwest::Client,
}

impl World {
    async fn new() -> Self {
        let python = dependency("mcp-sessions").join("fastmcp-4.1.2/bin/python");
        let server = Server::start("fastmcp with OAuth", |port| {
            let mut command = Command::new(python);
            command.arg(root().join("tests/servers/fastmcp-oauth.py")).arg(port.to_string());
            command
        })
        .await;
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { daemon: Daemon::with(&[guest("echo")]).await, server, http }
    }

    fn client(&self) -> &Client {
        &self.daemon.client
    }

    async fn connect(&self) {
        assert_connected(&Browser::new().visit(&link(self.client(), "").await).await);
    }

    async fn call(&self) {
        let body = json!({ "arguments": { "message": "hi" } });
        let path = "/v1/connectors/reflector/tools/echo/call";
        let (status, answer) = self.client().call(Method::POST, path, Some(&body)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["content"][0]["text"], "Echo: hi", "{answer}");
    }

    /// Requests to an endpoint so far: the scheme of the header, whether the client is named in the body, the status.
    async fn seen(&self, path: &str) -> Vec<(String, bool, u64)> {
        let answer = self.http.get(self.server.url("/-/seen")).send().await.expect("the server answers");
        let seen: Vec<Value> = answer.json().await.expect("a list");
        let of_path = seen.into_iter().filter(|seen| seen["path"] == path);
        let told = |seen: Value| {
            let scheme = seen["scheme"].as_str().expect("a text").to_owned();
            (scheme, seen["client_id"].is_array(), seen["status"].as_u64().expect("a status"))
        };
        of_path.map(told).collect()
    }

    async fn delete(&self) -> Value {
        let path = "/v1/connectors/reflector/user/credentials/default";
        let (status, answer) = self.client().call(Method::DELETE, path, None).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }
}

fn body(status: u64) -> (String, bool, u64) {
    (String::new(), true, status)
}

fn header(is_named: bool, status: u64) -> (String, bool, u64) {
    ("Basic".into(), is_named, status)
}

#[tokio::test]
async fn a_server_of_fastmcp_is_authorised_used_and_left_again() {
    let world = World::new().await;
    register(world.client(), &world.server.url("/mcp"), json!({})).await;
    world.connect().await;
    assert_eq!((world.seen("/register").await.len(), world.seen("/token").await), (1, vec![body(200)]));
    world.call().await;
    world.call().await;
    let renewed = world.seen("/token").await;
    assert!(renewed.len() >= 3 && renewed.iter().all(|seen| *seen == body(200)), "{renewed:?}");
    let answer = world.delete().await;
    assert!(answer["message"].to_string().contains("revoked at the server"), "{answer}");
    assert!(world.seen("/revoke").await.iter().all(|seen| *seen == body(200)));
}

#[tokio::test]
async fn a_client_of_fastmcp_that_is_known_by_another_method_is_authorised_with_one_code() {
    let world = World::new().await;
    let metadata = json!({
        "redirect_uris": [format!("{}/v1/airlock/oauth/callback", world.daemon.url())], "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "client_secret_basic",
    });
    let made =
        world.http.post(world.server.url("/register")).json(&metadata).send().await.expect("an answer");
    let made: Value = made.json().await.expect("a client");
    let data = json!({ "client_id": made["client_id"], "client_secret": made["client_secret"] });
    let methods = json!([{ "method_type": "oauth2", "auth_data": data }]);
    register(world.client(), &world.server.url("/mcp"), json!({ "auth_methods": methods })).await;
    world.connect().await;
    let tried = [body(401), header(false, 401), header(true, 200)];
    assert_eq!(world.seen("/token").await, tried, "the code was good still");
    // What was learned is known, by the next daemon as well.
    let mut world = world;
    world.daemon.stop().await;
    world.daemon.restart().await;
    world.call().await;
    let seen = world.seen("/token").await;
    assert!(seen.len() > tried.len() && seen[3..].iter().all(|seen| *seen == header(true, 200)), "{seen:?}");
    let secret = made["client_secret"].as_str().expect("a secret");
    assert!(!world.daemon.setup.log().contains(secret));
}
