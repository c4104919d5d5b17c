//! `airlock connectors …`

mod shown;

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use self::shown::{
    answered, approved, failed_otherwise, missing, next_step, pin, report_steps, report_waiting, row,
    to_approve, waiting, warn,
};
use crate::{
    auth::{Auth, OfOauth},
    client::{Daemon, segment},
    document::pretty,
    documents,
    ended::{Ended, Misuse},
    output::{Output, Tone, plain, say, short, text},
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
    /// Register an MCP server or a REST API as a connector.
    Add {
        /// Its name, by which plugins refer to it.
        name: String,
        /// The MCP server's address, or the base address of the API [default: the first one in the OpenAPI document].
        #[arg(long)]
        server: Option<String>,
        #[arg(long, default_value_t = Auth::Auto, help = Auth::help())]
        auth: Auth,
        /// For a REST API: its OpenAPI document, a file or an address.
        #[arg(long)]
        openapi: Option<String>,
        /// For an OpenAPI document in several files: the folder that they are in [default: the document's own].
        #[arg(long, requires = "openapi")]
        ref_dir: Option<PathBuf>,
        /// For a REST API: a file with a JSON list of operations.
        #[arg(long, conflicts_with = "openapi")]
        operations: Option<PathBuf>,
        /// For oauth2: a client that was registered beforehand. Its secret, if it has one, is read from the variable
        /// AIRLOCK_CLIENT_SECRET.
        #[arg(long)]
        client_id: Option<String>,
        /// For oauth2: what to ask for. May be given several times.
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// For oauth2: the address of the authorization server's metadata.
        #[arg(long)]
        oauth_metadata: Option<String>,
        /// For oauth2: the issuer of a server whose metadata are published under another name. Exactly that issuer is
        /// accepted, and no other.
        #[arg(long, value_name = "URL")]
        oauth_issuer: Option<String>,
        /// For oauth2: what tokens are asked for: an address instead of the server's, or none for an authorization server
        /// that refuses the parameter 'resource'.
        #[arg(long, value_name = "none|URL")]
        oauth_resource: Option<String>,
        /// Tools cannot be called before somebody has looked at them: `airlock connectors approve`.
        #[arg(long)]
        review_tools: bool,
        /// Others are made from it, with --from.
        #[arg(long)]
        template: bool,
        /// Make it from a template: the same operations.
        #[arg(long, conflicts_with_all = ["openapi", "operations"])]
        from: Option<String>,
        /// For people.
        #[arg(long, default_value = "")]
        description: String,
        /// A title for people.
        #[arg(long)]
        title: Option<String>,
        /// Who sees it [default: the workspace; nobody else, if you are a member].
        #[arg(long, value_parser = ["private", "shared_workspace", "shared_org"])]
        visibility: Option<String>,
    },
    /// Change a connector.
    Update {
        /// Its name or id.
        name: String,
        /// Another address. Credentials that were stored for the old one have to be stored again.
        #[arg(long)]
        server: Option<String>,
        /// Another way to authenticate, in place of all that the connector had: as for `connectors add`, without auto.
        #[arg(long)]
        auth: Option<Auth>,
        /// With --auth oauth2: a client that was registered beforehand. Its secret, if it has one, is read from the variable
        /// AIRLOCK_CLIENT_SECRET.
        #[arg(long, requires = "auth")]
        client_id: Option<String>,
        /// With --auth oauth2: what to ask for. May be given several times.
        #[arg(long = "scope", requires = "auth")]
        scopes: Vec<String>,
        /// With --auth oauth2: the address of the authorization server's metadata.
        #[arg(long, requires = "auth")]
        oauth_metadata: Option<String>,
        /// For people.
        #[arg(long)]
        description: Option<String>,
        /// A title for people.
        #[arg(long)]
        title: Option<String>,
        /// For oauth2: the issuer of a server whose metadata are published under another name; empty for none.
        #[arg(long, value_name = "URL")]
        oauth_issuer: Option<String>,
        /// For oauth2: what tokens are asked for: none, an address, or empty for what the server says.
        #[arg(long, value_name = "none|URL")]
        oauth_resource: Option<String>,
        /// Approve the operations of a REST API that are sent elsewhere, or otherwise, because of this.
        #[arg(long)]
        approve: bool,
    },
    /// Import an OpenAPI document again.
    Import {
        /// The connector's name or id.
        name: String,
        /// The document, a file.
        document: PathBuf,
        /// For a document in several files: the folder that they are in [default: the document's own].
        #[arg(long)]
        ref_dir: Option<PathBuf>,
        /// Approve the operations that the document changes: for who has looked at it. Without it they wait, and the answer
        /// says which.
        #[arg(long)]
        approve: bool,
    },
    /// Say what a connector may do, or show it.
    Control {
        /// Its name or id.
        name: String,
        /// The rules: JSON, or @FILE with JSON in it. What they do not name has its default.
        #[arg(long)]
        set: Option<String>,
    },
    /// Show the pinned tools of a connector.
    Pins {
        /// Its name or id.
        name: String,
    },
    /// Approve the new definition of a tool, or of all that have changed.
    Approve {
        /// The connector's name or id.
        name: String,
        /// The tool.
        tool: Option<String>,
    },
    /// Write the mocks of a connector, or show them.
    Mock {
        /// Its name or id.
        name: String,
        /// Add an answer for this tool.
        #[arg(requires = "answer")]
        tool: Option<String>,
        /// The answer: `{"data": …}`, `{"text": "…"}`, `{"error": "…"}` or a whole tool response, JSON or @FILE.
        #[arg(long, requires = "tool")]
        answer: Option<String>,
        /// Only for calls whose arguments contain these: JSON, or @FILE.
        #[arg(long, requires = "tool")]
        arguments: Option<String>,
        /// Replace all written mocks: `{"mocks": […], "tools": […]}`, JSON or @FILE.
        #[arg(long, conflicts_with = "tool")]
        set: Option<String>,
        /// Remove them all, recorded ones as well.
        #[arg(long, conflicts_with_all = ["set", "tool"])]
        clear: bool,
    },
    /// Share a connector with the workspace or the organisation, or take that back.
    Share {
        /// Its name or id.
        name: String,
        /// With the organisation.
        #[arg(long)]
        organization: bool,
        /// Make it private again. Everybody else's credentials for it are deleted.
        #[arg(long)]
        undo: bool,
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
        /// Show those that cannot be called as well, and why: with an owner's key.
        #[arg(long)]
        all: bool,
    },
    /// Try a connector step by step: what it speaks, which credential is used, what the server lists, what was left out.
    Check {
        /// Its name or id.
        name: String,
        /// The credential to use.
        #[arg(long)]
        credential: Option<String>,
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
        /// Answer from a mock.
        #[arg(long)]
        mock: bool,
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
            output.value(&connector, || say!("{}", pretty(&connector)));
        }
        Command::Add {
            name,
            server,
            auth,
            openapi,
            ref_dir,
            operations,
            client_id,
            scopes,
            oauth_metadata,
            oauth_issuer,
            oauth_resource,
            review_tools,
            template,
            from,
            description,
            title,
            visibility,
        } => {
            let of_oauth = OfOauth {
                client_id: client_id.is_some(),
                scope: !scopes.is_empty(),
                metadata: oauth_metadata.is_some(),
                issuer: oauth_issuer.is_some(),
                resource: oauth_resource.is_some(),
            };
            of_oauth.check(&auth)?;
            let is_rest = openapi.is_some() || operations.is_some() || from.is_some();
            let mut body = json!({
                "name": name, "description": description, "title": title, "visibility": visibility,
                "protocol": if is_rest { "http" } else { "mcp" }, "server": server,
            });
            if template {
                body["is_template"] = true.into();
            }
            if review_tools {
                body["control"] = json!({ "review": true });
            }
            if let Some(template) = from {
                body["template"] = template.into();
            }
            if let Some(method) = auth.wire(client_id, scopes) {
                body["auth_methods"] = json!([method]);
            }
            if let Some(url) = oauth_metadata {
                body["oauth2_server_metadata_url"] = url.into();
            }
            for (field, value) in [("oauth_issuer", oauth_issuer), ("oauth_resource", oauth_resource)] {
                if let Some(value) = value {
                    body[field] = value.into();
                }
            }
            if let Some(file) = operations {
                body["operations"] = json_argument("--operations", &format!("@{}", file.display()))?;
            }
            let document = match openapi {
                Some(url) if url.starts_with("https://") || url.starts_with("http://") => {
                    body["openapi_url"] = url.into();
                    None
                }
                Some(file) => Some(PathBuf::from(file)),
                None => None,
            };
            if document.is_none() && ref_dir.is_some() {
                let message =
                    "--ref-dir is for a document that is a file: an address says where its other files are";
                return Err(Misuse(message.into()).into());
            }
            let read = document.as_deref().map(|file| documents::read(file, ref_dir.as_deref()));
            let read = read.transpose().map_err(|error| Misuse::of(&error))?;
            if let (Some(read), Value::Null) = (&read, &body["server"]) {
                let named =
                    airlock_connectors::document_server(read).map_err(|error| Misuse(error.to_string()))?;
                let nowhere = || Misuse("the document does not say where the API is: give --server".into());
                body["server"] = named.ok_or_else(nowhere)?.into();
            }
            let mut connector = daemon.post("/v1/connectors", &body).await?;
            if let (Some(file), Some(document)) = (&document, read) {
                // A connector without its operations is of no use.
                let imported = match import(daemon, &name, file, document, false).await {
                    Ok(imported) => imported,
                    Err(error) => {
                        let _ = daemon.call(Method::DELETE, &path(&name, ""), None).await;
                        return Err(error);
                    }
                };
                connector = daemon.get(&path(&name, "")).await?;
                for told in ["operations", "skipped", "notes"] {
                    connector[told] = imported[told].clone();
                }
            }
            // What was asked just now is not asked again.
            connector["check"] = daemon.post(&own(&name, "check"), &json!({ "refresh": false })).await?;
            output.value(&connector, || {
                say!("connector {} was registered{}", text(&connector["name"]), next_step(&connector));
                report_steps(output, &connector["found_out"]);
                report_steps(output, &connector["check"]["steps"]);
                documents::tell(&connector);
            });
            if failed_otherwise(&connector["check"]) {
                warn(
                    output,
                    &format!(
                        "it is registered and cannot be used yet, as a step failed: `airlock connectors check {name}` tries again"
                    ),
                );
            }
        }
        Command::Update {
            name,
            server,
            auth,
            client_id,
            scopes,
            oauth_metadata,
            description,
            title,
            oauth_issuer,
            oauth_resource,
            approve,
        } => {
            let mut body = json!({});
            if let Some(auth) = auth {
                let of_oauth = OfOauth {
                    client_id: client_id.is_some(),
                    scope: !scopes.is_empty(),
                    metadata: oauth_metadata.is_some(),
                    issuer: oauth_issuer.is_some(),
                    resource: oauth_resource.is_some(),
                };
                of_oauth.check(&auth)?;
                let method = auth.wire(client_id, scopes);
                let auto = || Misuse("--auth auto is for `connectors add`: say which way".into());
                body["auth_methods"] = json!([method.ok_or_else(auto)?]);
            }
            if let Some(url) = oauth_metadata {
                body["oauth2_server_metadata_url"] = url.into();
            }
            for (field, value) in [
                ("server", server),
                ("description", description),
                ("title", title),
                ("oauth_issuer", oauth_issuer),
                ("oauth_resource", oauth_resource),
            ] {
                if let Some(value) = value {
                    body[field] = value.into();
                }
            }
            if body == json!({}) {
                return Err(Misuse("nothing to change was given: see --help".into()).into());
            }
            let rest = if approve { "?approve=true" } else { "" };
            let connector = daemon.call(Method::PATCH, &path(&name, rest), Some(&body)).await?;
            output.value(&connector, || {
                say!("connector {} was changed{}", text(&connector["name"]), next_step(&connector));
                report_steps(output, &connector["found_out"]);
                report_waiting(&text(&connector["name"]), &connector);
            });
        }
        Command::Import { name, document, ref_dir, approve } => {
            let read = documents::read(&document, ref_dir.as_deref());
            let read = read.map_err(|error| Misuse::of(&error))?;
            let answer = import(daemon, &name, &document, read, approve).await?;
            output.value(&answer, || {
                say!("{}", text(&answer["message"]));
                documents::tell(&answer);
                report_waiting(&name, &answer);
            });
            for warning in answer["warnings"].as_array().into_iter().flatten() {
                warn(output, &text(warning));
            }
        }
        Command::Control { name, set } => {
            let path = own(&name, "control");
            let control = match set {
                None => daemon.get(&path).await?,
                Some(rules) => {
                    daemon.call(Method::PUT, &path, Some(&json_argument("--set", &rules)?)).await?
                }
            };
            output.value(&control, || say!("{}", pretty(&control)));
        }
        Command::Pins { name } => {
            let pins = daemon.get(&own(&name, "pins")).await?;
            let rows: Vec<Vec<String>> = pins["pins"].as_array().into_iter().flatten().map(pin).collect();
            output.value(&pins["pins"], || {
                output.table(&["TOOL", "STATE", "SINCE", "DIGEST"], &rows);
                match waiting(&pins) {
                    0 if rows.is_empty() => {
                        say!("\nno tools were listed yet: `airlock connectors check {name}` asks for them");
                    }
                    0 => {}
                    waiting => say!("\n{}", to_approve(&name, waiting)),
                }
            });
        }
        Command::Approve { name, tool } => {
            let answer = daemon.post(&own(&name, "pins/approve"), &json!({ "tool": tool })).await?;
            output.value(&answer, || match approved(&answer) {
                Some(approved) => say!("{approved}"),
                None => say!("nothing had changed"),
            });
        }
        Command::Mock { name, tool: Some(tool), answer: Some(answer), arguments, .. } => {
            let mut mock = json!({ "tool": tool, "answer": json_argument("--answer", &answer)? });
            if let Some(arguments) = arguments {
                mock["arguments"] = json_argument("--arguments", &arguments)?;
            }
            let mocks = daemon.post(&own(&name, "mocks"), &mock).await?;
            output.value(&mocks, || say!("{}", pretty(&mocks)));
        }
        Command::Mock { name, set, clear, .. } => {
            let path = own(&name, "mocks");
            let answer = match set {
                _ if clear => daemon.call(Method::DELETE, &path, None).await?,
                None => daemon.get(&path).await?,
                Some(mocks) => {
                    daemon.call(Method::PUT, &path, Some(&json_argument("--set", &mocks)?)).await?
                }
            };
            output.value(&answer, || match clear {
                true => say!("{}", text(&answer["message"])),
                false => say!("{}", pretty(&answer)),
            });
        }
        Command::Share { name, organization, undo } => {
            let rest = if organization { "/organization/share" } else { "/share" };
            let method = if undo { Method::DELETE } else { Method::PUT };
            let answer = daemon.call(method, &path(&name, rest), None).await?;
            output.value(&answer, || say!("{}", text(&answer["message"])));
        }
        Command::Remove { name } => {
            let answer = daemon.call(Method::DELETE, &path(&name, ""), None).await?;
            output.value(&answer, || say!("{}", text(&answer["message"])));
        }
        Command::Tools { name, credential, refresh, all } => {
            let mut query = format!("/tools?refresh={refresh}&all={all}");
            credential
                .iter()
                .for_each(|name| query.push_str(&format!("&credentials_name={}", segment(name))));
            let tools = daemon.get(&path(&name, &query)).await?;
            output.value(&tools, || {
                for tool in tools.as_array().into_iter().flatten() {
                    say!(
                        "{}  {}",
                        output.paint(Tone::Strong, &text(&tool["name"])),
                        short(&text(&tool["description"]), 90)
                    );
                    if let Some(reason) = tool["airlock"]["reason"].as_str() {
                        say!("    {}", output.paint(Tone::Busy, &plain(reason)));
                    }
                }
            });
            if !all && !output.json {
                let shown = tools.as_array().map_or(0, Vec::len);
                // What is missing is worth a word, and no error.
                let pins = daemon.get(&own(&name, "pins")).await.unwrap_or_default();
                if let Some(hint) = missing(&name, shown, &pins) {
                    eprintln!("{}", plain(&hint));
                }
            }
        }
        Command::Check { name, credential } => {
            let report =
                daemon.post(&own(&name, "check"), &json!({ "credentials_name": credential })).await?;
            output.value(&report, || report_steps(output, &report["steps"]));
            if report["ok"] != true {
                return Ok(Ended::Failed);
            }
        }
        Command::Call { name, tool, arguments, credential, mock } => {
            let arguments = json_argument("--arguments", &arguments)?;
            let mut rest = format!("/tools/{}/call", segment(&tool));
            credential.iter().for_each(|name| rest.push_str(&format!("?credentials_name={}", segment(name))));
            let answer = daemon
                .post(
                    &path(&name, &rest),
                    &json!({
                        "arguments": arguments, "options": { "use_mock": mock },
                    }),
                )
                .await?;
            output.value(&answer, || answered(&answer).iter().for_each(|part| say!("{part}")));
            if answer["metadata"]["mcp_meta"]["isError"] == true {
                return Ok(Ended::Failed);
            }
        }
    }
    Ok(Ended::Well)
}

fn own(name: &str, what: &str) -> String {
    format!("/v1/airlock/connectors/{}/{what}", segment(name))
}

async fn import(
    daemon: &Daemon,
    name: &str,
    file: &Path,
    document: Vec<u8>,
    approve: bool,
) -> anyhow::Result<Value> {
    let source = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let approve = if approve { "&approve=true" } else { "" };
    daemon
        .put_bytes(&format!("{}?source={}{approve}", own(name, "openapi"), segment(&source)), document)
        .await
}
