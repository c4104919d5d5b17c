//! Workflow instances: turns in, commands out, and nothing that answers differently twice.

use std::time::Duration;

use airlock_engine::{
    ActivityOptions, Digest, Failure, Json,
    guests::{GuestError, Guests, WorkflowInstance},
    history::{Command, Job, TaskEvent, TaskPhase},
    tools::CallOptions,
};
use airlock_sandbox::Sandbox;

use crate::room::{hostile, init, turn};

async fn create(sandbox: &Sandbox, digest: &Digest, workflow: &str) -> Box<dyn WorkflowInstance> {
    sandbox.create(digest, init(workflow)).await.unwrap()
}

async fn activate(instance: &mut dyn WorkflowInstance, jobs: &[Job]) -> Result<Vec<Command>, GuestError> {
    instance.activate(turn(1_002_500, false, jobs)).await
}

/// The commands of a first turn.
async fn first(sandbox: &Sandbox, digest: &Digest, workflow: &str) -> Result<Vec<Command>, GuestError> {
    activate(&mut *create(sandbox, digest, workflow).await, &[Job::Started]).await
}

async fn first_wrong(sandbox: &Sandbox, digest: &Digest, workflow: &str) -> String {
    first(sandbox, digest, workflow).await.unwrap_err().to_string()
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

#[tokio::test]
async fn jobs_go_in_and_commands_come_out() {
    let (_room, sandbox, digest) = hostile().await;
    let mut instance = create(&sandbox, &digest, "one-step").await;
    assert_eq!(
        activate(&mut *instance, &[Job::Started]).await.unwrap(),
        [Command::ScheduleActivity {
            seq: 1,
            activity: "noop".into(),
            input: json("[1]"),
            options: ActivityOptions::default()
        }]
    );
    let failure = Failure { details: Some(json("{}")), ..Failure::retryable("Broken", "it broke") };
    let resolved =
        [Job::TimerFired { seq: 9 }, Job::ActivityResolved { seq: 1, outcome: Err(failure.clone()) }];
    assert_eq!(activate(&mut *instance, &resolved).await.unwrap(), [Command::Fail { failure }]);
    let cancelled = [Job::CancelRequested { reason: "enough".into() }];
    assert_eq!(activate(&mut *instance, &cancelled).await.unwrap(), [Command::Cancelled]);
}

#[tokio::test]
async fn every_command_crosses_the_boundary() {
    let (_room, sandbox, digest) = hostile().await;
    let slot = || "github".to_owned();
    let event = TaskEvent {
        id: "1".into(),
        task_type: "progress".into(),
        phase: TaskPhase::Completed,
        payload: json("1"),
    };
    assert_eq!(
        first(&sandbox, &digest, "everything").await.unwrap(),
        [
            Command::StartTimer { seq: 1, duration: Duration::from_millis(1500) },
            Command::CallTool {
                seq: 2,
                slot: slot(),
                tool: "t".into(),
                arguments: json("{\"a\":1}"),
                options: CallOptions::default()
            },
            Command::ListTools { seq: 3, slot: slot() },
            Command::AwaitAuth { seq: 4, slot: slot() },
            Command::Cancel { seq: 1 },
            Command::EmitEvent { event },
            Command::Cancelled,
        ]
    );
}

#[tokio::test]
async fn clock_random_and_nan_are_the_same_every_time() {
    let (_room, sandbox, digest) = hostile().await;
    let once = first(&sandbox, &digest, "clock-and-random").await.unwrap();
    assert_eq!(once, first(&sandbox, &digest, "clock-and-random").await.unwrap());
    let [Command::Complete { result }] = &once[..] else { panic!("{once:?}") };
    let values = result.value();
    assert_eq!(
        (&values[0], &values[1]),
        (&1_002_500.into(), &0.into()),
        "the clock is the turn's time and stands still"
    );
    let mut other = init("clock-and-random");
    other.seed = 8;
    let mut instance = sandbox.create(&digest, other).await.unwrap();
    assert_ne!(
        once,
        activate(&mut *instance, &[Job::Started]).await.unwrap(),
        "another seed gives other numbers"
    );
}

#[tokio::test]
async fn what_takes_time_is_refused_with_what_to_do_instead() {
    let (_room, sandbox, digest) = hostile().await;
    for (workflow, message) in [
        ("sleep", "a workflow cannot wait inside a turn: use `ctx.sleep`"),
        ("call-tool", "use `ctx.call_tool`"),
        ("await-auth", "use `ctx.await_auth`"),
        ("emit-event", "use `ctx.emit_event`"),
        ("heartbeat", "a workflow has no activity context"),
    ] {
        let error = first_wrong(&sandbox, &digest, workflow).await;
        assert!(error.starts_with(&format!("workflow {workflow:?} trapped: ")), "{error}");
        assert!(error.contains(message), "{error}");
    }
    assert!(first(&sandbox, &digest, "poll-nothing").await.is_ok());
}

#[tokio::test]
async fn there_are_no_files_no_sockets_and_no_environment() {
    let (_room, sandbox, digest) = hostile().await;
    for workflow in ["read-file", "connect"] {
        let commands = first(&sandbox, &digest, workflow).await.unwrap();
        assert!(matches!(&commands[..], [Command::Complete { .. }]), "{commands:?}");
    }
    let commands = first(&sandbox, &digest, "env").await.unwrap();
    assert_eq!(commands, [Command::Complete { result: json("\"00\"") }]);
}

#[tokio::test]
async fn a_result_that_is_not_json_is_refused() {
    let (_room, sandbox, digest) = hostile().await;
    let error = first(&sandbox, &digest, "not-json").await.unwrap_err();
    assert!(
        matches!(&error, GuestError::Invalid(text) if text.starts_with("the result of the workflow is not JSON")),
        "{error}"
    );
}

#[tokio::test]
async fn a_trapped_instance_is_not_used_again() {
    let (_room, sandbox, digest) = hostile().await;
    let mut instance = create(&sandbox, &digest, "panic-later").await;
    assert_eq!(activate(&mut *instance, &[Job::Started]).await.unwrap(), []);
    let error = activate(&mut *instance, &[]).await.unwrap_err().to_string();
    assert!(
        error.starts_with("workflow \"panic-later\" trapped: it panicked at src/workflows.rs:"),
        "{error}"
    );
    assert!(error.ends_with(": on the second turn"), "{error}");
    let error = activate(&mut *instance, &[]).await.unwrap_err().to_string();
    assert!(error.contains("must be built again by replay"), "{error}");
}

#[tokio::test]
async fn an_instance_frees_its_place_when_it_is_dropped() {
    let (_room, sandbox, digest) = hostile().await;
    let instance = create(&sandbox, &digest, "one-step").await;
    assert_eq!(sandbox.stats().workflow_instances, 1);
    drop(instance);
    assert_eq!(sandbox.stats().workflow_instances, 0);
}

#[tokio::test]
async fn an_unknown_workflow_is_named() {
    let (_room, sandbox, digest) = hostile().await;
    let error = sandbox.create(&digest, init("nothing")).await.err().unwrap().to_string();
    assert_eq!(error, "the plugin \"hostile\" has no workflow \"nothing\" in this version");
}

#[tokio::test]
async fn questions_are_answered_between_turns_and_a_wrong_answer_ends_the_instance() {
    let (_room, sandbox, digest) = hostile().await;
    let mut instance = create(&sandbox, &digest, "one-step").await;
    activate(&mut *instance, &[Job::Started]).await.unwrap();
    let input = Json::from(serde_json::json!({}));
    assert_eq!(instance.query("turns", &input).await.unwrap().unwrap().as_str(), "1");
    assert_eq!(instance.query("other", &input).await.unwrap().unwrap_err().kind, "NotFound");
    assert_eq!(instance.query("turns", &input).await.unwrap().unwrap().as_str(), "1", "nothing has changed");
    for (name, part) in [("panic", "asked to"), ("spin", "processor time"), ("no-json", "is not JSON")] {
        let mut instance = create(&sandbox, &digest, "one-step").await;
        let error = instance.query(name, &input).await.unwrap_err().to_string();
        assert!(error.contains(part), "{name}: {error}");
        assert!(instance.query("turns", &input).await.is_err(), "it is not used again after {name}");
    }
}
