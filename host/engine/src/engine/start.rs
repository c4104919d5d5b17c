//! The birth of an execution: what is checked before, and the first turn.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use airlock_schemas::{Checked, Dialect, Difference, Outcome, Refused, Schemas, Undecided};
use async_recursion::async_recursion as boxed;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    Engine, ExecutionView,
    address::{Address, Claim, Origin, Reach},
    cell::{Cell, Live, Message as ToDriver},
    messages::{Kind, MessageError},
    now_ms,
    turn::{self, Newborn},
};
use crate::{
    Digest, ExecutionId, Json, OrganizationId, PluginDefinition, Principal, RetryPolicy, RunId, UserId,
    WorkflowDefinition, WorkspaceId,
    guests::GuestError,
    history::{Message, Parent, Started},
    json,
    machine::{Input, Machine},
    store::{ExecutionRow, Start, Status, StoreError, Wake},
    tools::{BindingWish, Mocks},
};

/// What a caller wants to run. Build it with [`StartRequest::new`].
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// Name of the workflow.
    pub workflow: String,
    /// An id of the caller's choice.
    pub execution_id: Option<ExecutionId>,
    /// The input; `null` stands for an empty object.
    pub input: Json,
    /// On whose behalf.
    pub principal: Principal,
    /// Credentials for the slots.
    pub wishes: Vec<BindingWish>,
    /// Which connectors answer from mocks, in this execution and in those that it starts. Default: none.
    pub mocks: Mocks,
    /// What to do when an execution with this id has ended. Default: refuse.
    pub reuse: IdReuse,
    /// What to do when an execution with this id is running. Default: refuse.
    pub conflict: IdConflict,
    /// Nothing happens for so long. Default: no time.
    pub delay: Duration,
    /// Instead of the definition's.
    pub execution_timeout: Option<Duration>,
    /// Instead of the definition's.
    pub retry: Option<RetryPolicy>,
    /// The schedule that starts it.
    pub schedule: Option<String>,
    /// Whose executions it may meet under its id. Default: only those of its own user.
    pub reach: Reach,
}

impl StartRequest {
    /// A start with nothing special about it.
    pub fn new(workflow: impl Into<String>, input: Json, principal: Principal) -> Self {
        Self {
            workflow: workflow.into(),
            execution_id: None,
            input,
            principal,
            wishes: Vec::new(),
            mocks: Mocks::None,
            reuse: IdReuse::default(),
            conflict: IdConflict::default(),
            delay: Duration::ZERO,
            execution_timeout: None,
            retry: None,
            schedule: None,
            reach: Reach::default(),
        }
    }

    /// Who wants the id.
    fn claim(&self) -> Claim<'_> {
        let origin = Origin::new(None, self.schedule.as_deref());
        Claim { who: &self.principal, reach: self.reach, origin }
    }

    /// The birth that it asks for.
    fn birth(&self) -> Birth {
        Birth {
            workflow: self.workflow.clone(),
            execution_id: self.execution_id.clone(),
            input: self.input.clone(),
            principal: self.principal.clone(),
            wishes: self.wishes.clone(),
            mocks: self.mocks.clone(),
            schedule: self.schedule.clone(),
            delay: self.delay,
            execution_timeout: self.execution_timeout,
            retry: self.retry.clone(),
            reuse: self.reuse,
            reach: self.reach,
            ..Birth::default()
        }
    }
}

/// Whether the id of an execution that has ended can be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdReuse {
    /// Never: a start that is sent twice runs once.
    #[default]
    RejectDuplicate,
    /// Only if the execution did not complete.
    AllowDuplicateFailedOnly,
    /// Always.
    AllowDuplicate,
}

/// What a start does when its id belongs to a running execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdConflict {
    /// It is refused.
    #[default]
    Fail,
    /// It gives the running execution.
    UseExisting,
    /// It ends the running execution by force.
    TerminateExisting,
}

/// An execution could not be started.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// No plugin serves this workflow.
    #[error(
        "no workflow is called '{0}': see GET /v1/workflows or `airlock plugins list` for those that are served"
    )]
    UnknownWorkflow(String),
    /// Nobody is to start it any more.
    #[error(
        "the workflow '{0}' is archived and starts no more: let an owner unarchive it (PUT /v1/workflows/{0}/unarchive)"
    )]
    Archived(String),
    /// The input does not match the workflow's schema.
    #[error("the input does not match the workflow's schema: {}", .0.first().map_or("", |problem| &problem.message))]
    InvalidInput(Vec<InputProblem>),
    /// The execution id is taken.
    #[error("an execution with the id '{0}' exists already: choose another id or leave it out")]
    AlreadyExists(ExecutionId),
    /// A child wants an identity that its parent does not have.
    #[error(
        "the workflow '{0}' runs on behalf of its caller, and the workflow that starts it does not: declare that one \
         on_behalf_of as well"
    )]
    NotOnBehalf(String),
    /// The input is too big.
    #[error("the input has {bytes} bytes, the limit is {limit}: pass a reference to the data instead")]
    TooLarge {
        /// What was sent.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The plugin cannot be used.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The start cannot be recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The daemon is about to stop.
    #[error("the daemon is shutting down: try again in a moment")]
    ShuttingDown,
}

/// A signal could not be sent, and no execution started for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SignalWithStartError {
    /// The start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The signal.
    #[error(transparent)]
    Signal(#[from] MessageError),
}

/// A place where an input does not match.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct InputProblem {
    /// JSON pointer (RFC 6901) into the input; empty for the whole.
    pub pointer: String,
    /// What is expected there.
    pub message: String,
}

/// A start as the engine sees it, whoever asks.
#[derive(Clone)]
pub(super) struct Birth {
    pub(super) workflow: String,
    pub(super) execution_id: Option<ExecutionId>,
    pub(super) input: Json,
    pub(super) principal: Principal,
    pub(super) wishes: Vec<BindingWish>,
    pub(super) mocks: Mocks,
    /// Wishes for slots that the workflow does not have are left out.
    pub(super) only_known_wishes: bool,
    /// Whoever starts it may act on behalf of the principal.
    pub(super) caller_may_act: bool,
    pub(super) parent: Option<Parent>,
    pub(super) root: Option<ExecutionId>,
    pub(super) schedule: Option<String>,
    pub(super) delay: Duration,
    pub(super) execution_timeout: Option<Duration>,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) reuse: IdReuse,
    /// Whose execution may have had the id before.
    pub(super) reach: Reach,
    /// Told in the first turn.
    pub(super) signal: Option<(Option<String>, Message)>,
}

impl Birth {
    /// The input as the workflow gets it.
    pub(super) fn checked_input(&self) -> Json {
        if self.input.is_null() { Json::from(serde_json::json!({})) } else { self.input.clone() }
    }

    /// Who wants the id.
    pub(super) fn claim(&self) -> Claim<'_> {
        let origin = Origin::new(self.parent.as_ref(), self.schedule.as_deref());
        Claim { who: &self.principal, reach: self.reach, origin }
    }
}

impl Default for Birth {
    fn default() -> Self {
        Self {
            workflow: String::new(),
            execution_id: None,
            input: Json::null(),
            principal: Principal {
                user: UserId::new(""),
                workspace: WorkspaceId::new(""),
                organization: OrganizationId::new(""),
            },
            wishes: Vec::new(),
            mocks: Mocks::None,
            only_known_wishes: false,
            caller_may_act: true,
            parent: None,
            root: None,
            schedule: None,
            delay: Duration::ZERO,
            execution_timeout: None,
            retry: None,
            reuse: IdReuse::RejectDuplicate,
            reach: Reach::default(),
            signal: None,
        }
    }
}

/// Compiled schemas, by component and place in it.
pub(super) struct Validators {
    compiled: Mutex<HashMap<(Digest, String), Checked>>,
    trees: Trees,
}

/// Large inputs are texts and become trees of values to be checked, which take many times their memory: some at a time.
struct Trees {
    large: Semaphore,
    huge: Semaphore,
}

impl Default for Validators {
    fn default() -> Self {
        let trees = Trees { large: Semaphore::new(2), huge: Semaphore::new(1) };
        Self { compiled: Mutex::default(), trees }
    }
}

impl Trees {
    /// The tree of an input, with its turn.
    async fn of(&self, input: &Json) -> Result<(serde_json::Value, Option<SemaphorePermit<'_>>), Invalid> {
        if input.as_str().len() <= AT_ONCE {
            return Ok((input.value(), None));
        }
        let text = input.clone();
        // Neither is ever closed.
        let turn = match json::values(text.as_str().as_bytes()) {
            too_many if too_many > MOST_VALUES => {
                let message = format!("{too_many} values stand where at most {MOST_VALUES} are possible");
                return Err(Invalid::Problems(vec![InputProblem { pointer: String::new(), message }]));
            }
            many if many > json::MOST_VALUES => self.huge.acquire().await,
            _ => self.large.acquire().await,
        };
        match tokio::task::spawn_blocking(move || text.value()).await {
            Ok(tree) => Ok((tree, turn.ok())),
            Err(_) => Err(of_check(&Undecided::Broke)),
        }
    }
}

/// An input has so many values, each of which takes some 32 bytes while it is checked.
const MOST_VALUES: usize = 4_000_000;

/// A tree of a text of so many bytes is made at once.
const AT_ONCE: usize = 64 << 10;

/// Versions come and go while a daemon runs for months.
const VALIDATORS_KEPT: usize = 512;

/// A value is not as its schema says.
pub(super) enum Invalid {
    Problems(Vec<InputProblem>),
    Schema(GuestError),
}

impl Validators {
    /// `place` names the schema within the component.
    pub(super) async fn check(
        &self,
        digest: Digest,
        place: String,
        schema: &Json,
        input: &Json,
    ) -> Result<(), Invalid> {
        let key = (digest, place);
        let known = self.compiled.lock().get(&key).cloned();
        let checked = match known {
            Some(checked) => checked,
            None => {
                let compiled = Schemas::of_process().compile(&schema.value(), Dialect::Input).await;
                let checked = compiled.map_err(|refused| Invalid::Schema(unusable(&key.1, &refused)))?;
                let mut kept = self.compiled.lock();
                if kept.len() >= VALIDATORS_KEPT {
                    kept.clear();
                }
                kept.insert(key, checked.clone());
                checked
            }
        };
        let (tree, _turn) = self.trees.of(input).await?;
        let outcome = checked.check_owned(tree).await;
        match outcome {
            Outcome::Fits => Ok(()),
            Outcome::Differs(differences) => Err(Invalid::Problems(problems(differences))),
            Outcome::Undecided(undecided) => Err(of_check(&undecided)),
        }
    }
}

/// A schema that cannot be used, of this place in a component.
pub(super) fn unusable(place: &str, refused: &Refused) -> GuestError {
    let message = format!("the input schema of '{place}' cannot be used: {refused}");
    match refused {
        // It may be another time.
        Refused::NotNow(_) => GuestError::Host(message),
        _ => GuestError::Invalid(message),
    }
}

/// An input that could not be checked is refused before anything begins, by whose fault it is.
fn of_check(undecided: &Undecided) -> Invalid {
    match undecided {
        Undecided::Work | Undecided::Depth => Invalid::Problems(vec![unchecked(undecided)]),
        Undecided::Busy | Undecided::Late | Undecided::Broke => {
            Invalid::Schema(GuestError::Host(undecided.to_string()))
        }
    }
}

/// That a value was not checked.
pub(super) fn unchecked(undecided: &Undecided) -> InputProblem {
    InputProblem { pointer: String::new(), message: undecided.to_string() }
}

/// Where an input does not match, without what stands there.
pub(super) fn problems(differences: Vec<Difference>) -> Vec<InputProblem> {
    let problem =
        |difference: Difference| InputProblem { pointer: difference.instance, message: difference.message };
    differences.into_iter().map(problem).collect()
}

/// A search key's value is cut to so many characters (contract/workflow-features.md §12).
const SEARCH_VALUE: usize = 8_192;

/// The search keys that a workflow's definition takes from an input. What is absent or no scalar has no value.
pub(super) fn search_keys_of(
    workflow: Option<&WorkflowDefinition>,
    input: &Json,
) -> Vec<(String, Option<String>)> {
    let Some(workflow) = workflow.filter(|workflow| !workflow.search_keys.is_empty()) else {
        return Vec::new();
    };
    let input = input.value();
    let value = |path: &String| {
        let found = path.split('.').try_fold(&input, |value, key| value.get(key))?;
        match found {
            serde_json::Value::String(text) => Some(text.chars().take(SEARCH_VALUE).collect()),
            serde_json::Value::Bool(_) | serde_json::Value::Number(_) => Some(found.to_string()),
            _ => None,
        }
    };
    workflow.search_keys.iter().map(|path| (path.clone(), value(path))).collect()
}

/// What is known of an execution that may begin.
struct Judged {
    digest: Digest,
    definition: Arc<PluginDefinition>,
    /// As its schema was asked about it.
    input: Json,
}

impl Engine {
    /// Starts an execution. It is durable when this returns; the workflow has had its first turn by then, unless it has
    /// to wait.
    #[boxed]
    pub async fn start(&self, request: StartRequest) -> Result<ExecutionView, StartError> {
        let (conflict, id) = (request.conflict, request.execution_id.clone());
        let (Some(id), true) = (id, conflict != IdConflict::Fail) else {
            return self.begin(request.birth()).await;
        };
        // Between two looks the execution with this id may end, or another one may begin.
        for _ in 0..CONTESTED {
            match self.get(&id)? {
                Some(view) if view.row.status == Status::Running => {
                    let Some(whom) = request.claim().address(&view.row) else {
                        return Err(StartError::AlreadyExists(id));
                    };
                    if conflict == IdConflict::UseExisting {
                        return Ok(view);
                    }
                    // Whoever cannot take its place does not end it.
                    self.judged(&request.birth()).await?;
                    // It may have ended by itself meanwhile; anything else shows in the start.
                    let _ = self.terminate(whom, "another execution takes its place".into()).await;
                }
                _ => {}
            }
            let reuse = match conflict {
                IdConflict::TerminateExisting => IdReuse::AllowDuplicate,
                _ => request.reuse,
            };
            match self.begin(Birth { reuse, ..request.birth() }).await {
                Err(StartError::AlreadyExists(_)) if self.is_contested(&id).await? => {}
                other => return other,
            }
        }
        Err(StartError::AlreadyExists(id))
    }

    /// Whether an execution with this id runs, once it is known whether one that is being started does.
    async fn is_contested(&self, id: &ExecutionId) -> Result<bool, StoreError> {
        if let Some(cell) = self.cell_in_memory(id) {
            // An error means that it was not started after all.
            let mut progress = cell.progress.subscribe();
            let begun = progress.wait_for(|progress| progress.records > 0 || progress.ended);
            let _ = tokio::time::timeout(self.config.retry_pause, begun).await;
        }
        Ok(self.store.find(id)?.is_none_or(|row| row.status == Status::Running))
    }

    /// Sends a signal to the execution with this id; starts it first if none is running. Either both happen or none, and
    /// a workflow that is started hears of the signal in its first turn.
    #[boxed]
    pub async fn signal_with_start(
        &self,
        request: StartRequest,
        signal_id: Option<String>,
        message: Message,
    ) -> Result<ExecutionView, SignalWithStartError> {
        let id = request.execution_id.clone().unwrap_or_else(ExecutionId::generate);
        for _ in 0..CONTESTED {
            let running = self.get(&id).map_err(StartError::from)?;
            let running = running.filter(|view| view.row.status == Status::Running);
            if let Some(view) = running {
                let Some(whom) = request.claim().address(&view.row) else {
                    return Err(StartError::AlreadyExists(id).into());
                };
                match self.signal(whom, signal_id.clone(), message.clone()).await {
                    Err(MessageError::Control(super::ControlError::Ended(_))) => continue,
                    Err(error) => return Err(error.into()),
                    Ok(()) => return Ok(view),
                }
            }
            let signal = Some((signal_id.clone(), message.clone()));
            let birth = Birth { execution_id: Some(id.clone()), schedule: None, signal, ..request.birth() };
            let birth = self.with_checked_signal(birth).await?;
            match self.begin(birth).await {
                Err(StartError::AlreadyExists(_))
                    if self.is_contested(&id).await.map_err(StartError::from)? => {}
                other => return Ok(other?),
            }
        }
        Err(StartError::AlreadyExists(id).into())
    }

    async fn with_checked_signal(&self, mut birth: Birth) -> Result<Birth, SignalWithStartError> {
        let Some(digest) = self.guests.serving(&birth.workflow) else { return Ok(birth) };
        let definition = self.guests.definition(&digest).await.map_err(StartError::from)?;
        if let Some((id, message)) = birth.signal.take() {
            let message =
                self.checked_by(&definition, digest, &birth.workflow, Kind::Signal, message).await?;
            birth.signal = Some((id, message));
        }
        Ok(birth)
    }

    /// The code that serves a workflow. Just after the start of the daemon: once all is loaded, if it is not there before.
    pub(crate) async fn serving(&self, workflow: &str) -> Option<Digest> {
        if self.guests.serving(workflow).is_none() {
            self.guests.loaded().await;
        }
        self.guests.serving(workflow)
    }

    /// Whether an execution may begin, apart from its id: with which code, and with which input.
    async fn judged(&self, birth: &Birth) -> Result<Judged, StartError> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(StartError::ShuttingDown);
        }
        let bytes = birth.input.as_str().len();
        let limit = self.config.max_input_bytes;
        if bytes > limit {
            return Err(StartError::TooLarge { bytes, limit });
        }
        // What was begun before goes on to its end: its children are parts of it.
        if birth.parent.is_none() && self.archive.holds(&birth.workflow) {
            return Err(StartError::Archived(birth.workflow.clone()));
        }
        let unknown = || StartError::UnknownWorkflow(birth.workflow.clone());
        let digest = self.serving(&birth.workflow).await.ok_or_else(unknown)?;
        let definition = self.guests.definition(&digest).await?;
        let workflow = definition.workflow(&birth.workflow).ok_or_else(unknown)?;
        if workflow.on_behalf_of && !birth.caller_may_act {
            return Err(StartError::NotOnBehalf(birth.workflow.clone()));
        }
        let input = birth.checked_input();
        let checked = self.validators.check(digest, birth.workflow.clone(), &workflow.input_schema, &input);
        checked.await.map_err(|error| match error {
            Invalid::Problems(problems) => StartError::InvalidInput(problems),
            Invalid::Schema(error) => error.into(),
        })?;
        Ok(Judged { digest, definition, input })
    }

    /// Why a request to start would be refused now, apart from its id. It begins nothing.
    #[boxed]
    pub async fn may_start(&self, request: &StartRequest) -> Result<(), StartError> {
        self.judged(&request.birth()).await.map(drop)
    }

    /// Starts an execution, whoever asks.
    pub(super) async fn begin(&self, mut birth: Birth) -> Result<ExecutionView, StartError> {
        let Judged { digest, definition, input } = self.judged(&birth).await?;
        let unknown = || StartError::UnknownWorkflow(birth.workflow.clone());
        let workflow = definition.workflow(&birth.workflow).ok_or_else(unknown)?;
        let mut wishes = std::mem::take(&mut birth.wishes);
        if birth.only_known_wishes {
            wishes.retain(|wish| match &wish.connector_name {
                Some(name) => workflow.slots.iter().any(|slot| slot.connector == *name),
                None => workflow.slots.len() == 1,
            });
        }

        let _permit = self.turn_permits.acquire().await;
        let now = now_ms();
        let id = birth.execution_id.take().unwrap_or_else(ExecutionId::generate);
        let replaces = self.replaced(&id, birth.reuse, birth.claim())?;
        let run_id = RunId::generate();
        let delay = u64::try_from(birth.delay.as_millis()).unwrap_or(u64::MAX);
        let started = Started {
            run_id,
            workflow: birth.workflow.clone(),
            digest,
            search_keys: search_keys_of(Some(workflow), &input),
            input,
            principal: birth.principal.clone(),
            wishes,
            mocks: birth.mocks,
            seed: rand::random(),
            execution_timeout: birth
                .execution_timeout
                .or(workflow.execution_timeout)
                .unwrap_or(WorkflowDefinition::DEFAULT_EXECUTION_TIMEOUT),
            first_started_at: now.saturating_add(delay),
            not_before: now.saturating_add(delay),
            retry: birth.retry.or_else(|| workflow.retry.clone()),
            attempt: 1,
            parent: birth.parent.clone(),
            continued_from: None,
        };
        let row = ExecutionRow {
            key: self.store.allocate(),
            root: birth.root.unwrap_or_else(|| id.clone()),
            id,
            run_id,
            workflow: birth.workflow,
            digest,
            principal: birth.principal,
            status: Status::Running,
            started_at: now,
            ended_at: None,
            parent: birth.parent,
            schedule: birth.schedule,
        };
        let cell = self.born(row)?;
        let instance = if delay > 0 {
            None
        } else {
            match self.guests.create(&digest, turn::init(&cell.row.id, &started, now)).await {
                Ok(instance) => Some(instance),
                // The first turn tries again and records the failure.
                Err(GuestError::Trapped(_)) => None,
                Err(error) => {
                    self.drop_cell(&cell);
                    return Err(error.into());
                }
            }
        };
        let machine = Machine::start(definition, run_id, started, now);
        let live = Box::new(Live { machine, instance, index: 0, wake: Wake::Now, warned: false });
        let newborn = Newborn { live, start: Start { row: cell.row.clone(), replaces } };
        let news: VecDeque<ToDriver> = birth
            .signal
            .map(|(id, message)| ToDriver::News { input: Input::Signal { id, message }, confirm: None })
            .into_iter()
            .collect();
        self.open.fetch_add(1, Ordering::Relaxed);
        self.loaded.fetch_add(1, Ordering::Relaxed);
        let _under_way = turn::UnderWay::new(&self.turns);
        if let Err(postponed) = self.turn(&cell, Some(newborn), news).await {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.drop_cell(&cell);
            return Err(match postponed.why {
                StoreError::Conflict => StartError::AlreadyExists(cell.row.id.clone()),
                other => other.into(),
            });
        }
        self.drive_on(&cell).await;
        match cell.outcome.get() {
            // Its first turn was its last, and another run goes on.
            Some(view) if view.continued.is_some() => {
                let next = self.get(&cell.row.id)?;
                let next = next.filter(|next| Address::same_start(&cell.row).reaches(&next.row));
                Ok(next.unwrap_or_else(|| ExecutionView::clone(view)))
            }
            Some(view) => Ok(ExecutionView::clone(view)),
            None => Ok(ExecutionView::running(cell.row.clone())),
        }
    }

    /// The ended run whose id a start takes over, if there is one.
    fn replaced(
        &self,
        id: &ExecutionId,
        reuse: IdReuse,
        claim: Claim<'_>,
    ) -> Result<Option<crate::ExecutionKey>, StartError> {
        // The store refuses an id that is taken; nobody has to look for one that is always refused.
        if reuse == IdReuse::RejectDuplicate {
            return Ok(None);
        }
        let Some(row) = self.store.find(id)? else { return Ok(None) };
        // The commit takes the id from this run or from none, so nothing comes in between.
        let free =
            claim.may_replace(&row) && (reuse == IdReuse::AllowDuplicate || row.status != Status::Completed);
        if free { Ok(Some(row.key)) } else { Err(StartError::AlreadyExists(id.clone())) }
    }

    /// A cell for a new execution, driven by the caller.
    fn born(&self, row: ExecutionRow) -> Result<Arc<Cell>, StartError> {
        let mut cells = self.cells.lock();
        if cells.by_id.contains_key(&row.id) {
            return Err(StartError::AlreadyExists(row.id));
        }
        let cell = Arc::new(Cell::driven(row));
        cells.by_id.insert(cell.row.id.clone(), cell.key);
        cells.by_key.insert(cell.key, Arc::clone(&cell));
        Ok(cell)
    }
}

/// How often to look again when others start and end executions with the same id.
const CONTESTED: usize = 8;
