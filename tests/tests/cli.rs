//! The command line as people use it.

use std::{path::Path, process::Command};

use airlock_tests::{Daemon, Server, binary, guest, root, run};
use reqwest::Method;
use serde_json::{Value, json};

fn out(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json_of(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}{}", out(output), err(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("not JSON: {}", out(output)))
}

#[tokio::test]
async fn the_status_says_what_is_open_what_is_held_and_that_no_check_runs_on() {
    let daemon = Daemon::with(&[]).await;
    let shown = json_of(&daemon.cli(&["status", "--json"], ""));
    assert_eq!(shown["schemas"], json!({ "lost_threads": 0, "lost_ever": 0 }), "{shown}");
    assert!(shown["sandbox"]["guest_memory_limit"].is_u64(), "{shown}");
    let said = out(&daemon.cli(&["status"], ""));
    for line in ["executions: 0 open", "guests: 0 MB", "schemas: 0 checks do not end, 0 since the start"] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn what_is_installed_is_small_whole_and_has_its_debug_information_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    // Twice: the second replaces the first.
    for _ in 0..2 {
        let installed = Command::new("bash")
            .arg(root().join("host/daemon/install.sh"))
            .args([&binary(), folder.path()])
            .output()
            .expect("bash runs");
        assert!(installed.status.success(), "{}", err(&installed));
    }
    let bin = folder.path().join("bin");
    let size = |path: &Path| std::fs::metadata(path).expect("is there").len();
    let installed = size(&bin.join("airlock"));
    assert!(installed <= 65_000_000, "the installed binary has {installed} bytes");
    assert!(size(&bin.join(".debug/airlock.debug")) > 1_000_000);
    let version = run(&bin.join("airlock"), &["--version"], &[], "");
    assert_eq!(out(&version), out(&run(&binary(), &["--version"], &[], "")));
    let names = std::fs::read_dir(&bin).expect("reads").map(|entry| entry.expect("an entry").file_name());
    assert_eq!(names.count(), 2, "nothing else is left there");
}

#[tokio::test]
async fn run_follows_an_execution_and_its_exit_code_says_how_it_ended() {
    let daemon = Daemon::with(&[guest("hello"), guest("order-saga"), guest("bench")]).await;
    let good = daemon.cli(&["run", "hello", "--input", r#"{"name": "Ada"}"#], "");
    assert_eq!(good.status.code(), Some(0), "{}", err(&good));
    assert_eq!(
        serde_json::from_str::<Value>(&out(&good)).expect("the result"),
        json!({ "result": "Hello, Ada!" })
    );
    for step in ["hello started", "greet started", "greet → \"Hello, Ada!\"", "completed"] {
        assert!(err(&good).contains(step), "{step}: {}", err(&good));
    }
    assert!(!err(&good).contains('\x1b'), "no colours where there is no terminal");

    let scripted = json_of(&daemon.cli(&["run", "hello", "--input", r#"{"name": "Ada"}"#, "--json"], ""));
    assert_eq!(
        (&scripted["status"], &scripted["result"]["result"]),
        (&json!("COMPLETED"), &json!("Hello, Ada!"))
    );
    let file = daemon.setup.folder.path().join("input.json");
    std::fs::write(&file, r#"{"delay_ms": 0, "fail_at": "charge"}"#).expect("writes");
    let failed = daemon.cli(&["run", "order-saga", "--input", &format!("@{}", file.display())], "");
    assert_eq!(failed.status.code(), Some(1));
    assert!(err(&failed).contains("CardDeclined: the card was declined"), "{}", err(&failed));

    for (arguments, says) in [
        (&["run", "hello", "--input", "{"][..], "'--input <INPUT>': it is not JSON"),
        (&["run", "hello", "--input", "{}"], "name"),
        (&["run", "nobody"], "no workflow is called 'nobody'"),
        (&["run", "hello", "--credential", "x"], "CONNECTOR=NAME"),
        (&["executions", "show", "nobody"], "no execution has the id 'nobody'"),
        (&["nonsense"], "unrecognized subcommand"),
        (&["connectors", "control", "crm", "--set", "notjson"], "--set: it is not JSON"),
        (&["connectors", "call", "crm", "x", "--arguments", "{"], "--arguments: it is not JSON"),
        (&["connectors", "mock", "crm", "x", "--answer", "@/nowhere.json"], "/nowhere.json cannot be read"),
        (&["connectors", "update", "crm"], "nothing to change was given"),
        (&["connectors", "add", "x", "--openapi", "/nowhere.yaml"], "/nowhere.yaml cannot be read"),
        (&["connectors", "add", "x", "--server", "http://10.0.0.1/mcp"], "--allow-private-networks"),
    ] {
        let bad = daemon.cli(arguments, "");
        assert_eq!(bad.status.code(), Some(2), "{arguments:?}: {}", err(&bad));
        assert!(err(&bad).contains(says), "{arguments:?}: {}", err(&bad));
    }

    let id =
        json_of(&daemon.cli(&["run", "sleeper", "--input", r#"{"ms": 60000}"#, "--detach", "--json"], ""));
    let id = id["execution_id"].as_str().expect("an id");
    assert!(daemon.cli(&["executions", "terminate", id], "").status.success());
    assert_eq!(daemon.cli(&["executions", "watch", id], "").status.code(), Some(3));
    let list = json_of(&daemon.cli(&["executions", "list", "--json", "--workflow", "sleeper"], ""));
    assert_eq!(
        (list[0]["execution_id"].as_str(), list[0]["status"].as_str()),
        (Some(id), Some("TERMINATED"))
    );
    let table = out(&daemon.cli(&["executions", "list"], ""));
    assert!(table.contains("EXECUTION") && table.contains("hello") && table.contains("FAILED"), "{table}");
}

#[tokio::test]
async fn documents_are_given_in_three_ways_and_no_digit_of_them_changes() {
    let daemon = Daemon::with(&[guest("durable")]).await;
    let wide = r#"{"n": 340282366920938463463374607431768211455}"#;
    let file = daemon.setup.folder.path().join("input.json");
    std::fs::write(&file, format!("\u{feff}{wide}\r\n")).expect("writes");
    let at = format!("@{}", file.display());
    for (argument, stdin) in [(wide, ""), (at.as_str(), ""), ("@-", wide)] {
        let run = daemon.cli(&["run", "wide", "--input", argument], stdin);
        assert_eq!(run.status.code(), Some(0), "{argument}: {}", err(&run));
        assert!(out(&run).contains("340282366920938463463374607431768211455"), "{argument}: {}", out(&run));
    }
    let listed = json_of(&daemon.cli(&["executions", "list", "--json"], ""));
    let id = listed[0]["execution_id"].as_str().expect("an id");
    for command in [&["executions", "show"][..], &["executions", "history"], &["executions", "events"]] {
        for json in [&[][..], &["--json"]] {
            let shown = daemon.cli(&[command, &[id], json].concat(), "");
            assert!(shown.status.success(), "{command:?}: {}", err(&shown));
            assert!(
                out(&shown).contains("340282366920938463463374607431768211455"),
                "{command:?}: {}",
                out(&shown)
            );
        }
    }
    let schedule =
        ["schedules", "create", "wide", "--id", "wide", "--cron", "0 9 * * *", "--input", at.as_str()];
    assert!(daemon.cli(&schedule, "").status.success());
    let shown = out(&daemon.cli(&["schedules", "show", "wide"], ""));
    assert!(shown.contains("340282366920938463463374607431768211455"), "{shown}");
}

#[tokio::test]
async fn errors_are_json_for_scripts_and_say_what_was_meant() {
    let daemon = Daemon::with(&[guest("durable")]).await;
    for (arguments, code, kind, says) in [
        (&["executions", "show", "nope"][..], 2, "bad_input", "no execution has the id 'nope'"),
        (&["run", "nobody"], 2, "bad_input", "no workflow is called 'nobody'"),
        (&["run", "wide", "--input", "{"], 2, "bad_input", "it is not JSON"),
        (&["nonsense"], 2, "bad_input", "unrecognized subcommand"),
        (&["schedules", "create", "wide", "--at", "2020-01-01T00:00:00Z"], 2, "bad_input", "is past"),
    ] {
        let bad = daemon.cli(&[arguments, &["--json"]].concat(), "");
        assert_eq!((bad.status.code(), out(&bad).as_str()), (Some(code), ""), "{arguments:?}: {}", err(&bad));
        let told: Value =
            serde_json::from_slice(&bad.stderr).unwrap_or_else(|_| panic!("not JSON: {}", err(&bad)));
        assert_eq!(told["error"]["kind"], kind, "{arguments:?}");
        assert!(
            told["error"]["message"].as_str().is_some_and(|text| text.contains(says)),
            "{arguments:?}: {told}"
        );
    }
    // What nobody knows is refused where it is ours, and named where clients may send more.
    let create = |schedule: Value| {
        let body = json!({ "workflow_identifier": "wide", "schedule": schedule });
        let client = daemon.client.clone();
        async move { client.call(Method::POST, "/v1/workflows/schedules", Some(&body)).await }
    };
    for (schedule, place, meant) in [
        (
            json!({ "input": {}, "cron_expressions": ["0 9 * * *"], "timezone": "Europe/Berlin" }),
            json!(["body", "schedule"]),
            "time_zone_name",
        ),
        (
            json!({ "input": {}, "calendars": [{ "hours": [{ "start": 9 }] }] }),
            json!(["body", "schedule", "calendars", 0]),
            "hour",
        ),
    ] {
        let (status, answer) = create(schedule).await;
        assert_eq!(status, 422, "{answer}");
        let problem = &answer["detail"][0];
        assert!(
            problem["msg"].as_str().is_some_and(|text| text.contains(&format!("'{meant}' is meant?"))),
            "{answer}"
        );
        assert!(problem["loc"].to_string().starts_with(place.to_string().trim_end_matches(']')), "{answer}");
    }
}

#[tokio::test]
async fn a_secret_is_read_from_standard_input_and_never_shown() {
    let token = "token-from-standard-input";
    let service = Server::start("demo-server", |port| {
        let mut command = Command::new(binary());
        command
            .args(["demo-server", "--token-env", "DEMO_TOKEN", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .env("DEMO_TOKEN", token);
        command
    })
    .await;
    let daemon = Daemon::with(&[guest("github-issues")]).await;
    let (url, add) = (service.url("/mcp"), ["connectors", "add", "github_app", "--server"]);
    assert!(daemon.cli(&[&add[..], &[&url]].concat(), "").status.success());
    let early = daemon
        .cli(&["run", "github-issue-creator", "--input", r#"{"owner":"o","repo":"r","title":"t"}"#], "");
    assert_eq!(early.status.code(), Some(1));
    assert!(
        err(&early).contains("requires bearer authentication but no credentials are configured"),
        "{}",
        err(&early)
    );
    let nothing = daemon.cli(&["credentials", "set", "github_app", "main"], "");
    assert_eq!(nothing.status.code(), Some(2), "{}", err(&nothing));
    let set = daemon.cli(&["credentials", "set", "github_app", "main"], &format!("{token}\n"));
    assert!(set.status.success(), "{}", err(&set));
    let listed = json_of(&daemon.cli(&["credentials", "list", "github_app", "--json"], ""));
    assert_eq!((&listed[0]["name"], &listed[0]["is_default"]), (&json!("main"), &json!(true)));
    assert!(!listed.to_string().contains(token));
    let good = daemon
        .cli(&["run", "github-issue-creator", "--input", r#"{"owner":"o","repo":"r","title":"t"}"#], "");
    assert_eq!(good.status.code(), Some(0), "{}", err(&good));
    assert!(err(&good).contains("the host calls issue_write of github_app"), "{}", err(&good));
    let tools = out(&daemon.cli(&["connectors", "tools", "github_app"], ""));
    assert!(tools.contains("issue_write"), "{tools}");
    let called = daemon.cli(&["connectors", "call", "github_app", "issue_list"], "");
    assert!(
        called.status.success() && out(&called).contains("/o/r/issues/1"),
        "{}{}",
        out(&called),
        err(&called)
    );
    assert!(daemon.cli(&["credentials", "delete", "github_app", "main"], "").status.success());
    assert!(daemon.cli(&["connectors", "remove", "github_app"], "").status.success());
}

#[tokio::test]
async fn keys_are_made_shown_once_and_revoked() {
    let daemon = Daemon::with(&[guest("hello")]).await;
    let key = out(&daemon.cli(&["keys", "create", "--user", "ada"], ""));
    let url = daemon.url();
    let as_ada = |arguments: &[&str]| {
        run(&binary(), arguments, &[("AIRLOCK_URL", &url), ("AIRLOCK_API_KEY", key.trim())], "")
    };
    assert!(as_ada(&["plugins", "list"]).status.success());
    let list = json_of(&daemon.cli(&["keys", "list", "--json"], ""));
    let id = list.as_array().expect("keys").iter().find(|key| key["user"] == "ada").expect("ada's key")["id"]
        .clone();
    assert!(daemon.cli(&["keys", "revoke", id.as_str().expect("an id")], "").status.success());
    let refused = as_ada(&["plugins", "list"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(err(&refused).contains("was revoked"), "{}", err(&refused));
}

#[test]
fn without_a_daemon_or_a_key_one_is_told_what_to_do() {
    let nowhere = [("AIRLOCK_URL", "http://127.0.0.1:9"), ("AIRLOCK_API_KEY", "al_x")];
    let output = run(&binary(), &["status"], &nowhere, "");
    assert_eq!(output.status.code(), Some(4));
    assert!(err(&output).contains("start one with `airlock serve`"), "{}", err(&output));
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("a path");
    let output = run(&binary(), &["status", "--data-dir", data], &[("AIRLOCK_API_KEY", "")], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("set AIRLOCK_API_KEY"), "{}", err(&output));
}

#[tokio::test]
async fn a_new_plugin_builds_with_plain_cargo_and_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let crate_ = folder.path().join("order-mailer");
    let place = crate_.to_str().expect("a path");
    let made = run(&binary(), &["plugin", "new", "order-mailer", "--folder", place], &[], "");
    assert!(made.status.success(), "{}", err(&made));
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--target", "wasm32-wasip2"])
        .current_dir(&crate_)
        .env("CARGO_TARGET_DIR", root().join("target/scaffold"))
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo runs");
    assert!(status.success());
    let wasm = root().join("target/scaffold/wasm32-wasip2/release/order_mailer.wasm");
    let daemon = Daemon::with(&[wasm]).await;
    let ended = daemon.cli(&["run", "order-mailer", "--input", r#"{"name": "Ada"}"#], "");
    assert_eq!(ended.status.code(), Some(0), "{}", err(&ended));
    assert!(out(&ended).contains("Ada"), "{}", out(&ended));
    let inspected = out(&daemon.cli(&["plugins", "inspect", "order_mailer"], ""));
    assert!(inspected.contains("workflow order-mailer"), "{inspected}");
    assert!(Path::new(place).join("sdk/wit/world.wit").exists());
}
