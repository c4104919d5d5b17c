//! Histories and results, which may be large: read off the threads that serve others, histories a page at a time. What is
//! read is charged for before it is, and for as long as what was made of it is held.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use airlock_engine::{Engine, ExecutionKey, history::StoredRecord, store::StoreError};
use serde::Serialize;

use crate::{
    ApiState,
    budget::{Charge, FREE, Full},
    caller::Caller,
    error::ApiError,
};

/// Records that are read at first, and at most. Small records come more at a time.
pub(crate) const FIRST: usize = 16;
pub(crate) const MOST: usize = 500;

/// A page of so many bytes is large enough.
const ENOUGH: usize = 512 << 10;

/// Bytes of records that are read together.
pub(crate) const PAGE: u64 = 1 << 20;

/// How long a page waits for room.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// What is read is held twice for a moment: sealed and as records, then as records and as the text of the answer.
const TWICE: u64 = 2;

/// A reader of one history.
pub(crate) struct Pages {
    engine: Arc<Engine>,
    key: ExecutionKey,
    next: u32,
    size: usize,
    charge: Charge,
}

/// A page cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Full(#[from] Full),
    #[error("the work was given up")]
    Gone,
}

impl From<Unread> for ApiError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Store(error) => error.into(),
            Unread::Full(full) => Self::no_room_for_answer(full),
            Unread::Gone => crate::unserved::panicked(),
        }
    }
}

impl From<Unread> for io::Error {
    fn from(unread: Unread) -> Self {
        Self::other(unread.to_string())
    }
}

impl Pages {
    pub(crate) fn new(state: &ApiState, caller: &Caller, key: ExecutionKey) -> Self {
        Self { engine: Arc::clone(&state.engine), key, next: 0, size: FIRST, charge: caller.visit.charge() }
    }

    /// What `convert` makes of the next page, which is empty at the end, and how many bytes that holds. What was made of
    /// the page before is no longer charged for.
    pub(crate) async fn next<T: Send + 'static>(
        &mut self,
        convert: impl FnOnce(Vec<StoredRecord>) -> (T, usize) + Send + 'static,
    ) -> Result<T, Unread> {
        let (engine, key, next) = (Arc::clone(&self.engine), self.key, self.next);
        let (size, bytes) = fitting(&engine.sizes(key, next, self.size)?);
        let read = aside(&mut self.charge, bytes, move || {
            let records = engine.history(key, next, size)?;
            let count = records.len();
            Ok::<_, StoreError>((count, convert(records)))
        });
        let (count, (made, bytes)) = read.await??;
        // It is less than what was charged for, but for small things that become larger as text.
        self.charge.set_within(bytes, PATIENCE).await?;
        self.next += u32::try_from(count).unwrap_or(u32::MAX);
        self.size = next_size(self.size, bytes);
        Ok(made)
    }
}

/// How many records make the next page, if what was made of so many had so many bytes.
pub(crate) fn next_size(size: usize, bytes: usize) -> usize {
    match bytes {
        small if small < ENOUGH / 4 => (size * 2).min(MOST),
        large if large > ENOUGH => (size / 2).max(FIRST),
        _ => size,
    }
}

/// How many of the next records are read together, and their bytes: those that are small, or one that is large.
fn fitting(sizes: &[u64]) -> (usize, u64) {
    let mut sum = 0;
    let fit = sizes.iter().take_while(|&&size| {
        let fits = sum == 0 || sum + size <= PAGE;
        sum += if fits { size } else { 0 };
        fits
    });
    (fit.count().max(1), sum)
}

/// Does work for which so many bytes are read, off the threads that serve others, when there is room. The work keeps its
/// room to its end, whether or not anybody waits for it; then it is in `charge` again. What is small needs none.
pub(crate) async fn aside<T: Send + 'static>(
    charge: &mut Charge,
    bytes: u64,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unread> {
    let bytes = usize::try_from(bytes.saturating_mul(TWICE)).unwrap_or(usize::MAX);
    if bytes > FREE {
        charge.set_within(charge.at_most(bytes), PATIENCE).await?;
    }
    let room = charge.take();
    let done = tokio::task::spawn_blocking(move || (work(), room)).await;
    let (done, room) = done.map_err(|_| Unread::Gone)?;
    *charge = room;
    Ok(done)
}

/// A text that is written piece by piece, in parts of a limited size, so that nothing is copied as it grows.
#[derive(Default)]
pub(crate) struct Parts {
    done: Vec<Vec<u8>>,
    current: Vec<u8>,
    bytes: usize,
}

/// A part has so many bytes, but for the last.
const PART: usize = 64 << 10;

impl Write for Parts {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.push(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Parts {
    pub(crate) fn push(&mut self, mut text: &[u8]) {
        loop {
            let room = PART - self.current.len();
            if text.len() < room {
                self.current.extend_from_slice(text);
                return;
            }
            let (now, rest) = text.split_at(room);
            if self.current.is_empty() {
                self.current.reserve_exact(PART);
            }
            self.current.extend_from_slice(now);
            let part = std::mem::take(&mut self.current);
            self.bytes += part.capacity();
            self.done.push(part);
            text = rest;
        }
    }

    /// A value as JSON.
    pub(crate) fn push_json(&mut self, value: &impl Serialize) -> Result<(), serde_json::Error> {
        serde_json::to_writer(self, value)
    }

    /// All parts, and what they hold.
    pub(crate) fn finish(mut self) -> (Vec<Vec<u8>>, usize) {
        self.bytes += self.current.capacity();
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        (self.done, self.bytes)
    }
}
