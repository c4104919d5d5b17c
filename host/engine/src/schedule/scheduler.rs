//! The driver of all schedules: one task that sleeps until something is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_recursion::async_recursion as boxed;
use async_trait::async_trait;
use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, FuturesUnordered},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};

use super::{
    BackfillView, Definition, Members, Next, Outcome, Overlap, Plan, Policy, Problem, Run, Spec, State, Stop,
    UnixSeconds,
    plan::{MOST_AT_ONCE, seconds},
};
use crate::{
    ExecutionId, Extensions, Json, Principal, WorkspaceId,
    history::UnixMs,
    records::{Change, Records, RecordsError},
};

const TABLE: &str = "schedules";

/// The wall clock may be set: never sleep longer than this without looking at it.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// So many schedules are worked on at once.
const AT_ONCE: usize = 32;

/// So many decisions a schedule may take, and executions start, before others have their turn.
const DECISIONS: usize = 10_000;
const STARTS: usize = 64;

/// So long a schedule decides before others have their turn.
const LONGEST_TURN: Duration = Duration::from_millis(100);

/// So many characters an id of a schedule may have: ids of executions are made from it.
const LONGEST_ID: usize = 200;

/// So many times of the future are shown.
const FUTURE: usize = 10;

/// What schedules want from the engine.
#[async_trait]
pub trait Executions: Send + Sync + 'static {
    /// Whether this workflow may have schedules with this input, and what else they ask for.
    async fn check(&self, workflow: &str, input: &Json, extensions: &Extensions) -> Result<(), Refusal>;

    /// Starts an execution. `Ok` also when this schedule has started it before; an id that anybody else took is a failure.
    async fn start(&self, start: ScheduleStart) -> Result<(), StartFailed>;

    /// Whether this could start if nothing of the schedule ran.
    async fn may_start(&self, start: &ScheduleStart) -> Result<(), StartFailed>;

    /// Whether the schedule has started this one. An error means that it cannot be known now.
    fn has_started(&self, which: &OwnExecution) -> Result<bool, String>;

    /// Asks an execution to stop. It may have ended.
    async fn cancel(&self, which: &OwnExecution, reason: String);

    /// Ends an execution. It may have ended.
    async fn terminate(&self, which: &OwnExecution, reason: String);

    /// Resolves when the execution has ended; to `None` if there is none.
    fn ended(&self, which: &OwnExecution) -> BoxFuture<'static, Option<Outcome>>;
}

/// An execution that a schedule has started. That one with its id exists does not say that it is this one: anybody may
/// have taken the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnExecution {
    /// Its id.
    pub execution_id: ExecutionId,
    /// The schedule that must have started it.
    pub schedule_id: String,
    /// On whose behalf it must run.
    pub owner: Principal,
}

/// An execution that is to start.
#[derive(Debug, Clone)]
pub struct ScheduleStart {
    /// Name of the workflow.
    pub workflow: String,
    /// The same for the same schedule and time.
    pub execution_id: ExecutionId,
    /// The input.
    pub input: Json,
    /// What else it asks for.
    pub extensions: Extensions,
    /// The owner of the schedule.
    pub principal: Principal,
    /// The schedule.
    pub schedule_id: String,
}

/// A start did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFailed {
    /// Trying again later may help.
    ForNow(String),
    /// It cannot work with this workflow and this input.
    ForGood(String),
    /// Somebody wants that nothing comes of it.
    Skipped(String),
}

/// A workflow cannot have such a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No plugin serves it.
    #[error(
        "no workflow is called '{0}': see GET /v1/workflows or `airlock plugins list` for those that are served"
    )]
    UnknownWorkflow(String),
    /// It needs a person.
    #[error(
        "the workflow '{0}' runs on behalf of its caller, and a scheduled run has no user present: schedule a workflow \
         without on_behalf_of"
    )]
    OnBehalfOf(String),
    /// The input does not match the workflow's schema.
    #[error("the input does not match the workflow's schema: {}", .0.first().map_or("", |problem| &problem.message))]
    Input(Vec<Problem>),
    /// It asks for something that the workflow does not have, or that a schedule cannot have.
    #[error("{}", .0.message)]
    Extensions(Problem),
    /// The plugin cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// A schedule cannot be made, found or changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ScheduleError {
    /// There is none with this id.
    #[error("no schedule has the id '{0}': see GET /v1/workflows/schedules or `airlock schedules list`")]
    Unknown(String),
    /// The id is taken.
    #[error("a schedule with the id '{0}' exists already: choose another id, or change that one")]
    Exists(String),
    /// The id cannot be used.
    #[error("the id of a schedule has 1 to {LONGEST_ID} characters, letters, digits, '_' and '-' only")]
    Id,
    /// The definition cannot be used.
    #[error("the schedule cannot be used: {}", .0.first().map_or("", |problem| &problem.message))]
    Invalid(Vec<Problem>),
    /// The workflow cannot have it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be stored.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// A schedule that is to be made.
#[derive(Debug, Clone)]
pub struct NewSchedule {
    /// An id of the caller's choice.
    pub id: Option<String>,
    /// What it starts.
    pub workflow: String,
    /// On whose behalf its executions run.
    pub owner: Principal,
    /// With what and when.
    pub definition: Definition,
}

/// Past times whose executions are wanted.
#[derive(Debug, Clone, Copy)]
pub struct BackfillRequest {
    /// From this time on.
    pub first: UnixSeconds,
    /// Up to and with this time.
    pub last: UnixSeconds,
    /// What to do when one still runs; one after the other if absent.
    pub overlap: Option<Overlap>,
}

/// A schedule as a client sees it.
#[derive(Debug, Clone)]
pub struct ScheduleView {
    /// Its id.
    pub id: String,
    /// What it starts.
    pub workflow: String,
    /// On whose behalf its executions run.
    pub owner: Principal,
    /// As it was written.
    pub definition: Definition,
    /// With nothing left open.
    pub policy: Policy,
    /// What has become of it.
    pub state: State,
    /// Starts that wait for the end of others.
    pub waiting: usize,
    /// Backfills under way.
    pub backfills: Vec<BackfillView>,
    /// The next times.
    pub future: Vec<UnixSeconds>,
    /// When it was made.
    pub created_at: UnixMs,
    /// When its definition was changed.
    pub updated_at: UnixMs,
}

/// A schedule in the store.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: String,
    workflow: String,
    owner: Principal,
    definition: Definition,
    state: State,
    created_at: UnixMs,
    updated_at: UnixMs,
}

/// A schedule in memory.
#[derive(Clone)]
struct Entry {
    id: String,
    workflow: String,
    owner: Principal,
    definition: Definition,
    plan: Plan,
    created_at: UnixMs,
    updated_at: UnixMs,
    /// The state has changed since it was saved.
    dirty: bool,
    deleted: bool,
    /// The last start failed in a way that leaves open whether it worked.
    unsure: bool,
    /// How often in a row something did not work for now.
    setbacks: u32,
}

/// `workspace/id`: where a schedule is stored.
type Key = String;
type Shared = Arc<tokio::sync::Mutex<Entry>>;
type Watch = BoxFuture<'static, (Key, ExecutionId, Outcome)>;
/// Gives the time of the wall clock.
type Clock = Arc<dyn Fn() -> UnixMs + Send + Sync>;

/// All schedules. Made by [`Scheduler::open`]; does nothing by itself until [`Scheduler::run`].
pub struct Scheduler {
    records: Arc<dyn Records>,
    executions: Arc<dyn Executions>,
    clock: Clock,
    entries: Mutex<BTreeMap<Key, Shared>>,
    /// When to look at which schedule. A look too many does no harm.
    wakes: Mutex<BTreeSet<(UnixMs, Key)>>,
    changed: Notify,
    to_watch: Mutex<Vec<Watch>>,
    watching: tokio::sync::Mutex<FuturesUnordered<Watch>>,
    ended: Mutex<Vec<(Key, ExecutionId, Outcome)>>,
}

fn key(workspace: &WorkspaceId, id: &str) -> Key {
    format!("{workspace}/{id}")
}

impl Scheduler {
    /// Reads the stored schedules.
    pub fn open(
        records: Arc<dyn Records>,
        executions: Arc<dyn Executions>,
    ) -> Result<Arc<Self>, RecordsError> {
        Self::with_clock(records, executions, Arc::new(crate::engine::now_ms))
    }

    /// The same with another clock, for tests.
    pub fn with_clock(
        records: Arc<dyn Records>,
        executions: Arc<dyn Executions>,
        clock: Clock,
    ) -> Result<Arc<Self>, RecordsError> {
        let scheduler = Self {
            records,
            executions,
            clock,
            entries: Mutex::default(),
            wakes: Mutex::default(),
            changed: Notify::new(),
            to_watch: Mutex::default(),
            watching: tokio::sync::Mutex::default(),
            ended: Mutex::default(),
        };
        for (key, value) in scheduler.records.scan(TABLE, "", None, usize::MAX)? {
            match restored(&value) {
                Ok(mut entry) => {
                    scheduler.recover(&mut entry)?;
                    for id in &entry.plan.state().running {
                        scheduler.watch(&key, entry.own(id));
                    }
                    scheduler.wakes.lock().insert((0, key.clone()));
                    scheduler.entries.lock().insert(key, Arc::new(tokio::sync::Mutex::new(entry)));
                }
                // The others go on; the record stays for whoever looks into it.
                Err(reason) => tracing::error!(schedule = key, reason, "a stored schedule cannot be used"),
            }
        }
        Ok(Arc::new(scheduler))
    }

    /// What was started before the process died, or by a start that seemed to fail, counts as started.
    fn recover(&self, entry: &mut Entry) -> Result<Vec<ExecutionId>, RecordsError> {
        let mut found = Vec::new();
        for run in entry.plan.candidates() {
            let Ok(id) = entry.plan.execution_id(&run).parse::<ExecutionId>() else { continue };
            if self.executions.has_started(&entry.own(&id)).map_err(RecordsError::Store)? {
                entry.plan.started(&run, id.clone(), (self.clock)());
                entry.dirty = true;
                found.push(id);
            }
        }
        entry.unsure = false;
        Ok(found)
    }

    /// Finds out whether the last start worked after all.
    fn make_sure(&self, key: &Key, entry: &mut Entry) -> Result<(), RecordsError> {
        if entry.unsure {
            for id in self.recover(entry)? {
                self.watch(key, entry.own(&id));
            }
        }
        Ok(())
    }

    /// Drives all schedules; never ends. A schedule that takes long does not hold up the others.
    #[boxed]
    pub async fn run(self: Arc<Self>) {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            for (key, ended) in self.take_work() {
                let (me, at_once) = (Arc::clone(&self), Arc::clone(&at_once));
                tokio::spawn(async move {
                    let _permit = at_once.acquire().await;
                    me.work(key, ended).await;
                    me.changed.notify_one();
                });
            }
            let next = self.wakes.lock().first().map(|(at, _)| *at);
            let sleep =
                next.map_or(LONGEST_SLEEP, |at| Duration::from_millis(at.saturating_sub((self.clock)())));
            tokio::select! {
                () = tokio::time::sleep(sleep.min(LONGEST_SLEEP)) => {}
                () = self.changed.notified() => {}
                () = self.hear() => {}
            }
        }
    }

    /// Does what is due now and returns when something is due next. What [`Scheduler::run`] does again and again, for
    /// tests.
    #[boxed]
    pub async fn turn(&self) -> Option<UnixMs> {
        stream::iter(self.take_work())
            .for_each_concurrent(AT_ONCE, |(key, ended)| self.work(key, ended))
            .await;
        self.wakes.lock().first().map(|(at, _)| *at)
    }

    /// The schedules that are due, and the executions that have ended.
    fn take_work(&self) -> BTreeMap<Key, Vec<(ExecutionId, Outcome)>> {
        let mut work: BTreeMap<Key, Vec<(ExecutionId, Outcome)>> = BTreeMap::new();
        // Those that ended while nobody listened are heard of before anything is decided.
        while self.hear().now_or_never().is_some() {}
        for (key, id, outcome) in self.ended.lock().drain(..) {
            work.entry(key).or_default().push((id, outcome));
        }
        let now = (self.clock)();
        let mut wakes = self.wakes.lock();
        let later = wakes.split_off(&(now + 1, Key::new()));
        for (_, key) in std::mem::replace(&mut *wakes, later) {
            work.entry(key).or_default();
        }
        work
    }

    async fn work(&self, key: Key, ended: Vec<(ExecutionId, Outcome)>) {
        for (id, outcome) in ended {
            self.end(&key, &id, outcome).await;
        }
        self.advance(key).await;
    }

    /// An execution of a schedule has ended.
    async fn end(&self, key: &Key, id: &ExecutionId, outcome: Outcome) {
        loop {
            let Some(entry) = self.entries.lock().get(key).cloned() else { return };
            let mut entry = entry.lock().await;
            match self.make_sure(key, &mut entry) {
                Ok(()) => {
                    let changed = entry.plan.ended(id, outcome, (self.clock)());
                    entry.dirty |= changed;
                    return;
                }
                Err(error) => {
                    tracing::warn!(schedule = entry.id, %error, "it cannot be known whether an execution was started");
                }
            }
            drop(entry);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Waits for the end of an execution.
    async fn hear(&self) {
        let mut watching = self.watching.lock().await;
        watching.extend(self.to_watch.lock().drain(..));
        match watching.next().await {
            Some(ended) => self.ended.lock().push(ended),
            None => std::future::pending().await,
        }
    }

    /// Does what is due for one schedule.
    async fn advance(&self, key: Key) {
        let Some(entry) = self.entries.lock().get(&key).cloned() else { return };
        let mut entry = entry.lock().await;
        if entry.deleted {
            return;
        }
        let wake = match self.decide(&key, &mut entry).await {
            Ok(wake) => {
                entry.setbacks = 0;
                wake
            }
            Err(reason) => {
                let pause = Duration::from_secs(1 << entry.setbacks.min(6));
                entry.setbacks += 1;
                tracing::warn!(
                    schedule = entry.id,
                    reason,
                    ?pause,
                    "a schedule cannot go on; it is tried again"
                );
                Some((self.clock)() + pause.as_millis() as u64)
            }
        };
        if let Some(at) = wake {
            self.wakes.lock().insert((at, key));
        }
    }

    /// Takes decisions until there is nothing to do. The error says what does not work for now.
    async fn decide(&self, key: &Key, entry: &mut Entry) -> Result<Option<UnixMs>, String> {
        self.make_sure(key, entry).map_err(|error| error.to_string())?;
        let mut starts = 0;
        let began = std::time::Instant::now();
        for _ in 0..DECISIONS {
            if began.elapsed() > LONGEST_TURN {
                break;
            }
            let now = (self.clock)();
            match entry.plan.next(now) {
                Next::Decided => entry.dirty = true,
                Next::Wait(wake) => {
                    self.save(key, entry).map_err(|error| error.to_string())?;
                    return Ok(wake);
                }
                Next::Stop(how, run) => {
                    self.save(key, entry).map_err(|error| error.to_string())?;
                    // What cannot take its place does not end it.
                    let start = entry.start(&run)?;
                    let possible = match &start {
                        Ok(start) => self.executions.may_start(start).await,
                        Err(problem) => Err(StartFailed::ForGood(problem.clone())),
                    };
                    if let Err(why) = possible {
                        entry.does_not_start(&run, why, now)?;
                        continue;
                    }
                    for id in entry.plan.state().running.clone() {
                        let reason = format!("the schedule {} starts another", entry.id);
                        match how {
                            Stop::Cancel => self.executions.cancel(&entry.own(&id), reason).await,
                            Stop::Terminate => self.executions.terminate(&entry.own(&id), reason).await,
                        }
                    }
                    entry.plan.stopping();
                }
                Next::Start(run) => {
                    // What was decided before is safe when the execution starts, so that the start is the only thing
                    // that a crash can hide.
                    self.save(key, entry).map_err(|error| error.to_string())?;
                    let started = match entry.start(&run)? {
                        Ok(start) => {
                            let id = start.execution_id.clone();
                            self.executions.start(start).await.map(|()| id)
                        }
                        Err(problem) => Err(StartFailed::ForGood(problem)),
                    };
                    match started {
                        Ok(id) => {
                            self.watch(key, entry.own(&id));
                            entry.plan.started(&run, id, now);
                            entry.dirty = true;
                        }
                        Err(why) => {
                            entry.unsure |= matches!(why, StartFailed::ForNow(_));
                            entry.does_not_start(&run, why, now)?;
                        }
                    }
                    self.save(key, entry).map_err(|error| error.to_string())?;
                    starts += 1;
                    if starts == STARTS {
                        return Ok(Some(0));
                    }
                }
            }
        }
        self.save(key, entry).map_err(|error| error.to_string())?;
        Ok(Some(0))
    }

    fn watch(&self, key: &Key, which: OwnExecution) {
        let (ended, key, id) = (self.executions.ended(&which), key.clone(), which.execution_id);
        let watch = async move { (key, id, ended.await.unwrap_or(Outcome::Stopped)) };
        self.to_watch.lock().push(watch.boxed());
    }

    fn save(&self, key: &Key, entry: &mut Entry) -> Result<(), RecordsError> {
        if entry.dirty {
            self.records.write(&[Change::Put { table: TABLE, key: key.clone(), value: entry.stored()? }])?;
            entry.dirty = false;
        }
        Ok(())
    }

    fn wake(&self, key: Key) {
        self.wakes.lock().insert((0, key));
        self.changed.notify_one();
    }

    /// Makes a schedule. Times after now count.
    #[boxed]
    pub async fn create(&self, new: NewSchedule) -> Result<String, ScheduleError> {
        let id = match new.id {
            Some(id) => id,
            None => uuid::Uuid::now_v7().to_string(),
        };
        if id.len() > LONGEST_ID || id.parse::<ExecutionId>().is_err() {
            return Err(ScheduleError::Id);
        }
        let spec = Spec::new(&new.definition).map_err(ScheduleError::Invalid)?;
        let extensions =
            new.definition.extensions().map_err(|problem| ScheduleError::Invalid(vec![problem]))?;
        self.executions.check(&new.workflow, &new.definition.input, &extensions).await?;
        let now = (self.clock)();
        it_comes(&spec, now)?;
        let entry = Entry {
            plan: Plan::new(id.clone(), spec, now),
            id: id.clone(),
            workflow: new.workflow,
            owner: new.owner,
            definition: new.definition,
            created_at: now,
            updated_at: now,
            dirty: false,
            deleted: false,
            unsure: false,
            setbacks: 0,
        };
        let key = key(&entry.owner.workspace, &id);
        let value = entry.stored()?;
        {
            let mut entries = self.entries.lock();
            // Ids of executions are made from it, and those are unique over all workspaces.
            if entries.keys().any(|key| key.rsplit_once('/').is_some_and(|(_, taken)| taken == id)) {
                return Err(ScheduleError::Exists(id));
            }
            match self.records.write(&[Change::Insert { table: TABLE, key: key.clone(), value }]) {
                Err(RecordsError::Conflict) => return Err(ScheduleError::Exists(id)),
                other => other?,
            }
            entries.insert(key.clone(), Arc::new(tokio::sync::Mutex::new(entry)));
        }
        self.wake(key);
        Ok(id)
    }

    /// One schedule.
    #[boxed]
    pub async fn get(&self, workspace: &WorkspaceId, id: &str) -> Option<ScheduleView> {
        let entry = self.entries.lock().get(&key(workspace, id)).cloned()?;
        let mut entry = entry.lock().await;
        (!entry.deleted).then(|| entry.view((self.clock)()))
    }

    /// The schedules of a workspace, ordered by their ids.
    #[boxed]
    pub async fn list(&self, workspace: &WorkspaceId) -> Vec<ScheduleView> {
        let prefix = key(workspace, "");
        let entries: Vec<Shared> = {
            let entries = self.entries.lock();
            let from_prefix = entries.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
            from_prefix.map(|(_, entry)| Arc::clone(entry)).collect()
        };
        let mut views = Vec::new();
        for entry in entries {
            {
                let mut entry = entry.lock().await;
                if !entry.deleted {
                    views.push(entry.view((self.clock)()));
                }
            }
            // Looking for times costs something: others have their turn.
            tokio::task::yield_now().await;
        }
        views
    }

    /// Changes the keys of the definition that are given. New times count from now on; a given `max_executions` is
    /// counted anew from now on.
    #[boxed]
    pub async fn update(
        &self,
        workspace: &WorkspaceId,
        id: &str,
        changes: &Members,
    ) -> Result<(), ScheduleError> {
        let view = self.get(workspace, id).await.ok_or_else(|| ScheduleError::Unknown(id.into()))?;
        if changes.contains_key("input") || changes.contains_key("extensions") {
            let invalid = |problem| ScheduleError::Invalid(vec![problem]);
            let changed = view.definition.changed(changes).map_err(invalid)?;
            let extensions = changed.extensions().map_err(invalid)?;
            self.executions.check(&view.workflow, &changed.input, &extensions).await?;
        }
        self.change(workspace, id, |entry, now| {
            let definition =
                entry.definition.changed(changes).map_err(|problem| ScheduleError::Invalid(vec![problem]))?;
            let spec = Spec::new(&definition).map_err(ScheduleError::Invalid)?;
            it_comes(&spec, now)?;
            let remaining = changes.contains_key("max_executions").then(|| spec.max_executions());
            entry.plan.update(spec, remaining, now);
            entry.definition = definition;
            entry.updated_at = now;
            Ok(())
        })
        .await
    }

    /// Lets times pass by until [`Scheduler::resume`].
    #[boxed]
    pub async fn pause(
        &self,
        workspace: &WorkspaceId,
        id: &str,
        note: Option<String>,
    ) -> Result<(), ScheduleError> {
        self.change(workspace, id, |entry, now| {
            entry.plan.pause(note, now);
            Ok(())
        })
        .await
    }

    /// Lets times count again.
    #[boxed]
    pub async fn resume(
        &self,
        workspace: &WorkspaceId,
        id: &str,
        note: Option<String>,
    ) -> Result<(), ScheduleError> {
        self.change(workspace, id, |entry, now| {
            entry.plan.resume(note, now);
            Ok(())
        })
        .await
    }

    /// Asks for an execution now; also of a paused or exhausted schedule. Durable when it returns. Says why nothing comes of
    /// it, where that is known already.
    #[boxed]
    pub async fn trigger(
        &self,
        workspace: &WorkspaceId,
        id: &str,
        overlap: Option<Overlap>,
    ) -> Result<Option<String>, ScheduleError> {
        let mut skipped = None;
        self.change(workspace, id, |entry, now| {
            skipped = entry.plan.trigger(token(), overlap, now);
            Ok(())
        })
        .await?;
        Ok(skipped)
    }

    /// Asks for executions of past times. Durable when it returns.
    #[boxed]
    pub async fn backfill(
        &self,
        workspace: &WorkspaceId,
        id: &str,
        request: BackfillRequest,
    ) -> Result<(), ScheduleError> {
        self.change(workspace, id, |entry, now| {
            let BackfillRequest { first, last, overlap } = request;
            if last < first {
                let message = "it lies before start_at, so there is no time between them";
                return Err(ScheduleError::Invalid(vec![Problem::new("/end_at", message)]));
            }
            if last > seconds(now) {
                let message = "it lies in the future: a backfill is about times that have passed";
                return Err(ScheduleError::Invalid(vec![Problem::new("/end_at", message)]));
            }
            if entry.plan.has_too_many(first, last) {
                let message = format!(
                    "more than {MOST_AT_ONCE} times lie between start_at and end_at: ask for a shorter period, and for the \
                     next when it is done"
                );
                return Err(ScheduleError::Invalid(vec![Problem::new("/start_at", message)]));
            }
            entry.plan.backfill(token(), first, last, overlap.unwrap_or(Overlap::BufferAll));
            Ok(())
        })
        .await
    }

    /// Removes a schedule. Its executions go on.
    #[boxed]
    pub async fn delete(&self, workspace: &WorkspaceId, id: &str) -> Result<(), ScheduleError> {
        let key = key(workspace, id);
        let entry = self.entries.lock().get(&key).cloned();
        let entry = entry.ok_or_else(|| ScheduleError::Unknown(id.into()))?;
        let mut entry = entry.lock().await;
        if entry.deleted {
            return Err(ScheduleError::Unknown(id.into()));
        }
        self.records.write(&[Change::Delete { table: TABLE, key: key.clone() }])?;
        entry.deleted = true;
        self.entries.lock().remove(&key);
        self.wakes.lock().retain(|(_, waking)| *waking != key);
        Ok(())
    }

    /// Applies a change, saves it, and only then lets it be seen.
    async fn change(
        &self,
        workspace: &WorkspaceId,
        id: &str,
        change: impl FnOnce(&mut Entry, UnixMs) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError> {
        let unknown = || ScheduleError::Unknown(id.into());
        let key = key(workspace, id);
        let entry = self.entries.lock().get(&key).cloned().ok_or_else(unknown)?;
        let mut entry = entry.lock().await;
        if entry.deleted {
            return Err(unknown());
        }
        self.make_sure(&key, &mut entry)?;
        let mut changed = entry.clone();
        change(&mut changed, (self.clock)())?;
        changed.dirty = true;
        let saved = self.save(&key, &mut changed);
        match saved {
            Ok(()) => *entry = changed,
            // The store may hold the change all the same: what is in memory goes over it before anything else.
            Err(_) => entry.dirty = true,
        }
        drop(entry);
        self.wake(key);
        Ok(saved?)
    }
}

/// One that never comes would be looked at for ever.
fn it_comes(spec: &Spec, now: UnixMs) -> Result<(), ScheduleError> {
    match spec.never_comes(seconds(now)) {
        None => Ok(()),
        Some(why) => Err(ScheduleError::Invalid(vec![Problem::new("/skip", why)])),
    }
}

/// Makes the id of a triggered execution different from all others.
fn token() -> String {
    format!("{:08x}", rand::random::<u32>())
}

fn restored(value: &[u8]) -> Result<Entry, String> {
    let stored: Stored = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let spec = Spec::new(&stored.definition).map_err(|problems| {
        problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
    })?;
    Ok(Entry {
        plan: Plan::restored(stored.id.clone(), spec, stored.state),
        id: stored.id,
        workflow: stored.workflow,
        owner: stored.owner,
        definition: stored.definition,
        created_at: stored.created_at,
        updated_at: stored.updated_at,
        dirty: false,
        deleted: false,
        unsure: false,
        setbacks: 0,
    })
}

impl Entry {
    /// One of its executions.
    fn own(&self, id: &ExecutionId) -> OwnExecution {
        OwnExecution { execution_id: id.clone(), schedule_id: self.id.clone(), owner: self.owner.clone() }
    }

    /// What is to start for a time. It was read when the schedule was made: what is not understood now is not left away, but
    /// the reason why nothing starts.
    fn start(&self, run: &Run) -> Result<Result<ScheduleStart, String>, String> {
        let execution_id: ExecutionId =
            self.plan.execution_id(run).parse().map_err(|error: crate::ids::InvalidId| error.to_string())?;
        let start = |extensions| ScheduleStart {
            workflow: self.workflow.clone(),
            execution_id,
            input: self.definition.input.clone(),
            extensions,
            principal: self.owner.clone(),
            schedule_id: self.id.clone(),
        };
        Ok(self.definition.extensions().map(start).map_err(|problem| problem.message))
    }

    /// Nothing comes of a time; an error if it may be tried again.
    fn does_not_start(&mut self, run: &Run, why: StartFailed, now: UnixMs) -> Result<(), String> {
        match why {
            StartFailed::ForNow(reason) => return Err(reason),
            StartFailed::ForGood(reason) => {
                tracing::warn!(schedule = self.id, reason, "a scheduled execution cannot start");
                self.plan.failed(run, reason, now);
            }
            StartFailed::Skipped(reason) => self.plan.skip(run, reason),
        }
        self.dirty = true;
        Ok(())
    }

    fn stored(&self) -> Result<Vec<u8>, RecordsError> {
        let stored = Stored {
            id: self.id.clone(),
            workflow: self.workflow.clone(),
            owner: self.owner.clone(),
            definition: self.definition.clone(),
            state: self.plan.state().clone(),
            created_at: self.created_at,
            updated_at: self.updated_at,
        };
        serde_json::to_vec(&stored).map_err(|error| RecordsError::Store(error.to_string()))
    }

    fn view(&mut self, now: UnixMs) -> ScheduleView {
        ScheduleView {
            id: self.id.clone(),
            workflow: self.workflow.clone(),
            owner: self.owner.clone(),
            definition: self.definition.clone(),
            policy: self.plan.spec().policy(),
            state: self.plan.state().clone(),
            waiting: self.plan.waiting(),
            backfills: self.plan.backfills().collect(),
            future: self.plan.future(now, FUTURE),
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}
