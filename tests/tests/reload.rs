//! The plugin folder while the daemon runs.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use airlock_tests::{Client, Daemon, LIMIT, eventually, guest, version};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// The plugin of this name in the list, once `accepts` says so.
async fn plugin(client: &Client, name: &str, what: &str, accepts: impl Fn(&Value) -> bool) -> Value {
    eventually(LIMIT, what, async || {
        let list = client.get("/v1/airlock/plugins").await;
        let plugins = list["plugins"].as_array().expect("plugins").clone();
        plugins.into_iter().find(|plugin| plugin["name"] == name && accepts(plugin))
    })
    .await
}

fn is_rejected(plugin: &Value) -> bool {
    plugin["state"] == "rejected"
}

#[tokio::test]
async fn a_new_version_serves_new_executions_and_old_ones_finish_on_their_own_under_load() {
    let daemon = Daemon::with(&[version("v1"), guest("bench")]).await;
    let client = daemon.client.clone();
    let slow = client.start("versioned", json!({ "pause_ms": 3_000 })).await;

    let stop = Arc::new(AtomicBool::new(false));
    let seen: Vec<Arc<Mutex<BTreeSet<String>>>> = (0..8).map(|_| Arc::default()).collect();
    let all_have_seen = async |version: &str| {
        eventually(LIMIT, &format!("everybody runs {version}"), async || {
            seen.iter().all(|seen| seen.lock().expect("no panic").contains(version)).then_some(())
        })
        .await;
    };
    let load: Vec<_> = seen
        .iter()
        .map(|seen| {
            let (client, stop, seen) = (client.clone(), Arc::clone(&stop), Arc::clone(seen));
            tokio::spawn(async move {
                let mut versions = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let result = client.execute("versioned", json!({ "pause_ms": 5 })).await;
                    let ran = result["version"].as_str().expect("a version").to_owned();
                    // Workflow and activities of one execution come from the same code.
                    for stamp in result["stamps"].as_array().expect("stamps") {
                        assert!(stamp.as_str().expect("text").ends_with(&ran), "{result}");
                    }
                    seen.lock().expect("no panic").insert(ran.clone());
                    versions.push(ran);
                }
                versions
            })
        })
        .collect();
    all_have_seen("v1").await;
    fs::copy(version("v2"), daemon.setup.plugins().join("versioned.wasm")).expect("is replaced");
    let replaced = Instant::now();
    eventually(LIMIT, "v2 serves", async || {
        let result = client.execute("versioned", json!({ "pause_ms": 0 })).await;
        (result["version"] == "v2").then_some(())
    })
    .await;
    println!("the new version served after {:?}", replaced.elapsed());
    all_have_seen("v2").await;
    stop.store(true, Ordering::Relaxed);
    for worker in load {
        let versions = worker.await.expect("no execution failed");
        assert!(
            versions.is_sorted(),
            "once the new version serves, the old one does not come back: {versions:?}"
        );
    }
    let ended = client.ended(&slow, LIMIT).await;
    assert_eq!(ended["result"]["version"], "v1", "the code that it started on: {ended}");
}

#[tokio::test]
async fn an_old_execution_finishes_on_its_own_code_after_a_kill_and_with_its_file_gone() {
    let mut daemon = Daemon::with(&[version("v1")]).await;
    let id = daemon.client.start("versioned", json!({ "pause_ms": 1_500 })).await;
    fs::remove_file(daemon.setup.plugins().join("versioned.wasm")).expect("is removed");
    eventually(LIMIT, "nothing is served any more", async || {
        let body = json!({ "input": { "pause_ms": 0 } });
        let (status, _) =
            daemon.client.call(Method::POST, "/v1/workflows/versioned/execute", Some(&body)).await;
        (status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    daemon.kill();
    daemon.restart().await;
    let ended = daemon.client.ended(&id, LIMIT).await;
    assert_eq!(
        (&ended["status"], &ended["result"]["version"]),
        (&json!("COMPLETED"), &json!("v1")),
        "{ended}"
    );
}

#[tokio::test]
async fn a_file_dropped_into_the_folder_is_served_and_a_half_written_one_disturbs_nobody() {
    let daemon = Daemon::with(&[guest("hello")]).await;
    let bytes = fs::read(version("v1")).expect("reads");
    let path = daemon.setup.plugins().join("versioned.wasm");
    // Somebody copies over a slow line.
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("half of it");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(daemon.client.execute("hello", json!({ "name": "Ada" })).await["result"], "Hello, Ada!");
    let written = Instant::now();
    fs::write(&path, &bytes).expect("all of it");
    plugin(&daemon.client, "versioned", "the whole file is taken up", |plugin| plugin["state"] == "ready")
        .await;
    let took = written.elapsed();
    println!("taken up after {took:?}, compilation included");
    daemon.client.execute("versioned", json!({ "pause_ms": 0 })).await;
}

#[tokio::test]
async fn what_cannot_be_used_is_listed_with_a_reason_and_the_others_go_on() {
    let daemon = Daemon::with(&[guest("hello")]).await;
    let folder = daemon.setup.plugins();
    fs::write(folder.join("text.wasm"), "not wasm at all").expect("writes");
    fs::write(folder.join("core.wasm"), b"\0asm\x01\0\0\0").expect("writes");
    // A component of nothing.
    fs::write(folder.join("empty.wasm"), b"\0asm\x0d\0\x01\0").expect("writes");
    fs::copy(guest("hello"), folder.join("twin.wasm")).expect("copies");
    for (name, reason) in [
        ("text", "WebAssembly"),
        ("core", "wasm32-wasip2"),
        ("empty", "airlock:plugin/definitions"),
        ("twin", "hello"),
    ] {
        let listed = plugin(&daemon.client, name, name, is_rejected).await;
        let error = listed["error"].as_str().expect("a reason");
        assert!(error.contains(reason), "{name}: {error}");
    }
    // The same on the command line.
    let output = daemon.cli(&["plugins", "list"], "");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("core") && text.contains("wasm32-wasip2"), "{text}");
    assert_eq!(daemon.client.execute("hello", json!({ "name": "Ada" })).await["result"], "Hello, Ada!");
    // A broken replacement leaves the version before it at work.
    fs::write(folder.join("hello.wasm"), "broken").expect("writes");
    plugin(&daemon.client, "hello", "the broken file is noticed", is_rejected).await;
    assert_eq!(daemon.client.execute("hello", json!({ "name": "Ada" })).await["result"], "Hello, Ada!");
}

#[tokio::test]
async fn a_second_start_compiles_nothing() {
    let mut daemon = Daemon::with(&[guest("hello"), guest("order-saga")]).await;
    let compiled =
        async |daemon: &Daemon| daemon.client.get("/v1/airlock/status").await["sandbox"]["compiled"].clone();
    assert_eq!(compiled(&daemon).await, 2);
    daemon.stop().await;
    daemon.restart().await;
    assert_eq!(compiled(&daemon).await, 0);
    daemon.client.execute("hello", json!({ "name": "Ada" })).await;
}
