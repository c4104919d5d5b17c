//! MCP servers of other SDKs that forget their sessions: each is stopped and started again in the middle. They say so in
//! their own ways (404; 400 with text; 400 with an error without an id), and one redirects `/mcp` to `/mcp/`.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use airlock_tests::{Daemon, Server, dependency, guest};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A server of the Python SDK, old (`mcp` 1.9) or new, or of fastmcp, with one tool.
const PYTHON: &str = r#"
import sys
kind, port = sys.argv[1], int(sys.argv[2])
if kind == "old":
    from mcp.server.fastmcp import FastMCP
    server = FastMCP("t", host="127.0.0.1", port=port)
elif kind == "new":
    from mcp.server.mcpserver import MCPServer
    server = MCPServer("t")
else:
    from fastmcp import FastMCP
    server = FastMCP("t")

@server.tool()
def echo(message: str) -> str:
    return "Echo: " + message

if kind == "old":
    server.run(transport="streamable-http")
elif kind == "new":
    server.run("streamable-http", host="127.0.0.1", port=port)
else:
    server.run(transport="http", host="127.0.0.1", port=port)
"#;

fn python(folder: &Path, venv: &str, kind: &str, port: u16) -> Command {
    let mut command = Command::new(folder.join(venv).join("bin/python"));
    command.args(["-c", PYTHON, kind, &port.to_string()]);
    command
}

fn typescript(folder: &Path, port: u16) -> Command {
    let example = "node_modules/@modelcontextprotocol/sdk/dist/esm/examples/server/simpleStreamableHttp.js";
    let mut command = Command::new("node");
    command.arg(folder.join(example)).env("MCP_PORT", port.to_string());
    command
}

/// Calls a tool before and after the server was started again, and gives what it said.
async fn survives(name: &str, build: impl Fn(u16) -> Command, tool: &str, arguments: Value) {
    let server = Server::start(name, &build).await;
    let port = server.port;
    let daemon = Daemon::with(&[guest("echo")]).await;
    let client = &daemon.client;
    client.add_connector("reflector", &server.url("/mcp"), "none").await;
    let path = format!("/v1/connectors/reflector/tools/{tool}/call");
    let call = async |when: &str| {
        let began = Instant::now();
        let (status, answer) =
            client.call(Method::POST, &path, Some(&json!({ "arguments": arguments }))).await;
        assert_eq!(status, StatusCode::OK, "{name} {when}: {answer}");
        assert!(answer["content"][0]["text"].is_string(), "{name} {when}: {answer}");
        assert!(began.elapsed() < Duration::from_secs(60), "{name} {when}: {:?}", began.elapsed());
    };
    call("before").await;
    drop(server);
    let server = Server::on(port, name, &build).await;
    call("after").await;
    call("again").await;
    let listed = client.get("/v1/connectors/reflector/tools?refresh=true").await;
    assert!(listed.to_string().contains(tool), "{name}: {listed}");
    drop(server);
}

#[tokio::test]
async fn a_server_of_the_typescript_sdk_that_is_restarted_is_called_on() {
    let folder = dependency("mcp-sessions");
    survives("simpleStreamableHttp", |port| typescript(&folder, port), "greet", json!({ "name": "you" }))
        .await;
}

#[tokio::test]
async fn servers_of_the_python_sdk_that_are_restarted_are_called_on() {
    let folder = dependency("mcp-sessions");
    let message = json!({ "message": "hi" });
    survives("mcp 1.9.4", |port| python(&folder, "mcp-1.9.4", "old", port), "echo", message.clone()).await;
    survives("mcp 2.3.0", |port| python(&folder, "mcp-2.3.0", "new", port), "echo", message).await;
}

#[tokio::test]
async fn a_server_of_fastmcp_that_is_restarted_is_called_on() {
    let folder = dependency("mcp-sessions");
    let message = json!({ "message": "hi" });
    survives("fastmcp", |port| python(&folder, "fastmcp-4.1.2", "fastmcp", port), "echo", message).await;
}
