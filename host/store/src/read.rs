//! Reading rows, histories and what hangs together.

use std::collections::HashSet;

use airlock_engine::{
    Digest, ExecutionId, ExecutionKey, OrganizationId, Principal, RunId, UserId, WorkspaceId,
    history::{self, Parent, Record, StoredRecord},
    store::{Child, ExecutionRow, Status, StoreError, Wake},
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::{
    failure::failure,
    reference::Reference,
    seal::Seal,
    write::{CLOSES, status_number},
};

/// What [`execution`] reads, of the table `executions`.
pub(crate) const COLUMNS: &str = "executions.key, id, run_id, \
    (SELECT name FROM names WHERE number = executions.workflow), digest, \
    (SELECT name FROM names WHERE number = executions.user), \
    (SELECT name FROM names WHERE number = executions.workspace), \
    (SELECT name FROM names WHERE number = executions.organization), \
    status, started_at, ended_at, parent, parent_run, parent_seq, parent_close, root, schedule";

pub(crate) fn find(connection: &Connection, id: &ExecutionId) -> Result<Option<ExecutionRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM executions WHERE id = ?1 AND current = 1");
    one(connection, &sql, params![id.as_str()])
}

pub(crate) fn find_run(connection: &Connection, run: &RunId) -> Result<Option<ExecutionRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM executions WHERE run_id = ?1 ORDER BY key DESC LIMIT 1");
    one(connection, &sql, params![run.0.as_bytes().as_slice()])
}

pub(crate) fn row(connection: &Connection, key: ExecutionKey) -> Result<Option<ExecutionRow>, StoreError> {
    one(connection, &format!("SELECT {COLUMNS} FROM executions WHERE key = ?1"), params![key.0])
}

fn one(
    connection: &Connection,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<Option<ExecutionRow>, StoreError> {
    let query = || connection.prepare_cached(sql)?.query_row(params, execution).optional();
    query().map_err(|error| failure(&error))
}

pub(crate) fn execution(row: &Row<'_>) -> rusqlite::Result<ExecutionRow> {
    let wrong = |column: usize| {
        rusqlite::Error::InvalidColumnType(column, "executions".into(), rusqlite::types::Type::Blob)
    };
    let id = |column: usize, text: String| text.parse::<ExecutionId>().map_err(|_| wrong(column));
    let own: ExecutionId = id(1, row.get(1)?)?;
    let run_id: Vec<u8> = row.get(2)?;
    let digest: Vec<u8> = row.get(4)?;
    let status: u8 = row.get(8)?;
    let parent = match row.get::<_, Option<String>>(11)? {
        Some(parent) => Some(Parent {
            id: id(11, parent)?,
            run: ExecutionKey(row.get(12)?),
            seq: row.get(13)?,
            close: *CLOSES.get(usize::from(row.get::<_, u8>(14)?)).ok_or_else(|| wrong(14))?,
        }),
        None => None,
    };
    let root = match row.get::<_, Option<String>>(15)? {
        Some(root) => id(15, root)?,
        None => own.clone(),
    };
    Ok(ExecutionRow {
        key: ExecutionKey(row.get(0)?),
        id: own,
        run_id: RunId(Uuid::from_slice(&run_id).map_err(|_| wrong(2))?),
        workflow: row.get(3)?,
        digest: Digest(digest.try_into().map_err(|_| wrong(4))?),
        principal: Principal {
            user: UserId::new(row.get::<_, String>(5)?),
            workspace: WorkspaceId::new(row.get::<_, String>(6)?),
            organization: OrganizationId::new(row.get::<_, String>(7)?),
        },
        status: *Status::ALL.get(usize::from(status)).ok_or_else(|| wrong(8))?,
        started_at: row.get::<_, i64>(9)? as u64,
        ended_at: row.get::<_, Option<i64>>(10)?.map(|at| at as u64),
        parent,
        root,
        schedule: row.get(16)?,
    })
}

/// Records as they stand in the journal, some of them elsewhere.
pub(crate) struct Records {
    /// Those that are elsewhere are there with something in their place.
    pub(crate) records: Vec<StoredRecord>,
    /// Position among the records, index in the history, and where it is.
    pub(crate) elsewhere: Vec<(usize, u32, Reference)>,
}

/// Bytes of records, in the journal and in objects, that are read for one call at most, unless it is one record.
const ROOM: u64 = 32_000_000;

pub(crate) fn history(
    connection: &Connection,
    seal: &Seal,
    (key, owner): (ExecutionKey, Option<&Principal>),
    from: u32,
    limit: usize,
) -> Result<Records, StoreError> {
    let sql = "SELECT event, idx, body FROM journal WHERE execution = ?1 AND idx >= ?2 ORDER BY idx LIMIT ?3";
    stored(connection, seal, (key, owner), sql, params![key.0, from, rows(limit)], ROOM)
}

/// What stands at the places of a history, by its size: the row, and the object if there is one.
const SIZES: &str = "SELECT length(journal.body) + coalesce(objects.length, 0) FROM journal LEFT JOIN objects \
    ON objects.execution = journal.execution AND objects.idx = journal.idx WHERE journal.execution = ?1";

pub(crate) fn sizes(
    connection: &Connection,
    key: ExecutionKey,
    from: u32,
    limit: usize,
) -> Result<Vec<u64>, StoreError> {
    let sql = format!("{SIZES} AND journal.idx >= ?2 ORDER BY journal.idx LIMIT ?3");
    numbers(connection, &sql, params![key.0, from, rows(limit)])
}

pub(crate) fn last_sizes(
    connection: &Connection,
    key: ExecutionKey,
    limit: usize,
) -> Result<Vec<u64>, StoreError> {
    let sql = format!("{SIZES} ORDER BY journal.idx DESC LIMIT ?2");
    numbers(connection, &sql, params![key.0, rows(limit)])
}

fn numbers(
    connection: &Connection,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<Vec<u64>, StoreError> {
    let query = || {
        connection
            .prepare_cached(sql)?
            .query_map(params, |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))?
            .collect::<rusqlite::Result<Vec<_>>>()
    };
    query().map_err(|error| failure(&error))
}

pub(crate) fn last_records(
    connection: &Connection,
    seal: &Seal,
    (key, owner): (ExecutionKey, Option<&Principal>),
    limit: usize,
) -> Result<Records, StoreError> {
    let sql = "SELECT event, idx, body FROM journal WHERE execution = ?1 ORDER BY idx DESC LIMIT ?2";
    stored(connection, seal, (key, owner), sql, params![key.0, rows(limit)], u64::MAX)
}

/// A limit as SQLite takes it.
pub(crate) fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn stored(
    connection: &Connection,
    seal: &Seal,
    (key, owner): (ExecutionKey, Option<&Principal>),
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
    mut room: u64,
) -> Result<Records, StoreError> {
    let failed = |error: rusqlite::Error| failure(&error);
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query(params).map_err(failed)?;
    let (mut records, mut elsewhere) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next().map_err(failed)? {
        let event: i64 = row.get(0).map_err(failed)?;
        let index: u32 = row.get(1).map_err(failed)?;
        let body = row.get_ref(2).and_then(|value| Ok(value.as_blob()?)).map_err(failed)?;
        if body.len() as u64 > room && !records.is_empty() {
            break;
        }
        room = room.saturating_sub(body.len() as u64);
        let opened = seal.open_at(body.to_vec(), key, index, owner)?;
        let (at, record) = match Reference::decode(&opened) {
            None => history::decode(&opened)?,
            Some(reference) => {
                if reference.length > room && !records.is_empty() {
                    break;
                }
                room = room.saturating_sub(reference.length);
                elsewhere.push((records.len(), index, reference));
                (0, Record::Unblocked)
            }
        };
        records.push(StoredRecord { first_event: event as u64, at, record });
    }
    Ok(Records { records, elsewhere })
}

pub(crate) fn open_executions(connection: &Connection) -> Result<Vec<(ExecutionKey, Wake)>, StoreError> {
    let query = || {
        connection
            .prepare_cached("SELECT key, wake_at FROM executions WHERE status = 0 ORDER BY key")?
            .query_map([], |row| {
                let wake = match row.get::<_, Option<i64>>(1)? {
                    None => Wake::Never,
                    Some(0) => Wake::Now,
                    Some(at) => Wake::At(at as u64),
                };
                Ok((ExecutionKey(row.get(0)?), wake))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()
    };
    query().map_err(|error| failure(&error))
}

pub(crate) fn pinned(connection: &Connection) -> Result<HashSet<Digest>, StoreError> {
    let query = || {
        connection
            .prepare_cached("SELECT DISTINCT digest FROM executions WHERE status = 0")?
            .query_map([], |row| row.get::<_, Vec<u8>>(0))?
            .collect::<rusqlite::Result<Vec<_>>>()
    };
    let digests = query().map_err(|error| failure(&error))?;
    Ok(digests.into_iter().filter_map(|digest| Some(Digest(digest.try_into().ok()?))).collect())
}

/// Columns of [`child`].
const CHILD: &str = "SELECT child.key, child.id, child.parent_close FROM executions AS child";

pub(crate) fn open_children(connection: &Connection, parent: &ExecutionId) -> Result<Vec<Child>, StoreError> {
    let sql = format!(
        "{CHILD} INDEXED BY executions_parent \
         WHERE child.parent = ?1 AND child.status = 0 AND child.current = 1 ORDER BY child.key"
    );
    children(connection, &sql, params![parent.as_str()])
}

pub(crate) fn orphans(connection: &Connection) -> Result<Vec<Child>, StoreError> {
    let sql = format!(
        "{CHILD} INDEXED BY executions_open \
         WHERE child.status = 0 AND child.current = 1 AND child.parent IS NOT NULL AND child.parent_close <> 2 \
         AND (NOT EXISTS (SELECT 1 FROM executions AS parent \
         WHERE parent.id = child.parent AND parent.current = 1 AND parent.status = 0) \
         OR EXISTS (SELECT 1 FROM executions AS run \
         WHERE run.key = child.parent_run AND run.status NOT IN (0, {continued}))) ORDER BY child.key",
        continued = status_number(Status::ContinuedAsNew)
    );
    children(connection, &sql, params![])
}

fn children(
    connection: &Connection,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<Vec<Child>, StoreError> {
    let wrong = |column: usize| {
        rusqlite::Error::InvalidColumnType(column, "executions".into(), rusqlite::types::Type::Text)
    };
    let child = |row: &Row<'_>| {
        Ok(Child {
            key: ExecutionKey(row.get(0)?),
            id: row.get::<_, String>(1)?.parse().map_err(|_| wrong(1))?,
            close: *CLOSES.get(usize::from(row.get::<_, u8>(2)?)).ok_or_else(|| wrong(2))?,
        })
    };
    let query =
        || connection.prepare_cached(sql)?.query_map(params, child)?.collect::<rusqlite::Result<Vec<_>>>();
    query().map_err(|error| failure(&error))
}

pub(crate) fn search_keys(
    connection: &Connection,
    key: ExecutionKey,
) -> Result<Vec<(String, Option<String>)>, StoreError> {
    let query = || {
        connection
            .prepare_cached("SELECT name, value FROM search_keys WHERE execution = ?1 ORDER BY name")?
            .query_map([key.0], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()
    };
    query().map_err(|error| failure(&error))
}
