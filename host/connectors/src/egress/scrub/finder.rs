//! Finds all forms of all secrets in one pass over a text, most of which it does not even look at.
//!
//! All forms are at least eight bytes long, so a window of that length is moved over the text. Its last three bytes say how
//! far it can go at once: to the next place where they stand in the beginning of a form (Wu and Manber, 1994). Only where
//! they end one is the text compared, first with the beginnings and then with the whole forms that begin so.
//!
//! An automaton (Aho and Corasick) looks at each byte. For the forms of ten secrets it is a table that no cache of the
//! processor near to it holds, cannot be overwritten, and was four times slower.

use std::{ops::Range, sync::Arc};

use zeroize::Zeroizing;

use super::{SHORTEST, forms::Form};

/// A longer window is not much faster, and skips have to fit into a byte.
const LONGEST_WINDOW: usize = 24;

/// The bytes at the end of the window that say how far to go.
const BLOCK: usize = 3;

/// So many places of a long text are looked at at once, and so long is one.
const PLACES: usize = 4;
const LONG: usize = 16 << 10;

pub(super) struct Finder {
    window: usize,
    /// How long the longest form is.
    longest: usize,
    /// By the hash of a block: how far the window may move at least.
    skips: Box<[u8]>,
    /// Beginnings of forms in order, each with the place of its form.
    beginnings: Zeroizing<Vec<(u64, usize)>>,
    forms: Vec<Arc<Form>>,
}

/// The same for letters of either case.
fn beginning(text: &[u8]) -> u64 {
    let folded = text.iter().take(SHORTEST).fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    folded | 0x2020_2020_2020_2020
}

impl Finder {
    /// None if there is nothing to find.
    pub(super) fn new(mut forms: Vec<Arc<Form>>) -> Option<Self> {
        // Longest first: of those that begin alike the first is the longest.
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.bytes().cmp(b.bytes())));
        forms.dedup_by(|a, b| a == b);
        let (window, longest) = (forms.last()?.len().min(LONGEST_WINDOW), forms[0].len());
        let blocks = forms.len() * (window - BLOCK + 1);
        // So that three of four places are free.
        let places = (4 * blocks).next_power_of_two().clamp(1 << 10, 1 << 16);
        let mut skips = vec![(window - BLOCK + 1) as u8; places].into_boxed_slice();
        for form in &forms {
            for end in BLOCK..=window {
                let place = &mut skips[place(&form.bytes()[end - BLOCK..end], places)];
                *place = (*place).min((window - end) as u8);
            }
        }
        let beginnings = forms.iter().enumerate().map(|(at, form)| (beginning(form.bytes()), at));
        let mut beginnings = Zeroizing::new(beginnings.collect::<Vec<_>>());
        beginnings.sort_unstable();
        Some(Self { window, longest, skips, beginnings, forms })
    }

    /// The first form in the text that begins at `from` or later, the longest of those that begin there.
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        let (skips, mut end) = (&*self.skips, from + self.window);
        while let Some(block) = text.get(end - BLOCK..end) {
            let skip = skips[place(block, skips.len())];
            if skip > 0 {
                end += usize::from(skip);
                continue;
            }
            let start = end - self.window;
            if let Some(length) = self.begins(&text[start..]) {
                return Some(start..start + length);
            }
            end += 1;
        }
        None
    }

    /// Whether there is any form in a text. A long one is gone through at several places at once: where to look next depends
    /// on what was looked at before, and the processor does not wait for one place while it looks at another.
    pub(super) fn occurs(&self, text: &[u8]) -> bool {
        let part = text.len() / PLACES;
        if part < LONG {
            return self.find(text, 0).is_some();
        }
        let skips = &*self.skips;
        // The ends of windows, and before which ends they stop.
        let mut ends: [usize; PLACES] = std::array::from_fn(|at| at * part + self.window);
        let stops: [usize; PLACES] = std::array::from_fn(|at| (at + 1) * part + self.window - 1);
        while ends.iter().zip(&stops).all(|(end, stop)| end < stop) {
            for end in &mut ends {
                let Some(block) = text.get(*end - BLOCK..*end) else { break };
                let skip = usize::from(skips[place(block, skips.len())]);
                if skip == 0 && self.begins(&text[*end - self.window..]).is_some() {
                    return true;
                }
                *end += skip.max(1);
            }
        }
        let last = PLACES - 1;
        let rest = |at: usize| {
            // With the whole of what begins there.
            let until = if at == last { text.len() } else { (stops[at] + self.longest).min(text.len()) };
            let from = (ends[at] - self.window).min(until);
            self.find(&text[..until], from).is_some()
        };
        (0..PLACES).any(rest)
    }

    /// The length of the longest form that the text begins with.
    fn begins(&self, text: &[u8]) -> Option<usize> {
        let wanted = beginning(text);
        let first = self.beginnings.partition_point(|(beginning, _)| *beginning < wanted);
        let alike = self.beginnings[first..].iter().take_while(|(beginning, _)| *beginning == wanted);
        alike.map(|(_, at)| &self.forms[*at]).find(|form| form.begins(text)).map(|form| form.len())
    }
}

/// Where the skip for a block of [`BLOCK`] bytes stands, whatever the case of its letters. `places` is a power of two.
fn place(block: &[u8], places: usize) -> usize {
    let [a, b, c] = [0, 1, 2].map(|at| u32::from(block[at]));
    let folded = a | b << 8 | c << 16 | 0x20_2020;
    (folded.wrapping_mul(0x9e37_79b1) >> 16) as usize & (places - 1)
}
