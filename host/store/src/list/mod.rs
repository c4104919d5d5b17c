//! Lists of runs.
//!
//! A list is put together from queries over open runs, over runs that have ended, or over the few runs that hang
//! together by an id, a parent, a root or a schedule; each gives its first rows in the order of the list.

mod conditions;
mod ended;
mod order;
mod sql;
#[cfg(test)]
mod tests;

use airlock_engine::store::{ExecutionRow, ListFilter, StoreError};
use rusqlite::{Connection, functions::FunctionFlags};

use self::{
    conditions::{About, Conditions},
    order::{Order, Rows},
    sql::Sql,
};
use crate::{
    failure::failure,
    read::{COLUMNS, execution, rows},
};

/// The functions that the queries use.
pub(crate) fn functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("contains_folded", 2, flags, |context| {
        let (Some(text), wanted) = (context.get_raw(0).as_str_or_null()?, context.get_raw(1).as_str()?)
        else {
            return Ok(false);
        };
        Ok(contains_folded(text, wanted))
    })
}

/// Whether a text contains another, which is in lower case, in any case of letters.
fn contains_folded(text: &str, wanted: &str) -> bool {
    if text.is_ascii() {
        return wanted.is_empty()
            || text
                .as_bytes()
                .windows(wanted.len())
                .any(|part| part.eq_ignore_ascii_case(wanted.as_bytes()));
    }
    text.to_lowercase().contains(wanted)
}

pub(crate) fn list(connection: &Connection, filter: &ListFilter) -> Result<Vec<ExecutionRow>, StoreError> {
    try_list(connection, filter, &Effort::DEFAULT).map_err(|error| failure(&error))
}

/// How far one way of finding runs is gone before another is thought of.
struct Effort {
    /// So many rows of an index in the order of the list are looked at, and later so many.
    walks: [usize; 2],
    /// So few rows are gone through without a longer walk.
    few: usize,
    /// So many ids with a prefix are gathered, instead of looking at the id of each row.
    ids: usize,
    /// Counting stops here: more rows than that are all the same too many.
    many: usize,
}

impl Effort {
    const DEFAULT: Self = Self { walks: [1_000, 20_000], few: 2_000, ids: 50_000, many: 300_000 };
}

fn try_list(
    connection: &Connection,
    filter: &ListFilter,
    effort: &Effort,
) -> rusqlite::Result<Vec<ExecutionRow>> {
    if filter.limit == 0 {
        return Ok(Vec::new());
    }
    let Some(conditions) = Conditions::new(connection, filter)? else { return Ok(Vec::new()) };
    let Some(order) = Order::new(connection, filter.sort, filter.after)? else { return Ok(Vec::new()) };
    let mut query = Query { connection, filter, effort, conditions, order };
    let mut page = match query.narrow() {
        Some(sources) => {
            let mut page = Vec::new();
            for source in sources {
                page.extend(query.run(&source, Rows::Mixed, &Sql::default())?);
            }
            page
        }
        None => {
            let mut page = Vec::new();
            if query.conditions.open {
                page.extend(query.run(&Source::index("executions_open"), Rows::Open, &Sql::default())?);
            }
            if query.conditions.ended {
                page.extend(query.ended()?);
            }
            page
        }
    };
    query.order.arrange(&mut page);
    page.truncate(filter.limit);
    Ok(page)
}

struct Query<'a> {
    connection: &'a Connection,
    filter: &'a ListFilter,
    effort: &'a Effort,
    conditions: Conditions,
    order: Order,
}

/// Where rows are found.
#[derive(Clone)]
struct Source {
    /// What stands behind `FROM`; the table `executions` is part of it.
    from: Sql,
    /// What every row of it has in common, beyond the conditions of the filter.
    common: Sql,
    /// The condition of the filter that every row of it meets by where it is found.
    about: About,
}

impl Source {
    fn index(name: &str) -> Self {
        let from = Sql::new(format!("executions INDEXED BY {name}"));
        Self { from, common: Sql::default(), about: About::Covered }
    }

    /// A query that gives keys as `found`.
    fn keys(keys: Sql, about: About) -> Self {
        let from = Sql::new("(")
            .and(&keys)
            .with(") AS keys CROSS JOIN executions ON executions.key = keys.found", []);
        Self { from, common: Sql::default(), about }
    }
}

impl Query<'_> {
    /// The runs that hang together by what the filter names, open or not.
    fn narrow(&self) -> Option<Vec<Source>> {
        let text = |text: &str| [text.to_owned().into()];
        let runs = |id: &str, more: &str| {
            Sql::default()
                .with(
                    &format!("SELECT key AS found FROM executions WHERE id = ? AND current = 1{more}"),
                    text(id),
                )
                .with(
                    &format!(" UNION ALL SELECT key FROM executions WHERE id = ? AND current = 0{more}"),
                    text(id),
                )
        };
        let indexed = |index: &str, column: &str, value: &str, about| Source {
            common: Sql::default().with(&format!(" AND {column} = ?"), text(value)),
            about,
            ..Source::index(index)
        };
        if let Some(id) = &self.filter.id {
            Some(vec![Source::keys(runs(id.as_str(), ""), About::Id)])
        } else if let Some(parent) = &self.filter.parent {
            Some(vec![indexed("executions_parent", "parent", parent.as_str(), About::Parent)])
        } else if let Some(root) = &self.filter.root {
            Some(vec![
                indexed("executions_root", "root", root.as_str(), About::Root),
                Source::keys(runs(root.as_str(), " AND root IS NULL"), About::Root),
            ])
        } else {
            let schedule = self.filter.schedule.as_ref()?;
            Some(vec![indexed("executions_schedule", "schedule", schedule, About::Schedule)])
        }
    }

    /// The first rows of a source that match, with a further condition.
    fn run(&self, source: &Source, kind: Rows, more: &Sql) -> rusqlite::Result<Vec<ExecutionRow>> {
        match self.statement(source, kind, more) {
            Some(sql) => sql.rows(self.connection, execution),
            None => Ok(Vec::new()),
        }
    }

    /// Keys are found first, if possible in an index alone, and then their rows are read.
    fn statement(&self, source: &Source, kind: Rows, more: &Sql) -> Option<Sql> {
        let after = self.order.after(kind)?;
        let sql = Sql::new(format!("SELECT {COLUMNS} FROM (SELECT executions.key AS found FROM "))
            .and(&source.from)
            .with(of_kind(kind), [])
            .and(&source.common)
            .and(&self.conditions.without(source.about))
            .and(&after)
            .and(more)
            .with(&self.order.order(kind), [])
            .with(
                " LIMIT ?) AS page CROSS JOIN executions ON executions.key = page.found",
                [rows(self.filter.limit).into()],
            );
        Some(sql)
    }
}

/// The conditions under which partial indexes can be used stand in the text of a query.
fn of_kind(kind: Rows) -> &'static str {
    match kind {
        Rows::Open => " WHERE status = 0",
        Rows::Ended => " WHERE status <> 0",
        Rows::Mixed => " WHERE 1",
    }
}
