//! What is wrong with a request is told by the way to it, in the names that the client used.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::house::House;

#[tokio::test]
async fn what_is_wrong_with_a_body_is_told_by_the_names_that_lead_there() {
    let house = House::new().await;
    house.start("Wait", "waits", json!({})).await;
    let start = "/v1/workflows/adds/execute";
    let wait = "/v1/workflows/executions/waits";
    let with_signal = "/v1/airlock/workflows/Wait/signal-with-start";
    let encoded = |text: &str, options: Value| json!({ "b64payload": text, "encoding_options": options });
    let no_number = encoded("eyJuIjoieCJ9", json!([]));
    let (post, put) = (Method::POST, Method::PUT);
    let schedules = "/v1/workflows/schedules";
    let every = |more: Value| {
        let mut schedule = json!({ "input": { "n": 1 }, "cron_expressions": ["0 0 1 1 *"] });
        schedule.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        json!({ "workflow_identifier": "adds", "schedule": schedule })
    };
    let mut wrong = Vec::new();
    for (method, path, body, place) in [
        (&post, start, json!({ "input": {} }), json!(["body", "input"])),
        (&post, start, json!({ "input": { "n": "x" } }), json!(["body", "input", "n"])),
        (&post, start, json!({ "encoded_input": no_number }), json!(["body", "encoded_input", "n"])),
        (
            &post,
            start,
            json!({ "encoded_input": encoded("%", json!([])) }),
            json!(["body", "encoded_input", "b64payload"]),
        ),
        (
            &post,
            start,
            json!({ "encoded_input": encoded("e30=", json!(["encrypted"])) }),
            json!(["body", "encoded_input", "encoding_options"]),
        ),
        (&post, start, json!({ "input": {}, "encoded_input": no_number }), json!(["body", "encoded_input"])),
        (&post, start, json!({ "execution_id": "a b" }), json!(["body", "execution_id"])),
        (&post, start, json!({ "timeout_seconds": -1 }), json!(["body", "timeout_seconds"])),
        (
            &post,
            start,
            json!({ "extensions": { "mistralai": 7 } }),
            json!(["body", "extensions", "mistralai"]),
        ),
        (
            &post,
            start,
            json!({ "retry": { "backoff_coefficient": 0.5 } }),
            json!(["body", "retry", "backoff_coefficient"]),
        ),
        (&post, &format!("{wait}/signals"), json!({}), json!(["body", "name"])),
        (
            &post,
            &format!("{wait}/signals"),
            json!({ "name": "add", "input": { "n": [] } }),
            json!(["body", "input", "n"]),
        ),
        (
            &post,
            &format!("{wait}/signals"),
            json!({ "name": "add", "signal_id": "" }),
            json!(["body", "signal_id"]),
        ),
        (
            &post,
            with_signal,
            json!({ "input": {}, "signal": { "name": "add", "input": { "n": [] } } }),
            json!(["body", "signal", "input", "n"]),
        ),
        (
            &post,
            with_signal,
            json!({ "input": {}, "signal": { "name": "add", "signal_id": "" } }),
            json!(["body", "signal", "signal_id"]),
        ),
        (&post, &format!("{wait}/reset"), json!({ "event_id": 0 }), json!(["body", "event_id"])),
        (&post, &format!("{wait}/reset"), json!({ "event_id": 900 }), json!(["body", "event_id"])),
        (&post, &format!("{wait}/reset"), json!({ "event_id": -1 }), json!(["body", "event_id"])),
        (&post, &format!("{wait}/reset"), json!({}), json!(["body", "event_id"])),
        (&post, &format!("{wait}/reset"), json!({ "event_id": 1, "digest": "x" }), json!(["body", "digest"])),
        (
            &post,
            "/v1/workflows/executions/cancel",
            json!({ "execution_ids": [] }),
            json!(["body", "execution_ids"]),
        ),
        (&post, "/v1/airlock/executions/upgrade", json!({}), json!(["body", "execution_ids"])),
        (&put, "/v1/workflows/echo", json!({ "display_name": " " }), json!(["body", "display_name"])),
        (&put, "/v1/workflows/echo", json!({ "tags": ["a", ""] }), json!(["body", "tags", 1])),
        (&put, "/v1/workflows/archive", json!({}), json!(["body", "workflow_ids"])),
        (&post, schedules, json!({}), json!(["body", "schedule"])),
        (&post, schedules, json!({ "schedule": { "input": {} } }), json!(["body", "workflow_identifier"])),
        (&post, schedules, every(json!({ "input": {} })), json!(["body", "schedule", "input"])),
        (
            &post,
            schedules,
            every(json!({ "cron_expressions": ["0 0 1 1 *", "x"] })),
            json!(["body", "schedule", "cron_expressions", 1]),
        ),
        (&post, "/v1/airlock/keys", json!({ "user": "a b" }), json!(["body", "user"])),
        (&post, "/v1/airlock/keys", json!({}), json!(["body", "user"])),
        (&post, "/v1/connectors", json!({ "name": "x" }), json!(["body", "server"])),
        (
            &post,
            "/v1/connectors",
            json!({ "name": "x", "description": "d", "server": "http://127.0.0.1:9", "protocol": "mcp",
                "auth_methods": [{ "method_type": "bearer" }, { "method_type": 3 }] }),
            json!(["body", "auth_methods", 1, "method_type"]),
        ),
    ] {
        let answer = house.ask_as(&house.owner, method.clone(), path, &body).await;
        let problem = &answer.body["detail"][0];
        let is_told = answer.status == StatusCode::UNPROCESSABLE_ENTITY && problem["loc"] == place;
        if !(is_told && problem["msg"].is_string() && problem["type"].is_string()) {
            wrong.push(format!("{path} {body}: {place} is expected: {} {}", answer.status, answer.body));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
