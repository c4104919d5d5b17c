//! A time limit that stands still while people are asked.

use std::time::Duration;

/// What is left of the time.
pub(super) struct Patience {
    pub(super) limit: Duration,
    until: tokio::time::Instant,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, until: tokio::time::Instant::now() + limit }
    }

    pub(super) fn rest(&self) -> Duration {
        self.until.saturating_duration_since(tokio::time::Instant::now())
    }

    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let began = tokio::time::Instant::now();
        let done = work.await;
        self.until += began.elapsed();
        done
    }
}
