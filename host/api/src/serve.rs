//! Serving on a socket: HTTP/1.1, each connection a task that ends when something takes too long.
//!
//! HTTP/2 without TLS is not spoken: what it would allow (streams without number, resets, settings) is not there to be
//! bounded.

use std::{convert::Infallible, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use async_recursion::async_recursion as boxed;
use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
};
use http_body::{Frame, SizeHint};
use hyper::{
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::{
    ApiState, Limits,
    connections::{Connection, Overdue, Places, Seat, Turned, Watched, lend},
    router,
};

/// How long requests that are under way may take to end after the daemon was asked to stop.
const GRACE: Duration = Duration::from_secs(5);

/// The head of a request may be so big.
const HEAD_LIMIT: usize = 32 << 10;

/// How long the daemon waits before it accepts again when the system gives no descriptor.
const NO_DESCRIPTOR: Duration = Duration::from_millis(100);

/// Trouble that goes on is told again when there was none for so long.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// So many who are turned away are told why, and waited for until they have read it; others find the door closed.
const LAST_WORDS: usize = 64;
const LAST_WORDS_TIME: Duration = Duration::from_secs(1);

/// Serves until `shutdown`; then streams end in order, and other requests have a few seconds.
#[boxed]
pub async fn serve(
    listener: TcpListener,
    mut state: ApiState,
    shutdown: CancellationToken,
) -> io::Result<()> {
    state.closing = shutdown.clone();
    let house = House {
        places: Arc::clone(&state.places),
        limits: Arc::clone(&state.limits),
        router: router(state),
        closing: shutdown.clone(),
        last_words: Arc::new(Semaphore::new(LAST_WORDS)),
        told: Mutex::new(None),
    };
    let tasks = TaskTracker::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => house.receive(&tasks, stream, address),
                Err(error) => house.recover(error).await,
            },
        }
    }
    drop(listener);
    tasks.close();
    if timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    Ok(())
}

/// What all connections share.
struct House {
    places: Arc<Places>,
    limits: Arc<Limits>,
    router: Router,
    closing: CancellationToken,
    last_words: Arc<Semaphore>,
    /// When the log said last that the system has nothing left.
    told: Mutex<Option<Instant>>,
}

impl House {
    fn receive(&self, tasks: &TaskTracker, stream: TcpStream, address: SocketAddr) {
        // An answer in two segments would cost a keep-alive client 40 ms of delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        let last_words = Arc::clone(&self.last_words);
        match self.places.admit(address.ip()) {
            Ok(seat) => {
                let (limits, router, closing) =
                    (Arc::clone(&self.limits), self.router.clone(), self.closing.clone());
                tasks.spawn(async move {
                    match converse(stream, seat, &limits, router, closing).await {
                        None => {}
                        Some((stream, Left::Said(words))) => turn_away(stream, &last_words, &words).await,
                        Some((stream, Left::Unread)) => linger(stream, &last_words).await,
                    }
                });
            }
            Err(turned) => {
                let words = match turned {
                    Turned::All => "all connections of the daemon are at work: try again in a moment",
                    Turned::Address => {
                        "your address has as many connections at work as one may have: let some end first"
                    }
                };
                tasks.spawn(async move { turn_away(stream, &last_words, &Words::full(words)).await });
            }
        }
    }

    /// After an error of the listener. Those of one connection are its own matter. Others say that the system has nothing
    /// left: connections that nobody needs go, and there is a pause, so that the loop neither spins nor ends.
    async fn recover(&self, error: io::Error) {
        let of_connection = [
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::Interrupted,
        ];
        if of_connection.contains(&error.kind()) {
            return;
        }
        let told = self.told.lock().replace(Instant::now());
        if told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
            tracing::warn!(%error, "no connection can be accepted now; those that rest are closed");
        }
        self.places.relieve();
        tokio::select! {
            () = tokio::time::sleep(NO_DESCRIPTOR) => {}
            () = self.closing.cancelled() => {}
        }
    }
}

/// What is said to a connection before it is closed.
struct Words {
    status: &'static str,
    detail: String,
}

impl Words {
    fn full(detail: &str) -> Self {
        Self { status: "503 Service Unavailable\r\nretry-after: 2", detail: detail.into() }
    }

    fn text(&self) -> String {
        let body = json!({ "detail": self.detail }).to_string();
        format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.status,
            body.len()
        )
    }
}

/// What is left to be done on a connection that has had its time.
enum Left {
    /// This is to be said.
    Said(Words),
    /// The last answer is on its way, and the client may still be sending.
    Unread,
}

/// One connection from its beginning to its end. What is left to be done, if something is.
async fn converse(
    stream: TcpStream,
    seat: Seat,
    limits: &Limits,
    router: Router,
    closing: CancellationToken,
) -> Option<(TcpStream, Left)> {
    let connection = Arc::clone(&seat.connection);
    let speaks_http2 = |stream: &TcpStream| {
        let mut beginning = [0; 4];
        let mut peeked = tokio::io::ReadBuf::new(&mut beginning);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        stream.poll_peek(&mut cx, &mut peeked).is_ready() && peeked.filled() == b"PRI "
    };
    let service = service_fn({
        let connection = Arc::clone(&connection);
        move |mut request: hyper::Request<Incoming>| {
            let under_way = UnderWay::new(&connection);
            request.extensions_mut().insert(Arc::clone(&connection));
            let connection = Arc::clone(&connection);
            let (head, body) = request.into_parts();
            let (body, rest) = lend(body, &head.headers);
            let answer = router.clone().oneshot(hyper::Request::from_parts(head, Body::new(body)));
            async move {
                let mut answer = match answer.await {
                    Ok(answer) => answer,
                    Err(never) => match never {},
                };
                if !rest.read_off().await {
                    connection.leaves_unread();
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer.map(|body| Answer { body, _under_way: under_way }))
            }
        }
    });
    let mut builder = http1::Builder::new();
    // The watch below looks after the head, and after the rest.
    builder.header_read_timeout(None).max_buf_size(HEAD_LIMIT);
    let mut tick = interval(look_every(limits));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let readable = async {
        tokio::select! {
            readable = stream.readable() => readable.is_ok(),
            () = tokio::time::sleep(limits.head_time) => true,
            () = connection.evicted.cancelled() => true,
            () = closing.cancelled() => false,
        }
    };
    if !readable.await {
        return None;
    }
    if speaks_http2(&stream) {
        let detail = "this daemon speaks HTTP/1.1: leave HTTP/2 to the TLS proxy before it".into();
        return Some((stream, Left::Said(Words { status: "505 HTTP Version Not Supported", detail })));
    }
    let socket = TokioIo::new(Watched::new(stream, Arc::clone(&connection)));
    let mut http = builder.serve_connection(socket, service);
    let mut stopping = false;
    let left = loop {
        tokio::select! {
            ended = &mut http => match ended {
                Ok(()) if connection.has_unread() => break Some(Left::Unread),
                Ok(()) => return None,
                Err(error) => {
                    tracing::trace!(%error, "a connection ended");
                    return None;
                }
            },
            () = connection.evicted.cancelled() => {
                let words = "others needed the connection's place: send the whole request at once, with an API key";
                break connection.is_new().then(|| Left::Said(Words::full(words)));
            }
            _ = tick.tick() => match connection.overdue(limits) {
                None => {}
                Some(Overdue::Head) => {
                    let detail = format!("no whole head of a request came within {:?}", limits.head_time);
                    break Some(Left::Said(Words { status: "408 Request Timeout", detail }));
                }
                Some(Overdue::Rest | Overdue::Answer) => break None,
            },
            () = closing.cancelled(), if !stopping => {
                stopping = true;
                Pin::new(&mut http).graceful_shutdown();
            }
        }
    };
    let stream = http.into_parts().io.into_inner().into_inner();
    left.map(|left| (stream, left))
}

/// How often a connection is looked at: a quarter late at most.
fn look_every(limits: &Limits) -> Duration {
    let shortest = limits.head_time.min(limits.idle_time).min(limits.write_time);
    (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(5))
}

/// Says why, and closes. What the other side still sends is read, since otherwise the system would throw the words away.
async fn turn_away(mut stream: TcpStream, last_words: &Semaphore, words: &Words) {
    let Ok(_permit) = last_words.try_acquire() else { return };
    let said = async {
        stream.write_all(words.text().as_bytes()).await?;
        stream.shutdown().await?;
        hear_out(&mut stream).await
    };
    let _ = timeout(LAST_WORDS_TIME, said).await;
}

/// What was said is on its way, and nothing more will be.
async fn linger(mut stream: TcpStream, last_words: &Semaphore) {
    let Ok(_permit) = last_words.try_acquire() else { return };
    let _ = timeout(LAST_WORDS_TIME, hear_out(&mut stream)).await;
}

async fn hear_out(stream: &mut TcpStream) -> io::Result<()> {
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// A request that a connection is at work for.
struct UnderWay(Arc<Connection>);

impl UnderWay {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.begins();
        Self(Arc::clone(connection))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ends();
    }
}

/// A body that its connection is at work for until all of it is handed over.
struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a03_without_descriptors_those_that_rest_go_and_the_loop_waits_a_moment() {
        let limits = Arc::new(Limits::default());
        let house = House {
            places: Places::new(Arc::clone(&limits)),
            limits,
            router: Router::new(),
            closing: CancellationToken::new(),
            last_words: Arc::new(Semaphore::new(1)),
            told: Mutex::new(None),
        };
        let admit = || house.places.admit([192, 0, 2, 1].into()).unwrap_or_else(|_| panic!("room"));
        let (at_work, half_open) = (admit(), admit());
        at_work.connection.is_known();
        at_work.connection.begins();
        let began = Instant::now();
        // EMFILE and ENFILE
        for number in [24, 23] {
            house.recover(io::Error::from_raw_os_error(number)).await;
        }
        let waited = began.elapsed();
        assert!(waited >= 2 * NO_DESCRIPTOR, "it does not spin: {waited:?}");
        assert!(half_open.connection.evicted.is_cancelled() && !at_work.connection.evicted.is_cancelled());
        house.recover(io::ErrorKind::ConnectionAborted.into()).await;
        assert_eq!(began.elapsed(), waited, "one that went away is its own matter");
    }

    #[test]
    fn what_is_said_last_is_an_answer_with_a_length() {
        let text = Words::full("no \"place\"").text();
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nretry-after: 2\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(body).expect("JSON"),
            json!({ "detail": "no \"place\"" })
        );
    }
}
