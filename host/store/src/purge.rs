//! Removing runs that ended long ago.
//!
//! A run disappears in one transaction that takes its row and its search keys and notes what is left to do; its journal,
//! which may be long, goes in further short transactions. All of them take turns with the appends. What a crash leaves
//! is finished by the next purge.

use std::time::{Duration, Instant};

use airlock_engine::{history::UnixMs, store::StoreError};
use rusqlite::{Connection, TransactionBehavior, params};

use crate::{commit::Committer, read::rows};

/// Runs that disappear in one transaction.
const RUNS: usize = 16;
/// Rows of the journal that one transaction removes.
const RECORDS: usize = 256;
/// The pause between two transactions at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Removes up to `limit` runs that ended before `before`, and says how many.
pub(crate) fn purge(committer: &Committer, before: UnixMs, limit: usize) -> Result<usize, StoreError> {
    let mut removed = 0;
    loop {
        let share = RUNS.min(limit - removed);
        let taken = in_turn(|| {
            committer.write_at(|connection, next_event| take(connection, next_event, before, share))
        })?;
        removed += taken;
        while in_turn(|| committer.write(clear))? {}
        if taken < share || removed == limit {
            return Ok(removed);
        }
    }
}

/// A transaction, and as long a pause: half of the time belongs to the appends.
fn in_turn<T>(transaction: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let began = Instant::now();
    let outcome = transaction();
    std::thread::sleep(began.elapsed().min(LONGEST_PAUSE));
    outcome
}

/// Takes away the rows of some runs.
fn take(
    connection: &mut Connection,
    next_event: i64,
    before: UnixMs,
    limit: usize,
) -> rusqlite::Result<usize> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let keys = transaction
        .prepare_cached(
            "SELECT key FROM executions INDEXED BY ended_by_end \
             WHERE status <> 0 AND ended_at < ?1 ORDER BY ended_at, key LIMIT ?2",
        )?
        .query_map(params![i64::try_from(before).unwrap_or(i64::MAX), rows(limit)], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    if keys.is_empty() {
        return Ok(0);
    }
    // The highest numbers may be those that go: they are not given again.
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO marks (name, value) \
             VALUES ('key', (SELECT max(max(key) + 1, coalesce((SELECT value FROM marks WHERE name = 'key'), 1)) \
             FROM executions)), ('event', ?1)",
        )?
        .execute([next_event])?;
    for sql in [
        "INSERT INTO purged (key) VALUES (?1)",
        "INSERT OR IGNORE INTO doomed (path) SELECT path FROM objects WHERE execution = ?1",
        "DELETE FROM objects WHERE execution = ?1",
        "DELETE FROM search_keys WHERE execution = ?1",
        "DELETE FROM executions WHERE key = ?1",
    ] {
        let mut statement = transaction.prepare_cached(sql)?;
        for key in &keys {
            statement.execute([key])?;
        }
    }
    transaction.commit()?;
    Ok(keys.len())
}

/// Objects that nothing refers to any more.
pub(crate) fn doomed(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection.prepare_cached("SELECT path FROM doomed")?.query_map([], |row| row.get(0))?.collect()
}

/// The objects are gone.
pub(crate) fn forget(connection: &mut Connection, paths: &[String]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for path in paths {
        transaction.prepare_cached("DELETE FROM doomed WHERE path = ?1")?.execute([path])?;
    }
    transaction.commit()
}

/// Removes a piece of what is left of purged runs, and says whether there may be more.
fn clear(connection: &mut Connection) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let purged = transaction
        .prepare_cached("SELECT key FROM purged LIMIT ?1")?
        .query_map([rows(RUNS)], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    let mut room = RECORDS;
    for key in &purged {
        room -= transaction
            .prepare_cached(
                "DELETE FROM journal WHERE event IN (SELECT event FROM journal WHERE execution = ?1 LIMIT ?2)",
            )?
            .execute(params![key, rows(room)])?;
        if room == 0 {
            break;
        }
        transaction.prepare_cached("DELETE FROM purged WHERE key = ?1")?.execute([key])?;
    }
    transaction.commit()?;
    Ok(!purged.is_empty())
}
