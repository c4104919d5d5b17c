//! Task events of the host's own: each task that begins also ends, whatever becomes of what it shows.

use std::sync::Arc;

use super::{Engine, cell::Cell, now_ms};
use crate::{
    ExecutionKey, Json,
    history::{Record, StoredRecord, TaskEvent, TaskPhase, UnixMs},
    machine::Input,
    store::{Store, StoreError},
};

/// A task that clients see. One that is dropped before its end has failed.
pub(super) struct Task {
    engine: Arc<Engine>,
    cell: Arc<Cell>,
    id: String,
    task_type: &'static str,
    ended: bool,
}

impl Task {
    /// Shows that it begins.
    pub(super) fn begin(
        engine: &Arc<Engine>,
        cell: &Arc<Cell>,
        task_type: &'static str,
        id: String,
        state: Json,
    ) -> Self {
        let (engine, cell) = (Arc::clone(engine), Arc::clone(cell));
        let task = Self { engine, cell, id, task_type, ended: false };
        task.tell(TaskPhase::Started, state);
        task
    }

    /// Shows that its state has changed.
    pub(super) fn change(&self, state: Json) {
        self.tell(TaskPhase::InProgress, state);
    }

    /// Shows that it has ended well.
    pub(super) fn complete(mut self, state: Json) {
        self.ended = true;
        self.tell(TaskPhase::Completed, state);
    }

    /// Shows that it has failed.
    pub(super) fn fail(mut self, why: String) {
        self.ended = true;
        self.tell(TaskPhase::Failed, text(why));
    }

    fn tell(&self, phase: TaskPhase, payload: Json) {
        let event = TaskEvent { id: self.id.clone(), task_type: self.task_type.into(), phase, payload };
        self.engine.emit(&self.cell, event);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // What a daemon that stops leaves undone begins again after its start, under the same id.
        if !self.ended && !self.engine.is_closing() {
            self.tell(TaskPhase::Failed, text("it was given up".to_owned()));
        }
    }
}

/// So many records are read at once.
const PAGE: usize = 500;

/// When a task began that has not ended.
fn open_since(store: &dyn Store, key: ExecutionKey, id: &str) -> Result<Option<UnixMs>, StoreError> {
    let (mut since, mut next) = (None, 0);
    loop {
        let page = store.history(key, next, PAGE)?;
        if page.is_empty() {
            return Ok(since);
        }
        next += u32::try_from(page.len()).unwrap_or(u32::MAX);
        for stored in page.into_iter().map(StoredRecord::original) {
            match stored.record {
                Record::Emitted { event } if event.id == id => match event.phase {
                    // One that was shown again after a restart is the same.
                    TaskPhase::Started | TaskPhase::InProgress => since = since.or(Some(stored.at)),
                    TaskPhase::Completed | TaskPhase::Failed => since = None,
                },
                _ => {}
            }
        }
    }
}

fn text(message: String) -> Json {
    serde_json::Value::from(message).into()
}

impl Engine {
    /// Since when a task is shown that has not ended: now, unless a process that died showed it before.
    pub(super) async fn shown_since(&self, cell: &Cell, id: &str) -> UnixMs {
        let now = now_ms();
        // A task of this process ends with what it shows.
        if cell.row.started_at >= self.opened_at {
            return now;
        }
        let (store, key, id) = (Arc::clone(&self.store), cell.key, id.to_owned());
        let found = tokio::task::spawn_blocking(move || open_since(&*store, key, &id));
        match found.await {
            Ok(Ok(since)) => since.unwrap_or(now),
            Ok(Err(error)) => {
                tracing::warn!(?key, %error, "a history cannot be read: a time limit begins anew");
                now
            }
            Err(_) => now,
        }
    }

    /// Records a task event, after those before it. Without anybody to record it, when the runtime stops, it is lost.
    pub(super) fn emit(self: &Arc<Self>, cell: &Arc<Cell>, event: TaskEvent) {
        cell.post(Input::Emit(event));
        let (engine, cell) = (Arc::clone(self), Arc::clone(cell));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { engine.drive(&cell).await });
        }
    }
}
