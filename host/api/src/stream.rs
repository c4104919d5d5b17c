//! Events as they happen (server-sent events), and stored ones in pages.

use std::{convert::Infallible, sync::Arc};

use airlock_engine::{
    ExecutionId, RunId,
    store::{Family, Scope},
};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response, sse::Event as Frame},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    ApiState,
    budget::{Charge, FREE},
    caller::Caller,
    error::{ApiError, ApiResult},
    events::{Event, Run},
    executions,
    query::Query,
    streams,
    telling::{Telling, Told, Wanted},
};

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
    /// A filter that nothing passes: events carry no metadata.
    nothing: bool,
}

impl Filter {
    fn new(query: &Query, headers: &HeaderMap) -> ApiResult<Self> {
        let owned = |key: &str| query.filter(key).map(str::to_owned);
        let header = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        let last = header.or(query.filter("last_event_id"));
        // The number, or the id of the event, which holds it.
        let last: Option<u64> = last.and_then(|text| text.strip_prefix("evt-").unwrap_or(text).parse().ok());
        let start: Option<i64> = query.number("start_seq")?;
        let start = start.unwrap_or(0).max(0) as u64;
        Ok(Self {
            from: last.map_or(start, |last| last.saturating_add(1).max(start)),
            types: query.all("workflow_event_types").to_vec(),
            scope: owned("scope"),
            activity_name: owned("activity_name"),
            activity_id: owned("activity_id"),
            workflow_name: owned("workflow_name"),
            nothing: query.keys().any(|key| !KNOWN.contains(&key)),
        })
    }

    fn passes(&self, event: &Event, workflow: &str) -> bool {
        let is = |wanted: &Option<String>, value: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| value == Some(wanted))
        };
        let of_activity = event.kind.starts_with("ACTIVITY");
        !self.nothing
            && event.number >= self.from
            && (self.types.is_empty() || self.types.iter().any(|wanted| wanted == event.kind))
            && match self.scope.as_deref() {
                Some("activity") => of_activity,
                Some("workflow") => !of_activity,
                _ => true,
            }
            && is(&self.activity_name, event.attributes.text_of("activity_name"))
            && is(&self.activity_id, event.attributes.text_of("task_id"))
            && is(&self.workflow_name, Some(workflow))
    }
}

/// `GET /v1/workflows/events/stream`
pub(crate) async fn events(
    State(state): State<ApiState>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let ids = ["root_workflow_exec_id", "workflow_exec_id", "parent_workflow_exec_id"];
    let Some(id) = ids.iter().find_map(|key| query.filter(key)) else {
        return Err(no_id());
    };
    executions::find(&state, &caller, id)?;
    let filter = Filter::new(&query, &headers)?;
    follow(&state, &caller, scope(&query, &caller)?, filter).await
}

/// `GET /v1/workflows/executions/{execution_id}/stream`
pub(crate) async fn execution(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let row = executions::find(&state, &caller, &id)?;
    let scope = seen_by(&caller, Family::Execution(row.id), Vec::new());
    follow(&state, &caller, scope, Filter::new(&query, &headers)?).await
}

/// Whose events are wanted: the runs that every id asks for.
fn scope(query: &Query, caller: &Caller) -> ApiResult<Scope> {
    let mut families = Vec::new();
    for (key, family) in [
        ("workflow_exec_id", Family::Execution as fn(ExecutionId) -> Family),
        ("parent_workflow_exec_id", Family::Children),
        ("root_workflow_exec_id", Family::Tree),
    ] {
        if let Some(text) = query.filter(key) {
            let unknown = |_| ApiError::not_found(format!("no execution has the id '{text}'"));
            families.push(family(text.parse().map_err(unknown)?));
        }
    }
    match families.is_empty() {
        true => Err(no_id()),
        false => Ok(seen_by(caller, families.remove(0), families)),
    }
}

fn no_id() -> ApiError {
    let detail = "one of root_workflow_exec_id, workflow_exec_id and parent_workflow_exec_id is needed";
    ApiError::Status(StatusCode::BAD_REQUEST, detail.into())
}

/// Those runs of a family that the caller may see: an id may have been somebody else's before.
fn seen_by(caller: &Caller, family: Family, within: Vec<Family>) -> Scope {
    let workspace = Some(caller.principal.workspace.clone());
    let user = (!caller.is_owner()).then(|| caller.principal.user.clone());
    Scope { family, within, workspace, user }
}

/// Stored events first, then those that come, in one order, until nothing can come any more. Whoever comes back with the
/// last number that it has seen misses nothing and hears nothing twice.
async fn follow(state: &ApiState, caller: &Caller, scope: Scope, filter: Filter) -> ApiResult<Response> {
    let mut following = state.engine.follow(scope.clone()).await?;
    let (scope, mut next) = (Arc::new(scope), filter.from);
    let render = move |run: &Run, event: &Event| {
        // An event has a JSON form: names are texts.
        filter.passes(event, &run.row().workflow).then(|| run.frame(event).to_text().unwrap_or_default())
    };
    let mut telling = Telling::new(state, caller, 0, Arc::new(render));
    let stream = async_stream::stream! {
        loop {
            let news = match following.next().await {
                Ok(Some(news)) => news,
                Ok(None) => return,
                Err(error) => {
                    yield Ok(early(&error));
                    return;
                }
            };
            let wanted = news.runs.map_or_else(|| Wanted::In(Arc::clone(&scope)), Wanted::These);
            telling.look(wanted, next, news.upto);
            loop {
                let told = match telling.next().await {
                    Ok(Some(told)) => told,
                    Ok(None) => break,
                    Err(error) => {
                        yield Ok(early(&error));
                        return;
                    }
                };
                for (number, text) in told {
                    // JSON is UTF-8.
                    let text = String::from_utf8(text).unwrap_or_default();
                    yield Ok(Frame::default().id(number.to_string()).data(text));
                }
            }
            next = next.max(news.upto.saturating_add(1));
        }
    };
    Ok(streams::events::<_, Infallible>(state, caller, stream))
}

/// A comment: clients read on over it, people see it.
fn early(error: &impl std::fmt::Display) -> Frame {
    tracing::error!(%error, "an event stream ends early");
    Frame::default().comment(error.to_string())
}

/// A page of stored events ends when it holds so many bytes.
const LIST_BYTES: usize = 8 << 20;

/// `GET /v1/workflows/events/list`: stored events in their order. The cursor is the number of the next event: what has
/// come meanwhile stands behind it. A page of large events has fewer than were asked for, and a cursor.
pub(crate) async fn list(State(state): State<ApiState>, caller: Caller, query: Query) -> ApiResult<Response> {
    let limit = query.page_size("limit", 100)?;
    let from: u64 = query.number("cursor")?.unwrap_or(0);
    let Some(id) = ["root_workflow_exec_id", "workflow_exec_id"].iter().find_map(|key| query.filter(key))
    else {
        let message = "one of root_workflow_exec_id and workflow_exec_id is needed";
        return Err(ApiError::invalid(&["query", "root_workflow_exec_id"], message));
    };
    executions::find(&state, &caller, id)?;
    let scope = scope(&query, &caller)?;
    let wanted = match query.filter("workflow_run_id") {
        None => Wanted::In(Arc::new(scope)),
        Some(run) => {
            let run = Uuid::parse_str(run).ok().map(RunId);
            let row = run.map(|run| state.engine.row_of_run(&run)).transpose()?.flatten();
            Wanted::These(row.filter(|row| scope.holds(row)).map(|row| row.key).into_iter().collect())
        }
    };
    let (mut found, mut held, mut charge): (Vec<Told>, usize, _) = (Vec::new(), 0, caller.visit.charge());
    let render = move |run: &Run, event: &Event| {
        // An event has a JSON form: names are texts.
        (event.number >= from).then(|| run.body(event).to_text().unwrap_or_default())
    };
    let mut telling = Telling::new(&state, &caller, limit, Arc::new(render));
    telling.look(wanted, from, state.engine.last_event());
    // One more than asked for, to see whether there is a next page.
    while found.len() <= limit
        && held <= LIST_BYTES
        && let Some(more) = telling.next().await?
    {
        held += more.iter().map(|(_, text)| text.capacity()).sum::<usize>();
        found.extend(more);
        charge.set(held).map_err(ApiError::no_room_for_answer)?;
    }
    let mut room = LIST_BYTES;
    let fitting = found.iter().take(limit).take_while(|(_, text)| {
        // One at least, however large it is.
        let fits = room == LIST_BYTES || text.len() <= room;
        room = room.saturating_sub(text.len());
        fits
    });
    let count = fitting.count();
    let next = found.get(count).map(|(number, _)| number.to_string());
    found.truncate(count);
    Ok(answer(&state, &caller, found, next.as_deref(), charge))
}

/// The list as JSON. A large one is handed on event by event, as it is; the charge is for that.
fn answer(
    state: &ApiState,
    caller: &Caller,
    found: Vec<Told>,
    next: Option<&str>,
    mut charge: Charge,
) -> Response {
    let held: usize = found.iter().map(|(_, text)| text.capacity()).sum();
    // No more than what was charged for until now.
    let _ = charge.set(held);
    let end = format!("],\"next_cursor\":{}}}", json!(next));
    let pieces = found.into_iter().enumerate().flat_map(|(number, (_, text))| {
        let before: &[u8] = if number == 0 { b"{\"events\":[" } else { b"," };
        [before.to_vec(), text]
    });
    let nothing = std::iter::once(b"{\"events\":[".to_vec()).filter(move |_| held == 0);
    let pieces = nothing.chain(pieces).chain([end.into_bytes()]);
    if held <= FREE {
        let text: Vec<u8> = pieces.flatten().collect();
        return ([(header::CONTENT_TYPE, "application/json")], text).into_response();
    }
    let text = async_stream::stream! {
        let _charge = charge;
        for piece in pieces {
            yield Ok(piece);
        }
    };
    streams::text(state, caller, "application/json", text)
}
