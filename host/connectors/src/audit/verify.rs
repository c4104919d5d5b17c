//! Checking the chain: what happened to the log since it was written.
//!
//! The log is read once, from its first line on. The first line that is not the one that was written there ends the
//! check; what follows it is looked at only to say what was done. A log that does not begin with the first entry is whole
//! if one of its own entries says that those before were removed for their age. Where a break was accepted, the log is
//! checked from there on, and what is before is held to what it was then.

use std::{fmt, io, path::Path};

#[cfg(test)]
use zeroize::Zeroizing;

use super::{
    acceptance::Acceptance,
    chain::{Chain, Head, NOTHING},
    entry::Removed,
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
    /// What a retention removed before the first, as an entry of the log says.
    pub(crate) removed: Option<Removed>,
    /// The break after which it is whole, if somebody accepted one.
    pub(crate) accepted: Option<Acceptance>,
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
    /// The file is not what it was when a break was accepted with this entry.
    NotAsAccepted(u64),
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
            Self::NotAsAccepted(entry) => write!(
                f,
                "the file was changed or removed since entry {entry}, which accepts that the log before was not whole"
            ),
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
    let mut removed: Option<Removed> = None;
    // Where the log begins, if that is not the first entry.
    let mut begin: Option<Begin> = None;
    let unreadable = |file: u64, line: u64, sequence: u64, problem: &io::Error| Broken {
        file: files::name(file),
        line,
        sequence,
        why: Why::Unreadable(problem.to_string()),
    };
    let mut numbers = files::numbers(folder).map_err(|problem| unreadable(1, 0, 1, &problem))?;
    let accepted = Acceptance::newest(folder, chain).map_err(|problem| unreadable(1, 0, 1, &problem))?;
    if let Some(since) = &accepted {
        numbers.retain(|number| *number >= since.file);
        last = Head { sequence: since.sequence - 1, hash: since.previous.clone() };
    }
    let mut lines = Lines::of(folder, numbers);
    while last.sequence < until {
        let next = lines.next().map_err(|problem| unreadable(file, line, last.sequence + 1, &problem))?;
        let Some(next) = next else { break };
        (file, line) = (next.file, next.number);
        let link = chain.check(&next.bytes);
        if entries == 0
            && accepted.is_none()
            && next.whole
            && let Some(link) = link.as_ref().filter(|link| link.sequence > 1)
        {
            // Whether it may begin there is seen when all was read.
            begin = Some(Begin { file, line, sequence: link.sequence, previous: link.previous.clone() });
            last = Head { sequence: link.sequence - 1, hash: link.previous.clone() };
        }
        let expected = last.sequence + 1;
        let why = match &link {
            _ if !next.whole => Some(Why::Torn),
            None if follows(&mut lines, chain, expected) => Some(Why::Inserted),
            None => Some(Why::Changed),
            Some(link) if begin.as_ref().is_some_and(|begin| link.sequence < begin.sequence) => {
                let begin = begin.take().unwrap_or_default();
                let (file, line) = (files::name(begin.file), begin.line);
                return Err(Broken { file, line, sequence: link.sequence, why: Why::Reordered });
            }
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
            last = Head { sequence: expected, hash: link.hash.clone() };
            first.get_or_insert_with(|| last.clone());
            entries += 1;
            // The chain is that of whoever has the key: later ones say more.
            removed = link.removed().filter(|removed| removed.through < expected).or(removed);
        }
    }
    if let Some(begin) = &begin
        && let Some(problem) = begin.problem(removed.as_ref())
    {
        return Err(problem);
    }
    if let Some(since) = &accepted {
        let gone = removed.as_ref().map_or(0, |removed| removed.file);
        for (number, _) in since.accepted.files.iter().filter(|(number, _)| *number > gone) {
            let holds = since.holds(folder, *number);
            if !holds.is_ok_and(|holds| holds) {
                let why = Why::NotAsAccepted(since.sequence);
                return Err(Broken { file: files::name(*number), line: 1, sequence: since.sequence, why });
            }
        }
    }
    if let Some(head) = heads.iter().flatten().find(|head| head.sequence > last.sequence) {
        let why = Why::Truncated(head.sequence - last.sequence);
        return Err(Broken { file: files::name(file), line, sequence: last.sequence + 1, why });
    }
    let last = Some(last).filter(|last| last.hash != NOTHING);
    // What an entry says was removed may still be there in part, after a crash.
    let removed = if begin.is_some() || accepted.is_some() { removed } else { None };
    Ok(Verified { entries, first, last, removed, accepted })
}

/// A beginning that is not the first entry.
#[derive(Default)]
struct Begin {
    file: u64,
    line: u64,
    sequence: u64,
    /// The hash of the entry before, which is not there.
    previous: String,
}

impl Begin {
    /// What is wrong with it, when this is what the log says was removed.
    fn problem(&self, removed: Option<&Removed>) -> Option<Broken> {
        let gone = removed.map_or(0, |removed| removed.through);
        let missing = (self.sequence - 1).saturating_sub(gone);
        let why = match removed {
            _ if missing > 0 => Why::Removed(missing),
            Some(removed) if gone == self.sequence - 1 && removed.hash != self.previous => Why::Changed,
            _ => return None,
        };
        Some(Broken { file: files::name(self.file), line: self.line, sequence: gone + 1, why })
    }
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
