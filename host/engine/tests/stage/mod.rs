//! A play for tests of the driver: workflows and activities that do what their input says, with the real store.
//!
//! The workflow `parent` does what its input says and ends as it is told; `child` waits, and cleans up when it is asked to
//! stop; `gated` is a child whose code waits at a gate before it is loaded. What they and the activities do is written into a
//! log.

#![allow(dead_code, unreachable_pub, reason = "each of the tests uses its own part of it")]

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use airlock_engine::{
    ActivityDefinition, ActivityOptions, Digest, Engine, EngineConfig, ExecutionId, Failure, Json,
    OrganizationId, PluginDefinition, Principal, RetryPolicy, RunId, Slot, UserId, WorkflowDefinition,
    WorkspaceId,
    engine::{ExecutionView, StartRequest},
    guests::{
        Activation, ActivityCall, ActivityError, ActivityHost, GuestError, Guests, PluginStatus,
        WorkflowInit, WorkflowInstance,
    },
    history::{Command, Job, Message, Outcome, ParentClose, StartChild},
    store::{ListFilter, Sort, Status},
    tools::{
        AuthMoment, AuthNeeded, Authorization, BindRequest, Binding, CallOptions, CallOrigin, ToolCall, Tools,
    },
};
use airlock_patience::{LIMIT, eventually};
use airlock_store::SqliteStore;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

/// What everybody did, in order.
#[derive(Default)]
pub struct Play {
    pub log: Mutex<Vec<String>>,
    /// How many are about to begin behind the gate.
    pub at_the_gate: AtomicUsize,
    pub gate: watch::Sender<bool>,
    /// The connectors whose users have authorised.
    pub authorised: watch::Sender<HashSet<String>>,
}

impl Play {
    fn note(&self, what: String) {
        self.log.lock().push(what);
    }

    pub fn count(&self, what: &str) -> usize {
        self.log.lock().iter().filter(|line| line.starts_with(what)).count()
    }
}

struct Instance {
    play: Arc<Play>,
    init: WorkflowInit,
    input: Value,
    traps: bool,
}

impl Instance {
    /// What the input of a parent asks for, numbered from 1.
    fn wishes(&self) -> Vec<Command> {
        let wish = |(at, wish): (usize, &Value)| {
            let (seq, text) = (at as u32 + 1, |key: &str| wish[key].as_str().unwrap_or_default().to_owned());
            let slot = || "svc".to_owned();
            match text("op").as_str() {
                "activity" => {
                    let limit = |name: &str| wish[name].as_u64().map(Duration::from_millis);
                    let initial_interval = limit("retry").unwrap_or(HOUR);
                    let retry =
                        RetryPolicy { initial_interval, maximum_attempts: 0, ..RetryPolicy::default() };
                    let options = ActivityOptions {
                        start_to_close: limit("start_to_close"),
                        schedule_to_start: limit("schedule_to_start"),
                        schedule_to_close: limit("schedule_to_close"),
                        heartbeat: limit("heartbeat"),
                        retry: Some(retry),
                    };
                    Command::ScheduleActivity { seq, activity: text("name"), input: Json::null(), options }
                }
                "timer" => {
                    let duration = Duration::from_millis(wish["ms"].as_u64().unwrap_or(3_600_000));
                    Command::StartTimer { seq, duration }
                }
                "tool" => {
                    let (tool, arguments, options) = ("t".into(), Json::null(), CallOptions::default());
                    Command::CallTool { seq, slot: slot(), tool, arguments, options }
                }
                "list" => Command::ListTools { seq, slot: slot() },
                "auth" => Command::AwaitAuth { seq, slot: slot() },
                _ => Command::StartChild {
                    seq,
                    child: Box::new(StartChild {
                        workflow: text("workflow"),
                        execution_id: wish["id"].as_str().map(str::to_owned),
                        input: Json::from(json!({})),
                        close: close(&text("close")),
                        execution_timeout: None,
                        retry: None,
                        await_start: wish["await_start"] == true,
                    }),
                },
            }
        };
        self.input["do"].as_array().into_iter().flatten().enumerate().map(wish).collect()
    }

    fn end(&self, how: &str) -> Command {
        match how {
            "complete" => Command::Complete { result: Json::from(json!("by itself")) },
            "continue" => Command::ContinueAsNew { workflow: None, input: Json::from(self.next_input()) },
            _ => Command::Fail { failure: Failure::retryable("Error", "as it was told") },
        }
    }

    /// The next run waits for the child and nothing else.
    fn next_input(&self) -> Value {
        let mut input = self.input.clone();
        input["end"] = Value::Null;
        input
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn close(name: &str) -> ParentClose {
    match name {
        "terminate" => ParentClose::Terminate,
        "abandon" => ParentClose::Abandon,
        _ => ParentClose::RequestCancel,
    }
}

#[async_trait]
impl WorkflowInstance for Instance {
    async fn activate(&mut self, activation: Activation<'_>) -> Result<Vec<Command>, GuestError> {
        let mut commands = Vec::new();
        let id = self.init.execution_id.clone();
        let note = |what: &str| {
            if !activation.replaying {
                self.play.note(format!("{what} {id}"));
            }
        };
        let is_child = ["child", "gated"].contains(&self.init.workflow.as_str());
        for job in activation.jobs {
            match job {
                Job::Started if is_child => note("began"),
                Job::Started if self.init.workflow == "preflight" => {
                    return Ok(vec![Command::Complete { result: Json::null() }]);
                }
                Job::Started => {
                    commands.extend(self.wishes());
                    // The run after a failed one has the same input, and goes on.
                    if let (Some(how), 1) = (self.input["end"].as_str(), self.init.attempt) {
                        commands.push(self.end(how));
                        return Ok(commands);
                    }
                }
                Job::CancelRequested { .. } if is_child => {
                    note("cleans up");
                    let (activity, input) = ("clean".to_owned(), Json::null());
                    let options = ActivityOptions::default();
                    commands.push(Command::ScheduleActivity { seq: 100, activity, input, options });
                }
                Job::ActivityResolved { .. } if is_child => {
                    note("has cleaned up");
                    commands.push(Command::Cancelled);
                    return Ok(commands);
                }
                Job::CancelRequested { .. } => {
                    note("was asked to stop");
                    commands.push(match self.input["cleanup"].as_str() {
                        Some(how) => self.end(how),
                        None => Command::Cancelled,
                    });
                    return Ok(commands);
                }
                Job::Signal { message, .. } => match message.name.as_str() {
                    "__trap" if !activation.replaying => self.traps = true,
                    "__finish" => {
                        commands.push(Command::Complete { result: Json::from(json!("of the child")) });
                        return Ok(commands);
                    }
                    "__give-up" => commands.push(Command::Cancel { seq: 1 }),
                    name => {
                        commands.push(self.end(name.trim_start_matches('_')));
                        return Ok(commands);
                    }
                },
                Job::ChildResolved { outcome, .. } => {
                    commands.push(match outcome {
                        Ok(result) => Command::Complete { result: result.clone() },
                        Err(failure) => {
                            Command::Fail { failure: Failure { non_retryable: true, ..failure.clone() } }
                        }
                    });
                    return Ok(commands);
                }
                Job::ChildStarted { outcome: Err(failure), .. } => {
                    commands.push(Command::Fail { failure: failure.clone() });
                    return Ok(commands);
                }
                Job::ActivityResolved { outcome: Err(failure), .. } => {
                    commands.push(Command::Fail { failure: failure.clone() });
                    return Ok(commands);
                }
                Job::ActivityResolved { outcome: Ok(result), .. } => {
                    commands.push(Command::Complete { result: result.clone() });
                    return Ok(commands);
                }
                _ => {}
            }
        }
        if self.traps {
            return Err(GuestError::Trapped("as it was told".into()));
        }
        Ok(commands)
    }

    async fn query(&mut self, _: &str, _: &Json) -> Result<Outcome, GuestError> {
        Ok(Ok(Json::null()))
    }
}

struct Cast(Arc<Play>);

fn slot(connector: &str, auto_auth: bool) -> Slot {
    Slot { connector: connector.into(), auto_auth, credentials_name: None }
}

const WORKFLOWS: [&str; 4] = ["parent", "child", "gated", "preflight"];

fn definition() -> PluginDefinition {
    let any = || Json::parse("{}").expect("JSON");
    let workflow = |name: &str| WorkflowDefinition {
        name: name.into(),
        display_name: None,
        description: None,
        input_schema: any(),
        output_schema: None,
        on_behalf_of: true,
        execution_timeout: None,
        slots: match name {
            "parent" => vec![slot("svc", false)],
            "preflight" => vec![slot("first", true), slot("second", true)],
            _ => Vec::new(),
        },
        signals: Vec::new(),
        queries: Vec::new(),
        updates: Vec::new(),
        retry: None,
        search_keys: Vec::new(),
    };
    let activity = |name: &str| ActivityDefinition {
        name: name.into(),
        description: None,
        input_schema: any(),
        output_schema: None,
        options: ActivityOptions::default(),
        slots: Vec::new(),
    };
    PluginDefinition {
        workflows: WORKFLOWS.iter().copied().map(workflow).collect(),
        activities: ["runs", "fails", "asks", "clean", "quick"].map(activity).into(),
    }
}

#[async_trait]
impl Guests for Cast {
    fn plugins(&self) -> Vec<PluginStatus> {
        Vec::new()
    }

    fn serving(&self, workflow: &str) -> Option<Digest> {
        WORKFLOWS.contains(&workflow).then_some(Digest([1; 32]))
    }

    async fn definition(&self, _: &Digest) -> Result<Arc<PluginDefinition>, GuestError> {
        Ok(Arc::new(definition()))
    }

    async fn create(&self, _: &Digest, init: WorkflowInit) -> Result<Box<dyn WorkflowInstance>, GuestError> {
        if init.workflow == "gated" {
            self.0.at_the_gate.fetch_add(1, Ordering::SeqCst);
            // It lasts as long as the play.
            let _ = self.0.gate.subscribe().wait_for(|open| *open).await;
        }
        let (play, input) = (Arc::clone(&self.0), init.input.value());
        Ok(Box::new(Instance { play, init, input, traps: false }))
    }

    async fn run_activity(
        &self,
        _: &Digest,
        call: ActivityCall,
        host: Arc<dyn ActivityHost>,
    ) -> Result<Json, ActivityError> {
        self.0.note(format!("runs {} {}", call.activity, call.idempotency_key));
        let fail = |failure| Err(ActivityError::Failed(failure));
        match call.activity.as_str() {
            "runs" => {
                host.cancelled().await;
                self.0.note(format!("stops {}", call.idempotency_key));
                fail(Failure::permanent(Failure::CANCELLED, "noticed"))
            }
            "fails" => fail(Failure::retryable("Error", "again in an hour")),
            "asks" => host.await_auth("svc").await.map_err(ActivityError::Failed),
            _ => Ok(Json::null()),
        }
    }

    fn retain(&self, _: &HashSet<Digest>) {}
}

/// No call comes back, and a wait for authorisation ends when the test says so.
struct Silence(Arc<Play>);

#[async_trait]
impl Tools for Silence {
    async fn bind(&self, request: BindRequest<'_>) -> Result<Vec<Binding>, Failure> {
        let binding = |slot: &Slot| Binding {
            slot: slot.connector.clone(),
            auto_auth: slot.auto_auth,
            connector_name: slot.connector.clone(),
            connector_id: "1".into(),
            credentials_name: None,
            chosen: false,
            mock: false,
        };
        Ok(request.slots.iter().map(binding).collect())
    }

    async fn authorize(
        &self,
        _: &Principal,
        binding: &Binding,
        _: AuthMoment,
    ) -> Result<Authorization, Failure> {
        let (name, mut authorised) = (binding.connector_name.clone(), self.0.authorised.subscribe());
        if authorised.borrow().contains(&name) {
            return Ok(Authorization::Ready(Json::null()));
        }
        let changed = Box::pin(async move {
            // It lasts as long as the play.
            let _ = authorised.wait_for(|authorised| authorised.contains(&name)).await;
        });
        Ok(Authorization::Needed(AuthNeeded { state: Json::from(json!({})), changed }))
    }

    async fn call_tool(&self, call: ToolCall<'_>) -> Result<Json, Failure> {
        self.0.note(format!("runs tool {}", call.origin.idempotency_key));
        std::future::pending().await
    }

    async fn list_tools(&self, origin: &CallOrigin, _: &Binding) -> Result<Json, Failure> {
        self.0.note(format!("runs list {}", origin.idempotency_key));
        std::future::pending().await
    }
}

pub struct Stage {
    pub engine: Arc<Engine>,
    pub store: Arc<SqliteStore>,
    pub play: Arc<Play>,
    _folder: tempfile::TempDir,
}

pub fn user(name: &str) -> Principal {
    Principal {
        user: UserId::new(name),
        workspace: WorkspaceId::new("default"),
        organization: OrganizationId::new("default"),
    }
}

impl Stage {
    pub async fn new(places: usize) -> Self {
        Self::with(places, EngineConfig::default()).await
    }

    /// With so many places for attempts.
    pub async fn with(places: usize, config: EngineConfig) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(folder.path(), &[3; 32]).expect("the store opens");
        let play = Arc::new(Play::default());
        let config = EngineConfig {
            retry_pause: Duration::from_millis(5),
            cancel_grace: Duration::from_millis(20),
            max_concurrent_activities: places,
            ..config
        };
        let guests = Arc::new(Cast(Arc::clone(&play)));
        let tools = Arc::new(Silence(Arc::clone(&play)));
        let engine = Engine::open(Arc::clone(&store) as _, guests, tools, config).await.expect("opens");
        Self { engine, store, play, _folder: folder }
    }

    pub fn request(&self, id: &str, workflow: &str, input: Value) -> StartRequest {
        let execution_id = Some(id.parse().expect("an id"));
        StartRequest { execution_id, ..StartRequest::new(workflow, input.into(), user("ada")) }
    }

    /// Starts an execution and gives its first run, whether or not another one has followed by then.
    pub async fn first_run(&self, request: StartRequest) -> ExecutionView {
        let id = self.engine.start(request).await.expect("starts").row.id;
        let filter = ListFilter { id: Some(id), sort: Sort::OldestStart, limit: 1, ..ListFilter::default() };
        let first = self.engine.list(&filter).expect("lists").remove(0);
        self.engine.view(first).expect("reads")
    }

    pub async fn signal(&self, id: &ExecutionId, name: &str) {
        self.engine.signal(id, None, self.message(name)).await.expect("is told");
    }

    pub fn message(&self, name: &str) -> Message {
        Message { name: name.into(), input: Json::null(), sender: "test".into() }
    }

    pub fn view(&self, id: &ExecutionId) -> Option<ExecutionView> {
        self.engine.get(id).expect("reads")
    }

    pub fn status(&self, id: &ExecutionId) -> Option<Status> {
        self.view(id).map(|view| view.row.status)
    }

    pub fn has_ended(&self, run: &RunId) -> Option<Status> {
        let status = self.engine.row_of_run(run).expect("reads").expect("is there").status;
        (status != Status::Running).then_some(status)
    }

    pub async fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        eventually(LIMIT, what, async || look()).await
    }
}
