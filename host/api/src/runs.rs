//! Lists of executions.

use airlock_engine::{
    ExecutionKey, RunId, UserId,
    store::{ExecutionRow, ListFilter, SearchMatch, SearchTerm, Sort, Status},
};
use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use chrono::DateTime;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    ApiState,
    caller::Caller,
    deployed::Deployments,
    error::{ApiError, ApiResult},
    executions,
    query::Query,
    wire, workflows,
};

/// `GET /v1/workflows/runs`
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let page_size = query.page_size("page_size", 50)?;
    let status = query
        .all("status")
        .iter()
        .map(|text| {
            let known = Status::ALL.into_iter().find(|status| status.as_str() == text);
            known.ok_or_else(|| ApiError::invalid(&["query", "status"], format!("'{text}' is not a status")))
        })
        .collect::<ApiResult<_>>()?;
    let sort = sort(&query)?;
    let user = match query.filter("user_id") {
        Some("current") => Some(caller.principal.user.clone()),
        Some(user) => Some(UserId::new(user)),
        None => None,
    };
    let user = if caller.is_owner() { user } else { Some(caller.principal.user.clone()) };
    let after = query.number("next_page_token")?.map(ExecutionKey);
    // Also one whose plugin has gone: its executions are still there.
    let workflow = match query.filter("workflow_identifier") {
        Some(identifier) => {
            let found = workflows::find(&state, identifier).await;
            Some(found.map_or(identifier.to_owned(), |found| found.name))
        }
        None => None,
    };
    let mut named: Vec<String> = workflow.into_iter().collect();
    let tags = query.all("workflow_tags");
    let deployment = query.filter("deployment_name");
    if !tags.is_empty() || deployment.is_some() {
        let tagged = workflows::served_as(&state, tags, deployment).await?;
        named = if named.is_empty() {
            tagged
        } else {
            named.into_iter().filter(|name| tagged.contains(name)).collect()
        };
        if named.is_empty() {
            return Ok(Json(json!({ "executions": [], "next_page_token": null })));
        }
    }
    let execution = |key: &str| {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| ApiError::invalid(&["query", key], format!("'{text}' is not an execution id")))
        };
        query.filter(key).map(parse).transpose()
    };
    let filter = ListFilter {
        workspace: Some(caller.principal.workspace.clone()),
        user,
        workflows: named,
        status,
        root: execution("root_execution_id")?,
        parent: execution("parent_execution_id")?,
        id: execution("execution_id")?,
        schedule: query.filter("schedule_id").map(str::to_owned),
        started_from: time(&query, "start_time_after")?,
        started_before: time(&query, "start_time_before")?,
        ended_from: time(&query, "end_time_after")?,
        ended_before: time(&query, "end_time_before")?,
        text: query.filter("search").map(str::to_owned),
        search_keys: search_terms(&query)?,
        sort,
        current: query.flag("current_only")? == Some(true),
        after,
        // One more than asked for, to see whether there is a next page.
        limit: page_size + 1,
    };
    let mut rows = state.engine.list(&filter)?;
    let more = rows.len() > page_size;
    rows.truncate(page_size);
    let next = rows.last().filter(|_| more).map(|row| row.key.0.to_string());
    let deployments = Deployments::now(state.engine.guests().as_ref());
    let executions: Vec<Value> = rows.iter().map(|row| wire::row(row, &deployments)).collect();
    Ok(Json(json!({ "executions": executions, "next_page_token": next })))
}

fn sort(query: &Query) -> ApiResult<Sort> {
    let by_end = match query.get("sort_by") {
        None | Some("start_time") => false,
        Some("end_time") => true,
        Some(other) => {
            let message = format!("'{other}' is neither start_time nor end_time");
            return Err(ApiError::invalid(&["query", "sort_by"], message));
        }
    };
    match (query.get("order"), by_end) {
        (None | Some("desc"), false) => Ok(Sort::NewestStart),
        (None | Some("desc"), true) => Ok(Sort::NewestEnd),
        (Some("asc"), false) => Ok(Sort::OldestStart),
        (Some("asc"), true) => Ok(Sort::OldestEnd),
        (Some(other), _) => {
            Err(ApiError::invalid(&["query", "order"], format!("'{other}' is neither asc nor desc")))
        }
    }
}

fn time(query: &Query, key: &str) -> ApiResult<Option<u64>> {
    let parse = |text: &str| {
        let time = DateTime::parse_from_rfc3339(text).map_err(|error| {
            let message = format!("'{text}' is not a time such as 2026-01-31T08:00:00Z: {error}");
            ApiError::invalid(&["query", key], message)
        })?;
        Ok(u64::try_from(time.timestamp_millis()).unwrap_or(0))
    };
    query.filter(key).map(parse).transpose()
}

/// `search_key` (contract §4.3): `k:v` similar, `k==:v` exact, `k` there, `k==` there without a value; at most three.
fn search_terms(query: &Query) -> ApiResult<Vec<SearchTerm>> {
    let terms = query.all("search_key");
    if terms.len() > 3 {
        return Err(ApiError::invalid(&["query", "search_key"], "at most three at once"));
    }
    let term = |text: &String| {
        let (name, value) = match (text.split_once(':'), text.strip_suffix("==")) {
            (Some((name, value)), _) => match name.strip_suffix("==") {
                Some(name) => (name, SearchMatch::Exactly(value.to_owned())),
                None => (name, SearchMatch::Similar(value.to_owned())),
            },
            (None, Some(name)) => (name, SearchMatch::Null),
            (None, None) => (text.as_str(), SearchMatch::Present),
        };
        if name.is_empty() {
            let message = "write NAME:similar, NAME==:exact, NAME or NAME==";
            return Err(ApiError::invalid(&["query", "search_key"], message));
        }
        Ok(SearchTerm { name: name.to_owned(), value })
    };
    terms.iter().map(term).collect()
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
) -> ApiResult<Response> {
    let row = find(&state, &caller, &run_id)?;
    executions::whole_history(&state, &caller, &row).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_terms_are_read_as_the_contract_says() {
        let uri: axum::http::Uri =
            "/?search_key=a:b&search_key=a%3D%3D:b:c&search_key=k%3D%3D".parse().expect("a URI");
        let query = Query::of(&uri).expect("a query");
        let terms = search_terms(&query).expect("terms");
        let is = |name: &str, value| SearchTerm { name: name.into(), value };
        assert_eq!(
            terms,
            [
                is("a", SearchMatch::Similar("b".into())),
                is("a", SearchMatch::Exactly("b:c".into())),
                is("k", SearchMatch::Null),
            ]
        );
        for bad in
            ["/?search_key=", "/?search_key=:v", "/?search_key=a&search_key=a&search_key=a&search_key=a"]
        {
            let query = Query::of(&bad.parse().expect("a URI")).expect("a query");
            assert!(search_terms(&query).is_err(), "{bad}");
        }
    }

    #[test]
    fn orders_and_times_are_checked() {
        let query = |text: &str| Query::of(&text.parse().expect("a URI")).expect("a query");
        assert_eq!(sort(&query("/?sort_by=end_time&order=asc")).ok(), Some(Sort::OldestEnd));
        assert!(sort(&query("/?order=up")).is_err());
        assert!(sort(&query("/?sort_by=name")).is_err());
        assert_eq!(time(&query("/?t=1970-01-01T00:00:01Z"), "t").ok(), Some(Some(1000)));
        assert!(time(&query("/?t=yesterday"), "t").is_err());
    }
}
