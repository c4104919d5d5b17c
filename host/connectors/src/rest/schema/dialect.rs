//! One schema, keyword by keyword: OpenAPI's dialects become 2020-12.

use std::collections::BTreeSet;

use serde_json::{Map, Number, Value, json};

use super::{Direction, Schemas, Uses, Way, fits};
use crate::{
    error::wording::short,
    rest::{
        document::{flag, pointer},
        slug::digest,
    },
};

/// Characters of a description inside a schema.
const MAX_DESCRIPTION: usize = 1_000;

/// Bytes of a default, of an example, of the values of an enumeration.
const MAX_VALUE: usize = 1_000;
const MAX_ENUM: usize = 64 << 10;

/// Characters of a regular expression, bytes of what it is compiled to, and how many of them a document may have.
const MAX_PATTERN: usize = 1_000;
const PATTERN_BYTES: usize = 512 << 10;
const MAX_PATTERNS: usize = 2_000;

/// Schemas, and bytes, that a schema may have that may not become wider.
const MAX_INLINE: usize = 100;
const MAX_GUARDED: usize = 8 << 10;

/// What reading a schema costs, in values that are looked at.
const READING: usize = 8;

/// Keywords that say something to people.
const ANNOTATIONS: [&str; 10] = [
    "title",
    "description",
    "format",
    "default",
    "examples",
    "deprecated",
    "contentEncoding",
    "contentMediaType",
    "readOnly",
    "writeOnly",
];

/// The same, of which nothing is taken over, or not under their own names.
const IGNORED: [&str; 13] = [
    "$comment",
    "$schema",
    "$id",
    "$anchor",
    "$defs",
    "definitions",
    "contentSchema",
    "discriminator",
    "example",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "xml",
];

/// A regular expression is checked in linear time, or not at all: those that look around or back are left out.
fn pattern_options() -> jsonschema::PatternOptions<jsonschema::Regex> {
    jsonschema::PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES)
}

/// What checks values by a schema. Formats are words to people, here and for most services.
pub(in crate::rest) fn compile(schema: &Value) -> Option<jsonschema::Validator> {
    let options = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(false)
        .with_pattern_options(pattern_options());
    options.build(schema).ok()
}

/// What tells whether a name is as a pattern says, if that can be told.
pub(super) fn names_like(pattern: &str) -> Option<impl Fn(&str) -> bool> {
    let check = (pattern.len() <= MAX_PATTERN).then(|| compile(&json!({ "pattern": pattern })))??;
    Some(move |name: &str| check.is_valid(&json!(name)))
}

/// Whether a name is as a pattern says, if that can be told.
pub(in crate::rest) fn matches(pattern: &str, name: &str) -> Option<bool> {
    Some(names_like(pattern)?(name))
}

impl Schemas<'_> {
    pub(super) fn read(&mut self, source: &Value, way: &Way, uses: &mut Uses) -> Value {
        let goes = self.goes(source, way.direction);
        let Some(source) = source.as_object() else {
            match source {
                Value::Bool(false) => return json!(false),
                Value::Bool(true) => {}
                _ => uses.lost_names(),
            }
            return json!({});
        };
        self.charge(READING);
        if let Some(inline) = &mut uses.inline {
            inline.schemas += 1;
            if inline.schemas > MAX_INLINE {
                uses.lost_names();
                return json!({});
            }
        }
        if !goes {
            uses.lost_names();
            return json!({ way.direction.withheld(): true });
        }
        let own = self.inside(source, way);
        let lone = self.lone_references && source.contains_key("$ref");
        let mut schema = Map::new();
        for (keyword, value) in source {
            if lone && keyword != "$ref" && !ANNOTATIONS.contains(&keyword.as_str()) {
                continue;
            }
            if keyword == "$ref" && uses.inline.is_some() {
                continue;
            }
            match self.keyword(keyword, value, (way, &own), uses) {
                Some(value) => {
                    schema.insert(keyword.clone(), value);
                }
                None if IGNORED.contains(&keyword.as_str())
                    || ANNOTATIONS.contains(&keyword.as_str())
                    || ["nullable", "oneOf", "anyOf", "if", "then", "else", "not", "contains"]
                        .contains(&keyword.as_str())
                    || keyword.starts_with("x-") => {}
                None => uses.lost_names(),
            }
        }
        if !lone {
            self.conditional(source, (way, &own), &mut schema, uses);
            self.contained(source, way, &mut schema, uses);
            self.branches(source, &own, &mut schema, uses);
            self.lists(source, way, &mut schema, uses);
            counts(&own, &mut schema, uses);
            names_of(source, &mut schema, uses);
            bounds(source, &mut schema, uses);
            written(&mut schema, uses);
        }
        if uses.inline.is_some() {
            if let Some(reference) = source.get("$ref") {
                let target = self.inlined(reference, &own, uses);
                let all = schema.entry("allOf").or_insert_with(|| json!([]));
                all.as_array_mut().into_iter().for_each(|all| all.push(target.clone()));
            }
            schema.retain(|keyword, _| !ANNOTATIONS.contains(&keyword.as_str()));
        } else if let Some(example) = source.get("example").filter(|example| fits(example, MAX_VALUE)) {
            schema.entry("examples").or_insert_with(|| json!([example]));
        }
        nullable(source, schema, uses)
    }

    /// The value of a keyword, if it is one that makes sense. `around` is how the schema itself is read, `inside` how its
    /// parts are.
    fn keyword(
        &mut self,
        keyword: &str,
        value: &Value,
        (around, inside): (&Way, &Way),
        uses: &mut Uses,
    ) -> Option<Value> {
        let plain = Way::plain(around.direction);
        match keyword {
            "$ref" => self.reference(value, inside, uses),
            "type" => types(value),
            "properties" => {
                let fields = value.as_object()?;
                let mut read = Map::new();
                for (name, field) in fields {
                    if self.goes(field, around.direction) {
                        read.insert(name.clone(), self.read(field, &plain, uses));
                    } else {
                        uses.lost_names();
                        read.insert(name.clone(), json!({ around.direction.withheld(): true }));
                    }
                }
                Some(read.into())
            }
            "patternProperties" => {
                let mut read = Map::new();
                for (pattern, field) in value.as_object()? {
                    if self.is_pattern(pattern) {
                        read.insert(pattern.clone(), self.read(field, &plain, uses));
                    } else {
                        uses.lost_names();
                    }
                }
                Some(read.into())
            }
            "dependentSchemas" => {
                let fields = value.as_object()?.iter();
                let read = fields.map(|(name, field)| (name.clone(), self.read(field, inside, uses)));
                Some(Value::Object(read.collect()))
            }
            "additionalProperties" if inside.open => None,
            "unevaluatedProperties" if around.open => None,
            // It goes when anything else is cut, and what may not become wider would.
            "unevaluatedProperties" | "unevaluatedItems" if uses.inline.is_some() => None,
            "additionalProperties" | "propertyNames" | "unevaluatedProperties" | "unevaluatedItems" => {
                self.closes_late |= keyword.starts_with("unevaluated");
                (value.is_object() || value.is_boolean()).then(|| self.read(value, &plain, uses))
            }
            "items" if value.is_array() => None,
            "items" => (value.is_object() || value.is_boolean()).then(|| self.read(value, &plain, uses)),
            "allOf" => {
                let parts = value.as_array().filter(|parts| !parts.is_empty())?;
                Some(parts.iter().map(|part| self.read(part, inside, uses)).collect())
            }
            "prefixItems" => {
                let items = value.as_array().filter(|items| !items.is_empty())?;
                Some(items.iter().map(|item| self.read(item, &plain, uses)).collect())
            }
            "dependentRequired" => {
                let mut read = Map::new();
                for (name, list) in value.as_object()? {
                    match self.required(list, inside, uses) {
                        Some(list) => drop(read.insert(name.clone(), list)),
                        None => uses.lost(),
                    }
                }
                Some(read.into())
            }
            "required" => self.required(value, inside, uses),
            "enum" => {
                let values = value.as_array().filter(|values| !values.is_empty())?;
                self.charge(values.len());
                fits(values, MAX_ENUM).then(|| value.clone())
            }
            "const" => fits(value, MAX_ENUM).then(|| value.clone()),
            "default" => fits(value, MAX_VALUE).then(|| value.clone()),
            "examples" => value.as_array().filter(|values| fits(values, MAX_VALUE)).map(|_| value.clone()),
            "minimum" | "maximum" => value.is_number().then(|| value.clone()),
            "multipleOf" => value.as_f64().filter(|&number| number > 0.0).map(|_| value.clone()),
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties"
            | "minContains" | "maxContains" => value.is_u64().then(|| value.clone()),
            "uniqueItems" | "deprecated" => value.is_boolean().then(|| value.clone()),
            "pattern" => value.as_str().filter(|pattern| self.is_pattern(pattern)).map(Value::from),
            "title" | "format" | "contentEncoding" | "contentMediaType" => {
                value.is_string().then(|| value.clone())
            }
            "description" => Some(short(value.as_str()?, MAX_DESCRIPTION).into()),
            _ => None,
        }
    }

    fn reference(&mut self, value: &Value, way: &Way, uses: &mut Uses) -> Option<Value> {
        let pointer = pointer(value.as_str()?)?.into_owned();
        self.root.pointer(&pointer)?;
        let way = self.way_of(&pointer, way);
        let key = (pointer, way);
        let reference = format!("#/$defs/{}", name(&key));
        uses.keys.insert(key);
        Some(reference.into())
    }

    /// What a reference leads to, in its place.
    fn inlined(&mut self, reference: &Value, way: &Way, uses: &mut Uses) -> Value {
        let root = self.root;
        let pointer = reference.as_str().and_then(pointer);
        let found = pointer.and_then(|pointer| Some((root.pointer(&pointer)?, pointer.into_owned())));
        let is_open = |uses: &Uses, pointer: &String| {
            uses.inline.as_ref().is_some_and(|inline| inline.open.contains(pointer))
        };
        let Some((target, pointer)) = found.filter(|(_, pointer)| !is_open(uses, pointer)) else {
            uses.lost_names();
            return json!({});
        };
        uses.inline.iter_mut().for_each(|inline| inline.open.push(pointer.clone()));
        let read = self.read(target, way, uses);
        uses.inline.iter_mut().for_each(|inline| drop(inline.open.pop()));
        read
    }

    /// A schema that must accept exactly what its source accepts, or nothing: accepting more there means accepting less.
    /// It has no references, so nothing in it is ever cut.
    fn guarded(&mut self, source: &Value, direction: Direction, uses: &mut Uses) -> Option<Value> {
        let inline = uses.inline.take();
        let is_inner = inline.is_some();
        let mut inner = Uses { inline: Some(inline.unwrap_or_default()), ..Uses::default() };
        let schema = self.read(source, &Way::plain(direction), &mut inner);
        uses.inline = inner.inline.filter(|_| is_inner);
        (!inner.inexact && fits(&schema, MAX_GUARDED)).then_some(schema)
    }

    /// `not`, and `if` with what belongs to it.
    fn conditional(
        &mut self,
        source: &Map<String, Value>,
        (around, inside): (&Way, &Way),
        schema: &mut Map<String, Value>,
        uses: &mut Uses,
    ) {
        if let Some(not) = source.get("not") {
            match self.guarded(not, around.direction, uses) {
                Some(not) => drop(schema.insert("not".into(), not)),
                None => uses.lost(),
            }
        }
        let Some(condition) = source.get("if") else { return };
        let Some(condition) = self.guarded(condition, around.direction, uses) else {
            return uses.lost_names();
        };
        schema.insert("if".into(), condition);
        for word in ["then", "else"] {
            if let Some(then) = source.get(word) {
                schema.insert(word.into(), self.read(then, inside, uses));
            }
        }
    }

    /// `contains`: how many items at most fit is asked only if it is certain what fits.
    fn contained(
        &mut self,
        source: &Map<String, Value>,
        way: &Way,
        schema: &mut Map<String, Value>,
        uses: &mut Uses,
    ) {
        let Some(contains) = source.get("contains").filter(|value| value.is_object() || value.is_boolean())
        else {
            return;
        };
        if !self.goes(contains, way.direction) {
            // What does not go need not be there.
            schema.retain(|word, _| word != "minContains" && word != "maxContains");
            return uses.lost_names();
        }
        if schema.contains_key("maxContains") {
            match self.guarded(contains, way.direction, uses) {
                Some(contains) => {
                    schema.insert("contains".into(), contains);
                    return;
                }
                None => {
                    schema.remove("maxContains");
                    uses.lost();
                }
            }
        }
        let contains = self.read(contains, &Way::plain(way.direction), uses);
        schema.insert("contains".into(), contains);
    }

    /// The lists of older drafts. What is said of the items after a list means nothing when the list is broken.
    fn lists(
        &mut self,
        source: &Map<String, Value>,
        way: &Way,
        schema: &mut Map<String, Value>,
        uses: &mut Uses,
    ) {
        if let Some(Value::Array(items)) = source.get("items")
            && !items.is_empty()
            && !schema.contains_key("prefixItems")
        {
            let plain = Way::plain(way.direction);
            let items: Vec<_> = items.iter().map(|item| self.read(item, &plain, uses)).collect();
            schema.insert("prefixItems".into(), items.into());
        }
        if source.contains_key("prefixItems") && !schema.contains_key("prefixItems") {
            for word in ["items", "unevaluatedItems"] {
                schema.remove(word);
            }
        }
    }

    /// A list of names without doubles and without those that do not go this way.
    fn required(&self, list: &Value, way: &Way, uses: &mut Uses) -> Option<Value> {
        let list = list.as_array()?;
        let known = list.iter().filter_map(Value::as_str).filter(|name| !way.without.contains(*name));
        let known: Vec<&str> = known.collect();
        if known.len() < list.len() {
            uses.lost();
        }
        Some(known.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Whether the crate that checks arguments can use a regular expression.
    fn is_pattern(&mut self, pattern: &str) -> bool {
        if let Some(&known) = self.patterns.get(pattern) {
            return known;
        }
        // In PHP and Perl expressions stand between slashes, and some documents hold those.
        let is_quoted = pattern.starts_with("/^") && pattern.ends_with(['/', 'i', 'u']);
        if pattern.len() > MAX_PATTERN || is_quoted || self.patterns.len() >= MAX_PATTERNS {
            return false;
        }
        self.charge(100);
        let options = jsonschema::options().with_pattern_options(pattern_options());
        let usable =
            options.build(&json!({ "pattern": pattern, "patternProperties": { pattern: {} } })).is_ok();
        self.patterns.insert(pattern.to_owned(), usable);
        usable
    }
}

/// The name of a definition. It depends on nothing but its place and how it is read.
pub(super) fn name((pointer, way): &(String, Way)) -> String {
    let is_plain =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let mut name = match pointer.strip_prefix("/components/schemas/").filter(|name| is_plain(name)) {
        Some(name) => name.to_owned(),
        None => {
            let last = pointer.rsplit('/').next().unwrap_or_default();
            let last: String = last.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
            // A component's name has no colon, so the two never meet.
            format!("{last}:{}", digest(pointer))
        }
    };
    if way.open {
        name += ":open";
    }
    if way.uncounted {
        name += ":some";
    }
    if !way.without.is_empty() {
        let without: Vec<&str> = way.without.iter().map(String::as_str).collect();
        name = format!("{name}:{}", digest(&without.join("\n")));
    }
    name
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
            let is_whole = several.iter().all(is_type);
            (is_whole && !known.is_empty()).then(|| known.into())
        }
        _ => None,
    }
}

/// A list of names without doubles.
pub(super) fn names(value: &Value) -> Option<Value> {
    let names: BTreeSet<&str> = value.as_array()?.iter().filter_map(Value::as_str).collect();
    Some(names.into_iter().collect())
}

/// What is said of other properties means nothing when it is not known which are named.
fn names_of(source: &Map<String, Value>, schema: &mut Map<String, Value>, uses: &mut Uses) {
    let named =
        |map: &Map<String, Value>, word: &str| map.get(word).and_then(Value::as_object).map_or(0, Map::len);
    let is_broken = ["properties", "patternProperties"].into_iter().any(|word| {
        source.contains_key(word)
            && (!schema.contains_key(word) || named(source, word) != named(schema, word))
    });
    if is_broken && schema.remove("additionalProperties").is_some() {
        uses.lost_names();
    }
    // What does not go is not offered, but where others are restricted it must not be taken for one of them.
    if !schema.contains_key("additionalProperties")
        && let Some(Value::Object(properties)) = schema.get_mut("properties")
    {
        properties.retain(|_, property| !is_marker(property));
    }
}

fn is_marker(schema: &Value) -> bool {
    let marker = |word: &str| schema.get(word) == Some(&Value::Bool(true));
    schema.as_object().is_some_and(|schema| schema.len() == 1) && (marker("readOnly") || marker("writeOnly"))
}

/// How much there must be and may be counts nothing that does not go: it need not be there, and may be.
fn counts(inside: &Way, schema: &mut Map<String, Value>, uses: &mut Uses) {
    let without = u64::try_from(inside.without.len()).unwrap_or(u64::MAX);
    for word in ["minProperties", "maxProperties", "minItems", "maxItems"] {
        let Some(count) = schema.get(word).and_then(Value::as_u64) else { continue };
        let is_of_names = word.ends_with("Properties");
        if inside.uncounted {
            schema.remove(word);
            uses.lost();
        } else if is_of_names && without > 0 {
            let count = match word {
                "minProperties" => count.saturating_sub(without),
                _ => count.saturating_add(without),
            };
            schema.insert(word.into(), count.into());
            uses.lost();
        }
    }
}

/// `exclusiveMinimum: true` beside a minimum is `exclusiveMinimum: MINIMUM`.
fn bounds(source: &Map<String, Value>, schema: &mut Map<String, Value>, uses: &mut Uses) {
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
            None | Some(Value::Bool(false)) => {}
            Some(_) => uses.lost(),
        }
    }
}

/// In YAML one writes `enum: [1, 2]` below `type: string` and means texts. What the type would never let through is taken
/// for what it says.
fn written(schema: &mut Map<String, Value>, uses: &mut Uses) {
    let is_type = |name: &str, schema: &Map<String, Value>| match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(several)) => several.iter().any(|other| other == name),
        _ => true,
    };
    let fits = |value: &Value, schema: &Map<String, Value>| match value {
        Value::Null => is_type("null", schema),
        Value::Bool(_) => is_type("boolean", schema),
        Value::Number(_) => is_type("number", schema) || is_type("integer", schema),
        Value::String(_) => is_type("string", schema),
        Value::Array(_) => is_type("array", schema),
        Value::Object(_) => is_type("object", schema),
    };
    let meant = |value: &Value| match value {
        Value::Bool(_) | Value::Number(_) => Some(Value::String(value.to_string())),
        Value::String(text) => typed(text),
        _ => None,
    };
    let given: Vec<&Value> = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), None) => values.iter().collect(),
        (None, Some(value)) => vec![value],
        _ => return,
    };
    if given.iter().all(|value| fits(value, schema)) {
        return;
    }
    let more = given.iter().filter(|value| !fits(value, schema)).filter_map(|value| meant(value));
    let more: Vec<Value> = more.filter(|value| fits(value, schema) && !given.contains(&value)).collect();
    if more.is_empty() {
        return;
    }
    let all: Vec<Value> = given.into_iter().cloned().chain(more).collect();
    uses.lost();
    schema.remove("const");
    schema.insert("enum".into(), all.into());
}

/// A text that says a number or a truth value.
pub(in crate::rest) fn typed(text: &str) -> Option<Value> {
    match text {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ if text.len() > 40 => None,
        _ => serde_json::from_str::<Number>(text).ok().map(Value::Number),
    }
}

/// A schema that accepts null as well, if its source says so: with OpenAPI 3.0's word, in a part of it (where by the letter
/// it means nothing, and is meant all the same), or with a list of types beside something that forgets about null.
fn nullable(source: &Map<String, Value>, mut schema: Map<String, Value>, uses: &mut Uses) -> Value {
    let says = |source: &Map<String, Value>| {
        ["nullable", "x-nullable"].iter().any(|word| flag(source.get(*word)) == Some(true))
    };
    let is_null = |name: &Value| name == "null";
    let own = says(source);
    let mut parts = source.get("allOf").and_then(Value::as_array).into_iter().flatten();
    let in_part = parts.any(|part| part.as_object().is_some_and(says));
    let in_types =
        schema.get("type").and_then(Value::as_array).is_some_and(|names| names.iter().any(is_null));
    let has_parts = ["$ref", "allOf", "anyOf", "oneOf", "not", "const", "if"]
        .iter()
        .any(|word| schema.contains_key(*word));
    let forgets =
        schema.get("enum").and_then(Value::as_array).is_some_and(|values| !values.contains(&Value::Null));
    if !own && !in_part && !(in_types && (has_parts || forgets)) {
        return schema.into();
    }
    uses.inexact |= !own;
    if has_parts {
        return json!({ "anyOf": [schema, { "type": "null" }] });
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum").filter(|_| forgets) {
        values.push(Value::Null);
    }
    let types = match schema.get("type") {
        Some(Value::String(name)) if name != "null" => vec![json!(name), json!("null")],
        Some(Value::Array(names)) if !names.iter().any(is_null) => {
            names.iter().cloned().chain([json!("null")]).collect()
        }
        _ => return schema.into(),
    };
    schema.insert("type".into(), types.into());
    schema.into()
}
