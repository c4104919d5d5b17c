//! Durable execution.
//!
//! An execution is an append-only [`history`] plus what can be derived from it. The [`machine`] is the state of one
//! execution: it takes what happened and says what is to be done, with no clock, no socket and no database in it.
//! The [`engine`] is the driver around it: it persists, schedules and delivers. What it needs from others stands in
//! traits: [`store::Store`] keeps histories, [`records::Records`] keeps small records, [`guests::Guests`] runs guest
//! code, [`tools::Tools`] calls services, [`witness::Witness`] keeps notes of what runs for the case of a crash.
//!
//! The crate promises: a step's result is recorded exactly once, and before anything that depends on it starts; what
//! ran but was not recorded when the process died runs again. It knows nothing of WebAssembly, SQLite or HTTP.

pub mod definition;
mod difference;
pub mod engine;
pub mod extensions;
pub mod failure;
pub mod guests;
pub mod history;
pub mod ids;
pub mod json;
pub mod machine;
pub mod outage;
pub mod printable;
pub mod problem;
pub mod records;
pub mod replay;
pub mod schedule;
pub mod store;
pub mod tools;
pub mod witness;

pub use definition::{
    ActivityDefinition, ActivityOptions, Handler, PluginDefinition, RetryPolicy, Slot, WorkflowDefinition,
};
pub use engine::{Engine, EngineConfig};
pub use extensions::Extensions;
pub use failure::Failure;
pub use ids::{Digest, ExecutionId, ExecutionKey, OrganizationId, Principal, RunId, UserId, WorkspaceId};
pub use json::Json;

// What targets of fuzzing hold is counted.
#[cfg(test)]
airlock_fuzz::counted!();
