//! Connectors and credentials (contract §3).

use airlock_connectors::{Save, Scope};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    ApiState,
    caller::Caller,
    error::{ApiError, ApiResult},
    page::{JsonBody, Query},
};

fn scope(text: &str) -> ApiResult<Scope> {
    text.parse().map_err(|_| {
        ApiError::not_found(format!("'{text}' is not a scope: use user, workspace or organization"))
    })
}

/// `POST /v1/connectors`
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<Value>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    Ok((StatusCode::CREATED, Json(state.connectors.create(&caller.principal, body).await?)))
}

/// `GET /v1/connectors`
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let size = query.page_size("page_size", 100)?;
    Ok(Json(state.connectors.list(&caller.principal, query.filter("cursor"), size)?))
}

/// `GET /v1/connectors/{connector_id_or_name}`
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let fetch = query.flag("fetch_user_data")?.unwrap_or(false);
    Ok(Json(state.connectors.get(&caller.principal, &connector, fetch)?))
}

/// `PATCH /v1/connectors/{connector_id}`
pub(crate) async fn update(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<Value>,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.update(&caller.principal, &connector, body).await?))
}

/// `DELETE /v1/connectors/{connector_id}`
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.delete(&caller.principal, &connector)?))
}

/// `GET /v1/connectors/{connector_id_or_name}/tools`
pub(crate) async fn tools(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let (refresh, pretty) = (query.flag("refresh")?.unwrap_or(false), query.flag("pretty")?.unwrap_or(false));
    let name = query.filter("credentials_name");
    Ok(Json(state.connectors.list_tools(&caller.principal, &connector, name, refresh, pretty).await?))
}

/// `ConnectorCallToolRequest`
#[derive(Deserialize)]
pub(crate) struct Call {
    arguments: Option<Map<String, Value>>,
}

/// `POST /v1/connectors/{connector_id_or_name}/tools/{tool_name}/call`
pub(crate) async fn call(
    State(state): State<ApiState>,
    Path((connector, tool)): Path<(String, String)>,
    caller: Caller,
    query: Query,
    JsonBody(body): JsonBody<Call>,
) -> ApiResult<Json<Value>> {
    let arguments = Value::Object(body.arguments.unwrap_or_default());
    let name = query.filter("credentials_name");
    Ok(Json(state.connectors.call_tool(&caller.principal, &connector, &tool, arguments, name).await?))
}

/// `GET /v1/connectors/{connector_id_or_name}/authentication_methods`
pub(crate) async fn methods(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.authentication_methods(&caller.principal, &connector)?))
}

/// `GET /v1/connectors/{connector_id_or_name}/{consumer_scope}/credentials`
pub(crate) async fn credentials(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let fetch = query.flag("fetch_default")?.unwrap_or(false);
    let kind = query.filter("auth_type");
    Ok(Json(state.connectors.list_credentials(&caller.principal, &connector, scope(&at)?, kind, fetch)?))
}

/// `POST /v1/connectors/{connector_id_or_name}/{consumer_scope}/credentials`
pub(crate) async fn create_credentials(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
    JsonBody(body): JsonBody<Value>,
) -> ApiResult<Json<Value>> {
    save(&state, &caller, &connector, &at, body, Save::Create)
}

/// `PATCH /v1/connectors/{connector_id_or_name}/{consumer_scope}/credentials`
pub(crate) async fn update_credentials(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
    JsonBody(body): JsonBody<Value>,
) -> ApiResult<Json<Value>> {
    save(&state, &caller, &connector, &at, body, Save::Update)
}

fn save(
    state: &ApiState,
    caller: &Caller,
    connector: &str,
    at: &str,
    body: Value,
    mode: Save,
) -> ApiResult<Json<Value>> {
    let scope = scope(at)?;
    shared_needs_owner(caller, &scope)?;
    Ok(Json(state.connectors.save_credentials(&caller.principal, connector, scope, body, mode)?))
}

/// What everybody's executions would use is the owner's to set.
fn shared_needs_owner(caller: &Caller, scope: &Scope) -> ApiResult<()> {
    match scope {
        Scope::User => Ok(()),
        Scope::Workspace | Scope::Organization => caller.must_be_owner(),
    }
}

/// `DELETE /v1/connectors/{connector_id_or_name}/{consumer_scope}/credentials/{credentials_name}`
pub(crate) async fn delete_credentials(
    State(state): State<ApiState>,
    Path((connector, at, name)): Path<(String, String, String)>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    let scope = scope(&at)?;
    shared_needs_owner(&caller, &scope)?;
    Ok(Json(state.connectors.delete_credentials(&caller.principal, &connector, scope, &name)?))
}

/// `DELETE /v1/connectors/{connector_id_or_name}/user/credentials`
pub(crate) async fn delete_all_credentials(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    match scope(&at)? {
        Scope::User => Ok(Json(state.connectors.delete_all_credentials(&caller.principal, &connector)?)),
        _ => Err(ApiError::not_found("only a user's credentials are deleted all at once")),
    }
}

/// `POST /v1/connectors/{connector_id}/{consumer_scope}/activate`
pub(crate) async fn activate(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    set_active(&state, &caller, &connector, &at, true)
}

/// `POST /v1/connectors/{connector_id}/{consumer_scope}/deactivate`
pub(crate) async fn deactivate(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    set_active(&state, &caller, &connector, &at, false)
}

fn set_active(
    state: &ApiState,
    caller: &Caller,
    connector: &str,
    at: &str,
    active: bool,
) -> ApiResult<Json<Value>> {
    let scope = scope(at)?;
    shared_needs_owner(caller, &scope)?;
    Ok(Json(state.connectors.set_active(&caller.principal, connector, scope, active)?))
}
