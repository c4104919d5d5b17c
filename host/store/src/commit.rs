//! Group commit.
//!
//! An append goes into a queue. If nobody is committing, the caller commits at once on its own thread: a lone execution
//! pays for the disk and for no change of threads. If somebody is, the append is picked up afterwards, together with
//! all others that came meanwhile, by a thread that does nothing else.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use airlock_engine::store::{Appended, Commits, Committed, StoreError};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use crate::{failure::failure, names::Names, step::Step, write};

/// Appends that share a transaction at most, so that the first does not wait for too many others.
const GROUP: usize = 512;

pub(crate) struct Committer {
    queue: Mutex<VecDeque<Pending>>,
    work: Condvar,
    writer: Mutex<Writer>,
}

struct Pending {
    step: Step,
    done: oneshot::Sender<Result<Appended, StoreError>>,
}

struct Writer {
    connection: Connection,
    next_event: i64,
    names: Names,
    listener: Option<Arc<dyn Commits>>,
    /// Somebody else may have the folder by now.
    closed: bool,
}

impl Committer {
    pub(crate) fn start(connection: Connection, next_event: i64) -> Arc<Self> {
        let committer = Arc::new(Self {
            queue: Mutex::default(),
            work: Condvar::new(),
            writer: Mutex::new(Writer {
                connection,
                next_event,
                names: Names::default(),
                listener: None,
                closed: false,
            }),
        });
        let weak = Arc::downgrade(&committer);
        // Without the thread nothing that queues up would ever be committed: better not to start at all.
        #[allow(clippy::expect_used)]
        std::thread::Builder::new()
            .name("airlock-commit".into())
            .spawn(move || follow(&weak))
            .expect("the system gives no thread for commits");
        committer
    }

    /// Queues an append, and commits it if nobody else is committing.
    pub(crate) fn submit(&self, step: Step) -> oneshot::Receiver<Result<Appended, StoreError>> {
        let (done, durable) = oneshot::channel();
        self.submit_for(step, done);
        durable
    }

    /// The same for somebody who waits already.
    pub(crate) fn submit_for(&self, step: Step, done: oneshot::Sender<Result<Appended, StoreError>>) {
        self.queue.lock().push_back(Pending { step, done });
        if let Some(mut writer) = self.writer.try_lock() {
            let group = self.next_group();
            writer.commit(group);
        }
        // What came while the writer was taken found it taken: its turn is now.
        if !self.queue.lock().is_empty() {
            self.work.notify_one();
        }
    }

    fn next_group(&self) -> Vec<Pending> {
        let mut queue = self.queue.lock();
        let count = queue.len().min(GROUP);
        queue.drain(..count).collect()
    }

    /// The connection, for writes of another kind.
    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.write_at(|connection, _| work(connection))
    }

    /// The connection and the number of the next event, for writes of another kind.
    pub(crate) fn write_at<T>(
        &self,
        work: impl FnOnce(&mut Connection, i64) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer.lock();
        if writer.closed {
            return Err(closed());
        }
        let next_event = writer.next_event;
        let result = work(&mut writer.connection, next_event);
        // Many such writes one after the other must not keep the appends away.
        MutexGuard::unlock_fair(writer);
        if !self.queue.lock().is_empty() {
            self.work.notify_one();
        }
        result.map_err(|error| failure(&error))
    }

    /// Tells somebody of every commit from now on. Gives the number of the last event until now.
    pub(crate) fn listen(&self, commits: Arc<dyn Commits>) -> u64 {
        let mut writer = self.writer.lock();
        writer.listener = Some(commits);
        writer.last_event()
    }

    /// Writes nothing more. What is being committed is committed when it returns.
    pub(crate) fn close(&self) {
        self.writer.lock().closed = true;
        self.queue.lock().clear();
        self.work.notify_one();
    }
}

/// What whoever still waits is told.
pub(crate) fn closed() -> StoreError {
    StoreError::Failed("the store was closed".into())
}

/// Commits what queues up, until the store is dropped.
fn follow(committer: &Weak<Committer>) {
    while let Some(committer) = committer.upgrade() {
        let mut queue = committer.queue.lock();
        if queue.is_empty() {
            committer.work.wait_for(&mut queue, Duration::from_secs(1));
        }
        let waiting = !queue.is_empty();
        drop(queue);
        if waiting {
            let mut writer = committer.writer.lock();
            let group = committer.next_group();
            writer.commit(group);
        }
    }
}

impl Writer {
    /// Commits a group, or, if one of it cannot be written, each by itself.
    fn commit(&mut self, mut group: Vec<Pending>) {
        if group.is_empty() {
            return;
        }
        if self.closed {
            group.drain(..).for_each(|pending| answer(pending, Err(closed())));
            return;
        }
        let outcome = self.transaction(&group);
        if matches!(outcome, Err(StoreError::Conflict)) && group.len() > 1 {
            for pending in group {
                let outcome = self.transaction(std::slice::from_ref(&pending));
                answer(pending, outcome.map(|mut appended| appended.remove(0)));
            }
            return;
        }
        match outcome {
            Ok(appended) => {
                for (pending, appended) in group.into_iter().zip(appended) {
                    answer(pending, Ok(appended));
                }
            }
            Err(error) => {
                tracing::error!(%error, appends = group.len(), "a commit failed");
                for pending in group.drain(..) {
                    answer(pending, Err(error.clone()));
                }
            }
        }
    }

    fn transaction(&mut self, group: &[Pending]) -> Result<Vec<Appended>, StoreError> {
        let mut next_event = self.next_event;
        match self.try_transaction(group, &mut next_event) {
            Ok(appended) => {
                self.next_event = next_event;
                self.tell(group);
                Ok(appended)
            }
            Err(error) => {
                self.names.forget();
                Err(failure(&error))
            }
        }
    }

    /// Numbers begin at 1.
    fn last_event(&self) -> u64 {
        self.next_event.saturating_sub(1).unsigned_abs()
    }

    fn tell(&self, group: &[Pending]) {
        let Some(listener) = &self.listener else { return };
        let mut steps = group.iter().flat_map(|pending| pending.step.chain()).map(|step| Committed {
            key: step.key,
            start: step.start().map(|start| &start.row),
            ended: step.change.end.is_some(),
        });
        listener.committed(self.last_event(), &mut steps);
    }

    fn try_transaction(
        &mut self,
        group: &[Pending],
        next_event: &mut i64,
    ) -> rusqlite::Result<Vec<Appended>> {
        if let [Pending { step, .. }] = group
            && step.is_one_record()
        {
            // One row by itself, as for every step of a lone execution: the statement is a transaction.
            let first_event = *next_event as u64;
            write::records(&self.connection, step, next_event)?;
            return Ok(vec![Appended { first_event }]);
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut appended = Vec::with_capacity(group.len());
        for pending in group {
            appended.push(Appended { first_event: *next_event as u64 });
            for step in pending.step.chain() {
                write::step(&transaction, &mut self.names, step, next_event)?;
            }
        }
        transaction.commit()?;
        Ok(appended)
    }
}

fn answer(pending: Pending, outcome: Result<Appended, StoreError>) {
    // Whoever asked may have stopped waiting; the append stands all the same.
    let _ = pending.done.send(outcome);
}
