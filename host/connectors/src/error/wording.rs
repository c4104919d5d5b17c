//! Parts of messages: words as a shell takes them, and things that are counted.

/// A word of a command line. What others chose is put into quotes, so that the command is the same when it is copied.
pub(crate) fn word(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.:@".contains(letter);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let shown: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    format!("'{}'", shown.replace('\'', r"'\''"))
}

/// The beginning of a text that others wrote: what is quoted of it has a bound.
pub(crate) fn short(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// So many things: `1 tool`, `2 tools`.
pub(crate) fn count(number: usize, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_chose_stays_one_word() {
        for (text, written) in [
            ("work", "work"),
            ("customer-1.eu", "customer-1.eu"),
            ("", "''"),
            ("-rf", "'-rf'"),
            ("my token", "'my token'"),
            ("it's; rm -rf ~", r"'it'\''s; rm -rf ~'"),
            ("$(id)`id`", "'$(id)`id`'"),
            ("a\nb", "'a\u{fffd}b'"),
        ] {
            assert_eq!(word(text), written);
        }
    }

    #[test]
    fn what_is_longer_than_its_bound_is_cut_and_says_so() {
        assert_eq!(
            (short("äöü", 3), short("äöü", 2), short("", 0)),
            ("äöü".into(), "äö…".into(), String::new())
        );
    }

    #[test]
    fn one_thing_is_not_many() {
        let counted = [0, 1, 2].map(|number| count(number, "operation"));
        assert_eq!(counted, ["0 operations", "1 operation", "2 operations"]);
    }
}
