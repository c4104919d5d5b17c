//! Steps that take the process down with them.
//!
//! What runs when a process crashes is not in any history: it is repeated at the next start, and if it was the cause, the
//! process crashes again. A [`Witness`] keeps notes of what runs where they outlive the process, and says after a crash what
//! was running; the engine holds a step back that was running in [`CRASHES`] crashes in a row.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::{ExecutionId, RunId, history::Seq};

/// A step that was running in so many crashes in a row is held back.
pub const CRASHES: u32 = 3;

/// Something that runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// A run is read back from its history, without its code.
    Load(RunId),
    /// The code of a run's workflow has a turn, repeats its history or is asked something.
    Turn(RunId),
    /// One of a run's operations: an attempt of an activity, a tool call, a wait, the start of a child. The preflight has
    /// number 0.
    Operation {
        /// The run.
        run: RunId,
        /// Its number.
        seq: Seq,
        /// The attempt, from 1; 1 for what is not tried again.
        attempt: u32,
    },
    /// A question to a run that has ended.
    Query(RunId),
    /// The start of an execution by a schedule.
    Start(ExecutionId),
}

impl Step {
    /// The run that it belongs to, if there is one that can be blocked.
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::Load(run) | Self::Turn(run) | Self::Operation { run, .. } => Some(*run),
            Self::Query(_) | Self::Start(_) => None,
        }
    }
}

impl fmt::Display for Step {
    /// The form that [`FromStr`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(run) => write!(f, "load {}", run.0),
            Self::Turn(run) => write!(f, "turn {}", run.0),
            Self::Operation { run, seq, attempt } => write!(f, "operation {} {seq} {attempt}", run.0),
            Self::Query(run) => write!(f, "query {}", run.0),
            Self::Start(id) => write!(f, "start {id}"),
        }
    }
}

impl FromStr for Step {
    type Err = NoStep;

    fn from_str(text: &str) -> Result<Self, NoStep> {
        let words: Vec<&str> = text.split(' ').collect();
        let run = |word: &str| Uuid::parse_str(word).map(RunId).map_err(|_| NoStep);
        match words[..] {
            ["load", id] => Ok(Self::Load(run(id)?)),
            ["turn", id] => Ok(Self::Turn(run(id)?)),
            ["query", id] => Ok(Self::Query(run(id)?)),
            ["start", id] => id.parse().map(Self::Start).map_err(|_| NoStep),
            ["operation", id, seq, attempt] => Ok(Self::Operation {
                run: run(id)?,
                seq: seq.parse().map_err(|_| NoStep)?,
                attempt: attempt.parse().map_err(|_| NoStep)?,
            }),
            _ => Err(NoStep),
        }
    }
}

/// A text names no step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this names no step")]
pub struct NoStep;

/// Keeps notes of what runs. A note is made for every step, so it must cost next to nothing: it has to outlive the process,
/// and not the machine.
pub trait Witness: Send + Sync + 'static {
    /// Notes that a step runs. The number is for [`Witness::end`].
    fn begin(&self, step: &Step) -> u32;

    /// Notes that it runs no more.
    fn end(&self, note: u32);

    /// The steps that were running when a process crashed, and in how many crashes in a row by now. Known since this
    /// process began, less those that were cleared.
    fn suspects(&self) -> Vec<(Step, u32)>;

    /// The crashes of a step are forgotten: it has ended well, or is held back.
    fn clear(&self, step: &Step);
}
