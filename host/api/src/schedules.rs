//! Schedules (contract §4.4, §11.3): executions that start by the clock.

use airlock_engine::{
    Json as Text,
    engine::StartError,
    json::{MOST_VALUES, values},
    schedule::{
        BackfillRequest, Counters, Definition, Members, NewSchedule, Overlap, Problem, Refusal,
        ScheduleError, ScheduleView,
    },
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use chrono::DateTime;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    ApiState,
    body::{JsonBody, Tree},
    caller::Caller,
    cursor,
    deployed::Deployments,
    error::{ApiError, ApiResult, steps},
    input,
    parameters::{PageOrAll, Query, invalid as not_possible, parameters, words},
    part::Part,
    slots, wire, workflows,
};

/// `WorkflowScheduleRequest`.
#[derive(Deserialize)]
pub(crate) struct CreateBody {
    schedule: Box<RawValue>,
    workflow_identifier: Option<String>,
    workflow_registration_id: Option<String>,
    /// The old name of `workflow_registration_id`.
    workflow_version_id: Option<String>,
    schedule_id: Option<String>,
    /// Ours, as in a start: the same as `extensions` in the schedule.
    extensions: Option<Tree>,
    /// Where the workflow has to be served.
    deployment_name: Option<String>,
    /// The old name of `deployment_name`.
    workflow_task_queue: Option<String>,
}

/// `WorkflowScheduleUpdateRequest`
#[derive(Deserialize)]
pub(crate) struct UpdateBody {
    schedule: Box<RawValue>,
}

/// `WorkflowSchedulePauseRequest`
#[derive(Default, Deserialize)]
pub(crate) struct PauseBody {
    note: Option<String>,
}

/// `WorkflowScheduleTriggerRequest`
#[derive(Default, Deserialize)]
pub(crate) struct TriggerBody {
    overlap: Option<i64>,
}

/// The times of `POST /v1/airlock/schedules/{schedule_id}/backfill`, both included.
#[derive(Deserialize)]
pub(crate) struct BackfillBody {
    start_at: String,
    end_at: String,
    overlap: Option<i64>,
}

words! {
    /// Whether the times of a schedule count.
    pub(crate) enum Counting {
        Active = "active",
        Paused = "paused",
    }
}

parameters! {
    /// Of `GET /v1/workflows/schedules`.
    pub(crate) struct ListQuery {
        /// Those of the workflow with this name.
        workflow_name: Option<String>,
        /// Those of this user; `current` is the caller.
        user_id: Option<String>,
        /// Those whose times count, or those that are paused.
        status: Option<Counting>,
        /// Those with this text in their id, workflow or note, in capitals or not.
        search: Option<String>,
        /// How many a page has; all if nothing is said.
        page_size: PageOrAll,
        /// `next_page_token` of the page before.
        next_page_token: Option<String>,
    }
}

/// The name of the list in its cursors.
const SCHEDULES: &str = "schedules";

/// `GET /v1/workflows/schedules`, in the order of their ids; all of them when no page size is given.
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<Part> {
    let page_size = query.page_size.0.unwrap_or(usize::MAX);
    let user = query.user_id.as_deref().map(|user| match user {
        "current" => caller.principal.user.as_str(),
        user => user,
    });
    let search = query.search.map(|text| text.to_lowercase());
    let after = match &query.next_page_token {
        None => String::new(),
        Some(token) => {
            cursor::key(SCHEDULES, token).map_err(|message| not_possible("next_page_token", message))?
        }
    };
    let paused = query.status.map(|status| status == Counting::Paused);
    let mut found = state.schedules.list(&caller.principal.workspace).await;
    found.retain(|view| {
        may_see(&caller, view)
            && view.id.as_str() > after.as_str()
            && paused.is_none_or(|paused| view.state.paused == paused)
            && user.is_none_or(|user| view.owner.user.as_str() == user)
            && query.workflow_name.as_ref().is_none_or(|name| view.workflow == *name)
            && search.as_ref().is_none_or(|text| {
                [Some(&view.id), Some(&view.workflow), view.state.note.as_ref()]
                    .into_iter()
                    .flatten()
                    .any(|field| field.to_lowercase().contains(text))
            })
    });
    let more = found.len() > page_size;
    found.truncate(page_size);
    let next = found.last().filter(|_| more).map(|view| cursor::after(SCHEDULES, &view.id));
    let deployments = Deployments::now(state.engine.guests().as_ref());
    let schedules = Part::List(found.iter().map(|view| shown(view, &deployments)).collect());
    Ok(Part::object([("schedules", schedules), ("next_page_token", json!(next).into())]))
}

/// `POST /v1/workflows/schedules`
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body): JsonBody<CreateBody>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let mut schedule = members(&body.schedule)?;
    let named = match (&body.workflow_identifier, &body.workflow_registration_id) {
        (Some(_), _) => "workflow_identifier",
        (None, Some(_)) => "workflow_registration_id",
        (None, None) => "workflow_version_id",
    };
    let workflow =
        match (body.workflow_identifier, body.workflow_registration_id.or(body.workflow_version_id)) {
            (Some(identifier), None) => match state.engine.guests().serving(&identifier) {
                Some(_) => identifier,
                None => workflows::find(&state, &identifier).await?.name,
            },
            (None, Some(registration)) => workflows::find_registration(&state, &registration).await?.name,
            _ => {
                let message =
                    "give either workflow_identifier or workflow_registration_id: which workflow is to start";
                return Err(ApiError::invalid(&["body", "workflow_identifier"], message));
            }
        };
    let guests = state.engine.guests().as_ref();
    Deployments::check(guests, "deployment_name", body.deployment_name.as_deref(), &workflow)?;
    Deployments::check(guests, "workflow_task_queue", body.workflow_task_queue.as_deref(), &workflow)?;
    let inner_id = schedule.remove("schedule_id").map(|id| id.to::<Option<String>>()).transpose();
    let inner_id = inner_id
        .map_err(|_| ApiError::invalid(&["body", "schedule", "schedule_id"], "it must be a text"))?
        .flatten();
    let id = match (body.schedule_id, inner_id) {
        (Some(outer), Some(inner)) if outer != inner => {
            let message = "schedule_id and schedule.schedule_id differ: give one of them";
            return Err(ApiError::invalid(&["body", "schedule_id"], message));
        }
        (outer, inner) => outer.or(inner),
    };
    decode_input(&mut schedule, &caller)?;
    if let Some(Tree(extensions)) = body.extensions {
        let extensions = Text::from(extensions);
        let inner = schedule.get("extensions").filter(|inner| !inner.is_null());
        if inner.is_some_and(|inner| *inner != extensions) {
            let message = "extensions and schedule.extensions differ: give one of them";
            return Err(ApiError::invalid(&["body", "extensions"], message));
        }
        schedule.insert("extensions".into(), extensions);
    }
    let definition = Definition::read(&schedule).map_err(|problem| invalid(vec![problem]))?;
    let extensions = definition.extensions().map_err(|problem| invalid(vec![problem]))?;
    let new = NewSchedule { id, workflow: workflow.clone(), owner: caller.principal.clone(), definition };
    let id = state.schedules.create(new).await.map_err(|error| match error {
        ScheduleError::Refused(Refusal::OnBehalfOf(_)) => {
            ApiError::invalid(&["body", named], error.to_string())
        }
        other => other.into(),
    })?;
    let mut warnings = slots::warnings(&state, &caller, &workflow, &extensions).await;
    warnings.extend(comes_no_more(&find(&state, &caller, &id).await?));
    if state.engine.is_archived(&workflow) {
        let warning = format!("{}; its times are skipped until then", StartError::Archived(workflow));
        warnings.push(warning);
    }
    Ok((StatusCode::CREATED, Json(answer(&id, warnings))))
}

/// `GET /v1/workflows/schedules/{schedule_id}`
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> ApiResult<Part> {
    let deployments = Deployments::now(state.engine.guests().as_ref());
    Ok(shown(&find(&state, &caller, &id).await?, &deployments))
}

/// `PATCH /v1/workflows/schedules/{schedule_id}`: only the keys that are present change.
pub(crate) async fn update(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<UpdateBody>,
) -> ApiResult<Json<Value>> {
    find(&state, &caller, &id).await?;
    let mut schedule = members(&body.schedule)?;
    decode_input(&mut schedule, &caller)?;
    state.schedules.update(&caller.principal.workspace, &id, &schedule).await?;
    let changed = find(&state, &caller, &id).await?;
    let mut warnings = match schedule.contains_key("extensions") {
        false => Vec::new(),
        true => {
            let extensions = changed.definition.extensions().unwrap_or_default();
            slots::warnings(&state, &caller, &changed.workflow, &extensions).await
        }
    };
    warnings.extend(comes_no_more(&changed));
    Ok(Json(answer(&id, warnings)))
}

/// `DELETE /v1/workflows/schedules/{schedule_id}`: what it has started goes on.
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
) -> ApiResult<StatusCode> {
    find(&state, &caller, &id).await?;
    state.schedules.delete(&caller.principal.workspace, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/workflows/schedules/{schedule_id}/pause`
pub(crate) async fn pause(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<Option<PauseBody>>,
) -> ApiResult<StatusCode> {
    find(&state, &caller, &id).await?;
    state.schedules.pause(&caller.principal.workspace, &id, body.unwrap_or_default().note).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/workflows/schedules/{schedule_id}/resume`
pub(crate) async fn resume(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<Option<PauseBody>>,
) -> ApiResult<StatusCode> {
    find(&state, &caller, &id).await?;
    state.schedules.resume(&caller.principal.workspace, &id, body.unwrap_or_default().note).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The header of the answer to a trigger of which nothing comes: why.
const SKIPPED: &str = "airlock-skipped";

/// `POST /v1/workflows/schedules/{schedule_id}/trigger`
pub(crate) async fn trigger(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<Option<TriggerBody>>,
) -> ApiResult<Response> {
    let ScheduleView { workflow, .. } = find(&state, &caller, &id).await?;
    if state.engine.is_archived(&workflow) {
        return Err(StartError::Archived(workflow).into());
    }
    let overlap = overlap(body.unwrap_or_default().overlap)?;
    let skipped = state.schedules.trigger(&caller.principal.workspace, &id, overlap).await?;
    // The contract has no body here.
    Ok(match skipped {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(reason) => (StatusCode::NO_CONTENT, [(SKIPPED, reason)]).into_response(),
    })
}

/// `POST /v1/airlock/schedules/{schedule_id}/backfill`: executions for past times.
pub(crate) async fn backfill(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<BackfillBody>,
) -> ApiResult<StatusCode> {
    find(&state, &caller, &id).await?;
    let time = |field: &str, text: &str| {
        DateTime::parse_from_rfc3339(text).map_err(|_| {
            let message = format!(
                "{field}: '{text}' is not a time with a zone such as 2026-11-21T08:00:00Z (RFC 3339)"
            );
            ApiError::invalid(&["body", field], message)
        })
    };
    let (start, end) = (time("start_at", &body.start_at)?, time("end_at", &body.end_at)?);
    let request = BackfillRequest {
        first: start.timestamp() + i64::from(start.timestamp_subsec_nanos() > 0),
        last: end.timestamp(),
        overlap: overlap(body.overlap)?,
    };
    state.schedules.backfill(&caller.principal.workspace, &id, request).await.map_err(
        |error| match error {
            ScheduleError::Invalid(problems) => places(problems, &["body"]),
            other => other.into(),
        },
    )?;
    Ok(StatusCode::NO_CONTENT)
}

/// A schedule that is not paused and has no times.
fn comes_no_more(view: &ScheduleView) -> Option<String> {
    let silent = !view.state.paused && view.future.is_empty() && view.state.remaining != Some(0);
    silent.then(|| {
        "no time of it lies ahead, as far as one can see: it starts nothing by itself; look at its times, skip, start_at and \
         end_at"
            .into()
    })
}

/// `WorkflowScheduleResponse`, with what its executions will lack as far as that is known now.
fn answer(id: &str, warnings: Vec<String>) -> Value {
    match warnings.is_empty() {
        true => json!({ "schedule_id": id }),
        false => json!({ "schedule_id": id, "warnings": warnings }),
    }
}

fn may_see(caller: &Caller, view: &ScheduleView) -> bool {
    caller.is_owner() || view.owner.user == caller.principal.user
}

/// The schedule with this id, if the caller may see it: one's own, and everybody's in the workspace for the owner.
async fn find(state: &ApiState, caller: &Caller, id: &str) -> ApiResult<ScheduleView> {
    let found = state.schedules.get(&caller.principal.workspace, id).await;
    found.filter(|view| may_see(caller, view)).ok_or_else(|| ScheduleError::Unknown(id.into()).into())
}

fn overlap(number: Option<i64>) -> ApiResult<Option<Overlap>> {
    let read = |number| {
        Overlap::from_wire(number).map_err(|message| ApiError::invalid(&["body", "overlap"], message))
    };
    number.map(read).transpose()
}

/// What a definition consists of, or what of it is to change.
fn members(schedule: &RawValue) -> ApiResult<Members> {
    let count = values(schedule.get().as_bytes());
    if count > MOST_VALUES {
        let message = format!("{count} values stand where at most {MOST_VALUES} are possible");
        return Err(ApiError::invalid(&["body", "schedule"], message));
    }
    serde_json::from_str(schedule.get()).map_err(|error| {
        let message =
            format!("a schedule is an object with input, calendars, intervals, cron_expressions …: {error}");
        ApiError::invalid(&["body", "schedule"], message)
    })
}

/// Clients that encode payloads put one where the input stands.
fn decode_input(schedule: &mut Members, caller: &Caller) -> ApiResult<()> {
    let encoded = schedule.get("input").and_then(|input| input::encoded(input.as_str()));
    if let Some(encoded) = encoded {
        caller.visit.decoded("schedule.input");
        schedule.insert("input".into(), encoded.text(&["body", "schedule", "input"])?);
    }
    Ok(())
}

fn time(seconds: i64) -> String {
    wire::time(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}

/// `ScheduleDefinitionOutput`, with what has become of its times beside what the client knows.
fn shown(view: &ScheduleView, deployments: &Deployments) -> Part {
    let (definition, state) = (&view.definition, &view.state);
    let future: Vec<Value> = view.future.iter().map(|&at| json!({ "scheduled_at": time(at) })).collect();
    let recent: Vec<Value> = state
        .recent
        .iter()
        .map(|run| {
            json!({ "scheduled_at": time(run.scheduled_at), "started_at": wire::time(run.started_at),
                "execution_id": run.execution_id })
        })
        .collect();
    let counters = |counters: &Counters| {
        json!({ "started": counters.started, "skipped": counters.skipped, "missed": counters.missed,
            "failed": counters.failed })
    };
    let failure = state.last_failure.as_ref().map(|failure| {
        json!({ "scheduled_at": time(failure.scheduled_at), "failed_at": wire::time(failure.failed_at),
            "reason": failure.reason })
    });
    let skipped = state
        .last_skipped
        .as_ref()
        .map(|left_out| json!({ "scheduled_at": time(left_out.scheduled_at), "reason": left_out.reason }));
    let backfills: Vec<Value> = view
        .backfills
        .iter()
        .map(|backfill| {
            json!({ "done_up_to": time(backfill.handled), "end_at": time(backfill.last),
                "overlap": backfill.overlap.wire() })
        })
        .collect();
    let about = json!({
        "schedule_id": view.id,
        "workflow_name": view.workflow,
        "paused": state.paused,
        "note": state.note,
        "calendars": definition.calendars,
        "intervals": definition.intervals,
        "cron_expressions": definition.cron_expressions,
        "skip": definition.skip,
        "start_at": definition.start_at,
        "end_at": definition.end_at,
        "jitter": definition.jitter,
        "time_zone_name": definition.time_zone_name,
        "policy": view.policy.wire(),
        "max_executions": definition.max_executions,
        "extensions": definition.extensions,
        "remaining_executions": state.remaining,
        "deployment_name": deployments.serving(&view.workflow).map(|deployed| &deployed.name),
        "future_executions": future,
        "recent_executions": recent,
        "user_id": view.owner.user,
        "created_at": wire::time(view.created_at),
        "updated_at": wire::time(view.updated_at),
        "running_executions": state.running,
        "waiting_executions": view.waiting,
        "backfills": backfills,
        "scheduled": counters(&state.scheduled),
        "by_hand": counters(&state.by_hand),
        "last_failure": failure,
        "last_skipped": skipped,
    });
    Part::with(about, [("input", (&definition.input).into())])
}

/// Problems in the definition as the client's lists of keys.
fn invalid(problems: Vec<Problem>) -> ApiError {
    places(problems, &["body", "schedule"])
}

fn places(problems: Vec<Problem>, prefix: &[&str]) -> ApiError {
    let place = |Problem { pointer, message }: Problem| {
        let message = match pointer.strip_prefix('/') {
            Some(path) => format!("{path}: {message}"),
            None => message,
        };
        (steps(prefix, &pointer), message)
    };
    ApiError::Invalid(problems.into_iter().map(place).collect())
}

impl From<ScheduleError> for ApiError {
    fn from(error: ScheduleError) -> Self {
        let detail = error.to_string();
        match error {
            ScheduleError::Unknown(_) => Self::not_found(detail),
            ScheduleError::Exists(_) => Self::conflict(detail),
            ScheduleError::Id => Self::invalid(&["body", "schedule_id"], detail),
            ScheduleError::Invalid(problems) | ScheduleError::Refused(Refusal::Input(problems)) => {
                invalid(problems)
            }
            ScheduleError::Refused(Refusal::Extensions(problem)) => invalid(vec![problem]),
            ScheduleError::Refused(Refusal::UnknownWorkflow(_)) => Self::not_found(detail),
            ScheduleError::Refused(Refusal::OnBehalfOf(_)) => {
                Self::invalid(&["body", "workflow_identifier"], detail)
            }
            ScheduleError::Refused(Refusal::Unusable(_)) => {
                Self::Status(StatusCode::SERVICE_UNAVAILABLE, detail)
            }
            ScheduleError::Records(error) => error.into(),
        }
    }
}
