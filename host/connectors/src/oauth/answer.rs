//! Answers of token endpoints (RFC 6749 §5) as services really give them: read as JSON first, else as a form, whatever the
//! content type and the status of a success are.
//!
//! Promises: a token is taken only from a success that tells of no error; what else is odd costs the member that it is in,
//! and is named without its value. A lifetime of nothing or less is an unknown one: nobody gives a token that is over
//! already, and one that is refused later is renewed then. So is a lifetime of more than a hundred years.

use std::time::Duration;

use chrono::Utc;
use http::Response;
use secrecy::SecretString;
use serde_json::Value;

use super::{
    document::{Document, NoDocument, told, words},
    error_answer::ErrorAnswer,
    exchange::{busy, is_busy},
    grant::Tokens,
    plain,
    quote::quoted,
};
use crate::ConnectorsError;

/// Bytes of a token.
const LONGEST: usize = 64 * 1024;

/// Seconds of a lifetime that is believed.
const CENTURY: f64 = 100.0 * 366.0 * 86400.0;

/// Codes that say nothing about what was sent (RFC 6749 §4.1.2.1, RFC 8628 §3.5; Slack's).
const TRANSIENT: &[&str] = &[
    "server_error",
    "temporarily_unavailable",
    "slow_down",
    "ratelimited",
    "rate_limited",
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
];

/// Types of tokens that are of no use without a key or as they are (RFC 9449, RFC 8693 §2.2.1).
const UNUSABLE: &[&str] = &["dpop", "mac", "pop", "hok", "n_a"];

/// Where an access token may be if it is not at the top: Slack has one for the person beside the one for the application.
const INSIDE: &[&str] = &["authed_user", "data"];

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// The server said no.
    #[error("{0}")]
    Rejected(String),
    /// Something else went wrong, and it may work later.
    #[error("{0}")]
    Failed(ConnectorsError),
    /// The client cannot prove itself, so that nothing was sent.
    #[error("{0}")]
    Unsent(ConnectorsError),
}

impl Refused {
    /// The same with more to say.
    pub(super) fn with(self, more: &str) -> Self {
        match self {
            Self::Rejected(message) => Self::Rejected(message + more),
            Self::Failed(ConnectorsError::Upstream(message)) => {
                Self::Failed(ConnectorsError::Upstream(message + more))
            }
            other => other,
        }
    }
}

/// Reads what `host` answered. What is told of it holds none of `secrets`, and none that came with it. `asked` are the
/// scopes that were asked for, which stand for those that were granted where the server does not name any.
pub(super) fn read(
    host: &str,
    answer: &Response<Vec<u8>>,
    asked: &[String],
    secrets: &[&str],
) -> Result<Tokens, Refused> {
    let status = answer.status();
    let failed = |what: String| Refused::Failed(ConnectorsError::Upstream(what));
    let nonsense = |what: &str| {
        let what = format!("status {} and {what}: check its token endpoint", status.as_u16());
        failed(format!("{host} answered a request for a token with {what}"))
    };
    let mut document = match Document::read(answer.body()) {
        Ok(document) => document,
        Err(NoDocument::OtherText) if is_form(answer.body()) => Document::of_form(answer.body()),
        Err(why @ (NoDocument::Empty | NoDocument::Page)) if status.is_success() => {
            return Err(nonsense(&why.to_string()));
        }
        Err(why @ NoDocument::Broken(_)) if !is_busy(status) => return Err(nonsense(&why.to_string())),
        Err(_) => {
            // What stands in a success may be a token.
            let words = (!status.is_success()).then(|| plain::said(answer.body(), secrets)).flatten();
            return Err(match (is_busy(status), words) {
                (true, None) => failed(busy(host, status)),
                (true, Some(words)) => failed(format!("{}; it says: {words}", busy(host, status))),
                (false, None) => nonsense("something that is not a token"),
                (false, Some(words)) => {
                    nonsense(&format!("something that is not a token, which says '{words}'"))
                }
            });
        }
    };
    let came = document.secrets();
    let secrets: Vec<&str> = secrets.iter().copied().chain(came.iter().map(String::as_str)).collect();
    if let Some(error) = ErrorAnswer::of(&mut document) {
        let message = format!("{host} refused to give a token: {}", error.quoted(&secrets));
        let code = error.error.to_ascii_lowercase();
        // A code that is a number or a sentence is nobody's standard: it may be about the moment.
        let is_code = code.chars().all(|char| matches!(char, 'a'..='z' | '_' | '-' | '.'));
        return Err(match is_code && !TRANSIENT.contains(&code.as_str()) && !is_busy(status) {
            true => Refused::Rejected(message),
            false => failed(format!("{message}: try again later")),
        });
    }
    if is_busy(status) {
        return Err(failed(busy(host, status)));
    }
    if !status.is_success() {
        return Err(nonsense("something that is not a token"));
    }
    let mut inside = None;
    if !document.has("access_token") {
        let mut places = INSIDE.iter().filter_map(|place| document.object(place));
        inside = places.find(|place| place.has("access_token"));
    }
    let grant = inside.as_mut().unwrap_or(&mut document);
    if let Some(kind) = grant.text("token_type") {
        let kind = kind.trim();
        if UNUSABLE.iter().any(|unusable| kind.eq_ignore_ascii_case(unusable)) {
            let kind = quoted(kind, &secrets);
            return Err(failed(format!(
                "{host} gave a token of type '{kind}', which needs more than the token with every request: only bearer \
                 tokens are supported. Ask its operator for bearer tokens"
            )));
        }
        // RFC 6749 §7.1 leaves types to others, and services invent names: `bot`, `user`, `JWT`.
        if !kind.eq_ignore_ascii_case("bearer") {
            grant.leave_out("token_type", "it is not 'bearer', and was taken for it");
        }
    }
    let Some(access) = grant.secret("access_token", LONGEST) else {
        let why = grant.reason("access_token").unwrap_or("it is missing");
        let what = format!("something that is not a token: access_token: {why}");
        return Err(nonsense(&what));
    };
    let access = match bare(&access) {
        Ok(access) => access.to_owned(),
        Err(why) => {
            return Err(nonsense(&format!("a token that cannot stand in a header: access_token: {why}")));
        }
    };
    let refresh = grant.secret("refresh_token", LONGEST);
    let expires_in = lifetime(grant);
    let scopes = scopes(grant).unwrap_or_else(|| asked.to_vec());
    let left_out = inside.unwrap_or(document).left_out();
    if !left_out.is_empty() {
        let left_out = told(&left_out);
        tracing::debug!(host, left_out, "parts of a token answer were not used");
    }
    Ok(Tokens {
        access: SecretString::from(access),
        refresh: refresh.map(SecretString::from),
        expires_in,
        scopes,
    })
}

/// A token as it stands in a header behind its type, which some servers put in front of it (RFC 6750 §2.1).
fn bare(token: &str) -> Result<&str, &'static str> {
    if token.eq_ignore_ascii_case("bearer") {
        return Err("it is empty");
    }
    let begins = token.get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case("bearer "));
    let token = if begins { token[7..].trim_start() } else { token };
    match () {
        () if token.contains(char::is_whitespace) => Err("it holds blanks"),
        () if !token.is_ascii() => Err("it holds characters that are not ASCII"),
        () => Ok(token),
    }
}

/// Whether a body that is not JSON is a form with what is looked for (GitHub's, unless it is asked for JSON).
fn is_form(body: &[u8]) -> bool {
    let is_clean = body.iter().all(|byte| byte.is_ascii_graphic() || matches!(byte, b'\r' | b'\n'));
    is_clean
        && url::form_urlencoded::parse(body)
            .any(|(name, value)| matches!(&*name, "access_token" | "error") && !value.is_empty())
}

/// How long the token is good for: in seconds, or as the moment at which it ends (Azure v1's `expires_on`).
fn lifetime(grant: &mut Document) -> Option<Duration> {
    let now = Utc::now().timestamp() as f64;
    let mut said = false;
    for (name, begin) in [("expires_in", 0.0), ("expires", 0.0), ("expires_on", now), ("expires_at", now)] {
        let Some(seconds) = grant.number(name).map(|seconds| seconds - begin) else { continue };
        // Less than a second is over by the time it is read.
        if (1.0..=CENTURY).contains(&seconds) {
            return Some(Duration::from_secs_f64(seconds));
        }
        said = true;
    }
    if said {
        grant.leave_out("expires_in", "it does not say how long the token is good for");
    }
    None
}

/// What was granted. Some well-known servers put commas between scopes or give a list, against RFC 6749 §3.3.
fn scopes(grant: &mut Document) -> Option<Vec<String>> {
    let name = ["scope", "scopes"].into_iter().find(|name| grant.has(name))?;
    // An empty text says that nothing was granted.
    if matches!(grant.value(name), Some(Value::String(text)) if text.trim().is_empty()) {
        return Some(Vec::new());
    }
    let listed = grant.list(name)?;
    Some(listed.iter().flat_map(|scopes| words(scopes)).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;
    use crate::oauth::mutations::{Kind, mutations};

    const ACCESS: &str = "canary-access-token";
    const REFRESH: &str = "canary-refresh-token";

    fn answer(status: u16, body: impl Into<Vec<u8>>) -> Response<Vec<u8>> {
        Response::builder().status(status).body(body.into()).expect("an answer")
    }

    fn read_text(status: u16, body: &str) -> Result<Tokens, Refused> {
        read("as.example", &answer(status, body), &["asked".to_owned()], &[])
    }

    fn told(refused: Refused) -> String {
        refused.to_string()
    }

    fn good() -> Value {
        json!({
            "access_token": ACCESS, "token_type": "Bearer", "expires_in": 3600, "refresh_token": REFRESH,
            "scope": "a b", "id_token": "canary-id-token", "expires_on": 4_000_000_000_u64, "unknown": { "a": [1] },
            "error_description": null, "ok": true,
        })
    }

    /// Slack's token for a person.
    fn nested() -> Value {
        json!({ "ok": true, "team": { "id": "T" }, "authed_user": good() })
    }

    #[test]
    fn one_odd_member_costs_itself_and_never_the_token() {
        for mutation in &mutations(&good()) {
            let (member, text) = (&*mutation.member, &mutation.text[..mutation.text.len().min(300)]);
            let is_needed = member == "access_token";
            match read_text(200, &mutation.text) {
                Ok(tokens) => {
                    let access = tokens.access.expose_secret();
                    assert!(access == ACCESS || is_needed && mutation.kind == Kind::Odd, "{text}");
                    let refresh = tokens.refresh.as_ref().map(ExposeSecret::expose_secret);
                    assert!(refresh == Some(REFRESH) || member == "refresh_token", "{text}");
                    assert!(tokens.scopes == ["a", "b"] || member == "scope", "{text}");
                    let life = tokens.expires_in.map(|life| life.as_secs());
                    assert!(life == Some(3600) || member == "expires_in", "{text}");
                }
                Err(refused) => {
                    let message = told(refused);
                    assert!(is_needed || member == "ok", "{member}: {text}: {message}");
                    assert!(!message.contains("canary") && message.len() < 500, "{message}");
                    assert!(mutation.kind != Kind::Repeated, "{text}");
                }
            }
        }
    }

    #[test]
    fn a_token_inside_is_found_whatever_is_odd_beside_it() {
        for mutation in &mutations(&nested()) {
            let text = &mutation.text[..mutation.text.len().min(300)];
            match read_text(201, &mutation.text) {
                Ok(tokens) => assert_eq!(tokens.access.expose_secret(), ACCESS, "{text}"),
                Err(refused) => {
                    let message = told(refused);
                    assert!(mutation.member == "authed_user", "{text}: {message}");
                    assert!(!message.contains("canary") && message.len() < 500, "{message}");
                }
            }
        }
        let both = json!({ "access_token": "of-the-top", "authed_user": { "access_token": "inside" } });
        let tokens = read_text(200, &both.to_string()).expect("tokens");
        assert_eq!(tokens.access.expose_secret(), "of-the-top");
    }

    #[test]
    fn row_02_an_odd_error_answer_gives_no_token_and_tells_no_secret() {
        let error = json!({
            "error": "invalid_grant", "error_description": format!("{ACCESS} {REFRESH} the-client-secret"),
            "error_uri": "https://as.example/", "access_token": ACCESS, "data": { "refresh_token": REFRESH },
        });
        for mutation in &mutations(&error) {
            for status in [200, 400] {
                let read =
                    read("as.example", &answer(status, mutation.text.clone()), &[], &["the-client-secret"]);
                let Err(refused) = read else {
                    // Without an error, what is left is a token.
                    assert!(status == 200 && mutation.member == "error", "{}", mutation.text);
                    continue;
                };
                let message = told(refused);
                // What is repeated of a token is known as long as the token is there.
                let is_there = mutation.text.contains(&format!("\"access_token\": \"{ACCESS}\""))
                    && mutation.text.contains(&format!("\"refresh_token\":\"{REFRESH}\""));
                let is_clean = !is_there || !message.contains("canary");
                let is_clean = is_clean && !message.contains("the-client-secret");
                assert!(is_clean && message.len() < 600, "{message}");
                assert!(message.starts_with("as.example "), "{message}");
            }
        }
    }

    #[test]
    fn a_lifetime_is_believed_if_it_can_be_one() {
        let now = Utc::now().timestamp();
        for (life, expected) in [
            (json!({ "expires_in": "3599" }), Some(3599)),
            (json!({ "expires_in": 3600.0 }), Some(3600)),
            (json!({ "expires_in": " 60 " }), Some(60)),
            (json!({ "expires": "5180000" }), Some(5_180_000)),
            (json!({ "expires_in": -1 }), None),
            (json!({ "expires_in": 0 }), None),
            (json!({ "expires_in": "0" }), None),
            (json!({ "expires_in": 99_999_999_999_999_u64 }), None),
            (json!({ "expires_in": "NaN" }), None),
            (json!({ "expires_in": "soon" }), None),
            (json!({ "expires_in": null }), None),
            (json!({ "expires_in": -1, "expires_on": (now + 1000).to_string() }), Some(1000)),
            (json!({ "expires_on": now - 1000 }), None),
        ] {
            let mut body = life.clone();
            body["access_token"] = ACCESS.into();
            let tokens = read_text(200, &body.to_string()).expect("tokens");
            let seconds = tokens.expires_in.map(|life| life.as_secs());
            // A second may pass meanwhile.
            assert!(
                seconds == expected || seconds.map(|seconds| seconds + 1) == expected,
                "{life}: {seconds:?}"
            );
        }
    }

    #[test]
    fn tokens_that_need_a_key_are_refused_and_invented_types_are_not() {
        let with =
            |kind: &str| read_text(200, &json!({ "access_token": ACCESS, "token_type": kind }).to_string());
        for kind in ["Bearer", "BEARER", "bearer ", "bot", "user", "JWT", "", "Token"] {
            assert!(with(kind).is_ok(), "{kind}");
        }
        for kind in ["DPoP", "dpop", "MAC", "mac", "PoP", "N_A"] {
            let message = with(kind).err().map(told).expect("a refusal");
            assert!(message.contains("only bearer tokens are supported"), "{message}");
        }
    }

    #[test]
    fn a_token_is_taken_without_what_stands_around_it() {
        for written in [
            ACCESS.to_owned(),
            format!(" {ACCESS}\r\n"),
            format!("\u{feff}{ACCESS}\t"),
            format!("Bearer {ACCESS}"),
            format!("bearer  {ACCESS}\n"),
        ] {
            let body = json!({ "access_token": written, "refresh_token": format!("{REFRESH}\n") });
            let tokens = read_text(200, &body.to_string()).expect("tokens");
            assert_eq!(tokens.secrets().collect::<Vec<_>>(), [ACCESS, REFRESH], "{written:?}");
        }
        for nearly in [
            format!("{{\"access_token\": \"{ACCESS}\", \"expires_in\": NaN,}}"),
            format!("{{\"access_token\": \"{ACCESS}\", \"expires_in\": -Infinity, \"scope\": undefined}}"),
            format!("{{\"access_token\": \"{ACCESS}\", \"scope\": [\"asked\",],\n}}"),
        ] {
            let tokens = read_text(200, &nearly).expect("tokens");
            assert_eq!((tokens.access.expose_secret(), tokens.expires_in), (ACCESS, None));
            assert_eq!(tokens.scopes, ["asked"]);
        }
    }

    #[test]
    fn what_is_no_token_is_told_apart() {
        for (status, body, expected) in [
            (200, "", "status 200 and an empty answer"),
            (200, "<html>", "status 200 and a web page instead of JSON"),
            (200, "{}", "access_token: it is missing"),
            (200, "[]", "something that is not a token"),
            (200, "hello=world", "something that is not a token"),
            (204, "", "status 204"),
            (503, "<html>", "with status 503: try again later"),
            (503, "{}", "with status 503: try again later"),
            (500, "{\"error\": \"x\"}", "refused to give a token: x: try again later"),
            (404, "<html>", "status 404 and something that is not a token: check"),
            (400, "No such\r\nclient", "not a token, which says 'No such client': check its token endpoint"),
            (401, "<html><h1>Log in &amp; wait</h1>", "not a token, which says 'Log in & wait': check"),
            (502, "<html><h1>Bad gateway</h1>", "status 502: try again later; it says: Bad gateway"),
            (200, "No such client", "status 200 and something that is not a token: check"),
            (400, "this is no access_token", "status 400 and something that is not a token: check"),
            (400, "{\"access_token\": \"x\"}", "status 400 and something that is not a token"),
            (200, "{\"access_token\": \"line\\nbreak\"}", "access_token: it holds control characters"),
            (200, "{\"access_token\": \"a b\"}", "access_token: it holds blanks"),
            (200, "{\"access_token\": \"aé\"}", "access_token: it holds characters that are not ASCII"),
            (200, "{\"access_token\": \"Bearer \"}", "access_token: it is empty"),
            (
                200,
                "{'access_token': 'x'}",
                "JSON that cannot be read: single quotes, where JSON has double ones",
            ),
            (
                200,
                "{\"access_token\": \"x\", \"scope\": \"a",
                "it ends too soon in scope (line 1, column 33)",
            ),
            (
                400,
                "{\"error\": invalid_grant}",
                "status 400 and JSON that cannot be read: something that is no value in error",
            ),
        ] {
            let message = read_text(status, body).err().map(told).expect("a refusal");
            assert!(message.contains(expected), "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_body_stops_a_reader(bytes in prop::collection::vec(any::<u8>(), 0..200), status in 200..600u16) {
            let _ = read("as.example", &answer(status, bytes.clone()), &[], &[]);
            let _ = ErrorAnswer::read(&bytes);
        }

        #[test]
        fn no_json_stops_a_reader_or_becomes_a_token_that_is_not_there(
            names in prop::collection::vec(
                prop::sample::select(vec!["access_token", "token_type", "expires_in", "scope", "error", "ok", "data"]), 0..6,
            ),
            values in prop::collection::vec(
                prop_oneof![
                    Just("null".to_owned()), Just("-1e300".to_owned()), Just("[\"a\", [null]]".to_owned()),
                    Just("{\"access_token\": \"inside\"}".to_owned()), "\"[ -!#-\\[\\]-~]{0,12}\"", "[0-9]{1,30}",
                ], 6,
            ),
        ) {
            let members: Vec<String> =
                names.iter().zip(&values).map(|(name, value)| format!("\"{name}\": {value}")).collect();
            let body = format!("{{{}}}", members.join(", "));
            if let Ok(tokens) = read("as.example", &answer(200, body.clone()), &[], &[]) {
                // It may have been given with blanks around it, and inside of another value.
                prop_assert!(body.contains(tokens.access.expose_secret()), "a token that nobody gave");
            }
        }
    }
}
