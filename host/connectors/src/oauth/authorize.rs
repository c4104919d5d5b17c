//! Sending a person's browser to the authorization server, and what has to be remembered until it comes back.

use oauth2::{AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, RedirectUrl, Scope, basic::BasicClient};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Client, Server};
use crate::ConnectorsError;

/// Bytes of a state.
const STATE: u32 = 32;

/// An authorisation that was begun.
pub(crate) struct Begun {
    /// Where to send the browser. It holds the state, so it is for that browser alone.
    pub(crate) url: SecretString,
    pub(crate) pending: Pending,
}

/// What is needed to finish an authorisation.
pub(crate) struct Pending {
    pub(crate) facts: Facts,
    /// The PKCE verifier.
    pub(crate) verifier: SecretString,
}

/// What is known of a pending authorisation and is no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// [`state_hash`] of the state.
    pub(crate) state_hash: String,
    pub(crate) issuer: String,
    /// The server says that it names itself in every answer (RFC 9207).
    pub(crate) iss_required: bool,
    pub(crate) redirect_uri: Url,
    pub(crate) scopes: Vec<String>,
    /// With whom and for what the code is exchanged: an authorisation does not outlive a change of these.
    pub(crate) client_id: String,
    pub(crate) token_endpoint: Url,
    pub(crate) resource: Option<String>,
}

/// The stored form of a state: hexadecimal SHA-256.
pub(crate) fn state_hash(state: &str) -> String {
    hex::encode(Sha256::digest(state.as_bytes()))
}

/// Makes the address for the browser: an authorization code with PKCE (S256), a random state, and the resource.
pub(crate) fn begin(
    server: &Server,
    client: &Client,
    redirect_uri: &Url,
    scopes: &[String],
) -> Result<Begun, ConnectorsError> {
    let Some(endpoint) = &server.metadata.authorization_endpoint else {
        return Err(ConnectorsError::Conflict(format!(
            "{} has no authorization endpoint, so nobody can sign in there: use client credentials",
            server.host()
        )));
    };
    let oauth = BasicClient::new(ClientId::new(client.id.clone()))
        .set_auth_uri(AuthUrl::from_url(endpoint.clone()))
        .set_redirect_uri(RedirectUrl::from_url(redirect_uri.clone()));
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let mut request = oauth
        .authorize_url(|| CsrfToken::new_random_len(STATE))
        .set_pkce_challenge(challenge)
        .add_scopes(scopes.iter().cloned().map(Scope::new));
    if let Some(resource) = server.resource() {
        request = request.add_extra_param("resource", resource);
    }
    // OpenID Connect Core §11: without a consent, no offline access.
    let has_prompt = endpoint.query_pairs().any(|(name, _)| name == "prompt");
    if scopes.iter().any(|scope| scope == "offline_access") && !has_prompt {
        request = request.add_extra_param("prompt", "consent");
    }
    let (url, state) = request.url();
    let facts = Facts {
        state_hash: state_hash(state.secret()),
        issuer: server.issuer().to_owned(),
        iss_required: server.names_itself(),
        redirect_uri: redirect_uri.clone(),
        scopes: scopes.to_vec(),
        client_id: client.id.clone(),
        token_endpoint: server.metadata.token_endpoint.clone(),
        resource: server.resource().map(str::to_owned),
    };
    let pending = Pending { facts, verifier: SecretString::from(verifier.into_secret()) };
    Ok(Begun { url: SecretString::from(String::from(url)), pending })
}

impl Facts {
    /// Whether an answer is from the server that was asked (RFC 9207 §2.4, THREATS row 11). It has to be asked of answers
    /// that tell of an error as well.
    pub(crate) fn check_issuer(&self, iss: Option<&str>) -> Result<(), ConnectorsError> {
        let problem = match iss {
            Some(iss) if iss != self.issuer => "the answer comes from another authorization server",
            None if self.iss_required => "the answer does not say which authorization server it comes from",
            _ => return Ok(()),
        };
        Err(ConnectorsError::Unauthorized(format!(
            "{problem}, so its code was not used: start the authorisation again"
        )))
    }

    /// Whether the code would go to whom it was asked for (THREATS row 10).
    pub(super) fn check_unchanged(&self, server: &Server, client: &Client) -> Result<(), ConnectorsError> {
        let is_same = self.issuer == server.issuer()
            && self.token_endpoint == server.metadata.token_endpoint
            && self.resource.as_deref() == server.resource()
            && self.client_id == client.id;
        match is_same {
            true => Ok(()),
            false => Err(ConnectorsError::Unauthorized(
                "the connector was changed while somebody signed in: start the authorisation again".into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    use super::*;
    use crate::oauth::fixture::{LOOPBACK, merged};

    fn server(changes: Value) -> Server {
        let metadata = json!({
            "issuer": "https://as.example", "token_endpoint": "https://as.example/token",
            "authorization_endpoint": "https://as.example/authorize?tenant=7",
        });
        Server::provided(&merged(metadata, changes), LOOPBACK).expect("valid metadata")
    }

    fn query(server: &Server, scopes: &[&str]) -> (BTreeMap<String, String>, Pending) {
        let redirect = Url::parse("https://airlock.example/cb").expect("an address");
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let begun = begin(server, &Client::public("client"), &redirect, &scopes).expect("an address");
        let url = Url::parse(begun.url.expose_secret()).expect("an address");
        assert!(url.as_str().starts_with("https://as.example/authorize?tenant=7&"), "{url}");
        (url.query_pairs().into_owned().collect(), begun.pending)
    }

    #[test]
    fn row_11_the_browser_carries_pkce_a_state_and_the_resource() {
        let (mut sent, pending) =
            query(&server(json!({ "x_resource_url": "https://mcp.example/mcp" })), &["a", "b"]);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(pending.verifier.expose_secret()));
        assert_eq!(sent.remove("code_challenge"), Some(challenge));
        let state = sent.remove("state").expect("a state");
        assert!(URL_SAFE_NO_PAD.decode(&state).expect("base64").len() >= 16);
        assert_eq!(pending.facts.state_hash, state_hash(&state));
        let expected = [
            ("client_id", "client"),
            ("code_challenge_method", "S256"),
            ("redirect_uri", "https://airlock.example/cb"),
            ("resource", "https://mcp.example/mcp"),
            ("response_type", "code"),
            ("scope", "a b"),
            ("tenant", "7"),
        ];
        let sent: Vec<_> = sent.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(sent, expected);
        let facts = serde_json::to_string(&pending.facts).expect("facts");
        assert!(!facts.contains(&state) && !facts.contains(pending.verifier.expose_secret()));
    }

    #[test]
    fn what_is_not_known_is_not_sent() {
        let (sent, _) = query(&server(json!({})), &[]);
        assert!(["resource", "scope", "prompt"].iter().all(|name| !sent.contains_key(*name)), "{sent:?}");
        let (sent, _) = query(&server(json!({})), &["offline_access"]);
        assert_eq!(sent.get("prompt").map(String::as_str), Some("consent"));
    }

    #[test]
    fn row_11_an_answer_of_another_issuer_is_refused() {
        let supported = |supported: bool| {
            let changes = json!({ "authorization_response_iss_parameter_supported": supported });
            query(&server(changes), &[]).1.facts
        };
        for (required, iss, is_good) in [
            (true, Some("https://as.example"), true),
            (true, Some("https://evil.example"), false),
            (true, Some("https://as.example/"), false),
            (true, None, false),
            (false, None, true),
            (false, Some("https://as.example"), true),
            (false, Some("https://evil.example"), false),
        ] {
            let checked = supported(required).check_issuer(iss);
            assert_eq!(checked.is_ok(), is_good, "{required} {iss:?}");
        }
    }

    #[test]
    fn a_server_for_programs_only_begins_nothing() {
        let server = server(json!({ "authorization_endpoint": null }));
        let redirect = Url::parse("https://airlock.example/cb").expect("an address");
        assert!(begin(&server, &Client::public("client"), &redirect, &[]).is_err());
    }
}
