//! A channel is a sender for one connector with one credential, kept while it is used: the secret is opened once, sessions
//! and connections are reused, and refreshed tokens take their place under what is open.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use url::Url;

use crate::{
    Connectors, ConnectorsError,
    control::retries::Trouble,
    credentials::Credential,
    egress::secret::{CommonHeader, Secret},
    egress::{Live, Sender},
    mcp::{Key, Opening, Session},
    registry::{Connector, check_server},
};

/// A channel that nobody used for so long is dropped, and the secret in it with it.
const IDLE: Duration = Duration::from_secs(600);

/// All channels.
#[derive(Default)]
pub(crate) struct Channels(Mutex<HashMap<Key, Entry>>);

struct Entry {
    used: Instant,
    sender: Sender,
    /// Version of the credential whose secret is in it.
    version: u32,
}

impl Channels {
    /// Drops the channels of a connector.
    pub(crate) fn forget(&self, connector: &str) {
        self.0.lock().retain(|(id, ..), _| id != connector);
    }
}

/// A credential with its key, as a call uses it.
pub(crate) type Resolved = Option<(String, Credential)>;

fn key(connector: &Connector, resolved: &Resolved) -> Key {
    let generation =
        resolved.as_ref().map(|(_, credential)| (credential.id.to_string(), credential.generation));
    (connector.id.clone(), connector.version, generation)
}

impl Connectors {
    /// The channel for a connector and a credential, opened if there is none.
    pub(crate) fn channel(
        &self,
        connector: &Connector,
        resolved: &Resolved,
    ) -> Result<Sender, ConnectorsError> {
        let key = key(connector, resolved);
        let version = resolved.as_ref().map_or(0, |(_, credential)| credential.version);
        let mut all = self.0.channels.0.lock();
        all.retain(|_, entry| entry.used.elapsed() < IDLE);
        if let Some(entry) = all.get_mut(&key) {
            entry.used = Instant::now();
            if entry.version < version {
                entry.sender.live().replace(self.render(connector, resolved)?);
                entry.version = version;
            }
            return Ok(entry.sender.clone());
        }
        // Its address was checked when it was registered; what the operator allows may have changed since.
        check_server(&connector.server, self.0.egress.allowed())?;
        let server = Url::parse(&connector.server)
            .map_err(|_| ConnectorsError::Store("the connector's address is damaged".into()))?;
        let live = Live::new(self.render(connector, resolved)?);
        let sender = self.0.egress.sender(&server, live);
        all.insert(key, Entry { used: Instant::now(), sender: sender.clone(), version });
        Ok(sender)
    }

    fn render(
        &self,
        connector: &Connector,
        resolved: &Resolved,
    ) -> Result<crate::egress::secret::Rendered, ConnectorsError> {
        let secret = match resolved {
            None => Secret::default(),
            Some((key, credential)) => self.open_secret(connector, key, credential)?,
        };
        let common: Vec<CommonHeader> = self.open_headers(connector)?;
        secret.render(connector.key_place().as_ref(), &common)
    }

    /// A credential goes to the origin that it was stored for and nowhere else (THREATS row 10).
    pub(crate) fn open_secret(
        &self,
        connector: &Connector,
        key: &str,
        credential: &Credential,
    ) -> Result<Secret, ConnectorsError> {
        if credential.origin != connector.origin() {
            return Err(ConnectorsError::Unauthorized(format!(
                "the address of connector '{0}' has changed since credential '{1}' was stored: store it again with \
                 `airlock credentials set {0} {1}`",
                connector.name, credential.name
            )));
        }
        let place = credential.place(connector, key);
        Secret::from_bytes(&self.0.vault.get(&*self.0.records, key, &place)?)
    }

    /// The MCP session over a channel.
    pub(crate) async fn session(
        &self,
        connector: &Connector,
        resolved: &Resolved,
    ) -> Result<Arc<Session>, Trouble> {
        let sender = self.channel(connector, resolved)?;
        let opening = || Opening {
            connector: connector.name.clone(),
            host: connector.host(),
            credential: resolved.as_ref().map(|(_, credential)| credential.name.clone()),
            sender,
        };
        self.0.sessions.get(&key(connector, resolved), opening).await
    }

    /// Closes what is open for a connector.
    pub(crate) fn forget(&self, connector: &str) {
        self.0.sessions.forget(connector);
        self.0.channels.forget(connector);
    }
}
