//! Looks for secrets in a text, in what it becomes when escapes, base64, hexadecimal digits and UTF-16 in it are undone, and
//! in what that becomes, a few times. What is found is taken out of the text where it came from.
//!
//! Most texts have nothing to undo where a secret could be, and for them it is one pass. For all others it is bounded: each
//! step gives a text no longer than a few times the one before, the number of steps one after the other is small, and so is
//! what may be looked at in all. Who makes a text that needs more loses it.

use std::{ops::Range, sync::Arc};

use super::{
    SHORTEST,
    escapes::Escapes,
    finder::Finder,
    forms::Form,
    numbers,
    runs::{self, Undone},
    view::View,
    ways::Ways,
};

/// So many steps one after the other are undone.
const DEEPEST: usize = 4;

/// What may be looked at for a text: so many times its length, and a little more for short ones.
const TIMES: usize = 40;
const AT_LEAST: usize = 1 << 20;

/// Finds secrets.
pub(super) struct Matcher {
    finder: Finder,
    ways: Ways,
}

/// A text in which so much is encoded that it was not looked at to the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

impl Matcher {
    /// None if there is nothing to find.
    pub(super) fn new<'a>(
        forms: Vec<Arc<Form>>,
        secrets: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<Self> {
        let looks_like = secrets.clone().fold(0, |kinds, secret| kinds | Escapes::looked_like(secret));
        Some(Self { finder: Finder::new(forms)?, ways: Ways::new(secrets, looks_like) })
    }

    /// Where secrets stand, in order. Those that overlap are one.
    pub(super) fn places(&self, text: &[u8]) -> Result<Vec<Range<usize>>, TooMuch> {
        if text.len() < SHORTEST {
            return Ok(Vec::new());
        }
        let mut found = numbers::places(&self.ways.numerals, text);
        let mut left = AT_LEAST + TIMES * text.len();
        self.look(text, None, 0, &mut left, &mut found)?;
        Ok(merged(found))
    }

    /// Whether nothing is found.
    pub(super) fn is_clean(&self, text: &[u8]) -> bool {
        self.places(text).is_ok_and(|places| places.is_empty())
    }

    /// Whether some secret may stand in a number.
    pub(super) fn has_numbers(&self) -> bool {
        !self.ways.numerals.is_empty()
    }

    /// Whether a number is one of the secrets.
    pub(super) fn is_number(&self, number: &str) -> bool {
        numbers::is_one_of(&self.ways.numerals, number)
    }

    /// What stands in a text as it is.
    pub(super) fn plain(&self, text: &[u8], found: &mut Vec<Range<usize>>) {
        if !self.finder.occurs(text) {
            return;
        }
        let mut next = self.finder.find(text, 0);
        while let Some(place) = next {
            next = self.finder.find(text, place.start + 1);
            // Of a secret that repeats itself there may be one at every place.
            match found.last_mut() {
                Some(last) if (last.start..last.end).contains(&place.start) => {
                    last.end = last.end.max(place.end)
                }
                _ => found.push(place),
            }
        }
    }

    pub(super) fn look(
        &self,
        text: &[u8],
        of: Option<(&View, Option<Escapes>)>,
        depth: usize,
        left: &mut usize,
        found: &mut Vec<Range<usize>>,
    ) -> Result<(), TooMuch> {
        self.plain(text, found);
        if depth == DEEPEST {
            return Ok(());
        }
        // Most texts have none of these, which one look shows.
        let has_signs = memchr::memchr3(b'&', b'%', b'=', text).is_some();
        for escapes in Escapes::ALL.into_iter().filter(|escapes| has_signs || !escapes.have_signs()) {
            let view = escapes.undo(text, of, &self.ways);
            self.deeper(Undone { view, work: 0 }, Some(escapes), depth, left, found)?;
        }
        let of = of.map(|(view, _)| view);
        let words = runs::words(text, &self.ways);
        self.deeper(runs::base64(text, of, &words, &self.ways), None, depth, left, found)?;
        self.deeper(runs::hexadecimal(text, of, &words, &self.ways), None, depth, left, found)?;
        self.deeper(runs::utf16(text, &self.ways), None, depth, left, found)
    }

    /// Looks at what something became.
    fn deeper(
        &self,
        Undone { view, work }: Undone,
        undone: Option<Escapes>,
        depth: usize,
        left: &mut usize,
        found: &mut Vec<Range<usize>>,
    ) -> Result<(), TooMuch> {
        *left = left.checked_sub(work + view.len()).ok_or(TooMuch)?;
        if view.is_empty() {
            return Ok(());
        }
        let mut inside = Vec::new();
        self.look(view.bytes(), Some((&view, undone)), depth + 1, left, &mut inside)?;
        found.extend(inside.iter().map(|place| view.locate(place)));
        Ok(())
    }
}

/// Those that overlap become one.
fn merged(mut places: Vec<Range<usize>>) -> Vec<Range<usize>> {
    places.sort_unstable_by_key(|place| place.start);
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(places.len());
    for place in places {
        match merged.last_mut() {
            Some(last) if place.start < last.end => last.end = last.end.max(place.end),
            _ => merged.push(place),
        }
    }
    merged
}
