//! The process dies; nothing is lost.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use airlock_tests::{Daemon, LIMIT, eventually, guest};
use futures::future::join_all;
use serde_json::{Value, json};

/// How many activities an execution of a kind has to record.
fn input_of(number: usize) -> (&'static str, Value, usize) {
    match number % 4 {
        0 => ("sequence", json!({ "steps": 40 }), 40),
        1 => ("fan", json!({ "n": 30 }), 30),
        2 => ("sleeper", json!({ "ms": 500 + 20 * number }), 0),
        _ => ("sequence", json!({ "steps": 15 }), 15),
    }
}

/// Every activity started once and completed once, and one end.
fn check_history(id: &str, events: &[Value], steps: usize) {
    let of_type =
        |wanted: &str| events.iter().filter(|event| event["event_type"] == wanted).collect::<Vec<_>>();
    for kind in ["ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_COMPLETED"] {
        let tasks: Vec<_> =
            of_type(kind).iter().map(|event| event["attributes"]["task_id"].to_string()).collect();
        assert_eq!(tasks.len(), steps, "{id}: {kind}");
        assert_eq!(tasks.iter().collect::<HashSet<_>>().len(), steps, "{id}: {kind} names a step twice");
    }
    assert_eq!(of_type("WORKFLOW_EXECUTION_STARTED").len(), 1, "{id}");
    assert_eq!(of_type("WORKFLOW_EXECUTION_COMPLETED").len(), 1, "{id}");
}

#[tokio::test]
async fn killed_ten_times_with_200_executions_in_flight_all_finish_with_every_step_recorded_once() {
    let mut daemon = Daemon::with(&[guest("bench")]).await;
    let mut acknowledged: HashMap<String, usize> = HashMap::new();
    // A small linear congruential generator: the moments differ from kill to kill and are printed.
    let mut random = std::process::id();
    for round in 0..10 {
        let starts = (0..20).map(|i| {
            let (client, (workflow, input, steps)) = (daemon.client.clone(), input_of(20 * round + i));
            async move { (client.start(workflow, input).await, steps) }
        });
        acknowledged.extend(join_all(starts).await);
        random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let moment = Duration::from_millis(u64::from(random >> 16) % 120);
        tokio::time::sleep(moment).await;
        println!("kill {round} after {moment:?}");
        daemon.kill();
        daemon.restart().await;
    }
    assert_eq!(acknowledged.len(), 200);
    let ended = join_all(acknowledged.keys().map(|id| daemon.client.ended(id, LIMIT))).await;
    for execution in ended {
        assert_eq!(execution["status"], "COMPLETED", "{execution}");
    }
    for (id, steps) in &acknowledged {
        check_history(id, &daemon.client.events(id).await, *steps);
    }
    let status = daemon.client.get("/v1/airlock/status").await;
    assert_eq!(status["executions"]["open"], 0, "{status}");
}

#[tokio::test]
async fn an_acknowledged_start_survives_a_kill_at_once() {
    let mut daemon = Daemon::with(&[guest("bench")]).await;
    for _ in 0..5 {
        let id = daemon.client.start("sequence", json!({ "steps": 3 })).await;
        daemon.kill();
        daemon.restart().await;
        let execution = daemon.client.ended(&id, LIMIT).await;
        assert_eq!(execution["status"], "COMPLETED");
    }
}

#[tokio::test]
async fn a_timer_neither_fires_early_nor_is_lost_when_the_daemon_is_down_at_its_time() {
    let mut daemon = Daemon::with(&[guest("bench")]).await;
    let start = Instant::now();
    let short = daemon.client.start("sleeper", json!({ "ms": 100 })).await;
    let long = daemon.client.start("sleeper", json!({ "ms": 2_500 })).await;
    daemon.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    daemon.restart().await;
    assert_eq!(daemon.client.ended(&short, LIMIT).await["status"], "COMPLETED");
    assert_eq!(daemon.client.ended(&long, LIMIT).await["status"], "COMPLETED");
    assert!(start.elapsed() >= Duration::from_millis(2_500), "it fired after {:?}", start.elapsed());
}

#[tokio::test]
async fn sigterm_stops_the_daemon_in_order_and_work_goes_on_afterwards() {
    let mut daemon = Daemon::with(&[guest("bench")]).await;
    let ids = join_all((0..20).map(|_| daemon.client.start("sequence", json!({ "steps": 200 })))).await;
    let status = daemon.stop().await;
    assert!(status.success(), "{status}\n{}", daemon.setup.log());
    daemon.restart().await;
    for id in &ids {
        let execution = daemon.client.ended(id, LIMIT).await;
        assert_eq!(execution["status"], "COMPLETED");
        check_history(id, &daemon.client.events(id).await, 200);
    }
}

#[tokio::test]
async fn a_client_that_waits_gets_its_result_although_the_instance_was_dropped_meanwhile() {
    let daemon = Daemon::with(&[guest("bench")]).await;
    let waits = (0..600).map(|i| {
        let client = daemon.client.clone();
        async move { client.execute("sleeper", json!({ "ms": 200 + i })).await }
    });
    join_all(waits).await;
    let quiet = eventually(LIMIT, "nothing is left in memory", async || {
        let status = daemon.client.get("/v1/airlock/status").await;
        (status["executions"]["open"] == 0).then_some(status)
    })
    .await;
    assert_eq!(quiet["executions"]["loaded"], 0, "{quiet}");
}
