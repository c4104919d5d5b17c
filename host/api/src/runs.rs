//! Lists of executions.

use airlock_engine::{
    ExecutionKey, RunId, UserId,
    engine::ExecutionView,
    store::{ListFilter, Status},
};
use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    ApiState,
    caller::Caller,
    error::{ApiError, ApiResult},
    executions,
    page::Query,
    wire, workflows,
};

/// `GET /v1/workflows/runs`, newest first.
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let page_size = query.page_size("page_size", 50)?;
    let status = query
        .all("status")
        .iter()
        .map(|text| {
            let known = Status::ALL.into_iter().find(|status| status.as_str() == text);
            known.ok_or_else(|| ApiError::invalid(&["query", "status"], format!("'{text}' is not a status")))
        })
        .collect::<ApiResult<_>>()?;
    for (key, only) in [("sort_by", "start_time"), ("order", "desc")] {
        if query.get(key).is_some_and(|value| value != only) {
            let message = format!("lists are in the order of starts, newest first: only {only} is served");
            return Err(ApiError::invalid(&["query", key], message));
        }
    }
    let user = match query.filter("user_id") {
        Some("current") => Some(caller.principal.user.clone()),
        Some(user) => Some(UserId::new(user)),
        None => None,
    };
    let user = if caller.is_owner() { user } else { Some(caller.principal.user.clone()) };
    let before = query.number("next_page_token")?.map(ExecutionKey);
    // Also one whose plugin has gone: its executions are still there.
    let workflow = query.filter("workflow_identifier").map(|identifier| {
        workflows::find(&state, identifier).map_or(identifier.to_owned(), |found| found.name)
    });
    // One more than asked for, to see whether there is a next page.
    let limit = page_size + 1;
    let workspace = Some(caller.principal.workspace.clone());
    let filter = ListFilter { workspace, user, workflow, status, run: None, before, limit };
    let mut rows = state.engine.list(&filter)?;
    let more = rows.len() > page_size;
    rows.truncate(page_size);
    let next = rows.last().filter(|_| more).map(|row| row.key.0.to_string());
    let executions: Vec<Value> = rows.iter().map(wire::row).collect();
    Ok(Json(json!({ "executions": executions, "next_page_token": next })))
}

fn find(state: &ApiState, caller: &Caller, run_id: &str) -> ApiResult<ExecutionView> {
    let unknown = || ApiError::not_found(format!("no run has the id '{run_id}'"));
    let run = RunId(Uuid::parse_str(run_id).map_err(|_| unknown())?);
    let rows = state.engine.list(&ListFilter { run: Some(run), limit: 1, ..ListFilter::default() })?;
    let row = rows.first().ok_or_else(unknown)?;
    executions::find(state, caller, row.id.as_str()).map_err(|_| unknown())
}

/// `GET /v1/workflows/runs/{run_id}`
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(run_id): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    Ok(Json(wire::execution(&find(&state, &caller, &run_id)?)))
}

/// `GET /v1/workflows/runs/{run_id}/history`
pub(crate) async fn history(
    State(state): State<ApiState>,
    Path(run_id): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    executions::whole_history(&state, &find(&state, &caller, &run_id)?)
}
