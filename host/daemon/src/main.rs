//! `airlock`: the daemon and the command line.

mod audit;
mod auth;
mod backup;
mod client;
mod connectors;
mod credentials;
mod demo_server;
mod document;
mod documents;
mod ended;
mod executions;
mod hardening;
#[cfg(test)]
mod help;
mod keys;
mod logging;
mod master_key;
mod output;
mod plugins;
mod questions;
mod replay;
mod run;
mod runtime;
mod scaffold;
mod schedules;
mod serve;
mod settings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    client::Daemon,
    ended::{Ended, Misuse},
    output::{Output, say},
    runtime::runtime,
};

/// Everything here is made of small, short-lived pieces on several threads: this allocator is for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs workflows that other people compiled to WebAssembly, durably, and makes their calls to services for them.
#[derive(Parser)]
#[command(name = "airlock", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    daemon: client::Options,
    /// Answer in JSON, for scripts.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[expect(clippy::large_enum_variant, reason = "there is one, read from the command line")]
#[derive(Subcommand)]
enum Command {
    /// Run the daemon.
    Serve(Box<settings::Flags>),
    /// Start a workflow and follow it to its end.
    Run(run::Arguments),
    /// Look at executions, and stop them.
    #[command(subcommand, alias = "execution")]
    Executions(executions::Command),
    /// Start workflows by the clock.
    #[command(subcommand, alias = "schedule")]
    Schedules(schedules::Command),
    /// Look at plugins, and make new ones.
    #[command(subcommand, alias = "plugin")]
    Plugins(plugins::Command),
    /// Register services, look at their tools, call them.
    #[command(subcommand, alias = "connector")]
    Connectors(connectors::Command),
    /// Store credentials for connectors.
    #[command(subcommand, alias = "credential")]
    Credentials(credentials::Command),
    /// Make and revoke API keys.
    #[command(subcommand, alias = "key")]
    Keys(keys::Command),
    /// Read and check the audit log.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Change the master key, and check what is sealed.
    #[command(subcommand)]
    Vault(audit::Vault),
    /// Repeat a downloaded history against a component, without a daemon.
    Replay(replay::Arguments),
    /// Copy a data folder, also while its daemon works.
    Backup(backup::Backup),
    /// Make a data folder from a backup.
    Restore(backup::Restore),
    /// What the daemon is doing.
    Status,
    /// Which airlock this is.
    Version,
    /// A small MCP server with a few tools, for trying things out.
    DemoServer(demo_server::Arguments),
    /// Compile one component: the daemon runs this in a process of its own.
    #[command(name = serve::COMPILER, hide = true, disable_help_flag = true)]
    CompileComponent {
        /// Limits and the rest, as the daemon writes them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        order: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && std::env::args().any(|argument| argument == "--json") => {
            let error = anyhow::Error::from(Misuse(error.to_string().trim_end().to_owned()));
            tell(&error, Ended::BadInput, true);
            return Ended::BadInput.into();
        }
        Err(error) => error.exit(),
    };
    // Before anything else is set up: it only has what it was started with.
    if let Command::CompileComponent { order } = &arguments.command {
        return airlock_sandbox::compile_component(order);
    }
    if !matches!(arguments.command, Command::Serve(_) | Command::DemoServer(_)) {
        hardening::end_quietly_with_the_reader();
    }
    let outcome = match arguments.command {
        Command::Serve(flags) => serve::main(&flags).map(|()| Ended::Well),
        command => runtime(1).and_then(|runtime| {
            runtime.block_on(dispatch(command, &arguments.daemon, Output::new(arguments.json)))
        }),
    };
    match outcome {
        Ok(ended) => ended.into(),
        Err(error) => {
            let ended = failed(&error);
            tell(&error, ended, arguments.json);
            ended.into()
        }
    }
}

/// Says on standard error why a command failed: a sentence, or for scripts `{"error": {"kind", "message"}}` with the daemon's
/// own `status` and `detail` where it was the daemon that refused. `kind` is the word for the exit code.
fn tell(error: &anyhow::Error, ended: Ended, json: bool) {
    if !json {
        return eprintln!("airlock: {error:#}");
    }
    let mut told =
        serde_json::json!({ "kind": ended.word(), "message": output::plain(&format!("{error:#}")) });
    if let Some(client::Problem::Refused { status, body, .. }) = error.downcast_ref() {
        told["status"] = status.as_u16().into();
        told["detail"] = body["detail"].clone();
    }
    eprintln!("{}", document::pretty(&serde_json::json!({ "error": told })));
}

/// How a command ends that failed with this.
fn failed(error: &anyhow::Error) -> Ended {
    match error.downcast_ref::<client::Problem>() {
        Some(problem) => problem.ended(),
        None if error.is::<Misuse>() => Ended::BadInput,
        None => Ended::Failed,
    }
}

async fn dispatch(command: Command, options: &client::Options, output: Output) -> anyhow::Result<Ended> {
    let daemon = || Daemon::new(options);
    match command {
        Command::Serve(_) | Command::CompileComponent { .. } => Ok(Ended::Well),
        Command::DemoServer(arguments) => demo_server::main(arguments).await,
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            output.value(&serde_json::json!({ "version": version }), || say!("airlock {version}"));
            Ok(Ended::Well)
        }
        Command::Plugins(plugins::Command::New { name, folder }) => {
            scaffold::new_plugin(&name, folder.as_deref(), output)
        }
        Command::Backup(arguments) => backup::main(arguments, output).await,
        Command::Restore(arguments) => backup::restore(arguments, output).await,
        Command::Replay(arguments) => replay::main(arguments, output).await,
        Command::Run(arguments) => run::main(&daemon()?, arguments, output).await,
        Command::Executions(command) => executions::main(&daemon()?, command, output).await,
        Command::Schedules(command) => schedules::main(&daemon()?, command, output).await,
        Command::Plugins(command) => plugins::main(&daemon()?, command, output).await,
        Command::Connectors(command) => connectors::main(&daemon()?, command, output).await,
        Command::Credentials(command) => credentials::main(&daemon()?, command, output).await,
        Command::Audit(command) => audit::main(&daemon()?, command, output).await,
        Command::Vault(command) => audit::vault(&daemon()?, command, output).await,
        Command::Keys(command) => keys::main(&daemon()?, command, output).await,
        Command::Status => {
            let status = daemon()?.get("/v1/airlock/status").await?;
            output.value(&status, || {
                let count =
                    |pointer: &str| status.pointer(pointer).map_or_else(String::new, ToString::to_string);
                say!("airlock {}", status["version"].as_str().unwrap_or_default());
                say!(
                    "executions: {} open, {} in memory",
                    count("/executions/open"),
                    count("/executions/loaded")
                );
                say!(
                    "connections: {} of {} open, {} refused",
                    count("/http/connections/open"),
                    count("/http/connections/most"),
                    count("/http/connections/refused")
                );
                let megabytes = |pointer: &str| {
                    status.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or_default() >> 20
                };
                say!(
                    "requests: {} MB of {} MB held, {} refused",
                    megabytes("/http/memory/held"),
                    megabytes("/http/memory/most"),
                    count("/http/memory/refused")
                );
                say!(
                    "guests: {} MB of memory, {} MB is the limit",
                    megabytes("/sandbox/guest_memory"),
                    megabytes("/sandbox/guest_memory_limit")
                );
                say!(
                    "schemas: {} checks do not end, {} since the start",
                    count("/schemas/lost_threads"),
                    count("/schemas/lost_ever")
                );
            });
            Ok(Ended::Well)
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn what_was_typed_wrongly_ends_otherwise_than_what_went_wrong() {
        let misuse = run::json_argument("--set", "notjson").expect_err("is no JSON");
        assert!(misuse.to_string().starts_with("--set: it is not JSON: "), "{misuse}");
        assert_eq!(failed(&misuse), Ended::BadInput);
        let unread = run::json_argument("--set", "@/nowhere/at/all.json").expect_err("is no file");
        assert!(unread.to_string().contains("/nowhere/at/all.json cannot be read"), "{unread}");
        assert_eq!(failed(&unread), Ended::BadInput);
        assert_eq!(failed(&misuse.context("more about it")), Ended::BadInput);
        assert_eq!(failed(&anyhow::anyhow!("the disk is full")), Ended::Failed);
        let gone: anyhow::Error = client::Problem::Unreachable("http://nowhere".into()).into();
        assert_eq!(failed(&gone), Ended::Unreachable);
        assert_eq!(
            failed(&Err::<(), _>(gone).context("more about it").expect_err("fails")),
            Ended::Unreachable
        );
    }
}
