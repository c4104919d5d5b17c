//! Futures that run beside the workflow's body.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::Workflow;

impl Workflow {
    /// Runs `future` beside the others, first when the current one waits. Dropping the handle lets it go on;
    /// [`JoinHandle::abort`] stops it. It ends with the workflow at the latest.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        let state = Rc::new(RefCell::new(State::Running {
            future: Some(Box::pin(future)),
            task: None,
            waiter: None,
        }));
        self.shared.spawn(Box::pin(Spawned(state.clone())));
        JoinHandle(state)
    }
}

/// What [`Workflow::spawn`] started: waits for its output, or stops it.
pub struct JoinHandle<T>(Rc<RefCell<State<T>>>);

impl<T> JoinHandle<T> {
    /// Drops the future where it stands, which gives up what it waits for: its timers and activities are cancelled. Does
    /// nothing if it has ended.
    pub fn abort(self) {
        stop(&self.0);
    }

    /// Whether it has ended, so that awaiting it takes no time.
    pub fn is_finished(&self) -> bool {
        matches!(&*self.0.borrow(), State::Ended(_))
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.borrow_mut();
        match &mut *state {
            State::Ended(output) => output.take().map_or(Poll::Pending, Poll::Ready),
            State::Running { waiter, .. } => {
                *waiter = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Stopped => Poll::Pending,
        }
    }
}

type Body<T> = Pin<Box<dyn Future<Output = T>>>;

enum State<T> {
    Running {
        /// None while it is being polled.
        future: Option<Body<T>>,
        /// The task that polls it.
        task: Option<Waker>,
        /// Whoever waits for its end.
        waiter: Option<Waker>,
    },
    /// With its output, until somebody takes it.
    Ended(Option<T>),
    /// Aborted, or the workflow has ended before it.
    Stopped,
}

/// Drops the future, unless it has ended.
fn stop<T>(state: &Rc<RefCell<State<T>>>) {
    let before = {
        let mut state = state.borrow_mut();
        if matches!(&*state, State::Ended(_)) {
            return;
        }
        std::mem::replace(&mut *state, State::Stopped)
    };
    // What is dropped may look at the handle, so nothing is borrowed here.
    if let State::Running { future, task, .. } = before {
        drop(future);
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// The task's end of it.
struct Spawned<T>(Rc<RefCell<State<T>>>);

impl<T> Future for Spawned<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let taken = match &mut *self.0.borrow_mut() {
            State::Running { future, task, .. } => {
                *task = Some(cx.waker().clone());
                future.take()
            }
            State::Ended(_) | State::Stopped => None,
        };
        let Some(mut body) = taken else { return Poll::Ready(()) };
        let polled = body.as_mut().poll(cx);
        let mut state = self.0.borrow_mut();
        // It may have been aborted by itself.
        let State::Running { future, waiter, .. } = &mut *state else {
            drop(state);
            drop(body);
            return Poll::Ready(());
        };
        match polled {
            Poll::Pending => {
                *future = Some(body);
                Poll::Pending
            }
            Poll::Ready(output) => {
                let waiter = waiter.take();
                *state = State::Ended(Some(output));
                drop(state);
                drop(body);
                if let Some(waiter) = waiter {
                    waiter.wake();
                }
                Poll::Ready(())
            }
        }
    }
}

impl<T> Drop for Spawned<T> {
    fn drop(&mut self) {
        // The handle may live on in a handler of queries.
        stop(&self.0);
    }
}
