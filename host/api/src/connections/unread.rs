//! What of a request's body nobody read. The next request of the connection stands behind it: either all of it is read
//! and thrown away, or the answer says that the connection ends. A client that is told neither sends its next request into
//! a connection that is being closed.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{HeaderMap, header},
};
use futures::future::poll_fn;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::timeout;

/// So much is read and thrown away, and for so long.
const MOST: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(1);

/// The body of a request in the hands of whoever answers it.
pub(crate) struct Lent<B> {
    /// Here until this is dropped.
    body: Option<B>,
    asked: bool,
    place: Option<Arc<Mutex<State<B>>>>,
}

/// What is left of a body that was lent.
pub(crate) struct Rest<B> {
    place: Option<Arc<Mutex<State<B>>>>,
    /// The client sends the body when it is told to.
    waits: bool,
}

enum State<B> {
    /// Somebody has it.
    Lent,
    /// It came to its end.
    Whole,
    /// It cannot be read on.
    Broken,
    /// Nobody wants the rest of it. `asked`: somebody wanted the beginning.
    Back { body: B, asked: bool },
}

/// Lends the body of a request with these headers.
pub(crate) fn lend<B: Body>(body: B, headers: &HeaderMap) -> (Lent<B>, Rest<B>) {
    let place = (!body.is_end_stream()).then(|| Arc::new(Mutex::new(State::Lent)));
    let expects = headers.get(header::EXPECT);
    let waits = expects.is_some_and(|what| what.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    (Lent { body: Some(body), asked: false, place: place.clone() }, Rest { place, waits })
}

impl<B: Body> Lent<B> {
    fn is_now(&mut self, state: State<B>) {
        if let Some(place) = self.place.take() {
            *place.lock() = state;
        }
    }
}

impl<B> Drop for Lent<B> {
    fn drop(&mut self) {
        if let (Some(place), Some(body)) = (self.place.take(), self.body.take()) {
            *place.lock() = State::Back { body, asked: self.asked };
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Lent<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.asked = true;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(cx);
        match &frame {
            Poll::Ready(None) => self.is_now(State::Whole),
            Poll::Ready(Some(Err(_))) => self.is_now(State::Broken),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Rest<B> {
    /// Reads what nobody read, within bounds. Whether the body came to its end, so that the next request can follow.
    pub(crate) async fn read_off(self) -> bool {
        let Some(place) = self.place else { return true };
        let state = std::mem::replace(&mut *place.lock(), State::Lent);
        match state {
            State::Whole => true,
            State::Lent | State::Broken => false,
            // It has its answer and need not send the body any more, or it does: nobody knows what comes next.
            State::Back { asked: false, .. } if self.waits => false,
            State::Back { body, .. } => timeout(PATIENCE, is_thrown_away(body)).await.unwrap_or(false),
        }
    }
}

async fn is_thrown_away<B: Body<Data = Bytes> + Unpin>(mut body: B) -> bool {
    let mut bytes = 0;
    // What a length names is not begun if it is too much.
    while bytes + body.size_hint().lower() <= MOST {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use axum::body::Body as Any;
    use futures::stream;

    use super::*;

    fn pieces(count: usize, size: usize) -> Any {
        let piece = move |_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; size]));
        Any::from_stream(stream::iter((0..count).map(piece)))
    }

    fn expecting(what: &'static str) -> HeaderMap {
        [(header::EXPECT, header::HeaderValue::from_static(what))].into_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_read_is_thrown_away_up_to_a_size_and_a_time() {
        for (body, read_off) in [
            (Any::empty(), true),
            (Any::from(vec![b'x'; MOST as usize]), true),
            (Any::from(vec![b'x'; MOST as usize + 1]), false),
            (pieces(16, 64 << 10), true),
            (pieces(17, 64 << 10), false),
            (Any::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()), false),
            (Any::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("cut"))])), false),
        ] {
            let (lent, rest) = lend(body, &HeaderMap::new());
            drop(lent);
            assert_eq!(rest.read_off().await, read_off);
        }
    }

    #[tokio::test]
    async fn a_body_that_was_read_is_left_alone_and_one_that_somebody_holds_is_not_waited_for() {
        let (mut lent, rest) = lend(pieces(3, 1_000_000), &HeaderMap::new());
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut lent).poll_frame(cx)).await {
            assert!(frame.is_ok());
        }
        assert!(rest.read_off().await, "it came to its end while it was lent");
        let (lent, rest) = lend(pieces(1, 1), &HeaderMap::new());
        assert!(!rest.read_off().await);
        drop(lent);
    }

    #[tokio::test]
    async fn a_client_that_waits_to_be_told_is_not_told_to_send_what_nobody_wants() {
        let (lent, rest) = lend(pieces(1, 1), &expecting("100-Continue"));
        drop(lent);
        assert!(!rest.read_off().await);
        let (mut lent, rest) = lend(pieces(2, 1), &expecting("100-continue"));
        assert!(poll_fn(|cx| Pin::new(&mut lent).poll_frame(cx)).await.is_some());
        drop(lent);
        assert!(rest.read_off().await, "it was told, and sends the rest");
    }
}
