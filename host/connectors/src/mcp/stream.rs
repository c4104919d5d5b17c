//! Answers that come as events, and what a server says by itself.

use std::time::Duration;

use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rmcp::{model::RequestId, transport::streamable_http_client::SseError};
use sse_stream::Sse;
use tokio::sync::mpsc;

use super::{
    events::{Event, Events},
    failure::Failure,
    reading::{self, Incoming, Shape},
};
use crate::egress::{Sender, Unanswered};

/// Bytes of one answer or event.
pub(super) const MAX_BYTES: usize = 16 << 20;

/// A stream that ended before its answer is taken up again after so long, if the server does not say, and given up after so
/// many times without anything new.
const RESUME_AFTER: Duration = Duration::from_secs(1);
const LONGEST_RESUME: Duration = Duration::from_secs(30);
const MAX_RESUMES: u32 = 3;

/// A connection whose stream ends so soon after the answer can be used again.
const DRAIN: Duration = Duration::from_millis(50);

/// An answer that comes as events, perhaps over several connections (2025-11-25, transports, resumability).
pub(super) struct Stream {
    pub(super) egress: Sender,
    pub(super) id: RequestId,
    /// Those of the request, for taking it up again.
    pub(super) headers: HeaderMap,
    pub(super) status: StatusCode,
    pub(super) sender: mpsc::Sender<Incoming>,
}

/// How reading a body ended.
enum End {
    /// The answer came, or nobody waits for it.
    Done,
    Closed(Failure),
}

/// Where a stream can be taken up again.
#[derive(Default)]
struct Place {
    last: Option<String>,
    retry: Option<Duration>,
    /// Something has come since it was taken up.
    moved: bool,
}

impl Stream {
    /// Reads until the answer has come or cannot come any more.
    pub(super) async fn run(&self, begin: Vec<u8>, mut body: BoxStream<'static, Result<Bytes, Unanswered>>) {
        let (mut place, mut begin, mut fruitless) = (Place::default(), begin, 0);
        loop {
            let end = self.read(std::mem::take(&mut begin), &mut body, &mut place).await;
            let End::Closed(mut failure) = end else { return };
            fruitless = if std::mem::take(&mut place.moved) { 0 } else { fruitless + 1 };
            body = loop {
                if place.last.is_none() || fruitless >= MAX_RESUMES {
                    return drop(self.sender.send(Incoming::Answer(Err(failure))).await);
                }
                tokio::time::sleep(place.retry.unwrap_or(RESUME_AFTER).min(LONGEST_RESUME)).await;
                match self.resume(&place).await {
                    Ok(body) => break body,
                    Err(found) => {
                        // A server that cannot take it up has answered; one that cannot be reached may come back.
                        fruitless += if matches!(found, Failure::Unanswered(_)) { 1 } else { MAX_RESUMES };
                        if !matches!(failure, Failure::Unanswered(_)) {
                            failure = Failure::Closed;
                        }
                    }
                }
            };
        }
    }

    async fn resume(&self, place: &Place) -> Result<BoxStream<'static, Result<Bytes, Unanswered>>, Failure> {
        let mut headers = self.headers.clone();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(last) = place.last.as_deref().and_then(|last| HeaderValue::from_str(last).ok()) {
            headers.insert("last-event-id", last);
        }
        let answer = self.egress.message(Method::GET, headers, None).await.map_err(Failure::Unanswered)?;
        match answer.status.is_success() && reading::shape(&answer.headers) == Shape::Events {
            true => Ok(answer.body),
            false => Err(Failure::Closed),
        }
    }

    async fn read(
        &self,
        begin: Vec<u8>,
        body: &mut BoxStream<'static, Result<Bytes, Unanswered>>,
        place: &mut Place,
    ) -> End {
        let mut events = Events::new(MAX_BYTES);
        let mut whole: Option<Vec<u8>> = None;
        let mut next = Some(Ok(Bytes::from(begin)));
        let mut began = false;
        loop {
            match next {
                Some(Ok(chunk)) => {
                    // JSON that calls itself a stream.
                    let text = chunk.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&chunk[..]);
                    let first = text.trim_ascii_start().first();
                    if !began && matches!(first, Some(b'{' | b'[')) {
                        whole = Some(Vec::new());
                    }
                    began |= first.is_some();
                    if let Some(whole) = &mut whole {
                        whole.extend_from_slice(&chunk);
                        if whole.len() > MAX_BYTES {
                            return End::Closed(Failure::Unanswered(Unanswered::TooLarge));
                        }
                    } else {
                        let Ok(found) = events.push(&chunk) else {
                            place.last = None;
                            return End::Closed(Failure::Unanswered(Unanswered::TooLarge));
                        };
                        for event in found {
                            if self.event(event, place).await {
                                let rest = async { while body.next().await.is_some() {} };
                                let _ = tokio::time::timeout(DRAIN, rest).await;
                                return End::Done;
                            }
                        }
                    }
                }
                Some(Err(broken)) => return End::Closed(Failure::Unanswered(broken)),
                None => {
                    if let Some(whole) = whole {
                        let event =
                            Event { data: String::from_utf8_lossy(&whole).into(), ..Event::default() };
                        if self.event(event, place).await {
                            return End::Done;
                        }
                    } else if let Some(event) = events.end()
                        && self.event(event, place).await
                    {
                        return End::Done;
                    }
                    return End::Closed(Failure::Closed);
                }
            }
            next = body.next().await;
        }
    }

    /// Hands on what an event holds. Whether that was all that is waited for.
    async fn event(&self, event: Event, place: &mut Place) -> bool {
        place.moved |= !event.data.is_empty() || event.id != place.last;
        if let Some(retry) = event.retry {
            place.retry = Some(Duration::from_millis(retry));
        }
        if let Some(id) = event.id {
            place.last = Some(id).filter(|id| !id.is_empty());
        }
        // Keep-alives and events of other kinds are no JSON.
        for message in reading::messages(event.data.as_bytes()).into_iter().flatten() {
            let Some(incoming) = reading::incoming(message, &self.id, self.status) else { continue };
            let is_answer = matches!(incoming, Incoming::Answer(_));
            if self.sender.send(incoming).await.is_err() || is_answer {
                return true;
            }
        }
        false
    }
}

/// What a server says by itself: requests and notifications. Answers come where their requests were sent.
pub(super) fn by_itself(
    body: BoxStream<'static, Result<Bytes, Unanswered>>,
) -> BoxStream<'static, Result<Sse, SseError>> {
    let mut events = Events::new(MAX_BYTES);
    let spoken = body.scan((), move |_, chunk| {
        let found = chunk.ok().and_then(|chunk| events.push(&chunk).ok());
        futures::future::ready(found)
    });
    spoken.flat_map(|events| stream::iter(events.into_iter().flat_map(spoken_events))).boxed()
}

fn spoken_events(event: Event) -> Vec<Result<Sse, SseError>> {
    let messages = reading::messages(event.data.as_bytes()).unwrap_or_default();
    let spoken = messages.iter().filter(|message| message["method"].is_string());
    let place = Sse { id: event.id, retry: event.retry, ..Sse::default() };
    let messages = spoken.map(|message| Sse::default().data(message.to_string()));
    std::iter::once(place).chain(messages).map(Ok).collect()
}
