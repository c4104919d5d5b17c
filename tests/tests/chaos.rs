//! The world around the daemon goes wrong while it works: it is stopped, killed, has no room, the wrong time, no access to
//! its own database, and plugins that panic. What was acknowledged has one end, and every step is recorded once.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use airlock_tests::{Client, Clock, Daemon, LIMIT, Setup, binary, eventually, guest, run};
use futures::{
    future::{join_all, ready},
    stream::{self, StreamExt as _},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::RwLock;

/// Tests with a limit on time want the machine for themselves; the others share it.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// Requests that are under way at once.
const AT_ONCE: usize = 64;

/// What histories hold.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Audit {
    /// Runs, with those of children and those that were continued.
    runs: usize,
    /// Activities, tool calls and children that are recorded as done, whatever came of them.
    steps: usize,
    /// Ends of runs.
    ends: usize,
}

/// Reads the histories of executions and of all their children. Every run began once and has one end, every step began
/// once and was done once at most, and time did not go back.
async fn audit(client: &Client, executions: &[String]) -> Audit {
    let histories = stream::iter(executions.iter().map(|id| client.events(id))).buffer_unordered(8);
    histories
        .fold(Audit::default(), |mut sum, events| {
            let mut runs: HashMap<String, Vec<Value>> = HashMap::new();
            for event in events {
                let run = event["workflow_run_id"].as_str().expect("a run").to_owned();
                runs.entry(run).or_default().push(event);
            }
            for (run, events) in runs {
                let (steps, ends) = audit_run(&run, &events);
                sum = Audit { runs: sum.runs + 1, steps: sum.steps + steps, ends: sum.ends + ends };
            }
            ready(sum)
        })
        .await
}

fn audit_run(run: &str, events: &[Value]) -> (usize, usize) {
    let (mut begun, mut done, mut starts, mut ends, mut last) = (HashSet::new(), HashSet::new(), 0, 0, 0);
    for event in events {
        let at = event["event_timestamp"].as_u64().expect("a time");
        assert!(at >= last, "{run}: time goes back at {event}");
        last = at;
        let task = event["attributes"]["task_id"].as_str().unwrap_or_default().to_owned();
        match event["event_type"].as_str().expect("a type") {
            "ACTIVITY_TASK_STARTED" => assert!(begun.insert(task), "{run}: begun twice: {event}"),
            "ACTIVITY_TASK_COMPLETED" | "ACTIVITY_TASK_FAILED" => {
                assert!(begun.contains(&task), "{run}: done before it began: {event}");
                assert!(done.insert(task), "{run}: done twice: {event}");
            }
            "WORKFLOW_EXECUTION_STARTED" => starts += 1,
            "WORKFLOW_EXECUTION_COMPLETED"
            | "WORKFLOW_EXECUTION_FAILED"
            | "WORKFLOW_EXECUTION_CANCELED"
            | "WORKFLOW_EXECUTION_CONTINUED_AS_NEW" => ends += 1,
            _ => {}
        }
    }
    assert_eq!(starts, 1, "{run} began {starts} times");
    assert!(ends <= 1, "{run} has {ends} ends");
    (done.len(), ends)
}

/// Starts so many executions; `what` gives workflow and the body of the request.
async fn start_many(
    client: &Client,
    count: usize,
    what: impl Fn(usize) -> (&'static str, Value),
) -> Vec<String> {
    let start = |number| {
        let (workflow, body) = what(number);
        async move {
            let answer = client.post(&format!("/v1/workflows/{workflow}/execute"), &body).await;
            answer["execution_id"].as_str().expect("an id").to_owned()
        }
    };
    stream::iter((0..count).map(start)).buffer_unordered(AT_ONCE).collect().await
}

/// Waits for the ends of executions, all of which must be of this status.
async fn all_end(client: &Client, ids: &[String], status: &str) -> Vec<Value> {
    let ended = stream::iter(ids.iter().map(|id| client.ended(id, LIMIT))).buffer_unordered(AT_ONCE);
    let ended: Vec<Value> = ended.collect().await;
    for execution in &ended {
        assert_eq!(execution["status"], status, "{execution}");
    }
    ended
}

async fn send(client: &Client, id: &str, what: &str, body: &Value) -> (StatusCode, Value) {
    client.call(Method::POST, &format!("/v1/workflows/executions/{id}/{what}"), Some(body)).await
}

/// Sends a request again and again until a daemon is there and takes it.
async fn insist(client: &Client, path: &str, body: &Value) {
    let begin = Instant::now();
    loop {
        match client.try_call(Method::POST, path, Some(body)).await {
            Ok((status, _)) if status.is_success() => return,
            Ok((status, answer)) => assert!(status.is_server_error(), "{path}: {status} {answer}"),
            // There is no daemon just now, or it died over the answer.
            Err(_) => {}
        }
        assert!(begin.elapsed() < LIMIT, "nobody takes {path}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn open(client: &Client) -> u64 {
    client.get("/v1/airlock/status").await["executions"]["open"].as_u64().expect("a number")
}

async fn running_activities(client: &Client) -> u64 {
    client.get("/v1/airlock/status").await["sandbox"]["running_activities"].as_u64().expect("a number")
}

/// Sends a signal of the system to the daemon.
fn tell(daemon: &Daemon, signal: &str) {
    let sent = run(Path::new("kill"), &[signal, &daemon.id().to_string()], &[], "");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
}

/// When timers fired, in milliseconds after the start of the run, and the times of all records.
async fn fired(client: &Client, id: &str) -> (Vec<u64>, Vec<u64>) {
    let history = client.get(&format!("/v1/workflows/executions/{id}/history")).await;
    let records = history["events"].as_array().expect("records");
    let times: Vec<u64> = records.iter().map(|record| record["at_ms"].as_u64().expect("a time")).collect();
    let fired = records.iter().zip(&times).filter(|(record, _)| record.to_string().contains("TimerFired"));
    (fired.map(|(_, at)| at - times[0]).collect(), times)
}

/// Every timer fired once, and not before its time.
async fn fired_once_and_not_early(client: &Client, timers: &[(String, u64)]) {
    for (id, ms) in timers {
        let (fired, _) = fired(client, id).await;
        assert_eq!(fired.len(), 1, "{id}");
        assert!(fired[0] >= *ms, "{id} fired {} ms after its start and not {ms}", fired[0]);
    }
}

#[tokio::test]
async fn a_daemon_that_is_stopped_for_longer_than_every_limit_ends_what_is_late_and_fires_timers_once() {
    let _shared = MACHINE.read().await;
    let daemon = Daemon::with(&[guest("bench"), guest("durable")]).await;
    let client = &daemon.client;
    let mut timers = Vec::new();
    for ms in [400, 1_500, 3_000, 6_000] {
        let ids = start_many(client, 20, |_| ("sleeper", json!({ "input": { "ms": ms } }))).await;
        timers.extend(ids.into_iter().map(|id| (id, ms)));
    }
    let steps = start_many(client, 20, |_| ("sequence", json!({ "input": { "steps": 500 } }))).await;
    let bounded =
        start_many(client, 10, |_| ("counter", json!({ "input": {}, "execution_timeout_seconds": 1.5 })))
            .await;
    let patients = start_many(client, 10, |_| ("patient", json!({ "input": {} }))).await;
    eventually(LIMIT, "the activities run", async || (running_activities(client).await >= 10).then_some(()))
        .await;
    let limits = ["start-to-close", "schedule-to-close", "heartbeat"];
    let late = join_all(
        limits
            .iter()
            .cycle()
            .take(30)
            .map(|limit| async { (client.start("late", json!({ "limit": *limit })).await, *limit) }),
    )
    .await;

    tell(&daemon, "-STOP");
    let stopped = Duration::from_millis(3_500);
    tokio::time::sleep(stopped).await;
    tell(&daemon, "-CONT");
    let again = Instant::now();

    for (id, limit) in &late {
        assert_eq!(client.ended(id, LIMIT).await["result"]["result"], *limit);
    }
    all_end(client, &bounded, "TIMED_OUT").await;
    let due: Vec<_> = timers.iter().filter(|(_, ms)| *ms < 6_000).map(|(id, _)| id.clone()).collect();
    all_end(client, &due, "COMPLETED").await;
    let caught_up = again.elapsed();
    let all: Vec<_> = timers.iter().map(|(id, _)| id.clone()).collect();
    all_end(client, &all, "COMPLETED").await;
    fired_once_and_not_early(client, &timers).await;
    all_end(client, &steps, "COMPLETED").await;
    assert_eq!(audit(client, &steps).await, Audit { runs: 20, steps: 10_000, ends: 20 });

    // Their heartbeats were not heard for longer than allowed; whether that is noticed before they beat again or not, they
    // are not lost: another attempt runs.
    let retried = join_all(patients.iter().map(|id| client.event_types(id))).await;
    let retried = retried.iter().flatten().filter(|kind| *kind == "ACTIVITY_TASK_RETRYING").count();
    eventually(LIMIT, "the activities run", async || (running_activities(client).await == 10).then_some(()))
        .await;
    for id in &patients {
        assert_eq!(send(client, id, "cancel", &json!({})).await.0, StatusCode::NO_CONTENT);
    }
    all_end(client, &patients, "CANCELED").await;
    assert_eq!(open(client).await, 0);
    eventually(LIMIT, "no activity runs", async || (running_activities(client).await == 0).then_some(()))
        .await;
    println!(
        "stopped for {stopped:?}: 80 timers fired once, 30 limits held, 10 timed out, 10,000 steps once, caught up after \
         {caught_up:?}, {retried} of 10 heartbeats were missed"
    );
}

#[tokio::test]
async fn a_disk_that_fills_up_under_way_refuses_starts_and_what_runs_goes_on_when_there_is_room() {
    let _shared = MACHINE.read().await;
    let mut setup = Setup::new(&[guest("bench")]);
    fs::create_dir(setup.data()).expect("is made");
    setup.mounts = Some(format!("mount -t tmpfs -o size=64m tmpfs '{}'", setup.data().display()));
    let daemon = setup.start().await;
    let client = &daemon.client;
    let sleepers = start_many(client, 20, |i| ("sleeper", json!({ "input": { "ms": 200 * i } }))).await;
    let steps = start_many(client, 12, |_| ("sequence", json!({ "input": { "steps": 8_000 } }))).await;

    let folder = daemon.inside(&daemon.setup.data());
    let mut filler = fs::File::create(folder.join("filler")).expect("seen from here: this test needs root");
    let mut fill = || {
        for size in [256 << 10, 4 << 10] {
            let chunk = vec![0; size];
            while std::io::Write::write_all(&mut filler, &chunk).is_ok() {}
        }
    };
    // Starts with ids of their own, for five seconds: each is taken or refused, and nothing in between.
    let (mut taken, mut refused, mut number) = (Vec::new(), Vec::new(), 0);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) || refused.len() < 20 {
        assert!(begin.elapsed() < LIMIT, "the full disk is not noticed: {} starts were taken", taken.len());
        fill();
        let id = format!("start-{number}");
        number += 1;
        let body = json!({ "execution_id": id, "input": { "steps": 10 } });
        let (status, answer) = client.call(Method::POST, "/v1/workflows/sequence/execute", Some(&body)).await;
        match status {
            StatusCode::OK => taken.push(id),
            StatusCode::INSUFFICIENT_STORAGE => {
                assert!(answer["detail"].as_str().expect("why").contains("is full"), "{answer}");
                refused.push(id);
            }
            _ => panic!("{status} {answer}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let waiting = open(client).await;
    assert!(waiting > 0, "the disk was to fill up under way");
    fs::remove_file(folder.join("filler")).expect("is removed");
    drop(filler);
    let room = Instant::now();

    all_end(client, &sleepers, "COMPLETED").await;
    all_end(client, &taken, "COMPLETED").await;
    all_end(client, &steps, "COMPLETED").await;
    for id in &refused {
        let (status, _) = client.call(Method::GET, &format!("/v1/workflows/executions/{id}"), None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{id} was refused");
    }
    let all = audit(client, &[steps, taken.clone(), sleepers].concat()).await;
    let runs = 32 + taken.len();
    assert_eq!(all, Audit { runs, steps: 96_000 + 10 * taken.len(), ends: runs });
    assert_eq!(open(client).await, 0);
    println!(
        "full for {:?}: {} starts refused, {} taken, {waiting} executions waited; all over {:?} after there was room; {all:?}",
        room - begin,
        refused.len(),
        taken.len(),
        room.elapsed()
    );
}

const HOUR: i64 = 3_600_000;

#[tokio::test]
async fn a_clock_that_jumps_a_day_ahead_and_an_hour_back_loses_no_timer_and_fires_none_before_its_time() {
    let _shared = MACHINE.read().await;
    let mut setup = Setup::new(&[guest("bench"), guest("durable")]);
    let clock = Clock::new(setup.folder.path().join("clock"));
    setup.environment.extend(clock.environment());
    clock.set(24 * HOUR);
    let right = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later").as_secs();
    assert!(clock.seconds() > right as i64 + 86_000, "the library is not between programs and the clock");
    clock.set(0);
    let mut daemon = setup.start().await;
    let client = daemon.client.clone();
    let sleep = |ms: i64| {
        move |_| ("sleeper", json!({ "input": { "ms": ms }, "execution_timeout_seconds": 30 * 86_400 }))
    };
    let seconds = start_many(&client, 20, sleep(8_000)).await;
    let hours = start_many(&client, 20, sleep(2 * HOUR)).await;
    let days = start_many(&client, 20, sleep(30 * HOUR)).await;
    let counters = start_many(&client, 10, |_| ("counter", json!({ "input": {} }))).await;
    let patients = start_many(&client, 5, |_| {
        ("patient", json!({ "input": {}, "execution_timeout_seconds": 30 * 86_400 }))
    })
    .await;
    let count = async |client: &Client| {
        for id in &counters {
            let (status, answer) =
                send(client, id, "signals", &json!({ "name": "add", "input": { "n": 1 } })).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        }
    };
    count(&client).await;
    let mut working = start_many(&client, 20, |_| {
        ("sequence", json!({ "input": { "steps": 1_000 }, "execution_timeout_seconds": 30 * 86_400 }))
    })
    .await;

    // A day ahead: the host looks at the clock every ten seconds at least.
    clock.set(24 * HOUR);
    let jumped = Instant::now();
    all_end(&client, &seconds, "COMPLETED").await;
    all_end(&client, &hours, "COMPLETED").await;
    let noticed = jumped.elapsed();
    count(&client).await;
    let status = client.get("/v1/workflows/runs?status=RUNNING&page_size=1000").await;
    let running = status["executions"].as_array().expect("a list");
    let runs = |ids: &[String]| {
        ids.iter().filter(|id| running.iter().any(|row| row["execution_id"] == id.as_str())).count()
    };
    assert_eq!((runs(&days), runs(&counters), runs(&patients)), (20, 10, 5));

    // An hour back. What begins now goes by the new time; what had seen a later time waits until it comes again.
    let before = start_many(&client, 20, sleep(20_000)).await;
    let retries = start_many(&client, 20, |_| {
        ("third-time", json!({ "input": {}, "execution_timeout_seconds": 30 * 86_400 }))
    })
    .await;
    working.extend(
        start_many(&client, 20, |_| {
            ("sequence", json!({ "input": { "steps": 1_000 }, "execution_timeout_seconds": 30 * 86_400 }))
        })
        .await,
    );
    clock.set(23 * HOUR);
    let begin = Instant::now();
    let after = start_many(&client, 20, sleep(1_000)).await;
    all_end(&client, &after, "COMPLETED").await;
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(1), "one second took {took:?}");
    count(&client).await;
    all_end(&client, &working, "COMPLETED").await;
    daemon.kill();
    daemon.restart().await;
    let client = daemon.client.clone();
    count(&client).await;
    for id in &before {
        assert_eq!(client.execution(id).await["status"], "RUNNING", "it was due in an hour and some seconds");
    }
    let wait = join_all(retries.iter().map(|id| client.execution(id))).await;
    let wait = wait.iter().filter(|it| it["status"] == "RUNNING").count();

    // The hour comes again, and then the day after.
    clock.set(24 * HOUR);
    all_end(&client, &before, "COMPLETED").await;
    all_end(&client, &retries, "COMPLETED").await;
    for id in &days {
        assert_eq!(client.execution(id).await["status"], "RUNNING");
    }
    clock.set(31 * HOUR);
    all_end(&client, &days, "COMPLETED").await;
    for id in &counters {
        send(&client, id, "signals", &json!({ "name": "done", "input": {} })).await;
    }
    for execution in all_end(&client, &counters, "COMPLETED").await {
        assert_eq!(execution["result"]["result"], 4);
    }
    let beats = join_all(patients.iter().map(|id| client.event_types(id))).await;
    let beats = beats.iter().flatten().filter(|kind| *kind == "ACTIVITY_TASK_RETRYING").count();
    for id in &patients {
        send(&client, id, "cancel", &json!({})).await;
    }
    all_end(&client, &patients, "CANCELED").await;

    let timers =
        [(&seconds, 8_000), (&hours, 2 * HOUR), (&days, 30 * HOUR), (&before, 20_000), (&after, 1_000)];
    let timers: Vec<_> =
        timers.into_iter().flat_map(|(ids, ms)| ids.iter().map(move |id| (id.clone(), ms as u64))).collect();
    fired_once_and_not_early(&client, &timers).await;
    for id in [&counters, &patients, &retries].into_iter().flatten() {
        let (_, times) = fired(&client, id).await;
        assert!(times.is_sorted(), "{id}: {times:?}");
    }
    let sequences = audit(&client, &working).await;
    assert_eq!(sequences, Audit { runs: 40, steps: 40_000, ends: 40 });
    assert_eq!(open(&client).await, 0);
    println!(
        "a day ahead was noticed after {noticed:?}; 100 timers fired once and none early; {wait} of 20 retries waited for the \
         hour to come again; {beats} attempts were given up for their heartbeat; {sequences:?}"
    );
}

#[tokio::test]
async fn a_database_that_is_locked_by_another_process_for_seconds_holds_work_up_and_loses_none() {
    let _shared = MACHINE.read().await;
    let daemon = Daemon::with(&[guest("bench"), guest("durable")]).await;
    let client = &daemon.client;
    let mut ids = start_many(client, 20, |_| ("sequence", json!({ "input": { "steps": 1_500 } }))).await;
    let mut timers: Vec<_> =
        start_many(client, 20, |_| ("sleeper", json!({ "input": { "ms": 1_000 } }))).await;
    let counter = client.start("counter", json!({})).await;

    let other = rusqlite::Connection::open(daemon.setup.data().join("airlock.db")).expect("opens");
    other.busy_timeout(Duration::from_secs(20)).expect("is set");
    other.execute_batch("BEGIN IMMEDIATE").expect("is locked");
    let locked = Instant::now();
    let starts = (0..40).map(|_| client.start("sequence", json!({ "steps": 50 })));
    let signals = (0..40).map(|n| {
        let body = json!({ "name": "add", "input": { "n": 1 }, "signal_id": format!("s{n}") });
        let counter = counter.clone();
        async move { insist(client, &format!("/v1/workflows/executions/{counter}/signals"), &body).await }
    });
    // Reading goes on meanwhile, and the daemon answers.
    let looks = async {
        let (mut slowest, mut looks) = (Duration::ZERO, 0);
        while locked.elapsed() < Duration::from_secs(5) || looks < 5 {
            let begin = Instant::now();
            client.get("/health").await;
            assert_eq!(client.execution(&counter).await["status"], "RUNNING");
            slowest = slowest.max(begin.elapsed());
            looks += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        other.execute_batch("ROLLBACK").expect("is unlocked");
        (slowest, looks, locked.elapsed())
    };
    let (started, _, (slowest, looks, held)) = tokio::join!(join_all(starts), join_all(signals), looks);
    // A daemon that answered nothing until the database is free would have answered when it gives the lock up.
    assert!(held < Duration::from_secs(25), "{looks} answers took {held:?} while the database was locked");
    let unlocked = Instant::now();
    ids.extend(started);
    all_end(client, &ids, "COMPLETED").await;
    all_end(client, &timers, "COMPLETED").await;
    send(client, &counter, "signals", &json!({ "name": "done", "input": {} })).await;
    assert_eq!(client.ended(&counter, LIMIT).await["result"]["result"], 40);
    ids.append(&mut timers);
    let all = audit(client, &ids).await;
    assert_eq!(all, Audit { runs: 80, steps: 32_000, ends: 80 });
    assert_eq!(open(client).await, 0);
    println!(
        "locked for {held:?}: {looks} looks, the slowest {slowest:?}; 40 starts and 40 signals counted once; over {:?} \
         afterwards; {all:?}",
        unlocked.elapsed()
    );
}

#[tokio::test]
async fn a_lock_that_outlasts_the_daemons_patience_has_each_start_taken_or_refused_for_good() {
    let _shared = MACHINE.read().await;
    let daemon = Daemon::with(&[guest("bench")]).await;
    let client = &daemon.client;
    let ids = start_many(client, 10, |_| ("sequence", json!({ "input": { "steps": 2_000 } }))).await;
    let sleepers = start_many(client, 10, |_| ("sleeper", json!({ "input": { "ms": 500 } }))).await;
    let other = rusqlite::Connection::open(daemon.setup.data().join("airlock.db")).expect("opens");
    other.busy_timeout(Duration::from_secs(20)).expect("is set");
    other.execute_batch("BEGIN IMMEDIATE").expect("is locked");
    let locked = Instant::now();
    let starts = (0..10).map(|n| async move {
        let body = json!({ "execution_id": format!("start-{n}"), "input": { "steps": 5 } });
        let (status, answer) = client.call(Method::POST, "/v1/workflows/sequence/execute", Some(&body)).await;
        assert!(status.is_success() || status.is_server_error(), "{status} {answer}");
        (format!("start-{n}"), status)
    });
    let hold = async {
        tokio::time::sleep(Duration::from_secs(33)).await;
        other.execute_batch("ROLLBACK").expect("is unlocked");
    };
    let (starts, ()) = tokio::join!(join_all(starts), hold);
    let answered = locked.elapsed();
    let (taken, refused): (Vec<_>, Vec<_>) = starts.into_iter().partition(|(_, status)| status.is_success());
    for (id, status) in &refused {
        let (found, _) = client.call(Method::GET, &format!("/v1/workflows/executions/{id}"), None).await;
        assert_eq!(found, StatusCode::NOT_FOUND, "{id} was refused with {status}");
    }
    let taken: Vec<_> = taken.into_iter().map(|(id, _)| id).collect();
    all_end(client, &[&ids[..], &sleepers, &taken].concat(), "COMPLETED").await;
    let all = audit(client, &[&ids[..], &sleepers, &taken].concat()).await;
    let runs = 20 + taken.len();
    assert_eq!(all, Audit { runs, steps: 20_000 + 5 * taken.len(), ends: runs });
    assert_eq!(open(client).await, 0);
    println!(
        "locked for 33 s: the last start was answered after {answered:?}, {} refused, {} taken; {all:?}",
        refused.len(),
        taken.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_restores_and_a_daemon_on_it_finishes_what_was_open() {
    let _shared = MACHINE.read().await;
    let plugins = [guest("bench"), guest("durable")];
    let mut daemon = Daemon::with(&plugins).await;
    let client = daemon.client.clone();
    let mut finished = start_many(&client, 100, |_| ("sequence", json!({ "input": { "steps": 200 } }))).await;
    all_end(&client, &finished, "COMPLETED").await;
    let steps = start_many(&client, 30, |_| ("sequence", json!({ "input": { "steps": 4_000 } }))).await;
    let families =
        start_many(&client, 3, |_| ("squares", json!({ "input": { "children": 100, "at_once": 10 } }))).await;
    let counters = start_many(&client, 10, |_| ("counter", json!({ "input": {} }))).await;
    let sleepers = start_many(&client, 30, |_| ("sleeper", json!({ "input": { "ms": 6_000 } }))).await;
    for id in &counters {
        send(&client, id, "signals", &json!({ "name": "add", "input": { "n": 7 } })).await;
    }
    let backup = daemon.setup.folder.path().join("backup");
    let text = |path: &Path| path.to_str().expect("a path").to_owned();
    let (backup_text, data) = (text(&backup), text(&daemon.setup.data()));
    let begin = Instant::now();
    let copy = tokio::task::spawn_blocking(move || {
        run(&binary(), &["--json", "backup", &backup_text, "--data", &data], &[], "")
    });
    // New work comes meanwhile.
    let mut meanwhile = Vec::new();
    while !copy.is_finished() {
        meanwhile.push(client.start("sequence", json!({ "steps": 20 })).await);
    }
    let copy = copy.await.expect("it ran");
    assert!(copy.status.success(), "{}", String::from_utf8_lossy(&copy.stderr));
    let took = begin.elapsed();
    let open_then = open(&client).await;
    // The original goes on undisturbed.
    all_end(&client, &[&steps[..], &families, &sleepers, &meanwhile].concat(), "COMPLETED").await;
    let original = audit(&client, &[&steps[..], &meanwhile].concat()).await;
    let runs = 30 + meanwhile.len();
    assert_eq!(original, Audit { runs, steps: 120_000 + 20 * meanwhile.len(), ends: runs });
    daemon.kill();

    let setup = Setup::new(&plugins).with(&["--allow-loopback"]);
    let (backup_text, data) = (text(&backup), text(&setup.data()));
    let verified = run(&binary(), &["backup", &backup_text, "--verify"], &[], "");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let restored = run(&binary(), &["restore", &backup_text, "--data", &data], &[], "");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    for file in ["master.key", "owner.key"] {
        fs::copy(daemon.setup.data().join(file), setup.data().join(file)).expect("is copied");
    }
    let copy = setup.start().await;
    let client = &copy.client;
    let open_again = open(client).await;
    all_end(client, &[&steps[..], &families, &sleepers].concat(), "COMPLETED").await;
    for id in &counters {
        send(client, id, "signals", &json!({ "name": "done", "input": {} })).await;
    }
    for execution in all_end(client, &counters, "COMPLETED").await {
        assert_eq!(execution["result"]["result"], 7);
    }
    finished.extend(steps);
    finished.extend(sleepers);
    let all = audit(client, &finished).await;
    assert_eq!(all, Audit { runs: 160, steps: 140_000, ends: 160 });
    // The child with the number 13 fails; a child is one step of its parent, and has one of its own.
    let families = audit(client, &families).await;
    assert_eq!(families, Audit { runs: 303, steps: 600, ends: 303 });
    eventually(LIMIT, "what came during the backup ends as well", async || {
        (open(client).await == 0).then_some(())
    })
    .await;
    println!(
        "backup under load took {took:?}, {} starts meanwhile; open then {open_then}, in the copy {open_again}; {all:?} {families:?}",
        meanwhile.len()
    );
}

#[tokio::test]
async fn ten_thousand_open_executions_are_there_again_after_a_restart_and_none_is_waited_for() {
    let _alone = MACHINE.write().await;
    let mut daemon = Daemon::with(&[guest("bench"), guest("durable")]).await;
    let client = daemon.client.clone();
    let sleepers = start_many(&client, 4_800, |_| ("sleeper", json!({ "input": { "ms": 3_000_000 } }))).await;
    let counters = start_many(&client, 4_800, |_| ("counter", json!({ "input": {} }))).await;
    // More than there are places for activities of one workflow: some of them stand in line, and leave room for others.
    let patients = start_many(&client, 300, |_| ("patient", json!({ "input": {} }))).await;
    for id in &counters[..50] {
        send(&client, id, "signals", &json!({ "name": "add", "input": { "n": 2 } })).await;
    }
    eventually(LIMIT, "the activities run", async || {
        (running_activities(&client).await >= 199).then_some(())
    })
    .await;
    let short = start_many(&client, 100, |_| ("sleeper", json!({ "input": { "ms": 4_000 } }))).await;
    assert_eq!(open(&client).await, 10_000);

    daemon.kill();
    let begin = Instant::now();
    daemon.restart().await;
    let health = begin.elapsed();
    let client = daemon.client.clone();
    client.execute("noop-once", json!({})).await;
    let first = begin.elapsed();
    // What makes it quick: the workflows that wait are not built again before they have something to do.
    let status = client.get("/v1/airlock/status").await;
    let built = status["sandbox"]["workflow_instances"].as_u64().expect("a number");
    assert!(built <= 1_000, "{built} of 10,000 executions were built again before there was anything to do");

    let mut there: HashMap<String, String> = HashMap::new();
    let mut token = String::new();
    loop {
        let page = client.get(&format!("/v1/workflows/runs?page_size=1000{token}")).await;
        for row in page["executions"].as_array().expect("a list") {
            let text = |key: &str| row[key].as_str().expect("a text").to_owned();
            there.insert(text("execution_id"), text("status"));
        }
        match page["next_page_token"].as_str() {
            Some(next) => token = format!("&next_page_token={next}"),
            None => break,
        }
    }
    for id in [&sleepers, &counters, &patients].into_iter().flatten() {
        assert_eq!(there.get(id).map(String::as_str), Some("RUNNING"), "{id}");
    }
    let begin = Instant::now();
    for execution in all_end(&client, &short, "COMPLETED").await {
        assert!(execution["total_duration_ms"].as_u64().expect("it has ended") >= 4_000, "{execution}");
    }
    for id in &counters[..100] {
        send(&client, id, "signals", &json!({ "name": "done", "input": {} })).await;
    }
    let totals = all_end(&client, &counters[..100], "COMPLETED").await;
    let total: i64 = totals.iter().map(|it| it["result"]["result"].as_i64().expect("a total")).sum();
    assert_eq!(total, 100);
    // Those that stand in line as well as those that run.
    for id in &patients {
        send(&client, id, "cancel", &json!({})).await;
    }
    all_end(&client, &patients, "CANCELED").await;
    eventually(LIMIT, "no activity runs", async || (running_activities(&client).await == 0).then_some(()))
        .await;
    assert_eq!(open(&client).await, 10_000 - 100 - 100 - 300);
    let sample = [&counters[..100], &short, &patients].concat();
    let all = audit(&client, &sample).await;
    assert_eq!(Audit { steps: 0, ..all }, Audit { runs: 500, steps: 0, ends: 500 });
    println!(
        "10,000 open: health {health:?} and a whole execution {first:?} after the restart; 500 samples ended {:?} later",
        begin.elapsed()
    );
}

#[tokio::test]
async fn a_plugin_that_panics_fails_its_own_execution_or_query_and_nothing_beside_it() {
    let _shared = MACHINE.read().await;
    let mut daemon = Daemon::with(&[guest("bench"), guest("durable")]).await;
    let client = daemon.client.clone();
    let counters = start_many(&client, 10, |_| ("counter", json!({ "input": {} }))).await;
    let steps = start_many(&client, 10, |_| ("sequence", json!({ "input": { "steps": 2_000 } }))).await;
    let more =
        start_many(&client, 10, |_| ("steps", json!({ "input": { "children": 500, "at_once": 20 } }))).await;
    let place = |place: &'static str| move |_| ("panics", json!({ "input": { "place": place } }));
    let mut failed = Vec::new();
    for (phase, says) in [("start", "at the start"), ("after-a-step", "after a step")] {
        let ids = start_many(&client, 20, place(phase)).await;
        for execution in all_end(&client, &ids, "FAILED").await {
            assert_eq!(execution["failure"]["kind"], "Trap", "{execution}");
            let message = execution["failure"]["message"].as_str().expect("a message");
            assert!(message.contains(says), "{phase}: {message}");
        }
        failed.extend(ids);
    }
    let caught = start_many(&client, 20, place("activity")).await;
    for execution in all_end(&client, &caught, "COMPLETED").await {
        assert_eq!(execution["result"]["result"], "Trap", "the workflow is told what became of its activity");
    }
    let updated = start_many(&client, 20, place("update")).await;
    for id in &updated {
        let (status, answer) =
            send(&client, id, "updates", &json!({ "name": "slow", "input": { "ms": 1 } })).await;
        assert!(status.is_client_error(), "{status} {answer}");
    }
    for execution in all_end(&client, &updated, "FAILED").await {
        assert_eq!(execution["failure"]["kind"], "Trap", "{execution}");
        assert!(execution["failure"]["message"].as_str().expect("a message").contains("in the update"));
    }
    failed.extend(updated);
    for round in 0..5 {
        for id in &counters {
            let (status, answer) = send(&client, id, "queries", &json!({ "name": "explode" })).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
            assert!(answer.to_string().contains("as asked"), "{answer}");
            send(&client, id, "signals", &json!({ "name": "add", "input": { "n": round } })).await;
            let (_, answer) = send(&client, id, "queries", &json!({ "name": "total" })).await;
            assert_eq!(answer["result"], (0..=round).sum::<i32>(), "only the query fails");
        }
    }
    all_end(&client, &steps, "COMPLETED").await;
    all_end(&client, &more, "COMPLETED").await;
    // What failed has failed for good, also in the eyes of the next process.
    daemon.kill();
    daemon.restart().await;
    let client = daemon.client.clone();
    all_end(&client, &failed, "FAILED").await;
    for id in &counters {
        send(&client, id, "signals", &json!({ "name": "done" })).await;
    }
    for execution in all_end(&client, &counters, "COMPLETED").await {
        assert_eq!(execution["result"]["result"], 10);
    }
    let beside = audit(&client, &[&steps[..], &more, &counters].concat()).await;
    assert_eq!(beside, Audit { runs: 30, steps: 25_000, ends: 30 });
    let panicked = audit(&client, &[&failed[..], &caught].concat()).await;
    assert_eq!((panicked.runs, panicked.ends), (80, 80));
    // The 20 activities that panicked, and the 20 whose result came in the turn that trapped.
    assert_eq!(panicked.steps, 40, "{panicked:?}");
    assert_eq!(open(&client).await, 0);
    println!("80 panics and 50 in queries; beside them {beside:?}, they themselves {panicked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_amid_children_new_runs_and_signals_the_sums_are_exact() {
    let _shared = MACHINE.read().await;
    let mut daemon = Daemon::with(&[guest("durable")]).await;
    let client = daemon.client.clone();
    let counters = start_many(&client, 4, |_| ("counter", json!({ "input": {} }))).await;
    let senders: Vec<_> = (0..8_usize)
        .map(|sender| {
            let (client, id) = (client.clone(), counters[sender % 4].clone());
            let path = format!("/v1/workflows/executions/{id}/signals");
            tokio::spawn(async move {
                for n in 1..=150 {
                    let signal_id = format!("{sender}-{n}");
                    let body = json!({ "name": "add", "input": { "n": n }, "signal_id": signal_id });
                    insist(&client, &path, &body).await;
                    // Also after it was taken: the answer may have been lost on its way.
                    if n % 10 == 0 {
                        insist(&client, &path, &body).await;
                    }
                }
            })
        })
        .collect();
    // So much else to do that a parent hears late of a child's end.
    let busy = start_many(&client, 20, |_| ("verbose", json!({ "input": { "n": 2_000 } }))).await;
    let (mut squares, mut tickers) = (Vec::new(), Vec::new());
    let mut random = std::process::id();
    let mut kills = 0;
    while kills < 8 || senders.iter().any(|sender| !sender.is_finished()) {
        assert!(kills < 200, "the signals make no progress");
        let client = daemon.client.clone();
        if squares.len() < 6 {
            squares.extend(
                start_many(&client, 1, |_| {
                    ("squares", json!({ "input": { "children": 200, "at_once": 20 } }))
                })
                .await,
            );
            tickers.extend(
                start_many(&client, 3, |_| ("ticker", json!({ "input": { "at": 0, "to": 60 } }))).await,
            );
        }
        random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        tokio::time::sleep(Duration::from_millis(u64::from(random >> 16) % 150)).await;
        daemon.kill();
        daemon.restart().await;
        kills += 1;
    }
    for sender in senders {
        sender.await.expect("every signal was acknowledged");
    }
    let client = daemon.client.clone();
    let squared: u64 = (0..200).filter(|n| *n != 13).map(|n| n * n).sum();
    for execution in all_end(&client, &squares, "COMPLETED").await {
        assert_eq!(execution["result"]["result"], squared);
    }
    for execution in all_end(&client, &tickers, "COMPLETED").await {
        let runs: HashSet<_> =
            execution["result"]["runs"].as_array().expect("runs").iter().map(Value::to_string).collect();
        assert_eq!(runs.len(), 61, "{execution}");
    }
    for id in &counters {
        send(&client, id, "signals", &json!({ "name": "done", "input": {} })).await;
    }
    let expected = 2 * (1..=150).sum::<u64>();
    for execution in all_end(&client, &counters, "COMPLETED").await {
        assert_eq!(execution["result"]["result"], expected, "every signal counts once");
    }
    all_end(&client, &busy, "COMPLETED").await;
    assert_eq!(audit(&client, &busy).await, Audit { runs: 20, steps: 40_000, ends: 20 });
    // A child is one step of its parent, and has one of its own.
    let families = audit(&client, &squares).await;
    let count = squares.len();
    assert_eq!(families, Audit { runs: 201 * count, steps: 400 * count, ends: 201 * count });
    let chains = audit(&client, &tickers).await;
    let count = 61 * tickers.len();
    assert_eq!(chains, Audit { runs: count, steps: count, ends: count });
    assert_eq!(open(&client).await, 0);
    println!("{kills} kills: {families:?}, {chains:?}, 1,200 signals with ids add up to {}", 4 * expected);
}
