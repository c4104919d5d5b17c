//! Whoever follows the events of a set of runs that grows.
//!
//! The store tells of every commit, in order. A step belongs to the groups that its run was found to belong to when it
//! began, or when the group did; so nobody who follows asks for each of its runs, and a commit costs a look at a map. A
//! follower hears which of its runs have something new up to which number, all at once. If it lags behind too many of
//! them, it hears that any may have, and looks at all. What it was told of up to a number is all that there will ever be
//! up to there.
//!
//! A group also knows which of its runs are open and which children are just being started, so that it is known when
//! nothing can come any more.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Engine;
use crate::{
    ExecutionKey,
    history::ParentClose,
    store::{Commits, Committed, ExecutionRow, Family, Scope, Status, Store, StoreError},
};

/// Runs with something new that are remembered for a follower who does not ask.
const REMEMBERED: usize = 4_096;

/// All who follow.
#[derive(Default)]
pub(super) struct Followers(Mutex<State>);

#[derive(Default)]
struct State {
    /// Number of the last event that is committed.
    last: u64,
    /// For groups and followers.
    next_number: u64,
    groups: HashMap<u64, Group>,
    by_scope: HashMap<Scope, u64>,
    /// The groups that a run may belong to, by what hangs together.
    by_family: HashMap<Family, Vec<u64>>,
    /// The groups that an open run belongs to.
    by_run: HashMap<ExecutionKey, Vec<u64>>,
    /// Groups that are looking for their runs.
    looking: usize,
    /// Children that are being started, by the trees and the parents that wait for them.
    births: HashMap<Family, usize>,
}

/// Those who follow the same runs.
struct Group {
    scope: Scope,
    /// Runs that have not ended, the oldest first.
    open: BTreeMap<ExecutionKey, Part>,
    followers: HashMap<u64, Pending>,
    /// How many of them are looking for the runs of before.
    looking: usize,
    /// Runs that ended while somebody did.
    ended: HashSet<ExecutionKey>,
}

/// What a run is to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Its events are told.
    Told,
    /// It may start runs whose events are told.
    Awaited,
}

/// What a follower has not asked for yet.
struct Pending {
    runs: HashSet<ExecutionKey>,
    /// Any run may have something new.
    any: bool,
    wake: Arc<Notify>,
}

impl Pending {
    fn note(&mut self, key: ExecutionKey) {
        if self.any {
            return;
        }
        if self.runs.len() >= REMEMBERED {
            self.runs = HashSet::new();
            self.any = true;
        } else {
            self.runs.insert(key);
        }
    }

    fn is_empty(&self) -> bool {
        !self.any && self.runs.is_empty()
    }
}

/// What a run that has this row is to a scope.
fn part(scope: &Scope, row: &ExecutionRow) -> Option<Part> {
    if scope.holds(row) {
        return Some(Part::Told);
    }
    let is_parent = matches!(&scope.family, Family::Children(parent) if *parent == row.id);
    is_parent.then_some(Part::Awaited)
}

/// Under what a scope finds the runs that begin.
fn families(scope: &Scope) -> Vec<Family> {
    let mut families = vec![scope.family.clone()];
    if let Family::Children(parent) = &scope.family {
        families.push(Family::Execution(parent.clone()));
    }
    families
}

/// Under what a run is found by scopes.
fn families_of(row: &ExecutionRow) -> impl Iterator<Item = Family> {
    let parent = row.parent.as_ref().map(|parent| Family::Children(parent.id.clone()));
    [Family::Execution(row.id.clone()), Family::Tree(row.root.clone())].into_iter().chain(parent)
}

impl Commits for Followers {
    fn committed(&self, last: u64, steps: &mut dyn Iterator<Item = Committed<'_>>) {
        let mut state = self.0.lock();
        state.last = last;
        if !state.groups.is_empty() {
            steps.for_each(|step| state.step(&step));
        }
    }
}

impl State {
    fn step(&mut self, step: &Committed<'_>) {
        if let Some(row) = step.start {
            self.begun(step.key, row);
        }
        if let Some(groups) = self.by_run.get(&step.key) {
            for group in groups {
                let Some(group) = self.groups.get_mut(group) else { continue };
                let part = match step.ended {
                    true => group.open.remove(&step.key),
                    false => group.open.get(&step.key).copied(),
                };
                group.tell(step.key, part, step.ended);
            }
        }
        if step.ended {
            self.by_run.remove(&step.key);
            if self.looking > 0 {
                for group in self.groups.values_mut().filter(|group| group.looking > 0) {
                    group.ended.insert(step.key);
                }
            }
        }
    }

    /// A run begins: it belongs to groups from here on.
    fn begun(&mut self, key: ExecutionKey, row: &ExecutionRow) {
        for family in families_of(row) {
            for number in self.by_family.get(&family).into_iter().flatten() {
                let Some(group) = self.groups.get_mut(number) else { continue };
                if let Some(part) = part(&group.scope, row) {
                    join(&mut self.by_run, *number, group, key, part);
                }
            }
        }
    }

    /// Wakes those who wait for the births of a family.
    fn wake(&self, family: &Family) {
        for number in self.by_family.get(family).into_iter().flatten() {
            let followers = self.groups.get(number).into_iter().flat_map(|group| group.followers.values());
            followers.for_each(|pending| pending.wake.notify_one());
        }
    }
}

fn join(
    by_run: &mut HashMap<ExecutionKey, Vec<u64>>,
    number: u64,
    group: &mut Group,
    key: ExecutionKey,
    part: Part,
) {
    if group.open.insert(key, part).is_none() {
        by_run.entry(key).or_default().push(number);
    }
}

impl Group {
    /// A run of it has something new.
    fn tell(&mut self, key: ExecutionKey, part: Option<Part>, ended: bool) {
        for pending in self.followers.values_mut() {
            if part == Some(Part::Told) {
                pending.note(key);
            }
            if part == Some(Part::Told) || ended {
                pending.wake.notify_one();
            }
        }
    }
}

impl Followers {
    /// From here on nothing is committed of which they do not hear. `last` is the number of the last event before.
    pub(super) fn begin(&self, last: u64) {
        let mut state = self.0.lock();
        state.last = state.last.max(last);
    }

    /// Number of the last event that is committed.
    fn last(&self) -> u64 {
        self.0.lock().last
    }

    fn subscribe(&self, scope: &Scope) -> (u64, u64, Arc<Notify>) {
        let mut state = self.0.lock();
        let state = &mut *state;
        state.next_number += 2;
        let (number, follower) = (state.next_number, state.next_number + 1);
        let number = *state.by_scope.entry(scope.clone()).or_insert_with(|| {
            for family in families(scope) {
                state.by_family.entry(family).or_default().push(number);
            }
            number
        });
        let group = state.groups.entry(number).or_insert_with(|| Group {
            scope: scope.clone(),
            open: BTreeMap::new(),
            followers: HashMap::new(),
            looking: 0,
            ended: HashSet::new(),
        });
        let wake = Arc::new(Notify::new());
        group
            .followers
            .insert(follower, Pending { runs: HashSet::new(), any: true, wake: Arc::clone(&wake) });
        group.looking += 1;
        state.looking += 1;
        (number, follower, wake)
    }

    /// What was found of runs that had begun before the group did.
    fn found(&self, number: u64, runs: Vec<(ExecutionKey, Part)>) {
        let mut state = self.0.lock();
        let state = &mut *state;
        state.looking -= 1;
        let Some(group) = state.groups.get_mut(&number) else { return };
        group.looking -= 1;
        for (key, part) in runs {
            // It may have ended since it was looked for.
            if !group.ended.contains(&key) {
                join(&mut state.by_run, number, group, key, part);
            }
        }
        if group.looking == 0 {
            group.ended = HashSet::new();
        }
    }

    fn unsubscribe(&self, number: u64, follower: u64) {
        let mut state = self.0.lock();
        let state = &mut *state;
        let Some(group) = state.groups.get_mut(&number) else { return };
        group.followers.remove(&follower);
        if !group.followers.is_empty() {
            return;
        }
        let Some(group) = state.groups.remove(&number) else { return };
        state.by_scope.remove(&group.scope);
        let leave = |numbers: &mut Vec<u64>| {
            numbers.retain(|other| *other != number);
            numbers.is_empty()
        };
        for family in families(&group.scope) {
            if state.by_family.get_mut(&family).is_some_and(leave) {
                state.by_family.remove(&family);
            }
        }
        for key in group.open.keys() {
            if state.by_run.get_mut(key).is_some_and(leave) {
                state.by_run.remove(key);
            }
        }
    }

    /// A child is about to be started by this execution: whoever follows waits for it although nothing of it is there.
    pub(super) fn expect_child(self: &Arc<Self>, parent: &ExecutionRow) -> Unborn {
        let families = [Family::Tree(parent.root.clone()), Family::Children(parent.id.clone())];
        let mut state = self.0.lock();
        for family in &families {
            *state.births.entry(family.clone()).or_default() += 1;
        }
        Unborn { followers: Arc::clone(self), families }
    }
}

/// A child that is being started; dropped when it is there, or is not to be.
pub(super) struct Unborn {
    followers: Arc<Followers>,
    families: [Family; 2],
}

impl Drop for Unborn {
    fn drop(&mut self) {
        let mut state = self.followers.0.lock();
        for family in &self.families {
            let Some(count) = state.births.get_mut(family) else { continue };
            *count -= 1;
            if *count == 0 {
                state.births.remove(family);
                state.wake(family);
            }
        }
    }
}

/// Follows the events of a scope, in their order and from any number on.
pub struct Following {
    followers: Arc<Followers>,
    store: Arc<dyn Store>,
    scope: Scope,
    group: u64,
    follower: u64,
    wake: Arc<Notify>,
    /// An open run without which the end does not come.
    awaited: Option<ExecutionKey>,
    /// Open runs for whose end nobody waits.
    left: HashSet<ExecutionKey>,
}

/// Where something is new, all that is committed up to a number included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Nothing comes later that has this number or a smaller one.
    pub upto: u64,
    /// The runs with something new since the news before; `None`: any may have.
    pub runs: Option<Vec<ExecutionKey>>,
}

/// What there is for a follower.
enum Look {
    News(News),
    Nothing,
    Over,
    /// Whether this open run is waited for is not known.
    Unknown(ExecutionKey),
}

impl Following {
    /// Waits until there is something new: any run may have, the first time. `None` when nothing comes any more. It may be
    /// given up and asked for again.
    pub async fn next(&mut self) -> Result<Option<News>, StoreError> {
        loop {
            match self.look() {
                Look::News(news) => return Ok(Some(news)),
                Look::Over => return Ok(None),
                Look::Unknown(key) if self.is_left(key)? => drop(self.left.insert(key)),
                Look::Unknown(key) => self.awaited = Some(key),
                // What comes between the look and the wait is kept for it.
                Look::Nothing => self.wake.notified().await,
            }
        }
    }

    /// All under one lock, so that the number, the runs and the end are of the same moment.
    fn look(&self) -> Look {
        let mut state = self.followers.0.lock();
        let (last, is_born) = (state.last, state.births.contains_key(&self.scope.family));
        let Some(group) = state.groups.get_mut(&self.group) else { return Look::Over };
        let Some(pending) = group.followers.get_mut(&self.follower) else { return Look::Over };
        if !pending.is_empty() {
            let runs: Vec<_> = std::mem::take(&mut pending.runs).into_iter().collect();
            let any = std::mem::take(&mut pending.any);
            return Look::News(News { upto: last, runs: (!any).then_some(runs) });
        }
        if is_born || self.awaited.is_some_and(|key| group.open.contains_key(&key)) {
            return Look::Nothing;
        }
        match group.open.keys().find(|key| !self.left.contains(key)) {
            Some(key) => Look::Unknown(*key),
            None => Look::Over,
        }
    }

    /// Whether nobody waits for the end of an open run: it was abandoned, or is of one that was, and goes on by itself.
    fn is_left(&self, key: ExecutionKey) -> Result<bool, StoreError> {
        let abandoned =
            |row: &ExecutionRow| row.parent.as_ref().is_some_and(|its| its.close == ParentClose::Abandon);
        let Some(mut row) = self.store.row(key)? else { return Ok(true) };
        match &self.scope.family {
            Family::Execution(_) => Ok(false),
            Family::Children(parent) => Ok(row.id != *parent && abandoned(&row)),
            Family::Tree(root) => loop {
                if row.id == *root {
                    return Ok(false);
                }
                let Some(parent) = row.parent.as_ref().filter(|_| !abandoned(&row)) else { return Ok(true) };
                let above = match self.store.row(parent.run)? {
                    Some(above) => Some(above),
                    // That run was removed; the execution may have others.
                    None => self.store.find(&parent.id)?,
                };
                match above {
                    Some(above) => row = above,
                    None => return Ok(true),
                }
            },
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.followers.unsubscribe(self.group, self.follower);
    }
}

impl Engine {
    /// Number of the last event that is committed. Whoever reads afterwards sees all events up to it.
    pub fn last_event(&self) -> u64 {
        self.followers.last()
    }

    /// Follows a set of runs, also those that will belong to it. It is over when none of them can have events any more:
    ///
    /// * an execution: when it has ended, with all runs that follow one another;
    /// * a tree: when the execution at its top has ended, and all below it but those that were abandoned, which go on by
    ///   themselves, with what they start;
    /// * children: when their parent has ended, and all of them but those that were abandoned.
    ///
    /// What an abandoned one does until then is told as well.
    pub async fn follow(&self, scope: Scope) -> Result<Following, StoreError> {
        let (group, follower, wake) = self.followers.subscribe(&scope);
        let following = Following {
            followers: Arc::clone(&self.followers),
            store: Arc::clone(&self.store),
            scope,
            group,
            follower,
            wake,
            awaited: None,
            left: HashSet::new(),
        };
        let mut looking = Looking { followers: Arc::clone(&self.followers), group, runs: Vec::new() };
        let (store, scope) = (Arc::clone(&self.store), following.scope.clone());
        let look = tokio::task::spawn_blocking(move || looking.look(&*store, &scope));
        look.await.map_err(|error| StoreError::Failed(format!("the look for runs stopped: {error}")))??;
        Ok(following)
    }
}

/// Somebody looks for the runs of a group. What was found is there when this is dropped.
struct Looking {
    followers: Arc<Followers>,
    group: u64,
    runs: Vec<(ExecutionKey, Part)>,
}

impl Looking {
    fn look(&mut self, store: &dyn Store, scope: &Scope) -> Result<(), StoreError> {
        self.runs = store.open_runs(scope)?.into_iter().map(|key| (key, Part::Told)).collect();
        if let Family::Children(parent) = &scope.family {
            let running = store.find(parent)?.filter(|row| row.status == Status::Running);
            self.runs.extend(running.map(|row| (row.key, Part::Awaited)));
        }
        Ok(())
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.followers.found(self.group, std::mem::take(&mut self.runs));
    }
}
