//! The audit log and the vault, for owners.

use airlock_connectors::AuditFilter;
use axum::{
    Json,
    body::Body,
    extract::State,
    http::header,
    response::{
        IntoResponse as _, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiState,
    caller::Caller,
    error::{ApiError, ApiResult},
    page::{JsonBody, Query},
};

fn filter(query: &Query) -> AuditFilter {
    let text = |key: &str| query.filter(key).map(str::to_owned);
    AuditFilter {
        connector: text("connector"),
        execution: text("execution"),
        user: text("user"),
        kind: text("kind"),
    }
}

/// `GET /v1/airlock/audit`: entries after `after`, or without it the last ones; the oldest first.
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    let (after, limit) = (query.number("after")?, query.page_size("limit", 100)?);
    let filter = filter(&query);
    let read = tokio::task::spawn_blocking(move || state.connectors.audit_entries(after, limit, filter));
    Ok(Json(read.await.map_err(|_| gone())??))
}

/// `GET /v1/airlock/audit/follow`: the same as server-sent events, and those that come.
pub(crate) async fn follow(
    State(state): State<ApiState>,
    caller: Caller,
    query: Query,
) -> ApiResult<Response> {
    caller.must_be_owner()?;
    let (after, filter) = (query.number("after")?.unwrap_or(0), filter(&query));
    let events = state.connectors.audit_follow(after, filter)?.map(|entry| match entry {
        Ok(entry) => Event::default().json_data(entry).map_err(axum::Error::new),
        Err(error) => Err(axum::Error::new(error)),
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

/// `GET /v1/airlock/audit/export`: the lines of the log from `from` to `to`.
pub(crate) async fn export(
    State(state): State<ApiState>,
    caller: Caller,
    query: Query,
) -> ApiResult<Response> {
    caller.must_be_owner()?;
    let from = query.number("from")?.unwrap_or(1);
    let to = query.number("to")?.unwrap_or(u64::MAX);
    let read = tokio::task::spawn_blocking(move || {
        let mut lines = Vec::new();
        state.connectors.audit_export(&mut lines, from, to).map(|_| lines)
    });
    let lines = read.await.map_err(|_| gone())??;
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], Body::from(lines)).into_response())
}

/// What a check compares with.
#[derive(Deserialize)]
pub(crate) struct Verify {
    /// A head that was kept elsewhere.
    head: Option<String>,
}

/// `POST /v1/airlock/audit/verify`: checks the chain, and that `head` is in it.
pub(crate) async fn verify(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<Verify>,
) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    let checked = tokio::task::spawn_blocking(move || state.connectors.audit_verify(body.head.as_deref()));
    Ok(Json(checked.await.map_err(|_| gone())??))
}

/// `GET /v1/airlock/audit/head`: where the log ends, to be kept elsewhere.
pub(crate) async fn head(State(state): State<ApiState>, caller: Caller) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    let head = tokio::task::spawn_blocking(move || state.connectors.audit_head());
    Ok(Json(head.await.map_err(|_| gone())??))
}

/// `POST /v1/airlock/vault/verify`: opens everything that is sealed.
pub(crate) async fn verify_vault(State(state): State<ApiState>, caller: Caller) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    let checked = tokio::task::spawn_blocking(move || state.connectors.verify_vault());
    let checked = checked.await.map_err(|_| gone())??;
    let whole = checked["broken"].as_array().is_none_or(Vec::is_empty);
    Ok(Json(json!({ "whole": whole, "opened": checked["opened"], "broken": checked["broken"] })))
}

/// `POST /v1/airlock/vault/rotate`: a new master key.
pub(crate) async fn rotate(State(state): State<ApiState>, caller: Caller) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    Ok(Json(state.connectors.rotate(&caller.principal, &*state.master_key).await?))
}

fn gone() -> ApiError {
    ApiError::Status(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "the work was given up".into())
}
