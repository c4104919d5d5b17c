//! Texts that many runs share: each stands once in the database, and rows and indexes hold its number.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

/// What a text names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Workflow = 0,
    User = 1,
    Workspace = 2,
    Organization = 3,
}

/// Numbers that are remembered at most.
const REMEMBERED: usize = 10_000;

/// The writer's memory of numbers, so that a start does not look them up.
#[derive(Default)]
pub(crate) struct Names(HashMap<(Kind, String), i64>);

impl Names {
    /// The number of a name, which is written down if it is new.
    pub(crate) fn number(
        &mut self,
        connection: &Connection,
        kind: Kind,
        name: &str,
    ) -> rusqlite::Result<i64> {
        let known = (kind, name.to_owned());
        if let Some(number) = self.0.get(&known) {
            return Ok(*number);
        }
        let number = match find(connection, kind, name)? {
            Some(number) => number,
            None => {
                connection
                    .prepare_cached("INSERT INTO names (kind, name) VALUES (?1, ?2)")?
                    .execute(params![kind as i64, name])?;
                connection.last_insert_rowid()
            }
        };
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(known, number);
        Ok(number)
    }

    /// What a transaction that was rolled back wrote down is not there.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

/// The number of a name that a run has had.
pub(crate) fn find(connection: &Connection, kind: Kind, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT number FROM names WHERE kind = ?1 AND name = ?2")?
        .query_row(params![kind as i64, name], |row| row.get(0))
        .optional()
}
