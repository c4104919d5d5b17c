//! The operator's deliberate ways round what is strictly right in OAuth: the issuer that metadata have to name, and what
//! tokens are asked for.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{
    Connector, Protocol,
    method::{Method, OAuth},
};
use crate::{
    ConnectorsError,
    oauth::{Server, is_resource},
};

/// What tokens are asked for (RFC 8707), by the operator's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Resource {
    /// The parameter is not sent: there are servers that refuse it.
    None,
    /// This is sent.
    Named(String),
}

impl Resource {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::None => "none",
            Self::Named(resource) => resource,
        }
    }
}

/// `oauth_issuer` and `oauth_resource` of a request: the operator's deliberate ways round what is strictly right. Absent
/// leaves as it is, an empty text goes back to what is found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Switches {
    issuer: Option<Option<String>>,
    resource: Option<Option<Resource>>,
}

impl Switches {
    /// Reads both where they stand in a request; `at` is their place.
    pub(crate) fn read(issuer: &Value, resource: &Value, at: &str) -> Result<Self, ConnectorsError> {
        let invalid = |field: &str, message: &str| {
            Err(ConnectorsError::invalid(&format!("{at}/{field}"), message.to_owned()))
        };
        let issuer = match issuer {
            Value::Null => None,
            Value::String(issuer) if issuer.is_empty() => Some(None),
            Value::String(issuer) if is_issuer(issuer) => Some(Some(issuer.clone())),
            _ => {
                let message = "give the issuer as its metadata name it: an address without query and '#'";
                return invalid("oauth_issuer", message);
            }
        };
        let resource = match resource {
            Value::Null => None,
            Value::String(resource) if resource.is_empty() => Some(None),
            Value::String(resource) if resource == "none" => Some(Some(Resource::None)),
            Value::String(resource) if is_resource(resource) => Some(Some(Resource::Named(resource.clone()))),
            _ => {
                let message = "give 'none', or an address with https:// and without '#' (RFC 8707)";
                return invalid("oauth_resource", message);
            }
        };
        Ok(Self { issuer, resource })
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Puts them into a method. What was found for another issuer is forgotten.
    pub(crate) fn apply(&self, oauth: &mut OAuth) {
        if let Some(issuer) = &self.issuer
            && oauth.issuer != *issuer
        {
            oauth.issuer.clone_from(issuer);
            if !oauth.server_given {
                (oauth.server, oauth.challenged) = (None, Vec::new());
            }
        }
        if let Some(resource) = &self.resource {
            oauth.resource.clone_from(resource);
        }
    }
}

fn is_issuer(issuer: &str) -> bool {
    Url::parse(issuer).is_ok_and(|url| {
        let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain && url.password().is_none()
    })
}

impl OAuth {
    /// Where one authorises, with the operator's word on what for.
    pub(crate) fn authorization_server(&self) -> Option<Server> {
        self.server.clone().map(|server| self.with_word(server))
    }

    /// A server that was found, with the operator's word on what for.
    pub(crate) fn with_word(&self, server: Server) -> Server {
        match &self.resource {
            None => server,
            Some(Resource::None) => server.for_resource(None),
            Some(Resource::Named(resource)) => server.for_resource(Some(resource)),
        }
    }

    /// The operator's ways round, for the log.
    pub(crate) fn switched(&self) -> Option<String> {
        let issuer = self.issuer.as_ref().map(|issuer| format!("oauth_issuer {issuer}"));
        let resource = self.resource.as_ref().map(|resource| format!("oauth_resource {}", resource.as_str()));
        let said: Vec<String> = issuer.into_iter().chain(resource).collect();
        (!said.is_empty()).then(|| said.join(", "))
    }
}

/// Puts the operator's ways round into a connector's OAuth. What was said about one server says nothing about another
/// (THREATS row 10).
pub(super) fn change(
    changed: &mut Connector,
    moved: bool,
    switches: &Switches,
) -> Result<(), ConnectorsError> {
    if switches.is_empty() && !moved {
        return Ok(());
    }
    let mut oauth = changed.methods.iter_mut().find_map(|method| match method {
        Method::Oauth2(oauth) => Some(oauth),
        _ => None,
    });
    if let Some(oauth) = &mut oauth
        && moved
    {
        (oauth.issuer, oauth.resource) = (None, None);
    }
    let is_of_document = changed.protocol == Protocol::Http && !changed.methods_given;
    match oauth {
        _ if switches.is_empty() => Ok(()),
        Some(oauth) => {
            switches.apply(oauth);
            // A document names endpoints and no issuer: those of another one are looked for.
            let is_other = |oauth: &OAuth, issuer: &str| {
                oauth.server.as_ref().is_some_and(|server| !server.is_of(issuer))
            };
            if is_of_document
                && let Some(issuer) = oauth.issuer.clone()
                && is_other(oauth, &issuer)
            {
                (oauth.server, oauth.server_given) = (None, false);
            }
            check_issuer(oauth)?;
            changed.methods_given |= !is_of_document;
            Ok(())
        }
        None => {
            let message = "the connector does not authenticate with OAuth, which oauth_issuer and oauth_resource are \
                           about: give auth_methods with oauth2 as well (--auth oauth2)";
            Err(ConnectorsError::invalid("/auth_methods", message))
        }
    }
}

/// Metadata that were given and an issuer that was named are about one server.
pub(super) fn check_issuer(oauth: &OAuth) -> Result<(), ConnectorsError> {
    match (&oauth.server, &oauth.issuer) {
        (Some(server), Some(issuer)) if oauth.server_given && !server.is_of(issuer) => {
            let message = "the metadata that were given with the connector name another issuer";
            Err(ConnectorsError::invalid("/oauth_issuer", message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<Method, ConnectorsError> {
        let server = |metadata: &Value, _: &str| Server::provided(metadata, Default::default());
        Method::parse(&value, "/auth_methods/0", &server)
    }

    fn with(issuer: Value, resource: Value) -> Value {
        let metadata = json!({
            "issuer": "https://as.example", "token_endpoint": "https://as.example/token",
            "x_resource_url": "https://mcp.example/mcp",
        });
        json!({
            "method_type": "oauth2", "oauth_issuer": issuer, "oauth_resource": resource,
            "oauth2_server_metadata": metadata,
        })
    }

    fn oauth(method: Method) -> OAuth {
        match method {
            Method::Oauth2(oauth) => *oauth,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_operators_ways_round_are_read_shown_and_told() {
        let named = oauth(parse(with(json!("https://slack.com"), json!("none"))).expect("a method"));
        assert_eq!(named.issuer.as_deref(), Some("https://slack.com"));
        assert_eq!(named.authorization_server().expect("a server").resource(), None);
        assert_eq!(named.switched().as_deref(), Some("oauth_issuer https://slack.com, oauth_resource none"));
        let wire = Method::Oauth2(Box::new(named)).wire();
        assert_eq!(
            (&wire["oauth_issuer"], &wire["oauth_resource"]),
            (&json!("https://slack.com"), &json!("none"))
        );
        assert!(wire["oauth2_server_metadata"].get("x_resource_url").is_none());
        let other = oauth(parse(with(json!(null), json!("https://api.example/v1"))).expect("a method"));
        assert_eq!(
            other.authorization_server().expect("a server").resource(),
            Some("https://api.example/v1")
        );
        let plain = oauth(parse(with(json!(null), json!(""))).expect("a method"));
        assert_eq!(
            plain.authorization_server().expect("a server").resource(),
            Some("https://mcp.example/mcp")
        );
        assert_eq!(plain.switched(), None);
        let stored = serde_json::to_value(&plain).expect("a record");
        assert!(stored.get("issuer").is_none() && stored.get("resource").is_none());
        assert_eq!(serde_json::from_value::<OAuth>(stored).expect("a method"), plain);
    }

    #[test]
    fn a_way_round_that_leads_nowhere_is_refused_by_its_name() {
        for (issuer, resource, field) in [
            (json!("slack.com"), json!(null), "oauth_issuer"),
            (json!("javascript:alert(1)"), json!(null), "oauth_issuer"),
            (json!("https://user:word@slack.com"), json!(null), "oauth_issuer"),
            (json!("https://slack.com/?a=b"), json!(null), "oauth_issuer"),
            (json!(7), json!(null), "oauth_issuer"),
            (json!(null), json!("None"), "oauth_resource"),
            (json!(null), json!("https://a.example/#x"), "oauth_resource"),
            (json!(null), json!(false), "oauth_resource"),
        ] {
            let Err(ConnectorsError::Invalid { pointer, .. }) = parse(with(issuer, resource)) else {
                panic!("{field}")
            };
            assert_eq!(pointer, format!("/auth_methods/0/{field}"));
        }
    }

    #[test]
    fn another_issuer_forgets_what_was_found_and_nothing_that_was_given() {
        let mut given = oauth(parse(with(json!(null), json!(null))).expect("a method"));
        let mut found = OAuth { server_given: false, challenged: vec!["a".into()], ..given.clone() };
        let switches = Switches::read(&json!("https://slack.com"), &json!(null), "").expect("switches");
        switches.apply(&mut given);
        switches.apply(&mut found);
        assert!(given.server.is_some() && found.server.is_none() && found.challenged.is_empty());
        assert!(
            !switches.is_empty() && Switches::read(&json!(null), &json!(null), "").expect("none").is_empty()
        );
    }
}
