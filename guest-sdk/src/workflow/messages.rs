//! What a workflow does about messages.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use super::{Workflow, declared::Kind, protocol::Message};
use crate::{Error, Query, Result, Sent, Signal, Update, log, schema};

impl Workflow {
    /// The next signal `S`, in the order in which they came; those that came before are kept until somebody takes them.
    ///
    /// # Errors
    /// [`Error::CANCELLED`] when the execution is cancelled, unless it is [shielded](Workflow::shield).
    pub async fn signal<S: Signal>(&self) -> Result<S::Input> {
        Ok(self.signal_sent::<S>().await?.value)
    }

    /// The same, with who sent it.
    ///
    /// # Errors
    /// As [`Workflow::signal`].
    pub async fn signal_sent<S: Signal>(&self) -> Result<Sent<S::Input>> {
        self.uses(Kind::Signal, S::NAME);
        let mut cancelled = self.cancelled();
        poll_fn(|cx| {
            if let Some(sent) = self.try_signal::<S>() {
                return Poll::Ready(Ok(sent));
            }
            if !self.shared.is_shielded()
                && let Poll::Ready(reason) = Pin::new(&mut cancelled).poll(cx)
            {
                return Poll::Ready(Err(Error::cancelled(&reason)));
            }
            self.shared.handlers.await_signal(S::NAME, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// A signal `S` that has come and that nobody has taken.
    pub fn try_signal<S: Signal>(&self) -> Option<Sent<S::Input>> {
        self.uses(Kind::Signal, S::NAME);
        loop {
            if let Some(sent) = read::<S>(self.shared.handlers.take_signal(S::NAME)?) {
                return Some(sent);
            }
        }
    }

    /// Calls `handler` with each signal `S`, those that came before first. It runs before the workflow's body goes on.
    pub fn on_signal<S: Signal>(&self, handler: impl Fn(Sent<S::Input>) + 'static) {
        self.uses(Kind::Signal, S::NAME);
        let handler = move |message| {
            if let Some(sent) = read::<S>(message) {
                handler(sent);
            }
        };
        self.shared.handlers.on_signal(S::NAME, Rc::new(handler));
    }

    /// Answers the query `Q` from now on, also when the workflow has ended. The handler may look at everything and change
    /// nothing.
    pub fn on_query<Q: Query>(&self, handler: impl Fn(Q::Input) -> Result<Q::Output> + 'static) {
        self.uses(Kind::Query, Q::NAME);
        let handler = move |input: &str| {
            let input = schema::read_workflow_input(Q::PARAMETER, input)?;
            schema::write_plain(&handler(input)?)
        };
        self.shared.handlers.on_query(Q::NAME, Rc::new(handler));
    }

    /// Carries out the update `U` from now on. Whoever sent it waits for the answer; an error of the handler is one. Put
    /// handlers in place before the first `.await`: an update that finds none is rejected.
    pub fn on_update<U, F>(&self, handler: impl Fn(Sent<U::Input>) -> F + 'static)
    where
        U: Update,
        F: Future<Output = Result<U::Output>> + 'static,
    {
        self.on_valid_update::<U, F>(|_| Ok(()), handler);
    }

    /// The same for updates that `validate` lets pass; the others are rejected with its error, and change nothing. It may
    /// look at everything and change nothing.
    pub fn on_valid_update<U, F>(
        &self,
        validate: impl Fn(&Sent<U::Input>) -> Result<()> + 'static,
        handler: impl Fn(Sent<U::Input>) -> F + 'static,
    ) where
        U: Update,
        F: Future<Output = Result<U::Output>> + 'static,
    {
        self.uses(Kind::Update, U::NAME);
        let shared = Rc::downgrade(&self.shared);
        let handler = move |message: Message| {
            let value = schema::read_workflow_input(U::PARAMETER, &message.input)?;
            let sent = Sent { value, sender: message.sender };
            match shared.upgrade() {
                Some(shared) => shared.query(|| validate(&sent))?,
                None => validate(&sent)?,
            }
            let answer = handler(sent);
            let answer: Pin<Box<dyn Future<Output = Result<String>>>> =
                Box::pin(async move { schema::write_plain(&answer.await?) });
            Ok(answer)
        };
        self.shared.handlers.on_update(U::NAME, Rc::new(handler));
    }
}

/// The host has checked it against the schema; if it is not a value of the type after all, there is nobody to tell.
fn read<S: Signal>(message: Message) -> Option<Sent<S::Input>> {
    match schema::read_workflow_input(S::PARAMETER, &message.input) {
        Ok(value) => Some(Sent { value, sender: message.sender }),
        Err(error) => {
            log::warn!("a signal `{}` was left out: {error}", S::NAME);
            None
        }
    }
}
