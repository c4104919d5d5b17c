//! What is said of calls that were not made or not answered.

use std::time::Duration;

use airlock_engine::Principal;

use crate::{
    ConnectorsError,
    egress::Unanswered,
    protocol::trouble::{Again, Trouble},
    registry::{Connector, scope::Scope},
};

pub(super) fn unanswered_trouble(connector: &Connector, limit: Duration, unanswered: &Unanswered) -> Trouble {
    let (name, host) = (&connector.name, connector.host());
    let upstream =
        |text: &str| ConnectorsError::Upstream(format!("the server of connector '{name}' ({host}) {text}"));
    match unanswered {
        Unanswered::Unreachable(why) => {
            Trouble { error: upstream(&format!("cannot be reached: {why}")), again: Again::Always }
        }
        Unanswered::Late => {
            let message = format!("the server of connector '{name}' ({host}) took longer than {limit:?}");
            Trouble { error: ConnectorsError::Timeout(message), again: Again::IfIdempotent }
        }
        Unanswered::Broken => {
            Trouble { error: upstream("broke the connection off"), again: Again::IfIdempotent }
        }
        Unanswered::TooLarge => too_large(connector).into(),
        Unanswered::Redirected => upstream(
            "redirects to another server: that is not followed, so register the connector with the other address",
        )
        .into(),
        Unanswered::Forbidden(wall) => ConnectorsError::Forbidden(format!(
            "the address of connector '{name}' ({host}) may not be called: {wall}"
        ))
        .into(),
    }
}

/// It was switched off for this principal.
pub(super) fn inactive(connector: &Connector, who: &Principal) -> ConnectorsError {
    let name = &connector.name;
    let is_off = |scope: &Scope| connector.inactive.contains(&scope.key(who));
    let (whose, scope) = match Scope::ORDER.into_iter().find(is_off) {
        Some(Scope::Workspace) => ("for the workspace, as an owner", "workspace"),
        Some(Scope::Organization) => ("for the organisation, as an owner", "organization"),
        Some(Scope::User) | None => ("for yourself", "user"),
    };
    ConnectorsError::Forbidden(format!(
        "connector '{name}' is not active here: activate it first, {whose}, with POST /v1/connectors/{name}/{scope}/activate"
    ))
}

pub(super) fn too_large(connector: &Connector) -> ConnectorsError {
    ConnectorsError::TooLarge(format!(
        "the answer of connector '{}' ({}) is larger than {} bytes: ask for less, or let the operator raise \
         max_response_bytes of the connector",
        connector.name,
        connector.host(),
        connector.control.max_response_bytes
    ))
}

/// By the operator's rules.
pub(super) fn not_allowed(tool: &str, connector: &Connector) -> ConnectorsError {
    ConnectorsError::Denied(format!("the operator does not allow '{tool}' of connector '{}'", connector.name))
}
