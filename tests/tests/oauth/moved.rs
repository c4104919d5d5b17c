//! A server that takes tokens of another authorization server from some time on: what was used at the one goes to no other.

use airlock_tests::{Daemon, guest};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    LONG, World, asked, assert_connected,
    browser::Browser,
    completed, credential, register,
    servers::{Issuer, PROGRAM_SECRET, Tools},
};

/// Requests that carry something of a client: all but those for metadata.
async fn told(issuer: &Issuer) -> Vec<Value> {
    let seen = issuer.seen().await;
    seen.into_iter().filter(|seen| !seen["path"].to_string().contains("/.well-known/")).collect()
}

#[tokio::test]
async fn row_10_a_server_that_moves_to_another_issuer_is_authorised_there_as_a_new_client() {
    let world = World::oidc(LONG).await.connected().await;
    let client = world.client();
    world.call("read").await;
    let next = Issuer::oidc(LONG, None).await;
    let before = (told(&world.issuer).await.len(), credential(client).await);
    world.tools.move_to(&next);
    let id = client.start("echo-in-workflow", json!({ "tool": "read" })).await;
    let state = asked(client, &id, 1).await;
    assert_eq!(credential(client).await["state"], "needs_reauthorization");
    let count = async |path: &str| told(&next).await.iter().filter(|seen| seen["path"] == path).count();
    assert_eq!((count("/reg").await, count("/token").await), (1, 0));
    assert_connected(&Browser::new().visit(state["auth_url"].as_str().expect("a link")).await);
    let ended = completed(client, &id).await;
    assert_eq!(ended["result"]["content"][0]["text"], "done: read");
    // The client of the one is unknown to the other, and nobody tried.
    let asked_of = async |issuer: &Issuer| {
        let seen = told(issuer).await.into_iter().find(|seen| seen["path"] == "/auth");
        seen.expect("a browser came")["query"]["client_id"].clone()
    };
    assert_ne!(asked_of(&world.issuer).await, asked_of(&next).await);
    assert_eq!(next.grants("refresh_token").await, 0);
    assert!(told(&next).await.iter().all(|seen| seen["status"].as_u64() < Some(400)));
    // Nor is the first asked for anything again.
    assert_eq!(told(&world.issuer).await.len(), before.0);
    let now = credential(client).await;
    assert_eq!((&now["state"], &now["name"]), (&json!("valid"), &before.1["name"]));
}

#[tokio::test]
async fn row_10_a_client_that_the_operator_gave_is_sent_to_no_other_issuer() {
    let (issuer, next) = (Issuer::mock().await, Issuer::mock().await);
    let tools = Tools::trusting(&issuer).await;
    let daemon = Daemon::with(&[guest("echo")]).await;
    let client = &daemon.client;
    let data = json!({ "client_id": "airlock-of-a-test", "client_secret": PROGRAM_SECRET });
    let methods = json!([{ "method_type": "oauth2", "auth_data": data }]);
    register(client, &tools.url(), json!({ "auth_methods": methods })).await;
    assert_connected(&Browser::new().visit(&crate::link(client, "").await).await);
    let call = async || {
        let path = "/v1/connectors/reflector/tools/read/call";
        client.call(Method::POST, path, Some(&json!({ "arguments": {} }))).await
    };
    assert_eq!(call().await.0, StatusCode::OK);
    tools.move_to(&next);
    for _ in 0..2 {
        let (status, answer) = call().await;
        let told = answer["detail"].as_str().expect("a sentence");
        assert_eq!(status, StatusCode::CONFLICT, "{answer}");
        assert!(told.contains(&next.url("")) && told.contains("connectors update reflector"), "{told}");
    }
    assert_eq!(told(&next).await.len(), 0);
    assert_eq!(issuer.grants("refresh_token").await, 0);
}
