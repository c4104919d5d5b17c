//! Guests for benchmarks: workflows that do nothing, in several ways.

use std::time::Duration;

use airlock::{Result, Workflow, try_join_all};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

airlock::connector!(Github = "github_app");

/// Does nothing.
#[airlock::activity]
async fn noop() -> Result<()> {
    Ok(())
}

/// One step.
#[airlock::workflow(name = "noop-once")]
async fn noop_once(ctx: Workflow) -> Result<()> {
    ctx.activity(noop, ()).await
}

/// Steps one after the other.
#[airlock::workflow]
async fn sequence(ctx: Workflow, steps: u32) -> Result<u32> {
    for _ in 0..steps {
        ctx.activity(noop, ()).await?;
    }
    Ok(steps)
}

/// Steps at once.
#[airlock::workflow]
async fn fan(ctx: Workflow, n: u32) -> Result<usize> {
    Ok(try_join_all((0..n).map(|_| ctx.activity(noop, ()))).await?.len())
}

/// One timer.
#[airlock::workflow]
async fn sleeper(ctx: Workflow, ms: u64) -> Result<()> {
    ctx.sleep(Duration::from_millis(ms)).await
}

/// Which tool to call, and how often.
#[derive(Serialize, Deserialize, JsonSchema)]
struct ToolLoop {
    calls: u32,
    tool: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

/// Calls a tool from the workflow itself, again and again.
#[airlock::workflow(name = "tool-loop", connectors(Github))]
async fn tool_loop(ctx: Workflow, input: ToolLoop) -> Result<u32> {
    for _ in 0..input.calls {
        ctx.call_tool::<Github>(&input.tool, &input.arguments).await?;
    }
    Ok(input.calls)
}

airlock::plugin!(workflows: [noop_once, sequence, fan, sleeper, tool_loop], activities: [noop]);
