//! A target under way: one input after the other, judged and measured.

use std::{
    cell::Cell,
    collections::HashSet,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use cpu_time::ThreadTime;
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    Fuzz, Judged, SLOWER, Verdict, corpus, left::Left, memory, mutation::Mutations, promised, watch::Watch,
};

/// Inputs that were judged in a new way and are changed further.
const MOST_KEPT: usize = 2_000;

/// Bytes of a reason: people read it.
const LONGEST_REASON: usize = 4_000;

/// How long a failing input is made smaller.
const SHRINKING: Duration = Duration::from_secs(10);

/// An input for which a promise does not hold.
pub(crate) struct Failure {
    pub(crate) input: Vec<u8>,
    pub(crate) origin: String,
    pub(crate) what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.input[..self.input.len().min(1_000)];
        let more = if shown.len() < self.input.len() { "…" } else { "" };
        let (origin, bytes) = (&self.origin, self.input.len());
        write!(f, "{}\n{origin} of {bytes} bytes: b\"{}\"{more}", self.what, shown.escape_ascii())
    }
}

/// What a run saw.
#[derive(Default, Clone)]
pub(crate) struct Report {
    inputs: usize,
    of_corpus: usize,
    pub(crate) used: usize,
    pub(crate) left_out: usize,
    pub(crate) refused: usize,
    kept: usize,
    slowest: Duration,
    most_bytes: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} inputs ({} of the corpus): {} used, {} left out in part, {} refused; {} in a new way; at most {:?} and {} KB",
            self.inputs,
            self.of_corpus,
            self.used,
            self.left_out,
            self.refused,
            self.kept,
            self.slowest,
            self.most_bytes >> 10
        )
    }
}

/// A target under way, on its thread.
pub(crate) struct Run<P> {
    fuzz: Fuzz,
    property: P,
    watch: Arc<Watch>,
    left: Left,
    runner: TestRunner,
    /// What is changed.
    pool: Vec<Vec<u8>>,
    known: HashSet<u64>,
    report: Report,
}

impl<P: Fn(&[u8]) -> Judged> Run<P> {
    pub(crate) fn new(fuzz: Fuzz, property: P, seed: u64, watch: Arc<Watch>, left: Left) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let runner = TestRunner::new_with_rng(Config::default(), rng);
        Self {
            fuzz,
            property,
            watch,
            left,
            runner,
            pool: Vec::new(),
            known: HashSet::new(),
            report: Report::default(),
        }
    }

    pub(crate) fn report(&self) -> Report {
        self.report.clone()
    }

    pub(crate) fn all(&mut self, (length, most): (Duration, usize)) -> Result<(), Failure> {
        if let Some(input) = self.left.found() {
            self.look_at(&input, "what a process that died has left, an input")?;
        }
        for (name, input) in corpus::read(&self.fuzz.corpus) {
            self.look_at(&input, &format!("{name} of the corpus"))?;
            self.report.of_corpus += 1;
            self.pool.push(input);
        }
        for (number, input) in std::mem::take(&mut self.fuzz.base).into_iter().enumerate() {
            self.look_at(&input, &format!("base {number}"))?;
            self.report.of_corpus += 1;
            self.pool.push(input);
        }
        let grammar = self.fuzz.grammar.take().map(|make| make());
        let mutations = Mutations { words: self.fuzz.words.clone(), longest: self.fuzz.longest };
        let end = Instant::now() + length;
        let mut made = 0;
        while made < most && Instant::now() < end {
            made += 1;
            let from_pool = self.runner.rng().random_range(0..3) > 0 || grammar.is_none();
            let mut input = match &grammar {
                Some(grammar) if !from_pool => written(grammar, &mut self.runner),
                _ => {
                    let at = self.runner.rng().random_range(0..self.pool.len());
                    self.pool[at].clone()
                }
            };
            if from_pool || self.runner.rng().random_range(0..2) == 0 {
                mutations.change(&mut input, &self.pool, self.runner.rng());
            }
            self.look_at(&input, "an input")?;
        }
        Ok(())
    }

    fn look_at(&mut self, input: &[u8], origin: &str) -> Result<(), Failure> {
        self.report.inputs += 1;
        let verdict = match self.judged(input) {
            Ok(verdict) => verdict,
            Err(what) => {
                let (input, what) = self.smaller(input.to_vec(), what);
                return Err(Failure { input, origin: origin.into(), what });
            }
        };
        match &verdict {
            Verdict::Used => self.report.used += 1,
            Verdict::LeftOut(_) => self.report.left_out += 1,
            Verdict::Refused(_) => self.report.refused += 1,
        }
        if self.known.insert(way(&verdict))
            && self.report.kept < MOST_KEPT
            && input.len() <= self.fuzz.longest
        {
            self.report.kept += 1;
            self.pool.push(input.to_vec());
        }
        Ok(())
    }

    /// What becomes of an input, and whether it is within all bounds.
    fn judged(&mut self, input: &[u8]) -> Judged {
        let (mut judged, mut spent) = self.once(input);
        let limit = self.fuzz.time * SLOWER;
        if judged.is_ok() && spent > limit {
            // A machine that was busy does not make the same input slow twice.
            (judged, spent) = self.once(input);
        }
        self.report.slowest = self.report.slowest.max(spent);
        let verdict = judged?;
        if let Verdict::LeftOut(reason) | Verdict::Refused(reason) = &verdict {
            let is_reason = reason.len() >= 10 && reason.len() <= LONGEST_REASON;
            promised!(is_reason, "no reason that people read, of {} bytes: {reason}", reason.len());
        }
        promised!(spent <= limit, "it took {spent:?} of processor time, and may take {limit:?}");
        Ok(verdict)
    }

    fn once(&mut self, input: &[u8]) -> (Judged, Duration) {
        self.left.write(input);
        self.watch.begin(input);
        let begun = ThreadTime::now();
        let look = || panic::catch_unwind(AssertUnwindSafe(|| (self.property)(input)));
        let (judged, held) = memory::measured(look);
        let spent = begun.elapsed();
        self.watch.end();
        self.report.most_bytes = self.report.most_bytes.max(held);
        let judged = match judged {
            Ok(judged) => judged,
            Err(payload) => {
                let text = payload.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
                Err(format!("it panicked: {}", text.unwrap_or("without a word")))
            }
        };
        let most = self.fuzz.bytes;
        match judged {
            Ok(_) if held > most => (Err(format!("it held {held} bytes, and may hold {most}")), spent),
            judged => (judged, spent),
        }
    }

    /// A part of the input for which something does not hold either.
    fn smaller(&mut self, mut input: Vec<u8>, mut what: String) -> (Vec<u8>, String) {
        IS_QUIET.set(true);
        let end = Instant::now() + SHRINKING;
        let mut size = input.len() / 2;
        while size > 0 {
            let mut at = 0;
            while at < input.len() {
                if Instant::now() > end {
                    return (input, what);
                }
                let mut part = input.clone();
                part.drain(at..(at + size).min(part.len()));
                match self.judged(&part) {
                    Err(other) => (input, what) = (part, other),
                    Ok(_) => at += size,
                }
            }
            size /= 2;
        }
        (input, what)
    }
}

fn written(grammar: &BoxedStrategy<Vec<u8>>, runner: &mut TestRunner) -> Vec<u8> {
    grammar.new_tree(runner).expect("a grammar that rejects nothing").current()
}

/// In which way an input was judged: numbers and what is quoted do not make another.
pub(crate) fn way(verdict: &Verdict) -> u64 {
    let mut hasher = DefaultHasher::new();
    let (kind, reason) = match verdict {
        Verdict::Used => (0, ""),
        Verdict::LeftOut(reason) => (1, reason.as_str()),
        Verdict::Refused(reason) => (2, reason.as_str()),
    };
    kind.hash(&mut hasher);
    let quotes = ['\'', '"', '`'];
    for (number, piece) in reason.split(quotes).enumerate() {
        if number % 2 == 0 {
            piece.chars().filter(|char| !char.is_ascii_digit()).for_each(|char| char.hash(&mut hasher));
        }
    }
    hasher.finish()
}

thread_local! {
    /// Whether panics of this thread are told: one that is looked for again and again is told once.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn quieten() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |about| {
            if !IS_QUIET.get() {
                before(about);
            }
        }));
    });
}
