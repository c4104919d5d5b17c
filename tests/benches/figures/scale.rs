//! What stays as it is when there is much of something: open executions, finished ones, events in a history.

use std::{
    fs,
    time::{Duration, Instant},
};

use airlock_tests::{Daemon, guest};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{Figures, connection::Connection, median, memory_mb};

/// Milliseconds of a step of a sequence of 1,000.
fn step_ms(daemon: &Daemon) -> f64 {
    let mut connection = Connection::open(daemon);
    let sequence = json!({ "steps": 1_000 });
    for _ in 0..3 {
        connection.execute("sequence", &sequence);
    }
    median((0..7).map(|_| connection.execute("sequence", &sequence).as_secs_f64()).collect())
}

/// Milliseconds of processor time that a process has used.
fn cpu_ms(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    // The name in brackets may hold spaces.
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let ticks: f64 =
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum();
    // A tick is a hundredth of a second wherever Linux tells it to programs.
    ticks * 10.0
}

fn sleepers(daemon: &Daemon, count: usize) -> Duration {
    // Beyond the end of the benchmark, within the limit of an execution.
    let body = json!({ "input": { "ms": 3_000_000 } });
    Connection::flood(daemon, "/v1/workflows/sleeper/execute", &body, count)
}

fn restart_ms(runtime: &Runtime, daemon: &mut Daemon) -> f64 {
    daemon.kill();
    let start = Instant::now();
    runtime.block_on(daemon.restart());
    runtime.block_on(daemon.client.execute("noop-once", json!({})));
    start.elapsed().as_secs_f64() * 1e3
}

fn open_executions(runtime: &Runtime, daemon: &Daemon) -> u64 {
    let status = runtime.block_on(daemon.client.get("/v1/airlock/status"));
    status["executions"]["open"].as_u64().expect("a number")
}

/// 10,000 and 100,000 executions that sleep: what they cost, what a step of another one costs beside them, and how long a
/// restart takes with them, until it has done a whole execution.
pub(crate) fn open(runtime: &Runtime, figures: &mut Figures) {
    let mut daemon = runtime.block_on(Daemon::with(&[guest("bench")]));
    figures.insert("step_with_0_open_ms", step_ms(&daemon));

    sleepers(&daemon, 10_000);
    figures.insert("step_with_10000_open_ms", step_ms(&daemon));
    figures
        .insert("restart_10000_open_ms", median((0..3).map(|_| restart_ms(runtime, &mut daemon)).collect()));

    let took = sleepers(&daemon, 90_000);
    figures.insert("starts_per_s", 90_000.0 / took.as_secs_f64());
    assert_eq!(open_executions(runtime, &daemon), 100_000);
    figures.insert("sleeping_100000_rss_mb", memory_mb(daemon.id()));
    let before = cpu_ms(daemon.id());
    std::thread::sleep(Duration::from_secs(10));
    figures.insert("sleeping_100000_cpu_ms_in_10_s", cpu_ms(daemon.id()) - before);
    figures.insert("step_with_100000_open_ms", step_ms(&daemon));
    figures.insert("restart_100000_open_ms", restart_ms(runtime, &mut daemon));
}

/// What a step costs with 100,000 finished executions in the store.
pub(crate) fn finished(runtime: &Runtime, figures: &mut Figures) {
    let daemon = runtime.block_on(Daemon::with(&[guest("bench")]));
    figures.insert("step_with_0_finished_ms", step_ms(&daemon));
    let body = json!({ "input": {}, "wait_for_result": true });
    Connection::flood(&daemon, "/v1/workflows/noop-once/execute", &body, 100_000);
    assert_eq!(open_executions(runtime, &daemon), 0);
    figures.insert("step_with_100000_finished_ms", step_ms(&daemon));
}

/// The times of the events with these numbers or just after, in milliseconds.
fn times(history: &Value, events: &[u64]) -> Vec<f64> {
    let records = history["events"].as_array().expect("records");
    let at = |number: u64| {
        let record = records.iter().find(|record| record["event_id"].as_u64() >= Some(number));
        record.and_then(|record| record["at_ms"].as_f64()).expect("so many events")
    };
    events.iter().map(|number| at(*number)).collect()
}

/// What a step costs late in a long history, and what it takes to build the state of 50,000 events again.
pub(crate) fn history(runtime: &Runtime, figures: &mut Figures) {
    let mut daemon = runtime.block_on(Daemon::with(&[guest("bench"), guest("durable")]));
    let client = daemon.client.clone();
    // A step is two events: 6,000 events from the beginning, from 10,000 and from 40,000 on.
    let windows = [
        ("step_after_0_events_ms", 10),
        ("step_after_10000_events_ms", 10_000),
        ("step_after_40000_events_ms", 40_000),
    ];
    let mut runs: Vec<Vec<f64>> = vec![Vec::new(); windows.len()];
    for _ in 0..5 {
        let history = runtime.block_on(async {
            let id = client.start("sequence", json!({ "steps": 23_500 })).await;
            client.ended(&id, Duration::from_secs(120)).await;
            client.get(&format!("/v1/workflows/executions/{id}/history")).await
        });
        for (runs, (_, first)) in runs.iter_mut().zip(windows) {
            let times = times(&history, &[first, first + 6_000]);
            runs.push((times[1] - times[0]) / 3_000.0);
        }
    }
    for ((name, _), runs) in windows.iter().zip(runs) {
        figures.insert(name, median(runs));
    }

    // An update of `counter` is five events: told, accepted, an activity, its result, answered.
    let id = runtime.block_on(client.start("counter", json!({})));
    let path = format!("/v1/workflows/executions/{id}/updates");
    let mut connection = Connection::open(&daemon);
    for _ in 0..9_980 {
        connection.send_to(&path, &json!({ "name": "slow", "input": { "ms": 0 } }));
        connection.receive();
    }
    let shown = runtime.block_on(client.get(&format!("/v1/workflows/executions/{id}/history")));
    let last = shown["events"].as_array().and_then(|records| records.last()).expect("a record").clone();
    let events = last["event_id"].as_u64().expect("a number");
    assert!(events > 49_890, "the history ends with a record at event {events}");
    let query = json!({ "name": "total", "input": {} });
    let mut runs = Vec::new();
    for _ in 0..3 {
        daemon.kill();
        runtime.block_on(daemon.restart());
        let status = runtime.block_on(client.get("/v1/airlock/status"));
        assert_eq!(status["executions"], json!({ "open": 1, "loaded": 0 }), "it is not in memory");
        let mut connection = Connection::open(&daemon);
        let start = Instant::now();
        connection.send_to(&format!("/v1/workflows/executions/{id}/queries"), &query);
        let answer: Value = serde_json::from_slice(&connection.receive()).expect("JSON");
        assert_eq!(answer["result"], 0, "{answer}");
        runs.push(start.elapsed().as_secs_f64() * 1e3);
    }
    figures.insert("replay_50000_events_ms", median(runs));
}

/// Many things at once from one workflow.
pub(crate) fn fan(runtime: &Runtime, figures: &mut Figures) {
    let daemon = runtime.block_on(Daemon::with(&[guest("durable")]));
    let mut connection = Connection::open(&daemon);
    let mut measure = |workflow: &str, count: usize| {
        let input = json!({ "children": count, "at_once": count });
        median((0..3).map(|_| connection.execute(workflow, &input).as_secs_f64() * 1e3).collect())
    };
    let activities = measure("steps", 10_000);
    figures.insert("fan_10000_activities_ms", activities);
    let children = measure("squares", 2_000);
    figures.insert("fan_2000_children_ms", children);
}

/// 10,000 children at once whose root is followed: until all is told, and what that costs beside the same without anybody.
pub(crate) fn follow(runtime: &Runtime, figures: &mut Figures) {
    let daemon = runtime.block_on(Daemon::with(&[guest("durable")]));
    let client = &daemon.client;
    let input = json!({ "children": 10_000, "at_once": 10_000 });
    let measure = |is_followed: bool| {
        let (before, start) = (cpu_ms(daemon.id()), Instant::now());
        runtime.block_on(async {
            if is_followed {
                let id = client.start("squares", input.clone()).await;
                let path = format!("/v1/workflows/events/stream?root_workflow_exec_id={id}");
                let told = client.get_text(&path).await.matches("\nid: ").count() + 1;
                assert!(told > 60_000, "a start, a step and an end of each child: {told} events");
            } else {
                client.execute("squares", input.clone()).await;
            }
        });
        (start.elapsed().as_secs_f64() * 1e3, cpu_ms(daemon.id()) - before)
    };
    // By turns, so that both meet a store of the same size.
    let (mut alone, mut followed) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        alone.push(measure(false));
        followed.push(measure(true));
    }
    let middle = |runs: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| median(runs.iter().map(of).collect());
    let (cpu_alone, cpu_followed) = (middle(&alone, |run| run.1), middle(&followed, |run| run.1));
    figures.insert("children_10000_ms", middle(&alone, |run| run.0));
    figures.insert("children_10000_followed_ms", middle(&followed, |run| run.0));
    figures.insert("children_10000_followed_cpu_ratio", cpu_followed / cpu_alone);
}
