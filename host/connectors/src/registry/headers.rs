//! The headers that go with every request of a connector: plain ones stand in it, secret ones in the vault.

use airlock_engine::records::{Change, Records};
use secrecy::ExposeSecret as _;

use super::{Connector, Visibility};
use crate::{
    ConnectorsError,
    egress::secret::{CommonHeader, Secret},
    vault::{TABLE, Vault},
};

/// Puts the headers of a connector where they belong: secret values into the vault.
pub(crate) fn seal(
    vault: &Vault,
    connector: &mut Connector,
    headers: Vec<CommonHeader>,
) -> Result<Vec<Change>, ConnectorsError> {
    let row = key(connector);
    let plain = |header: &CommonHeader| (!header.is_secret).then(|| header.value.expose_secret().to_owned());
    connector.headers = headers.iter().map(|header| (header.name.clone(), plain(header))).collect();
    let secrets = headers.into_iter().filter(|header| header.is_secret);
    let headers = secrets.map(|header| (header.name, header.value)).collect();
    let secret = Secret { headers, ..Secret::default() };
    if secret.headers.is_empty() {
        return Ok(vec![Change::Delete { table: TABLE, key: row }]);
    }
    let place = place(connector, &row);
    Ok(vec![vault.put(&row, &place, &secret.to_bytes()?)])
}

/// All headers of a connector, the secret ones opened.
pub(crate) fn open(
    records: &dyn Records,
    vault: &Vault,
    connector: &Connector,
) -> Result<Vec<CommonHeader>, ConnectorsError> {
    let plain = connector.headers.iter().filter_map(|(name, value)| {
        let value = value.clone()?.into();
        Some(CommonHeader { name: name.clone(), value, is_secret: false })
    });
    let mut headers: Vec<_> = plain.collect();
    if connector.headers.iter().any(|(_, value)| value.is_none()) {
        let row = key(connector);
        let place = place(connector, &row);
        let secret = Secret::from_bytes(&vault.get(records, &row, &place)?)?;
        let secrets = secret.headers.into_iter();
        headers.extend(secrets.map(|(name, value)| CommonHeader { name, value, is_secret: true }));
    }
    Ok(headers)
}

/// Headers come before every credential, so only an owner puts them into what others use (THREATS row 7).
pub(super) fn shared_need_owner(
    visibility: Visibility,
    headers: &[CommonHeader],
    is_owner: bool,
) -> Result<(), ConnectorsError> {
    match visibility != Visibility::Private && !headers.is_empty() && !is_owner {
        false => Ok(()),
        true => Err(ConnectorsError::Forbidden(
            "headers of a shared connector go with everybody's calls: this needs a key with the role 'owner', or \
             visibility 'private'"
                .into(),
        )),
    }
}

/// The row of the vault.
pub(crate) fn key(connector: &Connector) -> String {
    format!("{}/headers", connector.id)
}

pub(crate) fn place(connector: &Connector, key: &str) -> String {
    format!("{}|{key}|{}|{}", connector.organization, connector.version, connector.base())
}
