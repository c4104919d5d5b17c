//! Schemas of documents become JSON Schema 2020-12 that stands for itself and never refuses what the service would take.
//!
//! OpenAPI 3.0 has a dialect of its own (`nullable`, `exclusiveMinimum: true`, `example`), 3.1 has 2020-12, and real
//! documents mix them, so both are read in one way ([`dialect`]). Only keywords that JSON Schema knows, with values of the
//! kind that it asks for, are taken over: what comes out always compiles.
//!
//! What is checked here is checked once more by the service, so the rule is that a translated schema accepts whatever the
//! document's accepts, and may accept more. A part that is left out (a keyword of the wrong kind, a reference to another
//! file, what is beyond a limit) is `{}`. That widens what it stands in, except where accepting more in a part means
//! accepting less in the whole: under `not` and `if`, under `contains` with a most number, among properties beside an
//! `additionalProperties`, anywhere below an `unevaluatedProperties`. There the keyword that would become narrower goes as
//! well. [`Uses`] carries what has to be known for that upwards. Tests generate schemas and values to prove it.
//!
//! References become local `$defs`. A definition is translated once for a document ([`parts`] tells when it has to be read
//! in another way because of what it is combined with) and put into each schema that uses it, nearest first ([`cut`]).

mod branches;
mod cut;
mod dialect;
mod fields;
mod parts;
mod size;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap},
    rc::Rc,
};

use serde_json::{Map, Value, json};

use self::{cut::Definition, parts::Part};
pub(super) use self::{
    dialect::{compile, matches, typed},
    fields::Fields,
    parts::withheld,
    size::{fits, size},
};

/// Which way a value goes: what is `readOnly` is not sent, what is `writeOnly` does not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Direction {
    Sent,
    Received,
}

impl Direction {
    /// What marks a property that does not go this way.
    pub(super) fn withheld(self) -> &'static str {
        match self {
            Self::Sent => "readOnly",
            Self::Received => "writeOnly",
        }
    }
}

/// How a schema is read in the place where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Way {
    direction: Direction,
    /// It is combined with other schemas that name properties: none of them may close the object for the others.
    open: bool,
    /// Names that nobody can require, since another of the combined schemas says that they do not go this way.
    without: BTreeSet<String>,
    /// There may be more that does not go this way: how much there is cannot be counted.
    uncounted: bool,
}

impl Way {
    fn plain(direction: Direction) -> Self {
        Self { direction, open: false, without: BTreeSet::new(), uncounted: false }
    }
}

/// A definition: the JSON pointer of its source, and how that is read.
type Key = (String, Way);

/// What a translated schema refers to, and what its translation has lost.
#[derive(Debug, Default)]
pub(super) struct Uses {
    keys: BTreeSet<Key>,
    /// It accepts more than its source.
    inexact: bool,
    /// Of names or items that the source counts as evaluated, some may not be.
    unevaluated: bool,
    /// References are not kept but replaced by what they lead to.
    inline: Option<Inline>,
}

/// The limits of a schema that may not become wider, which is read without references.
#[derive(Debug, Default)]
struct Inline {
    /// The definitions that led here.
    open: Vec<String>,
    schemas: usize,
}

impl Uses {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Something was left out that asserts something.
    fn lost(&mut self) {
        self.inexact = true;
    }

    /// Something was left out that names properties or items.
    fn lost_names(&mut self) {
        (self.inexact, self.unevaluated) = (true, true);
    }
}

/// Translates the schemas of one document.
pub(super) struct Schemas<'a> {
    root: &'a Value,
    /// OpenAPI 3.0: what stands beside a reference has no meaning.
    lone_references: bool,
    definitions: HashMap<Key, Rc<Definition>>,
    parts: HashMap<(Direction, String), Rc<Part>>,
    patterns: HashMap<String, bool>,
    /// There is an `unevaluatedProperties` or `unevaluatedItems` in what was translated.
    closes_late: bool,
    /// Values of the document that were looked at, as often as they were.
    work: Cell<usize>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        let version = match root.get("openapi") {
            Some(Value::String(version)) => version.clone(),
            Some(version) => version.to_string(),
            None => String::new(),
        };
        Self {
            root,
            lone_references: version.starts_with("3.0"),
            definitions: HashMap::new(),
            parts: HashMap::new(),
            patterns: HashMap::new(),
            closes_late: false,
            work: Cell::new(0),
        }
    }

    /// Counts values that are about to be looked at: a short document can refer to a long part of itself very often.
    pub(super) fn charge(&self, values: usize) {
        self.work.set(self.work.get().saturating_add(values));
    }

    pub(super) fn work(&self) -> usize {
        self.work.get()
    }

    /// One schema. What it refers to is added to `uses`.
    pub(super) fn translate(&mut self, source: &Value, direction: Direction, uses: &mut Uses) -> Value {
        self.read(source, &Way::plain(direction), uses)
    }

    /// A definition, translated when it is first asked for.
    fn definition(&mut self, key: &Key) -> Rc<Definition> {
        if let Some(known) = self.definitions.get(key) {
            return Rc::clone(known);
        }
        let (pointer, way) = key;
        let mut uses = Uses::new();
        let root = self.root;
        let schema = match root.pointer(pointer) {
            Some(source) => {
                // The same source is read in several ways only when documents ask for that.
                self.charge(values(source));
                self.read(source, way, &mut uses)
            }
            None => json!({}),
        };
        let definition = Rc::new(Definition::new(schema, uses));
        self.definitions.insert(key.clone(), Rc::clone(&definition));
        definition
    }
}

/// How many values there are in a value.
pub(super) fn values(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(values).sum::<usize>() + 1,
        Value::Object(fields) => fields.values().map(values).sum::<usize>() + 1,
        _ => 1,
    }
}

/// Calls a function for each schema that stands directly inside a schema of 2020-12.
fn each_inside(schema: &mut Map<String, Value>, mut act: impl FnMut(&mut Value)) {
    for (keyword, value) in schema {
        match keyword.as_str() {
            "properties" | "patternProperties" | "dependentSchemas" | "$defs" => {
                value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(&mut act);
            }
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
                value.as_array_mut().into_iter().flatten().for_each(&mut act);
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
            | "else" => act(value),
            _ => {}
        }
    }
}
