//! Two users and one execution id. Whatever a user does with an id that another one is using, and whenever: the other's run
//! is not given, not signalled and not ended.
//!
//! Interleavings are generated: between any two looks that the engine takes at the store for one user's request, the other
//! user does something to the end.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use airlock_engine::{
    Digest, Engine, EngineConfig, ExecutionId, ExecutionKey, Failure, Handler, Json, OrganizationId,
    PluginDefinition, Principal, RunId, UserId, WorkflowDefinition, WorkspaceId,
    engine::{IdConflict, IdReuse, Reach, ResetRequest, StartRequest, WaitFor},
    guests::{
        Activation, ActivityCall, ActivityError, ActivityHost, GuestError, Guests, PluginStatus,
        WorkflowInit, WorkflowInstance,
    },
    history::{Command, Job, Message, Outcome, StoredRecord, UnixMs},
    store::{
        Append, Appended, Child, Commits, ExecutionRow, ListFilter, Merge, Page, Place, Runs, Scope, Status,
        Store, StoreError, Upto, Wake,
    },
    tools::{AuthMoment, Authorization, BindRequest, Binding, CallOrigin, ToolCall, Tools},
};
use airlock_store::SqliteStore;
use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;

/// `wait` waits until it is poked with an end; `quick` completes at once.
struct Cast;

struct Instance(String);

#[async_trait]
impl WorkflowInstance for Instance {
    async fn activate(&mut self, activation: Activation<'_>) -> Result<Vec<Command>, GuestError> {
        let mut commands = Vec::new();
        for job in activation.jobs {
            match job {
                Job::Started if self.0 == "quick" => {
                    commands.push(Command::Complete { result: Json::from(json!("quick")) });
                    return Ok(commands);
                }
                Job::CancelRequested { .. } => return Ok(vec![Command::Cancelled]),
                Job::Update { id, .. } => {
                    commands.push(Command::UpdateAccepted { id: id.clone() });
                    commands.push(Command::UpdateCompleted { id: id.clone(), outcome: Ok(Json::null()) });
                }
                _ => {}
            }
        }
        Ok(commands)
    }

    async fn query(&mut self, _: &str, _: &Json) -> Result<Outcome, GuestError> {
        Ok(Ok(Json::from(json!("state"))))
    }
}

#[async_trait]
impl Guests for Cast {
    fn plugins(&self) -> Vec<PluginStatus> {
        Vec::new()
    }

    fn serving(&self, workflow: &str) -> Option<Digest> {
        ["wait", "quick"].contains(&workflow).then_some(Digest([1; 32]))
    }

    async fn definition(&self, _: &Digest) -> Result<Arc<PluginDefinition>, GuestError> {
        let any = || Json::parse("{}").expect("JSON");
        let handler = || {
            vec![Handler { name: "poke".into(), description: None, input_schema: any(), output_schema: None }]
        };
        let workflow = |name: &str| WorkflowDefinition {
            name: name.into(),
            display_name: None,
            description: None,
            input_schema: any(),
            output_schema: None,
            on_behalf_of: true,
            execution_timeout: None,
            slots: Vec::new(),
            signals: handler(),
            queries: handler(),
            updates: handler(),
            retry: None,
            search_keys: Vec::new(),
        };
        Ok(Arc::new(PluginDefinition {
            workflows: vec![workflow("wait"), workflow("quick")],
            activities: Vec::new(),
        }))
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

struct NoTools;

#[async_trait]
impl Tools for NoTools {
    async fn bind(&self, _: BindRequest<'_>) -> Result<Vec<Binding>, Failure> {
        Ok(Vec::new())
    }

    async fn authorize(&self, _: &Principal, _: &Binding, _: AuthMoment) -> Result<Authorization, Failure> {
        Ok(Authorization::Ready(Json::null()))
    }

    async fn call_tool(&self, _: ToolCall<'_>) -> Result<Json, Failure> {
        Ok(Json::null())
    }

    async fn list_tools(&self, _: &CallOrigin, _: &Binding) -> Result<Json, Failure> {
        Ok(Json::null())
    }
}

type Deed = Box<dyn FnOnce() + Send>;

/// A store at whose n-th look somebody else does something.
struct Watched {
    inner: Arc<SqliteStore>,
    /// Only looks of the request that is watched count.
    watching: AtomicBool,
    looks: AtomicUsize,
    deed: Mutex<Option<(usize, Deed)>>,
}

impl Watched {
    fn look(&self) {
        if !self.watching.load(Ordering::SeqCst) {
            return;
        }
        let look = self.looks.fetch_add(1, Ordering::SeqCst);
        let deed = {
            let mut deed = self.deed.lock();
            if deed.as_ref().is_some_and(|(at, _)| *at == look) { deed.take() } else { None }
        };
        if let Some((_, deed)) = deed {
            self.watching.store(false, Ordering::SeqCst);
            tokio::task::block_in_place(deed);
            self.watching.store(true, Ordering::SeqCst);
        }
    }
}

impl Store for Watched {
    fn allocate(&self) -> ExecutionKey {
        self.look();
        self.inner.allocate()
    }
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, StoreError>> {
        self.look();
        self.inner.append(append)
    }
    fn find(&self, id: &ExecutionId) -> Result<Option<ExecutionRow>, StoreError> {
        // Before and after: what was found may not be so any more.
        self.look();
        let found = self.inner.find(id);
        self.look();
        found
    }
    fn find_run(&self, run: &RunId) -> Result<Option<ExecutionRow>, StoreError> {
        self.inner.find_run(run)
    }
    fn row(&self, key: ExecutionKey) -> Result<Option<ExecutionRow>, StoreError> {
        self.look();
        self.inner.row(key)
    }
    fn history(&self, key: ExecutionKey, from: u32, limit: usize) -> Result<Vec<StoredRecord>, StoreError> {
        self.inner.history(key, from, limit)
    }
    fn last_records(&self, key: ExecutionKey, limit: usize) -> Result<Vec<StoredRecord>, StoreError> {
        self.inner.last_records(key, limit)
    }
    fn sizes(&self, key: ExecutionKey, from: u32, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.inner.sizes(key, from, limit)
    }
    fn last_sizes(&self, key: ExecutionKey, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.inner.last_sizes(key, limit)
    }
    fn open_executions(&self) -> Result<Vec<(ExecutionKey, Wake)>, StoreError> {
        self.inner.open_executions()
    }
    fn open_children(&self, parent: &ExecutionId) -> Result<Vec<Child>, StoreError> {
        self.inner.open_children(parent)
    }
    fn orphans(&self) -> Result<Vec<Child>, StoreError> {
        self.inner.orphans()
    }
    fn pinned(&self) -> Result<HashSet<Digest>, StoreError> {
        self.inner.pinned()
    }
    fn search_keys(&self, key: ExecutionKey) -> Result<Vec<(String, Option<String>)>, StoreError> {
        self.inner.search_keys(key)
    }
    fn list(&self, filter: &ListFilter) -> Result<Vec<ExecutionRow>, StoreError> {
        self.inner.list(filter)
    }
    fn seek(&self, runs: Runs<'_>, from: u64) -> Result<Merge, StoreError> {
        self.inner.seek(runs, from)
    }
    fn merged(&self, merge: &mut Merge, upto: Upto) -> Result<Page, StoreError> {
        self.inner.merged(merge, upto)
    }
    fn records(&self, places: &[Place]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        self.inner.records(places)
    }
    fn open_runs(&self, scope: &Scope) -> Result<Vec<ExecutionKey>, StoreError> {
        self.inner.open_runs(scope)
    }
    fn listen(&self, commits: Arc<dyn Commits>) -> u64 {
        self.inner.listen(commits)
    }
    fn purge(&self, before: UnixMs, limit: usize) -> BoxFuture<'static, Result<usize, StoreError>> {
        self.inner.purge(before, limit)
    }
}

fn user(name: &str) -> Principal {
    Principal {
        user: UserId::new(name),
        workspace: WorkspaceId::new("default"),
        organization: OrganizationId::new("default"),
    }
}

fn start(who: &str, workflow: &str, id: &ExecutionId) -> StartRequest {
    StartRequest {
        execution_id: Some(id.clone()),
        ..StartRequest::new(workflow, Json::from(json!({})), user(who))
    }
}

fn poke() -> Message {
    Message { name: "poke".into(), input: Json::from(json!({ "by": "mallory" })), sender: "mallory".into() }
}

/// What mallory does with the id.
#[derive(Debug, Clone, Copy)]
enum Attack {
    Start(IdConflict, IdReuse, &'static str),
    SignalWithStart(IdReuse),
    /// With what she has seen of a run of her own that had the id.
    Terminate,
    Cancel,
    Signal,
    Query,
    Update,
    Reset,
    Wait,
}

fn attacks() -> Vec<Attack> {
    let reuses = [IdReuse::RejectDuplicate, IdReuse::AllowDuplicateFailedOnly, IdReuse::AllowDuplicate];
    let conflicts = [IdConflict::Fail, IdConflict::UseExisting, IdConflict::TerminateExisting];
    let mut all = Vec::new();
    for reuse in reuses {
        for conflict in conflicts {
            for workflow in ["wait", "quick"] {
                all.push(Attack::Start(conflict, reuse, workflow));
            }
        }
        all.push(Attack::SignalWithStart(reuse));
    }
    use Attack::{Cancel, Query, Reset, Signal, Terminate, Update, Wait};
    all.extend([Terminate, Cancel, Signal, Query, Update, Reset, Wait]);
    all
}

/// After every end.
const FAR: UnixMs = 10_000_000_000_000;

/// What the victim does at one moment of it. Their runs are theirs whether they wait or have ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Deeds {
    Start,
    StartQuick,
    /// Takes over the id of a run of mallory's that is removed for its age.
    Inherit,
}

async fn attack(engine: &Arc<Engine>, id: &ExecutionId, attack: Attack) -> Option<String> {
    let mallory = user("mallory");
    let own = || engine.get(id).ok().flatten().map(|view| view.row).filter(|row| row.principal == mallory);
    // Whose run she was given.
    let given = |row: &ExecutionRow| (row.principal != mallory).then(|| format!("was given {row:?}"));
    match attack {
        Attack::Start(conflict, reuse, workflow) => {
            let request = StartRequest { conflict, reuse, ..start("mallory", workflow, id) };
            return given(&engine.start(request).await.ok()?.row);
        }
        Attack::SignalWithStart(reuse) => {
            let request = StartRequest { reuse, ..start("mallory", "wait", id) };
            return given(&engine.signal_with_start(request, None, poke()).await.ok()?.row);
        }
        Attack::Terminate => drop(engine.terminate(&own()?, "mallory".into()).await),
        Attack::Cancel => drop(engine.cancel(&own()?, "mallory".into()).await),
        Attack::Signal => drop(engine.signal(&own()?, None, poke()).await),
        Attack::Query => drop(engine.query(&own()?, poke()).await),
        Attack::Update => {
            let limit = Some(Duration::from_secs(5));
            drop(engine.update(&own()?, None, poke(), WaitFor::Completed, limit).await);
        }
        Attack::Reset => {
            let request = ResetRequest {
                event: 1,
                reason: "mallory".into(),
                exclude_signals: false,
                exclude_updates: false,
                digest: None,
            };
            drop(engine.reset(&own()?, request).await);
        }
        Attack::Wait => {
            let view = engine.wait(&own()?, Some(Duration::from_millis(1))).await.ok()??;
            return given(&view.row);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a10_a_stranger_neither_reads_nor_signals_nor_ends_a_run_at_whatever_moment_it_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = SqliteStore::open(folder.path(), &[3; 32]).expect("the store opens");
    let store = Arc::new(Watched {
        inner,
        watching: AtomicBool::new(false),
        looks: AtomicUsize::new(0),
        deed: Mutex::new(None),
    });
    let config = EngineConfig { retry_pause: Duration::from_millis(5), ..EngineConfig::default() };
    let engine = Engine::open(Arc::clone(&store) as _, Arc::new(Cast), Arc::new(NoTools), config);
    let engine = engine.await.expect("opens");
    let mut number = 0;
    let mut met = 0;
    for attack_ in attacks() {
        for deeds in [Deeds::Start, Deeds::StartQuick, Deeds::Inherit] {
            // Who asks for the id of one that has ended.
            let wants_ended = match attack_ {
                Attack::Start(_, reuse, _) | Attack::SignalWithStart(reuse) => {
                    reuse != IdReuse::RejectDuplicate
                }
                _ => false,
            };
            if deeds == Deeds::StartQuick && !wants_ended {
                continue;
            }
            // A moment after the last look is the same as none.
            for moment in 0..64 {
                number += 1;
                let id: ExecutionId = format!("order-{number}").parse().expect("an id");
                let own_first = deeds == Deeds::Inherit
                    || !matches!(attack_, Attack::Start(..) | Attack::SignalWithStart(_));
                if own_first {
                    let workflow = if deeds == Deeds::Inherit { "quick" } else { "wait" };
                    engine.start(start("mallory", workflow, &id)).await.expect("starts");
                }
                let deed: Deed = {
                    let (engine, id, runtime) =
                        (Arc::clone(&engine), id.clone(), tokio::runtime::Handle::current());
                    let inner = Arc::clone(&store.inner);
                    Box::new(move || {
                        runtime.block_on(async move {
                            if deeds == Deeds::Inherit {
                                inner.purge(FAR, 100_000).await.expect("purges");
                            }
                            let workflow = if deeds == Deeds::StartQuick { "quick" } else { "wait" };
                            // Mallory may be first.
                            let _ = engine.start(start("victim", workflow, &id)).await;
                        });
                    })
                };
                *store.deed.lock() = Some((moment, deed));
                store.looks.store(0, Ordering::SeqCst);
                store.watching.store(true, Ordering::SeqCst);
                let leak = attack(&engine, &id, attack_).await;
                store.watching.store(false, Ordering::SeqCst);
                let done = store.deed.lock().take().is_none();
                let what = format!("{attack_:?} with {deeds:?} at look {moment}");
                assert_eq!(leak, None, "{what}");
                let runs =
                    engine.list(&ListFilter { id: Some(id.clone()), limit: 100, ..ListFilter::default() });
                for row in runs.expect("lists").into_iter().filter(|row| row.principal == user("victim")) {
                    met += 1;
                    let unharmed = match row.workflow.as_str() {
                        "wait" => Status::Running,
                        _ => Status::Completed,
                    };
                    assert_eq!(row.status, unharmed, "{what}");
                    let current = engine.get(&id).expect("reads").expect("is there").row;
                    assert_eq!(current.run_id, row.run_id, "{what}: the id was taken away");
                    let history = format!("{:?}", engine.history(row.key, 0, 100).expect("reads"));
                    assert!(!history.contains("mallory"), "{what}: {history}");
                }
                if let Ok(Some(view)) = engine.get(&id) {
                    let _ = engine.terminate(&view.row, "the test goes on".into()).await;
                }
                if !done {
                    break;
                }
            }
        }
    }
    assert!(met > 150, "the victim came in between {met} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a10_an_owner_reaches_what_a_member_started_and_a_user_what_is_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path(), &[3; 32]).expect("the store opens");
    let config = EngineConfig::default();
    let engine = Engine::open(store, Arc::new(Cast), Arc::new(NoTools), config).await.expect("opens");
    let id: ExecutionId = "shared".parse().expect("an id");
    let first = engine.start(start("ada", "wait", &id)).await.expect("starts");
    let again = StartRequest { conflict: IdConflict::UseExisting, ..start("ada", "wait", &id) };
    assert_eq!(engine.start(again.clone()).await.expect("is given").row.run_id, first.row.run_id);
    let other = StartRequest { principal: user("bob"), ..again.clone() };
    assert!(engine.start(other.clone()).await.is_err());
    let owner = StartRequest { reach: Reach::Workspace, ..other };
    assert_eq!(engine.start(owner.clone()).await.expect("is given").row.run_id, first.row.run_id);
    let elsewhere = Principal { workspace: WorkspaceId::new("other"), ..user("bob") };
    assert!(engine.start(StartRequest { principal: elsewhere, ..owner.clone() }).await.is_err());
    let replacing = StartRequest { conflict: IdConflict::TerminateExisting, ..owner };
    let next = engine.start(replacing).await.expect("takes its place");
    assert_eq!(next.row.principal, user("bob"));
    // What was seen of the run before reaches the one that has its id now no more.
    assert!(engine.terminate(&first.row, "late".into()).await.is_err());
    assert!(engine.query(&first.row, poke()).await.is_err());
    assert_eq!(engine.get(&id).expect("reads").expect("is there").row.status, Status::Running);
}
