//! Tokens of connectors: whether the caller may, a token that is good now, asking a person, and giving tokens back.
//!
//! A credential is refreshed by one task at a time; the others wait and take what it got. New tokens are stored before
//! they are used, so that a crash loses at most an answer that nobody has used yet (THREATS row 14).

pub(crate) mod consent;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use airlock_engine::{Principal, records::Change};
use chrono::Utc;
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::{
    Connectors, ConnectorsError,
    audit::{Event, Kind},
    call::channel::Resolved,
    call::{nothing_stored, used},
    control::retries::Trouble,
    credentials::{Credential, Granted, State},
    egress::secret::{Secret, Tokens},
    mcp::refused,
    oauth::{self, AuthData, Client, Hint, RefreshFailure, Server, Source},
    registry::management::{client_key, found_out},
    registry::method::{Grant, Method, MethodKind, OAuth},
    registry::{Connector, Protocol},
};

/// How a server receives somebody without a credential.
enum Reception {
    /// It says what tokens it wants.
    Challenged(oauth::Challenge),
    /// It wants a credential, and does not say which.
    Refused,
    /// It lets everybody in, or cannot be asked.
    Unclear,
}

/// How long a server may take to say how one authenticates.
const FINDING_OUT: Duration = Duration::from_secs(10);

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

impl Connectors {
    /// The credential that a call of this principal uses, with a token that is good now; `None` where nothing is needed.
    pub(crate) async fn usable(
        &self,
        connector: &Connector,
        who: &Principal,
        name: Option<&str>,
    ) -> Result<Resolved, ConnectorsError> {
        let resolved = self.0.credentials.resolve(connector, who, name)?;
        let Some((key, credential)) = resolved else {
            return match connector.allows(MethodKind::None) {
                true => Ok(None),
                false => Err(nothing_stored(connector)),
            };
        };
        if credential.origin != connector.origin() || credential.needs_somebody(Utc::now()) {
            // The first says so by itself.
            self.open_secret(connector, &key, &credential)?;
            return Err(again(connector, &credential));
        }
        let never_got = credential.method == MethodKind::Oauth2 && credential.grant.is_none();
        if never_got || credential.is_to_be_renewed(Utc::now()) {
            let credential = self.refreshed(connector, &key, &credential).await?;
            return Ok(Some((key, credential)));
        }
        Ok(Some((key, credential)))
    }

    /// After a 401: a token that the server has not seen yet, or the error that says what to do.
    pub(crate) async fn after_refusal(
        &self,
        connector: &Connector,
        resolved: Resolved,
    ) -> Result<Resolved, ConnectorsError> {
        let credential = resolved.as_ref().map(|(_, credential)| credential.name.as_str());
        let refused = ConnectorsError::Unauthorized(match credential {
            None => return Err(nothing_stored(connector)),
            credential => refused(&connector.name, &connector.host(), credential),
        });
        let Some((key, credential)) = resolved else { return Err(refused) };
        // Another token of the same grant would not have more scopes.
        let now = self.0.credentials.get(&key);
        if let Some(now) = now.filter(|now| matches!(now.state, State::NeedsScopes(_))) {
            return Err(again(connector, &now));
        }
        match &credential.grant {
            Some(grant) if grant.renewable => {
                let credential = self.refreshed(connector, &key, &credential).await?;
                Ok(Some((key, credential)))
            }
            Some(_) => {
                let refused = Credential { state: State::Revoked, ..credential.clone() };
                self.mark(connector, &Some((key, credential)), State::Revoked)?;
                Err(again(connector, &refused))
            }
            None => Err(refused),
        }
    }

    /// New tokens for a credential, unless another task got some since `seen`. Runs to its end even if nobody waits for
    /// it any more: a refresh token that was used must not be lost.
    pub(crate) async fn refreshed(
        &self,
        connector: &Connector,
        key: &str,
        seen: &Credential,
    ) -> Result<Credential, ConnectorsError> {
        let (connectors, connector) = (self.clone(), connector.clone());
        let (key, seen) = (key.to_owned(), seen.clone());
        let work = tokio::spawn(async move {
            let lock = connectors.0.refreshing.lock(&key);
            let _alone = lock.lock().await;
            let now = connectors.0.credentials.get(&key).ok_or_else(|| nothing_stored(&connector))?;
            if (now.id, now.version) != (seen.id, seen.version) {
                return if now.needs_somebody(Utc::now()) { Err(again(&connector, &now)) } else { Ok(now) };
            }
            connectors.refresh(&connector, &key, now).await
        });
        work.await.unwrap_or_else(|_| Err(ConnectorsError::Store("the refresh was given up".into())))
    }

    async fn refresh(
        &self,
        connector: &Connector,
        key: &str,
        credential: Credential,
    ) -> Result<Credential, ConnectorsError> {
        let Some(Method::Oauth2(oauth)) = connector.method(MethodKind::Oauth2) else {
            return Err(nothing_stored(connector));
        };
        let mut secret = self.open_secret(connector, key, &credential)?;
        let resolved = Some((key.to_owned(), credential.clone()));
        let (server, exchange) = (self.server(connector).await?, &*self.0.exchange);
        let issuer_changed = credential.grant.as_ref().is_some_and(|grant| grant.issuer != server.issuer());
        let answered = match (&secret.client, &secret.tokens) {
            (Some(own), _) => {
                let auth = oauth.client_auth.as_deref().unwrap_or("client_secret_post");
                let client =
                    Client::for_programs(auth, &own.id, own.secret.clone(), own.private_key.clone())?;
                let got = oauth::client_credentials(&server, &client, &oauth.scopes, exchange).await;
                got.map_err(|error| match error {
                    error @ (ConnectorsError::Upstream(_) | ConnectorsError::Timeout(_)) => {
                        RefreshFailure::Transient(error.to_string())
                    }
                    error => RefreshFailure::Rejected(error.to_string()),
                })
            }
            // A refresh token goes to the server that gave it and no other (THREATS row 10).
            (None, Some(Tokens { refresh: Some(token), .. })) if !issuer_changed => {
                let client = self.client(connector, &server).await?;
                let scopes = credential.grant.as_ref().map_or(&[][..], |grant| &grant.scopes);
                oauth::refresh(&server, &client, token, scopes, exchange).await
            }
            _ => Err(RefreshFailure::Rejected("there is no refresh token for this server".into())),
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
                let (records, vault) = (&*self.0.records, &self.0.vault);
                let stored = self.0.credentials.renewed(
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
                self.write_down(Event {
                    connector_id: Some(connector.id.clone()),
                    connector: Some(connector.name.clone()),
                    credential: Some(used(key, stored.as_ref().unwrap_or(&credential))),
                    ..Event::host(Kind::CredentialRefreshed)
                })?;
                // Somebody stored another one meanwhile: that is the one to use.
                let now = || self.0.credentials.get(key).ok_or_else(|| nothing_stored(connector));
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

    /// Where one authorises for a connector. What is discovered is kept with the connector.
    pub(crate) async fn server(&self, connector: &Connector) -> Result<Server, ConnectorsError> {
        let Some(Method::Oauth2(oauth)) = connector.method(MethodKind::Oauth2) else {
            return Err(no_oauth(connector));
        };
        if let Some(server) = &oauth.server {
            return Ok(server.clone());
        }
        let challenge = match self.reception(connector).await {
            Reception::Challenged(challenge) => Some(challenge),
            Reception::Refused | Reception::Unclear => None,
        };
        let header = challenge.as_ref().map(|challenge| challenge.raw.as_str());
        let allowed = self.0.egress.allowed();
        let found = Server::discovered(&connector.server, header, &self.0.exchange, allowed).await?;
        let challenged = challenge.map(|challenge| challenge.scopes).unwrap_or_default();
        self.0.registry.change(&*self.0.records, &connector.id, |changed| {
            // It may have another address by now.
            if changed.server != connector.server {
                return Ok(Vec::new());
            }
            for method in &mut changed.methods {
                if let Method::Oauth2(oauth) = method {
                    (oauth.server, oauth.challenged) = (Some(found.clone()), challenged.clone());
                }
            }
            Ok(Vec::new())
        })?;
        Ok(found)
    }

    /// What a server says to somebody without a credential who wants to see its tools.
    async fn reception(&self, connector: &Connector) -> Reception {
        if connector.protocol != Protocol::Mcp {
            return Reception::Unclear;
        }
        let asked = async {
            // Some let everybody in and ask for a credential only at the door behind.
            let refused = match self.session(connector, &None).await {
                Ok(session) => session.tools(true).await.err(),
                Err(trouble) => Some(trouble),
            };
            matches!(refused, Some(Trouble { error: ConnectorsError::Unauthorized(_), .. }))
        };
        if !tokio::time::timeout(FINDING_OUT, asked).await.unwrap_or(false) {
            return Reception::Unclear;
        }
        let refusal = self.channel(connector, &None).ok().and_then(|sender| sender.live().refusal());
        let challenge = refusal.and_then(|refusal| refusal.challenge(connector));
        challenge.map_or(Reception::Refused, Reception::Challenged)
    }

    /// Asks a server how one authenticates there, for a connector about which nobody said it. A server that cannot be
    /// reached is asked again when the connector is used.
    pub(crate) async fn find_out_methods(&self, connector: &Arc<Connector>) -> Arc<Connector> {
        let asked = tokio::time::timeout(FINDING_OUT, self.ask_for_methods(connector)).await;
        let Ok(Some(methods)) = asked else { return Arc::clone(connector) };
        let changed = self.0.registry.change(&*self.0.records, &connector.id, |changed| {
            if !changed.methods_given {
                changed.methods = methods;
            }
            Ok(Vec::new())
        });
        match changed {
            Ok(changed) => {
                tracing::info!(connector = changed.name, methods = ?changed.kinds(), "a server said how to authenticate");
                changed
            }
            Err(_) => Arc::clone(connector),
        }
    }

    /// `None` where the server does not say.
    async fn ask_for_methods(&self, connector: &Connector) -> Option<Vec<Method>> {
        let challenge = match self.reception(connector).await {
            Reception::Challenged(challenge) => Some(challenge),
            Reception::Refused => None,
            Reception::Unclear => return None,
        };
        let header = challenge.as_ref().map(|challenge| challenge.raw.as_str());
        let allowed = self.0.egress.allowed();
        let found = Server::discovered(&connector.server, header, &self.0.exchange, allowed).await.ok()?;
        let challenged = challenge.map(|challenge| challenge.scopes).unwrap_or_default();
        // Endpoints that nobody published are no sign of an authorization server.
        (found.source() != Source::Assumed).then(|| found_out(found, challenged))
    }

    /// airlock as a client of an authorization server: registered beforehand, by its document, or now.
    pub(crate) async fn client(
        &self,
        connector: &Connector,
        server: &Server,
    ) -> Result<Client, ConnectorsError> {
        let key = client_key(connector);
        if let Some(client) = self.stored_client(connector, server, &key)? {
            return Ok(client);
        }
        if server.takes_metadata_documents()
            && let Some(url) = &self.0.config.client_document_url
        {
            return Client::from_metadata_document(url);
        }
        // One registration at a time, so that the flows of one moment share a client.
        let lock = self.0.refreshing.lock(&key);
        let _alone = lock.lock().await;
        if let Some(client) = self.stored_client(connector, server, &key)? {
            return Ok(client);
        }
        let client = oauth::register(server, &*self.0.exchange, &self.0.config.redirect_uri).await?;
        let place = self.client_place(connector, &key, Some(server));
        self.0.records.write(&[self.0.vault.put(&key, &place, &client.to_bytes()?)])?;
        tracing::info!(connector = connector.name, "airlock was registered as a client");
        Ok(client)
    }

    /// The client that was registered beforehand by somebody, or earlier by us.
    fn stored_client(
        &self,
        connector: &Connector,
        server: &Server,
        key: &str,
    ) -> Result<Option<Client>, ConnectorsError> {
        let records = &*self.0.records;
        if let Some(OAuth { client_id: Some(id), .. }) = connector.interactive() {
            let place = self.client_place(connector, key, None);
            let secret = match records.get(crate::vault::TABLE, key)? {
                None => None,
                Some(_) => Secret::from_bytes(&self.0.vault.get(records, key, &place)?)?.bearer,
            };
            let data = AuthData {
                client_id: id.clone(),
                client_secret: secret.map(|secret| secret.expose_secret().to_owned()),
                client_scopes: None,
            };
            return Ok(Some(Client::preregistered(server, data)?));
        }
        if records.get(crate::vault::TABLE, key)?.is_none() {
            return Ok(None);
        }
        // One that was registered with another server, or for another address of ours, does not open.
        let place = self.client_place(connector, key, Some(server));
        let Ok(bytes) = self.0.vault.get(records, key, &place) else { return Ok(None) };
        let client = Client::from_bytes(&bytes)?;
        Ok(Some(client).filter(|client| client.secret_expires_at.is_none_or(|at| at > Utc::now())))
    }

    fn client_place(&self, connector: &Connector, key: &str, server: Option<&Server>) -> String {
        let (issuer, redirect) = match server {
            Some(server) => (server.issuer(), self.0.config.redirect_uri.as_str()),
            None => ("given", ""),
        };
        format!("{}|{key}|{}|{issuer}|{redirect}", connector.organization, connector.origin())
    }

    /// The change that keeps the secret of a client that was registered beforehand.
    pub(crate) fn client_change(
        &self,
        connector: &Connector,
        secret: Option<SecretString>,
    ) -> Result<Option<Change>, ConnectorsError> {
        let key = client_key(connector);
        let Some(secret) = secret else {
            return Ok(Some(Change::Delete { table: crate::vault::TABLE, key }));
        };
        let secret = Secret { bearer: Some(secret), ..Secret::default() };
        let place = self.client_place(connector, &key, None);
        Ok(Some(self.0.vault.put(&key, &place, &secret.to_bytes()?)))
    }

    /// Takes the tokens of a credential back at their server (THREATS row 26). Says what came of it, if there was anything
    /// to take back.
    pub(crate) async fn revoke(
        &self,
        connector: &Connector,
        credential: &Credential,
        secret: Secret,
    ) -> Option<String> {
        credential.grant.as_ref()?;
        let tokens = secret.tokens?;
        let revoked = async {
            let server = self.server(connector).await?;
            let client = match &secret.client {
                Some(own) => {
                    let auth = match connector.method(MethodKind::Oauth2) {
                        Some(Method::Oauth2(oauth)) => oauth.client_auth.clone(),
                        _ => None,
                    };
                    let auth = auth.as_deref().unwrap_or("client_secret_post");
                    Client::for_programs(auth, &own.id, own.secret.clone(), own.private_key.clone())?
                }
                None => self.client(connector, &server).await?,
            };
            let exchange = &*self.0.exchange;
            let mut done = false;
            if let Some(token) = &tokens.refresh {
                done |= oauth::revoke(&server, &client, token, Hint::Refresh, exchange).await?;
            }
            done |= oauth::revoke(&server, &client, &tokens.access, Hint::Access, exchange).await?;
            Ok::<bool, ConnectorsError>(done)
        };
        Some(match tokio::time::timeout(FINDING_OUT, revoked).await {
            Ok(Ok(true)) => "its tokens were revoked at the server".into(),
            Ok(Ok(false)) => "the server has no way to revoke tokens: they end when they expire".into(),
            Ok(Err(error)) => {
                tracing::warn!(connector = connector.name, %error, "tokens could not be revoked");
                format!("its tokens could not be revoked at the server ({error}): revoke them there")
            }
            Err(_) => "the server did not answer: revoke the tokens there".into(),
        })
    }
}

pub(crate) fn expires_at(expires_in: Option<Duration>) -> Option<chrono::DateTime<Utc>> {
    let expires_in = chrono::TimeDelta::from_std(expires_in?).ok()?;
    Utc::now().checked_add_signed(expires_in)
}

pub(crate) fn no_oauth(connector: &Connector) -> ConnectorsError {
    let kinds: Vec<&str> = connector.methods.iter().map(|method| method.kind().as_str()).collect();
    ConnectorsError::Conflict(format!(
        "connector '{}' has no OAuth that a person could go through: it takes {}",
        connector.name,
        kinds.join(", ")
    ))
}

/// A credential that needs somebody.
fn again(connector: &Connector, credential: &Credential) -> ConnectorsError {
    let grant = match connector.method(MethodKind::Oauth2) {
        Some(Method::Oauth2(oauth)) => oauth.grant,
        _ => Grant::AuthorizationCode,
    };
    let what = match &credential.state {
        State::NeedsScopes(scopes) => format!("needs more than was granted ({})", scopes.join(" ")),
        State::Revoked => "was refused by its server".into(),
        State::Valid | State::RefreshFailed => "has expired".into(),
    };
    let (name, connector) = (&credential.name, &connector.name);
    ConnectorsError::Unauthorized(match grant {
        Grant::AuthorizationCode => format!(
            "the credential '{name}' of connector '{connector}' {what}: authorise again with `airlock credentials \
             authorize {connector} {name}`"
        ),
        Grant::ClientCredentials => format!(
            "the credential '{name}' of connector '{connector}' {what}: store valid client credentials with `airlock \
             credentials set {connector} {name}`"
        ),
    })
}

/// What the operator says about OAuth.
#[derive(Debug, Clone)]
pub struct OAuthConfig {
    /// Where authorization servers send browsers back to: a page of the daemon.
    pub redirect_uri: Url,
    /// Where the daemon's client metadata document can be read by servers: https only.
    pub client_document_url: Option<Url>,
    /// Origins that browsers may be sent back to (`app_return_url`).
    pub return_origins: Vec<String>,
    /// A page asks for a click before a browser is sent on.
    pub confirm: bool,
}
