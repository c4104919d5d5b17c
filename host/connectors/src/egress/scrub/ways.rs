//! What the secrets are made of. It says which places of a text are worth undoing.

use super::{SHORTEST, numbers::Numeral};

/// How much longer a secret becomes by what is undone in several steps, at most.
const GROWTH: usize = 36;

/// About all secrets.
pub(super) struct Ways {
    /// Bytes that may stand in a secret, or in one that was encoded.
    possible: Box<[bool; 256]>,
    /// Pairs of bytes that follow each other in a secret.
    pairs: Box<[u64]>,
    /// How many bytes the shortest one has.
    pub(super) shortest: usize,
    /// How far around what is undone a secret may reach.
    pub(super) context: usize,
    /// Some of them are more than ASCII.
    pub(super) is_wide: bool,
    /// Those that may stand in a number.
    pub(super) numerals: Vec<Numeral>,
    /// The kinds of escapes, a bit each, that some of them look like.
    pub(super) looks_like: u8,
}

/// What the encodings that are undone write.
fn is_of_encodings(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"\\/&#;%+-_=\0\r\n".contains(&byte)
}

fn pair(before: u8, after: u8) -> (usize, u64) {
    let bit = usize::from(before) << 8 | usize::from(after);
    (bit / 64, 1 << (bit % 64))
}

impl Ways {
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a str> + Clone, looks_like: u8) -> Self {
        let is_wide = secrets.clone().any(|secret| !secret.is_ascii());
        let mut possible = Box::new([is_wide; 256]);
        let mut pairs = vec![0_u64; 1 << 10].into_boxed_slice();
        (0..=u8::MAX)
            .filter(|&byte| is_of_encodings(byte))
            .for_each(|byte| possible[usize::from(byte)] = true);
        for secret in secrets.clone() {
            secret.bytes().for_each(|byte| possible[usize::from(byte)] = true);
            for both in secret.as_bytes().windows(2) {
                let (place, bit) = pair(both[0], both[1]);
                pairs[place] |= bit;
            }
        }
        let longest = secrets.clone().map(str::len).max().unwrap_or_default();
        let shortest = secrets.clone().map(str::len).min().unwrap_or_default().max(SHORTEST);
        let numerals = secrets.filter_map(Numeral::of_secret).collect();
        Self { possible, pairs, shortest, context: GROWTH * longest + 64, is_wide, numerals, looks_like }
    }

    pub(super) fn possible(&self) -> &[bool; 256] {
        &self.possible
    }

    /// Whether some secret may go on behind a line break between these two.
    pub(super) fn is_pair(&self, before: Option<&u8>, after: Option<&u8>) -> bool {
        let (Some(&before), Some(&after)) = (before, after) else { return false };
        let (place, bit) = pair(before, after);
        self.pairs[place] & bit != 0
    }
}
