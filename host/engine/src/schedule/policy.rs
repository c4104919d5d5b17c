//! What a schedule does when times meet executions that still run, and with times that were missed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PolicyWire, Problem};

/// What to do at a time when an execution of the same schedule still runs (contract §10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// 1: the time is skipped.
    Skip,
    /// 2: one start waits for the end; further times are skipped.
    BufferOne,
    /// 3: all starts wait for their turn.
    BufferAll,
    /// 4: what runs is asked to stop; the start waits for that.
    CancelOther,
    /// 5: what runs is ended; the start waits for that.
    TerminateOther,
    /// 6: starts at once, beside the others.
    AllowAll,
}

impl Overlap {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Skip,
        Self::BufferOne,
        Self::BufferAll,
        Self::CancelOther,
        Self::TerminateOther,
        Self::AllowAll,
    ];

    /// By its number on the wire.
    pub fn from_wire(number: i64) -> Result<Self, String> {
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        index.and_then(|index| Self::ALL.get(index).copied()).ok_or_else(|| {
            format!(
                "{number} is not an overlap policy: 1 skip, 2 buffer one, 3 buffer all, 4 cancel other, 5 terminate other, 6 allow all"
            )
        })
    }

    /// Its number on the wire.
    pub fn wire(self) -> i64 {
        self as i64 + 1
    }
}

/// A checked [`PolicyWire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// See [`Overlap`].
    pub overlap: Overlap,
    /// Times that could not be looked at when they came are made up for if they are not older than this.
    pub catchup_window: Duration,
    /// Pause when an execution fails.
    pub pause_on_failure: bool,
}

impl Default for Policy {
    /// Skip; a year; no pause (contract/workflow-features.md §17).
    fn default() -> Self {
        Self {
            overlap: Overlap::Skip,
            catchup_window: Duration::from_secs(31_536_000),
            pause_on_failure: false,
        }
    }
}

impl Policy {
    /// A shorter catch-up window counts as this one: a busy machine must not lose starts.
    pub const SHORTEST_CATCHUP: Duration = Duration::from_secs(10);

    pub(super) fn read(wire: Option<PolicyWire>, problems: &mut Vec<Problem>) -> Self {
        let mut policy = Self::default();
        let Some(wire) = wire else { return policy };
        if let Some(number) = wire.overlap {
            match Overlap::from_wire(number) {
                Ok(overlap) => policy.overlap = overlap,
                Err(message) => problems.push(Problem::new("/policy/overlap", message)),
            }
        }
        if let Some(seconds) = wire.catchup_window_seconds {
            match u64::try_from(seconds) {
                Ok(seconds) => {
                    policy.catchup_window =
                        Duration::from_secs(seconds.min(10_000_000_000)).max(Self::SHORTEST_CATCHUP);
                }
                Err(_) => problems.push(Problem::new(
                    "/policy/catchup_window_seconds",
                    "it must be a number of seconds from 0 on",
                )),
            }
        }
        policy.pause_on_failure = wire.pause_on_failure.unwrap_or(false);
        policy
    }

    /// The policy with nothing left open, for clients.
    pub fn wire(self) -> PolicyWire {
        PolicyWire {
            catchup_window_seconds: i64::try_from(self.catchup_window.as_secs()).ok(),
            overlap: Some(self.overlap.wire()),
            pause_on_failure: Some(self.pause_on_failure),
        }
    }
}
