//! Futures that a workflow waits for. Each asks the host when it is first polled; dropping one under way gives it up.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::{protocol::Request, shared::Shared};
use crate::{ActivityOptions, Error, Result, RetryPolicy, tools::parse};

/// Any operation, with the JSON text that it gives.
pub(crate) struct Operation {
    shared: Rc<Shared>,
    stage: Stage,
    /// Goes on when the execution is cancelled, whoever polls it.
    pub(crate) always_shielded: bool,
}

enum Stage {
    New(Result<Request>),
    Begun(u32),
    Ended,
}

impl Operation {
    pub(crate) fn new(shared: Rc<Shared>, request: Result<Request>) -> Self {
        Self { shared, stage: Stage::New(request), always_shielded: false }
    }

    /// What will be asked of the host, as long as it was not.
    pub(crate) fn request(&mut self) -> Option<&mut Request> {
        match &mut self.stage {
            Stage::New(Ok(request)) => Some(request),
            _ => None,
        }
    }

    /// Begins it, and is ready when a child has begun.
    pub(crate) fn poll_started(&mut self, cx: &mut Context<'_>) -> Poll<Result<String>> {
        if let Stage::New(_) = self.stage
            && let Poll::Ready(outcome) = Pin::new(&mut *self).poll(cx)
        {
            return Poll::Ready(outcome);
        }
        let Stage::Begun(seq) = self.stage else { return Poll::Pending };
        match self.shared.poll_started(seq, cx.waker()) {
            Some(Err(error)) => {
                self.stage = Stage::Ended;
                Poll::Ready(Err(error))
            }
            Some(Ok(id)) => Poll::Ready(Ok(id)),
            None => Poll::Pending,
        }
    }
}

impl Future for Operation {
    type Output = Result<String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<String>> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::New(request) => {
                let shielded = self.always_shielded || self.shared.is_shielded();
                let begun =
                    request.and_then(|request| self.shared.begin(request, shielded, cx.waker().clone()));
                match begun {
                    Ok(seq) => {
                        self.stage = Stage::Begun(seq);
                        Poll::Pending
                    }
                    Err(error) => Poll::Ready(Err(error)),
                }
            }
            Stage::Begun(seq) => match self.shared.poll(seq, cx.waker()) {
                Some(outcome) => Poll::Ready(outcome),
                None => {
                    self.stage = Stage::Begun(seq);
                    Poll::Pending
                }
            },
            Stage::Ended => Poll::Pending,
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Stage::Begun(seq) = self.stage {
            self.shared.abandon(seq);
        }
    }
}

/// A call of an activity: options may be set until it is awaited.
#[must_use = "an activity is scheduled when its call is awaited"]
pub struct ActivityCall<O> {
    operation: Operation,
    output: PhantomData<fn() -> O>,
}

impl<O> ActivityCall<O> {
    pub(crate) fn new(shared: Rc<Shared>, name: &'static str, input: Result<String>) -> Self {
        let request =
            input.map(|input| Request::Activity { name, input, options: ActivityOptions::default() });
        Self { operation: Operation::new(shared, request), output: PhantomData }
    }

    /// Limits this call. What is `None` in `options` stays as the activity's definition says.
    pub fn options(mut self, options: ActivityOptions) -> Self {
        if let Some(slot) = self.slot() {
            *slot = options;
        }
        self
    }

    /// Limits how long an attempt waits until it runs.
    pub fn schedule_to_start(mut self, limit: Duration) -> Self {
        if let Some(options) = self.slot() {
            options.schedule_to_start = Some(limit);
        }
        self
    }

    /// Limits one attempt, from its start.
    pub fn start_to_close(mut self, limit: Duration) -> Self {
        if let Some(options) = self.slot() {
            options.start_to_close = Some(limit);
        }
        self
    }

    /// Limits all attempts and the waits between them.
    pub fn schedule_to_close(mut self, limit: Duration) -> Self {
        if let Some(options) = self.slot() {
            options.schedule_to_close = Some(limit);
        }
        self
    }

    /// Limits the silence between two heartbeats.
    pub fn heartbeat(mut self, limit: Duration) -> Self {
        if let Some(options) = self.slot() {
            options.heartbeat = Some(limit);
        }
        self
    }

    /// Tries again by another policy than the activity's own.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        if let Some(options) = self.slot() {
            options.retry = Some(policy);
        }
        self
    }

    fn slot(&mut self) -> Option<&mut ActivityOptions> {
        match self.operation.request() {
            Some(Request::Activity { options, .. }) => Some(options),
            _ => None,
        }
    }
}

impl<O: DeserializeOwned> Future for ActivityCall<O> {
    type Output = Result<O>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<O>> {
        Pin::new(&mut self.operation).poll(cx).map(|outcome| {
            serde_json::from_str(&outcome?).map_err(|error| {
                Error::new(
                    Error::INVALID_OUTPUT,
                    format!("the activity's output is not what the workflow expects: {error}"),
                )
                .non_retryable()
            })
        })
    }
}

/// An operation whose answer the host makes.
#[must_use = "it begins when it is awaited"]
pub struct HostCall<T> {
    operation: Operation,
    output: PhantomData<fn() -> T>,
}

impl<T> HostCall<T> {
    pub(crate) fn new(shared: Rc<Shared>, request: Result<Request>) -> Self {
        Self { operation: Operation::new(shared, request), output: PhantomData }
    }
}

impl<T: DeserializeOwned> Future for HostCall<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        Pin::new(&mut self.operation).poll(cx).map(|outcome| parse(&outcome?))
    }
}

/// A durable timer.
#[must_use = "a timer starts when it is awaited"]
pub struct Sleep(pub(crate) Operation);

impl Future for Sleep {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll(cx).map(|outcome| outcome.map(drop))
    }
}
