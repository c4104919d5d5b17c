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
    parameters::{Activity, Flag, Order, PageSize, Query, parameters, words},
    wire,
    workflow_lists::page,
    workflows,
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

words! {
    /// By what deployments can be sorted. Both are the time at which the code was taken up.
    pub(crate) enum SortBy {
        UpdatedAt = "updated_at",
        CreatedAt = "created_at",
    }
}

words! {
    /// Where a deployment can run.
    pub(crate) enum Location {
        Local = "local",
        K8s = "k8s",
        Managed = "managed",
    }
}

parameters! {
    /// Of `GET /v1/workflows/deployments`.
    pub(crate) struct ListQuery {
        /// Only those that serve.
        active_only: Flag<true>,
        /// Those that are hardened. None is.
        is_hardened: Option<bool>,
        /// Those that serve this workflow.
        workflow_name: Option<String>,
        /// Those that somebody made. Nobody did: they are files in a folder.
        created_by: Option<String>,
        /// Those that belong to somebody. None does.
        owner: Option<String>,
        /// Those that run there: all are `local`. May be repeated: any of them.
        location_types: Vec<Location>,
        /// Those with this text in their name, in capitals or not.
        search: Option<String>,
        /// In which order: `desc`, the newest first, if nothing is said.
        order: Option<Order>,
        /// How many a page has.
        limit: PageSize<50>,
        /// `next_cursor` of the page before.
        cursor: Option<String>,
        /// Those of this workspace.
        workspace_id: Option<String>,
        /// Those that were built from this repository. None was.
        repository_url: Option<String>,
        /// Those that were built with this file. None was.
        dockerfile_path: Option<String>,
    } without effect {
        /// By what they are sorted. Both are the same here.
        order_by: Option<SortBy>,
    }
}

/// `GET /v1/workflows/deployments`
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    let mut all = deployed(&state).await;
    let own = caller.principal.workspace.as_str();
    let managed = [&query.created_by, &query.owner, &query.repository_url, &query.dockerfile_path];
    let none = query.is_hardened == Some(true)
        || managed.into_iter().any(Option::is_some)
        || !(query.location_types.is_empty() || query.location_types.contains(&Location::Local))
        || query.workspace_id.is_some_and(|workspace| workspace != own);
    if none {
        all.clear();
    }
    all.retain(|deployed| is_active(deployed) || !*query.active_only);
    all.retain(|deployed| query.workflow_name.as_ref().is_none_or(|workflow| has(deployed, workflow)));
    if let Some(text) = &query.search {
        let text = text.to_lowercase();
        all.retain(|deployed| deployed.name.to_lowercase().contains(&text));
    }
    all.sort_by_key(|deployed| deployed.loaded_at);
    if query.order != Some(Order::Asc) {
        all.reverse();
    }
    let shown = all.iter().map(shown).collect();
    let (deployments, next) = page(shown, query.cursor.as_deref(), *query.limit, "id")?;
    Ok(Json(json!({ "deployments": deployments, "next_cursor": next, "workspace_id": own })))
}

parameters! {
    /// Of `GET /v1/workflows/deployments/{name}`.
    pub(crate) struct GetQuery {
        /// Only workers that serve this workflow.
        workflow_name: Option<String>,
    }
}

/// `GET /v1/workflows/deployments/{name}`
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    _: Caller,
    Query(query): Query<GetQuery>,
) -> ApiResult<Json<Value>> {
    let deployed = find(&state, &name).await?;
    let mut detail = shown(&deployed);
    let serves = query.workflow_name.is_none_or(|workflow| has(&deployed, &workflow));
    detail["workers"] = if serves { json!([worker(&deployed)]) } else { json!([]) };
    Ok(Json(detail))
}

parameters! {
    /// Of `GET /v1/workflows/deployments/{name}/workers`.
    pub(crate) struct WorkersQuery {
        /// Those that serve, or the others.
        worker_status: Option<Activity>,
        /// How many a page has.
        limit: PageSize<50>,
        /// `next_cursor` of the page before.
        cursor: Option<String>,
    }
}

/// `GET /v1/workflows/deployments/{name}/workers`
pub(crate) async fn workers(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    _: Caller,
    Query(query): Query<WorkersQuery>,
) -> ApiResult<Json<Value>> {
    let deployed = find(&state, &name).await?;
    let is_wanted =
        query.worker_status.is_none_or(|wanted| is_active(&deployed) == (wanted == Activity::Active));
    let all = if is_wanted { vec![worker(&deployed)] } else { Vec::new() };
    let (workers, next) = page(all, query.cursor.as_deref(), *query.limit, "name")?;
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
