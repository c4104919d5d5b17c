//! A client with a pool uses a connection again after every answer that did not say otherwise. Requests of all kinds are
//! sent one after the other over connections that stay open, and each has its own answer.

use std::time::Duration;

use airlock_api::Limits;
use airlock_patience::LIMIT;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, tcp::OwnedReadHalf},
    time::timeout,
};

use crate::house::House;

/// Bytes that are read of a body that nobody wants.
const READ: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Framing {
    Length,
    Chunked,
}

/// A kind of request, and what is answered, with a key and as a stranger.
struct Kind {
    line: &'static str,
    with_key: bool,
    status: u16,
    /// Somebody wants the body: it is read to its end whatever it is.
    reads: bool,
}

const KINDS: [Kind; 8] = [
    Kind { line: "POST /v1/workflows/echo/execute", with_key: false, status: 401, reads: false },
    Kind { line: "PUT /v1/airlock/connectors/x/openapi", with_key: false, status: 401, reads: false },
    Kind { line: "POST /v1/nothing/here", with_key: true, status: 404, reads: false },
    Kind { line: "POST /v1/workflows/executions/none/cancel", with_key: true, status: 404, reads: false },
    Kind { line: "DELETE /v1/workflows", with_key: true, status: 405, reads: false },
    Kind { line: "GET /v1/whoami", with_key: true, status: 200, reads: false },
    Kind { line: "POST /v1/connectors-gateway/some/mcp", with_key: true, status: 501, reads: false },
    Kind { line: "POST /v1/workflows/echo/execute", with_key: true, status: 422, reads: true },
];

/// The head of an answer, and its body.
struct Answer {
    status: u16,
    closes: bool,
    body: String,
}

/// Reads one answer, after any that only says to go on. Whether there was one.
async fn answer(reader: &mut OwnedReadHalf, held: &mut Vec<u8>) -> (bool, Answer) {
    let mut went_on = false;
    loop {
        let head = loop {
            if let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
                break held.drain(..end + 4).collect::<Vec<u8>>();
            }
            more(reader, held).await;
        };
        let head = String::from_utf8(head).expect("text");
        let status: u16 = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        if status == 100 {
            went_on = true;
            continue;
        }
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
            line.map(|line| line.split_once(':').expect("a header").1.trim().to_lowercase())
        };
        let length: usize = header("content-length").expect("a length").parse().expect("a number");
        while held.len() < length {
            more(reader, held).await;
        }
        let body = String::from_utf8(held.drain(..length).collect()).expect("text");
        return (went_on, Answer { status, closes: header("connection").as_deref() == Some("close"), body });
    }
}

async fn more(reader: &mut OwnedReadHalf, held: &mut Vec<u8>) {
    let mut piece = [0; 16 << 10];
    let count = timeout(LIMIT, reader.read(&mut piece)).await.expect("in time").expect("is not cut");
    assert!(count > 0, "the connection ended within an answer: {:?}", String::from_utf8_lossy(held));
    held.extend_from_slice(&piece[..count]);
}

/// A request with a body of so many bytes, in its head and the rest.
fn request(house: &House, kind: &Kind, size: usize, framing: Framing, expects: bool) -> (String, Vec<u8>) {
    let mut head = format!("{} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n", kind.line);
    if kind.with_key {
        head.push_str(&format!("authorization: Bearer {}\r\n", house.owner));
    }
    if expects {
        head.push_str("expect: 100-continue\r\n");
    }
    // No JSON.
    let text = vec![b'['; size];
    let body = match framing {
        Framing::Length => {
            head.push_str(&format!("content-length: {size}\r\n\r\n"));
            text
        }
        Framing::Chunked => {
            head.push_str("transfer-encoding: chunked\r\n\r\n");
            let mut chunks = Vec::new();
            for piece in text.chunks(60_000) {
                chunks.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                chunks.extend_from_slice(piece);
                chunks.extend_from_slice(b"\r\n");
            }
            chunks.extend_from_slice(b"0\r\n\r\n");
            chunks
        }
    };
    (head, body)
}

/// A request that says who answers: its own answer, and not what was left of another one, has to come.
const NEXT: &str = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_every_answer_the_connection_serves_the_next_request_or_was_said_to_end() {
    let house = House::new().await;
    let (mut kept, mut closed) = (0, 0);
    for kind in &KINDS {
        for size in [0, 1, 3_000, 200_000, READ, READ + 1, 3 * READ] {
            for framing in [Framing::Length, Framing::Chunked] {
                for expects in [false, true] {
                    let what = format!("{} {} {size} {framing:?} {expects}", kind.line, kind.with_key);
                    let stream = TcpStream::connect(house.address).await.expect("connects");
                    let (mut reader, mut writer) = stream.into_split();
                    let (head, body) = request(&house, kind, size, framing, expects);
                    let mut held = Vec::new();
                    writer.write_all(head.as_bytes()).await.expect("is taken");
                    // Whoever expects to be told waits, for a while or for an answer.
                    let sends_anyway = !expects || kind.reads;
                    let sending = async {
                        if sends_anyway {
                            // What nobody reads may not all be taken.
                            let _ = writer.write_all(&body).await;
                        }
                        writer
                    };
                    let ((went_on, answer_), mut writer) =
                        tokio::join!(answer(&mut reader, &mut held), sending);
                    let Answer { status, closes, body } = answer_;
                    // Nothing at all stands for an object without members.
                    let expected = if kind.reads && size == 0 { 200 } else { kind.status };
                    assert_eq!(status, expected, "{what}: {body}");
                    let has_body = size > 0 || framing == Framing::Chunked;
                    assert!(
                        !went_on || (expects && kind.reads),
                        "{what}: it is not told to send what nobody wants"
                    );
                    let is_left = !kind.reads && has_body && (expects || size > READ);
                    assert_eq!(closes, is_left, "{what}");
                    if closes {
                        closed += 1;
                        let mut rest = Vec::new();
                        let end = timeout(LIMIT, reader.read_to_end(&mut rest)).await.expect("in time");
                        assert!(end.is_ok() && rest.is_empty(), "{what}: {end:?} {}", rest.len());
                        continue;
                    }
                    kept += 1;
                    for _ in 0..2 {
                        writer.write_all(NEXT.as_bytes()).await.expect("is taken");
                        let (_, next) = answer(&mut reader, &mut held).await;
                        assert_eq!((next.status, next.body.as_str()), (200, r#"{"status":"ok"}"#), "{what}");
                    }
                }
            }
        }
    }
    assert!(kept > 80 && closed > 60, "{kept} were kept, {closed} were closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_beyond_its_limit_has_its_answer_read_before_the_connection_ends() {
    let house = House::new().await;
    for framing in [Framing::Length, Framing::Chunked] {
        let kind =
            Kind { line: "POST /v1/workflows/echo/execute", with_key: true, status: 413, reads: false };
        let (head, body) = request(&house, &kind, 20 << 20, framing, false);
        let stream = TcpStream::connect(house.address).await.expect("connects");
        let (mut reader, mut writer) = stream.into_split();
        let mut held = Vec::new();
        let sending = async {
            writer.write_all(head.as_bytes()).await.expect("is taken");
            let _ = writer.write_all(&body).await;
        };
        let ((_, answer), ()) = tokio::join!(answer(&mut reader, &mut held), sending);
        assert_eq!((answer.status, answer.closes), (413, true), "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_too_many_requests_keeps_the_connection_of_the_one_that_was_refused() {
    let house =
        House::with(Limits { connections: 16, connections_per_address: 16, ..Limits::default() }).await;
    house.start("Wait", "waits", serde_json::json!({})).await;
    let ask = format!(
        "GET /v1/workflows/executions/waits/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        house.owner
    );
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(house.address).await.expect("connects");
        stream.write_all(ask.as_bytes()).await.expect("is taken");
        let mut first = [0; 12];
        timeout(LIMIT, stream.read_exact(&mut first)).await.expect("in time").expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        streams.push(stream);
    }
    let kind = Kind { line: "POST /v1/workflows/echo/execute", with_key: true, status: 429, reads: false };
    let (head, body) = request(&house, &kind, 200_000, Framing::Length, false);
    let (mut reader, mut writer) = TcpStream::connect(house.address).await.expect("connects").into_split();
    let mut held = Vec::new();
    writer.write_all(head.as_bytes()).await.expect("is taken");
    writer.write_all(&body).await.expect("is taken");
    let (_, refused) = answer(&mut reader, &mut held).await;
    assert_eq!((refused.status, refused.closes), (429, false), "{}", refused.body);
    writer.write_all(NEXT.as_bytes()).await.expect("is taken");
    assert_eq!(answer(&mut reader, &mut held).await.1.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_beyond_a_moment() {
    let house = House::new().await;
    let kind = Kind { line: "POST /v1/workflows/echo/execute", with_key: false, status: 401, reads: false };
    let (head, _) = request(&house, &kind, 1_000, Framing::Length, false);
    let (mut reader, mut writer) = TcpStream::connect(house.address).await.expect("connects").into_split();
    writer.write_all(head.as_bytes()).await.expect("is taken");
    let began = std::time::Instant::now();
    let (_, answer) = answer(&mut reader, &mut Vec::new()).await;
    assert_eq!((answer.status, answer.closes), (401, true));
    assert!(began.elapsed() >= Duration::from_millis(900), "it had its time: {:?}", began.elapsed());
    let end = timeout(LIMIT, reader.read(&mut [0; 8])).await.expect("in time");
    assert_eq!(end.expect("is not cut"), 0);
}
