//! Histories as the client's events (contract §5).

use std::collections::HashMap;

use airlock_engine::{
    Failure, Json as Text,
    history::{Command, Continuation, End, Job, Outcome, Record, Seq, StoredRecord, TaskEvent, TaskPhase},
    store::ExecutionRow,
};
use serde_json::{Value, json};

use crate::{part::Part, wire};

/// What of a run has to be known to tell its records as events.
pub(crate) struct Run {
    row: ExecutionRow,
    /// Of operations that are not over. What is not here stands further up in the history.
    names: Names,
}

/// What the numbers of operations stand for; `None` for one that the history does not name.
type Names = HashMap<Seq, Option<String>>;

/// What a workflow that continues as new gives to its next run. It stands in the record before the one that says so.
pub(crate) type Next = (Option<String>, Text);

/// An event with its number in the order of the whole store.
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) kind: &'static str,
    pub(crate) attributes: Part,
    at: u64,
}

/// The event at the end of a run that failed. It is no end for clients if the next record says that another run is to
/// try again.
pub(crate) const FAILED: &str = "WORKFLOW_EXECUTION_FAILED";

/// All types of events that clients know (contract §5.2).
pub(crate) const KINDS: [&str; 17] = [
    "WORKFLOW_EXECUTION_STARTED",
    "WORKFLOW_EXECUTION_COMPLETED",
    FAILED,
    "WORKFLOW_EXECUTION_CANCELED",
    "WORKFLOW_EXECUTION_CONTINUED_AS_NEW",
    "WORKFLOW_TASK_TIMED_OUT",
    "WORKFLOW_TASK_FAILED",
    "CUSTOM_TASK_STARTED",
    "CUSTOM_TASK_IN_PROGRESS",
    "CUSTOM_TASK_COMPLETED",
    "CUSTOM_TASK_FAILED",
    "CUSTOM_TASK_TIMED_OUT",
    "CUSTOM_TASK_CANCELED",
    "ACTIVITY_TASK_STARTED",
    "ACTIVITY_TASK_COMPLETED",
    "ACTIVITY_TASK_RETRYING",
    "ACTIVITY_TASK_FAILED",
];

/// The name of the one stream that there is.
pub(crate) const STREAM: &str = "airlock";

/// Activities of the platform itself have names that begin like this.
const CALL_TOOL: &str = "__internal__connector_tool_call";
const LIST_TOOLS: &str = "__internal__list_tools";
const EXECUTE_CHILD: &str = "__internal__execute_workflow";

impl Run {
    pub(crate) fn new(row: ExecutionRow) -> Self {
        Self { row, names: HashMap::new() }
    }

    pub(crate) fn row(&self) -> &ExecutionRow {
        &self.row
    }

    /// How many names are remembered.
    pub(crate) fn remembered(&self) -> usize {
        self.names.len()
    }

    /// Remembers the operations that a record names.
    pub(crate) fn learn(&mut self, record: &Record) {
        self.names.extend(named(record).map(|(seq, name)| (seq, Some(name.to_owned()))));
    }

    /// Remembers those of these operations that a record names, and takes them from the list.
    pub(crate) fn find(&mut self, record: &Record, wanted: &mut Vec<Seq>) {
        for (seq, name) in named(record) {
            if let Some(position) = wanted.iter().position(|it| *it == seq) {
                wanted.swap_remove(position);
                self.names.insert(seq, Some(name.to_owned()));
            }
        }
    }

    /// The operations that a record is about and that no record named so far.
    pub(crate) fn unknown(&self, record: &Record) -> Vec<Seq> {
        let mut about: Vec<Seq> = match record {
            Record::Activation { jobs, .. } | Record::Received { jobs } => {
                jobs.iter().filter_map(job_of).collect()
            }
            Record::AttemptFailed { seq, .. } => vec![*seq],
            _ => Vec::new(),
        };
        about.retain(|seq| !self.names.contains_key(seq));
        about
    }

    /// The history names no such operation.
    pub(crate) fn is_nameless(&mut self, seq: Seq) {
        self.names.entry(seq).or_insert(None);
    }

    /// The events of a record, whose operations are known. `next`: what the record before says of the next run.
    pub(crate) fn events(&mut self, stored: &StoredRecord, next: Option<&Next>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut put = |offset: usize, found: Option<(&'static str, Part)>| {
            if let Some((kind, attributes)) = found {
                let number = stored.first_event + offset as u64;
                events.push(Event { number, kind, attributes, at: stored.at });
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
                    put(offset, job_event(job, &self.names, &self.row));
                }
                for (offset, command) in commands.iter().enumerate() {
                    put(jobs.len() + offset, command_event(command, &self.row));
                }
            }
            Record::AttemptFailed { seq, attempt, failure, .. } => {
                let attributes = json!({
                    "task_id": task_id(&self.row, *seq), "activity_name": name_of(&self.names, *seq),
                    "attempt": attempt,
                    "failure": failure_value(failure),
                });
                put(0, Some(("ACTIVITY_TASK_RETRYING", attributes.into())));
            }
            Record::Emitted { event } => put(0, Some(task_event(event))),
            Record::Ended { end: End::Failed(failure) } => {
                let attributes = json!({
                    "task_id": self.row.run_id.to_string(), "failure": failure_value(failure), "attempt": 1,
                });
                put(0, Some((FAILED, attributes.into())));
            }
            Record::Blocked { difference } => {
                let attributes = json!({
                    "task_id": self.row.run_id.to_string(), "failure": { "message": difference },
                });
                put(0, Some(("WORKFLOW_TASK_FAILED", attributes.into())));
            }
            Record::Continued { run_id, reason: Continuation::AsNew } => {
                let (workflow, input) = next
                    .map_or((None, Text::null()), |(workflow, input)| (workflow.as_deref(), input.clone()));
                let attributes = Part::with(
                    json!({
                        "task_id": self.row.run_id.to_string(), "new_execution_run_id": run_id.to_string(),
                        "workflow_name": workflow.unwrap_or(&self.row.workflow),
                    }),
                    [("input", payload(&input))],
                );
                put(0, Some(("WORKFLOW_EXECUTION_CONTINUED_AS_NEW", attributes)));
            }
            Record::Received { jobs } => {
                for (offset, job) in jobs.iter().enumerate() {
                    put(offset, job_event(job, &self.names, &self.row));
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
        self.forget(&stored.record);
        events
    }

    /// Operations that are over are not named again.
    fn forget(&mut self, record: &Record) {
        let (Record::Activation { jobs, .. } | Record::Received { jobs }) = record else { return };
        for seq in jobs.iter().filter_map(job_of) {
            self.names.remove(&seq);
        }
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
                // Some clients refuse an event without these; nobody needs them to say more.
                "continued_run_id": null,
                "first_execution_run_id": null,
                "chain_run_id": null,
            }),
            [("attributes", event.attributes.clone())],
        )
    }

    /// The frame of the event stream around an event.
    pub(crate) fn frame(&self, event: &Event) -> Part {
        Part::with(
            json!({
                "stream": STREAM,
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

/// The id of an activity: unlike that of any other in the tree.
fn task_id(row: &ExecutionRow, seq: Seq) -> String {
    row.id.operation(row.run_id, seq)
}

/// The operations that a record names.
fn named(record: &Record) -> impl Iterator<Item = (Seq, &str)> {
    let commands = match record {
        Record::Activation { commands, .. } => &commands[..],
        _ => &[],
    };
    commands.iter().filter_map(|command| match command {
        Command::ScheduleActivity { seq, activity, .. } => Some((*seq, activity.as_str())),
        Command::CallTool { seq, .. } => Some((*seq, CALL_TOOL)),
        Command::ListTools { seq, .. } => Some((*seq, LIST_TOOLS)),
        Command::StartChild { seq, .. } => Some((*seq, EXECUTE_CHILD)),
        _ => None,
    })
}

/// What a record says of the next run, which the record after it names.
pub(crate) fn next_of(record: &Record) -> Option<Next> {
    let Record::Activation { commands, .. } = record else { return None };
    commands.iter().rev().find_map(|command| match command {
        Command::ContinueAsNew { workflow, input } => Some((workflow.clone(), input.clone())),
        _ => None,
    })
}

/// The operation that news are about, if their event names it.
fn job_of(job: &Job) -> Option<Seq> {
    match job {
        Job::ActivityResolved { seq, .. }
        | Job::ToolResolved { seq, .. }
        | Job::ChildResolved { seq, .. }
        | Job::ChildStarted { seq, outcome: Err(_) } => Some(*seq),
        _ => None,
    }
}

fn name_of(names: &Names, seq: Seq) -> Option<&str> {
    names.get(&seq)?.as_deref()
}

fn resolved(seq: Seq, outcome: &Outcome, names: &Names, row: &ExecutionRow) -> (&'static str, Part) {
    let (task_id, name) = (task_id(row, seq), name_of(names, seq));
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

fn job_event(job: &Job, names: &Names, row: &ExecutionRow) -> Option<(&'static str, Part)> {
    match job {
        Job::ActivityResolved { seq, outcome }
        | Job::ToolResolved { seq, outcome }
        | Job::ChildResolved { seq, outcome } => Some(resolved(*seq, outcome, names, row)),
        Job::ChildStarted { seq, outcome: Err(failure) } => {
            Some(resolved(*seq, &Err(failure.clone()), names, row))
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

fn command_event(command: &Command, row: &ExecutionRow) -> Option<(&'static str, Part)> {
    let started = |seq: Seq, name: &str, input: Part| {
        let about = json!({ "task_id": task_id(row, seq), "activity_name": name });
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
            FAILED,
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
        let mut run = Run::new(row());
        let (mut number, mut lines) = (10, Vec::new());
        for record in history() {
            let stored = StoredRecord { first_event: number, at: 1_000, record };
            number += stored.record.event_count();
            run.learn(&stored.record);
            assert_eq!(run.unknown(&stored.record), [0; 0], "all are named before");
            for event in run.events(&stored, None) {
                let body = tree(&run.body(&event));
                lines.push(format!("{} {} {}", event.number, body["event_type"], body["attributes"]));
            }
        }
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_frame_holds_every_key_that_the_client_wants() {
        let mut run = Run::new(row());
        let stored = StoredRecord { first_event: 3, at: 1_000, record: history().remove(0) };
        let event = run.events(&stored, None).remove(0);
        let frame = tree(&run.frame(&event));
        insta::assert_snapshot!(serde_json::to_string_pretty(&frame).expect("JSON"));
    }
}
