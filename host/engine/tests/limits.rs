//! Every limit of time, with all places taken: where it begins, what it counts and what it does not, with the real store.

mod stage;

use std::time::{Duration, Instant};

use airlock_engine::{EngineConfig, ExecutionId, Failure, engine::ExecutionView, store::Status};
use airlock_patience::LIMIT;
use serde_json::{Value, json};
use stage::Stage;

/// A limit that is long enough to do something before it.
const LONG: u64 = 1_000;
/// One that is over soon.
const SHORT: u64 = 60;

/// Somebody's activity has the only place.
async fn taken() -> (Stage, ExecutionId) {
    let stage = Stage::new(1).await;
    let hog = hog(&stage).await;
    (stage, hog)
}

async fn hog(stage: &Stage) -> ExecutionId {
    let input = json!({ "do": [{ "op": "activity", "name": "runs" }] });
    let hog = stage.engine.start(stage.request("hog", "parent", input)).await.expect("starts").row.id;
    stage.until("the place to be taken", || (stage.play.count("runs runs hog") == 1).then_some(())).await;
    hog
}

async fn start(stage: &Stage, id: &str, mut wish: Value) -> ExecutionView {
    wish["op"] = "activity".into();
    let request = stage.request(id, "parent", json!({ "do": [wish] }));
    stage.engine.start(request).await.expect("starts")
}

async fn ended(stage: &Stage, id: &ExecutionId) -> ExecutionView {
    let view = stage.engine.wait(id, Some(LIMIT)).await.expect("reads").expect("is there");
    assert_ne!(view.row.status, Status::Running, "{id} did not end");
    view
}

/// The limit that ended it.
fn limit_of(view: &ExecutionView) -> Option<String> {
    let failure = view.failure.as_ref()?;
    assert_eq!(failure.kind, Failure::TIMEOUT, "{failure}");
    failure.details.as_ref().and_then(|details| details.value()["timeout"].as_str().map(str::to_owned))
}

/// Each limit beside each other one: only those that count the line for a place end an activity that stands in it, the first
/// of them does, and the activity never begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_for_a_place_counts_for_the_limits_that_say_so_and_for_no_other() {
    let limits = ["schedule_to_start", "schedule_to_close", "start_to_close", "heartbeat"];
    let (stage, hog) = taken().await;
    let mut waiting = Vec::new();
    for chosen in 0..1_u32 << limits.len() {
        for long in [None, Some(0), Some(1)] {
            let mut wish = json!({ "name": "quick" });
            for (at, limit) in limits.iter().enumerate().filter(|(at, _)| chosen & (1 << at) != 0) {
                // Of the two that count, one may be much longer than the other.
                let length = if long == Some(at) { 3_600_000 } else { SHORT };
                wish[*limit] = length.into();
            }
            let first = limits[..2]
                .iter()
                .enumerate()
                .find(|(at, limit)| !wish[**limit].is_null() && long != Some(*at));
            let expected = match (first, long) {
                (Some(_), None) if chosen & 3 == 3 => None,
                (first, _) => Some(first.map(|(_, limit)| limit.replace('_', "-"))),
            };
            let id = format!("waits-{chosen}-{}", long.map_or("none".to_owned(), |at| at.to_string()));
            waiting.push((start(&stage, &id, wish.clone()).await, expected, wish));
        }
    }
    let (late, patient): (Vec<_>, Vec<_>) =
        waiting.into_iter().partition(|(_, expected, _)| !matches!(expected, Some(None)));
    assert!(late.len() > 10 && patient.len() > 10);
    for (run, expected, wish) in late {
        let view = ended(&stage, &run.row.id).await;
        let limit = limit_of(&view);
        assert!(limit.is_some(), "{wish}");
        // Two that are over at once: either of them.
        if let Some(expected) = expected {
            assert_eq!(limit, expected, "{wish}");
        }
        assert_eq!(stage.play.count(&format!("runs quick {}:", run.row.id)), 0, "{wish}");
    }
    // The others have stood in line for longer than any of their limits, and are none the worse for it.
    for (run, _, wish) in &patient {
        assert_eq!(stage.status(&run.row.id), Some(Status::Running), "{wish}");
    }
    stage.engine.terminate(&hog, "go".into()).await.expect("ends");
    for (run, _, wish) in patient {
        let view = ended(&stage, &run.row.id).await;
        assert_eq!(view.row.status, Status::Completed, "{wish}: {:?}", view.failure);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_to_close_counts_all_attempts_and_the_waits_between_them() {
    let stage = Stage::new(1).await;
    let wish = json!({ "name": "fails", "retry": 100, "schedule_to_close": LONG });
    let began = Instant::now();
    let view = ended(&stage, &start(&stage, "fails", wish).await.row.id).await;
    // There was no time for another attempt, so that the last one's own failure is told.
    assert_eq!(view.failure.expect("it fails").kind, "Error");
    let attempts = stage.play.count("runs fails");
    assert!((2..=4).contains(&attempts) && began.elapsed() < LIMIT / 2, "{attempts} attempts");
    // The next attempt stands in line when the time is over.
    let wish = json!({ "name": "fails", "retry": LONG / 2, "schedule_to_close": 3 * LONG });
    let run = start(&stage, "queues", wish).await;
    stage.until("an attempt to fail", || (stage.play.count("runs fails queues") == 1).then_some(())).await;
    hog(&stage).await;
    let view = ended(&stage, &run.row.id).await;
    assert_eq!(limit_of(&view).as_deref(), Some("schedule-to-close"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_take_no_time_of_the_activity_and_the_line_for_a_place_after_them_does() {
    let stage = Stage::new(1).await;
    let wish = json!({ "name": "asks", "schedule_to_close": LONG, "start_to_close": LONG / 2, "heartbeat": LONG / 2 });
    let run = start(&stage, "asks", wish).await;
    stage.until("it to ask", || (stage.play.count("runs asks") == 1).then_some(())).await;
    // It has left its place to somebody.
    let other = hog(&stage).await;
    let asked = Instant::now();
    stage
        .until("people to take their time", || {
            (asked.elapsed() > Duration::from_millis(LONG + 100)).then_some(())
        })
        .await;
    assert_eq!(stage.status(&run.row.id), Some(Status::Running), "people's time counts");
    stage.play.authorised.send_modify(|authorised| {
        authorised.insert("svc".into());
    });
    let view = ended(&stage, &run.row.id).await;
    assert_eq!(limit_of(&view).as_deref(), Some("schedule-to-close"), "not one of the attempt's own");
    assert_eq!(stage.status(&other), Some(Status::Running));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connector_has_the_whole_window_for_its_user_to_authorise() {
    let window = Duration::from_millis(2 * LONG);
    let stage = Stage::with(1, EngineConfig { auth_window: window, ..EngineConfig::default() }).await;
    let run = stage.engine.start(stage.request("both", "preflight", json!({}))).await.expect("starts");
    for connector in ["first", "second"] {
        let began = Instant::now();
        stage.until("most of the window to pass", || (began.elapsed() > window * 7 / 10).then_some(())).await;
        stage.play.authorised.send_modify(|authorised| {
            authorised.insert(connector.into());
        });
    }
    let view = ended(&stage, &run.row.id).await;
    assert_eq!(view.row.status, Status::Completed, "{:?}", view.failure);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_holds_what_stands_in_line_and_its_activity_grows_older() {
    let (stage, hog) = taken().await;
    let patient = start(&stage, "patient", json!({ "name": "quick" })).await.row.id;
    let hasty = start(&stage, "hasty", json!({ "name": "quick", "schedule_to_close": LONG })).await.row.id;
    let pending = |id: &ExecutionId| {
        let key = stage.view(id).expect("is there").row.key;
        (stage.engine.history(key, 0, 10).expect("reads").len() > 2).then_some(())
    };
    for id in [&patient, &hasty] {
        stage.until("its first turn", || pending(id)).await;
        stage.engine.pause(id, "lunch".into()).await.expect("pauses");
    }
    stage.engine.terminate(&hog, "go".into()).await.expect("ends");
    // Somebody who came later has the place, and the two do not.
    let other = start(&stage, "other", json!({ "name": "quick" })).await.row.id;
    assert_eq!(ended(&stage, &other).await.row.status, Status::Completed);
    let paused = Instant::now();
    stage
        .until("the limit to pass", || (paused.elapsed() > Duration::from_millis(LONG + 50)).then_some(()))
        .await;
    assert_eq!(stage.play.count("runs quick patient") + stage.play.count("runs quick hasty"), 0);
    for id in [&patient, &hasty] {
        stage.engine.resume(id).await.expect("goes on");
    }
    assert_eq!(ended(&stage, &patient).await.row.status, Status::Completed);
    assert_eq!(limit_of(&ended(&stage, &hasty).await).as_deref(), Some("schedule-to-close"));
    assert_eq!(stage.play.count("runs quick hasty"), 0);
}
