//! What the parts of a combined schema mean for each other.
//!
//! `allOf`, `anyOf`, `oneOf` and `$ref` put several schemas on one object, and documents use them for inheritance. So a
//! property that is `readOnly` in one part is required by no request, whichever part says `required` (OpenAPI 3.0.4
//! §4.7.24.2), and a part with `additionalProperties: false` does not mean that the others' properties are forbidden,
//! although JSON Schema says so: no such object could be sent at all.

use std::{collections::BTreeSet, rc::Rc};

use serde_json::{Map, Value};

use super::{Direction, Schemas, Way, dialect::names_like};
use crate::rest::document::{flag, pointer};

/// References and combinations inside each other.
const MAX_LEVELS: usize = 24;

/// Keywords that count properties or items.
const COUNTING: [&str; 4] = ["minProperties", "maxProperties", "minItems", "maxItems"];

/// Schemas that are looked at to find out whether a property goes. It also ends what refers to itself.
const MAX_LOOKS: usize = 100;

/// What a schema says about the names of an object, with all that it is combined of.
#[derive(Debug, Default, Clone)]
pub(super) struct Part {
    /// It has properties, or says what others must be.
    names: bool,
    /// It restricts what others may be.
    closes: bool,
    /// Properties that do not go.
    withheld: BTreeSet<String>,
    required: BTreeSet<String>,
    /// It says how many properties or items there must be or may be.
    counts: bool,
    /// Properties that do not go and have no name here.
    unnamed: Vec<Unnamed>,
    /// Some of its items do not go.
    items: bool,
}

/// Properties that are told by what their names are like.
#[derive(Debug, Clone)]
enum Unnamed {
    Like(String),
    /// All but those with these names, and those like these.
    Others(BTreeSet<String>, Vec<String>),
}

impl Part {
    fn add(&mut self, other: &Self) {
        self.names |= other.names;
        self.closes |= other.closes;
        self.withheld.extend(other.withheld.iter().cloned());
        self.required.extend(other.required.iter().cloned());
        self.counts |= other.counts;
        self.unnamed.extend(other.unnamed.iter().cloned());
        self.items |= other.items;
    }
}

/// Whether a schema is marked as one that does not go a way, itself or by what it is combined of. Also how many schemas
/// were looked at for that.
pub(in crate::rest) fn withheld(root: &Value, schema: &Value, keyword: &str) -> (bool, usize) {
    let mut left = MAX_LOOKS;
    let found = is_withheld(root, schema, keyword, &mut left);
    (found, MAX_LOOKS - left)
}

fn is_withheld(root: &Value, schema: &Value, keyword: &str, left: &mut usize) -> bool {
    let Some(fields) = schema.as_object().filter(|_| *left > 0) else { return false };
    *left -= 1;
    if flag(fields.get(keyword)) == Some(true) {
        return true;
    }
    if let Some(target) = target(root, fields)
        && is_withheld(root, target, keyword, left)
    {
        return true;
    }
    let list = |word: &str| fields.get(word).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_null = |schema: &&Value| schema.get("type").is_some_and(|name| name == "null");
    list("allOf").iter().take(MAX_LOOKS).any(|part| is_withheld(root, part, keyword, left))
        || ["anyOf", "oneOf"].into_iter().any(|word| {
            let mut others = list(word).iter().take(MAX_LOOKS).filter(|schema| !is_null(schema)).peekable();
            others.peek().is_some() && others.all(|part| is_withheld(root, part, keyword, left))
        })
}

fn target<'a>(root: &'a Value, fields: &Map<String, Value>) -> Option<&'a Value> {
    root.pointer(&pointer(fields.get("$ref")?.as_str()?)?)
}

/// The schemas that stand on the same object as this one, in groups of which one is a part of it: all of `allOf` are, of
/// `anyOf` some.
fn groups(source: &Map<String, Value>) -> impl Iterator<Item = Vec<&Value>> {
    let list = |word: &str| source.get(word).and_then(Value::as_array).into_iter().flatten();
    let single = |word: &str| source.get(word);
    let each = list("allOf").map(|part| vec![part]);
    let some = ["anyOf", "oneOf"].into_iter().map(move |word| list(word).collect());
    let conditional = ["if", "then", "else"].into_iter().filter_map(single);
    let dependent = source.get("dependentSchemas").and_then(Value::as_object).into_iter();
    let conditional = conditional.chain(dependent.flat_map(Map::values)).collect();
    each.chain(some).chain([conditional])
}

/// Whether a schema stands alone on its object.
fn is_single(source: &Map<String, Value>) -> bool {
    const COMBINING: [&str; 8] =
        ["$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas"];
    COMBINING.into_iter().all(|word| !source.contains_key(word))
}

impl<'a> Schemas<'a> {
    /// Whether a property is part of what goes a way.
    pub(super) fn goes(&self, property: &Value, direction: Direction) -> bool {
        let (found, looks) = withheld(self.root, property, direction.withheld());
        self.charge(looks.saturating_sub(1));
        !found
    }

    /// The way in which the parts of a schema, and itself, are to be read.
    pub(super) fn inside(&mut self, source: &Map<String, Value>, way: &Way) -> Way {
        let mut way = way.clone();
        if is_single(source) {
            let asks = ["required", "dependentRequired"].iter().any(|word| source.contains_key(*word));
            if asks || COUNTING.iter().any(|word| source.contains_key(*word)) {
                let own = self.own(source, way.direction);
                self.narrow(own, &mut way);
            }
            return way;
        }
        let mut all = self.own(source, way.direction);
        let mut naming = usize::from(all.names);
        if let Some(part) = self.of_reference(source, way.direction, 0) {
            naming += usize::from(part.names);
            all.add(&part);
        }
        for group in groups(source) {
            let mut whole = Part::default();
            for part in group {
                whole.add(&self.part(part, way.direction, 0));
            }
            naming += usize::from(whole.names);
            all.add(&whole);
        }
        self.narrow(all, &mut way);
        way.open |= naming > 1;
        way
    }

    /// Takes what does not go out of how the schemas are read that a part was collected from.
    fn narrow(&self, part: Part, way: &mut Way) {
        way.uncounted |= part.items || !part.unnamed.is_empty();
        if part.unnamed.len() > MAX_LOOKS {
            // More than is looked at: none of them is required.
            way.without.extend(part.required.iter().cloned());
        }
        for unnamed in part.unnamed.iter().take(MAX_LOOKS).filter(|_| !part.required.is_empty()) {
            let patterns = match unnamed {
                Unnamed::Like(pattern) => std::slice::from_ref(pattern),
                Unnamed::Others(_, patterns) => patterns,
            };
            self.charge(100 * patterns.len().min(MAX_LOOKS) + part.required.len());
            let likes: Vec<_> = patterns.iter().take(MAX_LOOKS).map(|pattern| names_like(pattern)).collect();
            let is_like = |name: &String, otherwise: bool| {
                likes.iter().any(|like| like.as_ref().map_or(otherwise, |like| like(name)))
            };
            let is_withheld = |name: &&String| match unnamed {
                Unnamed::Like(_) => is_like(name, true),
                Unnamed::Others(names, _) => !names.contains(*name) && !is_like(name, false),
            };
            way.without.extend(part.required.iter().filter(is_withheld).cloned());
        }
        way.without.extend(part.withheld);
    }

    /// The way in which a definition has to be read: as every other, unless the difference matters to it.
    pub(super) fn way_of(&mut self, pointer: &str, way: &Way) -> Way {
        let mut narrowed = Way::plain(way.direction);
        if way.open || way.uncounted || !way.without.is_empty() {
            let part = self.of_pointer(pointer, way.direction, 0);
            narrowed.open = way.open && part.closes;
            narrowed.uncounted = way.uncounted && part.counts;
            narrowed.without = match part.counts {
                true => way.without.clone(),
                false => way.without.intersection(&part.required).cloned().collect(),
            };
        }
        narrowed
    }

    /// What a schema says itself.
    fn own(&self, source: &Map<String, Value>, direction: Direction) -> Part {
        let object = |word: &str| source.get(word).and_then(Value::as_object);
        let is_any =
            |others: &Value| others == &Value::Bool(true) || others.as_object().is_some_and(Map::is_empty);
        let mut part = Part { closes: source.contains_key("unevaluatedProperties"), ..Part::default() };
        if let Some(others) = source.get("additionalProperties").filter(|others| !is_any(others)) {
            (part.names, part.closes) = (true, others.is_object() || others.is_boolean());
        }
        for word in ["properties", "patternProperties"] {
            part.names |= object(word).is_some_and(|named| !named.is_empty());
        }
        let properties = object("properties").into_iter().flatten();
        self.charge(object("properties").map_or(0, Map::len));
        let withheld = properties.filter(|(_, property)| !self.goes(property, direction));
        part.withheld = withheld.map(|(name, _)| name.clone()).collect();
        part.counts = COUNTING.iter().any(|word| source.contains_key(*word));
        let patterns = || object("patternProperties").into_iter().flatten();
        let withheld = patterns().filter(|(_, property)| !self.goes(property, direction));
        part.unnamed = withheld.map(|(pattern, _)| Unnamed::Like(pattern.clone())).collect();
        let is_withheld = |word: &str| source.get(word).is_some_and(|schema| !self.goes(schema, direction));
        if is_withheld("additionalProperties") || is_withheld("unevaluatedProperties") {
            let names = object("properties").into_iter().flatten().map(|(name, _)| name.clone());
            let patterns = patterns().map(|(pattern, _)| pattern.clone());
            part.unnamed.push(Unnamed::Others(names.collect(), patterns.collect()));
        }
        let listed = ["prefixItems", "items"].into_iter().filter_map(|word| source.get(word)?.as_array());
        part.items = ["items", "unevaluatedItems", "contains"].into_iter().any(is_withheld)
            || listed.flatten().any(|item| !self.goes(item, direction));
        let texts = |list: &Value| -> Vec<String> {
            let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        part.required.extend(source.get("required").map(texts).unwrap_or_default());
        let dependent = object("dependentRequired").into_iter().flat_map(Map::values);
        part.required.extend(dependent.flat_map(texts));
        part
    }

    fn part(&mut self, source: &Value, direction: Direction, level: usize) -> Part {
        self.charge(1);
        let Some(source) = source.as_object().filter(|_| level < MAX_LEVELS) else { return Part::default() };
        let mut part = self.own(source, direction);
        if !is_single(source) {
            if let Some(referred) = self.of_reference(source, direction, level) {
                part.add(&referred);
            }
            for inner in groups(source).flatten() {
                let inner = self.part(inner, direction, level + 1);
                part.add(&inner);
            }
        }
        part
    }

    fn of_reference(
        &mut self,
        source: &Map<String, Value>,
        direction: Direction,
        level: usize,
    ) -> Option<Rc<Part>> {
        let pointer = pointer(source.get("$ref")?.as_str()?)?;
        Some(self.of_pointer(&pointer, direction, level))
    }

    fn of_pointer(&mut self, pointer: &str, direction: Direction, level: usize) -> Rc<Part> {
        let key = (direction, pointer.to_owned());
        if let Some(known) = self.parts.get(&key) {
            return Rc::clone(known);
        }
        // What leads back to itself adds nothing.
        self.parts.insert(key.clone(), Rc::default());
        let root = self.root;
        let part = root.pointer(pointer).map(|source| self.part(source, direction, level + 1));
        let part = Rc::new(part.unwrap_or_default());
        self.parts.insert(key, Rc::clone(&part));
        part
    }
}
