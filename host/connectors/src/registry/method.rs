//! How one authenticates at a connector (contract §11.1: `PublicAuthenticationMethod` and the `…AuthMethod` requests).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::switches::{Resource, Switches};
use crate::{
    ConnectorsError,
    egress::{
        headers::check_header,
        secret::{KeyPlace, KeySpec},
    },
    oauth::{Server, Way},
};

/// A method without its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MethodKind {
    /// Nothing is needed.
    None,
    /// A bearer token, or headers.
    Bearer,
    /// User and password.
    Basic,
    /// A key in a header or in the query.
    ApiKey,
    /// OAuth 2, either grant.
    Oauth2,
}

impl MethodKind {
    /// The word of the contract.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bearer => "bearer",
            Self::Basic => "basic",
            Self::ApiKey => "api_key",
            Self::Oauth2 => "oauth2",
        }
    }
}

/// A method that a connector takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    /// Nothing is needed.
    None,
    /// A bearer token, or headers; the ones that are listed.
    Bearer {
        /// What a credential may or must bring.
        headers: Vec<HeaderSpec>,
    },
    /// User and password.
    Basic,
    /// A key, or several that are needed together.
    ApiKey {
        /// The only one, or the first.
        #[serde(flatten)]
        first: KeySpec,
        /// The others.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        more: Vec<KeySpec>,
    },
    /// OAuth 2.
    Oauth2(Box<OAuth>),
}

impl KeySpec {
    fn parse(value: &Value, at: &str) -> Result<Self, ConnectorsError> {
        let text = |field: &str| value[field].as_str();
        let invalid =
            |field: &str, message: String| ConnectorsError::invalid(&format!("{at}{field}"), message);
        let name = text("name").filter(|name| !name.is_empty());
        let name =
            name.ok_or_else(|| invalid("/name", "give the name of the header or query parameter".into()))?;
        let place = match text("in").unwrap_or("header") {
            "header" => KeyPlace::Header,
            "query" => KeyPlace::Query,
            "cookie" => KeyPlace::Cookie,
            other => {
                return Err(invalid("/in", format!("'{other}' is not a place: use header, query or cookie")));
            }
        };
        let key = Self { scheme: text("scheme").map(str::to_owned), place, name: name.to_owned() };
        key.check().map_err(|message| invalid("/name", message))?;
        Ok(key)
    }

    fn wire(&self) -> Value {
        json!({ "scheme": self.scheme, "in": self.place, "name": self.name })
    }
}

/// `ConnectorAuthenticationHeader`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeaderSpec {
    pub(crate) name: String,
    #[serde(default = "yes")]
    pub(crate) is_required: bool,
    #[serde(default = "yes")]
    pub(crate) is_secret: bool,
}

fn yes() -> bool {
    true
}

/// OAuth 2 at a connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OAuth {
    pub(crate) grant: Grant,
    /// Where to authorise. Absent: to be discovered.
    pub(crate) server: Option<Server>,
    /// Somebody said where, so it is not discovered again.
    pub(crate) server_given: bool,
    /// The client that was registered beforehand; its secret is in the vault.
    pub(crate) client_id: Option<String>,
    /// What to ask for when the server does not say.
    pub(crate) scopes: Vec<String>,
    /// What the server named when it refused a request without a credential: that goes before everything else.
    #[serde(default)]
    pub(crate) challenged: Vec<String>,
    /// For client credentials: how the client proves itself.
    pub(crate) client_auth: Option<String>,
    /// The operator's word on which issuer metadata have to name, wherever they are published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// The operator's word on what tokens are asked for, instead of what is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resource: Option<Resource>,
    /// How a server took the client after it had refused another way: the next request begins with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proven: Option<Proven>,
    /// The id of a client that was registered in place of one that the server had forgotten, until the server has taken it:
    /// one that is forgotten before that is not replaced again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replacement: Option<String>,
}

/// How a server takes the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proven {
    /// The server that it is about, and no other.
    pub(crate) issuer: String,
    pub(crate) way: Way,
}

impl OAuth {
    /// How the server of this issuer takes the client, as far as it was not the way that is tried first.
    pub(crate) fn proven_at(&self, issuer: &str) -> Option<Way> {
        self.proven.as_ref().filter(|proven| proven.issuer == issuer).map(|proven| proven.way)
    }
}

/// How tokens are got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Grant {
    /// A person authorises in a browser.
    AuthorizationCode,
    /// The client has credentials of its own.
    ClientCredentials,
}

impl Grant {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

/// Keys of one credential.
const MAX_KEYS: usize = 10;

/// How a client of the client credentials grant may prove itself.
const CLIENT_AUTH: [&str; 3] = ["client_secret_post", "client_secret_basic", "private_key_jwt"];

impl Method {
    pub(crate) fn kind(&self) -> MethodKind {
        match self {
            Self::None => MethodKind::None,
            Self::Bearer { .. } => MethodKind::Bearer,
            Self::Basic => MethodKind::Basic,
            Self::ApiKey { .. } => MethodKind::ApiKey,
            Self::Oauth2(_) => MethodKind::Oauth2,
        }
    }

    /// Reads one of `auth_methods`. What goes into the vault is taken out of it by the caller.
    pub(crate) fn parse(value: &Value, at: &str, server: ServerOf<'_>) -> Result<Self, ConnectorsError> {
        let invalid =
            |field: &str, message: String| Err(ConnectorsError::invalid(&format!("{at}{field}"), message));
        let text = |field: &str| value[field].as_str();
        if !(value["method_type"].is_null() || value["method_type"].is_string()) {
            return invalid("/method_type", "it is a word: oauth2, bearer, basic, api_key or none".into());
        }
        let headers: Vec<HeaderSpec> = match &value["headers"] {
            Value::Null => Vec::new(),
            listed => serde_json::from_value(listed.clone())
                .map_err(|error| ConnectorsError::invalid(&format!("{at}/headers"), error.to_string()))?,
        };
        for header in &headers {
            check_header(&header.name, "x")
                .map_err(|message| ConnectorsError::invalid(&format!("{at}/headers"), message))?;
        }
        match text("method_type").unwrap_or("oauth2") {
            "none" => Ok(Self::None),
            "bearer" => Ok(Self::Bearer { headers }),
            "basic" => Ok(Self::Basic),
            "api_key" => {
                let Some(keys) = value["keys"].as_array() else {
                    return Ok(Self::ApiKey { first: KeySpec::parse(value, at)?, more: Vec::new() });
                };
                let mut parsed: Vec<KeySpec> = Vec::new();
                for (number, key) in keys.iter().enumerate() {
                    let key = KeySpec::parse(key, &format!("{at}/keys/{number}"))?;
                    if parsed.iter().any(|other| other.is_called(key.id()) || key.is_called(other.id())) {
                        return invalid(
                            &format!("/keys/{number}"),
                            "two keys have one name: give each a scheme".into(),
                        );
                    }
                    parsed.push(key);
                }
                if parsed.is_empty() || parsed.len() > MAX_KEYS {
                    return invalid("/keys", format!("1 to {MAX_KEYS} keys are expected here"));
                }
                Ok(Self::ApiKey { first: parsed.remove(0), more: parsed })
            }
            "oauth2" => {
                let grant = match text("grant_type").unwrap_or("authorization_code") {
                    "authorization_code" => Grant::AuthorizationCode,
                    "client_credentials" => Grant::ClientCredentials,
                    other => {
                        let message = format!(
                            "'{other}' is not a grant type: use authorization_code or client_credentials"
                        );
                        return invalid("/grant_type", message);
                    }
                };
                let given = match &value["oauth2_server_metadata"] {
                    Value::Null => None,
                    metadata => Some(server(metadata, &format!("{at}/oauth2_server_metadata"))?),
                };
                let client_auth = text("token_endpoint_auth_method").map(str::to_owned);
                if let Some(auth) = client_auth.as_deref().filter(|auth| !CLIENT_AUTH.contains(auth)) {
                    let message = format!("'{auth}' is not served: use one of {CLIENT_AUTH:?}");
                    return invalid("/token_endpoint_auth_method", message);
                }
                let data = &value["auth_data"];
                let scopes = match &data["client_scopes"] {
                    Value::Null => Vec::new(),
                    scopes => serde_json::from_value(scopes.clone()).map_err(|_| {
                        let message = "give a list of scopes";
                        ConnectorsError::invalid(&format!("{at}/auth_data/client_scopes"), message)
                    })?,
                };
                let mut oauth = OAuth {
                    grant,
                    server_given: given.is_some(),
                    server: given,
                    client_id: data["client_id"].as_str().map(str::to_owned),
                    scopes,
                    challenged: Vec::new(),
                    client_auth,
                    issuer: None,
                    resource: None,
                    proven: None,
                    replacement: None,
                };
                Switches::read(&value["oauth_issuer"], &value["oauth_resource"], at)?.apply(&mut oauth);
                Ok(Self::Oauth2(Box::new(oauth)))
            }
            other => {
                let message = format!(
                    "method '{other}' is not served: use none, bearer, basic, api_key or oauth2 (GitHub and Slack apps \
                     are oauth2)"
                );
                Err(ConnectorsError::Unsupported(message))
            }
        }
    }

    /// `PublicAuthenticationMethod`, without `global_headers` and `has_default_credentials`.
    pub(crate) fn wire(&self) -> Value {
        let mut value = json!({
            "method_type": self.kind().as_str(), "headers": null, "grant_type": null,
            "token_endpoint_auth_method": null, "oauth2_server_metadata": null,
        });
        match self {
            Self::Bearer { headers } if !headers.is_empty() => {
                value["headers"] = json!(headers);
            }
            Self::ApiKey { first, more } => {
                value["in"] = json!(first.place);
                value["name"] = first.name.as_str().into();
                if !more.is_empty() {
                    value["keys"] = std::iter::once(first).chain(more).map(KeySpec::wire).collect();
                }
            }
            Self::Oauth2(oauth) => {
                value["grant_type"] = oauth.grant.as_str().into();
                value["token_endpoint_auth_method"] = json!(oauth.client_auth);
                value["oauth2_server_metadata"] =
                    oauth.authorization_server().map_or(Value::Null, |server| server.wire());
                value["client_id"] = json!(oauth.client_id);
                if let Some(issuer) = &oauth.issuer {
                    value["oauth_issuer"] = issuer.as_str().into();
                }
                if let Some(resource) = &oauth.resource {
                    value["oauth_resource"] = resource.as_str().into();
                }
                let left_out = oauth.server.as_ref().map(Server::left_out).unwrap_or_default();
                if !left_out.is_empty() {
                    value["oauth2_left_out"] = json!(left_out);
                }
            }
            Self::None | Self::Basic | Self::Bearer { .. } => {}
        }
        value
    }
}

/// Before anybody has said or asked how one authenticates: a credential is used if there is one.
pub(crate) fn unknown() -> Vec<Method> {
    vec![Method::Bearer { headers: Vec::new() }, Method::None]
}

/// What authorization was found at a server that said nothing else.
pub(crate) fn found_out(server: Server, challenged: Vec<String>) -> Vec<Method> {
    let oauth = OAuth {
        grant: Grant::AuthorizationCode,
        server: Some(server),
        server_given: false,
        client_id: None,
        scopes: Vec::new(),
        challenged,
        client_auth: None,
        issuer: None,
        resource: None,
        proven: None,
        replacement: None,
    };
    vec![Method::Oauth2(Box::new(oauth)), Method::Bearer { headers: Vec::new() }]
}

/// Where one authorises for another address is not known any more, unless somebody said it (THREATS row 10).
pub(super) fn forget_discovered(methods: &mut [Method]) {
    for method in methods {
        if let Method::Oauth2(oauth) = method
            && !oauth.server_given
        {
            (oauth.server, oauth.challenged) = (None, Vec::new());
        }
    }
}

/// Checks server metadata at a place of the request.
pub(crate) type ServerOf<'a> = &'a dyn Fn(&Value, &str) -> Result<Server, ConnectorsError>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_time_when_a_credential_had_one_key_is_read_and_written_as_it_was() {
        let stored = json!({ "api_key": { "place": "header", "name": "X-Key" } });
        let read: Method = serde_json::from_value(stored.clone()).expect("is read");
        let key = KeySpec { scheme: None, place: KeyPlace::Header, name: "X-Key".into() };
        assert_eq!(read, Method::ApiKey { first: key.clone(), more: Vec::new() });
        // A daemon of that time could read it still.
        assert_eq!(serde_json::to_value(&read).expect("is written"), stored);
        let two = Method::ApiKey { first: key.clone(), more: vec![KeySpec { name: "X-Id".into(), ..key }] };
        let written = serde_json::to_value(&two).expect("is written");
        assert_eq!(serde_json::from_value::<Method>(written).expect("is read"), two);
    }

    #[test]
    fn a_record_of_oauth_without_later_members_is_read() {
        let stored = json!({ "oauth2": { "grant": "authorization_code", "server": null, "server_given": false,
            "client_id": "c", "scopes": ["a"], "client_auth": null } });
        let Method::Oauth2(read) = serde_json::from_value(stored).expect("is read") else {
            panic!("another method")
        };
        assert_eq!((read.client_id.as_deref(), read.issuer, read.challenged.len()), (Some("c"), None, 0));
    }
}
