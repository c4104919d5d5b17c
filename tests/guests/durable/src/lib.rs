//! Guests for tests of durable execution: every feature once.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use airlock::{ActivityContext, Error, ParentClose, Result, RetryPolicy, Sent, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

airlock::signal!(
    /// Adds to the total.
    Add(n: i64) = "add"
);
airlock::signal!(Done() = "done");
airlock::query!(
    /// The total so far.
    Total() -> i64 = "total"
);
airlock::query!(Seen() -> Vec<String> = "seen");
airlock::query!(Explode() -> i64 = "explode");
airlock::update!(
    /// Sets the total, and gives the one before.
    Set(total: i64) -> i64 = "set"
);
airlock::update!(Slow(ms: u64) -> u64 = "slow");

/// Waits, as long as it says.
#[airlock::activity]
async fn pause(ms: u64) -> Result<u64> {
    // An activity has no timer: it looks at the clock.
    let end = std::time::Instant::now() + Duration::from_millis(ms);
    while std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(ms)
}

/// Gives back what it is given.
#[airlock::activity]
async fn same(value: Value) -> Result<Value> {
    Ok(value)
}

/// Goes one step further with each attempt, and fails until it has made three.
#[airlock::activity(retry(attempts = 5, initial = "10ms"))]
async fn stepwise(context: ActivityContext) -> Result<u32> {
    let before: u32 = context.heartbeat_details().unwrap_or_default();
    context.heartbeat_with(before + 1)?;
    if before < 2 { Err(Error::new("NotYet", format!("{before} steps"))) } else { Ok(before + 1) }
}

/// Runs until it is cancelled, and says so.
#[airlock::activity(start_to_close = "1h", heartbeat = "2s")]
async fn until_cancelled(context: ActivityContext) -> Result<()> {
    while !context.is_cancelled() {
        context.heartbeat();
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::new(Error::CANCELLED, "noticed").non_retryable())
}

/// Adds up what it is told until it is told that it is done.
#[airlock::workflow(
    name = "counter",
    signals(Add, Done),
    queries(Total, Seen, Explode),
    updates(Set, Slow),
    execution_timeout = "30d"
)]
async fn counter(ctx: Workflow) -> Result<i64> {
    let total = Rc::new(Cell::new(0));
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (asked, senders) = (total.clone(), seen.clone());
    ctx.on_query::<Total>(move |()| Ok(asked.get()));
    ctx.on_query::<Seen>(move |()| Ok(senders.borrow().clone()));
    ctx.on_query::<Explode>(|()| panic!("as asked"));
    let (added, senders) = (total.clone(), seen.clone());
    ctx.on_signal::<Add>(move |sent| {
        senders.borrow_mut().push(format!("{} from {}", sent.value, sent.sender));
        added.set(added.get() + sent.value);
    });
    let set = total.clone();
    ctx.on_valid_update::<Set, _>(
        |sent: &Sent<i64>| {
            if sent.value < 0 { Err(Error::new("Negative", "a total is at least 0")) } else { Ok(()) }
        },
        move |sent| {
            let before = set.replace(sent.value);
            async move { Ok(before) }
        },
    );
    let inner = ctx.clone();
    ctx.on_update::<Slow, _>(move |sent| {
        let ctx = inner.clone();
        async move { ctx.activity(pause, sent.value).await }
    });
    ctx.signal::<Done>().await?;
    Ok(total.get())
}

/// Counts to `to`, a run for each number.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Count {
    at: u32,
    to: u32,
    #[serde(default)]
    runs: Vec<String>,
}

/// Continues as new until it has counted far enough.
#[airlock::workflow(name = "ticker", search_keys("to"))]
async fn ticker(ctx: Workflow, mut count: Count) -> Result<Count> {
    ctx.set_search_key("at", count.at)?;
    ctx.activity(same, json!(count.at)).await?;
    count.runs.push(ctx.run_id().to_owned());
    if count.at < count.to {
        count.at += 1;
        return ctx.continue_as_new(count);
    }
    Ok(count)
}

/// How many children, and how many of them at once.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Fan {
    children: u32,
    at_once: usize,
}

/// A child's work.
#[airlock::workflow(name = "square")]
async fn square(ctx: Workflow, n: u32) -> Result<u32> {
    let value = ctx.activity(same, json!(n)).await?;
    let n = value.as_u64().unwrap_or_default() as u32;
    if n == 13 { Err(Error::new("Unlucky", "13 is not squared")) } else { Ok(n * n) }
}

/// Starts children and adds up what they give.
#[airlock::workflow(name = "squares")]
async fn squares(ctx: Workflow, fan: Fan) -> Result<u64> {
    let inner = ctx.clone();
    let results = ctx
        .parallel(0..fan.children, fan.at_once, move |n| {
            let ctx = inner.clone();
            async move {
                match ctx.child(square, n).await {
                    Err(error) if error.kind() == "Unlucky" => Ok(0),
                    other => other,
                }
            }
        })
        .await?;
    Ok(results.into_iter().map(u64::from).sum())
}

/// Steps of one activity, so many at once.
#[airlock::workflow(name = "steps")]
async fn steps(ctx: Workflow, fan: Fan) -> Result<usize> {
    let inner = ctx.clone();
    let results = ctx
        .parallel(0..fan.children, fan.at_once, move |n| {
            let ctx = inner.clone();
            async move { ctx.activity(same, json!(n)).await }
        })
        .await?;
    Ok(results.len())
}

/// Starts three children of each fate, waits until they have begun, and then for a signal.
#[airlock::workflow(name = "family", signals(Done), execution_timeout = "1d")]
async fn family(ctx: Workflow, name: String) -> Result<String> {
    let mut children = Vec::new();
    for (fate, policy) in [
        ("terminated", ParentClose::Terminate),
        ("cancelled", ParentClose::RequestCancel),
        ("abandoned", ParentClose::Abandon),
    ] {
        let child = ctx.child(counter, ()).id(format!("{name}-{fate}")).parent_close(policy);
        children.push(child.start().await?);
    }
    ctx.signal::<Done>().await?;
    // They are let go of by the end of this workflow, not by being dropped before it.
    std::mem::forget(children);
    Ok(name)
}

/// Starts a child, gives it up, and waits.
#[airlock::workflow(name = "gives-up", signals(Done))]
async fn gives_up(ctx: Workflow, name: String) -> Result<String> {
    let child = ctx.child(counter, ()).id(format!("{name}-child")).start().await?;
    drop(child);
    ctx.signal::<Done>().await?;
    Ok(name)
}

/// Starts a child with the policy that nobody chose, and waits for its result.
#[airlock::workflow(name = "parental")]
async fn parental(ctx: Workflow, name: String) -> Result<i64> {
    ctx.child(counter, ()).id(format!("{name}-child")).await
}

/// Sends what it is told to another execution.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Tell {
    execution_id: String,
    n: i64,
    then_cancel: bool,
}

/// Signals another execution.
#[airlock::workflow(name = "teller")]
async fn teller(ctx: Workflow, tell: Tell) -> Result<Option<String>> {
    if let Err(error) = ctx.signal_execution::<Add>(&tell.execution_id, &tell.n).await {
        return Ok(Some(error.kind().to_owned()));
    }
    if tell.then_cancel {
        ctx.cancel_execution(&tell.execution_id, "told so").await?;
    }
    Ok(None)
}

/// Acts on behalf of its caller.
#[airlock::workflow(name = "personal", on_behalf_of)]
async fn personal(ctx: Workflow) -> Result<bool> {
    Ok(ctx.parent().is_some())
}

/// Does not, and starts one that does.
#[airlock::workflow(name = "impersonal")]
async fn impersonal(ctx: Workflow) -> Result<String> {
    Ok(ctx.child(personal, ()).await.err().map_or_else(String::new, |error| error.kind().to_owned()))
}

/// Does as well, and starts one that does.
#[airlock::workflow(name = "delegates", on_behalf_of)]
async fn delegates(ctx: Workflow) -> Result<bool> {
    ctx.child(personal, ()).await
}

/// Fails until its third run.
#[airlock::workflow(name = "third-time", retry(attempts = 4, initial = "20ms"))]
async fn third_time(ctx: Workflow) -> Result<u32> {
    ctx.activity(same, json!(ctx.attempt())).await?;
    if ctx.attempt() < 3 { Err(Error::new("Unlucky", "not this time")) } else { Ok(ctx.attempt()) }
}

/// An activity whose progress survives its failures.
#[airlock::workflow(name = "progress")]
async fn progress(ctx: Workflow) -> Result<u32> {
    ctx.activity(stepwise, ()).await
}

/// Asks a person.
#[airlock::workflow(name = "form", execution_timeout = "7d")]
async fn form(ctx: Workflow) -> Result<Value> {
    let answer: Answer = ctx.wait_for_input().label("Your order").get().await?;
    Ok(json!({ "ordered": answer.dish }))
}

/// What a person is asked for.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Answer {
    dish: String,
}

/// Who ordered what.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    customer: String,
    #[serde(default)]
    item: Option<Item>,
}

/// What was ordered.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Item {
    sku: String,
}

/// Has search keys, and waits.
#[airlock::workflow(name = "labelled", search_keys("customer", "item.sku"), signals(Done))]
async fn labelled(ctx: Workflow, order: Order) -> Result<()> {
    ctx.set_search_key("stage", "waiting")?;
    ctx.signal::<Done>().await?;
    ctx.set_search_key("stage", "done")?;
    ctx.remove_search_key("item.sku")?;
    let _ = order;
    Ok(())
}

/// Runs an activity that ends when it is cancelled.
#[airlock::workflow(name = "patient")]
async fn patient(ctx: Workflow) -> Result<()> {
    ctx.activity(until_cancelled, ()).await
}

/// Which limit to reach.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Limit {
    ScheduleToStart,
    StartToClose,
    ScheduleToClose,
    Heartbeat,
}

/// Reaches a limit, and says which one its failure names.
#[airlock::workflow(name = "late")]
async fn late(ctx: Workflow, limit: Limit) -> Result<Option<String>> {
    let short = Duration::from_millis(60);
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let failed = match limit {
        Limit::ScheduleToStart => {
            // More than the host runs at once: the last one has to stand in line.
            for _ in 0..300 {
                let inner = ctx.clone();
                ctx.spawn(async move { inner.activity(pause, 2_000).await });
            }
            // All of them stand in line by then.
            ctx.sleep(Duration::from_millis(500)).await?;
            ctx.activity(pause, 1).schedule_to_start(short).await
        }
        Limit::StartToClose => ctx.activity(pause, 5_000).start_to_close(short).retry(once).await,
        Limit::ScheduleToClose => ctx.activity(pause, 5_000).schedule_to_close(short).retry(once).await,
        Limit::Heartbeat => ctx.activity(pause, 5_000).heartbeat(short).retry(once).await,
    };
    Ok(failed.err().and_then(|error| error.timeout().map(str::to_owned)))
}

/// Makes a history of `n` events and more.
#[airlock::workflow(name = "verbose")]
async fn verbose(ctx: Workflow, n: u32) -> Result<bool> {
    for k in 0..n {
        ctx.activity(same, json!(k)).await?;
    }
    Ok(ctx.should_continue_as_new())
}

/// Gives back a text of so many bytes, by way of an activity.
#[airlock::workflow(name = "large")]
async fn large(ctx: Workflow, bytes: usize) -> Result<String> {
    let text = ctx.activity(same, json!("x".repeat(bytes))).await?;
    Ok(text.as_str().unwrap_or_default().to_owned())
}

/// Where to panic.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Where {
    Start,
    AfterAStep,
    Activity,
    Update,
}

/// Panics.
#[airlock::activity(retry(attempts = 1))]
async fn panics() -> Result<()> {
    panic!("in the activity")
}

/// Panics where it is told to.
#[airlock::workflow(name = "panics", updates(Slow))]
async fn panicking(ctx: Workflow, place: Where) -> Result<String> {
    match place {
        Where::Start => panic!("at the start"),
        Where::AfterAStep => {
            ctx.activity(same, Value::Null).await?;
            panic!("after a step")
        }
        Where::Activity => match ctx.activity(panics, ()).await {
            Err(error) => Ok(error.kind().to_owned()),
            Ok(()) => Ok("nothing happened".to_owned()),
        },
        Where::Update => {
            ctx.on_update::<Slow, _>(|_| async { panic!("in the update") });
            ctx.sleep(Duration::from_secs(600)).await?;
            Ok("nobody asked".to_owned())
        }
    }
}

/// A number that no double holds.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Wide {
    n: u128,
}

/// Gives back what it is given.
#[airlock::workflow(name = "wide")]
async fn wide(_ctx: Workflow, wide: Wide) -> Result<Wide> {
    Ok(wide)
}

airlock::plugin!(
    workflows: [
        counter, ticker, square, squares, steps, family, gives_up, parental, teller, personal,
        impersonal, delegates, third_time, progress, form, labelled,
        patient, late, verbose, large, panicking, wide
    ],
    activities: [pause, same, stepwise, until_cancelled, panics],
);
