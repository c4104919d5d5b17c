//! Lists of executions.

use airlock_engine::{
    ExecutionId, ExecutionKey, RunId, UserId,
    store::{ExecutionRow, ListFilter, SearchMatch, SearchTerm, Sort},
};
use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    ApiState,
    caller::Caller,
    cursor,
    deployed::Deployments,
    error::{ApiError, ApiResult},
    executions::{self, HistoryQuery},
    parameters::{
        Flag, FromText, Order, PageSize, Query, Time, WantedStatus, invalid, parameters, statuses, words,
    },
    wire, workflows,
};

words! {
    /// By what runs can be sorted.
    pub(crate) enum SortBy {
        StartTime = "start_time",
        EndTime = "end_time",
    }
}

parameters! {
    /// Of `GET /v1/workflows/runs`.
    pub(crate) struct ListQuery {
        /// Those of this workflow: its name or its id.
        workflow_identifier: Option<String>,
        /// Those of the tree below this execution, itself included.
        root_execution_id: Option<ExecutionId>,
        /// Those that this execution started.
        parent_execution_id: Option<ExecutionId>,
        /// Those of this execution.
        execution_id: Option<ExecutionId>,
        /// Those with this text in their id or workflow.
        search: Option<String>,
        /// Those with this status. May be repeated: any of them.
        status: Vec<WantedStatus>,
        /// Those of workflows of this plugin.
        deployment_name: Option<String>,
        /// By what they are sorted: `start_time` if nothing is said.
        sort_by: Option<SortBy>,
        /// In which order: `desc` if nothing is said.
        order: Option<Order>,
        /// Those that started then or later.
        start_time_after: Option<Time>,
        /// Those that started earlier.
        start_time_before: Option<Time>,
        /// Those that ended then or later.
        end_time_after: Option<Time>,
        /// Those that ended earlier.
        end_time_before: Option<Time>,
        /// Those of this user; `current` is the caller.
        user_id: Option<String>,
        /// Those of workflows with this tag. May be repeated: all of them.
        workflow_tags: Vec<String>,
        /// How many a page has.
        page_size: PageSize<50>,
        /// `next_page_token` of the page before.
        next_page_token: Option<String>,
        /// `NAME:similar`, `NAME==:exact`, `NAME` or `NAME==` (without a value). May be repeated, three at most: all of them.
        search_key: Vec<SearchKey>,
        /// Those that this schedule started.
        schedule_id: Option<String>,
        /// Only the newest run of each execution.
        current_only: Flag<false>,
    } without effect {
        /// Also those that the platform starts for itself. There are none.
        include_internal: Flag<true>,
    }
}

/// The name of the list in its cursors.
const RUNS: &str = "runs";

/// `GET /v1/workflows/runs`
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    let page_size = *query.page_size;
    let after = query.next_page_token.as_deref().map(place).transpose()?;
    if query.search_key.len() > 3 {
        return Err(invalid("search_key", "at most three at once"));
    }
    let nothing = || Ok(Json(json!({ "executions": [], "next_page_token": null })));
    let Some(status) = statuses(&query.status) else { return nothing() };
    let me = &caller.principal.user;
    let user = match query.user_id.as_deref() {
        Some("current") => Some(me.clone()),
        Some(user) if caller.is_owner() || user == me.as_str() => Some(UserId::new(user)),
        // Those of others are not seen.
        Some(_) => return nothing(),
        None => (!caller.is_owner()).then(|| me.clone()),
    };
    // Also one whose plugin has gone: its executions are still there.
    let workflow = match query.workflow_identifier {
        Some(identifier) => {
            let found = workflows::find(&state, &identifier).await;
            Some(found.map_or(identifier, |found| found.name))
        }
        None => None,
    };
    let mut named: Vec<String> = workflow.into_iter().collect();
    if !query.workflow_tags.is_empty() || query.deployment_name.is_some() {
        let tagged =
            workflows::served_as(&state, &query.workflow_tags, query.deployment_name.as_deref()).await?;
        named = if named.is_empty() {
            tagged
        } else {
            named.into_iter().filter(|name| tagged.contains(name)).collect()
        };
        if named.is_empty() {
            return nothing();
        }
    }
    let time = |time: Option<Time>| time.map(|Time(ms)| ms);
    let filter = ListFilter {
        workspace: Some(caller.principal.workspace.clone()),
        user,
        workflows: named,
        status,
        root: query.root_execution_id,
        parent: query.parent_execution_id,
        id: query.execution_id,
        schedule: query.schedule_id,
        started_from: time(query.start_time_after),
        started_before: time(query.start_time_before),
        ended_from: time(query.end_time_after),
        ended_before: time(query.end_time_before),
        text: query.search,
        search_keys: query.search_key.into_iter().map(|SearchKey(term)| term).collect(),
        sort: match (query.sort_by, query.order) {
            (None | Some(SortBy::StartTime), None | Some(Order::Desc)) => Sort::NewestStart,
            (None | Some(SortBy::StartTime), Some(Order::Asc)) => Sort::OldestStart,
            (Some(SortBy::EndTime), None | Some(Order::Desc)) => Sort::NewestEnd,
            (Some(SortBy::EndTime), Some(Order::Asc)) => Sort::OldestEnd,
        },
        current: *query.current_only,
        after,
        // One more than asked for, to see whether there is a next page.
        limit: page_size + 1,
    };
    let mut rows = state.engine.list(&filter)?;
    let more = rows.len() > page_size;
    rows.truncate(page_size);
    let next = rows.last().filter(|_| more).map(|row| cursor::after(RUNS, &row.key.0.to_string()));
    let deployments = Deployments::now(state.engine.guests().as_ref());
    let executions: Vec<Value> = rows.iter().map(|row| wire::row(row, &deployments)).collect();
    Ok(Json(json!({ "executions": executions, "next_page_token": next })))
}

/// The run that a page goes on after.
fn place(token: &str) -> ApiResult<ExecutionKey> {
    let key = cursor::key(RUNS, token).map_err(|message| invalid("next_page_token", message))?;
    key.parse().map(ExecutionKey).map_err(|_| invalid("next_page_token", "it is not of this list"))
}

/// `search_key` (contract §4.3): `k:v` similar, `k==:v` exact, `k` there, `k==` there without a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SearchKey(SearchTerm);

impl FromText for SearchKey {
    const MAY_BE_BLANK: bool = false;

    fn schema() -> Value {
        json!({ "type": "string" })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let (name, value) = match (text.split_once(':'), text.strip_suffix("==")) {
            (Some((name, value)), _) => match name.strip_suffix("==") {
                Some(name) => (name, SearchMatch::Exactly(value.to_owned())),
                None => (name, SearchMatch::Similar(value.to_owned())),
            },
            (None, Some(name)) => (name, SearchMatch::Null),
            (None, None) => (text, SearchMatch::Present),
        };
        if name.is_empty() {
            return Err("write NAME:similar, NAME==:exact, NAME or NAME==".into());
        }
        Ok(Self(SearchTerm { name: name.to_owned(), value }))
    }
}

fn find(state: &ApiState, caller: &Caller, run_id: &str) -> ApiResult<ExecutionRow> {
    let unknown = || ApiError::not_found(format!("no run has the id '{run_id}'"));
    let run = RunId(Uuid::parse_str(run_id).map_err(|_| unknown())?);
    let row = state.engine.row_of_run(&run)?;
    row.filter(|row| executions::may_see(caller, row)).ok_or_else(unknown)
}

/// `GET /v1/workflows/runs/{run_id}`
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(run_id): Path<String>,
    caller: Caller,
) -> ApiResult<Response> {
    let row = find(&state, &caller, &run_id)?;
    executions::with_result(&state, &caller, row, false).await
}

/// `GET /v1/workflows/runs/{run_id}/history`
pub(crate) async fn history(
    State(state): State<ApiState>,
    Path(run_id): Path<String>,
    caller: Caller,
    _: Query<HistoryQuery>,
) -> ApiResult<Response> {
    let row = find(&state, &caller, &run_id)?;
    executions::whole_history(&state, &caller, &row).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_terms_are_read_as_the_contract_says() {
        let is = |name: &str, value| Ok(SearchKey(SearchTerm { name: name.into(), value }));
        assert_eq!(SearchKey::from_text("a:b"), is("a", SearchMatch::Similar("b".into())));
        assert_eq!(SearchKey::from_text("a==:b:c"), is("a", SearchMatch::Exactly("b:c".into())));
        assert_eq!(SearchKey::from_text("k=="), is("k", SearchMatch::Null));
        assert_eq!(SearchKey::from_text("k"), is("k", SearchMatch::Present));
        for bad in ["", ":v", "=="] {
            assert!(SearchKey::from_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_place_that_was_not_told_is_none() {
        let token = cursor::after(RUNS, "17");
        assert_eq!(place(&token).ok(), Some(ExecutionKey(17)));
        assert!(place("17").is_err() && place(&cursor::after("schedules", "17")).is_err());
    }
}
