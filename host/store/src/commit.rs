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

use airlock_engine::store::{Append, Appended, ExecutionRow, Status, StoreError, Wake};
use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::{failure, seal::Row};

/// Appends that share a transaction at most, so that the first does not wait for too many others.
const GROUP: usize = 512;

pub(crate) struct Committer {
    queue: Mutex<VecDeque<Pending>>,
    work: Condvar,
    writer: Mutex<Writer>,
}

struct Pending {
    append: Append,
    rows: Vec<Row>,
    done: oneshot::Sender<Result<Appended, StoreError>>,
}

struct Writer {
    connection: Connection,
    next_event: i64,
}

impl Committer {
    pub(crate) fn start(connection: Connection, next_event: i64) -> Arc<Self> {
        let committer = Arc::new(Self {
            queue: Mutex::default(),
            work: Condvar::new(),
            writer: Mutex::new(Writer { connection, next_event }),
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
    pub(crate) fn submit(
        &self,
        append: Append,
        rows: Vec<Row>,
    ) -> oneshot::Receiver<Result<Appended, StoreError>> {
        let (done, durable) = oneshot::channel();
        self.queue.lock().push_back(Pending { append, rows, done });
        if let Some(mut writer) = self.writer.try_lock() {
            let group = self.next_group();
            writer.commit(group);
        }
        // What came while the writer was taken found it taken: its turn is now.
        if !self.queue.lock().is_empty() {
            self.work.notify_one();
        }
        durable
    }

    fn next_group(&self) -> Vec<Pending> {
        let mut queue = self.queue.lock();
        let count = queue.len().min(GROUP);
        queue.drain(..count).collect()
    }

    /// The connection, for writes of another kind.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&mut Connection) -> T) -> T {
        let result = work(&mut self.writer.lock().connection);
        if !self.queue.lock().is_empty() {
            self.work.notify_one();
        }
        result
    }
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
        let appended = self.try_transaction(group, &mut next_event).map_err(|error| failure(&error))?;
        self.next_event = next_event;
        Ok(appended)
    }

    fn try_transaction(
        &mut self,
        group: &[Pending],
        next_event: &mut i64,
    ) -> rusqlite::Result<Vec<Appended>> {
        if let [Pending { append, rows, .. }] = group
            && rows.len() == 1
            && append.start.is_none()
            && append.end.is_none()
            && append.wake.is_none()
        {
            // One row by itself, as for every step of a lone execution: the statement is a transaction.
            let first_event = *next_event as u64;
            insert_records(&self.connection, append, rows, next_event)?;
            return Ok(vec![Appended { first_event }]);
        }
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut appended = Vec::with_capacity(group.len());
        for Pending { append, rows, .. } in group {
            let key = append.key.0;
            if let Some(row) = &append.start {
                insert_execution(&transaction, row, append)?;
            } else {
                if let Some((status, at)) = append.end {
                    transaction
                        .prepare_cached(
                            "UPDATE executions SET status = ?2, ended_at = ?3, wake_at = NULL WHERE key = ?1",
                        )?
                        .execute(params![key, status_number(status), at as i64])?;
                } else if let Some(wake) = append.wake {
                    transaction
                        .prepare_cached("UPDATE executions SET wake_at = ?2 WHERE key = ?1")?
                        .execute(params![key, wake_number(wake)])?;
                }
            }
            appended.push(Appended { first_event: *next_event as u64 });
            insert_records(&transaction, append, rows, next_event)?;
        }
        transaction.commit()?;
        Ok(appended)
    }
}

fn answer(pending: Pending, outcome: Result<Appended, StoreError>) {
    // Whoever asked may have stopped waiting; the append stands all the same.
    let _ = pending.done.send(outcome);
}

fn insert_execution(connection: &Connection, row: &ExecutionRow, append: &Append) -> rusqlite::Result<()> {
    let (status, ended_at) = match append.end {
        Some((status, at)) => (status, Some(at as i64)),
        None => (row.status, None),
    };
    let wake = match append.wake {
        Some(wake) if append.end.is_none() => wake_number(wake),
        _ => None,
    };
    connection
        .prepare_cached(
            "INSERT INTO executions (key, id, run_id, workflow, digest, user, workspace, organization, status, \
             started_at, ended_at, wake_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            row.key.0,
            row.id.as_str(),
            row.run_id.0.as_bytes().as_slice(),
            row.workflow,
            row.digest.0.as_slice(),
            row.principal.user.as_str(),
            row.principal.workspace.as_str(),
            row.principal.organization.as_str(),
            status_number(status),
            row.started_at as i64,
            ended_at,
            wake,
        ])?;
    Ok(())
}

fn insert_records(
    connection: &Connection,
    append: &Append,
    rows: &[Row],
    next_event: &mut i64,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO journal (event, execution, idx, events, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (row, index) in rows.iter().zip(append.index..) {
        insert.execute(params![*next_event, append.key.0, index, row.events as i64, row.body])?;
        *next_event += row.events as i64;
    }
    Ok(())
}

pub(crate) fn status_number(status: Status) -> i64 {
    Status::ALL.iter().position(|known| *known == status).map_or(0, |position| position as i64)
}

fn wake_number(wake: Wake) -> Option<i64> {
    match wake {
        Wake::Now => Some(0),
        Wake::At(at) => Some(at as i64),
        Wake::Never => None,
    }
}
