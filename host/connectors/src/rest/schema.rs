//! Schemas of documents become JSON Schema 2020-12 that stands for itself.
//!
//! OpenAPI 3.0 has a dialect of its own (`nullable`, `exclusiveMinimum: true`, `example`), 3.1 has 2020-12, and real
//! documents mix them, so both are read in one way. Only keywords that JSON Schema knows, with values of the kind that it
//! asks for, are taken over: what comes out always compiles. References become local `$defs`; a definition is translated
//! once for a document and copied into each schema that uses it, nearest first, until the schema has reached its limit.
//! What is beyond the limit accepts everything, because the service checks by itself.

use std::{
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
}

struct Definition {
    schema: Value,
    uses: Uses,
    bytes: usize,
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
        Self { root, definitions: HashMap::new(), patterns: HashMap::new() }
    }

    /// Adds the definitions that a schema uses, as far as `limit` bytes allow.
    pub(super) fn complete(
        &mut self,
        mut schema: Map<String, Value>,
        uses: Uses,
        direction: Direction,
        limit: usize,
    ) -> Value {
        let mut bytes = size(&schema);
        if bytes > limit {
            shorten(&mut schema);
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
            if bytes + definition.bytes > limit {
                definitions.insert(name, json!({}));
                continue;
            }
            bytes += definition.bytes;
            definitions.insert(name, definition.schema.clone());
            queue.extend(definition.uses.iter().cloned());
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
        let definition = Rc::new(Definition { bytes: size(&schema), schema, uses });
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
        if let Some(example) = source.get("example").filter(|example| size(example) <= MAX_VALUE) {
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
                (size(values) <= MAX_ENUM).then(|| value.clone())
            }
            "const" | "default" => (size(value) <= MAX_VALUE).then(|| value.clone()),
            "examples" => value.as_array().filter(|values| size(values) <= MAX_VALUE).map(|_| value.clone()),
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
        const MEANINGLESS: [&str; 12] = [
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
                "type" if value != "object" => return None,
                "properties" => fields.properties = map(value.as_object()?),
                "required" => fields.required = value.as_array()?.iter().filter_map(Value::as_str).collect(),
                "additionalProperties" if value == &Value::Bool(false) => fields.others = None,
                "additionalProperties" => fields.others = Some(value),
                "nullable" if value == &Value::Bool(false) => {}
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

/// Leaves of each property what it is and what it is for.
fn shorten(schema: &mut Map<String, Value>) {
    schema.retain(|keyword, _| {
        ["type", "properties", "required", "additionalProperties", "description"].contains(&keyword.as_str())
    });
    for keyword in ["properties", "additionalProperties"] {
        let fields = schema.get_mut(keyword).and_then(Value::as_object_mut).into_iter().flatten();
        for field in fields.filter_map(|(_, field)| field.as_object_mut()) {
            field.retain(|keyword, _| keyword == "type" || keyword == "description");
            if let Some(Value::String(text)) = field.get_mut("description") {
                *text = short(text, MAX_DESCRIPTION / 10);
            }
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
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // Neither counting nor writing a JSON value can fail.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}
