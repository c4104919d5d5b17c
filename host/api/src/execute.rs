//! Starting executions.

use std::sync::Arc;

use airlock_engine::{
    Extensions, Json as Text, RetryPolicy,
    engine::{ExecutionView, IdConflict, IdReuse, Reach, StartError, StartRequest},
    guests::Guests,
    schedule::Problem,
    store::Status,
    tools::Mocks,
};
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use crate::{
    ApiState,
    body::{JsonBody, Tree},
    budget::FREE,
    caller::Caller,
    deployed::Deployments,
    error::{ApiError, ApiResult, INPUT, of_input, steps},
    input::{ENCODED_INPUT, EncodedInput, Invocation, input, seconds},
    part::Part,
    streams::{self, Over},
    unserved, wire, workflows,
};

/// `WorkflowExecutionRequest`. What only concerns tracing is accepted and has no effect here.
#[derive(Deserialize)]
pub(crate) struct ExecuteBody {
    execution_id: Option<String>,
    /// Checked where the body is read, which for large ones is off the threads that serve others.
    input: Option<Text>,
    encoded_input: Option<EncodedInput>,
    wait_for_result: Option<bool>,
    timeout_seconds: Option<f64>,
    extensions: Option<Tree>,
    /// Ours: whether the id of an execution that has ended can be given again.
    pub(crate) id_reuse_policy: Option<IdReuse>,
    /// Ours: what to do when an execution with this id is running.
    id_conflict_policy: Option<IdConflict>,
    /// Ours: nothing happens for so long.
    start_delay_seconds: Option<f64>,
    /// Ours: instead of the definition's.
    execution_timeout_seconds: Option<f64>,
    /// Ours: instead of the definition's.
    retry: Option<Retry>,
    /// Ours, for signal-with-start.
    pub(crate) signal: Option<Invocation>,
    /// Where the workflow has to be served.
    deployment_name: Option<String>,
    /// The old name of `deployment_name`.
    task_queue: Option<String>,
    #[serde(default, rename = "custom_tracing_attributes")]
    _attributes: IgnoredAny,
    #[serde(default, rename = "force_new_trace")]
    _new_trace: IgnoredAny,
    #[serde(default, rename = "traceparent")]
    _trace: IgnoredAny,
}

/// When a run that failed is tried again; what is absent is as for activities.
#[derive(Deserialize)]
struct Retry {
    maximum_attempts: Option<u32>,
    initial_interval_seconds: Option<f64>,
    backoff_coefficient: Option<f64>,
    maximum_interval_seconds: Option<f64>,
    #[serde(default)]
    non_retryable_kinds: Vec<String>,
}

impl Retry {
    fn policy(self) -> ApiResult<RetryPolicy> {
        let default = RetryPolicy::default();
        let backoff_coefficient = self.backoff_coefficient.unwrap_or(default.backoff_coefficient);
        if !(backoff_coefficient.is_finite() && backoff_coefficient >= 1.0) {
            return Err(ApiError::invalid(
                &["body", "retry", "backoff_coefficient"],
                "it must be at least 1",
            ));
        }
        Ok(RetryPolicy {
            initial_interval: seconds("retry.initial_interval_seconds", self.initial_interval_seconds)?
                .unwrap_or(default.initial_interval),
            backoff_coefficient,
            maximum_interval: seconds("retry.maximum_interval_seconds", self.maximum_interval_seconds)?
                .unwrap_or(default.maximum_interval),
            maximum_attempts: self.maximum_attempts.unwrap_or(default.maximum_attempts),
            non_retryable_kinds: self.non_retryable_kinds,
        })
    }
}

impl ExecuteBody {
    /// What is asked of the engine.
    pub(crate) async fn request(
        self,
        state: &ApiState,
        workflow: String,
        caller: &Caller,
    ) -> ApiResult<StartRequest> {
        let guests = state.engine.guests().as_ref();
        Deployments::check(guests, "deployment_name", self.deployment_name.as_deref(), &workflow)?;
        Deployments::check(guests, "task_queue", self.task_queue.as_deref(), &workflow)?;
        let execution_id = match self.execution_id {
            None => None,
            Some(text) => Some(text.parse().map_err(|error: airlock_engine::ids::InvalidId| {
                ApiError::invalid(&["body", "execution_id"], error.to_string())
            })?),
        };
        let Extensions { mocks, wishes } =
            extensions(state, &workflow, self.extensions.as_ref().map(|Tree(value)| value)).await?;
        Ok(StartRequest {
            execution_id,
            mocks,
            wishes,
            // Whoever may not see an execution may not have it given, signalled, ended or followed either.
            reach: if caller.is_owner() { Reach::Workspace } else { Reach::Own },
            reuse: self.id_reuse_policy.unwrap_or_default(),
            conflict: self.id_conflict_policy.unwrap_or_default(),
            delay: seconds("start_delay_seconds", self.start_delay_seconds)?.unwrap_or_default(),
            execution_timeout: seconds("execution_timeout_seconds", self.execution_timeout_seconds)?,
            retry: self.retry.map(Retry::policy).transpose()?,
            ..StartRequest::new(workflow, input(self.input, self.encoded_input)?, caller.principal.clone())
        })
    }
}

/// `POST /v1/workflows/{workflow_identifier}/execute`
pub(crate) async fn execute(
    State(state): State<ApiState>,
    Path(identifier): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<ExecuteBody>,
) -> ApiResult<Response> {
    // A name that is served needs no look through the list.
    let workflow = match state.engine.guests().serving(&identifier) {
        Some(_) => identifier,
        None => workflows::find(&state, &identifier).await?.name,
    };
    start(&state, workflow, caller, body).await
}

/// `POST /v1/workflows/registrations/{id}/execute`. A registration that no longer serves is gone.
pub(crate) async fn execute_registration(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    JsonBody(body): JsonBody<ExecuteBody>,
) -> ApiResult<Response> {
    let workflow = workflows::find_registration(&state, &id).await?.name;
    start(&state, workflow, caller, body).await
}

async fn start(state: &ApiState, workflow: String, caller: Caller, body: ExecuteBody) -> ApiResult<Response> {
    let (wait, limit) =
        (body.wait_for_result == Some(true), seconds("timeout_seconds", body.timeout_seconds)?);
    let place: &[&str] = if body.encoded_input.is_some() { &ENCODED_INPUT } else { &INPUT };
    let request = body.request(state, workflow, &caller).await?;
    let mut view = state.engine.start(request).await.map_err(|error| match error {
        StartError::InvalidInput(problems) => of_input(place, problems),
        other => other.into(),
    })?;
    let guests = Arc::clone(state.engine.guests());
    if !wait {
        return Ok(wire::execution(&view, guests.as_ref()).into_response());
    }
    let mut why_not = "it did not end in the time that was given";
    if view.row.status == Status::Running {
        // The execution is durable: when the daemon stops, its caller learns its id and can ask for it afterwards.
        let later = tokio::select! {
            later = state.engine.wait(&view.row, limit) => later?,
            why = streams::over(state, &caller) => match why {
                Over::Closing => {
                    why_not = "the daemon stops, and it goes on after its restart";
                    None
                }
                Over::Key(why) => return Err(ApiError::Status(StatusCode::UNAUTHORIZED, why.to_string())),
            },
        };
        view = later.unwrap_or(view);
    }
    let large = view.result.as_ref().is_some_and(|result| result.as_str().len() > FREE);
    if !large {
        return Ok(waited(&view, guests.as_ref(), why_not));
    }
    let written = tokio::task::spawn_blocking(move || waited(&view, guests.as_ref(), why_not)).await;
    written.map_err(|_| unserved::panicked())
}

/// The answer to a caller that waited: three keys for a result, 408 when time ran out or the daemon stops, and 424 when the
/// workflow did not complete, both with the whole execution. (Not 200, which clients take for the result. Not 5xx: clients
/// retry those, and that would start it again.)
fn waited(view: &ExecutionView, guests: &dyn Guests, why_not: &str) -> Response {
    let id = &view.row.id;
    let without_result = |status: StatusCode, detail: String| {
        let execution = wire::execution(view, guests);
        let body = Part::object([("detail", json!(detail).into()), ("execution", execution)]);
        (status, body).into_response()
    };
    match view.row.status {
        Status::Completed => Part::with(
            json!({ "workflow_name": view.row.workflow, "execution_id": view.row.id }),
            [("result", view.result.as_ref().into())],
        )
        .into_response(),
        Status::Running => {
            let detail = format!(
                "the execution '{id}' is still running: {why_not}; ask for it at GET /v1/workflows/executions/{id}"
            );
            without_result(StatusCode::REQUEST_TIMEOUT, detail)
        }
        status => {
            let why = view.failure.as_ref().map_or_else(String::new, |failure| format!(": {failure}"));
            let detail = format!("the workflow '{}' ended as {}{why}", view.row.workflow, status.as_str());
            without_result(StatusCode::FAILED_DEPENDENCY, detail)
        }
    }
}

/// What is asked for besides the input, checked against the workflow.
async fn extensions(state: &ApiState, workflow: &str, value: Option<&Value>) -> ApiResult<Extensions> {
    let refused = |Problem { pointer, message }: Problem| {
        ApiError::Invalid(vec![(steps(&["body", "extensions"], &pointer), message)])
    };
    let extensions = Extensions::read(value).map_err(refused)?;
    let guests = state.engine.guests();
    if extensions.mocks != Mocks::None
        // A workflow that is not served has an error of its own.
        && let Some(digest) = guests.serving(workflow)
        && let Some(workflow) = guests.definition(&digest).await?.workflow(workflow)
    {
        extensions.check(workflow).map_err(refused)?;
    }
    Ok(extensions)
}
