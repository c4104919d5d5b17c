//! JSON on its way through a command: from an argument, a file or standard input to the daemon, and from the daemon to whoever
//! reads. It stays text, so that no digit of a number changes on the way.

use std::{borrow::Cow, collections::HashMap, fmt::Write as _, io::Read as _};

use airlock_engine::Json;
use airlock_engine::printable::is_active;
use serde_json::{Value, value::RawValue};

/// JSON as it is given to a command: itself, `@FILE` with it in a file, or `@-` with it on standard input. A mark of the
/// encoding at its beginning is no part of it.
pub(crate) fn given(argument: &str) -> Result<Json, String> {
    let (text, place) = match argument.strip_prefix('@') {
        None => (argument.to_owned(), "it ".to_owned()),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| format!("standard input cannot be read: {error}"))?;
            (text, "standard input ".to_owned())
        }
        Some(file) => {
            let text = std::fs::read_to_string(file);
            (text.map_err(|error| format!("{file} cannot be read: {error}"))?, format!("{file} "))
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Json::parse(text).map_err(|error| format!("{place}is not JSON: {error}"))
}

/// The part of a document that names lead to.
pub(crate) fn part<'a>(text: &'a str, names: &[&str]) -> Option<&'a RawValue> {
    let mut part: &RawValue = serde_json::from_str(text).ok()?;
    for name in names {
        let mut members: HashMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(part.get()).ok()?;
        part = members.remove(*name)?;
    }
    Some(part)
}

/// The items of a list that names lead to; none where there is no list.
pub(crate) fn items<'a>(text: &'a str, names: &[&str]) -> Vec<&'a RawValue> {
    part(text, names).and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
}

/// A document over several lines. What would do something to a terminal is written with escapes, which mean the same.
pub(crate) fn laid_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3 / 2);
    let (mut level, mut in_text, mut is_escaped) = (0_usize, false, false);
    let mut characters = text.chars().peekable();
    let new_line = |out: &mut String, level: usize| {
        out.push('\n');
        (0..level).for_each(|_| out.push_str("  "));
    };
    while let Some(c) = characters.next() {
        if in_text {
            match c {
                c if is_active(c) => escaped(&mut out, c),
                c => out.push(c),
            }
            in_text = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                while characters.next_if(char::is_ascii_whitespace).is_some() {}
                let closing = if c == '{' { '}' } else { ']' };
                if characters.next_if_eq(&closing).is_some() {
                    out.push(closing);
                } else {
                    level += 1;
                    new_line(&mut out, level);
                }
            }
            '}' | ']' => {
                level = level.saturating_sub(1);
                new_line(&mut out, level);
                out.push(c);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, level);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => {
                in_text = c == '"';
                out.push(c);
            }
        }
    }
    out
}

/// A character as JSON escapes it.
fn escaped(out: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a string does not fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

/// A tree of values over several lines.
pub(crate) fn pretty(value: &Value) -> String {
    laid_out(&value.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document() -> impl Strategy<Value = Value> {
        let text = prop_oneof![".{0,8}", "[\\\\\"\u{1b}\u{9b}\u{202e}\u{e0001}:,\\[\\]{} ]{0,8}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from)
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_laid_out_is_the_same_document_and_speaks_to_no_terminal(document in document()) {
            for text in [document.to_string(), serde_json::to_string_pretty(&document).expect("is written")] {
                let shown = laid_out(&text);
                prop_assert!(!shown.chars().any(|c| is_active(c) && c != '\n'), "{shown:?}");
                prop_assert_eq!(&serde_json::from_str::<Value>(&shown).expect("is JSON"), &document);
                if !text.chars().any(is_active) {
                    prop_assert_eq!(shown, serde_json::to_string_pretty(&document).expect("is written"));
                }
            }
        }
    }

    #[test]
    fn numbers_keep_their_text() {
        let text = r#"{"a":340282366920938463463374607431768211455,"b":[1.10,-0,1E2]}"#;
        let shown = laid_out(text);
        assert_eq!(
            shown,
            "{\n  \"a\": 340282366920938463463374607431768211455,\n  \"b\": [\n    1.10,\n    -0,\n    1E2\n  ]\n}"
        );
        assert_eq!(part(&shown, &["a"]).map(RawValue::get), Some("340282366920938463463374607431768211455"));
        assert_eq!(items(text, &["b"]).len(), 3);
        assert!(part(text, &["a", "x"]).is_none() && part(text, &["x"]).is_none());
        assert_eq!(given(text).expect("is JSON").as_str(), text);
    }

    #[test]
    fn an_argument_may_be_a_file_with_a_mark_and_says_where_it_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).expect("is written");
            format!("@{}", file.display())
        };
        let marked = file("marked.json", "\u{feff}{\r\n\"n\": 5}\r\n");
        assert_eq!(given(&marked).expect("is JSON").value(), serde_json::json!({ "n": 5 }));
        let wrong = given(&file("wrong.json", "{")).expect_err("is none");
        assert!(wrong.contains("wrong.json is not JSON: ") && wrong.contains("line 1"), "{wrong}");
        assert!(given("@/nowhere/at/all.json").expect_err("is no file").contains("cannot be read"));
        assert!(given("{").expect_err("is none").starts_with("it is not JSON: "));
    }
}
