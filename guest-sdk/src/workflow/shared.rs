//! What a run's context, its operations and its executor share. Everything is on one thread.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::Waker,
};

use super::{
    protocol::{Command, Init, Request},
    random::Random,
};
use crate::{Error, Result, TaskEvent};

pub(crate) struct Shared {
    pub(crate) workflow: String,
    pub(crate) execution_id: String,
    pub(crate) run_id: String,
    /// Above 0 while a future inside `shield` is polled.
    pub(crate) shields: Cell<u32>,
    state: RefCell<State>,
}

struct State {
    now_ms: u64,
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
            shields: Cell::new(0),
            state: RefCell::new(State {
                now_ms: init.started_at_ms,
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

    pub(crate) fn now_ms(&self) -> u64 {
        self.state.borrow().now_ms
    }

    pub(crate) fn set_now_ms(&self, now_ms: u64) {
        self.state.borrow_mut().now_ms = now_ms;
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
        if !state.closed {
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
        self.state.borrow_mut().spawned.push(Spawned { future, shielded });
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
        let seq = state.next_seq;
        state.next_seq += 1;
        if !state.closed {
            state.commands.push(Command::Begin(seq, request));
        }
        state.operations.insert(seq, Operation { shielded, waker, outcome: None });
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
