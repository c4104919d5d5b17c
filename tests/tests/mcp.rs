//! A real MCP server that somebody else wrote.

use airlock_tests::{Daemon, LIMIT, Server, guest};
use serde_json::{Value, json};

fn names(tools: &Value) -> Vec<&str> {
    tools.as_array().expect("tools").iter().filter_map(|tool| tool["name"].as_str()).collect()
}

#[tokio::test]
async fn the_reference_server_is_listed_and_called_from_api_activity_and_workflow() {
    let server = Server::everything().await;
    let daemon = Daemon::with(&[guest("echo")]).await;
    let client = &daemon.client;
    client.add_connector("reflector", &server.url("/mcp"), "none").await;
    let tools = client.get("/v1/connectors/reflector/tools").await;
    assert!(names(&tools).contains(&"echo") && names(&tools).contains(&"get-sum"), "{:?}", names(&tools));
    let listed = client.execute("echo-list", json!({})).await;
    for list in listed["result"].as_array().expect("two lists") {
        assert_eq!(names(list), names(&tools));
    }

    let arguments = json!({ "message": "here I am" });
    let answer =
        client.post("/v1/connectors/reflector/tools/echo/call", &json!({ "arguments": arguments })).await;
    assert_eq!(answer["content"][0]["text"], "Echo: here I am", "{answer}");
    let call = json!({ "tool": "echo", "arguments": arguments });
    for workflow in ["echo", "echo-in-workflow"] {
        let result = client.execute(workflow, call.clone()).await;
        assert_eq!(result["content"][0]["text"], "Echo: here I am", "{workflow}: {result}");
    }
    let sum = client.execute("echo", json!({ "tool": "get-sum", "arguments": { "a": 2, "b": 40 } })).await;
    assert!(sum["content"][0]["text"].as_str().expect("text").contains("42"), "{sum}");
    let structured = json!({ "tool": "get-structured-content", "arguments": { "location": "New York" } });
    let result = client.execute("echo", structured).await;
    assert!(result["metadata"]["mcp_meta"]["structuredContent"].is_object(), "{result}");
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_said_before_or_after_it_is_sent() {
    let server = Server::everything().await;
    let daemon = Daemon::with(&[guest("echo")]).await;
    daemon.client.add_connector("reflector", &server.url("/mcp"), "none").await;
    for (input, reason) in [
        (json!({ "tool": "no-such-tool" }), "no-such-tool"),
        (json!({ "tool": "get-sum", "arguments": { "a": "two", "b": 1 } }), "a"),
    ] {
        let id = daemon.client.start("echo", input).await;
        let ended = daemon.client.ended(&id, LIMIT).await;
        assert_eq!(ended["status"], "FAILED", "{ended}");
        let message = ended["failure"]["message"].as_str().expect("a message");
        assert!(message.contains(reason), "{message}");
    }
    drop(server);
    let id = daemon.client.start("echo", json!({ "tool": "echo", "arguments": { "message": "m" } })).await;
    let ended = daemon.client.ended(&id, LIMIT).await;
    assert_eq!(
        (&ended["status"], &ended["failure"]["kind"]),
        (&json!("FAILED"), &json!("ConnectorError")),
        "{ended}"
    );
}

#[tokio::test]
async fn an_execution_that_waits_for_authorisation_goes_on_when_the_credential_is_stored() {
    let server = Server::everything().await;
    let daemon = Daemon::with(&[guest("echo")]).await;
    let client = &daemon.client;
    client.add_connector("reflector", &server.url("/mcp"), "bearer").await;
    for workflow in ["authorise", "authorise-in-workflow"] {
        let id = client.start(workflow, json!({})).await;
        let asked = airlock_tests::eventually(LIMIT, "the caller is asked", async || {
            let events = client.events(&id).await;
            events.into_iter().find(|event| event["event_type"] == "CUSTOM_TASK_STARTED")
        })
        .await;
        assert_eq!(asked["attributes"]["custom_task_type"], "connector_auth", "{asked}");
        assert_eq!(asked["attributes"]["payload"]["value"]["connector_name"], "reflector", "{asked}");
        client.add_credential("reflector", "main", "a-token-that-this-server-ignores").await;
        let ended = client.ended(&id, LIMIT).await;
        assert_eq!(
            (&ended["status"], &ended["result"]["connector_name"]),
            (&json!("COMPLETED"), &json!("reflector"))
        );
        let types = client.event_types(&id).await;
        assert!(types.contains(&"CUSTOM_TASK_COMPLETED".to_owned()), "{types:?}");
        let path = "/v1/connectors/reflector/user/credentials/main";
        client.call(reqwest::Method::DELETE, path, None).await;
    }
}
