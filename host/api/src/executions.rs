//! Looking at executions and stopping them.

use std::sync::Arc;

use airlock_engine::{
    Digest, ExecutionId,
    engine::{ControlError, ResetRequest, Upgrade},
    history::{HistorySize, Record, StoredRecord},
    ids::InvalidId,
    store::{ExecutionRow, ListFilter, Status},
};
use async_stream::stream;
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    ApiState,
    body::JsonBody,
    caller::Caller,
    error::{ApiError, ApiResult},
    pages::{self, Pages, Parts, Unread},
    parameters::{Flag, Query, parameters},
    streams, wire,
};

/// The execution with this id, if the caller may see it: one's own, and everybody's for the owner. Its result, which may
/// be large, is not read.
pub(crate) fn find(state: &ApiState, caller: &Caller, id: &str) -> ApiResult<ExecutionRow> {
    let unknown = || ApiError::not_found(format!("no execution has the id '{id}'"));
    let id: ExecutionId = id.parse().map_err(|_| unknown())?;
    state.engine.row(&id)?.filter(|row| may_see(caller, row)).ok_or_else(unknown)
}

pub(crate) fn may_see(caller: &Caller, row: &ExecutionRow) -> bool {
    row.principal.workspace == caller.principal.workspace
        && (caller.is_owner() || row.principal.user == caller.principal.user)
}

parameters! {
    /// Of `GET /v1/workflows/executions/{execution_id}`.
    pub(crate) struct GetQuery {
        /// With its search keys.
        include_search_keys: Flag<false>,
    }
}

/// `GET /v1/workflows/executions/{execution_id}`
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    Query(query): Query<GetQuery>,
) -> ApiResult<Response> {
    let row = find(&state, &caller, &id)?;
    with_result(&state, &caller, row, *query.include_search_keys).await
}

/// A run with its result, which may be large.
pub(crate) async fn with_result(
    state: &ApiState,
    caller: &Caller,
    row: ExecutionRow,
    with_keys: bool,
) -> ApiResult<Response> {
    let (engine, bytes) = (Arc::clone(&state.engine), state.engine.result_bytes(&row)?);
    let mut charge = caller.visit.charge();
    let read = pages::aside(&mut charge, bytes, move || {
        let key = row.key;
        let shown = wire::execution(&engine.view(row)?, engine.guests().as_ref());
        if !with_keys {
            return Ok::<_, ApiError>(shown.into_response());
        }
        let keys = engine.search_keys(key)?;
        let keys: Map<String, Value> = keys.into_iter().map(|(name, value)| (name, value.into())).collect();
        Ok(shown.and("search_keys", Value::from(keys).into()).into_response())
    });
    read.await?
}

parameters! {
    /// Of the history of an execution, or of a run.
    pub(crate) struct HistoryQuery {
    } without effect {
        /// Payloads as they are, and not as they were encoded. They are kept as they are.
        decode_payloads: Flag<true>,
    }
}

/// `GET /v1/workflows/executions/{execution_id}/history`: every record with the number of its first event.
pub(crate) async fn history(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    _: Query<HistoryQuery>,
) -> ApiResult<Response> {
    let row = find(&state, &caller, &id)?;
    whole_history(&state, &caller, &row).await
}

/// An event of a history, as it is written.
#[derive(Serialize)]
struct Written<'a> {
    event_id: u64,
    history_bytes: u64,
    event_time: String,
    at_ms: u64,
    sequence: u64,
    record: &'a Record,
}

/// Writes the records of a page behind those before. Whether there were any before is in `size`.
fn written(records: &[StoredRecord], size: &mut HistorySize) -> serde_json::Result<Parts> {
    let mut parts = Parts::default();
    for stored in records {
        if size.events > 0 {
            parts.push(b",");
        }
        parts.push_json(&Written {
            event_id: size.events + 1,
            history_bytes: size.bytes,
            event_time: wire::time(stored.at),
            at_ms: stored.at,
            sequence: stored.first_event,
            record: &stored.record,
        })?;
        size.add(&stored.record);
    }
    Ok(parts)
}

/// A history that is so small is one answer with a length.
const SMALL: usize = 64 << 10;

/// The whole history of a run: written record by record as it is read, and read as it is taken.
pub(crate) async fn whole_history(
    state: &ApiState,
    caller: &Caller,
    row: &ExecutionRow,
) -> ApiResult<Response> {
    let about = json!({
        "execution_id": row.id, "run_id": row.run_id.to_string(), "workflow_name": row.workflow,
        "digest": row.digest.to_string(),
    });
    let about = about.to_string();
    let mut text = format!("{},\"events\":[", about.trim_end_matches('}')).into_bytes();
    let (mut pages, mut size) = (Pages::new(state, caller, row.key), HistorySize::default());
    let mut beginning = Vec::new();
    // The beginning before the answer, so that what goes wrong with it has a status of its own.
    while text.len() <= SMALL {
        let Some(parts) = next_page(&mut pages, &mut size).await? else {
            text.extend_from_slice(b"]}");
            let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(JSON))];
            return Ok((headers, Body::from(text)).into_response());
        };
        // What is large already is passed on as it is.
        let mut parts = parts.into_iter();
        while text.len() <= SMALL
            && let Some(part) = parts.next()
        {
            text.extend_from_slice(&part);
        }
        beginning.extend(parts);
    }
    let rest = stream! {
        yield Ok(text);
        for part in beginning {
            yield Ok(part);
        }
        loop {
            match next_page(&mut pages, &mut size).await {
                Ok(Some(parts)) => for part in parts {
                    yield Ok(part);
                },
                Ok(None) => {
                    yield Ok(b"]}".to_vec());
                    return;
                }
                Err(why) => {
                    tracing::warn!(%why, "an answer with a history ends early");
                    yield Err(why.into());
                    return;
                }
            }
        }
    };
    Ok(streams::text(state, caller, JSON, rest))
}

const JSON: &str = "application/json";

/// The texts of the next page, `None` at the end.
async fn next_page(pages: &mut Pages, size: &mut HistorySize) -> Result<Option<Vec<Vec<u8>>>, Unread> {
    let mut after = *size;
    let page = pages.next(move |records| {
        let end = records.is_empty();
        match written(&records, &mut after) {
            Ok(parts) => {
                let (parts, bytes) = parts.finish();
                (Ok((after, (!end).then_some(parts))), bytes)
            }
            Err(error) => (Err(error), 0),
        }
    });
    let (after, parts) = page.await?.map_err(|_| Unread::Gone)?;
    *size = after;
    Ok(parts)
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
    // The run that the caller may see, and no other that has its id by then.
    let row = &find(state, caller, id)?;
    let by = |what: &str| format!("{what} by {}", caller.principal.user);
    match how {
        Stop::Cancel => state.engine.cancel(row, by("cancelled")).await?,
        Stop::Terminate => state.engine.terminate(row, by("terminated")).await?,
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

/// `ResetInvocationBody`
#[derive(Deserialize)]
pub(crate) struct Reset {
    event_id: u64,
    reason: Option<String>,
    exclude_signals: Option<bool>,
    exclude_updates: Option<bool>,
    /// Ours: go on with the code of this SHA-256, or with `latest`, what serves the workflow now.
    digest: Option<String>,
}

/// `POST /v1/workflows/executions/{execution_id}/reset`
pub(crate) async fn reset(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<Reset>,
) -> ApiResult<StatusCode> {
    let row = find(&state, &caller, &id)?;
    let request = ResetRequest {
        event: body.event_id,
        reason: body.reason.unwrap_or_else(|| format!("by {}", caller.principal.user)),
        exclude_signals: body.exclude_signals.unwrap_or(false),
        exclude_updates: body.exclude_updates.unwrap_or(false),
        digest: match body.digest.as_deref() {
            None => None,
            Some("latest") => state.engine.guests().serving(&row.workflow),
            Some(text) => Some(digest(text)?),
        },
    };
    state.engine.reset(&row, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn digest(text: &str) -> ApiResult<Digest> {
    text.parse().map_err(|error: InvalidId| ApiError::invalid(&["body", "digest"], error.to_string()))
}

/// Why somebody does something.
#[derive(Deserialize)]
pub(crate) struct Reason {
    reason: Option<String>,
}

/// `POST /v1/airlock/executions/{execution_id}/pause`
pub(crate) async fn pause(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<Reason>,
) -> ApiResult<Json<Value>> {
    let row = find(&state, &caller, &id)?;
    let reason = body.reason.unwrap_or_else(|| format!("by {}", caller.principal.user));
    state.engine.pause(&row, reason).await?;
    Ok(Json(json!({ "message": "the execution is paused" })))
}

/// `POST /v1/airlock/executions/{execution_id}/resume`
pub(crate) async fn resume(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    let row = find(&state, &caller, &id)?;
    if row.status == Status::Running && state.engine.view(row.clone())?.paused.is_none() {
        return Err(ApiError::conflict(format!("the execution '{id}' is not paused")));
    }
    state.engine.resume(&row).await?;
    Ok(Json(json!({ "message": "the execution goes on" })))
}

/// Which executions to move to newer code.
#[derive(Deserialize)]
pub(crate) struct UpgradeBody {
    /// Only these.
    #[serde(default)]
    execution_ids: Vec<String>,
    /// All open ones of this workflow.
    workflow: Option<String>,
    /// The code; absent: what serves the workflow now.
    digest: Option<String>,
    /// Only say what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// Executions that are looked at in one request.
const UPGRADES: usize = 10_000;

/// `POST /v1/airlock/executions/upgrade`: for each execution, whether the code repeats its history; unless it is a dry run,
/// those that fit go on with it.
pub(crate) async fn upgrade(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<UpgradeBody>,
) -> ApiResult<Json<Value>> {
    let mut rows = Vec::new();
    for id in &body.execution_ids {
        rows.push(find(&state, &caller, id)?);
    }
    if let Some(workflow) = &body.workflow {
        let user = if caller.is_owner() { None } else { Some(caller.principal.user.clone()) };
        rows.extend(state.engine.list(&ListFilter {
            workspace: Some(caller.principal.workspace.clone()),
            user,
            workflows: vec![workflow.clone()],
            status: vec![Status::Running],
            limit: UPGRADES,
            ..ListFilter::default()
        })?);
    }
    if body.execution_ids.is_empty() && body.workflow.is_none() {
        return Err(ApiError::invalid(
            &["body", "execution_ids"],
            "say which: execution_ids, or workflow for all open ones of it",
        ));
    }
    let digest = body.digest.as_deref().map(digest).transpose()?;
    let mut results = Map::new();
    for row in rows {
        let newer = digest.or_else(|| state.engine.guests().serving(&row.workflow));
        let (status, why) = match newer {
            None => ("refused", Some(format!("no plugin serves the workflow '{}' now", row.workflow))),
            Some(newer) => match state.engine.upgrade(&row, newer, body.dry_run).await {
                Ok(Upgrade::Already) => ("already", None),
                Ok(Upgrade::Fits) if body.dry_run => ("fits", None),
                Ok(Upgrade::Fits) => ("upgraded", None),
                Ok(Upgrade::Refused(why)) => ("refused", Some(why)),
                Err(ControlError::Store(error)) => return Err(error.into()),
                Err(error) => ("refused", Some(error.to_string())),
            },
        };
        results.insert(row.id.to_string(), json!({ "status": status, "reason": why }));
    }
    Ok(Json(json!({ "results": results, "dry_run": body.dry_run })))
}

/// `POST /v1/airlock/executions/{execution_id}/unblock`
pub(crate) async fn unblock(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    let row = find(&state, &caller, &id)?;
    if row.status == Status::Running && state.engine.view(row.clone())?.blocked.is_none() {
        return Err(ApiError::conflict(format!("the execution '{id}' is not blocked")));
    }
    state.engine.unblock(&row).await?;
    Ok(Json(json!({ "message": "the execution is tried again" })))
}
