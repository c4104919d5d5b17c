//! All that is defended against one by one, at once and for a while: one daemon with little memory, one caller who means
//! well, and attackers who go on until the end, each with a user of its own or with none (`docs/security.md`, rows A1 to A5,
//! A13 and A26).
//!
//! The attackers cost the daemon more than themselves: they are tasks of this process that send little and wait a lot, so
//! that what the caller feels is the daemon and not the test.

mod attackers;
mod documents;
mod memory;

use std::time::{Duration, Instant};

use airlock_tests::{Client, Daemon, LIMIT, Service, Setup, eventually, guest, text_result, tools};
use serde_json::{Value, json};

use crate::{attackers::Attack, memory::Watch};

/// What the daemon may hold by its settings.
const GUEST_MEMORY: u64 = 384;
const REQUEST_MEMORY: u64 = 128;

/// What it holds beside, in megabytes: itself, compiled code, caches of the store, what a page of a history is read with,
/// and what the allocator keeps of all that came and went.
const BESIDE: u64 = 500;

/// What the processes that compile hold together, in megabytes. There are at most two at once that take long and two that
/// have just begun.
const COMPILING: u64 = 700;

/// Executions whose time is taken while all is quiet.
const QUIET: usize = 300;

/// How long the attacks last.
const SIEGE: Duration = Duration::from_secs(75);

/// How much slower the slowest hundredth may be under attack, and what no machine is asked to be quicker than: while the
/// attackers' guests compute and their components are compiled there is half a processor for the caller at times.
const SLOWER: u32 = 3;
const FLOOR: Duration = Duration::from_millis(150);

/// Times from start to result.
struct Times(Vec<Duration>);

impl Times {
    fn at(&self, hundredth: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() * hundredth / 100).min(sorted.len() - 1)]
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (p50, p90, p99, most) = (self.at(50), self.at(90), self.at(99), self.at(100));
        write!(f, "{} executions, p50 {p50:?}, p90 {p90:?}, p99 {p99:?}, most {most:?}", self.0.len())
    }
}

/// One execution of the good plugin: an activity that calls a tool through the daemon.
async fn one(caller: &Client, number: usize) -> Duration {
    let began = Instant::now();
    let said = format!("the {number}th");
    let result = caller.execute("echo", json!({ "tool": "echo", "arguments": { "said": said } })).await;
    assert!(result.to_string().contains(&said), "{result}");
    began.elapsed()
}

async fn quiet(caller: &Client, count: usize) -> Times {
    let mut times = Vec::new();
    for number in 0..count {
        times.push(one(caller, number).await);
    }
    Times(times)
}

/// Whether the daemon is the same process with the same life.
fn assert_alive(daemon: &Daemon) {
    let starts = daemon.setup.log().matches("airlock is ready").count();
    assert!(starts <= 1, "the daemon was started {starts} times");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.id())).expect("the daemon runs");
    assert!(!stat.contains(") Z "), "the daemon has ended:\n{}", daemon.setup.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_among_all_attackers_at_once_is_served_as_before_within_the_budgets() {
    let server = Service::mcp(|method, arguments, _| match method {
        "tools/list" => Ok(tools(&["echo"])),
        _ => Ok(text_result(&arguments["arguments"]["said"].to_string())),
    })
    .await;
    let (guests, requests) = (format!("{GUEST_MEMORY}M"), format!("{REQUEST_MEMORY}M"));
    let settings = [
        ["--guest-memory", &guests],
        ["--request-memory", &requests],
        ["--max-connections", "200"],
        ["--header-timeout", "3s"],
        ["--body-timeout", "12s"],
    ];
    let daemon = Setup::new(&[guest("echo"), guest("hello"), guest("hostile")])
        .with(&["--allow-loopback"])
        .with(settings.as_flattened())
        .start()
        .await;
    daemon.client.add_connector("reflector", &server.url("/mcp"), "none").await;
    let caller = daemon.user("good").await;
    quiet(&caller, 20).await;
    let before = quiet(&caller, QUIET).await;
    println!("quiet: {before}");

    let watch = Watch::of(daemon.id());
    let attack = Attack::begin(&daemon).await;
    let (end, mut times) = (Instant::now() + SIEGE, Vec::new());
    while Instant::now() < end {
        times.push(one(&caller, times.len()).await);
    }
    let during = Times(times);
    println!("under attack: {during}");
    let heard = attack.end(&daemon).await;
    for (attacker, what) in &heard {
        println!("{attacker}: {what}");
    }
    let held = watch.end();
    println!("held: {held:?}");
    assert_alive(&daemon);

    let after = eventually(LIMIT, "the caller is served as quickly as before", async || {
        let times = quiet(&caller, 50).await;
        println!("afterwards: {times}");
        (times.at(50) <= before.at(50) * 2).then_some(times)
    })
    .await;
    println!("afterwards: {after}");

    // What compiles for longer than the siege lasts is told afterwards: `compiling.rs` waits for it.
    for (attacker, what) in heard.iter().filter(|(attacker, _)| **attacker != "a13-many-functions") {
        assert!(!what.sentence.is_empty(), "{attacker} was never told anything in {} rounds", what.rounds);
        assert!(what.rounds > 1, "{attacker} came round {} times", what.rounds);
    }
    let most = (before.at(99) * SLOWER).max(FLOOR);
    assert!(during.at(99) <= most, "quiet: {before}; under attack: {during}, which is more than {most:?}");
    assert!(held.daemon <= GUEST_MEMORY + REQUEST_MEMORY + BESIDE, "{held:?}");
    assert!(held.together <= GUEST_MEMORY + REQUEST_MEMORY + BESIDE + COMPILING, "{held:?}");
    let status: Value = daemon.client.get("/v1/airlock/status").await;
    println!("{status}");
}
