//! What a guest writes: log lines through `log` and whatever it prints. All of it ends in the daemon's log, cut, rate limited, and
//! [`printable`]: a guest's line is one line.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use airlock_engine::printable::printable;
use bytes::Bytes;
use parking_lot::Mutex;
use tracing::Level;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::{config::Limits, limits::rate::Rate};

/// Bytes of standard error that are kept to explain a trap.
const TAIL_BYTES: usize = 4 << 10;

/// Whose output it is.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) plugin: Arc<str>,
    pub(crate) execution: String,
    /// Workflow or activity.
    pub(crate) part: String,
}

/// Takes the output of one instance.
#[derive(Debug)]
pub(crate) struct Output {
    origin: Origin,
    line_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    silent: bool,
    rate: Rate,
    dropped: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The end of standard error, for the explanation of a trap.
    tail: Vec<u8>,
}

impl Output {
    /// Takes everything, until [`Output::silence`].
    pub(crate) fn new(origin: Origin, limits: &Limits) -> Arc<Self> {
        let Origin { plugin, execution, part } = origin;
        Arc::new(Self {
            origin: Origin {
                plugin: printable(&plugin).into(),
                execution: printable(&execution).into_owned(),
                part: printable(&part).into_owned(),
            },
            line_bytes: limits.log_line_bytes,
            state: Mutex::new(State {
                silent: false,
                rate: Rate::new(limits.log_lines_per_second),
                dropped: 0,
                stdout: Vec::new(),
                stderr: Vec::new(),
                tail: Vec::new(),
            }),
        })
    }

    /// Drops log lines from now on, or stops dropping them.
    pub(crate) fn silence(&self, silent: bool) {
        self.state.lock().silent = silent;
    }

    /// Writes one line to the log.
    pub(crate) fn line(&self, level: Level, text: &str) {
        let mut state = self.state.lock();
        self.write_line(&mut state, level, text);
    }

    fn write_line(&self, state: &mut State, level: Level, text: &str) {
        if state.silent || !enabled(level) {
            return;
        }
        if !state.rate.take() {
            state.dropped += 1;
            return;
        }
        self.tell_dropped(state);
        // Cut first, so that no more is looked at than fits; what is written out may be longer.
        self.origin.emit(level, cut(&printable(cut(text, self.line_bytes)), self.line_bytes));
    }

    fn tell_dropped(&self, state: &mut State) {
        let dropped = std::mem::take(&mut state.dropped);
        if dropped > 0 {
            tracing::warn!(
                target: "airlock::guest",
                plugin = %self.origin.plugin, execution = %self.origin.execution, part = %self.origin.part,
                dropped, "log lines were dropped: the plugin writes too many",
            );
        }
    }

    fn print(&self, stream: Stream, bytes: &[u8]) {
        let mut state = self.state.lock();
        if stream == Stream::Err {
            state.tail.extend_from_slice(bytes);
            let excess = state.tail.len().saturating_sub(TAIL_BYTES);
            state.tail.drain(..excess);
        }
        let mut pending = std::mem::take(match stream {
            Stream::Out => &mut state.stdout,
            Stream::Err => &mut state.stderr,
        });
        for byte in bytes {
            if *byte == b'\n' {
                self.print_line(&mut state, stream, &pending);
                pending.clear();
            } else if pending.len() < self.line_bytes {
                pending.push(*byte);
            }
        }
        match stream {
            Stream::Out => state.stdout = pending,
            Stream::Err => state.stderr = pending,
        }
    }

    fn print_line(&self, state: &mut State, stream: Stream, line: &[u8]) {
        let level = match stream {
            Stream::Out => Level::INFO,
            Stream::Err => Level::WARN,
        };
        if !line.is_empty() {
            self.write_line(state, level, &String::from_utf8_lossy(line));
        }
    }

    /// Writes lines that were begun and not ended, tells how many were dropped, and returns the end of standard error.
    pub(crate) fn finish(&self) -> String {
        let mut state = self.state.lock();
        for stream in [Stream::Out, Stream::Err] {
            let rest = std::mem::take(match stream {
                Stream::Out => &mut state.stdout,
                Stream::Err => &mut state.stderr,
            });
            self.print_line(&mut state, stream, &rest);
        }
        self.tell_dropped(&mut state);
        String::from_utf8_lossy(&std::mem::take(&mut state.tail)).into_owned()
    }
}

/// The beginning of `text`, at most `bytes` long, not cutting through a character.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn enabled(level: Level) -> bool {
    level <= tracing::level_filters::LevelFilter::current()
}

impl Origin {
    fn emit(&self, level: Level, line: &str) {
        macro_rules! at {
            ($level:expr) => {
                tracing::event!(
                    target: "airlock::guest", $level,
                    plugin = %self.plugin, execution = %self.execution, part = %self.part,
                    "{line}"
                )
            };
        }
        match level {
            Level::TRACE => at!(Level::TRACE),
            Level::DEBUG => at!(Level::DEBUG),
            Level::INFO => at!(Level::INFO),
            Level::WARN => at!(Level::WARN),
            Level::ERROR => at!(Level::ERROR),
        }
    }
}

/// Which of the guest's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A stream of a guest as WASI sees it.
#[derive(Clone)]
pub(crate) struct Printer {
    output: Arc<Output>,
    stream: Stream,
}

impl Printer {
    /// Prints to `output`.
    pub(crate) fn new(output: Arc<Output>, stream: Stream) -> Self {
        Self { output, stream }
    }
}

impl IsTerminal for Printer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printer {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Printer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.print(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[async_trait::async_trait]
impl Pollable for Printer {
    async fn ready(&mut self) {}
}

impl tokio::io::AsyncWrite for Printer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.output.print(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
