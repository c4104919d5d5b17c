//! What an instance and its host say to each other, independent of how it crosses the boundary.

use std::time::Duration;

use crate::{ActivityOptions, Error, Result, RetryPolicy, TaskEvent, tools::ToolRequest};

/// What becomes of a child when its parent ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParentClose {
    /// It is ended by force.
    Terminate,
    /// It is asked to stop, and cleans up.
    #[default]
    RequestCancel,
    /// It goes on by itself.
    Abandon,
}

/// What an instance is created from.
#[derive(Debug, Clone)]
pub(crate) struct Init {
    /// Name of the workflow in its plugin.
    pub(crate) workflow: String,
    /// Id of the execution.
    pub(crate) execution_id: String,
    /// Id of the run.
    pub(crate) run_id: String,
    /// JSON text.
    pub(crate) input: String,
    /// For all randomness.
    pub(crate) seed: u64,
    /// Unix time.
    pub(crate) started_at_ms: u64,
    /// The execution that started this one as its child.
    pub(crate) parent: Option<String>,
    /// 1, and more when the run before failed.
    pub(crate) attempt: u32,
}

/// What is said of an activation beside its jobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turn {
    /// Unix time.
    pub(crate) now_ms: u64,
    /// The turn has happened before.
    pub(crate) replaying: bool,
    /// The patches that it noted then.
    pub(crate) patches: Vec<String>,
    /// Events in the history before it.
    pub(crate) history_events: u64,
    /// The history grows long.
    pub(crate) continue_as_new_suggested: bool,
}

impl From<u64> for Turn {
    fn from(now_ms: u64) -> Self {
        Self { now_ms, ..Self::default() }
    }
}

/// What somebody says to a running workflow.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The handler.
    pub(crate) name: String,
    /// JSON text.
    pub(crate) input: String,
    /// Who says it.
    pub(crate) sender: String,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    /// The first job of every instance.
    Started,
    /// An operation has ended: its number and its JSON text.
    Resolved(u32, Result<String>),
    /// Somebody asked the execution to stop.
    CancelRequested(String),
    /// A child has begun: its number and its execution id. A failure ends it.
    ChildStarted(u32, Result<String>),
    /// A signal.
    Signal(Message),
    /// An update, with its id.
    Update(String, Message),
}

/// Something that the workflow wants.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// Do this; its end arrives as a job with the same number.
    Begin(u32, Request),
    /// The end of this operation is not wanted any more.
    Cancel(u32),
    /// Show this.
    Emit(TaskEvent),
    /// The workflow has succeeded with this JSON text.
    Complete(String),
    /// The workflow has failed.
    Fail(Error),
    /// The workflow has ended because it was asked to.
    Cancelled,
    /// The update of this id will be carried out.
    UpdateAccepted(String),
    /// It will not.
    UpdateRejected(String, Error),
    /// It has been: JSON text.
    UpdateCompleted(String, Result<String>),
    /// Search keys change.
    SearchKeys(Vec<(String, SearchValue)>),
    /// The code goes the way of this patch.
    Patched(String),
    /// The run has ended; another one begins with this JSON text.
    ContinueAsNew(String),
}

/// A change to a search key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SearchValue {
    Text(String),
    Removed,
}

/// An operation that takes time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Request {
    /// Run an activity.
    Activity {
        /// Its name.
        name: &'static str,
        /// JSON text.
        input: String,
        /// Its limits.
        options: ActivityOptions,
    },
    /// Wait.
    Timer {
        /// For how long.
        duration_ms: u64,
    },
    /// Call a tool.
    Tool(ToolRequest),
    /// List the tools of a slot.
    ListTools(&'static str),
    /// Wait until the caller is authorised for a slot.
    AwaitAuth(&'static str),
    /// Start another workflow as a child.
    Child(Box<Child>),
    /// Send a signal to another execution.
    Signal {
        /// To whom.
        execution_id: String,
        /// The handler.
        name: String,
        /// JSON text.
        input: String,
    },
    /// Ask another execution to stop.
    CancelExecution {
        /// Whom.
        execution_id: String,
        /// Why.
        reason: String,
    },
}

/// A child to be started.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Child {
    /// The workflow.
    pub(crate) workflow: String,
    /// Its execution id, if it is chosen.
    pub(crate) execution_id: Option<String>,
    /// JSON text.
    pub(crate) input: String,
    /// What becomes of it when this workflow ends first.
    pub(crate) close: ParentClose,
    /// Instead of its definition's.
    pub(crate) execution_timeout: Option<Duration>,
    /// Instead of its definition's.
    pub(crate) retry: Option<RetryPolicy>,
    /// Whether to be told that it has begun.
    pub(crate) await_start: bool,
}
