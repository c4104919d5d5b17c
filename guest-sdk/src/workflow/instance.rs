//! A run in memory: jobs in, commands out.
//!
//! The executor is a queue of tasks that were woken, in the order in which they were. An operation's end wakes the one
//! task (and inside a join the one branch) that waits for it, so that with 10,000 of them under way, each end costs the
//! same as with one.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use super::{
    Workflow,
    protocol::{Command, Init, Job, Turn},
    shared::Shared,
};
use crate::{Error, Result};

/// A workflow's body at work, with the JSON text of its output.
pub type Run = Pin<Box<dyn Future<Output = Result<String>>>>;

/// Finds the workflow of a name and starts it with an input.
pub(crate) type Start = fn(name: &str, context: Workflow, input: &str) -> Result<Run>;

/// One run of one workflow.
pub(crate) struct Instance {
    pub(crate) shared: Rc<Shared>,
    start: Option<(Start, String)>,
    root: Option<(Run, Arc<TaskWaker>)>,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    ready: Arc<Ready>,
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    shielded: bool,
    waker: Arc<TaskWaker>,
}

const ROOT: u64 = 0;

impl Instance {
    /// Nothing of the workflow runs before the first activation.
    pub(crate) fn new(mut init: Init, start: Start) -> Self {
        let input = std::mem::take(&mut init.input);
        Self {
            shared: Rc::new(Shared::new(init)),
            start: Some((start, input)),
            root: None,
            tasks: BTreeMap::new(),
            next_task: ROOT + 1,
            ready: Arc::default(),
        }
    }

    /// Tells the workflow what happened, runs it until everything in it waits, and gives what it wants next.
    pub(crate) fn activate(
        &mut self,
        turn: impl Into<Turn>,
        jobs: impl IntoIterator<Item = Job>,
    ) -> Vec<Command> {
        self.shared.set_turn(turn.into());
        for job in jobs {
            match job {
                Job::Started => self.begin(),
                Job::Resolved(seq, outcome) => self.shared.resolve(seq, outcome),
                Job::CancelRequested(reason) => self.shared.request_cancel(reason),
                Job::ChildStarted(seq, Ok(id)) => self.shared.child_started(seq, id),
                Job::ChildStarted(seq, Err(error)) => self.shared.resolve(seq, Err(error)),
                Job::Signal(message) => self.shared.handlers.signal(message),
                Job::Update(id, message) => self.shared.handlers.keep_update(id, message),
            }
        }
        // Handlers that are there hear of updates before the body goes on; others may be put there by the body.
        self.dispatch_updates(false);
        self.run();
        if self.root.is_some() && self.dispatch_updates(true) {
            self.run();
        }
        self.shared.take_commands()
    }

    /// Answers a question. Nothing changes by it.
    pub(crate) fn query(&self, name: &str, input: &str) -> Result<String> {
        self.shared.query(|| self.shared.handlers.query(name, input))
    }

    /// Hands updates to their handlers. Those without one wait, unless it is their `last` chance. Whether there were any.
    fn dispatch_updates(&self, last: bool) -> bool {
        let (shared, handlers) = (&self.shared, &self.shared.handlers);
        let updates = handlers.take_updates();
        let any = !updates.is_empty();
        for (id, message) in updates {
            let Some(handler) = handlers.update_handler(&message.name) else {
                if last {
                    let text =
                        format!("the workflow has put no handler in place for the update `{}`", message.name);
                    let error = Error::new(Error::NOT_FOUND, text).non_retryable();
                    shared.command(Command::UpdateRejected(id, error));
                } else {
                    handlers.keep_update(id, message);
                }
                continue;
            };
            match handler(message) {
                Err(error) => shared.command(Command::UpdateRejected(id, error)),
                Ok(answer) => {
                    shared.command(Command::UpdateAccepted(id.clone()));
                    let end = Rc::downgrade(shared);
                    shared.spawn(Box::pin(async move {
                        let outcome = answer.await;
                        if let Some(shared) = end.upgrade() {
                            shared.command(Command::UpdateCompleted(id, outcome));
                        }
                    }));
                }
            }
        }
        any
    }

    fn begin(&mut self) {
        let Some((start, input)) = self.start.take() else { return };
        match start(&self.shared.workflow, Workflow::new(self.shared.clone()), &input) {
            Ok(run) => {
                let waker = TaskWaker::new(ROOT, &self.ready);
                waker.wake_by_ref();
                self.root = Some((run, waker));
            }
            Err(error) => self.end(Err(error)),
        }
    }

    fn run(&mut self) {
        self.drain();
        // Anything that ran may have made a condition true, and whoever waited for it may do so again.
        while self.root.is_some() {
            let before = self.shared.fulfilled();
            if !self.shared.wake_conditions() {
                break;
            }
            self.drain();
            if self.shared.fulfilled() == before {
                break;
            }
        }
    }

    fn drain(&mut self) {
        self.adopt();
        while let Some(id) = self.ready.pop() {
            if id == ROOT {
                let Some((run, waker)) = &mut self.root else { continue };
                waker.queued.store(false, Ordering::Relaxed);
                let std_waker = Waker::from(waker.clone());
                if let Poll::Ready(output) = run.as_mut().poll(&mut Context::from_waker(&std_waker)) {
                    self.end(output);
                    return;
                }
            } else if let Some(task) = self.tasks.get_mut(&id) {
                task.waker.queued.store(false, Ordering::Relaxed);
                let std_waker = Waker::from(task.waker.clone());
                let shields = u32::from(task.shielded);
                self.shared.shields.set(shields);
                let poll = task.future.as_mut().poll(&mut Context::from_waker(&std_waker));
                self.shared.shields.set(0);
                if poll.is_ready() {
                    self.tasks.remove(&id);
                }
            }
            self.adopt();
        }
    }

    /// Makes tasks of what was spawned.
    fn adopt(&mut self) {
        for spawned in self.shared.take_spawned() {
            let id = self.next_task;
            self.next_task += 1;
            let waker = TaskWaker::new(id, &self.ready);
            waker.wake_by_ref();
            self.tasks.insert(id, Task { future: spawned.future, shielded: spawned.shielded, waker });
        }
    }

    fn end(&mut self, output: Result<String>) {
        // Dropping the finished body may still give up operations; those come before the last command.
        self.root = None;
        self.shared.command(match output {
            Ok(output) => Command::Complete(output),
            Err(error) if error.next_run().is_some() => {
                Command::ContinueAsNew(error.next_run().unwrap_or_default().to_owned())
            }
            Err(error) if error.is_cancelled() && self.shared.is_cancelled() => Command::Cancelled,
            Err(error) => Command::Fail(error),
        });
        self.shared.close();
        drop(self.shared.take_spawned());
        self.tasks.clear();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The run goes on elsewhere: what is dropped with this instance is not given up.
        self.shared.close();
        // Handlers hold what holds them.
        self.shared.handlers.clear();
    }
}

#[derive(Default)]
struct Ready(Mutex<VecDeque<u64>>);

impl Ready {
    fn push(&self, id: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(id);
    }

    fn pop(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

struct TaskWaker {
    id: u64,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl TaskWaker {
    fn new(id: u64, ready: &Arc<Ready>) -> Arc<Self> {
        Arc::new(Self { id, queued: AtomicBool::new(false), ready: ready.clone() })
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.push(self.id);
        }
    }
}
