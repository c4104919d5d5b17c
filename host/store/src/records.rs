//! Small records under text keys, sealed like histories. The keys stand in clear.

use airlock_engine::{
    records::{Change, Records, RecordsError},
    store::StoreError,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{database::SqliteStore, failure::failure};

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
        found.into_iter().map(open).collect()
    }

    fn write(&self, changes: &[Change]) -> Result<(), RecordsError> {
        let sealed = |table: &str, key: &str, value: &[u8]| self.seal.seal(value, &place(table, key));
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
        // The disk may be slow, and another process may hold the database for a moment.
        blocking(|| self.committer.write(apply)).map_err(problem)
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
        self.seal.open(sealed, &place(table, key)).ok_or_else(|| {
            RecordsError::Store(format!(
                "the seal of a record of '{table}' is broken: it was changed or moved"
            ))
        })
    }
}

/// What a sealed record is bound to.
fn place(table: &str, key: &str) -> Vec<u8> {
    // Names of tables hold no line feed.
    format!("record\n{table}\n{key}").into_bytes()
}

fn problem(error: StoreError) -> RecordsError {
    match error {
        StoreError::Conflict => RecordsError::Conflict,
        other => RecordsError::Store(other.to_string()),
    }
}
