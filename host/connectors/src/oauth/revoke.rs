//! Taking a token back at the server that gave it (RFC 7009, THREATS row 26).
//!
//! The `oauth2` crate has this as well, but refuses servers on this machine, which tests and development need.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, header};
use secrecy::{ExposeSecret, SecretString};
use url::{
    Url,
    form_urlencoded::{Serializer, byte_serialize},
};

use super::{
    Client, Server,
    client::Proof,
    exchange::{self, Exchange, host},
    quote::ErrorAnswer,
};
use crate::ConnectorsError;

/// Which token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    Access,
    /// With it, most servers end the whole grant.
    Refresh,
}

/// Revokes a token. `false` says that the server has no endpoint for it, so the token lives until it expires.
pub(crate) async fn revoke(
    server: &Server,
    client: &Client,
    token: &SecretString,
    hint: Hint,
    exchange: &dyn Exchange,
) -> Result<bool, ConnectorsError> {
    let Some(endpoint) = &server.metadata.revocation_endpoint else { return Ok(false) };
    let host = host(endpoint);
    let request = request(endpoint, server, client, token, hint)?;
    let answer = exchange::send(exchange, request).await?;
    if answer.status().is_success() {
        return Ok(true);
    }
    let secrets: Vec<&str> = client.secrets().chain([token.expose_secret()]).collect();
    let status = answer.status().as_u16();
    let why = ErrorAnswer::read(answer.body())
        .map_or_else(|| format!("status {status}"), |error| error.quoted(&secrets));
    Err(ConnectorsError::Upstream(format!(
        "{host} did not revoke a token: {why}. It may be good until it expires: revoke it there"
    )))
}

/// Everything that is sent.
fn request(
    endpoint: &Url,
    server: &Server,
    client: &Client,
    token: &SecretString,
    hint: Hint,
) -> Result<Request<Vec<u8>>, ConnectorsError> {
    let mut form = Serializer::new(String::new());
    form.append_pair("token", token.expose_secret());
    form.append_pair(
        "token_type_hint",
        match hint {
            Hint::Access => "access_token",
            Hint::Refresh => "refresh_token",
        },
    );
    let mut request = Request::post(endpoint.as_str())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json");
    match &client.proof {
        Proof::SecretBasic(secret) => {
            // RFC 6749 §2.3.1: both are encoded before they are joined.
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encoded(&client.id), encoded(secret.expose_secret()));
            request = request.header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)));
        }
        Proof::SecretPost(secret) => {
            form.append_pair("client_id", &client.id).append_pair("client_secret", secret.expose_secret());
        }
        Proof::None | Proof::PrivateKeyJwt(_) => {
            form.append_pair("client_id", &client.id).extend_pairs(client.assertion(server)?);
        }
    }
    request.body(form.finish().into_bytes()).map_err(|_| {
        let host = host(endpoint);
        ConnectorsError::Upstream(format!("the revocation endpoint of {host} cannot be called"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth::fixture::{Fixture, wire};

    fn client(method: &str) -> Client {
        Client::for_programs(method, "the client", Some("secret/of client".into()), None).expect("a client")
    }

    #[tokio::test]
    async fn row_26_a_token_is_revoked_at_its_server() {
        let fixture = Fixture::start().await;
        fixture.on("POST /revoke", 200, "");
        let (server, wire, token) = (fixture.server(json!({})), wire(), SecretString::from("the-token"));
        let revoked = revoke(&server, &client("client_secret_post"), &token, Hint::Refresh, &*wire).await;
        assert!(revoked.expect("an answer"));
        let form = fixture.last("POST /revoke").form();
        let form: Vec<_> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            form,
            [
                ("client_id", "the client"),
                ("client_secret", "secret/of client"),
                ("token", "the-token"),
                ("token_type_hint", "refresh_token"),
            ]
        );
        let revoked = revoke(&server, &client("client_secret_basic"), &token, Hint::Access, &*wire).await;
        assert!(revoked.expect("an answer"));
        let seen = fixture.last("POST /revoke");
        let expected = format!("Basic {}", STANDARD.encode("the+client:secret%2Fof+client"));
        assert_eq!(seen.authorization, Some(expected));
        assert!(!seen.form().contains_key("client_id") && !seen.form().contains_key("client_secret"));
        let silent = fixture.server(json!({ "revocation_endpoint": null }));
        let revoked = revoke(&silent, &Client::public("c"), &token, Hint::Access, &*wire).await;
        assert!(!revoked.expect("an answer"));
    }

    #[tokio::test]
    async fn row_02_a_failed_revocation_is_told_without_secrets() {
        let fixture = Fixture::start().await;
        let refusal =
            json!({ "error": "invalid_client", "error_description": "the-token of secret/of client" });
        fixture.on("POST /revoke", 401, refusal.to_string());
        let (server, token) = (fixture.server(json!({})), SecretString::from("the-token"));
        let revoked = revoke(&server, &client("client_secret_post"), &token, Hint::Refresh, &*wire()).await;
        assert_eq!(
            revoked.expect_err("a refusal").to_string(),
            "127.0.0.1 did not revoke a token: invalid_client ([REDACTED] of [REDACTED]). It may be good until it expires: \
             revoke it there"
        );
    }
}
