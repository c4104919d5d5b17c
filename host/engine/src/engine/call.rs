//! One tool call of a step, in a workflow or in an activity: what clients see of it, and the conversation that it may have
//! with them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Engine,
    cell::Cell,
    questions::{self, Deadline, WAIT_FOR_INPUT},
    task::Task,
    waits::Waits,
};
use crate::{
    Failure, Json,
    history::Outcome,
    tools::{AuthMoment, Binding, CallOptions, CallOrigin, Conversation, Question, ToolCall},
};

/// The type of the task events that show tool calls. They name the tool and hold no arguments.
const TOOL_CALL: &str = "tool_call";

/// Progress is shown no more often than this,
const PROGRESS_PAUSE: Duration = Duration::from_millis(250);
/// no more often than this in one call, because a history has an end,
const PROGRESS_EVENTS: u32 = 100;
/// and not if it is larger than this.
const PROGRESS_BYTES: usize = 4 << 10;

/// A question with its form, and an answer, are at most this large, as any task event (`wit/events.wit`).
pub(super) const EVENT_BYTES: usize = 256 << 10;

/// The step that calls.
pub(super) struct Caller<'a> {
    pub(super) engine: &'a Arc<Engine>,
    pub(super) cell: &'a Arc<Cell>,
    pub(super) origin: &'a CallOrigin,
    /// Cancelled when nobody wants the step any more.
    pub(super) token: &'a CancellationToken,
    /// Of the attempt, if it is an activity: a workflow's own call has no clock.
    pub(super) waits: Option<&'a Waits>,
    /// Which call of the step this is.
    pub(super) number: u64,
}

impl Caller<'_> {
    pub(super) async fn call(
        self,
        binding: &Binding,
        tool: &str,
        arguments: &Json,
        options: &CallOptions,
    ) -> Outcome {
        let id = format!("{}:call-{}", self.origin.idempotency_key, self.number);
        let name = &binding.connector_name;
        let state = serde_json::json!({ "connector_name": name, "tool_name": tool });
        let task = Task::begin(self.engine, self.cell, TOOL_CALL, id, state.clone().into());
        let talk = Talk {
            caller: &self,
            binding,
            tool,
            task: &task,
            state: &state,
            asked: AtomicU32::new(0),
            shown: Mutex::default(),
        };
        let origin = self.origin;
        let call = ToolCall { origin, binding, tool, arguments, options, conversation: &talk };
        let outcome = self.engine.tools.call_tool(call).await;
        match &outcome {
            Ok(_) => task.complete(state.into()),
            Err(failure) => task.fail(failure.to_string()),
        }
        outcome
    }
}

/// The conversation of a call.
struct Talk<'a> {
    caller: &'a Caller<'a>,
    binding: &'a Binding,
    tool: &'a str,
    task: &'a Task,
    state: &'a serde_json::Value,
    /// Questions so far.
    asked: AtomicU32,
    /// Progress so far.
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    events: u32,
    last: Option<Instant>,
}

impl Shown {
    /// Whether there may be one more.
    fn one_more(&mut self, now: Instant) -> bool {
        let early = self.last.is_some_and(|last| now.duration_since(last) < PROGRESS_PAUSE);
        if early || self.events >= PROGRESS_EVENTS {
            return false;
        }
        self.events += 1;
        self.last = Some(now);
        true
    }
}

impl Talk<'_> {
    /// Unless nobody wants the step any more.
    async fn wanted<T>(&self, wait: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.caller.token.cancelled() => {
                Err(Failure::permanent(Failure::CANCELLED, "the call was cancelled while it waited for people"))
            }
            outcome = wait => outcome,
        }
    }

    /// The same when the step does again what it did: a crash, or another attempt, asks the same question.
    fn question_id(&self) -> String {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let Caller { origin, number, .. } = self.caller;
        let name =
            format!("{}:call-{number}:{}:{}:{asked}", origin.idempotency_key, self.binding.slot, self.tool);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
    }
}

#[async_trait]
impl Conversation for Talk<'_> {
    async fn authorized(&self) -> Result<(), Failure> {
        let Caller { engine, cell, origin, waits, .. } = self.caller;
        let wait = engine.authorize(cell, origin, self.binding, AuthMoment::OnDemand, None, *waits);
        self.wanted(wait).await.map(drop)
    }

    async fn ask(&self, question: Question) -> Result<Json, Failure> {
        let id = self.question_id();
        let Caller { engine, cell, waits, .. } = self.caller;
        let deadline = match question.expires_after {
            Some(limit) => Some(Deadline { limit, asked_at: engine.shown_since(cell, &id).await }),
            None => None,
        };
        let label = question.label.clone();
        let mut state = question.state();
        if let Some(deadline) = &deadline {
            state["expires_at"] = questions::time(deadline.at()).into();
        }
        let bytes = state.to_string().len();
        if bytes > EVENT_BYTES {
            let message = format!("the question has {bytes} bytes with its form; the limit is {EVENT_BYTES}");
            return Err(Failure::permanent(Failure::CONNECTOR, message));
        }
        // Whoever hears of it can answer it.
        let asked = cell.questions.ask(&id, question, deadline.as_ref())?;
        let task = Task::begin(engine, cell, WAIT_FOR_INPUT, id, state.clone().into());
        let answer = async {
            let answer = asked.answer(deadline);
            let answer = match waits {
                Some(waits) => waits.during(answer).await,
                None => answer.await,
            };
            answer?.ok_or_else(|| expired(&label, deadline))
        };
        match self.wanted(answer).await {
            Ok(answer) => {
                state["input"] = answer.input.value();
                state["answered_by"] = answer.sender.into();
                task.complete(state.into());
                Ok(answer.input)
            }
            Err(failure) => {
                task.fail(failure.message.clone());
                Err(failure)
            }
        }
    }

    fn progress(&self, progress: Json) {
        if progress.as_str().len() <= PROGRESS_BYTES && self.shown.lock().one_more(Instant::now()) {
            let mut state = self.state.clone();
            state["progress"] = progress.value();
            self.task.change(state.into());
        }
    }
}

/// What the step is told when nobody answered in time.
fn expired(label: &str, deadline: Option<Deadline>) -> Failure {
    let limit = deadline.map_or(Duration::ZERO, |deadline| deadline.limit);
    let message = format!("nobody answered within {limit:?}, and the question was withdrawn: {label}");
    Failure::permanent(Failure::QUESTION_EXPIRED, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_cannot_flood_a_history() {
        let began = Instant::now();
        let (mut shown, mut events) = (Shown::default(), 0);
        for n in 0..1000 {
            events += u32::from(shown.one_more(began + n * PROGRESS_PAUSE / 2));
        }
        assert_eq!(events, PROGRESS_EVENTS);
        let mut shown = Shown::default();
        let first_three = [0, 1, 2].map(|n| shown.one_more(began + n * PROGRESS_PAUSE / 2));
        assert_eq!(first_three, [true, false, true]);
    }
}
