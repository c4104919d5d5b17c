//! Workflows that a workflow starts.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    HostCall, ParentClose,
    operation::Operation,
    protocol::{self, Request},
    shared::Shared,
};
use crate::{Result, RetryPolicy, Signal, schema};

/// A child workflow: options may be set until it is awaited, for its result, or started with [`ChildCall::start`].
///
/// Dropping it under way asks the child to stop, unless it is one to [abandon](ParentClose::Abandon).
#[must_use = "a child begins when its call is awaited or started"]
pub struct ChildCall<O> {
    shared: Rc<Shared>,
    operation: Operation,
    read: Read<O>,
}

/// Reads an output.
type Read<O> = fn(&str) -> Result<O>;

impl<O> ChildCall<O> {
    pub(crate) fn new(shared: Rc<Shared>, workflow: &str, input: Result<String>, read: Read<O>) -> Self {
        let request = input.map(|input| {
            Request::Child(Box::new(protocol::Child {
                workflow: workflow.to_owned(),
                execution_id: None,
                input,
                close: ParentClose::default(),
                execution_timeout: None,
                retry: None,
                await_start: false,
            }))
        });
        Self { operation: Operation::new(shared.clone(), request), shared, read }
    }

    fn child(&mut self) -> Option<&mut protocol::Child> {
        match self.operation.request() {
            Some(Request::Child(child)) => Some(child),
            _ => None,
        }
    }

    /// Gives the child an execution id: 1 to 256 of `A-Z`, `a-z`, `0-9`, `_`, `-`. Without one the host derives it.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        if let Some(child) = self.child() {
            child.execution_id = Some(id.into());
        }
        self
    }

    /// What becomes of it when this workflow ends first, however that comes: completed, failed, cancelled, terminated, timed
    /// out, tried again or reset. Default: [`ParentClose::RequestCancel`], so that it can clean up.
    pub fn parent_close(mut self, policy: ParentClose) -> Self {
        if let Some(child) = self.child() {
            child.close = policy;
        }
        self
    }

    /// Limits it from start to end, instead of as its definition says.
    pub fn execution_timeout(mut self, limit: Duration) -> Self {
        if let Some(child) = self.child() {
            child.execution_timeout = Some(limit);
        }
        self
    }

    /// Tries it again when it fails, instead of as its definition says.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        if let Some(child) = self.child() {
            child.retry = Some(policy);
        }
        self
    }

    /// Starts it, and waits only until it has begun.
    ///
    /// # Errors
    /// It cannot be started: an unknown workflow, an input that does not fit, an id that is taken.
    pub async fn start(mut self) -> Result<Child<O>> {
        if let Some(child) = self.child() {
            child.await_start = true;
        }
        let Self { shared, mut operation, read } = self;
        let execution_id = poll_fn(|cx| operation.poll_started(cx)).await?;
        Ok(Child { shared, operation, execution_id, read })
    }
}

impl<O> Future for ChildCall<O> {
    type Output = Result<O>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<O>> {
        Pin::new(&mut self.operation).poll(cx).map(|outcome| (self.read)(&outcome?))
    }
}

/// A child that has begun. Awaiting it gives its result; dropping it asks it to stop, unless it is one to
/// [abandon](ParentClose::Abandon).
#[must_use = "dropping a child asks it to stop"]
pub struct Child<O> {
    shared: Rc<Shared>,
    operation: Operation,
    execution_id: String,
    read: Read<O>,
}

impl<O> Child<O> {
    /// Its execution id.
    pub fn execution_id(&self) -> &str {
        &self.execution_id
    }

    /// Sends it a signal.
    pub fn signal<S: Signal>(&self, input: &S::Input) -> HostCall<()> {
        signal::<S>(&self.shared, &self.execution_id, input)
    }
}

impl<O> Future for Child<O> {
    type Output = Result<O>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<O>> {
        Pin::new(&mut self.operation).poll(cx).map(|outcome| (self.read)(&outcome?))
    }
}

/// A signal on its way to another execution.
pub(super) fn signal<S: Signal>(shared: &Rc<Shared>, execution_id: &str, input: &S::Input) -> HostCall<()> {
    let request = schema::write_workflow_input(S::PARAMETER, input).map(|input| Request::Signal {
        execution_id: execution_id.to_owned(),
        name: S::NAME.to_owned(),
        input,
    });
    HostCall::new(shared.clone(), request)
}
