//! Holding back what takes the process down.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Engine;
use crate::{
    ExecutionId, ExecutionKey, RunId,
    machine::Input,
    store::{Status, Store, StoreError},
    witness::{CRASHES, Step, Witness},
};

/// After a crash, those that were running then are taken up one after the other, and each has so long before the next one
/// begins: so the one that is the cause is alone when it happens again.
const ALONE: Duration = Duration::from_secs(2);

/// What runs, as the witness is told.
pub(super) struct Crashes {
    witness: Option<Arc<dyn Witness>>,
    /// Whether there is anybody in `suspects`.
    suspicious: AtomicBool,
    suspects: Mutex<HashSet<Step>>,
    cleared: Notify,
    /// What is not run until the next start.
    held: Mutex<HashSet<Step>>,
}

impl Crashes {
    pub(super) fn new(store: &dyn Store) -> Self {
        Self {
            witness: store.witness(),
            suspicious: AtomicBool::new(false),
            suspects: Mutex::default(),
            cleared: Notify::new(),
            held: Mutex::default(),
        }
    }

    /// Notes that a step runs, until what this gives is dropped.
    pub(super) fn begin(&self, step: Step) -> Running<'_> {
        let note = self.witness.as_ref().map(|witness| witness.begin(&step));
        Running { crashes: self, step, note }
    }

    /// The same for a step that may be held back.
    pub(super) fn enter(&self, step: Step) -> Result<Running<'_>, HeldBack> {
        if self.held.lock().contains(&step) { Err(HeldBack) } else { Ok(self.begin(step)) }
    }

    fn clear(&self, step: &Step) {
        let mut suspects = self.suspects.lock();
        if suspects.remove(step) {
            self.suspicious.store(!suspects.is_empty(), Ordering::Relaxed);
            if let Some(witness) = &self.witness {
                witness.clear(step);
            }
            self.cleared.notify_waiters();
        }
    }

    /// Waits until a run is no longer suspected of anything, at most as long as it may have alone.
    async fn quiet(&self, run: RunId) {
        let quiet = async {
            loop {
                let cleared = self.cleared.notified();
                if !self.suspects.lock().iter().any(|step| step.run() == Some(run)) {
                    return;
                }
                cleared.await;
            }
        };
        // One that waits for long, for people for example, is not the cause of much.
        let _ = tokio::time::timeout(ALONE, quiet).await;
    }
}

/// A step is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "held back: the daemon crashed {CRASHES} times in a row while it ran. It is tried again after the next start of the \
     daemon; tell the operator, whose log says what crashed"
)]
pub(crate) struct HeldBack;

/// A step runs as long as this is there.
pub(crate) struct Running<'a> {
    crashes: &'a Crashes,
    step: Step,
    note: Option<u32>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let (Some(witness), Some(note)) = (&self.crashes.witness, self.note) {
            witness.end(note);
        }
        if self.crashes.suspicious.load(Ordering::Relaxed) {
            self.crashes.clear(&self.step);
        }
    }
}

impl Engine {
    /// Blocks the runs whose steps have crashed the process too often, before anything else is done for them, and gives
    /// those that were running in a crash otherwise.
    pub(super) async fn hold_back(&self) -> Result<Vec<(ExecutionKey, RunId)>, StoreError> {
        let Some(witness) = self.crashes.witness.clone() else { return Ok(Vec::new()) };
        let (mut others, mut blocked) = (Vec::new(), HashSet::new());
        for (step, crashes) in witness.suspects() {
            let held = crashes >= CRASHES;
            tracing::warn!(%step, crashes, held, "this was running when the daemon crashed");
            let row = match step.run() {
                Some(run) => self.store.find_run(&run)?.filter(|row| row.status == Status::Running),
                None => None,
            };
            match row {
                Some(row) if held => {
                    let cell = self.cell(&row);
                    let recorded = cell.post_and_confirm(Input::HeldBack { step: step.clone(), crashes });
                    self.drive(&cell).await;
                    // One that cannot be blocked now, as the disk is full, is suspected further.
                    if matches!(recorded.await, Ok(Ok(()))) {
                        blocked.insert(row.run_id);
                        witness.clear(&step);
                    }
                }
                Some(row) => {
                    self.crashes.suspects.lock().insert(step);
                    others.push((row.key, row.run_id));
                }
                None => match step {
                    Step::Query(_) | Step::Start(_) if held => {
                        witness.clear(&step);
                        self.crashes.held.lock().insert(step);
                    }
                    Step::Query(_) | Step::Start(_) => drop(self.crashes.suspects.lock().insert(step)),
                    // It was not recorded, or it has ended.
                    Step::Load(_) | Step::Turn(_) | Step::Operation { .. } => witness.clear(&step),
                },
            }
        }
        // Whatever else ran of those begins anew as well.
        others.retain(|(_, run)| !blocked.contains(run));
        self.crashes.suspects.lock().retain(|step| {
            let is_blocked = step.run().is_some_and(|run| blocked.contains(&run));
            if is_blocked {
                witness.clear(step);
            }
            !is_blocked
        });
        let suspicious = !self.crashes.suspects.lock().is_empty();
        self.crashes.suspicious.store(suspicious, Ordering::Relaxed);
        Ok(others)
    }

    /// Takes up a run that was running in a crash, and gives it time.
    pub(super) async fn wake_alone(&self, key: ExecutionKey, run: RunId) {
        self.wake(key).await;
        self.crashes.quiet(run).await;
    }

    /// For a schedule: notes that it starts an execution, or says that this is not tried again.
    pub(crate) fn starting(&self, id: &ExecutionId) -> Result<Running<'_>, HeldBack> {
        self.crashes.enter(Step::Start(id.clone()))
    }
}
