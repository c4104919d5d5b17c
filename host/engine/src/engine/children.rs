//! Executions that a workflow starts, and messages that it sends to others.

use std::sync::Arc;

use super::{
    ControlError, Engine, ExecutionView, MessageError, StartError,
    cell::{Cell, Message as ToDriver},
    start::{Birth, IdReuse},
};
use crate::{
    ExecutionId, ExecutionKey, Failure, Json,
    history::{Message, Outcome, Parent, ParentClose, Seq},
    machine::{ExternalMessage, Input, Machine, Operation},
    store::{Child, Status, StoreError},
    witness::Step,
};

impl Engine {
    /// Starts a child, unless it runs already, and delivers its result if it has ended.
    pub(super) fn start_child(&self, cell: &Arc<Cell>, machine: &Machine, seq: Seq) {
        let Some(Operation::Child { id, child, .. }) = machine.operation(seq) else { return };
        let (id, child) = (id.clone(), child.clone());
        let Some((engine, token)) = self.admit(cell, seq) else { return };
        let started = Arc::clone(machine.started());
        let parent_acts_for_caller = machine.on_behalf_of();
        let parent = Parent { id: cell.row.id.clone(), run: cell.key, seq, close: child.close };
        let root = cell.row.root.clone();
        let cell = Arc::clone(cell);
        tokio::spawn(async move {
            let refuse = |failure| Input::ChildRefused { seq, failure };
            let id: ExecutionId = match id.parse() {
                Ok(id) => id,
                Err(error) => {
                    let message = format!("'{id}' cannot be the id of a child: {error}");
                    let failure = Failure::permanent(Failure::INVALID_INPUT, message);
                    return engine.settle(&cell, seq, refuse(failure)).await;
                }
            };
            let birth = Birth {
                workflow: child.workflow.clone(),
                execution_id: Some(id.clone()),
                input: child.input.clone(),
                principal: started.principal.clone(),
                // Only those that the child knows: a wish for an unknown slot would be an error.
                wishes: started.wishes.clone(),
                only_known_wishes: true,
                mocks: started.mocks.clone(),
                caller_may_act: parent_acts_for_caller,
                parent: Some(parent.clone()),
                root: Some(root),
                execution_timeout: child.execution_timeout,
                retry: child.retry.clone(),
                ..Birth::default()
            };
            let running = engine.crashes.begin(Step::Operation { run: cell.row.run_id, seq, attempt: 1 });
            let mut begun = engine.begin(birth.clone()).await;
            // The id of a stranger that has ended is free; the child itself is not started twice.
            if matches!(begun, Err(StartError::AlreadyExists(_))) && engine.is_free(&id, &parent) {
                begun = engine.begin(Birth { reuse: IdReuse::AllowDuplicate, ..birth }).await;
            }
            drop(running);
            let input = match begun {
                Ok(_) => Some(Input::ChildStarted { seq }),
                Err(StartError::AlreadyExists(_)) => engine.existing_child(&id, &parent).await,
                Err(StartError::Store(_) | StartError::ShuttingDown) => None,
                Err(error) => Some(refuse(start_failure(&error))),
            };
            if token.is_cancelled() {
                engine.stop_child(&id, ParentClose::RequestCancel, "its parent gave it up").await;
            }
            match input {
                Some(Input::ChildStarted { .. }) if !child.await_start => {
                    cell.running.lock().remove(&seq);
                    // Something else may have come meanwhile that needs a driver.
                    engine.drive(&cell).await;
                }
                Some(input) => engine.settle(&cell, seq, input).await,
                // It could not be recorded: once more in a moment.
                None => {
                    tokio::time::sleep(engine.config.retry_pause).await;
                    cell.running.lock().remove(&seq);
                    engine.retry_operations(&cell).await;
                }
            }
        });
    }

    fn is_free(&self, id: &ExecutionId, parent: &Parent) -> bool {
        let row = self.store.find(id).ok().flatten();
        row.is_some_and(|row| row.status != Status::Running && row.parent.as_ref() != Some(parent))
    }

    /// An execution has the id already: the child itself, from before a restart, or a stranger.
    async fn existing_child(&self, id: &ExecutionId, parent: &Parent) -> Option<Input> {
        let seq = parent.seq;
        match self.get(id) {
            Ok(Some(view)) if view.row.parent.as_ref() == Some(parent) => Some(match view.row.status {
                Status::Running => Input::ChildStarted { seq },
                _ => Input::ChildEnded { seq, outcome: outcome(&view) },
            }),
            Ok(_) => {
                let message = format!("an execution with the id '{id}' exists already");
                let failure = Failure::permanent(Failure::ALREADY_EXISTS, message);
                Some(Input::ChildRefused { seq, failure })
            }
            Err(_) => None,
        }
    }

    /// Carries out again what the store could not take.
    async fn retry_operations(&self, cell: &Arc<Cell>) {
        // Loading an execution says what is to be done for it.
        cell.send(ToDriver::Reload);
        self.drive(cell).await;
    }

    /// A child has ended: whoever started it hears how.
    pub(super) fn tell_parent(&self, view: &ExecutionView) {
        let Some(parent) = view.row.parent.clone() else { return };
        let Some(engine) = self.arc() else { return };
        let outcome = outcome(view);
        tokio::spawn(async move {
            let cell = engine.cells.lock().by_key.get(&parent.run).cloned();
            let cell = match cell {
                Some(cell) => cell,
                None => match engine.store.row(parent.run) {
                    Ok(Some(row)) if row.status == Status::Running => engine.cell(&row),
                    // It has ended, or it hears of it when it is loaded.
                    _ => return,
                },
            };
            cell.post(Input::ChildEnded { seq: parent.seq, outcome });
            engine.drive(&cell).await;
        });
    }

    /// An execution has ended, or only a run of it: its open children do as was agreed.
    pub(super) async fn close_children(&self, id: &ExecutionId, run: Option<ExecutionKey>) {
        match self.store.open_children(id) {
            Ok(children) => {
                for child in children {
                    if run.is_none_or(|run| self.is_child_of(&child, run)) {
                        self.stop_child(&child.id, child.close, "its parent has ended").await;
                    }
                }
            }
            // The next start of the daemon finds them.
            Err(error) => {
                tracing::error!(execution = %id, %error, "the children of an execution cannot be found");
            }
        }
    }

    fn is_child_of(&self, child: &Child, run: ExecutionKey) -> bool {
        let row = self.store.row(child.key).ok().flatten();
        row.and_then(|row| row.parent).is_some_and(|parent| parent.run == run)
    }

    /// Children whose parent ended while nobody was there to tell them.
    pub(super) async fn close_orphans(&self) {
        match self.store.orphans() {
            Ok(children) => {
                for child in children {
                    self.stop_child(&child.id, child.close, "its parent has ended").await;
                }
            }
            Err(error) => tracing::error!(%error, "children without a parent cannot be found"),
        }
    }

    /// A parent was read back: children that it gave up may not have heard of it.
    pub(super) fn cancel_unwanted_children(&self, cell: &Cell, machine: &Machine) -> Result<(), StoreError> {
        for child in self.store.open_children(&cell.row.id)? {
            let Some(row) = self.store.row(child.key)? else { continue };
            let Some(parent) = row.parent else { continue };
            if child.close == ParentClose::Abandon {
                continue;
            }
            if parent.run == cell.key {
                if machine.operation(parent.seq).is_none() {
                    self.cancel_child(cell, parent.seq, child.id);
                }
                continue;
            }
            // A run that was reset took its children with it; one that continued as new left them to the next.
            let before = self.store.row(parent.run)?;
            if before.is_some_and(|row| row.status == Status::Terminated)
                && let Some(engine) = self.arc()
            {
                tokio::spawn(async move {
                    engine.stop_child(&child.id, child.close, "its parent was reset").await;
                });
            }
        }
        Ok(())
    }

    pub(super) fn cancel_child(&self, cell: &Cell, seq: Seq, id: ExecutionId) {
        // One that is being started hears of it once it has begun.
        if let Some(token) = cell.running.lock().get(&seq) {
            token.cancel();
            return;
        }
        let Some(engine) = self.arc() else { return };
        tokio::spawn(async move {
            engine.stop_child(&id, ParentClose::RequestCancel, "its parent gave it up").await;
        });
    }

    async fn stop_child(&self, id: &ExecutionId, how: ParentClose, reason: &str) {
        let done = match how {
            ParentClose::Abandon => return,
            ParentClose::Terminate => self.terminate(id, reason.into()).await,
            ParentClose::RequestCancel => self.cancel(id, reason.into()).await,
        };
        match done {
            Ok(()) | Err(ControlError::Ended(_) | ControlError::Unknown(_)) => {}
            Err(error) => tracing::error!(execution = %id, %error, "a child cannot be stopped"),
        }
    }

    /// Sends a workflow's message to another execution of the same user.
    pub(super) fn tell_external(&self, cell: &Arc<Cell>, machine: &Machine, seq: Seq) {
        let Some(Operation::External { execution_id, message }) = machine.operation(seq) else { return };
        let (execution_id, message) = (execution_id.clone(), message.clone());
        let Some((engine, token)) = self.admit(cell, seq) else { return };
        let principal = machine.started().principal.clone();
        let request = format!("{}:{seq}", machine.run());
        let cell = Arc::clone(cell);
        tokio::spawn(async move {
            let running = engine.crashes.begin(Step::Operation { run: cell.row.run_id, seq, attempt: 1 });
            let outcome = tokio::select! {
                outcome = engine.deliver(&cell, &execution_id, message, &principal, request) => outcome,
                () = token.cancelled() => Some(Err(Failure::permanent(Failure::CANCELLED, "the message was given up"))),
            };
            drop(running);
            match outcome {
                Some(outcome) => engine.settle(&cell, seq, Input::Told { seq, outcome }).await,
                None => {
                    tokio::time::sleep(engine.config.retry_pause).await;
                    cell.running.lock().remove(&seq);
                    engine.retry_operations(&cell).await;
                }
            }
        });
    }

    /// `None` when it has to be tried again.
    async fn deliver(
        &self,
        cell: &Cell,
        execution_id: &str,
        message: ExternalMessage,
        principal: &crate::Principal,
        request: String,
    ) -> Option<Outcome> {
        let unknown = || {
            Some(Err(Failure::permanent(
                Failure::NOT_FOUND,
                format!("this user has no execution with the id '{execution_id}'"),
            )))
        };
        let Ok(id) = execution_id.parse::<ExecutionId>() else { return unknown() };
        let row = match self.store.find(&id) {
            // What a user's workflow may reach is what the user may reach.
            Ok(Some(row)) if row.principal == *principal => row,
            Ok(_) => return unknown(),
            Err(_) => return None,
        };
        let sender = format!("execution:{}", cell.row.id);
        let told = match message {
            ExternalMessage::Signal { name, input } => {
                self.signal(&row, Some(request), Message { name, input, sender }).await
            }
            ExternalMessage::Cancel(reason) => self.cancel(&row, reason).await.map_err(MessageError::from),
        };
        match told {
            Ok(()) => Some(Ok(Json::null())),
            Err(MessageError::Control(ControlError::Store(_))) => None,
            Err(error) => Some(Err(message_failure(error))),
        }
    }
}

fn start_failure(error: &StartError) -> Failure {
    let kind = match error {
        StartError::UnknownWorkflow(_) => Failure::NOT_FOUND,
        StartError::AlreadyExists(_) => Failure::ALREADY_EXISTS,
        StartError::NotOnBehalf(_) => Failure::NOT_ON_BEHALF,
        StartError::InvalidInput(_) | StartError::TooLarge { .. } => Failure::INVALID_INPUT,
        StartError::Guest(_) | StartError::Store(_) | StartError::ShuttingDown => "Host",
    };
    Failure::permanent(kind, error.to_string())
}

fn message_failure(error: MessageError) -> Failure {
    let text = error.to_string();
    match error {
        MessageError::Control(ControlError::Ended(_)) => Failure::permanent(Failure::ENDED, text),
        MessageError::Control(_) | MessageError::UnknownHandler { .. } => {
            Failure::permanent(Failure::NOT_FOUND, text)
        }
        MessageError::InvalidInput { .. } | MessageError::TooLarge { .. } => {
            Failure::permanent(Failure::INVALID_INPUT, text)
        }
        MessageError::Failed(failure) => failure,
        MessageError::NotStarted(_) | MessageError::Guest(_) => Failure::permanent("Host", text),
    }
}

/// How an execution ended, for its parent.
fn outcome(view: &ExecutionView) -> Outcome {
    let id = &view.row.id;
    match view.row.status {
        Status::Completed => Ok(view.result.clone().unwrap_or_else(Json::null)),
        Status::Canceled => {
            Err(Failure::permanent(Failure::CANCELLED, format!("the child execution '{id}' was cancelled")))
        }
        _ => Err(match view.failure.clone() {
            Some(failure) => Failure { non_retryable: true, ..failure },
            None => Failure::permanent(Failure::TERMINATED, format!("the child execution '{id}' has ended")),
        }),
    }
}
