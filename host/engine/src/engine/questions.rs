//! Questions of tool calls to the people who follow an execution, and their answers.
//!
//! A question lives in memory, as the call that asks it does: after a crash the step asks again, under the same id.
//! Clients see it as a task of type `wait_for_input`, as those that workflows ask (contract/workflow-features.md §7.1),
//! and list and answer it with the same two messages.

use std::time::Duration;

use airlock_schemas::{Checked, Dialect, Outcome as Checking, Schemas};
use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::{
    Address, ControlError, Engine, InputProblem,
    call::EVENT_BYTES,
    messages::{MessageError, UpdateState},
    now_ms, start,
};
use crate::{
    Failure, Json,
    history::{Message, Outcome, UnixMs},
    tools::Question,
};

/// The type of the task events that show questions.
pub(super) const WAIT_FOR_INPUT: &str = "wait_for_input";

/// The query that lists who waits for what, and the update that answers (contract/workflow-features.md §7.1).
pub(super) const PENDING_INPUTS: &str = "__get_pending_inputs";
pub(super) const SUBMIT_INPUT: &str = "__submit_input";

/// A question that nobody has answered.
#[derive(Debug, Clone, Serialize)]
pub struct OpenQuestion {
    /// The task that shows it; what an answer names.
    pub task_id: String,
    /// What to show beside the form.
    pub label: String,
    /// JSON Schema of the answer.
    pub input_schema: Json,
    /// What it is about: an object.
    pub about: Json,
    /// When it was asked, in milliseconds since the Unix epoch.
    pub asked_at_ms: UnixMs,
    /// When it is withdrawn, if it is.
    pub expires_at_ms: Option<UnixMs>,
}

/// A question could not be answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AnswerError {
    /// The execution is not there, or has ended.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Nobody asks this, or not any more.
    #[error("No pending input request found for task {0}")]
    Unknown(String),
    /// The answer does not match the question's schema. The question stays open.
    #[error("Invalid input for task {task_id}: {}", describe(.problems))]
    Invalid {
        /// The question.
        task_id: String,
        /// Where and why.
        problems: Vec<InputProblem>,
    },
    /// The answer is too big. The question stays open.
    #[error("the input has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// What was sent.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
}

fn describe(problems: &[InputProblem]) -> String {
    let one = |InputProblem { pointer, message }: &InputProblem| match pointer.as_str() {
        "" => message.clone(),
        pointer => format!("{pointer}: {message}"),
    };
    problems.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Question {
    /// What the task event holds.
    pub(super) fn state(&self) -> Value {
        let mut state = match self.about.value() {
            Value::Object(about) => about,
            _ => Map::new(),
        };
        state.insert("input_schema".into(), self.input_schema.value());
        state.insert("label".into(), self.label.clone().into());
        state.into()
    }
}

/// What somebody answered, and who.
pub(super) struct Answer {
    pub(super) input: Json,
    pub(super) sender: String,
}

struct Waiting {
    task_id: String,
    question: Question,
    asked_at: UnixMs,
    expires_at: Option<UnixMs>,
    form: Checked,
    answer: oneshot::Sender<Answer>,
}

/// How long a question is open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) limit: Duration,
    /// When it was asked first; a restart does not begin anew.
    pub(super) asked_at: UnixMs,
}

impl Deadline {
    pub(super) fn at(&self) -> UnixMs {
        self.asked_at.saturating_add(u64::try_from(self.limit.as_millis()).unwrap_or(UnixMs::MAX))
    }

    fn rest(&self) -> Duration {
        Duration::from_millis(self.at().saturating_sub(now_ms()))
    }
}

/// A time as clients read it: RFC 3339, in UTC.
pub(super) fn time(at: UnixMs) -> String {
    let at =
        i64::try_from(at).ok().and_then(DateTime::from_timestamp_millis).unwrap_or(DateTime::<Utc>::MAX_UTC);
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The open questions of a run, in the order in which they were asked.
#[derive(Default)]
pub(super) struct Questions(Mutex<Vec<Waiting>>);

impl Questions {
    /// Opens a question. It is open as long as what this gives is there and nobody has answered.
    pub(super) fn ask(
        &self,
        task_id: &str,
        question: Question,
        deadline: Option<&Deadline>,
    ) -> Result<Asked<'_>, Failure> {
        // The form may come from a service.
        let compiled = Schemas::of_process().compile_blocking(&question.input_schema.value(), Dialect::Input);
        let form = compiled.map_err(|refused| {
            let message = format!("the form of the question cannot be used: {refused}");
            Failure::permanent(Failure::CONNECTOR, message)
        })?;
        let (answer, answered) = oneshot::channel();
        let task_id = task_id.to_owned();
        let asked_at = deadline.map_or_else(now_ms, |deadline| deadline.asked_at);
        let expires_at = deadline.map(Deadline::at);
        let mut open = self.0.lock();
        open.retain(|waiting| waiting.task_id != task_id);
        open.push(Waiting { task_id: task_id.clone(), question, asked_at, expires_at, form, answer });
        Ok(Asked { questions: self, task_id, answered })
    }

    fn list(&self) -> Vec<OpenQuestion> {
        let open = |waiting: &Waiting| OpenQuestion {
            task_id: waiting.task_id.clone(),
            label: waiting.question.label.clone(),
            input_schema: waiting.question.input_schema.clone(),
            about: waiting.question.about.clone(),
            asked_at_ms: waiting.asked_at,
            expires_at_ms: waiting.expires_at,
        };
        self.0.lock().iter().map(open).collect()
    }

    fn has(&self, task_id: &str) -> bool {
        self.0.lock().iter().any(|waiting| waiting.task_id == task_id)
    }

    fn answer(&self, task_id: &str, answer: Answer) -> Result<(), AnswerError> {
        let (bytes, limit) = (answer.input.as_str().len(), EVENT_BYTES);
        if bytes > limit {
            return Err(AnswerError::TooLarge { bytes, limit });
        }
        let unknown = || AnswerError::Unknown(task_id.to_owned());
        let form = {
            let open = self.0.lock();
            let asked = open.iter().find(|waiting| waiting.task_id == task_id).ok_or_else(unknown)?;
            asked.form.clone()
        };
        let problems = match form.check_blocking(&answer.input.value()) {
            Checking::Fits => Vec::new(),
            Checking::Differs(differences) => start::problems(differences),
            Checking::Undecided(undecided) => vec![start::unchecked(&undecided)],
        };
        if !problems.is_empty() {
            return Err(AnswerError::Invalid { task_id: task_id.to_owned(), problems });
        }
        let mut open = self.0.lock();
        let place = open.iter().position(|waiting| waiting.task_id == task_id).ok_or_else(unknown)?;
        open.remove(place).answer.send(answer).map_err(|_| unknown())
    }
}

/// An open question, for who asked.
pub(super) struct Asked<'a> {
    questions: &'a Questions,
    task_id: String,
    answered: oneshot::Receiver<Answer>,
}

impl Asked<'_> {
    /// Waits for the answer; gives none when the deadline has come without one.
    pub(super) async fn answer(mut self, deadline: Option<Deadline>) -> Result<Option<Answer>, Failure> {
        let replaced =
            |_| Failure::permanent(Failure::CANCELLED, "another call of the same step asks the question now");
        let Some(deadline) = deadline else { return (&mut self.answered).await.map(Some).map_err(replaced) };
        // A timer may be early by the clock that people read.
        while !deadline.rest().is_zero() {
            if let Ok(answered) = tokio::time::timeout(deadline.rest(), &mut self.answered).await {
                return answered.map(Some).map_err(replaced);
            }
        }
        // From here on nobody can answer; who was told that the answer is delivered is right.
        self.answered.close();
        match self.answered.try_recv() {
            Ok(answer) => Ok(Some(answer)),
            Err(_) => Ok(None),
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        // The receiver tells it from one of the same id that was asked later.
        self.answered.close();
        self.questions
            .0
            .lock()
            .retain(|waiting| waiting.task_id != self.task_id || !waiting.answer.is_closed());
    }
}

/// The input of the update that answers.
#[derive(Deserialize)]
struct Submission {
    task_id: String,
    #[serde(default)]
    input: Value,
}

/// The task that an update answers, if it answers one.
pub(super) fn submitted_to(message: &Message) -> Option<String> {
    let submission: Option<Submission> = message.input.to().ok().filter(|_| message.name == SUBMIT_INPUT);
    submission.map(|submission| submission.task_id)
}

/// A workflow that never asks has no handler for answers: it knows of no such task.
pub(super) fn unknown_to_workflow(task_id: Option<String>, state: UpdateState) -> UpdateState {
    match (state, task_id) {
        (UpdateState::Rejected(failure), Some(task_id)) if failure.kind == Failure::NOT_FOUND => {
            let message = AnswerError::Unknown(task_id).to_string();
            UpdateState::Rejected(Failure::permanent(Failure::NOT_FOUND, message))
        }
        (state, _) => state,
    }
}

impl Engine {
    /// The open questions of an execution's tool calls. None for one that has ended.
    pub fn questions<'a>(&self, whom: impl Into<Address<'a>>) -> Result<Vec<OpenQuestion>, ControlError> {
        let whom = whom.into();
        match self.cell_in_memory(whom) {
            Some(cell) => Ok(cell.questions.list()),
            None => self.find(whom).map(|_| Vec::new()),
        }
    }

    /// Answers a question of a tool call. An answer that does not match the question's schema leaves it open. An answer is
    /// not durable: if the daemon dies before the call's result is recorded, the step asks again.
    pub fn answer<'a>(
        &self,
        whom: impl Into<Address<'a>>,
        task_id: &str,
        input: Json,
        sender: &str,
    ) -> Result<(), AnswerError> {
        let whom = whom.into();
        match self.cell_in_memory(whom) {
            Some(cell) => cell.questions.answer(task_id, Answer { input, sender: sender.to_owned() }),
            None => {
                self.open_row(whom)?;
                Err(AnswerError::Unknown(task_id.to_owned()))
            }
        }
    }

    /// Answers a question if an update is an answer to one. Anything else is for the workflow.
    pub(super) fn submitted(
        &self,
        whom: Address<'_>,
        message: &Message,
    ) -> Result<Option<UpdateState>, MessageError> {
        if message.name != SUBMIT_INPUT {
            return Ok(None);
        }
        let Ok(Submission { task_id, input }) = message.input.to() else { return Ok(None) };
        if !self.cell_in_memory(whom).is_some_and(|cell| cell.questions.has(&task_id)) {
            return Ok(None);
        }
        let refused = |error: AnswerError| Failure::permanent(Failure::INVALID_INPUT, error.to_string());
        match self.answer(whom, &task_id, input.into(), &message.sender) {
            Ok(()) => Ok(Some(UpdateState::Completed(Ok(json!({}).into())))),
            Err(AnswerError::Control(error)) => Err(error.into()),
            Err(AnswerError::TooLarge { bytes, limit }) => Err(MessageError::TooLarge { bytes, limit }),
            Err(error) => Ok(Some(UpdateState::Rejected(refused(error)))),
        }
    }

    /// A workflow's answer to the question who waits for what, with the questions of its tool calls. A workflow that never
    /// asks has no handler for it.
    pub(super) fn with_questions(&self, whom: Address<'_>, name: &str, outcome: Outcome) -> Outcome {
        if name != PENDING_INPUTS {
            return outcome;
        }
        let mut answer = match outcome {
            Ok(answer) => answer.value(),
            Err(failure) if failure.kind == Failure::NOT_FOUND => json!({ "pending_inputs": [] }),
            Err(failure) => return Err(failure),
        };
        let open = self.cell_in_memory(whom).map(|cell| cell.questions.list()).unwrap_or_default();
        if let Some(list) = answer.get_mut("pending_inputs").and_then(Value::as_array_mut) {
            let entry = |question: OpenQuestion| {
                let mut entry = json!({
                    "task_id": question.task_id, "input_schema": question.input_schema.value(),
                    "label": question.label,
                });
                if let Some(at) = question.expires_at_ms {
                    entry["expires_at_ms"] = at.into();
                }
                entry
            };
            list.extend(open.into_iter().map(entry));
        }
        Ok(answer.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(schema: Value) -> Question {
        let about = json!({ "tool": "t" }).into();
        Question { label: "Go on?".into(), input_schema: schema.into(), about, expires_after: None }
    }

    fn yes() -> Answer {
        Answer { input: json!({ "yes": true }).into(), sender: "ada".into() }
    }

    #[tokio::test]
    async fn a_question_is_answered_once_and_only_as_its_form_says() {
        let questions = Questions::default();
        let form =
            json!({ "type": "object", "required": ["yes"], "properties": { "yes": { "type": "boolean" } } });
        let asked = questions.ask("q", question(form), None).expect("is asked");
        let wrong = Answer { input: json!({ "yes": 1 }).into(), sender: "ada".into() };
        let error = questions.answer("q", wrong).expect_err("does not fit");
        assert_eq!(error.to_string(), "Invalid input for task q: /yes: value is not of type \"boolean\"");
        assert_eq!(questions.list().len(), 1);
        questions.answer("q", yes()).expect("fits");
        assert!(matches!(questions.answer("q", yes()), Err(AnswerError::Unknown(_))));
        assert_eq!(
            asked.answer(None).await.expect("is answered").map(|answer| answer.sender).as_deref(),
            Some("ada")
        );
    }

    #[test]
    fn a_question_that_nobody_waits_for_is_not_open() {
        let questions = Questions::default();
        drop(questions.ask("q", question(json!({})), None));
        assert!(questions.list().is_empty());
        let older = questions.ask("q", question(json!({})), None);
        let _newer = questions.ask("q", question(json!({})), None);
        drop(older);
        assert_eq!(questions.list().len(), 1);
    }

    #[test]
    fn a_form_that_is_no_schema_or_that_looks_elsewhere_is_refused() {
        let questions = Questions::default();
        for form in [json!({ "type": "colour" }), json!({ "$ref": "http://127.0.0.1:1/form" })] {
            assert!(questions.ask("q", question(form), None).is_err());
        }
    }

    #[test]
    fn the_form_and_the_label_stand_beside_what_it_is_about() {
        let about = json!({ "label": "overwritten", "tool_name": "t" }).into();
        let state = Question { about, ..question(json!({})) }.state();
        assert_eq!(state, json!({ "tool_name": "t", "input_schema": {}, "label": "Go on?" }));
    }

    #[tokio::test]
    async fn a_question_that_expires_is_withdrawn_and_an_answer_in_time_counts() {
        let questions = Questions::default();
        let begun = now_ms();
        let limit = Duration::from_millis(30);
        let deadline = Deadline { limit, asked_at: begun };
        let asked = questions.ask("q", question(json!({})), Some(&deadline)).expect("is asked");
        let open = &questions.list()[0];
        assert_eq!((open.asked_at_ms, open.expires_at_ms), (begun, Some(begun + 30)));
        assert!(asked.answer(Some(deadline)).await.expect("ends").is_none());
        assert!(now_ms() >= begun + 30 && questions.list().is_empty());
        assert!(matches!(questions.answer("q", yes()), Err(AnswerError::Unknown(_))));

        // One that was delivered before it was looked at, however late that is.
        let late = Deadline { limit, asked_at: begun.saturating_sub(1_000) };
        let asked = questions.ask("q", question(json!({})), Some(&late)).expect("is asked");
        questions.answer("q", yes()).expect("is open");
        assert!(asked.answer(Some(late)).await.expect("ends").is_some());
    }

    #[test]
    fn a_deadline_that_no_clock_reaches_is_a_time_all_the_same() {
        let deadline = Deadline { limit: Duration::MAX, asked_at: 1 };
        assert!(time(deadline.at()).starts_with("+262142-12-31T"), "{}", time(deadline.at()));
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
