//! Reading the log: pages, following it, and taking parts of it elsewhere.

use std::{
    collections::VecDeque,
    io::{self, Write},
};

use futures::{Stream, stream};
use serde::Deserialize;

use super::{AuditError, AuditLog, Entry, Kind, files::Cursor};

/// How many entries a follower reads at once.
const PAGE: usize = 256;

/// Which entries one wants; what is absent does not matter.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Filter {
    /// A connector's id or name.
    pub(crate) connector: Option<String>,
    /// An execution's id.
    pub(crate) execution: Option<String>,
    /// Who did it, or for whom.
    pub(crate) user: Option<String>,
    pub(crate) kind: Option<Kind>,
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        let event = &entry.event;
        let is = |wanted: &Option<String>, fields: &[Option<&String>]| {
            wanted.as_ref().is_none_or(|wanted| fields.contains(&Some(wanted)))
        };
        is(&self.connector, &[event.connector_id.as_ref(), event.connector.as_ref()])
            && is(&self.execution, &[event.execution.as_ref()])
            && is(&self.user, &[Some(&event.actor.user), event.on_behalf_of.as_ref()])
            && self.kind.is_none_or(|kind| kind == event.kind)
    }
}

impl AuditLog {
    /// Up to `limit` entries after the entry `after` (0: from the start), in order. Reads files: not for a thread that
    /// serves others.
    pub(crate) fn read(&self, after: u64, limit: usize, filter: &Filter) -> Result<Vec<Entry>, AuditError> {
        let mut cursor = Cursor::after(&self.folder, after).map_err(of_files)?;
        page(&mut cursor, self.head().sequence, limit, filter)
    }

    /// The last `limit` entries, in order. Reads all files: not for a thread that serves others.
    pub(crate) fn latest(&self, limit: usize, filter: &Filter) -> Result<Vec<Entry>, AuditError> {
        let mut cursor = Cursor::after(&self.folder, 0).map_err(of_files)?;
        let mut last = VecDeque::new();
        let read = cursor.read(self.head().sequence, |_, line| {
            last.extend(serde_json::from_slice::<Entry>(line).ok().filter(|entry| filter.takes(entry)));
            if last.len() > limit {
                last.pop_front();
            }
            Ok(true)
        });
        read.map_err(of_files)?;
        Ok(last.into())
    }

    /// All entries after the entry `after`, and then those that are written, as they are. Ends with the log.
    pub(crate) fn follow(
        &self,
        after: u64,
        filter: Filter,
    ) -> Result<impl Stream<Item = Result<Entry, AuditError>> + Send + use<>, AuditError> {
        let cursor = Cursor::after(&self.folder, after).map_err(of_files)?;
        let start = (cursor, VecDeque::new(), self.written.subscribe(), filter);
        Ok(stream::try_unfold(start, |(mut cursor, mut ready, mut written, filter)| async move {
            loop {
                if let Some(entry) = ready.pop_front() {
                    return Ok(Some((entry, (cursor, ready, written, filter))));
                }
                let (before, until) = (cursor.next(), *written.borrow_and_update());
                if before <= until {
                    let wanted = filter.clone();
                    let read = tokio::task::spawn_blocking(move || {
                        let page = page(&mut cursor, until, PAGE, &wanted);
                        (cursor, page)
                    });
                    let stopped = |error| of_files(io::Error::other(error));
                    let (read, page) = read.await.map_err(stopped)?;
                    cursor = read;
                    ready.extend(page?);
                    // Otherwise the rest is not there, and there is nothing to be had before more is written.
                    if cursor.next() > before {
                        continue;
                    }
                }
                if written.changed().await.is_err() {
                    return Ok(None);
                }
            }
        }))
    }

    /// Writes the lines of the entries `from` to `to` as they are, so that they can be verified elsewhere by somebody with
    /// the key, and says how many there were.
    pub(crate) fn export(&self, mut writer: impl Write, from: u64, to: u64) -> Result<u64, AuditError> {
        let mut count = 0;
        let mut cursor = Cursor::after(&self.folder, from.saturating_sub(1)).map_err(of_files)?;
        let written = cursor.read(to.min(self.head().sequence), |sequence, line| {
            if sequence <= to {
                writer.write_all(line)?;
                writer.write_all(b"\n")?;
                count += 1;
            }
            Ok(true)
        });
        written.and_then(|()| writer.flush()).map_err(of_files)?;
        Ok(count)
    }
}

fn of_files(problem: io::Error) -> AuditError {
    AuditError::io("its files", &problem)
}

fn page(cursor: &mut Cursor, until: u64, limit: usize, filter: &Filter) -> Result<Vec<Entry>, AuditError> {
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    let read = cursor.read(until, |_, line| {
        // What is no entry was put there by somebody else: `verify` says so.
        found.extend(serde_json::from_slice::<Entry>(line).ok().filter(|entry| filter.takes(entry)));
        Ok(found.len() < limit)
    });
    read.map_err(of_files)?;
    Ok(found)
}
