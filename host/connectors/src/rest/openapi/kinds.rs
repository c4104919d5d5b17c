//! Looking into schemas: which JSON types they let through, as far as they say so plainly.

use std::cell::Cell;

use serde_json::Value;

use super::super::{document::flag, reference::resolve};

/// References and combinations that are looked into.
const MAX_LEVELS: usize = 12;

/// Schemas that are looked at for one body: each level may have many of the next (THREATS row 22).
const MAX_LOOKS: usize = 100_000;

/// Looks into the schemas of a document, so often and so deep and no more.
pub(super) struct Look<'a> {
    pub(super) root: &'a Value,
    left: Cell<usize>,
}

impl<'a> Look<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        Self { root, left: Cell::new(MAX_LOOKS) }
    }

    /// What a schema is, behind its references.
    pub(super) fn at(&self, schema: &'a Value, level: usize) -> Option<&'a Value> {
        self.left.set(self.left.get().checked_sub(1)?);
        resolve(self.root, schema).filter(|_| level < MAX_LEVELS)
    }

    /// How much was looked at; none if it was too much, and what was found is not all.
    pub(super) fn looks(&self) -> Option<usize> {
        (self.left.get() > 0).then(|| MAX_LOOKS - self.left.get())
    }
}

/// A set of JSON types; an integer is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Kinds(pub(in super::super) u8);

impl Kinds {
    pub(in super::super) const OBJECT: Self = Self(1);
    pub(in super::super) const ARRAY: Self = Self(2);
    pub(in super::super) const STRING: Self = Self(4);
    /// What is written as JSON where a text would do for a text.
    pub(super) const COMPOSED: Self = Self(1 | 2 | 8 | 16);
    const NUMBER: Self = Self(8);
    const BOOLEAN: Self = Self(16);
    const NULL: Self = Self(32);
    pub(in super::super) const ALL: Self = Self(63);

    pub(in super::super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The type of a value.
    pub(in super::super) fn of(value: &Value) -> Self {
        match value {
            Value::Object(_) => Self::OBJECT,
            Value::Array(_) => Self::ARRAY,
            Value::String(_) => Self::STRING,
            Value::Number(_) => Self::NUMBER,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Null => Self::NULL,
        }
    }

    fn named(name: &Value) -> Option<Self> {
        Some(match name.as_str()? {
            "object" => Self::OBJECT,
            "array" => Self::ARRAY,
            "string" | "file" => Self::STRING,
            "number" | "integer" => Self::NUMBER,
            "boolean" => Self::BOOLEAN,
            "null" => Self::NULL,
            _ => return None,
        })
    }

    fn union(kinds: impl Iterator<Item = Self>) -> Self {
        Self(kinds.fold(0, |all, kinds| all | kinds.0))
    }

    /// What a schema lets through.
    pub(super) fn allowed<'a>(look: &Look<'a>, schema: &'a Value) -> Self {
        Self::at(look, schema, 0)
    }

    fn at<'a>(look: &Look<'a>, schema: &'a Value, level: usize) -> Self {
        let Some(fields) = look.at(schema, level).and_then(Value::as_object) else { return Self::ALL };
        let list = |name: &str| fields.get(name).and_then(Value::as_array).filter(|list| !list.is_empty());
        let mut kinds = Self::ALL;
        match fields.get("type") {
            Some(Value::Array(names)) => kinds = Self::union(names.iter().filter_map(Self::named)),
            Some(name) => kinds = Self::named(name).unwrap_or(Self::ALL),
            // What has fields or items is meant to be what has them.
            None if fields.contains_key("properties") => kinds = Self::OBJECT,
            None if fields.contains_key("items") => kinds = Self::ARRAY,
            None => {}
        }
        if kinds.0 == 0 {
            kinds = Self::ALL;
        }
        if let Some(values) = list("enum") {
            kinds.0 &= Self::union(values.iter().map(Self::of)).0;
        }
        for part in list("allOf").into_iter().flatten() {
            kinds.0 &= Self::at(look, part, level + 1).0;
        }
        for word in ["anyOf", "oneOf"] {
            if let Some(branches) = list(word) {
                kinds.0 &= Self::union(branches.iter().map(|branch| Self::at(look, branch, level + 1))).0;
            }
        }
        if let Some(value) = fields.get("const") {
            kinds.0 &= Self::of(value).0;
        }
        if flag(fields.get("nullable")) == Some(true) {
            kinds.0 |= Self::NULL.0;
        }
        kinds
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_types_of_a_schema_are_known() {
        let root = json!({ "text": { "type": "string" }, "loop": { "allOf": [{ "$ref": "#/loop" }] } });
        for (schema, expected) in [
            (json!(true), Kinds::ALL.0),
            (json!({}), Kinds::ALL.0),
            (json!({ "type": "object" }), 1),
            (json!({ "type": ["array", "null"] }), 2 | 32),
            (json!({ "type": "any" }), Kinds::ALL.0),
            (json!({ "properties": {} }), 1),
            (json!({ "items": {} }), 2),
            (json!({ "$ref": "#/text" }), 4),
            (json!({ "allOf": [{ "$ref": "#/text" }, { "description": "x" }] }), 4),
            (json!({ "anyOf": [{ "$ref": "#/text" }, { "type": "integer" }] }), 4 | 8),
            (json!({ "enum": [1, "a"] }), 4 | 8),
            (json!({ "type": "string", "nullable": true }), 4 | 32),
            (json!({ "$ref": "#/loop" }), Kinds::ALL.0),
            (json!({ "$ref": "#/gone" }), Kinds::ALL.0),
        ] {
            assert_eq!(Kinds::allowed(&Look::new(&root), &schema).0, expected, "{schema}");
        }
    }
}
