//! OAuth 2: finding a server's authorization server, becoming its client, and getting, renewing and revoking tokens.
//!
//! Promises: every endpoint is validated before it is stored, shown or called; every code is bound to a PKCE verifier, a
//! state and the issuer it was asked from; tokens are asked for one resource where the server has one (RFC 8707); no
//! redirect is followed; a secret leaves this module only inside a request to the endpoint it is meant for, or in the form
//! that its caller seals. Messages hold a host, a code, and at most a cleaned and cut word of the server's own.
//!
//! Discovery is rmcp's and the requests for tokens are those of the `oauth2` crate; rmcp never sees a code or a token,
//! because it logs them.
//!
//! It knows nothing of who may connect what, and nothing of what is stored: that is for the caller.
#![expect(dead_code, reason = "what the protocol has is whole")]

mod authorize;
mod challenge;
mod client;
mod discovery;
mod exchange;
mod quote;
mod register;
mod return_url;
mod revoke;
mod server;
mod token;

#[cfg(test)]
mod fixture;

pub(crate) use self::{
    authorize::{Begun, Facts, Pending, begin, state_hash},
    challenge::{Challenge, Refusal, challenge, wanted_scopes},
    client::{AuthData, Client, client_metadata_document},
    exchange::Exchange,
    quote::ErrorAnswer,
    register::register,
    return_url::{Outcome, return_url, with_outcome},
    revoke::{Hint, revoke},
    server::{Server, Source},
    token::{RefreshFailure, client_credentials, finish, refresh},
};
