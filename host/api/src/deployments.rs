//! Deployments: each file in the plugins folder is one, under its name, and the daemon is its worker.
//!
//! Here nothing is built or moved about: a file that is put into the folder is a deployment, and one that is taken out is
//! none any more. So there is nothing to create, start or stop by the API, and nothing that a deployment is managed by.

use airlock_engine::guests::PluginStatus;
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use chrono::Utc;
use serde_json::{Value, json};

use crate::{
    ApiState,
    caller::Caller,
    deployed::{has, is_active},
    error::{ApiError, ApiResult},
    query::Query,
    wire, workflows,
};

/// The name of the one worker that there is.
const WORKER: &str = "airlock";

/// `DeploymentResponse`
fn shown(deployed: &PluginStatus) -> Value {
    let (since, active) = (since(deployed), is_active(deployed));
    json!({
        "id": wire::deployment_id(&deployed.name),
        "name": deployed.name,
        "is_active": active,
        "is_hardened": false,
        "owner": null,
        "created_at": since,
        "updated_at": since,
        "last_heartbeat": heartbeat(deployed),
        "location": location(),
        "locations": ["local"],
        "worker_count": 1,
        "active_worker_count": u8::from(active),
        "managed": null,
    })
}

/// `DeploymentWorkerResponse`
fn worker(deployed: &PluginStatus) -> Value {
    let since = since(deployed);
    json!({
        "name": WORKER,
        "is_active": is_active(deployed),
        "created_at": since,
        "updated_at": since,
        "last_heartbeat": heartbeat(deployed),
        "location": location(),
    })
}

fn location() -> Value {
    json!({ "location_type": "local", "k8s_cluster": null, "k8s_namespace": null })
}

/// When the daemon took its code up.
fn since(deployed: &PluginStatus) -> String {
    wire::time(wire::unix_ms(deployed.loaded_at))
}

/// Code that serves does so now: the daemon that says so is what runs it.
fn heartbeat(deployed: &PluginStatus) -> String {
    if is_active(deployed) { wire::time(wire::unix_ms(Utc::now().into())) } else { since(deployed) }
}

/// `GET /v1/workflows/deployments`
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let mut all = deployed(&state).await;
    if query.flag("active_only")?.unwrap_or(true) {
        all.retain(is_active);
    }
    if let Some(workflow) = query.filter("workflow_name") {
        all.retain(|deployed| has(deployed, workflow));
    }
    if let Some(text) = query.filter("search") {
        let text = text.to_lowercase();
        all.retain(|deployed| deployed.name.to_lowercase().contains(&text));
    }
    // All are alike in these.
    let is_local =
        query.all("location_types").is_empty() || query.all("location_types").contains(&"local".into());
    let is_here =
        query.filter("workspace_id").is_none_or(|workspace| workspace == caller.principal.workspace.as_str());
    let has_owner = ["owner", "created_by", "repository_url", "dockerfile_path"]
        .into_iter()
        .any(|key| query.filter(key).is_some());
    if query.flag("is_hardened")? == Some(true) || !is_local || !is_here || has_owner {
        all.clear();
    }
    match query.get("order_by") {
        None | Some("updated_at" | "created_at") => all.sort_by_key(|deployed| deployed.loaded_at),
        Some(other) => {
            let why = format!("'{other}' is not one of created_at, updated_at");
            return Err(ApiError::invalid(&["query", "order_by"], why));
        }
    }
    match query.get("order") {
        None | Some("desc") => all.reverse(),
        Some("asc") => {}
        Some(other) => {
            return Err(ApiError::invalid(&["query", "order"], format!("'{other}' is neither asc nor desc")));
        }
    }
    let (deployments, next) = workflows::page(all.iter().map(shown).collect(), &query, 50, "id")?;
    Ok(Json(json!({
        "deployments": deployments, "next_cursor": next, "workspace_id": caller.principal.workspace,
    })))
}

/// `GET /v1/workflows/deployments/{name}`
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    _: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let deployed = find(&state, &name).await?;
    let mut detail = shown(&deployed);
    let serves = query.filter("workflow_name").is_none_or(|workflow| has(&deployed, workflow));
    detail["workers"] = if serves { json!([worker(&deployed)]) } else { json!([]) };
    Ok(Json(detail))
}

/// `GET /v1/workflows/deployments/{name}/workers`
pub(crate) async fn workers(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    _: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let deployed = find(&state, &name).await?;
    let wanted = match query.filter("worker_status") {
        None => true,
        Some("active") => is_active(&deployed),
        Some("inactive") => !is_active(&deployed),
        Some(other) => {
            let why = format!("'{other}' is neither active nor inactive");
            return Err(ApiError::invalid(&["query", "worker_status"], why));
        }
    };
    let all = if wanted { vec![worker(&deployed)] } else { Vec::new() };
    let (workers, next) = workflows::page(all, &query, 50, "name")?;
    Ok(Json(json!({ "workers": workers, "next_cursor": next })))
}

/// `POST /v1/workflows/deployments`: nothing is built here.
pub(crate) async fn create(_: Caller) -> ApiError {
    conflict(
        "this daemon builds no deployments: put the component, a .wasm file, into its plugins folder, and it is one".into(),
    )
}

/// What the API does to deployments that it manages: there are none.
pub(crate) async fn manage(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    _: Caller,
) -> ApiResult<Json<Value>> {
    let name = find(&state, &name).await?.name;
    Err(conflict(format!(
        "the deployment '{name}' is not managed by the API: it is the file {name}.wasm in the daemon's plugins folder, and is \
         changed, stopped and started by replacing it, taking it out and putting it back"
    )))
}

/// `POST /v1/workflows/deployments/{deployment_id}/unharden`
pub(crate) async fn unharden(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    _: Caller,
) -> ApiResult<Json<Value>> {
    let is_it = |deployed: &PluginStatus| {
        deployed.name == id || wire::deployment_id(&deployed.name).to_string() == id
    };
    match deployed(&state).await.into_iter().find(is_it) {
        Some(deployed) => Err(conflict(format!("the deployment '{}' is not hardened", deployed.name))),
        None => Err(unknown(&id)),
    }
}

/// `GET /v1/workflows/deployments/{name}/archive`
pub(crate) async fn archive(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    _: Caller,
) -> ApiResult<Json<Value>> {
    let name = find(&state, &name).await?.name;
    Err(ApiError::not_found(format!(
        "the deployment '{name}' was not built from an archive: it is a file in the plugins folder"
    )))
}

fn conflict(detail: String) -> ApiError {
    ApiError::Status(StatusCode::CONFLICT, detail)
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!(
        "no deployment is called '{name}': see GET /v1/workflows/deployments or `airlock plugins list`"
    ))
}

/// All of them, once those that are new have been judged.
async fn deployed(state: &ApiState) -> Vec<PluginStatus> {
    workflows::loaded(state).await;
    state.engine.guests().plugins()
}

async fn find(state: &ApiState, name: &str) -> ApiResult<PluginStatus> {
    deployed(state).await.into_iter().find(|deployed| deployed.name == name).ok_or_else(|| unknown(name))
}
