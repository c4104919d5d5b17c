//! Changes of inputs: bits and bytes, pieces that are gone, stand twice or elsewhere, numbers without measure, nesting without
//! end, and what means something where it should not stand.

use std::ops::Range;

use proptest::prelude::*;

/// What many readers take for something else.
const WORDS: [&[u8]; 30] = [
    b"\0",
    b"\xff",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b"\xc3\x28",
    b"\r",
    b"\r\n\r\n",
    b"\"",
    b"'",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"\"\"",
    b"NaN",
    b"-Infinity",
    b"..",
    b"%2f",
    b"#",
    b"$ref",
    b":",
    b",",
    b"\xe2\x80\xae",
    b"\xf0\x9f\x98\x80",
    b"__proto__",
];

const NUMBERS: [&[u8]; 20] = [
    b"0",
    b"-0",
    b"00",
    b"-1",
    b"1e999",
    b"-1e999",
    b"1e-999",
    b"0.1e1000000000",
    b"127",
    b"128",
    b"255",
    b"65536",
    b"2147483648",
    b"4294967296",
    b"9007199254740993",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"123456789012345678901234567890",
    b"0.000000000000000000000000000000000001",
];

/// What opens something, and what closes it.
const NESTING: [(&[u8], &[u8]); 7] = [
    (b"[", b"]"),
    (b"{\"a\":", b"}"),
    (b"{", b"}"),
    (b"{a: ", b"}"),
    (b"(", b")"),
    (b"\"", b"\""),
    (b"\\", b""),
];

/// Where pieces begin and end in most languages.
const BETWEEN: &[u8] = b",;:{}[]()\"'\n \t=&<>/.";

pub(crate) struct Mutations {
    pub(crate) words: Vec<Vec<u8>>,
    pub(crate) longest: usize,
}

impl Mutations {
    /// Changes an input in a few places. `others` are some to take pieces of.
    pub(crate) fn change(&self, input: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut impl Rng) {
        input.truncate(self.longest);
        let times = [1, 1, 1, 2, 2, 3, 5, 8];
        for _ in 0..times[rng.random_range(0..times.len())] {
            self.once(input, others, rng);
            input.truncate(self.longest);
        }
    }

    fn once(&self, input: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut impl Rng) {
        let piece = if rng.random_range(0..2) == 0 { range(input.len(), rng) } else { token(input, rng) };
        let at = rng.random_range(0..=input.len());
        match rng.random_range(0..15) {
            0 => flip(input, rng),
            1 => put(input, at..(at + 1).min(input.len()), &[rng.random_range(0..=255)]),
            2 => put(input, piece, &[]),
            3 => input.truncate(at),
            // The same once more, here or elsewhere.
            4 => {
                let copy = input[piece.clone()].to_vec();
                put(input, piece.end..piece.end, &copy);
            }
            5 => {
                let copy = input[piece].to_vec();
                put(input, at..at, &copy);
            }
            6 => put(input, piece, self.word(rng)),
            7 | 8 => put(input, at..at, self.word(rng)),
            9 => number(input, rng),
            10 => self.nest(input, piece, rng),
            // With a piece of another, or its end.
            11 => {
                let other = &others[rng.random_range(0..others.len())];
                let from =
                    if rng.random_range(0..2) == 0 { range(other.len(), rng) } else { token(other, rng) };
                put(input, piece, &other[from]);
            }
            12 => {
                let other = &others[rng.random_range(0..others.len())];
                let from = rng.random_range(0..=other.len());
                put(input, at..input.len(), &other[from..]);
            }
            13 => member(input, rng),
            _ => {
                let times = 1 << rng.random_range(1..12_u32);
                let some = input[piece.clone()].repeat(times.min(self.longest / piece.len().max(1)));
                put(input, piece, &some);
            }
        }
    }

    fn word<'a>(&'a self, rng: &mut impl Rng) -> &'a [u8] {
        let number = rng.random_range(0..2 * self.words.len() + WORDS.len() + 4);
        match self.words.get(number / 2) {
            Some(word) => word,
            None if number % 5 == 0 => NUMBERS[rng.random_range(0..NUMBERS.len())],
            None => WORDS[rng.random_range(0..WORDS.len())],
        }
    }

    /// Puts something into many levels.
    fn nest(&self, input: &mut Vec<u8>, piece: Range<usize>, rng: &mut impl Rng) {
        let (open, close) = NESTING[rng.random_range(0..NESTING.len())];
        let room = self.longest.saturating_sub(input.len()) / (open.len() + close.len());
        let levels = (1 << rng.random_range(0..14_u32)).min(room);
        let close = if rng.random_range(0..4) == 0 { Vec::new() } else { close.repeat(levels) };
        let nested = [open.repeat(levels), input[piece.clone()].to_vec(), close].concat();
        put(input, piece, &nested);
    }
}

fn put(input: &mut Vec<u8>, place: Range<usize>, what: &[u8]) {
    input.splice(place, what.iter().copied());
}

fn flip(input: &mut [u8], rng: &mut impl Rng) {
    if !input.is_empty() {
        let at = rng.random_range(0..input.len());
        input[at] ^= 1 << rng.random_range(0..8_u32);
    }
}

/// Any range, more often a short one.
fn range(len: usize, rng: &mut impl Rng) -> Range<usize> {
    let at = rng.random_range(0..=len);
    let most = if rng.random_range(0..4) == 0 { len } else { 16 };
    at..(at + rng.random_range(0..=most)).min(len)
}

/// What stands between two signs.
fn token(input: &[u8], rng: &mut impl Rng) -> Range<usize> {
    let is_between = |byte: &u8| BETWEEN.contains(byte);
    let at = rng.random_range(0..=input.len());
    let begin = input[..at].iter().rposition(is_between).map_or(0, |place| place + 1);
    let end = input[at..].iter().position(is_between).map_or(input.len(), |place| at + place);
    begin..end
}

/// Another number where one stands.
fn number(input: &mut Vec<u8>, rng: &mut impl Rng) {
    let at = rng.random_range(0..=input.len());
    let Some(begin) = input[at..].iter().position(u8::is_ascii_digit).map(|place| at + place) else { return };
    let digits = input[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    put(input, begin..begin + digits, NUMBERS[rng.random_range(0..NUMBERS.len())]);
}

/// What stands between two commas or lines once more: a member twice, an entry twice.
fn member(input: &mut Vec<u8>, rng: &mut impl Rng) {
    let ends: &[u8] = if input.contains(&b',') && rng.random_range(0..2) == 0 { b"," } else { b"\n" };
    let at = rng.random_range(0..=input.len());
    let begin = input[..at].iter().rposition(|byte| ends.contains(byte)).map_or(0, |place| place + 1);
    let end = input[at..].iter().position(|byte| ends.contains(byte)).map_or(input.len(), |place| at + place);
    let again = [ends, &input[begin..end]].concat();
    put(input, end..end, &again);
}
