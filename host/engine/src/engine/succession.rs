//! Runs that follow others: continue-as-new and retries of workflows.

use std::sync::{Arc, atomic::Ordering};

use super::{Engine, cell::Cell, now_ms, start::search_keys_of, turn};
use crate::{
    RunId,
    history::{Job, Record, Started},
    machine::{Input, Machine},
    store::{Append, ExecutionRow, Start, Status, StoreError, Wake},
};

/// A run that takes the place of another, with its first append.
pub(super) struct Successor {
    pub(super) row: ExecutionRow,
    pub(super) wake: Wake,
    pub(super) append: Box<Append>,
}

impl Engine {
    /// The run that is to follow, if there is one.
    pub(super) async fn successor(
        &self,
        cell: &Cell,
        machine: &mut Machine,
    ) -> Result<Option<Successor>, StoreError> {
        let Some(next) = machine.next().cloned() else { return Ok(None) };
        let before = Arc::clone(machine.started());
        // New runs take the code that serves now; without any, the one they come from.
        let serving = self.guests.serving(&next.workflow);
        let digest = serving.unwrap_or(machine.digest());
        let definition =
            self.guests.definition(&digest).await.map_err(|error| StoreError::Failed(error.to_string()))?;
        let mut keys = search_keys_of(definition.workflow(&next.workflow), &next.input);
        for (name, value) in machine.search_keys() {
            if !keys.iter().any(|(known, _)| known == name) && keys.len() < crate::machine::SEARCH_KEYS {
                keys.push((name.clone(), value.clone()));
            }
        }
        let run_id = RunId::generate();
        let now = machine.now();
        let started = Started {
            run_id,
            workflow: next.workflow.clone(),
            digest,
            input: next.input,
            seed: rand::random(),
            not_before: next.not_before,
            attempt: next.attempt,
            continued_from: Some(cell.row.run_id),
            search_keys: keys,
            ..before.as_ref().clone()
        };
        let row = ExecutionRow {
            key: self.store.allocate(),
            run_id,
            workflow: next.workflow,
            digest,
            status: Status::Running,
            started_at: now,
            ended_at: None,
            ..cell.row.clone()
        };
        let search_keys = turn::initial_keys(&started);
        let mut first = Machine::start(definition, run_id, started, now);
        let wake = if first.phase() == "delayed" { first.wake() } else { Wake::Now };
        let mut records = first.take_records();
        // It stands in the history before the first turn, which begins with it.
        if let Some(reason) = next.cancel.filter(|_| !first.ended()) {
            records.push(Record::Received { jobs: vec![Job::CancelRequested { reason }] });
        }
        machine.continued(run_id, next.reason);
        let append = Append {
            start: Some(Box::new(Start { row: row.clone(), replaces: Some(cell.key) })),
            end: first.ended().then(|| (first.status(), now)),
            wake: Some(wake),
            search_keys,
            ..Append::records(row.key, 0, now, records)
        };
        Ok(Some(Successor { row, wake, append: Box::new(append) }))
    }

    /// The next run of an execution has begun, durably: it gets its first turn when it is due.
    pub(super) fn take_over(&self, row: &ExecutionRow, wake: Wake) {
        self.open.fetch_add(1, Ordering::Relaxed);
        if let Wake::At(at) = wake
            && at > now_ms()
        {
            self.timers.set(at, row.key);
            return;
        }
        let cell = self.cell(row);
        cell.post(Input::Tick);
        if let Some(engine) = self.arc() {
            tokio::spawn(async move { engine.drive(&cell).await });
        }
    }
}
