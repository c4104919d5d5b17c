//! Registering connectors, changing them, and who sees them.

use std::{collections::HashSet, sync::Arc};

use airlock_engine::{Principal, records::Change};
use async_recursion::async_recursion as boxed;
use chrono::Utc;
use serde_json::{Map, Value, json};

use super::{
    Connectors, message,
    rules::{may_approve, tell_waiting},
};
use crate::{
    ConnectorsError,
    audit::Kind,
    credentials::State,
    error::wording::count,
    protocol::steps::Step,
    registry::{
        Connector, Protocol, Visibility, client, headers,
        method::{Method, MethodKind},
        place,
        scope::Scope,
        sharing::{Sharing, word},
    },
    vault,
};

impl Connectors {
    /// Registers a connector; the answer is an `MCPConnector` or an `HTTPConnector`.
    #[boxed]
    pub async fn create(
        &self,
        who: &Principal,
        is_owner: bool,
        body: Value,
    ) -> Result<Value, ConnectorsError> {
        let template = body["template"].as_str().and_then(|name| self.0.registry.find(who, name).ok());
        if let Some(template) = &template {
            self.0.calls.review(template)?;
        }
        let (connector, told) = self.0.registry.create(self.0.with(), who, is_owner, body).await?;
        self.note(who, Kind::ConnectorCreated, &connector)?;
        let waiting = self.0.calls.review_copies(&connector, template.as_deref())?;
        let mut answer = self.found_out(connector, who).await;
        tell_waiting(&mut answer, &waiting);
        if let Some(told) = told {
            told.tell(&mut answer);
        }
        Ok(answer)
    }

    /// The connector with what its server says about authentication, if nobody said it, and what was found out on the way.
    async fn found_out(&self, connector: Arc<Connector>, who: &Principal) -> Value {
        let (mut connector, mut steps) = (connector, Vec::new());
        if !connector.methods_given && connector.protocol == Protocol::Mcp {
            let found = self.0.authorization.find_out_methods(&connector).await;
            if let Some(answered) = found.answered {
                self.0.calls.note(&found.connector, answered, Utc::now());
            }
            (connector, steps) = (found.connector, found.steps);
        }
        let mut answer = self.wire(&connector, who, false);
        answer["found_out"] = steps.iter().map(Step::wire).collect::<Vec<_>>().into();
        answer
    }

    /// What can be found out now about how one authenticates: whether the server says it by now, or else what the places
    /// say from which it was known.
    async fn way(&self, connector: Arc<Connector>) -> (Arc<Connector>, Vec<Step>) {
        let is_known = connector.methods_given || connector.method(MethodKind::Oauth2).is_some();
        if is_known || connector.protocol != Protocol::Mcp {
            let steps = self.0.authorization.walk(&connector).await;
            return (connector, steps);
        }
        let found = self.0.authorization.find_out_methods(&connector).await;
        (found.connector, found.steps)
    }

    /// Tries a connector step by step as the caller would use it: `{"connector", "ok", "steps": [{"step", "state",
    /// "duration_ms", "message", …}]}`. With `anew`, nothing is taken from memory.
    #[boxed]
    pub async fn check(
        &self,
        who: &Principal,
        connector: &str,
        credentials_name: Option<&str>,
        anew: bool,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.find(who, connector)?;
        // Right after a registration, its discovery has said the same.
        let (connector, way) = match anew && connector.is_active_for(who) {
            true => self.way(connector).await,
            false => (connector, Vec::new()),
        };
        let steps = self.0.calls.check(&connector, who, credentials_name, anew, way).await;
        Ok(json!({
            "connector": connector.name, "ok": !steps.iter().any(Step::is_failure),
            "steps": steps.iter().map(Step::wire).collect::<Vec<_>>(),
        }))
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
            cursor.is_none_or(|cursor| place(&connector.name) > place(cursor))
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
        let found = self.0.registry.find(who, connector)?;
        let mut answer = self.wire(&found, who, fetch_user_data);
        if let Some(api) = found.api.as_ref().filter(|api| api.source.is_some()) {
            api.told.tell(&mut answer);
        }
        if found.protocol == Protocol::Mcp {
            answer["tools_left_out"] = self.0.calls.left_out(&found.id);
        }
        Ok(answer)
    }

    /// Changes what is given. A new address makes stored credentials invalid until they are stored again. Operations that
    /// therefore send something else wait for approval, unless `approve`: the caller approves what this changes.
    #[boxed]
    pub async fn update(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
        body: Value,
        approve: bool,
    ) -> Result<Value, ConnectorsError> {
        let found = self.0.registry.owned(who, is_owner, connector)?;
        if approve {
            may_approve(is_owner, &found)?;
        }
        let waited = self.0.calls.review(&found)?;
        let connector = self.0.registry.update(self.0.with(), who, is_owner, connector, body).await?;
        self.0.lines.forget(&connector.id);
        self.note(who, Kind::ConnectorChanged, &connector)?;
        let waiting = self.0.calls.review(&connector)?;
        let mut answer = self.found_out(Arc::clone(&connector), who).await;
        if !approve {
            tell_waiting(&mut answer, &waiting);
            return Ok(answer);
        }
        // What waited before is not looked at by somebody who changes something else.
        let waited: HashSet<String> = waited.into_iter().map(|changed| changed.tool).collect();
        let (old, new): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|changed| waited.contains(&changed.tool));
        answer["approved"] = json!(self.approve_seen(who, &connector, &new)?);
        tell_waiting(&mut answer, &old);
        Ok(answer)
    }

    /// Replaces the operations of a REST connector by those of a document, JSON or YAML. Those that send something else
    /// than before wait for approval, unless `approve`: the caller approves what the document says.
    #[boxed]
    pub async fn import(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
        document: Vec<u8>,
        source: Option<&str>,
        approve: bool,
    ) -> Result<Value, ConnectorsError> {
        let found = self.0.registry.owned(who, is_owner, connector)?;
        if approve {
            may_approve(is_owner, &found)?;
        }
        // What was there before is known before anything else comes, also to connectors of older times that share it.
        for of_found in self.0.registry.with_operations_of(&found.id) {
            self.0.calls.review(&of_found)?;
        }
        let (changed, told) = self.0.registry.import(self.0.with(), &found, &document, source).await?;
        self.0.lines.forget(&changed.id);
        self.note(who, Kind::ConnectorChanged, &changed)?;
        let operations = changed.api.as_ref().map_or(0, |api| api.operations);
        let mut waiting = self.0.calls.review(&changed)?;
        let mut approved = Vec::new();
        if approve {
            approved = self.approve_seen(who, &changed, &waiting)?;
            waiting.clear();
        }
        let name = &changed.name;
        let mut message = format!("connector '{name}' has {}", count(operations, "operation"));
        match waiting.len() {
            0 => {}
            1 => message.push_str(", of which 1 waits for approval"),
            number => message.push_str(&format!(", of which {number} wait for approval")),
        }
        let mut answer = json!({ "message": message, "operations": operations, "approved": approved });
        tell_waiting(&mut answer, &waiting);
        told.tell(&mut answer);
        // A rule that went by the document before: whoever imports should hear of it, not only who calls.
        let broken = (changed.control.check.as_deref())
            .and_then(|operation| self.0.registry.check_rule(&*self.0.records, &changed, operation).err());
        if let Some(error) = broken {
            answer["warnings"] = json!([format!("the rule 'check' does not work any more: {error}")]);
        }
        Ok(answer)
    }

    /// Removes a connector with everybody's credentials for it. Tokens are revoked at their server where it can be done.
    #[boxed]
    pub async fn delete(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
    ) -> Result<Value, ConnectorsError> {
        let (inner, connector) = (&self.0, self.0.registry.owned(who, is_owner, connector)?);
        let made = inner.registry.with_operations_of(&connector.id);
        if let Some(other) = made.iter().find(|other| other.id != connector.id) {
            return Err(ConnectorsError::Conflict(format!(
                "connector '{0}' was made from '{1}': remove it first, with `airlock connectors remove {0}`",
                other.name, connector.name
            )));
        }
        let prefix = format!("{}/", connector.id);
        let all = inner.credentials.all();
        for (key, credential) in all.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            if let Ok(secret) = credential.open(&*inner.records, &inner.vault, &connector, key) {
                self.0.authorization.revoke(&connector, credential, secret).await;
            }
        }
        inner.credentials.delete_of_connector(&connector, |mut changes| {
            for key in [headers::key(&connector), client::key(&connector)] {
                changes.push(Change::Delete { table: vault::TABLE, key });
            }
            changes.extend(inner.pins.deletion(&connector.id));
            changes.extend(inner.mocks.deletion(&connector.id));
            changes.extend(inner.registry.forget_api(&*inner.records, &connector)?);
            inner.registry.remove(&*inner.records, &connector.id, changes)
        })?;
        self.0.lines.forget(&connector.id);
        inner.pins.forget(&connector.id);
        inner.mocks.forget(&connector.id);
        inner.calls.forget(&connector.id);
        self.0.credentials.landed(&connector);
        self.note(who, Kind::ConnectorDeleted, &connector)?;
        Ok(message(format!("connector '{}' was deleted", connector.name)))
    }

    /// Changes who sees a connector. Only its creator may, and only as an owner if more people will. What becomes private
    /// drops the credentials of the others.
    #[boxed]
    pub async fn share(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
        visibility: Sharing,
    ) -> Result<Value, ConnectorsError> {
        let (inner, found) = (&self.0, self.0.registry.find(who, connector)?);
        if found.creator != who.user.as_str() {
            return Err(ConnectorsError::Forbidden(format!(
                "connector '{}' belongs to {}: only they can say who sees it",
                found.name, found.creator
            )));
        }
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
            let flag = if found.visibility == Visibility::SharedOrg { " --organization" } else { "" };
            return Err(ConnectorsError::Conflict(format!(
                "connector '{0}' is {1}: take that back first, with `airlock connectors share {0}{flag} --undo`",
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
                    && let Ok(secret) = credential.open(&*inner.records, &inner.vault, &found, &key)
                {
                    self.0.authorization.revoke(&found, &credential, secret).await;
                }
            }
            inner.credentials.delete_others(&*inner.records, &prefix, &own)?;
        }
        let changed = inner.registry.change_as(&*inner.records, &found.id, is_owner, |changed| {
            changed.visibility = to;
            changed.modified_at = Utc::now();
            Ok(Vec::new())
        })?;
        self.0.lines.forget(&changed.id);
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

    fn wire(&self, connector: &Connector, who: &Principal, with_credentials: bool) -> Value {
        let mut value = connector.wire(who);
        value["supported_auth_methods"] = self.methods(connector, who);
        let now = Utc::now();
        let credential = self.0.credentials.resolve(connector, who, None).ok().flatten();
        let state = credential.as_ref().map(|(_, credential)| credential.shown_state(connector, now));
        let is_ready = match &credential {
            Some((_, credential)) => !credential.needs_somebody(now) && credential.state != State::Refused,
            None => connector.allows(MethodKind::None),
        };
        value["is_authenticated"] = is_ready.into();
        if !is_ready {
            value["next_step"] = json!(match &credential {
                None => connector.first_step(Scope::User),
                Some((_, credential)) => Some(credential.remedy(connector)),
            });
        }
        value["reachable"] = json!(self.0.calls.reached(&connector.id));
        if let Some(state) = state {
            value["credential_state"] = state.into();
        }
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
