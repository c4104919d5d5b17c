use std::{sync::mpsc, thread, time::Duration};

use serde_json::{Value, json};

use crate::{Dialect, Limits, Outcome, Refused, Schemas, Undecided, room::Room};

fn limits() -> Limits {
    Limits { deadline: Duration::from_secs(20), ..Limits::default() }
}

#[test]
fn work_that_does_not_end_is_answered_at_the_deadline_and_its_thread_replaced() {
    let limits = Limits {
        threads: 1,
        deadline: Duration::from_millis(50),
        lost_after: Duration::ZERO,
        lost_threads: 2,
        ..Limits::default()
    };
    let room = Room::new(limits);
    let mut ends = Vec::new();
    for lost in 1..=2_u64 {
        let (end, ended) = mpsc::channel::<()>();
        ends.push(end);
        let late = room.run_blocking(move || {
            let _ = ended.recv();
        });
        assert_eq!(late, Err(Undecided::Late));
        assert_eq!(room.lost(), (lost as usize, lost));
    }
    assert_eq!(room.run_blocking(|| 5), Err(Undecided::Busy));
    drop(ends);
    while room.lost().0 > 0 {
        thread::yield_now();
    }
    // On a slow machine it may take some turns.
    while room.run_blocking(|| 5) != Ok(5) {
        thread::yield_now();
    }
    assert_eq!(room.lost().1.min(2), 2);
}

#[test]
fn a_panic_stays_in_the_room() {
    let room = Room::new(limits());
    let broke: Result<(), _> = room.run_blocking(|| panic!("as asked"));
    assert_eq!(broke, Err(Undecided::Broke));
    assert_eq!(room.run_blocking(|| 5), Ok(5));
    let checked = Schemas::new(limits()).compile_blocking(&json!({}), Dialect::Declared).expect("a schema");
    let broke: Result<(), _> = checked.look_blocking(json!(1), 1, |_, _| panic!("as asked"));
    assert_eq!(broke, Err(Undecided::Broke));
}

#[test]
fn more_than_the_queue_holds_is_told_at_once() {
    let room = Room::new(Limits { threads: 1, queue: 1, ..limits() });
    let (end, ended) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(|| {
            room.run_blocking(move || {
                let _ = begun.send(());
                let _ = ended.recv();
            })
        });
        has_begun.recv().expect("it begins");
        let waiting = scope.spawn(|| room.run_blocking(|| 5));
        let busy = loop {
            // Whichever of the two came to the queue first waits.
            match room_is_full(&room) {
                true => break Err(Undecided::Busy),
                false => thread::yield_now(),
            }
        };
        assert_eq!(busy, Err::<i32, _>(Undecided::Busy));
        drop(end);
        assert_eq!(waiting.join().expect("no panic"), Ok(5));
    });
}

fn room_is_full(room: &Room) -> bool {
    room.waiting() == 1 && room.run_blocking(|| 5) == Err(Undecided::Busy)
}

#[tokio::test]
async fn tasks_are_answered_as_threads_are() {
    let schemas = Schemas::new(limits());
    let tree = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "items": { "$ref": "#/$defs/a" } } } });
    let checked = schemas.compile(&tree, Dialect::WithoutFormats).await.expect("a schema");
    let wide: Vec<Value> = (0..1_000).map(|i| json!([i])).collect();
    assert_eq!(checked.check(&json!(wide)).await, Outcome::Fits);
    let looked = checked.look(json!(wide), 1, |validator, value| validator.is_valid(&value)).await;
    assert_eq!(looked, Ok(true));
    let often = checked.look(json!(wide), 1_000, |validator, value| validator.is_valid(&value)).await;
    assert_eq!(often, Err(Undecided::Work));
    let broken = schemas.compile(&json!({ "type": 5 }), Dialect::Declared).await;
    assert!(matches!(broken, Err(Refused::Broken { .. })));
}

#[test]
fn what_was_compiled_is_kept_within_bytes() {
    let schemas = Schemas::new(Limits { kept_bytes: 10_000, ..limits() });
    for index in 0..100 {
        let schema = json!({ "title": format!("{index}"), "type": "string" });
        for _ in 0..2 {
            let checked = schemas.compile_blocking(&schema, Dialect::Declared).expect("a schema");
            assert!(matches!(checked.check_blocking(&json!(5)), Outcome::Differs(_)));
        }
    }
    let kept = schemas.0.kept.lock().len();
    assert!((1..10).contains(&kept), "{kept} are kept");
}
