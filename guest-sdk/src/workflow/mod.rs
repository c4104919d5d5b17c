//! Workflows: pure functions from what happened to what is wanted next.

mod child;
mod context;
pub(crate) mod declared;
mod handlers;
mod input;
mod instance;
mod messages;
pub(crate) mod operation;
mod pending;
pub(crate) mod protocol;
mod random;
pub(crate) mod shared;
mod task;

#[cfg(test)]
mod shapes;
#[cfg(test)]
mod tests;

pub use child::{Child, ChildCall};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use context::is_search_key;
pub use context::{Cancelled, Workflow};
pub use input::InputRequest;
pub(crate) use instance::Instance;
pub use instance::Run;
pub use operation::{ActivityCall, HostCall, Sleep};
pub use protocol::ParentClose;
pub use task::JoinHandle;
