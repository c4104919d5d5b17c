//! How a command ends.

use std::process::ExitCode;

/// Exit codes: 0 as wished, 1 failed, 2 wrong input, 3 stopped from outside, 4 no daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    Failed,
    BadInput,
    Stopped,
    Unreachable,
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        Self::from(ended as u8)
    }
}
