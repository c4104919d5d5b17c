//! Questions that tool calls of an execution put to people, and the answers.

use airlock_engine::{
    Json as Text,
    engine::{AnswerError, OpenQuestion},
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
    caller::Caller,
    error::{self, ApiError, ApiResult},
    executions,
    page::JsonBody,
    wire,
};

/// `GET /v1/airlock/executions/{execution_id}/questions`: those that wait for an answer, oldest first.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    let view = executions::find(&state, &caller, &id)?;
    let open = state.engine.questions(&view.row.id)?;
    Ok(Json(json!({ "questions": open.iter().map(described).collect::<Vec<_>>() })))
}

fn described(question: &OpenQuestion) -> Value {
    json!({
        "task_id": question.task_id,
        "label": question.label,
        "input_schema": question.input_schema.value(),
        "about": question.about.value(),
        "asked_at": wire::time(question.asked_at_ms),
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
    let view = executions::find(&state, &caller, &id)?;
    let input = Text::parse(body.input.get())
        .map_err(|error| ApiError::invalid(&["body", "input"], error.to_string()))?;
    let sender = caller.principal.user.as_str();
    state.engine.answer(&view.row.id, &task_id, input, sender).map_err(refused)?;
    Ok(Json(json!({ "message": "the answer is delivered" })))
}

fn refused(error: AnswerError) -> ApiError {
    let detail = error.to_string();
    match error {
        AnswerError::Control(error) => error.into(),
        AnswerError::Unknown(_) => ApiError::not_found(detail),
        AnswerError::Invalid { problems, .. } => {
            ApiError::Invalid(problems.into_iter().map(error::place).collect())
        }
        AnswerError::TooLarge { .. } => ApiError::Status(StatusCode::PAYLOAD_TOO_LARGE, detail),
    }
}
