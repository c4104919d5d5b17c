//! Whom somebody speaks to, and whose an id is.
//!
//! The id of an execution says which one is meant, not whose it is: it may end and be removed, and another user may take
//! the id, between the moment in which somebody looked at it and the moment in which something is done to it. So what was
//! seen goes along with the id, and is compared where the run is looked up to be acted upon.
//!
//! That an id exists does not say either that it is the one that a start means. Who may be given, join, end or take the
//! place of the execution that has an id is decided by [`Claim::holder`] alone, from owner, workspace and origin:
//!
//! | a start by | meets an execution of another user | of its own user, of another origin | of its own user and origin |
//! | --- | --- | --- | --- |
//! | a client | a stranger's | its own, as its policies say | its own, as its policies say |
//! | a client who owns the workspace | its own, in the workspace | its own | its own |
//! | a parent, as its child | a stranger's | a stranger's | itself: the same run and operation. Left by a run before: the same parent execution. Else its own: the id of one that has ended is free |
//! | a schedule | a stranger's | a stranger's | itself: the same schedule |
//!
//! A next run (continued, tried again, reset) takes the id from the run before it and from no other, in the commit.

use crate::{
    ExecutionId, Principal,
    history::Parent,
    store::{ExecutionRow, Status},
};

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
    fn covers(self, who: &Principal, owner: &Principal) -> bool {
        let same = owner.workspace == who.workspace && owner.organization == who.organization;
        same && (self == Self::Workspace || owner.user == who.user)
    }
}

/// Who starts an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin<'a> {
    /// Somebody over the API.
    Client,
    /// A run, as its child.
    Parent(&'a Parent),
    /// A schedule.
    Schedule(&'a str),
}

impl<'a> Origin<'a> {
    pub(super) fn new(parent: Option<&'a Parent>, schedule: Option<&'a str>) -> Self {
        match (parent, schedule) {
            (Some(parent), _) => Self::Parent(parent),
            (None, Some(schedule)) => Self::Schedule(schedule),
            (None, None) => Self::Client,
        }
    }

    /// Who started the execution of a run.
    pub(super) fn of(row: &'a ExecutionRow) -> Self {
        Self::new(row.parent.as_ref(), row.schedule.as_deref())
    }
}

/// A start that wants an id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) who: &'a Principal,
    pub(super) reach: Reach,
    pub(super) origin: Origin<'a>,
}

/// What the execution that has an id is to a start that wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// What this very start began, before a crash or when it was sent before. It is not started again.
    Itself,
    /// A child that another run of the same parent started.
    LeftByRunBefore,
    /// One that the start may be given, join, end or take the place of, as its policies say.
    Own,
    /// One of which it hears nothing but that the id is taken.
    Stranger,
}

impl Claim<'_> {
    /// What the execution with this row is to the start.
    pub(super) fn holder(&self, row: &ExecutionRow) -> Holder {
        if !self.reach.covers(self.who, &row.principal) {
            return Holder::Stranger;
        }
        match (self.origin, Origin::of(row)) {
            (Origin::Client, _) => Holder::Own,
            (Origin::Schedule(wants), Origin::Schedule(has)) if wants == has => Holder::Itself,
            (Origin::Parent(wants), Origin::Parent(has)) => {
                match (wants.id == has.id, wants.run == has.run, wants.seq == has.seq) {
                    (true, true, true) => Holder::Itself,
                    (true, false, _) => Holder::LeftByRunBefore,
                    _ => Holder::Own,
                }
            }
            _ => Holder::Stranger,
        }
    }

    /// The execution as somebody to speak to, if the start may be given it, signal it or end it.
    pub(super) fn address<'a>(&self, row: &'a ExecutionRow) -> Option<Address<'a>> {
        (self.holder(row) == Holder::Own).then(|| row.into())
    }

    /// Whether the start may take the id over from it.
    pub(super) fn may_replace(&self, row: &ExecutionRow) -> bool {
        let ended = row.status != Status::Running;
        ended && matches!(self.holder(row), Holder::Own | Holder::LeftByRunBefore)
    }
}

/// An execution by its id, and whose it must be. Made of an [`ExecutionRow`] that somebody may see, it reaches executions of
/// the same owner only; made of an [`ExecutionId`], whosever it is: that is for the host itself.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    pub(super) id: &'a ExecutionId,
    owner: Option<&'a Principal>,
    origin: Option<Origin<'a>>,
}

impl<'a> Address<'a> {
    /// The execution that has this id, if it is the owner's and was started from there.
    pub(super) fn started(id: &'a ExecutionId, owner: &'a Principal, origin: Origin<'a>) -> Self {
        Self { id, owner: Some(owner), origin: Some(origin) }
    }

    /// The execution that has this id, if this schedule started it for its owner.
    pub(crate) fn of_schedule(id: &'a ExecutionId, owner: &'a Principal, schedule: &'a str) -> Self {
        Self::started(id, owner, Origin::Schedule(schedule))
    }

    /// The execution of this run and no later one with the same id.
    pub(super) fn same_start(row: &'a ExecutionRow) -> Self {
        Self::started(&row.id, &row.principal, Origin::of(row))
    }

    /// Whether it is this one that is spoken to.
    pub(crate) fn reaches(&self, row: &ExecutionRow) -> bool {
        self.owner.is_none_or(|owner| *owner == row.principal)
            && self.origin.is_none_or(|origin| origin == Origin::of(row))
    }
}

impl<'a> From<&'a ExecutionId> for Address<'a> {
    fn from(id: &'a ExecutionId) -> Self {
        Self { id, owner: None, origin: None }
    }
}

impl<'a> From<&'a ExecutionRow> for Address<'a> {
    fn from(row: &'a ExecutionRow) -> Self {
        Self { id: &row.id, owner: Some(&row.principal), origin: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, ExecutionKey, OrganizationId, RunId, UserId, WorkspaceId, history::ParentClose};

    fn who(user: &str, workspace: &str) -> Principal {
        Principal {
            user: UserId::new(user),
            workspace: WorkspaceId::new(workspace),
            organization: OrganizationId::new("o"),
        }
    }

    fn parent(id: &str, run: i64, seq: u32) -> Parent {
        let id = id.parse().expect("an id");
        Parent { id, run: ExecutionKey(run), seq, close: ParentClose::RequestCancel }
    }

    fn row(owner: &Principal, origin: Origin<'_>, status: Status) -> ExecutionRow {
        let id: ExecutionId = "taken".parse().expect("an id");
        let (parent, schedule) = match origin {
            Origin::Client => (None, None),
            Origin::Parent(parent) => (Some(parent.clone()), None),
            Origin::Schedule(schedule) => (None, Some(schedule.to_owned())),
        };
        ExecutionRow {
            key: ExecutionKey(1),
            root: id.clone(),
            id,
            run_id: RunId::generate(),
            workflow: "w".into(),
            digest: Digest([0; 32]),
            principal: owner.clone(),
            status,
            started_at: 0,
            ended_at: None,
            parent,
            schedule,
        }
    }

    /// Every origin, every owner, every reach: against the table at the top, told again in other words.
    #[test]
    fn an_id_is_somebodys_own_only_by_owner_workspace_and_origin() {
        let parents = [parent("p", 1, 1), parent("p", 1, 2), parent("p", 2, 1), parent("q", 3, 1)];
        let mut origins = vec![Origin::Client, Origin::Schedule("s"), Origin::Schedule("t")];
        origins.extend(parents.iter().map(Origin::Parent));
        let owners = [who("ann", "w"), who("bob", "w"), who("ann", "elsewhere")];
        let ann = &owners[0];
        let (mut met, mut free) = (0, 0);
        for origin in &origins {
            for reach in [Reach::Own, Reach::Workspace] {
                let claim = Claim { who: ann, reach, origin: *origin };
                for (owner, has) in
                    owners.iter().flat_map(|owner| origins.iter().map(move |has| (owner, has)))
                {
                    for status in Status::ALL {
                        let row = row(owner, *has, status);
                        let holder = claim.holder(&row);
                        let reached =
                            owner == ann || (reach == Reach::Workspace && owner.workspace == ann.workspace);
                        let kin = matches!(
                            (origin, has),
                            (Origin::Client, _) | (Origin::Parent(_), Origin::Parent(_))
                        ) || origin == has;
                        assert_eq!(
                            holder != Holder::Stranger,
                            reached && kin,
                            "{origin:?} meets {has:?} of {owner:?}"
                        );
                        let itself = reached && origin == has && *origin != Origin::Client;
                        assert_eq!(holder == Holder::Itself, itself, "{origin:?} meets {has:?}");
                        if claim.may_replace(&row) {
                            assert!(status != Status::Running && !itself && reached && kin);
                            free += 1;
                        }
                        met += 1;
                    }
                }
            }
        }
        assert!(met > 500 && free > 50, "{free} of {met}");
    }
}
