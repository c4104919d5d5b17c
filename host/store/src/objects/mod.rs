//! Large payloads, apart from the database.
//!
//! A record whose sealed form is large is put into an object store before the append is committed, and the journal holds
//! a sealed reference to it. The object is sealed for the same place in the same history as a row would be: whoever can
//! read the object store learns sizes and times, and what is changed or exchanged there is noticed.

mod config;
mod sweep;
mod uploads;

use std::{
    future::Future,
    io,
    path::Path as Folder,
    sync::{Arc, OnceLock, mpsc},
    time::Duration,
};

use airlock_engine::{history::CorruptRecord, store::StoreError};
use futures::{StreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use tokio::runtime::Runtime;

pub use self::config::{ObjectConfig, ObjectConfigError};
pub(crate) use self::{config::FOLDER, uploads::Uploads};
use crate::reference::Reference;

/// Patience with one object; the engine repeats an append that failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Objects that are read at the same time.
const AT_ONCE: usize = 8;

/// A place for large payloads.
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// What every path begins with.
    prefix: Path,
    /// For messages and backups: where the objects are.
    location: String,
    /// Callers of reads block: what they wait for runs elsewhere. Made when it is first needed.
    runtime: OnceLock<Runtime>,
}

impl Objects {
    pub(crate) fn open(folder: &Folder, config: &ObjectConfig) -> Result<Self, ObjectConfigError> {
        let (store, prefix, location) = config::connect(folder, config)?;
        Ok(Self { store, prefix, location, runtime: OnceLock::new() })
    }

    /// Where the objects are, without secrets; empty for the data folder itself.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// Runs something that belongs to no caller.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Result<(), StoreError> {
        self.runtime()?.spawn(work);
        Ok(())
    }

    fn runtime(&self) -> Result<&Runtime, StoreError> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let made = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("airlock-objects")
            .enable_all()
            .build()
            .map_err(|error| {
                StoreError::Failed(format!("the system gives no threads for the object store: {error}"))
            })?;
        if let Err(second) = self.runtime.set(made) {
            // Somebody else was quicker.
            second.shutdown_background();
        }
        self.runtime.get().ok_or_else(|| StoreError::Failed("the object store has no threads".into()))
    }

    /// Stores an object; durable when it returns.
    pub(crate) async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let place = self.place(path)?;
        match tokio::time::timeout(LIMIT, self.store.put(&place, bytes.into())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => Err(self.unreachable(&"it did not answer in time")),
        }
    }

    /// The objects, in the order of the references. Blocks; for threads with a runtime of their own, too.
    pub(crate) fn get(self: &Arc<Self>, references: Vec<Reference>) -> Result<Vec<Vec<u8>>, StoreError> {
        let (send, receive) = mpsc::sync_channel(1);
        let objects = Arc::clone(self);
        self.spawn(async move {
            let read = stream::iter(references).map(|reference| objects.get_one(reference)).buffered(AT_ONCE);
            let read: Vec<_> = read.collect().await;
            // The receiver waits as long as the runtime lives.
            let _ = send.send(read.into_iter().collect());
        })?;
        receive.recv().unwrap_or_else(|_| Err(StoreError::Failed("the store was closed".into())))
    }

    async fn get_one(&self, reference: Reference) -> Result<Vec<u8>, StoreError> {
        let place = self.place(&reference.path)?;
        let read = async { self.store.get(&place).await?.bytes().await };
        let bytes = match tokio::time::timeout(LIMIT, read).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(object_store::Error::NotFound { .. })) => {
                return Err(StoreError::Corrupt(CorruptRecord::Damaged(format!(
                    "its payload '{}' is not in {}: put it back, from a backup if need be",
                    reference.path,
                    self.described()
                ))));
            }
            Ok(Err(error)) => return Err(self.unreachable(&error)),
            Err(_) => return Err(self.unreachable(&"it did not answer in time")),
        };
        if !reference.fits(&bytes) {
            return Err(StoreError::Corrupt(CorruptRecord::Damaged(format!(
                "its payload '{}' in {} was changed: put the right one back, from a backup if need be",
                reference.path,
                self.described()
            ))));
        }
        Ok(bytes.into())
    }

    /// Removes an object if it is there.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), StoreError> {
        let place = self.place(path)?;
        match tokio::time::timeout(LIMIT, self.store.delete(&place)).await {
            Ok(Ok(()) | Err(object_store::Error::NotFound { .. })) => Ok(()),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => Err(self.unreachable(&"it did not answer in time")),
        }
    }

    fn place(&self, path: &str) -> Result<Path, StoreError> {
        let full = match self.prefix.as_ref() {
            "" => path.to_owned(),
            prefix => format!("{prefix}/{path}"),
        };
        Path::parse(full).map_err(|error| self.unreachable(&error))
    }

    fn described(&self) -> String {
        match &self.location[..] {
            "" => "the folder 'objects' of the data folder".into(),
            location => format!("the object store {location}"),
        }
    }

    fn unreachable(&self, problem: &dyn std::fmt::Display) -> StoreError {
        let check = match &self.location[..] {
            "" => "check that it is there, can be written and has space",
            _ => "check that it can be reached and that its credentials and its name are right",
        };
        StoreError::Failed(format!(
            "{} cannot be used for large payloads: {check}. It says: {problem}",
            self.described()
        ))
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Also from within another runtime, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

/// The folder for objects in a data folder, made if it is not there.
pub(crate) fn private_folder(path: &Folder) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}
