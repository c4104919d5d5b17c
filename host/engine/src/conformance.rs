//! What every [`Store`] must do. A store's own tests call [`run`] with a way to open it again and again.

use std::{collections::HashSet, sync::Arc};

use futures::future::join_all;

use crate::{
    Digest, ExecutionId, ExecutionKey, Json, OrganizationId, Principal, RunId, UserId, WorkspaceId,
    history::{Command, End, Job, Record, TaskEvent, TaskPhase},
    store::{Append, ExecutionRow, ListFilter, Status, Store, StoreError, Wake},
};

/// Runs the suite. `open` opens the same store anew each time; what it gave before has been dropped by then.
///
/// # Panics
/// With a message when the store breaks the contract of [`Store`].
pub async fn run<S: Store>(open: impl Fn() -> Arc<S>) {
    appends_are_read_back_after_reopening(&open).await;
    a_taken_place_or_id_is_a_conflict_that_changes_nothing(&open).await;
    event_numbers_grow_in_commit_order(&open).await;
    open_executions_say_when_they_wake(&open).await;
    lists_filter_and_page(&open).await;
}

fn row(store: &impl Store, id: &str) -> ExecutionRow {
    ExecutionRow {
        key: store.allocate(),
        id: id.parse().expect("a valid id"),
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
    }
}

fn first(row: &ExecutionRow, records: Vec<Record>) -> Append {
    let start = Some(Box::new(row.clone()));
    Append { key: row.key, index: 0, at: 1_000, records, start, end: None, wake: Some(Wake::Now) }
}

fn next(key: ExecutionKey, index: u32, at: u64, records: Vec<Record>) -> Append {
    Append { key, index, at, records, start: None, end: None, wake: None }
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
    assert_eq!(store.row(started.key).expect("reads"), Some(found));
    let history = store.history(started.key, 0, 10).expect("reads");
    let records: Vec<_> = history.iter().map(|stored| (stored.at, stored.record.clone())).collect();
    let expected = [
        (1_000, turn(1)),
        (1_000, emitted("a")),
        (2_000, turn(2)),
        (3_000, Record::Ended { end: End::TimedOut }),
    ];
    assert_eq!(records, expected);
    assert_eq!(store.history(started.key, 1, 2).expect("reads"), history[1..3]);
    assert_eq!(store.last_record(started.key).expect("reads").as_ref(), history.last());
    assert_eq!(store.find(&"unknown".parse::<ExecutionId>().expect("valid")).expect("reads"), None);
    assert!(store.allocate() > started.key, "numbers are never given twice");
}

async fn a_taken_place_or_id_is_a_conflict_that_changes_nothing<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let one = row(&*store, "conflict");
    store.append(first(&one, vec![turn(1)])).await.expect("the first append");
    let mut twin = row(&*store, "conflict");
    twin.workflow = "other".into();
    // Together with others, so that a store which groups appends has to tell them apart.
    let good = row(&*store, "conflict-neighbour");
    let outcomes = join_all([
        store.append(first(&twin, vec![turn(1)])),
        store.append(next(one.key, 0, 9, vec![turn(9)])),
        store.append(first(&good, vec![turn(1)])),
    ])
    .await;
    assert!(matches!(outcomes[0], Err(StoreError::Conflict)), "a taken id: {:?}", outcomes[0]);
    assert!(matches!(outcomes[1], Err(StoreError::Conflict)), "a taken place: {:?}", outcomes[1]);
    assert!(outcomes[2].is_ok(), "a neighbour is not harmed: {:?}", outcomes[2]);
    assert_eq!(store.find(&one.id).expect("reads").map(|row| row.key), Some(one.key));
    assert_eq!(store.history(one.key, 0, 10).expect("reads").len(), 1);
    assert_eq!(store.history(twin.key, 0, 10).expect("reads"), []);
}

async fn event_numbers_grow_in_commit_order<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let rows: Vec<_> = (0..20).map(|i| row(&*store, &format!("order-{i}"))).collect();
    let appends = rows.iter().map(|row| store.append(first(row, vec![turn(1), turn(2)])));
    let numbers: Vec<u64> =
        join_all(appends).await.into_iter().map(|done| done.expect("appends").first_event).collect();
    assert!(numbers.is_sorted(), "appends take effect in the order of the calls: {numbers:?}");
    let mut seen = HashSet::new();
    for row in &rows {
        for stored in store.history(row.key, 0, 10).expect("reads") {
            for number in stored.first_event..stored.first_event + stored.record.event_count() {
                assert!(seen.insert(number), "event number {number} was given twice");
            }
        }
    }
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
        let mut append = next(row.key, 1, 2, vec![turn(2)]);
        append.wake = Some(wake);
        store.append(append).await.expect("appends");
    }
    let mut ended = next(rows[3].key, 1, 2, vec![turn(2)]);
    ended.end = Some((Status::Completed, 2));
    store.append(ended).await.expect("appends");
    drop(store);

    let store = open();
    let mut now_open = store.open_executions().expect("reads");
    now_open.retain(|(key, _)| !before.contains(key));
    let expected = [(rows[0].key, Wake::Now), (rows[1].key, Wake::At(77)), (rows[2].key, Wake::Never)];
    assert_eq!(now_open, expected);
    assert!(store.pinned().expect("reads").contains(&Digest([7; 32])));
}

async fn lists_filter_and_page<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let mut rows: Vec<_> = (0..6).map(|i| row(&*store, &format!("list-{i}"))).collect();
    for (i, row) in rows.iter_mut().enumerate() {
        row.workflow = if i % 2 == 0 { "even" } else { "odd" }.into();
        row.principal.user = UserId::new(if i < 3 { "list-low" } else { "list-high" });
        let mut append = first(row, vec![turn(1)]);
        if i == 5 {
            append.end = Some((Status::Failed, 5));
        }
        store.append(append).await.expect("appends");
    }
    let ids = |filter: ListFilter| -> Vec<String> {
        let filter = ListFilter { limit: if filter.limit == 0 { 100 } else { filter.limit }, ..filter };
        store.list(&filter).expect("lists").into_iter().map(|row| row.id.to_string()).collect()
    };
    let even = || ListFilter { workflow: Some("even".into()), ..ListFilter::default() };
    assert_eq!(ids(even()), ["list-4", "list-2", "list-0"]);
    assert_eq!(ids(ListFilter { limit: 2, ..even() }), ["list-4", "list-2"]);
    assert_eq!(ids(ListFilter { before: Some(rows[2].key), ..even() }), ["list-0"]);
    let low = ListFilter { user: Some(UserId::new("list-low")), ..ListFilter::default() };
    assert_eq!(ids(low), ["list-2", "list-1", "list-0"]);
    let failed =
        ListFilter { status: vec![Status::Failed], workflow: Some("odd".into()), ..ListFilter::default() };
    assert_eq!(ids(failed), ["list-5"]);
    let run = ListFilter { run: Some(rows[3].run_id), ..ListFilter::default() };
    assert_eq!(ids(run), ["list-3"]);
    let elsewhere = ListFilter { workspace: Some(WorkspaceId::new("other")), ..ListFilter::default() };
    assert_eq!(ids(elsewhere), [""; 0]);
}
