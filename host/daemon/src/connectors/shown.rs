//! What commands about connectors show people.

use serde_json::Value;

use crate::{
    document::pretty,
    output::{Output, Tone, plain, say, text},
};

/// What a person does next with a connector that is not ready, in the daemon's words.
pub(super) fn next_step(connector: &Value) -> String {
    connector["next_step"].as_str().map(|step| format!("; {}", plain(step))).unwrap_or_default()
}

/// Whether a step failed for another reason than that there is no credential yet.
pub(super) fn failed_otherwise(check: &Value) -> bool {
    let mut steps = check["steps"].as_array().into_iter().flatten();
    steps.any(|step| step["state"] == "failed" && step["step"] != "credential")
}

pub(super) fn warn(output: Output, text: &str) {
    eprintln!("{} {}", output.paint(Tone::Bad, "warning"), plain(text));
}

/// How many tools wait for approval.
pub(super) fn waiting(pins: &Value) -> usize {
    pins["pins"].as_array().into_iter().flatten().filter(|pin| !pin["changed"].is_null()).count()
}

pub(super) fn to_approve(name: &str, waiting: usize) -> String {
    let (tools, them) = if waiting == 1 { ("tool waits", "it") } else { ("tools wait", "them") };
    format!(
        "{waiting} {tools} for approval: look at {them} with `airlock connectors tools {name} --all`, then `airlock \
         connectors approve {name}`"
    )
}

/// What was approved, if anything was.
pub(super) fn approved(answer: &Value) -> Option<String> {
    let approved: Vec<String> = answer["approved"].as_array().into_iter().flatten().map(text).collect();
    (!approved.is_empty()).then(|| format!("approved: {}", approved.join(", ")))
}

/// What a change of a connector leaves to be approved, or approved by itself: a line for each.
pub(super) fn report_waiting(name: &str, answer: &Value) {
    const MOST: usize = 20;
    if let Some(approved) = approved(answer) {
        say!("{approved}");
    }
    let waiting = answer["waiting"].as_array().map(Vec::as_slice).unwrap_or_default();
    for operation in waiting.iter().take(MOST) {
        say!("  {} {}", text(&operation["tool"]), state(&operation["state"], &operation["fields"]));
    }
    if waiting.len() > MOST {
        say!("  … and {} more: `airlock connectors pins {name}`", waiting.len() - MOST);
    }
    if !waiting.is_empty() {
        say!("{}", to_approve(name, waiting.len()));
    }
}

fn state(state: &Value, fields: &Value) -> String {
    let fields: Vec<String> = fields.as_array().into_iter().flatten().map(text).collect();
    match state.as_str() {
        Some("new") => "waits for approval".to_owned(),
        _ => format!("changed: {}", fields.join(", ")),
    }
}

/// What to say of a list of tools that does not show all.
pub(super) fn missing(name: &str, shown: usize, pins: &Value) -> Option<String> {
    match (waiting(pins), shown) {
        (0, 0) => Some(format!(
            "there is no tool that can be called: `airlock connectors check {name}` says what is listed, and what the \
             rules leave of it"
        )),
        (0, _) => None,
        (waiting, _) => Some(to_approve(name, waiting)),
    }
}

/// Steps of a check, a line each, and under it what was left out.
pub(super) fn report_steps(output: Output, steps: &Value) {
    for step in steps.as_array().into_iter().flatten() {
        let (tone, word) = match step["state"].as_str() {
            Some("ok") => (Tone::Good, "ok"),
            Some("failed") => (Tone::Bad, "failed"),
            _ => (Tone::Quiet, "–"),
        };
        say!(
            "  {:<14} {} {}  {}",
            text(&step["step"]),
            output.paint(tone, &format!("{word:<6}")),
            output.paint(Tone::Quiet, &format!("{:>6} ms", step["duration_ms"].as_u64().unwrap_or(0))),
            text(&step["message"])
        );
        for place in step["asked"].as_array().into_iter().flatten() {
            say!("      asked {}: {}", text(&place["place"]), text(&place["outcome"]));
        }
        for left_out in step["left_out"].as_array().into_iter().flatten() {
            say!("      left out {}: {}", text(&left_out["what"]), text(&left_out["reason"]));
        }
    }
}

/// What a tool answered: its blocks, or what it says for programs alone where it has none.
pub(super) fn answered(answer: &Value) -> Vec<String> {
    let blocks = answer["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let structured = &answer["metadata"]["mcp_meta"]["structuredContent"];
    match blocks {
        [] if !structured.is_null() => vec![pretty(structured)],
        blocks => {
            blocks.iter().map(|block| block["text"].as_str().map_or_else(|| pretty(block), plain)).collect()
        }
    }
}

pub(super) fn pin(pin: &Value) -> Vec<String> {
    let changed = &pin["changed"];
    let (state, since, digest) = match pin["state"].as_str() {
        _ if changed.is_null() => ("approved".to_owned(), &pin["pinned_at"], &pin["digest"]),
        word => {
            let digest = if word == Some("new") { &changed["digest"] } else { &pin["digest"] };
            (state(&pin["state"], &changed["fields"]), &changed["since"], digest)
        }
    };
    vec![text(&pin["tool"]), state, text(since), text(digest).chars().take(16).collect()]
}

pub(super) fn row(connector: &Value) -> Vec<String> {
    let methods = connector["supported_auth_methods"].as_array().into_iter().flatten();
    let methods: Vec<String> = methods.map(|method| text(&method["method_type"])).collect();
    let ready = match (connector["is_authenticated"] == true, connector["credential_state"].as_str()) {
        (true, _) if connector["reachable"]["ok"] == false => "unreachable".to_owned(),
        (true, _) => "yes".to_owned(),
        (false, Some(state)) => plain(state),
        (false, None) => "no credential".to_owned(),
    };
    vec![
        text(&connector["name"]),
        methods.join(", "),
        ready,
        text(&connector["visibility"]),
        text(&connector["server"]),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_that_does_not_show_all_says_why() {
        let pin = |changed: Value| json!({ "tool": "a", "changed": changed });
        let pins = |waiting: usize| {
            let mut all = vec![pin(Value::Null)];
            all.extend((0..waiting).map(|_| pin(json!({ "fields": [] }))));
            json!({ "pins": all })
        };
        assert_eq!(missing("crm", 1, &pins(0)), None);
        assert!(missing("crm", 0, &pins(0)).expect("a hint").contains("airlock connectors check crm"));
        let one = missing("crm", 1, &pins(1)).expect("a hint");
        assert!(
            one.starts_with(
                "1 tool waits for approval: look at it with `airlock connectors tools crm --all`"
            )
        );
        let two = missing("crm", 0, &pins(2)).expect("a hint");
        assert!(
            two.starts_with("2 tools wait") && two.ends_with("`airlock connectors approve crm`"),
            "{two}"
        );
    }

    #[test]
    fn a_tool_that_nobody_has_approved_yet_is_not_one_that_changed() {
        let changed =
            json!({ "since": "2026-11-29T10:00:00Z", "digest": "0123456789abcdef01", "fields": ["name"] });
        let new =
            json!({ "tool": "a", "state": "new", "digest": null, "pinned_at": "x", "changed": changed });
        assert_eq!(pin(&new), ["a", "waits for approval", "2026-11-29T10:00:00Z", "0123456789abcdef"]);
        let other =
            json!({ "tool": "a", "state": "changed", "digest": "d", "pinned_at": "x", "changed": changed });
        assert_eq!(pin(&other), ["a", "changed: name", "2026-11-29T10:00:00Z", "d"]);
        let approved =
            json!({ "tool": "a", "state": "approved", "digest": "d", "pinned_at": "x", "changed": null });
        assert_eq!(pin(&approved), ["a", "approved", "x", "d"]);
    }

    #[test]
    fn ready_is_what_was_last_seen() {
        let ready = |connector: Value| row(&connector)[2].clone();
        let seen = |ok: Value| json!({ "is_authenticated": true, "reachable": ok });
        assert_eq!(ready(seen(Value::Null)), "yes");
        assert_eq!(ready(seen(json!({ "ok": true }))), "yes");
        assert_eq!(ready(seen(json!({ "ok": false }))), "unreachable");
        assert_eq!(ready(json!({ "is_authenticated": false, "credential_state": "refused" })), "refused");
        assert_eq!(
            ready(json!({ "is_authenticated": false, "reachable": { "ok": false } })),
            "no credential"
        );
    }

    #[test]
    fn an_answer_without_blocks_is_shown_by_its_structured_content() {
        let shown = |content: Value, meta: Value| {
            answered(&json!({ "content": content, "metadata": { "mcp_meta": meta } })).join("|")
        };
        let structured = json!({ "structuredContent": { "total": 2 }, "isError": false });
        assert_eq!(shown(json!([]), structured.clone()), "{\n  \"total\": 2\n}");
        assert_eq!(shown(Value::Null, json!({ "structuredContent": [1] })), "[\n  1\n]");
        // What stands there in words says the same.
        let said = json!([{ "type": "text", "text": "2 in all" }, { "type": "image", "data": "eA==" }]);
        let both = shown(said, structured);
        assert!(both.starts_with("2 in all|{") && !both.contains("total"), "{both}");
        assert_eq!(shown(json!([]), json!({ "isError": false })), "");
        let turned = json!({ "structuredContent": { "a": "x\u{202e}y\u{1b}[2J" } });
        assert!(!shown(json!([]), turned).contains(['\u{202e}', '\u{1b}']));
    }

    #[test]
    fn a_step_that_failed_for_want_of_a_credential_alone_is_no_warning() {
        let check = |step: &str| json!({ "steps": [{ "step": step, "state": "failed" }, { "step": "x", "state": "ok" }] });
        assert!(!failed_otherwise(&check("credential")) && failed_otherwise(&check("tools")));
        assert!(!failed_otherwise(&json!({ "steps": [] })));
    }
}
