//! A document's text becomes a value, within limits, and its references are followed.
//!
//! JSON is read by `serde_json`, which refuses more than 128 levels. YAML is read by `serde-saphyr`, which keeps a budget
//! while it reads: aliases are counted as what they stand for, so a document of a few lines cannot become gigabytes.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::Value;
use serde_saphyr::{Error, budget::BudgetBreach, options::DuplicateKeyPolicy};

use crate::ConnectorsError;

/// Bytes of a document.
const MAX_BYTES: usize = 64 << 20;

/// Values in a document, aliases counted as what they stand for. GitHub's document has less than a million.
const MAX_VALUES: usize = 4_000_000;

/// Levels of nesting, the same for both languages.
const MAX_DEPTH: usize = 128;

/// References to references.
const MAX_HOPS: usize = 16;

/// Reads JSON or YAML.
pub(super) fn read(bytes: &[u8]) -> Result<Value, ConnectorsError> {
    let invalid = |message: String| ConnectorsError::invalid("", message);
    if bytes.len() > MAX_BYTES {
        return Err(invalid(format!("the document is larger than {} MB", MAX_BYTES >> 20)));
    }
    let text = std::str::from_utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
        .map_err(|_| invalid("the document is not UTF-8 text".into()))?;
    if !text.trim_start().starts_with('{') {
        return yaml(text).map_err(invalid);
    }
    if values(text) > MAX_VALUES {
        return Err(invalid(format!("the document holds more than {MAX_VALUES} values")));
    }
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.to_string().starts_with("recursion limit") {
            true => {
                invalid(format!("the document is nested more than {MAX_DEPTH} levels deep (line {line})"))
            }
            false => invalid(format!("the document is not JSON: line {line}, column {column}")),
        }
    })
}

/// The parser's own messages quote the document, so only the place is told.
fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_VALUES,
            max_events: 2 * MAX_VALUES,
            max_total_scalar_bytes: 2 * MAX_BYTES,
            max_aliases: 20_000,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_VALUES },
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        strict_booleans: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error
            .location()
            .map(|place| format!(": line {}, column {}", place.line(), place.column()))
            .unwrap_or_default();
        // What went wrong is inside of where it was seen.
        let mut inner = &error;
        while let Error::WithSnippet { error, .. } | Error::AliasError { error, .. } = inner {
            inner = error;
        }
        match inner {
            Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
                format!("the document is nested more than {MAX_DEPTH} levels deep{place}")
            }
            Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } => {
                format!("the document holds more than {MAX_VALUES} values or too many aliases{place}")
            }
            // The parser has a limit of its own.
            other if other.to_string().contains("recursion limit") => {
                format!("the document is nested more than {MAX_DEPTH} levels deep{place}")
            }
            _ => format!("the document is neither JSON nor YAML{place}"),
        }
    })
}

/// At least the number of values in JSON text: each but the first follows one of these outside strings.
fn values(text: &str) -> usize {
    let (mut count, mut in_string, mut escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

/// Follows a reference, and those it leads to. None when it leads out of the document or nowhere.
pub(super) fn resolve<'a>(root: &'a Value, value: &'a Value) -> Option<&'a Value> {
    let mut value = value;
    for _ in 0..MAX_HOPS {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => value = root.pointer(&pointer(reference)?)?,
            None => return Some(value),
        }
    }
    None
}

/// The JSON pointer of a reference into the same document (RFC 6901 §6).
pub(super) fn pointer(reference: &str) -> Option<Cow<'_, str>> {
    let fragment = reference.strip_prefix('#').filter(|fragment| fragment.starts_with('/'))?;
    percent_decode_str(fragment).decode_utf8().ok()
}

/// One step of a JSON pointer.
pub(super) fn step(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(document: &[u8]) -> String {
        read(document).expect_err("it cannot be read").to_string()
    }

    #[test]
    fn yaml_is_read_like_json() {
        let yaml = "%YAML 1.2\n---\nresponses:\n  200: ok\nversion: 1.0\nshared: &a {no: on}\nagain: *a\n";
        let expected = json!({
            "responses": { "200": "ok" }, "version": 1.0, "shared": { "no": "on" }, "again": { "no": "on" },
        });
        assert_eq!(read(yaml.as_bytes()).expect("YAML"), expected);
        assert_eq!(read(b"\xef\xbb\xbf {\"a\": 1}").expect("JSON"), json!({ "a": 1 }));
    }

    #[test]
    fn a_broken_document_is_told_by_its_place_and_not_by_its_text() {
        assert!(message(b"{\"secret\": hunter2}").contains("not JSON: line 1, column 12"));
        let yaml = message(b"openapi: 3.0.0\nsecret: [hunter2\n");
        assert!(yaml.contains("neither JSON nor YAML: line 2") && !yaml.contains("hunter2"), "{yaml}");
        assert!(message(b"\xff\xfe").contains("UTF-8"));
        assert!(message(b"a: 1\n---\nb: 2\n").contains("line 2"));
    }

    #[test]
    fn row_22_a_document_that_grows_when_it_is_read_is_refused() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(","));
        }
        let text = message(bomb.as_bytes());
        assert!(text.contains("too many aliases"), "{text}");
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 10_000].join(","));
        assert!(message(long.as_bytes()).contains("too many aliases"));
        let many = format!("{{\"a\": [{}0]}}", "0,".repeat(MAX_VALUES));
        assert!(message(many.as_bytes()).contains("more than 4000000 values"));
        assert!(message(&vec![b' '; MAX_BYTES + 1]).contains("larger than 64 MB"));
    }

    #[test]
    fn row_22_a_document_that_is_too_deep_is_refused() {
        let json = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(message(json.as_bytes()).contains("nested more than 128 levels"));
        assert!(message(format!("a: {}", "[".repeat(100_000)).as_bytes()).contains("nested more than 128"));
        let blocks: String = (0..5_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        assert!(message(blocks.as_bytes()).contains("nested more than 128"));
    }

    #[test]
    fn commas_in_strings_are_no_values() {
        assert_eq!(values(r#"{"a,[\",": [1, 2], "b": {}}"#), 6);
    }

    #[test]
    fn references_are_followed_unless_they_lead_in_a_circle_or_out() {
        let root = json!({
            "a": { "$ref": "#/b~1c/d%20e" }, "b/c": { "d e": 7 }, "loop": { "$ref": "#/loop" },
            "out": { "$ref": "other.yaml#/a" }, "nowhere": { "$ref": "#/x" },
        });
        assert_eq!(resolve(&root, &root["a"]), Some(&json!(7)));
        for broken in ["loop", "out", "nowhere"] {
            assert_eq!(resolve(&root, &root[broken]), None, "{broken}");
        }
    }
}
