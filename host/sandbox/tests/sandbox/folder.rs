//! Files come, change and go while the sandbox runs.

use std::{fs, io::Write, time::Duration};

use airlock_engine::guests::{Guests, PluginState};
use airlock_patience::LIMIT;
use tokio::time::Instant;

use crate::{
    guests,
    room::{Room, digest_of, rejection, run, status, until},
};

#[tokio::test]
async fn a_new_file_serves() {
    let room = Room::new();
    let sandbox = room.open().await;
    assert!(sandbox.plugins().is_empty());
    room.put("hostile.wasm", guests::hostile());
    until("the plugin to serve", || sandbox.serving("one-step").is_some()).await;
    let PluginState::Ready { definition } = status(&sandbox, "hostile").unwrap().state else { panic!() };
    assert_eq!(definition.workflow("one-step").unwrap().slots[0].connector, "github");
}

#[tokio::test]
async fn a_replaced_file_serves_new_executions_and_the_old_code_stays_for_old_ones() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    let sandbox = room.open().await;
    let old = digest_of(&sandbox, "hostile");
    room.put("hostile.wasm", guests::hostile_second());
    until("the second version", || sandbox.serving("one-step").is_some_and(|digest| digest != old)).await;
    let new = sandbox.serving("one-step").unwrap();
    let description = |definition: &airlock_engine::PluginDefinition| {
        definition.workflow("one-step").unwrap().description.clone().unwrap()
    };
    assert_eq!(description(&sandbox.definition(&old).await.unwrap()), "first");
    assert_eq!(description(&sandbox.definition(&new).await.unwrap()), "second");
    assert!(run(&sandbox, &old, "noop", "null").await.is_ok());
}

#[tokio::test]
async fn a_removed_file_stops_serving() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    let sandbox = room.open().await;
    let digest = digest_of(&sandbox, "hostile");
    fs::remove_file(room.plugins().join("hostile.wasm")).unwrap();
    until("the plugin to go", || sandbox.serving("one-step").is_none()).await;
    assert!(sandbox.plugins().is_empty());
    assert!(run(&sandbox, &digest, "noop", "null").await.is_ok());
}

#[tokio::test]
async fn a_renamed_file_goes_on_serving_under_its_new_name() {
    let room = Room::new();
    room.put("a.wasm", guests::hostile());
    let sandbox = room.open().await;
    let digest = digest_of(&sandbox, "a");
    fs::rename(room.plugins().join("a.wasm"), room.plugins().join("b.wasm")).unwrap();
    let is_ready =
        |name| status(&sandbox, name).is_some_and(|it| matches!(it.state, PluginState::Ready { .. }));
    until("the new name", || {
        assert_eq!(sandbox.serving("one-step"), Some(digest));
        is_ready("b")
    })
    .await;
    assert_eq!(sandbox.serving("one-step"), Some(digest));
    assert_eq!(sandbox.plugins().len(), 1);
    assert_eq!(sandbox.stats().compiles, 1);
}

#[tokio::test]
async fn a_file_that_is_written_slowly_is_never_rejected() {
    let room = Room::new();
    let sandbox = room.open().await;
    let bytes = guests::hostile();
    let mut file = fs::File::create(room.plugins().join("hostile.wasm")).unwrap();
    for piece in bytes.chunks(bytes.len() / 4 + 1) {
        file.write_all(piece).unwrap();
        file.sync_all().unwrap();
        // Longer than the time in which a file has to stand still: this is what the test is about.
        let pause = Instant::now();
        until("the pause to end", || {
            assert_eq!(rejection(&sandbox, "hostile"), None);
            pause.elapsed() > Duration::from_millis(300)
        })
        .await;
    }
    drop(file);
    until("the plugin to serve", || sandbox.serving("one-step").is_some()).await;
}

#[tokio::test]
async fn a_rejected_replacement_leaves_the_earlier_version_serving() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    let sandbox = room.open().await;
    let digest = digest_of(&sandbox, "hostile");
    room.put("hostile.wasm", guests::stranger());
    until("the rejection", || rejection(&sandbox, "hostile").is_some()).await;
    let message = rejection(&sandbox, "hostile").unwrap();
    assert!(message.ends_with("(the earlier version of the file goes on serving)"), "{message}");
    assert_eq!(sandbox.serving("one-step"), Some(digest));
    room.put("hostile.wasm", guests::hostile_second());
    until("the rejection to be over", || rejection(&sandbox, "hostile").is_none()).await;
    assert_ne!(sandbox.serving("one-step"), Some(digest));
}

#[tokio::test]
async fn a_duplicate_serves_once_the_other_file_is_gone() {
    let room = Room::new();
    room.put("a.wasm", guests::hostile());
    room.put("b.wasm", guests::hostile_second());
    let sandbox = room.open().await;
    assert!(rejection(&sandbox, "b").is_some());
    fs::remove_file(room.plugins().join("a.wasm")).unwrap();
    until("the other to serve", || rejection(&sandbox, "b").is_none()).await;
    assert_eq!(sandbox.serving("one-step"), Some(digest_of(&sandbox, "b")));
}

#[tokio::test]
async fn a_policy_file_that_changes_holds_from_then_on() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    let sandbox = room.open().await;
    let digest = digest_of(&sandbox, "hostile");
    room.put("hostile.toml", "[env]\nA = 'b'");
    let changed = Instant::now();
    while run(&sandbox, &digest, "env", "null").await.unwrap().as_str() != r#"["A=b"]"# {
        assert!(changed.elapsed() < LIMIT, "the policy does not hold");
    }
    room.put("hostile.toml", "nonsense");
    until("the rejection", || rejection(&sandbox, "hostile").is_some()).await;
    // A mistake in the policy takes nothing away from what runs.
    assert_eq!(run(&sandbox, &digest, "env", "null").await.unwrap().as_str(), r#"["A=b"]"#);
}

#[tokio::test]
async fn other_files_and_hidden_ones_are_left_alone() {
    let room = Room::new();
    room.put("README.md", "hello");
    room.put(".hostile.wasm", "half");
    room.put("hostile.wasm.part", "half");
    let sandbox = room.open().await;
    assert!(sandbox.plugins().is_empty());
}

#[tokio::test]
async fn a_folder_that_vanishes_takes_nothing_away_and_is_watched_again() {
    let room = Room::new();
    room.put("hostile.wasm", guests::hostile());
    let sandbox = room.open().await;
    let away = room.plugins().with_extension("away");
    fs::rename(room.plugins(), &away).unwrap();
    let digest = digest_of(&sandbox, "hostile");
    assert!(run(&sandbox, &digest, "noop", "null").await.is_ok());
    fs::create_dir(room.plugins()).unwrap();
    until("the empty folder to be seen", || sandbox.plugins().is_empty()).await;
}
