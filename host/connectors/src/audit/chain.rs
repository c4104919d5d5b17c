//! The hash chain. A line of the log is a JSON object that ends with the hash of the line before and its own.
//!
//! `{"sequence":2,…,"previous":"<64 digits>","hash":"<64 digits>"}`: the hash is HMAC-SHA-256 over the line's bytes before
//! `,"hash"`. Since `previous` is among them, no line can be changed, moved or taken out without changing all that
//! follow, and without the key no hash can be made.

use std::{fmt, str::FromStr};

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::entry::{Accepted, Kind, Removed};

/// `,"hash":"` and `"}` around the digits.
const OPENING: &[u8] = br#","hash":""#;
const CLOSING: &[u8] = br#""}"#;
const DIGITS: usize = 64;

/// The hash before the first.
pub(super) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// How far the log goes. Kept elsewhere, it shows when the end of the log was cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The sequence of the last entry; 0 for an empty log.
    pub(crate) sequence: u64,
    /// Its hash.
    pub(crate) hash: String,
}

impl fmt::Display for Head {
    /// The form that is kept elsewhere: `<sequence>:<hash>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let head = || {
            let (sequence, hash) = text.trim().split_once(':')?;
            let is_hash =
                hash.len() == DIGITS && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            Some(Self { sequence: sequence.parse().ok()?, hash: Some(hash.to_owned()).filter(|_| is_hash)? })
        };
        head().ok_or_else(|| "a head looks like 42:<64 digits>, as `airlock audit head` prints it".into())
    }
}

impl Head {
    pub(super) fn empty() -> Self {
        Self { sequence: 0, hash: NOTHING.into() }
    }
}

/// What makes and checks hashes.
#[derive(Clone)]
pub(super) struct Chain(Hmac<Sha256>);

/// The links of a line that was not changed.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    pub(super) sequence: u64,
    pub(super) previous: String,
    pub(super) hash: String,
    #[serde(default)]
    kind: Option<Kind>,
    #[serde(default)]
    removed: Option<Removed>,
    #[serde(default)]
    accepted: Option<Accepted>,
}

impl Link {
    /// What it says was removed, if that is what the entry is about.
    pub(super) fn removed(self) -> Option<Removed> {
        self.removed.filter(|_| self.kind == Some(Kind::LogTrimmed))
    }

    /// Which break it accepts, if that is what the entry is about.
    pub(super) fn accepted(self) -> Option<Accepted> {
        self.accepted.filter(|_| self.kind == Some(Kind::LogAccepted))
    }
}

impl Chain {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        // HMAC fills a short key up with zeros (RFC 2104 §2).
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(key);
        Self(Hmac::new((&*block).into()))
    }

    /// Adds its hash and a line feed to a line, a JSON object, and gives the hash.
    pub(super) fn seal(&self, line: &mut Vec<u8>) -> String {
        debug_assert_eq!(line.last(), Some(&b'}'));
        line.pop();
        let hash = hex::encode(self.0.clone().chain_update(&line).finalize().into_bytes());
        line.extend(OPENING);
        line.extend(hash.as_bytes());
        line.extend(CLOSING);
        line.push(b'\n');
        hash
    }

    /// The links of a line without its line feed; none if its hash is not right.
    pub(super) fn check(&self, line: &[u8]) -> Option<Link> {
        let open = line.strip_suffix(CLOSING)?;
        let (open, digits) = open.split_at_checked(open.len().checked_sub(DIGITS)?)?;
        let covered = open.strip_suffix(OPENING)?;
        // There is one way to write a hash.
        let hash = hex::decode(digits).ok().filter(|_| !digits.iter().any(u8::is_ascii_uppercase))?;
        self.0.clone().chain_update(covered).verify_slice(&hash).ok()?;
        serde_json::from_slice(line).ok()
    }
}

/// The sequence of a line, read without looking at the rest.
pub(super) fn sequence(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(br#"{"sequence":"#)?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}
