//! Registering connectors and changing them (contract §3.1, §11.1).

use std::sync::Arc;

use airlock_engine::{Principal, records::Change};
use chrono::Utc;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use crate::{
    Connectors, ConnectorsError, Scope,
    audit::{Event, Kind},
    control::Control,
    credentials::check_header,
    egress::secret::{CommonHeader, Secret},
    facade::message,
    oauth::Server,
    registry::method::{Grant, Method, MethodKind, OAuth},
    registry::{ApiSource, Connector, Protocol, Visibility, check_name, check_server},
    rest, vault,
};

/// `CreateConnectorRequest`, `CreateHTTPConnectorRequest` and their updates, of all generations of the client.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Request {
    name: Option<String>,
    description: Option<String>,
    server: Option<String>,
    title: Option<String>,
    icon_url: Option<String>,
    visibility: Option<Visibility>,
    protocol: Option<Protocol>,
    system_prompt: Option<String>,
    headers: Option<Map<String, Value>>,
    global_headers: Option<Map<String, Value>>,
    auth_methods: Option<Vec<Value>>,
    auth_data: Option<Value>,
    oauth2_server_metadata: Option<Value>,
    oauth2_server_metadata_url: Option<String>,
    connection_config: Option<Value>,
    connection_secrets: Option<Value>,
    /// Ours: a list of operations of a REST API.
    operations: Option<Value>,
    /// Ours: the address of an OpenAPI document.
    openapi_url: Option<String>,
    /// Ours: others are made from it.
    is_template: Option<bool>,
    /// Ours: the name of a template to make it from.
    template: Option<String>,
    /// Ours: what it may do.
    control: Option<Value>,
}

/// How one authenticates, with what goes into the vault.
struct Methods {
    methods: Vec<Method>,
    /// The secret of a client that was registered beforehand.
    client_secret: Option<SecretString>,
}

impl Request {
    fn parse(body: Value) -> Result<Self, ConnectorsError> {
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

    /// Headers for every request; what is not marked as harmless is taken for a secret.
    fn common_headers(&self) -> Result<Option<Vec<CommonHeader>>, ConnectorsError> {
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
}

impl Connectors {
    /// The methods that a request names; `None` if it names none.
    async fn requested_methods(&self, request: &Request) -> Result<Option<Methods>, ConnectorsError> {
        let allowed = self.0.egress.allowed();
        let server = |metadata: &Value, at: &str| {
            // It says where in the metadata the flaw is.
            let before = at.strip_suffix("/oauth2_server_metadata").unwrap_or_default();
            Server::provided(metadata, allowed).map_err(|error| error.under(before))
        };
        let mut given = match (&request.oauth2_server_metadata, &request.oauth2_server_metadata_url) {
            (Some(metadata), _) if !metadata.is_null() => Some(server(metadata, "/oauth2_server_metadata")?),
            (_, Some(url)) => {
                let fetched = Server::fetched(url, &*self.0.exchange, allowed).await;
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
        if (data.is_some() || given.is_some()) && !methods.iter().any(|m| m.kind() == MethodKind::Oauth2) {
            let value = json!({ "method_type": "oauth2", "auth_data": data });
            methods.push(Method::parse(&value, "", &server)?);
        }
        if let Some(data) = data {
            client_secret = data["client_secret"].as_str().map(SecretString::from).or(client_secret);
        }
        for method in &mut methods {
            if let Method::Oauth2(oauth) = method
                && oauth.server.is_none()
                && given.is_some()
            {
                (oauth.server, oauth.server_given) = (given.take(), true);
            }
        }
        Ok((!methods.is_empty()).then_some(Methods { methods, client_secret }))
    }

    /// Registers a connector; the answer is an `MCPConnector` or an `HTTPConnector`.
    pub async fn create(
        &self,
        who: &Principal,
        is_owner: bool,
        body: Value,
    ) -> Result<Value, ConnectorsError> {
        let request = Request::parse(body)?;
        let headers = request.common_headers()?.unwrap_or_default();
        let requested = self.requested_methods(&request).await?;
        let missing =
            |field: &str| ConnectorsError::invalid(&format!("/{field}"), format!("'{field}' is missing"));
        let name = request.name.clone().ok_or_else(|| missing("name"))?;
        check_name(&name)?;
        let template = match &request.template {
            None => None,
            Some(template) => Some(self.template(who, template)?),
        };
        let protocol = match &template {
            Some(_) => Protocol::Http,
            None => request.protocol.unwrap_or(Protocol::Mcp),
        };
        let document = match &request.openapi_url {
            None => None,
            Some(url) => Some((self.fetch_document(url).await?, url)),
        };
        let named = match &document {
            Some((document, url)) if request.server.is_none() => {
                rest::server_of(document, Url::parse(url).ok().as_ref())?
            }
            _ => None,
        };
        let server = (request.server.clone())
            .or_else(|| template.as_ref().map(|template| template.server.clone()))
            .or(named)
            .ok_or_else(|| missing("server"))?;
        check_server(&server, self.0.egress.allowed())?;
        let description = (request.description.clone())
            .or_else(|| template.as_ref().map(|template| template.description.clone()))
            .ok_or_else(|| missing("description"))?;
        let visibility = request.visibility.unwrap_or(Visibility::SharedWorkspace);
        shared_headers_need_owner(visibility, &headers, is_owner)?;
        let control = request.control.clone().map(Control::parse).transpose()?.unwrap_or_default();
        let now = Utc::now();
        let mut connector = Connector {
            id: Uuid::new_v4().to_string(),
            name,
            description,
            title: request.title.clone(),
            icon_url: request.icon_url.clone(),
            system_prompt: request.system_prompt.clone(),
            protocol,
            server,
            visibility,
            methods_given: requested.is_some(),
            methods: Vec::new(),
            headers: Vec::new(),
            creator: who.user.to_string(),
            workspace: who.workspace.to_string(),
            organization: who.organization.to_string(),
            created_at: now,
            modified_at: now,
            version: 1,
            inactive: Vec::new(),
            control,
            api: template
                .as_ref()
                .and_then(|template| Some(ApiSource { is_template: false, ..template.api.clone()? })),
        };
        let mut changes = Vec::new();
        match requested {
            Some(Methods { methods, client_secret }) => {
                connector.methods = methods;
                changes.extend(self.client_change(&connector, client_secret)?);
            }
            None => connector.methods = template.as_ref().map_or_else(unknown, |t| t.methods.clone()),
        }
        changes.extend(self.set_headers(&mut connector, headers)?);
        if let Some(operations) = &request.operations {
            if protocol != Protocol::Http {
                let message = "operations belong to connectors with protocol 'http'";
                return Err(ConnectorsError::invalid("/operations", message));
            }
            let made = self.by_hand(&mut connector, operations, request.is_template);
            changes.extend(made.map_err(|error| error.under("/operations"))?);
        }
        if let Some((document, url)) = &document {
            let (imported, skipped) =
                self.imported(&mut connector, document, Some(url), request.is_template).await?;
            tracing::info!(connector = connector.name, skipped = skipped.len(), "a document was imported");
            changes.extend(imported);
        }
        let connector = self.0.registry.save(&*self.0.records, connector, changes)?;
        tracing::info!(connector = connector.name, user = %who.user, "a connector was registered");
        self.note(who, Kind::ConnectorCreated, &connector)?;
        let connector = match connector.methods_given || connector.protocol == Protocol::Http {
            true => connector,
            false => self.find_out_methods(&connector).await,
        };
        Ok(self.wire(&connector, who, false))
    }

    /// A connector that others can be made from.
    fn template(&self, who: &Principal, name: &str) -> Result<Arc<Connector>, ConnectorsError> {
        let found = self.0.registry.find(who, name)?;
        match &found.api {
            Some(api) if api.is_template => Ok(found),
            _ => Err(ConnectorsError::invalid(
                "/template",
                format!("connector '{name}' is not a template: register one with is_template"),
            )),
        }
    }

    /// The connectors that the caller sees, by name, in pages; the cursor is the last name of the page before.
    pub fn list(
        &self,
        who: &Principal,
        cursor: Option<&str>,
        page_size: usize,
        supports_mcp: Option<bool>,
        active: Option<bool>,
    ) -> Result<Value, ConnectorsError> {
        let mut visible = self.0.registry.visible(who);
        visible.retain(|connector| {
            cursor.is_none_or(|cursor| connector.name.as_str() > cursor)
                && supports_mcp.is_none_or(|wanted| wanted == (connector.protocol == Protocol::Mcp))
                && active.is_none_or(|wanted| wanted == connector.is_active_for(who))
        });
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
        Ok(self.wire(&*self.0.registry.find(who, connector)?, who, fetch_user_data))
    }

    /// Changes what is given. A new address makes stored credentials invalid until they are stored again.
    pub async fn update(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
        body: Value,
    ) -> Result<Value, ConnectorsError> {
        let found = self.owned(who, is_owner, connector)?;
        let request = Request::parse(body)?;
        let protocol = request.protocol.unwrap_or(found.protocol);
        if protocol != found.protocol {
            let message = "the protocol of a connector does not change: register another one";
            return Err(ConnectorsError::Conflict(message.into()));
        }
        let headers = request.common_headers()?;
        let requested = self.requested_methods(&request).await?;
        let control = request.control.clone().map(Control::parse).transpose()?;
        if let Some(name) = &request.name {
            check_name(name)?;
        }
        if let Some(server) = &request.server {
            check_server(server, self.0.egress.allowed())?;
        }
        if let Some(headers) = &headers {
            shared_headers_need_owner(request.visibility.unwrap_or(found.visibility), headers, is_owner)?;
        }
        let connector = self.0.registry.change(&*self.0.records, &found.id, |changed| {
            let before = changed.clone();
            changed.name = request.name.unwrap_or_else(|| before.name.clone());
            changed.server = request.server.unwrap_or_else(|| before.server.clone());
            changed.description = request.description.unwrap_or_else(|| before.description.clone());
            changed.title = request.title.or(changed.title.take());
            changed.icon_url = request.icon_url.or(changed.icon_url.take());
            changed.system_prompt = request.system_prompt.or(changed.system_prompt.take());
            changed.visibility = request.visibility.unwrap_or(changed.visibility);
            changed.control = control.unwrap_or_else(|| before.control.clone());
            changed.modified_at = Utc::now();
            changed.version += 1;
            let moved = changed.origin() != before.origin();
            let mut changes = Vec::new();
            match requested {
                Some(Methods { methods, client_secret }) => {
                    (changed.methods, changed.methods_given) = (methods, true);
                    changes.extend(self.client_change(changed, client_secret)?);
                }
                // What was found out about one server says nothing about another.
                None if moved && !changed.methods_given => changed.methods = unknown(),
                None if changed.server != before.server => forget_discovered(&mut changed.methods),
                None => {}
            }
            let has_secret = before.headers.iter().any(|(_, value)| value.is_none());
            let headers = match headers {
                Some(headers) => headers,
                // What was stored for one server must not be sent to another (THREATS row 10).
                None if moved && has_secret => {
                    return Err(ConnectorsError::Conflict(
                        "the connector has secret headers for its old address: send the headers again together with the \
                         new address"
                            .into(),
                    ));
                }
                // Secret headers are sealed for a version: seal them for the new one.
                None => self.open_headers(&before)?,
            };
            changes.extend(self.set_headers(changed, headers)?);
            Ok(changes)
        })?;
        self.forget(&connector.id);
        self.note(who, Kind::ConnectorChanged, &connector)?;
        let connector = match connector.methods_given || connector.protocol == Protocol::Http {
            true => connector,
            false => self.find_out_methods(&connector).await,
        };
        Ok(self.wire(&connector, who, false))
    }

    /// Says what a connector may do (docs/connectors.md, rules), or shows it.
    pub fn control(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
        body: Option<Value>,
    ) -> Result<Value, ConnectorsError> {
        let Some(body) = body else {
            return Ok(serde_json::to_value(&self.0.registry.find(who, connector)?.control)?);
        };
        let control = Control::parse(body)?;
        let found = self.owned(who, is_owner, connector)?;
        let changed = self.0.registry.change(&*self.0.records, &found.id, |changed| {
            changed.control = control;
            changed.modified_at = Utc::now();
            Ok(Vec::new())
        })?;
        self.note(who, Kind::ControlChanged, &changed)?;
        Ok(serde_json::to_value(&changed.control)?)
    }

    /// Removes a connector with everybody's credentials for it. Tokens are revoked at their server where it can be done.
    pub async fn delete(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
    ) -> Result<Value, ConnectorsError> {
        let (inner, connector) = (&self.0, self.owned(who, is_owner, connector)?);
        let is_made_from_it = |other: &Connector| {
            other.id != connector.id && other.api.as_ref().is_some_and(|api| api.owner == connector.id)
        };
        let made = inner.registry.ids().into_iter().filter_map(|id| inner.registry.by_id(&id));
        if let Some(other) = made.into_iter().find(|other| is_made_from_it(other)) {
            return Err(ConnectorsError::Conflict(format!(
                "connector '{}' was made from '{}': remove it first",
                other.name, connector.name
            )));
        }
        let prefix = format!("{}/", connector.id);
        let all = inner.credentials.all();
        for (key, credential) in all.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            if let Ok(secret) = self.open_secret(&connector, key, credential) {
                self.revoke(&connector, credential, secret).await;
            }
        }
        inner.credentials.delete_of_connector(&connector, |mut changes| {
            for key in [header_key(&connector), client_key(&connector)] {
                changes.push(Change::Delete { table: vault::TABLE, key });
            }
            changes.extend(inner.pins.deletion(&connector.id));
            changes.extend(inner.mocks.deletion(&connector.id));
            changes.extend(self.forget_api(&connector)?);
            inner.registry.remove(&*inner.records, &connector.id, changes)
        })?;
        self.forget(&connector.id);
        inner.pins.forget(&connector.id);
        inner.mocks.forget(&connector.id);
        inner.limits.forget(&connector.id);
        inner.breakers.forget(&connector.id);
        self.landed(&connector);
        self.note(who, Kind::ConnectorDeleted, &connector)?;
        Ok(message(format!("connector '{}' was deleted", connector.name)))
    }

    /// Changes who sees a connector. Only its creator may. What becomes private drops the credentials of the others.
    pub async fn share(
        &self,
        who: &Principal,
        connector: &str,
        visibility: Sharing,
    ) -> Result<Value, ConnectorsError> {
        let (inner, found) = (&self.0, self.owned(who, false, connector)?);
        let (from, to) = match visibility {
            Sharing::Workspace => (Visibility::Private, Visibility::SharedWorkspace),
            Sharing::Organization => (found.visibility, Visibility::SharedOrg),
            Sharing::NotInWorkspace => (Visibility::SharedWorkspace, Visibility::Private),
            Sharing::NotInOrganization => (Visibility::SharedOrg, Visibility::Private),
        };
        if found.visibility == to {
            return Ok(message(format!("connector '{}' is {} already", found.name, word(to))));
        }
        if found.visibility != from {
            return Err(ConnectorsError::Conflict(format!(
                "connector '{}' is {}, so this does not apply",
                found.name,
                word(found.visibility)
            )));
        }
        if to == Visibility::Private {
            let prefix = format!("{}/", found.id);
            let own = format!("{}/{}/", found.id, Scope::User.key(who));
            for (key, credential) in inner.credentials.all() {
                if key.starts_with(&prefix)
                    && !key.starts_with(&own)
                    && let Ok(secret) = self.open_secret(&found, &key, &credential)
                {
                    self.revoke(&found, &credential, secret).await;
                }
            }
            inner.credentials.delete_others(&*inner.records, &prefix, &own)?;
        }
        let changed = inner.registry.change(&*inner.records, &found.id, |changed| {
            changed.visibility = to;
            changed.modified_at = Utc::now();
            Ok(Vec::new())
        })?;
        self.forget(&changed.id);
        self.note(who, Kind::ConnectorChanged, &changed)?;
        Ok(message(format!("connector '{}' is {} now", changed.name, word(to))))
    }

    /// Switches a connector on or off for a scope.
    pub fn set_active(
        &self,
        who: &Principal,
        connector: &str,
        scope: Scope,
        active: bool,
    ) -> Result<Value, ConnectorsError> {
        let found = self.0.registry.find(who, connector)?;
        let key = scope.key(who);
        let changed = self.0.registry.change(&*self.0.records, &found.id, |changed| {
            changed.inactive.retain(|inactive| *inactive != key);
            if !active {
                changed.inactive.push(key);
            }
            Ok(Vec::new())
        })?;
        self.note(who, Kind::ConnectorChanged, &changed)?;
        let state = if active { "active" } else { "not active" };
        Ok(message(format!("connector '{}' is {state}", changed.name)))
    }

    /// The connector, if the caller made it or is an owner.
    pub(crate) fn owned(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
    ) -> Result<Arc<Connector>, ConnectorsError> {
        let found = self.0.registry.find(who, connector)?;
        match is_owner || found.creator == who.user.as_str() {
            true => Ok(found),
            false => Err(ConnectorsError::Forbidden(format!(
                "connector '{}' belongs to {}: only they and owners can change or delete it",
                found.name, found.creator
            ))),
        }
    }

    /// Puts the headers of a connector where they belong: secret values into the vault.
    pub(crate) fn set_headers(
        &self,
        connector: &mut Connector,
        headers: Vec<CommonHeader>,
    ) -> Result<Vec<Change>, ConnectorsError> {
        let key = header_key(connector);
        let plain =
            |header: &CommonHeader| (!header.is_secret).then(|| header.value.expose_secret().to_owned());
        connector.headers = headers.iter().map(|header| (header.name.clone(), plain(header))).collect();
        let secrets = headers.into_iter().filter(|header| header.is_secret);
        let headers = secrets.map(|header| (header.name, header.value)).collect();
        let secret = Secret { headers, ..Secret::default() };
        if secret.headers.is_empty() {
            return Ok(vec![Change::Delete { table: vault::TABLE, key }]);
        }
        let place = header_place(connector, &key);
        Ok(vec![self.0.vault.put(&key, &place, &secret.to_bytes()?)])
    }

    pub(crate) fn open_headers(&self, connector: &Connector) -> Result<Vec<CommonHeader>, ConnectorsError> {
        let plain = connector.headers.iter().filter_map(|(name, value)| {
            let value = value.clone()?.into();
            Some(CommonHeader { name: name.clone(), value, is_secret: false })
        });
        let mut headers: Vec<_> = plain.collect();
        if connector.headers.iter().any(|(_, value)| value.is_none()) {
            let key = header_key(connector);
            let place = header_place(connector, &key);
            let secret = Secret::from_bytes(&self.0.vault.get(&*self.0.records, &key, &place)?)?;
            let secrets = secret.headers.into_iter();
            headers.extend(secrets.map(|(name, value)| CommonHeader { name, value, is_secret: true }));
        }
        Ok(headers)
    }

    /// Writes an act down.
    pub(crate) fn note(
        &self,
        who: &Principal,
        kind: Kind,
        connector: &Connector,
    ) -> Result<(), ConnectorsError> {
        self.write_down(Event {
            connector_id: Some(connector.id.clone()),
            connector: Some(connector.name.clone()),
            ..Event::by(kind, who)
        })
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
    };
    vec![Method::Oauth2(Box::new(oauth)), Method::Bearer { headers: Vec::new() }]
}

/// Where one authorises for another address is not known any more, unless somebody said it (THREATS row 10).
fn forget_discovered(methods: &mut [Method]) {
    for method in methods {
        if let Method::Oauth2(oauth) = method
            && !oauth.server_given
        {
            (oauth.server, oauth.challenged) = (None, Vec::new());
        }
    }
}

/// Who shall see a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody in the workspace.
    Workspace,
    /// Everybody in the organisation.
    Organization,
    /// Its creator, no longer the workspace.
    NotInWorkspace,
    /// Its creator, no longer the organisation.
    NotInOrganization,
}

fn word(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::SharedOrg => "shared in the organisation",
        Visibility::SharedWorkspace => "shared in the workspace",
        Visibility::Private => "private",
    }
}

/// Headers come before every credential, so only an owner puts them into what others use (THREATS row 7).
fn shared_headers_need_owner(
    visibility: Visibility,
    headers: &[CommonHeader],
    is_owner: bool,
) -> Result<(), ConnectorsError> {
    match visibility != Visibility::Private && !headers.is_empty() && !is_owner {
        false => Ok(()),
        true => Err(ConnectorsError::Forbidden(
            "headers of a shared connector go with everybody's calls: this needs a key with the role 'owner', or \
             visibility 'private'"
                .into(),
        )),
    }
}

pub(crate) fn header_key(connector: &Connector) -> String {
    format!("{}/headers", connector.id)
}

pub(crate) fn header_place(connector: &Connector, key: &str) -> String {
    format!("{}|{key}|{}|{}", connector.organization, connector.version, connector.origin())
}

pub(crate) fn client_key(connector: &Connector) -> String {
    format!("{}/client", connector.id)
}
