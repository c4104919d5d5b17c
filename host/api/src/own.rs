//! airlock's own additions: plugins, keys, status, who one is.

use airlock_engine::guests::{PluginState, PluginStatus};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiState, Role,
    body::JsonBody,
    caller::Caller,
    error::{ApiError, ApiResult},
    parameters::{Flag, Query, parameters},
    slots, wire,
};

/// `GET /health`: the daemon answers.
pub(crate) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /v1/airlock/status`
pub(crate) async fn status(State(state): State<ApiState>, _: Caller) -> Json<Value> {
    let (held, most, refused) = state.budget.figures();
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "executions": state.engine.stats(),
        "http": {
            "connections": state.places.figures(),
            "memory": { "held": held, "most": most, "refused": refused },
        },
    });
    if let (Value::Object(status), Value::Object(rooms)) = (&mut status, (state.rooms)()) {
        status.extend(rooms);
    }
    Json(status)
}

/// `GET /v1/airlock/plugins`: with the connector slots of each, as the caller would find them. No server is asked.
pub(crate) async fn plugins(State(state): State<ApiState>, caller: Caller) -> Json<Value> {
    let mut plugins = Vec::new();
    for plugin in state.engine.guests().plugins() {
        plugins.push(with_slots(&state, &caller, &plugin, false).await);
    }
    Json(json!({ "plugins": plugins }))
}

parameters! {
    /// Of `GET /v1/airlock/plugins/{name}`.
    pub(crate) struct PluginQuery {
        /// Ask the servers of its connectors whether they answer.
        check: Flag<false>,
    }
}

/// `GET /v1/airlock/plugins/{name}`: with `check` the servers of its connectors are asked whether they answer.
pub(crate) async fn plugin(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    caller: Caller,
    Query(query): Query<PluginQuery>,
) -> ApiResult<Json<Value>> {
    let found = state.engine.guests().plugins().into_iter().find(|plugin| plugin.name == name);
    let found =
        found.ok_or_else(|| ApiError::not_found(format!("no file '{name}.wasm' is in the plugin folder")))?;
    Ok(Json(with_slots(&state, &caller, &found, *query.check).await))
}

async fn with_slots(state: &ApiState, caller: &Caller, plugin: &PluginStatus, ask: bool) -> Value {
    let mut value = json!(plugin);
    if let PluginState::Ready { definition } = &plugin.state {
        value["connectors"] = slots::of_plugin(state, caller, definition, ask).await.into();
    }
    value
}

/// A hundred years.
const LONGEST_SECONDS: i64 = 100 * 365 * 86_400;

/// What a new key is for.
#[derive(Deserialize)]
pub(crate) struct NewKey {
    user: String,
    name: Option<String>,
    role: Option<Role>,
    expires_in_seconds: Option<i64>,
}

/// `POST /v1/airlock/keys`: the only time that the key's text is shown.
pub(crate) async fn create_key(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<NewKey>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    caller.must_be_owner()?;
    let user_is_valid = (1..=64).contains(&body.user.len())
        && body.user.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if !user_is_valid {
        let message = "a user has 1 to 64 characters, letters, digits, '_', '-' and '.' only";
        return Err(ApiError::invalid(&["body", "user"], message));
    }
    let lifetime = match body.expires_in_seconds {
        None => None,
        Some(seconds @ 0..=LONGEST_SECONDS) => TimeDelta::try_seconds(seconds),
        // A time that cannot be expressed must not become a key without an end.
        Some(_) => {
            let message =
                format!("it is from 0 to {LONGEST_SECONDS}; leave it out for a key that does not expire");
            return Err(ApiError::invalid(&["body", "expires_in_seconds"], message));
        }
    };
    let name = body.name.unwrap_or_else(|| format!("{}'s key", body.user));
    let role = body.role.unwrap_or(Role::Member);
    let (text, key) = state.keys.create(&body.user, &name, role, lifetime)?;
    let mut value = key.public();
    value["key"] = text.into();
    Ok((StatusCode::CREATED, Json(value)))
}

/// `GET /v1/airlock/keys`
pub(crate) async fn keys(State(state): State<ApiState>, caller: Caller) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    let keys: Vec<Value> = state.keys.list().iter().map(|key| key.public()).collect();
    Ok(Json(json!({ "keys": keys })))
}

/// `DELETE /v1/airlock/keys/{id}`
pub(crate) async fn revoke_key(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    let revoked = state.keys.revoke(&id)?;
    revoked
        .map(|key| Json(key.public()))
        .ok_or_else(|| ApiError::not_found(format!("no key has the id '{id}'")))
}

/// `GET /v1/workflows/workers/whoami`: the client asks it for the namespace of its payloads.
pub(crate) async fn worker_whoami(_: Caller) -> Json<Value> {
    Json(json!({ "scheduler_url": "", "namespace": wire::WORKSPACE, "tls": false }))
}

/// `GET /v1/whoami`
pub(crate) async fn whoami(caller: Caller) -> Json<Value> {
    Json(json!({
        "principal": { "principal_type": "user", "id": caller.principal.user, "email": null },
        "organization": { "id": caller.principal.organization, "name": caller.principal.organization },
        "workspace": { "id": caller.principal.workspace, "name": caller.principal.workspace },
    }))
}

/// `GET /v1/users/me`
pub(crate) async fn identity(caller: Caller) -> Json<Value> {
    Json(json!({
        "id": caller.principal.user, "email": null, "first_name": null, "last_name": null,
        "workspace": { "id": caller.principal.workspace, "name": caller.principal.workspace },
        "organization": { "id": caller.principal.organization, "name": caller.principal.organization },
        "api_key": { "id": caller.key.id, "name": caller.key.name },
    }))
}
