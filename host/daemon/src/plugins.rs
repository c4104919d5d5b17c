//! `airlock plugins …`

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    client::{Daemon, segment},
    document::pretty,
    ended::Ended,
    output::{Output, Tone, plain, say, text},
};

/// What to do with plugins.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the files in the plugin folder, what became of them, and what their workflows' connectors lack.
    List,
    /// Show what a plugin holds, and ask the servers of its connectors whether they answer.
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
                        say!("\n{}: {}", output.paint(Tone::Bad, &text(&plugin["name"])), plain(error));
                    }
                    for problem in problems(plugin) {
                        say!("\n{}: {problem}", output.paint(Tone::Busy, &text(&plugin["name"])));
                    }
                }
            });
        }
        Command::Inspect { name } => {
            let plugin = daemon.get(&format!("/v1/airlock/plugins/{}?check=true", segment(&name))).await?;
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

/// What the connectors of a plugin's workflows lack; each once, with the workflows that it is about.
fn problems(plugin: &Value) -> Vec<String> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for slot in plugin["connectors"].as_array().into_iter().flatten() {
        let Some(problem) = slot["problem"].as_str() else { continue };
        let workflow = text(&slot["workflow"]);
        match found.iter_mut().find(|(known, _)| known == problem) {
            Some((_, workflows)) => workflows.push(workflow),
            None => found.push((problem.to_owned(), vec![workflow])),
        }
    }
    let line = |(problem, workflows): (String, Vec<String>)| {
        format!("{} (workflow {})", plain(&problem), plain(&workflows.join(", ")))
    };
    found.into_iter().map(line).collect()
}

/// One connector slot in one line.
fn slot(slot: &Value) -> String {
    let mut line = text(&slot["connector"]);
    if slot["registered"] != true {
        line.push_str(", not registered");
    }
    if let Some(name) = slot["credential"]["name"].as_str() {
        line.push_str(&format!(", credential {name} ({})", text(&slot["credential"]["scope"])));
    }
    match slot["reachable"]["ok"].as_bool() {
        Some(true) => line.push_str(", its server answers"),
        Some(false) => line.push_str(", its server does not answer"),
        None => {}
    }
    plain(&line)
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
    say!("{} {}", output.paint(Tone::Strong, &text(&plugin["name"])), output.status(&text(&plugin["state"])));
    say!("sha256 {}", text(&plugin["digest"]));
    if let Some(error) = plugin["error"].as_str() {
        say!("{}", plain(error));
    }
    for (what, key) in [("workflow", "workflows"), ("activity", "activities")] {
        for entry in plugin["definition"][key].as_array().into_iter().flatten() {
            say!("\n{what} {}", output.paint(Tone::Strong, &text(&entry["name"])));
            if let Some(about) = entry["description"].as_str() {
                say!("  {}", plain(about));
            }
            let found = plugin["connectors"].as_array().into_iter().flatten();
            let found: Vec<&Value> =
                found.filter(|slot| key == "workflows" && slot["workflow"] == entry["name"]).collect();
            for found in &found {
                say!("  connector: {}", slot(found));
                if let Some(problem) = found["problem"].as_str() {
                    say!("    {}", output.paint(Tone::Bad, &plain(problem)));
                }
            }
            let slots: Vec<String> = entry["slots"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|slot| text(&slot["connector"]))
                .collect();
            if found.is_empty() && !slots.is_empty() {
                say!("  connectors: {}", slots.join(", "));
            }
            say!("  input: {}", pretty(&entry["input_schema"]).replace('\n', "\n  "));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_lacking_is_said_once_with_the_workflows_it_is_about() {
        let plugin = json!({ "connectors": [
            { "workflow": "a", "connector": "crm", "registered": false, "problem": "no crm" },
            { "workflow": "a", "connector": "todos", "registered": true, "problem": null },
            { "workflow": "b", "connector": "crm", "registered": false, "problem": "no crm" },
        ] });
        assert_eq!(problems(&plugin), ["no crm (workflow a, b)"]);
        assert_eq!(problems(&json!({ "state": "rejected" })), Vec::<String>::new());
        assert_eq!(slot(&plugin["connectors"][0]), "crm, not registered");
        let used = json!({ "connector": "crm", "registered": true, "reachable": { "ok": false },
            "credential": { "name": "work", "scope": "workspace" } });
        assert_eq!(slot(&used), "crm, credential work (workspace), its server does not answer");
    }
}
