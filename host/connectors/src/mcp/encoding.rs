//! Bytes of answers as UTF-8 without a mark of the byte order. JSON and server-sent events are UTF-8 (RFC 8259 §8.1), but
//! some servers put a mark in front of it, and some write UTF-16.

use bytes::Bytes;
use futures::{
    StreamExt as _, future,
    stream::{self, BoxStream},
};

use crate::egress::Unanswered;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Utf8,
    LittleEndian,
    BigEndian,
}

/// Turns bytes into UTF-8 as they come.
#[derive(Default)]
struct Decoder {
    form: Option<Form>,
    /// Bytes that tell nothing yet.
    held: Vec<u8>,
}

/// A body in UTF-8 without a mark.
pub(super) fn utf8(
    body: BoxStream<'static, Result<Bytes, Unanswered>>,
) -> BoxStream<'static, Result<Bytes, Unanswered>> {
    let pieces = body.map(Some).chain(stream::once(future::ready(None)));
    let decoded = pieces.scan(Decoder::default(), |decoder, piece| {
        future::ready(Some(match piece {
            Some(Ok(bytes)) => Ok(decoder.push(bytes)),
            Some(Err(broken)) => Err(broken),
            None => Ok(decoder.end()),
        }))
    });
    let is_something = |piece: &Result<Bytes, _>| !piece.as_ref().is_ok_and(Bytes::is_empty);
    decoded.filter(move |piece| future::ready(is_something(piece))).boxed()
}

impl Decoder {
    fn push(&mut self, bytes: Bytes) -> Bytes {
        match self.form {
            Some(Form::Utf8) => bytes,
            Some(form) => {
                self.held.extend_from_slice(&bytes);
                self.units(form, false)
            }
            None => {
                self.held.extend_from_slice(&bytes);
                let Some((form, mark)) = form(&self.held) else { return Bytes::new() };
                self.begin(form, mark)
            }
        }
    }

    fn begin(&mut self, form: Form, mark: usize) -> Bytes {
        self.form = Some(form);
        self.held.drain(..mark);
        match form {
            Form::Utf8 => std::mem::take(&mut self.held).into(),
            form => self.units(form, false),
        }
    }

    fn end(&mut self) -> Bytes {
        match self.form {
            Some(Form::Utf8) => Bytes::new(),
            Some(form) => self.units(form, true),
            None => std::mem::take(&mut self.held).into(),
        }
    }

    /// What the held units say, but for half a character that may still become whole.
    fn units(&mut self, form: Form, is_end: bool) -> Bytes {
        let unit = |pair: &[u8]| match form {
            Form::BigEndian => u16::from_be_bytes([pair[0], pair[1]]),
            _ => u16::from_le_bytes([pair[0], pair[1]]),
        };
        let mut units: Vec<u16> = self.held.chunks_exact(2).map(unit).collect();
        if !is_end && units.last().is_some_and(|last| (0xd800..0xdc00).contains(last)) {
            units.pop();
        }
        self.held.drain(..units.len() * 2);
        String::from_utf16_lossy(&units).into()
    }
}

/// What the first bytes are, and how many of them are a mark; none if they do not tell yet. What is read here begins with
/// a character of ASCII.
fn form(begin: &[u8]) -> Option<(Form, usize)> {
    match begin {
        [0xef, 0xbb, 0xbf, ..] => Some((Form::Utf8, 3)),
        [] | [_] | [0xef, 0xbb] => None,
        [0xff, 0xfe, ..] => Some((Form::LittleEndian, 2)),
        [0xfe, 0xff, ..] => Some((Form::BigEndian, 2)),
        [0, byte, ..] if *byte != 0 => Some((Form::BigEndian, 0)),
        [byte, 0, ..] if *byte != 0 => Some((Form::LittleEndian, 0)),
        _ => Some((Form::Utf8, 0)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut decoder = Decoder::default();
        let mut text: Vec<u8> =
            bytes.chunks(size.max(1)).flat_map(|piece| decoder.push(piece.to_vec().into())).collect();
        text.extend(decoder.end());
        text
    }

    proptest! {
        #[test]
        fn a_text_is_the_same_in_every_form_and_however_it_is_cut(text in "[\\[{d:][\u{0}-\u{10ffff}]{1,40}", size in 1..9_usize) {
            let utf16 = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> { text.encode_utf16().flat_map(bytes).collect() };
            let with = |mark: &[u8], bytes: &[u8]| [mark, bytes].concat();
            let (little, big) = (utf16(u16::to_le_bytes), utf16(u16::to_be_bytes));
            // The second character may be one that nobody writes there.
            prop_assume!(!text[1..].starts_with('\0'));
            for bytes in [
                text.as_bytes().to_vec(), with(b"\xef\xbb\xbf", text.as_bytes()),
                little.clone(), with(b"\xff\xfe", &little), big.clone(), with(b"\xfe\xff", &big),
            ] {
                prop_assert_eq!(decoded(&bytes, size), text.as_bytes());
            }
        }

        #[test]
        fn no_bytes_stop_it(bytes in any::<Vec<u8>>(), size in 1..5_usize) {
            decoded(&bytes, size);
        }
    }
}
