//! What commands print: tables and colours for people, JSON for scripts.

use std::{
    fmt,
    io::{IsTerminal, Write as _},
};

use airlock_engine::printable::is_active;
use serde_json::Value;

use crate::{
    document::{laid_out, pretty},
    ended::Ended,
};

/// Prints a line, as `println!` does. When it cannot be written the command ends with a sentence and not with a panic.
macro_rules! say {
    ($($line:tt)*) => {
        $crate::output::line(format_args!($($line)*))
    };
}
pub(crate) use say;

pub(crate) fn line(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout().lock(), "{line}") {
        eprintln!("airlock: what was asked for was done, and the answer cannot be written: {error}");
        std::process::exit(Ended::Failed as i32);
    }
}

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    colours: bool,
}

/// Text that came from a plugin, a service or another user, as a terminal may see it: control characters could move the
/// cursor, change the title or answer a question for the reader, and marks could turn what is read, so of all these only line
/// ends stay.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if is_active(c) && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// What a piece of text is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tone {
    Good,
    Bad,
    Busy,
    Quiet,
    Strong,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && !is_dumb;
        // Events go to standard error and results to standard output; neither gets codes into a file.
        let terminals = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        Self { json, colours: wanted && terminals }
    }

    /// Prints a value as JSON, or else what `people` prints.
    pub(crate) fn value(self, value: &Value, people: impl FnOnce()) {
        match self.json {
            true => say!("{}", pretty(value)),
            false => people(),
        }
    }

    /// Prints a document as it came from the daemon, or else what `people` prints.
    pub(crate) fn document(self, text: &str, people: impl FnOnce()) {
        match self.json {
            true => say!("{}", laid_out(text)),
            false => people(),
        }
    }

    /// Text in the colour of its tone, on a terminal.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => 32,
            Tone::Bad => 31,
            Tone::Busy => 33,
            Tone::Quiet => 2,
            Tone::Strong => 1,
        };
        match self.colours {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// A status in its colour.
    pub(crate) fn status(self, status: &str) -> String {
        let tone = match status {
            "COMPLETED" | "ready" | "valid" => Tone::Good,
            "RUNNING" => Tone::Busy,
            _ => Tone::Bad,
        };
        self.paint(tone, status)
    }

    /// Rows under headings. Columns are as wide as their widest cell; the last one is not padded.
    pub(crate) fn table(self, headings: &[&str], rows: &[Vec<String>]) {
        let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(visible(cell));
            }
        }
        let line = |cells: &[String]| {
            let mut text = String::new();
            for (i, cell) in cells.iter().enumerate() {
                text.push_str(cell);
                if i + 1 < cells.len() {
                    text.push_str(&" ".repeat(widths[i] - visible(cell) + 2));
                }
            }
            text
        };
        let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
        say!("{}", self.paint(Tone::Quiet, &line(&headings)));
        for row in rows {
            say!("{}", line(row));
        }
    }
}

/// How many characters a cell takes up, without the codes of colours.
fn visible(cell: &str) -> usize {
    let mut count = 0;
    let mut in_code = false;
    for character in cell.chars() {
        match character {
            '\x1b' => in_code = true,
            'm' if in_code => in_code = false,
            _ if !in_code => count += 1,
            _ => {}
        }
    }
    count
}

/// A field as text: strings bare and [`plain`], nothing for null.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Short enough for a line.
pub(crate) fn short(text: &str, length: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.chars().count() > length {
        true => line.chars().take(length.saturating_sub(1)).chain(['…']).collect(),
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_room_and_long_text_is_cut() {
        assert_eq!(visible("\x1b[32mgood\x1b[0m"), 4);
        assert_eq!(short("one  two\nthree", 8), "one two…");
        assert_eq!(short("short", 8), "short");
    }

    #[test]
    fn what_others_wrote_cannot_speak_to_the_terminal() {
        assert_eq!(
            text(&Value::from("a\x1b]0;title\x07\u{9b}2J\r\n\tb \u{202e}gpj.exe\u{2066}")),
            "a\u{fffd}]0;title\u{fffd}\u{fffd}2J\u{fffd}\n\tb \u{fffd}gpj.exe\u{fffd}"
        );
    }
}
