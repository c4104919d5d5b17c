//! The whole text of a schema, whatever is a schema in it: places, names of resources and anchors.

use std::collections::HashMap;

use serde_json::Value;

use super::over;
use crate::{Bound, Limits, Refused, pattern::Patterns};

/// What was found on the way through all values.
pub(super) struct Survey<'s> {
    pub(super) root: &'s Value,
    /// Schemas with a name of their own, the whole one first.
    pub(super) resources: Vec<(&'s str, &'s Value)>,
    pub(super) anchors: HashMap<&'s str, Vec<&'s Value>>,
    /// Where each object and list stands.
    pub(super) places: HashMap<*const Value, String>,
    /// Those that dynamic references may lead to.
    pub(super) recursive: Vec<&'s Value>,
}

/// Looks at all values.
pub(super) fn look<'s>(root: &'s Value, limits: &Limits) -> Result<Survey<'s>, Refused> {
    let mut survey = Survey {
        root,
        resources: Vec::new(),
        anchors: HashMap::new(),
        places: HashMap::new(),
        recursive: Vec::new(),
    };
    let named = |value: &'s Value| value.get("$id").or_else(|| value.get("id")).and_then(Value::as_str);
    survey.resources.push((named(root).unwrap_or(""), root));
    let is_old = root.get("$schema").and_then(Value::as_str).is_some_and(|draft| draft.contains("draft-04"));
    super::is_bounded(root, limits)?;
    let (mut objects, mut patterns, mut written) = (0_usize, 0_usize, 0_usize);
    let mut waiting = vec![(root, String::new())];
    while let Some((value, at)) = waiting.pop() {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let below = if matches!(item, Value::Object(_) | Value::Array(_)) {
                        format!("{at}/{index}")
                    } else {
                        String::new()
                    };
                    written += below.len();
                    waiting.push((item, below));
                }
            }
            Value::Object(fields) => {
                objects += 1;
                survey.names(value, &at, is_old);
                for (name, field) in fields {
                    if name == "pattern" {
                        patterns += pattern(field.as_str().unwrap_or_default(), &at, limits)?;
                    }
                    if name == "patternProperties" {
                        for name in field.as_object().into_iter().flat_map(|fields| fields.keys()) {
                            patterns += pattern(name, &at, limits)?;
                        }
                    }
                    let below = if matches!(field, Value::Object(_) | Value::Array(_)) {
                        super::step(&at, name)
                    } else {
                        String::new()
                    };
                    written += below.len();
                    waiting.push((field, below));
                }
            }
            _ => {}
        }
        if written > limits.location_bytes {
            return Err(over(Bound::Locations(limits.location_bytes), ""));
        }
        if objects > limits.subschemas {
            return Err(over(Bound::Subschemas(limits.subschemas), ""));
        }
        if patterns > limits.pattern_bytes {
            return Err(over(Bound::Pattern, &at));
        }
        if value.is_object() || value.is_array() {
            survey.places.insert(value, at);
        }
    }
    Ok(survey)
}

/// Expressions are read wherever they stand, to see whether they are some.
fn pattern(text: &str, at: &str, limits: &Limits) -> Result<usize, Refused> {
    match Patterns::is_readable(text, limits.pattern_length) {
        true => Ok(text.len()),
        false => Err(over(Bound::Pattern, at)),
    }
}

impl<'s> Survey<'s> {
    fn names(&mut self, value: &'s Value, at: &str, is_old: bool) {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let id = text("$id").or_else(|| if is_old { text("id") } else { None });
        let anchor = id.and_then(|id| id.strip_prefix('#')).filter(|name| !name.is_empty());
        for name in [anchor, text("$anchor"), text("$dynamicAnchor")].into_iter().flatten() {
            self.anchors.entry(name).or_default().push(value);
        }
        if let Some(id) = id.filter(|id| !id.starts_with('#') && !at.is_empty()) {
            self.resources.push((id, value));
        }
        if value.get("$recursiveAnchor").is_some_and(Value::is_boolean) {
            self.recursive.push(value);
        }
    }
}
