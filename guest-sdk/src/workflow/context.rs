//! [`Workflow`]: what the body of a workflow works with.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use serde::Serialize;
use serde_json::Value;

use super::{
    operation::{ActivityCall, HostCall, Operation, Sleep},
    protocol::Request,
    shared::Shared,
};
use crate::{Activity, Authorised, Error, Result, Slot, Task, TaskEvent, event, schema};

/// The running workflow and its host. Cheap to clone.
///
/// Everything that takes time is asked of the host when it is first polled, in an order that is the same in every
/// replay. When somebody cancels the execution, every operation that is under way ends with an error of kind
/// [`Error::CANCELLED`], and so does every later one that is not inside [`Workflow::shield`]; a workflow that hands that
/// error on with `?` ends as cancelled.
#[derive(Clone)]
pub struct Workflow {
    shared: Rc<Shared>,
}

impl Workflow {
    pub(crate) fn new(shared: Rc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs an activity of this plugin: `ctx.activity(charge, order).await?`. Its failure, after all retries, is the error.
    ///
    /// `activity` is the name of a function with `#[activity]`.
    pub fn activity<A: Activity>(&self, activity: fn() -> A, input: A::Input) -> ActivityCall<A::Output> {
        let _ = activity;
        ActivityCall::new(self.shared.clone(), A::NAME, schema::write_plain(&input))
    }

    /// Waits, for as long as it takes: nothing is held meanwhile.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep(self.timer(duration))
    }

    fn timer(&self, duration: Duration) -> Operation {
        // Rounded up, so that a timer never fires early.
        let duration_ms = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Operation::new(self.shared.clone(), Ok(Request::Timer { duration_ms }))
    }

    /// Gives `future` so much time.
    ///
    /// # Errors
    /// [`Error::TIMEOUT`] when the time is over; `future` is dropped then, which cancels what it waits for.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output> {
        let mut future = pin!(future);
        let mut timer = self.timer(limit);
        timer.always_shielded = true;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            Pin::new(&mut timer)
                .poll(cx)
                .map(|_| Err(Error::new(Error::TIMEOUT, format!("not done within {limit:?}"))))
        })
        .await
    }

    /// The time of the activation: it stands still while the workflow computes.
    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.shared.now_ms())
    }

    /// A number that looks random and is the same in every replay. Not for secrets.
    pub fn random(&self) -> u64 {
        self.shared.random()
    }

    /// A UUID of version 4 that is the same in every replay.
    pub fn uuid(&self) -> String {
        self.shared.uuid()
    }

    /// Calls a tool of the connector in slot `S` as a step of its own. The answer is as for
    /// [`Tools::call`](crate::Tools::call); see [`read_answer`](crate::read_answer).
    pub fn call_tool<S: Slot>(&self, tool: &str, arguments: impl Serialize) -> HostCall<Value> {
        let request = schema::write_plain(&arguments).map(|arguments| Request::Tool {
            slot: S::CONNECTOR,
            tool: tool.to_owned(),
            arguments,
        });
        HostCall::new(self.shared.clone(), request)
    }

    /// The tools of the connector in slot `S`.
    pub fn list_tools<S: Slot>(&self) -> HostCall<Vec<Value>> {
        HostCall::new(self.shared.clone(), Ok(Request::ListTools(S::CONNECTOR)))
    }

    /// Waits until the caller is authorised for slot `S`.
    pub fn await_auth<S: Slot>(&self) -> HostCall<Authorised> {
        HostCall::new(self.shared.clone(), Ok(Request::AwaitAuth(S::CONNECTOR)))
    }

    /// Shows an event to whoever follows the execution.
    pub fn emit(&self, event: TaskEvent) {
        self.shared.emit(event);
    }

    /// Shows `work` as a task: it starts with `state`, changes with [`Task::update`], and is completed or failed as
    /// `work` ends.
    ///
    /// # Errors
    /// Those of `work`, and of writing a state as JSON.
    pub async fn task<T>(
        &self,
        task_type: &str,
        state: impl Serialize,
        work: impl AsyncFnOnce(&Task<'_>) -> Result<T>,
    ) -> Result<T> {
        let emit = |event| {
            self.shared.emit(event);
            Ok(())
        };
        event::scope(self.uuid(), task_type, state, &emit, work).await
    }

    /// The id of the execution.
    pub fn execution_id(&self) -> &str {
        &self.shared.execution_id
    }

    /// The id of this run of it.
    pub fn run_id(&self) -> &str {
        &self.shared.run_id
    }

    /// The workflow's name.
    pub fn workflow(&self) -> &str {
        &self.shared.workflow
    }

    /// Whether somebody asked the execution to stop.
    pub fn is_cancelled(&self) -> bool {
        self.shared.is_cancelled()
    }

    /// Waits until somebody asks the execution to stop and gives their reason.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled { shared: self.shared.clone(), waiter: None }
    }

    /// Lets `future` and what it spawns go on when the execution is cancelled: for compensation.
    ///
    /// ```
    /// # use airlock_sdk as airlock;
    /// # async fn example(ctx: airlock::Workflow) -> airlock::Result<()> {
    /// # async fn reserve() -> airlock::Result<()> { Ok(()) }
    /// # async fn release() -> airlock::Result<()> { Ok(()) }
    /// if let Err(error) = reserve().await {
    ///     ctx.shield(release()).await?;
    ///     return Err(error);
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn shield<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.shared.shields.update(|shields| shields + 1);
            let poll = future.as_mut().poll(cx);
            self.shared.shields.update(|shields| shields - 1);
            poll
        })
        .await
    }

    /// Runs `future` beside the others, first when the current one waits. Dropping the handle lets it go on; it ends with
    /// the workflow at the latest.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        let join = Rc::new(RefCell::new(Join { output: None, waker: None }));
        let end = join.clone();
        self.shared.spawn(Box::pin(async move {
            let output = future.await;
            let waker = {
                let mut join = end.borrow_mut();
                join.output = Some(output);
                join.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }));
        JoinHandle(join)
    }
}

/// See [`Workflow::cancelled`].
#[must_use = "it waits when it is awaited"]
pub struct Cancelled {
    shared: Rc<Shared>,
    waiter: Option<u64>,
}

impl Future for Cancelled {
    type Output = String;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<String> {
        if let Some(reason) = self.shared.cancel_reason() {
            return Poll::Ready(reason);
        }
        let mut waiter = self.waiter;
        self.shared.wait_for_cancel(&mut waiter, cx.waker());
        self.waiter = waiter;
        Poll::Pending
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some(id) = self.waiter {
            self.shared.stop_waiting_for_cancel(id);
        }
    }
}

/// Waits for what [`Workflow::spawn`] started.
pub struct JoinHandle<T>(Rc<RefCell<Join<T>>>);

struct Join<T> {
    output: Option<T>,
    waker: Option<Waker>,
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut join = self.0.borrow_mut();
        match join.output.take() {
            Some(output) => Poll::Ready(output),
            None => {
                join.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
