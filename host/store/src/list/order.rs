//! The orders of a list, and places in them.

use airlock_engine::{
    ExecutionKey,
    store::{ExecutionRow, Sort},
};
use rusqlite::{Connection, OptionalExtension, params};

use super::sql::Sql;

/// Where a run stands in the orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    ended_at: Option<i64>,
    started_at: i64,
    key: i64,
    /// Whether the run itself comes after the place.
    included: bool,
}

/// What the rows of a query have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    Open,
    Ended,
    Mixed,
}

/// An order with the place where the page before ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) sort: Sort,
    after: Option<Place>,
}

/// An end after all others, for runs that have not ended.
const NEVER: i64 = i64::MAX;

impl Order {
    /// `None` if nothing comes after the run.
    pub(super) fn new(
        connection: &Connection,
        sort: Sort,
        after: Option<ExecutionKey>,
    ) -> rusqlite::Result<Option<Self>> {
        let Some(key) = after else { return Ok(Some(Self { sort, after: None })) };
        let place = |sql: &str| {
            connection
                .prepare_cached(sql)?
                .query_row(params![key.0], |row| {
                    let (found, started_at, ended_at) = (row.get(0)?, row.get(1)?, row.get(2)?);
                    Ok(Place { key: found, started_at, ended_at, included: found != key.0 })
                })
                .optional()
        };
        if let Some(after) = place("SELECT key, started_at, ended_at FROM executions WHERE key = ?1")? {
            return Ok(Some(Self { sort, after: Some(after) }));
        }
        // It was purged meanwhile. Keys are in the order of starts, and purged is what ended first.
        let neighbour = match sort {
            Sort::NewestStart => {
                "SELECT key, started_at, ended_at FROM executions WHERE key < ?1 ORDER BY key DESC LIMIT 1"
            }
            Sort::OldestStart => {
                "SELECT key, started_at, ended_at FROM executions WHERE key > ?1 ORDER BY key LIMIT 1"
            }
            Sort::NewestEnd => return Ok(None),
            Sort::OldestEnd => return Ok(Some(Self { sort, after: None })),
        };
        Ok(place(neighbour)?.map(|after| Self { sort, after: Some(after) }))
    }

    pub(super) fn by_start(&self) -> bool {
        matches!(self.sort, Sort::NewestStart | Sort::OldestStart)
    }

    fn newest_first(&self) -> bool {
        matches!(self.sort, Sort::NewestStart | Sort::NewestEnd)
    }

    /// The columns that the rows are in the order of. Runs that have not ended are in the order of their starts.
    fn columns(&self, rows: Rows) -> &'static [&'static str] {
        match (self.by_start(), rows) {
            (true, _) | (false, Rows::Open) => &["started_at", "key"],
            (false, Rows::Ended) => &["ended_at", "key"],
            (false, Rows::Mixed) => {
                &["coalesce(ended_at, 9223372036854775807)", "iif(ended_at IS NULL, started_at, 0)", "key"]
            }
        }
    }

    /// `ORDER BY` with its columns.
    pub(super) fn order(&self, rows: Rows) -> String {
        let direction = if self.newest_first() { " DESC" } else { "" };
        let columns: Vec<String> =
            self.columns(rows).iter().map(|column| format!("{column}{direction}")).collect();
        format!(" ORDER BY {}", columns.join(", "))
    }

    /// The condition that a row comes after the page before; `None` if none of these rows does.
    pub(super) fn after(&self, rows: Rows) -> Option<Sql> {
        let Some(place) = self.after else { return Some(Sql::default()) };
        if !self.by_start() && rows != Rows::Mixed {
            // All open runs stand together, before or after all that have ended.
            match (rows, place.ended_at) {
                (Rows::Open, Some(_)) => return (!self.newest_first()).then(Sql::default),
                (Rows::Ended, None) => return self.newest_first().then(Sql::default),
                _ => {}
            }
        }
        let values = match (self.by_start(), rows) {
            (true, _) | (false, Rows::Open) => vec![place.started_at, place.key],
            (false, Rows::Ended) => vec![place.ended_at.unwrap_or(NEVER), place.key],
            (false, Rows::Mixed) => vec![
                place.ended_at.unwrap_or(NEVER),
                if place.ended_at.is_none() { place.started_at } else { 0 },
                place.key,
            ],
        };
        let comparison = match (self.newest_first(), place.included) {
            (true, false) => "<",
            (true, true) => "<=",
            (false, false) => ">",
            (false, true) => ">=",
        };
        Some(self.compare(rows, comparison, &values))
    }

    /// The condition that a row does not come after another one, given by its columns.
    pub(super) fn up_to(&self, rows: Rows, values: &[i64]) -> Sql {
        self.compare(rows, if self.newest_first() { ">=" } else { "<=" }, values)
    }

    fn compare(&self, rows: Rows, comparison: &str, values: &[i64]) -> Sql {
        let columns = self.columns(rows).join(", ");
        let places = vec!["?"; values.len()].join(", ");
        let values = values.iter().map(|value| (*value).into());
        Sql::default().with(&format!(" AND ({columns}) {comparison} ({places})"), values)
    }

    /// Puts rows of several queries into the order.
    pub(super) fn arrange(&self, rows: &mut [ExecutionRow]) {
        let open = |row: &ExecutionRow| if row.ended_at.is_none() { row.started_at } else { 0 };
        match self.by_start() {
            true => rows.sort_by_key(|row| (row.started_at, row.key)),
            false => rows.sort_by_key(|row| (row.ended_at.unwrap_or(u64::MAX), open(row), row.key)),
        }
        if self.newest_first() {
            rows.reverse();
        }
    }
}
