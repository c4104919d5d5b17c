//! A store that counts what is read of histories.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use airlock_engine::{
    Digest, ExecutionId, ExecutionKey, RunId,
    history::{StoredRecord, UnixMs},
    store::{
        Append, Appended, Child, Commits, ExecutionRow, ListFilter, Merge, Page, Place, Runs, Scope, Store,
        StoreError, Upto, Wake,
    },
    witness::Witness,
};
use futures::future::BoxFuture;

pub struct Counted {
    pub store: Arc<dyn Store>,
    pub read: Arc<AtomicUsize>,
}

impl Counted {
    fn count<T>(&self, records: Result<Vec<T>, StoreError>) -> Result<Vec<T>, StoreError> {
        self.read.fetch_add(records.as_ref().map_or(0, Vec::len), Ordering::Relaxed);
        records
    }
}

macro_rules! passed_on {
    ($(fn $name:ident(&self $(, $argument:ident: $kind:ty)*) -> $result:ty;)+) => {$(
        fn $name(&self $(, $argument: $kind)*) -> $result {
            self.store.$name($($argument),*)
        }
    )+};
}

impl Store for Counted {
    passed_on! {
        fn allocate(&self) -> ExecutionKey;
        fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, StoreError>>;
        fn find(&self, id: &ExecutionId) -> Result<Option<ExecutionRow>, StoreError>;
        fn find_run(&self, run: &RunId) -> Result<Option<ExecutionRow>, StoreError>;
        fn row(&self, key: ExecutionKey) -> Result<Option<ExecutionRow>, StoreError>;
        fn sizes(&self, key: ExecutionKey, from: u32, limit: usize) -> Result<Vec<u64>, StoreError>;
        fn last_sizes(&self, key: ExecutionKey, limit: usize) -> Result<Vec<u64>, StoreError>;
        fn open_executions(&self) -> Result<Vec<(ExecutionKey, Wake)>, StoreError>;
        fn open_children(&self, parent: &ExecutionId) -> Result<Vec<Child>, StoreError>;
        fn orphans(&self) -> Result<Vec<Child>, StoreError>;
        fn pinned(&self) -> Result<HashSet<Digest>, StoreError>;
        fn search_keys(&self, key: ExecutionKey) -> Result<Vec<(String, Option<String>)>, StoreError>;
        fn seek(&self, runs: Runs<'_>, from: u64) -> Result<Merge, StoreError>;
        fn merged(&self, merge: &mut Merge, upto: Upto) -> Result<Page, StoreError>;
        fn open_runs(&self, scope: &Scope) -> Result<Vec<ExecutionKey>, StoreError>;
        fn listen(&self, commits: Arc<dyn Commits>) -> u64;
        fn list(&self, filter: &ListFilter) -> Result<Vec<ExecutionRow>, StoreError>;
        fn purge(&self, before: UnixMs, limit: usize) -> BoxFuture<'static, Result<usize, StoreError>>;
        fn witness(&self) -> Option<Arc<dyn Witness>>;
    }

    fn history(&self, key: ExecutionKey, from: u32, limit: usize) -> Result<Vec<StoredRecord>, StoreError> {
        self.count(self.store.history(key, from, limit))
    }

    fn last_records(&self, key: ExecutionKey, limit: usize) -> Result<Vec<StoredRecord>, StoreError> {
        self.count(self.store.last_records(key, limit))
    }

    fn records(&self, places: &[Place]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        self.count(self.store.records(places))
    }
}
