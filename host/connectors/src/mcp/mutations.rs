//! Answers that are odd in one place: a corpus of those that were seen, and every member of every answer changed.

use serde_json::{Value, json};

use super::fixture::{Reply, Seen, Server, call, plain, words};
use crate::protocol::{service::Service as _, trouble::Trouble};

/// What a file of the corpus says that a server answers: members of the message, or a whole body.
fn of_corpus(said: &Value, seen: &Seen) -> Reply {
    if let Some(body) = said["body"].as_str() {
        let status = said["status"].as_u64().and_then(|status| status.try_into().ok()).unwrap_or(200);
        return Reply::new(status, said["type"].as_str().unwrap_or_default(), body);
    }
    let mut message = json!({ "jsonrpc": "2.0", "id": seen.message["id"] });
    for (member, value) in said.as_object().expect("an object") {
        match member.as_str() {
            "status" | "no" => {}
            "id" if value == "text" => message["id"] = message["id"].to_string().into(),
            _ => message[member] = value.clone(),
        }
    }
    for member in said["no"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        message.as_object_mut().expect("an object").remove(member);
    }
    let status = said["status"].as_u64().and_then(|status| status.try_into().ok()).unwrap_or(200);
    Reply::json(&message).status(status)
}

#[tokio::test]
async fn the_corpus_of_odd_answers_is_read_as_it_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/mcp");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("lists") {
        let path = entry.expect("lists").path();
        let case: Value = serde_json::from_slice(&std::fs::read(&path).expect("reads")).expect("JSON");
        let answers = case["answers"].clone();
        let server = Server::start(move |seen| match answers.get(&seen.rpc) {
            Some(said) => of_corpus(said, seen),
            None => plain(seen),
        })
        .await;
        let name = path.display().to_string();
        let session = server.session().await.map_err(|trouble| trouble.error).expect(&name);
        let tools = session.tools(true).await.map_err(|trouble| trouble.error).expect(&name);
        let names: Vec<_> = tools.list.iter().map(|tool| tool["name"].clone()).collect();
        assert_eq!(Value::from(names), case["tools"], "{name}");
        assert_eq!(case["left_out"], tools.left_out.len(), "{name}: {:?}", tools.left_out);
        let answered = call(&session).await;
        match case["error"].as_str() {
            Some(expected) => {
                let told = words(answered);
                assert!(told.contains(expected), "{name}: {told}");
            }
            None => {
                let answer = answered.map_err(|trouble| trouble.error).expect(&name);
                assert_eq!(answer["content"], case["content"], "{name}");
            }
        }
        count += 1;
    }
    assert!(count >= 15, "{count} files");
}

/// Every place in a message, as a pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in members {
        let place = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        places(value, &place, found);
        found.push(place);
    }
}

/// What is put in a place.
#[derive(Debug, Clone)]
enum Change {
    Absent,
    Twice,
    Value(Value),
    /// A text that is no value, or one that nobody reads level by level.
    Text(String),
}

fn changes() -> Vec<Change> {
    let values = [
        json!(null),
        json!(true),
        json!(-7),
        json!(1e300),
        json!(""),
        json!("odd"),
        json!([]),
        json!([null, 7, {}]),
        json!({}),
        json!({ "a": { "b": [] } }),
        json!("x".repeat(70_000)),
    ];
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    let texts = ["NaN".to_owned(), deep].map(Change::Text);
    [Change::Absent, Change::Twice].into_iter().chain(values.map(Change::Value)).chain(texts).collect()
}

/// The message with a change, as text: a member that stands twice is no value.
fn changed(message: &Value, place: &str, change: &Change) -> String {
    let mut message = message.clone();
    let (parent, name) = place.rsplit_once('/').expect("a place");
    let parent = message.pointer_mut(parent).expect("is there");
    match (change, parent) {
        (Change::Absent, Value::Object(members)) => drop(members.remove(name)),
        (Change::Absent, Value::Array(items)) => drop(items.remove(name.parse().expect("a number"))),
        (Change::Twice, Value::Object(members)) => {
            let before = members[name].to_string();
            members.insert(name.to_owned(), "\u{1}".into());
            let twice = format!("\"odd\",\"{name}\":{before}");
            return message.to_string().replacen("\"\\u0001\"", &twice, 1);
        }
        (Change::Twice, Value::Array(items)) => {
            let number: usize = name.parse().expect("a number");
            items.insert(number, items[number].clone());
        }
        (Change::Text(text), parent) => {
            *parent.pointer_mut(&format!("/{name}")).expect("is there") = "\u{1}".into();
            return message.to_string().replacen("\"\\u0001\"", text, 1);
        }
        (Change::Value(value), parent) => {
            *parent.pointer_mut(&format!("/{name}")).expect("is there") = value.clone()
        }
        (change, parent) => panic!("{change:?} {parent}"),
    }
    message.to_string()
}

/// Runs a session against a server whose answer to one question is this text, and says what the list and the call gave.
async fn with_answer(question: &'static str, body: String) -> (Result<usize, String>, Result<Value, String>) {
    let server = Server::start(move |seen| match seen.rpc == question {
        true => {
            let id = seen.message["id"].to_string();
            Reply::new(200, "application/json", body.replace("987654321", &id))
        }
        false => plain(seen),
    })
    .await;
    let limit = std::time::Duration::from_secs(100);
    let told = |trouble: Trouble| trouble.error.to_string();
    let all = async {
        let session = match server.session().await {
            Ok(session) => session,
            Err(trouble) => {
                let told = told(trouble);
                return (Err(told.clone()), Err(told));
            }
        };
        let listed = session.tools(true).await.map(|tools| tools.list.len()).map_err(told);
        (listed, call(&session).await.map_err(told))
    };
    let outcome = tokio::time::timeout(limit, all).await.expect("nothing hangs");
    let asked: Vec<String> = server.seen().into_iter().map(|seen| seen.rpc).collect();
    let known =
        ["server/discover", "initialize", "notifications/initialized", "tools/list", "tools/call", ""];
    assert!(asked.iter().all(|rpc| known.contains(&rpc.as_str())), "{asked:?}");
    outcome
}

#[tokio::test]
async fn every_member_of_every_answer_may_be_anything() {
    let whole = |result: Value| json!({ "jsonrpc": "2.0", "id": 987_654_321, "result": result });
    let answers = [
        (
            "initialize",
            whole(json!({
                "protocolVersion": "2025-06-18", "capabilities": { "tools": { "listChanged": true } },
                "serverInfo": { "name": "t", "version": "1" }, "instructions": "Be kind.",
            })),
        ),
        (
            "tools/list",
            whole(json!({ "tools": [
            { "name": "echo", "inputSchema": { "type": "object", "properties": {} } },
            { "name": "other", "title": "T", "inputSchema": {}, "annotations": { "readOnlyHint": true }, "icons": [{ "src": "x" }] },
        ] })),
        ),
        (
            "tools/call",
            whole(json!({
                "content": [{ "type": "text", "text": "ok", "annotations": { "audience": ["user"] } }],
                "structuredContent": { "a": 1 }, "isError": false, "_meta": { "a": 1 },
            })),
        ),
        (
            "tools/call",
            json!({
                "jsonrpc": "2.0", "id": 987_654_321, "error": { "code": -32603, "message": "gone", "data": { "a": 1 } },
            }),
        ),
    ];
    let mut count = 0;
    for (question, message) in &answers {
        let mut found = Vec::new();
        places(message, "", &mut found);
        for place in found {
            for change in changes() {
                let body = changed(message, &place, &change);
                let (listed, called) = with_answer(question, body.clone()).await;
                let about = format!("{question} {place} {change:.80?}: {listed:?} {:.300?}", called);
                // Inside a result nothing is lost but what is odd; around it, it is used or refused with a reason.
                match (*question, place.starts_with("/result/")) {
                    ("initialize", true) => assert!(listed == Ok(1) && called.is_ok(), "{about}"),
                    ("tools/list", true) => assert!(listed.is_ok() && called.is_ok(), "{about}"),
                    ("tools/call", true) => assert!(listed == Ok(1) && called.is_ok(), "{about}"),
                    _ => {}
                }
                for told in [listed.err(), called.err()].into_iter().flatten() {
                    assert!(told.starts_with("the server of connector 'odd' (odd.test) "), "{about}");
                    assert!(told.len() < 600, "{about}");
                }
                if place.starts_with("/result/tools/1") {
                    let (listed, _) = with_answer(question, body).await;
                    assert!(listed >= Ok(1), "{about}");
                }
                count += 1;
            }
        }
    }
    assert!(count > 400, "{count} cases");
}
