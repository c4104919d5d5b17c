//! Questions that an execution puts to people, and the answers: those of its tool calls, which the engine knows, and
//! those of its workflow, which that alone knows (contract/workflow-features.md §7.1).

use std::time::Duration;

use airlock_engine::{
    Failure, Json as Text,
    engine::{AnswerError, OpenQuestion, UpdateState, WaitFor},
    history::Message,
    store::{ExecutionRow, Status},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    ApiState,
    body::JsonBody,
    caller::Caller,
    error::{self, ApiError, ApiResult},
    executions,
    streams::{self, Over},
    wire,
};

const PENDING_INPUTS: &str = "__get_pending_inputs";
const SUBMIT_INPUT: &str = "__submit_input";

/// How long a workflow may take to look at an answer. A paused one does not look.
const LOOK: Duration = Duration::from_secs(10);

/// `GET /v1/airlock/executions/{execution_id}/questions`: those that wait for an answer; first those of tool calls, oldest
/// first.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    let row = executions::find(&state, &caller, &id)?;
    let mut open: Vec<Value> = state.engine.questions(&row)?.iter().map(described).collect();
    if row.status == Status::Running {
        let message =
            Message { name: PENDING_INPUTS.into(), input: Text::null(), sender: sender(&caller).into() };
        // A workflow that has not begun, or cannot be asked, asks nothing.
        let answer = state.engine.query(&row, message).await;
        let pending = answer.map(|answer| answer.value()["pending_inputs"].take()).unwrap_or_default();
        for wanted in pending.as_array().into_iter().flatten() {
            if open.iter().all(|known| known["task_id"] != wanted["task_id"]) {
                open.push(json!({
                    "task_id": wanted["task_id"], "label": wanted["label"],
                    "input_schema": wanted["input_schema"], "about": {}, "asked_at": null,
                    "expires_at": wanted["expires_at_ms"].as_u64().map(wire::time),
                }));
            }
        }
    }
    Ok(Json(json!({ "questions": open })))
}

fn sender(caller: &Caller) -> &str {
    caller.principal.user.as_str()
}

fn described(question: &OpenQuestion) -> Value {
    json!({
        "task_id": question.task_id,
        "label": question.label,
        "input_schema": question.input_schema.value(),
        "about": question.about.value(),
        "asked_at": wire::time(question.asked_at_ms),
        "expires_at": question.expires_at_ms.map(wire::time),
    })
}

/// What somebody answers.
#[derive(Deserialize)]
pub(crate) struct Answer {
    input: Box<RawValue>,
}

/// `POST /v1/airlock/executions/{execution_id}/questions/{task_id}`: an answer that does not match the question's schema
/// leaves it open.
pub(crate) async fn answer(
    State(state): State<ApiState>,
    Path((id, task_id)): Path<(String, String)>,
    caller: Caller,
    JsonBody(body): JsonBody<Answer>,
) -> ApiResult<Json<Value>> {
    let row = executions::find(&state, &caller, &id)?;
    let input = Text::parse(body.input.get())
        .map_err(|error| ApiError::invalid(&["body", "input"], error.to_string()))?;
    match state.engine.answer(&row, &task_id, input.clone(), sender(&caller)) {
        Ok(()) => Ok(delivered("the answer is delivered")),
        Err(AnswerError::Unknown(_)) => tokio::select! {
            answered = tell_workflow(&state, &row, &task_id, &input, &caller) => answered,
            why = streams::over(&state, &caller) => Err(match why {
                Over::Closing => ApiError::Status(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the daemon is shutting down: ask after its restart whether the question is still open".into(),
                ),
                Over::Key(why) => ApiError::Status(StatusCode::UNAUTHORIZED, why.to_string()),
            }),
        },
        Err(error) => Err(refused(error)),
    }
}

fn delivered(message: &str) -> Json<Value> {
    Json(json!({ "message": message }))
}

/// The workflow itself may have asked.
async fn tell_workflow(
    state: &ApiState,
    row: &ExecutionRow,
    task_id: &str,
    input: &Text,
    caller: &Caller,
) -> ApiResult<Json<Value>> {
    // The answer as it was written: a number may be more than a value holds.
    let text = format!("{{\"task_id\":{},\"input\":{}}}", json!(task_id), input.as_str());
    let input =
        Text::parse(text).map_err(|error| ApiError::invalid(&["body", "input"], error.to_string()))?;
    let message = Message { name: SUBMIT_INPUT.into(), input, sender: sender(caller).into() };
    let (_, outcome) = state.engine.update(row, None, message, WaitFor::Completed, Some(LOOK)).await?;
    match outcome {
        UpdateState::Completed(Ok(_)) => Ok(delivered("the answer is delivered")),
        UpdateState::Sent | UpdateState::Accepted => {
            Ok(delivered("the answer is recorded: the workflow hears of it when it goes on"))
        }
        UpdateState::Rejected(failure) | UpdateState::Completed(Err(failure)) => Err(refusal(failure)),
    }
}

/// The SDK's words for a task that is not there are those of the contract.
fn refusal(failure: Failure) -> ApiError {
    match failure.message.starts_with("No pending input request") {
        true => ApiError::not_found(failure.message),
        false => ApiError::invalid(&["body", "input"], failure.message),
    }
}

fn refused(error: AnswerError) -> ApiError {
    let detail = error.to_string();
    match error {
        AnswerError::Control(error) => error.into(),
        AnswerError::Unknown(_) => ApiError::not_found(detail),
        AnswerError::Invalid { problems, .. } => error::of_input(&error::INPUT, problems),
        AnswerError::TooLarge { .. } => ApiError::Status(StatusCode::PAYLOAD_TOO_LARGE, detail),
    }
}
