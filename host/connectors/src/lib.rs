//! Connectors: named services that executions call, with credentials that stay here.
//!
//! Promises: a secret is opened when a channel to a server is, is handed to the `egress`, and leaves that only inside a
//! request to the origin it was stored for; what comes back is scrubbed of it before anybody else sees it; what is stored
//! is sealed; what is read back is a name, a scope, a state and a fingerprint. Names resolve only inside the scopes of the
//! principal that the caller of this crate hands in. Every call is written to the audit log.
//!
//! It knows nothing of guests, of histories or of HTTP routes.

mod audit;
mod authorization;
mod call;
mod channel;
mod control;
mod credentials;
mod egress;
mod error;
mod facade;
mod mcp;
mod mock;
mod oauth;
mod protocol;
mod registry;
mod rest;
mod vault;

pub use audit::AUDIT_KINDS;
pub use authorization::{
    OAuthConfig,
    consent::{Arrival, Departure, Problem, Purpose, Returned, Wanted},
};
pub use call::slots::{Reached, SlotCredential, SlotState};
pub use credentials::Save;
pub use error::ConnectorsError;
pub use facade::{
    Connectors, ConnectorsConfig,
    admin::{AuditFilter, MasterKeySource},
};
pub use registry::{
    apis::{MAX_DOCUMENT, document_server},
    scope::Scope,
    sharing::Sharing,
};
pub use rest::{Bundle, Origin, Survey, survey};
pub use vault::{
    keyring::{Keyring, KeyringError},
    master_key::{InvalidMasterKey, MasterKey},
};

// What targets of fuzzing hold is counted.
#[cfg(test)]
airlock_fuzz::counted!();
