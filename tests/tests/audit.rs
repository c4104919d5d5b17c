//! The audit log of the real daemon: what it says, what it does not say, and what happens when somebody or something
//! touches it.

use std::{fs, path::PathBuf};

use airlock_tests::{Canary, Daemon, LIMIT, Service, Setup, eventually, guest, text_result, tools};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const CALL: &str = "/v1/connectors/reflector/tools/echo/call";

async fn service() -> Service {
    Service::mcp(|method, parameters, _| {
        Ok(match method {
            "tools/list" => tools(&["echo"]),
            _ => text_result(&parameters["arguments"].to_string()),
        })
    })
    .await
}

async fn daemon(setup: Setup, service: &Service) -> Daemon {
    let daemon = setup.with(&["--allow-loopback"]).start().await;
    daemon.client.add_connector("reflector", &service.url("/mcp"), "bearer").await;
    daemon.client.add_credential("reflector", "main", "the-token-of-the-owner").await;
    daemon
}

fn log_file(daemon: &Daemon) -> PathBuf {
    daemon.inside(&daemon.setup.data()).join("audit/audit-00000001.jsonl")
}

/// Whether the log is whole, and what the command line says about it.
fn verify(daemon: &Daemon) -> (bool, String) {
    let output = daemon.cli(&["audit", "verify"], "");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn calls(daemon: &Daemon, filter: &str) -> Vec<Value> {
    let found = daemon.client.get(&format!("/v1/airlock/audit?kind=call&limit=1000{filter}")).await;
    found["entries"].as_array().expect("entries").clone()
}

#[tokio::test]
async fn an_entry_says_who_did_what_with_which_credential_and_holds_no_arguments_unless_asked_to() {
    let service = service().await;
    let daemon = daemon(Setup::new(&[guest("echo")]), &service).await;
    let client = &daemon.client;
    let arguments = json!({ "note": "what-was-asked" });
    client.post(CALL, &json!({ "arguments": arguments })).await;
    let id = client.start("echo", json!({ "tool": "echo", "arguments": arguments })).await;
    assert_eq!(client.ended(&id, LIMIT).await["status"], "COMPLETED");
    let (status, _) = client.call(Method::POST, &CALL.replace("echo", "none"), Some(&json!({}))).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let all = calls(&daemon, "").await;
    assert_eq!(all.len(), 3, "{all:#?}");
    let of_execution = calls(&daemon, &format!("&execution={id}")).await;
    assert_eq!(of_execution.len(), 1, "{of_execution:#?}");
    let entry = &of_execution[0];
    assert_eq!((&entry["tool"], &entry["connector"]), (&json!("echo"), &json!("reflector")));
    assert_eq!((&entry["outcome"], &entry["credential"]["version"]), (&json!("ok"), &json!(1)));
    for field in ["step", "on_behalf_of", "duration_us", "request_bytes", "response_bytes"] {
        assert!(!entry[field].is_null(), "{field}: {entry}");
    }
    assert_eq!((&all[2]["outcome"], &all[2]["code"]), (&json!("failed"), &json!("not_found")), "{all:#?}");
    let export = client.get_text("/v1/airlock/audit/export").await;
    assert!(!export.contains("what-was-asked"), "{export}");

    let control = json!({ "audit_arguments": true });
    client.call(Method::PUT, "/v1/airlock/connectors/reflector/control", Some(&control)).await;
    client.post(CALL, &json!({ "arguments": arguments })).await;
    assert_eq!(calls(&daemon, "").await[3]["arguments"], arguments);
    Canary::of("the-token-of-the-owner".into()).check_folder(&daemon.setup.data());
    let stranger = daemon.user("mallory").await;
    assert_eq!(stranger.call(Method::GET, "/v1/airlock/audit", None).await.0, StatusCode::FORBIDDEN);
    let (whole, text) = verify(&daemon);
    assert!(whole && text.contains("whole"), "{text}");
}

#[tokio::test]
async fn what_was_changed_taken_out_or_cut_off_is_named_with_its_file_and_line() {
    let service = service().await;
    let mut daemon = daemon(Setup::new(&[]), &service).await;
    for number in 0..6 {
        daemon.client.post(CALL, &json!({ "arguments": { "number": number } })).await;
    }
    let file = log_file(&daemon);
    let log = fs::read_to_string(&file).expect("reads");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 8, "{log}");
    let without = |number: usize| {
        let kept = lines.iter().enumerate().filter(|(index, _)| *index != number);
        kept.map(|(_, line)| format!("{line}\n")).collect::<String>()
    };
    let inserted = format!("{}\n{}\n{}", lines[..4].join("\n"), lines[1], lines[4..].join("\n") + "\n");
    // While the daemon runs, and writes to the same file.
    for (tampered, line, why) in [
        (log.replacen("\"tool\":\"echo\"", "\"tool\":\"evil\"", 1), 3, "the line was changed"),
        (without(4), 5, "1 entries before the line were removed"),
        (inserted, 5, "the line was inserted"),
    ] {
        fs::write(&file, tampered).expect("writes");
        let (whole, text) = verify(&daemon);
        assert!(!whole && text.contains("NOT WHOLE") && text.contains(why), "{why}: {text}");
        assert!(text.contains("audit-00000001.jsonl") && text.contains(&line.to_string()), "{why}: {text}");
    }
    fs::write(&file, &log).expect("writes");
    assert!(verify(&daemon).0);

    // While it does not: where the log ended is kept elsewhere.
    daemon.stop().await;
    fs::write(&file, without(7)).expect("writes");
    daemon.restart().await;
    let (whole, text) = verify(&daemon);
    assert!(!whole && text.contains("cut off"), "{text}");
}

#[tokio::test]
async fn an_owner_accepts_that_the_log_is_not_whole_and_it_is_whole_since_then() {
    let service = service().await;
    let mut daemon = daemon(Setup::new(&[]), &service).await;
    let accept = |daemon: &Daemon| daemon.cli(&["audit", "accept", "--reason", "a disk was restored"], "");
    assert!(!accept(&daemon).status.success(), "there is nothing to accept");
    for number in 0..4 {
        daemon.client.post(CALL, &json!({ "arguments": { "number": number } })).await;
    }
    daemon.stop().await;
    let file = log_file(&daemon);
    let log = fs::read_to_string(&file).expect("reads");
    let cut: String = log.lines().take(4).map(|line| format!("{line}\n")).collect();
    fs::write(&file, &cut).expect("writes");
    daemon.restart().await;
    let (whole, text) = verify(&daemon);
    assert!(!whole && text.contains("cut off"), "{text}");
    let problem = text.trim().trim_start_matches("NOT WHOLE: ").to_owned();

    let stranger = daemon.user("mallory").await;
    let body = json!({ "problem": problem, "reason": "why not" });
    let path = "/v1/airlock/audit/accept";
    assert_eq!(stranger.call(Method::POST, path, Some(&body)).await.0, StatusCode::FORBIDDEN);
    for (body, status) in [
        (json!({ "reason": "not read" }), StatusCode::CONFLICT),
        (json!({ "problem": "something else", "reason": "not read" }), StatusCode::CONFLICT),
        (json!({ "problem": problem, "reason": " " }), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(daemon.client.call(Method::POST, path, Some(&body)).await.0, status, "{body}");
    }
    assert!(!verify(&daemon).0);
    let accepted = accept(&daemon);
    assert!(accepted.status.success(), "{accepted:?}");
    for restarted in [false, true] {
        if restarted {
            daemon.stop().await;
            daemon.restart().await;
        }
        let (whole, text) = verify(&daemon);
        assert!(whole && text.contains("whole since entry") && text.contains("accepted break at"), "{text}");
        assert!(text.contains("cut off") && text.contains("a disk was restored"), "{text}");
        daemon.client.post(CALL, &json!({ "arguments": {} })).await;
    }
    let kind = daemon.client.get("/v1/airlock/audit?kind=log_accepted").await;
    assert_eq!(kind["entries"].as_array().map(Vec::len), Some(1), "{kind}");
    // What was accepted is no cover for more.
    fs::write(&file, cut.replacen("echo", "evil", 1)).expect("writes");
    let (whole, text) = verify(&daemon);
    assert!(!whole && text.contains("changed or removed since entry"), "{text}");
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_stops_the_start() {
    let service = service().await;
    let mut daemon = daemon(Setup::new(&[]), &service).await;
    daemon.stop().await;
    let (folder, aside) = (daemon.setup.data().join("audit"), daemon.setup.data().join("aside"));
    fs::rename(&folder, &aside).expect("is moved");
    fs::write(&folder, "not a folder").expect("writes");
    let (status, said) = daemon.setup.fails().await;
    assert!(!status.success() && said.contains("the audit log cannot be used"), "{said}");
    fs::remove_file(&folder).expect("is removed");
    fs::rename(&aside, &folder).expect("is moved back");
    daemon.restart().await;
    assert!(verify(&daemon).0);
}

#[tokio::test]
async fn while_the_log_cannot_be_written_no_call_is_made() {
    let service = service().await;
    let mut setup = Setup::new(&[]);
    let audit = setup.data().join("audit");
    fs::create_dir_all(&audit).expect("is made");
    setup.mounts = Some(format!("mount -t tmpfs -o size=256k tmpfs '{}'", audit.display()));
    let daemon = daemon(setup, &service).await;
    let client = &daemon.client;
    client.post(CALL, &json!({ "arguments": {} })).await;
    let filler = log_file(&daemon).with_file_name("filler");
    let mut file = fs::File::create(&filler).expect("the folder is seen from here: this test needs root");
    while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
    // What is left of the file's last page may take a few entries.
    let refused = eventually(LIMIT, "the full disk is noticed", async || {
        let (status, answer) = client.call(Method::POST, CALL, Some(&json!({ "arguments": {} }))).await;
        (!status.is_success()).then_some(answer.to_string())
    })
    .await;
    assert!(refused.contains("audit log cannot be used"), "{refused}");
    drop(file);
    fs::remove_file(&filler).expect("is removed");
    eventually(LIMIT, "calls are made again", async || {
        let (status, _) = client.call(Method::POST, CALL, Some(&json!({ "arguments": {} }))).await;
        status.is_success().then_some(())
    })
    .await;
    let resumed = client.get("/v1/airlock/audit?kind=log_resumed").await;
    assert!(resumed.to_string().contains("entries were refused"), "{resumed}");
    let (whole, text) = verify(&daemon);
    assert!(whole, "{text}");
    assert!(daemon.setup.log().contains("alarm=\"audit\""), "the operator is told");
}
