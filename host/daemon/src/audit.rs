//! `airlock audit …` and `airlock vault …`, for owners.

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::{
    client::{Daemon, segment},
    ended::Ended,
    output::{Output, say, text},
};

/// What to do with the audit log.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show entries, the latest ones last.
    Show {
        #[command(flatten)]
        filter: Filter,
        /// Those after this number [default: the latest ones; with --follow: all].
        #[arg(long)]
        after: Option<u64>,
        /// So many at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Go on with those that come.
        #[arg(long)]
        follow: bool,
    },
    /// Print the log's lines.
    Export {
        /// The first entry's number.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// The last entry's number.
        #[arg(long)]
        to: Option<u64>,
    },
    /// Check that no entry was changed, removed or added.
    Verify {
        /// A head that was kept elsewhere, as `airlock audit head` printed it: a log that was put back with everything
        /// around it shows only against that.
        #[arg(long, value_name = "HEAD")]
        head: Option<String>,
    },
    /// Accept that the log is not whole, after it was looked at: an entry of the log says who did, what was wrong, and why.
    /// From then on `verify` says since when it is whole, and ends with exit code 0.
    Accept {
        /// Why: what was found out about it.
        #[arg(long, value_name = "WHY")]
        reason: String,
    },
    /// Print where the log ends, to be kept elsewhere, for `verify --head`.
    Head,
}

/// Which entries.
#[derive(clap::Args)]
pub(crate) struct Filter {
    /// Of this connector.
    #[arg(long)]
    connector: Option<String>,
    /// Of this execution.
    #[arg(long)]
    execution: Option<String>,
    /// Of this user.
    #[arg(long)]
    user: Option<String>,
    /// Of this kind.
    #[arg(long, value_parser = airlock_connectors::AUDIT_KINDS)]
    kind: Option<String>,
}

impl Filter {
    fn query(&self) -> String {
        let pairs = [
            ("connector", &self.connector),
            ("execution", &self.execution),
            ("user", &self.user),
            ("kind", &self.kind),
        ];
        let given = pairs.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        given.map(|(name, value)| format!("&{name}={}", segment(value))).collect()
    }
}

pub(crate) async fn main(daemon: &Daemon, command: Command, output: Output) -> anyhow::Result<Ended> {
    match command {
        Command::Show { filter, after, follow: true, .. } => {
            let path = format!("/v1/airlock/audit/follow?after={}{}", after.unwrap_or(0), filter.query());
            let mut entries = daemon.events(&path).await?;
            while let Some(entry) = entries.next().await {
                let read: Value = serde_json::from_str(&entry).unwrap_or_default();
                output.document(&entry, || say!("{}", line(&read)));
            }
        }
        Command::Show { filter, after, limit, follow: false } => {
            let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
            let path = format!("/v1/airlock/audit?limit={limit}{after}{}", filter.query());
            let found = daemon.get(&path).await?;
            output.value(&found["entries"], || {
                found["entries"].as_array().into_iter().flatten().for_each(|entry| say!("{}", line(entry)));
            });
        }
        Command::Export { from, to } => {
            let to = to.map(|to| format!("&to={to}")).unwrap_or_default();
            print!("{}", daemon.text(&format!("/v1/airlock/audit/export?from={from}{to}")).await?);
        }
        Command::Accept { reason } => {
            let found = daemon.post("/v1/airlock/audit/verify", &json!({})).await?;
            let body = json!({ "problem": found["problem"], "reason": reason });
            let answer = daemon.post("/v1/airlock/audit/accept", &body).await?;
            output.value(&answer, || {
                say!("NOT WHOLE: {}", text(&answer["problem"]));
                say!("{}", text(&answer["message"]));
            });
        }
        Command::Head => {
            let answer = daemon.get("/v1/airlock/audit/head").await?;
            output.value(&answer, || say!("{}", text(&answer["head"])));
        }
        Command::Verify { head } => {
            let answer = daemon.post("/v1/airlock/audit/verify", &json!({ "head": head })).await?;
            output.value(&answer, || match answer["whole"] == true {
                true => {
                    match &answer["accepted"] {
                        Value::Null => say!("whole: {} entries", answer["entries"]),
                        accepted => say!(
                            "whole since entry {} of {}: {} entries; accepted break at {}",
                            accepted["sequence"],
                            text(&accepted["at"]),
                            answer["entries"],
                            accepted_break(accepted)
                        ),
                    }
                    if answer["head_compared"] == false {
                        say!("the head is of an entry that was removed for its age: it was not compared, keep a newer one");
                    }
                    if answer["removed"].is_object() {
                        say!(
                            "those up to {} were removed for their age, the last from {}",
                            answer["removed"]["through"],
                            text(&answer["removed"]["to"])
                        );
                    }
                }
                false => say!("NOT WHOLE: {}", text(&answer["problem"])),
            });
            if answer["whole"] != true {
                return Ok(Ended::Failed);
            }
        }
    }
    Ok(Ended::Well)
}

/// What was accepted, by whom and why.
fn accepted_break(accepted: &Value) -> String {
    format!("{} (by {}: {})", text(&accepted["problem"]), text(&accepted["by"]), text(&accepted["reason"]))
}

/// One entry in one line.
fn line(entry: &Value) -> String {
    let field = |name: &str| text(&entry[name]);
    let mut line = format!(
        "{:>6} {} {} {} by {}",
        field("sequence"),
        field("at").chars().take(23).collect::<String>(),
        field("kind"),
        field("outcome"),
        text(&entry["actor"]["user"])
    );
    for (name, label) in
        [("connector", ""), ("tool", ""), ("execution", "execution "), ("code", ""), ("note", "")]
    {
        if !entry[name].is_null() {
            line.push_str(&format!(" · {label}{}", field(name)));
        }
    }
    line
}

/// What to do with the vault.
#[derive(clap::Subcommand)]
pub(crate) enum Vault {
    /// Change the master key while the daemon works. A key in a file is replaced by a new one; a key command is asked for
    /// the new one; a key in a variable is changed by a restart.
    Rotate,
    /// Open everything that is sealed, and say what does not open.
    Verify,
}

pub(crate) async fn vault(daemon: &Daemon, command: Vault, output: Output) -> anyhow::Result<Ended> {
    match command {
        Vault::Rotate => {
            let answer = daemon.post("/v1/airlock/vault/rotate", &json!({})).await?;
            output.value(&answer, || {
                say!("{}; {} data keys were wrapped anew", text(&answer["message"]), answer["data_keys"]);
            });
        }
        Vault::Verify => {
            let answer = daemon.post("/v1/airlock/vault/verify", &json!({})).await?;
            output.value(&answer, || {
                say!("{} secrets open", answer["opened"]);
                for broken in answer["broken"].as_array().into_iter().flatten() {
                    say!(
                        "DOES NOT OPEN: {} {} of connector {}",
                        text(&broken["what"]),
                        text(&broken["credential"]),
                        text(&broken["connector"])
                    );
                }
            });
            if answer["whole"] != true {
                return Ok(Ended::Failed);
            }
        }
    }
    Ok(Ended::Well)
}
