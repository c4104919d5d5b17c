//! Connectors: named services that executions call, with credentials that stay here.
//!
//! Promises: a secret is opened when a session with a server is, is handed to the `egress`, and leaves that only inside a
//! request to the origin it was stored for; what comes back is scrubbed of it before anybody else sees it; what is stored is sealed; what is read back
//! is a name, a scope, a state and a fingerprint. Names resolve only inside the scopes of the principal that the caller of
//! this crate hands in.
//!
//! It knows nothing of guests, of histories or of HTTP routes.

mod address;
mod audit;
mod control;
mod credentials;
mod egress;
mod error;
mod facade;
mod master_key;
mod mcp;
mod oauth;
mod mock;
mod registry;
mod rest;
mod scrub;
mod tools;
mod vault;

pub use credentials::{Save, Scope};
pub use error::ConnectorsError;
pub use facade::{Connectors, ConnectorsConfig};
pub use master_key::{InvalidMasterKey, MasterKey};
