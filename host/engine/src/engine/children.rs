//! Executions that a workflow starts, and messages that it sends to others.

use std::sync::Arc;

use super::{
    Address, ControlError, Engine, ExecutionView, MessageError, StartError,
    address::{Claim, Holder, Origin, Reach},
    cell::Cell,
    operations::{Stopped, Ticket},
    start::{Birth, IdReuse},
};
use crate::{
    ExecutionId, ExecutionKey, Failure, Json,
    history::{Job, Message, Outcome, Parent, ParentClose, Record, Seq, StartChild, Started, StoredRecord},
    machine::{ExternalMessage, Input, Machine, Operation, ends::Closing},
    store::{Child, ExecutionRow, Status, StoreError},
    witness::Step,
};

/// What became of the start of a child.
enum Begun {
    /// It runs, and tells its parent by itself how it ends.
    Running,
    /// It is one that a run before left, and goes on for this one: whoever wants to know of its end waits for it.
    Joined(Box<ExecutionRow>),
    /// It has ended.
    Ended(Outcome),
    /// It cannot begin.
    Refused(Failure),
}

/// What a start finds under the id of its child.
enum Met {
    /// The child, or a reason that there will be none.
    Answer(Begun),
    /// One that has ended: the id is free.
    Free,
    /// A child of a run before, which was told to stop.
    Stopping(Box<ExecutionRow>),
    /// Nothing that is durable: somebody else is about to begin, or to end.
    Nothing,
}

impl Engine {
    /// Starts a child, unless it runs already, and delivers its result if it has ended.
    pub(super) fn start_child(
        &self,
        cell: &Arc<Cell>,
        machine: &Machine,
        seq: Seq,
        id: String,
        child: &StartChild,
    ) {
        let Some((engine, admission)) = self.admit(cell, seq, child.close == ParentClose::Abandon) else {
            return;
        };
        let started = machine.started();
        let birth = Birth {
            workflow: child.workflow.clone(),
            input: child.input.clone(),
            principal: started.principal.clone(),
            // Only those that the child knows: a wish for an unknown slot would be an error.
            wishes: started.wishes.clone(),
            only_known_wishes: true,
            mocks: started.mocks.clone(),
            caller_may_act: machine.on_behalf_of(),
            parent: Some(Parent { id: cell.row.id.clone(), run: cell.key, seq, close: child.close }),
            root: Some(cell.row.root.clone()),
            execution_timeout: child.execution_timeout,
            retry: child.retry.clone(),
            ..Birth::default()
        };
        let (cell, await_start) = (Arc::clone(cell), child.await_start);
        // Whoever follows the tree waits for it, unless it would not wait for its end either.
        let unborn = (child.close != ParentClose::Abandon).then(|| self.followers.expect_child(&cell.row));
        tokio::spawn(async move {
            let ticket = admission.ticket(&cell.operations);
            let begun = match id.parse::<ExecutionId>() {
                Ok(id) => {
                    engine.bring_up(&cell, &ticket, Birth { execution_id: Some(id), ..birth.clone() }).await
                }
                Err(error) => {
                    let message = format!("'{id}' cannot be the id of a child: {error}");
                    Some(Begun::Refused(Failure::permanent(Failure::INVALID_INPUT, message)))
                }
            };
            drop(unborn);
            let Some(mut begun) = begun else { return };
            if let Begun::Joined(row) = &begun {
                let row = row.clone();
                if await_start {
                    cell.post(Input::ChildStarted { seq });
                    engine.drive(&cell).await;
                }
                if ticket.only_waits()
                    && let Some(outcome) = engine.end_of(&ticket, &row).await
                {
                    begun = Begun::Ended(outcome);
                }
            }
            // From here on whoever stops the child finds it; what was meant for it before, it hears of here.
            let stopped = ticket.leave();
            engine.stop_begun(&begun, &birth, &id, stopped).await;
            let input = match begun {
                // Something else may have come meanwhile that needs a driver.
                Begun::Running if !await_start => return engine.drive(&cell).await,
                Begun::Running => Input::ChildStarted { seq },
                Begun::Joined(_) => return,
                Begun::Ended(outcome) => Input::ChildEnded { seq, outcome },
                Begun::Refused(failure) => Input::ChildRefused { seq, failure },
            };
            engine.settle(&cell, ticket, input).await;
        });
    }

    /// A child was begun while its parent gave it up or ended: it does as it would have done had it begun before.
    async fn stop_begun(&self, begun: &Begun, birth: &Birth, id: &str, stopped: Option<Stopped>) {
        let Some(parent) = &birth.parent else { return };
        let (how, reason) = match stopped {
            Some(Stopped::GivenUp) => (ParentClose::RequestCancel, GIVEN_UP),
            Some(Stopped::Ended(Closing::Run | Closing::Execution)) => (parent.close, ENDED),
            Some(Stopped::Ended(Closing::Left)) | None => return,
        };
        match begun {
            Begun::Running => {
                let Ok(id) = id.parse() else { return };
                let whom = Address::started(&id, &birth.principal, Origin::Parent(parent));
                self.stop_child(whom, how, reason).await;
            }
            // What is left to an execution ends with it; the end of this run alone is not meant for it.
            Begun::Joined(row) if stopped == Some(Stopped::GivenUp) => {
                self.stop_child(Address::same_start(row), how, reason).await;
            }
            Begun::Joined(_) | Begun::Ended(_) | Begun::Refused(_) => {}
        }
    }

    /// Begins a child, or finds it. `None` when nobody wants it any more.
    async fn bring_up(&self, cell: &Arc<Cell>, ticket: &Ticket<'_>, birth: Birth) -> Option<Begun> {
        let seq = birth.parent.as_ref()?.seq;
        let mut reuse = IdReuse::RejectDuplicate;
        while ticket.begin() {
            let running = self.crashes.begin(Step::Operation { run: cell.row.run_id, seq, attempt: 1 });
            let begun = self.begin(Birth { reuse, ..birth.clone() }).await;
            drop(running);
            let met = match begun {
                Ok(_) => return Some(Begun::Running),
                Err(StartError::ShuttingDown) => return None,
                Err(StartError::AlreadyExists(_)) => self.meet(cell, &birth),
                Err(StartError::Store(error)) => Err(error),
                Err(error) => return Some(Begun::Refused(start_failure(&error))),
            };
            match met {
                Ok(Met::Answer(begun)) => return Some(begun),
                Ok(Met::Free) if reuse == IdReuse::RejectDuplicate => {
                    reuse = IdReuse::AllowDuplicate;
                    continue;
                }
                Ok(Met::Stopping(row)) => {
                    ticket.wait();
                    let _how = self.end_of(ticket, &row).await?;
                    continue;
                }
                // In a moment it may be otherwise.
                Ok(Met::Free | Met::Nothing) | Err(_) => {}
            }
            ticket.wait();
            tokio::select! {
                () = tokio::time::sleep(self.config.retry_pause) => {}
                () = ticket.token().cancelled() => return None,
            }
        }
        None
    }

    /// An execution has the id already. Whose it is decides [`Claim::holder`].
    fn meet(&self, cell: &Cell, birth: &Birth) -> Result<Met, StoreError> {
        let Some(id) = &birth.execution_id else { return Ok(Met::Nothing) };
        let Some(row) = self.store.find(id)? else { return Ok(Met::Nothing) };
        let claim = birth.claim();
        let holder = claim.holder(&row);
        if holder == Holder::Itself {
            return Ok(Met::Answer(match row.status {
                Status::Running => Begun::Running,
                _ => Begun::Ended(outcome(&self.view(row)?)),
            }));
        }
        if claim.may_replace(&row) {
            return Ok(Met::Free);
        }
        if holder == Holder::LeftByRunBefore
            && let Some(parent) = &row.parent
            && self.comes_after(cell.key, parent.run)?
        {
            let left = match self.store.row(parent.run)? {
                _ if parent.close == ParentClose::Abandon => true,
                Some(before) => Closing::leaves(before.status),
                None => true,
            };
            if !left || self.was_asked_to_stop(&row)? {
                return Ok(Met::Stopping(Box::new(row)));
            }
            if self.is_same_start(&row, birth)? {
                return Ok(Met::Answer(Begun::Joined(Box::new(row))));
            }
        }
        let message = format!("an execution with the id '{id}' exists already");
        Ok(Met::Answer(Begun::Refused(Failure::permanent(Failure::ALREADY_EXISTS, message))))
    }

    /// Whether a run goes on from another one, over however many between them.
    fn comes_after(&self, run: ExecutionKey, before: ExecutionKey) -> Result<bool, StoreError> {
        let mut key = run;
        // Keys are given in the order of starts: beyond it nobody has to look.
        while key > before {
            let Some(started) = self.first_record(key)? else { return Ok(false) };
            let Some(previous) = started.continued_from else { return Ok(false) };
            match self.store.find_run(&previous)? {
                Some(row) => key = row.key,
                None => return Ok(false),
            }
        }
        Ok(key == before)
    }

    /// Whether a running execution is what this start would begin.
    fn is_same_start(&self, row: &ExecutionRow, birth: &Birth) -> Result<bool, StoreError> {
        let Some(started) = self.first_record(row.key)? else { return Ok(false) };
        // What it has made of its input by continuing as new is its own affair.
        let same_input = started.continued_from.is_some() || started.input == birth.checked_input();
        Ok(row.workflow == birth.workflow && same_input)
    }

    /// Whether a run has heard, or is about to hear, that it is to stop.
    fn was_asked_to_stop(&self, row: &ExecutionRow) -> Result<bool, StoreError> {
        let mut index = 0;
        loop {
            let page = self.history(row.key, index, 1024)?;
            if page.is_empty() {
                return Ok(false);
            }
            index += u32::try_from(page.len()).unwrap_or(u32::MAX);
            let asked = |stored: &StoredRecord| match &stored.record {
                Record::Activation { jobs, .. } | Record::Received { jobs } => {
                    jobs.iter().any(|job| matches!(job, Job::CancelRequested { .. }))
                }
                _ => false,
            };
            if page.iter().any(asked) {
                return Ok(true);
            }
        }
    }

    fn first_record(&self, key: ExecutionKey) -> Result<Option<Box<Started>>, StoreError> {
        let first = self.history(key, 0, 1)?.into_iter().next();
        Ok(match first {
            Some(StoredRecord { record: Record::Started(started), .. }) => Some(started),
            _ => None,
        })
    }

    /// Waits for the end of an execution. `None` when nobody wants to know any more.
    async fn end_of(&self, ticket: &Ticket<'_>, row: &ExecutionRow) -> Option<Outcome> {
        loop {
            let ended = tokio::select! {
                biased;
                () = ticket.token().cancelled() => return None,
                ended = self.wait(Address::same_start(row), None) => ended,
            };
            match ended {
                Ok(Some(view)) if view.row.status != Status::Running => return Some(outcome(&view)),
                Ok(Some(_)) => {}
                // It has ended, and somebody took its id or it was removed.
                Ok(None) => return Some(Err(gone(&row.id))),
                Err(_) => tokio::time::sleep(self.config.retry_pause).await,
            }
        }
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

    /// A run has ended: its open children do as was agreed, with those of the runs before if the execution has.
    pub(super) async fn close_children(&self, id: &ExecutionId, run: ExecutionKey, closing: Closing) {
        let of = match closing {
            Closing::Left => return,
            Closing::Run => Some(run),
            Closing::Execution => None,
        };
        match self.store.open_children(id) {
            Ok(children) => self.close(children, of).await,
            // The next start of the daemon finds them.
            Err(error) => {
                tracing::error!(execution = %id, %error, "the children of an execution cannot be found");
            }
        }
    }

    /// Children whose parent ended while nobody was there to tell them.
    pub(super) async fn close_orphans(&self) {
        match self.store.orphans() {
            Ok(children) => self.close(children, None).await,
            Err(error) => tracing::error!(%error, "children without a parent cannot be found"),
        }
    }

    async fn close(&self, children: Vec<Child>, of: Option<ExecutionKey>) {
        for child in children {
            match self.store.row(child.key) {
                Ok(Some(row)) => {
                    let its =
                        row.parent.as_ref().is_some_and(|parent| of.is_none_or(|run| parent.run == run));
                    if its {
                        self.stop_child(Address::same_start(&row), child.close, ENDED).await;
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::error!(execution = %child.id, %error, "a child cannot be read"),
            }
        }
    }

    /// A parent was read back: children that it gave up, or that a run before was to close, may not have heard of it.
    pub(super) fn cancel_unwanted_children(&self, cell: &Cell, machine: &Machine) -> Result<(), StoreError> {
        for child in self.store.open_children(&cell.row.id)? {
            let Some(row) = self.store.row(child.key)? else { continue };
            let Some(parent) = &row.parent else { continue };
            if child.close == ParentClose::Abandon {
                continue;
            }
            if parent.run == cell.key {
                if machine.operation(parent.seq).is_none() {
                    self.cancel_child(cell, parent.seq, child.id);
                }
                continue;
            }
            let before = self.store.row(parent.run)?;
            if before.is_some_and(|run| run.status != Status::Running && !Closing::leaves(run.status))
                && let Some(engine) = self.arc()
            {
                tokio::spawn(async move {
                    engine.stop_child(Address::same_start(&row), child.close, ENDED).await;
                });
            }
        }
        Ok(())
    }

    /// A workflow gives a child up.
    pub(super) fn cancel_child(&self, cell: &Cell, seq: Seq, id: ExecutionId) {
        // One that is being started hears of it once it has begun.
        if cell.operations.give_up(seq) {
            return;
        }
        let Some(engine) = self.arc() else { return };
        let (owner, close) = (cell.row.principal.clone(), ParentClose::default());
        let parent = Parent { id: cell.row.id.clone(), run: cell.key, seq, close };
        tokio::spawn(async move {
            // By its id alone it could be somebody else's by now.
            let claim = Claim { who: &owner, reach: Reach::Own, origin: Origin::Parent(&parent) };
            match engine.store.find(&id) {
                Ok(Some(row)) if claim.holder(&row) == Holder::Itself => {
                    engine.stop_child(Address::same_start(&row), ParentClose::RequestCancel, GIVEN_UP).await;
                }
                Ok(_) => {}
                Err(error) => tracing::error!(execution = %id, %error, "a child cannot be found"),
            }
        });
    }

    async fn stop_child(&self, whom: Address<'_>, how: ParentClose, reason: &str) {
        let done = match how {
            ParentClose::Abandon => return,
            ParentClose::Terminate => self.terminate(whom, reason.into()).await,
            ParentClose::RequestCancel => self.cancel(whom, reason.into()).await,
        };
        match done {
            Ok(()) | Err(ControlError::Ended(_) | ControlError::Unknown(_)) => {}
            Err(error) => tracing::error!(execution = %whom.id, %error, "a child cannot be stopped"),
        }
    }

    /// Sends a workflow's message to another execution of the same user.
    pub(super) fn tell_external(&self, cell: &Arc<Cell>, machine: &Machine, seq: Seq) {
        let Some(Operation::External { execution_id, message }) = machine.operation(seq) else { return };
        let (execution_id, message) = (execution_id.clone(), message.clone());
        let Some((engine, admission)) = self.admit(cell, seq, false) else { return };
        let principal = machine.started().principal.clone();
        let request = format!("{}:{seq}", machine.run());
        let cell = Arc::clone(cell);
        tokio::spawn(async move {
            let ticket = admission.ticket(&cell.operations);
            while ticket.begin() {
                let running = engine.crashes.begin(Step::Operation { run: cell.row.run_id, seq, attempt: 1 });
                let request = request.clone();
                let outcome = tokio::select! {
                    biased;
                    () = ticket.token().cancelled() => return,
                    outcome = engine.deliver(&cell, &execution_id, &message, &principal, request) => outcome,
                };
                drop(running);
                if let Some(outcome) = outcome {
                    return engine.settle(&cell, ticket, Input::Told { seq, outcome }).await;
                }
                // It could not be recorded: once more in a moment.
                ticket.wait();
                tokio::time::sleep(engine.config.retry_pause).await;
            }
        });
    }

    /// `None` when it has to be tried again.
    async fn deliver(
        &self,
        cell: &Cell,
        execution_id: &str,
        message: &ExternalMessage,
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
            Ok(Some(row)) => row,
            Ok(None) => return unknown(),
            Err(_) => return None,
        };
        // What a user's workflow may reach is what the user may reach.
        let claim = Claim { who: principal, reach: Reach::Own, origin: Origin::Client };
        let Some(whom) = claim.address(&row) else { return unknown() };
        let sender = format!("execution:{}", cell.row.id);
        let told = match message {
            ExternalMessage::Signal { name, input } => {
                let message = Message { name: name.clone(), input: input.clone(), sender };
                self.signal(whom, Some(request), message).await
            }
            ExternalMessage::Cancel(reason) => {
                self.cancel(whom, reason.clone()).await.map_err(MessageError::from)
            }
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
        StartError::UnknownWorkflow(_) | StartError::Archived(_) => Failure::NOT_FOUND,
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
        MessageError::NotStarted(_) | MessageError::CodeGone { .. } | MessageError::Guest(_) => {
            Failure::permanent("Host", text)
        }
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
            None => gone(id),
        }),
    }
}

/// A child has ended, and nothing is known of how.
fn gone(id: &ExecutionId) -> Failure {
    Failure::permanent(Failure::TERMINATED, format!("the child execution '{id}' has ended"))
}

/// What a child is told by whom it was started.
const GIVEN_UP: &str = "its parent gave it up";
const ENDED: &str = "its parent has ended";
