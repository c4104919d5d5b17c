//! The daemon's log, on standard error.

use anyhow::{Context as _, bail};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// How much can be logged, and how.
pub(crate) const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
pub(crate) const FORMATS: [&str; 2] = ["text", "json"];

/// Starts the log. Only airlock's own targets follow `level`: crates that speak HTTP or OAuth tell headers and codes at
/// their verbose levels, so all of them stay at info at most (THREATS row 18).
pub(crate) fn start(level: &str, format: &str) -> anyhow::Result<()> {
    let level: LevelFilter = level.parse().ok().with_context(|| {
        format!("'{level}' is not a log level: use off, error, warn, info, debug or trace")
    })?;
    let others = level.min(LevelFilter::INFO);
    let ours = [
        "airlock",
        "airlock_api",
        "airlock_connectors",
        "airlock_engine",
        "airlock_sandbox",
        "airlock_store",
    ];
    let targets =
        ours.iter().fold(Targets::new().with_default(others), |all, ours| all.with_target(*ours, level));
    // rmcp logs what servers answer, also in its warnings and errors; ours name the connector and say what happened.
    let targets = targets.with_target("rmcp", LevelFilter::OFF);
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let layer = match format {
        "text" => layer.boxed(),
        "json" => layer.json().boxed(),
        other => bail!("'{other}' is not a log format: use text or json"),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).init();
    Ok(())
}
