//! Opening and laying out the database.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicI64},
};

use rusqlite::{Connection, OpenFlags};

use crate::{Seal, SqliteStore, commit::Committer};

/// Version of the layout below.
const LAYOUT: i64 = 1;

/// `status` is a position in `Status::ALL`. `wake_at` is 0 for "has work", a Unix time in milliseconds, or NULL for
/// "not by itself". The journal is in the order of commits, so that a commit of many executions writes few pages;
/// `event` numbers every event of the store, a row takes up `events` of them.
const TABLES: &str = "
    CREATE TABLE executions (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        run_id BLOB NOT NULL,
        workflow TEXT NOT NULL,
        digest BLOB NOT NULL,
        user TEXT NOT NULL,
        workspace TEXT NOT NULL,
        organization TEXT NOT NULL,
        status INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        ended_at INTEGER,
        wake_at INTEGER
    ) STRICT;
    CREATE INDEX executions_open ON executions (wake_at) WHERE status = 0;
    CREATE TABLE journal (
        event INTEGER PRIMARY KEY,
        execution INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        events INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX journal_execution ON journal (execution, idx);
    CREATE TABLE records (
        name TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (name, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE seal_check (body BLOB NOT NULL) STRICT;
";

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
    /// SQLite says no.
    #[error("the database in the data folder cannot be opened: {0}")]
    Database(#[from] rusqlite::Error),
}

impl SqliteStore {
    /// Opens the database in `folder`, creating it if there is none. `key` seals histories.
    pub fn open(folder: &Path, key: &[u8; 32]) -> Result<Arc<Self>, OpenError> {
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
        let seal = Seal::new(key);
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
            found => return Err(OpenError::Newer { found }),
        }
        let next_key: i64 =
            connection.query_row("SELECT coalesce(max(key), 0) + 1 FROM executions", [], |row| row.get(0))?;
        let next_event: i64 = connection.query_row(
            "SELECT coalesce((SELECT event + events FROM journal ORDER BY event DESC LIMIT 1), 1)",
            [],
            |row| row.get(0),
        )?;
        Ok(Arc::new(Self {
            path,
            seal,
            committer: Committer::start(connection, next_event),
            readers: parking_lot::Mutex::default(),
            next_key: AtomicI64::new(next_key),
            _lock: lock,
        }))
    }
}

/// The settings under which a commit is durable.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -8192)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.busy_timeout(std::time::Duration::from_secs(30))
}

/// A connection that only reads.
pub(crate) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.pragma_update(None, "cache_size", -2048)?;
    connection.busy_timeout(std::time::Duration::from_secs(30))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}
