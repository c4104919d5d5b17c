//! What the API and the command line do with connectors. Answers have the shapes of the contract (§3, §11.1).

use std::sync::Arc;

use airlock_engine::{
    Principal,
    records::{Change, Records},
};
use chrono::Utc;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::{
    ConnectorsError, MasterKey, Save, Scope,
    address::Allowed,
    credentials::{self, Credential, Credentials, Secret},
    egress::{self, Sender},
    mcp::{Opening, Session, Sessions},
    registry::{Connector, Method, Registry, Visibility, check_name, check_server},
    vault::Vault,
};

/// What the operator allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectorsConfig {
    /// Connectors may have servers on this machine.
    pub allow_loopback: bool,
    /// Connectors may have servers in private networks.
    pub allow_private_networks: bool,
}

/// All connectors with their credentials. Cheap to clone.
#[derive(Clone)]
pub struct Connectors(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    records: Arc<dyn Records>,
    vault: Vault,
    registry: Registry,
    pub(crate) credentials: Credentials,
    sessions: Sessions,
    client: reqwest::Client,
    allowed: Allowed,
    /// Ids of connectors for which a credential was stored.
    pub(crate) landed: broadcast::Sender<String>,
}

/// `CreateConnectorRequest` and `ConnectorMCPPublicUpdate`, of all generations of the client.
#[derive(Deserialize)]
struct Request {
    name: Option<String>,
    description: Option<String>,
    server: Option<String>,
    title: Option<String>,
    icon_url: Option<String>,
    visibility: Option<Visibility>,
    protocol: Option<String>,
    system_prompt: Option<String>,
    headers: Option<Map<String, Value>>,
    global_headers: Option<Map<String, Value>>,
    auth_methods: Option<Vec<Value>>,
    auth_data: Option<Value>,
    oauth2_server_metadata: Option<Value>,
    oauth2_server_metadata_url: Option<Value>,
}

/// Headers as name, value, and whether the value is secret.
type Headers = Vec<(String, String, bool)>;

impl Request {
    fn parse(body: Value) -> Result<Self, ConnectorsError> {
        let request: Self =
            serde_json::from_value(body).map_err(|error| ConnectorsError::invalid("", error.to_string()))?;
        let unsupported = |message: &str| Err(ConnectorsError::Unsupported(message.into()));
        if request.protocol.as_deref().is_some_and(|protocol| protocol != "mcp") {
            return unsupported("only connectors with protocol 'mcp' are served by this version");
        }
        let oauth = request.auth_data.is_some()
            || request.oauth2_server_metadata.is_some()
            || request.oauth2_server_metadata_url.is_some();
        if oauth {
            return unsupported(
                "OAuth is not served by this version: register the connector with method 'bearer'",
            );
        }
        Ok(request)
    }

    fn methods(&self) -> Result<Option<Vec<Method>>, ConnectorsError> {
        let Some(listed) = &self.auth_methods else { return Ok(None) };
        let mut methods = Vec::new();
        for method in listed {
            let method = match method["method_type"].as_str() {
                Some("bearer") => Method::Bearer,
                Some("none") => Method::None,
                other => {
                    let name = other.unwrap_or("oauth2");
                    let message =
                        format!("method '{name}' is not served by this version: use 'bearer' or 'none'");
                    return Err(ConnectorsError::Unsupported(message));
                }
            };
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        Ok(Some(methods).filter(|methods| !methods.is_empty()))
    }

    /// Headers for every request, as name, value, whether it is secret.
    fn common_headers(&self) -> Result<Option<Headers>, ConnectorsError> {
        if self.headers.is_none() && self.global_headers.is_none() {
            return Ok(None);
        }
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        // What is not marked as harmless is taken for a secret.
        let old = self.headers.iter().flatten().map(|(name, value)| (name.clone(), text(value), true));
        let new = self.global_headers.iter().flatten().map(|(name, value)| {
            (name.clone(), text(&value["value"]), value["is_secret"].as_bool().unwrap_or(true))
        });
        let all: Vec<_> = old.chain(new).collect();
        for (name, value, _) in &all {
            credentials::check_header(name, value)
                .map_err(|message| ConnectorsError::invalid("/global_headers", message))?;
        }
        Ok(Some(all))
    }
}

impl Connectors {
    /// Reads what is stored. Nothing is called yet.
    pub fn open(
        records: Arc<dyn Records>,
        master: &MasterKey,
        config: ConnectorsConfig,
    ) -> Result<Self, ConnectorsError> {
        let allowed =
            Allowed { loopback: config.allow_loopback, private_networks: config.allow_private_networks };
        Ok(Self(Arc::new(Inner {
            vault: Vault::new(master),
            registry: Registry::open(&*records)?,
            credentials: Credentials::open(&*records)?,
            sessions: Sessions::default(),
            client: egress::client(allowed)?,
            allowed,
            landed: broadcast::Sender::new(256),
            records,
        })))
    }

    /// Registers a connector; the answer is an `MCPConnector`.
    pub async fn create(&self, who: &Principal, body: Value) -> Result<Value, ConnectorsError> {
        let request = Request::parse(body)?;
        let methods = request.methods()?;
        let headers = request.common_headers()?.unwrap_or_default();
        let missing =
            |field: &str| ConnectorsError::invalid(&format!("/{field}"), format!("'{field}' is missing"));
        let server = request.server.ok_or_else(|| missing("server"))?;
        let name = request.name.ok_or_else(|| missing("name"))?;
        check_name(&name)?;
        check_server(&server, self.0.allowed)?;
        let now = Utc::now();
        let mut connector = Connector {
            id: Uuid::new_v4().to_string(),
            name,
            description: request.description.ok_or_else(|| missing("description"))?,
            title: request.title,
            icon_url: request.icon_url,
            system_prompt: request.system_prompt,
            server,
            visibility: request.visibility.unwrap_or(Visibility::SharedWorkspace),
            // Without a word about it, a credential is used if there is one.
            methods: methods.unwrap_or_else(|| vec![Method::Bearer, Method::None]),
            headers: Vec::new(),
            creator: who.user.to_string(),
            workspace: who.workspace.to_string(),
            organization: who.organization.to_string(),
            created_at: now,
            modified_at: now,
            version: 1,
            inactive: Vec::new(),
        };
        let changes = self.set_headers(&mut connector, headers)?;
        self.0.registry.save(&*self.0.records, connector.clone(), changes)?;
        tracing::info!(connector = connector.name, user = %who.user, "a connector was registered");
        Ok(self.wire(&connector, who, false))
    }

    /// The connectors that the caller sees, by name, in pages; the cursor is the last name of the page before.
    pub fn list(
        &self,
        who: &Principal,
        cursor: Option<&str>,
        page_size: usize,
    ) -> Result<Value, ConnectorsError> {
        let mut visible = self.0.registry.visible(who);
        visible.retain(|connector| cursor.is_none_or(|cursor| connector.name.as_str() > cursor));
        let more = visible.len() > page_size;
        visible.truncate(page_size);
        let next = visible.last().filter(|_| more).map(|connector| connector.name.clone());
        let items: Vec<Value> = visible.iter().map(|connector| self.wire(connector, who, false)).collect();
        Ok(json!({ "items": items, "pagination": { "page_size": page_size, "next_cursor": next } }))
    }

    /// One connector, by id or name. With `fetch_user_data`, also the caller's credentials for it.
    pub fn get(
        &self,
        who: &Principal,
        connector: &str,
        fetch_user_data: bool,
    ) -> Result<Value, ConnectorsError> {
        Ok(self.wire(&self.0.registry.find(who, connector)?, who, fetch_user_data))
    }

    /// Changes what is given. A new address makes stored credentials invalid until they are stored again.
    pub async fn update(
        &self,
        who: &Principal,
        connector: &str,
        body: Value,
    ) -> Result<Value, ConnectorsError> {
        let mut changed = self.owned(who, connector)?;
        let request = Request::parse(body)?;
        let (methods, headers) = (request.methods()?, request.common_headers()?);
        if let Some(name) = request.name {
            check_name(&name)?;
            changed.name = name;
        }
        if let Some(server) = request.server {
            check_server(&server, self.0.allowed)?;
            changed.server = server;
        }
        changed.description = request.description.unwrap_or(changed.description);
        changed.title = request.title.or(changed.title);
        changed.icon_url = request.icon_url.or(changed.icon_url);
        changed.system_prompt = request.system_prompt.or(changed.system_prompt);
        changed.visibility = request.visibility.unwrap_or(changed.visibility);
        changed.methods = methods.unwrap_or(changed.methods);
        changed.modified_at = Utc::now();
        changed.version += 1;
        let before = self.0.registry.find(who, connector)?;
        let headers = match headers {
            Some(headers) => headers,
            // What was stored for one server must not be sent to another (THREATS row 10).
            None if changed.origin() != before.origin()
                && before.headers.iter().any(|(_, value)| value.is_none()) =>
            {
                return Err(ConnectorsError::Conflict(
                    "the connector has secret headers for its old address: send the headers again together with the new \
                     address"
                        .into(),
                ));
            }
            // Secret headers are sealed for a version: seal them for the new one.
            None => self.open_headers(&before)?,
        };
        let changes = self.set_headers(&mut changed, headers)?;
        self.0.registry.save(&*self.0.records, changed.clone(), changes)?;
        self.0.sessions.forget(&changed.id);
        Ok(self.wire(&changed, who, false))
    }

    /// Removes a connector with everybody's credentials for it.
    pub fn delete(&self, who: &Principal, connector: &str) -> Result<Value, ConnectorsError> {
        let connector = self.owned(who, connector)?;
        let inner = &self.0;
        inner.credentials.delete_of_connector(&connector, |mut changes| {
            changes.push(Change::Delete { table: crate::vault::TABLE, key: header_key(&connector) });
            inner.registry.remove(&*inner.records, &connector.id, changes)
        })?;
        inner.sessions.forget(&connector.id);
        Ok(message(format!("connector '{}' was deleted", connector.name)))
    }

    fn owned(&self, who: &Principal, connector: &str) -> Result<Connector, ConnectorsError> {
        let found = self.0.registry.find(who, connector)?;
        match found.creator == who.user.as_str() {
            true => Ok(found),
            false => Err(ConnectorsError::Forbidden(format!(
                "connector '{}' belongs to {}: only they can change or delete it",
                found.name, found.creator
            ))),
        }
    }

    /// The tools of a connector: `MCPTool`s, or with `pretty` only what people read.
    pub async fn list_tools(
        &self,
        who: &Principal,
        connector: &str,
        credentials_name: Option<&str>,
        refresh: bool,
        pretty: bool,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.find(who, connector)?;
        let tools = self.session(&connector, who, credentials_name).await?.tools(refresh).await?;
        if !pretty {
            return Ok(tools.list.clone().into());
        }
        let keys = ["name", "description", "annotations", "inputSchema"];
        let trimmed = tools.list.iter().map(|tool| {
            let fields = keys.iter().filter(|key| !tool[**key].is_null());
            fields.map(|key| ((*key).to_owned(), tool[*key].clone())).collect::<Map<_, _>>().into()
        });
        Ok(trimmed.collect::<Vec<Value>>().into())
    }

    /// Calls a tool; the answer is a `ConnectorToolCallResponse`. A tool that fails says so in the answer.
    pub async fn call_tool(
        &self,
        who: &Principal,
        connector: &str,
        tool: &str,
        arguments: Value,
        credentials_name: Option<&str>,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.find(who, connector)?;
        self.call(&connector, who, tool, arguments, credentials_name, None).await
    }

    pub(crate) async fn call(
        &self,
        connector: &Connector,
        who: &Principal,
        tool: &str,
        arguments: Value,
        credentials_name: Option<&str>,
        idempotency_key: Option<&str>,
    ) -> Result<Value, ConnectorsError> {
        let session = self.session(connector, who, credentials_name).await?;
        session.tools(false).await?.check(&connector.name, tool, &arguments)?;
        let Value::Object(arguments) = arguments else {
            return Err(ConnectorsError::invalid("/arguments", "the arguments of a tool are a JSON object"));
        };
        session.call(tool, arguments, idempotency_key).await
    }

    pub(crate) fn find(&self, who: &Principal, connector: &str) -> Result<Connector, ConnectorsError> {
        self.0.registry.find(who, connector)
    }

    /// An open session for the caller: with the credential that resolves for them, or without one if that is allowed.
    pub(crate) async fn session(
        &self,
        connector: &Connector,
        who: &Principal,
        name: Option<&str>,
    ) -> Result<Arc<Session>, ConnectorsError> {
        if !connector.is_active_for(who) {
            let message = format!("connector '{}' is not active here: activate it first", connector.name);
            return Err(ConnectorsError::Forbidden(message));
        }
        let resolved = self.0.credentials.resolve(connector, who, name)?;
        if resolved.is_none() && !connector.allows(Method::None) {
            return Err(ConnectorsError::Unauthorized(bearer_required(&connector.name)));
        }
        let version = resolved.as_ref().map(|(key, credential)| (key.clone(), credential.version));
        let key = (connector.id.clone(), connector.version, version);
        self.0.sessions.get(&key, || self.opening(connector, resolved)).await
    }

    fn opening(
        &self,
        connector: &Connector,
        resolved: Option<(String, Credential)>,
    ) -> Result<Opening, ConnectorsError> {
        // Its address was checked when it was registered; what the operator allows may have changed since.
        check_server(&connector.server, self.0.allowed)?;
        let (secret, credential) = match resolved {
            None => (Secret::none(), None),
            Some((key, credential)) => {
                (self.open_secret(connector, &key, &credential)?, Some(credential.name))
            }
        };
        let common: Vec<_> = self
            .open_headers(connector)?
            .into_iter()
            .map(|(name, value, is_secret)| (name, SecretString::from(value), is_secret))
            .collect();
        let (sender, scrubber) = Sender::new(self.0.client.clone(), &connector.server, secret, &common)?;
        Ok(Opening {
            connector: connector.name.clone(),
            host: connector.host(),
            credential,
            sender,
            scrubber,
        })
    }

    /// A credential goes to the origin that it was stored for and nowhere else (THREATS row 10).
    fn open_secret(
        &self,
        connector: &Connector,
        key: &str,
        credential: &Credential,
    ) -> Result<Secret, ConnectorsError> {
        if credential.origin != connector.origin() {
            return Err(ConnectorsError::Unauthorized(format!(
                "the address of connector '{0}' has changed since credential '{1}' was stored: store it again with \
                 `airlock credentials set {0} {1}`",
                connector.name, credential.name
            )));
        }
        let place = credential.place(connector, key);
        Secret::from_bytes(&self.0.vault.get(&*self.0.records, key, &place)?)
    }

    /// Puts the headers of a connector where they belong: secret values into the vault.
    fn set_headers(
        &self,
        connector: &mut Connector,
        headers: Headers,
    ) -> Result<Vec<Change>, ConnectorsError> {
        let key = header_key(connector);
        connector.headers = headers
            .iter()
            .map(|(name, value, secret)| (name.clone(), (!secret).then(|| value.clone())))
            .collect();
        let secrets = headers.into_iter().filter(|(.., is_secret)| *is_secret);
        let secret =
            Secret { bearer: None, headers: secrets.map(|(name, value, _)| (name, value.into())).collect() };
        if secret.headers.is_empty() {
            return Ok(vec![Change::Delete { table: crate::vault::TABLE, key }]);
        }
        let place = header_place(connector, &key);
        Ok(vec![self.0.vault.put(&key, &place, &secret.to_bytes()?)])
    }

    fn open_headers(&self, connector: &Connector) -> Result<Headers, ConnectorsError> {
        use secrecy::ExposeSecret;
        let plain =
            connector.headers.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?, false)));
        let mut headers: Vec<_> = plain.collect();
        if connector.headers.iter().any(|(_, value)| value.is_none()) {
            let key = header_key(connector);
            let place = header_place(connector, &key);
            let secret = Secret::from_bytes(&self.0.vault.get(&*self.0.records, &key, &place)?)?;
            let open = |(name, value): (String, SecretString)| (name, value.expose_secret().to_owned(), true);
            headers.extend(secret.headers.into_iter().map(open));
        }
        Ok(headers)
    }

    /// `PublicAuthenticationMethod`s.
    pub fn authentication_methods(&self, who: &Principal, connector: &str) -> Result<Value, ConnectorsError> {
        Ok(self.methods(&self.0.registry.find(who, connector)?, who))
    }

    fn methods(&self, connector: &Connector, who: &Principal) -> Value {
        let has_default = matches!(self.0.credentials.resolve(connector, who, None), Ok(Some(_)));
        let header = |(name, value): &(String, Option<String>)| {
            let shown = value.clone().unwrap_or_else(|| "********".into());
            (name.clone(), json!({ "value": shown, "is_secret": value.is_none() }))
        };
        let headers: Map<String, Value> = connector.headers.iter().map(header).collect();
        let describe = |method: &Method| {
            json!({ "method_type": method.as_str(), "headers": null, "global_headers": headers,
                "has_default_credentials": has_default && *method == Method::Bearer })
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
        Ok(json!({ "credentials": credentials, "connector_preset_credentials_for_auth": [] }))
    }

    /// Stores or changes a credential (`CredentialsCreateOrUpdate`).
    pub fn save_credentials(
        &self,
        who: &Principal,
        connector: &str,
        scope: Scope,
        body: Value,
        mode: Save,
    ) -> Result<Value, ConnectorsError> {
        let (inner, connector) = (&self.0, self.0.registry.find(who, connector)?);
        let name =
            inner.credentials.save(&*inner.records, &inner.vault, &connector, scope, who, body, mode)?;
        tracing::info!(connector = connector.name, credential = name, user = %who.user, "a credential was stored");
        // Nobody may be waiting for it.
        let _ = inner.landed.send(connector.id.clone());
        Ok(message(format!("credential '{name}' was stored for connector '{}'", connector.name)))
    }

    /// Deletes a credential and the key that its secret was sealed with.
    pub fn delete_credentials(
        &self,
        who: &Principal,
        connector: &str,
        scope: Scope,
        name: &str,
    ) -> Result<Value, ConnectorsError> {
        let (inner, connector) = (&self.0, self.0.registry.find(who, connector)?);
        inner.credentials.delete(&*inner.records, &connector, scope, who, name)?;
        inner.sessions.forget(&connector.id);
        Ok(message(format!("credential '{name}' of connector '{}' was deleted", connector.name)))
    }

    /// Deletes all credentials of the caller for a connector.
    pub fn delete_all_credentials(&self, who: &Principal, connector: &str) -> Result<Value, ConnectorsError> {
        let (inner, connector) = (&self.0, self.0.registry.find(who, connector)?);
        let count = inner.credentials.delete_all(&*inner.records, &connector, who)?;
        inner.sessions.forget(&connector.id);
        Ok(message(format!("{count} credentials of connector '{}' were deleted", connector.name)))
    }

    /// Switches a connector on or off for a scope.
    pub fn set_active(
        &self,
        who: &Principal,
        connector: &str,
        scope: Scope,
        active: bool,
    ) -> Result<Value, ConnectorsError> {
        let mut connector = self.0.registry.find(who, connector)?;
        let key = scope.key(who);
        connector.inactive.retain(|inactive| *inactive != key);
        if !active {
            connector.inactive.push(key);
        }
        let text =
            format!("connector '{}' is {}", connector.name, if active { "active" } else { "not active" });
        self.0.registry.save(&*self.0.records, connector, Vec::new())?;
        Ok(message(text))
    }

    fn wire(&self, connector: &Connector, who: &Principal, with_credentials: bool) -> Value {
        let mut value = connector.wire(who);
        value["supported_auth_methods"] = self.methods(connector, who);
        let credential = self.0.credentials.resolve(connector, who, None);
        value["is_authenticated"] =
            (connector.allows(Method::None) || matches!(credential, Ok(Some(_)))).into();
        if with_credentials {
            let own = self.0.credentials.of(connector, Scope::User, who);
            let shown: Vec<Value> = own.iter().map(|credential| credential.wire(connector)).collect();
            value["connection_credentials"] = shown.into();
        }
        value
    }
}

/// The words of contract/preflight.md.
pub(crate) fn bearer_required(connector: &str) -> String {
    format!(
        "Connector '{connector}' requires bearer authentication but no credentials are configured. Create credentials \
         for this connector before running the workflow."
    )
}

fn header_key(connector: &Connector) -> String {
    format!("{}/headers", connector.id)
}

fn header_place(connector: &Connector, key: &str) -> String {
    format!("{}|{key}|{}|{}", connector.organization, connector.version, connector.origin())
}

fn message(text: String) -> Value {
    json!({ "message": text })
}
