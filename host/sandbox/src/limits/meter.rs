//! How much processor time a guest has used.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use wasmtime::{Store, UpdateDeadline};

use super::ticker::Ticker;

/// What one poll counts at most: several ticks, since the clock may come late where the processor is busy.
const LONGEST_POLL: Duration = Duration::from_millis(10);

/// The processor time of one guest, counted while its future is polled. Waiting is free.
#[derive(Debug)]
pub(crate) struct Meter {
    used_ns: AtomicU64,
    budget_ns: u64,
}

/// The budget of a [`Meter`] is used up.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it used more than {} of processor time", Seconds(*.0))]
pub(crate) struct OutOfTime(pub(crate) Duration);

struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_millis() {
            ms if ms % 1000 == 0 => write!(f, "{} s", ms / 1000),
            ms => write!(f, "{ms} ms"),
        }
    }
}

impl Meter {
    /// A meter on which nothing is used yet.
    pub(crate) fn new(budget: Duration) -> Arc<Self> {
        let budget_ns = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
        Arc::new(Self { used_ns: AtomicU64::new(0), budget_ns })
    }

    /// Begins a new budget.
    pub(crate) fn reset(&self) {
        self.used_ns.store(0, Ordering::Relaxed);
    }

    /// Makes the guest in `store` yield at every tick, and trap with [`OutOfTime`] when the budget is used up.
    pub(crate) fn install<T>(self: &Arc<Self>, store: &mut Store<T>) {
        let meter = self.clone();
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            if meter.used_ns.load(Ordering::Relaxed) >= meter.budget_ns {
                return Err(OutOfTime(Duration::from_nanos(meter.budget_ns)).into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
    }

    /// Runs a guest's future and counts the time it is polled.
    ///
    /// A guest is interrupted at every tick, so what a poll takes much longer than that was spent waiting for the processor
    /// and is not counted.
    pub(crate) async fn run<F: Future>(&self, ticker: &Ticker, guest: F) -> F::Output {
        let mut guest = pin!(guest);
        std::future::poll_fn(move |context| {
            let running = ticker.enter();
            let start = Instant::now();
            let polled = guest.as_mut().poll(context);
            if polled.is_pending() {
                let spent = start.elapsed().min(LONGEST_POLL).as_nanos() as u64;
                self.used_ns.fetch_add(spent, Ordering::Relaxed);
            }
            drop(running);
            polled
        })
        .await
    }
}
