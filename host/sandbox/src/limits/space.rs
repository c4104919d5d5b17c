//! How much memory and how many table elements a guest may use.

use wasmtime::ResourceLimiter;

use super::budget::{Budget, Share};

/// Bytes of an element of a table, as wasmtime keeps it.
const ELEMENT_BYTES: u64 = size_of::<usize>() as u64;

/// The space of one store.
#[derive(Debug)]
pub(crate) struct Space {
    memory_bytes: usize,
    table_elements: usize,
    used_bytes: usize,
    refused: Option<Refused>,
    share: Share,
    /// The guest may have no more because of what there is for all, and not because of its own limit.
    bound_by_budget: bool,
}

/// A limit that the guest ran into. It is told by an ordinary result (`memory.grow` gives -1), so it matters only if a trap follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its memories together would be larger than so many bytes.
    Memory(usize),
    /// The same, where half of what all guests have is less than the guest's own limit.
    Budget(usize),
    /// A table would have more than so many elements.
    Table(usize),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "it reached its memory limit of {} MB", bytes >> 20),
            Self::Budget(bytes) => write!(
                f,
                "it reached {} MB of memory, half of what all guests have together (`--guest-memory` raises it)",
                bytes >> 20
            ),
            Self::Table(elements) => write!(f, "it reached its limit of {elements} table elements"),
        }
    }
}

impl Space {
    /// Nothing used yet.
    pub(crate) fn new(memory_bytes: usize, table_elements: usize, budget: &Budget, share: Share) -> Self {
        let largest = budget.largest_guest();
        Self {
            memory_bytes: memory_bytes.min(largest),
            table_elements,
            used_bytes: 0,
            refused: None,
            share,
            bound_by_budget: largest < memory_bytes,
        }
    }

    /// The last limit that the guest ran into.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// Bytes of its memories and tables.
    pub(crate) fn held(&self) -> u64 {
        self.share.held()
    }
}

impl ResourceLimiter for Space {
    /// An error, which ends the guest, says that the memory is not there now; the guest cannot do anything about that.
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = (self.used_bytes - current.min(self.used_bytes)).saturating_add(desired);
        if total > self.memory_bytes {
            let refused = if self.bound_by_budget { Refused::Budget } else { Refused::Memory };
            self.refused = Some(refused(self.memory_bytes));
            return Ok(false);
        }
        self.share.grow(desired.saturating_sub(current) as u64)?;
        self.used_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.table_elements {
            self.refused = Some(Refused::Table(self.table_elements));
            return Ok(false);
        }
        self.share.grow(desired.saturating_sub(current) as u64 * ELEMENT_BYTES)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::budget::NoRoom;

    const MB: usize = 1 << 20;

    fn space(budget: &std::sync::Arc<Budget>, memory_bytes: usize) -> Space {
        Space::new(memory_bytes, 1000, budget, budget.share("a"))
    }

    #[test]
    fn a04_memories_and_tables_are_counted_as_they_grow_and_given_back() {
        let budget = Budget::new(1000 << 20);
        let mut first = space(&budget, 300 * MB);
        assert!(first.memory_growing(0, MB, None).unwrap());
        assert!(first.memory_growing(MB, 100 * MB, None).unwrap());
        assert!(first.table_growing(0, 1000, None).unwrap());
        assert_eq!(first.held(), (100 << 20) + 8000);
        // A second memory of the same guest.
        assert!(!first.memory_growing(0, 201 * MB, None).unwrap());
        assert_eq!(first.refused(), Some(Refused::Memory(300 * MB)));
        assert!(!first.table_growing(1000, 1001, None).unwrap());
        assert_eq!(first.refused(), Some(Refused::Table(1000)));
        assert_eq!(budget.figures().held, (100 << 20) + 8000);
        drop(first);
        assert_eq!(budget.figures().held, 0);
    }

    #[test]
    fn a04_a_guest_that_grows_beyond_what_is_left_ends_with_an_error_that_says_so() {
        let budget = Budget::new(1000 << 20);
        let mut all: Vec<Space> = (0..4).map(|_| space(&budget, 400 * MB)).collect();
        for space in &mut all[..3] {
            assert!(space.memory_growing(0, 300 * MB, None).unwrap());
        }
        let error = all[3].memory_growing(0, 300 * MB, None).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(NoRoom::All { .. })));
        assert_eq!(all[3].held(), 0);
    }

    #[test]
    fn a04_no_single_guest_may_have_more_than_half_whatever_its_policy_says() {
        let budget = Budget::new(1000 << 20);
        let mut space = space(&budget, 2000 * MB);
        assert!(space.memory_growing(0, 500 * MB, None).unwrap());
        assert!(!space.memory_growing(500 * MB, 501 * MB, None).unwrap());
        assert!(space.refused().unwrap().to_string().contains("--guest-memory"));
    }
}
