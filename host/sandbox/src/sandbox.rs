//! The sandbox as the engine sees it.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use airlock_engine::{
    Digest, Failure, Json, PluginDefinition,
    guests::{
        ActivityCall, ActivityError, ActivityHost, GuestError, Guests, PluginState, PluginStatus, Relief,
        WorkflowInit, WorkflowInstance,
    },
};
use arc_swap::ArcSwap;
use async_recursion::async_recursion as boxed;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    task::AbortHandle,
};

use crate::{
    activity::{self, Attempt},
    config::{PoolSize, SandboxConfig},
    error::SandboxError,
    folder::{self, Folder, Served},
    library::Library,
    limits::machine,
    plugin::Plugin,
    policy::Policy,
    runtime::Runtime,
    workflow,
};

/// How long somebody who misses a workflow waits for plugins that are being loaded.
const MISSING: Duration = Duration::from_secs(10);

/// What a machine has that does not say it.
const UNKNOWN_MEMORY: u64 = 2 << 30;

/// Runs the plugins of a folder.
pub struct Sandbox {
    runtime: Arc<Runtime>,
    library: Arc<Library>,
    pool: PoolSize,
    retain_grace: Duration,
    folder: tokio::sync::Mutex<Folder>,
    served: ArcSwap<Served>,
    /// When code stopped serving.
    retired: Mutex<HashMap<Digest, Instant>>,
    no_policy: Arc<Policy>,
    workflow_slots: Arc<Semaphore>,
    activity_slots: Semaphore,
    /// Files of the folder have not been judged.
    busy: watch::Sender<bool>,
    /// What is needed, as it was said before all files were judged: what they hold is not known before.
    kept_until_settled: Mutex<Option<HashSet<Digest>>>,
    watcher: Mutex<Option<AbortHandle>>,
}

/// Figures for the status page and for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct SandboxStats {
    /// Workflow instances in memory.
    pub workflow_instances: usize,
    /// Activities that run now.
    pub running_activities: usize,
    /// Components that are loaded.
    pub components: usize,
    /// Components that were compiled since the start; those whose compiled code lay on disk are not among them.
    pub compiles: u64,
    /// Whether instances come from a pool. If not, there was no address space for it.
    pub pooled: bool,
    /// Bytes of memories and tables that all guests hold now.
    pub guest_memory: u64,
    /// Bytes that they may hold together.
    pub guest_memory_limit: u64,
    /// How often a guest was refused memory because others held it.
    pub guest_memory_refused: u64,
    /// Bytes that workflows gave back by being dropped from memory, because others needed them.
    pub guest_memory_relieved: u64,
    /// Whether files of the plugin folder have not been judged as they are now.
    pub loading: bool,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Looks into the plugin folder and goes on watching it. Its files are loaded in the background: [`Sandbox::settled`]
    /// waits for that. What cannot be loaded is found in [`Guests::plugins`].
    ///
    /// Needs a tokio runtime, on which the watcher runs until the sandbox is dropped.
    #[boxed]
    pub async fn open(config: SandboxConfig) -> Result<Arc<Self>, SandboxError> {
        let SandboxConfig {
            plugin_dir,
            data_dir,
            pool,
            limits,
            guest_memory_bytes,
            compiling,
            rescan_interval,
            settle_time,
            retain_grace,
        } = config;
        let in_plugins = |source| SandboxError::PluginDir { path: plugin_dir.clone(), source };
        fs::create_dir_all(&plugin_dir).map_err(in_plugins)?;
        let guest_memory = guest_memory_bytes.unwrap_or_else(default_guest_memory);
        tracing::info!(megabytes = guest_memory >> 20, "memory for all guests together");
        let runtime = Arc::new(Runtime::new(&pool, &limits, guest_memory)?);
        let library = Library::open(runtime.clone(), &data_dir, &compiling)
            .map_err(|source| SandboxError::DataDir { path: data_dir.clone(), source })?;
        let folder = Folder::new(plugin_dir.clone(), settle_time, runtime.limits().clone());
        let news = folder.news().clone();
        let sandbox = Arc::new(Self {
            workflow_slots: Arc::new(Semaphore::new(pool.workflow_instances as usize)),
            activity_slots: Semaphore::new(pool.running_activities as usize),
            runtime,
            library,
            pool,
            retain_grace,
            folder: folder.into(),
            served: ArcSwap::default(),
            retired: Mutex::default(),
            no_policy: Arc::new(Policy::none(&limits)),
            busy: watch::Sender::new(true),
            kept_until_settled: Mutex::default(),
            watcher: Mutex::default(),
        });
        let again = sandbox.rescan().await.map_err(in_plugins)?;
        let watched = Arc::downgrade(&sandbox);
        let look = move || {
            let watched = watched.clone();
            async move { Some(watched.upgrade()?.rescan().await) }
        };
        let watching = folder::watch(look, plugin_dir, rescan_interval, again, news);
        *sandbox.watcher.lock() = Some(tokio::spawn(watching).abort_handle());
        Ok(sandbox)
    }

    /// Looks through the folder now. Says when to look again if a file is still being written.
    pub(crate) async fn rescan(&self) -> io::Result<Option<Duration>> {
        let mut folder = self.folder.lock().await;
        let scanned = folder.scan(&self.library).await?;
        if scanned.changed {
            let picture = Arc::new(folder.picture());
            let before = self.served.swap(picture.clone());
            let mut retired = self.retired.lock();
            retired.retain(|digest, since| {
                !picture.digests.contains(digest) && since.elapsed() < self.retain_grace
            });
            retired
                .extend(before.digests.difference(&picture.digests).map(|digest| (*digest, Instant::now())));
        }
        let busy = folder.is_busy();
        drop(folder);
        let was_busy = self.busy.send_replace(busy);
        let needed = if was_busy && !busy { self.kept_until_settled.lock().take() } else { None };
        if let Some(needed) = needed {
            self.tidy(&needed);
        }
        Ok(scanned.again)
    }

    /// Waits until every file that is in the folder has been judged, or until `limit` has passed. Whether it has.
    #[boxed]
    pub async fn settled(&self, limit: Duration) -> bool {
        let mut busy = self.busy.subscribe();
        let settled = busy.wait_for(|busy| !busy);
        // The sender is ours.
        tokio::time::timeout(limit, settled).await.is_ok()
    }

    fn tidy(&self, needed: &HashSet<Digest>) {
        let served = self.served.load_full();
        let retired = self.retired.lock().clone();
        let recent =
            |digest: &Digest| retired.get(digest).is_some_and(|since| since.elapsed() < self.retain_grace);
        let wanted =
            |digest: &Digest| needed.contains(digest) || served.digests.contains(digest) || recent(digest);
        if let Err(error) = self.library.retain(wanted) {
            tracing::warn!(%error, "code that is not needed any more cannot be removed from the data folder");
        }
    }

    /// Figures of this moment.
    pub fn stats(&self) -> SandboxStats {
        let memory = self.runtime.budget().figures();
        SandboxStats {
            guest_memory: memory.held,
            guest_memory_limit: memory.limit,
            guest_memory_refused: memory.refused,
            guest_memory_relieved: memory.relieved,
            loading: *self.busy.borrow(),
            workflow_instances: self.pool.workflow_instances as usize
                - self.workflow_slots.available_permits(),
            running_activities: self.pool.running_activities as usize
                - self.activity_slots.available_permits(),
            components: self.library.len(),
            compiles: self.library.compiles(),
            pooled: self.runtime.is_pooled(),
        }
    }

    fn policy(&self, plugin: &Plugin) -> Result<Arc<Policy>, GuestError> {
        let served = self.served.load();
        if served.policies.is_empty() && served.broken_policies.is_empty() {
            return Ok(self.no_policy.clone());
        }
        let name = plugin.name();
        match (served.policies.get(&name), served.broken_policies.get(&name)) {
            (Some(policy), _) => Ok(policy.clone()),
            (None, Some(reason)) => Err(GuestError::Host(reason.clone())),
            (None, None) => Ok(self.no_policy.clone()),
        }
    }
}

/// Half of what there is: the rest is for the daemon, its database, compiled code, and whatever else runs here.
fn default_guest_memory() -> u64 {
    machine::memory().unwrap_or(UNKNOWN_MEMORY) / 2
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.lock().take() {
            watcher.abort();
        }
    }
}

#[async_trait]
impl Guests for Sandbox {
    fn plugins(&self) -> Vec<PluginStatus> {
        self.served.load().statuses.clone()
    }

    fn serving(&self, workflow: &str) -> Option<Digest> {
        self.served.load().workflows.get(workflow).copied()
    }

    async fn loaded(&self) {
        let is_new = |status: &PluginStatus| matches!(status.state, PluginState::Loading);
        if self.served.load().statuses.iter().any(is_new) {
            self.settled(MISSING).await;
        }
    }

    async fn definition(&self, digest: &Digest) -> Result<Arc<PluginDefinition>, GuestError> {
        Ok(self.library.pinned(digest).await?.definition().clone())
    }

    async fn create(
        &self,
        digest: &Digest,
        init: WorkflowInit,
    ) -> Result<Box<dyn WorkflowInstance>, GuestError> {
        let plugin = self.library.pinned(digest).await?;
        let memory_bytes = self.policy(&plugin)?.memory_bytes;
        if plugin.definition().workflow(&init.workflow).is_none() {
            let (name, workflow) = (plugin.name(), init.workflow);
            return Err(GuestError::Invalid(format!(
                "the plugin {name:?} has no workflow {workflow:?} in this version"
            )));
        }
        let Ok(slot) = self.workflow_slots.clone().try_acquire_owned() else {
            let limit = self.pool.workflow_instances;
            return Err(GuestError::Host(format!(
                "{limit} workflow instances are in memory, which is the limit: drop some, or configure a larger pool"
            )));
        };
        workflow::create(self.runtime.clone(), &plugin, memory_bytes, init, slot).await
    }

    async fn run_activity(
        &self,
        digest: &Digest,
        call: ActivityCall,
        host: Arc<dyn ActivityHost>,
    ) -> Result<Json, ActivityError> {
        let plugin = self.library.pinned(digest).await?;
        let policy = self.policy(&plugin)?;
        if plugin.definition().activity(&call.activity).is_none() {
            let (name, activity) = (plugin.name(), call.activity);
            let message = format!(
                "the plugin {name:?} has no activity {activity:?}: a workflow runs activities of its own plugin, by their registered names"
            );
            return Err(ActivityError::Failed(Failure::permanent(Failure::INVALID_INPUT, message)));
        }
        // The semaphore is never closed, so there is always a slot in the end.
        let _slot = self.activity_slots.acquire().await;
        activity::run(&self.runtime, &plugin, Attempt { call, host, policy }).await
    }

    fn relieved_by(&self, relief: Weak<dyn Relief>) {
        self.runtime.budget().relieved_by(relief);
    }

    fn retain(&self, needed: &HashSet<Digest>) {
        if *self.busy.borrow() {
            *self.kept_until_settled.lock() = Some(needed.clone());
        } else {
            self.tidy(needed);
        }
    }
}
