//! New tokens for a credential.
//!
//! A credential is refreshed by one task at a time; the others wait and take what it got. New tokens are stored before
//! they are used, so that a crash loses at most an answer that nobody has used yet (THREATS row 14).

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use chrono::Utc;
use parking_lot::Mutex;

use super::{
    Authorization,
    words::{again, expires_at, nothing_stored},
};
use crate::{
    ConnectorsError,
    audit::{Event, Kind},
    credentials::{Credential, Granted, State},
    egress::secret::Tokens,
    oauth::{self, RefreshFailure},
    registry::{
        Connector,
        method::{Method, MethodKind},
    },
};

/// Which credentials are being refreshed.
#[derive(Default)]
pub(crate) struct Refreshing(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Refreshing {
    pub(crate) fn lock(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock();
        if let Some(lock) = all.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        all.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        all.insert(key.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

impl Authorization {
    /// New tokens for a credential, unless another task got some since `seen`. Runs to its end even if nobody waits for
    /// it any more: a refresh token that was used must not be lost.
    pub(crate) async fn refreshed(
        self: &Arc<Self>,
        connector: &Connector,
        key: &str,
        seen: &Credential,
    ) -> Result<Credential, ConnectorsError> {
        let (authorization, connector) = (Arc::clone(self), connector.clone());
        let (key, seen) = (key.to_owned(), seen.clone());
        let work = tokio::spawn(async move {
            let lock = authorization.refreshing.lock(&key);
            let _alone = lock.lock().await;
            let now = authorization.credentials.get(&key).ok_or_else(|| nothing_stored(&connector))?;
            if (now.id, now.version) != (seen.id, seen.version) {
                return if now.needs_somebody(Utc::now()) { Err(again(&connector, &now)) } else { Ok(now) };
            }
            authorization.refresh(&connector, &key, now).await
        });
        work.await.unwrap_or_else(|_| Err(ConnectorsError::Store("the refresh was given up".into())))
    }

    async fn refresh(
        self: &Arc<Self>,
        connector: &Connector,
        key: &str,
        credential: Credential,
    ) -> Result<Credential, ConnectorsError> {
        let Some(Method::Oauth2(oauth)) = connector.method(MethodKind::Oauth2) else {
            return Err(nothing_stored(connector));
        };
        let mut secret = credential.open(&*self.records, &self.vault, connector, key)?;
        let resolved = Some((key.to_owned(), credential.clone()));
        let (server, exchange) = (self.server(connector).await?, &self.egress);
        let issuer_changed = credential.grant.as_ref().is_some_and(|grant| !server.is_of(&grant.issuer));
        let answered = match (&secret.client, &secret.tokens) {
            // What was used at one server goes to no other, whatever the connector's says now (THREATS row 10).
            _ if issuer_changed => {
                Err(RefreshFailure::Rejected("it is of another authorization server".into()))
            }
            (Some(own), _) => {
                let client = self.program(connector, &server, own)?;
                let got = oauth::client_credentials(&server, &client, &oauth.scopes, exchange).await;
                self.learn(connector, &server, &client);
                got.map_err(|error| match error {
                    error @ (ConnectorsError::Upstream(_) | ConnectorsError::Timeout(_)) => {
                        RefreshFailure::Transient(error.to_string())
                    }
                    error => RefreshFailure::Rejected(error.to_string()),
                })
            }
            (None, Some(Tokens { refresh: Some(token), .. })) => {
                let client = self.client(connector, &server).await?;
                let scopes = credential.grant.as_ref().map_or(&[][..], |grant| &grant.scopes);
                let got = oauth::refresh(&server, &client, token, scopes, exchange).await;
                self.learn(connector, &server, &client);
                match &got {
                    Ok(_) => self.takes(connector, &client),
                    Err(_) if self.replaces(connector, &server, &client).await? => {
                        // This one is marked as all that were given to that client.
                        self.mark(connector, &resolved, State::Orphaned)?;
                        return Err(again(connector, &Credential { state: State::Orphaned, ..credential }));
                    }
                    Err(_) => {}
                }
                got
            }
            (None, _) => Err(RefreshFailure::Rejected("there is no refresh token for this server".into())),
        };
        match answered {
            Ok(tokens) => {
                let grant = Granted {
                    issuer: server.issuer().to_owned(),
                    expires_at: expires_at(tokens.expires_in),
                    renewable: secret.client.is_some() || tokens.refresh.is_some(),
                    scopes: tokens.scopes,
                };
                secret.tokens = Some(Tokens { access: tokens.access, refresh: tokens.refresh });
                let (records, vault) = (&*self.records, &self.vault);
                let stored = self.credentials.renewed(
                    records,
                    vault,
                    connector,
                    key,
                    &credential,
                    (&secret, grant),
                )?;
                tracing::debug!(
                    connector = connector.name,
                    credential = credential.name,
                    "tokens were refreshed"
                );
                self.audit.note(Event {
                    connector_id: Some(connector.id.clone()),
                    connector: Some(connector.name.clone()),
                    credential: Some(stored.as_ref().unwrap_or(&credential).used(key)),
                    ..Event::host(Kind::CredentialRefreshed)
                })?;
                // Somebody stored another one meanwhile: that is the one to use.
                let now = || self.credentials.get(key).ok_or_else(|| nothing_stored(connector));
                stored.map_or_else(now, Ok)
            }
            Err(RefreshFailure::Rejected(message)) => {
                tracing::warn!(
                    connector = connector.name,
                    credential = credential.name,
                    message,
                    "no new tokens"
                );
                self.mark(connector, &resolved, State::Revoked)?;
                Err(again(connector, &Credential { state: State::Revoked, ..credential }))
            }
            Err(RefreshFailure::Transient(message)) => {
                self.mark(connector, &resolved, State::RefreshFailed)?;
                Err(ConnectorsError::Upstream(format!(
                    "the tokens of credential '{}' of connector '{}' could not be refreshed: {message}",
                    credential.name, connector.name
                )))
            }
        }
    }
}
