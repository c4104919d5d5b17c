//! Custom task events: what whoever follows an execution sees live.

use std::cell::RefCell;

use serde::Serialize;
use serde_json::Value;

use crate::{Error, Result};

/// One event of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskEvent {
    /// The same from start to end of the task.
    pub id: String,
    /// What kind of task it is, for instance `progress`, `working`, `todo_list`.
    pub task_type: String,
    /// Where the task stands.
    pub phase: TaskPhase,
    /// The state of the task; for [`TaskPhase::Failed`], a string with the message. At most 256 KiB as JSON.
    pub payload: Value,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskPhase {
    /// It has begun.
    Started,
    /// Its state has changed.
    InProgress,
    /// It has succeeded.
    Completed,
    /// It has not.
    Failed,
}

type Emit<'a> = &'a dyn Fn(TaskEvent) -> Result<()>;

/// A task under way, given to the closure of `task` on a workflow's or an activity's context.
pub struct Task<'a> {
    id: String,
    task_type: String,
    state: RefCell<Value>,
    emit: Emit<'a>,
}

impl Task<'_> {
    /// Replaces the state and shows it.
    ///
    /// # Errors
    /// The state cannot be written as JSON or is too large, or the plugin floods (`RateLimited`).
    pub fn update(&self, state: impl Serialize) -> Result<()> {
        let state = serde_json::to_value(state)?;
        self.state.replace(state.clone());
        self.event(TaskPhase::InProgress, state)
    }

    /// The task's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn event(&self, phase: TaskPhase, payload: Value) -> Result<()> {
        (self.emit)(TaskEvent { id: self.id.clone(), task_type: self.task_type.clone(), phase, payload })
    }
}

/// Runs `work` between the first event of a task and its last.
pub(crate) async fn scope<T>(
    id: String,
    task_type: &str,
    state: impl Serialize,
    emit: Emit<'_>,
    work: impl AsyncFnOnce(&Task<'_>) -> Result<T>,
) -> Result<T> {
    let state = serde_json::to_value(state)?;
    let task = Task { id, task_type: task_type.to_owned(), state: RefCell::new(state.clone()), emit };
    task.event(TaskPhase::Started, state)?;
    match work(&task).await {
        Ok(value) => {
            let last = task.state.take();
            task.event(TaskPhase::Completed, last)?;
            Ok(value)
        }
        Err(error) => {
            // The work's own error matters more than one about showing it.
            let _ = task.event(TaskPhase::Failed, Value::String(Error::message(&error).to_owned()));
            Err(error)
        }
    }
}
