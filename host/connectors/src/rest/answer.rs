//! A service's answer becomes what a tool gives.
//!
//! The shape is MCP's (`ConnectorToolCallResponse`, contract §11.1), so that callers need not know what kind of connector
//! they use; its `structuredContent` is the envelope `{success, data, metadata}`. An error of the service is an answer as
//! well: `isError` is set and the data is what the service said. Secrets are taken out here, before anything is cut or
//! encoded, and of the headers only a few are passed on; cookies and those about authentication never (THREATS row 1).

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use super::{Operation, body};
use crate::{
    egress::scrub::Scrubber,
    protocol::service::{Answered, Verdict, object, response},
};

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

/// Takes secrets out, and counts them.
struct Cleaner<'a> {
    scrubber: &'a Scrubber,
    count: usize,
}

impl Cleaner<'_> {
    fn text<'t>(&mut self, text: &'t str) -> Cow<'t, str> {
        let (cleaned, count) = self.scrubber.counted(text);
        self.count += count;
        cleaned
    }

    fn value(&mut self, value: &mut Value) {
        self.count += self.scrubber.value(value);
    }
}

/// What a tool call gives. The body's content encoding is already undone.
pub(super) fn answer(
    connector: &str,
    operation: &Operation,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    scrubber: &Scrubber,
) -> Answered {
    let (is_error, mut cleaner) = (status >= 400, Cleaner { scrubber, count: 0 });
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.map(|text| cleaner.text(text));
    let mut data = data(content_type.as_deref(), body, &mut cleaner);
    if is_error {
        cut(&mut data, &mut cleaner);
    }
    let content = content(content_type.as_deref(), &data, &mut cleaner);
    let headers = passed_on(headers, &mut cleaner);
    let metadata = json!({
        "connector": connector, "resource": operation.slug, "status": status, "headers": headers,
    });
    let envelope = object([("success", (!is_error).into()), ("data", data), ("metadata", metadata)]);
    let meta = object([("isError", is_error.into()), ("structuredContent", envelope)]);
    let value = response(vec![content], meta);
    Answered { value, redactions: cleaner.count, credential: Verdict::Unsaid }
}

/// JSON as it is, text as text, bytes as base64, nothing as null.
fn data(content_type: Option<&str>, body: &[u8], cleaner: &mut Cleaner<'_>) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    let is_bytes = |media: &str| !body::is_json(media) && !body::is_text(media) && !media.trim().is_empty();
    let body = match body.strip_prefix(b"\xef\xbb\xbf") {
        // A mark of the encoding is no part of a text.
        Some(rest) if !content_type.is_some_and(is_bytes) => rest,
        _ => body,
    };
    // Where nothing is said, it may be anything.
    let as_json = content_type.is_none_or(|media| media.trim().is_empty() || body::is_json(media));
    let json = || airlock_engine::json::check_bytes(body).and_then(|_| serde_json::from_slice(body));
    if as_json && let Ok(mut value) = json() {
        // One look at the whole is faster than one at each of its texts.
        if !cleaner.scrubber.is_clean_json(body) {
            cleaner.value(&mut value);
        }
        return value;
    }
    let as_text = |media| body::is_text(media) || body::is_form(media);
    if (as_json || content_type.is_some_and(as_text))
        && let Some(text) = decoded(content_type, body)
    {
        return cleaner.text(&text).into();
    }
    let media = content_type.unwrap_or("application/octet-stream");
    let mut bytes = json!({ "content_type": media, "base64": STANDARD.encode(body) });
    cleaner.value(&mut bytes);
    bytes
}

/// Text in the two encodings that services still use.
fn decoded<'a>(content_type: Option<&str>, body: &'a [u8]) -> Option<Cow<'a, str>> {
    let is_latin = content_type.is_some_and(|media| {
        let media = media.to_ascii_lowercase();
        ["iso-8859-1", "latin1", "windows-1252"].iter().any(|charset| media.contains(charset))
    });
    match std::str::from_utf8(body) {
        Ok(text) => Some(text.into()),
        Err(_) if is_latin => Some(body.iter().map(|&byte| char::from(byte)).collect()),
        Err(_) => None,
    }
}

/// Leaves the beginning of a long error.
fn cut(data: &mut Value, cleaner: &mut Cleaner<'_>) {
    let text = match &*data {
        Value::String(text) if text.len() <= MAX_ERROR => return,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.len() > MAX_ERROR {
        let text = cleaner.text(&text);
        *data = format!("{}…", &text[..text.floor_char_boundary(MAX_ERROR)]).into();
    }
}

/// The data once more, as MCP's content.
fn content(content_type: Option<&str>, data: &Value, cleaner: &mut Cleaner<'_>) -> Value {
    let media = content_type.and_then(|media| media.split(';').next()).unwrap_or_default().trim();
    let bytes =
        data.get("base64").filter(|_| data.get("content_type").and_then(Value::as_str) == content_type);
    let kind = media.split('/').next().filter(|kind| ["image", "audio"].contains(kind));
    match (data, bytes, kind) {
        (_, Some(bytes), Some(kind)) => json!({ "type": kind, "data": bytes, "mimeType": media }),
        (Value::String(text), ..) => json!({ "type": "text", "text": text }),
        (Value::Null, ..) => json!({ "type": "text", "text": "" }),
        // A secret may be made of what stands between texts as well.
        (data, ..) => {
            let text = serde_json::to_string(data).unwrap_or_default();
            let text = match cleaner.text(&text) {
                Cow::Borrowed(_) => text,
                Cow::Owned(cleaned) => cleaned,
            };
            object([("type", "text".into()), ("text", text.into())])
        }
    }
}

fn passed_on(headers: &HeaderMap, cleaner: &mut Cleaner<'_>) -> Value {
    let is_known =
        |name: &str| HEADERS.contains(&name) || HEADERS_OF.iter().any(|start| name.starts_with(start));
    let mut passed = Map::new();
    for name in headers.keys().filter(|name| is_known(name.as_str())) {
        let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        let value = match values.as_slice() {
            [value] => cleaner.text(value).into(),
            values => cleaner.text(&values.join(", ")).into(),
        };
        passed.insert(cleaner.text(name.as_str()).into_owned(), value);
    }
    passed.into()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::{
        egress::scrub::REDACTED,
        rest::tests::{operation, pets},
    };

    const SECRET: &str = "s3cr3t-token-0123";

    fn of(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Value {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a name");
            map.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let mut scrub = Scrubber::default();
        scrub.add(SECRET);
        let answered =
            crate::rest::answer("shop", operation(&pets(), "list-pets"), status, &map, body, &scrub);
        let found = answered.value.to_string().matches(REDACTED).count();
        assert_eq!(answered.redactions > 0, found > 0);
        answered.value
    }

    fn data(content_type: &str, body: &[u8]) -> Value {
        of(200, &[("content-type", content_type)], body)["metadata"]["mcp_meta"]["structuredContent"]["data"]
            .take()
    }

    #[test]
    fn an_answer_has_the_shape_of_a_tool_call_and_the_envelope_inside() {
        let answer = of(200, &[("content-type", "application/json"), ("etag", "\"1\"")], br#"{"id": 7}"#);
        let envelope = json!({
            "success": true, "data": { "id": 7 },
            "metadata": {
                "connector": "shop", "resource": "list-pets", "status": 200,
                "headers": { "content-type": "application/json", "etag": "\"1\"" },
            },
        });
        let expected = json!({
            "content": [{ "type": "text", "text": "{\"id\":7}" }],
            "metadata": { "mcp_meta": { "isError": false, "structuredContent": envelope } },
        });
        assert_eq!(answer, expected);
    }

    #[test]
    fn an_error_of_the_service_is_an_answer_with_a_limit() {
        let answer = of(422, &[("content-type", "application/problem+json")], br#"{"title": "No"}"#);
        let meta = &answer["metadata"]["mcp_meta"];
        assert_eq!((&meta["isError"], &meta["structuredContent"]["success"]), (&json!(true), &json!(false)));
        assert_eq!(meta["structuredContent"]["data"], json!({ "title": "No" }));
        for (media, body) in [
            ("text/html", "é".repeat(MAX_ERROR)),
            ("application/json", json!({ "a": "é".repeat(MAX_ERROR) }).to_string()),
            ("application/zip", "é".repeat(MAX_ERROR)),
        ] {
            let long = of(500, &[("content-type", media)], body.as_bytes());
            let data = &long["metadata"]["mcp_meta"]["structuredContent"]["data"];
            assert!(data.as_str().expect("text").len() <= MAX_ERROR + 4, "{media}");
        }
    }

    #[test]
    fn bodies_are_read_as_what_they_are() {
        for (media, body, expected) in [
            ("application/json", &b"{broken"[..], json!("{broken")),
            ("application/json; charset=utf-8", b"[1]", json!([1])),
            ("application/vnd.api+json", b"null", Value::Null),
            ("text/plain", b"7", json!("7")),
            ("application/xml", b"<a/>", json!("<a/>")),
            ("text/csv; charset=ISO-8859-1", b"S\xe3o", json!("São")),
            ("text/plain", b"\xff", json!({ "content_type": "text/plain", "base64": "/w==" })),
            ("application/pdf", b"%PDF", json!({ "content_type": "application/pdf", "base64": "JVBERg==" })),
            ("", b"{\"a\": 1}", json!({ "a": 1 })),
            ("", b"plain", json!("plain")),
            ("application/json", b"", Value::Null),
        ] {
            assert_eq!(data(media, body), expected, "{media}");
        }
        let nothing = of(204, &[], b"");
        assert_eq!(nothing["content"][0]["text"], "");
    }

    #[test]
    fn images_and_sounds_are_content_of_their_own_kind() {
        for (media, kind) in [("image/png", "image"), ("audio/mpeg; x=y", "audio")] {
            let answer = of(200, &[("content-type", media)], b"data");
            let mime = media.split(';').next().expect("a type");
            assert_eq!(answer["content"][0], json!({ "type": kind, "data": "ZGF0YQ==", "mimeType": mime }));
        }
        let bytes = of(200, &[("content-type", "application/zip")], b"data");
        assert_eq!(bytes["content"][0]["type"], "text");
    }

    #[test]
    fn row_01_of_the_headers_only_harmless_ones_are_passed_on() {
        let headers = [
            ("set-cookie", "session=1"),
            ("www-authenticate", "Bearer"),
            ("authorization", "x"),
            ("x-echo", "x"),
            ("proxy-authenticate", "x"),
            ("retry-after", "3"),
            ("x-ratelimit-remaining", "7"),
            ("link", "<a>; rel=next"),
            ("link", "<b>; rel=last"),
            ("location", "/pets/7"),
        ];
        let answer = of(200, &headers, b"");
        let expected = json!({
            "retry-after": "3", "x-ratelimit-remaining": "7", "link": "<a>; rel=next, <b>; rel=last",
            "location": "/pets/7",
        });
        assert_eq!(answer["metadata"]["mcp_meta"]["structuredContent"]["metadata"]["headers"], expected);
    }

    #[test]
    fn row_01_a_secret_that_comes_back_is_taken_out_before_anything_is_encoded_or_cut() {
        let text = format!("Authorization: Bearer {SECRET}");
        let late = format!("{}{SECRET}", "x".repeat(MAX_ERROR - 8));
        for (status, media, body) in [
            (200, "application/json", json!({ "headers": { "Authorization": text }, SECRET: 1 }).to_string()),
            (200, "text/plain", text.clone()),
            (200, "application/octet-stream", text.clone()),
            (200, "image/png", text.clone()),
            (401, "text/html", late.clone()),
            (500, "application/json", json!([late]).to_string()),
        ] {
            let headers =
                [("content-type", media), ("location", &format!("/a?key={SECRET}")), ("etag", SECRET)];
            let answer = of(status, &headers, body.as_bytes()).to_string();
            let encoded = STANDARD.encode(SECRET);
            for form in [SECRET, &SECRET[..8], &encoded[..8]] {
                assert!(!answer.contains(form), "{media}: {answer}");
            }
        }
    }
}
