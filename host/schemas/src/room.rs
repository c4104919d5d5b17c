//! Threads that compile and check, with a stack of their own.
//!
//! What they are given is known to end soon. If one does not, whoever waits is answered at the deadline, and the thread
//! is replaced: it ends by itself when it comes back. After a number of those nothing is taken any more until one is back.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::{Limits, Undecided};

type Work = Box<dyn FnOnce() + Send>;

/// Threads and what waits for them. Threads end when the last handle is dropped.
pub(crate) struct Room {
    shared: Arc<Shared>,
    deadline: Duration,
}

struct Shared {
    state: Mutex<State>,
    news: Condvar,
    limits: Limits,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    /// Threads that count, by number, with the time since which each is at work.
    threads: HashMap<u64, Option<Instant>>,
    next: u64,
    idle: usize,
    lost: usize,
    /// Over all time.
    ever_lost: u64,
    is_closed: bool,
}

impl Room {
    pub(crate) fn new(limits: Limits) -> Self {
        let deadline = limits.deadline;
        Self { shared: Arc::new(Shared { state: Mutex::default(), news: Condvar::new(), limits }), deadline }
    }

    /// Runs on a thread of the room.
    pub(crate) fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Undecided> {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let waits = Arc::new(());
        let is_wanted = Arc::downgrade(&waits);
        self.give(Box::new(move || {
            if is_wanted.strong_count() > 0 {
                let _ = answer.send(guarded(work));
            }
        }))?;
        match answered.recv_timeout(self.deadline) {
            Ok(done) => done,
            Err(RecvTimeoutError::Disconnected) => Err(Undecided::Broke),
            Err(RecvTimeoutError::Timeout) => {
                drop(waits);
                self.shared.replace_lost();
                Err(Undecided::Late)
            }
        }
    }

    /// The same for who must not block.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Undecided> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.give(Box::new(move || {
            // Nobody waits any more: the next is more urgent.
            if !answer.is_closed() {
                let _ = answer.send(guarded(work));
            }
        }))?;
        match tokio::time::timeout(self.deadline, answered).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(Undecided::Broke),
            Err(_) => {
                self.shared.replace_lost();
                Err(Undecided::Late)
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.shared.state.lock().waiting.len()
    }

    /// Threads that were given up, now and over all time.
    pub(crate) fn lost(&self) -> (usize, u64) {
        let state = self.shared.state.lock();
        (state.lost, state.ever_lost)
    }

    fn give(&self, work: Work) -> Result<(), Undecided> {
        self.shared.replace_lost();
        let limits = &self.shared.limits;
        let mut state = self.shared.state.lock();
        if state.lost >= limits.lost_threads || state.waiting.len() >= limits.queue {
            return Err(Undecided::Busy);
        }
        state.waiting.push_back(work);
        if state.idle < state.waiting.len() && state.threads.len() < limits.threads {
            self.shared.begin(&mut state)?;
        }
        self.shared.news.notify_one();
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.news.notify_all();
    }
}

impl Shared {
    fn begin(self: &Arc<Self>, state: &mut State) -> Result<(), Undecided> {
        let number = state.next;
        state.next += 1;
        let shared = Arc::clone(self);
        let begun = thread::Builder::new()
            .name("schemas".into())
            .stack_size(self.limits.stack_bytes)
            .spawn(move || shared.work(number));
        match begun {
            Ok(_) => {
                state.threads.insert(number, None);
                Ok(())
            }
            // Another one may come to it.
            Err(_) if !state.threads.is_empty() => Ok(()),
            Err(error) => {
                tracing::error!(%error, "no thread can be started to check values by their schemas");
                state.waiting.pop_back();
                Err(Undecided::Busy)
            }
        }
    }

    fn work(&self, number: u64) {
        let mut state = self.state.lock();
        loop {
            let work = loop {
                if state.is_closed {
                    return;
                }
                if let Some(work) = state.waiting.pop_front() {
                    break work;
                }
                state.idle += 1;
                self.news.wait(&mut state);
                state.idle -= 1;
            };
            state.threads.insert(number, Some(Instant::now()));
            drop(state);
            // What is captured is dropped here too, where there is stack for it.
            if guarded(work).is_err() {
                tracing::error!("a check of a schema broke off");
            }
            state = self.state.lock();
            match state.threads.get_mut(&number) {
                Some(since) => *since = None,
                // It was given up, and replaced if there was need.
                None => {
                    state.lost -= 1;
                    if state.threads.len() >= self.limits.threads {
                        return;
                    }
                    state.threads.insert(number, None);
                }
            }
        }
    }

    fn replace_lost(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let limit = self.limits.lost_after;
        let is_lost = |since: &Option<Instant>| since.is_some_and(|since| since.elapsed() > limit);
        let before = state.threads.len();
        state.threads.retain(|_, since| !is_lost(since));
        let lost = before - state.threads.len();
        if lost == 0 {
            return;
        }
        state.lost += lost;
        state.ever_lost += lost as u64;
        tracing::error!(lost, "a check of a value by its schema does not end: its thread is replaced");
        while !state.waiting.is_empty() && state.threads.len() < self.limits.threads {
            if state.lost >= self.limits.lost_threads || self.begin(&mut state).is_err() {
                break;
            }
        }
    }
}

/// Panics stay here.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Undecided> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Undecided::Broke)
}
