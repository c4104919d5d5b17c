//! How far one connection is, and whether it takes too long.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Limits;

/// Who takes an answer takes so much of it in each [`Limits::write_time`]: of a slow line's answers nothing is lost, and
/// nobody holds one for hours.
const LEAST_PROGRESS: u64 = 256 << 10;

/// A client may look at one event of a stream for so many times [`Limits::write_time`].
pub(crate) const STREAM_PATIENCE: u32 = 20;

/// One connection. Times are milliseconds since it was opened, from 1 on; 0 is "not".
pub(crate) struct Connection {
    opened: Instant,
    /// When the first byte came that belongs to no request yet.
    arrived: AtomicU64,
    /// Since when it rests.
    resting: AtomicU64,
    requests: AtomicU64,
    under_way: AtomicUsize,
    /// Since when the client has taken less than there is, and how much it had taken then.
    stalled: AtomicU64,
    stalled_at: AtomicU64,
    written: AtomicU64,
    streams: AtomicBool,
    known: AtomicBool,
    unread: AtomicBool,
    /// Its place is needed.
    pub(crate) evicted: CancellationToken,
}

/// What took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// The head of a request, or the first byte at all.
    Head,
    /// The next request.
    Rest,
    /// The client did not take its answer.
    Answer,
}

impl Connection {
    pub(crate) fn new() -> Self {
        Self {
            opened: Instant::now(),
            arrived: AtomicU64::new(0),
            resting: AtomicU64::new(1),
            requests: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            stalled: AtomicU64::new(0),
            stalled_at: AtomicU64::new(0),
            written: AtomicU64::new(0),
            streams: AtomicBool::new(false),
            known: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            evicted: CancellationToken::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Bytes came.
    pub(crate) fn came(&self) {
        if self.under_way.load(Relaxed) == 0 && self.arrived.load(Relaxed) == 0 {
            self.arrived.store(self.now(), Relaxed);
        }
    }

    /// The client took so many bytes.
    pub(crate) fn took(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Relaxed);
    }

    /// The client takes nothing now, and there is more.
    pub(crate) fn stalls(&self) {
        if self.stalled.load(Relaxed) == 0 {
            self.stalled_at.store(self.written.load(Relaxed), Relaxed);
            self.stalled.store(self.now(), Relaxed);
        }
    }

    /// The client has taken everything.
    pub(crate) fn drained(&self) {
        if self.stalled.load(Relaxed) != 0 {
            self.stalled.store(0, Relaxed);
        }
    }

    /// A request is there.
    pub(crate) fn begins(&self) {
        self.under_way.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.arrived.store(0, Relaxed);
        self.streams.store(false, Relaxed);
    }

    /// Its answer is handed over.
    pub(crate) fn ends(&self) {
        self.resting.store(self.now(), Relaxed);
        self.under_way.fetch_sub(1, Relaxed);
    }

    /// Its answer is a stream of events.
    pub(crate) fn streams(&self) {
        self.streams.store(true, Relaxed);
    }

    /// Somebody with a key is on it.
    pub(crate) fn is_known(&self) {
        self.known.store(true, Relaxed);
    }

    /// A part of a request was not read: its answer is the last.
    pub(crate) fn leaves_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    /// Whether the client may still be sending what nobody reads.
    pub(crate) fn has_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// Who goes first when there are too many: the smallest. `None` stays.
    pub(super) fn dispensable(&self) -> Option<(u8, Instant)> {
        match (self.under_way.load(Relaxed), self.known.load(Relaxed)) {
            (0, false) => Some((0, self.opened)),
            (0, true) => Some((1, self.opened + Duration::from_millis(self.resting.load(Relaxed)))),
            (_, false) => Some((2, self.opened)),
            (_, true) => None,
        }
    }

    /// Whether no request ever came on it.
    pub(crate) fn is_new(&self) -> bool {
        self.requests.load(Relaxed) == 0
    }

    /// What takes too long, if anything does.
    pub(crate) fn overdue(&self, limits: &Limits) -> Option<Overdue> {
        let now = self.now();
        let over = |since: u64, limit: Duration| u128::from(now.saturating_sub(since)) > limit.as_millis();
        let stalled = self.stalled.load(Relaxed);
        let (patience, least) = match self.streams.load(Relaxed) {
            true => (limits.write_time.saturating_mul(STREAM_PATIENCE), 1),
            false => (limits.write_time, LEAST_PROGRESS),
        };
        if stalled != 0 && over(stalled, patience) {
            let written = self.written.load(Relaxed);
            if written.saturating_sub(self.stalled_at.load(Relaxed)) < least {
                return Some(Overdue::Answer);
            }
            self.stalled_at.store(written, Relaxed);
            self.stalled.store(now, Relaxed);
        }
        if self.under_way.load(Relaxed) > 0 {
            return None;
        }
        let (arrived, resting) = (self.arrived.load(Relaxed), self.resting.load(Relaxed));
        match (arrived, self.is_new()) {
            (0, false) => over(resting, limits.idle_time).then_some(Overdue::Rest),
            (0, true) => over(resting, limits.head_time).then_some(Overdue::Head),
            (arrived, _) => over(arrived, limits.head_time).then_some(Overdue::Head),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            write_time: Duration::from_secs(30),
            ..Limits::default()
        }
    }

    async fn after(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a03_a_head_has_its_time_from_its_first_byte_however_its_bytes_come() {
        let (connection, limits) = (Connection::new(), limits());
        for _ in 0..10 {
            assert_eq!(connection.overdue(&limits), None);
            after(1).await;
            connection.came();
        }
        after(2).await;
        assert_eq!(connection.overdue(&limits), Some(Overdue::Head), "a byte a second is not enough");
        let silent = Connection::new();
        after(11).await;
        assert_eq!(silent.overdue(&limits), Some(Overdue::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn a03_a_connection_may_rest_between_requests_and_a_request_may_take_its_time() {
        let (connection, limits) = (Connection::new(), limits());
        connection.came();
        connection.begins();
        after(3_600).await;
        assert_eq!(connection.overdue(&limits), None, "what a request does is its own matter");
        connection.ends();
        after(74).await;
        assert_eq!(connection.overdue(&limits), None);
        after(2).await;
        assert_eq!(connection.overdue(&limits), Some(Overdue::Rest));
        connection.came();
        assert_eq!(connection.overdue(&limits), None, "a head has begun");
        after(11).await;
        assert_eq!(connection.overdue(&limits), Some(Overdue::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn a03_an_answer_is_taken_in_parts_of_some_size_and_a_stream_at_leisure() {
        let (connection, limits) = (Connection::new(), limits());
        connection.begins();
        connection.stalls();
        for _ in 0..10 {
            after(31).await;
            connection.took(300 << 10);
            assert_eq!(connection.overdue(&limits), None, "a slow line is no attack");
        }
        for _ in 0..31 {
            after(1).await;
            connection.took(1);
            connection.stalls();
        }
        assert_eq!(connection.overdue(&limits), Some(Overdue::Answer), "a byte a second is one");
        let stream = Connection::new();
        stream.begins();
        stream.streams();
        stream.stalls();
        after(31 * 10).await;
        assert_eq!(stream.overdue(&limits), None);
        stream.took(1);
        after(30 * 10).await;
        assert_eq!(stream.overdue(&limits), None, "it took something");
        after(30 * 21).await;
        assert_eq!(stream.overdue(&limits), Some(Overdue::Answer));
    }
}
