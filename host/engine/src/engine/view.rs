//! Executions as clients see them. What a run gave may be large and is read only when it is wanted.

use std::sync::Arc;

use super::{Engine, ExecutionView};
use crate::{
    ExecutionId, Failure, RunId,
    history::{Command, End, Record},
    machine::{BLOCKED_KEY, PAUSED_KEY},
    store::{ExecutionRow, Status, Store, StoreError},
};

/// The end of a run stands in one of so many last records.
const LAST: usize = 2;

/// A result of so many bytes is read in no time.
const SMALL: u64 = 64 << 10;

impl Engine {
    /// An execution as it is now.
    pub fn get(&self, id: &ExecutionId) -> Result<Option<ExecutionView>, StoreError> {
        match self.store.find(id)? {
            Some(row) => self.view(row).map(Some),
            None => Ok(None),
        }
    }

    /// The current run of an execution, without its result.
    pub fn row(&self, id: &ExecutionId) -> Result<Option<ExecutionRow>, StoreError> {
        self.store.find(id)
    }

    /// A run, without its result.
    pub fn row_of_run(&self, run: &RunId) -> Result<Option<ExecutionRow>, StoreError> {
        self.store.find_run(run)
    }

    /// Bytes that are read for the result of a run, which may be large.
    pub fn result_bytes(&self, row: &ExecutionRow) -> Result<u64, StoreError> {
        match row.status {
            Status::Running => Ok(0),
            _ => match self.store.last_sizes(row.key, LAST)?[..] {
                // The last one may only say that another run follows.
                [last, before, ..] if last <= SMALL => Ok(last + before),
                [last, ..] => Ok(last),
                [] => Ok(0),
            },
        }
    }

    /// A run as it is, with its result if it has ended.
    pub fn view(&self, row: ExecutionRow) -> Result<ExecutionView, StoreError> {
        Self::view_in(&*self.store, row)
    }

    /// The same for those who must not block: a large result is read elsewhere.
    pub(super) async fn view_aside(&self, row: ExecutionRow) -> Result<ExecutionView, StoreError> {
        if self.result_bytes(&row)? <= SMALL {
            return self.view(row);
        }
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || Self::view_in(&*store, row)).await;
        read.unwrap_or_else(|_| {
            Err(StoreError::Failed("the daemon made a mistake while it read a result".into()))
        })
    }

    fn view_in(store: &dyn Store, row: ExecutionRow) -> Result<ExecutionView, StoreError> {
        let mut view = ExecutionView::running(row);
        if view.row.status == Status::Running {
            for (name, value) in store.search_keys(view.row.key)? {
                match name.as_str() {
                    BLOCKED_KEY => view.blocked = value,
                    PAUSED_KEY => view.paused = value,
                    _ => {}
                }
            }
            return Ok(view);
        }
        let mut last = store.last_records(view.row.key, 1)?;
        if let Some(Record::Continued { run_id, .. }) = last.first().map(|stored| &stored.record) {
            view.continued = Some(*run_id);
            last = store.last_records(view.row.key, LAST)?.into_iter().skip(1).collect();
        }
        if let Some(stored) = last.into_iter().next() {
            match stored.original().record {
                Record::Activation { mut commands, .. } => match commands.pop() {
                    Some(Command::Complete { result }) => view.result = Some(result),
                    Some(Command::Fail { failure }) => view.failure = Some(failure),
                    _ => {}
                },
                Record::Ended { end: End::Failed(failure) } => view.failure = Some(failure),
                Record::Ended { end: End::TimedOut } => {
                    let message = "the execution took longer than its limit";
                    view.failure = Some(Failure::timeout("execution", message));
                }
                Record::Ended { end: End::Terminated(reason) } => {
                    view.failure = Some(Failure::permanent(Failure::TERMINATED, reason));
                }
                _ => {}
            }
        }
        Ok(view)
    }
}
