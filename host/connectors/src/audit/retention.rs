//! How long the log is kept, and how files that are older go without a break in the chain.
//!
//! A file goes as a whole, when its last entry is older than what is kept. Before that it is checked: what does not verify
//! stays, so that nobody's changes vanish with age. Then an entry is written that says what goes ([`Removed`]), with the
//! hash of the last entry that does; when it is on the disk, the files are removed, the oldest first. So the log begins
//! with its first entry, or right after what one of its own entries says was removed, or, after a crash in the middle,
//! somewhere before that. Whoever has no key cannot write such an entry, and what is taken out otherwise is found.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{
    AuditError, AuditLog, Event, Kind,
    chain::Link,
    entry::Removed,
    files::{self, Lines},
};

/// So many files go at once at most: each is read before.
const AT_ONCE: usize = 8;

/// A file is followed by another when it is older than such a part of what is kept, so that whole files can go.
const PARTS: u32 = 8;

/// How long entries are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention(Duration);

impl Retention {
    /// Nothing is removed that was written after this.
    fn cutoff(self, now: DateTime<Utc>) -> DateTime<Utc> {
        now.checked_sub_signed(chrono::TimeDelta::from_std(self.0).unwrap_or(chrono::TimeDelta::MAX))
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// Whether a file that begins with an entry of this time is to be followed by another.
    pub(super) fn is_full(self, began: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        (now - began).to_std().is_ok_and(|age| age > self.0 / PARTS)
    }
}

/// The time of a line.
#[derive(Deserialize)]
struct Stamp {
    at: DateTime<Utc>,
}

/// When a line was written; none if it is no entry.
pub(super) fn time(line: &[u8]) -> Option<DateTime<Utc>> {
    serde_json::from_slice(line).ok().map(|Stamp { at }| at)
}

/// A file as it was found.
struct Old {
    number: u64,
    first: (u64, DateTime<Utc>),
    last: (Link, DateTime<Utc>),
}

impl AuditLog {
    /// Removes what is older than this, from now on, whenever the log's end is noted. Without it everything is kept.
    pub(crate) fn keeping(mut self, keep: Option<Duration>) -> Self {
        self.retention = keep.map(Retention);
        let began = files::first_line(&self.folder, self.writer.lock().number).ok().flatten();
        let mut writer = self.writer.lock();
        writer.retention = self.retention;
        writer.began = began.and_then(|line| time(&line));
        drop(writer);
        self
    }

    /// Removes the oldest files if they are older than what is kept, some of them at a time. Reads them: not for a thread
    /// that serves others. Gives what was removed.
    pub(crate) fn trim(&self, now: DateTime<Utc>) -> Result<Option<Removed>, AuditError> {
        let Some(removed) = self.trim_begin(now)? else { return Ok(None) };
        self.trim_end(&removed)?;
        Ok(Some(removed.0))
    }

    /// Writes down what is about to be removed.
    pub(super) fn trim_begin(&self, now: DateTime<Utc>) -> Result<Option<(Removed, Vec<u64>)>, AuditError> {
        let Some(retention) = self.retention else { return Ok(None) };
        let of_folder = |problem| AuditError::io("its folder", &problem);
        let cutoff = retention.cutoff(now);
        let (current, may_go) = {
            let writer = self.writer.lock();
            // The entry about the removal begins another file then.
            (writer.number, writer.began.is_some_and(|began| retention.is_full(began, Utc::now())))
        };
        let mut old: Vec<Old> = Vec::new();
        for number in files::numbers(&self.folder).map_err(of_folder)?.into_iter().take(AT_ONCE) {
            if number > current || (number == current && !may_go) {
                break;
            }
            let last = files::last_line(&self.folder, number).map_err(of_folder)?;
            if last.and_then(|line| time(&line)).is_none_or(|at| at >= cutoff) {
                break;
            }
            let before = old.last().map(|old| &old.last.0);
            match self.whole(number, before).map_err(of_folder)? {
                Some(found) if found.last.1 < cutoff => old.push(found),
                // What is wrong with it was accepted, and nobody has touched it since.
                None if self.accepted_as_it_is(number).map_err(of_folder)? => {
                    match self.as_it_is(number).map_err(of_folder)? {
                        Some(found) if found.last.1 < cutoff => old.push(found),
                        _ => break,
                    }
                }
                _ => {
                    tracing::error!(
                        alarm = "audit",
                        file = files::name(number),
                        "a file of the audit log is old enough to go and is not as it was written: it stays. Look at it \
                         with `airlock audit verify`"
                    );
                    break;
                }
            }
        }
        let (Some(first), Some(last)) = (old.first(), old.last()) else { return Ok(None) };
        let removed = Removed {
            first: first.first.0,
            through: last.last.0.sequence,
            hash: last.last.0.hash.clone(),
            entries: (last.last.0.sequence + 1).saturating_sub(first.first.0),
            from: first.first.1,
            to: last.last.1,
            file: last.number,
        };
        let note = format!(
            "entries {} to {}, written from {} to {}, were removed: they are older than what is kept",
            removed.first,
            removed.through,
            removed.from.format("%Y-%m-%d"),
            removed.to.format("%Y-%m-%d")
        );
        let event = Event {
            kind: Kind::LogTrimmed,
            note: Some(note),
            removed: Some(removed.clone()),
            ..Event::default()
        };
        self.record(event)?;
        // Before anything is gone.
        self.sync()?;
        Ok(Some((removed, old.into_iter().map(|old| old.number).collect())))
    }

    /// Removes the files, the oldest first, so that a crash in between leaves an end of the chain.
    pub(super) fn trim_end(&self, (removed, numbers): &(Removed, Vec<u64>)) -> Result<(), AuditError> {
        for number in numbers {
            // The entry that says so began another file, since this one was old.
            if *number >= self.writer.lock().number {
                break;
            }
            files::remove(&self.folder, *number)
                .map_err(|problem| AuditError::io(files::name(*number), &problem))?;
        }
        tracing::info!(through = removed.through, "old entries of the audit log were removed");
        Ok(())
    }

    /// The file's first and last entry as they stand there, whole or not; none if nothing in it looks like an entry.
    fn as_it_is(&self, number: u64) -> std::io::Result<Option<Old>> {
        let mut lines = Lines::of(&self.folder, vec![number]);
        let mut first = None;
        let mut last = None;
        while let Some(line) = lines.next()? {
            let link = serde_json::from_slice::<Link>(&line.bytes).ok();
            if let Some((link, at)) = link.zip(time(&line.bytes)) {
                first.get_or_insert((link.sequence, at));
                last = Some((link, at));
            }
        }
        Ok(first.zip(last).map(|(first, last)| Old { number, first, last }))
    }

    /// The file's first and last entry, if all its lines are as they were written, one after the other.
    fn whole(&self, number: u64, before: Option<&Link>) -> std::io::Result<Option<Old>> {
        let mut lines = Lines::of(&self.folder, vec![number]);
        let mut first = None;
        let mut last: Option<(Link, DateTime<Utc>)> = None;
        while let Some(line) = lines.next()? {
            let link = self.chain.check(&line.bytes).filter(|_| line.whole);
            let Some((link, at)) = link.zip(time(&line.bytes)) else { return Ok(None) };
            let before = last.as_ref().map(|(link, _)| link).or(before);
            let follows = before
                .is_none_or(|before| before.sequence + 1 == link.sequence && before.hash == link.previous);
            if !follows {
                return Ok(None);
            }
            first.get_or_insert((link.sequence, at));
            last = Some((link, at));
        }
        Ok(first.zip(last).map(|(first, last)| Old { number, first, last }))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use chrono::TimeDelta;
    use zeroize::Zeroizing;

    use super::*;
    use crate::audit::{Filter, MAX_FILE, Verified, Why, chain::Chain, verify};

    const DAY: Duration = Duration::from_secs(86_400);

    fn key() -> Zeroizing<[u8; 32]> {
        Zeroizing::new([7; 32])
    }

    fn open(folder: &Path) -> AuditLog {
        AuditLog::open_with(folder, &key(), 2_000).expect("opens").keeping(Some(DAY))
    }

    /// A log of some files with so many entries.
    fn written(folder: &Path, entries: usize) -> AuditLog {
        let log = open(folder);
        for _ in 0..entries {
            log.record(Event { tool: Some("t".into()), ..Event::default() }).expect("is recorded");
        }
        log
    }

    fn tomorrow() -> DateTime<Utc> {
        Utc::now() + TimeDelta::days(2)
    }

    fn whole(folder: &Path) -> Verified {
        verify(folder, &key(), None).expect("is whole")
    }

    #[test]
    fn what_is_older_goes_in_whole_files_and_the_rest_verifies() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = written(folder.path(), 20);
        let files = files::numbers(folder.path()).expect("reads");
        assert!((3..AT_ONCE).contains(&files.len()), "{files:?}");
        assert_eq!(log.trim(Utc::now()).expect("works"), None, "nothing is old");
        let removed = log.trim(tomorrow()).expect("works").expect("something was old");
        let last = log.head().sequence;
        assert_eq!((removed.first, removed.entries), (1, removed.through));
        assert!(removed.through < last && removed.from <= removed.to);
        let verified = log.verify(&[]).expect("is whole");
        assert_eq!(verified, whole(folder.path()));
        assert_eq!(verified.first.expect("is there").sequence, removed.through + 1);
        assert_eq!(verified.removed, Some(removed.clone()));
        assert_eq!(verified.entries, last - removed.through);
        let entries = log.read(0, 100, &Filter::default()).expect("reads");
        assert_eq!(entries[0].sequence, removed.through + 1);
        let said: Vec<_> = entries.into_iter().filter(|entry| entry.event.kind == Kind::LogTrimmed).collect();
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].event.removed, Some(removed));

        // Again and again, over restarts; numbers go on.
        drop(log);
        for _ in 0..5 {
            let log = written(folder.path(), 15);
            let before = log.head().sequence;
            log.trim(tomorrow()).expect("works").expect("something was old");
            assert_eq!(log.head().sequence, before + 1);
            let verified = log.verify(&[]).expect("is whole");
            assert_eq!(
                verified.removed.expect("is said").through,
                verified.first.expect("is there").sequence - 1
            );
        }
    }

    #[test]
    fn a_crash_at_any_step_of_a_removal_leaves_a_whole_log_and_the_next_one_finishes_it() {
        // After so many of the files were removed; before all, the entry is written.
        for gone in 0..5 {
            let folder = tempfile::tempdir().expect("a folder");
            let log = written(folder.path(), 40);
            let (removed, numbers) = log.trim_begin(tomorrow()).expect("works").expect("something is old");
            let numbers: Vec<u64> = numbers.into_iter().take(gone).collect();
            assert_eq!(numbers.len(), gone);
            log.trim_end(&(removed.clone(), numbers)).expect("works");
            drop(log);
            let verified = whole(folder.path());
            let first = verified.first.expect("is there").sequence;
            assert!(first <= removed.through + 1);
            assert_eq!(verified.removed.is_some(), gone > 0);

            // What is still there of it is as safe as before: a line of it cannot be changed or taken out.
            if first < removed.through {
                let file = files::numbers(folder.path()).expect("reads")[0];
                let path = folder.path().join(files::name(file));
                let text = fs::read_to_string(&path).expect("reads");
                let second = text.split_inclusive('\n').nth(1).expect("a line");
                fs::write(&path, text.replace(second, "")).expect("writes");
                assert!(verify(folder.path(), &key(), None).is_err());
                fs::write(&path, text).expect("writes");
            }

            let log = open(folder.path());
            whole(folder.path());
            log.trim(tomorrow()).expect("works").expect("the rest is old as well");
            let verified = log.verify(&[]).expect("is whole");
            assert!(verified.first.expect("is there").sequence > removed.through);
        }
        // The entry itself was cut short: nothing was removed yet.
        let folder = tempfile::tempdir().expect("a folder");
        let log = written(folder.path(), 20);
        log.trim_begin(tomorrow()).expect("works").expect("something is old");
        drop(log);
        let last = *files::numbers(folder.path()).expect("reads").last().expect("a file");
        let path = folder.path().join(files::name(last));
        let text = fs::read(&path).expect("reads");
        fs::write(&path, &text[..text.len() - 7]).expect("writes");
        let log = open(folder.path());
        assert_eq!(log.verify(&[]).expect("is whole").removed, None);
    }

    #[test]
    fn what_somebody_else_removes_is_found_beside_what_the_retention_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = written(folder.path(), 20);
        let removed = log.trim(tomorrow()).expect("works").expect("something was old");
        for _ in 0..20 {
            log.record(Event::default()).expect("is recorded");
        }
        drop(log);
        let numbers = files::numbers(folder.path()).expect("reads");
        assert!(numbers.len() > 3);
        // Everything before any file that is left, and each file alone.
        let mut takes: Vec<Vec<u64>> = (1..numbers.len()).map(|count| numbers[..count].to_vec()).collect();
        takes.extend(numbers[..numbers.len() - 1].iter().map(|number| vec![*number]));
        for take in takes {
            let copy = tempfile::tempdir().expect("a folder");
            for number in numbers.iter().filter(|number| !take.contains(number)) {
                let name = files::name(*number);
                fs::copy(folder.path().join(&name), copy.path().join(&name)).expect("is copied");
            }
            let broken = verify(copy.path(), &key(), None).expect_err("something is missing");
            assert!(matches!(broken.why, Why::Removed(_)), "{take:?}: {broken}");
        }
        // Somebody without the key says that it was the retention.
        let first = files::first_line(folder.path(), numbers[1]).expect("reads").expect("a line");
        let previous: Link = serde_json::from_slice(&first).expect("a line");
        let forged = Removed { through: previous.sequence - 1, hash: previous.previous, ..removed };
        let event = Event { kind: Kind::LogTrimmed, removed: Some(forged), ..Event::default() };
        let mut line = serde_json::to_vec(&event).expect("JSON");
        Chain::new(&[8; 32]).seal(&mut line);
        let last = folder.path().join(files::name(*numbers.last().expect("a file")));
        let mut text = fs::read(&last).expect("reads");
        text.extend(line);
        fs::write(&last, text).expect("writes");
        fs::remove_file(folder.path().join(files::name(numbers[0]))).expect("is removed");
        assert!(verify(folder.path(), &key(), None).is_err());
    }

    #[test]
    fn what_was_changed_does_not_vanish_with_age() {
        for changed in [1, 2] {
            let folder = tempfile::tempdir().expect("a folder");
            let log = written(folder.path(), 20);
            let path = folder.path().join(files::name(changed));
            let text = fs::read_to_string(&path).expect("reads");
            fs::write(&path, text.replacen("\"t\"", "\"x\"", 1)).expect("writes");
            let removed = log.trim(tomorrow()).expect("works");
            assert_eq!(removed.is_some(), changed == 2, "what lies before it may go");
            assert!(path.exists());
            assert!(matches!(log.verify(&[]).expect_err("is found").why, Why::Changed));
        }
    }

    #[test]
    fn a_file_that_is_old_is_followed_by_another_so_that_it_can_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = AuditLog::open_with(folder.path(), &key(), MAX_FILE).expect("opens").keeping(Some(DAY));
        log.record(Event::default()).expect("is recorded");
        log.record(Event::default()).expect("is recorded");
        assert_eq!(files::numbers(folder.path()).expect("reads"), [1]);
        // As if its first entry were older than an eighth of what is kept.
        log.writer.lock().began = Some(Utc::now() - TimeDelta::hours(4));
        log.record(Event::default()).expect("is recorded");
        assert_eq!(files::numbers(folder.path()).expect("reads"), [1, 2]);
        log.record(Event::default()).expect("is recorded");
        assert_eq!(files::numbers(folder.path()).expect("reads"), [1, 2]);
        // A log in which nothing happens: the entry about the removal begins the next file.
        log.writer.lock().began = Some(Utc::now() - TimeDelta::days(2));
        let removed = log.trim(tomorrow()).expect("works").expect("all is old");
        assert_eq!((removed.through, files::numbers(folder.path()).expect("reads")), (4, vec![3]));
        assert_eq!(log.verify(&[]).expect("is whole").entries, 1);
        drop(log);
        // The time of the file is known again after a restart, and without a retention nothing goes.
        let log = AuditLog::open(folder.path(), &key()).expect("opens").keeping(Some(DAY));
        assert!(log.writer.lock().began.is_some());
        drop(log);
        let log = AuditLog::open(folder.path(), &key()).expect("opens").keeping(None);
        assert_eq!(log.trim(tomorrow()).expect("works"), None);
    }

    #[tokio::test]
    async fn who_follows_reads_on_where_the_log_begins_now() {
        use futures::StreamExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let log = written(folder.path(), 20);
        let followed = log.follow(0, Filter::default()).expect("follows");
        let removed = log.trim(tomorrow()).expect("works").expect("something was old");
        let last = log.head().sequence;
        let seen: Vec<u64> = followed
            .take(usize::try_from(last - removed.through).expect("a few"))
            .map(|entry| entry.expect("reads").sequence)
            .collect()
            .await;
        assert_eq!(seen, (removed.through + 1..=last).collect::<Vec<_>>());
        let all: BTreeSet<u64> =
            log.latest(100, &Filter::default()).expect("reads").iter().map(|entry| entry.sequence).collect();
        assert_eq!(all.first(), Some(&(removed.through + 1)));
    }
}
