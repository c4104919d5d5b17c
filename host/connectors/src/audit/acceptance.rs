//! A log that is not whole stays so, until somebody who may accepts it: with an entry that says who accepted what, and that
//! begins a file. From there on the log is checked as if it began there. The files before are evidence: the entry has their
//! digests as they were then, so that nobody goes on changing them under the cover of what was accepted.

use std::{io, path::Path};

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{
    AuditError, AuditLog, Event, Kind,
    chain::{Chain, Link},
    entry::Accepted,
    files,
};

/// So many of the files before, the latest ones, are held to what they were.
const MOST_FILES: usize = 1_000;

/// A break that was accepted, as the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acceptance {
    /// The file that begins with the entry.
    pub(super) file: u64,
    pub(crate) sequence: u64,
    /// The hash of the entry before, which may be among those that are not whole.
    pub(super) previous: String,
    pub(crate) at: DateTime<Utc>,
    /// Who accepted it.
    pub(crate) by: String,
    /// Why.
    pub(crate) reason: String,
    pub(crate) accepted: Accepted,
}

/// What is said of an acceptance beside its links.
#[derive(Deserialize)]
struct Said {
    at: DateTime<Utc>,
    actor: Who,
    #[serde(default)]
    note: String,
}

#[derive(Deserialize)]
struct Who {
    user: String,
}

impl Acceptance {
    /// The newest one of a log, if there is one. Without the key nobody can write another.
    pub(super) fn newest(folder: &Path, chain: &Chain) -> io::Result<Option<Self>> {
        for file in files::numbers(folder)?.into_iter().rev() {
            let Some(line) = files::first_line(folder, file)? else { continue };
            let (Some(link), Ok(said)) = (chain.check(&line), serde_json::from_slice::<Said>(&line)) else {
                continue;
            };
            let Link { sequence, previous, .. } = &link;
            let (sequence, previous) = (*sequence, previous.clone());
            if let Some(accepted) = link.accepted() {
                let Said { at, actor: Who { user: by }, note: reason } = said;
                return Ok(Some(Self { file, sequence, previous, at, by, reason, accepted }));
            }
        }
        Ok(None)
    }

    /// Whether a file is as it was when this was accepted.
    pub(super) fn holds(&self, folder: &Path, file: u64) -> io::Result<bool> {
        let known = self.accepted.files.iter().find(|(number, _)| *number == file);
        Ok(match known {
            Some((_, digest)) => files::digest(folder, file)? == *digest,
            None => false,
        })
    }
}

impl AuditLog {
    /// Accepts that the log is not whole, with an entry that says so: `event` has who did it, and why. Reads all files: not
    /// for a thread that serves others.
    pub(crate) fn accept(&self, event: Event, problem: &str) -> Result<u64, AuditError> {
        let of_files = |problem: io::Error| AuditError::io("its files", &problem);
        // Nothing is removed meanwhile.
        let _still = self.still.lock();
        let current = self.writer.lock().number;
        let mut digests = Vec::new();
        for number in files::numbers(&self.folder).map_err(of_files)?.into_iter().filter(|it| *it < current) {
            digests.push((number, files::digest(&self.folder, number).map_err(of_files)?));
        }
        // From here on nothing is written but the entry.
        let mut writer = self.writer.lock();
        if writer.failing.is_some() {
            self.resume(&mut writer)?;
        }
        let whole = if writer.length > 0 { writer.number + 1 } else { writer.number };
        for number in current..whole {
            digests.push((number, files::digest(&self.folder, number).map_err(of_files)?));
        }
        let files = digests.split_off(digests.len().saturating_sub(MOST_FILES));
        let accepted = Some(Accepted { problem: problem.to_owned(), files });
        let event = Event { kind: Kind::LogAccepted, accepted, ..event }.clean();
        writer.begins_file = true;
        let sequence = self.append(&mut writer, &event)?;
        drop(writer);
        self.sync()?;
        *self.broken.lock() = None;
        tracing::warn!(alarm = "audit", problem, "it was accepted that the audit log is not whole");
        Ok(sequence)
    }

    /// The newest acceptance, if a file is as it was then.
    pub(super) fn accepted_as_it_is(&self, file: u64) -> io::Result<bool> {
        let newest = Acceptance::newest(&self.folder, &self.chain)?;
        newest.map_or(Ok(false), |newest| newest.holds(&self.folder, file))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use chrono::TimeDelta;
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        audit::{Filter, Verified, Why, verify},
        control::memory::Memory,
    };

    fn key() -> Zeroizing<[u8; 32]> {
        Zeroizing::new([7; 32])
    }

    /// Some entries fill a file.
    fn open(folder: &Path) -> AuditLog {
        AuditLog::open_with(folder, &key(), 2_000).expect("opens")
    }

    fn record(log: &AuditLog, entries: usize) {
        for _ in 0..entries {
            log.record(Event { tool: Some("t".into()), ..Event::default() }).expect("is recorded");
        }
    }

    fn whole(folder: &Path) -> Verified {
        verify(folder, &key(), None).expect("is whole")
    }

    fn lines(folder: &Path, file: u64) -> Vec<String> {
        let text = fs::read_to_string(folder.join(files::name(file))).expect("reads");
        text.lines().map(str::to_owned).collect()
    }

    fn put(folder: &Path, file: u64, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(folder.join(files::name(file)), text).expect("writes");
    }

    /// Everything that somebody without the key does to one line of a file.
    fn tampered(lines: &[String], at: usize) -> Vec<Vec<String>> {
        let mut changed = lines.to_vec();
        changed[at] = changed[at].replace("\"tool\":\"t\"", "\"tool\":\"u\"").replace("\"kind\"", "\"kinD\"");
        let mut removed = lines.to_vec();
        removed.remove(at);
        let mut repeated = lines.to_vec();
        repeated.insert(at, lines[at].clone());
        let mut moved = lines.to_vec();
        moved.rotate_left(at + 1);
        [changed, removed, repeated, moved].into_iter().filter(|other| other != lines).collect()
    }

    fn accept(log: &AuditLog) -> u64 {
        let problem = log.verify(&[]).expect_err("is not whole").to_string();
        let event = Event { note: Some("a disk was restored".into()), ..Event::default() };
        log.accept(event, &problem).expect("is accepted")
    }

    #[test]
    fn a_break_that_was_accepted_is_told_and_whatever_is_changed_afterwards_is_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let log = open(folder);
        record(&log, 14);
        let mut second = lines(folder, 2);
        second[1] = second[1].replace("\"t\"", "\"u\"");
        put(folder, 2, &second);
        let sequence = accept(&log);
        record(&log, 9);
        drop(log);
        let log = open(folder);
        record(&log, 1);
        let (verified, last) = (whole(folder), log.head());
        let accepted = verified.accepted.clone().expect("it was accepted");
        assert_eq!((accepted.sequence, accepted.reason.as_str()), (sequence, "a disk was restored"));
        assert!(accepted.accepted.problem.contains("audit-00000002.jsonl, line 2: the line was changed"));
        assert_eq!(verified.first.as_ref().map(|first| first.sequence), Some(sequence));
        assert_eq!(
            (verified.entries, verified.last.clone()),
            (last.sequence - sequence + 1, Some(last.clone()))
        );
        assert_eq!(log.verify(&[]), Ok(verified.clone()), "also while it is written");
        let kept = log.read(0, 100, &Filter::default()).expect("reads");
        assert!(kept.iter().any(|entry| entry.event.kind == Kind::LogAccepted));

        // Whatever is done to any line, before or after, is found, and put back it is whole again.
        let numbers = files::numbers(folder).expect("reads");
        assert!(numbers.len() >= 5, "{numbers:?}");
        let mut tried = 0;
        for file in numbers {
            let lines = lines(folder, file);
            for at in 0..lines.len() {
                for other in tampered(&lines, at) {
                    put(folder, file, &other);
                    let found = verify(folder, &key(), Some(&last));
                    assert!(found.is_err(), "file {file}, line {at}: {found:?}");
                    tried += 1;
                }
            }
            put(folder, file, &lines);
        }
        assert!(tried > 60, "{tried}");
        assert_eq!(whole(folder), verified);
        fs::remove_file(folder.join(files::name(1))).expect("is removed");
        let why = verify(folder, &key(), None).expect_err("a file is gone").why;
        assert_eq!(why, Why::NotAsAccepted(sequence));
    }

    #[test]
    fn a_second_break_is_accepted_with_all_that_was_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let log = open(folder);
        let mut sequences = Vec::new();
        for _ in 0..2 {
            record(&log, 6);
            let last = *files::numbers(folder).expect("reads").last().expect("a file");
            let mut changed = lines(folder, last - 1);
            changed.remove(1);
            put(folder, last - 1, &changed);
            sequences.push(accept(&log));
        }
        let accepted = whole(folder).accepted.expect("it was accepted");
        assert_eq!(accepted.sequence, sequences[1]);
        assert!(sequences[0] < sequences[1] && accepted.accepted.files.len() > 2);
        // The newest one is taken out: the one before does not stand for it.
        let last = *files::numbers(folder).expect("reads").last().expect("a file");
        fs::remove_file(folder.join(files::name(last))).expect("is removed");
        assert!(verify(folder, &key(), None).is_err());
    }

    #[test]
    fn nobody_accepts_without_the_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, other) = (folder.path().join("own"), folder.path().join("other"));
        let log = open(&own);
        record(&log, 3);
        // A log of somebody else's, with an acceptance of its own.
        let forged = AuditLog::open_with(&other, &Zeroizing::new([8; 32]), 2_000).expect("opens");
        forged.accept(Event::default(), "nothing").expect("is accepted");
        let mut changed = lines(&own, 1);
        changed[1] = changed[1].replace("\"t\"", "\"u\"");
        put(&own, 1, &changed);
        fs::copy(other.join(files::name(1)), own.join(files::name(2))).expect("is copied");
        assert_eq!(verify(&own, &key(), None).expect_err("is not whole").why, Why::Changed);
    }

    #[test]
    fn what_was_noticed_at_a_start_is_known_until_it_is_accepted() {
        let folder = tempfile::tempdir().expect("a folder");
        let records = Memory::default();
        let log = open(folder.path());
        record(&log, 5);
        log.keep_head(&records).expect("is kept");
        drop(log);
        let cut = lines(folder.path(), 1)[..3].to_vec();
        put(folder.path(), 1, &cut);
        let log = open(folder.path());
        log.compare(&records).expect("is compared");
        let problem = log.broken().expect("its end was cut off");
        log.keep_head(&records).expect("is kept");
        log.accept(Event::default(), &problem).expect("is accepted");
        log.keep_head(&records).expect("is kept");
        drop(log);
        let log = open(folder.path());
        log.compare(&records).expect("is compared");
        assert_eq!(log.broken(), None);
        let kept = AuditLog::kept_head(&records).expect("is read");
        assert!(log.verify(&[kept.as_ref()]).expect("is whole").accepted.is_some());
    }

    #[test]
    fn files_that_were_accepted_go_with_age_unless_somebody_touched_them_since() {
        for is_touched in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            let folder = folder.path();
            let log = open(folder).keeping(Some(std::time::Duration::from_secs(86_400)));
            record(&log, 14);
            let mut changed = lines(folder, 1);
            changed[1] = changed[1].replace("\"t\"", "\"u\"");
            put(folder, 1, &changed);
            let later = Utc::now() + TimeDelta::days(2);
            assert_eq!(log.trim(later).expect("works"), None, "what is not whole stays");
            let sequence = accept(&log);
            record(&log, 14);
            if is_touched {
                changed[1] = changed[1].replace("\"u\"", "\"v\"");
                put(folder, 1, &changed);
                assert_eq!(log.trim(later).expect("works"), None);
                assert_eq!(log.verify(&[]).expect_err("is touched").why, Why::NotAsAccepted(sequence));
                continue;
            }
            let removed = log.trim(later).expect("works").expect("something was old");
            assert!(removed.first == 1 && removed.through > sequence, "{removed:?}");
            let verified = log.verify(&[]).expect("is whole");
            assert_eq!(verified.removed, Some(removed));
            assert_eq!(verified.accepted, None, "the entry went with age as well");
        }
    }
}
