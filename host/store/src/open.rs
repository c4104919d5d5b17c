//! Opening and laying out the database.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicI64},
};

use rusqlite::{Connection, OptionalExtension};

use crate::{
    commit::Committer,
    crashes::Crashes,
    database::SqliteStore,
    layout::{LAYOUT, TABLES},
    objects::{ObjectConfig, ObjectConfigError, Objects, Uploads},
    owner::Owners,
    seal::Seal,
    versions::{Versions, VersionsError},
};

/// Sealed at creation and opened at every start: a wrong key is noticed before anything is written with it.
const SEAL_CHECK: &[u8] = b"airlock";

/// A data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else uses it.
    #[error("another airlock daemon is using the data folder {}: stop it, or choose another folder", .0.display())]
    InUse(PathBuf),
    /// It cannot be written.
    #[error("the data folder {} cannot be used: {problem}. Check that it exists and that this user may write to it", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        problem: io::Error,
    },
    /// The key does not fit.
    #[error("the master key does not fit the data folder {}: use the key it was created with", .0.display())]
    WrongKey(PathBuf),
    /// It was laid out by a newer version.
    #[error(
        "the data folder has layout {found}, this airlock knows {LAYOUT}: install the newer version again"
    )]
    Newer {
        /// The folder's layout.
        found: i64,
    },
    /// It was laid out by an airlock from before the first release.
    #[error(
        "the data folder {} has layout {found}, from before the first release, which this airlock does not read: \
         start with an empty data folder, and if something in this one is still wanted, run the version that wrote it",
        folder.display()
    )]
    Older {
        /// The folder.
        folder: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// What guards records against being put back cannot be used.
    #[error(transparent)]
    Versions(#[from] VersionsError),
    /// The object store cannot be used.
    #[error(transparent)]
    Objects(#[from] ObjectConfigError),
    /// SQLite says no.
    #[error("the database in the data folder cannot be opened: {0}")]
    Database(#[from] rusqlite::Error),
}

impl SqliteStore {
    /// Opens the database in `folder`, creating it if there is none. `key` seals histories. Large payloads go into the
    /// folder `objects` beside it.
    pub fn open(folder: &Path, key: &[u8; 32]) -> Result<Arc<Self>, OpenError> {
        Self::open_with(folder, key, &ObjectConfig::default())
    }

    /// Opens the database in `folder`, with an object store of the caller's choice for large payloads. Nothing is asked of
    /// the object store before the first large payload.
    pub fn open_with(folder: &Path, key: &[u8; 32], objects: &ObjectConfig) -> Result<Arc<Self>, OpenError> {
        let folder_problem = |problem| OpenError::Folder { path: folder.into(), problem };
        std::fs::create_dir_all(folder).map_err(folder_problem)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .map_err(folder_problem)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse(folder.into()),
            TryLockError::Error(problem) => folder_problem(problem),
        })?;

        let path = folder.join("airlock.db");
        let mut connection = Connection::open(&path)?;
        configure(&connection)?;
        let seal = Arc::new(Seal::new(key));
        let objects = Arc::new(Objects::open(folder, objects)?);
        match connection.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => {
                let transaction = connection.transaction()?;
                transaction.execute_batch(TABLES)?;
                let check = seal.seal(SEAL_CHECK, SEAL_CHECK);
                transaction.execute("INSERT INTO seal_check VALUES (?1)", [check])?;
                transaction.pragma_update(None, "user_version", LAYOUT)?;
                transaction.commit()?;
            }
            LAYOUT => {
                let check: Vec<u8> =
                    connection.query_row("SELECT body FROM seal_check", [], |row| row.get(0))?;
                if seal.open(&check, SEAL_CHECK).as_deref() != Some(SEAL_CHECK) {
                    return Err(OpenError::WrongKey(folder.into()));
                }
            }
            found if found < LAYOUT => return Err(OpenError::Older { folder: folder.into(), found }),
            found => return Err(OpenError::Newer { found }),
        }
        note_location(&connection, &objects)?;
        let versions = Versions::open(folder, &seal, &mut connection)?;
        // What was purged had its numbers too.
        let next_key: i64 = connection.query_row(
            "SELECT max(coalesce((SELECT max(key) + 1 FROM executions), 1), \
             coalesce((SELECT value FROM marks WHERE name = 'key'), 1))",
            [],
            |row| row.get(0),
        )?;
        let next_event: i64 = connection.query_row(
            "SELECT max(coalesce((SELECT event + events FROM journal ORDER BY event DESC LIMIT 1), 1), \
             coalesce((SELECT value FROM marks WHERE name = 'event'), 1))",
            [],
            |row| row.get(0),
        )?;
        // Without the notes nothing is held back after crashes; that is no reason not to start.
        let witness = Crashes::open(folder)
            .inspect_err(|error| tracing::warn!(%error, "what runs cannot be noted for the case of a crash"))
            .ok()
            .map(Arc::new);
        let committer = Committer::start(connection, next_event);
        let uploads = Uploads::new(Arc::clone(&objects), Arc::clone(&committer), Arc::clone(&seal));
        Ok(Arc::new(Self {
            path,
            seal,
            committer,
            objects,
            uploads,
            readers: parking_lot::Mutex::default(),
            next_key: AtomicI64::new(next_key),
            witness,
            owners: Owners::default(),
            versions,
            _lock: lock,
        }))
    }
}

/// Notes where large payloads go, for backups. A change is fine once the objects have been moved there.
fn note_location(connection: &Connection, objects: &Objects) -> rusqlite::Result<()> {
    let before: Option<String> =
        connection.query_row("SELECT location FROM object_store", [], |row| row.get(0)).optional()?;
    if before.as_deref() == Some(objects.location()) {
        return Ok(());
    }
    if before.is_some()
        && connection.query_row("SELECT EXISTS (SELECT 1 FROM objects)", [], |row| row.get(0))?
    {
        tracing::warn!(
            "large payloads of this data folder were stored elsewhere before: move them to the new object store, \
             under the same paths, or executions that need them cannot go on"
        );
    }
    connection.execute("DELETE FROM object_store", [])?;
    connection.execute("INSERT INTO object_store (location) VALUES (?1)", [objects.location()])?;
    Ok(())
}

/// The settings under which a commit is durable.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A backup or a purge lets the log grow; afterwards it is cut to this.
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -8192)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.busy_timeout(std::time::Duration::from_secs(30))
}
