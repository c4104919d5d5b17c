//! What takes time: attempts of activities and the workflow's own tool calls. Each runs as a task and posts its end.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Engine,
    call::Caller,
    cell::Cell,
    now_ms,
    operations::{Admission, Ticket},
    places::Share,
    waits::Waits,
};
use crate::{
    ActivityOptions, Failure, Json, RetryPolicy,
    guests::{ActivityCall, ActivityError, ActivityHost, GuestError},
    history::{Outcome, Seq, TaskEvent, UnixMs},
    machine::{Input, Machine, Operation},
    outage::Outage,
    tools::{AuthMoment, Binding, CallOptions, CallOrigin},
    witness::Step,
};

tokio::task_local! {
    /// What the task of an attempt does after the turn that its end brought about.
    static NEXT: RefCell<Option<BoxFuture<'static, ()>>>;
}

/// Runs an attempt on the task whose own attempt led to it, if that has nothing to do yet: a sequence of steps stays on
/// one task and pays for no change of threads. Otherwise on a task of its own.
fn chain(attempt: BoxFuture<'static, ()>) {
    let mut attempt = Some(attempt);
    // Fails outside of such a task.
    let _ = NEXT.try_with(|next| {
        let mut next = next.borrow_mut();
        if next.is_none() {
            *next = attempt.take();
        }
    });
    if let Some(attempt) = attempt {
        tokio::spawn(NEXT.scope(RefCell::new(None), async move {
            let mut next = Some(attempt);
            while let Some(attempt) = next {
                attempt.await;
                next = NEXT.with(|next| next.borrow_mut().take());
            }
        }));
    }
}

impl Engine {
    /// Runs an attempt, unless it runs already.
    pub(super) fn run_activity(&self, cell: &Arc<Cell>, machine: &Machine, seq: Seq, attempt: u32) {
        let Some(Operation::Activity { activity, input, options, scheduled_at, details, .. }) =
            machine.operation(seq)
        else {
            return;
        };
        let Some((engine, admission)) = self.admit(cell, seq, false) else { return };
        let started = Arc::clone(machine.started());
        let origin = engine.origin(cell, machine, seq);
        let call = ActivityCall {
            activity: activity.clone(),
            input: input.clone(),
            execution_id: cell.row.id.clone(),
            workflow: started.workflow.clone(),
            holder: started.principal.user.to_string(),
            idempotency_key: origin.idempotency_key.clone(),
            attempt,
            heartbeat_details: details.clone(),
        };
        let digest = machine.digest();
        let throttle = throttle(options);
        let bindings = Arc::clone(machine.bindings());
        let limits = Limits::new(options, *scheduled_at, now_ms());
        let share =
            Share { user: started.principal.user.clone(), workflow: started.workflow.as_str().into() };
        let waits = Waits::asked(&self.places, share);
        let cell = Arc::clone(cell);
        let work = async move {
            let ticket = admission.ticket(&cell.operations);
            match limits.stand_in_line(&waits, &ticket).await {
                Line::Place if ticket.begin() => {}
                // Nobody waits for it any more, or it is asked for again when the run goes on.
                Line::Place | Line::Left => return,
                Line::Late(failure) => {
                    let (outcome, details, waited) = (Err(failure), None, Duration::ZERO);
                    let input = Input::AttemptEnded { seq, attempt, outcome, details, waited, jitter: 0.0 };
                    return engine.settle(&cell, ticket, input).await;
                }
            }
            let running = engine.crashes.begin(Step::Operation { run: cell.row.run_id, seq, attempt });
            let host = Arc::new(Host {
                seq,
                attempt,
                details: parking_lot::Mutex::default(),
                recorded: AtomicU64::new(NEVER),
                throttle,
                cell: Arc::clone(&cell),
                engine: Arc::clone(&engine),
                bindings,
                origin,
                token: ticket.token().clone(),
                waits,
                heartbeat: AtomicU64::new(0),
                calls: AtomicU64::new(0),
            });
            let run = engine.guests.run_activity(&digest, call, Arc::clone(&host) as Arc<dyn ActivityHost>);
            let outcome = limits.watch(run, &host, engine.config.cancel_grace).await;
            let outcome = outcome.map_err(|error| match error {
                ActivityError::Failed(failure) => failure,
                // The code is not there, or the host has a problem of its own: a later attempt may find it mended.
                ActivityError::Guest(error @ (GuestError::Missing(_) | GuestError::Host(_))) => {
                    Failure::retryable("Host", error.to_string())
                }
                ActivityError::Guest(error) => Failure::retryable(Failure::TRAP, error.to_string()),
            });
            let (details, waited) = (host.details.lock().take(), host.waits.since_asked.stood());
            host.waits.end();
            drop(running);
            let input =
                Input::AttemptEnded { seq, attempt, outcome, details, waited, jitter: rand::random() };
            engine.settle(&cell, ticket, input).await;
        };
        chain(Box::pin(work));
    }

    /// Calls or lists tools for a workflow.
    pub(super) fn call_tool(&self, cell: &Arc<Cell>, machine: &Machine, seq: Seq) {
        let Some(operation) = machine.operation(seq).cloned() else { return };
        let Some((engine, admission)) = self.admit(cell, seq, false) else { return };
        let origin = engine.origin(cell, machine, seq);
        let bindings = Arc::clone(machine.bindings());
        let cell = Arc::clone(cell);
        tokio::spawn(async move {
            let ticket = admission.ticket(&cell.operations);
            if !ticket.begin() {
                return;
            }
            let mut patience = Patience::of(&operation);
            let outcome = loop {
                let call = async {
                    match &operation {
                        Operation::Tool { slot, tool, arguments, options } => {
                            options.check()?;
                            let binding = bound(&bindings, slot)?;
                            let caller = Caller {
                                engine: &engine,
                                cell: &cell,
                                origin: &origin,
                                token: ticket.token(),
                                waits: None,
                                number: 0,
                            };
                            caller.call(binding, tool, arguments, options).await
                        }
                        Operation::ToolList { slot } => {
                            engine.tools.list_tools(&origin, bound(&bindings, slot)?).await
                        }
                        _ => Err(Failure::permanent(Failure::INVALID_INPUT, "not a tool call")),
                    }
                };
                let running = engine.crashes.begin(Step::Operation { run: cell.row.run_id, seq, attempt: 1 });
                let outcome = until_cancelled(ticket.token(), call).await;
                drop(running);
                let Some(wait) = patience.wait(&outcome) else { break outcome };
                let pause = async {
                    tokio::time::sleep(wait).await;
                    outcome
                };
                match until_cancelled(ticket.token(), pause).await {
                    Err(failure) if failure.kind == Failure::CANCELLED => break Err(failure),
                    _ => {}
                }
            };
            engine.settle(&cell, ticket, Input::ToolEnded { seq, outcome }).await;
        });
    }

    /// Waits for authorisation for a workflow.
    pub(super) fn await_auth(&self, cell: &Arc<Cell>, machine: &Machine, seq: Seq) {
        let Some(Operation::Auth { slot, since }) = machine.operation(seq).cloned() else { return };
        let Some((engine, admission)) = self.admit(cell, seq, false) else { return };
        let origin = engine.origin(cell, machine, seq);
        let bindings = Arc::clone(machine.bindings());
        let cell = Arc::clone(cell);
        tokio::spawn(async move {
            let ticket = admission.ticket(&cell.operations);
            if !ticket.begin() {
                return;
            }
            let wait = async {
                let binding = bound(&bindings, &slot)?;
                engine.authorize(&cell, &origin, binding, AuthMoment::OnDemand, Some(since), None).await
            };
            let running = engine.crashes.begin(Step::Operation { run: cell.row.run_id, seq, attempt: 1 });
            let outcome = until_cancelled(ticket.token(), wait).await;
            drop(running);
            engine.settle(&cell, ticket, Input::AuthEnded { seq, outcome }).await;
        });
    }

    /// Lets an operation in; `None` if it is in already, or if its run has ended and it does not outlive it.
    pub(super) fn admit(&self, cell: &Cell, seq: Seq, outlives: bool) -> Option<(Arc<Self>, Admission)> {
        let engine = self.arc()?;
        let admission = cell.operations.admit(seq, outlives)?;
        Some((engine, admission))
    }

    /// Notes that an operation is under way no more, and delivers how it ended.
    pub(super) async fn settle(&self, cell: &Arc<Cell>, ticket: Ticket<'_>, input: Input) {
        drop(ticket);
        cell.post(input);
        self.drive(cell).await;
    }

    pub(super) fn origin(&self, cell: &Cell, machine: &Machine, seq: Seq) -> CallOrigin {
        CallOrigin {
            principal: machine.acting_principal(),
            execution: cell.row.id.clone(),
            // A run that was reset does its steps anew, so they are other steps.
            idempotency_key: cell.row.id.operation(machine.run(), seq),
        }
    }
}

/// The connector of a slot.
fn bound<'a>(bindings: &'a [Binding], slot: &str) -> Result<&'a Binding, Failure> {
    bindings.iter().find(|binding| binding.slot == slot).ok_or_else(|| {
        Failure::permanent(
            Failure::CONNECTOR,
            format!(
                "Connector '{slot}' is not resolved for this workflow. Add it to the workflow's `connectors(…)` so \
                 that it is checked before the workflow starts."
            ),
        )
    })
}

/// How long a workflow's own call is made again while it reaches nobody. It is known in memory alone: after a restart the
/// call begins anew.
struct Patience {
    policy: RetryPolicy,
    begun: Instant,
    outage: Outage,
}

impl Patience {
    /// Such a call has no policy. One that is not to be tried again inside is not tried again outside either.
    fn of(operation: &Operation) -> Self {
        let once = matches!(operation, Operation::Tool { options, .. } if options.retries == Some(0));
        let default = RetryPolicy::default();
        let maximum_attempts = if once { 1 } else { default.maximum_attempts };
        let policy = RetryPolicy { maximum_attempts, ..default };
        Self { policy, begun: Instant::now(), outage: Outage::default() }
    }

    /// How long to wait after a call that ended like this, before it is made again.
    fn wait(&mut self, outcome: &Outcome) -> Option<Duration> {
        let failure = outcome.as_ref().err()?;
        let now = UnixMs::try_from(self.begun.elapsed().as_millis()).unwrap_or(UnixMs::MAX);
        let wait = self.outage.wait(failure, &self.policy, now, rand::random())?;
        self.outage.note(failure, now);
        Some(wait)
    }
}

async fn until_cancelled(token: &CancellationToken, work: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        biased;
        () = token.cancelled() => Err(Failure::permanent(Failure::CANCELLED, "the operation was cancelled")),
        outcome = work => outcome,
    }
}

/// How long an activity and its attempt may take. Where each limit begins and ends is told in docs/durable-execution.md.
struct Limits {
    /// How long the attempt may stand in line for a place.
    schedule_to_start: Option<Duration>,
    /// From its place to its end.
    start_to_close: Duration,
    /// Of the activity, and what is left of it when the attempt is asked for.
    schedule_to_close: Option<(Duration, Duration)>,
    heartbeat: Option<Duration>,
}

/// How a wait for a place ended.
enum Line {
    /// With a place.
    Place,
    /// Nobody wants the attempt, for now or at all.
    Left,
    /// A limit came first.
    Late(Failure),
}

impl Limits {
    fn new(options: &ActivityOptions, scheduled_at: UnixMs, now: UnixMs) -> Self {
        let since = Duration::from_millis(now.saturating_sub(scheduled_at));
        Self {
            schedule_to_start: options.schedule_to_start,
            start_to_close: options.start_to_close.unwrap_or(ActivityOptions::DEFAULT_START_TO_CLOSE),
            schedule_to_close: options.schedule_to_close.map(|limit| (limit, limit.saturating_sub(since))),
            heartbeat: options.heartbeat,
        }
    }

    /// Waits for a place among those that run.
    async fn stand_in_line(&self, waits: &Waits, ticket: &Ticket<'_>) -> Line {
        let in_line = async {
            match self.schedule_to_start {
                Some(limit) => {
                    tokio::time::sleep(limit).await;
                    limit
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = ticket.token().cancelled() => Line::Left,
            failure = self.closes(waits) => Line::Late(failure),
            () = waits.begin() => Line::Place,
            limit = in_line => {
                let message = format!(
                    "no place was free within the schedule-to-start timeout of {limit:?}: so many activities run at once"
                );
                // Another attempt would only stand in the same line.
                Line::Late(Failure { non_retryable: true, ..Failure::timeout("schedule-to-start", message) })
            }
        }
    }

    /// Resolves when the activity as a whole has taken too long.
    async fn closes(&self, waits: &Waits) -> Failure {
        let Some((limit, rest)) = self.schedule_to_close else { return std::future::pending().await };
        waits.since_asked.reaches(rest).await;
        let message = format!(
            "the activity took longer than its schedule-to-close timeout of {limit:?}, with all its attempts and their \
             waits for a place"
        );
        // No other attempt has any time.
        Failure { non_retryable: true, ..Failure::timeout("schedule-to-close", message) }
    }

    /// Runs an attempt within its limits. A cancelled one has a moment to notice.
    async fn watch(
        &self,
        run: impl Future<Output = Result<Json, ActivityError>>,
        host: &Host,
        grace: Duration,
    ) -> Result<Json, ActivityError> {
        let timeout = |name: &str, limit: Duration| {
            let message = format!("the attempt took longer than its {name} timeout of {limit:?}");
            Err(ActivityError::Failed(Failure::timeout(name, message)))
        };
        tokio::select! {
            biased;
            outcome = run => outcome,
            failure = self.closes(&host.waits) => Err(ActivityError::Failed(failure)),
            () = host.waits.clock.reaches(self.start_to_close) => timeout("start-to-close", self.start_to_close),
            limit = host.silence(self.heartbeat) => timeout("heartbeat", limit),
            () = async { host.token.cancelled().await; tokio::time::sleep(grace).await } => {
                let message = "the activity was cancelled and did not stop by itself";
                Err(ActivityError::Failed(Failure::permanent(Failure::CANCELLED, message)))
            }
        }
    }
}

/// How often heartbeats with details are recorded: well before their absence would be noticed, and not for each of many.
fn throttle(options: &ActivityOptions) -> Duration {
    options.heartbeat.map_or(Duration::from_secs(30), |limit| limit.mul_f64(0.8).min(Duration::from_secs(60)))
}

/// What a running attempt may ask for.
struct Host {
    seq: Seq,
    attempt: u32,
    /// What the guest said with its last heartbeat.
    details: parking_lot::Mutex<Option<Json>>,
    /// When that was last recorded, or [`NEVER`].
    recorded: AtomicU64,
    /// How long to wait before it is recorded again.
    throttle: Duration,
    engine: Arc<Engine>,
    cell: Arc<Cell>,
    bindings: Arc<[Binding]>,
    origin: CallOrigin,
    token: CancellationToken,
    waits: Waits,
    /// When the guest last said that it is alive, in milliseconds on the attempt's clock.
    heartbeat: AtomicU64,
    /// Tool calls so far.
    calls: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Host {
    /// The time that the attempt has had. The wall clock may be set meanwhile.
    fn elapsed_ms(&self) -> u64 {
        self.waits.clock.passed().as_millis() as u64
    }

    /// Resolves when the guest has been silent for too long.
    async fn silence(&self, limit: Option<Duration>) -> Duration {
        let Some(limit) = limit else { return std::future::pending().await };
        self.heartbeat.store(self.elapsed_ms(), Ordering::Relaxed);
        loop {
            let due = Duration::from_millis(self.heartbeat.load(Ordering::Relaxed)).saturating_add(limit);
            if self.waits.clock.passed() >= due {
                return limit;
            }
            self.waits.clock.reaches(due).await;
        }
    }
}

#[async_trait]
impl ActivityHost for Host {
    async fn call_tool(
        &self,
        slot: &str,
        tool: &str,
        arguments: Json,
        options: CallOptions,
    ) -> Result<Json, Failure> {
        let binding = bound(&self.bindings, slot)?;
        let caller = Caller {
            engine: &self.engine,
            cell: &self.cell,
            origin: &self.origin,
            token: &self.token,
            waits: Some(&self.waits),
            number: self.calls.fetch_add(1, Ordering::Relaxed),
        };
        caller.call(binding, tool, &arguments, &options).await
    }

    async fn list_tools(&self, slot: &str) -> Result<Json, Failure> {
        self.engine.tools.list_tools(&self.origin, bound(&self.bindings, slot)?).await
    }

    async fn await_auth(&self, slot: &str) -> Result<Json, Failure> {
        let binding = bound(&self.bindings, slot)?;
        let (moment, waits) = (AuthMoment::OnDemand, Some(&self.waits));
        self.engine.authorize(&self.cell, &self.origin, binding, moment, None, waits).await
    }

    fn emit_event(&self, event: TaskEvent) -> Result<(), Failure> {
        self.engine.emit(&self.cell, event);
        Ok(())
    }

    fn heartbeat(&self, details: Option<Json>) {
        let now = self.elapsed_ms();
        self.heartbeat.store(now, Ordering::Relaxed);
        let Some(details) = details else { return };
        *self.details.lock() = Some(details.clone());
        let recorded = self.recorded.load(Ordering::Relaxed);
        if recorded == NEVER || now.saturating_sub(recorded) >= self.throttle.as_millis() as u64 {
            self.recorded.store(now, Ordering::Relaxed);
            self.cell.post(Input::Heartbeat { seq: self.seq, attempt: self.attempt, details });
            let (engine, cell) = (Arc::clone(&self.engine), Arc::clone(&self.cell));
            tokio::spawn(async move { engine.drive(&cell).await });
        }
    }

    fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    async fn cancelled(&self) {
        self.token.cancelled().await;
    }
}
