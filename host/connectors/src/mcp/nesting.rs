//! Values that are nested so deep that what reads them next would give up, or need more memory than a stack has. What stands
//! deeper than [`MOST`] is carried as a text with its JSON: nothing of an answer is lost, and nobody reads it level by level.

use serde_json::Value;

use crate::protocol::mend::mended;

/// Levels of a message. `serde_json` reads 127, and an answer is put into other values on its way to whoever asked.
pub(super) const MOST: usize = 96;

/// The JSON text with what is too deep as texts; none if nothing is. It looks at each byte once, whatever the depth.
pub(super) fn flattened(text: &[u8]) -> Option<Vec<u8>> {
    let (mut whole, mut deep) = (Vec::with_capacity(text.len()), None::<Vec<u8>>);
    let (mut depth, mut at, mut was_deep) = (0_usize, 0, false);
    while let Some(&byte) = text.get(at) {
        let end = match byte {
            b'"' => end_of_string(text, at),
            _ => at + 1,
        };
        let piece = &text[at..end];
        at = end;
        if matches!(byte, b'{' | b'[') {
            depth += 1;
            if depth > MOST && deep.is_none() {
                (deep, was_deep) = (Some(Vec::new()), true);
            }
        }
        match &mut deep {
            // As it is to be found by what looks for secrets: an escape could hide one.
            Some(deep) if byte == b'"' => deep.extend(plain(piece)),
            Some(deep) => deep.extend(piece),
            None => whole.extend(piece),
        }
        if matches!(byte, b'}' | b']') {
            depth = depth.saturating_sub(1);
            if depth == MOST
                && let Some(deep) = deep.take()
            {
                whole.extend(Value::from(String::from_utf8_lossy(&deep)).to_string().into_bytes());
            }
        }
    }
    // Without its end it is none.
    (was_deep && deep.is_none()).then_some(whole)
}

/// Where the string ends that begins here.
fn end_of_string(text: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// A string with as few escapes as there can be.
fn plain(string: &[u8]) -> Vec<u8> {
    let read = serde_json::from_slice(string).ok().or_else(|| mended(string));
    read.map_or_else(|| string.to_vec(), |value: Value| value.to_string().into_bytes())
}

/// Makes a text of everything that is deeper than so many levels below this one.
pub(super) fn flatten(value: &mut Value, levels: usize) {
    let is_empty = match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => true,
    };
    if is_empty {
        return;
    }
    if levels == 0 {
        *value = value.to_string().into();
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| flatten(item, levels - 1)),
        Value::Object(members) => members.values_mut().for_each(|member| flatten(member, levels - 1)),
        _ => {}
    }
}

/// Whether there are more than so many levels.
pub(super) fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper(item, levels - 1)),
        Value::Object(members) => levels == 0 || members.values().any(|member| is_deeper(member, levels - 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// So many lists in each other.
    fn lists(depth: usize, inside: &str) -> String {
        format!("{}{inside}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn what_is_too_deep_is_a_text_that_can_be_read_again() {
        for depth in [MOST + 1, 127, 128, 200, 100_000] {
            for inside in ["", "1", "\"a ] \\\" \\u0041 \u{e9}\"", "{\"a\": [true, null]}"] {
                let text =
                    format!("{{\"before\": 1, \"deep\": {}, \"after\": [2]}}", lists(depth - 1, inside));
                let flat = flattened(text.as_bytes()).expect("is deep");
                let value: Value = serde_json::from_slice(&flat).expect("JSON");
                assert_eq!((&value["before"], &value["after"]), (&json!(1), &json!([2])));
                let mut deep = &value["deep"];
                while let Some(inner) = deep.get(0) {
                    deep = inner;
                }
                let expected = lists(depth - MOST, &inside.replace("\\u0041", "A"));
                assert_eq!(deep.as_str(), Some(expected.as_str()), "{depth}");
            }
        }
    }

    #[test]
    fn what_is_not_too_deep_or_has_no_end_is_left_as_it_is() {
        for depth in [0, 1, MOST - 1, MOST] {
            assert_eq!(flattened(lists(depth, "1").as_bytes()), None);
        }
        assert_eq!(flattened("[".repeat(1_000_000).as_bytes()), None);
        assert_eq!(flattened(&b"[\"".repeat(200)), None);
        assert_eq!(flattened(&b"{\"a\":".repeat(100_000)), None);
        // Brackets inside of texts are none.
        assert_eq!(flattened(json!("[".repeat(1000)).to_string().as_bytes()), None);
    }

    #[test]
    fn values_have_a_greatest_depth() {
        let mut value = json!([{ "a": [[1], [], {}, "x"] }]);
        assert!(is_deeper(&value, 3) && !is_deeper(&value, 4));
        flatten(&mut value, 4);
        assert_eq!(value, json!([{ "a": [[1], [], {}, "x"] }]));
        flatten(&mut value, 3);
        assert_eq!(value, json!([{ "a": ["[1]", [], {}, "x"] }]));
        flatten(&mut value, 0);
        assert_eq!(value, json!("[{\"a\":[\"[1]\",[],{},\"x\"]}]"));
    }
}
