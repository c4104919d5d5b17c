//! The one place where answers are made that last: events as they happen, and long texts. They end when the daemon stops,
//! and with the key that they were asked for with.

use std::io;

use async_stream::stream;
use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt as _, pin_mut};
use tokio_util::sync::CancellationToken;

use crate::{ApiState, caller::Caller, keys::Refused};

/// A client reads for 300 s without a byte before it gives up (contract §1.6); well under that.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(15);

/// Why an answer that is not whole ends.
pub(crate) enum Over {
    /// The daemon stops.
    Closing,
    /// The key is no longer good.
    Key(Refused),
}

/// Resolves when whatever waits for this caller has to end.
pub(crate) fn over(state: &ApiState, caller: &Caller) -> impl Future<Output = Over> + Send + 'static {
    let (key, closing): (_, CancellationToken) = (state.keys.over(&caller.key), state.closing.clone());
    async move {
        tokio::select! {
            why = key => Over::Key(why),
            () = closing.cancelled() => Over::Closing,
        }
    }
}

/// Server-sent events.
pub(crate) fn events<S, E>(state: &ApiState, caller: &Caller, events: S) -> Response
where
    S: Stream<Item = Result<Event, E>> + Send + 'static,
    E: Into<axum::BoxError> + Send + 'static,
{
    caller.visit.streams();
    let over = over(state, caller);
    let stream = stream! {
        pin_mut!(over, events);
        loop {
            tokio::select! {
                biased;
                why = &mut over => {
                    if let Over::Key(why) = why {
                        // A comment: clients read on over it, people see it.
                        yield Ok(Event::default().comment(why.to_string()));
                    }
                    return;
                }
                event = events.next() => match event {
                    Some(event) => yield event,
                    None => return,
                },
            }
        }
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    Sse::new(stream).keep_alive(keep_alive).into_response()
}

/// A text in parts. If it cannot be given to its end the connection is cut, so that nobody takes a part for the whole.
pub(crate) fn text<S>(state: &ApiState, caller: &Caller, kind: &'static str, parts: S) -> Response
where
    S: Stream<Item = Result<Vec<u8>, io::Error>> + Send + 'static,
{
    let over = over(state, caller);
    let stream = stream! {
        pin_mut!(over, parts);
        loop {
            tokio::select! {
                biased;
                why = &mut over => {
                    let why = match why {
                        Over::Key(why) => why.to_string(),
                        Over::Closing => "the daemon stops".into(),
                    };
                    yield Err(io::Error::other(why));
                    return;
                }
                part = parts.next() => match part {
                    Some(part) => yield part.map(Bytes::from),
                    None => return,
                },
            }
        }
    };
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
    (headers, Body::from_stream(stream)).into_response()
}
