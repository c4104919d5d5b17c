//! OAuth 2: finding a server's authorization server, becoming its client, and getting, renewing and revoking tokens.
//!
//! Promises: every endpoint is validated before it is stored, shown or called; every code is bound to a PKCE verifier, a
//! state and the issuer it was asked from; tokens are asked for one resource where the server has one (RFC 8707); no
//! redirect is followed; a secret leaves this module only inside a request to the endpoint it is meant for, or in the form
//! that its caller seals. Messages hold a host, a code, and at most a cleaned and cut word of the server's own.
//!
//! What comes from outside is read member by member: what is odd and not needed is left out with its reason
//! ([`LeftOut`](document::LeftOut)), what guards is strict. The address for a browser is the `oauth2` crate's; all that is
//! sent to a server and read of it is done here.
//!
//! It knows nothing of who may connect what, and nothing of what is stored: that is for the caller.

mod answer;
mod asking;
mod authorize;
mod challenge;
mod client;
mod discovery;
mod document;
mod error_answer;
mod exchange;
mod grant;
mod metadata;
mod places;
mod plain;
mod post;
mod quote;
mod redirect;
mod register;
mod resource;
mod return_url;
mod revoke;
mod server;
mod text;
mod token;
mod tried;
mod ways;
mod www_authenticate;

#[cfg(test)]
mod breakages;
#[cfg(test)]
mod combinations;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod searches;

pub(crate) use self::{
    authorize::{Begun, Facts, Pending, begin, state_hash},
    challenge::{Challenge, Refusal, challenge, wanted_scopes},
    client::{AuthData, Client, client_metadata_document},
    discovery::{Found, PATIENCE, Search},
    error_answer::ErrorAnswer,
    metadata::is_resource,
    register::register,
    return_url::{Outcome, return_url, with_outcome},
    revoke::{Hint, revoke},
    server::{Server, Source},
    token::{RefreshFailure, client_credentials, finish, has_forgotten, refresh},
    tried::Tried,
    ways::Way,
};
