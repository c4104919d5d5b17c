//! What services do to a secret before they give it back, and how it is found again.

use std::collections::HashMap;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::Value;

/// A way to write a text.
pub struct Encoding {
    pub name: &'static str,
    pub encode: fn(&str) -> String,
}

macro_rules! encodings {
    ($($name:literal => $encode:expr,)*) => {
        pub const ENCODINGS: &[Encoding] = &[$(Encoding { name: $name, encode: $encode },)*];
    };
}

fn json(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn each(text: &str, escape: impl Fn(char) -> String) -> String {
    text.chars().map(escape).collect()
}

fn percent(text: &str, all: bool) -> String {
    let is_plain = |byte: u8| !all && (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// With something before and after it, so that it begins at another place of three.
fn base64(text: &str, before: &str) -> String {
    STANDARD_NO_PAD.encode(format!("{before}{text}z"))
}

fn wrapped(text: &str, column: usize, end: &str) -> String {
    // The line ends within the text.
    let encoded = STANDARD.encode(format!("{}{text}", "-".repeat(column * 3 / 4 - 6)));
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(column).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    lines.join(end)
}

/// Bytes of UTF-16, as a text: letters with a null before or after each.
fn wide(text: &str, is_big: bool) -> String {
    each(text, |letter| if is_big { format!("\0{letter}") } else { format!("{letter}\0") })
}

encodings! {
    "raw" => str::to_owned,
    "JSON" => json,
    "JSON with slashes" => |text| json(text).replace('/', "\\/"),
    "\\u" => |text| each(text, |letter| format!("\\u{:04x}", u32::from(letter))),
    "HTML" => |text| each(text, |letter| match letter {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '"' => "&quot;".into(),
        '\'' => "&#39;".into(),
        other => other.into(),
    }),
    "HTML in decimals" => |text| each(text, |letter| format!("&#{};", u32::from(letter))),
    "HTML in hexadecimal digits" => |text| each(text, |letter| format!("&#x{:X};", u32::from(letter))),
    "percent" => |text| percent(text, false),
    "percent, every byte" => |text| percent(text, true),
    "percent, small" => |text| percent(text, true).to_ascii_lowercase(),
    "base64" => |text| base64(text, ""),
    "base64, one further" => |text| base64(text, "a"),
    "base64, two further" => |text| base64(text, "ab"),
    "base64url" => |text| URL_SAFE_NO_PAD.encode(text),
    "base64url, one further" => |text| URL_SAFE_NO_PAD.encode(format!("?{text}?")),
    "base64 in lines of 76" => |text| wrapped(text, 76, "\r\n"),
    "base64 in lines of 64" => |text| wrapped(text, 64, "\n"),
    "hexadecimal" => |text| text.bytes().map(|byte| format!("{byte:02x}")).collect(),
    "HEXADECIMAL" => |text| text.bytes().map(|byte| format!("{byte:02X}")).collect(),
    "UTF-16, big" => |text| wide(text, true),
    "UTF-16, little" => |text| wide(text, false),
}

/// A secret as a service gives it back.
pub struct Form {
    pub text: String,
    pub way: String,
}

/// All ways alone and, with `pairs`, each in each, but for lines, whose pairs are tested beside the scrubber. Of those that nobody can tell apart from others there is one.
pub fn forms(secret: &str, pairs: bool) -> Vec<Form> {
    let mut all: Vec<Form> = Vec::new();
    for first in ENCODINGS {
        let inner = (first.encode)(secret);
        all.push(Form { text: inner.clone(), way: first.name.into() });
        if pairs {
            let both = ENCODINGS.iter().skip(1).filter(|_| !first.name.starts_with("base64 in lines"));
            let both = both.map(|second| Form {
                text: (second.encode)(&inner),
                way: format!("{} in {}", first.name, second.name),
            });
            all.extend(both);
        }
    }
    all.sort_by(|a, b| a.text.cmp(&b.text));
    all.dedup_by(|a, b| a.text == b.text);
    all
}

/// Texts to be looked for, many at once.
#[derive(Default)]
pub struct Needles {
    /// By the eight bytes they begin with.
    by_start: HashMap<[u8; 8], Vec<(Vec<u8>, String)>>,
}

impl Needles {
    /// What must not be left of a form: its middle, as it is and as JSON and Rust quote it.
    pub fn add(&mut self, form: &Form, name: &str) {
        let letters: Vec<char> = form.text.chars().collect();
        // Neighbours change the ends of base64, and what is removed may leave them.
        let spare = if letters.len() > 32 { letters.len() / 4 } else { 2 };
        // The first line of several is what stands before every secret.
        let middle = match form.way.contains("base64 in lines") {
            true => &letters[letters.len() * 3 / 4..letters.len() - 4],
            false => &letters[spare..letters.len() - spare],
        };
        let middle: String = middle.iter().collect();
        let quoted = format!("{middle:?}");
        for needle in
            [middle.clone(), json(&middle), json(&json(&middle)), quoted[1..quoted.len() - 1].to_owned()]
        {
            let bytes = needle.into_bytes();
            let Some(start) = bytes.first_chunk::<8>().copied() else { continue };
            let same = self.by_start.entry(start).or_default();
            if same.iter().all(|(known, _)| *known != bytes) {
                same.push((bytes, format!("{name}, {}", form.way)));
            }
        }
    }

    /// What of it stands in these bytes.
    pub fn find(&self, text: &[u8]) -> Option<(String, String)> {
        // Most places begin with two bytes with which no needle does.
        let two = |start: &[u8]| usize::from(start[0]) << 8 | usize::from(start[1]);
        let mut begins = vec![false; 1 << 16];
        self.by_start.keys().for_each(|start| begins[two(start)] = true);
        for (at, start) in text.windows(8).enumerate() {
            if !begins[two(start)] {
                continue;
            }
            let Some(same) = self.by_start.get(start) else { continue };
            for (needle, name) in same {
                if text[at..].starts_with(needle) {
                    let around = &text[at.saturating_sub(150)..(at + needle.len() + 50).min(text.len())];
                    return Some((name.clone(), String::from_utf8_lossy(around).into_owned()));
                }
            }
        }
        None
    }
}

/// What a text may be when somebody undoes an encoding of it, whichever stands in it.
fn undone(text: &[u8]) -> Vec<Vec<u8>> {
    let without_nulls: Vec<u8> = text.iter().copied().filter(|byte| *byte != 0).collect();
    let lines: Vec<u8> = text.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect();
    let mut all = vec![unescaped(text), entities(text), unpercent(text)];
    if without_nulls.len() < text.len() {
        all.push(without_nulls);
    }
    all.extend((0..4).map(|skip| runs(&lines, is_base64, skip, from_base64)));
    all.extend((0..2).map(|skip| runs(text, |byte| byte.is_ascii_hexdigit(), skip, from_hex)));
    all.retain(|undone| undone.len() >= 8 && undone != text);
    all
}

/// Whether a secret stands in a text, as it is or in up to so many encodings.
pub fn stands_in(secrets: &[String], text: &[u8], depth: usize) -> Option<String> {
    let readable = String::from_utf8_lossy(text);
    let found = secrets.iter().find(|secret| readable.contains(secret.as_str()));
    match found {
        Some(secret) => Some(secret.clone()),
        None if depth == 0 => None,
        None => undone(text).iter().find_map(|text| stands_in(secrets, text, depth - 1)),
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte)
}

fn from_base64(run: &[u8]) -> Vec<u8> {
    let standard: Vec<u8> = run
        .iter()
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    let whole = STANDARD_NO_PAD.decode(&standard);
    whole.or_else(|_| STANDARD_NO_PAD.decode(&standard[..standard.len() / 4 * 4])).unwrap_or_default()
}

fn from_hex(run: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    run.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// What the long runs of some letters stand for, one after the other.
fn runs(text: &[u8], is_part: fn(u8) -> bool, skip: usize, decode: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut all = Vec::new();
    for run in text.split(|byte| !is_part(*byte)).filter(|run| run.len() >= 10 + skip) {
        all.extend(decode(&run[skip..]));
        all.push(b' ');
    }
    all
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let (mut plain, mut rest) = (String::new(), &*text);
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.strip_prefix('u').and_then(|after| after.get(..4));
        let letter = code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        (rest, _) = match (letter, after.chars().next()) {
            (Some(letter), _) => (&after[5..], plain.push(letter)),
            (None, Some(other)) => (&after[other.len_utf8()..], plain.push(other)),
            (None, None) => ("", ()),
        };
    }
    (plain + rest).into_bytes()
}

fn entities(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let (mut plain, mut rest) = (String::new(), &*text);
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let name = after.split_once(';').map(|(name, _)| name).filter(|name| name.len() <= 8);
        let letter = match name {
            Some("amp") => Some('&'),
            Some("lt") => Some('<'),
            Some("gt") => Some('>'),
            Some("quot") => Some('"'),
            Some(name) => {
                let code = name.strip_prefix("#x").map(|code| u32::from_str_radix(code, 16));
                let code = code.or_else(|| name.strip_prefix('#').map(str::parse));
                code.and_then(Result::ok).and_then(char::from_u32)
            }
            None => None,
        };
        match (letter, name) {
            (Some(letter), Some(name)) => {
                plain.push(letter);
                rest = &after[name.len() + 1..];
            }
            _ => {
                plain.push('&');
                rest = after;
            }
        }
    }
    (plain + rest).into_bytes()
}

fn unpercent(text: &[u8]) -> Vec<u8> {
    let (mut plain, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        let digits = text
            .get(at + 1..at + 3)
            .filter(|digits| text[at] == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        match digits {
            Some(digits) => {
                plain.extend(from_hex(digits));
                at += 3;
            }
            None => {
                plain.push(text[at]);
                at += 1;
            }
        }
    }
    plain
}

#[test]
fn a_secret_is_found_again_in_whatever_it_was_written_as() {
    let secret = "k/9+\"vQ2&mZp<L4xW8sR";
    let secrets = [secret.to_owned()];
    for form in forms(secret, true) {
        let text = format!("before {} after", form.text);
        assert!(stands_in(&secrets, text.as_bytes(), 2).is_some(), "{}: {text:?}", form.way);
        let mut needles = Needles::default();
        needles.add(&form, "secret");
        assert!(needles.find(text.as_bytes()).is_some(), "{}: {text:?}", form.way);
        let in_json = Value::from(text).to_string();
        assert!(needles.find(in_json.as_bytes()).is_some(), "{}: {in_json:?}", form.way);
    }
    assert_eq!(stands_in(&secrets, b"before k/9+\"vQ2&mZp<L4xW8s after", 2), None);
}
