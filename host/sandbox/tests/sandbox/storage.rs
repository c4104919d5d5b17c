//! What is kept in the data folder.

use std::{collections::HashSet, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use airlock_engine::{
    Digest,
    guests::{GuestError, Guests},
};

use crate::{
    guests,
    room::{Room, digest_of, run, until},
};

fn files(room: &Room, folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(room.data().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_second_start_does_not_compile() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    assert_eq!(room.open().await.stats().compiles, 1);
    let again = room.open().await;
    assert_eq!(again.stats().compiles, 0);
    assert!(run(&again, &digest_of(&again, "hostile"), "noop", "null").await.is_ok());
}

#[tokio::test]
async fn damaged_code_is_compiled_again() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    drop(room.open().await);
    let code =
        files(&room, "compiled").into_iter().find(|path| path.extension().unwrap() == "cwasm").unwrap();
    let mut bytes = fs::read(&code).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&code, bytes).unwrap();
    let again = room.open().await;
    assert_eq!(again.stats().compiles, 1);
    assert!(run(&again, &digest_of(&again, "hostile"), "noop", "null").await.is_ok());
}

#[tokio::test]
async fn code_without_its_digest_is_compiled_again() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    drop(room.open().await);
    let note =
        files(&room, "compiled").into_iter().find(|path| path.extension().unwrap() == "sha256").unwrap();
    fs::remove_file(note).unwrap();
    assert_eq!(room.open().await.stats().compiles, 1);
}

#[tokio::test]
async fn the_folders_are_for_their_owner_alone() {
    let room = Room::new();
    let _sandbox = room.open().await;
    for folder in ["components", "compiled"] {
        let mode = fs::metadata(room.data().join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}

#[tokio::test]
async fn code_of_a_removed_plugin_runs_also_after_a_restart() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    let digest = digest_of(&*room.open().await, "hostile");
    fs::remove_file(room.plugins().join("hostile.wasm")).unwrap();
    let again = room.open().await;
    assert_eq!(again.serving("one-step"), None);
    assert!(again.definition(&digest).await.unwrap().workflow("one-step").is_some());
    assert!(run(&again, &digest, "noop", "null").await.is_ok());
    assert_eq!(again.stats().compiles, 0);
}

#[tokio::test]
async fn a_pinned_plugin_keeps_the_policy_of_its_name() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    room.put("hostile.toml", "[env]\nA = 'b'");
    let sandbox = room.open().await;
    let old = digest_of(&sandbox, "hostile");
    room.put("hostile.wasm", guests::hostile_second());
    drop(sandbox);
    let again = room.open().await;
    assert_ne!(digest_of(&again, "hostile"), old);
    assert_eq!(run(&again, &old, "env", "null").await.unwrap().as_str(), r#"["A=b"]"#);
}

#[tokio::test]
async fn what_nobody_needs_is_removed_and_then_missing() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    let sandbox = room.open().await;
    let old = digest_of(&sandbox, "hostile");
    room.put("hostile.wasm", guests::hostile_second());
    until("the second version", || sandbox.serving("one-step").is_some_and(|digest| digest != old)).await;
    assert!(sandbox.settled(airlock_patience::LIMIT).await);
    sandbox.retain(&HashSet::from([old]));
    assert!(run(&sandbox, &old, "noop", "null").await.is_ok());
    sandbox.retain(&HashSet::new());
    assert!(matches!(sandbox.definition(&old).await, Err(GuestError::Missing(digest)) if digest == old));
    // Component and name, code and digest, of the version that serves.
    assert_eq!((files(&room, "components").len(), files(&room, "compiled").len()), (2, 2));
    assert!(run(&sandbox, &digest_of(&sandbox, "hostile"), "noop", "null").await.is_ok());
}

#[tokio::test]
async fn an_unknown_or_damaged_component_is_missing() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    let digest = digest_of(&*room.open().await, "hostile");
    fs::remove_file(room.plugins().join("hostile.wasm")).unwrap();
    fs::write(room.data().join(format!("components/{digest}.wasm")), "other").unwrap();
    let again = room.open().await;
    for missing in [digest, Digest([1; 32])] {
        let error = again.definition(&missing).await.unwrap_err().to_string();
        assert!(
            error.ends_with("is not available: put the plugin's file back into the plugin folder"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_written_is_an_error_that_names_it() {
    let room = Room::new();
    fs::write(room.data(), "a file, not a folder").unwrap();
    let error = airlock_sandbox::Sandbox::open(room.config()).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot write to the data folder ") && error.contains("data"), "{error}");
}
