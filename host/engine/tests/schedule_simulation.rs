//! Schedules in a world with a clock, a store and an engine of its own, all of which go wrong.
//!
//! Each history has random times, policies, pauses, triggers, backfills and crashes, the latter before or after any
//! write and any start. A failure prints the seed of its history; `AIRLOCK_SEED=N` runs that one alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    thread,
};

use airlock_engine::{
    Extensions, Json, OrganizationId, Principal, UserId, WorkspaceId,
    records::{Change, Records, RecordsError},
    schedule::{
        BackfillRequest, Definition, Executions, NewSchedule, Outcome, Overlap, OwnExecution, Plan, Refusal,
        ScheduleStart, ScheduleView, Scheduler, Spec, StartFailed,
    },
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::{
    executor::block_on,
    future::{BoxFuture, poll_fn},
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;

const ID: &str = "sim";

/// An execution of the world.
#[derive(Debug, Clone)]
struct Execution {
    ends_at: u64,
    outcome: Outcome,
    by_hand: bool,
    /// Somebody else took the id before its time.
    strangers: bool,
    /// Wait for its end.
    wakers: Vec<Waker>,
}

/// Everything outside the scheduler.
struct World {
    now: AtomicU64,
    inner: Mutex<Inner>,
    spec: Spec,
    overlap: Overlap,
    /// No execution may ever start beside another.
    alone: bool,
    /// Longest delay with which a time that need not wait may start, in ms.
    window: u64,
}

struct Inner {
    random: StdRng,
    records: BTreeMap<String, Vec<u8>>,
    executions: HashMap<String, Execution>,
    /// The process dies at this many operations from now.
    crash_in: Option<u32>,
    dead: bool,
    /// How likely an operation fails and may be tried again.
    trouble: f64,
    refusals: f64,
    longest: u64,
    /// Starts that met a stranger's execution.
    turned_away: u64,
    last_scheduled: i64,
    delayed: bool,
    /// The clock was put back.
    backwards: bool,
}

/// What becomes of an operation.
enum Fate {
    Works,
    FailsBefore,
    FailsAfter,
}

impl Inner {
    fn fate(&mut self) -> Fate {
        if self.dead {
            return Fate::FailsBefore;
        }
        if let Some(left) = &mut self.crash_in {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.dead = true;
                self.delayed = true;
                return if self.random.random_bool(0.5) { Fate::FailsBefore } else { Fate::FailsAfter };
            }
        }
        if self.random.random_bool(self.trouble) {
            self.delayed = true;
            return if self.random.random_bool(0.5) { Fate::FailsBefore } else { Fate::FailsAfter };
        }
        Fate::Works
    }
}

impl World {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn running(&self, inner: &Inner) -> usize {
        let own = inner.executions.values().filter(|execution| !execution.strangers);
        own.filter(|execution| execution.ends_at > self.now()).count()
    }

    /// Tells those who wait for the end of an execution.
    fn tell(&self) {
        let now = self.now();
        let mut inner = self.inner.lock();
        let ended = inner.executions.values_mut().filter(|execution| execution.ends_at <= now);
        let wakers: Vec<Waker> = ended.flat_map(|execution| execution.wakers.drain(..)).collect();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The time in an execution's id, and whether somebody asked for it.
    fn time_of(id: &str) -> (i64, bool) {
        let rest =
            id.strip_prefix(ID).and_then(|rest| rest.strip_prefix('-')).expect("an id of the schedule");
        let (text, suffix) = rest.split_at("2026-11-21T08-00-00Z".len());
        let (day, clock) = text.split_once('T').expect("a time");
        let text = format!("{day}T{}", clock.replace('-', ":"));
        (text.parse::<DateTime<Utc>>().expect("a time").timestamp(), !suffix.is_empty())
    }

    fn begin(&self, inner: &mut Inner, id: &str) {
        if inner.executions.contains_key(id) {
            return;
        }
        let (time, by_hand) = Self::time_of(id);
        let now = self.now();
        if !by_hand {
            // One that waited was due before the clock was put back.
            assert!(now >= self.spec.due(ID, time) || inner.backwards, "{id} starts early, at {now}");
            assert!(time > inner.last_scheduled, "{id} starts after {}", inner.last_scheduled);
            inner.last_scheduled = time;
            if matches!(self.overlap, Overlap::Skip | Overlap::AllowAll) {
                let late = now.saturating_sub(self.spec.due(ID, time));
                assert!(late <= self.window, "{id} starts {late} ms late");
            }
        }
        if self.alone {
            assert_eq!(self.running(inner), 0, "{id} starts beside another");
        }
        let length = inner.random.random_range(0..=inner.longest);
        let outcome = match inner.random.random_range(0..4) {
            0 => Outcome::Failed,
            _ => Outcome::Completed,
        };
        let execution =
            Execution { ends_at: now + length, outcome, by_hand, strangers: false, wakers: Vec::new() };
        inner.executions.insert(id.into(), execution);
    }

    /// Somebody starts an execution of their own with the id of a time to come; it lasts long.
    fn squat(&self, time: i64) {
        let at = DateTime::<Utc>::from_timestamp(time, 0).expect("a time");
        let id = format!("{ID}-{}", at.format("%Y-%m-%dT%H-%M-%SZ"));
        let ends_at = self.now() + 50_000;
        let (outcome, wakers) = (Outcome::Failed, Vec::new());
        let execution = Execution { ends_at, outcome, by_hand: false, strangers: true, wakers };
        self.inner.lock().executions.entry(id).or_insert(execution);
    }

    /// One that the schedule has started.
    fn own<'a>(inner: &'a mut Inner, which: &OwnExecution) -> Option<&'a mut Execution> {
        assert_eq!((which.schedule_id.as_str(), &which.owner), (ID, &principal()));
        inner.executions.get_mut(which.execution_id.as_str()).filter(|execution| !execution.strangers)
    }

    fn stop(&self, which: &OwnExecution, grace: u64) {
        let mut inner = self.inner.lock();
        if inner.dead {
            return;
        }
        let ends_at = self.now() + if grace == 0 { 0 } else { inner.random.random_range(0..=grace) };
        if let Some(execution) = Self::own(&mut inner, which)
            && execution.ends_at > ends_at
        {
            execution.ends_at = ends_at;
            execution.outcome = Outcome::Stopped;
        }
    }
}

impl Records for World {
    fn get(&self, _: &str, key: &str) -> Result<Option<Vec<u8>>, RecordsError> {
        Ok(self.inner.lock().records.get(key).cloned())
    }

    fn scan(
        &self,
        _: &str,
        _: &str,
        _: Option<&str>,
        _: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, RecordsError> {
        Ok(self.inner.lock().records.clone().into_iter().collect())
    }

    fn write(&self, changes: &[Change]) -> Result<(), RecordsError> {
        let mut inner = self.inner.lock();
        let fate = inner.fate();
        if !matches!(fate, Fate::FailsBefore) {
            for change in changes {
                match change.clone() {
                    Change::Put { key, value, .. } | Change::Insert { key, value, .. } => {
                        inner.records.insert(key, value);
                    }
                    Change::Delete { key, .. } => {
                        inner.records.remove(&key);
                    }
                }
            }
        }
        match fate {
            Fate::Works => Ok(()),
            _ => Err(RecordsError::Store("trouble".into())),
        }
    }
}

/// The world as the scheduler's engine.
struct Engine(Arc<World>);

#[async_trait]
impl Executions for Engine {
    async fn check(&self, _: &str, _: &Json, _: &Extensions) -> Result<(), Refusal> {
        Ok(())
    }

    async fn may_start(&self, start: &ScheduleStart) -> Result<(), StartFailed> {
        let mut inner = self.0.inner.lock();
        let refusals = inner.refusals;
        if inner.dead {
            return Err(StartFailed::ForNow("trouble".into()));
        }
        if inner.executions.get(start.execution_id.as_str()).is_some_and(|execution| execution.strangers) {
            inner.turned_away += 1;
            return Err(StartFailed::ForGood("the id is somebody else's".into()));
        }
        match inner.random.random_bool(refusals) {
            true => Err(StartFailed::ForGood("the workflow is gone".into())),
            false => Ok(()),
        }
    }

    async fn start(&self, start: ScheduleStart) -> Result<(), StartFailed> {
        let mut inner = self.0.inner.lock();
        let id = start.execution_id.as_str();
        if !inner.dead && !inner.executions.contains_key(id) {
            let refusals = inner.refusals;
            if inner.random.random_bool(refusals) {
                return Err(StartFailed::ForGood("the workflow is gone".into()));
            }
        }
        if !inner.dead && inner.executions.get(id).is_some_and(|execution| execution.strangers) {
            inner.turned_away += 1;
            return Err(StartFailed::ForGood("the id is somebody else's".into()));
        }
        let fate = inner.fate();
        if !matches!(fate, Fate::FailsBefore) {
            self.0.begin(&mut inner, id);
        }
        match fate {
            Fate::Works => Ok(()),
            _ => Err(StartFailed::ForNow("trouble".into())),
        }
    }

    fn has_started(&self, which: &OwnExecution) -> Result<bool, String> {
        Ok(World::own(&mut self.0.inner.lock(), which).is_some())
    }

    async fn cancel(&self, which: &OwnExecution, _: String) {
        self.0.stop(which, 5_000);
    }

    async fn terminate(&self, which: &OwnExecution, _: String) {
        self.0.stop(which, 0);
    }

    fn ended(&self, which: &OwnExecution) -> BoxFuture<'static, Option<Outcome>> {
        let (world, which) = (Arc::clone(&self.0), which.clone());
        Box::pin(poll_fn(move |context| {
            let mut inner = world.inner.lock();
            let Some(execution) = World::own(&mut inner, &which) else { return Poll::Ready(None) };
            if execution.ends_at <= world.now() {
                return Poll::Ready(Some(execution.outcome));
            }
            execution.wakers.push(context.waker().clone());
            Poll::Pending
        }))
    }
}

fn principal() -> Principal {
    Principal {
        user: UserId::new("ada"),
        workspace: WorkspaceId::new("w"),
        organization: OrganizationId::new("o"),
    }
}

/// One history, and what the person at the schedule knows of it.
struct History {
    seed: u64,
    random: StdRng,
    world: Arc<World>,
    scheduler: Arc<Scheduler>,
    every: i64,
    created: i64,
    /// Whole seconds at which it was paused and resumed; the last pair may be open.
    pauses: Vec<(i64, Option<i64>)>,
    /// Runs asked for by hand: certainly, and possibly.
    asked: (u64, u64),
    /// It was asked to resume just now, and may have done so.
    resuming: bool,
    downtime: bool,
    backwards: bool,
    /// It is not known when a pause began or ended.
    ambiguous: bool,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let every = random.random_range(1..=20i64);
        let overlap = *Overlap::ALL.choose(&mut random).expect("policies");
        let window = *[0u64, 12, 60, 3_600].choose(&mut random).expect("windows");
        let mut definition = json!({
            "input": { "n": 1 },
            "intervals": [{ "every": format!("PT{every}S"), "offset": format!("PT{}S", random.random_range(0..every)) }],
            "policy": {
                "overlap": overlap.wire(), "catchup_window_seconds": window,
                "pause_on_failure": random.random_bool(0.2),
            },
        });
        if random.random_bool(0.4) {
            definition["jitter"] = "PT30S".into();
        }
        if random.random_bool(0.2) {
            definition["max_executions"] = random.random_range(1..10).into();
        }
        let definition = Definition::read(&serde_json::from_str(&definition.to_string()).expect("an object"))
            .expect("is read");
        let spec = Spec::new(&definition).expect("is valid");
        let begin = 1_800_000_000_000 + random.random_range(0..60_000);
        let inner = Inner {
            random: StdRng::seed_from_u64(seed ^ 0x5eed),
            records: BTreeMap::new(),
            executions: HashMap::new(),
            crash_in: None,
            dead: false,
            trouble: 0.0,
            refusals: if random.random_bool(0.2) { 0.2 } else { 0.0 },
            longest: random.random_range(0..=3 * every as u64 * 1000),
            turned_away: 0,
            last_scheduled: 0,
            delayed: false,
            backwards: false,
        };
        let world = Arc::new(World {
            now: AtomicU64::new(begin),
            inner: Mutex::new(inner),
            spec,
            overlap,
            alone: overlap != Overlap::AllowAll,
            window: window.max(10) * 1000,
        });
        let scheduler = open(&world);
        let new = NewSchedule { id: Some(ID.into()), workflow: "w".into(), owner: principal(), definition };
        block_on(scheduler.create(new)).expect("is made");
        world.inner.lock().trouble = if random.random_bool(0.3) { 0.05 } else { 0.0 };
        Self {
            seed,
            random,
            world,
            scheduler,
            every,
            created: begin as i64 / 1000,
            pauses: Vec::new(),
            asked: (0, 0),
            resuming: false,
            downtime: false,
            backwards: false,
            ambiguous: false,
        }
    }

    fn view(&self) -> ScheduleView {
        block_on(self.scheduler.get(&principal().workspace, ID)).expect("is there")
    }

    fn now_s(&self) -> i64 {
        self.world.now() as i64 / 1000
    }

    /// What the schedule says of itself: whether it is paused, which may have become so on its own.
    fn look(&mut self, reopened: bool) {
        let paused = self.view().state.paused;
        let known = self.pauses.last().is_some_and(|(_, end)| end.is_none());
        let now = self.now_s();
        match (known, paused) {
            (false, true) => self.pauses.push((now, None)),
            // Paused in memory and never saved: it was not, then.
            (true, false) if reopened && !self.resuming => drop(self.pauses.pop()),
            (true, false) => self.pauses.last_mut().expect("a pause").1 = Some(now),
            _ => {}
        }
    }

    /// After a crash: the process starts again, now or after a while.
    fn revive_if_dead(&mut self) {
        while self.world.inner.lock().dead {
            {
                let mut inner = self.world.inner.lock();
                inner.dead = false;
                inner.crash_in = None;
            }
            self.scheduler = open(&self.world);
            self.look(true);
            if self.random.random_bool(0.5) {
                self.downtime = true;
                let away = *[1_000u64, 15_000, 100_000, 4_000_000].choose(&mut self.random).expect("lengths");
                let away = if self.every < 5 { away.min(100_000) } else { away };
                self.world.now.fetch_add(self.random.random_range(0..away), Ordering::SeqCst);
            }
        }
    }

    /// Lets the scheduler work until there is nothing to do at this moment, and returns when it wants to work next.
    fn settle(&mut self) -> u64 {
        loop {
            let before = self.view().state;
            self.world.tell();
            let wake = block_on(self.scheduler.turn());
            self.revive_if_dead();
            self.look(false);
            if wake.is_none_or(|at| at > self.world.now()) && self.view().state == before {
                return wake.unwrap_or(u64::MAX);
            }
        }
    }

    /// Lets time pass, stopping wherever something happens.
    fn advance(&mut self, by: u64) {
        let target = self.world.now() + by;
        loop {
            let wake = self.settle();
            let now = self.world.now();
            if now >= target {
                return;
            }
            let inner = self.world.inner.lock();
            let ends =
                inner.executions.values().map(|execution| execution.ends_at).filter(|&at| at > now).min();
            drop(inner);
            let next = wake.min(ends.unwrap_or(u64::MAX)).min(target).max(now + 1);
            self.world.now.store(next, Ordering::SeqCst);
        }
    }

    fn step(&mut self) {
        let workspace = principal().workspace;
        if self.random.random_bool(0.15) {
            self.world.inner.lock().crash_in = Some(self.random.random_range(1..8));
        }
        match self.random.random_range(0..20) {
            0 | 1 => {
                let done = block_on(self.scheduler.pause(&workspace, ID, Some("by hand".into())));
                self.ambiguous |= done.is_err();
            }
            2..=4 => {
                self.resuming = true;
                let done = block_on(self.scheduler.resume(&workspace, ID, None));
                self.ambiguous |= done.is_err();
            }
            5 | 6 => {
                let overlap = self.random.random_bool(0.3).then(|| {
                    // Not all at once, which is what other histories are checked for.
                    Overlap::ALL[self.random.random_range(0..5)]
                });
                self.asked.1 += 1;
                if block_on(self.scheduler.trigger(&workspace, ID, overlap)).is_ok() {
                    self.asked.0 += 1;
                }
            }
            7 => {
                let last = self.now_s() - self.random.random_range(0..30);
                let first = last - self.random.random_range(0..60);
                let times = self.world.spec.upcoming(first - 1, 100);
                let count = times.into_iter().filter(|&time| time <= last).count() as u64;
                let overlap = Some(Overlap::ALL[self.random.random_range(0..5)]);
                let request = BackfillRequest { first, last, overlap };
                self.asked.1 += count;
                if block_on(self.scheduler.backfill(&workspace, ID, request)).is_ok() {
                    self.asked.0 += count;
                }
            }
            8 => {
                let changes = serde_json::from_str(r#"{"input":{"n":2}}"#).expect("an object");
                let _ = block_on(self.scheduler.update(&workspace, ID, &changes));
            }
            9 if self.random.random_bool(0.3) => {
                self.backwards = true;
                self.world.inner.lock().backwards = true;
                let now = self.world.now();
                // What has ended does not run again.
                for execution in
                    self.world.inner.lock().executions.values_mut().filter(|it| it.ends_at <= now)
                {
                    execution.ends_at = 0;
                }
                self.world.now.fetch_sub(self.random.random_range(0..20_000), Ordering::SeqCst);
            }
            10 => {
                let ahead = self.random.random_range(0..60);
                if let Some(&time) = self.world.spec.upcoming(self.now_s() + ahead, 1).first() {
                    self.world.squat(time);
                }
            }
            _ => {
                let length = self.every as u64 * self.random.random_range(100..4_000);
                self.advance(length);
            }
        }
        self.revive_if_dead();
        self.look(false);
        self.resuming = false;
    }

    fn check(mut self) -> [u64; 6] {
        // Troubles end, and everything comes to rest.
        {
            let mut inner = self.world.inner.lock();
            inner.trouble = 0.0;
            inner.crash_in = None;
        }
        let _ = block_on(self.scheduler.resume(&principal().workspace, ID, None));
        self.revive_if_dead();
        self.look(false);
        self.advance(200_000);
        // Stop before a time, when all before it are decided; executions end meanwhile.
        let _ = block_on(self.scheduler.pause(&principal().workspace, ID, None));
        self.look(false);
        let end = self.pauses.last().map_or(0, |(start, _)| *start);
        self.advance(10_000_000);
        let view = self.view();
        let (state, seed) = (&view.state, self.seed);
        assert_eq!((view.waiting, state.running.len()), (0, 0), "nothing waits and nothing runs");
        let mut inner = self.world.inner.lock();
        if !inner.delayed {
            let failed = state.scheduled.failed;
            assert!(failed >= inner.turned_away, "{failed} failed, {} were turned away", inner.turned_away);
        }
        assert!(inner.turned_away == 0 || state.last_failure.is_some() || inner.delayed, "it is shown");
        inner.executions.retain(|_, execution| !execution.strangers);
        for recent in &state.recent {
            let id = recent.execution_id.as_str();
            assert!(inner.executions.contains_key(id), "{id} counts as started");
        }
        let by_hand = inner.executions.values().filter(|execution| execution.by_hand).count() as u64;
        let scheduled = inner.executions.len() as u64 - by_hand;
        assert_eq!(state.scheduled.started, scheduled, "what was started is known, and was started once");
        assert_eq!(state.by_hand.started, by_hand, "what was asked for and started is known");
        let counted = |counters: &airlock_engine::schedule::Counters| {
            counters.started + counters.skipped + counters.missed + counters.failed
        };
        let asked = counted(&state.by_hand);
        assert!((self.asked.0..=self.asked.1).contains(&asked), "{asked} of {:?} by hand", self.asked);
        if let Some(limit) = self.world.spec.max_executions() {
            assert!(scheduled <= limit, "{scheduled} of at most {limit} started");
        } else if !self.backwards && !self.ambiguous {
            let mut expected = 0u64;
            let mut time = self.created;
            while let airlock_engine::schedule::After::At(next) = self.world.spec.after(time) {
                if next > end {
                    break;
                }
                let paused = self
                    .pauses
                    .iter()
                    .any(|(start, stop)| next > *start && stop.is_none_or(|stop| next <= stop));
                expected += u64::from(!paused);
                time = next;
            }
            assert_eq!(
                counted(&state.scheduled),
                expected,
                "seed {seed}: every time is accounted for; every {} s from {}, paused {:?}: {:?}",
                self.every,
                self.created,
                self.pauses,
                state.scheduled
            );
        }
        if !inner.delayed && !self.downtime && self.world.overlap != Overlap::BufferAll {
            assert_eq!(
                state.scheduled.missed, 0,
                "seed {seed}: nothing is missed when nothing goes wrong: {state:?}"
            );
        }
        let counters = state.scheduled;
        [
            counters.started,
            counters.skipped,
            counters.missed,
            counters.failed,
            by_hand,
            u64::from(self.downtime),
        ]
    }
}

fn open(world: &Arc<World>) -> Arc<Scheduler> {
    let clock = Arc::clone(world);
    let engine = Arc::new(Engine(Arc::clone(world)));
    Scheduler::with_clock(Arc::clone(world) as _, engine, Arc::new(move || clock.now())).expect("opens")
}

fn run(seed: u64) -> [u64; 6] {
    let mut history = History::new(seed);
    for _ in 0..history.random.random_range(3..12) {
        history.step();
    }
    history.check()
}

#[test]
fn every_time_is_started_once_or_accounted_for_whatever_goes_wrong() {
    if let Ok(seed) = std::env::var("AIRLOCK_SEED") {
        run(seed.parse().expect("a number"));
        return;
    }
    let base: u64 = rand::random::<u32>().into();
    let histories = 20_000u64;
    let next = AtomicU64::new(base);
    let totals = thread::scope(|scope| {
        let workers: Vec<_> = (0..thread::available_parallelism().map_or(2, usize::from))
            .map(|_| {
                scope.spawn(|| {
                    let mut totals = [0u64; 6];
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= base + histories {
                            return totals;
                        }
                        let found = std::panic::catch_unwind(|| run(seed));
                        let found =
                            found.unwrap_or_else(|_| panic!("the history with AIRLOCK_SEED={seed} failed"));
                        totals.iter_mut().zip(found).for_each(|(total, found)| *total += found);
                    }
                })
            })
            .collect();
        let mut totals = [0u64; 6];
        for worker in workers {
            let found = worker.join().expect("every history is right");
            totals.iter_mut().zip(found).for_each(|(total, found)| *total += found);
        }
        totals
    });
    let [started, skipped, missed, failed, by_hand, downtimes] = totals;
    println!(
        "{histories} histories from seed {base}: {started} started, {skipped} skipped, {missed} missed, {failed} failed, \
         {by_hand} by hand, {downtimes} with downtime"
    );
    assert!(totals.iter().all(|&total| total > 1_000), "every path was taken: {totals:?}");
}

#[test]
fn a_pause_and_a_resume_go_on_from_now_if_the_clock_was_ahead_and_repeat_nothing_of_the_last_minute() {
    let definition = json!({ "input": null, "intervals": [{ "every": "PT10S" }] });
    let definition = Definition::read(&serde_json::from_str(&definition.to_string()).expect("an object"))
        .expect("is a definition");
    let spec = Spec::new(&definition).expect("is valid");
    let began = 1_900_000_000_000;
    for ahead_s in [1_i64, 30, 60, 61, 600, 3_000, 86_400, 31_536_000] {
        let mut plan = Plan::new(ID.into(), spec.clone(), began);
        // Times are decided while the clock is ahead, and then it is put right.
        plan.pause(None, began + ahead_s as u64 * 1_000);
        plan.resume(None, began);
        let next = plan.future(began, 1)[0] - (began / 1_000) as i64;
        let expected = if ahead_s > 60 { 1..=10 } else { ahead_s..=ahead_s + 10 };
        assert!(expected.contains(&next), "{ahead_s} s ahead: the next one comes in {next} s");
    }
}
