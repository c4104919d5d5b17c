//! Downloaded histories, repeated against a plugin.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

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
    /// As it stands there: a large number survives only as its text.
    record: Box<RawValue>,
}

/// The records that matter here; of the others, nothing is read.
#[derive(Deserialize, Default)]
struct Record {
    #[serde(rename = "Started")]
    started: Option<Started>,
    #[serde(rename = "Activation")]
    activation: Option<Activation>,
    #[serde(rename = "Copied")]
    copied: Option<Copied>,
}

#[derive(Deserialize)]
struct Copied {
    at: Option<u64>,
    record: Box<RawValue>,
}

#[derive(Deserialize)]
struct Started {
    run_id: String,
    workflow: String,
    input: Box<RawValue>,
    seed: u64,
    #[serde(default = "first")]
    attempt: u32,
    parent: Option<Parent>,
}

fn first() -> u32 {
    1
}

#[derive(Deserialize)]
struct Parent {
    id: String,
}

#[derive(Deserialize)]
struct Activation {
    jobs: Vec<Box<RawValue>>,
    commands: Vec<Value>,
}

/// What stands in a job, whatever its kind.
#[derive(Deserialize)]
struct JobBody {
    #[serde(default)]
    seq: u32,
    /// A signal may have none.
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    reason: String,
    outcome: Option<Outcome>,
    message: Option<Sent>,
}

#[derive(Deserialize)]
struct Sent {
    name: String,
    input: Box<RawValue>,
    sender: String,
}

#[derive(Deserialize)]
enum Outcome {
    Ok(Box<RawValue>),
    Err(Failure),
}

#[derive(Deserialize)]
struct Failure {
    kind: String,
    message: String,
    #[serde(default)]
    non_retryable: bool,
    #[serde(default)]
    details: Value,
}

fn unknown(what: &str, error: &serde_json::Error) -> Error {
    Error::invalid_input(format!("the history holds a {what} that this SDK does not know: {error}"))
}

fn record(text: &RawValue) -> Result<Record> {
    // Some are only a word.
    if !text.get().starts_with('{') {
        return Ok(Record::default());
    }
    serde_json::from_str(text.get()).map_err(|error| unknown("record", &error))
}

/// From here on the host suggests to continue as new.
const SUGGEST: (u64, u64) = (10_000, 10_000_000);

/// The first job of a run.
const STARTED: &str = "\"Started\"";

pub(super) fn replay<P: Plugin>(text: &str) -> Result<()> {
    let history: History = serde_json::from_str(text)
        .map_err(|error| Error::invalid_input(format!("this is no history of an execution: {error}")))?;
    let mut instance = None;
    let mut begun = false;
    for Event { event_id, history_bytes, at_ms, record: text } in history.events {
        let mut at_ms = at_ms;
        let mut record = record(&text)?;
        if let Some(copied) = record.copied {
            at_ms = copied.at.unwrap_or(at_ms);
            record = self::record(&copied.record)?;
        }
        if let Some(started) = record.started {
            let init = Init {
                workflow: started.workflow,
                execution_id: history.execution_id.clone(),
                run_id: started.run_id,
                input: started.input.get().to_owned(),
                seed: started.seed,
                started_at_ms: at_ms,
                parent: started.parent.map(|parent| parent.id),
                attempt: started.attempt,
            };
            instance = Some(Instance::new(init, P::start));
        }
        let Some(Activation { jobs, commands: recorded }) = record.activation else { continue };
        begun |= jobs.iter().any(|job| job.get() == STARTED);
        let (Some(instance), true) = (&mut instance, begun) else { continue };
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
        let jobs: Vec<Job> = jobs.iter().map(|text| job(text)).collect::<Result<_>>()?;
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

fn job(text: &RawValue) -> Result<Job> {
    if text.get() == STARTED {
        return Ok(Job::Started);
    }
    let jobs: BTreeMap<String, JobBody> =
        serde_json::from_str(text.get()).map_err(|error| unknown("job", &error))?;
    let Some((kind, JobBody { seq, id, reason, outcome, message })) = jobs.into_iter().next() else {
        return Err(Error::invalid_input("the history holds a job without a name"));
    };
    let missing = || Error::invalid_input(format!("a job {kind} of the history lacks a part"));
    let outcome = || {
        Ok::<_, Error>(match outcome.ok_or_else(missing)? {
            Outcome::Ok(value) => Ok(value.get().to_owned()),
            Outcome::Err(failure) => Err(failed(failure)),
        })
    };
    let message = || {
        let Sent { name, input, sender } = message.ok_or_else(missing)?;
        Ok::<_, Error>(Message { name, input: input.get().to_owned(), sender })
    };
    Ok(match kind.as_str() {
        "TimerFired" => Job::Resolved(seq, Ok(String::new())),
        "ActivityResolved" | "ToolResolved" | "AuthResolved" | "ChildResolved" | "ExternalResolved" => {
            Job::Resolved(seq, outcome()?)
        }
        "ChildStarted" => Job::ChildStarted(seq, outcome()?.and_then(|id| Ok(serde_json::from_str(&id)?))),
        "CancelRequested" => Job::CancelRequested(reason),
        "Signal" => Job::Signal(message()?),
        "Update" => Job::Update(id.unwrap_or_default(), message()?),
        _ => {
            return Err(Error::invalid_input(format!(
                "the history holds a job that this SDK does not know: {kind}"
            )));
        }
    })
}

fn failed(failure: Failure) -> Error {
    let Failure { kind, message, non_retryable, details } = failure;
    let mut error = Error::new(kind, message);
    if non_retryable {
        error = error.non_retryable();
    }
    match details {
        Value::Null => error,
        details => error.with_details(details),
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
