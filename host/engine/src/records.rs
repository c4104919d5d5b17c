//! Small named records for the rooms around the engine: connectors, credentials, API keys, settings.

/// Tables of small records under text keys. Every write is durable when it returns.
pub trait Records: Send + Sync + 'static {
    /// The record under a key.
    fn get(&self, table: &str, key: &str) -> Result<Option<Vec<u8>>, RecordsError>;

    /// Up to `limit` records whose key begins with `prefix`, in byte order of the keys, after `after` if that is given.
    fn scan(
        &self,
        table: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, RecordsError>;

    /// All changes or none.
    fn write(&self, changes: &[Change]) -> Result<(), RecordsError>;
}

/// One change to a record.
#[derive(Debug, Clone)]
pub enum Change {
    /// Stores a record whether or not there is one.
    Put {
        /// The table.
        table: &'static str,
        /// The key.
        key: String,
        /// The content.
        value: Vec<u8>,
    },
    /// Stores a new record; [`RecordsError::Conflict`] if the key is taken.
    Insert {
        /// The table.
        table: &'static str,
        /// The key.
        key: String,
        /// The content.
        value: Vec<u8>,
    },
    /// Removes a record if there is one.
    Delete {
        /// The table.
        table: &'static str,
        /// The key.
        key: String,
    },
}

/// A record could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordsError {
    /// An insert met an existing record.
    #[error("a record with this key exists already")]
    Conflict,
    /// The store is broken, full or read-only.
    #[error("the store cannot be used: {0}")]
    Store(String),
}
