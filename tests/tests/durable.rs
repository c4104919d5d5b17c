//! What a user of durable execution reaches for, each with the real binary.

use std::fs;

use airlock_tests::{Client, Daemon, LIMIT, eventually, guest, version};
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn durable() -> Daemon {
    Daemon::with(&[guest("durable")]).await
}

async fn start_as(client: &Client, workflow: &str, id: &str, input: Value) -> (StatusCode, Value) {
    let body = json!({ "execution_id": id, "input": input });
    client.call(Method::POST, &format!("/v1/workflows/{workflow}/execute"), Some(&body)).await
}

async fn send(client: &Client, id: &str, what: &str, name: &str, input: Value) -> (StatusCode, Value) {
    let body = json!({ "name": name, "input": input });
    client.call(Method::POST, &format!("/v1/workflows/executions/{id}/{what}"), Some(&body)).await
}

async fn ask(client: &Client, id: &str, name: &str) -> Value {
    let (status, answer) = send(client, id, "queries", name, json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["result"].clone()
}

async fn ended(client: &Client, id: &str) -> Value {
    client.ended(id, LIMIT).await
}

#[tokio::test]
async fn signals_queries_and_updates_work_on_running_evicted_finished_and_restarted_executions() {
    let mut daemon = durable().await;
    let client = daemon.client.clone();
    let id = client.start("counter", json!({})).await;
    for n in 1..=4 {
        let (status, answer) = send(&client, &id, "signals", "add", json!({ "n": n })).await;
        assert_eq!((status, &answer["message"]), (StatusCode::ACCEPTED, &json!("Signal accepted")));
    }
    assert_eq!(ask(&client, &id, "total").await, 10);
    // The host says who sent it; the sender does not.
    let seen = ask(&client, &id, "seen").await;
    assert_eq!(seen[0], "1 from owner", "{seen}");

    let (status, answer) = send(&client, &id, "updates", "set", json!({ "total": 100 })).await;
    assert_eq!(
        (status, &answer["result"], &answer["update_name"]),
        (StatusCode::OK, &json!(10), &json!("set"))
    );
    let (status, answer) = send(&client, &id, "updates", "set", json!({ "total": -1 })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("a total is at least 0"), "{answer}");

    daemon.kill();
    daemon.restart().await;
    let client = daemon.client.clone();
    assert_eq!(ask(&client, &id, "total").await, 100, "its state is rebuilt");
    // An update that runs while the daemon dies is finished after the restart.
    let body = json!({ "name": "slow", "input": { "ms": 1 }, "update_id": "u1", "wait_for": "accepted" });
    let path = format!("/v1/airlock/executions/{id}/updates");
    assert_eq!(client.post(&path, &body).await["update_id"], "u1");
    daemon.kill();
    daemon.restart().await;
    let client = daemon.client.clone();
    let answer = eventually(LIMIT, "the update is done", async || {
        let answer = client.get(&format!("{path}/u1")).await;
        (answer["state"] == "completed").then_some(answer)
    })
    .await;
    assert_eq!(answer["result"], 1);
    // The same update again is not carried out again.
    let again = json!({ "name": "slow", "input": { "ms": 1 }, "update_id": "u1" });
    let answer = client.post(&format!("/v1/workflows/executions/{id}/updates"), &again).await;
    assert_eq!(answer["result"], 1);

    send(&client, &id, "signals", "done", json!({})).await;
    assert_eq!(ended(&client, &id).await["result"], json!({ "result": 100 }));
    assert_eq!(ask(&client, &id, "total").await, 100, "a finished execution answers");
    let (status, answer) = send(&client, &id, "signals", "add", json!({ "n": 1 })).await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
}

#[tokio::test]
async fn messages_that_make_no_sense_are_refused_with_what_would() {
    let daemon = durable().await;
    let client = &daemon.client;
    let id = client.start("counter", json!({})).await;
    for (what, name, input, status, part) in [
        ("signals", "nothing", json!({}), 404, "it has add, done"),
        ("queries", "nothing", json!({}), 404, "it has total, seen, explode"),
        ("updates", "nothing", json!({}), 404, "it has set, slow"),
        ("signals", "add", json!({ "n": "x" }), 422, "n: "),
        ("updates", "set", json!({}), 422, "total"),
        ("queries", "explode", json!({}), 503, "as asked"),
    ] {
        let (found, answer) = send(client, &id, what, name, input).await;
        assert_eq!(found.as_u16(), status, "{what} {name}: {answer}");
        assert!(answer.to_string().contains(part), "{what} {name}: {answer}");
    }
    let (status, _) = send(client, "no-such", "signals", "add", json!({ "n": 1 })).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(ask(client, &id, "total").await, 0, "nothing of that harmed it");
    // Ended without an answer: the caller of an update is told.
    let waits = {
        let (client, id) = (client.clone(), id.clone());
        tokio::spawn(async move { send(&client, &id, "updates", "slow", json!({ "ms": 20_000 })).await })
    };
    eventually(LIMIT, "the update is accepted", async || {
        let history = client.get(&format!("/v1/workflows/executions/{id}/history")).await;
        history.to_string().contains("UpdateAccepted").then_some(())
    })
    .await;
    let path = format!("/v1/airlock/executions/{id}/updates");
    let body =
        json!({ "name": "slow", "input": { "ms": 20_000 }, "update_id": "late", "wait_for": "accepted" });
    assert_eq!(client.post(&path, &body).await["state"], "accepted");
    client.call(Method::POST, &format!("/v1/workflows/executions/{id}/terminate"), None).await;
    let (status, answer) = waits.await.unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("ended before"), "{answer}");
    // Who asks later hears the same, and not that it is under way for good.
    let answer = client.get(&format!("{path}/late")).await;
    assert_eq!(
        (&answer["state"], &answer["failure"]["kind"]),
        (&json!("completed"), &json!("Ended")),
        "{answer}"
    );
}

#[tokio::test]
async fn a_signal_with_an_id_is_heard_once_and_signal_with_start_starts_at_most_one() {
    let daemon = durable().await;
    let client = &daemon.client;
    let path = "/v1/airlock/workflows/counter/signal-with-start";
    let body = |n: u32| json!({ "execution_id": "shared", "signal": { "name": "add", "input": { "n": 1 }, "signal_id": format!("s{n}") } });
    let bodies: Vec<Value> = (0..20).map(|n| body(n % 10)).collect();
    join_all(bodies.iter().map(|body| client.post(path, body))).await;
    assert_eq!(ask(client, "shared", "total").await, 10, "each of the ten ids counts once");
    let runs = client.get("/v1/workflows/runs?workflow_identifier=counter").await;
    assert_eq!(runs["executions"].as_array().unwrap().len(), 1);
    let (status, answer) = client.call(Method::POST, path, Some(&json!({ "execution_id": "x" }))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    let wrong = json!({ "execution_id": "x", "signal": { "name": "add", "input": {} } });
    assert_eq!(client.call(Method::POST, path, Some(&wrong)).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, _) = client.call(Method::GET, "/v1/workflows/executions/x", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "neither happened");
}

#[tokio::test]
async fn an_execution_id_is_reused_and_contested_as_the_start_says() {
    let daemon = durable().await;
    let client = &daemon.client;
    let path = "/v1/workflows/counter/execute";
    let first = client.post(path, &json!({ "execution_id": "one" })).await;
    let try_start = async |more: Value| {
        let mut body = json!({ "execution_id": "one" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.call(Method::POST, path, Some(&body)).await
    };
    assert_eq!(try_start(json!({})).await.0, StatusCode::CONFLICT);
    let (_, existing) = try_start(json!({ "id_conflict_policy": "use_existing" })).await;
    assert_eq!(existing["run_id"], first["run_id"]);
    let (_, second) = try_start(json!({ "id_conflict_policy": "terminate_existing" })).await;
    assert_ne!(second["run_id"], first["run_id"], "{second}");
    let old = client.get(&format!("/v1/workflows/runs/{}", first["run_id"].as_str().unwrap())).await;
    assert_eq!(old["status"], "TERMINATED");
    send(client, "one", "signals", "done", json!({})).await;
    assert_eq!(ended(client, "one").await["status"], "COMPLETED");
    assert_eq!(try_start(json!({})).await.0, StatusCode::CONFLICT, "by default an id is used once");
    let failed_only = json!({ "id_reuse_policy": "allow_duplicate_failed_only" });
    assert_eq!(try_start(failed_only).await.0, StatusCode::CONFLICT);
    let (status, third) = try_start(json!({ "id_reuse_policy": "allow_duplicate" })).await;
    assert_eq!(status, StatusCode::OK, "{third}");
    let runs = client.get("/v1/workflows/runs?execution_id=one").await;
    assert_eq!(runs["executions"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_workflow_continues_as_new_under_the_same_id_through_a_crash_and_clients_see_one_execution() {
    let mut daemon = durable().await;
    let (status, answer) = start_as(&daemon.client, "ticker", "ticks", json!({ "at": 0, "to": 30 })).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    daemon.kill();
    daemon.restart().await;
    let client = &daemon.client;
    let execution = ended(client, "ticks").await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    let runs = execution["result"]["runs"].as_array().unwrap();
    let different: std::collections::HashSet<_> = runs.iter().map(Value::to_string).collect();
    assert_eq!((runs.len(), different.len()), (31, 31));
    let types = client.event_types("ticks").await;
    let count = |kind: &str| types.iter().filter(|it| *it == kind).count();
    assert_eq!(count("WORKFLOW_EXECUTION_CONTINUED_AS_NEW"), 30);
    assert_eq!(count("WORKFLOW_EXECUTION_COMPLETED"), 1);
    let list =
        client.get("/v1/workflows/runs?execution_id=ticks&status=CONTINUED_AS_NEW&page_size=100").await;
    assert_eq!(list["executions"].as_array().unwrap().len(), 30);
    // The caller that waits gets the end of the last run.
    let result = client.execute("ticker", json!({ "at": 0, "to": 5 })).await;
    assert_eq!(result["at"], 5);
    let keys = client.get("/v1/workflows/executions/ticks?include_search_keys=true").await;
    assert_eq!(keys["search_keys"], json!({ "at": "30", "to": "30" }));
}

#[tokio::test]
async fn children_give_results_and_failures_and_share_the_roots_events() {
    let daemon = durable().await;
    let client = &daemon.client;
    let id = client.start("squares", json!({ "children": 20, "at_once": 4 })).await;
    let execution = ended(client, &id).await;
    let expected: u64 = (0..20u64).filter(|n| *n != 13).map(|n| n * n).sum();
    assert_eq!(execution["result"]["result"], expected, "{execution}");
    let tree = client.get(&format!("/v1/workflows/runs?root_execution_id={id}&page_size=100")).await;
    let tree = tree["executions"].as_array().unwrap();
    assert_eq!(tree.len(), 21);
    assert_eq!(tree.iter().filter(|row| row["parent_execution_id"] == id.as_str()).count(), 20);
    assert_eq!(tree.iter().filter(|row| row["status"] == "FAILED").count(), 1);
    let events = client.events(&id).await;
    let done = events.iter().filter(|event| event["event_type"] == "WORKFLOW_EXECUTION_COMPLETED").count();
    assert_eq!(done, 20, "19 children and the parent");
    assert!(events.iter().all(|event| event["root_workflow_exec_id"] == id.as_str()));
}

#[tokio::test]
async fn what_becomes_of_children_follows_the_parent_close_policy_also_when_the_daemon_dies() {
    let mut daemon = durable().await;
    for (name, dies) in [("calm", false), ("storm", true)] {
        let client = daemon.client.clone();
        let (status, answer) = start_as(&client, "family", name, json!({ "name": name })).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let child = |fate: &str| format!("{name}-{fate}");
        eventually(LIMIT, "all children have begun", async || {
            let (status, _) = client
                .call(Method::GET, &format!("/v1/workflows/executions/{}", child("abandoned")), None)
                .await;
            status.is_success().then_some(())
        })
        .await;
        send(&client, name, "signals", "done", json!({})).await;
        if dies {
            daemon.kill();
            daemon.restart().await;
        }
        let client = daemon.client.clone();
        // A signal that was acknowledged survives; the parent ends.
        assert_eq!(ended(&client, name).await["status"], "COMPLETED");
        assert_eq!(ended(&client, &child("terminated")).await["status"], "TERMINATED");
        assert_eq!(ended(&client, &child("cancelled")).await["status"], "CANCELED");
        assert_eq!(client.execution(&child("abandoned")).await["status"], "RUNNING");
    }
}

#[tokio::test]
async fn a_child_that_is_given_up_is_cancelled_and_one_with_a_taken_id_is_an_error() {
    let daemon = durable().await;
    let client = &daemon.client;
    start_as(client, "gives-up", "giver", json!({ "name": "giver" })).await;
    eventually(LIMIT, "the child has begun", async || {
        let (status, _) = client.call(Method::GET, "/v1/workflows/executions/giver-child", None).await;
        status.is_success().then_some(())
    })
    .await;
    assert_eq!(ended(client, "giver-child").await["status"], "CANCELED");
    assert_eq!(client.execution("giver").await["status"], "RUNNING");
    // Another one wants the same child id while a stranger has it.
    start_as(client, "counter", "other-child", json!({})).await;
    start_as(client, "gives-up", "other", json!({ "name": "other" })).await;
    let execution = ended(client, "other").await;
    assert_eq!(
        (&execution["status"], &execution["failure"]["kind"]),
        (&json!("FAILED"), &json!("AlreadyExists"))
    );
    assert_eq!(client.execution("other-child").await["status"], "RUNNING");
}

#[tokio::test]
async fn a_cancelled_parent_has_its_child_clean_up_and_a_reset_one_goes_on_with_another() {
    let daemon = durable().await;
    let client = &daemon.client;
    let begun = async |id: &str| {
        let path = format!("/v1/workflows/executions/{id}");
        eventually(LIMIT, "the child has begun", async || {
            let (status, execution) = client.call(Method::GET, &path, None).await;
            (status.is_success() && execution["status"] == "RUNNING").then_some(())
        })
        .await;
    };
    start_as(client, "parental", "stops", json!({ "name": "stops" })).await;
    begun("stops-child").await;
    client.call(Method::POST, "/v1/workflows/executions/stops/cancel", None).await;
    assert_eq!(ended(client, "stops").await["status"], "CANCELED");
    assert_eq!(ended(client, "stops-child").await["status"], "CANCELED");

    start_as(client, "parental", "again", json!({ "name": "again" })).await;
    begun("again-child").await;
    let events = client.get("/v1/workflows/executions/again/history").await;
    let last = events["events"].as_array().unwrap().last().unwrap()["event_id"].clone();
    let body = json!({ "event_id": last, "reason": "once more" });
    let (status, answer) =
        client.call(Method::POST, "/v1/workflows/executions/again/reset", Some(&body)).await;
    assert!(status.is_success(), "{answer}");
    // The first one was asked to stop; the next one waits for another, under the same id.
    eventually(LIMIT, "another child", async || {
        let runs = client.get("/v1/workflows/runs?search=again-child").await;
        (runs["executions"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    begun("again-child").await;
    send(client, "again-child", "signals", "done", json!({})).await;
    assert_eq!(ended(client, "again").await["status"], "COMPLETED");
}

#[tokio::test]
async fn a_child_does_not_take_over_the_id_of_somebody_elses_execution() {
    let daemon = durable().await;
    let client = &daemon.client;
    start_as(client, "counter", "report-child", json!({})).await;
    send(client, "report-child", "signals", "add", json!({ "n": 7 })).await;
    send(client, "report-child", "signals", "done", json!({})).await;
    let report = ended(client, "report-child").await;
    assert_eq!(report["status"], "COMPLETED");
    let eve = daemon.user("eve").await;
    start_as(&eve, "parental", "report", json!({ "name": "report" })).await;
    let failed = ended(&eve, "report").await;
    assert_eq!((&failed["status"], &failed["failure"]["kind"]), (&json!("FAILED"), &json!("AlreadyExists")));
    assert_eq!(client.execution("report-child").await, report);
}

#[tokio::test]
async fn workflows_signal_and_cancel_other_executions_of_the_same_user_only() {
    let daemon = durable().await;
    let client = &daemon.client;
    let target = client.start("counter", json!({})).await;
    let tell = |id: &str, cancel: bool| json!({ "execution_id": id, "n": 7, "then_cancel": cancel });
    assert_eq!(client.execute("teller", tell(&target, false)).await["result"], Value::Null);
    assert_eq!(ask(client, &target, "total").await, 7);
    let seen = ask(client, &target, "seen").await;
    assert!(seen[0].as_str().unwrap().starts_with("7 from execution:"), "{seen}");
    assert_eq!(client.execute("teller", tell("nobody", false)).await["result"], "NotFound");
    // Somebody else's execution is as if it were not there.
    let key = client.post("/v1/airlock/keys", &json!({ "user": "eve" })).await;
    let eve = Client::new(daemon.url().as_str(), key["key"].as_str().unwrap());
    assert_eq!(eve.execute("teller", tell(&target, false)).await["result"], "NotFound");
    let (status, _) = send(&eve, &target, "signals", "add", json!({ "n": 1 })).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    for policy in ["reject_duplicate", "allow_duplicate"] {
        let body = json!({
            "execution_id": target, "id_reuse_policy": policy,
            "signal": { "name": "add", "input": { "n": 1 } },
        });
        let (status, answer) =
            eve.call(Method::POST, "/v1/airlock/workflows/counter/signal-with-start", Some(&body)).await;
        assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    }
    let body = json!({ "execution_id": target, "id_conflict_policy": "use_existing" });
    let (status, answer) = eve.call(Method::POST, "/v1/workflows/counter/execute", Some(&body)).await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    assert_eq!(ask(client, &target, "total").await, 7);
    assert_eq!(client.execute("teller", tell(&target, true)).await["result"], Value::Null);
    assert_eq!(ended(client, &target).await["status"], "CANCELED");
    assert_eq!(client.execute("teller", tell(&target, false)).await["result"], "Ended");
}

#[tokio::test]
async fn retries_heartbeats_and_limits_are_as_declared() {
    let daemon = durable().await;
    let client = &daemon.client;
    let id = client.start("third-time", json!({})).await;
    let execution = ended(client, &id).await;
    assert_eq!((&execution["status"], &execution["result"]["result"]), (&json!("COMPLETED"), &json!(3)));
    let runs = client.get(&format!("/v1/workflows/runs?execution_id={id}")).await;
    assert_eq!(runs["executions"].as_array().unwrap().len(), 3);
    let types = client.event_types(&id).await;
    assert!(
        !types.contains(&"WORKFLOW_EXECUTION_FAILED".to_owned()),
        "clients are not told of an end: {types:?}"
    );
    // Three attempts, each going on from what the one before said.
    assert_eq!(client.execute("progress", json!({})).await["result"], 3);
    for limit in ["schedule-to-start", "start-to-close", "schedule-to-close", "heartbeat"] {
        assert_eq!(client.execute("late", json!({ "limit": limit })).await["result"], limit);
    }
    // A start may say so itself.
    let body = json!({ "input": {}, "execution_timeout_seconds": 0.3 });
    let id = client.post("/v1/workflows/counter/execute", &body).await["execution_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let execution = ended(client, &id).await;
    assert_eq!(execution["status"], "TIMED_OUT");
    assert_eq!(execution["failure"]["details"]["timeout"], "execution", "{execution}");
    let (status, answer) = client
        .call(Method::POST, "/v1/workflows/counter/execute", Some(&json!({ "start_delay_seconds": -1 })))
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    let body = json!({ "input": {}, "start_delay_seconds": 0.5 });
    let id = client.post("/v1/workflows/third-time/execute", &body).await["execution_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (status, _) = send(client, &id, "queries", "none", json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(ended(client, &id).await["status"], "COMPLETED");
}

#[tokio::test]
async fn cancelling_reaches_a_running_activity_and_pausing_lets_everything_rest() {
    let mut daemon = durable().await;
    let client = daemon.client.clone();
    let id = client.start("patient", json!({})).await;
    eventually(LIMIT, "the activity runs", async || {
        let status = client.get("/v1/airlock/status").await;
        (status["sandbox"]["running_activities"] != 0).then_some(())
    })
    .await;
    client.call(Method::POST, &format!("/v1/workflows/executions/{id}/cancel"), None).await;
    assert_eq!(ended(&client, &id).await["status"], "CANCELED");
    eventually(LIMIT, "the activity has noticed", async || {
        let status = client.get("/v1/airlock/status").await;
        (status["sandbox"]["running_activities"] == 0).then_some(())
    })
    .await;

    let id = client.start("counter", json!({})).await;
    let own = |what: &str| format!("/v1/airlock/executions/{id}/{what}");
    assert_eq!(client.call(Method::POST, &own("resume"), None).await.0, StatusCode::CONFLICT);
    client.post(&own("pause"), &json!({ "reason": "lunch" })).await;
    send(&client, &id, "signals", "add", json!({ "n": 5 })).await;
    send(&client, &id, "signals", "done", json!({})).await;
    daemon.kill();
    daemon.restart().await;
    let client = daemon.client.clone();
    let execution = client.execution(&id).await;
    assert_eq!((&execution["status"], &execution["paused"]), (&json!("RUNNING"), &json!("lunch")));
    let list = client.get("/v1/workflows/runs?search_key=internal.paused").await;
    assert_eq!(list["executions"][0]["execution_id"], id.as_str());
    client.post(&own("resume"), &json!({})).await;
    assert_eq!(ended(&client, &id).await["result"]["result"], 5, "what came while it rested is told");
}

#[tokio::test]
async fn an_execution_is_reset_to_an_event_and_keeps_or_drops_later_signals() {
    let daemon = durable().await;
    let client = &daemon.client;
    let id = client.start("counter", json!({})).await;
    for n in [1, 10, 100] {
        send(client, &id, "signals", "add", json!({ "n": n })).await;
    }
    let history = client.get(&format!("/v1/workflows/executions/{id}/history")).await;
    let second = history["events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["record"].to_string().contains("\"n\":10}"))
        .unwrap()["event_id"]
        .clone();
    let reset = async |body: Value| {
        client.call(Method::POST, &format!("/v1/workflows/executions/{id}/reset"), Some(&body)).await
    };
    let (status, answer) = reset(json!({ "event_id": 9_999 })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    assert_eq!(reset(json!({ "event_id": second, "reason": "again" })).await.0, StatusCode::NO_CONTENT);
    eventually(LIMIT, "the new run has begun", async || {
        (ask_maybe(client, &id).await == Some(json!(111))).then_some(())
    })
    .await;
    assert_eq!(reset(json!({ "event_id": second, "exclude_signals": true })).await.0, StatusCode::NO_CONTENT);
    eventually(LIMIT, "the later signal is gone", async || {
        (ask_maybe(client, &id).await == Some(json!(11))).then_some(())
    })
    .await;
    send(client, &id, "signals", "done", json!({})).await;
    assert_eq!(ended(client, &id).await["result"]["result"], 11);
    // One that has ended goes on from before its end.
    assert_eq!(reset(json!({ "event_id": second, "exclude_signals": true })).await.0, StatusCode::NO_CONTENT);
    assert_eq!(client.execution(&id).await["status"], "RUNNING");
}

async fn ask_maybe(client: &Client, id: &str) -> Option<Value> {
    let (status, answer) = send(client, id, "queries", "total", json!({})).await;
    (status == StatusCode::OK).then(|| answer["result"].clone())
}

#[tokio::test]
async fn people_are_asked_through_the_public_query_and_update() {
    let mut daemon = durable().await;
    let id = daemon.client.start("form", json!({})).await;
    daemon.kill();
    daemon.restart().await;
    let client = &daemon.client;
    let pending = ask(client, &id, "__get_pending_inputs").await;
    let wanted = &pending["pending_inputs"][0];
    assert_eq!(wanted["label"], "Your order");
    assert_eq!(wanted["input_schema"]["properties"]["dish"]["type"], "string", "{wanted}");
    let submit = |task: &Value, input: Value| json!({ "task_id": task, "input": input });
    let (status, answer) =
        send(client, &id, "updates", "__submit_input", submit(&wanted["task_id"], json!({}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("Invalid input for task"), "{answer}");
    let waiting =
        client.get("/v1/workflows/runs?search_key=internal.execution.state%3D%3D:waiting_for_input").await;
    assert_eq!(waiting["executions"][0]["execution_id"], id.as_str());
    let good = submit(&wanted["task_id"], json!({ "dish": "soup" }));
    let (status, answer) = send(client, &id, "updates", "__submit_input", good).await;
    assert_eq!((status, &answer["result"]), (StatusCode::OK, &json!({})));
    assert_eq!(ended(client, &id).await["result"], json!({ "ordered": "soup" }));
    let events = client.events(&id).await;
    let shown: Vec<_> =
        events.iter().filter(|it| it["attributes"]["custom_task_type"] == "wait_for_input").collect();
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[1]["attributes"]["payload"]["value"]["input"], json!({ "dish": "soup" }));
}

#[tokio::test]
async fn search_keys_filter_lists_and_change_with_the_workflow() {
    let daemon = durable().await;
    let client = &daemon.client;
    let order = |customer: &str, sku: &str| json!({ "customer": customer, "item": { "sku": sku } });
    let (ada, bob) = (
        client.start("labelled", order("Ada Lovelace", "a-1")).await,
        client.start("labelled", order("bob", "b-2")).await,
    );
    let found = async |query: &str| -> Vec<String> {
        let list = client.get(&format!("/v1/workflows/runs?{query}")).await;
        let rows = list["executions"].as_array().unwrap().clone();
        rows.iter().map(|row| row["execution_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found("search_key=customer:love").await, std::slice::from_ref(&ada));
    assert_eq!(found("search_key=customer%3D%3D:bob").await, std::slice::from_ref(&bob));
    assert_eq!(found("search_key=stage%3D%3D:waiting&search_key=item.sku").await.len(), 2);
    send(client, &ada, "signals", "done", json!({})).await;
    ended(client, &ada).await;
    assert_eq!(found("search_key=stage%3D%3D:waiting&search_key=item.sku").await, [bob]);
    assert_eq!(found("search_key=stage%3D%3D:done&status=COMPLETED&sort_by=end_time&order=asc").await, [ada]);
    for bad in ["search_key=", "sort_by=name", "order=up", "start_time_after=now", "status=GONE"] {
        let (status, answer) = client.call(Method::GET, &format!("/v1/workflows/runs?{bad}"), None).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}: {answer}");
    }
}

#[tokio::test]
async fn a_payload_of_many_megabytes_is_kept_and_one_beyond_the_limit_is_refused() {
    let mut daemon = durable().await;
    let result = daemon.client.execute("large", json!({ "bytes": 5_000_000 })).await;
    assert_eq!(result["result"].as_str().unwrap().len(), 5_000_000);
    let id = daemon.client.start("large", json!({ "bytes": 3_000_000 })).await;
    ended(&daemon.client, &id).await;
    daemon.kill();
    daemon.restart().await;
    let execution = daemon.client.execution(&id).await;
    assert_eq!(execution["result"]["result"].as_str().unwrap().len(), 3_000_000);
    let objects = daemon.setup.data().join("objects");
    assert!(walk(&objects) > 10_000_000, "large payloads stand in the object store");
    let big = json!({ "input": { "value": "x".repeat(15_100_000) } });
    let (status, answer) =
        daemon.client.call(Method::POST, "/v1/workflows/counter/execute", Some(&big)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{answer}");
}

fn walk(folder: &std::path::Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => walk(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[tokio::test]
async fn finished_executions_are_removed_as_configured_and_running_ones_are_kept() {
    let daemon = airlock_tests::Setup::new(&[guest("durable")]).with(&["--retention", "1s"]).start().await;
    let client = &daemon.client;
    let kept = client.start("counter", json!({})).await;
    let id = client.start("progress", json!({})).await;
    ended(client, &id).await;
    eventually(LIMIT, "the finished one is gone", async || {
        let (status, _) = client.call(Method::GET, &format!("/v1/workflows/executions/{id}"), None).await;
        (status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    assert_eq!(client.execution(&kept).await["status"], "RUNNING");
}

#[tokio::test]
async fn the_command_line_sends_messages_downloads_a_history_and_replays_it() {
    let daemon = durable().await;
    let client = &daemon.client;
    let id = client.start("counter", json!({})).await;
    let run = |arguments: &[&str]| daemon.cli(arguments, "");
    assert!(run(&["executions", "signal", &id, "add", "--input", r#"{"n": 4}"#]).status.success());
    let answer = run(&["executions", "query", &id, "total"]);
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "4");
    let answer = run(&["executions", "update", &id, "set", "--input", r#"{"total": 9}"#, "--json"]);
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "4");
    assert!(run(&["executions", "pause", &id, "--reason", "lunch"]).status.success());
    assert!(String::from_utf8_lossy(&run(&["executions", "show", &id]).stdout).contains("lunch"));
    assert!(run(&["executions", "resume", &id]).status.success());
    let bad = run(&["executions", "signal", &id, "add", "--input", "{"]);
    assert_eq!(bad.status.code(), Some(2));
    run(&["executions", "signal", &id, "done"]);
    ended(client, &id).await;

    let history = run(&["executions", "history", &id, "--json"]).stdout;
    let file = daemon.setup.folder.path().join("history.json");
    fs::write(&file, &history).unwrap();
    let file = file.to_str().unwrap();
    let component = guest("durable");
    let replayed = run(&["replay", file, "--component", component.to_str().unwrap()]);
    assert!(replayed.status.success(), "{replayed:?}");
    let changed = String::from_utf8_lossy(&history).replace("\"Ok\": 4", "\"Ok\": 5");
    assert!(changed.contains("\"Ok\": 5"));
    fs::write(file, changed).unwrap();
    let replayed = run(&["replay", file, "--component", component.to_str().unwrap()]);
    assert_eq!(replayed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert!(
        said.contains("of the history is complete update") && said.contains("but the code now wants"),
        "{said}"
    );
    let nonsense = run(&["replay", component.to_str().unwrap(), "--component", component.to_str().unwrap()]);
    assert_eq!(nonsense.status.code(), Some(1));
}

#[tokio::test]
async fn open_executions_move_to_newer_code_if_it_repeats_their_history() {
    let mut daemon = Daemon::with(&[version("v1")]).await;
    let client = daemon.client.clone();
    let stays = client.start("versioned", json!({ "pause_ms": 4_000 })).await;
    let moves = client.start("patched-loop", json!({ "rounds": 12 })).await;
    daemon.setup.install(&version("v2"));
    eventually(LIMIT, "the new version serves", async || {
        let served = client.get("/v1/workflows/versioned").await;
        served.to_string().contains("v2: wait").then_some(())
    })
    .await;
    let upgrade = |dry: bool| json!({ "execution_ids": [stays, moves], "dry_run": dry });
    let path = "/v1/airlock/executions/upgrade";
    let trial = client.post(path, &upgrade(true)).await;
    assert_eq!(trial["results"][&moves]["status"], "fits", "{trial}");
    assert_eq!(trial["results"][&stays]["status"], "refused");
    let why = trial["results"][&stays]["reason"].as_str().unwrap();
    assert!(
        why.contains("of the history is schedule activity 'stamp'")
            && why.contains("now wants start a timer"),
        "{why}"
    );
    let done = client.post(path, &upgrade(false)).await;
    assert_eq!(done["results"][&moves]["status"], "upgraded", "{done}");
    daemon.kill();
    daemon.restart().await;
    let client = daemon.client.clone();
    let stamps = ended(&client, &moves).await["result"]["result"].clone();
    let stamps: Vec<_> =
        stamps.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect();
    assert_eq!(stamps[0], "0-v1", "{stamps:?}");
    assert!(stamps.contains(&"11-v2".to_owned()) && stamps.contains(&"11-again-v2".to_owned()), "{stamps:?}");
    assert!(
        !stamps.contains(&"0-again-v2".to_owned()),
        "what was done under version 1 is not done again: {stamps:?}"
    );
    assert_eq!(
        ended(&client, &stays).await["result"]["version"],
        "v1",
        "the other goes on with its own code"
    );
    let unknown = json!({ "execution_ids": [moves], "digest": "12" });
    assert_eq!(client.call(Method::POST, path, Some(&unknown)).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(client.call(Method::POST, path, Some(&json!({}))).await.0, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_backup_that_is_taken_under_load_is_restored_and_goes_on() {
    let daemon = durable().await;
    let client = daemon.client.clone();
    let ids = join_all((0..50).map(|n| client.start("ticker", json!({ "at": 0, "to": n })))).await;
    let waiting = client.start("counter", json!({})).await;
    send(&client, &waiting, "signals", "add", json!({ "n": 3 })).await;
    let folder = daemon.setup.folder.path().join("backup");
    let data = daemon.setup.data();
    let taken = daemon.cli(&["backup", folder.to_str().unwrap(), "--data", data.to_str().unwrap()], "");
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let again = daemon.cli(&["backup", folder.to_str().unwrap(), "--data", data.to_str().unwrap()], "");
    assert_eq!(again.status.code(), Some(1), "a folder that is not empty is left alone");
    let sound = daemon.cli(&["backup", "--verify", folder.to_str().unwrap()], "");
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stderr));

    let copy = airlock_tests::Setup::new(&[guest("durable")]);
    let restored =
        daemon.cli(&["restore", folder.to_str().unwrap(), "--data", copy.data().to_str().unwrap()], "");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    for key in ["master.key", "owner.key"] {
        fs::copy(data.join(key), copy.data().join(key)).unwrap();
    }
    let second = copy.start().await;
    let client = Client::new(&second.url(), &daemon.client.key);
    for id in &ids {
        assert_eq!(ended(&client, id).await["status"], "COMPLETED");
    }
    assert_eq!(ask(&client, &waiting, "total").await, 3);
}

#[tokio::test]
async fn only_a_workflow_on_behalf_of_its_caller_starts_one_that_is() {
    let daemon = durable().await;
    let client = &daemon.client;
    assert_eq!(client.execute("impersonal", json!({})).await["result"], "NotOnBehalfOf");
    assert_eq!(client.execute("delegates", json!({})).await["result"], true);
}

#[tokio::test]
async fn an_execution_of_thousands_of_runs_can_be_followed_to_its_end() {
    let daemon = durable().await;
    let client = &daemon.client;
    start_as(client, "ticker", "long", json!({ "at": 0, "to": 2_100 })).await;
    assert_eq!(ended(client, "long").await["status"], "COMPLETED");
    let stream = client.get_text("/v1/workflows/events/stream?root_workflow_exec_id=long").await;
    let last = stream.lines().rev().find(|line| line.starts_with("data:")).expect("events");
    assert!(last.contains("WORKFLOW_EXECUTION_COMPLETED"), "{last}");
}
