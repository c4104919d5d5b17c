//! What is said to whoever cannot call now.

use std::time::Duration;

use airlock_engine::Principal;
use chrono::Utc;

use crate::{
    ConnectorsError,
    credentials::{Credential, State},
    registry::{
        Connector,
        method::{Method, MethodKind},
        scope::Scope,
    },
};

/// Nothing usable was stored for the connector where this principal's credentials are looked for.
pub(crate) fn nothing_stored_for(connector: &Connector, who: &Principal) -> ConnectorsError {
    if who.user.as_str() != Principal::DEPLOYMENT {
        return nothing_stored(connector);
    }
    let step = connector.first_step(Scope::Workspace).unwrap_or_else(|| match connector.interactive() {
        // Only for oneself can one go to a browser.
        Some(_) => "let it run on behalf of its caller, who can authorise".to_owned(),
        None => takes_none(connector),
    });
    ConnectorsError::Unauthorized(format!(
        "{} but no credentials are configured for the workspace or the organisation. The workflow does not run on behalf \
         of its caller, so only theirs are looked for, the workspace's first, and nobody's own: {step}",
        requires(connector)
    ))
}

/// The words of contract/preflight.md.
fn requires(connector: &Connector) -> String {
    let what = match connector.methods.first().map(Method::kind) {
        _ if connector.interactive().is_some() => "authorisation",
        Some(MethodKind::Bearer) | None => "bearer authentication",
        Some(_) => "credentials",
    };
    format!("Connector '{}' requires {what}", connector.name)
}

fn takes_none(connector: &Connector) -> String {
    format!(
        "the connector takes none: say how one authenticates, for instance with `airlock connectors update {} --auth \
         bearer`",
        connector.name
    )
}

/// Nothing usable was stored for the connector.
pub(crate) fn nothing_stored(connector: &Connector) -> ConnectorsError {
    let Some(step) = connector.first_step(Scope::User) else {
        return ConnectorsError::Unauthorized(format!(
            "the server of connector '{}' ({}) wants a credential, and {}",
            connector.name,
            connector.host(),
            takes_none(connector)
        ));
    };
    let requires = requires(connector);
    ConnectorsError::Unauthorized(match connector.interactive() {
        Some(_) => format!("{requires}: {step}"),
        None => format!(
            "{requires} but no credentials are configured. Create credentials for this connector before running the \
             workflow or calling its tools: {step}"
        ),
    })
}

pub(crate) fn no_oauth(connector: &Connector) -> ConnectorsError {
    let kinds: Vec<&str> = connector.methods.iter().map(|method| method.kind().as_str()).collect();
    ConnectorsError::Conflict(format!(
        "connector '{}' has no OAuth that a person could go through, it takes {}: {}",
        connector.name,
        kinds.join(", "),
        connector.first_step(Scope::User).unwrap_or_else(|| takes_none(connector))
    ))
}

/// A credential that needs somebody.
pub(crate) fn again(connector: &Connector, credential: &Credential) -> ConnectorsError {
    let what = match &credential.state {
        State::NeedsScopes(scopes) if scopes.is_empty() => "needs more than was granted".into(),
        State::NeedsScopes(scopes) => format!("needs more than was granted ({})", scopes.join(" ")),
        State::Revoked | State::Refused => "was refused by its server".into(),
        State::Orphaned => {
            "was given to a client that its authorization server has forgotten (airlock has registered there anew)".into()
        }
        State::Valid | State::RefreshFailed => "has expired".into(),
    };
    ConnectorsError::Unauthorized(format!(
        "the credential '{}' of connector '{}' {what}: {}",
        credential.name,
        connector.name,
        credential.remedy(connector)
    ))
}

pub(crate) fn expires_at(expires_in: Option<Duration>) -> Option<chrono::DateTime<Utc>> {
    let expires_in = chrono::TimeDelta::from_std(expires_in?).ok()?;
    Utc::now().checked_add_signed(expires_in)
}
