//! [`ActivityContext`]: what the body of an activity may ask of its host beside tools.

use std::{cell::Cell, future::Future, rc::Rc};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Result, Task, TaskEvent, event, host};

/// One attempt of an activity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Name of the activity.
    pub activity: String,
    /// JSON text.
    pub input: String,
    /// Id of the execution.
    pub execution_id: String,
    /// Name of the workflow.
    pub workflow: String,
    /// The same for every attempt of this step.
    pub idempotency_key: String,
    /// 1 for the first.
    pub attempt: u32,
    /// JSON text that an attempt before said with its last heartbeat.
    pub heartbeat_details: Option<String>,
}

/// The running activity and its host. An activity that wants it has a parameter of this type. Cheap to clone.
#[derive(Clone)]
pub struct ActivityContext {
    call: Rc<Call>,
    tasks: Rc<Cell<u32>>,
}

impl ActivityContext {
    pub(crate) fn new(call: Call) -> Self {
        Self { call: Rc::new(call), tasks: Rc::default() }
    }

    /// 1 for the first.
    pub fn attempt(&self) -> u32 {
        self.call.attempt
    }

    /// The same for every attempt of this step and for no other step: hand it to services that know idempotency keys.
    pub fn idempotency_key(&self) -> &str {
        &self.call.idempotency_key
    }

    /// The id of the execution.
    pub fn execution_id(&self) -> &str {
        &self.call.execution_id
    }

    /// The name of the workflow that runs this activity.
    pub fn workflow(&self) -> &str {
        &self.call.workflow
    }

    /// Says that the activity is alive; needed when it has a heartbeat timeout.
    pub fn heartbeat(&self) {
        host::heartbeat(None);
    }

    /// Says that the activity is alive and how far it is, for the next attempt if this one fails. At most 256 KiB as JSON;
    /// recorded with the failure, and now and then before: after a crash of the host the next attempt may find older ones.
    ///
    /// # Errors
    /// The details cannot be written as JSON.
    pub fn heartbeat_with(&self, details: impl Serialize) -> Result<()> {
        host::heartbeat(Some(serde_json::to_string(&details)?));
        Ok(())
    }

    /// What an attempt before said with its last heartbeat; none in the first attempt, and none if it is not a `T`.
    pub fn heartbeat_details<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.call.heartbeat_details.as_deref()?).ok()
    }

    /// Whether the activity was cancelled, or its execution has ended.
    pub fn is_cancelled(&self) -> bool {
        host::is_cancelled()
    }

    /// Waits until the activity is cancelled.
    pub fn cancelled(&self) -> impl Future<Output = ()> + use<> {
        host::cancelled()
    }

    /// Shows an event to whoever follows the execution. It is recorded before the activity's result is.
    ///
    /// # Errors
    /// `RateLimited` when the plugin floods, `InvalidInput` when the payload is larger than 256 KiB.
    pub fn emit(&self, event: TaskEvent) -> Result<()> {
        host::emit(event)
    }

    /// Shows `work` as a task: it starts with `state`, changes with [`Task::update`], and is completed or failed as
    /// `work` ends.
    ///
    /// # Errors
    /// Those of `work`, of [`ActivityContext::emit`], and of writing a state as JSON.
    pub async fn task<T>(
        &self,
        task_type: &str,
        state: impl Serialize,
        work: impl AsyncFnOnce(&Task<'_>) -> Result<T>,
    ) -> Result<T> {
        let number = self.tasks.get();
        self.tasks.set(number + 1);
        // Another attempt shows tasks of its own.
        let id = format!("{}-{}-{number}", self.call.idempotency_key, self.call.attempt);
        event::scope(id, task_type, state, &host::emit, work).await
    }
}
