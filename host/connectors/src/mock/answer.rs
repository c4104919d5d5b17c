//! What a mock answers with: a whole `ConnectorToolCallResponse`, or a shorter form of one.

use serde_json::{Value, json};

/// What answers of a connector look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape<'a> {
    /// Those of an MCP server.
    Mcp,
    /// Those of a REST API: their structured content is the envelope `{success, data, metadata}`.
    Rest {
        /// The connector's name, which stands in the envelope.
        connector: &'a str,
    },
}

/// Says what is expected if this is no answer.
pub(super) fn check(answer: &Value) -> Result<(), String> {
    let forms = ["content", "data", "text", "error"];
    let given: Vec<_> = forms.iter().filter(|form| answer.get(**form).is_some()).collect();
    let whole = given.contains(&&"content");
    let others = answer.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let known = |name: &str| match whole {
        true => ["content", "metadata"].contains(&name),
        false => name == "status" || forms.contains(&name),
    };
    if given.len() != 1 || !others.into_iter().all(known) {
        return Err(
            "expected an object with a list 'content' (and 'metadata'), or with one of 'data', 'text' and \
                    'error' (and a 'status')"
                .into(),
        );
    }
    let text = |form: &str| answer.get(form).is_none_or(Value::is_string);
    let status = answer.get("status").is_none_or(|status| matches!(status.as_u64(), Some(100..=599)));
    match (answer.get("content").is_none_or(Value::is_array), text("text") && text("error"), status) {
        (false, ..) => Err("expected a list in 'content'".into()),
        (_, false, _) => Err("expected a text in 'text' or 'error'".into()),
        (.., false) => Err("expected an HTTP status in 'status'".into()),
        _ => Ok(()),
    }
}

/// The whole answer.
pub(super) fn expand(answer: &Value, tool: &str, shape: Shape<'_>) -> Value {
    if answer["content"].is_array() {
        let mut whole = answer.clone();
        if whole["metadata"]["mcp_meta"]["isError"].is_null() {
            // Readers look at it to tell whether the tool failed.
            let metadata = whole["metadata"].take();
            whole["metadata"] = if metadata.is_object() { metadata } else { json!({}) };
            let meta = whole["metadata"]["mcp_meta"].take();
            whole["metadata"]["mcp_meta"] = if meta.is_object() { meta } else { json!({}) };
            whole["metadata"]["mcp_meta"]["isError"] = false.into();
        }
        return whole;
    }
    let is_error = answer["error"].is_string();
    let text = answer["text"].as_str().or(answer["error"].as_str());
    let data = text.map_or_else(|| answer["data"].clone(), Value::from);
    let mut meta = json!({ "isError": is_error });
    match shape {
        Shape::Mcp if text.is_none() && data.is_object() => meta["structuredContent"] = data.clone(),
        Shape::Mcp => {}
        Shape::Rest { connector } => {
            let status = answer["status"].as_u64().unwrap_or(if is_error { 500 } else { 200 });
            meta["structuredContent"] = json!({
                "success": !is_error, "data": data,
                "metadata": { "connector": connector, "resource": tool, "status": status, "headers": {} },
            });
        }
    }
    // Data is read back from its text where there is no structured content: so it is JSON, be it a string.
    let text = text.map_or_else(|| data.to_string(), str::to_owned);
    json!({ "content": [{ "type": "text", "text": text }], "metadata": { "mcp_meta": meta } })
}
