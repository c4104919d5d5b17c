//! Events as they happen (server-sent events), and stored ones in pages.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use airlock_engine::engine::ExecutionView;
use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::sse::{Event as Frame, KeepAlive, Sse},
};
use futures::Stream;
use serde_json::{Value, json};

use crate::{
    ApiState,
    caller::Caller,
    error::{ApiError, ApiResult},
    events::{Event, Events},
    executions::{self, PAGE},
    page::Query,
};

/// A client reads for 300 s without a byte before it gives up (contract §1.6); well under that.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Query keys that are not metadata filters.
const KNOWN: &[&str] = &[
    "scope",
    "activity_name",
    "activity_id",
    "workflow_name",
    "workflow_exec_id",
    "root_workflow_exec_id",
    "parent_workflow_exec_id",
    "stream",
    "start_seq",
    "metadata_filters",
    "workflow_event_types",
    "event_source",
    "last_event_id",
];

/// Which events a client wants.
struct Filter {
    from: u64,
    types: Vec<String>,
    scope: Option<String>,
    activity_name: Option<String>,
    activity_id: Option<String>,
    workflow_name: Option<String>,
    /// A filter that nothing passes: events carry no metadata, and executions have no children yet.
    nothing: bool,
}

impl Filter {
    fn new(query: &Query, headers: &HeaderMap) -> ApiResult<Self> {
        let owned = |key: &str| query.filter(key).map(str::to_owned);
        let header = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        let last: Option<u64> = header.or(query.filter("last_event_id")).and_then(|text| text.parse().ok());
        let start: Option<i64> = query.number("start_seq")?;
        let start = start.unwrap_or(0).max(0) as u64;
        Ok(Self {
            from: last.map_or(start, |last| last.saturating_add(1).max(start)),
            types: query.all("workflow_event_types").to_vec(),
            scope: owned("scope"),
            activity_name: owned("activity_name"),
            activity_id: owned("activity_id"),
            workflow_name: owned("workflow_name"),
            nothing: query.keys().any(|key| !KNOWN.contains(&key))
                || query.filter("parent_workflow_exec_id").is_some(),
        })
    }

    fn passes(&self, event: &Event) -> bool {
        let (kind, attributes) = (event.body["event_type"].as_str().unwrap_or(""), &event.body["attributes"]);
        let is =
            |wanted: &Option<String>, value: &Value| wanted.as_ref().is_none_or(|wanted| value == wanted);
        let of_activity = kind.starts_with("ACTIVITY");
        !self.nothing
            && event.number >= self.from
            && (self.types.is_empty() || self.types.iter().any(|wanted| wanted == kind))
            && match self.scope.as_deref() {
                Some("activity") => of_activity,
                Some("workflow") => !of_activity,
                _ => true,
            }
            && is(&self.activity_name, &attributes["activity_name"])
            && is(&self.activity_id, &attributes["task_id"])
            && is(&self.workflow_name, &event.body["workflow_name"])
    }
}

/// `GET /v1/workflows/events/stream`
pub(crate) async fn events(
    State(state): State<ApiState>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
) -> ApiResult<Sse<impl Stream<Item = Result<Frame, Infallible>>>> {
    let ids = ["root_workflow_exec_id", "workflow_exec_id", "parent_workflow_exec_id"];
    let Some(id) = ids.iter().find_map(|key| query.filter(key)) else {
        let detail = "one of root_workflow_exec_id, workflow_exec_id and parent_workflow_exec_id is needed";
        return Err(ApiError::Status(StatusCode::BAD_REQUEST, detail.into()));
    };
    let view = executions::find(&state, &caller, id)?;
    let mut filter = Filter::new(&query, &headers)?;
    // An execution is its own root: ids that contradict each other leave nothing.
    filter.nothing |= ids.iter().filter_map(|key| query.filter(key)).any(|other| other != id);
    follow(&state, view, filter)
}

/// `GET /v1/workflows/executions/{execution_id}/stream`
pub(crate) async fn execution(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
) -> ApiResult<Sse<impl Stream<Item = Result<Frame, Infallible>>>> {
    let view = executions::find(&state, &caller, &id)?;
    follow(&state, view, Filter::new(&query, &headers)?)
}

/// Stored events first, then those that come, until the execution ends or the daemon stops.
fn follow(
    state: &ApiState,
    view: ExecutionView,
    filter: Filter,
) -> ApiResult<Sse<impl Stream<Item = Result<Frame, Infallible>> + use<>>> {
    let unknown = || ApiError::not_found("the execution is gone");
    let followed = state.engine.follow(&view.row.id)?.ok_or_else(unknown)?;
    let (engine, closing) = (state.engine.clone(), state.closing.clone());
    let (key, mut progress) = (followed.key, followed.progress);
    let mut events = Events::new(view.row);
    let stream = async_stream::stream! {
        let mut index = 0;
        let mut waiting = VecDeque::new();
        loop {
            // Before the read, so that nothing that comes meanwhile is missed.
            let seen = *progress.borrow_and_update();
            loop {
                let page = match engine.history(key, index, PAGE) {
                    Ok(page) => page,
                    Err(error) => {
                        tracing::error!(%error, "an event stream ends early");
                        return;
                    }
                };
                if page.is_empty() {
                    break;
                }
                index += page.len() as u32;
                for stored in &page {
                    waiting.extend(events.of(stored).into_iter().filter(|event| filter.passes(event)));
                }
                while let Some(event) = waiting.pop_front() {
                    let frame = Frame::default().id(event.number.to_string());
                    yield Ok(frame.data(events.frame(&event).to_string()));
                }
            }
            if seen.ended {
                return;
            }
            tokio::select! {
                changed = progress.changed() => if changed.is_err() { return },
                () = closing.cancelled() => return,
            }
        }
    };
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive")))
}

/// `GET /v1/workflows/events/list`: stored events in their order. The cursor is the number of the next event.
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let limit = query.page_size("limit", 100)?;
    let from: u64 = query.number("cursor")?.unwrap_or(0);
    let Some(id) = ["root_workflow_exec_id", "workflow_exec_id"].iter().find_map(|key| query.filter(key))
    else {
        let message = "one of root_workflow_exec_id and workflow_exec_id is needed";
        return Err(ApiError::invalid(&["query", "root_workflow_exec_id"], message));
    };
    let view = executions::find(&state, &caller, id)?;
    let run = query.filter("workflow_run_id");
    let key = view.row.key;
    let other_run = run.is_some_and(|run| run != view.row.run_id.to_string());
    let mut events = Events::new(view.row);
    let (mut found, mut index) = (Vec::new(), 0);
    while found.len() <= limit && !other_run {
        let page = state.engine.history(key, index, PAGE)?;
        if page.is_empty() {
            break;
        }
        index += page.len() as u32;
        for stored in &page {
            found.extend(events.of(stored).into_iter().filter(|event| event.number >= from));
        }
    }
    let next = found.get(limit).map(|event| event.number.to_string());
    found.truncate(limit);
    let bodies: Vec<Value> = found.into_iter().map(|event| event.body).collect();
    Ok(Json(json!({ "events": bodies, "next_cursor": next })))
}
