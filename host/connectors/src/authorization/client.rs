//! airlock as a client of an authorization server.

use chrono::Utc;
use secrecy::ExposeSecret as _;

use super::Authorization;
use crate::{
    ConnectorsError,
    egress::secret::{ClientSecret, Secret},
    oauth::{self, AuthData, Client, Server, Way},
    registry::{
        Connector, client,
        method::{Method, MethodKind, OAuth, Proven},
    },
    vault::TABLE,
};

impl Authorization {
    /// airlock as a client of an authorization server: registered beforehand, by its document, or now.
    pub(crate) async fn client(
        &self,
        connector: &Connector,
        server: &Server,
    ) -> Result<Client, ConnectorsError> {
        let key = client::key(connector);
        if let Some(client) = self.stored_client(connector, server, &key)? {
            return Ok(client);
        }
        if server.takes_metadata_documents()
            && let Some(url) = &self.config.client_document_url
        {
            return Client::from_metadata_document(url);
        }
        // One registration at a time, so that the flows of one moment share a client.
        let lock = self.refreshing.lock(&key);
        let _alone = lock.lock().await;
        if let Some(client) = self.stored_client(connector, server, &key)? {
            return Ok(client);
        }
        let client = self.register(connector, server, &key, false).await?;
        tracing::info!(connector = connector.name, "airlock was registered as a client");
        Ok(client)
    }

    /// Registers airlock as a client, and keeps that. The caller holds the lock of the key.
    pub(super) async fn register(
        &self,
        connector: &Connector,
        server: &Server,
        key: &str,
        is_replacement: bool,
    ) -> Result<Client, ConnectorsError> {
        let client = oauth::register(server, &self.egress, &self.config.redirect_uri).await?;
        let place = client::place(connector, key, Some(self.registered(server)));
        let sealed = self.vault.put(key, &place, &client.to_bytes()?);
        self.registry.change(&*self.records, &connector.id, |changed| {
            // What was known of the client before says nothing of this one.
            for method in &mut changed.methods {
                if let Method::Oauth2(oauth) = method {
                    oauth.proven = None;
                    oauth.replacement = is_replacement.then(|| client.id.clone());
                }
            }
            Ok(vec![sealed])
        })?;
        Ok(client)
    }

    /// The client that was registered beforehand by somebody, or earlier by us.
    pub(super) fn stored_client(
        &self,
        connector: &Connector,
        server: &Server,
        key: &str,
    ) -> Result<Option<Client>, ConnectorsError> {
        let records = &*self.records;
        if let Some(OAuth { client_id: Some(id), .. }) = connector.interactive() {
            let place = client::place(connector, key, None);
            let secret = match records.get(TABLE, key)? {
                None => None,
                Some(_) => Secret::from_bytes(&self.vault.get(records, key, &place)?)?.bearer,
            };
            let data = AuthData {
                client_id: id.clone(),
                client_secret: secret.map(|secret| secret.expose_secret().to_owned()),
            };
            return Ok(Some(Client::preregistered(data)?.knowing(proven(connector, server))));
        }
        if records.get(TABLE, key)?.is_none() {
            return Ok(None);
        }
        // One that was registered with another server, or for another address of ours, does not open.
        let place = client::place(connector, key, Some(self.registered(server)));
        let Ok(bytes) = self.vault.get(records, key, &place) else { return Ok(None) };
        let client = Client::from_bytes(&bytes)?.knowing(proven(connector, server));
        Ok(Some(client).filter(|client| client.secret_expires_at.is_none_or(|at| at > Utc::now())))
    }

    /// The client that a program's credential is.
    pub(super) fn program(
        &self,
        connector: &Connector,
        server: &Server,
        own: &ClientSecret,
    ) -> Result<Client, ConnectorsError> {
        let said = match connector.method(MethodKind::Oauth2) {
            Some(Method::Oauth2(oauth)) => oauth.client_auth.as_deref(),
            _ => None,
        };
        let method = said.unwrap_or("client_secret_post");
        let client = Client::for_programs(method, &own.id, own.secret.clone(), own.private_key.clone())?;
        // The operator's word is the last.
        let client = if said.is_some() { client } else { client.open_to(server) };
        Ok(client.knowing(proven(connector, server)))
    }

    /// Remembers how a server took the client, if it was not in the way that was tried first. Asked after every request,
    /// whatever came of it.
    pub(super) fn learn(&self, connector: &Connector, server: &Server, client: &Client) {
        let Some(way) = client.settled() else { return };
        let issuer = server.issuer();
        tracing::info!(connector = connector.name, issuer, %way, "a server takes the client in this way alone");
        let learned = self.registry.change(&*self.records, &connector.id, |changed| {
            // It may have another address by now.
            if changed.server != connector.server {
                return Ok(Vec::new());
            }
            for method in &mut changed.methods {
                if let Method::Oauth2(oauth) = method {
                    oauth.proven = Some(Proven { issuer: issuer.to_owned(), way });
                }
            }
            Ok(Vec::new())
        });
        if let Err(error) = learned {
            // It costs a request the next time, and must not cost what the server has given now.
            tracing::warn!(connector = connector.name, %error, "how a server takes the client is not remembered");
        }
    }

    /// What a client that we registered is bound to.
    fn registered<'a>(&'a self, server: &'a Server) -> (&'a str, &'a str) {
        (server.issuer(), self.config.redirect_uri.as_str())
    }
}

/// How the server took the client before.
fn proven(connector: &Connector, server: &Server) -> Option<Way> {
    match connector.method(MethodKind::Oauth2) {
        Some(Method::Oauth2(oauth)) => oauth.proven_at(server.issuer()),
        _ => None,
    }
}
