//! Schemas of documents become JSON Schema 2020-12 that stands for itself.
//!
//! OpenAPI 3.0 has a dialect of its own (`nullable`, `exclusiveMinimum: true`, `example`), 3.1 has 2020-12, and real
//! documents mix them, so both are read in one way. Only keywords that JSON Schema knows, with values of the kind that it
//! asks for, are taken over: what comes out always compiles. References become local `$defs`; a definition is translated
//! once for a document and copied into each schema that uses it, nearest first, until the schema has reached its limit.
//! What is beyond the limit accepts everything, because the service checks by itself.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    rc::Rc,
};

use serde_json::{Map, Value, json};

use super::{
    document::{pointer, resolve},
    slug::digest,
};

/// Characters of a description inside a schema.
const MAX_DESCRIPTION: usize = 1_000;

/// Bytes of a default, of an example, of the values of an enumeration.
const MAX_VALUE: usize = 1_000;
const MAX_ENUM: usize = 8_000;

/// Objects inside objects that are combined by `allOf`.
const MAX_PARTS: usize = 8;

/// Which way a value goes: what is `readOnly` is not sent, what is `writeOnly` does not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    Sent,
    Received,
}

/// The JSON pointers that a translated schema refers to.
pub(super) type Uses = BTreeSet<String>;

/// Translates the schemas of one document.
pub(super) struct Schemas<'a> {
    root: &'a Value,
    definitions: HashMap<(Direction, String), Rc<Definition>>,
    patterns: HashMap<String, bool>,
    /// Values of the document that were looked at, as often as they were.
    work: Cell<usize>,
}

/// A definition, and what is left of it when there is no room for the whole; with their bytes.
struct Definition {
    whole: (Value, usize),
    short: (Value, usize),
    /// What the whole refers to.
    uses: Uses,
}

/// The fields of an object that has nothing but fields, so that they can stand among others.
pub(super) struct Fields<'a> {
    pub(super) properties: BTreeMap<&'a str, &'a Value>,
    pub(super) required: BTreeSet<&'a str>,
    /// What other fields must be; none if there may be no others.
    pub(super) others: Option<&'a Value>,
    /// `anyOf` and `oneOf` of combinations of required fields.
    pub(super) combinations: Vec<Value>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        Self { root, definitions: HashMap::new(), patterns: HashMap::new(), work: Cell::new(0) }
    }

    /// Counts values that are about to be looked at: a short document can refer to a long part of itself very often.
    pub(super) fn charge(&self, values: usize) {
        self.work.set(self.work.get().saturating_add(values));
    }

    pub(super) fn work(&self) -> usize {
        self.work.get()
    }

    /// Adds the definitions that a schema uses, as far as `limit` bytes allow.
    pub(super) fn complete(
        &mut self,
        mut schema: Map<String, Value>,
        mut uses: Uses,
        direction: Direction,
        limit: usize,
    ) -> Value {
        let mut bytes = size(&schema);
        if bytes > limit {
            shorten(&mut schema, MAX_DESCRIPTION / 10);
            uses.clear();
            bytes = size(&schema);
        }
        let mut definitions = Map::new();
        let mut queue: VecDeque<String> = uses.into_iter().collect();
        while let Some(pointer) = queue.pop_front() {
            let name = name(&pointer);
            if definitions.contains_key(&name) {
                continue;
            }
            let definition = self.definition(&pointer, direction);
            bytes += name.len() + 8;
            let left = limit.saturating_sub(bytes);
            let (schema, taken) = match &*definition {
                Definition { whole, .. } if whole.1 <= left => {
                    queue.extend(definition.uses.iter().cloned());
                    whole.clone()
                }
                Definition { short, .. } if short.1 <= left => short.clone(),
                _ => (json!({}), 0),
            };
            bytes += taken;
            definitions.insert(name, schema);
        }
        if !definitions.is_empty() {
            schema.insert("$defs".into(), definitions.into());
        }
        schema.into()
    }

    fn definition(&mut self, pointer: &str, direction: Direction) -> Rc<Definition> {
        let key = (direction, pointer.to_owned());
        if let Some(known) = self.definitions.get(&key) {
            return Rc::clone(known);
        }
        let mut uses = Uses::new();
        let root = self.root;
        let schema = match root.pointer(pointer) {
            Some(source) => self.translate(source, direction, &mut uses),
            None => json!({}),
        };
        let mut short = schema.clone();
        short.as_object_mut().into_iter().for_each(|schema| shorten(schema, 0));
        let sized = |schema: Value| {
            let bytes = size(&schema);
            (schema, bytes)
        };
        let definition = Rc::new(Definition { whole: sized(schema), short: sized(short), uses });
        self.definitions.insert(key, Rc::clone(&definition));
        definition
    }

    /// One schema. What it refers to is added to `uses`.
    pub(super) fn translate(&mut self, source: &Value, direction: Direction, uses: &mut Uses) -> Value {
        let Some(source) = source.as_object() else {
            return if source == &Value::Bool(false) { json!(false) } else { json!({}) };
        };
        let mut schema = Map::new();
        for (keyword, value) in source {
            if let Some(value) = self.keyword(keyword, value, direction, uses) {
                schema.insert(keyword.clone(), value);
            }
        }
        if let Some(properties) = source.get("properties").and_then(Value::as_object)
            && let Some(Value::Array(required)) = schema.get_mut("required")
        {
            // What does not go this way cannot be required.
            required.retain(|name| {
                let property = name.as_str().and_then(|name| properties.get(name));
                property.is_none_or(|property| self.goes(property, direction))
            });
        }
        bounds(source, &mut schema);
        match source.get("items") {
            // The lists of older drafts.
            Some(Value::Array(items)) if !items.is_empty() => {
                let items: Vec<_> = items.iter().map(|item| self.translate(item, direction, uses)).collect();
                schema.insert("prefixItems".into(), items.into());
            }
            _ => {}
        }
        if let Some(example) = source.get("example").filter(|example| fits(example, MAX_VALUE)) {
            schema.entry("examples").or_insert_with(|| json!([example]));
        }
        match source.get("nullable") == Some(&Value::Bool(true)) {
            true => nullable(schema),
            false => schema.into(),
        }
    }

    /// The value of a keyword, if it is one that makes sense.
    fn keyword(
        &mut self,
        keyword: &str,
        value: &Value,
        direction: Direction,
        uses: &mut Uses,
    ) -> Option<Value> {
        match keyword {
            "$ref" => {
                let pointer = pointer(value.as_str()?)?.into_owned();
                self.root.pointer(&pointer)?;
                let reference = format!("#/$defs/{}", name(&pointer));
                uses.insert(pointer);
                Some(reference.into())
            }
            "type" => types(value),
            "properties" => {
                let fields = value.as_object()?.iter();
                let kept: Vec<_> = fields.filter(|(_, field)| self.goes(field, direction)).collect();
                let translated = kept
                    .into_iter()
                    .map(|(name, field)| (name.clone(), self.translate(field, direction, uses)));
                Some(Value::Object(translated.collect()))
            }
            "patternProperties" => {
                let fields = value.as_object()?.iter();
                let kept: Vec<_> = fields.filter(|(pattern, _)| self.is_pattern(pattern)).collect();
                let translated = kept
                    .into_iter()
                    .map(|(name, field)| (name.clone(), self.translate(field, direction, uses)));
                Some(Value::Object(translated.collect()))
            }
            "dependentSchemas" => {
                let fields = value.as_object()?.iter();
                let translated =
                    fields.map(|(name, field)| (name.clone(), self.translate(field, direction, uses)));
                Some(Value::Object(translated.collect()))
            }
            "items"
            | "additionalProperties"
            | "unevaluatedProperties"
            | "unevaluatedItems"
            | "propertyNames"
            | "contains"
            | "not"
            | "if"
            | "then"
            | "else" => {
                (value.is_object() || value.is_boolean()).then(|| self.translate(value, direction, uses))
            }
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
                let parts = value.as_array().filter(|parts| !parts.is_empty())?;
                Some(parts.iter().map(|part| self.translate(part, direction, uses)).collect())
            }
            "dependentRequired" => {
                let fields = value.as_object()?.iter();
                Some(Value::Object(
                    fields.filter_map(|(name, list)| Some((name.clone(), names(list)?))).collect(),
                ))
            }
            "required" => names(value),
            "enum" => {
                let values = value.as_array().filter(|values| !values.is_empty())?;
                fits(values, MAX_ENUM).then(|| value.clone())
            }
            "const" | "default" => fits(value, MAX_VALUE).then(|| value.clone()),
            "examples" => value.as_array().filter(|values| fits(values, MAX_VALUE)).map(|_| value.clone()),
            "minimum" | "maximum" => value.is_number().then(|| value.clone()),
            "multipleOf" => value.as_f64().filter(|&number| number > 0.0).map(|_| value.clone()),
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties"
            | "minContains" | "maxContains" => value.is_u64().then(|| value.clone()),
            "uniqueItems" | "deprecated" => value.is_boolean().then(|| value.clone()),
            "pattern" => self.is_pattern(value.as_str()?).then(|| value.clone()),
            "title" | "format" | "contentEncoding" | "contentMediaType" => {
                value.is_string().then(|| value.clone())
            }
            "description" => Some(short(value.as_str()?, MAX_DESCRIPTION).into()),
            _ => None,
        }
    }

    /// Whether a property is part of what goes this way.
    fn goes(&self, property: &Value, direction: Direction) -> bool {
        let keyword = match direction {
            Direction::Sent => "readOnly",
            Direction::Received => "writeOnly",
        };
        let is_set = |schema: &Value| schema.get(keyword) == Some(&Value::Bool(true));
        !is_set(property) && !resolve(self.root, property).is_some_and(is_set)
    }

    /// Whether the crate that checks arguments can use a regular expression.
    fn is_pattern(&mut self, pattern: &str) -> bool {
        if let Some(&known) = self.patterns.get(pattern) {
            return known;
        }
        let usable = jsonschema::validator_for(&json!({ "pattern": pattern })).is_ok();
        self.patterns.insert(pattern.to_owned(), usable);
        usable
    }

    /// The fields of an object, if it has nothing else: no alternatives, no conditions, no pattern of names.
    pub(super) fn fields(&self, schema: &'a Value, direction: Direction) -> Option<Fields<'a>> {
        let mut fields = self.own_fields(schema, 0)?;
        fields.properties.retain(|_, property| self.goes(property, direction));
        let Fields { properties, required, .. } = &mut fields;
        // A required field without a schema is one that an open object lets through.
        required.retain(|name| properties.contains_key(name));
        (!fields.properties.is_empty()).then_some(fields)
    }

    fn own_fields(&self, schema: &'a Value, level: usize) -> Option<Fields<'a>> {
        const ANYTHING: &Value = &Value::Bool(true);
        const MEANINGLESS: [&str; 16] = [
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
        ];
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
                "required" => fields.required = value.as_array()?.iter().filter_map(Value::as_str).collect(),
                "additionalProperties" if value == &Value::Bool(false) => fields.others = None,
                "additionalProperties" => fields.others = Some(value),
                "anyOf" | "oneOf" => {
                    fields.combinations.push(json!({ keyword.as_str(): combinations(value)? }));
                }
                "allOf" => {}
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

fn map(fields: &Map<String, Value>) -> BTreeMap<&str, &Value> {
    fields.iter().map(|(name, field)| (name.as_str(), field)).collect()
}

/// The name of the definition at a JSON pointer. It depends on nothing but the pointer.
fn name(pointer: &str) -> String {
    let is_plain =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match pointer.strip_prefix("/components/schemas/").filter(|name| is_plain(name)) {
        Some(name) => name.to_owned(),
        None => {
            let last = pointer.rsplit('/').next().unwrap_or_default();
            let last: String = last.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
            // A component's name has no colon, so the two never meet.
            format!("{last}:{}", digest(pointer))
        }
    }
}

fn types(value: &Value) -> Option<Value> {
    const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];
    let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Value::String(_) => is_type(value).then(|| value.clone()),
        Value::Array(several) => {
            let mut known: Vec<Value> = several.iter().filter(|value| is_type(value)).cloned().collect();
            known.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            known.dedup();
            (known.len() == several.len() && !known.is_empty()).then(|| known.into())
        }
        _ => None,
    }
}

/// A list of names without doubles.
fn names(value: &Value) -> Option<Value> {
    let names: BTreeSet<&str> = value.as_array()?.iter().filter_map(Value::as_str).collect();
    Some(names.into_iter().collect())
}

/// `exclusiveMinimum: true` beside a minimum is `exclusiveMinimum: MINIMUM`.
fn bounds(source: &Map<String, Value>, schema: &mut Map<String, Value>) {
    for (bound, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        match source.get(exclusive) {
            Some(number @ Value::Number(_)) => {
                schema.insert(exclusive.into(), number.clone());
            }
            Some(Value::Bool(true)) => {
                if let Some(number) = schema.remove(bound) {
                    schema.insert(exclusive.into(), number);
                }
            }
            _ => {}
        }
    }
}

/// A schema that accepts null as well.
fn nullable(mut schema: Map<String, Value>) -> Value {
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    let only_type = match schema.get("type") {
        Some(Value::String(name)) => Some(vec![json!(name), json!("null")]),
        Some(Value::Array(names)) if !names.contains(&json!("null")) => {
            Some(names.iter().cloned().chain([json!("null")]).collect())
        }
        _ => None,
    };
    let has_parts = ["$ref", "allOf", "anyOf", "oneOf", "not", "const", "if"]
        .iter()
        .any(|word| schema.contains_key(*word));
    match only_type {
        _ if has_parts => json!({ "anyOf": [schema, { "type": "null" }] }),
        Some(types) => {
            schema.insert("type".into(), types.into());
            schema.into()
        }
        None => schema.into(),
    }
}

/// Leaves of each property what it is, and so many characters about what it is for. No reference is left.
fn shorten(schema: &mut Map<String, Value>, characters: usize) {
    schema.retain(|keyword, value| match keyword.as_str() {
        "type" | "properties" | "required" | "description" => true,
        "additionalProperties" => value.is_boolean(),
        _ => false,
    });
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten();
    for field in fields.filter_map(|(_, field)| field.as_object_mut()) {
        field.retain(|keyword, _| keyword == "type" || keyword == "description" && characters > 0);
        if let Some(Value::String(text)) = field.get_mut("description") {
            *text = short(text, characters);
        }
    }
}

/// The beginning of a text.
pub(super) fn short(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Bytes of JSON text.
pub(super) fn size(value: &impl serde::Serialize) -> usize {
    count(value, usize::MAX)
}

/// Whether a value is no longer than so many bytes of JSON text. A long one is not read to its end.
pub(super) fn fits(value: &impl serde::Serialize, bytes: usize) -> bool {
    count(value, bytes) <= bytes
}

fn count(value: &impl serde::Serialize, limit: usize) -> usize {
    struct Counter {
        bytes: usize,
        limit: usize,
    }
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.bytes += bytes.len();
            if self.bytes > self.limit {
                Err(std::io::ErrorKind::FileTooLarge.into())
            } else {
                Ok(bytes.len())
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter { bytes: 0, limit };
    // It fails only at the limit, and then the count says so.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(root: &Value, limit: usize) -> Value {
        let mut schemas = Schemas::new(root);
        let mut uses = Uses::new();
        match schemas.translate(&root["schema"], Direction::Received, &mut uses) {
            Value::Object(schema) => schemas.complete(schema, uses, Direction::Received, limit),
            other => other,
        }
    }

    #[test]
    fn keywords_of_the_wrong_kind_are_left_out() {
        let root = json!({ "schema": {
            "type": "any", "minLength": -1, "maximum": "7", "required": "a", "enum": [], "items": 7, "anyOf": [],
            "pattern": "(", "patternProperties": { "(": {}, "^a": { "type": "null" } }, "uniqueItems": 1,
            "dependentRequired": { "a": ["b"], "c": 7 }, "multipleOf": 0, "format": "date", "discriminator": {},
            "additionalProperties": false, "not": false, "xml": {}, "x-more": 1, "const": null,
        } });
        let expected = json!({
            "patternProperties": { "^a": { "type": "null" } }, "dependentRequired": { "a": ["b"] }, "format": "date",
            "additionalProperties": false, "not": false, "const": null,
        });
        assert_eq!(translated(&root, 10_000), expected);
    }

    #[test]
    fn null_is_accepted_where_the_older_dialect_says_so() {
        for (schema, is_nullable) in [
            (json!({ "type": "string", "nullable": true }), true),
            (json!({ "type": "string", "nullable": false }), false),
            (json!({ "type": "string", "enum": ["a"], "nullable": true }), true),
            (json!({ "$ref": "#/text", "nullable": true }), true),
            (json!({ "type": "string", "oneOf": [{ "$ref": "#/text" }], "nullable": true }), true),
            (json!({ "enum": ["a"], "nullable": true }), true),
        ] {
            let root = json!({ "schema": schema, "text": { "type": "string" } });
            let validator = jsonschema::validator_for(&translated(&root, 10_000)).expect("a schema");
            assert_eq!(validator.is_valid(&Value::Null), is_nullable, "{schema}");
            assert!(validator.is_valid(&json!("a")) && !validator.is_valid(&json!(1)), "{schema}");
        }
    }

    #[test]
    fn row_22_a_schema_has_a_limit_and_what_is_beyond_it_accepts_everything() {
        let level = |level: u32| {
            json!({ "type": "object", "description": "x".repeat(400), "anyOf": [{ "$ref": "#/text" }, {}],
                "additionalProperties": { "$ref": "#/text" }, "properties": {
                "next": { "$ref": format!("#/levels/{}", level + 1) }, "number": { "type": "integer", "description": "y" },
            } })
        };
        let levels: Vec<_> = (0..100).map(level).collect();
        let root = json!({ "schema": { "$ref": "#/levels/0" }, "levels": levels });
        let schema = translated(&root, 2_000);
        assert!(size(&schema) <= 2_100, "{}", size(&schema));
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        assert!(!validator.is_valid(&json!({ "next": { "number": "x" } })));
        assert!(
            validator.is_valid(
                &json!({ "next": { "next": { "next": { "next": { "next": { "number": "x" } } } } } })
            )
        );
        // One that is too long by itself keeps the names and kinds of its properties.
        let fields: Map<_, _> = (0..20).map(|number| (format!("f{number}"), level(number))).collect();
        let wide = translated(&json!({ "schema": { "type": "object", "properties": fields } }), 4_000);
        assert_eq!(wide["properties"]["f0"]["type"], "object");
        assert!(wide["properties"]["f0"].get("properties").is_none() && size(&wide) <= 4_000);
    }

    #[test]
    fn names_of_definitions_depend_on_nothing_but_their_place() {
        assert_eq!(name("/components/schemas/Pet.v2"), "Pet.v2");
        let (one, other) = (name("/components/schemas/a~1b"), name("/components/schemas/a b"));
        assert!(one != other && one.contains(':') && !one.contains('/'), "{one} {other}");
    }

    #[test]
    fn only_plain_objects_give_their_fields() {
        let part = json!({ "type": "object", "properties": { "b": {} }, "required": ["b"] });
        let fields = |schema: &Value| {
            let root = json!({ "schema": schema, "part": part });
            let fields = Schemas::new(&root).fields(&root["schema"], Direction::Sent)?;
            let names = fields.properties.keys().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            Some((names, fields.required.len()))
        };
        let a = json!({ "properties": { "a": {} } });
        for plain in [
            json!({ "allOf": [a, { "$ref": "#/part" }] }),
            json!({ "required": ["a", "gone"], "type": ["object", "null"], "properties": { "a": {}, "b": {} }, "additionalProperties": false }),
            json!({ "properties": { "a": {}, "b": {}, "c": { "readOnly": true } }, "required": ["a", "c"], "anyOf": [{ "required": ["a"] }] }),
        ] {
            assert_eq!(fields(&plain), Some((vec!["a".to_owned(), "b".to_owned()], 1)), "{plain}");
        }
        for other in [
            json!({ "type": "object" }),
            json!({ "type": "string" }),
            json!({ "oneOf": [a, a] }),
            json!({ "properties": { "a": {} }, "minProperties": 1 }),
            json!({ "allOf": [a, { "properties": { "a": { "type": "string" } } }] }),
            json!({ "allOf": [a, { "properties": { "b": {} }, "additionalProperties": false }] }),
            json!({ "$ref": "elsewhere.json" }),
        ] {
            assert_eq!(fields(&other), None, "{other}");
        }
    }
}
