//! When to look at which execution. One task sleeps for all of them.

use std::{collections::BTreeSet, sync::Weak, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Engine, now_ms};
use crate::{ExecutionKey, history::UnixMs};

/// The wall clock may be set: never sleep longer than this without looking at it.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Times at which executions want to be looked at. A look too many does no harm.
#[derive(Default)]
pub(super) struct Timers {
    times: Mutex<BTreeSet<(UnixMs, ExecutionKey)>>,
    earlier: Notify,
}

impl Timers {
    pub(super) fn set(&self, at: UnixMs, key: ExecutionKey) {
        let mut times = self.times.lock();
        let first = times.first().is_none_or(|(first, _)| at < *first);
        times.insert((at, key));
        drop(times);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Forgets a time. An execution that has ended leaves nothing here.
    pub(super) fn remove(&self, at: UnixMs, key: ExecutionKey) {
        self.times.lock().remove(&(at, key));
    }

    /// An execution whose time has come, or how long to sleep.
    fn due(&self, now: UnixMs) -> Result<ExecutionKey, Duration> {
        let mut times = self.times.lock();
        match times.first() {
            Some(&(at, key)) if at <= now => {
                times.pop_first();
                Ok(key)
            }
            Some((at, _)) => Err(Duration::from_millis(at - now).min(LONGEST_SLEEP)),
            None => Err(LONGEST_SLEEP),
        }
    }
}

/// Wakes executions until the engine is dropped.
pub(super) async fn run(engine: Weak<Engine>) {
    loop {
        let Some(engine) = engine.upgrade() else { return };
        match engine.timers.due(now_ms()) {
            Ok(key) => {
                tokio::spawn(async move { engine.wake(key).await });
            }
            Err(sleep) => {
                tokio::select! {
                    () = tokio::time::sleep(sleep) => {}
                    () = engine.timers.earlier.notified() => {}
                }
            }
        }
    }
}
