//! Every list of methods that a server may advertise, with every answer to a registration and everything that it really
//! takes: whoever can be known is known, by ways that were said or advertised, and a refusal names what was tried.

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Response, header};
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

use super::{
    Client, Hint, Server, begin,
    exchange::Exchange,
    finish,
    fixture::{LOOPBACK, merged},
    refresh, register, revoke,
    ways::Way,
};
use crate::ConnectorsError;

const METHODS: [&str; 5] =
    ["client_secret_basic", "client_secret_post", "none", "private_key_jwt", "tls_client_auth"];

const WAYS: [Way; 4] = [Way::None, Way::Post, Way::Basic, Way::BasicNamed];

const SECRET: &str = "canary-client-secret";
const CODE: &str = "canary-code";

/// An authorization server that knows its client in some ways only.
struct Strict {
    takes: Vec<Way>,
    /// What it answers a registration with.
    registered: Value,
    /// It counts a code as used that came from a client that it did not know.
    burns: bool,
    /// How it says that it does not know a client.
    unknown: (u16, Value),
    asked: Mutex<Vec<Way>>,
}

impl Strict {
    fn new(takes: &[Way], registered: Value) -> Self {
        let unknown = (401, json!({ "error": "invalid_client" }));
        Self { takes: takes.to_vec(), registered, burns: false, unknown, asked: Mutex::default() }
    }

    fn asked(&self) -> Vec<Way> {
        std::mem::take(&mut *self.asked.lock())
    }
}

#[async_trait]
impl Exchange for Strict {
    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ConnectorsError> {
        let answer = |status: u16, body: &Value| {
            let answer = Response::builder().status(status).body(body.to_string().into_bytes());
            Ok(answer.expect("an answer"))
        };
        if request.uri().path() == "/register" {
            return answer(201, &self.registered);
        }
        let way = way_of(&request);
        let is_burnt = self.burns && !self.asked.lock().is_empty();
        self.asked.lock().push(way);
        match self.takes.contains(&way) {
            false => answer(self.unknown.0, &self.unknown.1),
            true if is_burnt => answer(400, &json!({ "error": "invalid_grant" })),
            true => {
                answer(200, &json!({ "access_token": "a", "refresh_token": "r", "token_type": "Bearer" }))
            }
        }
    }
}

/// How a client proves itself in a request. What is sent twice or halfway is none of the ways.
fn way_of(request: &Request<Vec<u8>>) -> Way {
    let form: Vec<(String, String)> = url::form_urlencoded::parse(request.body()).into_owned().collect();
    let get = |name: &str| {
        let all: Vec<&str> =
            form.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect();
        assert!(all.len() < 2, "{name} stands there twice");
        all.first().copied()
    };
    let basic = format!("Basic {}", STANDARD.encode(format!("c:{SECRET}")));
    let header = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().expect("text"));
    match (header, get("client_id"), get("client_secret")) {
        (None, Some("c"), None) => Way::None,
        (None, Some("c"), Some(SECRET)) => Way::Post,
        (Some(header), None, None) if header == basic => Way::Basic,
        (Some(header), Some("c"), None) if header == basic => Way::BasicNamed,
        odd => panic!("{odd:?}"),
    }
}

fn server(advertised: Option<&[&str]>) -> Server {
    let metadata = json!({
        "issuer": "https://as.example", "authorization_endpoint": "https://as.example/authorize",
        "token_endpoint": "https://as.example/token", "registration_endpoint": "https://as.example/register",
        "revocation_endpoint": "https://as.example/revoke", "token_endpoint_auth_methods_supported": advertised,
    });
    Server::provided(&metadata, LOOPBACK).expect("valid metadata")
}

fn method_of(way: Way) -> &'static str {
    match way {
        Way::None => "none",
        Way::Post => "client_secret_post",
        Way::Basic | Way::BasicNamed => "client_secret_basic",
        Way::PrivateKeyJwt => "private_key_jwt",
    }
}

/// Whether a client may be asked like this: it was said or advertised, or nothing was that it could do.
fn may_be_tried(way: Way, said: Option<&str>, advertised: Option<&[&str]>) -> bool {
    let method = method_of(way);
    let usable = |name: &&str| WAYS.iter().any(|way| method_of(*way) == *name);
    let is_silent = advertised.is_none_or(|names| said.is_none() && !names.iter().any(usable));
    said == Some(method)
        || advertised.is_some_and(|names| names.contains(&method))
        || is_silent && way != Way::None
}

/// Every choice of some things.
fn subsets<T: Copy>(all: &[T]) -> Vec<Vec<T>> {
    let chosen = |number: usize| {
        let picked = all.iter().enumerate().filter(|(place, _)| number & (1 << place) != 0);
        picked.map(|(_, item)| *item).collect()
    };
    (0..1 << all.len()).map(chosen).collect()
}

async fn connected(server: &Server, client: &Client, exchange: &Strict) -> Result<(), String> {
    let redirect = Url::parse("http://127.0.0.1:7/cb").expect("an address");
    let pending = begin(server, client, &redirect, &[]).expect("an address").pending;
    let finished = finish(server, client, &pending, CODE, None, exchange).await;
    finished.map(drop).map_err(|error| error.to_string())
}

async fn registered(server: &Server, exchange: &Strict) -> Client {
    let redirect = Url::parse("http://127.0.0.1:7/cb").expect("an address");
    register(server, exchange, &redirect).await.expect("a client")
}

async fn is_known(advertised: Option<&[&str]>, said: Option<&str>, has_secret: bool, takes: &[Way]) {
    let about = format!("{advertised:?}, {said:?}, secret: {has_secret}, takes {takes:?}");
    let mut answer = json!({ "client_id": "c" });
    if let Some(said) = said {
        answer["token_endpoint_auth_method"] = said.into();
    }
    if has_secret {
        answer["client_secret"] = SECRET.into();
    }
    let (server, exchange) = (server(advertised), Strict::new(takes, answer));
    let client = registered(&server, &exchange).await;
    let outcome = connected(&server, &client, &exchange).await;
    let asked = exchange.asked();
    let may = |way: &Way| match has_secret {
        true => may_be_tried(*way, said, advertised),
        false => *way == Way::None,
    };
    assert!(asked.iter().all(may), "{about}: {asked:?}");
    assert!((1..asked.len()).all(|place| !asked[..place].contains(&asked[place])), "{about}: {asked:?}");
    assert_eq!(outcome.is_ok(), takes.iter().any(may), "{about}: {asked:?} {outcome:?}");
    match outcome {
        Ok(()) => assert!(takes.contains(asked.last().expect("a request")), "{about}"),
        Err(message) => {
            assert_eq!(asked.len(), WAYS.iter().filter(|way| may(way)).count(), "{about}: {asked:?}");
            assert!(asked.iter().all(|way| message.contains(&way.to_string())), "{about}: {message}");
            assert!(message.starts_with("as.example refused") && !message.contains("canary"), "{message}");
            assert_eq!(client.settled(), None, "{about}");
            return;
        }
    }
    // What was learned is known the next time, after it was stored as well.
    assert_eq!(client.settled(), asked.last().copied().filter(|_| asked.len() > 1), "{about}");
    let stored = Client::from_bytes(&client.to_bytes().expect("bytes")).expect("a client");
    let stored = stored.knowing(client.settled());
    let token = SecretString::from("the-token");
    refresh(&server, &stored, &token, &[], &exchange).await.map(drop).expect("tokens");
    assert!(revoke(&server, &stored, &token, Hint::Refresh, &exchange).await.expect("an answer"), "{about}");
    assert_eq!(exchange.asked(), [*asked.last().expect("a request"); 2], "{about}");
}

#[tokio::test]
async fn whatever_is_advertised_said_and_taken_a_client_is_known_or_the_reason_names_what_was_tried() {
    let mut lists: Vec<Option<Vec<&str>>> = vec![None];
    for list in subsets(&METHODS) {
        lists.push(Some(list.iter().rev().copied().collect()));
        lists.push(Some(list));
    }
    for advertised in &lists {
        let advertised = advertised.as_deref();
        for takes in subsets(&WAYS) {
            for said in [None, Some("none"), Some("client_secret_post"), Some("client_secret_basic")] {
                is_known(advertised, said, true, &takes).await;
            }
            is_known(advertised, None, false, &takes).await;
            is_known(advertised, Some("none"), false, &takes).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_uses_a_code_up_for_a_client_that_it_does_not_know_costs_one_authorisation() {
    let answer = json!({ "client_id": "c", "client_secret": SECRET });
    let server = server(Some(&["client_secret_basic"]));
    let exchange = Strict { burns: true, ..Strict::new(&[Way::BasicNamed], answer) };
    let client = registered(&server, &exchange).await;
    let message = connected(&server, &client, &exchange).await.expect_err("a used code");
    assert!(message.contains("invalid_grant") && message.contains("authorise again"), "{message}");
    assert!(
        message.contains("by client_secret_basic; by client_secret_basic with client_id in the body it does")
    );
    exchange.asked();
    let known = client.settled();
    let again = Client::from_bytes(&client.to_bytes().expect("bytes")).expect("a client").knowing(known);
    connected(&server, &again, &exchange).await.expect("tokens");
    assert_eq!(exchange.asked(), [Way::BasicNamed]);
}

#[tokio::test]
async fn only_an_answer_about_the_client_is_a_reason_to_ask_again() {
    let invalid = |words: &str| json!({ "error": "invalid_request", "error_description": words });
    for (status, body, is_reason) in [
        (401, json!({ "error": "invalid_client" }), true),
        (400, json!({ "error": "invalid_client" }), true),
        (200, json!({ "error": "incorrect_client_credentials" }), true),
        (401, json!({ "error": "unauthorized_client", "error_description": "Missing client_id" }), true),
        (400, invalid("Missing client_id"), true),
        (401, json!({}), true),
        (401, json!({ "error": "invalid_grant" }), false),
        (400, json!({ "error": "invalid_grant", "error_description": "of another client_id" }), false),
        (400, invalid("Missing code"), false),
        (400, json!({ "error": "unauthorized_client" }), false),
        (400, json!({ "error": "access_denied" }), false),
        (403, json!({}), false),
        (429, json!({ "error": "invalid_client" }), false),
        (500, json!({ "error": "invalid_client" }), false),
        (503, json!({}), false),
    ] {
        let answer = json!({ "client_id": "c", "client_secret": SECRET });
        let exchange = Strict { unknown: (status, body.clone()), ..Strict::new(&[Way::Post], answer) };
        let server = server(Some(&["client_secret_basic", "client_secret_post"]));
        let client = registered(&server, &exchange).await;
        let outcome = connected(&server, &client, &exchange).await;
        assert_eq!(outcome.is_ok(), is_reason, "{status} {body}: {outcome:?}");
        assert_eq!(exchange.asked().len(), if is_reason { 3 } else { 1 }, "{status} {body}");
    }
}

#[tokio::test]
async fn revocation_goes_by_what_is_advertised_for_it() {
    let answer = json!({ "client_id": "c", "client_secret": SECRET });
    let exchange = Strict::new(&[Way::Post], answer);
    let methods = json!({
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        "revocation_endpoint_auth_methods_supported": ["client_secret_post"],
    });
    let server = Server::provided(&merged(server(None).wire(), methods), LOOPBACK).expect("valid metadata");
    let client = registered(&server, &exchange).await;
    let token = SecretString::from("the-token");
    assert!(revoke(&server, &client, &token, Hint::Access, &exchange).await.expect("an answer"));
    assert_eq!((exchange.asked(), client.settled()), (vec![Way::Post], None));
}
