//! Whoever follows a set of runs that grows hears of each that has something new, and of the end exactly when nothing can
//! come any more. The steps are written into the store directly: what runs does not matter here.

mod stage;

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

use airlock_engine::{
    Digest, ExecutionId, ExecutionKey, RunId,
    engine::{Following, News},
    history::{Continuation, End, Parent, ParentClose, Record},
    store::{Append, ExecutionRow, Family, Scope, Start, Status, Store},
};
use airlock_patience::LIMIT;
use airlock_store::SqliteStore;
use futures::{FutureExt as _, future::join_all};
use serde_json::json;
use stage::{Stage, user};
use tokio::time::timeout;

/// The same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

fn row(store: &SqliteStore, id: &str) -> ExecutionRow {
    let id: ExecutionId = id.parse().expect("an id");
    ExecutionRow {
        key: store.allocate(),
        root: id.clone(),
        id,
        run_id: RunId::generate(),
        workflow: "any".into(),
        digest: Digest([1; 32]),
        principal: user("ada"),
        status: Status::Running,
        started_at: 1,
        ended_at: None,
        parent: None,
        schedule: None,
    }
}

fn birth(row: &ExecutionRow, replaces: Option<ExecutionKey>) -> Append {
    let start = Some(Box::new(Start { row: row.clone(), replaces }));
    Append { start, ..Append::records(row.key, 0, 1, vec![Record::Resumed]) }
}

struct Run {
    row: ExecutionRow,
    records: u32,
    last: u64,
    open: bool,
}

/// What was written, beside the store.
struct World {
    /// So that ids are not those of another one.
    seed: u64,
    runs: Vec<Run>,
}

impl World {
    fn born(&mut self, row: ExecutionRow, last: u64) {
        self.runs.push(Run { row, records: 1, last, open: true });
    }

    async fn step(&mut self, store: &SqliteStore, random: &mut Random) {
        let open: Vec<usize> = (0..self.runs.len()).filter(|at| self.runs[*at].open).collect();
        let what = if open.is_empty() { 0 } else { random.below(20) };
        let number = self.runs.len();
        let seed = self.seed;
        if what == 0 {
            let row = row(store, &format!("root-{seed}-{number}"));
            let last = store.append(birth(&row, None)).await.expect("appends").first_event;
            return self.born(row, last);
        }
        let at = open[random.below(open.len())];
        let (key, index) = (self.runs[at].row.key, self.runs[at].records);
        match what {
            1..=6 => {
                let mut child = row(store, &format!("child-{seed}-{number}"));
                let above = &self.runs[at].row;
                let close = [ParentClose::Abandon, ParentClose::Terminate, ParentClose::RequestCancel]
                    [random.below(3)];
                child.parent = Some(Parent { id: above.id.clone(), run: above.key, seq: 1, close });
                child.root = above.root.clone();
                let last = store.append(birth(&child, None)).await.expect("appends").first_event;
                self.born(child, last);
            }
            7..=9 => {
                let end = Record::Ended { end: End::TimedOut };
                let end =
                    Append { end: Some((Status::TimedOut, 9)), ..Append::records(key, index, 9, vec![end]) };
                self.runs[at].last = store.append(end).await.expect("appends").first_event;
                self.runs[at].open = false;
            }
            10 => {
                let next = ExecutionRow {
                    key: store.allocate(),
                    run_id: RunId::generate(),
                    ..self.runs[at].row.clone()
                };
                let end = Record::Continued { run_id: next.run_id, reason: Continuation::AsNew };
                let end = Append {
                    end: Some((Status::ContinuedAsNew, 9)),
                    successor: Some(Box::new(birth(&next, Some(key)))),
                    ..Append::records(key, index, 9, vec![end])
                };
                let last = store.append(end).await.expect("appends").first_event;
                (self.runs[at].last, self.runs[at].open) = (last, false);
                self.born(next, last + 1);
            }
            _ => {
                let step = Append::records(key, index, 9, vec![Record::Resumed]);
                self.runs[at].last = store.append(step).await.expect("appends").first_event;
                self.runs[at].records += 1;
            }
        }
    }

    /// Whether nobody waits for the end of a run of this tree.
    fn is_left(&self, row: &ExecutionRow) -> bool {
        match &row.parent {
            None => false,
            Some(parent) if parent.close == ParentClose::Abandon => true,
            Some(parent) => {
                let above = self.runs.iter().find(|run| run.row.key == parent.run).expect("it was there");
                self.is_left(&above.row)
            }
        }
    }

    /// Whether nothing of a scope can come any more.
    fn is_over(&self, scope: &Scope) -> bool {
        let awaited = |row: &ExecutionRow| match &scope.family {
            Family::Execution(id) => row.id == *id,
            Family::Tree(_) => scope.holds(row) && !self.is_left(row),
            Family::Children(parent) => {
                let close = row.parent.as_ref().map(|parent| parent.close);
                row.id == *parent || scope.holds(row) && close != Some(ParentClose::Abandon)
            }
        };
        !self.runs.iter().any(|run| run.open && awaited(&run.row))
    }

    fn scope(&self, random: &mut Random) -> Scope {
        let row = &self.runs[random.below(self.runs.len())].row;
        Scope::of(match random.below(4) {
            0 => Family::Execution(row.id.clone()),
            1 => Family::Children(row.id.clone()),
            _ => Family::Tree(row.root.clone()),
        })
    }
}

#[tokio::test]
async fn followers_hear_of_all_that_is_new_and_of_the_end_when_nothing_can_come_any_more() {
    let stage = Stage::new(1).await;
    let (mut heard, mut ends, mut waits) = (0, 0, 0);
    for seed in 1..=8 {
        let (mut random, mut world) = (Random(seed), World { seed, runs: Vec::new() });
        let mut followers: Vec<(Scope, Following, u64)> = Vec::new();
        for _ in 0..400 {
            world.step(&stage.store, &mut random).await;
            if followers.len() < 12 && random.below(6) == 0 {
                let scope = world.scope(&mut random);
                let following = stage.engine.follow(scope.clone()).await.expect("follows");
                followers.push((scope, following, 0));
            }
            if followers.is_empty() || random.below(2) == 0 {
                continue;
            }
            let at = random.below(followers.len());
            let (scope, following, told) = &mut followers[at];
            let new: HashSet<ExecutionKey> = world
                .runs
                .iter()
                .filter(|run| scope.holds(&run.row) && run.last > *told)
                .map(|run| run.row.key)
                .collect();
            match following.next().now_or_never() {
                Some(news) => match news.expect("reads") {
                    Some(News { upto, runs }) => {
                        assert_eq!(upto, stage.engine.last_event());
                        assert!(*told > 0 || runs.is_none(), "all are looked at first");
                        if let Some(runs) = runs {
                            assert_eq!(runs.into_iter().collect::<HashSet<_>>(), new, "{scope:?}");
                        }
                        *told = upto;
                        heard += 1;
                    }
                    None => {
                        assert!(new.is_empty() && world.is_over(scope), "{scope:?} is not over");
                        followers.swap_remove(at);
                        ends += 1;
                    }
                },
                None => {
                    assert!(*told > 0 && new.is_empty(), "{scope:?} has something new");
                    assert!(!world.is_over(scope), "{scope:?} is over");
                    waits += 1;
                }
            }
        }
    }
    println!("{heard} times something new, {ends} ends, {waits} times nothing");
    assert!(heard > 300 && ends > 30 && waits > 30, "{heard} {ends} {waits}");
}

#[tokio::test]
async fn a_follower_who_lags_behind_too_many_runs_looks_at_all_of_them_and_then_at_what_is_new_again() {
    let stage = Stage::new(1).await;
    let store: &Arc<SqliteStore> = &stage.store;
    let top = row(store, "top");
    store.append(birth(&top, None)).await.expect("appends");
    let scope = Scope::of(Family::Tree(top.id.clone()));
    let mut following = stage.engine.follow(scope).await.expect("follows");
    let all = |news: Option<News>| news.expect("it is not over").runs.is_none();
    assert!(all(following.next().await.expect("reads")));
    let children: Vec<_> = (0..5_000)
        .map(|number| {
            let parent = Parent { id: top.id.clone(), run: top.key, seq: 1, close: ParentClose::Terminate };
            ExecutionRow {
                parent: Some(parent),
                root: top.id.clone(),
                ..row(store, &format!("child-{number}"))
            }
        })
        .collect();
    join_all(children.iter().map(|child| store.append(birth(child, None)))).await;
    assert!(all(following.next().await.expect("reads")));
    let step = |child: &ExecutionRow| store.append(Append::records(child.key, 1, 1, vec![Record::Resumed]));
    join_all(children[..3].iter().map(step)).await;
    let mut runs = following.next().await.expect("reads").and_then(|news| news.runs).expect("some");
    runs.sort();
    assert_eq!(runs, children[..3].iter().map(|child| child.key).collect::<Vec<_>>());
    assert_eq!(following.next().now_or_never().map(|news| news.is_ok()), None, "there is nothing more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_just_being_started_when_its_parent_ends_is_waited_for() {
    let stage = Stage::new(4).await;
    let child = json!({ "op": "child", "workflow": "gated", "id": "late", "close": "cancel" });
    let start = stage.engine.start(stage.request("early", "parent", json!({ "do": [child] })));
    let top = start.await.expect("starts").row.id;
    let at_the_gate = || (stage.play.at_the_gate.load(Ordering::SeqCst) > 0).then_some(());
    stage.until("the child stands at the gate", at_the_gate).await;
    let mut followed = Vec::new();
    for family in [Family::Tree(top.clone()), Family::Children(top.clone())] {
        followed.push(stage.engine.follow(Scope::of(family)).await.expect("follows"));
    }
    stage.signal(&top, "__complete").await;
    stage.until("the parent ends", || (stage.status(&top) == Some(Status::Completed)).then_some(())).await;
    for following in &mut followed {
        // Nothing of the child is there, and still it is not over.
        while let Some(news) = following.next().now_or_never() {
            assert!(news.expect("reads").is_some(), "it is over before the child is there");
        }
    }
    stage.play.gate.send_replace(true);
    for mut following in followed {
        let to_the_end = async { while following.next().await.expect("reads").is_some() {} };
        timeout(LIMIT, to_the_end).await.expect("it is over some time");
        let late = stage.status(&"late".parse().expect("an id"));
        assert_eq!(late, Some(Status::Canceled), "the child was waited for");
    }
}
