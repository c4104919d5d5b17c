//! What a check will cost, before it runs.
//!
//! The crate that checks calls itself for each schema and each value that it applies to, in one of four ways: to know
//! whether a value fits, to mark what is evaluated, to find the first difference and to find all. Each pair of a schema
//! and a value is looked at once here, so this takes few steps where the crate would take a number of them that grows
//! without bound.

use ahash::AHashMap;
use serde_json::Value;

use crate::{
    Undecided,
    outline::{Node, Outline},
};

/// What telling of one difference costs, at least.
const TELLING: u64 = 100;

/// Units of work, in each way to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Whether it fits.
    pub(crate) fits: u64,
    /// What is evaluated.
    mark: u64,
    /// The first difference; all in the alternatives that it is about.
    pub(crate) first: u64,
    /// All differences.
    pub(crate) all: u64,
    /// How many those may be. Each is touched again on each level above.
    faults: u64,
    /// Calls within calls.
    pub(crate) levels: u32,
}

/// Looks at a value with a schema.
///
/// # Errors
///
/// There are more pairs than `steps`, or more calls within calls than `levels`.
pub(crate) fn of(outline: &Outline, value: &Value, steps: u64, levels: u32) -> Result<Cost, Undecided> {
    let mut walk = Walk { outline, known: AHashMap::new(), steps, levels };
    walk.visit(0, Given::Value(value), At { level: 0, path: 0 }).map(|(cost, _)| cost)
}

/// A value, or the name of a member, which is a text.
#[derive(Clone, Copy)]
enum Given<'v> {
    Value(&'v Value),
    Name(&'v str),
}

impl Given<'_> {
    fn address(self) -> usize {
        match self {
            Self::Value(value) => std::ptr::from_ref(value) as usize,
            Self::Name(name) => name.as_ptr() as usize,
        }
    }

    fn is_container(self) -> bool {
        matches!(self, Self::Value(Value::Object(_) | Value::Array(_)))
    }
}

#[derive(Clone, Copy)]
struct At {
    level: u32,
    /// Bytes of the pointer to the value.
    path: u64,
}

enum Known {
    /// It is being looked at: the levels of those that do. The crate goes round a circle once more before it sees it.
    Active(u32, Option<u32>),
    Done(Cost),
}

/// No outer pair was needed.
const ALONE: u32 = u32::MAX;

struct Walk<'o> {
    outline: &'o Outline,
    known: AHashMap<(u32, usize), Known>,
    steps: u64,
    levels: u32,
}

impl Walk<'_> {
    fn step(&mut self, steps: u64) -> Result<(), Undecided> {
        self.steps = self.steps.checked_sub(steps).ok_or(Undecided::Work)?;
        Ok(())
    }

    /// The cost, and the outermost pair on the way here that was met again: without it the cost would be another.
    fn visit(&mut self, id: u32, given: Given<'_>, at: At) -> Result<(Cost, u32), Undecided> {
        self.step(1)?;
        if at.level >= self.levels {
            return Err(Undecided::Depth);
        }
        let outline = self.outline;
        let node = &outline.nodes[id as usize];
        let is_flat = node.in_place().next().is_none();
        if is_flat && !given.is_container() {
            return Ok((self.own(node, given, at)?, ALONE));
        }
        let key = (id, given.address());
        let second = match self.known.get(&key) {
            Some(Known::Done(cost)) => return Ok((*cost, ALONE)),
            Some(Known::Active(first, Some(_))) => return Ok((Cost { fits: 5, ..Cost::default() }, *first)),
            Some(Known::Active(first, None)) => Some(*first),
            None => None,
        };
        let active = match second {
            Some(first) => Known::Active(first, Some(at.level)),
            None => Known::Active(at.level, None),
        };
        self.known.insert(key, active);
        let (cost, outermost) = self.sum(node, given, at)?;
        match second {
            Some(first) => {
                self.known.insert(key, Known::Active(first, None));
                Ok((cost, outermost.min(first)))
            }
            None if outermost >= at.level => {
                self.known.insert(key, Known::Done(cost));
                Ok((cost, ALONE))
            }
            None => {
                self.known.remove(&key);
                Ok((cost, outermost))
            }
        }
    }

    fn sum(&mut self, node: &Node, given: Given<'_>, at: At) -> Result<(Cost, u32), Undecided> {
        let mut cost = self.own(node, given, at)?;
        let own = cost.fits;
        let mut outermost = ALONE;
        let mut deepest = 0;
        // What is asked in each way of what is below. Telling asks first whether it fits.
        let beside = At { level: at.level + 1, ..at };
        let (mut told, mut listed) = (0_u64, 0_u64);
        for (kind, nodes) in
            [(Kind::Branch, &node.branches), (Kind::Alongside, &node.alongside), (Kind::Asked, &node.asked)]
        {
            for &next in nodes {
                let (below, circle) = self.visit(next, given, beside)?;
                outermost = outermost.min(circle);
                deepest = deepest.max(below.levels);
                add(&mut cost.fits, below.fits);
                if !matches!(kind, Kind::Asked) {
                    add(&mut cost.faults, below.faults);
                }
                add(&mut cost.mark, below.fits.saturating_add(below.mark));
                match kind {
                    Kind::Branch => {
                        add(&mut told, below.all);
                        add(&mut listed, below.all);
                    }
                    Kind::Alongside => {
                        add(&mut told, below.first);
                        add(&mut listed, below.all);
                    }
                    Kind::Asked => {}
                }
            }
        }
        if let Given::Value(value) = given {
            let mut below = Below { cost: Cost::default(), fits_unevaluated: 0 };
            match value {
                Value::Object(fields) if has_members(node) => {
                    for (name, field) in fields {
                        let at = At { level: at.level + 1, path: at.path + name.len() as u64 + 1 };
                        let is_named = node.properties.get(name);
                        let others = if is_named.is_some() { None } else { node.additional };
                        let matched = node.patterns.iter().map(|(_, next)| *next);
                        for next in is_named.copied().into_iter().chain(matched).chain(others) {
                            below.add(self.visit(next, Given::Value(field), at)?.0, false);
                        }
                        if let Some(next) = node.names {
                            below.add(self.visit(next, Given::Name(name), at)?.0, false);
                        }
                        for &next in &node.unevaluated {
                            below.add(self.visit(next, Given::Value(field), at)?.0, true);
                        }
                    }
                }
                Value::Array(items) if has_items(node) => {
                    let at = At { level: at.level + 1, path: at.path + 8 };
                    for (index, item) in items.iter().enumerate() {
                        let first = node.prefix.get(index);
                        let rest: &[u32] = if first.is_some() { &[] } else { &node.items };
                        for &next in first.into_iter().chain(rest) {
                            below.add(self.visit(next, Given::Value(item), at)?.0, false);
                        }
                        if let Some(next) = node.contains {
                            // It is asked while it is marked, too.
                            let (found, _) = self.visit(next, Given::Value(item), at)?;
                            below.add(found, true);
                            below.add(found, false);
                        }
                        for &next in &node.unevaluated {
                            below.add(self.visit(next, Given::Value(item), at)?.0, true);
                        }
                    }
                }
                _ => {}
            }
            deepest = deepest.max(below.cost.levels);
            add(&mut cost.faults, below.cost.faults);
            add(&mut cost.fits, below.cost.fits);
            add(&mut cost.mark, below.fits_unevaluated);
            add(&mut told, below.cost.first);
            add(&mut listed, below.cost.all);
        }
        if !node.unevaluated.is_empty() {
            let mark = cost.mark;
            add(&mut cost.fits, mark);
        }
        // Whoever has a choice asks first whether what is below fits; else only the value itself is looked at twice.
        let chooses = !node.branches.is_empty()
            || !node.asked.is_empty()
            || !node.unevaluated.is_empty()
            || node.contains.or(node.names).is_some();
        let twice = if chooses { cost.fits } else { own }.saturating_mul(2);
        cost.first = cost.first.saturating_add(twice).saturating_add(told);
        cost.all = cost.all.saturating_add(twice).saturating_add(listed).saturating_add(cost.faults / 4);
        cost.levels = deepest + 1;
        Ok((cost, outermost))
    }

    /// Without what is below. `first` and `all` are what telling costs.
    fn own(&mut self, node: &Node, given: Given<'_>, at: At) -> Result<Cost, Undecided> {
        let mut fits = node.visit + u64::from(at.level) / 16;
        let mut names = 0;
        match given {
            Given::Name(text) => add(&mut fits, scaled(node.per_byte, text.len())),
            Given::Value(Value::String(text)) => add(&mut fits, scaled(node.per_byte, text.len())),
            Given::Value(Value::Object(fields)) => {
                if has_members(node) || node.per_member > 0 {
                    self.step(fields.len() as u64 / 8)?;
                    let bytes: usize = fields.keys().map(String::len).sum();
                    names = bytes as u64;
                    add(&mut fits, node.per_member.saturating_mul(fields.len() as u64));
                    add(&mut fits, names / 4);
                    for (cost, _) in &node.patterns {
                        add(&mut fits, cost.visit.saturating_mul(fields.len() as u64));
                        add(&mut fits, scaled(cost.per_byte, bytes));
                    }
                }
            }
            Given::Value(Value::Array(items)) => {
                add(&mut fits, node.per_member.saturating_mul(items.len() as u64));
                if node.unique {
                    let size = self.size(items)?;
                    add(&mut fits, size.saturating_mul(10));
                }
            }
            Given::Value(_) => {}
        }
        let told =
            TELLING + at.path / 16 + self.outline.longest / 16 * (1 + u64::from(at.level) / 4) + names / 8;
        let telling = node.faults.saturating_mul(told).saturating_add(node.telling);
        let twice = fits.saturating_mul(2);
        let scalar = telling.saturating_add(twice);
        // The first is told once. Where nothing is below this is all; else the sum adds what fits costs as a whole.
        let (first, all) = match given.is_container() || node.in_place().next().is_some() {
            true => (node.telling, telling),
            false => (node.telling.saturating_add(twice), scalar),
        };
        Ok(Cost { fits, mark: 5 + fits, first, all, faults: node.faults, levels: 1 })
    }

    fn size(&mut self, items: &[Value]) -> Result<u64, Undecided> {
        let mut size = 0;
        let mut waiting: Vec<&Value> = items.iter().collect();
        while let Some(value) = waiting.pop() {
            self.step(1)?;
            size += 2;
            match value {
                Value::String(text) => size += text.len() as u64 / 8,
                Value::Array(items) => waiting.extend(items),
                Value::Object(fields) => {
                    size += fields.keys().map(|name| 2 + name.len() as u64 / 4).sum::<u64>();
                    waiting.extend(fields.values());
                }
                _ => {}
            }
        }
        Ok(size)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Branch,
    Alongside,
    Asked,
}

/// What is below a value.
struct Below {
    cost: Cost,
    fits_unevaluated: u64,
}

impl Below {
    fn add(&mut self, cost: Cost, while_marking: bool) {
        add(&mut self.cost.fits, cost.fits);
        add(&mut self.cost.first, cost.first);
        add(&mut self.cost.all, cost.all);
        add(&mut self.cost.faults, cost.faults);
        self.cost.levels = self.cost.levels.max(cost.levels);
        if while_marking {
            add(&mut self.fits_unevaluated, cost.fits);
        }
    }
}

fn has_members(node: &Node) -> bool {
    !node.properties.is_empty()
        || !node.patterns.is_empty()
        || !node.unevaluated.is_empty()
        || node.additional.or(node.names).is_some()
}

fn has_items(node: &Node) -> bool {
    !node.prefix.is_empty()
        || !node.items.is_empty()
        || !node.unevaluated.is_empty()
        || node.contains.is_some()
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

/// Thousandths by bytes.
fn scaled(per_byte: u64, bytes: usize) -> u64 {
    per_byte.saturating_mul(bytes as u64) / 1_000
}
