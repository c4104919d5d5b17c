//! What stands in the journal for a record that is elsewhere.

use sha2::{Digest, Sha256};

/// The first byte of a reference. A record begins with the version of its format, which counts up from 1.
const KIND: u8 = 0xff;

/// Where an object is and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) path: String,
    pub(crate) length: u64,
    pub(crate) sha256: [u8; 32],
}

impl Reference {
    pub(crate) fn new(path: String, bytes: &[u8]) -> Self {
        Self { path, length: bytes.len() as u64, sha256: Sha256::digest(bytes).into() }
    }

    /// Whether these are the bytes.
    pub(crate) fn fits(&self, bytes: &[u8]) -> bool {
        self.length == bytes.len() as u64 && self.sha256 == <[u8; 32]>::from(Sha256::digest(bytes))
    }

    /// Kind, length, digest, path.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut encoded = vec![KIND];
        encoded.extend(self.length.to_le_bytes());
        encoded.extend(self.sha256);
        encoded.extend(self.path.as_bytes());
        encoded
    }

    /// `None` if it is not a reference.
    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let (&kind, rest) = row.split_first()?;
        if kind != KIND {
            return None;
        }
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let (sha256, path) = rest.split_first_chunk::<32>()?;
        let path = std::str::from_utf8(path).ok()?.to_owned();
        Some(Self { path, length: u64::from_le_bytes(*length), sha256: *sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_what_it_wrote_and_knows_its_bytes() {
        let reference = Reference::new("payloads/1/2-ab".into(), b"bytes");
        assert_eq!(Reference::decode(&reference.encode()), Some(reference.clone()));
        assert!(reference.fits(b"bytes") && !reference.fits(b"bites") && !reference.fits(b""));
        assert_eq!(Reference::decode(&[2, 3, 4]), None);
    }
}
