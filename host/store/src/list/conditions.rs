//! A filter as SQL.

use airlock_engine::store::{ListFilter, SearchMatch, SearchTerm, Status};
use rusqlite::{Connection, types::Value};

use super::sql::Sql;
use crate::{
    names::{self, Kind},
    write::status_number,
};

/// What a condition is about, so that it is left out where the rows are found by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Columns that every index for lists holds.
    Covered,
    Id,
    Root,
    Parent,
    Schedule,
    Text,
    /// The search term with this position.
    Search(usize),
}

/// A filter with the numbers of the names in it.
pub(super) struct Conditions {
    conditions: Vec<(About, Sql)>,
    pub(super) workspace: Option<i64>,
    pub(super) user: Option<i64>,
    pub(super) workflows: Vec<i64>,
    /// Workflows whose name contains the text of the filter.
    pub(super) text_workflows: Vec<i64>,
    /// Whether runs that have not ended can match.
    pub(super) open: bool,
    /// Whether runs that have ended can match.
    pub(super) ended: bool,
    /// Whether only runs that ended otherwise than well can match.
    pub(super) only_badly: bool,
}

impl Conditions {
    /// `None` if nothing can match, because nothing has the name that the filter asks for.
    pub(super) fn new(connection: &Connection, filter: &ListFilter) -> rusqlite::Result<Option<Self>> {
        let mut conditions = Vec::new();
        let mut covered = |text: &str, value: i64| {
            conditions.push((About::Covered, Sql::default().with(text, [value.into()])));
        };
        let number = |kind, name: &str| names::find(connection, kind, name);
        let workspace = match &filter.workspace {
            Some(name) => Some(number(Kind::Workspace, name.as_str())?),
            None => None,
        };
        let user = match &filter.user {
            Some(name) => Some(number(Kind::User, name.as_str())?),
            None => None,
        };
        let mut workflows = Vec::new();
        for name in &filter.workflows {
            workflows.extend(number(Kind::Workflow, name)?);
        }
        if workspace == Some(None)
            || user == Some(None)
            || workflows.is_empty() != filter.workflows.is_empty()
        {
            return Ok(None);
        }
        let (workspace, user) = (workspace.flatten(), user.flatten());
        if let Some(workspace) = workspace {
            covered(" AND workspace = ?", workspace);
        }
        if let Some(user) = user {
            covered(" AND user = ?", user);
        }
        let range = [
            (" AND started_at >= ?", filter.started_from),
            (" AND started_at < ?", filter.started_before),
            (" AND ended_at >= ?", filter.ended_from),
            (" AND ended_at < ?", filter.ended_before),
        ];
        for (text, at) in range {
            if let Some(at) = at {
                covered(text, i64::try_from(at).unwrap_or(i64::MAX));
            }
        }
        let mut fixed = |text: String| conditions.push((About::Covered, Sql::new(text)));
        match &workflows[..] {
            [] => {}
            [one] => fixed(format!(" AND workflow = {one}")),
            several => fixed(format!(" AND workflow IN ({})", numbers(several))),
        }
        if !filter.status.is_empty() {
            let wanted: Vec<i64> = filter.status.iter().map(|status| status_number(*status)).collect();
            fixed(match &wanted[..] {
                [one] => format!(" AND status = {one}"),
                several => format!(" AND status IN ({})", numbers(several)),
            });
        }
        if filter.current {
            fixed(" AND current = 1".into());
        }
        let mut text_workflows = Vec::new();
        let text = |text: &str| Value::from(text.to_owned());
        if let Some(id) = &filter.id {
            conditions.push((About::Id, Sql::default().with(" AND id = ?", [text(id.as_str())])));
        }
        if let Some(root) = &filter.root {
            let root = text(root.as_str());
            let sql =
                Sql::default().with(" AND (root = ? OR (root IS NULL AND id = ?))", [root.clone(), root]);
            conditions.push((About::Root, sql));
        }
        if let Some(parent) = &filter.parent {
            let sql = Sql::default().with(" AND parent = ?", [text(parent.as_str())]);
            conditions.push((About::Parent, sql));
        }
        if let Some(schedule) = &filter.schedule {
            conditions.push((About::Schedule, Sql::default().with(" AND schedule = ?", [text(schedule)])));
        }
        if let Some(wanted) = filter.text.as_deref().filter(|wanted| !wanted.is_empty()) {
            text_workflows =
                Sql::new(format!("SELECT number FROM names WHERE kind = {}", Kind::Workflow as i64))
                    .with(" AND instr(name, ?) > 0", [text(wanted)])
                    .rows(connection, |row| row.get(0))?;
            let sql = Sql::default()
                .with(" AND ((id >= ? AND id < ?)", prefix(wanted))
                .with(&format!(" OR workflow IN ({}))", numbers(&text_workflows)), []);
            conditions.push((About::Text, sql));
        }
        for (position, term) in filter.search_keys.iter().enumerate() {
            let sql = Sql::new(" AND EXISTS (SELECT 1 FROM search_keys WHERE execution = executions.key")
                .and(&search(term))
                .with(")", []);
            conditions.push((About::Search(position), sql));
        }
        let states =
            |wanted: fn(&Status) -> bool| filter.status.is_empty() || filter.status.iter().any(wanted);
        let ended_range = filter.ended_from.is_some() || filter.ended_before.is_some();
        Ok(Some(Self {
            conditions,
            workspace,
            user,
            workflows,
            text_workflows,
            open: states(|status| *status == Status::Running) && !ended_range,
            ended: states(|status| *status != Status::Running),
            only_badly: !filter.status.is_empty()
                && filter.status.iter().all(|status| status_number(*status) > 1),
        }))
    }

    /// Puts another condition with the same meaning into the place of one.
    pub(super) fn replace(&mut self, about: About, sql: &Sql) {
        for (it, condition) in &mut self.conditions {
            if *it == about {
                *condition = sql.clone();
            }
        }
    }

    /// All conditions but those about one thing.
    pub(super) fn without(&self, about: About) -> Sql {
        let wanted = |it: &About| *it != about || about == About::Covered;
        let conditions = self.conditions.iter().filter(|(it, _)| wanted(it));
        conditions.fold(Sql::default(), |sql, (_, condition)| sql.and(condition))
    }
}

/// The condition on the columns of `search_keys`.
pub(super) fn search(term: &SearchTerm) -> Sql {
    let sql = Sql::default().with(" AND name = ?", [term.name.clone().into()]);
    match &term.value {
        SearchMatch::Present => sql,
        SearchMatch::Null => sql.with(" AND value IS NULL", []),
        SearchMatch::Exactly(value) => sql.with(" AND value = ?", [value.clone().into()]),
        SearchMatch::Similar(value) => {
            sql.with(" AND contains_folded(value, ?)", [value.to_lowercase().into()])
        }
    }
}

/// The first text with a prefix, and one after the last.
pub(super) fn prefix(text: &str) -> [Value; 2] {
    [text.to_owned().into(), format!("{text}{}", char::MAX).into()]
}

/// For `IN`.
pub(super) fn numbers(numbers: &[i64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
