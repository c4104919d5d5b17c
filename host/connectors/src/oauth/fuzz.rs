//! The target of fuzzing: what authorization servers answer, in whatever shape.

use std::time::Duration;

use airlock_fuzz::{Fuzz, Judged, Verdict, promised};
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use url::Url;

use super::{
    answer, challenge,
    discovery::Search,
    document::{Document, LeftOut, told},
    error_answer::ErrorAnswer,
    exchange::Exchange,
    register,
    resource::Resource,
    server::{Server, Source},
};
use crate::{ConnectorsError, egress::address::Allowed};

/// Marks what must not be told of an answer: all secrets of the corpus hold it.
const CANARY: &str = "canary";

const HOST: &str = "as.example";

/// A server that answers everything with the same.
struct Same {
    status: u16,
    body: Vec<u8>,
    asked: parking_lot::Mutex<usize>,
}

#[async_trait]
impl Exchange for Same {
    async fn send(&self, _: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ConnectorsError> {
        *self.asked.lock() += 1;
        Ok(response(self.status, &self.body))
    }
}

fn response(status: u16, body: &[u8]) -> Response<Vec<u8>> {
    Response::builder().status(status).body(body.to_vec()).expect("an answer")
}

/// What is told, without the hosts that an answer names: they may be told.
fn without_hosts(told: &str, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let parts = text.split('"').chain(text.split(['"', ' ', ',']));
    let hosts = parts.filter_map(|part| Some(Url::parse(part).ok()?.host_str()?.to_owned()));
    // Of a long one, its beginning.
    let hosts =
        hosts.map(|host| host.chars().take(100).collect::<String>()).filter(|host| host.contains(CANARY));
    hosts.fold(told.to_owned(), |told, host| told.replace(&host, "HOST"))
}

/// A reason that a person reads: it names the host, and quotes nothing but what is said of an error, without secrets.
fn refused(reason: String, host: &str, body: &[u8]) -> Judged {
    promised!(reason.contains(host), "it names nobody: {reason}");
    let is_quoting = ["refused to ", "authentication method", "which says '", "it says: "]
        .iter()
        .any(|words| reason.contains(words));
    let named = without_hosts(&reason, body);
    promised!((is_quoting || !named.contains(CANARY)) && reason.len() < 1_700, "told: {reason}");
    promised!(!reason.chars().any(char::is_control), "told: {reason:?}");
    let secrets = Document::read(body).map_or_else(|_| Vec::new(), |document| document.secrets());
    // Shorter ones are not looked for.
    let secrets = secrets.iter().map(|secret| secret.trim());
    for secret in secrets.filter(|secret| secret.contains(CANARY) && secret.len() >= 8) {
        promised!(!reason.contains(secret), "the secret {secret} is told: {reason}");
    }
    // Behind it are the server's own words.
    Ok(Verdict::Refused(reason.split(": ").next().unwrap_or_default().to_owned()))
}

fn used(left_out: &[LeftOut], body: &[u8]) -> Judged {
    let all = without_hosts(&told(left_out), body);
    promised!(!all.contains(CANARY) && all.len() < 4_000, "told: {all}");
    Ok(match left_out.first() {
        None => Verdict::Used,
        Some(left) => Verdict::LeftOut(format!("left out: {}", left.reason)),
    })
}

fn token(status: u16, body: &[u8]) -> Judged {
    let sent = ["canary-that-was-sent"];
    match answer::read(HOST, &response(status, body), &["asked".to_owned()], &sent) {
        Err(why) => {
            let told = why.to_string();
            promised!(!told.contains(sent[0]), "what was sent is told: {told}");
            refused(told, HOST, body)
        }
        Ok(tokens) => {
            promised!((200..300).contains(&status), "a token of a failure");
            let access = tokens.secrets().next().unwrap_or_default();
            let is_bare = !access.is_empty() && access.is_ascii() && !access.contains(char::is_whitespace);
            promised!(is_bare, "a token that cannot be sent: {access:?}");
            promised!(tokens.expires_in.is_none_or(|life| !life.is_zero()), "a token that is over");
            Ok(Verdict::Used)
        }
    }
}

fn metadata(body: &[u8]) -> Judged {
    let document = match Document::read(body) {
        Ok(document) => document,
        Err(why) => return refused(format!("{HOST} gave {why}"), HOST, body),
    };
    match Server::published(document, Source::Discovered, Allowed::default()) {
        Err(flaw) => refused(flaw.published_by(HOST).to_string(), HOST, body),
        Ok(server) => {
            let wire = server.wire();
            for (name, value) in wire.as_object().into_iter().flatten() {
                if name.ends_with("_endpoint")
                    && let Some(address) = value.as_str()
                {
                    let url = Url::parse(address).map_err(|error| format!("{name}: {error}"))?;
                    promised!(url.scheme() == "https", "{name} is {address}");
                }
            }
            // What is stored is read again as it is, but for where it came from.
            let stored = |wire: &Value| {
                let mut stored = wire.clone();
                stored.as_object_mut().map(|members| members.remove("x_source"));
                stored
            };
            let again = Server::provided(&wire, Allowed::default());
            let is_same = again.is_ok_and(|again| stored(&again.wire()) == stored(&wire));
            promised!(is_same, "it is another one when it is read again: {wire}");
            used(server.left_out(), body)
        }
    }
}

fn protected(body: &[u8]) -> Judged {
    let server = Url::parse("https://tools.example/mcp").expect("an address");
    let document = match Document::read(body) {
        Ok(document) => document,
        Err(why) => return refused(format!("{HOST} gave {why}"), HOST, body),
    };
    match Resource::read(document, &server) {
        Ok(resource) => used(&resource.left_out, body),
        Err(why) => refused(format!("{HOST} gave {why:?}, which is not ours"), HOST, body),
    }
}

fn error(body: &[u8]) -> Judged {
    match ErrorAnswer::read(body) {
        None => Ok(Verdict::Refused("there is no error in it".into())),
        Some(error) => {
            let quoted = error.quoted(&[&error.error]);
            promised!(quoted.len() < 1_000 && !quoted.chars().any(char::is_control), "quoted: {quoted:?}");
            Ok(Verdict::Used)
        }
    }
}

fn challenged(body: &[u8]) -> Judged {
    let mut headers = HeaderMap::new();
    for line in body.split(|byte| *byte == b'\n') {
        let Ok(value) = HeaderValue::from_bytes(line) else {
            return Ok(Verdict::Refused("this is no header".into()));
        };
        headers.append(header::WWW_AUTHENTICATE, value);
    }
    let server = Url::parse("https://tools.example/mcp").expect("an address");
    match challenge(&server, &headers) {
        None => Ok(Verdict::Refused("it is not about tokens".into())),
        Some(challenge) => {
            promised!(challenge.resource_metadata.len() <= 4, "{challenge:?}");
            Ok(Verdict::Used)
        }
    }
}

fn registration(runtime: &Runtime, status: u16, body: &[u8]) -> Judged {
    let published = json!({
        "issuer": "https://as.example", "authorization_endpoint": "https://as.example/authorize",
        "token_endpoint": "https://as.example/token", "registration_endpoint": "https://as.example/register",
        "code_challenge_methods_supported": ["S256"], "response_types_supported": ["code"],
    });
    let server = Server::provided(&published, Allowed::default()).map_err(|flaw| format!("{flaw:?}"))?;
    let redirect = Url::parse("http://127.0.0.1:7/cb").expect("an address");
    let same = Same { status, body: body.to_vec(), asked: parking_lot::Mutex::default() };
    match runtime.block_on(register(&server, &same, &redirect)) {
        Err(error) => refused(error.to_string(), HOST, body),
        Ok(client) => {
            promised!(!client.id.trim().is_empty(), "a client without an id");
            Ok(Verdict::Used)
        }
    }
}

/// A search among servers that all answer the same.
fn search(runtime: &Runtime, status: u16, body: &[u8]) -> Judged {
    let same = Same { status, body: body.to_vec(), asked: parking_lot::Mutex::default() };
    let patience = Duration::from_secs(20);
    let search = Search { server_url: "https://tools.example/mcp", challenge: None, issuer: None, patience };
    let found = runtime.block_on(search.run(&same, Allowed::default()));
    let asked = *same.asked.lock();
    promised!(asked <= 100, "{asked} requests");
    for tried in &found.tried {
        let outcome = without_hosts(&tried.outcome.to_string(), body);
        promised!(!outcome.contains(CANARY) && outcome.len() < 1_000, "told: {outcome}");
    }
    match found.server {
        Ok(server) => used(server.left_out(), body),
        Err(why) => refused(why.to_string(), "tools.example", body),
    }
}

/// A line with the kind of the answer and its status, and a body.
fn judged(runtime: &Runtime, input: &[u8]) -> Judged {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let line = String::from_utf8_lossy(&input[..end]);
    let body = input.get(end + 1..).unwrap_or_default();
    let (kind, status) = line.split_once(' ').unwrap_or((&line, "200"));
    let status = status.parse().ok().filter(|status| (200..600).contains(status)).unwrap_or(200);
    match kind {
        "token" => token(status, body),
        "protected" => protected(body),
        "error" => error(body),
        "challenge" => challenged(body),
        "registration" => registration(runtime, status, body),
        "search" => search(runtime, status, body),
        _ => metadata(body),
    }
}

/// Answers with members that servers give, and values that they do not.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("\"canary-value\"".to_owned()),
        Just("\"https://as.example/x\"".to_owned()),
        Just("\"https://tools.example/mcp\"".to_owned()),
        Just("\"javascript:alert(1)\"".to_owned()),
        Just("[\"S256\", \"code\", 7]".to_owned()),
        Just("{\"access_token\": \"canary-inside\"}".to_owned()),
        "-?[0-9]{1,20}(e[0-9]{1,3})?",
        "\"[ -!#-\\[\\]-~]{0,12}\"",
    ];
    let member = prop::sample::select(vec![
        "issuer",
        "authorization_endpoint",
        "token_endpoint",
        "registration_endpoint",
        "revocation_endpoint",
        "jwks_uri",
        "scopes_supported",
        "response_types_supported",
        "code_challenge_methods_supported",
        "grant_types_supported",
        "token_endpoint_auth_methods_supported",
        "resource",
        "authorization_servers",
        "access_token",
        "refresh_token",
        "token_type",
        "expires_in",
        "expires_on",
        "scope",
        "error",
        "error_description",
        "ok",
        "client_id",
        "client_secret",
        "client_secret_expires_at",
        "token_endpoint_auth_method",
        "authed_user",
        "data",
    ]);
    let kinds =
        vec!["token", "token", "metadata", "metadata", "protected", "error", "registration", "search"];
    let begins = prop::sample::select(vec![
        "",
        "\"issuer\": \"https://as.example\", \"authorization_endpoint\": \"https://as.example/a\", \"token_endpoint\": \"https://as.example/t\",",
        "\"access_token\": \"canary-access\",",
        "\"resource\": \"https://tools.example/mcp\", \"authorization_servers\": [\"https://as.example\"],",
        "\"client_id\": \"c\",",
    ]);
    let status = prop::sample::select(vec![200_u16, 200, 201, 400, 401, 404, 429, 500]);
    (prop::sample::select(kinds), status, begins, prop::collection::vec((member, value), 0..8)).prop_map(
        |(kind, status, begins, members)| {
            let members: Vec<String> =
                members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            format!("{kind} {status}\n{{{begins}{}}}", members.join(", ")).into_bytes()
        },
    )
}

/// The answers of services in the corpus.
fn seen() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/oauth");
    let files = std::fs::read_dir(folder).expect("lists").map(|entry| {
        let file = std::fs::read(entry.expect("lists").path()).expect("reads");
        let file: Value = serde_json::from_slice(&file).expect("JSON");
        let body = file["body"].as_str().map_or_else(|| file["body"].to_string(), str::to_owned);
        let kind = file["kind"].as_str().expect("a kind").to_owned();
        format!("{kind} {}\n{body}", file["status"].as_u64().unwrap_or(200))
    });
    files.collect()
}

#[test]
fn fuzz_an_answer_of_an_authorization_server_is_used_left_out_or_refused_with_reasons_that_quote_no_secret() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    Fuzz::new("oauth", env!("CARGO_MANIFEST_DIR"))
        .base(seen())
        .grammar(answers)
        .words([
            "token 200\n",
            "metadata 200\n",
            "registration 201\n",
            "search 200\n",
            "\"issuer\":\"https://as.example\",",
            "\"access_token\":",
            "\"error\":\"invalid_grant\"",
            "Bearer ",
            "DPoP ",
            "resource_metadata=\"",
            "error=\"insufficient_scope\"",
            ", ",
            "=\"",
            "https://",
            "//",
            "@",
            "user:pw@",
            "[::1]",
            "127.0.0.1",
            "xn--",
            "access_token=canary&token_type=bearer",
            "None",
            "<html>",
            "token 400\n<html>canary-that-was-sent",
            "canary-that-was-sent",
        ])
        .run(move |input| judged(&runtime, input));
}
