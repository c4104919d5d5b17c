//! Answers that do not come where their requests were sent: a server takes a request (HTTP status 202) and answers it on
//! the stream on which it speaks by itself. 2025-06-18 wants answers in the body of the POST, and there are servers that
//! do this; a call ends with its answer all the same.
//!
//! Only an answer that names a request under way is taken, and only for that.

use std::collections::HashMap;

use http::StatusCode;
use parking_lot::Mutex;
use rmcp::model::RequestId;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    failure::Failure,
    reading::{self, Incoming},
};

/// Requests that may be answered elsewhere.
#[derive(Default)]
pub(super) struct Elsewhere(Mutex<HashMap<RequestId, Place>>);

/// Where the answer to a request is waited for.
struct Place {
    sender: mpsc::Sender<Incoming>,
    /// Until the server has taken the request.
    receiver: Option<mpsc::Receiver<Incoming>>,
}

impl Elsewhere {
    /// Notes a request before it is sent: its answer may be quicker than the word that it was taken.
    pub(super) fn expect(&self, id: &RequestId) {
        // One answer: what comes behind it is none.
        let (sender, receiver) = mpsc::channel(1);
        self.0.lock().insert(id.clone(), Place { sender, receiver: Some(receiver) });
    }

    /// The server has taken a request: where its answer will come.
    pub(super) fn taken(&self, id: &RequestId) -> Option<mpsc::Receiver<Incoming>> {
        self.0.lock().get_mut(id)?.receiver.take()
    }

    /// Whether the server has taken a request and not answered it.
    pub(super) fn is_taken(&self, id: &RequestId) -> bool {
        self.0.lock().get(id).is_some_and(|place| place.receiver.is_none())
    }

    /// A request has its answer, or nobody waits for it.
    pub(super) fn end(&self, id: &RequestId) {
        self.0.lock().remove(id);
    }

    /// Something that is no request and no notification was said on the stream.
    pub(super) fn arrived(&self, message: Value) {
        let all = self.0.lock();
        let Some((id, place)) = all.iter().find(|(id, _)| reading::is_id(&message["id"], id)) else { return };
        if let Some(answer @ Incoming::Answer(_)) = reading::incoming(message, id, StatusCode::OK) {
            // The first counts.
            let _ = place.sender.try_send(answer);
        }
    }

    /// There is no such stream, or not any more: nothing comes of what was taken.
    pub(super) fn is_over(&self) {
        for place in self.0.lock().values().filter(|place| place.receiver.is_none()) {
            // One that was answered at the last moment stays answered.
            let _ = place.sender.try_send(Incoming::Answer(Err(Failure::Taken)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use serde_json::json;

    use super::*;
    use crate::mcp::fixture::{Reply, Seen, Server, answer, call, call_within, plain, words};

    /// The stream of a server that speaks by itself, as far as it is open.
    type Open = Arc<Mutex<Option<mpsc::UnboundedSender<Vec<u8>>>>>;

    /// A server that takes calls, and what it does with each that it took.
    async fn taking(taken: impl Fn(&Seen, &Open) -> Reply + Send + Sync + 'static) -> Server {
        let open = Open::default();
        Server::start(move |seen| match (seen.method.as_str(), seen.rpc.as_str()) {
            ("GET", _) => {
                let (sender, reply) = Reply::spoken();
                *open.lock() = Some(sender);
                reply
            }
            (_, "initialize") => plain(seen).with("mcp-session-id", "one"),
            (_, "tools/call") => taken(seen, &open),
            _ => plain(seen),
        })
        .await
    }

    fn say(open: &Open, message: &Value) {
        let open = open.lock();
        let sender = open.as_ref().expect("the stream is open");
        sender.send(format!("data: {message}\n\n").into_bytes()).expect("somebody listens");
    }

    fn ok(seen: &Seen, words: &str) -> Value {
        answer(seen, &json!({ "content": [{ "type": "text", "text": words }] }))
    }

    #[tokio::test]
    async fn a_call_ends_with_the_answer_that_comes_on_the_stream_of_the_server_itself() {
        // Before the word that it was taken, with it, and some time behind it.
        for (delay, body) in [(None, ""), (Some(0), "Accepted"), (Some(80), "")] {
            let server = taking(move |seen, open| {
                let (open, message) = (Arc::clone(open), ok(seen, "from elsewhere"));
                match delay {
                    None => say(&open, &message),
                    Some(delay) => {
                        tokio::spawn(async move {
                            tokio::time::sleep(Duration::from_millis(delay)).await;
                            say(&open, &message);
                        });
                    }
                }
                Reply::new(202, "text/plain", body)
            })
            .await;
            let session = server.session().await.expect("opens");
            for _ in 0..2 {
                assert_eq!(words(call(&session).await), "from elsewhere", "{delay:?}");
            }
            assert_eq!(server.count("tools/call"), 2, "nothing is asked twice");
        }
    }

    #[tokio::test]
    async fn each_call_gets_its_own_answer_and_strangers_are_nobodys() {
        let waiting = Mutex::new(Vec::<Seen>::new());
        let server = taking(move |seen, open| {
            let mut waiting = waiting.lock();
            waiting.push(seen.clone());
            if waiting.len() == 3 {
                for stranger in [
                    json!({ "jsonrpc": "2.0", "id": 10_000, "result": { "content": [] } }),
                    json!({ "jsonrpc": "2.0", "id": null, "error": { "code": 1, "message": "nobody's" } }),
                    json!({ "jsonrpc": "2.0", "result": { "content": [] } }),
                    json!([7, "text", null]),
                ] {
                    say(open, &stranger);
                }
                for (number, seen) in waiting.iter().enumerate().rev() {
                    match number {
                        1 => {
                            let error = json!({ "code": -32000, "message": "not today" });
                            say(open, &json!({ "jsonrpc": "2.0", "id": seen.message["id"], "error": error }));
                        }
                        _ => say(open, &ok(seen, &seen.message["id"].to_string())),
                    }
                    // What comes behind an answer is none.
                    say(open, &ok(seen, "once more"));
                }
            }
            Reply::empty(202)
        })
        .await;
        let session = server.session().await.expect("opens");
        let calls = futures::future::join_all((0..3).map(|_| call(&session))).await;
        let mut told: Vec<String> = calls.into_iter().map(words).collect();
        told.sort();
        let ids = server.seen().into_iter().filter(|seen| seen.rpc == "tools/call");
        let ids: Vec<String> = ids.map(|seen| seen.message["id"].to_string()).collect();
        assert!(told.iter().filter(|told| ids.contains(told)).count() == 2, "{told:?} of {ids:?}");
        assert_eq!(told.iter().filter(|told| told.contains("not today")).count(), 1, "{told:?}");
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_told_as_that() {
        let server = taking(|_, _| Reply::empty(202)).await;
        let session = server.session().await.expect("opens");
        let told = words(call_within(&session, Duration::from_millis(300)).await);
        assert!(told.contains("took longer than 300ms: it took the call (HTTP status 202)"), "{told}");
        assert!(told.ends_with("The call may have had its effect"), "{told}");
        assert_eq!(server.count("tools/call"), 1);
    }

    #[tokio::test]
    async fn a_server_that_takes_calls_for_a_session_that_it_has_forgotten_gets_another() {
        let sessions = Arc::new(Mutex::new(0));
        let count = Arc::clone(&sessions);
        let server = Server::start(move |seen| match (seen.method.as_str(), seen.rpc.as_str()) {
            // It opens the stream for whoever wants it.
            ("GET", _) => Reply { hangs: true, ..Reply::new(200, "text/event-stream", ": hello\n\n") },
            (_, "initialize") => {
                *count.lock() += 1;
                plain(seen).with("mcp-session-id", &count.lock().to_string())
            }
            (_, "tools/call") if seen.session() == Some("1") => Reply::empty(202),
            _ => plain(seen),
        })
        .await;
        let session = server.session().await.expect("opens");
        let told = words(call_within(&session, Duration::from_millis(300)).await);
        assert!(told.contains("took longer than 300ms"), "{told}");
        assert_eq!(words(call(&session).await), "ok");
        assert_eq!((*sessions.lock(), server.count("tools/call")), (2, 2), "nothing is asked twice");
    }

    #[tokio::test]
    async fn a_stream_that_is_closed_for_good_ends_the_calls_that_wait_for_it() {
        let opened = Arc::new(Mutex::new(0));
        let open = Open::default();
        let server = Server::start(move |seen| match (seen.method.as_str(), seen.rpc.as_str()) {
            ("GET", _) if std::mem::replace(&mut *opened.lock(), 1) == 1 => Reply::empty(405),
            ("GET", _) => {
                let (sender, reply) = Reply::spoken();
                *open.lock() = Some(sender);
                reply
            }
            (_, "initialize") => plain(seen).with("mcp-session-id", "one"),
            (_, "tools/call") => {
                *open.lock() = None;
                Reply::empty(202)
            }
            _ => plain(seen),
        })
        .await;
        let session = server.session().await.expect("opens");
        let told = words(call(&session).await);
        assert!(told.contains("closed the stream on which the answer could come"), "{told}");
        // Without any such stream, it is told at once.
        let deaf = Server::start(|seen| match seen.rpc.as_str() {
            "initialize" => plain(seen).with("mcp-session-id", "one"),
            "tools/call" => Reply::empty(202),
            _ => plain(seen),
        })
        .await;
        let session = deaf.session().await.expect("opens");
        assert!(words(call(&session).await).contains("HTTP status 202 and an empty answer"));
    }
}
