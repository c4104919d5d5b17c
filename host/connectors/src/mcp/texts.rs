//! JSON texts in bytes: one, or several behind each other with line breaks, blanks or nothing between them, as some servers
//! write their messages into one body. Each is read by itself, so that one that is broken costs itself.

use std::ops::Range;

use airlock_engine::json;
use serde::de::Error as _;
use serde_json::Value;

use super::nesting;
use crate::protocol::mend::mended;

/// Finds the texts in bytes as they come: objects and lists. Lines with anything else before one are skipped.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// So far it has been looked.
    at: usize,
    /// Where the text that is open begins.
    begin: usize,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    in_junk: bool,
}

impl Texts {
    /// The next whole text. `bytes` are those of before with more behind them.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Option<Range<usize>> {
        while let Some(&byte) = bytes.get(self.at) {
            self.at += 1;
            if self.depth == 0 {
                self.between(byte);
                continue;
            }
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(self.begin..self.at);
                    }
                }
                _ => {}
            }
        }
        None
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'\n' | b'\r' => self.in_junk = false,
            // A sequence of texts (RFC 7464) has a sign before each.
            _ if self.in_junk || byte.is_ascii_whitespace() || matches!(byte, 0x1e | b',' | b';') => {}
            b'{' | b'[' => (self.begin, self.depth) = (self.at - 1, 1),
            _ => self.in_junk = true,
        }
    }
}

/// The values in a body, those of a batch one by one; none if there is no JSON.
pub(super) fn values(text: &[u8]) -> Option<Vec<Value>> {
    if let Some(value) = value(text) {
        return Some(listed(value));
    }
    let mut texts = Texts::default();
    let found: Vec<Value> =
        std::iter::from_fn(|| texts.next(text)).filter_map(|text_at| value(&text[text_at])).collect();
    if !found.is_empty() {
        return Some(found.into_iter().flat_map(listed).collect());
    }
    mended(text).map(listed)
}

fn listed(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        value => vec![value],
    }
}

/// One JSON text, in which every name is only a name (also one that serde_json keeps for itself).
fn read(text: &[u8]) -> Result<Value, serde_json::Error> {
    json::value(std::str::from_utf8(text).map_err(serde_json::Error::custom)?)
}

/// The value of one text, which may be nested too deep or be nearly JSON.
fn value(text: &[u8]) -> Option<Value> {
    let error = match read(text) {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    // With more behind it, there are several.
    if error.to_string().starts_with("trailing characters") {
        return None;
    }
    match nesting::flattened(text) {
        Some(flat) => read(&flat).ok().or_else(|| mended(&flat)),
        None => mended(text),
    }
}

/// What is wrong with a text that begins as JSON does; nothing of it is told.
pub(super) fn fault(text: &[u8]) -> Option<String> {
    if !matches!(text.trim_ascii_start().first(), Some(b'{' | b'[' | b'"')) {
        return None;
    }
    let error = serde_json::from_slice::<serde::de::IgnoredAny>(text).err()?;
    Some(match error.is_eof() {
        true => "JSON that ends too soon".into(),
        false => format!("JSON with a mistake in line {}, column {}", error.line(), error.column()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn several_texts_in_one_body_are_read_one_by_one() {
        let (a, b) = (json!({ "a": "} { \" \\" }), json!({ "b": [[1], {}] }));
        for between in ["\n", "\r\n", "", " ", "\n\n", "\u{1e}", "\n\u{1e}", ",\n", "\nlog: a line\n"] {
            let body = format!("{a}{between}{b}{between}");
            assert_eq!(values(body.as_bytes()), Some(vec![a.clone(), b.clone()]), "{between:?}");
        }
        let batch = format!("[{a}, {b}]\n{a}");
        assert_eq!(values(batch.as_bytes()), Some(vec![a.clone(), b.clone(), a.clone()]));
        // One that is broken costs itself.
        for broken in ["{\"x\": }", "[1 2]", "{x y}", "<b>Warning</b>: {$x}"] {
            assert_eq!(values(format!("{broken}\n{a}\n").as_bytes()), Some(vec![a.clone()]), "{broken}");
            assert_eq!(values(format!("{a}\n{broken}\n").as_bytes()), Some(vec![a.clone()]), "{broken}");
        }
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let read = values(format!("{{\"deep\": {deep}}}{a}").as_bytes()).expect("is read");
        assert_eq!((read.len(), &read[1]), (2, &a));
    }

    #[test]
    fn what_is_no_json_is_none_and_has_a_fault_that_quotes_nothing() {
        for none in ["", " ", "hello", "<html>{</html>", "{", "[1", "{\"s3cret\": ", "\"s3cret"] {
            assert_eq!(values(none.as_bytes()), None, "{none}");
            let fault = fault(none.as_bytes()).unwrap_or_default();
            assert!(!fault.contains("s3cret"), "{fault}");
        }
        for (text, expected) in [
            ("{\"a\": [", Some("JSON that ends too soon")),
            ("{\"a\":\n s3cret}", Some("JSON with a mistake in line 2, column 2")),
            ("hello", None),
        ] {
            assert_eq!(fault(text.as_bytes()).as_deref(), expected);
        }
        assert_eq!(values(&b"{\"a\":".repeat(100_000)), None);
        assert_eq!(values(&vec![b'['; 1_000_000]), None);
        assert_eq!(values(&vec![b']'; 1_000_000]), None);
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(texts in prop::collection::vec("[ -~]{0,12}", 1..4), cut in 1..7_usize) {
            let written: Vec<String> = texts.iter().map(|text| json!({ "t": [text] }).to_string()).collect();
            let body = written.join("\n");
            let (mut reader, mut found, mut end) = (Texts::default(), Vec::new(), 0);
            while end < body.len() {
                end = (end + cut).min(body.len());
                while let Some(text) = reader.next(&body.as_bytes()[..end]) {
                    found.push(body[text].to_owned());
                }
            }
            prop_assert_eq!(found, written);
        }

        #[test]
        fn no_bytes_stop_it(bytes in any::<Vec<u8>>(), marks in "[\\[\\]{}\",:a\\\\ \n]{0,80}") {
            values(&bytes);
            values(marks.as_bytes());
            fault(marks.as_bytes());
        }
    }
}
