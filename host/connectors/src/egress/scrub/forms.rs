//! What a secret may look like when it comes back.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::Value;
use zeroize::Zeroizing;

use super::SHORTEST;

/// A text to look for.
#[derive(PartialEq, Eq)]
pub(super) struct Form {
    bytes: Zeroizing<Vec<u8>>,
    /// The same with the digits of its escapes in the other case, either of which is the form; empty if it has none.
    other: Zeroizing<Vec<u8>>,
}

impl Form {
    fn exact(text: impl Into<Vec<u8>>) -> Self {
        Self { bytes: Zeroizing::new(text.into()), other: Zeroizing::default() }
    }

    fn either(lower: String, upper: String) -> Self {
        let (bytes, upper) = (Zeroizing::new(lower.into_bytes()), Zeroizing::new(upper.into_bytes()));
        let other = if bytes == upper { Zeroizing::default() } else { upper };
        Self { bytes, other }
    }

    /// Every digit of it may be in either case.
    fn hexadecimal(text: String) -> Self {
        let upper = text.to_ascii_uppercase();
        Self::either(text, upper)
    }

    /// Each character as `escape` writes it, in lower case.
    fn escaped(text: &str, escape: impl Fn(char) -> Option<String>) -> Self {
        let (mut lower, mut upper) = (String::new(), String::new());
        for character in text.chars() {
            let Some(escaped) = escape(character).map(Zeroizing::new) else {
                [&mut lower, &mut upper].into_iter().for_each(|text| text.push(character));
                continue;
            };
            lower.push_str(&escaped);
            // What is shorter, as `\b` is, has no digits.
            let has_digits = escaped.len() > 2;
            upper.extend(escaped.chars().map(|letter| match letter {
                'a'..='f' if has_digits => letter.to_ascii_uppercase(),
                other => other,
            }));
        }
        Self::either(lower, upper)
    }

    /// As it is inside a JSON text.
    fn quoted(&self) -> Self {
        let quoted = |bytes: &[u8]| {
            let mut text = Vec::with_capacity(bytes.len() + 8);
            for &byte in bytes {
                if matches!(byte, b'"' | b'\\') {
                    text.push(b'\\');
                }
                text.push(byte);
            }
            Zeroizing::new(text)
        };
        Self { bytes: quoted(&self.bytes), other: quoted(&self.other) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the text begins with it.
    pub(super) fn begins(&self, text: &[u8]) -> bool {
        if self.other.is_empty() {
            return text.starts_with(&self.bytes);
        }
        let either = self.bytes.iter().zip(self.other.iter());
        text.len() >= self.len() && either.zip(text).all(|((one, other), byte)| byte == one || byte == other)
    }
}

/// The forms of a secret: as it is, in base64 at each position, in JSON as different languages write it and in JSON inside
/// JSON, percent-encoded once and twice and as forms have it, in hexadecimal digits, in HTML and XML. What is encoded in other ways, or
/// several times, is [undone](super::search) first.
pub(super) fn of(secret: &str) -> Vec<Form> {
    // As forms have it, and inside base64 the authorization of OAuth clients (RFC 6749 §2.3.1).
    let form: Zeroizing<String> =
        Zeroizing::new(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    let mut forms = vec![Form::exact(secret), Form::hexadecimal(hex::encode(secret))];
    for between in [" ", ":"] {
        let digits: Vec<String> = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        forms.push(Form::hexadecimal(digits.join(between)));
    }
    // YAML, SQL and CSV write quotes twice.
    for quote in ["'", "\""].into_iter().filter(|quote| secret.contains(quote)) {
        forms.push(Form::exact(secret.replace(quote, &quote.repeat(2))));
    }
    if secret.contains(' ') {
        // Of what forms have, when the rest of it was undone.
        forms.push(Form::exact(secret.replace(' ', "+")));
    }
    forms.extend(in_base64(secret));
    if *form != secret {
        forms.extend(in_base64(&form));
    }
    forms.extend(in_urls(secret));
    forms.extend(in_json(secret));
    forms.extend(in_html(secret));
    forms.sort_unstable_by(|a, b| a.bytes.cmp(&b.bytes).then_with(|| b.other.cmp(&a.other)));
    // Of the same bytes the one with more cases comes first.
    forms.dedup_by(|second, first| {
        second.bytes == first.bytes && (second == first || second.other.is_empty())
    });
    forms
}

/// Inside a longer text, such as `user:secret`, base64 depends on the position modulo three. The characters that mix with a
/// neighbour are left out.
fn in_base64(secret: &str) -> Vec<Form> {
    let mut forms = Vec::new();
    for shift in 0..3usize {
        let mut padded = Zeroizing::new(vec![0; shift]);
        padded.extend(secret.as_bytes());
        let (first, whole) = ([0, 2, 3][shift], padded.len() * 4 / 3);
        for text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)].map(Zeroizing::new) {
            let last = whole.min(text.len());
            forms.extend(text.get(first..last).filter(|middle| middle.len() >= SHORTEST).map(Form::exact));
        }
    }
    forms
}

/// Percent-encoded (RFC 3986 §2.1), as `encodeURIComponent` does it, as forms have it, and each of them twice.
fn in_urls(secret: &str) -> Vec<Form> {
    let percent = |kept: &'static str, space: &'static str, sign: &'static str| {
        Form::escaped(secret, move |character| match character {
            ' ' if !space.is_empty() => Some(space.to_owned()),
            _ if character.is_ascii_alphanumeric() || kept.contains(character) => None,
            _ => {
                let mut buffer = [0; 4];
                let bytes = character.encode_utf8(&mut buffer).bytes();
                Some(bytes.map(|byte| format!("{sign}{byte:02x}")).collect())
            }
        })
    };
    ["%", "%25"]
        .into_iter()
        .flat_map(|sign| {
            let plus = if sign == "%" { "+" } else { "%2b" };
            [percent("-._~", "", sign), percent("-._~!*'()", "", sign), percent("*-._", plus, sign)]
        })
        .collect()
}

/// In a JSON text that is itself a text: as most write it, with `\/` (PHP), with `<`, `>` and `&` escaped (Go), with
/// everything escaped that is not ASCII (Python, PHP); and in such a text inside such a text.
fn in_json(secret: &str) -> Vec<Form> {
    let mut forms = Vec::new();
    for (slash, html, ascii) in [false, true]
        .into_iter()
        .flat_map(|slash| [(slash, false, false), (slash, false, true), (slash, true, false)])
    {
        forms.push(Form::escaped(secret, |character| match character {
            '/' if slash => Some(r"\/".to_owned()),
            '<' | '>' | '&' if html => Some(format!(r"\u{:04x}", u32::from(character))),
            _ if ascii && !character.is_ascii() => {
                let units = character.encode_utf16(&mut [0; 2]).to_vec();
                Some(units.into_iter().map(|unit| format!(r"\u{unit:04x}")).collect())
            }
            '"' | '\\' | '\0'..='\x1f' => {
                let text = Value::from(String::from(character)).to_string();
                Some(text[1..text.len() - 1].to_owned())
            }
            _ => None,
        }));
    }
    let twice: Vec<Form> = forms.iter().map(Form::quoted).collect();
    forms.extend(twice);
    forms
}

/// In HTML and XML, which escape quotes in different ways or not at all.
fn in_html(secret: &str) -> Vec<Form> {
    let mut forms = Vec::new();
    if !secret.contains(['&', '<', '>', '"', '\'']) {
        return forms;
    }
    for quote in ["\"", "&quot;", "&#34;"] {
        for apostrophe in ["'", "&apos;", "&#39;", "&#039;", "&#x27;"] {
            let mut text = Zeroizing::new(String::new());
            for character in secret.chars() {
                match character {
                    '&' => text.push_str("&amp;"),
                    '<' => text.push_str("&lt;"),
                    '>' => text.push_str("&gt;"),
                    '"' => text.push_str(quote),
                    '\'' => text.push_str(apostrophe),
                    other => text.push(other),
                }
            }
            forms.push(Form::exact(text.as_bytes()));
        }
    }
    forms
}
