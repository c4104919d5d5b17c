//! MCP: sessions with servers, one for each connector and credential, kept while they are used.
//!
//! Reading is lenient and ours: what a server sends is read as JSON first, and what can be used of it is used. rmcp keeps
//! the lifecycle, ids, notifications and questions to people.
//!
//! | file | holds |
//! | --- | --- |
//! | `session` | a session that lasts while servers forget theirs |
//! | `open` | one of theirs, and its list of tools |
//! | `call`, `patience`, `client` | one call, its time, and what the server wants in the middle of it |
//! | `listing`, `answer`, `handshake` | how lists, answers and beginnings are read |
//! | `transport`, `body`, `stream`, `elsewhere`, `reading` | messages in HTTP answers |
//! | `events`, `texts`, `encoding` | what frames them |
//! | `nesting` | JSON that is too deep |
//! | `failure`, `told` | what went wrong, and what is said of it |

mod answer;
mod body;
mod call;
mod client;
mod elsewhere;
mod encoding;
mod events;
mod failure;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod fuzz;
mod handshake;
mod listing;
#[cfg(test)]
mod mutations;
mod nesting;
#[cfg(test)]
mod oddities;
mod open;
mod patience;
mod reading;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod texts;
mod told;
mod transport;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

pub(crate) use self::session::Session;
use crate::{
    egress::{Key, Sender},
    protocol::trouble::{Sent, Trouble},
};

/// contract/preflight.md: a list may take 30 s.
pub(crate) const LIST_LIMIT: Duration = Duration::from_secs(30);

/// A session that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// All sessions.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<Key, Entry>>);

struct Entry {
    used: Instant,
    session: Arc<Session>,
}

/// How to open a session.
pub(crate) struct Opening {
    pub(crate) connector: String,
    pub(crate) host: String,
    pub(crate) credential: Option<Sent>,
    pub(crate) sender: Sender,
}

impl Sessions {
    /// The session for a key, opened if there is none.
    pub(crate) async fn get(
        &self,
        key: &Key,
        opening: impl FnOnce() -> Opening,
    ) -> Result<Arc<Session>, Trouble> {
        let session = {
            let mut all = self.0.lock();
            all.retain(|_, entry| entry.used.elapsed() < IDLE);
            let entry = all.entry(key.clone()).or_insert_with(|| Entry {
                used: Instant::now(),
                session: Arc::new(Session::new(opening())),
            });
            entry.used = Instant::now();
            Arc::clone(&entry.session)
        };
        session.begin().await?;
        Ok(session)
    }

    /// Closes the sessions of a connector.
    pub(crate) fn forget(&self, connector: &str) {
        self.0.lock().retain(|(id, ..), _| id != connector);
    }
}
