//! Sealing of histories at rest.

use airlock_engine::{
    ExecutionKey, Principal,
    history::{self, CorruptRecord, LARGE_PAYLOAD, Record, UnixMs},
    store::{Append, StoreError},
};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use rand::Rng;

use crate::reference::Reference;

const NONCE: usize = 24;

/// Opens and closes rows of the journal.
pub(crate) struct Seal(XChaCha20Poly1305);

/// A record ready to be written.
pub(crate) struct Row {
    /// How many event numbers it takes up.
    pub(crate) events: u64,
    /// Sealed: the record, or a reference to the object that holds it.
    pub(crate) body: Vec<u8>,
    /// Where that object is.
    pub(crate) object: Option<Reference>,
}

impl Row {
    /// Whether the body goes into the object store.
    pub(crate) fn is_large(&self) -> bool {
        self.body.len() > LARGE_PAYLOAD
    }
}

impl Seal {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// Encodes and seals the records of an append.
    pub(crate) fn close(&self, append: &Append) -> Vec<Row> {
        let rows = append.records.iter().zip(append.index..);
        rows.map(|(record, index)| Row {
            events: record.event_count(),
            body: self.seal_at(&history::encode(append.at, record), append.key, index, owner(append)),
            object: None,
        })
        .collect()
    }

    /// Seals bytes for a place: nonce, then ciphertext with its tag.
    pub(crate) fn seal(&self, bytes: &[u8], place: &[u8]) -> Vec<u8> {
        // 192 bits at random do not repeat in the life of a key.
        let nonce: [u8; NONCE] = rand::rng().random();
        let mut sealed = Vec::with_capacity(NONCE + bytes.len() + 16);
        sealed.extend_from_slice(&nonce);
        // The cipher refuses only messages of 256 GB and more.
        let text =
            self.0.encrypt(&XNonce::from(nonce), Payload { msg: bytes, aad: place }).unwrap_or_default();
        sealed.extend_from_slice(&text);
        sealed
    }

    /// Opens what [`Seal::seal`] closed for the same place.
    pub(crate) fn open(&self, sealed: &[u8], place: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE>()?;
        self.0.decrypt(&XNonce::from(*nonce), Payload { msg: text, aad: place }).ok()
    }

    /// Seals bytes for a place in a history. The first place of a run belongs to the run's owner as well.
    pub(crate) fn seal_at(
        &self,
        bytes: &[u8],
        key: ExecutionKey,
        index: u32,
        owner: Option<&Principal>,
    ) -> Vec<u8> {
        match owner.filter(|_| index == 0) {
            Some(owner) => self.seal(bytes, &first_place(key, owner)),
            None => self.seal(bytes, &place(key, index)),
        }
    }

    /// Opens what stands at a place in a history. `owner` is that of the run, once it was compared with what is sealed.
    pub(crate) fn open_at(
        &self,
        sealed: &[u8],
        key: ExecutionKey,
        index: u32,
        owner: Option<&Principal>,
    ) -> Result<Vec<u8>, StoreError> {
        let first = owner.filter(|_| index == 0);
        let opened = first.and_then(|owner| self.open(sealed, &first_place(key, owner)));
        // Runs of before that have no owner in the seal, but in what is sealed.
        let opened = opened.or_else(|| self.open(sealed, &place(key, index))).ok_or_else(|| {
            CorruptRecord::Damaged("its seal is broken: the row was changed or moved".into())
        })?;
        Ok(opened)
    }

    pub(crate) fn open_record(
        &self,
        sealed: &[u8],
        key: ExecutionKey,
        index: u32,
        owner: Option<&Principal>,
    ) -> Result<(UnixMs, Record), StoreError> {
        Ok(history::decode(&self.open_at(sealed, key, index, owner)?)?)
    }
}

/// The owner of the run that begins with an append.
pub(crate) fn owner(append: &Append) -> Option<&Principal> {
    append.start.as_deref().map(|start| &start.row.principal)
}

/// What the first record of a run is bound to.
pub(crate) fn first_place(key: ExecutionKey, owner: &Principal) -> Vec<u8> {
    let Principal { user, workspace, organization } = owner;
    let mut bound = place(key, 0).to_vec();
    for name in [user.as_str(), workspace.as_str(), organization.as_str()] {
        bound.extend((name.len() as u64).to_le_bytes());
        bound.extend(name.as_bytes());
    }
    bound
}

/// What a sealed record is bound to.
fn place(key: ExecutionKey, index: u32) -> [u8; 12] {
    let mut place = [0; 12];
    place[..8].copy_from_slice(&key.0.to_le_bytes());
    place[8..].copy_from_slice(&index.to_le_bytes());
    place
}
