//! A connector as it is registered.

use std::sync::Arc;

use airlock_engine::Principal;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::{
    apis::Told,
    method::{Grant, Method, MethodKind, OAuth},
    scope::Scope,
};
use crate::{control::Control, egress::secret::KeySpec, rest::Terms};

/// A registered connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connector {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) title: Option<String>,
    pub(crate) icon_url: Option<String>,
    pub(crate) system_prompt: Option<String>,
    pub(crate) protocol: Protocol,
    /// An MCP endpoint, or the base of a REST API.
    pub(crate) server: String,
    pub(crate) visibility: Visibility,
    /// How one authenticates, the preferred way first.
    pub(crate) methods: Vec<Method>,
    /// Somebody said so; else it was found out from the server.
    pub(crate) methods_given: bool,
    /// Names of the headers that go with every request; `None` for values that are in the vault.
    pub(crate) headers: Vec<(String, Option<String>)>,
    pub(crate) creator: String,
    pub(crate) workspace: String,
    pub(crate) organization: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) modified_at: DateTime<Utc>,
    /// Grows with every change: sessions of older versions are not used any more.
    pub(crate) version: u32,
    /// Scopes that it was switched off for, as `scope/owner`.
    pub(crate) inactive: Vec<String>,
    /// What it may do, and how often.
    pub(crate) control: Control,
    /// Where the operations of a REST API come from.
    pub(crate) api: Option<ApiSource>,
}

/// What a connector speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    /// The Model Context Protocol over streamable HTTP.
    Mcp,
    /// HTTP, as an OpenAPI document or a list of operations describes it.
    Http,
}

/// Where the operations of a REST API come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ApiSource {
    /// The connector under whose id the operations are kept: itself.
    pub(crate) owner: String,
    /// The document's file name or address; absent: written by hand.
    pub(crate) source: Option<String>,
    pub(crate) operations: usize,
    /// Others are made from it. It can be called itself where nothing authenticates.
    pub(crate) is_template: bool,
    /// What the import of the document had to say.
    #[serde(default)]
    pub(crate) told: Arc<Told>,
}

/// Who sees a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Visibility {
    SharedOrg,
    SharedWorkspace,
    Private,
}

impl Connector {
    pub(crate) fn is_visible_to(&self, who: &Principal) -> bool {
        self.organization == who.organization.as_str()
            && match self.visibility {
                Visibility::SharedOrg => true,
                Visibility::SharedWorkspace => self.workspace == who.workspace.as_str(),
                Visibility::Private => self.creator == who.user.as_str(),
            }
    }

    pub(crate) fn is_active_for(&self, who: &Principal) -> bool {
        self.blocked_by(who).is_empty()
    }

    /// For whom it was deactivated, of those that one belongs to, in the contract's words for owners (§10).
    fn blocked_by(&self, who: &Principal) -> Vec<&'static str> {
        [(Scope::User, "user"), (Scope::Workspace, "workspace"), (Scope::Organization, "org")]
            .into_iter()
            .filter(|(scope, _)| self.inactive.contains(&scope.key(who)))
            .map(|(_, word)| word)
            .collect()
    }

    pub(crate) fn allows(&self, kind: MethodKind) -> bool {
        self.method(kind).is_some()
    }

    pub(crate) fn method(&self, kind: MethodKind) -> Option<&Method> {
        self.methods.iter().find(|method| method.kind() == kind)
    }

    /// The methods in short.
    pub(crate) fn kinds(&self) -> Vec<MethodKind> {
        self.methods.iter().map(Method::kind).collect()
    }

    /// OAuth with a person in a browser.
    pub(crate) fn interactive(&self) -> Option<&OAuth> {
        match self.method(MethodKind::Oauth2) {
            Some(Method::Oauth2(oauth)) if oauth.grant == Grant::AuthorizationCode => Some(oauth),
            _ => None,
        }
    }

    /// The operator's ways round what is strictly right, for the log.
    pub(crate) fn switched(&self) -> Option<String> {
        let oauth = match self.method(MethodKind::Oauth2) {
            Some(Method::Oauth2(oauth)) => oauth.switched(),
            _ => None,
        };
        let review = self.control.review.then(|| "tools are reviewed".to_owned());
        let said: Vec<String> = oauth.into_iter().chain(review).collect();
        (!said.is_empty()).then(|| said.join(", "))
    }

    /// The keys that a credential of method `api_key` has.
    pub(crate) fn keys(&self) -> Vec<KeySpec> {
        match self.method(MethodKind::ApiKey) {
            Some(Method::ApiKey { first, more }) => std::iter::once(first).chain(more).cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// What it adds to what its operations send, wherever they come from.
    pub(crate) fn terms(&self) -> Terms {
        let keys = self.keys().into_iter().map(|key| (key.place, key.name)).collect();
        // Written in one way, however somebody wrote it.
        let server = Url::parse(&self.server).map_or_else(|_| self.server.clone(), String::from);
        Terms { server, keys }
    }

    /// Scheme, host, port and base path: what a credential is bound to (THREATS row 10). Behind another path of a host there
    /// may be somebody else.
    pub(crate) fn base(&self) -> String {
        let base = |url: Url| {
            let path = url.path().trim_end_matches('/');
            format!("{}{path}", url.origin().ascii_serialization())
        };
        Url::parse(&self.server).map(base).unwrap_or_default()
    }

    /// Whether this is [`Connector::base`].
    pub(crate) fn has_base(&self, base: &str) -> bool {
        // An address that is written like one is its own.
        self.server.trim_end_matches('/') == base || self.base() == base
    }

    /// Scheme, host and port for messages.
    pub(crate) fn host(&self) -> String {
        let url = Url::parse(&self.server).ok();
        url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
    }

    /// `MCPConnector` (contract §11.1), with what older clients want as well.
    pub(crate) fn wire(&self, who: &Principal) -> Value {
        let (owner_type, owner_id) = match self.visibility {
            Visibility::SharedOrg => ("org", &self.organization),
            Visibility::SharedWorkspace => ("workspace", &self.workspace),
            Visibility::Private => ("user", &self.creator),
        };
        // The query may hold a key: it is not shown to those who only use the connector.
        let server = match Url::parse(&self.server) {
            Ok(url) if self.creator != who.user.as_str() => without_query(url),
            _ => self.server.clone(),
        };
        let mut value = json!({
            "id": self.id, "name": self.name, "description": self.description, "title": self.title,
            "created_at": self.created_at, "modified_at": self.modified_at, "server": server,
            "icon_url": self.icon_url, "system_prompt": self.system_prompt, "owner_type": owner_type,
            "owner_id": owner_id, "creator_id": self.creator, "visibility": self.visibility,
            "private_tool_execution": false, "supports_mcp": self.protocol == Protocol::Mcp,
            "protocol": self.protocol, "mistral": false, "active": self.is_active_for(who),
            "blocked_by": self.blocked_by(who),
        });
        if self.protocol == Protocol::Http {
            let source = self.api.as_ref().and_then(|api| api.source.as_deref());
            value["openapi_spec"] = json!({ "source": source.map(|source| match Url::parse(source) {
                Ok(url) => json!({ "type": "url", "url": without_query(url) }),
                Err(_) => json!({ "type": "file", "filename": source }),
            }) });
            value["operations"] = self.api.as_ref().map_or(0, |api| api.operations).into();
            value["is_template"] = self.api.as_ref().is_some_and(|api| api.is_template).into();
        }
        value
    }
}

/// The query of an address may hold a key.
fn without_query(mut url: Url) -> String {
    url.set_query(None);
    url.to_string()
}
