//! The engine's view of guest code. The sandbox implements it.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::SystemTime,
};

use async_trait::async_trait;
use serde::Serialize;

use crate::{
    Digest, ExecutionId, Failure, Json, PluginDefinition, RunId,
    history::{Command, HistorySize, Job, Outcome, TaskEvent},
    tools::CallOptions,
};

/// Runs guest code.
#[async_trait]
pub trait Guests: Send + Sync + 'static {
    /// Every file in the plugin folder, sorted by name, with what became of it.
    fn plugins(&self) -> Vec<PluginStatus>;

    /// The code that serves new executions of a workflow now.
    fn serving(&self, workflow: &str) -> Option<Digest>;

    /// Waits, for some seconds at most, until plugins that are new have been judged: at a start they are loaded in the
    /// background. Whoever misses a workflow looks again afterwards.
    async fn loaded(&self) {}

    /// What a component holds. Works for every digest that an execution is pinned to, also after its file has left the folder.
    async fn definition(&self, digest: &Digest) -> Result<Arc<PluginDefinition>, GuestError>;

    /// Creates an instance of a workflow. The first activation starts it.
    async fn create(
        &self,
        digest: &Digest,
        init: WorkflowInit,
    ) -> Result<Box<dyn WorkflowInstance>, GuestError>;

    /// Runs one attempt of an activity. Dropping the future stops the guest.
    async fn run_activity(
        &self,
        digest: &Digest,
        call: ActivityCall,
        host: Arc<dyn ActivityHost>,
    ) -> Result<Json, ActivityError>;

    /// Keeps the code of these digests (and of all files in the folder); other stored code may be removed.
    fn retain(&self, needed: &HashSet<Digest>);

    /// Names who makes room when guests need memory that there is not. Without any, they are refused.
    fn relieved_by(&self, relief: Weak<dyn Relief>) {
        drop(relief);
    }
}

/// Makes room in memory.
pub trait Relief: Send + Sync + 'static {
    /// Drops instances that wait, of this user or of anybody, until they held `bytes` together. Gives what they held.
    ///
    /// It is called in the middle of a guest's turn, so it must not wait for one.
    fn relieve(&self, bytes: u64, of: Option<&str>) -> u64;
}

/// A file in the plugin folder.
#[derive(Debug, Clone, Serialize)]
pub struct PluginStatus {
    /// The file's name without `.wasm`.
    pub name: String,
    /// SHA-256 of the file.
    #[serde(serialize_with = "digest_text")]
    pub digest: Digest,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// When this version was taken up.
    #[serde(serialize_with = "unix_ms")]
    pub loaded_at: SystemTime,
    /// Whether it serves executions.
    #[serde(flatten)]
    pub state: PluginState,
}

fn digest_text<S: serde::Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(digest)
}

fn unix_ms<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(since.as_millis() as u64)
}

/// What became of a file in the plugin folder.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PluginState {
    /// It serves new executions.
    Ready {
        /// What it holds.
        definition: Arc<PluginDefinition>,
    },
    /// It cannot be used; an earlier version of the same file goes on serving if there was one.
    Rejected {
        /// Why, and what to do.
        error: String,
    },
    /// It is new and has not been judged yet; its digest is not known.
    Loading,
}

/// What a workflow instance is created from.
#[derive(Debug, Clone)]
pub struct WorkflowInit {
    /// Name of the workflow in its plugin.
    pub workflow: String,
    /// For the guest to know.
    pub execution_id: ExecutionId,
    /// For the guest to know.
    pub run_id: RunId,
    /// The input, valid for the workflow's schema.
    pub input: Json,
    /// The user to whom its memory is counted.
    pub holder: String,
    /// For all randomness of the run.
    pub seed: u64,
    /// Unix time in milliseconds.
    pub started_at_ms: u64,
    /// The execution that started this one as its child.
    pub parent: Option<ExecutionId>,
    /// 1, and more when the run before failed and is tried again.
    pub attempt: u32,
}

/// A workflow waiting in memory. Dropping it loses nothing: it is built again by replay.
#[async_trait]
pub trait WorkflowInstance: Send {
    /// Tells the workflow what happened and returns what it wants next. After an error the instance is not used again.
    async fn activate(&mut self, activation: Activation<'_>) -> Result<Vec<Command>, GuestError>;

    /// Asks the workflow something. Its state is the same afterwards. After an error the instance is not used again.
    async fn query(&mut self, name: &str, input: &Json) -> Result<Outcome, GuestError>;

    /// Bytes of memory that it holds and gives back when it is dropped.
    fn held_bytes(&self) -> u64 {
        0
    }
}

/// One turn of a workflow.
#[derive(Debug, Clone, Copy)]
pub struct Activation<'a> {
    /// Unix time in milliseconds at which this turn first happened.
    pub now_ms: u64,
    /// The turn is repeated to rebuild the instance.
    pub replaying: bool,
    /// What happened since the last turn, in order.
    pub jobs: &'a [Job],
    /// When the turn is repeated: the patches that it noted the first time.
    pub patches: &'a [String],
    /// How much the history held before the turn.
    pub history: HistorySize,
}

/// One attempt of an activity.
#[derive(Debug, Clone)]
pub struct ActivityCall {
    /// Name of the activity in its plugin.
    pub activity: String,
    /// The input.
    pub input: Json,
    /// For the guest to know.
    pub execution_id: ExecutionId,
    /// Name of the workflow that scheduled it.
    pub workflow: String,
    /// The user to whom its memory is counted.
    pub holder: String,
    /// Stable over attempts.
    pub idempotency_key: String,
    /// 1 for the first.
    pub attempt: u32,
    /// What an attempt before said with its last heartbeat.
    pub heartbeat_details: Option<Json>,
}

/// What a running activity may ask of its host. The engine implements it, one object per attempt.
#[async_trait]
pub trait ActivityHost: Send + Sync + 'static {
    /// Calls a tool of the connector in a slot; the answer is the raw tool response. The options are within their bounds.
    async fn call_tool(
        &self,
        slot: &str,
        tool: &str,
        arguments: Json,
        options: CallOptions,
    ) -> Result<Json, Failure>;
    /// Lists the tools of the connector in a slot.
    async fn list_tools(&self, slot: &str) -> Result<Json, Failure>;
    /// Waits until the caller is authorised for a slot.
    async fn await_auth(&self, slot: &str) -> Result<Json, Failure>;
    /// Records a custom task event. In order, and before the activity's result.
    fn emit_event(&self, event: TaskEvent) -> Result<(), Failure>;
    /// The activity is alive, and says how far it is, for the next attempt if this one fails.
    fn heartbeat(&self, details: Option<Json>);
    /// Whether the activity was asked to stop.
    fn is_cancelled(&self) -> bool;
    /// Resolves when the activity is asked to stop.
    async fn cancelled(&self);
}

/// Guest code could not be run, or went wrong.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GuestError {
    /// The code of this digest is not stored any more.
    #[error("the component {0} is not available: put the plugin's file back into the plugin folder")]
    Missing(Digest),
    /// The guest trapped: a panic, or a limit of the sandbox. The message says which.
    #[error("{0}")]
    Trapped(String),
    /// The guest handed over something that breaks the interface's rules.
    #[error("{0}")]
    Invalid(String),
    /// The host's own fault; trying again later may help.
    #[error("{0}")]
    Host(String),
}

/// How an attempt of an activity went wrong.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ActivityError {
    /// The activity returned a failure.
    #[error("{0}")]
    Failed(Failure),
    /// The guest could not be run, or went wrong.
    #[error(transparent)]
    Guest(#[from] GuestError),
}
