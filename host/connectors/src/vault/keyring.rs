//! The keys of a data folder, by purpose, in one small file that the master key seals.
//!
//! The master key seals nothing else, so a new one costs one write, whatever the folder holds. With it goes a new vault
//! key; the older ones stay in the ring until every data key of the vault has been wrapped anew.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use parking_lot::RwLock;
use rand::Rng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::MasterKey;

const FILE: &str = "keyring";
/// Sealed with the next master key, while that takes the place of the one before.
const NEXT: &str = "keyring.next";
const HEAD: &[u8] = b"airlock keyring 1\n";
const NONCE: usize = 24;

/// 32 bytes that are overwritten when they are dropped.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// The keyring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// It was sealed with another master key.
    #[error(
        "the master key does not fit the keyring {}: use the key it was sealed with, or name that one as the previous key",
        .0.display()
    )]
    WrongKey(PathBuf),
    /// The file cannot be read or written.
    #[error("the keyring {} cannot be used: {error}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The folder has a database whose keys are gone.
    #[error("the keyring {} is missing, and without it the database does not open: bring it back from a backup", .0.display())]
    Missing(PathBuf),
    /// The file was made by something else, or is cut off.
    #[error("the keyring {} is damaged: bring it back from a backup", .0.display())]
    Damaged(PathBuf),
}

/// The keys of one data folder.
pub struct Keyring {
    folder: PathBuf,
    state: RwLock<State>,
}

struct State {
    seal: Key,
    keys: Keys,
}

/// The content of the file. The hexadecimal text lives as long as the ring.
#[derive(Serialize, Deserialize)]
struct Keys {
    journal: String,
    fingerprints: String,
    audit: String,
    /// Newest first.
    vault: Vec<VaultKey>,
}

#[derive(Serialize, Deserialize)]
struct VaultKey {
    id: u32,
    key: String,
}

impl Drop for Keys {
    fn drop(&mut self) {
        for text in [&mut self.journal, &mut self.fingerprints, &mut self.audit] {
            text.zeroize();
        }
        self.vault.iter_mut().for_each(|key| key.key.zeroize());
    }
}

fn random() -> String {
    hex::encode(*Zeroizing::new(rand::rng().random::<[u8; 32]>()))
}

/// A key from its text. The text was written by this module and passed its seal.
fn key(text: &str) -> Key {
    let mut key = Zeroizing::new([0; 32]);
    let decoded = hex::decode_to_slice(text, key.as_mut());
    debug_assert!(decoded.is_ok());
    key
}

impl Keyring {
    /// The ring of a folder, made if there is none. With `previous`, a ring that still belongs to that master key is
    /// sealed with the new one.
    pub fn open(
        folder: &Path,
        master: &MasterKey,
        previous: Option<&MasterKey>,
    ) -> Result<Self, KeyringError> {
        let seal = master.derive("airlock keyring 1");
        let file = folder.join(FILE);
        let ring =
            |keys| Self { folder: folder.to_owned(), state: RwLock::new(State { seal: seal.clone(), keys }) };
        if !file.exists() {
            if folder.join("airlock.db").exists() {
                return Err(KeyringError::Missing(file));
            }
            let keys = Keys {
                journal: random(),
                fingerprints: random(),
                audit: random(),
                vault: vec![VaultKey { id: 1, key: random() }],
            };
            let ring = ring(keys);
            ring.write(&file)?;
            return Ok(ring);
        }
        if let Some(keys) = read(&file, &seal)? {
            return Ok(ring(keys));
        }
        // A change of the master key was cut short after the new one had taken its place.
        let next = folder.join(NEXT);
        if next.exists()
            && let Some(keys) = read(&next, &seal)?
        {
            fs::rename(&next, &file).map_err(|error| KeyringError::File { file, error })?;
            return Ok(ring(keys));
        }
        if let Some(previous) = previous
            && let Some(keys) = read(&file, &previous.derive("airlock keyring 1"))?
        {
            let ring = ring(keys);
            ring.add_vault_key();
            ring.write(&file)?;
            tracing::info!("the keyring was sealed with the new master key");
            return Ok(ring);
        }
        Err(KeyringError::WrongKey(file))
    }

    /// For histories and records.
    pub fn journal(&self) -> Key {
        key(&self.state.read().keys.journal)
    }

    /// For the chain of the audit log.
    pub fn audit(&self) -> Key {
        key(&self.state.read().keys.audit)
    }

    pub(crate) fn fingerprints(&self) -> Key {
        key(&self.state.read().keys.fingerprints)
    }

    /// The vault key that is used for what is written now.
    pub(crate) fn vault_key(&self) -> (u32, Key) {
        let state = self.state.read();
        let newest = &state.keys.vault[0];
        (newest.id, key(&newest.key))
    }

    /// An older vault key.
    pub(crate) fn vault_key_of(&self, id: u32) -> Option<Key> {
        let state = self.state.read();
        state.keys.vault.iter().find(|key| key.id == id).map(|found| key(&found.key))
    }

    /// Seals the ring with another master key, and adds a vault key. `commit` puts the new master key where the next
    /// start finds it; when the process dies in the middle, the next start finds a pair that fits.
    pub fn change_master(
        &self,
        master: &MasterKey,
        commit: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        let (next, file) = (self.folder.join(NEXT), self.folder.join(FILE));
        self.add_vault_key();
        let before = std::mem::replace(&mut self.state.write().seal, master.derive("airlock keyring 1"));
        let changed = self.write(&next).map_err(|error| error.to_string()).and_then(|()| commit());
        if let Err(error) = changed {
            self.state.write().seal = before;
            let _ = fs::remove_file(&next);
            // With the vault key that was added: it may be in use by now.
            self.write(&file).map_err(|error| error.to_string())?;
            return Err(error);
        }
        fs::rename(&next, &file).map_err(|error| format!("{} cannot be replaced: {error}", file.display()))
    }

    fn add_vault_key(&self) {
        let mut state = self.state.write();
        let id = state.keys.vault[0].id + 1;
        state.keys.vault.insert(0, VaultKey { id, key: random() });
    }

    /// Whether something may still be wrapped with an older vault key.
    pub(crate) fn has_older_keys(&self) -> bool {
        self.state.read().keys.vault.len() > 1
    }

    /// Forgets the older vault keys: nothing is wrapped with them any more.
    pub(crate) fn retire(&self) -> Result<(), KeyringError> {
        {
            let mut state = self.state.write();
            if state.keys.vault.len() == 1 {
                return Ok(());
            }
            state.keys.vault.drain(1..).for_each(|mut key| key.key.zeroize());
        }
        self.write(&self.folder.join(FILE))
    }

    /// Writes the ring to a file that is either the old or the new one after a crash.
    fn write(&self, file: &Path) -> Result<(), KeyringError> {
        let state = self.state.read();
        let text = Zeroizing::new(serde_json::to_vec(&state.keys).unwrap_or_default());
        let nonce: [u8; NONCE] = rand::rng().random();
        let payload = Payload { msg: &text, aad: HEAD };
        let cipher = XChaCha20Poly1305::new((&*state.seal).into());
        let sealed = cipher.encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
        let temporary = file.with_extension("writing");
        let put = || {
            let mut options = fs::OpenOptions::new();
            let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            out.write_all(HEAD)?;
            out.write_all(&nonce)?;
            out.write_all(&sealed)?;
            out.sync_all()?;
            fs::rename(&temporary, file)?;
            fs::File::open(&self.folder)?.sync_all()
        };
        put().map_err(|error| KeyringError::File { file: file.to_owned(), error })
    }
}

/// The keys in a file; `None` if they were sealed with another key.
fn read(file: &Path, seal: &Key) -> Result<Option<Keys>, KeyringError> {
    let bytes = fs::read(file).map_err(|error| KeyringError::File { file: file.to_owned(), error })?;
    let damaged = || KeyringError::Damaged(file.to_owned());
    let rest = bytes.strip_prefix(HEAD).ok_or_else(damaged)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or_else(damaged)?;
    let payload = Payload { msg: sealed, aad: HEAD };
    let cipher = XChaCha20Poly1305::new((&**seal).into());
    let Ok(text) = cipher.decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new) else {
        return Ok(None);
    };
    let keys: Keys = serde_json::from_slice(&text).map_err(|_| damaged())?;
    if keys.vault.is_empty() { Err(damaged()) } else { Ok(Some(keys)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(byte: u8) -> MasterKey {
        MasterKey::from_bytes([byte; 32])
    }

    #[test]
    fn row_24_the_ring_opens_with_its_master_key_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Keyring::open(folder.path(), &master(1), None).expect("is made");
        let again = Keyring::open(folder.path(), &master(1), None).expect("opens");
        assert_eq!(*first.journal(), *again.journal());
        assert_ne!(*first.journal(), *first.audit());
        let error = Keyring::open(folder.path(), &master(2), None).map(drop).expect_err("does not open");
        assert!(error.to_string().contains("does not fit"), "{error}");
        let stored = fs::read(folder.path().join(FILE)).expect("is there");
        let text = hex::encode(*first.journal());
        assert!(!String::from_utf8_lossy(&stored).contains(&text));
    }

    #[test]
    fn row_24_a_new_master_key_takes_over_at_once_and_the_old_one_opens_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = Keyring::open(folder.path(), &master(1), None).expect("is made");
        let journal = ring.journal();
        ring.change_master(&master(2), || Ok(())).expect("is changed");
        assert_eq!(ring.vault_key().0, 2);
        assert!(ring.vault_key_of(1).is_some(), "still needed");
        ring.retire().expect("is retired");
        assert!(ring.vault_key_of(1).is_none());
        assert!(Keyring::open(folder.path(), &master(1), None).is_err());
        let again = Keyring::open(folder.path(), &master(2), None).expect("opens");
        assert_eq!((*again.journal(), again.vault_key().0), (*journal, 2));
    }

    #[test]
    fn a_change_that_is_cut_short_leaves_a_pair_that_fits() {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = Keyring::open(folder.path(), &master(1), None).expect("is made");
        // Before the new key took its place: the old one opens.
        let error = ring.change_master(&master(2), || Err("the disk is full".into())).expect_err("fails");
        assert_eq!(error, "the disk is full");
        Keyring::open(folder.path(), &master(1), None).expect("opens");
        // After it: the process dies before the file is renamed.
        let file = folder.path().join(FILE);
        let before = fs::read(&file).expect("is there");
        ring.change_master(&master(2), || Ok(())).expect("is changed");
        fs::rename(&file, folder.path().join(NEXT)).expect("is moved");
        fs::write(&file, before).expect("is written");
        let again = Keyring::open(folder.path(), &master(2), None).expect("opens");
        assert_eq!(*again.journal(), *ring.journal());
        assert!(!folder.path().join(NEXT).exists());
    }

    #[test]
    fn a_start_with_a_new_key_and_the_previous_one_changes_the_seal() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Keyring::open(folder.path(), &master(1), None).expect("is made");
        let second = Keyring::open(folder.path(), &master(2), Some(&master(1))).expect("opens");
        assert_eq!(*first.journal(), *second.journal());
        assert_eq!(second.vault_key().0, 2);
        Keyring::open(folder.path(), &master(2), None).expect("opens without the previous one");
    }
}
