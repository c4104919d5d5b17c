//! The driver: it lets executions run, and is what the API talks to.
//!
//! Each execution that is being worked on has a cell with a mailbox. Whoever puts news into an empty mailbox
//! drives the execution: it takes all news, lets the machine and the workflow's instance have a turn, appends the
//! records, and after they are durable starts what the machine asked for. So a turn costs one commit, an execution
//! never has two turns at once, and nothing waits on a thread of its own.
//!
//! Instances and machines are a cache: an execution that waits may be dropped from memory at any time and is built
//! again from its history. What is running for it (attempts, tool calls) does not depend on that.

mod activity;
mod address;
mod archive;
mod call;
mod cell;
mod children;
mod crashes;
mod following;
mod messages;
mod operations;
mod places;
mod preflight;
mod questions;
mod relief;
mod reset;
mod retention;
mod start;
mod succession;
mod task;
mod timers;
mod turn;
mod upgrade;
mod view;
mod waits;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_recursion::async_recursion as boxed;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

pub use self::{
    address::{Address, Reach},
    following::{Following, News},
    messages::{MessageError, UpdateState, WaitFor},
    questions::{AnswerError, OpenQuestion},
    reset::ResetRequest,
    start::{IdConflict, IdReuse, InputProblem, SignalWithStartError, StartError, StartRequest},
    upgrade::Upgrade,
};
use self::{
    archive::Archive,
    cell::{Cell, Refused},
    crashes::Crashes,
    following::Followers,
    timers::Timers,
    waits::Places,
};
use crate::{
    ExecutionId, ExecutionKey, Failure, Json, RunId,
    guests::Guests,
    history::{StoredRecord, UnixMs},
    machine::{BLOCKED_KEY, Input, PAUSED_KEY},
    store::{ExecutionRow, ListFilter, Merge, Page, Place, Runs, Status, Store, StoreError, Upto, Wake},
    tools::Tools,
};

/// How much the engine may do at once, and how big things may be.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Attempts of activities that run at the same time; others wait for their turn. Attempts of one workflow for one user
    /// take nearly four fifths of them at most, those of one user eight ninths. Default: 256.
    pub max_concurrent_activities: usize,
    /// Attempts that keep none of those places while they wait for people: to authorise, or to answer. Beyond it they keep
    /// theirs. Together with `max_concurrent_activities` this bounds the instances of activities. Default: 240.
    pub max_waiting_activities: usize,
    /// Workflows that have a turn at the same time; others wait for theirs. Default: 256.
    pub max_concurrent_turns: usize,
    /// Workflows that are kept in memory while they wait. Together with `max_concurrent_turns` this bounds the instances
    /// of workflows. Default: 256.
    pub max_cached_instances: usize,
    /// Size limit of the input of an execution or a message. Default: 15 MB; above 2 MB (contract/worker-defaults.md) a
    /// payload is kept outside of the history.
    pub max_input_bytes: usize,
    /// How long a connector waits for its user to authorise, from when it asked first, also over restarts. Default:
    /// 10 minutes (contract/preflight.md).
    pub auth_window: Duration,
    /// How long a cancelled activity may take to notice before it is stopped. Default: 5 s.
    pub cancel_grace: Duration,
    /// How long to wait after the store or the host failed before trying again. Default: 1 s.
    pub retry_pause: Duration,
    /// How long executions are kept after their end. Default: for ever.
    pub retention: Option<Duration>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_concurrent_activities: 256,
            max_waiting_activities: 240,
            max_concurrent_turns: 256,
            max_cached_instances: 256,
            max_input_bytes: 15_000_000,
            auth_window: Duration::from_secs(600),
            cancel_grace: Duration::from_secs(5),
            retry_pause: Duration::from_secs(1),
            retention: None,
        }
    }
}

/// Runs executions. Made by [`Engine::open`].
pub struct Engine {
    me: Weak<Engine>,
    store: Arc<dyn Store>,
    guests: Arc<dyn Guests>,
    tools: Arc<dyn Tools>,
    config: EngineConfig,
    cells: Mutex<Cells>,
    /// Executions that wait in memory, oldest first.
    idle: Mutex<VecDeque<(ExecutionKey, u64)>>,
    stamps: AtomicU64,
    loaded: AtomicUsize,
    open: AtomicUsize,
    places: Places,
    turn_permits: Semaphore,
    timers: Timers,
    validators: start::Validators,
    archive: Archive,
    crashes: Crashes,
    followers: Arc<Followers>,
    /// Since when this process runs executions.
    opened_at: UnixMs,
    closing: AtomicBool,
    /// Turns under way; shutdown waits for them.
    turns: watch::Sender<usize>,
}

#[derive(Default)]
struct Cells {
    by_key: HashMap<ExecutionKey, Arc<Cell>>,
    by_id: HashMap<ExecutionId, ExecutionKey>,
}

/// An execution as a client sees it.
#[derive(Debug, Clone)]
pub struct ExecutionView {
    /// What is known without the history.
    pub row: ExecutionRow,
    /// The result of a completed execution.
    pub result: Option<Json>,
    /// Why it failed, timed out or was terminated.
    pub failure: Option<Failure>,
    /// Why it is blocked, if it is.
    pub blocked: Option<String>,
    /// Why it is paused, if it is.
    pub paused: Option<String>,
    /// The run that took this one's place, if there is one.
    pub continued: Option<RunId>,
}

impl ExecutionView {
    pub(crate) fn running(row: ExecutionRow) -> Self {
        Self { row, result: None, failure: None, blocked: None, paused: None, continued: None }
    }
}

/// How far a history has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    /// Durable records.
    records: u32,
    /// No more will come.
    ended: bool,
}

/// Something cannot be done to an execution.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ControlError {
    /// There is no such execution.
    #[error("no execution has the id '{0}'")]
    Unknown(ExecutionId),
    /// It is over.
    #[error("the execution '{0}' has ended already")]
    Ended(ExecutionId),
    /// It waits for the right code and cannot hear of anything.
    #[error("the execution '{0}' is blocked: unblock it first, or terminate it")]
    Blocked(ExecutionId),
    /// The history has no such event.
    #[error("the history has the events 1 to {events}, there is no event {event}")]
    NoSuchEvent {
        /// What was asked for.
        event: u64,
        /// How many there are.
        events: u64,
    },
    /// The code that it is to go on with cannot be used.
    #[error("the component cannot be used for this execution: {0}")]
    WrongCode(String),
    /// It cannot be recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Figures for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct EngineStats {
    /// Executions that have not ended.
    pub open: usize,
    /// Those of them that are in memory.
    pub loaded: usize,
}

/// Milliseconds since the Unix epoch, by the wall clock.
pub(crate) fn now_ms() -> UnixMs {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Engine {
    /// Takes up the work that the store holds and is ready for more. Must be called inside a tokio runtime.
    #[boxed]
    pub async fn open(
        store: Arc<dyn Store>,
        guests: Arc<dyn Guests>,
        tools: Arc<dyn Tools>,
        config: EngineConfig,
    ) -> Result<Arc<Self>, StoreError> {
        let open = store.open_executions()?;
        guests.retain(&store.pinned()?);
        let followers = Arc::new(Followers::default());
        followers.begin(store.listen(Arc::clone(&followers) as _));
        let engine = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            crashes: Crashes::new(&*store),
            followers,
            store,
            guests,
            tools,
            places: Places::new(config.max_concurrent_activities, config.max_waiting_activities),
            turn_permits: Semaphore::new(config.max_concurrent_turns),
            config,
            cells: Mutex::default(),
            idle: Mutex::default(),
            stamps: AtomicU64::new(0),
            loaded: AtomicUsize::new(0),
            open: AtomicUsize::new(open.len()),
            timers: Timers::default(),
            validators: start::Validators::default(),
            archive: Archive::default(),
            opened_at: now_ms(),
            closing: AtomicBool::new(false),
            turns: watch::Sender::new(0),
        });
        // Before anything runs: what has crashed the process too often is not to run.
        let suspected = engine.hold_back().await?;
        let relief: Weak<Self> = Arc::downgrade(&engine);
        engine.guests.relieved_by(relief);
        tokio::spawn(timers::run(Arc::downgrade(&engine)));
        if let Some(keep) = engine.config.retention {
            tokio::spawn(retention::run(Arc::downgrade(&engine), keep));
        }
        let mut now = Vec::new();
        for (key, wake) in open {
            match wake {
                _ if suspected.iter().any(|(suspect, _)| *suspect == key) => {}
                Wake::Now => now.push(key),
                Wake::At(at) => engine.timers.set(at, key),
                Wake::Never => {}
            }
        }
        tracing::info!(
            with_work = now.len(),
            open = engine.stats().open,
            "the engine takes up its executions"
        );
        let resuming = Arc::clone(&engine);
        tokio::spawn(async move {
            resuming.close_orphans().await;
            for key in now {
                // One after the other: they come back by themselves afterwards, and new work is not kept waiting.
                resuming.wake(key).await;
            }
            for (key, run) in suspected {
                resuming.wake_alone(key, run).await;
            }
        });
        Ok(engine)
    }

    /// How much it may do, and how big things may be.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// The guests it runs.
    pub fn guests(&self) -> &Arc<dyn Guests> {
        &self.guests
    }

    /// Figures for operators.
    pub fn stats(&self) -> EngineStats {
        EngineStats { open: self.open.load(Ordering::Relaxed), loaded: self.loaded.load(Ordering::Relaxed) }
    }

    /// The search keys of a run that are not the host's own. `None` is a key without a value.
    pub fn search_keys(&self, key: ExecutionKey) -> Result<Vec<(String, Option<String>)>, StoreError> {
        let mut keys = self.store.search_keys(key)?;
        keys.retain(|(name, _)| name != BLOCKED_KEY && name != PAUSED_KEY);
        Ok(keys)
    }

    /// Executions, newest first.
    pub fn list(&self, filter: &ListFilter) -> Result<Vec<ExecutionRow>, StoreError> {
        self.store.list(filter)
    }

    /// Up to `limit` records of a history from index `from` on; fewer if they are large, none only at the end.
    pub fn history(
        &self,
        key: ExecutionKey,
        from: u32,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let page = self.store.history(key, from, limit)?;
        Ok(page.into_iter().map(StoredRecord::original).collect())
    }

    /// How many bytes are read for each record that [`Engine::history`] gives for the same.
    pub fn sizes(&self, key: ExecutionKey, from: u32, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.store.sizes(key, from, limit)
    }

    /// See [`Store::seek`].
    pub fn seek(&self, runs: Runs<'_>, from: u64) -> Result<Merge, StoreError> {
        self.store.seek(runs, from)
    }

    /// See [`Store::merged`].
    pub fn merged(&self, merge: &mut Merge, upto: Upto) -> Result<Page, StoreError> {
        self.store.merged(merge, upto)
    }

    /// See [`Store::records`]; records of an earlier run are as they were there.
    pub fn records(&self, places: &[Place]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        let records = self.store.records(places)?;
        Ok(records.into_iter().map(|record| record.map(StoredRecord::original)).collect())
    }

    /// A run by the store's number, without its result.
    pub fn row_at(&self, key: ExecutionKey) -> Result<Option<ExecutionRow>, StoreError> {
        self.store.row(key)
    }

    /// Waits until the execution ends, with all runs that follow, or until `limit` has passed; then the answer is as it is
    /// at that moment.
    pub async fn wait(
        &self,
        whom: impl Into<Address<'_>>,
        limit: Option<Duration>,
    ) -> Result<Option<ExecutionView>, StoreError> {
        self.wait_for_end(whom.into(), limit).await
    }

    #[boxed]
    async fn wait_for_end<'a>(
        &self,
        whom: Address<'a>,
        limit: Option<Duration>,
    ) -> Result<Option<ExecutionView>, StoreError>
    where
        'a: 'async_recursion,
    {
        let now = async || match self.store.find(whom.id)?.filter(|row| whom.reaches(row)) {
            Some(row) => self.view_aside(row).await.map(Some),
            None => Ok(None),
        };
        let until = async {
            loop {
                let cell = match self.cell_in_memory(whom) {
                    Some(cell) => cell,
                    None => match self.store.find(whom.id)?.filter(|row| whom.reaches(row)) {
                        None => return Ok(None),
                        Some(row) if row.status != Status::Running => {
                            return self.view_aside(row).await.map(Some);
                        }
                        Some(row) => self.cell(&row),
                    },
                };
                let mut ended = cell.ended.subscribe();
                if ended.wait_for(|ended| *ended).await.is_err() {
                    return now().await;
                }
                match cell.outcome.get() {
                    Some(view) if view.continued.is_none() => return Ok(Some(ExecutionView::clone(view))),
                    // Another run goes on, or this cell was made when it had ended already.
                    _ => match now().await? {
                        Some(view) if view.row.status == Status::Running => {}
                        other => return Ok(other),
                    },
                }
            }
        };
        match limit {
            Some(limit) => match tokio::time::timeout(limit, until).await {
                Ok(outcome) => outcome,
                Err(_) => now().await,
            },
            None => until.await,
        }
    }

    /// Asks an execution to stop. Durable when it returns; when it ends is up to the workflow.
    pub async fn cancel(&self, whom: impl Into<Address<'_>>, reason: String) -> Result<(), ControlError> {
        self.control(whom.into(), Input::Cancel(reason)).await
    }

    /// Ends an execution at once.
    pub async fn terminate(&self, whom: impl Into<Address<'_>>, reason: String) -> Result<(), ControlError> {
        self.control(whom.into(), Input::Terminate(reason)).await
    }

    /// Lets a workflow rest: it has no turn and no attempt of an activity begins until [`Engine::resume`]. What happens
    /// meanwhile is recorded. Its time goes on.
    pub async fn pause(&self, whom: impl Into<Address<'_>>, reason: String) -> Result<(), ControlError> {
        self.control(whom.into(), Input::Pause(reason)).await
    }

    /// Lets a paused execution go on.
    pub async fn resume(&self, whom: impl Into<Address<'_>>) -> Result<(), ControlError> {
        self.control(whom.into(), Input::Resume).await
    }

    /// Tries a blocked execution again.
    pub async fn unblock(&self, whom: impl Into<Address<'_>>) -> Result<(), ControlError> {
        self.control(whom.into(), Input::Unblock).await
    }

    /// The current run of an execution, if it is the one that is meant.
    fn find(&self, whom: Address<'_>) -> Result<ExecutionRow, ControlError> {
        let row = self.store.find(whom.id)?.filter(|row| whom.reaches(row));
        row.ok_or_else(|| ControlError::Unknown(whom.id.clone()))
    }

    #[boxed]
    async fn control<'a>(&self, whom: Address<'a>, input: Input) -> Result<(), ControlError>
    where
        'a: 'async_recursion,
    {
        let mut before = None;
        loop {
            let row = self.find(whom)?;
            // A run that has just ended may have been followed by another, which is asked in its place.
            if row.status != Status::Running || before == Some(row.key) {
                return Err(ControlError::Ended(row.id));
            }
            let cell = self.cell(&row);
            let recorded = cell.post_and_confirm(input.clone());
            self.drive(&cell).await;
            match recorded.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Refused::Store(error))) => return Err(error.into()),
                Ok(Err(Refused::Ended)) | Err(_) => before = Some(row.key),
            }
        }
    }

    /// Takes no more starts and waits until every turn under way is recorded.
    #[boxed]
    pub async fn shutdown(&self) {
        self.closing.store(true, Ordering::SeqCst);
        let mut turns = self.turns.subscribe();
        let quiet = turns.wait_for(|turns| *turns == 0);
        if tokio::time::timeout(Duration::from_secs(4), quiet).await.is_err() {
            tracing::warn!("some turns did not end in time; they are repeated at the next start");
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    fn cell_in_memory<'a>(&self, whom: impl Into<Address<'a>>) -> Option<Arc<Cell>> {
        let whom = whom.into();
        let cells = self.cells.lock();
        let key = cells.by_id.get(whom.id)?;
        cells.by_key.get(key).filter(|cell| whom.reaches(&cell.row)).cloned()
    }

    /// The cell of an open execution; made if there is none.
    fn cell(&self, row: &ExecutionRow) -> Arc<Cell> {
        let mut cells = self.cells.lock();
        if let Some(cell) = cells.by_key.get(&row.key) {
            return Arc::clone(cell);
        }
        let cell = Arc::new(Cell::new(row.clone()));
        cells.by_id.insert(row.id.clone(), row.key);
        cells.by_key.insert(row.key, Arc::clone(&cell));
        cell
    }

    fn drop_cell(&self, cell: &Cell) {
        let mut cells = self.cells.lock();
        cells.by_key.remove(&cell.key);
        // The id may belong to a later run by now.
        if cells.by_id.get(&cell.row.id) == Some(&cell.key) {
            cells.by_id.remove(&cell.row.id);
        }
    }

    /// Lets time pass for an execution, loading it if need be.
    async fn wake(&self, key: ExecutionKey) {
        let cell = self.cells.lock().by_key.get(&key).cloned();
        let cell = match cell {
            Some(cell) => cell,
            None => match self.store.row(key) {
                Ok(Some(row)) if row.status == Status::Running => self.cell(&row),
                Ok(_) => return,
                Err(error) => {
                    tracing::error!(?key, %error, "an execution cannot be read; trying again");
                    self.timers.set(now_ms() + self.config.retry_pause.as_millis() as u64, key);
                    return;
                }
            },
        };
        cell.post(Input::Tick);
        self.drive(&cell).await;
    }

    fn arc(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Puts an execution that waits at the young end of the cache and drops the oldest ones beyond the limit.
    fn rest(&self, cell: &Arc<Cell>) {
        let stamp = self.stamps.fetch_add(1, Ordering::Relaxed);
        cell.stamp.store(stamp, Ordering::Relaxed);
        let mut idle = self.idle.lock();
        idle.push_back((cell.key, stamp));
        // Entries whose execution has moved since are only a number; let them not pile up.
        if idle.len() > 4 * self.config.max_cached_instances.max(16) {
            let cells = self.cells.lock();
            idle.retain(|(key, stamp)| {
                cells.by_key.get(key).is_some_and(|cell| cell.stamp.load(Ordering::Relaxed) == *stamp)
            });
        }
        while self.loaded.load(Ordering::Relaxed) > self.config.max_cached_instances {
            let Some((key, stamp)) = idle.pop_front() else { break };
            let Some(old) = self.resting(key, stamp) else { continue };
            if !old.unload() {
                continue;
            }
            self.loaded.fetch_sub(1, Ordering::Relaxed);
            self.forget_quiet(&old);
        }
    }
}

/// What an ended execution leaves for those who waited.
type FinalView = OnceLock<ExecutionView>;
