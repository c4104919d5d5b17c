//! The state of one run, without clock, socket or database: time and news come in as arguments, what is to be recorded
//! and done goes out.
//!
//! ```text
//!                    not_before            Bound(ok)                     Complete | Fail | Cancelled | ContinueAsNew
//!   Delayed ──▶ (has slots?) ──▶ Binding ───────────▶ Running ────────────────────────────────────────────▶ Ended
//!      │             └── no ─────────────────────────▶ │   ▲                                              ▲ ▲ ▲
//!      │                            │                  ▼   │ Unblock                                      │ │ │
//!      │                            │                Blocked ── terminate ────────────────────────────────┘ │ │
//!      └── cancel, terminate, ──────┴── Bound(err), cancel, terminate, time over ───────────────────────────┘ │
//!          time over                             Running ── trap, terminate, time over, history full ────────┘
//!                                                (what becomes of everything that was asked for: ends.rs)
//!
//!   beside that, any phase but Ended can be paused: what happens then is recorded, and told on Resume
//!
//!   operation            begins with           is ended by                      meanwhile
//!   Activity             ScheduleActivity      AttemptEnded, Cancel, the end    AttemptFailed starts the next attempt,
//!                                                                               Heartbeat keeps details for it
//!   Timer                StartTimer            its time, Cancel, the end
//!   Tool, ToolList       CallTool, ListTools   ToolEnded, Cancel, the end
//!   Auth                 AwaitAuth             AuthEnded, Cancel, the end
//!   Child                StartChild            ChildEnded, Cancel, the end      ChildStarted
//!   External             SignalExternal,       Told, Cancel, the end
//!                        CancelExternal
//! ```
//!
//! A turn goes like this: [`Machine::receive`] takes news, which may stage jobs; if [`Machine::jobs`] has any, the
//! workflow is activated with them and its commands go to [`Machine::commands`]; then [`Machine::take_records`] is
//! appended to the history, and once that is durable the [`Machine::take_effects`] are carried out. A history is read
//! back with [`Machine::replay`], and [`Machine::resume`] says what has to be done again. If a record cannot be made
//! durable the machine is thrown away and built from the history.
//!
//! Jobs that the workflow cannot be told at once (it has not begun, is paused or blocked) are recorded by themselves, and
//! stand at the beginning of its next turn.

pub mod ends;
mod held_back;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use crate::{
    ActivityOptions, Digest, ExecutionId, Failure, Json, PluginDefinition, Principal, RetryPolicy, RunId,
    UserId,
    difference::without_values,
    history::{
        Command, Continuation, End, HistorySize, Job, Message, Outcome, Record, SearchValue, Seq, StartChild,
        Started, TaskEvent, UnixMs,
    },
    outage::Outage,
    store::{Status, Wake},
    tools::{Binding, CallOptions},
    witness::Step,
};

/// News for a run.
#[derive(Debug, Clone)]
pub enum Input {
    /// The preflight is over.
    Bound(Result<Vec<Binding>, Failure>),
    /// An attempt of an activity ended.
    AttemptEnded {
        /// Which activity.
        seq: Seq,
        /// Which attempt.
        attempt: u32,
        /// How.
        outcome: Outcome,
        /// What it said with its last heartbeat.
        details: Option<Json>,
        /// How long it waited for people.
        waited: Duration,
        /// 0 to 1, spreads retries.
        jitter: f64,
    },
    /// A running attempt says how far it is.
    Heartbeat {
        /// Which activity.
        seq: Seq,
        /// Which attempt.
        attempt: u32,
        /// What it says.
        details: Json,
    },
    /// A tool call or list ended.
    ToolEnded {
        /// Which.
        seq: Seq,
        /// How.
        outcome: Outcome,
    },
    /// A wait for authorisation ended.
    AuthEnded {
        /// Which.
        seq: Seq,
        /// How.
        outcome: Outcome,
    },
    /// A child has begun.
    ChildStarted {
        /// Which.
        seq: Seq,
    },
    /// A child could not begin.
    ChildRefused {
        /// Which.
        seq: Seq,
        /// Why.
        failure: Failure,
    },
    /// A child ended.
    ChildEnded {
        /// Which.
        seq: Seq,
        /// How.
        outcome: Outcome,
    },
    /// A signal or a request to cancel has reached another execution, or could not.
    Told {
        /// Which.
        seq: Seq,
        /// How.
        outcome: Outcome,
    },
    /// An activity, or the host, emits a custom task event.
    Emit(TaskEvent),
    /// Somebody sends a signal.
    Signal {
        /// A signal with the same id is heard once.
        id: Option<String>,
        /// What it says.
        message: Message,
    },
    /// Somebody asks for an update.
    Update {
        /// An update with the same id is carried out once.
        id: String,
        /// What it asks for.
        message: Message,
    },
    /// Somebody asks the execution to stop.
    Cancel(String),
    /// Somebody ends the execution by force.
    Terminate(String),
    /// Somebody pauses the execution.
    Pause(String),
    /// Somebody lets it go on.
    Resume,
    /// The workflow's code trapped, twice.
    Trapped(Failure),
    /// A replay gave other commands than the history.
    Diverged(String),
    /// A step was running in so many crashes of the process that it is not tried again by itself.
    HeldBack {
        /// The step.
        step: Step,
        /// Crashes in a row.
        crashes: u32,
    },
    /// The execution is to be tried again.
    Unblock,
    /// The run goes on with other code.
    Upgrade(Digest),
    /// Time has passed.
    Tick,
}

/// Something for the driver to do, once the records are durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Match slots with connectors and check that the caller is authorised.
    Preflight,
    /// Run an attempt of an activity.
    RunActivity {
        /// Which.
        seq: Seq,
        /// The attempt.
        attempt: u32,
    },
    /// Call a tool or list tools.
    CallTool {
        /// Which.
        seq: Seq,
    },
    /// Wait for authorisation.
    AwaitAuth {
        /// Which.
        seq: Seq,
    },
    /// Start a child if it has not begun, and hear how it ended if it has.
    StartChild {
        /// Which.
        seq: Seq,
        /// Its execution id.
        id: String,
        /// What it is.
        child: Box<StartChild>,
    },
    /// Send a signal or a request to cancel to another execution.
    Tell {
        /// Which.
        seq: Seq,
    },
    /// Ask a child to stop; nobody wants its result.
    CancelChild {
        /// Which.
        seq: Seq,
        /// Its execution.
        id: ExecutionId,
    },
    /// Stop an operation; nobody wants its result.
    Stop {
        /// Which.
        seq: Seq,
    },
    /// The run is paused or blocked: what waits to begin does not. It is asked for again when the run goes on.
    Hold,
    /// The run has ended; all that is still running for it is to be stopped.
    Finish,
}

/// An operation that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// An activity.
    Activity {
        /// Its name.
        activity: String,
        /// Its input.
        input: Json,
        /// Its limits, with the definition's defaults filled in.
        options: ActivityOptions,
        /// The attempt that runs, or will.
        attempt: u32,
        /// When it was scheduled, later by the time that attempts have waited for people.
        scheduled_at: UnixMs,
        /// When the attempt begins, if it waits.
        retry_at: Option<UnixMs>,
        /// What attempts said with their last heartbeat.
        details: Option<Json>,
        /// The outage of a service that its attempts are in.
        outage: Outage,
    },
    /// A timer.
    Timer {
        /// When it fires.
        at: UnixMs,
    },
    /// A tool call.
    Tool {
        /// The slot.
        slot: String,
        /// The tool.
        tool: String,
        /// Its arguments.
        arguments: Json,
        /// What is to be otherwise than usual.
        options: CallOptions,
    },
    /// A list of tools.
    ToolList {
        /// The slot.
        slot: String,
    },
    /// A wait for authorisation.
    Auth {
        /// The slot.
        slot: String,
        /// When the wait began.
        since: UnixMs,
    },
    /// A child.
    Child {
        /// Its execution id.
        id: String,
        /// What it is.
        child: Box<StartChild>,
        /// Whether the workflow knows that it has begun.
        started: bool,
    },
    /// A message to another execution.
    External {
        /// To whom.
        execution_id: String,
        /// What it says.
        message: ExternalMessage,
    },
}

/// What a workflow says to another execution.
#[derive(Debug, Clone, PartialEq)]
pub enum ExternalMessage {
    /// A signal.
    Signal {
        /// The handler.
        name: String,
        /// For the handler.
        input: Json,
    },
    /// A request to stop, with a reason.
    Cancel(String),
}

/// The run that takes the place of one that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Next {
    /// Why there is one.
    pub reason: Continuation,
    /// Its workflow.
    pub workflow: String,
    /// Its input.
    pub input: Json,
    /// When it begins.
    pub not_before: UnixMs,
    /// Which try it is.
    pub attempt: u32,
    /// The request to stop that it is told in its first turn.
    pub cancel: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Delayed,
    Binding,
    Running,
    Blocked(String),
    Ended(Status),
}

/// The history cannot have come from this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the history makes no sense at record {index}: {problem}")]
pub struct Nonsense {
    /// The record.
    pub index: u32,
    /// What is wrong with it.
    pub problem: String,
}

/// The state of one run.
#[derive(Debug)]
pub struct Machine {
    definition: Arc<PluginDefinition>,
    digest: Digest,
    run: RunId,
    started: Arc<Started>,
    started_at: UnixMs,
    phase: Phase,
    /// The phase to go back to when it is unblocked, if it was blocked before it ran.
    not_begun: Option<Phase>,
    paused: Option<String>,
    bindings: Arc<[Binding]>,
    pending: BTreeMap<Seq, Operation>,
    /// Timers and attempts that wait, by time.
    waiting: BTreeSet<(UnixMs, Seq)>,
    last_seq: Seq,
    activated: bool,
    /// Why, if somebody asked the execution to stop.
    cancel_requested: Option<String>,
    /// That was before the workflow had its first turn.
    asked_before_it_began: bool,
    /// It ends because another run begins with its history.
    replaced: bool,
    /// Updates that were ever sent; true for those that the workflow has not answered for good.
    updates: HashMap<String, bool>,
    /// Ids of signals that were heard.
    signals: HashSet<String>,
    search_keys: BTreeMap<String, Option<String>>,
    changed_keys: Vec<(String, SearchValue)>,
    has_children: bool,
    result: Option<Json>,
    failure: Option<Failure>,
    next: Option<Next>,
    size: HistorySize,
    now: UnixMs,
    replayed: u32,
    /// What the next turn begins with.
    staged: Vec<Job>,
    /// How many of the staged jobs are recorded already.
    carried: usize,
    /// What the workflow cannot be told yet.
    backlog: Vec<Job>,
    /// How many of those are recorded.
    recorded: usize,
    records: Vec<Record>,
    effects: Vec<Effect>,
}

/// Search keys of one execution (contract/workflow-features.md §12). Names that begin with `internal.` are the host's and
/// do not count.
pub const SEARCH_KEYS: usize = 20;

/// The search key of a blocked execution, with the first difference as its value.
pub const BLOCKED_KEY: &str = "internal.blocked";

/// The search key of a paused execution, with the reason as its value.
pub const PAUSED_KEY: &str = "internal.paused";

/// The search key of a workflow that waits for somebody; it sets the key itself (contract/workflow-features.md §7).
pub const EXECUTION_STATE_KEY: &str = "internal.execution.state";

impl Machine {
    /// A new run. Its first record is ready to be taken.
    pub fn start(definition: Arc<PluginDefinition>, run: RunId, started: Started, at: UnixMs) -> Self {
        let record = Record::Started(Box::new(started.clone()));
        let digest = started.digest;
        let mut machine = Self::born(definition, digest, run, started, at);
        machine.records.push(record);
        machine.tick();
        machine
    }

    /// A run read back from its first record; the others follow through [`Machine::replay`]. `digest` is the code it is
    /// pinned to now, which is what `definition` is of.
    pub fn read(
        definition: Arc<PluginDefinition>,
        digest: Digest,
        run: RunId,
        started: Started,
        at: UnixMs,
    ) -> Self {
        let mut machine = Self::born(definition, digest, run, started, at);
        machine.replayed = 1;
        machine.size.add(&Record::Started(Box::new(machine.started.as_ref().clone())));
        if machine.now >= machine.started.not_before {
            machine.begin_run();
        }
        machine.effects.clear();
        machine
    }

    fn born(
        definition: Arc<PluginDefinition>,
        digest: Digest,
        run: RunId,
        started: Started,
        at: UnixMs,
    ) -> Self {
        Self {
            definition,
            digest,
            run,
            search_keys: started.search_keys.iter().cloned().collect(),
            started: Arc::new(started),
            started_at: at,
            phase: Phase::Delayed,
            not_begun: None,
            paused: None,
            bindings: Arc::new([]),
            pending: BTreeMap::new(),
            waiting: BTreeSet::new(),
            last_seq: 0,
            activated: false,
            cancel_requested: None,
            asked_before_it_began: false,
            replaced: false,
            updates: HashMap::new(),
            signals: HashSet::new(),
            changed_keys: Vec::new(),
            has_children: false,
            result: None,
            failure: None,
            next: None,
            size: HistorySize::default(),
            now: at,
            replayed: 0,
            staged: Vec::new(),
            carried: 0,
            backlog: Vec::new(),
            recorded: 0,
            records: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// How the run began.
    pub fn started(&self) -> &Arc<Started> {
        &self.started
    }

    /// What the plugin says of itself.
    pub fn definition(&self) -> &Arc<PluginDefinition> {
        &self.definition
    }

    /// The code that the run is pinned to.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The run. A run that was reset has another id than its workflow knows.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// When the run began.
    pub fn started_at(&self) -> UnixMs {
        self.started_at
    }

    /// The latest time the machine has seen; time never goes back for an execution.
    pub fn now(&self) -> UnixMs {
        self.now
    }

    /// How much the history holds, with the records that are ready to be taken.
    pub fn size(&self) -> HistorySize {
        let mut size = self.size;
        self.records.iter().for_each(|record| size.add(record));
        size
    }

    /// With whose credentials services are called: the caller's if the workflow runs on behalf of its caller, else
    /// those that the workspace and the organisation share.
    pub fn acting_principal(&self) -> Principal {
        let caller = &self.started.principal;
        if self.on_behalf_of() {
            caller.clone()
        } else {
            Principal { user: UserId::new(Principal::DEPLOYMENT), ..caller.clone() }
        }
    }

    /// Whether the workflow has the identity of its caller.
    pub fn on_behalf_of(&self) -> bool {
        self.definition.workflow(&self.started.workflow).is_some_and(|workflow| workflow.on_behalf_of)
    }

    /// The connectors of the slots.
    pub fn bindings(&self) -> &Arc<[Binding]> {
        &self.bindings
    }

    /// An operation that has not ended.
    pub fn operation(&self, seq: Seq) -> Option<&Operation> {
        self.pending.get(&seq)
    }

    /// Operations that have not ended, by number.
    pub fn operations(&self) -> impl Iterator<Item = (Seq, &Operation)> {
        self.pending.iter().map(|(seq, operation)| (*seq, operation))
    }

    /// The status on the wire.
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Ended(status) => status,
            _ => Status::Running,
        }
    }

    /// Whether the run is over.
    pub fn ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// Where in its life the run is, in a word.
    pub fn phase(&self) -> &'static str {
        match (&self.phase, &self.paused) {
            (Phase::Ended(_), _) => "ended",
            (Phase::Blocked(_), _) => "blocked",
            (_, Some(_)) => "paused",
            (Phase::Delayed, None) => "delayed",
            (Phase::Binding, None) => "binding",
            (Phase::Running, None) => "running",
        }
    }

    /// Why the execution is blocked.
    pub fn blocked(&self) -> Option<&str> {
        match &self.phase {
            Phase::Blocked(difference) => Some(difference),
            _ => None,
        }
    }

    /// Why the execution is paused.
    pub fn paused(&self) -> Option<&str> {
        self.paused.as_deref()
    }

    /// Whether the workflow has had a turn.
    pub fn activated(&self) -> bool {
        self.activated
    }

    /// Whether somebody asked the execution to stop.
    pub fn cancel_requested(&self) -> bool {
        self.cancel_requested.is_some()
    }

    /// Whether the run has ever started a child.
    pub fn has_children(&self) -> bool {
        self.has_children
    }

    /// The result of a completed run.
    pub fn result(&self) -> Option<&Json> {
        self.result.as_ref()
    }

    /// The failure of one that failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The run that is to take this one's place. Once it has an id, [`Machine::continued`] notes it.
    pub fn next(&self) -> Option<&Next> {
        self.next.as_ref()
    }

    /// The search keys, by name.
    pub fn search_keys(&self) -> &BTreeMap<String, Option<String>> {
        &self.search_keys
    }

    /// When the execution wants to be looked at.
    pub fn wake(&self) -> Wake {
        match &self.phase {
            Phase::Ended(_) | Phase::Blocked(_) => Wake::Never,
            _ if self.paused.is_some() => Wake::At(self.deadline()),
            Phase::Delayed => Wake::At(self.started.not_before.min(self.deadline())),
            Phase::Binding => Wake::Now,
            // What is pending and does not wait for a time is being worked on.
            Phase::Running if self.pending.len() > self.waiting.len() => Wake::Now,
            Phase::Running => {
                Wake::At(self.waiting.first().map_or(self.deadline(), |(at, _)| *at).min(self.deadline()))
            }
        }
    }

    /// The next time at which something happens by itself.
    pub fn next_time(&self) -> Option<UnixMs> {
        let deadline = self.deadline();
        match self.phase {
            Phase::Ended(_) | Phase::Blocked(_) => None,
            _ if self.paused.is_some() => Some(deadline),
            Phase::Delayed => Some(self.started.not_before.min(deadline)),
            _ => Some(self.waiting.first().map_or(deadline, |(at, _)| *at).min(deadline)),
        }
    }

    fn deadline(&self) -> UnixMs {
        self.started.first_started_at.saturating_add(millis(self.started.execution_timeout))
    }

    /// Whether the workflow can be told what happens.
    fn open_to_news(&self) -> bool {
        self.phase == Phase::Running && self.paused.is_none()
    }

    /// Takes news that came in at `now`. News for operations that have ended are ignored. Says whether the run could
    /// take it: one that has ended takes nothing.
    pub fn receive(&mut self, input: Input, now: UnixMs) -> bool {
        self.now = self.now.max(now);
        match (&self.phase, input) {
            (Phase::Ended(_), _) => return false,
            (_, Input::Terminate(reason)) => self.end(End::Terminated(reason)),
            (Phase::Blocked(_), Input::Unblock) => {
                self.records.push(Record::Unblocked);
                self.unblocked();
                self.go_on();
            }
            (_, Input::Unblock)
            | (Phase::Blocked(_), Input::Tick | Input::Diverged(_) | Input::HeldBack { .. }) => {}
            (_, Input::Diverged(difference)) => {
                self.records.push(Record::Blocked { difference: difference.clone() });
                self.block(difference);
            }
            (_, Input::HeldBack { step, crashes }) => {
                let operation = match &step {
                    Step::Operation { seq, .. } => self.pending.get(seq),
                    _ => None,
                };
                let difference = held_back::sentence(&step, operation, crashes);
                // Nothing is begun again; that is for who unblocks it.
                self.effects.clear();
                self.records.push(Record::Blocked { difference: difference.clone() });
                self.block(difference);
            }
            (_, Input::Upgrade(digest)) => {
                self.records.push(Record::Upgraded { digest });
                self.digest = digest;
            }
            (_, Input::Pause(reason)) => {
                if self.paused.is_none() {
                    self.records.push(Record::Paused { reason: reason.clone() });
                    self.pause(reason);
                }
            }
            (_, Input::Resume) => {
                if self.paused.is_some() {
                    self.records.push(Record::Resumed);
                    self.unpaused();
                    self.go_on();
                    self.tick();
                }
            }
            (_, Input::Trapped(failure)) => self.end(End::Failed(failure)),
            (_, Input::Emit(event)) => self.records.push(Record::Emitted { event }),
            (_, Input::Tick) => self.tick(),
            (Phase::Binding, Input::Bound(Ok(bindings))) => {
                self.records.push(Record::Bound { bindings: bindings.clone() });
                self.bound(bindings);
            }
            (Phase::Binding, Input::Bound(Err(failure))) => self.end(End::Failed(failure)),
            (_, Input::Bound(_)) => {}
            // There is no code to be polite to yet.
            (Phase::Delayed | Phase::Binding, Input::Cancel(reason)) => {
                self.record_untold();
                self.records.push(Record::Activation {
                    jobs: vec![Job::CancelRequested { reason }],
                    commands: vec![Command::Cancelled],
                });
                self.finish(Status::Canceled);
            }
            (_, Input::Cancel(reason)) => {
                if self.cancel_requested.is_none() {
                    self.stage(Job::CancelRequested { reason });
                }
            }
            (_, Input::Signal { id, message }) => {
                if id.as_ref().is_none_or(|id| !self.signals.contains(id)) {
                    self.stage(Job::Signal { id, message });
                }
            }
            (_, Input::Update { id, message }) => {
                if !self.updates.contains_key(&id) {
                    self.stage(Job::Update { id, message });
                }
            }
            (_, Input::AttemptEnded { seq, attempt, outcome, details, waited, jitter }) => {
                self.attempt_ended(seq, attempt, outcome, (details, waited), jitter);
            }
            (_, Input::Heartbeat { seq, attempt, details }) => {
                if let Some(Operation::Activity { attempt: current, retry_at: None, details: kept, .. }) =
                    self.pending.get_mut(&seq)
                    && *current == attempt
                {
                    *kept = Some(details.clone());
                    self.records.push(Record::Heartbeat { seq, attempt, details });
                }
            }
            (_, Input::ToolEnded { seq, outcome }) => {
                if matches!(self.pending.get(&seq), Some(Operation::Tool { .. } | Operation::ToolList { .. }))
                {
                    self.stage(Job::ToolResolved { seq, outcome });
                }
            }
            (_, Input::AuthEnded { seq, outcome }) => {
                if matches!(self.pending.get(&seq), Some(Operation::Auth { .. })) {
                    self.stage(Job::AuthResolved { seq, outcome });
                }
            }
            (_, Input::ChildStarted { seq }) => self.child_started(seq),
            (_, Input::ChildRefused { seq, failure }) => self.child_refused(seq, failure),
            (_, Input::ChildEnded { seq, outcome }) => self.child_ended(seq, outcome),
            (_, Input::Told { seq, outcome }) => {
                if matches!(self.pending.get(&seq), Some(Operation::External { .. })) {
                    self.stage(Job::ExternalResolved { seq, outcome });
                }
            }
        }
        true
    }

    fn attempt_ended(
        &mut self,
        seq: Seq,
        attempt: u32,
        outcome: Outcome,
        (details, waited): (Option<Json>, Duration),
        jitter: f64,
    ) {
        let Some(Operation::Activity {
            attempt: current, options, scheduled_at, retry_at: None, outage, ..
        }) = self.pending.get(&seq)
        else {
            return;
        };
        if *current != attempt {
            return;
        }
        let failure = match outcome {
            Ok(_) => return self.stage(Job::ActivityResolved { seq, outcome }),
            Err(failure) => failure.counted(),
        };
        let default = RetryPolicy::default();
        let policy = options.retry.as_ref().unwrap_or(&default);
        let in_time = |at: &UnixMs| {
            let end = |limit| scheduled_at.saturating_add(millis(waited)).saturating_add(millis(limit));
            options.schedule_to_close.is_none_or(|limit| *at < end(limit))
        };
        let again = match outage.wait(&failure, policy, self.now, jitter) {
            Some(wait) => Some((self.now.saturating_add(millis(wait)), failure.clone().uncounted())),
            None => next_try(&failure, policy, outage.counted(attempt), self.now, jitter)
                .map(|at| (at, failure.clone())),
        };
        match again.filter(|(at, _)| in_time(at)) {
            Some((retry_at, failure)) => {
                self.attempt_failed(seq, attempt, &failure, retry_at, details.clone(), waited);
                self.records.push(Record::AttemptFailed { seq, attempt, failure, retry_at, details, waited });
            }
            None => self.stage(Job::ActivityResolved { seq, outcome: Err(failure) }),
        }
    }

    fn attempt_failed(
        &mut self,
        seq: Seq,
        failed: u32,
        failure: &Failure,
        at: UnixMs,
        said: Option<Json>,
        waited: Duration,
    ) {
        if let Some(Operation::Activity { attempt, retry_at, scheduled_at, details, outage, .. }) =
            self.pending.get_mut(&seq)
        {
            outage.note(failure, self.now);
            *scheduled_at = scheduled_at.saturating_add(millis(waited));
            *attempt = failed + 1;
            if said.is_some() {
                *details = said;
            }
            // In a replay nobody has taken the wait for the attempt before away.
            if let Some(before) = retry_at.replace(at) {
                self.waiting.remove(&(before, seq));
            }
            self.waiting.insert((at, seq));
        }
    }

    fn child_started(&mut self, seq: Seq) {
        if let Some(Operation::Child { child, started: false, id }) = self.pending.get(&seq)
            && child.await_start
            && let Ok(id) = id.parse()
        {
            self.stage(Job::ChildStarted { seq, outcome: Ok(id) });
        }
    }

    fn child_refused(&mut self, seq: Seq, failure: Failure) {
        match self.pending.get(&seq) {
            Some(Operation::Child { child, .. }) if child.await_start => {
                self.stage(Job::ChildStarted { seq, outcome: Err(failure) });
            }
            Some(Operation::Child { .. }) => self.stage(Job::ChildResolved { seq, outcome: Err(failure) }),
            _ => {}
        }
    }

    fn child_ended(&mut self, seq: Seq, outcome: Outcome) {
        if matches!(self.pending.get(&seq), Some(Operation::Child { .. })) {
            // It may have ended before anybody said that it had begun.
            self.child_started(seq);
            self.stage(Job::ChildResolved { seq, outcome });
        }
    }

    fn tick(&mut self) {
        if self.now >= self.deadline() {
            self.end(End::TimedOut);
            return;
        }
        if self.paused.is_some() {
            return;
        }
        if self.phase == Phase::Delayed && self.now >= self.started.not_before {
            self.begin_run();
        }
        if self.phase != Phase::Running {
            return;
        }
        while let Some(&(at, seq)) = self.waiting.first() {
            if at > self.now {
                break;
            }
            self.waiting.pop_first();
            match self.pending.get_mut(&seq) {
                Some(Operation::Activity { retry_at, attempt, .. }) => {
                    *retry_at = None;
                    self.effects.push(Effect::RunActivity { seq, attempt: *attempt });
                }
                _ => self.stage(Job::TimerFired { seq }),
            }
        }
    }

    fn begin_run(&mut self) {
        let has_slots = self
            .definition
            .workflow(&self.started.workflow)
            .is_some_and(|workflow| !workflow.slots.is_empty());
        if has_slots || !self.started.wishes.is_empty() {
            self.phase = Phase::Binding;
            self.effects.push(Effect::Preflight);
        } else {
            self.phase = Phase::Running;
            self.let_in();
        }
    }

    fn bound(&mut self, bindings: Vec<Binding>) {
        self.bindings = bindings.into();
        self.phase = Phase::Running;
        self.let_in();
    }

    fn block(&mut self, difference: String) {
        // Search keys are stored in clear.
        let in_clear = SearchValue::Text(without_values(&difference));
        self.changed_keys.push((BLOCKED_KEY.into(), in_clear));
        let before = std::mem::replace(&mut self.phase, Phase::Blocked(difference));
        if matches!(before, Phase::Delayed | Phase::Binding) {
            self.not_begun = Some(before);
        }
        self.keep_out();
    }

    fn unblocked(&mut self) {
        self.changed_keys.push((BLOCKED_KEY.into(), SearchValue::Removed));
        self.phase = self.not_begun.take().unwrap_or(Phase::Running);
        self.let_in();
    }

    fn pause(&mut self, reason: String) {
        self.changed_keys.push((PAUSED_KEY.into(), SearchValue::Text(reason.clone())));
        self.paused = Some(reason);
        self.keep_out();
    }

    fn unpaused(&mut self) {
        self.changed_keys.push((PAUSED_KEY.into(), SearchValue::Removed));
        self.paused = None;
        self.let_in();
    }

    /// The workflow can be told from now on: what waits becomes the beginning of its next turn.
    fn let_in(&mut self) {
        let news = !self.backlog.is_empty() || (!self.activated && self.staged.is_empty());
        if !self.open_to_news() || !news {
            return;
        }
        if !self.activated {
            self.staged.push(Job::Started);
        }
        self.carried = self.recorded;
        self.staged.append(&mut self.backlog);
        self.recorded = 0;
    }

    /// The workflow cannot be told any more: what it was about to be told waits, and so does what was about to begin.
    fn keep_out(&mut self) {
        self.effects.retain(|effect| effect.begins().is_none() || effect.outlives());
        self.effects.push(Effect::Hold);
        if self.backlog.is_empty() {
            self.backlog = std::mem::take(&mut self.staged);
            self.backlog.retain(|job| *job != Job::Started);
            self.recorded = std::mem::take(&mut self.carried);
        }
    }

    /// Notes that something happened, for the next activation.
    fn stage(&mut self, job: Job) {
        self.note(&job);
        if self.open_to_news() {
            self.staged.push(job);
        } else {
            self.backlog.push(job);
        }
    }

    fn note(&mut self, job: &Job) {
        match job {
            Job::Started => {}
            Job::CancelRequested { reason } => {
                self.asked_before_it_began |= !self.activated;
                self.cancel_requested.get_or_insert_with(|| reason.clone());
            }
            Job::ActivityResolved { seq, .. }
            | Job::TimerFired { seq }
            | Job::ToolResolved { seq, .. }
            | Job::AuthResolved { seq, .. }
            | Job::ChildStarted { seq, outcome: Err(_) }
            | Job::ChildResolved { seq, .. }
            | Job::ExternalResolved { seq, .. } => drop(self.forget(*seq)),
            Job::ChildStarted { seq, outcome: Ok(begun) } => {
                if let Some(Operation::Child { started, id, .. }) = self.pending.get_mut(seq) {
                    *started = true;
                    // What the workflow was told holds, also in a run that was reset, whose own children have other ids.
                    *id = begun.to_string();
                }
            }
            Job::Signal { id, .. } => self.signals.extend(id.clone()),
            Job::Update { id, .. } => {
                self.updates.entry(id.clone()).or_insert(true);
            }
        }
    }

    fn forget(&mut self, seq: Seq) -> Option<Operation> {
        let operation = self.pending.remove(&seq);
        let at = match &operation {
            Some(Operation::Timer { at }) => Some(*at),
            Some(Operation::Activity { retry_at, .. }) => *retry_at,
            _ => None,
        };
        if let Some(at) = at {
            self.waiting.remove(&(at, seq));
        }
        operation
    }

    /// What the workflow is to be told next.
    pub fn jobs(&self) -> &[Job] {
        if self.open_to_news() { &self.staged } else { &[] }
    }

    /// Takes the workflow's answer to [`Machine::jobs`]. Fails, with the machine unchanged, when the commands break the
    /// interface's rules: a number that was used before, an answer to an update that nobody sent, or commands after
    /// the end.
    pub fn commands(&mut self, commands: Vec<Command>) -> Result<(), String> {
        self.check(&commands)?;
        let jobs = std::mem::take(&mut self.staged);
        self.carried = 0;
        self.carry_out(&commands);
        self.records.push(Record::Activation { jobs, commands });
        Ok(())
    }

    fn check(&self, commands: &[Command]) -> Result<(), String> {
        let mut last = self.last_seq;
        let mut answered = HashSet::new();
        for (position, command) in commands.iter().enumerate() {
            match command {
                Command::ScheduleActivity { seq, .. }
                | Command::StartTimer { seq, .. }
                | Command::CallTool { seq, .. }
                | Command::ListTools { seq, .. }
                | Command::AwaitAuth { seq, .. }
                | Command::StartChild { seq, .. }
                | Command::SignalExternal { seq, .. }
                | Command::CancelExternal { seq, .. } => {
                    if *seq <= last {
                        return Err(format!("the workflow used operation number {seq} after {last}"));
                    }
                    last = *seq;
                }
                Command::UpdateAccepted { id }
                | Command::UpdateRejected { id, .. }
                | Command::UpdateCompleted { id, .. } => {
                    if self.updates.get(id) != Some(&true) || answered.contains(id) {
                        return Err(format!("the workflow answered the update '{id}', which does not wait"));
                    }
                    if !matches!(command, Command::UpdateAccepted { .. }) {
                        answered.insert(id);
                    }
                }
                Command::Complete { .. }
                | Command::Fail { .. }
                | Command::Cancelled
                | Command::ContinueAsNew { .. } => {
                    if position + 1 != commands.len() {
                        return Err("the workflow gave commands after its end".into());
                    }
                }
                Command::Cancel { .. }
                | Command::EmitEvent { .. }
                | Command::UpsertSearchKeys { .. }
                | Command::Patched { .. } => {}
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, commands: &[Command]) {
        self.activated = true;
        for command in commands {
            match command {
                Command::ScheduleActivity { seq, activity, input, options } => {
                    let options = match self.definition.activity(activity) {
                        Some(definition) => options.or(&definition.options),
                        None => options.clone(),
                    };
                    let operation = Operation::Activity {
                        activity: activity.clone(),
                        input: input.clone(),
                        options,
                        attempt: 1,
                        scheduled_at: self.now,
                        retry_at: None,
                        outage: Outage::default(),
                        details: None,
                    };
                    self.begin(*seq, operation, Some(Effect::RunActivity { seq: *seq, attempt: 1 }));
                }
                Command::StartTimer { seq, duration } => {
                    let at = self.now.saturating_add(millis(*duration));
                    self.waiting.insert((at, *seq));
                    self.begin(*seq, Operation::Timer { at }, None);
                }
                Command::CallTool { seq, slot, tool, arguments, options } => {
                    let operation = Operation::Tool {
                        slot: slot.clone(),
                        tool: tool.clone(),
                        arguments: arguments.clone(),
                        options: options.clone(),
                    };
                    self.begin(*seq, operation, Some(Effect::CallTool { seq: *seq }));
                }
                Command::ListTools { seq, slot } => {
                    let operation = Operation::ToolList { slot: slot.clone() };
                    self.begin(*seq, operation, Some(Effect::CallTool { seq: *seq }));
                }
                Command::AwaitAuth { seq, slot } => {
                    let operation = Operation::Auth { slot: slot.clone(), since: self.now };
                    self.begin(*seq, operation, Some(Effect::AwaitAuth { seq: *seq }));
                }
                Command::StartChild { seq, child } => {
                    self.has_children = true;
                    let id = match &child.execution_id {
                        Some(id) => id.clone(),
                        None => Uuid::new_v5(&self.run.0, &seq.to_be_bytes()).to_string(),
                    };
                    let effect = Effect::StartChild { seq: *seq, id: id.clone(), child: child.clone() };
                    let operation = Operation::Child { id, child: child.clone(), started: false };
                    self.begin(*seq, operation, Some(effect));
                }
                Command::SignalExternal { seq, execution_id, name, input } => {
                    let message = ExternalMessage::Signal { name: name.clone(), input: input.clone() };
                    self.external(*seq, execution_id, message);
                }
                Command::CancelExternal { seq, execution_id, reason } => {
                    self.external(*seq, execution_id, ExternalMessage::Cancel(reason.clone()));
                }
                Command::Cancel { seq } => self.give_up(*seq),
                Command::UpsertSearchKeys { keys } => self.upsert(keys),
                Command::UpdateRejected { id, .. } | Command::UpdateCompleted { id, .. } => {
                    self.updates.insert(id.clone(), false);
                }
                Command::EmitEvent { .. } | Command::Patched { .. } | Command::UpdateAccepted { .. } => {}
                Command::Complete { result } => {
                    self.result = Some(result.clone());
                    self.finish(Status::Completed);
                }
                Command::Fail { failure } => self.failed(failure.clone()),
                Command::Cancelled => self.finish(Status::Canceled),
                Command::ContinueAsNew { workflow, input } => {
                    self.continued_as_new(workflow.as_ref(), input);
                }
            }
        }
    }

    fn external(&mut self, seq: Seq, execution_id: &str, message: ExternalMessage) {
        let operation = Operation::External { execution_id: execution_id.to_owned(), message };
        self.begin(seq, operation, Some(Effect::Tell { seq }));
    }

    /// Keys beyond the limit are left out: losing a label must not end an execution.
    fn upsert(&mut self, keys: &[(String, SearchValue)]) {
        for (name, value) in keys {
            let kept = match value {
                SearchValue::Removed => self.search_keys.remove(name).is_some(),
                _ if self.is_full_for(name) => false,
                SearchValue::Text(text) => {
                    self.search_keys.insert(name.clone(), Some(text.clone()));
                    true
                }
                SearchValue::Null => {
                    self.search_keys.insert(name.clone(), None);
                    true
                }
            };
            if kept {
                self.changed_keys.push((name.clone(), value.clone()));
            }
        }
    }

    fn is_full_for(&self, name: &str) -> bool {
        let own = |name: &str| name.starts_with("internal.");
        let count = self.search_keys.keys().filter(|name| !own(name)).count();
        count >= SEARCH_KEYS && !own(name) && !self.search_keys.contains_key(name)
    }

    fn begin(&mut self, seq: Seq, operation: Operation, effect: Option<Effect>) {
        self.last_seq = seq;
        self.pending.insert(seq, operation);
        self.effects.extend(effect);
    }

    /// Notes which run takes this one's place.
    pub fn continued(&mut self, run_id: RunId, reason: Continuation) {
        self.records.push(Record::Continued { run_id, reason });
    }

    /// What is to be appended to the history.
    pub fn take_records(&mut self) -> Vec<Record> {
        if self.backlog.len() > self.recorded {
            let jobs = self.backlog.get(self.recorded..).unwrap_or_default().to_vec();
            self.recorded = self.backlog.len();
            self.records.push(Record::Received { jobs });
        }
        let mut counted = 0;
        self.count(&mut counted);
        if !self.ended() && self.size.reaches(&HistorySize::LIMIT) {
            let HistorySize { events, bytes } = HistorySize::LIMIT;
            self.end(End::Failed(Failure::permanent(
                Failure::HISTORY_LIMIT,
                format!(
                    "the history has reached its limit of {events} events or {bytes} bytes: continue as new before, \
                     when `should_continue_as_new` says so"
                ),
            )));
            self.count(&mut counted);
        }
        std::mem::take(&mut self.records)
    }

    fn count(&mut self, counted: &mut usize) {
        for record in self.records.iter().skip(*counted) {
            self.size.add(record);
        }
        *counted = self.records.len();
    }

    /// What is to be done once the records are durable.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Search keys that have changed since this was last asked.
    pub fn take_search_keys(&mut self) -> Vec<(String, SearchValue)> {
        std::mem::take(&mut self.changed_keys)
    }

    /// Reads a record back, in the order of the history.
    pub fn replay(&mut self, at: UnixMs, record: &Record) -> Result<(), Nonsense> {
        let index = self.replayed;
        let nonsense = |problem: &str| Nonsense { index, problem: problem.into() };
        self.replayed += 1;
        self.now = self.now.max(at);
        self.size.add(record);
        if self.ended() && !matches!(record, Record::Continued { .. }) {
            return Err(nonsense("it comes after the end"));
        }
        match record {
            Record::Started(_) => return Err(nonsense("the execution starts twice")),
            Record::Bound { bindings } => self.bound(bindings.clone()),
            Record::Activation { jobs, commands } => {
                self.phase = Phase::Running;
                for job in jobs {
                    self.note(job);
                }
                // A turn begins with all that has waited for it.
                self.staged.clear();
                self.backlog.clear();
                (self.carried, self.recorded) = (0, 0);
                self.check(commands).map_err(|problem| nonsense(&problem))?;
                self.carry_out(commands);
            }
            Record::AttemptFailed { seq, attempt, failure, retry_at, details, waited } => {
                self.attempt_failed(*seq, *attempt, failure, *retry_at, details.clone(), *waited);
            }
            Record::Heartbeat { seq, details: said, .. } => {
                if let Some(Operation::Activity { details, .. }) = self.pending.get_mut(seq) {
                    *details = Some(said.clone());
                }
            }
            Record::Received { jobs } => {
                for job in jobs {
                    self.note(job);
                    self.backlog.push(job.clone());
                }
                self.recorded = self.backlog.len();
            }
            Record::Emitted { .. } | Record::Continued { .. } => {}
            Record::Ended { end } => self.record_end(end),
            Record::Blocked { difference } => self.block(difference.clone()),
            Record::Unblocked => self.unblocked(),
            Record::Paused { reason } => self.pause(reason.clone()),
            Record::Resumed => self.unpaused(),
            Record::Upgraded { .. } => {}
            Record::Copied { .. } => return Err(nonsense("it was not unpacked")),
        }
        self.effects.clear();
        self.changed_keys.clear();
        Ok(())
    }

    /// After a history was read back: everything that was under way has to be done again.
    pub fn resume(&mut self) {
        self.effects.clear();
        // A record that is read back outside its phase leaves what it holds for the next turn.
        self.let_in();
        self.go_on();
    }

    fn go_on(&mut self) {
        match self.phase {
            _ if self.paused.is_some() => {}
            Phase::Ended(_) | Phase::Blocked(_) | Phase::Delayed => {}
            Phase::Binding => self.effects.push(Effect::Preflight),
            Phase::Running => {
                for (&seq, operation) in &self.pending {
                    let effect = match operation {
                        Operation::Activity { attempt, retry_at: None, .. } => {
                            Effect::RunActivity { seq, attempt: *attempt }
                        }
                        Operation::Tool { .. } | Operation::ToolList { .. } => Effect::CallTool { seq },
                        Operation::Auth { .. } => Effect::AwaitAuth { seq },
                        Operation::Child { id, child, .. } => {
                            Effect::StartChild { seq, id: id.clone(), child: child.clone() }
                        }
                        Operation::External { .. } => Effect::Tell { seq },
                        Operation::Activity { .. } | Operation::Timer { .. } => continue,
                    };
                    self.effects.push(effect);
                }
            }
        }
    }
}

/// When the next try begins, if there is to be one.
fn next_try(
    failure: &Failure,
    policy: &RetryPolicy,
    attempt: u32,
    now: UnixMs,
    jitter: f64,
) -> Option<UnixMs> {
    let exhausted = policy.maximum_attempts != 0 && attempt >= policy.maximum_attempts;
    if failure.non_retryable || exhausted || policy.non_retryable_kinds.contains(&failure.kind) {
        return None;
    }
    // Whoever said when to come back is not asked before, if the policy has that much patience.
    let told = failure.uncalled().and_then(|uncalled| uncalled.retry_after);
    let told = told.filter(|told| *told <= policy.maximum_interval).unwrap_or_default();
    let wait = policy.wait_after(attempt).max(told);
    Some(now.saturating_add(millis(wait.saturating_add(wait.mul_f64(0.1 * jitter.clamp(0.0, 1.0))))))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
