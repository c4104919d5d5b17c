//! What a server says when it refuses a token or wants another one (RFC 6750 §3, RFC 9728 §5.1), and which scopes to ask for.

use http::HeaderMap;
use url::Url;

use super::{
    Server,
    document::words,
    www_authenticate::{Offer, offers},
};

/// Places of metadata that are looked at.
const MOST_PLACES: usize = 4;

/// What the challenges of a 401 or 403 say of tokens, all of them together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scopes that the request would have needed.
    pub(crate) scopes: Vec<String>,
    pub(crate) error: Option<Refusal>,
    /// Where the protected resource metadata are said to be, the likeliest first.
    pub(crate) resource_metadata: Vec<Url>,
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

/// The challenge in the headers of a 401 or 403: `None` where none of them is about tokens. That a scope is missing counts
/// whichever of them says it.
pub(crate) fn challenge(server_url: &Url, headers: &HeaderMap) -> Option<Challenge> {
    let offers = offers(headers);
    let bearers = || offers.iter().filter(|offer| offer.is("bearer"));
    // RFC 9728 §5.1 has the place of metadata beside other schemes as well.
    let others = || offers.iter().filter(|offer| !offer.is("bearer"));
    let places: Vec<Url> = bearers()
        .chain(others())
        .flat_map(|offer| offer.all("resource_metadata"))
        .filter_map(|place| server_url.join(place.trim()).ok().filter(|_| !place.trim().is_empty()))
        .fold(Vec::new(), |mut places, place| {
            if !places.contains(&place) {
                places.push(place);
            }
            places
        });
    if bearers().next().is_none() && places.is_empty() {
        return None;
    }
    let missing = bearers().find(|offer| refusal(offer) == Some(Refusal::InsufficientScope));
    let says_why = || bearers().find(|offer| offer.get("error").is_some());
    let scopes = |offer: &Offer| offer.get("scope").map(|scopes| words(scopes).map(str::to_owned).collect());
    let with_scopes = || bearers().find(|offer| offer.get("scope").is_some());
    Some(Challenge {
        scopes: missing.and_then(scopes).or_else(|| with_scopes().and_then(scopes)).unwrap_or_default(),
        error: missing.or_else(says_why).and_then(refusal),
        resource_metadata: places.into_iter().take(MOST_PLACES).collect(),
    })
}

fn refusal(offer: &Offer) -> Option<Refusal> {
    let error = offer.get("error")?.trim().to_ascii_lowercase();
    Some(match error.as_str() {
        "insufficient_scope" => Refusal::InsufficientScope,
        "invalid_token" => Refusal::InvalidToken,
        _ => Refusal::Other,
    })
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
    use http::{HeaderValue, header};
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
        let places: Vec<&str> = challenge.resource_metadata.iter().map(Url::as_str).collect();
        assert_eq!(places, ["https://tools.example/.well-known/x"]);
        let expired = read(&["bearer error=invalid_token"]).expect("a challenge");
        assert_eq!((expired.error, expired.scopes.len()), (Some(Refusal::InvalidToken), 0));
        assert!(read(&["Basic realm=\"x\""]).is_none());
        assert!(read(&[]).is_none());
    }

    #[test]
    fn a_missing_scope_counts_in_whichever_challenge_it_is_named() {
        let missing = "Bearer error = \"insufficient_scope\", scope = \"write\"";
        for fields in [
            &["Basic realm=\"x\"", missing][..],
            &[missing, "Basic realm=\"x\""],
            &["Basic realm=\"x\", BEARER scope=write error=insufficient_scope"],
            &["Bearer error=\"invalid_token\", scope=\"read\"", missing],
            &["Bearer realm=\"r\"", "Bearer scope=\"read\"", missing],
            &["DPoP algs=\"ES256\", error=\"insufficient_scope\", scope=\"dpop\"", missing],
            &["Negotiate, Bearer error=insufficient_scope, scope=\"write\", error=invalid_token"],
        ] {
            let challenge = read(fields).expect("a challenge");
            assert_eq!(challenge.error, Some(Refusal::InsufficientScope), "{fields:?}");
            assert_eq!(challenge.scopes, ["write"], "{fields:?}");
        }
    }

    #[test]
    fn all_places_of_metadata_are_remembered_those_of_bearer_challenges_first() {
        let challenge = read(&[
            "DPoP resource_metadata=\"/dpop\"",
            "Bearer resource_metadata=\"/first\", resource_metadata=\"/second\", resource_metadata=\"/first\"",
            "Bearer resource_metadata = https://elsewhere.example/third , resource_metadata=\"\"",
        ]);
        let places = challenge.expect("a challenge").resource_metadata;
        let places: Vec<&str> = places.iter().map(Url::as_str).collect();
        let expected = ["/first", "/second"].map(|path| format!("https://tools.example{path}"));
        assert_eq!(places[..2], expected);
        assert_eq!(places[2..], ["https://elsewhere.example/third", "https://tools.example/dpop"]);
        assert!(read(&["Basic realm=\"Bearer\"", "Negotiate"]).is_none());
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
