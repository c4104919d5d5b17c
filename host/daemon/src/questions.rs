//! `airlock executions questions` and `answer`: what an execution asks people, and their answers.

use std::collections::BTreeMap;

use airlock_engine::Json;
use reqwest::Method;
use serde_json::Value;

use crate::{
    client::{Daemon, segment},
    ended::Ended,
    output::{Output, Tone, plain, say, short, text},
};

/// Shows the open questions of an execution.
pub(crate) async fn list(daemon: &Daemon, id: &str, output: Output) -> anyhow::Result<Ended> {
    let answer = daemon.get(&format!("/v1/airlock/executions/{}/questions", segment(id))).await?;
    let questions = &answer["questions"];
    output.value(questions, || {
        for question in questions.as_array().into_iter().flatten() {
            say!("{}", output.paint(Tone::Strong, &short(&text(&question["label"]), 500)));
            let about = question["about"].as_object().filter(|about| !about.is_empty());
            about.iter().for_each(|about| {
                let has_members = about.get("members").is_some();
                let is_shown = |name: &str| !has_members || !["arguments", "members"].contains(&name);
                let fields = about.iter().filter(|(name, _)| is_shown(name));
                let fields = fields.map(|(name, value)| format!("{}: {}", plain(name), brief(value)));
                say!("  {}", fields.collect::<Vec<_>>().join(", "));
                members(about.get("members")).iter().for_each(|line| say!("    {line}"));
            });
            if let Some(at) = question["expires_at"].as_str() {
                say!("  {} {}", output.paint(Tone::Quiet, "expires at"), plain(at));
            }
            say!("  {} {}", output.paint(Tone::Quiet, "form"), plain(&question["input_schema"].to_string()));
            say!("  {}", command(id, &text(&question["task_id"]), &question["input_schema"]));
        }
    });
    Ok(Ended::Well)
}

/// Answers one of them.
pub(crate) async fn answer(
    daemon: &Daemon,
    id: &str,
    task: &str,
    input: &Json,
    output: Output,
) -> anyhow::Result<Ended> {
    let path = format!("/v1/airlock/executions/{}/questions/{}", segment(id), segment(task));
    let answer = daemon.ask(Method::POST, &path, Some(&BTreeMap::from([("input", input)]))).await?;
    let message: Value = serde_json::from_str(&answer).unwrap_or_default();
    output.document(&answer, || say!("{}", text(&message["message"])));
    Ok(Ended::Well)
}

/// What a call would send, value by value and whole: who agrees to it has seen it.
fn members(members: Option<&Value>) -> Vec<String> {
    let members = members.and_then(Value::as_array).into_iter().flatten();
    let line = |member: &Value| {
        let (at, value) = (plain(&text(&member["at"])), plain(&text(&member["value"])));
        let at = if at.is_empty() { "/".to_owned() } else { at };
        format!("{at} ({} bytes): {value}", text(&member["bytes"]))
    };
    members.map(line).collect()
}

fn brief(value: &Value) -> String {
    short(&plain(&text(value)), 100)
}

/// The command that answers a question. What people decide is left for them to fill in: as it stands, it is no answer.
pub(crate) fn command(id: &str, task: &str, schema: &Value) -> String {
    let wanted = schema["required"].as_array().into_iter().flatten();
    let fields: Vec<String> = wanted.map(|name| format!("{name}: …")).collect();
    let input = match schema["type"].as_str() {
        Some("object") => format!("{{{}}}", fields.join(", ")),
        _ => "…".to_owned(),
    };
    format!("airlock executions answer {} {} --input {}", word(id), word(task), quoted(&input))
}

/// A word for a shell that is safe to copy, whoever chose it.
fn word(text: &str) -> String {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "-_.:".contains(letter);
    if !text.is_empty() && text.chars().all(safe) { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    format!("'{}'", plain(text).replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_command_names_what_is_to_be_filled_in() {
        let form = json!({ "type": "object", "required": ["go", "how"], "properties": { "why": {} } });
        assert_eq!(
            command("order-7", "t", &form),
            r#"airlock executions answer order-7 t --input '{"go": …, "how": …}'"#
        );
        assert_eq!(command("e", "t", &json!({})), "airlock executions answer e t --input '…'");
    }

    #[test]
    fn a15_who_is_asked_sees_every_value_of_a_call_whole() {
        let long = format!("\"{}\"", "x".repeat(20_000));
        let sent = json!([
            { "at": "/to", "bytes": 4, "value": "\"me\"" }, { "at": "/a\u{9b}2J", "bytes": 20_002, "value": long },
        ]);
        let lines = members(Some(&sent));
        assert_eq!(lines[0], "/to (4 bytes): \"me\"");
        assert!(lines[1].ends_with(&long) && !lines[1].contains('\u{9b}'));
        assert!(members(None).is_empty() && members(Some(&json!("x"))).is_empty());
    }

    #[test]
    fn nothing_that_others_chose_gets_out_of_its_quotes() {
        let form = json!({ "type": "object", "required": ["'; rm -rf ~; '"] });
        assert_eq!(
            command("e", "t; rm", &form),
            r#"airlock executions answer e 't; rm' --input '{"'\''; rm -rf ~; '\''": …}'"#
        );
        assert!(!command("e", "\u{9b}2J", &form).contains('\u{9b}'));
    }
}
