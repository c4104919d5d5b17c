//! Signals, queries and updates.

use airlock_engine::engine::{IdReuse, MessageError, UpdateState, WaitFor};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    ApiState,
    body::JsonBody,
    caller::Caller,
    error::{ApiError, ApiResult, SIGNAL_INPUT},
    execute::ExecuteBody,
    executions,
    input::{Invocation, seconds},
    part::Part,
    streams::{self, Over},
    wire, workflows,
};

/// What stands for something else in an address is written out.
const IN_A_PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

fn id_of(place: &[&str], id: Option<&String>) -> ApiResult<Option<String>> {
    match id {
        Some(id) if id.is_empty() || id.len() > 256 => {
            Err(ApiError::invalid(place, "an id has 1 to 256 bytes"))
        }
        other => Ok(other.cloned()),
    }
}

/// `POST /v1/workflows/executions/{execution_id}/signals`
pub(crate) async fn signal(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<Invocation>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let row = executions::find(&state, &caller, &id)?;
    let signal_id = id_of(&["body", "signal_id"], body.signal_id.as_ref())?;
    state.engine.signal(&row, signal_id, body.message(&caller)?).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "message": "Signal accepted" }))))
}

/// `POST /v1/workflows/executions/{execution_id}/queries`
pub(crate) async fn query(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<Invocation>,
) -> ApiResult<Part> {
    let row = executions::find(&state, &caller, &id)?;
    let answer = state.engine.query(&row, body.message(&caller)?).await?;
    Ok(Part::object([("query_name", json!(body.name).into()), ("result", (&answer).into())]))
}

/// `POST /v1/workflows/executions/{execution_id}/updates`: answers when the update is done.
pub(crate) async fn update(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<Invocation>,
) -> ApiResult<Part> {
    let (update_id, update_state) = send_update(&state, &caller, &id, &body).await?;
    match update_state {
        UpdateState::Completed(Ok(result)) => {
            let names = json!({ "update_name": body.name, "update_id": update_id });
            Ok(Part::with(names, [("result", (&result).into())]))
        }
        UpdateState::Completed(Err(failure)) | UpdateState::Rejected(failure) => {
            Err(MessageError::Failed(failure).into())
        }
        UpdateState::Sent | UpdateState::Accepted => Err(not_done(&id, &update_id, "is not done yet")),
    }
}

/// `POST /v1/airlock/executions/{execution_id}/updates`: waits as far as the caller wants, and says how far it has come.
pub(crate) async fn update_state(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<Invocation>,
) -> ApiResult<Part> {
    let (update_id, update_state) = send_update(&state, &caller, &id, &body).await?;
    Ok(described(&update_id, &update_state))
}

/// `GET /v1/airlock/executions/{execution_id}/updates/{update_id}`
pub(crate) async fn get_update(
    State(state): State<ApiState>,
    Path((id, update_id)): Path<(String, String)>,
    caller: Caller,
) -> ApiResult<Part> {
    let row = executions::find(&state, &caller, &id)?;
    let found = state.engine.update_state(&row, &update_id)?;
    let found = found
        .ok_or_else(|| ApiError::not_found(format!("the execution '{id}' has no update '{update_id}'")))?;
    Ok(described(&update_id, &found))
}

async fn send_update(
    state: &ApiState,
    caller: &Caller,
    id: &str,
    body: &Invocation,
) -> ApiResult<(String, UpdateState)> {
    let row = executions::find(state, caller, id)?;
    let update_id = id_of(&["body", "update_id"], body.update_id.as_ref())?;
    let limit = seconds("timeout_seconds", body.timeout_seconds)?;
    let stage = body.wait_for.map_or(WaitFor::Completed, WaitFor::from);
    // Whoever is told that it goes on has to know what to ask for.
    let update_id = update_id.unwrap_or_else(|| Uuid::new_v4().to_string());
    let named = update_id.clone();
    let sent = state.engine.update(&row, Some(update_id), body.message(caller)?, stage, limit);
    tokio::select! {
        sent = sent => Ok(sent?),
        why = streams::over(state, caller) => Err(match why {
            Over::Closing => not_done(id, &named, "is not done, and the daemon stops"),
            Over::Key(why) => ApiError::Status(StatusCode::UNAUTHORIZED, why.to_string()),
        }),
    }
}

/// Not 5xx: clients retry those, and that would send another one.
fn not_done(id: &str, update_id: &str, why: &str) -> ApiError {
    let path = |text: &str| utf8_percent_encode(text, IN_A_PATH).to_string();
    let detail = format!(
        "the update '{update_id}' {why}; it goes on: ask for it at /v1/airlock/executions/{}/updates/{}",
        path(id),
        path(update_id)
    );
    ApiError::Status(StatusCode::REQUEST_TIMEOUT, detail)
}

fn described(update_id: &str, state: &UpdateState) -> Part {
    let failure = |failure: &airlock_engine::Failure| {
        let words = json!({ "kind": failure.kind, "message": failure.message });
        Part::with(words, [("details", failure.details.as_ref().into())])
    };
    let nothing = || Part::Value(Value::Null);
    let (word, result, failure) = match state {
        UpdateState::Sent => ("sent", nothing(), nothing()),
        UpdateState::Accepted => ("accepted", nothing(), nothing()),
        UpdateState::Rejected(why) => ("rejected", nothing(), failure(why)),
        UpdateState::Completed(Ok(result)) => ("completed", result.into(), nothing()),
        UpdateState::Completed(Err(why)) => ("completed", nothing(), failure(why)),
    };
    Part::with(json!({ "update_id": update_id, "state": word }), [("result", result), ("failure", failure)])
}

/// `POST /v1/airlock/workflows/{workflow}/signal-with-start`: the body of a start with a `signal` in it. Signals the
/// execution with this id, and starts it first if none is running.
pub(crate) async fn signal_with_start(
    State(state): State<ApiState>,
    Path(workflow): Path<String>,
    caller: Caller,
    JsonBody(mut body): JsonBody<ExecuteBody>,
) -> ApiResult<Part> {
    let workflow = match state.engine.guests().serving(&workflow) {
        Some(_) => workflow,
        None => workflows::find(&state, &workflow).await?.name,
    };
    let Some(signal) = body.signal.take() else {
        return Err(ApiError::invalid(&["body", "signal"], "the signal is missing: {\"name\", \"input\"?}"));
    };
    let signal_id = id_of(&["body", "signal", "signal_id"], signal.signal_id.as_ref())?;
    let message = signal.message_at(&caller, &SIGNAL_INPUT)?;
    let reuse = body.id_reuse_policy.unwrap_or(IdReuse::AllowDuplicate);
    body.id_reuse_policy = Some(reuse);
    let request = body.request(&state, workflow, &caller).await?;
    let view = state.engine.signal_with_start(request, signal_id, message).await?;
    Ok(wire::execution(&view, state.engine.guests().as_ref()))
}
