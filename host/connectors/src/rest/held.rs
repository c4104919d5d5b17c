//! How many bytes a document takes when it is read: small objects and lists take tens of times what their text does, so that
//! the size of the text bounds nothing. What is counted is what the values take in memory, rather more than less.

/// Bytes that a document may take. GitHub's takes 80 MB, from 13 MB of text.
pub(super) const MAX_HELD: usize = 512 << 20;

/// A node of a tree of members, with its share of the nodes above it, and how many members one holds at least.
const NODE: usize = 760;
const MEMBERS: usize = 6;

/// An allocation and what is lost in it.
const ALLOCATION: usize = 16;

/// Items that a list has room for from the first on, and what each takes while a list doubles when it is full.
const ITEMS: usize = 4;
const ITEM: usize = 64;

/// What has been counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held(usize);

impl Held {
    /// What a member takes beside its value: its number in its object, and the bytes of its name.
    pub(super) fn member(number: usize, name: usize) -> Self {
        let node = if number.is_multiple_of(MEMBERS) { NODE } else { 0 };
        Self(node + ALLOCATION + name)
    }

    /// What an item takes beside what it refers to: its number in its list.
    pub(super) fn item(number: usize) -> Self {
        Self(match number {
            0 => ITEMS * ITEM / 2 + ALLOCATION,
            number if number < ITEMS => 0,
            _ => ITEM,
        })
    }

    /// What a text of so many bytes takes beside its place.
    pub(super) fn text(bytes: usize) -> Self {
        Self(if bytes == 0 { 0 } else { ALLOCATION + bytes })
    }

    /// Counts more; why not, if that is too much.
    pub(super) fn add(&mut self, more: Self) -> Result<(), String> {
        self.0 = self.0.saturating_add(more.0);
        match self.0 > MAX_HELD {
            true => Err(format!(
                "the document takes more than {} MB of memory, since it consists of very many small objects and lists: \
                 import it without the paths that you do not need, or list operations by hand (--operations)",
                MAX_HELD >> 20
            )),
            false => Ok(()),
        }
    }

    /// The same, again.
    pub(super) fn check(self) -> Result<(), String> {
        Self(self.0).add(Self(0))
    }

    /// Both together.
    pub(super) fn and(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }
}

#[cfg(test)]
mod tests {
    use airlock_fuzz::measured;

    use super::*;
    use crate::rest::document::read;

    /// So many pieces of text in a list.
    fn list(of: &str, times: usize) -> Vec<u8> {
        format!("[{}0]", format!("{of},").repeat(times)).into_bytes()
    }

    #[test]
    fn what_is_counted_is_not_less_than_what_a_document_takes() {
        let wide = format!("{{{}\"z\":0}}", (0..20).map(|at| format!("\"m{at}\":{at},")).collect::<String>());
        for of in [
            "{\"a\":{}}",
            "{\"a\":0}",
            "[0]",
            "[[]]",
            "\"\"",
            "\"a\"",
            "[1,2,3,4,5]",
            "{\"a\":[{\"b\":\"c\"}]}",
            &wide,
        ] {
            for (begin, end) in [("{\"all\":", "}"), ("all: ", "\n")] {
                let text = [begin.as_bytes(), &list(of, 2_000), end.as_bytes()].concat();
                let (document, most) = measured(|| read(&text).expect("a document"));
                let counted = document.1.held.0;
                // The reader of YAML holds some of the text as well while it reads.
                assert!(
                    most <= counted + 64 * text.len() && counted <= 8 * most,
                    "{of}: {most} and {counted}"
                );
                let (copy, most) = measured(|| document.0.clone());
                assert!(most <= counted && counted <= 8 * most, "{of}: {most} and {counted}");
                drop(copy);
            }
        }
    }

    #[test]
    fn row_22_a_document_of_very_many_small_objects_is_refused_before_it_takes_the_machine() {
        for (begin, end) in [("{\"openapi\":\"3.1.0\",\"x\":", "}"), ("openapi: 3.1.0\nx: ", "\n")] {
            let text = [begin.as_bytes(), &list("{\"a\":{}}", 1_200_000), end.as_bytes()].concat();
            assert!(text.len() < 14 << 20);
            let (read, most) = measured(|| read(&text).map(drop));
            let told = read.expect_err("it is too much").to_string();
            assert!(
                told.contains("takes more than 512 MB of memory, since it consists of very many small"),
                "{told}"
            );
            assert!(most <= MAX_HELD + (256 << 20), "{most}");
        }
    }
}
