//! Connectors: named services that executions call, with credentials that stay here.
//!
//! Promises: a secret is opened when a channel to a server is, is handed to the `egress`, and leaves that only inside a
//! request to the origin it was stored for; what comes back is scrubbed of it before anybody else sees it; what is stored
//! is sealed; what is read back is a name, a scope, a state and a fingerprint. Names resolve only inside the scopes of the
//! principal that the caller of this crate hands in. Every call is written to the audit log.
//!
//! It knows nothing of guests, of histories or of HTTP routes.

mod address;
mod admin;
mod apis;
mod audit;
mod authorization;
mod calls;
mod channel;
mod consent;
mod control;
mod credentials;
mod egress;
mod error;
mod facade;
mod keyring;
mod management;
mod master_key;
mod mcp;
mod method;
mod mock;
mod oauth;
mod registry;
mod rest;
mod scrub;
mod secret;
mod tools;
mod vault;

pub use admin::{AuditFilter, MasterKeySource};
pub use apis::{MAX_DOCUMENT, document_server};
pub use authorization::OAuthConfig;
pub use consent::{Arrival, Departure, Problem, Purpose, Returned, Wanted};
pub use credentials::{Save, Scope};
pub use error::ConnectorsError;
pub use facade::{Connectors, ConnectorsConfig};
pub use keyring::{Keyring, KeyringError};
pub use management::Sharing;
pub use master_key::{InvalidMasterKey, MasterKey};
