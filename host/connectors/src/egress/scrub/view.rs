//! What a text becomes when something in it is undone, and where each byte of that came from.

use std::ops::Range;

/// Stands between pieces that do not follow each other. No text in UTF-8 has it, so nothing is found across it.
const APART: u8 = 0xff;

/// Pieces of another text with something undone.
#[derive(Default)]
pub(super) struct View {
    bytes: Vec<u8>,
    /// In order; together they are all bytes but those between pieces.
    steps: Vec<Step>,
}

/// Some bytes, and what they came from.
#[derive(Clone, Copy)]
struct Step {
    at: usize,
    len: usize,
    from: usize,
    from_len: usize,
    unit: Unit,
}

/// What belongs together in a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Everything: an escape.
    Whole,
    /// So many bytes to so many of the other text.
    Groups(u8, u8),
}

const COPY: Unit = Unit::Groups(1, 1);

impl Step {
    fn end(&self) -> usize {
        self.at + self.len
    }

    /// Where the byte at a place came from.
    fn source(&self, at: usize) -> Range<usize> {
        match self.unit {
            Unit::Whole => self.from..self.from + self.from_len,
            Unit::Groups(out, source) => {
                let begin = (at - self.at) / usize::from(out) * usize::from(source);
                let end = (begin + usize::from(source)).min(self.from_len);
                self.from + begin..self.from + end
            }
        }
    }
}

impl View {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What comes now does not follow what came before.
    pub(super) fn apart(&mut self) {
        if !self.bytes.is_empty() {
            self.bytes.push(APART);
        }
    }

    /// Adds what stands in the other text as it is.
    pub(super) fn copy(&mut self, text: &[u8], range: Range<usize>) {
        if !range.is_empty() {
            self.push(&text[range.clone()], range, COPY);
        }
    }

    /// Adds bytes that came from a range of the other text.
    pub(super) fn push(&mut self, bytes: &[u8], from: Range<usize>, unit: Unit) {
        let (at, len) = (self.bytes.len(), bytes.len());
        self.bytes.extend_from_slice(bytes);
        if let (Some(last), Unit::Groups(out, source)) = (self.steps.last_mut(), unit)
            && last.unit == unit
            && last.end() == at
            && last.from + last.from_len == from.start
            && last.len % usize::from(out) == 0
            && last.from_len % usize::from(source) == 0
        {
            last.len += len;
            last.from_len += from.len();
            return;
        }
        self.steps.push(Step { at, len, from: from.start, from_len: from.len(), unit });
    }

    /// Where in the other text something stands.
    pub(super) fn locate(&self, found: &Range<usize>) -> Range<usize> {
        let step = |at: usize| {
            let after = self.steps.partition_point(|step| step.at <= at);
            self.steps[after.saturating_sub(1)].source(at)
        };
        step(found.start).start..step(found.end - 1).end
    }

    /// Whether something was undone inside of a range or beside it.
    pub(super) fn is_changed(&self, range: &Range<usize>) -> bool {
        let first = self.steps.partition_point(|step| step.end() < range.start);
        let steps = self.steps[first..].iter().take_while(|step| step.at <= range.end);
        steps.into_iter().any(|step| step.unit != COPY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_found_in_the_text_that_it_came_from() {
        let text = b"ab%41%42cdefQUJD";
        let mut view = View::default();
        view.copy(text, 0..2);
        view.push(b"A", 2..5, Unit::Whole);
        view.push(b"B", 5..8, Unit::Whole);
        view.copy(text, 8..12);
        view.apart();
        view.push(b"ABC", 12..16, Unit::Groups(3, 4));
        assert_eq!(view.bytes(), b"abABcdef\xffABC");
        for (found, expected) in
            [(0..2, 0..2), (1..3, 1..5), (2..4, 2..8), (3..8, 5..12), (9..12, 12..16), (10..11, 12..16)]
        {
            assert_eq!(view.locate(&found), expected, "{found:?}");
        }
        assert!(view.is_changed(&(2..3)) && view.is_changed(&(4..6)) && view.is_changed(&(0..2)));
        assert!(!view.is_changed(&(5..7)) && !view.is_changed(&(0..1)));
    }
}
