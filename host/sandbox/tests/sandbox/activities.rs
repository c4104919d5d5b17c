//! Activities and what they may ask of the host.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use airlock_engine::{
    guests::{ActivityError, Guests},
    tools::CallOptions,
};

use crate::room::{Host, Room, call, digest_of, hostile, run, run_wrong, until};

#[tokio::test]
async fn an_activity_gets_its_input_and_gives_a_result() {
    let (_room, sandbox, digest) = hostile().await;
    assert_eq!(run(&sandbox, &digest, "echo", r#"{"a": "é"}"#).await.unwrap().as_str(), r#"{"a": "é"}"#);
    assert_eq!(sandbox.stats().running_activities, 0);
}

#[tokio::test]
async fn each_call_has_an_instance_with_fresh_memory() {
    let (_room, sandbox, digest) = hostile().await;
    for _ in 0..20 {
        assert_eq!(run(&sandbox, &digest, "count", "null").await.unwrap().as_str(), "1");
    }
}

#[tokio::test]
async fn a_failure_is_passed_on_with_its_message_cut() {
    let (_room, sandbox, digest) = hostile().await;
    let Err(ActivityError::Failed(failure)) = run(&sandbox, &digest, "fail", "null").await else { panic!() };
    assert_eq!((failure.kind.as_str(), failure.message.len(), failure.non_retryable), ("Broken", 8192, true));
    assert_eq!(failure.details.unwrap().as_str(), "{\"a\":1}");
}

#[tokio::test]
async fn a_panic_keeps_its_message() {
    let (_room, sandbox, digest) = hostile().await;
    let message = run_wrong(&sandbox, &digest, "panic").await;
    assert!(
        message.starts_with("activity \"panic\" trapped: it panicked at src/activities.rs:"),
        "{message}"
    );
    assert!(message.ends_with(": no such issue: null"), "{message}");
}

#[tokio::test]
async fn exit_is_explained() {
    let (_room, sandbox, digest) = hostile().await;
    let message = run_wrong(&sandbox, &digest, "exit").await;
    assert!(message.contains("it called exit(1); return a result instead"), "{message}");
}

#[tokio::test]
async fn a_result_that_is_not_json_is_refused() {
    let (_room, sandbox, digest) = hostile().await;
    let message = run_wrong(&sandbox, &digest, "not-json").await;
    assert!(message.starts_with("the result of the activity is not JSON: "), "{message}");
}

#[tokio::test]
async fn an_unknown_activity_is_named() {
    let (_room, sandbox, digest) = hostile().await;
    let message = run_wrong(&sandbox, &digest, "nothing").await;
    assert!(message.contains("the plugin \"hostile\" has no activity \"nothing\""), "{message}");
}

#[tokio::test]
async fn a_tool_call_is_answered() {
    let (_room, sandbox, digest) = hostile().await;
    let answer = run(&sandbox, &digest, "tool", r#"{"x":1}"#).await.unwrap();
    assert_eq!(answer.as_str(), r#"{"slot":"github","tool":"issue_write","arguments":{"x":1}}"#);
}

#[tokio::test]
async fn arguments_that_are_no_object_are_refused_before_the_call() {
    let (_room, sandbox, digest) = hostile().await;
    let host = Arc::new(Host::default());
    let error = sandbox.run_activity(&digest, call("tool", "[1]"), host.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), "InvalidInput: the arguments of a tool call must be a JSON object");
    assert_eq!(host.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn options_of_a_call_reach_the_host() {
    let (_room, sandbox, digest) = hostile().await;
    let host = Arc::new(Host::default());
    sandbox.run_activity(&digest, call("tool-options", "null"), host.clone()).await.unwrap();
    let options = CallOptions {
        timeout: Some(Duration::from_millis(1500)),
        retries: Some(2),
        credentials_name: Some("work".into()),
        use_mock: Some(true),
    };
    assert_eq!(*host.options.lock(), [options]);
}

#[tokio::test]
async fn absurd_options_are_refused_before_the_call() {
    let (_room, sandbox, digest) = hostile().await;
    let host = Arc::new(Host::default());
    let refused = sandbox.run_activity(&digest, call("absurd-options", "null"), host.clone()).await.unwrap();
    let sentences: Vec<String> = refused.to().unwrap();
    let expected = [
        "InvalidInput: the timeout of a tool call is 0 ms; it can be 1 to 120000",
        "InvalidInput: the timeout of a tool call is 18446744073709551615 ms; it can be 1 to 120000",
        "InvalidInput: a tool call asks for 4294967295 retries; it can have 0 to 10",
        "InvalidInput: a tool call names a credential with a blank name: leave it out instead",
        "InvalidInput: a tool call names a credential with more than 256 bytes",
    ];
    assert_eq!(sentences, expected);
    assert_eq!(host.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn several_tool_calls_are_in_flight_at_once() {
    let (_room, sandbox, digest) = hostile().await;
    let host = Arc::new(Host { answer_at: 10, ..Host::default() });
    let answer = sandbox.run_activity(&digest, call("tools-at-once", "null"), host).await.unwrap();
    assert_eq!(answer.value().as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn a_failed_authorisation_is_told() {
    let (_room, sandbox, digest) = hostile().await;
    let message = run_wrong(&sandbox, &digest, "auth").await;
    assert_eq!(message, "ConnectorAuthTimeout: nobody authorised github");
}

#[tokio::test]
async fn dropping_a_run_stops_its_calls() {
    let (_room, sandbox, digest) = hostile().await;
    let host = Arc::new(Host { answer_at: u32::MAX, ..Host::default() });
    let open = host.open_calls.clone();
    let running = tokio::spawn({
        let (sandbox, host) = (sandbox.clone(), host.clone());
        async move { sandbox.run_activity(&digest, call("tools-at-once", "null"), host).await }
    });
    until("the calls to start", || open.load(Ordering::SeqCst) == 10).await;
    running.abort();
    until("the calls to stop", || open.load(Ordering::SeqCst) == 0).await;
    until("the slot to be free", || sandbox.stats().running_activities == 0).await;
}

#[tokio::test]
async fn heartbeats_and_cancellation_reach_both_sides() {
    let (_room, sandbox, digest) = hostile().await;
    let host = Arc::new(Host::default());
    let error = sandbox.run_activity(&digest, call("wait-cancel", "null"), host.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), "Cancelled: as asked");
    assert_eq!(host.heartbeats.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_activity_can_wait_print_and_use_random() {
    let (_room, sandbox, digest) = hostile().await;
    assert!(run(&sandbox, &digest, "sleep", "null").await.is_ok());
    assert!(run(&sandbox, &digest, "print", "null").await.is_ok());
    let first = run(&sandbox, &digest, "random", "null").await.unwrap();
    assert_ne!(first, run(&sandbox, &digest, "random", "null").await.unwrap());
}

#[tokio::test]
async fn nothing_is_granted_without_a_policy_file() {
    let (_room, sandbox, digest) = hostile().await;
    assert_eq!(run(&sandbox, &digest, "env", "null").await.unwrap().as_str(), "[]");
    for activity in ["files", "write-file"] {
        let error = run(&sandbox, &digest, activity, "\"/etc/passwd\"").await.unwrap_err().to_string();
        assert!(error.starts_with("Io: "), "{error}");
    }
    let error = run_wrong(&sandbox, &digest, "connect").await;
    assert!(error.starts_with("Io: ") && !error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_policy_file_grants_environment_and_folders() {
    let room = Room::new();
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("note"), "hello").unwrap();
    fs::create_dir(shared.path().join("out")).unwrap();
    room.put("hostile.wasm", crate::guests::hostile());
    let host = shared.path().display();
    room.put(
        "hostile.toml",
        format!(
            "[env]\nREGION = 'eu-1'\n[[dirs]]\nhost = '{host}'\nguest = '/in'\nmode = 'ro'\n\
             [[dirs]]\nhost = '{host}/out'\nguest = '/out'\nmode = 'rw'\n"
        ),
    );
    let sandbox = room.open().await;
    let digest = digest_of(&sandbox, "hostile");
    assert_eq!(run(&sandbox, &digest, "env", "null").await.unwrap().as_str(), r#"["REGION=eu-1"]"#);
    assert_eq!(run(&sandbox, &digest, "files", "\"/in/note\"").await.unwrap().as_str(), "\"hello\"");
    assert!(run(&sandbox, &digest, "files", "\"/in/../../etc/passwd\"").await.is_err());
    assert!(run(&sandbox, &digest, "write-file", "\"/in/new\"").await.is_err());
    assert!(run(&sandbox, &digest, "write-file", "\"/out/new\"").await.is_ok());
    assert_eq!(fs::read_to_string(shared.path().join("out/new")).unwrap(), "written");
}

#[tokio::test]
async fn more_activities_than_slots_wait_for_their_turn() {
    let (_room, sandbox, digest) = hostile().await;
    let runs = (0..40).map(|_| run(&sandbox, &digest, "sleep", "null"));
    assert!(futures::future::join_all(runs).await.iter().all(Result::is_ok));
}
