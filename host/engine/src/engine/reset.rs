//! Starting an execution again from an earlier event of its history.

use std::{collections::BTreeMap, sync::Arc};

use async_recursion::async_recursion as boxed;

use super::{
    Address, ControlError, Engine,
    cell::{Cell, Live, Message},
    now_ms,
    succession::Successor,
};
use crate::{
    Digest, RunId,
    guests::GuestError,
    history::{Command, End, Job, Record, SearchValue, StoredRecord},
    store::{Append, ExecutionRow, Start, Status, StoreError, Wake},
};

/// From where to start again, and what to take along.
#[derive(Debug, Clone)]
pub struct ResetRequest {
    /// Number of an event in the history, from 1. What happened up to it is kept, itself included; what the workflow
    /// wanted from there on is decided anew.
    pub event: u64,
    /// Why.
    pub reason: String,
    /// Leave out signals that came after the event.
    pub exclude_signals: bool,
    /// Leave out updates that came after the event.
    pub exclude_updates: bool,
    /// Go on with other code, which has to repeat what is kept. Absent: the code of the run; if that is not there any
    /// more, the code that serves the workflow now.
    pub digest: Option<Digest>,
}

impl Engine {
    /// Ends the current run, if it has not ended, and starts another one with its history up to an event.
    pub async fn reset(
        &self,
        whom: impl Into<Address<'_>>,
        request: ResetRequest,
    ) -> Result<(), ControlError> {
        self.begin_again(whom.into(), request).await
    }

    #[boxed]
    async fn begin_again<'a>(&self, whom: Address<'a>, request: ResetRequest) -> Result<(), ControlError>
    where
        'a: 'async_recursion,
    {
        let row = self.find(whom)?;
        if row.status == Status::Running {
            let cell = self.cell(&row);
            let (reply, done) = tokio::sync::oneshot::channel();
            cell.send(Message::Reset { request: request.clone(), reply });
            self.drive(&cell).await;
            if let Ok(outcome) = done.await {
                return outcome;
            }
        }
        // It has ended, before or meanwhile.
        let successor = self.earlier(&row, &request).await?;
        let Successor { row: next, wake, append } = successor;
        self.store.append(*append).await?;
        self.take_over(&next, wake);
        Ok(())
    }

    pub(super) async fn reset_run(
        &self,
        cell: &Arc<Cell>,
        live: &mut Box<Live>,
        request: &ResetRequest,
    ) -> Result<(), ControlError> {
        // The row is of before an upgrade.
        let row = ExecutionRow { digest: live.machine.digest(), ..cell.row.clone() };
        let successor = self.earlier(&row, request).await?;
        let now = now_ms();
        let reason = format!("reset to event {}: {}", request.event, request.reason);
        live.machine.give_way(reason, successor.row.run_id, now);
        Ok(self.commit(cell, live, None, Some(successor)).await?)
    }

    /// A run that begins with the history of another one up to an event.
    async fn earlier(&self, row: &ExecutionRow, request: &ResetRequest) -> Result<Successor, ControlError> {
        let run_id = RunId::generate();
        let now = now_ms();
        let mut cut = Cut::new(request);
        let mut index = 0;
        loop {
            let page = self.history(row.key, index, 1024)?;
            if page.is_empty() {
                break;
            }
            index += page.len() as u32;
            for stored in page {
                cut.take(stored);
            }
        }
        if request.event == 0 || cut.events < request.event {
            return Err(ControlError::NoSuchEvent { event: request.event, events: cut.events });
        }
        let Some(StoredRecord { at, record: Record::Started(started), .. }) = cut.kept.first().cloned()
        else {
            return Err(ControlError::Store(StoreError::Failed(
                "the history does not begin with a start".into(),
            )));
        };
        let mut first = *started;
        // The time of an execution that is started again begins again.
        first.first_started_at = now;
        first.not_before = at;
        first.continued_from = Some(row.run_id);
        let mut keys: BTreeMap<String, Option<String>> = first.search_keys.iter().cloned().collect();
        cut.kept.iter().for_each(|stored| change_keys(&mut keys, &stored.record));
        let mut records = Vec::with_capacity(cut.kept.len() + 1);
        records.push(Record::Copied { at, record: Box::new(Record::Started(Box::new(first))) });
        for StoredRecord { at, record, .. } in cut.kept.into_iter().skip(1) {
            records.push(Record::Copied { at, record: Box::new(record) });
        }
        if !cut.later.is_empty() {
            records.push(Record::Received { jobs: cut.later });
        }
        let next = ExecutionRow {
            key: self.store.allocate(),
            run_id,
            digest: self.code_for(row, request.digest).await?,
            status: Status::Running,
            started_at: now,
            ended_at: None,
            ..row.clone()
        };
        let search_keys =
            keys.into_iter().map(|(name, value)| (name, value.map_or(SearchValue::Null, SearchValue::Text)));
        let append = Append {
            start: Some(Box::new(Start { row: next.clone(), replaces: Some(row.key) })),
            wake: Some(Wake::Now),
            search_keys: search_keys.collect(),
            ..Append::records(next.key, 0, now, records)
        };
        Ok(Successor { row: next, wake: Wake::Now, append: Box::new(append) })
    }
}

impl Engine {
    /// The code that a run is repeated with.
    pub(super) async fn code_for(
        &self,
        row: &ExecutionRow,
        wanted: Option<Digest>,
    ) -> Result<Digest, ControlError> {
        let digest = wanted.unwrap_or(row.digest);
        match self.guests.definition(&digest).await {
            Ok(definition) if definition.workflow(&row.workflow).is_some() => Ok(digest),
            Ok(_) => Err(ControlError::WrongCode(format!("it has no workflow '{}'", row.workflow))),
            Err(GuestError::Missing(_)) if wanted.is_none() => match self.guests.serving(&row.workflow) {
                Some(serving) => Ok(serving),
                None => Err(ControlError::WrongCode(GuestError::Missing(digest).to_string())),
            },
            Err(error) => Err(ControlError::WrongCode(error.to_string())),
        }
    }
}

/// Search keys after a record.
fn change_keys(keys: &mut BTreeMap<String, Option<String>>, record: &Record) {
    let Record::Activation { commands, .. } = record else { return };
    for command in commands {
        let Command::UpsertSearchKeys { keys: changes } = command else { continue };
        for (name, value) in changes {
            match value {
                SearchValue::Removed => drop(keys.remove(name)),
                SearchValue::Null => drop(keys.insert(name.clone(), None)),
                SearchValue::Text(text) => drop(keys.insert(name.clone(), Some(text.clone()))),
            }
        }
    }
}

/// Cuts a history at an event.
struct Cut<'a> {
    request: &'a ResetRequest,
    /// Events seen so far.
    events: u64,
    kept: Vec<StoredRecord>,
    /// Signals and updates from after the event.
    later: Vec<Job>,
}

impl<'a> Cut<'a> {
    fn new(request: &'a ResetRequest) -> Self {
        Self { request, events: 0, kept: Vec::new(), later: Vec::new() }
    }

    fn take(&mut self, stored: StoredRecord) {
        let first = self.events + 1;
        self.events += stored.record.event_count();
        let event = self.request.event;
        match &stored.record {
            _ if first > event => self.keep_messages(&stored.record, 0),
            // The end that somebody else set to it is what is undone.
            Record::Ended { end: End::Terminated(_) | End::TimedOut | End::Failed(_) }
            | Record::Continued { .. } => {}
            // Whoever starts it again wants it to go on.
            Record::Paused { .. }
            | Record::Resumed
            | Record::Blocked { .. }
            | Record::Unblocked
            | Record::Upgraded { .. } => {}
            Record::Activation { jobs, commands } if self.events >= event || is_end(commands.last()) => {
                let count = usize::try_from(event - first + 1).unwrap_or(usize::MAX).min(jobs.len());
                self.keep_jobs(&stored, jobs, count);
            }
            Record::Received { jobs } if self.events >= event => {
                let count = usize::try_from(event - first + 1).unwrap_or(usize::MAX).min(jobs.len());
                self.keep_jobs(&stored, jobs, count);
            }
            _ => self.kept.push(stored),
        }
    }

    fn keep_jobs(&mut self, stored: &StoredRecord, jobs: &[Job], count: usize) {
        let kept: Vec<Job> = jobs.iter().take(count).filter(|job| **job != Job::Started).cloned().collect();
        if !kept.is_empty() {
            self.kept.push(StoredRecord { record: Record::Received { jobs: kept }, ..stored.clone() });
        }
        self.keep_messages(&stored.record, count);
    }

    fn keep_messages(&mut self, record: &Record, skip: usize) {
        let (Record::Activation { jobs, .. } | Record::Received { jobs }) = record else { return };
        let request = self.request;
        self.later.extend(
            jobs.iter()
                .skip(skip)
                .filter(|job| match job {
                    Job::Signal { .. } => !request.exclude_signals,
                    Job::Update { .. } => !request.exclude_updates,
                    _ => false,
                })
                .cloned(),
        );
    }
}

fn is_end(command: Option<&Command>) -> bool {
    matches!(
        command,
        Some(
            Command::Complete { .. }
                | Command::Fail { .. }
                | Command::Cancelled
                | Command::ContinueAsNew { .. }
        )
    )
}
