//! An API on a socket and past it, with an engine, a store and a scheduler behind it, and workflows written in Rust.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use airlock_api::{ApiState, Keys, Limits, router, serve};
use airlock_connectors::{Connectors, ConnectorsConfig, Keyring, MasterKey, MasterKeySource};
use airlock_engine::{
    ActivityDefinition, ActivityOptions, Digest, Engine, EngineConfig, Failure, Handler, Json,
    PluginDefinition, WorkflowDefinition,
    guests::{
        Activation, ActivityCall, ActivityError, ActivityHost, GuestError, Guests, PluginState, PluginStatus,
        WorkflowInit, WorkflowInstance,
    },
    history::{Command, Job, Outcome},
    records::{Records, RecordsError},
    schedule::Scheduler,
};
use airlock_patience::{LIMIT, eventually};
use airlock_store::SqliteStore;
use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::counted::Counted;

/// `echo` ends with its input, `Wait` never ends, `fail` fails, `adds` wants a number `n`, `steps` does as many steps as
/// its input says.
struct Cast(Arc<PluginDefinition>);

struct Instance {
    workflow: String,
    input: Json,
    /// Steps that are done.
    done: u32,
}

#[async_trait]
impl WorkflowInstance for Instance {
    async fn activate(&mut self, activation: Activation<'_>) -> Result<Vec<Command>, GuestError> {
        let began = activation.jobs.iter().any(|job| matches!(job, Job::Started));
        Ok(match (self.workflow.as_str(), began) {
            ("Wait", true) => vec![Command::StartTimer { seq: 1, duration: Duration::from_secs(3_000) }],
            ("Wait", false) => Vec::new(),
            ("fail", _) => vec![Command::Fail { failure: Failure::permanent("Sad", "no") }],
            ("steps", _)
                if began || u64::from(self.done) < self.input.value()["steps"].as_u64().unwrap_or(1) =>
            {
                self.done += 1;
                let (seq, activity, input) = (self.done, "step".into(), Json::null());
                vec![Command::ScheduleActivity { seq, activity, input, options: ActivityOptions::default() }]
            }
            _ => vec![Command::Complete { result: self.input.clone() }],
        })
    }

    async fn query(&mut self, _: &str, _: &Json) -> Result<Outcome, GuestError> {
        Ok(Ok(self.input.clone()))
    }
}

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
        Ok(Box::new(Instance { workflow: init.workflow, input: init.input, done: 0 }))
    }

    async fn run_activity(
        &self,
        _: &Digest,
        _: ActivityCall,
        _: Arc<dyn ActivityHost>,
    ) -> Result<Json, ActivityError> {
        Ok(Json::null())
    }

    fn retain(&self, _: &HashSet<Digest>) {}
}

fn cast() -> Cast {
    let numbers =
        json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    let workflow = |name: &str| WorkflowDefinition {
        name: name.into(),
        display_name: None,
        description: Some(format!("What {name} does")),
        input_schema: if name == "adds" { numbers.clone().into() } else { json!({}).into() },
        output_schema: None,
        on_behalf_of: false,
        execution_timeout: None,
        slots: Vec::new(),
        signals: vec![Handler {
            name: "add".into(),
            description: None,
            input_schema: numbers.clone().into(),
            output_schema: None,
        }],
        queries: Vec::new(),
        updates: Vec::new(),
        retry: None,
        search_keys: Vec::new(),
    };
    Cast(Arc::new(PluginDefinition {
        workflows: ["echo", "Wait", "fail", "adds", "steps"].map(workflow).into(),
        activities: vec![ActivityDefinition {
            name: "step".into(),
            description: None,
            input_schema: json!({}).into(),
            output_schema: None,
            options: ActivityOptions::default(),
            slots: Vec::new(),
        }],
    }))
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

/// What a request came to.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Where it says that something is wrong.
    pub fn places(&self) -> Vec<Value> {
        let problems = self.body["detail"].as_array().cloned().unwrap_or_default();
        problems.iter().map(|problem| problem["loc"].clone()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

pub struct House {
    pub address: SocketAddr,
    pub engine: Arc<Engine>,
    /// Records that were read so far.
    pub read: Arc<AtomicUsize>,
    pub owner: String,
    router: Router,
    stop: CancellationToken,
    folder: Arc<TempDir>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl House {
    pub async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a folder"));
        Self::inside(folder, limits, String::new()).await
    }

    /// The same folder after a restart.
    pub async fn again(self) -> Self {
        let (folder, owner) = (Arc::clone(&self.folder), self.owner.clone());
        self.engine.shutdown().await;
        drop(self);
        Self::inside(folder, Limits::default(), owner).await
    }

    async fn inside(folder: Arc<TempDir>, limits: Limits, mut owner: String) -> Self {
        let path = folder.path();
        let keyring = Keyring::open(path, &MasterKey::from_bytes([9; 32]), None).expect("a keyring");
        // Whoever had it before lets go of it in a moment.
        let store =
            eventually(LIMIT, "the store opens", async || SqliteStore::open(path, &[7; 32]).ok()).await;
        let records: Arc<dyn Records> = Arc::clone(&store) as _;
        let public_url = "http://127.0.0.1:1".parse().expect("an address");
        let mut config = ConnectorsConfig::new(path, &public_url);
        config.allow_loopback = true;
        let connectors = Connectors::open(Arc::clone(&records), Arc::new(keyring), config).expect("opens");
        let keys = Keys::open(Arc::clone(&records)).expect("the keys open");
        keys.first_owner(|key| {
            owner = key.into();
            Ok::<_, RecordsError>(())
        })
        .expect("a key");
        let tools = Arc::new(connectors.clone());
        let read = Arc::new(AtomicUsize::new(0));
        let store = Arc::new(Counted { store, read: Arc::clone(&read) });
        let engine =
            Engine::open(store, Arc::new(cast()), tools, EngineConfig::default()).await.expect("opens");
        let scheduler = Scheduler::open(records, Arc::new(Arc::clone(&engine))).expect("the scheduler opens");
        let starting = Arc::clone(&scheduler);
        let rooms = Arc::new(|| json!({}));
        let state = ApiState::new(Arc::clone(&engine), scheduler, connectors, keys, rooms, Arc::new(Fixed))
            .with_limits(limits);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = starting.run() => {}
                () = stopped.cancelled() => {}
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, router) = (listener.local_addr().expect("an address"), router(state.clone()));
        tokio::spawn(serve(listener, state, stop.clone()));
        Self { address, engine, read, owner, router, stop, folder }
    }

    /// A request past the socket.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
        Answer { status, headers, body }
    }

    pub async fn ask_as(&self, key: &str, method: Method, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        self.send(request.body(body).expect("a request")).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask_as(&self.owner, Method::GET, path, &Value::Null).await
    }

    /// GET that must succeed.
    pub async fn got(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer.body
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask_as(&self.owner, Method::POST, path, &body).await
    }

    pub async fn member(&self, user: &str) -> String {
        let answer = self.post("/v1/airlock/keys", json!({ "user": user })).await;
        answer.body["key"].as_str().expect("a key").to_owned()
    }

    /// Records that are read for an answer.
    pub async fn read_for(&self, path: &str) -> (usize, Value) {
        let before = self.read.load(Ordering::Relaxed);
        let answer = self.got(path).await;
        (self.read.load(Ordering::Relaxed) - before, answer)
    }

    /// Starts an execution with this id.
    pub async fn start(&self, workflow: &str, id: &str, input: Value) {
        let body = json!({ "execution_id": id, "input": input });
        let answer = self.post(&format!("/v1/workflows/{workflow}/execute"), body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }

    pub async fn ended(&self, id: &str) -> Value {
        let path = format!("/v1/workflows/executions/{id}");
        eventually(LIMIT, "it ends", async || {
            let execution = self.got(&path).await;
            (execution["status"] != "RUNNING").then_some(execution)
        })
        .await
    }
}
