//! Compiling components, with the real process for it: what is hard to compile keeps nobody waiting and nothing busy for long.

use std::fs;

use airlock_tests::{Daemon, LIMIT, Setup, conditions, eventually, guest, marked};
use serde_json::{Value, json};

async fn plugin(daemon: &Daemon, name: &str) -> Value {
    let all = daemon.client.get("/v1/airlock/plugins").await;
    let plugins = all["plugins"].as_array().cloned().unwrap_or_default();
    plugins.into_iter().find(|plugin| plugin["name"] == name).unwrap_or_default()
}

#[tokio::test]
async fn a13_a_function_that_takes_minutes_to_compile_is_refused_at_once_and_by_name() {
    let setup = Setup::new(&[guest("hello")]);
    fs::write(setup.plugins().join("aaa.wasm"), conditions(1, 57_000)).expect("writes");
    let daemon = setup.start().await;
    let error = plugin(&daemon, "aaa").await["error"].to_string();
    assert!(error.contains("57000 blocks, loops and conditions in one function"), "{error}");
    assert_eq!(daemon.client.execute("hello", json!({ "name": "Ada" })).await["result"], "Hello, Ada!");
}

#[tokio::test]
async fn a13_what_compiles_for_long_delays_nobody_and_leaves_nothing_behind() {
    let daemon = Daemon::with(&[guest("hello")]).await;
    // Each function is within the bounds; together they take much longer than they may.
    for name in ["aaa", "bbb", "ccc"] {
        let slow = marked(&conditions(60, 19_000), name);
        fs::write(daemon.setup.plugins().join(format!("{name}.wasm")), slow).expect("writes");
    }
    eventually(LIMIT, "they are being compiled", async || {
        (plugin(&daemon, "aaa").await["state"] == "loading").then_some(())
    })
    .await;
    daemon.setup.install(&guest("durable"));
    eventually(LIMIT, "another plugin is ready", async || {
        (plugin(&daemon, "durable").await["state"] == "ready").then_some(())
    })
    .await;
    assert_eq!(plugin(&daemon, "ccc").await["state"], "loading", "it took as long as the slow ones");
    assert_eq!(daemon.client.execute("hello", json!({ "name": "Ada" })).await["result"], "Hello, Ada!");
    for name in ["aaa", "bbb", "ccc"] {
        fs::remove_file(daemon.setup.plugins().join(format!("{name}.wasm"))).expect("removes");
    }
    eventually(LIMIT, "the compilers to be gone", async || {
        (daemon.client.get("/v1/airlock/status").await["sandbox"]["loading"] == false).then_some(())
    })
    .await;
}
