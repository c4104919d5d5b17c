use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _};

use airlock_patience::LIMIT;
use futures::StreamExt as _;
use serde_json::json;

use super::{entry::Actor, *};
use crate::control::memory::Memory;

fn key() -> Zeroizing<[u8; 32]> {
    Zeroizing::new([7; 32])
}

fn call(number: usize) -> Event {
    Event {
        actor: Actor {
            user: ["ada", "bob"][number % 2].into(),
            workspace: "main".into(),
            organization: "default".into(),
        },
        execution: Some(format!("0192d2a8-7a11-7cc0-a7a2-{:012}", number / 10)),
        step: Some(format!("0192d2a8-7a11-7cc0-a7a2-{:012}/{number}", number / 10)),
        connector_id: Some("8b2c4f4e-6a4f-4d5e-9d0e-2f1f4b8f1a11".into()),
        connector: Some("github_app".into()),
        tool: Some("create_issue".into()),
        credential: Some(CredentialVersion { id: "8b2c4f4e/user/ada/work".into(), version: 3 }),
        duration_us: 1_234,
        request_bytes: 200,
        response_bytes: 3_000,
        ..Event::default()
    }
}

/// A log with so many entries, in files of at most `max_file` bytes.
fn written(folder: &Path, entries: usize, max_file: u64) -> AuditLog {
    let log = AuditLog::open_with(folder, &key(), max_file).expect("opens");
    for number in 0..entries {
        log.record(call(number)).expect("is recorded");
    }
    log
}

fn lines(folder: &Path, number: u64) -> Vec<String> {
    let text = fs::read_to_string(folder.join(files::name(number))).expect("reads");
    text.lines().map(str::to_owned).collect()
}

fn put(folder: &Path, number: u64, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(folder.join(files::name(number)), text).expect("writes");
}

#[test]
fn what_is_recorded_is_read_again_and_verifies() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path(), 10, MAX_FILE);
    let asked = Event { outcome: Outcome::ToolError, arguments: Some(json!({ "title": "x" })), ..call(10) };
    assert_eq!(log.record(asked.clone()).expect("is recorded"), 11);
    let all = log.read(0, 100, &Filter::default()).expect("reads");
    assert_eq!(all.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
    assert_eq!(all[10].event, asked);
    assert_eq!(all[0].previous, "0".repeat(64));
    assert!(all.windows(2).all(|pair| pair[0].hash == pair[1].previous && pair[0].at <= pair[1].at));
    let verified = log.verify(&[]).expect("is whole");
    assert_eq!((verified.entries, verified.last), (11, Some(log.head())));
    assert_eq!(verified.first.expect("is there").hash, all[0].hash);
    assert!(lines(folder.path(), 1)[0].len() < 1_024);
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(folder.path()), 0o700);
    assert_eq!(mode(&folder.path().join("audit-00000001.jsonl")), 0o600);
}

#[test]
fn each_kind_of_tampering_is_found_and_named() {
    const ENTRIES: usize = 60;
    type Tamper = fn(&Path);
    fn edit(folder: &Path, number: u64, change: impl FnOnce(&mut Vec<String>)) {
        let mut all = lines(folder, number);
        change(&mut all);
        put(folder, number, &all);
    }
    /// A line by somebody who knows the format and not the key.
    fn forged(sequence: u64) -> String {
        let event = json!({ "sequence": sequence, "at": "2026-01-01T00:00:00Z", "kind": "call" });
        let mut line = event.to_string().into_bytes();
        Chain::new(&[8; 32]).seal(&mut line);
        String::from_utf8(line).expect("text").trim().to_owned()
    }
    /// The file, the line, the entry that should be there, and what was done.
    type Found = (u64, u64, u64, Why);
    // About ten entries go into a file.
    let table: Vec<(&str, Tamper, Found)> = vec![
        (
            "a line changed",
            |folder| edit(folder, 1, |all| all[2] = all[2].replace("ada", "eve")),
            (1, 3, 3, Why::Changed),
        ),
        ("a hash changed", |folder| edit(folder, 1, |all| all[2] = forged(3)), (1, 3, 3, Why::Changed)),
        ("garbage", |folder| edit(folder, 1, |all| all[2] = "\u{1}".into()), (1, 3, 3, Why::Changed)),
        ("a line removed", |folder| edit(folder, 1, |all| drop(all.remove(4))), (1, 5, 5, Why::Removed(1))),
        (
            "the first removed",
            |folder| edit(folder, 1, |all| drop(all.remove(0))),
            (1, 1, 1, Why::Removed(1)),
        ),
        ("two lines swapped", |folder| edit(folder, 1, |all| all.swap(4, 5)), (1, 5, 5, Why::Reordered)),
        (
            "a line moved far",
            |folder| {
                let last = lines(folder, 3).remove(0);
                edit(folder, 3, |all| drop(all.remove(0)));
                edit(folder, 1, |all| all.insert(1, last));
            },
            (1, 2, 2, Why::Reordered),
        ),
        ("a line forged", |folder| edit(folder, 1, |all| all.insert(4, forged(5))), (1, 5, 5, Why::Inserted)),
        (
            "a line repeated",
            |folder| {
                edit(folder, 1, |all| {
                    let copy = all[1].clone();
                    all.insert(4, copy);
                });
            },
            (1, 5, 5, Why::Inserted),
        ),
        (
            "a file removed",
            |folder| fs::remove_file(folder.join(files::name(2))).expect("is removed"),
            (3, 1, 0, Why::Removed(0)),
        ),
        (
            "two files swapped",
            |folder| {
                let (second, third) = (lines(folder, 2), lines(folder, 3));
                put(folder, 2, &third);
                put(folder, 3, &second);
            },
            (2, 1, 0, Why::Reordered),
        ),
    ];
    for (name, tamper, (file, line, sequence, why)) in table {
        let folder = tempfile::tempdir().expect("a folder");
        let head = written(folder.path(), ENTRIES, 8_000).head();
        let per_file = lines(folder.path(), 1).len() as u64;
        assert!((6..20).contains(&per_file), "{per_file} entries in a file");
        let third = chain::sequence(lines(folder.path(), 3)[0].as_bytes()).expect("a sequence");
        tamper(folder.path());
        // The numbers of what depends on how many entries go into a file.
        let sequence = if sequence == 0 { per_file + 1 } else { sequence };
        let why = if why == Why::Removed(0) { Why::Removed(third - per_file - 1) } else { why };
        let expected = Broken { file: files::name(file), line, sequence, why };
        for head in [None, Some(&head)] {
            assert_eq!(verify(folder.path(), &key(), head), Err(expected.clone()), "{name}");
        }
    }
}

#[test]
fn a_log_whose_end_was_cut_off_is_noticed_by_its_head() {
    let folder = tempfile::tempdir().expect("a folder");
    let head = written(folder.path(), 20, MAX_FILE).head();
    verify(folder.path(), &key(), Some(&head)).expect("is whole");
    let all = lines(folder.path(), 1);
    put(folder.path(), 1, &all[..15]);
    assert_eq!(verify(folder.path(), &key(), None).expect("looks whole").entries, 15);
    let broken = verify(folder.path(), &key(), Some(&head)).expect_err("is cut off");
    assert_eq!((broken.line, broken.sequence, &broken.why), (15, 16, &Why::Truncated(5)));
    assert_eq!(
        broken.to_string(),
        "audit-00000001.jsonl, line 15: the last 5 entries were cut off after the line (where entry 16 should be)"
    );
    // Nor does it help to go on from there, or to remove everything.
    written(folder.path(), 10, MAX_FILE);
    let broken = verify(folder.path(), &key(), Some(&head)).expect_err("is another log");
    assert_eq!((broken.sequence, broken.why), (20, Why::Replaced));
    fs::remove_file(folder.path().join(files::name(1))).expect("is removed");
    let broken = verify(folder.path(), &key(), Some(&head)).expect_err("is empty");
    assert_eq!(broken.why, Why::Truncated(20));
    assert_eq!(verify(&folder.path().join("none"), &key(), None).expect("is empty").entries, 0);
}

#[test]
fn a_log_that_is_cut_while_it_is_open_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path(), 5, MAX_FILE);
    let all = lines(folder.path(), 1);
    put(folder.path(), 1, &all[..3]);
    assert_eq!(log.verify(&[]).expect_err("is cut off").why, Why::Truncated(2));
}

#[test]
fn the_head_is_kept_as_a_record() {
    let (folder, records) = (tempfile::tempdir().expect("a folder"), Memory::default());
    assert_eq!(AuditLog::kept_head(&records).expect("reads"), None);
    let log = written(folder.path(), 3, MAX_FILE);
    log.keep_head(&records).expect("is kept");
    let kept = AuditLog::kept_head(&records).expect("reads").expect("is there");
    assert_eq!(kept, log.head());
    log.record(call(3)).expect("is recorded");
    log.verify(&[Some(&kept)]).expect("a log may be longer than what was kept");
}

#[test]
fn a_line_that_is_not_whole_is_cut_off_and_that_is_noted() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = written(folder.path(), 5, MAX_FILE).head();
    let file = folder.path().join(files::name(1));
    let line = lines(folder.path(), 1)[4].clone();
    for torn in [&line.as_bytes()[..40], &[0; 3_000][..], line.as_bytes()] {
        let before = lines(folder.path(), 1).len();
        File::options().append(true).open(&file).expect("opens").write_all(torn).expect("writes");
        assert_eq!(verify(folder.path(), &key(), None).expect_err("is torn").why, Why::Torn);
        let log = AuditLog::open(folder.path(), &key()).expect("opens");
        let noted = &log.read(before as u64, 10, &Filter::default()).expect("reads")[0];
        assert_eq!(noted.event.kind, Kind::LogRepaired);
        let told = noted.event.note.as_deref().expect("a note");
        assert_eq!(
            told,
            format!("a line that was not whole was cut off: {} bytes of audit-00000001.jsonl", torn.len())
        );
        log.verify(&[Some(&whole)]).expect("is whole again");
    }
}

#[test]
fn a_log_with_a_changed_end_or_another_key_is_not_continued() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(written(folder.path(), 5, MAX_FILE));
    let other = AuditLog::open(folder.path(), &Zeroizing::new([8; 32])).err().expect("is refused");
    assert!(matches!(&other, AuditError::Damaged { file } if file == "audit-00000001.jsonl"), "{other}");
    let mut all = lines(folder.path(), 1);
    all[4] = all[4].replace("ada", "eve");
    put(folder.path(), 1, &all);
    assert!(matches!(AuditLog::open(folder.path(), &key()), Err(AuditError::Damaged { .. })));
}

#[test]
fn the_chain_goes_on_over_files_and_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..10 {
        drop(written(folder.path(), 10, 4_000));
    }
    let numbers = files::numbers(folder.path()).expect("reads");
    assert!(numbers.len() > 10, "{numbers:?}");
    for number in &numbers {
        let length = fs::metadata(folder.path().join(files::name(*number))).expect("is there").len();
        assert!(length <= 4_000);
    }
    // A crash right after a new file was made.
    let next = folder.path().join(files::name(numbers.len() as u64 + 1));
    File::create(next).expect("is made");
    let log = AuditLog::open_with(folder.path(), &key(), 4_000).expect("opens");
    assert_eq!(log.record(call(0)).expect("is recorded"), 101);
    assert_eq!(log.verify(&[]).expect("is whole").entries, 101);
    for after in [0, 1, 37, 99, 100, 101, 500] {
        let page = log.read(after, 7, &Filter::default()).expect("reads");
        let expected: Vec<u64> = (after + 1..=101).take(7).collect();
        assert_eq!(page.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), expected);
    }
    for (limit, expected) in [(0, vec![]), (3, vec![99, 100, 101]), (500, (1..=101).collect())] {
        let last = log.latest(limit, &Filter::default()).expect("reads");
        assert_eq!(last.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn many_writers_keep_one_chain() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path(), 0, 200_000);
    let sequences = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for number in 0..500 {
                    let sequence = log.record(call(number)).expect("is recorded");
                    assert!(sequences.lock().insert(sequence), "{sequence} twice");
                    if number % 100 == 0 {
                        log.verify(&[]).expect("is whole while it is written");
                    }
                }
            });
        }
    });
    assert_eq!(sequences.into_inner(), (1..=4_000).collect());
    assert_eq!(log.verify(&[]).expect("is whole").entries, 4_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_each_entry_once_over_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = Arc::new(written(folder.path(), 300, 20_000));
    let all = Filter::default();
    let followed = log.follow(250, all.clone()).expect("follows");
    let of_bob = Filter { user: Some("bob".into()), kind: Some(Kind::Call), ..all };
    let filtered = log.follow(0, of_bob).expect("follows");
    let writer = Arc::clone(&log);
    let writing = std::thread::spawn(move || {
        for number in 300..1_300 {
            writer.record(call(number)).expect("is recorded");
        }
    });
    let sequences = followed.take(1_050).map(|entry| entry.expect("reads").sequence).collect::<Vec<_>>();
    let sequences = tokio::time::timeout(LIMIT, sequences).await.expect("they come");
    assert_eq!(sequences, (251..=1_300).collect::<Vec<_>>());
    assert!(files::numbers(folder.path()).expect("reads").len() > 5);
    writing.join().expect("ends");
    // With the log, who follows it ends as well.
    drop(log);
    let filtered: Vec<_> = filtered.map(|entry| entry.expect("reads").sequence).collect().await;
    assert_eq!(filtered, (1..=1_300).filter(|sequence| sequence % 2 == 0).collect::<Vec<_>>());
}

#[test]
fn entries_are_found_by_what_they_are_about() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path(), 40, MAX_FILE);
    log.record(Event {
        kind: Kind::PinApproved,
        on_behalf_of: Some("eve".into()),
        connector: Some("crm".into()),
        ..Event::default()
    })
    .expect("is recorded");
    let count = |filter: serde_json::Value| {
        let filter = serde_json::from_value(filter).expect("a filter");
        log.read(0, 1_000, &filter).expect("reads").len()
    };
    assert_eq!(count(json!({})), 41);
    assert_eq!(count(json!({ "user": "ada" })), 20);
    assert_eq!(count(json!({ "user": "eve" })), 1);
    assert_eq!(count(json!({ "connector": "crm" })), 1);
    assert_eq!(count(json!({ "connector": "8b2c4f4e-6a4f-4d5e-9d0e-2f1f4b8f1a11" })), 40);
    assert_eq!(count(json!({ "kind": "pin_approved" })), 1);
    assert_eq!(count(json!({ "execution": "0192d2a8-7a11-7cc0-a7a2-000000000003", "user": "bob" })), 5);
}

#[test]
fn an_export_is_the_lines_as_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path(), 50, 8_000);
    let mut exported = Vec::new();
    assert_eq!(log.export(&mut exported, 1, u64::MAX).expect("is exported"), 50);
    let elsewhere = tempfile::tempdir().expect("a folder");
    fs::write(elsewhere.path().join(files::name(1)), &exported).expect("writes");
    assert_eq!(verify(elsewhere.path(), &key(), Some(&log.head())).expect("is whole").entries, 50);
    let mut part = Vec::new();
    assert_eq!(log.export(&mut part, 20, 29).expect("is exported"), 10);
    assert!(
        part.starts_with(br#"{"sequence":20,"#) && exported.windows(part.len()).any(|lines| lines == part)
    );
}

#[test]
fn when_nothing_can_be_written_nothing_goes_unaudited() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path(), 3, MAX_FILE);
    log.is_writable().expect("all is well");
    // A device that is always full stands in for the disk.
    let full = Arc::new(File::options().write(true).open("/dev/full").expect("Linux has it"));
    let good = std::mem::replace(&mut log.writer.lock().file, full);
    let error = log.record(call(3)).expect_err("cannot be written");
    assert_eq!(
        error.to_string(),
        "the audit log cannot be used (audit-00000001.jsonl: No space left on device (os error 28)): calls are refused \
         until it can be written again"
    );
    assert!(log.is_writable().is_err());
    assert!(log.record(call(4)).is_err());
    assert!(matches!(ConnectorsError::from(error), ConnectorsError::Store(_)));
    // A part of a line may have got through.
    (&*good).write_all(b"{\"sequence\":4,\"at").expect("writes");
    log.writer.lock().file = good;
    assert!(log.is_writable().is_err(), "it is not tried at every call");
    log.writer.lock().failing.as_mut().expect("fails").tried = Instant::now() - TRY_EVERY;
    log.is_writable().expect("works again");
    log.record(call(5)).expect("is recorded");
    let after = log.read(3, 10, &Filter::default()).expect("reads");
    assert_eq!((after[0].event.kind, after.len()), (Kind::LogResumed, 2));
    assert!(after[0].event.note.as_deref().expect("a note").ends_with("2 entries were refused"));
    log.verify(&[]).expect("is whole");
}

#[test]
fn what_was_recorded_is_on_the_disk_soon_and_at_once_after_a_sync() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path(), 100, 5_000);
    let begun = Instant::now();
    while !log.syncer.is_idle() {
        assert!(begun.elapsed() < LIMIT, "nothing is brought to the disk");
        std::thread::yield_now();
    }
    log.record(call(0)).expect("is recorded");
    log.sync().expect("is on the disk");
    assert!(log.syncer.is_idle());
}

#[test]
fn recording_is_cheap() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path(), 100, MAX_FILE);
    let mut times: Vec<Duration> = (0..20_000)
        .map(|number| {
            let begun = Instant::now();
            log.record(call(number)).expect("is recorded");
            begun.elapsed()
        })
        .collect();
    let whole: Duration = times.iter().sum();
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 1_000];
    println!(
        "an entry: {:?} on average, {:?} at p50, {:?} at p99, {:?} at p99.9; {:.0}/s",
        whole / 20_000,
        at(500),
        at(990),
        at(999),
        20_000.0 / whole.as_secs_f64()
    );
    let begun = Instant::now();
    log.verify(&[]).expect("is whole");
    println!("verifying: {:.0} entries/s", 20_100.0 / begun.elapsed().as_secs_f64());
}

#[test]
fn a19_a_log_that_is_put_back_is_not_whole_whatever_is_written_to_it_afterwards() {
    const ENTRIES: usize = 30;
    // What is put back: the log as it was after so many entries, or another one.
    for then in (0..=ENTRIES).step_by(5) {
        for another in [false, true] {
            let (folder, aside) =
                (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
            let records = Memory::default();
            let log = written(folder.path(), ENTRIES, 4_000);
            log.keep_head(&records).expect("is kept");
            let head = log.head();
            drop(log);
            let mut kept = 0;
            // A log of the same length with other entries, made with the same key: an older branch of this one.
            if another {
                fs::remove_dir_all(folder.path()).expect("is removed");
                let log = written(aside.path(), 0, 4_000);
                for number in 0..ENTRIES + then {
                    log.record(call(number + 1)).expect("is recorded");
                }
                drop(log);
                fs::rename(aside.path(), folder.path()).expect("is moved");
            } else {
                for number in files::numbers(folder.path()).expect("are listed") {
                    let mut all = lines(folder.path(), number);
                    all.truncate(then.saturating_sub(kept));
                    kept += all.len();
                    match all.is_empty() && number > 1 {
                        true => fs::remove_file(folder.path().join(files::name(number))).expect("is removed"),
                        false => put(folder.path(), number, &all),
                    }
                }
            }
            let is_whole = !another && then == ENTRIES;
            for start in 0..3 {
                let log = AuditLog::open_with(folder.path(), &key(), 4_000).expect("opens");
                log.compare(&records).expect("is compared");
                // It goes on, past the end that was kept, and that is noted again and again.
                for number in 0..2 * ENTRIES {
                    log.record(call(number)).expect("is recorded");
                }
                log.keep_head(&records).expect("is kept");
                assert_eq!(
                    log.broken().is_none(),
                    is_whole,
                    "{then} of {ENTRIES}, start {start}: {:?}",
                    log.broken()
                );
                let verified = log.verify(&[Some(&head)]);
                assert_eq!(verified.is_ok(), is_whole, "{then}: {verified:?}");
            }
        }
    }
}

#[test]
fn a19_a_head_is_read_as_it_is_printed_and_nothing_else_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let head = written(folder.path(), 3, MAX_FILE).head();
    assert_eq!(format!(" {head}\n").parse(), Ok(head.clone()));
    assert_eq!(Head::empty().to_string().parse(), Ok(Head::empty()));
    for text in
        ["", "3", "3:", &format!("x:{}", head.hash), &format!("3:{}", head.hash.to_uppercase()), "3:00"]
    {
        assert!(text.parse::<Head>().is_err(), "{text}");
    }
}
