//! Small records under text keys.

use airlock_engine::{
    records::{Change, Records, RecordsError},
    store::StoreError,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{SqliteStore, failure};

impl Records for SqliteStore {
    fn get(&self, table: &str, key: &str) -> Result<Option<Vec<u8>>, RecordsError> {
        let query = |connection: &Connection| {
            connection
                .prepare_cached("SELECT value FROM records WHERE name = ?1 AND key = ?2")?
                .query_row(params![table, key], |row| row.get(0))
                .optional()
        };
        self.read(|connection| query(connection).map_err(|error| failure(&error))).map_err(problem)
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
        self.read(|connection| query(connection).map_err(|error| failure(&error))).map_err(problem)
    }

    fn write(&self, changes: &[Change]) -> Result<(), RecordsError> {
        let apply = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            for change in changes {
                match change {
                    Change::Put { table, key, value } => transaction
                        .prepare_cached(
                            "INSERT OR REPLACE INTO records (name, key, value) VALUES (?1, ?2, ?3)",
                        )?
                        .execute(params![table, key, value])?,
                    Change::Insert { table, key, value } => transaction
                        .prepare_cached("INSERT INTO records (name, key, value) VALUES (?1, ?2, ?3)")?
                        .execute(params![table, key, value])?,
                    Change::Delete { table, key } => transaction
                        .prepare_cached("DELETE FROM records WHERE name = ?1 AND key = ?2")?
                        .execute(params![table, key])?,
                };
            }
            transaction.commit()
        };
        self.committer.write(apply).map_err(problem)
    }
}

fn problem(error: StoreError) -> RecordsError {
    match error {
        StoreError::Conflict => RecordsError::Conflict,
        other => RecordsError::Store(other.to_string()),
    }
}
