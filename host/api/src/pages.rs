//! Histories, read a page at a time: off the threads that serve others, few pages at once, and charged for as long as what
//! was made of one is held.

use std::{io, sync::Arc, time::Duration};

use airlock_engine::{Engine, ExecutionKey, history::StoredRecord, store::StoreError};
use serde::Serialize;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    ApiState,
    budget::{Charge, Full},
    caller::Caller,
    error::ApiError,
};

/// Records that are read at first, and at most. Small records come more at a time.
const FIRST: usize = 16;
const MOST: usize = 500;

/// A page of so many bytes is large enough.
const ENOUGH: usize = 512 << 10;

/// How long a page waits for its turn, and for room.
const PATIENCE: Duration = Duration::from_secs(5);

/// A reader of one history.
pub(crate) struct Pages {
    engine: Arc<Engine>,
    readers: Arc<Semaphore>,
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
        Self {
            engine: Arc::clone(&state.engine),
            readers: Arc::clone(&state.readers),
            key,
            next: 0,
            size: FIRST,
            charge: caller.visit.charge(),
        }
    }

    /// What `convert` makes of the next page, which is empty at the end, and how many bytes that holds. What was made of
    /// the page before is no longer charged for.
    pub(crate) async fn next<T: Send + 'static>(
        &mut self,
        convert: impl FnOnce(Vec<StoredRecord>) -> (T, usize) + Send + 'static,
    ) -> Result<T, Unread> {
        let turn = timeout(PATIENCE, self.readers.acquire()).await.map_err(|_| Full::All)?;
        let (engine, key, next, size) = (Arc::clone(&self.engine), self.key, self.next, self.size);
        let read = tokio::task::spawn_blocking(move || {
            let records = engine.history(key, next, size)?;
            let count = records.len();
            Ok::<_, StoreError>((count, convert(records)))
        });
        let (count, (made, bytes)) = read.await.map_err(|_| Unread::Gone)??;
        // What is there already is not given up at once, and others do not read on meanwhile.
        self.charge.set_within(bytes, PATIENCE).await?;
        drop(turn);
        self.next += u32::try_from(count).unwrap_or(u32::MAX);
        self.size = match bytes {
            small if small < ENOUGH / 4 => (self.size * 2).min(MOST),
            large if large > ENOUGH => (self.size / 2).max(FIRST),
            _ => self.size,
        };
        Ok(made)
    }
}

/// Parts of a text that is written piece by piece: large pieces are parts of their own.
#[derive(Default)]
pub(crate) struct Parts {
    done: Vec<Vec<u8>>,
    current: Vec<u8>,
    bytes: usize,
}

/// A part has at least so many bytes.
const PART: usize = 64 << 10;

impl Parts {
    pub(crate) fn push(&mut self, text: &[u8]) {
        self.current.extend_from_slice(text);
        self.cut();
    }

    /// A value as JSON.
    pub(crate) fn push_json(&mut self, value: &impl Serialize) -> Result<(), serde_json::Error> {
        serde_json::to_writer(&mut self.current, value)?;
        self.cut();
        Ok(())
    }

    fn cut(&mut self) {
        if self.current.len() >= PART {
            let mut part = std::mem::take(&mut self.current);
            part.shrink_to_fit();
            self.bytes += part.capacity();
            self.done.push(part);
        }
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
