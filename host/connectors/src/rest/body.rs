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
