//! One session on its way: rmcp's messages out, the server's answers in. Sending is the egress' part, reading that of
//! [`reading`]; here the two meet. What a request was answered with is kept beside rmcp, which is told only that there is an
//! answer: its own types would refuse what is a little odd, and its log would quote it (THREATS rows 2 and 18).

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest, RequestId},
    transport::streamable_http_client::{
        SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    },
};
use serde_json::{Value, json};
use sse_stream::Sse;
use tokio::sync::{mpsc, watch};

use super::{
    events,
    failure::{Answered, Failure},
    handshake::{self, Agreed},
    listing::Listing,
    reading::{self, Incoming, Shape},
    stream::{MAX_BYTES, Stream, by_itself},
};
use crate::egress::{Sender, Streamed, Unanswered};

/// Bytes of what is said with a status that is no answer, and how long it may take.
const MAX_ERROR_BYTES: usize = 64 << 10;
const ERROR_LIMIT: Duration = Duration::from_secs(3);

/// An old server may not answer a question that it does not know. What is left of the time is for `initialize`.
const DISCOVER_LIMIT: Duration = Duration::from_secs(5);

/// How long a session waits for the stream on which its server speaks by itself.
const STANDALONE_LIMIT: Duration = Duration::from_secs(1);

/// The stream on which a server of MCP before 2026-07-28 speaks by itself. What it says before the stream is there is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standalone {
    /// There is none, or not yet.
    None,
    /// The session that it belongs to has begun.
    Expected,
    /// The server has answered: it is open, or there will be none.
    Answered,
}

/// The way of one session.
#[derive(Clone)]
pub(super) struct Wire(Arc<Inner>);

struct Inner {
    sender: Sender,
    /// What requests were answered with, for those who wait.
    outcomes: Mutex<HashMap<RequestId, Option<Outcome>>>,
    /// Why the session could not begin.
    refused: Mutex<Option<Failure>>,
    agreed: Mutex<Option<Agreed>>,
    standalone: watch::Sender<Standalone>,
    /// An answer of ours did not reach the server, which will wait for it in vain.
    undelivered: watch::Sender<Option<Failure>>,
}

/// What a request was answered with.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) result: Result<Value, Failure>,
    /// The request was sent with a session's id.
    pub(super) in_session: bool,
}

/// What is asked, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    Discover,
    Initialize,
    List,
    Other,
}

/// An answer that has begun.
enum Begun {
    Whole(Vec<Value>, Result<Value, Failure>),
    Stream(mpsc::Receiver<Incoming>),
}

type Failed = StreamableHttpError<Infallible>;
type Headers = HashMap<HeaderName, HeaderValue>;

impl Wire {
    pub(super) fn new(sender: Sender) -> Self {
        Self(Arc::new(Inner {
            sender,
            outcomes: Mutex::default(),
            refused: Mutex::default(),
            agreed: Mutex::default(),
            standalone: watch::Sender::new(Standalone::None),
            undelivered: watch::Sender::new(None),
        }))
    }

    /// Waits until the server can speak by itself, if it wants to.
    pub(super) async fn hears(&self) {
        let mut standalone = self.0.standalone.subscribe();
        let heard = standalone.wait_for(|stage| *stage != Standalone::Expected);
        // A server that does not answer now may still answer calls.
        let _ = tokio::time::timeout(STANDALONE_LIMIT, heard).await;
    }

    /// What a request was answered with. Asked once.
    pub(super) fn take(&self, id: &RequestId) -> Option<Outcome> {
        self.0.outcomes.lock().remove(id).flatten()
    }

    /// Why the session could not begin.
    pub(super) fn refused(&self) -> Option<Failure> {
        self.0.refused.lock().take()
    }

    /// Waits until an answer of ours could not be delivered.
    pub(super) async fn undelivered(&self) -> Failure {
        let mut undelivered = self.0.undelivered.subscribe();
        let failure = undelivered.wait_for(Option::is_some).await;
        failure.ok().and_then(|failure| failure.clone()).unwrap_or(Failure::Ended)
    }

    /// Whether it is the newest version that is spoken, without a beginning.
    pub(super) fn is_newest(&self) -> bool {
        self.0.agreed.lock().is_none()
    }

    fn headers(&self, wanted: Headers, session: Option<&str>) -> HeaderMap {
        let mut headers: HeaderMap = wanted.into_iter().collect();
        if let Some(agreed) = &*self.0.agreed.lock()
            && let Some(version) = headers.get_mut("mcp-protocol-version")
            && let Ok(named) = HeaderValue::from_str(&agreed.version)
        {
            *version = named;
        }
        if let Some(session) = session.and_then(|session| HeaderValue::from_str(session).ok()) {
            headers.insert("mcp-session-id", session);
        }
        headers
    }

    async fn post(
        &self,
        message: &ClientJsonRpcMessage,
        mut headers: HeaderMap,
    ) -> Result<Streamed, Failure> {
        let Ok(body) = serde_json::to_vec(message) else {
            return Err(Failure::Unreadable("a message that cannot be written".into()));
        };
        let accept = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(header::ACCEPT, accept);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let sent = self.0.sender.message(Method::POST, headers, Some(body.into())).await;
        let answer = sent.map_err(Failure::Unanswered)?;
        match answer.status {
            status if status.is_redirection() && answer.redirect.is_some() => {
                Err(Failure::Redirected { status: status.as_u16(), to: answer.redirect })
            }
            _ => Ok(answer),
        }
    }

    /// Asks, and reads the answer as far as it is there.
    async fn ask(
        &self,
        id: &RequestId,
        message: &ClientJsonRpcMessage,
        headers: HeaderMap,
    ) -> Result<(Begun, Option<String>), Failure> {
        let Streamed { status, headers: answered, mut body, .. } =
            self.post(message, headers.clone()).await?;
        let session = answered.get("mcp-session-id").and_then(|id| id.to_str().ok());
        let session = session.filter(|id| !id.is_empty()).map(str::to_owned);
        if !status.is_success() {
            // What came in time is told.
            let (said, _) = collect(&mut body, Vec::new(), MAX_ERROR_BYTES, Some(ERROR_LIMIT)).await;
            let (others, result) = reading::whole(&said, id, status, &answered);
            return Ok((Begun::Whole(others, result), session));
        }
        let mut begin = Vec::new();
        if reading::shape(&answered) != Shape::Events {
            while let Some(chunk) = body.next().await {
                let chunk = chunk.map_err(Failure::Unanswered)?;
                if begin.len() + chunk.len() > MAX_BYTES {
                    return Err(Failure::Unanswered(Unanswered::TooLarge));
                }
                begin.extend_from_slice(&chunk);
                if !chunk.trim_ascii().is_empty() {
                    break;
                }
            }
            if !events::begins(&begin) {
                let (whole, failure) = collect(&mut body, begin, MAX_BYTES, None).await;
                if let Some(failure) = failure {
                    return Err(Failure::Unanswered(failure));
                }
                let (others, result) = reading::whole(&whole, id, status, &answered);
                return Ok((Begun::Whole(others, result), session));
            }
        }
        let (sender, receiver) = mpsc::channel(16);
        let egress = self.0.sender.clone();
        let stream = Stream { egress, id: id.clone(), headers, status, sender };
        tokio::spawn(async move {
            let given_up = stream.sender.clone();
            tokio::select! {
                () = given_up.closed() => {}
                () = stream.run(begin, body) => {}
            }
        });
        Ok((Begun::Stream(receiver), session))
    }

    /// Asks, and waits for the answer.
    async fn ask_whole(
        &self,
        id: &RequestId,
        message: &ClientJsonRpcMessage,
        headers: HeaderMap,
    ) -> Result<(Value, Option<String>), Failure> {
        let (begun, session) = self.ask(id, message, headers).await?;
        let result = match begun {
            Begun::Whole(_, result) => result,
            Begun::Stream(mut incoming) => loop {
                match incoming.recv().await {
                    Some(Incoming::Answer(result)) => break result,
                    Some(Incoming::Other(_)) => {}
                    None => break Err(Failure::Closed),
                }
            },
        };
        Ok((result?, session))
    }

    /// The newest version's question: whatever an old server answers, `initialize` comes next.
    async fn discover(&self, id: &RequestId, message: &ClientJsonRpcMessage, headers: HeaderMap) -> Value {
        let asked = tokio::time::timeout(DISCOVER_LIMIT, self.ask_whole(id, message, headers)).await;
        let failure = match asked.unwrap_or(Err(Failure::Unanswered(Unanswered::Late))) {
            Ok((result, _)) => match handshake::discovered(&result) {
                Some(result) => return answer(id, result),
                None => Failure::Unreadable("an answer without the newest version".into()),
            },
            Err(failure) => failure,
        };
        tracing::debug!(failure = failure.brief(), "a server does not speak the newest version");
        let again = match &failure {
            Failure::Answered(Answered { code, data, .. }) if handshake::asks_again(code, data.as_ref()) => {
                data.clone()
            }
            _ => None,
        };
        *self.0.refused.lock() = Some(failure);
        match again {
            Some(data) => json!({
                "jsonrpc": "2.0", "id": id, "error": { "code": -32022, "message": "not this one", "data": data },
            }),
            None => error(id),
        }
    }

    async fn initialize(
        &self,
        id: &RequestId,
        message: &ClientJsonRpcMessage,
        headers: HeaderMap,
    ) -> (Value, Option<String>) {
        // A server that cannot be reached has said so already.
        let refused = self.0.refused.lock().clone();
        if let Some(Failure::Unanswered(Unanswered::Unreachable(_) | Unanswered::Forbidden(_))) = refused {
            return (error(id), None);
        }
        match self.ask_whole(id, message, headers).await {
            Ok((result, session)) => {
                let (clean, agreed) = handshake::initialized(&result);
                *self.0.agreed.lock() = Some(agreed);
                if session.is_some() {
                    self.0.standalone.send_replace(Standalone::Expected);
                }
                (answer(id, clean), session)
            }
            Err(failure) => {
                *self.0.refused.lock() = Some(failure);
                (error(id), None)
            }
        }
    }

    /// Keeps what a request was answered with, and says to rmcp that it was.
    fn keep(
        &self,
        question: Question,
        id: &RequestId,
        result: Result<Value, Failure>,
        in_session: bool,
    ) -> Value {
        let said = match &result {
            Ok(result) if question == Question::List && self.is_newest() => answer(id, self.listed(result)),
            Ok(_) => answer(id, json!({ "content": [] })),
            Err(_) => error(id),
        };
        // Nobody waits for an answer that was given up.
        if let Some(place) = self.0.outcomes.lock().get_mut(id) {
            *place = Some(Outcome { result, in_session });
        }
        said
    }

    /// In the newest version, rmcp makes headers of what schemas say, and refuses tools that say it wrongly.
    fn listed(&self, page: &Value) -> Value {
        let mut listing = Listing::default();
        listing.page(page.clone(), &self.0.sender.scrub().scrubber);
        let (mut tools, _) = listing.end();
        tools.retain(|tool| serde_json::from_value::<rmcp::model::Tool>(tool.clone()).is_ok());
        json!({ "resultType": "complete", "tools": tools })
    }

    fn events(
        &self,
        question: Question,
        id: RequestId,
        in_session: bool,
        incoming: impl futures::Stream<Item = Incoming> + Send + 'static,
    ) -> BoxStream<'static, Result<Sse, SseError>> {
        let wire = self.clone();
        let event = move |incoming: Incoming| {
            let message = match incoming {
                Incoming::Answer(result) => wire.keep(question, &id, result, in_session),
                Incoming::Other(message) => message,
            };
            Ok::<Sse, SseError>(Sse::default().data(message.to_string()))
        };
        incoming.map(event).boxed()
    }

    /// Says something that has no answer.
    async fn tell(&self, message: ClientJsonRpcMessage, headers: HeaderMap) {
        let failure = match self.post(&message, headers).await {
            Ok(Streamed { status, headers, mut body, .. }) => {
                let said = match status {
                    StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Vec::new(),
                    _ => collect(&mut body, Vec::new(), MAX_ERROR_BYTES, Some(STANDALONE_LIMIT)).await.0,
                };
                if status.is_success() {
                    return;
                }
                reading::whole(&said, &RequestId::Number(-1), status, &headers).1.err()
            }
            Err(failure) => Some(failure),
        };
        let Some(failure) = failure else { return };
        tracing::debug!(failure = failure.brief(), "a server did not take what has no answer");
        // Who waits for the answer is told by the next request; the server would wait for ours in vain.
        if matches!(message, ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_)) {
            self.0.undelivered.send_replace(Some(failure));
        }
    }
}

/// An answer for rmcp.
fn answer(id: &RequestId, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// An error for rmcp. What it is about is kept beside it.
fn error(id: &RequestId) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "there is no result" } })
}

/// The rest of a body up to a limit, and why that is not all of it. With a time, what came in time.
async fn collect(
    body: &mut BoxStream<'static, Result<Bytes, Unanswered>>,
    mut read: Vec<u8>,
    most: usize,
    limit: Option<Duration>,
) -> (Vec<u8>, Option<Unanswered>) {
    let reading = async {
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            if read.len() + chunk.len() > most {
                return Err(Unanswered::TooLarge);
            }
            read.extend_from_slice(&chunk);
        }
        Ok(())
    };
    let ended = match limit {
        Some(limit) => tokio::time::timeout(limit, reading).await.unwrap_or(Err(Unanswered::Late)),
        None => reading.await,
    };
    (read, ended.err())
}

/// Forgets a request whose sending was given up.
struct Waiting<'a> {
    wire: &'a Wire,
    id: RequestId,
    is_sent: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_sent {
            self.wire.0.outcomes.lock().remove(&self.id);
        }
    }
}

impl StreamableHttpClient for Wire {
    type Error = Infallible;

    async fn post_message(
        &self,
        _: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        let headers = self.headers(headers, session.as_deref());
        let ClientJsonRpcMessage::Request(request) = &message else {
            self.tell(message, headers).await;
            return Ok(StreamableHttpPostResponse::Accepted);
        };
        let (id, in_session) = (request.id.clone(), session.is_some());
        let question = match &request.request {
            ClientRequest::DiscoverRequest(_) => Question::Discover,
            ClientRequest::InitializeRequest(_) => Question::Initialize,
            ClientRequest::ListToolsRequest(_) => Question::List,
            _ => Question::Other,
        };
        let (said, session) = match question {
            Question::Discover => (self.discover(&id, &message, headers).await, None),
            Question::Initialize => self.initialize(&id, &message, headers).await,
            Question::List | Question::Other => {
                self.0.outcomes.lock().insert(id.clone(), None);
                let mut waiting = Waiting { wire: self, id: id.clone(), is_sent: false };
                let asked = self.ask(&id, &message, headers).await;
                waiting.is_sent = true;
                match asked {
                    Err(failure) => (self.keep(question, &id, Err(failure), in_session), None),
                    Ok((Begun::Whole(others, result), _)) if others.is_empty() => {
                        (self.keep(question, &id, result, in_session), None)
                    }
                    Ok((Begun::Whole(others, result), _)) => {
                        let others = others.into_iter().map(Incoming::Other);
                        let all = stream::iter(others.chain([Incoming::Answer(result)]));
                        let events = self.events(question, id, in_session, all);
                        return Ok(StreamableHttpPostResponse::Sse(events, None));
                    }
                    Ok((Begun::Stream(incoming), _)) => {
                        let incoming = stream::unfold(incoming, |mut incoming| async move {
                            incoming.recv().await.map(|message| (message, incoming))
                        });
                        let events = self.events(question, id, in_session, incoming);
                        return Ok(StreamableHttpPostResponse::Sse(events, None));
                    }
                }
            }
        };
        Ok(StreamableHttpPostResponse::Json(serde_json::from_value(said)?, session))
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<(), Failed> {
        let headers = self.headers(headers, Some(&session));
        // A server that has forgotten it needs no telling.
        let _ = self.0.sender.message(Method::DELETE, headers, None).await;
        Ok(())
    }

    async fn get_stream(
        &self,
        _: Arc<str>,
        session: Option<Arc<str>>,
        last_event_id: Option<String>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failed> {
        let mut headers = self.headers(headers, session.as_deref());
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(last) = last_event_id.and_then(|last| HeaderValue::from_str(&last).ok()) {
            headers.insert("last-event-id", last);
        }
        let answer = self.0.sender.message(Method::GET, headers, None).await;
        self.0.standalone.send_replace(Standalone::Answered);
        let Ok(Streamed { status, headers, body, .. }) = answer else {
            return Err(StreamableHttpError::UnexpectedServerResponse("there is no answer".into()));
        };
        if !status.is_success() || reading::shape(&headers) != Shape::Events {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        Ok(by_itself(body))
    }
}
