//! Somebody who can write the database, and has no key: what they change opens nothing that is not theirs.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use airlock_engine::{
    Digest, ExecutionId, Json, OrganizationId, Principal, RunId, UserId, WorkspaceId,
    history::{Command, Record, Started},
    records::{Change, Records},
    store::{Append, ExecutionRow, Start, Status, Store, Wake},
    tools::Mocks,
};
use airlock_patience::LIMIT;
use airlock_store::{OpenError, SqliteStore, VersionsError};
use futures::executor::block_on;
use rusqlite::Connection;

const KEY: [u8; 32] = [7; 32];

fn user(name: &str) -> Principal {
    Principal {
        user: UserId::new(name),
        workspace: WorkspaceId::new("w"),
        organization: OrganizationId::new("o"),
    }
}

fn text(bytes: usize) -> Json {
    Json::from(serde_json::Value::from("x".repeat(bytes)))
}

/// A run that has ended. `before` writes it as an airlock did that had no owner in its seals.
fn run(store: &SqliteStore, owner: &str, input: usize, result: usize, before: bool) -> ExecutionRow {
    let id = ExecutionId::generate();
    let row = ExecutionRow {
        key: store.allocate(),
        root: id.clone(),
        id,
        run_id: RunId::generate(),
        workflow: "w".into(),
        digest: Digest([1; 32]),
        principal: user(owner),
        status: Status::Running,
        started_at: 1,
        ended_at: None,
        parent: None,
        schedule: None,
    };
    let started = Started {
        run_id: row.run_id,
        workflow: "w".into(),
        digest: row.digest,
        input: text(input),
        principal: row.principal.clone(),
        wishes: Vec::new(),
        mocks: Mocks::None,
        seed: 1,
        execution_timeout: Duration::from_secs(1),
        first_started_at: 1,
        not_before: 1,
        retry: None,
        attempt: 1,
        parent: None,
        continued_from: None,
        search_keys: Vec::new(),
    };
    let first = vec![Record::Started(Box::new(started))];
    let start = Some(Box::new(Start { row: row.clone(), replaces: None }));
    let begin = |records| Append { start, wake: Some(Wake::Now), ..Append::records(row.key, 0, 1, records) };
    if before {
        block_on(store.append(begin(Vec::new()))).expect("appends");
        block_on(store.append(Append::records(row.key, 0, 1, first))).expect("appends");
    } else {
        block_on(store.append(begin(first))).expect("appends");
    }
    let last =
        Record::Activation { jobs: vec![], commands: vec![Command::Complete { result: text(result) }] };
    let end = Append { end: Some((Status::Completed, 2)), ..Append::records(row.key, 1, 2, vec![last]) };
    block_on(store.append(end)).expect("appends");
    row
}

/// What mallory, who has a run of her own, is shown of a run that she says is hers: that is what the API does.
fn shown(store: &SqliteStore, id: &ExecutionId) -> bool {
    let Ok(Some(row)) = store.find(id) else { return false };
    row.principal == user("mallory")
        && (store.history(row.key, 0, 10).is_ok_and(|records| !records.is_empty())
            || store.history(row.key, 1, 10).is_ok_and(|records| !records.is_empty())
            || store.last_records(row.key, 2).is_ok_and(|records| !records.is_empty()))
}

fn edit(folder: &Path, sql: &str) {
    let connection = Connection::open(folder.join("airlock.db")).expect("opens");
    connection.busy_timeout(Duration::from_secs(10)).expect("waits");
    connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[test]
fn a19_a_changed_owner_is_shown_nothing_whatever_was_changed_and_whenever() {
    for before in [false, true] {
        for (input, result) in [(10, 10), (2_100_000, 10), (10, 2_100_000)] {
            let folder = tempfile::tempdir().expect("a folder");
            let mut store = SqliteStore::open(folder.path(), &KEY).expect("opens");
            let hers = run(&store, "mallory", 10, 10, before);
            let victims = run(&store, "victim", input, result, before);
            let (key, her_key) = (victims.key.0, hers.key.0);
            assert!(shown(&store, &hers.id) && !shown(&store, &victims.id));
            let number =
                |name: &str| format!("(SELECT number FROM names WHERE kind = 1 AND name = '{name}')");
            let edits = [
                format!("UPDATE executions SET user = {} WHERE key = {key}", number("mallory")),
                // The name itself.
                "UPDATE names SET name = 'x' WHERE name = 'mallory'; \
                 UPDATE names SET name = 'mallory' WHERE name = 'victim'"
                    .into(),
                // The other's row under the number of her own.
                format!(
                    "DELETE FROM executions WHERE key = {her_key}; \
                     UPDATE executions SET key = {her_key}, user = {} WHERE key = {key}; \
                     DELETE FROM journal WHERE execution = {her_key}; \
                     DELETE FROM objects WHERE execution = {her_key}; \
                     UPDATE journal SET execution = {her_key} WHERE execution = {key}; \
                     UPDATE objects SET execution = {her_key} WHERE execution = {key}",
                    number("mallory")
                ),
                // Her first record before the other's.
                format!(
                    "UPDATE executions SET user = {} WHERE key = {key}; \
                     UPDATE journal SET body = (SELECT body FROM journal WHERE execution = {her_key} AND idx = 0) \
                     WHERE execution = {key} AND idx = 0",
                    number("mallory")
                ),
                // Without a first record.
                format!(
                    "UPDATE executions SET user = {} WHERE key = {key}; \
                     DELETE FROM journal WHERE execution = {key} AND idx = 0",
                    number("mallory")
                ),
                // In the place of her own run.
                format!(
                    "UPDATE executions SET id = 'gone' WHERE key = {her_key}; \
                     UPDATE executions SET id = '{}', user = {} WHERE key = {key}",
                    hers.id,
                    number("mallory")
                ),
            ];
            let pristine = tempfile::tempdir().expect("a folder");
            drop(store);
            at_rest(folder.path());
            copy(folder.path(), pristine.path());
            for sql in edits {
                for running in [false, true] {
                    let folder = tempfile::tempdir().expect("a folder");
                    copy(pristine.path(), folder.path());
                    if running {
                        store = SqliteStore::open(folder.path(), &KEY).expect("opens");
                        // The owner of each is known by now.
                        assert!(store.history(victims.key, 0, 10).is_ok() && shown(&store, &hers.id));
                        edit(folder.path(), &sql);
                    } else {
                        edit(folder.path(), &sql);
                        store = SqliteStore::open(folder.path(), &KEY).expect("opens");
                    }
                    let what = format!(
                        "{sql} with a daemon: {running}, before: {before}, {input} and {result} bytes"
                    );
                    for id in [&victims.id, &hers.id] {
                        let row = store.find(id).ok().flatten();
                        if row.is_some_and(|row| row.run_id == victims.run_id) {
                            assert!(!shown(&store, id), "{what}");
                        }
                    }
                    drop(store);
                }
            }
            store = SqliteStore::open(pristine.path(), &KEY).expect("opens");
            assert_eq!(store.history(victims.key, 0, 10).expect("reads").len(), 2);
            drop(store);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("is listed") {
        let path = entry.expect("is there").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            std::fs::create_dir_all(&target).expect("is made");
            copy(&path, &target);
        } else {
            std::fs::copy(path, target).expect("is copied");
        }
    }
}

/// Waits until the last connection to a database is closed, with which its log goes.
fn at_rest(folder: &Path) {
    let begin = Instant::now();
    while folder.join("airlock.db-wal").exists() {
        assert!(begin.elapsed() < LIMIT, "the database stays open");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn put(store: &SqliteStore, table: &'static str, key: &str, value: &str) {
    store.write(&[Change::Put { table, key: key.into(), value: value.into() }]).expect("writes");
}

/// The rows of a table as they stand in the database.
fn rows(folder: &Path, table: &str) -> Vec<(String, Vec<u8>)> {
    let connection = Connection::open(folder.join("airlock.db")).expect("opens");
    let mut rows = connection.prepare("SELECT key, value FROM records WHERE name = ?1").expect("prepares");
    let rows = rows.query_map([table], |row| Ok((row.get(0)?, row.get(1)?))).expect("queries");
    rows.map(|row| row.expect("reads")).collect()
}

fn put_back(folder: &Path, table: &str, rows: &[(String, Vec<u8>)]) {
    let connection = Connection::open(folder.join("airlock.db")).expect("opens");
    connection.execute("DELETE FROM records WHERE name = ?1", [table]).expect("deletes");
    for (key, value) in rows {
        let sql = "INSERT INTO records (name, key, value) VALUES (?1, ?2, ?3)";
        connection.execute(sql, rusqlite::params![table, key, value]).expect("inserts");
    }
}

fn open(folder: &Path) -> Arc<SqliteStore> {
    SqliteStore::open(folder, &KEY).expect("opens")
}

#[test]
fn a19_a_row_of_keys_that_is_put_back_is_not_read_whichever_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    // A small linear congruential generator: keys are made, changed and taken out.
    let mut state = 5_u64;
    let mut next = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut states = Vec::new();
    for step in 0..60 {
        let store = open(folder.path());
        let key = format!("key-{}", next(4));
        match next(5) {
            0 => store.write(&[Change::Delete { table: "api_keys", key }]).expect("deletes"),
            _ => put(&store, "api_keys", &key, &format!("{key} at {step}")),
        }
        let read = store.scan("api_keys", "", None, 100).expect("reads");
        drop(store);
        states.push((rows(folder.path(), "api_keys"), read));
    }
    let (now, current) = states.last().cloned().expect("states");
    for (then, _) in &states {
        // Everything, and each row by itself among those of now.
        let mut edits = vec![then.clone()];
        for row in then {
            let mut edited: Vec<_> = now.iter().filter(|(key, _)| *key != row.0).cloned().collect();
            edited.push(row.clone());
            edits.push(edited);
        }
        for edited in edits {
            put_back(folder.path(), "api_keys", &edited);
            let store = open(folder.path());
            for (key, value) in store.scan("api_keys", "", None, 100).expect("reads") {
                assert!(current.contains(&(key.clone(), value)), "{key} is an old one");
            }
            for (key, row) in &edited {
                let is_current = now.contains(&(key.clone(), row.clone()));
                let found = store.get("api_keys", key);
                assert_eq!(found.is_ok(), is_current, "{key}: {found:?}");
                if let Err(error) = found {
                    assert!(error.to_string().contains("put an old one back"), "{error}");
                }
            }
        }
    }
    put_back(folder.path(), "api_keys", &now);
    assert_eq!(open(folder.path()).scan("api_keys", "", None, 100).expect("reads"), current);
}

#[test]
fn a19_a_crash_between_the_database_and_the_versions_loses_no_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let versions = folder.path().join("versions");
    let store = open(folder.path());
    put(&store, "audit_head", "head", "1");
    put(&store, "api_keys", "a", "1");
    let before = std::fs::read(&versions).expect("reads");
    put(&store, "audit_head", "head", "2");
    put(&store, "api_keys", "a", "2");
    put(&store, "api_keys", "b", "1");
    drop(store);
    std::fs::write(&versions, before).expect("writes");
    let store = open(folder.path());
    assert_eq!(store.get("audit_head", "head").expect("reads"), Some(b"2".to_vec()));
    assert_eq!(store.scan("api_keys", "", None, 9).expect("reads").len(), 2);
    drop(store);
    // And from then on they are the ones that count.
    let old = rows(folder.path(), "api_keys");
    put(&open(folder.path()), "api_keys", "b", "2");
    put_back(folder.path(), "api_keys", &old);
    assert!(open(folder.path()).get("api_keys", "b").is_err());
}

#[test]
fn a19_versions_that_are_gone_or_changed_are_missed() {
    let folder = tempfile::tempdir().expect("a folder");
    put(&open(folder.path()), "api_keys", "a", "1");
    let versions = folder.path().join("versions");
    let whole = std::fs::read(&versions).expect("reads");
    let mut changed = whole.clone();
    changed[40] ^= 1;
    std::fs::write(&versions, changed).expect("writes");
    let error = SqliteStore::open(folder.path(), &KEY).err().expect("is refused");
    assert!(matches!(error, OpenError::Versions(VersionsError::Damaged(_))), "{error}");
    std::fs::remove_file(&versions).expect("removes");
    let error = SqliteStore::open(folder.path(), &KEY).err().expect("is refused");
    assert!(matches!(error, OpenError::Versions(VersionsError::Missing(_))), "{error}");
    std::fs::write(&versions, whole).expect("writes");
    assert_eq!(open(folder.path()).get("api_keys", "a").expect("reads"), Some(b"1".to_vec()));
}

#[test]
fn a5_a_page_of_a_history_holds_a_bounded_number_of_bytes_whatever_the_records_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    // Large ones are in the object store, those of 1.9 MB in the journal.
    for bytes in [1_900_000, 14_000_000] {
        let row = run(&store, "ada", bytes, 10, false);
        let count = 38_000_000 / bytes as u32;
        for index in 0..count {
            let last = Record::Activation {
                jobs: vec![],
                commands: vec![Command::Complete { result: text(bytes) }],
            };
            block_on(store.append(Append::records(row.key, 2 + index, 2, vec![last]))).expect("appends");
        }
        let (mut from, mut pages) = (0, 0);
        loop {
            let page = store.history(row.key, from, 10_000).expect("reads");
            if page.is_empty() {
                break;
            }
            let size: u64 = page
                .iter()
                .map(|stored| serde_json::to_string(&stored.record).expect("JSON").len() as u64)
                .sum();
            assert!(size < 33_000_000, "{size} bytes of records of {bytes}");
            from += page.len() as u32;
            pages += 1;
        }
        assert_eq!(from, count + 2);
        assert!(pages > 1, "{pages} pages");
    }
}
