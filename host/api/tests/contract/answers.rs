//! Answers that cannot be taken for others, and that every generation of the client understands.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use serde_json::{Value, json};

use crate::house::House;

#[tokio::test]
async fn a_wait_that_ran_out_is_no_result_and_no_reason_to_start_once_more() {
    let house = House::new().await;
    let body = json!({ "execution_id": "long", "wait_for_result": true, "timeout_seconds": 0.05 });
    let answer = house.post("/v1/workflows/Wait/execute", body).await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT, "{}", answer.body);
    assert!(
        answer.body["detail"].as_str().is_some_and(|text| text.contains("executions/long")),
        "{}",
        answer.body
    );
    let execution = &answer.body["execution"];
    assert_eq!((&execution["execution_id"], &execution["status"]), (&json!("long"), &json!("RUNNING")));
    let body = json!({ "wait_for_result": true, "timeout_seconds": 60, "input": { "a": 1 } });
    let answer = house.post("/v1/workflows/echo/execute", body).await;
    assert_eq!((answer.status, &answer.body["result"]), (StatusCode::OK, &json!({ "a": 1 })));
    assert_eq!(answer.body.as_object().map(serde_json::Map::len), Some(3), "{}", answer.body);
}

#[tokio::test]
async fn a_connector_says_who_deactivated_it_and_what_its_owner_is_in_the_clients_words() {
    let house = House::new().await;
    let body = json!({ "name": "svc", "description": "d", "server": "http://127.0.0.1:9/mcp", "protocol": "mcp",
        "visibility": "shared_workspace" });
    let made = house.post("/v1/connectors", body).await;
    assert_eq!((made.status, &made.body["blocked_by"]), (StatusCode::CREATED, &json!([])), "{}", made.body);
    for (scope, then) in [
        ("user", json!(["user"])),
        ("organization", json!(["user", "org"])),
        ("workspace", json!(["user", "workspace", "org"])),
    ] {
        let answer = house.post(&format!("/v1/connectors/svc/{scope}/deactivate"), Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(house.got("/v1/connectors/svc").await["blocked_by"], then);
    }
    assert_eq!(house.got("/v1/connectors?active=false").await["items"][0]["name"], "svc");
    for (agent, owner) in [
        ("mistral-client-python/2.5.2", json!(3)),
        ("mistral-client-python/2.8.0", json!("workspace")),
        ("mistral-client-python/3.7.0", json!("workspace")),
    ] {
        for path in ["/v1/connectors/svc", "/v1/connectors"] {
            let request = Request::get(path).header("user-agent", agent).header("x-api-key", &house.owner);
            let answer = house.send(request.body(Body::empty()).expect("a request")).await;
            let connector = if path.ends_with("svc") { &answer.body } else { &answer.body["items"][0] };
            assert_eq!(connector["owner_type"], owner, "{agent}: {path}");
        }
    }
}

#[tokio::test]
async fn the_key_may_come_in_either_header_but_not_two_keys() {
    let house = House::new().await;
    let ada = house.member("ada").await;
    let ask = async |headers: &[(&str, &str)]| {
        let mut request = Request::get("/v1/users/me");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        house.send(request.body(Body::empty()).expect("a request")).await
    };
    let bearer = format!("Bearer {ada}");
    assert_eq!(ask(&[("x-api-key", &ada)]).await.body["id"], "ada");
    assert_eq!(ask(&[("authorization", &bearer), ("x-api-key", &ada)]).await.body["id"], "ada");
    let two = ask(&[("authorization", &bearer), ("x-api-key", &house.owner)]).await;
    assert_eq!(two.status, StatusCode::UNAUTHORIZED);
    assert!(
        two.body["detail"].as_str().is_some_and(|text| text.contains("two different keys")),
        "{}",
        two.body
    );
}

#[tokio::test]
async fn events_have_the_keys_of_every_generation_and_activities_ids_of_their_own() {
    let house = House::new().await;
    let mut ids = Vec::new();
    for id in ["one", "two"] {
        house.start("steps", id, json!({})).await;
        house.ended(id).await;
        let path = format!("/v1/workflows/events/list?workflow_exec_id={id}");
        let events = house.got(&path).await["events"].clone();
        for event in events.as_array().expect("a list") {
            for key in ["continued_run_id", "first_execution_run_id", "chain_run_id"] {
                assert!(event.get(key).is_some(), "{key}: {event}");
            }
            if event["event_type"] == "ACTIVITY_TASK_STARTED" {
                ids.push(event["attributes"]["task_id"].as_str().expect("an id").to_owned());
            }
        }
    }
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1], "the same step of another execution is another activity");
    let path = format!("/v1/workflows/events/stream?workflow_exec_id=one&activity_id={}", ids[0]);
    let stream = house.ask_as(&house.owner, Method::GET, &path, &Value::Null).await;
    assert_eq!(stream.body.as_str().unwrap_or_default().matches("\"event_type\":").count(), 2);
}
