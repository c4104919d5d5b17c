//! Events as they happen (server-sent events), and stored ones in pages.

use std::{convert::Infallible, sync::Arc, time::Duration};

use airlock_engine::{
    Engine, ExecutionId,
    engine::Progress,
    history::{Command, Record, StoredRecord},
    store::{ExecutionRow, ListFilter, Sort, Status, StoreError},
};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response, sse::Event as Frame},
};
use futures::future::select_all;
use serde_json::json;
use tokio::sync::watch;

use crate::{
    ApiState,
    budget::{Charge, FREE},
    caller::Caller,
    error::{ApiError, ApiResult},
    events::{Event, Events},
    executions,
    pages::{Pages, Unread},
    query::Query,
    streams,
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
        let detail = "one of root_workflow_exec_id, workflow_exec_id and parent_workflow_exec_id is needed";
        return Err(ApiError::Status(StatusCode::BAD_REQUEST, detail.into()));
    };
    executions::find(&state, &caller, id)?;
    let filter = Filter::new(&query, &headers)?;
    Ok(follow(&state, &caller, Scope::new(&query)?, filter))
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
    let scope = Scope { id: Some(row.id), ..Scope::default() };
    Ok(follow(&state, &caller, scope, Filter::new(&query, &headers)?))
}

/// Whose events are wanted.
#[derive(Default)]
struct Scope {
    id: Option<ExecutionId>,
    root: Option<ExecutionId>,
    parent: Option<ExecutionId>,
}

/// Runs that are followed at once.
const RUNS: usize = 2_000;

/// How long a child may take to appear after its parent wanted it, before somebody looks again.
const CHILD_PAUSE: Duration = Duration::from_millis(100);

impl Scope {
    fn new(query: &Query) -> ApiResult<Self> {
        let id = |key: &str| {
            let parse = |text: &str| {
                let unknown = || ApiError::not_found(format!("no execution has the id '{text}'"));
                text.parse().map_err(|_| unknown())
            };
            query.filter(key).map(parse).transpose()
        };
        Ok(Self {
            id: id("workflow_exec_id")?,
            root: id("root_workflow_exec_id")?,
            parent: id("parent_workflow_exec_id")?,
        })
    }

    /// The runs in it, oldest first. Of very many, the latest, and those of the execution at the top.
    fn rows(&self, engine: &Engine) -> Result<Vec<ExecutionRow>, StoreError> {
        let latest = ListFilter { sort: Sort::NewestStart, limit: RUNS, ..ListFilter::default() };
        let mut rows = engine.list(&ListFilter {
            id: self.id.clone(),
            root: self.root.clone(),
            parent: self.parent.clone(),
            ..latest.clone()
        })?;
        if rows.len() == RUNS && self.id.is_none() && self.parent.is_none() {
            rows.extend(engine.list(&ListFilter { id: self.root.clone(), ..latest })?);
        }
        rows.sort_by_key(|row| row.key);
        rows.dedup_by_key(|row| row.key);
        Ok(rows)
    }

    /// Whether children belong to it.
    fn has_children(&self) -> bool {
        self.id.is_none()
    }

    /// Whether the end of this run, if none follows it, is the end of all.
    fn ends_with(&self, row: &ExecutionRow) -> bool {
        match (&self.id, &self.root) {
            (Some(id), _) | (None, Some(id)) => row.id == *id,
            // The children of an execution may come one after the other, as long as it lives.
            (None, None) => false,
        }
    }
}

/// A run whose events are sent.
struct Followed {
    row: ExecutionRow,
    progress: watch::Receiver<Progress>,
    /// Elsewhere while a page is read.
    events: Option<Events>,
    pages: Pages,
    /// All of it is sent.
    done: bool,
    /// Another run follows it.
    continued: bool,
}

/// What a page of a history says to a stream.
struct Told {
    events: Events,
    frames: Vec<(u64, String)>,
    children: usize,
    continued: bool,
    last: bool,
}

/// Reads a page. `ended`: the run has.
fn told(mut events: Events, records: &[StoredRecord], filter: &Filter, ended: bool) -> (Told, usize) {
    let last = records.is_empty();
    let mut found: Vec<Event> = Vec::new();
    for stored in records {
        found.extend(events.of(stored));
    }
    if last && ended {
        found.extend(events.end());
    }
    let mut frames: Vec<(u64, String)> = Vec::new();
    for event in found.into_iter().filter(|event| filter.passes(event, events.workflow())) {
        // An event has a JSON form, which is UTF-8: names are texts.
        let frame = events.frame(&event).to_text().unwrap_or_default();
        frames.push((event.number, String::from_utf8(frame).unwrap_or_default()));
    }
    let bytes = frames.iter().map(|(_, frame)| frame.capacity()).sum();
    let continued = records.iter().any(|stored| matches!(stored.record, Record::Continued { .. }));
    let children = records.iter().map(|stored| children(&stored.record)).sum();
    (Told { events, frames, children, continued, last }, bytes)
}

impl Followed {
    async fn read(&mut self, filter: &Arc<Filter>, ended: bool) -> Result<Told, Unread> {
        let (row, filter) = (self.row.clone(), Arc::clone(filter));
        let events = self.events.take().unwrap_or_else(|| Events::new(row));
        self.pages.next(move |records| told(events, &records, &filter, ended)).await
    }
}

/// Stored events first, then those that come, until the execution ends.
fn follow(state: &ApiState, caller: &Caller, scope: Scope, filter: Filter) -> Response {
    let (engine, filter) = (state.engine.clone(), Arc::new(filter));
    let pages = {
        let (state, caller) = (state.clone(), caller.clone());
        move |key| Pages::new(&state, &caller, key)
    };
    let mut waiting = caller.visit.charge();
    let stream = async_stream::stream! {
        let mut followed: Vec<Followed> = Vec::new();
        let (mut wanted_children, mut look) = (0usize, true);
        loop {
            if std::mem::take(&mut look) {
                let rows = match scope.rows(&engine) {
                    Ok(rows) => rows,
                    Err(error) => {
                        tracing::error!(%error, "an event stream ends early");
                        return;
                    }
                };
                for row in rows {
                    if followed.iter().any(|known| known.row.key == row.key) {
                        continue;
                    }
                    if let Ok(Some(follow)) = engine.follow(row.key) {
                        let (events, pages) = (Some(Events::new(row.clone())), pages(row.key));
                        let progress = follow.progress;
                        followed.push(Followed { row, progress, events, pages, done: false, continued: false });
                    }
                }
            }
            // Events of several runs are sent in the order in which they happened.
            let (mut batch, mut held): (Vec<(u64, String)>, usize) = (Vec::new(), 0);
            let several = followed.iter().filter(|run| !run.done).count() > 1;
            for run in followed.iter_mut().filter(|run| !run.done) {
                // Before the read, so that nothing that comes meanwhile is missed.
                let ended = run.progress.borrow_and_update().ended;
                loop {
                    let told = match run.read(&filter, ended).await {
                        Ok(told) => told,
                        Err(error) => {
                            tracing::error!(%error, "an event stream ends early");
                            // A comment: clients read on over it, people see it.
                            yield Ok(Frame::default().comment(error.to_string()));
                            return;
                        }
                    };
                    wanted_children += told.children;
                    run.continued |= told.continued;
                    run.events = Some(told.events);
                    if several {
                        held += told.frames.iter().map(|(_, frame)| frame.capacity()).sum::<usize>();
                        batch.extend(told.frames);
                        if waiting.set(held).is_err() {
                            // What there is is sent before the rest is read: in order as far as there is room for it.
                            batch.sort_by_key(|(number, _)| *number);
                            for (number, frame) in batch.drain(..) {
                                yield Ok(Frame::default().id(number.to_string()).data(frame));
                            }
                            held = 0;
                            let _ = waiting.set(held);
                        }
                    } else {
                        for (number, frame) in told.frames {
                            yield Ok(Frame::default().id(number.to_string()).data(frame));
                        }
                    }
                    if told.last {
                        break;
                    }
                }
                if ended {
                    run.done = true;
                    look |= run.continued;
                }
            }
            batch.sort_by_key(|(number, _)| *number);
            for (number, frame) in batch {
                yield Ok(Frame::default().id(number.to_string()).data(frame));
            }
            let _ = waiting.set(0);
            if look {
                continue;
            }
            if followed.iter().any(|run| run.done && !run.continued && scope.ends_with(&run.row)) {
                return;
            }
            let known = followed.iter().filter(|run| run.row.parent.is_some()).count();
            let expects = scope.has_children() && (scope.parent.is_some() || wanted_children > known) && known < RUNS;
            let changes = followed.iter_mut().filter(|run| !run.done).map(|run| Box::pin(run.progress.changed()));
            let changes: Vec<_> = changes.collect();
            if changes.is_empty() && !expects {
                return;
            }
            let changed = async {
                if changes.is_empty() { std::future::pending().await } else { select_all(changes).await.0 }
            };
            tokio::select! {
                _ = changed => {}
                () = tokio::time::sleep(CHILD_PAUSE), if expects => look = true,
            }
        }
    };
    streams::events::<_, Infallible>(state, caller, stream)
}

/// Children that a turn wants.
fn children(record: &Record) -> usize {
    match record {
        Record::Activation { commands, .. } => {
            commands.iter().filter(|command| matches!(command, Command::StartChild { .. })).count()
        }
        _ => 0,
    }
}

/// A page of stored events ends when it holds so many bytes.
const LIST_BYTES: usize = 8 << 20;

/// `GET /v1/workflows/events/list`: stored events in their order. The cursor is the number of the next event. A page of
/// large events has fewer than were asked for, and a cursor.
pub(crate) async fn list(State(state): State<ApiState>, caller: Caller, query: Query) -> ApiResult<Response> {
    let limit = query.page_size("limit", 100)?;
    let from: u64 = query.number("cursor")?.unwrap_or(0);
    let Some(id) = ["root_workflow_exec_id", "workflow_exec_id"].iter().find_map(|key| query.filter(key))
    else {
        let message = "one of root_workflow_exec_id and workflow_exec_id is needed";
        return Err(ApiError::invalid(&["query", "root_workflow_exec_id"], message));
    };
    executions::find(&state, &caller, id)?;
    let run = query.filter("workflow_run_id");
    let (mut found, mut held, mut charge): (Vec<Listed>, usize, _) = (Vec::new(), 0, caller.visit.charge());
    for row in Scope::new(&query)?.rows(&state.engine)? {
        if run.is_some_and(|run| run != row.run_id.to_string()) {
            continue;
        }
        let mut pages = Pages::new(&state, &caller, row.key);
        let ended = row.status != Status::Running;
        let (mut events, mut taken, mut bytes) = (Events::new(row), 0, 0);
        // One more than asked for, to see whether there is a next page.
        while taken <= limit && bytes <= LIST_BYTES {
            let page = pages.next(move |records| listed(events, &records, from, ended));
            let (back, more, last) = page.await?;
            events = back;
            taken += more.len();
            bytes += more.iter().map(|(_, text)| text.capacity()).sum::<usize>();
            found.extend(more);
            charge.set(held + bytes).map_err(ApiError::no_room_for_answer)?;
            if last {
                break;
            }
        }
        held += bytes;
    }
    found.sort_by_key(|(number, _)| *number);
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
    found: Vec<Listed>,
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

/// An event's number and text.
type Listed = (u64, Vec<u8>);

fn listed(
    mut events: Events,
    records: &[StoredRecord],
    from: u64,
    ended: bool,
) -> ((Events, Vec<Listed>, bool), usize) {
    let last = records.is_empty();
    let mut found: Vec<Event> = records.iter().flat_map(|stored| events.of(stored)).collect();
    if last && ended {
        found.extend(events.end());
    }
    let wanted = found.into_iter().filter(|event| event.number >= from);
    // An event has a JSON form: names are texts.
    let texts: Vec<Listed> =
        wanted.map(|event| (event.number, events.body(&event).to_text().unwrap_or_default())).collect();
    let bytes = texts.iter().map(|(_, text)| text.capacity()).sum();
    ((events, texts, last), bytes)
}
