//! Taking secrets out of what comes back (THREATS rows 1, 2, 20).
//!
//! Whole secrets of at least eight bytes are replaced, in the [forms](forms) that a server is likely to give them back in,
//! all of them in [one pass](finder) over a text, and in whatever is [undone](search) of it: escapes, base64, hexadecimal
//! digits, UTF-16, and these inside each other. A server that transforms a secret in another way cannot be caught here;
//! docs/security.md says so.
//!
//! What holds is overwritten when it is dropped, and lives as long as the channel whose credential it is.

mod escapes;
mod finder;
mod forms;
mod json;
mod lines;
mod numbers;
mod runs;
mod search;
mod view;
mod ways;

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use self::{forms::Form, search::Matcher};

pub(crate) const REDACTED: &str = "[REDACTED]";

/// Shorter secrets are not looked for: they would turn the answer into a guessing game about them.
const SHORTEST: usize = 8;

/// A server may give back a token that was refreshed in the meantime.
const GENERATIONS: usize = 3;

/// A secret, and what it may look like.
struct Known {
    secret: Zeroizing<String>,
    forms: Vec<Arc<Form>>,
}

/// Replaces the forms of some secrets.
#[derive(Default)]
pub(crate) struct Scrubber {
    known: Vec<Arc<Known>>,
    /// The secrets whose place these took, the latest first.
    older: Vec<Vec<Arc<Known>>>,
    /// Finds all of them; made when the first text comes. None if there is nothing to find.
    matcher: OnceLock<Option<Matcher>>,
}

impl Scrubber {
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() < SHORTEST || self.known.iter().any(|known| *known.secret == secret) {
            return;
        }
        let forms = forms::of(secret).into_iter().map(Arc::new).collect();
        self.known.push(Arc::new(Known { secret: Zeroizing::new(secret.to_owned()), forms }));
        self.matcher = OnceLock::new();
    }

    /// Goes on replacing what `before` replaced.
    pub(crate) fn remember(&mut self, before: &Self) {
        self.older = std::iter::once(&before.known).chain(&before.older).take(GENERATIONS).cloned().collect();
        self.matcher = OnceLock::new();
    }

    fn all(&self) -> impl Iterator<Item = &Known> + Clone {
        self.known.iter().chain(self.older.iter().flatten()).map(|known| &**known)
    }

    fn matcher(&self) -> Option<&Matcher> {
        let made = || {
            let forms = self.all().flat_map(|known| &known.forms).cloned().collect();
            Matcher::new(forms, self.all().map(|known| known.secret.as_str()))
        };
        self.matcher.get_or_init(made).as_ref()
    }

    /// The text without secrets; the same text if there are none in it.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.counted(text).0
    }

    /// The same, and how many secrets there were.
    pub(crate) fn counted<'a>(&self, text: &'a str) -> (Cow<'a, str>, usize) {
        match self.matcher().and_then(|matcher| clean(matcher, text)) {
            Some((cleaned, count)) => (Cow::Owned(cleaned), count),
            None => (Cow::Borrowed(text), 0),
        }
    }

    /// Takes secrets out of every text and number of a value, keys included, and says how many there were.
    pub(crate) fn value(&self, value: &mut Value) -> usize {
        self.matcher().map_or(0, |matcher| walk(matcher, value))
    }

    /// Whether [`value`](Self::value) would find nothing in the value that a JSON text is. For large answers: one pass over
    /// the text instead of a walk through the value. False if it is not sure.
    pub(crate) fn is_clean_json(&self, text: &[u8]) -> bool {
        let Some(matcher) = self.matcher() else { return true };
        // A number may be written in another way than the value gives it back.
        !matcher.has_numbers() && json::unescaped(text).is_some_and(|text| matcher.is_clean(&text))
    }
}

fn walk(matcher: &Matcher, value: &mut Value) -> usize {
    match value {
        Value::String(text) => clean_in_place(matcher, text),
        Value::Array(items) => items.iter_mut().map(|item| walk(matcher, item)).sum(),
        Value::Object(fields) => {
            let count: usize = fields.values_mut().map(|field| walk(matcher, field)).sum();
            count + clean_keys(matcher, fields)
        }
        Value::Number(number) if matcher.has_numbers() => {
            let number = number.to_string();
            match matcher.is_number(&number) || !matcher.is_clean(number.as_bytes()) {
                true => {
                    *value = REDACTED.into();
                    1
                }
                false => 0,
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// The text without what is found in it, and how much that was; none if nothing is found.
fn clean(matcher: &Matcher, text: &str) -> Option<(String, usize)> {
    // Nobody knows what is in the rest.
    let Ok(places) = matcher.places(text.as_bytes()) else { return Some((REDACTED.into(), 1)) };
    let (mut cleaned, mut done) = (String::new(), 0);
    for place in &places {
        // What was undone may have begun inside of a character.
        let (start, end) = (text.floor_char_boundary(place.start), text.ceil_char_boundary(place.end));
        if start >= done {
            cleaned.push_str(&text[done..start]);
            cleaned.push_str(REDACTED);
        }
        done = end;
    }
    cleaned.push_str(&text[done..]);
    (!places.is_empty()).then_some((cleaned, places.len()))
}

fn clean_in_place(matcher: &Matcher, text: &mut String) -> usize {
    let Some((cleaned, count)) = clean(matcher, text) else { return 0 };
    *text = cleaned;
    count
}

fn clean_keys(matcher: &Matcher, fields: &mut Map<String, Value>) -> usize {
    if fields.keys().all(|key| matcher.is_clean(key.as_bytes())) {
        return 0;
    }
    let mut count = 0;
    let dirty = std::mem::take(fields);
    fields.extend(dirty.into_iter().map(|(mut key, field)| {
        count += clean_in_place(matcher, &mut key);
        (key, field)
    }));
    count
}

#[cfg(test)]
mod tests;
