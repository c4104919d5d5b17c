//! Tokens of connectors: whether the caller may, a token that is good now, asking a person, and giving tokens back.
//!
//! It knows how a server is asked ([`crate::channel`]) and what the protocol says ([`crate::oauth`]), and nothing of the
//! calls that its tokens are for.

mod client;
pub(crate) mod consent;
mod flows;
mod refresh;
mod renewal;
mod revoke;
mod server;
mod walk;
pub(crate) mod words;

use std::sync::Arc;

use airlock_engine::{Principal, records::Records};
use chrono::Utc;
use url::Url;

pub(crate) use self::refresh::Refreshing;
use self::{
    flows::Flows,
    words::{again, nothing_stored_for},
};
use crate::{
    ConnectorsError,
    audit::{AuditLog, Event, Kind},
    channel::{Lines, Resolved},
    credentials::{Credential, Credentials, State},
    egress::Egress,
    protocol::trouble::refused,
    registry::{Connector, Registry, method::MethodKind},
    vault::Vault,
};

/// What the operator says about OAuth.
#[derive(Debug, Clone)]
pub struct OAuthConfig {
    /// Where authorization servers send browsers back to: a page of the daemon.
    pub redirect_uri: Url,
    /// Where the daemon's client metadata document can be read by servers: https only.
    pub client_document_url: Option<Url>,
    /// Origins that browsers may be sent back to (`app_return_url`).
    pub return_origins: Vec<String>,
}

/// Who may use what, with which token.
pub(crate) struct Authorization {
    records: Arc<dyn Records>,
    vault: Vault,
    registry: Arc<Registry>,
    credentials: Arc<Credentials>,
    audit: Arc<AuditLog>,
    lines: Arc<Lines>,
    egress: Egress,
    config: OAuthConfig,
    flows: Flows,
    refreshing: Refreshing,
}

impl Authorization {
    /// Reads what authorisations are under way.
    #[expect(clippy::too_many_arguments, reason = "it is made once, of the rooms below")]
    pub(crate) fn open(
        records: Arc<dyn Records>,
        vault: Vault,
        registry: Arc<Registry>,
        credentials: Arc<Credentials>,
        audit: Arc<AuditLog>,
        lines: Arc<Lines>,
        egress: Egress,
        config: OAuthConfig,
    ) -> Result<Self, ConnectorsError> {
        Ok(Self {
            flows: Flows::open(&*records)?,
            refreshing: Refreshing::default(),
            records,
            vault,
            registry,
            credentials,
            audit,
            lines,
            egress,
            config,
        })
    }

    /// What is being refreshed.
    pub(crate) fn refreshing(&self) -> &Refreshing {
        &self.refreshing
    }

    /// Does something while no authorisation is begun or ended.
    pub(crate) fn frozen<T>(&self, work: impl FnOnce() -> T) -> T {
        self.flows.frozen(work)
    }

    /// The credential that a call of this principal uses, with a token that is good now; `None` where nothing is needed.
    pub(crate) async fn usable(
        self: &Arc<Self>,
        connector: &Connector,
        who: &Principal,
        name: Option<&str>,
    ) -> Result<Resolved, ConnectorsError> {
        let resolved = self.credentials.resolve(connector, who, name)?;
        let Some((key, credential)) = resolved else {
            return match connector.allows(MethodKind::None) {
                true => Ok(None),
                false => Err(nothing_stored_for(connector, who)),
            };
        };
        if !connector.has_base(&credential.origin) || credential.needs_somebody(Utc::now()) {
            // The first says so by itself.
            credential.open(&*self.records, &self.vault, connector, &key)?;
            return Err(again(connector, &credential));
        }
        let never_got = credential.method == MethodKind::Oauth2 && credential.grant.is_none();
        if never_got || credential.is_to_be_renewed(Utc::now()) {
            let credential = Box::pin(self.refreshed(connector, &key, &credential)).await?;
            return Ok(Some((key, credential)));
        }
        Ok(Some((key, credential)))
    }

    /// After a 401: a token that the server has not seen yet, or the error that says what to do.
    pub(crate) async fn after_refusal(
        self: &Arc<Self>,
        connector: &Connector,
        who: &Principal,
        resolved: Resolved,
    ) -> Result<Resolved, ConnectorsError> {
        let Some((key, credential)) = resolved else { return Err(nothing_stored_for(connector, who)) };
        let sent = credential.sent(connector);
        let refused = ConnectorsError::Unauthorized(refused(&connector.name, &connector.host(), Some(&sent)));
        // Another token of the same grant would not have more scopes.
        let now = self.credentials.get(&key);
        if let Some(now) = now.filter(|now| matches!(now.state, State::NeedsScopes(_))) {
            return Err(again(connector, &now));
        }
        let resolved = Some((key.clone(), credential.clone()));
        if self.has_moved(connector, &resolved).await? {
            let refused = Credential { state: State::Revoked, ..credential };
            self.mark(connector, &resolved, State::Revoked)?;
            return Err(again(connector, &refused));
        }
        match &credential.grant {
            Some(grant) if grant.renewable => {
                let credential = Box::pin(self.refreshed(connector, &key, &credential)).await?;
                Ok(Some((key, credential)))
            }
            Some(_) => {
                let refused = Credential { state: State::Revoked, ..credential.clone() };
                self.mark(connector, &Some((key, credential)), State::Revoked)?;
                Err(again(connector, &refused))
            }
            None => {
                self.mark(connector, &Some((key, credential)), State::Refused)?;
                Err(refused)
            }
        }
    }

    /// A server took a credential that one had refused before.
    pub(crate) fn accepted(&self, connector: &Connector, resolved: &Resolved) -> Result<(), ConnectorsError> {
        match resolved {
            Some((_, credential)) if credential.state == State::Refused => {
                self.mark(connector, resolved, State::Valid)
            }
            _ => Ok(()),
        }
    }

    /// Notes the state of a credential; if it is news, says so in the log, the audit log and to whoever waits.
    pub(crate) fn mark(
        &self,
        connector: &Connector,
        resolved: &Resolved,
        state: State,
    ) -> Result<(), ConnectorsError> {
        let Some((key, credential)) = resolved else { return Ok(()) };
        // What nobody granted cannot be granted again: it is tried until somebody stores another one.
        let state = match (state, &credential.grant) {
            (State::Revoked | State::Orphaned | State::NeedsScopes(_) | State::RefreshFailed, None) => {
                State::Refused
            }
            (state, _) => state,
        };
        let word = state.word();
        if self.credentials.mark(&*self.records, key, credential, state)? {
            tracing::info!(
                connector = connector.name,
                credential = credential.name,
                state = word,
                at = %Utc::now(),
                "a credential has another state"
            );
            self.audit.note(Event {
                connector_id: Some(connector.id.clone()),
                connector: Some(connector.name.clone()),
                credential: Some(credential.used(key)),
                note: Some(word.into()),
                ..Event::host(Kind::CredentialStateChanged)
            })?;
        }
        Ok(())
    }

    /// What follows when a credential was stored: a word in the log and the audit log, and to whoever waits for it.
    pub(crate) fn stored(
        &self,
        who: &Principal,
        connector: &Connector,
        key: &str,
    ) -> Result<(), ConnectorsError> {
        let Some(credential) = self.credentials.get(key) else { return Ok(()) };
        tracing::info!(
            connector = connector.name,
            credential = credential.name,
            user = %who.user,
            "a credential was stored"
        );
        self.credentials.landed(connector);
        self.audit.note(Event {
            connector_id: Some(connector.id.clone()),
            connector: Some(connector.name.clone()),
            credential: Some(credential.used(key)),
            ..Event::by(Kind::CredentialStored, who)
        })
    }
}
