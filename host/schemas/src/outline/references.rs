//! Where references lead.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{Reader, broken, over};
use crate::{Bound, Refused};

/// References from one resource to another. The crate that checks compiles what they lead to once for each way there.
const MAX_ACROSS: usize = 6;

impl<'s> Reader<'s> {
    /// All that a reference may lead to, at least one.
    pub(super) fn targets(&mut self, reference: &'s str, at: &str) -> Result<Vec<u32>, Refused> {
        self.references += 1;
        if self.references > self.limits.references {
            return Err(over(Bound::References(self.limits.references), at));
        }
        let (resource, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let roots: Vec<&'s Value> = if resource.is_empty() {
            self.survey.resources.iter().map(|(_, root)| *root).collect()
        } else {
            if self.survey.resources.len() > 1 {
                self.across += 1;
                if self.across > MAX_ACROSS {
                    return Err(over(Bound::Resources(MAX_ACROSS), at));
                }
            }
            let last = |id: &'s str| {
                let path = id.split('#').next().unwrap_or_default().trim_end_matches('/');
                path.rsplit(['/', ':']).next().unwrap_or_default()
            };
            let is_meant = |id: &'s str| !id.is_empty() && last(id) == last(resource);
            let meant = self.survey.resources.iter().filter(|(id, _)| is_meant(id)).map(|(_, root)| *root);
            meant.collect()
        };
        if roots.is_empty() {
            let message = "it refers to a schema that is not in it; none is fetched";
            return Err(broken(message, at));
        }
        let mut found: Vec<&'s Value> = Vec::new();
        if fragment.is_empty() {
            found.extend(&roots);
        } else if fragment.starts_with('/') {
            let decoded = percent_decode_str(fragment).decode_utf8_lossy();
            for root in &roots {
                found.extend(root.pointer(fragment).into_iter().chain(root.pointer(&decoded)));
            }
        } else {
            let decoded: Cow<'_, str> = percent_decode_str(fragment).decode_utf8_lossy();
            for name in [fragment, &*decoded] {
                found.extend(self.survey.anchors.get(name).into_iter().flatten().copied());
            }
        }
        if found.is_empty() {
            return Err(broken("a reference leads to nothing in it", at));
        }
        let place = if fragment.starts_with('/') { fragment } else { "" };
        self.nodes_of(found, place)
    }

    /// What a dynamic reference may lead to, besides.
    pub(super) fn recursive(&mut self) -> Result<Vec<u32>, Refused> {
        let found = self.survey.recursive.iter().copied().chain([self.survey.root]).collect();
        self.nodes_of(found, "")
    }

    fn nodes_of(&mut self, mut found: Vec<&'s Value>, place: &str) -> Result<Vec<u32>, Refused> {
        found.sort_by_key(|value| std::ptr::from_ref(*value));
        found.dedup_by_key(|value| std::ptr::from_ref(*value));
        let mut nodes = Vec::with_capacity(found.len());
        for value in found {
            self.count_target(value)?;
            let at = self.survey.places.get(&std::ptr::from_ref(value)).cloned();
            nodes.push(self.node(value, &at.unwrap_or_else(|| place.to_owned()))?);
        }
        Ok(nodes)
    }

    /// What is referred to is compiled for itself, with all that is in it.
    fn count_target(&mut self, value: &'s Value) -> Result<(), Refused> {
        match self.targets.insert(std::ptr::from_ref(value)) {
            true => self.count_copy(value),
            false => Ok(()),
        }
    }

    /// What is held again when it is compiled.
    pub(super) fn count_copy(&mut self, value: &Value) -> Result<(), Refused> {
        self.copied = self.copied.saturating_add(values(value));
        match self.copied > 2 * self.limits.schema_values {
            true => Err(over(Bound::Values(self.limits.schema_values), "")),
            false => Ok(()),
        }
    }
}

fn values(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(values).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(values).sum::<usize>(),
        _ => 1,
    }
}
