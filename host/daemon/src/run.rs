//! `airlock run` and `airlock executions watch`: following an execution to its end.

use std::time::Duration;

use airlock_engine::Json;
use anyhow::Context as _;
use chrono::DateTime;
use futures::StreamExt as _;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    client::{Daemon, Problem, read, segment},
    document::{self, laid_out, part},
    ended::{Ended, Misuse},
    output::{Output, Tone, plain, say, short, text},
    questions,
};

/// What to start.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Name of the workflow.
    workflow: String,
    /// The input: JSON, @FILE with JSON in it, or @- with JSON on standard input.
    #[arg(long, default_value = "{}", value_parser = document::given)]
    input: Json,
    /// An id of your choice for the execution.
    #[arg(long)]
    execution_id: Option<String>,
    #[command(flatten)]
    extensions: Extensions,
    /// Only start it; do not wait for its end.
    #[arg(long)]
    detach: bool,
}

/// What a start asks for besides the input, by hand or by a schedule.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Extensions {
    /// Which credential to use for a connector; may be given several times.
    #[arg(long = "credential", value_name = "CONNECTOR=NAME")]
    credentials: Vec<String>,
    /// Answer all its tool calls from mocks: nothing is called, and no credential is needed.
    #[arg(long)]
    mock: bool,
    /// Answer the tool calls of this connector from mocks; may be given several times.
    #[arg(long = "mock-connector", value_name = "CONNECTOR", conflicts_with = "mock")]
    mock_connectors: Vec<String>,
}

impl Extensions {
    /// `extensions` on the wire, if something is asked for. `before` is what was asked for until now: what is not given
    /// stays.
    pub(crate) fn wire(&self, before: Option<&Value>) -> anyhow::Result<Option<Value>> {
        let mut bindings = Vec::new();
        for credential in &self.credentials {
            let (connector, name) = credential
                .split_once('=')
                .with_context(|| format!("--credential takes CONNECTOR=NAME, '{credential}' has no '='"))?;
            bindings.push(json!({ "connector_name": connector, "credentials_name": name }));
        }
        let mut extensions = before.cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
        if !bindings.is_empty() {
            extensions["mistralai"] = json!({ "connectors": { "bindings": bindings } });
        }
        if self.mock {
            extensions["airlock"] = json!({ "mocks": true });
        } else if !self.mock_connectors.is_empty() {
            extensions["airlock"] = json!({ "mocks": self.mock_connectors });
        }
        let given = self.mock || !self.mock_connectors.is_empty() || !self.credentials.is_empty();
        Ok(given.then_some(extensions))
    }
}

/// How long a daemon that went away is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a workflow and follows it.
pub(crate) async fn main(daemon: &Daemon, arguments: Arguments, output: Output) -> anyhow::Result<Ended> {
    let body = Start {
        input: &arguments.input,
        execution_id: arguments.execution_id.as_deref(),
        extensions: arguments.extensions.wire(None).map_err(|error| Misuse::of(&error))?,
    };
    let path = format!("/v1/workflows/{}/execute", segment(&arguments.workflow));
    let answer = daemon.ask(Method::POST, &path, Some(&body)).await?;
    let execution = read(&answer)?;
    let id = text(&execution["execution_id"]);
    if arguments.detach {
        output.document(&answer, || say!("{id}"));
        return Ok(Ended::Well);
    }
    if !output.json {
        eprintln!("{} {}", output.paint(Tone::Quiet, "execution"), id);
    }
    follow(daemon, &id, output).await
}

/// What is sent.
#[derive(Serialize)]
struct Start<'a> {
    input: &'a Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<Value>,
}

/// JSON from an argument, or from the file that it names with `@`.
pub(crate) fn json_argument(name: &str, argument: &str) -> anyhow::Result<Value> {
    Ok(document::given(argument).map_err(|error| Misuse(format!("{name}: {error}")))?.value())
}

/// Shows events until the execution ends; then its result. A daemon that restarts meanwhile is waited for.
pub(crate) async fn follow(daemon: &Daemon, id: &str, output: Output) -> anyhow::Result<Ended> {
    let lines = Lines(output);
    let mut next = 0;
    let mut gone: Option<std::time::Instant> = None;
    loop {
        let path =
            format!("/v1/workflows/events/stream?root_workflow_exec_id={}&start_seq={next}", segment(id));
        match daemon.events(&path).await {
            Ok(mut events) => {
                gone = None;
                while let Some(text) = events.next().await {
                    let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
                    next = frame["broker_sequence"].as_u64().map_or(next, |sequence| sequence + 1);
                    if !output.json {
                        lines.show(&frame["data"], part(&text, &["data", "attributes", "result", "value"]));
                    }
                    // Children may still clean up: whoever asked waits for the execution and not for them.
                    if is_end(&frame["data"], id) {
                        break;
                    }
                }
                let execution = daemon.text(&format!("/v1/workflows/executions/{}", segment(id))).await;
                let ended = execution.ok().and_then(|execution| end(&execution, output));
                match ended {
                    Some(ended) => return Ok(ended),
                    None => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
            Err(error) => {
                let unreachable = matches!(error.downcast_ref::<Problem>(), Some(Problem::Unreachable(_)));
                let since = gone.get_or_insert_with(std::time::Instant::now);
                if !unreachable || since.elapsed() > PATIENCE {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
}

/// Whether an event is the end of this execution. Not every end has an event.
fn is_end(event: &Value, id: &str) -> bool {
    let ends = ["WORKFLOW_EXECUTION_COMPLETED", "WORKFLOW_EXECUTION_FAILED", "WORKFLOW_EXECUTION_CANCELED"];
    event["workflow_exec_id"] == id && ends.iter().any(|end| event["event_type"] == *end)
}

/// Prints the result, or why there is none; nothing yet while it runs.
fn end(answer: &str, output: Output) -> Option<Ended> {
    let execution: Value = serde_json::from_str(answer).ok()?;
    let status = text(&execution["status"]);
    if status == "RUNNING" {
        return None;
    }
    output.document(answer, || match status.as_str() {
        "COMPLETED" => say!("{}", laid_out(part(answer, &["result"]).map_or("null", RawValue::get))),
        _ => {
            let failure = &execution["failure"];
            let why = match failure {
                Value::Null => String::new(),
                failure => format!(": {}: {}", text(&failure["kind"]), text(&failure["message"])),
            };
            eprintln!("{}{why}", output.status(&status));
        }
    });
    Some(match status.as_str() {
        "COMPLETED" => Ended::Well,
        "FAILED" => Ended::Failed,
        _ => Ended::Stopped,
    })
}

/// Events as lines for people.
struct Lines(Output);

impl Lines {
    /// `result` is the event's, as it was written.
    fn show(&self, event: &Value, result: Option<&RawValue>) {
        let attributes = &event["attributes"];
        let kind = event["event_type"].as_str().unwrap_or_default();
        let name = |key: &str| text(&attributes[key]).replace("__internal__", "");
        let message = || short(&text(&attributes["failure"]["message"]), 100);
        let result = || short(&plain(result.map_or("null", RawValue::get)), 70);
        let o = self.0;
        let (mark, line) = match kind {
            "WORKFLOW_EXECUTION_STARTED" => {
                (o.paint(Tone::Strong, "▶"), format!("{} started", name("workflow_name")))
            }
            "WORKFLOW_EXECUTION_COMPLETED" => (o.paint(Tone::Good, "■"), "completed".into()),
            "WORKFLOW_EXECUTION_FAILED" => (o.paint(Tone::Bad, "■"), format!("failed: {}", message())),
            "WORKFLOW_EXECUTION_CANCELED" => (o.paint(Tone::Bad, "■"), "cancelled".into()),
            "WORKFLOW_TASK_FAILED" => (o.paint(Tone::Bad, "!"), format!("blocked: {}", message())),
            "ACTIVITY_TASK_STARTED" => {
                (o.paint(Tone::Busy, "·"), format!("{} started", name("activity_name")))
            }
            "ACTIVITY_TASK_COMPLETED" => {
                (o.paint(Tone::Good, "✓"), format!("{} → {}", name("activity_name"), result()))
            }
            "ACTIVITY_TASK_RETRYING" => {
                let attempt = text(&attributes["attempt"]);
                (
                    o.paint(Tone::Busy, "↻"),
                    format!("{} attempt {attempt} failed: {}", name("activity_name"), message()),
                )
            }
            "ACTIVITY_TASK_FAILED" => {
                (o.paint(Tone::Bad, "✗"), format!("{} failed: {}", name("activity_name"), message()))
            }
            _ => self.task(kind, attributes, &text(&event["workflow_exec_id"])),
        };
        let at = event["event_timestamp"].as_i64().map(DateTime::from_timestamp_nanos).unwrap_or_default();
        let at = at.format("%H:%M:%S%.3fZ").to_string();
        eprintln!("{} {mark} {line}", o.paint(Tone::Quiet, &at));
    }

    fn task(&self, kind: &str, attributes: &Value, execution: &str) -> (String, String) {
        let o = self.0;
        let (task, state) = (text(&attributes["custom_task_type"]), &attributes["payload"]["value"]);
        let phase = kind.trim_start_matches("CUSTOM_TASK_").to_lowercase().replace('_', " ");
        match (task.as_str(), phase.as_str()) {
            ("connector_auth", "started") => {
                let connector = text(&state["connector_name"]);
                let ask = match state["auth_url"].as_str() {
                    Some(url) => format!("authorise {connector} here: {}", plain(url)),
                    None => format!("waiting for a credential for {connector}: {}", text(&state["message"])),
                };
                (o.paint(Tone::Busy, "⚿"), o.paint(Tone::Strong, &ask))
            }
            ("wait_for_input", "started") => {
                let label = match state["label"].as_str() {
                    Some(label) => short(&plain(label), 500),
                    None => "somebody has to decide".into(),
                };
                let task = text(&attributes["custom_task_id"]);
                let command = questions::command(execution, &task, &state["input_schema"]);
                (o.paint(Tone::Busy, "?"), format!("{}\n  {command}", o.paint(Tone::Strong, &label)))
            }
            ("wait_for_input", "completed") => (o.paint(Tone::Good, "?"), "it was answered".into()),
            ("tool_call", "failed") => (
                o.paint(Tone::Bad, "⇄"),
                format!("tool failed: {}", short(&text(&attributes["failure"]["message"]), 100)),
            ),
            ("tool_call", "in progress") => {
                let tool = text(&state["tool_name"]);
                (
                    o.paint(Tone::Busy, "⇄"),
                    format!("{tool}: {}", short(&plain(&text(&state["progress"])), 80)),
                )
            }
            ("tool_call", phase) => {
                let (connector, tool) = (text(&state["connector_name"]), text(&state["tool_name"]));
                let word = if phase == "started" { "calls" } else { "has called" };
                (o.paint(Tone::Busy, "⇄"), format!("the host {word} {tool} of {connector}"))
            }
            (task, phase) => {
                let detail = match attributes["failure"]["message"].as_str() {
                    Some(message) => plain(message),
                    None => state.to_string(),
                };
                (o.paint(Tone::Quiet, "…"), format!("{task} {phase}: {}", short(&detail, 80)))
            }
        }
    }
}
