//! Credentials of every shape, and services that give each part of them back in every form in which docs/security.md says
//! that it is found.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use airlock_tests::{Fault, LIMIT, Service, Setup, guest, text_result, tools};
use axum::{
    Json, Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    authorise,
    forms::{self, Form, Needles, forms},
    next_connector, private_key,
};

/// A credential, and what of it nobody may see.
struct Shape {
    name: &'static str,
    method: Value,
    /// None: a person authorises.
    credential: Option<Value>,
    secrets: Vec<String>,
    /// Each encoding in each, for the first of the secrets.
    pairs: bool,
}

impl Shape {
    fn new(name: &'static str, method: Value, credential: Value, secrets: &[&str]) -> Self {
        let secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        Self { name, method, credential: Some(credential), secrets, pairs: false }
    }

    fn with_pairs(self) -> Self {
        Self { pairs: true, ..self }
    }

    fn forms(&self) -> Vec<Form> {
        let all = self.secrets.iter().enumerate();
        all.flat_map(|(number, secret)| forms(secret, self.pairs && number == 0)).collect()
    }
}

/// What a client that registered itself is told, and the code with which it comes back.
const REGISTERED: &str = "rc5Tq8Zw2Lk9Vd3Xn7Bh";
const GRANTED: &str = "ga7Yp3Mc6Rf1Kt9Ws4Jv";
const CODE: &str = "co2Nb8Hx5Gz0Dq6Lm3Pe";

fn shapes(pem: &str, server: &Service) -> Vec<Shape> {
    let bearer = json!({ "method_type": "bearer" });
    let header = |value: &str| json!({ "headers": { "X-Auth": value } });
    let metadata = json!({
        "issuer": server.origin, "token_endpoint": server.url("/token"),
        "authorization_endpoint": server.url("/authorize"), "registration_endpoint": server.url("/register"),
        "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"],
    });
    let lines: Vec<&str> =
        pem.lines().filter(|line| !line.starts_with("-----") && line.len() >= 32).collect();
    vec![
        Shape::new(
            "odd characters",
            bearer.clone(),
            json!({ "bearer_token": "k/9+\"vQ2&mZp<L4xW8sR" }),
            &["k/9+\"vQ2&mZp<L4xW8sR"],
        )
        .with_pairs(),
        Shape::new(
            "digits only",
            bearer.clone(),
            json!({ "bearer_token": "401827364550918" }),
            &["401827364550918"],
        )
        .with_pairs(),
        Shape::new(
            "a scheme in front",
            bearer.clone(),
            header("Token tk9vQ2mZpL4xW8sR"),
            &["tk9vQ2mZpL4xW8sR"],
        ),
        Shape::new(
            "parameters",
            bearer.clone(),
            header("Signature keyId=\"public\",token=\"pq7LwZ3nVc81Tg\",sig=Zk4mR0yHd62Jx9"),
            &["pq7LwZ3nVc81Tg", "Zk4mR0yHd62Jx9"],
        ),
        Shape::new(
            "a cookie",
            json!({ "method_type": "api_key", "in": "cookie", "name": "sid" }),
            json!({ "api_key": "ck4Jd82jsKq0Lm3P" }),
            &["ck4Jd82jsKq0Lm3P"],
        ),
        Shape::new(
            "a user name that is a key",
            json!({ "method_type": "basic" }),
            json!({ "basic": { "username": "AK4F9XQ27LMNPZ03TR8W", "password": "x7" } }),
            &["AK4F9XQ27LMNPZ03TR8W"],
        ),
        Shape::new(
            "JSON",
            bearer,
            header(r#"{"access":"ja9Rt5Xw0Qm2Lp7","inner":{"key":"jb8Hc3Zn6Vk1Yd4"}}"#),
            &["ja9Rt5Xw0Qm2Lp7", "jb8Hc3Zn6Vk1Yd4"],
        ),
        Shape::new(
            "a private key",
            json!({
                "method_type": "oauth2", "grant_type": "client_credentials",
                "token_endpoint_auth_method": "private_key_jwt", "oauth2_server_metadata": metadata,
            }),
            json!({ "oauth": { "client_id": "program", "client_private_key": pem } }),
            &[lines[0], GRANTED],
        ),
        Shape {
            name: "a client that registered itself",
            method: json!({ "method_type": "oauth2", "oauth2_server_metadata": metadata }),
            credential: None,
            secrets: vec![REGISTERED.into(), GRANTED.into()],
            pairs: false,
        },
    ]
}

/// An authorization server that registers whoever comes.
async fn authorization_server() -> Service {
    let register = |Json(mut client): Json<Value>| async move {
        client["client_id"] = "registered".into();
        client["client_secret"] = REGISTERED.into();
        client["client_secret_expires_at"] = 0.into();
        client["token_endpoint_auth_method"] = "client_secret_post".into();
        (StatusCode::CREATED, Json(client))
    };
    let token =
        || async { Json(json!({ "access_token": GRANTED, "token_type": "Bearer", "expires_in": 3600 })) };
    Service::start(Router::new().route("/register", post(register)).route("/token", post(token))).await
}

/// Numbers, if the secret is one: however they are written, they have the same digits.
fn numbers(secret: &str) -> Vec<Value> {
    let Ok(number) = secret.parse::<u64>() else { return Vec::new() };
    let written = [format!("{number}"), format!("-{number}"), format!("{number}.0"), format!("{number}e0")];
    written.iter().map(|text| serde_json::from_str(text).expect("a number")).collect()
}

/// What a service gives back: each form as a text of its own.
fn given_back(shape: &Shape) -> Value {
    let text = |form: Form| Value::from(format!("before {} after", form.text));
    let numbers: Vec<Value> = shape.secrets.iter().flat_map(|secret| numbers(secret)).collect();
    let keys: serde_json::Map<String, Value> =
        shape.secrets.iter().map(|secret| (secret.clone(), json!({ "nested": [secret] }))).collect();
    json!({ "texts": shape.forms().into_iter().map(text).collect::<Vec<_>>(), "numbers": numbers, "keys": keys })
}

/// Whose turn it is, and how often it was asked.
#[derive(Default)]
struct Turn {
    shape: AtomicUsize,
    asked: AtomicUsize,
}

async fn mcp(answers: Arc<Vec<Value>>, turn: Arc<Turn>) -> Service {
    Service::mcp(move |method, parameters, _| {
        let answer = &answers[turn.shape.load(Ordering::Relaxed)];
        if method == "tools/list" {
            return Ok(tools(&["give", "fail"]));
        }
        turn.asked.fetch_add(1, Ordering::Relaxed);
        if parameters["name"] == "fail" {
            // As much as is quoted.
            let texts = answer["texts"].as_array().expect("texts").iter().filter_map(Value::as_str);
            let short: Vec<&str> = texts.filter(|text| text.len() < 90).take(3).collect();
            return Err(Fault::Error(short.join(" ")));
        }
        let texts = answer["texts"].as_array().expect("texts");
        let blocks: Vec<Value> = texts.iter().map(|text| json!({ "type": "text", "text": text })).collect();
        let mut result = text_result("");
        (result["content"], result["structuredContent"]) = (blocks.into(), answer.clone());
        Ok(result)
    })
    .await
}

async fn rest(answers: Arc<Vec<Value>>, turn: Arc<Turn>) -> Service {
    let answer = move |request: Request| {
        let answer = answers[turn.shape.load(Ordering::Relaxed)].clone();
        turn.asked.fetch_add(1, Ordering::Relaxed);
        let status = match request.uri().path() {
            "/fail" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::OK,
        };
        async move { (status, Json(answer)).into_response() as Response }
    };
    Service::start(Router::new().fallback(answer)).await
}

/// All texts of a value, those that are JSON taken apart, and the names of members.
fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            found.push(name);
            texts(member, found);
        }),
        _ => {}
    }
}

/// What must not be found, in a place after the other.
struct Search {
    secrets: Vec<String>,
    needles: Needles,
}

impl Search {
    fn new(shapes: &[Shape]) -> Self {
        let mut needles = Needles::default();
        for shape in shapes {
            shape.forms().iter().for_each(|form| needles.add(form, shape.name));
        }
        Self { secrets: shapes.iter().flat_map(|shape| shape.secrets.clone()).collect(), needles }
    }

    /// In an answer: also what others would make of it by undoing encodings.
    fn check(&self, text: &str, place: &str) {
        self.bytes(text.as_bytes(), place);
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        let mut all = Vec::new();
        texts(&value, &mut all);
        // What says nothing is looked at once.
        all.sort_unstable();
        all.dedup();
        for text in all {
            self.bytes(text.as_bytes(), place);
            let found = forms::stands_in(&self.secrets, text.as_bytes(), 2);
            assert_eq!(found, None, "{place}: {}", &text[..text.floor_char_boundary(400)]);
        }
    }

    fn bytes(&self, bytes: &[u8], place: &str) {
        if let Some((what, around)) = self.needles.find(bytes) {
            panic!("{what} stands in {place}: …{around}…");
        }
        let readable = String::from_utf8_lossy(bytes);
        for secret in &self.secrets {
            assert!(!readable.contains(secret.as_str()), "'{secret}' stands in {place}");
        }
    }

    fn folder(&self, folder: &Path) {
        let mut folders: Vec<PathBuf> = vec![folder.into()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("lists") {
                let path = entry.expect("lists").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => self.bytes(&fs::read(&path).unwrap_or_default(), &path.display().to_string()),
                }
            }
        }
    }
}

/// Whether everything that was given back was taken out, and nothing else was: each text has lost its secret.
fn is_cleared(answer: &Value, shape: &Shape, place: &str) {
    let mut all = Vec::new();
    texts(answer, &mut all);
    let kept = all.iter().filter(|text| text.starts_with("before ") && text.ends_with(" after"));
    let (mut cleared, mut whole) = (0, Vec::new());
    for text in kept {
        match text.contains("[REDACTED]") {
            true => cleared += 1,
            false => whole.push(*text),
        }
    }
    let given = shape.forms().len();
    assert!(whole.is_empty() && cleared >= given, "{place}: {cleared} of {given} are cleared, not {whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_01_secrets_of_every_shape_come_back_to_nobody_in_whatever_form() {
    let pem = private_key();
    let server = authorization_server().await;
    let shapes = shapes(&pem, &server);
    let search = Search::new(&shapes);
    let answers = Arc::new(shapes.iter().map(given_back).collect::<Vec<_>>());
    let turn = Arc::new(Turn::default());
    let (mcp, rest) =
        (mcp(Arc::clone(&answers), Arc::clone(&turn)).await, rest(answers, Arc::clone(&turn)).await);
    let setup = Setup::new(&[guest("echo")]);
    let mut daemon = setup.with(&["--allow-loopback", "--log", "trace"]).start().await;
    let client = daemon.client.clone();
    let mut number = 0;
    for (at, shape) in shapes.iter().enumerate() {
        turn.shape.store(at, Ordering::Relaxed);
        for (protocol, address) in [("mcp", mcp.url("/mcp")), ("http", rest.origin.clone())] {
            let place = format!("{}, {protocol}", shape.name);
            let mut connector =
                json!({ "protocol": protocol, "server": address, "auth_methods": [shape.method] });
            if protocol == "http" {
                connector["operations"] = json!([
                    { "name": "give", "method": "get", "path": "/give" },
                    { "name": "fail", "method": "get", "path": "/fail" },
                ]);
            }
            next_connector(&client, number, connector).await;
            number += 1;
            match &shape.credential {
                Some(credential) => {
                    let body = json!({ "name": "main", "credentials": credential });
                    let stored = client.post("/v1/connectors/reflector/user/credentials", &body).await;
                    search.check(&stored.to_string(), &place);
                }
                None => authorise(&daemon, CODE).await,
            }
            let rules = json!({ "record": true, "audit_arguments": true });
            let path = "/v1/airlock/connectors/reflector/control";
            assert!(client.call(Method::PUT, path, Some(&rules)).await.0.is_success());

            turn.asked.store(0, Ordering::Relaxed);
            let call = async |tool: &str| {
                let path = format!("/v1/connectors/reflector/tools/{tool}/call");
                client.call(Method::POST, &path, Some(&json!({}))).await.1
            };
            let answer = call("give").await;
            is_cleared(&answer, shape, &place);
            search.check(&answer.to_string(), &format!("{place}: an answer"));
            let failed = call("fail").await;
            assert!(failed.to_string().contains("[REDACTED]"), "{place}: {failed}");
            search.check(&failed.to_string(), &format!("{place}: an error"));
            for tool in ["give", "fail"] {
                let id = client.start("echo", json!({ "tool": tool })).await;
                let ended = client.ended(&id, LIMIT).await;
                assert!(ended.to_string().contains("[REDACTED]"), "{place}: {ended}");
                search.check(&ended.to_string(), &format!("{place}: an execution"));
                for event in client.events(&id).await {
                    search.check(&event.to_string(), &format!("{place}: an event"));
                }
                for path in ["history", "stream"] {
                    let text = client.get_text(&format!("/v1/workflows/executions/{id}/{path}")).await;
                    search.check(&text, &format!("{place}: {path}"));
                }
            }
            assert!(turn.asked.load(Ordering::Relaxed) >= 4, "{place}: everything came from the service");
            let mocks = client.get("/v1/airlock/connectors/reflector/mocks").await;
            assert!(mocks.to_string().contains("[REDACTED]"), "{place}: {mocks}");
            search.check(&mocks.to_string(), &format!("{place}: recorded mocks"));
        }
    }
    search.check(&client.get_text("/v1/airlock/audit/export").await, "the audit log");
    daemon.kill();
    search.folder(daemon.setup.folder.path());
}
