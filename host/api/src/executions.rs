//! Looking at executions and stopping them.

use airlock_engine::{
    ExecutionId,
    engine::ExecutionView,
    store::{ExecutionRow, Status},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    ApiState,
    caller::Caller,
    error::{ApiError, ApiResult},
    page::JsonBody,
    wire,
};

/// Records that are read at once.
pub(crate) const PAGE: usize = 500;

/// The execution with this id, if the caller may see it: one's own, and everybody's for the owner.
pub(crate) fn find(state: &ApiState, caller: &Caller, id: &str) -> ApiResult<ExecutionView> {
    let unknown = || ApiError::not_found(format!("no execution has the id '{id}'"));
    let id: ExecutionId = id.parse().map_err(|_| unknown())?;
    state.engine.get(&id)?.filter(|view| may_see(caller, &view.row)).ok_or_else(unknown)
}

pub(crate) fn may_see(caller: &Caller, row: &ExecutionRow) -> bool {
    row.principal.workspace == caller.principal.workspace
        && (caller.is_owner() || row.principal.user == caller.principal.user)
}

/// `GET /v1/workflows/executions/{execution_id}`
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    Ok(Json(wire::execution(&find(&state, &caller, &id)?)))
}

/// `GET /v1/workflows/executions/{execution_id}/history`: every record with the number of its first event.
pub(crate) async fn history(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    let view = find(&state, &caller, &id)?;
    whole_history(&state, &view)
}

pub(crate) fn whole_history(state: &ApiState, view: &ExecutionView) -> ApiResult<Json<Value>> {
    let (mut records, mut index, mut event) = (Vec::new(), 0u32, 1u64);
    loop {
        let page = state.engine.history(view.row.key, index, PAGE)?;
        if page.is_empty() {
            break;
        }
        for stored in page {
            index += 1;
            records.push(json!({
                "event_id": event, "event_time": wire::time(stored.at), "sequence": stored.first_event,
                "record": stored.record,
            }));
            event += stored.record.event_count();
        }
    }
    Ok(Json(json!({ "execution_id": view.row.id, "run_id": view.row.run_id.to_string(), "events": records })))
}

/// `POST /v1/workflows/executions/{execution_id}/cancel`
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> ApiResult<StatusCode> {
    stop(&state, &caller, &id, Stop::Cancel).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/workflows/executions/{execution_id}/terminate`
pub(crate) async fn terminate(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> ApiResult<StatusCode> {
    stop(&state, &caller, &id, Stop::Terminate).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Clone, Copy)]
enum Stop {
    Cancel,
    Terminate,
}

async fn stop(state: &ApiState, caller: &Caller, id: &str, how: Stop) -> ApiResult<()> {
    let view = find(state, caller, id)?;
    let id = &view.row.id;
    let by = |what: &str| format!("{what} by {}", caller.principal.user);
    match how {
        Stop::Cancel => state.engine.cancel(id, by("cancelled")).await?,
        Stop::Terminate => state.engine.terminate(id, by("terminated")).await?,
    }
    Ok(())
}

/// `BatchExecutionBody`
#[derive(Deserialize)]
pub(crate) struct Batch {
    execution_ids: Vec<String>,
}

/// `POST /v1/workflows/executions/cancel`
pub(crate) async fn cancel_many(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<Batch>,
) -> ApiResult<Json<Value>> {
    many(&state, &caller, &body, Stop::Cancel).await
}

/// `POST /v1/workflows/executions/terminate`
pub(crate) async fn terminate_many(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<Batch>,
) -> ApiResult<Json<Value>> {
    many(&state, &caller, &body, Stop::Terminate).await
}

async fn many(state: &ApiState, caller: &Caller, body: &Batch, how: Stop) -> ApiResult<Json<Value>> {
    if !(1..=100).contains(&body.execution_ids.len()) {
        return Err(ApiError::invalid(&["body", "execution_ids"], "1 to 100 at once"));
    }
    let mut results = Map::new();
    for id in &body.execution_ids {
        let result = match stop(state, caller, id, how).await {
            Ok(()) => json!({ "status": "success" }),
            Err(ApiError::Status(_, error)) => json!({ "status": "failure", "error": error }),
            Err(other) => return Err(other),
        };
        results.insert(id.clone(), result);
    }
    Ok(Json(json!({ "results": results })))
}

/// `POST /v1/airlock/executions/{execution_id}/unblock`
pub(crate) async fn unblock(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    let view = find(&state, &caller, &id)?;
    if view.row.status == Status::Running && view.blocked.is_none() {
        return Err(ApiError::conflict(format!("the execution '{id}' is not blocked")));
    }
    state.engine.unblock(&view.row.id).await?;
    Ok(Json(json!({ "message": "the execution is tried again" })))
}
