//! The events of many runs in one order.
//!
//! `event` is the key of the journal and stands in its index as well, so that everything but the records themselves is
//! found in that index: where a run's records begin to be wanted, and which one comes next. A run costs a few looks,
//! however long it is, and nothing of other runs is touched.

use airlock_engine::{
    ExecutionKey,
    store::{Family, Merge, Page, Place, Runs, Scope, StoreError, Upto},
};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter, types::Value};

use crate::{
    failure::failure,
    names::{self, Kind},
};

pub(crate) fn seek(connection: &Connection, runs: Runs<'_>, from: u64) -> Result<Merge, StoreError> {
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let look = || {
        // One view of everything: a run that is removed meanwhile is there with all of its records, or not at all.
        let view = connection.unchecked_transaction()?;
        let keys = match runs {
            Runs::In(scope) => keys(&view, scope, "")?,
            Runs::These(keys) => present(&view, keys)?,
        };
        let mut merge = Merge::default();
        for key in keys {
            if let Some(place) = first_from(&view, key, from)? {
                merge.put(place);
            }
        }
        Ok(merge)
    };
    look().map_err(|error| failure(&error))
}

pub(crate) fn merged(connection: &Connection, merge: &mut Merge, upto: Upto) -> Result<Page, StoreError> {
    let mut take = || {
        let view = connection.unchecked_transaction()?;
        let mut page = Page::default();
        while page.places.len() < upto.records
            && let Some(place) = merge.first().filter(|place| place.event <= upto.event)
        {
            let bytes = bytes_at(&view, &place)?;
            if !page.places.is_empty() && page.bytes + bytes.unwrap_or(0) > upto.bytes {
                break;
            }
            merge.take();
            // Otherwise its run was removed, with all that would follow.
            if let Some(bytes) = bytes {
                page.places.push(place);
                page.bytes += bytes;
                let index = place.index + 1;
                if let Some(event) = event_at(&view, place.key, index)? {
                    merge.put(Place { event: event as u64, index, ..place });
                }
            }
        }
        Ok(page)
    };
    take().map_err(|error| failure(&error))
}

/// A record that is sealed.
pub(crate) struct Sealed {
    pub(crate) place: Place,
    pub(crate) body: Vec<u8>,
}

/// What stands at places that are still there.
pub(crate) fn sealed(connection: &Connection, places: &[Place]) -> Result<Vec<Option<Sealed>>, StoreError> {
    let read = || {
        let mut statement = connection
            .prepare_cached("SELECT body FROM journal WHERE event = ?1 AND execution = ?2 AND idx = ?3")?;
        let mut found = Vec::with_capacity(places.len());
        for place in places {
            let at = params![place.event as i64, place.key.0, place.index];
            let body = statement.query_row(at, |row| row.get(0)).optional()?;
            found.push(body.map(|body| Sealed { place: *place, body }));
        }
        Ok(found)
    };
    read().map_err(|error| failure(&error))
}

pub(crate) fn open_runs(connection: &Connection, scope: &Scope) -> Result<Vec<ExecutionKey>, StoreError> {
    keys(connection, scope, " AND status = 0").map_err(|error| failure(&error))
}

/// The runs of a scope that meet a further condition, in no order.
fn keys(connection: &Connection, scope: &Scope, more: &str) -> rusqlite::Result<Vec<ExecutionKey>> {
    let (mut conditions, mut values) = (more.to_owned(), Vec::new());
    for (column, kind, name) in [
        ("workspace", Kind::Workspace, scope.workspace.as_ref().map(|it| it.as_str())),
        ("user", Kind::User, scope.user.as_ref().map(|it| it.as_str())),
    ] {
        let Some(name) = name else { continue };
        // A name that nobody has had owns no run.
        let Some(number) = names::find(connection, kind, name)? else { return Ok(Vec::new()) };
        conditions.push_str(&format!(" AND {column} = {number}"));
    }
    for family in &scope.within {
        let (text, id) = match family {
            Family::Execution(id) => (" AND id = ?", id),
            Family::Children(parent) => (" AND parent = ?", parent),
            Family::Tree(root) => (" AND coalesce(root, id) = ?", root),
        };
        conditions.push_str(text);
        values.push(Value::from(id.as_str().to_owned()));
    }
    // Each of these has an index of its own.
    let (sources, id): (&[&str], _) = match &scope.family {
        Family::Execution(id) => (&["WHERE id = ? AND current = 1", "WHERE id = ? AND current = 0"], id),
        Family::Children(parent) => (&["INDEXED BY executions_parent WHERE parent = ?"], parent),
        Family::Tree(root) => (
            &[
                "INDEXED BY executions_root WHERE root = ?",
                "WHERE id = ? AND current = 1 AND root IS NULL",
                "WHERE id = ? AND current = 0 AND root IS NULL",
            ],
            root,
        ),
    };
    let mut found = Vec::new();
    for source in sources {
        let sql = format!("SELECT key FROM executions {source}{conditions}");
        let values = std::iter::once(Value::from(id.as_str().to_owned())).chain(values.iter().cloned());
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(values), |row| Ok(ExecutionKey(row.get(0)?)))?;
        for key in rows {
            found.push(key?);
        }
    }
    Ok(found)
}

/// Those of these runs that are there.
fn present(connection: &Connection, keys: &[ExecutionKey]) -> rusqlite::Result<Vec<ExecutionKey>> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM executions WHERE key = ?1")?;
    let mut present = Vec::with_capacity(keys.len());
    for key in keys {
        if statement.exists([key.0])? {
            present.push(*key);
        }
    }
    Ok(present)
}

/// The first record of a run that holds the event `from` or a later one.
fn first_from(connection: &Connection, key: ExecutionKey, from: i64) -> rusqlite::Result<Option<Place>> {
    let place = |index: u32, event: i64| Some(Place { event: event as u64, key, index });
    let last = connection
        .prepare_cached(
            "SELECT idx, event, events FROM journal WHERE execution = ?1 ORDER BY idx DESC LIMIT 1",
        )?
        .query_row([key.0], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        .optional()?;
    let Some((last, event, events)) = last else { return Ok(None) };
    if event.saturating_add(events) <= from {
        return Ok(None);
    }
    if event <= from || last == 0 {
        return Ok(place(last, event));
    }
    // Between a record that begins after `from` and one that does not: what is new stands at the end, so that steps from
    // there are small at first.
    let (mut after, mut after_event, mut step) = (last, event, 1);
    let (mut before, mut before_event) = loop {
        let index = last.saturating_sub(step);
        let Some(event) = event_at(connection, key, index)? else { return Ok(None) };
        if event <= from {
            break (index, event);
        }
        (after, after_event) = (index, event);
        if index == 0 {
            return Ok(place(index, event));
        }
        step = step.saturating_mul(2);
    };
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        let Some(event) = event_at(connection, key, middle)? else { return Ok(None) };
        if event <= from {
            (before, before_event) = (middle, event);
        } else {
            (after, after_event) = (middle, event);
        }
    }
    let events: i64 = connection
        .prepare_cached("SELECT events FROM journal WHERE event = ?1")?
        .query_row([before_event], |row| row.get(0))?;
    Ok(match before_event.saturating_add(events) > from {
        true => place(before, before_event),
        false => place(after, after_event),
    })
}

/// The number of a record's first event, by its index.
fn event_at(connection: &Connection, key: ExecutionKey, index: u32) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT event FROM journal WHERE execution = ?1 AND idx = ?2")?
        .query_row(params![key.0, index], |row| row.get(0))
        .optional()
}

/// How many bytes are read for a record: the row, and the object if there is one.
fn bytes_at(connection: &Connection, place: &Place) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached(
            "SELECT length(body) + coalesce(\
             (SELECT length FROM objects WHERE objects.execution = ?2 AND objects.idx = ?3), 0) \
             FROM journal WHERE event = ?1 AND journal.execution = ?2",
        )?
        .query_row(params![place.event as i64, place.key.0, place.index], |row| row.get::<_, i64>(0))
        .optional()
        .map(|bytes| bytes.map(i64::unsigned_abs))
}
