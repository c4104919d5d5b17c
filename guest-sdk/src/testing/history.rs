//! Downloaded histories, repeated against a plugin.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    Error, ParentClose, Result, RetryPolicy, TaskEvent, TaskPhase,
    plugin::Plugin,
    tools::ToolRequest,
    workflow::{
        Instance,
        protocol::{Command, Init, Job, Message, Request, SearchValue, Turn},
    },
};

#[derive(Deserialize)]
struct History {
    execution_id: String,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    event_id: u64,
    /// What the history held before it.
    #[serde(default)]
    history_bytes: u64,
    at_ms: u64,
    record: Value,
}

/// From here on the host suggests to continue as new.
const SUGGEST: (u64, u64) = (10_000, 10_000_000);

pub(super) fn replay<P: Plugin>(text: &str) -> Result<()> {
    let history: History = serde_json::from_str(text)
        .map_err(|error| Error::invalid_input(format!("this is no history of an execution: {error}")))?;
    let mut instance = None;
    let mut begun = false;
    for Event { event_id, history_bytes, at_ms, record } in history.events {
        let (at_ms, record) = match record.get("Copied") {
            Some(copied) => (copied["at"].as_u64().unwrap_or(at_ms), copied["record"].clone()),
            None => (at_ms, record),
        };
        if let Some(started) = record.get("Started") {
            let text = |key: &str| started[key].as_str().unwrap_or_default().to_owned();
            let init = Init {
                workflow: text("workflow"),
                execution_id: history.execution_id.clone(),
                run_id: text("run_id"),
                input: started["input"].to_string(),
                seed: started["seed"].as_u64().unwrap_or_default(),
                started_at_ms: at_ms,
                parent: started["parent"]["id"].as_str().map(str::to_owned),
                attempt: started["attempt"].as_u64().unwrap_or(1) as u32,
            };
            instance = Some(Instance::new(init, P::start));
        }
        let Some(activation) = record.get("Activation") else { continue };
        let none = Vec::new();
        let jobs = activation["jobs"].as_array().unwrap_or(&none);
        begun |= jobs.iter().any(|job| job == "Started");
        let (Some(instance), true) = (&mut instance, begun) else { continue };
        let recorded = activation["commands"].as_array().unwrap_or(&none);
        let turn = Turn {
            now_ms: at_ms,
            replaying: true,
            patches: recorded
                .iter()
                .filter_map(|command| command["Patched"]["id"].as_str().map(str::to_owned))
                .collect(),
            history_events: event_id - 1,
            continue_as_new_suggested: event_id > SUGGEST.0 || history_bytes >= SUGGEST.1,
        };
        let count = jobs.len() as u64;
        let jobs: Vec<Job> = jobs.iter().map(job).collect::<Result<_>>()?;
        let produced: Vec<Value> = instance.activate(turn, jobs).into_iter().map(command).collect();
        let length = recorded.len().max(produced.len());
        if let Some(place) = (0..length).find(|&i| recorded.get(i) != produced.get(i)) {
            let show =
                |command: Option<&Value>| command.map_or_else(|| "nothing".to_owned(), Value::to_string);
            return Err(Error::new(
                "Nondeterminism",
                format!(
                    "event {} of the history is {}, but the code now wants {}",
                    event_id + count + place as u64,
                    show(recorded.get(place)),
                    show(produced.get(place))
                ),
            ));
        }
    }
    match instance {
        Some(_) => Ok(()),
        None => Err(Error::invalid_input("this is no history of an execution: it has no start")),
    }
}

fn job(job: &Value) -> Result<Job> {
    let unknown =
        || Error::invalid_input(format!("the history holds a job that this SDK does not know: {job}"));
    if job == "Started" {
        return Ok(Job::Started);
    }
    let (kind, body) = job.as_object().and_then(|map| map.iter().next()).ok_or_else(unknown)?;
    let seq = body["seq"].as_u64().unwrap_or_default() as u32;
    Ok(match kind.as_str() {
        "TimerFired" => Job::Resolved(seq, Ok(String::new())),
        "ActivityResolved" | "ToolResolved" | "AuthResolved" | "ChildResolved" | "ExternalResolved" => {
            Job::Resolved(seq, outcome(&body["outcome"]).map(|value| value.to_string()))
        }
        "ChildStarted" => Job::ChildStarted(
            seq,
            outcome(&body["outcome"]).map(|id| id.as_str().unwrap_or_default().to_owned()),
        ),
        "CancelRequested" => Job::CancelRequested(body["reason"].as_str().unwrap_or_default().to_owned()),
        "Signal" => Job::Signal(message(&body["message"])),
        "Update" => {
            Job::Update(body["id"].as_str().unwrap_or_default().to_owned(), message(&body["message"]))
        }
        _ => return Err(unknown()),
    })
}

fn message(message: &Value) -> Message {
    let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
    Message { name: text("name"), input: message["input"].to_string(), sender: text("sender") }
}

fn outcome(outcome: &Value) -> Result<Value> {
    match outcome.get("Err") {
        None => Ok(outcome["Ok"].clone()),
        Some(failure) => {
            let text = |key: &str| failure[key].as_str().unwrap_or_default().to_owned();
            let mut error = Error::new(text("kind"), text("message"));
            if failure["non_retryable"] == true {
                error = error.non_retryable();
            }
            Err(match &failure["details"] {
                Value::Null => error,
                details => error.with_details(details.clone()),
            })
        }
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn failure(error: &Error) -> Value {
    json!({
        "kind": error.kind(), "message": error.message(), "non_retryable": error.is_non_retryable(),
        "details": error.details(),
    })
}

fn result(outcome: &Result<String>) -> Value {
    match outcome {
        Ok(text) => json!({ "Ok": parsed(text) }),
        Err(error) => json!({ "Err": failure(error) }),
    }
}

fn duration(milliseconds: u64) -> Value {
    json!({ "secs": milliseconds / 1000, "nanos": milliseconds % 1000 * 1_000_000 })
}

fn limit(limit: Option<std::time::Duration>) -> Value {
    limit.map_or(Value::Null, |limit| duration(limit.as_millis() as u64))
}

fn policy(retry: &Option<RetryPolicy>) -> Value {
    let Some(retry) = retry else { return Value::Null };
    json!({
        "initial_interval": limit(Some(retry.initial)), "backoff_coefficient": retry.backoff,
        "maximum_interval": limit(Some(retry.max)), "maximum_attempts": retry.attempts,
        "non_retryable_kinds": retry.non_retryable,
    })
}

fn event(event: TaskEvent) -> Value {
    let phase = match event.phase {
        TaskPhase::Started => "started",
        TaskPhase::InProgress => "in_progress",
        TaskPhase::Completed => "completed",
        TaskPhase::Failed => "failed",
    };
    json!({ "id": event.id, "task_type": event.task_type, "phase": phase, "payload": event.payload })
}

/// A command as histories hold it.
fn command(command: Command) -> Value {
    let tagged = |kind: &str, body: Value| Value::Object(Map::from_iter([(kind.to_owned(), body)]));
    match command {
        Command::Begin(seq, request) => {
            let (kind, mut body) = operation(request);
            body["seq"] = seq.into();
            tagged(kind, body)
        }
        Command::Cancel(seq) => tagged("Cancel", json!({ "seq": seq })),
        Command::Emit(it) => tagged("EmitEvent", json!({ "event": event(it) })),
        Command::Complete(output) => tagged("Complete", json!({ "result": parsed(&output) })),
        Command::Fail(error) => tagged("Fail", json!({ "failure": failure(&error) })),
        Command::Cancelled => "Cancelled".into(),
        Command::UpdateAccepted(id) => tagged("UpdateAccepted", json!({ "id": id })),
        Command::UpdateRejected(id, error) => {
            tagged("UpdateRejected", json!({ "id": id, "failure": failure(&error) }))
        }
        Command::UpdateCompleted(id, outcome) => {
            tagged("UpdateCompleted", json!({ "id": id, "outcome": result(&outcome) }))
        }
        Command::SearchKeys(keys) => {
            let keys: Vec<Value> = keys
                .into_iter()
                .map(|(name, value)| match value {
                    SearchValue::Text(text) => json!([name, { "Text": text }]),
                    SearchValue::Removed => json!([name, "Removed"]),
                })
                .collect();
            tagged("UpsertSearchKeys", json!({ "keys": keys }))
        }
        Command::Patched(id) => tagged("Patched", json!({ "id": id })),
        Command::ContinueAsNew(input) => {
            tagged("ContinueAsNew", json!({ "workflow": null, "input": parsed(&input) }))
        }
    }
}

fn operation(request: Request) -> (&'static str, Value) {
    match request {
        Request::Activity { name, input, options } => (
            "ScheduleActivity",
            json!({
                "activity": name, "input": parsed(&input),
                "options": {
                    "schedule_to_start": limit(options.schedule_to_start),
                    "start_to_close": limit(options.start_to_close),
                    "schedule_to_close": limit(options.schedule_to_close),
                    "heartbeat": limit(options.heartbeat), "retry": policy(&options.retry),
                },
            }),
        ),
        Request::Timer { duration_ms } => ("StartTimer", json!({ "duration": duration(duration_ms) })),
        Request::Tool(ToolRequest { slot, tool, arguments, options }) => (
            "CallTool",
            json!({
                "slot": slot, "tool": tool, "arguments": parsed(&arguments),
                "options": {
                    "timeout": limit(options.timeout), "retries": options.retries,
                    "credentials_name": options.credentials_name, "use_mock": options.use_mock,
                },
            }),
        ),
        Request::ListTools(slot) => ("ListTools", json!({ "slot": slot })),
        Request::AwaitAuth(slot) => ("AwaitAuth", json!({ "slot": slot })),
        Request::Child(child) => {
            let close = match child.close {
                ParentClose::Terminate => "terminate",
                ParentClose::RequestCancel => "request_cancel",
                ParentClose::Abandon => "abandon",
            };
            (
                "StartChild",
                json!({ "child": {
                    "workflow": child.workflow, "execution_id": child.execution_id,
                    "input": parsed(&child.input), "close": close,
                    "execution_timeout": limit(child.execution_timeout), "retry": policy(&child.retry),
                    "await_start": child.await_start,
                } }),
            )
        }
        Request::Signal { execution_id, name, input } => {
            ("SignalExternal", json!({ "execution_id": execution_id, "name": name, "input": parsed(&input) }))
        }
        Request::CancelExecution { execution_id, reason } => {
            ("CancelExternal", json!({ "execution_id": execution_id, "reason": reason }))
        }
    }
}
