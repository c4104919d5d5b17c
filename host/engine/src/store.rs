//! The engine's view of a database. One conformance suite tests every implementation.
//!
//! A store keeps, for each run of an execution, one [`ExecutionRow`] and its history, a list of records under consecutive
//! indexes from 0. Several runs may have the same execution id, one after the other: the newest is the current one. The
//! engine owns the only connection that writes: a store refuses to be opened twice.

mod journal;

use std::{collections::HashSet, sync::Arc};

use futures::future::BoxFuture;

pub use self::journal::{Commits, Committed, Family, Merge, Page, Place, Runs, Scope, Upto};
use crate::{
    Digest, ExecutionId, ExecutionKey, Principal, RunId, UserId, WorkspaceId,
    history::{Parent, ParentClose, Record, SearchValue, StoredRecord, UnixMs},
    witness::Witness,
};

/// Keeps histories.
pub trait Store: Send + Sync + 'static {
    /// The number for a new execution; never given before.
    fn allocate(&self) -> ExecutionKey;

    /// Appends to one history and changes its row, and does the same for its successor if it has one, all in one
    /// transaction, durable when the future resolves.
    ///
    /// Appends of one run take effect in the order of the calls. The store may put many of them into one transaction
    /// (group commit). Fails with [`StoreError::Conflict`] when the first index is taken, or when the execution id of a
    /// start belongs to another run than the one that it replaces; nothing is changed then.
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, StoreError>>;

    /// The current run of an execution.
    fn find(&self, id: &ExecutionId) -> Result<Option<ExecutionRow>, StoreError>;

    /// A run by its id.
    fn find_run(&self, run: &RunId) -> Result<Option<ExecutionRow>, StoreError>;

    /// A run by the store's number.
    fn row(&self, key: ExecutionKey) -> Result<Option<ExecutionRow>, StoreError>;

    /// Up to `limit` records of a history from index `from` on. May give fewer, but none only at the end.
    fn history(&self, key: ExecutionKey, from: u32, limit: usize) -> Result<Vec<StoredRecord>, StoreError>;

    /// Up to `limit` of the last records of a history, the last one first.
    fn last_records(&self, key: ExecutionKey, limit: usize) -> Result<Vec<StoredRecord>, StoreError>;

    /// How many bytes are read for each record that [`Store::history`] gives for the same; nothing of them is read.
    fn sizes(&self, key: ExecutionKey, from: u32, limit: usize) -> Result<Vec<u64>, StoreError>;

    /// The same for [`Store::last_records`].
    fn last_sizes(&self, key: ExecutionKey, limit: usize) -> Result<Vec<u64>, StoreError>;

    /// Every run that has not ended, with when it wants to be looked at.
    fn open_executions(&self) -> Result<Vec<(ExecutionKey, Wake)>, StoreError>;

    /// The open executions that an execution started as its children.
    fn open_children(&self, parent: &ExecutionId) -> Result<Vec<Child>, StoreError>;

    /// Open children, not to be abandoned, whose parent has ended, or the run of it that started them unless that continued
    /// as new: the process died before they heard of it.
    fn orphans(&self) -> Result<Vec<Child>, StoreError>;

    /// The code that open runs are pinned to.
    fn pinned(&self) -> Result<HashSet<Digest>, StoreError>;

    /// The search keys of a run, by name. `None` is a key without a value.
    fn search_keys(&self, key: ExecutionKey) -> Result<Vec<(String, Option<String>)>, StoreError>;

    /// The first record of each of these runs that holds the event `from` or a later one. What is committed is seen whole or
    /// not at all.
    fn seek(&self, runs: Runs<'_>, from: u64) -> Result<Merge, StoreError>;

    /// Takes the next records of a merge, in the order of the whole store. None only when there are none up to there.
    fn merged(&self, merge: &mut Merge, upto: Upto) -> Result<Page, StoreError>;

    /// The records at these places. None for one whose run was removed.
    fn records(&self, places: &[Place]) -> Result<Vec<Option<StoredRecord>>, StoreError>;

    /// The runs of a scope that have not ended.
    fn open_runs(&self, scope: &Scope) -> Result<Vec<ExecutionKey>, StoreError>;

    /// Tells somebody of every commit from now on, who takes the place of whoever was told before. Gives the number of the
    /// last event until now.
    fn listen(&self, commits: Arc<dyn Commits>) -> u64;

    /// Runs, in the order that the filter asks for.
    fn list(&self, filter: &ListFilter) -> Result<Vec<ExecutionRow>, StoreError>;

    /// Removes up to `limit` runs that ended before `before`, with everything that belongs to them, and says how many.
    /// Stops nothing: each call holds the store for as long as a commit takes.
    fn purge(&self, before: UnixMs, limit: usize) -> BoxFuture<'static, Result<usize, StoreError>>;

    /// Who keeps notes of what runs beside this store, if anybody does.
    fn witness(&self) -> Option<Arc<dyn Witness>> {
        None
    }
}

/// An open execution that another one started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its current run.
    pub key: ExecutionKey,
    /// Its id.
    pub id: ExecutionId,
    /// What becomes of it when its parent ends.
    pub close: ParentClose,
}

/// What is known of a run without its history.
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
    /// The execution that started it as its child.
    pub parent: Option<Parent>,
    /// The execution at the top of the tree; its own id if nobody started it as a child.
    pub root: ExecutionId,
    /// The schedule that started it.
    pub schedule: Option<String>,
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
    /// Another run of the same execution goes on with a new input.
    ContinuedAsNew,
}

impl Status {
    /// All of them, in the order of their numbers in a store.
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::Terminated,
        Self::TimedOut,
        Self::ContinuedAsNew,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
            Self::Terminated => "TERMINATED",
            Self::TimedOut => "TIMED_OUT",
            Self::ContinuedAsNew => "CONTINUED_AS_NEW",
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

/// One step of one run.
#[derive(Debug, Clone)]
pub struct Append {
    /// The run.
    pub key: ExecutionKey,
    /// Index of the first record; the number of records before it.
    pub index: u32,
    /// When.
    pub at: UnixMs,
    /// What happened.
    pub records: Vec<Record>,
    /// The row, for the first append of a run.
    pub start: Option<Box<Start>>,
    /// A new status and the time of the end.
    pub end: Option<(Status, UnixMs)>,
    /// When the run wants to be looked at, if that changes.
    pub wake: Option<Wake>,
    /// The code that the run is pinned to from now on, if that changes.
    pub digest: Option<Digest>,
    /// Search keys that change.
    pub search_keys: Vec<(String, SearchValue)>,
    /// The first step of the run that takes this one's place, in the same transaction.
    pub successor: Option<Box<Append>>,
}

impl Append {
    /// A step that only appends records.
    pub fn records(key: ExecutionKey, index: u32, at: UnixMs, records: Vec<Record>) -> Self {
        Self {
            key,
            index,
            at,
            records,
            start: None,
            end: None,
            wake: None,
            digest: None,
            search_keys: Vec::new(),
            successor: None,
        }
    }
}

/// The birth of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Its row.
    pub row: ExecutionRow,
    /// The run that the execution id belongs to until now; absent for an id that no run has.
    pub replaces: Option<ExecutionKey>,
}

/// Where an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Number of the first event in the order of the whole store.
    pub first_event: u64,
}

/// What to list. What is absent or empty filters nothing.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only runs of this workspace.
    pub workspace: Option<WorkspaceId>,
    /// Only runs of this user.
    pub user: Option<UserId>,
    /// Only runs of one of these workflows.
    pub workflows: Vec<String>,
    /// Only runs in one of these states.
    pub status: Vec<Status>,
    /// Only runs of this execution.
    pub id: Option<ExecutionId>,
    /// Only runs of executions in the tree below this one, itself included.
    pub root: Option<ExecutionId>,
    /// Only runs of children of this execution.
    pub parent: Option<ExecutionId>,
    /// Only runs that this schedule started.
    pub schedule: Option<String>,
    /// Only runs started at or after this time.
    pub started_from: Option<UnixMs>,
    /// Only runs started before this time.
    pub started_before: Option<UnixMs>,
    /// Only runs ended at or after this time.
    pub ended_from: Option<UnixMs>,
    /// Only runs ended before this time.
    pub ended_before: Option<UnixMs>,
    /// Only runs whose execution id begins with this text or whose workflow's name contains it.
    pub text: Option<String>,
    /// Only runs that match all of these.
    pub search_keys: Vec<SearchTerm>,
    /// In which order.
    pub sort: Sort,
    /// Only the current run of each execution.
    pub current: bool,
    /// Only what comes after this run, the last one of the page before, in the order of the list.
    pub after: Option<ExecutionKey>,
    /// At most so many.
    pub limit: usize,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// By start, newest first.
    #[default]
    NewestStart,
    /// By start, oldest first.
    OldestStart,
    /// By end, newest first; runs that have not ended come before all others.
    NewestEnd,
    /// By end, oldest first; runs that have not ended come after all others.
    OldestEnd,
}

/// A condition on a search key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchTerm {
    /// The key's name.
    pub name: String,
    /// What its value must be.
    pub value: SearchMatch,
}

/// What the value of a search key must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchMatch {
    /// Anything, also nothing: the key is there.
    Present,
    /// Nothing.
    Null,
    /// Exactly this.
    Exactly(String),
    /// This somewhere in it, in any case of letters.
    Similar(String),
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
    /// Not the store's fault: there is nothing to record, since a guest cannot be run now. The sentence says why.
    #[error("{0}")]
    Guests(String),
}
