//! Workflows: pure functions from what happened to what is wanted next.

mod child;
mod context;
mod handlers;
mod input;
mod instance;
mod messages;
pub(crate) mod operation;
mod pending;
pub(crate) mod protocol;
mod random;
pub(crate) mod shared;

#[cfg(test)]
mod tests;

pub use child::{Child, ChildCall};
pub use context::{Cancelled, JoinHandle, Workflow};
pub use input::InputRequest;
pub(crate) use instance::Instance;
pub use instance::Run;
pub use operation::{ActivityCall, HostCall, Sleep};
pub use protocol::ParentClose;
