//! Executions start by the clock, also when the process dies.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use airlock_tests::{Daemon, LIMIT, eventually, guest};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn create(daemon: &Daemon, id: &str, workflow: &str, schedule: Value) {
    let body = json!({ "workflow_identifier": workflow, "schedule_id": id, "schedule": schedule });
    let (status, answer) = daemon.client.call(Method::POST, "/v1/workflows/schedules", Some(&body)).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
}

async fn show(daemon: &Daemon, id: &str) -> Value {
    daemon.client.get(&format!("/v1/workflows/schedules/{id}")).await
}

/// The schedule once it is as wished.
async fn until(daemon: &Daemon, id: &str, what: &str, wished: impl Fn(&Value) -> bool) -> Value {
    eventually(LIMIT, what, async || {
        let schedule = show(daemon, id).await;
        wished(&schedule).then_some(schedule)
    })
    .await
}

fn count(schedule: &Value, key: &str) -> u64 {
    schedule["scheduled"][key].as_u64().expect("a counter")
}

/// The ids of all executions that were started for a schedule.
async fn executions(daemon: &Daemon, workflow: &str, id: &str) -> Vec<String> {
    let path = format!("/v1/workflows/runs?page_size=1000&workflow_identifier={workflow}");
    let list = daemon.client.get(&path).await;
    let ids = list["executions"].as_array().expect("a list").iter();
    let ids = ids.map(|row| row["execution_id"].as_str().expect("an id").to_owned());
    ids.filter(|execution| execution.starts_with(&format!("{id}-"))).collect()
}

fn every_second(overlap: u8) -> Value {
    json!({ "input": { "steps": 2 }, "intervals": [{ "every": "PT1S" }],
        "policy": { "overlap": overlap, "catchup_window_seconds": 3600 } })
}

#[tokio::test]
async fn killed_again_and_again_a_schedule_starts_every_second_once_and_makes_up_for_downtime() {
    let mut daemon = Daemon::with(&[guest("bench")]).await;
    create(&daemon, "tick", "sequence", every_second(6)).await;
    for round in 0..6u64 {
        let started = count(&show(&daemon, "tick").await, "started");
        until(&daemon, "tick", "it goes on", |schedule| count(schedule, "started") > started).await;
        // At a different moment of the second each time.
        tokio::time::sleep(Duration::from_millis(137 * round)).await;
        daemon.kill();
        tokio::time::sleep(Duration::from_millis(600 * round)).await;
        daemon.restart().await;
    }
    daemon.client.post("/v1/workflows/schedules/tick/pause", &json!({})).await;
    let schedule = show(&daemon, "tick").await;
    let ids: BTreeSet<String> = executions(&daemon, "sequence", "tick").await.into_iter().collect();
    let started = count(&schedule, "started");
    assert_eq!(ids.len() as u64, started, "each start is known, and was made once");
    assert_eq!((count(&schedule, "missed"), count(&schedule, "failed")), (0, 0), "{schedule}");
    let second = |id: &String| {
        let text = id.strip_prefix("tick-").expect("an id of the schedule");
        let number = |from: usize| text[from..from + 2].parse::<u64>().expect("a number");
        (number(8) * 24 + number(11)) * 3600 + number(14) * 60 + number(17)
    };
    let seconds: Vec<u64> = ids.iter().map(second).collect();
    for pair in seconds.windows(2) {
        // At the end of a month the days begin anew.
        assert!(pair[1] == pair[0] + 1 || pair[1] < pair[0], "no second is left out: {seconds:?}");
    }
    for id in &ids {
        assert_eq!(daemon.client.ended(id, LIMIT).await["status"], "COMPLETED");
    }
}

#[tokio::test]
async fn times_that_are_older_than_the_catch_up_window_are_counted_as_missed() {
    let mut daemon = Daemon::with(&[guest("bench")]).await;
    let mut schedule = every_second(6);
    schedule["policy"]["catchup_window_seconds"] = 10.into();
    create(&daemon, "short", "sequence", schedule).await;
    until(&daemon, "short", "it starts", |schedule| count(schedule, "started") > 0).await;
    daemon.kill();
    let killed = Instant::now();
    tokio::time::sleep(Duration::from_secs(15)).await;
    daemon.restart().await;
    let schedule = until(&daemon, "short", "it catches up", |schedule| {
        count(schedule, "missed") > 0 && count(schedule, "started") > 9
    })
    .await;
    // Every second until it caught up was missed or made up for.
    let longest = killed.elapsed().as_secs() - 5;
    assert!((3..=longest).contains(&count(&schedule, "missed")), "{longest}: {schedule}");
}

#[tokio::test]
async fn an_execution_that_takes_longer_than_the_interval_is_not_joined_by_another() {
    let daemon = Daemon::with(&[guest("bench")]).await;
    let schedule = json!({ "input": { "ms": 2_500 }, "intervals": [{ "every": "PT1S" }] });
    create(&daemon, "slow", "sleeper", schedule).await;
    let schedule =
        until(&daemon, "slow", "times are skipped", |schedule| count(schedule, "started") == 3).await;
    assert!(count(&schedule, "skipped") >= 2, "{schedule}");
    assert_eq!(schedule["running_executions"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_id_that_somebody_else_has_taken_is_a_failure_that_is_shown_and_holds_nothing_up() {
    let daemon = Daemon::with(&[guest("bench")]).await;
    let schedule = json!({ "input": null, "intervals": [{ "every": "PT4S" }] });
    create(&daemon, "nightly", "noop-once", schedule).await;
    let ahead = show(&daemon, "nightly").await["future_executions"][1]["scheduled_at"].clone();
    let at = ahead.as_str().expect("a time")[..19].replace(':', "-");
    let body = json!({ "input": { "ms": 600_000 }, "execution_id": format!("nightly-{at}Z") });
    let eve = daemon.user("eve").await;
    eve.post("/v1/workflows/sleeper/execute", &body).await;
    let schedule = until(&daemon, "nightly", "it goes on after that time", |schedule| {
        count(schedule, "failed") == 1 && count(schedule, "started") >= 2
    })
    .await;
    assert!(
        schedule["last_failure"]["reason"].as_str().expect("a reason").contains("did not start"),
        "{schedule}"
    );
    assert_eq!(count(&schedule, "skipped"), 0, "{schedule}");
    let own = daemon.client.get("/v1/workflows/runs?schedule_id=nightly").await;
    let own = own["executions"].as_array().expect("a list").len() as u64;
    assert!(own >= 2 && own.abs_diff(count(&schedule, "started")) <= 1, "{own} of {schedule}");
}

#[tokio::test]
async fn a_paused_schedule_starts_nothing_but_what_it_is_asked_for() {
    let mut daemon = Daemon::with(&[guest("bench")]).await;
    create(&daemon, "tick", "noop-once", json!({ "input": null, "intervals": [{ "every": "PT1S" }] })).await;
    until(&daemon, "tick", "it starts", |schedule| count(schedule, "started") > 0).await;
    daemon.client.post("/v1/workflows/schedules/tick/pause", &json!({ "note": "holidays" })).await;
    let before = count(&show(&daemon, "tick").await, "started");
    daemon.client.post("/v1/workflows/schedules/tick/trigger", &json!({})).await;
    // A trigger that was acknowledged survives a kill at once.
    daemon.kill();
    daemon.restart().await;
    let schedule =
        until(&daemon, "tick", "the trigger starts", |schedule| schedule["by_hand"]["started"] == 1).await;
    assert_eq!((&schedule["paused"], &schedule["note"]), (&json!(true), &json!("holidays")));
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    assert_eq!(count(&show(&daemon, "tick").await, "started"), before);
    daemon.client.post("/v1/workflows/schedules/tick/resume", &json!({})).await;
    until(&daemon, "tick", "it goes on", |schedule| count(schedule, "started") > before).await;
}

#[tokio::test]
async fn the_command_line_makes_shows_and_removes_a_schedule() {
    let daemon = Daemon::with(&[guest("bench"), guest("echo")]).await;
    let cli = |arguments: &[&str]| {
        let output = daemon.cli(arguments, "");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let made = cli(&[
        "schedules",
        "create",
        "noop-once",
        "--id",
        "xmas",
        "--at",
        "2099-12-24T18:00",
        "--tz",
        "Europe/Berlin",
        "--overlap",
        "allow-all",
    ]);
    assert_eq!((made.0, made.1.trim()), (Some(0), "xmas"), "{}", made.2);
    assert!(made.2.contains("2099-12-24T17:00:00Z"), "{}", made.2);
    let (code, table, _) = cli(&["schedules", "list"]);
    assert_eq!(code, Some(0));
    assert!(table.contains("xmas") && table.contains("active"), "{table}");
    assert_eq!(cli(&["schedules", "pause", "xmas", "--note", "no snow"]).0, Some(0));
    let (_, shown, _) = cli(&["schedules", "show", "xmas"]);
    for part in ["paused", "no snow", "allow-all", "Europe/Berlin"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(cli(&["schedules", "trigger", "xmas"]).0, Some(0));
    until(&daemon, "xmas", "the trigger starts", |schedule| schedule["by_hand"]["started"] == 1).await;
    assert_eq!(cli(&["schedules", "update", "xmas", "--every", "1h", "--max", "2"]).0, Some(0));
    assert_eq!(cli(&["schedules", "resume", "xmas"]).0, Some(0));
    let (_, json, _) = cli(&["schedules", "show", "xmas", "--json"]);
    let schedule: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(schedule["intervals"][0]["every"], "PT3600S");
    assert_eq!((&schedule["calendars"], &schedule["remaining_executions"]), (&json!([]), &json!(2)));
    assert_eq!(cli(&["schedules", "delete", "xmas"]).0, Some(0));
    for (arguments, says) in [
        (&["schedules", "show", "xmas"][..], "no schedule has the id 'xmas'"),
        (&["schedules", "create", "noop-once", "--every", "soon"], "1h30m"),
        (&["schedules", "create", "noop-once"], "no times"),
        (&["schedules", "create", "echo", "--every", "1h"], "no user present"),
    ] {
        let (code, _, error) = cli(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
}
