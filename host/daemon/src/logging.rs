//! The daemon's log, on standard error. What others wrote stands in many of its lines, so each line is made printable as a whole.

use std::io::{self, Write};

use airlock_engine::printable::printable;
use anyhow::{Context as _, bail};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// How much can be logged, and how.
pub(crate) const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
pub(crate) const FORMATS: [&str; 2] = ["text", "json"];

/// Starts the log. Only airlock's own targets follow `level`: crates that speak HTTP or OAuth tell headers and codes at
/// their verbose levels, so all of them stay at info at most (THREATS row 18).
pub(crate) fn start(level: &str, format: &str) -> anyhow::Result<()> {
    let level: LevelFilter = level.parse().ok().with_context(|| {
        format!("'{level}' is not a log level: use off, error, warn, info, debug or trace")
    })?;
    let others = level.min(LevelFilter::INFO);
    let ours = [
        "airlock",
        "airlock_api",
        "airlock_connectors",
        "airlock_engine",
        "airlock_sandbox",
        "airlock_store",
    ];
    let targets =
        ours.iter().fold(Targets::new().with_default(others), |all, ours| all.with_target(*ours, level));
    // rmcp logs what servers answer, also in its warnings and errors; ours name the connector and say what happened.
    let targets = targets.with_target("rmcp", LevelFilter::OFF);
    let layer = fmt::layer().with_ansi(false);
    let layer = match format {
        "text" => layer.with_writer(|| Printable(io::stderr())).boxed(),
        // Escaped by its form.
        "json" => layer.with_writer(io::stderr).json().boxed(),
        other => bail!("'{other}' is not a log format: use text or json"),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).init();
    Ok(())
}

/// Writes each event as one line: line ends and commands of terminals that stand in it are written out. The log gives one
/// event at a time, with the end of its line.
struct Printable<W>(W);

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (line, end) = text.strip_suffix('\n').map_or((&*text, ""), |line| (line, "\n"));
        // At once, so that lines of several threads do not mix.
        self.0.write_all(format!("{}{end}", printable(line)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a23_whatever_stands_in_a_field_an_event_is_one_line_of_the_text_log() {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = fmt::layer().with_ansi(false).with_writer(move || Printable(writer.clone()));
        let subscriber = tracing_subscriber::registry().with(layer);
        let evil = "a\n2026-11-29T00:00:00Z ERROR airlock: forged\r\u{1b}[2J\u{9b}31m\u{202e}b\u{2028}c";
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(shown = %evil, quoted = ?evil, plain = evil, "{evil}");
            tracing::info!(message = evil);
            tracing::warn!("second");
        });
        let text = String::from_utf8(kept.0.lock().clone()).expect("text");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            !text.chars().any(|c| c.is_control() && c != '\n' || "\u{202e}\u{2028}".contains(c)),
            "{text:?}"
        );
        assert!(text.contains("forged") && text.ends_with("second\n"), "{text}");
    }
}
