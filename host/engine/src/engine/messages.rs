//! What clients say to executions: signals, queries and updates.

use std::{collections::HashMap, time::Duration};

use async_recursion::async_recursion as boxed;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    Address, ControlError, Engine, InputProblem,
    cell::{Message as ToDriver, Refused, Unanswered},
    crashes::HeldBack,
    questions, turn,
};
use crate::{
    ExecutionId, Failure, Handler, Json, PluginDefinition, WorkflowDefinition,
    guests::GuestError,
    history::{Command, Message, Outcome, Record},
    machine::Input,
    store::{ExecutionRow, Status, StoreError},
    witness::Step,
};

/// A message could not be delivered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MessageError {
    /// The execution is not there, has ended, or cannot be recorded.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The workflow has no such handler.
    #[error("the workflow '{workflow}' has no {kind} '{name}': it has {known}")]
    UnknownHandler {
        /// `signal`, `query` or `update`.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// The workflow.
        workflow: String,
        /// Those that it has, in a sentence.
        known: String,
    },
    /// The input does not match the handler's schema.
    #[error("the input does not match the schema of '{name}': {}", .problems.first().map_or("", |problem| &problem.message))]
    InvalidInput {
        /// The handler.
        name: String,
        /// Where and why.
        problems: Vec<InputProblem>,
    },
    /// The input is too big.
    #[error("the input has {bytes} bytes, the limit is {limit}: pass a reference to the data instead")]
    TooLarge {
        /// What was sent.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The handler refused or failed.
    #[error("{0}")]
    Failed(Failure),
    /// There is no state to ask yet.
    #[error("the execution '{0}' has not begun: its workflow has no state to ask yet")]
    NotStarted(ExecutionId),
    /// It has ended, and there is no code that repeats its history.
    #[error(
        "the execution '{id}' has ended and cannot be asked any more: its code is kept only as long as something runs on it, \
         and the code that there is now does not repeat its history ({difference}). Its result and its history can be read; to \
         ask it, serve the component that it ran on"
    )]
    CodeGone {
        /// The execution.
        id: ExecutionId,
        /// The first difference.
        difference: String,
    },
    /// The plugin cannot be used.
    #[error(transparent)]
    Guest(#[from] GuestError),
}

impl From<StoreError> for MessageError {
    fn from(error: StoreError) -> Self {
        Self::Control(error.into())
    }
}

/// How far an update has come.
#[derive(Debug, Clone, PartialEq)]
pub enum UpdateState {
    /// The workflow has not looked at it.
    Sent,
    /// The workflow will carry it out.
    Accepted,
    /// The workflow refused it.
    Rejected(Failure),
    /// It is done.
    Completed(Outcome),
}

impl UpdateState {
    /// Whether nothing more will come.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Rejected(_) | Self::Completed(_))
    }
}

/// How long to wait for the answer to an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// Until it is durable that the workflow will hear it.
    Sent,
    /// Until the workflow has accepted or rejected it.
    Accepted,
    /// Until it is done.
    Completed,
}

/// Somebody who waits, and how far.
type Waiter = (WaitFor, oneshot::Sender<UpdateState>);

/// Callers that wait for the answers to updates, by the updates' ids.
#[derive(Default)]
pub(super) struct UpdateWaiters(Mutex<HashMap<String, Vec<Waiter>>>);

impl UpdateWaiters {
    fn wait(&self, id: &str, stage: WaitFor) -> oneshot::Receiver<UpdateState> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().entry(id.to_owned()).or_default().push((stage, sender));
        receiver
    }

    pub(super) fn tell(&self, answers: Vec<(String, UpdateState)>) {
        for (id, state) in answers {
            let mut waiters = self.0.lock();
            let Some(waiting) = waiters.remove(&id) else { continue };
            let mut later = Vec::new();
            for (stage, sender) in waiting {
                if state.is_final() || stage == WaitFor::Accepted {
                    // Whoever asked may have gone.
                    let _ = sender.send(state.clone());
                } else {
                    later.push((stage, sender));
                }
            }
            if !later.is_empty() {
                waiters.insert(id, later);
            }
        }
    }

    /// No answer will come.
    pub(super) fn end(&self) {
        self.0.lock().clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// What the records of a turn say about updates.
pub(super) fn answers(records: &[Record]) -> Vec<(String, UpdateState)> {
    let mut answers = Vec::new();
    for record in records {
        if let Record::Activation { commands, .. } = record {
            answers.extend(commands.iter().filter_map(answer));
        }
    }
    answers
}

fn answer(command: &Command) -> Option<(String, UpdateState)> {
    match command {
        Command::UpdateAccepted { id } => Some((id.clone(), UpdateState::Accepted)),
        Command::UpdateRejected { id, failure } => Some((id.clone(), UpdateState::Rejected(failure.clone()))),
        Command::UpdateCompleted { id, outcome } => {
            Some((id.clone(), UpdateState::Completed(outcome.clone())))
        }
        _ => None,
    }
}

/// The sorts of handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Signal,
    Query,
    Update,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Query => "query",
            Self::Update => "update",
        }
    }

    fn of(self, workflow: &WorkflowDefinition) -> &[Handler] {
        match self {
            Self::Signal => &workflow.signals,
            Self::Query => &workflow.queries,
            Self::Update => &workflow.updates,
        }
    }
}

/// What became of an update that nobody answers any more.
fn unanswered() -> Failure {
    Failure::permanent(Failure::ENDED, "the execution ended before it had answered the update")
}

impl Engine {
    /// Sends a signal. It is durable when this returns, and one with an id is heard once. `null` stands for an empty
    /// object.
    pub async fn signal(
        &self,
        whom: impl Into<Address<'_>>,
        signal_id: Option<String>,
        message: Message,
    ) -> Result<(), MessageError> {
        self.send_signal(whom.into(), signal_id, message).await
    }

    #[boxed]
    async fn send_signal<'a>(
        &self,
        whom: Address<'a>,
        signal_id: Option<String>,
        message: Message,
    ) -> Result<(), MessageError>
    where
        'a: 'async_recursion,
    {
        let row = self.open_row(whom)?;
        let message = self.checked(&row, Kind::Signal, message).await?;
        Ok(self.control(whom, Input::Signal { id: signal_id, message }).await?)
    }

    /// Asks an execution something. Works as long as its history is kept, also when it has ended.
    pub async fn query(&self, whom: impl Into<Address<'_>>, message: Message) -> Result<Json, MessageError> {
        self.send_query(whom.into(), message).await
    }

    #[boxed]
    async fn send_query<'a>(&self, whom: Address<'a>, message: Message) -> Result<Json, MessageError>
    where
        'a: 'async_recursion,
    {
        let row = self.find(whom)?;
        let Message { name, input, .. } = self.checked(&row, Kind::Query, message).await?;
        let answer = if row.status == Status::Running {
            let cell = self.cell(&row);
            let (reply, answer) = oneshot::channel();
            cell.send(ToDriver::Query { name: name.clone(), input: input.clone(), reply });
            self.drive(&cell).await;
            answer.await.unwrap_or(Err(Unanswered::Ended))
        } else {
            Err(Unanswered::Ended)
        };
        let answer = match answer {
            Err(Unanswered::Ended) => self.query_history(&row, &name, &input).await,
            other => other,
        };
        let outcome = answer.map_err(|why| match why {
            Unanswered::NotStarted | Unanswered::Ended => MessageError::NotStarted(row.id.clone()),
            Unanswered::Blocked => ControlError::Blocked(row.id.clone()).into(),
            Unanswered::Diverged(difference) => MessageError::CodeGone { id: row.id.clone(), difference },
            Unanswered::Guest(error) => error.into(),
            Unanswered::Store(error) => error.into(),
        })?;
        self.with_questions(whom, &name, outcome).map_err(MessageError::Failed)
    }

    /// Asks an execution that has ended.
    async fn query_history(
        &self,
        row: &ExecutionRow,
        name: &str,
        input: &Json,
    ) -> Result<Outcome, Unanswered> {
        let _permit = self.turn_permits.acquire().await;
        let held = |held: HeldBack| Unanswered::Guest(GuestError::Invalid(format!("the query is {held}")));
        let _running = self.crashes.enter(Step::Query(row.run_id)).map_err(held)?;
        let first = self.history(row.key, 0, 1).map_err(Unanswered::Store)?;
        let Some(crate::history::StoredRecord { at, record: Record::Started(started), .. }) = first.first()
        else {
            return Err(Unanswered::NotStarted);
        };
        // Its row may be of before an upgrade, and its code may not be there any more.
        let row = self.store.row(row.key).map_err(Unanswered::Store)?.unwrap_or_else(|| row.clone());
        let missing = |_| Unanswered::Guest(GuestError::Missing(row.digest));
        let digest = self.code_for(&row, None).await.map_err(missing)?;
        let init = turn::init(&row.id, started, *at);
        let mut instance = self.repeat(row.key, &digest, init, u32::MAX).await?;
        instance.query(name, input).await.map_err(Unanswered::Guest)
    }

    /// Asks for an update, and waits for the answer as far as `stage` says, at most for `limit`. An update with an id that
    /// was sent before is not sent again: its answer is given. An answer to a question of the execution's tool calls is
    /// delivered to the call; the workflow does not hear of it.
    pub async fn update(
        &self,
        whom: impl Into<Address<'_>>,
        update_id: Option<String>,
        message: Message,
        stage: WaitFor,
        limit: Option<Duration>,
    ) -> Result<(String, UpdateState), MessageError> {
        let submitted = questions::submitted_to(&message);
        let (update_id, state) = self.send_update(whom.into(), update_id, message, stage, limit).await?;
        Ok((update_id, questions::unknown_to_workflow(submitted, state)))
    }

    #[boxed]
    async fn send_update<'a>(
        &self,
        whom: Address<'a>,
        update_id: Option<String>,
        message: Message,
        stage: WaitFor,
        limit: Option<Duration>,
    ) -> Result<(String, UpdateState), MessageError>
    where
        'a: 'async_recursion,
    {
        if let Some(known) = &update_id
            && let Some(row) = self.store.find(whom.id)?.filter(|row| whom.reaches(row))
            && let Some(state) = self.update_state(&row, known)?
            && (state.is_final() || stage != WaitFor::Completed)
        {
            return Ok((known.clone(), state));
        }
        let mut row = self.open_row(whom)?;
        let message = self.checked(&row, Kind::Update, message).await?;
        let chosen = update_id.is_some();
        let update_id = update_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        if let Some(state) = self.submitted(whom, &message)? {
            return Ok((update_id, state));
        }
        let answer = loop {
            let cell = self.cell(&row);
            let answer = cell.updates.wait(&update_id, stage);
            let input = Input::Update { id: update_id.clone(), message: message.clone() };
            let recorded = cell.post_and_confirm(input);
            self.drive(&cell).await;
            match recorded.await {
                Ok(Ok(())) => break answer,
                Ok(Err(Refused::Store(error))) => return Err(error.into()),
                Ok(Err(Refused::Ended)) | Err(_) => {
                    // A run that has just ended may have been followed by another.
                    let next = self.open_row(whom)?;
                    if next.key == row.key {
                        return Err(ControlError::Ended(next.id).into());
                    }
                    row = next;
                }
            }
        };
        if stage == WaitFor::Sent {
            return Ok((update_id, UpdateState::Sent));
        }
        // Somebody else may have sent the same one meanwhile, and have had its answer.
        if chosen
            && let Some(state) = self.update_state(&row, &update_id)?
            && state.is_final()
        {
            return Ok((update_id, state));
        }
        let answer = async { answer.await.ok() };
        let state = match limit {
            Some(limit) => match tokio::time::timeout(limit, answer).await {
                Ok(state) => state,
                Err(_) => {
                    let state = self.update_state(&row, &update_id)?.unwrap_or(UpdateState::Sent);
                    return Ok((update_id, state));
                }
            },
            None => answer.await,
        };
        match state {
            Some(state) => Ok((update_id, state)),
            // The run has ended without an answer, or with one that came before anybody listened.
            None => match self.update_state(&row, &update_id)? {
                Some(state) if state.is_final() => Ok((update_id, state)),
                _ => Err(MessageError::Failed(unanswered())),
            },
        }
    }

    /// How far an update has come; `None` for one that was never sent to the current run.
    pub fn update_state(
        &self,
        row: &ExecutionRow,
        update_id: &str,
    ) -> Result<Option<UpdateState>, StoreError> {
        let (mut state, mut index): (Option<UpdateState>, u32) = (None, 0);
        loop {
            let page = self.history(row.key, index, 1024)?;
            if page.is_empty() {
                return Ok(match state {
                    // Nobody answers it any more.
                    Some(open) if !open.is_final() && row.status != Status::Running => {
                        Some(UpdateState::Completed(Err(unanswered())))
                    }
                    state => state,
                });
            }
            for stored in page {
                index += 1;
                if let Record::Activation { jobs, .. } | Record::Received { jobs } = &stored.record {
                    let sent = jobs
                        .iter()
                        .any(|job| matches!(job, crate::history::Job::Update { id, .. } if id == update_id));
                    if sent && state.is_none() {
                        state = Some(UpdateState::Sent);
                    }
                }
                for (id, answer) in answers(std::slice::from_ref(&stored.record)) {
                    if id == update_id {
                        state = Some(answer);
                    }
                }
            }
        }
    }

    pub(super) fn open_row(&self, whom: Address<'_>) -> Result<ExecutionRow, ControlError> {
        let row = self.find(whom)?;
        if row.status != Status::Running {
            return Err(ControlError::Ended(row.id));
        }
        Ok(row)
    }

    /// A message whose handler exists and whose input is as the handler says.
    pub(super) async fn checked(
        &self,
        row: &ExecutionRow,
        kind: Kind,
        message: Message,
    ) -> Result<Message, MessageError> {
        let digest = match row.status {
            Status::Running => row.digest,
            _ => self.code_for(row, None).await?,
        };
        let definition = self.guests.definition(&digest).await?;
        self.checked_by(&definition, digest, &row.workflow, kind, message).await
    }

    pub(super) async fn checked_by(
        &self,
        definition: &PluginDefinition,
        digest: crate::Digest,
        workflow: &str,
        kind: Kind,
        message: Message,
    ) -> Result<Message, MessageError> {
        let Message { name, input, sender } = message;
        let (bytes, limit) = (input.as_str().len(), self.config.max_input_bytes);
        if bytes > limit {
            return Err(MessageError::TooLarge { bytes, limit });
        }
        let input = if input.is_null() { Json::from(serde_json::json!({})) } else { input };
        if name.starts_with(Handler::RESERVED) {
            return Ok(Message { name, input, sender });
        }
        let handlers = definition.workflow(workflow).map_or(&[][..], |workflow| kind.of(workflow));
        let Some(handler) = handlers.iter().find(|handler| handler.name == name) else {
            let names: Vec<&str> = handlers.iter().map(|handler| handler.name.as_str()).collect();
            let known = if names.is_empty() { "none".into() } else { names.join(", ") };
            let workflow = workflow.to_owned();
            return Err(MessageError::UnknownHandler { kind: kind.word(), name, workflow, known });
        };
        let place = format!("{workflow}/{}/{name}", kind.word());
        let checked = self.validators.check(digest, place, &handler.input_schema, &input);
        checked.await.map_err(|error| match error {
            super::start::Invalid::Problems(problems) => {
                MessageError::InvalidInput { name: name.clone(), problems }
            }
            super::start::Invalid::Schema(error) => error.into(),
        })?;
        Ok(Message { name, input, sender })
    }
}
