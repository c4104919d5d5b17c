//! `airlock executions …`

use std::collections::BTreeMap;

use airlock_engine::{Json, store::Status};
use anyhow::Context as _;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::{
    client::{Daemon, read, segment},
    document::{self, items, laid_out, part},
    ended::Ended,
    output::{Output, Tone, plain, say, short, text},
    questions, run,
};

/// What to do with executions.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List executions, newest first.
    List {
        /// Only executions of this workflow.
        #[arg(long)]
        workflow: Option<String>,
        /// Only executions with this status; may be given several times.
        #[arg(long, ignore_case = true, value_parser = Status::ALL.map(Status::as_str))]
        status: Vec<String>,
        /// Only executions in the tree below this one.
        #[arg(long)]
        root: Option<String>,
        /// Only executions with this search key: NAME:part, NAME==:value, NAME, or NAME== for no value. At most three.
        #[arg(long)]
        search_key: Vec<String>,
        /// Only executions whose id begins with this text or whose workflow's name contains it.
        #[arg(long)]
        search: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Show one execution.
    Show {
        /// Its id.
        id: String,
    },
    /// Show the stored events of one execution.
    Events {
        /// Its id.
        id: String,
    },
    /// Show the history of one execution, for `airlock replay` and the SDK's tests with --json.
    History {
        /// Its id.
        id: String,
    },
    /// Send a signal.
    Signal {
        /// The execution's id.
        id: String,
        /// The signal.
        name: String,
        /// What it carries: a JSON object, @FILE with one in it, or @- with one on standard input.
        #[arg(long, short, value_parser = document::given)]
        input: Option<Json>,
        /// An id: a signal that is sent twice with the same one is heard once.
        #[arg(long)]
        signal_id: Option<String>,
    },
    /// Ask an execution something, also one that has ended.
    Query {
        /// The execution's id.
        id: String,
        /// The query.
        name: String,
        /// What it carries: a JSON object, @FILE with one in it, or @- with one on standard input.
        #[arg(long, short, value_parser = document::given)]
        input: Option<Json>,
    },
    /// Ask for an update, and wait until it is done.
    Update {
        /// The execution's id.
        id: String,
        /// The update.
        name: String,
        /// What it carries: a JSON object, @FILE with one in it, or @- with one on standard input.
        #[arg(long, short, value_parser = document::given)]
        input: Option<Json>,
        /// An id: an update that is sent twice with the same one is carried out once.
        #[arg(long)]
        update_id: Option<String>,
    },
    /// Show what an execution asks people: approvals, forms, decisions.
    Questions {
        /// Its id.
        id: String,
    },
    /// Answer a question of an execution.
    Answer {
        /// The execution's id.
        id: String,
        /// The question's task, as `airlock executions questions` shows it.
        task: String,
        /// The answer as the question's form says: JSON, @FILE with JSON in it, or @- with JSON on standard input.
        #[arg(long, short, value_parser = document::given)]
        input: Json,
    },
    /// Let an execution rest: nothing new begins until it is resumed.
    Pause {
        /// Its id.
        id: String,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Let a paused execution go on.
    Resume {
        /// Its id.
        id: String,
    },
    /// Start an execution again from an event of its history. What happened up to the event is kept.
    Reset {
        /// Its id.
        id: String,
        /// The event's number, as `airlock executions history` shows it.
        #[arg(long)]
        event: u64,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
        /// Leave out signals that came after the event.
        #[arg(long)]
        exclude_signals: bool,
        /// Leave out updates that came after the event.
        #[arg(long)]
        exclude_updates: bool,
        /// Go on with the code of this SHA-256, or with `latest`, what serves the workflow now.
        #[arg(long)]
        digest: Option<String>,
    },
    /// Move open executions to newer code, those whose history it repeats.
    Upgrade {
        /// Executions.
        ids: Vec<String>,
        /// All open ones of this workflow.
        #[arg(long)]
        workflow: Option<String>,
        /// The component's SHA-256 [default: what serves the workflow now].
        #[arg(long)]
        digest: Option<String>,
        /// Only say for each whether it could be.
        #[arg(long)]
        dry_run: bool,
    },
    /// Follow an execution to its end.
    Watch {
        /// Its id.
        id: String,
    },
    /// Ask an execution to stop.
    Cancel {
        /// Its id.
        id: String,
    },
    /// End an execution at once.
    Terminate {
        /// Its id.
        id: String,
    },
    /// Try a blocked execution again.
    Unblock {
        /// Its id.
        id: String,
    },
}

pub(crate) async fn main(daemon: &Daemon, command: Command, output: Output) -> anyhow::Result<Ended> {
    let path = |id: &str, rest: &str| format!("/v1/workflows/executions/{}{rest}", segment(id));
    let own = |id: &str, rest: &str| format!("/v1/airlock/executions/{}{rest}", segment(id));
    match command {
        Command::List { workflow, status, root, search_key, search, limit } => {
            let mut query = format!("/v1/workflows/runs?page_size={limit}");
            workflow
                .iter()
                .for_each(|name| query.push_str(&format!("&workflow_identifier={}", segment(name))));
            status
                .iter()
                .for_each(|word| query.push_str(&format!("&status={}", segment(&word.to_uppercase()))));
            let mut filter =
                |key: &str, value: &String| query.push_str(&format!("&{key}={}", segment(value)));
            root.iter().for_each(|id| filter("root_execution_id", id));
            search_key.iter().for_each(|term| filter("search_key", term));
            search.iter().for_each(|text| filter("search", text));
            let list = daemon.get(&query).await?;
            let rows: Vec<Vec<String>> =
                list["executions"].as_array().into_iter().flatten().map(|row| line(row, output)).collect();
            output.value(&list["executions"], || {
                output.table(&["EXECUTION", "WORKFLOW", "STATUS", "STARTED (UTC)", "TOOK", "USER"], &rows)
            });
        }
        Command::Show { id } => {
            let answer = daemon.text(&path(&id, "")).await?;
            let execution = read(&answer)?;
            output.document(&answer, || show(&execution, part(&answer, &["result"]), output));
        }
        Command::Events { id } => {
            say!("{}", laid_out(&events(daemon, &id).await?));
        }
        Command::History { id } => {
            let history = daemon.text(&path(&id, "/history")).await?;
            output.document(&history, || history_lines(&history, output));
        }
        Command::Signal { id, name, input, signal_id } => {
            let body = Message { name, input, signal_id, update_id: None };
            daemon.ask(Method::POST, &path(&id, "/signals"), Some(&body)).await?;
            output.value(&Value::Null, || say!("the signal is recorded"));
        }
        Command::Query { id, name, input } => {
            let body = Message { name, input, signal_id: None, update_id: None };
            result(&daemon.ask(Method::POST, &path(&id, "/queries"), Some(&body)).await?);
        }
        Command::Update { id, name, input, update_id } => {
            let body = Message { name, input, signal_id: None, update_id };
            result(&daemon.ask(Method::POST, &path(&id, "/updates"), Some(&body)).await?);
        }
        Command::Questions { id } => return questions::list(daemon, &id, output).await,
        Command::Answer { id, task, input } => {
            return questions::answer(daemon, &id, &task, &input, output).await;
        }
        Command::Pause { id, reason } => {
            let body = json!({ "reason": reason });
            let answer = daemon.call(Method::POST, &own(&id, "/pause"), Some(&body)).await?;
            output.value(&answer, || say!("{}", text(&answer["message"])));
        }
        Command::Resume { id } => {
            let answer = daemon.call(Method::POST, &own(&id, "/resume"), None).await?;
            output.value(&answer, || say!("{}", text(&answer["message"])));
        }
        Command::Reset { id, event, reason, exclude_signals, exclude_updates, digest } => {
            let body = json!({
                "event_id": event, "reason": reason, "exclude_signals": exclude_signals,
                "exclude_updates": exclude_updates, "digest": digest,
            });
            daemon.call(Method::POST, &path(&id, "/reset"), Some(&body)).await?;
            output.value(&Value::Null, || say!("{id} goes on from event {event} in a new run"));
        }
        Command::Upgrade { ids, workflow, digest, dry_run } => {
            let body = json!({
                "execution_ids": ids, "workflow": workflow, "digest": digest, "dry_run": dry_run,
            });
            let answer = daemon.call(Method::POST, "/v1/airlock/executions/upgrade", Some(&body)).await?;
            let results = answer["results"].as_object();
            let rows: Vec<Vec<String>> = results
                .into_iter()
                .flatten()
                .map(|(id, it)| vec![id.clone(), text(&it["status"]), short(&text(&it["reason"]), 200)])
                .collect();
            output.value(&answer, || output.table(&["EXECUTION", "RESULT", "WHY"], &rows));
            let refused = results.into_iter().flatten().any(|(_, it)| it["status"] == "refused");
            return Ok(if refused { Ended::Failed } else { Ended::Well });
        }
        Command::Watch { id } => {
            // An unknown id is an error of the caller's, not something to wait for.
            daemon.get(&path(&id, "")).await?;
            return run::follow(daemon, &id, output).await;
        }
        Command::Cancel { id } => {
            daemon.call(Method::POST, &path(&id, "/cancel"), None).await?;
            output.value(&Value::Null, || say!("{id} was asked to stop"));
        }
        Command::Terminate { id } => {
            daemon.call(Method::POST, &path(&id, "/terminate"), None).await?;
            output.value(&Value::Null, || say!("{id} was ended"));
        }
        Command::Unblock { id } => {
            let path = format!("/v1/airlock/executions/{}/unblock", segment(&id));
            let answer = daemon.call(Method::POST, &path, None).await?;
            output.value(&answer, || say!("{}", text(&answer["message"])));
        }
    }
    Ok(Ended::Well)
}

/// What is sent to an execution.
#[derive(Serialize)]
struct Message {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_id: Option<String>,
}

/// Prints what an execution answered, which is JSON for people and scripts alike.
fn result(answer: &str) {
    say!("{}", laid_out(part(answer, &["result"]).map_or("null", RawValue::get)));
}

/// A line for each record: its number, when, what.
fn history_lines(history: &str, output: Output) {
    for event in items(history, &["events"]) {
        let Ok(Event { event_id: mut number, event_time, record }) = serde_json::from_str(event.get()) else {
            continue;
        };
        // A record is its kind, or its kind with what belongs to it.
        let whole: BTreeMap<String, &RawValue> = serde_json::from_str(record.get()).unwrap_or_default();
        let (kind, body) = match whole.first_key_value() {
            Some((kind, body)) => (kind.clone(), body.get()),
            None => (serde_json::from_str(record.get()).unwrap_or_default(), "{}"),
        };
        let time: String = event_time.chars().take(23).collect();
        say!(
            "{} {} {}",
            output.paint(Tone::Quiet, &format!("{number:>6}")),
            output.paint(Tone::Quiet, &format!("{}Z", plain(&time))),
            plain(&kind)
        );
        for (part, mark) in [("jobs", "<-"), ("commands", "->")] {
            for entry in items(body, &[part]) {
                say!(
                    "{} {mark} {}",
                    output.paint(Tone::Quiet, &format!("{number:>6}")),
                    short(&plain(entry.get()), 160)
                );
                number += 1;
            }
        }
    }
}

/// An event of a history.
#[derive(Deserialize)]
struct Event<'a> {
    event_id: u64,
    event_time: String,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// All events as one list.
async fn events(daemon: &Daemon, id: &str) -> anyhow::Result<String> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path =
            format!("/v1/workflows/events/list?root_workflow_exec_id={}&limit=1000{cursor}", segment(id));
        let page = daemon.text(&path).await?;
        all.extend(items(&page, &["events"]).into_iter().map(|event| event.get().to_owned()));
        let next = part(&page, &["next_cursor"]).map(|next| serde_json::from_str(next.get()));
        match next.transpose().context("the daemon's answer is not JSON")?.flatten() {
            Some::<String>(next) => cursor = format!("&cursor={next}"),
            None => return Ok(format!("[{}]", all.join(","))),
        }
    }
}

fn line(row: &Value, output: Output) -> Vec<String> {
    vec![
        text(&row["execution_id"]),
        text(&row["workflow_name"]),
        output.status(&text(&row["status"])),
        text(&row["start_time"]).chars().take(19).collect(),
        row["total_duration_ms"].as_u64().map_or_else(String::new, |ms| format!("{ms} ms")),
        text(&row["user_id"]),
    ]
}

fn show(execution: &Value, result: Option<&RawValue>, output: Output) {
    let label = |name: &str| output.paint(Tone::Quiet, &format!("{name:<10}"));
    for (name, key) in [
        ("execution", "execution_id"),
        ("workflow", "workflow_name"),
        ("run", "run_id"),
        ("user", "user_id"),
        ("started", "start_time"),
        ("ended", "end_time"),
    ] {
        say!("{} {}", label(name), text(&execution[key]));
    }
    say!("{} {}", label("status"), output.status(&text(&execution["status"])));
    if let Some(why) = execution["blocked"].as_str() {
        say!("{} {}", label("blocked"), plain(why));
    }
    if let Some(why) = execution["paused"].as_str() {
        say!("{} {}", label("paused"), plain(why));
    }
    if execution["failure"].is_object() {
        let failure = &execution["failure"];
        say!("{} {}: {}", label("failure"), text(&failure["kind"]), short(&text(&failure["message"]), 500));
    }
    if let Some(result) = result.filter(|result| result.get() != "null") {
        say!("{}\n{}", label("result"), laid_out(result.get()));
    }
}
