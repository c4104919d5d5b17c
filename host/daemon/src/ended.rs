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

/// A command line that cannot be carried out as it is: nothing was asked of the daemon.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) String);

impl Ended {
    /// A word for scripts.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Failed => "failed",
            Self::BadInput => "bad_input",
            Self::Stopped => "stopped",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Misuse {
    /// An error whose cause is what was given.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

impl std::fmt::Display for Misuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        Self::from(ended as u8)
    }
}
