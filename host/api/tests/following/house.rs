//! An API with an engine behind it, spoken to past the socket, and streams of its events.

use std::{sync::Arc, time::Duration};

use airlock_api::{ApiState, Keys, router};
use airlock_connectors::{Connectors, ConnectorsConfig, Keyring, MasterKey, MasterKeySource};
use airlock_engine::{
    Engine, EngineConfig,
    records::{Records, RecordsError},
    schedule::Scheduler,
    store::{ExecutionRow, ListFilter, Sort, Status},
};
use airlock_patience::{LIMIT, eventually};
use airlock_store::SqliteStore;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode},
    response::Response,
};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::play::cast;

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
pub struct House {
    router: Router,
    pub engine: Arc<Engine>,
    pub owner: String,
    _folder: Arc<TempDir>,
}

impl House {
    pub async fn new() -> Self {
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

    pub async fn json(&self, key: &str, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let response = self.ask(key, method, path, None, body).await;
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub async fn start(&self, id: &str, plan: &Value) {
        let body = json!({ "execution_id": id, "input": plan });
        let (status, answer) =
            self.json(&self.owner, Method::POST, "/v1/workflows/play/execute", &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    /// A page of stored events, and the cursor for the next.
    pub async fn page(&self, scope: &str, limit: u64, from: u64) -> (Vec<Value>, Option<u64>) {
        let path = format!("/v1/workflows/events/list?{scope}&limit={limit}&cursor={from}");
        let (status, mut page) = self.json(&self.owner, Method::GET, &path, &Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let next = page["next_cursor"].as_str().map(|next| next.parse().expect("a number"));
        let Value::Array(events) = page["events"].take() else { panic!("a list: {page}") };
        (events, next)
    }

    /// All stored events.
    pub async fn stored(&self, scope: &str) -> Vec<Value> {
        let (mut all, mut from) = (Vec::new(), Some(0));
        while let Some(next) = from {
            let (events, then) = self.page(scope, 1_000, next).await;
            all.extend(events);
            from = then;
        }
        all
    }

    pub fn runs(&self, root: &str) -> Vec<ExecutionRow> {
        let root = Some(root.parse().expect("an id"));
        let all = ListFilter { root, limit: 100_000, sort: Sort::OldestStart, ..ListFilter::default() };
        self.engine.list(&all).expect("lists")
    }

    pub fn is_over(&self, root: &str) -> bool {
        self.runs(root).iter().all(|row| row.status != Status::Running)
    }

    pub async fn is_quiet(&self, root: &str) {
        eventually(LIMIT, "all runs end", async || self.is_over(root).then_some(())).await;
    }

    /// The events of a stream as they come, with their ids.
    pub async fn stream(&self, key: &str, path: &str, last: Option<u64>) -> Stream {
        let response = self.ask(key, Method::GET, path, last, &Value::Null).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Stream { body: response.into_body().into_data_stream(), text: String::new() }
    }
}

pub struct Stream {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Stream {
    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<(u64, Value)> {
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

    pub async fn rest(mut self) -> Vec<(u64, Value)> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}
