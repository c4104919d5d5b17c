//! A service's answer becomes what a tool gives.
//!
//! The shape is MCP's (`ConnectorToolCallResponse`, contract §11.1), so that callers need not know what kind of connector
//! they use; its `structuredContent` is the envelope `{success, data, metadata}`. An error of the service is an answer as
//! well: `isError` is set and the data is what the service said. Secrets are taken out here, before anything is cut or
//! encoded, and of the headers only a few are passed on; cookies and those about authentication never (THREATS row 1).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::{Operation, body};
use crate::scrub::Scrubber;

/// Bytes of the data of an error.
const MAX_ERROR: usize = 64 << 10;

/// Headers that say something about the data or about when to come again.
const HEADERS: [&str; 9] = [
    "content-type",
    "etag",
    "last-modified",
    "link",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "x-total-count",
];
const HEADERS_OF: [&str; 2] = ["x-ratelimit-", "ratelimit-"];

/// What a tool call gives. The body's content encoding is already undone.
pub(crate) fn answer(
    connector: &str,
    operation: &Operation,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    scrub: &Scrubber,
) -> Value {
    let is_error = status >= 400;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.map(|text| scrub.text(text));
    let mut data = data(content_type.as_deref(), body, scrub);
    if is_error {
        cut(&mut data);
    }
    let content = content(content_type.as_deref(), &data);
    let envelope = json!({
        "success": !is_error,
        "data": data,
        "metadata": {
            "connector": connector, "resource": operation.slug, "status": status, "headers": passed_on(headers, scrub),
        },
    });
    json!({ "content": [content], "metadata": { "mcp_meta": { "isError": is_error, "structuredContent": envelope } } })
}

/// JSON as it is, text as text, bytes as base64, nothing as null.
fn data(content_type: Option<&str>, body: &[u8], scrub: &Scrubber) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    let text = || decoded(content_type, body).map(|text| scrub.text(&text));
    let json = || {
        let mut value = serde_json::from_slice(body).ok()?;
        scrub.value(&mut value);
        Some(value)
    };
    let found = match content_type {
        Some(media) if body::is_json(media) => json().or_else(|| Some(text()?.into())),
        Some(media) if body::is_text(media) || body::is_form(media) => text().map(Value::from),
        Some(media) if !media.trim().is_empty() => None,
        // Nothing is said: it may be anything.
        _ => json().or_else(|| Some(text()?.into())),
    };
    found.unwrap_or_else(|| {
        let media = content_type.unwrap_or("application/octet-stream");
        let mut bytes = json!({ "content_type": media, "base64": STANDARD.encode(body) });
        scrub.value(&mut bytes);
        bytes
    })
}

/// Text in the two encodings that services still use.
fn decoded(content_type: Option<&str>, body: &[u8]) -> Option<String> {
    let is_latin = content_type.is_some_and(|media| {
        let media = media.to_ascii_lowercase();
        ["iso-8859-1", "latin1", "windows-1252"].iter().any(|charset| media.contains(charset))
    });
    match std::str::from_utf8(body) {
        Ok(text) => Some(text.to_owned()),
        Err(_) if is_latin => Some(body.iter().map(|&byte| char::from(byte)).collect()),
        Err(_) => None,
    }
}

/// Leaves the beginning of a long error.
fn cut(data: &mut Value) {
    let text = match &*data {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.len() > MAX_ERROR {
        *data = format!("{}…", &text[..text.floor_char_boundary(MAX_ERROR)]).into();
    }
}

/// The data once more, as MCP's content.
fn content(content_type: Option<&str>, data: &Value) -> Value {
    let media = content_type.and_then(|media| media.split(';').next()).unwrap_or_default().trim();
    let bytes =
        data.get("base64").filter(|_| data.get("content_type").and_then(Value::as_str) == content_type);
    let kind = media.split('/').next().filter(|kind| ["image", "audio"].contains(kind));
    match (data, bytes, kind) {
        (_, Some(bytes), Some(kind)) => json!({ "type": kind, "data": bytes, "mimeType": media }),
        (Value::String(text), ..) => json!({ "type": "text", "text": text }),
        (Value::Null, ..) => json!({ "type": "text", "text": "" }),
        (data, ..) => json!({ "type": "text", "text": data.to_string() }),
    }
}

fn passed_on(headers: &HeaderMap, scrub: &Scrubber) -> Value {
    let is_known =
        |name: &str| HEADERS.contains(&name) || HEADERS_OF.iter().any(|start| name.starts_with(start));
    let known = headers.keys().filter(|name| is_known(name.as_str()));
    let values = known.map(|name| {
        let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (name.to_string(), Value::from(scrub.text(&values.join(", "))))
    });
    Value::Object(values.collect())
}
