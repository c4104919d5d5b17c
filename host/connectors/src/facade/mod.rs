//! What the API and the command line do with connectors. Answers have the shapes of the contract (§3, §11.1).

pub(crate) mod admin;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use airlock_engine::{
    Principal,
    records::Records,
    tools::{CallOptions, Silence},
};
use chrono::Utc;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use url::Url;

use crate::{
    ConnectorsError, Keyring, Save, Scope,
    audit::{AuditLog, Event, Kind},
    authorization::{OAuthConfig, Refreshing},
    call::channel::Channels,
    call::{CallRequest, used},
    control::{
        breaker::Breakers,
        limits::{Limits, Redactions},
        pins::Pins,
    },
    credentials::{Credentials, Draft},
    egress::Egress,
    egress::address::Allowed,
    mcp::Sessions,
    mock::{Mocks, Source},
    oauth::{Exchange, Flows},
    registry::apis::Apis,
    registry::method::{Method, MethodKind},
    registry::{Connector, Registry},
    vault::Vault,
};

/// What the operator says about connectors.
#[derive(Debug, Clone)]
pub struct ConnectorsConfig {
    /// Connectors may have servers on this machine.
    pub allow_loopback: bool,
    /// Connectors may have servers in private networks.
    pub allow_private_networks: bool,
    /// The folder of the audit log.
    pub audit: PathBuf,
    /// Authorisation through a browser.
    pub oauth: OAuthConfig,
}

impl ConnectorsConfig {
    /// Nothing inside is allowed, the audit log is in the data folder, and browsers come to `public_url`.
    pub fn new(data: &Path, public_url: &Url) -> Self {
        let page = |path: &str| {
            let mut url = public_url.clone();
            url.set_path(path);
            url
        };
        let document = page("/v1/airlock/oauth/client.json");
        Self {
            allow_loopback: false,
            allow_private_networks: false,
            audit: data.join("audit"),
            oauth: OAuthConfig {
                redirect_uri: page("/v1/airlock/oauth/callback"),
                client_document_url: Some(document).filter(|url| url.scheme() == "https"),
                return_origins: Vec::new(),
                confirm: false,
            },
        }
    }
}

/// All connectors with their credentials. Cheap to clone.
#[derive(Clone)]
pub struct Connectors(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) vault: Vault,
    pub(crate) registry: Registry,
    pub(crate) credentials: Credentials,
    pub(crate) egress: Egress,
    pub(crate) exchange: Arc<dyn Exchange>,
    pub(crate) config: OAuthConfig,
    pub(crate) sessions: Sessions,
    pub(crate) channels: Channels,
    pub(crate) apis: Apis,
    pub(crate) flows: Flows,
    pub(crate) refreshing: Refreshing,
    pub(crate) limits: Limits,
    pub(crate) redactions: Redactions,
    pub(crate) breakers: Breakers,
    pub(crate) pins: Pins,
    pub(crate) mocks: Mocks,
    pub(crate) audit: AuditLog,
    /// Ids of connectors for which something was stored or changed.
    pub(crate) landed: broadcast::Sender<String>,
}

impl Connectors {
    /// Reads what is stored. Nothing is called yet.
    pub fn open(
        records: Arc<dyn Records>,
        keyring: Arc<Keyring>,
        config: ConnectorsConfig,
    ) -> Result<Self, ConnectorsError> {
        let allowed =
            Allowed { loopback: config.allow_loopback, private_networks: config.allow_private_networks };
        let audit = AuditLog::open(&config.audit, &keyring.audit())?;
        let egress = Egress::new(allowed)?;
        Ok(Self(Arc::new(Inner {
            registry: Registry::open(&*records)?,
            credentials: Credentials::open(&*records)?,
            exchange: Arc::new(egress.clone()),
            egress,
            config: config.oauth,
            sessions: Sessions::default(),
            channels: Channels::default(),
            apis: Apis::default(),
            flows: Flows::open(&*records)?,
            refreshing: Refreshing::default(),
            limits: Limits::default(),
            redactions: Redactions::default(),
            breakers: Breakers::default(),
            pins: Pins::open(&*records)?,
            mocks: Mocks::open(&*records)?,
            audit,
            landed: broadcast::Sender::new(256),
            vault: Vault::new(keyring),
            records,
        })))
    }

    /// The tools of a connector: `MCPTool`s, or with `pretty` only what people read. Those that the operator does not
    /// allow, and those whose definition has changed, are left out.
    pub async fn list_tools(
        &self,
        who: &Principal,
        connector: &str,
        credentials_name: Option<&str>,
        refresh: bool,
        pretty: bool,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.find(who, connector)?;
        let tools = self.tools_of(&connector, who, credentials_name, refresh, false).await?;
        if !pretty {
            return Ok(tools.into());
        }
        let keys = ["name", "description", "annotations", "inputSchema"];
        let trimmed = tools.iter().map(|tool| {
            let fields = keys.iter().filter(|key| !tool[**key].is_null());
            fields.map(|key| ((*key).to_owned(), tool[*key].clone())).collect::<Map<_, _>>().into()
        });
        Ok(trimmed.collect::<Vec<Value>>().into())
    }

    /// Calls a tool; the answer is a `ConnectorToolCallResponse`. A tool that fails says so in the answer. Nobody can be
    /// asked here: a tool that needs a person's consent is refused.
    pub async fn call_tool(
        &self,
        who: &Principal,
        connector: &str,
        tool: &str,
        arguments: Value,
        options: &CallOptions,
    ) -> Result<Value, ConnectorsError> {
        if !arguments.is_object() {
            return Err(ConnectorsError::invalid("/arguments", "the arguments of a tool are a JSON object"));
        }
        self.perform(CallRequest {
            who,
            connector: self.0.registry.find(who, connector)?,
            tool,
            arguments,
            credentials_name: None,
            options,
            mock: false,
            origin: None,
            conversation: &Silence,
            may_authorize: false,
        })
        .await
    }

    pub(crate) fn find(&self, who: &Principal, connector: &str) -> Result<Arc<Connector>, ConnectorsError> {
        self.0.registry.find(who, connector)
    }

    /// `PublicAuthenticationMethod`s.
    pub fn authentication_methods(&self, who: &Principal, connector: &str) -> Result<Value, ConnectorsError> {
        Ok(self.methods(&*self.0.registry.find(who, connector)?, who))
    }

    fn methods(&self, connector: &Connector, who: &Principal) -> Value {
        let header = |(name, value): &(String, Option<String>)| {
            let shown = value.clone().unwrap_or_else(|| "********".into());
            (name.clone(), json!({ "value": shown, "is_secret": value.is_none() }))
        };
        let headers: Map<String, Value> = connector.headers.iter().map(header).collect();
        let defaults = self.0.credentials.defaults(connector, who);
        let describe = |method: &Method| {
            let mut value = method.wire();
            value["global_headers"] = headers.clone().into();
            value["has_default_credentials"] = defaults.contains(&method.kind()).into();
            value
        };
        connector.methods.iter().map(describe).collect::<Vec<_>>().into()
    }

    /// `CredentialsResponse`: the credentials of a scope, without secrets.
    pub fn list_credentials(
        &self,
        who: &Principal,
        connector: &str,
        scope: Scope,
        auth_type: Option<&str>,
        fetch_default: bool,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.find(who, connector)?;
        let mut found = self.0.credentials.of(&connector, scope, who);
        found.retain(|credential| auth_type.is_none_or(|wanted| credential.method.as_str() == wanted));
        found.retain(|credential| !fetch_default || credential.is_default);
        let credentials: Vec<Value> = found.iter().map(|credential| credential.wire(&connector)).collect();
        let preset: Vec<&str> = match connector.headers.iter().any(|(_, value)| value.is_none()) {
            true => vec![MethodKind::Bearer.as_str()],
            false => Vec::new(),
        };
        Ok(json!({ "credentials": credentials, "connector_preset_credentials_for_auth": preset }))
    }

    /// Stores or changes a credential (`CredentialsCreateOrUpdate`).
    pub async fn save_credentials(
        &self,
        who: &Principal,
        connector: &str,
        scope: Scope,
        body: Value,
        mode: Save,
    ) -> Result<Value, ConnectorsError> {
        let (inner, connector) = (&self.0, self.0.registry.find(who, connector)?);
        let draft = Draft::parse(&connector, body)?;
        let is_client = draft.secret.as_ref().is_some_and(|(method, _)| *method == MethodKind::Oauth2);
        let name = draft.name.clone();
        let key =
            inner.credentials.save(&*inner.records, &inner.vault, &connector, scope, who, draft, mode)?;
        self.stored(who, &connector, &key)?;
        // A client of the client credentials grant is tried at once: whoever stores it wants to know.
        if is_client && let Some(credential) = inner.credentials.get(&key) {
            self.refreshed(&connector, &key, &credential).await.map_err(|error| match error {
                ConnectorsError::Unauthorized(message) => {
                    ConnectorsError::invalid("/credentials/oauth", message)
                }
                other => other,
            })?;
        }
        Ok(message(format!("credential '{name}' was stored for connector '{}'", connector.name)))
    }

    /// What follows when a credential was stored: a word in the log and the audit log, and to whoever waits for it.
    pub(crate) fn stored(
        &self,
        who: &Principal,
        connector: &Connector,
        key: &str,
    ) -> Result<(), ConnectorsError> {
        let Some(credential) = self.0.credentials.get(key) else { return Ok(()) };
        tracing::info!(
            connector = connector.name,
            credential = credential.name,
            user = %who.user,
            "a credential was stored"
        );
        self.landed(connector);
        self.write_down(Event {
            connector_id: Some(connector.id.clone()),
            connector: Some(connector.name.clone()),
            credential: Some(used(key, &credential)),
            ..Event::by(Kind::CredentialStored, who)
        })
    }

    /// Wakes those who wait for something about a connector.
    pub(crate) fn landed(&self, connector: &Connector) {
        // Nobody may be waiting for it.
        let _ = self.0.landed.send(connector.id.clone());
    }

    /// Deletes a credential and the key that its secret was sealed with. Its tokens are revoked at their server.
    pub async fn delete_credentials(
        &self,
        who: &Principal,
        connector: &str,
        scope: Scope,
        name: &str,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.find(who, connector)?;
        let revoked = self.delete_credential(who, &connector, scope, name).await?;
        let revoked = revoked.map(|revoked| format!("; {revoked}")).unwrap_or_default();
        Ok(message(format!("credential '{name}' of connector '{}' was deleted{revoked}", connector.name)))
    }

    async fn delete_credential(
        &self,
        who: &Principal,
        connector: &Connector,
        scope: Scope,
        name: &str,
    ) -> Result<Option<String>, ConnectorsError> {
        let inner = &self.0;
        let (key, credential) = inner.credentials.find(connector, scope, who, name)?;
        // Before the token is revoked, so that nobody uses it in between.
        let tokens = self.open_secret(connector, &key, &credential).ok();
        inner.credentials.delete(&*inner.records, connector, scope, who, name)?;
        self.forget(&connector.id);
        self.landed(connector);
        self.write_down(Event {
            connector_id: Some(connector.id.clone()),
            connector: Some(connector.name.clone()),
            credential: Some(used(&key, &credential)),
            ..Event::by(Kind::CredentialDeleted, who)
        })?;
        Ok(match tokens {
            Some(secret) => self.revoke(connector, &credential, secret).await,
            None => None,
        })
    }

    /// Deletes all credentials of the caller for a connector.
    pub async fn delete_all_credentials(
        &self,
        who: &Principal,
        connector: &str,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.find(who, connector)?;
        let all = self.0.credentials.of(&connector, Scope::User, who);
        for credential in &all {
            self.delete_credential(who, &connector, Scope::User, &credential.name).await?;
        }
        Ok(message(format!("{} credentials of connector '{}' were deleted", all.len(), connector.name)))
    }

    /// The pinned tools of a connector.
    pub fn pins(&self, who: &Principal, connector: &str) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.find(who, connector)?;
        Ok(json!({ "pins": self.0.pins.state(&connector.id) }))
    }

    /// Approves the new definition of a tool, or of all that changed.
    pub fn approve(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
        tool: Option<&str>,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.owned(who, is_owner, connector)?;
        let approved = self.0.pins.approve(&*self.0.records, &connector.id, tool, who.user.as_str())?;
        for tool in &approved {
            self.write_down(Event {
                connector_id: Some(connector.id.clone()),
                connector: Some(connector.name.clone()),
                tool: Some(tool.clone()),
                ..Event::by(Kind::PinApproved, who)
            })?;
        }
        self.forget(&connector.id);
        Ok(json!({ "approved": approved }))
    }

    /// The mocks of a connector.
    pub fn mocks(&self, who: &Principal, connector: &str) -> Result<Value, ConnectorsError> {
        self.mocks_of(&*self.0.registry.find(who, connector)?)
    }

    /// Replaces the written mocks of a connector (`{"mocks": […], "tools": […]?}`); recorded ones stay.
    pub fn set_mocks(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
        body: Value,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.owned(who, is_owner, connector)?;
        let list = |field: &str| match &body[field] {
            Value::Array(list) => Ok(Some(list.clone())),
            Value::Null => Ok(None),
            _ => Err(ConnectorsError::invalid(&format!("/{field}"), "give a list")),
        };
        let (mocks, tools) = (list("mocks")?, list("tools")?);
        let Some(mocks) = mocks else {
            return Err(ConnectorsError::invalid("/mocks", "'mocks' is missing: a list of answers"));
        };
        let (records, id) = (&*self.0.records, &connector.id);
        self.0.mocks.set(records, id, Source::Written, mocks).map_err(|error| error.under("/mocks"))?;
        if let Some(tools) = tools {
            self.0.mocks.set_tools(records, id, &tools).map_err(|error| error.under("/tools"))?;
        }
        self.note(who, Kind::MocksChanged, &connector)?;
        self.mocks_of(&connector)
    }

    /// Adds one written mock: `{"tool", "arguments"?, "answer", "description"?, "delay_ms"?}`.
    pub fn add_mock(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
        body: Value,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.owned(who, is_owner, connector)?;
        self.0.mocks.add(&*self.0.records, &connector.id, body)?;
        self.note(who, Kind::MocksChanged, &connector)?;
        self.mocks_of(&connector)
    }

    fn mocks_of(&self, connector: &Connector) -> Result<Value, ConnectorsError> {
        let tools = self.0.mocks.tools(&connector.id).map(|tools| tools.to_vec());
        Ok(json!({ "mocks": self.0.mocks.list(&connector.id)?, "tools": tools }))
    }

    /// Removes all mocks of a connector.
    pub fn clear_mocks(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.owned(who, is_owner, connector)?;
        self.0.mocks.clear(&*self.0.records, &connector.id, None)?;
        self.note(who, Kind::MocksChanged, &connector)?;
        Ok(message(format!("the mocks of connector '{}' were removed", connector.name)))
    }

    pub(crate) fn wire(&self, connector: &Connector, who: &Principal, with_credentials: bool) -> Value {
        let mut value = connector.wire(who);
        value["supported_auth_methods"] = self.methods(connector, who);
        let now = Utc::now();
        let credential = self.0.credentials.resolve(connector, who, None);
        let is_ready = match credential {
            Ok(Some((_, credential))) => !credential.needs_somebody(now),
            _ => connector.allows(MethodKind::None),
        };
        value["is_authenticated"] = is_ready.into();
        value["connection_preferences"] = json!([{
            "name": "default", "is_default": true, "consumer_type": null,
            "tool_configuration": connector.control.execution_configuration(),
        }]);
        if with_credentials {
            let own = self.0.credentials.of(connector, Scope::User, who);
            let shown: Vec<Value> = own.iter().map(|credential| credential.wire(connector)).collect();
            value["connection_credentials"] = shown.into();
        }
        value
    }
}

pub(crate) fn message(text: String) -> Value {
    json!({ "message": text })
}
