//! The end of a run at every stage of everything that it can have asked for, with the real store: every end × every stage ×
//! every parent-close policy, and what must have become of it by a model of this test's own.

mod stage;

use std::{sync::atomic::Ordering, time::Duration};

use airlock_engine::{
    ExecutionId, Failure, Json, RetryPolicy,
    engine::{ExecutionView, IdReuse, ResetRequest, StartRequest},
    history::{Job, ParentClose, Record},
    store::{ListFilter, Sort, Status},
};
use airlock_patience::LIMIT;
use serde_json::{Value, json};
use stage::{Stage, user};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Completes,
    Fails,
    FailsAndIsTriedAgain,
    Cancelled,
    CancelledAndItsCleanUpFails,
    Terminated,
    TimesOut,
    Traps,
    ContinuesAsNew,
    /// To its first event.
    ResetToTheStart,
    /// To its last event.
    ResetToItsLast,
}

impl End {
    const ALL: [Self; 11] = [
        Self::Completes,
        Self::Fails,
        Self::FailsAndIsTriedAgain,
        Self::Cancelled,
        Self::CancelledAndItsCleanUpFails,
        Self::Terminated,
        Self::TimesOut,
        Self::Traps,
        Self::ContinuesAsNew,
        Self::ResetToTheStart,
        Self::ResetToItsLast,
    ];

    /// What the workflow says itself, in its last turn.
    fn own_word(self) -> Option<&'static str> {
        match self {
            Self::Completes => Some("complete"),
            Self::Fails | Self::FailsAndIsTriedAgain => Some("fail"),
            Self::ContinuesAsNew => Some("continue"),
            _ => None,
        }
    }

    fn has_next(self) -> bool {
        use End::{ContinuesAsNew, FailsAndIsTriedAgain, ResetToItsLast, ResetToTheStart};
        matches!(self, FailsAndIsTriedAgain | ContinuesAsNew | ResetToTheStart | ResetToItsLast)
    }

    fn status(self) -> Status {
        match self {
            Self::Completes => Status::Completed,
            Self::Fails | Self::FailsAndIsTriedAgain | Self::CancelledAndItsCleanUpFails | Self::Traps => {
                Status::Failed
            }
            Self::Cancelled => Status::Canceled,
            Self::Terminated | Self::ResetToTheStart | Self::ResetToItsLast => Status::Terminated,
            Self::TimesOut => Status::TimedOut,
            Self::ContinuesAsNew => Status::ContinuedAsNew,
        }
    }

    /// The start of an execution that is to end so.
    fn start(self, stage: &Stage, id: &str, mut input: Value, in_its_turn: bool) -> StartRequest {
        if in_its_turn {
            input["end"] = self.own_word().into();
        }
        if self == Self::CancelledAndItsCleanUpFails {
            input["cleanup"] = "fail".into();
        }
        let quick = RetryPolicy { initial_interval: Duration::from_millis(1), ..RetryPolicy::default() };
        let retries = matches!(self, Self::FailsAndIsTriedAgain | Self::CancelledAndItsCleanUpFails);
        StartRequest {
            retry: retries.then_some(quick),
            execution_timeout: (self == Self::TimesOut).then_some(Duration::from_millis(1_500)),
            ..stage.request(id, "parent", input)
        }
    }

    /// Brings it about, and waits until it is durable.
    async fn come(self, stage: &Stage, run: &ExecutionView) {
        let (engine, id) = (&stage.engine, &run.row.id);
        match self {
            Self::Completes => stage.signal(id, "__complete").await,
            Self::Fails | Self::FailsAndIsTriedAgain => stage.signal(id, "__fail").await,
            Self::ContinuesAsNew => stage.signal(id, "__continue").await,
            Self::Traps => stage.signal(id, "__trap").await,
            Self::Cancelled | Self::CancelledAndItsCleanUpFails => {
                engine.cancel(id, "enough".into()).await.expect("is asked");
            }
            Self::Terminated => engine.terminate(id, "enough".into()).await.expect("is ended"),
            Self::TimesOut => {}
            Self::ResetToTheStart | Self::ResetToItsLast => {
                let history = engine.history(run.row.key, 0, 100).expect("reads");
                let events: u64 = history.iter().map(|stored| stored.record.event_count()).sum();
                let event = if self == Self::ResetToTheStart { 1 } else { events };
                let (exclude_signals, exclude_updates) = (true, true);
                let request = ResetRequest {
                    event,
                    reason: "once more".into(),
                    exclude_signals,
                    exclude_updates,
                    digest: None,
                };
                engine.reset(id, request).await.expect("is reset");
            }
        }
        let status = stage.until("the run to end", || stage.has_ended(&run.row.run_id)).await;
        assert_eq!(status, self.status(), "{self:?}");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Runs,
    /// All places are taken.
    InLine,
    Retries,
    WaitsForPeople,
    Tool,
    List,
    Auth,
    Timer,
}

/// Activities, tool calls and timers: nothing begins after the end, what runs is told to stop, and every place is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_end_nothing_begins_and_every_place_is_free_whatever_was_under_way() {
    use Work::{Auth, InLine, List, Retries, Runs, Timer, Tool, WaitsForPeople};
    let mut met = 0;
    for work in [Runs, InLine, Retries, WaitsForPeople, Tool, List, Auth, Timer] {
        for end in End::ALL {
            for in_its_turn in [false, true] {
                if in_its_turn && end.own_word().is_none() {
                    continue;
                }
                met += 1;
                let what = format!("{work:?}, {end:?}, asked for in its last turn: {in_its_turn}");
                let stage = Stage::new(1).await;
                let hog = (work == InLine).then(|| {
                    stage.request("hog", "parent", json!({ "do": [{ "op": "activity", "name": "runs" }] }))
                });
                if let Some(hog) = hog {
                    stage.engine.start(hog).await.expect("starts");
                    stage
                        .until("the place to be taken", || (stage.play.count("runs") == 1).then_some(()))
                        .await;
                }
                let wish = match work {
                    Runs | InLine => json!({ "op": "activity", "name": "runs" }),
                    Retries => json!({ "op": "activity", "name": "fails" }),
                    WaitsForPeople => json!({ "op": "activity", "name": "asks" }),
                    Tool => json!({ "op": "tool" }),
                    List => json!({ "op": "list" }),
                    Auth => json!({ "op": "auth" }),
                    Timer => json!({ "op": "timer" }),
                };
                // The next run, if there is one, asks for the same again.
                let request = end.start(&stage, "p", json!({ "do": [wish] }), in_its_turn);
                let started = stage.first_run(request).await;
                let id = started.row.id.clone();
                // The first turn may come a moment after the start, as it has a slot.
                let run = match in_its_turn {
                    true => started,
                    false => {
                        let pending =
                            || stage.engine.history(started.row.key, 0, 10).expect("reads").len() > 2;
                        stage.until("the first turn", || pending().then_some(())).await;
                        started
                    }
                };
                let mine = format!("{id}:{}", run.row.run_id.0.simple());
                let began = || {
                    stage
                        .play
                        .log
                        .lock()
                        .iter()
                        .filter(|line| line.starts_with("runs") && line.contains(&mine))
                        .count()
                };
                let runs = !in_its_turn && matches!(work, Runs | Retries | WaitsForPeople | Tool | List);
                if runs {
                    stage.until("it to begin", || (began() == 1).then_some(())).await;
                }
                if in_its_turn {
                    let status = stage.until("the run to end", || stage.has_ended(&run.row.run_id)).await;
                    assert_eq!(status, end.status(), "{what}");
                } else {
                    end.come(&stage, &run).await;
                }
                // What it has begun by now is all that it ever begins.
                assert_eq!(began(), usize::from(runs), "{what}");
                if end.has_next() {
                    let next = stage.until("the next run", || {
                        stage.view(&id).filter(|view| view.row.run_id != run.row.run_id)
                    });
                    let next = next.await;
                    assert_eq!(next.row.status, Status::Running, "{what}");
                    stage.engine.terminate(&id, "the test goes on".into()).await.expect("ends");
                } else {
                    assert_eq!(stage.status(&id), Some(end.status()), "{what}");
                }
                if work == InLine {
                    stage
                        .engine
                        .terminate(&"hog".parse::<ExecutionId>().expect("an id"), "go".into())
                        .await
                        .expect("ends");
                }
                // Somebody else gets the place, which shows that nobody stands in line or holds it.
                let other = json!({ "do": [{ "op": "activity", "name": "quick" }] });
                let other =
                    stage.engine.start(stage.request("other", "parent", other)).await.expect("starts");
                let ended =
                    stage.engine.wait(&other.row.id, Some(LIMIT)).await.expect("reads").expect("is there");
                assert_eq!(ended.row.status, Status::Completed, "{what}");
                assert_eq!(began(), usize::from(runs), "{what}: {:?}", stage.play.log.lock());
            }
        }
    }
    assert!(met > 100, "{met}");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Birth {
    /// Asked for in the turn that ends the run.
    Asked,
    /// The child's code is about to be loaded.
    Starting,
    Running,
    /// Begun, and told to the workflow.
    Awaited,
    /// It was given up, and cleans up.
    GivenUp,
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It has never begun.
    Unborn,
    /// It may have begun: then it has ended so.
    UnbornOr(Status),
    Ended(Status),
    /// It cleaned up, or was ended by force while it did.
    Stopped,
    GoesOn,
}

/// What the table in machine/ends.rs says, told again in other words.
fn fate(birth: Birth, end: End, policy: ParentClose) -> Fate {
    let goes_on = policy == ParentClose::Abandon || (end == End::ContinuesAsNew && birth != Birth::Asked);
    let by_policy = match policy {
        ParentClose::Terminate => Status::Terminated,
        _ => Status::Canceled,
    };
    match birth {
        _ if goes_on && birth != Birth::GivenUp => Fate::GoesOn,
        Birth::Asked => Fate::Unborn,
        Birth::Starting => Fate::UnbornOr(by_policy),
        Birth::Running | Birth::Awaited => Fate::Ended(by_policy),
        // Nobody asks one to stop that is to be abandoned.
        Birth::GivenUp if policy == ParentClose::Abandon => Fate::GoesOn,
        Birth::GivenUp if end == End::ContinuesAsNew => Fate::Ended(Status::Canceled),
        Birth::GivenUp => match policy {
            ParentClose::Terminate => Fate::Stopped,
            _ => Fate::Ended(Status::Canceled),
        },
    }
}

async fn family(stage: &Stage, number: usize, birth: Birth, end: End, policy: ParentClose) {
    let what = format!("{birth:?}, {end:?}, {policy:?}");
    let name = match policy {
        ParentClose::Terminate => "terminate",
        ParentClose::RequestCancel => "cancel",
        ParentClose::Abandon => "abandon",
    };
    let kid: ExecutionId = format!("kid-{number:03}").parse().expect("an id");
    let workflow = if birth == Birth::Starting { "gated" } else { "child" };
    let await_start = birth == Birth::Awaited;
    // The timer is there for an event after the child's start.
    let wishes = json!([
        { "op": "child", "workflow": workflow, "id": kid.as_str(), "close": name, "await_start": await_start },
        { "op": "timer", "ms": 1 },
    ]);
    let asked = birth == Birth::Asked;
    let request = end.start(stage, &format!("p-{number}"), json!({ "do": wishes }), asked);
    let run = stage.first_run(request).await;
    let id = run.row.id.clone();
    // Those that are durable: a start that meets a taken id may have had its first turn before it is refused.
    let begun = || {
        let filter = ListFilter {
            id: Some(kid.clone()),
            limit: 100,
            sort: Sort::OldestStart,
            ..ListFilter::default()
        };
        stage.engine.list(&filter).expect("lists")
    };
    let gates = stage.play.at_the_gate.load(Ordering::SeqCst);
    match birth {
        Birth::Asked => {}
        Birth::Starting => {
            stage
                .until("the gate", || {
                    (gates > 0 || stage.play.at_the_gate.load(Ordering::SeqCst) > gates).then_some(())
                })
                .await
        }
        _ => drop(stage.until("the child to begin", || stage.status(&kid)).await),
    }
    if !asked {
        // What the workflow has been told by then, so that the last event is one after the child's start.
        let told = |job: &Job| match job {
            Job::TimerFired { .. } => true,
            Job::ChildStarted { .. } => await_start,
            _ => false,
        };
        let wanted = if await_start { 2 } else { 1 };
        let heard = || {
            let history = stage.engine.history(run.row.key, 0, 100).expect("reads");
            let jobs = history.iter().flat_map(|stored| match &stored.record {
                Record::Activation { jobs, .. } => jobs.as_slice(),
                _ => &[],
            });
            (jobs.filter(|job| told(job)).count() == wanted).then_some(())
        };
        stage.until("the workflow to hear", heard).await;
    }
    if birth == Birth::GivenUp {
        stage.signal(&id, "__give-up").await;
        if policy != ParentClose::Abandon {
            stage
                .until("the child to hear of it", || {
                    (stage.play.count(&format!("cleans up {kid}")) == 1).then_some(())
                })
                .await;
        }
    }
    let first = stage.view(&kid).map(|view| view.row.run_id);
    match asked {
        true => drop(stage.until("the run to end", || stage.has_ended(&run.row.run_id)).await),
        false => end.come(stage, &run).await,
    }
    if birth == Birth::Starting {
        stage.play.gate.send_replace(true);
    }
    let expected = fate(birth, end, policy);
    if !end.has_next() {
        let settled = || match (&expected, stage.status(&kid)) {
            (Fate::Unborn, None) => Some(()),
            (Fate::UnbornOr(_), None) => Some(()),
            (Fate::UnbornOr(status) | Fate::Ended(status), Some(is)) => (*status == is).then_some(()),
            (Fate::Stopped, Some(Status::Canceled | Status::Terminated)) => Some(()),
            (Fate::GoesOn, Some(Status::Running)) => Some(()),
            _ => None,
        };
        stage.until(&format!("{what}: the child to be {expected:?}"), settled).await;
        let cleaned = stage.play.count(&format!("has cleaned up {kid}"));
        if expected == Fate::Ended(Status::Canceled) {
            assert_eq!(cleaned, 1, "{what}");
        }
        assert!(begun().len() <= usize::from(expected != Fate::Unborn), "{what}");
        assert!(stage.status(&id).is_some_and(|status| status == end.status()), "{what}");
        return;
    }
    // The next run waits for its child, under the same id: there is one at a time, and its result arrives.
    let its_own = |view: &ExecutionView| {
        let parent = view.row.parent.as_ref().map(|parent| parent.run);
        parent == stage.view(&id).map(|view| view.row.key)
    };
    let live = stage
        .until(&format!("{what}: a child for the next run"), || {
            let view = stage.view(&kid).filter(|view| view.row.status == Status::Running)?;
            (expected == Fate::GoesOn || its_own(&view)).then_some(view)
        })
        .await;
    if expected == Fate::GoesOn {
        assert!(first.is_none_or(|first| first == live.row.run_id), "{what}: it was started twice");
    }
    // Who comes second begins after the end of the first.
    for pair in begun().windows(2) {
        assert!(pair[0].ended_at.is_some_and(|ended| ended <= pair[1].started_at), "{what}: {pair:?}");
    }
    // Whether the next run has found the child that goes on is not to be seen from here: if it comes too late for that one, it
    // waits for another.
    let wanted = format!("{what}: the result of the child");
    let ended = stage.until(&wanted, || stage.view(&id).filter(|view| view.row.status != Status::Running));
    let finish = async {
        loop {
            if stage.status(&kid) == Some(Status::Running) {
                let message = stage.message("__finish");
                // It may end at this moment.
                let _ = stage.engine.signal(&kid, None, message).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::select! {
        ended = ended => ended,
        () = finish => unreachable!("it never ends by itself"),
    };
    assert_eq!(
        (ended.row.status, ended.result, ended.failure),
        (Status::Completed, Some(Json::from(json!("of the child"))), None),
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_do_as_their_policy_says_at_every_end_and_stage_and_a_next_run_never_meets_them() {
    let mut number = 0;
    for birth in [Birth::Asked, Birth::Starting, Birth::Running, Birth::Awaited, Birth::GivenUp] {
        let stage = Stage::new(64).await;
        let mut together = Vec::new();
        for end in End::ALL {
            // Only the workflow itself asks and ends in one turn.
            if birth == Birth::Asked && end.own_word().is_none() {
                continue;
            }
            // The run that begins after the last event gives it up again, and waits for nothing.
            if birth == Birth::GivenUp && end == End::ResetToItsLast {
                continue;
            }
            for policy in [ParentClose::Terminate, ParentClose::RequestCancel, ParentClose::Abandon] {
                number += 1;
                if birth == Birth::Starting {
                    // The gate is one for all of a stage.
                    family(&Stage::new(64).await, number, birth, end, policy).await;
                } else {
                    together.push(family(&stage, number, birth, end, policy));
                }
            }
        }
        futures::future::join_all(together).await;
    }
    assert!(number > 100, "{number}");
}

/// A request to stop holds for the execution, not for the run that happened to hear it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_execution_that_was_asked_to_stop_starts_no_run_that_knows_nothing_of_it() {
    let stage = Stage::new(8).await;
    for cleanup in ["fail", "continue", "complete"] {
        let quick = RetryPolicy { initial_interval: Duration::from_millis(1), ..RetryPolicy::default() };
        let input = json!({ "do": [{ "op": "timer" }], "cleanup": cleanup });
        let request = StartRequest { retry: Some(quick), ..stage.request(cleanup, "parent", input) };
        let run = stage.engine.start(request).await.expect("starts");
        let begun = || (stage.engine.history(run.row.key, 0, 10).expect("reads").len() > 2).then_some(());
        stage.until("the first turn", begun).await;
        stage.engine.cancel(&run.row.id, "enough".into()).await.expect("is asked");
        let ended = stage.engine.wait(&run.row.id, Some(LIMIT)).await.expect("reads").expect("is there");
        let runs = ListFilter { id: Some(run.row.id.clone()), limit: 10, ..ListFilter::default() };
        let runs = stage.engine.list(&runs).expect("lists").len();
        let expected = match cleanup {
            "fail" => (Status::Failed, 1, 1),
            // The next run hears of it, and is the last one although it wants another.
            "continue" => (Status::Canceled, 2, 2),
            _ => (Status::Completed, 1, 1),
        };
        let told = stage.play.count(&format!("was asked to stop {cleanup}"));
        assert_eq!((ended.row.status, runs, told), expected, "{cleanup}");
    }
}

/// Whoever has the id of a child that is being started: it is neither joined nor stopped nor replaced, unless it is of the
/// same user and itself a child.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_neither_takes_over_nor_stops_what_somebody_else_started_under_its_id() {
    let stage = Stage::new(8).await;
    let mut number = 0;
    for holder in ["bob", "ada"] {
        for ended in [true, false] {
            for policy in ["terminate", "cancel", "abandon"] {
                for end in
                    [None, Some(End::Terminated), Some(End::Cancelled), Some(End::FailsAndIsTriedAgain)]
                {
                    number += 1;
                    let what = format!("{holder}'s, ended: {ended}, {policy}, {end:?}");
                    let taken = format!("taken-{number:03}");
                    let theirs =
                        StartRequest { principal: user(holder), ..stage.request(&taken, "child", json!({})) };
                    let theirs = stage.engine.start(theirs).await.expect("starts");
                    if ended {
                        stage.signal(&theirs.row.id, "__finish").await;
                    }
                    let wish = json!({ "op": "child", "workflow": "child", "id": taken, "close": policy });
                    let parent = format!("parent-{number}");
                    let request = match end {
                        Some(end) => {
                            end.start(&stage, &parent, json!({ "do": [wish] }), end.own_word().is_some())
                        }
                        None => stage.request(&parent, "parent", json!({ "do": [wish] })),
                    };
                    let run = stage.engine.start(request).await.expect("starts");
                    match end {
                        // It may have failed for the id before that.
                        Some(End::Terminated) => {
                            drop(stage.engine.terminate(&run.row.id, "now".into()).await)
                        }
                        Some(End::Cancelled) => drop(stage.engine.cancel(&run.row.id, "now".into()).await),
                        _ => {}
                    }
                    let over =
                        stage.engine.wait(&run.row.id, Some(LIMIT)).await.expect("reads").expect("is there");
                    if let Some(failure) = over.failure.filter(|_| over.row.status == Status::Failed) {
                        assert_eq!(failure.kind, Failure::ALREADY_EXISTS, "{what}");
                    }
                    let current = stage.view(&theirs.row.id).expect("is there");
                    let unharmed = if ended { Status::Completed } else { Status::Running };
                    assert_eq!(
                        (current.row.run_id, current.row.status),
                        (theirs.row.run_id, unharmed),
                        "{what}"
                    );
                    assert_eq!(stage.play.count(&format!("cleans up {taken}")), 0, "{what}");
                }
            }
        }
    }
    // The id of a child that has ended is free for another parent's of the same user, and not for anybody else's.
    for (who, free) in [("ada", true), ("bob", false)] {
        let wish =
            json!({ "op": "child", "workflow": "child", "id": format!("free-{who}"), "close": "cancel" });
        let input = json!({ "do": [wish] });
        let first = stage.engine.start(stage.request(&format!("first-{who}"), "parent", input.clone()));
        let first = first.await.expect("starts");
        let kid: ExecutionId = format!("free-{who}").parse().expect("an id");
        stage.until("the child", || stage.status(&kid)).await;
        stage.signal(&kid, "__finish").await;
        stage.engine.wait(&first.row.id, Some(LIMIT)).await.expect("reads");
        let before = stage.view(&kid).expect("is there").row.run_id;
        let second = StartRequest {
            principal: user(who),
            reuse: IdReuse::AllowDuplicate,
            ..stage.request(&format!("second-{who}"), "parent", input)
        };
        let second = stage.engine.start(second).await.expect("starts");
        if free {
            stage.until("another child", || (stage.view(&kid)?.row.run_id != before).then_some(())).await;
            stage.signal(&kid, "__finish").await;
        }
        let ended = stage.engine.wait(&second.row.id, Some(LIMIT)).await.expect("reads").expect("is there");
        assert_eq!(ended.row.status == Status::Completed, free, "{who}: {:?}", ended.failure);
        assert_eq!(stage.view(&kid).expect("is there").row.run_id == before, !free, "{who}");
    }
}
