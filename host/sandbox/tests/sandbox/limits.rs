//! One hostile guest for each limit. After each, the host and other guests go on.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use airlock_engine::{
    Digest,
    guests::{GuestError, Guests, Relief, WorkflowInstance},
    history::Job,
};
use airlock_sandbox::{Limits, Sandbox};

use crate::{
    guests::by_hand,
    room::{Host, Room, call, digest_of, init, run, run_wrong, status, turn, until},
};

/// Little of everything, and so much processor time that only an endless loop uses it up on any machine.
async fn tight() -> (Room, Arc<Sandbox>, Digest) {
    tight_with(Duration::from_secs(60)).await
}

async fn tight_with(cpu: Duration) -> (Room, Arc<Sandbox>, Digest) {
    let room = Room::new();
    room.put("hostile.wasm", crate::guests::hostile());
    let sandbox = room
        .open_with(|limits: &mut Limits| {
            limits.activity_cpu = cpu;
            limits.activation_cpu = cpu;
            limits.memory_bytes = 16 << 20;
            limits.payload_bytes = 4 << 20;
            limits.events_per_second = 10;
        })
        .await;
    let digest = digest_of(&sandbox, "hostile");
    (room, sandbox, digest)
}

async fn still_works(sandbox: &Sandbox, digest: &Digest) {
    assert!(run(sandbox, digest, "noop", "null").await.is_ok());
}

async fn activate_wrong(sandbox: &Sandbox, digest: &Digest, workflow: &str) -> String {
    match sandbox.create(digest, init(workflow)).await {
        Err(error) => error.to_string(),
        Ok(mut instance) => {
            let activation = turn(1, false, &[Job::Started]);
            instance.activate(activation).await.unwrap_err().to_string()
        }
    }
}

#[tokio::test]
async fn an_endless_loop_ends_and_others_run_meanwhile() {
    // One thread: if the loop did not yield, nothing else would run.
    let (_room, sandbox, digest) = tight_with(Duration::from_millis(200)).await;
    let spinning = tokio::spawn({
        let sandbox = sandbox.clone();
        async move { run_wrong(&sandbox, &digest, "spin").await }
    });
    let other = tokio::spawn({
        let sandbox = sandbox.clone();
        async move {
            still_works(&sandbox, &digest).await;
            sandbox.stats().running_activities
        }
    });
    assert_eq!(other.await.unwrap(), 1, "the loop still runs when the other is done");
    let message = spinning.await.unwrap();
    assert!(
        message.starts_with("activity \"spin\" trapped: it used more than 200 ms of processor time"),
        "{message}"
    );
    for workflow in ["spin", "constructor-spins"] {
        let message = activate_wrong(&sandbox, &digest, workflow).await;
        assert!(message.contains("it used more than 200 ms of processor time"), "{message}");
    }
}

#[tokio::test]
async fn waiting_costs_no_processor_time() {
    let (_room, sandbox, digest) = tight_with(Duration::from_millis(200)).await;
    for _ in 0..6 {
        assert!(run(&sandbox, &digest, "sleep", "null").await.is_ok());
    }
}

#[tokio::test]
async fn memory_growth_ends_at_the_limit() {
    let (_room, sandbox, digest) = tight().await;
    let message = run_wrong(&sandbox, &digest, "grow").await;
    assert!(message.contains("it reached its memory limit of 16 MB"), "{message}");
    assert!(message.contains("`limits.memory_mb` in the plugin's policy file raises it"), "{message}");
    let message = activate_wrong(&sandbox, &digest, "grow").await;
    assert!(message.contains("it reached its memory limit of 16 MB"), "{message}");
    still_works(&sandbox, &digest).await;
}

#[tokio::test]
async fn deep_recursion_ends() {
    let (_room, sandbox, digest) = tight().await;
    let message = run_wrong(&sandbox, &digest, "recurse").await;
    assert!(message.contains("trapped"), "{message}");
    assert!(activate_wrong(&sandbox, &digest, "recurse").await.contains("trapped"));
    let (room, body) = (Room::new(), "(func $deep (call $deep) (call $deep))");
    room.put("deep.wasm", by_hand(body, "(call $deep)"));
    let other = room.open().await;
    let message = run_wrong(&other, &digest_of(&other, "deep"), "a").await;
    assert_eq!(message, "activity \"a\" trapped: its stack is full: a recursion is too deep");
    still_works(&sandbox, &digest).await;
}

#[tokio::test]
async fn table_growth_ends_at_the_limit() {
    let room = Room::new();
    let body = "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable";
    room.put("table.wasm", by_hand("(table $t 1 funcref)", body));
    let sandbox = room.open().await;
    let message = run_wrong(&sandbox, &digest_of(&sandbox, "table"), "a").await;
    assert!(message.ends_with("it reached its limit of 100000 table elements"), "{message}");
}

#[tokio::test]
async fn a_trap_in_the_start_function_is_told_when_it_is_loaded() {
    let room = Room::new();
    room.put("start.wasm", by_hand("(func $boom unreachable) (start $boom)", ""));
    let sandbox = room.open().await;
    let error = crate::room::rejection(&sandbox, "start").unwrap();
    assert!(error.starts_with("it cannot say what it holds: `definitions.describe` trapped"), "{error}");
}

#[tokio::test]
async fn too_much_memory_at_the_start_is_told_when_it_is_loaded() {
    let room = Room::new();
    room.put("hostile.wasm", crate::guests::hostile());
    let sandbox = room.open_with(|limits| limits.memory_bytes = 64 << 10).await;
    let error = crate::room::rejection(&sandbox, "hostile").unwrap();
    assert!(error.starts_with("it needs 1088 KB of memory at its start, and a guest has 64 KB"), "{error}");
}

#[tokio::test]
async fn a_huge_result_is_refused() {
    let (_room, sandbox, digest) = tight().await;
    let room = Room::new();
    room.put("hostile.wasm", crate::guests::hostile());
    let roomy = room.open_with(|limits| limits.payload_bytes = 4 << 20).await;
    let message = run_wrong(&roomy, &digest, "huge-result").await;
    assert!(message.contains("it handed more than 4 MB to the host in one call"), "{message}");
    still_works(&sandbox, &digest).await;
}

#[tokio::test]
async fn a_flood_of_events_is_refused_and_a_large_one_too() {
    let (_room, sandbox, digest) = tight().await;
    let host = Arc::new(Host::default());
    let error = sandbox.run_activity(&digest, call("flood-events", "null"), host.clone()).await.unwrap_err();
    assert!(error.to_string().starts_with("RateLimited: more than 10 events in a second"), "{error}");
    assert!((50..60).contains(&host.events.lock().len()));
    let error = run_wrong(&sandbox, &digest, "big-event").await;
    assert!(error.starts_with("InvalidInput: the payload of an event has 307202 bytes"), "{error}");
}

#[tokio::test]
async fn a_flood_of_log_lines_disturbs_nobody() {
    let (_room, sandbox, digest) = tight().await;
    assert!(run(&sandbox, &digest, "flood-log", "null").await.is_ok());
}

#[tokio::test]
async fn thousands_of_handles_are_refused() {
    let (_room, sandbox, digest) = tight().await;
    let host = Arc::new(Host::default());
    let open = host.open_calls.clone();
    let error = sandbox.run_activity(&digest, call("handles", "null"), host).await.unwrap_err().to_string();
    assert!(error.contains("it holds too many handles at once"), "{error}");
    crate::room::until("the calls to stop", || open.load(std::sync::atomic::Ordering::SeqCst) == 0).await;
    still_works(&sandbox, &digest).await;
}

#[tokio::test]
async fn a_flood_of_commands_is_refused() {
    let (_room, sandbox, digest) = tight().await;
    let message = activate_wrong(&sandbox, &digest, "flood-commands").await;
    assert!(
        message.contains("commands in one turn; the limit is 50000")
            || message.contains("in one call")
            || message.contains("it reached its memory limit"),
        "{message}"
    );
}

#[tokio::test]
async fn more_workflow_instances_than_configured_are_refused() {
    let (_room, sandbox, digest) = tight().await;
    let mut instances = Vec::new();
    for _ in 0..4 {
        instances.push(sandbox.create(&digest, init("one-step")).await.unwrap());
    }
    assert_eq!(sandbox.stats().workflow_instances, 4);
    let error = sandbox.create(&digest, init("one-step")).await.err().unwrap().to_string();
    assert!(error.starts_with("4 workflow instances are in memory, which is the limit"), "{error}");
    instances.pop();
    assert!(sandbox.create(&digest, init("one-step")).await.is_ok());
}

#[tokio::test]
async fn a_policy_file_sets_the_limits_of_its_plugin() {
    let room = Room::new();
    room.put("hostile.wasm", crate::guests::hostile());
    room.put("hostile.toml", "[limits]\nmemory_mb = 8\nactivity_cpu_ms = 100");
    let sandbox = room.open().await;
    let digest = status(&sandbox, "hostile").unwrap().digest;
    assert!(run_wrong(&sandbox, &digest, "grow").await.contains("memory limit of 8 MB"));
    assert!(run_wrong(&sandbox, &digest, "spin").await.contains("more than 100 ms of processor time"));
}

#[tokio::test]
async fn too_many_calls_at_once_are_refused_one_by_one() {
    let room = Room::new();
    room.put("hostile.wasm", crate::guests::hostile());
    let sandbox = room.open_with(|limits| limits.open_calls = 5).await;
    let message = run_wrong(&sandbox, &digest_of(&sandbox, "hostile"), "tools-at-once").await;
    assert_eq!(message, "RateLimited: 5 calls are under way already: wait for some of them first");
}

#[tokio::test]
async fn without_address_space_for_a_pool_guests_run_all_the_same() {
    let room = Room::new();
    room.put("hostile.wasm", crate::guests::hostile());
    let mut config = room.config();
    config.pool.workflow_instances = 100_000;
    let sandbox = crate::room::open(config).await;
    assert!(!sandbox.stats().pooled);
    let digest = digest_of(&sandbox, "hostile");
    still_works(&sandbox, &digest).await;
    assert!(run_wrong(&sandbox, &digest, "grow").await.contains("memory limit of 256 MB"));
}

/// Workflows that wait in memory, oldest first.
#[derive(Default)]
struct Waiting(parking_lot::Mutex<Vec<Box<dyn WorkflowInstance>>>);

impl Relief for Waiting {
    fn relieve(&self, bytes: u64, of: Option<&str>) -> u64 {
        let mut freed = 0;
        while freed < bytes && of.is_none_or(|user| user == "user") && !self.0.lock().is_empty() {
            let oldest = self.0.lock().remove(0);
            freed += oldest.held_bytes();
        }
        freed
    }
}

/// A sandbox whose guests have 64 MB together, and as many waiting workflows as fit in there.
async fn full() -> (Room, Arc<Sandbox>, Digest, Arc<Waiting>) {
    let room = Room::new();
    room.put("hostile.wasm", crate::guests::hostile());
    let mut config = room.config();
    config.guest_memory_bytes = Some(64 << 20);
    config.pool.workflow_instances = 200;
    let sandbox = crate::room::open(config).await;
    let digest = digest_of(&sandbox, "hostile");
    let waiting = Arc::new(Waiting::default());
    let refused = loop {
        match sandbox.create(&digest, init("one-step")).await {
            Ok(instance) => waiting.0.lock().push(instance),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, GuestError::Host(_)));
    assert!(refused.to_string().starts_with("no memory is left for another guest"), "{refused}");
    (room, sandbox, digest, waiting)
}

#[tokio::test]
async fn a04_all_guests_share_one_budget_of_bytes_and_waiting_workflows_give_theirs_up() {
    let (_room, sandbox, digest, waiting) = full().await;
    let stats = sandbox.stats();
    let count = waiting.0.lock().len();
    let held: u64 = waiting.0.lock().iter().map(|instance| instance.held_bytes()).sum();
    assert!((20..64).contains(&count), "{count} instances");
    assert_eq!((stats.guest_memory, stats.guest_memory_limit), (held, 64 << 20));
    assert_eq!(stats.guest_memory_refused, 1);
    let relief: Weak<Waiting> = Arc::downgrade(&waiting);
    sandbox.relieved_by(relief);
    let instance = sandbox.create(&digest, init("one-step")).await.unwrap();
    assert!(run(&sandbox, &digest, "noop", "null").await.is_ok());
    assert!(waiting.0.lock().len() < count);
    let stats = sandbox.stats();
    assert!(stats.guest_memory_relieved > 0 && stats.guest_memory <= 64 << 20, "{stats:?}");
    drop(instance);
    waiting.0.lock().clear();
    assert_eq!(sandbox.stats().guest_memory, 0);
}

#[tokio::test]
async fn a04_an_attempt_waits_for_memory_and_begins_when_there_is_some() {
    let (_room, sandbox, digest, waiting) = full().await;
    let (done, ()) = tokio::join!(run(&sandbox, &digest, "noop", "null"), async {
        until("the attempt to have a place", || sandbox.stats().running_activities == 1).await;
        waiting.0.lock().pop();
    });
    assert!(done.is_ok(), "{done:?}");
}

#[tokio::test]
async fn a04_a_guest_that_grows_beyond_half_of_all_memory_is_told_so() {
    let (_room, sandbox, digest, waiting) = full().await;
    waiting.0.lock().clear();
    let message = run_wrong(&sandbox, &digest, "grow").await;
    assert!(
        message.contains("it reached 32 MB of memory, half of what all guests have together"),
        "{message}"
    );
    still_works(&sandbox, &digest).await;
}
