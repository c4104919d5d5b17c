//! Answers as services give them, by their public documentation: `tests/corpus/oauth`, one file for each.

use http::Response;
use serde_json::{Value, json};
use url::Url;

use super::{
    answer::{self, Refused},
    document::Document,
    fixture::{Fixture, wire},
    register,
    server::{Server, Source},
};
use crate::egress::address::Allowed;

/// The files of one kind.
fn files(kind: &str) -> Vec<(String, Value)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/oauth");
    let files = std::fs::read_dir(folder).expect("the corpus").filter_map(|file| {
        let path = file.expect("a file").path();
        let name = path.file_stem()?.to_string_lossy().into_owned();
        let read: Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
        (read["kind"] == kind).then_some((name, read))
    });
    let files: Vec<_> = files.collect();
    assert!(!files.is_empty(), "no {kind} in {folder}");
    files
}

/// A body that is written as a text is sent as it is.
fn body(file: &Value) -> String {
    file["body"].as_str().map_or_else(|| file["body"].to_string(), str::to_owned)
}

fn assert_secret(name: &str, message: &str) {
    assert!(!message.contains("canary"), "{name}: {message}");
}

#[test]
fn the_token_answers_of_well_known_services_are_read() {
    for (name, file) in files("token") {
        let status = file["status"].as_u64().expect("a status") as u16;
        let answer = Response::builder().status(status).body(body(&file).into_bytes()).expect("an answer");
        let expect = &file["expect"];
        let read = answer::read("as.example", &answer, &["asked".to_owned()], &[]);
        match read {
            Ok(tokens) => {
                let secrets: Vec<&str> = tokens.secrets().collect();
                let expected = [&expect["access"], &expect["refresh"]];
                let expected: Vec<&str> = expected.into_iter().filter_map(Value::as_str).collect();
                assert_eq!(secrets, expected, "{name}");
                let seconds = tokens.expires_in.map(|life| life.as_secs());
                assert_eq!(json!(seconds), expect["expires_in"], "{name}");
                assert_eq!(json!(tokens.scopes), expect["scopes"], "{name}");
            }
            Err(refused) => {
                let (kind, message) = match refused {
                    Refused::Rejected(message) => ("refused", message),
                    Refused::Failed(error) | Refused::Unsent(error) => ("failed", error.to_string()),
                };
                assert_secret(&name, &message);
                let expected = expect[kind].as_str().unwrap_or_else(|| panic!("{name}: {message}"));
                assert!(message.contains(expected), "{name}: {message}");
            }
        }
    }
}

#[test]
fn the_metadata_of_well_known_servers_are_read() {
    for (name, file) in files("metadata") {
        let document = Document::read(body(&file).as_bytes()).expect("a document");
        let expect = &file["expect"];
        match Server::published(document, Source::Fetched, Allowed::default()) {
            Ok(server) => {
                let left_out: Vec<&str> = server.left_out().iter().map(|left_out| &*left_out.what).collect();
                let mut expected: Vec<&str> =
                    expect["left_out"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
                let mut left_out = left_out;
                left_out.sort_unstable();
                expected.sort_unstable();
                assert_eq!(left_out, expected, "{name}");
                let wire = server.wire();
                for (member, value) in expect["wire"].as_object().expect("members") {
                    assert_eq!(wire[member], *value, "{name}: {member}");
                }
            }
            Err(flaw) => {
                let message = flaw.published_by("as.example").to_string();
                let expected = expect["refused"].as_str().unwrap_or_else(|| panic!("{name}: {message}"));
                assert!(message.contains(expected), "{name}: {message}");
            }
        }
    }
}

#[tokio::test]
async fn the_registration_answers_of_servers_are_read() {
    let fixture = Fixture::start().await;
    let server = fixture.server(json!({ "token_endpoint_auth_methods_supported": ["none"] }));
    let redirect = Url::parse("http://127.0.0.1:7/cb").expect("an address");
    for (name, file) in files("registration") {
        fixture.on("POST /register", file["status"].as_u64().expect("a status") as u16, body(&file));
        let expect = &file["expect"];
        match register(&server, &*wire(), &redirect).await {
            Ok(client) => {
                assert_eq!(json!(client.id), expect["client_id"], "{name}");
                assert_eq!(json!(client.secrets().next()), expect["secret"], "{name}");
            }
            Err(error) => {
                let message = error.to_string();
                assert_secret(&name, &message);
                let expected = expect["refused"].as_str().unwrap_or_else(|| panic!("{name}: {message}"));
                assert!(message.contains(expected), "{name}: {message}");
            }
        }
    }
}
