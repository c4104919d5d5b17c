//! What an instance and its host say to each other, independent of how it crosses the boundary.

use crate::{ActivityOptions, Error, Result, TaskEvent};

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
    Tool {
        /// Its connector's slot.
        slot: &'static str,
        /// Its name.
        tool: String,
        /// JSON text.
        arguments: String,
    },
    /// List the tools of a slot.
    ListTools(&'static str),
    /// Wait until the caller is authorised for a slot.
    AwaitAuth(&'static str),
}
