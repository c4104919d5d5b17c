//! Who compiles when: a quick lane and a slow one.
//!
//! Everything begins in the quick lane. What has not ended after a while goes over to the slow lane; if that is full it is
//! stopped, waits there and begins again. So a component that compiles quickly waits for a moment at most, however many
//! there are that do not.

use std::time::Duration;

use tokio::sync::Semaphore;

/// The places.
#[derive(Debug)]
pub(super) struct Lanes {
    quick: Semaphore,
    slow: Semaphore,
    /// After so long it is slow. None: there is one lane.
    patience: Option<Duration>,
}

impl Lanes {
    /// So many places in each lane.
    pub(super) fn new(at_once: usize, patience: Option<Duration>) -> Self {
        let places = at_once.clamp(1, 64);
        Self { quick: Semaphore::new(places), slow: Semaphore::new(places), patience }
    }

    /// Does the work when there is a place; a second time if it had to be stopped.
    pub(super) async fn run<T, F: Future<Output = T>>(&self, work: impl Fn() -> F) -> T {
        // Neither lane is ever closed.
        let place = self.quick.acquire().await;
        let Some(patience) = self.patience else { return work().await };
        let mut first = Box::pin(work());
        tokio::select! {
            biased;
            outcome = &mut first => return outcome,
            () = tokio::time::sleep(patience) => {}
        }
        if let Ok(_slow) = self.slow.try_acquire() {
            drop(place);
            return first.await;
        }
        drop((first, place));
        let _slow = self.slow.acquire().await;
        work().await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures::poll;

    use super::*;

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

    #[tokio::test(start_paused = true)]
    async fn a13_what_never_ends_makes_others_wait_for_a_moment_at_most() {
        let lanes = Lanes::new(1, PATIENCE);
        let begun = AtomicUsize::new(0);
        let endless = || async {
            begun.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        };
        let mut all = futures::future::join_all((0..5).map(|_| lanes.run(endless)));
        let others = async {
            for _ in 0..3 {
                lanes.run(|| std::future::ready(())).await;
            }
        };
        let start = tokio::time::Instant::now();
        tokio::select! {
            biased;
            _ = &mut all => unreachable!("it never ends"),
            () = others => {}
        }
        // Each of the five was there before, and had its moment.
        assert!(start.elapsed() <= Duration::from_secs(5 * 5 + 1), "{:?}", start.elapsed());
        assert_eq!(begun.load(Ordering::SeqCst), 5);
        assert_eq!((lanes.quick.available_permits(), lanes.slow.available_permits()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_stopped_begins_again_when_there_is_a_slow_place() {
        let lanes = Lanes::new(1, PATIENCE);
        let begun = AtomicUsize::new(0);
        let work = || async {
            begun.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(20)).await;
        };
        tokio::join!(lanes.run(work), lanes.run(work));
        assert_eq!(begun.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_places_of_both_lanes_work_at_once() {
        let lanes = Lanes::new(2, PATIENCE);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        struct Working<'a>(&'a AtomicUsize);
        impl Drop for Working<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let work = || async {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let _working = Working(&now);
            tokio::time::sleep(Duration::from_secs(8)).await;
        };
        futures::future::join_all((0..20).map(|_| lanes.run(work))).await;
        assert_eq!(most.load(Ordering::SeqCst), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn without_patience_there_is_one_lane_and_nothing_is_stopped() {
        let lanes = Lanes::new(1, None);
        let mut first = pin!(lanes.run(|| tokio::time::sleep(Duration::from_secs(60))));
        assert!(poll!(&mut first).is_pending());
        let mut second = pin!(lanes.run(|| std::future::ready(())));
        assert!(poll!(&mut second).is_pending());
        first.await;
        second.await;
    }
}
