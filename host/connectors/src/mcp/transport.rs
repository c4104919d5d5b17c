//! One session on its way: rmcp's messages out, the server's answers in. Sending is the egress' part, reading that of
//! [`reading`]; here the two meet. What a request was answered with is kept beside rmcp, which is told only that there is an
//! answer: its own types would refuse what is a little odd, and its log would quote it (THREATS rows 2 and 18).

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest, ClientResult, RequestId},
    transport::streamable_http_client::{
        SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    },
};
use serde_json::{Value, json};
use sse_stream::Sse;
use tokio::sync::{broadcast, mpsc, watch};

use super::{
    body::{self, Body},
    elsewhere::Elsewhere,
    encoding,
    failure::{Answered, Failure},
    handshake::{self, Agreed},
    listing::Listing,
    reading::{self, Incoming, Shape},
    stream::{Stream, by_itself},
};
use crate::egress::{Sender, Streamed, Unanswered};

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
    /// It is open, or was: it is opened again when it closes.
    Open,
    /// The server has said that there is none.
    Absent,
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
    /// The session's id as the server sent it, whatever signs are in it.
    session: Mutex<Option<HeaderValue>>,
    standalone: watch::Sender<Standalone>,
    /// Requests that may be answered there.
    elsewhere: Elsewhere,
    /// What the server asked in the answer to a request of ours, with that.
    questions: Mutex<HashMap<RequestId, RequestId>>,
    /// Answers of ours that did not reach the server, which will wait for them in vain.
    undelivered: broadcast::Sender<Undelivered>,
}

/// An answer of ours that did not reach the server.
#[derive(Debug, Clone)]
struct Undelivered {
    /// The request in whose answer the server asked; none if it asked by itself.
    call: Option<RequestId>,
    failure: Failure,
}

/// Hears of answers that do not reach the server.
pub(super) struct Deliveries(broadcast::Receiver<Undelivered>);

impl Deliveries {
    /// Waits until an answer that belongs to a request could not be delivered.
    pub(super) async fn fail(&mut self, request: &RequestId) -> Failure {
        loop {
            match self.0.recv().await {
                Ok(Undelivered { call, failure }) if call.as_ref().is_none_or(|call| call == request) => {
                    return failure;
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Failure::Ended,
            }
        }
    }
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
            session: Mutex::default(),
            standalone: watch::Sender::new(Standalone::None),
            elsewhere: Elsewhere::default(),
            questions: Mutex::default(),
            undelivered: broadcast::Sender::new(16),
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
        self.0.elsewhere.end(id);
        self.0.outcomes.lock().remove(id).flatten()
    }

    /// Whether the server has taken a request (HTTP status 202) and not answered it yet.
    pub(super) fn is_taken(&self, id: &RequestId) -> bool {
        self.0.elsewhere.is_taken(id)
    }

    /// Why the session could not begin.
    pub(super) fn refused(&self) -> Option<Failure> {
        self.0.refused.lock().take()
    }

    /// Hears of answers of ours that cannot be delivered from now on.
    pub(super) fn deliveries(&self) -> Deliveries {
        Deliveries(self.0.undelivered.subscribe())
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
        let named = session.and_then(|session| HeaderValue::from_str(session).ok());
        if let Some(session) = session.and(self.0.session.lock().clone()).or(named) {
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
        let answer = Streamed { body: encoding::utf8(answer.body), ..answer };
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
    ) -> Result<(Begun, Option<HeaderValue>), Failure> {
        let Streamed { status, headers: answered, mut body, .. } =
            self.post(message, headers.clone()).await?;
        let session = answered.get("mcp-session-id").filter(|id| !id.is_empty()).cloned();
        let is_events = status.is_success() && reading::shape(&answered) == Shape::Events;
        let begin = match is_events {
            true => Vec::new(),
            false => match body::read(&mut body, id, status, &answered).await? {
                Body::Whole(others, result) => {
                    let is_taken = status == StatusCode::ACCEPTED && others.is_empty();
                    let says_nothing = matches!(result, Err(Failure::Unreadable(_) | Failure::Mute(_)));
                    if is_taken
                        && says_nothing
                        && let Some(answer) = self.elsewhere(id).await
                    {
                        return Ok((Begun::Stream(answer), session));
                    }
                    return Ok((Begun::Whole(others, result), session));
                }
                Body::Events(begin) => begin,
            },
        };
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

    /// Where the answer to a request comes that the server has taken; nowhere, if it has no stream to speak by itself.
    async fn elsewhere(&self, id: &RequestId) -> Option<mpsc::Receiver<Incoming>> {
        self.hears().await;
        let stage = *self.0.standalone.borrow();
        // Some answer the request for the stream only when they have something to say.
        let can_come = matches!(stage, Standalone::Open | Standalone::Expected);
        self.0.elsewhere.taken(id).filter(|_| can_come)
    }

    /// Asks, and waits for the answer.
    async fn ask_whole(
        &self,
        id: &RequestId,
        message: &ClientJsonRpcMessage,
        headers: HeaderMap,
    ) -> Result<(Value, Option<HeaderValue>), Failure> {
        let (begun, session) = self.ask(id, message, headers).await?;
        let result = match begun {
            Begun::Whole(_, result) => result,
            Begun::Stream(mut incoming) => loop {
                match incoming.recv().await {
                    Some(Incoming::Answer(result)) => break result,
                    Some(Incoming::Other(_)) => {}
                    None => break Err(Failure::Closed(None)),
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
        if let Some(Failure::Unanswered(Unanswered::Unreachable(_) | Unanswered::Forbidden(_))) = &refused {
            return (error(id), None);
        }
        match self.ask_whole(id, message, headers).await {
            Ok((result, session)) => {
                let (clean, agreed) = handshake::initialized(&result);
                *self.0.agreed.lock() = Some(agreed);
                if session.is_some() {
                    self.0.standalone.send_replace(Standalone::Expected);
                }
                self.0.session.lock().clone_from(&session);
                // For rmcp, it is a name.
                let named = session.map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
                (answer(id, clean), named)
            }
            Err(failure) => {
                // Who wants a credential for the newer question, and minds something else in the older one, speaks the newer.
                let first = refused.filter(|first| first.is_unauthorized() && !failure.is_unauthorized());
                *self.0.refused.lock() = Some(first.unwrap_or(failure));
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
        self.0.elsewhere.end(id);
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
                Incoming::Other(message) => {
                    wire.asked(&message, &id);
                    message
                }
            };
            Ok::<Sse, SseError>(Sse::default().data(message.to_string()))
        };
        incoming.map(event).boxed()
    }

    /// There is no stream on which the server speaks by itself.
    fn speaks_no_more(&self) {
        self.0.standalone.send_replace(Standalone::Absent);
        self.0.elsewhere.is_over();
    }

    /// Remembers in whose answer the server asked something.
    fn asked(&self, message: &Value, request: &RequestId) {
        if let Ok(asked) = serde_json::from_value::<RequestId>(message["id"].clone()) {
            self.0.questions.lock().insert(asked, request.clone());
        }
    }

    /// Says something that has no answer.
    async fn tell(&self, message: ClientJsonRpcMessage, headers: HeaderMap) {
        let answered = match &message {
            ClientJsonRpcMessage::Response(response) => Some(&response.id),
            ClientJsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        };
        let call = answered.and_then(|id| self.0.questions.lock().remove(id));
        let failure = match self.post(&message, headers).await {
            Ok(Streamed { status, headers, mut body, .. }) => {
                let said = match status {
                    StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Vec::new(),
                    _ => body::short(&mut body, STANDALONE_LIMIT).await,
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
        // Who waits for the answer is told by the next request; the server would wait for ours in vain. That we are still
        // there it may know or not.
        let is_waited_for = match &message {
            ClientJsonRpcMessage::Response(response) => {
                !matches!(response.result, ClientResult::EmptyResult(_))
            }
            ClientJsonRpcMessage::Error(_) => true,
            _ => false,
        };
        if is_waited_for {
            // Perhaps there is no call any more.
            let _ = self.0.undelivered.send(Undelivered { call, failure });
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

/// Forgets a request whose sending was given up.
struct Waiting<'a> {
    wire: &'a Wire,
    id: RequestId,
    is_sent: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_sent {
            self.wire.0.elsewhere.end(&self.id);
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
                self.0.elsewhere.expect(&id);
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
        let Ok(Streamed { status, headers, body, .. }) = answer else {
            self.speaks_no_more();
            return Err(StreamableHttpError::UnexpectedServerResponse("there is no answer".into()));
        };
        if !status.is_success() || reading::shape(&headers) != Shape::Events {
            self.speaks_no_more();
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        self.0.standalone.send_replace(Standalone::Open);
        let wire = self.clone();
        Ok(by_itself(body, move |message| wire.0.elsewhere.arrived(message)))
    }
}
