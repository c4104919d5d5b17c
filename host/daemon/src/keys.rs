//! `airlock keys …`

use reqwest::Method;
use serde_json::json;

use crate::{
    client::{Daemon, segment},
    ended::Ended,
    output::{Output, Tone, say, text},
};

/// What to do with API keys. Only an owner's key may do it.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make a key. It is shown once.
    Create {
        /// The user it is for; new users need nothing else.
        #[arg(long)]
        user: String,
        /// A name for the key.
        #[arg(long)]
        name: Option<String>,
        /// It may do everything that this key may.
        #[arg(long)]
        owner: bool,
        /// It opens nothing after so many days.
        #[arg(long)]
        expires_in_days: Option<u32>,
    },
    /// List keys, without their text.
    List,
    /// End a key.
    Revoke {
        /// Its id, from the list.
        id: String,
    },
}

pub(crate) async fn main(daemon: &Daemon, command: Command, output: Output) -> anyhow::Result<Ended> {
    match command {
        Command::Create { user, name, owner, expires_in_days } => {
            let body = json!({
                "user": user, "name": name, "role": if owner { "owner" } else { "member" },
                "expires_in_seconds": expires_in_days.map(|days| i64::from(days) * 86_400),
            });
            let key = daemon.post("/v1/airlock/keys", &body).await?;
            output.value(&key, || {
                say!("{}", text(&key["key"]));
                eprintln!("{}", output.paint(Tone::Quiet, "this is the only time that the key is shown"));
            });
        }
        Command::List => {
            let list = daemon.get("/v1/airlock/keys").await?;
            output.value(&list["keys"], || {
                let rows: Vec<Vec<String>> = list["keys"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|key| {
                        let day = |field: &str| text(&key[field]).chars().take(10).collect::<String>();
                        let state = match key["revoked_at"].is_null() {
                            true => String::new(),
                            false => format!("revoked {}", day("revoked_at")),
                        };
                        vec![
                            text(&key["id"]),
                            text(&key["user"]),
                            text(&key["role"]),
                            text(&key["name"]),
                            day("expires_at"),
                            state,
                        ]
                    })
                    .collect();
                output.table(&["ID", "USER", "ROLE", "NAME", "EXPIRES", "STATE"], &rows);
            });
        }
        Command::Revoke { id } => {
            let path = format!("/v1/airlock/keys/{}", segment(&id));
            let key = daemon.call(Method::DELETE, &path, None).await?;
            output.value(&key, || say!("key '{}' of {} was revoked", text(&key["name"]), text(&key["user"])));
        }
    }
    Ok(Ended::Well)
}
