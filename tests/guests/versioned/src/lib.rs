//! One workflow in two versions that ask for the same things in another order.

use std::time::Duration;

use airlock::{Result, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(all(feature = "v1", feature = "v2"))]
compile_error!("build v2 with --no-default-features --features v2");

/// Which code ran it.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Ran {
    version: String,
    stamps: Vec<String>,
}

/// Gives back what it is given, and the version of the code that ran it.
#[airlock::activity]
async fn stamp(label: String) -> Result<String> {
    Ok(format!("{label}-{}", if cfg!(feature = "v2") { "v2" } else { "v1" }))
}

/// Stamps, waits for so many milliseconds, stamps again.
#[cfg(not(feature = "v2"))]
#[airlock::workflow(description = "v1: stamp, wait, stamp")]
async fn versioned(ctx: Workflow, pause_ms: u64) -> Result<Ran> {
    let first = ctx.activity(stamp, "first".to_owned()).await?;
    ctx.sleep(Duration::from_millis(pause_ms)).await?;
    let second = ctx.activity(stamp, "second".to_owned()).await?;
    Ok(Ran { version: "v1".to_owned(), stamps: vec![first, second] })
}

/// Waits for so many milliseconds, then stamps twice.
#[cfg(feature = "v2")]
#[airlock::workflow(description = "v2: wait, stamp, stamp")]
async fn versioned(ctx: Workflow, pause_ms: u64) -> Result<Ran> {
    ctx.sleep(Duration::from_millis(pause_ms)).await?;
    let first = ctx.activity(stamp, "first".to_owned()).await?;
    let second = ctx.activity(stamp, "second".to_owned()).await?;
    Ok(Ran { version: "v2".to_owned(), stamps: vec![first, second] })
}

airlock::plugin!(workflows: [versioned], activities: [stamp]);
