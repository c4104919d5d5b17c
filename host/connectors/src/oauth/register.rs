//! Becoming a client by asking for it (RFC 7591). The secret that comes back is kept, and so is how it is to be used.

use chrono::DateTime;
use http::{Request, header};
use secrecy::SecretString;
use serde_json::json;
use url::Url;

use super::{
    Client, Server,
    client::{CLIENT_NAME, Proof},
    document::{Document, told},
    error_answer::ErrorAnswer,
    exchange::{self, Exchange, host, is_loopback},
    quote::quoted,
    server::Source,
    ways::{Method, Said},
};
use crate::ConnectorsError;

/// Bytes of a secret.
const LONGEST: usize = 4096;

/// Registers airlock as a client that sends browsers back to `redirect_uri`.
pub(crate) async fn register(
    server: &Server,
    exchange: &dyn Exchange,
    redirect_uri: &Url,
) -> Result<Client, ConnectorsError> {
    let Some(endpoint) = &server.metadata.registration_endpoint else {
        return Err(ConnectorsError::Conflict(server.takes_no_clients(redirect_uri)));
    };
    let host = host(endpoint);
    let wanted = server.auth_methods().and_then(Method::wanted);
    let mut grants = vec!["authorization_code"];
    let supported = server.metadata.grant_types_supported.as_ref();
    if supported.is_none_or(|grants| grants.iter().any(|grant| grant == "refresh_token")) {
        grants.push("refresh_token");
    }
    let application = if is_loopback(redirect_uri) { "native" } else { "web" };
    // Nothing about scopes: a client that named some could never ask for one more that a call turns out to need, and
    // strict servers refuse those of a resource that are not on their own list.
    let mut body = json!({
        "client_name": CLIENT_NAME, "redirect_uris": [redirect_uri], "grant_types": grants,
        "response_types": ["code"], "application_type": application,
    });
    // Without a word, the server chooses.
    if let Some(method) = wanted {
        body["token_endpoint_auth_method"] = method.as_str().into();
    }
    let request = Request::post(endpoint.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(serde_json::to_vec(&body)?)
        .map_err(|_| {
            ConnectorsError::Upstream(format!("the registration endpoint of {host} cannot be called"))
        })?;
    let refused = |why: &str| {
        let hint = match server.source() {
            Source::Assumed => ". It publishes no OAuth metadata, so it may not use OAuth at all",
            _ => "",
        };
        let message = format!(
            "{host} refused to register airlock as a client: {why}{hint}. Register it by hand and give the connector \
             auth_data with the client_id"
        );
        tracing::debug!(host, message, "a registration was refused");
        ConnectorsError::Upstream(message)
    };
    let answer = exchange::send(exchange, request).await?;
    if !answer.status().is_success() {
        let status = answer.status().as_u16();
        let said = Document::read(answer.body()).ok().and_then(|mut document| said(&mut document));
        return Err(refused(&said.unwrap_or_else(|| format!("status {status}"))));
    }
    let unusable = |what: &str| {
        ConnectorsError::Upstream(format!("{host} answered the registration of a client with {what}"))
    };
    let mut document = Document::read(answer.body()).map_err(|what| unusable(&what.to_string()))?;
    if let Some(said) = said(&mut document) {
        return Err(refused(&said));
    }
    // A client information response (RFC 7591 §3.2.1). What it repeats of the request is not looked at.
    let Some(id) = document.text_or_number("client_id") else {
        let why = document.reason("client_id").unwrap_or("it is missing");
        return Err(unusable(&format!("something that is not a client: client_id: {why}")));
    };
    let secret = document.secret("client_secret", LONGEST).map(SecretString::from);
    if secret.is_none()
        && let Some(why) = document.reason("client_secret")
    {
        return Err(unusable(&format!("a client whose secret cannot be used: {why}")));
    }
    let method = document.text("token_endpoint_auth_method");
    // Seconds since 1970; zero for never.
    let expires_at = document.number("client_secret_expires_at");
    let named = method.as_deref().map(str::trim);
    let said = match (named.map(Method::named), &secret) {
        (None, _) => Said::Nothing,
        (Some(Some(Method::None)), _) => Said::First(Method::None),
        (Some(Some(method @ (Method::Basic | Method::Post))), Some(_)) => Said::First(method),
        // It repeats its own default and gives what was asked for.
        (Some(Some(Method::Basic | Method::Post)), None) if wanted == Some(Method::None) => Said::Nothing,
        (Some(Some(Method::Basic | Method::Post)), None) => {
            return Err(unusable("a client that needs a secret, and no secret"));
        }
        (Some(None | Some(Method::PrivateKeyJwt)), _) => {
            let came = document.secrets();
            let came: Vec<&str> = came.iter().map(String::as_str).collect();
            let method = quoted(named.unwrap_or_default(), &came);
            return Err(unusable(&format!("the unknown authentication method '{method}'")));
        }
    };
    // One that is not used by the server's own word does not end the client with it.
    let is_used = secret.is_some() && said != Said::First(Method::None);
    let secret_expires_at = expires_at
        .filter(|seconds| *seconds >= 1.0 && is_used)
        .and_then(|seconds| DateTime::from_timestamp(seconds as i64, 0));
    let left_out = document.left_out();
    if !left_out.is_empty() {
        let left_out = told(&left_out);
        tracing::debug!(host, left_out, "parts of the answer to a registration were not used");
    }
    let proof = secret.map_or(Proof::None, Proof::Secret);
    let mut client = Client::new(id, proof, said);
    client.secret_expires_at = secret_expires_at;
    Ok(client)
}

/// The error in an answer, without the secrets that stand beside it.
fn said(document: &mut Document) -> Option<String> {
    let came = document.secrets();
    let came: Vec<&str> = came.iter().map(String::as_str).collect();
    ErrorAnswer::of(document).map(|error| error.quoted(&came))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::oauth::{
        fixture::{Fixture, wire},
        mutations::{Kind, mutations},
        ways::Way,
    };

    fn callback(text: &str) -> Url {
        Url::parse(text).expect("an address")
    }

    async fn registered(fixture: &Fixture, methods: Value, answer: Value) -> Result<Client, ConnectorsError> {
        fixture.on("POST /register", 201, answer.to_string());
        let server = fixture.server(json!({ "token_endpoint_auth_methods_supported": methods }));
        let redirect = callback("http://127.0.0.1:7/v1/airlock/oauth/callback");
        register(&server, &*wire(), &redirect).await
    }

    #[tokio::test]
    async fn a_registration_says_what_airlock_is_and_keeps_the_secret() {
        let fixture = Fixture::start().await;
        let answer = json!({
            "client_id": "c1", "client_secret": "the-client-secret", "client_secret_expires_at": 4_000_000_000_i64,
            "token_endpoint_auth_method": "client_secret_post",
        });
        let client =
            registered(&fixture, json!(["none", "client_secret_post"]), answer).await.expect("a client");
        assert_eq!(
            fixture.last("POST /register").json(),
            json!({
                "client_name": "airlock", "redirect_uris": ["http://127.0.0.1:7/v1/airlock/oauth/callback"],
                "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
                "application_type": "native", "token_endpoint_auth_method": "client_secret_post",
            })
        );
        assert_eq!(client.id, "c1");
        assert_eq!(client.secrets().collect::<Vec<_>>(), ["the-client-secret"]);
        assert_eq!(client.secret_expires_at.map(|at| at.timestamp()), Some(4_000_000_000));
    }

    #[tokio::test]
    async fn the_servers_choice_of_method_counts() {
        let fixture = Fixture::start().await;
        let secret = "the-client-secret";
        let basic = json!({ "client_id": "c", "client_secret": secret, "client_secret_expires_at": 0 });
        let client = registered(&fixture, json!(null), basic.clone()).await.expect("a client");
        assert_eq!(client.ways(None), [Way::Basic, Way::BasicNamed, Way::Post]);
        assert!(client.secret_expires_at.is_none());
        assert!(fixture.last("POST /register").json().get("token_endpoint_auth_method").is_none());
        let client = registered(&fixture, json!(["client_secret_post"]), basic).await.expect("a client");
        assert_eq!(client.ways(Some(&["client_secret_post".into()])), [Way::Post]);
        for public in [
            json!({ "client_id": "c", "client_secret": "" }),
            json!({ "client_id": "c", "token_endpoint_auth_method": "none", "client_secret": secret }),
        ] {
            let client = registered(&fixture, json!(["none"]), public).await.expect("a client");
            assert_eq!(client.ways(Some(&["none".into()])), [Way::None]);
        }
        for bad in [
            json!({ "client_id": "" }),
            json!({ "client_secret": secret }),
            json!({ "client_id": "c", "token_endpoint_auth_method": "client_secret_basic" }),
            json!({ "client_id": "c", "token_endpoint_auth_method": "tls_client_auth", "client_secret": secret }),
        ] {
            let Err(error) = registered(&fixture, json!(null), bad).await else { panic!("not a client") };
            assert!(!error.to_string().contains(secret), "{error}");
        }
    }

    #[tokio::test]
    async fn one_odd_member_of_an_answer_costs_nothing_that_is_not_needed() {
        let fixture = Fixture::start().await;
        let server = fixture.server(json!({}));
        let (wire, redirect) = (wire(), callback("http://127.0.0.1:7/cb"));
        let good = json!({
            "client_id": "c-1", "client_secret": "canary-client-secret", "client_secret_expires_at": 4_000_000_000_i64,
            "token_endpoint_auth_method": "client_secret_post", "client_id_issued_at": 1, "client_name": "airlock",
            "redirect_uris": ["http://127.0.0.1:7/cb"], "registration_access_token": "canary-registration-token",
        });
        for mutation in &mutations(&good) {
            let (member, text) = (&*mutation.member, &mutation.text[..mutation.text.len().min(300)]);
            fixture.on("POST /register", 201, mutation.text.clone());
            match register(&server, &*wire, &redirect).await {
                Ok(client) => {
                    assert!(client.id == "c-1" || member == "client_id", "{text}");
                    let secret = client.secrets().next();
                    assert!(secret == Some("canary-client-secret") || member == "client_secret", "{text}");
                }
                Err(error) => {
                    let needed = ["client_id", "client_secret", "token_endpoint_auth_method"];
                    let message = error.to_string();
                    assert!(needed.contains(&member) && mutation.kind != Kind::Repeated, "{text}: {message}");
                    assert!(!message.contains("canary") && message.len() < 500, "{message}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_client_with_a_public_address_is_a_web_application() {
        let fixture = Fixture::start().await;
        fixture.on("POST /register", 200, json!({ "client_id": "c" }).to_string());
        let known =
            json!({ "grant_types_supported": ["authorization_code"], "scopes_supported": ["openid"] });
        let (server, redirect) = (fixture.server(known), callback("https://airlock.example/cb"));
        register(&server, &*wire(), &redirect).await.expect("a client");
        let body = fixture.last("POST /register").json();
        assert_eq!(
            (&body["application_type"], &body["grant_types"]),
            (&json!("web"), &json!(["authorization_code"]))
        );
        assert!(body.get("scope").is_none());
    }

    #[tokio::test]
    async fn row_02_a_refused_registration_is_told_without_its_body() {
        let fixture = Fixture::start().await;
        let server = fixture.server(json!({}));
        let redirect = callback("https://airlock.example/cb");
        fixture.on("POST /register", 400, "<html>key=secret-in-a-page</html>");
        let Err(error) = register(&server, &*wire(), &redirect).await else { panic!("a refusal") };
        assert_eq!(
            error.to_string(),
            "127.0.0.1 refused to register airlock as a client: status 400. Register it by hand and give the connector \
             auth_data with the client_id"
        );
        let refusal = json!({ "error": "invalid_redirect_uri", "error_description": "no\n thanks" });
        fixture.on("POST /register", 400, refusal.to_string());
        let Err(error) = register(&server, &*wire(), &redirect).await else { panic!("a refusal") };
        assert!(error.to_string().contains("invalid_redirect_uri (no thanks)"), "{error}");
        let closed = fixture.server(json!({ "registration_endpoint": null }));
        let Err(error) = register(&closed, &*wire(), &redirect).await else { panic!("no endpoint") };
        assert!(
            matches!(error, ConnectorsError::Conflict(_)) && error.to_string().contains("auth_data"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn row_03_a_redirected_registration_goes_nowhere() {
        let (fixture, second) = (Fixture::start().await, Fixture::start().await);
        fixture.redirect("POST /register", 307, &second.url("/register"));
        let redirect = callback("https://airlock.example/cb");
        let Err(error) = register(&fixture.server(json!({})), &*wire(), &redirect).await else {
            panic!("a redirect")
        };
        assert!(error.to_string().contains("redirects are not followed"), "{error}");
        assert_eq!(second.seen().len(), 0);
    }
}
