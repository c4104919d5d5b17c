//! What a run has asked for and what is under way for it: the one door through which each of it begins, and through which
//! the end of the run stops it.
//!
//! An operation that was asked for is here from the moment in which its turn is durable. It *waits* (for its task to run,
//! for a place among those that run at once, for the end of another execution) until it passes [`Ticket::begin`], and is
//! *under way* from then until [`Ticket::leave`]. Whether it may begin and whether the run has ended is decided under one
//! lock, so that nothing begins after the end. What becomes of what has begun is for each operation to say; the table is
//! in [`crate::machine::ends`].

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{history::Seq, machine::ends::Closing};

/// The operations of one run.
#[derive(Default)]
pub(super) struct Operations(Mutex<State>);

#[derive(Default)]
struct State {
    by_seq: HashMap<Seq, Entry>,
    tickets: u64,
    /// The run has ended.
    ended: Option<Closing>,
}

struct Entry {
    ticket: u64,
    token: CancellationToken,
    stage: Stage,
    /// It begins and goes on although its run has ended.
    outlives: bool,
    stopped: Option<Stopped>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waits,
    UnderWay,
}

/// Why an operation was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Nobody wants its result any more.
    GivenUp,
    /// Its run has ended.
    Ended(Closing),
}

/// One operation that was let in. It leaves when this is dropped, at the latest.
pub(super) struct Ticket<'a> {
    operations: &'a Operations,
    seq: Seq,
    number: u64,
    token: CancellationToken,
}

/// A ticket without its operations, to be carried into a task.
pub(super) struct Admission {
    seq: Seq,
    number: u64,
    token: CancellationToken,
}

impl Admission {
    /// The ticket, for as long as the task runs.
    pub(super) fn ticket(self, operations: &Operations) -> Ticket<'_> {
        let Self { seq, number, token } = self;
        Ticket { operations, seq, number, token }
    }
}

impl Operations {
    /// Lets an operation in; `None` if it is in already, or if its run has ended and it does not outlive it.
    pub(super) fn admit(&self, seq: Seq, outlives: bool) -> Option<Admission> {
        let mut state = self.0.lock();
        if state.by_seq.contains_key(&seq) || (state.ended.is_some() && !outlives) {
            return None;
        }
        state.tickets += 1;
        let (number, token) = (state.tickets, CancellationToken::new());
        let entry =
            Entry { ticket: number, token: token.clone(), stage: Stage::Waits, outlives, stopped: None };
        state.by_seq.insert(seq, entry);
        Some(Admission { seq, number, token })
    }

    /// The result of an operation is not wanted any more. Whether there was anything to stop.
    pub(super) fn give_up(&self, seq: Seq) -> bool {
        let mut state = self.0.lock();
        let Some(entry) = state.by_seq.get_mut(&seq) else { return false };
        entry.stop(Stopped::GivenUp);
        true
    }

    /// What waits does not begin: the run is paused or blocked. It is let in again when it is asked for again.
    pub(super) fn hold(&self) {
        let mut state = self.0.lock();
        state.by_seq.retain(|_, entry| {
            let held = entry.stage == Stage::Waits && !entry.outlives;
            if held {
                entry.token.cancel();
            }
            !held
        });
    }

    /// The run has ended: what waits never begins, what is under way is told to stop, and nothing is let in any more.
    /// What outlives the run hears nothing.
    pub(super) fn end(&self, closing: Closing) {
        let mut state = self.0.lock();
        state.ended = Some(closing);
        for entry in state.by_seq.values_mut().filter(|entry| !entry.outlives) {
            entry.stop(Stopped::Ended(closing));
        }
    }

    /// Nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().by_seq.is_empty()
    }
}

impl Entry {
    fn stop(&mut self, why: Stopped) {
        // The end says what becomes of it, also when it was given up before.
        if self.stopped.is_none() || matches!(why, Stopped::Ended(_)) {
            self.stopped = Some(why);
        }
        self.token.cancel();
    }
}

impl Ticket<'_> {
    /// Cancelled when the operation is to stop, or is not to begin.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Passes the door: from here on it is under way. `false`: it is not to begin.
    pub(super) fn begin(&self) -> bool {
        let mut state = self.operations.0.lock();
        match state.by_seq.get_mut(&self.seq) {
            Some(entry) if entry.ticket == self.number && entry.stopped.is_none() => {
                entry.stage = Stage::UnderWay;
                true
            }
            _ => false,
        }
    }

    /// It is to begin once more: until then a pause holds it.
    pub(super) fn wait(&self) {
        let mut state = self.operations.0.lock();
        if let Some(entry) = state.by_seq.get_mut(&self.seq).filter(|entry| entry.ticket == self.number) {
            entry.stage = Stage::Waits;
        }
    }

    /// What outlived the run only waits from here on, and nobody wants that after the run's end. `false`: it has ended.
    pub(super) fn only_waits(&self) -> bool {
        let mut state = self.operations.0.lock();
        let ended = state.ended;
        match state.by_seq.get_mut(&self.seq) {
            Some(entry) if entry.ticket == self.number => {
                entry.outlives = false;
                match ended {
                    Some(closing) => entry.stop(Stopped::Ended(closing)),
                    None => return entry.stopped.is_none(),
                }
                false
            }
            _ => false,
        }
    }

    /// It is not under way any more. Why it was told to stop, if it was; who is told so later finds it gone.
    pub(super) fn leave(&self) -> Option<Stopped> {
        let mut state = self.operations.0.lock();
        // After a wait that was held there may be another ticket for the same operation.
        if state.by_seq.get(&self.seq).is_some_and(|entry| entry.ticket == self.number) {
            return state.by_seq.remove(&self.seq).and_then(|entry| entry.stopped);
        }
        None
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(operations: &Operations, seq: Seq) -> Ticket<'_> {
        operations.admit(seq, false).expect("is let in").ticket(operations)
    }

    #[test]
    fn nothing_begins_after_the_end_but_what_outlives_it() {
        let operations = Operations::default();
        let (waits, runs) = (ticket(&operations, 1), ticket(&operations, 2));
        let heir = operations.admit(3, true).expect("is let in").ticket(&operations);
        assert!(runs.begin());
        operations.end(Closing::Run);
        assert!(!waits.begin() && waits.token().is_cancelled() && runs.token().is_cancelled());
        assert_eq!(runs.leave(), Some(Stopped::Ended(Closing::Run)));
        assert!(heir.begin() && !heir.token().is_cancelled());
        assert!(operations.admit(4, false).is_none());
        assert!(operations.admit(4, true).is_some());
    }

    #[test]
    fn what_waits_while_the_run_rests_is_let_in_again_and_its_old_ticket_is_void() {
        let operations = Operations::default();
        let (waits, runs) = (ticket(&operations, 1), ticket(&operations, 2));
        assert!(runs.begin());
        operations.hold();
        assert!(!waits.begin() && waits.token().is_cancelled() && !runs.token().is_cancelled());
        let again = ticket(&operations, 1);
        assert!(operations.admit(2, false).is_none());
        drop(waits);
        assert!(again.begin(), "the old ticket took the new one along");
        drop((again, runs));
        assert!(operations.is_empty());
    }

    #[test]
    fn the_end_goes_before_what_was_given_up() {
        let operations = Operations::default();
        let child = ticket(&operations, 1);
        assert!(child.begin() && operations.give_up(1) && !operations.give_up(2));
        operations.end(Closing::Left);
        assert_eq!(child.leave(), Some(Stopped::Ended(Closing::Left)));
    }
}
