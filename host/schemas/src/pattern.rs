//! What a regular expression costs, to compile and to match.
//!
//! All are matched by finite automata: in time that grows with the text, but by a factor that may be as big as the
//! expression. Where the whole automaton is small the factor is one.

use regex_automata::{
    dfa::dense,
    nfa::thompson::{self, NFA},
};

/// Bytes that one expression may be compiled to. `jsonschema`, which compiles it for groups and backwards too, is told a
/// multiple of it: it refuses a whole schema for one that it finds too big.
pub(crate) const COMPILED_BYTES: usize = 64 << 10;

/// The same of the transitions that are found while it is matched.
pub(crate) const TRANSITION_BYTES: usize = 128 << 10;

/// An automaton without choices is built to look at its size, of so many states and bytes, for so many expressions.
const SMALL_STATES: usize = 150;
const SMALL_BYTES: usize = 64 << 10;
const MAX_BUILT: usize = 16;

/// Classes of Unicode, and control escapes, of one schema: each costs time when it is read.
const MAX_CLASSES: usize = 20;
const MAX_CONTROLS: usize = 20;

/// Bytes of memory whose time reading a character takes.
const READING: usize = 16;

/// Cost of a match.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PatternCost {
    pub(crate) visit: u64,
    /// Thousandths of units.
    pub(crate) per_byte: u64,
}

/// The expressions of one schema.
pub(crate) struct Patterns {
    memory: usize,
    classes: usize,
    built: usize,
    length: usize,
}

impl Patterns {
    pub(crate) fn new(length: usize, memory: usize) -> Self {
        Self { memory, classes: 0, built: 0, length }
    }

    /// Whether it may be looked at at all: reading costs more than its length where this is not so.
    pub(crate) fn is_readable(pattern: &str, length: usize) -> bool {
        pattern.len() <= length && pattern.matches("\\c").count() <= MAX_CONTROLS
    }

    /// What it costs, if it can be used.
    pub(crate) fn cost(&mut self, pattern: &str) -> Option<PatternCost> {
        if !Self::is_readable(pattern, self.length) {
            return None;
        }
        let folded = pattern.match_indices("(?").any(|(at, _)| {
            let flags = pattern[at + 2..].chars().take_while(|c| c.is_ascii_alphabetic() || *c == '-');
            flags.into_iter().any(|flag| flag == 'i')
        });
        let classes = pattern.matches("\\p").count() + pattern.matches("\\P").count();
        self.classes += classes + if folded { 2 + pattern.matches(['\\', '[']).count() } else { 0 };
        if self.classes > MAX_CLASSES {
            return None;
        }
        // Reading costs, too, and where it fails as much as where it does not.
        self.memory = self.memory.checked_sub(READING * (pattern.len() + READING))?;
        let translated = jsonschema_regex::to_rust_regex(pattern).ok()?;
        let limit = COMPILED_BYTES.min(self.memory);
        let config = thompson::Config::new().nfa_size_limit(Some(limit));
        let Ok(nfa) = NFA::compiler().configure(config).build(&translated) else {
            self.memory -= limit / 2;
            return None;
        };
        self.memory = self.memory.saturating_sub(nfa.memory_usage());
        let states = nfa.states().len();
        let is_small = states <= SMALL_STATES && self.built < MAX_BUILT && {
            self.built += 1;
            let config = dense::Config::new()
                .dfa_size_limit(Some(SMALL_BYTES))
                .determinize_size_limit(Some(SMALL_BYTES));
            dense::Builder::new().configure(config).build_from_nfa(&nfa).is_ok()
        };
        let states = states as u64;
        let per_byte = if is_small { 300 } else { states.saturating_mul(1_000) };
        Some(PatternCost { visit: 20 + states / 4, per_byte })
    }
}
