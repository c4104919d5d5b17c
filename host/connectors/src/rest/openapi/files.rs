//! Files in multipart bodies: which fields are some, and what callers give for them.
//!
//! `format: binary` (3.0) and `contentMediaType` without `contentEncoding` (3.1) make a file wherever they stand: behind a
//! reference, in `allOf`, in `anyOf` beside null, as items of a list. So does an `encoding` whose content type is none of
//! a text. What is base64 for the service (`format: byte`, `contentEncoding`) is a text to us.

use serde_json::{Value, json};

use super::{
    super::{body, document::flag},
    kinds::{Kinds, Look},
};

/// What may stand in a field that can hold a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) one: bool,
    pub(super) list: bool,
    null: bool,
    /// A text that is none of a file's.
    pub(super) text: bool,
    /// Schemas of what is neither a file nor a text, and of such things in a list beside files.
    others: Vec<Value>,
    listed: Vec<Value>,
}

impl Shape {
    pub(super) fn is_file(&self) -> bool {
        self.one || self.list
    }

    /// Something else may stand there.
    pub(super) fn is_composed(&self) -> bool {
        !self.others.is_empty() || !self.listed.is_empty()
    }

    /// What callers give.
    fn schema(&self, description: Option<&Value>) -> Value {
        let text = json!({ "type": "string", "contentEncoding": "base64" });
        let named = json!({
            "type": "object",
            "properties": {
                "data": text, "filename": { "type": "string" }, "content_type": { "type": "string" },
            },
            "required": ["data"], "additionalProperties": false,
        });
        let mut files = if self.text { vec![named] } else { vec![text, named] };
        let any = |files: Vec<Value>| match files.as_slice() {
            [single] => single.clone(),
            several => json!({ "anyOf": several }),
        };
        let mut alternatives = Vec::new();
        if self.one {
            alternatives.extend(files.iter().cloned());
        }
        if self.text {
            let text = json!({ "type": "string", "description": "A text, which is sent as it is" });
            files.push(text.clone());
            alternatives.push(text);
        }
        alternatives.extend(self.others.iter().cloned());
        if self.list {
            files.extend(self.listed.iter().cloned());
            alternatives.push(json!({ "type": "array", "items": any(files) }));
        }
        if self.null {
            alternatives.push(json!({ "type": "null" }));
        }
        let mut schema = any(alternatives);
        if let Some(description) = description {
            schema["description"] = description.clone();
        }
        schema
    }
}

/// What may stand in a field of a multipart body. `media` is what `encoding` says of it.
pub(super) fn shape<'a>(look: &Look<'a>, property: &'a Value, media: Option<&str>) -> Shape {
    let mut shape = shape_at(look, property, 0);
    if !shape.is_file() && media.is_some_and(is_of_files) && may_be_bytes(look, property) {
        let kinds = Kinds::allowed(look, property);
        shape.one = kinds.has(Kinds::STRING);
        shape.list = kinds != Kinds::ALL && kinds.has(Kinds::ARRAY);
        shape.text = false;
        shape.others.clear();
    }
    shape
}

/// What bytes are given as, alone or with what is known of them. `media` is what they are, if that is known.
pub(super) fn bytes(media: Option<&str>) -> Value {
    let mut schema = Shape { one: true, ..Shape::default() }.schema(None);
    if let (Some(media), Some(text)) = (media, schema.pointer_mut("/anyOf/0")) {
        text["contentMediaType"] = media.into();
    }
    schema
}

fn shape_at<'a>(look: &Look<'a>, property: &'a Value, level: usize) -> Shape {
    let Some(schema) = look.at(property, level) else { return Shape::default() };
    let text = |name: &str| schema.get(name).and_then(Value::as_str);
    let list = |name: &str| schema.get(name).and_then(Value::as_array).into_iter().flatten();
    let is_null = |schema: &Value| schema.get("type").and_then(Value::as_str) == Some("null");
    let has_type = |wanted: &str| match schema.get("type") {
        Some(Value::Array(names)) => names.iter().any(|name| name == wanted),
        Some(name) => name == wanted,
        None => false,
    };
    let mut shape = Shape {
        null: flag(schema.get("nullable")) == Some(true) || is_null(schema) || has_type("null"),
        ..Shape::default()
    };
    let is_text = schema.get("type").is_none() || has_type("string");
    shape.one = is_text && text("format").is_some_and(|format| format.eq_ignore_ascii_case("binary"))
        || is_text
            && schema.get("contentEncoding").is_none()
            && text("contentMediaType").is_some_and(is_of_files)
        || text("type") == Some("file");
    if has_type("array") || schema.get("type").is_none() && schema.get("items").is_some() {
        let items = schema.get("items").map(|items| shape_at(look, items, level + 1)).unwrap_or_default();
        (shape.list, shape.listed) = (items.one, items.others);
        shape.text |= items.one && items.text;
    }
    for part in list("allOf") {
        let part = shape_at(look, part, level + 1);
        (shape.one, shape.list) = (shape.one || part.one, shape.list || part.list);
        shape.text |= part.text;
        shape.others.extend(part.others);
        shape.listed.extend(part.listed);
    }
    let mut texts = false;
    for branch in list("anyOf").chain(list("oneOf")) {
        let part = shape_at(look, branch, level + 1);
        if !part.is_file() && !is_null(branch) {
            let kinds = Kinds::allowed(look, branch);
            texts |= kinds.has(Kinds::STRING);
            if kinds.has(Kinds::COMPOSED) {
                shape.others.push(branch.clone());
            }
        }
        texts |= part.text;
        shape.others.extend(part.others);
        shape.listed.extend(part.listed);
        (shape.one, shape.list, shape.null) =
            (shape.one || part.one, shape.list || part.list, shape.null || part.null);
    }
    shape.text |= texts && shape.is_file();
    if !shape.is_file() {
        shape.others.clear();
        shape.listed.clear();
    }
    shape
}

/// A text whose form is not said, or anything at all.
fn may_be_bytes<'a>(look: &Look<'a>, property: &'a Value) -> bool {
    let Some(schema) = look.at(property, 0) else { return true };
    let schema = match schema.get("items") {
        Some(items) => look.at(items, 0).unwrap_or(items),
        None => schema,
    };
    ["format", "contentEncoding", "enum", "const", "pattern"].iter().all(|word| schema.get(*word).is_none())
}

/// Whether content of this type is no text of its own.
fn is_of_files(media: &str) -> bool {
    !media.is_empty()
        && !body::is_json(media)
        && !body::is_text(media)
        && !body::is_form(media)
        && !media.starts_with("*/")
}

/// What callers give for a field that may be a file.
pub(super) fn file_schema(shape: &Shape, declared: &Value) -> Value {
    shape.schema(declared.get("description").filter(|text| text.is_string()))
}

/// The schema of a whole body with what callers give in the place of files. What holds no file keeps its references.
pub(super) fn with_files<'a>(
    look: &Look<'a>,
    schema: &'a Value,
    media: &dyn Fn(&str) -> Option<String>,
) -> Value {
    replaced(look, schema, media, 0).unwrap_or_else(|| schema.clone())
}

/// The same; none if there is no file in it.
fn replaced<'a>(
    look: &Look<'a>,
    schema: &'a Value,
    media: &dyn Fn(&str) -> Option<String>,
    level: usize,
) -> Option<Value> {
    let fields = look.at(schema, level)?.as_object()?;
    let mut changed: Vec<(&str, Value)> = Vec::new();
    if let Some(Value::Object(properties)) = fields.get("properties") {
        let files = properties.iter().filter_map(|(name, property)| {
            let shape = shape(look, property, media(name).as_deref());
            let declared = look.at(property, 0).unwrap_or(property);
            shape.is_file().then(|| (name, file_schema(&shape, declared)))
        });
        let files: Vec<_> = files.collect();
        if !files.is_empty() {
            let mut properties = properties.clone();
            properties.extend(files.into_iter().map(|(name, schema)| (name.clone(), schema)));
            changed.push(("properties", properties.into()));
        }
    }
    let of_others = |schema: &'a Value| {
        let shape = shape(look, schema, None);
        shape.is_file().then(|| file_schema(&shape, look.at(schema, 0).unwrap_or(schema)))
    };
    if let Some(others) = fields.get("additionalProperties").and_then(of_others) {
        changed.push(("additionalProperties", others));
    }
    if let Some(Value::Object(patterns)) = fields.get("patternProperties") {
        let files = patterns.iter().filter_map(|(name, schema)| Some((name.clone(), of_others(schema)?)));
        let files: Vec<_> = files.collect();
        if !files.is_empty() {
            let mut patterns = patterns.clone();
            patterns.extend(files);
            changed.push(("patternProperties", patterns.into()));
        }
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        let Some(parts) = fields.get(word).and_then(Value::as_array) else { continue };
        let new: Vec<_> = parts.iter().map(|part| replaced(look, part, media, level + 1)).collect();
        if new.iter().any(Option::is_some) {
            let parts = parts.iter().zip(new).map(|(part, new)| new.unwrap_or_else(|| part.clone()));
            changed.push((word, parts.collect()));
        }
    }
    for word in ["if", "then", "else", "not"] {
        if let Some(new) = fields.get(word).and_then(|part| replaced(look, part, media, level + 1)) {
            changed.push((word, new));
        }
    }
    if changed.is_empty() {
        return None;
    }
    let mut whole = fields.clone();
    whole.extend(changed.into_iter().map(|(word, value)| (word.to_owned(), value)));
    Some(whole.into())
}

/// What fields that have no name in the document are, if they are files, with what their names are like.
pub(super) fn unnamed<'a>(look: &Look<'a>, schema: &'a Value) -> Option<(Shape, Vec<String>)> {
    let mut found = Vec::new();
    collect_unnamed(look, schema, 0, &mut found);
    let mut whole = Shape::default();
    let is_any = found.iter().any(|(_, pattern)| pattern.is_none());
    let mut patterns = Vec::new();
    for (shape, pattern) in found {
        (whole.one, whole.list) = (whole.one || shape.one, whole.list || shape.list);
        whole.text |= shape.text;
        whole.others.extend(shape.others);
        whole.listed.extend(shape.listed);
        patterns.extend(pattern.filter(|_| !is_any).map(str::to_owned));
    }
    whole.is_file().then_some((whole, patterns))
}

fn collect_unnamed<'a>(
    look: &Look<'a>,
    schema: &'a Value,
    level: usize,
    found: &mut Vec<(Shape, Option<&'a str>)>,
) {
    let Some(fields) = look.at(schema, level).and_then(Value::as_object) else { return };
    let patterns = fields.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
    let patterns = patterns.map(|(pattern, schema)| (schema, Some(pattern.as_str())));
    let others = fields.get("additionalProperties").map(|others| (others, None));
    for (schema, pattern) in patterns.chain(others) {
        let shape = shape(look, schema, None);
        if shape.is_file() {
            found.push((shape, pattern));
        }
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        for part in fields.get(word).and_then(Value::as_array).into_iter().flatten() {
            collect_unnamed(look, part, level + 1, found);
        }
    }
}

/// The fields that an object may have, in all of its parts and branches.
pub(super) fn properties<'a>(look: &Look<'a>, schema: &'a Value) -> Vec<(&'a str, &'a Value)> {
    let mut found = Vec::new();
    collect(look, schema, 0, &mut found);
    found
}

fn collect<'a>(look: &Look<'a>, schema: &'a Value, level: usize, found: &mut Vec<(&'a str, &'a Value)>) {
    let Some(fields) = look.at(schema, level).and_then(Value::as_object) else { return };
    let listed = fields.get("properties").and_then(Value::as_object).into_iter().flatten();
    found.extend(listed.map(|(name, property)| (name.as_str(), property)));
    for word in ["allOf", "anyOf", "oneOf"] {
        for part in fields.get(word).and_then(Value::as_array).into_iter().flatten() {
            collect(look, part, level + 1, found);
        }
    }
    for word in ["then", "else"] {
        if let Some(part) = fields.get(word) {
            collect(look, part, level + 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_is_one_wherever_it_stands() {
        let root = json!({
            "binary": { "type": "string", "format": "binary" }, "again": { "allOf": [{ "$ref": "#/binary" }] },
            "text": { "type": "string" },
        });
        let binary = || json!({ "$ref": "#/binary" });
        for (schema, media, shape) in [
            (json!({ "type": "string", "format": "binary" }), None, "one"),
            (json!({ "format": "binary" }), None, "one"),
            (binary(), None, "one"),
            (json!({ "allOf": [binary()], "description": "x" }), None, "one"),
            (json!({ "allOf": [{ "$ref": "#/again" }, { "maxLength": 3 }] }), None, "one"),
            (json!({ "anyOf": [binary(), { "type": "null" }] }), None, "one null"),
            (json!({ "type": ["string", "null"], "format": "binary" }), None, "one null"),
            (json!({ "type": "string", "format": "binary", "nullable": true }), None, "one null"),
            (json!({ "oneOf": [binary(), { "type": "array", "items": binary() }] }), None, "one list"),
            (json!({ "type": "array", "items": { "anyOf": [binary()] } }), None, "list"),
            (
                json!({ "anyOf": [{ "type": "array", "items": binary() }, { "type": "null" }] }),
                None,
                "list null",
            ),
            (json!({ "items": binary() }), None, "list"),
            (json!({ "oneOf": [binary(), { "$ref": "#/text" }] }), None, "one text"),
            (json!({ "oneOf": [binary(), { "enum": ["auto"] }] }), None, "one text"),
            (json!({ "contentMediaType": "image/png" }), None, "one"),
            (json!({ "type": "string", "contentMediaType": "application/octet-stream" }), None, "one"),
            (json!({ "type": "file" }), None, "one"),
            (json!({}), Some("image/png"), "one"),
            (json!({ "type": "string" }), Some("image/*"), "one"),
            (json!({ "type": "array", "items": { "type": "string" } }), Some("application/pdf"), "list"),
            (
                json!({ "type": "string", "contentMediaType": "image/png", "contentEncoding": "base64" }),
                None,
                "",
            ),
            (json!({ "type": "string", "contentMediaType": "application/json" }), None, ""),
            (json!({ "type": "string", "format": "byte" }), Some("image/png"), ""),
            (json!({ "type": "object" }), Some("application/vnd.acme+json"), ""),
            (json!({ "type": "object" }), Some("image/png"), ""),
            (json!({ "type": "string" }), Some("text/plain"), ""),
            (json!({ "type": "object", "properties": { "a": binary() } }), None, ""),
            (json!({ "type": "integer", "format": "binary" }), None, ""),
            (json!({ "$ref": "#/gone" }), None, ""),
        ] {
            let found = super::shape(&Look::new(&root), &schema, media);
            let words = [
                (found.one, "one"),
                (found.list, "list"),
                (found.text, "text"),
                (found.is_file() && found.null, "null"),
            ];
            let words: Vec<_> = words.into_iter().filter_map(|(has, word)| has.then_some(word)).collect();
            assert_eq!(words.join(" "), shape, "{schema} {media:?}");
        }
    }

    #[test]
    fn row_22_schemas_that_branch_without_end_are_not_looked_at_without_end() {
        let levels = (0..40).map(|level| {
            let next = json!({ "$ref": format!("#/{}", level + 1) });
            (level.to_string(), json!({ "allOf": [next, next, next, next, next, next, next, next] }))
        });
        let root = Value::Object(levels.collect());
        let look = Look::new(&root);
        let _ = (super::shape(&look, &root["0"], None), properties(&look, &root["0"]));
        assert_eq!(look.looks(), None);
    }
}
