//! What is known of a credential without its secret, and the words for its state.

use airlock_engine::records::{Change, Records};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    ConnectorsError,
    audit::CredentialVersion,
    egress::secret::Secret,
    protocol::trouble::Sent,
    registry::{Connector, method::MethodKind, scope::Scope},
    vault,
};

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
    /// The client that it was given to is not known to its server any more: somebody has to authorise again.
    Orphaned,
    /// The server refused it when it was last used. It is tried again, since nobody else could renew it.
    Refused,
}

impl State {
    /// The word in answers, events and the audit log.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::RefreshFailed => "refresh_failed",
            Self::Revoked | Self::Orphaned => "needs_reauthorization",
            Self::NeedsScopes(_) => "needs_scopes",
            Self::Refused => "refused",
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
            State::Revoked | State::Orphaned | State::NeedsScopes(_) => true,
            State::Valid | State::RefreshFailed | State::Refused => {
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

impl Credential {
    /// What the secret is bound to: it opens nowhere else, and no older version opens in its place.
    pub(crate) fn place(&self, connector: &Connector, key: &str) -> String {
        format!("{}|{key}|{}|{}|{}", connector.organization, self.id, self.version, self.origin)
    }

    /// The secret. It goes to the origin and base path that it was stored for and nowhere else (THREATS row 10).
    pub(crate) fn open(
        &self,
        records: &dyn Records,
        vault: &vault::Vault,
        connector: &Connector,
        key: &str,
    ) -> Result<Secret, ConnectorsError> {
        if let Some(moved) = self.moved(connector) {
            return Err(moved);
        }
        Secret::from_bytes(&vault.get(records, key, &self.place(connector, key))?)
    }

    /// It was stored for another address of the connector, and what to do about that.
    pub(crate) fn moved(&self, connector: &Connector) -> Option<ConnectorsError> {
        (self.origin != connector.base()).then(|| {
            ConnectorsError::Unauthorized(format!(
                "the address of connector '{}' has changed since credential '{}' was stored: {}",
                connector.name,
                self.name,
                self.remedy(connector)
            ))
        })
    }

    /// What somebody can do when it cannot be used any more, with the command that does it.
    pub(crate) fn remedy(&self, connector: &Connector) -> String {
        let name = Some(self.name.as_str());
        match self.method == MethodKind::Oauth2 && connector.interactive().is_some() {
            true => format!("authorise again with `{}`", connector.authorizing(name)),
            false => {
                format!("store a valid one with `{}`", connector.storing(name, self.scope, self.method))
            }
        }
    }

    /// For words about what a server says to it.
    pub(crate) fn sent(&self, connector: &Connector) -> Sent {
        Sent { name: self.name.clone(), remedy: self.remedy(connector) }
    }

    /// What the audit log says of it.
    pub(crate) fn used(&self, key: &str) -> CredentialVersion {
        CredentialVersion { id: format!("{key}#{}", self.id.simple()), version: self.version }
    }

    /// The change that stores the secret, and its fingerprint.
    pub(super) fn seal(
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

    /// The word for its state at a connector: one that was stored for another address cannot be used.
    pub(crate) fn shown_state(&self, connector: &Connector, now: DateTime<Utc>) -> &'static str {
        match self.origin == connector.base() {
            true => self.word(now),
            false => "needs_reauthorization",
        }
    }

    /// `AuthenticationConfiguration`, with what is known of tokens.
    pub(crate) fn wire(&self, connector: &Connector) -> Value {
        let now = Utc::now();
        let word = self.shown_state(connector, now);
        let (status_type, phrase) = match word {
            "valid" => ("valid", Value::Null),
            "expiring" => ("valid", "oauth near expiry".into()),
            "expired" => ("invalid", "oauth expired".into()),
            "refresh_failed" => ("error", "oauth refresh error".into()),
            "refused" => ("invalid", "the server refused it".into()),
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
