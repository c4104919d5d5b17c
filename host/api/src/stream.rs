//! Events as they happen (server-sent events), and stored ones in pages.

use std::{convert::Infallible, time::Duration};

use airlock_engine::{
    Engine, ExecutionId,
    engine::Progress,
    history::{Command, Record},
    store::{ExecutionRow, ListFilter, Sort, Status, StoreError},
};
use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::sse::{Event as Frame, KeepAlive, Sse},
};
use futures::{Stream, future::select_all};
use serde_json::{Value, json};
use tokio::sync::watch;

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
    executions::find(&state, &caller, id)?;
    let filter = Filter::new(&query, &headers)?;
    follow(&state, Scope::new(&query)?, filter)
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
    let scope = Scope { id: Some(view.row.id), ..Scope::default() };
    follow(&state, scope, Filter::new(&query, &headers)?)
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
    events: Events,
    index: u32,
    /// All of it is sent.
    done: bool,
    /// Another run follows it.
    continued: bool,
}

/// Stored events first, then those that come, until the execution ends or the daemon stops.
fn follow(
    state: &ApiState,
    scope: Scope,
    filter: Filter,
) -> ApiResult<Sse<impl Stream<Item = Result<Frame, Infallible>> + use<>>> {
    let (engine, closing) = (state.engine.clone(), state.closing.clone());
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
                        let events = Events::new(row.clone());
                        let progress = follow.progress;
                        followed.push(Followed { row, progress, events, index: 0, done: false, continued: false });
                    }
                }
            }
            // Events of several runs are sent in the order in which they happened.
            let mut batch: Vec<(u64, String)> = Vec::new();
            let several = followed.iter().filter(|run| !run.done).count() > 1;
            for run in followed.iter_mut().filter(|run| !run.done) {
                // Before the read, so that nothing that comes meanwhile is missed.
                let ended = run.progress.borrow_and_update().ended;
                loop {
                    let page = match engine.history(run.row.key, run.index, PAGE) {
                        Ok(page) => page,
                        Err(error) => {
                            tracing::error!(%error, "an event stream ends early");
                            return;
                        }
                    };
                    let last = page.is_empty();
                    run.index += page.len() as u32;
                    let mut found: Vec<Event> = Vec::new();
                    for stored in &page {
                        wanted_children += children(&stored.record);
                        run.continued |= matches!(stored.record, Record::Continued { .. });
                        found.extend(run.events.of(stored));
                    }
                    if last && ended {
                        found.extend(run.events.end());
                    }
                    let frames = found.into_iter().filter(|event| filter.passes(event));
                    batch.extend(frames.map(|event| (event.number, run.events.frame(&event).to_string())));
                    if !several {
                        for (number, frame) in batch.drain(..) {
                            yield Ok(Frame::default().id(number.to_string()).data(frame));
                        }
                    }
                    if last {
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
                () = closing.cancelled() => return,
            }
        }
    };
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive")))
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
    executions::find(&state, &caller, id)?;
    let run = query.filter("workflow_run_id");
    let mut found: Vec<Event> = Vec::new();
    for row in Scope::new(&query)?.rows(&state.engine)? {
        if run.is_some_and(|run| run != row.run_id.to_string()) {
            continue;
        }
        let (key, ended) = (row.key, row.status != Status::Running);
        let (mut events, mut index, mut taken) = (Events::new(row), 0, 0);
        // One more than asked for, to see whether there is a next page.
        while taken <= limit {
            let page = state.engine.history(key, index, PAGE)?;
            let last = page.is_empty();
            index += page.len() as u32;
            let mut more: Vec<Event> = page.iter().flat_map(|stored| events.of(stored)).collect();
            if last && ended {
                more.extend(events.end());
            }
            let before = found.len();
            found.extend(more.into_iter().filter(|event| event.number >= from));
            taken += found.len() - before;
            if last {
                break;
            }
        }
    }
    found.sort_by_key(|event| event.number);
    let next = found.get(limit).map(|event| event.number.to_string());
    found.truncate(limit);
    let bodies: Vec<Value> = found.into_iter().map(|event| event.body).collect();
    Ok(Json(json!({ "events": bodies, "next_cursor": next })))
}
