//! What a tool answered. The call has had its effect, so everything that can be read is handed on: block by block, a block
//! of a kind that nobody knows as it is.
//!
//! | what comes | what is made of it |
//! | --- | --- |
//! | a block, of whatever type and members | itself |
//! | a text where a block or the list of them should be | a block of text |
//! | an object where the list should be | itself if it has a `type`, else a block of text with its JSON |
//! | a result without content, structured content, but with other members | a block of text with their JSON |
//! | `isError` as text or a number | what it says |
//! | what is nested deeper than [`MOST`] levels | a text with its JSON |

use serde_json::{Map, Value, json};

use super::nesting::{MOST, flatten};
use crate::protocol::service::response;

/// The answer as `{content, metadata}` (contract: `ConnectorToolCallResponse`), not scrubbed.
pub(super) fn read(result: Value) -> Value {
    let mut result = match result {
        Value::Object(result) => result,
        Value::Null => Map::new(),
        // A list of blocks, or something that is meant as the content.
        content => Map::from_iter([("content".to_owned(), content)]),
    };
    let is_error = match result.remove("isError") {
        Some(Value::Bool(is_error)) => is_error,
        Some(Value::String(text)) => text.trim().eq_ignore_ascii_case("true") || text.trim() == "1",
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        _ => false,
    };
    let mut meta = json!({ "isError": is_error });
    for key in ["structuredContent", "_meta"] {
        let fits = |value: &Value| !value.is_null() && (key == "structuredContent" || value.is_object());
        if let Some(value) = result.remove(key).filter(fits) {
            meta[key] = value;
        }
    }
    result.remove("resultType");
    let content = result.remove("content").unwrap_or_default();
    let mut content = match content {
        Value::Null => Vec::new(),
        Value::Array(items) => items.into_iter().map(block).collect(),
        // What PHP makes of an empty list.
        Value::Object(empty) if empty.is_empty() => Vec::new(),
        one => vec![block(one)],
    };
    if content.is_empty() && meta.get("structuredContent").is_none() && !result.is_empty() {
        // A server of 2024-10-07 calls it so.
        let only = if result.len() == 1 { result.remove("toolResult") } else { None };
        content.push(block(only.unwrap_or(Value::Object(result))));
    }
    let mut answer = response(content, meta);
    // It goes on inside of other values, to readers with limits of their own.
    flatten(&mut answer, MOST);
    answer
}

fn block(value: Value) -> Value {
    match value {
        Value::Object(block) if block.get("type").is_some_and(Value::is_string) => Value::Object(block),
        Value::Object(mut block) if block.get("text").is_some_and(Value::is_string) => {
            block.insert("type".into(), "text".into());
            Value::Object(block)
        }
        Value::String(text) => json!({ "type": "text", "text": text }),
        other => json!({ "type": "text", "text": other.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_is_handed_on() {
        let text = |text: &str| json!({ "type": "text", "text": text });
        let hello = text("hello");
        let widget =
            json!({ "type": "widget", "html": "<b>x</b>", "annotations": { "audience": ["system"] } });
        let odd = json!({ "type": "text", "text": null });
        let table = [
            (json!({ "content": [hello, widget] }), json!([hello, widget])),
            (json!({ "content": [odd] }), json!([odd])),
            (json!({ "content": "hello" }), json!([hello])),
            (json!({ "content": hello }), json!([hello])),
            (json!({ "content": { "a": 1 } }), json!([text("{\"a\":1}")])),
            (json!({ "content": {} }), json!([])),
            (
                json!({ "content": ["hello", 7, null, { "text": "hello" }] }),
                json!([hello, text("7"), text("null"), hello]),
            ),
            (json!({ "content": null }), json!([])),
            (json!({}), json!([])),
            (json!([]), json!([])),
            (json!(null), json!([])),
            (json!([hello]), json!([hello])),
            (json!("hello"), json!([hello])),
            (json!({ "toolResult": "hello" }), json!([hello])),
            (json!({ "answer": 42 }), json!([text("{\"answer\":42}")])),
            (json!({ "structuredContent": { "a": 1 }, "answer": 42 }), json!([])),
        ];
        for (result, expected) in table {
            assert_eq!(read(result.clone())["content"], expected, "{result}");
        }
    }

    #[test]
    fn what_belongs_to_an_answer_is_read_in_any_form() {
        for (flag, expected) in [
            (json!(true), true),
            (json!("true"), true),
            (json!("True"), true),
            (json!("false"), false),
            (json!(null), false),
            (json!("1"), true),
            (json!(1), true),
            (json!(0), false),
            (json!({}), false),
        ] {
            let answer = read(json!({ "content": [], "isError": flag }));
            assert_eq!(answer["metadata"]["mcp_meta"]["isError"], expected, "{flag}");
        }
        for structured in [json!({ "a": 1 }), json!([1, 2]), json!("x"), json!(false)] {
            let answer = read(json!({ "structuredContent": structured, "_meta": [] }));
            let expected = json!({ "isError": false, "structuredContent": structured });
            assert_eq!(answer["metadata"]["mcp_meta"], expected);
        }
        let answer = read(json!({ "structuredContent": null, "_meta": { "a": 1 } }));
        assert_eq!(answer["metadata"]["mcp_meta"], json!({ "isError": false, "_meta": { "a": 1 } }));
    }
}
