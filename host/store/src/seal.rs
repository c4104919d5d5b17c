//! Sealing of histories at rest.

use airlock_engine::{
    ExecutionKey, Principal,
    history::{self, CorruptRecord, LARGE_PAYLOAD, Record, UnixMs},
    store::{Append, StoreError},
};
use chacha20poly1305::{
    KeyInit, Tag, XChaCha20Poly1305, XNonce,
    aead::{Aead, AeadInOut, Payload},
};
use rand::Rng;

use crate::reference::Reference;

const NONCE: usize = 24;
const TAG: usize = 16;

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
            body: self.seal_in_place(
                history::encode_between(append.at, record, NONCE, TAG),
                &bound(append.key, index, owner(append)),
            ),
            object: None,
        })
        .collect()
    }

    /// Seals bytes for a place: nonce, then ciphertext with its tag.
    pub(crate) fn seal(&self, bytes: &[u8], place: &[u8]) -> Vec<u8> {
        let mut row = Vec::with_capacity(NONCE + bytes.len() + TAG);
        row.resize(NONCE, 0);
        row.extend_from_slice(bytes);
        self.seal_in_place(row, place)
    }

    /// The same for bytes behind a place for the nonce.
    fn seal_in_place(&self, mut row: Vec<u8>, place: &[u8]) -> Vec<u8> {
        // 192 bits at random do not repeat in the life of a key.
        let fresh: [u8; NONCE] = rand::rng().random();
        let Some((nonce, text)) = row.split_first_chunk_mut::<NONCE>() else { return Vec::new() };
        *nonce = fresh;
        match self.0.encrypt_inout_detached(&XNonce::from(fresh), place, text.into()) {
            Ok(tag) => row.extend_from_slice(&tag),
            // The cipher refuses only messages of 256 GB and more.
            Err(_) => row.clear(),
        }
        row
    }

    /// Opens what [`Seal::seal`] closed for the same place, without another copy of it. What does not open is as it was.
    fn open_in_place(&self, sealed: &mut Vec<u8>, place: &[u8]) -> bool {
        let Some((nonce, text)) = sealed.split_first_chunk_mut::<NONCE>() else { return false };
        let Some((text, tag)) = text.split_last_chunk_mut::<TAG>() else { return false };
        // The tag is checked before anything is written.
        let opened =
            self.0.decrypt_inout_detached(&XNonce::from(*nonce), place, text.into(), &Tag::from(*tag));
        if opened.is_err() {
            return false;
        }
        sealed.truncate(sealed.len() - TAG);
        sealed.drain(..NONCE);
        true
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
        self.seal(bytes, &bound(key, index, owner))
    }

    /// Opens what stands at a place in a history. `owner` is that of the run, once it was compared with what is sealed.
    pub(crate) fn open_at(
        &self,
        mut sealed: Vec<u8>,
        key: ExecutionKey,
        index: u32,
        owner: Option<&Principal>,
    ) -> Result<Vec<u8>, StoreError> {
        let first = owner.filter(|_| index == 0);
        let of_owner = first.is_some_and(|owner| self.open_in_place(&mut sealed, &first_place(key, owner)));
        // Runs of before that have no owner in the seal, but in what is sealed.
        if of_owner || self.open_in_place(&mut sealed, &place(key, index)) {
            return Ok(sealed);
        }
        Err(CorruptRecord::Damaged("its seal is broken: the row was changed or moved".into()).into())
    }

    pub(crate) fn open_record(
        &self,
        sealed: Vec<u8>,
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

/// What a record at a place is bound to.
fn bound(key: ExecutionKey, index: u32, owner: Option<&Principal>) -> Vec<u8> {
    match owner.filter(|_| index == 0) {
        Some(owner) => first_place(key, owner),
        None => place(key, index).to_vec(),
    }
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
