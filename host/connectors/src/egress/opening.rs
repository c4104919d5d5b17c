//! When another connection to an origin is opened: if there are fewer than requests under way, at once; else one of them is
//! about to become free, and is waited for.
//!
//! The pool of hyper opens a connection whenever none is free at that moment, which is often the case right after an answer
//! was read. If then one becomes free, it is used, and the new one is opened all the same. So connections gather.
//! Here an attempt that nobody waits for any more ends.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tower::{BoxError, Layer, Service};
use url::Url;

/// So long one waits for a connection to become free. Longer means that some have been closed.
const PATIENCE: Duration = Duration::from_millis(10);

tokio::task_local! {
    /// The origin that the request of this task goes to; not there where hyper goes on connecting by itself.
    static BOUND_FOR: Arc<Traffic>;
}

/// The traffic with all origins.
#[derive(Clone, Default)]
pub(super) struct Origins(Arc<Mutex<HashMap<String, Arc<Traffic>>>>);

impl Origins {
    pub(super) fn of(&self, server: &Url) -> Arc<Traffic> {
        let mut all = self.0.lock();
        // Those that no sender is for any more.
        all.retain(|_, traffic| Arc::strong_count(traffic) > 1);
        Arc::clone(all.entry(server.origin().ascii_serialization()).or_default())
    }
}

/// The traffic with one origin.
#[derive(Default)]
pub(super) struct Traffic {
    /// Requests whose answers have not been read to their end.
    requests: AtomicUsize,
    /// Connections that were opened, or are being opened, without those that are known to be closed.
    connections: AtomicUsize,
}

/// A request is under way as long as this is there.
pub(super) struct UnderWay(Arc<Traffic>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Traffic {
    /// A request is about to be sent. Keep it until its answer has been read.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Takes a place for another connection, if there are fewer than requests.
    fn take(&self) -> bool {
        let requests = self.requests.load(Ordering::Relaxed);
        let more = |connections| (connections < requests).then_some(connections + 1);
        self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Takes a place although there seem to be enough connections: there are not.
    fn take_anyway(&self) {
        let requests = self.requests.load(Ordering::Relaxed);
        let counted = |connections: usize| Some(connections.min(requests.saturating_sub(1)) + 1);
        // It always gives a number.
        let _ = self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
    }

    fn give_back(&self) {
        let fewer = |connections: usize| connections.checked_sub(1);
        // There may have been none left to count.
        let _ = self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }
}

impl UnderWay {
    /// Sends the request.
    pub(super) async fn sending<F: Future>(&self, sent: F) -> F::Output {
        BOUND_FOR.scope(Arc::clone(&self.0), sent).await
    }
}

/// What stands before the connecting.
#[derive(Clone)]
pub(super) struct Gate;

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated(inner)
    }
}

#[derive(Clone)]
pub(super) struct Gated<S>(S);

impl<S, R> Service<R> for Gated<S>
where
    S: Service<R, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // What is ready is used, and a copy is left.
        let copy = self.0.clone();
        let mut inner = std::mem::replace(&mut self.0, copy);
        let traffic = BOUND_FOR.try_with(Arc::clone).ok();
        Box::pin(async move {
            let Some(traffic) = traffic else { return inner.call(request).await };
            wait(&traffic).await?;
            let opened = inner.call(request).await;
            if opened.is_err() {
                traffic.give_back();
            }
            opened
        })
    }
}

/// Waits until another connection makes sense. An error if the request got one meanwhile.
async fn wait(traffic: &Traffic) -> Result<(), BoxError> {
    let mut patience = pin!(tokio::time::sleep(PATIENCE));
    poll_fn(|context| {
        if BOUND_FOR.try_with(|_| ()).is_err() {
            return Poll::Ready(Err("the request got a connection that became free".into()));
        }
        if traffic.take() {
            return Poll::Ready(Ok(()));
        }
        patience.as_mut().poll(context).map(|()| {
            traffic.take_anyway();
            Ok(())
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connects at once, and counts.
    #[derive(Clone, Default)]
    struct Dial(Arc<AtomicUsize>);

    impl Service<()> for Dial {
        type Response = ();
        type Error = BoxError;
        type Future = std::future::Ready<Result<(), BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(()))
        }
    }

    fn gated() -> (Gated<Dial>, Arc<AtomicUsize>, Arc<Traffic>) {
        let dial = Dial::default();
        let dialled = Arc::clone(&dial.0);
        (Gate.layer(dial), dialled, Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_under_way_may_have_a_connection_at_once() {
        let (mut gated, dialled, traffic) = gated();
        let began = tokio::time::Instant::now();
        let requests: Vec<_> = (0..3).map(|_| traffic.begin()).collect();
        for request in &requests {
            request.sending(async { gated.call(()).await }).await.expect("connects");
        }
        assert_eq!((dialled.load(Ordering::Relaxed), began.elapsed()), (3, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_are_enough_one_is_waited_for_and_what_nobody_waits_for_ends() {
        let (mut gated, dialled, traffic) = gated();
        traffic.begin().sending(async { gated.call(()).await }).await.expect("connects");
        let request = traffic.begin();
        #[expect(clippy::async_yields_async, reason = "it is polled where nobody waits for it")]
        let mut attempt = request.sending(async { gated.call(()) }).await;
        let waits =
            request.sending(poll_fn(|context| Poll::Ready(attempt.as_mut().poll(context).is_pending())));
        assert!(waits.await);
        // Hyper has taken one that became free, and goes on with the attempt by itself.
        let ended = attempt.await.expect_err("is not needed any more");
        assert_eq!(ended.to_string(), "the request got a connection that became free");
        assert_eq!(dialled.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn where_none_becomes_free_another_is_opened_after_all() {
        let (mut gated, dialled, traffic) = gated();
        let requests: Vec<_> = (0..5).map(|_| traffic.begin()).collect();
        for request in &requests {
            request.sending(async { gated.call(()).await }).await.expect("connects");
        }
        drop(requests);
        // All have been closed meanwhile. The next find out, and the count is right again.
        let began = tokio::time::Instant::now();
        let (first, second) = (traffic.begin(), traffic.begin());
        let mut copy = gated.clone();
        let both = futures::join!(
            first.sending(async { gated.call(()).await }),
            second.sending(async { copy.call(()).await })
        );
        assert!(both.0.is_ok() && both.1.is_ok());
        let third = traffic.begin();
        third.sending(async { gated.call(()).await }).await.expect("connects");
        assert_eq!(dialled.load(Ordering::Relaxed), 8);
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < 2 * PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_request_asked_for_goes_through() {
        let (mut gated, dialled, _) = gated();
        gated.call(()).await.expect("connects");
        assert_eq!(dialled.load(Ordering::Relaxed), 1);
    }
}
