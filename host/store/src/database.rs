//! What the engine asks of the database.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use airlock_engine::{
    Digest, ExecutionId, ExecutionKey, Principal, RunId,
    history::{self, StoredRecord, UnixMs},
    store::{
        Append, Appended, Child, Commits, ExecutionRow, ListFilter, Merge, Page, Place, Runs, Scope, Store,
        StoreError, Upto, Wake,
    },
    witness::Witness,
};
use async_recursion::async_recursion as boxed;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rusqlite::Connection;

use crate::{
    commit::{self, Committer},
    crashes::Crashes,
    failure::failure,
    journal::{self, Sealed},
    list,
    objects::{Objects, Uploads},
    owner::{self, First, Owners, SealedFor},
    purge, read,
    reader::reader,
    reference::Reference,
    seal::Seal,
    step::Step,
    versions::Versions,
};

/// A database in a data folder.
pub struct SqliteStore {
    pub(crate) path: PathBuf,
    pub(crate) seal: Arc<Seal>,
    pub(crate) committer: Arc<Committer>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) uploads: Arc<Uploads>,
    pub(crate) readers: Mutex<Vec<Connection>>,
    pub(crate) next_key: AtomicI64,
    pub(crate) witness: Option<Arc<Crashes>>,
    pub(crate) owners: Owners,
    pub(crate) versions: Versions,
    /// Held as long as the store is open.
    pub(crate) _lock: File,
}

impl Store for SqliteStore {
    fn allocate(&self) -> ExecutionKey {
        ExecutionKey(self.next_key.fetch_add(1, Ordering::Relaxed))
    }

    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, StoreError>> {
        let durable = self.uploads.submit(Step::prepare(append, &self.seal));
        Box::pin(async move { durable.await.unwrap_or_else(|_| Err(commit::closed())) })
    }

    fn find(&self, id: &ExecutionId) -> Result<Option<ExecutionRow>, StoreError> {
        self.read(|connection| read::find(connection, id))
    }

    fn find_run(&self, run: &RunId) -> Result<Option<ExecutionRow>, StoreError> {
        self.read(|connection| read::find_run(connection, run))
    }

    fn row(&self, key: ExecutionKey) -> Result<Option<ExecutionRow>, StoreError> {
        self.read(|connection| read::row(connection, key))
    }

    fn history(&self, key: ExecutionKey, from: u32, limit: usize) -> Result<Vec<StoredRecord>, StoreError> {
        let owner = self.owner(key)?;
        let of = (key, owner.as_ref());
        let found = self.read(|connection| read::history(connection, &self.seal, of, from, limit))?;
        self.complete(of, found)
    }

    fn last_records(&self, key: ExecutionKey, limit: usize) -> Result<Vec<StoredRecord>, StoreError> {
        let owner = self.owner(key)?;
        let of = (key, owner.as_ref());
        let found = self.read(|connection| read::last_records(connection, &self.seal, of, limit))?;
        self.complete(of, found)
    }

    fn sizes(&self, key: ExecutionKey, from: u32, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.read(|connection| read::sizes(connection, key, from, limit))
    }

    fn last_sizes(&self, key: ExecutionKey, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.read(|connection| read::last_sizes(connection, key, limit))
    }

    fn open_executions(&self) -> Result<Vec<(ExecutionKey, Wake)>, StoreError> {
        self.read(read::open_executions)
    }

    fn open_children(&self, parent: &ExecutionId) -> Result<Vec<Child>, StoreError> {
        self.read(|connection| read::open_children(connection, parent))
    }

    fn orphans(&self) -> Result<Vec<Child>, StoreError> {
        self.read(read::orphans)
    }

    fn pinned(&self) -> Result<HashSet<Digest>, StoreError> {
        self.read(read::pinned)
    }

    fn search_keys(&self, key: ExecutionKey) -> Result<Vec<(String, Option<String>)>, StoreError> {
        self.read(|connection| read::search_keys(connection, key))
    }

    fn seek(&self, runs: Runs<'_>, from: u64) -> Result<Merge, StoreError> {
        self.read(|connection| journal::seek(connection, runs, from))
    }

    fn merged(&self, merge: &mut Merge, upto: Upto) -> Result<Page, StoreError> {
        self.read(|connection| journal::merged(connection, merge, upto))
    }

    fn records(&self, places: &[Place]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        let sealed = self.read(|connection| journal::sealed(connection, places))?;
        self.opened_records(sealed)
    }

    fn open_runs(&self, scope: &Scope) -> Result<Vec<ExecutionKey>, StoreError> {
        self.read(|connection| journal::open_runs(connection, scope))
    }

    fn listen(&self, commits: Arc<dyn Commits>) -> u64 {
        self.committer.listen(commits)
    }

    fn list(&self, filter: &ListFilter) -> Result<Vec<ExecutionRow>, StoreError> {
        self.read(|connection| list::list(connection, filter))
    }

    fn witness(&self) -> Option<Arc<dyn Witness>> {
        self.witness.clone().map(|witness| witness as Arc<dyn Witness>)
    }

    fn purge(&self, before: UnixMs, limit: usize) -> BoxFuture<'static, Result<usize, StoreError>> {
        let (committer, objects) = (Arc::clone(&self.committer), Arc::clone(&self.objects));
        Box::pin(async move {
            let stopped = |error| StoreError::Failed(format!("the purge stopped: {error}"));
            let purge = {
                let committer = Arc::clone(&committer);
                move || {
                    let purged = purge::purge(&committer, before, limit)?;
                    Ok::<_, StoreError>((purged, committer.write(|connection| purge::doomed(connection))?))
                }
            };
            let (purged, doomed) = tokio::task::spawn_blocking(purge).await.map_err(stopped)??;
            if doomed.is_empty() {
                return Ok(purged);
            }
            // The runs are gone whether or not this succeeds; what stays is tried again by the next purge.
            let (send, deleted) = tokio::sync::oneshot::channel();
            objects.clone().spawn(async move {
                let mut gone = Vec::new();
                for path in doomed {
                    match objects.delete(&path).await {
                        Ok(()) => gone.push(path),
                        Err(error) => {
                            tracing::warn!(%error, "objects of purged executions are left for the next purge");
                            break;
                        }
                    }
                }
                let _ = send.send(committer.write(|connection| purge::forget(connection, &gone)));
            })?;
            deleted.await.unwrap_or_else(|_| Err(commit::closed()))?;
            Ok(purged)
        })
    }
}

impl SqliteStore {
    /// Removes large payloads that nothing refers to, left by a process that died between storing and committing, and says
    /// how many. Only what is older than a day: younger ones may belong to an append that is under way.
    #[boxed]
    pub async fn sweep_objects(&self) -> Result<usize, StoreError> {
        self.sweep_objects_older_than(std::time::Duration::from_secs(24 * 3600)).await
    }

    /// The same with another age.
    #[doc(hidden)]
    #[boxed]
    pub async fn sweep_objects_older_than(&self, age: std::time::Duration) -> Result<usize, StoreError> {
        let wanted = self.read(|connection| {
            let query = || {
                connection
                    .prepare_cached("SELECT path FROM objects UNION SELECT path FROM doomed")?
                    .query_map([], |row| row.get(0))?
                    .collect::<rusqlite::Result<HashSet<String>>>()
            };
            query().map_err(|error| failure(&error))
        })?;
        let (send, swept) = tokio::sync::oneshot::channel();
        let objects = Arc::clone(&self.objects);
        self.objects.spawn(async move {
            let _ = send.send(objects.sweep(wanted, age).await);
        })?;
        swept.await.unwrap_or_else(|_| Err(commit::closed()))
    }

    /// The owner of a run, which is the one that it was sealed for. None for a run that is not there.
    fn owner(&self, key: ExecutionKey) -> Result<Option<Principal>, StoreError> {
        let known = self.owners.known(key);
        let first = self.read(|connection| owner::first(connection, key, known.is_none()))?;
        let Some(First { owner, sealed }) = first else { return Ok(None) };
        let sealed_for = match (known, sealed) {
            (Some(known), _) => SealedFor::Owner(known),
            (None, None) => SealedFor::Nobody,
            (None, Some(sealed)) => match SealedFor::of(&self.seal, key, &sealed, &owner)? {
                SealedFor::Elsewhere(reference) => {
                    let objects = self.objects.get(vec![reference])?;
                    let sealed = objects.first().map_or(&[][..], Vec::as_slice);
                    SealedFor::of(&self.seal, key, sealed, &owner)?
                }
                said => said,
            },
        };
        if let SealedFor::Owner(sealed_for) = sealed_for {
            if sealed_for != owner {
                return Err(owner::changed());
            }
            self.owners.remember(key, &owner);
        }
        Ok(Some(owner))
    }

    /// Fetches the records that are elsewhere.
    fn complete(
        &self,
        (key, owner): (ExecutionKey, Option<&Principal>),
        found: read::Records,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let read::Records { mut records, elsewhere } = found;
        if elsewhere.is_empty() {
            return Ok(records);
        }
        let references = elsewhere.iter().map(|(_, _, reference)| reference.clone()).collect();
        let objects = self.objects.get(references)?;
        for ((position, index, _), sealed) in elsewhere.into_iter().zip(objects) {
            let (at, record) = self.seal.open_record(sealed, key, index, owner)?;
            if let Some(stored) = records.get_mut(position) {
                *stored = StoredRecord { at, record, ..*stored };
            }
        }
        Ok(records)
    }

    /// Opens records of many runs, fetching those that are elsewhere. A run that is not there any more has none.
    fn opened_records(&self, sealed: Vec<Option<Sealed>>) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        let mut owners: HashMap<ExecutionKey, Option<Principal>> = HashMap::new();
        let (mut records, mut elsewhere) = (Vec::with_capacity(sealed.len()), Vec::new());
        for sealed in sealed {
            let mut record = None;
            if let Some(Sealed { place, body }) = sealed {
                let owner = match owners.get(&place.key) {
                    Some(owner) => owner.clone(),
                    None => owners.entry(place.key).or_insert(self.owner(place.key)?).clone(),
                };
                if let Some(owner) = owner {
                    let opened = self.seal.open_at(body, place.key, place.index, Some(&owner))?;
                    match Reference::decode(&opened) {
                        Some(reference) => elsewhere.push((records.len(), place, owner, reference)),
                        None => {
                            let (at, decoded) = history::decode(&opened)?;
                            record = Some(StoredRecord { first_event: place.event, at, record: decoded });
                        }
                    }
                }
            }
            records.push(record);
        }
        for (position, place, owner, reference) in elsewhere {
            let sealed = match self.objects.get(vec![reference]) {
                Ok(objects) => objects.into_iter().next(),
                // It was removed with its run.
                Err(_) if self.row(place.key)?.is_none() => None,
                Err(error) => return Err(error),
            };
            if let (Some(sealed), Some(record)) = (sealed, records.get_mut(position)) {
                let (at, decoded) = self.seal.open_record(sealed, place.key, place.index, Some(&owner))?;
                *record = Some(StoredRecord { first_event: place.event, at, record: decoded });
            }
        }
        Ok(records)
    }

    /// Lends a connection that only reads.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let pooled = self.readers.lock().pop();
        let connection = match pooled {
            Some(connection) => connection,
            None => reader(&self.path).map_err(|error| failure(&error))?,
        };
        let result = work(&connection);
        self.readers.lock().push(connection);
        result
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // The lock of the folder goes now: whatever is still under way must not write any more.
        self.committer.close();
    }
}
