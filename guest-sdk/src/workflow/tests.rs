//! The executor against a host that is a list of jobs.

use std::{cell::Cell, time::Duration};

use serde_json::{Value, json};

use super::{
    Instance, Run, Workflow,
    protocol::{Command, Init, Job, Message, Request, Turn},
};
use crate::{
    self as airlock, Error, FutureExt, Result, RetryPolicy, TaskPhase, join, join_all, plugin, select_biased,
    tools::ToolRequest, try_join,
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
        #[airlock::workflow(name = "w", connectors(Github), signals(Add), queries(Sum), updates(Limit))]
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
                parent: None,
                attempt: 1,
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
        Command::Begin(seq, Request::Tool(ToolRequest { slot, tool, arguments, .. })) => {
            format!("{seq} tool {slot} {tool} {arguments}")
        }
        Command::Begin(seq, Request::ListTools(slot)) => format!("{seq} list {slot}"),
        Command::Begin(seq, Request::AwaitAuth(slot)) => format!("{seq} auth {slot}"),
        Command::Begin(seq, Request::Child(child)) => {
            format!("{seq} child {} {} {:?} {}", child.workflow, child.input, child.close, child.await_start)
        }
        Command::Begin(seq, Request::Signal { execution_id, name, input }) => {
            format!("{seq} signal {execution_id} {name} {input}")
        }
        Command::Begin(seq, Request::CancelExecution { execution_id, reason }) => {
            format!("{seq} cancel execution {execution_id} {reason}")
        }
        Command::UpdateAccepted(id) => format!("accept {id}"),
        Command::UpdateRejected(id, error) => format!("reject {id}: {}", error.message()),
        Command::UpdateCompleted(id, outcome) => format!("answer {id}: {outcome:?}"),
        Command::SearchKeys(keys) => format!("keys {keys:?}"),
        Command::Patched(id) => format!("patched {id}"),
        Command::ContinueAsNew(input) => format!("continue {input}"),
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
fn a_tool_call_takes_options_until_it_is_awaited() {
    let mut run = workflow!(|ctx| {
        let call = ctx.call_tool::<Github>("star", json!({})).credentials("work").retries(2);
        call.timeout(Duration::from_secs(3)).mock(true).data::<Value>().await
    });
    let commands = run.activate(0, [Job::Started]);
    let [Command::Begin(1, Request::Tool(call))] = &commands[..] else { panic!("{commands:?}") };
    let options = airlock::CallOptions {
        timeout: Some(Duration::from_secs(3)),
        retries: Some(2),
        credentials_name: Some("work".into()),
        use_mock: Some(true),
    };
    assert_eq!(call.options, options);
    let answer = json!({"metadata": {"mcp_meta": {"structuredContent": {"success": true, "data": 7}}}});
    assert_eq!(step(&mut run, [ok(1, answer)]), [r#"complete {"result":7}"#]);
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

airlock::signal!(
    /// Adds to the sum.
    Add(n: u32) = "add"
);
airlock::query!(Sum() -> u32 = "sum");
airlock::update!(Limit(limit: u32) -> u32 = "limit");

fn say(name: &str, input: Value) -> Message {
    Message { name: name.into(), input: input.to_string(), sender: "ada".into() }
}

#[test]
fn signals_wait_until_they_are_taken_in_their_order() {
    let mut run = workflow!(|ctx| {
        ctx.activity(double, 1).await?;
        let first = ctx.signal_sent::<Add>().await?;
        let second = ctx.signal::<Add>().await?;
        Ok(json!([first.value, first.sender, second]))
    });
    step(&mut run, [Job::Started, Job::Signal(say("add", json!({"n": 1})))]);
    assert!(step(&mut run, [Job::Signal(say("other", json!({})))]).is_empty());
    assert!(step(&mut run, [ok(1, json!(2))]).is_empty());
    let end = step(&mut run, [Job::Signal(say("add", json!({"n": 2})))]);
    assert_eq!(end, [r#"complete {"result":[1,"ada",2]}"#]);
}

#[test]
fn a_wait_for_a_signal_ends_when_the_execution_is_cancelled() {
    let mut run = workflow!(|ctx| Ok(json!(ctx.signal::<Add>().await?)));
    step(&mut run, [Job::Started]);
    assert_eq!(step(&mut run, [cancel()]), ["cancelled"]);
}

#[test]
fn a_handler_hears_of_signals_before_the_body_goes_on_and_conditions_are_looked_at_again() {
    let mut run = workflow!(|ctx| {
        let sum = std::rc::Rc::new(Cell::new(0));
        let added = sum.clone();
        ctx.on_signal::<Add>(move |sent| added.set(added.get() + sent.value));
        ctx.wait_until(|| sum.get() >= 5).await?;
        Ok(json!(sum.get()))
    });
    step(&mut run, [Job::Signal(say("add", json!({"n": 2}))), Job::Started]);
    assert!(step(&mut run, [Job::Signal(say("add", json!({"n": 2})))]).is_empty());
    let end = step(&mut run, [Job::Signal(say("add", json!({"n": 2})))]);
    assert_eq!(end, [r#"complete {"result":6}"#]);
}

#[test]
fn one_condition_can_make_another_true_in_the_same_turn() {
    let mut run = workflow!(|ctx| {
        let state = std::rc::Rc::new(Cell::new(0));
        let (first, inner) = (state.clone(), ctx.clone());
        let handle = ctx.spawn(async move {
            inner.wait_until(|| first.get() == 1).await?;
            first.set(2);
            Ok::<_, Error>(())
        });
        ctx.activity(double, 1).await?;
        state.set(1);
        ctx.wait_until(|| state.get() == 2).await?;
        handle.await?;
        Ok(json!(state.get()))
    });
    step(&mut run, [Job::Started]);
    assert_eq!(step(&mut run, [ok(1, json!(1))]), [r#"complete {"result":2}"#]);
}

#[test]
fn queries_see_the_state_and_leave_no_trace_also_after_the_end() {
    let mut run = workflow!(|ctx| {
        let sum = std::rc::Rc::new(Cell::new(0));
        let (seen, inner) = (sum.clone(), ctx.clone());
        ctx.on_query::<Sum>(move |()| {
            inner.random();
            Ok(seen.get())
        });
        let before = ctx.activity(double, 1).await?;
        sum.set(before);
        Ok(json!(ctx.random()))
    });
    step(&mut run, [Job::Started]);
    assert_eq!(run.query("sum", "{}").unwrap(), "0");
    let end = step(&mut run, [ok(1, json!(7))]);
    assert_eq!(run.query("sum", "{}").unwrap(), "7");
    assert_eq!(run.query("none", "{}").unwrap_err().kind(), "NotFound");
    // The same random number as without the questions.
    let mut other = workflow!(|ctx| {
        ctx.activity(double, 1).await?;
        Ok(json!(ctx.random()))
    });
    step(&mut other, [Job::Started]);
    assert_eq!(step(&mut other, [ok(1, json!(7))]), end);
}

#[test]
fn a_query_that_would_start_something_is_refused() {
    let mut run = workflow!(|ctx| {
        let inner = ctx.clone();
        ctx.on_query::<Sum>(move |()| {
            inner.set_search_key("a", 1)?;
            Ok(1)
        });
        ctx.sleep(Duration::from_secs(1)).await?;
        Ok(Value::Null)
    });
    step(&mut run, [Job::Started]);
    assert!(run.query("sum", "{}").unwrap_err().message().contains("a query cannot"));
    assert_eq!(step(&mut run, [Job::Resolved(1, Ok(String::new()))]), ["complete null"]);
}

#[test]
fn updates_are_validated_accepted_and_answered() {
    let mut run = workflow!(|ctx| {
        let limit = std::rc::Rc::new(Cell::new(1));
        let (changed, inner) = (limit.clone(), ctx.clone());
        ctx.on_valid_update::<Limit, _>(
            |sent| if sent.value > 9 { Err(Error::new("TooHigh", "at most 9")) } else { Ok(()) },
            move |sent| {
                let (ctx, limit) = (inner.clone(), changed.clone());
                async move {
                    ctx.activity(double, sent.value).await?;
                    Ok(limit.replace(sent.value))
                }
            },
        );
        ctx.wait_until(|| limit.get() == 5).await?;
        Ok(Value::Null)
    });
    assert!(step(&mut run, [Job::Started]).is_empty());
    let update = |id: &str, n: u32| Job::Update(id.into(), say("limit", json!({"limit": n})));
    assert_eq!(step(&mut run, [update("a", 10)]), ["reject a: at most 9"]);
    assert_eq!(step(&mut run, [update("b", 5)]), ["accept b", "1 activity double 5"]);
    let end = step(&mut run, [ok(1, json!(10))]);
    assert_eq!(end, [r#"answer b: Ok("1")"#, "complete null"]);
}

#[test]
fn an_update_without_a_handler_is_rejected_when_the_body_had_its_chance() {
    let mut run = workflow!(|ctx| {
        ctx.on_update::<Limit, _>(|sent| async move { Ok(sent.value) });
        ctx.sleep(Duration::from_secs(1)).await?;
        Ok(Value::Null)
    });
    let update = |name: &str| Job::Update(name.into(), say(name, json!({"limit": 1})));
    let commands = step(&mut run, [Job::Started, update("limit"), update("nothing")]);
    assert_eq!(commands[0], "1 timer 1000");
    assert!(
        commands.contains(&"accept limit".to_owned())
            && commands.contains(&r#"answer limit: Ok("1")"#.to_owned())
    );
    assert!(commands.iter().any(|line| line.starts_with("reject nothing")), "{commands:?}");
}

#[test]
fn children_can_be_awaited_for_their_start_and_for_their_result() {
    let mut run = workflow!(|ctx| {
        let one = ctx.child_named::<Value>("other", json!({"a": 1})).id("mine").start().await?;
        one.signal::<Add>(&3).await?;
        let id = one.execution_id().to_owned();
        let result: u32 =
            ctx.child_named("third", json!({})).parent_close(crate::ParentClose::Abandon).await?;
        Ok(json!([id, result, one.await?]))
    });
    assert_eq!(step(&mut run, [Job::Started]), [r#"1 child other {"a":1} RequestCancel true"#]);
    let begun = step(&mut run, [Job::ChildStarted(1, Ok("mine".into()))]);
    assert_eq!(begun, [r#"2 signal mine add {"n":3}"#]);
    assert_eq!(step(&mut run, [ok(2, Value::Null)]), ["3 child third {} Abandon false"]);
    // The result comes while somebody waits for something else.
    assert!(step(&mut run, [ok(1, json!({"b": 2}))]).is_empty());
    let end = step(&mut run, [ok(3, json!({"result": 4}))]);
    assert_eq!(end, [r#"complete {"result":["mine",4,{"b":2}]}"#]);
}

#[test]
fn a_child_that_cannot_begin_is_an_error_and_a_dropped_one_is_given_up() {
    let mut run = workflow!(|ctx| {
        let error = ctx.child_named::<Value>("none", json!({})).start().await.err().unwrap();
        let child = ctx.child_named::<Value>("some", json!({})).start().await?;
        drop(child);
        Ok(json!(error.kind()))
    });
    step(&mut run, [Job::Started]);
    step(&mut run, [Job::ChildStarted(1, Err(Error::new("NotFound", "no workflow")))]);
    let end = step(&mut run, [Job::ChildStarted(2, Ok("id".into()))]);
    assert_eq!(end, ["cancel 2", r#"complete {"result":"NotFound"}"#]);
}

#[test]
fn a_workflow_continues_as_new_with_its_parameter_around_a_scalar() {
    let mut run = workflow!(|ctx| ctx.continue_as_new(()));
    assert_eq!(step(&mut run, [Job::Started]), ["continue {}"]);
    let mut run = workflow!(|ctx| ctx.continue_as_new(json!({"n": 2})));
    assert_eq!(step(&mut run, [Job::Started]), ["fail InvalidInput: it takes no input: give ()"]);
    #[airlock::workflow(name = "w")]
    async fn w(ctx: Workflow, n: u32) -> Result<u32> {
        ctx.continue_as_new(n + 1)
    }
    let init = Init {
        workflow: "w".into(),
        execution_id: "e".into(),
        run_id: "r".into(),
        input: r#"{"n":1}"#.into(),
        seed: 1,
        started_at_ms: 1,
        parent: None,
        attempt: 1,
    };
    let mut run = Instance::new(init, |_, context, input| plugin::start::<w>(context, input));
    assert_eq!(step(&mut run, [Job::Started]), [r#"continue {"n":2}"#]);
}

#[test]
fn a_patch_applies_from_the_first_live_turn_on() {
    let run = || {
        workflow!(|ctx| {
            let mut seen = Vec::new();
            for _ in 0..3 {
                seen.push(ctx.patched("new"));
                ctx.activity(double, 1).await?;
            }
            Ok(json!(seen))
        })
    };
    let replayed = |now_ms: u64, patches: &[&str]| Turn {
        now_ms,
        replaying: true,
        patches: patches.iter().map(|&id| id.to_owned()).collect(),
        ..Turn::default()
    };
    // Its first turn is of before the patch, the second is live, and later both are repeated.
    let mut live = run();
    assert_eq!(words(live.activate(replayed(1, &[]), [Job::Started])), ["1 activity double 1"]);
    assert_eq!(step(&mut live, [ok(1, json!(1))]), ["patched new", "2 activity double 1"]);
    let mut again = run();
    words(again.activate(replayed(1, &[]), [Job::Started]));
    let second = words(again.activate(replayed(1, &["new"]), [ok(1, json!(1))]));
    assert_eq!(second, ["patched new", "2 activity double 1"]);
    step(&mut again, [ok(2, json!(1))]);
    assert_eq!(step(&mut again, [ok(3, json!(1))]), [r#"complete {"result":[false,true,true]}"#]);
}

#[test]
fn results_of_parallel_work_keep_the_order_of_the_items_and_the_limit() {
    let mut run = workflow!(|ctx| {
        let inner = ctx.clone();
        Ok(json!(
            ctx.parallel(0..4, 2, |n| {
                let ctx = inner.clone();
                async move { ctx.activity(double, n).await }
            })
            .await?
        ))
    });
    assert_eq!(step(&mut run, [Job::Started]), ["1 activity double 0", "2 activity double 1"]);
    assert!(step(&mut run, [ok(2, json!(2))]).len() <= 1);
    let mut next = step(&mut run, [ok(1, json!(0))]);
    next.extend(step(&mut run, [ok(3, json!(4))]));
    assert_eq!(step(&mut run, [ok(4, json!(6))]), [r#"complete {"result":[0,2,4,6]}"#]);
}

#[test]
fn who_asks_what_is_open_hears_until_when() {
    let mut run = workflow!(|ctx| {
        let n: u32 = ctx.wait_for_input().timeout(Duration::from_secs(60)).get().await?;
        Ok(json!(n))
    });
    let asked = step(&mut run, [Job::Started]);
    assert!(!asked[0].contains("expires"), "what is recorded is as it was: {asked:?}");
    let pending: Value = serde_json::from_str(&run.query("__get_pending_inputs", "{}").unwrap()).unwrap();
    let at = pending["pending_inputs"][0]["expires_at_ms"].as_u64().unwrap();
    assert!(at >= 60_000, "{pending}");
}

#[test]
fn people_are_asked_and_a_wrong_answer_is_rejected() {
    let mut run = workflow!(|ctx| {
        let n: u32 = ctx.wait_for_input().label("How many?").get().await?;
        Ok(json!(n))
    });
    let asked = step(&mut run, [Job::Started]);
    assert!(asked[0].starts_with("emit Started") && asked[0].contains("How many?"), "{asked:?}");
    let pending: Value = serde_json::from_str(&run.query("__get_pending_inputs", "{}").unwrap()).unwrap();
    let task = pending["pending_inputs"][0]["task_id"].as_str().unwrap().to_owned();
    let submit = |id: &str, task: &str, input: Value| {
        Job::Update(id.into(), say("__submit_input", json!({"task_id": task, "input": input})))
    };
    let refused = step(&mut run, [submit("a", &task, json!("x"))]);
    assert!(refused[0].starts_with(&format!("reject a: Invalid input for task {task}")), "{refused:?}");
    let refused = step(&mut run, [submit("b", "t", json!(1))]);
    assert_eq!(refused, ["reject b: No pending input request found for task t"]);
    let done = step(&mut run, [submit("c", &task, json!(3))]);
    assert_eq!(&done[..2], ["accept c", r#"answer c: Ok("{}")"#]);
    assert_eq!(done.last().unwrap(), r#"complete {"result":3}"#);
}

mod beside;
