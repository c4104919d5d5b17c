//! The event history of an execution: the only truth about it.
//!
//! A history is a list of [`Record`]s. Each is appended in one transaction, and everything else the engine knows of an
//! execution follows from them. The binary form is postcard behind one version byte. Within a version, variants are only
//! ever added at the end of an enum, and the fields of a struct do not change.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ActivityOptions, Digest, Failure, Json, Principal, RunId, tools::Binding, tools::BindingWish};

/// The number that a workflow gives to an operation that takes time. From 1, unique in a run.
pub type Seq = u32;

/// Milliseconds since the Unix epoch.
pub type UnixMs = u64;

/// How an operation ended.
pub type Outcome = Result<Json, Failure>;

/// Something that happened, told to the workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Job {
    /// The first job of a run.
    Started,
    /// An activity ended, after all its attempts.
    ActivityResolved {
        /// Which.
        seq: Seq,
        /// How.
        outcome: Outcome,
    },
    /// A timer fired.
    TimerFired {
        /// Which.
        seq: Seq,
    },
    /// A tool call or tool list ended.
    ToolResolved {
        /// Which.
        seq: Seq,
        /// How.
        outcome: Outcome,
    },
    /// A wait for authorisation ended.
    AuthResolved {
        /// Which.
        seq: Seq,
        /// How.
        outcome: Outcome,
    },
    /// Somebody asked the execution to stop.
    CancelRequested {
        /// Why.
        reason: String,
    },
}

/// Something that the workflow wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Run an activity of the same plugin.
    ScheduleActivity {
        /// Its number.
        seq: Seq,
        /// Its name.
        activity: String,
        /// Its input.
        input: Json,
        /// What differs from its definition.
        options: ActivityOptions,
    },
    /// Wake me later.
    StartTimer {
        /// Its number.
        seq: Seq,
        /// How much later.
        duration: Duration,
    },
    /// Call a tool without an activity.
    CallTool {
        /// Its number.
        seq: Seq,
        /// The slot.
        slot: String,
        /// The tool.
        tool: String,
        /// A JSON object.
        arguments: Json,
    },
    /// List the tools of a slot.
    ListTools {
        /// Its number.
        seq: Seq,
        /// The slot.
        slot: String,
    },
    /// Wait until the caller is authorised.
    AwaitAuth {
        /// Its number.
        seq: Seq,
        /// The slot.
        slot: String,
    },
    /// The result of an operation is not wanted any more.
    Cancel {
        /// Which.
        seq: Seq,
    },
    /// A custom task event.
    EmitEvent {
        /// The event.
        event: TaskEvent,
    },
    /// The workflow has ended well.
    Complete {
        /// Its result.
        result: Json,
    },
    /// The workflow has failed.
    Fail {
        /// Why.
        failure: Failure,
    },
    /// The workflow has ended because it was asked to.
    Cancelled,
}

/// A custom task event: state that clients see live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// One id from the task's start to its end.
    pub id: String,
    /// What kind of task it is.
    pub task_type: String,
    /// Where in its life the task is.
    pub phase: TaskPhase,
    /// Its state; for [`TaskPhase::Failed`] a JSON string with the message.
    pub payload: Json,
}

/// Where in its life a custom task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskPhase {
    /// It begins.
    Started,
    /// Its state changed.
    InProgress,
    /// It ended well.
    Completed,
    /// It failed.
    Failed,
}

/// The birth of an execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The run.
    pub run_id: RunId,
    /// Name of the workflow.
    pub workflow: String,
    /// The code it is pinned to.
    pub digest: Digest,
    /// The input, valid for the workflow's schema.
    pub input: Json,
    /// On whose behalf.
    pub principal: Principal,
    /// Credentials that the caller asked for.
    pub wishes: Vec<BindingWish>,
    /// For all randomness of the run.
    pub seed: u64,
    /// From start to end.
    pub execution_timeout: Duration,
}

/// One entry of a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// The first record.
    Started(Box<Started>),
    /// The preflight is over: every slot has its connector, and the caller is authorised where that was asked for.
    Bound {
        /// In the order of the slots.
        bindings: Vec<Binding>,
    },
    /// A turn of the workflow: what it was told and what it wanted.
    Activation {
        /// What it was told.
        jobs: Vec<Job>,
        /// What it wanted.
        commands: Vec<Command>,
    },
    /// An attempt of an activity failed and another will follow.
    AttemptFailed {
        /// Which activity.
        seq: Seq,
        /// Which attempt, from 1.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// When the next attempt begins.
        retry_at: UnixMs,
    },
    /// A custom task event from an activity, or from the host itself.
    Emitted {
        /// The event.
        event: TaskEvent,
    },
    /// The host ended the execution.
    Ended {
        /// How.
        end: End,
    },
    /// A replay gave other commands than the first run. The execution waits for the right code.
    Blocked {
        /// The first difference.
        difference: String,
    },
    /// The execution is tried again after it was blocked.
    Unblocked,
}

/// How the host itself ends an execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum End {
    /// It failed outside the workflow's own code, in the preflight or by a trap.
    Failed(Failure),
    /// Its time was over.
    TimedOut,
    /// Somebody terminated it, with a reason.
    Terminated(String),
}

/// A record with its place and time.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecord {
    /// Number of the record's first event in the order of the whole store; each event of a record has a number of its own.
    pub first_event: u64,
    /// When it was recorded.
    pub at: UnixMs,
    /// What was recorded.
    pub record: Record,
}

impl Record {
    /// How many event numbers the record takes up: one a job and a command, at least one.
    pub fn event_count(&self) -> u64 {
        match self {
            Self::Activation { jobs, commands } => (jobs.len() + commands.len()).max(1) as u64,
            _ => 1,
        }
    }
}

/// Version of the binary form.
const FORMAT: u8 = 1;

/// A stored record does not decode.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CorruptRecord {
    /// Written by a newer airlock.
    #[error(
        "record format {0} is newer than this airlock, which reads up to {FORMAT}: install the newer version"
    )]
    Newer(u8),
    /// Not a record.
    #[error("a record of the history is damaged: {0}")]
    Damaged(String),
}

/// The binary form of a row: time and record.
pub fn encode(at: UnixMs, record: &Record) -> Vec<u8> {
    let row = vec![FORMAT];
    // Serialising these types into memory has no way to fail: lengths are known and there is no I/O.
    postcard::to_extend(&(at, record), row).unwrap_or_default()
}

/// Reads what [`encode`] wrote.
pub fn decode(row: &[u8]) -> Result<(UnixMs, Record), CorruptRecord> {
    match row.split_first() {
        Some((&FORMAT, body)) => {
            postcard::from_bytes(body).map_err(|error| CorruptRecord::Damaged(error.to_string()))
        }
        Some((&other, _)) => Err(CorruptRecord::Newer(other)),
        None => Err(CorruptRecord::Damaged("it is empty".into())),
    }
}

impl std::fmt::Display for Command {
    /// One line for a person, without payloads.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ScheduleActivity { seq, activity, .. } => {
                write!(f, "schedule activity '{activity}' ({seq})")
            }
            Self::StartTimer { seq, duration } => write!(f, "start a timer of {duration:?} ({seq})"),
            Self::CallTool { seq, slot, tool, .. } => write!(f, "call tool '{tool}' of '{slot}' ({seq})"),
            Self::ListTools { seq, slot } => write!(f, "list the tools of '{slot}' ({seq})"),
            Self::AwaitAuth { seq, slot } => write!(f, "await authorisation for '{slot}' ({seq})"),
            Self::Cancel { seq } => write!(f, "cancel operation {seq}"),
            Self::EmitEvent { event } => write!(f, "emit a '{}' event", event.task_type),
            Self::Complete { .. } => f.write_str("complete"),
            Self::Fail { failure } => write!(f, "fail with {}", failure.kind),
            Self::Cancelled => f.write_str("end as cancelled"),
        }
    }
}
