//! Alternatives.
//!
//! Every `oneOf` is read as `anyOf`. What the two differ in is the value that fits several alternatives, and such values
//! are sent every day: an integer is a number, a date-time may be written like a date, an object with optional fields is
//! one of a subset of them, and a branch that was cut accepts everything. Generators write `oneOf` for "one of these
//! types" and services that take the first that fits are the rule.
//!
//! A `discriminator` says which alternative a value belongs to (OpenAPI 3.1 §4.8.25): then that one is checked and no
//! other. It is a hint, so a value that it does not name is left to the service, unless the alternatives themselves say
//! which values there are.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Schemas, Uses, Way};
use crate::rest::document::{pointer, step};

/// References and `allOf` on the way to the property that tells alternatives apart.
const MAX_LEVELS: usize = 8;

impl Schemas<'_> {
    /// Puts in the alternatives of a schema.
    pub(super) fn branches(
        &mut self,
        source: &Map<String, Value>,
        inside: &Way,
        schema: &mut Map<String, Value>,
        uses: &mut Uses,
    ) {
        let list = |word: &str| source.get(word).and_then(Value::as_array).filter(|list| !list.is_empty());
        let mut groups = Vec::new();
        for word in ["oneOf", "anyOf"] {
            let Some(parts) = list(word) else {
                if source.contains_key(word) {
                    uses.lost_names();
                }
                continue;
            };
            let mut read: Vec<_> = parts.iter().map(|part| self.read(part, inside, uses)).collect();
            if word == "oneOf" && uses.inline.is_some() {
                // Nothing in it is wider than its source.
                schema.insert(word.into(), read.into());
                continue;
            }
            if word == "oneOf" && parts.len() > 1 {
                uses.lost();
            }
            let decides = word == "oneOf" || list("oneOf").is_none();
            if let Some(discriminator) = source.get("discriminator").filter(|_| decides) {
                self.choose(discriminator, parts, &mut read, uses);
            }
            groups.push(Value::from(read));
        }
        if groups.len() == 1 {
            schema.insert("anyOf".into(), groups.remove(0));
        } else if !groups.is_empty() {
            let all = schema.entry("allOf").or_insert_with(|| json!([]));
            let groups = groups.into_iter().map(|group| json!({ "anyOf": group }));
            all.as_array_mut().into_iter().for_each(|all| all.extend(groups.clone()));
        }
    }

    /// Ties each alternative to the values that choose it.
    fn choose(&self, discriminator: &Value, parts: &[Value], read: &mut Vec<Value>, uses: &mut Uses) {
        let Some(property) = discriminator.get("propertyName").and_then(Value::as_str) else { return };
        let targets: Vec<_> = parts.iter().map(|part| self.target(part)).collect();
        let pins: Vec<_> = parts.iter().map(|part| self.pins(part, property, 0)).collect();
        let mapping = discriminator.get("mapping").and_then(Value::as_object);
        let mapping: Vec<(&str, Option<String>)> = mapping
            .into_iter()
            .flatten()
            .map(|(value, target)| (value.as_str(), target.as_str().and_then(|target| self.mapped(target))))
            .collect();
        self.charge(mapping.len().saturating_mul(parts.len()));

        let mut contradicts = false;
        let mut chosen: Vec<Vec<Value>> = Vec::new();
        for (target, pins) in targets.iter().zip(&pins) {
            let mut values = pins.clone().unwrap_or_default();
            let is_pinned =
                |value: &str| pins.as_ref().is_none_or(|pins| pins.iter().any(|pin| text(pin) == value));
            for (value, _) in mapping.iter().filter(|(_, to)| to.is_some() && to == target) {
                if is_pinned(value) {
                    values.push(json!(value));
                } else {
                    // The alternative would refuse the value that chooses it.
                    contradicts = true;
                }
            }
            let implicit = target.as_deref().and_then(|target| target.strip_prefix("/components/schemas/"));
            let implicit = implicit.map(|name| name.replace("~1", "/").replace("~0", "~"));
            if let Some(name) =
                implicit.filter(|name| is_pinned(name) && mapping.iter().all(|(key, _)| key != name))
            {
                values.push(json!(name));
            }
            values.dedup();
            chosen.push(values);
        }
        // Where the alternatives say themselves what they are for, nothing has to be added.
        if pins.iter().all(Option::is_some) && !contradicts {
            return;
        }
        uses.lost();
        let known: BTreeSet<String> = chosen.iter().flatten().map(text).collect();
        for (schema, values) in read.iter_mut().zip(chosen).filter(|(_, values)| !values.is_empty()) {
            let is = json!({ property: { "enum": values } });
            *schema = json!({ "properties": is, "allOf": [schema.take()] });
        }
        let known: Vec<_> = known.into_iter().collect();
        read.push(json!({
            "type": "object", "required": [property], "properties": { property: { "not": { "enum": known } } },
        }));
    }

    /// What an alternative refers to.
    fn target(&self, part: &Value) -> Option<String> {
        let only = part.get("allOf").and_then(Value::as_array).filter(|parts| parts.len() == 1);
        let reference = part.get("$ref").or_else(|| only?.first()?.get("$ref"))?;
        Some(pointer(reference.as_str()?)?.into_owned())
    }

    /// Where a mapping leads: a reference, or the name of a schema.
    fn mapped(&self, target: &str) -> Option<String> {
        let named = || format!("/components/schemas/{}", step(target));
        let pointer = pointer(target).map_or_else(named, |pointer| pointer.into_owned());
        self.root.pointer(&pointer).is_some().then_some(pointer)
    }

    /// The values that an alternative itself allows for a property.
    fn pins(&self, schema: &Value, property: &str, level: usize) -> Option<Vec<Value>> {
        self.charge(1);
        let schema = schema.as_object().filter(|_| level < MAX_LEVELS)?;
        let inner = |schema: &Value| self.pins(schema, property, level + 1);
        let follow =
            |schema: &Map<String, Value>| self.root.pointer(&pointer(schema.get("$ref")?.as_str()?)?);
        if let Some(field) = schema.get("properties").and_then(|properties| properties.get(property)) {
            let field = field.as_object().and_then(follow).unwrap_or(field);
            let values = field.get("enum").and_then(Value::as_array).cloned();
            let values = values.or_else(|| field.get("const").map(|value| vec![value.clone()]));
            if let Some(values) = values.filter(|values| values.len() <= 50) {
                return Some(values);
            }
        }
        let parts = schema.get("allOf").and_then(Value::as_array).into_iter().flatten().take(MAX_LEVELS);
        follow(schema).and_then(inner).or_else(|| parts.into_iter().find_map(inner))
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
