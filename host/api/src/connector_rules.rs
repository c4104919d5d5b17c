//! airlock's own additions about connectors: what they may do, their pinned tools, their mocks, their operations.

use airlock_connectors::MAX_DOCUMENT;
use axum::{
    Json,
    extract::{Path, Request, State},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    ApiState,
    body::{self, JsonBody, Tree},
    caller::Caller,
    error::ApiResult,
    parameters::{Flag, Query, parameters},
};

/// `GET /v1/airlock/connectors/{connector}/control`
pub(crate) async fn control(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.control(&caller.principal, caller.is_owner(), &connector, None)?))
}

/// `PUT /v1/airlock/connectors/{connector}/control`: what is not given has its default.
pub(crate) async fn set_control(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    JsonBody(Tree(body)): JsonBody<Tree>,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.control(&caller.principal, caller.is_owner(), &connector, Some(body))?))
}

/// What to check a connector with.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Check {
    /// Instead of the credential that a call would use.
    credentials_name: Option<String>,
    /// Whether to ask the server even if it was asked lately. Default: true.
    refresh: Option<bool>,
}

/// `POST /v1/airlock/connectors/{connector}/check`: `{"connector", "ok", "steps": [{"step", "state", "duration_ms",
/// "message", …}]}`.
pub(crate) async fn check(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    JsonBody(Check { credentials_name, refresh }): JsonBody<Check>,
) -> ApiResult<Json<Value>> {
    let (name, anew) = (credentials_name.as_deref(), refresh.unwrap_or(true));
    Ok(Json(state.connectors.check(&caller.principal, &connector, name, anew).await?))
}

/// `GET /v1/airlock/connectors/{connector}/pins`
pub(crate) async fn pins(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.pins(&caller.principal, &connector)?))
}

/// Which tool; absent: all that changed.
#[derive(Deserialize)]
pub(crate) struct Approval {
    tool: Option<String>,
}

/// `POST /v1/airlock/connectors/{connector}/pins/approve`
pub(crate) async fn approve(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    JsonBody(Approval { tool }): JsonBody<Approval>,
) -> ApiResult<Json<Value>> {
    let approved =
        state.connectors.approve(&caller.principal, caller.is_owner(), &connector, tool.as_deref())?;
    Ok(Json(approved))
}

/// `GET /v1/airlock/connectors/{connector}/mocks`
pub(crate) async fn mocks(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.mocks(&caller.principal, &connector)?))
}

/// `PUT /v1/airlock/connectors/{connector}/mocks`
pub(crate) async fn set_mocks(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    JsonBody(Tree(body)): JsonBody<Tree>,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.set_mocks(&caller.principal, caller.is_owner(), &connector, body)?))
}

/// `POST /v1/airlock/connectors/{connector}/mocks`: one more.
pub(crate) async fn add_mock(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    JsonBody(Tree(body)): JsonBody<Tree>,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.add_mock(&caller.principal, caller.is_owner(), &connector, body)?))
}

/// `DELETE /v1/airlock/connectors/{connector}/mocks`
pub(crate) async fn clear_mocks(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.clear_mocks(&caller.principal, caller.is_owner(), &connector)?))
}

parameters! {
    /// Of `PUT /v1/airlock/connectors/{connector}/openapi`.
    pub(crate) struct ImportQuery {
        /// The document's file name or address.
        source: Option<String>,
        /// Approve what the document changes.
        approve: Flag<false>,
    }
}

/// `PUT /v1/airlock/connectors/{connector}/openapi`: the document as it is, JSON or YAML, as the body; `?source=` is its
/// file name or address. With `?approve=true` what it changes is approved.
pub(crate) async fn import(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    Query(query): Query<ImportQuery>,
    request: Request,
) -> ApiResult<Json<Value>> {
    let document = body::read(request, &state, MAX_DOCUMENT).await?;
    let (source, approve) = (query.source.as_deref(), *query.approve);
    let (principal, is_owner) = (&caller.principal, caller.is_owner());
    let (document, _charge) = document.into_parts();
    Ok(Json(state.connectors.import(principal, is_owner, &connector, document, source, approve).await?))
}
