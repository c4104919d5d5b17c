//! Between the component's types and the SDK's own, which exist on every target.

use std::time::Duration;

use serde_json::Value;

use super::bindings::{
    airlock::plugin::types,
    exports::airlock::plugin::{activities, definitions, workflows},
};
use crate::{
    ActivityDefinition, ActivityOptions, CallOptions, Error, HandlerDefinition, ParentClose,
    PluginDefinition, Result, RetryPolicy, SlotDefinition, TaskEvent, TaskPhase, WorkflowDefinition,
    activity::Call,
    tools::ToolRequest,
    workflow::protocol::{Child, Command, Job, Message, Request, SearchValue},
};

pub(crate) fn error(failure: types::Failure) -> Error {
    let mut error = Error::new(failure.kind, failure.message);
    if failure.non_retryable {
        error = error.non_retryable();
    }
    match failure.details {
        // The host has parsed it; if it is no JSON after all, it is worth showing as it is.
        Some(details) => error.with_details(serde_json::from_str(&details).unwrap_or(Value::String(details))),
        None => error,
    }
}

pub(crate) fn failure(error: Error) -> types::Failure {
    let (kind, message, non_retryable, details) = error.into_parts();
    types::Failure {
        kind: kind.into_owned(),
        message,
        non_retryable,
        details: details.map(|details| details.to_string()),
    }
}

pub(crate) fn task_event(event: TaskEvent) -> types::TaskEvent {
    types::TaskEvent {
        id: event.id,
        task_type: event.task_type,
        phase: match event.phase {
            TaskPhase::Started => types::TaskPhase::Started,
            TaskPhase::InProgress => types::TaskPhase::InProgress,
            TaskPhase::Completed => types::TaskPhase::Completed,
            TaskPhase::Failed => types::TaskPhase::Failed,
        },
        payload: event.payload.to_string(),
    }
}

pub(crate) fn call(call: activities::Call) -> Call {
    let activities::Call {
        activity,
        input,
        execution_id,
        workflow,
        idempotency_key,
        attempt,
        heartbeat_details,
    } = call;
    Call { activity, input, execution_id, workflow, idempotency_key, attempt, heartbeat_details }
}

pub(crate) fn job(job: workflows::Job) -> Job {
    let resolved = |resolution: workflows::Resolution| -> (u32, Result<String>) {
        (resolution.seq, resolution.outcome.map_err(error))
    };
    match job {
        workflows::Job::Started => Job::Started,
        workflows::Job::TimerFired(seq) => Job::Resolved(seq, Ok(String::new())),
        workflows::Job::ActivityResolved(resolution)
        | workflows::Job::ToolResolved(resolution)
        | workflows::Job::AuthResolved(resolution)
        | workflows::Job::ChildResolved(resolution)
        | workflows::Job::ExternalResolved(resolution) => {
            let (seq, outcome) = resolved(resolution);
            Job::Resolved(seq, outcome)
        }
        workflows::Job::CancelRequested(reason) => Job::CancelRequested(reason),
        workflows::Job::ChildStarted(start) => Job::ChildStarted(start.seq, start.outcome.map_err(error)),
        workflows::Job::Signal(sent) => Job::Signal(message(sent)),
        workflows::Job::Update(request) => Job::Update(request.id, message(request.message)),
    }
}

fn message(sent: workflows::Message) -> Message {
    let workflows::Message { name, input, sender } = sent;
    Message { name, input, sender }
}

pub(crate) fn command(command: Command) -> workflows::Command {
    match command {
        Command::Begin(seq, Request::Activity { name, input, options }) => {
            workflows::Command::ScheduleActivity(workflows::ScheduleActivity {
                seq,
                activity: name.to_owned(),
                input,
                options: activity_options(options),
            })
        }
        Command::Begin(seq, Request::Timer { duration_ms }) => {
            workflows::Command::StartTimer(workflows::StartTimer { seq, duration_ms })
        }
        Command::Begin(seq, Request::Tool(ToolRequest { slot, tool, arguments, options })) => {
            let (slot, options) = (slot.to_owned(), call_options(options));
            workflows::Command::CallTool(workflows::CallTool { seq, slot, tool, arguments, options })
        }
        Command::Begin(seq, Request::ListTools(slot)) => {
            workflows::Command::ListTools(workflows::SlotOperation { seq, slot: slot.to_owned() })
        }
        Command::Begin(seq, Request::AwaitAuth(slot)) => {
            workflows::Command::AwaitAuth(workflows::SlotOperation { seq, slot: slot.to_owned() })
        }
        Command::Begin(seq, Request::Child(child)) => {
            workflows::Command::StartChild(start_child(seq, *child))
        }
        Command::Begin(seq, Request::Signal { execution_id, name, input }) => {
            workflows::Command::SignalExternal(workflows::SignalExternal { seq, execution_id, name, input })
        }
        Command::Begin(seq, Request::CancelExecution { execution_id, reason }) => {
            workflows::Command::CancelExternal(workflows::CancelExternal { seq, execution_id, reason })
        }
        Command::UpdateAccepted(id) => workflows::Command::UpdateAccepted(id),
        Command::UpdateRejected(id, error) => {
            workflows::Command::UpdateRejected(workflows::UpdateRefusal { id, failure: failure(error) })
        }
        Command::UpdateCompleted(id, outcome) => {
            let outcome = outcome.map_err(failure);
            workflows::Command::UpdateCompleted(workflows::UpdateAnswer { id, outcome })
        }
        Command::SearchKeys(keys) => {
            workflows::Command::UpsertSearchKeys(keys.into_iter().map(search_key).collect())
        }
        Command::Patched(id) => workflows::Command::Patched(id),
        Command::ContinueAsNew(input) => {
            workflows::Command::ContinueAsNew(workflows::NextRun { workflow: None, input })
        }
        Command::Cancel(seq) => workflows::Command::Cancel(seq),
        Command::Emit(event) => workflows::Command::EmitEvent(task_event(event)),
        Command::Complete(output) => workflows::Command::Complete(output),
        Command::Fail(error) => workflows::Command::Fail(failure(error)),
        Command::Cancelled => workflows::Command::Cancelled,
    }
}

fn start_child(seq: u32, child: Child) -> workflows::StartChild {
    workflows::StartChild {
        seq,
        workflow: child.workflow,
        execution_id: child.execution_id,
        input: child.input,
        close: match child.close {
            ParentClose::Terminate => workflows::ParentClose::Terminate,
            ParentClose::RequestCancel => workflows::ParentClose::RequestCancel,
            ParentClose::Abandon => workflows::ParentClose::Abandon,
        },
        execution_timeout_ms: child.execution_timeout.map(milliseconds),
        retry: child.retry.map(retry_policy),
        await_start: child.await_start,
    }
}

fn search_key((name, value): (String, SearchValue)) -> workflows::SearchKey {
    let value = match value {
        SearchValue::Text(text) => workflows::SearchValue::Text(text),
        SearchValue::Removed => workflows::SearchValue::Removed,
    };
    workflows::SearchKey { name, value }
}

pub(crate) fn plugin_definition(plugin: PluginDefinition) -> definitions::PluginDefinition {
    definitions::PluginDefinition {
        workflows: plugin.workflows.into_iter().map(workflow_definition).collect(),
        activities: plugin.activities.into_iter().map(activity_definition).collect(),
    }
}

fn workflow_definition(workflow: WorkflowDefinition) -> definitions::WorkflowDefinition {
    definitions::WorkflowDefinition {
        name: workflow.name.to_owned(),
        display_name: workflow.display_name.map(str::to_owned),
        description: workflow.description.map(str::to_owned),
        input_schema: workflow.input_schema,
        output_schema: workflow.output_schema,
        on_behalf_of: workflow.on_behalf_of,
        execution_timeout_ms: workflow.execution_timeout.map(milliseconds),
        slots: workflow.slots.into_iter().map(slot).collect(),
        signals: workflow.signals.into_iter().map(handler).collect(),
        queries: workflow.queries.into_iter().map(handler).collect(),
        updates: workflow.updates.into_iter().map(handler).collect(),
        retry: workflow.retry.map(retry_policy),
        search_keys: workflow.search_keys.into_iter().map(str::to_owned).collect(),
    }
}

fn handler(handler: HandlerDefinition) -> definitions::Handler {
    definitions::Handler {
        name: handler.name.to_owned(),
        description: handler.description.map(str::to_owned),
        input_schema: handler.input_schema,
        output_schema: handler.output_schema,
    }
}

fn activity_definition(activity: ActivityDefinition) -> definitions::ActivityDefinition {
    definitions::ActivityDefinition {
        name: activity.name.to_owned(),
        description: activity.description.map(str::to_owned),
        input_schema: activity.input_schema,
        output_schema: activity.output_schema,
        options: activity_options(activity.options),
        slots: activity.slots.into_iter().map(slot).collect(),
    }
}

fn slot(slot: SlotDefinition) -> definitions::Slot {
    definitions::Slot {
        connector: slot.connector.to_owned(),
        auto_auth: slot.auto_auth,
        credentials_name: slot.credentials_name.map(str::to_owned),
    }
}

fn activity_options(options: ActivityOptions) -> types::ActivityOptions {
    types::ActivityOptions {
        schedule_to_start_ms: options.schedule_to_start.map(milliseconds),
        start_to_close_ms: options.start_to_close.map(milliseconds),
        schedule_to_close_ms: options.schedule_to_close.map(milliseconds),
        heartbeat_ms: options.heartbeat.map(milliseconds),
        retry: options.retry.map(retry_policy),
    }
}

pub(crate) fn call_options(options: CallOptions) -> types::CallOptions {
    types::CallOptions {
        timeout_ms: options.timeout.map(milliseconds),
        retries: options.retries,
        credentials_name: options.credentials_name,
        use_mock: options.use_mock,
    }
}

fn retry_policy(policy: RetryPolicy) -> types::RetryPolicy {
    types::RetryPolicy {
        initial_interval_ms: milliseconds(policy.initial),
        backoff_coefficient: policy.backoff,
        maximum_interval_ms: milliseconds(policy.max),
        maximum_attempts: policy.attempts,
        non_retryable_kinds: policy.non_retryable,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
