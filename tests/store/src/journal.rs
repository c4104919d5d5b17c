//! The events of many runs in one order.

use std::sync::Arc;

use airlock_engine::{
    ExecutionKey, Principal, UserId,
    history::{ParentClose, Record, StoredRecord},
    store::{
        Append, Commits, Committed, ExecutionRow, Family, Merge, Place, Runs, Scope, Status, Store, Upto,
    },
};
use futures::future::join_all;

use super::{ending, first, next, parent, row, turn};

/// The same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// A tree of runs whose steps are mixed: children of children, some in a second run, some of another user.
async fn tree<S: Store>(store: &S, name: &str, random: &mut Random) -> Vec<ExecutionRow> {
    let top = row(store, name);
    let mut rows = vec![top.clone()];
    store.append(first(&top, vec![turn(1)])).await.expect("appends");
    let mut lengths = vec![1u32];
    for step in 0..400 {
        if random.below(10) == 0 {
            let above = rows[random.below(rows.len())].clone();
            let mut child = row(store, &format!("{name}-{step}"));
            child.parent = Some(parent(&above, step, ParentClose::Abandon));
            child.root = top.id.clone();
            if random.below(4) == 0 {
                child.principal.user = UserId::new("bea");
            }
            store.append(first(&child, vec![turn(1)])).await.expect("appends");
            rows.push(child);
            lengths.push(1);
            continue;
        }
        // Several at once, so that a store which groups appends does.
        let mut appends = Vec::new();
        for _ in 0..=random.below(3) {
            let at = random.below(rows.len());
            let records: Vec<Record> = (0..=random.below(3) as u32).map(turn).collect();
            lengths[at] += records.len() as u32;
            let index = lengths[at] - records.len() as u32;
            appends.push(store.append(next(rows[at].key, index, 2_000, records)));
        }
        for done in join_all(appends).await {
            done.expect("appends");
        }
    }
    rows
}

/// All of a merge, in pages of different sizes.
fn all(
    store: &impl Store,
    merge: &mut Merge,
    upto: u64,
    random: &mut Random,
) -> Vec<(Place, Option<StoredRecord>)> {
    let mut found = Vec::new();
    loop {
        let bytes = [1, 200, 1 << 20][random.below(3)];
        let records = 1 + random.below(40);
        let page = store.merged(merge, Upto { event: upto, records, bytes }).expect("reads");
        assert!(page.places.len() <= records, "no more than asked for");
        assert!(page.places.len() <= 1 || page.bytes <= bytes, "no more bytes, unless it is one record");
        if page.places.is_empty() {
            return found;
        }
        let sizes: u64 =
            page.places.iter().map(|it| store.sizes(it.key, it.index, 1).expect("reads")[0]).sum();
        assert_eq!(page.bytes, sizes);
        let records = store.records(&page.places).expect("reads");
        assert_eq!(records.len(), page.places.len());
        found.extend(page.places.into_iter().zip(records));
    }
}

/// What a merge gives, by the words of the contract: histories, sorted.
fn expected(store: &impl Store, rows: &[&ExecutionRow], from: u64, upto: u64) -> Vec<(Place, StoredRecord)> {
    let mut expected = Vec::new();
    for row in rows {
        let history = store.history(row.key, 0, 10_000).expect("reads");
        for (stored, index) in history.into_iter().zip(0..) {
            let last = stored.first_event + stored.record.event_count() - 1;
            if last >= from && stored.first_event <= upto {
                expected.push((Place { event: stored.first_event, key: row.key, index }, stored));
            }
        }
    }
    expected.sort_by_key(|(place, _)| *place);
    expected
}

pub(super) async fn events_of_many_runs_are_merged_in_the_order_of_the_store_from_any_number_on<S: Store>(
    open: &impl Fn() -> Arc<S>,
) {
    let store = open();
    let mut random = Random(11);
    let mut rows = tree(&*store, "merged", &mut random).await;
    // What has nothing to do with it is not met.
    tree(&*store, "unmerged", &mut random).await;
    // Another run of one of them.
    let ended = rows.pop().expect("a child");
    let length = store.history(ended.key, 0, 10_000).expect("reads").len() as u32;
    store.append(ending(ended.key, length, Status::Failed, 1_000_000)).await.expect("appends");
    let again = ExecutionRow { key: store.allocate(), ..row(&*store, ended.id.as_str()) };
    let again = ExecutionRow {
        parent: ended.parent.clone(),
        root: ended.root.clone(),
        principal: ended.principal.clone(),
        ..again
    };
    store.append(super::replacing(&again, Some(ended.key), vec![turn(1), turn(2)])).await.expect("appends");
    rows.extend([ended.clone(), again]);

    let top = rows[0].id.clone();
    let mut scopes = vec![
        Scope::of(Family::Tree(top.clone())),
        Scope::of(Family::Children(top.clone())),
        Scope::of(Family::Execution(ended.id.clone())),
        Scope::of(Family::Tree(ended.id.clone())),
    ];
    let of_bea = Scope { user: Some(UserId::new("bea")), ..scopes[0].clone() };
    let nobody = Scope { user: Some(UserId::new("nobody")), ..scopes[0].clone() };
    let both = Scope {
        within: vec![Family::Tree(top.clone()), Family::Execution(ended.id.clone())],
        ..scopes[2].clone()
    };
    let neither = Scope { within: vec![Family::Children(ended.id.clone())], ..scopes[0].clone() };
    scopes.extend([of_bea, nobody, both, neither]);
    let end = expected(&*store, &rows.iter().collect::<Vec<_>>(), 0, u64::MAX)
        .last()
        .map(|(place, stored)| place.event + stored.record.event_count())
        .expect("events");
    let mut found = 0;
    for scope in &scopes {
        let own: Vec<_> = rows.iter().filter(|row| scope.holds(row)).collect();
        let keys: Vec<ExecutionKey> = own.iter().map(|row| row.key).collect();
        let mut bounds = vec![(0, u64::MAX), (end, u64::MAX), (u64::MAX, u64::MAX), (1, 1)];
        bounds.extend((0..40).map(|_| {
            let from = random.below(end as usize) as u64;
            (from, from + random.below(60) as u64)
        }));
        for (from, upto) in bounds {
            let wanted = expected(&*store, &own, from, upto);
            for runs in [Runs::In(scope), Runs::These(&keys)] {
                let mut merge = store.seek(runs, from).expect("reads");
                let told: Vec<_> = all(&*store, &mut merge, upto, &mut random)
                    .into_iter()
                    .map(|(place, stored)| (place, stored.expect("it is there")))
                    .collect();
                assert!(told.is_sorted_by_key(|(place, _)| *place));
                assert_eq!(told, wanted, "{scope:?} from {from} to {upto}");
                found += told.len();
            }
        }
    }
    assert!(found > 1_000, "there is something to find: {found}");
    let nobody = store.seek(Runs::These(&[store.allocate()]), 0).expect("reads");
    assert_eq!(nobody.first(), None);
}

pub(super) async fn open_runs_of_a_scope_are_found_until_they_end<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let top = row(&*store, "open-top");
    store.append(first(&top, vec![turn(1)])).await.expect("appends");
    let mut rows = vec![top.clone()];
    for i in 0..4 {
        let mut child = row(&*store, &format!("open-{i}"));
        child.parent = Some(parent(&rows[i / 2], i as u32, ParentClose::Terminate));
        child.root = top.id.clone();
        store.append(first(&child, vec![turn(1)])).await.expect("appends");
        rows.push(child);
    }
    store.append(ending(rows[2].key, 1, Status::Completed, 1_000_000)).await.expect("appends");
    drop(store);
    let store = open();
    let found = |scope: Scope| {
        let mut keys = store.open_runs(&scope).expect("reads");
        keys.sort();
        keys
    };
    let keys = |at: &[usize]| at.iter().map(|at| rows[*at].key).collect::<Vec<_>>();
    let tree = Scope::of(Family::Tree(top.id.clone()));
    assert_eq!(found(tree.clone()), keys(&[0, 1, 3, 4]));
    assert_eq!(found(Scope::of(Family::Children(top.id.clone()))), keys(&[1]));
    assert_eq!(found(Scope::of(Family::Children(rows[1].id.clone()))), keys(&[3, 4]));
    assert_eq!(found(Scope::of(Family::Execution(rows[3].id.clone()))), keys(&[3]));
    assert_eq!(found(Scope::of(Family::Execution(rows[2].id.clone()))), []);
    assert_eq!(found(Scope { user: Some(UserId::new("nobody")), ..tree }), []);
}

/// What a listener heard: the last number, and of each step the run, whether it began and whether it ended.
#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<(u64, Vec<Step>)>>);

type Step = (ExecutionKey, Option<Principal>, bool);

impl Commits for Heard {
    fn committed(&self, last: u64, steps: &mut dyn Iterator<Item = Committed<'_>>) {
        let steps = steps.map(|step| (step.key, step.start.map(|row| row.principal.clone()), step.ended));
        self.0.lock().unwrap().push((last, steps.collect()));
    }
}

pub(super) async fn a_listener_hears_of_every_commit_in_order<S: Store>(open: &impl Fn() -> Arc<S>) {
    let store = open();
    let heard = Arc::new(Heard::default());
    let before = store.listen(Arc::clone(&heard) as _);
    let rows: Vec<_> = (0..20).map(|i| row(&*store, &format!("heard-{i}"))).collect();
    let starts = join_all(rows.iter().map(|row| store.append(first(row, vec![turn(1), turn(2)])))).await;
    let mut numbers: Vec<u64> = starts.into_iter().map(|done| done.expect("appends").first_event).collect();
    assert_eq!(numbers[0], before + 1, "the numbers before are known");
    // A refused one is not heard of, those beside it are; a successor is a step of its own.
    let then = ExecutionRow { run_id: rows[1].run_id, ..row(&*store, "heard-1") };
    let follows = Append {
        successor: Some(Box::new(super::replacing(&then, Some(rows[1].key), vec![turn(1)]))),
        ..ending(rows[1].key, 2, Status::ContinuedAsNew, 1_000_000)
    };
    let outcomes = join_all([
        store.append(next(rows[0].key, 2, 2_000, vec![turn(3)])),
        store.append(next(rows[2].key, 0, 2_000, vec![turn(3)])),
        store.append(follows),
    ])
    .await;
    assert!(outcomes[1].is_err());
    numbers.extend([&outcomes[0], &outcomes[2]].map(|done| done.as_ref().expect("appends").first_event));
    let heard = std::mem::take(&mut *heard.0.lock().unwrap());
    assert!(heard.is_sorted_by_key(|(last, _)| *last), "in the order of the commits: {heard:?}");
    let steps: Vec<Step> = heard.iter().flat_map(|(_, steps)| steps.clone()).collect();
    let mut expected: Vec<Step> =
        rows.iter().map(|row| (row.key, Some(row.principal.clone()), false)).collect();
    expected.push((rows[0].key, None, false));
    expected.push((rows[1].key, None, true));
    expected.push((then.key, Some(then.principal.clone()), false));
    assert_eq!(steps, expected);
    // The last number is that of the last event, which stands in the successor.
    let last = store.history(then.key, 0, 1).expect("reads")[0].clone();
    let (told, _) = heard.last().expect("commits");
    assert_eq!(*told, last.first_event + last.record.event_count() - 1);
    assert!(numbers.is_sorted());
}

/// Of runs that a purge removed nothing is found, also by those who looked before.
pub(super) fn removed_runs_have_no_records(store: &impl Store, runs: &[ExecutionRow]) {
    let keys: Vec<_> = runs.iter().map(|run| run.key).collect();
    assert_eq!(store.seek(Runs::These(&keys), 0).expect("reads").first(), None);
    let places: Vec<_> = keys.iter().map(|key| Place { event: 1, key: *key, index: 0 }).collect();
    assert_eq!(store.records(&places).expect("reads"), vec![None; places.len()]);
    let mut merge = Merge::default();
    places.into_iter().for_each(|place| merge.put(place));
    let page = store.merged(&mut merge, Upto { event: u64::MAX, records: 9, bytes: 9 }).expect("reads");
    assert_eq!(page, airlock_engine::store::Page::default());
    let tree = Scope::of(Family::Tree(runs[0].id.clone()));
    assert_eq!(store.seek(Runs::In(&tree), 0).expect("reads").first(), None);
}
