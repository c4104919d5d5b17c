//! What airlock is to an authorization server: a client with an id, and a way to prove that it is that client.

use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Server,
    quote::quoted,
    server::Source,
    ways::{Method, Said, Way, for_secret},
};
use crate::ConnectorsError;

/// How long an assertion is good for, in seconds: as long as a request may take, and some difference of clocks.
const ASSERTION_LIFE: i64 = 120;

/// A client of one authorization server. It cannot be printed, and is stored only by [`Client::to_bytes`].
pub(crate) struct Client {
    pub(crate) id: String,
    pub(super) proof: Proof,
    /// How it is to prove itself.
    said: Said,
    /// What the server took before.
    known: Option<Way>,
    /// What it took now, after it had refused another way.
    settled: OnceLock<Way>,
    /// The server has said now that there is no such client.
    forgotten: OnceLock<()>,
    /// When the server stops taking the secret.
    pub(crate) secret_expires_at: Option<DateTime<Utc>>,
}

/// What a client has to prove who it is.
pub(super) enum Proof {
    None,
    Secret(SecretString),
    /// A private key in PEM, RSA or P-256.
    PrivateKey(SecretString),
}

/// `AuthData` (contract §11.1): a client that the operator registered by hand.
#[derive(Deserialize)]
pub(crate) struct AuthData {
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<String>,
}

/// The stored form; exists only inside two functions.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: String,
    method: Option<String>,
    secret: Option<Zeroized>,
    secret_expires_at: Option<DateTime<Utc>>,
}

/// A text that is overwritten when it is dropped.
#[derive(Serialize, Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
#[serde(transparent)]
struct Zeroized(String);

impl Client {
    /// A client that proves nothing, such as one that PKCE alone protects.
    pub(crate) fn public(id: &str) -> Self {
        Self::new(id.into(), Proof::None, Said::Nothing)
    }

    pub(super) fn new(id: String, proof: Proof, said: Said) -> Self {
        Self {
            id,
            proof,
            said,
            known: None,
            settled: OnceLock::new(),
            forgotten: OnceLock::new(),
            secret_expires_at: None,
        }
    }

    /// A client that the operator registered by hand, for people to sign in through.
    pub(crate) fn preregistered(data: AuthData) -> Result<Self, ConnectorsError> {
        check_id(&data.client_id, "/auth_data/client_id")?;
        let secret = data.client_secret.filter(|secret| !secret.is_empty()).map(SecretString::from);
        Ok(Self::new(data.client_id, secret.map_or(Proof::None, Proof::Secret), Said::Nothing))
    }

    /// A client for programs, from `OAuth2ClientCredentialsInput` and the connector's `token_endpoint_auth_method`.
    pub(crate) fn for_programs(
        method: &str,
        id: &str,
        secret: Option<SecretString>,
        private_key: Option<SecretString>,
    ) -> Result<Self, ConnectorsError> {
        check_id(id, "/credentials/oauth/client_id")?;
        let given = |value: Option<SecretString>, field: &str| {
            value.filter(|value| !value.expose_secret().is_empty()).ok_or_else(|| {
                let message = format!("a client that authenticates with {method} needs it");
                ConnectorsError::invalid(&format!("/credentials/oauth/{field}"), message)
            })
        };
        let method = Method::named(method).filter(|method| *method != Method::None).ok_or_else(|| {
            let message = "use client_secret_post, client_secret_basic or private_key_jwt";
            ConnectorsError::invalid("/token_endpoint_auth_method", message)
        })?;
        let proof = match method {
            Method::PrivateKeyJwt => {
                let key = given(private_key, "client_private_key")?;
                signer(&key)?;
                Proof::PrivateKey(key)
            }
            Method::None | Method::Post | Method::Basic => Proof::Secret(given(secret, "client_secret")?),
        };
        Ok(Self::new(id.into(), proof, Said::Only(method)))
    }

    /// The same where nobody said how: what the server advertises counts, and what was said here where it says nothing.
    pub(crate) fn open_to(mut self, server: &Server) -> Self {
        if let Said::Only(method) | Said::First(method) = self.said {
            self.said = if server.auth_methods().is_none() { Said::First(method) } else { Said::Nothing };
        }
        self
    }

    /// The same with what the server took before, which is tried first.
    pub(crate) fn knowing(self, known: Option<Way>) -> Self {
        Self { known, ..self }
    }

    /// Its id, as it may be shown.
    pub(crate) fn shown(&self) -> String {
        quoted(&self.id, &self.secrets().collect::<Vec<_>>())
    }

    /// The way that the server took after it had refused another one.
    pub(crate) fn settled(&self) -> Option<Way> {
        self.settled.get().copied()
    }

    pub(super) fn settle(&self, way: Way) {
        // Whatever was first stays: it was taken too.
        let _ = self.settled.set(way);
    }

    /// Whether the server has said now, in so many words, that it does not know such a client.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten.get().is_some()
    }

    pub(super) fn forget(&self) {
        // Said once or twice.
        let _ = self.forgotten.set(());
    }

    /// How it may prove itself to a server that advertises these methods, in the order in which they are tried; at least
    /// one.
    pub(super) fn ways(&self, advertised: Option<&[String]>) -> Vec<Way> {
        let mut ways = match &self.proof {
            Proof::None => vec![Way::None],
            Proof::PrivateKey(_) => vec![Way::PrivateKeyJwt],
            Proof::Secret(_) => for_secret(self.said, advertised),
        };
        if let Some(at) = self.known.and_then(|known| ways.iter().position(|way| *way == known)) {
            ways[..=at].rotate_right(1);
        }
        ways
    }

    /// A client whose id is the address of [`client_metadata_document`], for a server that
    /// [takes](Server::takes_metadata_documents) them. The address must be https.
    pub(crate) fn from_metadata_document(url: &Url) -> Result<Self, ConnectorsError> {
        match url.scheme() == "https" && url.path() != "/" {
            true => Ok(Self::public(url.as_str())),
            false => Err(ConnectorsError::Conflict(
                "a client metadata document needs a public https address: give the daemon one".into(),
            )),
        }
    }

    /// What must not come back from the server.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.proof.secret().map(ExposeSecret::expose_secret).into_iter()
    }

    /// The form to seal and store.
    pub(crate) fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, ConnectorsError> {
        let stored = Stored {
            id: self.id.clone(),
            method: self.method().map(|method| method.as_str().to_owned()),
            secret: self.proof.secret().map(|secret| Zeroized(secret.expose_secret().to_owned())),
            secret_expires_at: self.secret_expires_at,
        };
        Ok(Zeroizing::new(serde_json::to_vec(&stored)?))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, ConnectorsError> {
        let Stored { id, method, secret, secret_expires_at } = serde_json::from_slice(bytes)?;
        let secret = secret.map(|secret| SecretString::from(secret.0.as_str()));
        let damaged = || ConnectorsError::Store("a stored OAuth client is damaged: store it again".into());
        let method = method.map(|name| Method::named(&name).ok_or_else(damaged)).transpose()?;
        let proof = match (method, secret) {
            (None | Some(Method::None), None) => Proof::None,
            (Some(Method::PrivateKeyJwt), Some(key)) => Proof::PrivateKey(key),
            (_, Some(secret)) => Proof::Secret(secret),
            (Some(_), None) => return Err(damaged()),
        };
        let said = method.map_or(Said::Nothing, Said::First);
        Ok(Self { secret_expires_at, ..Self::new(id, proof, said) })
    }

    /// The method that somebody said.
    fn method(&self) -> Option<Method> {
        match self.said {
            Said::Nothing => None,
            Said::First(method) | Said::Only(method) => Some(method),
        }
    }

    /// The parameters of a request that prove who the client is by a signature (RFC 7523 §2.2); none for other clients.
    pub(super) fn assertion(&self, server: &Server) -> Result<Vec<(&'static str, String)>, ConnectorsError> {
        let Proof::PrivateKey(key) = &self.proof else { return Ok(Vec::new()) };
        // A server that publishes its own metadata could name another one's token endpoint beside its own revocation
        // endpoint, to get an assertion for the other: what is signed for it names the issuer. Where the operator gave
        // the endpoints, what all servers understand is safe.
        let audience = match server.source() {
            Source::Provided => server.metadata.token_endpoint.as_str(),
            Source::Fetched | Source::Discovered | Source::Assumed => server.issuer(),
        };
        let now = Utc::now().timestamp();
        let claims = json!({
            "iss": self.id, "sub": self.id, "aud": audience, "jti": Uuid::new_v4(), "iat": now,
            "exp": now + ASSERTION_LIFE,
        });
        let (algorithm, key) = signer(key)?;
        let assertion =
            jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).map_err(|_| unusable_key())?;
        Ok(vec![
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".into()),
            ("client_assertion", assertion),
        ])
    }
}

impl Proof {
    fn secret(&self) -> Option<&SecretString> {
        match self {
            Self::None => None,
            Self::Secret(secret) | Self::PrivateKey(secret) => Some(secret),
        }
    }
}

/// What signs with a key, by the key's type: RS256 or ES256.
fn signer(key: &SecretString) -> Result<(Algorithm, EncodingKey), ConnectorsError> {
    let pem = key.expose_secret().as_bytes();
    let rsa = || EncodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key));
    let ec = || EncodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key));
    let (algorithm, key) = rsa().or_else(|_| ec()).map_err(|_| unusable_key())?;
    // A key on another curve shows only when it signs.
    jsonwebtoken::encode(&Header::new(algorithm), &json!({}), &key).map_err(|_| unusable_key())?;
    Ok((algorithm, key))
}

fn unusable_key() -> ConnectorsError {
    ConnectorsError::invalid(
        "/credentials/oauth/client_private_key",
        "it must be an RSA or P-256 private key in PEM: `openssl pkcs8 -topk8 -nocrypt` converts other forms",
    )
}

fn check_id(id: &str, pointer: &str) -> Result<(), ConnectorsError> {
    match id.is_empty() || id.chars().any(char::is_control) {
        true => Err(ConnectorsError::invalid(pointer, "a client's id is a text without line breaks")),
        false => Ok(()),
    }
}

/// What people read when they are asked for their consent.
pub(crate) const CLIENT_NAME: &str = "airlock";

/// The document about airlock as a client (draft-ietf-oauth-client-id-metadata-document), to be served at `document_url`.
pub(crate) fn client_metadata_document(document_url: &Url, redirect_uri: &Url) -> Value {
    json!({
        "client_id": document_url, "client_name": CLIENT_NAME, "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
        "token_endpoint_auth_method": "none", "application_type": "web",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::fixture::{LOOPBACK, merged};

    fn server(methods: Value) -> Server {
        let metadata =
            json!({ "issuer": "https://as.example", "token_endpoint": "https://as.example/token" });
        let methods = json!({ "token_endpoint_auth_methods_supported": methods });
        Server::provided(&merged(metadata, methods), LOOPBACK).expect("valid metadata")
    }

    fn data(secret: Option<&str>) -> AuthData {
        AuthData { client_id: "id".into(), client_secret: secret.map(str::to_owned) }
    }

    #[test]
    fn a_client_proves_itself_first_in_the_way_that_it_knows_to_be_taken() {
        let methods = json!(["client_secret_post", "client_secret_basic", "none"]);
        let ways = |methods: &Value, secret, known| {
            let client = Client::preregistered(data(secret)).expect("a client").knowing(known);
            client.ways(server(methods.clone()).auth_methods())
        };
        let (basic, named) = (Way::Basic, Way::BasicNamed);
        assert_eq!(ways(&methods, Some("s"), None), [Way::Post, basic, named, Way::None]);
        assert_eq!(ways(&methods, Some("s"), Some(named)), [named, Way::Post, basic, Way::None]);
        assert_eq!(ways(&json!(["client_secret_basic"]), Some("s"), Some(Way::Post)), [basic, named]);
        for (methods, secret) in [(json!(["none"]), Some("s")), (methods, None), (json!(null), Some(""))] {
            assert_eq!(ways(&methods, secret, Some(Way::Post)), [Way::None]);
        }
        let program = |method| Client::for_programs(method, "id", Some("s".into()), None).expect("a client");
        let both = server(json!(["client_secret_basic"]));
        assert_eq!(program("client_secret_post").ways(both.auth_methods()), [Way::Post]);
        assert_eq!(program("client_secret_post").open_to(&both).ways(both.auth_methods()), [basic, named]);
        let silent = server(json!(null));
        assert_eq!(program("client_secret_post").open_to(&silent).ways(None), [Way::Post, basic, named]);
    }

    #[test]
    fn a_client_is_stored_and_read_back_with_its_secret() {
        let secret = || Some(SecretString::from("the-client-secret"));
        for method in ["client_secret_post", "client_secret_basic"] {
            let client = Client::for_programs(method, "id", secret(), None).expect("a client");
            let read = Client::from_bytes(&client.to_bytes().expect("bytes")).expect("a client");
            assert_eq!(read.method().map(Method::as_str), Some(method));
            assert_eq!(read.secrets().collect::<Vec<_>>(), ["the-client-secret"]);
        }
        let public = Client::from_metadata_document(
            &Url::parse("https://airlock.example/c.json").expect("an address"),
        )
        .expect("a client");
        let read = Client::from_bytes(&public.to_bytes().expect("bytes")).expect("a client");
        assert_eq!(read.id, "https://airlock.example/c.json");
        assert_eq!(read.ways(None), [Way::None]);
        let held = Client::new("id".into(), Proof::Secret("s".into()), Said::First(Method::None));
        let read = Client::from_bytes(&held.to_bytes().expect("bytes")).expect("a client");
        assert_eq!(read.ways(Some(&["client_secret_post".into()])), [Way::None, Way::Post]);
    }

    #[test]
    fn the_document_about_airlock_stands_under_its_own_id() {
        let at = Url::parse("https://airlock.example/client.json").expect("an address");
        let redirect = Url::parse("https://airlock.example/cb").expect("an address");
        let document = client_metadata_document(&at, &redirect);
        let client = Client::from_metadata_document(&at).expect("a client");
        assert_eq!(document["client_id"], client.id);
        assert_eq!(document["redirect_uris"], json!(["https://airlock.example/cb"]));
        assert_eq!(document["token_endpoint_auth_method"], "none");
    }

    #[test]
    fn what_a_client_lacks_is_named() {
        let cases = [
            (
                Client::for_programs("client_secret_post", "id", None, None),
                "/credentials/oauth/client_secret",
            ),
            (
                Client::for_programs("private_key_jwt", "id", None, None),
                "/credentials/oauth/client_private_key",
            ),
            (
                Client::for_programs("private_key_jwt", "id", None, Some("not a key".into())),
                "/credentials/oauth/client_private_key",
            ),
            (Client::for_programs("tls_client_auth", "id", None, None), "/token_endpoint_auth_method"),
            (Client::for_programs("client_secret_post", "", None, None), "/credentials/oauth/client_id"),
        ];
        for (made, expected) in cases {
            let Err(ConnectorsError::Invalid { pointer, message }) = made else { panic!("{expected}") };
            assert_eq!(pointer, expected);
            assert!(!message.contains("not a key"), "{message}");
        }
        let local = Url::parse("http://127.0.0.1/c.json").expect("an address");
        assert!(Client::from_metadata_document(&local).is_err());
    }
}
