//! The client that airlock is at a connector's authorization server, as far as it is sealed in the vault.

use airlock_engine::records::Change;
use secrecy::SecretString;

use super::Connector;
use crate::{
    ConnectorsError,
    egress::secret::Secret,
    vault::{TABLE, Vault},
};

/// The row of the vault.
pub(crate) fn key(connector: &Connector) -> String {
    format!("{}/client", connector.id)
}

/// What a client is bound to: the connector, and the issuer and the address of ours that it was registered with; one that
/// somebody registered beforehand is bound to neither.
pub(crate) fn place(connector: &Connector, key: &str, registered: Option<(&str, &str)>) -> String {
    let (issuer, redirect) = registered.unwrap_or(("given", ""));
    format!("{}|{key}|{}|{issuer}|{redirect}", connector.organization, connector.origin())
}

/// The change that keeps the secret of a client that was registered beforehand.
pub(super) fn seal(
    vault: &Vault,
    connector: &Connector,
    secret: Option<SecretString>,
) -> Result<Change, ConnectorsError> {
    let key = key(connector);
    let Some(secret) = secret else { return Ok(Change::Delete { table: TABLE, key }) };
    let secret = Secret { bearer: Some(secret), ..Secret::default() };
    Ok(vault.put(&key, &place(connector, &key, None), &secret.to_bytes()?))
}
