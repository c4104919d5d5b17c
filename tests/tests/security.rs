//! The promise of THREATS.md on the real binary: what a connector's secret passes, it does not stay in.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use airlock_tests::{Canary, Daemon, LIMIT, Server, Setup, binary, guest};
use reqwest::{Method, StatusCode};
use serde_json::json;

/// The demo server behind a bearer token.
async fn service(token: &str) -> Server {
    Server::start("demo-server", |port| {
        let mut command = Command::new(binary());
        command
            .args(["demo-server", "--token-env", "DEMO_TOKEN", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .env("DEMO_TOKEN", token);
        command
    })
    .await
}

#[tokio::test]
async fn rows_1_16_17_18_25_a_planted_secret_is_in_no_answer_event_log_or_file() {
    let canary = Canary::new("path");
    let service = service(&canary.secret).await;
    let plugins = [guest("github-issues"), guest("echo"), guest("hostile")];
    let setup = Setup::new(&plugins).with(&["--allow-loopback", "--log", "trace"]);
    let mut daemon = setup.start().await;
    let client = daemon.client.clone();
    for connector in ["github_app", "reflector"] {
        client.add_connector(connector, &service.url("/mcp"), "bearer").await;
        client.add_credential(connector, "main", &canary.secret).await;
    }

    let issue = json!({ "owner": "o", "repo": "r", "title": "t", "body": "b" });
    let mut executions = vec![client.start("github-issue-creator", issue).await];
    // The tool tells all headers of its request, in an activity and in a workflow.
    for workflow in ["echo", "echo-twice", "echo-in-workflow"] {
        executions.push(client.start(workflow, json!({ "tool": "headers_echo" })).await);
    }
    executions.push(client.start("echo-list", json!({})).await);
    executions.push(client.start("echo", json!({ "tool": "no_such_tool" })).await);
    executions.push(client.start("authorise", json!({})).await);
    executions.push(client.start("hostile", json!({ "deed": "environment" })).await);
    let mut redacted = 0;
    for id in &executions {
        let ended = client.ended(id, LIMIT).await.to_string();
        redacted += usize::from(ended.contains("[REDACTED]"));
        canary.check_text(&ended, "a result");
        for event in client.events(id).await {
            canary.check_text(&event.to_string(), "an event");
        }
        for path in ["history", "stream"] {
            let (_, body) =
                client.call(Method::GET, &format!("/v1/workflows/executions/{id}/{path}"), None).await;
            canary.check_text(&body.to_string(), path);
        }
        let shown = daemon.cli(&["executions", "show", id, "--json"], "");
        canary.check_text(&String::from_utf8_lossy(&shown.stdout), "the command line");
    }
    assert_eq!(redacted, 3, "the tool did send the header back, and the host took it out");
    for path in [
        "/v1/connectors",
        "/v1/connectors/reflector?fetch_user_data=true",
        "/v1/connectors/reflector/user/credentials",
        "/v1/connectors/reflector/tools",
        "/v1/connectors/reflector/tools?pretty=true",
        "/v1/connectors/reflector/authentication_methods",
        "/v1/airlock/plugins",
        "/v1/airlock/status",
    ] {
        canary.check_text(&client.get(path).await.to_string(), path);
    }
    let direct =
        client.post("/v1/connectors/reflector/tools/headers_echo/call", &json!({ "arguments": {} })).await;
    assert!(direct.to_string().contains("[REDACTED]"), "{direct}");
    canary.check_text(&direct.to_string(), "a direct call");

    // Also what the write-ahead log holds at the moment of a crash.
    daemon.kill();
    canary.check_folder(daemon.setup.folder.path());
    assert!(daemon.setup.log().contains("TRACE"), "the log is as verbose as it can be");
}

/// A server that answers everything with a status, and with the request that it was sent as the body.
fn echo_with(status: &'static str, content_type: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = vec![0; 8_192];
            let Ok(length) = stream.read(&mut request) else { continue };
            let body = String::from_utf8_lossy(&request[..length]).into_owned();
            let head = format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\nconnection: close");
            // The client may have gone.
            let _ = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

#[tokio::test]
async fn rows_2_and_18_an_error_names_the_host_and_not_the_url_or_the_body_and_the_log_neither() {
    let canary = Canary::new("error");
    let daemon = Setup::new(&[guest("echo")]).with(&["--allow-loopback", "--log", "trace"]).start().await;
    let client = &daemon.client;
    client.add_connector("reflector", "http://127.0.0.1:9/mcp?api_key=visible-in-the-url", "bearer").await;
    for (status, content_type) in [
        ("500 Internal Server Error", "text/plain"),
        ("400 Bad Request", "text/plain"),
        ("400 Bad Request", "application/json"),
        ("401 Unauthorized", "text/plain"),
        ("403 Forbidden", "application/json"),
        ("200 OK", "text/html"),
        ("200 OK", "application/json"),
        ("200 OK", "text/event-stream"),
    ] {
        let port = echo_with(status, content_type);
        let server = format!("http://127.0.0.1:{port}/mcp?api_key=visible-in-the-url");
        let change = json!({ "protocol": "mcp", "server": server });
        let (changed, answer) = client.call(Method::PATCH, "/v1/connectors/reflector", Some(&change)).await;
        assert!(changed.is_success(), "{answer}");
        client.add_credential("reflector", "main", &canary.secret).await;
        let (code, body) = client.call(Method::GET, "/v1/connectors/reflector/tools", None).await;
        assert!(code.is_server_error() || code.is_client_error(), "{status}: {code} {body}");
        // What refuses a credential says so, with a challenge or without.
        let is_refused = status.starts_with("401") || status.starts_with("403");
        assert_eq!(code == StatusCode::FORBIDDEN, is_refused, "{status}: {code} {body}");
        let id = client.start("echo", json!({ "tool": "any" })).await;
        let ended = client.ended(&id, LIMIT).await;
        assert_eq!(ended["status"], "FAILED", "{status}");
        for text in [body.to_string(), ended["failure"].to_string()] {
            canary.check_text(&text, "an error");
            assert!(text.contains("127.0.0.1"), "{status}: the host is named: {text}");
            assert!(!text.contains("visible-in-the-url") && !text.contains("Bearer"), "{status}: {text}");
        }
    }
    let log = daemon.setup.log();
    canary.check_text(&log, "the log");
    assert!(!log.contains("visible-in-the-url"), "the log holds the address");
}

#[tokio::test]
async fn row_10_a_credential_is_not_sent_to_another_server_than_it_was_stored_for() {
    let canary = Canary::new("origin");
    let service = service(&canary.secret).await;
    let daemon = Daemon::with(&[]).await;
    let client = &daemon.client;
    client.add_connector("moved", &service.url("/mcp"), "bearer").await;
    client.add_credential("moved", "main", &canary.secret).await;
    client.get("/v1/connectors/moved/tools").await;
    let thief = echo_with("200 OK", "text/plain");
    let body = json!({ "protocol": "mcp", "server": format!("http://127.0.0.1:{thief}/mcp") });
    let (status, answer) = client.call(Method::PATCH, "/v1/connectors/moved", Some(&body)).await;
    assert!(status.is_success(), "{answer}");
    let (status, answer) = client.call(Method::GET, "/v1/connectors/moved/tools", None).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    assert!(
        answer["detail"]
            .as_str()
            .expect("a sentence")
            .contains("has changed since credential 'main' was stored")
    );
    let listed = client.get("/v1/connectors/moved/user/credentials").await;
    assert_eq!(listed["credentials"][0]["status"]["status_type"], "invalid", "{listed}");
}

#[tokio::test]
async fn row_18_the_daemon_leaves_no_core_dump() {
    let daemon = Daemon::with(&[]).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id())).expect("reads");
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(line.split_whitespace().nth(4), Some("0"), "{line}");
}

#[tokio::test]
async fn row_3_no_request_follows_a_redirect_to_another_host() {
    let canary = Canary::new("redirect");
    let (requests, elsewhere) =
        (Arc::new(AtomicUsize::new(0)), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let target = elsewhere.local_addr().expect("an address");
    let seen = Arc::clone(&requests);
    std::thread::spawn(move || {
        for _ in elsewhere.incoming() {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    let httpbin = Server::httpbin().await;
    let daemon = Daemon::with(&[]).await;
    let server = httpbin.url(&format!("/redirect-to?url=http%3A%2F%2F{target}%2Fmcp&status_code=307"));
    daemon.client.add_connector("moved", &server, "bearer").await;
    daemon.client.add_credential("moved", "main", &canary.secret).await;
    let (status, body) = daemon.client.call(Method::GET, "/v1/connectors/moved/tools", None).await;
    assert!(!status.is_success(), "{status} {body}");
    assert_eq!(requests.load(Ordering::SeqCst), 0, "the other host was asked");
}

#[tokio::test]
async fn row_7_a_request_carries_the_hosts_headers_and_none_of_the_guests_choice() {
    let service = service("any-token-will-do").await;
    let daemon = Daemon::with(&[guest("echo")]).await;
    daemon.client.add_connector("reflector", &service.url("/mcp"), "bearer").await;
    daemon.client.add_credential("reflector", "main", "any-token-will-do").await;
    let wished =
        json!({ "headers": { "x-evil": "1", "authorization": "Bearer mine" }, "x-evil": "1", "_meta": {} });
    let result = daemon.client.execute("echo", json!({ "tool": "headers_echo", "arguments": wished })).await;
    let headers = result["metadata"]["mcp_meta"]["structuredContent"].as_object().expect("headers").clone();
    let allowed = [
        "accept",
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "mcp-protocol-version",
        "mcp-session-id",
        "user-agent",
    ];
    for name in headers.keys() {
        assert!(allowed.contains(&name.as_str()) || name.starts_with("mcp-"), "{name} was sent along");
    }
    // The value as a whole is a secret, scheme and all.
    assert_eq!(headers["authorization"], "[REDACTED]");
    assert!(headers["user-agent"].as_str().expect("text").starts_with("airlock/"));
}

#[tokio::test]
async fn row_8_a_server_inside_the_network_is_refused_unless_the_operator_allows_it() {
    let service = service("any-token-will-do").await;
    let daemon = Setup::new(&[]).start().await;
    for server in [service.url("/mcp"), "http://169.254.169.254/latest".into(), "http://[::1]:1/mcp".into()] {
        let body = json!({ "name": format!("c{}", server.len()), "description": "d", "server": server,
            "protocol": "mcp", "auth_methods": [{ "method_type": "none" }] });
        let (status, answer) = daemon.client.call(Method::POST, "/v1/connectors", Some(&body)).await;
        if status == StatusCode::CREATED {
            let path = format!("/v1/connectors/{}/tools", body["name"].as_str().expect("a name"));
            let (status, answer) = daemon.client.call(Method::GET, &path, None).await;
            assert!(!status.is_success(), "{server}: {status} {answer}");
        } else {
            assert!(status.is_client_error(), "{server}: {status} {answer}");
        }
    }
}

#[tokio::test]
async fn row_15_a_users_execution_never_uses_another_users_credential() {
    let canary = Canary::new("owner");
    let service = service(&canary.secret).await;
    let daemon = Daemon::with(&[guest("echo")]).await;
    let (owner, stranger) = (daemon.client.clone(), daemon.user("mallory").await);
    owner.add_connector("reflector", &service.url("/mcp"), "bearer").await;
    owner.add_credential("reflector", "main", &canary.secret).await;
    let body = json!({ "input": { "tool": "issue_list" },
        "extensions": { "mistralai": { "connectors": { "bindings":
            [{ "connector_name": "reflector", "credentials_name": "main" }] } } } });
    let id = owner.post("/v1/workflows/echo/execute", &body).await["execution_id"].clone();
    assert_eq!(owner.ended(id.as_str().expect("an id"), LIMIT).await["status"], "COMPLETED");

    let (status, answer) = stranger.call(Method::POST, "/v1/workflows/echo/execute", Some(&body)).await;
    assert!(status.is_success(), "{answer}");
    let theirs = stranger.ended(answer["execution_id"].as_str().expect("an id"), LIMIT).await;
    assert_eq!(theirs["status"], "FAILED");
    let expected = "Credential 'main' not found for connector 'reflector'";
    assert!(theirs["failure"]["message"].as_str().expect("a message").starts_with(expected), "{theirs}");
    let unbound = stranger.start("echo", json!({ "tool": "issue_list" })).await;
    let message = stranger.ended(&unbound, LIMIT).await["failure"]["message"].to_string();
    assert!(
        message.contains("requires bearer authentication but no credentials are configured"),
        "{message}"
    );
    let (status, answer) = stranger.call(Method::GET, "/v1/connectors/reflector/tools", None).await;
    assert!(status.is_client_error(), "{status} {answer}");
    let theirs = stranger.get("/v1/connectors/reflector/user/credentials").await;
    assert_eq!(theirs["credentials"], json!([]));
}

#[tokio::test]
async fn row_24_two_swapped_rows_of_the_vault_do_not_open() {
    let (one, two) = (Canary::new("one"), Canary::new("two"));
    let service = service(&one.secret).await;
    let mut daemon = Daemon::with(&[]).await;
    for (connector, canary) in [("first", &one), ("second", &two)] {
        daemon.client.add_connector(connector, &service.url("/mcp"), "bearer").await;
        daemon.client.add_credential(connector, "main", &canary.secret).await;
    }
    daemon.client.get("/v1/connectors/first/tools").await;
    daemon.stop().await;
    let database = rusqlite::Connection::open(daemon.setup.data().join("airlock.db")).expect("opens");
    let mut statement = database
        .prepare("SELECT key, value FROM records WHERE name = 'vault' ORDER BY key")
        .expect("prepares");
    let rows: Vec<(String, Vec<u8>)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("reads")
        .map(|row| row.expect("reads"))
        .collect();
    assert_eq!(rows.len(), 2, "one row a credential");
    for (key, value) in [(&rows[0].0, &rows[1].1), (&rows[1].0, &rows[0].1)] {
        database
            .execute(
                "UPDATE records SET value = ?2 WHERE key = ?1 AND name = 'vault'",
                rusqlite::params![key, value],
            )
            .expect("is swapped");
    }
    drop(statement);
    drop(database);
    daemon.restart().await;
    for connector in ["first", "second"] {
        let path = format!("/v1/connectors/{connector}/tools");
        let (status, body) = daemon.client.call(Method::GET, &path, None).await;
        assert!(!status.is_success(), "{connector}: {status} {body}");
    }
}

#[test]
fn code_that_touches_guest_memory_cannot_name_a_secret() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "airlock-sandbox", "-e", "normal", "--prefix", "none"])
        .current_dir(airlock_tests::root())
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(tree.contains("wasmtime "), "{tree}");
    for room in ["airlock-connectors", "reqwest", "rmcp"] {
        assert!(!tree.contains(room), "the sandbox depends on {room}");
    }
}
