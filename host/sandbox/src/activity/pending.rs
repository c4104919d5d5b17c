//! `tools.pending`: a call under way.

use airlock_engine::{Failure, Json};
use tokio::{sync::oneshot, task::AbortHandle};
use wasmtime_wasi_io::poll::Pollable;

type Answer = Result<Json, Failure>;

/// A call that runs in a task of its own. Dropping it stops the task.
// The generated bindings re-export it, so it cannot be `pub(crate)`; the module is.
#[allow(unreachable_pub)]
pub struct Pending {
    task: Option<AbortHandle>,
    state: State,
}

enum State {
    Running(oneshot::Receiver<Answer>),
    Answered(Answer),
    Taken,
}

impl Pending {
    /// Starts the call.
    pub(crate) fn start(call: impl Future<Output = Answer> + Send + 'static) -> Self {
        let (sender, receiver) = oneshot::channel();
        let task = tokio::spawn(async move {
            // Nobody listens any more when the guest has dropped the call; the task is about to be stopped then.
            let _ = sender.send(call.await);
        });
        Self { task: Some(task.abort_handle()), state: State::Running(receiver) }
    }

    /// A call that was answered without being made.
    pub(crate) fn answered(answer: Answer) -> Self {
        Self { task: None, state: State::Answered(answer) }
    }

    /// The answer once, when it is there.
    pub(crate) fn take(&mut self) -> Option<Answer> {
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Answered(answer) => Some(answer),
            State::Taken => None,
            State::Running(mut receiver) => match receiver.try_recv() {
                Ok(answer) => Some(answer),
                Err(oneshot::error::TryRecvError::Closed) => Some(Err(died())),
                Err(oneshot::error::TryRecvError::Empty) => {
                    self.state = State::Running(receiver);
                    None
                }
            },
        }
    }
}

fn died() -> Failure {
    Failure::retryable(Failure::CONNECTOR, "the call was interrupted inside the host; its log says why")
}

#[async_trait::async_trait]
impl Pollable for Pending {
    async fn ready(&mut self) {
        if let State::Running(receiver) = &mut self.state {
            let answer = receiver.await.unwrap_or_else(|_| Err(died()));
            self.state = State::Answered(answer);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn the_answer_is_given_once() {
        let mut pending = Pending::start(async { Ok(Json::null()) });
        pending.ready().await;
        assert_eq!(pending.take(), Some(Ok(Json::null())));
        assert_eq!(pending.take(), None);
        pending.ready().await;
    }

    #[tokio::test]
    async fn dropping_it_stops_the_call() {
        let alive = Arc::new(());
        let inside = alive.clone();
        let mut pending = Pending::start(async move {
            std::future::pending::<()>().await;
            drop(inside);
            Ok(Json::null())
        });
        assert_eq!(pending.take(), None);
        drop(pending);
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
