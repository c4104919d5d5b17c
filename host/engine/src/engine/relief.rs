//! Making room in memory: executions that wait are dropped from it, since their histories hold all that they are.

use std::sync::{Arc, atomic::Ordering};

use super::{Engine, cell::Cell};
use crate::{ExecutionKey, guests::Relief};

impl Relief for Engine {
    fn relieve(&self, bytes: u64, of: Option<&str>) -> u64 {
        let mut freed = 0;
        // The oldest first, but those that hold little only if the others are not enough: each has to be built again.
        for least in [(bytes / 8).max(1), 1] {
            // A copy: what is dropped below takes locks of its own.
            let idle: Vec<_> = self.idle.lock().iter().copied().collect();
            for (key, stamp) in idle {
                if freed >= bytes {
                    return freed;
                }
                let Some(cell) = self.resting(key, stamp) else { continue };
                if of.is_none_or(|user| cell.row.principal.user.as_str() == user)
                    && let Some(held) = cell.unload_large(least)
                {
                    self.loaded.fetch_sub(1, Ordering::Relaxed);
                    freed += held;
                    tracing::debug!(execution = %cell.row.id, held, "dropped from memory, for others");
                    self.forget_quiet(&cell);
                }
            }
        }
        freed
    }
}

impl Engine {
    /// The cell of an execution that has not moved since it was put to rest.
    pub(super) fn resting(&self, key: ExecutionKey, stamp: u64) -> Option<Arc<Cell>> {
        let cells = self.cells.lock();
        let cell = cells.by_key.get(&key)?;
        (cell.stamp.load(Ordering::Relaxed) == stamp).then(|| Arc::clone(cell))
    }

    /// Drops a cell that nobody follows and for which nothing runs.
    pub(super) fn forget_quiet(&self, cell: &Arc<Cell>) {
        let mut cells = self.cells.lock();
        // The map's and the caller's.
        if Arc::strong_count(cell) == 2 && cell.progress.receiver_count() == 0 && cell.is_quiet() {
            cells.by_key.remove(&cell.key);
            if cells.by_id.get(&cell.row.id) == Some(&cell.key) {
                cells.by_id.remove(&cell.row.id);
            }
        }
    }
}
