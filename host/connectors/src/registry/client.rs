//! The client that airlock is at a connector's authorization server, as far as it is sealed in the vault.

use airlock_engine::records::{Change, Records};
use secrecy::SecretString;

use super::Connector;
use crate::{
    ConnectorsError,
    egress::secret::Secret,
    oauth,
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
    format!("{}|{key}|{}|{issuer}|{redirect}", connector.organization, connector.base())
}

/// Whether a client that was registered beforehand has a secret.
pub(super) fn is_sealed(records: &dyn Records, connector: &Connector) -> Result<bool, ConnectorsError> {
    let is_given = connector.interactive().is_some_and(|oauth| oauth.client_id.is_some());
    Ok(is_given && records.get(TABLE, &key(connector))?.is_some())
}

/// The secrets of the client that airlock is at the connector's authorization server, as far as they open now: they may come
/// back from the connector's server.
pub(crate) fn secrets(
    records: &dyn Records,
    vault: &Vault,
    connector: &Connector,
    redirect: &str,
) -> Result<Vec<SecretString>, ConnectorsError> {
    let key = key(connector);
    if records.get(TABLE, &key)?.is_none() {
        return Ok(Vec::new());
    }
    let given = place(connector, &key, None);
    if let Ok(bytes) = vault.get(records, &key, &given) {
        return Ok(Secret::from_bytes(&bytes)?.bearer.into_iter().collect());
    }
    let server = connector.interactive().and_then(|oauth| oauth.server.as_ref());
    let Some(server) = server else { return Ok(Vec::new()) };
    let registered = place(connector, &key, Some((server.issuer(), redirect)));
    let Ok(bytes) = vault.get(records, &key, &registered) else { return Ok(Vec::new()) };
    let client = oauth::Client::from_bytes(&bytes)?;
    Ok(client.secrets().map(SecretString::from).collect())
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
