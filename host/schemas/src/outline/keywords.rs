//! One schema, keyword by keyword. Units are some 10 ns.

use serde_json::{Map, Value};

use super::{Node, Reader, broken, fields_size, size, step};
use crate::{Refused, pattern::PatternCost};

impl<'s> Reader<'s> {
    /// Reads one schema into its node.
    pub(super) fn fill(&mut self, id: u32, value: &'s Value) -> Result<(), Refused> {
        let at = self.nodes[id as usize].at.clone();
        let mut node = Node { at: at.clone(), visit: 5, ..Node::default() };
        match value {
            Value::Bool(_) => node.faults = 1,
            Value::Object(fields) => {
                for (word, value) in fields {
                    self.keyword(id, &mut node, (word, value), &at)?;
                }
                if fields.contains_key("maxContains") {
                    self.strict.extend(node.contains);
                }
            }
            _ => return Err(broken("an object or a truth value is expected", &at)),
        }
        self.nodes[id as usize] = node;
        Ok(())
    }

    fn keyword(
        &mut self,
        id: u32,
        node: &mut Node,
        (word, value): (&'s str, &'s Value),
        at: &str,
    ) -> Result<(), Refused> {
        let here = || step(at, word);
        match word {
            "$ref" | "$dynamicRef" => {
                let Some(reference) = value.as_str() else {
                    return Err(broken("a reference is a text", &here()));
                };
                node.visit += 5;
                let targets = self.targets(reference, &here())?;
                if word == "$ref" {
                    node.pinned.extend(&targets);
                }
                node.alongside.extend(targets);
            }
            "$recursiveRef" => {
                node.visit += 5;
                node.alongside.extend(self.recursive()?);
            }
            "allOf" => {
                let all = self.list(value, &here())?;
                node.pinned.extend(&all);
                node.alongside.extend(all);
            }
            "anyOf" | "oneOf" => {
                let branches = self.list(value, &here())?;
                node.faults += 1;
                node.dispatches |= branches.len() > 2;
                if word == "oneOf" {
                    self.strict.extend(&branches);
                }
                node.branches.extend(branches);
            }
            "not" => {
                self.count_copy(value)?;
                let schema = self.node(value, &here())?;
                self.strict.push(schema);
                node.asked.push(schema);
                node.faults += 1;
                node.telling += 5 * size(value);
            }
            "if" => {
                let schema = self.node(value, &here())?;
                self.strict.push(schema);
                node.asked.push(schema);
            }
            "then" | "else" => node.alongside.push(self.node(value, &here())?),
            "dependentSchemas" | "dependencies" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    node.visit += 4 + name.len() as u64 / 8;
                    match value {
                        Value::Array(names) => {
                            node.faults += names.len() as u64;
                            node.visit += 4 * size(value);
                        }
                        schema => node.alongside.push(self.node(schema, &step(&here(), name))?),
                    }
                }
            }
            "properties" => {
                node.per_member += 5;
                for (name, schema) in value.as_object().into_iter().flatten() {
                    node.visit += 4 + name.len() as u64 / 2;
                    let schema = self.node(schema, &step(&here(), name))?;
                    node.properties.insert(name.clone(), schema);
                }
            }
            "patternProperties" => {
                for (pattern, schema) in value.as_object().into_iter().flatten() {
                    let place = step(&here(), pattern);
                    // One that cannot be used is left out with what stands behind it.
                    if let Some(cost) = self.pattern(id, pattern, &place) {
                        let schema = self.node(schema, &place)?;
                        node.patterns.push((cost, schema));
                    }
                }
            }
            "additionalProperties" => {
                node.per_member += 20;
                node.faults += 1;
                node.additional = Some(self.node(value, &here())?);
            }
            "propertyNames" => {
                node.per_member += 10;
                node.faults += 1;
                node.names = Some(self.node(value, &here())?);
            }
            "items" | "additionalItems" | "prefixItems" => {
                node.per_member += 5;
                match value {
                    Value::Array(_) => node.prefix = self.list(value, &here())?,
                    schema => node.items.push(self.node(schema, &here())?),
                }
                node.faults += 1;
            }
            "contains" => {
                node.per_member += 5;
                node.faults += 3;
                node.contains = Some(self.node(value, &here())?);
            }
            "unevaluatedProperties" | "unevaluatedItems" => {
                node.per_member += 40;
                node.faults += 1;
                node.unevaluated.push(self.node(value, &here())?);
            }
            other => self.assertion(id, node, (other, value), at),
        }
        Ok(())
    }

    fn assertion(&mut self, id: u32, node: &mut Node, (word, value): (&'s str, &'s Value), at: &str) {
        let named =
            |fields: &Map<String, Value>| fields.values().filter_map(Value::as_array).map(Vec::len).sum();
        match word {
            "type" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "minItems"
            | "maxItems" | "minProperties" | "maxProperties" => {
                node.visit += 2;
                node.faults += 1;
            }
            "multipleOf" | "divisibleBy" => {
                node.visit += 500;
                node.faults += 1;
            }
            "minLength" | "maxLength" => {
                node.visit += 2;
                node.per_byte += 100;
                node.faults += 1;
            }
            "enum" | "const" => {
                node.visit += size(value);
                node.faults += 1;
                node.telling += 5 * size(value);
            }
            "required" => {
                node.visit += 4 * size(value);
                node.faults += value.as_array().map_or(0, Vec::len) as u64;
            }
            "dependentRequired" => {
                let names: usize = value.as_object().map_or(0, named);
                node.visit += 4 * value.as_object().map_or(0, fields_size);
                node.faults += names as u64;
            }
            "uniqueItems" => {
                node.unique = true;
                node.faults += 1;
            }
            "format" => {
                node.visit += 100;
                node.per_byte += 5_000;
                node.faults += 1;
            }
            "contentEncoding" | "contentMediaType" => {
                node.visit += 50;
                node.per_byte += 3_000;
                node.faults += 1;
            }
            "pattern" => {
                if let Some(pattern) = value.as_str() {
                    if let Some(cost) = self.pattern(id, pattern, &step(at, word)) {
                        node.visit += cost.visit;
                        node.per_byte += cost.per_byte;
                    }
                    node.faults += 1;
                }
            }
            _ => {}
        }
    }

    fn list(&mut self, value: &'s Value, at: &str) -> Result<Vec<u32>, Refused> {
        let Some(items) = value.as_array() else { return Err(broken("a list of schemas is expected", at)) };
        items.iter().enumerate().map(|(index, item)| self.node(item, &format!("{at}/{index}"))).collect()
    }

    fn pattern(&mut self, id: u32, pattern: &str, place: &str) -> Option<PatternCost> {
        let cost = match self.priced.get(pattern) {
            Some(known) => *known,
            None => {
                let cost = self.patterns.cost(pattern);
                self.priced.insert(pattern.to_owned(), cost);
                cost
            }
        };
        if cost.is_none() {
            self.unusable.push((id, place.to_owned()));
        }
        cost
    }
}
