//! Messages as servers send them: bodies of any media type, in JSON or as server-sent events, alone or as a batch, with the
//! right id, another one or none. They are read as JSON values first; what a request was answered with is found here, and
//! nothing else decides about it.

use http::{HeaderMap, StatusCode, header};
use rmcp::model::RequestId;
use serde_json::Value;

use super::{
    events::{self, Events},
    failure::{Answered, Failure},
    texts,
};

/// What a message means for the request in whose answer it stands.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    /// It is the answer.
    Answer(Result<Value, Failure>),
    /// A request or a notification of the server.
    Other(Value),
}

/// How a body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Events,
    Whole,
    /// Its first bytes will tell.
    Unknown,
}

/// How the headers say that a body is to be read. Media types have any case and parameters (RFC 9110 §8.3.1).
pub(super) fn shape(headers: &HeaderMap) -> Shape {
    let essence = media_type(headers);
    match essence.as_deref() {
        Some("text/event-stream") => Shape::Events,
        Some(kind) if kind == "application/json" || kind.ends_with("+json") => Shape::Whole,
        _ => Shape::Unknown,
    }
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split([';', ',']).next().unwrap_or_default();
    Some(essence.trim().to_ascii_lowercase())
}

/// The messages in a text: one, several, or those of a batch; or those in a text of server-sent events.
pub(super) fn messages(text: &[u8]) -> Option<Vec<Value>> {
    if events::begins(text) == Some(true) {
        let mut events = Events::new(text.len());
        let mut read = events.push(text).ok()?;
        read.extend(events.end());
        let found = read.iter().filter_map(|event| texts::values(event.data.as_bytes()));
        return Some(found.flatten().collect());
    }
    texts::values(text)
}

/// What these bytes answer a request with, if they do.
pub(super) fn is_answer(text: &[u8], request: &RequestId, status: StatusCode) -> bool {
    let read = messages(text).into_iter().flatten();
    read.filter_map(|message| incoming(message, request, status))
        .any(|incoming| matches!(incoming, Incoming::Answer(_)))
}

/// What a message means in the answer to a request. `status` is that of the answer.
pub(super) fn incoming(mut message: Value, request: &RequestId, status: StatusCode) -> Option<Incoming> {
    let object = message.as_object_mut()?;
    if object.get("method").is_some_and(Value::is_string) {
        return Some(Incoming::Other(message));
    }
    let own = object.get("id").is_some_and(|id| is_id(id, request));
    let error = object.get("error").filter(|error| is_error(error, object.contains_key("result")));
    if let Some(error) = error.cloned() {
        return Some(Incoming::Answer(Err(Failure::Answered(answered(error, own, status)))));
    }
    // A result for another request is not ours; one without an id can only be.
    if !own && object.get("id").is_some_and(|id| !id.is_null()) {
        return None;
    }
    let result = object.get_mut("result")?.take();
    Some(Incoming::Answer(Ok(result)))
}

/// Whether a member is an error: beside a result, nothing that says nothing is one.
fn is_error(error: &Value, has_result: bool) -> bool {
    match error {
        Value::Null | Value::Bool(false) => false,
        _ if !has_result => true,
        Value::String(text) => !text.trim().is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => members.values().any(|member| !member.is_null()),
        Value::Bool(true) => true,
    }
}

/// Whether an id is that of a request, as a number or as a text.
pub(super) fn is_id(id: &Value, request: &RequestId) -> bool {
    match (id, request) {
        (Value::Number(id), RequestId::Number(request)) => {
            id.as_i64() == Some(*request) || id.as_f64() == Some(*request as f64)
        }
        (Value::String(id), request) => *id == request.to_string(),
        (Value::Number(id), RequestId::String(request)) => id.to_string() == **request,
        _ => false,
    }
}

/// The error of an answer: an object as it should be, a text, or something else.
fn answered(error: Value, own: bool, status: StatusCode) -> Answered {
    let code = match &error["code"] {
        Value::Number(code) => code.to_string(),
        Value::String(code) => code.clone(),
        _ => String::new(),
    };
    let message = words(&error).unwrap_or_default();
    let data = error.get("data").cloned();
    Answered { status: status.as_u16(), retry_after: None, code, message, data, own }
}

/// What a value says to people, where services put it.
pub(super) fn words(value: &Value) -> Option<String> {
    match value {
        // Nothing is cut before it is scrubbed: half a secret is not found.
        Value::String(text) => Some(text.clone()),
        Value::Object(object) => {
            let places = ["message", "error_description", "detail", "error", "title", "msg", "reason"];
            places.iter().filter_map(|place| object.get(*place)).find_map(words)
        }
        Value::Array(items) => items.iter().find_map(words),
        _ => None,
    }
}

/// The answer in the whole body of a response that may have any status.
pub(super) fn whole(
    body: &[u8],
    request: &RequestId,
    status: StatusCode,
    headers: &HeaderMap,
) -> (Vec<Value>, Result<Value, Failure>) {
    let (mut others, mut answer, mut stranger) = (Vec::new(), None, false);
    let read = messages(body);
    let is_json = read.is_some();
    let said = match &read {
        _ if status.is_success() => None,
        Some(read) => read.iter().find_map(words),
        None => text(body, headers),
    };
    let said_instead = read.iter().flatten().find_map(words);
    for message in read.into_iter().flatten() {
        let has_result = message["result"].is_object();
        match incoming(message, request, status) {
            Some(Incoming::Answer(found)) if answer.is_none() => answer = Some(found),
            Some(Incoming::Other(message)) => others.push(message),
            Some(Incoming::Answer(_)) => {}
            None => stranger |= has_result,
        }
    }
    let failure = match answer {
        Some(Ok(result)) if !matches!(status.as_u16(), 401 | 403 | 429) => return (others, Ok(result)),
        Some(Err(failure)) => failure,
        _ if !status.is_success() => {
            Failure::Status { status: status.as_u16(), retry_after: None, words: said }
        }
        _ if stranger => Failure::Unreadable("an answer to another request".into()),
        _ => {
            let what = kind(body, status, headers, is_json, said_instead);
            match body.trim_ascii().is_empty() || status == StatusCode::ACCEPTED {
                true => Failure::Mute(what),
                false => Failure::Unreadable(what),
            }
        }
    };
    (others, Err(with_retry(failure, headers)))
}

/// Notes when the server wants to be asked again.
fn with_retry(mut failure: Failure, headers: &HeaderMap) -> Failure {
    let wait = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    if let Failure::Status { retry_after, .. } | Failure::Answered(Answered { retry_after, .. }) =
        &mut failure
    {
        *retry_after = wait.map(|wait| wait.chars().take(128).collect());
    }
    failure
}

fn is_html(body: &[u8], headers: &HeaderMap) -> bool {
    let begins = body.trim_ascii_start();
    media_type(headers).is_some_and(|kind| kind == "text/html")
        || [&b"<!doctype"[..], b"<html", b"<?xml"]
            .iter()
            .any(|tag| begins.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag)))
}

/// The text of a body that is for people: what is no page and no binary.
fn text(body: &[u8], headers: &HeaderMap) -> Option<String> {
    if is_html(body, headers) {
        return Some("a page of HTML".into());
    }
    let text = std::str::from_utf8(body).ok()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// What there was instead of a message, and what it says.
fn kind(body: &[u8], status: StatusCode, headers: &HeaderMap, is_json: bool, said: Option<String>) -> String {
    if body.trim_ascii().is_empty() {
        return match status {
            StatusCode::OK => "an empty answer".into(),
            other => format!("HTTP status {} and an empty answer", other.as_u16()),
        };
    }
    if is_html(body, headers) {
        return "a page of HTML".into();
    }
    let (what, said) = match media_type(headers) {
        _ if is_json => ("JSON that is no message of JSON-RPC".into(), said),
        kind => match (texts::fault(body), kind) {
            (Some(fault), _) => (fault, None),
            (None, Some(kind)) if kind.is_ascii() && kind.len() < 64 => {
                (format!("{kind} that is no JSON"), text(body, headers))
            }
            (None, _) => ("something that is no JSON".into(), text(body, headers)),
        },
    };
    match said.filter(|said| !said.trim().is_empty()) {
        Some(said) => format!("{what}, which says: {said}"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    const ID: RequestId = RequestId::Number(3);

    fn typed(kind: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))])
    }

    #[test]
    fn media_types_have_any_case_and_parameters() {
        let table = [
            ("application/json", Shape::Whole),
            ("Application/JSON;charset=UTF-8", Shape::Whole),
            ("application/json, application/json", Shape::Whole),
            ("application/problem+json", Shape::Whole),
            ("Text/Event-Stream; charset=UTF-8", Shape::Events),
            ("text/plain", Shape::Unknown),
            ("", Shape::Unknown),
        ];
        for (kind, expected) in table {
            assert_eq!(shape(&typed(kind)), expected, "{kind}");
        }
        assert_eq!(shape(&HeaderMap::new()), Shape::Unknown);
    }

    fn read(body: &Value, status: u16) -> Result<Value, Failure> {
        let status = StatusCode::from_u16(status).expect("a status");
        whole(body.to_string().as_bytes(), &ID, status, &typed("application/json")).1
    }

    #[test]
    fn an_answer_is_found_by_its_id_in_any_form_or_by_having_none() {
        for id in [json!(3), json!("3"), json!(3.0), Value::Null] {
            let body = json!({ "jsonrpc": "2.0", "id": id, "result": { "a": 1 } });
            assert_eq!(read(&body, 200), Ok(json!({ "a": 1 })), "{id}");
            assert_eq!(read(&json!([body]), 200), Ok(json!({ "a": 1 })), "a batch, {id}");
            let several = json!([{ "method": "notifications/x" }, { "id": 9, "result": {} }, body]);
            assert_eq!(read(&several, 200), Ok(json!({ "a": 1 })), "among others, {id}");
        }
        assert_eq!(read(&json!({ "result": {} }), 200), Ok(json!({})));
        for error in
            [json!(null), json!(false), json!(0), json!(""), json!([]), json!({}), json!({ "code": null })]
        {
            let beside = json!({ "id": 3, "result": { "a": 1 }, "error": error });
            assert_eq!(read(&beside, 200), Ok(json!({ "a": 1 })), "{error}");
        }
        let both = json!({ "id": 3, "result": {}, "error": { "code": 1, "message": "no" } });
        assert!(matches!(read(&both, 200), Err(Failure::Answered(_))), "an error that says something counts");
        for id in [json!(4), json!("x"), json!(true)] {
            let stranger = read(&json!({ "id": id, "result": { "secret": "of somebody else" } }), 200);
            assert_eq!(stranger, Err(Failure::Unreadable("an answer to another request".into())));
        }
    }

    #[test]
    fn an_error_in_an_answer_is_about_its_request_whatever_its_id_and_status() {
        for id in [Some(json!(3)), Some(Value::Null), None, Some(json!("server-error")), Some(json!({}))] {
            for status in [200, 202, 400, 404, 500] {
                let mut body = json!({ "jsonrpc": "2.0", "error": { "code": -32603, "message": "gone" } });
                if let Some(id) = &id {
                    body["id"] = id.clone();
                }
                let Err(Failure::Answered(error)) = read(&body, status) else { panic!("{body}") };
                assert_eq!((error.code.as_str(), error.message.as_str()), ("-32603", "gone"));
                assert_eq!((error.status, error.own), (status, id == Some(json!(3))));
            }
        }
        for (error, code, message) in [
            (json!("not possible"), "", "not possible"),
            (json!({ "code": "E_FAIL", "message": "not possible" }), "E_FAIL", "not possible"),
            (json!({ "code": null, "message": { "detail": "deep" } }), "", "deep"),
            (json!({ "code": 1.5 }), "1.5", ""),
            (json!([]), "", ""),
            (json!(7), "", ""),
        ] {
            let Err(Failure::Answered(read)) = read(&json!({ "id": 3, "error": error }), 200) else {
                panic!("{error}")
            };
            assert_eq!((read.code.as_str(), read.message.as_str()), (code, message), "{error}");
        }
    }

    #[test]
    fn what_is_no_message_is_told_as_what_it_is() {
        let read = |body: &str, kind, status| {
            let status = StatusCode::from_u16(status).expect("a status");
            whole(body.as_bytes(), &ID, status, &typed(kind)).1.expect_err("is none")
        };
        let unreadable = |text: &str| Failure::Unreadable(text.into());
        let mute = |text: &str| Failure::Mute(text.into());
        assert_eq!(read("", "application/json", 200), mute("an empty answer"));
        assert_eq!(read(" \r\n", "text/plain", 204), mute("HTTP status 204 and an empty answer"));
        assert_eq!(read("<html>Log in</html>", "text/html", 200), unreadable("a page of HTML"));
        assert_eq!(read("{}", "text/plain", 200), unreadable("JSON that is no message of JSON-RPC"));
        assert_eq!(
            read("hello", "text/plain", 200),
            unreadable("text/plain that is no JSON, which says: hello")
        );
        assert_eq!(
            read("{\"message\": \"no such endpoint\"}", "application/json", 200),
            unreadable("JSON that is no message of JSON-RPC, which says: no such endpoint")
        );
        assert_eq!(read("{\"id\": 3, \"res", "application/json", 200), unreadable("JSON that ends too soon"));
        assert_eq!(read("", "application/json", 202), mute("HTTP status 202 and an empty answer"));
        let accepted = "text/plain that is no JSON, which says: Accepted";
        assert_eq!(read("Accepted", "text/plain", 202), mute(accepted));
        let words = |body, kind| match read(body, kind, 400) {
            Failure::Status { status: 400, words, .. } => words,
            other => panic!("{other:?}"),
        };
        assert_eq!(words("Invalid session\n", "text/plain").as_deref(), Some("Invalid session"));
        assert_eq!(words("{\"detail\":\"no\"}", "application/json").as_deref(), Some("no"));
        assert_eq!(words("<!DOCTYPE html><p>x", "text/plain").as_deref(), Some("a page of HTML"));
        assert_eq!(words("", "text/plain"), None);
    }
}
