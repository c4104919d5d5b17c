//! What is archived starts no more, whoever asks, and what runs goes on.

use airlock_patience::{LIMIT, eventually};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::house::House;

async fn put(house: &House, path: &str) {
    let answer = house.ask_as(&house.owner, Method::PUT, path, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
}

/// Every way in which clients start something is refused.
async fn starts_no_more(house: &House, workflow: &str) {
    let id = house.got(&format!("/v1/workflows/registrations?workflow_name={workflow}")).await;
    let id = id["workflow_registrations"][0]["id"].as_str().expect("an id").to_owned();
    for path in [
        format!("/v1/workflows/{workflow}/execute"),
        format!("/v1/workflows/registrations/{id}/execute"),
        format!("/v1/airlock/workflows/{workflow}/signal-with-start"),
    ] {
        let signal = json!({ "name": "add", "input": { "n": 1 } });
        let body = match path.ends_with("start") {
            true => json!({ "input": {}, "signal": signal }),
            false => json!({ "input": {} }),
        };
        let answer = house.post(&path, body).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{path}: {}", answer.body);
        let detail = answer.body["detail"].as_str().expect("a sentence");
        assert!(detail.contains("archived") && detail.contains("unarchive"), "{detail}");
    }
}

#[tokio::test]
async fn an_archived_workflow_starts_no_more_until_it_is_taken_back_and_a_restart_does_not_forget() {
    let house = House::new().await;
    house.start("Wait", "before", json!({})).await;
    put(&house, "/v1/workflows/Wait/archive").await;
    starts_no_more(&house, "Wait").await;
    let signal = json!({ "name": "add", "input": { "n": 1 } });
    let answer = house.post("/v1/workflows/executions/before/signals", signal).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "what runs goes on: {}", answer.body);
    let house = house.again().await;
    starts_no_more(&house, "Wait").await;
    put(&house, "/v1/workflows/Wait/unarchive").await;
    house.start("Wait", "after", json!({})).await;
}

#[tokio::test]
async fn schedules_of_an_archived_workflow_skip_their_times_and_say_why() {
    let house = House::new().await;
    let schedule = |id: &str, interval: &str| {
        json!({ "workflow_identifier": "echo",
            "schedule": { "schedule_id": id, "input": {}, "intervals": [{ "every": interval }] } })
    };
    let made = house.post("/v1/workflows/schedules", schedule("often", "PT1S")).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    put(&house, "/v1/workflows/echo/archive").await;
    let path = "/v1/workflows/schedules/often";
    let skipped = eventually(LIMIT, "a time is skipped", async || {
        let shown = house.got(path).await;
        (shown["scheduled"]["skipped"] != 0).then_some(shown)
    })
    .await;
    let reason = skipped["last_skipped"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("archived"), "{skipped}");
    assert_eq!((&skipped["scheduled"]["failed"], &skipped["last_failure"]), (&json!(0), &Value::Null));
    let by_hand = house.post(&format!("{path}/trigger"), Value::Null).await;
    assert_eq!(by_hand.status, StatusCode::CONFLICT, "{}", by_hand.body);
    let late = house.post("/v1/workflows/schedules", schedule("late", "PT1H")).await;
    assert_eq!(late.status, StatusCode::CREATED);
    assert!(late.body["warnings"].to_string().contains("archived"), "{}", late.body);
    put(&house, "/v1/workflows/echo/unarchive").await;
    let started = skipped["scheduled"]["started"].as_u64().expect("a number");
    eventually(LIMIT, "its times count again", async || {
        let shown = house.got(path).await;
        (shown["scheduled"]["started"].as_u64() > Some(started)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_start_that_is_refused_does_not_end_what_it_was_to_replace() {
    let house = House::new().await;
    house.start("Wait", "runs", json!({})).await;
    let replace = |input: Value| json!({ "execution_id": "runs", "input": input, "id_conflict_policy": "terminate_existing" });
    put(&house, "/v1/workflows/Wait/archive").await;
    let answer = house.post("/v1/workflows/Wait/execute", replace(json!({}))).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
    assert_eq!(house.got("/v1/workflows/executions/runs").await["status"], "RUNNING");
    put(&house, "/v1/workflows/Wait/unarchive").await;
    let before = house.got("/v1/workflows/executions/runs").await["run_id"].clone();
    let answer = house.post("/v1/workflows/Wait/execute", replace(json!({}))).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_ne!(house.got("/v1/workflows/executions/runs").await["run_id"], before, "it took its place");
}

#[tokio::test]
async fn a_schedule_whose_next_execution_cannot_start_does_not_end_the_one_that_runs() {
    for overlap in [4, 5] {
        let house = House::new().await;
        let schedule = json!({ "workflow_identifier": "Wait", "schedule": {
            "schedule_id": "often", "input": {}, "intervals": [{ "every": "PT1S" }], "policy": { "overlap": overlap } } });
        let made = house.post("/v1/workflows/schedules", schedule).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        let path = "/v1/workflows/schedules/often";
        eventually(LIMIT, "one runs", async || {
            let shown = house.got(path).await;
            (shown["running_executions"] != json!([])).then_some(())
        })
        .await;
        put(&house, "/v1/workflows/Wait/archive").await;
        // One that was being replaced when the workflow was archived may be on its way.
        let skipped = |shown: &Value| shown["scheduled"]["skipped"].as_u64().unwrap_or(0);
        let first = eventually(LIMIT, "a time is skipped", async || {
            let shown = house.got(path).await;
            (skipped(&shown) > 0).then_some(shown)
        })
        .await;
        let later = eventually(LIMIT, "more times are skipped", async || {
            let shown = house.got(path).await;
            (skipped(&shown) > skipped(&first) + 1).then_some(shown)
        })
        .await;
        assert_eq!(later["running_executions"], first["running_executions"], "overlap {overlap}");
        let id = later["running_executions"][0].as_str().expect("one runs");
        assert_eq!(house.got(&format!("/v1/workflows/executions/{id}")).await["status"], "RUNNING");
    }
}
