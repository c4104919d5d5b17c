//! The suite of every store, and what only this one promises.

use std::sync::Arc;

use airlock_engine::{
    Digest, ExecutionId, ExecutionKey, Json, OrganizationId, Principal, RunId, UserId, WorkspaceId,
    history::{Command, Record},
    records::{Change, Records, RecordsError},
    store::{Append, ExecutionRow, Start, Status, Store, StoreError, Wake},
};
use airlock_store::{OpenError, SqliteStore};

const KEY: [u8; 32] = [7; 32];

fn open(folder: &tempfile::TempDir) -> Arc<SqliteStore> {
    SqliteStore::open(folder.path(), &KEY).expect("the store opens")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn start(store: &SqliteStore, id: &str, secret: &str) -> Append {
    let id: ExecutionId = id.parse().expect("a valid id");
    let row = ExecutionRow {
        key: store.allocate(),
        root: id.clone(),
        id,
        run_id: RunId::generate(),
        workflow: "w".into(),
        digest: Digest([1; 32]),
        principal: Principal {
            user: UserId::new("u"),
            workspace: WorkspaceId::new("w"),
            organization: OrganizationId::new("o"),
        },
        status: Status::Running,
        started_at: 1,
        ended_at: None,
        parent: None,
        schedule: None,
    };
    let result = Json::from(serde_json::Value::from(secret));
    let records = vec![Record::Activation { jobs: vec![], commands: vec![Command::Complete { result }] }];
    let key = row.key;
    let start = Some(Box::new(Start { row, replaces: None }));
    Append { start, wake: Some(Wake::Now), ..Append::records(key, 0, 1, records) }
}

#[tokio::test]
async fn sqlite_keeps_the_contract_of_a_store() {
    let folder = folder();
    airlock_store_suite::run(|| open(&folder)).await;
}

#[tokio::test]
async fn row_17_no_payload_stands_in_the_database_or_its_log_in_plain_text() {
    let folder = folder();
    let store = open(&folder);
    store.append(start(&store, "sealed", "canary-payload-4711")).await.expect("appends");
    for file in std::fs::read_dir(folder.path()).expect("lists") {
        let path = file.expect("lists").path();
        if path.is_dir() {
            continue;
        }
        let bytes = std::fs::read(&path).expect("reads");
        let found = bytes.windows(14).any(|window| window == b"canary-payload");
        assert!(!found, "the payload stands in {}", path.display());
    }
}

#[tokio::test]
async fn a_row_moved_to_another_execution_does_not_open() {
    let folder = folder();
    let store = open(&folder);
    let (one, two) = (start(&store, "one", "1"), start(&store, "two", "2"));
    let keys: [ExecutionKey; 2] = [one.key, two.key];
    store.append(one).await.expect("appends");
    store.append(two).await.expect("appends");
    drop(store);
    let thief = rusqlite::Connection::open(folder.path().join("airlock.db")).expect("opens");
    thief
        .execute(
            "UPDATE journal SET body = (SELECT body FROM journal WHERE execution = ?2) WHERE execution = ?1",
            [keys[0].0, keys[1].0],
        )
        .expect("updates");
    drop(thief);
    let outcome = open(&folder).history(keys[0], 0, 10);
    assert!(matches!(outcome, Err(StoreError::Corrupt(_))), "{outcome:?}");
}

#[test]
fn a_folder_in_use_a_wrong_key_and_a_newer_layout_are_refused_with_a_reason() {
    let folder = folder();
    let store = open(&folder);
    let second = SqliteStore::open(folder.path(), &KEY).err();
    assert!(matches!(second, Some(OpenError::InUse(_))), "{second:?}");
    drop(store);
    let wrong = SqliteStore::open(folder.path(), &[8; 32]).err();
    assert!(matches!(wrong, Some(OpenError::WrongKey(_))), "{wrong:?}");
    let database = rusqlite::Connection::open(folder.path().join("airlock.db")).expect("opens");
    database.pragma_update(None, "user_version", 99).expect("updates");
    drop(database);
    let newer = SqliteStore::open(folder.path(), &KEY).err();
    assert!(matches!(newer, Some(OpenError::Newer { found: 99 })), "{newer:?}");
}

#[test]
fn a_folder_from_before_the_first_release_is_refused_with_what_to_do() {
    let folder = folder();
    let database = rusqlite::Connection::open(folder.path().join("airlock.db")).expect("opens");
    database.execute_batch("CREATE TABLE executions (key INTEGER PRIMARY KEY)").expect("lays out");
    database.pragma_update(None, "user_version", 1).expect("updates");
    drop(database);
    let older = SqliteStore::open(folder.path(), &KEY).err();
    assert!(matches!(older, Some(OpenError::Older { found: 1, .. })), "{older:?}");
    let message = older.expect("an error").to_string();
    assert!(
        message.contains("before the first release") && message.contains("empty data folder"),
        "{message}"
    );
}

#[test]
fn records_are_written_all_or_none_and_scanned_by_prefix() {
    let folder = folder();
    let store = open(&folder);
    let put = |key: &str| Change::Put { table: "t", key: key.into(), value: key.as_bytes().into() };
    store.write(&[put("a/1"), put("a/2"), put("a/3"), put("b/1")]).expect("writes");
    let insert = Change::Insert { table: "t", key: "a/2".into(), value: vec![] };
    let delete = Change::Delete { table: "t", key: "b/1".into() };
    let outcome = store.write(&[delete.clone(), insert]);
    assert!(matches!(outcome, Err(RecordsError::Conflict)), "{outcome:?}");
    assert!(store.get("t", "b/1").expect("reads").is_some(), "nothing of a refused write stays");
    store.write(&[delete]).expect("writes");
    assert_eq!(store.get("t", "b/1").expect("reads"), None);
    let keys = |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        store.scan("t", prefix, after, limit).expect("scans").into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys("a/", None, 2), ["a/1", "a/2"]);
    assert_eq!(keys("a/", Some("a/2"), 9), ["a/3"]);
    assert_eq!(keys("c", None, 9), [""; 0]);
}
