//! Taking secrets out of what comes back (THREATS rows 1, 2, 20).
//!
//! Whole secrets of at least eight bytes are replaced, in the [forms](forms) that a server is likely to give them back in,
//! all of them in [one pass](finder) over a text. A server that transforms a secret in another way cannot be caught here;
//! docs/security.md says so.
//!
//! What holds is overwritten when it is dropped, and lives as long as the channel whose credential it is.

mod finder;
mod forms;
mod json;

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use serde_json::{Map, Value};

use self::{finder::Finder, forms::Form};

pub(crate) const REDACTED: &str = "[REDACTED]";

/// Shorter secrets are not looked for: they would turn the answer into a guessing game about them.
const SHORTEST: usize = 8;

/// A server may give back a token that was refreshed in the meantime.
const GENERATIONS: usize = 3;

/// Replaces the forms of some secrets.
#[derive(Default)]
pub(crate) struct Scrubber {
    forms: Vec<Arc<Form>>,
    /// Those of the secrets whose place these took, the latest first.
    older: Vec<Vec<Arc<Form>>>,
    /// One of all these secrets may stand in a JSON number.
    has_numbers: bool,
    /// Finds all of them; made when the first text comes. None if there is nothing to find.
    finder: OnceLock<Option<Finder>>,
}

impl Scrubber {
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        self.has_numbers |= secret.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        self.forms.extend(forms::of(secret).into_iter().map(Arc::new));
        self.finder = OnceLock::new();
    }

    /// Goes on replacing what `before` replaced.
    pub(crate) fn remember(&mut self, before: &Self) {
        self.older = std::iter::once(&before.forms).chain(&before.older).take(GENERATIONS).cloned().collect();
        self.has_numbers |= before.has_numbers;
        self.finder = OnceLock::new();
    }

    fn finder(&self) -> Option<&Finder> {
        let all = || self.forms.iter().chain(self.older.iter().flatten()).cloned().collect();
        self.finder.get_or_init(|| Finder::new(all())).as_ref()
    }

    /// The text without secrets; the same text if there are none in it.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.counted(text).0
    }

    /// The same, and how many secrets there were.
    pub(crate) fn counted<'a>(&self, text: &'a str) -> (Cow<'a, str>, usize) {
        match self.finder().and_then(|finder| clean(finder, text)) {
            Some((cleaned, count)) => (Cow::Owned(cleaned), count),
            None => (Cow::Borrowed(text), 0),
        }
    }

    /// Takes secrets out of every text and number of a value, keys included, and says how many there were.
    pub(crate) fn value(&self, value: &mut Value) -> usize {
        self.finder().map_or(0, |finder| self.walk(finder, value))
    }

    /// Whether [`value`](Self::value) would find nothing in the value that a JSON text is. For large answers: one pass over
    /// the text instead of a walk through the value. False if it is not sure.
    pub(crate) fn is_clean_json(&self, text: &[u8]) -> bool {
        let Some(finder) = self.finder() else { return true };
        // A number may be written in another way than the value gives it back.
        !self.has_numbers && json::unescaped(text).is_some_and(|text| finder.find(&text, 0).is_none())
    }

    fn walk(&self, finder: &Finder, value: &mut Value) -> usize {
        match value {
            Value::String(text) => clean_in_place(finder, text),
            Value::Array(items) => items.iter_mut().map(|item| self.walk(finder, item)).sum(),
            Value::Object(fields) => {
                let count: usize = fields.values_mut().map(|field| self.walk(finder, field)).sum();
                count + clean_keys(finder, fields)
            }
            Value::Number(number) if self.has_numbers => match clean(finder, &number.to_string()) {
                Some((cleaned, count)) => {
                    *value = cleaned.into();
                    count
                }
                None => 0,
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
    }
}

/// The text without what is found in it, and how much that was; none if nothing is found.
fn clean(finder: &Finder, text: &str) -> Option<(String, usize)> {
    let bytes = text.as_bytes();
    let (mut cleaned, mut count, mut done) = (String::new(), 0, 0);
    let mut next = finder.find(bytes, 0);
    next.as_ref()?;
    while let Some(found) = next {
        let mut end = found.end;
        next = finder.find(bytes, found.start + 1);
        // What begins inside a secret and goes on behind it is of another one: no part of that is left.
        while let Some(over) = next.take_if(|over| over.start < end) {
            end = end.max(over.end);
            next = finder.find(bytes, over.start + 1);
        }
        // Forms are whole characters, so these are places between characters.
        cleaned.push_str(&text[done..found.start]);
        cleaned.push_str(REDACTED);
        (count, done) = (count + 1, end);
    }
    cleaned.push_str(&text[done..]);
    Some((cleaned, count))
}

fn clean_in_place(finder: &Finder, text: &mut String) -> usize {
    let Some((cleaned, count)) = clean(finder, text) else { return 0 };
    *text = cleaned;
    count
}

fn clean_keys(finder: &Finder, fields: &mut Map<String, Value>) -> usize {
    if !fields.keys().any(|key| finder.find(key.as_bytes(), 0).is_some()) {
        return 0;
    }
    let mut count = 0;
    let dirty = std::mem::take(fields);
    fields.extend(dirty.into_iter().map(|(mut key, field)| {
        count += clean_in_place(finder, &mut key);
        (key, field)
    }));
    count
}

#[cfg(test)]
mod tests;
