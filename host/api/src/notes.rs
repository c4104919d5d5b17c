//! What people add to workflows, whatever code serves them: a title, tags, whether they are archived.

use airlock_engine::records::{Change, Records, RecordsError};
use serde::{Deserialize, Serialize};

const TABLE: &str = "workflows";

/// What people add.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    pub(crate) display_name: Option<String>,
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) available_in_chat_assistant: bool,
    #[serde(default)]
    pub(crate) archived: bool,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
}

impl Notes {
    /// Those of a workflow.
    pub(crate) fn of(records: &dyn Records, workflow: &str) -> Result<Self, RecordsError> {
        Ok(records.get(TABLE, workflow)?.and_then(|bytes| read(&bytes)).unwrap_or_default())
    }

    pub(crate) fn save(&self, records: &dyn Records, workflow: &str) -> Result<(), RecordsError> {
        // Strings, booleans and lists of strings always have a JSON form.
        let value = serde_json::to_vec(self).unwrap_or_default();
        records.write(&[Change::Put { table: TABLE, key: workflow.to_owned(), value }])
    }
}

fn read(bytes: &[u8]) -> Option<Notes> {
    serde_json::from_slice(bytes).ok()
}

/// The workflows that are archived.
pub(crate) fn archived(records: &dyn Records) -> Result<Vec<String>, RecordsError> {
    let all = records.scan(TABLE, "", None, usize::MAX)?.into_iter();
    Ok(all
        .filter(|(_, bytes)| read(bytes).is_some_and(|notes| notes.archived))
        .map(|(name, _)| name)
        .collect())
}
