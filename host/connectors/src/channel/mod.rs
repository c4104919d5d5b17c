//! What is open to the servers of connectors: a sender for each connector and credential, and the MCP session over it.
//!
//! It opens the secret of a credential for the sender alone, and decides nothing: which credential it is, and whether it
//! may be used, is said by the caller.

use std::sync::Arc;

use airlock_engine::records::Records;
use http::{HeaderMap, header::WWW_AUTHENTICATE};
use url::Url;

use crate::{
    ConnectorsError,
    credentials::Credential,
    egress::{
        Channels, Egress, Key, Sender,
        secret::{Rendered, Secret},
    },
    mcp::{Opening, Sessions},
    oauth,
    protocol::{service::Service, trouble::Trouble},
    registry::{Connector, Protocol, Registry, check_server, client, headers},
    rest::Caller,
    vault::Vault,
};

/// A credential with its key, as a call uses it.
pub(crate) type Resolved = Option<(String, Credential)>;

/// All that is open.
pub(crate) struct Lines {
    records: Arc<dyn Records>,
    vault: Vault,
    registry: Arc<Registry>,
    egress: Egress,
    /// Where authorization servers send browsers back to: what a client that we registered is bound to.
    redirect: String,
    channels: Channels,
    sessions: Sessions,
}

fn key(connector: &Connector, resolved: &Resolved) -> Key {
    let generation =
        resolved.as_ref().map(|(_, credential)| (credential.id.to_string(), credential.generation));
    (connector.id.clone(), connector.version, generation)
}

impl Lines {
    /// Nothing is open yet.
    pub(crate) fn new(
        records: Arc<dyn Records>,
        vault: Vault,
        registry: Arc<Registry>,
        egress: Egress,
        redirect: &Url,
    ) -> Self {
        let (channels, sessions) = (Channels::default(), Sessions::default());
        Self { records, vault, registry, egress, redirect: redirect.to_string(), channels, sessions }
    }

    /// The channel for a connector and a credential, opened if there is none.
    fn open(&self, connector: &Connector, resolved: &Resolved, key: &Key) -> Result<Sender, ConnectorsError> {
        let version = resolved.as_ref().map_or(0, |(_, credential)| credential.version);
        let server = || {
            // It was checked when it was registered; what the operator allows may have changed since.
            check_server(&connector.server, self.egress.allowed())?;
            Url::parse(&connector.server)
                .map_err(|_| ConnectorsError::Store("the connector's address is damaged".into()))
        };
        let render = || self.render(connector, resolved);
        self.channels.get(&self.egress, key, version, server, render)
    }

    fn render(&self, connector: &Connector, resolved: &Resolved) -> Result<Rendered, ConnectorsError> {
        let secret = match resolved {
            None => Secret::default(),
            Some((key, credential)) => credential.open(&*self.records, &self.vault, connector, key)?,
        };
        let common = headers::open(&*self.records, &self.vault, connector)?;
        let mut rendered = secret.render(&connector.keys(), &common)?;
        // Not sent to this server, but a tool of the same house may know it.
        let client = client::secrets(&*self.records, &self.vault, connector, &self.redirect)?;
        client.iter().for_each(|secret| rendered.also(secret));
        Ok(rendered)
    }

    /// The way to the server of a connector, in its protocol.
    pub(crate) async fn service(
        &self,
        connector: &Connector,
        resolved: &Resolved,
    ) -> Result<Arc<dyn Service>, Trouble> {
        let key = key(connector, resolved);
        let sender = self.open(connector, resolved, &key)?;
        let credential = || resolved.as_ref().map(|(_, credential)| credential.sent(connector));
        match connector.protocol {
            Protocol::Mcp => {
                let opening = || Opening {
                    connector: connector.name.clone(),
                    host: sender.host().to_owned(),
                    credential: credential(),
                    sender,
                };
                Ok(self.sessions.get(&key, opening).await?)
            }
            Protocol::Http => Ok(Arc::new(Caller {
                connector: connector.name.clone(),
                credential: credential(),
                terms: connector.terms(),
                catalogue: self.registry.api(&*self.records, connector)?,
                sender,
            })),
        }
    }

    /// What the server said about tokens with its last 401 or 403.
    pub(crate) fn challenge(&self, connector: &Connector, resolved: &Resolved) -> Option<oauth::Challenge> {
        let refusal = self.open(connector, resolved, &key(connector, resolved)).ok()?.live().refusal()?;
        let mut headers = HeaderMap::new();
        for field in refusal.challenges {
            headers.append(WWW_AUTHENTICATE, field);
        }
        oauth::challenge(&Url::parse(&connector.server).ok()?, &headers)
    }

    /// Closes what is open for a connector.
    pub(crate) fn forget(&self, connector: &str) {
        self.sessions.forget(connector);
        self.channels.forget(connector);
    }
}
