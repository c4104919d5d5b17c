//! What was compiled, by the text of the schema and how it is read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{Dialect, Refused, checked::Ready};

/// What keeping takes by itself.
const EACH: usize = 500;

/// How a schema is read, and its text.
pub(crate) type Key = (Dialect, Arc<str>);

pub(crate) type Compiled = Result<Arc<Ready>, Refused>;

/// The least recently used goes first.
pub(crate) struct Kept {
    entries: HashMap<Key, (Compiled, u64)>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
    limit: usize,
}

impl Kept {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), by_use: BTreeMap::new(), uses: 0, bytes: 0, limit }
    }

    pub(crate) fn get(&mut self, key: &Key) -> Option<Compiled> {
        let (compiled, used) = self.entries.get_mut(key)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, key.clone());
        Some(compiled.clone())
    }

    pub(crate) fn put(&mut self, key: Key, compiled: Compiled) {
        let bytes = taken(&key, &compiled);
        if bytes > self.limit || self.entries.contains_key(&key) {
            return;
        }
        self.bytes += bytes;
        self.uses += 1;
        self.by_use.insert(self.uses, key.clone());
        self.entries.insert(key, (compiled, self.uses));
        while self.bytes > self.limit {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some((compiled, _)) = self.entries.remove(&oldest) {
                self.bytes -= taken(&oldest, &compiled);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn taken(key: &Key, compiled: &Compiled) -> usize {
    key.1.len() + EACH + compiled.as_ref().map_or(0, |ready| ready.bytes())
}
