//! Histories as the client's events (contract §5).

use std::collections::HashMap;

use airlock_engine::{
    Failure, Json as Text,
    history::{Command, Continuation, End, Job, Outcome, Record, Seq, StoredRecord, TaskEvent, TaskPhase},
    store::ExecutionRow,
};
use serde_json::{Value, json};

use crate::{part::Part, wire};

/// Turns the records of one execution, in order and from the first on, into events.
pub(crate) struct Events {
    row: ExecutionRow,
    /// What the numbers of operations stand for.
    names: HashMap<Seq, String>,
    /// What a workflow that continues as new gives to its next run.
    next: (Option<String>, Text),
    /// The end of a run that is followed by another is no end for clients.
    withheld: Vec<Event>,
}

/// An event with its number in the order of the whole store.
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) kind: &'static str,
    pub(crate) attributes: Part,
    at: u64,
}

/// Activities of the platform itself have names that begin like this.
const CALL_TOOL: &str = "__internal__connector_tool_call";
const LIST_TOOLS: &str = "__internal__list_tools";
const EXECUTE_CHILD: &str = "__internal__execute_workflow";

impl Events {
    pub(crate) fn new(row: ExecutionRow) -> Self {
        Self { row, names: HashMap::new(), next: (None, Text::null()), withheld: Vec::new() }
    }

    /// The events of the next record.
    pub(crate) fn of(&mut self, stored: &StoredRecord) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.withheld);
        if matches!(&stored.record, Record::Continued { reason: Continuation::Retry, .. }) {
            events.clear();
        }
        let withheld = &mut self.withheld;
        let mut put = |offset: usize, found: Option<(&'static str, Part)>| {
            if let Some((kind, attributes)) = found {
                let number = stored.first_event + offset as u64;
                let place = if kind == "WORKFLOW_EXECUTION_FAILED" { &mut *withheld } else { &mut events };
                place.push(Event { number, kind, attributes, at: stored.at });
            }
        };
        match &stored.record {
            Record::Started(started) => {
                let attributes = Part::with(
                    json!({
                        "task_id": self.row.run_id.to_string(), "workflow_name": started.workflow,
                        "attempt": started.attempt,
                    }),
                    [("input", payload(&started.input))],
                );
                put(0, Some(("WORKFLOW_EXECUTION_STARTED", attributes)));
            }
            Record::Activation { jobs, commands } => {
                for (offset, job) in jobs.iter().enumerate() {
                    put(offset, job_event(job, &self.names));
                }
                for (offset, command) in commands.iter().enumerate() {
                    if let Command::ContinueAsNew { workflow, input } = command {
                        self.next = (workflow.clone(), input.clone());
                    }
                    let found = command_event(command, &mut self.names, &self.row);
                    put(jobs.len() + offset, found);
                }
            }
            Record::AttemptFailed { seq, attempt, failure, .. } => {
                let attributes = json!({
                    "task_id": task_id(*seq), "activity_name": self.names.get(seq), "attempt": attempt,
                    "failure": failure_value(failure),
                });
                put(0, Some(("ACTIVITY_TASK_RETRYING", attributes.into())));
            }
            Record::Emitted { event } => put(0, Some(task_event(event))),
            Record::Ended { end: End::Failed(failure) } => {
                let attributes = json!({
                    "task_id": self.row.run_id.to_string(), "failure": failure_value(failure), "attempt": 1,
                });
                put(0, Some(("WORKFLOW_EXECUTION_FAILED", attributes.into())));
            }
            Record::Blocked { difference } => {
                let attributes = json!({
                    "task_id": self.row.run_id.to_string(), "failure": { "message": difference },
                });
                put(0, Some(("WORKFLOW_TASK_FAILED", attributes.into())));
            }
            Record::Continued { run_id, reason: Continuation::AsNew } => {
                let attributes = Part::with(
                    json!({
                        "task_id": self.row.run_id.to_string(), "new_execution_run_id": run_id.to_string(),
                        "workflow_name": self.next.0.as_deref().unwrap_or(&self.row.workflow),
                    }),
                    [("input", payload(&self.next.1))],
                );
                put(0, Some(("WORKFLOW_EXECUTION_CONTINUED_AS_NEW", attributes)));
            }
            Record::Received { jobs } => {
                for (offset, job) in jobs.iter().enumerate() {
                    put(offset, job_event(job, &self.names));
                }
            }
            Record::Continued { run_id, reason: Continuation::Retry | Continuation::Reset } => {
                // The execution goes on: clients are not told that it has failed.
                let message = format!("the run is followed by another one, {run_id}");
                let attributes =
                    json!({ "task_id": self.row.run_id.to_string(), "failure": { "message": message } });
                put(0, Some(("WORKFLOW_TASK_FAILED", attributes.into())));
            }
            // There is no event for executions that were terminated or timed out; the stream ends.
            Record::Ended { .. }
            | Record::Bound { .. }
            | Record::Unblocked
            | Record::Heartbeat { .. }
            | Record::Paused { .. }
            | Record::Resumed
            | Record::Upgraded { .. }
            | Record::Copied { .. } => {}
        }
        events
    }

    /// What was held back because another run might have followed: none did.
    pub(crate) fn end(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.withheld)
    }

    /// What clients know as the event.
    pub(crate) fn body(&self, event: &Event) -> Part {
        let row = &self.row;
        Part::with(
            json!({
                "event_id": format!("evt-{}", event.number),
                "event_timestamp": event.at.saturating_mul(1_000_000),
                "root_workflow_exec_id": row.root,
                "parent_workflow_exec_id": row.parent.as_ref().map(|parent| &parent.id),
                "schedule_id": row.schedule,
                "workflow_exec_id": row.id,
                "workflow_run_id": row.run_id.to_string(),
                "workflow_name": row.workflow,
                "event_type": event.kind,
            }),
            [("attributes", event.attributes.clone())],
        )
    }

    /// The name of the workflow whose events they are.
    pub(crate) fn workflow(&self) -> &str {
        &self.row.workflow
    }

    /// The frame of the event stream around an event.
    pub(crate) fn frame(&self, event: &Event) -> Part {
        Part::with(
            json!({
                "stream": "airlock",
                "timestamp": wire::time(event.at),
                "broker_sequence": event.number,
                "metadata": {},
                "workflow_context": {
                    "namespace": wire::WORKSPACE,
                    "workflow_name": self.row.workflow,
                    "workflow_exec_id": self.row.id,
                    "parent_workflow_exec_id": self.row.parent.as_ref().map(|parent| &parent.id),
                    "root_workflow_exec_id": self.row.root,
                },
            }),
            [("data", self.body(event))],
        )
    }
}

fn payload(value: &Text) -> Part {
    encoded(value.into())
}

fn encoded(value: Part) -> Part {
    Part::object([("type", json!("json").into()), ("value", value)])
}

fn failure_value(failure: &Failure) -> Value {
    json!({ "message": failure.message, "kind": failure.kind })
}

fn task_id(seq: Seq) -> String {
    format!("operation-{seq}")
}

fn resolved(seq: Seq, outcome: &Outcome, names: &HashMap<Seq, String>) -> (&'static str, Part) {
    let (task_id, name) = (task_id(seq), names.get(&seq));
    match outcome {
        Ok(result) => (
            "ACTIVITY_TASK_COMPLETED",
            Part::with(json!({ "task_id": task_id, "activity_name": name }), [("result", payload(result))]),
        ),
        Err(failure) => (
            "ACTIVITY_TASK_FAILED",
            json!({ "task_id": task_id, "activity_name": name, "attempt": 1, "failure": failure_value(failure) })
                .into(),
        ),
    }
}

fn job_event(job: &Job, names: &HashMap<Seq, String>) -> Option<(&'static str, Part)> {
    match job {
        Job::ActivityResolved { seq, outcome }
        | Job::ToolResolved { seq, outcome }
        | Job::ChildResolved { seq, outcome } => Some(resolved(*seq, outcome, names)),
        Job::ChildStarted { seq, outcome: Err(failure) } => {
            Some(resolved(*seq, &Err(failure.clone()), names))
        }
        Job::Started
        | Job::TimerFired { .. }
        | Job::AuthResolved { .. }
        | Job::CancelRequested { .. }
        | Job::ChildStarted { .. }
        | Job::ExternalResolved { .. }
        | Job::Signal { .. }
        | Job::Update { .. } => None,
    }
}

fn command_event(
    command: &Command,
    names: &mut HashMap<Seq, String>,
    row: &ExecutionRow,
) -> Option<(&'static str, Part)> {
    let mut started = |seq: Seq, name: &str, input: Part| {
        names.insert(seq, name.to_owned());
        let about = json!({ "task_id": task_id(seq), "activity_name": name });
        Some(("ACTIVITY_TASK_STARTED", Part::with(about, [("input", encoded(input))])))
    };
    let run = row.run_id.to_string();
    match command {
        Command::ScheduleActivity { seq, activity, input, .. } => started(*seq, activity, input.into()),
        Command::CallTool { seq, slot, tool, arguments, .. } => {
            let about = json!({ "connector_name": slot, "tool_name": tool });
            started(*seq, CALL_TOOL, Part::with(about, [("arguments", arguments.into())]))
        }
        Command::ListTools { seq, slot } => {
            started(*seq, LIST_TOOLS, json!({ "connector_name": slot }).into())
        }
        Command::EmitEvent { event } => Some(task_event(event)),
        Command::Complete { result } => Some((
            "WORKFLOW_EXECUTION_COMPLETED",
            Part::with(json!({ "task_id": run, "attempt": 1 }), [("result", payload(result))]),
        )),
        Command::Fail { failure } => Some((
            "WORKFLOW_EXECUTION_FAILED",
            json!({ "task_id": run, "failure": failure_value(failure), "attempt": 1 }).into(),
        )),
        Command::Cancelled => {
            let attributes = json!({ "task_id": run, "reason": null, "attempt": 1 });
            Some(("WORKFLOW_EXECUTION_CANCELED", attributes.into()))
        }
        Command::StartChild { seq, child } => started(
            *seq,
            EXECUTE_CHILD,
            Part::with(
                json!({ "workflow_name": child.workflow, "execution_id": child.execution_id }),
                [("input", (&child.input).into())],
            ),
        ),
        Command::StartTimer { .. }
        | Command::AwaitAuth { .. }
        | Command::Cancel { .. }
        | Command::SignalExternal { .. }
        | Command::CancelExternal { .. }
        | Command::UpdateAccepted { .. }
        | Command::UpdateRejected { .. }
        | Command::UpdateCompleted { .. }
        | Command::UpsertSearchKeys { .. }
        | Command::Patched { .. }
        // The record after it names the next run.
        | Command::ContinueAsNew { .. } => None,
    }
}

fn task_event(event: &TaskEvent) -> (&'static str, Part) {
    let about = json!({ "custom_task_id": event.id, "custom_task_type": event.task_type });
    let kind = match event.phase {
        TaskPhase::Started => "CUSTOM_TASK_STARTED",
        TaskPhase::InProgress => "CUSTOM_TASK_IN_PROGRESS",
        TaskPhase::Completed => "CUSTOM_TASK_COMPLETED",
        TaskPhase::Failed => {
            // A text is the message itself, anything else is shown as it is.
            let message = event.payload.to::<String>().unwrap_or_else(|_| event.payload.as_str().to_owned());
            let failure = json!({ "message": message });
            return ("CUSTOM_TASK_FAILED", Part::with(about, [("failure", failure.into())]));
        }
    };
    (kind, Part::with(about, [("payload", payload(&event.payload))]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use airlock_engine::{
        ActivityOptions, Digest, ExecutionKey, OrganizationId, Principal, RunId, UserId, WorkspaceId,
        history::Started,
        store::Status,
        tools::{CallOptions, Mocks},
    };
    use uuid::Uuid;

    use super::*;

    fn row() -> ExecutionRow {
        ExecutionRow {
            key: ExecutionKey(1),
            id: "order-7".parse().expect("a valid id"),
            run_id: RunId(Uuid::from_u128(7)),
            workflow: "order".into(),
            digest: Digest([0; 32]),
            principal: Principal {
                user: UserId::new("ada"),
                workspace: WorkspaceId::new("default"),
                organization: OrganizationId::new("default"),
            },
            status: Status::Running,
            started_at: 1_000,
            ended_at: None,
            parent: None,
            root: "order-7".parse().expect("a valid id"),
            schedule: None,
        }
    }

    fn tree(part: &Part) -> Value {
        serde_json::to_value(part).expect("JSON")
    }

    fn history() -> Vec<Record> {
        let schedule = Command::ScheduleActivity {
            seq: 1,
            activity: "charge".into(),
            input: Text::from(json!({ "cents": 5 })),
            options: ActivityOptions::default(),
        };
        let (slot, tool, arguments) = ("github_app".into(), "issue_write".into(), Text::from(json!({})));
        let call = Command::CallTool { seq: 2, slot, tool, arguments, options: CallOptions::default() };
        let progress = TaskEvent {
            id: "t".into(),
            task_type: "progress".into(),
            phase: TaskPhase::InProgress,
            payload: Text::from(json!({ "done": 1 })),
        };
        let failed =
            TaskEvent { phase: TaskPhase::Failed, payload: Text::from(json!("no luck")), ..progress.clone() };
        vec![
            Record::Started(Box::new(Started {
                run_id: RunId(Uuid::from_u128(7)),
                workflow: "order".into(),
                digest: Digest([0; 32]),
                input: Text::from(json!({ "id": 7 })),
                principal: row().principal,
                wishes: vec![],
                mocks: Mocks::None,
                seed: 1,
                execution_timeout: Duration::from_secs(60),
                first_started_at: 1_000,
                not_before: 1_000,
                retry: None,
                attempt: 1,
                parent: None,
                continued_from: None,
                search_keys: vec![],
            })),
            Record::Bound { bindings: vec![] },
            Record::Activation { jobs: vec![Job::Started], commands: vec![schedule, call] },
            Record::AttemptFailed {
                seq: 1,
                attempt: 1,
                failure: Failure::retryable("Declined", "try again"),
                retry_at: 9,
                details: None,
                waited: Duration::ZERO,
            },
            Record::Emitted { event: progress },
            Record::Emitted { event: failed },
            Record::Activation {
                jobs: vec![
                    Job::ActivityResolved { seq: 1, outcome: Ok(Text::from(json!("paid"))) },
                    Job::ToolResolved {
                        seq: 2,
                        outcome: Err(Failure::permanent("ConnectorError", "refused")),
                    },
                ],
                commands: vec![Command::Complete { result: Text::null() }],
            },
        ]
    }

    #[test]
    fn a_history_becomes_the_clients_events() {
        let mut events = Events::new(row());
        let (mut number, mut lines) = (10, Vec::new());
        for record in history() {
            let stored = StoredRecord { first_event: number, at: 1_000, record };
            number += stored.record.event_count();
            for event in events.of(&stored).into_iter().chain(events.end()) {
                let body = tree(&events.body(&event));
                lines.push(format!("{} {} {}", event.number, body["event_type"], body["attributes"]));
            }
        }
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_frame_holds_every_key_that_the_client_wants() {
        let mut events = Events::new(row());
        let stored = StoredRecord { first_event: 3, at: 1_000, record: history().remove(0) };
        let event = events.of(&stored).remove(0);
        let frame = tree(&events.frame(&event));
        insta::assert_snapshot!(serde_json::to_string_pretty(&frame).expect("JSON"));
    }
}
