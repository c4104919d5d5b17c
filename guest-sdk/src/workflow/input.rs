//! Asking people for input while a workflow runs (contract/workflow-features.md §7.1): who waits for what can be read with
//! the query `__get_pending_inputs`, and is answered with the update `__submit_input`.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    rc::{Rc, Weak},
    time::Duration,
};

use futures_util::future::Either;
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};

use super::{
    Workflow,
    pending::{Pending, Wanted},
    protocol::{Command, SearchValue},
    shared::Shared,
};
use crate::{Error, Result, TaskEvent, TaskPhase, log, schema};

const PENDING_INPUTS: &str = "__get_pending_inputs";
const SUBMIT_INPUT: &str = "__submit_input";
const TASK_TYPE: &str = "wait_for_input";
const EXECUTION_STATE: &str = "internal.execution.state";

#[derive(Deserialize)]
struct Submission {
    task_id: String,
    /// As it was sent: a large number survives only as its text.
    input: Box<RawValue>,
}

/// A wait for somebody's input. Options may be set until it is awaited with [`InputRequest::get`].
#[must_use = "nobody is asked before `get`"]
pub struct InputRequest<'a, T> {
    workflow: Workflow,
    label: Option<String>,
    limit: Option<Duration>,
    reminder: Option<Reminder<'a>>,
    input: PhantomData<fn() -> T>,
}

/// One reminder under way.
type Reminding<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// What is done again and again until there is an answer.
struct Reminder<'a> {
    every: Duration,
    remind: Box<dyn FnMut() -> Reminding<'a> + 'a>,
}

impl Reminder<'_> {
    /// Goes on until it is dropped.
    async fn run(&mut self, workflow: &Workflow) {
        while workflow.sleep(self.every).await.is_ok() {
            match (self.remind)().await {
                Err(error) if !error.is_cancelled() => log::warn!("a reminder failed: {error}"),
                _ => {}
            }
        }
        // The execution is cancelled, which the wait itself hears of.
        std::future::pending().await
    }
}

impl Workflow {
    /// Asks whoever follows the execution for a `T`, as a task event of type `wait_for_input` with its JSON Schema.
    /// Several may be wanted at once.
    pub fn wait_for_input<'a, T: JsonSchema + DeserializeOwned>(&self) -> InputRequest<'a, T> {
        InputRequest { workflow: self.clone(), label: None, limit: None, reminder: None, input: PhantomData }
    }
}

impl<'a, T: JsonSchema + DeserializeOwned> InputRequest<'a, T> {
    /// What to show people beside the form.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// How long to wait. After it nobody can answer any more, and the wait ends with [`Error::TIMEOUT`].
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Does something whenever so much time has passed without an answer:
    /// `.remind_every(day, || ctx.activity(remind, purchase.clone()))`. The time runs from the end of one reminder to the
    /// beginning of the next. One that fails is a warning in the log, and the wait goes on; an answer gives up one under way.
    pub fn remind_every<F>(mut self, every: Duration, mut remind: impl FnMut() -> F + 'a) -> Self
    where
        F: Future<Output = Result<()>> + 'a,
    {
        self.reminder = Some(Reminder { every, remind: Box::new(move || Box::pin(remind())) });
        self
    }

    /// Waits for it.
    ///
    /// # Errors
    /// [`Error::TIMEOUT`], and [`Error::CANCELLED`] when the execution is cancelled.
    pub async fn get(self) -> Result<T> {
        let Self { workflow, label, limit, reminder, .. } = self;
        let shared = &workflow.shared;
        let pending = shared.pending_inputs();
        install(shared, &pending);
        let schema: Value = serde_json::from_str(&schema::plain_input::<T>())?;
        let id = workflow.uuid();
        let mut state = json!({ "input_schema": schema, "label": label });
        let check = |text: &str| schema::read_plain::<T>(text).map(drop);
        // Shown to who asks what is open; not in the event, which repeats as it was recorded.
        let expires_at_ms = limit.map(|limit| {
            let limit_ms = u64::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            shared.now_ms().saturating_add(limit_ms)
        });
        let wanted = Wanted { schema, label, check, expires_at_ms, given: None };
        pending.borrow_mut().insert(id.clone(), wanted);
        let show = |phase, payload| {
            workflow.emit(TaskEvent { id: id.clone(), task_type: TASK_TYPE.to_owned(), phase, payload });
        };
        show(TaskPhase::Started, state.clone());
        set_state(shared, true);
        let given = || pending.borrow().get(&id).is_some_and(|wanted| wanted.given.is_some());
        let wait = async {
            let answered = workflow.wait_until(given);
            match reminder {
                None => answered.await,
                Some(mut reminder) => match workflow.race(answered, reminder.run(&workflow)).await {
                    Either::Left(answered) => answered,
                    Either::Right(()) => Ok(()),
                },
            }
        };
        let waited = match limit {
            Some(limit) => workflow.timeout(limit, wait).await.and_then(|waited| waited),
            None => wait.await,
        };
        let answer = pending.borrow_mut().remove(&id).and_then(|wanted| wanted.given);
        if pending.borrow().is_empty() {
            set_state(shared, false);
        }
        match (waited, answer) {
            (Ok(()), Some(answer)) => {
                state["input"] = serde_json::from_str(answer.get()).unwrap_or_default();
                show(TaskPhase::Completed, state);
                schema::read_plain(answer.get())
            }
            (waited, _) => {
                let error =
                    waited.err().unwrap_or_else(|| Error::new(Error::DEFAULT_KIND, "nothing was given"));
                show(TaskPhase::Failed, Value::String(error.message().to_owned()));
                Err(error)
            }
        }
    }
}

fn set_state(shared: &Shared, waits: bool) {
    let value = if waits { SearchValue::Text("waiting_for_input".to_owned()) } else { SearchValue::Removed };
    shared.command(Command::SearchKeys(vec![(EXECUTION_STATE.to_owned(), value)]));
}

/// Answers the two messages about inputs.
fn install(shared: &Rc<Shared>, pending: &Pending) {
    let listed = Rc::clone(pending);
    shared.handlers.on_query(
        PENDING_INPUTS,
        Rc::new(move |_| {
            let pending = listed.borrow();
            let waiting = pending.iter().filter(|(_, wanted)| wanted.given.is_none());
            let entries: Vec<Value> = waiting
                .map(|(id, wanted)| {
                    let mut entry =
                        json!({ "task_id": id, "input_schema": wanted.schema, "label": wanted.label });
                    if let Some(at) = wanted.expires_at_ms {
                        entry["expires_at_ms"] = at.into();
                    }
                    entry
                })
                .collect();
            Ok(json!({ "pending_inputs": entries }).to_string())
        }),
    );
    let given: Weak<_> = Rc::downgrade(pending);
    shared.handlers.on_update(
        SUBMIT_INPUT,
        Rc::new(move |message| {
            let Submission { task_id, input } = schema::read_plain(&message.input)?;
            let unknown =
                || Error::invalid_input(format!("No pending input request found for task {task_id}"));
            let pending = given.upgrade().ok_or_else(unknown)?;
            let mut pending = pending.borrow_mut();
            let wanted =
                pending.get_mut(&task_id).filter(|wanted| wanted.given.is_none()).ok_or_else(unknown)?;
            (wanted.check)(input.get()).map_err(|error| {
                Error::invalid_input(format!("Invalid input for task {task_id}: {}", error.message()))
            })?;
            wanted.given = Some(input);
            Ok(Box::pin(std::future::ready(Ok("{}".to_owned()))) as _)
        }),
    );
}
