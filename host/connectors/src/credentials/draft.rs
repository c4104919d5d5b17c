//! What somebody wants stored, read from a request and checked.

use std::collections::BTreeMap;

use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::Granted;
use crate::{
    ConnectorsError,
    egress::{
        headers::check_header,
        secret::{ClientSecret, KeyPlace, KeySpec, Secret},
    },
    registry::{
        Connector,
        method::{Method, MethodKind},
        scope::Scope,
    },
};

/// What is to be stored. [`Draft::parse`] reads it from a request; an authorization makes one of its own.
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) is_default: Option<bool>,
    pub(crate) secret: Option<(MethodKind, Secret)>,
    pub(crate) grant: Option<Granted>,
}

/// `CredentialsCreateOrUpdate`
#[derive(Deserialize)]
struct Request {
    name: String,
    title: Option<String>,
    is_default: Option<bool>,
    credentials: Option<RequestSecret>,
}

/// `ConnectionCredentialsInput`, with `basic`, `api_key` and `api_keys` of our own.
#[derive(Deserialize)]
struct RequestSecret {
    bearer_token: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    oauth: Option<RequestClient>,
    basic: Option<RequestBasic>,
    api_key: Option<String>,
    api_keys: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RequestBasic {
    username: String,
    password: String,
}

/// `OAuth2ClientCredentialsInput`
#[derive(Deserialize)]
struct RequestClient {
    client_id: String,
    grant_type: Option<String>,
    client_secret: Option<String>,
    client_certificate: Option<String>,
    client_private_key: Option<String>,
}

impl Draft {
    /// Reads `CredentialsCreateOrUpdate`.
    pub(crate) fn parse(connector: &Connector, scope: Scope, body: Value) -> Result<Self, ConnectorsError> {
        let Request { name, title, is_default, credentials } =
            serde_path_to_error::deserialize(body).map_err(ConnectorsError::misshapen)?;
        let secret = credentials.map(|secret| secret.parse(connector, scope)).transpose()?;
        Ok(Self { name, title, is_default, secret, grant: None })
    }
}

impl RequestSecret {
    /// The secret in its types, with the method that it is for.
    fn parse(self, connector: &Connector, scope: Scope) -> Result<(MethodKind, Secret), ConnectorsError> {
        let invalid = |field: &str, message: &str| {
            Err(ConnectorsError::invalid(&format!("/credentials{field}"), message))
        };
        let bearer = self.bearer_token.map(SecretString::from);
        let headers = self.headers.unwrap_or_default();
        let given = [
            (MethodKind::Bearer, bearer.is_some() || !headers.is_empty()),
            (MethodKind::Basic, self.basic.is_some()),
            (MethodKind::ApiKey, self.api_key.is_some() || self.api_keys.is_some()),
            (MethodKind::Oauth2, self.oauth.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, given)| *given).map(|(kind, _)| kind);
        let kind = match (given.next(), given.next()) {
            (Some(kind), None) => kind,
            (None, _) => {
                return invalid("", "give a bearer_token, headers, basic, api_key or oauth");
            }
            (Some(_), Some(_)) => return invalid("", "give a secret for one method only"),
        };
        let Some(method) = connector.method(kind) else {
            let taken: Vec<_> = connector.methods.iter().map(|method| method.kind().as_str()).collect();
            return Err(ConnectorsError::Conflict(format!(
                "connector '{}' takes no credentials of method '{}': it takes {}{}",
                connector.name,
                kind.as_str(),
                taken.join(", "),
                connector.first_step(scope).map(|step| format!(" ({step})")).unwrap_or_default()
            )));
        };
        let mut secret = Secret::default();
        match method {
            Method::Bearer { headers: listed } => {
                if let Some(token) = &bearer {
                    check_value(token.expose_secret())
                        .map_err(|message| ConnectorsError::invalid("/credentials/bearer_token", message))?;
                }
                for (name, value) in &headers {
                    check_header(name, value)
                        .map_err(|message| ConnectorsError::invalid("/credentials/headers", message))?;
                }
                let missing = listed.iter().find(|spec| {
                    spec.is_required && !headers.keys().any(|name| name.eq_ignore_ascii_case(&spec.name))
                });
                if let Some(missing) = missing {
                    return invalid("/headers", &format!("the header '{}' is missing", missing.name));
                }
                secret.bearer = bearer;
                secret.headers = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
            }
            Method::Basic => {
                let Some(RequestBasic { username, password }) = self.basic else { return Ok((kind, secret)) };
                if username.contains(':') || username.chars().any(char::is_control) {
                    return invalid(
                        "/basic/username",
                        "a user name holds no colon and no control characters",
                    );
                }
                if password.chars().any(char::is_control) {
                    return invalid("/basic/password", "the password holds control characters");
                }
                secret.basic = Some((username, password.into()));
            }
            Method::ApiKey { .. } => {
                (secret.api_key, secret.api_keys) =
                    keys(&connector.keys(), self.api_key, self.api_keys.unwrap_or_default())?;
            }
            Method::Oauth2(oauth) => {
                let Some(client) = self.oauth else { return Ok((kind, secret)) };
                secret.client = Some(client.parse(oauth.client_auth.as_deref())?);
            }
            Method::None => {}
        }
        Ok((kind, secret))
    }
}

impl RequestClient {
    fn parse(self, auth: Option<&str>) -> Result<ClientSecret, ConnectorsError> {
        let invalid = |field: &str, message: &str| {
            Err(ConnectorsError::invalid(&format!("/credentials/oauth/{field}"), message))
        };
        if self.grant_type.is_some_and(|grant| grant != "client_credentials") {
            return invalid(
                "grant_type",
                "only client_credentials are stored; for authorization_code ask for an auth_url",
            );
        }
        if self.client_certificate.is_some() {
            return invalid("client_certificate", "certificates are not served: give a client_private_key");
        }
        match auth {
            Some("private_key_jwt") if self.client_private_key.is_none() => {
                return invalid("client_private_key", "the connector's method needs a private key in PEM");
            }
            Some("private_key_jwt") => {}
            _ if self.client_secret.is_none() => {
                return invalid("client_secret", "the connector's method needs a client secret");
            }
            _ => {}
        }
        Ok(ClientSecret {
            id: self.client_id,
            secret: self.client_secret.map(Into::into),
            private_key: self.client_private_key.map(Into::into),
        })
    }
}

/// The only key, or all of several by what the connector calls them.
type Keys = (Option<SecretString>, Vec<(String, SecretString)>);

fn keys(
    wanted: &[KeySpec],
    single: Option<String>,
    mut named: BTreeMap<String, String>,
) -> Result<Keys, ConnectorsError> {
    let invalid =
        |field: &str, message: String| ConnectorsError::invalid(&format!("/credentials{field}"), message);
    let check = |key: &KeySpec, value: &str, field: &str| {
        let good = check_value(value).map_err(str::to_owned).and_then(|()| match key.place {
            KeyPlace::Cookie if !value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') => {
                Err("a cookie's value is ASCII without spaces and semicolons".into())
            }
            _ => Ok(()),
        });
        good.map_err(|message| invalid(field, message))
    };
    let known = || wanted.iter().map(KeySpec::id).collect::<Vec<_>>().join(", ");
    match (single, wanted) {
        (Some(_), _) if !named.is_empty() => Err(invalid("", "give api_key or api_keys, not both".into())),
        (Some(key), [only]) => {
            check(only, &key, "/api_key")?;
            Ok((Some(key.into()), Vec::new()))
        }
        (Some(_), _) => {
            let message =
                format!("this connector takes several keys together: give api_keys with {}", known());
            Err(invalid("/api_key", message))
        }
        (None, _) => {
            let mut found = Vec::new();
            for key in wanted {
                let name = named.keys().find(|name| key.is_called(name)).cloned();
                let Some(value) = name.and_then(|name| named.remove(&name)) else {
                    return Err(invalid("/api_keys", format!("the key '{}' is missing", key.id())));
                };
                check(key, &value, "/api_keys")?;
                found.push((key.id().to_owned(), value.into()));
            }
            match named.is_empty() {
                true => Ok((None, found)),
                false => Err(invalid("/api_keys", format!("there is another key here than {}", known()))),
            }
        }
    }
}

/// A token or key that can stand in a header.
fn check_value(value: &str) -> Result<(), &'static str> {
    if value.trim().is_empty() {
        return Err("the token is blank");
    }
    match HeaderValue::from_str(value) {
        Ok(_) => Ok(()),
        Err(_) => Err("the token holds characters that cannot stand in a header, such as a line break"),
    }
}

pub(crate) fn check_credential_name(name: &str) -> Result<(), ConnectorsError> {
    let valid = (1..=128).contains(&name.len())
        && !name.contains('/')
        && !name.chars().any(char::is_control)
        && name.trim() == name;
    match valid {
        true => Ok(()),
        false => Err(ConnectorsError::invalid(
            "/name",
            "a credential's name has 1 to 128 characters, no '/', and no white space around it",
        )),
    }
}
