//! `airlock credentials …`. A secret is read from standard input or from a prompt, never from an argument: arguments stand
//! in process lists and shell histories.

use std::io::{IsTerminal as _, Read as _};

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::{Daemon, segment},
    ended::{Ended, Misuse},
    output::{Output, say, text},
};

/// Whose a credential can be.
const SCOPES: [&str; 3] = ["user", "workspace", "organization"];

/// What to do with credentials.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Store a credential. Its secret is read from standard input, or asked for on a terminal: a token, a password, a key,
    /// or for --client-key a private key in PEM.
    Set {
        /// The connector.
        connector: String,
        /// A name for the credential.
        name: String,
        /// Use it when nobody names one. (The first one is the default in any case.)
        #[arg(long)]
        default: bool,
        /// Whose it is.
        #[arg(long, default_value = "user", value_parser = SCOPES)]
        scope: String,
        /// The secret is a password for this user name (method basic).
        #[arg(long, group = "kind")]
        username: Option<String>,
        /// The secret is the value of this header.
        #[arg(long, group = "kind")]
        header: Option<String>,
        /// The secret is an API key (method api_key).
        #[arg(long, group = "kind")]
        api_key: bool,
        /// The secrets are API keys that are needed together: lines NAME=KEY, or a JSON object.
        #[arg(long, group = "kind")]
        api_keys: bool,
        /// The secret belongs to this OAuth client (client credentials).
        #[arg(long, group = "kind")]
        client_id: Option<String>,
        /// The client signs with a private key.
        #[arg(long, requires = "client_id")]
        client_key: bool,
    },
    /// Authorise in a browser: prints the address and waits until the credential is there.
    Authorize {
        /// The connector.
        connector: String,
        /// A name for the credential [default: the default credential, which is authorised again].
        name: Option<String>,
        /// Only print the address.
        #[arg(long)]
        no_wait: bool,
    },
    /// List credentials, without their secrets.
    List {
        /// The connector.
        connector: String,
        /// Whose.
        #[arg(long, default_value = "user", value_parser = SCOPES)]
        scope: String,
    },
    /// Delete a credential.
    Delete {
        /// The connector.
        connector: String,
        /// The credential.
        name: String,
        /// Whose it is.
        #[arg(long, default_value = "user", value_parser = SCOPES)]
        scope: String,
    },
}

/// Keys by name: lines `NAME=KEY`, or a JSON object. What was read is told to nobody.
fn several(text: &str) -> anyhow::Result<Value> {
    let keys = match text.trim_start().starts_with('{') {
        true => serde_json::from_str::<std::collections::BTreeMap<String, String>>(text).ok(),
        false => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let pair = |line: &str| {
                line.split_once('=').map(|(name, key)| (name.trim().to_owned(), key.trim().to_owned()))
            };
            lines.map(pair).collect()
        }
    };
    let unread = || Misuse("the keys are expected as lines NAME=KEY, or as a JSON object of texts".into());
    Ok(json!(keys.ok_or_else(unread)?))
}

pub(crate) async fn main(daemon: &Daemon, command: Command, output: Output) -> anyhow::Result<Ended> {
    let path = |connector: &str, scope: &str| {
        format!("/v1/connectors/{}/{}/credentials", segment(connector), segment(scope))
    };
    match command {
        Command::Set {
            connector,
            name,
            default,
            scope,
            username,
            header,
            api_key,
            api_keys,
            client_id,
            client_key,
        } => {
            let token = secret(&connector)?;
            if token.is_empty() {
                eprintln!(
                    "airlock: no secret came: run this on a terminal to be asked for it, or add `< FILE` to the command"
                );
                return Ok(Ended::BadInput);
            }
            let credentials = match (username, header, client_id) {
                (Some(username), ..) => json!({ "basic": { "username": username, "password": token } }),
                (_, Some(header), _) => json!({ "headers": { header: token } }),
                (.., Some(id)) if client_key => {
                    json!({ "oauth": { "client_id": id, "client_private_key": token } })
                }
                (.., Some(id)) => json!({ "oauth": { "client_id": id, "client_secret": token } }),
                _ if api_key => json!({ "api_key": token }),
                _ if api_keys => json!({ "api_keys": several(&token)? }),
                _ => json!({ "bearer_token": token }),
            };
            let mut body = json!({ "name": name, "credentials": credentials });
            if default {
                body["is_default"] = true.into();
            }
            let answer = daemon.post(&path(&connector, &scope), &body).await?;
            output.value(&answer, || say!("{}", text(&answer["message"])));
        }
        Command::Authorize { connector, name, no_wait } => {
            let query = name.iter().map(|name| format!("?credentials_name={}", segment(name)));
            let url = format!("/v1/connectors/{}/auth_url{}", segment(&connector), query.collect::<String>());
            let before = generation(&daemon.get(&path(&connector, "user")).await?);
            let answer = daemon.get(&url).await?;
            output.value(&answer, || say!("{}", text(&answer["auth_url"])));
            if no_wait || output.json {
                return Ok(Ended::Well);
            }
            eprintln!("open this address in a browser; waiting until you are back, for 10 minutes at most");
            let until = std::time::Instant::now() + std::time::Duration::from_secs(600);
            while std::time::Instant::now() < until {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                let list = daemon.get(&path(&connector, "user")).await?;
                if generation(&list) != before {
                    say!("connector {connector} is connected");
                    return Ok(Ended::Well);
                }
            }
            eprintln!("airlock: nobody came back within 10 minutes: run this again for a new address");
            return Ok(Ended::Failed);
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
                output.table(&["CREDENTIAL", "DEFAULT", "TYPE", "STATE", "EXPIRES", "FINGERPRINT"], &rows);
            });
        }
        Command::Delete { connector, name, scope } => {
            let path = format!("{}/{}", path(&connector, &scope), segment(&name));
            let answer = daemon.call(Method::DELETE, &path, None).await?;
            output.value(&answer, || say!("{}", text(&answer["message"])));
        }
    }
    Ok(Ended::Well)
}

/// What changes when an OAuth credential is stored.
fn generation(list: &Value) -> Vec<String> {
    let all = list["credentials"].as_array().into_iter().flatten();
    let of_oauth = all.filter(|credential| credential["authentication_type"] == "oauth2");
    of_oauth.map(|credential| format!("{}{}", credential["name"], credential["fingerprint"])).collect()
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
        output.status(&text(&credential["state"])),
        text(&credential["expires_at"]).chars().take(16).collect(),
        text(&credential["fingerprint"]),
    ]
}
