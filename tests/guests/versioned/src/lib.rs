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

/// Stamps again and again. Version 2 stamps twice each time, from where it takes over.
#[airlock::workflow(name = "patched-loop")]
async fn patched_loop(ctx: Workflow, rounds: u32) -> Result<Vec<String>> {
    let mut stamps = Vec::new();
    for round in 0..rounds {
        stamps.push(ctx.activity(stamp, format!("{round}")).await?);
        #[cfg(feature = "v2")]
        if ctx.patched("twice") {
            stamps.push(ctx.activity(stamp, format!("{round}-again")).await?);
        }
        ctx.sleep(Duration::from_millis(300)).await?;
    }
    Ok(stamps)
}

airlock::plugin!(workflows: [versioned, patched_loop], activities: [stamp]);
