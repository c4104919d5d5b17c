//! The engine's view of a database. One conformance suite tests every implementation.
//!
//! A store keeps, for each execution, one [`ExecutionRow`] and its history, a list of records under consecutive
//! indexes from 0. The engine owns the only connection that writes: a store refuses to be opened twice.

use std::collections::HashSet;

use futures::future::BoxFuture;

use crate::{
    Digest, ExecutionId, ExecutionKey, Principal, RunId,
    history::{Record, StoredRecord, UnixMs},
};

/// Keeps histories.
pub trait Store: Send + Sync + 'static {
    /// The number for a new execution; never given before.
    fn allocate(&self) -> ExecutionKey;

    /// Appends to one history and changes its row, all in one transaction, durable when the future resolves.
    ///
    /// Appends take effect in the order of the calls. The store may put many of them into one transaction (group
    /// commit). Fails with [`StoreError::Conflict`] when the first index is taken or the execution id is; nothing is
    /// changed then.
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, StoreError>>;

    /// The row of an execution.
    fn find(&self, id: &ExecutionId) -> Result<Option<ExecutionRow>, StoreError>;

    /// The row of an execution.
    fn row(&self, key: ExecutionKey) -> Result<Option<ExecutionRow>, StoreError>;

    /// Up to `limit` records of a history from index `from` on.
    fn history(&self, key: ExecutionKey, from: u32, limit: usize) -> Result<Vec<StoredRecord>, StoreError>;

    /// The last record of a history.
    fn last_record(&self, key: ExecutionKey) -> Result<Option<StoredRecord>, StoreError>;

    /// Every execution that has not ended, with when it wants to be looked at.
    fn open_executions(&self) -> Result<Vec<(ExecutionKey, Wake)>, StoreError>;

    /// The code that open executions are pinned to.
    fn pinned(&self) -> Result<HashSet<Digest>, StoreError>;

    /// Executions, newest first.
    fn list(&self, filter: &ListFilter) -> Result<Vec<ExecutionRow>, StoreError>;
}

/// What is known of an execution without its history.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionRow {
    /// The store's number.
    pub key: ExecutionKey,
    /// The clients' id.
    pub id: ExecutionId,
    /// The run.
    pub run_id: RunId,
    /// Name of the workflow.
    pub workflow: String,
    /// The code it is pinned to.
    pub digest: Digest,
    /// On whose behalf.
    pub principal: Principal,
    /// Where in its life it is.
    pub status: Status,
    /// When it was started.
    pub started_at: UnixMs,
    /// When it ended.
    pub ended_at: Option<UnixMs>,
}

/// Where in its life an execution is; the words are the wire contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// It has not ended.
    Running,
    /// It ended well.
    Completed,
    /// It failed.
    Failed,
    /// It ended because it was asked to.
    Canceled,
    /// It was ended by force.
    Terminated,
    /// Its time was over.
    TimedOut,
}

impl Status {
    /// All of them, in the order of their numbers in a store.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Completed, Self::Failed, Self::Canceled, Self::Terminated, Self::TimedOut];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
            Self::Terminated => "TERMINATED",
            Self::TimedOut => "TIMED_OUT",
        }
    }
}

/// When an open execution wants to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// It has work to do.
    Now,
    /// Nothing happens before this time.
    At(UnixMs),
    /// Not by itself: it is blocked.
    Never,
}

/// One step of one execution.
#[derive(Debug, Clone)]
pub struct Append {
    /// The execution.
    pub key: ExecutionKey,
    /// Index of the first record; the number of records before it.
    pub index: u32,
    /// When.
    pub at: UnixMs,
    /// What happened.
    pub records: Vec<Record>,
    /// The row, for the first append of an execution.
    pub start: Option<Box<ExecutionRow>>,
    /// A new status and the time of the end.
    pub end: Option<(Status, UnixMs)>,
    /// When the execution wants to be looked at, if that changes.
    pub wake: Option<Wake>,
}

/// Where an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Number of the first event in the order of the whole store.
    pub first_event: u64,
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only executions of this workspace.
    pub workspace: Option<crate::WorkspaceId>,
    /// Only executions of this user.
    pub user: Option<crate::UserId>,
    /// Only executions of this workflow.
    pub workflow: Option<String>,
    /// Only executions in one of these states; empty means all.
    pub status: Vec<Status>,
    /// Only the execution with this run.
    pub run: Option<RunId>,
    /// Only executions started before this one (in the order of the list).
    pub before: Option<ExecutionKey>,
    /// At most so many.
    pub limit: usize,
}

/// A store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The execution id, or the place in the history, is taken.
    #[error("this execution id, or this place in its history, is taken")]
    Conflict,
    /// No space is left.
    #[error("the disk of the data folder is full: free some space, executions go on by themselves then")]
    Full,
    /// The data folder cannot be written.
    #[error("the data folder cannot be written: {0}")]
    ReadOnly(String),
    /// What was read makes no sense.
    #[error(transparent)]
    Corrupt(#[from] crate::history::CorruptRecord),
    /// Anything else the database says.
    #[error("the store failed: {0}")]
    Failed(String),
}
