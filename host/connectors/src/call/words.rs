//! What is said of calls that were not made or not answered.

use crate::{ConnectorsError, registry::Connector};

pub(super) fn inactive(connector: &Connector) -> ConnectorsError {
    let message = format!("connector '{}' is not active here: activate it first", connector.name);
    ConnectorsError::Forbidden(message)
}

/// By the operator's rules.
pub(super) fn not_allowed(tool: &str, connector: &Connector) -> ConnectorsError {
    ConnectorsError::Denied(format!("the operator does not allow '{tool}' of connector '{}'", connector.name))
}
