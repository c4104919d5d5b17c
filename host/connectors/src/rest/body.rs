//! Bodies: which media types are spoken, and how values are written in them.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{
    Format, Given, Operation,
    arguments::invalid,
    request::{deep, encode as percent, text},
};
use crate::ConnectorsError;

/// The best rank.
pub(super) const JSON: u8 = 0;

/// The order in which media types are chosen.
pub(super) fn rank(media: &str) -> u8 {
    match essence(media).as_str() {
        "application/json" => JSON,
        _ if is_json(media) => 1,
        "*/*" | "application/*" => 2,
        _ if is_form(media) => 3,
        _ if is_multipart(media) => 4,
        _ if is_text(media) => 5,
        _ => 6,
    }
}

/// The type without its parameters, in lower case.
fn essence(media: &str) -> String {
    media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

pub(super) fn is_json(media: &str) -> bool {
    let essence = essence(media);
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

pub(super) fn is_form(media: &str) -> bool {
    essence(media) == "application/x-www-form-urlencoded"
}

pub(super) fn is_multipart(media: &str) -> bool {
    essence(media) == "multipart/form-data"
}

pub(super) fn is_text(media: &str) -> bool {
    let essence = essence(media);
    let known = [
        "application/xml",
        "application/yaml",
        "application/x-yaml",
        "application/x-ndjson",
        "application/graphql",
        "application/javascript",
        "application/sql",
    ];
    essence.starts_with("text/") || essence.ends_with("+xml") || known.contains(&essence.as_str())
}

/// The body for arguments in their flat form.
pub(super) fn encode(
    operation: &Operation,
    arguments: &Map<String, Value>,
) -> Result<Option<(HeaderValue, Vec<u8>)>, ConnectorsError> {
    let Some(body) = &operation.body else { return Ok(None) };
    let (value, steps) = match &body.given {
        Given::Whole(argument) => (arguments.get(argument).cloned(), vec![argument.as_str()]),
        Given::Fields { names, open } => {
            let is_parameter =
                |name: &str| operation.parameters.iter().any(|parameter| parameter.argument == name);
            let fields =
                arguments.iter().filter(|(name, _)| names.contains(*name) || *open && !is_parameter(name));
            let fields: Map<_, _> = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
            ((!fields.is_empty() || body.required).then_some(Value::Object(fields)), Vec::new())
        }
    };
    let Some(value) = value else {
        return match body.required {
            true => Err(invalid(&steps, format!("'{}' needs a body", operation.slug))),
            false => Ok(None),
        };
    };
    let mut content_type = body.media.clone();
    let bytes = match &body.format {
        Format::Json => value.to_string().into_bytes(),
        Format::Text => match value {
            Value::String(text) => text.into_bytes(),
            _ => return Err(invalid(&steps, "a text is expected here")),
        },
        Format::Bytes => {
            decoded(&value).ok_or_else(|| invalid(&steps, "bytes in base64 are expected here"))?
        }
        Format::Form { deep, joined } => {
            let text = form(deep, joined, &object(value, &steps)?).map_err(|problem| problem.at(&steps))?;
            text.into_bytes()
        }
        Format::Multipart { files } => {
            let fields = object(value, &steps)?;
            let (boundary, bytes) = multipart(files, &fields).map_err(|problem| problem.at(&steps))?;
            content_type = format!("multipart/form-data; boundary={boundary}");
            bytes
        }
    };
    let content_type = HeaderValue::from_str(&content_type).map_err(|_| {
        invalid(&[], format!("the media type of the body of '{}' is not one", operation.slug))
    })?;
    Ok(Some((content_type, bytes)))
}

fn decoded(value: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(value.as_str()?.trim_end()).ok()
}

/// A field that cannot be written.
struct Problem<'a> {
    field: &'a str,
    message: &'static str,
}

impl Problem<'_> {
    fn at(&self, steps: &[&str]) -> ConnectorsError {
        invalid(&steps.iter().copied().chain([self.field]).collect::<Vec<_>>(), self.message)
    }
}

fn object(value: Value, steps: &[&str]) -> Result<Map<String, Value>, ConnectorsError> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(invalid(steps, "an object is expected here")),
    }
}

/// `application/x-www-form-urlencoded`.
fn form<'a>(
    in_brackets: &BTreeSet<String>,
    joined: &BTreeSet<String>,
    fields: &'a Map<String, Value>,
) -> Result<String, Problem<'a>> {
    let mut pairs = Vec::new();
    for (name, value) in fields {
        let encoded = percent(name);
        match value {
            value if in_brackets.contains(name) => {
                deep(&encoded, value, 0, &mut pairs).map_err(|message| Problem { field: name, message })?;
            }
            Value::Array(items) if joined.contains(name) => {
                let texts: Vec<_> = items.iter().filter_map(text).map(|text| percent(&text)).collect();
                pairs.push((encoded, texts.join(",")));
            }
            Value::Array(items) => {
                pairs.extend(items.iter().filter_map(text).map(|text| (encoded.clone(), percent(&text))));
            }
            single => pairs.extend(text(single).map(|text| (encoded, percent(&text)))),
        }
    }
    Ok(pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&"))
}

/// `multipart/form-data` (RFC 7578): the boundary and the bytes.
fn multipart<'a>(
    files: &BTreeSet<String>,
    fields: &'a Map<String, Value>,
) -> Result<(String, Vec<u8>), Problem<'a>> {
    let mut parts = Vec::new();
    for (name, value) in fields {
        let values = match value {
            Value::Array(items) => items.iter().collect(),
            single => vec![single],
        };
        for value in values.into_iter().filter(|value| !value.is_null()) {
            parts.push(match files.contains(name) {
                true => file(name, value)
                    .ok_or(Problem { field: name, message: "a file's bytes in base64 are expected here" })?,
                false => field(name, value),
            });
        }
    }
    // Whoever writes the parts cannot write the boundary into them: it is a digest of them. The same arguments give the
    // same bytes.
    let digest = parts.iter().fold(Sha256::new(), |digest, part| digest.chain_update(part));
    let boundary = format!("airlock-{}", &hex::encode(digest.finalize())[..32]);
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        bytes.extend_from_slice(&part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Ok((boundary, bytes))
}

/// A field: text, or JSON when it is not a single value.
fn field(name: &str, value: &Value) -> Vec<u8> {
    let disposition = format!("Content-Disposition: form-data; name=\"{}\"\r\n", quoted(name));
    match value {
        Value::Object(_) | Value::Array(_) => {
            format!("{disposition}Content-Type: application/json\r\n\r\n{value}").into_bytes()
        }
        single => format!("{disposition}\r\n{}", text(single).unwrap_or_default()).into_bytes(),
    }
}

/// A file: base64, alone or with its name and type.
fn file(name: &str, value: &Value) -> Option<Vec<u8>> {
    let about = |field: &str| value.get(field).and_then(Value::as_str);
    let bytes = decoded(value.get("data").unwrap_or(value))?;
    let media = about("content_type").unwrap_or("application/octet-stream");
    let media = HeaderValue::from_str(media).ok()?;
    let head = format!(
        "Content-Disposition: form-data; name=\"{}\"; filename=\"{}\"\r\nContent-Type: {}\r\n\r\n",
        quoted(name),
        quoted(about("filename").unwrap_or(name)),
        media.to_str().ok()?,
    );
    Some([head.into_bytes(), bytes].concat())
}

/// A name between quotes, as browsers write it: it cannot end the quotes or the line (THREATS row 6).
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rest::{
        by_hand, import,
        tests::{operation, pets, prepare, refused},
    };

    fn body(slug: &str, arguments: Value) -> (String, String) {
        let (media, bytes) = prepare(operation(&pets(), slug), arguments).body.expect("a body");
        (media.to_str().expect("ASCII").to_owned(), String::from_utf8(bytes).expect("UTF-8"))
    }

    #[test]
    fn json_is_chosen_first() {
        let (media, text) = body("create-pet", json!({ "name": "Rex" }));
        assert_eq!((media.as_str(), text.as_str()), ("application/json", r#"{"name":"Rex"}"#));
        let mut medias = [
            "image/png",
            "text/plain",
            "multipart/form-data",
            "*/*",
            "application/problem+json",
            "application/json; v=1",
        ];
        medias.sort_by_key(|media| rank(media));
        assert_eq!(medias[..3], ["application/json; v=1", "application/problem+json", "*/*"]);
        assert_eq!(medias[5], "image/png");
    }

    #[test]
    fn a_form_is_written_with_its_encodings() {
        let arguments = json!({
            "pet": 7, "codes": ["a", "b,c"], "gifts": ["x", "y"], "address": { "city": "São Paulo", "lines": ["1"] },
        });
        let (media, text) = body("create-order", arguments);
        assert_eq!(media, "application/x-www-form-urlencoded");
        let expected = "address%5Bcity%5D=S%C3%A3o%20Paulo&address%5Blines%5D%5B0%5D=1&codes=a,b%2Cc&gifts=x&gifts=y&pet=7";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_body_that_may_be_missing_is_sent_when_something_is_in_it() {
        let api = pets();
        assert!(prepare(operation(&api, "create-order"), json!({})).body.is_none());
        assert_eq!(body("create-pet", json!({})).1, "{}");
    }

    #[test]
    fn files_come_as_base64_with_or_without_a_name() {
        let arguments = json!({
            "id": 1, "photo": { "data": "aGVsbG8=", "filename": "a \"b\".png", "content_type": "image/png" },
            "caption": "Rex", "more": ["eA==", "eQ=="],
        });
        let (media, text) = body("upload-photo", arguments.clone());
        let boundary = media.strip_prefix("multipart/form-data; boundary=").expect("a boundary");
        let expected = [
            "",
            "Content-Disposition: form-data; name=\"caption\"\r\n\r\nRex",
            "Content-Disposition: form-data; name=\"more\"; filename=\"more\"\r\nContent-Type: application/octet-stream\r\n\r\nx",
            "Content-Disposition: form-data; name=\"more\"; filename=\"more\"\r\nContent-Type: application/octet-stream\r\n\r\ny",
            "Content-Disposition: form-data; name=\"photo\"; filename=\"a %22b%22.png\"\r\nContent-Type: image/png\r\n\r\nhello",
        ];
        let expected = expected.join(&format!("\r\n--{boundary}\r\n")).trim_start().to_owned();
        assert_eq!(text, format!("{expected}\r\n--{boundary}--\r\n"));
        assert_eq!(body("upload-photo", arguments).0, media, "the same arguments give the same request");
        let schema = operation(&pets(), "upload-photo").input_schema();
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        assert!(validator.is_valid(&json!({ "id": 1, "photo": "aGVsbG8=", "more": ["eA=="] })));
        assert!(
            !validator.is_valid(&json!({ "id": 1, "photo": 7 }))
                && !validator.is_valid(&json!({ "id": 1, "photo": { "name": "x" } }))
        );
    }

    #[test]
    fn text_and_bytes_are_sent_as_they_are() {
        assert_eq!(body("note", json!({ "body": "ünï" })), ("text/plain".into(), "ünï".into()));
        assert_eq!(
            body("replace-photo", json!({ "id": 1, "body": "aGk=" })),
            ("image/png".into(), "hi".into())
        );
        assert!(prepare(operation(&pets(), "replace-photo"), json!({ "id": 1 })).body.is_none());
    }

    #[test]
    fn an_object_in_a_multipart_body_is_json() {
        let list = json!([{
            "name": "a", "method": "POST", "path": "/a", "content_type": "multipart/form-data",
            "body": { "properties": { "about": { "type": "object" }, "none": {} }, "required": ["about"] },
        }]);
        let operations = by_hand(&list).expect("an operation");
        let (_, bytes) =
            prepare(&operations[0], json!({ "about": { "x": 1 }, "none": null })).body.expect("a body");
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert!(
            text.contains("name=\"about\"\r\nContent-Type: application/json\r\n\r\n{\"x\":1}\r\n"),
            "{text}"
        );
        assert!(!text.contains("none"), "{text}");
    }

    #[test]
    fn what_cannot_be_a_body_is_refused_where_it_stands() {
        let api = pets();
        let refused = |slug: &str, arguments| refused(operation(&api, slug), arguments);
        for (slug, arguments, pointer, reason) in [
            ("note", json!({}), "/arguments/body", "needs a body"),
            ("note", json!({ "body": 7 }), "/arguments/body", "a text is expected"),
            ("replace-photo", json!({ "id": 1, "body": "%" }), "/arguments/body", "base64"),
            ("upload-photo", json!({ "id": 1, "photo": "%" }), "/arguments/photo", "base64"),
            (
                "upload-photo",
                json!({ "id": 1, "photo": { "data": "eA==", "content_type": "a\r\nb" } }),
                "/arguments/photo",
                "base64",
            ),
        ] {
            let (at, message) = refused(slug, arguments);
            assert!(at == pointer && message.contains(reason), "{slug}: {at}: {message}");
        }
        let document = json!({ "openapi": "3.1.0", "paths": { "/a": { "post": { "operationId": "a", "requestBody": {
            "content": { "application/x-www-form-urlencoded": { "schema": { "oneOf": [{}, {}] } } },
        } } } } });
        let api = import(document.to_string().as_bytes()).expect("a document");
        let (pointer, message) = crate::rest::tests::refused(operation(&api, "a"), json!({ "body": "x" }));
        assert!(
            pointer == "/arguments/body" && message.contains("an object is expected"),
            "{pointer}: {message}"
        );
    }
}
