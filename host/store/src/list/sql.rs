//! SQL that is put together from pieces, each with its values.

use rusqlite::{Connection, Row, types::Value};

/// A piece of SQL; its `?` stand for its values in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// With a further piece and the values that stand in it.
    pub(super) fn with(mut self, text: &str, values: impl IntoIterator<Item = Value>) -> Self {
        self.text.push_str(text);
        self.values.extend(values);
        self
    }

    /// With a further piece.
    pub(super) fn and(self, other: &Self) -> Self {
        let Self { text, values } = other.clone();
        self.with(&text, values)
    }

    /// What the query finds.
    pub(super) fn rows<T>(
        &self,
        connection: &Connection,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        connection
            .prepare_cached(&self.text)?
            .query_map(rusqlite::params_from_iter(&self.values), read)?
            .collect()
    }

    /// How SQLite goes about it.
    #[cfg(test)]
    pub(super) fn plan(&self, connection: &Connection) -> Vec<String> {
        let text = format!("EXPLAIN QUERY PLAN {}", self.text);
        Self { text, values: self.values.clone() }.rows(connection, |row| row.get(3)).expect("explains")
    }
}
