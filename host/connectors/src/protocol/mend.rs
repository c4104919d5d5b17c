//! JSON with what other software writes into it: half of a pair of surrogates, where a text was cut in the middle of a
//! sign; bytes that are no UTF-8; control characters in texts; numbers that are none or have no end; a comma behind the last
//! member; the quotes and words of other languages. One of them must not cost a list of tools, or an answer whose effect has
//! happened. What was changed is told, so that a reader may take some of it and refuse the rest.

use std::ops::Range;

use airlock_engine::json;
use serde_json::Value;

/// A text as JSON has it, as far as it could be mended.
pub(crate) struct Mended {
    pub(crate) text: String,
    /// What is not as it was, in the order of the text.
    pub(crate) changes: Vec<Change>,
}

/// Something that was mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its bytes in the text as it was.
    pub(crate) at: Range<usize>,
    pub(crate) kind: Kind,
}

/// What was mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A comma behind the last member: nothing is said by it.
    Comma,
    /// Something that is no value, and why: `null` stands there.
    NoValue(&'static str),
    /// Another language's word for a value that JSON has.
    Word,
    /// A text: its quotation marks, or what is in it.
    Text,
}

/// The value of a text that is nearly JSON.
pub(crate) fn mended(text: &[u8]) -> Option<Value> {
    let whole = read(&String::from_utf8_lossy(text)).text;
    json::check(&whole).and_then(|_| serde_json::from_str(&whole)).ok()
}

/// The text, mended. It may still be none.
pub(crate) fn read(text: &str) -> Mended {
    let mut whole = String::with_capacity(text.len() + 16);
    let (mut rest, mut changes) = (text, Vec::new());
    while let Some(char) = rest.chars().next() {
        let at = text.len() - rest.len();
        let kind = if matches!(char, '"' | '\'') {
            let (before, begin) = (rest, whole.len());
            rest = string(rest, char, &mut whole);
            let is_same = before[..before.len() - rest.len()] == whole[begin..];
            (!is_same).then_some(Kind::Text)
        } else if char == ',' && rest[1..].trim_start().starts_with(['}', ']']) {
            rest = &rest[1..];
            Some(Kind::Comma)
        } else if char.is_ascii_alphanumeric() || matches!(char, '-' | '+' | '.') {
            let end = rest.find(|char: char| !(char.is_ascii_alphanumeric() || "-+.".contains(char)));
            let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
            rest = behind;
            let meant = meant(word);
            whole.push_str(meant.map_or(word, |(meant, _)| meant));
            meant.map(|(_, kind)| kind)
        } else {
            whole.push(char);
            rest = &rest[char.len_utf8()..];
            None
        };
        changes.extend(kind.map(|kind| Change { at: at..text.len() - rest.len(), kind }));
    }
    Mended { text: whole, changes }
}

/// What a word outside of texts means, if it is none of JSON's: a number that is none or too large means nothing.
fn meant(word: &str) -> Option<(&'static str, Kind)> {
    let nothing = |why| Some(("null", Kind::NoValue(why)));
    let is_number = word.starts_with(|char: char| char.is_ascii_digit() || char == '-');
    match word.trim_start_matches(['-', '+']) {
        "True" => Some(("true", Kind::Word)),
        "False" => Some(("false", Kind::Word)),
        "None" | "undefined" => nothing("it is a word for nothing that is no JSON"),
        name if name.eq_ignore_ascii_case("nan") => nothing("it is NaN, which is no JSON"),
        name if ["infinity", "inf"].contains(&name.to_ascii_lowercase().as_str()) => {
            nothing("it is a number without end, which is no JSON")
        }
        _ if is_number => match word.parse::<f64>() {
            Ok(number) if number.is_finite() => None,
            Ok(_) => nothing("it is a number that is too large"),
            Err(_) => nothing("it is a number that is none"),
        },
        _ => None,
    }
}

/// Copies a text with its quotation marks, mended, and gives what follows it.
fn string<'a>(text: &'a str, quote: char, whole: &mut String) -> &'a str {
    whole.push('"');
    let mut rest = &text[1..];
    while let Some(char) = rest.chars().next() {
        match char {
            _ if char == quote => {
                whole.push('"');
                return &rest[1..];
            }
            '"' => {
                whole.push_str("\\\"");
                rest = &rest[1..];
            }
            '\\' => rest = escape(rest, whole),
            control if control < ' ' => {
                whole.push_str(&format!("\\u{:04x}", u32::from(control)));
                rest = &rest[1..];
            }
            char => {
                whole.push(char);
                rest = &rest[char.len_utf8()..];
            }
        }
    }
    rest
}

/// Copies an escape, and gives what follows it.
fn escape<'a>(text: &'a str, whole: &mut String) -> &'a str {
    let unit = |text: &str| {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    match (unit(text), text.get(6..).and_then(unit)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => {
            whole.push_str(&text[..12]);
            &text[12..]
        }
        (Some(0xd800..=0xdfff), _) => {
            whole.push_str("\\ufffd");
            &text[6..]
        }
        (Some(_), _) => {
            whole.push_str(&text[..6]);
            &text[6..]
        }
        (None, _) => {
            let Some(escaped) = text[1..].chars().next() else { return "" };
            // What JSON has no escape for is what it says.
            if "\"\\/bfnrt".contains(escaped) {
                whole.push('\\');
            } else if escaped == 'u' {
                whole.push_str("\\\\");
            }
            whole.push(escaped);
            &text[1 + escaped.len_utf8()..]
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_nearly_json_is_read() {
        for (written, expected) in [
            (&br#"{"a":"cut \ud83d"}"#[..], json!({ "a": "cut \u{fffd}" })),
            (br#"{"a":"\udc00 and \ud83d\ude00"}"#, json!({ "a": "\u{fffd} and \u{1f600}" })),
            (br#"[NaN, -Infinity, 1e999, -1.5, true, null]"#, json!([null, null, null, -1.5, true, null])),
            (b"{\"a\":\"one\ttwo\nthree\"}", json!({ "a": "one\ttwo\nthree" })),
            (b"{\"a\":\"\xff\"}", json!({ "a": "\u{fffd}" })),
            (br#"{"a":"\q \u12"}"#, json!({ "a": "q \\u12" })),
            (b"{\"a\": [1, 2, ], \"b\": \", ]\",\n}", json!({ "a": [1, 2], "b": ", ]" })),
            (
                br#"{'a': 'it\'s "x"', 'b': [True, False, None], "c": undefined}"#,
                json!({ "a": "it's \"x\"", "b": [true, false, null], "c": null }),
            ),
        ] {
            assert_eq!(mended(written), Some(expected), "{}", String::from_utf8_lossy(written));
        }
        for broken in [&b"{"[..], b"<html>", b"", b"{\"a\":\"\\", b"[1,"] {
            assert_eq!(mended(broken), None, "{}", String::from_utf8_lossy(broken));
        }
    }

    #[test]
    fn what_was_changed_is_told_with_its_place() {
        let kinds = |text: &str| -> Vec<(usize, Kind)> {
            read(text).changes.into_iter().map(|change| (change.at.start, change.kind)).collect()
        };
        for whole in ["", "{}", r#"{"a": "NaN, ]", "b": [1, "x\n"], "c": -0.5e3}"#, "hello", "\"open"] {
            assert_eq!((kinds(whole), read(whole).text.as_str()), (Vec::new(), whole));
        }
        for (text, expected) in [
            ("[1, ]", vec![(2, Kind::Comma)]),
            ("['x', True]", vec![(1, Kind::Text), (6, Kind::Word)]),
            ("[\"a\tb\"]", vec![(1, Kind::Text)]),
            (
                "[1e999, 0x10]",
                vec![
                    (1, Kind::NoValue("it is a number that is too large")),
                    (8, Kind::NoValue("it is a number that is none")),
                ],
            ),
        ] {
            assert_eq!(kinds(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_it_is_reading_ends_and_json_stays_what_it_is(text in ".{0,60}", bytes in any::<Vec<u8>>()) {
            let value = json!({ "text": text, "list": [1, -2.5, true, null] });
            prop_assert_eq!(mended(value.to_string().as_bytes()), Some(value));
            let _ = mended(&bytes);
        }
    }
}
