//! [`Workflow`]: what the body of a workflow works with.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, TryStreamExt, future::Either, stream};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    ChildCall,
    declared::{Declared, Kind},
    operation::{ActivityCall, HostCall, Operation, Sleep},
    protocol::{Command, Request, SearchValue},
    shared::{NextInput, Shared},
};
use crate::{
    Activity, Authorised, Error, Result, Signal, Slot, Task, TaskEvent, ToolCall, WorkflowFn, event, schema,
};

/// The running workflow and its host. Cheap to clone.
///
/// Everything that takes time is asked of the host when it is first polled, in an order that is the same in every
/// replay. When somebody cancels the execution, every operation that is under way ends with an error of kind
/// [`Error::CANCELLED`], and so does every later one that is not inside [`Workflow::shield`]; a workflow that hands that
/// error on with `?` ends as cancelled.
#[derive(Clone)]
pub struct Workflow {
    pub(super) shared: Rc<Shared>,
}

impl Workflow {
    pub(crate) fn new(shared: Rc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn set_declared(&self, declared: Declared) {
        self.shared.declared.set(declared);
    }

    /// Says so when the running workflow uses a handler that nobody can reach.
    pub(super) fn uses(&self, kind: Kind, name: &str) {
        self.shared.uses(kind, name);
    }

    /// What makes the input of a next run from the plain JSON of a value.
    pub(crate) fn set_next_input(&self, make: NextInput) {
        self.shared.next_input.set(Some(make));
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

    /// Calls a tool of the connector in slot `S` as a step of its own:
    /// `ctx.call_tool::<Github>("star", arguments).retries(2).await?`. The answer is as for
    /// [`Tools::call`](crate::Tools::call).
    pub fn call_tool<S: Slot>(&self, tool: &str, arguments: impl Serialize) -> ToolCall {
        ToolCall::step::<S>(self.shared.clone(), tool, &arguments)
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

    /// The execution that started this one as its child.
    pub fn parent(&self) -> Option<&str> {
        self.shared.parent.as_deref()
    }

    /// 1, and more when the run before failed and the workflow's retry policy tries it again.
    pub fn attempt(&self) -> u32 {
        self.shared.attempt
    }

    /// Starts a workflow of this plugin as a child: `ctx.child(ship, order).await?` gives its result.
    ///
    /// `workflow` is the name of a function with `#[workflow]`.
    pub fn child<W: WorkflowFn>(&self, workflow: fn() -> W, input: W::Input) -> ChildCall<W::Output>
    where
        W::Input: Serialize,
        W::Output: DeserializeOwned,
    {
        let _ = workflow;
        let input = schema::write_workflow_input(W::PARAMETER, &input);
        ChildCall::new(self.shared.clone(), W::NAME, input, schema::read_workflow_output)
    }

    /// Starts a workflow of any plugin as a child, by its name. The input makes a JSON object, as its schema says.
    ///
    /// An output that is an object with the one member `result` is read as what stands there, unless an `O` is always an
    /// object.
    pub fn child_named<O: DeserializeOwned>(&self, workflow: &str, input: impl Serialize) -> ChildCall<O> {
        ChildCall::new(self.shared.clone(), workflow, schema::write_plain(&input), schema::read_any_output)
    }

    /// Sends a signal to another execution of the same user. It is heard once, whatever crashes.
    ///
    /// # Errors
    /// [`Error::NOT_FOUND`] if the user has no such execution or it takes no such signal, [`Error::ENDED`],
    /// [`Error::INVALID_INPUT`].
    pub fn signal_execution<S: Signal>(&self, execution_id: &str, input: &S::Input) -> HostCall<()> {
        super::child::signal::<S>(&self.shared, execution_id, input)
    }

    /// Asks another execution of the same user to stop.
    ///
    /// # Errors
    /// [`Error::NOT_FOUND`], [`Error::ENDED`].
    pub fn cancel_execution(&self, execution_id: &str, reason: &str) -> HostCall<()> {
        let request =
            Request::CancelExecution { execution_id: execution_id.to_owned(), reason: reason.to_owned() };
        HostCall::new(self.shared.clone(), Ok(request))
    }

    /// Ends this run, and lets another one of the same execution begin with `input` and an empty history:
    /// `return ctx.continue_as_new(state);`. `input` is of the type that the workflow takes. What was spawned ends; children go on. Signals that came and were not taken
    /// are lost: take them first, see [`Workflow::try_signal`].
    ///
    /// # Errors
    /// Always: what a workflow has to return to continue as new. [`Error::INVALID_INPUT`] when `input` is nothing that the
    /// workflow takes, also when it cannot be written as JSON.
    pub fn continue_as_new<T>(&self, input: impl Serialize) -> Result<T> {
        let text = schema::write_plain(&input)?;
        let make = self.shared.next_input.get().unwrap_or(Ok);
        Err(Error::continue_as_new(make(text)?))
    }

    /// Whether the history grows long (10,000 events or 10 MB), so that a workflow that goes on and on had better
    /// [continue as new](Workflow::continue_as_new). At 50,000 events or 50 MB the host ends it.
    pub fn should_continue_as_new(&self) -> bool {
        self.shared.continue_as_new_suggested()
    }

    /// Events in the history before this turn.
    pub fn history_events(&self) -> u64 {
        self.shared.history_events()
    }

    /// Whether executions that began with older code go the new way here:
    ///
    /// ```
    /// # use airlock_sdk as airlock;
    /// # async fn example(ctx: airlock::Workflow) {
    /// if ctx.patched("charge-before-shipping") {
    ///     // the new way
    /// } else {
    ///     // the old way, for what has been done already
    /// }
    /// # }
    /// ```
    ///
    /// False while what happened under the older code is repeated, and true from then on: a loop goes the new way from its
    /// next turn. New executions go the new way from the start. When no execution needs the old way any more, remove it.
    pub fn patched(&self, id: &str) -> bool {
        self.shared.patched(id)
    }

    /// Sets a search key, which lists of executions can be filtered by. At most 20 an execution; values are cut at 8,192
    /// characters.
    ///
    /// # Errors
    /// [`Error::INVALID_INPUT`] if the name has not 1 to 256 characters, contains `:`, ends in `=`, has spaces around it, or
    /// begins with `internal.`.
    pub fn set_search_key(&self, name: &str, value: impl ToString) -> Result<()> {
        self.search_key(name, SearchValue::Text(value.to_string()))
    }

    /// Removes a search key.
    ///
    /// # Errors
    /// As [`Workflow::set_search_key`].
    pub fn remove_search_key(&self, name: &str) -> Result<()> {
        self.search_key(name, SearchValue::Removed)
    }

    fn search_key(&self, name: &str, value: SearchValue) -> Result<()> {
        if !is_search_key(name) {
            return Err(Error::invalid_input(format!("{name:?} cannot be the name of a search key")));
        }
        self.shared.command(Command::SearchKeys(vec![(name.to_owned(), value)]));
        Ok(())
    }

    /// Runs `work` for each item, at most `limit` at once, and gives the results in the order of the items. The first
    /// error ends it, and gives up what is under way.
    ///
    /// # Errors
    /// The first one of `work`.
    pub async fn parallel<I, F, T>(
        &self,
        items: impl IntoIterator<Item = I>,
        limit: usize,
        work: impl FnMut(I) -> F,
    ) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T>>,
    {
        stream::iter(items).map(work).buffered(limit.max(1)).try_collect().await
    }

    /// Waits until `condition` is true. It is looked at again whenever anything has happened in the workflow.
    ///
    /// # Errors
    /// [`Error::CANCELLED`] when the execution is cancelled, unless it is [shielded](Workflow::shield).
    pub async fn wait_until(&self, condition: impl Fn() -> bool) -> Result<()> {
        let mut cancelled = self.cancelled();
        poll_fn(|cx| {
            if condition() {
                self.shared.condition_is_true();
                return Poll::Ready(Ok(()));
            }
            if !self.shared.is_shielded()
                && let Poll::Ready(reason) = Pin::new(&mut cancelled).poll(cx)
            {
                return Poll::Ready(Err(Error::cancelled(&reason)));
            }
            self.shared.await_condition(cx.waker());
            Poll::Pending
        })
        .await
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

    /// Waits for whichever of two futures ends first; the other one is dropped, which gives up what it waits for. When both
    /// have ended, it is the first one. Neither needs to be pinned; one that is to go on is given as `&mut`.
    ///
    /// ```
    /// # use airlock_sdk as airlock;
    /// # use std::time::Duration;
    /// # airlock::signal!(Paid() = "paid");
    /// # async fn example(ctx: airlock::Workflow) -> airlock::Result<()> {
    /// match ctx.race(ctx.signal::<Paid>(), ctx.sleep(Duration::from_secs(86_400))).await {
    ///     airlock::Either::Left(paid) => paid?,
    ///     airlock::Either::Right(slept) => slept?, // nobody has paid for a day
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn race<A: Future, B: Future>(&self, first: A, second: B) -> Either<A::Output, B::Output> {
        let (mut first, mut second) = (pin!(first), pin!(second));
        poll_fn(|cx| {
            if let Poll::Ready(output) = first.as_mut().poll(cx) {
                return Poll::Ready(Either::Left(output));
            }
            second.as_mut().poll(cx).map(Either::Right)
        })
        .await
    }
}

/// Whether a search key may have this name.
pub(crate) fn is_search_key(name: &str) -> bool {
    (1..=256).contains(&name.chars().count())
        && name.trim() == name
        && !name.contains(':')
        && !name.ends_with('=')
        && !name.starts_with("internal.")
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
