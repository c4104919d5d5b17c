//! Queries.

use std::collections::HashSet;

use airlock_engine::{
    Digest, ExecutionId, ExecutionKey, OrganizationId, Principal, RunId, UserId, WorkspaceId,
    history::StoredRecord,
    store::{ExecutionRow, ListFilter, Status, StoreError, Wake},
};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Value};
use uuid::Uuid;

use crate::{Seal, commit::status_number, failure};

const COLUMNS: &str =
    "key, id, run_id, workflow, digest, user, workspace, organization, status, started_at, ended_at";

pub(crate) fn find(connection: &Connection, id: &ExecutionId) -> Result<Option<ExecutionRow>, StoreError> {
    one(connection, &format!("SELECT {COLUMNS} FROM executions WHERE id = ?1"), params![id.as_str()])
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

fn execution(row: &Row<'_>) -> rusqlite::Result<ExecutionRow> {
    let wrong = |column: usize| {
        rusqlite::Error::InvalidColumnType(column, "executions".into(), rusqlite::types::Type::Blob)
    };
    let id: String = row.get(1)?;
    let run_id: Vec<u8> = row.get(2)?;
    let digest: Vec<u8> = row.get(4)?;
    let status: u8 = row.get(8)?;
    Ok(ExecutionRow {
        key: ExecutionKey(row.get(0)?),
        id: id.parse().map_err(|_| wrong(1))?,
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
    })
}

pub(crate) fn history(
    connection: &Connection,
    seal: &Seal,
    key: ExecutionKey,
    from: u32,
    limit: usize,
) -> Result<Vec<StoredRecord>, StoreError> {
    let sql = "SELECT event, idx, body FROM journal WHERE execution = ?1 AND idx >= ?2 ORDER BY idx LIMIT ?3";
    stored(connection, seal, key, sql, params![key.0, from, limit as i64])
}

pub(crate) fn last_record(
    connection: &Connection,
    seal: &Seal,
    key: ExecutionKey,
) -> Result<Option<StoredRecord>, StoreError> {
    let sql = "SELECT event, idx, body FROM journal WHERE execution = ?1 ORDER BY idx DESC LIMIT 1";
    Ok(stored(connection, seal, key, sql, params![key.0])?.pop())
}

fn stored(
    connection: &Connection,
    seal: &Seal,
    key: ExecutionKey,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<Vec<StoredRecord>, StoreError> {
    let failed = |error: rusqlite::Error| failure(&error);
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query(params).map_err(failed)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let event: i64 = row.get(0).map_err(failed)?;
        let index: u32 = row.get(1).map_err(failed)?;
        let body = row.get_ref(2).and_then(|value| Ok(value.as_blob()?)).map_err(failed)?;
        let (at, record) = seal.open_record(body, key, index)?;
        records.push(StoredRecord { first_event: event as u64, at, record });
    }
    Ok(records)
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

pub(crate) fn list(connection: &Connection, filter: &ListFilter) -> Result<Vec<ExecutionRow>, StoreError> {
    let mut sql = format!("SELECT {COLUMNS} FROM executions WHERE 1");
    let mut values: Vec<Value> = Vec::new();
    let mut matches = |column: &str, value: Value| {
        values.push(value);
        sql.push_str(&format!(" AND {column} ?{}", values.len()));
    };
    if let Some(workspace) = &filter.workspace {
        matches("workspace =", workspace.as_str().to_owned().into());
    }
    if let Some(user) = &filter.user {
        matches("user =", user.as_str().to_owned().into());
    }
    if let Some(workflow) = &filter.workflow {
        matches("workflow =", workflow.clone().into());
    }
    if let Some(run) = &filter.run {
        matches("run_id =", run.0.as_bytes().to_vec().into());
    }
    if let Some(before) = filter.before {
        matches("key <", before.0.into());
    }
    if !filter.status.is_empty() {
        let numbers: Vec<String> =
            filter.status.iter().map(|status| status_number(*status).to_string()).collect();
        sql.push_str(&format!(" AND status IN ({})", numbers.join(",")));
    }
    sql.push_str(&format!(" ORDER BY key DESC LIMIT {}", filter.limit));
    let query = || {
        connection
            .prepare_cached(&sql)?
            .query_map(rusqlite::params_from_iter(values), execution)?
            .collect::<rusqlite::Result<Vec<_>>>()
    };
    query().map_err(|error| failure(&error))
}
