//! The executor against a host that is a list of jobs.

use std::{cell::Cell, time::Duration};

use serde_json::{Value, json};

use super::{
    Instance, Run, Workflow,
    protocol::{Command, Init, Job, Request},
};
use crate::{
    self as airlock, Error, FutureExt, Result, RetryPolicy, TaskPhase, join, join_all, plugin, select_biased,
    try_join,
};

#[airlock::activity(
    name = "double",
    start_to_close = "30s",
    retry(attempts = 5, backoff = 3, non_retryable("Fatal"))
)]
async fn double(n: u32) -> Result<u32> {
    Ok(n * 2)
}

airlock::connector!(Github = "github_app");

macro_rules! workflow {
    (|$ctx:ident $(, $input:ident: $ty:ty)?| $body:expr) => {{
        #[airlock::workflow(name = "w")]
        async fn w($ctx: Workflow $(, $input: $ty)?) -> Result<Value> {
            $body
        }
        fn start(_: &str, context: Workflow, input: &str) -> Result<Run> {
            plugin::start::<w>(context, input)
        }
        Instance::new(
            Init {
                workflow: "w".into(),
                execution_id: "e".into(),
                run_id: "r".into(),
                input: "{}".into(),
                seed: 42,
                started_at_ms: 1_000,
            },
            start,
        )
    }};
}

/// Commands in words.
fn words(commands: Vec<Command>) -> Vec<String> {
    let word = |command| match command {
        Command::Begin(seq, Request::Activity { name, input, .. }) => {
            format!("{seq} activity {name} {input}")
        }
        Command::Begin(seq, Request::Timer { duration_ms }) => format!("{seq} timer {duration_ms}"),
        Command::Begin(seq, Request::Tool { slot, tool, arguments }) => {
            format!("{seq} tool {slot} {tool} {arguments}")
        }
        Command::Begin(seq, Request::ListTools(slot)) => format!("{seq} list {slot}"),
        Command::Begin(seq, Request::AwaitAuth(slot)) => format!("{seq} auth {slot}"),
        Command::Cancel(seq) => format!("cancel {seq}"),
        Command::Emit(event) => format!("emit {:?} {}", event.phase, event.payload),
        Command::Complete(output) => format!("complete {output}"),
        Command::Fail(error) => format!("fail {error:?}"),
        Command::Cancelled => "cancelled".to_owned(),
    };
    commands.into_iter().map(word).collect()
}

fn ok(seq: u32, json: Value) -> Job {
    Job::Resolved(seq, Ok(json.to_string()))
}

fn step(instance: &mut Instance, jobs: impl IntoIterator<Item = Job>) -> Vec<String> {
    words(instance.activate(1_000, jobs))
}

fn cancel() -> Job {
    Job::CancelRequested("enough".into())
}

#[test]
fn steps_run_one_after_the_other() {
    let mut run = workflow!(|ctx| {
        let a = ctx.activity(double, 1).await?;
        ctx.sleep(Duration::from_micros(1500)).await?;
        Ok(json!(ctx.activity(double, a).await?))
    });
    assert_eq!(step(&mut run, [Job::Started]), ["1 activity double 1"]);
    assert_eq!(step(&mut run, [ok(1, json!(2))]), ["2 timer 2"]);
    assert_eq!(step(&mut run, [Job::Resolved(2, Ok(String::new()))]), ["3 activity double 2"]);
    assert_eq!(step(&mut run, [ok(3, json!(4))]), [r#"complete {"result":4}"#]);
    assert!(step(&mut run, [ok(3, json!(4)), cancel()]).is_empty());
}

#[test]
fn options_of_a_call_travel_with_it() {
    let mut run = workflow!(|ctx| {
        let policy = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
        ctx.activity(double, 1).start_to_close(Duration::from_secs(1)).retry(policy).await?;
        Ok(Value::Null)
    });
    let commands = run.activate(0, [Job::Started]);
    let Command::Begin(1, Request::Activity { options, .. }) = &commands[0] else { panic!("{commands:?}") };
    assert_eq!(options.start_to_close, Some(Duration::from_secs(1)));
    assert_eq!(options.retry.as_ref().map(|retry| retry.attempts), Some(1));
    assert_eq!(options.heartbeat, None);
}

#[test]
fn definitions_come_from_types_and_attributes() {
    let definition = <double as airlock::Activity>::definition();
    assert_eq!(definition.options.start_to_close, Some(Duration::from_secs(30)));
    let retry = definition.options.retry.unwrap();
    assert_eq!((retry.attempts, retry.backoff, retry.max), (5, 3.0, Duration::from_secs(100)));
    assert_eq!(retry.non_retryable, ["Fatal"]);
    let schema: Value = serde_json::from_str(&definition.input_schema).unwrap();
    assert_eq!(schema["type"], "integer");
}

#[test]
fn an_activity_failure_keeps_its_kind() {
    let mut run = workflow!(|ctx| Ok(json!(ctx.activity(double, 1).await?)));
    step(&mut run, [Job::Started]);
    let failed = Job::Resolved(1, Err(Error::new("Fatal", "no luck").non_retryable()));
    assert_eq!(step(&mut run, [failed]), ["fail Fatal: no luck"]);
}

#[test]
fn joined_operations_begin_in_the_order_in_which_they_are_written() {
    let mut run = workflow!(|ctx| {
        let (a, b) = try_join!(ctx.activity(double, 1), ctx.activity(double, 2))?;
        Ok(json!([a, b]))
    });
    assert_eq!(step(&mut run, [Job::Started]), ["1 activity double 1", "2 activity double 2"]);
    assert!(step(&mut run, [ok(2, json!(4))]).is_empty());
    assert_eq!(step(&mut run, [ok(1, json!(2))]), [r#"complete {"result":[2,4]}"#]);
}

#[test]
fn a_wide_join_polls_only_the_branch_that_ended() {
    thread_local!(static POLLS: Cell<u32> = const { Cell::new(0) });
    let mut run = workflow!(|ctx| {
        let branches = (0..10_000).map(|n| {
            let mut call = ctx.activity(double, n);
            std::future::poll_fn(move |cx| {
                POLLS.set(POLLS.get() + 1);
                call.poll_unpin(cx)
            })
        });
        let results = join_all(branches).await;
        Ok(json!(results.len()))
    });
    assert_eq!(run.activate(0, [Job::Started]).len(), 10_000);
    POLLS.set(0);
    for seq in (2..=10_000).rev() {
        assert!(run.activate(0, [ok(seq, json!(1))]).is_empty());
    }
    assert_eq!(POLLS.get(), 9_999);
    assert_eq!(step(&mut run, [ok(1, json!(1))]), [r#"complete {"result":10000}"#]);
}

#[test]
fn dropping_an_operation_gives_it_up() {
    let mut run = workflow!(|ctx| {
        let first = select_biased! {
            value = ctx.activity(double, 1).fuse() => json!(value?),
            slept = ctx.sleep(Duration::from_secs(1)).fuse() => { slept?; json!("late") }
        };
        Ok(first)
    });
    assert_eq!(step(&mut run, [Job::Started]), ["1 activity double 1", "2 timer 1000"]);
    assert_eq!(step(&mut run, [ok(1, json!(2))]), ["cancel 2", r#"complete {"result":2}"#]);
}

#[test]
fn a_timeout_gives_up_what_it_limits() {
    let mut run = workflow!(|ctx| {
        let error = ctx.timeout(Duration::from_secs(5), ctx.activity(double, 1)).await.unwrap_err();
        Ok(json!(error.kind()))
    });
    assert_eq!(step(&mut run, [Job::Started]), ["1 activity double 1", "2 timer 5000"]);
    assert_eq!(step(&mut run, [ok(2, Value::Null)]), ["cancel 1", r#"complete {"result":"Timeout"}"#]);
}

#[test]
fn what_is_in_time_stops_the_timer() {
    let mut run =
        workflow!(|ctx| Ok(json!(ctx.timeout(Duration::from_secs(5), ctx.activity(double, 1)).await??)));
    step(&mut run, [Job::Started]);
    assert_eq!(step(&mut run, [ok(1, json!(2))]), ["cancel 2", r#"complete {"result":2}"#]);
}

#[test]
fn dropping_an_instance_gives_up_nothing() {
    let mut run = workflow!(|ctx| Ok(json!(ctx.activity(double, 1).await?)));
    step(&mut run, [Job::Started]);
    let shared = run.shared.clone();
    drop(run);
    assert!(shared.take_commands().is_empty());
}

#[test]
fn cancelling_ends_what_is_under_way_and_then_the_workflow() {
    let mut run = workflow!(|ctx| {
        let (a, b) = join!(ctx.activity(double, 1), ctx.sleep(Duration::from_secs(1)));
        b?;
        Ok(json!(a?))
    });
    step(&mut run, [Job::Started]);
    assert_eq!(step(&mut run, [cancel()]), ["cancel 1", "cancel 2", "cancelled"]);
}

#[test]
fn after_cancelling_only_shielded_operations_begin() {
    let mut run = workflow!(|ctx| {
        let error = ctx.activity(double, 1).await.unwrap_err();
        assert_eq!(error.message(), "cancelled: enough");
        assert!(ctx.activity(double, 2).await.unwrap_err().is_cancelled());
        ctx.shield(async { ctx.activity(double, 3).await }).await?;
        Err(error)
    });
    step(&mut run, [Job::Started]);
    assert_eq!(step(&mut run, [cancel()]), ["cancel 1", "2 activity double 3"]);
    assert_eq!(step(&mut run, [ok(2, json!(6))]), ["cancelled"]);
}

#[test]
fn a_shielded_operation_survives_cancelling_also_in_a_spawned_task() {
    let mut run = workflow!(|ctx| {
        let inner = ctx.clone();
        let spawn = async { Some(ctx.spawn(async move { inner.activity(double, 1).await })) };
        let shielded = ctx.shield(spawn).await.unwrap();
        let reason = ctx.cancelled().await;
        Ok(json!([reason, shielded.await?]))
    });
    assert_eq!(step(&mut run, [Job::Started]), ["1 activity double 1"]);
    assert!(step(&mut run, [cancel()]).is_empty());
    assert_eq!(step(&mut run, [ok(1, json!(2))]), [r#"complete {"result":["enough",2]}"#]);
}

#[test]
fn a_workflow_that_ignores_cancelling_completes() {
    let mut run = workflow!(|ctx| Ok(json!(ctx.activity(double, 1).await.is_err())));
    step(&mut run, [Job::Started]);
    assert_eq!(step(&mut run, [cancel()]), ["cancel 1", r#"complete {"result":true}"#]);
}

#[test]
fn a_cancelled_activity_of_a_run_that_is_not_cancelled_is_a_failure() {
    let mut run = workflow!(|ctx| Ok(json!(ctx.activity(double, 1).await?)));
    step(&mut run, [Job::Started]);
    let stopped = Job::Resolved(1, Err(Error::new(Error::CANCELLED, "stopped")));
    assert_eq!(step(&mut run, [stopped]), ["fail Cancelled: stopped"]);
}

#[test]
fn spawned_tasks_run_beside_the_body_and_end_with_it() {
    let mut run = workflow!(|ctx| {
        for n in 0..2 {
            let inner = ctx.clone();
            ctx.spawn(async move { inner.activity(double, n).await });
        }
        let inner = ctx.clone();
        let handle = ctx.spawn(async move { inner.activity(double, 9).await });
        Ok(json!(handle.await?))
    });
    assert_eq!(
        step(&mut run, [Job::Started]),
        ["1 activity double 0", "2 activity double 1", "3 activity double 9"]
    );
    assert_eq!(step(&mut run, [ok(3, json!(18))]), [r#"complete {"result":18}"#]);
}

#[test]
fn tools_authorisation_and_tasks_are_commands() {
    let mut run = workflow!(|ctx| {
        ctx.task("working", json!({"n": 0}), async |task| {
            ctx.await_auth::<Github>().await?;
            task.update(json!({"n": 1}))?;
            ctx.list_tools::<Github>().await?;
            let answer = ctx.call_tool::<Github>("star", json!({"a": 1})).await?;
            airlock::read_answer(&answer)
        })
        .await
    });
    assert_eq!(step(&mut run, [Job::Started]), [r#"emit Started {"n":0}"#, "1 auth github_app"]);
    let who = json!({"connector_name": "github_app", "connector_id": "1"});
    assert_eq!(step(&mut run, [ok(1, who)]), [r#"emit InProgress {"n":1}"#, "2 list github_app"]);
    assert_eq!(step(&mut run, [ok(2, json!([]))]), [r#"3 tool github_app star {"a":1}"#]);
    let answer = json!({"content": [{"type": "text", "text": "ok"}]});
    assert_eq!(step(&mut run, [ok(3, answer)]), [r#"emit Completed {"n":1}"#, r#"complete {"result":"ok"}"#]);
}

#[test]
fn a_failed_task_shows_its_message() {
    let mut run = workflow!(|ctx| ctx.task("working", (), async |_| Err(Error::new("Sad", "no"))).await);
    let commands = run.activate(0, [Job::Started]);
    let phases: Vec<_> = commands
        .iter()
        .filter_map(|command| if let Command::Emit(event) = command { Some(event.phase) } else { None })
        .collect();
    assert_eq!(phases, [TaskPhase::Started, TaskPhase::Failed]);
    assert_eq!(words(commands)[1], r#"emit Failed "no""#);
}

#[test]
fn the_same_jobs_give_the_same_commands() {
    let run = || {
        let mut run = workflow!(|ctx| {
            let ids = (ctx.uuid(), ctx.random());
            let results = join_all((0..50).map(|n| ctx.activity(double, n))).await;
            Ok(json!([ids, ctx.now(), results.into_iter().flatten().collect::<Vec<_>>()]))
        });
        let mut all = words(run.activate(5, [Job::Started]));
        for seq in (1..=50).rev() {
            all.extend(words(run.activate(6 + u64::from(seq), [ok(seq, json!(seq))])));
        }
        all
    };
    assert_eq!(run(), run());
    assert_eq!(run().len(), 51);
}

#[test]
fn a_wrong_input_fails_the_workflow_at_its_start() {
    let mut run = workflow!(|ctx, count: u32| {
        let _ = ctx;
        Ok(json!(count))
    });
    assert_eq!(step(&mut run, [Job::Started]), ["fail InvalidInput: missing field `count`"]);
}
