//! Answers in all frames that servers have for them, and what is none.

use serde_json::{Value, json};

use super::fixture::{Reply, Server, TOKEN, answer, call, events, plain, words};

/// A server that frames its answer to `tools/call` in its own way.
async fn framed(frame: impl Fn(Value) -> Reply + Send + Sync + 'static) -> String {
    let server = Server::start(move |seen| match seen.rpc.as_str() {
        "tools/call" => frame(answer(seen, &json!({ "content": [{ "type": "text", "text": "ok" }] }))),
        _ => plain(seen),
    });
    let session = server.await.session().await.expect("opens");
    words(call(&session).await)
}

/// A notification.
fn told() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "level": "info", "data": "x" } })
}

fn events_of(body: Vec<u8>) -> Reply {
    Reply { body: vec![body], ..events("") }
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2], is_marked: bool) -> Vec<u8> {
    let mark = Some(0xfeff).filter(|_| is_marked);
    mark.into_iter().chain(text.encode_utf16()).flat_map(bytes).collect()
}

#[tokio::test]
async fn answers_are_read_in_any_frame() {
    let text = |message: &Value| message.to_string();
    type Frame = Box<dyn Fn(Value) -> Reply + Send + Sync>;
    let frames: Vec<(&str, Frame)> = vec![
        ("crlf", Box::new(move |m| events(&format!("event: message\r\ndata: {}\r\n\r\n", text(&m))))),
        ("cr", Box::new(move |m| events(&format!("event: message\rdata: {}\r\r", text(&m))))),
        ("bom", Box::new(move |m| events(&format!("\u{feff}data: {}\n\n", text(&m))))),
        (
            "lines",
            Box::new(|m| {
                let lines = serde_json::to_string_pretty(&m).expect("JSON").replace('\n', "\ndata: ");
                events(&format!("data: {lines}\n\n"))
            }),
        ),
        ("no space", Box::new(move |m| events(&format!(": ping\n\ndata:{}\n\n", text(&m))))),
        ("primed", Box::new(move |m| events(&format!("id: 1\ndata: \n\nid: 2\ndata: {}\n\n", text(&m))))),
        ("no end", Box::new(move |m| events(&format!("data: {}\n", text(&m))))),
        ("other event", Box::new(move |m| events(&format!("event: response\ndata: {}\n\n", text(&m))))),
        (
            "ping event",
            Box::new(move |m| events(&format!("event: ping\ndata: keepalive\n\ndata: {}\n\n", text(&m)))),
        ),
        ("upper json", Box::new(move |m| Reply::new(200, "Application/JSON", text(&m)))),
        (
            "upper sse",
            Box::new(move |m| {
                Reply::new(200, "Text/Event-Stream; charset=UTF-8", format!("data: {}\n\n", text(&m)))
            }),
        ),
        ("plain", Box::new(move |m| Reply::new(200, "text/plain", text(&m)))),
        ("sse as plain", Box::new(move |m| Reply::new(200, "text/plain", format!("data: {}\n\n", text(&m))))),
        (
            "sse as json",
            Box::new(move |m| Reply::new(200, "application/json", format!("data: {}\n\n", text(&m)))),
        ),
        ("json as sse", Box::new(move |m| events(&text(&m)))),
        ("json as sse with bom", Box::new(move |m| events(&format!("\u{feff}{}", text(&m))))),
        ("json bom", Box::new(move |m| Reply::new(200, "application/json", format!("\u{feff}{}", text(&m))))),
        ("no type", Box::new(move |m| Reply { body: vec![text(&m).into()], ..Reply::empty(200) })),
        ("batch", Box::new(|m| Reply::json(&json!([m])))),
        (
            "batch of several",
            Box::new(|m| {
                let told = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": {} });
                Reply::json(&json!([told, 7, m]))
            }),
        ),
        ("batch in an event", Box::new(|m| events(&format!("data: {}\n\n", json!([m]))))),
        (
            "id as text",
            Box::new(|mut m| {
                m["id"] = m["id"].to_string().into();
                Reply::json(&m)
            }),
        ),
        (
            "no id",
            Box::new(|mut m| {
                m.as_object_mut().expect("an object").remove("id");
                Reply::json(&m)
            }),
        ),
        (
            "no version",
            Box::new(|mut m| {
                m.as_object_mut().expect("an object").remove("jsonrpc");
                Reply::json(&m)
            }),
        ),
        ("twice", Box::new(|m| events(&format!("data: {m}\n\ndata: {m}\n\n")))),
        ("a status", Box::new(|m| Reply::json(&m).status(500))),
        (
            "in pieces",
            Box::new(move |m| {
                let body = format!("event: message\ndata: {}\n\n", text(&m)).into_bytes();
                Reply { body: body.chunks(3).map(<[u8]>::to_vec).collect(), ..events("") }
            }),
        ),
        (
            "lines of json",
            Box::new(|m| Reply::new(200, "application/x-ndjson", format!("{}\n{m}\n", told()))),
        ),
        (
            "lines of json as json",
            Box::new(|m| Reply::new(200, "application/json", format!("{m}\r\n{}\r\n", told()))),
        ),
        (
            "texts without anything between",
            Box::new(|m| Reply::new(200, "application/json", format!("{}{m}{}", told(), told()))),
        ),
        (
            "a sequence of texts",
            Box::new(|m| Reply::new(200, "application/json-seq", format!("\u{1e}{}\n\u{1e}{m}\n", told()))),
        ),
        (
            "a broken line before",
            Box::new(|m| Reply::new(200, "application/json", format!("{{\"a\": }}\n{m}"))),
        ),
        (
            "a warning before",
            Box::new(|m| Reply::new(200, "text/html", format!("<b>Warning</b>: no {{$x}}\n{m}\n"))),
        ),
        (
            "utf-16",
            Box::new(|m| Reply::new(200, "application/json", utf16(&m.to_string(), u16::to_le_bytes, true))),
        ),
        (
            "utf-16 the other way",
            Box::new(|m| Reply::new(200, "application/json", utf16(&m.to_string(), u16::to_be_bytes, true))),
        ),
        (
            "utf-16 without a mark",
            Box::new(|m| {
                Reply::new(
                    200,
                    "application/json; charset=utf-16",
                    utf16(&m.to_string(), u16::to_le_bytes, false),
                )
            }),
        ),
        (
            "utf-16 events",
            Box::new(|m| events_of(utf16(&format!("data: {m}\r\n\r\n"), u16::to_be_bytes, true))),
        ),
        (
            "bom in pieces",
            Box::new(|m| {
                let body = format!("\u{feff}{m}").into_bytes();
                Reply { body: body.chunks(1).map(<[u8]>::to_vec).collect(), ..events("") }
            }),
        ),
        (
            "events as json in pieces",
            Box::new(|m| {
                let body = format!("data: {m}\n\n").into_bytes();
                Reply {
                    body: body.chunks(2).map(<[u8]>::to_vec).collect(),
                    ..Reply::new(200, "application/json", "")
                }
            }),
        ),
        (
            "bom before an event's name",
            Box::new(|m| events(&format!("\u{feff}event: message\ndata: {m}\n\n"))),
        ),
        (
            "no error",
            Box::new(|mut m| {
                m["error"] = json!(false);
                Reply::json(&m)
            }),
        ),
        (
            "an empty error",
            Box::new(|mut m| {
                m["error"] = json!({ "code": null, "message": null });
                Reply::json(&m)
            }),
        ),
        (
            "python",
            Box::new(|m| {
                let text = m.to_string().replace('"', "'").replace("}}", ", 'x': None}, }");
                Reply::new(200, "application/json", text)
            }),
        ),
        (
            "a comma too many",
            Box::new(|m| Reply::new(200, "application/json", m.to_string().replace("]}", ",]\n,}"))),
        ),
        ("comments between", Box::new(|m| events(&format!(":\r:hi\r\r: x\rdata: {m}\r\r")))),
        (
            "no empty line, and it hangs",
            Box::new(|m| Reply { hangs: true, ..events(&format!("data: {m}\n")) }),
        ),
        ("json that hangs", Box::new(|m| Reply { hangs: true, ..Reply::json(&m) })),
        (
            "lines that hang",
            Box::new(|m| Reply {
                hangs: true,
                ..Reply::new(200, "text/plain", format!("{}\n{m}\n{{\"a", told()))
            }),
        ),
        ("json as events that hangs", Box::new(|m| Reply { hangs: true, ..events(&m.to_string()) })),
        ("an error after it", Box::new(|m| events(&format!("data: {m}\n\nevent: error\ndata: late\n\n")))),
        (
            "another answer before it",
            Box::new(|m| events(&format!("data: {{\"id\": 77, \"result\": {{}}}}\n\ndata: {m}\n\n"))),
        ),
        (
            "never ends",
            Box::new(move |m| Reply { hangs: true, ..events(&format!("data: {}\n\n", text(&m))) }),
        ),
    ];
    for (name, frame) in frames {
        assert_eq!(framed(frame).await, "ok", "{name}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_told_at_once_with_the_servers_words() {
    let error = |id: Option<Value>| {
        let mut error =
            json!({ "jsonrpc": "2.0", "error": { "code": -32603, "message": "the database is gone" } });
        if let Some(id) = id {
            error["id"] = id;
        }
        error
    };
    let named = "the server of connector 'odd' (odd.test) ";
    for id in [Some(Value::Null), None, Some(json!("server-error"))] {
        let said = error(id.clone());
        let body = said.clone();
        let told = framed(move |_| Reply::json(&body)).await;
        assert_eq!(told, format!("{named}answered with error -32603: the database is gone"));
        let body = said.clone();
        let told = framed(move |_| events(&format!("data: {body}\n\n"))).await;
        assert_eq!(told, format!("{named}answered with error -32603: the database is gone"));
        let body = said.clone();
        let told = framed(move |_| Reply::json(&body).status(400)).await;
        assert_eq!(
            told,
            format!("{named}answered with HTTP status 400 and error -32603: the database is gone")
        );
        let told = framed(move |_| Reply::json(&said).status(500)).await;
        assert_eq!(told, format!("{named}answered with HTTP status 500: error -32603: the database is gone"));
    }
    let table: Vec<(Reply, &str)> = vec![
        (Reply::new(200, "application/json", ""), "an empty answer"),
        (Reply::new(200, "text/html", "<html>Log in</html>"), "a page of HTML"),
        (Reply::new(200, "application/json", "{}"), "JSON that is no message of JSON-RPC"),
        (Reply::new(200, "application/json", "{\"jsonrpc"), "with JSON that ends too soon"),
        (
            Reply::new(200, "application/json", "{\"id\": x y}"),
            "with JSON with a mistake in line 1, column 8",
        ),
        (Reply::empty(202), "HTTP status 202 and an empty answer"),
        (Reply::new(200, "text/plain", "Service Unavailable"), "no JSON, which says: Service Unavailable"),
        (
            Reply::new(200, "application/json", "{\"message\": \"no such route\"}"),
            "no message of JSON-RPC, which says: no such route",
        ),
        (
            events("event: error\ndata: the tool has burst\n\n"),
            "an event 'error', which says: the tool has burst",
        ),
        (events("event: Error\n\n"), "an event 'error', without a word"),
        (
            Reply { hangs: true, ..events("event: error\ndata: {\"message\": \"boom\"}\n\n") },
            "an event 'error', which says: boom",
        ),
        (events(&format!("event: error\ndata: I got {TOKEN}\n\n")), "repeats the credential"),
        (
            events(&format!("event: error\ndata: {}\n\n", error(None))),
            "answered with error -32603: the database is gone",
        ),
        (events("data: Unauthorized\n\n"), "was answered, and said before: Unauthorized"),
        (events("Internal Server Error\n"), "was answered, and said before: Internal Server Error"),
        (events("data: {\"id\": 99, \"result\": {}}\n\n"), "said before: an answer to another request"),
        (Reply::new(200, "application/json", "{\"id\": 99, \"result\": {}}"), "an answer to another request"),
        (Reply::new(200, "application/json", "[".repeat(300_000)), "with JSON "),
        (Reply::new(200, "application/json", "{\"error\": false}"), "no message of JSON-RPC"),
        (Reply::new(200, "application/json", "{\"error\": {}}"), "an error without a word"),
        (events(": nothing\n\n"), "closed the stream before 'tools/call' was answered"),
        (events(""), "closed the stream before 'tools/call' was answered"),
        (Reply::new(400, "text/plain", "no\r\nway"), "answered with HTTP status 400: no  way"),
        (Reply::new(422, "application/json", "{\"detail\":[{\"msg\":\"odd\"}]}"), "HTTP status 422: odd"),
        (
            Reply::new(500, "text/plain", format!("I got {TOKEN}!")),
            "HTTP status 500: what it says repeats the credential ([REDACTED])",
        ),
        (Reply::new(503, "text/plain", "x".repeat(1000)), "HTTP status 503: xxxx"),
        (Reply { hangs: true, ..Reply::new(400, "text/plain", "slow") }, "HTTP status 400: slow"),
    ];
    for (reply, expected) in table {
        let reply = parking_lot::Mutex::new(Some(reply));
        let told = framed(move |_| reply.lock().take().unwrap_or_else(|| Reply::empty(500))).await;
        assert!(told.contains(expected), "{told:?} instead of {expected:?}");
        assert!(told.starts_with(named) && told.len() < 600, "{told}");
    }
}
