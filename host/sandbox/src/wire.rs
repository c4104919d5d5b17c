//! Between the types of `wit/` and those of the engine. What a guest hands over is checked here, once.

use std::time::Duration;

use airlock_engine::{
    ActivityOptions, Failure, Json, RetryPolicy,
    guests::{Activation, ActivityCall, WorkflowInit},
    history::{
        Command, HistorySize, Job, Message, Outcome, ParentClose, SearchValue, StartChild, TaskEvent,
        TaskPhase,
    },
    tools::CallOptions,
};

use crate::{
    bindings::{
        airlock::plugin::types as wit,
        exports::airlock::plugin::{activities::Call, workflows},
    },
    config::Limits,
    output::cut,
};

/// A failure's message is cut to this many bytes (`wit/types.wit`).
const MESSAGE_BYTES: usize = 8 << 10;

/// A failure's kind, a task's id and type are at most this long.
const WORD_BYTES: usize = 256;

/// Names of activities, slots and tools are at most this long.
const NAME_BYTES: usize = 1 << 10;

/// Something from a guest breaks the interface's rules. The sentence says which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Invalid(pub(crate) String);

/// Checks JSON from a guest.
pub(crate) fn json(what: &str, text: String, limits: &Limits) -> Result<Json, Invalid> {
    let bytes = text.len();
    if bytes > limits.payload_bytes {
        return Err(Invalid(format!("{what} has {bytes} bytes; the limit is {}", limits.payload_bytes)));
    }
    Json::parse(text).map_err(|error| Invalid(format!("{what} is not JSON: {error}")))
}

fn name(what: &str, text: String) -> Result<String, Invalid> {
    match text.len() {
        1..=NAME_BYTES => Ok(text),
        0 => Err(Invalid(format!("{what} is empty"))),
        bytes => Err(Invalid(format!("{what} has {bytes} bytes; the limit is {NAME_BYTES}"))),
    }
}

/// A failure for a guest.
pub(crate) fn failure_to_wit(failure: &Failure) -> wit::Failure {
    wit::Failure {
        kind: failure.kind.clone(),
        message: failure.message.clone(),
        non_retryable: failure.non_retryable,
        details: failure.details.as_ref().map(|details| details.as_str().to_owned()),
    }
}

/// A failure from a guest. Long texts are cut.
pub(crate) fn failure(failure: wit::Failure, limits: &Limits) -> Result<Failure, Invalid> {
    let details = failure.details.map(|text| json("the details of a failure", text, limits)).transpose()?;
    let kind = if failure.kind.is_empty() { "Error" } else { cut(&failure.kind, WORD_BYTES) };
    Ok(Failure {
        kind: kind.to_owned(),
        message: cut_owned(failure.message, MESSAGE_BYTES),
        non_retryable: failure.non_retryable,
        details,
    })
}

fn cut_owned(mut text: String, bytes: usize) -> String {
    let end = text.floor_char_boundary(bytes);
    text.truncate(end);
    text
}

fn outcome_to_wit(outcome: &Outcome) -> Result<String, wit::Failure> {
    match outcome {
        Ok(value) => Ok(value.as_str().to_owned()),
        Err(failure) => Err(failure_to_wit(failure)),
    }
}

/// The options of an activity, from a guest.
pub(crate) fn activity_options(options: wit::ActivityOptions) -> Result<ActivityOptions, Invalid> {
    let milliseconds = |ms: Option<u64>| ms.map(Duration::from_millis);
    Ok(ActivityOptions {
        schedule_to_start: milliseconds(options.schedule_to_start_ms),
        start_to_close: milliseconds(options.start_to_close_ms),
        schedule_to_close: milliseconds(options.schedule_to_close_ms),
        heartbeat: milliseconds(options.heartbeat_ms),
        retry: options.retry.map(retry_policy).transpose()?,
    })
}

pub(crate) fn retry_policy(policy: wit::RetryPolicy) -> Result<RetryPolicy, Invalid> {
    if !(policy.backoff_coefficient.is_finite() && policy.backoff_coefficient >= 1.0) {
        let coefficient = policy.backoff_coefficient;
        return Err(Invalid(format!(
            "the backoff coefficient of a retry policy is {coefficient}; it must be at least 1"
        )));
    }
    Ok(RetryPolicy {
        initial_interval: Duration::from_millis(policy.initial_interval_ms),
        backoff_coefficient: policy.backoff_coefficient,
        maximum_interval: Duration::from_millis(policy.maximum_interval_ms),
        maximum_attempts: policy.maximum_attempts,
        non_retryable_kinds: policy.non_retryable_kinds,
    })
}

/// A task event from a guest.
pub(crate) fn task_event(event: wit::TaskEvent, limits: &Limits) -> Result<TaskEvent, Invalid> {
    let bytes = event.payload.len();
    if bytes > limits.event_bytes {
        return Err(Invalid(format!(
            "the payload of an event has {bytes} bytes; the limit is {}",
            limits.event_bytes
        )));
    }
    for (what, text) in [("id", &event.id), ("type", &event.task_type)] {
        if text.is_empty() || text.len() > WORD_BYTES {
            return Err(Invalid(format!(
                "the {what} of an event has {} bytes; it can have 1 to {WORD_BYTES}",
                text.len()
            )));
        }
    }
    Ok(TaskEvent {
        id: event.id,
        task_type: event.task_type,
        phase: match event.phase {
            wit::TaskPhase::Started => TaskPhase::Started,
            wit::TaskPhase::InProgress => TaskPhase::InProgress,
            wit::TaskPhase::Completed => TaskPhase::Completed,
            wit::TaskPhase::Failed => TaskPhase::Failed,
        },
        payload: json("the payload of an event", event.payload, limits)?,
    })
}

/// A call of an activity, for the guest.
pub(crate) fn call_to_wit(call: ActivityCall) -> Call {
    Call {
        activity: call.activity,
        input: call.input.as_str().to_owned(),
        execution_id: call.execution_id.as_str().to_owned(),
        workflow: call.workflow,
        idempotency_key: call.idempotency_key,
        attempt: call.attempt,
        heartbeat_details: call.heartbeat_details.map(|details| details.as_str().to_owned()),
    }
}

/// What a workflow instance is created from, for the guest.
pub(crate) fn init_to_wit(init: &WorkflowInit) -> workflows::Init {
    workflows::Init {
        workflow: init.workflow.clone(),
        execution_id: init.execution_id.as_str().to_owned(),
        run_id: init.run_id.to_string(),
        input: init.input.as_str().to_owned(),
        seed: init.seed,
        started_at_ms: init.started_at_ms,
        parent: init.parent.as_ref().map(|id| id.as_str().to_owned()),
        attempt: init.attempt,
    }
}

/// One turn, for the guest.
pub(crate) fn activation_to_wit(activation: Activation<'_>) -> workflows::Activation {
    workflows::Activation {
        now_ms: activation.now_ms,
        replaying: activation.replaying,
        jobs: activation.jobs.iter().map(job_to_wit).collect(),
        patches: activation.patches.to_vec(),
        history_events: activation.history.events,
        history_bytes: activation.history.bytes,
        continue_as_new_suggested: activation.history.reaches(&HistorySize::SUGGEST),
    }
}

fn message_to_wit(message: &Message) -> workflows::Message {
    workflows::Message {
        name: message.name.clone(),
        input: message.input.as_str().to_owned(),
        sender: message.sender.clone(),
    }
}

fn job_to_wit(job: &Job) -> workflows::Job {
    let resolution =
        |seq: &u32, outcome| workflows::Resolution { seq: *seq, outcome: outcome_to_wit(outcome) };
    match job {
        Job::Started => workflows::Job::Started,
        Job::ActivityResolved { seq, outcome } => workflows::Job::ActivityResolved(resolution(seq, outcome)),
        Job::TimerFired { seq } => workflows::Job::TimerFired(*seq),
        Job::ToolResolved { seq, outcome } => workflows::Job::ToolResolved(resolution(seq, outcome)),
        Job::AuthResolved { seq, outcome } => workflows::Job::AuthResolved(resolution(seq, outcome)),
        Job::CancelRequested { reason } => workflows::Job::CancelRequested(reason.clone()),
        Job::ChildStarted { seq, outcome } => workflows::Job::ChildStarted(workflows::ChildStart {
            seq: *seq,
            outcome: match outcome {
                Ok(id) => Ok(id.as_str().to_owned()),
                Err(failure) => Err(failure_to_wit(failure)),
            },
        }),
        Job::ChildResolved { seq, outcome } => workflows::Job::ChildResolved(resolution(seq, outcome)),
        Job::ExternalResolved { seq, outcome } => workflows::Job::ExternalResolved(resolution(seq, outcome)),
        Job::Signal { message, .. } => workflows::Job::Signal(message_to_wit(message)),
        Job::Update { id, message } => workflows::Job::Update(workflows::UpdateRequest {
            id: id.clone(),
            message: message_to_wit(message),
        }),
    }
}

/// What a workflow wants.
pub(crate) fn commands(commands: Vec<workflows::Command>, limits: &Limits) -> Result<Vec<Command>, Invalid> {
    if commands.len() > limits.commands {
        return Err(Invalid(format!(
            "the workflow gave {} commands in one turn; the limit is {}: wait for some results first",
            commands.len(),
            limits.commands
        )));
    }
    commands.into_iter().map(|one| command(one, limits)).collect()
}

fn command(command: workflows::Command, limits: &Limits) -> Result<Command, Invalid> {
    Ok(match command {
        workflows::Command::ScheduleActivity(it) => Command::ScheduleActivity {
            seq: it.seq,
            activity: name("the name of an activity", it.activity)?,
            input: json("the input of an activity", it.input, limits)?,
            options: activity_options(it.options)?,
        },
        workflows::Command::StartTimer(it) => {
            Command::StartTimer { seq: it.seq, duration: Duration::from_millis(it.duration_ms) }
        }
        workflows::Command::CallTool(it) => Command::CallTool {
            seq: it.seq,
            slot: name("the name of a slot", it.slot)?,
            tool: name("the name of a tool", it.tool)?,
            arguments: tool_arguments(it.arguments, limits)?,
            options: call_options(it.options),
        },
        workflows::Command::ListTools(it) => {
            Command::ListTools { seq: it.seq, slot: name("the name of a slot", it.slot)? }
        }
        workflows::Command::AwaitAuth(it) => {
            Command::AwaitAuth { seq: it.seq, slot: name("the name of a slot", it.slot)? }
        }
        workflows::Command::Cancel(seq) => Command::Cancel { seq },
        workflows::Command::EmitEvent(event) => Command::EmitEvent { event: task_event(event, limits)? },
        workflows::Command::Complete(result) => {
            Command::Complete { result: json("the result of the workflow", result, limits)? }
        }
        workflows::Command::Fail(it) => Command::Fail { failure: failure(it, limits)? },
        workflows::Command::Cancelled => Command::Cancelled,
        workflows::Command::StartChild(it) => Command::StartChild {
            seq: it.seq,
            child: Box::new(StartChild {
                workflow: name("the name of a child's workflow", it.workflow)?,
                execution_id: it.execution_id,
                input: json("the input of a child", it.input, limits)?,
                close: match it.close {
                    workflows::ParentClose::Terminate => ParentClose::Terminate,
                    workflows::ParentClose::RequestCancel => ParentClose::RequestCancel,
                    workflows::ParentClose::Abandon => ParentClose::Abandon,
                },
                execution_timeout: it.execution_timeout_ms.map(Duration::from_millis),
                retry: it.retry.map(retry_policy).transpose()?,
                await_start: it.await_start,
            }),
        },
        workflows::Command::SignalExternal(it) => Command::SignalExternal {
            seq: it.seq,
            execution_id: name("the id of an execution", it.execution_id)?,
            name: name("the name of a signal", it.name)?,
            input: json("the input of a signal", it.input, limits)?,
        },
        workflows::Command::CancelExternal(it) => Command::CancelExternal {
            seq: it.seq,
            execution_id: name("the id of an execution", it.execution_id)?,
            reason: cut_owned(it.reason, MESSAGE_BYTES),
        },
        workflows::Command::UpdateAccepted(id) => Command::UpdateAccepted { id },
        workflows::Command::UpdateRejected(it) => {
            Command::UpdateRejected { id: it.id, failure: failure(it.failure, limits)? }
        }
        workflows::Command::UpdateCompleted(it) => Command::UpdateCompleted {
            id: it.id,
            outcome: match it.outcome {
                // It is the update that has gone wrong, and not the workflow.
                Ok(value) => json("the result of an update", value, limits)
                    .map_err(|error| Failure::permanent(Failure::INVALID_INPUT, error.to_string())),
                Err(it) => Err(failure(it, limits)?),
            },
        },
        workflows::Command::UpsertSearchKeys(keys) => {
            Command::UpsertSearchKeys { keys: keys.into_iter().map(search_key).collect::<Result<_, _>>()? }
        }
        workflows::Command::Patched(id) => Command::Patched { id: name("the name of a patch", id)? },
        workflows::Command::ContinueAsNew(it) => Command::ContinueAsNew {
            workflow: it
                .workflow
                .map(|workflow| name("the name of the next workflow", workflow))
                .transpose()?,
            input: json("the input of the next run", it.input, limits)?,
        },
    })
}

/// A search key has a name of at most so many characters, and a value of at most so many (contract/workflow-features.md
/// §12).
const SEARCH_KEY: (usize, usize) = (256, 8_192);

/// The search key of an execution that waits for somebody: the only one of the host's own that a workflow may set.
const EXECUTION_STATE: &str = "internal.execution.state";

/// Whether a search key can have this name.
pub(crate) fn search_key_name(name: &str) -> Result<(), Invalid> {
    let valid = (1..=SEARCH_KEY.0).contains(&name.chars().count())
        && name.trim() == name
        && !name.contains(':')
        && !name.ends_with('=')
        && (!name.starts_with("internal.") || name == EXECUTION_STATE);
    if valid {
        return Ok(());
    }
    Err(Invalid(format!(
        "{name:?} cannot be a search key: 1 to {} characters, without ':', without spaces around it, not ending in '=', \
         not beginning with 'internal.'",
        SEARCH_KEY.0
    )))
}

fn search_key(it: workflows::SearchKey) -> Result<(String, SearchValue), Invalid> {
    search_key_name(&it.name)?;
    let value = match it.value {
        workflows::SearchValue::Text(text) => SearchValue::Text(text.chars().take(SEARCH_KEY.1).collect()),
        workflows::SearchValue::Null => SearchValue::Null,
        workflows::SearchValue::Removed => SearchValue::Removed,
    };
    Ok((it.name, value))
}

/// The answer to a query.
pub(crate) fn answer(answer: Result<String, wit::Failure>, limits: &Limits) -> Result<Outcome, Invalid> {
    Ok(match answer {
        Ok(value) => Ok(json("the answer to a query", value, limits)?),
        Err(it) => Err(failure(it, limits)?),
    })
}

/// The arguments of a tool call, from a guest: a JSON object.
pub(crate) fn tool_arguments(text: String, limits: &Limits) -> Result<Json, Invalid> {
    let arguments = json("the arguments of a tool call", text, limits)?;
    match arguments.as_str().trim_start().starts_with('{') {
        true => Ok(arguments),
        false => Err(Invalid("the arguments of a tool call must be a JSON object".to_owned())),
    }
}

/// The options of a tool call, from a guest. Whether they are within their bounds is the engine's to say.
pub(crate) fn call_options(options: wit::CallOptions) -> CallOptions {
    CallOptions {
        timeout: options.timeout_ms.map(Duration::from_millis),
        retries: options.retries,
        // One that is too long stays too long.
        credentials_name: options
            .credentials_name
            .map(|name| cut_owned(name, CallOptions::MAX_CREDENTIALS_NAME + 4)),
        use_mock: options.use_mock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { payload_bytes: 64, event_bytes: 16, commands: 2, ..Limits::default() }
    }

    #[test]
    fn json_that_does_not_parse_or_is_too_large_is_named() {
        let error = json("the result", "{".into(), &limits()).unwrap_err();
        assert!(error.0.starts_with("the result is not JSON: "), "{error}");
        let error = json("the result", format!("\"{}\"", "x".repeat(64)), &limits()).unwrap_err();
        assert_eq!(error.0, "the result has 66 bytes; the limit is 64");
    }

    #[test]
    fn a_long_failure_is_cut_at_a_character() {
        let long = wit::Failure {
            kind: String::new(),
            message: "é".repeat(MESSAGE_BYTES),
            non_retryable: true,
            details: None,
        };
        let cut = failure(long, &limits()).unwrap();
        assert_eq!(cut.kind, "Error");
        assert_eq!(cut.message.len(), MESSAGE_BYTES);
    }

    #[test]
    fn an_event_has_bounds() {
        let event = |id: &str, payload: &str| wit::TaskEvent {
            id: id.into(),
            task_type: "progress".into(),
            phase: wit::TaskPhase::Started,
            payload: payload.into(),
        };
        assert!(task_event(event("a", "1"), &limits()).is_ok());
        for bad in
            [event("", "1"), event(&"x".repeat(300), "1"), event("a", "{"), event("a", &"1".repeat(17))]
        {
            assert!(task_event(bad, &limits()).is_err());
        }
    }

    #[test]
    fn too_many_commands_are_refused() {
        let error = commands(vec![workflows::Command::Cancelled; 3], &limits()).unwrap_err();
        assert!(error.0.contains("3 commands in one turn"), "{error}");
    }

    #[test]
    fn tool_arguments_are_an_object() {
        assert!(tool_arguments(" {}".into(), &limits()).is_ok());
        assert!(tool_arguments("[]".into(), &limits()).is_err());
    }

    #[test]
    fn options_of_a_call_are_taken_over_and_a_name_that_is_too_long_stays_so() {
        let options = |name: &str| wit::CallOptions {
            timeout_ms: Some(1500),
            retries: Some(2),
            credentials_name: Some(name.into()),
            use_mock: Some(false),
        };
        let taken = CallOptions {
            timeout: Some(Duration::from_millis(1500)),
            retries: Some(2),
            credentials_name: Some("work".into()),
            use_mock: Some(false),
        };
        assert_eq!(call_options(options("work")), taken);
        for long in ["x".repeat(257), "\u{1f511}".repeat(1000)] {
            let cut = call_options(options(&long));
            assert!(cut.check().is_err() && cut.credentials_name.is_some_and(|name| name.len() < 261));
        }
    }

    #[test]
    fn a_retry_policy_that_shrinks_is_refused() {
        let policy = |backoff_coefficient| wit::RetryPolicy {
            initial_interval_ms: 1,
            backoff_coefficient,
            maximum_interval_ms: 1,
            maximum_attempts: 1,
            non_retryable_kinds: vec![],
        };
        assert!(retry_policy(policy(1.0)).is_ok());
        assert!(retry_policy(policy(0.5)).is_err());
        assert!(retry_policy(policy(f64::NAN)).is_err());
    }
}
