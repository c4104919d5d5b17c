//! Requests to the token endpoint: a code, a refresh token or a program's own proof against an access token.

use oauth2::PkceCodeChallenge;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    Client, Pending, Server,
    answer::{self, Refused},
    asking,
    exchange::Exchange,
    grant::Tokens,
};
use crate::ConnectorsError;

/// Why there is no new access token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RefreshFailure {
    /// The server will not take this refresh token or client again: somebody has to sign in.
    #[error("{0}")]
    Rejected(String),
    /// It may work later.
    #[error("{0}")]
    Transient(String),
}

/// Exchanges the code that the browser brought back. `iss` is the parameter of that name beside it.
pub(crate) async fn finish(
    server: &Server,
    client: &Client,
    pending: &Pending,
    code: &str,
    iss: Option<&str>,
    exchange: &dyn Exchange,
) -> Result<Tokens, ConnectorsError> {
    let Pending { facts, verifier } = pending;
    facts.check_issuer(iss)?;
    facts.check_unchanged(server, client)?;
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("code_verifier", verifier.expose_secret()),
        ("redirect_uri", facts.redirect_uri.as_str()),
    ];
    let involved = [code, verifier.expose_secret()];
    Ok(ask(server, client, &fields, &facts.scopes, &involved, exchange).await?)
}

/// Gets a new access token. `scopes` are those that were granted: they are not sent, so all of them stay, and stand for the
/// answer's where the server does not name any. The refresh token is the new one where the server rotates them, else the
/// one that was used.
pub(crate) async fn refresh(
    server: &Server,
    client: &Client,
    refresh_token: &SecretString,
    scopes: &[String],
    exchange: &dyn Exchange,
) -> Result<Tokens, RefreshFailure> {
    let token = refresh_token.expose_secret();
    let fields = [("grant_type", "refresh_token"), ("refresh_token", token)];
    let mut tokens = ask(server, client, &fields, scopes, &[token], exchange).await?;
    tokens.refresh.get_or_insert_with(|| refresh_token.clone());
    Ok(tokens)
}

/// Gets an access token for the client itself (RFC 6749 §4.4).
pub(crate) async fn client_credentials(
    server: &Server,
    client: &Client,
    scopes: &[String],
    exchange: &dyn Exchange,
) -> Result<Tokens, ConnectorsError> {
    let wanted = scopes.join(" ");
    let mut fields = vec![("grant_type", "client_credentials")];
    if !wanted.is_empty() {
        fields.push(("scope", &wanted));
    }
    Ok(ask(server, client, &fields, scopes, &[], exchange).await?)
}

/// Whether the server says that it does not know a client: it is asked with a code that nobody gave. A server looks at the
/// client before it looks at the code (RFC 6749 §4.1.3).
pub(crate) async fn has_forgotten(
    server: &Server,
    client: &Client,
    redirect_uri: &Url,
    exchange: &dyn Exchange,
) -> bool {
    let (_, code) = PkceCodeChallenge::new_random_sha256();
    let (_, verifier) = PkceCodeChallenge::new_random_sha256();
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.secret().as_str()),
        ("code_verifier", verifier.secret().as_str()),
        ("redirect_uri", redirect_uri.as_str()),
    ];
    // Whatever else it says, nothing is known.
    let _ = ask(server, client, &fields, &[], &[], exchange).await;
    client.is_forgotten()
}

/// Asks the token endpoint. `involved` are the secrets among the fields.
async fn ask(
    server: &Server,
    client: &Client,
    fields: &[(&str, &str)],
    scopes: &[String],
    involved: &[&str],
    exchange: &dyn Exchange,
) -> Result<Tokens, Refused> {
    // What the token is for (RFC 8707 §2.2).
    let resource = server.resource().map(|resource| ("resource", resource));
    let fields: Vec<(&str, &str)> = fields.iter().copied().chain(resource).collect();
    let (endpoint, advertised) = (&server.metadata.token_endpoint, server.auth_methods());
    let asked = asking::ask(endpoint, server, client, advertised, &fields, exchange).await?;
    let assertion = asked.assertion.as_deref().map(String::as_str);
    let secrets: Vec<&str> = client.secrets().chain(assertion).chain(involved.iter().copied()).collect();
    let host = server.host();
    answer::read(&host, &asked.answer, scopes, &secrets).map_err(|refused| {
        let refused = refused.with(&asked.about_client());
        tracing::debug!(host, status = asked.answer.status().as_u16(), %refused, "there is no token");
        refused
    })
}

impl From<Refused> for ConnectorsError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Rejected(message) => Self::Unauthorized(message),
            Refused::Failed(error) | Refused::Unsent(error) => error,
        }
    }
}

impl From<Refused> for RefreshFailure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Rejected(message) => Self::Rejected(message),
            Refused::Unsent(error) => Self::Rejected(error.to_string()),
            Refused::Failed(error) => Self::Transient(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc, time::Duration};

    use aws_lc_rs::{
        encoding::{AsDer, PublicKeyX509Der},
        rsa::KeySize,
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
    };
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};
    use serde_json::{Value, json};

    use super::*;
    use crate::oauth::{
        begin,
        document::Document,
        fixture::{Fixture, LOOPBACK, merged, wire},
        register,
        server::Source,
    };

    const RESOURCE: &str = "https://mcp.example/mcp";

    fn answer(changes: Value) -> String {
        let tokens = json!({
            "access_token": "the-access-token", "token_type": "Bearer", "expires_in": 60,
            "refresh_token": "the-refresh-token",
        });
        merged(tokens, changes).to_string()
    }

    fn redirect() -> Url {
        Url::parse("http://127.0.0.1:7/cb").expect("an address")
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn refreshed(token: &str) -> SecretString {
        SecretString::from(token)
    }

    struct World {
        fixture: Fixture,
        server: Server,
        wire: Arc<dyn Exchange>,
    }

    impl World {
        async fn new(changes: Value) -> Self {
            let fixture = Fixture::start().await;
            let server = fixture.server(merged(json!({ "x_resource_url": RESOURCE }), changes));
            Self { fixture, server, wire: wire() }
        }

        fn answers(&self, status: u16, body: impl Into<String>) {
            self.fixture.on("POST /token", status, body);
        }

        fn pending(&self, client: &Client) -> Pending {
            begin(&self.server, client, &redirect(), &texts(&["a", "b"])).expect("an address").pending
        }

        async fn finish(
            &self,
            client: &Client,
            code: &str,
            iss: Option<&str>,
        ) -> Result<Tokens, ConnectorsError> {
            finish(&self.server, client, &self.pending(client), code, iss, &*self.wire).await
        }

        async fn refresh(&self, client: &Client) -> Result<Tokens, RefreshFailure> {
            refresh(&self.server, client, &refreshed("the-old-token"), &texts(&["a"]), &*self.wire).await
        }

        fn form(&self) -> BTreeMap<String, String> {
            self.fixture.last("POST /token").form()
        }
    }

    fn secret(method: &str) -> Client {
        Client::for_programs(method, "id", Some("the-client-secret".into()), None).expect("a client")
    }

    fn error<T>(result: Result<T, ConnectorsError>) -> ConnectorsError {
        result.err().expect("an error")
    }

    #[tokio::test]
    async fn row_11_the_resource_is_named_when_a_code_is_exchanged_and_when_a_token_is_refreshed() {
        let world = World::new(json!({})).await;
        world.answers(200, answer(json!({})));
        let client = Client::public("id");
        let pending = world.pending(&client);
        let verifier = pending.verifier.expose_secret().to_owned();
        let tokens = finish(&world.server, &client, &pending, "the-code", None, &*world.wire).await;
        let tokens = tokens.expect("tokens");
        assert_eq!(tokens.secrets().collect::<Vec<_>>(), ["the-access-token", "the-refresh-token"]);
        assert_eq!((tokens.expires_in, tokens.scopes), (Some(Duration::from_secs(60)), texts(&["a", "b"])));
        let expected = [
            ("client_id", "id"),
            ("code", "the-code"),
            ("code_verifier", &verifier),
            ("grant_type", "authorization_code"),
            ("redirect_uri", "http://127.0.0.1:7/cb"),
            ("resource", RESOURCE),
        ];
        let own = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(world.form(), own(&expected));
        world.refresh(&client).await.expect("tokens");
        let expected = [
            ("client_id", "id"),
            ("grant_type", "refresh_token"),
            ("refresh_token", "the-old-token"),
            ("resource", RESOURCE),
        ];
        assert_eq!(world.form(), own(&expected));
        let world = World::new(json!({ "x_resource_url": null })).await;
        world.answers(200, answer(json!({})));
        world.finish(&client, "the-code", None).await.expect("tokens");
        assert!(!world.form().contains_key("resource"));
    }

    #[tokio::test]
    async fn a_secret_goes_where_the_server_wants_it() {
        let world = World::new(json!({})).await;
        world.answers(200, answer(json!({})));
        world.finish(&secret("client_secret_basic"), "the-code", None).await.expect("tokens");
        let seen = world.fixture.last("POST /token");
        let expected = format!("Basic {}", STANDARD.encode("id:the-client-secret"));
        assert_eq!(seen.authorization, Some(expected));
        assert!(!seen.form().contains_key("client_secret"));
        world.refresh(&secret("client_secret_post")).await.expect("tokens");
        let seen = world.fixture.last("POST /token");
        assert_eq!(seen.authorization, None);
        assert_eq!(seen.form().get("client_secret").map(String::as_str), Some("the-client-secret"));
    }

    #[tokio::test]
    async fn row_11_a_code_of_another_issuer_is_not_exchanged() {
        let world = World::new(json!({ "authorization_response_iss_parameter_supported": true })).await;
        world.answers(200, answer(json!({})));
        let client = Client::public("id");
        for iss in [None, Some("https://evil.example")] {
            assert!(matches!(
                error(world.finish(&client, "the-code", iss).await),
                ConnectorsError::Unauthorized(_)
            ));
        }
        assert_eq!(world.fixture.seen().len(), 0);
        let issuer = world.fixture.origin.clone();
        world.finish(&client, "the-code", Some(&issuer)).await.expect("tokens");
    }

    #[tokio::test]
    async fn row_10_a_code_goes_only_to_the_server_that_it_was_asked_from() {
        let (world, other) = (World::new(json!({})).await, Fixture::start().await);
        let client = Client::public("id");
        let pending = world.pending(&client);
        for changes in [
            json!({ "token_endpoint": other.url("/token") }),
            json!({ "issuer": other.origin }),
            json!({ "x_resource_url": "https://other.example/" }),
        ] {
            let changed = world.fixture.server(merged(json!({ "x_resource_url": RESOURCE }), changes));
            error(finish(&changed, &client, &pending, "the-code", None, &*world.wire).await);
        }
        error(finish(&world.server, &Client::public("new"), &pending, "the-code", None, &*world.wire).await);
        assert_eq!(world.fixture.seen().len() + other.seen().len(), 0);
    }

    #[tokio::test]
    async fn row_03_a_redirected_request_for_a_token_goes_nowhere() {
        let (world, second) = (World::new(json!({})).await, Fixture::start().await);
        world.fixture.redirect("POST /token", 307, &second.url("/token"));
        let client = secret("client_secret_post");
        let refused = error(world.finish(&client, "the-code", None).await).to_string();
        assert!(refused.contains("redirects are not followed"), "{refused}");
        assert!(matches!(world.refresh(&client).await, Err(RefreshFailure::Transient(_))));
        assert_eq!(second.seen().len(), 0);
    }

    #[tokio::test]
    async fn row_14_a_refresh_keeps_the_old_refresh_token_unless_there_is_a_new_one() {
        let world = World::new(json!({})).await;
        let client = Client::public("id");
        for (given, kept) in [
            (json!({ "refresh_token": null }), "the-old-token"),
            (json!({ "refresh_token": "" }), "the-old-token"),
            (json!({}), "the-refresh-token"),
        ] {
            world.answers(200, answer(given));
            let tokens = world.refresh(&client).await.expect("tokens");
            assert_eq!(tokens.refresh.as_ref().map(ExposeSecret::expose_secret), Some(kept));
            assert_eq!(tokens.scopes, ["a"]);
        }
        world.answers(200, answer(json!({ "scope": "b,c d", "expires_in": null })));
        let tokens = world.refresh(&client).await.expect("tokens");
        assert_eq!((tokens.scopes, tokens.expires_in), (texts(&["b", "c", "d"]), None));
    }

    #[tokio::test]
    async fn a_rejected_refresh_is_told_from_one_that_may_work_later() {
        let world = World::new(json!({})).await;
        let client = Client::public("id");
        let code = |code: &str| json!({ "error": code }).to_string();
        for (status, body, is_rejected) in [
            (400, code("invalid_grant"), true),
            (401, code("invalid_client"), true),
            (200, code("invalid_grant"), true),
            (400, code("temporarily_unavailable"), false),
            (429, code("invalid_grant"), false),
            (503, code("invalid_grant"), false),
            (500, "<html>".into(), false),
            (404, "<html>".into(), false),
            (400, String::new(), false),
            (200, "{}".into(), false),
        ] {
            world.answers(status, body.clone());
            let failure = world.refresh(&client).await.err().expect("a failure");
            assert_eq!(
                matches!(failure, RefreshFailure::Rejected(_)),
                is_rejected,
                "{status} {body}: {failure}"
            );
        }
        let nobody = world.fixture.server(json!({ "token_endpoint": "http://127.0.0.1:1/token" }));
        let failure = refresh(&nobody, &client, &refreshed("the-old-token"), &[], &*world.wire).await;
        assert_eq!(
            failure.err(),
            Some(RefreshFailure::Transient(
                "the authorization server at 127.0.0.1 cannot be reached: the connection was refused: check that it is \
                 running, and that host and port are right"
                    .into()
            ))
        );
    }

    #[tokio::test]
    async fn row_02_what_a_server_says_comes_without_what_was_sent() {
        let world = World::new(json!({})).await;
        let client = secret("client_secret_post");
        let pending = world.pending(&client);
        let verifier = pending.verifier.expose_secret().to_owned();
        let echo = format!("the-code-1 {verifier} the-client-secret the-old-token");
        world.answers(400, json!({ "error": "invalid_grant", "error_description": echo }).to_string());
        let told = error(finish(&world.server, &client, &pending, "the-code-1", None, &*world.wire).await);
        assert_eq!(
            told.to_string(),
            "127.0.0.1 refused to give a token: invalid_grant ([REDACTED] [REDACTED] [REDACTED] the-old-token)"
        );
        let told = world.refresh(&client).await.err().expect("a failure").to_string();
        assert!(!told.contains("the-old-token") && !told.contains("the-client-secret"), "{told}");
        for (body, words) in [
            ("{\"token\": \"the-client-secret\"}", ""),
            ("the-client-secret", ", which says '[REDACTED]'"),
            (
                "<html><p>no the-client-secret for<br>the-code-1",
                ", which says 'no [REDACTED] for [REDACTED]'",
            ),
        ] {
            world.answers(418, body);
            let told = error(world.finish(&client, "the-code-1", None).await).to_string();
            assert_eq!(
                told,
                format!(
                    "127.0.0.1 answered a request for a token with status 418 and something that is not a token{words}: check \
                     its token endpoint"
                )
            );
        }
    }

    #[tokio::test]
    async fn only_bearer_tokens_that_fit_a_header_are_taken() {
        let world = World::new(json!({})).await;
        for bad in [
            json!({ "token_type": "mac" }),
            json!({ "token_type": "DPoP" }),
            json!({ "access_token": "" }),
            json!({ "access_token": "line\r\nbreak" }),
            json!({ "access_token": null }),
        ] {
            world.answers(200, answer(bad.clone()));
            let told = error(world.finish(&Client::public("id"), "the-code", None).await);
            assert!(
                matches!(told, ConnectorsError::Upstream(_)) && !told.to_string().contains("break"),
                "{bad}"
            );
        }
        world.answers(200, answer(json!({ "token_type": "bearer" })));
        world.finish(&Client::public("id"), "the-code", None).await.expect("tokens");
    }

    #[tokio::test]
    async fn a_program_gets_a_token_by_its_secret() {
        let world = World::new(json!({})).await;
        world.answers(200, answer(json!({ "refresh_token": null })));
        let client = secret("client_secret_post");
        let tokens = client_credentials(&world.server, &client, &texts(&["a", "b"]), &*world.wire).await;
        assert!(tokens.expect("tokens").refresh.is_none());
        let form = world.form();
        let form: Vec<_> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            form,
            [
                ("client_id", "id"),
                ("client_secret", "the-client-secret"),
                ("grant_type", "client_credentials"),
                ("resource", RESOURCE),
                ("scope", "a b"),
            ]
        );
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    fn signing(pem: String) -> Result<Client, ConnectorsError> {
        Client::for_programs("private_key_jwt", "id", None, Some(pem.into()))
    }

    /// Checks the signature of the last request's assertion, and gives its claims.
    fn verified(world: &World, key: &DecodingKey, algorithm: Algorithm) -> Value {
        let form = world.form();
        assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[world.server.issuer(), world.server.metadata.token_endpoint.as_str()]);
        let decoded = jsonwebtoken::decode::<Value>(&form["client_assertion"], key, &validation);
        decoded.expect("a good signature").claims
    }

    #[tokio::test]
    async fn a_program_proves_itself_by_a_signature_that_its_public_key_verifies() {
        let world = World::new(json!({})).await;
        world.answers(200, answer(json!({})));
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
        let client = signing(pem("PRIVATE KEY", ec.to_pkcs8v1().expect("DER").as_ref())).expect("a client");
        client_credentials(&world.server, &client, &[], &*world.wire).await.expect("tokens");
        let key = DecodingKey::from_ec_der(ec.public_key().as_ref());
        let first = verified(&world, &key, Algorithm::ES256);
        // Given by the operator: the endpoint, which every server takes.
        assert_eq!(first["aud"], world.fixture.url("/token"));
        assert_eq!((&first["iss"], &first["sub"]), (&json!("id"), &json!("id")));
        assert_eq!(first["exp"].as_i64().zip(first["iat"].as_i64()).map(|(exp, iat)| exp - iat), Some(120));
        world.refresh(&client).await.expect("tokens");
        assert_ne!(verified(&world, &key, Algorithm::ES256)["jti"], first["jti"]);
        // Found: the issuer.
        let document = Document::of(&world.fixture.metadata()).expect("a document");
        let found = Server::found(document, RESOURCE, &[], Source::Discovered, LOOPBACK);
        let found = World { server: found.ok().expect("a server"), ..world };
        client_credentials(&found.server, &client, &[], &*found.wire).await.expect("tokens");
        assert_eq!(verified(&found, &key, Algorithm::ES256)["aud"], found.fixture.origin);
        let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&rsa).expect("DER");
        let client = signing(pem("PRIVATE KEY", der.as_ref())).expect("a client");
        client_credentials(&found.server, &client, &[], &*found.wire).await.expect("tokens");
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(rsa.public_key()).expect("DER");
        let key = DecodingKey::from_rsa_pem(pem("PUBLIC KEY", public.as_ref()).as_bytes()).expect("a key");
        verified(&found, &key, Algorithm::RS256);
        let other = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).expect("a key");
        error(signing(pem("PRIVATE KEY", other.to_pkcs8v1().expect("DER").as_ref())));
    }

    #[tokio::test]
    async fn a_client_that_registered_itself_gets_its_tokens() {
        let methods = json!({ "token_endpoint_auth_methods_supported": ["client_secret_basic"] });
        let world = World::new(methods).await;
        world.answers(200, answer(json!({})));
        let client = json!({ "client_id": "new", "client_secret": "s", "client_secret_expires_at": 0 });
        world.fixture.on("POST /register", 201, client.to_string());
        let client = register(&world.server, &*world.wire, &redirect()).await.expect("a client");
        world.finish(&client, "the-code", None).await.expect("tokens");
        let expected = format!("Basic {}", STANDARD.encode("new:s"));
        assert_eq!(world.fixture.last("POST /token").authorization, Some(expected));
    }
}
