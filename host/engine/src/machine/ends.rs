//! The end of a run, however it comes: what becomes of everything that it has asked for.
//!
//! A run ends by its own word (completed, failed, cancelled, continued as new) or by the host's (terminated, timed out,
//! failed in its preflight, by a trap or at the limit of its history, reset). All of them come through
//! `Machine::finish`, which forgets every operation, and the driver stops what is under way for them
//! (`engine/operations.rs`). A refused upgrade or reset, a pause and a block are no ends.
//!
//! ```text
//!   asked for             not begun: asked for in the last turn, in line for a     under way
//!                         place, waiting for a retry, held by a pause or a block
//!   Activity              never begins                                             told to stop; stopped after a grace
//!   Timer                 never fires
//!   Tool, ToolList, Auth  never begins                                             stopped
//!   preflight             never begins                                             stopped
//!   External              is never sent                                            may have arrived
//!   Child, Terminate      never begins                                             ended by force     (also one that is
//!   Child, RequestCancel  never begins                                             asked to stop       being started)
//!   Child, Abandon        begins all the same                                      goes on
//!   update                not answered: who waits for it is told that the run has ended
//!   search keys of state  taken away: an ended run does not wait, and is neither paused nor blocked
//!
//!   the end               its children                          a next run
//!   continued as new      go on until the execution ends        at once; a request to stop goes along with it, once
//!   failed, tried again   as above                              when they have been told; none once the execution was
//!                                                               asked to stop
//!   reset                 as above                              when they have been told
//!   any other             as above, with those of earlier runs  none
//! ```
//!
//! A next run that starts a child under an id that a child of a run before it still has, waits for the end of one that was
//! told to stop, and goes on with one that was left if it is the same start (`engine/children.rs`).

use super::{
    BLOCKED_KEY, EXECUTION_STATE_KEY, Effect, Input, Machine, Next, Operation, PAUSED_KEY, Phase, next_try,
};
use crate::{
    Failure, Json, RunId,
    history::{Continuation, End, Job, ParentClose, Record, SearchValue, Seq, UnixMs},
    store::Status,
};

/// What the end of a run means for its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// The run is followed by another one that begins anew: its own children do as their policies say.
    Run,
    /// The execution is over: so do those of the runs before.
    Execution,
    /// The run has continued as new: they are left to the execution.
    Left,
}

impl Closing {
    /// Whether the children of a run that ended so, and was followed by another, were left to go on.
    pub fn leaves(status: Status) -> bool {
        status == Status::ContinuedAsNew
    }
}

impl Machine {
    /// What the end of the run means for its children.
    pub fn closing(&self) -> Closing {
        match (&self.phase, &self.next) {
            (Phase::Ended(Status::ContinuedAsNew), _) => Closing::Left,
            (_, Some(_)) => Closing::Run,
            _ if self.replaced => Closing::Run,
            _ => Closing::Execution,
        }
    }

    /// The host ends the run.
    pub(super) fn end(&mut self, end: End) {
        self.record_untold();
        self.record_end(&end);
        self.records.push(Record::Ended { end });
    }

    /// What has happened and was not told stays in the history, also when the run ends before it could be.
    pub(super) fn record_untold(&mut self) {
        // The first of the staged jobs may be the start, which is no news.
        let staged = std::mem::take(&mut self.staged).into_iter().filter(|job| *job != Job::Started);
        let backlog = std::mem::take(&mut self.backlog).into_iter().skip(self.recorded);
        let jobs: Vec<Job> = staged.skip(self.carried).chain(backlog).collect();
        (self.carried, self.recorded) = (0, 0);
        if !jobs.is_empty() {
            self.records.push(Record::Received { jobs });
        }
    }

    pub(super) fn record_end(&mut self, end: &End) {
        match end {
            End::Failed(failure) => self.failed(failure.clone()),
            End::TimedOut => {
                let limit = self.started.execution_timeout;
                self.failure = Some(Failure::timeout(
                    "execution",
                    format!("the execution took longer than its limit of {limit:?}"),
                ));
                self.finish(Status::TimedOut);
            }
            End::Terminated(reason) => {
                self.failure = Some(Failure::permanent(Failure::TERMINATED, reason.clone()));
                self.finish(Status::Terminated);
            }
        }
    }

    /// The run has failed: the end of the execution, unless it is to be tried again. One that somebody asked to stop is not:
    /// the next run would know nothing of it.
    pub(super) fn failed(&mut self, failure: Failure) {
        let policy = self.started.retry.as_ref().filter(|_| self.cancel_requested.is_none());
        let again = policy.and_then(|policy| next_try(&failure, policy, self.started.attempt, self.now, 0.0));
        if let Some(at) = again.filter(|at| *at < self.deadline()) {
            self.next = Some(Next {
                reason: Continuation::Retry,
                workflow: self.started.workflow.clone(),
                input: self.started.input.clone(),
                not_before: at,
                attempt: self.started.attempt + 1,
                cancel: None,
            });
        }
        self.failure = Some(failure);
        self.finish(Status::Failed);
    }

    /// The workflow wants to go on in another run. A request to stop goes along: the code that was asked for something else
    /// at the same time may not have heard of it. A run that has heard of it from its first turn on, and wants another one
    /// all the same, has stopped.
    pub(super) fn continued_as_new(&mut self, workflow: Option<&String>, input: &Json) {
        if self.cancel_requested.is_some() && self.asked_before_it_began {
            return self.finish(Status::Canceled);
        }
        self.next = Some(Next {
            reason: Continuation::AsNew,
            workflow: workflow.unwrap_or(&self.started.workflow).clone(),
            input: input.clone(),
            not_before: self.now,
            attempt: 1,
            cancel: self.cancel_requested.clone(),
        });
        self.finish(Status::ContinuedAsNew);
    }

    /// Another run takes this one's place, with its history up to an event.
    pub fn give_way(&mut self, reason: String, to: RunId, now: UnixMs) {
        self.replaced = true;
        self.receive(Input::Terminate(reason), now);
        self.continued(to, Continuation::Reset);
    }

    /// Every end comes through here.
    pub(super) fn finish(&mut self, status: Status) {
        self.leave_state_behind();
        self.phase = Phase::Ended(status);
        self.waiting.clear();
        self.staged.clear();
        self.backlog.clear();
        self.recorded = 0;
        let heirs = self.heirs();
        self.pending.clear();
        // What was asked for in the same turn never begins, but for children that are to go on without this run.
        self.effects.clear();
        self.effects.push(Effect::Finish);
        self.effects.extend(heirs);
    }

    /// The children that begin although the run has ended. One that has begun is not started twice.
    fn heirs(&mut self) -> Vec<Effect> {
        // A run that takes up the history of this one starts those itself that it waits for.
        if self.replaced {
            return Vec::new();
        }
        let mut heirs: Vec<Effect> = self.effects.drain(..).filter(Effect::outlives).collect();
        for (&seq, operation) in &self.pending {
            let Operation::Child { id, child, started: false } = operation else { continue };
            let heir = Effect::StartChild { seq, id: id.clone(), child: child.clone() };
            if heir.outlives() && !heirs.contains(&heir) {
                heirs.push(heir);
            }
        }
        heirs
    }

    /// An ended run is found no more among those that wait for something.
    fn leave_state_behind(&mut self) {
        let mut left = Vec::new();
        if self.search_keys.remove(EXECUTION_STATE_KEY).is_some() {
            left.push(EXECUTION_STATE_KEY);
        }
        if matches!(self.phase, Phase::Blocked(_)) {
            left.push(BLOCKED_KEY);
        }
        if self.paused.is_some() {
            left.push(PAUSED_KEY);
        }
        self.changed_keys.extend(left.into_iter().map(|key| (key.into(), SearchValue::Removed)));
    }

    /// The workflow gives an operation up. One that was asked for in this turn does not begin.
    pub(super) fn give_up(&mut self, seq: Seq) {
        let Some(operation) = self.forget(seq) else { return };
        self.effects.retain(|effect| effect.begins() != Some(seq) || effect.outlives());
        // After a crash it may be under way all the same, and has to hear of it.
        match operation {
            Operation::Child { child, .. } if child.close == ParentClose::Abandon => {}
            Operation::Child { id, .. } => {
                if let Ok(id) = id.parse() {
                    self.effects.push(Effect::CancelChild { seq, id });
                }
            }
            _ => self.effects.push(Effect::Stop { seq }),
        }
    }
}

impl Effect {
    /// The operation that it begins, if it begins one; the preflight's number is 0.
    pub fn begins(&self) -> Option<Seq> {
        match self {
            Self::Preflight => Some(0),
            Self::RunActivity { seq, .. }
            | Self::CallTool { seq }
            | Self::AwaitAuth { seq }
            | Self::StartChild { seq, .. }
            | Self::Tell { seq } => Some(*seq),
            Self::CancelChild { .. } | Self::Stop { .. } | Self::Hold | Self::Finish => None,
        }
    }

    /// Whether it is carried out although the run has ended.
    pub fn outlives(&self) -> bool {
        matches!(self, Self::StartChild { child, .. } if child.close == ParentClose::Abandon)
    }
}
