//! `airlock connectors …`

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    Ended,
    client::{Daemon, segment},
    output::{Output, Tone, plain, pretty, short, text},
    run::json_argument,
};

/// What to do with connectors.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List connectors.
    List,
    /// Show one connector.
    Show {
        /// Its name or id.
        name: String,
    },
    /// Register an MCP server as a connector.
    Add {
        /// Its name, by which plugins refer to it.
        name: String,
        /// The server's address.
        #[arg(long)]
        server: String,
        /// How one authenticates: bearer or none.
        #[arg(long, default_value = "bearer")]
        auth: String,
        /// For people.
        #[arg(long, default_value = "")]
        description: String,
        /// A title for people.
        #[arg(long)]
        title: Option<String>,
        /// Who sees it: private, shared_workspace, shared_org.
        #[arg(long, default_value = "shared_workspace")]
        visibility: String,
    },
    /// Remove a connector with all credentials for it.
    Remove {
        /// Its name or id.
        name: String,
    },
    /// List the tools of a connector.
    Tools {
        /// Its name or id.
        name: String,
        /// The credential to use.
        #[arg(long)]
        credential: Option<String>,
        /// Ask the server again.
        #[arg(long)]
        refresh: bool,
    },
    /// Call a tool.
    Call {
        /// The connector's name or id.
        name: String,
        /// The tool.
        tool: String,
        /// Its arguments: JSON, or @FILE with JSON in it.
        #[arg(long, default_value = "{}")]
        arguments: String,
        /// The credential to use.
        #[arg(long)]
        credential: Option<String>,
    },
}

pub(crate) async fn main(daemon: &Daemon, command: Command, output: Output) -> anyhow::Result<Ended> {
    let path = |name: &str, rest: &str| format!("/v1/connectors/{}{rest}", segment(name));
    match command {
        Command::List => {
            let mut items = Vec::new();
            let mut cursor = String::new();
            loop {
                let mut page = daemon.get(&format!("/v1/connectors?page_size=1000{cursor}")).await?;
                if let Value::Array(found) = page["items"].take() {
                    items.extend(found);
                }
                match page["pagination"]["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={}", segment(next)),
                    None => break,
                }
            }
            let rows: Vec<_> = items.iter().map(row).collect();
            output.value(&items.into(), || {
                output.table(&["CONNECTOR", "AUTH", "READY", "VISIBILITY", "SERVER"], &rows);
            });
        }
        Command::Show { name } => {
            let connector = daemon.get(&path(&name, "?fetch_user_data=true")).await?;
            output.value(&connector, || println!("{}", pretty(&connector)));
        }
        Command::Add { name, server, auth, description, title, visibility } => {
            let body = json!({
                "name": name, "server": server, "description": description, "title": title, "visibility": visibility,
                "protocol": "mcp", "auth_methods": [{ "method_type": auth }],
            });
            let connector = daemon.post("/v1/connectors", &body).await?;
            output.value(&connector, || println!("connector {} was registered", text(&connector["name"])));
        }
        Command::Remove { name } => {
            let answer = daemon.call(Method::DELETE, &path(&name, ""), None).await?;
            output.value(&answer, || println!("{}", text(&answer["message"])));
        }
        Command::Tools { name, credential, refresh } => {
            let mut query = format!("/tools?refresh={refresh}");
            credential
                .iter()
                .for_each(|name| query.push_str(&format!("&credentials_name={}", segment(name))));
            let tools = daemon.get(&path(&name, &query)).await?;
            output.value(&tools, || {
                for tool in tools.as_array().into_iter().flatten() {
                    println!(
                        "{}  {}",
                        output.paint(Tone::Strong, &text(&tool["name"])),
                        short(&text(&tool["description"]), 90)
                    );
                }
            });
        }
        Command::Call { name, tool, arguments, credential } => {
            let arguments = json_argument("--arguments", &arguments)?;
            let mut rest = format!("/tools/{}/call", segment(&tool));
            credential.iter().for_each(|name| rest.push_str(&format!("?credentials_name={}", segment(name))));
            let answer = daemon.post(&path(&name, &rest), &json!({ "arguments": arguments })).await?;
            output.value(&answer, || {
                for block in answer["content"].as_array().into_iter().flatten() {
                    match block["text"].as_str() {
                        Some(text) => println!("{}", plain(text)),
                        None => println!("{}", pretty(block)),
                    }
                }
            });
            if answer["metadata"]["mcp_meta"]["isError"] == true {
                return Ok(Ended::Failed);
            }
        }
    }
    Ok(Ended::Well)
}

fn row(connector: &Value) -> Vec<String> {
    let methods = connector["supported_auth_methods"].as_array().into_iter().flatten();
    let methods: Vec<String> = methods.map(|method| text(&method["method_type"])).collect();
    let ready = if connector["is_authenticated"] == true { "yes" } else { "no credential" };
    vec![
        text(&connector["name"]),
        methods.join(", "),
        ready.into(),
        text(&connector["visibility"]),
        text(&connector["server"]),
    ]
}
