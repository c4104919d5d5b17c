//! Everything that can be wrong with a file in the plugin folder has a message that says what to do.

use airlock_engine::guests::Guests;

use crate::{
    guests,
    room::{Room, digest_of, rejection},
};

async fn message(contents: &[u8]) -> String {
    let room = Room::new();
    room.put("bad.wasm", contents);
    room.put("good.wasm", guests::hostile());
    let sandbox = room.open().await;
    // Whatever is wrong with one file, the other serves.
    digest_of(&sandbox, "good");
    rejection(&sandbox, "bad").unwrap()
}

#[tokio::test]
async fn a_file_that_is_not_webassembly() {
    for contents in [&b""[..], b"hello", b"\x7fELF"] {
        let message = message(contents).await;
        assert!(message.starts_with("it is not WebAssembly; build the crate with `cargo build"), "{message}");
    }
}

#[tokio::test]
async fn a_core_module() {
    let message = message(&wat::parse_str("(module)").unwrap()).await;
    assert!(message.starts_with("it is a core WebAssembly module, not a component; build"), "{message}");
    assert!(
        message.contains("wasm32-wasip2 and the airlock SDK")
            || message.contains("wasm32-wasip2` and the airlock SDK"),
        "{message}"
    );
}

#[tokio::test]
async fn a_component_that_is_cut_off_or_damaged() {
    let whole = guests::hostile();
    let message_of_half = message(&whole[..whole.len() / 2]).await;
    assert!(message_of_half.starts_with("the component is not valid: "), "{message_of_half}");
    let mut damaged = whole.to_vec();
    damaged[5000..5100].fill(0xff);
    assert!(message(&damaged).await.starts_with("the component is not valid: "));
}

#[tokio::test]
async fn a_component_without_the_exports() {
    let message = message(&guests::stranger()).await;
    assert!(
        message.starts_with(
            "it lacks the exports airlock:plugin/definitions@0.3.0, airlock:plugin/workflows@0.3.0, \
             airlock:plugin/activities@0.3.0: it is not an airlock plugin"
        ),
        "{message}"
    );
}

#[tokio::test]
async fn a_component_with_imports_that_are_not_given() {
    for import in ["wasi:http/outgoing-handler@0.2.6", "evil:door/open@1.0.0", "wasi:clocks/wall-clock@0.3.0"]
    {
        let message = message(&guests::wants(import)).await;
        assert!(
            message.starts_with(&format!("it asks for the import {import}, which a plugin is not given")),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_plugin_for_another_version_of_the_interface() {
    let message = message(&guests::wants("airlock:plugin/tools@0.9.0")).await;
    assert!(message.starts_with("it is built for airlock:plugin@0.9.0, and this airlock has"), "{message}");
}

#[tokio::test]
async fn a_plugin_whose_describe_traps() {
    let message = message(&guests::traps_everywhere()).await;
    assert!(
        message.starts_with(
            "it cannot say what it holds: `definitions.describe` trapped: it aborted without a message"
        ),
        "{message}"
    );
}

#[tokio::test]
async fn a_workflow_that_another_file_serves() {
    let room = Room::new();
    room.put("a.wasm", guests::hostile());
    room.put("b.wasm", guests::hostile_second());
    let sandbox = room.open().await;
    let digest = digest_of(&sandbox, "a");
    let message = rejection(&sandbox, "b").unwrap();
    assert_eq!(
        message,
        "the workflow \"one-step\" is served by a.wasm already: rename it, or remove one of the two files"
    );
    assert_eq!(sandbox.serving("one-step"), Some(digest));
}

#[tokio::test]
async fn a_file_that_is_too_large() {
    let room = Room::new();
    room.put("big.wasm", guests::hostile());
    let sandbox = room.open_with(|limits| limits.component_bytes = 1000).await;
    let message = rejection(&sandbox, "big").unwrap();
    assert!(message.contains("; the limit is 1000: build it in release mode"), "{message}");
}

#[tokio::test]
async fn a_policy_file_that_is_wrong() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    room.put("hostile.toml", "[limits]\nmemory_mb = 'lots'");
    let sandbox = room.open().await;
    let message = rejection(&sandbox, "hostile").unwrap();
    assert!(
        message.starts_with(
            "the policy file hostile.toml is wrong: line 2, column 13: limits.memory_mb is of the type"
        ),
        "{message}"
    );
    assert_eq!(sandbox.serving("one-step"), None);
}
