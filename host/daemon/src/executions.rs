//! `airlock executions …`

use reqwest::Method;
use serde_json::Value;

use crate::{
    Ended,
    client::{Daemon, segment},
    output::{Output, Tone, plain, pretty, short, text},
    run,
};

/// What to do with executions.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List executions, newest first.
    List {
        /// Only executions of this workflow.
        #[arg(long)]
        workflow: Option<String>,
        /// Only executions with this status: RUNNING, COMPLETED, FAILED, CANCELED, TERMINATED, TIMED_OUT.
        #[arg(long)]
        status: Vec<String>,
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
    match command {
        Command::List { workflow, status, limit } => {
            let mut query = format!("/v1/workflows/runs?page_size={limit}");
            workflow
                .iter()
                .for_each(|name| query.push_str(&format!("&workflow_identifier={}", segment(name))));
            status
                .iter()
                .for_each(|word| query.push_str(&format!("&status={}", segment(&word.to_uppercase()))));
            let list = daemon.get(&query).await?;
            let rows: Vec<Vec<String>> =
                list["executions"].as_array().into_iter().flatten().map(|row| line(row, output)).collect();
            output.value(&list["executions"], || {
                output.table(&["EXECUTION", "WORKFLOW", "STATUS", "STARTED", "TOOK", "USER"], &rows)
            });
        }
        Command::Show { id } => {
            let execution = daemon.get(&path(&id, "")).await?;
            output.value(&execution, || show(&execution, output));
        }
        Command::Events { id } => {
            let events = Value::Array(events(daemon, &id).await?);
            println!("{}", pretty(&events));
        }
        Command::Watch { id } => {
            // An unknown id is an error of the caller's, not something to wait for.
            daemon.get(&path(&id, "")).await?;
            return run::follow(daemon, &id, output).await;
        }
        Command::Cancel { id } => {
            daemon.call(Method::POST, &path(&id, "/cancel"), None).await?;
            output.value(&Value::Null, || println!("{id} was asked to stop"));
        }
        Command::Terminate { id } => {
            daemon.call(Method::POST, &path(&id, "/terminate"), None).await?;
            output.value(&Value::Null, || println!("{id} was ended"));
        }
        Command::Unblock { id } => {
            let path = format!("/v1/airlock/executions/{}/unblock", segment(&id));
            let answer = daemon.call(Method::POST, &path, None).await?;
            output.value(&answer, || println!("{}", text(&answer["message"])));
        }
    }
    Ok(Ended::Well)
}

async fn events(daemon: &Daemon, id: &str) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path =
            format!("/v1/workflows/events/list?root_workflow_exec_id={}&limit=1000{cursor}", segment(id));
        let mut page = daemon.get(&path).await?;
        if let Value::Array(events) = page["events"].take() {
            all.extend(events);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(all),
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

fn show(execution: &Value, output: Output) {
    let label = |name: &str| output.paint(Tone::Quiet, &format!("{name:<10}"));
    for (name, key) in [
        ("execution", "execution_id"),
        ("workflow", "workflow_name"),
        ("run", "run_id"),
        ("user", "user_id"),
        ("started", "start_time"),
        ("ended", "end_time"),
    ] {
        println!("{} {}", label(name), text(&execution[key]));
    }
    println!("{} {}", label("status"), output.status(&text(&execution["status"])));
    if let Some(why) = execution["blocked"].as_str() {
        println!("{} {}", label("blocked"), plain(why));
    }
    if execution["failure"].is_object() {
        let failure = &execution["failure"];
        println!(
            "{} {}: {}",
            label("failure"),
            text(&failure["kind"]),
            short(&text(&failure["message"]), 500)
        );
    }
    if !execution["result"].is_null() {
        println!("{}\n{}", label("result"), pretty(&execution["result"]));
    }
}
