//! Text from guests and others as one line of a log, one sentence or one entry may hold it. What deceives a reader is listed
//! here, and nowhere else.

use std::{borrow::Cow, fmt::Write};

/// Writes out what would do something to a reader instead of being read: line ends and everything else that a terminal takes
/// as a command (C0 but the tab, DEL, C1), other line ends of Unicode, and marks that turn the direction of writing or are
/// not seen. So a line of a guest stays one line, and looks like what it is.
pub fn printable(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(is_active) else { return Cow::Borrowed(text) };
    let mut plain = String::with_capacity(text.len() + 16);
    plain.push_str(&text[..first]);
    for c in text[first..].chars() {
        match c {
            '\n' => plain.push_str("\\n"),
            '\r' => plain.push_str("\\r"),
            c if is_active(c) => {
                // Writing to a string does not fail.
                let _ = write!(plain, "\\u{{{:x}}}", u32::from(c));
            }
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// Whether a character does something to a reader instead of being read. A line feed does; a tab does not.
pub fn is_active(c: char) -> bool {
    match c {
        '\t' => false,
        // Not seen: soft hyphen, joiners, marks and overrides of direction, separators of lines and paragraphs, tags.
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a23_no_text_makes_a_second_line_or_a_command_of_a_terminal() {
        // Where such characters are, and some of everything else.
        let all =
            (0..0x3100).chain(0xfe00..0x1_0000).chain(0xe_0000..0xe_0100).chain((0..0x11_0000).step_by(97));
        for code in all {
            let Some(c) = char::from_u32(code) else { continue };
            let text = format!("a{c}2026-11-29T00:00:00Z ERROR forged");
            let plain = printable(&text);
            assert_eq!(plain.lines().count(), 1, "{code:x}");
            assert!(!plain.chars().any(|c| c.is_control() && c != '\t'), "{code:x}");
            // Nothing else is touched, and nothing is lost.
            assert_eq!(plain == text, !is_active(c), "{code:x}");
            assert!(
                plain.starts_with('a') && plain.ends_with("2026-11-29T00:00:00Z ERROR forged"),
                "{code:x}"
            );
        }
        assert_eq!(printable("a\u{1b}[2Jb\r\nc\u{9b}d\u{202e}e"), "a\\u{1b}[2Jb\\r\\nc\\u{9b}d\\u{202e}e");
    }

    #[test]
    fn a23_ordinary_text_of_any_language_is_as_it_was() {
        for text in ["", "plain", "a\tb", "Grüße, Ελλάδα, שלום, 日本語, 🦀", "C:\\n is a path"]
        {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        }
    }
}
