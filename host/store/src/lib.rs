//! The engine's [`Store`] on SQLite, and the [`Records`](airlock_engine::records::Records) of the rooms around it, in one file `airlock.db`.
//!
//! Promises: what an append's future said is durable is on the disk (WAL mode, `synchronous=FULL`); appends take effect
//! in the order of the calls; many of them share one transaction when they come at once (group commit). Histories are
//! sealed with XChaCha20-Poly1305, each record bound to its execution and its place, so that a stolen file shows no
//! payload and a moved row does not open. A folder is used by one process at a time.
//!
//! It knows nothing of what the records mean.

mod commit;
mod open;
mod read;
mod records;
mod seal;

use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use airlock_engine::{
    ExecutionId, ExecutionKey,
    store::{Append, Appended, ExecutionRow, ListFilter, Store, StoreError, Wake},
};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rusqlite::Connection;

pub use self::open::OpenError;
use self::{commit::Committer, seal::Seal};

/// A database in a data folder.
pub struct SqliteStore {
    path: PathBuf,
    seal: Seal,
    committer: Arc<Committer>,
    readers: Mutex<Vec<Connection>>,
    next_key: AtomicI64,
    /// Held as long as the store is open.
    _lock: File,
}

impl Store for SqliteStore {
    fn allocate(&self) -> ExecutionKey {
        ExecutionKey(self.next_key.fetch_add(1, Ordering::Relaxed))
    }

    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, StoreError>> {
        let rows = self.seal.close(&append);
        let durable = self.committer.submit(append, rows);
        Box::pin(async move {
            durable.await.unwrap_or_else(|_| Err(StoreError::Failed("the store was closed".into())))
        })
    }

    fn find(&self, id: &ExecutionId) -> Result<Option<ExecutionRow>, StoreError> {
        self.read(|connection| read::find(connection, id))
    }

    fn row(&self, key: ExecutionKey) -> Result<Option<ExecutionRow>, StoreError> {
        self.read(|connection| read::row(connection, key))
    }

    fn history(
        &self,
        key: ExecutionKey,
        from: u32,
        limit: usize,
    ) -> Result<Vec<airlock_engine::history::StoredRecord>, StoreError> {
        self.read(|connection| read::history(connection, &self.seal, key, from, limit))
    }

    fn last_record(
        &self,
        key: ExecutionKey,
    ) -> Result<Option<airlock_engine::history::StoredRecord>, StoreError> {
        self.read(|connection| read::last_record(connection, &self.seal, key))
    }

    fn open_executions(&self) -> Result<Vec<(ExecutionKey, Wake)>, StoreError> {
        self.read(read::open_executions)
    }

    fn pinned(&self) -> Result<std::collections::HashSet<airlock_engine::Digest>, StoreError> {
        self.read(read::pinned)
    }

    fn list(&self, filter: &ListFilter) -> Result<Vec<ExecutionRow>, StoreError> {
        self.read(|connection| read::list(connection, filter))
    }
}

impl SqliteStore {
    /// Lends a connection that only reads.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let pooled = self.readers.lock().pop();
        let connection = match pooled {
            Some(connection) => connection,
            None => open::reader(&self.path).map_err(|error| failure(&error))?,
        };
        let result = work(&connection);
        self.readers.lock().push(connection);
        result
    }
}

/// What an SQLite error means for the engine.
fn failure(error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => StoreError::Conflict,
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            StoreError::ReadOnly(error.to_string())
        }
        _ => StoreError::Failed(error.to_string()),
    }
}
