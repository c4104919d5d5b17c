//! The HTTP API: the wire contract of the public Python client, and airlock's own additions under `/v1/airlock/…`.
//!
//! Promises: every route but `/health` and the API's own description wants an API key; errors have the shapes that the
//! client understands, say what to do, and never hold a secret; an answer is written at once. What strangers and callers
//! may use up is bounded: connections, their time, the memory of bodies and answers ([`Limits`]). It knows nothing of how
//! executions run or of what a credential is.

mod audit;
mod body;
mod budget;
mod caller;
mod client;
mod connections;
mod connector_rules;
mod connectors;
mod cursor;
mod deployed;
mod deployments;
mod description;
mod error;
mod events;
mod execute;
mod executions;
mod ignored;
mod input;
mod keys;
mod limits;
mod messages;
mod notes;
mod oauth;
mod oauth_pages;
mod own;
mod pages;
mod parameters;
mod part;
mod questions;
mod router;
mod runs;
mod schedules;
mod serve;
mod slots;
mod state;
mod stream;
mod streams;
mod telling;
mod unserved;
mod visit;
mod wire;
mod workflow_lists;
mod workflows;
mod wrong;

pub use keys::{Keys, Role};
pub use limits::{Limits, Network, NoNetwork};
pub use router::router;
pub use serve::serve;
pub use state::ApiState;
