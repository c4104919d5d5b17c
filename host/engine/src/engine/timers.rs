//! When to look at which execution. One task sleeps for all of them.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Weak, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Engine, now_ms};
use crate::{ExecutionKey, history::UnixMs};

/// The wall clock may be set: never sleep longer than this without looking at it.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Times at which executions want to be looked at. A look too many does no harm.
#[derive(Default)]
pub(super) struct Timers {
    heap: Mutex<BinaryHeap<Reverse<(UnixMs, ExecutionKey)>>>,
    earlier: Notify,
}

impl Timers {
    pub(super) fn set(&self, at: UnixMs, key: ExecutionKey) {
        let mut heap = self.heap.lock();
        let first = heap.peek().is_none_or(|Reverse((first, _))| at < *first);
        heap.push(Reverse((at, key)));
        drop(heap);
        if first {
            self.earlier.notify_one();
        }
    }

    /// An execution whose time has come, or how long to sleep.
    fn due(&self, now: UnixMs) -> Result<ExecutionKey, Duration> {
        let mut heap = self.heap.lock();
        match heap.peek() {
            Some(Reverse((at, key))) if *at <= now => {
                let key = *key;
                heap.pop();
                Ok(key)
            }
            Some(Reverse((at, _))) => Err(Duration::from_millis(at - now).min(LONGEST_SLEEP)),
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
