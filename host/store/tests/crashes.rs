//! A process that is taken down by what it runs, as the daemon would be: this test's own executable, which aborts. Whatever
//! the step is, it is held back after three crashes in a row, and everything else goes on.

use std::{
    collections::HashSet,
    path::Path,
    process::{Command as Process, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use airlock_engine::{
    ActivityOptions, Digest, Engine, EngineConfig, ExecutionId, Failure, Json, OrganizationId,
    PluginDefinition, Principal, Slot, UserId, WorkflowDefinition, WorkspaceId,
    engine::StartRequest,
    guests::{
        Activation, ActivityCall, ActivityError, ActivityHost, GuestError, Guests, PluginStatus,
        WorkflowInit, WorkflowInstance,
    },
    history::{Command, Job, Outcome, ParentClose, StartChild},
    store::Status,
    tools::{AuthMoment, Authorization, BindRequest, Binding, CallOptions, CallOrigin, ToolCall, Tools},
};
use airlock_patience::LIMIT;
use airlock_store::SqliteStore;
use async_trait::async_trait;
use serde_json::{Value, json};

/// Where the child works, and how it goes wrong.
const FOLDER: &str = "AIRLOCK_TEST_CRASH_FOLDER";
const WAY: &str = "AIRLOCK_TEST_CRASH_WAY";

/// How a process ends that does not crash.
const ENDED: i32 = 7;

/// What takes the process down.
const WAYS: &[&str] =
    &["first-turn", "replay", "activity", "deep-activity", "tool", "preflight", "auth", "child", "never"];

/// Ends the process, in one of the ways in which processes crash.
fn crash(way: &str) {
    if way.starts_with("deep") {
        std::hint::black_box(deep(std::hint::black_box(1)));
    }
    std::process::abort();
}

/// Fills the stack.
#[expect(unconditional_recursion, reason = "that is what it is for")]
fn deep(depth: u64) -> u64 {
    let place = std::hint::black_box([depth; 64]);
    deep(depth + 1) + place[(depth % 64) as usize]
}

/// Workflows are called like the ways; `innocent` has an activity.
struct Cast {
    mended: bool,
}

struct Instance {
    workflow: String,
    crashes: bool,
}

#[async_trait]
impl WorkflowInstance for Instance {
    async fn activate(&mut self, activation: Activation<'_>) -> Result<Vec<Command>, GuestError> {
        let mut commands = Vec::new();
        let step = |activity: &str| Command::ScheduleActivity {
            seq: 1,
            activity: activity.into(),
            input: Json::null(),
            options: ActivityOptions::default(),
        };
        for job in activation.jobs {
            match (self.workflow.as_str(), job) {
                ("first-turn", Job::Started) if self.crashes => crash("first-turn"),
                ("replay", Job::Started) if self.crashes && activation.replaying => crash("replay"),
                ("tool", Job::Started) => commands.push(Command::CallTool {
                    seq: 1,
                    slot: "svc".into(),
                    tool: "tool".into(),
                    arguments: Json::null(),
                    options: CallOptions::default(),
                }),
                ("auth", Job::Started) => commands.push(Command::AwaitAuth { seq: 1, slot: "svc".into() }),
                ("child", Job::Started) => {
                    let child = StartChild {
                        workflow: "poisoned-child".into(),
                        execution_id: None,
                        input: Json::null(),
                        close: ParentClose::Terminate,
                        await_start: false,
                        execution_timeout: None,
                        retry: None,
                    };
                    commands.push(Command::StartChild { seq: 1, child: Box::new(child) });
                }
                ("activity" | "deep-activity" | "innocent" | "replay", Job::Started) => {
                    commands.push(step(&self.workflow))
                }
                (_, Job::Started | Job::ActivityResolved { .. } | Job::TimerFired { .. })
                | (_, Job::ToolResolved { .. } | Job::AuthResolved { .. } | Job::ChildResolved { .. }) => {
                    commands.push(Command::Complete { result: Json::null() });
                    break;
                }
                _ => {}
            }
        }
        Ok(commands)
    }

    async fn query(&mut self, _: &str, _: &Json) -> Result<Outcome, GuestError> {
        Ok(Ok(Json::null()))
    }
}

#[async_trait]
impl Guests for Cast {
    fn plugins(&self) -> Vec<PluginStatus> {
        Vec::new()
    }

    fn serving(&self, workflow: &str) -> Option<Digest> {
        // The child's own code is what cannot be looked at.
        Some(Digest([if workflow == "poisoned-child" { 2 } else { 1 }; 32]))
    }

    async fn definition(&self, digest: &Digest) -> Result<Arc<PluginDefinition>, GuestError> {
        if *digest == Digest([2; 32]) && !self.mended {
            crash("child");
        }
        let slot = || Slot { connector: "svc".into(), auto_auth: false, credentials_name: None };
        let workflow = |name: &str| WorkflowDefinition {
            name: name.into(),
            display_name: None,
            description: None,
            input_schema: Json::parse("{}").expect("JSON"),
            output_schema: None,
            on_behalf_of: true,
            execution_timeout: None,
            slots: if ["tool", "preflight", "auth"].contains(&name) { vec![slot()] } else { Vec::new() },
            signals: Vec::new(),
            queries: Vec::new(),
            updates: Vec::new(),
            retry: None,
            search_keys: Vec::new(),
        };
        let mut workflows: Vec<_> = WAYS.iter().map(|way| workflow(way)).collect();
        workflows.extend([workflow("innocent"), workflow("poisoned-child")]);
        Ok(Arc::new(PluginDefinition { workflows, activities: Vec::new() }))
    }

    async fn create(&self, _: &Digest, init: WorkflowInit) -> Result<Box<dyn WorkflowInstance>, GuestError> {
        Ok(Box::new(Instance { workflow: init.workflow, crashes: !self.mended }))
    }

    async fn run_activity(
        &self,
        _: &Digest,
        call: ActivityCall,
        _: Arc<dyn ActivityHost>,
    ) -> Result<Json, ActivityError> {
        match call.activity.as_str() {
            "innocent" => tokio::time::sleep(Duration::from_millis(5)).await,
            // Once, so that the next process has something to repeat. It ends without a crash.
            "replay" if !self.mended => {
                let once = Path::new(&std::env::var_os(FOLDER).expect("a folder")).join("once");
                if std::fs::File::create_new(once).is_ok() {
                    std::process::exit(ENDED);
                }
            }
            way if !self.mended => crash(way),
            _ => {}
        }
        Ok(Json::null())
    }

    fn retain(&self, _: &HashSet<Digest>) {}
}

struct Service {
    way: String,
    mended: bool,
}

impl Service {
    fn at(&self, way: &str) {
        if self.way == way && !self.mended {
            crash(way);
        }
    }
}

#[async_trait]
impl Tools for Service {
    async fn bind(&self, request: BindRequest<'_>) -> Result<Vec<Binding>, Failure> {
        self.at("preflight");
        let binding = |slot: &Slot| Binding {
            slot: slot.connector.clone(),
            auto_auth: false,
            connector_name: slot.connector.clone(),
            connector_id: "1".into(),
            credentials_name: None,
            chosen: false,
            mock: false,
        };
        Ok(request.slots.iter().map(binding).collect())
    }

    async fn authorize(&self, _: &Principal, _: &Binding, _: AuthMoment) -> Result<Authorization, Failure> {
        self.at("auth");
        Ok(Authorization::Ready(Json::null()))
    }

    async fn call_tool(&self, _: ToolCall<'_>) -> Result<Json, Failure> {
        self.at("tool");
        Ok(Json::null())
    }

    async fn list_tools(&self, _: &CallOrigin, _: &Binding) -> Result<Json, Failure> {
        Ok(Json::null())
    }
}

fn request(workflow: &str, id: &str) -> StartRequest {
    let principal = Principal {
        user: UserId::new("ada"),
        workspace: WorkspaceId::new("default"),
        organization: OrganizationId::new("default"),
    };
    StartRequest {
        execution_id: Some(id.parse().expect("an id")),
        // So that the run is on the disk before its code is run.
        delay: Duration::from_millis(1),
        ..StartRequest::new(workflow, Json::from(json!({})), principal)
    }
}

const INNOCENTS: usize = 6;

async fn engine(folder: &Path, way: &str, mended: bool) -> Arc<Engine> {
    let store = SqliteStore::open(folder, &[3; 32]).expect("the store opens");
    airlock_store::crashes::watch(folder).expect("aborts are noted");
    let config = EngineConfig { retry_pause: Duration::from_millis(20), ..EngineConfig::default() };
    let tools = Arc::new(Service { way: way.into(), mended });
    Engine::open(store, Arc::new(Cast { mended }), tools, config).await.expect("the engine opens")
}

/// The child: starts what is not there yet, waits until all has settled, and says how.
#[test]
fn child_process() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let way = std::env::var(WAY).expect("a way");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let engine = engine(Path::new(&folder), &way, false).await;
        for number in 0..INNOCENTS {
            // The poisoned one stands among the others.
            let name = if number == INNOCENTS / 2 { way.as_str() } else { "innocent" };
            let id = format!("run-{number}");
            if engine.get(&id.parse::<ExecutionId>().expect("an id")).expect("reads").is_none() {
                engine.start(request(name, &id)).await.expect("starts");
            }
        }
        let begin = Instant::now();
        loop {
            let view = |number| {
                let id: ExecutionId = format!("run-{number}").parse().expect("an id");
                engine.get(&id).expect("reads").expect("is there")
            };
            let views: Vec<_> = (0..INNOCENTS).map(view).collect();
            if views.iter().all(|view| view.row.status != Status::Running || view.blocked.is_some()) {
                let said = views.iter().map(|view| json!([view.row.workflow, view.row.status, view.blocked]));
                println!("settled {}", Value::from(said.collect::<Vec<_>>()));
                break;
            }
            assert!(begin.elapsed() < LIMIT, "nothing settles: {views:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        engine.shutdown().await;
    });
}

/// Runs the child. What it said when it had settled; nothing if it crashed.
fn child(folder: &Path, way: &str) -> Option<Value> {
    let output = Process::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child_process", "--nocapture", "--test-threads", "1"])
        .env(FOLDER, folder)
        .env(WAY, way)
        .stderr(Stdio::piped())
        .output()
        .expect("the child runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.lines().find_map(|line| line.split_once("settled ").map(|(_, said)| said.to_owned()));
    assert_eq!(said.is_some(), output.status.success(), "{way}: {output:?}");
    said.map(|said| serde_json::from_str(&said).expect("JSON"))
}

#[test]
fn a_step_that_was_running_in_three_crashes_in_a_row_is_held_back_and_all_else_goes_on() {
    for way in WAYS {
        let folder = tempfile::tempdir().expect("a folder");
        let crashes = match *way {
            "never" => 0,
            // One of them is the end by which there is something to repeat.
            "replay" => 4,
            _ => 3,
        };
        let mut crashed = 0;
        let said = loop {
            match child(folder.path(), way) {
                Some(said) => break said,
                None => crashed += 1,
            }
            assert!(crashed <= crashes, "{way}: the daemon does not come up");
        };
        assert_eq!(crashed, crashes, "{way}");
        for run in said.as_array().expect("runs") {
            let blocked = run[2].as_str();
            if run[0] == *way && crashes > 0 {
                assert_eq!(run[1], "RUNNING", "{way}");
                let why = blocked.expect("is blocked");
                for part in ["3 times in a row", "unblock", "log of the daemon"] {
                    assert!(why.contains(part), "{way}: {why}");
                }
                let named = match *way {
                    "activity" | "deep-activity" => format!("activity '{way}'"),
                    "tool" => "tool 'tool' of 'svc'".into(),
                    "auth" => "authorisation for 'svc'".into(),
                    "child" => "child 'poisoned-child'".into(),
                    "preflight" => "preflight".into(),
                    _ => "turn of its workflow".into(),
                };
                assert!(why.contains(&named), "{way}: {why}");
            } else {
                assert_eq!((run[1].as_str(), blocked), (Some("COMPLETED"), None), "{way}: {run}");
            }
        }
        // It stays blocked, and goes on where it was when the cause is gone and somebody says so.
        assert_eq!(child(folder.path(), way), Some(said), "{way}");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let engine = engine(folder.path(), way, true).await;
            let id: ExecutionId = format!("run-{}", INNOCENTS / 2).parse().expect("an id");
            if crashes > 0 {
                engine.unblock(&id).await.expect("is unblocked");
            }
            let view = engine.wait(&id, Some(LIMIT)).await.expect("reads").expect("is there");
            assert_eq!(view.row.status, Status::Completed, "{way}: {:?} {:?}", view.failure, view.blocked);
            engine.shutdown().await;
        });
    }
}
