//! Keys at rest (THREATS row 24): the master key is changed while calls are made and while the process dies, and what was
//! sealed is whole afterwards.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use airlock_tests::{Client, Daemon, LIMIT, Service, Setup, binary, text_result, tools};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const CALL: &str = "/v1/connectors/service/tools/check/call";

/// A service that says whether the token is the one of the user whom the call names.
async fn service() -> Service {
    Service::mcp(|method, parameters, head| {
        let sent = head.headers.get("authorization").and_then(|value| value.to_str().ok());
        Ok(match method {
            "tools/list" => tools(&["check"]),
            _ => {
                let user = parameters["arguments"]["user"].as_str().unwrap_or_default();
                text_result(if sent == Some(&format!("Bearer {}", token(user))) { "right" } else { "wrong" })
            }
        })
    })
    .await
}

fn token(user: &str) -> String {
    format!("the-token-of-{user}")
}

async fn store(client: &Client, name: &str, token: &str) {
    let body = json!({ "name": name, "credentials": { "bearer_token": token } });
    let path = "/v1/connectors/service/user/credentials";
    let (status, answer) = client.call(Method::POST, path, Some(&body)).await;
    assert!(status.is_success(), "{answer}");
}

async fn check(client: &Client, user: &str) -> String {
    let (status, answer) =
        client.call(Method::POST, CALL, Some(&json!({ "arguments": { "user": user } }))).await;
    match status {
        StatusCode::OK => answer["content"][0]["text"].as_str().unwrap_or_default().to_owned(),
        status => format!("{status}: {answer}"),
    }
}

/// Says what the command line says about the vault, which has to be whole.
fn verify(daemon: &Daemon) -> String {
    let output = daemon.cli(&["vault", "verify"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "the vault is not whole: {text}");
    text
}

fn rotate(daemon: &Daemon) -> (bool, String) {
    let output = daemon.cli(&["vault", "rotate"], "");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Starts the command without waiting for its end, so that the daemon can be killed meanwhile.
fn rotate_in_background(daemon: &Daemon) -> std::process::Child {
    std::process::Command::new(binary())
        .args(["vault", "rotate"])
        .envs([("AIRLOCK_URL", daemon.url()), ("AIRLOCK_API_KEY", daemon.client.key.clone())])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the command line starts")
}

fn master_key(daemon: &Daemon) -> PathBuf {
    daemon.setup.data().join("master.key")
}

/// A daemon with a connector and the owner's credential, and so many besides.
async fn daemon_with(setup: Setup, service: &Service, more: usize) -> Daemon {
    let daemon = setup.with(&["--allow-loopback"]).start().await;
    let body = json!({
        "name": "service", "description": "d", "server": service.url("/mcp"), "protocol": "mcp",
        "visibility": "shared_org", "auth_methods": [{ "method_type": "bearer" }],
        "global_headers": { "X-Organization": { "value": "a secret of the organisation" } },
    });
    daemon.client.post("/v1/connectors", &body).await;
    store(&daemon.client, "main", &token("owner")).await;
    for number in 0..more {
        store(&daemon.client, &format!("spare-{number}"), &format!("spare token {number}")).await;
    }
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn row_24_the_master_key_changes_under_load_and_no_call_notices() {
    let service = service().await;
    let mut daemon = daemon_with(Setup::new(&[]), &service, 300).await;
    let first = fs::read_to_string(master_key(&daemon)).expect("reads");
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for number in 0..6 {
        let name = format!("user-{number}");
        let (client, stop, calls) = (daemon.user(&name).await, Arc::clone(&stop), Arc::clone(&calls));
        tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                // Stored anew each time, so that every call opens what was sealed at this moment.
                store(&client, "main", &token(&name)).await;
                assert_eq!(check(&client, &name).await, "right");
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for _ in 0..4 {
        let before = calls.load(Ordering::Relaxed);
        let (done, text) = rotate(&daemon);
        assert!(done, "{text}");
        airlock_tests::eventually(LIMIT, "calls go on", async || {
            (calls.load(Ordering::Relaxed) > before + 12).then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no call failed");
    }
    let whole = verify(&daemon);
    // 301 of the owner, six users, the connector's headers.
    assert!(whole.contains("308 secrets open"), "{whole}");

    daemon.stop().await;
    let last = fs::read_to_string(master_key(&daemon)).expect("reads");
    assert_ne!(first, last);
    fs::write(master_key(&daemon), &first).expect("writes");
    let (status, said) = daemon.setup.fails().await;
    assert!(!status.success() && said.contains("the master key does not fit the keyring"), "{said}");
    fs::write(master_key(&daemon), &last).expect("writes");
    daemon.restart().await;
    assert_eq!(check(&daemon.client, "owner").await, "right");
    verify(&daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_24_a_power_cut_in_the_middle_of_a_change_of_keys_loses_nothing() {
    let service = service().await;
    let mut daemon = daemon_with(Setup::new(&[]), &service, 400).await;
    let (mut round, mut cut_short) = (0, 0);
    // From before the request arrives until after its end, and on until it was hit in the middle.
    while round < 12 || cut_short == 0 {
        assert!(round < 100, "no change of keys was cut short");
        let before = fs::read_to_string(master_key(&daemon)).expect("reads");
        let mut rotation = rotate_in_background(&daemon);
        tokio::time::sleep(Duration::from_millis(4 * (round % 12))).await;
        daemon.kill();
        let done = rotation.wait().expect("it ends").success();
        let changed = fs::read_to_string(master_key(&daemon)).expect("reads") != before;
        cut_short += u32::from(changed && !done);
        daemon.restart().await;
        assert_eq!(check(&daemon.client, "owner").await, "right", "round {round}, changed: {changed}");
        let whole = verify(&daemon);
        assert!(whole.contains("402 secrets open"), "round {round}: {whole}");
        round += 1;
    }
    let (done, text) = rotate(&daemon);
    assert!(done && text.contains("402 data keys"), "{text}");
    verify(&daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_24_the_master_key_may_come_from_a_command_or_the_environment() {
    let service = service().await;
    let (one, two) = ("1a".repeat(32), "2b".repeat(32));
    let setup = Setup::new(&[]);
    let file = setup.folder.path().join("kept-elsewhere");
    fs::write(&file, &one).expect("writes");
    let command = format!("cat '{}'", file.display());
    let mut daemon = daemon_with(setup.with(&["--master-key-command", &command]), &service, 5).await;
    assert!(!master_key(&daemon).exists(), "the key is not copied into the data folder");
    fs::write(&file, &two).expect("writes");
    let (done, text) = rotate(&daemon);
    assert!(done, "{text}");
    daemon.stop().await;
    fs::write(&file, &one).expect("writes");
    let (_, said) = daemon.setup.fails().await;
    assert!(said.contains("the master key does not fit the keyring"), "{said}");
    assert!(!said.contains(&one) && !said.contains(&two), "{said}");
    fs::write(&file, &two).expect("writes");
    daemon.restart().await;
    assert_eq!(check(&daemon.client, "owner").await, "right");

    // In the environment, a running daemon cannot change it: a start with both keys does.
    daemon.stop().await;
    daemon.setup.environment = vec![("AIRLOCK_MASTER_KEY".into(), two.clone())];
    daemon.restart().await;
    let (done, text) = rotate(&daemon);
    assert!(!done && text.contains("AIRLOCK_PREVIOUS_MASTER_KEY"), "{text}");
    daemon.stop().await;
    let three = "3c".repeat(32);
    daemon.setup.environment = vec![
        ("AIRLOCK_MASTER_KEY".into(), three.clone()),
        ("AIRLOCK_PREVIOUS_MASTER_KEY".into(), two.clone()),
    ];
    daemon.restart().await;
    assert_eq!(check(&daemon.client, "owner").await, "right");
    verify(&daemon);
    daemon.stop().await;
    daemon.setup.environment = vec![("AIRLOCK_MASTER_KEY".into(), two.clone())];
    let (_, said) = daemon.setup.fails().await;
    assert!(said.contains("the master key does not fit the keyring"), "{said}");
    daemon.setup.environment = vec![("AIRLOCK_MASTER_KEY".into(), three.clone())];
    daemon.restart().await;
    verify(&daemon);
    let environment = fs::read(format!("/proc/{}/environ", daemon.id())).expect("reads");
    let cannot_be_helped = String::from_utf8_lossy(&environment).contains(&three);
    assert!(cannot_be_helped, "docs/security.md says that root and the same user can read it there");
    assert!(![&one, &two, &three].iter().any(|key| daemon.setup.log().contains(key.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_24_what_was_tampered_with_does_not_open_and_is_named() {
    let service = service().await;
    let mut daemon = daemon_with(Setup::new(&[]), &service, 2).await;
    daemon.stop().await;
    let database = rusqlite::Connection::open(daemon.setup.data().join("airlock.db")).expect("opens");
    let of_spares = "name = 'vault' AND key LIKE '%/spare-_'";
    let select = format!("SELECT key, value FROM records WHERE {of_spares}");
    let mut statement = database.prepare(&select).expect("prepares");
    let rows: Vec<(String, Vec<u8>)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("reads")
        .map(|row| row.expect("reads"))
        .collect();
    drop(statement);
    assert_eq!(rows.len(), 2);
    for (key, value) in [(&rows[0].0, &rows[1].1), (&rows[1].0, &rows[0].1)] {
        let change = "UPDATE records SET value = ?2 WHERE key = ?1 AND name = 'vault'";
        assert_eq!(database.execute(change, rusqlite::params![key, value]).expect("is swapped"), 1);
    }
    drop(database);
    daemon.restart().await;
    let output = daemon.cli(&["vault", "verify", "--json"], "");
    assert!(!output.status.success());
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let broken: Vec<&str> = told["broken"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["credential"].as_str())
        .collect();
    assert_eq!(broken, ["spare-0", "spare-1"], "{told}");
    assert_eq!(check(&daemon.client, "owner").await, "right", "the others are whole");
    let named = format!("{CALL}?credentials_name=spare-0");
    let (status, answer) = daemon.client.call(Method::POST, &named, Some(&json!({ "arguments": {} }))).await;
    assert!(status.is_server_error(), "{answer}");
    assert!(!answer.to_string().contains("spare token"), "{answer}");
}
