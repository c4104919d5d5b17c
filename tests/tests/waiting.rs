//! How long people are waited for, what schedules lack, and what is said of it beforehand.

use std::{
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use airlock_tests::{Client, Daemon, Service, Setup, eventually, guest, text_result, tools};
use axum::{Router, http::StatusCode as Code};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An MCP server with one tool.
async fn server() -> Service {
    Service::mcp(|method, _, _| match method {
        "tools/list" => Ok(tools(&["look"])),
        _ => Ok(text_result("seen")),
    })
    .await
}

/// A server that counts what reaches it, and is of no use.
async fn counting() -> (Service, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let router = Router::new().fallback(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Code::INTERNAL_SERVER_ERROR }
    });
    (Service::start(router).await, calls)
}

async fn task_events(client: &Client, id: &str, kind: &str) -> Vec<Value> {
    let events = client.events(id).await;
    events.into_iter().filter(|event| event["attributes"]["custom_task_type"] == kind).collect()
}

async fn asks(client: &Client, id: &str, kind: &str, times: usize) {
    eventually(LIMIT, &format!("{kind} is shown"), async || {
        (task_events(client, id, kind).await.len() >= times).then_some(())
    })
    .await;
}

#[tokio::test]
async fn authorisation_is_waited_for_as_long_as_the_setting_says_also_over_a_restart() {
    let window = Duration::from_secs(12);
    let setup = Setup::new(&[guest("echo")]).with(&["--allow-loopback", "--auth-timeout", "12s"]);
    let mut daemon = setup.start().await;
    let server = server().await;
    daemon.client.add_connector("reflector", &server.url("/mcp"), "bearer").await;
    let begun = Instant::now();
    let mut ids = Vec::new();
    for workflow in ["authorise", "authorise-in-workflow"] {
        ids.push(daemon.client.start(workflow, json!({})).await);
    }
    for id in &ids {
        asks(&daemon.client, id, "connector_auth", 1).await;
    }
    // Half of the time is over when the daemon dies.
    tokio::time::sleep((window / 2).saturating_sub(begun.elapsed())).await;
    daemon.kill();
    daemon.restart().await;
    let restarted = Instant::now();
    for id in &ids {
        let ended = daemon.client.ended(id, LIMIT).await;
        assert_eq!(ended["failure"]["kind"], "ConnectorAuthTimeout", "{ended}");
        let message = ended["failure"]["message"].as_str().expect("a message");
        let says = "Connector 'reflector' auth timed out: nobody authorised within 12s. Run it again";
        assert!(message.starts_with(says) && message.contains("auth_timeout"), "{message}");
        let last = task_events(&daemon.client, id, "connector_auth").await.pop().expect("an event");
        assert_eq!(last["event_type"], "CUSTOM_TASK_FAILED", "{last}");
    }
    assert!(begun.elapsed() >= window, "{:?}", begun.elapsed());
    assert!(restarted.elapsed() < window, "the time began anew: {:?}", restarted.elapsed());

    // A credential that lands in time is time enough.
    let id = daemon.client.start("authorise", json!({})).await;
    asks(&daemon.client, &id, "connector_auth", 1).await;
    daemon.client.add_credential("reflector", "main", "a-token-for-this-test").await;
    assert_eq!(daemon.client.ended(&id, LIMIT).await["status"], "COMPLETED");
}

#[tokio::test]
async fn a_time_that_cannot_be_waited_for_is_refused_at_the_start() {
    for (arguments, variables, says) in [
        (&["--auth-timeout", "31d"][..], &[][..], "auth_timeout '31d' is not a time from 1s to 30d"),
        (&["--auth-timeout", "soon"], &[], "30d, 12h, 90m"),
        (&[], &[("AIRLOCK_AUTH_TIMEOUT", "0s")], "30d, 12h, 90m"),
        (&["--audit-retention", "5m"], &[], "audit_retention '5m' is not a time from 1h on"),
    ] {
        let mut setup = Setup::new(&[]).with(arguments);
        setup.environment.extend(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let (status, log) = setup.fails().await;
        assert!(!status.success() && log.contains(says), "{arguments:?} {variables:?}: {log}");
    }
}

#[tokio::test]
async fn a_question_that_nobody_answers_in_time_is_withdrawn_and_the_call_is_not_made() {
    let mut daemon = Daemon::with(&[guest("echo")]).await;
    let server = server().await;
    daemon.client.add_connector("reflector", &server.url("/mcp"), "none").await;
    let control = async |client: &Client, rules: Value| {
        let path = "/v1/airlock/connectors/reflector/control";
        let (status, answer) = client.call(Method::PUT, path, Some(&rules)).await;
        assert!(status.is_success(), "{answer}");
    };
    control(&daemon.client, json!({ "default": "ask", "ask_timeout_seconds": 2 })).await;
    for workflow in ["echo", "echo-in-workflow"] {
        let begun = Instant::now();
        let id = daemon.client.start(workflow, json!({ "tool": "look" })).await;
        let ended = daemon.client.ended(&id, LIMIT).await;
        assert!(begun.elapsed() >= Duration::from_secs(2));
        assert_eq!(ended["failure"]["kind"], "QuestionExpired", "{ended}");
        let says = "nobody answered within 2s, and the question was withdrawn: May 'look' of connector 'reflector' be \
                    called?";
        assert_eq!(ended["failure"]["message"], says, "{ended}");
        let shown = task_events(&daemon.client, &id, "wait_for_input").await;
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert_eq!(shown[1]["event_type"], "CUSTOM_TASK_FAILED");
        let until = shown[0]["attributes"]["payload"]["value"]["expires_at"].as_str().expect("a time");
        assert!(until.ends_with('Z'), "{until}");
    }
    let audit = daemon.client.get("/v1/airlock/audit?kind=call&limit=1").await;
    assert_eq!(audit["entries"][0]["outcome"], "denied", "{audit}");

    // How long it is open does not begin anew with the daemon.
    control(&daemon.client, json!({ "default": "ask", "ask_timeout_seconds": 3600 })).await;
    let id = daemon.client.start("echo", json!({ "tool": "look" })).await;
    asks(&daemon.client, &id, "wait_for_input", 1).await;
    let open = async |daemon: &Daemon| {
        eventually(LIMIT, "the question is open", async || {
            let asked = daemon.client.get(&format!("/v1/airlock/executions/{id}/questions")).await;
            asked["questions"].as_array().and_then(|list| list.first().cloned())
        })
        .await
    };
    // Of the day: 2026-11-29T07:05:33…
    let seconds = |question: &Value| {
        let at = question["expires_at"].as_str().expect("a time");
        let part = |from: usize| at[from..from + 2].parse::<i64>().expect("a number");
        part(11) * 3_600 + part(14) * 60 + part(17)
    };
    let before = open(&daemon).await;
    let listed = daemon.cli(&["executions", "questions", &id], "");
    assert!(out(&listed).contains("expires at 20"), "{}", out(&listed));
    // It would show in what follows.
    tokio::time::sleep(Duration::from_secs(3)).await;
    daemon.kill();
    daemon.restart().await;
    let after = open(&daemon).await;
    assert_eq!(before["task_id"], after["task_id"]);
    // The first time is when it was recorded, a moment after it was asked.
    let later = (seconds(&after) - seconds(&before)).rem_euclid(86_400);
    assert!(later <= 1, "{before} {after}");
    let path = format!("/v1/airlock/executions/{id}/questions/{}", after["task_id"].as_str().expect("an id"));
    daemon.client.post(&path, &json!({ "input": { "approve": true } })).await;
    assert_eq!(daemon.client.ended(&id, LIMIT).await["status"], "COMPLETED");
}

async fn schedule(client: &Client, body: Value) -> (StatusCode, Value) {
    client.call(Method::POST, "/v1/workflows/schedules", Some(&body)).await
}

#[tokio::test]
async fn row_23_a_schedule_with_mocks_calls_no_service() {
    let mut daemon = Daemon::with(&[guest("echo")]).await;
    let (server, calls) = counting().await;
    daemon.client.add_connector("reflector", &server.url("/mcp"), "bearer").await;
    calls.store(0, Ordering::SeqCst);
    let mock = json!({ "tool": "look", "answer": { "text": "mocked" } });
    daemon.client.post("/v1/airlock/connectors/reflector/mocks", &mock).await;
    let body = |id: &str, extensions: Value| {
        json!({ "workflow_identifier": "echo-alone", "schedule_id": id, "extensions": extensions,
            "schedule": { "input": { "tool": "look" }, "intervals": [{ "every": "PT1S" }], "policy": { "overlap": 6 } } })
    };
    let (all, one) =
        (json!({ "airlock": { "mocks": true } }), json!({ "airlock": { "mocks": ["reflector"] } }));
    for (id, extensions) in [("all", &all), ("one", &one)] {
        let (status, made) = schedule(&daemon.client, body(id, extensions.clone())).await;
        assert_eq!((status, &made["warnings"]), (StatusCode::CREATED, &Value::Null), "{made}");
        let shown = daemon.client.get(&format!("/v1/workflows/schedules/{id}")).await;
        assert_eq!(shown["extensions"], *extensions, "{shown}");
    }
    let made = daemon.cli(
        &[
            "schedules",
            "create",
            "echo-alone",
            "--id",
            "cli",
            "--every",
            "1s",
            "--mock",
            "--input",
            "{\"tool\":\"look\"}",
        ],
        "",
    );
    assert!(made.status.success() && !err(&made).contains("warning"), "{}", err(&made));
    let shown = daemon.cli(&["schedules", "show", "cli"], "");
    assert!(out(&shown).contains("answered from mocks"), "{}", out(&shown));
    let completed = async |daemon: &Daemon, id: &str, after: u64| {
        eventually(LIMIT, "executions complete", async || {
            let shown = daemon.client.get(&format!("/v1/workflows/schedules/{id}")).await;
            let started = shown["scheduled"]["started"].as_u64().filter(|started| *started > after)?;
            let last = shown["recent_executions"].as_array()?.last()?["execution_id"].as_str()?.to_owned();
            Some((started, last))
        })
        .await
    };
    let mut started = [0; 3];
    for _ in 0..2 {
        for (id, started) in ["all", "one", "cli"].into_iter().zip(&mut started) {
            let (so_many, execution) = completed(&daemon, id, *started).await;
            let ended = daemon.client.ended(&execution, LIMIT).await;
            assert_eq!(ended["result"]["content"][0]["text"], "mocked", "{ended}");
            *started = so_many;
        }
        // A schedule is read again as it was.
        daemon.kill();
        daemon.restart().await;
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0, "the service was called");

    // What would not be mocked is refused, at the beginning and later.
    let misspelt = json!({ "airlock": { "mocks": ["reflektor"] } });
    let (status, answer) = schedule(&daemon.client, body("typo", misspelt.clone())).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    assert_eq!(answer["detail"][0]["loc"], json!(["body", "schedule", "extensions", "airlock", "mocks"]));
    let path = "/v1/workflows/schedules/all";
    for wrong in [misspelt, json!({ "airlock": { "mock": true } }), json!({ "airlock": { "mocks": "yes" } })]
    {
        let change = json!({ "schedule": { "extensions": wrong } });
        let (status, answer) = daemon.client.call(Method::PATCH, path, Some(&change)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    }
    let wish = json!({ "mistralai": { "connectors": { "bindings": [{ "credentials_name": "main" }] } } });
    let (status, answer) = schedule(&daemon.client, body("bound", wish)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    assert!(answer.to_string().contains("--scope workspace"), "{answer}");
}

#[tokio::test]
async fn what_a_schedule_will_lack_is_said_when_it_is_made_and_whose_credentials_are_looked_for() {
    let daemon = Daemon::with(&[guest("echo")]).await;
    let (client, server) = (&daemon.client, server().await);
    let create = async |id: &str| {
        let body = json!({ "workflow_identifier": "echo-alone", "schedule_id": id,
            "schedule": { "input": { "tool": "look" }, "intervals": [{ "every": "P1D" }] } });
        let (status, answer) = schedule(client, body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer["warnings"].as_array().cloned().unwrap_or_default()
    };
    let warned = create("unregistered").await;
    assert!(
        warned[0].as_str().is_some_and(|text| text.contains("no connector is called 'reflector'")),
        "{warned:?}"
    );

    client.add_connector("reflector", &server.url("/mcp"), "bearer").await;
    client.add_credential("reflector", "mine", "a-token-of-mine-alone").await;
    let warned = create("mine").await;
    let says = [
        "for the workspace or the organisation",
        "does not run on behalf of its caller",
        "--scope workspace",
    ];
    for part in says {
        assert!(warned[0].as_str().is_some_and(|text| text.contains(part)), "{part}: {warned:?}");
    }
    let arguments = [
        "schedules",
        "create",
        "echo-alone",
        "--id",
        "cli",
        "--every",
        "1d",
        "--input",
        "{\"tool\":\"look\"}",
    ];
    let made = daemon.cli(&arguments, "");
    assert_eq!((out(&made).trim(), made.status.code()), ("cli", Some(0)), "{}", err(&made));
    assert!(err(&made).contains("warning") && err(&made).contains("--scope workspace"), "{}", err(&made));
    // The execution says the same.
    client.post("/v1/workflows/schedules/mine/trigger", &json!({})).await;
    let execution = eventually(LIMIT, "it starts", async || {
        let shown = client.get("/v1/workflows/schedules/mine").await;
        shown["recent_executions"].as_array()?.last()?["execution_id"].as_str().map(str::to_owned)
    })
    .await;
    let message = client.ended(&execution, LIMIT).await["failure"]["message"].to_string();
    for part in says {
        assert!(message.contains(part), "{part}: {message}");
    }

    let body = json!({ "name": "ours", "credentials": { "bearer_token": "a-token-for-everybody" } });
    client.post("/v1/connectors/reflector/workspace/credentials", &body).await;
    assert_eq!(create("ours").await, [] as [Value; 0]);
}

// The command line is waited for while the server answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_say_what_their_connectors_lack() {
    let daemon = Daemon::with(&[guest("echo")]).await;
    let client = &daemon.client;
    let slot = async |workflow: &str, query: &str| {
        let plugin = client.get(&format!("/v1/airlock/plugins/echo{query}")).await;
        let slots = plugin["connectors"].as_array().expect("a list").clone();
        slots.into_iter().find(|slot| slot["workflow"] == workflow).expect("is there")
    };
    let missing = slot("echo", "").await;
    assert_eq!((&missing["registered"], &missing["credential"]), (&json!(false), &Value::Null), "{missing}");
    let listed = out(&daemon.cli(&["plugins", "list"], ""));
    assert!(listed.contains("ready") && listed.contains("no connector is called 'reflector'"), "{listed}");

    let running = server().await;
    client.add_connector("reflector", &running.url("/mcp"), "bearer").await;
    client.add_credential("reflector", "mine", "a-token-of-mine-alone").await;
    let mine = slot("echo", "").await;
    assert_eq!(mine["credential"], json!({ "name": "mine", "scope": "user" }), "{mine}");
    assert_eq!(
        (&mine["problem"], &mine["reachable"]),
        (&Value::Null, &Value::Null),
        "nobody was asked: {mine}"
    );
    let alone = slot("echo-alone", "").await;
    assert!(alone["problem"].as_str().is_some_and(|text| text.contains("--scope workspace")), "{alone}");
    let asked = slot("echo", "?check=true").await;
    assert_eq!((&asked["reachable"]["ok"], &asked["problem"]), (&json!(true), &Value::Null), "{asked}");
    let inspected = out(&daemon.cli(&["plugins", "inspect", "echo"], ""));
    assert!(inspected.contains("reflector, credential mine (user), its server answers"), "{inspected}");

    // A server that is away: known when somebody asks, and remembered afterwards.
    drop(running);
    let begun = Instant::now();
    let away = slot("echo", "?check=true").await;
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(away["reachable"]["ok"], false, "{away}");
    assert!(away["problem"].as_str().is_some_and(|text| text.contains("'reflector'")), "{away}");
    let listed = out(&daemon.cli(&["plugins", "list"], ""));
    assert!(listed.contains("did not answer at"), "{listed}");
}
