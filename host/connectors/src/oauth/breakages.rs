//! Every reader of what authorization servers send, with texts that are broken in every place: what comes of it is used, left
//! out or refused with a reason, and a reason names the host and quotes nothing.

use http::{HeaderMap, HeaderValue, Response, header};
use proptest::prelude::*;
use serde_json::{Value, json};
use url::Url;

use super::{
    answer, challenge,
    document::{Document, told},
    error_answer::ErrorAnswer,
    fixture::{Fixture, wire},
    register,
    resource::Resource,
    server::{Server, Source},
};
use crate::egress::address::Allowed;

/// What is put into a text, or in the place of one of its characters.
const PIECES: [&str; 22] = [
    "",
    "'",
    "\"",
    ",",
    ":",
    "{",
    "}",
    "[",
    "]",
    "\\",
    "\n",
    "\u{0}",
    "NaN",
    "-Infinity",
    "None",
    "\\ud800",
    "\u{feff}",
    "e",
    "1e999",
    "//",
    "null",
    " ",
];

/// The text with every piece at every place, instead of what is there or before it, and every beginning of it.
fn broken(text: &str) -> impl Iterator<Item = String> {
    let places = || text.char_indices().map(|(at, char)| (at, at + char.len_utf8()));
    let beginnings = places().map(|(at, _)| text[..at].to_owned());
    let changed = places().flat_map(move |(at, end)| {
        PIECES.iter().flat_map(move |piece| {
            [end, at].map(|behind| format!("{}{piece}{}", &text[..at], &text[behind..]))
        })
    });
    beginnings.chain(changed)
}

fn token() -> Value {
    json!({
        "access_token": "canary-access", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "canary-refresh",
        "scope": ["a"], "x": null,
    })
}

fn metadata() -> Value {
    json!({
        "issuer": "https://as.example", "authorization_endpoint": "https://as.example/canary",
        "token_endpoint": "https://as.example/canary-token", "code_challenge_methods_supported": ["S256"], "n": 1.5,
    })
}

fn protected() -> Value {
    json!({ "resource": "https://tools.example/mcp", "authorization_servers": ["https://canary.example"] })
}

/// Nothing of the answer is in a reason.
fn assert_clean(reason: &str, text: &str) {
    // What was cut off is no secret any more.
    assert!(!reason.contains("canary"), "{reason} of {text}");
    assert!(reason.len() < 700, "{reason}");
}

fn read_token(text: &str) {
    let answer = Response::builder().status(200).body(text.as_bytes().to_vec()).expect("an answer");
    match answer::read("as.example", &answer, &[], &[]) {
        Ok(tokens) => {
            let access = tokens.secrets().next().expect("a token");
            assert!(access.is_ascii() && !access.contains(char::is_whitespace), "{text}");
        }
        Err(refused) => {
            let reason = refused.to_string();
            assert!(reason.starts_with("as.example "), "{reason}");
            assert_clean(&reason, text);
        }
    }
}

fn read_metadata(text: &str) {
    match Document::read(text.as_bytes()) {
        Err(why) => assert_clean(&why.to_string(), text),
        Ok(document) => match Server::published(document, Source::Discovered, Allowed::default()) {
            Ok(server) => assert_clean(&told(server.left_out()), text),
            Err(flaw) => assert_clean(&flaw.published_by("as.example").to_string(), text),
        },
    }
}

fn read_protected(text: &str) {
    let server = Url::parse("https://tools.example/mcp").expect("an address");
    match Document::read(text.as_bytes()) {
        Err(why) => assert_clean(&why.to_string(), text),
        Ok(document) => match Resource::read(document, &server) {
            Ok(resource) => assert_clean(&told(&resource.left_out), text),
            Err(why) => assert_clean(&format!("{why:?}"), text),
        },
    }
}

#[test]
fn a_text_that_is_broken_in_any_place_is_used_or_refused_with_a_reason_that_quotes_nothing() {
    for text in broken(&token().to_string()) {
        read_token(&text);
    }
    for text in broken(&metadata().to_string()) {
        read_metadata(&text);
    }
    for text in broken(&protected().to_string()) {
        read_protected(&text);
    }
    let error = json!({ "error": "canary-code", "error_description": "of the canary" }).to_string();
    for text in broken(&error) {
        if let Some(error) = ErrorAnswer::read(text.as_bytes()) {
            assert!(!error.quoted(&["canary-code", "of the canary"]).contains("canary-code"));
        }
    }
}

#[tokio::test]
async fn a_registration_that_is_broken_is_refused_with_a_reason_that_quotes_nothing() {
    let fixture = Fixture::start().await;
    let server = fixture.server(json!({}));
    let (wire, redirect) = (wire(), Url::parse("http://127.0.0.1:7/cb").expect("an address"));
    let good = json!({ "client_id": "c", "client_secret": "canary-secret", "client_secret_expires_at": 0 })
        .to_string();
    // Each is a request: every seventh tells enough.
    for text in broken(&good).step_by(7) {
        fixture.on("POST /register", 201, text.clone());
        if let Err(error) = register(&server, &*wire, &redirect).await {
            let reason = error.to_string();
            assert!(reason.starts_with("127.0.0.1 "), "{reason}");
            assert_clean(&reason, &text);
        }
    }
}

#[test]
fn depth_size_and_number_stop_no_reader() {
    for depth in [127, 128, 1_000, 20_000] {
        let lists = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let objects = format!("{}1{}", "{\"canary\":".repeat(depth), "}".repeat(depth));
        for deep in [lists, objects, "[".repeat(depth), "{\"canary\":".repeat(depth)] {
            for good in [token(), metadata(), protected()] {
                for member in good.as_object().expect("an object").keys() {
                    let mut good = good.clone();
                    good[member] = "\u{1}".into();
                    let text = good.to_string().replacen("\"\\u0001\"", &deep, 1);
                    read_token(&text);
                    read_metadata(&text);
                    read_protected(&text);
                }
            }
            read_token(&deep);
            read_metadata(&deep);
        }
    }
    let many: Vec<String> = (0..50_000).map(|n| format!("\"m{n}\": {n}")).collect();
    read_token(&format!("{{{}}}", many.join(",")));
    let twice = vec!["\"access_token\": \"canary\""; 20_000].join(",");
    read_token(&format!("{{{twice}}}"));
    let contested: Vec<String> = (0..20_000).map(|n| format!("\"access_token\": \"canary-{n}\"")).collect();
    read_token(&format!("{{{}}}", contested.join(",")));
}

proptest! {
    #[test]
    fn no_challenge_stops_its_reader(text in "(Bearer|DPoP|basic)?[ ,=\"\\\\a-z:/#?\u{e9}\t]{0,80}") {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            headers.append(header::WWW_AUTHENTICATE, value);
        }
        let server = Url::parse("https://tools.example/mcp").expect("an address");
        if let Some(challenge) = challenge(&server, &headers) {
            prop_assert!(challenge.resource_metadata.len() <= 4);
        }
    }

    #[test]
    fn no_bytes_stop_a_document(bytes in any::<Vec<u8>>(), marks in "[\\[\\]{}\",:'a\\\\ \nN]{0,80}") {
        let _ = Document::read(&bytes);
        let _ = Document::read(marks.as_bytes());
        let _ = Document::read(format!("{{\"a\": {marks}").as_bytes());
    }
}
