//! The fields of an object that has nothing but fields, so that they can stand among others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Direction, Schemas, dialect::names};
use crate::rest::document::resolve;

/// Objects inside objects that are combined by `allOf`.
const MAX_PARTS: usize = 8;

const ANYTHING: &Value = &Value::Bool(true);

/// Keywords that do not hinder.
const MEANINGLESS: [&str; 17] = [
    "$defs",
    "$schema",
    "definitions",
    "nullable",
    "title",
    "description",
    "example",
    "examples",
    "default",
    "deprecated",
    "externalDocs",
    "xml",
    "$comment",
    "required",
    "properties",
    "type",
    "allOf",
];

pub(in crate::rest) struct Fields<'a> {
    pub(in crate::rest) properties: BTreeMap<&'a str, &'a Value>,
    pub(in crate::rest) required: BTreeSet<&'a str>,
    /// What other fields must be; none if there may be no others.
    pub(in crate::rest) others: Option<&'a Value>,
    /// Alternatives that only say which fields are required.
    pub(in crate::rest) combinations: Vec<Value>,
}

impl<'a> Schemas<'a> {
    /// The fields of an object, if it has nothing else: no alternatives, no conditions, no pattern of names.
    ///
    /// What does not go this way is no field, except in an object that says what others must be: there it would be such
    /// another one.
    pub(in crate::rest) fn fields(&self, schema: &'a Value, direction: Direction) -> Option<Fields<'a>> {
        let mut fields = self.own_fields(schema, 0)?;
        let withheld: BTreeSet<&str> = fields
            .properties
            .iter()
            .filter(|(_, property)| !self.goes(property, direction))
            .map(|(name, _)| *name)
            .collect();
        if fields.properties.len() == withheld.len() {
            return None;
        }
        if fields.others == Some(ANYTHING) {
            fields.properties.retain(|name, _| !withheld.contains(name));
        }
        let Fields { properties, required, combinations, .. } = &mut fields;
        // A required field without a schema is one that an open object lets through.
        required.retain(|name| properties.contains_key(name) && !withheld.contains(name));
        for required in combinations.iter_mut().flat_map(requirements) {
            required.retain(|name| name.as_str().is_none_or(|name| !withheld.contains(name)));
        }
        Some(fields)
    }

    fn own_fields(&self, schema: &'a Value, level: usize) -> Option<Fields<'a>> {
        let source = resolve(self.root, schema).filter(|_| level < MAX_PARTS)?.as_object()?;
        let mut fields = Fields {
            properties: BTreeMap::new(),
            required: BTreeSet::new(),
            others: Some(ANYTHING),
            combinations: Vec::new(),
        };
        for (keyword, value) in source {
            match keyword.as_str() {
                // An object can always be sent where null can be as well.
                "type" if value != "object" && value != &json!(["object", "null"]) => return None,
                "properties" => {
                    fields.properties = map(value.as_object()?);
                    self.charge(fields.properties.len());
                }
                "required" => {
                    fields.required =
                        value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                }
                "additionalProperties" if value == &Value::Bool(false) => fields.others = None,
                "additionalProperties" if value.as_object().is_some_and(Map::is_empty) => {}
                "additionalProperties" => fields.others = Some(value),
                "anyOf" | "oneOf" => fields.combinations.push(json!({ "anyOf": combinations(value)? })),
                known if MEANINGLESS.contains(&known) || known.starts_with("x-") => {}
                _ => return None,
            }
        }
        for part in source.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            let part = self.own_fields(part, level + 1)?;
            // What is closed for one part would be closed for the others' fields.
            if part.others != Some(ANYTHING) || fields.others != Some(ANYTHING) {
                return None;
            }
            for (name, property) in part.properties {
                if fields.properties.insert(name, property).is_some_and(|other| other != property) {
                    return None;
                }
            }
            fields.required.extend(part.required);
            fields.combinations.extend(part.combinations);
        }
        Some(fields)
    }
}

/// Alternatives that only say which fields are required.
fn combinations(value: &Value) -> Option<Vec<Value>> {
    let alternatives = value.as_array().filter(|alternatives| !alternatives.is_empty())?.iter();
    alternatives
        .map(|alternative| {
            let only_required = alternative.as_object().filter(|alternative| alternative.len() == 1)?;
            Some(json!({ "required": names(only_required.get("required")?)? }))
        })
        .collect()
}

fn requirements(combination: &mut Value) -> impl Iterator<Item = &mut Vec<Value>> {
    let alternatives = combination.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten();
    alternatives.filter_map(|alternative| alternative.get_mut("required").and_then(Value::as_array_mut))
}

fn map(fields: &Map<String, Value>) -> BTreeMap<&str, &Value> {
    fields.iter().map(|(name, field)| (name.as_str(), field)).collect()
}
