//! What a server says when it refuses a token or wants another one (RFC 6750 §3, RFC 9728 §5.1), and which scopes to ask for.

use http::{HeaderMap, header};
use rmcp::transport::WWWAuthenticateParams;
use url::Url;

use super::Server;

/// A `WWW-Authenticate` header for bearer tokens.
pub(crate) struct Challenge {
    /// The scopes that the request would have needed.
    pub(crate) scopes: Vec<String>,
    pub(crate) error: Option<Refusal>,
    /// Where the protected resource metadata are.
    pub(crate) resource_metadata: Option<Url>,
    /// The header, for [`Server::discovered`].
    pub(crate) raw: String,
}

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is good, but not for this.
    InsufficientScope,
    /// It is expired, revoked or not of this server.
    InvalidToken,
    /// Something else, which no other token would change.
    Other,
}

/// The challenge in the headers of a 401 or 403. Of several, the one that says where metadata are.
pub(crate) fn challenge(server_url: &Url, headers: &HeaderMap) -> Option<Challenge> {
    let texts = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let challenges = texts.filter(|text| names_bearer(text)).map(|text| {
        let params = WWWAuthenticateParams::parse(text, server_url);
        Challenge {
            scopes: params
                .scope
                .iter()
                .flat_map(|scope| scope.split_whitespace())
                .map(str::to_owned)
                .collect(),
            error: params.error.as_deref().map(|error| match error {
                "insufficient_scope" => Refusal::InsufficientScope,
                "invalid_token" => Refusal::InvalidToken,
                _ => Refusal::Other,
            }),
            resource_metadata: params.resource_metadata_url,
            raw: text.to_owned(),
        }
    });
    challenges.max_by_key(|challenge| (challenge.resource_metadata.is_some(), !challenge.scopes.is_empty()))
}

/// A header may hold challenges of several schemes.
fn names_bearer(text: &str) -> bool {
    text.split([' ', ',']).any(|word| word.eq_ignore_ascii_case("bearer"))
}

/// The scopes to ask for: those of the challenge, else those that the protected resource publishes, else the configured
/// ones; together with those that were granted before, so that a step-up loses nothing; and `offline_access` where the
/// server has it, because without it some give no refresh token. None at all means that the server decides.
pub(crate) fn wanted_scopes(
    server: &Server,
    challenged: &[String],
    configured: &[String],
    granted: &[String],
) -> Vec<String> {
    let challenged = challenged.iter().map(String::as_str).collect::<Vec<_>>();
    let published = || server.resource_scopes().collect::<Vec<_>>();
    let configured = || configured.iter().map(String::as_str).collect();
    let base =
        [challenged, published()].into_iter().find(|scopes| !scopes.is_empty()).unwrap_or_else(configured);
    let mut wanted: Vec<String> = Vec::new();
    for scope in granted.iter().map(String::as_str).chain(base) {
        if !wanted.iter().any(|other| other == scope) {
            wanted.push(scope.to_owned());
        }
    }
    let offline = "offline_access";
    let has_offline = server.metadata.scopes_supported.iter().flatten().any(|scope| scope == offline);
    if has_offline && !wanted.is_empty() && !wanted.iter().any(|scope| scope == offline) {
        wanted.push(offline.to_owned());
    }
    wanted
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;
    use crate::oauth::fixture::LOOPBACK;

    fn read(texts: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_str(text).expect("a header"));
        }
        challenge(&Url::parse("https://tools.example/mcp").expect("an address"), &headers)
    }

    #[test]
    fn a_challenge_says_what_is_missing_and_where_to_learn_more() {
        let challenge = read(&[
            "Basic realm=\"x\"",
            "Bearer error=\"insufficient_scope\", scope=\"a  b\", error_description=\"more\"",
            "Bearer error=\"insufficient_scope\", scope=\"a  b\", resource_metadata=\"/.well-known/x\"",
        ])
        .expect("a challenge");
        assert_eq!(challenge.scopes, ["a", "b"]);
        assert_eq!(challenge.error, Some(Refusal::InsufficientScope));
        let metadata = challenge.resource_metadata.expect("an address");
        assert_eq!(metadata.as_str(), "https://tools.example/.well-known/x");
        assert!(challenge.raw.contains("resource_metadata"));
        let expired = read(&["bearer error=invalid_token"]).expect("a challenge");
        assert_eq!((expired.error, expired.scopes.len()), (Some(Refusal::InvalidToken), 0));
        assert!(read(&["Basic realm=\"x\""]).is_none());
        assert!(read(&[]).is_none());
    }

    #[test]
    fn scopes_are_those_of_the_challenge_then_of_the_resource_then_the_configured_ones() {
        let server = |changes| {
            let metadata =
                json!({ "issuer": "https://as.example", "token_endpoint": "https://as.example/token" });
            Server::provided(&crate::oauth::fixture::merged(metadata, changes), LOOPBACK)
                .expect("valid metadata")
        };
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let challenged = read(&["Bearer scope=\"c\""]).expect("a challenge").scopes;
        let published = server(json!({ "x_scope": "p q", "scopes_supported": ["p", "q", "offline_access"] }));
        let silent = server(json!({ "scopes_supported": ["all", "of", "them"] }));
        let configured = list(&["mine"]);
        assert_eq!(wanted_scopes(&published, &challenged, &configured, &[]), ["c", "offline_access"]);
        assert_eq!(wanted_scopes(&published, &[], &configured, &[]), ["p", "q", "offline_access"]);
        assert_eq!(wanted_scopes(&silent, &[], &configured, &[]), ["mine"]);
        assert!(wanted_scopes(&silent, &[], &[], &[]).is_empty());
        let granted = list(&["old", "c"]);
        assert_eq!(wanted_scopes(&silent, &challenged, &configured, &granted), ["old", "c"]);
    }
}
