//! The driver with the real store and with guests and tools made for the occasion.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use airlock_engine::{
    ActivityDefinition, ActivityOptions, Digest, Engine, EngineConfig, ExecutionId, ExecutionKey, Failure,
    Handler, Json, OrganizationId, PluginDefinition, Principal, RetryPolicy, RunId, Slot, UserId,
    WorkflowDefinition, WorkspaceId,
    engine::{ControlError, ExecutionView, MessageError, ResetRequest, StartError, StartRequest},
    guests::{
        Activation, ActivityCall, ActivityError, ActivityHost, GuestError, Guests, PluginStatus, Relief,
        WorkflowInit, WorkflowInstance,
    },
    history::{Command, Job, Message, Outcome, Record, StoredRecord, TaskEvent, TaskPhase, UnixMs},
    store::{
        Append, Appended, Child, Commits, ExecutionRow, ListFilter, Merge, Page, Place, Runs, Scope, Status,
        Store, StoreError, Upto, Wake,
    },
    tools::{
        AuthMoment, AuthNeeded, Authorization, BindRequest, Binding, BindingWish, CallOptions, CallOrigin,
        ToolCall, Tools,
    },
};
use airlock_patience::{LIMIT, eventually};
use airlock_store::SqliteStore;
use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::Notify;

/// Workflows and activities by name, written in Rust.
#[derive(Default)]
struct Play {
    /// From now on workflow `steps` schedules another activity: the code has changed under its histories.
    changed: AtomicBool,
    created: AtomicU32,
    attempts: AtomicU32,
    trap_activations: AtomicU32,
    missing: AtomicBool,
    /// The code that executions began with is not there any more; other code serves.
    replaced: AtomicBool,
    gate: Notify,
    /// Who makes room in memory.
    relief: parking_lot::Mutex<Option<std::sync::Weak<dyn Relief>>>,
}

struct Instance {
    play: Arc<Play>,
    workflow: String,
    input: serde_json::Value,
    done: u64,
}

fn schedule(seq: u32, activity: &str) -> Command {
    let (activity, input) = (activity.to_owned(), Json::from(json!({ "n": seq })));
    Command::ScheduleActivity { seq, activity, input, options: ActivityOptions::default() }
}

#[async_trait]
impl WorkflowInstance for Instance {
    async fn activate(&mut self, activation: Activation<'_>) -> Result<Vec<Command>, GuestError> {
        let mut commands = Vec::new();
        for job in activation.jobs {
            if self.workflow == "traps" && !activation.replaying {
                let left = self.play.trap_activations.load(Ordering::SeqCst);
                if left > 0 {
                    self.play.trap_activations.store(left - 1, Ordering::SeqCst);
                    return Err(GuestError::Trapped("the guest panicked: as it likes".into()));
                }
            }
            match (self.workflow.as_str(), job) {
                (_, Job::CancelRequested { .. }) => return Ok(vec![Command::Cancelled]),
                ("steps" | "traps", Job::Started | Job::ActivityResolved { outcome: Ok(_), .. }) => {
                    if self.done == self.input["steps"].as_u64().unwrap_or(1) {
                        let result = Json::from(json!({ "done": self.done }));
                        commands.push(Command::Complete { result });
                    } else {
                        self.done += 1;
                        let changed = self.play.changed.load(Ordering::SeqCst);
                        commands.push(schedule(self.done as u32, if changed { "other" } else { "step" }));
                    }
                }
                ("sleep", Job::Started) => {
                    let duration = Duration::from_millis(self.input["ms"].as_u64().unwrap_or(0));
                    commands.push(Command::StartTimer { seq: 1, duration });
                }
                ("sleep", Job::TimerFired { .. }) => {
                    commands.push(Command::Complete { result: Json::null() })
                }
                ("auth", Job::Started) => commands.push(Command::AwaitAuth { seq: 1, slot: "svc".into() }),
                ("auth", Job::AuthResolved { outcome: Ok(who), .. }) => {
                    commands.push(Command::Complete { result: who.clone() });
                }
                ("slot", Job::Started) => {
                    let (slot, tool) = ("elsewhere".to_owned(), "t".to_owned());
                    let (arguments, options) = (Json::null(), CallOptions::default());
                    commands.push(Command::CallTool { seq: 1, slot, tool, arguments, options });
                }
                (name, Job::Started) => commands.push(schedule(1, name)),
                (_, Job::ActivityResolved { outcome: Ok(result), .. }) => {
                    commands.push(Command::Complete { result: result.clone() });
                }
                (
                    _,
                    Job::ActivityResolved { outcome: Err(failure), .. }
                    | Job::ToolResolved { outcome: Err(failure), .. }
                    | Job::AuthResolved { outcome: Err(failure), .. },
                ) => commands.push(Command::Fail { failure: failure.clone() }),
                _ => {}
            }
        }
        Ok(commands)
    }

    async fn query(&mut self, name: &str, _: &Json) -> Result<Outcome, GuestError> {
        Ok(Ok(Json::from(json!({ "asked": name, "done": self.done }))))
    }

    fn held_bytes(&self) -> u64 {
        self.input["bytes"].as_u64().unwrap_or(0)
    }
}

struct Cast(Arc<Play>);

const WORKFLOWS: &[&str] = &[
    "steps",
    "traps",
    "sleep",
    "auth",
    "slot",
    "flaky",
    "permanent",
    "endless",
    "silent",
    "cooperative",
    "emits",
];

fn definition() -> PluginDefinition {
    let any = || Json::parse("{}").expect("JSON");
    let workflow = |name: &&str| WorkflowDefinition {
        name: (*name).into(),
        display_name: None,
        description: None,
        input_schema: Json::from(
            json!({ "type": "object", "properties": { "steps": { "type": "integer" } } }),
        ),
        output_schema: None,
        on_behalf_of: true,
        execution_timeout: (*name == "sleep").then_some(Duration::from_secs(2)),
        slots: match *name {
            "auth" => vec![Slot { connector: "svc".into(), auto_auth: false, credentials_name: None }],
            _ => Vec::new(),
        },
        signals: Vec::new(),
        queries: vec![Handler {
            name: "progress".into(),
            description: None,
            input_schema: any(),
            output_schema: None,
        }],
        updates: Vec::new(),
        retry: None,
        search_keys: Vec::new(),
    };
    let activity = |name: &str, options: ActivityOptions| ActivityDefinition {
        name: name.into(),
        description: None,
        input_schema: any(),
        output_schema: None,
        options,
        slots: Vec::new(),
    };
    let quick = RetryPolicy { initial_interval: Duration::from_millis(5), ..RetryPolicy::default() };
    let once = RetryPolicy { maximum_attempts: 1, ..RetryPolicy::default() };
    let with =
        |retry: &RetryPolicy| ActivityOptions { retry: Some(retry.clone()), ..ActivityOptions::default() };
    PluginDefinition {
        workflows: WORKFLOWS.iter().map(workflow).collect(),
        activities: vec![
            activity("flaky", with(&quick)),
            activity("permanent", with(&quick)),
            activity(
                "endless",
                ActivityOptions { start_to_close: Some(Duration::from_millis(30)), ..with(&once) },
            ),
            activity("silent", ActivityOptions { heartbeat: Some(Duration::from_millis(30)), ..with(&once) }),
        ],
    }
}

#[async_trait]
impl Guests for Cast {
    fn plugins(&self) -> Vec<PluginStatus> {
        Vec::new()
    }

    fn serving(&self, workflow: &str) -> Option<Digest> {
        let serving = if self.0.replaced.load(Ordering::SeqCst) { 2 } else { 1 };
        WORKFLOWS.contains(&workflow).then_some(Digest([serving; 32]))
    }

    async fn definition(&self, digest: &Digest) -> Result<Arc<PluginDefinition>, GuestError> {
        let gone = self.0.replaced.load(Ordering::SeqCst) && *digest == Digest([1; 32]);
        match gone || self.0.missing.load(Ordering::SeqCst) {
            true => Err(GuestError::Missing(*digest)),
            false => Ok(Arc::new(definition())),
        }
    }

    async fn create(
        &self,
        digest: &Digest,
        init: WorkflowInit,
    ) -> Result<Box<dyn WorkflowInstance>, GuestError> {
        self.definition(digest).await?;
        self.0.created.fetch_add(1, Ordering::SeqCst);
        let (play, input) = (Arc::clone(&self.0), init.input.value());
        Ok(Box::new(Instance { play, workflow: init.workflow, input, done: 0 }))
    }

    async fn run_activity(
        &self,
        _: &Digest,
        call: ActivityCall,
        host: Arc<dyn ActivityHost>,
    ) -> Result<Json, ActivityError> {
        let attempt = self.0.attempts.fetch_add(1, Ordering::SeqCst) + 1;
        let fail = |failure| Err(ActivityError::Failed(failure));
        match call.activity.as_str() {
            "flaky" if call.attempt < 3 => fail(Failure::retryable("Error", format!("attempt {attempt}"))),
            "permanent" => fail(Failure::permanent("Error", "never")),
            "endless" | "silent" => std::future::pending().await,
            "cooperative" => {
                host.cancelled().await;
                self.0.gate.notify_one();
                fail(Failure::permanent(Failure::CANCELLED, "noticed"))
            }
            "emits" => {
                for n in 0..3 {
                    let payload = Json::from(json!(n));
                    let (id, task_type) = ("t".into(), "progress".into());
                    let event = TaskEvent { id, task_type, phase: TaskPhase::InProgress, payload };
                    host.emit_event(event).expect("events are taken");
                }
                Ok(Json::null())
            }
            _ => Ok(Json::from(json!({ "key": call.idempotency_key, "attempt": call.attempt }))),
        }
    }

    fn retain(&self, _: &HashSet<Digest>) {}

    fn relieved_by(&self, relief: std::sync::Weak<dyn Relief>) {
        *self.0.relief.lock() = Some(relief);
    }
}

/// A connector that wants authorisation until it is given.
#[derive(Default)]
struct Service {
    authorised: Arc<AtomicBool>,
    landed: Arc<Notify>,
}

#[async_trait]
impl Tools for Service {
    async fn bind(&self, request: BindRequest<'_>) -> Result<Vec<Binding>, Failure> {
        let BindRequest { slots, wishes, .. } = request;
        if let Some(wish) = wishes.iter().find(|wish| wish.connector_name.as_deref() != Some("svc")) {
            let message =
                format!("Extension bindings reference unknown connectors: {:?}", wish.connector_name);
            return Err(Failure::permanent(Failure::CONNECTOR, message));
        }
        let binding = |slot: &Slot| Binding {
            slot: slot.connector.clone(),
            auto_auth: slot.auto_auth,
            connector_name: slot.connector.clone(),
            connector_id: "1".into(),
            credentials_name: None,
            chosen: false,
            mock: false,
        };
        Ok(slots.iter().map(binding).collect())
    }

    async fn authorize(&self, _: &Principal, _: &Binding, _: AuthMoment) -> Result<Authorization, Failure> {
        if self.authorised.load(Ordering::SeqCst) {
            return Ok(Authorization::Ready(Json::from(json!({ "connector_name": "svc" }))));
        }
        let landed = Arc::clone(&self.landed);
        let state = Json::from(json!({ "connector_name": "svc", "connector_id": "1" }));
        Ok(Authorization::Needed(AuthNeeded {
            state,
            changed: Box::pin(async move { landed.notified().await }),
        }))
    }

    async fn call_tool(&self, _: ToolCall<'_>) -> Result<Json, Failure> {
        Ok(Json::null())
    }

    async fn list_tools(&self, _: &CallOrigin, _: &Binding) -> Result<Json, Failure> {
        Ok(Json::null())
    }
}

/// A store whose disk can be full.
struct Fillable {
    inner: Arc<SqliteStore>,
    full: AtomicBool,
}

impl Store for Fillable {
    fn allocate(&self) -> ExecutionKey {
        self.inner.allocate()
    }
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, StoreError>> {
        match self.full.load(Ordering::SeqCst) {
            true => Box::pin(async { Err(StoreError::Full) }),
            false => self.inner.append(append),
        }
    }
    fn find(&self, id: &ExecutionId) -> Result<Option<ExecutionRow>, StoreError> {
        self.inner.find(id)
    }
    fn row(&self, key: ExecutionKey) -> Result<Option<ExecutionRow>, StoreError> {
        self.inner.row(key)
    }
    fn history(&self, key: ExecutionKey, from: u32, limit: usize) -> Result<Vec<StoredRecord>, StoreError> {
        self.inner.history(key, from, limit)
    }
    fn last_records(&self, key: ExecutionKey, limit: usize) -> Result<Vec<StoredRecord>, StoreError> {
        self.inner.last_records(key, limit)
    }
    fn sizes(&self, key: ExecutionKey, from: u32, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.inner.sizes(key, from, limit)
    }
    fn last_sizes(&self, key: ExecutionKey, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.inner.last_sizes(key, limit)
    }

    fn find_run(&self, run: &RunId) -> Result<Option<ExecutionRow>, StoreError> {
        self.inner.find_run(run)
    }

    fn open_children(&self, parent: &ExecutionId) -> Result<Vec<Child>, StoreError> {
        self.inner.open_children(parent)
    }

    fn orphans(&self) -> Result<Vec<Child>, StoreError> {
        self.inner.orphans()
    }

    fn search_keys(&self, key: ExecutionKey) -> Result<Vec<(String, Option<String>)>, StoreError> {
        self.inner.search_keys(key)
    }

    fn purge(&self, before: UnixMs, limit: usize) -> BoxFuture<'static, Result<usize, StoreError>> {
        self.inner.purge(before, limit)
    }
    fn open_executions(&self) -> Result<Vec<(ExecutionKey, Wake)>, StoreError> {
        self.inner.open_executions()
    }
    fn pinned(&self) -> Result<HashSet<Digest>, StoreError> {
        self.inner.pinned()
    }
    fn list(&self, filter: &ListFilter) -> Result<Vec<ExecutionRow>, StoreError> {
        self.inner.list(filter)
    }
    fn seek(&self, runs: Runs<'_>, from: u64) -> Result<Merge, StoreError> {
        self.inner.seek(runs, from)
    }
    fn merged(&self, merge: &mut Merge, upto: Upto) -> Result<Page, StoreError> {
        self.inner.merged(merge, upto)
    }
    fn records(&self, places: &[Place]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        self.inner.records(places)
    }
    fn open_runs(&self, scope: &Scope) -> Result<Vec<ExecutionKey>, StoreError> {
        self.inner.open_runs(scope)
    }
    fn listen(&self, commits: Arc<dyn Commits>) -> u64 {
        self.inner.listen(commits)
    }
}

struct Stage {
    engine: Arc<Engine>,
    store: Arc<Fillable>,
    play: Arc<Play>,
    service: Arc<Service>,
    folder: tempfile::TempDir,
    config: EngineConfig,
}

impl Stage {
    async fn new() -> Self {
        let config = EngineConfig {
            retry_pause: Duration::from_millis(20),
            cancel_grace: Duration::from_millis(50),
            auth_window: Duration::from_millis(300),
            ..EngineConfig::default()
        };
        Self::with(config).await
    }

    async fn with(config: EngineConfig) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (play, service) = (Arc::new(Play::default()), Arc::new(Service::default()));
        let (engine, store) = Self::open(&folder, &play, &service, &config).await;
        Self { engine, store, play, service, folder, config }
    }

    async fn open(
        folder: &tempfile::TempDir,
        play: &Arc<Play>,
        service: &Arc<Service>,
        config: &EngineConfig,
    ) -> (Arc<Engine>, Arc<Fillable>) {
        let inner = SqliteStore::open(folder.path(), &[3; 32]).expect("the store opens");
        let store = Arc::new(Fillable { inner, full: AtomicBool::new(false) });
        let (guests, tools) = (Arc::new(Cast(Arc::clone(play))), Arc::clone(service));
        let engine =
            Engine::open(Arc::clone(&store) as _, guests, tools, config.clone()).await.expect("opens");
        (engine, store)
    }

    /// Drops everything and starts from what is on the disk.
    async fn restart(self) -> Self {
        let Self { engine, store, play, service, folder, config } = self;
        engine.shutdown().await;
        drop(engine);
        let weak = Arc::downgrade(&store.inner);
        drop(store);
        let start = Instant::now();
        // Tasks that still hold the engine end on their own.
        while weak.strong_count() > 0 {
            assert!(start.elapsed() < LIMIT, "something keeps the store open");
            tokio::task::yield_now().await;
        }
        let (engine, store) = Self::open(&folder, &play, &service, &config).await;
        Self { engine, store, play, service, folder, config }
    }

    async fn start(&self, workflow: &str, input: serde_json::Value) -> Result<ExecutionView, StartError> {
        self.engine.start(request(workflow, input)).await
    }

    async fn run(&self, workflow: &str, input: serde_json::Value) -> ExecutionView {
        let started = self.start(workflow, input).await.expect("starts");
        self.ended(&started.row.id).await
    }

    async fn ended(&self, id: &ExecutionId) -> ExecutionView {
        let view = self.engine.wait(id, Some(LIMIT)).await.expect("reads").expect("is there");
        assert_ne!(view.row.status, Status::Running, "{id} did not end: {:?}", view.blocked);
        view
    }

    fn records(&self, view: &ExecutionView) -> Vec<Record> {
        let history = self.engine.history(view.row.key, 0, 1000).expect("reads");
        history.into_iter().map(|stored| stored.record).collect()
    }

    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < LIMIT, "gave up: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn request(workflow: &str, input: serde_json::Value) -> StartRequest {
    let principal = Principal {
        user: UserId::new("ada"),
        workspace: WorkspaceId::new("default"),
        organization: OrganizationId::new("default"),
    };
    StartRequest::new(workflow, input.into(), principal)
}

fn kind(view: &ExecutionView) -> &str {
    view.failure.as_ref().map_or("none", |failure| failure.kind.as_str())
}

#[tokio::test]
async fn a_step_costs_one_record() {
    let stage = Stage::new().await;
    let view = stage.run("steps", json!({ "steps": 10 })).await;
    assert_eq!(view.result, Some(Json::from(json!({ "done": 10 }))));
    // The start, the first turn, and one record a step.
    assert_eq!(stage.records(&view).len(), 12);
    assert_eq!(stage.play.created.load(Ordering::SeqCst), 1, "the instance stays in memory");
    assert_eq!(stage.engine.stats().open, 0);
    assert_eq!(stage.engine.stats().loaded, 0);
}

#[tokio::test]
async fn an_execution_that_was_dropped_from_memory_goes_on_from_its_history() {
    let stage = Stage::with(EngineConfig { max_cached_instances: 0, ..EngineConfig::default() }).await;
    let view = stage.run("steps", json!({ "steps": 5 })).await;
    assert_eq!(view.row.status, Status::Completed);
    assert!(stage.play.created.load(Ordering::SeqCst) > 1, "the instance was built again");
    assert_eq!(stage.engine.stats().loaded, 0);
}

#[tokio::test]
async fn a04_executions_that_wait_are_dropped_from_memory_by_what_they_hold_and_whose_they_are() {
    let stage = Stage::new().await;
    let relief = stage.play.relief.lock().as_ref().and_then(std::sync::Weak::upgrade).expect("the engine");
    assert_eq!(relief.relieve(1, None), 0);
    let mut ids = Vec::new();
    for bytes in [10, 4_000, 20, 6_000, 30] {
        let view = stage.start("cooperative", json!({ "bytes": bytes })).await.expect("starts");
        ids.push(view.row.id);
    }
    let loaded = || stage.engine.stats().loaded;
    eventually(LIMIT, "all of them to wait", async || (loaded() == 5).then_some(())).await;
    assert_eq!(relief.relieve(1_000, Some("nobody")), 0);
    // Small ones are not built again for the sake of others that hold much.
    assert_eq!(relief.relieve(3_000, None), 4_000);
    assert_eq!(loaded(), 4);
    assert_eq!(relief.relieve(6_015, Some("ada")), 6_030);
    assert_eq!(loaded(), 1);
    assert_eq!(relief.relieve(1_000, None), 30);
    assert_eq!((loaded(), relief.relieve(1_000, None)), (0, 0));
    // Nothing is lost.
    for id in &ids {
        let answer = stage.engine.query(id, message("progress")).await;
        assert!(answer.is_ok(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_failed_attempt_is_recorded_and_tried_again_with_the_same_key() {
    let stage = Stage::new().await;
    let view = stage.run("flaky", json!({})).await;
    let result = view.result.as_ref().expect("it completes").value();
    assert_eq!(result["attempt"], 3);
    let failed = |record: &Record| matches!(record, Record::AttemptFailed { .. });
    assert_eq!(stage.records(&view).iter().filter(|record| failed(record)).count(), 2);
    let view = stage.run("permanent", json!({})).await;
    assert_eq!((view.row.status, kind(&view)), (Status::Failed, "Error"));
    assert!(!stage.records(&view).iter().any(failed), "a permanent failure is not tried again");
}

#[tokio::test]
async fn every_limit_of_an_attempt_ends_it_with_a_message_that_names_it() {
    let stage = Stage::new().await;
    for (workflow, limit) in [("endless", "start-to-close"), ("silent", "heartbeat")] {
        let view = stage.run(workflow, json!({})).await;
        assert_eq!(kind(&view), Failure::TIMEOUT);
        let message = view.failure.expect("it fails").message;
        assert!(message.contains(limit), "{message}");
    }
}

#[tokio::test]
async fn an_execution_longer_than_its_limit_times_out() {
    let stage = Stage::new().await;
    let view = stage.run("sleep", json!({ "ms": 60_000 })).await;
    assert_eq!((view.row.status, kind(&view)), (Status::TimedOut, Failure::TIMEOUT));
}

#[tokio::test]
async fn a_cancelled_activity_hears_of_it() {
    let stage = Stage::new().await;
    let started = stage.start("cooperative", json!({})).await.expect("starts");
    stage.until("the activity runs", || stage.play.attempts.load(Ordering::SeqCst) == 1).await;
    stage.engine.cancel(&started.row.id, "enough".into()).await.expect("is asked");
    assert_eq!(stage.ended(&started.row.id).await.row.status, Status::Canceled);
    tokio::time::timeout(LIMIT, stage.play.gate.notified()).await.expect("it noticed");
    let again = stage.engine.cancel(&started.row.id, "enough".into()).await;
    assert!(matches!(again, Err(ControlError::Ended(_))), "{again:?}");
    let unknown =
        stage.engine.terminate(&"nobody".parse::<ExecutionId>().expect("valid"), String::new()).await;
    assert!(matches!(unknown, Err(ControlError::Unknown(_))), "{unknown:?}");
}

#[tokio::test]
async fn a_terminated_execution_ends_at_once_and_says_why() {
    let stage = Stage::new().await;
    let started = stage.start("endless", json!({})).await.expect("starts");
    stage.engine.terminate(&started.row.id, "no more".into()).await.expect("is ended");
    let view = stage.ended(&started.row.id).await;
    assert_eq!(view.row.status, Status::Terminated);
    assert_eq!(view.failure.expect("a reason").message, "no more");
}

#[tokio::test]
async fn events_of_an_activity_are_recorded_in_order_and_before_its_result() {
    let stage = Stage::new().await;
    let view = stage.run("emits", json!({})).await;
    let records = stage.records(&view);
    let payloads: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Emitted { event } => Some(event.payload.as_str().to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(payloads, ["0", "1", "2"]);
    assert!(matches!(records.last(), Some(Record::Activation { .. })));
}

#[tokio::test]
async fn a_restart_goes_on_where_the_history_ends() {
    let mut stage = Stage::new().await;
    let sleeper = stage.start("sleep", json!({ "ms": 300 })).await.expect("starts").row.id;
    let stuck = stage.start("cooperative", json!({})).await.expect("starts").row.id;
    stage.until("the activity runs", || stage.play.attempts.load(Ordering::SeqCst) == 1).await;
    // The test's own end of the activity would be an end like any other: end it before the engine goes.
    stage = {
        let play = Arc::clone(&stage.play);
        stage.engine.cancel(&stuck, "so that nothing holds the engine".into()).await.expect("is asked");
        play.gate.notified().await;
        stage.restart().await
    };
    let view = stage.ended(&sleeper).await;
    assert_eq!(view.row.status, Status::Completed);
    let slept = view.row.ended_at.expect("it ended") - view.row.started_at;
    assert!(slept >= 300, "the timer fired after {slept} ms");
    assert_eq!(stage.ended(&stuck).await.row.status, Status::Canceled);
}

#[tokio::test]
async fn code_that_does_not_repeat_its_history_blocks_the_execution_and_loses_nothing() {
    let config = EngineConfig { max_cached_instances: 0, ..EngineConfig::default() };
    let stage = Stage::with(config).await;
    let started = stage.start("steps", json!({ "steps": 400 })).await.expect("starts");
    stage.until("some steps are done", || stage.play.attempts.load(Ordering::SeqCst) > 3).await;
    stage.play.changed.store(true, Ordering::SeqCst);
    let id = &started.row.id;
    let view = || stage.engine.get(id).expect("reads").expect("is there");
    stage.until("it is blocked", || view().blocked.is_some()).await;
    let blocked = view();
    assert_eq!(blocked.row.status, Status::Running);
    let difference = blocked.blocked.expect("a reason");
    let expected = "event 3 of the history is schedule activity 'step' (1), but the code now wants schedule \
                    activity 'other' (1)";
    assert!(difference.starts_with(expected), "{difference}");
    let asked = stage.engine.query(id, message("progress")).await;
    assert!(matches!(asked, Err(MessageError::Control(ControlError::Blocked(_)))), "{asked:?}");
    stage.play.changed.store(false, Ordering::SeqCst);
    stage.engine.unblock(id).await.expect("is tried again");
    let view = stage.ended(id).await;
    assert_eq!(view.result, Some(Json::from(json!({ "done": 400 }))));
    let answer = stage.engine.query(id, message("progress")).await.expect("an ended execution answers");
    assert_eq!(answer.value(), json!({ "asked": "progress", "done": 400 }));
}

#[tokio::test]
async fn a_paused_execution_rests_and_a_reset_one_does_its_steps_anew() {
    let stage = Stage::new().await;
    let started = stage.start("steps", json!({ "steps": 200 })).await.expect("starts");
    let id = &started.row.id;
    stage.engine.pause(id, "lunch".into()).await.expect("pauses");
    let view = || stage.engine.get(id).expect("reads").expect("is there");
    assert_eq!(view().paused.as_deref(), Some("lunch"));
    // What ran when it was paused ends and is recorded; nothing begins after that.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let rested = stage.play.attempts.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stage.play.attempts.load(Ordering::SeqCst), rested);
    stage.engine.resume(id).await.expect("goes on");
    let ended = stage.ended(id).await;
    assert_eq!(ended.result, Some(Json::from(json!({ "done": 200 }))));

    let before = stage.play.attempts.load(Ordering::SeqCst);
    let request = |event| ResetRequest {
        event,
        reason: "once more".into(),
        exclude_signals: false,
        exclude_updates: false,
        digest: None,
    };
    for event in [0, 100_000] {
        let missing = stage.engine.reset(id, request(event)).await;
        assert!(matches!(missing, Err(ControlError::NoSuchEvent { .. })), "{missing:?}");
    }
    // The result of the first step is kept, and 199 are left.
    let (mut event, mut result) = (0, 0);
    for record in stage.records(&ended) {
        if let Record::Activation { jobs, .. } | Record::Received { jobs } = &record
            && let Some(place) = jobs.iter().position(|job| matches!(job, Job::ActivityResolved { .. }))
        {
            result = event + place as u64 + 1;
            break;
        }
        event += record.event_count();
    }
    stage.engine.reset(id, request(result)).await.expect("is reset");
    let again = stage.ended(id).await;
    assert_eq!(again.result, Some(Json::from(json!({ "done": 200 }))));
    assert_ne!(again.row.run_id, ended.row.run_id);
    assert_eq!(stage.play.attempts.load(Ordering::SeqCst) - before, 199);
}

#[tokio::test]
async fn an_ended_execution_whose_code_is_gone_is_asked_and_reset_with_the_code_that_serves() {
    let stage = Stage::new().await;
    let ended = stage.run("steps", json!({ "steps": 3 })).await;
    let id = &ended.row.id;
    stage.play.replaced.store(true, Ordering::SeqCst);
    let answer = stage.engine.query(id, message("progress")).await.expect("an answer");
    assert_eq!(answer.value()["done"], 3);
    let reason = "with other code".into();
    let request =
        ResetRequest { event: 1, reason, exclude_signals: false, exclude_updates: false, digest: None };
    stage.engine.reset(id, request).await.expect("is reset");
    let again = stage.ended(id).await;
    assert_eq!((again.row.status, again.row.digest), (Status::Completed, Digest([2; 32])));
}

fn message(name: &str) -> Message {
    Message { name: name.into(), input: Json::null(), sender: "ada".into() }
}

#[tokio::test]
async fn a_trap_is_tried_once_more_and_then_fails_the_execution() {
    let stage = Stage::new().await;
    stage.play.trap_activations.store(1, Ordering::SeqCst);
    let view = stage.run("traps", json!({ "steps": 3 })).await;
    assert_eq!(view.row.status, Status::Completed, "one trap may be bad luck");
    stage.play.trap_activations.store(100, Ordering::SeqCst);
    let view = stage.run("traps", json!({ "steps": 3 })).await;
    assert_eq!((view.row.status, kind(&view)), (Status::Failed, Failure::TRAP));
    assert!(view.failure.expect("it fails").message.contains("as it likes"));
}

#[tokio::test]
async fn a_full_disk_refuses_starts_and_only_delays_what_runs() {
    let stage = Stage::new().await;
    let started = stage.start("sleep", json!({ "ms": 100 })).await.expect("starts");
    stage.store.full.store(true, Ordering::SeqCst);
    let refused = stage.start("steps", json!({})).await;
    assert!(matches!(refused, Err(StartError::Store(StoreError::Full))), "{refused:?}");
    let cancelled = stage.engine.cancel(&started.row.id, "stop".into()).await;
    assert!(matches!(cancelled, Err(ControlError::Store(StoreError::Full))), "{cancelled:?}");
    tokio::time::sleep(Duration::from_millis(250)).await;
    stage.store.full.store(false, Ordering::SeqCst);
    assert_eq!(stage.ended(&started.row.id).await.row.status, Status::Completed);
    assert_eq!(stage.engine.stats().open, 0);
}

#[tokio::test]
async fn a_component_that_is_gone_delays_its_executions_until_it_is_back() {
    let mut stage = Stage::new().await;
    let id = stage.start("sleep", json!({ "ms": 50 })).await.expect("starts").row.id;
    stage.play.missing.store(true, Ordering::SeqCst);
    stage = stage.restart().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(stage.engine.get(&id).expect("reads").expect("is there").row.status, Status::Running);
    stage.play.missing.store(false, Ordering::SeqCst);
    assert_eq!(stage.ended(&id).await.row.status, Status::Completed);
}

#[tokio::test]
async fn a_wait_for_authorisation_ends_when_the_credential_lands() {
    let stage = Stage::new().await;
    let started = stage.start("auth", json!({})).await.expect("starts");
    let emitted = || {
        let records = stage.records(&started);
        records.iter().filter(|record| matches!(record, Record::Emitted { .. })).count()
    };
    stage.until("clients are asked", || emitted() == 1).await;
    stage.service.authorised.store(true, Ordering::SeqCst);
    stage.service.landed.notify_one();
    let view = stage.ended(&started.row.id).await;
    assert_eq!(view.result, Some(Json::from(json!({ "connector_name": "svc" }))));
    assert_eq!(emitted(), 2, "clients are told");
}

#[tokio::test]
async fn a_wait_for_authorisation_has_an_end() {
    let stage = Stage::new().await;
    let view = stage.run("auth", json!({})).await;
    assert_eq!((view.row.status, kind(&view)), (Status::Failed, Failure::CONNECTOR_AUTH_TIMEOUT));
    let message = view.failure.expect("it fails").message;
    assert!(message.starts_with("Connector 'svc' auth timed out: nobody authorised within "), "{message}");
    assert!(message.contains("auth_timeout"), "{message}");
}

#[tokio::test]
async fn a_tool_outside_the_declared_slots_is_refused_with_advice() {
    let stage = Stage::new().await;
    let view = stage.run("slot", json!({})).await;
    assert_eq!(kind(&view), Failure::CONNECTOR);
    let message = view.failure.expect("it fails").message;
    assert!(message.starts_with("Connector 'elsewhere' is not resolved for this workflow"), "{message}");
    let mut wishful = request("steps", json!({}));
    let connector_name = Some("nobody".to_owned());
    wishful.wishes = vec![BindingWish { connector_name, credentials_name: None }];
    let started = stage.engine.start(wishful).await.expect("starts");
    let message = stage.ended(&started.row.id).await.failure.expect("it fails").message;
    assert!(message.starts_with("Extension bindings reference unknown connectors"), "{message}");
}

#[tokio::test]
async fn a05_an_input_of_too_many_values_is_refused_before_a_tree_is_made_of_it() {
    let stage = Stage::new().await;
    let with = |count: usize| {
        let text = format!("{{\"steps\":1,\"more\":[{}0]}}", "0,".repeat(count));
        StartRequest { input: Json::parse(text).expect("JSON"), ..request("steps", json!({})) }
    };
    let Err(StartError::InvalidInput(problems)) = stage.engine.start(with(4_000_000)).await else {
        panic!("it is refused");
    };
    assert!(problems[0].message.contains("at most 4000000 are possible"), "{problems:?}");
    // A large one of fewer is checked as any other is.
    let started = stage.engine.start(with(100_000)).await.expect("starts");
    assert_eq!(stage.ended(&started.row.id).await.row.status, Status::Completed);
    let mut wrong = with(100_000);
    wrong.input = Json::parse(wrong.input.as_str().replacen('1', "true", 1)).expect("JSON");
    let Err(StartError::InvalidInput(problems)) = stage.engine.start(wrong).await else {
        panic!("its schema is looked at");
    };
    assert_eq!(problems[0].pointer, "/steps");
}

#[tokio::test]
async fn starts_are_checked() {
    let stage = Stage::new().await;
    let unknown = stage.start("nothing", json!({})).await;
    assert!(matches!(unknown, Err(StartError::UnknownWorkflow(_))), "{unknown:?}");
    let Err(StartError::InvalidInput(problems)) = stage.start("steps", json!({ "steps": "many" })).await
    else {
        panic!("the schema is checked");
    };
    assert_eq!(problems[0].pointer, "/steps");
    let large = stage.start("steps", json!({ "x": "y".repeat(15_000_000) })).await;
    assert!(matches!(large, Err(StartError::TooLarge { .. })), "{large:?}");
    let mut named = request("sleep", json!({ "ms": 5 }));
    named.execution_id = Some("mine".parse().expect("valid"));
    let first = stage.engine.start(named.clone()).await.expect("starts");
    let open = stage.engine.start(named.clone()).await;
    assert!(matches!(open, Err(StartError::AlreadyExists(_))), "{open:?}");
    stage.ended(&first.row.id).await;
    let ended = stage.engine.start(named).await;
    assert!(matches!(ended, Err(StartError::AlreadyExists(_))), "{ended:?}");
    stage.engine.shutdown().await;
    let late = stage.start("steps", json!({})).await;
    assert!(matches!(late, Err(StartError::ShuttingDown)), "{late:?}");
}
