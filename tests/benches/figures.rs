//! The figures of DESIGN's table, beside a baseline of the same run. Prints them and writes `target/bench.json`.
//!
//! The daemon is the real binary and is spoken to over HTTP by a plain keep-alive client; `activity_call_us` and
//! `replay_events_per_s` are measured on the sandbox itself. No figure is asserted: a machine is what it is.
//!
//! `cargo bench -p airlock-tests --profile release -- history fan` (or `AIRLOCK_BENCH=history,fan`) measures only these
//! parts: `basic`, `sandbox`, `open`, `finished`, `history`, `fan`, `follow`. The others keep their values in `target/bench.json`.

#[path = "figures/connection.rs"]
mod connection;
#[path = "figures/results.rs"]
mod results;
#[path = "figures/scale.rs"]
mod scale;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use airlock_engine::{
    ExecutionId, Failure, Json, RunId,
    guests::{Activation, ActivityCall, ActivityHost, Guests, WorkflowInit, WorkflowInstance},
    history::{Command, HistorySize, Job, TaskEvent},
    tools::CallOptions,
};
use airlock_sandbox::{Sandbox, SandboxConfig};
use airlock_tests::{Daemon, Setup, guest};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use self::connection::Connection;

/// Figures by name.
type Figures = BTreeMap<&'static str, f64>;

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

/// One-row commits to the same disk, with the settings of the store.
fn sqlite_commits_per_s(folder: &Path) -> f64 {
    let database = rusqlite::Connection::open(folder.join("baseline.db")).expect("opens");
    database.pragma_update(None, "journal_mode", "WAL").expect("is set");
    database.pragma_update(None, "synchronous", "FULL").expect("is set");
    database.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB NOT NULL)").expect("a table");
    let mut insert = database.prepare("INSERT INTO t (body) VALUES (?1)").expect("prepares");
    let body = [7u8; 120];
    let measure = |insert: &mut rusqlite::Statement<'_>| {
        let start = Instant::now();
        for _ in 0..2_000 {
            insert.execute([&body[..]]).expect("inserts");
        }
        2_000.0 / start.elapsed().as_secs_f64()
    };
    measure(&mut insert);
    median((0..3).map(|_| measure(&mut insert)).collect())
}

fn memory_mb(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a figure");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("a number") / 1024.0
}

fn database_bytes(daemon: &Daemon) -> f64 {
    let path = daemon.setup.data().join("airlock.db");
    let database = rusqlite::Connection::open(&path).expect("opens");
    let pages: i64 = database.pragma_query_value(None, "page_count", |row| row.get(0)).expect("a figure");
    let size: i64 = database.pragma_query_value(None, "page_size", |row| row.get(0)).expect("a figure");
    (pages * size) as f64
}

/// Ten plugins under names of their own, made from one.
fn ten_plugins(folder: &Path) {
    let hello = fs::read(guest("hello")).expect("reads");
    for number in 0..10u8 {
        let mut copy = hello.clone();
        for at in 0..copy.len() - 5 {
            if &copy[at..at + 5] == b"hello" {
                copy[at + 4] = b'0' + number;
            }
        }
        fs::write(folder.join(format!("hello{number}.wasm")), copy).expect("writes");
    }
}

/// A host that an activity which does nothing never asks.
struct NoHost;

#[async_trait]
impl ActivityHost for NoHost {
    async fn call_tool(&self, _: &str, _: &str, _: Json, _: CallOptions) -> Result<Json, Failure> {
        Ok(Json::null())
    }
    async fn list_tools(&self, _: &str) -> Result<Json, Failure> {
        Ok(Json::null())
    }
    async fn await_auth(&self, _: &str) -> Result<Json, Failure> {
        Ok(Json::null())
    }
    fn emit_event(&self, _: TaskEvent) -> Result<(), Failure> {
        Ok(())
    }
    fn heartbeat(&self, _: Option<Json>) {}
    fn is_cancelled(&self) -> bool {
        false
    }
    async fn cancelled(&self) {
        std::future::pending().await
    }
}

/// The sandbox without the engine: µs for an activity (instantiate and call), events a second in a replay.
async fn sandbox_figures() -> (f64, f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).expect("a folder");
    fs::copy(guest("bench"), plugins.join("bench.wasm")).expect("copies");
    let sandbox =
        Sandbox::open(SandboxConfig::new(&plugins, folder.path().join("data"))).await.expect("opens");
    sandbox.settled(Duration::MAX).await;
    let digest = sandbox.serving("sequence").expect("the bench guest is served");
    let execution_id = ExecutionId::generate();

    let call = ActivityCall {
        activity: "noop".into(),
        input: Json::null(),
        execution_id: execution_id.clone(),
        workflow: "noop-once".into(),
        holder: "user".into(),
        idempotency_key: "bench".into(),
        attempt: 1,
        heartbeat_details: None,
    };
    let host: Arc<dyn ActivityHost> = Arc::new(NoHost);
    let mut runs = Vec::new();
    for _ in 0..6 {
        let start = Instant::now();
        for _ in 0..5_000 {
            sandbox.run_activity(&digest, call.clone(), Arc::clone(&host)).await.expect("the activity runs");
        }
        runs.push(start.elapsed().as_secs_f64() * 1e6 / 5_000.0);
    }
    let activity_call_us = median(runs.split_off(1));

    let steps = 20_000;
    let init = WorkflowInit {
        workflow: "sequence".into(),
        execution_id,
        run_id: RunId::generate(),
        input: Json::from(json!({ "steps": steps })),
        holder: "user".into(),
        seed: 7,
        started_at_ms: 1_000,
        parent: None,
        attempt: 1,
    };
    let mut first = sandbox.create(&digest, init.clone()).await.expect("an instance");
    let (mut jobs, mut history) = (vec![Job::Started], Vec::new());
    loop {
        let commands = activate(&mut *first, &jobs, false).await;
        let seq = match commands.first() {
            Some(Command::ScheduleActivity { seq, .. }) => *seq,
            _ => break,
        };
        history.push((jobs, commands));
        jobs = vec![Job::ActivityResolved { seq, outcome: Ok(Json::null()) }];
    }
    let mut second = sandbox.create(&digest, init).await.expect("an instance");
    let start = Instant::now();
    for (jobs, commands) in &history {
        assert_eq!(&activate(&mut *second, jobs, true).await, commands, "a replay equals the first run");
    }
    let events: usize = history.iter().map(|(jobs, commands)| jobs.len() + commands.len()).sum();
    (activity_call_us, events as f64 / start.elapsed().as_secs_f64())
}

async fn activate(instance: &mut dyn WorkflowInstance, jobs: &[Job], replaying: bool) -> Vec<Command> {
    let activation =
        Activation { now_ms: 1_000, replaying, jobs, patches: &[], history: HistorySize::default() };
    instance.activate(activation).await.expect("the workflow answers")
}

/// One step, sequences, many at once, memory, disk, the start of a daemon.
fn basic(runtime: &tokio::runtime::Runtime, figures: &mut Figures) {
    let daemon = runtime.block_on(Daemon::with(&[guest("bench")]));
    let baseline = sqlite_commits_per_s(daemon.setup.folder.path());
    figures.insert("sqlite_commits_per_s", baseline);

    let mut connection = Connection::open(&daemon);
    let nothing = json!({});
    for _ in 0..200 {
        connection.execute("noop-once", &nothing);
    }
    let mut latencies: Vec<_> = (0..2_000).map(|_| connection.execute("noop-once", &nothing)).collect();
    latencies.sort();
    figures.insert("one_step_p50_ms", percentile(&latencies, 50));
    figures.insert("one_step_p99_ms", percentile(&latencies, 99));

    // What others publish: a workflow of three steps, from its start to its end, and many of them.
    let three = json!({ "steps": 3 });
    let mut latencies: Vec<_> = (0..2_000).map(|_| connection.execute("sequence", &three)).collect();
    latencies.sort();
    figures.insert("three_steps_p50_ms", percentile(&latencies, 50));
    figures.insert("three_steps_p95_ms", percentile(&latencies, 95));
    let mut connections: Vec<_> = (0..200).map(|_| Connection::open(&daemon)).collect();
    let mut runs = Vec::new();
    for _ in 0..11 {
        let start = Instant::now();
        for connection in &mut connections {
            connection.send("sequence", &three);
        }
        for connection in &mut connections {
            connection.receive();
        }
        runs.push(200.0 / start.elapsed().as_secs_f64());
    }
    drop(connections);
    figures.insert("batch_200_executions_per_s", median(runs));

    let sequence = json!({ "steps": 1_000 });
    let runs = (0..5).map(|_| 1_000.0 / connection.execute("sequence", &sequence).as_secs_f64()).collect();
    figures.insert("sequential_steps_per_s", median(runs));

    let before = database_bytes(&daemon);
    let mut connections: Vec<_> = (0..50).map(|_| Connection::open(&daemon)).collect();
    let short = json!({ "steps": 20 });
    let rounds = 11;
    let mut runs = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        for connection in &mut connections {
            connection.send("sequence", &short);
        }
        for connection in &mut connections {
            connection.receive();
        }
        runs.push(1_000.0 / start.elapsed().as_secs_f64());
    }
    figures.insert("concurrent_steps_per_s", median(runs));
    let grown = database_bytes(&daemon) - before;
    figures.insert("disk_bytes_per_step", grown / f64::from(rounds * 1_000));
    figures.insert("rss_mb", memory_mb(daemon.id()));
    drop(daemon);

    let setup = Setup::new(&[]);
    ten_plugins(&setup.plugins());
    let mut daemon = runtime.block_on(setup.start());
    let served = runtime.block_on(daemon.client.get("/v1/airlock/plugins"));
    let ready =
        served["plugins"].as_array().expect("plugins").iter().filter(|plugin| plugin["state"] == "ready");
    assert_eq!(ready.count(), 10, "{served}");
    let mut runs = Vec::new();
    for _ in 0..5 {
        runtime.block_on(daemon.stop());
        let start = Instant::now();
        runtime.block_on(daemon.restart());
        runs.push(start.elapsed().as_secs_f64() * 1e3);
    }
    figures.insert("startup_ms", median(runs));
}

fn sandbox(runtime: &tokio::runtime::Runtime, figures: &mut Figures) {
    let (activity_call_us, replay_events_per_s) = runtime.block_on(sandbox_figures());
    figures.insert("activity_call_us", activity_call_us);
    figures.insert("replay_events_per_s", replay_events_per_s);
}

type Part = fn(&tokio::runtime::Runtime, &mut Figures);

const PARTS: &[(&str, Part)] = &[
    ("basic", basic),
    ("sandbox", sandbox),
    ("open", scale::open),
    ("finished", scale::finished),
    ("history", scale::history),
    ("fan", scale::fan),
    ("follow", scale::follow),
];

const GOALS: &[(&str, &str)] = &[
    ("one_step_p50_ms", "≤ 0.7"),
    ("one_step_p99_ms", "≤ 3"),
    ("three_steps_p50_ms", ""),
    ("three_steps_p95_ms", ""),
    ("batch_200_executions_per_s", ""),
    ("sequential_steps_per_s", "≥ 0.7 × sqlite_commits_per_s"),
    ("concurrent_steps_per_s", "≥ 5 × sqlite_commits_per_s"),
    ("sqlite_commits_per_s", "the baseline of this run"),
    ("disk_bytes_per_step", "≤ 500"),
    ("activity_call_us", ""),
    ("replay_events_per_s", ""),
    ("rss_mb", "≤ 100"),
    ("startup_ms", ""),
    ("starts_per_s", ""),
    ("restart_10000_open_ms", "≤ 3,000"),
    ("restart_100000_open_ms", ""),
    ("sleeping_100000_rss_mb", "≤ 200"),
    ("sleeping_100000_cpu_ms_in_10_s", ""),
    ("step_with_0_open_ms", ""),
    ("step_with_10000_open_ms", "as before"),
    ("step_with_100000_open_ms", "as before"),
    ("step_with_0_finished_ms", ""),
    ("step_with_100000_finished_ms", "as before"),
    ("step_after_0_events_ms", ""),
    ("step_after_10000_events_ms", "as before"),
    ("step_after_40000_events_ms", "as before"),
    ("replay_50000_events_ms", "≤ 1,000"),
    ("fan_10000_activities_ms", "≤ 2,000"),
    ("fan_2000_children_ms", ""),
    ("children_10000_ms", ""),
    ("children_10000_followed_ms", ""),
    ("children_10000_followed_cpu_ratio", ""),
];

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("tokio");
    // Cargo itself says `--bench`.
    let mut wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let variable = std::env::var("AIRLOCK_BENCH").unwrap_or_default();
    wanted.extend(variable.split(',').filter(|word| !word.is_empty()).map(str::to_owned));
    for name in &wanted {
        assert!(PARTS.iter().any(|(part, _)| part == name), "there is no part '{name}'");
    }
    let mut figures = Figures::new();
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            let start = Instant::now();
            part(&runtime, &mut figures);
            eprintln!("{name} took {:.0?}", start.elapsed());
        }
    }

    let baseline = figures.get("sqlite_commits_per_s").copied();
    for (name, goal) in GOALS {
        let Some(value) = figures.get(name) else { continue };
        let ratio = match baseline {
            Some(baseline) if name.ends_with("_steps_per_s") || name.ends_with("_executions_per_s") => {
                format!("{:.2} × the baseline", value / baseline)
            }
            _ => String::new(),
        };
        println!("{name:<32} {value:>12.3}   {goal:<30} {ratio}");
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average at the end: {}", load.trim());
    let file = airlock_tests::root().join("target/bench.json");
    let before = fs::read_to_string(&file).ok().filter(|_| !wanted.is_empty());
    let mut all: Map<String, Value> =
        before.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    all.extend(figures.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    fs::write(&file, format!("{}\n", Value::from(all))).expect("target/bench.json can be written");
    println!("written to target/bench.json");
    results::keep(airlock_tests::root(), &figures);
}
