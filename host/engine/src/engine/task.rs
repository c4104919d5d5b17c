//! Task events of the host's own: each task that begins also ends, whatever becomes of what it shows.

use std::sync::Arc;

use super::{Engine, cell::Cell};
use crate::{
    Json,
    history::{TaskEvent, TaskPhase},
    machine::Input,
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

fn text(message: String) -> Json {
    serde_json::Value::from(message).into()
}

impl Engine {
    /// Records a task event, after those before it. Without anybody to record it, when the runtime stops, it is lost.
    pub(super) fn emit(self: &Arc<Self>, cell: &Arc<Cell>, event: TaskEvent) {
        cell.post(Input::Emit(event));
        let (engine, cell) = (Arc::clone(self), Arc::clone(cell));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { engine.drive(&cell).await });
        }
    }
}
