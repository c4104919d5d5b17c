//! Workflows: pure functions from what happened to what is wanted next.

mod context;
mod instance;
mod operation;
pub(crate) mod protocol;
mod random;
mod shared;

#[cfg(test)]
mod tests;

pub use context::{Cancelled, JoinHandle, Workflow};
pub(crate) use instance::Instance;
pub use instance::Run;
pub use operation::{ActivityCall, HostCall, Sleep};
