//! API keys: 32 random bytes, shown once, stored as SHA-256. A fast hash is enough because nobody can guess the key.

use std::{collections::HashMap, sync::Arc};

use airlock_engine::{
    OrganizationId, Principal, UserId, WorkspaceId,
    records::{Change, Records, RecordsError},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::RwLock;
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

const TABLE: &str = "api_keys";

/// One installation is one organisation with one workspace.
const HOME: &str = "default";

/// The wall clock may be set: whoever waits for a key's end looks at it so often.
const LONGEST_LOOK: std::time::Duration = std::time::Duration::from_secs(30);

/// All keys. Checked in memory: a request costs no query.
pub struct Keys {
    records: Arc<dyn Records>,
    by_hash: RwLock<HashMap<[u8; 32], Key>>,
    /// Told whenever a key is revoked.
    revoked: watch::Sender<()>,
}

/// What may be done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, keys of others and everybody's executions included.
    Owner,
    /// The user's own executions and credentials, and what is shared.
    Member,
}

/// A key without its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) role: Role,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) revoked_at: Option<DateTime<Utc>>,
    /// Hexadecimal SHA-256 of the text.
    hash: String,
}

/// Why a key opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "this API key is not known: check AIRLOCK_API_KEY, or let an owner make a new one with `airlock keys create \
         --user USER`"
    )]
    Unknown,
    #[error("this API key has expired: let an owner make a new one with `airlock keys create --user USER`")]
    Expired,
    #[error("this API key was revoked: let an owner make a new one with `airlock keys create --user USER`")]
    Revoked,
}

impl Key {
    pub(crate) fn principal(&self) -> Principal {
        Principal {
            user: UserId::new(self.user.as_str()),
            workspace: WorkspaceId::new(HOME),
            organization: OrganizationId::new(HOME),
        }
    }

    /// What a list shows.
    pub(crate) fn public(&self) -> serde_json::Value {
        serde_json::json!({
            "id": self.id, "name": self.name, "user": self.user, "role": self.role, "created_at": self.created_at,
            "expires_at": self.expires_at, "revoked_at": self.revoked_at,
        })
    }
}

impl Keys {
    /// Reads the stored keys.
    pub fn open(records: Arc<dyn Records>) -> Result<Arc<Self>, RecordsError> {
        let mut by_hash = HashMap::new();
        for (_, value) in records.scan(TABLE, "", None, usize::MAX)? {
            let key: Key = serde_json::from_slice(&value)
                .map_err(|error| RecordsError::Store(format!("a stored API key is damaged: {error}")))?;
            let mut hash = [0; 32];
            if hex::decode_to_slice(&key.hash, &mut hash).is_ok() {
                by_hash.insert(hash, key);
            }
        }
        Ok(Arc::new(Self { records, by_hash: RwLock::new(by_hash), revoked: watch::Sender::new(()) }))
    }

    /// Makes the owner's key if there is no key at all. `hand_over` gets its text and puts it where the owner finds it;
    /// only then is the key stored, so that it cannot get lost in between.
    pub fn first_owner<E: From<RecordsError>>(
        &self,
        hand_over: impl FnOnce(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.by_hash.read().is_empty() {
            return Ok(());
        }
        let text = new_text();
        hand_over(&text)?;
        self.store(&text, "owner", "owner's first key", Role::Owner, None)?;
        Ok(())
    }

    /// Makes a key; its text is not kept.
    pub(crate) fn create(
        &self,
        user: &str,
        name: &str,
        role: Role,
        lifetime: Option<TimeDelta>,
    ) -> Result<(String, Key), RecordsError> {
        let text = new_text();
        let key = self.store(&text, user, name, role, lifetime)?;
        Ok((text, key))
    }

    fn store(
        &self,
        text: &str,
        user: &str,
        name: &str,
        role: Role,
        lifetime: Option<TimeDelta>,
    ) -> Result<Key, RecordsError> {
        let hash = hash(text);
        let created_at = Utc::now();
        let key = Key {
            id: Uuid::new_v4().to_string(),
            name: name.into(),
            user: user.into(),
            role,
            created_at,
            expires_at: lifetime.and_then(|lifetime| created_at.checked_add_signed(lifetime)),
            revoked_at: None,
            hash: hex::encode(hash),
        };
        self.save(&key)?;
        self.by_hash.write().insert(hash, key.clone());
        Ok(key)
    }

    fn save(&self, key: &Key) -> Result<(), RecordsError> {
        let value = serde_json::to_vec(key).map_err(|error| RecordsError::Store(error.to_string()))?;
        self.records.write(&[Change::Put { table: TABLE, key: key.id.clone(), value }])
    }

    /// Whose key this is. Found by its hash, so how long it takes says nothing about other keys.
    pub(crate) fn check(&self, text: &str) -> Result<Key, Refused> {
        self.good(&hash(text))
    }

    fn good(&self, hash: &[u8; 32]) -> Result<Key, Refused> {
        let key = self.by_hash.read().get(hash).cloned().ok_or(Refused::Unknown)?;
        if key.revoked_at.is_some() {
            Err(Refused::Revoked)
        } else if key.expires_at.is_some_and(|at| at <= Utc::now()) {
            Err(Refused::Expired)
        } else {
            Ok(key)
        }
    }

    /// Resolves when a key stops to be good: at once if it has.
    pub(crate) fn over(self: &Arc<Self>, key: &Key) -> impl Future<Output = Refused> + Send + 'static {
        let (keys, mut revoked, mut hash) = (Arc::clone(self), self.revoked.subscribe(), [0; 32]);
        // Every stored key has one; of another one nothing is known.
        let _ = hex::decode_to_slice(&key.hash, &mut hash);
        async move {
            loop {
                let key = match keys.good(&hash) {
                    Ok(key) => key,
                    Err(why) => return why,
                };
                let left = key.expires_at.map(|at| (at - Utc::now()).to_std().unwrap_or_default());
                tokio::select! {
                    // The sender lives as long as the keys.
                    _ = revoked.changed() => {}
                    () = tokio::time::sleep(left.unwrap_or_default().min(LONGEST_LOOK)), if left.is_some() => {}
                }
            }
        }
    }

    /// Ends a key, and what was asked for with it. `None` if there is none with this id.
    pub(crate) fn revoke(&self, id: &str) -> Result<Option<Key>, RecordsError> {
        let mut keys = self.by_hash.write();
        let Some(key) = keys.values_mut().find(|key| key.id == id) else { return Ok(None) };
        let revoked = Key { revoked_at: Some(key.revoked_at.unwrap_or_else(Utc::now)), ..key.clone() };
        self.save(&revoked)?;
        *key = revoked.clone();
        drop(keys);
        self.revoked.send_replace(());
        Ok(Some(revoked))
    }

    /// All keys, oldest first.
    pub(crate) fn list(&self) -> Vec<Key> {
        let mut keys: Vec<_> = self.by_hash.read().values().cloned().collect();
        keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        keys
    }

    /// Where the API keeps small things of its own.
    pub(crate) fn records(&self) -> &Arc<dyn Records> {
        &self.records
    }
}

fn new_text() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    format!("al_{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
