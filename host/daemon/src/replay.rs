//! `airlock replay`: a downloaded history against a component, without a daemon.

use std::{fs, path::PathBuf};

use airlock_engine::{
    ExecutionId,
    guests::{Guests, PluginState, WorkflowInit},
    history::Record,
    replay::{Repetition, ReplayError},
};
use airlock_sandbox::{Sandbox, SandboxConfig};
use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::{
    ended::Ended,
    output::{Output, say},
};

/// Which history, and which code.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A history, as `airlock executions history ID --json` gives it.
    history: PathBuf,
    /// The component that is to repeat it.
    #[arg(long, short)]
    component: PathBuf,
}

#[derive(Deserialize)]
struct History {
    execution_id: ExecutionId,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    at_ms: u64,
    record: Record,
}

pub(crate) async fn main(arguments: Arguments, output: Output) -> anyhow::Result<Ended> {
    let Arguments { history, component } = arguments;
    let text = fs::read_to_string(&history)
        .with_context(|| format!("the history {} cannot be read", history.display()))?;
    let parsed: History = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is no history: download one with `airlock executions history ID --json`",
            history.display()
        )
    })?;
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins)?;
    fs::copy(&component, plugins.join("plugin.wasm"))
        .with_context(|| format!("the component {} cannot be read", component.display()))?;
    let sandbox = Sandbox::open(SandboxConfig::new(&plugins, folder.path().join("data"))).await?;
    sandbox.settled(std::time::Duration::MAX).await;
    let plugin = sandbox.plugins().into_iter().next().context("the component was not taken up")?;
    if let PluginState::Rejected { error } = plugin.state {
        bail!("the component cannot be used: {error}");
    }
    let events = parsed.events.len();
    match replay(&*sandbox, &plugin.digest, parsed).await {
        Ok(()) => {
            let answer = serde_json::json!({ "repeats": true, "records": events });
            output.value(&answer, || say!("the component repeats the history of {events} records"));
            Ok(Ended::Well)
        }
        Err(ReplayError::Diverged(difference)) => {
            let answer = serde_json::json!({
                "repeats": false, "event": difference.event, "recorded": difference.recorded,
                "produced": difference.produced, "difference": difference.to_string(),
            });
            output.value(&answer, || say!("the component does not repeat the history: {difference}"));
            Ok(Ended::Failed)
        }
        Err(ReplayError::Guest(error)) => bail!("the component went wrong: {error}"),
    }
}

async fn replay(
    guests: &dyn Guests,
    digest: &airlock_engine::Digest,
    history: History,
) -> Result<(), ReplayError> {
    let (mut instance, mut repetition) = (None, Repetition::default());
    for Event { at_ms, record } in history.events {
        if let Record::Started(started) = &record {
            let init = WorkflowInit {
                workflow: started.workflow.clone(),
                execution_id: history.execution_id.clone(),
                run_id: started.run_id,
                input: started.input.clone(),
                holder: started.principal.user.to_string(),
                seed: started.seed,
                started_at_ms: at_ms,
                parent: started.parent.as_ref().map(|parent| parent.id.clone()),
                attempt: started.attempt,
            };
            instance = Some(guests.create(digest, init).await?);
        }
        if let Some(instance) = &mut instance {
            repetition.record(&mut **instance, at_ms, &record).await?;
        }
    }
    Ok(())
}
