//! Lists of workflows and of what serves them.

use airlock_engine::store::{ListFilter, Status};
use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::{
    ApiState,
    caller::Caller,
    error::ApiResult,
    parameters::{
        Activity, Flag, Order, PageSize, Query, WantedStatus, invalid, parameters, statuses, words,
    },
    wire,
    workflows::{Served, served},
};

/// A page of a list that is made anew for each request. The cursor is the last id of the page before.
pub(crate) fn page(
    mut all: Vec<Value>,
    cursor: Option<&str>,
    limit: usize,
    key: &str,
) -> ApiResult<(Vec<Value>, Option<String>)> {
    if let Some(cursor) = cursor {
        let position = all.iter().position(|entry| entry[key] == cursor).ok_or_else(|| {
            invalid("cursor", "the entry it names is not there, or not any more: start from the first page")
        })?;
        all.drain(..=position);
    }
    let more = all.len() > limit;
    all.truncate(limit);
    let next = all.last().filter(|_| more).and_then(|entry| entry[key].as_str()).map(str::to_owned);
    Ok((all, next))
}

words! {
    /// By what workflows can be sorted.
    pub(crate) enum SortBy {
        DisplayName = "display_name",
    }
}

parameters! {
    /// Of `GET /v1/workflows`.
    pub(crate) struct ListQuery {
        /// Those with a run that has this status, among the runs that the caller sees. May be repeated: any of them.
        status: Vec<WantedStatus>,
        /// Those that the chat assistant may use, or the others.
        available_in_chat_assistant: Option<bool>,
        /// Those of this plugin. May be repeated: any of them.
        deployment_name: Vec<String>,
        /// Those whose plugin is loaded (all that are listed), or the others.
        deployment_status: Option<Activity>,
        /// Those that are archived, or the others.
        archived: Option<bool>,
        /// Those with this tag. May be repeated: all of them.
        tags: Vec<String>,
        /// In which order: `asc` if nothing is said.
        order: Option<Order>,
        /// `next_cursor` of the page before.
        cursor: Option<String>,
        /// How many a page has.
        limit: PageSize<50>,
        /// Those with this text in their name, title, description or id, in capitals or not.
        search: Option<String>,
    } without effect {
        /// Workflows that others share. There are none: all belong to the workspace.
        include_shared: Flag<true>,
        /// By what they are sorted. There is one way.
        sort_by: Option<SortBy>,
        /// Only those whose plugin is loaded, which all are that are listed.
        active_only: Flag<false>,
    }
}

/// `GET /v1/workflows`
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    let mut all = served(&state).await?;
    if query.deployment_status == Some(Activity::Inactive) {
        all.clear();
    }
    keep(&mut all, query.archived, |workflow| workflow.notes.archived);
    keep(&mut all, query.available_in_chat_assistant, |it| it.notes.available_in_chat_assistant);
    all.retain(|workflow| query.tags.iter().all(|tag| workflow.notes.tags.contains(tag)));
    all.retain(|it| query.deployment_name.is_empty() || query.deployment_name.contains(&it.plugin));
    if let Some(text) = &query.search {
        let text = text.to_lowercase();
        all.retain(|workflow| workflow.speaks_of(&text));
    }
    match statuses(&query.status) {
        None => all.clear(),
        Some(wanted) if wanted.is_empty() => {}
        Some(wanted) => {
            let mut found = Vec::new();
            for workflow in all {
                if has_run(&state, &caller, &workflow.name, &wanted)? {
                    found.push(workflow);
                }
            }
            all = found;
        }
    }
    if query.order == Some(Order::Desc) {
        all.reverse();
    }
    let all = all.iter().map(Served::basic).collect();
    let (workflows, next) = page(all, query.cursor.as_deref(), *query.limit, "id")?;
    Ok(Json(json!({ "workflows": workflows, "next_cursor": next })))
}

/// Leaves those of which something holds, or of which it does not, if one is wanted.
fn keep(all: &mut Vec<Served>, wanted: Option<bool>, holds: impl Fn(&Served) -> bool) {
    all.retain(|workflow| wanted.is_none_or(|wanted| holds(workflow) == wanted));
}

/// Whether the caller sees a run of this workflow with one of these statuses.
fn has_run(state: &ApiState, caller: &Caller, workflow: &str, status: &[Status]) -> ApiResult<bool> {
    let filter = ListFilter {
        workspace: Some(caller.principal.workspace.clone()),
        user: (!caller.is_owner()).then(|| caller.principal.user.clone()),
        workflows: vec![workflow.to_owned()],
        status: status.to_vec(),
        limit: 1,
        ..ListFilter::default()
    };
    Ok(!state.engine.list(&filter)?.is_empty())
}

parameters! {
    /// Of `GET /v1/workflows/registrations`.
    pub(crate) struct RegistrationsQuery {
        /// Those of the workflow with this id.
        workflow_id: Option<String>,
        /// Those of this task queue, which is the plugin.
        task_queue: Option<String>,
        /// Those of the workflow with this name.
        workflow_name: Option<String>,
        /// Those of workflows with this text in their name, title, description or id, in capitals or not.
        workflow_search: Option<String>,
        /// Those of archived workflows, or of the others.
        archived: Option<bool>,
        /// With the workflow in each.
        with_workflow: Flag<false>,
        /// Those of workflows that the chat assistant may use, or of the others.
        available_in_chat_assistant: Option<bool>,
        /// How many a page has.
        limit: PageSize<50>,
        /// `next_cursor` of the page before.
        cursor: Option<String>,
    } without effect {
        /// Only those that serve, which all do that are listed.
        active_only: Flag<false>,
        /// Workflows that others share. There are none: all belong to the workspace.
        include_shared: Flag<true>,
    }
}

/// `GET /v1/workflows/registrations`
pub(crate) async fn registrations(
    State(state): State<ApiState>,
    _: Caller,
    Query(query): Query<RegistrationsQuery>,
) -> ApiResult<Json<Value>> {
    let mut all = served(&state).await?;
    if let Some(id) = &query.workflow_id {
        all.retain(|workflow| wire::workflow_id(&workflow.name).to_string() == *id);
    }
    if let Some(name) = &query.workflow_name {
        all.retain(|workflow| workflow.name == *name);
    }
    if let Some(queue) = &query.task_queue {
        all.retain(|workflow| workflow.plugin == *queue);
    }
    if let Some(text) = &query.workflow_search {
        let text = text.to_lowercase();
        all.retain(|workflow| workflow.speaks_of(&text));
    }
    keep(&mut all, query.archived, |workflow| workflow.notes.archived);
    keep(&mut all, query.available_in_chat_assistant, |it| it.notes.available_in_chat_assistant);
    let all = all.iter().map(|workflow| workflow.registration(*query.with_workflow)).collect();
    let (registrations, next) = page(all, query.cursor.as_deref(), *query.limit, "id")?;
    Ok(Json(json!({
        "workflow_registrations": registrations, "workflow_versions": registrations, "next_cursor": next,
    })))
}
