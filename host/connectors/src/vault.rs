//! Secrets at rest: envelope encryption.
//!
//! Each secret is sealed with a random data key of its own, and the data key with a key derived from the master key. Both
//! seals are bound to the place of the secret: tenant, scope, connector, name, version and the origin it is meant for. So a
//! row that is moved, or a version that is put back, does not open (THREATS row 24), and deleting the row destroys the key.

use airlock_engine::records::{Change, Records};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use rand::Rng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{ConnectorsError, MasterKey};

pub(crate) const TABLE: &str = "vault";

const NONCE: usize = 24;
const TAG: usize = 16;
/// A sealed data key: nonce, key, tag.
const WRAPPED: usize = NONCE + 32 + TAG;

/// Seals and opens secrets.
pub(crate) struct Vault {
    wrap: XChaCha20Poly1305,
    fingerprints: Zeroizing<[u8; 32]>,
}

impl Vault {
    pub(crate) fn new(master: &MasterKey) -> Self {
        Self {
            wrap: XChaCha20Poly1305::new((&*master.derive("airlock vault 1")).into()),
            fingerprints: master.derive("airlock fingerprints 1"),
        }
    }

    /// A few digits that tell secrets apart and, without the master key, say nothing about them.
    pub(crate) fn fingerprint(&self, key: &str, secret: &[u8]) -> String {
        let keyed =
            Sha256::new().chain_update(*self.fingerprints).chain_update(key.as_bytes()).chain_update([0]);
        hex::encode(&keyed.chain_update(secret).finalize()[..4])
    }

    /// The change that stores a secret under a key.
    pub(crate) fn put(&self, key: &str, place: &str, secret: &[u8]) -> Change {
        let data_key: Zeroizing<[u8; 32]> = Zeroizing::new(rand::rng().random());
        let mut value = seal(&self.wrap, &*data_key, place);
        value.extend(seal(&XChaCha20Poly1305::new((&*data_key).into()), secret, place));
        Change::Put { table: TABLE, key: key.into(), value }
    }

    /// The secret under a key, if it was stored for this place.
    pub(crate) fn get(
        &self,
        records: &dyn Records,
        key: &str,
        place: &str,
    ) -> Result<Zeroizing<Vec<u8>>, ConnectorsError> {
        let broken = || {
            ConnectorsError::Store(
                "a stored credential does not open: it was changed, moved or sealed with another master key. Store it \
                 again"
                    .into(),
            )
        };
        let stored = records.get(TABLE, key)?.ok_or_else(broken)?;
        let (wrapped, sealed) = stored.split_at_checked(WRAPPED).ok_or_else(broken)?;
        let data_key = open(&self.wrap, wrapped, place).ok_or_else(broken)?;
        let data_key: &[u8; 32] = data_key.as_slice().try_into().map_err(|_| broken())?;
        open(&XChaCha20Poly1305::new(data_key.into()), sealed, place).ok_or_else(broken)
    }
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
