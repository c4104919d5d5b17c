//! What every [`Store`] must do. A store's own tests call [`run`] with a way to open it again and again.
//!
//! The parts of the suite share one store. They keep out of each other's way by ids and users of their own; only the
//! last one purges, and all others end their runs later than it looks.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "it is a test")]

mod journal;

use std::{collections::HashSet, sync::Arc};

use airlock_engine::{
    Digest, ExecutionId, ExecutionKey, Json, OrganizationId, Principal, RunId, UserId, WorkspaceId,
    history::{
        Command, Continuation, End, Job, Parent, ParentClose, Record, SearchValue, StoredRecord, TaskEvent,
        TaskPhase, UnixMs,
    },
    store::{
        Append, Child, ExecutionRow, ListFilter, SearchMatch, SearchTerm, Sort, Start, Status, Store,
        StoreError, Wake,
    },
};
use futures::future::join_all;

/// Runs the suite. `open` opens the same store anew each time; what it gave before has been dropped by then.
///
/// # Panics
/// With a message when the store breaks the contract of [`Store`].
pub async fn run<S: Store>(open: impl Fn() -> Arc<S>) {
    appends_are_read_back_after_reopening(&open).await;
    every_part_of_a_row_is_read_back(&open).await;
    a_history_is_read_in_pieces_from_both_ends(&open).await;
    a_taken_place_or_id_is_a_conflict_that_changes_nothing(&open).await;
    a_run_takes_the_id_of_the_run_that_it_replaces_and_of_no_other(&open).await;
    a_successor_is_there_exactly_when_its_predecessor_has_ended(&open).await;
    event_numbers_grow_in_commit_order(&open).await;
    journal::events_of_many_runs_are_merged_in_the_order_of_the_store_from_any_number_on(&open).await;
    journal::open_runs_of_a_scope_are_found_until_they_end(&open).await;
    journal::a_listener_hears_of_every_commit_in_order(&open).await;
    open_executions_say_when_they_wake(&open).await;
    code_is_pinned_until_the_run_ends_or_goes_over_to_other_code(&open).await;
    search_keys_are_set_changed_and_removed(&open).await;
    children_are_found_until_they_end_and_orphans_when_their_parent_has(&open).await;
    lists_filter(&open).await;
    lists_sort_and_page(&open).await;
    lists_match_search_keys(&open).await;
    a_purge_removes_what_ended_before_and_nothing_else(&open).await;
}

fn row(store: &impl Store, id: &str) -> ExecutionRow {
    let id: ExecutionId = id.parse().expect("a valid id");
    ExecutionRow {
        key: store.allocate(),
        root: id.clone(),
        id,
        run_id: RunId::generate(),
        workflow: "conformance".into(),
        digest: Digest([7; 32]),
        principal: Principal {
            user: UserId::new("ada"),
            workspace: WorkspaceId::new("default"),
            organization: OrganizationId::new("default"),
        },
        status: Status::Running,
        started_at: 1_000,
        ended_at: None,
        parent: None,
        schedule: None,
    }
}

fn first(row: &ExecutionRow, records: Vec<Record>) -> Append {
    replacing(row, None, records)
}

fn replacing(row: &ExecutionRow, replaces: Option<ExecutionKey>, records: Vec<Record>) -> Append {
    let start = Some(Box::new(Start { row: row.clone(), replaces }));
    Append { start, wake: Some(Wake::Now), ..Append::records(row.key, 0, row.started_at, records) }
}

fn next(key: ExecutionKey, index: u32, at: UnixMs, records: Vec<Record>) -> Append {
    Append::records(key, index, at, records)
}

fn ending(key: ExecutionKey, index: u32, status: Status, at: UnixMs) -> Append {
    let end = Record::Ended { end: End::Terminated("test".into()) };
    Append { end: Some((status, at)), ..next(key, index, at, vec![end]) }
}

fn turn(seq: u32) -> Record {
    let outcome = Ok(Json::from(serde_json::json!({ "n": seq })));
    Record::Activation {
        jobs: vec![Job::ActivityResolved { seq, outcome }],
        commands: vec![Command::StartTimer { seq: seq + 1, duration: std::time::Duration::from_millis(5) }],
    }
}

fn emitted(text: &str) -> Record {
    let payload = Json::from(serde_json::Value::from(text));
    let phase = TaskPhase::InProgress;
    Record::Emitted { event: TaskEvent { id: "t".into(), task_type: "progress".into(), phase, payload } }
}

fn parent(of: &ExecutionRow, seq: u32, close: ParentClose) -> Parent {
    Parent { id: of.id.clone(), run: of.key, seq, close }
}

fn plain(history: &[StoredRecord]) -> Vec<(UnixMs, Record)> {
    history.iter().map(|stored| (stored.at, stored.record.clone())).collect()
}

/// The ids that a list gives.
fn ids(store: &impl Store, filter: &ListFilter) -> Vec<String> {
    let limit = if filter.limit == 0 { 1_000 } else { filter.limit };
    let rows = store.list(&ListFilter { limit, ..filter.clone() }).expect("lists");
    rows.into_iter().map(|row| row.id.to_string()).collect()
}

async fn appends_are_read_back_after_reopening<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let started = row(&*store, "reopened");
    store.append(first(&started, vec![turn(1), emitted("a")])).await.expect("the first append");
    store.append(next(started.key, 2, 2_000, vec![turn(2)])).await.expect("the second append");
    let mut last = next(started.key, 3, 3_000, vec![Record::Ended { end: End::TimedOut }]);
    last.end = Some((Status::TimedOut, 3_000));
    store.append(last).await.expect("the last append");
    drop(store);

    let store = open();
    let found = store.find(&started.id).expect("reads").expect("is there");
    assert_eq!(found, ExecutionRow { status: Status::TimedOut, ended_at: Some(3_000), ..started.clone() });
    assert_eq!(store.row(started.key).expect("reads").as_ref(), Some(&found));
    assert_eq!(store.find_run(&started.run_id).expect("reads"), Some(found));
    let expected = [
        (1_000, turn(1)),
        (1_000, emitted("a")),
        (2_000, turn(2)),
        (3_000, Record::Ended { end: End::TimedOut }),
    ];
    assert_eq!(plain(&store.history(started.key, 0, 10).expect("reads")), expected);
    assert_eq!(store.find(&"unknown".parse::<ExecutionId>().expect("valid")).expect("reads"), None);
    assert_eq!(store.find_run(&RunId::generate()).expect("reads"), None);
    assert_eq!(store.row(ExecutionKey(i64::MAX)).expect("reads"), None);
    assert!(store.allocate() > started.key, "numbers are never given twice");
}

async fn every_part_of_a_row_is_read_back<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let top = row(&*store, "whole-top");
    store.append(first(&top, vec![turn(1)])).await.expect("appends");
    for (i, close) in
        [ParentClose::Terminate, ParentClose::RequestCancel, ParentClose::Abandon].into_iter().enumerate()
    {
        let whole = ExecutionRow {
            workflow: format!("whole-{i} ü"),
            digest: Digest([i as u8; 32]),
            principal: Principal {
                user: UserId::new(format!("whole-user-{i}")),
                workspace: WorkspaceId::new(format!("whole-workspace-{i}")),
                organization: OrganizationId::new(format!("whole-organization-{i}")),
            },
            started_at: 1_700_000_000_000 + i as u64,
            parent: Some(parent(&top, 3 + i as u32, close)),
            root: top.id.clone(),
            schedule: Some(format!("whole-schedule-{i}")),
            ..row(&*store, &format!("whole-{i}"))
        };
        store.append(first(&whole, vec![turn(1)])).await.expect("appends");
        assert_eq!(store.row(whole.key).expect("reads"), Some(whole));
    }
    // A run may begin and end in one step.
    let brief = row(&*store, "whole-brief");
    let end = Some((Status::Failed, 4_000));
    store.append(Append { end, ..first(&brief, vec![turn(1)]) }).await.expect("appends");
    let ended = ExecutionRow { status: Status::Failed, ended_at: Some(4_000), ..brief };
    assert_eq!(store.row(ended.key).expect("reads"), Some(ended));
}

async fn a_history_is_read_in_pieces_from_both_ends<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let started = row(&*store, "pieces");
    store.append(first(&started, (0..10).map(turn).collect())).await.expect("appends");
    let whole = store.history(started.key, 0, 100).expect("reads");
    let (mut pieces, mut from) = (Vec::new(), 0);
    loop {
        let piece = store.history(started.key, from, 3).expect("reads");
        assert!(piece.len() <= 3, "no more than asked for");
        if piece.is_empty() {
            break;
        }
        from += piece.len() as u32;
        pieces.extend(piece);
    }
    assert_eq!(pieces, whole);
    assert_eq!(plain(&pieces), (0..10).map(|n| (1_000, turn(n))).collect::<Vec<_>>());
    let last: Vec<_> = whole.iter().rev().take(4).cloned().collect();
    assert_eq!(store.last_records(started.key, 4).expect("reads"), last);
    assert_eq!(store.last_records(started.key, 100).expect("reads").len(), 10);
    assert_eq!(store.history(started.key, 10, 5).expect("reads"), []);
    assert_eq!(store.last_records(store.allocate(), 5).expect("reads"), []);
}

async fn a_taken_place_or_id_is_a_conflict_that_changes_nothing<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let one = row(&*store, "conflict");
    store.append(first(&one, vec![turn(1)])).await.expect("the first append");
    let mut twin = row(&*store, "conflict");
    twin.workflow = "other".into();
    // Together with others, so that a store which groups appends has to tell them apart.
    let good = row(&*store, "conflict-neighbour");
    let taken = Append {
        end: Some((Status::Failed, 9_000)),
        search_keys: vec![("conflict".into(), SearchValue::Null)],
        ..next(one.key, 0, 9_000, vec![turn(9)])
    };
    let outcomes = join_all([
        store.append(first(&twin, vec![turn(1)])),
        store.append(taken),
        store.append(first(&good, vec![turn(1)])),
    ])
    .await;
    assert!(matches!(outcomes[0], Err(StoreError::Conflict)), "a taken id: {:?}", outcomes[0]);
    assert!(matches!(outcomes[1], Err(StoreError::Conflict)), "a taken place: {:?}", outcomes[1]);
    assert!(outcomes[2].is_ok(), "a neighbour is not harmed: {:?}", outcomes[2]);
    assert_eq!(store.find(&one.id).expect("reads"), Some(one.clone()));
    assert_eq!(store.history(one.key, 0, 10).expect("reads").len(), 1);
    assert_eq!(store.search_keys(one.key).expect("reads"), []);
    assert_eq!(store.row(twin.key).expect("reads"), None);
    assert_eq!(store.history(twin.key, 0, 10).expect("reads"), []);
    store.append(next(good.key, 1, 2_000, vec![turn(2)])).await.expect("the neighbour goes on");
}

async fn a_run_takes_the_id_of_the_run_that_it_replaces_and_of_no_other<S: Store>(
    open: &impl Fn() -> Arc<S>,
) {
    let store = open();
    let runs: Vec<_> = (0..4).map(|_| row(&*store, "replaced")).collect();
    store.append(first(&runs[0], vec![turn(1)])).await.expect("appends");
    store.append(ending(runs[0].key, 1, Status::Failed, 2_000)).await.expect("appends");
    let outcome = store.append(first(&runs[1], vec![turn(1)])).await;
    assert!(matches!(outcome, Err(StoreError::Conflict)), "ended, but still the current run: {outcome:?}");
    store.append(replacing(&runs[1], Some(runs[0].key), vec![turn(1)])).await.expect("replaces");
    let outcome = store.append(replacing(&runs[2], Some(runs[0].key), vec![turn(1)])).await;
    assert!(matches!(outcome, Err(StoreError::Conflict)), "no longer the current run: {outcome:?}");
    // Two at once that want to replace the same run: one of them does.
    let outcomes = join_all(
        [&runs[2], &runs[3]].map(|run| store.append(replacing(run, Some(runs[1].key), vec![turn(1)]))),
    )
    .await;
    assert!(outcomes[0].is_ok(), "{:?}", outcomes[0]);
    assert!(matches!(outcomes[1], Err(StoreError::Conflict)), "{:?}", outcomes[1]);
    drop(store);

    let store = open();
    assert_eq!(store.find(&runs[0].id).expect("reads").map(|row| row.key), Some(runs[2].key));
    for run in &runs[..3] {
        assert_eq!(store.row(run.key).expect("reads").map(|row| row.run_id), Some(run.run_id));
        assert_eq!(store.find_run(&run.run_id).expect("reads").map(|row| row.key), Some(run.key));
    }
    assert_eq!(store.row(runs[3].key).expect("reads"), None);
    let filter = |current| ListFilter {
        id: Some(runs[0].id.clone()),
        sort: Sort::OldestStart,
        current,
        limit: 10,
        ..ListFilter::default()
    };
    let keys = |filter| store.list(&filter).expect("lists").iter().map(|row| row.key).collect::<Vec<_>>();
    assert_eq!(keys(filter(false)), [runs[0].key, runs[1].key, runs[2].key]);
    assert_eq!(keys(filter(true)), [runs[2].key]);
}

async fn a_successor_is_there_exactly_when_its_predecessor_has_ended<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let (old, new) = (row(&*store, "succeeded"), row(&*store, "succeeded"));
    store.append(first(&old, vec![turn(1)])).await.expect("appends");
    let step = |index| {
        let continued = Record::Continued { run_id: new.run_id, reason: Continuation::AsNew };
        Append {
            end: Some((Status::ContinuedAsNew, 2_000)),
            successor: Some(Box::new(replacing(&new, Some(old.key), vec![turn(1), turn(2)]))),
            ..next(old.key, index, 2_000, vec![turn(2), continued])
        }
    };
    let outcome = store.append(step(0)).await;
    assert!(matches!(outcome, Err(StoreError::Conflict)), "{outcome:?}");
    assert_eq!(store.find(&old.id).expect("reads"), Some(old.clone()), "nothing has changed");
    assert_eq!(store.row(new.key).expect("reads"), None);
    let appended = store.append(step(1)).await.expect("appends");
    drop(store);

    let store = open();
    let ended = ExecutionRow { status: Status::ContinuedAsNew, ended_at: Some(2_000), ..old.clone() };
    assert_eq!(store.row(old.key).expect("reads"), Some(ended));
    assert_eq!(store.find(&old.id).expect("reads"), Some(new.clone()));
    let (before, after) =
        (store.history(old.key, 1, 10).expect("reads"), store.history(new.key, 0, 10).expect("reads"));
    let mut number = appended.first_event;
    for stored in before.iter().chain(&after) {
        assert_eq!(stored.first_event, number, "the successor's events follow those of the end");
        number += stored.record.event_count();
    }
    assert_eq!((before.len(), after.len()), (2, 2));

    // A successor that cannot be started leaves its predecessor as it was.
    let third = row(&*store, "succeeded");
    let impossible = Append {
        successor: Some(Box::new(replacing(&third, Some(old.key), vec![turn(1)]))),
        ..ending(new.key, 2, Status::ContinuedAsNew, 3_000)
    };
    let outcome = store.append(impossible).await;
    assert!(matches!(outcome, Err(StoreError::Conflict)), "{outcome:?}");
    assert_eq!(store.find(&new.id).expect("reads"), Some(new.clone()));
    assert_eq!(store.history(new.key, 0, 10).expect("reads").len(), 2);
    assert_eq!(store.row(third.key).expect("reads"), None);
}

async fn event_numbers_grow_in_commit_order<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let rows: Vec<_> = (0..20).map(|i| row(&*store, &format!("order-{i}"))).collect();
    let appends = rows.iter().map(|row| store.append(first(row, vec![turn(1), turn(2)])));
    let numbers: Vec<u64> =
        join_all(appends).await.into_iter().map(|done| done.expect("appends").first_event).collect();
    assert!(numbers.is_sorted(), "appends take effect in the order of the calls: {numbers:?}");
    // Of one run, too, when nobody waits in between.
    let steps = (2..40).map(|index| store.append(next(rows[0].key, index, 2_000, vec![turn(index)])));
    let steps: Vec<u64> =
        join_all(steps).await.into_iter().map(|done| done.expect("appends").first_event).collect();
    assert!(steps.is_sorted(), "appends take effect in the order of the calls: {steps:?}");
    drop(store);

    let store = open();
    let mut seen = HashSet::new();
    for row in &rows {
        for stored in store.history(row.key, 0, 100).expect("reads") {
            for number in stored.first_event..stored.first_event + stored.record.event_count() {
                assert!(seen.insert(number), "event number {number} was given twice");
            }
        }
    }
    let later = store.append(next(rows[1].key, 2, 2_000, vec![turn(2)])).await.expect("appends");
    assert!(seen.iter().all(|number| *number < later.first_event), "numbers grow over a restart");
}

async fn open_executions_say_when_they_wake<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let before: HashSet<_> =
        store.open_executions().expect("reads").into_iter().map(|(key, _)| key).collect();
    let rows: Vec<_> = (0..4).map(|i| row(&*store, &format!("wake-{i}"))).collect();
    for row in &rows {
        store.append(first(row, vec![turn(1)])).await.expect("appends");
    }
    for (row, wake) in rows.iter().zip([Wake::Now, Wake::At(77), Wake::Never]) {
        let mut append = next(row.key, 1, 2_000, vec![turn(2)]);
        append.wake = Some(wake);
        store.append(append).await.expect("appends");
        // A step that says nothing of it leaves it as it is.
        store.append(next(row.key, 2, 2_000, vec![turn(3)])).await.expect("appends");
    }
    store.append(ending(rows[3].key, 1, Status::Completed, 2_000)).await.expect("appends");
    drop(store);

    let store = open();
    let mut now_open = store.open_executions().expect("reads");
    now_open.retain(|(key, _)| !before.contains(key));
    let expected = [(rows[0].key, Wake::Now), (rows[1].key, Wake::At(77)), (rows[2].key, Wake::Never)];
    assert_eq!(now_open, expected);
}

async fn code_is_pinned_until_the_run_ends_or_goes_over_to_other_code<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let code = |n| Digest([n; 32]);
    let pinned = |store: &Arc<S>| store.pinned().expect("reads");
    let mut run = row(&*store, "pinned");
    run.digest = code(101);
    store.append(first(&run, vec![turn(1)])).await.expect("appends");
    assert!(pinned(&store).contains(&code(101)));
    let upgraded = Record::Upgraded { digest: code(102) };
    let upgrade = Append { digest: Some(code(102)), ..next(run.key, 1, 2_000, vec![upgraded]) };
    store.append(upgrade).await.expect("appends");
    drop(store);

    let store = open();
    assert!(!pinned(&store).contains(&code(101)));
    assert!(pinned(&store).contains(&code(102)));
    assert_eq!(store.row(run.key).expect("reads").map(|row| row.digest), Some(code(102)));
    store.append(ending(run.key, 2, Status::Completed, 3_000)).await.expect("appends");
    assert!(!pinned(&store).contains(&code(102)));
}

async fn search_keys_are_set_changed_and_removed<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let run = row(&*store, "keyed");
    let text = |text: &str| SearchValue::Text(text.into());
    let changes = |changes: &[(&str, SearchValue)]| {
        changes.iter().map(|(name, value)| ((*name).into(), value.clone())).collect::<Vec<_>>()
    };
    let birth = Append {
        search_keys: changes(&[("city", text("Paris")), ("order", text("17")), ("gone", text("x"))]),
        ..first(&run, vec![turn(1)])
    };
    store.append(birth).await.expect("appends");
    let change = Append {
        search_keys: changes(&[
            ("city", text("Lyon")),
            ("order", SearchValue::Null),
            ("gone", SearchValue::Removed),
            ("never there", SearchValue::Removed),
            ("new", text("")),
        ]),
        ..next(run.key, 1, 2_000, vec![turn(2)])
    };
    store.append(change).await.expect("appends");
    // The end keeps them.
    store.append(ending(run.key, 2, Status::Completed, 3_000)).await.expect("appends");
    drop(store);

    let store = open();
    let expected = [("city", Some("Lyon")), ("new", Some("")), ("order", None)]
        .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
    assert_eq!(store.search_keys(run.key).expect("reads"), expected);
    assert_eq!(store.search_keys(store.allocate()).expect("reads"), []);
}

async fn children_are_found_until_they_end_and_orphans_when_their_parent_has<S: Store>(
    open: &impl Fn() -> Arc<S>,
) {
    let store = open();
    let top = row(&*store, "family-top");
    store.append(first(&top, vec![turn(1)])).await.expect("appends");
    let closes =
        [ParentClose::Terminate, ParentClose::RequestCancel, ParentClose::Abandon, ParentClose::Terminate];
    let mut children = Vec::new();
    for (i, close) in closes.into_iter().enumerate() {
        let mut child = row(&*store, &format!("family-{i}"));
        child.parent = Some(parent(&top, i as u32, close));
        child.root = top.id.clone();
        store.append(first(&child, vec![turn(1)])).await.expect("appends");
        children.push(Child { key: child.key, id: child.id.clone(), close });
    }
    store.append(ending(children[3].key, 1, Status::Completed, 2_000)).await.expect("appends");
    // A child that continues as new is the same child in another run.
    let mut second = row(&*store, "family-1");
    second.parent = Some(parent(&top, 1, closes[1]));
    second.root = top.id.clone();
    let continued = Append {
        successor: Some(Box::new(replacing(&second, Some(children[1].key), vec![turn(1)]))),
        ..ending(children[1].key, 1, Status::ContinuedAsNew, 2_000)
    };
    store.append(continued).await.expect("appends");
    children[1].key = second.key;
    children.pop();

    let sorted = |mut found: Vec<Child>| {
        found.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
        found
    };
    let ours = |store: &Arc<S>| {
        let mut orphans = store.orphans().expect("reads");
        orphans.retain(|child| child.id.as_str().starts_with("family-"));
        sorted(orphans)
    };
    assert_eq!(sorted(store.open_children(&top.id).expect("reads")), children);
    assert_eq!(store.open_children(&children[0].id).expect("reads"), []);
    assert_eq!(ours(&store), [], "the parent is open");
    // A parent that continues as new is still the parent.
    let next_top = row(&*store, "family-top");
    let continued = Append {
        successor: Some(Box::new(replacing(&next_top, Some(top.key), vec![turn(1)]))),
        ..ending(top.key, 1, Status::ContinuedAsNew, 2_000)
    };
    store.append(continued).await.expect("appends");
    assert_eq!(sorted(store.open_children(&top.id).expect("reads")), children);
    assert_eq!(ours(&store), [], "another run of the parent is open");
    // The children of a run that is tried again have heard of its end or are to.
    let mut own = row(&*store, "family-9");
    own.parent = Some(parent(&next_top, 9, ParentClose::RequestCancel));
    own.root = top.id.clone();
    store.append(first(&own, vec![turn(1)])).await.expect("appends");
    assert_eq!(ours(&store), []);
    let own = Child { key: own.key, id: own.id, close: ParentClose::RequestCancel };
    children.push(own.clone());
    let third_top = row(&*store, "family-top");
    let tried_again = Append {
        successor: Some(Box::new(replacing(&third_top, Some(next_top.key), vec![turn(1)]))),
        ..ending(next_top.key, 1, Status::Failed, 3_000)
    };
    store.append(tried_again).await.expect("appends");
    assert_eq!(ours(&store), std::slice::from_ref(&own), "those of the runs before go on");
    store.append(ending(third_top.key, 1, Status::Failed, 3_500)).await.expect("appends");
    // The parent of this one is nowhere.
    let mut lost = row(&*store, "family-lost");
    let nowhere = ExecutionRow { id: "nowhere".parse().expect("valid"), ..top.clone() };
    lost.parent = Some(parent(&nowhere, 1, ParentClose::Terminate));
    store.append(first(&lost, vec![turn(1)])).await.expect("appends");
    drop(store);

    let store = open();
    let lost = Child { key: lost.key, id: lost.id, close: ParentClose::Terminate };
    assert_eq!(ours(&store), [children[0].clone(), children[1].clone(), own, lost]);
    assert_eq!(sorted(store.open_children(&top.id).expect("reads")), children);
}

/// Eight runs of a workspace of their own, in the order of their starts. The even ones are of workflow `even`, the first
/// four of user `low`; 2 is a child of 1 and 3 of 2; 4 and 5 were started by a schedule; 6 ended well, 7 failed.
async fn eight<S: Store>(store: &Arc<S>, name: &str) -> Vec<ExecutionRow> {
    let mut rows: Vec<ExecutionRow> = Vec::new();
    for i in 0..8_usize {
        let mut run = row(&**store, &format!("{name}-{i}"));
        run.workflow = format!("{name}-{}", if i % 2 == 0 { "even" } else { "odd" });
        run.principal.workspace = WorkspaceId::new(name);
        run.principal.user = UserId::new(if i < 4 { "low" } else { "high" });
        run.started_at = 10_000 + 10 * i as u64;
        if i == 2 || i == 3 {
            run.parent = Some(parent(&rows[i - 1], 1, ParentClose::Terminate));
            run.root = rows[1].id.clone();
        }
        if i == 4 || i == 5 {
            run.schedule = Some(format!("{name}-nightly"));
        }
        store.append(first(&run, vec![turn(1)])).await.expect("appends");
        rows.push(run);
    }
    store.append(ending(rows[6].key, 1, Status::Completed, 20_000)).await.expect("appends");
    store.append(ending(rows[7].key, 1, Status::Failed, 20_010)).await.expect("appends");
    rows
}

async fn lists_filter<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let rows = eight(&store, "filter").await;
    let workspace = || Some(WorkspaceId::new("filter"));
    let base = || ListFilter { workspace: workspace(), sort: Sort::OldestStart, ..ListFilter::default() };
    let check = |what: &str, filter: ListFilter, expected: &[usize]| {
        let expected: Vec<_> = expected.iter().map(|i| format!("filter-{i}")).collect();
        assert_eq!(ids(&*store, &filter), expected, "{what}");
    };
    let name = |name: &str| name.to_owned();
    check("workspace", base(), &[0, 1, 2, 3, 4, 5, 6, 7]);
    check("unknown workspace", ListFilter { workspace: Some(WorkspaceId::new("?")), ..base() }, &[]);
    let user = |user: &str| ListFilter { user: Some(UserId::new(user)), ..base() };
    check("user", user("low"), &[0, 1, 2, 3]);
    check("user of another workspace", user("ada"), &[]);
    let workflows = |workflows: &[&str]| ListFilter {
        workflows: workflows.iter().map(|workflow| (*workflow).to_owned()).collect(),
        ..base()
    };
    check("a workflow", workflows(&["filter-even"]), &[0, 2, 4, 6]);
    check("workflows", workflows(&["filter-odd", "filter-even", "?"]), &[0, 1, 2, 3, 4, 5, 6, 7]);
    check("an unknown workflow", workflows(&["?"]), &[]);
    let status = |status: &[Status]| ListFilter { status: status.to_vec(), ..base() };
    check("running", status(&[Status::Running]), &[0, 1, 2, 3, 4, 5]);
    check("completed", status(&[Status::Completed]), &[6]);
    check("failed", status(&[Status::Failed]), &[7]);
    check("two states", status(&[Status::Running, Status::Failed]), &[0, 1, 2, 3, 4, 5, 7]);
    check("no such state", status(&[Status::TimedOut, Status::Canceled]), &[]);
    let id = |i: usize| Some(rows[i].id.clone());
    check("id", ListFilter { id: id(3), ..base() }, &[3]);
    check("id of another user", ListFilter { id: id(3), ..user("high") }, &[]);
    check("root", ListFilter { root: id(1), ..base() }, &[1, 2, 3]);
    check("root of itself", ListFilter { root: id(7), ..base() }, &[7]);
    check("parent", ListFilter { parent: id(1), ..base() }, &[2]);
    check("no children", ListFilter { parent: id(3), ..base() }, &[]);
    let scheduled = || ListFilter { schedule: Some(name("filter-nightly")), ..base() };
    check("schedule", scheduled(), &[4, 5]);
    check("schedule and workflow", ListFilter { workflows: vec![name("filter-odd")], ..scheduled() }, &[5]);
    check("started from", ListFilter { started_from: Some(10_050), ..base() }, &[5, 6, 7]);
    check("started before", ListFilter { started_before: Some(10_020), ..base() }, &[0, 1]);
    let between =
        ListFilter { started_from: Some(10_020), started_before: Some(10_040), ..ListFilter::default() };
    check(
        "started between",
        ListFilter { workspace: workspace(), sort: Sort::OldestStart, ..between },
        &[2, 3],
    );
    check("ended from", ListFilter { ended_from: Some(20_010), ..base() }, &[7]);
    check("ended before", ListFilter { ended_before: Some(20_010), ..base() }, &[6]);
    check("ended in a time without ends", ListFilter { ended_from: Some(20_011), ..base() }, &[]);
    let text = |text: &str| ListFilter { text: Some(text.into()), ..base() };
    check("text that begins an id", text("filter-5"), &[5]);
    check("text that begins all ids", text("filter-"), &[0, 1, 2, 3, 4, 5, 6, 7]);
    check("text within a workflow", text("r-ev"), &[0, 2, 4, 6]);
    check("text within an id only", text("ilter-5"), &[]);
    check("text of one character that means something elsewhere", text("%"), &[]);
    check(
        "everything at once",
        ListFilter {
            user: Some(UserId::new("low")),
            workflows: vec![name("filter-odd")],
            status: vec![Status::Running],
            root: id(1),
            parent: id(2),
            started_from: Some(10_030),
            started_before: Some(10_031),
            text: Some("filter".into()),
            current: true,
            ..base()
        },
        &[3],
    );
    // Each condition also without the workspace.
    let all = || ListFilter { sort: Sort::OldestStart, ..ListFilter::default() };
    check("a workflow", ListFilter { workflows: vec![name("filter-even")], ..all() }, &[0, 2, 4, 6]);
    check("root", ListFilter { root: id(1), ..all() }, &[1, 2, 3]);
    check("text", ListFilter { text: Some("filter-7".into()), ..all() }, &[7]);
    let user = ListFilter { user: Some(UserId::new("high")), started_before: Some(10_070), ..all() };
    check("user", ListFilter { text: Some("filter-".into()), ..user }, &[4, 5, 6]);
}

async fn lists_sort_and_page<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let rows = eight(&store, "page").await;
    // Ended in another order than started; two of them at the same time.
    store.append(ending(rows[1].key, 1, Status::Canceled, 20_020)).await.expect("appends");
    store.append(ending(rows[4].key, 1, Status::Completed, 20_010)).await.expect("appends");
    let all = || ListFilter { workspace: Some(WorkspaceId::new("page")), ..ListFilter::default() };
    let by_end = |sort| {
        let mut rows = store.list(&ListFilter { sort, limit: 100, ..all() }).expect("lists");
        assert_eq!(rows.len(), 8);
        let ends: Vec<_> = rows.iter().map(|row| row.ended_at.unwrap_or(u64::MAX)).collect();
        rows.retain(|row| row.ended_at.is_none());
        (ends, rows.len())
    };
    let (ends, open_runs) = by_end(Sort::OldestEnd);
    assert!(ends.is_sorted() && open_runs == 4, "by end, open runs last: {ends:?}");
    let (ends, open_runs) = by_end(Sort::NewestEnd);
    assert!(ends.iter().rev().is_sorted() && open_runs == 4, "by end, open runs first: {ends:?}");
    let names = |numbers: &[usize]| numbers.iter().map(|i| format!("page-{i}")).collect::<Vec<_>>();
    let sorted = |sort| ids(&*store, &ListFilter { sort, ..all() });
    assert_eq!(sorted(Sort::OldestStart), names(&[0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(sorted(Sort::NewestStart), names(&[7, 6, 5, 4, 3, 2, 1, 0]));
    assert_eq!(ids(&*store, &ListFilter { sort: Sort::OldestEnd, limit: 1, ..all() }), names(&[6]));
    assert_eq!(ids(&*store, &ListFilter { limit: 3, ..all() }), names(&[7, 6, 5]));
    let nothing = store.list(&ListFilter { limit: 0, ..all() }).expect("lists");
    assert_eq!(nothing, [], "a limit of none");

    let filters = [
        all(),
        ListFilter { user: Some(UserId::new("high")), ..all() },
        ListFilter { workflows: vec!["page-odd".into()], ..all() },
        ListFilter { status: vec![Status::Running, Status::Canceled], ..all() },
        ListFilter { root: Some(rows[1].id.clone()), ..all() },
        ListFilter { schedule: Some("page-nightly".into()), ..all() },
        ListFilter { text: Some("page-".into()), ..all() },
        ListFilter { ended_from: Some(20_010), ..all() },
    ];
    for sort in [Sort::NewestStart, Sort::OldestStart, Sort::NewestEnd, Sort::OldestEnd] {
        for filter in &filters {
            let filter = ListFilter { sort, ..filter.clone() };
            let whole = ids(&*store, &filter);
            assert!(!whole.is_empty());
            for limit in [1, 2, 3] {
                let (mut pages, mut after) = (Vec::new(), None);
                loop {
                    let page = store.list(&ListFilter { after, limit, ..filter.clone() }).expect("lists");
                    assert!(page.len() <= limit, "no more than asked for");
                    let Some(last) = page.last() else { break };
                    after = Some(last.key);
                    pages.extend(page.into_iter().map(|row| row.id.to_string()));
                    assert!(pages.len() <= whole.len(), "a page repeats: {pages:?} of {filter:?}");
                }
                assert_eq!(pages, whole, "pages of {limit} of {filter:?}");
            }
        }
    }
}

async fn lists_match_search_keys<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let values = [
        Some(SearchValue::Text("Grüne Straße 1".into())),
        Some(SearchValue::Text("grüne straße 1".into())),
        Some(SearchValue::Text("50% off_now".into())),
        Some(SearchValue::Null),
        None,
    ];
    for (i, value) in values.into_iter().enumerate() {
        for (name, end) in [("open", false), ("ended", true)] {
            let run = row(&*store, &format!("search-{i}-{name}"));
            let mut search_keys = vec![("search-every".to_owned(), SearchValue::Text(name.into()))];
            search_keys.extend(value.clone().map(|value| ("search-some".to_owned(), value)));
            store.append(Append { search_keys, ..first(&run, vec![turn(1)]) }).await.expect("appends");
            if end {
                store.append(ending(run.key, 1, Status::Completed, 2_000)).await.expect("appends");
            }
        }
    }
    let found = |terms: &[(&str, SearchMatch)]| {
        let search_keys = terms
            .iter()
            .map(|(name, value)| SearchTerm { name: (*name).into(), value: value.clone() })
            .collect();
        ids(&*store, &ListFilter { search_keys, sort: Sort::OldestStart, ..ListFilter::default() })
    };
    let both = |numbers: &[usize]| -> Vec<String> {
        numbers.iter().flat_map(|i| [format!("search-{i}-open"), format!("search-{i}-ended")]).collect()
    };
    let (exactly, similar) =
        (|text: &str| SearchMatch::Exactly(text.into()), |text: &str| SearchMatch::Similar(text.into()));
    assert_eq!(found(&[("search-some", SearchMatch::Present)]), both(&[0, 1, 2, 3]));
    assert_eq!(found(&[("search-some", SearchMatch::Null)]), both(&[3]));
    assert_eq!(found(&[("search-some", exactly("grüne straße 1"))]), both(&[1]));
    assert_eq!(found(&[("search-some", exactly("grüne"))]), [""; 0]);
    assert_eq!(found(&[("search-some", similar("GRÜNE ST"))]), both(&[0, 1]));
    assert_eq!(found(&[("search-some", similar("OFF_N"))]), both(&[2]));
    assert_eq!(found(&[("search-some", similar("0%"))]), both(&[2]), "no character is special");
    assert_eq!(found(&[("search-some", similar("5_%"))]), [""; 0], "no character is special");
    assert_eq!(found(&[("search-some", similar(""))]), both(&[0, 1, 2]), "no value contains nothing");
    assert_eq!(found(&[("search-none", SearchMatch::Present)]), [""; 0]);
    let and = found(&[("search-some", similar("straße")), ("search-every", exactly("ended"))]);
    assert_eq!(and, ["search-0-ended", "search-1-ended"]);
}

async fn a_purge_removes_what_ended_before_and_nothing_else<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let key = |name: &str| vec![(name.to_owned(), SearchValue::Text("x".into()))];
    let mut purged = Vec::new();
    for i in 0..5 {
        let mut run = row(&*store, &format!("purge-{i}"));
        run.digest = Digest([200 + i; 32]);
        let birth = Append { search_keys: key("purge"), ..first(&run, (0..600).map(turn).collect()) };
        store.append(birth).await.expect("appends");
        store.append(ending(run.key, 600, Status::Completed, 10 + u64::from(i))).await.expect("appends");
        purged.push(run);
    }
    // Open, and older than all.
    let mut kept = row(&*store, "purge-open");
    kept.started_at = 1;
    store.append(Append { search_keys: key("purge"), ..first(&kept, vec![turn(1)]) }).await.expect("appends");
    // Ended at the very time before which it is purged.
    let edge = row(&*store, "purge-edge");
    store.append(first(&edge, vec![turn(1)])).await.expect("appends");
    let last = store.append(ending(edge.key, 1, Status::Failed, 50)).await.expect("appends");
    let others = |store: &Arc<S>| {
        let mut ids = ids(&**store, &ListFilter::default());
        ids.retain(|id| !id.starts_with("purge-"));
        ids
    };
    let before = others(&store);

    assert_eq!(store.purge(10, 100).await.expect("purges"), 0, "nothing ended before that");
    assert_eq!(store.purge(50, 0).await.expect("purges"), 0, "none is asked for");
    assert_eq!(store.purge(50, 2).await.expect("purges"), 2, "no more than asked for");
    assert_eq!(store.purge(50, 100).await.expect("purges"), 3);
    assert_eq!(store.purge(50, 100).await.expect("purges"), 0, "all are gone");
    journal::removed_runs_have_no_records(&*store, &purged);
    for run in &purged {
        assert_eq!(store.find(&run.id).expect("reads"), None);
        assert_eq!(store.find_run(&run.run_id).expect("reads"), None);
        assert_eq!(store.row(run.key).expect("reads"), None);
        assert_eq!(store.history(run.key, 0, 10).expect("reads"), []);
        assert_eq!(store.last_records(run.key, 10).expect("reads"), []);
        assert_eq!(store.search_keys(run.key).expect("reads"), []);
    }
    assert_eq!(others(&store), before, "nothing else is harmed");
    let present = SearchTerm { name: "purge".into(), value: SearchMatch::Present };
    let with_key = ListFilter { search_keys: vec![present], ..ListFilter::default() };
    assert_eq!(ids(&*store, &with_key), ["purge-open"]);
    assert_eq!(store.history(kept.key, 0, 10).expect("reads").len(), 1);
    assert_eq!(store.history(edge.key, 0, 10).expect("reads").len(), 2);
    // Its id is free again.
    let again = row(&*store, "purge-0");
    store.append(first(&again, vec![turn(1)])).await.expect("appends");
    let newest = store.append(ending(again.key, 1, Status::Completed, 20)).await.expect("appends");
    assert!(newest.first_event > last.first_event);

    // The newest run is purged: its numbers are not given again.
    assert_eq!(store.purge(50, 100).await.expect("purges"), 1);
    drop(store);
    let store = open();
    let later = row(&*store, "purge-later");
    assert!(later.key > again.key, "numbers of runs are never given twice");
    let appended = store.append(first(&later, vec![turn(1)])).await.expect("appends");
    assert!(appended.first_event > newest.first_event, "numbers of events are never given twice");
    // A page may end with a run that is purged before the next one is asked for.
    let gone = ListFilter { after: Some(again.key), sort: Sort::OldestStart, ..ListFilter::default() };
    store.list(&ListFilter { limit: 3, ..gone }).expect("lists");
}
