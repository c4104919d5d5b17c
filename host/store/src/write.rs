//! What a step writes.

use airlock_engine::{
    history::{ParentClose, SearchValue},
    store::{Start, Status, Wake},
};
use rusqlite::{Connection, params};

use crate::{
    names::{Kind, Names},
    reference::Reference,
    step::Step,
};

/// Everything of one step but its successor.
pub(crate) fn step(
    connection: &Connection,
    names: &mut Names,
    step: &Step,
    next_event: &mut i64,
) -> rusqlite::Result<()> {
    match step.start() {
        Some(start) => birth(connection, names, start, step)?,
        None => changes(connection, step)?,
    }
    search_keys(connection, step)?;
    records(connection, step, next_event)
}

fn birth(connection: &Connection, names: &mut Names, start: &Start, step: &Step) -> rusqlite::Result<()> {
    let (row, change) = (&start.row, &step.change);
    if let Some(former) = start.replaces {
        // If another run is the current one, the insert below meets it in the index and is a conflict.
        connection
            .prepare_cached("UPDATE executions SET current = 0 WHERE key = ?1 AND id = ?2 AND current = 1")?
            .execute(params![former.0, row.id.as_str()])?;
    }
    let (status, ended_at) = match change.end {
        Some((status, at)) => (status, Some(at as i64)),
        None => (row.status, row.ended_at.map(|at| at as i64)),
    };
    let wake = match change.wake {
        Some(wake) if status == Status::Running => wake_number(wake),
        _ => None,
    };
    let parent = row.parent.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO executions (key, id, current, run_id, workflow, user, workspace, organization, digest, \
             status, started_at, ended_at, wake_at, parent, parent_run, parent_seq, parent_close, root, schedule) \
             VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )?
        .execute(params![
            row.key.0,
            row.id.as_str(),
            row.run_id.0.as_bytes().as_slice(),
            names.number(connection, Kind::Workflow, &row.workflow)?,
            names.number(connection, Kind::User, row.principal.user.as_str())?,
            names.number(connection, Kind::Workspace, row.principal.workspace.as_str())?,
            names.number(connection, Kind::Organization, row.principal.organization.as_str())?,
            change.digest.unwrap_or(row.digest).0.as_slice(),
            status_number(status),
            row.started_at as i64,
            ended_at,
            wake,
            parent.map(|parent| parent.id.as_str()),
            parent.map(|parent| parent.run.0),
            parent.map(|parent| parent.seq),
            parent.map(|parent| close_number(parent.close)),
            (row.root != row.id).then(|| row.root.as_str()),
            row.schedule,
        ])?;
    Ok(())
}

fn changes(connection: &Connection, step: &Step) -> rusqlite::Result<()> {
    let (key, change) = (step.key.0, &step.change);
    if let Some(digest) = change.digest {
        connection
            .prepare_cached("UPDATE executions SET digest = ?2 WHERE key = ?1")?
            .execute(params![key, digest.0.as_slice()])?;
    }
    if let Some((status, at)) = change.end {
        connection
            .prepare_cached(
                "UPDATE executions SET status = ?2, ended_at = ?3, wake_at = NULL WHERE key = ?1",
            )?
            .execute(params![key, status_number(status), at as i64])?;
    } else if let Some(wake) = change.wake {
        connection
            .prepare_cached("UPDATE executions SET wake_at = ?2 WHERE key = ?1")?
            .execute(params![key, wake_number(wake)])?;
    }
    Ok(())
}

fn search_keys(connection: &Connection, step: &Step) -> rusqlite::Result<()> {
    for (name, value) in &step.change.search_keys {
        let value = match value {
            SearchValue::Text(text) => Some(text.as_str()),
            SearchValue::Null => None,
            SearchValue::Removed => {
                connection
                    .prepare_cached("DELETE FROM search_keys WHERE execution = ?1 AND name = ?2")?
                    .execute(params![step.key.0, name])?;
                continue;
            }
        };
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO search_keys (execution, name, value) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![step.key.0, name, value])?;
    }
    Ok(())
}

/// The rows of the journal.
pub(crate) fn records(connection: &Connection, step: &Step, next_event: &mut i64) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO journal (event, execution, idx, events, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (row, index) in step.rows.iter().zip(step.change.index..) {
        insert.execute(params![*next_event, step.key.0, index, row.events as i64, row.body])?;
        *next_event += row.events as i64;
        if let Some(Reference { path, length, sha256 }) = &row.object {
            connection
                .prepare_cached(
                    "INSERT INTO objects (execution, idx, path, length, sha256) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![step.key.0, index, path, *length as i64, sha256.as_slice()])?;
        }
    }
    Ok(())
}

pub(crate) fn status_number(status: Status) -> i64 {
    Status::ALL.iter().position(|known| *known == status).map_or(0, |position| position as i64)
}

/// In the order of their numbers in the database.
pub(crate) const CLOSES: [ParentClose; 3] =
    [ParentClose::Terminate, ParentClose::RequestCancel, ParentClose::Abandon];

fn close_number(close: ParentClose) -> i64 {
    CLOSES.iter().position(|known| *known == close).map_or(0, |position| position as i64)
}

fn wake_number(wake: Wake) -> Option<i64> {
    match wake {
        Wake::Now => Some(0),
        Wake::At(at) => Some(at as i64),
        Wake::Never => None,
    }
}
