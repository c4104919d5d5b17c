//! How much a backup disturbs the appends of a running store: as it is done, and as it could be done.
//!
//! `cargo bench -p airlock-store --bench backup --profile release -- [MEGABYTES]`, 500 if nothing else is said. Lines that
//! begin with `figure` are for programs: `figure NAME p50_ms p99_ms max_ms`.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use airlock_engine::{
    Digest, ExecutionId, ExecutionKey, Json, OrganizationId, Principal, RunId, UserId, WorkspaceId,
    history::{Command, Record},
    store::{Append, ExecutionRow, Start, Status, Store},
};
use airlock_store::{SqliteStore, backup::backup};
use futures::executor::block_on;

fn main() {
    let megabytes = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(500_u32);
    let (data, place) = (folder(), folder());
    let store = SqliteStore::open(data.path(), &[1; 32]).expect("the store opens");
    let key = start(&store);
    let filled: Vec<_> = (1..=2)
        .map(|part| {
            let (store, key) = (Arc::clone(&store), start(&store));
            std::thread::spawn(move || {
                let pending: Vec<_> =
                    (1..megabytes * 125).map(|index| store.append(step(key, index, 4_000))).collect();
                pending.into_iter().for_each(|done| {
                    block_on(done).expect("appends");
                });
                part
            })
        })
        .collect();
    filled.into_iter().for_each(|part| {
        part.join().expect("fills");
    });
    let source = data.path().join("airlock.db");
    let size = std::fs::metadata(&source).map_or(0, |file| file.len());
    println!("a database of {} MB; steps of one run, one after the other, meanwhile:", size / 1_000_000);
    println!("{:<26} {:>7} {:>9} {:>9} {:>9} {:>9}", "", "s", "p50 ms", "p99 ms", "max ms", "WAL MB");
    let mut index = 1;
    let mut measure = |name: &str, work: &(dyn Fn() + Sync)| {
        let mut times = Vec::new();
        let began = Instant::now();
        std::thread::scope(|scope| {
            let working = scope.spawn(work);
            while !working.is_finished() {
                let began = Instant::now();
                block_on(store.append(step(key, index, 200))).expect("appends");
                times.push(began.elapsed());
                index += 1;
            }
        });
        let log = std::fs::metadata(data.path().join("airlock.db-wal")).map_or(0, |file| file.len());
        report(name, began.elapsed(), &mut times, log);
    };
    measure("nothing", &|| std::thread::sleep(Duration::from_secs(5)));
    let to = |name: &str| place.path().join(name);
    measure("backup", &|| {
        backup(data.path(), &to("backup"), &[9; 32]).expect("takes a backup");
    });
    measure("vacuum_into", &|| vacuum(&source, &to("vacuum.db")));
    measure("backup_in_one_step", &|| one_step(&source, &to("one.db")));
}

fn vacuum(source: &Path, destination: &Path) {
    let from = rusqlite::Connection::open(source).expect("opens");
    from.execute("VACUUM INTO ?1", [destination.to_str()]).expect("copies");
}

fn one_step(source: &Path, destination: &Path) {
    let from = rusqlite::Connection::open(source).expect("opens");
    let mut to = rusqlite::Connection::open(destination).expect("opens");
    let copy = rusqlite::backup::Backup::new(&from, &mut to).expect("begins");
    copy.step(-1).expect("copies");
}

fn start(store: &SqliteStore) -> ExecutionKey {
    let id = ExecutionId::generate();
    let key = store.allocate();
    let row = ExecutionRow {
        key,
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
    let start = Some(Box::new(Start { row, replaces: None }));
    let first = Append { start, ..Append::records(key, 0, 1, vec![Record::Unblocked]) };
    block_on(store.append(first)).expect("appends");
    key
}

fn step(key: ExecutionKey, index: u32, bytes: usize) -> Append {
    let result = Json::from(serde_json::Value::from("x".repeat(bytes)));
    let record = Record::Activation { jobs: vec![], commands: vec![Command::Complete { result }] };
    Append::records(key, index, 2, vec![record])
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn report(name: &str, took: Duration, times: &mut [Duration], log: u64) {
    times.sort();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    let ms = |share| at(share).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let (seconds, log) = (took.as_secs_f64(), log as f64 / 1e6);
    println!("{name:<26} {seconds:>7.1} {:>9.3} {:>9.3} {:>9.3} {log:>9.1}", ms(50), ms(99), ms(100));
    println!("figure {name} {:.3} {:.3} {:.3}", ms(50), ms(99), ms(100));
}
