//! Small records under text keys, sealed like histories. The keys stand in clear.

use airlock_engine::{
    records::{Change, Records, RecordsError},
    store::StoreError,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    database::SqliteStore,
    failure::failure,
    versions::{Unread, Writing, is_guarded, unversioned},
};

impl Records for SqliteStore {
    fn get(&self, table: &str, key: &str) -> Result<Option<Vec<u8>>, RecordsError> {
        let query = |connection: &Connection| {
            connection
                .prepare_cached("SELECT value FROM records WHERE name = ?1 AND key = ?2")?
                .query_row(params![table, key], |row| row.get(0))
                .optional()
        };
        let sealed: Option<Vec<u8>> =
            self.read(|connection| query(connection).map_err(|error| failure(&error))).map_err(problem)?;
        sealed.map(|sealed| self.opened(table, key, &sealed)).transpose()
    }

    fn scan(
        &self,
        table: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, RecordsError> {
        let query = |connection: &Connection| -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
            let mut statement = connection.prepare_cached(
                "SELECT key, value FROM records WHERE name = ?1 AND key >= ?2 AND key > ?3 ORDER BY key LIMIT ?4",
            )?;
            let mut rows = statement.query(params![
                table,
                prefix,
                after.unwrap_or(""),
                i64::try_from(limit).unwrap_or(-1)
            ])?;
            let mut found = Vec::new();
            // Keys with the prefix stand together, from the prefix itself on.
            while let Some(row) = rows.next()? {
                let key: String = row.get(0)?;
                if !key.starts_with(prefix) {
                    break;
                }
                found.push((key, row.get(1)?));
            }
            Ok(found)
        };
        let found =
            self.read(|connection| query(connection).map_err(|error| failure(&error))).map_err(problem)?;
        let open = |(key, sealed): (String, Vec<u8>)| {
            let value = self.opened(table, &key, &sealed)?;
            Ok((key, value))
        };
        if !is_guarded(table) {
            return found.into_iter().map(open).collect();
        }
        // One row that was put back must not keep the others away.
        let current = |(key, value): (String, Vec<u8>)| match self.versions.open_row(table, &key, &value) {
            Ok(value) => Some((key, value)),
            Err(why) => {
                tracing::error!(
                    alarm = "records",
                    table,
                    key,
                    ?why,
                    "a record is not read: {}",
                    unread(table, why)
                );
                None
            }
        };
        Ok(found.into_iter().filter_map(current).collect())
    }

    fn write(&self, changes: &[Change]) -> Result<(), RecordsError> {
        let guarded = changes.iter().any(|change| {
            let (Change::Put { table, .. } | Change::Insert { table, .. } | Change::Delete { table, .. }) =
                change;
            is_guarded(table)
        });
        // The disk may be slow, and another process may hold the database for a moment.
        if !guarded {
            return blocking(|| self.write_with(changes, &mut None));
        }
        blocking(|| {
            let mut writing = Some(self.versions.begin());
            self.write_with(changes, &mut writing)?;
            let written = writing.map_or(Ok(()), Writing::done);
            written.map_err(|error| RecordsError::Store(error.to_string()))
        })
    }
}

impl SqliteStore {
    fn write_with(&self, changes: &[Change], writing: &mut Option<Writing<'_>>) -> Result<(), RecordsError> {
        let mut sealed = |table: &str, key: &str, value: &[u8]| match writing {
            Some(writing) if is_guarded(table) => writing.put(table, key, value),
            _ => self.seal.seal(value, &unversioned(table, key)),
        };
        let apply = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            for change in changes {
                match change {
                    Change::Put { table, key, value } => transaction
                        .prepare_cached(
                            "INSERT OR REPLACE INTO records (name, key, value) VALUES (?1, ?2, ?3)",
                        )?
                        .execute(params![table, key, sealed(table, key, value)])?,
                    Change::Insert { table, key, value } => transaction
                        .prepare_cached("INSERT INTO records (name, key, value) VALUES (?1, ?2, ?3)")?
                        .execute(params![table, key, sealed(table, key, value)])?,
                    Change::Delete { table, key } => transaction
                        .prepare_cached("DELETE FROM records WHERE name = ?1 AND key = ?2")?
                        .execute(params![table, key])?,
                };
            }
            transaction.commit()
        };
        self.committer.write(apply).map_err(problem)?;
        if let Some(writing) = writing {
            for change in changes {
                if let Change::Delete { table, key } = change
                    && is_guarded(table)
                {
                    writing.delete(table, key);
                }
            }
        }
        Ok(())
    }
}

/// Lets the other tasks of this thread go on elsewhere, where that is possible.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}

impl SqliteStore {
    fn opened(&self, table: &str, key: &str, sealed: &[u8]) -> Result<Vec<u8>, RecordsError> {
        let opened = match is_guarded(table) {
            true => self.versions.open_row(table, key, sealed),
            false => self.seal.open(sealed, &unversioned(table, key)).ok_or(Unread::Broken),
        };
        opened.map_err(|why| RecordsError::Store(unread(table, why)))
    }
}

fn unread(table: &str, why: Unread) -> String {
    match why {
        Unread::Broken => format!("the seal of a record of '{table}' is broken: it was changed or moved"),
        Unread::Old => format!(
            "a record of '{table}' is not the one that was written last: somebody put an old one back into the database"
        ),
    }
}

fn problem(error: StoreError) -> RecordsError {
    match error {
        StoreError::Conflict => RecordsError::Conflict,
        other => RecordsError::Store(other.to_string()),
    }
}
