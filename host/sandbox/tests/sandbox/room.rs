//! A sandbox in folders of its own, and a host that answers as it is told.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use airlock_engine::{
    Digest, Failure, Json, RunId,
    guests::{
        Activation, ActivityCall, ActivityError, ActivityHost, Guests, PluginState, PluginStatus,
        WorkflowInit,
    },
    history::{HistorySize, Job, TaskEvent},
    tools::CallOptions,
};
use airlock_patience::LIMIT;
use airlock_sandbox::{Limits, PoolSize, Sandbox, SandboxConfig};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Notify;

/// Folders for a sandbox.
pub struct Room {
    folder: TempDir,
}

impl Room {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("plugins")).unwrap();
        Self { folder }
    }

    pub fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Puts a file into the plugin folder.
    pub fn put(&self, file: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.plugins().join(file), contents).unwrap();
    }

    /// The settings for this room, with a small pool.
    pub fn config(&self) -> SandboxConfig {
        let mut config = SandboxConfig::new(self.plugins(), self.data());
        config.pool =
            PoolSize { workflow_instances: 4, running_activities: 4, warm_slots: 4, ..PoolSize::default() };
        config.retain_grace = Duration::ZERO;
        config
    }

    pub async fn open(&self) -> Arc<Sandbox> {
        open(self.config()).await
    }

    pub async fn open_with(&self, change: impl FnOnce(&mut Limits)) -> Arc<Sandbox> {
        let mut config = self.config();
        change(&mut config.limits);
        open(config).await
    }
}

/// A sandbox that has judged every file.
pub async fn open(config: SandboxConfig) -> Arc<Sandbox> {
    let sandbox = Sandbox::open(config).await.unwrap();
    assert!(sandbox.settled(LIMIT).await, "files are still being judged");
    sandbox
}

/// A sandbox with the hostile guest, and its digest.
pub async fn hostile() -> (Room, Arc<Sandbox>, Digest) {
    let room = Room::new();
    room.put("hostile.wasm", crate::guests::hostile());
    let sandbox = room.open().await;
    let digest = digest_of(&sandbox, "hostile");
    (room, sandbox, digest)
}

/// The digest of a plugin that is ready.
pub fn digest_of(sandbox: &Sandbox, name: &str) -> Digest {
    let status = status(sandbox, name).unwrap();
    assert!(matches!(status.state, PluginState::Ready { .. }), "{status:?}");
    status.digest
}

pub fn status(sandbox: &Sandbox, name: &str) -> Option<PluginStatus> {
    sandbox.plugins().into_iter().find(|status| status.name == name)
}

/// The error of a plugin that was rejected.
pub fn rejection(sandbox: &Sandbox, name: &str) -> Option<String> {
    match status(sandbox, name)?.state {
        PluginState::Rejected { error } => Some(error),
        PluginState::Ready { .. } | PluginState::Loading => None,
    }
}

/// Waits for something to happen.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LIMIT, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for: {what}");
}

pub fn call(activity: &str, input: &str) -> ActivityCall {
    ActivityCall {
        activity: activity.into(),
        input: Json::parse(input).unwrap(),
        execution_id: "execution".parse().unwrap(),
        workflow: "workflow".into(),
        holder: "user".into(),
        idempotency_key: "key".into(),
        attempt: 1,
        heartbeat_details: None,
    }
}

pub fn init(workflow: &str) -> WorkflowInit {
    WorkflowInit {
        workflow: workflow.into(),
        execution_id: "execution".parse().unwrap(),
        run_id: RunId::generate(),
        input: Json::parse("[1]").unwrap(),
        holder: "user".into(),
        seed: 7,
        started_at_ms: 1_000_000,
        parent: None,
        attempt: 1,
    }
}

/// Runs an activity with a host that knows nothing.
pub async fn run(
    sandbox: &Sandbox,
    digest: &Digest,
    activity: &str,
    input: &str,
) -> Result<Json, ActivityError> {
    sandbox.run_activity(digest, call(activity, input), Arc::new(Host::default())).await
}

/// The message of a run that must fail.
pub async fn run_wrong(sandbox: &Sandbox, digest: &Digest, activity: &str) -> String {
    run(sandbox, digest, activity, "null").await.unwrap_err().to_string()
}

/// A host that answers tool calls with their arguments.
#[derive(Default)]
pub struct Host {
    pub events: Mutex<Vec<TaskEvent>>,
    /// Of the tool calls.
    pub options: Mutex<Vec<CallOptions>>,
    pub heartbeats: AtomicU32,
    pub calls: AtomicU32,
    /// Tool calls that have started and not ended.
    pub open_calls: Arc<AtomicU32>,
    /// Tool calls are answered when this many are open.
    pub answer_at: u32,
    pub cancelled: AtomicBool,
    pub cancel: Notify,
}

struct Open(Arc<AtomicU32>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl ActivityHost for Host {
    async fn call_tool(
        &self,
        slot: &str,
        tool: &str,
        arguments: Json,
        options: CallOptions,
    ) -> Result<Json, Failure> {
        self.options.lock().push(options);
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.open_calls.fetch_add(1, Ordering::SeqCst);
        let _open = Open(self.open_calls.clone());
        while self.calls.load(Ordering::SeqCst) < self.answer_at {
            tokio::task::yield_now().await;
        }
        Ok(Json::parse(format!(
            "{{\"slot\":{slot:?},\"tool\":{tool:?},\"arguments\":{}}}",
            arguments.as_str()
        ))
        .unwrap())
    }

    async fn list_tools(&self, _: &str) -> Result<Json, Failure> {
        self.open_calls.fetch_add(1, Ordering::SeqCst);
        let _open = Open(self.open_calls.clone());
        std::future::pending().await
    }

    async fn await_auth(&self, slot: &str) -> Result<Json, Failure> {
        Err(Failure::permanent(Failure::CONNECTOR_AUTH_TIMEOUT, format!("nobody authorised {slot}")))
    }

    fn emit_event(&self, event: TaskEvent) -> Result<(), Failure> {
        self.events.lock().push(event);
        Ok(())
    }

    fn heartbeat(&self, _: Option<Json>) {
        self.heartbeats.fetch_add(1, Ordering::SeqCst);
        self.cancel.notify_one();
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    async fn cancelled(&self) {
        self.cancel.notified().await;
        self.cancelled.store(true, Ordering::SeqCst);
    }
}

/// A turn that happens for the first time, or is repeated.
pub fn turn(now_ms: u64, replaying: bool, jobs: &[Job]) -> Activation<'_> {
    Activation { now_ms, replaying, jobs, patches: &[], history: HistorySize::default() }
}
