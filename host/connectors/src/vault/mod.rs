//! Secrets at rest: envelope encryption.
//!
//! Each secret is sealed with a random data key of its own, and the data key with a vault key of the [`Keyring`]. The
//! secret's seal is bound to its place: tenant, scope, connector, name, version and the origin it is meant for; the data
//! key's to its row. So a row that is moved, or a version that is put back, does not open (THREATS row 24), deleting the
//! row destroys the key, and a new vault key needs no secret to be opened.

pub(crate) mod keyring;
pub(crate) mod master_key;

use std::sync::Arc;

use airlock_engine::records::{Change, Records};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use rand::Rng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{ConnectorsError, Keyring};

pub(crate) const TABLE: &str = "vault";

/// Which vault key wraps the data key.
const ID: usize = 4;
const NONCE: usize = 24;
const TAG: usize = 16;
/// A sealed data key: nonce, key, tag.
const WRAPPED: usize = NONCE + 32 + TAG;

/// Seals and opens secrets.
#[derive(Clone)]
pub(crate) struct Vault(Arc<Keyring>);

impl Vault {
    pub(crate) fn new(keyring: Arc<Keyring>) -> Self {
        Self(keyring)
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        &self.0
    }

    /// A few digits that tell secrets apart and, without the keyring, say nothing about them.
    pub(crate) fn fingerprint(&self, key: &str, secret: &[u8]) -> String {
        let keyed =
            Sha256::new().chain_update(*self.0.fingerprints()).chain_update(key.as_bytes()).chain_update([0]);
        hex::encode(&keyed.chain_update(secret).finalize()[..4])
    }

    /// The change that stores a secret under a key.
    pub(crate) fn put(&self, key: &str, place: &str, secret: &[u8]) -> Change {
        let data_key: Zeroizing<[u8; 32]> = Zeroizing::new(rand::rng().random());
        let mut value = self.wrap(key, &data_key);
        value.extend(seal(&XChaCha20Poly1305::new((&*data_key).into()), secret, place));
        Change::Put { table: TABLE, key: key.into(), value }
    }

    fn wrap(&self, key: &str, data_key: &[u8; 32]) -> Vec<u8> {
        let (id, vault_key) = self.0.vault_key();
        let mut wrapped = id.to_be_bytes().to_vec();
        wrapped.extend(seal(&XChaCha20Poly1305::new((&*vault_key).into()), data_key, key));
        wrapped
    }

    /// The secret under a key, if it was stored for this place.
    pub(crate) fn get(
        &self,
        records: &dyn Records,
        key: &str,
        place: &str,
    ) -> Result<Zeroizing<Vec<u8>>, ConnectorsError> {
        let stored = records.get(TABLE, key)?.ok_or_else(broken)?;
        let (data_key, sealed) = self.unwrap(key, &stored).ok_or_else(broken)?;
        open(&XChaCha20Poly1305::new((&*data_key).into()), sealed, place).ok_or_else(broken)
    }

    /// The data key of a row, and the sealed secret.
    fn unwrap<'a>(&self, key: &str, stored: &'a [u8]) -> Option<(Zeroizing<[u8; 32]>, &'a [u8])> {
        let (id, rest) = stored.split_first_chunk::<ID>()?;
        let (wrapped, sealed) = rest.split_at_checked(WRAPPED)?;
        let vault_key = self.0.vault_key_of(u32::from_be_bytes(*id))?;
        let data_key = open(&XChaCha20Poly1305::new((&*vault_key).into()), wrapped, key)?;
        Some((Zeroizing::new(data_key.as_slice().try_into().ok()?), sealed))
    }

    /// Wraps the data key of a row with the newest vault key. `None` if it is already; an error if the row does not open.
    pub(crate) fn rewrap(&self, key: &str, stored: &[u8]) -> Result<Option<Change>, ConnectorsError> {
        if stored.starts_with(&self.0.vault_key().0.to_be_bytes()) {
            return Ok(None);
        }
        let (data_key, sealed) = self.unwrap(key, stored).ok_or_else(broken)?;
        let mut value = self.wrap(key, &data_key);
        value.extend_from_slice(sealed);
        Ok(Some(Change::Put { table: TABLE, key: key.into(), value }))
    }
}

fn broken() -> ConnectorsError {
    ConnectorsError::Store(
        "a stored credential does not open: it was changed, moved or sealed with another key. Store it again"
            .into(),
    )
}

fn seal(cipher: &XChaCha20Poly1305, bytes: &[u8], place: &str) -> Vec<u8> {
    let nonce: [u8; NONCE] = rand::rng().random();
    let mut sealed = nonce.to_vec();
    // The cipher refuses only messages of 256 GB and more.
    let payload = Payload { msg: bytes, aad: place.as_bytes() };
    sealed.extend(cipher.encrypt(&XNonce::from(nonce), payload).unwrap_or_default());
    sealed
}

fn open(cipher: &XChaCha20Poly1305, sealed: &[u8], place: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, text) = sealed.split_first_chunk::<NONCE>()?;
    let payload = Payload { msg: text, aad: place.as_bytes() };
    cipher.decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
}
