//! `multipart/form-data` (RFC 7578).

use std::collections::BTreeMap;

use http::HeaderValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{
    Format, Part,
    body::{self, Problem},
    request::text,
    upload::{Field, Upload, decoded},
};

/// Levels of `a[b][c]`.
const MAX_LEVELS: usize = 16;

/// How the fields of a body are written; see [`super::Format::Multipart`].
pub(super) struct Form<'a> {
    pub(super) format: &'a Format,
    pub(super) parts: &'a BTreeMap<String, Part>,
}

impl Form<'_> {
    /// The boundary and the bytes.
    pub(super) fn encode(&self, fields: &Map<String, Value>) -> Result<(String, Vec<u8>), Problem> {
        let mut parts = Vec::new();
        for (name, value) in fields {
            self.field(name, value, &mut parts)?;
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

    fn field(&self, name: &str, value: &Value, parts: &mut Vec<Vec<u8>>) -> Result<(), Problem> {
        let about = self.parts.get(name);
        let media = about.and_then(|part| part.content_type.as_deref());
        let file = self.format.file(name);
        match value {
            Value::Null => {}
            value if file.is_none() && about.is_some_and(|part| part.deep) => deep(name, value, 0, parts)
                .map_err(|message| Problem { place: vec![name.to_owned()], message })?,
            Value::Array(items) if file.is_none() && about.is_some_and(|part| part.joined) => {
                let texts: Vec<_> = items.iter().filter_map(text).collect();
                parts.push(written(name, &Value::String(texts.join(",")), None));
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate().filter(|(_, value)| !value.is_null()) {
                    let place = || vec![name.to_owned(), index.to_string()];
                    parts.push(part(name, value, file, media, &place)?);
                }
            }
            single => parts.push(part(name, single, file, media, &|| vec![name.to_owned()])?),
        }
        Ok(())
    }
}

fn part(
    name: &str,
    value: &Value,
    may_be_file: Option<Field>,
    media: Option<&str>,
    place: &dyn Fn() -> Vec<String>,
) -> Result<Vec<u8>, Problem> {
    let is_file = may_be_file.is_some_and(|field| match value {
        Value::String(_) => !field.texts,
        value => !field.composed || Upload::of(value).is_some(),
    });
    match is_file {
        true => file(name, value, media, place),
        false => Ok(written(name, value, media)),
    }
}

/// A field: text, or JSON when it is not a single value or is said to be JSON.
fn written(name: &str, value: &Value, media: Option<&str>) -> Vec<u8> {
    let is_composed = matches!(value, Value::Object(_) | Value::Array(_));
    let is_json = media.is_some_and(body::is_json);
    let media = match media.filter(|media| is_json || !is_composed && HeaderValue::from_str(media).is_ok()) {
        // A text cannot be sent for a picture: what it is said to be, it is only as a file.
        Some(media) if !media.contains('*') => Some(media),
        _ => is_composed.then_some("application/json"),
    };
    let text = match is_composed || is_json {
        // A text may be JSON already.
        true => match value {
            Value::String(text)
                if serde_json::from_str::<Value>(text).is_ok_and(|value| !value.is_string()) =>
            {
                text.clone()
            }
            value => value.to_string(),
        },
        false => text(value).unwrap_or_default(),
    };
    let media = media.map(|media| format!("Content-Type: {media}\r\n")).unwrap_or_default();
    format!("Content-Disposition: form-data; name=\"{}\"\r\n{media}\r\n{text}", quoted(name)).into_bytes()
}

/// A file: base64, alone or with its name and type. The caller's type goes before the document's.
fn file(
    name: &str,
    value: &Value,
    media: Option<&str>,
    place: &dyn Fn() -> Vec<String>,
) -> Result<Vec<u8>, Problem> {
    let wrong = |field: Option<&str>, message: &'static str| {
        let place = place().into_iter().chain(field.map(str::to_owned)).collect();
        Problem { place, message }
    };
    let (text, in_object) = match value {
        Value::Object(fields) => (fields.get("data").and_then(Value::as_str), true),
        single => (single.as_str(), false),
    };
    let expected = || wrong(in_object.then_some("data"), "a file's bytes in base64 are expected here");
    let (bytes, of_data) = text.and_then(decoded).ok_or_else(expected)?;
    let about = |field: &str| value.get(field).and_then(Value::as_str);
    let media = about("content_type")
        .or(of_data.as_deref())
        .or(media.filter(|media| !media.contains('*')))
        .unwrap_or("application/octet-stream");
    let media = HeaderValue::from_str(media).ok();
    let media = media.as_ref().and_then(|media| media.to_str().ok());
    let media =
        media.ok_or_else(|| wrong(in_object.then_some("content_type"), "a media type is expected here"))?;
    let head = format!(
        "Content-Disposition: form-data; name=\"{}\"; filename=\"{}\"\r\nContent-Type: {media}\r\n\r\n",
        quoted(name),
        quoted(about("filename").unwrap_or(name)),
    );
    Ok([head.into_bytes(), bytes].concat())
}

/// `a[b]`, each a part.
fn deep(name: &str, value: &Value, level: usize, parts: &mut Vec<Vec<u8>>) -> Result<(), &'static str> {
    if level > MAX_LEVELS {
        return Err("it is nested too deep for this operation");
    }
    match value {
        Value::Object(fields) => fields
            .iter()
            .try_for_each(|(field, value)| deep(&format!("{name}[{field}]"), value, level + 1, parts)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| deep(&format!("{name}[{index}]"), value, level + 1, parts)),
        Value::Null => Ok(()),
        single => {
            parts.push(written(name, single, None));
            Ok(())
        }
    }
}

/// A name between quotes, as browsers write it: it cannot end the quotes or the line (THREATS row 6).
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::rest::{
        Api, import,
        tests::{operation, prepare, refused},
    };

    fn api(body: serde_json::Value, encoding: serde_json::Value) -> Api {
        let document = json!({ "openapi": "3.1.0", "paths": { "/a": { "post": { "operationId": "a", "requestBody": {
            "required": true, "content": { "multipart/form-data": { "schema": body, "encoding": encoding } },
        } } } }, "components": { "schemas": {
            "Binary": { "type": "string", "format": "binary" },
            "Closed": { "type": "object", "additionalProperties": false,
                "properties": { "file": { "$ref": "#/components/schemas/Binary" }, "title": { "type": "string" } } },
        } } });
        import(document.to_string().as_bytes()).expect("a document")
    }

    /// The parts, without the boundary.
    fn parts(api: &Api, arguments: serde_json::Value) -> Vec<String> {
        let operation = operation(api, "a");
        let validator = jsonschema::validator_for(&operation.input_schema()).expect("a schema");
        let problems: Vec<_> = validator.iter_errors(&arguments).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{arguments}: {problems:?}: {}", operation.input_schema());
        let (media, bytes) = prepare(operation, arguments).body.expect("a body");
        let media = media.to_str().expect("ASCII").to_owned();
        let boundary = media.strip_prefix("multipart/form-data; boundary=").expect("a boundary");
        let text = String::from_utf8(bytes).expect("UTF-8");
        let boundary = format!("--{boundary}");
        let parts = text.split(&boundary).filter_map(|part| part.strip_prefix("\r\n"));
        parts.map(|part| part.trim_end_matches("\r\n").to_owned()).filter(|part| !part.is_empty()).collect()
    }

    #[test]
    fn bytes_are_sent_wherever_the_file_stands() {
        let file = json!({ "$ref": "#/components/schemas/Binary" });
        let wrapped = json!({ "allOf": [file], "description": "x" });
        let maybe = json!({ "anyOf": [file, { "type": "null" }] });
        let object = |file: &serde_json::Value| json!({ "type": "object", "properties": { "file": file } });
        let media = json!({ "contentMediaType": "image/png" });
        let bodies = [
            object(&file),
            object(&wrapped),
            object(&maybe),
            object(&media),
            json!({ "allOf": [object(&wrapped), { "type": "object", "properties": { "tags": {} } }] }),
            json!({ "allOf": [{ "$ref": "#/components/schemas/Closed" }, { "type": "object", "properties": { "tags": {} } }] }),
            json!({ "oneOf": [object(&file), { "type": "object", "required": ["url"], "properties": { "url": {} } }] }),
            json!({ "anyOf": [object(&maybe), { "required": ["url"] }] }),
            json!({ "type": "object", "minProperties": 1, "properties": { "file": file } }),
            json!({ "type": "object", "additionalProperties": false, "properties": { "file": maybe } }),
            json!({ "$ref": "#/components/schemas/Closed" }),
        ];
        for body in bodies {
            let api = api(body.clone(), json!({}));
            let is_whole = operation(&api, "a").input_schema()["properties"].get("body").is_some();
            for given in [json!("aGVs\nbG8"), json!({ "data": "aGVsbG8=", "filename": "a.png" })] {
                let arguments = json!({ "file": given });
                let arguments = if is_whole { json!({ "body": arguments }) } else { arguments };
                let parts = parts(&api, arguments);
                assert!(
                    parts.len() == 1 && parts[0].contains("filename=") && parts[0].ends_with("\r\n\r\nhello"),
                    "{body}: {parts:?}"
                );
            }
            let wrong = if is_whole { json!({ "body": { "file": "%" } }) } else { json!({ "file": "%" }) };
            let (pointer, message) = refused(operation(&api, "a"), wrong);
            assert!(pointer.ends_with("/file") && message.contains("base64"), "{pointer}: {message}");
        }
    }

    #[test]
    fn lists_of_files_are_parts_of_one_name() {
        let file = json!({ "$ref": "#/components/schemas/Binary" });
        for list in [
            json!({ "type": "array", "items": file }),
            json!({ "anyOf": [{ "type": "array", "items": { "allOf": [file] } }, { "type": "null" }] }),
            json!({ "oneOf": [file, { "type": "array", "items": file }] }),
        ] {
            let api = api(json!({ "type": "object", "properties": { "files": list } }), json!({}));
            let parts = parts(&api, json!({ "files": ["eA==", { "data": "eQ==", "filename": "y" }] }));
            assert!(
                parts.len() == 2 && parts[0].ends_with("x") && parts[1].contains("filename=\"y\""),
                "{parts:?}"
            );
            let (pointer, _) = refused(operation(&api, "a"), json!({ "files": ["eA==", { "data": "?" }] }));
            assert_eq!(pointer, "/arguments/files/1/data");
        }
    }

    #[test]
    fn what_encoding_says_is_done() {
        let body = json!({ "type": "object", "properties": {
            "about": { "type": "object" }, "picture": { "type": "string", "format": "binary" }, "raw": {},
            "deep": { "type": "object" }, "joined": { "type": "array" }, "note": { "type": "string" }, "any": { "type": "string", "format": "binary" },
        } });
        let encoding = json!({
            "about": { "contentType": "application/vnd.acme+json" }, "picture": { "contentType": "image/png, image/jpeg" },
            "raw": { "contentType": "application/octet-stream" }, "deep": { "style": "deepObject" },
            "joined": { "explode": false }, "note": { "contentType": "text/markdown" }, "any": { "contentType": "image/*" },
            "evil": { "contentType": "a\r\nb" },
        });
        let api = api(body, encoding);
        let found = parts(
            &api,
            json!({
                "about": { "a": 1 }, "picture": "eA==", "raw": "eA==", "deep": { "a": { "b": 1 }, "c": [2] }, "joined": [1, "b"],
                "note": "n", "any": "data:image/gif;base64,eA==", "evil": "e",
            }),
        );
        let file = |name: &str, media: &str| {
            format!(
                "Content-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\nContent-Type: {media}\r\n\r\nx"
            )
        };
        let field =
            |name: &str, rest: &str| format!("Content-Disposition: form-data; name=\"{name}\"\r\n{rest}");
        let expected = [
            field("about", "Content-Type: application/vnd.acme+json\r\n\r\n{\"a\":1}"),
            file("any", "image/gif"),
            field("deep[a][b]", "\r\n1"),
            field("deep[c][0]", "\r\n2"),
            field("evil", "\r\ne"),
            field("joined", "\r\n1,b"),
            field("note", "Content-Type: text/markdown\r\n\r\nn"),
            file("picture", "image/png"),
            file("raw", "application/octet-stream"),
        ];
        assert_eq!(found, expected);
        let found = parts(&api, json!({ "picture": { "data": "eA==", "content_type": "image/webp" } }));
        assert_eq!(found, [file("picture", "image/webp")]);
    }

    #[test]
    fn a_text_that_may_stand_for_a_file_is_one() {
        let file = json!({ "oneOf": [{ "$ref": "#/components/schemas/Binary" }, { "type": "string", "format": "uri" }] });
        let api = api(json!({ "type": "object", "properties": { "file": file } }), json!({}));
        assert_eq!(
            parts(&api, json!({ "file": "https://a.example/x" })),
            ["Content-Disposition: form-data; name=\"file\"\r\n\r\nhttps://a.example/x"]
        );
        assert!(parts(&api, json!({ "file": { "data": "eA==" } }))[0].contains("filename"));
    }

    #[test]
    fn a_file_or_something_else_is_what_is_given() {
        let file = || json!({ "$ref": "#/components/schemas/Binary" });
        let url =
            json!({ "type": "object", "required": ["url"], "properties": { "url": { "type": "string" } } });
        let json_part = "Content-Disposition: form-data; name=\"file\"\r\nContent-Type: application/json\r\n\r\n{\"url\":\"u\"}";
        for schema in [
            json!({ "oneOf": [file(), url] }),
            json!({ "anyOf": [url, { "allOf": [file()] }, { "type": "null" }] }),
            json!({ "type": "array", "items": { "oneOf": [file(), url] } }),
            json!({ "oneOf": [file(), { "type": "array", "items": { "anyOf": [file(), url] } }, url] }),
        ] {
            let is_list = schema.get("items").is_some();
            let api = api(json!({ "type": "object", "properties": { "file": schema } }), json!({}));
            let given = |value: serde_json::Value| if is_list { json!([value]) } else { value };
            assert_eq!(parts(&api, json!({ "file": given(json!({ "url": "u" })) })), [json_part], "{schema}");
            for value in [
                json!("aGVsbG8="),
                json!({ "data": "aGVsbG8=" }),
                json!({ "data": "aGVsbG8=", "filename": "x" }),
            ] {
                let parts = parts(&api, json!({ "file": given(value) }));
                assert!(
                    parts.len() == 1 && parts[0].contains("filename=") && parts[0].ends_with("hello"),
                    "{schema}: {parts:?}"
                );
            }
        }
    }

    #[test]
    fn fields_without_a_name_in_the_document_may_be_files() {
        let file = || json!({ "$ref": "#/components/schemas/Binary" });
        let title = json!({ "title": { "type": "string" } });
        for body in [
            json!({ "type": "object", "additionalProperties": file() }),
            json!({ "type": "object", "properties": title, "additionalProperties": file() }),
            json!({ "type": "object", "properties": title, "additionalProperties": { "type": "array", "items": file() } }),
            json!({ "type": "object", "properties": title, "additionalProperties": { "anyOf": [file(), { "type": "null" }] } }),
            json!({ "type": "object", "properties": title, "patternProperties": { "^pic": file() } }),
            json!({ "type": "object", "properties": title, "patternProperties": { "^(?=p)": file() } }),
            json!({ "allOf": [{ "type": "object", "properties": title }, { "additionalProperties": file() }] }),
        ] {
            let api = api(body.clone(), json!({}));
            let is_whole = operation(&api, "a").input_schema()["properties"].get("body").is_some();
            let is_list = body.pointer("/additionalProperties/items").is_some();
            for value in [json!("aGVsbG8="), json!({ "data": "aGVsbG8=", "filename": "x" })] {
                let value = if is_list { json!([value]) } else { value };
                let fields = json!({ "title": "aGVsbG8=", "pic": value });
                let parts = parts(&api, if is_whole { json!({ "body": fields }) } else { fields });
                assert!(
                    parts[0].contains("filename=") && parts[0].ends_with("\r\n\r\nhello"),
                    "{body}: {parts:?}"
                );
                let has_title = body.to_string().contains("title");
                assert!(!has_title || parts[1].ends_with("\r\n\r\naGVsbG8="), "{body}: {parts:?}");
            }
        }
        // Where names are told by a pattern, others are none.
        let api = api(json!({ "type": "object", "patternProperties": { "^pic": file() } }), json!({}));
        assert!(!parts(&api, json!({ "body": { "note": "aGVsbG8=" } }))[0].contains("filename"));
    }

    #[test]
    fn base64_for_the_service_is_a_text() {
        for schema in [
            json!({ "type": "string", "format": "byte" }),
            json!({ "type": "string", "contentEncoding": "base64", "contentMediaType": "image/png" }),
        ] {
            let api = api(json!({ "type": "object", "properties": { "file": schema } }), json!({}));
            assert_eq!(
                parts(&api, json!({ "file": "eA==" })),
                ["Content-Disposition: form-data; name=\"file\"\r\n\r\neA=="]
            );
        }
    }
}
