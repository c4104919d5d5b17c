//! Answers from a document's examples, for mock mode (THREATS row 23: no socket, no credential).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    document::{pointer, resolve},
    schema::{fits, withheld},
};

/// Bytes of an example's body.
const MAX_BYTES: usize = 32 << 10;

/// Values that are put together from the examples of a schema's properties.
const MAX_VALUES: usize = 500;

/// An answer as a service might give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Example {
    pub(crate) status: u16,
    /// None when there is no body.
    pub(crate) content_type: Option<String>,
    pub(crate) body: String,
}

/// The example for an answer: from the media type's own examples, else from those in its schema. An answer that has no
/// content is its own example.
pub(super) fn example(root: &Value, status: u16, media: Option<(&str, &Value)>) -> Option<Example> {
    let Some((content_type, media)) = media else {
        return Some(Example { status, content_type: None, body: String::new() });
    };
    let schema = media.get("schema");
    let written = media.get("example").or_else(|| named(root, media)).filter(|value| fits(value, MAX_BYTES));
    let sample = || Sampler { root, open: Vec::new(), values: 0 }.sample(schema?);
    let value = written.cloned().or_else(sample)?;
    let is_json = super::body::is_json(content_type);
    let body = match &value {
        // Some write the example's text where the value belongs.
        Value::String(text) if !is_json || text.trim_start().starts_with(['{', '[']) => text.clone(),
        value => value.to_string(),
    };
    let content_type = Some(content_type.to_owned());
    (body.len() <= MAX_BYTES).then_some(Example { status, content_type, body })
}

/// The example called `default`, else the first by name.
fn named<'a>(root: &'a Value, media: &'a Value) -> Option<&'a Value> {
    let examples = media.get("examples")?.as_object()?;
    let default = examples.iter().find(|(name, _)| *name == "default").map(|(_, example)| example);
    let first = || examples.iter().min_by_key(|(name, _)| *name).map(|(_, example)| example);
    resolve(root, default.or_else(first)?)?.get("value")
}

/// A value from the examples in a schema, its defaults, constants and enumerations.
struct Sampler<'a> {
    root: &'a Value,
    /// The references that led here: a schema that refers to itself is not repeated.
    open: Vec<&'a str>,
    values: usize,
}

impl<'a> Sampler<'a> {
    fn sample(&mut self, schema: &'a Value) -> Option<Value> {
        let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { return self.own(schema) };
        if self.open.contains(&reference) {
            return None;
        }
        self.open.push(reference);
        let found = pointer(reference).and_then(|pointer| self.root.pointer(&pointer));
        let value = found.and_then(|schema| self.sample(schema));
        self.open.pop();
        value
    }

    fn own(&mut self, schema: &'a Value) -> Option<Value> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return None;
        }
        let first =
            |keyword: &str| schema.get(keyword).and_then(Value::as_array).and_then(|values| values.first());
        let written = schema.get("example").or_else(|| first("examples")).or_else(|| schema.get("const"));
        let written = written.or_else(|| schema.get("default")).or_else(|| first("enum"));
        if let Some(value) = written.filter(|value| fits(value, MAX_BYTES)) {
            return Some(value.clone());
        }
        if let Some(items) = schema.get("items") {
            return Some(json!([self.sample(items)?]));
        }
        let mut fields = Map::new();
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            if let Some(Value::Object(more)) = self.sample(part) {
                fields.extend(more);
            }
        }
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if !withheld(self.root, property, "writeOnly").0
                && let Some(value) = self.sample(property)
            {
                fields.insert(name.clone(), value);
            }
        }
        match fields.is_empty() {
            true => self.sample(first("oneOf").or_else(|| first("anyOf"))?),
            false => Some(fields.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(root: Value, media: Value) -> Option<Value> {
        let example = example(&root, 200, Some(("application/json", &media)))?;
        Some(serde_json::from_str(&example.body).expect("JSON"))
    }

    #[test]
    fn an_example_is_taken_from_where_it_stands() {
        let root = json!({ "components": {
            "examples": { "shared": { "value": { "from": "components" } } },
            "schemas": { "Pet": {
                "allOf": [{ "properties": { "id": { "type": "integer", "example": 7 } } }],
                "properties": {
                    "name": { "type": "string", "examples": ["Rex"] }, "kind": { "enum": ["dog", "cat"] },
                    "note": { "type": "string" }, "secret": { "writeOnly": true, "example": "x" },
                    "friends": { "type": "array", "items": { "$ref": "#/components/schemas/Friend" } },
                },
            }, "Friend": { "oneOf": [{ "const": "Max" }] } },
        } });
        for (media, expected) in [
            (json!({ "example": { "a": 1 } }), json!({ "a": 1 })),
            (json!({ "example": "{\"a\": 1}" }), json!({ "a": 1 })),
            (json!({ "example": "plain" }), json!("plain")),
            (json!({ "examples": { "b": { "value": 2 }, "a": { "value": 1 } } }), json!(1)),
            (json!({ "examples": { "a": { "value": 1 }, "default": { "value": 2 } } }), json!(2)),
            (
                json!({ "examples": { "a": { "$ref": "#/components/examples/shared" } } }),
                json!({ "from": "components" }),
            ),
            (
                json!({ "schema": { "$ref": "#/components/schemas/Pet" } }),
                json!({ "id": 7, "name": "Rex", "kind": "dog", "friends": ["Max"] }),
            ),
        ] {
            assert_eq!(body(root.clone(), media.clone()), Some(expected), "{media}");
        }
        assert_eq!(body(root, json!({ "schema": { "type": "string" } })), None);
    }

    #[test]
    fn an_answer_without_content_is_its_own_example() {
        let example = example(&json!({}), 204, None).expect("an example");
        assert_eq!((example.status, example.content_type, example.body), (204, None, String::new()));
    }

    #[test]
    fn row_22_a_schema_that_refers_to_itself_gives_an_example_of_bounded_size() {
        let tree = json!({ "properties": {
            "name": { "example": "node" }, "left": { "$ref": "#/tree" }, "right": { "items": { "$ref": "#/tree" } },
        } });
        let tree = body(json!({ "tree": tree }), json!({ "schema": { "$ref": "#/tree" } }));
        assert_eq!(tree, Some(json!({ "name": "node" })));
        let endless = json!({ "loop": { "$ref": "#/loop" } });
        assert_eq!(body(endless, json!({ "schema": { "$ref": "#/loop" } })), None);
        // Each level has two of the next: without a limit, a million values.
        let level = |level: u32| {
            json!({ "items": { "properties": { "a": { "$ref": format!("#/{}", level + 1) },
            "b": { "$ref": format!("#/{}", level + 1) }, "c": { "example": 1 } } } })
        };
        let levels: Map<_, _> = (0..20).map(|number| (number.to_string(), level(number))).collect();
        let wide = body(levels.into(), json!({ "schema": { "$ref": "#/0" } })).expect("JSON").to_string();
        assert!(wide.len() < 20_000, "{}", wide.len());
    }
}
