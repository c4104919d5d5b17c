//! JSON with what other software writes into it: half of a pair of surrogates, where a text was cut in the middle of a
//! sign; bytes that are no UTF-8; control characters in texts; numbers that are none or have no end; a comma behind the last
//! member; the quotes and words of other languages. One of them must not cost a list of tools, or an answer whose effect has
//! happened.

use airlock_engine::json;
use serde_json::Value;

/// The value of a text that is nearly JSON.
pub(crate) fn mended(text: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(text);
    let mut whole = String::with_capacity(text.len() + 16);
    let mut rest = text.as_ref();
    while let Some(char) = rest.chars().next() {
        if matches!(char, '"' | '\'') {
            rest = string(rest, char, &mut whole);
        } else if char == ',' && rest[1..].trim_start().starts_with(['}', ']']) {
            rest = &rest[1..];
        } else if char.is_ascii_alphanumeric() || matches!(char, '-' | '+' | '.') {
            let end = rest.find(|char: char| !(char.is_ascii_alphanumeric() || "-+.".contains(char)));
            let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
            whole.push_str(meant(word));
            rest = behind;
        } else {
            whole.push(char);
            rest = &rest[char.len_utf8()..];
        }
    }
    json::check(&whole).and_then(|_| serde_json::from_str(&whole)).ok()
}

/// What a word outside of texts means: a number that is none or too large means nothing.
fn meant(word: &str) -> &str {
    let is_number = word.starts_with(|char: char| char.is_ascii_digit() || char == '-');
    match word.trim_start_matches(['-', '+']) {
        "True" => "true",
        "False" => "false",
        "None" | "undefined" => "null",
        name if ["nan", "infinity", "inf"].contains(&name.to_ascii_lowercase().as_str()) => "null",
        _ if is_number && !word.parse::<f64>().is_ok_and(f64::is_finite) => "null",
        _ => word,
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

    proptest! {
        #[test]
        fn whatever_it_is_reading_ends_and_json_stays_what_it_is(text in ".{0,60}", bytes in any::<Vec<u8>>()) {
            let value = json!({ "text": text, "list": [1, -2.5, true, null] });
            prop_assert_eq!(mended(value.to_string().as_bytes()), Some(value));
            let _ = mended(&bytes);
        }
    }
}
