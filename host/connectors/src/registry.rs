//! Connectors as they are registered, and who sees them.

use std::collections::HashMap;

use airlock_engine::{
    Principal,
    records::{Change, Records},
};
use chrono::{DateTime, Utc};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use crate::{ConnectorsError, Scope, address::Allowed};

const TABLE: &str = "connectors";

/// A registered connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connector {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) title: Option<String>,
    pub(crate) icon_url: Option<String>,
    pub(crate) system_prompt: Option<String>,
    pub(crate) server: String,
    pub(crate) visibility: Visibility,
    pub(crate) methods: Vec<Method>,
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
}

/// Who sees a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Visibility {
    SharedOrg,
    SharedWorkspace,
    Private,
}

/// How one authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    Bearer,
    None,
}

impl Method {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::None => "none",
        }
    }
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
        ![Scope::User, Scope::Workspace, Scope::Organization]
            .iter()
            .any(|scope| self.inactive.contains(&scope.key(who)))
    }

    pub(crate) fn allows(&self, method: Method) -> bool {
        self.methods.contains(&method)
    }

    /// Scheme, host and port: what a credential is bound to (THREATS row 10).
    pub(crate) fn origin(&self) -> String {
        Url::parse(&self.server).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
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
            Ok(mut url) if self.creator != who.user.as_str() => {
                url.set_query(None);
                url.to_string()
            }
            _ => self.server.clone(),
        };
        json!({
            "id": self.id, "name": self.name, "description": self.description, "title": self.title,
            "created_at": self.created_at, "modified_at": self.modified_at, "server": server,
            "icon_url": self.icon_url, "system_prompt": self.system_prompt, "owner_type": owner_type,
            "owner_id": owner_id, "creator_id": self.creator, "visibility": self.visibility,
            "private_tool_execution": false, "supports_mcp": true, "protocol": "mcp", "mistral": false,
            "active": self.is_active_for(who),
        })
    }
}

/// All connectors, in memory and in the store.
pub(crate) struct Registry(RwLock<HashMap<String, Connector>>);

impl Registry {
    pub(crate) fn open(records: &dyn Records) -> Result<Self, ConnectorsError> {
        let mut all = HashMap::new();
        for (id, value) in records.scan(TABLE, "", None, usize::MAX)? {
            all.insert(id, serde_json::from_slice(&value)?);
        }
        Ok(Self(RwLock::new(all)))
    }

    /// The connector with this id or name, if the principal sees it.
    pub(crate) fn find(&self, who: &Principal, id_or_name: &str) -> Result<Connector, ConnectorsError> {
        let all = self.0.read();
        let mut visible = all.values().filter(|connector| connector.is_visible_to(who));
        let found = visible.find(|connector| connector.id == id_or_name || connector.name == id_or_name);
        found.cloned().ok_or_else(|| {
            ConnectorsError::NotFound(format!(
                "no connector is called '{id_or_name}': see `airlock connectors list`, or register it with `airlock \
                 connectors add`"
            ))
        })
    }

    /// What the principal sees, by name.
    pub(crate) fn visible(&self, who: &Principal) -> Vec<Connector> {
        let all = self.0.read();
        let mut visible: Vec<_> =
            all.values().filter(|connector| connector.is_visible_to(who)).cloned().collect();
        visible.sort_by(|a, b| a.name.cmp(&b.name));
        visible
    }

    /// Stores a connector, together with other changes. Names are unique in an organisation.
    pub(crate) fn save(
        &self,
        records: &dyn Records,
        connector: Connector,
        mut changes: Vec<Change>,
    ) -> Result<(), ConnectorsError> {
        let mut all = self.0.write();
        let is_twin = |other: &&Connector| {
            other.name == connector.name
                && other.organization == connector.organization
                && other.id != connector.id
        };
        if all.values().find(is_twin).is_some() {
            let message =
                format!("a connector called '{}' exists already: choose another name", connector.name);
            return Err(ConnectorsError::Conflict(message));
        }
        let value = serde_json::to_vec(&connector)?;
        changes.push(Change::Put { table: TABLE, key: connector.id.clone(), value });
        records.write(&changes)?;
        all.insert(connector.id.clone(), connector);
        Ok(())
    }

    pub(crate) fn remove(
        &self,
        records: &dyn Records,
        id: &str,
        mut changes: Vec<Change>,
    ) -> Result<(), ConnectorsError> {
        changes.push(Change::Delete { table: TABLE, key: id.into() });
        records.write(&changes)?;
        self.0.write().remove(id);
        Ok(())
    }
}

/// A name of a connector: 1 to 64 of `[A-Za-z0-9_-]`.
pub(crate) fn check_name(name: &str) -> Result<(), ConnectorsError> {
    let valid = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    match valid {
        true => Ok(()),
        false => Err(ConnectorsError::invalid(
            "/name",
            "a connector's name has 1 to 64 characters, letters, digits, '_' and '-' only",
        )),
    }
}

/// An address of a server: http or https, no user in it, and somewhere that may be called.
pub(crate) fn check_server(server: &str, allowed: Allowed) -> Result<(), ConnectorsError> {
    let invalid = |message: String| ConnectorsError::invalid("/server", message);
    let url = Url::parse(server).map_err(|error| invalid(format!("it is not an address: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("it must begin with https:// or http://".into()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("it must hold no user or password: store a credential instead".into()));
    }
    allowed.check(&url).map_err(invalid)
}
