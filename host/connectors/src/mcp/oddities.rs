//! What servers do that is allowed, odd or wrong, each over a socket: nothing hangs, nothing is lost, and the connector
//! stays usable.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::fixture::{Reply, Seen, Server, TOKEN, answer, call, events, plain, words};
use crate::protocol::service::Service as _;

fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

fn ok(seen: &Seen) -> Value {
    answer(seen, &json!({ "content": [{ "type": "text", "text": "ok" }] }))
}

/// A server that answers calls in its own way, a session with it, and what it gave.
async fn calling(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Result<Value, String> {
    let server = Server::start(move |seen| match seen.rpc.as_str() {
        "tools/call" => script(seen),
        _ => plain(seen),
    })
    .await;
    let session = server.session().await.expect("opens");
    call(&session).await.map_err(|trouble| trouble.error.to_string())
}

/// So many objects in each other.
fn nested(depth: usize, inside: &str) -> String {
    format!("{}{inside}{}", "{\"a\":".repeat(depth), "}".repeat(depth))
}

#[tokio::test]
async fn an_answer_is_carried_whatever_its_depth_and_what_is_too_deep_of_it_as_a_text() {
    for depth in [90, 96, 100, 125, 126, 127, 128, 129, 200, 10_000, 50_000] {
        for (member, framed) in
            [("structuredContent", false), ("structuredContent", true), ("content", false)]
        {
            let told = calling(move |seen| {
                let body = format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{\"{member}\":{},\"isError\":false}}}}",
                    seen.message["id"],
                    nested(depth, &format!("[\"the-end\",\"\\u0074{}\"]", &TOKEN[1..])),
                );
                match framed {
                    true => events(&format!("data: {body}\n\n")),
                    false => Reply::new(200, "application/json", body),
                }
            });
            let answer = told.await.unwrap_or_else(|error| panic!("{depth} {member}: {error}"));
            let text = answer.to_string();
            assert!(text.contains("the-end"), "{depth} {member}");
            // Somebody else can read it, also inside of something.
            let around = json!([[[[[[[[[[answer.clone()]]]]]]]]]]);
            serde_json::from_str::<Value>(&around.to_string()).expect("is not too deep");
            // What hides in the text is found by what looks for it.
            let mut scrubbed = answer;
            let mut scrubber = crate::egress::scrub::Scrubber::default();
            scrubber.add(TOKEN);
            scrubber.value(&mut scrubbed);
            assert!(!scrubbed.to_string().contains(&TOKEN[1..]), "{depth} {member}");
        }
    }
}

#[tokio::test]
async fn a_tool_whose_schema_is_too_deep_loses_that_and_nothing_else() {
    for depth in [80, 130, 5_000] {
        let server = Server::start(move |seen| match seen.rpc.as_str() {
            "tools/list" => {
                let deep = nested(depth, "1");
                let body = format!(
                    "{{\"id\":{},\"result\":{{\"tools\":[{},{{\"name\":\"echo\",\"inputSchema\":{deep},\"outputSchema\":{deep},\
                     \"_meta\":{deep}}}]}}}}",
                    seen.message["id"],
                    tool("first"),
                );
                Reply::new(200, "application/json", body)
            }
            _ => plain(seen),
        })
        .await;
        let session = server.session().await.expect("opens");
        let tools = session.tools(true).await.map_err(|trouble| trouble.error).expect("lists");
        assert_eq!((tools.list.len(), &tools.list[1]["inputSchema"]), (2, &json!({ "type": "object" })));
        assert!(tools.left_out.iter().all(|left| left.what.ends_with("of 'echo'")), "{:?}", tools.left_out);
        assert_eq!(words(call(&session).await), "ok");
    }
}

type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

#[tokio::test]
async fn a_list_whose_later_page_fails_is_as_long_as_it_was_until_then() {
    let error = |seen: &Seen, code: i64| {
        let error = json!({ "code": code, "message": "no more" });
        Reply::json(&json!({ "jsonrpc": "2.0", "id": seen.message["id"], "error": error }))
    };
    let pages: Vec<(&str, Script)> = vec![
        ("took longer", Arc::new(|_| Reply { hangs: true, ..events(": wait\n\n") })),
        ("took longer", Arc::new(|_| Reply { hangs: true, ..Reply::new(200, "application/json", " ") })),
        ("closed the stream", Arc::new(|_| events(": bye\n\n"))),
        ("no more", Arc::new(move |seen| error(seen, -32603))),
        ("no more", Arc::new(move |seen| error(seen, -32602))),
        ("404", Arc::new(|_| Reply::empty(404))),
        ("bad cursor", Arc::new(|_| Reply::new(400, "text/plain", "bad cursor"))),
        ("500", Arc::new(|_| Reply::empty(500))),
        ("refused", Arc::new(|_| Reply::empty(401))),
        ("a page of HTML", Arc::new(|_| Reply::new(200, "text/html", "<html>"))),
        ("empty answer", Arc::new(|_| Reply::empty(202))),
        ("ends too soon", Arc::new(|_| Reply::new(200, "application/json", "{\"result\": {"))),
    ];
    let all = pages.into_iter().flat_map(|(expected, page)| {
        [false, true].map(|has_session| listing_until(expected, Arc::clone(&page), has_session))
    });
    futures::future::join_all(all).await;
}

async fn listing_until(expected: &str, page: Script, has_session: bool) {
    // Notes about what is odd leave room for what is missing.
    let first: Vec<Value> = (0..60).map(|_| json!(7)).chain([tool("echo")]).collect();
    let server = Server::start(move |seen| match seen.rpc.as_str() {
        "initialize" if has_session => plain(seen).with("mcp-session-id", "one"),
        "tools/list" if seen.message["params"]["cursor"].is_string() => page(seen),
        "tools/list" => Reply::json(&answer(seen, &json!({ "tools": first, "nextCursor": "2" }))),
        _ => plain(seen),
    })
    .await;
    let session = server.session().await.expect("opens");
    let listed = tokio::time::timeout(Duration::from_secs(25), session.tools(true)).await.expect("in time");
    let tools = listed.unwrap_or_else(|trouble| panic!("{expected}: {}", trouble.error));
    assert_eq!(tools.list.len(), 1, "{expected}");
    let first = &tools.left_out[0];
    assert!(first.what.starts_with("page 2") && first.reason.contains(expected), "{first:?}");
    assert_eq!(words(call(&session).await), "ok", "{expected}: it can be used");
    // The part is remembered, but not for long.
    let asked = server.count("tools/list");
    assert_eq!(session.tools(false).await.map_err(|trouble| trouble.error).expect("lists").list.len(), 1);
    assert_eq!(server.count("tools/list"), asked);
}

#[tokio::test]
async fn what_a_server_says_before_its_answer_costs_nothing() {
    let message =
        |method: &str, params: Value| json!({ "jsonrpc": "2.0", "method": method, "params": params });
    let progress = "notifications/progress";
    let spoken = vec![
        message(progress, json!({ "progressToken": "nobody's", "progress": 1 })),
        message(progress, json!({ "progressToken": 10_000, "progress": 1, "total": 2, "message": "m" })),
        message(progress, json!({ "progressToken": {}, "progress": "half" })),
        message(progress, json!({})),
        message(progress, json!(null)),
        message("notifications/message", json!({ "level": "loud", "data": null })),
        message("notifications/cancelled", json!({ "requestId": 10_000 })),
        message("notifications/tools/list_changed", json!([])),
        message("notifications/of/nobody", json!({ "a": [1] })),
        json!({ "method": "" }),
        json!({ "jsonrpc": "2.0", "id": 5, "method": "ping" }),
        json!({ "jsonrpc": "2.0", "id": "p", "method": "ping", "params": null }),
        json!({ "jsonrpc": "2.0", "id": null, "method": "ping" }),
        json!({ "jsonrpc": "2.0", "id": 6, "method": "roots/list" }),
        json!({ "jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage", "params": {} }),
        json!({ "jsonrpc": "2.0", "id": 8, "method": "elicitation/create", "params": { "message": 7 } }),
        json!({ "jsonrpc": "2.0", "id": 9, "method": "of/nobody" }),
        json!({ "jsonrpc": "2.0", "id": { "a": 1 }, "method": "ping" }),
        json!({ "jsonrpc": "2.0", "id": 77, "result": { "content": [] } }),
        json!({ "jsonrpc": "2.0", "id": 77, "method": 7 }),
        json!("text"),
        json!(7),
        json!([]),
        json!(null),
    ];
    for said in spoken {
        for (framed, times) in [(true, 1), (false, 1), (true, 300)] {
            let said = said.clone();
            let about = format!("{said} {framed}");
            let answered = calling(move |seen| match framed {
                true => {
                    let before = format!("data: {said}\n\n").repeat(times);
                    events(&format!("{before}data: {}\n\n", ok(seen)))
                }
                false => Reply::json(&json!([said, ok(seen)])),
            });
            assert_eq!(words(answered.await.map_err(|error| panic!("{about}: {error}"))), "ok", "{about}");
        }
    }
}

#[tokio::test]
async fn a_server_that_does_not_take_our_answers_harms_that_call_and_no_other() {
    let asks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asks);
    let server = Server::start(move |seen| match seen.rpc.as_str() {
        "tools/call" if count.fetch_add(1, Ordering::SeqCst) == 0 => {
            let question =
                json!({ "jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {} });
            Reply { hangs: true, ..events(&format!("data: {question}\n\n")) }
        }
        // Our answer.
        "" if seen.method == "POST" => Reply::new(500, "text/plain", "no answers please"),
        _ => plain(seen),
    })
    .await;
    let session = server.session().await.expect("opens");
    let told = words(call(&session).await);
    assert!(told.contains("no answers please"), "{told}");
    for _ in 0..3 {
        assert_eq!(words(call(&session).await), "ok");
    }
    // That nobody hears that we are there costs nothing.
    let answered = calling(|seen| match seen.method.as_str() {
        "POST" => events(&format!("data: {{\"id\":1,\"method\":\"ping\"}}\n\ndata: {}\n\n", ok(seen))),
        _ => Reply::empty(405),
    });
    assert_eq!(answered.await.expect("an answer")["content"][0]["text"], "ok");
    let deaf = Server::start(|seen| match (seen.method.as_str(), seen.rpc.as_str()) {
        ("POST", "") => Reply::empty(500),
        ("POST", "tools/call") => {
            let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
            events(&format!("data: {ping}\n\ndata: {}\n\n", ok(seen)))
        }
        _ => plain(seen),
    })
    .await;
    let session = deaf.session().await.expect("opens");
    for _ in 0..3 {
        assert_eq!(words(call(&session).await), "ok");
    }
}

#[tokio::test]
async fn a_session_is_named_as_the_server_named_it() {
    for id in
        ["a b", "ümläut", "{\"a\": 1}", "a,b;c=\"d\"", "\u{1f600}", "x".repeat(4000).as_str(), "0", "null"]
    {
        let named = id.to_owned();
        let server = Server::start(move |seen| match seen.rpc.as_str() {
            "initialize" => plain(seen).with("mcp-session-id", &named),
            "server/discover" => plain(seen),
            _ if seen.method == "POST" && seen.raw("mcp-session-id") != Some(named.as_bytes()) => {
                Reply::new(400, "text/plain", "No valid session ID")
            }
            _ => plain(seen),
        })
        .await;
        let session = server.session().await.map_err(|trouble| trouble.error).expect(id);
        assert_eq!(words(call(&session).await), "ok", "{id}");
        assert_eq!(server.count("initialize"), 1, "{id}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_its_own_version_is_told_in_its_words() {
    let server = Server::start(|seen| match seen.rpc.as_str() {
        "initialize" | "server/discover" => plain(seen),
        _ => {
            Reply::new(400, "text/plain", "Bad Request: Unsupported protocol version (supported: 2024-11-05)")
        }
    })
    .await;
    let told = match server.session().await {
        Err(trouble) => trouble.error.to_string(),
        Ok(session) => words(call(&session).await),
    };
    assert!(told.contains("Unsupported protocol version (supported: 2024-11-05)"), "{told}");
}

#[tokio::test]
async fn a_list_that_changes_all_the_time_is_read_once_for_each_call() {
    let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
    let flood = format!("data: {changed}\n\n").repeat(2_000);
    let server = Server::start(move |seen| match (seen.method.as_str(), seen.rpc.as_str()) {
        ("POST", "initialize") => plain(seen).with("mcp-session-id", "one"),
        ("GET", _) => Reply { hangs: true, ..events(&flood) },
        ("POST", "tools/list") => {
            let listed = answer(seen, &json!({ "tools": [tool("echo")] }));
            events(&format!("{flood}data: {listed}\n\n"))
        }
        _ => plain(seen),
    })
    .await;
    let session = server.session().await.expect("opens");
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(session.tools(false).await.map_err(|trouble| trouble.error).expect("lists").list.len(), 1);
        assert_eq!(words(call(&session).await), "ok");
    }
    assert!(server.count("tools/list") <= 3 && began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_stream_is_taken_up_only_at_a_place_that_can_be_named() {
    for (id, is_named) in [("7", true), ("é", true), ("a b", true), ("\u{1}", false), ("x\u{7f}", false)] {
        let named = id.to_owned();
        let server = Server::start(move |seen| match (seen.method.as_str(), seen.rpc.as_str()) {
            ("POST", "tools/call") => events(&format!("id: {named}\nretry: 0\ndata: \n\n")),
            ("GET", _) if seen.raw("last-event-id") == Some(named.as_bytes()) => {
                let result = json!({ "content": [{ "type": "text", "text": "later" }] });
                events(&format!("data: {}\n\n", json!({ "jsonrpc": "2.0", "id": 2, "result": result })))
            }
            _ => plain(seen),
        })
        .await;
        let session = server.session().await.expect("opens");
        let told = words(call(&session).await);
        match is_named {
            true => assert_eq!(told, "later", "{id:?}"),
            false => assert!(told.contains("closed the stream"), "{id:?}: {told}"),
        }
    }
}

#[tokio::test]
async fn results_that_are_thin_or_have_too_much_are_handed_on() {
    let result = |result: Value| calling(move |seen| Reply::json(&answer(seen, &result)));
    let meta = |answer: Value| answer["metadata"]["mcp_meta"].clone();
    let only = result(json!({ "structuredContent": { "a": 1 } })).await.expect("an answer");
    assert_eq!(
        (&only["content"], &meta(only.clone())["structuredContent"]),
        (&json!([]), &json!({ "a": 1 }))
    );
    let failed = result(json!({ "content": [], "isError": true })).await.expect("an answer");
    assert_eq!((&failed["content"], &meta(failed.clone())["isError"]), (&json!([]), &json!(true)));
    let odd = json!({ "content": null, "_meta": { "": null, "a/b": { "c": 1 }, "progressToken": [] }, "nextCursor": 7 });
    let odd = result(odd).await.expect("an answer");
    assert_eq!(meta(odd)["_meta"]["a/b"], json!({ "c": 1 }));
    for meta in [json!([]), json!("x"), json!(7), json!(null)] {
        result(json!({ "content": [], "_meta": meta })).await.expect("an answer");
    }
    // In an older version, this word has no meaning.
    for kind in [json!("input_required"), json!("complete"), json!("other"), json!(7), json!(null)] {
        let told = result(json!({ "content": [{ "type": "text", "text": "ok" }], "resultType": kind })).await;
        assert!(told.is_ok(), "{kind}: {told:?}");
    }
}

#[tokio::test]
async fn packed_answers_are_unpacked() {
    use std::io::Write as _;
    for framed in [true, false] {
        let answered = calling(move |seen| {
            let message = ok(seen).to_string();
            let text = if framed { format!("data: {message}\n\n") } else { message };
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            packed.write_all(text.as_bytes()).expect("packs");
            let kind = if framed { "text/event-stream" } else { "application/json" };
            Reply::new(200, kind, packed.finish().expect("packs")).with("content-encoding", "gzip")
        });
        assert_eq!(answered.await.expect("an answer")["content"][0]["text"], "ok");
    }
}
