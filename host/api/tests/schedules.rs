//! Schedules over the API: the real router, store, engine and scheduler, and workflows written in Rust.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use airlock_api::{ApiState, Keys, router};
use airlock_connectors::{Connectors, ConnectorsConfig, Keyring, MasterKey, MasterKeySource};
use airlock_engine::{
    Digest, Engine, EngineConfig, Json, PluginDefinition, Slot, WorkflowDefinition,
    guests::{
        Activation, ActivityCall, ActivityError, ActivityHost, GuestError, Guests, PluginState, PluginStatus,
        WorkflowInit, WorkflowInstance,
    },
    history::{Command, Job, Outcome},
    records::{Records, RecordsError},
    schedule::Scheduler,
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

/// `quick` ends at once, `slow` never does, `personal` needs its caller, `calls` a connector `svc`.
struct Cast(Arc<PluginDefinition>);

struct Instance(String);

#[async_trait]
impl WorkflowInstance for Instance {
    async fn activate(&mut self, activation: Activation<'_>) -> Result<Vec<Command>, GuestError> {
        let cancelled = activation.jobs.iter().any(|job| matches!(job, Job::CancelRequested { .. }));
        Ok(match (self.0.as_str(), cancelled) {
            (_, true) => vec![Command::Cancelled],
            ("quick", _) => vec![Command::Complete { result: Json::null() }],
            _ => vec![Command::StartTimer { seq: 1, duration: Duration::from_secs(3_000) }],
        })
    }

    async fn query(&mut self, _: &str, _: &Json) -> Result<Outcome, GuestError> {
        Ok(Ok(Json::null()))
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
        Ok(Box::new(Instance(init.workflow)))
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
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "additionalProperties": false });
    let workflow = |name: &str| WorkflowDefinition {
        name: name.into(),
        display_name: None,
        description: None,
        input_schema: Json::from(schema.clone()),
        output_schema: None,
        on_behalf_of: name == "personal",
        execution_timeout: None,
        slots: match name {
            "calls" => vec![Slot { connector: "svc".into(), auto_auth: true, credentials_name: None }],
            _ => Vec::new(),
        },
        signals: Vec::new(),
        queries: Vec::new(),
        updates: Vec::new(),
        retry: None,
        search_keys: Vec::new(),
    };
    let workflows = ["quick", "slow", "personal", "calls"].map(workflow).into();
    Cast(Arc::new(PluginDefinition { workflows, activities: Vec::new() }))
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
        let tools = Arc::new(connectors.clone());
        let engine =
            Engine::open(store, Arc::new(cast()), tools, EngineConfig::default()).await.expect("opens");
        let scheduler = Scheduler::open(records, Arc::new(Arc::clone(&engine))).expect("the scheduler opens");
        tokio::spawn(Arc::clone(&scheduler).run());
        let state =
            ApiState::new(engine, scheduler, connectors, keys, Arc::new(|| Value::Null), Arc::new(Fixed));
        Self { router: router(state), owner, _folder: folder }
    }

    async fn call_as(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
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
        let value =
            if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
        (status, value)
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.call_as(&self.owner, method, path, body).await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn create(&self, id: &str, workflow: &str, mut schedule: Value) {
        schedule["schedule_id"] = id.into();
        if schedule.get("input").is_none() {
            schedule["input"] = json!({});
        }
        let body = json!({ "workflow_identifier": workflow, "schedule": schedule });
        let (status, answer) = self.post("/v1/workflows/schedules", body).await;
        assert_eq!((status, &answer), (StatusCode::CREATED, &json!({ "schedule_id": id })));
    }

    /// Asks until the schedule is as wished.
    async fn until(&self, id: &str, wished: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let schedule = self.get(&format!("/v1/workflows/schedules/{id}")).await;
            if wished(&schedule) {
                return schedule;
            }
            assert!(began.elapsed() < LIMIT, "gave up: {schedule:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn member(&self, name: &str) -> String {
        let (_, answer) = self.post("/v1/airlock/keys", json!({ "user": name })).await;
        answer["key"].as_str().expect("a key").into()
    }
}

fn never() -> Value {
    json!({ "cron_expressions": ["0 0 0 1 1 * 4000"] })
}

#[tokio::test]
async fn extensions_are_those_of_a_start_and_what_is_lacking_is_a_warning() {
    let api = Api::new().await;
    let make = async |id: &str, inner: Value, outer: Value| {
        let mut schedule = never();
        schedule["input"] = json!({});
        schedule["extensions"] = inner;
        let body = json!({ "workflow_identifier": "calls", "schedule_id": id, "schedule": schedule,
            "extensions": outer });
        api.post("/v1/workflows/schedules", body).await
    };
    let mocks = |mocks: Value| json!({ "airlock": { "mocks": mocks } });
    for (id, inner, outer) in
        [("in", mocks(json!(true)), Value::Null), ("out", Value::Null, mocks(json!(["svc"])))]
    {
        let (status, answer) = make(id, inner.clone(), outer.clone()).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        // A connector that is not there cannot be mocked either.
        let warning = answer["warnings"][0].as_str().expect("a warning");
        assert!(warning.contains("no connector is called 'svc'"), "{warning}");
        let shown = api.get(&format!("/v1/workflows/schedules/{id}")).await;
        assert_eq!(shown["extensions"], if inner.is_null() { outer } else { inner });
    }
    let place =
        |rest: &[Value]| json!([&[json!("body"), json!("schedule"), json!("extensions")], rest].concat());
    let wish = json!({ "mistralai": { "connectors": { "bindings": [{ "credentials_name": "c" }] } } });
    for (wrong, at) in [
        (mocks(json!(["scv"])), &[json!("airlock"), json!("mocks")][..]),
        (mocks(json!(["svc", 1])), &[json!("airlock"), json!("mocks"), json!(1)]),
        (json!({ "airlock": { "mock": true } }), &[json!("airlock"), json!("mock")]),
        (json!(["airlock"]), &[]),
        (wish, &[json!("mistralai"), json!("connectors"), json!("bindings")]),
    ] {
        let (status, answer) = make("wrong", wrong.clone(), Value::Null).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}: {answer}");
        assert_eq!(answer["detail"][0]["loc"], place(at), "{wrong}: {answer}");
        let change = json!({ "schedule": { "extensions": wrong } });
        let (status, _) = api.call(Method::PATCH, "/v1/workflows/schedules/in", Some(change)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
    let (status, answer) = make("both", mocks(json!(true)), mocks(json!(["svc"]))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    let change = json!({ "schedule": { "extensions": null } });
    let (status, answer) = api.call(Method::PATCH, "/v1/workflows/schedules/in", Some(change)).await;
    assert_eq!((status, answer["warnings"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)), "{answer}");
    assert_eq!(api.get("/v1/workflows/schedules/in").await["extensions"], Value::Null);
}

#[tokio::test]
async fn a_schedule_is_made_shown_changed_and_removed_in_the_shapes_of_the_contract() {
    let api = Api::new().await;
    let schedule = json!({
        "input": { "n": 1 }, "calendars": [{ "hour": [{ "start": 9, "end": 0, "step": 0 }] }],
        "intervals": [{ "every": "PT1H" }], "cron_expressions": ["0 * * * *"], "time_zone_name": "Europe/Berlin",
        "policy": { "catchup_window_seconds": 31_536_000, "overlap": 1, "pause_on_failure": false },
        "start_at": "2100-01-01T00:00:00Z", "jitter": "PT5S", "max_executions": 4,
    });
    let body = json!({ "schedule": schedule, "workflow_identifier": "quick", "schedule_id": "hourly",
        "workflow_task_queue": null, "deployment_name": null });
    let (status, answer) = api.post("/v1/workflows/schedules", body.clone()).await;
    assert_eq!((status, answer), (StatusCode::CREATED, json!({ "schedule_id": "hourly" })));
    let (status, answer) = api.post("/v1/workflows/schedules", body).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(answer["detail"].as_str().is_some_and(|text| text.contains("choose another id")), "{answer}");

    let shown = api.get("/v1/workflows/schedules/hourly").await;
    for key in ["input", "cron_expressions", "time_zone_name", "policy", "start_at", "jitter"] {
        assert_eq!(shown[key], schedule[key], "{key}");
    }
    assert_eq!(shown["schedule_id"], "hourly");
    assert_eq!(shown["workflow_name"], "quick");
    assert_eq!(
        (&shown["paused"], &shown["note"], &shown["deployment_name"]),
        (&json!(false), &Value::Null, &json!("cast"))
    );
    assert_eq!(shown["remaining_executions"], 4);
    let future = shown["future_executions"].as_array().expect("times");
    assert_eq!(future.len(), 4, "no more than may be started");
    assert_eq!(future[0], json!({ "scheduled_at": "2100-01-01T00:00:00.000000Z" }));
    assert_eq!(shown["recent_executions"], json!([]));

    let changes = json!({ "schedule": { "cron_expressions": ["30 * * * *"], "intervals": null, "max_executions": null } });
    let (status, answer) = api.call(Method::PATCH, "/v1/workflows/schedules/hourly", Some(changes)).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({ "schedule_id": "hourly" })));
    let changed = api.get("/v1/workflows/schedules/hourly").await;
    assert_eq!(changed["intervals"], Value::Null);
    assert_eq!(changed["remaining_executions"], Value::Null);
    assert_eq!(changed["calendars"], shown["calendars"], "what is not named stays");
    assert_eq!(changed["future_executions"][0]["scheduled_at"], "2100-01-01T00:30:00.000000Z");
    assert_eq!(changed["future_executions"].as_array().map(Vec::len), Some(10));

    let path = "/v1/workflows/schedules/hourly";
    assert_eq!(api.call(Method::DELETE, path, None).await, (StatusCode::NO_CONTENT, Value::Null));
    for method in [Method::GET, Method::DELETE] {
        let (status, answer) = api.call(method, path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(answer["detail"].as_str().is_some_and(|text| text.contains("'hourly'")), "{answer}");
    }
}

#[tokio::test]
async fn what_cannot_be_scheduled_is_refused_with_its_place_and_what_to_do() {
    let api = Api::new().await;
    let hourly = json!({ "input": {}, "cron_expressions": ["@hourly"] });
    let with = |key: &str, value: Value| {
        let mut schedule = hourly.clone();
        schedule[key] = value;
        json!({ "workflow_identifier": "quick", "schedule": schedule })
    };
    for (body, place, says) in [
        (
            json!({ "workflow_identifier": "personal", "schedule": hourly }),
            json!(["body", "workflow_identifier"]),
            "no user present",
        ),
        (
            json!({ "schedule": hourly }),
            json!(["body", "workflow_identifier"]),
            "either workflow_identifier or",
        ),
        (
            json!({ "workflow_identifier": "quick", "workflow_registration_id": "x", "schedule": hourly }),
            json!(["body", "workflow_identifier"]),
            "either",
        ),
        (
            json!({ "workflow_identifier": "quick", "schedule": {} }),
            json!(["body", "schedule", "input"]),
            "missing",
        ),
        (
            json!({ "workflow_identifier": "quick", "schedule": { "input": {} } }),
            json!(["body", "schedule"]),
            "no times",
        ),
        (
            with("intervals", json!([{ "every": 3600 }])),
            json!(["body", "schedule", "intervals", 0, "every"]),
            "string",
        ),
        (
            with("cron_expressions", json!(["0 25 * * *"])),
            json!(["body", "schedule", "cron_expressions", 0]),
            "0 25 * * *",
        ),
        (with("input", json!({ "n": "one" })), json!(["body", "schedule", "input", "n"]), "integer"),
        (
            with("time_zone_name", json!("Berlin")),
            json!(["body", "schedule", "time_zone_name"]),
            "Europe/Berlin",
        ),
        (with("schedule_id", json!("a/b")), json!(["body", "schedule_id"]), "letters"),
        (
            with("input", json!({ "b64payload": "e30=", "encoding_options": ["encrypted"] })),
            json!(["body", "schedule", "input", "encoding_options"]),
            "encrypted",
        ),
    ] {
        let (status, answer) = api.post("/v1/workflows/schedules", body.clone()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {answer}");
        assert_eq!(answer["detail"][0]["loc"], place, "{body}: {answer}");
        assert!(
            answer["detail"][0]["msg"].as_str().is_some_and(|text| text.contains(says)),
            "{body}: {answer}"
        );
    }
    let (status, _) = api
        .post("/v1/workflows/schedules", json!({ "workflow_identifier": "nobody", "schedule": hourly }))
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(api.get("/v1/workflows/schedules").await["schedules"], json!([]), "nothing was made");

    api.create("s", "quick", never()).await;
    for (path, body, place) in [
        ("/v1/workflows/schedules/s/trigger", json!({ "overlap": 9 }), json!(["body", "overlap"])),
        (
            "/v1/airlock/schedules/s/backfill",
            json!({ "start_at": "x", "end_at": "2026-01-01T00:00:00Z" }),
            json!(["body", "start_at"]),
        ),
        (
            "/v1/airlock/schedules/s/backfill",
            json!({ "start_at": "2026-01-01T00:00:00Z", "end_at": "2999-01-01T00:00:00Z" }),
            json!(["body", "end_at"]),
        ),
    ] {
        let (status, answer) = api.post(path, body).await;
        assert_eq!(
            (status, &answer["detail"][0]["loc"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &place),
            "{answer}"
        );
    }
    let changes = json!({ "schedule": { "input": { "n": "x" } } });
    let (status, answer) = api.call(Method::PATCH, "/v1/workflows/schedules/s", Some(changes)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    let nothing = json!({ "schedule": { "cron_expressions": [] } });
    let (status, answer) = api.call(Method::PATCH, "/v1/workflows/schedules/s", Some(nothing)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
}

#[tokio::test]
async fn executions_start_by_the_clock_as_their_owner_and_a_trigger_needs_no_clock() {
    let api = Api::new().await;
    let ada = api.member("ada").await;
    let schedule = json!({ "input": { "n": 1 }, "schedule_id": "tick", "intervals": [{ "every": "PT1S" }], "max_executions": 2 });
    let body = json!({ "workflow_identifier": "quick", "schedule": schedule });
    let (status, answer) = api.call_as(&ada, Method::POST, "/v1/workflows/schedules", Some(body)).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let done = api.until("tick", |shown| shown["remaining_executions"] == 0).await;
    assert_eq!(done["future_executions"], json!([]), "it is exhausted, and stays");
    assert_eq!(done["scheduled"]["started"], 2);
    let recent = done["recent_executions"].as_array().expect("a list");
    let id = recent[0]["execution_id"].as_str().expect("an id");
    let scheduled_at = recent[0]["scheduled_at"].as_str().expect("a time");
    assert_eq!(id, format!("tick-{}Z", scheduled_at[..19].replace(':', "-")));
    assert!(recent[0]["started_at"].as_str().expect("a time") >= scheduled_at, "none is early");
    let execution = api.get(&format!("/v1/workflows/executions/{id}")).await;
    assert_eq!((&execution["user_id"], &execution["status"]), (&json!("ada"), &json!("COMPLETED")));

    for body in [Some(json!({ "overlap": 6 })), Some(json!({})), Some(Value::Null), None] {
        let answer = api.call(Method::POST, "/v1/workflows/schedules/tick/trigger", body).await;
        assert_eq!(answer, (StatusCode::NO_CONTENT, Value::Null));
    }
    // They may meet each other, and one policy is to skip then.
    let by_hand = |shown: &Value| {
        let count = |key: &str| shown["by_hand"][key].as_u64().unwrap_or(0);
        count("started") + count("skipped")
    };
    let triggered = api.until("tick", |shown| by_hand(shown) == 4).await;
    assert_eq!(triggered["scheduled"]["started"], 2);
}

#[tokio::test]
async fn pause_resume_and_backfill_do_what_they_say() {
    let api = Api::new().await;
    api.create("day", "quick", json!({ "intervals": [{ "every": "P1D" }] })).await;
    let path = "/v1/workflows/schedules/day";
    let (status, _) = api.post(&format!("{path}/pause"), json!({ "note": "holidays" })).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let paused = api.get(path).await;
    assert_eq!((&paused["paused"], &paused["note"]), (&json!(true), &json!("holidays")));
    assert_eq!(paused["future_executions"], json!([]));
    let week = json!({ "start_at": "2026-01-01T00:00:00Z", "end_at": "2026-01-07T23:00:00Z" });
    assert_eq!(api.post("/v1/airlock/schedules/day/backfill", week).await.0, StatusCode::NO_CONTENT);
    let filled = api.until("day", |shown| shown["by_hand"]["started"] == 7).await;
    let days: Vec<_> = filled["recent_executions"].as_array().expect("a list").iter().rev().collect();
    for (i, run) in days.iter().enumerate() {
        assert_eq!(run["scheduled_at"], format!("2026-01-0{}T00:00:00.000000Z", i + 1), "in order");
    }
    let (status, _) = api.call(Method::POST, &format!("{path}/resume"), None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let resumed = api.get(path).await;
    assert_eq!((&resumed["paused"], &resumed["note"]), (&json!(false), &Value::Null));
    assert_eq!(resumed["future_executions"].as_array().map(Vec::len), Some(10));
}

#[tokio::test]
async fn a_trigger_that_terminates_others_starts_after_they_have_ended() {
    let api = Api::new().await;
    api.create("slow", "slow", never()).await;
    let trigger =
        |overlap: u8| api.post("/v1/workflows/schedules/slow/trigger", json!({ "overlap": overlap }));
    trigger(1).await;
    let first =
        api.until("slow", |shown| shown["by_hand"]["started"] == 1).await["running_executions"][0].clone();
    trigger(1).await;
    let skipped = api.until("slow", |shown| shown["by_hand"]["skipped"] == 1).await;
    let reason = format!(
        "the execution {} still runs, and the overlap policy is 'skip'",
        first.as_str().expect("an id")
    );
    assert_eq!(skipped["last_skipped"]["reason"], reason);
    for (overlap, started, status) in [(5, 2, "TERMINATED"), (4, 3, "CANCELED")] {
        let before = api.get("/v1/workflows/schedules/slow").await["running_executions"][0].clone();
        trigger(overlap).await;
        let after = api.until("slow", |shown| shown["by_hand"]["started"] == started).await;
        assert_eq!(after["running_executions"].as_array().map(Vec::len), Some(1));
        let ended = api.get(&format!("/v1/workflows/executions/{}", before.as_str().expect("an id"))).await;
        assert_eq!(ended["status"], status);
    }
    assert_ne!(api.get("/v1/workflows/schedules/slow").await["running_executions"][0], first);
}

#[tokio::test]
async fn lists_filter_and_page_and_members_see_their_own() {
    let api = Api::new().await;
    let ada = api.member("ada").await;
    for id in ["a", "b", "c"] {
        api.create(id, if id == "b" { "slow" } else { "quick" }, never()).await;
    }
    let mut schedule = never();
    schedule["input"] = json!({});
    let body = json!({ "workflow_identifier": "quick", "schedule": schedule, "schedule_id": "hers" });
    assert_eq!(
        api.call_as(&ada, Method::POST, "/v1/workflows/schedules", Some(body)).await.0,
        StatusCode::CREATED
    );
    api.post("/v1/workflows/schedules/c/pause", json!({ "note": "Moving House" })).await;

    let ids = |list: &Value| -> Vec<String> {
        let list = list["schedules"].as_array().expect("a list");
        list.iter().map(|shown| shown["schedule_id"].as_str().expect("an id").to_owned()).collect()
    };
    for (query, expected) in [
        ("", &["a", "b", "c", "hers"][..]),
        ("workflow_name=slow", &["b"]),
        ("status=paused", &["c"]),
        ("status=active", &["a", "b", "hers"]),
        ("user_id=current", &["a", "b", "c"]),
        ("user_id=ada", &["hers"]),
        ("search=HER", &["hers"]),
        ("search=house", &["c"]),
        ("page_size=0", &["a", "b", "c", "hers"]),
    ] {
        let list = api.get(&format!("/v1/workflows/schedules?{query}")).await;
        assert_eq!(ids(&list), expected, "{query}");
        assert_eq!(list["next_page_token"], Value::Null, "{query}");
    }
    let first = api.get("/v1/workflows/schedules?page_size=3").await;
    assert_eq!(ids(&first), ["a", "b", "c"]);
    let next = first["next_page_token"].as_str().expect("there is more");
    let second = api.get(&format!("/v1/workflows/schedules?page_size=3&next_page_token={next}")).await;
    assert_eq!((ids(&second), &second["next_page_token"]), (vec!["hers".into()], &Value::Null));
    assert_eq!(
        api.call(Method::GET, "/v1/workflows/schedules?status=odd", None).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );

    let (_, list) = api.call_as(&ada, Method::GET, "/v1/workflows/schedules", None).await;
    assert_eq!(ids(&list), ["hers"]);
    for (method, path) in [
        (Method::GET, "/v1/workflows/schedules/a"),
        (Method::DELETE, "/v1/workflows/schedules/a"),
        (Method::POST, "/v1/workflows/schedules/a/trigger"),
        (Method::POST, "/v1/workflows/schedules/a/pause"),
    ] {
        let (status, answer) = api.call_as(&ada, method, path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {answer}");
    }
}
