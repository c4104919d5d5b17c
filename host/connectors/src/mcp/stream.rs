//! Answers that come as events, and what a server says by itself.

use std::time::Duration;

use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rmcp::{model::RequestId, transport::streamable_http_client::SseError};
use serde_json::Value;
use sse_stream::Sse;
use tokio::sync::mpsc;

use super::{
    encoding,
    events::{Event, Events},
    failure::Failure,
    reading::{self, Incoming, Shape},
    texts::Texts,
};
use crate::egress::{Sender, Unanswered};

/// Bytes of one answer or event.
pub(super) const MAX_BYTES: usize = 16 << 20;

/// A stream that ended before its answer is taken up again after so long, if the server does not say, and given up after so
/// many times without anything new.
const RESUME_AFTER: Duration = Duration::from_secs(1);
const LONGEST_RESUME: Duration = Duration::from_secs(30);
const MAX_RESUMES: u32 = 3;

/// A server that closes the stream on which it speaks by itself is not asked for another sooner.
const LEAST_RETRY_MS: u64 = 500;

/// A connection whose stream ends so soon after the answer can be used again.
pub(super) const DRAIN: Duration = Duration::from_millis(50);

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
    /// What came last that is no message, for whoever waits for one.
    said: Option<String>,
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
                    if let Failure::Closed(said) = &mut failure {
                        *said = place.said.take();
                    }
                    return drop(self.sender.send(Incoming::Answer(Err(failure))).await);
                }
                tokio::time::sleep(place.retry.unwrap_or(RESUME_AFTER).min(LONGEST_RESUME)).await;
                match self.resume(&place).await {
                    Ok(body) => break body,
                    Err(found) => {
                        // A server that cannot take it up has answered; one that cannot be reached may come back.
                        fruitless += if matches!(found, Failure::Unanswered(_)) { 1 } else { MAX_RESUMES };
                        if !matches!(failure, Failure::Unanswered(_)) {
                            failure = Failure::Closed(None);
                        }
                    }
                }
            };
        }
    }

    async fn resume(&self, place: &Place) -> Result<BoxStream<'static, Result<Bytes, Unanswered>>, Failure> {
        let mut headers = self.headers.clone();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        // Without its place, it would be another stream.
        let last = place.last.as_deref().and_then(|last| HeaderValue::from_bytes(last.as_bytes()).ok());
        let Some(last) = last else { return Err(Failure::Closed(None)) };
        headers.insert("last-event-id", last);
        let answer = self.egress.message(Method::GET, headers, None).await.map_err(Failure::Unanswered)?;
        match answer.status.is_success() && reading::shape(&answer.headers) == Shape::Events {
            true => Ok(encoding::utf8(answer.body)),
            false => Err(Failure::Closed(None)),
        }
    }

    async fn read(
        &self,
        begin: Vec<u8>,
        body: &mut BoxStream<'static, Result<Bytes, Unanswered>>,
        place: &mut Place,
    ) -> End {
        let mut events = Events::new(MAX_BYTES);
        let (mut whole, mut texts) = (None::<Vec<u8>>, Texts::default());
        let mut next = Some(Ok(Bytes::from(begin)));
        let mut began = false;
        loop {
            let chunk = match next {
                Some(Ok(chunk)) => chunk,
                Some(Err(broken)) => return End::Closed(Failure::Unanswered(broken)),
                None => break,
            };
            // JSON that calls itself a stream.
            let first = chunk.trim_ascii_start().first();
            if !began && matches!(first, Some(b'{' | b'[')) {
                whole = Some(Vec::new());
            }
            began |= first.is_some();
            let mut is_over = false;
            if let Some(whole) = &mut whole {
                whole.extend_from_slice(&chunk);
                if whole.len() > MAX_BYTES {
                    return End::Closed(Failure::Unanswered(Unanswered::TooLarge));
                }
                while let Some(text) = texts.next(whole) {
                    is_over = self.event(whole_event(&whole[text]), place).await;
                    if is_over {
                        break;
                    }
                }
            } else {
                let Ok(found) = events.push(&chunk) else {
                    place.last = None;
                    return End::Closed(Failure::Unanswered(Unanswered::TooLarge));
                };
                for event in found {
                    is_over = self.event(event, place).await;
                    if is_over {
                        break;
                    }
                }
                let is_answer = |data: &str| reading::is_answer(data.as_bytes(), &self.id, self.status);
                if !is_over
                    && events.open().is_some_and(is_answer)
                    && let Some(event) = events.end()
                {
                    is_over = self.event(event, place).await;
                }
            }
            if is_over {
                let rest = async { while body.next().await.is_some() {} };
                let _ = tokio::time::timeout(DRAIN, rest).await;
                return End::Done;
            }
            next = body.next().await;
        }
        let last = match &whole {
            Some(whole) => Some(whole_event(whole)),
            None => events.end(),
        };
        if let Some(event) = last
            && self.event(event, place).await
        {
            return End::Done;
        }
        if place.said.is_none() {
            place.said = events.odd();
        }
        End::Closed(Failure::Closed(None))
    }

    /// Hands on what an event holds. Whether that was all that is waited for.
    async fn event(&self, event: Event, place: &mut Place) -> bool {
        let is_error = event.is_error();
        place.moved |= !event.data.is_empty() || event.id != place.last;
        if let Some(retry) = event.retry {
            place.retry = Some(Duration::from_millis(retry));
        }
        if let Some(id) = event.id {
            place.last = Some(id).filter(|id| !id.is_empty());
        }
        let mut said = None;
        // Keep-alives and events of other kinds are no JSON.
        let read = reading::messages(event.data.as_bytes());
        if read.is_none() {
            said = Some(event.data.trim().to_owned()).filter(|said| !said.is_empty());
        }
        for message in read.into_iter().flatten() {
            let stranger = message["result"].is_object().then(|| "an answer to another request".to_owned());
            let words = reading::words(&message).or(stranger);
            let Some(incoming) = reading::incoming(message, &self.id, self.status) else {
                said = said.or(words);
                continue;
            };
            let is_answer = matches!(incoming, Incoming::Answer(_));
            if self.sender.send(incoming).await.is_err() || is_answer {
                return true;
            }
        }
        if is_error {
            let failure = Failure::Said(said.unwrap_or_default());
            // Perhaps nobody waits for it any more.
            let _ = self.sender.send(Incoming::Answer(Err(failure))).await;
            return true;
        }
        // Other events have their own meaning, such as keeping the connection alive.
        if matches!(event.name.as_str(), "" | "message") {
            place.said = said.or(place.said.take());
        }
        false
    }
}

/// A text that stands in no event.
fn whole_event(text: &[u8]) -> Event {
    Event { data: String::from_utf8_lossy(text).into(), ..Event::default() }
}

/// What a server says by itself: requests and notifications. What else it says is given to `answered`.
pub(super) fn by_itself(
    body: BoxStream<'static, Result<Bytes, Unanswered>>,
    answered: impl Fn(Value) + Send + 'static,
) -> BoxStream<'static, Result<Sse, SseError>> {
    let mut events = Events::new(MAX_BYTES);
    let spoken = encoding::utf8(body).scan((), move |_, chunk| {
        let found = chunk.ok().and_then(|chunk| events.push(&chunk).ok());
        futures::future::ready(found)
    });
    let spoken_events = move |event| spoken_events(event, &answered);
    spoken
        .flat_map(move |events| {
            let said: Vec<_> = events.into_iter().flat_map(&spoken_events).collect();
            stream::iter(said)
        })
        .boxed()
}

fn spoken_events(event: Event, answered: &impl Fn(Value)) -> Vec<Result<Sse, SseError>> {
    let messages = reading::messages(event.data.as_bytes()).unwrap_or_default();
    let (spoken, others): (Vec<Value>, Vec<Value>) =
        messages.into_iter().partition(|message| message["method"].is_string());
    others.into_iter().for_each(answered);
    let retry = event.retry.map(|retry| retry.max(LEAST_RETRY_MS));
    let place = Sse { id: event.id, retry, ..Sse::default() };
    let messages = spoken.iter().map(|message| Sse::default().data(message.to_string()));
    std::iter::once(place).chain(messages).map(Ok).collect()
}
