//! Tool calls that need people in the middle, with the real store and with guests and tools made for the occasion.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use airlock_engine::{
    ActivityOptions, Digest, Engine, EngineConfig, ExecutionId, Failure, Json, OrganizationId,
    PluginDefinition, Principal, RetryPolicy, Slot, UserId, WorkflowDefinition, WorkspaceId,
    engine::{
        AnswerError, ControlError, ExecutionView, MessageError, OpenQuestion, ResetRequest, StartRequest,
        UpdateState, WaitFor,
    },
    guests::{
        Activation, ActivityCall, ActivityError, ActivityHost, GuestError, Guests, PluginStatus,
        WorkflowInit, WorkflowInstance,
    },
    history::{Command, Job, Message, Outcome, ParentClose, Record, StartChild, TaskEvent, TaskPhase},
    store::Status,
    tools::{
        AuthMoment, AuthNeeded, Authorization, BindRequest, Binding, CallOptions, CallOrigin, Mocks,
        Question, ToolCall, Tools,
    },
};
use airlock_patience::LIMIT;
use airlock_store::SqliteStore;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Does what its input says: `{"in": "workflow" | "activity", "tool", "options"?, "limits"?}`. Workflow `parent` starts
/// `plain` as a child, `twice` does it in its next run.
struct Instance {
    workflow: String,
    input: Value,
}

fn options(input: &Value) -> CallOptions {
    serde_json::from_value(input["options"].clone()).unwrap_or_default()
}

impl Instance {
    fn begin(&self) -> Command {
        let input = Json::from(self.input.clone());
        let again = self.input["again"] == true;
        match (self.workflow.as_str(), self.input["in"].as_str()) {
            ("twice", _) if !again => {
                let mut input = self.input.clone();
                input["again"] = true.into();
                Command::ContinueAsNew { workflow: None, input: input.into() }
            }
            ("parent", _) => {
                let child = StartChild {
                    workflow: "plain".into(),
                    execution_id: None,
                    input,
                    close: ParentClose::Terminate,
                    execution_timeout: None,
                    retry: None,
                    await_start: false,
                };
                Command::StartChild { seq: 1, child: Box::new(child) }
            }
            (_, Some("activity")) => {
                let limit = self.input["limit_ms"].as_u64().map(Duration::from_millis);
                let options = ActivityOptions {
                    start_to_close: limit,
                    schedule_to_close: limit,
                    heartbeat: limit,
                    retry: Some(RetryPolicy {
                        maximum_attempts: if self.input["retry"] == true { 2 } else { 1 },
                        initial_interval: Duration::from_millis(1),
                        ..RetryPolicy::default()
                    }),
                    ..ActivityOptions::default()
                };
                Command::ScheduleActivity { seq: 1, activity: "call".into(), input, options }
            }
            _ => {
                let (slot, tool) = ("svc".into(), self.input["tool"].as_str().unwrap_or("t").to_owned());
                let options = options(&self.input);
                Command::CallTool { seq: 1, slot, tool, arguments: json!({}).into(), options }
            }
        }
    }
}

#[async_trait]
impl WorkflowInstance for Instance {
    async fn activate(&mut self, activation: Activation<'_>) -> Result<Vec<Command>, GuestError> {
        let command = |job: &Job| match job {
            Job::Started => Some(self.begin()),
            Job::CancelRequested { .. } => Some(Command::Cancelled),
            Job::ActivityResolved { outcome, .. }
            | Job::ToolResolved { outcome, .. }
            | Job::ChildResolved { outcome, .. } => Some(match outcome.clone() {
                Ok(result) => Command::Complete { result },
                Err(failure) => Command::Fail { failure },
            }),
            Job::Update { id, message } => {
                let failure = Failure::permanent(Failure::NOT_FOUND, format!("no update {}", message.name));
                Some(Command::UpdateRejected { id: id.clone(), failure })
            }
            _ => None,
        };
        Ok(activation.jobs.iter().filter_map(command).collect())
    }

    async fn query(&mut self, name: &str, _: &Json) -> Result<Outcome, GuestError> {
        if self.workflow == "asks" {
            return Ok(Ok(json!({ "pending_inputs": [{ "task_id": "its-own" }] }).into()));
        }
        Ok(Err(Failure::permanent(Failure::NOT_FOUND, format!("no query {name}"))))
    }
}

const WORKFLOWS: [&str; 4] = ["plain", "asks", "parent", "twice"];

struct Cast;

#[async_trait]
impl Guests for Cast {
    fn plugins(&self) -> Vec<PluginStatus> {
        Vec::new()
    }

    fn serving(&self, workflow: &str) -> Option<Digest> {
        WORKFLOWS.contains(&workflow).then_some(Digest([1; 32]))
    }

    async fn definition(&self, _: &Digest) -> Result<Arc<PluginDefinition>, GuestError> {
        let workflow = |name: &&str| WorkflowDefinition {
            name: (*name).into(),
            display_name: None,
            description: None,
            input_schema: json!({}).into(),
            output_schema: None,
            on_behalf_of: true,
            execution_timeout: None,
            slots: vec![Slot { connector: "svc".into(), auto_auth: false, credentials_name: None }],
            signals: Vec::new(),
            queries: Vec::new(),
            updates: Vec::new(),
            retry: None,
            search_keys: Vec::new(),
        };
        let workflows = WORKFLOWS.iter().map(workflow).collect();
        Ok(Arc::new(PluginDefinition { workflows, activities: Vec::new() }))
    }

    async fn create(&self, _: &Digest, init: WorkflowInit) -> Result<Box<dyn WorkflowInstance>, GuestError> {
        Ok(Box::new(Instance { workflow: init.workflow, input: init.input.value() }))
    }

    async fn run_activity(
        &self,
        _: &Digest,
        call: ActivityCall,
        host: Arc<dyn ActivityHost>,
    ) -> Result<Json, ActivityError> {
        let input = call.input.value();
        let tool = input["tool"].as_str().unwrap_or("t");
        let called = match tool {
            "await-auth" => host.await_auth("svc").await,
            _ => host.call_tool("svc", tool, json!({}).into(), options(&input)).await,
        };
        let answer = called.map_err(ActivityError::Failed)?;
        match input["then"].as_str() {
            Some("hang") => std::future::pending().await,
            Some("fail") if call.attempt == 1 => {
                Err(ActivityError::Failed(Failure::retryable("Error", "once more")))
            }
            _ => Ok(answer),
        }
    }

    fn retain(&self, _: &HashSet<Digest>) {}
}

/// A connector whose tools do what they are called.
#[derive(Default)]
struct Service {
    authorised: Arc<AtomicBool>,
    landed: Arc<Notify>,
    /// What `bind` was told of mocks, in order.
    mocks: Mutex<Vec<Mocks>>,
}

impl Service {
    fn authorise(&self) {
        self.authorised.store(true, Ordering::SeqCst);
        self.landed.notify_waiters();
    }
}

fn question() -> Question {
    let form = json!({ "type": "object", "required": ["go"], "properties": { "go": { "type": "boolean" } } });
    let about = json!({ "tool_name": "ask" }).into();
    Question { label: "Shall it?".into(), input_schema: form.into(), about, expires_after: None }
}

#[async_trait]
impl Tools for Service {
    async fn bind(&self, request: BindRequest<'_>) -> Result<Vec<Binding>, Failure> {
        self.mocks.lock().push(request.mocks.clone());
        let binding = |slot: &Slot| Binding {
            slot: slot.connector.clone(),
            auto_auth: slot.auto_auth,
            connector_name: "svc".into(),
            connector_id: "1".into(),
            credentials_name: None,
            chosen: false,
            mock: *request.mocks == Mocks::All,
        };
        Ok(request.slots.iter().map(binding).collect())
    }

    async fn authorize(&self, _: &Principal, _: &Binding, _: AuthMoment) -> Result<Authorization, Failure> {
        let (landed, authorised) = (Arc::clone(&self.landed), Arc::clone(&self.authorised));
        if authorised.load(Ordering::SeqCst) {
            return Ok(Authorization::Ready(json!({ "connector_name": "svc" }).into()));
        }
        let changed = async move {
            let mut landed = std::pin::pin!(landed.notified());
            landed.as_mut().enable();
            if !authorised.load(Ordering::SeqCst) {
                landed.await;
            }
        };
        let state = json!({ "connector_name": "svc", "connector_id": "1" }).into();
        Ok(Authorization::Needed(AuthNeeded { state, changed: Box::pin(changed) }))
    }

    async fn call_tool(&self, call: ToolCall<'_>) -> Result<Json, Failure> {
        match call.tool {
            "ask" => call.conversation.ask(question()).await,
            "ask-for-a-moment" | "ask-for-a-while" => {
                let moment = call.tool == "ask-for-a-moment";
                let expires_after = Some(Duration::from_millis(if moment { 1_500 } else { 3_600_000 }));
                call.conversation.ask(Question { expires_after, ..question() }).await
            }
            "authorised" => call.conversation.authorized().await.map(|()| Json::null()),
            "progress" => {
                (0..50).for_each(|n| call.conversation.progress(json!({ "done": n }).into()));
                Ok(Json::null())
            }
            _ => Ok(json!({ "options": call.options, "mock": call.binding.mock }).into()),
        }
    }

    async fn list_tools(&self, _: &CallOrigin, _: &Binding) -> Result<Json, Failure> {
        Ok(Json::null())
    }
}

struct Stage {
    engine: Arc<Engine>,
    service: Arc<Service>,
}

impl Stage {
    async fn open(folder: &tempfile::TempDir, config: EngineConfig) -> Self {
        let store = SqliteStore::open(folder.path(), &[3; 32]).expect("the store opens");
        let service = Arc::new(Service::default());
        let engine =
            Engine::open(store, Arc::new(Cast), Arc::clone(&service) as _, config).await.expect("opens");
        Self { engine, service }
    }

    async fn start(&self, workflow: &str, input: Value) -> ExecutionId {
        self.start_with(workflow, input, Mocks::None).await
    }

    async fn start_with(&self, workflow: &str, input: Value, mocks: Mocks) -> ExecutionId {
        let principal = Principal {
            user: UserId::new("ada"),
            workspace: WorkspaceId::new("default"),
            organization: OrganizationId::new("default"),
        };
        let request = StartRequest { mocks, ..StartRequest::new(workflow, input.into(), principal) };
        self.engine.start(request).await.expect("starts").row.id
    }

    async fn ended(&self, id: &ExecutionId) -> ExecutionView {
        let view = self.engine.wait(id, Some(LIMIT)).await.expect("reads").expect("is there");
        assert_ne!(view.row.status, Status::Running, "{id} did not end");
        view
    }

    async fn until<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = condition() {
                return found;
            }
            assert!(start.elapsed() < LIMIT, "gave up: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn asked(&self, id: &ExecutionId) -> OpenQuestion {
        self.until("a question", || self.engine.questions(id).expect("is there").pop()).await
    }

    /// The host's own task events of a type.
    fn told(&self, id: &ExecutionId, task_type: &str) -> Vec<TaskEvent> {
        let key = self.engine.get(id).expect("reads").expect("is there").row.key;
        let history = self.engine.history(key, 0, 1000).expect("reads");
        let event = |record| match record {
            Record::Emitted { event } if event.task_type == task_type => Some(event),
            _ => None,
        };
        history.into_iter().filter_map(|stored| event(stored.record)).collect()
    }

    async fn stage() -> (tempfile::TempDir, Self) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = EngineConfig { cancel_grace: Duration::from_millis(50), ..EngineConfig::default() };
        let stage = Self::open(&folder, config).await;
        (folder, stage)
    }
}

fn phases(events: &[TaskEvent]) -> Vec<TaskPhase> {
    events.iter().map(|event| event.phase).collect()
}

fn message(name: &str, input: Value) -> Message {
    Message { name: name.into(), input: input.into(), sender: "ada".into() }
}

/// Many times the limits that the tests set: what would end an attempt has its chance.
async fn people_take_their_time() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_question_stays_open_until_it_is_answered_as_its_form_says() {
    let (_folder, stage) = Stage::stage().await;
    for place in ["workflow", "activity"] {
        let id = stage.start("plain", json!({ "in": place, "tool": "ask" })).await;
        let asked = stage.asked(&id).await;
        assert_eq!((asked.label.as_str(), asked.about), ("Shall it?", json!({ "tool_name": "ask" }).into()));
        let answer = |task: &str, input: Value| stage.engine.answer(&id, task, input.into(), "bea");
        let wrong = answer(&asked.task_id, json!({ "go": "perhaps" })).expect_err("does not fit");
        let expected = format!("Invalid input for task {}: /go: ", asked.task_id);
        assert!(wrong.to_string().starts_with(&expected), "{wrong}");
        assert!(matches!(answer("other", json!({})), Err(AnswerError::Unknown(_))));
        assert_eq!(stage.engine.questions(&id).expect("is there").len(), 1);
        answer(&asked.task_id, json!({ "go": true })).expect("fits");
        assert_eq!(stage.ended(&id).await.result, Some(json!({ "go": true }).into()));
        let again = answer(&asked.task_id, json!({ "go": true }));
        assert!(matches!(again, Err(AnswerError::Control(ControlError::Ended(_)))), "{again:?}");

        let told = stage.told(&id, "wait_for_input");
        assert_eq!(phases(&told), [TaskPhase::Started, TaskPhase::Completed]);
        assert!(told.iter().all(|event| event.id == asked.task_id));
        let mut state = json!({ "tool_name": "ask", "label": "Shall it?" });
        state["input_schema"] = question().input_schema.value();
        assert_eq!(told[0].payload.value(), state);
        state["input"] = json!({ "go": true });
        state["answered_by"] = "bea".into();
        assert_eq!(told[1].payload.value(), state);
    }
    let nobody =
        stage.engine.answer(&"nobody".parse::<ExecutionId>().expect("an id"), "t", Json::null(), "ada");
    assert!(matches!(nobody, Err(AnswerError::Control(ControlError::Unknown(_)))), "{nobody:?}");
}

#[tokio::test]
async fn clients_list_and_answer_it_with_the_messages_that_they_know() {
    let (_folder, stage) = Stage::stage().await;
    let pending = async |id: &ExecutionId| {
        let answer = stage.engine.query(id, message("__get_pending_inputs", json!({}))).await;
        answer.expect("is answered").value()["pending_inputs"].clone()
    };
    let asks = stage.start("asks", json!({ "tool": "ask" })).await;
    stage.asked(&asks).await;
    let both = pending(&asks).await;
    assert_eq!((both.as_array().map(Vec::len), &both[0]["task_id"]), (Some(2), &json!("its-own")));

    let id = stage.start("plain", json!({ "tool": "ask" })).await;
    let asked = stage.asked(&id).await;
    let form = asked.input_schema.value();
    let entry = json!([{ "task_id": asked.task_id, "input_schema": form, "label": "Shall it?" }]);
    assert_eq!(pending(&id).await, entry);

    let submit = async |task: &str, input: Value| {
        let update = message("__submit_input", json!({ "task_id": task, "input": input }));
        stage.engine.update(&id, None, update, WaitFor::Completed, None).await.map(|(_, state)| state)
    };
    match submit(&asked.task_id, json!({})).await.expect("is refused") {
        UpdateState::Rejected(failure) => {
            assert!(failure.message.starts_with("Invalid input for task "), "{failure}");
        }
        other => panic!("{other:?}"),
    }
    match submit("unknown", json!({})).await.expect("is refused") {
        UpdateState::Rejected(failure) => {
            assert_eq!(failure.message, "No pending input request found for task unknown");
        }
        other => panic!("{other:?}"),
    }
    let done = submit(&asked.task_id, json!({ "go": false })).await.expect("is answered");
    assert_eq!(done, UpdateState::Completed(Ok(json!({}).into())));
    assert_eq!(stage.ended(&id).await.result, Some(json!({ "go": false }).into()));
    let other = stage.engine.query(&id, message("__other", json!({}))).await;
    assert!(matches!(other, Err(MessageError::Failed(_))), "only that one query is the host's: {other:?}");
    let records =
        stage.engine.history(stage.engine.get(&id).expect("reads").expect("is there").row.key, 0, 99);
    let heard = |record: &Record| {
        matches!(record, Record::Activation { jobs, .. } if jobs.iter().any(|job| {
            matches!(job, Job::Update { message, .. } if message.input.value()["task_id"] != "unknown")
        }))
    };
    assert!(
        !records.expect("reads").iter().any(|stored| heard(&stored.record)),
        "the workflow does not hear"
    );
}

#[test]
fn after_a_crash_the_same_question_is_asked_and_an_answer_to_the_old_one_fits() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let life = |work: &dyn Fn(&tokio::runtime::Runtime, &Stage)| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let stage = runtime.block_on(Stage::open(&folder, EngineConfig::default()));
        work(&runtime, &stage);
        // Whatever runs ends without a word.
        drop(stage);
        runtime.shutdown_timeout(LIMIT);
    };
    let before = Mutex::new(Vec::new());
    life(&|runtime, stage| {
        for place in ["workflow", "activity"] {
            let asked = runtime.block_on(async {
                let id = stage.start("plain", json!({ "in": place, "tool": "ask" })).await;
                (id.clone(), stage.asked(&id).await.task_id)
            });
            before.lock().push(asked);
        }
    });
    life(&|runtime, stage| {
        for (id, task) in before.lock().iter() {
            runtime.block_on(async {
                assert_eq!(stage.asked(id).await.task_id, *task);
                stage.engine.answer(id, task, json!({ "go": true }).into(), "ada").expect("fits");
                assert_eq!(stage.ended(id).await.row.status, Status::Completed);
            });
        }
    });
}

#[tokio::test]
async fn a_question_that_nobody_answers_in_time_is_withdrawn() {
    let (_folder, stage) = Stage::stage().await;
    for place in ["workflow", "activity"] {
        let begun = Instant::now();
        let id = stage.start("plain", json!({ "in": place, "tool": "ask-for-a-moment" })).await;
        let asked = stage.asked(&id).await;
        assert_eq!(asked.expires_at_ms, Some(asked.asked_at_ms + 1_500));
        let failure = stage.ended(&id).await.failure.expect("it fails");
        assert!(begun.elapsed() >= Duration::from_millis(1_490), "{:?}", begun.elapsed());
        assert_eq!((failure.kind.as_str(), failure.non_retryable), (Failure::QUESTION_EXPIRED, true));
        let says = "nobody answered within 1.5s, and the question was withdrawn: Shall it?";
        assert_eq!(failure.message, says);
        let told = stage.told(&id, "wait_for_input");
        assert_eq!(phases(&told), [TaskPhase::Started, TaskPhase::Failed]);
        assert!(told[0].payload.value()["expires_at"].as_str().expect("a time").ends_with('Z'));
        assert_eq!(told[1].payload.value(), says);
    }
}

/// What is asked is withdrawn at the time that was set when it was asked first, however often the daemon dies meanwhile.
#[test]
fn a_restart_does_not_begin_a_time_limit_anew() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let window = Duration::from_secs(4);
    let life = |work: &mut dyn FnMut(&tokio::runtime::Runtime, &Stage)| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let config = EngineConfig { auth_window: window, ..EngineConfig::default() };
        let stage = runtime.block_on(Stage::open(&folder, config));
        work(&runtime, &stage);
        drop(stage);
        runtime.shutdown_timeout(Duration::from_secs(5));
    };
    let shown = |stage: &Stage, id: &ExecutionId, kind: &str, times: usize| {
        (stage.told(id, kind).len() >= times).then_some(())
    };
    let (mut questions, mut waits) = (Vec::new(), Vec::new());
    life(&mut |runtime, stage| {
        for place in ["workflow", "activity"] {
            let id =
                runtime.block_on(stage.start("plain", json!({ "in": place, "tool": "ask-for-a-while" })));
            let asked = runtime.block_on(stage.asked(&id));
            runtime.block_on(stage.until("it is recorded", || shown(stage, &id, "wait_for_input", 1)));
            questions.push((id, asked));
        }
        for tool in ["await-auth", "authorised"] {
            let id = runtime.block_on(stage.start("plain", json!({ "in": "activity", "tool": tool })));
            runtime.block_on(stage.until("it is recorded", || shown(stage, &id, "connector_auth", 1)));
            waits.push(id);
        }
        runtime.block_on(people_take_their_time());
    });
    // Twice, so that what was shown again does not count either.
    let mut opened = Instant::now();
    for times in [2, 3] {
        opened = Instant::now();
        life(&mut |runtime, stage| {
            for (id, before) in &questions {
                let asked = runtime.block_on(stage.asked(id));
                let close = asked.asked_at_ms.abs_diff(before.asked_at_ms);
                assert!(close < 500, "{asked:?} {before:?}");
                assert_eq!(asked.expires_at_ms, Some(asked.asked_at_ms + 3_600_000));
                runtime.block_on(stage.until("again", || shown(stage, id, "wait_for_input", times)));
            }
            if times == 2 {
                return runtime.block_on(people_take_their_time());
            }
            for id in &waits {
                let failure = runtime.block_on(stage.ended(id)).failure.expect("it fails");
                assert_eq!(failure.kind, Failure::CONNECTOR_AUTH_TIMEOUT);
            }
        });
    }
    assert!(opened.elapsed() < window, "the limit began anew: {:?}", opened.elapsed());
}

#[tokio::test]
async fn another_attempt_asks_the_same_question() {
    let (_folder, stage) = Stage::stage().await;
    let input = json!({ "in": "activity", "tool": "ask", "then": "fail", "retry": true, "limit_ms": 300 });
    let id = stage.start("plain", input).await;
    let first = stage.asked(&id).await.task_id;
    people_take_their_time().await;
    stage.engine.answer(&id, &first, json!({ "go": true }).into(), "ada").expect("fits");
    // The time that people took counts for the limit of all attempts neither.
    let second = stage.asked(&id).await.task_id;
    assert_eq!(first, second);
    stage.engine.answer(&id, &second, json!({ "go": false }).into(), "ada").expect("fits");
    assert_eq!(stage.ended(&id).await.result, Some(json!({ "go": false }).into()));
}

#[tokio::test]
async fn the_wait_ends_with_the_execution() {
    let (_folder, stage) = Stage::stage().await;
    for place in ["workflow", "activity"] {
        let id = stage.start("plain", json!({ "in": place, "tool": "ask" })).await;
        let asked = stage.asked(&id).await;
        stage.engine.cancel(&id, "enough".into()).await.expect("is asked");
        assert_eq!(stage.ended(&id).await.row.status, Status::Canceled);
        assert!(stage.engine.questions(&id).expect("is there").is_empty());
        let late = stage.engine.answer(&id, &asked.task_id, json!({ "go": true }).into(), "ada");
        assert!(matches!(late, Err(AnswerError::Control(ControlError::Ended(_)))), "{late:?}");
    }
}

#[tokio::test]
async fn the_time_that_people_take_counts_for_no_limit_of_an_attempt() {
    let (_folder, stage) = Stage::stage().await;
    let input = |tool: &str| json!({ "in": "activity", "tool": tool, "limit_ms": 300 });
    let asks = stage.start("plain", input("ask")).await;
    let waits = stage.start("plain", input("await-auth")).await;
    let steps_up = stage.start("plain", input("authorised")).await;
    let mut hangs = input("ask");
    hangs["then"] = "hang".into();
    let hangs = stage.start("plain", hangs).await;
    let asked = [stage.asked(&asks).await, stage.asked(&hangs).await];
    for id in [&waits, &steps_up] {
        stage.until("authorisation is asked for", || stage.told(id, "connector_auth").pop()).await;
    }
    people_take_their_time().await;
    stage.service.authorise();
    for (id, asked) in [&asks, &hangs].into_iter().zip(asked) {
        stage.engine.answer(id, &asked.task_id, json!({ "go": true }).into(), "ada").expect("fits");
    }
    for id in [&asks, &waits, &steps_up] {
        assert_eq!(stage.ended(id).await.row.status, Status::Completed);
    }
    for id in [&waits, &steps_up] {
        assert_eq!(phases(&stage.told(id, "connector_auth")), [TaskPhase::Started, TaskPhase::Completed]);
    }
    // Its own time counts again.
    let failure = stage.ended(&hangs).await.failure.expect("it fails");
    assert_eq!(failure.kind, Failure::TIMEOUT);
}

#[tokio::test]
async fn who_waits_for_people_leaves_its_place_to_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = EngineConfig { max_concurrent_activities: 1, ..EngineConfig::default() };
    let stage = Stage::open(&folder, config).await;
    let waits = stage.start("plain", json!({ "in": "activity", "tool": "ask" })).await;
    let asked = stage.asked(&waits).await;
    let other = stage.start("plain", json!({ "in": "activity" })).await;
    assert_eq!(stage.ended(&other).await.row.status, Status::Completed);
    stage.engine.answer(&waits, &asked.task_id, json!({ "go": true }).into(), "ada").expect("fits");
    assert_eq!(stage.ended(&waits).await.row.status, Status::Completed);
}

#[tokio::test]
async fn a_call_is_shown_with_its_progress_whoever_makes_it() {
    let (_folder, stage) = Stage::stage().await;
    for place in ["workflow", "activity"] {
        let id = stage.start("plain", json!({ "in": place, "tool": "progress" })).await;
        stage.ended(&id).await;
        let told = stage.told(&id, "tool_call");
        assert_eq!(phases(&told), [TaskPhase::Started, TaskPhase::InProgress, TaskPhase::Completed]);
        let state = json!({ "connector_name": "svc", "tool_name": "progress", "progress": { "done": 0 } });
        assert_eq!(told[1].payload.value(), state);
    }
}

#[tokio::test]
async fn options_reach_the_connector_and_absurd_ones_do_not() {
    let (_folder, stage) = Stage::stage().await;
    let options = CallOptions {
        timeout: Some(Duration::from_secs(3)),
        retries: Some(2),
        credentials_name: Some("work".into()),
        use_mock: Some(true),
    };
    for place in ["workflow", "activity"] {
        let id = stage.start("plain", json!({ "in": place, "options": options })).await;
        let result = stage.ended(&id).await.result.expect("a result").value();
        assert_eq!(result["options"], serde_json::to_value(&options).expect("JSON"));
    }
    let absurd = [
        (CallOptions { timeout: Some(Duration::ZERO), ..options.clone() }, "timeout"),
        (CallOptions { timeout: Some(Duration::from_secs(121)), ..options.clone() }, "timeout"),
        (CallOptions { retries: Some(11), ..options.clone() }, "retries"),
        (CallOptions { credentials_name: Some(" ".into()), ..options }, "credential"),
    ];
    for (options, word) in absurd {
        let id = stage.start("plain", json!({ "options": options })).await;
        let failure = stage.ended(&id).await.failure.expect("it fails");
        assert_eq!(failure.kind, Failure::INVALID_INPUT);
        assert!(failure.message.contains(word), "{failure}");
    }
}

#[tokio::test]
async fn mocks_are_told_to_every_run_and_to_children() {
    let (_folder, stage) = Stage::stage().await;
    let bound = || std::mem::take(&mut *stage.service.mocks.lock());
    for (workflow, times) in [("plain", 1), ("parent", 2), ("twice", 2)] {
        let id = stage.start_with(workflow, json!({}), Mocks::All).await;
        assert_eq!(stage.ended(&id).await.result.expect("a result").value()["mock"], true);
        assert_eq!(bound(), vec![Mocks::All; times], "{workflow}");
    }
    let some = Mocks::Connectors(vec!["svc".into()]);
    let id = stage.start_with("plain", json!({}), some.clone()).await;
    stage.ended(&id).await;
    let request = ResetRequest {
        event: 1,
        reason: "once more".into(),
        exclude_signals: false,
        exclude_updates: false,
        digest: None,
    };
    stage.engine.reset(&id, request).await.expect("is reset");
    stage.ended(&id).await;
    assert_eq!(bound(), [some.clone(), some]);
}
