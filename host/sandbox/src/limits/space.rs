//! How much memory and how many table elements a guest may use.

use wasmtime::ResourceLimiter;

/// The space of one store.
#[derive(Debug)]
pub(crate) struct Space {
    memory_bytes: usize,
    table_elements: usize,
    used_bytes: usize,
    refused: Option<Refused>,
}

/// A limit that the guest ran into. It is told by an ordinary result (`memory.grow` gives -1), so it matters only if a trap follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its memories together would be larger than so many bytes.
    Memory(usize),
    /// A table would have more than so many elements.
    Table(usize),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "it reached its memory limit of {} MB", bytes >> 20),
            Self::Table(elements) => write!(f, "it reached its limit of {elements} table elements"),
        }
    }
}

impl Space {
    /// Nothing used yet.
    pub(crate) fn new(memory_bytes: usize, table_elements: usize) -> Self {
        Self { memory_bytes, table_elements, used_bytes: 0, refused: None }
    }

    /// The last limit that the guest ran into.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }
}

impl ResourceLimiter for Space {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = (self.used_bytes - current.min(self.used_bytes)).saturating_add(desired);
        let allowed = total <= self.memory_bytes;
        if allowed {
            self.used_bytes = total;
        } else {
            self.refused = Some(Refused::Memory(self.memory_bytes));
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.table_elements;
        if !allowed {
            self.refused = Some(Refused::Table(self.table_elements));
        }
        Ok(allowed)
    }
}
