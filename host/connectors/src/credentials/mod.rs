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

use crate::{
    ConnectorsError,
    egress::secret::{ClientSecret, Secret},
    registry::Connector,
    registry::method::{Method, MethodKind},
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
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) scope: Scope,
    pub(crate) method: MethodKind,
    pub(crate) is_default: bool,
    /// Grows with every change of the secret, refreshed tokens included.
    pub(crate) version: u32,
    /// Grows when somebody stores the credential or authorises again.
    pub(crate) generation: u32,
    /// The origin it was stored for.
    pub(crate) origin: String,
    /// The first digits of a salted hash, to tell credentials apart.
    pub(crate) fingerprint: String,
    pub(crate) creator: String,
    pub(crate) created_at: DateTime<Utc>,
    /// What an authorization server said.
    pub(crate) grant: Option<Granted>,
    pub(crate) state: State,
    /// Since when it is in this state.
    pub(crate) changed_at: DateTime<Utc>,
}

/// What an authorization server granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Granted {
    /// Who granted it: the credential goes to no other server's refresh (THREATS rows 10 and 11).
    pub(crate) issuer: String,
    /// When the access token expires, if the server said.
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) scopes: Vec<String>,
    /// Whether new access tokens come without a person.
    pub(crate) renewable: bool,
}

/// Whether a credential can be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// As far as is known.
    #[default]
    Valid,
    /// The last refresh did not work, for a reason that may pass.
    RefreshFailed,
    /// The server refused it, or its refresh token: somebody has to authorise again.
    Revoked,
    /// A call needs these scopes as well: somebody has to authorise again.
    NeedsScopes(Vec<String>),
}

impl State {
    /// The word in answers, events and the audit log.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::RefreshFailed => "refresh_failed",
            Self::Revoked => "needs_reauthorization",
            Self::NeedsScopes(_) => "needs_scopes",
        }
    }
}

/// A token that expires within this is renewed before it is used.
pub(crate) const NEAR: chrono::TimeDelta = chrono::TimeDelta::seconds(30);

impl Credential {
    /// The access token can be renewed, and has expired or will before a call is through.
    pub(crate) fn is_to_be_renewed(&self, now: DateTime<Utc>) -> bool {
        let Some(grant) = &self.grant else { return false };
        grant.renewable && grant.expires_at.is_some_and(|at| at - NEAR <= now)
    }

    /// The access token has expired. One that cannot be renewed is used to its end, however short its life is.
    fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.grant.as_ref().and_then(|grant| grant.expires_at).is_some_and(|at| at <= now)
    }

    /// Somebody has to authorise again before it can be used.
    pub(crate) fn needs_somebody(&self, now: DateTime<Utc>) -> bool {
        match &self.state {
            State::Revoked | State::NeedsScopes(_) => true,
            State::Valid | State::RefreshFailed => {
                let renewable = self.grant.as_ref().is_none_or(|grant| grant.renewable);
                !renewable && self.is_expired(now)
            }
        }
    }

    /// The word for its state, with what follows from the clock.
    pub(crate) fn word(&self, now: DateTime<Utc>) -> &'static str {
        let grant = self.grant.as_ref();
        match (&self.state, grant) {
            (State::Valid, Some(grant)) if !grant.renewable && self.is_expired(now) => "expired",
            (State::Valid, Some(grant))
                if !grant.renewable
                    && grant.expires_at.is_some_and(|at| at - chrono::TimeDelta::days(1) <= now) =>
            {
                "expiring"
            }
            (state, _) => state.word(),
        }
    }
}

/// What is to be stored. [`Draft::parse`] reads it from a request; an authorization makes one of its own.
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) is_default: Option<bool>,
    pub(crate) secret: Option<(MethodKind, Secret)>,
    pub(crate) grant: Option<Granted>,
}

/// `CredentialsCreateOrUpdate`
#[derive(Deserialize)]
struct Request {
    name: String,
    title: Option<String>,
    is_default: Option<bool>,
    credentials: Option<RequestSecret>,
}

/// `ConnectionCredentialsInput`, with `basic` and `api_key` of our own.
#[derive(Deserialize)]
struct RequestSecret {
    bearer_token: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    oauth: Option<RequestClient>,
    basic: Option<RequestBasic>,
    api_key: Option<String>,
}

#[derive(Deserialize)]
struct RequestBasic {
    username: String,
    password: String,
}

/// `OAuth2ClientCredentialsInput`
#[derive(Deserialize)]
struct RequestClient {
    client_id: String,
    grant_type: Option<String>,
    client_secret: Option<String>,
    client_certificate: Option<String>,
    client_private_key: Option<String>,
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

    /// The credential that a call uses, with its key: the named one, else the default, in the order of the scopes and,
    /// inside a scope, of the connector's methods.
    pub(crate) fn resolve(
        &self,
        connector: &Connector,
        who: &Principal,
        name: Option<&str>,
    ) -> Result<Option<(String, Credential)>, ConnectorsError> {
        for scope in Scope::ORDER {
            let candidates = self.of(connector, scope, who);
            let rank = |credential: &Credential| {
                connector.methods.iter().position(|method| method.kind() == credential.method)
            };
            let found = candidates.into_iter().filter(|credential| match name {
                Some(name) => credential.name == name,
                None => credential.is_default && rank(credential).is_some(),
            });
            if let Some(credential) = found.min_by_key(rank) {
                let key = prefix(connector, scope, who) + &credential.name;
                return Ok(Some((key, credential)));
            }
        }
        match name {
            None => Ok(None),
            Some(name) => Err(not_found(name, connector)),
        }
    }

    /// The credential of a scope with this name, with its key.
    pub(crate) fn find(
        &self,
        connector: &Connector,
        scope: Scope,
        who: &Principal,
        name: &str,
    ) -> Result<(String, Credential), ConnectorsError> {
        let key = prefix(connector, scope, who) + name;
        let found = self.get(&key).ok_or_else(|| not_found(name, connector))?;
        Ok((key, found))
    }

    /// The methods for which the principal has a default, in whatever scope.
    pub(crate) fn defaults(&self, connector: &Connector, who: &Principal) -> Vec<MethodKind> {
        let all = Scope::ORDER.into_iter().flat_map(|scope| self.of(connector, scope, who));
        all.filter(|credential| credential.is_default).map(|credential| credential.method).collect()
    }

    /// The credential under a key.
    pub(crate) fn get(&self, key: &str) -> Option<Credential> {
        self.0.read().get(key).cloned()
    }

    /// Stores a credential by the rules of the contract (§3.1, `create_credentials` and `update_credentials`). Gives its
    /// key.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn save(
        &self,
        records: &dyn Records,
        vault: &vault::Vault,
        connector: &Connector,
        scope: Scope,
        who: &Principal,
        draft: Draft,
        mode: Save,
    ) -> Result<String, ConnectorsError> {
        check_credential_name(&draft.name)?;
        let (prefix, name) = (prefix(connector, scope, who), draft.name.clone());
        let key = format!("{prefix}{name}");
        // One writer at a time, so that there is never a second default.
        let mut all = self.0.write();
        let before = all.get(&key).cloned();
        let method = match (&draft.secret, &before) {
            (Some((method, _)), Some(before)) if *method != before.method => {
                return Err(ConnectorsError::Conflict(format!(
                    "the credential '{name}' of connector '{}' is of method '{}': choose another name, or delete it first",
                    connector.name,
                    before.method.as_str()
                )));
            }
            (Some((method, _)), _) => *method,
            (None, Some(before)) => before.method,
            (None, None) if mode == Save::Update => return Err(not_found(&name, connector)),
            (None, None) => {
                return Err(ConnectorsError::invalid("/credentials", "a new credential needs a secret"));
            }
        };
        let default = all
            .iter()
            .find(|(other, credential)| {
                other.starts_with(&prefix) && credential.is_default && credential.method == method
            })
            .map(|(other, credential)| (other.clone(), credential.clone()));
        let was_default = before.as_ref().is_some_and(|before| before.is_default);
        let is_default = match (draft.is_default, &default) {
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
        let now = Utc::now();
        let mut credential = before.unwrap_or_else(|| Credential {
            id: Uuid::new_v4(),
            name: name.clone(),
            title: None,
            scope,
            method,
            is_default,
            version: 0,
            generation: 0,
            origin: String::new(),
            fingerprint: String::new(),
            creator: who.user.to_string(),
            created_at: now,
            grant: None,
            state: State::Valid,
            changed_at: now,
        });
        credential.title = draft.title.or(credential.title);
        credential.is_default = is_default;
        let mut changes = Vec::new();
        if let Some((_, secret)) = draft.secret {
            credential.version += 1;
            credential.generation += 1;
            credential.origin = connector.origin();
            credential.grant = draft.grant;
            (credential.state, credential.changed_at) = (State::Valid, now);
            changes.push(credential.seal(vault, connector, &key, &secret)?);
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
            changes.push(put(key, credential)?);
        }
        records.write(&changes)?;
        all.extend(written);
        Ok(key)
    }

    /// Stores refreshed tokens, if the credential is still the one that was refreshed. Gives what is stored now.
    pub(crate) fn renewed(
        &self,
        records: &dyn Records,
        vault: &vault::Vault,
        connector: &Connector,
        key: &str,
        of: &Credential,
        (secret, grant): (&Secret, Granted),
    ) -> Result<Option<Credential>, ConnectorsError> {
        let mut all = self.0.write();
        let same = |now: &&mut Credential| (now.id, now.version) == (of.id, of.version);
        let Some(current) = all.get_mut(key).filter(same) else { return Ok(None) };
        let mut credential = current.clone();
        credential.version += 1;
        credential.grant = Some(grant);
        if credential.state != State::Valid {
            (credential.state, credential.changed_at) = (State::Valid, Utc::now());
        }
        let sealed = credential.seal(vault, connector, key, secret)?;
        records.write(&[sealed, put(key, &credential)?])?;
        *current = credential.clone();
        Ok(Some(credential))
    }

    /// Notes the state of a credential, if it is still the one that was meant. Says whether that is news.
    pub(crate) fn mark(
        &self,
        records: &dyn Records,
        key: &str,
        of: &Credential,
        state: State,
    ) -> Result<bool, ConnectorsError> {
        let mut all = self.0.write();
        let same = |now: &&mut Credential| (now.id, now.generation) == (of.id, of.generation);
        let Some(current) = all.get_mut(key).filter(same) else { return Ok(false) };
        if current.state == state {
            return Ok(false);
        }
        let credential = Credential { state, changed_at: Utc::now(), ..current.clone() };
        records.write(&[put(key, &credential)?])?;
        *current = credential;
        Ok(true)
    }

    /// All credentials with their keys.
    pub(crate) fn all(&self) -> Vec<(String, Credential)> {
        self.0.read().iter().map(|(key, credential)| (key.clone(), credential.clone())).collect()
    }

    /// Does something while no credential changes.
    pub(crate) fn frozen<T>(&self, work: impl FnOnce() -> T) -> T {
        let _alone = self.0.write();
        work()
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
        let credential = all.get(&key).cloned().ok_or_else(|| not_found(name, connector))?;
        let mut changes = deletion(&key);
        let heir = all
            .iter()
            .filter(|(other, heir)| {
                credential.is_default
                    && other.starts_with(&prefix)
                    && **other != key
                    && heir.method == credential.method
            })
            .min_by_key(|(_, other)| other.created_at)
            .map(|(other, heir)| (other.clone(), Credential { is_default: true, ..heir.clone() }));
        if let Some((other, heir)) = &heir {
            changes.push(put(other, heir)?);
        }
        records.write(&changes)?;
        all.remove(&key);
        all.extend(heir);
        Ok(())
    }

    /// Deletes the credentials whose key begins with `prefix` and not with `own`.
    pub(crate) fn delete_others(
        &self,
        records: &dyn Records,
        prefix: &str,
        own: &str,
    ) -> Result<(), ConnectorsError> {
        let goes = |key: &str| key.starts_with(prefix) && !key.starts_with(own);
        let mut all = self.0.write();
        let changes: Vec<Change> = all.keys().filter(|key| goes(key)).flat_map(|key| deletion(key)).collect();
        records.write(&changes)?;
        all.retain(|key, _| !goes(key));
        Ok(())
    }

    /// Deletes everybody's credentials for a connector, written by `write`.
    pub(crate) fn delete_of_connector(
        &self,
        connector: &Connector,
        write: impl FnOnce(Vec<Change>) -> Result<(), ConnectorsError>,
    ) -> Result<(), ConnectorsError> {
        let prefix = format!("{}/", connector.id);
        let mut all = self.0.write();
        write(all.keys().filter(|key| key.starts_with(&prefix)).flat_map(|key| deletion(key)).collect())?;
        all.retain(|key, _| !key.starts_with(&prefix));
        Ok(())
    }
}

fn deletion(key: &str) -> Vec<Change> {
    [TABLE, vault::TABLE].map(|table| Change::Delete { table, key: key.into() }).into()
}

pub(crate) fn check_credential_name(name: &str) -> Result<(), ConnectorsError> {
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

fn not_found(name: &str, connector: &Connector) -> ConnectorsError {
    ConnectorsError::NotFound(format!("Credential '{name}' not found for connector '{}'", connector.name))
}

fn put(key: &str, credential: &Credential) -> Result<Change, ConnectorsError> {
    Ok(Change::Put { table: TABLE, key: key.into(), value: serde_json::to_vec(credential)? })
}

impl Draft {
    /// Reads `CredentialsCreateOrUpdate`.
    pub(crate) fn parse(connector: &Connector, body: Value) -> Result<Self, ConnectorsError> {
        let Request { name, title, is_default, credentials } =
            serde_path_to_error::deserialize(body).map_err(ConnectorsError::misshapen)?;
        let secret = credentials.map(|secret| secret.parse(connector)).transpose()?;
        Ok(Self { name, title, is_default, secret, grant: None })
    }
}

impl RequestSecret {
    /// The secret in its types, with the method that it is for.
    fn parse(self, connector: &Connector) -> Result<(MethodKind, Secret), ConnectorsError> {
        let invalid = |field: &str, message: &str| {
            Err(ConnectorsError::invalid(&format!("/credentials{field}"), message))
        };
        let bearer = self.bearer_token.map(SecretString::from);
        let headers = self.headers.unwrap_or_default();
        let given = [
            (MethodKind::Bearer, bearer.is_some() || !headers.is_empty()),
            (MethodKind::Basic, self.basic.is_some()),
            (MethodKind::ApiKey, self.api_key.is_some()),
            (MethodKind::Oauth2, self.oauth.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, given)| *given).map(|(kind, _)| kind);
        let kind = match (given.next(), given.next()) {
            (Some(kind), None) => kind,
            (None, _) => {
                return invalid("", "give a bearer_token, headers, basic, api_key or oauth");
            }
            (Some(_), Some(_)) => return invalid("", "give a secret for one method only"),
        };
        let Some(method) = connector.method(kind) else {
            let taken: Vec<_> = connector.methods.iter().map(|method| method.kind().as_str()).collect();
            return Err(ConnectorsError::Conflict(format!(
                "connector '{}' takes no credentials of method '{}': it takes {}",
                connector.name,
                kind.as_str(),
                taken.join(", ")
            )));
        };
        let mut secret = Secret::default();
        match method {
            Method::Bearer { headers: listed } => {
                if let Some(token) = &bearer {
                    check_value(token.expose_secret())
                        .map_err(|message| ConnectorsError::invalid("/credentials/bearer_token", message))?;
                }
                for (name, value) in &headers {
                    check_header(name, value)
                        .map_err(|message| ConnectorsError::invalid("/credentials/headers", message))?;
                }
                let missing = listed.iter().find(|spec| {
                    spec.is_required && !headers.keys().any(|name| name.eq_ignore_ascii_case(&spec.name))
                });
                if let Some(missing) = missing {
                    return invalid("/headers", &format!("the header '{}' is missing", missing.name));
                }
                secret.bearer = bearer;
                secret.headers = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
            }
            Method::Basic => {
                let Some(RequestBasic { username, password }) = self.basic else { return Ok((kind, secret)) };
                if username.contains(':') || username.chars().any(char::is_control) {
                    return invalid(
                        "/basic/username",
                        "a user name holds no colon and no control characters",
                    );
                }
                if password.chars().any(char::is_control) {
                    return invalid("/basic/password", "the password holds control characters");
                }
                secret.basic = Some((username, password.into()));
            }
            Method::ApiKey { .. } => {
                secret.api_key = self.api_key.map(SecretString::from);
                if let Some(key) = &secret.api_key {
                    check_value(key.expose_secret())
                        .map_err(|message| ConnectorsError::invalid("/credentials/api_key", message))?;
                }
            }
            Method::Oauth2(oauth) => {
                let Some(client) = self.oauth else { return Ok((kind, secret)) };
                secret.client = Some(client.parse(oauth.client_auth.as_deref())?);
            }
            Method::None => {}
        }
        Ok((kind, secret))
    }
}

impl RequestClient {
    fn parse(self, auth: Option<&str>) -> Result<ClientSecret, ConnectorsError> {
        let invalid = |field: &str, message: &str| {
            Err(ConnectorsError::invalid(&format!("/credentials/oauth/{field}"), message))
        };
        if self.grant_type.is_some_and(|grant| grant != "client_credentials") {
            return invalid(
                "grant_type",
                "only client_credentials are stored; for authorization_code ask for an auth_url",
            );
        }
        if self.client_certificate.is_some() {
            return invalid("client_certificate", "certificates are not served: give a client_private_key");
        }
        match auth {
            Some("private_key_jwt") if self.client_private_key.is_none() => {
                return invalid("client_private_key", "the connector's method needs a private key in PEM");
            }
            Some("private_key_jwt") => {}
            _ if self.client_secret.is_none() => {
                return invalid("client_secret", "the connector's method needs a client secret");
            }
            _ => {}
        }
        Ok(ClientSecret {
            id: self.client_id,
            secret: self.client_secret.map(Into::into),
            private_key: self.client_private_key.map(Into::into),
        })
    }
}

/// A token or key that can stand in a header.
fn check_value(value: &str) -> Result<(), &'static str> {
    if value.trim().is_empty() {
        return Err("the token is blank");
    }
    match HeaderValue::from_str(value) {
        Ok(_) => Ok(()),
        Err(_) => Err("the token holds characters that cannot stand in a header, such as a line break"),
    }
}

impl Credential {
    /// What the secret is bound to: it opens nowhere else, and no older version opens in its place.
    pub(crate) fn place(&self, connector: &Connector, key: &str) -> String {
        format!("{}|{key}|{}|{}|{}", connector.organization, self.id, self.version, self.origin)
    }

    /// The change that stores the secret, and its fingerprint.
    fn seal(
        &mut self,
        vault: &vault::Vault,
        connector: &Connector,
        key: &str,
        secret: &Secret,
    ) -> Result<Change, ConnectorsError> {
        let bytes = secret.to_bytes()?;
        self.fingerprint = vault.fingerprint(key, &bytes);
        Ok(vault.put(key, &self.place(connector, key), &bytes))
    }

    /// `AuthenticationConfiguration`, with what is known of tokens.
    pub(crate) fn wire(&self, connector: &Connector) -> Value {
        let now = Utc::now();
        let word = match self.origin == connector.origin() {
            true => self.word(now),
            false => "needs_reauthorization",
        };
        let (status_type, phrase) = match word {
            "valid" => ("valid", Value::Null),
            "expiring" => ("valid", "oauth near expiry".into()),
            "expired" => ("invalid", "oauth expired".into()),
            "refresh_failed" => ("error", "oauth refresh error".into()),
            _ => ("invalid", "you need to reconnect".into()),
        };
        let mut value = json!({
            "name": self.name, "title": self.title, "authentication_type": self.method.as_str(),
            "scope": self.scope.wire(), "is_default": self.is_default, "creator_id": self.creator,
            "status": { "status_type": status_type, "error_message": phrase, "last_checked_at": self.changed_at },
            "state": word, "fingerprint": self.fingerprint, "created_at": self.created_at,
        });
        if let Some(grant) = &self.grant {
            value["expires_at"] = json!(grant.expires_at);
            value["granted_scopes"] = json!(grant.scopes);
            value["renewable"] = grant.renewable.into();
            value["issuer"] = grant.issuer.as_str().into();
        }
        if let State::NeedsScopes(scopes) = &self.state {
            value["missing_scopes"] = json!(scopes);
        }
        value
    }
}
