//! Taking a token back at the server that gave it (RFC 7009, THREATS row 26).

use secrecy::{ExposeSecret, SecretString};

use super::{
    Client, Server, asking,
    error_answer::ErrorAnswer,
    exchange::{Exchange, busy, host, is_busy},
    plain,
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
    let hint = match hint {
        Hint::Access => "access_token",
        Hint::Refresh => "refresh_token",
    };
    let fields = [("token", token.expose_secret()), ("token_type_hint", hint)];
    let advertised = server.revocation_auth_methods();
    let asked = asking::ask(endpoint, server, client, advertised, &fields, exchange).await?;
    let answer = &asked.answer;
    if is_busy(answer.status()) {
        return Err(ConnectorsError::Upstream(busy(&host, answer.status())));
    }
    if answer.status().is_success() {
        return Ok(true);
    }
    let assertion = asked.assertion.as_deref().map(String::as_str);
    let secrets: Vec<&str> = client.secrets().chain([token.expose_secret()]).chain(assertion).collect();
    let status = answer.status().as_u16();
    let words = || plain::said(answer.body(), &secrets).map(|words| format!("status {status} and '{words}'"));
    let why = ErrorAnswer::read(answer.body())
        .map(|error| error.quoted(&secrets))
        .or_else(words)
        .unwrap_or_else(|| format!("status {status}"));
    Err(ConnectorsError::Upstream(format!(
        "{host} did not revoke a token: {why}{}. It may be good until it expires: revoke it there",
        asked.about_client()
    )))
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
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
        let client = client("client_secret_post");
        let revoked = revoke(&server, &client, &token, Hint::Refresh, &*wire()).await;
        assert_eq!(
            revoked.expect_err("a refusal").to_string(),
            "127.0.0.1 did not revoke a token: invalid_client ([REDACTED] of [REDACTED]). Tried: client_secret_post. Check the \
             client's id and secret, and which of these methods it may use there. It may be good until it expires: revoke it \
             there"
        );
        fixture.on("POST /revoke", 400, "<html><h1>No</h1> the-token is not ours");
        let revoked = revoke(&server, &client, &token, Hint::Refresh, &*wire()).await;
        let told = revoked.expect_err("a refusal").to_string();
        assert!(
            told.contains("did not revoke a token: status 400 and 'No [REDACTED] is not ours'"),
            "{told}"
        );
    }
}
