//! One run that is being worked on.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::{
    FinalView, Progress, messages::UpdateWaiters, operations::Operations, questions::Questions,
    reset::ResetRequest,
};
use crate::{
    Digest, ExecutionKey, Json,
    guests::WorkflowInstance,
    history::Outcome,
    machine::{Input, Machine},
    store::{ExecutionRow, StoreError, Wake},
};

/// A run with its mailbox. The machine and the instance may be absent: then they are in the history.
pub(super) struct Cell {
    pub(super) key: ExecutionKey,
    pub(super) row: ExecutionRow,
    mailbox: Mutex<Mailbox>,
    live: Mutex<Option<Box<Live>>>,
    pub(super) progress: watch::Sender<Progress>,
    /// Turns true once. Apart from the progress, so that a step does not wake those who only wait for the end.
    pub(super) ended: watch::Sender<bool>,
    pub(super) outcome: FinalView,
    /// What it has asked for and what is under way for it, with the means to stop it.
    pub(super) operations: Operations,
    /// Who waits for the answer to an update.
    pub(super) updates: UpdateWaiters,
    /// What its tool calls ask people.
    pub(super) questions: Questions,
    /// When it was last put to rest.
    pub(super) stamp: AtomicU64,
    /// The earliest time that the timers know of.
    pub(super) alarm: AtomicU64,
}

#[derive(Default)]
struct Mailbox {
    messages: VecDeque<Message>,
    driven: bool,
}

/// Something for the driver.
pub(super) enum Message {
    /// News for the machine, and who wants to know that they are recorded.
    News { input: Input, confirm: Option<Confirm> },
    /// A question to the workflow.
    Query { name: String, input: Json, reply: oneshot::Sender<Result<Outcome, Unanswered>> },
    /// Go on with other code, if it gives the same commands so far; only say whether it does if `trial` is set.
    Upgrade { digest: Digest, trial: bool, reply: oneshot::Sender<Result<Result<(), String>, Refused>> },
    /// Start again from an earlier event.
    Reset { request: ResetRequest, reply: oneshot::Sender<Result<(), super::ControlError>> },
}

pub(super) type Confirm = oneshot::Sender<Result<(), Refused>>;

/// News could not be recorded.
#[derive(Debug, Clone)]
pub(super) enum Refused {
    /// The run had ended before.
    Ended,
    /// The store failed.
    Store(StoreError),
}

/// A question could not be put to the workflow.
#[derive(Debug, Clone)]
pub(super) enum Unanswered {
    /// It has not begun.
    NotStarted,
    /// Its code does not repeat its history, and it waits for the right code.
    Blocked,
    /// It has ended, and the code does not repeat its history; this is the difference.
    Diverged(String),
    /// It went wrong.
    Guest(crate::guests::GuestError),
    /// Its history cannot be read.
    Store(StoreError),
    /// The run ended; its history has the answer.
    Ended,
}

/// The state in memory.
pub(super) struct Live {
    pub(super) machine: Machine,
    pub(super) instance: Option<Box<dyn WorkflowInstance>>,
    /// Records in the history.
    pub(super) index: u32,
    /// What the store believes.
    pub(super) wake: Wake,
    /// Somebody was told that the history grows long.
    pub(super) warned: bool,
}

impl Cell {
    pub(super) fn new(row: ExecutionRow) -> Self {
        Self {
            key: row.key,
            row,
            mailbox: Mutex::default(),
            live: Mutex::new(None),
            progress: watch::Sender::new(Progress { records: 0, ended: false }),
            ended: watch::Sender::new(false),
            outcome: FinalView::new(),
            operations: Operations::default(),
            updates: UpdateWaiters::default(),
            questions: Questions::default(),
            stamp: AtomicU64::new(u64::MAX),
            alarm: AtomicU64::new(u64::MAX),
        }
    }

    /// A cell whose first turn is under way.
    pub(super) fn driven(row: ExecutionRow) -> Self {
        let cell = Self::new(row);
        cell.mailbox.lock().driven = true;
        cell
    }

    pub(super) fn post(&self, input: Input) {
        self.send(Message::News { input, confirm: None });
    }

    pub(super) fn send(&self, message: Message) {
        self.mailbox.lock().messages.push_back(message);
    }

    /// Posts news; the answer comes when they are recorded.
    pub(super) fn post_and_confirm(&self, input: Input) -> oneshot::Receiver<Result<(), Refused>> {
        let (sender, receiver) = oneshot::channel();
        self.send(Message::News { input, confirm: Some(sender) });
        receiver
    }

    /// Becomes the driver, if there is none.
    pub(super) fn seize(&self) -> bool {
        let mut mailbox = self.mailbox.lock();
        !std::mem::replace(&mut mailbox.driven, true)
    }

    /// All news; without any, the caller stops being the driver.
    pub(super) fn take_messages(&self) -> VecDeque<Message> {
        let mut mailbox = self.mailbox.lock();
        if mailbox.messages.is_empty() {
            mailbox.driven = false;
        }
        std::mem::take(&mut mailbox.messages)
    }

    /// Gives news back that could not be recorded, and stops being the driver.
    pub(super) fn give_back(&self, mut messages: VecDeque<Message>) {
        let mut mailbox = self.mailbox.lock();
        messages.append(&mut mailbox.messages);
        mailbox.messages = messages;
        mailbox.driven = false;
    }

    /// The driver's access to the state.
    pub(super) fn take_live(&self) -> Option<Box<Live>> {
        self.live.lock().take()
    }

    pub(super) fn put_live(&self, live: Box<Live>) {
        *self.live.lock() = Some(live);
    }

    /// Drops the state from memory unless the execution is being driven. Whether there was any.
    pub(super) fn unload(&self) -> bool {
        let mailbox = self.mailbox.lock();
        !mailbox.driven && self.live.lock().take().is_some()
    }

    /// The same for one whose instance holds at least so many bytes. What it held.
    pub(super) fn unload_large(&self, least: u64) -> Option<u64> {
        let mailbox = self.mailbox.lock();
        let mut live = self.live.lock();
        let held = live.as_ref()?.instance.as_ref()?.held_bytes();
        if mailbox.driven || held < least {
            return None;
        }
        *live = None;
        Some(held)
    }

    /// Nothing is known here that the history does not hold.
    pub(super) fn is_quiet(&self) -> bool {
        let mailbox = self.mailbox.lock();
        !mailbox.driven
            && mailbox.messages.is_empty()
            && self.live.lock().is_none()
            && self.operations.is_empty()
            && self.updates.is_empty()
    }

    /// Notes a time that the timers have to be told of, and gives the one that it takes the place of. `None` if they know
    /// an earlier one that has not passed.
    pub(super) fn set_alarm(&self, at: u64, now: u64) -> Option<u64> {
        let known = self.alarm.load(Ordering::Relaxed);
        if known <= at && known > now {
            return None;
        }
        Some(self.alarm.swap(at, Ordering::Relaxed))
    }
}
