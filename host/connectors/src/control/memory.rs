//! Records in memory, for tests.

use std::collections::BTreeMap;

use airlock_engine::records::{Change, Records, RecordsError};
use parking_lot::Mutex;

/// Records that are gone with the process, and can be told to fail.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// By table and key.
    all: BTreeMap<(String, String), Vec<u8>>,
    fails: bool,
}

impl Memory {
    /// From now on, writes fail or work.
    pub(crate) fn fail(&self, fail: bool) {
        self.0.lock().fails = fail;
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().all.len()
    }
}

impl Records for Memory {
    fn get(&self, table: &str, key: &str) -> Result<Option<Vec<u8>>, RecordsError> {
        Ok(self.0.lock().all.get(&(table.into(), key.into())).cloned())
    }

    fn scan(
        &self,
        table: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, RecordsError> {
        let inner = self.0.lock();
        let of_table = inner.all.iter().filter(|((name, key), _)| name == table && key.starts_with(prefix));
        let found = of_table.filter(|((_, key), _)| after.is_none_or(|after| key.as_str() > after));
        Ok(found.take(limit).map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn write(&self, changes: &[Change]) -> Result<(), RecordsError> {
        let mut inner = self.0.lock();
        if inner.fails {
            return Err(RecordsError::Store("the disk is full".into()));
        }
        let mut all = inner.all.clone();
        for change in changes.iter().cloned() {
            match change {
                Change::Put { table, key, value } => drop(all.insert((table.into(), key), value)),
                Change::Insert { table, key, value } => {
                    if all.insert((table.into(), key), value).is_some() {
                        return Err(RecordsError::Conflict);
                    }
                }
                Change::Delete { table, key } => drop(all.remove(&(table.into(), key))),
            }
        }
        inner.all = all;
        Ok(())
    }
}
