//! Bodies: which media types are spoken, and how values are written in them.

mod choice;

use std::{borrow::Cow, collections::BTreeSet};

use http::HeaderValue;
use serde_json::{Map, Value};

use super::{
    Body, Format, Given, Operation,
    arguments::invalid,
    multipart,
    openapi::Kinds,
    request::{deep, encode as percent, text},
    upload::{Upload, decoded},
};
use crate::ConnectorsError;

/// The best rank.
pub(super) const JSON: u8 = 0;

/// The order in which media types of answers are chosen.
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

/// The order in which media types of bodies are chosen among those that fit.
pub(super) fn preference(media: &str, is_binary: bool) -> u8 {
    let essence = essence(media);
    match Media::of(media) {
        Media::Json if essence == "application/json" => JSON,
        Media::Json => 1,
        Media::Merge if essence == "application/merge-patch+json" => 2,
        Media::Merge => 3,
        Media::Patch => 4,
        // Bytes are what a file is first.
        Media::Any if is_binary => 11,
        Media::Any => 5,
        Media::Form => 6,
        Media::Multipart => 7,
        Media::Text if essence == "text/plain" => 8,
        Media::Yaml | Media::Text => 9,
        Media::Bytes if essence == "application/octet-stream" => 10,
        Media::Bytes => 12,
        Media::OtherMultipart => 13,
    }
}

/// What can be said with a media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    /// JSON Patch: a list of operations (RFC 6902).
    Patch,
    /// An object that is laid over another (RFC 7396, and Kubernetes' own kind).
    Merge,
    /// `*/*`, `application/*`.
    Any,
    Form,
    Multipart,
    /// Parts without names: they cannot be written from fields.
    OtherMultipart,
    Yaml,
    Text,
    Bytes,
}

impl Media {
    pub(super) fn of(media: &str) -> Self {
        let essence = essence(media);
        match essence.as_str() {
            "*/*" | "application/*" => Self::Any,
            "application/json-patch+json" | "application/json-patch-query+json" => Self::Patch,
            other if other.ends_with("merge-patch+json") => Self::Merge,
            _ if is_json(media) => Self::Json,
            _ if is_form(media) => Self::Form,
            _ if is_multipart(media) => Self::Multipart,
            other if other.starts_with("multipart/") => Self::OtherMultipart,
            other if is_yaml(other) => Self::Yaml,
            _ if is_text(media) => Self::Text,
            _ => Self::Bytes,
        }
    }

    /// Whether values of these types can be written so.
    pub(super) fn fits(self, kinds: Kinds, is_binary: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Json | Self::Yaml => !is_binary,
            Self::Patch => kinds.has(Kinds::ARRAY),
            Self::Merge | Self::Form | Self::Multipart => kinds.has(Kinds::OBJECT),
            Self::Text | Self::Bytes => kinds.has(Kinds::STRING),
            Self::OtherMultipart => false,
        }
    }
}

/// The type without its parameters, in lower case.
fn essence(media: &str) -> String {
    media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether two media types are two words for one.
pub(super) fn is_synonym(media: &str, other: &str) -> bool {
    let plain = |media: &str| match essence(media).as_str() {
        "text/json" => "application/json".to_owned(),
        other => other.to_owned(),
    };
    plain(media) == plain(other)
}

fn is_yaml(essence: &str) -> bool {
    essence.ends_with("+yaml")
        || ["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"].contains(&essence)
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
    essence.starts_with("text/")
        || essence.ends_with("+xml")
        || is_yaml(&essence)
        || known.contains(&essence.as_str())
}

/// The body for arguments in their flat form.
pub(super) fn encode(
    operation: &Operation,
    arguments: &Map<String, Value>,
) -> Result<Option<(HeaderValue, Vec<u8>)>, ConnectorsError> {
    let Some(body) = &operation.body else { return Ok(None) };
    let steps: Vec<&str> = match &body.given {
        Given::Whole(argument) => vec![argument],
        Given::Fields { .. } => Vec::new(),
    };
    let Some(value) = value(operation, body, arguments) else {
        return match body.required {
            true => Err(invalid(&steps, format!("'{}' needs a body", operation.slug))),
            false => Ok(None),
        };
    };
    let (media, format) = body.choose(operation, arguments, &value)?;
    let mut content_type = media;
    let bytes = match format {
        Format::Json => value.to_string().into_bytes(),
        Format::Text => match &*value {
            Value::String(text) => text.clone().into_bytes(),
            _ => return Err(invalid(&steps, "a text is expected here")),
        },
        Format::Bytes => bytes(&value).map_err(|problem| problem.at(&steps))?,
        Format::Form { deep, joined } => {
            let text = form(deep, joined, object(&value, &steps)?).map_err(|problem| problem.at(&steps))?;
            text.into_bytes()
        }
        Format::Multipart { parts, .. } => {
            let form = multipart::Form { format, parts };
            let written = form.encode(object(&value, &steps)?);
            let (boundary, bytes) = written.map_err(|problem| problem.at(&steps))?;
            content_type = format!("multipart/form-data; boundary={boundary}");
            bytes
        }
    };
    let content_type = HeaderValue::from_str(&content_type).map_err(|_| {
        invalid(&[], format!("the media type of the body of '{}' is not one", operation.slug))
    })?;
    Ok(Some((content_type, bytes)))
}

/// How the body of these arguments is written.
pub(super) fn written<'a>(operation: &'a Operation, arguments: &Map<String, Value>) -> Option<&'a Format> {
    let body = operation.body.as_ref()?;
    let chosen = value(operation, body, arguments)
        .and_then(|value| body.choose(operation, arguments, &value).ok().map(|(_, format)| format));
    Some(chosen.unwrap_or(&body.format))
}

/// What is given for the body.
fn value<'a>(
    operation: &Operation,
    body: &Body,
    arguments: &'a Map<String, Value>,
) -> Option<Cow<'a, Value>> {
    match &body.given {
        Given::Whole(argument) => arguments.get(argument).map(Cow::Borrowed),
        Given::Fields { names, open } => {
            let is_another = |name: &str| {
                operation.parameters.iter().any(|parameter| parameter.argument == name)
                    || body.chooser.as_deref() == Some(name)
            };
            let fields =
                arguments.iter().filter(|(name, _)| names.contains(*name) || *open && !is_another(name));
            let fields: Map<_, _> = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
            (!fields.is_empty() || body.required).then_some(Cow::Owned(Value::Object(fields)))
        }
    }
}

/// A file that is the whole body.
fn bytes(value: &Value) -> Result<Vec<u8>, Problem> {
    let upload = Upload::of(value);
    let text = upload.map(|upload| upload.data).or_else(|| value.as_str());
    let place = upload.map(|_| "data".to_owned()).into_iter().collect();
    let decoded = text.and_then(decoded).map(|(bytes, _)| bytes);
    decoded.ok_or(Problem { place, message: "bytes in base64 are expected here" })
}

/// A field that cannot be written.
pub(super) struct Problem {
    pub(super) place: Vec<String>,
    pub(super) message: &'static str,
}

impl Problem {
    fn at(&self, steps: &[&str]) -> ConnectorsError {
        let place = steps.iter().copied().chain(self.place.iter().map(String::as_str));
        invalid(&place.collect::<Vec<_>>(), self.message)
    }
}

fn object<'a>(value: &'a Value, steps: &[&str]) -> Result<&'a Map<String, Value>, ConnectorsError> {
    value.as_object().ok_or_else(|| invalid(steps, "an object is expected here"))
}

/// `application/x-www-form-urlencoded`.
fn form(
    in_brackets: &BTreeSet<String>,
    joined: &BTreeSet<String>,
    fields: &Map<String, Value>,
) -> Result<String, Problem> {
    let mut pairs = Vec::new();
    for (name, value) in fields {
        let encoded = percent(name);
        match value {
            value if in_brackets.contains(name) => {
                deep(&encoded, value, 0, &mut pairs)
                    .map_err(|message| Problem { place: vec![name.clone()], message })?;
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
                json!({ "id": 1, "photo": "eA==", "more": ["eA==", "%"] }),
                "/arguments/more/1",
                "base64",
            ),
            ("upload-photo", json!({ "id": 1, "photo": { "data": "%" } }), "/arguments/photo/data", "base64"),
            (
                "upload-photo",
                json!({ "id": 1, "photo": { "data": "eA==", "content_type": "a\r\nb" } }),
                "/arguments/photo/content_type",
                "a media type",
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
