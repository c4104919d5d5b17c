//! The text of a JSON document with the escapes of its strings undone.

use std::borrow::Cow;

/// The document with what its escapes stand for. Each text in it stands there as one piece. None if an escape is not right.
pub(super) fn unescaped(document: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(first) = escape(document) else { return Some(Cow::Borrowed(document)) };
    let mut text = Vec::with_capacity(document.len());
    let (mut rest, mut next) = (document, Some(first));
    while let Some(at) = next {
        text.extend_from_slice(&rest[..at]);
        rest = one(&rest[at + 1..], &mut text)?;
        next = escape(rest);
    }
    text.extend_from_slice(rest);
    Some(Cow::Owned(text))
}

fn escape(text: &[u8]) -> Option<usize> {
    memchr::memchr(b'\\', text)
}

/// Reads what follows a backslash, and gives what follows that.
fn one<'a>(text: &'a [u8], into: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (letter, rest) = text.split_first()?;
    let byte = match letter {
        b'"' | b'\\' | b'/' => *letter,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unicode(rest, into),
        _ => return None,
    };
    into.push(byte);
    Some(rest)
}

/// Reads what follows `\u`, which may be half of a character, and then the other half as well.
fn unicode<'a>(text: &'a [u8], into: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (first, mut rest) = unit(text)?;
    let character = match char::from_u32(first) {
        Some(character) => character,
        None => {
            let (second, after) = unit(rest.strip_prefix(br"\u")?)?;
            rest = after;
            char::decode_utf16([first as u16, second as u16]).next()?.ok()?
        }
    };
    into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

fn unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let mut digits = digits.iter().map(|&digit| char::from(digit).to_digit(16));
    Some((digits.try_fold(0, |sum, digit| Some(sum * 16 + digit?))?, rest))
}
