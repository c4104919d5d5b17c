//! Compiling components, with the real process for it: what is hard to compile keeps nobody waiting and nothing busy for long.

use std::fs;

use airlock_tests::{Daemon, LIMIT, Setup, eventually, guest};
use serde_json::{Value, json};

fn number(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 128 {
        bytes.push(n as u8 | 128);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [number(bytes.len()), bytes.to_vec()].concat()
}

fn section(id: u8, contents: &[u8]) -> Vec<u8> {
    [vec![id], sized(contents)].concat()
}

/// A component of so many functions of so many conditions, one after the other: compiling one takes more than linear time.
fn conditions(functions: usize, conditions: usize) -> Vec<u8> {
    let one = b"\x20\x00\x45\x04\x40\x20\x00\x41\x01\x6a\x21\x00\x0b";
    let body = sized(&[vec![0], one.repeat(conditions), b"\x20\x00\x0b".to_vec()].concat());
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, b"\x01\x60\x01\x7f\x01\x7f"),
        section(3, &[number(functions), vec![0; functions]].concat()),
        section(10, &[number(functions), body.repeat(functions)].concat()),
    ]
    .concat();
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module)].concat()
}

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
        let slow = [conditions(60, 19_000), section(0, &sized(name.as_bytes()))].concat();
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
