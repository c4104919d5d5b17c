//! Readers of what others write, with inputs that nobody thought of.
//!
//! A target is a test whose name begins with `fuzz_`. It gives a reader bytes and judges what comes of them: they are used,
//! left out with a reason or refused with one, and whatever else the reader promises holds. Here is what all targets share:
//! - each input has a bound of processor time and of memory, and is looked at on a thread with an ordinary stack: an input on
//!   which a reader panics, goes on and on or grows fails the target and is printed;
//! - the [corpus](Fuzz::new) is replayed first, every time. Then inputs are made until the time is over: written by a
//!   [grammar](Fuzz::grammar), and changed from the corpus, from the grammar, and from inputs that were judged in
//!   a way that had not been seen before;
//! - a plain run looks at the same few hundred inputs each time. `AIRLOCK_FUZZ_SECONDS` says how long others are made, and
//!   `AIRLOCK_FUZZ_SEED` repeats such a run, as far as time allows.
//!
//! A process that dies on an input (a stack that overflows) leaves it in `fuzz/` of the target directory, where the next run
//! finds it and looks at it first.
//!
//! No reader is known here.

mod corpus;
mod left;
mod memory;
mod mutation;
mod run;
mod watch;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

pub use self::memory::{Counting, measured};
use self::{
    left::Left,
    run::{Failure, Run, quieten},
    watch::Watch,
};

/// How long inputs are made for where nobody says it.
const SHORT: Duration = Duration::from_secs(2);

/// How many are made there: a test that passes today passes tomorrow.
const MOST_SHORT: usize = 200;

/// How much slower than the one that users have a build and its machine may be.
const SLOWER: u32 = if cfg!(debug_assertions) { 30 } else { 4 };

/// What became of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was read.
    Used,
    /// It was read but for a part, and this says why.
    LeftOut(String),
    /// It was not read, and this says why.
    Refused(String),
}

/// What a target says of an input; the error is what the reader promised and did not keep.
pub type Judged = Result<Verdict, String>;

/// Fails a target, with what it says, if a promise does not hold.
#[macro_export]
macro_rules! promised {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}

type Grammar = Box<dyn FnOnce() -> BoxedStrategy<Vec<u8>> + Send>;

/// A target that is being set up.
pub struct Fuzz {
    name: &'static str,
    corpus: PathBuf,
    base: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    grammar: Option<Grammar>,
    longest: usize,
    time: Duration,
    bytes: usize,
    stack: usize,
}

impl Fuzz {
    /// `crate_dir` is `env!("CARGO_MANIFEST_DIR")` of the reader; below it, the files of `tests/fuzz/NAME` are the corpus:
    /// an input each, or one in base64 if their name ends in `.base64`.
    pub fn new(name: &'static str, crate_dir: &str) -> Self {
        Self {
            name,
            corpus: Path::new(crate_dir).join("tests/fuzz").join(name),
            base: Vec::new(),
            words: Vec::new(),
            grammar: None,
            longest: 16 << 10,
            time: Duration::from_millis(100),
            bytes: 64 << 20,
            stack: 2 << 20,
        }
    }

    /// More inputs to look at and to change, from other places.
    pub fn base<I: Into<Vec<u8>>>(mut self, inputs: impl IntoIterator<Item = I>) -> Self {
        self.base.extend(inputs.into_iter().map(Into::into));
        self
    }

    /// What means something to the reader, to be put into inputs.
    pub fn words<W: Into<Vec<u8>>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }

    /// Writes inputs that are valid, or nearly so.
    pub fn grammar<S>(mut self, grammar: impl FnOnce() -> S + Send + 'static) -> Self
    where
        S: Strategy<Value = Vec<u8>> + 'static,
    {
        self.grammar = Some(Box::new(|| grammar().boxed()));
        self
    }

    /// Bytes of an input that is made here.
    pub fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// Processor time for one input, in the build that users have.
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Bytes that may be held for one input.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Bytes of the stack, where the reader brings its own.
    pub fn stack(mut self, bytes: usize) -> Self {
        self.stack = bytes;
        self
    }

    /// Runs the target.
    ///
    /// # Panics
    /// With the input, if something that is promised does not hold for it.
    pub fn run(self, property: impl Fn(&[u8]) -> Judged + Send + 'static) {
        let (seed, length) = (seed(), length());
        let about = format!("{} (AIRLOCK_FUZZ_SEED={seed})", self.name);
        let (name, corpus, stack, limit) = (self.name, self.corpus.clone(), self.stack, self.time * SLOWER);
        let left = Left::at(name);
        let watch = Arc::new(Watch::default());
        let (sender, receiver) = mpsc::channel();
        let (watched, leaving) = (Arc::clone(&watch), left.clone());
        let work = move || {
            watched.enter();
            let mut run = Run::new(self, property, seed, watched, leaving);
            // Nobody waits for it any more if it was given up.
            let _ = sender.send(run.all(length).map(|()| run.report()));
        };
        quieten();
        // Its output is that of this test.
        let worker =
            thread::Builder::new().name(name.into()).stack_size(stack).spawn(work).expect("a thread");
        let failure = loop {
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok(Ok(report)) => {
                    eprintln!("{about}: {report}");
                    assert!(report.used > 0 && report.left_out + report.refused > 0, "{about}: {report}");
                    return left.clear();
                }
                Ok(Err(failure)) => break failure,
                // The thread is lost; it ends with the process.
                Err(mpsc::RecvTimeoutError::Timeout) => match watch.beyond(limit) {
                    Some(input) => {
                        break Failure { input, origin: "an input".into(), what: "it does not end".into() };
                    }
                    None => continue,
                },
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    panic::resume_unwind(worker.join().expect_err("it ended without a word"))
                }
            }
        };
        let place = left.keep(&failure.input);
        panic!("{about}: {failure}\n{}", how_to_keep(&failure.input, place.as_deref(), &corpus));
    }
}

/// What is said of an input, so that it can be put into the corpus from the output alone.
fn how_to_keep(input: &[u8], place: Option<&Path>, corpus: &Path) -> String {
    let place = place.map_or_else(String::new, |place| format!("It is in {}. ", place.display()));
    let folder = corpus.display();
    format!(
        "{place}To keep it, write this into {folder}/NAME.base64 (base64 -d shows it):\n{}",
        STANDARD.encode(input)
    )
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, and not {text:?}")))
}

/// How long inputs are made for, and how many at most.
fn length() -> (Duration, usize) {
    number("AIRLOCK_FUZZ_SECONDS")
        .map_or((SHORT, MOST_SHORT), |seconds| (Duration::from_secs(seconds), usize::MAX))
}

/// Of no cryptographic use: each run that is given time has another one, and the others have the same.
fn seed() -> u64 {
    let is_short = number("AIRLOCK_FUZZ_SECONDS").is_none();
    number("AIRLOCK_FUZZ_SEED").or(is_short.then_some(1)).unwrap_or_else(|| {
        let mut hasher = DefaultHasher::new();
        (std::process::id(), std::time::SystemTime::now()).hash(&mut hasher);
        hasher.finish()
    })
}

#[cfg(test)]
mod tests;

#[cfg(test)]
counted!();
