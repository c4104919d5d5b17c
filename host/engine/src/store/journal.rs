//! The events of many runs in one order.
//!
//! Every event has a number in the order of the whole store, and what is committed later has a larger one. So whoever has
//! told all events of a [`Scope`] up to a number that is committed has told them for good: nothing comes before it any
//! more, whatever runs there will be. They are read by a merge: each run's records stand in that order already, and a
//! [`Merge`] knows the next one of each.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::ExecutionRow;
use crate::{ExecutionId, ExecutionKey, UserId, WorkspaceId};

/// How runs hang together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Family {
    /// The runs of one execution, one after the other.
    Execution(ExecutionId),
    /// The runs of the executions that this one started as its children.
    Children(ExecutionId),
    /// The runs of this execution and of all below it.
    Tree(ExecutionId),
}

impl Family {
    /// Whether a run belongs to it.
    pub fn holds(&self, row: &ExecutionRow) -> bool {
        match self {
            Self::Execution(id) => row.id == *id,
            Self::Children(parent) => row.parent.as_ref().is_some_and(|its| its.id == *parent),
            Self::Tree(root) => row.root == *root,
        }
    }
}

/// Runs whose events are told together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// How they are found.
    pub family: Family,
    /// Only those that belong to each of these as well.
    pub within: Vec<Family>,
    /// Only runs of this workspace.
    pub workspace: Option<WorkspaceId>,
    /// Only runs of this user.
    pub user: Option<UserId>,
}

impl Scope {
    /// All runs of a family, whoever owns them.
    pub fn of(family: Family) -> Self {
        Self { family, within: Vec::new(), workspace: None, user: None }
    }

    /// Whether a run belongs to it.
    pub fn holds(&self, row: &ExecutionRow) -> bool {
        self.family.holds(row)
            && self.within.iter().all(|family| family.holds(row))
            && self.workspace.as_ref().is_none_or(|it| *it == row.principal.workspace)
            && self.user.as_ref().is_none_or(|it| *it == row.principal.user)
    }
}

/// Runs in which records are looked for.
#[derive(Debug, Clone, Copy)]
pub enum Runs<'a> {
    /// Those of a scope, as many as there are.
    In(&'a Scope),
    /// These. One that is not there any more has no records.
    These(&'a [ExecutionKey]),
}

/// Where a record stands. The order is that of the whole store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Number of its first event.
    pub event: u64,
    /// Its run.
    pub key: ExecutionKey,
    /// Its index in the history of the run.
    pub index: u32,
}

/// The next record of each of many runs. It holds a [`Place`] a run and nothing of the records.
#[derive(Debug, Default)]
pub struct Merge(BinaryHeap<Reverse<Place>>);

impl Merge {
    /// Adds the next record of a run.
    pub fn put(&mut self, place: Place) {
        self.0.push(Reverse(place));
    }

    /// The record that comes first.
    pub fn first(&self) -> Option<Place> {
        self.0.peek().map(|Reverse(place)| *place)
    }

    /// Takes the one that comes first away.
    pub fn take(&mut self) -> Option<Place> {
        self.0.pop().map(|Reverse(place)| place)
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Place>()
    }
}

/// The next records of a merge.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Where they stand, in their order.
    pub places: Vec<Place>,
    /// How many bytes are read for them.
    pub bytes: u64,
}

/// How much is wanted of a merge at once.
#[derive(Debug, Clone, Copy)]
pub struct Upto {
    /// No record that begins after this number.
    pub event: u64,
    /// At most so many records.
    pub records: usize,
    /// At most so many bytes, unless it is one record.
    pub bytes: u64,
}

/// Hears of what is committed, in the order of the commits and before whoever appended it does.
pub trait Commits: Send + Sync + 'static {
    /// These steps were committed together, or one after the other. `last` is the number of the last event of them all. It
    /// is called while the store commits nothing else: it returns at once.
    fn committed(&self, last: u64, steps: &mut dyn Iterator<Item = Committed<'_>>);
}

/// A step of a run that is durable.
#[derive(Debug, Clone, Copy)]
pub struct Committed<'a> {
    /// The run.
    pub key: ExecutionKey,
    /// Its row, if this was its first step.
    pub start: Option<&'a ExecutionRow>,
    /// It was its last step.
    pub ended: bool,
}
