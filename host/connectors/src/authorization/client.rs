//! airlock as a client of an authorization server.

use chrono::Utc;
use secrecy::ExposeSecret as _;

use super::Authorization;
use crate::{
    ConnectorsError,
    egress::secret::Secret,
    oauth::{self, AuthData, Client, Server},
    registry::{Connector, client, method::OAuth},
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
        let client = oauth::register(server, &self.egress, &self.config.redirect_uri).await?;
        let place = client::place(connector, &key, Some(self.registered(server)));
        self.records.write(&[self.vault.put(&key, &place, &client.to_bytes()?)])?;
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
            return Ok(Some(Client::preregistered(server, data)?));
        }
        if records.get(TABLE, key)?.is_none() {
            return Ok(None);
        }
        // One that was registered with another server, or for another address of ours, does not open.
        let place = client::place(connector, key, Some(self.registered(server)));
        let Ok(bytes) = self.vault.get(records, key, &place) else { return Ok(None) };
        let client = Client::from_bytes(&bytes)?;
        Ok(Some(client).filter(|client| client.secret_expires_at.is_none_or(|at| at > Utc::now())))
    }

    /// What a client that we registered is bound to.
    fn registered<'a>(&'a self, server: &'a Server) -> (&'a str, &'a str) {
        (server.issuer(), self.config.redirect_uri.as_str())
    }
}
