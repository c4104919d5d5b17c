//! What fits into a limit.
//!
//! A schema with all that it refers to can be long, so there are two of each: one to be shown, with what is said to people
//! and within tens of kilobytes, and, when that is not the whole, one to check by, which holds nothing but assertions and
//! is whole within the limits of memory. Both accept whatever the whole accepts.

use std::collections::{BTreeSet, HashSet, VecDeque};

use serde_json::{Map, Value, json};

use super::{Key, Schemas, Uses, dialect::name, each_inside, size};
use crate::error::wording::short;

/// Characters of a description where there is little room.
const BRIEF: usize = 100;

/// Bytes of a definition beside its schema and its name.
const AROUND: usize = 8;

/// A definition in its forms, with their bytes.
pub(super) struct Definition {
    whole: (Value, usize),
    /// Without what is said to people.
    bare: (Value, usize),
    /// The names of its properties and what they are.
    outline: (Value, usize),
    uses: BTreeSet<Key>,
    unevaluated: bool,
}

impl Definition {
    pub(super) fn new(schema: Value, uses: Uses) -> Self {
        let sized = |schema: Value| {
            let bytes = size(&schema);
            (schema, bytes)
        };
        let (mut stripped, mut outline) = (schema.clone(), schema.clone());
        strip(&mut stripped);
        outline.as_object_mut().into_iter().for_each(|schema| shorten(schema, 0));
        Self {
            whole: sized(schema),
            bare: sized(stripped),
            outline: sized(outline),
            uses: uses.keys,
            unevaluated: uses.unevaluated,
        }
    }
}

/// A schema that stands for itself.
pub(in crate::rest) struct Complete {
    pub(in crate::rest) schema: Value,
    /// Nothing was cut off that asserts something.
    pub(in crate::rest) whole: bool,
}

impl Schemas<'_> {
    /// A schema to be shown, with the definitions that it uses as far as `limit` bytes allow.
    pub(in crate::rest) fn complete(
        &mut self,
        schema: &Map<String, Value>,
        uses: &Uses,
        limit: usize,
    ) -> Complete {
        let mut schema = schema.clone();
        if size(&schema) > limit {
            brief(&mut schema);
        }
        if size(&schema) > limit {
            strip_fields(&mut schema);
        }
        let bytes = size(&schema);
        if bytes > limit {
            shorten(&mut schema, BRIEF);
            if size(&schema) > limit {
                shorten(&mut schema, 0);
            }
            if size(&schema) > limit {
                schema.retain(|keyword, _| keyword == "type");
            }
            return Complete { schema: schema.into(), whole: false };
        }
        let left = limit - bytes;
        match self.closure(uses, left) {
            Some((keys, bare)) => {
                // There is room for all; the nearest are shown with all they say.
                let mut left = left - bare;
                let definitions = keys.iter().map(|key| {
                    let definition = self.definition(key);
                    let more = definition.whole.1.saturating_sub(definition.bare.1);
                    let form = if more <= left { &definition.whole } else { &definition.bare };
                    left -= if more <= left { more } else { 0 };
                    (name(key), form.0.clone())
                });
                let definitions = definitions.collect();
                self.joined(schema, definitions, uses, &keys, true)
            }
            None => {
                let (definitions, keys) = self.nearest(uses, left);
                self.joined(schema, definitions, uses, &keys, false)
            }
        }
    }

    /// A schema to check by. None if it takes more than `limit` bytes.
    pub(in crate::rest) fn assertions(
        &mut self,
        schema: &Map<String, Value>,
        uses: &Uses,
        limit: usize,
    ) -> Option<Value> {
        let mut schema = schema.clone();
        strip_fields(&mut schema);
        let left = limit.checked_sub(size(&schema))?;
        let (keys, _) = self.closure(uses, left)?;
        let definitions = keys.iter().map(|key| (name(key), self.definition(key).bare.0.clone())).collect();
        Some(self.joined(schema, definitions, uses, &keys, true).schema)
    }

    /// All that is used, directly or not, nearest first, and its bytes without what is said to people; if that is no more
    /// than `limit`.
    fn closure(&mut self, uses: &Uses, limit: usize) -> Option<(Vec<Key>, usize)> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut known: HashSet<Key> = uses.keys.iter().cloned().collect();
        let mut queue: VecDeque<Key> = uses.keys.iter().cloned().collect();
        while let Some(key) = queue.pop_front() {
            let definition = self.definition(&key);
            self.charge(1 + definition.uses.len());
            bytes += name(&key).len() + AROUND + definition.bare.1;
            if bytes > limit {
                return None;
            }
            more(&definition.uses, &mut known, &mut queue);
            found.push(key);
        }
        Some((found, bytes))
    }

    /// As much as there is room for, nearest first. What is beyond is `{}`.
    fn nearest(&mut self, uses: &Uses, limit: usize) -> (Map<String, Value>, Vec<Key>) {
        let (mut definitions, mut found, mut bytes) = (Map::new(), Vec::new(), 0);
        let mut known: HashSet<Key> = uses.keys.iter().cloned().collect();
        let mut queue: VecDeque<Key> = uses.keys.iter().cloned().collect();
        while let Some(key) = queue.pop_front() {
            let definition = self.definition(&key);
            self.charge(1 + definition.uses.len());
            let name = name(&key);
            bytes += name.len() + AROUND;
            let left = limit.saturating_sub(bytes);
            let form = match &*definition {
                Definition { whole, .. } if whole.1 <= left => Some(whole),
                Definition { bare, .. } if bare.1 <= left => Some(bare),
                _ => None,
            };
            if form.is_some() {
                more(&definition.uses, &mut known, &mut queue);
            }
            let form = form.or(Some(&definition.outline).filter(|outline| outline.1 <= left));
            bytes += form.map_or(2, |form| form.1);
            definitions.insert(name, form.map_or_else(|| json!({}), |form| form.0.clone()));
            found.push(key);
        }
        (definitions, found)
    }

    fn joined(
        &mut self,
        mut schema: Map<String, Value>,
        definitions: Map<String, Value>,
        uses: &Uses,
        keys: &[Key],
        whole: bool,
    ) -> Complete {
        if !definitions.is_empty() {
            schema.insert("$defs".into(), definitions.into());
        }
        let mut schema = Value::Object(schema);
        // What was evaluated by something that is not there any more would be refused.
        if self.closes_late
            && (!whole || uses.unevaluated || keys.iter().any(|key| self.definition(key).unevaluated))
        {
            open(&mut schema);
        }
        Complete { schema, whole }
    }
}

/// What is used and was not seen before.
fn more(uses: &BTreeSet<Key>, known: &mut HashSet<Key>, queue: &mut VecDeque<Key>) {
    for key in uses {
        if !known.contains(key) {
            known.insert(key.clone());
            queue.push_back(key.clone());
        }
    }
}

/// Takes out what is said to people.
fn strip(schema: &mut Value) {
    if let Some(fields) = schema.as_object_mut() {
        strip_fields(fields);
    }
}

fn strip_fields(schema: &mut Map<String, Value>) {
    schema.retain(|keyword, _| {
        !matches!(
            keyword.as_str(),
            "title"
                | "description"
                | "format"
                | "default"
                | "examples"
                | "deprecated"
                | "contentEncoding"
                | "contentMediaType"
                | "readOnly"
                | "writeOnly"
        )
    });
    each_inside(schema, strip);
}

/// Cuts what is said to people.
fn brief(schema: &mut Map<String, Value>) {
    schema.remove("examples");
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = short(text, BRIEF);
    }
    each_inside(schema, |inner| inner.as_object_mut().into_iter().for_each(brief));
}

/// Takes out what depends on what other parts have evaluated.
fn open(schema: &mut Value) {
    if let Some(fields) = schema.as_object_mut() {
        fields.retain(|keyword, _| !keyword.starts_with("unevaluated"));
        each_inside(fields, open);
    }
}

/// Leaves of each property what it is, and so many characters about what it is for. No reference is left.
fn shorten(schema: &mut Map<String, Value>, characters: usize) {
    let patterns = schema.contains_key("patternProperties");
    schema.retain(|keyword, value| match keyword.as_str() {
        "type" | "properties" | "required" | "description" => true,
        "additionalProperties" => value.is_boolean() && !patterns,
        _ => false,
    });
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten();
    for (_, field) in fields {
        if let Some(field) = field.as_object_mut() {
            field.retain(|keyword, _| keyword == "type" || keyword == "description" && characters > 0);
            if let Some(Value::String(text)) = field.get_mut("description") {
                *text = short(text, characters);
            }
        }
    }
}
