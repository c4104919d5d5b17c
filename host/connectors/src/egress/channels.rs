//! A channel is a sender for one server with one credential, kept while it is used: the secret is rendered once,
//! connections are reused, and refreshed tokens take their place under what is open.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use url::Url;

use super::{Egress, Live, Sender, secret::Rendered};
use crate::ConnectorsError;

/// A channel that nobody used for so long is dropped, and the secret in it with it.
const IDLE: Duration = Duration::from_secs(600);

/// What a channel belongs to: connector, its version, credential, its generation.
pub(crate) type Key = (String, u32, Option<(String, u32)>);

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
    /// The channel under a key, opened if there is none. `version` is the credential's: a newer one is rendered anew.
    pub(crate) fn get(
        &self,
        egress: &Egress,
        key: Key,
        version: u32,
        server: impl FnOnce() -> Result<Url, ConnectorsError>,
        render: impl FnOnce() -> Result<Rendered, ConnectorsError>,
    ) -> Result<Sender, ConnectorsError> {
        let mut all = self.0.lock();
        all.retain(|_, entry| entry.used.elapsed() < IDLE);
        if let Some(entry) = all.get_mut(&key) {
            entry.used = Instant::now();
            if entry.version < version {
                entry.sender.live().replace(render()?);
                entry.version = version;
            }
            return Ok(entry.sender.clone());
        }
        let sender = egress.sender(&server()?, Live::new(render()?));
        all.insert(key, Entry { used: Instant::now(), sender: sender.clone(), version });
        Ok(sender)
    }

    /// Drops the channels of a connector.
    pub(crate) fn forget(&self, connector: &str) {
        self.0.lock().retain(|(id, ..), _| id != connector);
    }
}
