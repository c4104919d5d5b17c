//! What is read from a schema before it is compiled: which schema leads to which, and what each costs by itself.
//!
//! All drafts are read at once, and a reference that may lead to several places leads to all of them: what is found
//! costs at least what the crate that checks does.

mod keywords;
mod references;
mod survey;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::{
    Bound, Limits, Refused,
    pattern::{PatternCost, Patterns},
};
use survey::Survey;

/// Bytes of what is compiled, on average.
const EACH_NODE: usize = 1_000;
const EACH_VALUE: usize = 100;
const EACH_PATTERN: usize = 64 << 10;

/// A schema and all that it leads to. The first node is the schema itself.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(crate) nodes: Vec<Node>,
    /// Bytes of the longest place.
    pub(crate) longest: u64,
    /// What the schema takes when it is compiled, roughly.
    pub(crate) bytes: usize,
    /// Regular expressions that cannot be used, by place, where what they are in may as well be checked without them.
    pub(crate) without: Vec<String>,
}

/// One schema.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// What looking at any value costs.
    pub(crate) visit: u64,
    /// What looking at a text costs by its bytes, in thousandths.
    pub(crate) per_byte: u64,
    /// What looking at each member or item costs.
    pub(crate) per_member: u64,
    /// Places that can differ, and what telling of them costs above that.
    pub(crate) faults: u64,
    pub(crate) telling: u64,
    /// Items are compared with each other.
    pub(crate) unique: bool,

    /// What looks at the same value: by alternatives, of which all faults are told, and else.
    pub(crate) branches: Vec<u32>,
    pub(crate) alongside: Vec<u32>,
    /// What looks at it, and of which no faults are told.
    pub(crate) asked: Vec<u32>,

    pub(crate) properties: HashMap<String, u32>,
    pub(crate) patterns: Vec<(PatternCost, u32)>,
    pub(crate) additional: Option<u32>,
    pub(crate) names: Option<u32>,
    pub(crate) prefix: Vec<u32>,
    /// What looks at all items, or those after the first.
    pub(crate) items: Vec<u32>,
    pub(crate) contains: Option<u32>,
    pub(crate) unevaluated: Vec<u32>,

    /// By `allOf` and `$ref` alone.
    pub(crate) pinned: Vec<u32>,
    /// Three alternatives or more: it is looked for what tells them apart.
    pub(crate) dispatches: bool,
    at: String,
}

impl Outline {
    /// Where its schemas stand.
    pub(crate) fn places(&self) -> impl Iterator<Item = &str> + '_ {
        self.nodes.iter().map(|node| node.at.as_str())
    }
}

impl Node {
    /// What looks at the same value.
    pub(crate) fn in_place(&self) -> impl Iterator<Item = u32> + '_ {
        self.branches.iter().chain(&self.alongside).chain(&self.asked).copied()
    }

    /// What looks at parts of the value.
    pub(crate) fn below(&self) -> impl Iterator<Item = u32> + '_ {
        let properties = self.properties.values().copied();
        let lists = self.prefix.iter().chain(&self.items).chain(&self.unevaluated).copied();
        let single = [self.additional, self.names, self.contains].into_iter().flatten();
        properties.chain(self.patterns.iter().map(|(_, node)| *node)).chain(lists).chain(single)
    }
}

/// Whether a schema may be looked at: its depth, its size.
pub(crate) fn is_bounded(schema: &Value, limits: &Limits) -> Result<(), Refused> {
    let (mut values, mut bytes) = (0_usize, 0_usize);
    let mut waiting = vec![(schema, 1_usize)];
    while let Some((value, depth)) = waiting.pop() {
        values += 1;
        if values + waiting.len() > limits.schema_values {
            return Err(over(Bound::Values(limits.schema_values), ""));
        }
        if depth > limits.depth {
            return Err(over(Bound::Depth(limits.depth), ""));
        }
        match value {
            Value::String(text) => bytes += text.len(),
            Value::Array(items) => waiting.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => {
                bytes += fields.keys().map(String::len).sum::<usize>();
                waiting.extend(fields.values().map(|field| (field, depth + 1)));
            }
            _ => {}
        }
        if bytes > limits.schema_bytes {
            return Err(over(Bound::Bytes(limits.schema_bytes), ""));
        }
    }
    Ok(())
}

/// Reads a schema, within bounds.
pub(crate) fn read(schema: &Value, limits: &Limits) -> Result<Outline, Refused> {
    let survey = survey::look(schema, limits)?;
    let mut reader = Reader {
        survey,
        limits,
        known: HashMap::new(),
        waiting: Vec::new(),
        nodes: Vec::new(),
        strict: Vec::new(),
        unusable: Vec::new(),
        patterns: Patterns::new(limits.pattern_length, limits.pattern_memory),
        priced: HashMap::new(),
        references: 0,
        across: 0,
        written: 0,
        longest: 0,
        targets: HashSet::new(),
        copied: 0,
    };
    reader.node(schema, "")?;
    while let Some((id, value)) = reader.waiting.pop() {
        reader.fill(id, value)?;
    }
    let without = reader.settle_patterns()?;
    let bytes = EACH_NODE * reader.nodes.len()
        + 2 * reader.written
        + EACH_VALUE * reader.copied
        + EACH_PATTERN * reader.priced.len();
    let outline = Outline { nodes: reader.nodes, longest: reader.longest as u64, bytes, without };
    outline.check_expansion(limits)?;
    Ok(outline)
}

struct Reader<'s> {
    survey: Survey<'s>,
    limits: &'s Limits,
    known: HashMap<*const Value, u32>,
    waiting: Vec<(u32, &'s Value)>,
    nodes: Vec<Node>,
    /// Edges to schemas under which a lost assertion could refuse more than before.
    strict: Vec<u32>,
    /// The node, and the place of the expression.
    unusable: Vec<(u32, String)>,
    patterns: Patterns,
    priced: HashMap<String, Option<PatternCost>>,
    references: usize,
    across: usize,
    written: usize,
    longest: usize,
    /// What references lead to.
    targets: HashSet<*const Value>,
    /// Values that the compiled form holds again.
    copied: usize,
}

impl<'s> Reader<'s> {
    /// The node of a schema, which is read later.
    fn node(&mut self, value: &'s Value, at: &str) -> Result<u32, Refused> {
        if let Some(&known) = self.known.get(&std::ptr::from_ref(value)) {
            return Ok(known);
        }
        if self.nodes.len() >= self.limits.subschemas {
            return Err(over(Bound::Subschemas(self.limits.subschemas), at));
        }
        self.written = self.written.saturating_add(at.len());
        if self.written > self.limits.location_bytes {
            return Err(over(Bound::Locations(self.limits.location_bytes), ""));
        }
        self.longest = self.longest.max(at.len());
        let id = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(Node { at: at.to_owned(), ..Node::default() });
        self.known.insert(std::ptr::from_ref(value), id);
        self.waiting.push((id, value));
        Ok(id)
    }

    /// Expressions that cannot be used are left out where the schema then takes more than before, and never less.
    fn settle_patterns(&mut self) -> Result<Vec<String>, Refused> {
        if self.unusable.is_empty() {
            return Ok(Vec::new());
        }
        let mut strict = vec![false; self.nodes.len()];
        let mut waiting = std::mem::take(&mut self.strict);
        while let Some(id) = waiting.pop() {
            if !std::mem::replace(&mut strict[id as usize], true) {
                let node = &self.nodes[id as usize];
                waiting.extend(node.in_place().chain(node.below()));
            }
        }
        // What was evaluated by the expression would not be any more.
        let evaluates = self.nodes.iter().any(|node| !node.unevaluated.is_empty());
        let is_name = |at: &str| at.rsplit('/').nth(1) == Some("patternProperties");
        let refused = |(id, at): &&(u32, String)| strict[*id as usize] || evaluates && is_name(at);
        match self.unusable.iter().find(refused) {
            Some((_, at)) => Err(over(Bound::Pattern, at)),
            None => Ok(self.unusable.drain(..).map(|(_, at)| at).collect()),
        }
    }
}

impl Outline {
    /// How often one value is looked at, and what the crate walks through when it compiles.
    fn check_expansion(&self, limits: &Limits) -> Result<(), Refused> {
        let mut written = vec![None; self.nodes.len()];
        for id in 0..self.nodes.len() {
            self.expansion(id, &mut written, 0, limits)?;
        }
        // These walk all ways through what looks at the same value, without knowing where they have been.
        let mut left = limits.expansion;
        for node in self.nodes.iter().filter(|node| !node.unevaluated.is_empty()) {
            let mut active = Vec::new();
            for id in node.in_place() {
                left = self
                    .ways(id, &mut active, left)
                    .ok_or_else(|| over(Bound::Expansion(limits.expansion), &node.at))?;
            }
        }
        for node in self.nodes.iter().filter(|node| node.dispatches) {
            for &id in &node.branches {
                left = self
                    .pins(id, 0, left)
                    .ok_or_else(|| over(Bound::Expansion(limits.expansion), &node.at))?;
            }
        }
        Ok(())
    }

    /// Schemas that are met, with the levels below. Where a way leads back, what it costs is known with the value.
    fn expansion(
        &self,
        id: usize,
        written: &mut Vec<Option<(u64, usize)>>,
        level: usize,
        limits: &Limits,
    ) -> Result<(u64, usize), Refused> {
        if let Some(known) = written[id] {
            return Ok(known);
        }
        let node = &self.nodes[id];
        if level > limits.chain {
            return Err(over(Bound::Chain(limits.chain), &node.at));
        }
        written[id] = Some((1, 1));
        let (mut sum, mut levels) = (1_u64, 0);
        for next in node.in_place() {
            let (more, below) = self.expansion(next as usize, written, level + 1, limits)?;
            sum = sum.saturating_add(more);
            levels = levels.max(below);
        }
        if sum > limits.expansion {
            return Err(over(Bound::Expansion(limits.expansion), &node.at));
        }
        if levels + 1 > limits.chain {
            return Err(over(Bound::Chain(limits.chain), &node.at));
        }
        written[id] = Some((sum, levels + 1));
        Ok((sum, levels + 1))
    }

    fn ways(&self, id: u32, active: &mut Vec<u32>, left: u64) -> Option<u64> {
        let mut left = left.checked_sub(1)?;
        if active.contains(&id) {
            return Some(left);
        }
        active.push(id);
        for next in self.nodes[id as usize].in_place() {
            left = self.ways(next, active, left)?;
        }
        active.pop();
        Some(left)
    }

    fn pins(&self, id: u32, level: usize, left: u64) -> Option<u64> {
        /// As deep as the crate looks.
        const MAX_LEVELS: usize = 16;
        let node = &self.nodes[id as usize];
        let mut left = left.checked_sub(1 + node.faults / 4)?;
        if level < MAX_LEVELS {
            for &next in &node.pinned {
                left = self.pins(next, level + 1, left)?;
            }
        }
        Some(left)
    }
}

pub(crate) fn over(bound: Bound, at: &str) -> Refused {
    Refused::Over { bound, at: short(at) }
}

pub(crate) fn broken(message: impl Into<String>, at: &str) -> Refused {
    Refused::Broken { at: short(at), message: short(&message.into()) }
}

/// Names in schemas may be long.
pub(crate) fn short(text: &str) -> String {
    const MAX: usize = 1_000;
    match text.char_indices().nth(MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A step of a JSON pointer.
pub(crate) fn step(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The schema without the expressions at these places.
pub(crate) fn without(schema: &Value, places: &[String]) -> Value {
    let mut schema = schema.clone();
    for place in places {
        let Some((parent, name)) = place.rsplit_once('/') else { continue };
        let name = name.replace("~1", "/").replace("~0", "~");
        if let Some(Value::Object(fields)) = schema.pointer_mut(parent) {
            fields.remove(&name);
        }
        // Whatever was not named by an expression is not known any more.
        if let Some(owner) = parent.strip_suffix("/patternProperties")
            && let Some(Value::Object(owner)) = schema.pointer_mut(owner)
        {
            owner.remove("additionalProperties");
            owner.remove("unevaluatedProperties");
        }
    }
    schema
}

/// Values and bytes of a value, in units of comparing.
pub(crate) fn size(value: &Value) -> u64 {
    match value {
        Value::String(text) => 1 + text.len() as u64 / 8,
        Value::Array(items) => 1 + items.iter().map(size).sum::<u64>(),
        Value::Object(fields) => fields_size(fields),
        _ => 1,
    }
}

fn fields_size(fields: &Map<String, Value>) -> u64 {
    1 + fields.iter().map(|(name, value)| 2 + name.len() as u64 / 8 + size(value)).sum::<u64>()
}
