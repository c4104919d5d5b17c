//! Sessions with servers that are a little off, each over a socket.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::fixture::{Reply, Server, TOKEN, answer, call, call_with, events, plain, words};
use crate::{
    ConnectorsError,
    protocol::{
        service::{CALL_LIMIT, Service as _},
        trouble::Again,
    },
};

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_no_sign_of_a_failing_server() {
    let server = Server::start(|seen| match seen.rpc.as_str() {
        "tools/call" => Reply::new(200, "text/html", "<html>"),
        _ => plain(seen),
    });
    let session = server.await.session().await.expect("opens");
    let trouble = call(&session).await.expect_err("is none");
    assert!(matches!(trouble.error, ConnectorsError::Answered(_)), "{:?}", trouble.error);
    assert_eq!(trouble.again, Again::Never);
}

type Refuse = Box<dyn Fn(&Value) -> Reply + Send + Sync>;

/// How a server refuses a session that it does not know, and whether the call is made again.
fn refusals() -> Vec<(&'static str, Refuse, bool)> {
    let error = |id: Value, code: i64, message: &str| json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } });
    let missing = "Bad Request: No valid session ID provided";
    vec![
        (
            "404",
            Box::new(move |_| Reply::json(&error(Value::Null, -32001, "Session not found")).status(404)),
            true,
        ),
        ("404 text", Box::new(|_| Reply::new(404, "text/plain", "404 page not found\n")), true),
        ("404 empty", Box::new(|_| Reply::empty(404)), true),
        ("400 null", Box::new(move |_| Reply::json(&error(Value::Null, -32000, missing)).status(400)), true),
        (
            "400 id",
            Box::new(move |id| Reply::json(&error(id.clone(), -32600, "unknown session")).status(400)),
            true,
        ),
        ("400 text", Box::new(|_| Reply::new(400, "text/plain", "Invalid or missing session ID")), true),
        (
            "400 not initialized",
            Box::new(move |_| {
                Reply::json(&error(Value::Null, -32000, "Bad Request: Server not initialized")).status(400)
            }),
            true,
        ),
        ("200 null", Box::new(move |_| Reply::json(&error(Value::Null, -32600, "Invalid Request"))), true),
        (
            "200 event",
            Box::new(move |_| {
                events(&format!("data: {}\n\n", error(Value::Null, -32001, "Session not found")))
            }),
            true,
        ),
        ("500 null", Box::new(move |_| Reply::json(&error(Value::Null, -32000, missing)).status(500)), true),
        ("401", Box::new(|_| Reply::new(401, "text/plain", "Unauthorized: Session not found")), true),
        ("401 empty", Box::new(|_| Reply::empty(401)), true),
        (
            "422",
            Box::new(|_| Reply::new(422, "text/plain", "Unexpected message, expect initialize request")),
            true,
        ),
        // The tool may have been reached: the caller is told, and the next call opens a session.
        ("400 mute", Box::new(|_| Reply::empty(400)), false),
        (
            "500 null other",
            Box::new(move |_| Reply::json(&error(Value::Null, -32603, "Internal")).status(500)),
            false,
        ),
        ("closed stream", Box::new(|_| events(": bye\n\n")), false),
        ("202 empty", Box::new(|_| Reply::empty(202)), false),
        ("202 text", Box::new(|_| Reply::new(202, "text/plain", "Accepted")), false),
        ("204", Box::new(|_| Reply::empty(204)), false),
        ("200 empty", Box::new(|_| Reply::empty(200)), false),
        ("200 blank", Box::new(|_| Reply::new(200, "application/json", "\n")), false),
        ("200 no events", Box::new(|_| events("")), false),
    ]
}

#[tokio::test]
async fn a_session_that_the_server_has_forgotten_is_replaced() {
    for (name, refuse, is_repeated) in refusals() {
        let sessions = std::sync::Arc::new(AtomicUsize::new(0));
        let forgotten = std::sync::Arc::new(AtomicUsize::new(0));
        let (count, known_from) = (sessions.clone(), forgotten.clone());
        let server = Server::start(move |seen| {
            if seen.rpc == "initialize" {
                let id = count.fetch_add(1, Ordering::SeqCst) + 1;
                return plain(seen).with("mcp-session-id", &id.to_string());
            }
            let session: usize = seen.session().and_then(|id| id.parse().ok()).unwrap_or_default();
            let is_request = seen.message["id"].is_number();
            if is_request && seen.rpc != "server/discover" && session <= known_from.load(Ordering::SeqCst) {
                return refuse(&seen.message["id"]);
            }
            plain(seen)
        })
        .await;
        let session = server.session().await.expect("opens");
        assert_eq!(words(call(&session).await), "ok", "{name}: before");
        forgotten.store(1, Ordering::SeqCst);
        let after = words(call(&session).await);
        match is_repeated {
            true => assert_eq!(after, "ok", "{name}: after"),
            false => assert!(after.contains("(odd.test)"), "{name}: {after}"),
        }
        assert_eq!(words(call(&session).await), "ok", "{name}: again");
        assert_eq!(sessions.load(Ordering::SeqCst), 2, "{name}: one session more");
        assert_eq!(server.count("tools/call"), if is_repeated { 4 } else { 3 }, "{name}");
        // The list is asked for in a session as well, and may be asked for twice.
        forgotten.store(2, Ordering::SeqCst);
        assert_eq!(session.tools(true).await.expect("lists").list.len(), 1, "{name}");
    }
}

#[tokio::test]
async fn an_empty_answer_says_that_nobody_knows_what_it_means_and_a_call_is_not_made_again() {
    for (has_session, status, what) in [
        (true, 202, "HTTP status 202 and an empty answer"),
        (true, 200, "an empty answer"),
        (false, 202, "HTTP status 202 and an empty answer"),
        (false, 200, "an empty answer"),
    ] {
        let server = Server::start(move |seen| match seen.rpc.as_str() {
            "initialize" if has_session => plain(seen).with("mcp-session-id", "one"),
            "tools/call" => Reply::empty(status),
            _ => plain(seen),
        })
        .await;
        let session = server.session().await.expect("opens");
        let trouble = call(&session).await.expect_err("is none");
        assert!(matches!(trouble.error, ConnectorsError::Answered(_)), "{:?}", trouble.error);
        let told = trouble.error.to_string();
        let why = match has_session {
            true => "it may have forgotten the session, or have taken the request",
            false => "see whether the address is that of an MCP server",
        };
        assert!(told.contains(&format!("answered 'tools/call' with {what}: {why}")), "{told}");
        assert!(told.ends_with("The call may have had its effect"), "{told}");
        // What has no effect the second time may be tried again; there, a session has a chance.
        assert_eq!(trouble.again, if has_session { Again::IfIdempotent } else { Again::Never });
        assert_eq!(server.count("tools/call"), 1, "{what}");
    }
}

#[tokio::test]
async fn a_credential_is_to_blame_only_if_a_new_session_is_refused_as_well() {
    let refuses = std::sync::Arc::new(AtomicUsize::new(0));
    let now = refuses.clone();
    let server = Server::start(move |seen| match seen.rpc.as_str() {
        _ if now.load(Ordering::SeqCst) == 1 => Reply::new(401, "text/plain", "Unauthorized")
            .with("www-authenticate", "Bearer error=\"invalid_token\""),
        "initialize" => plain(seen).with("mcp-session-id", "one"),
        _ => plain(seen),
    })
    .await;
    let opening = server.opening();
    let live = opening.sender.live().clone();
    let session = super::Sessions::default().get(&("odd".into(), 1, None), || opening).await.expect("opens");
    assert_eq!(words(call(&session).await), "ok");
    refuses.store(1, Ordering::SeqCst);
    let trouble = call(&session).await.expect_err("is refused");
    assert!(matches!(trouble.error, ConnectorsError::Unauthorized(_)), "{:?}", trouble.error);
    assert_eq!(live.refusal().expect("is kept").challenges.len(), 1);
    assert_eq!(server.count("initialize"), 2, "another session was tried");
}

#[tokio::test]
async fn redirects_that_keep_the_request_are_followed_inside_the_origin_and_others_are_named() {
    for code in [307, 308] {
        let server = Server::start(move |seen| match seen.path.as_str() {
            "/mcp" => Reply::empty(code).with("location", "/mcp/"),
            _ => plain(seen),
        })
        .await;
        let session = server.session().await.expect("opens");
        assert_eq!(words(call(&session).await), "ok");
        assert!(server.seen().iter().all(|seen| seen.headers["authorization"].ends_with(TOKEN)));
    }
    let elsewhere = Server::start(plain).await;
    let place = format!("{}?api_key=x", elsewhere.url);
    let named = elsewhere.url.to_string();
    for (code, location) in [
        (301, "/other?key=x"),
        (302, "/other"),
        (303, "/other"),
        (307, place.as_str()),
        (308, place.as_str()),
    ] {
        let to = location.to_owned();
        let server = Server::start(move |_| Reply::empty(code).with("location", &to)).await;
        let told = server.session().await.err().expect("is not followed").error.to_string();
        let expected = if location.starts_with('/') {
            server.url.join("/other").expect("an address").to_string()
        } else {
            named.clone()
        };
        assert!(told.contains(&format!("redirects (HTTP status {code}) to {expected}:")), "{told}");
    }
    assert!(elsewhere.seen().is_empty(), "nothing goes to another origin");
    let around = Server::start(|_| Reply::empty(308).with("location", "/mcp")).await;
    let told = around.session().await.err().expect("has an end").error.to_string();
    assert!(told.contains("redirects (HTTP status 308)") && around.seen().len() <= 12, "{told}");
}

#[tokio::test]
async fn initialize_is_tried_whatever_becomes_of_the_newer_question() {
    type Answer = Box<dyn Fn() -> Reply + Send + Sync>;
    let replies: Vec<(&str, Answer)> = vec![
        ("empty", Box::new(|| Reply::json(&json!({ "jsonrpc": "2.0", "id": 0, "result": {} })))),
        ("400", Box::new(|| Reply::empty(400))),
        ("401", Box::new(|| Reply::empty(401))),
        ("403", Box::new(|| Reply::empty(403))),
        ("404", Box::new(|| Reply::new(404, "text/html", "<html>"))),
        ("405", Box::new(|| Reply::empty(405))),
        ("422", Box::new(|| Reply::new(422, "text/plain", "expect initialize request"))),
        ("429", Box::new(|| Reply::empty(429))),
        ("500", Box::new(|| Reply::new(500, "text/plain", "boom"))),
        ("502", Box::new(|| Reply::empty(502))),
        ("html", Box::new(|| Reply::new(200, "text/html", "<html>"))),
        ("nothing", Box::new(|| Reply::empty(200))),
        ("202", Box::new(|| Reply::empty(202))),
        ("closed", Box::new(|| events(": no\n\n"))),
        (
            "modern",
            Box::new(|| Reply::json(&json!({ "id": null, "error": { "code": -32020, "message": "x" } }))),
        ),
        (
            "unsupported",
            Box::new(|| {
                let data = json!({ "supported": ["2025-06-18"] });
                Reply::json(&json!({ "id": null, "error": { "code": -32022, "message": "x", "data": data } }))
                    .status(400)
            }),
        ),
    ];
    for (name, reply) in replies {
        let server = Server::start(move |seen| match seen.rpc.as_str() {
            "server/discover" => reply(),
            _ => plain(seen),
        })
        .await;
        let session = server.session().await.map_err(|trouble| trouble.error).expect(name);
        assert_eq!(words(call(&session).await), "ok", "{name}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_newer_question_is_asked_the_older_one_in_time() {
    let server = Server::start(|seen| match seen.rpc.as_str() {
        "server/discover" => Reply { hangs: true, ..Reply::empty(200) },
        _ => plain(seen),
    })
    .await;
    let began = std::time::Instant::now();
    let session = server.session().await.expect("opens");
    assert_eq!(words(call(&session).await), "ok");
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_cursor_that_leads_nowhere_ends_the_list_with_what_there_is() {
    for cursor in ["", "8"] {
        let server = Server::start(move |seen| match seen.rpc.as_str() {
            "tools/list" => {
                let tool = json!({ "name": "echo", "inputSchema": { "type": "object" } });
                Reply::json(&answer(seen, &json!({ "tools": [tool], "nextCursor": cursor })))
            }
            _ => plain(seen),
        })
        .await;
        let tools = server.session().await.expect("opens").tools(true).await.expect("lists");
        assert_eq!((tools.list.len(), tools.left_out.len()), (1, 1), "{cursor:?}");
        assert_eq!(server.count("tools/list"), 2);
    }
    let endless = Server::start(|seen| match seen.rpc.as_str() {
        "tools/list" => {
            let number = seen.message["params"]["cursor"].as_str().and_then(|cursor| cursor.parse().ok());
            let number: u64 = number.unwrap_or_default();
            let tool = json!({ "name": format!("t{number}"), "inputSchema": {} });
            Reply::json(&answer(seen, &json!({ "tools": [tool], "nextCursor": (number + 1).to_string() })))
        }
        _ => plain(seen),
    })
    .await;
    let tools = endless.session().await.expect("opens").tools(true).await.expect("lists");
    assert_eq!((tools.list.len(), tools.left_out.len()), (50, 1), "row 22: pages have a limit");
    // A page that fails costs itself and what would follow.
    let broken = Server::start(|seen| match seen.rpc.as_str() {
        "tools/list" if seen.message["params"]["cursor"].is_string() => {
            let error = json!({ "code": -32603, "message": "no more" });
            Reply::json(&json!({ "jsonrpc": "2.0", "id": seen.message["id"], "error": error }))
        }
        "tools/list" => {
            let tool = json!({ "name": "echo", "inputSchema": {} });
            Reply::json(&answer(seen, &json!({ "tools": [tool], "nextCursor": "2" })))
        }
        _ => plain(seen),
    })
    .await;
    let tools = broken.session().await.expect("opens").tools(true).await.expect("lists");
    assert_eq!((tools.list.len(), tools.left_out[0].what.as_str()), (1, "page 2 and what follows"));
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_taken_up_where_it_was() {
    let server = Server::start(|seen| match (seen.method.as_str(), seen.rpc.as_str()) {
        ("POST", "tools/call") => events("id: 7\nretry: 10\ndata: \n\n"),
        ("GET", _) if seen.headers.get("last-event-id").map(String::as_str) == Some("7") => {
            let result = json!({ "content": [{ "type": "text", "text": "later" }] });
            events(&format!("id: 8\ndata: {}\n\n", json!({ "jsonrpc": "2.0", "id": 2, "result": result })))
        }
        _ => plain(seen),
    })
    .await;
    let session = server.session().await.expect("opens");
    assert_eq!(words(call(&session).await), "later");
    let forgetful = Server::start(|seen| match (seen.method.as_str(), seen.rpc.as_str()) {
        ("POST", "tools/call") => events("id: 7\nretry: 10\ndata: \n\n"),
        _ => plain(seen),
    })
    .await;
    let session = forgetful.session().await.expect("opens");
    assert!(words(call(&session).await).contains("closed the stream"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_as_that() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = Server::start(plain).await;
    let mut opening = server.opening();
    let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
    drop(listener);
    let egress = crate::egress::Egress::new(crate::egress::address::Allowed {
        loopback: true,
        private_networks: false,
    });
    let live = opening.sender.live().clone();
    opening.sender = egress.expect("a client").sender(&url.parse().expect("an address"), live);
    let trouble =
        super::Sessions::default().get(&("odd".into(), 1, None), || opening).await.err().expect("fails");
    assert_eq!(trouble.again, Again::Always);
    assert!(
        trouble.error.to_string().contains("(odd.test) cannot be reached: the connection was refused"),
        "{}",
        trouble.error
    );
}

#[tokio::test]
async fn arguments_that_a_schema_wants_in_headers_are_there_if_they_are_there_at_all() {
    let server = Server::start(|seen| match seen.rpc.as_str() {
        "server/discover" => Reply::json(&answer(
            seen,
            &json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} },
                "serverInfo": { "name": "t", "version": "1" },
            }),
        )),
        "tools/list" => {
            let wanted = |kind: &str, name: &str| json!({ "type": kind, "x-mcp-header": name });
            let properties = json!({
                "text": wanted("string", "Text"), "flag": wanted("boolean", "Flag"), "number": wanted("integer", "Number"),
                "plain": { "type": "string" },
            });
            let schema = json!({ "type": "object", "properties": properties });
            let tools = json!([{ "name": "echo", "inputSchema": schema }]);
            Reply::json(&answer(seen, &json!({ "resultType": "complete", "tools": tools })))
        }
        _ => plain(seen),
    })
    .await;
    let session = server.session().await.expect("opens");
    let listed = session.tools(true).await.map_err(|trouble| trouble.error).expect("lists");
    assert_eq!(listed.list.len(), 1, "{:?}", listed.left_out);
    for (arguments, expected) in [
        (json!({}), vec![]),
        (json!({ "text": null, "flag": null, "number": null, "plain": "x" }), vec![]),
        (json!({ "text": "", "flag": false }), vec![("mcp-param-flag", "false"), ("mcp-param-text", "")]),
        (
            json!({ "text": " é", "number": -1 }),
            vec![("mcp-param-number", "-1"), ("mcp-param-text", "=?base64?IMOp?=")],
        ),
        (json!({ "text": "a\r\nb: c" }), vec![("mcp-param-text", "=?base64?YQ0KYjogYw==?=")]),
    ] {
        let sent = arguments.as_object().expect("an object");
        call_with(&session, sent, CALL_LIMIT).await.map_err(|trouble| trouble.error).expect("an answer");
        let seen = server.seen().into_iter().rfind(|seen| seen.rpc == "tools/call").expect("a call");
        let of_arguments = seen.headers.iter().filter(|(name, _)| name.starts_with("mcp-param-"));
        let told: Vec<_> = of_arguments.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(told, expected, "{arguments}");
    }
}
