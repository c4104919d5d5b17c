//! Guests that mean harm (THREATS row 27): each ends, with a reason; the host and the other guests go on.

use airlock_tests::{Daemon, LIMIT, guest};
use serde_json::{Value, json};

async fn hostile() -> Daemon {
    let daemon = Daemon::with(&[guest("hostile"), guest("hello")]).await;
    daemon.client.add_connector("reflector", "http://127.0.0.1:9/mcp", "none").await;
    daemon
}

/// The host still serves others.
async fn check_others(daemon: &Daemon) {
    let result = daemon.client.execute("hello", json!({ "name": "Ada" })).await;
    assert_eq!(result, json!({ "result": "Hello, Ada!" }));
}

async fn play(daemon: &Daemon, workflow: &str, field: &str, what: &str) -> Value {
    let id = daemon.client.start(workflow, json!({ field: what })).await;
    let ended = daemon.client.ended(&id, LIMIT).await;
    check_others(daemon).await;
    ended
}

#[tokio::test]
async fn row_27_a_hostile_activity_ends_with_a_reason() {
    let daemon = hostile().await;
    for (deed, reason) in [
        ("recursion", "stack"),
        ("panic", "the hostile activity panics"),
        ("memory", "memory"),
        ("exit", "exit"),
        ("event-flood", "event"),
        ("huge-event", "event"),
        ("giant-result", "bytes"),
        ("undeclared-slot", "Connector 'undeclared' is not resolved for this workflow"),
    ] {
        let ended = play(&daemon, "hostile", "deed", deed).await;
        assert_eq!(ended["status"], "FAILED", "{deed}: {ended}");
        let message = ended["failure"]["message"].as_str().expect("a message");
        assert!(message.contains(reason), "{deed}: {message}");
        assert!(message.len() < 10_000, "{deed}: {} bytes of message", message.len());
    }
    for deed in ["giant-error", "huge-arguments", "handles", "log-flood", "stderr-flood"] {
        let ended = play(&daemon, "hostile", "deed", deed).await;
        assert_ne!(ended["status"], "RUNNING", "{deed}");
        let size = ended.to_string().len();
        assert!(size < 100_000, "{deed}: {size} bytes of answer");
    }
    let size = daemon.setup.log().len();
    assert!(size < 5_000_000, "the log of a flood is bounded: {size} bytes");
}

#[tokio::test]
async fn row_27_an_endless_loop_or_sleep_in_an_activity_ends_at_its_limit() {
    let daemon = hostile().await;
    let (endless, sleep) =
        tokio::join!(play(&daemon, "hostile", "deed", "loop"), play(&daemon, "hostile", "deed", "sleep"));
    for ended in [endless, sleep] {
        assert_eq!(ended["status"], "FAILED", "{ended}");
        let kind = ended["failure"]["kind"].as_str().expect("a kind");
        assert!(kind == "Timeout" || kind == "Trap", "{ended}");
    }
}

#[tokio::test]
async fn row_27_a_hostile_workflow_ends_with_a_reason() {
    let daemon = hostile().await;
    for (plot, reason) in [
        ("loop", "processor time"),
        ("memory", "memory"),
        ("recursion", "stack"),
        ("panic", "panic"),
        ("panic-later", "panic"),
        // A million of them do not fit into the guest's own memory.
        ("command-flood", "memory"),
        ("event-flood", "memory"),
        ("giant-result", "bytes"),
        ("activity-import", "workflow"),
        ("sleep", "ctx.sleep"),
        ("unknown-activity", "activity"),
    ] {
        let ended = play(&daemon, "hostile-workflow", "plot", plot).await;
        assert_eq!(ended["status"], "FAILED", "{plot}: {ended}");
        let message = ended["failure"]["message"].as_str().expect("a message");
        assert!(message.contains(reason), "{plot}: {message}");
    }
    let id = daemon.client.start("hostile-workflow", json!({ "plot": "hang" })).await;
    let path = format!("/v1/workflows/executions/{id}/terminate");
    let (status, _) = daemon.client.call(reqwest::Method::POST, &path, None).await;
    assert_eq!(status.as_u16(), 204);
    assert_eq!(daemon.client.ended(&id, LIMIT).await["status"], "TERMINATED");
    check_others(&daemon).await;
}

#[tokio::test]
async fn row_16_a_guest_sees_nothing_of_the_hosts_environment_arguments_and_files() {
    let daemon = hostile().await;
    for (workflow, field) in [("hostile", "deed"), ("hostile-workflow", "plot")] {
        let ended = play(&daemon, workflow, field, "environment").await;
        assert_eq!(ended["status"], "COMPLETED", "{ended}");
        let seen = ended["result"].to_string();
        for host in [env!("CARGO_MANIFEST_DIR"), "AIRLOCK", "PATH", "HOME", "serve", "owner.key"] {
            assert!(!seen.contains(host), "{workflow} sees '{host}': {seen}");
        }
    }
}
