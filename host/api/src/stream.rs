//! Events as they happen (server-sent events), and stored ones in pages.

use std::{convert::Infallible, sync::Arc};

use airlock_engine::{
    ExecutionId, RunId,
    store::{ExecutionRow, Family, Scope},
};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response, sse::Event as Frame},
};
use serde_json::json;

use crate::{
    ApiState,
    budget::{Charge, FREE},
    caller::Caller,
    error::{ApiError, ApiResult},
    events::{self, Event, Run},
    executions,
    parameters::{FromText, Given, PageSize, Parameters as _, Query, invalid, none_of, parameters, words},
    streams,
    telling::{Telling, Told, Wanted},
};

words! {
    /// What events are about.
    pub(crate) enum About {
        Activity = "activity",
        Workflow = "workflow",
    }
}

words! {
    /// Where events are taken from.
    pub(crate) enum Source {
        /// Those that are stored; then the stream ends.
        Database = "DATABASE",
        /// Those that come from now on.
        Live = "LIVE",
        /// Those that are stored, then those that come.
        Hybrid = "HYBRID",
    }
}

/// A type of events.
#[derive(Debug, PartialEq)]
pub(crate) struct Kind(&'static str);

impl FromText for Kind {
    fn schema() -> serde_json::Value {
        json!({ "type": "string", "enum": events::KINDS })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let known = events::KINDS.iter().find(|kind| **kind == text);
        known.map(|kind| Self(kind)).ok_or_else(|| none_of(text, &events::KINDS))
    }
}

/// The number of an event: itself, or the id of the event, which holds it.
#[derive(Debug, PartialEq)]
pub(crate) struct Number(u64);

impl FromText for Number {
    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^(evt-)?[0-9]+$" })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("evt-").unwrap_or(text).parse();
        number.map(Self).map_err(|_| format!("'{text}' is no event: give the id of the last one that came"))
    }
}

parameters! {
    /// Of `GET /v1/workflows/events/stream`. Any other name asks for events with such metadata (contract §1.4), which none has.
    pub(crate) struct EventsQuery and anything {
        /// Only events of activities, or only the others.
        scope: Option<About>,
        /// Those of activities with this name.
        activity_name: Option<String>,
        /// Those of the activity with this `task_id`.
        activity_id: Option<String>,
        /// Those of this workflow.
        workflow_name: Option<String>,
        /// Those of this execution.
        workflow_exec_id: Option<String>,
        /// Those of the tree below this execution, itself included.
        root_workflow_exec_id: Option<String>,
        /// Those of the executions that this one started.
        parent_workflow_exec_id: Option<String>,
        /// Those of the stream with this name. There is one: `airlock`.
        stream: Option<String>,
        /// Those with this number or a later one.
        start_seq: Option<i64>,
        /// Those with such metadata. None has any.
        metadata_filters: Option<String>,
        /// Those of this type. May be repeated: any of them.
        workflow_event_types: Vec<Kind>,
        /// Those after this one; the header `last-event-id` counts before it.
        last_event_id: Option<Number>,
        /// What is stored, what comes, or both, one after the other, if nothing is said.
        event_source: Option<Source>,
    }
}

parameters! {
    /// Of `GET /v1/workflows/executions/{execution_id}/stream`.
    pub(crate) struct ExecutionQuery {
        /// What is stored, what comes, or both, one after the other, if nothing is said.
        event_source: Option<Source>,
        /// Those after this one; the header `last-event-id` counts before it.
        last_event_id: Option<Number>,
        /// Those with this number or a later one.
        start_seq: Option<i64>,
        /// Those of this type. May be repeated: any of them.
        workflow_event_types: Vec<Kind>,
    }
}

/// Which events a client wants.
#[derive(Default)]
struct Filter {
    from: u64,
    source: Option<Source>,
    types: Vec<Kind>,
    scope: Option<About>,
    activity_name: Option<String>,
    activity_id: Option<String>,
    workflow_name: Option<String>,
    /// A filter that nothing passes.
    nothing: bool,
}

impl Filter {
    /// From which number on.
    fn from(headers: &HeaderMap, last: Option<Number>, start: Option<i64>) -> ApiResult<u64> {
        let damaged = |message: String| ApiError::invalid(&["header", "last-event-id"], message);
        let header = match headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?")) {
            None | Some("") => None,
            Some(text) => Some(Number::from_text(text).map_err(damaged)?),
        };
        let start = u64::try_from(start.unwrap_or(0)).unwrap_or(0);
        Ok(header.or(last).map_or(start, |Number(last)| last.saturating_add(1).max(start)))
    }

    fn passes(&self, event: &Event, workflow: &str) -> bool {
        let is = |wanted: &Option<String>, value: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| value == Some(wanted))
        };
        let of_activity = event.kind.starts_with("ACTIVITY");
        !self.nothing
            && event.number >= self.from
            && (self.types.is_empty() || self.types.iter().any(|Kind(wanted)| *wanted == event.kind))
            && self.scope.is_none_or(|scope| (scope == About::Activity) == of_activity)
            && is(&self.activity_name, event.attributes.text_of("activity_name"))
            && is(&self.activity_id, event.attributes.text_of("task_id"))
            && is(&self.workflow_name, Some(workflow))
    }
}

/// `GET /v1/workflows/events/stream`
pub(crate) async fn events(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<EventsQuery>,
    given: Given,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let scope = scope(
        &state,
        &caller,
        &[
            (query.root_workflow_exec_id.as_deref(), Family::Tree),
            (query.workflow_exec_id.as_deref(), Family::Execution),
            (query.parent_workflow_exec_id.as_deref(), Family::Children),
        ],
    )?;
    let Some(scope) = scope else {
        let detail = "one of root_workflow_exec_id, workflow_exec_id and parent_workflow_exec_id is needed";
        return Err(ApiError::Status(StatusCode::BAD_REQUEST, detail.into()));
    };
    let is_known = |name: &str| EventsQuery::LIST.iter().any(|known| known.name == name);
    let filter = Filter {
        from: Filter::from(&headers, query.last_event_id, query.start_seq)?,
        source: query.event_source,
        types: query.workflow_event_types,
        scope: query.scope,
        activity_name: query.activity_name,
        activity_id: query.activity_id,
        workflow_name: query.workflow_name,
        nothing: query.stream.is_some_and(|stream| stream != events::STREAM)
            || query.metadata_filters.is_some()
            || given.names().any(|name| !is_known(name)),
    };
    follow(&state, &caller, scope, filter).await
}

/// `GET /v1/workflows/executions/{execution_id}/stream`
pub(crate) async fn execution(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    Query(query): Query<ExecutionQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let row = executions::find(&state, &caller, &id)?;
    let scope = seen_by(&caller, Family::Execution(row.id), Vec::new());
    let filter = Filter {
        from: Filter::from(&headers, query.last_event_id, query.start_seq)?,
        source: query.event_source,
        types: query.workflow_event_types,
        ..Filter::default()
    };
    follow(&state, &caller, scope, filter).await
}

/// An id that was given, and the runs that it asks for.
type Asked<'a> = (Option<&'a str>, fn(ExecutionId) -> Family);

/// Whose events are wanted: the runs that every id asks for; `None` without one. The caller has to see the first of them.
fn scope(state: &ApiState, caller: &Caller, asked: &[Asked<'_>]) -> ApiResult<Option<Scope>> {
    let mut families = Vec::new();
    for (id, family) in asked {
        let Some(id) = id else { continue };
        if families.is_empty() {
            executions::find(state, caller, id)?;
        }
        let unknown = |_| ApiError::not_found(format!("no execution has the id '{id}'"));
        families.push(family(id.parse().map_err(unknown)?));
    }
    if families.is_empty() {
        return Ok(None);
    }
    Ok(Some(seen_by(caller, families.remove(0), families)))
}

/// Those runs of a family that the caller may see: an id may have been somebody else's before.
fn seen_by(caller: &Caller, family: Family, within: Vec<Family>) -> Scope {
    let workspace = Some(caller.principal.workspace.clone());
    let user = (!caller.is_owner()).then(|| caller.principal.user.clone());
    Scope { family, within, workspace, user }
}

/// Stored events first, then those that come, in one order, until nothing can come any more. Whoever comes back with the
/// last number that it has seen misses nothing and hears nothing twice.
async fn follow(state: &ApiState, caller: &Caller, scope: Scope, mut filter: Filter) -> ApiResult<Response> {
    let stored_only = filter.source == Some(Source::Database);
    if filter.source == Some(Source::Live) {
        filter.from = filter.from.max(state.engine.last_event().saturating_add(1));
    }
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
            if stored_only {
                return;
            }
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

parameters! {
    /// Of `GET /v1/workflows/events/list`.
    pub(crate) struct ListQuery {
        /// Those of the tree below this execution, itself included.
        root_workflow_exec_id: Option<String>,
        /// Those of this execution.
        workflow_exec_id: Option<String>,
        /// Those of the executions that this one started.
        parent_workflow_exec_id: Option<String>,
        /// Those of this run.
        workflow_run_id: Option<RunId>,
        /// How many a page has. A page of large events has fewer, and a cursor.
        limit: PageSize<100>,
        /// `next_cursor` of the page before: the number of the next event.
        cursor: Option<Number>,
    }
}

/// `GET /v1/workflows/events/list`: stored events in their order. The cursor is the number of the next event: what has
/// come meanwhile stands behind it. A page of large events has fewer than were asked for, and a cursor.
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let (limit, from) = (*query.limit, query.cursor.map_or(0, |Number(number)| number));
    let scope = scope(
        &state,
        &caller,
        &[
            (query.root_workflow_exec_id.as_deref(), Family::Tree),
            (query.workflow_exec_id.as_deref(), Family::Execution),
            (query.parent_workflow_exec_id.as_deref(), Family::Children),
        ],
    )?;
    let wanted = match (scope, query.workflow_run_id) {
        (Some(scope), None) => Wanted::In(Arc::new(scope)),
        (scope, Some(run)) => {
            let row = state.engine.row_of_run(&run)?;
            let row = row.filter(|row| executions::may_see(&caller, row));
            match (row, scope) {
                // As for the ids of executions: that it is not one's own is not told either.
                (None, _) => return Err(ApiError::not_found(format!("no run has the id '{run}'"))),
                (Some(row), Some(scope)) if !scope.holds(&row) => Wanted::These(Vec::new()),
                (Some(ExecutionRow { key, .. }), _) => Wanted::These(vec![key]),
            }
        }
        (None, None) => {
            let message = "one of root_workflow_exec_id, workflow_exec_id, parent_workflow_exec_id and \
                           workflow_run_id is needed";
            return Err(invalid("root_workflow_exec_id", message));
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
