//! A person is asked whether a call may be made.
//!
//! Who agrees has seen what is sent: every value of the arguments stands by itself with its size, the short ones first and on
//! one line each, so that nothing can be pushed out of sight. What cannot be shown whole cannot be agreed to.

use airlock_engine::{Json, tools::Question};
use serde_json::{Value, json};

use super::CallRequest;
use crate::ConnectorsError;

/// So many bytes of arguments a person can be shown.
const MAX_SHOWN: usize = 32 << 10;

/// So many values, one by one.
const MAX_VALUES: usize = 200;

/// Asks the people who follow the execution whether a call may be made.
pub(super) async fn ask(call: &CallRequest<'_>) -> Result<(), ConnectorsError> {
    let connector = &call.connector.name;
    if call.origin.is_none() {
        return Err(ConnectorsError::Denied(format!(
            "a person has to be asked before '{}' of connector '{connector}' is called: call it from a workflow, and \
             answer the question of its execution",
            call.tool
        )));
    }
    let members = members(&call.arguments).map_err(|what| {
        ConnectorsError::Denied(format!(
            "a person has to be asked before '{}' of connector '{connector}' is called, and nobody could see what is sent: \
             the arguments have {what}. Send less at once, or allow the tool in the connector's rules",
            call.tool
        ))
    })?;
    let question = Question {
        label: format!("May '{}' of connector '{connector}' be called?", call.tool),
        input_schema: Json::from(json!({
            "type": "object", "required": ["approve"], "additionalProperties": false,
            "properties": { "approve": { "type": "boolean" }, "reason": { "type": "string" } },
        })),
        about: Json::from(json!({
            "asked_by": "policy", "connector_name": connector, "tool_name": call.tool, "arguments": call.arguments,
            "members": members,
        })),
        expires_after: call.connector.control.ask_timeout(),
    };
    let answer = call.conversation.ask(question).await.map_err(ConnectorsError::Failed)?.value();
    if answer["approve"] == true {
        return Ok(());
    }
    let reason = answer["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    let message = format!("the call of '{}' of connector '{connector}' was not approved{reason}", call.tool);
    Err(ConnectorsError::Denied(message))
}

/// Every value of the arguments with its place and size, the shortest first: `{"at", "bytes", "value"}`. The error says how
/// much there is that cannot be shown.
fn members(arguments: &Value) -> Result<Vec<Value>, String> {
    let bytes = arguments.to_string().len();
    if bytes > MAX_SHOWN {
        return Err(format!("{bytes} bytes, and {MAX_SHOWN} can be shown"));
    }
    let mut values = Vec::new();
    collect(arguments, &mut String::new(), &mut values);
    if values.len() > MAX_VALUES {
        return Err(format!("{} values, and {MAX_VALUES} can be shown", values.len()));
    }
    values.sort_by_key(|(_, text)| text.len());
    let shown = |(at, text): (String, String)| json!({ "at": visible(&at), "bytes": text.len(), "value": visible(&text) });
    Ok(values.into_iter().map(shown).collect())
}

/// Values that hold no others, as JSON, by their places (RFC 6901).
fn collect(value: &Value, at: &mut String, values: &mut Vec<(String, String)>) {
    let before = at.len();
    let mut inside = |name: &str, value: &Value| {
        at.push('/');
        at.push_str(&name.replace('~', "~0").replace('/', "~1"));
        collect(value, at, values);
        at.truncate(before);
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(name, field)| inside(name, field));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(number, item)| inside(&number.to_string(), item));
        }
        other => values.push((at.clone(), other.to_string())),
    }
}

/// On one line, and nothing in it that cannot be seen or that turns the direction of what stands around it.
fn visible(text: &str) -> String {
    let is_hidden = |character: char| {
        character.is_control()
            || character.is_whitespace() && character != ' '
            || matches!(
                character,
                '\u{ad}'
                    | '\u{34f}'
                    | '\u{61c}'
                    | '\u{115f}'..='\u{1160}'
                    | '\u{17b4}'..='\u{17b5}'
                    | '\u{180b}'..='\u{180f}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{202a}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{2800}'
                    | '\u{3164}'
                    | '\u{fe00}'..='\u{fe0f}'
                    | '\u{feff}'
                    | '\u{ffa0}'
                    | '\u{e0000}'..='\u{e0fff}'
            )
    };
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match is_hidden(character) {
            true => character
                .encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| shown.push_str(&format!("\\u{unit:04x}"))),
            false => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a15_padding_hides_nothing_of_what_is_sent() {
        let padding = "\n".repeat(9_000);
        let arguments = json!({
            "a_note": padding, "amount": 1, "body": { "text": "x".repeat(5_000), "to": ["attacker@evil.example"] },
            "empty": {}, "rtl": "a\u{202e}b\u{200b}", "a/b": null,
        });
        let members = members(&arguments).expect("is shown");
        let at: Vec<&str> = members.iter().filter_map(|member| member["at"].as_str()).collect();
        assert_eq!(
            at,
            ["/amount", "/empty", "/a~1b", "/rtl", "/body/to/0", "/body/text", "/a_note"],
            "short ones are seen first"
        );
        assert_eq!(members[3]["value"], "\"a\\u202eb\\u200b\"");
        assert_eq!(
            members[4],
            json!({ "at": "/body/to/0", "bytes": 23, "value": "\"attacker@evil.example\"" })
        );
        assert_eq!(members[6]["bytes"], 2 * 9_000 + 2);
        assert!(members.iter().all(|member| !member["value"].as_str().expect("text").contains('\n')));
    }

    #[test]
    fn a15_what_cannot_be_shown_whole_cannot_be_agreed_to() {
        let long = members(&json!({ "text": "x".repeat(MAX_SHOWN), "to": "me" })).expect_err("is too long");
        assert_eq!(long, format!("{} bytes, and 32768 can be shown", MAX_SHOWN + 21));
        let many = members(&json!((0..=MAX_VALUES).collect::<Vec<_>>())).expect_err("are too many");
        assert_eq!(many, "201 values, and 200 can be shown");
    }

    proptest! {
        #[test]
        fn a15_every_value_is_shown_whole(texts in prop::collection::vec(("\\PC{1,8}", ".{0,40}"), 0..20)) {
            let arguments: serde_json::Map<String, Value> =
                texts.into_iter().map(|(name, text)| (name, json!({ "in": [text] }))).collect();
            let shown = members(&arguments.clone().into()).expect("is shown");
            prop_assert_eq!(shown.len(), arguments.len().max(1));
            for value in arguments.values() {
                let text = value["in"][0].to_string();
                let is_whole = |member: &Value| {
                    let read: Result<Value, _> = serde_json::from_str(member["value"].as_str().unwrap_or_default());
                    read.ok().as_ref() == Some(&value["in"][0]) && member["bytes"] == text.len()
                };
                prop_assert!(shown.iter().any(is_whole), "{} in {:?}", text, shown);
            }
        }
    }
}
