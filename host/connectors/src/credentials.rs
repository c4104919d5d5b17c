//! Credentials: what is known of them without their secret, and the rules about defaults.

use std::{collections::BTreeMap, str::FromStr};

use airlock_engine::{
    Principal,
    records::{Change, Records},
};
use chrono::{DateTime, Utc};
use http::{HeaderName, HeaderValue};
use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    ConnectorsError,
    registry::{Connector, Method},
    vault,
};

pub(crate) const TABLE: &str = "credentials";

/// Whose credential it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One user's.
    User,
    /// Everybody's in a workspace.
    Workspace,
    /// Everybody's in an organisation.
    Organization,
}

impl FromStr for Scope {
    type Err = ConnectorsError;

    fn from_str(text: &str) -> Result<Self, ConnectorsError> {
        match text {
            "user" => Ok(Self::User),
            "workspace" => Ok(Self::Workspace),
            "organization" => Ok(Self::Organization),
            other => Err(ConnectorsError::NotFound(format!(
                "'{other}' is not a scope: use user, workspace or organization"
            ))),
        }
    }
}

impl Scope {
    /// In the order in which a call looks for a credential.
    pub(crate) const ORDER: [Self; 3] = [Self::User, Self::Workspace, Self::Organization];

    /// The scope with its owner. Owners' ids hold no slash.
    pub(crate) fn key(self, who: &Principal) -> String {
        match self {
            Self::User => format!("user/{}", who.user),
            Self::Workspace => format!("workspace/{}", who.workspace),
            Self::Organization => format!("organization/{}", who.organization),
        }
    }

    /// The word in answers, which is not always the one in paths (contract §11.1).
    fn wire(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Workspace => "workspace",
            Self::Organization => "org",
        }
    }
}

/// Whether a credential may exist already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Save {
    /// POST: stores a credential, replacing one of the same name.
    Create,
    /// PATCH: changes what is given.
    Update,
}

/// A credential without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credential {
    /// Differs between two credentials that had the same name one after the other.
    id: Uuid,
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) scope: Scope,
    pub(crate) method: Method,
    pub(crate) is_default: bool,
    /// Grows with every change of the secret.
    pub(crate) version: u32,
    /// The origin it was stored for.
    pub(crate) origin: String,
    /// The first digits of a salted hash, to tell credentials apart.
    pub(crate) fingerprint: String,
    pub(crate) creator: String,
    pub(crate) created_at: DateTime<Utc>,
}

/// A secret in the open. It cannot be printed or serialised and is overwritten when it is dropped.
pub(crate) struct Secret {
    pub(crate) bearer: Option<SecretString>,
    pub(crate) headers: Vec<(String, SecretString)>,
}

/// The stored form of a secret; exists only inside this module's two functions.
#[derive(Serialize, Deserialize)]
struct Stored {
    bearer: Option<String>,
    headers: BTreeMap<String, String>,
}

impl Secret {
    pub(crate) fn none() -> Self {
        Self { bearer: None, headers: Vec::new() }
    }

    pub(crate) fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, ConnectorsError> {
        let open = |secret: &SecretString| secret.expose_secret().to_owned();
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), open(value))).collect();
        let stored = Stored { bearer: self.bearer.as_ref().map(open), headers };
        Ok(Zeroizing::new(serde_json::to_vec(&stored)?))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, ConnectorsError> {
        let stored: Stored = serde_json::from_slice(bytes)?;
        let headers = stored.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
        Ok(Self { bearer: stored.bearer.map(Into::into), headers })
    }

    /// Every value that must not come back.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.iter().map(|(_, value)| value.expose_secret());
        self.bearer.iter().map(ExposeSecret::expose_secret).chain(headers)
    }
}

/// `CredentialsCreateOrUpdate`
#[derive(Deserialize)]
struct Request {
    name: String,
    title: Option<String>,
    is_default: Option<bool>,
    credentials: Option<RequestSecret>,
}

#[derive(Deserialize)]
struct RequestSecret {
    bearer_token: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    oauth: Option<Value>,
}

/// Headers that the host itself sets, or that would change where or how a request goes (THREATS row 7).
pub(crate) const RESERVED: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "accept",
    "accept-encoding",
    "expect",
    "forwarded",
    "via",
    "cookie",
    "set-cookie",
    "mcp-session-id",
    "mcp-protocol-version",
    "last-event-id",
];

/// A header that may be sent along, in its typed form: a line break in it is refused here (THREATS row 6).
pub(crate) fn check_header(name: &str, value: &str) -> Result<(), String> {
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("'{name}' is not a header's name"))?;
    let lower = parsed.as_str();
    if RESERVED.contains(&lower) || lower.starts_with("proxy-") || lower.starts_with("x-forwarded-") {
        return Err(format!("the header '{name}' is set by the host alone"));
    }
    HeaderValue::from_str(value).map_err(|_| format!("the value of '{name}' cannot stand in a header"))?;
    Ok(())
}

/// All credentials, in memory and in the store. The key is `connector/scope/owner/name`.
pub(crate) struct Credentials(RwLock<BTreeMap<String, Credential>>);

fn prefix(connector: &Connector, scope: Scope, who: &Principal) -> String {
    format!("{}/{}/", connector.id, scope.key(who))
}

impl Credentials {
    pub(crate) fn open(records: &dyn Records) -> Result<Self, ConnectorsError> {
        let mut all = BTreeMap::new();
        for (key, value) in records.scan(TABLE, "", None, usize::MAX)? {
            all.insert(key, serde_json::from_slice(&value)?);
        }
        Ok(Self(RwLock::new(all)))
    }

    /// The credentials of a scope, by name.
    pub(crate) fn of(&self, connector: &Connector, scope: Scope, who: &Principal) -> Vec<Credential> {
        let prefix = prefix(connector, scope, who);
        let all = self.0.read();
        let found = all.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        found.map(|(_, credential)| credential.clone()).collect()
    }

    /// The credential that a call uses, with its key: the named one, else the default, in the order of the scopes.
    pub(crate) fn resolve(
        &self,
        connector: &Connector,
        who: &Principal,
        name: Option<&str>,
    ) -> Result<Option<(String, Credential)>, ConnectorsError> {
        for scope in Scope::ORDER {
            let mut candidates = self.of(connector, scope, who).into_iter();
            let found = candidates.find(|credential| match name {
                Some(name) => credential.name == name,
                None => credential.is_default,
            });
            if let Some(credential) = found {
                let key = prefix(connector, scope, who) + &credential.name;
                return Ok(Some((key, credential)));
            }
        }
        match name {
            None => Ok(None),
            Some(name) => Err(ConnectorsError::NotFound(format!(
                "Credential '{name}' not found for connector '{}'",
                connector.name
            ))),
        }
    }

    /// Stores a credential by the rules of the contract (§3.1, `create_credentials` and `update_credentials`).
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn save(
        &self,
        records: &dyn Records,
        vault: &vault::Vault,
        connector: &Connector,
        scope: Scope,
        who: &Principal,
        body: Value,
        mode: Save,
    ) -> Result<String, ConnectorsError> {
        let request: Request =
            serde_json::from_value(body).map_err(|error| ConnectorsError::invalid("", error.to_string()))?;
        check_credential_name(&request.name)?;
        let (prefix, name) = (prefix(connector, scope, who), request.name.clone());
        let key = format!("{prefix}{name}");
        // One writer at a time, so that there is never a second default.
        let mut all = self.0.write();
        let before = all.get(&key).cloned();
        if mode == Save::Update && before.is_none() && request.credentials.is_none() {
            let message = format!("Credential '{name}' not found for connector '{}'", connector.name);
            return Err(ConnectorsError::NotFound(message));
        }
        let secret = request.credentials.map(|secret| check_secret(connector, secret)).transpose()?;
        if secret.is_none() && before.is_none() {
            return Err(ConnectorsError::invalid("/credentials", "a new credential needs a secret"));
        }
        let default = all
            .iter()
            .find(|(other, credential)| other.starts_with(&prefix) && credential.is_default)
            .map(|(other, credential)| (other.clone(), credential.clone()));
        let was_default = before.as_ref().is_some_and(|before| before.is_default);
        let is_default = match (request.is_default, &default) {
            (Some(false), None) => {
                let message =
                    "the first credential is the default one: leave out is_default or set it to true";
                return Err(ConnectorsError::Conflict(message.into()));
            }
            (Some(false), Some(_)) if was_default => {
                let message =
                    "the default credential cannot be demoted: make another one the default instead";
                return Err(ConnectorsError::Conflict(message.into()));
            }
            (Some(wanted), _) => wanted,
            (None, None) => true,
            (None, Some(_)) => was_default,
        };
        let mut credential = before.unwrap_or_else(|| Credential {
            id: Uuid::new_v4(),
            name: name.clone(),
            title: None,
            scope,
            method: Method::Bearer,
            is_default,
            version: 0,
            origin: String::new(),
            fingerprint: String::new(),
            creator: who.user.to_string(),
            created_at: Utc::now(),
        });
        credential.title = request.title.or(credential.title);
        credential.is_default = is_default;
        let mut changes = Vec::new();
        if let Some(secret) = secret {
            credential.version += 1;
            credential.origin = connector.origin();
            let bytes = secret.to_bytes()?;
            credential.fingerprint = vault.fingerprint(&key, &bytes);
            changes.push(vault.put(&key, &credential.place(connector, &key), &bytes));
        }
        let mut written = vec![(key.clone(), credential)];
        if is_default
            && let Some((other, mut demoted)) = default
            && other != key
        {
            demoted.is_default = false;
            written.push((other, demoted));
        }
        for (key, credential) in &written {
            changes.push(Change::Put {
                table: TABLE,
                key: key.clone(),
                value: serde_json::to_vec(credential)?,
            });
        }
        records.write(&changes)?;
        all.extend(written);
        Ok(name)
    }

    /// Deletes a credential. If it was the default, the oldest of the others becomes it.
    pub(crate) fn delete(
        &self,
        records: &dyn Records,
        connector: &Connector,
        scope: Scope,
        who: &Principal,
        name: &str,
    ) -> Result<(), ConnectorsError> {
        let prefix = prefix(connector, scope, who);
        let key = format!("{prefix}{name}");
        let mut all = self.0.write();
        let Some(credential) = all.get(&key).cloned() else {
            let message = format!("Credential '{name}' not found for connector '{}'", connector.name);
            return Err(ConnectorsError::NotFound(message));
        };
        let mut changes = deletion(&key);
        let heir = all
            .iter()
            .filter(|(other, _)| credential.is_default && other.starts_with(&prefix) && **other != key)
            .min_by_key(|(_, other)| other.created_at)
            .map(|(other, heir)| (other.clone(), Credential { is_default: true, ..heir.clone() }));
        if let Some((other, heir)) = &heir {
            changes.push(Change::Put { table: TABLE, key: other.clone(), value: serde_json::to_vec(heir)? });
        }
        records.write(&changes)?;
        all.remove(&key);
        all.extend(heir);
        Ok(())
    }

    /// Deletes all credentials whose key begins with `connector/` or `connector/scope/owner/`.
    fn delete_prefix(
        &self,
        prefix: &str,
        write: impl FnOnce(Vec<Change>) -> Result<(), ConnectorsError>,
    ) -> Result<usize, ConnectorsError> {
        let mut all = self.0.write();
        let keys: Vec<String> = all.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
        write(keys.iter().flat_map(|key| deletion(key)).collect())?;
        all.retain(|key, _| !key.starts_with(prefix));
        Ok(keys.len())
    }

    /// Deletes all of a user's credentials for a connector, and says how many there were.
    pub(crate) fn delete_all(
        &self,
        records: &dyn Records,
        connector: &Connector,
        who: &Principal,
    ) -> Result<usize, ConnectorsError> {
        let prefix = prefix(connector, Scope::User, who);
        self.delete_prefix(&prefix, |changes| Ok(records.write(&changes)?))
    }

    /// Deletes everybody's credentials for a connector, written by `write`.
    pub(crate) fn delete_of_connector(
        &self,
        connector: &Connector,
        write: impl FnOnce(Vec<Change>) -> Result<(), ConnectorsError>,
    ) -> Result<(), ConnectorsError> {
        self.delete_prefix(&format!("{}/", connector.id), write).map(drop)
    }
}

fn deletion(key: &str) -> Vec<Change> {
    [TABLE, vault::TABLE].map(|table| Change::Delete { table, key: key.into() }).into()
}

fn check_credential_name(name: &str) -> Result<(), ConnectorsError> {
    let valid = (1..=128).contains(&name.len())
        && !name.contains('/')
        && !name.chars().any(char::is_control)
        && name.trim() == name;
    match valid {
        true => Ok(()),
        false => Err(ConnectorsError::invalid(
            "/name",
            "a credential's name has 1 to 128 characters, no '/', and no white space around it",
        )),
    }
}

fn check_secret(connector: &Connector, secret: RequestSecret) -> Result<Secret, ConnectorsError> {
    if secret.oauth.is_some() {
        let message = "OAuth credentials are not served by this version: store a bearer token or headers";
        return Err(ConnectorsError::Unsupported(message.into()));
    }
    if !connector.allows(Method::Bearer) {
        let message = format!("connector '{}' takes no credentials", connector.name);
        return Err(ConnectorsError::Conflict(message));
    }
    let bearer = secret.bearer_token.map(Zeroizing::new);
    if let Some(token) = &bearer {
        if token.trim().is_empty() {
            return Err(ConnectorsError::invalid("/credentials/bearer_token", "the token is blank"));
        }
        if HeaderValue::from_str(token).is_err() {
            let message = "the token holds characters that cannot stand in a header, such as a line break";
            return Err(ConnectorsError::invalid("/credentials/bearer_token", message));
        }
    }
    let headers = secret.headers.unwrap_or_default();
    for (name, value) in &headers {
        check_header(name, value)
            .map_err(|message| ConnectorsError::invalid("/credentials/headers", message))?;
    }
    if bearer.is_none() && headers.is_empty() {
        return Err(ConnectorsError::invalid("/credentials", "give a bearer_token or headers"));
    }
    let headers = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    Ok(Secret { bearer: bearer.map(|token| SecretString::from(token.as_str())), headers })
}

impl Credential {
    /// What the secret is bound to: it opens nowhere else, and no older version opens in its place.
    pub(crate) fn place(&self, connector: &Connector, key: &str) -> String {
        format!("{}|{key}|{}|{}|{}", connector.organization, self.id, self.version, self.origin)
    }

    /// `AuthenticationConfiguration`
    pub(crate) fn wire(&self, connector: &Connector) -> Value {
        let status = match self.origin == connector.origin() {
            true => json!({ "status_type": "valid" }),
            false => json!({ "status_type": "invalid", "error_message": "you need to reconnect" }),
        };
        json!({
            "name": self.name, "title": self.title, "authentication_type": self.method.as_str(),
            "scope": self.scope.wire(), "is_default": self.is_default, "creator_id": self.creator,
            "status": status, "fingerprint": self.fingerprint, "created_at": self.created_at,
        })
    }
}
