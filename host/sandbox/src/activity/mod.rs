//! Activities: an instance for each attempt, with the real host functions.

pub(crate) mod host;
pub(crate) mod pending;
mod run;
pub(crate) mod state;

pub(crate) use run::{Attempt, hostcall_fuel, run};
