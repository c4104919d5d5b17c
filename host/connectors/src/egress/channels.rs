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

/// How often it is looked for those that nobody uses.
const SWEEP: Duration = Duration::from_secs(30);

/// All channels.
#[derive(Default)]
pub(crate) struct Channels(Mutex<Open>);

#[derive(Default)]
struct Open {
    by_key: HashMap<Key, Entry>,
    swept: Option<Instant>,
}

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
        key: &Key,
        version: u32,
        server: impl FnOnce() -> Result<Url, ConnectorsError>,
        render: impl FnOnce() -> Result<Rendered, ConnectorsError>,
    ) -> Result<Sender, ConnectorsError> {
        let (mut open, now) = (self.0.lock(), Instant::now());
        if open.swept.is_none_or(|swept| now.duration_since(swept) > SWEEP) {
            open.by_key.retain(|_, entry| now.duration_since(entry.used) < IDLE);
            open.swept = Some(now);
        }
        if let Some(entry) = open.by_key.get_mut(key) {
            entry.used = now;
            if entry.version < version {
                entry.sender.live().replace(render()?);
                entry.version = version;
            }
            return Ok(entry.sender.clone());
        }
        let sender = egress.sender(&server()?, Live::new(render()?));
        open.by_key.insert(key.clone(), Entry { used: now, sender: sender.clone(), version });
        Ok(sender)
    }

    /// Drops the channels of a connector.
    pub(crate) fn forget(&self, connector: &str) {
        self.0.lock().by_key.retain(|(id, ..), _| id != connector);
    }
}
