//! Repeating a history against code: to rebuild an instance, to try newer code, and to check code offline.

use async_recursion::async_recursion as boxed;

pub use crate::difference::Difference;
use crate::{
    guests::{Activation, GuestError, WorkflowInstance},
    history::{Command, HistorySize, Job, Record, UnixMs},
};

/// A replay could not be carried through.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReplayError {
    /// The code wants something else than the history holds.
    #[error(transparent)]
    Diverged(#[from] Box<Difference>),
    /// The code could not be run, or trapped.
    #[error(transparent)]
    Guest(#[from] GuestError),
}

/// A replay under way: the place in the history.
#[derive(Debug, Default)]
pub struct Repetition {
    size: HistorySize,
    begun: bool,
}

impl Repetition {
    /// Whether the workflow's code has run.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Repeats one record. Those that are no turns have no code to run.
    #[boxed]
    pub async fn record(
        &mut self,
        instance: &mut dyn WorkflowInstance,
        at: UnixMs,
        record: &Record,
    ) -> Result<(), ReplayError> {
        if let Record::Copied { at, record } = record {
            return Box::pin(self.record(instance, *at, record)).await;
        }
        if let Record::Activation { jobs, commands } = record {
            self.begun |= jobs.contains(&Job::Started);
            // An execution that is cancelled before its code has run has a turn without code.
            if !self.begun {
                return Ok(());
            }
            let patches = patches(commands);
            let activation =
                Activation { now_ms: at, replaying: true, jobs, patches: &patches, history: self.size };
            let produced = instance.activate(activation).await?;
            if let Some(difference) =
                first_difference(self.size.events + jobs.len() as u64, commands, &produced)
            {
                return Err(Box::new(difference).into());
            }
        }
        self.size.add(record);
        Ok(())
    }
}

/// The patches that the commands of a turn note.
fn patches(commands: &[Command]) -> Vec<String> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::Patched { id } => Some(id.clone()),
            _ => None,
        })
        .collect()
}

/// The first command that is not as it was.
fn first_difference(first_event: u64, recorded: &[Command], produced: &[Command]) -> Option<Difference> {
    let length = recorded.len().max(produced.len());
    let position = (0..length).find(|&i| recorded.get(i) != produced.get(i))?;
    Some(Difference {
        event: first_event + position as u64 + 1,
        recorded: recorded.get(position).cloned(),
        produced: produced.get(position).cloned(),
    })
}
