//! Registering connectors and changing them (contract §3.1, §11.1).

use std::sync::Arc;

use airlock_engine::Principal;
use chrono::Utc;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::{
    Connector, Protocol, Registry, Visibility, With,
    apis::{self, Told},
    check_name, check_server, client, headers,
    method::{forget_discovered, unknown},
    request::{Methods, Request},
    switches,
};
use crate::{ConnectorsError, control::Control, rest};

impl Registry {
    /// Registers a connector, and says what of a document was left out.
    pub(crate) async fn create(
        &self,
        with: With<'_>,
        who: &Principal,
        is_owner: bool,
        body: Value,
    ) -> Result<(Arc<Connector>, Option<Told>), ConnectorsError> {
        let request = Request::parse(body)?;
        let headers = request.common_headers()?.unwrap_or_default();
        let requested = request.methods(with.egress, true).await?;
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
            Some(url) => Some((apis::fetch(with.egress, url).await?, url)),
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
        check_server(&server, with.egress.allowed())?;
        let description = (request.description.clone())
            .or_else(|| template.as_ref().map(|template| template.description.clone()))
            .ok_or_else(|| missing("description"))?;
        // What members register is theirs, unless they say that it is for others.
        let usual = if is_owner { Visibility::SharedWorkspace } else { Visibility::Private };
        let visibility = request.visibility.unwrap_or(usual);
        headers::shared_need_owner(visibility, &headers, is_owner)?;
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
            // A document may still say more than a way round for OAuth.
            methods_given: requested
                .as_ref()
                .is_some_and(|requested| protocol == Protocol::Mcp || !requested.is_word),
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
            api: None,
        };
        let (mut changes, mut told) = (Vec::new(), None);
        if let Some(template) = &template {
            changes.extend(apis::copied(with.records, template, &mut connector)?);
        }
        match requested {
            Some(Methods { methods, client_secret, is_word }) => {
                connector.methods = match &template {
                    Some(template) if is_word => apis::with_word(template.methods.clone(), methods),
                    _ => methods,
                };
                changes.push(client::seal(with.vault, &connector, client_secret)?);
            }
            None => connector.methods = template.as_ref().map_or_else(unknown, |t| t.methods.clone()),
        }
        changes.extend(headers::seal(with.vault, &mut connector, headers)?);
        if let Some(operations) = &request.operations {
            if protocol != Protocol::Http {
                let message = "operations belong to connectors with protocol 'http'";
                return Err(ConnectorsError::invalid("/operations", message));
            }
            let made = apis::by_hand(with.records, &mut connector, operations, request.is_template);
            changes.extend(made.map_err(|error| error.under("/operations"))?);
        }
        if let Some((document, url)) = &document {
            let (imported, said) =
                apis::imported(with, &mut connector, document, Some(url), request.is_template).await?;
            changes.extend(imported);
            told = Some(said);
        }
        let connector = self.save(with.records, connector, is_owner, changes)?;
        tracing::info!(connector = connector.name, user = %who.user, "a connector was registered");
        Ok((connector, told))
    }

    /// A connector that others can be made from.
    fn template(&self, who: &Principal, name: &str) -> Result<Arc<Connector>, ConnectorsError> {
        let found = self.find(who, name)?;
        match &found.api {
            Some(api) if api.is_template => Ok(found),
            _ => Err(ConnectorsError::invalid(
                "/template",
                format!("connector '{name}' is not a template: register one with is_template (--template)"),
            )),
        }
    }

    /// Changes what is given. A new address makes stored credentials invalid until they are stored again.
    pub(crate) async fn update(
        &self,
        with: With<'_>,
        who: &Principal,
        is_owner: bool,
        connector: &str,
        body: Value,
    ) -> Result<Arc<Connector>, ConnectorsError> {
        let found = self.owned(who, is_owner, connector)?;
        let request = Request::parse(body)?;
        let protocol = request.protocol.unwrap_or(found.protocol);
        if protocol != found.protocol {
            let message = "the protocol of a connector does not change: register another one";
            return Err(ConnectorsError::Conflict(message.into()));
        }
        let headers = request.common_headers()?;
        let requested = request.methods(with.egress, false).await?;
        let switches = request.switches()?;
        let control = request.control.clone().map(Control::parse).transpose()?;
        if let Some(name) = &request.name {
            check_name(name)?;
        }
        if let Some(server) = &request.server {
            check_server(server, with.egress.allowed())?;
        }
        if let Some(headers) = &headers {
            headers::shared_need_owner(request.visibility.unwrap_or(found.visibility), headers, is_owner)?;
        }
        self.change_as(with.records, &found.id, is_owner, |changed| {
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
            let moved = changed.base() != before.base();
            let mut changes = Vec::new();
            // What a request says of a method in the method itself stays.
            let is_old = requested.is_none();
            match requested {
                Some(Methods { methods, client_secret, .. }) => {
                    (changed.methods, changed.methods_given) = (methods, true);
                    changes.push(client::seal(with.vault, changed, client_secret)?);
                }
                // What was found out about one server says nothing about another.
                None if moved && client::is_sealed(with.records, &before)? => {
                    return Err(ConnectorsError::Conflict(
                        "the connector has a client's secret for its old address: send auth_methods again together with the \
                         new address"
                            .into(),
                    ));
                }
                None if moved && !changed.methods_given => changed.methods = unknown(),
                None if changed.server != before.server => forget_discovered(&mut changed.methods),
                None => {}
            }
            switches::change(changed, moved && is_old, &switches)?;
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
                None => headers::open(with.records, with.vault, &before)?,
            };
            changes.extend(headers::seal(with.vault, changed, headers)?);
            Ok(changes)
        })
    }

    /// The connector, if the caller made it or is an owner.
    pub(crate) fn owned(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
    ) -> Result<Arc<Connector>, ConnectorsError> {
        let found = self.find(who, connector)?;
        match is_owner || found.creator == who.user.as_str() {
            true => Ok(found),
            false => Err(ConnectorsError::Forbidden(format!(
                "connector '{}' belongs to {}: only they and owners can change or delete it",
                found.name, found.creator
            ))),
        }
    }
}
