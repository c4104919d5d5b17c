//! Whom somebody speaks to.
//!
//! The id of an execution says which one is meant, not whose it is: it may end and be removed, and another user may take
//! the id, between the moment in which somebody looked at it and the moment in which something is done to it. So what was
//! seen goes along with the id, and is compared where the run is looked up to be acted upon.

use crate::{ExecutionId, Principal, store::ExecutionRow};

/// Whose executions a start may meet under its id: be given, signal, end or take the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Those of the same user, in the same workspace.
    #[default]
    Own,
    /// Those of everybody in the workspace; for its owners.
    Workspace,
}

impl Reach {
    /// The run as somebody to speak to, if `who` may.
    pub(super) fn meets<'a>(self, who: &Principal, row: &'a ExecutionRow) -> Option<Address<'a>> {
        let owner = &row.principal;
        let same = owner.workspace == who.workspace && owner.organization == who.organization;
        (same && (self == Self::Workspace || owner.user == who.user)).then(|| row.into())
    }
}

/// An execution by its id, and whose it must be. Made of an [`ExecutionRow`] that somebody may see, it reaches executions of
/// the same owner only; made of an [`ExecutionId`], whosever it is: that is for the host itself.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    pub(super) id: &'a ExecutionId,
    owner: Option<&'a Principal>,
}

impl Address<'_> {
    /// Whether it is this one that is spoken to.
    pub(super) fn reaches(&self, row: &ExecutionRow) -> bool {
        self.owner.is_none_or(|owner| *owner == row.principal)
    }
}

impl<'a> From<&'a ExecutionId> for Address<'a> {
    fn from(id: &'a ExecutionId) -> Self {
        Self { id, owner: None }
    }
}

impl<'a> From<&'a ExecutionRow> for Address<'a> {
    fn from(row: &'a ExecutionRow) -> Self {
        Self { id: &row.id, owner: Some(&row.principal) }
    }
}
