//! Large payloads: where they go, and what happens when they cannot.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use airlock_engine::{
    Digest, ExecutionId, Json, OrganizationId, Principal, RunId, UserId, WorkspaceId,
    history::{Command, LARGE_PAYLOAD, Record, StoredRecord},
    store::{Append, ExecutionRow, Start, Status, Store, StoreError, Wake},
};
use airlock_patience::LIMIT;
use airlock_store::{ObjectConfig, OpenError, SqliteStore};

const KEY: [u8; 32] = [7; 32];

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn open(folder: &Path) -> Arc<SqliteStore> {
    SqliteStore::open(folder, &KEY).expect("the store opens")
}

fn record(text: &str) -> Record {
    let result = Json::from(serde_json::Value::from(text));
    Record::Activation { jobs: vec![], commands: vec![Command::Complete { result }] }
}

/// Five million bytes that no compression makes small.
fn large(mark: &str) -> Record {
    let mut text = format!("canary-{mark}-");
    let mut state = 88_172_645_463_325_252_u64;
    while text.len() < 5_000_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x}"));
    }
    record(&text)
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

fn plain(history: Vec<StoredRecord>) -> Vec<Record> {
    history.into_iter().map(|stored| stored.record).collect()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("lists").path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[tokio::test]
async fn a_large_payload_survives_reopening_sealed_and_outside_of_the_database() {
    let folder = folder();
    let store = open(folder.path());
    let records = vec![record("before"), large("one"), record("between"), large("two")];
    let append = start(&store, "large", records.clone());
    let key = append.key;
    let appended = store.append(append).await.expect("appends");
    drop(store);

    let store = open(folder.path());
    let history = store.history(key, 0, 10).expect("reads");
    assert_eq!(history[0].first_event, appended.first_event);
    assert!(history.iter().all(|stored| stored.at == 1));
    assert_eq!(plain(history), records);
    assert_eq!(plain(store.last_records(key, 1).expect("reads")), records[3..]);
    assert_eq!(plain(store.history(key, 1, 1).expect("reads")), records[1..2]);
    let is_large: Vec<bool> =
        store.sizes(key, 0, 10).expect("says").iter().map(|size| *size > LARGE_PAYLOAD as u64).collect();
    assert_eq!(is_large, [false, true, false, true], "sizes are known without reading");
    assert_eq!(store.sizes(key, 1, 1).expect("says").len(), 1);
    let mut last = store.last_sizes(key, 10).expect("says");
    last.reverse();
    assert_eq!(last, store.sizes(key, 0, 10).expect("says"));
    let objects = files(&folder.path().join("objects"));
    assert_eq!(objects.len(), 2, "{objects:?}");
    for file in files(folder.path()) {
        assert!(!contains(&std::fs::read(&file).expect("reads"), b"canary-"), "{}", file.display());
    }
    let database = std::fs::metadata(folder.path().join("airlock.db")).expect("is there").len();
    assert!(database < LARGE_PAYLOAD as u64, "{database} bytes");
}

#[tokio::test]
async fn a_long_list_of_large_payloads_is_read_in_pieces() {
    let folder = folder();
    let store = open(folder.path());
    let records: Vec<_> = (0..8).map(|i| large(&format!("{i}"))).collect();
    let append = start(&store, "pieces", records.clone());
    let key = append.key;
    store.append(append).await.expect("appends");
    let mut read = Vec::new();
    loop {
        let piece = store.history(key, read.len() as u32, 100).expect("reads");
        if piece.is_empty() {
            break;
        }
        assert!(piece.len() < records.len(), "not all at once");
        read.extend(plain(piece));
    }
    assert_eq!(read, records);
}

#[tokio::test]
async fn what_follows_a_large_payload_in_a_run_takes_effect_after_it() {
    let folder = folder();
    let store = open(folder.path());
    let first = start(&store, "order", vec![record("first")]);
    let key = first.key;
    store.append(first).await.expect("appends");
    let other = start(&store, "order-other", vec![record("other")]);
    let waiting = [
        store.append(Append::records(key, 1, 2, vec![large("a")])),
        store.append(Append::records(key, 2, 2, vec![record("b")])),
        store.append(Append::records(key, 3, 2, vec![large("c")])),
        store.append(Append::records(key, 4, 2, vec![record("d")])),
    ];
    let other = store.append(other).await.expect("another run is not held up").first_event;
    let mut numbers = Vec::new();
    for done in waiting {
        numbers.push(done.await.expect("appends").first_event);
    }
    assert!(numbers.is_sorted() && numbers.iter().all(|number| *number != other), "{numbers:?}");
    assert_eq!(store.history(key, 0, 10).expect("reads").len(), 5);
}

#[tokio::test]
async fn a_changed_and_a_missing_object_are_named() {
    let folder = folder();
    let store = open(folder.path());
    let append = start(&store, "named", vec![record("small"), large("named")]);
    let key = append.key;
    store.append(append).await.expect("appends");
    let objects = files(&folder.path().join("objects"));
    let [object] = &objects[..] else { panic!("one object: {objects:?}") };
    let name = object.file_name().expect("a name").to_string_lossy().into_owned();
    let whole = std::fs::read(object).expect("reads");
    let mut changed = whole.clone();
    changed[1_000_000] ^= 1;
    std::fs::write(object, changed).expect("writes");
    let outcome = store.history(key, 0, 10).expect_err("is noticed");
    let message = outcome.to_string();
    assert!(matches!(outcome, StoreError::Corrupt(_)), "{message}");
    assert!(message.contains(&name) && message.contains("was changed"), "{message}");
    std::fs::remove_file(object).expect("removes");
    let message = store.history(key, 0, 10).expect_err("is noticed").to_string();
    assert!(message.contains(&name) && message.contains("put it back"), "{message}");
    assert_eq!(store.history(key, 0, 1).expect("others are read").len(), 1);
    std::fs::create_dir_all(object.parent().expect("a folder")).expect("makes");
    std::fs::write(object, whole).expect("writes");
    assert_eq!(store.history(key, 0, 10).expect("reads").len(), 2);
}

#[tokio::test]
async fn a_purge_and_a_refused_append_leave_no_object() {
    let folder = folder();
    let store = open(folder.path());
    let objects = || files(&folder.path().join("objects")).len();
    let mut append = start(&store, "purged", vec![large("purged")]);
    append.end = Some((Status::Completed, 5));
    let key = append.key;
    store.append(append).await.expect("appends");
    let kept = start(&store, "kept", vec![large("kept")]);
    let kept_key = kept.key;
    store.append(kept).await.expect("appends");
    assert_eq!(objects(), 2);
    let refused = store.append(start(&store, "kept", vec![large("refused")])).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    let began = std::time::Instant::now();
    while objects() != 2 {
        assert!(began.elapsed() < LIMIT, "the object of the refused append is still there");
        tokio::task::yield_now().await;
    }
    assert_eq!(store.purge(10, 10).await.expect("purges"), 1);
    assert_eq!(objects(), 1);
    assert_eq!(store.history(key, 0, 10).expect("reads"), []);
    assert_eq!(store.history(kept_key, 0, 10).expect("reads").len(), 1);
}

#[tokio::test]
async fn a_sweep_removes_what_nothing_refers_to_once_it_is_old() {
    let folder = folder();
    let store = open(folder.path());
    let append = start(&store, "swept", vec![large("swept")]);
    let key = append.key;
    store.append(append).await.expect("appends");
    let orphan = folder.path().join("objects/payloads/99/0-00");
    std::fs::create_dir_all(orphan.parent().expect("a folder")).expect("makes");
    std::fs::write(&orphan, b"left by a crash").expect("writes");
    assert_eq!(store.sweep_objects().await.expect("sweeps"), 0, "it is too young");
    assert_eq!(store.sweep_objects_older_than(Duration::ZERO).await.expect("sweeps"), 1);
    assert!(!orphan.exists());
    assert_eq!(store.history(key, 0, 10).expect("reads").len(), 1);
}

#[tokio::test]
async fn an_object_store_that_cannot_be_used_fails_the_append_and_loses_nothing() {
    let (folder, elsewhere) = (folder(), folder());
    let place = elsewhere.path().join("payloads here");
    let url = url::Url::from_file_path(&place).expect("a URL").to_string();
    let config = ObjectConfig { url: Some(url), options: vec![] };
    let store = SqliteStore::open_with(folder.path(), &KEY, &config).expect("opens");
    let first = start(&store, "unreachable", vec![record("first")]);
    let key = first.key;
    store.append(first).await.expect("appends");
    // A file stands where the folder was.
    std::fs::remove_dir_all(&place).expect("removes");
    std::fs::write(&place, b"in the way").expect("writes");
    let step = || Append::records(key, 1, 2, vec![large("unreachable")]);
    let failed = store.append(step());
    let behind = store.append(Append::records(key, 2, 2, vec![record("behind")]));
    let message = failed.await.expect_err("fails").to_string();
    assert!(message.contains("payloads%20here") && message.contains("check"), "{message}");
    assert!(behind.await.is_err(), "what comes after it cannot be there without it");
    assert_eq!(store.history(key, 0, 10).expect("reads").len(), 1);
    std::fs::remove_file(&place).expect("removes");
    std::fs::create_dir(&place).expect("makes");
    store.append(step()).await.expect("the same append again");
    assert_eq!(plain(store.history(key, 1, 10).expect("reads")), [large("unreachable")]);
    assert_eq!(files(&place).len(), 1, "in the place of the URL");
    assert_eq!(files(&folder.path().join("objects")).len(), 0);
}

/// What a bucket holds, by path.
type Kept = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// As much of S3 as is needed, over plain HTTP: it keeps what is put under a path until it is deleted.
fn bucket() -> (String, Kept) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let kept = Kept::default();
    let shared = Arc::clone(&kept);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, kept) = (stream.expect("connects"), Arc::clone(&shared));
            std::thread::spawn(move || while serve(&stream, &kept).is_some() {});
        }
    });
    (endpoint, kept)
}

/// Answers one request; `None` at the end of the connection.
fn serve(stream: &TcpStream, kept: &Mutex<HashMap<String, Vec<u8>>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let mut length = 0;
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let path = target.split('?').next()?.to_owned();
    let mut kept = kept.lock().expect("not poisoned");
    let (status, answer) = match method.as_str() {
        "PUT" => {
            kept.insert(path, body);
            ("200 OK", Vec::new())
        }
        "GET" => match kept.get(&path) {
            Some(bytes) => ("200 OK", bytes.clone()),
            None => ("404 Not Found", Vec::new()),
        },
        // Many at once, named in XML.
        "POST" => {
            let text = String::from_utf8(body).ok()?;
            let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
            for key in keys {
                kept.remove(&format!("{}/{key}", path.trim_end_matches('/')));
            }
            ("200 OK", b"<DeleteResult></DeleteResult>".to_vec())
        }
        _ => {
            kept.remove(&path);
            ("204 No Content", Vec::new())
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\netag: \"1\"\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n",
        answer.len()
    );
    let mut writer = stream;
    writer.write_all(head.as_bytes()).ok()?;
    writer.write_all(&answer).ok()
}

#[tokio::test]
async fn large_payloads_are_kept_in_a_bucket_under_the_prefix_until_they_are_purged() {
    let folder = folder();
    let (endpoint, kept) = bucket();
    let options = [
        ("aws_endpoint", endpoint.as_str()),
        ("aws_allow_http", "true"),
        ("aws_region", "eu-central-1"),
        ("aws_access_key_id", "id"),
        ("aws_secret_access_key", "secret"),
    ];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let config = ObjectConfig { url: Some("s3://bucket/some/prefix".into()), options };
    let store = SqliteStore::open_with(folder.path(), &KEY, &config).expect("opens");
    let mut append = start(&store, "bucket", vec![record("small"), large("bucket")]);
    append.end = Some((Status::Completed, 5));
    let key = append.key;
    store.append(append).await.expect("appends");
    {
        let kept = kept.lock().expect("not poisoned");
        let paths: Vec<_> = kept.keys().collect();
        let expected = format!("/bucket/some/prefix/payloads/{}/1-", key.0);
        assert!(matches!(&paths[..], [path] if path.starts_with(&expected)), "{paths:?}");
        assert!(kept.values().all(|bytes| !contains(bytes, b"canary-")), "it is sealed");
    }
    assert!(!folder.path().join("objects").exists());
    drop(store);

    let store = SqliteStore::open_with(folder.path(), &KEY, &config).expect("opens");
    assert_eq!(plain(store.history(key, 0, 10).expect("reads")), [record("small"), large("bucket")]);
    let whole = std::mem::take(&mut *kept.lock().expect("not poisoned"));
    let message = store.history(key, 0, 10).expect_err("it is gone").to_string();
    assert!(message.contains("s3://bucket/some/prefix") && message.contains("put it back"), "{message}");
    *kept.lock().expect("not poisoned") = whole;
    assert_eq!(store.purge(10, 10).await.expect("purges"), 1);
    assert!(kept.lock().expect("not poisoned").is_empty());
}

#[test]
fn a_wrong_url_and_a_wrong_option_are_refused_with_a_reason_and_secrets_are_not_printed() {
    let folder = folder();
    let refused = |url: &str, options: &[(&str, &str)]| {
        let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let config = ObjectConfig { url: Some(url.into()), options };
        let shown = format!("{config:?}");
        assert!(!shown.contains("canary"), "{shown}");
        match SqliteStore::open_with(folder.path(), &KEY, &config) {
            Err(error @ OpenError::Objects(_)) => error.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{url} opens"),
        }
    };
    for url in ["bucket", "ftp://bucket/x", "https://example.com/x"] {
        assert!(refused(url, &[]).contains("s3://"), "{url}");
    }
    let message = refused("s3://bucket/x", &[("aws_acces_key_id", "canary")]);
    assert!(message.contains("aws_acces_key_id") && !message.contains("canary"), "{message}");
    let options = [
        ("s3://bucket/x", vec![("aws_region", "eu-west-1"), ("aws_endpoint", "https://minio.example")]),
        ("gs://bucket/x", vec![("google_skip_signature", "true")]),
        ("az://container/x", vec![("azure_storage_account_name", "a"), ("azure_skip_signature", "true")]),
    ];
    for (url, options) in options {
        let options = options.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let config = ObjectConfig { url: Some(url.into()), options };
        SqliteStore::open_with(folder.path(), &KEY, &config).unwrap_or_else(|error| panic!("{url}: {error}"));
    }
}
