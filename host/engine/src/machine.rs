//! The state of one execution, without clock, socket or database: time and news come in as arguments, what is to be
//! recorded and done goes out.
//!
//! ```text
//!            Started, no slots                 Activation … Complete | Fail | Cancelled
//!   New ───────────────────────────▶ Running ──────────────────────────────────────────▶ Ended
//!    │ Started, slots     Bound(ok) ▲  │   ▲                                              ▲ ▲ ▲
//!    └──────────────▶ Binding ──────┘  │   │ Unblocked                                    │ │ │
//!                        │             ▼   │                                              │ │ │
//!                        │           Blocked ── terminate ────────────────────────────────┘ │ │
//!                        └──── Bound(err), terminate, time over ────────────────────────────┘ │
//!                      Running ── trap, terminate, time over ─────────────────────────────────┘
//!
//!   operation            begins with         is ended by                       meanwhile
//!   Activity             ScheduleActivity    AttemptEnded, Cancel, the end     AttemptFailed starts the next attempt
//!   Timer                StartTimer          its time, Cancel, the end
//!   Tool, ToolList       CallTool, ListTools ToolEnded, Cancel, the end
//!   Auth                 AwaitAuth           AuthEnded, Cancel, the end
//! ```
//!
//! A turn goes like this: [`Machine::receive`] takes news, which may stage jobs; if [`Machine::jobs`] has any, the
//! workflow is activated with them and its commands go to [`Machine::commands`]; then [`Machine::take_records`] is
//! appended to the history, and once that is durable the [`Machine::take_effects`] are carried out. A history is read
//! back with [`Machine::replay`], and [`Machine::resume`] says what has to be done again. If a record cannot be made
//! durable the machine is thrown away and built from the history.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    ActivityOptions, Failure, Json, PluginDefinition, Principal, RetryPolicy, UserId,
    history::{Command, End, Job, Outcome, Record, Seq, Started, TaskEvent, UnixMs},
    store::{Status, Wake},
    tools::Binding,
};

/// News for an execution.
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
        /// 0 to 1, spreads retries.
        jitter: f64,
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
    /// An activity, or the host, emits a custom task event.
    Emit(TaskEvent),
    /// Somebody asks the execution to stop.
    Cancel(String),
    /// Somebody ends the execution by force.
    Terminate(String),
    /// The workflow's code trapped, twice.
    Trapped(Failure),
    /// A replay gave other commands than the history.
    Diverged(String),
    /// The execution is to be tried again.
    Unblock,
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
    /// Stop an operation; nobody wants its result.
    Stop {
        /// Which.
        seq: Seq,
    },
    /// The execution has ended; all that is still running for it is to be stopped.
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
        /// When it was scheduled.
        scheduled_at: UnixMs,
        /// When the attempt begins, if it waits.
        retry_at: Option<UnixMs>,
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
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
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

/// The state of one execution.
#[derive(Debug)]
pub struct Machine {
    definition: Arc<PluginDefinition>,
    started: Arc<Started>,
    started_at: UnixMs,
    phase: Phase,
    bindings: Arc<[Binding]>,
    pending: BTreeMap<Seq, Operation>,
    /// Timers and attempts that wait, by time.
    waiting: BTreeSet<(UnixMs, Seq)>,
    last_seq: Seq,
    activated: bool,
    cancel_requested: bool,
    result: Option<Json>,
    failure: Option<Failure>,
    now: UnixMs,
    replayed: u32,
    staged: Vec<Job>,
    records: Vec<Record>,
    effects: Vec<Effect>,
}

impl Machine {
    /// A new execution. Its first record is ready to be taken.
    pub fn start(definition: Arc<PluginDefinition>, started: Started, at: UnixMs) -> Self {
        let record = Record::Started(Box::new(started.clone()));
        let mut machine = Self::born(definition, started, at);
        machine.records.push(record);
        machine
    }

    /// An execution read back from its first record; the others follow through [`Machine::replay`].
    pub fn read(definition: Arc<PluginDefinition>, started: Started, at: UnixMs) -> Self {
        let mut machine = Self::born(definition, started, at);
        machine.replayed = 1;
        machine
    }

    fn born(definition: Arc<PluginDefinition>, started: Started, at: UnixMs) -> Self {
        let has_slots =
            definition.workflow(&started.workflow).is_some_and(|workflow| !workflow.slots.is_empty());
        let binds = has_slots || !started.wishes.is_empty();
        let mut machine = Self {
            definition,
            started: Arc::new(started),
            started_at: at,
            phase: if binds { Phase::Binding } else { Phase::Running },
            bindings: Arc::new([]),
            pending: BTreeMap::new(),
            waiting: BTreeSet::new(),
            last_seq: 0,
            activated: false,
            cancel_requested: false,
            result: None,
            failure: None,
            now: at,
            replayed: 0,
            staged: Vec::new(),
            records: Vec::new(),
            effects: Vec::new(),
        };
        if binds {
            machine.effects.push(Effect::Preflight);
        } else {
            machine.staged.push(Job::Started);
        }
        machine
    }

    /// How the execution began.
    pub fn started(&self) -> &Arc<Started> {
        &self.started
    }

    /// What the plugin says of itself.
    pub fn definition(&self) -> &Arc<PluginDefinition> {
        &self.definition
    }

    /// When the execution began.
    pub fn started_at(&self) -> UnixMs {
        self.started_at
    }

    /// The latest time the machine has seen; time never goes back for an execution.
    pub fn now(&self) -> UnixMs {
        self.now
    }

    /// With whose credentials services are called: the caller's if the workflow runs on behalf of its caller, else
    /// those that the workspace and the organisation share.
    pub fn acting_principal(&self) -> Principal {
        let caller = &self.started.principal;
        match self.definition.workflow(&self.started.workflow) {
            Some(workflow) if workflow.on_behalf_of => caller.clone(),
            _ => Principal { user: UserId::new(Principal::DEPLOYMENT), ..caller.clone() },
        }
    }

    /// The connectors of the slots.
    pub fn bindings(&self) -> &Arc<[Binding]> {
        &self.bindings
    }

    /// An operation that has not ended.
    pub fn operation(&self, seq: Seq) -> Option<&Operation> {
        self.pending.get(&seq)
    }

    /// The status on the wire.
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Ended(status) => status,
            _ => Status::Running,
        }
    }

    /// Whether the execution is over.
    pub fn ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// Why the execution is blocked.
    pub fn blocked(&self) -> Option<&str> {
        match &self.phase {
            Phase::Blocked(difference) => Some(difference),
            _ => None,
        }
    }

    /// The result of a completed execution.
    pub fn result(&self) -> Option<&Json> {
        self.result.as_ref()
    }

    /// The failure of one that failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// When the execution wants to be looked at.
    pub fn wake(&self) -> Wake {
        match &self.phase {
            Phase::Ended(_) | Phase::Blocked(_) => Wake::Never,
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
        match self.phase {
            Phase::Ended(_) | Phase::Blocked(_) => None,
            _ => Some(self.waiting.first().map_or(self.deadline(), |(at, _)| *at).min(self.deadline())),
        }
    }

    fn deadline(&self) -> UnixMs {
        self.started_at.saturating_add(millis(self.started.execution_timeout))
    }

    /// Takes news that came in at `now`. News for operations that have ended are ignored.
    pub fn receive(&mut self, input: Input, now: UnixMs) {
        self.now = self.now.max(now);
        match (&self.phase, input) {
            (Phase::Ended(_), _) => {}
            (_, Input::Terminate(reason)) => self.end(End::Terminated(reason)),
            (Phase::Blocked(_), Input::Unblock) => {
                self.phase = Phase::Running;
                self.records.push(Record::Unblocked);
            }
            (Phase::Blocked(_), _) | (_, Input::Unblock) => {}
            (_, Input::Diverged(difference)) => {
                self.staged.clear();
                self.records.push(Record::Blocked { difference: difference.clone() });
                self.phase = Phase::Blocked(difference);
            }
            (_, Input::Trapped(failure)) => self.end(End::Failed(failure)),
            (_, Input::Emit(event)) => self.records.push(Record::Emitted { event }),
            (_, Input::Tick) => self.tick(),
            (Phase::Binding, Input::Bound(Ok(bindings))) => {
                self.records.push(Record::Bound { bindings: bindings.clone() });
                self.bound(bindings);
            }
            (Phase::Binding, Input::Bound(Err(failure))) => self.end(End::Failed(failure)),
            (Phase::Running, Input::Bound(_)) => {}
            // There is no code to be polite to yet.
            (Phase::Binding, Input::Cancel(reason)) => {
                self.records.push(Record::Activation {
                    jobs: vec![Job::CancelRequested { reason }],
                    commands: vec![Command::Cancelled],
                });
                self.finish(Status::Canceled);
            }
            (Phase::Running, Input::Cancel(reason)) => {
                if !self.cancel_requested {
                    self.stage(Job::CancelRequested { reason });
                }
            }
            (_, Input::AttemptEnded { seq, attempt, outcome, jitter }) => {
                self.attempt_ended(seq, attempt, outcome, jitter);
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
        }
    }

    fn attempt_ended(&mut self, seq: Seq, attempt: u32, outcome: Outcome, jitter: f64) {
        let Some(Operation::Activity { attempt: current, options, scheduled_at, retry_at: None, .. }) =
            self.pending.get(&seq)
        else {
            return;
        };
        if *current != attempt {
            return;
        }
        let retry_at = match &outcome {
            Ok(_) => None,
            Err(failure) => retry_at(failure, options, attempt, *scheduled_at, self.now, jitter),
        };
        match (outcome, retry_at) {
            (Err(failure), Some(retry_at)) => {
                self.records.push(Record::AttemptFailed { seq, attempt, failure, retry_at });
                self.attempt_failed(seq, attempt, retry_at);
            }
            (outcome, _) => self.stage(Job::ActivityResolved { seq, outcome }),
        }
    }

    fn attempt_failed(&mut self, seq: Seq, failed: u32, at: UnixMs) {
        if let Some(Operation::Activity { attempt, retry_at, .. }) = self.pending.get_mut(&seq) {
            *attempt = failed + 1;
            // In a replay nobody has taken the wait for the attempt before away.
            if let Some(before) = retry_at.replace(at) {
                self.waiting.remove(&(before, seq));
            }
            self.waiting.insert((at, seq));
        }
    }

    fn tick(&mut self) {
        if self.now >= self.deadline() {
            self.end(End::TimedOut);
            return;
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

    fn bound(&mut self, bindings: Vec<Binding>) {
        self.bindings = bindings.into();
        self.phase = Phase::Running;
        self.staged.push(Job::Started);
    }

    /// Notes that something happened, for the next activation.
    fn stage(&mut self, job: Job) {
        match &job {
            Job::Started => {}
            Job::CancelRequested { .. } => self.cancel_requested = true,
            Job::ActivityResolved { seq, .. }
            | Job::TimerFired { seq }
            | Job::ToolResolved { seq, .. }
            | Job::AuthResolved { seq, .. } => self.forget(*seq),
        }
        self.staged.push(job);
    }

    fn forget(&mut self, seq: Seq) {
        let at = match self.pending.remove(&seq) {
            Some(Operation::Timer { at }) => Some(at),
            Some(Operation::Activity { retry_at, .. }) => retry_at,
            _ => None,
        };
        if let Some(at) = at {
            self.waiting.remove(&(at, seq));
        }
    }

    /// What the workflow is to be told next.
    pub fn jobs(&self) -> &[Job] {
        if self.phase == Phase::Running { &self.staged } else { &[] }
    }

    /// Takes the workflow's answer to [`Machine::jobs`]. Fails, with the machine unchanged, when the commands break the
    /// interface's rules: a number that was used before, or commands after the end.
    pub fn commands(&mut self, commands: Vec<Command>) -> Result<(), String> {
        self.check(&commands)?;
        let jobs = std::mem::take(&mut self.staged);
        self.carry_out(&commands);
        self.records.push(Record::Activation { jobs, commands });
        Ok(())
    }

    fn check(&self, commands: &[Command]) -> Result<(), String> {
        let mut last = self.last_seq;
        for (position, command) in commands.iter().enumerate() {
            match command {
                Command::ScheduleActivity { seq, .. }
                | Command::StartTimer { seq, .. }
                | Command::CallTool { seq, .. }
                | Command::ListTools { seq, .. }
                | Command::AwaitAuth { seq, .. } => {
                    if *seq <= last {
                        return Err(format!("the workflow used operation number {seq} after {last}"));
                    }
                    last = *seq;
                }
                Command::Complete { .. } | Command::Fail { .. } | Command::Cancelled => {
                    if position + 1 != commands.len() {
                        return Err("the workflow gave commands after its end".into());
                    }
                }
                Command::Cancel { .. } | Command::EmitEvent { .. } => {}
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
                    };
                    self.begin(*seq, operation, Some(Effect::RunActivity { seq: *seq, attempt: 1 }));
                }
                Command::StartTimer { seq, duration } => {
                    let at = self.now.saturating_add(millis(*duration));
                    self.waiting.insert((at, *seq));
                    self.begin(*seq, Operation::Timer { at }, None);
                }
                Command::CallTool { seq, slot, tool, arguments } => {
                    let operation = Operation::Tool {
                        slot: slot.clone(),
                        tool: tool.clone(),
                        arguments: arguments.clone(),
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
                Command::Cancel { seq } => {
                    if self.pending.contains_key(seq) {
                        self.forget(*seq);
                        self.effects.push(Effect::Stop { seq: *seq });
                    }
                }
                Command::EmitEvent { .. } => {}
                Command::Complete { result } => {
                    self.result = Some(result.clone());
                    self.finish(Status::Completed);
                }
                Command::Fail { failure } => {
                    self.failure = Some(failure.clone());
                    self.finish(Status::Failed);
                }
                Command::Cancelled => self.finish(Status::Canceled),
            }
        }
    }

    fn begin(&mut self, seq: Seq, operation: Operation, effect: Option<Effect>) {
        self.last_seq = seq;
        self.pending.insert(seq, operation);
        self.effects.extend(effect);
    }

    fn end(&mut self, end: End) {
        self.record_end(&end);
        self.records.push(Record::Ended { end });
    }

    fn record_end(&mut self, end: &End) {
        let status = match end {
            End::Failed(failure) => {
                self.failure = Some(failure.clone());
                Status::Failed
            }
            End::TimedOut => {
                self.failure = Some(Failure::permanent(
                    Failure::TIMEOUT,
                    format!(
                        "the execution took longer than its limit of {:?}",
                        self.started.execution_timeout
                    ),
                ));
                Status::TimedOut
            }
            End::Terminated(reason) => {
                self.failure = Some(Failure::permanent("Terminated", reason.clone()));
                Status::Terminated
            }
        };
        self.finish(status);
    }

    fn finish(&mut self, status: Status) {
        self.phase = Phase::Ended(status);
        self.pending.clear();
        self.waiting.clear();
        self.staged.clear();
        // What was asked for in the same turn has lost its purpose.
        self.effects.clear();
        self.effects.push(Effect::Finish);
    }

    /// What is to be appended to the history.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// What is to be done once the records are durable.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Reads a record back, in the order of the history.
    pub fn replay(&mut self, at: UnixMs, record: &Record) -> Result<(), Nonsense> {
        let index = self.replayed;
        let nonsense = |problem: &str| Nonsense { index, problem: problem.into() };
        self.replayed += 1;
        self.now = self.now.max(at);
        if self.ended() {
            return Err(nonsense("it comes after the end"));
        }
        match record {
            Record::Started(_) => return Err(nonsense("the execution starts twice")),
            Record::Bound { bindings } => self.bound(bindings.clone()),
            Record::Activation { jobs, commands } => {
                self.staged.clear();
                for job in jobs {
                    self.stage(job.clone());
                }
                self.staged.clear();
                self.check(commands).map_err(|problem| nonsense(&problem))?;
                self.carry_out(commands);
            }
            Record::AttemptFailed { seq, attempt, retry_at, .. } => {
                self.attempt_failed(*seq, *attempt, *retry_at)
            }
            Record::Emitted { .. } => {}
            Record::Ended { end } => self.record_end(end),
            Record::Blocked { difference } => self.phase = Phase::Blocked(difference.clone()),
            Record::Unblocked => self.phase = Phase::Running,
        }
        self.effects.clear();
        Ok(())
    }

    /// After a history was read back: everything that was under way has to be done again.
    pub fn resume(&mut self) {
        self.effects.clear();
        match self.phase {
            Phase::Ended(_) | Phase::Blocked(_) => {}
            Phase::Binding => self.effects.push(Effect::Preflight),
            Phase::Running => {
                if !self.activated {
                    self.staged = vec![Job::Started];
                }
                for (&seq, operation) in &self.pending {
                    match operation {
                        Operation::Activity { attempt, retry_at: None, .. } => {
                            self.effects.push(Effect::RunActivity { seq, attempt: *attempt });
                        }
                        Operation::Tool { .. } | Operation::ToolList { .. } => {
                            self.effects.push(Effect::CallTool { seq });
                        }
                        Operation::Auth { .. } => self.effects.push(Effect::AwaitAuth { seq }),
                        Operation::Activity { .. } | Operation::Timer { .. } => {}
                    }
                }
            }
        }
    }
}

/// When the next attempt begins, if there is to be one.
fn retry_at(
    failure: &Failure,
    options: &ActivityOptions,
    attempt: u32,
    scheduled_at: UnixMs,
    now: UnixMs,
    jitter: f64,
) -> Option<UnixMs> {
    let default = RetryPolicy::default();
    let policy = options.retry.as_ref().unwrap_or(&default);
    let exhausted = policy.maximum_attempts != 0 && attempt >= policy.maximum_attempts;
    if failure.non_retryable || exhausted || policy.non_retryable_kinds.contains(&failure.kind) {
        return None;
    }
    let factor = policy.backoff_coefficient.max(1.0).powi(attempt.min(1000) as i32 - 1);
    let wait = (policy.initial_interval.as_secs_f64() * factor).min(policy.maximum_interval.as_secs_f64());
    let wait = wait * (1.0 + 0.1 * jitter.clamp(0.0, 1.0));
    let at = now.saturating_add((wait * 1000.0) as u64);
    match options.schedule_to_close {
        Some(limit) if at >= scheduled_at.saturating_add(millis(limit)) => None,
        _ => Some(at),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
