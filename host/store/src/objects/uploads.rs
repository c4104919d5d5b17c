//! Appends with large records: first the objects, then the commit.
//!
//! An append takes effect in the order of the calls for its run, so whatever comes for a run while one of its objects is
//! on the way waits behind it. Runs without large records are not touched by any of this.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use airlock_engine::{
    ExecutionKey,
    store::{Appended, StoreError},
};
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::oneshot;

use super::Objects;
use crate::{
    commit::{Committer, closed},
    reference::Reference,
    seal::{Seal, owner},
    step::Step,
};

type Done = oneshot::Sender<Result<Appended, StoreError>>;

/// The appends that wait for objects.
pub(crate) struct Uploads {
    objects: Arc<Objects>,
    committer: Arc<Committer>,
    seal: Arc<Seal>,
    /// How many lines there are, so that others need not look.
    lines: AtomicUsize,
    waiting: Mutex<HashMap<ExecutionKey, Arc<Line>>>,
}

/// What waits for one run, or for a run and its successors.
#[derive(Default)]
struct Line(Mutex<VecDeque<(Step, Done)>>);

impl Uploads {
    pub(crate) fn new(objects: Arc<Objects>, committer: Arc<Committer>, seal: Arc<Seal>) -> Arc<Self> {
        let (lines, waiting) = Default::default();
        Arc::new(Self { objects, committer, seal, lines, waiting })
    }

    /// Commits a step when what it needs is stored and what came before it for the same run is on its way.
    pub(crate) fn submit(self: &Arc<Self>, step: Step) -> oneshot::Receiver<Result<Appended, StoreError>> {
        let large = step.is_large();
        // A run's appends are made one after the other, so that a line for this run would be seen.
        if !large && self.lines.load(Ordering::Acquire) == 0 {
            return self.committer.submit(step);
        }
        let mut waiting = self.waiting.lock();
        let line = step.chain().find_map(|part| waiting.get(&part.key)).cloned();
        if line.is_none() && !large {
            drop(waiting);
            return self.committer.submit(step);
        }
        let (done, durable) = oneshot::channel();
        let new = line.is_none();
        let line = line.unwrap_or_default();
        for part in step.chain() {
            waiting.insert(part.key, Arc::clone(&line));
        }
        line.0.lock().push_back((step, done));
        if new {
            self.lines.fetch_add(1, Ordering::Release);
            drop(waiting);
            let uploads = Arc::clone(self);
            let work = Arc::clone(&line);
            if let Err(error) = self.objects.spawn(async move { uploads.work_off(&work).await }) {
                self.give_up(&line, &error);
            }
        }
        durable
    }

    async fn work_off(&self, line: &Arc<Line>) {
        while let Some((mut step, done)) = self.next(line) {
            match self.store(&mut step).await {
                Ok(paths) => self.commit(step, done, paths).await,
                Err(error) => {
                    tracing::error!(%error, "an append with a large payload failed");
                    // What follows it in the line cannot take effect without it.
                    let _ = done.send(Err(error.clone()));
                    self.give_up(line, &error);
                    return;
                }
            }
        }
    }

    /// Stores the large records of a step and puts references in their places. Gives the paths.
    async fn store(&self, step: &mut Step) -> Result<Vec<String>, StoreError> {
        let mut paths = Vec::new();
        let mut part = Some(step);
        while let Some(step) = part {
            for (row, index) in step.rows.iter_mut().zip(step.change.index..) {
                if !row.is_large() {
                    continue;
                }
                let random: u64 = rand::rng().random();
                let path = format!("payloads/{}/{index}-{random:016x}", step.key.0);
                let bytes = std::mem::take(&mut row.body);
                let reference = Reference::new(path.clone(), &bytes);
                paths.push(path.clone());
                if let Err(error) = self.objects.put(&path, bytes).await {
                    self.remove(&paths).await;
                    return Err(error);
                }
                row.body = self.seal.seal_at(&reference.encode(), step.key, index, owner(&step.change));
                row.object = Some(reference);
            }
            part = step.successor.as_deref_mut();
        }
        Ok(paths)
    }

    async fn commit(&self, step: Step, done: Done, paths: Vec<String>) {
        if paths.is_empty() {
            self.committer.submit_for(step, done);
            return;
        }
        let outcome = self.committer.submit(step).await;
        let outcome = outcome.unwrap_or_else(|_| Err(closed()));
        // After any other failure it is not certain that the reference is not there: that is the sweep's.
        let unwanted = matches!(outcome, Err(StoreError::Conflict));
        let _ = done.send(outcome);
        if unwanted {
            self.remove(&paths).await;
        }
    }

    async fn remove(&self, paths: &[String]) {
        for path in paths {
            if let Err(error) = self.objects.delete(path).await {
                tracing::warn!(%error, path, "an object that is not needed stays until it is swept");
            }
        }
    }

    /// The next of a line, which ends when there is none.
    fn next(&self, line: &Arc<Line>) -> Option<(Step, Done)> {
        let mut waiting = self.waiting.lock();
        let next = line.0.lock().pop_front();
        if next.is_none() {
            self.close(&mut waiting, line);
        }
        next
    }

    /// Ends a line with an answer for all that wait in it.
    fn give_up(&self, line: &Arc<Line>, error: &StoreError) {
        let mut waiting = self.waiting.lock();
        for (_, done) in line.0.lock().drain(..) {
            let _ = done.send(Err(error.clone()));
        }
        self.close(&mut waiting, line);
    }

    fn close(&self, waiting: &mut HashMap<ExecutionKey, Arc<Line>>, line: &Arc<Line>) {
        waiting.retain(|_, other| !Arc::ptr_eq(other, line));
        self.lines.fetch_sub(1, Ordering::Release);
    }
}
