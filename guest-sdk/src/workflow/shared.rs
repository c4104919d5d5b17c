//! What a run's context, its operations and its executor share. Everything is on one thread.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    task::Waker,
};

use super::{
    declared::{Declared, Kind},
    handlers::Handlers,
    pending::Pending,
    protocol::{Command, Init, Request, Turn},
    random::Random,
};
use crate::{Error, Result, TaskEvent, log};

/// Makes the input of a next run from the plain JSON of a value.
pub(crate) type NextInput = fn(String) -> Result<String>;

pub(crate) struct Shared {
    pub(crate) workflow: String,
    pub(crate) execution_id: String,
    pub(crate) run_id: String,
    pub(crate) parent: Option<String>,
    pub(crate) attempt: u32,
    /// What makes the input of a next run, as the workflow's type says.
    pub(crate) next_input: Cell<Option<NextInput>>,
    /// What the workflow says of itself.
    pub(crate) declared: Cell<Declared>,
    /// What it used and did not declare.
    undeclared: RefCell<Option<Error>>,
    /// What takes messages.
    pub(crate) handlers: Handlers,
    /// What people are asked for.
    inputs: Pending,
    /// Above 0 while a future inside `shield` is polled.
    pub(crate) shields: Cell<u32>,
    state: RefCell<State>,
}

struct State {
    now_ms: u64,
    replaying: bool,
    history_events: u64,
    continue_as_new_suggested: bool,
    /// Patches that apply, and those that a command says so of.
    patches: BTreeSet<String>,
    noted: BTreeSet<String>,
    /// Those who wait for a condition, and how many conditions have come true so far.
    conditions: Vec<Waker>,
    fulfilled: u64,
    /// A question is being answered: nothing may change.
    querying: bool,
    /// The answer would have changed something.
    query_changed: bool,
    random: Random,
    next_seq: u32,
    commands: Vec<Command>,
    /// Those under way, and those that have ended and were not looked at yet. Ordered, because cancelling goes through them.
    operations: BTreeMap<u32, Operation>,
    cancel_reason: Option<String>,
    cancel_waiters: BTreeMap<u64, Waker>,
    next_waiter: u64,
    spawned: Vec<Spawned>,
    /// The run is over, or its instance is being dropped: nothing said now is a command.
    closed: bool,
}

struct Operation {
    shielded: bool,
    waker: Waker,
    /// The execution id of a child that has begun.
    started: Option<String>,
    outcome: Option<Result<String>>,
}

/// A future that waits for its first turn.
pub(crate) struct Spawned {
    pub(crate) future: Pin<Box<dyn Future<Output = ()>>>,
    pub(crate) shielded: bool,
}

impl Shared {
    pub(crate) fn new(init: Init) -> Self {
        Self {
            workflow: init.workflow,
            execution_id: init.execution_id,
            run_id: init.run_id,
            parent: init.parent,
            attempt: init.attempt,
            next_input: Cell::new(None),
            declared: Cell::default(),
            undeclared: RefCell::default(),
            handlers: Handlers::default(),
            inputs: Pending::default(),
            shields: Cell::new(0),
            state: RefCell::new(State {
                now_ms: init.started_at_ms,
                replaying: false,
                history_events: 0,
                continue_as_new_suggested: false,
                patches: BTreeSet::new(),
                noted: BTreeSet::new(),
                conditions: Vec::new(),
                fulfilled: 0,
                querying: false,
                query_changed: false,
                random: Random::new(init.seed),
                next_seq: 1,
                commands: Vec::new(),
                operations: BTreeMap::new(),
                cancel_reason: None,
                cancel_waiters: BTreeMap::new(),
                next_waiter: 0,
                spawned: Vec::new(),
                closed: false,
            }),
        }
    }

    pub(crate) fn pending_inputs(&self) -> Pending {
        self.inputs.clone()
    }

    /// Keeps in mind that the workflow uses a handler that it has not declared, and says so in the log.
    pub(crate) fn uses(&self, kind: Kind, name: &str) {
        if let Err(error) = self.declared.get().check(&self.workflow, kind, name) {
            let mut first = self.undeclared.borrow_mut();
            if first.is_none() {
                log::error!("{error}");
                *first = Some(error);
            }
        }
    }

    /// What it used first of what it has not declared.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn undeclared(&self) -> Option<Error> {
        self.undeclared.borrow().clone()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.state.borrow().now_ms
    }

    pub(crate) fn set_turn(&self, turn: Turn) {
        let mut state = self.state.borrow_mut();
        state.now_ms = turn.now_ms;
        state.replaying = turn.replaying;
        state.history_events = turn.history_events;
        state.continue_as_new_suggested = turn.continue_as_new_suggested;
        state.patches.extend(turn.patches);
    }

    pub(crate) fn history_events(&self) -> u64 {
        self.state.borrow().history_events
    }

    pub(crate) fn continue_as_new_suggested(&self) -> bool {
        self.state.borrow().continue_as_new_suggested
    }

    /// Whether a patch applies. It does from the first turn on in which somebody asked and that is not a repetition.
    pub(crate) fn patched(&self, id: &str) -> bool {
        let mut state = self.state.borrow_mut();
        if state.patches.contains(id) {
            // What is noted once in a turn is noted again when that turn is repeated.
            if state.noted.insert(id.to_owned()) && !state.closed {
                state.commands.push(Command::Patched(id.to_owned()));
            }
            return true;
        }
        if state.replaying || state.querying {
            return false;
        }
        state.patches.insert(id.to_owned());
        state.noted.insert(id.to_owned());
        if !state.closed {
            state.commands.push(Command::Patched(id.to_owned()));
        }
        true
    }

    /// Answers a question with `answer`, which may change nothing.
    pub(crate) fn query<T>(&self, answer: impl FnOnce() -> Result<T>) -> Result<T> {
        let random = {
            let mut state = self.state.borrow_mut();
            state.querying = true;
            state.query_changed = false;
            state.random.clone()
        };
        let answered = answer();
        let mut state = self.state.borrow_mut();
        state.querying = false;
        state.random = random;
        if state.query_changed {
            return Err(Error::new(Error::INVALID_OUTPUT, "a query cannot start, send or show anything")
                .non_retryable());
        }
        answered
    }

    pub(crate) fn await_condition(&self, waker: &Waker) {
        self.state.borrow_mut().conditions.push(waker.clone());
    }

    pub(crate) fn condition_is_true(&self) {
        self.state.borrow_mut().fulfilled += 1;
    }

    /// Wakes everybody who waits for a condition. Whether there was anybody.
    pub(crate) fn wake_conditions(&self) -> bool {
        let waiting = std::mem::take(&mut self.state.borrow_mut().conditions);
        let any = !waiting.is_empty();
        waiting.into_iter().for_each(Waker::wake);
        any
    }

    pub(crate) fn fulfilled(&self) -> u64 {
        self.state.borrow().fulfilled
    }

    pub(crate) fn random(&self) -> u64 {
        self.state.borrow_mut().random.next()
    }

    pub(crate) fn uuid(&self) -> String {
        self.state.borrow_mut().random.uuid()
    }

    pub(crate) fn emit(&self, event: TaskEvent) {
        self.command(Command::Emit(event));
    }

    pub(crate) fn command(&self, command: Command) {
        let mut state = self.state.borrow_mut();
        if state.querying {
            state.query_changed = true;
        } else if !state.closed {
            state.commands.push(command);
        }
    }

    pub(crate) fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut self.state.borrow_mut().commands)
    }

    pub(crate) fn close(&self) {
        self.state.borrow_mut().closed = true;
    }

    pub(crate) fn spawn(&self, future: Pin<Box<dyn Future<Output = ()>>>) {
        let shielded = self.is_shielded();
        let mut state = self.state.borrow_mut();
        if state.querying {
            state.query_changed = true;
        } else {
            state.spawned.push(Spawned { future, shielded });
        }
    }

    pub(crate) fn take_spawned(&self) -> Vec<Spawned> {
        std::mem::take(&mut self.state.borrow_mut().spawned)
    }

    pub(crate) fn is_shielded(&self) -> bool {
        self.shields.get() > 0
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.borrow().cancel_reason.is_some()
    }

    pub(crate) fn cancel_reason(&self) -> Option<String> {
        self.state.borrow().cancel_reason.clone()
    }

    /// Starts an operation and gives its number; refuses when the execution is cancelled and nothing shields it.
    pub(crate) fn begin(&self, request: Request, shielded: bool, waker: Waker) -> Result<u32> {
        let mut state = self.state.borrow_mut();
        if let (Some(reason), false) = (&state.cancel_reason, shielded) {
            return Err(Error::cancelled(reason));
        }
        if state.querying {
            state.query_changed = true;
            return Err(Error::new(Error::INVALID_OUTPUT, "a query cannot wait for anything").non_retryable());
        }
        let seq = state.next_seq;
        state.next_seq += 1;
        if !state.closed {
            state.commands.push(Command::Begin(seq, request));
        }
        state.operations.insert(seq, Operation { shielded, waker, started: None, outcome: None });
        Ok(seq)
    }

    /// The outcome of an operation, once; until then `waker` is kept for when it is there.
    pub(crate) fn poll(&self, seq: u32, waker: &Waker) -> Option<Result<String>> {
        let mut state = self.state.borrow_mut();
        let operation = state.operations.get_mut(&seq)?;
        match operation.outcome.take() {
            Some(outcome) => {
                state.operations.remove(&seq);
                Some(outcome)
            }
            None => {
                operation.waker.clone_from(waker);
                None
            }
        }
    }

    /// The execution id of a child once it has begun; a failure before that is its end.
    pub(crate) fn poll_started(&self, seq: u32, waker: &Waker) -> Option<Result<String>> {
        let mut state = self.state.borrow_mut();
        let operation = state.operations.get_mut(&seq)?;
        if let Some(id) = &operation.started {
            return Some(Ok(id.clone()));
        }
        if operation.outcome.is_some() {
            let ended = state.operations.remove(&seq)?.outcome?;
            return Some(
                ended.and_then(|_| Err(Error::new(Error::INVALID_OUTPUT, "the child ended before it began"))),
            );
        }
        operation.waker.clone_from(waker);
        None
    }

    /// A child has begun.
    pub(crate) fn child_started(&self, seq: u32, id: String) {
        let mut state = self.state.borrow_mut();
        let Some(operation) = state.operations.get_mut(&seq) else { return };
        operation.started = Some(id);
        let waker = operation.waker.clone();
        drop(state);
        waker.wake();
    }

    /// Nobody waits for this operation any more.
    pub(crate) fn abandon(&self, seq: u32) {
        let mut state = self.state.borrow_mut();
        if let Some(operation) = state.operations.remove(&seq)
            && operation.outcome.is_none()
            && !state.closed
        {
            state.commands.push(Command::Cancel(seq));
        }
    }

    /// An operation has ended. One that was given up has nobody to tell.
    pub(crate) fn resolve(&self, seq: u32, outcome: Result<String>) {
        let mut state = self.state.borrow_mut();
        let Some(operation) = state.operations.get_mut(&seq).filter(|operation| operation.outcome.is_none())
        else {
            return;
        };
        operation.outcome = Some(outcome);
        let waker = operation.waker.clone();
        drop(state);
        waker.wake();
    }

    /// Ends every operation that is not shielded, in the order in which they began.
    pub(crate) fn request_cancel(&self, reason: String) {
        let mut state = self.state.borrow_mut();
        if state.cancel_reason.is_some() {
            return;
        }
        let State { operations, commands, .. } = &mut *state;
        let mut wakers = Vec::new();
        for (seq, operation) in
            operations.iter_mut().filter(|(_, operation)| !operation.shielded && operation.outcome.is_none())
        {
            operation.outcome = Some(Err(Error::cancelled(&reason)));
            commands.push(Command::Cancel(*seq));
            wakers.push(operation.waker.clone());
        }
        wakers.extend(std::mem::take(&mut state.cancel_waiters).into_values());
        state.cancel_reason = Some(reason);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn wait_for_cancel(&self, id: &mut Option<u64>, waker: &Waker) {
        let mut state = self.state.borrow_mut();
        let id = *id.get_or_insert_with(|| {
            state.next_waiter += 1;
            state.next_waiter
        });
        state.cancel_waiters.insert(id, waker.clone());
    }

    pub(crate) fn stop_waiting_for_cancel(&self, id: u64) {
        self.state.borrow_mut().cancel_waiters.remove(&id);
    }
}
