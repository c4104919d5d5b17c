//! Backups of a folder that is being written to.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use airlock_engine::{
    Digest, ExecutionId, ExecutionKey, Json, OrganizationId, Principal, RunId, UserId, WorkspaceId,
    history::{Command, Record},
    store::{Append, ExecutionRow, Start, Status, Store, Wake},
};
use airlock_store::{
    ObjectConfig, SqliteStore,
    backup::{BackupError, Trust, admit, backup, restore, verify},
};
use futures::executor::block_on;

const KEY: [u8; 32] = [7; 32];
/// What seals manifests.
const SEAL: [u8; 32] = [9; 32];
const TRUST: Trust<'static> = Trust::Key(&SEAL);
/// Tell the process that takes a backup where from and where to.
const FROM: &str = "AIRLOCK_TEST_BACKUP_FROM";
const TO: &str = "AIRLOCK_TEST_BACKUP_TO";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn record(bytes: usize) -> Record {
    let result = Json::from(serde_json::Value::from("x".repeat(bytes)));
    Record::Activation { jobs: vec![], commands: vec![Command::Complete { result }] }
}

fn start(store: &SqliteStore, id: &str, records: Vec<Record>) -> Append {
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
    let key = row.key;
    let start = Some(Box::new(Start { row, replaces: None }));
    Append { start, wake: Some(Wake::Now), ..Append::records(key, 0, 1, records) }
}

/// Another process: this test alone, which the next one starts.
#[test]
#[ignore = "is run by another test, in a process of its own"]
fn the_process_that_takes_a_backup() {
    let (Ok(from), Ok(to)) = (std::env::var(FROM), std::env::var(TO)) else { return };
    backup(Path::new(&from), Path::new(&to), &SEAL).expect("takes a backup");
}

#[test]
fn a_backup_under_a_writer_without_pause_holds_all_that_was_acknowledged_before_and_whole_histories() {
    let (data, place, restored) = (folder(), folder(), folder());
    let store = SqliteStore::open(data.path(), &KEY).expect("opens");
    let runs: Vec<ExecutionKey> = (0..4)
        .map(|i| {
            let append = start(&store, &format!("run-{i}"), vec![record(100)]);
            let key = append.key;
            block_on(store.append(append)).expect("appends");
            key
        })
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = runs
        .iter()
        .map(|&key| {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut index = 1;
                while !stop.load(Ordering::Relaxed) {
                    // A large payload now and then.
                    let bytes = if index % 500 == 250 { 2_100_000 } else { 3_000 };
                    block_on(store.append(Append::records(key, index, 2, vec![record(bytes)])))
                        .expect("appends");
                    index += 1;
                }
                index
            })
        })
        .collect();
    let lengths = || -> Vec<usize> {
        runs.iter().map(|key| store.last_records(*key, 100_000).expect("reads").len()).collect()
    };
    while lengths().iter().any(|length| *length < 300) {
        std::thread::yield_now();
    }
    let before = lengths();
    let destination = place.path().join("copy");
    let taken = std::process::Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "the_process_that_takes_a_backup", "--ignored"])
        .env(FROM, data.path())
        .env(TO, &destination)
        .output()
        .expect("starts");
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stdout));
    stop.store(true, Ordering::Relaxed);
    let written: Vec<u32> = writers.into_iter().map(|writer| writer.join().expect("writes")).collect();

    let report = verify(&destination, TRUST).expect("is whole");
    assert_eq!(report.runs, 4);
    assert!(report.objects > 0, "{report:?}");
    let target = restored.path().join("data");
    assert_eq!(restore(&destination, &target, TRUST).expect("restores"), report);
    let copy = SqliteStore::open(&target, &KEY).expect("opens");
    let mut records = 0;
    for (i, key) in runs.iter().enumerate() {
        let (mut history, mut from) = (Vec::new(), 0);
        loop {
            let piece = copy.history(*key, from, 1_000).expect("every payload is there");
            if piece.is_empty() {
                break;
            }
            from += piece.len() as u32;
            history.extend(piece);
        }
        assert!(history.len() >= before[i], "{} of {} acknowledged", history.len(), before[i]);
        // Reading by index found each after the other: there is no gap if the last index is the number of records.
        assert_eq!(copy.history(*key, history.len() as u32, 10).expect("reads"), []);
        assert!(history.windows(2).all(|two| two[0].first_event < two[1].first_event));
        records += history.len() as u64;
        // And the writer lost nothing.
        assert_eq!(store.history(*key, written[i] - 1, 10).expect("reads").len(), 1);
    }
    assert_eq!(records, report.records);
    // The copy goes on by itself.
    let next = start(&copy, "after", vec![record(1)]);
    block_on(copy.append(next)).expect("appends");
}

#[test]
fn a_backup_holds_components_and_wanted_payloads_but_no_key_and_no_compiled_code() {
    let (data, place) = (folder(), folder());
    let store = SqliteStore::open(data.path(), &KEY).expect("opens");
    block_on(store.append(start(&store, "large", vec![record(2_500_000)]))).expect("appends");
    let write = |path: &str, bytes: &[u8]| {
        let path = data.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
        std::fs::write(path, bytes).expect("writes");
    };
    // SHA-256 of nothing.
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    write(&format!("components/{digest}.wasm"), b"");
    write(&format!("components/{digest}.name"), b"plugin");
    write("components/.1-2.part", b"half");
    write("compiled/x.cwasm", b"code");
    write("master.key", b"secret");
    write("owner.key", b"secret");
    write("objects/payloads/9/left-over", b"nothing refers to it");
    let destination = place.path().join("copy");
    let report = backup(data.path(), &destination, &SEAL).expect("takes a backup");
    assert_eq!((report.runs, report.objects, report.components), (1, 1, 1));
    assert_eq!(report.missing_components, ["01".repeat(32)], "the run is pinned to something else");
    assert!(report.to_string().contains("master.key"), "{report}");
    let mut names: Vec<_> = std::fs::read_dir(&destination)
        .expect("lists")
        .map(|entry| entry.expect("lists").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names, ["airlock.db", "backup.json", "components", "objects", "versions"]);
    let left = destination.join("objects/payloads/9/left-over");
    assert!(!left.exists() && !destination.join("components/.1-2.part").exists());
    assert_eq!(verify(&destination, TRUST).expect("is whole"), report);

    // Nothing is written over.
    let again = backup(data.path(), &destination, &SEAL);
    assert!(matches!(again, Err(BackupError::NotEmpty(_))), "{again:?}");
    let onto = restore(&destination, data.path(), TRUST);
    assert!(matches!(onto, Err(BackupError::InUse(_))), "{onto:?}");
    drop(store);
    let onto = restore(&destination, data.path(), TRUST);
    assert!(matches!(onto, Err(BackupError::NotEmpty(_))), "{onto:?}");
    let nothing = backup(place.path(), &place.path().join("other"), &SEAL);
    assert!(matches!(nothing, Err(BackupError::NoData(_))), "{nothing:?}");

    // What is damaged is found.
    let damaged = |what: &str| {
        let message = verify(&destination, TRUST).expect_err("is damaged").to_string();
        assert!(message.contains(what), "{message}");
        assert!(restore(&destination, &place.path().join("new"), TRUST).is_err());
    };
    let object = {
        let mut folder = destination.join("objects/payloads");
        while folder.is_dir() {
            let mut entries =
                std::fs::read_dir(&folder).expect("lists").map(|entry| entry.expect("lists").path());
            folder = entries.find(|path| !path.ends_with("9")).expect("an entry");
        }
        folder
    };
    let whole = std::fs::read(&object).expect("reads");
    std::fs::write(&object, vec![0; whole.len()]).expect("writes");
    damaged("objects/payloads/");
    std::fs::write(&object, whole).expect("writes");
    std::fs::write(destination.join(format!("components/{digest}.wasm")), b"x").expect("writes");
    damaged("components/");
    std::fs::write(destination.join(format!("components/{digest}.wasm")), b"").expect("writes");
    verify(&destination, TRUST).expect("is whole again");
    let database = std::fs::read(destination.join("airlock.db")).expect("reads");
    let mut changed = database.clone();
    *changed.last_mut().expect("a byte") ^= 1;
    std::fs::write(destination.join("airlock.db"), changed).expect("writes");
    damaged("airlock.db");
    std::fs::write(destination.join("airlock.db"), database).expect("writes");
    std::fs::remove_file(destination.join("backup.json")).expect("removes");
    damaged("backup.json");
}

#[test]
fn a_backup_says_that_payloads_elsewhere_are_not_part_of_it() {
    let (data, bucket, place) = (folder(), folder(), folder());
    let url = url::Url::from_file_path(bucket.path()).expect("a URL").to_string();
    let config = ObjectConfig { url: Some(url.clone()), options: vec![] };
    let store = SqliteStore::open_with(data.path(), &KEY, &config).expect("opens");
    let append = start(&store, "large", vec![record(2_500_000)]);
    let key = append.key;
    block_on(store.append(append)).expect("appends");
    let destination = place.path().join("copy");
    let report = backup(data.path(), &destination, &SEAL).expect("takes a backup");
    assert_eq!(report.object_store.as_deref(), Some(&*url));
    assert!(report.to_string().contains(&url), "{report}");
    let target = place.path().join("restored");
    restore(&destination, &target, TRUST).expect("restores");
    let copy = SqliteStore::open_with(&target, &KEY, &config).expect("opens");
    assert_eq!(copy.history(key, 0, 10).expect("reads").len(), 1);
}

/// Every file of a folder, by path within it.
fn contents(folder: &Path) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).expect("is listed") {
            let path = entry.expect("is there").path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    found.push(
                        path.strip_prefix(folder).expect("is within").to_str().expect("text").to_owned(),
                    );
                }
            }
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in contents(from) {
        let target = to.join(&file);
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("is made");
        std::fs::copy(from.join(file), target).expect("is copied");
    }
}

/// Writes the digests of what is there into the manifest, as somebody without the key can.
fn digest_anew(folder: &Path) {
    use sha2::Digest as _;
    let file = folder.join("backup.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).expect("reads")).expect("JSON");
    let mut files = serde_json::Map::new();
    for path in contents(folder).into_iter().filter(|path| path != "backup.json") {
        let bytes = std::fs::read(folder.join(&path)).expect("reads");
        let sha256 = hex::encode(sha2::Sha256::digest(&bytes));
        if path == "airlock.db" {
            manifest["database_sha256"] = sha256.as_str().into();
        }
        files.insert(path, serde_json::json!({ "bytes": bytes.len(), "sha256": sha256 }));
    }
    manifest["files"] = files.into();
    std::fs::write(file, manifest.to_string()).expect("writes");
}

#[test]
fn a19_a_backup_that_was_edited_in_any_file_neither_verifies_nor_starts() {
    let (data, place) = (folder(), folder());
    let store = SqliteStore::open(data.path(), &KEY).expect("opens");
    block_on(store.append(start(&store, "a", vec![record(2_100_000)]))).expect("appends");
    for (name, text) in
        [("keyring", "keys"), ("audit/audit-00000001.jsonl", "{}"), ("components/x.wasm.policy", "open")]
    {
        let file = data.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("is made");
        std::fs::write(file, text).expect("writes");
    }
    let taken = place.path().join("taken");
    let report = backup(data.path(), &taken, &SEAL).expect("takes a backup");
    let all = contents(&taken);
    for part in ["airlock.db", "audit/audit-00000001.jsonl", "keyring", "versions", "objects/"] {
        assert!(all.iter().any(|file| file.starts_with(part)), "{part} is not in {all:?}");
    }
    assert_eq!(verify(&taken, TRUST).expect("is whole"), report);
    assert!(matches!(verify(&taken, Trust::Key(&[1; 32])), Err(BackupError::Seal)));
    let mut number = 0;
    let mut edits: Vec<(String, bool)> = Vec::new();
    for file in &all {
        for kind in ["flip", "cut", "grow", "remove"] {
            edits.extend([false, true].map(|anew| (format!("{kind} {file}"), anew)));
        }
    }
    edits.extend([false, true].map(|anew| ("add audit/audit-00000002.jsonl".into(), anew)));
    for (edit, anew) in edits {
        number += 1;
        let edited = place.path().join(number.to_string());
        copy(&taken, &edited);
        let (kind, name) = edit.split_once(' ').expect("two words");
        let file = edited.join(name);
        let mut bytes = std::fs::read(&file).unwrap_or_default();
        match kind {
            "flip" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            "cut" => drop(bytes.pop()),
            _ => bytes.push(b' '),
        }
        match kind {
            "remove" => std::fs::remove_file(&file).expect("is removed"),
            _ => std::fs::write(&file, bytes).expect("writes"),
        }
        let what = format!("{edit}, digests written anew: {anew}");
        if anew && name != "backup.json" {
            digest_anew(&edited);
        }
        // White space around the manifest says nothing.
        if edit == "grow backup.json" {
            continue;
        }
        assert!(verify(&edited, TRUST).is_err(), "{what}");
        let target = place.path().join(format!("data-{number}"));
        assert!(restore(&edited, &target, TRUST).is_err(), "{what}");
        assert!(!target.join("airlock.db").exists(), "{what}");
        // Where the key is not, the daemon finds out.
        let target = place.path().join(format!("later-{number}"));
        if restore(&edited, &target, Trust::Later).is_ok() {
            assert!(admit(&target, &SEAL).is_err(), "{what}");
        }
        std::fs::remove_dir_all(edited).expect("is removed");
    }
    let target = place.path().join("whole");
    restore(&taken, &target, Trust::Later).expect("restores");
    std::fs::write(target.join("owner.key"), "put there by hand").expect("writes");
    admit(&target, &SEAL).expect("is whole");
    admit(&target, &[1; 32]).expect("was admitted");
    let copy = SqliteStore::open(&target, &KEY).expect("opens");
    assert_eq!(
        copy.find(&"a".parse().expect("an id")).expect("reads").map(|row| row.status),
        Some(Status::Running)
    );
}

#[test]
fn a19_a_backup_from_before_seals_is_restored_only_when_somebody_says_so() {
    let (data, place) = (folder(), folder());
    drop(SqliteStore::open(data.path(), &KEY).expect("opens"));
    let taken = place.path().join("taken");
    backup(data.path(), &taken, &SEAL).expect("takes a backup");
    let file = taken.join("backup.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).expect("reads")).expect("JSON");
    manifest["format"] = 1.into();
    manifest
        .as_object_mut()
        .expect("an object")
        .retain(|name, _| !["files", "seal"].contains(&name.as_str()));
    std::fs::write(&file, manifest.to_string()).expect("writes");
    for trust in [TRUST, Trust::Later] {
        let error = restore(&taken, &place.path().join("data"), trust).expect_err("is refused").to_string();
        assert!(error.contains("--unsealed"), "{error}");
    }
    restore(&taken, &place.path().join("data"), Trust::Unsealed).expect("restores");
}
