//! Runs: long words of one alphabet that may stand for bytes (base64, hexadecimal digits), and UTF-16.
//!
//! Nobody says where in a run an encoded text begins, so it is read from each place where it may. Of what comes out only
//! stretches are kept that may be a secret or an encoded one; of other bytes nearly none are.

use std::ops::Range;

use super::{
    lines::line_break,
    view::{Unit, View},
    ways::Ways,
};

/// Both alphabets of base64.
pub(super) const BASE64: [bool; 256] =
    class(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_");
const HEXADECIMAL: [bool; 256] = class(b"0123456789abcdefABCDEF");

/// What each letter of base64 is worth.
const SEXTETS: [u8; 256] = sextets();

/// Lines that are so long may go on in the next one.
const SHORTEST_LINE: usize = 40;

/// What is no character.
const NOTHING: char = '\u{ffff}';

/// Of each letter of base64, by its place in a group: whether the highest bit of a byte that it has is clear.
const CLEAR: [u8; 256] = clear();

const fn clear() -> [u8; 256] {
    let (mut clear, mut at) = ([0; 256], 0);
    while at < 256 {
        let worth = SEXTETS[at];
        clear[at] =
            (worth & 0x20 == 0) as u8 | ((worth & 0x08 == 0) as u8) << 1 | ((worth & 0x02 == 0) as u8) << 2;
        at += 1;
    }
    clear
}

const fn class(members: &[u8]) -> [bool; 256] {
    let (mut class, mut at) = ([false; 256], 0);
    while at < members.len() {
        class[members[at] as usize] = true;
        at += 1;
    }
    class
}

const fn sextets() -> [u8; 256] {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut worth, mut at) = ([0; 256], 0);
    while at < letters.len() {
        worth[letters[at] as usize] = at as u8;
        at += 1;
    }
    worth[b'-' as usize] = 62;
    worth[b'_' as usize] = 63;
    worth
}

/// Words of one alphabet that have a length, most of whose shorter ones are not even looked at.
struct Runs<'a> {
    text: &'a [u8],
    class: &'a [bool; 256],
    shortest: usize,
    at: usize,
}

impl<'a> Runs<'a> {
    fn new(text: &'a [u8], class: &'a [bool; 256], shortest: usize) -> Self {
        Self { text, class, shortest, at: 0 }
    }
}

impl Iterator for Runs<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            // A word that begins here has this byte.
            let last = self.at + self.shortest - 1;
            let word = self.text.get(self.at..=last)?;
            let is_member = |byte: &u8| self.class[usize::from(*byte)];
            if let Some(other) = word.iter().rposition(|byte| !is_member(byte)) {
                self.at += other + 1;
                continue;
            }
            let more = self.text[last + 1..].iter().take_while(|byte| is_member(byte)).count();
            let run = self.at..last + 1 + more;
            self.at = run.end + 1;
            return Some(run);
        }
    }
}

/// What was undone, and how many bytes were looked at for it.
pub(super) struct Undone {
    pub(super) view: View,
    pub(super) work: usize,
}

/// The words of a text that may be base64 or hexadecimal digits.
pub(super) fn words(text: &[u8], ways: &Ways) -> Vec<Range<usize>> {
    let mut words = Vec::with_capacity(text.len() / 128);
    words.extend(Runs::new(text, &BASE64, (ways.shortest * 4 / 3 + 1).min(SHORTEST_LINE)));
    words
}

/// What the base64 in a text stands for, also where it goes on in the next line. `of` is where the text came from: runs in
/// which nothing was undone are runs there as well.
pub(super) fn base64(text: &[u8], of: Option<&View>, words: &[Range<usize>], ways: &Ways) -> Undone {
    let (mut view, mut work, mut end) = (View::default(), 0, 0);
    let (mut lines, mut decoded) = (Vec::new(), Vec::new());
    for run in words.iter().cloned() {
        // It was read as the next lines of one before.
        if run.start < end {
            continue;
        }
        let is_space = |at: usize| matches!(text.get(at), Some(b' ' | b'\t' | b'\r' | b'\n'));
        let is_alone = !is_space(run.end) && !run.start.checked_sub(1).is_some_and(is_space);
        if is_alone && is_hopeless(&text[run.clone()], ways) {
            end = run.end;
            continue;
        }
        join(text, run, end, &mut lines);
        let whole = lines[0].start..lines[lines.len() - 1].end;
        end = whole.end;
        if of.is_some_and(|view| !view.is_changed(&whole))
            || lines.len() == 1 && is_hopeless(&text[whole], ways)
        {
            continue;
        }
        for phase in 0..4 {
            decode(text, &lines, phase, &mut decoded);
            work += decoded.len();
            for stretch in Runs::new(&decoded, ways.possible(), ways.shortest) {
                view.apart();
                let groups = stretch.start / 3..stretch.end.div_ceil(3);
                keep(&mut view, &lines, phase, groups, &decoded[..stretch.end]);
            }
        }
    }
    Undone { view, work }
}

/// The lines that a run goes over, none of which begins before `from`.
fn join(text: &[u8], run: Range<usize>, from: usize, lines: &mut Vec<Range<usize>>) {
    let is_member = |byte: &&u8| BASE64[usize::from(**byte)];
    lines.clear();
    let mut first = run.clone();
    loop {
        lines.push(first.clone());
        let before = &text[from..first.start];
        let indented = before.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        let end = first.start - indented.count();
        let is_break = line_break(&text[end..]).is_some_and(|len| end + len == first.start);
        let len = text[from..end].iter().rev().take_while(is_member).count();
        if !is_break || len == 0 {
            break;
        }
        first = end - len..end;
    }
    lines.reverse();
    let mut end = run.end;
    while let Some(begin) = line_break(&text[end..]).map(|len| end + len) {
        let len = text[begin..].iter().take_while(is_member).count();
        if len == 0 {
            break;
        }
        end = begin + len;
        lines.push(begin..end);
    }
}

/// Whether nothing in a run can be a secret, wherever one begins to read. Two groups of four letters, one after the other, are
/// in the middle of every secret, and of most groups of letters by chance one byte is not ASCII.
fn is_hopeless(run: &[u8], ways: &Ways) -> bool {
    if ways.is_wide {
        return false;
    }
    let is_possible = |at: usize| {
        let [a, b, c, d] = [0, 1, 2, 3].map(|letter| SEXTETS[usize::from(run[at + letter])]);
        [a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d].iter().all(|&byte| ways.possible()[usize::from(byte)])
    };
    // Of the last letters, and whether groups that begin with them are ASCII, the last one in the lowest bit.
    let (mut before, mut last, mut groups) = (0, 0, 0_u32);
    for (at, letter) in run.iter().enumerate() {
        let clear = CLEAR[usize::from(*letter)];
        groups = groups << 1 | u32::from(before & last >> 1 & clear >> 2 & 1);
        (before, last) = (last, clear);
        if groups & 0b1_0001 == 0b1_0001 && at + 1 < run.len() && is_possible(at - 6) && is_possible(at - 2) {
            return false;
        }
    }
    true
}

/// Decodes from a letter of the first line on.
fn decode(text: &[u8], lines: &[Range<usize>], phase: usize, into: &mut Vec<u8>) {
    into.clear();
    if let [line] = lines {
        let letters = text[line.clone()].get(phase..).unwrap_or_default();
        let mut groups = letters.chunks_exact(4);
        for group in &mut groups {
            let [a, b, c, d] = [0, 1, 2, 3].map(|at| SEXTETS[usize::from(group[at])]);
            into.extend_from_slice(&[a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d]);
        }
        return rest(groups.remainder().iter().copied(), into);
    }
    rest(lines.iter().flat_map(|line| text[line.clone()].iter().copied()).skip(phase), into);
}

fn rest(letters: impl Iterator<Item = u8>, into: &mut Vec<u8>) {
    let (mut bits, mut number) = (0_u32, 0);
    for letter in letters {
        bits = bits << 6 | u32::from(SEXTETS[usize::from(letter)]);
        number += 6;
        if number >= 8 {
            number -= 8;
            into.push((bits >> number) as u8);
        }
    }
}

/// Adds groups of three bytes to a view.
fn keep(view: &mut View, lines: &[Range<usize>], phase: usize, groups: Range<usize>, decoded: &[u8]) {
    let end = lines[lines.len() - 1].end;
    if let [line] = lines {
        let from = line.start + phase + 4 * groups.start..(line.start + phase + 4 * groups.end).min(end);
        return view.push(&decoded[3 * groups.start..], from, Unit::Groups(3, 4));
    }
    // Where the letter at a place of the run stands.
    let (mut line, mut before) = (0, 0);
    let mut place = |letter: usize| {
        while line + 1 < lines.len() && letter - before >= lines[line].len() {
            before += lines[line].len();
            line += 1;
        }
        (lines[line].start + letter - before).min(end)
    };
    for group in groups {
        let from = place(phase + 4 * group);
        let last = place(phase + 4 * group + 3).min(end - 1);
        let unit = if last - from == 3 { Unit::Groups(3, 4) } else { Unit::Whole };
        view.push(&decoded[3 * group..decoded.len().min(3 * group + 3)], from..last + 1, unit);
    }
}

/// What the hexadecimal digits in a text stand for.
pub(super) fn hexadecimal(text: &[u8], of: Option<&View>, words: &[Range<usize>], ways: &Ways) -> Undone {
    let (mut view, mut work, mut decoded) = (View::default(), 0, Vec::new());
    let shortest = ways.shortest * 2;
    // They are letters of base64 as well.
    for word in words.iter().filter(|word| word.len() >= shortest) {
        for run in Runs::new(&text[word.clone()], &HEXADECIMAL, shortest) {
            let run = word.start + run.start..word.start + run.end;
            if of.is_some_and(|view| !view.is_changed(&run)) {
                continue;
            }
            for begin in run.start..run.start + 2 {
                decoded.clear();
                let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
                let pairs = text[begin..run.end].chunks_exact(2);
                decoded.extend(pairs.map(|pair| digit(pair[0]) << 4 | digit(pair[1])));
                work += decoded.len();
                for stretch in Runs::new(&decoded, ways.possible(), ways.shortest) {
                    let from = begin + 2 * stretch.start..begin + 2 * stretch.end;
                    view.apart();
                    view.push(&decoded[stretch], from, Unit::Groups(1, 2));
                }
            }
        }
    }
    Undone { view, work }
}

/// UTF-16 in either order of bytes, from either of two bytes on.
pub(super) fn utf16(text: &[u8], ways: &Ways) -> Undone {
    let (mut view, mut work) = (View::default(), 0);
    if memchr::memchr(0, text).is_none() {
        return Undone { view, work };
    }
    for (begin, is_big) in [(0, false), (0, true), (1, false), (1, true)] {
        let units = text.get(begin..).unwrap_or_default().chunks_exact(2).map(|pair| match is_big {
            true => u16::from_be_bytes([pair[0], pair[1]]),
            false => u16::from_le_bytes([pair[0], pair[1]]),
        });
        work += text.len() / 2;
        let (mut stretch, mut at): (Vec<(char, Range<usize>)>, usize) = (Vec::new(), begin);
        let characters = char::decode_utf16(units).map(|character| character.unwrap_or(NOTHING));
        for character in characters.chain([NOTHING]) {
            let from = at..at + 2 * character.len_utf16();
            at = from.end;
            let is_possible = match u8::try_from(character) {
                Ok(byte) if byte < 128 => ways.possible()[usize::from(byte)],
                _ => ways.is_wide && character != NOTHING,
            };
            match is_possible {
                true => stretch.push((character, from)),
                false => keep_wide(&mut view, &mut stretch, ways),
            }
        }
    }
    Undone { view, work }
}

fn keep_wide(view: &mut View, stretch: &mut Vec<(char, Range<usize>)>, ways: &Ways) {
    // UTF-32 is UTF-16 with zeros between.
    let letters = stretch.iter().filter(|(character, _)| *character != '\0');
    if letters.map(|(character, _)| character.len_utf8()).sum::<usize>() >= ways.shortest {
        view.apart();
        for (character, from) in &*stretch {
            let unit = if character.is_ascii() { Unit::Groups(1, 2) } else { Unit::Whole };
            view.push(character.encode_utf8(&mut [0; 4]).as_bytes(), from.clone(), unit);
        }
    }
    stretch.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_by_their_length_alone() {
        let of = |text: &str| Runs::new(text.as_bytes(), &HEXADECIMAL, 4).collect::<Vec<_>>();
        assert_eq!(of("abc abcd xyz 0123456789"), [4..8, 13..23]);
        assert_eq!(of("abcd xyz"), vec![0..4; 1]);
        assert!(of("abcx").is_empty());
        assert!(of("").is_empty());
        assert_eq!(of("xabcdxabcx1234"), [1..5, 10..14]);
    }
}
