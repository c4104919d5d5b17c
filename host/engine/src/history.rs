//! The event history of an execution: the only truth about it.
//!
//! A history is a list of [`Record`]s. Each is appended in one transaction, and everything else the engine knows of an
//! execution follows from them. The binary form is postcard behind one version byte. Within a version, variants are only
//! ever added at the end of an enum, and the fields of a struct do not change.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    ActivityOptions, Digest, ExecutionId, ExecutionKey, Failure, Json, Principal, RetryPolicy, RunId,
    tools::{Binding, BindingWish, CallOptions, Mocks},
};

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
    /// A child has begun, or could not. Only for a child that was started with `await_start`; a failure ends it.
    ChildStarted {
        /// Which.
        seq: Seq,
        /// Its execution id, or why there is none.
        outcome: Result<ExecutionId, Failure>,
    },
    /// A child ended.
    ChildResolved {
        /// Which.
        seq: Seq,
        /// How.
        outcome: Outcome,
    },
    /// A signal or a request to cancel has reached another execution, or could not.
    ExternalResolved {
        /// Which.
        seq: Seq,
        /// The value is `null`.
        outcome: Outcome,
    },
    /// A signal.
    Signal {
        /// Given by who sends it, so that one that is sent twice is heard once.
        id: Option<String>,
        /// What it says.
        message: Message,
    },
    /// An update: the workflow rejects it, or accepts and completes it.
    Update {
        /// Its id, unique in a run.
        id: String,
        /// What it asks for.
        message: Message,
    },
}

/// What somebody says to a running workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The handler.
    pub name: String,
    /// For the handler.
    pub input: Json,
    /// Who says it: a user, or `execution:` and the id of an execution.
    pub sender: String,
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
        /// What is to be otherwise than usual.
        options: CallOptions,
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
    /// Start another workflow as a child.
    StartChild {
        /// Its number.
        seq: Seq,
        /// Which, and how.
        child: Box<StartChild>,
    },
    /// Send a signal to another execution.
    SignalExternal {
        /// Its number.
        seq: Seq,
        /// To whom.
        execution_id: String,
        /// The handler.
        name: String,
        /// For the handler.
        input: Json,
    },
    /// Ask another execution to stop.
    CancelExternal {
        /// Its number.
        seq: Seq,
        /// Whom.
        execution_id: String,
        /// Why.
        reason: String,
    },
    /// An update will be carried out.
    UpdateAccepted {
        /// Which.
        id: String,
    },
    /// An update is refused; nothing of it happens.
    UpdateRejected {
        /// Which.
        id: String,
        /// Why.
        failure: Failure,
    },
    /// An accepted update is done.
    UpdateCompleted {
        /// Which.
        id: String,
        /// How.
        outcome: Outcome,
    },
    /// Search keys change.
    UpsertSearchKeys {
        /// Names and values.
        keys: Vec<(String, SearchValue)>,
    },
    /// From here on the code goes the way that this name stands for.
    Patched {
        /// The name.
        id: String,
    },
    /// The run has ended; another one of the same execution goes on.
    ContinueAsNew {
        /// Another workflow, if it is not to be the same.
        workflow: Option<String>,
        /// The input of the next run.
        input: Json,
    },
}

/// A child to be started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartChild {
    /// The workflow, of any plugin.
    pub workflow: String,
    /// An id of the parent's choice; else one that follows from the parent's run and the number.
    pub execution_id: Option<String>,
    /// The input.
    pub input: Json,
    /// What becomes of it when the parent ends first.
    pub close: ParentClose,
    /// Instead of the definition's.
    pub execution_timeout: Option<Duration>,
    /// Instead of the definition's.
    pub retry: Option<RetryPolicy>,
    /// Whether the parent wants to be told that it has begun.
    pub await_start: bool,
}

/// What becomes of a child when its parent ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentClose {
    /// It is ended by force.
    Terminate,
    /// It is asked to stop, and cleans up.
    #[default]
    RequestCancel,
    /// It goes on by itself.
    Abandon,
}

/// Who started a run as a child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The parent's execution id.
    pub id: ExecutionId,
    /// The run of the parent that hears how it ends.
    pub run: ExecutionKey,
    /// The parent's number for it.
    pub seq: Seq,
    /// What becomes of it when the parent ends first.
    pub close: ParentClose,
}

/// A change to a search key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SearchValue {
    /// It has this value.
    Text(String),
    /// It is there and has no value.
    Null,
    /// It is gone.
    Removed,
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

/// The birth of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The run, as the workflow knows it. A run that was reset keeps the id that the workflow knows.
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
    /// Which connectors answer from mocks.
    pub mocks: Mocks,
    /// For all randomness of the run.
    pub seed: u64,
    /// From the start of the first run to the end of the last.
    pub execution_timeout: Duration,
    /// When the first run of the execution began.
    pub first_started_at: UnixMs,
    /// Nothing happens before this time.
    pub not_before: UnixMs,
    /// When a failed run is tried again.
    pub retry: Option<RetryPolicy>,
    /// 1 for the first try.
    pub attempt: u32,
    /// Who started it as a child.
    pub parent: Option<Parent>,
    /// The run that this one goes on from.
    pub continued_from: Option<RunId>,
    /// The search keys that the run begins with.
    pub search_keys: Vec<(String, Option<String>)>,
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
        /// What the attempt said with its last heartbeat.
        details: Option<Json>,
        /// How long it waited for people.
        waited: Duration,
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
    /// Something happened that the workflow cannot be told yet: it has not begun, is paused or is blocked.
    Received {
        /// What the next turn begins with.
        jobs: Vec<Job>,
    },
    /// What a running attempt said with a heartbeat. Not every heartbeat is recorded.
    Heartbeat {
        /// Which activity.
        seq: Seq,
        /// Which attempt, from 1.
        attempt: u32,
        /// What it said.
        details: Json,
    },
    /// Somebody paused the execution.
    Paused {
        /// Why.
        reason: String,
    },
    /// Somebody let it go on.
    Resumed,
    /// The run goes on with other code, which gives the same commands so far.
    Upgraded {
        /// The code.
        digest: Digest,
    },
    /// Another run has taken this one's place. Always the last record.
    Continued {
        /// The next run.
        run_id: RunId,
        /// Why there is one.
        reason: Continuation,
    },
    /// A record of an earlier run, at the beginning of one that was reset.
    Copied {
        /// When it was recorded first.
        at: UnixMs,
        /// What was recorded.
        record: Box<Record>,
    },
}

/// Why a run was followed by another one of the same execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continuation {
    /// The workflow wanted it.
    AsNew,
    /// It failed, and its retry policy says so.
    Retry,
    /// Somebody reset it to an earlier event.
    Reset,
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

impl StoredRecord {
    /// A record of an earlier run as it was there.
    #[must_use]
    pub fn original(self) -> Self {
        match self.record {
            Record::Copied { at, record } => Self { at, record: *record, ..self },
            _ => self,
        }
    }
}

impl Record {
    /// How many event numbers the record takes up: one a job and a command, at least one.
    pub fn event_count(&self) -> u64 {
        match self {
            Self::Activation { jobs, commands } => (jobs.len() + commands.len()).max(1) as u64,
            Self::Received { jobs } => jobs.len().max(1) as u64,
            Self::Copied { record, .. } => record.event_count(),
            _ => 1,
        }
    }

    /// Roughly how many bytes of payload the record holds. The same for the same record in all versions.
    pub fn payload_bytes(&self) -> u64 {
        let outcome = |outcome: &Outcome| match outcome {
            Ok(value) => size(value),
            Err(failure) => failed(failure),
        };
        let job = |job: &Job| match job {
            Job::ActivityResolved { outcome: it, .. }
            | Job::ToolResolved { outcome: it, .. }
            | Job::AuthResolved { outcome: it, .. }
            | Job::ChildResolved { outcome: it, .. }
            | Job::ExternalResolved { outcome: it, .. } => outcome(it),
            Job::Signal { message, .. } | Job::Update { message, .. } => size(&message.input),
            Job::ChildStarted { .. }
            | Job::Started
            | Job::TimerFired { .. }
            | Job::CancelRequested { .. } => 0,
        };
        let command = |command: &Command| match command {
            Command::ScheduleActivity { input, .. }
            | Command::CallTool { arguments: input, .. }
            | Command::SignalExternal { input, .. }
            | Command::ContinueAsNew { input, .. }
            | Command::Complete { result: input } => size(input),
            Command::StartChild { child, .. } => size(&child.input),
            Command::EmitEvent { event } => size(&event.payload),
            Command::Fail { failure } | Command::UpdateRejected { failure, .. } => failed(failure),
            Command::UpdateCompleted { outcome: it, .. } => outcome(it),
            _ => 0,
        };
        match self {
            Self::Started(started) => size(&started.input),
            Self::Activation { jobs, commands } => {
                jobs.iter().map(job).sum::<u64>() + commands.iter().map(command).sum::<u64>()
            }
            Self::Received { jobs } => jobs.iter().map(job).sum(),
            Self::AttemptFailed { failure, details, .. } => {
                failed(failure) + details.as_ref().map_or(0, size)
            }
            Self::Copied { record, .. } => record.payload_bytes(),
            Self::Emitted { event } => size(&event.payload),
            Self::Heartbeat { details, .. } => size(details),
            _ => 0,
        }
    }
}

/// A payload that is too large for a history is kept apart, and only a reference to it is in the history.
fn size(payload: &Json) -> u64 {
    match payload.as_str().len() {
        large if large > LARGE_PAYLOAD => 256,
        bytes => bytes as u64,
    }
}

fn failed(failure: &Failure) -> u64 {
    failure.message.len() as u64 + failure.details.as_ref().map_or(0, size)
}

/// Payloads above so many bytes are not kept in the history itself.
pub const LARGE_PAYLOAD: usize = 2_000_000;

/// How much a history holds. A workflow whose history grows without end has to continue as new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct HistorySize {
    /// Events.
    pub events: u64,
    /// Bytes of payloads and what surrounds them, roughly.
    pub bytes: u64,
}

impl HistorySize {
    /// A run ends when its history reaches this.
    pub const LIMIT: Self = Self { events: 50_000, bytes: 50_000_000 };
    /// From here on a workflow is told that it had better continue as new.
    pub const SUGGEST: Self = Self { events: 10_000, bytes: 10_000_000 };

    /// With one more record.
    pub fn add(&mut self, record: &Record) {
        let events = record.event_count();
        self.events += events;
        self.bytes += 32 * events + record.payload_bytes();
    }

    /// Whether it holds as much as `limit` in one respect or the other.
    pub fn reaches(&self, limit: &Self) -> bool {
        self.events >= limit.events || self.bytes >= limit.bytes
    }
}

/// Version of the binary form.
const FORMAT: u8 = 3;

/// A stored record does not decode.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CorruptRecord {
    /// Written by a newer airlock.
    #[error("record format {0} is newer than this airlock, which reads {FORMAT}: install the newer version")]
    Newer(u8),
    /// Written by an airlock from before the first release.
    #[error(
        "record format {0} is older than this airlock, which reads {FORMAT}: start with a new data folder"
    )]
    Older(u8),
    /// Not a record.
    #[error("a record of the history is damaged: {0}")]
    Damaged(String),
}

/// The binary form of a row: time and record.
pub fn encode(at: UnixMs, record: &Record) -> Vec<u8> {
    encode_between(at, record, 0, 0)
}

/// The same with so many bytes of zero before it, and room for more behind. Memory is asked for once: a record may be large.
pub fn encode_between(at: UnixMs, record: &Record, before: usize, after: usize) -> Vec<u8> {
    let size = postcard::experimental::serialized_size(&(at, record)).unwrap_or_default();
    let mut row = Vec::with_capacity(before + 1 + size + after);
    row.resize(before, 0);
    row.push(FORMAT);
    // Serialising these types into memory has no way to fail: lengths are known and there is no I/O.
    postcard::to_extend(&(at, record), row).unwrap_or_default()
}

/// Reads what [`encode`] wrote.
pub fn decode(row: &[u8]) -> Result<(UnixMs, Record), CorruptRecord> {
    match row.split_first() {
        Some((&FORMAT, body)) => {
            postcard::from_bytes(body).map_err(|error| CorruptRecord::Damaged(error.to_string()))
        }
        Some((&older, _)) if older < FORMAT => Err(CorruptRecord::Older(older)),
        Some((&newer, _)) => Err(CorruptRecord::Newer(newer)),
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
            Self::StartChild { seq, child } => write!(f, "start child '{}' ({seq})", child.workflow),
            Self::SignalExternal { seq, execution_id, name, .. } => {
                write!(f, "signal '{name}' to execution '{execution_id}' ({seq})")
            }
            Self::CancelExternal { seq, execution_id, .. } => {
                write!(f, "ask execution '{execution_id}' to stop ({seq})")
            }
            Self::UpdateAccepted { id } => write!(f, "accept update '{id}'"),
            Self::UpdateRejected { id, .. } => write!(f, "reject update '{id}'"),
            Self::UpdateCompleted { id, .. } => write!(f, "complete update '{id}'"),
            Self::UpsertSearchKeys { keys } => write!(f, "change {} search keys", keys.len()),
            Self::Patched { id } => write!(f, "take the way of patch '{id}'"),
            Self::ContinueAsNew { .. } => f.write_str("continue as new"),
        }
    }
}
