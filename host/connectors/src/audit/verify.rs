//! Checking the chain: what happened to the log since it was written.
//!
//! The log is read once, from its first line on. The first line that is not the one that was written there ends the
//! check; what follows it is looked at only to say what was done.

use std::{fmt, io, path::Path};

#[cfg(test)]
use zeroize::Zeroizing;

use super::{
    chain::{Chain, Head, NOTHING},
    files::{self, Lines},
};

/// The log is as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// How many entries there are.
    pub(crate) entries: u64,
    /// The first and the last; none if there are none.
    pub(crate) first: Option<Head>,
    pub(crate) last: Option<Head>,
}

/// The log is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {why} (where entry {sequence} should be)")]
pub(crate) struct Broken {
    /// The name of the file.
    pub(crate) file: String,
    /// Counts from 1 in each file.
    pub(crate) line: u64,
    /// The entry that should stand there.
    pub(crate) sequence: u64,
    /// What was done.
    pub(crate) why: Why,
}

/// What was done to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// The line is not what was written.
    Changed,
    /// So many entries are missing before the line.
    Removed(u64),
    /// The line belongs further down.
    Reordered,
    /// The line does not belong there: the entry that should be there follows.
    Inserted,
    /// So many entries are missing at the end of the log.
    Truncated(u64),
    /// The chain is whole, and not the one whose head was kept.
    Replaced,
    /// The end of the last line is missing.
    Torn,
    /// The file cannot be read.
    Unreadable(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => f.write_str("the line was changed"),
            Self::Removed(count) => write!(f, "{count} entries before the line were removed"),
            Self::Reordered => f.write_str("the line was moved here from further down"),
            Self::Inserted => f.write_str("the line was inserted"),
            Self::Truncated(count) => write!(f, "the last {count} entries were cut off after the line"),
            Self::Replaced => {
                f.write_str("the log was replaced by another: the entry has not the hash that was kept")
            }
            Self::Torn => {
                f.write_str("the end of the line is missing, as after a crash: opening the log repairs that")
            }
            Self::Unreadable(problem) => write!(f, "the file cannot be read: {problem}"),
        }
    }
}

/// Checks a log that nobody writes to. `head` is what was kept elsewhere: without it, a log whose end was cut off is as
/// good as one that ends there.
#[cfg(test)]
pub(crate) fn verify(
    folder: &Path,
    key: &Zeroizing<[u8; 32]>,
    head: Option<&Head>,
) -> Result<Verified, Broken> {
    check(folder, &Chain::new(key), &[head], u64::MAX)
}

/// Checks the entries up to `until`; each head must be that of the entry with its sequence.
pub(super) fn check(
    folder: &Path,
    chain: &Chain,
    heads: &[Option<&Head>],
    until: u64,
) -> Result<Verified, Broken> {
    let (mut file, mut line, mut entries) = (1, 0, 0_u64);
    let mut last = Head::empty();
    let mut first = None;
    let unreadable = |file: u64, line: u64, sequence: u64, problem: &io::Error| Broken {
        file: files::name(file),
        line,
        sequence,
        why: Why::Unreadable(problem.to_string()),
    };
    let numbers = files::numbers(folder).map_err(|problem| unreadable(1, 0, 1, &problem))?;
    let mut lines = Lines::of(folder, numbers);
    while last.sequence < until {
        let expected = last.sequence + 1;
        let next = lines.next().map_err(|problem| unreadable(file, line, expected, &problem))?;
        let Some(next) = next else { break };
        (file, line) = (next.file, next.number);
        let link = chain.check(&next.bytes);
        let why = match &link {
            _ if !next.whole => Some(Why::Torn),
            None if follows(&mut lines, chain, expected) => Some(Why::Inserted),
            None => Some(Why::Changed),
            Some(link) if link.sequence < expected => Some(Why::Inserted),
            Some(link) if link.sequence > expected => match follows(&mut lines, chain, expected) {
                true => Some(Why::Reordered),
                false => Some(Why::Removed(link.sequence - expected)),
            },
            Some(link) if link.previous != last.hash => Some(Why::Changed),
            Some(link) => {
                let kept = heads.iter().flatten().find(|head| head.sequence == expected);
                kept.filter(|kept| kept.hash != link.hash).map(|_| Why::Replaced)
            }
        };
        if let Some(why) = why {
            return Err(Broken { file: files::name(file), line, sequence: expected, why });
        }
        if let Some(link) = link {
            last = Head { sequence: expected, hash: link.hash };
            first.get_or_insert_with(|| last.clone());
            entries += 1;
        }
    }
    if let Some(head) = heads.iter().flatten().find(|head| head.sequence > last.sequence) {
        let why = Why::Truncated(head.sequence - last.sequence);
        return Err(Broken { file: files::name(file), line, sequence: last.sequence + 1, why });
    }
    let last = Some(last).filter(|last| last.hash != NOTHING);
    Ok(Verified { entries, first, last })
}

/// Whether the entry follows somewhere. What cannot be read does not.
fn follows(lines: &mut Lines<'_>, chain: &Chain, sequence: u64) -> bool {
    while let Ok(Some(line)) = lines.next() {
        if chain.check(&line.bytes).is_some_and(|link| link.sequence == sequence) {
            return true;
        }
    }
    false
}
