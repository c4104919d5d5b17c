//! Following trees of executions that grow: whoever reads the events of a tree, in one piece or in many, gets every event
//! once and in order, also of children that nobody had heard of.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use airlock_api::{ApiState, Keys, router};
use airlock_connectors::{Connectors, ConnectorsConfig, Keyring, MasterKey, MasterKeySource};
use airlock_engine::{
    ActivityDefinition, ActivityOptions, Digest, Engine, EngineConfig, Failure, Json, PluginDefinition,
    RetryPolicy, WorkflowDefinition,
    guests::{
        Activation, ActivityCall, ActivityError, ActivityHost, GuestError, Guests, PluginState, PluginStatus,
        WorkflowInit, WorkflowInstance,
    },
    history::{Command, Job, Outcome, ParentClose, Record, StartChild, TaskEvent, TaskPhase},
    records::{Records, RecordsError},
    schedule::Scheduler,
    store::{ExecutionRow, ListFilter, Sort, Status},
};
use airlock_patience::{LIMIT, eventually};
use airlock_store::SqliteStore;
use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode},
    response::Response,
};
use futures::{StreamExt as _, future::join_all};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use tower::ServiceExt as _;

/// The same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A workflow that does what its input says: one stage after the other, all operations of a stage at once; then it fails
/// (`fails` times), continues as new (`again` times) or completes. Asked to stop, it takes a while (`cleanup`) if so said.
struct Play {
    plan: Value,
    attempt: u64,
    stage: usize,
    seq: u32,
    /// What the stage waits for; `true`: only for its start.
    waits: HashMap<u32, bool>,
    /// The timer after which it stops.
    stops: Option<u32>,
}

impl Play {
    fn next_seq(&mut self) -> u32 {
        self.seq += 1;
        self.seq
    }

    fn hear(&mut self, job: &Job, commands: &mut Vec<Command>) {
        match job {
            Job::ActivityResolved { seq, .. } | Job::ChildResolved { seq, .. } => {
                self.waits.remove(seq);
            }
            Job::TimerFired { seq } if self.stops == Some(*seq) => commands.push(Command::Cancelled),
            Job::TimerFired { seq } => {
                self.waits.remove(seq);
            }
            Job::ChildStarted { seq, .. } if self.waits.get(seq) == Some(&true) => {
                self.waits.remove(seq);
            }
            Job::CancelRequested { .. } if self.stops.is_none() => match self.plan["cleanup"].as_u64() {
                Some(ms) => {
                    let seq = self.next_seq();
                    self.stops = Some(seq);
                    commands.push(Command::StartTimer { seq, duration: Duration::from_millis(ms) });
                }
                None => commands.push(Command::Cancelled),
            },
            _ => {}
        }
    }

    fn begin(&mut self, operation: &Value) -> Command {
        let seq = self.next_seq();
        match operation["op"].as_str() {
            Some("activity") => {
                self.waits.insert(seq, false);
                let options = ActivityOptions::default();
                let (activity, input) = ("work".into(), operation["input"].clone().into());
                Command::ScheduleActivity { seq, activity, input, options }
            }
            Some("timer") => {
                self.waits.insert(seq, false);
                let ms = operation["ms"].as_u64().expect("a time");
                Command::StartTimer { seq, duration: Duration::from_millis(ms) }
            }
            Some("child") => {
                let start = operation["wait"] == "start";
                self.waits.insert(seq, start);
                let close = match operation["close"].as_str() {
                    Some("abandon") => ParentClose::Abandon,
                    Some("terminate") => ParentClose::Terminate,
                    _ => ParentClose::RequestCancel,
                };
                let child = StartChild {
                    workflow: "play".into(),
                    execution_id: operation["id"].as_str().map(Into::into),
                    input: operation["plan"].clone().into(),
                    close,
                    execution_timeout: None,
                    retry: None,
                    await_start: start,
                };
                Command::StartChild { seq, child: Box::new(child) }
            }
            _ => Command::EmitEvent { event: shown(seq) },
        }
    }
}

fn shown(number: u32) -> TaskEvent {
    let (id, payload) = (format!("t{number}"), Json::from(json!({ "n": number })));
    TaskEvent { id, task_type: "shown".into(), phase: TaskPhase::InProgress, payload }
}

#[async_trait]
impl WorkflowInstance for Play {
    async fn activate(&mut self, activation: Activation<'_>) -> Result<Vec<Command>, GuestError> {
        let mut commands = Vec::new();
        for job in activation.jobs {
            self.hear(job, &mut commands);
        }
        let is_over = |commands: &[Command]| matches!(commands.last(), Some(Command::Cancelled));
        while self.waits.is_empty() && self.stops.is_none() && !is_over(&commands) {
            let Some(stage) = self.plan["stages"].get(self.stage).cloned() else {
                let again = self.plan["again"].as_u64().unwrap_or(0);
                commands.push(if self.attempt <= self.plan["fails"].as_u64().unwrap_or(0) {
                    Command::Fail { failure: Failure::retryable("Unlucky", "not this time") }
                } else if again > 0 {
                    let mut input = self.plan.clone();
                    input["again"] = json!(again - 1);
                    Command::ContinueAsNew { workflow: None, input: input.into() }
                } else {
                    Command::Complete { result: Json::from(json!(self.stage)) }
                });
                break;
            };
            self.stage += 1;
            for operation in stage.as_array().into_iter().flatten() {
                commands.push(self.begin(operation));
            }
        }
        Ok(commands)
    }

    async fn query(&mut self, _: &str, _: &Json) -> Result<Outcome, GuestError> {
        Ok(Ok(Json::null()))
    }
}

struct Cast(Arc<PluginDefinition>);

#[async_trait]
impl Guests for Cast {
    fn plugins(&self) -> Vec<PluginStatus> {
        let state = PluginState::Ready { definition: Arc::clone(&self.0) };
        let (digest, loaded_at) = (Digest([1; 32]), SystemTime::UNIX_EPOCH);
        vec![PluginStatus { name: "cast".into(), digest, bytes: 1, loaded_at, state }]
    }

    fn serving(&self, workflow: &str) -> Option<Digest> {
        self.0.workflow(workflow).map(|_| Digest([1; 32]))
    }

    async fn definition(&self, _: &Digest) -> Result<Arc<PluginDefinition>, GuestError> {
        Ok(Arc::clone(&self.0))
    }

    async fn create(&self, _: &Digest, init: WorkflowInit) -> Result<Box<dyn WorkflowInstance>, GuestError> {
        let (plan, attempt) = (init.input.value(), u64::from(init.attempt));
        Ok(Box::new(Play { plan, attempt, stage: 0, seq: 0, waits: HashMap::new(), stops: None }))
    }

    async fn run_activity(
        &self,
        _: &Digest,
        call: ActivityCall,
        host: Arc<dyn ActivityHost>,
    ) -> Result<Json, ActivityError> {
        let input = call.input.value();
        for number in 0..input["shows"].as_u64().unwrap_or(0) {
            host.emit_event(shown(number as u32)).map_err(ActivityError::Failed)?;
        }
        match u64::from(call.attempt) <= input["fails"].as_u64().unwrap_or(0) {
            true => Err(ActivityError::Failed(Failure::retryable("Declined", "try again"))),
            false => Ok(call.input),
        }
    }

    fn retain(&self, _: &HashSet<Digest>) {}
}

fn cast() -> Cast {
    let retry = RetryPolicy {
        initial_interval: Duration::from_millis(2),
        maximum_attempts: 3,
        ..RetryPolicy::default()
    };
    let workflow = WorkflowDefinition {
        name: "play".into(),
        display_name: None,
        description: None,
        input_schema: json!({}).into(),
        output_schema: None,
        on_behalf_of: false,
        execution_timeout: None,
        slots: Vec::new(),
        signals: Vec::new(),
        queries: Vec::new(),
        updates: Vec::new(),
        retry: Some(retry.clone()),
        search_keys: Vec::new(),
    };
    let activity = ActivityDefinition {
        name: "work".into(),
        description: None,
        input_schema: json!({}).into(),
        output_schema: None,
        options: ActivityOptions { retry: Some(retry), ..ActivityOptions::default() },
        slots: Vec::new(),
    };
    Cast(Arc::new(PluginDefinition { workflows: vec![workflow], activities: vec![activity] }))
}

/// A master key that nobody changes here.
struct Fixed;

impl MasterKeySource for Fixed {
    fn next(&self) -> Result<MasterKey, String> {
        Err("it stays as it is".into())
    }

    fn commit(&self) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Clone)]
struct House {
    router: Router,
    engine: Arc<Engine>,
    owner: String,
    _folder: Arc<TempDir>,
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keyring = Keyring::open(folder.path(), &MasterKey::from_bytes([9; 32]), None).expect("a keyring");
        let store = SqliteStore::open(folder.path(), &[7; 32]).expect("the store opens");
        let records: Arc<dyn Records> = Arc::clone(&store) as _;
        let public_url = "http://127.0.0.1:1".parse().expect("an address");
        let config = ConnectorsConfig::new(folder.path(), &public_url);
        let connectors = Connectors::open(Arc::clone(&records), Arc::new(keyring), config).expect("opens");
        let keys = Keys::open(Arc::clone(&records)).expect("the keys open");
        let mut owner = String::new();
        keys.first_owner(|key| {
            owner = key.into();
            Ok::<_, RecordsError>(())
        })
        .expect("a key");
        // Few instances in memory, so that runs are built again from their histories.
        let config = EngineConfig {
            max_cached_instances: 16,
            retry_pause: Duration::from_millis(20),
            ..EngineConfig::default()
        };
        let tools = Arc::new(connectors.clone());
        let engine = Engine::open(store, Arc::new(cast()), tools, config).await.expect("opens");
        let scheduler = Scheduler::open(records, Arc::new(Arc::clone(&engine))).expect("the scheduler opens");
        let rooms = Arc::new(|| json!({}));
        let state = ApiState::new(Arc::clone(&engine), scheduler, connectors, keys, rooms, Arc::new(Fixed));
        Self { router: router(state), engine, owner, _folder: Arc::new(folder) }
    }

    async fn ask(&self, key: &str, method: Method, path: &str, last: Option<u64>, body: &Value) -> Response {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        let request = match last {
            Some(last) => request.header("last-event-id", last.to_string()),
            None => request,
        };
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.router.clone().oneshot(request.body(body).expect("a request")).await.expect("an answer")
    }

    async fn json(&self, key: &str, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let response = self.ask(key, method, path, None, body).await;
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn start(&self, id: &str, plan: &Value) {
        let body = json!({ "execution_id": id, "input": plan });
        let (status, answer) =
            self.json(&self.owner, Method::POST, "/v1/workflows/play/execute", &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    /// A page of stored events, and the cursor for the next.
    async fn page(&self, scope: &str, limit: u64, from: u64) -> (Vec<Value>, Option<u64>) {
        let path = format!("/v1/workflows/events/list?{scope}&limit={limit}&cursor={from}");
        let (status, mut page) = self.json(&self.owner, Method::GET, &path, &Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let next = page["next_cursor"].as_str().map(|next| next.parse().expect("a number"));
        let Value::Array(events) = page["events"].take() else { panic!("a list: {page}") };
        (events, next)
    }

    /// All stored events.
    async fn stored(&self, scope: &str) -> Vec<Value> {
        let (mut all, mut from) = (Vec::new(), Some(0));
        while let Some(next) = from {
            let (events, then) = self.page(scope, 1_000, next).await;
            all.extend(events);
            from = then;
        }
        all
    }

    fn runs(&self, root: &str) -> Vec<ExecutionRow> {
        let root = Some(root.parse().expect("an id"));
        let all = ListFilter { root, limit: 100_000, sort: Sort::OldestStart, ..ListFilter::default() };
        self.engine.list(&all).expect("lists")
    }

    fn is_over(&self, root: &str) -> bool {
        self.runs(root).iter().all(|row| row.status != Status::Running)
    }

    async fn is_quiet(&self, root: &str) {
        eventually(LIMIT, "all runs end", async || self.is_over(root).then_some(())).await;
    }

    /// The events of a stream as they come, with their ids.
    async fn stream(&self, key: &str, path: &str, last: Option<u64>) -> Stream {
        let response = self.ask(key, Method::GET, path, last, &Value::Null).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Stream { body: response.into_body().into_data_stream(), text: String::new() }
    }
}

struct Stream {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Stream {
    /// The next event; `None` when the stream has ended.
    async fn next(&mut self) -> Option<(u64, Value)> {
        loop {
            while let Some((frame, rest)) = self.text.split_once("\n\n") {
                let lines: Vec<String> = frame.lines().map(Into::into).collect();
                self.text = rest.to_owned();
                let of =
                    |name: &str| lines.iter().find_map(|line| line.strip_prefix(name).map(str::to_owned));
                assert!(
                    lines.iter().all(|line| line == ": keep-alive" || !line.starts_with(':')),
                    "{lines:?}"
                );
                let (Some(id), Some(data)) = (of("id: "), of("data: ")) else { continue };
                let frame: Value = serde_json::from_str(&data).expect("JSON");
                let number: u64 = id.parse().expect("a number");
                assert_eq!(frame["broker_sequence"], number);
                assert_eq!(frame["data"]["event_id"], format!("evt-{number}"));
                return Some((number, frame["data"].clone()));
            }
            let part = timeout(LIMIT, self.body.next()).await.expect("it goes on or ends in time")?;
            self.text.push_str(std::str::from_utf8(&part.expect("it is not cut")).expect("text"));
        }
    }

    async fn rest(mut self) -> Vec<(u64, Value)> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

/// A plan at random. `room` is how many more runs there may be.
fn plan(random: &mut Random, depth: u32, room: &mut u64) -> Value {
    let mut stages = Vec::new();
    for _ in 0..=random.below(3) {
        let mut stage = Vec::new();
        for _ in 0..=random.below(4) {
            stage.push(match random.below(8) {
                0 | 1 => json!({ "op": "activity", "input": { "shows": random.below(4), "fails": random.below(2) } }),
                2 => json!({ "op": "timer", "ms": random.below(30) }),
                3 => json!({ "op": "emit" }),
                _ if depth > 0 && *room > 0 => {
                    *room -= 1;
                    let close = ["abandon", "terminate", "cancel", "cancel"][random.below(4) as usize];
                    let wait = ["start", "end", "end"][random.below(3) as usize];
                    let plan = plan(random, depth - 1, room);
                    json!({ "op": "child", "plan": plan, "close": close, "wait": wait })
                }
                _ => json!({ "op": "activity", "input": {} }),
            });
        }
        stages.push(Value::from(stage));
    }
    let mut plan = json!({ "stages": stages });
    if random.one_in(4) {
        plan["again"] = json!(1 + random.below(3));
    }
    if random.one_in(5) {
        plan["fails"] = json!(1 + random.below(3));
    }
    if random.one_in(3) {
        plan["cleanup"] = json!(random.below(40));
    }
    plan
}

/// Reads a scope until the tree is over, with breaks at random, and asserts that numbers grow. Gives all it got.
async fn reader(house: House, scope: String, root: String, seed: u64, longest: u64) -> Vec<(u64, Value)> {
    let mut random = Random(seed);
    let mut got: Vec<(u64, Value)> = Vec::new();
    let slow = random.one_in(3);
    loop {
        let was_over = house.is_over(&root);
        let last = got.last().map(|(number, _)| *number);
        let path = format!("/v1/workflows/events/stream?{scope}");
        let mut stream = match (last, random.below(3)) {
            (None, _) => house.stream(&house.owner, &path, None).await,
            (Some(last), 0) => house.stream(&house.owner, &path, Some(last)).await,
            (Some(last), 1) => {
                house.stream(&house.owner, &format!("{path}&last_event_id={last}"), None).await
            }
            (Some(last), _) => {
                house.stream(&house.owner, &format!("{path}&start_seq={}", last + 1), None).await
            }
        };
        // Broken off after so many events, or not.
        let most = if random.one_in(3) { u64::MAX } else { random.below(longest) };
        let mut count = 0;
        let ended = loop {
            if count == most {
                break false;
            }
            let Some((number, event)) = stream.next().await else { break true };
            assert!(got.last().is_none_or(|(last, _)| *last < number), "{scope}: {number} is out of order");
            got.push((number, event));
            count += 1;
            if slow && random.one_in(8) {
                tokio::time::sleep(Duration::from_millis(random.below(6))).await;
            }
        };
        if ended && was_over {
            return got;
        }
        tokio::time::sleep(Duration::from_millis(random.below(10))).await;
    }
}

/// Pages through a tree while it grows, a few events at a time.
async fn pager(house: House, scope: String, root: String, seed: u64) -> Vec<Value> {
    let mut random = Random(seed);
    let (mut got, mut from) = (Vec::<Value>::new(), 0);
    loop {
        let was_over = house.is_over(&root);
        let (events, next) = house.page(&scope, 1 + random.below(60), from).await;
        let last = events.last().map(number_of);
        got.extend(events);
        from = match (next, last) {
            (Some(next), _) => next,
            (None, _) if was_over => return got,
            (None, Some(last)) => last + 1,
            (None, None) => from,
        };
        if next.is_none() {
            tokio::time::sleep(Duration::from_millis(random.below(10))).await;
        }
    }
}

fn number_of(event: &Value) -> u64 {
    event["event_id"]
        .as_str()
        .and_then(|id| id.strip_prefix("evt-"))
        .expect("an id")
        .parse()
        .expect("a number")
}

/// What the list must hold, from the histories themselves: how often a run began, and how many events it showed.
fn counts(house: &House, root: &str) -> (usize, usize) {
    let (mut starts, mut shown) = (0, 0);
    for row in house.runs(root) {
        let history = house.engine.history(row.key, 0, 100_000).expect("reads");
        for stored in history {
            match stored.record {
                Record::Started(_) => starts += 1,
                Record::Emitted { .. } => shown += 1,
                Record::Activation { commands, .. } => {
                    shown += commands.iter().filter(|it| matches!(it, Command::EmitEvent { .. })).count();
                }
                _ => {}
            }
        }
    }
    (starts, shown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_follower_of_a_tree_that_grows_gets_all_of_its_events_once_and_in_order() {
    let house = House::new().await;
    let (runs, events) = (AtomicU64::new(0), AtomicU64::new(0));
    for seed in 1..=6 {
        let mut random = Random(seed);
        let root = format!("tree-{seed}");
        let mut room = 60;
        let mut plan = plan(&mut random, 3, &mut room);
        // There are children of all kinds at the top, whatever else.
        let child = |close: &str, wait: &str, plan: Value| json!({ "op": "child", "close": close, "wait": wait, "plan": plan });
        let longer = json!({ "stages": [[{ "op": "timer", "ms": 300 }], [{ "op": "activity", "input": { "shows": 3 } }]], "cleanup": 30 });
        let stages = plan["stages"].as_array_mut().expect("stages");
        stages.push(json!([
            child("abandon", "start", longer.clone()),
            child("cancel", "start", longer.clone()),
            child("terminate", "start", longer),
        ]));
        plan["fails"] = json!(0);
        house.start(&root, &plan).await;
        // Another tree beside it, of which nobody is told.
        house.start(&format!("beside-{seed}"), &self::plan(&mut random, 2, &mut 20)).await;

        let (tree, children, top) = (
            format!("root_workflow_exec_id={root}"),
            format!("parent_workflow_exec_id={root}"),
            format!("workflow_exec_id={root}"),
        );
        let mut readers = Vec::new();
        for number in 0..8 {
            let scope = [&tree, &tree, &tree, &tree, &tree, &tree, &children, &top][number].clone();
            let longest = [3, 20, 200, 2_000][number % 4];
            let at = random.below(400) * number as u64 / 8;
            let (house, root, seed) = (house.clone(), root.clone(), 1_000 * seed + number as u64);
            readers.push(tokio::spawn(async move {
                // Some come late.
                tokio::time::sleep(Duration::from_millis(at)).await;
                (scope.clone(), reader(house, scope, root, seed, longest).await)
            }));
        }
        let pagers: Vec<_> = (0..2)
            .map(|number| tokio::spawn(pager(house.clone(), tree.clone(), root.clone(), 7 * seed + number)))
            .collect();
        house.is_quiet(&root).await;

        let stored = house.stored(&tree).await;
        assert!(stored.is_sorted_by_key(number_of));
        let (starts, shown) = counts(&house, &root);
        let of = |kind: &str| stored.iter().filter(|event| event["event_type"] == kind).count();
        assert_eq!(of("WORKFLOW_EXECUTION_STARTED"), starts);
        assert_eq!(starts, house.runs(&root).len());
        assert_eq!(of("CUSTOM_TASK_IN_PROGRESS"), shown);
        for event in stored.iter().filter(|it| it["event_type"].as_str().unwrap().starts_with("ACTIVITY")) {
            assert!(event["attributes"]["activity_name"].is_string(), "{event}");
        }
        // Each run by itself gives the same as all together.
        let mut apart = Vec::new();
        for row in house.runs(&root) {
            apart.extend(house.stored(&format!("{tree}&workflow_run_id={}", row.run_id)).await);
        }
        apart.sort_by_key(number_of);
        assert!(apart == stored, "the runs one by one: {} instead of {}", apart.len(), stored.len());

        for reader in join_all(readers).await {
            let (scope, got) = reader.expect("reads");
            let got: Vec<Value> = got.into_iter().map(|(_, event)| event).collect();
            let expected = if scope == tree { stored.clone() } else { house.stored_by_hand(&scope, &stored) };
            same(&got, &expected, &format!("seed {seed}, {scope}"));
        }
        for pager in join_all(pagers).await {
            same(&pager.expect("pages"), &stored, &format!("seed {seed}, pages"));
        }
        runs.fetch_add(starts as u64, Ordering::Relaxed);
        events.fetch_add(stored.len() as u64, Ordering::Relaxed);
    }
    let (runs, events) = (runs.into_inner(), events.into_inner());
    println!("{runs} runs, {events} events");
    assert!(runs > 150 && events > 1_000, "there is something to follow: {runs} runs, {events} events");
}

impl House {
    /// The events of children or of one execution among those of a tree.
    fn stored_by_hand(&self, scope: &str, stored: &[Value]) -> Vec<Value> {
        let (key, id) = scope.split_once('=').expect("a scope");
        let wanted = |event: &&Value| match key {
            "parent_workflow_exec_id" => event["parent_workflow_exec_id"] == id,
            _ => event["workflow_exec_id"] == id,
        };
        stored.iter().filter(wanted).cloned().collect()
    }
}

fn same(got: &[Value], expected: &[Value], what: &str) {
    let different = got.iter().zip(expected).position(|(got, expected)| got != expected);
    if let Some(at) = different {
        panic!("{what}: event {at} is {} and should be {}", got[at], expected[at]);
    }
    assert_eq!(got.len(), expected.len(), "{what}");
}

/// What is told of each execution: its kinds of events, by its id.
fn kinds(told: &[(u64, Value)]) -> HashMap<String, Vec<String>> {
    let mut kinds: HashMap<String, Vec<String>> = HashMap::new();
    for (_, event) in told {
        let text = |key: &str| event[key].as_str().expect("a text").to_owned();
        let kind = text("event_type").replace("WORKFLOW_EXECUTION_", "");
        kinds.entry(text("workflow_exec_id")).or_default().push(kind);
    }
    kinds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_children_that_clean_up_and_leaves_those_that_were_abandoned_to_themselves() {
    let house = House::new().await;
    let hour = json!([{ "op": "timer", "ms": 3_600_000 }]);
    let waits = |more: Value| json!({ "stages": [more, hour], "cleanup": 150 });
    let child = |id: &str, close: &str, plan: Value| json!({ "op": "child", "id": id, "close": close, "wait": "start", "plan": plan });
    let below = waits(json!([child("below", "cancel", waits(json!([])))]));
    let plan = json!({ "stages": [[
        child("cleans-up", "cancel", waits(json!([child("nested", "cancel", waits(json!([])))]))),
        child("abandoned", "abandon", below),
        child("killed", "terminate", waits(json!([]))),
    ], [{ "op": "timer", "ms": 200 }]] });
    house.start("top", &plan).await;
    let streams = ["root", "parent"].map(|of| {
        let (house, path) = (house.clone(), format!("/v1/workflows/events/stream?{of}_workflow_exec_id=top"));
        async move { house.stream(&house.owner, &path, None).await.rest().await }
    });
    let [tree, children]: [Vec<_>; 2] =
        timeout(LIMIT, join_all(streams)).await.expect("they end").try_into().expect("two");
    assert!(!house.is_over("top"), "the abandoned one goes on");
    let (tree, children) = (kinds(&tree), kinds(&children));
    for kinds in [&tree, &children] {
        assert_eq!(kinds["cleans-up"].last().expect("events"), "CANCELED", "{kinds:?}");
        assert_eq!(kinds["abandoned"][0], "STARTED", "{kinds:?}");
        assert_eq!(kinds["killed"], ["STARTED"], "{kinds:?}");
    }
    assert_eq!(tree["top"].last().expect("events"), "COMPLETED");
    assert_eq!(tree["nested"].last().expect("events"), "CANCELED", "{tree:?}");
    assert_eq!(tree["below"], ["STARTED"]);
    assert!(!children.contains_key("top") && !children.contains_key("nested"), "{children:?}");
    // Its own stream goes on to its end, and so does what it started.
    let path = "/v1/workflows/events/stream?workflow_exec_id=abandoned";
    let mut own = house.stream(&house.owner, path, None).await;
    assert_eq!(own.next().await.expect("an event").1["event_type"], "WORKFLOW_EXECUTION_STARTED");
    let (status, _) =
        house.json(&house.owner, Method::POST, "/v1/workflows/executions/abandoned/cancel", &json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let rest = own.rest().await;
    assert_eq!(rest.last().expect("events").1["event_type"], "WORKFLOW_EXECUTION_CANCELED");
    house.is_quiet("top").await;
    // Whoever comes back gets what came after, and no more.
    let all = house.stored("root_workflow_exec_id=top").await;
    let last = number_of(&all[all.len() / 2]);
    let path = "/v1/workflows/events/stream?root_workflow_exec_id=top";
    let later = house.stream(&house.owner, path, Some(last)).await.rest().await;
    let later: Vec<Value> = later.into_iter().map(|(_, event)| event).collect();
    same(&later, &all[all.len() / 2 + 1..], "the rest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_from_the_middle_of_a_long_history_names_what_began_long_before() {
    let house = House::new().await;
    // One child that lasts, begun first; then many short steps.
    let lasts = json!({ "op": "child", "close": "cancel", "wait": "end", "id": "lasts", "plan": { "stages": [[{ "op": "timer", "ms": 400 }]] } });
    let step = json!([{ "op": "activity", "input": { "shows": 1 } }]);
    let inner = json!({ "stages": vec![step; 120] });
    let steps = json!({ "op": "child", "close": "cancel", "wait": "end", "plan": inner, "id": "steps" });
    let first: Vec<Value> =
        std::iter::once(lasts).chain(std::iter::repeat_n(json!({ "op": "emit" }), 900)).collect();
    let plan = json!({ "stages": [first.into_iter().chain([steps]).collect::<Vec<_>>()] });
    house.start("long", &plan).await;
    house.is_quiet("long").await;
    for scope in ["root_workflow_exec_id=long", "workflow_exec_id=long", "workflow_exec_id=steps"] {
        let all = house.stored(scope).await;
        for event in all.iter().filter(|it| it["event_type"].as_str().unwrap().starts_with("ACTIVITY")) {
            assert!(event["attributes"]["activity_name"].is_string(), "{event}");
        }
        // From any event on, everything is as it is in one piece.
        for at in (0..all.len()).step_by(41).chain([all.len() - 1]) {
            let (page, _) = house.page(scope, 20, number_of(&all[at])).await;
            same(&page, &all[at..all.len().min(at + 20)], &format!("{scope} from {at}"));
        }
    }
}

#[tokio::test]
async fn a_member_hears_of_no_run_of_somebody_else_whatever_it_asks_for() {
    let house = House::new().await;
    let key = {
        let (status, key) =
            house.json(&house.owner, Method::POST, "/v1/airlock/keys", &json!({ "user": "bea" })).await;
        assert_eq!(status, StatusCode::CREATED, "{key}");
        key["key"].as_str().expect("a key").to_owned()
    };
    let child = json!({ "op": "child", "close": "cancel", "wait": "end", "plan": { "stages": [] }, "id": "of-owner" });
    house.start("owners", &json!({ "stages": [[child]] })).await;
    let body = json!({ "execution_id": "of-bea", "input": { "stages": [] } });
    let (status, answer) = house.json(&key, Method::POST, "/v1/workflows/play/execute", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    house.is_quiet("owners").await;
    for query in
        ["root_workflow_exec_id=owners", "parent_workflow_exec_id=owners", "workflow_exec_id=of-owner"]
    {
        for kind in ["stream", "list"] {
            let path = format!("/v1/workflows/events/{kind}?{query}");
            let (status, _) = house.json(&key, Method::GET, &path, &Value::Null).await;
            let unanswered = kind == "list" && query.starts_with("parent");
            let expected = if unanswered { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::NOT_FOUND };
            assert_eq!(status, expected, "{path}");
        }
    }
    // The id that is looked at first is her own, the others are not.
    let path = "/v1/workflows/events/stream?root_workflow_exec_id=of-bea&workflow_exec_id=of-owner";
    assert_eq!(house.stream(&key, path, None).await.rest().await, []);
    let own = house.stream(&key, "/v1/workflows/events/stream?root_workflow_exec_id=of-bea", None).await;
    assert_eq!(own.rest().await.len(), 2);
}
