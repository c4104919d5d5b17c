//! The key above all keys. It is never stored in the database.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// 32 random bytes from which every other key is derived. It cannot be printed, compared, copied or serialised, and is
/// overwritten when it is dropped.
pub struct MasterKey([u8; 32]);

/// A text is not a master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a master key has 64 hexadecimal digits: make one with `openssl rand -hex 32`")]
pub struct InvalidMasterKey;

impl MasterKey {
    /// A key from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key from 64 hexadecimal digits; white space around them is ignored.
    pub fn from_hex(text: &str) -> Result<Self, InvalidMasterKey> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| InvalidMasterKey)?;
        Ok(Self(bytes))
    }

    /// A key for one purpose (HKDF-SHA256). Different labels give keys that say nothing about each other.
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        let expanded = Hkdf::<Sha256>::new(None, &self.0).expand(label.as_bytes(), key.as_mut());
        // 32 bytes are one block of SHA-256; only more than 255 blocks are refused.
        debug_assert!(expanded.is_ok());
        key
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_for_different_purposes_differ_and_are_stable() {
        let key = MasterKey::from_hex(&"07".repeat(32)).expect("a key");
        assert_eq!(*key.derive("a"), *MasterKey::from_bytes([7; 32]).derive("a"));
        assert_ne!(*key.derive("a"), *key.derive("b"));
        assert_ne!(*key.derive("a"), [0; 32]);
        assert!(MasterKey::from_hex("07").is_err());
    }
}
