//! `airlock credentials …`. A secret is read from standard input or from a prompt, never from an argument: arguments stand
//! in process lists and shell histories.

use std::io::{IsTerminal as _, Read as _};

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    Ended,
    client::{Daemon, segment},
    output::{Output, text},
};

/// What to do with credentials.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Store a bearer token. It is read from standard input, or asked for on a terminal.
    Set {
        /// The connector.
        connector: String,
        /// A name for the credential.
        name: String,
        /// Use it when nobody names one. (The first one is the default in any case.)
        #[arg(long)]
        default: bool,
        /// Whose it is: user, workspace, organization.
        #[arg(long, default_value = "user")]
        scope: String,
    },
    /// List credentials, without their secrets.
    List {
        /// The connector.
        connector: String,
        /// Whose: user, workspace, organization.
        #[arg(long, default_value = "user")]
        scope: String,
    },
    /// Delete a credential.
    Delete {
        /// The connector.
        connector: String,
        /// The credential.
        name: String,
        /// Whose it is: user, workspace, organization.
        #[arg(long, default_value = "user")]
        scope: String,
    },
}

pub(crate) async fn main(daemon: &Daemon, command: Command, output: Output) -> anyhow::Result<Ended> {
    let path = |connector: &str, scope: &str| {
        format!("/v1/connectors/{}/{}/credentials", segment(connector), segment(scope))
    };
    match command {
        Command::Set { connector, name, default, scope } => {
            let token = secret(&connector)?;
            if token.is_empty() {
                eprintln!(
                    "airlock: no secret came: pipe it in, for instance `airlock credentials set {connector} {name} < token`"
                );
                return Ok(Ended::BadInput);
            }
            let mut body = json!({ "name": name, "credentials": { "bearer_token": token } });
            if default {
                body["is_default"] = true.into();
            }
            let answer = daemon.post(&path(&connector, &scope), &body).await?;
            output.value(&answer, || println!("{}", text(&answer["message"])));
        }
        Command::List { connector, scope } => {
            let list = daemon.get(&path(&connector, &scope)).await?;
            let rows: Vec<_> = list["credentials"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|found| row(found, output))
                .collect();
            output.value(&list["credentials"], || {
                output.table(&["CREDENTIAL", "DEFAULT", "TYPE", "STATUS", "FINGERPRINT"], &rows);
            });
        }
        Command::Delete { connector, name, scope } => {
            let path = format!("{}/{}", path(&connector, &scope), segment(&name));
            let answer = daemon.call(Method::DELETE, &path, None).await?;
            output.value(&answer, || println!("{}", text(&answer["message"])));
        }
    }
    Ok(Ended::Well)
}

fn secret(connector: &str) -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password(format!("token for {connector}: ")).context("the prompt failed");
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("standard input is not text")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn row(credential: &Value, output: Output) -> Vec<String> {
    vec![
        text(&credential["name"]),
        if credential["is_default"] == true { "yes".into() } else { String::new() },
        text(&credential["authentication_type"]),
        output.status(&text(&credential["status"]["status_type"])),
        text(&credential["fingerprint"]),
    ]
}
