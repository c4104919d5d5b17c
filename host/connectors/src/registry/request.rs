//! What a request says about a connector, checked.

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Protocol, Visibility,
    method::{Method, MethodKind},
    switches::{self, Switches},
};
use crate::{
    ConnectorsError,
    egress::{Egress, headers::check_header, secret::CommonHeader},
    oauth::Server,
};

/// `CreateConnectorRequest`, `CreateHTTPConnectorRequest` and their updates, of all generations of the client.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Request {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) server: Option<String>,
    pub(super) title: Option<String>,
    pub(super) icon_url: Option<String>,
    pub(super) visibility: Option<Visibility>,
    pub(super) protocol: Option<Protocol>,
    pub(super) system_prompt: Option<String>,
    pub(super) headers: Option<Map<String, Value>>,
    pub(super) global_headers: Option<Map<String, Value>>,
    pub(super) auth_methods: Option<Vec<Value>>,
    pub(super) auth_data: Option<Value>,
    pub(super) oauth2_server_metadata: Option<Value>,
    pub(super) oauth2_server_metadata_url: Option<String>,
    /// Ours: the issuer that the authorization server's metadata have to name, wherever they are published.
    pub(super) oauth_issuer: Value,
    /// Ours: what tokens are asked for: 'none' or an address.
    pub(super) oauth_resource: Value,
    pub(super) connection_config: Option<Value>,
    pub(super) connection_secrets: Option<Value>,
    /// Ours: a list of operations of a REST API.
    pub(super) operations: Option<Value>,
    /// Ours: the address of an OpenAPI document.
    pub(super) openapi_url: Option<String>,
    /// Ours: others are made from it.
    pub(super) is_template: Option<bool>,
    /// Ours: the name of a template to make it from.
    pub(super) template: Option<String>,
    /// Ours: what it may do.
    pub(super) control: Option<Value>,
}

/// How one authenticates, with what goes into the vault.
pub(super) struct Methods {
    pub(super) methods: Vec<Method>,
    /// The secret of a client that was registered beforehand.
    pub(super) client_secret: Option<SecretString>,
    /// Nothing is named but a way round for OAuth: what a document describes stays beside it.
    pub(super) is_word: bool,
}

impl Request {
    pub(super) fn parse(body: Value) -> Result<Self, ConnectorsError> {
        let request: Self = serde_path_to_error::deserialize(body).map_err(ConnectorsError::misshapen)?;
        for (field, value) in [
            ("connection_config", &request.connection_config),
            ("connection_secrets", &request.connection_secrets),
        ] {
            if value.as_ref().is_some_and(|value| !value.is_null()) {
                let message = format!("'{field}' is not served: give headers, or store a credential");
                return Err(ConnectorsError::Unsupported(message));
            }
        }
        if request.oauth2_server_metadata.is_some() && request.oauth2_server_metadata_url.is_some() {
            return Err(ConnectorsError::invalid(
                "/oauth2_server_metadata_url",
                "give oauth2_server_metadata or oauth2_server_metadata_url, not both",
            ));
        }
        Ok(request)
    }

    /// The issuer that is named at the top or in a method.
    fn oauth_issuer(&self) -> Option<&str> {
        let in_methods = self.auth_methods.iter().flatten().map(|method| &method["oauth_issuer"]);
        let named = std::iter::once(&self.oauth_issuer).chain(in_methods).find_map(Value::as_str);
        named.filter(|issuer| !issuer.is_empty())
    }

    /// What is said at the top about the issuer and the resource of OAuth.
    pub(super) fn switches(&self) -> Result<Switches, ConnectorsError> {
        Switches::read(&self.oauth_issuer, &self.oauth_resource, "")
    }

    /// Headers for every request; what is not marked as harmless is taken for a secret.
    pub(super) fn common_headers(&self) -> Result<Option<Vec<CommonHeader>>, ConnectorsError> {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let of_method = |method: &Value| method["global_headers"].as_object().cloned();
        let new: Vec<Map<String, Value>> = (self.global_headers.iter().cloned())
            .chain(self.auth_methods.iter().flatten().filter_map(of_method))
            .collect();
        if self.headers.is_none() && new.is_empty() {
            return Ok(None);
        }
        let old = self.headers.iter().flatten().map(|(name, value)| (name.clone(), text(value), true));
        let new = new.iter().flatten().map(|(name, value)| {
            (name.clone(), text(&value["value"]), value["is_secret"].as_bool().unwrap_or(true))
        });
        let mut all: Vec<CommonHeader> = Vec::new();
        for (name, value, is_secret) in old.chain(new) {
            check_header(&name, &value)
                .map_err(|message| ConnectorsError::invalid("/global_headers", message))?;
            all.retain(|header| !header.name.eq_ignore_ascii_case(&name));
            all.push(CommonHeader { name, value: value.into(), is_secret });
        }
        Ok(Some(all))
    }

    /// The methods that a request names; `None` if it names none. With `needs_oauth`, a request that says something about
    /// OAuth without naming a method means OAuth.
    pub(super) async fn methods(
        &self,
        egress: &Egress,
        needs_oauth: bool,
    ) -> Result<Option<Methods>, ConnectorsError> {
        let (request, allowed) = (self, egress.allowed());
        let server = |metadata: &Value, at: &str| {
            // It says where in the metadata the flaw is.
            let before = at.strip_suffix("/oauth2_server_metadata").unwrap_or_default();
            Server::provided(metadata, allowed).map_err(|error| error.under(before))
        };
        let mut given = match (&request.oauth2_server_metadata, &request.oauth2_server_metadata_url) {
            (Some(metadata), _) if !metadata.is_null() => Some(server(metadata, "/oauth2_server_metadata")?),
            (_, Some(url)) => {
                let fetched = Server::fetched_as(url, request.oauth_issuer(), egress, allowed).await;
                Some(fetched.map_err(|error| {
                    ConnectorsError::invalid("/oauth2_server_metadata_url", error.to_string())
                })?)
            }
            _ => None,
        };
        let (mut methods, mut client_secret): (Vec<Method>, _) = (Vec::new(), None);
        for (number, method) in request.auth_methods.iter().flatten().enumerate() {
            let parsed = Method::parse(method, &format!("/auth_methods/{number}"), &server)?;
            if methods.iter().any(|other| other.kind() == parsed.kind()) {
                let message = format!("method '{}' is listed twice", parsed.kind().as_str());
                return Err(ConnectorsError::invalid(&format!("/auth_methods/{number}"), message));
            }
            for secrets in ["auth_data", "oauth2_metadata_secrets"] {
                let secret = method[secrets]["client_secret"].as_str();
                client_secret = secret.map(SecretString::from).or(client_secret);
            }
            methods.push(parsed);
        }
        // The older clients' way to say it.
        let data = request.auth_data.as_ref().filter(|data| !data.is_null());
        let switches = request.switches()?;
        let is_named = methods.iter().any(|method| method.kind() == MethodKind::Oauth2);
        if !methods.is_empty() && !is_named && data.is_none() && given.is_none() && !switches.is_empty() {
            let message = "oauth_issuer and oauth_resource are about OAuth, and auth_methods has no oauth2: name it there, or \
                           leave auth_methods out";
            return Err(ConnectorsError::invalid("/auth_methods", message));
        }
        let is_word = methods.is_empty() && data.is_none() && given.is_none();
        let is_oauth = data.is_some() || given.is_some() || needs_oauth && !switches.is_empty();
        if is_oauth && !methods.iter().any(|m| m.kind() == MethodKind::Oauth2) {
            let value = json!({ "method_type": "oauth2", "auth_data": data });
            methods.push(Method::parse(&value, "", &server)?);
        }
        if let Some(data) = data {
            client_secret = data["client_secret"].as_str().map(SecretString::from).or(client_secret);
        }
        for method in &mut methods {
            let Method::Oauth2(oauth) = method else { continue };
            if oauth.server.is_none() && given.is_some() {
                (oauth.server, oauth.server_given) = (given.take(), true);
            }
            switches.apply(oauth);
            switches::check_issuer(oauth)?;
        }
        Ok((!methods.is_empty()).then_some(Methods { methods, client_secret, is_word }))
    }
}
