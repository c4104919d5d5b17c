//! Values of every shape over every way into a workflow and out of it, with the real binary: what one end writes is what the
//! other end reads. The SDK's own tests go through many more shapes.

use airlock_tests::{Client, Daemon, LIMIT, eventually, guest};
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// The workflow, what it is sent, what the value is in JSON, and what it gives.
fn shapes() -> Vec<(&'static str, Value, Value, Value)> {
    let wrapped =
        |name, value: Value| (name, json!({ "v": value }), value.clone(), json!({ "result": value }));
    let as_it_is = |name, value: Value| (name, value.clone(), value.clone(), value);
    let opened = |name, value: Value| (name, json!({ "v": value }), value.clone(), value);
    let tree = json!([{ "name": "a", "children": [{ "name": "b", "children": [] }] }]);
    vec![
        wrapped("action", json!("stop")),
        opened("action", json!({ "move": { "x": 1, "y": -2 } })),
        opened("action", json!({ "v": 1 })),
        wrapped("action", json!({ "result": 1 })),
        as_it_is("adjacent", json!({ "kind": "Empty" })),
        as_it_is("adjacent", json!({ "kind": "Number", "data": { "n": 1 } })),
        wrapped("untagged", json!(1)),
        opened("untagged", json!({ "n": 1, "t": "a" })),
        opened("untagged", Value::Null),
        wrapped("json", json!([1])),
        wrapped("json", json!({ "result": { "a": 1 } })),
        opened("json", json!({ "a": 1 })),
        opened("json", Value::Null),
        as_it_is("optional-point", json!({ "x": 1, "y": -2 })),
        opened("optional-point", Value::Null),
        wrapped("optional-number", json!(1)),
        wrapped("optional-number", Value::Null),
        wrapped("pair", json!([1, "a"])),
        wrapped("trees", tree),
        wrapped("float", json!(0.1)),
        wrapped("wide", json!(u64::MAX)),
        as_it_is("due", json!({ "day": "2024-02-29", "at": "2024-02-29T10:00:00.5+01:00", "to": null })),
    ]
}

async fn send(client: &Client, id: &str, what: &str, name: &str, input: &Value) -> Value {
    let body = json!({ "name": name, "input": input });
    let path = format!("/v1/workflows/executions/{id}/{what}");
    let (status, answer) = client.call(Method::POST, &path, Some(&body)).await;
    assert!(status.is_success(), "{what} {name} to {id}: {status} {answer}");
    answer["result"].clone()
}

async fn result(client: &Client, id: &str) -> Value {
    let execution = client.ended(id, LIMIT).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    execution["result"].clone()
}

#[tokio::test]
async fn what_is_sent_over_http_and_by_a_schedule_comes_back_as_it_was() {
    let daemon = Daemon::with(&[guest("shapes")]).await;
    let client = &daemon.client;
    join_all(shapes().into_iter().enumerate().map(async |(n, (name, input, _, output))| {
        assert_eq!(client.execute(name, input.clone()).await, output, "{name} with {input}");

        let schedule = json!({ "input": input, "intervals": [{ "every": "PT24H" }] });
        let id = format!("s{n}");
        let body = json!({ "workflow_identifier": name, "schedule_id": id, "schedule": schedule });
        let (status, answer) = client.call(Method::POST, "/v1/workflows/schedules", Some(&body)).await;
        assert_eq!(status, StatusCode::CREATED, "{name} with {input}: {answer}");
        client.post(&format!("/v1/workflows/schedules/{id}/trigger"), &json!({})).await;
        let path = format!("/v1/workflows/runs?page_size=1000&workflow_identifier={name}");
        let execution = eventually(LIMIT, "the schedule starts an execution", async || {
            let list = client.get(&path).await;
            let mut ids =
                list["executions"].as_array()?.iter().filter_map(|row| row["execution_id"].as_str());
            ids.find(|execution| execution.starts_with(&format!("{id}-"))).map(str::to_owned)
        })
        .await;
        assert_eq!(result(client, &execution).await, output, "{name} with {input} by a schedule");
    }))
    .await;
}

#[tokio::test]
async fn what_goes_to_children_activities_people_and_by_messages_comes_back_as_it_was() {
    let daemon = Daemon::with(&[guest("shapes")]).await;
    let client = &daemon.client;
    join_all(shapes().into_iter().map(async |(name, input, plain, _)| {
        let id = client.start(&format!("{name}-ways"), input.clone()).await;
        assert_eq!(send(client, &id, "queries", "ask", &input).await, plain, "{name} asked {input}");
        assert_eq!(send(client, &id, "updates", "tell", &input).await, plain, "{name} told {input}");
        let task = eventually(LIMIT, "it asks a person", async || {
            let pending = send(client, &id, "queries", "__get_pending_inputs", &json!({})).await;
            pending["pending_inputs"][0]["task_id"].as_str().map(str::to_owned)
        })
        .await;
        send(client, &id, "updates", "__submit_input", &json!({ "task_id": task, "input": plain })).await;
        send(client, &id, "signals", "say", &input).await;
        assert_eq!(result(client, &id).await, json!({ "result": [] }), "{name} with {input}");
    }))
    .await;
}

#[tokio::test]
async fn what_a_run_hands_to_the_next_is_what_that_one_takes() {
    let daemon = Daemon::with(&[guest("shapes")]).await;
    let client = &daemon.client;
    join_all(shapes().into_iter().map(async |(name, input, _, output)| {
        let id = client.start(&format!("{name}-again"), input.clone()).await;
        let first = client.execution(&id).await["run_id"].clone();
        send(client, &id, "signals", "again", &json!({})).await;
        eventually(LIMIT, "another run has begun", async || {
            (client.execution(&id).await["run_id"] != first).then_some(())
        })
        .await;
        send(client, &id, "signals", "say", &input).await;
        assert_eq!(result(client, &id).await, output, "{name} with {input}");
    }))
    .await;
}

#[tokio::test]
async fn a_number_beyond_64_bits_reaches_a_child_as_it_is() {
    let daemon = Daemon::with(&[guest("shapes")]).await;
    let told = daemon.client.execute("wide-to-child", json!({})).await;
    assert_eq!(told["result"], u128::MAX.to_string());
}

#[tokio::test]
async fn numbers_that_a_workflow_passes_on_as_json_are_what_they_were_written_as() {
    let daemon = Daemon::with(&[guest("shapes")]).await;
    let client = &daemon.client;
    let numbers = "[123456789012345678901234567890,1.0,1.10,1E5,-0,0.1000000000000000055511151231257827]";
    let post = async |path: &str, body: String| {
        let (status, answer) = client.post_text(path, body).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    };
    let start = format!(r#"{{"wait_for_result":true,"input":{{"v":{numbers}}}}}"#);
    let answer = post("/v1/workflows/text/execute", start).await;
    assert!(answer.contains(&format!(r#""result":{{"result":{numbers}}}"#)), "{answer}");

    // Over every way that a workflow has; it compares texts.
    let start = format!(r#"{{"execution_id":"passes-on","input":{{"v":{{"a":{numbers}}}}}}}"#);
    post("/v1/workflows/text-ways/execute", start).await;
    let path = |what: &str| format!("/v1/workflows/executions/passes-on/{what}");
    let message = |name: &str| format!(r#"{{"name":"{name}","input":{{"v":{{"a":{numbers}}}}}}}"#);
    for (what, name) in [("queries", "ask"), ("updates", "tell")] {
        let answer = post(&path(what), message(name)).await;
        assert!(answer.contains(&format!(r#""result":{{"a":{numbers}}}"#)), "{answer}");
    }
    let task = eventually(LIMIT, "it asks a person", async || {
        let pending = send(client, "passes-on", "queries", "__get_pending_inputs", &json!({})).await;
        pending["pending_inputs"][0]["task_id"].as_str().map(str::to_owned)
    })
    .await;
    let answer =
        format!(r#"{{"name":"__submit_input","input":{{"task_id":"{task}","input":{{"a":{numbers}}}}}}}"#);
    post(&path("updates"), answer).await;
    post(&path("signals"), message("say")).await;
    assert_eq!(result(client, "passes-on").await, json!({ "result": [] }));
}

#[tokio::test]
async fn a_value_that_is_no_object_is_refused_with_the_name_that_it_wants() {
    let daemon = Daemon::with(&[guest("shapes")]).await;
    let body = json!({ "input": { "move": { "x": 1, "y": 2 } } });
    let (status, answer) =
        daemon.client.call(Method::POST, "/v1/workflows/action/execute", Some(&body)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    assert!(answer.to_string().contains("move"), "{answer}");
}

#[tokio::test]
async fn a_text_that_is_not_as_its_format_says_is_refused_by_its_field_before_anything_begins() {
    let daemon = Daemon::with(&[guest("shapes")]).await;
    let client = &daemon.client;
    let id = client.start("due-ways", json!({ "day": "2024-02-29" })).await;
    for (field, wrong) in [
        ("day", json!({ "day": "2023-02-29" })),
        ("at", json!({ "day": "2024-02-29", "at": "yesterday" })),
        ("to", json!({ "day": "2024-02-29", "to": "ada" })),
    ] {
        let schedule = json!({ "input": wrong, "intervals": [{ "every": "PT24H" }] });
        let message = |name| json!({ "name": name, "input": wrong });
        for (path, body) in [
            ("/v1/workflows/due/execute".to_owned(), json!({ "input": wrong, "execution_id": "kept" })),
            (
                "/v1/workflows/schedules".to_owned(),
                json!({ "workflow_identifier": "due", "schedule": schedule }),
            ),
            (format!("/v1/workflows/executions/{id}/signals"), message("say")),
            (format!("/v1/workflows/executions/{id}/queries"), message("ask")),
            (format!("/v1/workflows/executions/{id}/updates"), message("tell")),
        ] {
            let (status, answer) = client.call(Method::POST, &path, Some(&body)).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {wrong}: {answer}");
            let place = answer["detail"][0]["loc"].as_array().and_then(|loc| loc.last()).cloned();
            assert_eq!(place, Some(json!(field)), "{path} {wrong}: {answer}");
        }
    }
    // The id was not used up.
    let body = json!({ "input": { "day": "2024-02-29" }, "execution_id": "kept" });
    let (status, answer) = client.call(Method::POST, "/v1/workflows/due/execute", Some(&body)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}
