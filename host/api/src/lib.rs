//! The HTTP API: the wire contract of the public Python client, and airlock's own additions under `/v1/airlock/…`.
//!
//! Promises: every route but `/health` and the API's own description wants an API key; errors have the shapes that the
//! client understands, say what to do, and never hold a secret; an answer is written at once. It knows nothing of how
//! executions run or of what a credential is.

mod audit;
mod caller;
mod connector_rules;
mod connectors;
mod description;
mod error;
mod events;
mod execute;
mod executions;
mod input;
mod keys;
mod messages;
mod oauth;
mod oauth_pages;
mod own;
mod page;
mod questions;
mod router;
mod runs;
mod schedules;
mod serve;
mod slots;
mod state;
mod stream;
mod unserved;
mod wire;
mod workflows;

pub use keys::{Keys, Role};
pub use router::router;
pub use serve::serve;
pub use state::ApiState;
