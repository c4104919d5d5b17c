//! What is said to whoever cannot call now.

use std::time::Duration;

use airlock_engine::Principal;
use chrono::Utc;

use crate::{
    ConnectorsError,
    credentials::{Credential, State},
    protocol::trouble::bearer_required,
    registry::{
        Connector,
        method::{Grant, Method, MethodKind},
    },
};

/// Nothing usable was stored for the connector where this principal's credentials are looked for.
pub(crate) fn nothing_stored_for(connector: &Connector, who: &Principal) -> ConnectorsError {
    if who.user.as_str() != Principal::DEPLOYMENT {
        return nothing_stored(connector);
    }
    let name = &connector.name;
    let wants = match connector.methods.first().map(Method::kind) {
        _ if connector.interactive().is_some() => "requires authorisation",
        Some(MethodKind::Bearer) | None => "requires bearer authentication",
        Some(_) => "requires credentials",
    };
    ConnectorsError::Unauthorized(format!(
        "Connector '{name}' {wants} but no credentials are configured for the workspace or the organisation. The workflow \
         does not run on behalf of its caller, so only theirs are looked for, the workspace's first, and nobody's own: \
         store one with `airlock credentials set {name} NAME --scope workspace`"
    ))
}

/// Nothing usable was stored for the connector.
pub(crate) fn nothing_stored(connector: &Connector) -> ConnectorsError {
    let name = &connector.name;
    ConnectorsError::Unauthorized(
        match connector.methods.first().map(crate::registry::method::Method::kind) {
            _ if connector.interactive().is_some() => format!(
                "Connector '{name}' requires authorisation: ask for an authorisation URL with `airlock credentials authorize \
             {name}`, and open it in a browser"
            ),
            Some(MethodKind::None) if connector.methods.len() == 1 => format!(
                "the server of connector '{name}' ({}) wants a credential, and the connector takes none: give it another \
             authentication method",
                connector.host()
            ),
            Some(MethodKind::Basic | MethodKind::ApiKey | MethodKind::Oauth2) => format!(
                "Connector '{name}' requires credentials but none are configured: store them with `airlock credentials set \
             {name} NAME`"
            ),
            _ => bearer_required(name),
        },
    )
}

pub(crate) fn no_oauth(connector: &Connector) -> ConnectorsError {
    let kinds: Vec<&str> = connector.methods.iter().map(|method| method.kind().as_str()).collect();
    ConnectorsError::Conflict(format!(
        "connector '{}' has no OAuth that a person could go through: it takes {}",
        connector.name,
        kinds.join(", ")
    ))
}

/// A credential that needs somebody.
pub(super) fn again(connector: &Connector, credential: &Credential) -> ConnectorsError {
    let grant = match connector.method(MethodKind::Oauth2) {
        Some(Method::Oauth2(oauth)) => oauth.grant,
        _ => Grant::AuthorizationCode,
    };
    let what = match &credential.state {
        State::NeedsScopes(scopes) if scopes.is_empty() => "needs more than was granted".into(),
        State::NeedsScopes(scopes) => format!("needs more than was granted ({})", scopes.join(" ")),
        State::Revoked | State::Refused => "was refused by its server".into(),
        State::Valid | State::RefreshFailed => "has expired".into(),
    };
    let (name, connector) = (&credential.name, &connector.name);
    ConnectorsError::Unauthorized(match grant {
        Grant::AuthorizationCode => format!(
            "the credential '{name}' of connector '{connector}' {what}: authorise again with `airlock credentials \
             authorize {connector} {name}`"
        ),
        Grant::ClientCredentials => format!(
            "the credential '{name}' of connector '{connector}' {what}: store valid client credentials with `airlock \
             credentials set {connector} {name}`"
        ),
    })
}

pub(crate) fn expires_at(expires_in: Option<Duration>) -> Option<chrono::DateTime<Utc>> {
    let expires_in = chrono::TimeDelta::from_std(expires_in?).ok()?;
    Utc::now().checked_add_signed(expires_in)
}
