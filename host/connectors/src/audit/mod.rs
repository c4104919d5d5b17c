//! The audit log: who called which tool with which credential, and who changed what.
//!
//! Promises: an entry is with the operating system when [`AuditLog::record`] returns, so it survives the death of the
//! process, and on the disk within about [`SYNC_EVERY`]; entries are numbered without a gap and chained by keyed hashes,
//! so that [`AuditLog::verify`] finds what was changed, taken out, moved or put in by somebody without the key, and, against a
//! [`Head`] that is kept elsewhere, what was cut off; when nothing can be written, `record` fails, so that calls fail
//! rather than go unaudited; no entry holds a secret; what a retention removes is said by an entry, so that the chain still
//! shows what anybody else takes out. A log that is not whole is so until somebody accepts it with an entry that says so.
//!
//! The key has to stay the same as long as the folder is used. One process at a time writes to a folder; any number may
//! read it.
//!
//! It does not know what the entries mean, and does not scrub: what is handed in has been scrubbed.

mod acceptance;
mod chain;
mod entry;
mod files;
mod read;
mod retention;
mod sync;
mod verify;

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use airlock_engine::records::{Change, Records, RecordsError};
use chrono::{DateTime, SubsecRound as _, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use zeroize::Zeroizing;

pub use self::entry::AUDIT_KINDS;
#[cfg(test)]
pub(crate) use self::verify::{Why, verify};
use self::{chain::Chain, retention::Retention, sync::Syncer};
pub(crate) use self::{
    chain::Head,
    entry::{CredentialVersion, Entry, Event, Kind, Outcome},
    read::Filter,
    verify::{Broken, Verified},
};
use crate::ConnectorsError;

/// A file that would get longer than this is followed by another.
const MAX_FILE: u64 = 64 << 20;

/// What was written goes to the disk at most this often.
const SYNC_EVERY: Duration = Duration::from_millis(100);

/// While nothing can be written, [`AuditLog::is_writable`] tries at most this often.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Where the head is kept: one record, under the key `head`.
const HEAD_TABLE: &str = "audit_head";
const HEAD_KEY: &str = "head";

/// The log cannot be written or read.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AuditError {
    /// The operating system refuses: the disk is full, the folder is not ours.
    #[error(
        "the audit log cannot be used ({file}: {problem}): calls are refused until it can be written again"
    )]
    Io {
        /// The name of the file, or of the folder.
        file: String,
        /// What the operating system says.
        problem: String,
    },
    /// The last entry is not one of ours.
    #[error(
        "the last entry of the audit log ({file}) does not have the hash it should: it was changed, or the log has another \
         key. Look at it with `airlock audit verify`, then move the folder away to begin a new log"
    )]
    Damaged {
        /// The name of the file.
        file: String,
    },
}

impl AuditError {
    fn io(file: impl Into<String>, problem: &io::Error) -> Self {
        Self::Io { file: file.into(), problem: problem.to_string() }
    }
}

impl From<AuditError> for ConnectorsError {
    fn from(error: AuditError) -> Self {
        Self::Store(error.to_string())
    }
}

/// The log, open for writing.
pub(crate) struct AuditLog {
    folder: PathBuf,
    chain: Chain,
    writer: Arc<Mutex<Writer>>,
    syncer: Syncer,
    /// The sequence of the last entry, for those who follow.
    written: watch::Sender<u64>,
    max_file: u64,
    retention: Option<Retention>,
    /// Nothing is removed while the log is checked.
    still: Mutex<()>,
    /// Why the log is not whole, found when it was compared with what was kept of it.
    broken: Mutex<Option<String>>,
}

/// What is kept of the log in the database.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    head: Head,
    /// What was found once stays known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

/// The end of the log.
struct Writer {
    file: Arc<File>,
    number: u64,
    /// Up to here the file is whole.
    length: u64,
    head: Head,
    /// When the file's first entry was written.
    began: Option<DateTime<Utc>>,
    /// What is written next begins another file.
    begins_file: bool,
    retention: Option<Retention>,
    /// Nothing could be written the last time.
    failing: Option<Failing>,
    /// Used again for each line.
    line: Vec<u8>,
}

struct Failing {
    since: DateTime<Utc>,
    tried: Instant,
    /// Entries that were refused.
    refused: u64,
    problem: AuditError,
}

/// An event's members as they stand in an entry, `"kind":…,…`: written before its place in the log is known, so that the
/// log is held for as short a time as possible.
struct Members(Vec<u8>);

impl Members {
    fn of(event: &Event) -> Result<Self, AuditError> {
        let text = serde_json::to_vec(event).map_err(|error| AuditError::io("an entry", &error.into()))?;
        // An object with members.
        Ok(Self(text[1..text.len() - 1].to_vec()))
    }

    /// The whole entry up to its hash.
    fn entry(&self, line: &mut Vec<u8>, sequence: u64, at: DateTime<Utc>, previous: &str) -> io::Result<()> {
        write!(line, r#"{{"sequence":{sequence},"at":"#)?;
        serde_json::to_writer(&mut *line, &at)?;
        line.push(b',');
        line.extend_from_slice(&self.0);
        write!(line, r#","previous":"{previous}"}}"#)
    }
}

impl AuditLog {
    /// Opens the log in a folder, which is made if there is none. A last line that is not whole, as a crash of the machine
    /// may leave it, is cut off; the first new entry says so.
    pub(crate) fn open(folder: &Path, key: &Zeroizing<[u8; 32]>) -> Result<Self, AuditError> {
        Self::open_with(folder, key, MAX_FILE)
    }

    fn open_with(folder: &Path, key: &Zeroizing<[u8; 32]>, max_file: u64) -> Result<Self, AuditError> {
        let of_folder = |problem: io::Error| AuditError::io("its folder", &problem);
        files::make_folder(folder).map_err(of_folder)?;
        let numbers = files::numbers(folder).map_err(of_folder)?;
        let number = numbers.last().copied().unwrap_or(1);
        let of_file = |problem: io::Error| AuditError::io(files::name(number), &problem);
        let file = files::open_to_write(folder, number).map_err(of_file)?;
        let (length, mut last) = files::end(folder, number).map_err(of_file)?;
        if last.is_none() && numbers.len() > 1 {
            // The file was made and nothing was written to it: the chain goes on from the one before.
            let before = numbers[numbers.len() - 2];
            last = files::end(folder, before)
                .map_err(|problem| AuditError::io(files::name(before), &problem))?
                .1;
        }
        let chain = Chain::new(key);
        let head = match last {
            None => Head::empty(),
            Some(line) => match chain.check(&line) {
                Some(link) => Head { sequence: link.sequence, hash: link.hash },
                None => return Err(AuditError::Damaged { file: files::name(number) }),
            },
        };
        let torn = file.metadata().map_err(of_file)?.len() - length;
        if torn > 0 {
            file.set_len(length).map_err(of_file)?;
        }
        let written = watch::Sender::new(head.sequence);
        let writer = Writer {
            file: Arc::new(file),
            number,
            length,
            head,
            began: None,
            begins_file: false,
            retention: None,
            failing: None,
            line: Vec::with_capacity(4096),
        };
        let writer = Arc::new(Mutex::new(writer));
        let syncer = Syncer::start(folder, &writer).map_err(of_folder)?;
        let (retention, still, broken) = (None, Mutex::default(), Mutex::default());
        let log = Self {
            folder: folder.into(),
            chain,
            writer,
            syncer,
            written,
            max_file,
            retention,
            still,
            broken,
        };
        if torn > 0 {
            tracing::warn!(bytes = torn, "a line of the audit log that was not whole was cut off");
            let note =
                format!("a line that was not whole was cut off: {torn} bytes of {}", files::name(number));
            log.record(Event { kind: Kind::LogRepaired, note: Some(note), ..Event::default() })?;
        }
        Ok(log)
    }

    /// Writes an entry and gives its sequence. A call whose entry cannot be written must fail.
    pub(crate) fn record(&self, event: Event) -> Result<u64, AuditError> {
        let members = Members::of(&event.clean())?;
        let mut writer = self.writer.lock();
        let written = match writer.failing {
            None => self.append(&mut writer, &members),
            Some(_) => self.resume(&mut writer).and_then(|()| self.append(&mut writer, &members)),
        };
        if written.is_err() {
            writer.failing.iter_mut().for_each(|failing| failing.refused += 1);
        }
        written
    }

    /// Writes an act down.
    pub(crate) fn note(&self, event: Event) -> Result<(), ConnectorsError> {
        Ok(self.record(event).map(drop)?)
    }

    /// Whether entries can be written; asked before a call is made. While they cannot, it is tried anew once a second.
    pub(crate) fn is_writable(&self) -> Result<(), AuditError> {
        let mut writer = self.writer.lock();
        match &writer.failing {
            None => Ok(()),
            Some(failing) if failing.tried.elapsed() < TRY_EVERY => Err(failing.problem.clone()),
            Some(_) => self.resume(&mut writer),
        }
    }

    /// After a time in which nothing could be written: tries with an entry that says so, and which is on the disk before
    /// anything else is written.
    fn resume(&self, writer: &mut Writer) -> Result<(), AuditError> {
        let Some(Failing { since, refused, .. }) = &writer.failing else { return Ok(()) };
        let note =
            format!("nothing could be written since {}: {refused} entries were refused", since.to_rfc3339());
        let event = Event { kind: Kind::LogResumed, note: Some(note), ..Event::default() };
        self.append(writer, &Members::of(&event)?)?;
        let synced = writer.file.sync_data();
        if let Err(problem) = synced {
            return Err(writer.fails(&problem));
        }
        writer.failing = None;
        tracing::warn!("the audit log can be written again");
        Ok(())
    }

    /// One write at once, so that a process that dies leaves whole lines.
    fn append(&self, writer: &mut Writer, members: &Members) -> Result<u64, AuditError> {
        let sequence = writer.head.sequence + 1;
        let at = Utc::now().trunc_subsecs(6);
        let mut line = std::mem::take(&mut writer.line);
        line.clear();
        let written = members.entry(&mut line, sequence, at, &writer.head.hash).and_then(|()| {
            let hash = self.chain.seal(&mut line);
            writer.write(&line, at, &self.folder, self.max_file)?;
            Ok(hash)
        });
        writer.line = line;
        let hash = written.map_err(|problem| writer.fails(&problem))?;
        writer.head = Head { sequence, hash };
        self.written.send_replace(sequence);
        self.syncer.wake();
        Ok(sequence)
    }

    /// How far the log goes.
    pub(crate) fn head(&self) -> Head {
        self.writer.lock().head.clone()
    }

    /// Waits until everything that was recorded is on the disk. Called at shutdown.
    pub(crate) fn sync(&self) -> Result<(), AuditError> {
        self.syncer.sync_now().map_err(|problem| self.writer.lock().fails(&problem))
    }

    /// Keeps the head as a record, away from the files, so that cutting off the end of the log is noticed. Called every so
    /// often and at shutdown. What is kept is on the disk before, so that a crash is not taken for an attack. Also removes
    /// what is older than the operator keeps it.
    pub(crate) fn keep_head(&self, records: &dyn Records) -> Result<(), ConnectorsError> {
        let head = self.head();
        self.sync()?;
        let broken = self.broken.lock().clone();
        let is_broken = broken.is_some();
        let value = serde_json::to_vec(&Kept { head, broken })?;
        records.write(&[Change::Put { table: HEAD_TABLE, key: HEAD_KEY.into(), value }])?;
        // What is left of a log that is not whole is evidence.
        if !is_broken && let Some(_still) = self.still.try_lock() {
            self.trim(Utc::now())?;
        }
        Ok(())
    }

    /// Compares the log with what was kept of it in the database, before anything is written to it: a log that was put
    /// back to an earlier state would go on as if nothing had happened. What is found is written down, here and there.
    pub(crate) fn compare(&self, records: &dyn Records) -> Result<(), ConnectorsError> {
        let kept: Option<Kept> = match records.get(HEAD_TABLE, HEAD_KEY) {
            Ok(kept) => kept.map(|kept| serde_json::from_slice(&kept)).transpose()?,
            Err(RecordsError::Store(problem)) => {
                return self.is_broken(format!("where the log ended cannot be known: {problem}"));
            }
            Err(error) => return Err(error.into()),
        };
        let Some(Kept { head, broken }) = kept else { return Ok(()) };
        if let Some(broken) = broken {
            *self.broken.lock() = Some(broken);
            return Ok(());
        }
        let now = self.head();
        if now.sequence < head.sequence {
            return self.is_broken(format!(
                "the log ended at entry {} and ends at entry {} now: its end was cut off, or an old log was put in its place",
                head.sequence, now.sequence
            ));
        }
        let entry = self.read(head.sequence.saturating_sub(1), 1, &Filter::default())?;
        // One that was removed for its age is not there.
        match entry.first().filter(|entry| entry.sequence == head.sequence) {
            Some(entry) if entry.hash != head.hash => self.is_broken(format!(
                "entry {} is not the one that was there: another log was put in its place",
                head.sequence
            )),
            _ => Ok(()),
        }
    }

    fn is_broken(&self, why: String) -> Result<(), ConnectorsError> {
        tracing::error!(alarm = "audit", why, "the audit log is not whole");
        let noticed = format!("{why} (noticed at {})", Utc::now().trunc_subsecs(0).to_rfc3339());
        *self.broken.lock() = Some(noticed);
        self.note(Event {
            kind: Kind::LogRepaired,
            note: Some(format!("NOT WHOLE: {why}")),
            ..Event::default()
        })
    }

    /// Why the log is not whole, as far as that is known without reading it.
    pub(crate) fn broken(&self) -> Option<String> {
        self.broken.lock().clone()
    }

    /// The head that was kept last, for [`AuditLog::verify`].
    pub(crate) fn kept_head(records: &dyn Records) -> Result<Option<Head>, ConnectorsError> {
        let kept = records.get(HEAD_TABLE, HEAD_KEY)?;
        Ok(kept.map(|kept| serde_json::from_slice(&kept)).transpose()?)
    }

    /// Checks the whole log up to now, as [`AuditLog::verify`] does, while it is written. Each of the heads must be that of
    /// an entry.
    pub(crate) fn verify(&self, kept: &[Option<&Head>]) -> Result<Verified, Broken> {
        let _still = self.still.lock();
        let now = self.head();
        let mut heads = vec![Some(&now)];
        heads.extend(kept);
        verify::check(&self.folder, &self.chain, &heads, now.sequence)
    }
}

impl Writer {
    fn write(&mut self, line: &[u8], at: DateTime<Utc>, folder: &Path, max_file: u64) -> io::Result<()> {
        if self.failing.is_some() {
            // What was written in part is not part of the log.
            self.file.set_len(self.length)?;
        }
        let is_old =
            self.retention.zip(self.began).is_some_and(|(retention, began)| retention.is_full(began, at));
        if self.length > 0 && (self.begins_file || is_old || self.length + line.len() as u64 > max_file) {
            // Once in a long while: otherwise a crash of the machine could leave a new file and an old one without its end.
            self.file.sync_data()?;
            self.file = Arc::new(files::open_to_write(folder, self.number + 1)?);
            (self.number, self.length, self.began) = (self.number + 1, 0, None);
        }
        (&*self.file).write_all(line)?;
        self.begins_file = false;
        self.length += line.len() as u64;
        self.began.get_or_insert(at);
        Ok(())
    }

    /// Remembers that nothing can be written.
    fn fails(&mut self, problem: &io::Error) -> AuditError {
        let problem = AuditError::io(files::name(self.number), problem);
        let before = self.failing.take();
        if before.is_none() {
            tracing::error!(alarm = "audit", error = %problem, "the audit log cannot be written");
        }
        let (since, refused) =
            before.map_or_else(|| (Utc::now(), 0), |before| (before.since, before.refused));
        self.failing = Some(Failing { since, tried: Instant::now(), refused, problem: problem.clone() });
        problem
    }
}

#[cfg(test)]
mod tests;
