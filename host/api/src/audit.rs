//! The audit log and the vault, for owners.

use std::io::{self, BufWriter, Write};

use airlock_connectors::{AUDIT_KINDS, AuditFilter};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{Response, sse::Event},
};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiState,
    body::JsonBody,
    caller::Caller,
    error::{ApiError, ApiResult},
    parameters::{FromText, PageSize, Query, parameters},
    streams,
};

/// A kind of entry.
#[derive(Clone)]
pub(crate) struct Kind(&'static str);

impl FromText for Kind {
    fn schema() -> Value {
        json!({ "type": "string", "enum": AUDIT_KINDS })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let known = AUDIT_KINDS.into_iter().find(|kind| *kind == text);
        known.map(Self).ok_or_else(|| format!("it is not a kind of audit entry: {}", AUDIT_KINDS.join(", ")))
    }
}

parameters! {
    /// Of `GET /v1/airlock/audit`.
    pub(crate) struct ListQuery {
        /// Entries after the one with this number; the last ones if nothing is said.
        after: Option<u64>,
        /// How many a page has.
        limit: PageSize<100>,
        /// Those about this connector.
        connector: Option<String>,
        /// Those about this execution.
        execution: Option<String>,
        /// Those of this user.
        user: Option<String>,
        /// Those of this kind.
        kind: Option<Kind>,
    }
}

parameters! {
    /// Of `GET /v1/airlock/audit/follow`.
    pub(crate) struct FollowQuery {
        /// Entries after the one with this number; all if nothing is said.
        after: Option<u64>,
        /// Those about this connector.
        connector: Option<String>,
        /// Those about this execution.
        execution: Option<String>,
        /// Those of this user.
        user: Option<String>,
        /// Those of this kind.
        kind: Option<Kind>,
    }
}

parameters! {
    /// Of `GET /v1/airlock/audit/export`.
    pub(crate) struct ExportQuery {
        /// The number of the first entry: 1 if nothing is said.
        from: Option<u64>,
        /// The number of the last entry: the last there is if nothing is said.
        to: Option<u64>,
    }
}

/// `GET /v1/airlock/audit`: entries after `after`, or without it the last ones; the oldest first.
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    let ListQuery { after, limit, connector, execution, user, kind } = query;
    let (limit, filter) =
        (*limit, AuditFilter { connector, execution, user, kind: kind.map(|Kind(kind)| kind.to_owned()) });
    let read = tokio::task::spawn_blocking(move || state.connectors.audit_entries(after, limit, filter));
    Ok(Json(read.await.map_err(|_| gone())??))
}

/// `GET /v1/airlock/audit/follow`: the same as server-sent events, and those that come.
pub(crate) async fn follow(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<FollowQuery>,
) -> ApiResult<Response> {
    caller.must_be_owner()?;
    let FollowQuery { after, connector, execution, user, kind } = query;
    let filter = AuditFilter { connector, execution, user, kind: kind.map(|Kind(kind)| kind.to_owned()) };
    let events = state.connectors.audit_follow(after.unwrap_or(0), filter)?.map(|entry| match entry {
        Ok(entry) => Event::default().json_data(entry).map_err(axum::Error::new),
        Err(error) => Err(axum::Error::new(error)),
    });
    Ok(streams::events(&state, &caller, events))
}

/// `GET /v1/airlock/audit/export`: the lines of the log from `from` to `to`.
pub(crate) async fn export(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ExportQuery>,
) -> ApiResult<Response> {
    caller.must_be_owner()?;
    let (from, to) = (query.from.unwrap_or(1), query.to.unwrap_or(u64::MAX));
    // What is read waits for the reader: a log of years is never held as a whole.
    let (sender, receiver) = tokio::sync::mpsc::channel(EXPORT_PARTS);
    let connectors = state.connectors.clone();
    tokio::task::spawn_blocking(move || {
        let mut lines = BufWriter::with_capacity(EXPORT_PART, Lines(sender.clone()));
        let exported = connectors.audit_export(&mut lines, from, to);
        let failed = match exported {
            Ok(_) => lines.flush(),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        if let Err(error) = failed {
            let _ = sender.blocking_send(Err(error));
        }
    });
    let mut receiver = receiver;
    // The beginning before the answer, so that what goes wrong with it has a status of its own.
    let first = match receiver.recv().await {
        Some(Err(error)) => {
            return Err(ApiError::Status(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()));
        }
        first => first,
    };
    let rest = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let parts = futures::stream::iter(first).chain(rest);
    Ok(streams::text(&state, &caller, "application/jsonl", parts))
}

/// Parts of an export that wait to be taken.
const EXPORT_PARTS: usize = 4;
const EXPORT_PART: usize = 64 << 10;

/// Writes for somebody who may have gone.
struct Lines(tokio::sync::mpsc::Sender<io::Result<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(part.to_vec()));
        sent.map(|()| part.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a check compares with.
#[derive(Deserialize)]
pub(crate) struct Verify {
    /// A head that was kept elsewhere.
    head: Option<String>,
}

/// `POST /v1/airlock/audit/verify`: checks the chain, and that `head` is in it.
pub(crate) async fn verify(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<Verify>,
) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    let checked = tokio::task::spawn_blocking(move || state.connectors.audit_verify(body.head.as_deref()));
    Ok(Json(checked.await.map_err(|_| gone())??))
}

/// What is accepted, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accept {
    /// What a check said is wrong.
    problem: Option<String>,
    reason: String,
}

/// `POST /v1/airlock/audit/accept`: accepts that the log is not whole, with an entry that says so.
pub(crate) async fn accept(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<Accept>,
) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    let who = caller.principal.clone();
    let accepted = tokio::task::spawn_blocking(move || {
        state.connectors.audit_accept(&who, body.problem.as_deref(), &body.reason)
    });
    Ok(Json(accepted.await.map_err(|_| gone())??))
}

/// `GET /v1/airlock/audit/head`: where the log ends, to be kept elsewhere.
pub(crate) async fn head(State(state): State<ApiState>, caller: Caller) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    let head = tokio::task::spawn_blocking(move || state.connectors.audit_head());
    Ok(Json(head.await.map_err(|_| gone())??))
}

/// `POST /v1/airlock/vault/verify`: opens everything that is sealed.
pub(crate) async fn verify_vault(State(state): State<ApiState>, caller: Caller) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    let checked = tokio::task::spawn_blocking(move || state.connectors.verify_vault());
    let checked = checked.await.map_err(|_| gone())??;
    let whole = checked["broken"].as_array().is_none_or(Vec::is_empty);
    Ok(Json(json!({ "whole": whole, "opened": checked["opened"], "broken": checked["broken"] })))
}

/// `POST /v1/airlock/vault/rotate`: a new master key.
pub(crate) async fn rotate(State(state): State<ApiState>, caller: Caller) -> ApiResult<Json<Value>> {
    caller.must_be_owner()?;
    Ok(Json(state.connectors.rotate(&caller.principal, &*state.master_key).await?))
}

fn gone() -> ApiError {
    ApiError::Status(StatusCode::INTERNAL_SERVER_ERROR, "the work was given up".into())
}
