//! An append, ready to be written: sealed, and without the records themselves.

use airlock_engine::{
    ExecutionKey,
    store::{Append, Start},
};

use crate::seal::{Row, Seal};

/// One run's part of a transaction.
pub(crate) struct Step {
    /// The run.
    pub(crate) key: ExecutionKey,
    /// The append, its records and successor taken out.
    pub(crate) change: Append,
    /// The sealed records.
    pub(crate) rows: Vec<Row>,
    /// What the same transaction does for the next run.
    pub(crate) successor: Option<Box<Step>>,
}

impl Step {
    pub(crate) fn prepare(mut append: Append, seal: &Seal) -> Self {
        let successor = append.successor.take().map(|next| Box::new(Self::prepare(*next, seal)));
        let rows = seal.close(&append);
        append.records = Vec::new();
        Self { key: append.key, change: append, rows, successor }
    }

    /// Nothing but one record that goes into the journal: the step that most steps are.
    pub(crate) fn is_one_record(&self) -> bool {
        let change = &self.change;
        matches!(&self.rows[..], [row] if row.object.is_none())
            && self.successor.is_none()
            && change.start.is_none()
            && change.end.is_none()
            && change.wake.is_none()
            && change.digest.is_none()
            && change.search_keys.is_empty()
    }

    /// Whether a record of it goes into the object store.
    pub(crate) fn is_large(&self) -> bool {
        self.chain().any(|step| step.rows.iter().any(Row::is_large))
    }

    /// The birth of the run, if this is it.
    pub(crate) fn start(&self) -> Option<&Start> {
        self.change.start.as_deref()
    }

    /// This step and those that follow it in the same transaction.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |step| step.successor.as_deref())
    }
}
