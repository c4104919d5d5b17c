//! Starting executions.

use airlock_engine::{
    Json as Text, RetryPolicy,
    engine::{ExecutionView, IdConflict, IdReuse, StartError, StartRequest},
    store::Status,
    tools::{BindingWish, Mocks},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    ApiState,
    caller::Caller,
    error::{ApiError, ApiResult},
    executions,
    input::{EncodedInput, Invocation, input, seconds},
    page::JsonBody,
    wire, workflows,
};

/// `WorkflowExecutionRequest`. What only concerns tracing and deployments is accepted and has no effect here.
#[derive(Deserialize)]
pub(crate) struct ExecuteBody {
    execution_id: Option<String>,
    input: Option<Box<RawValue>>,
    encoded_input: Option<EncodedInput>,
    wait_for_result: Option<bool>,
    timeout_seconds: Option<f64>,
    extensions: Option<Value>,
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
            initial_interval: seconds("initial_interval_seconds", self.initial_interval_seconds)?
                .unwrap_or(default.initial_interval),
            backoff_coefficient,
            maximum_interval: seconds("maximum_interval_seconds", self.maximum_interval_seconds)?
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
        let execution_id = match self.execution_id {
            None => None,
            Some(text) => Some(text.parse().map_err(|error: airlock_engine::ids::InvalidId| {
                ApiError::invalid(&["body", "execution_id"], error.to_string())
            })?),
        };
        // Whoever may not see an execution may not have it given, signalled or ended either.
        if let Some(id) = &execution_id
            && (self.id_conflict_policy.is_some() || self.id_reuse_policy.is_some())
            && let Some(view) = state.engine.get(id)?
            && !executions::may_see(caller, &view.row)
        {
            return Err(StartError::AlreadyExists(id.clone()).into());
        }
        let mocks = mocks(self.extensions.as_ref())?;
        if let Mocks::Connectors(names) = &mocks {
            only_slots(state, &workflow, names).await?;
        }
        Ok(StartRequest {
            execution_id,
            mocks,
            wishes: wishes(self.extensions.as_ref())?,
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
        None => workflows::find(&state, &identifier)?.name,
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
    let workflow = workflows::find_registration(&state, &id)?.name;
    start(&state, workflow, caller, body).await
}

async fn start(state: &ApiState, workflow: String, caller: Caller, body: ExecuteBody) -> ApiResult<Response> {
    let (wait, limit) =
        (body.wait_for_result == Some(true), seconds("timeout_seconds", body.timeout_seconds)?);
    let request = body.request(state, workflow, &caller).await?;
    let mut view = state.engine.start(request).await?;
    if !wait {
        return Ok(Json(wire::execution(&view)).into_response());
    }
    if view.row.status == Status::Running {
        // The execution is durable: when the daemon stops, its caller learns its id and can ask for it afterwards.
        let later = tokio::select! {
            later = state.engine.wait(&view.row.id, limit) => later?,
            () = state.closing.cancelled() => None,
        };
        view = later.unwrap_or(view);
    }
    Ok(waited(&view))
}

/// The answer to a caller that waited: three keys for a result, the whole execution when time ran out or the daemon
/// stops, and 424 when the workflow did not complete. (Not 5xx: clients retry those, and that would start it again.)
fn waited(view: &ExecutionView) -> Response {
    match view.row.status {
        Status::Completed => Json(json!({
            "workflow_name": view.row.workflow,
            "execution_id": view.row.id,
            "result": view.result.as_ref().map_or(Value::Null, Text::value),
        }))
        .into_response(),
        Status::Running => Json(wire::execution(view)).into_response(),
        status => {
            let why = view.failure.as_ref().map_or_else(String::new, |failure| format!(": {failure}"));
            let detail = format!("the workflow '{}' ended as {}{why}", view.row.workflow, status.as_str());
            let body = json!({ "detail": detail, "execution": wire::execution(view) });
            (StatusCode::FAILED_DEPENDENCY, Json(body)).into_response()
        }
    }
}

const MALFORMED: &str = "Malformed runtime connector extension bindings; expected a list of objects with optional \
     'connector_name' and 'credentials_name'. Connector identity is interceptor-owned and must come from \
     @uses_connectors(...).";

/// The credentials that a caller wants for the slots: `extensions.mistralai.connectors.bindings`.
fn wishes(extensions: Option<&Value>) -> ApiResult<Vec<BindingWish>> {
    let place = ["body", "extensions", "mistralai", "connectors", "bindings"];
    let bindings = extensions.and_then(|value| value.pointer("/mistralai/connectors/bindings"));
    let malformed = || ApiError::invalid(&place, MALFORMED);
    let list = match bindings {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(malformed()),
    };
    let text = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.clone())),
        Some(_) => Err(malformed()),
    };
    list.iter()
        .map(|binding| match binding {
            Value::Object(fields) => Ok(BindingWish {
                connector_name: text(fields.get("connector_name"))?,
                credentials_name: text(fields.get("credentials_name"))?,
            }),
            _ => Err(malformed()),
        })
        .collect()
}

const MOCKS: [&str; 4] = ["body", "extensions", "airlock", "mocks"];

/// Which connectors answer from mocks: `extensions.airlock.mocks` is `true` for all, or a list of names. Whatever is not
/// understood is refused: the caller counts on it that nothing is called.
fn mocks(extensions: Option<&Value>) -> ApiResult<Mocks> {
    let fields = match extensions.and_then(|value| value.get("airlock")) {
        None | Some(Value::Null) => return Ok(Mocks::None),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(ApiError::invalid(&MOCKS[..3], "it must be an object: {\"mocks\"?}")),
    };
    if let Some(unknown) = fields.keys().find(|key| *key != "mocks") {
        let place = ["body", "extensions", "airlock", unknown];
        return Err(ApiError::invalid(&place, "there is no such extension: `mocks` is the only one"));
    }
    match fields.get("mocks") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(Mocks::None),
        Some(Value::Bool(true)) => Ok(Mocks::All),
        Some(Value::Array(names)) => {
            let name = |(index, name): (usize, &Value)| match name.as_str() {
                Some(name) if !name.trim().is_empty() => Ok(name.to_owned()),
                _ => {
                    let mut place: Vec<Value> = MOCKS.iter().map(|&key| key.into()).collect();
                    place.push(index.into());
                    Err(ApiError::Invalid(vec![(place.into(), "it must be the name of a connector".into())]))
                }
            };
            Ok(Mocks::Connectors(names.iter().enumerate().map(name).collect::<ApiResult<_>>()?))
        }
        Some(_) => Err(ApiError::invalid(&MOCKS, "it must be true, or a list of connectors")),
    }
}

/// A name that the workflow does not have may be misspelt, and then the service would be called.
async fn only_slots(state: &ApiState, workflow: &str, names: &[String]) -> ApiResult<()> {
    let guests = state.engine.guests();
    // A workflow that is not served has an error of its own.
    let Some(digest) = guests.serving(workflow) else { return Ok(()) };
    let definition = guests.definition(&digest).await?;
    let slots: Vec<&str> = definition
        .workflow(workflow)
        .map_or(&[][..], |workflow| &workflow.slots)
        .iter()
        .map(|slot| slot.connector.as_str())
        .collect();
    match names.iter().find(|name| !slots.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let known = if slots.is_empty() { "none".to_owned() } else { slots.join(", ") };
            let message = format!(
                "the workflow '{workflow}' has no connector '{name}', it has {known}; `true` mocks all, also those of \
                 its children"
            );
            Err(ApiError::invalid(&MOCKS, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_read_and_everything_else_is_malformed() {
        let read = |bindings: Value| {
            wishes(Some(&json!({ "mistralai": { "connectors": { "bindings": bindings } } }))).ok()
        };
        let wish = |connector: Option<&str>, credentials: Option<&str>| BindingWish {
            connector_name: connector.map(Into::into),
            credentials_name: credentials.map(Into::into),
        };
        let bindings = json!([{ "connector_name": "a", "credentials_name": "b", "user": "eve" }, {}]);
        assert_eq!(read(bindings), Some(vec![wish(Some("a"), Some("b")), wish(None, None)]));
        assert_eq!(read(Value::Null), Some(vec![]));
        for bad in [
            json!("a"),
            json!({}),
            json!(["a"]),
            json!([{ "connector_name": " " }]),
            json!([{ "connector_name": 1 }]),
        ] {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn mocks_are_all_or_some_and_what_is_not_understood_is_refused() {
        let read = |value: Value| mocks(Some(&json!({ "airlock": value }))).ok();
        let some = Mocks::Connectors(vec!["a".into(), "b".into()]);
        assert_eq!(read(json!({ "mocks": ["a", "b"] })), Some(some));
        assert_eq!(read(json!({ "mocks": true })), Some(Mocks::All));
        for none in [json!({ "mocks": false }), json!({ "mocks": null }), json!({}), Value::Null] {
            assert_eq!(read(none), Some(Mocks::None));
        }
        for bad in [json!(true), json!({ "mocks": "a" }), json!({ "mock": true }), json!({ "mocks": [" "] })]
        {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
        let Err(ApiError::Invalid(places)) = mocks(Some(&json!({ "airlock": { "mocks": ["a", 1] } }))) else {
            panic!("a number is no name")
        };
        assert_eq!(places[0].0, json!(["body", "extensions", "airlock", "mocks", 1]));
    }
}
