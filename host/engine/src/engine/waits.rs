//! Waiting for people in the middle of an attempt: its clock stands still, and it gives up its place among those that run.
//!
//! Promises: the time that people take counts for no limit of the attempt, and the line for a place counts for the limit of
//! the whole activity; an attempt that waits keeps nobody else from running, as long as not too many wait at once. It knows
//! nothing of what is waited for.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::places::{self, Pool, Share};

/// The time that an attempt has had.
pub(super) struct Stopwatch {
    times: Mutex<Times>,
    /// It was stopped, or runs again. Each attempt has two of these, so they are small.
    changed: Notify,
}

struct Times {
    began: Instant,
    /// Who waits for people now.
    waiting: usize,
    /// Since when.
    since: Instant,
    /// The waits before.
    stood: Duration,
}

impl Times {
    fn new(now: Instant) -> Self {
        Self { began: now, waiting: 0, since: now, stood: Duration::ZERO }
    }

    fn stood(&self, now: Instant) -> Duration {
        let rest = if self.waiting > 0 { now.duration_since(self.since) } else { Duration::ZERO };
        self.stood + rest
    }

    fn passed(&self, now: Instant) -> Duration {
        now.duration_since(self.began).saturating_sub(self.stood(now))
    }

    /// What is left until so much time has passed; none while it stands still.
    fn rest(&self, limit: Duration, now: Instant) -> Option<Duration> {
        (self.waiting == 0).then(|| limit.saturating_sub(self.passed(now)))
    }

    /// One more waits. Whether it is the first.
    fn stop(&mut self, now: Instant) -> bool {
        if self.waiting == 0 {
            self.since = now;
        }
        self.waiting += 1;
        self.waiting == 1
    }

    /// One waits no more. Whether it was the last.
    fn go_on(&mut self, now: Instant) -> bool {
        self.stood = if self.waiting == 1 { self.stood(now) } else { self.stood };
        self.waiting -= 1;
        self.waiting == 0
    }
}

impl Stopwatch {
    fn new() -> Self {
        Self { times: Mutex::new(Times::new(Instant::now())), changed: Notify::new() }
    }

    /// From now on. Nobody has stopped it yet.
    fn begin_anew(&self) {
        *self.times.lock() = Times::new(Instant::now());
    }

    /// The time since it was made, without that in which it stood still.
    pub(super) fn passed(&self) -> Duration {
        self.times.lock().passed(Instant::now())
    }

    /// The time in which it stood still.
    pub(super) fn stood(&self) -> Duration {
        self.times.lock().stood(Instant::now())
    }

    /// Resolves when so much time has passed.
    pub(super) async fn reaches(&self, limit: Duration) {
        loop {
            // Heard from before the look at the times, so that no change falls between.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let rest = self.times.lock().rest(limit, Instant::now());
            match rest {
                Some(Duration::ZERO) => return,
                Some(rest) => {
                    tokio::select! {
                        () = tokio::time::sleep(rest) => {}
                        () = changed => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// It stands still as long as what this gives is there.
    fn stop(&self) -> Stopped<'_> {
        let mut times = self.times.lock();
        if times.stop(Instant::now()) {
            self.changed.notify_waiters();
        }
        drop(times);
        Stopped(self)
    }
}

struct Stopped<'a>(&'a Stopwatch);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let mut times = self.0.times.lock();
        if times.go_on(Instant::now()) {
            self.0.changed.notify_waiters();
        }
    }
}

/// Where attempts may be: at work, or aside while they wait for people.
#[derive(Clone)]
pub(super) struct Places {
    work: Arc<Pool>,
    aside: Arc<Semaphore>,
}

impl Places {
    pub(super) fn new(work: usize, aside: usize) -> Self {
        Self { work: Pool::new(work), aside: Arc::new(Semaphore::new(aside)) }
    }
}

/// What one attempt knows of its waits.
pub(super) struct Waits {
    /// The time since it was asked for: it stands still only while people are waited for.
    pub(super) since_asked: Stopwatch,
    /// The time that it has had a place: it also stands still while the attempt is in line for one again.
    pub(super) clock: Stopwatch,
    places: Places,
    share: Share,
    place: Mutex<Place>,
}

#[derive(Default)]
struct Place {
    waiting: usize,
    held: Option<Held>,
}

/// Which of the places an attempt has. It is free again when this is dropped.
#[expect(dead_code, reason = "held, and never looked at")]
enum Held {
    Work(places::Place),
    Aside(OwnedSemaphorePermit),
}

impl Place {
    fn is_aside(&self) -> bool {
        matches!(self.held, Some(Held::Aside(_)))
    }
}

impl Waits {
    /// Of an attempt that has no place yet.
    pub(super) fn asked(places: &Places, share: Share) -> Self {
        Self {
            since_asked: Stopwatch::new(),
            clock: Stopwatch::new(),
            places: places.clone(),
            share,
            place: Mutex::default(),
        }
    }

    /// Waits for the first place, with which the attempt's clock begins.
    pub(super) async fn begin(&self) {
        let held = self.places.work.take(&self.share).await;
        self.place.lock().held = Some(Held::Work(held));
        self.clock.begin_anew();
    }

    /// Does something that takes people's time.
    pub(super) async fn during<T>(&self, wait: impl Future<Output = T>) -> T {
        let _stopped = self.clock.stop();
        let people = self.since_asked.stop();
        let here = self.step_aside();
        let outcome = wait.await;
        drop((here, people));
        self.come_back().await;
        outcome
    }

    /// The attempt has ended: its place is free.
    pub(super) fn end(&self) {
        let place = std::mem::take(&mut *self.place.lock());
        drop(place);
    }

    fn step_aside(&self) -> Aside<'_> {
        let mut place = self.place.lock();
        place.waiting += 1;
        let before = match Arc::clone(&self.places.aside).try_acquire_owned() {
            Ok(aside) if !place.is_aside() => place.held.replace(Held::Aside(aside)),
            _ => None,
        };
        drop(place);
        drop(before);
        Aside(self)
    }

    /// Takes a place to work, unless somebody else in the attempt still waits. An attempt that gave a wait up stays aside.
    async fn come_back(&self) {
        let must = || {
            let place = self.place.lock();
            place.is_aside() && place.waiting == 0
        };
        if !must() {
            return;
        }
        let work = self.places.work.take(&self.share).await;
        let mut place = self.place.lock();
        if place.is_aside() && place.waiting == 0 {
            place.held = Some(Held::Work(work));
        }
    }
}

struct Aside<'a>(&'a Waits);

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        let mut place = self.0.place.lock();
        place.waiting = place.waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stands_still_as_long_as_anybody_waits() {
        let second = |n: u64| Duration::from_secs(n);
        let began = Instant::now();
        let mut times = Times::new(began);
        assert!(times.stop(began + second(1)));
        assert!(!times.stop(began + second(2)));
        assert!(!times.go_on(began + second(4)));
        assert_eq!(times.passed(began + second(5)), second(1));
        assert!(times.go_on(began + second(6)));
        assert_eq!(times.passed(began + second(8)), second(3));
        assert_eq!(times.stood(began + second(8)), second(5));
    }

    impl Stopwatch {
        fn runs(&self) -> bool {
            self.times.lock().waiting == 0
        }
    }

    fn share() -> Share {
        Share { user: crate::UserId::new("u"), workflow: "w".into() }
    }

    async fn begun(places: &Places) -> Waits {
        let waits = Waits::asked(places, share());
        waits.begin().await;
        waits
    }

    #[tokio::test]
    async fn the_line_for_a_place_counts_for_the_activity_and_not_for_its_attempt() {
        let places = Places::new(1, 1);
        let (waits, other) = (begun(&places).await, Waits::asked(&places, share()));
        let run = || (waits.since_asked.runs(), waits.clock.runs());
        assert_eq!(run(), (true, true));
        let mut wait = Box::pin(waits.during(async {
            assert_eq!(run(), (false, false), "people's time counts for nothing");
            other.begin().await;
        }));
        // It waits for people no more, and for its place again.
        assert!(futures::poll!(&mut wait).is_pending());
        assert_eq!(run(), (true, false));
        other.end();
        wait.await;
        assert_eq!(run(), (true, true));
    }

    #[tokio::test]
    async fn who_waits_leaves_its_place_to_others_while_there_is_room_aside() {
        let places = Places::new(1, 1);
        let first = begun(&places).await;
        first
            .during(async {
                let second = begun(&places).await;
                // There is room for one aside: this one keeps its place.
                second.during(async { assert_eq!(places.work.free(), 0) }).await;
            })
            .await;
        assert_eq!((places.work.free(), places.aside.available_permits()), (0, 1));
        drop(first);
        assert_eq!(places.work.free(), 1);
    }

    #[tokio::test]
    async fn an_attempt_that_gives_a_wait_up_keeps_one_place_and_its_clock_runs() {
        let places = Places::new(1, 1);
        let waits = begun(&places).await;
        let mut wait = Box::pin(waits.during(std::future::pending::<()>()));
        assert!(futures::poll!(&mut wait).is_pending());
        drop(wait);
        let stood = waits.since_asked.stood();
        assert_eq!(waits.since_asked.stood(), stood);
        assert_eq!((places.work.free(), places.aside.available_permits()), (1, 0));
        waits.during(async {}).await;
        assert_eq!((places.work.free(), places.aside.available_permits()), (0, 1));
        waits.end();
        assert_eq!((places.work.free(), places.aside.available_permits()), (1, 1));
    }
}
