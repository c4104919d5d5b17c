//! The one checker for JSON schemas of others.
//!
//! Schemas come from servers, documents and plugins, values from whoever calls. Both may be made so that a check takes
//! for ever or more stack than there is: references to references, alternatives in alternatives, circles, regular
//! expressions, lists to be compared with each other. What checks is [`jsonschema`], which cannot be stopped. So what a
//! schema and a value will cost is known before it is asked: a schema that is over a bound is [`Refused`] with the name
//! of the bound, a value that would take too much is [`Outcome::Undecided`], and what becomes of that is its user's
//! decision.
//!
//! Promised for whatever schema and value: the process lives, each caller is answered by [`Limits::deadline`], and no more
//! than some 50 ms of a side thread go into a compilation or a check. Remote references are never fetched. Messages name
//! places, members and what is expected, never values.
//!
//! Nothing is known here of plugins, tools and services.

mod checked;
mod cost;
mod dialect;
mod format;
mod kept;
mod limits;
mod outcome;
mod outline;
mod pattern;
mod room;

use std::sync::{Arc, LazyLock};

use async_recursion::async_recursion as boxed;
use parking_lot::Mutex;
use serde_json::Value;

pub use checked::Checked;
pub use dialect::Dialect;
pub use jsonschema;
pub use limits::Limits;
pub use outcome::{Bound, Difference, Outcome, Refused, Undecided};

use checked::Ready;
use kept::{Kept, Key};
use room::Room;

/// Schemas that were compiled, and the threads for it. Cheap to clone.
#[derive(Clone)]
pub struct Schemas(Arc<Shared>);

struct Shared {
    kept: Mutex<Kept>,
    room: Arc<Room>,
    limits: Limits,
}

impl std::fmt::Debug for Schemas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schemas").field("kept", &self.0.kept.lock().len()).finish_non_exhaustive()
    }
}

impl Default for Schemas {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// How many threads did not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Now.
    pub threads: usize,
    /// Since the start.
    pub ever: u64,
}

/// Memory and threads are the process's, so all its users share them.
static OF_PROCESS: LazyLock<Schemas> = LazyLock::new(Schemas::default);

impl Schemas {
    /// The one that all parts of a process share: its bounds are for the sum of what they check.
    pub fn of_process() -> &'static Self {
        &OF_PROCESS
    }

    /// Threads are started when they are needed.
    pub fn new(limits: Limits) -> Self {
        let kept = Mutex::new(Kept::new(limits.kept_bytes));
        Self(Arc::new(Shared { kept, room: Arc::new(Room::new(limits.clone())), limits }))
    }

    /// Compiles a schema, or gives what was compiled of the same text.
    ///
    /// # Errors
    ///
    /// It is no schema, over a bound, or there was no time for it.
    #[boxed]
    pub async fn compile(&self, schema: &Value, dialect: Dialect) -> Result<Checked, Refused> {
        let key = self.key(schema, dialect)?;
        if let Some(known) = self.known(&key) {
            return known;
        }
        let compiled = self.0.room.run(self.work(schema, dialect)).await;
        self.keep(key, compiled)
    }

    /// The same for callers that may block, for [`Limits::deadline`] at most.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn compile_blocking(&self, schema: &Value, dialect: Dialect) -> Result<Checked, Refused> {
        let key = self.key(schema, dialect)?;
        if let Some(known) = self.known(&key) {
            return known;
        }
        let compiled = self.0.room.run_blocking(self.work(schema, dialect));
        self.keep(key, compiled)
    }

    /// Threads that were given up.
    pub fn lost(&self) -> Lost {
        let (threads, ever) = self.0.room.lost();
        Lost { threads, ever }
    }

    fn key(&self, schema: &Value, dialect: Dialect) -> Result<Key, Refused> {
        // What is too deep or too big is not even written.
        outline::is_bounded(schema, &self.0.limits)?;
        Ok((dialect, schema.to_string().into()))
    }

    fn known(&self, key: &Key) -> Option<Result<Checked, Refused>> {
        let known = self.0.kept.lock().get(key)?;
        Some(known.map(|ready| self.checked(ready)))
    }

    fn work(
        &self,
        schema: &Value,
        dialect: Dialect,
    ) -> impl FnOnce() -> Result<Arc<Ready>, Refused> + Send + 'static + use<> {
        let (schema, limits) = (schema.clone(), self.0.limits.clone());
        move || Ready::new(&schema, dialect, &limits).map(Arc::new)
    }

    fn keep(
        &self,
        key: Key,
        compiled: Result<Result<Arc<Ready>, Refused>, Undecided>,
    ) -> Result<Checked, Refused> {
        let compiled = compiled.map_err(Refused::NotNow)?;
        self.0.kept.lock().put(key, compiled.clone());
        compiled.map(|ready| self.checked(ready))
    }

    fn checked(&self, ready: Arc<Ready>) -> Checked {
        Checked { ready, room: Arc::clone(&self.0.room) }
    }
}

#[cfg(test)]
mod tests;

// What targets of fuzzing hold is counted.
#[cfg(test)]
airlock_fuzz::counted!();
