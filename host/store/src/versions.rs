//! Records that must not go back.
//!
//! A seal shows that a record was written by this daemon, and not that it is the one that was written last: who can write
//! the database could put an old row back, and a revoked key would open again. The rows of the tables in [`GUARDED`] have a
//! version, which is part of what they are sealed for and grows with every write. The version of each row stands, sealed, in
//! a small file beside the database, which is written after the database and before the write is acknowledged. A row with
//! an older version than the file says is not read: a key opens nothing then, and a kept head of the audit log is none.
//!
//! A database newer than the file is what a crash between the two leaves, and is right. Whoever puts the file back as well,
//! that is the whole folder, is not noticed here: that takes a witness outside.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::seal::Seal;

/// The file.
pub(crate) const FILE: &str = "versions";

/// Tables whose rows have versions: keys of the API, and how far the audit log went.
const GUARDED: [&str; 2] = ["api_keys", "audit_head"];

/// What a row with a version begins with; then the version, then what is sealed. A seal begins with a random number.
const MARK: &[u8; 8] = b"\0version";

/// What the file is sealed for.
const PLACE: &[u8] = b"airlock versions 1";

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VersionsError {
    /// It is not there, and the database says that it was.
    #[error(
        "{} is missing, and without it nobody knows whether a revoked key was put back: bring it back, from the backup that \
         the database is from", .0.display()
    )]
    Missing(PathBuf),
    /// It was changed, or belongs to another folder.
    #[error("{} is damaged or belongs to another data folder: bring it back, from the backup that the database is from", .0.display())]
    Damaged(PathBuf),
    /// The system says no.
    #[error("{} cannot be used: {problem}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        problem: io::Error,
    },
    /// SQLite says no.
    #[error("the records in the database cannot be read: {0}")]
    Database(#[from] rusqlite::Error),
}

/// What stands in the file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    /// The highest version that was given.
    version: u64,
    /// The rows of before have got their versions.
    complete: bool,
    /// By table and key.
    rows: BTreeMap<String, BTreeMap<String, u64>>,
}

/// The versions of guarded rows.
pub(crate) struct Versions {
    file: PathBuf,
    seal: Arc<Seal>,
    state: Mutex<State>,
}

/// Why a row is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It was changed or moved.
    Broken,
    /// It is not the one that was written last.
    Old,
}

pub(crate) fn is_guarded(table: &str) -> bool {
    GUARDED.contains(&table)
}

impl Versions {
    /// Reads the file. A folder of before gets its versions now.
    pub(crate) fn open(
        folder: &Path,
        seal: &Arc<Seal>,
        connection: &mut Connection,
    ) -> Result<Self, VersionsError> {
        let file = folder.join(FILE);
        let state = match fs::read(&file) {
            Ok(sealed) => {
                let opened = seal.open(&sealed, PLACE);
                let state = opened.and_then(|opened| serde_json::from_slice(&opened).ok());
                Some(state.ok_or_else(|| VersionsError::Damaged(file.clone()))?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(problem) => return Err(VersionsError::File { file, problem }),
        };
        let is_new = state.is_none();
        let versions =
            Self { file, seal: Arc::clone(seal), state: Mutex::new(state.unwrap_or_else(State::default)) };
        versions.take_over(connection, is_new)?;
        Ok(versions)
    }

    /// Gives versions to rows that have none, and learns of those that were written last.
    fn take_over(&self, connection: &mut Connection, is_new: bool) -> Result<(), VersionsError> {
        let mut state = self.state.lock();
        let before = serde_json::to_vec(&*state).unwrap_or_default();
        let mut rows = Vec::new();
        for table in GUARDED {
            let mut found = connection.prepare("SELECT key, value FROM records WHERE name = ?1")?;
            let found = found.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
            for row in found {
                let (key, value): (String, Vec<u8>) = row?;
                rows.push((table, key, value));
            }
        }
        if is_new && rows.iter().any(|(_, _, value)| parts(value).is_some()) {
            return Err(VersionsError::Missing(self.file.clone()));
        }
        if !state.complete {
            self.write(&state)?;
            let transaction = connection.transaction()?;
            for (table, key, value) in &mut rows {
                if let Some(opened) = self.seal.open(value, &unversioned(table, key)) {
                    state.version += 1;
                    *value = seal(&self.seal, table, key, state.version, &opened);
                    let version = state.version;
                    state.rows.entry((*table).into()).or_default().insert(key.clone(), version);
                    transaction.execute(
                        "UPDATE records SET value = ?3 WHERE name = ?1 AND key = ?2",
                        params![*table, *key, *value],
                    )?;
                }
            }
            transaction.commit()?;
            state.complete = true;
        }
        for (table, key, value) in &rows {
            let Some((version, sealed)) = parts(value) else { continue };
            // Later than the file: the process died before it had written that.
            if self.is_current(&state, table, key, version)
                && self.seal.open(sealed, &place(table, key, version)).is_some()
            {
                state.rows.entry((*table).into()).or_default().insert(key.clone(), version);
            }
        }
        let highest = state.rows.values().flat_map(BTreeMap::values).max().copied().unwrap_or(0);
        state.version = state.version.max(highest);
        if is_new || serde_json::to_vec(&*state).unwrap_or_default() != before {
            self.write(&state)?;
        }
        Ok(())
    }

    fn is_current(&self, state: &State, table: &str, key: &str, version: u64) -> bool {
        match state.rows.get(table).and_then(|rows| rows.get(key)) {
            Some(known) => version >= *known,
            // Written after the file, or taken out before.
            None => version > state.version,
        }
    }

    /// Opens a row of a guarded table.
    pub(crate) fn open_row(&self, table: &str, key: &str, value: &[u8]) -> Result<Vec<u8>, Unread> {
        let Some((version, sealed)) = parts(value) else {
            let old = self.seal.open(value, &unversioned(table, key)).is_some();
            return Err(if old { Unread::Old } else { Unread::Broken });
        };
        let opened = self.seal.open(sealed, &place(table, key, version)).ok_or(Unread::Broken)?;
        if self.is_current(&self.state.lock(), table, key, version) { Ok(opened) } else { Err(Unread::Old) }
    }

    /// Begins a write of guarded rows. Others wait until it is over.
    pub(crate) fn begin(&self) -> Writing<'_> {
        let state = self.state.lock();
        Writing { versions: self, next: state.clone(), state }
    }

    /// Writes the file, which is either the old or the new one after a crash.
    fn write(&self, state: &State) -> Result<(), VersionsError> {
        let text = serde_json::to_vec(state).unwrap_or_default();
        let sealed = self.seal.seal(&text, PLACE);
        let part = self.file.with_extension("part");
        let put = || {
            let mut options = File::options();
            let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            out.write_all(&sealed)?;
            out.sync_all()?;
            fs::rename(&part, &self.file)?;
            match self.file.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        put().map_err(|problem| VersionsError::File { file: self.file.clone(), problem })
    }
}

/// A write of guarded rows that is under way.
pub(crate) struct Writing<'a> {
    versions: &'a Versions,
    state: MutexGuard<'a, State>,
    next: State,
}

impl Writing<'_> {
    /// A row with its next version.
    pub(crate) fn put(&mut self, table: &str, key: &str, value: &[u8]) -> Vec<u8> {
        self.next.version += 1;
        let version = self.next.version;
        self.next.rows.entry(table.into()).or_default().insert(key.into(), version);
        seal(&self.versions.seal, table, key, version, value)
    }

    /// A row that is taken out: it does not come back under any version that there was.
    pub(crate) fn delete(&mut self, table: &str, key: &str) {
        self.next.version += 1;
        if let Some(rows) = self.next.rows.get_mut(table) {
            rows.remove(key);
        }
    }

    /// The rows are in the database: from now on the ones before are old.
    pub(crate) fn done(mut self) -> Result<(), VersionsError> {
        *self.state = std::mem::take(&mut self.next);
        self.versions.write(&self.state)
    }
}

/// Version and sealed content of a row.
fn parts(value: &[u8]) -> Option<(u64, &[u8])> {
    let (version, sealed) = value.strip_prefix(MARK)?.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*version), sealed))
}

fn seal(seal: &Seal, table: &str, key: &str, version: u64, value: &[u8]) -> Vec<u8> {
    let mut row = MARK.to_vec();
    row.extend(version.to_le_bytes());
    row.extend(seal.seal(value, &place(table, key, version)));
    row
}

fn place(table: &str, key: &str, version: u64) -> Vec<u8> {
    // Names of tables hold no line feed.
    format!("version {version}\n{table}\n{key}").into_bytes()
}

/// What records without a version are sealed for.
pub(crate) fn unversioned(table: &str, key: &str) -> Vec<u8> {
    format!("record\n{table}\n{key}").into_bytes()
}

#[cfg(test)]
mod tests {
    use airlock_engine::records::Records;

    use super::*;
    use crate::SqliteStore;

    #[test]
    fn a19_rows_of_before_get_versions_at_the_first_start_and_go_back_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = [7; 32];
        drop(SqliteStore::open(folder.path(), &key).expect("opens"));
        let of_before = |value: &[u8]| Seal::new(&key).seal(value, &unversioned("api_keys", "a"));
        let write = |value: Vec<u8>| {
            let connection = Connection::open(folder.path().join("airlock.db")).expect("opens");
            let sql = "INSERT OR REPLACE INTO records (name, key, value) VALUES ('api_keys', 'a', ?1)";
            connection.execute(sql, [value]).expect("writes");
        };
        let read = || {
            let store = SqliteStore::open(folder.path(), &key).expect("opens");
            store.get("api_keys", "a")
        };
        // A folder that knows of no versions.
        fs::remove_file(folder.path().join(FILE)).expect("removes");
        write(of_before(b"first"));
        assert_eq!(read().expect("reads"), Some(b"first".to_vec()));
        let connection = Connection::open(folder.path().join("airlock.db")).expect("opens");
        let row: Vec<u8> = connection
            .query_row("SELECT value FROM records WHERE key = 'a'", [], |row| row.get(0))
            .expect("reads");
        assert!(parts(&row).is_some());
        // A start that was cut short begins the change again.
        let file = folder.path().join(FILE);
        let begun = serde_json::to_vec(&State::default()).expect("JSON");
        fs::write(&file, Seal::new(&key).seal(&begun, PLACE)).expect("writes");
        assert_eq!(read().expect("reads"), Some(b"first".to_vec()));
        write(of_before(b"second"));
        fs::write(&file, Seal::new(&key).seal(&begun, PLACE)).expect("writes");
        assert_eq!(read().expect("reads"), Some(b"second".to_vec()));
        // Afterwards one of before is an old one.
        write(of_before(b"first"));
        assert!(read().is_err());
    }
}
