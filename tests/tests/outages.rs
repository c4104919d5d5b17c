//! A service that is away for longer than a policy's attempts last: what depends on it waits, with the real binary.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use airlock_tests::{Daemon, Fault, LIMIT, Service, guest, text_result, tools};
use axum::{http::StatusCode, response::IntoResponse as _};
use reqwest::Method;
use serde_json::{Value, json};

/// A server that sends so many calls away, with a time to come back, and does the next.
async fn away_for(times: usize) -> (Service, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let service = Service::mcp(move |method, _, _| match method {
        "tools/list" => Ok(tools(&["issue_write", "say"])),
        "tools/call" if counted.fetch_add(1, Ordering::SeqCst) < times => {
            let away = (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]).into_response();
            Err(Fault::Http(Box::new(away)))
        }
        "tools/call" => Ok(text_result(r#"{"url":"https://github.example/1"}"#)),
        _ => Err(Fault::Error("there is nothing else here".into())),
    })
    .await;
    (service, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_and_a_tool_call_last_through_an_outage_that_is_longer_than_their_attempts() {
    let daemon = Daemon::with(&[guest("echo"), guest("github-issues")]).await;
    let client = &daemon.client;
    let (for_activity, activity_calls) = away_for(5).await;
    let (for_workflow, workflow_calls) = away_for(3).await;
    client.add_connector("github_app", &for_activity.url("/mcp"), "none").await;
    client.add_connector("reflector", &for_workflow.url("/mcp"), "none").await;
    // One attempt is one call, and the breaker opens on the way.
    for connector in ["github_app", "reflector"] {
        let rules = json!({ "retries": 0, "breaker": { "failures": 2, "seconds": 1 } });
        let path = format!("/v1/airlock/connectors/{connector}/control");
        let (status, answer) = client.call(Method::PUT, &path, Some(&rules)).await;
        assert!(status.is_success(), "{answer}");
    }
    let prompt = json!({ "owner": "o", "repo": "r", "title": "It rains" });
    let activity = client.start("github-issue-creator", prompt).await;
    let workflow = client.start("echo-in-workflow", json!({ "tool": "say" })).await;

    // Its policy has three attempts.
    let ended = client.ended(&activity, LIMIT).await;
    assert_eq!(ended["result"], json!({ "url": "https://github.example/1" }), "{ended}");
    assert_eq!(activity_calls.load(Ordering::SeqCst), 6, "each that was let through was sent away");
    let history = client.get(&format!("/v1/workflows/executions/{activity}/history")).await;
    let failures: Vec<&Value> = history["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter_map(|event| event["record"].get("AttemptFailed"))
        .collect();
    assert!(failures.len() >= 5, "{history}");
    for failed in failures {
        let details = &failed["failure"]["details"];
        assert_eq!((&details["called"], &details["counts"]), (&json!(false), &json!(false)), "{failed}");
    }

    // A call of a workflow has no policy at all.
    let ended = client.ended(&workflow, LIMIT).await;
    assert_eq!(ended["status"], "COMPLETED", "{ended}");
    assert_eq!(workflow_calls.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_one_attempt_hears_of_an_outage_at_once() {
    let daemon = Daemon::with(&[guest("echo")]).await;
    let client = &daemon.client;
    let (service, calls) = away_for(5).await;
    client.add_connector("reflector", &service.url("/mcp"), "none").await;
    let rules = json!({ "retries": 0 });
    let path = "/v1/airlock/connectors/reflector/control";
    assert!(client.call(Method::PUT, path, Some(&rules)).await.0.is_success());
    let id = client.start("echo", json!({ "tool": "say" })).await;
    let ended = client.ended(&id, LIMIT).await;
    assert_eq!(ended["failure"]["kind"], "ConnectorError", "{ended}");
    assert_eq!(ended["failure"]["details"]["retry_after_ms"], 1_000, "{ended}");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}
