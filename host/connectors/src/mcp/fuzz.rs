//! The target of fuzzing: answers of MCP servers in whatever frame, and what is made of them.

use std::{sync::Arc, time::Duration};

use airlock_engine::json;
use airlock_fuzz::{Fuzz, Judged, Verdict, promised};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use proptest::prelude::*;
use rmcp::model::{DiscoverResult, InitializeResult, RequestId, Tool};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::mpsc};
use url::Url;

use super::{
    answer,
    body::{self, Body},
    encoding,
    failure::Failure,
    fixture::TOKEN,
    handshake,
    listing::Listing,
    reading::{self, Incoming, Shape},
    stream::Stream,
    told::Told,
};
use crate::egress::{Egress, Live, Sender, address::Allowed, secret::Secret};

const ID: RequestId = RequestId::Number(3);

/// What stands in an input for the credential, so that it does not have to be guessed.
const ECHO: &[u8] = b"@TOKEN@";

/// An answer: a line with the question, the status, how many bytes come at once (0 for all) and the media type, and a body.
struct Given<'a> {
    question: &'a str,
    status: StatusCode,
    piece: usize,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl<'a> Given<'a> {
    fn read(line: &'a str, body: &[u8]) -> Self {
        let mut words = line.splitn(4, ' ');
        let question = words.next().unwrap_or_default();
        let status =
            words.next().and_then(|status| status.parse().ok()).filter(|status| (200..600).contains(status));
        let piece = words.next().and_then(|piece| piece.parse().ok()).unwrap_or(0);
        let kind = words.next().and_then(|kind| HeaderValue::from_str(kind).ok());
        let mut headers = HeaderMap::new();
        if let Some(kind) = kind {
            headers.insert(header::CONTENT_TYPE, kind);
        }
        let status = StatusCode::from_u16(status.unwrap_or(200)).expect("a status");
        Self { question, status, piece, headers, body: replaced(body) }
    }
}

/// The body with the credential where the input says so.
fn replaced(body: &[u8]) -> Vec<u8> {
    let (mut whole, mut rest) = (Vec::with_capacity(body.len()), body);
    while let Some(at) = rest.windows(ECHO.len()).position(|word| word == ECHO) {
        whole.extend_from_slice(&rest[..at]);
        whole.extend_from_slice(TOKEN.as_bytes());
        rest = &rest[at + ECHO.len()..];
    }
    whole.extend_from_slice(rest);
    whole
}

/// What all answers are read with.
struct Reader {
    runtime: Runtime,
    sender: Sender,
    live: Arc<Live>,
}

impl Reader {
    fn new() -> Self {
        // Time goes on by itself where nothing else happens, so that what waits does not wait.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let secret = Secret { bearer: Some(TOKEN.into()), ..Secret::default() };
        let live = Live::new(secret.render(&[], &[]).expect("renders"));
        // Nobody listens there, so that a stream that breaks off is not taken up again.
        let server = Url::parse("http://127.0.0.1:1/mcp").expect("an address");
        let egress = Egress::new(Allowed::default()).expect("a client");
        Self { runtime: runtime.expect("a runtime"), sender: egress.sender(&server, live.clone()), live }
    }

    /// The messages of the server and its answer, with the body in pieces of this size.
    fn answer(&self, given: &Given<'_>, piece: usize) -> (bool, Vec<Value>, Result<Value, Failure>) {
        let size = if piece == 0 { given.body.len().max(1) } else { piece };
        let pieces: Vec<_> = given.body.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut pieces = encoding::utf8(stream::iter(pieces).boxed());
        self.runtime.block_on(async {
            let is_events = given.status.is_success() && reading::shape(&given.headers) == Shape::Events;
            let begin = match is_events {
                true => Vec::new(),
                false => match body::read(&mut pieces, &ID, given.status, &given.headers).await {
                    Err(failure) => return (false, Vec::new(), Err(failure)),
                    Ok(Body::Whole(others, result)) => return (false, others, result),
                    Ok(Body::Events(begin)) => begin,
                },
            };
            let (sender, mut incoming) = mpsc::channel(16);
            let (egress, status) = (self.sender.clone(), given.status);
            let stream = Stream { egress, id: ID, headers: HeaderMap::new(), status, sender };
            let reading = async move { stream.run(begin, pieces).await };
            let hearing = async move {
                let mut others = Vec::new();
                while let Some(heard) = incoming.recv().await {
                    match heard {
                        Incoming::Answer(answer) => return (others, answer),
                        Incoming::Other(other) => others.push(other),
                    }
                }
                (others, Err(Failure::Closed(None)))
            };
            let ((), (others, answer)) = tokio::join!(reading, hearing);
            (true, others, answer)
        })
    }

    fn judged(&self, input: &[u8]) -> Judged {
        let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
        let line = String::from_utf8_lossy(&input[..end]);
        let given = Given::read(&line, input.get(end + 1..).unwrap_or_default());
        let (is_events, others, answer) = self.answer(&given, given.piece);
        if !is_events && given.piece != 0 {
            let whole = self.answer(&given, 0);
            promised!(
                whole == (false, others.clone(), answer.clone()),
                "in pieces {answer:?}, whole {whole:?}"
            );
        }
        match answer {
            Ok(result) => self.used(given.question, result),
            Err(failure) => self.refused(given.question, &failure),
        }
    }

    fn refused(&self, question: &str, failure: &Failure) -> Judged {
        let question = if question == "list" { "tools/list" } else { "tools/call" };
        let told = Told { connector: "odd", host: "odd.test", credential: None, live: &self.live };
        let told = told.failed(failure, question).error.to_string();
        promised!(told.contains("'odd' (odd.test)"), "it does not say whose fault it is: {told}");
        promised!(told.len() < 1_600 && !told.contains(TOKEN), "told: {told}");
        promised!(!told.chars().any(char::is_control), "told: {told:?}");
        // Behind it are the server's own words.
        Ok(Verdict::Refused(told.split(": ").next().unwrap_or_default().to_owned()))
    }

    /// What becomes of a result, by what was asked for.
    fn used(&self, question: &str, result: Value) -> Judged {
        let rendered = self.live.rendered();
        match question {
            "initialize" => {
                let (clean, agreed) = handshake::initialized(&result);
                promised!(serde_json::from_value::<InitializeResult>(clean).is_ok(), "no session begins");
                promised!(HeaderValue::from_str(&agreed.version).is_ok(), "{agreed:?} cannot be sent");
                Ok(Verdict::Used)
            }
            "discover" => match handshake::discovered(&result) {
                None => Ok(Verdict::Refused("it does not speak the newest version".into())),
                Some(clean) => {
                    promised!(serde_json::from_value::<DiscoverResult>(clean).is_ok(), "no session begins");
                    Ok(Verdict::Used)
                }
            },
            "list" => {
                let mut listing = Listing::default();
                listing.page(result, &rendered.scrubber);
                let (tools, left_out) = listing.end();
                for tool in &tools {
                    promised!(serde_json::from_value::<Tool>(tool.clone()).is_ok(), "nobody reads {tool}");
                }
                let all = Value::from(tools).to_string();
                promised!(json::check(&all).is_ok(), "nobody reads {all}");
                for left in &left_out {
                    promised!(!left.what.is_empty() && left.what.len() < 600, "left out: {left:?}");
                }
                promised!(
                    !format!("{all}{left_out:?}").contains(TOKEN),
                    "the credential is in {all} {left_out:?}"
                );
                Ok(match left_out.into_iter().next() {
                    None => Verdict::Used,
                    Some(left) => Verdict::LeftOut(left.reason),
                })
            }
            _ => {
                let mut answer = answer::read(result);
                let all = answer.to_string();
                promised!(json::check(&all).is_ok(), "nobody reads {all}");
                promised!(answer["content"].is_array(), "no content: {all}");
                rendered.scrubber.value(&mut answer);
                let all = answer.to_string();
                promised!(!all.contains(TOKEN), "the credential is in {all}");
                Ok(Verdict::Used)
            }
        }
    }
}

/// Messages, in frames that servers have for them.
fn framed() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        Just(json!("@TOKEN@")),
        Just(
            json!({ "name": "a", "inputSchema": { "type": "object" }, "annotations": { "readOnlyHint": true } })
        ),
        Just(json!({ "type": "text", "text": "ok" })),
    ];
    let members = vec![
        "tools",
        "content",
        "structuredContent",
        "isError",
        "_meta",
        "nextCursor",
        "name",
        "type",
        "text",
        "message",
        "code",
        "data",
        "protocolVersion",
        "supportedVersions",
        "inputSchema",
        "icons",
        "toolResult",
    ];
    let value = leaf.prop_recursive(5, 24, 4, move |inner| {
        let member = (prop::sample::select(members.clone()), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            prop::collection::vec(member, 0..5).prop_map(|members| Value::Object(
                members.into_iter().map(|(name, value)| (name.into(), value)).collect()
            )),
        ]
    });
    let message = (value, 0..5_usize).prop_map(|(value, which)| match which {
        0 => json!({ "jsonrpc": "2.0", "id": 3, "error": value }),
        1 => json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": value }),
        2 => json!({ "id": "3", "result": value }),
        3 => json!({ "jsonrpc": "2.0", "id": 4, "result": value }),
        _ => json!({ "jsonrpc": "2.0", "id": 3, "result": value }),
    });
    let question = prop::sample::select(vec!["call", "call", "list", "initialize", "discover"]);
    let status = prop::sample::select(vec![200_u16, 200, 200, 202, 400, 401, 403, 429, 500, 503]);
    let messages = prop::collection::vec(message, 0..4);
    (question, status, 0..9_usize, messages, 0..6_usize).prop_map(
        |(question, status, piece, messages, frame)| {
            let texts: Vec<String> = messages.iter().map(Value::to_string).collect();
            let (kind, body) = match frame {
                0 => ("application/json", texts.join("\n")),
                1 => (
                    "text/event-stream",
                    texts.iter().map(|text| format!("event: message\ndata: {text}\n\n")).collect(),
                ),
                2 => (
                    "text/event-stream",
                    texts.iter().map(|text| format!("id: 1\r\ndata:{text}\r\n\r\n")).collect(),
                ),
                3 => ("text/plain", texts.iter().map(|text| format!("data: {text}\n\n")).collect()),
                4 => ("application/json", Value::from(messages).to_string()),
                _ => ("", texts.concat()),
            };
            format!("{question} {status} {piece} {kind}\n{body}").into_bytes()
        },
    )
}

/// The bodies of the corpus of odd answers.
fn seen() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/mcp");
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(folder).expect("lists") {
        let case = std::fs::read(entry.expect("lists").path()).expect("reads");
        let case: Value = serde_json::from_slice(&case).expect("JSON");
        for (question, said) in case["answers"].as_object().expect("answers") {
            let question = question.trim_start_matches("server/").trim_start_matches("tools/");
            let kind = said["type"].as_str().unwrap_or("application/json");
            let body = said["body"].as_str().map_or_else(|| said.to_string(), str::to_owned);
            inputs.push(format!("{question} {} 0 {kind}\n{body}", said["status"].as_u64().unwrap_or(200)));
        }
    }
    inputs
}

#[test]
fn fuzz_an_answer_of_an_mcp_server_is_used_or_told_in_words_without_the_credential() {
    let reader = Reader::new();
    Fuzz::new("mcp", env!("CARGO_MANIFEST_DIR"))
        .base(seen())
        .grammar(framed)
        .words([
            "data: ",
            "event: message\n",
            "event: error\n",
            "id: 1\n",
            "retry: 0\n",
            ": \n",
            "\n\n",
            "\r\r",
            "\"id\":3,",
            "\"result\":{",
            "\"error\":{",
            "\"jsonrpc\":\"2.0\",",
            "\"method\":",
            "\"tools\":[",
            "\"content\":[",
            "\"nextCursor\":\"a\"",
            "\"isError\":\"true\"",
            "@TOKEN@",
            "None",
            "True",
            "undefined",
            "\u{1e}",
            "<!doctype html>",
            "list 200 0 ",
            "call 200 1 ",
            "initialize ",
            "discover ",
            "text/event-stream",
        ])
        .time(Duration::from_millis(300))
        .run(move |input| reader.judged(input));
}
