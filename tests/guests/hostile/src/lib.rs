//! A plugin that means harm. Each behaviour is an activity's or a workflow's, chosen by the input, so that a test names
//! what it expects the host to withstand.

mod harm;
mod memory;

use airlock::{Activity, ActivityContext, FutureExt, Result, TaskEvent, TaskPhase, Tools, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

airlock::connector!(Reflector = "reflector", auto_auth = false);
airlock::connector!(
    /// No workflow here declares it.
    Undeclared = "undeclared"
);

/// What an activity does.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Deed {
    /// Never ends.
    Loop,
    /// Takes memory until there is no more.
    Memory,
    /// Calls itself until the stack ends.
    Recursion,
    /// Panics.
    Panic,
    /// Leaves by `exit`.
    Exit,
    /// Shows events as fast as it can.
    EventFlood,
    /// Shows one event of 1 MiB.
    HugeEvent,
    /// Returns 64 MiB.
    GiantResult,
    /// Fails with a message of 1 MiB.
    GiantError,
    /// Tells everything that it can see of the host.
    Environment,
    /// Logs as fast as it can.
    LogFlood,
    /// Writes to stderr as fast as it can.
    StderrFlood,
    /// Calls a tool with 64 MiB of arguments.
    HugeArguments,
    /// Calls a tool of a connector that nobody declared.
    UndeclaredSlot,
    /// Starts 100,000 calls and holds them.
    Handles,
    /// Waits until it is cancelled.
    Hang,
    /// Sleeps for an hour in the host.
    Sleep,
    /// Takes 200 MB and waits until it is cancelled.
    Hoard,
}

/// What a workflow does.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Plot {
    /// Never ends.
    Loop,
    /// Takes memory until there is no more.
    Memory,
    /// Calls itself until the stack ends.
    Recursion,
    /// Panics.
    Panic,
    /// Panics in the third activation.
    PanicLater,
    /// Schedules a million activities at once.
    CommandFlood,
    /// Emits a million events at once.
    EventFlood,
    /// Returns 64 MiB.
    GiantResult,
    /// Tells everything that it can see of the host.
    Environment,
    /// Logs as fast as it can.
    LogFlood,
    /// Calls an activity's import.
    ActivityImport,
    /// Sleeps in the host instead of with a timer.
    Sleep,
    /// Depends on something that is not the host's: it waits for ever.
    Hang,
    /// Schedules an activity that does not exist.
    UnknownActivity,
    /// Takes 100 MB and waits for ever.
    Hoard,
}

/// Does harm as an activity.
#[airlock::activity(name = "deed", start_to_close = "30s", retry(attempts = 1))]
async fn deed(deed: Deed, ctx: ActivityContext, reflector: Tools<Reflector>) -> Result<Value> {
    match deed {
        Deed::Loop => harm::endless_loop(),
        Deed::Memory => harm::take_memory(),
        Deed::Recursion => return Ok(json!(harm::recurse(0))),
        Deed::Panic => panic!("the hostile activity panics"),
        Deed::Exit => std::process::exit(0),
        Deed::EventFlood => {
            for n in 0..1_000_000 {
                ctx.emit(event(json!(n)))?;
            }
        }
        Deed::HugeEvent => ctx.emit(event(json!("x".repeat(1 << 20))))?,
        Deed::GiantResult => return Ok(json!("x".repeat(64 << 20))),
        Deed::GiantError => return Err(airlock::Error::new("Giant", "x".repeat(1 << 20))),
        Deed::Environment => return Ok(harm::environment()),
        Deed::LogFlood => {
            for n in 0..1_000_000 {
                airlock::log::info!("line {n}");
            }
        }
        Deed::StderrFlood => {
            for n in 0..1_000_000 {
                eprintln!("line {n}");
            }
        }
        Deed::HugeArguments => return reflector.call("echo", json!({"message": "x".repeat(64 << 20)})).await,
        Deed::UndeclaredSlot => return undeclared().await,
        Deed::Handles => {
            let mut calls: Vec<_> =
                (0..100_000).map(|_| Box::pin(reflector.call("echo", json!({})))).collect();
            std::future::poll_fn(|cx| {
                for call in &mut calls {
                    let _ = call.poll_unpin(cx);
                }
                std::task::Poll::Ready(())
            })
            .await;
        }
        Deed::Hang => ctx.cancelled().await,
        Deed::Hoard => {
            let taken = harm::hoard(200);
            ctx.cancelled().await;
            drop(taken);
        }
        Deed::Sleep => std::thread::sleep(std::time::Duration::from_secs(3600)),
    }
    Ok(json!("done"))
}

async fn undeclared() -> Result<Value> {
    Ok(json!(airlock::await_auth::<Undeclared>().await?.connector_name))
}

/// What to look for in the guest's own memory. The bytes are inverted, so that the input itself is not what is found.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Search {
    /// Tools to call first, with their arguments.
    calls: Vec<(String, Value)>,
    needles: Vec<Vec<u8>>,
}

/// What was found in memory after something was done.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Found {
    after: String,
    /// The numbers of the needles.
    needles: Vec<usize>,
    bytes: usize,
}

impl Search {
    fn after(&self, after: &str) -> Found {
        let (needles, bytes) = memory::search(&self.needles);
        Found { after: after.to_owned(), needles, bytes }
    }
}

/// Does what gives an activity something to see, and searches its memory after each.
#[airlock::activity(name = "search-memory", retry(attempts = 1))]
async fn search_memory(search: Search, reflector: Tools<Reflector>) -> Result<Vec<Found>> {
    let mut found = vec![search.after("nothing")];
    for (tool, arguments) in &search.calls {
        let answer = reflector.call(tool, arguments).await;
        found.push(search.after(tool));
        drop(answer);
    }
    let tools = reflector.list().await;
    found.push(search.after("a list of tools"));
    drop(tools);
    let authorised = airlock::await_auth::<Reflector>().await;
    found.push(search.after("authorisation"));
    drop(authorised);
    Ok(found)
}

/// The same in an activity.
#[airlock::workflow(name = "search", on_behalf_of, connectors(Reflector))]
async fn search_in_activity(ctx: Workflow, search: Search) -> Result<Vec<Found>> {
    ctx.activity(search_memory, search).await
}

/// The same in a workflow.
#[airlock::workflow(name = "search-in-workflow", on_behalf_of, connectors(Reflector))]
async fn search_in_workflow(ctx: Workflow, search: Search) -> Result<Vec<Found>> {
    let mut found = vec![search.after("nothing")];
    for (tool, arguments) in &search.calls {
        let answer = ctx.call_tool::<Reflector>(tool, arguments).await;
        found.push(search.after(tool));
        drop(answer);
    }
    let tools = ctx.list_tools::<Reflector>().await;
    found.push(search.after("a list of tools"));
    drop(tools);
    let authorised = ctx.await_auth::<Reflector>().await;
    found.push(search.after("authorisation"));
    drop(authorised);
    Ok(found)
}

/// Runs a deed.
#[airlock::workflow(name = "hostile", connectors(Reflector))]
async fn hostile(ctx: Workflow, deed: Deed) -> Result<Value> {
    ctx.activity(self::deed, deed).await
}

/// Schedules what the plugin does not have.
#[derive(Debug, Clone, Copy)]
struct Missing;

fn missing() -> Missing {
    Missing
}

impl Activity for Missing {
    const NAME: &'static str = "missing";
    type Input = ();
    type Output = ();

    fn definition() -> airlock::ActivityDefinition {
        <deed as Activity>::definition()
    }

    async fn run(_: ActivityContext, (): ()) -> Result<()> {
        Ok(())
    }
}

/// Does harm as a workflow.
#[airlock::workflow(name = "hostile-workflow", connectors(Reflector))]
async fn hostile_workflow(ctx: Workflow, plot: Plot) -> Result<Value> {
    match plot {
        Plot::Loop => harm::endless_loop(),
        Plot::Memory => harm::take_memory(),
        Plot::Recursion => return Ok(json!(harm::recurse(0))),
        Plot::Panic => panic!("the hostile workflow panics"),
        Plot::PanicLater => {
            ctx.sleep(std::time::Duration::from_millis(1)).await?;
            ctx.sleep(std::time::Duration::from_millis(1)).await?;
            panic!("the hostile workflow panics in its third activation");
        }
        Plot::CommandFlood => {
            let sleeps = (0..1_000_000).map(|_| ctx.sleep(std::time::Duration::from_secs(3600)));
            airlock::join_all(sleeps).await;
        }
        Plot::EventFlood => {
            for n in 0..1_000_000 {
                ctx.emit(event(json!(n)));
            }
        }
        Plot::GiantResult => return Ok(json!("x".repeat(64 << 20))),
        Plot::Environment => return Ok(harm::environment()),
        Plot::LogFlood => {
            for n in 0..1_000_000 {
                airlock::log::info!("line {n}");
            }
        }
        Plot::ActivityImport => return undeclared().await,
        Plot::Sleep => std::thread::sleep(std::time::Duration::from_secs(3600)),
        Plot::Hang => std::future::pending::<()>().await,
        Plot::Hoard => {
            let taken = harm::hoard(100);
            std::future::pending::<()>().await;
            drop(taken);
        }
        Plot::UnknownActivity => ctx.activity(missing, ()).await?,
    }
    Ok(json!("done"))
}

fn event(payload: Value) -> TaskEvent {
    TaskEvent { id: "flood".to_owned(), task_type: "flood".to_owned(), phase: TaskPhase::InProgress, payload }
}

airlock::plugin!(
    workflows: [hostile, hostile_workflow, search_in_activity, search_in_workflow],
    activities: [deed, search_memory],
);
