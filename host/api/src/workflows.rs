//! Workflows that are served, and what people add to them: a title, tags, whether they are archived.

use std::{sync::Arc, time::Duration};

use airlock_engine::{Digest, Handler, PluginDefinition, WorkflowDefinition, guests::PluginState};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiState,
    body::JsonBody,
    caller::Caller,
    error::{ApiError, ApiResult, steps},
    notes::Notes,
    parameters::{Flag, Query, parameters},
    wire,
};

/// A workflow with the code that serves it.
pub(crate) struct Served {
    pub(crate) name: String,
    digest: Digest,
    pub(crate) plugin: String,
    definition: Arc<PluginDefinition>,
    position: usize,
    pub(crate) notes: Notes,
}

impl Served {
    fn definition(&self) -> &WorkflowDefinition {
        &self.definition.workflows[self.position]
    }

    fn display_name(&self) -> &str {
        let own = self.notes.display_name.as_deref().or(self.definition().display_name.as_deref());
        own.unwrap_or(&self.name)
    }

    fn description(&self) -> Option<&str> {
        self.notes.description.as_deref().or(self.definition().description.as_deref())
    }

    /// Whether a text in small letters stands in what it is called.
    pub(crate) fn speaks_of(&self, text: &str) -> bool {
        let id = wire::workflow_id(&self.name).to_string();
        let fields = [self.name.as_str(), self.display_name(), self.description().unwrap_or(""), &id];
        fields.iter().any(|field| field.to_lowercase().contains(text))
    }

    pub(crate) fn basic(&self) -> Value {
        json!({
            "id": wire::workflow_id(&self.name), "name": self.name, "display_name": self.display_name(),
            "description": self.description(), "archived": self.notes.archived, "tags": self.notes.tags,
            "metadata": {},
        })
    }

    fn full(&self) -> Value {
        json!({
            "id": wire::workflow_id(&self.name), "name": self.name, "display_name": self.display_name(),
            "type": "code", "customer_id": wire::WORKSPACE, "workspace_id": wire::WORKSPACE,
            "description": self.description(), "archived": self.notes.archived, "tags": self.notes.tags,
            "available_in_chat_assistant": self.notes.available_in_chat_assistant, "is_technical": false,
            "active": true,
        })
    }

    pub(crate) fn registration(&self, with_workflow: bool) -> Value {
        let definition = self.definition();
        let slots: Vec<Value> = definition
            .slots
            .iter()
            .map(|slot| {
                json!({ "connector_name": slot.connector, "auto_auth": slot.auto_auth, "run_as": "auto",
                    "credentials_name": slot.credentials_name })
            })
            .collect();
        let timeout = definition.execution_timeout.unwrap_or(WorkflowDefinition::DEFAULT_EXECUTION_TIMEOUT);
        json!({
            "id": wire::registration_id(&self.name, &self.digest),
            "workflow_id": wire::workflow_id(&self.name),
            "definition": {
                "input_schema": definition.input_schema.value(),
                "output_schema": definition.output_schema.as_ref().map(airlock_engine::Json::value),
                "signals": handlers(&definition.signals), "queries": handlers(&definition.queries),
                "updates": handlers(&definition.updates),
                "enforce_determinism": true,
                "on_behalf_of": definition.on_behalf_of,
                "execution_timeout": timeout.as_secs_f64(),
                "plugin_metadata": { "mistralai": { "connectors": slots } },
            },
            "task_queue": self.plugin, "deployment_name": self.plugin, "active": true,
            "digest": self.digest.to_string(),
            "workflow": with_workflow.then(|| self.full()),
        })
    }
}

/// `SignalDefinition`, `QueryDefinition` and `UpdateDefinition`, by name.
fn handlers(handlers: &[Handler]) -> Vec<Value> {
    let mut sorted: Vec<&Handler> = handlers.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let shown = |handler: &&Handler| {
        json!({
            "name": handler.name, "description": handler.description,
            "input_schema": handler.input_schema.value(),
            "output_schema": handler.output_schema.as_ref().map(airlock_engine::Json::value),
        })
    };
    sorted.iter().map(shown).collect()
}

/// The names of workflows with all of these tags, of this plugin if one is named.
pub(crate) async fn served_as(
    state: &ApiState,
    tags: &[String],
    plugin: Option<&str>,
) -> ApiResult<Vec<String>> {
    let mut all = served(state).await?;
    all.retain(|workflow| tags.iter().all(|tag| workflow.notes.tags.contains(tag)));
    all.retain(|workflow| plugin.is_none_or(|plugin| workflow.plugin == plugin));
    Ok(all.into_iter().map(|workflow| workflow.name).collect())
}

/// How long a question for what is served waits for components that are being loaded.
const LOADING: Duration = Duration::from_secs(10);

/// Waits for components that are being loaded; what takes longer is not there yet.
pub(crate) async fn loaded(state: &ApiState) {
    let _loaded = tokio::time::timeout(LOADING, state.engine.guests().loaded()).await;
}

/// All workflows that are served now, by title. Just after the start of the daemon: once they are loaded, so that nobody
/// is told that there are none.
pub(crate) async fn served(state: &ApiState) -> ApiResult<Vec<Served>> {
    loaded(state).await;
    let mut all = Vec::new();
    for plugin in state.engine.guests().plugins() {
        let PluginState::Ready { definition } = plugin.state else { continue };
        for (position, workflow) in definition.workflows.iter().enumerate() {
            all.push(Served {
                name: workflow.name.clone(),
                digest: plugin.digest,
                plugin: plugin.name.clone(),
                definition: Arc::clone(&definition),
                position,
                notes: Notes::of(&**state.keys.records(), &workflow.name)?,
            });
        }
    }
    // As people look things up: capitals and small letters are alike.
    all.sort_by_cached_key(|workflow| {
        let title = workflow.display_name();
        (title.to_lowercase(), title.to_owned(), workflow.name.clone())
    });
    Ok(all)
}

fn save(state: &ApiState, workflow: &Served) -> ApiResult<()> {
    workflow.notes.save(&**state.keys.records(), &workflow.name)?;
    state.engine.set_archived(&workflow.name, workflow.notes.archived);
    Ok(())
}

/// The workflow with this name or id.
pub(crate) async fn find(state: &ApiState, identifier: &str) -> ApiResult<Served> {
    let is_it = |workflow: &Served| {
        workflow.name == identifier || wire::workflow_id(&workflow.name).to_string() == identifier
    };
    served(state).await?.into_iter().find(is_it).ok_or_else(|| {
        ApiError::not_found(format!(
            "no workflow is called '{identifier}': see GET /v1/workflows or `airlock plugins list` for those that are served"
        ))
    })
}

/// The workflow with this registration, if it still serves.
pub(crate) async fn find_registration(state: &ApiState, id: &str) -> ApiResult<Served> {
    let is_it = |workflow: &Served| wire::registration_id(&workflow.name, &workflow.digest).to_string() == id;
    served(state).await?.into_iter().find(is_it).ok_or_else(|| {
        ApiError::not_found(format!("no registration '{id}' serves now: see GET /v1/workflows/registrations"))
    })
}

/// `GET /v1/workflows/{workflow_identifier}`
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(identifier): Path<String>,
    _: Caller,
) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "workflow": find(&state, &identifier).await?.full() })))
}

/// What workflows are called and whether they are shown is the same for everybody, so it is the owners' to say.
fn for_everybody(caller: &Caller) -> ApiResult<()> {
    caller.must_be_owner()
}

/// `WorkflowUpdateRequest`: what is absent or null stays.
#[derive(Deserialize)]
pub(crate) struct Update {
    display_name: Option<String>,
    description: Option<String>,
    available_in_chat_assistant: Option<bool>,
    tags: Option<Vec<String>>,
}

/// `PUT /v1/workflows/{workflow_identifier}`
pub(crate) async fn update(
    State(state): State<ApiState>,
    Path(identifier): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<Update>,
) -> ApiResult<Json<Value>> {
    for_everybody(&caller)?;
    let mut workflow = find(&state, &identifier).await?;
    if let Some(name) = body.display_name {
        if name.trim().is_empty() || name.chars().count() > 128 {
            return Err(ApiError::invalid(
                &["body", "display_name"],
                "it has 1 to 128 characters and is not blank",
            ));
        }
        workflow.notes.display_name = Some(name);
    }
    workflow.notes.description = body.description.or(workflow.notes.description);
    if let Some(available) = body.available_in_chat_assistant {
        workflow.notes.available_in_chat_assistant = available;
    }
    if let Some(tags) = body.tags {
        workflow.notes.tags = tidy(Vec::new(), tags)?;
    }
    save(&state, &workflow)?;
    Ok(Json(json!({ "workflow": workflow.full() })))
}

/// `WorkflowTagsAddRequest`
#[derive(Deserialize)]
pub(crate) struct Tags {
    tags: Vec<String>,
}

/// `POST /v1/workflows/{workflow_identifier}/tags`
pub(crate) async fn add_tags(
    State(state): State<ApiState>,
    Path(identifier): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<Tags>,
) -> ApiResult<StatusCode> {
    for_everybody(&caller)?;
    let mut workflow = find(&state, &identifier).await?;
    workflow.notes.tags = tidy(std::mem::take(&mut workflow.notes.tags), body.tags)?;
    save(&state, &workflow)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tags are trimmed, not blank, at most 100 characters long, and stand once.
fn tidy(mut tags: Vec<String>, more: Vec<String>) -> ApiResult<Vec<String>> {
    for (position, tag) in more.into_iter().enumerate() {
        let tag = tag.trim().to_owned();
        if tag.is_empty() || tag.chars().count() > 100 {
            let place = steps(&["body", "tags"], &format!("/{position}"));
            return Err(ApiError::Invalid(vec![(
                place,
                "a tag has 1 to 100 characters and is not blank".into(),
            )]));
        }
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// `PUT /v1/workflows/{workflow_identifier}/archive`
pub(crate) async fn archive(
    State(state): State<ApiState>,
    Path(identifier): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    for_everybody(&caller)?;
    Ok(Json(json!({ "workflow": set_archived(&state, &identifier, true).await? })))
}

/// `PUT /v1/workflows/{workflow_identifier}/unarchive`
pub(crate) async fn unarchive(
    State(state): State<ApiState>,
    Path(identifier): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    for_everybody(&caller)?;
    Ok(Json(json!({ "workflow": set_archived(&state, &identifier, false).await? })))
}

async fn set_archived(state: &ApiState, identifier: &str, archived: bool) -> ApiResult<Value> {
    let mut workflow = find(state, identifier).await?;
    workflow.notes.archived = archived;
    save(state, &workflow)?;
    Ok(workflow.full())
}

/// `WorkflowBulkArchiveRequest`
#[derive(Deserialize)]
pub(crate) struct Bulk {
    workflow_ids: Vec<String>,
}

/// `PUT /v1/workflows/archive`
pub(crate) async fn archive_many(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<Bulk>,
) -> ApiResult<Json<Value>> {
    for_everybody(&caller)?;
    many(&state, &body, true, "archived").await
}

/// `PUT /v1/workflows/unarchive`
pub(crate) async fn unarchive_many(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<Bulk>,
) -> ApiResult<Json<Value>> {
    for_everybody(&caller)?;
    many(&state, &body, false, "unarchived").await
}

async fn many(state: &ApiState, body: &Bulk, archived: bool, key: &str) -> ApiResult<Json<Value>> {
    if body.workflow_ids.len() > 100 {
        return Err(ApiError::invalid(&["body", "workflow_ids"], "at most 100 at once"));
    }
    let (mut done, mut errored) = (Vec::new(), Vec::new());
    for id in &body.workflow_ids {
        match set_archived(state, id, archived).await {
            Ok(workflow) => done.push(workflow),
            Err(ApiError::Status(_, message)) => {
                errored.push(json!({ "workflow_id": id, "message": message }))
            }
            Err(other) => return Err(other),
        }
    }
    Ok(Json(json!({ key: done, "errored": errored })))
}

parameters! {
    /// Of `GET /v1/workflows/registrations/{workflow_registration_id}`.
    pub(crate) struct RegistrationQuery {
        /// With the workflow in it.
        with_workflow: Flag<false>,
    } without effect {
        /// Also one that others share. There are none: all belong to the workspace.
        include_shared: Flag<true>,
    }
}

/// `GET /v1/workflows/registrations/{workflow_registration_id}`
pub(crate) async fn registration(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    _: Caller,
    Query(RegistrationQuery { with_workflow }): Query<RegistrationQuery>,
) -> ApiResult<Json<Value>> {
    let registration = find_registration(&state, &id).await?.registration(*with_workflow);
    Ok(Json(json!({ "workflow_registration": registration, "workflow_version": registration })))
}
