//! Questions and mocks over the API: the real router, store and engine, and a workflow and a service written in Rust.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use airlock_api::{ApiState, Keys, router};
use airlock_connectors::{Connectors, ConnectorsConfig, Keyring, MasterKey, MasterKeySource};
use airlock_engine::{
    Digest, Engine, EngineConfig, Failure, Json, PluginDefinition, Principal, Slot, WorkflowDefinition,
    guests::{
        Activation, ActivityCall, ActivityError, ActivityHost, GuestError, Guests, PluginStatus,
        WorkflowInit, WorkflowInstance,
    },
    history::{Command, Job, Outcome},
    records::{Records, RecordsError},
    schedule::Scheduler,
    tools::{
        AuthMoment, Authorization, BindRequest, Binding, CallOptions, CallOrigin, Mocks, Question, ToolCall,
        Tools,
    },
};
use airlock_patience::LIMIT;
use airlock_store::SqliteStore;
use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

/// Calls one tool and gives its answer.
struct Instance;

#[async_trait]
impl WorkflowInstance for Instance {
    async fn activate(&mut self, activation: Activation<'_>) -> Result<Vec<Command>, GuestError> {
        let command = |job: &Job| match job {
            Job::Started => {
                let (slot, tool, arguments) = ("svc".into(), "delete".into(), json!({}).into());
                Some(Command::CallTool { seq: 1, slot, tool, arguments, options: CallOptions::default() })
            }
            Job::ToolResolved { outcome: Ok(result), .. } => {
                Some(Command::Complete { result: result.clone() })
            }
            Job::Update { id, message } => Some(self.update(id, &message.input.value())),
            _ => None,
        };
        Ok(activation.jobs.iter().filter_map(command).collect())
    }

    async fn query(&mut self, _: &str, _: &Json) -> Result<Outcome, GuestError> {
        Ok(Ok(json!({ "pending_inputs": [{ "task_id": "its-own", "label": "And?", "input_schema": {} }] })
            .into()))
    }
}

impl Instance {
    /// As the SDK answers.
    fn update(&self, id: &str, input: &Value) -> Command {
        let task = input["task_id"].as_str().unwrap_or_default();
        let refuse = |text: String| Command::UpdateRejected {
            id: id.to_owned(),
            failure: Failure::permanent(Failure::INVALID_INPUT, text),
        };
        match (task, &input["input"]) {
            ("its-own", Value::Bool(_)) => {
                Command::UpdateCompleted { id: id.to_owned(), outcome: Ok(json!({}).into()) }
            }
            ("its-own", _) => refuse(format!("Invalid input for task {task}: not a boolean")),
            _ => refuse(format!("No pending input request found for task {task}")),
        }
    }
}

struct Cast;

#[async_trait]
impl Guests for Cast {
    fn plugins(&self) -> Vec<PluginStatus> {
        Vec::new()
    }

    fn serving(&self, workflow: &str) -> Option<Digest> {
        (workflow == "calls").then_some(Digest([1; 32]))
    }

    async fn definition(&self, _: &Digest) -> Result<Arc<PluginDefinition>, GuestError> {
        let workflow = WorkflowDefinition {
            name: "calls".into(),
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
        Ok(Arc::new(PluginDefinition { workflows: vec![workflow], activities: Vec::new() }))
    }

    async fn create(&self, _: &Digest, _: WorkflowInit) -> Result<Box<dyn WorkflowInstance>, GuestError> {
        Ok(Box::new(Instance))
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

/// Asks before it does anything, unless it is a mock.
struct Service;

#[async_trait]
impl Tools for Service {
    async fn bind(&self, request: BindRequest<'_>) -> Result<Vec<Binding>, Failure> {
        let mocked = |slot: &Slot| match request.mocks {
            Mocks::None => false,
            Mocks::All => true,
            Mocks::Connectors(names) => names.contains(&slot.connector),
        };
        let binding = |slot: &Slot| Binding {
            slot: slot.connector.clone(),
            auto_auth: false,
            connector_name: "svc".into(),
            connector_id: "1".into(),
            credentials_name: None,
            chosen: false,
            mock: mocked(slot),
        };
        Ok(request.slots.iter().map(binding).collect())
    }

    async fn authorize(&self, _: &Principal, _: &Binding, _: AuthMoment) -> Result<Authorization, Failure> {
        Ok(Authorization::Ready(Json::null()))
    }

    async fn call_tool(&self, call: ToolCall<'_>) -> Result<Json, Failure> {
        if call.binding.mock {
            return Ok(json!("mocked").into());
        }
        let form =
            json!({ "type": "object", "required": ["go"], "properties": { "go": { "type": "boolean" } } });
        let about = json!({ "tool_name": call.tool }).into();
        let label = "Shall it?".into();
        call.conversation.ask(Question { label, input_schema: form.into(), about, expires_after: None }).await
    }

    async fn list_tools(&self, _: &CallOrigin, _: &Binding) -> Result<Json, Failure> {
        Ok(Json::null())
    }
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

/// An API in a folder of its own.
struct Api {
    router: Router,
    owner: String,
    _folder: TempDir,
}

impl Api {
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
        let engine = Engine::open(store, Arc::new(Cast), Arc::new(Service), EngineConfig::default()).await;
        let engine = engine.expect("opens");
        let scheduler = Scheduler::open(records, Arc::new(Arc::clone(&engine))).expect("the scheduler opens");
        let state =
            ApiState::new(engine, scheduler, connectors, keys, Arc::new(|| Value::Null), Arc::new(Fixed));
        Self { router: router(state), owner, _folder: folder }
    }

    async fn call(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .body(body)
            .expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn post(&self, key: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(key, Method::POST, path, Some(body)).await
    }

    async fn member(&self, name: &str) -> String {
        let (_, answer) = self.post(&self.owner, "/v1/airlock/keys", json!({ "user": name })).await;
        answer["key"].as_str().expect("a key").into()
    }

    /// Starts an execution and waits for its question.
    async fn asked(&self, key: &str) -> (String, Value) {
        let (status, execution) = self.post(key, "/v1/workflows/calls/execute", json!({})).await;
        assert_eq!(status, StatusCode::OK, "{execution}");
        let id = execution["execution_id"].as_str().expect("an id").to_owned();
        let began = Instant::now();
        loop {
            let path = format!("/v1/airlock/executions/{id}/questions");
            let (status, open) = self.call(key, Method::GET, &path, None).await;
            assert_eq!(status, StatusCode::OK, "{open}");
            let mut open = open["questions"].as_array().into_iter().flatten();
            if let Some(question) = open.find(|question| question["about"]["tool_name"] == "delete") {
                return (id, question.clone());
            }
            assert!(began.elapsed() < LIMIT, "nothing is asked");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_question_is_listed_and_answered_by_those_who_may_signal() {
    let api = Api::new().await;
    let (ada, bea) = (api.member("ada").await, api.member("bea").await);
    let (id, question) = api.asked(&ada).await;
    assert_eq!(question["label"], "Shall it?");
    assert_eq!(question["about"], json!({ "tool_name": "delete" }));
    assert_eq!(question["input_schema"]["required"], json!(["go"]));
    let task = question["task_id"].as_str().expect("an id");
    let path = format!("/v1/airlock/executions/{id}/questions");
    let yes = || json!({ "input": { "go": true } });
    assert_eq!(api.call(&bea, Method::GET, &path, None).await.0, StatusCode::NOT_FOUND);
    let answer = format!("{path}/{task}");
    assert_eq!(api.post(&bea, &answer, yes()).await.0, StatusCode::NOT_FOUND);
    let (status, wrong) = api.post(&ada, &answer, json!({ "input": { "go": 1 } })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(wrong["detail"][0]["loc"], json!(["body", "input", "go"]));
    let (status, wrong) = api.post(&ada, &format!("{path}/other"), yes()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(wrong["detail"], "No pending input request found for task other");
    // The owner may do what everybody may.
    assert_eq!(api.post(&api.owner, &answer, yes()).await.0, StatusCode::OK);
    let (_, open) = api.call(&ada, Method::GET, &path, None).await;
    let mut open = open["questions"].as_array().into_iter().flatten();
    assert!(open.all(|question| question["task_id"] != task), "it was answered");
}

#[tokio::test]
async fn a_question_of_the_workflow_itself_is_one_like_any_other() {
    let api = Api::new().await;
    let ada = api.member("ada").await;
    let (id, _) = api.asked(&ada).await;
    let path = format!("/v1/airlock/executions/{id}/questions");
    let (_, open) = api.call(&ada, Method::GET, &path, None).await;
    assert_eq!(open["questions"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&open["questions"][1]["task_id"], &open["questions"][1]["label"]),
        (&json!("its-own"), &json!("And?"))
    );
    let answer =
        async |input: Value| api.post(&ada, &format!("{path}/its-own"), json!({ "input": input })).await;
    let (status, wrong) = answer(json!("?")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(wrong["detail"][0]["loc"], json!(["body", "input"]));
    assert_eq!(answer(json!(true)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_public_client_answers_with_its_own_messages() {
    let api = Api::new().await;
    let ada = api.member("ada").await;
    let (id, question) = api.asked(&ada).await;
    let path = |rest: &str| format!("/v1/workflows/executions/{id}/{rest}");
    let (status, pending) =
        api.post(&ada, &path("queries"), json!({ "name": "__get_pending_inputs", "input": {} })).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(pending["result"]["pending_inputs"][1]["task_id"], question["task_id"]);
    let submit = |input: Value| {
        let input = json!({ "task_id": question["task_id"], "input": input });
        json!({ "name": "__submit_input", "input": input })
    };
    let (status, refused) = api.post(&ada, &path("updates"), submit(json!({}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        refused["detail"].as_str().is_some_and(|text| text.contains("Invalid input for task")),
        "{refused}"
    );
    let (status, done) = api.post(&ada, &path("updates"), submit(json!({ "go": false }))).await;
    assert_eq!((status, &done["result"]), (StatusCode::OK, &json!({})));
}

#[tokio::test]
async fn an_execution_runs_with_mocks_when_its_start_says_so() {
    let api = Api::new().await;
    let ada = api.member("ada").await;
    let start = async |mocks: Value| {
        let body = json!({ "wait_for_result": true, "extensions": { "airlock": { "mocks": mocks } } });
        api.post(&ada, "/v1/workflows/calls/execute", body).await
    };
    for mocks in [json!(true), json!(["svc"])] {
        let (status, ended) = start(mocks).await;
        assert_eq!((status, &ended["result"]), (StatusCode::OK, &json!("mocked")), "{ended}");
    }
    let (status, wrong) = start(json!(["scv"])).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(wrong["detail"][0]["loc"], json!(["body", "extensions", "airlock", "mocks"]));
    assert!(
        wrong["detail"][0]["msg"].as_str().is_some_and(|text| text.contains("no connector 'scv'")),
        "{wrong}"
    );
}
