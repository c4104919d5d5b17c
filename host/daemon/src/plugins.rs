//! `airlock plugins …`

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    client::{Daemon, segment},
    ended::Ended,
    output::{Output, Tone, plain, pretty, text},
};

/// What to do with plugins.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the files in the plugin folder and what became of them.
    List,
    /// Show what a plugin holds.
    Inspect {
        /// Its name: the file's name without `.wasm`.
        name: String,
    },
    /// Make a crate for a new plugin.
    New {
        /// Its name, for instance `order-mailer`.
        name: String,
        /// Where to make it [default: a folder of that name, here].
        #[arg(long)]
        folder: Option<PathBuf>,
    },
}

pub(crate) async fn main(daemon: &Daemon, command: Command, output: Output) -> anyhow::Result<Ended> {
    match command {
        Command::List => {
            let list = daemon.get("/v1/airlock/plugins").await?;
            output.value(&list["plugins"], || {
                let plugins = || list["plugins"].as_array().into_iter().flatten();
                let rows: Vec<_> = plugins().map(|plugin| row(plugin, output)).collect();
                output.table(&["PLUGIN", "STATE", "DIGEST", "SIZE", "WORKFLOWS"], &rows);
                for plugin in plugins() {
                    if let Some(error) = plugin["error"].as_str() {
                        println!("\n{}: {}", output.paint(Tone::Bad, &text(&plugin["name"])), plain(error));
                    }
                }
            });
        }
        Command::Inspect { name } => {
            let plugin = daemon.get(&format!("/v1/airlock/plugins/{}", segment(&name))).await?;
            output.value(&plugin, || inspect(&plugin, output));
        }
        Command::New { .. } => {}
    }
    Ok(Ended::Well)
}

fn names(list: &Value) -> String {
    let names: Vec<String> =
        list.as_array().into_iter().flatten().map(|entry| text(&entry["name"])).collect();
    names.join(", ")
}

fn row(plugin: &Value, output: Output) -> Vec<String> {
    vec![
        text(&plugin["name"]),
        output.status(&text(&plugin["state"])),
        text(&plugin["digest"]).chars().take(12).collect(),
        format!("{} KB", plugin["bytes"].as_u64().unwrap_or(0) / 1024),
        names(&plugin["definition"]["workflows"]),
    ]
}

fn inspect(plugin: &Value, output: Output) {
    println!(
        "{} {}",
        output.paint(Tone::Strong, &text(&plugin["name"])),
        output.status(&text(&plugin["state"]))
    );
    println!("sha256 {}", text(&plugin["digest"]));
    if let Some(error) = plugin["error"].as_str() {
        println!("{}", plain(error));
    }
    for (what, key) in [("workflow", "workflows"), ("activity", "activities")] {
        for entry in plugin["definition"][key].as_array().into_iter().flatten() {
            println!("\n{what} {}", output.paint(Tone::Strong, &text(&entry["name"])));
            if let Some(about) = entry["description"].as_str() {
                println!("  {}", plain(about));
            }
            let slots: Vec<String> = entry["slots"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|slot| text(&slot["connector"]))
                .collect();
            if !slots.is_empty() {
                println!("  connectors: {}", slots.join(", "));
            }
            println!("  input: {}", pretty(&entry["input_schema"]).replace('\n', "\n  "));
        }
    }
}
