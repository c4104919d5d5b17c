//! Secrets in the open, and what they look like in a request.
//!
//! A [`Secret`] cannot be printed, compared, copied or serialised, and is overwritten when it is dropped. It exists between
//! the vault and the egress: [`Secret::render`] turns it into the headers and query values of a request together with the
//! [`Scrubber`] that takes them out of answers.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{headers::check_header, parts, scrub::Scrubber};
use crate::ConnectorsError;

/// What authenticates. A credential of one method fills what belongs to the method.
#[derive(Default)]
pub(crate) struct Secret {
    /// A token for `Authorization: Bearer`.
    pub(crate) bearer: Option<SecretString>,
    /// Headers by name.
    pub(crate) headers: Vec<(String, SecretString)>,
    /// User and password.
    pub(crate) basic: Option<(String, SecretString)>,
    /// A key for the connector's header, query parameter or cookie.
    pub(crate) api_key: Option<SecretString>,
    /// Several keys that go together, by what the connector calls them.
    pub(crate) api_keys: Vec<(String, SecretString)>,
    /// What a client of the client credentials grant has.
    pub(crate) client: Option<ClientSecret>,
    /// What an authorization server gave.
    pub(crate) tokens: Option<Tokens>,
}

/// A client of the client credentials grant: its id, and a secret or a private key (PEM).
pub(crate) struct ClientSecret {
    pub(crate) id: String,
    pub(crate) secret: Option<SecretString>,
    pub(crate) private_key: Option<SecretString>,
}

/// Tokens of an OAuth credential.
pub(crate) struct Tokens {
    pub(crate) access: SecretString,
    pub(crate) refresh: Option<SecretString>,
}

/// The stored form; exists only inside this module.
#[derive(Default, Serialize, Deserialize)]
struct Stored {
    bearer: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    username: Option<String>,
    password: Option<String>,
    api_key: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    api_keys: BTreeMap<String, String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    client_key: Option<String>,
    access: Option<String>,
    refresh: Option<String>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.headers.values_mut().chain(self.api_keys.values_mut()).for_each(Zeroize::zeroize);
        for secret in [
            &mut self.bearer,
            &mut self.password,
            &mut self.api_key,
            &mut self.client_secret,
            &mut self.client_key,
            &mut self.access,
            &mut self.refresh,
        ] {
            secret.zeroize();
        }
    }
}

fn open(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}

impl Secret {
    pub(crate) fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, ConnectorsError> {
        let mut stored = Stored::default();
        stored.bearer = self.bearer.as_ref().map(open);
        stored.headers = self.headers.iter().map(|(name, value)| (name.clone(), open(value))).collect();
        stored.api_key = self.api_key.as_ref().map(open);
        stored.api_keys = self.api_keys.iter().map(|(name, value)| (name.clone(), open(value))).collect();
        if let Some((username, password)) = &self.basic {
            stored.username = Some(username.clone());
            stored.password = Some(open(password));
        }
        if let Some(client) = &self.client {
            stored.client_id = Some(client.id.clone());
            stored.client_secret = client.secret.as_ref().map(open);
            stored.client_key = client.private_key.as_ref().map(open);
        }
        if let Some(tokens) = &self.tokens {
            stored.access = Some(open(&tokens.access));
            stored.refresh = tokens.refresh.as_ref().map(open);
        }
        Ok(Zeroizing::new(serde_json::to_vec(&stored)?))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, ConnectorsError> {
        let mut stored: Stored = serde_json::from_slice(bytes)?;
        let secret = |text: &mut Option<String>| text.take().map(SecretString::from);
        let headers = std::mem::take(&mut stored.headers);
        let api_keys = std::mem::take(&mut stored.api_keys);
        Ok(Self {
            bearer: secret(&mut stored.bearer),
            headers: headers.into_iter().map(|(name, value)| (name, value.into())).collect(),
            basic: stored.username.take().zip(secret(&mut stored.password)),
            api_key: secret(&mut stored.api_key),
            api_keys: api_keys.into_iter().map(|(name, value)| (name, value.into())).collect(),
            client: stored.client_id.take().map(|id| ClientSecret {
                id,
                secret: secret(&mut stored.client_secret),
                private_key: secret(&mut stored.client_key),
            }),
            tokens: secret(&mut stored.access)
                .map(|access| Tokens { access, refresh: secret(&mut stored.refresh) }),
        })
    }

    /// Every value that must not come back.
    pub(crate) fn values(&self) -> impl Iterator<Item = &SecretString> {
        let client = self.client.iter().flat_map(|client| client.secret.iter().chain(&client.private_key));
        let tokens =
            self.tokens.iter().flat_map(|tokens| std::iter::once(&tokens.access).chain(&tokens.refresh));
        let headers = self.headers.iter().map(|(_, value)| value);
        let basic = self.basic.iter().map(|(_, password)| password);
        let keys = self.api_key.iter().chain(self.api_keys.iter().map(|(_, value)| value));
        self.bearer.iter().chain(headers).chain(basic).chain(keys).chain(client).chain(tokens)
    }
}

/// Where an API key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyPlace {
    /// Into a header.
    Header,
    /// Into the query.
    Query,
    /// Into a cookie, which the host sets.
    Cookie,
}

/// A key that a request carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeySpec {
    /// What the API's document calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scheme: Option<String>,
    /// Where it goes.
    pub(crate) place: KeyPlace,
    /// The header's, the query parameter's or the cookie's name.
    pub(crate) name: String,
}

impl KeySpec {
    /// Whether it can be sent: it says why not.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.place {
            KeyPlace::Header => check_header(&self.name, "x"),
            KeyPlace::Cookie if http::HeaderName::from_bytes(self.name.as_bytes()).is_err() => {
                Err(format!("'{}' is not the name of a cookie", self.name))
            }
            _ if self.name.is_empty() => Err("give the name of the header or query parameter".into()),
            _ => Ok(()),
        }
    }

    /// What it is called in a credential.
    pub(crate) fn id(&self) -> &str {
        self.scheme.as_deref().unwrap_or(&self.name)
    }

    /// Whether a credential means it by this name.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.id() == name
            || match self.place {
                KeyPlace::Header => self.name.eq_ignore_ascii_case(name),
                KeyPlace::Query | KeyPlace::Cookie => self.name == name,
            }
    }
}

/// A header that goes with every request of a connector.
pub(crate) struct CommonHeader {
    pub(crate) name: String,
    pub(crate) value: SecretString,
    pub(crate) is_secret: bool,
}

/// What a credential adds to a request. The order of seed 003: the headers that an administrator gave the connector come
/// before the credential's.
pub(crate) struct Rendered {
    pub(crate) headers: HeaderMap,
    pub(crate) query: Vec<(String, SecretString)>,
    pub(crate) scrubber: Scrubber,
}

impl Secret {
    /// Puts the secret where it belongs. `keys` says where the connector takes API keys.
    pub(crate) fn render(
        &self,
        keys: &[KeySpec],
        common: &[CommonHeader],
    ) -> Result<Rendered, ConnectorsError> {
        let mut rendered =
            Rendered { headers: HeaderMap::new(), query: Vec::new(), scrubber: Scrubber::default() };
        self.values().for_each(|value| parts::add(&mut rendered.scrubber, value.expose_secret()));
        let bearer = self.bearer.as_ref().or(self.tokens.as_ref().map(|tokens| &tokens.access));
        if let Some(token) = bearer {
            let text = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
            rendered.set(AUTHORIZATION.as_str(), &text, true)?;
        }
        if let Some((username, password)) = &self.basic {
            let pair = Zeroizing::new(format!("{username}:{}", password.expose_secret()));
            let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
            parts::add_pair(&mut rendered.scrubber, username, password.expose_secret());
            rendered.set(AUTHORIZATION.as_str(), &text, true)?;
        }
        self.render_keys(keys, &mut rendered)?;
        for (name, value) in &self.headers {
            rendered.set(name, value.expose_secret(), true)?;
        }
        for header in common {
            rendered.set(&header.name, header.value.expose_secret(), header.is_secret)?;
        }
        Ok(rendered)
    }

    /// Keys that are needed together go together or not at all.
    fn render_keys(&self, keys: &[KeySpec], rendered: &mut Rendered) -> Result<(), ConnectorsError> {
        if self.api_key.is_none() && self.api_keys.is_empty() {
            return Ok(());
        }
        let mut cookies = Zeroizing::new(String::new());
        for key in keys {
            let named = self.api_keys.iter().find(|(name, _)| key.is_called(name)).map(|(_, value)| value);
            let value = named.or(self.api_key.as_ref().filter(|_| keys.len() == 1)).ok_or_else(|| {
                ConnectorsError::Conflict(format!(
                    "the credential lacks the key '{}', which the connector takes now: store it again with api_keys",
                    key.id()
                ))
            })?;
            match key.place {
                KeyPlace::Header => rendered.set(&key.name, value.expose_secret(), true)?,
                KeyPlace::Query => rendered.query.push((key.name.clone(), value.clone())),
                KeyPlace::Cookie => {
                    let separator = if cookies.is_empty() { "" } else { "; " };
                    cookies.push_str(&format!("{separator}{}={}", key.name, value.expose_secret()));
                }
            }
        }
        match cookies.is_empty() {
            true => Ok(()),
            false => rendered.set(COOKIE.as_str(), &cookies, true),
        }
    }
}

impl Rendered {
    /// Adds a secret that is not sent but must not come back either.
    pub(crate) fn also(&mut self, secret: &SecretString) {
        parts::add(&mut self.scrubber, secret.expose_secret());
    }

    fn set(&mut self, name: &str, value: &str, is_secret: bool) -> Result<(), ConnectorsError> {
        let invalid = || ConnectorsError::Store(format!("the stored header '{name}' cannot be sent"));
        let name_typed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let mut typed = HeaderValue::from_str(value).map_err(|_| invalid())?;
        typed.set_sensitive(is_secret);
        if is_secret {
            parts::add(&mut self.scrubber, value);
        }
        self.headers.insert(name_typed, typed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(rendered: &'a Rendered, name: &str) -> &'a str {
        rendered.headers[name].to_str().expect("is text")
    }

    #[test]
    fn what_is_stored_is_what_is_read() {
        let secret = Secret {
            bearer: Some("token-1".into()),
            headers: vec![("X-Key".into(), "header-1".into())],
            basic: Some(("user".into(), "password-1".into())),
            api_key: Some("key-1".into()),
            api_keys: vec![("id".into(), "key-2".into())],
            client: Some(ClientSecret {
                id: "client".into(),
                secret: Some("client-1".into()),
                private_key: Some("pem-1".into()),
            }),
            tokens: Some(Tokens { access: "access-1".into(), refresh: Some("refresh-1".into()) }),
        };
        let again = Secret::from_bytes(&secret.to_bytes().expect("is written")).expect("is read");
        let values: Vec<&str> = again.values().map(ExposeSecret::expose_secret).collect();
        let all = [
            "token-1",
            "header-1",
            "password-1",
            "key-1",
            "key-2",
            "client-1",
            "pem-1",
            "access-1",
            "refresh-1",
        ];
        assert_eq!(values, all);
        assert_eq!(again.client.map(|client| client.id).as_deref(), Some("client"));
    }

    #[test]
    fn each_method_has_its_place_in_a_request_and_is_scrubbed() {
        let key = |place| [KeySpec { scheme: None, place, name: "X-Key".into() }];
        let basic = Secret { basic: Some(("user".into(), "a-password".into())), ..Secret::default() };
        let rendered = basic.render(&[], &[]).expect("renders");
        assert_eq!(header(&rendered, "authorization"), "Basic dXNlcjphLXBhc3N3b3Jk");
        assert_eq!(rendered.scrubber.text("dXNlcjphLXBhc3N3b3Jk"), "[REDACTED]");
        let query = Secret { api_key: Some("the-api-key".into()), ..Secret::default() };
        let rendered = query.render(&key(KeyPlace::Query), &[]).expect("renders");
        assert!(rendered.headers.is_empty());
        assert_eq!(rendered.query[0].1.expose_secret(), "the-api-key");
        let rendered = query.render(&key(KeyPlace::Header), &[]).expect("renders");
        assert_eq!(header(&rendered, "x-key"), "the-api-key");
        let rendered = query.render(&key(KeyPlace::Cookie), &[]).expect("renders");
        assert_eq!(header(&rendered, "cookie"), "X-Key=the-api-key");
        assert!(rendered.headers["cookie"].is_sensitive());
    }

    #[test]
    fn keys_that_are_needed_together_are_sent_together_or_not_at_all() {
        let key = |scheme: &str, place, name: &str| KeySpec {
            scheme: Some(scheme.into()),
            place,
            name: name.into(),
        };
        let keys = [
            key("id", KeyPlace::Header, "X-Id"),
            key("key", KeyPlace::Query, "key"),
            key("session", KeyPlace::Cookie, "sid"),
            key("more", KeyPlace::Cookie, "more"),
        ];
        let named = |names: &[&str]| {
            names.iter().map(|name| ((*name).into(), format!("value-of-{name}").into())).collect::<Vec<_>>()
        };
        let secret = Secret { api_keys: named(&["x-id", "key", "sid", "more"]), ..Secret::default() };
        let rendered = secret.render(&keys, &[]).expect("renders");
        assert_eq!(header(&rendered, "x-id"), "value-of-x-id");
        assert_eq!(header(&rendered, "cookie"), "sid=value-of-sid; more=value-of-more");
        assert_eq!(
            (rendered.query.len(), rendered.scrubber.text("value-of-sid").as_ref()),
            (1, "[REDACTED]")
        );
        for lacking in [
            Secret { api_keys: named(&["id", "key"]), ..Secret::default() },
            Secret { api_key: Some("only-one-of-them".into()), ..Secret::default() },
        ] {
            let error = lacking.render(&keys, &[]).err().expect("keys are missing").to_string();
            assert!(error.contains("lacks the key") && !error.contains("only-one"), "{error}");
        }
    }

    #[test]
    fn a06_parts_of_whatever_a_request_carries_are_scrubbed_as_well() {
        let value = "Token token=abcdef0123456789; theme=dark";
        let common = CommonHeader { name: "X-Key".into(), value: value.into(), is_secret: true };
        let header = ("X-Key".to_owned(), SecretString::from(value));
        let keys = |place| [KeySpec { scheme: None, place, name: "X-Key".into() }];
        let of_header = Secret { headers: vec![header], ..Secret::default() };
        let of_key = || Secret { api_key: Some(value.into()), ..Secret::default() };
        let of_bearer = Secret { bearer: Some(value.into()), ..Secret::default() };
        for rendered in [
            of_header.render(&[], &[]),
            Secret::default().render(&[], &[common]),
            of_key().render(&keys(KeyPlace::Header), &[]),
            of_key().render(&keys(KeyPlace::Query), &[]),
            of_bearer.render(&[], &[]),
        ] {
            let scrubber = rendered.expect("renders").scrubber;
            assert_eq!(scrubber.text("abcdef0123456789"), "[REDACTED]");
            assert_eq!(scrubber.text("username theme session"), "username theme session");
        }
        for (user, password, secret) in [
            ("a-key-as-user", "", "a-key-as-user"),
            ("a-key-as-user", "x", "a-key-as-user"),
            ("sk_live_51HG8aKeYkEyKeY", "api_token", "sk_live_51HG8aKeYkEyKeY"),
            ("ada", "a-password", "a-password"),
            ("ada", "a-password", "YWRhOmEtcGFzc3dvcmQ="),
        ] {
            let secret_of = Secret { basic: Some((user.into(), password.into())), ..Secret::default() };
            let rendered = secret_of.render(&[], &[]).expect("renders");
            assert_eq!(rendered.scrubber.text(secret), "[REDACTED]", "{user}:{password}");
        }
    }

    #[test]
    fn the_headers_of_an_administrator_come_before_the_credential() {
        let common = CommonHeader {
            name: "Authorization".into(),
            value: "Custom from-the-administrator".into(),
            is_secret: true,
        };
        let secret = Secret { bearer: Some("of-the-user".into()), ..Secret::default() };
        let rendered = secret.render(&[], &[common]).expect("renders");
        assert_eq!(header(&rendered, "authorization"), "Custom from-the-administrator");
        assert_eq!(rendered.scrubber.text("Custom from-the-administrator"), "[REDACTED]");
    }
}
