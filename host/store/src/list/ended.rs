//! Finding runs that have ended, which may be millions.
//!
//! Most lists are full after a few rows of an index that is in their order: that is tried first, for so many rows and
//! no further. When matches are rarer than that, the part of the filter with the fewest rows is looked for, by counting,
//! and those rows are gone through and sorted.

use airlock_engine::store::{ExecutionRow, SearchMatch};

use super::{
    Query, Source,
    conditions::{About, numbers, prefix, search},
    order::Rows,
    sql::Sql,
};
use crate::{names::Kind, read::rows, write::status_number};

/// A way to find runs by a part of the filter.
enum Candidate {
    /// In an index, with a query that has one row for each row that would be looked at.
    Index(Source, Sql),
    /// By a query that gives keys as `found`, perhaps more than once.
    Keys(Sql, About),
}

impl Candidate {
    /// With a condition that all its rows meet.
    fn having(self, common: Sql) -> Self {
        match self {
            Self::Index(source, counted) => Self::Index(Source { common, ..source }, counted),
            keys => keys,
        }
    }
}

impl Query<'_> {
    pub(super) fn ended(&mut self) -> rusqlite::Result<Vec<ExecutionRow>> {
        if self.order.after(Rows::Ended).is_none() {
            return Ok(Vec::new());
        }
        let walk = self.walk();
        let sources = self.sources();
        let [short, long] = self.effort.walks;
        if let Some(page) = self.walked(&walk, short)? {
            return Ok(page);
        }
        if let Some((source, _)) = self.fewest(&sources, self.effort.few)? {
            return self.run(&source, Rows::Ended, &Sql::default());
        }
        // From here on many rows may be looked at. Their ids are not in the indexes.
        let text = sources.iter().find_map(|candidate| match candidate {
            Candidate::Keys(keys, About::Text) => Some(keys),
            _ => None,
        });
        if let Some(keys) = text
            && self.count(keys, self.effort.ids)? < self.effort.ids
        {
            let gathered = Sql::new(" AND executions.key IN (SELECT found FROM (").and(keys).with("))", []);
            self.conditions.replace(About::Text, &gathered);
        }
        if let Some(page) = self.walked(&walk, long)? {
            return Ok(page);
        }
        let fewest = self.fewest(&sources, self.effort.many)?;
        self.run(fewest.as_ref().map_or(&walk, |(source, _)| source), Rows::Ended, &Sql::default())
    }

    /// The page, if so many rows of an index are enough for it.
    fn walked(&self, walk: &Source, length: usize) -> rusqlite::Result<Option<Vec<ExecutionRow>>> {
        let Some(bound) = self.bound(walk, length)? else {
            // There are fewer rows than that.
            return self.run(walk, Rows::Ended, &Sql::default()).map(Some);
        };
        let page = self.run(walk, Rows::Ended, &bound)?;
        Ok((page.len() == self.filter.limit).then_some(page))
    }

    /// The source with the fewest rows and their number, if that is less than `limit`.
    fn fewest(&self, sources: &[Candidate], limit: usize) -> rusqlite::Result<Option<(Source, usize)>> {
        let mut best: Option<(Source, usize)> = None;
        for candidate in sources {
            let limit = best.as_ref().map_or(limit, |(_, fewest)| *fewest);
            match candidate {
                Candidate::Index(source, counted) => {
                    let count = self.count(counted, limit)?;
                    if count < limit {
                        best = Some((source.clone(), count));
                    }
                }
                Candidate::Keys(keys, about) if limit <= self.effort.few => {
                    // What costs time is finding the keys: that is done once.
                    let limited =
                        Sql::new("SELECT found FROM (").and(keys).with(") LIMIT ?", [rows(limit).into()]);
                    let found = limited.rows(self.connection, |row| row.get::<_, i64>(0))?;
                    if found.len() < limit {
                        let (count, list) = (found.len(), format!("[{}]", numbers(&found)));
                        let keys = "SELECT DISTINCT value AS found FROM json_each(?)";
                        let keys = Sql::default().with(keys, [list.into()]);
                        best = Some((Source::keys(keys, *about), count));
                    }
                }
                Candidate::Keys(keys, about) => {
                    let count = self.count(keys, limit)?;
                    if count < limit {
                        let distinct = match about {
                            // A run may be found by its id and by its workflow.
                            About::Text if !self.conditions.text_workflows.is_empty() => {
                                Sql::new("SELECT DISTINCT found FROM (").and(keys).with(")", [])
                            }
                            _ => keys.clone(),
                        };
                        best = Some((Source::keys(distinct, *about), count));
                    }
                }
            }
            if best.as_ref().is_some_and(|(_, count)| *count <= self.filter.limit) {
                break;
            }
        }
        Ok(best)
    }

    /// The index in the order of the list with the fewest rows.
    pub(super) fn walk(&self) -> Source {
        let conditions = &self.conditions;
        Source::index(if !self.order.by_start() {
            "ended_by_end"
        } else if conditions.workspace.is_some() && conditions.user.is_some() {
            "ended_by_owner"
        } else if conditions.workflows.len() == 1 {
            "ended_by_workflow"
        } else {
            "ended_by_start"
        })
    }

    /// The condition that a row is among the first `length` of a walk; `None` if there are no more than that.
    fn bound(&self, walk: &Source, length: usize) -> rusqlite::Result<Option<Sql>> {
        let Some(after) = self.order.after(Rows::Ended) else { return Ok(None) };
        let column = if self.order.by_start() { "started_at" } else { "ended_at" };
        let end = Sql::new(format!("SELECT {column}, key FROM "))
            .and(&walk.from)
            .with(" WHERE status <> 0", [])
            .and(&self.on_the_way())
            .and(&after)
            .with(&self.order.order(Rows::Ended), [])
            .with(" LIMIT 1 OFFSET ?", [rows(length).into()])
            .rows(self.connection, |row| Ok([row.get(0)?, row.get(1)?]))?;
        Ok(end.first().map(|end| self.order.up_to(Rows::Ended, end)))
    }

    /// The conditions of the filter by which the index of the walk is entered.
    fn on_the_way(&self) -> Sql {
        let (conditions, filter) = (&self.conditions, self.filter);
        let at = |at: u64| [i64::try_from(at).unwrap_or(i64::MAX).into()];
        let mut sql = Sql::default();
        let (from, before) = if self.order.by_start() {
            if let (Some(workspace), Some(user)) = (conditions.workspace, conditions.user) {
                sql = sql.with(" AND workspace = ? AND user = ?", [workspace.into(), user.into()]);
            } else if let [workflow] = conditions.workflows[..] {
                sql = sql.with(" AND workflow = ?", [workflow.into()]);
            }
            (filter.started_from, filter.started_before)
        } else {
            (filter.ended_from, filter.ended_before)
        };
        let column = if self.order.by_start() { "started_at" } else { "ended_at" };
        if let Some(from) = from {
            sql = sql.with(&format!(" AND {column} >= ?"), at(from));
        }
        if let Some(before) = before {
            sql = sql.with(&format!(" AND {column} < ?"), at(before));
        }
        sql
    }

    /// Everything that can be found by a part of the filter, what is cheap to count and likely to be
    /// rare first.
    fn sources(&self) -> Vec<Candidate> {
        let (conditions, filter) = (&self.conditions, self.filter);
        let index = |name: &str, entered: &str| {
            let counted = format!("SELECT 1 FROM executions INDEXED BY {name} WHERE status <> 0{entered}");
            Candidate::Index(Source::index(name), Sql::new(counted))
        };
        let mut sources = Vec::new();
        let mut terms: Vec<_> = filter.search_keys.iter().enumerate().collect();
        terms.sort_by_key(|(_, term)| matches!(term.value, SearchMatch::Similar(_)));
        for (position, term) in terms {
            let keys =
                Sql::new("SELECT execution AS found FROM search_keys INDEXED BY search_values WHERE 1")
                    .and(&search(term));
            sources.push(Candidate::Keys(keys, About::Search(position)));
        }
        let of_user = conditions.user.map(|user| format!(" AND user = {user}")).unwrap_or_default();
        if let Some(workspace) = conditions.workspace {
            sources.push(index("ended_by_owner", &format!(" AND workspace = {workspace}{of_user}")));
        } else if conditions.user.is_some() {
            let all = format!(
                " AND workspace IN (SELECT number FROM names WHERE kind = {})",
                Kind::Workspace as i64
            );
            sources.push(index("ended_by_owner", &format!("{all}{of_user}")).having(Sql::new(all)));
        }
        if conditions.only_badly {
            let states: Vec<i64> = filter.status.iter().map(|status| status_number(*status)).collect();
            let entered = format!(" AND status > 1 AND status IN ({})", numbers(&states));
            sources.push(index("ended_badly", &entered).having(Sql::new(" AND status > 1")));
        }
        if !conditions.workflows.is_empty() {
            let entered = format!(" AND workflow IN ({})", numbers(&conditions.workflows));
            sources.push(index("ended_by_workflow", &entered));
        }
        let mut range = |name: &str, column: &str, from: Option<u64>, before: Option<u64>| {
            if from.is_some() || before.is_some() {
                let from = from.unwrap_or(0);
                let before = i64::try_from(before.unwrap_or(u64::MAX)).unwrap_or(i64::MAX);
                sources.push(index(name, &format!(" AND {column} >= {from} AND {column} < {before}")));
            }
        };
        range("ended_by_end", "ended_at", filter.ended_from, filter.ended_before);
        range("ended_by_start", "started_at", filter.started_from, filter.started_before);
        if let Some(text) = filter.text.as_deref().filter(|text| !text.is_empty()) {
            let ids = |current: u8| {
                let sql = "SELECT key AS found FROM executions WHERE id >= ? AND id < ?";
                Sql::default().with(&format!("{sql} AND current = {current}"), prefix(text))
            };
            let mut keys = ids(1).with(" UNION ALL ", []).and(&ids(0));
            if !conditions.text_workflows.is_empty() {
                let workflows = format!(
                    " UNION ALL SELECT key AS found FROM executions INDEXED BY ended_by_workflow \
                     WHERE status <> 0 AND workflow IN ({})",
                    numbers(&conditions.text_workflows)
                );
                keys = keys.with(&workflows, []);
            }
            sources.push(Candidate::Keys(keys, About::Text));
        }
        sources
    }

    /// How many rows a query has, up to `limit`.
    fn count(&self, counted: &Sql, limit: usize) -> rusqlite::Result<usize> {
        let count = Sql::new("SELECT count(*) FROM (SELECT 1 FROM (")
            .and(counted)
            .with(") LIMIT ?)", [rows(limit).into()])
            .rows(self.connection, |row| row.get::<_, i64>(0))?;
        Ok(count.first().map_or(0, |count| usize::try_from(*count).unwrap_or(usize::MAX)))
    }
}
