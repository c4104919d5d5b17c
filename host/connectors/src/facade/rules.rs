//! What connectors may do: rules, pinned tools, mocks.

use airlock_engine::Principal;
use chrono::Utc;
use serde_json::{Value, json};

use super::{Connectors, message};
use crate::{
    ConnectorsError,
    audit::{Event, Kind},
    control::{Control, pins::Changed},
    mock::Source,
    registry::{Connector, Visibility},
};

/// Who may change a connector that others use is not always who answers for what it sends for them: that is an owner's to
/// approve. What is private is its creator's.
pub(super) fn may_approve(is_owner: bool, connector: &Connector) -> Result<(), ConnectorsError> {
    match is_owner || connector.visibility == Visibility::Private {
        true => Ok(()),
        false => Err(ConnectorsError::Forbidden(format!(
            "connector '{}' is shared: what it does for others is approved with a key with the role 'owner'",
            connector.name
        ))),
    }
}

/// Puts what waits for approval into an answer: `waiting`, `[{"tool", "state", "since", "fields"}]`, as the pins show it.
pub(super) fn tell_waiting(answer: &mut Value, waiting: &[Changed]) {
    answer["waiting"] = waiting.iter().map(Changed::wire).collect::<Vec<_>>().into();
}

impl Connectors {
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
        let found = self.0.registry.owned(who, is_owner, connector)?;
        if let Some(operation) = &control.check {
            self.0.registry.check_rule(&*self.0.records, &found, operation)?;
        }
        let changed = self.0.registry.change(&*self.0.records, &found.id, |changed| {
            changed.control = control;
            changed.modified_at = Utc::now();
            Ok(Vec::new())
        })?;
        self.note(who, Kind::ControlChanged, &changed)?;
        Ok(serde_json::to_value(&changed.control)?)
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
        let connector = self.0.registry.owned(who, is_owner, connector)?;
        may_approve(is_owner, &connector)?;
        let approved = self.0.pins.approve(&*self.0.records, &connector.id, tool, who.user.as_str());
        let approved = approved.map_err(|error| match (error, tool) {
            (ConnectorsError::NotFound(_), Some(tool)) => ConnectorsError::NotFound(format!(
                "connector '{0}' has never listed a tool '{tool}': see `airlock connectors pins {0}` for those it has",
                connector.name
            )),
            (error, _) => error,
        })?;
        self.note_approved(who, &connector, &approved)?;
        Ok(json!({ "approved": approved }))
    }

    /// Approves definitions that somebody has looked at, as they looked then. Gives the names.
    pub(super) fn approve_seen(
        &self,
        who: &Principal,
        connector: &Connector,
        seen: &[Changed],
    ) -> Result<Vec<String>, ConnectorsError> {
        let (records, user) = (&*self.0.records, who.user.as_str());
        let approved = self.0.pins.approve_seen(records, &connector.id, seen, user)?;
        self.note_approved(who, connector, &approved)?;
        Ok(approved)
    }

    fn note_approved(
        &self,
        who: &Principal,
        connector: &Connector,
        approved: &[String],
    ) -> Result<(), ConnectorsError> {
        for tool in approved {
            self.0.audit.note(Event {
                connector_id: Some(connector.id.clone()),
                connector: Some(connector.name.clone()),
                tool: Some(tool.clone()),
                ..Event::by(Kind::PinApproved, who)
            })?;
        }
        self.0.lines.forget(&connector.id);
        Ok(())
    }

    /// The mocks of a connector.
    pub fn mocks(&self, who: &Principal, connector: &str) -> Result<Value, ConnectorsError> {
        self.mocks_of(who, &*self.0.registry.find(who, connector)?)
    }

    /// Replaces the written mocks of a connector (`{"mocks": […], "tools": […]?}`); recorded ones stay.
    pub fn set_mocks(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
        body: Value,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.owned(who, is_owner, connector)?;
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
        self.mocks_of(who, &connector)
    }

    /// Adds one written mock: `{"tool", "arguments"?, "answer", "description"?, "delay_ms"?}`.
    pub fn add_mock(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
        body: Value,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.owned(who, is_owner, connector)?;
        self.0.mocks.add(&*self.0.records, &connector.id, body)?;
        self.note(who, Kind::MocksChanged, &connector)?;
        self.mocks_of(who, &connector)
    }

    fn mocks_of(&self, who: &Principal, connector: &Connector) -> Result<Value, ConnectorsError> {
        let (mocks, user) = (&self.0.mocks, who.user.as_str());
        let tools = mocks.tools(&connector.id, user).map(|tools| tools.to_vec());
        Ok(json!({ "mocks": mocks.list(&connector.id, user)?, "tools": tools }))
    }

    /// Removes all mocks of a connector but what others recorded. Who may not change it removes what they recorded.
    pub fn clear_mocks(
        &self,
        who: &Principal,
        is_owner: bool,
        connector: &str,
    ) -> Result<Value, ConnectorsError> {
        let owned = self.0.registry.owned(who, is_owner, connector);
        let found = self.0.registry.find(who, connector)?;
        let (records, user) = (&*self.0.records, who.user.as_str());
        let connector = match owned {
            Ok(connector) => {
                self.0.mocks.clear(records, &connector.id, user, None)?;
                connector
            }
            Err(refusal) => match self.0.mocks.clear(records, &found.id, user, Some(Source::Recorded))? {
                0 => return Err(refusal),
                _ => found,
            },
        };
        self.note(who, Kind::MocksChanged, &connector)?;
        Ok(message(format!("the mocks of connector '{}' were removed", connector.name)))
    }
}
