//! What is said of calls that were not made or not answered.

use airlock_engine::Principal;

use crate::{
    ConnectorsError,
    control::Rule,
    registry::{Connector, scope::Scope},
};

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

/// By the operator's rules: which of them, and who may change it.
pub(super) fn not_allowed(tool: &str, connector: &Connector, rule: Rule<'_>) -> ConnectorsError {
    let Connector { name, creator, .. } = connector;
    ConnectorsError::Denied(format!(
        "the operator does not allow '{tool}' of connector '{name}': {rule} says 'deny'. {creator}, who registered it, and \
         owners may change that with `airlock connectors control {name} --set RULES`"
    ))
}
