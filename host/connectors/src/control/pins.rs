//! Tool definitions are pinned (THREATS row 21).
//!
//! A server may change what a tool does, or what its description makes a model do, under a name that somebody has looked
//! at; a document, or the address of a connector, may change what an operation of a REST API sends and where. So the first
//! definition of each tool is remembered as a digest. A tool whose definition differs is in quarantine: it cannot be called
//! until somebody approves the new definition, or the server goes back to the old one.
//!
//! New tools are taken as they come, with the time, unless the operator wants to look at each first (`review`): then they
//! are in quarantine from the beginning. A tool that is not listed any more keeps its pin, so that it cannot
//! come back as another.

use std::collections::{BTreeMap, HashMap};

use airlock_engine::records::{Change, Records};
use chrono::{DateTime, Utc};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{ConnectorsError, error::wording::word, protocol::definition::Definition};

const TABLE: &str = "tool_pins";

/// A server that has named so many different tools over time is not believed any more ones (THREATS row 22). Documents name
/// twice as many operations at once, and are imported by people.
const MAX_PINS: usize = 10_000;
const MAX_OPERATIONS: usize = 50_000;

/// All pins, in memory and in the store. The key is `connector/tool`; ids of connectors hold no slash.
pub(crate) struct Pins(RwLock<HashMap<String, BTreeMap<String, Pin>>>);

/// What is known of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pin {
    approved: Definition,
    /// When that definition was first seen or approved.
    at: DateTime<Utc>,
    /// Who approved it; absent if it was the first.
    by: Option<String>,
    quarantine: Option<Quarantine>,
}

/// A definition that nobody has approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Quarantine {
    definition: Definition,
    since: DateTime<Utc>,
}

/// A list of tools, looked at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Review {
    /// Tools that are what they were.
    pub(crate) usable: Vec<String>,
    /// Tools that are not. They must not be called, nor shown to a guest.
    pub(crate) changed: Vec<Changed>,
}

/// A tool whose definition is not the one that was approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Changed {
    pub(crate) tool: String,
    /// When the new definition was first seen.
    pub(crate) since: DateTime<Utc>,
    pub(crate) approved_digest: String,
    pub(crate) new_digest: String,
    /// Names of the fields that differ.
    pub(crate) fields: Vec<String>,
}

impl Changed {
    /// It is new, and was never approved.
    fn is_new(&self) -> bool {
        self.approved_digest.is_empty()
    }

    /// `new` for what nobody has approved yet, else `changed`.
    fn state(&self) -> &'static str {
        if self.is_new() { "new" } else { "changed" }
    }

    /// `{"tool", "state", "since", "fields"}`
    pub(crate) fn wire(&self) -> Value {
        json!({ "tool": self.tool, "state": self.state(), "since": self.since, "fields": self.fields })
    }

    /// Why the tool cannot be called, and what to do about it. `connector` is the connector's name.
    pub(crate) fn refused(&self, connector: &str) -> ConnectorsError {
        let Self { tool, since, fields, .. } = self;
        let (look, approve) =
            (format!("airlock connectors tools {connector} --all"), self.approving(connector));
        if self.is_new() {
            return ConnectorsError::Denied(format!(
                "tool '{tool}' cannot be called before somebody has looked at it: see `{look}`, then approve it with \
                 `{approve}`"
            ));
        }
        ConnectorsError::Denied(format!(
            "the definition of tool '{tool}' has changed ({}) and cannot be called since {}: look at it with `{look}`, \
             then approve it with `{approve}`",
            fields.join(", "),
            since.format("%Y-%m-%dT%H:%M:%SZ")
        ))
    }

    /// The same for whoever is looking at it.
    pub(crate) fn reason(&self, connector: &str) -> String {
        let approve = self.approving(connector);
        match self.is_new() {
            true => format!("it is new and waits for approval: `{approve}`"),
            false => format!(
                "its definition has changed ({}) since {} and waits for approval: `{approve}`",
                self.fields.join(", "),
                self.since.format("%Y-%m-%dT%H:%M:%SZ")
            ),
        }
    }

    fn approving(&self, connector: &str) -> String {
        format!("airlock connectors approve {connector} {}", word(&self.tool))
    }
}

impl Pin {
    fn new(definition: Definition, at: DateTime<Utc>) -> Self {
        Self { approved: definition, at, by: None, quarantine: None }
    }

    fn changed(&self, tool: &str) -> Option<Changed> {
        let Quarantine { definition, since } = self.quarantine.as_ref()?;
        Some(self.differs(tool, definition, *since))
    }

    /// What there is to say of another definition than the one that was approved.
    fn differs(&self, tool: &str, definition: &Definition, since: DateTime<Utc>) -> Changed {
        Changed {
            tool: tool.into(),
            since,
            approved_digest: self.approved.digest.clone(),
            new_digest: definition.digest.clone(),
            fields: self.approved.differing(definition),
        }
    }

    fn put(&self, connector_id: &str, tool: &str) -> Result<Change, ConnectorsError> {
        Ok(Change::Put { table: TABLE, key: key(connector_id, tool), value: serde_json::to_vec(self)? })
    }
}

impl Pins {
    /// Reads what is stored.
    pub(crate) fn open(records: &dyn Records) -> Result<Self, ConnectorsError> {
        let mut all: HashMap<String, BTreeMap<String, Pin>> = HashMap::new();
        for (key, value) in records.scan(TABLE, "", None, usize::MAX)? {
            let Some((connector_id, tool)) = key.split_once('/') else { continue };
            let pin = serde_json::from_slice(&value)?;
            all.entry(connector_id.into()).or_default().insert(tool.into(), pin);
        }
        Ok(Self(RwLock::new(all)))
    }

    /// Compares a list of tools (MCP tool objects) with the pins, and pins those that are new; with `hold_new`, they wait
    /// for approval. What was found is stored when this returns.
    pub(crate) fn review(
        &self,
        records: &dyn Records,
        connector_id: &str,
        tools: &[Value],
        hold_new: bool,
    ) -> Result<Review, ConnectorsError> {
        let named = tools.iter().filter_map(|tool| Some((tool["name"].as_str()?, Definition::of_tool(tool))));
        let named: Vec<_> = named.collect();
        let named: Vec<_> = named.iter().map(|(name, definition)| (*name, definition)).collect();
        self.compare(records, connector_id, &named, MAX_PINS, |_| hold_new)
    }

    /// The same for the operations of a REST API, of which those wait from the beginning that `hold_new` says.
    pub(crate) fn review_operations(
        &self,
        records: &dyn Records,
        connector_id: &str,
        operations: &BTreeMap<String, Definition>,
        hold_new: impl Fn(&str) -> bool,
    ) -> Result<Review, ConnectorsError> {
        let named: Vec<_> = operations.iter().map(|(name, definition)| (name.as_str(), definition)).collect();
        self.compare(records, connector_id, &named, MAX_OPERATIONS, hold_new)
    }

    fn compare(
        &self,
        records: &dyn Records,
        connector_id: &str,
        named: &[(&str, &Definition)],
        most: usize,
        hold_new: impl Fn(&str) -> bool,
    ) -> Result<Review, ConnectorsError> {
        // One writer at a time: two lists at once must not both be the first.
        let mut all = self.0.write();
        let empty = BTreeMap::new();
        let known = all.get(connector_id).unwrap_or(&empty);
        let now = Utc::now();
        let mut pins: BTreeMap<&str, Pin> = BTreeMap::new();
        // A name that is listed twice with two definitions is one that has changed.
        for (name, definition) in named {
            let listed = pins.contains_key(name);
            let pin = pins.entry(*name).or_insert_with(|| match known.get(*name) {
                Some(pin) => pin.clone(),
                None if hold_new(name) => Pin::new(Definition::default(), now),
                None => Pin::new((*definition).clone(), now),
            });
            if **definition != pin.approved {
                let before = known.get(*name).and_then(|pin| pin.quarantine.as_ref());
                let before = before.filter(|quarantine| quarantine.definition == **definition);
                let since = before.map_or(now, |quarantine| quarantine.since);
                pin.quarantine = Some(Quarantine { definition: (*definition).clone(), since });
            } else if !listed {
                pin.quarantine = None;
            }
        }
        let new = pins.keys().filter(|name| !known.contains_key(**name)).count();
        if known.len() + new > most {
            return Err(ConnectorsError::Upstream(format!(
                "the server has named more than {most} different tools over time: if that is right, delete the \
                 connector and register it again"
            )));
        }
        let differs = |(name, pin): &(&&str, &Pin)| known.get(**name) != Some(*pin);
        let written: Vec<_> =
            pins.iter().filter(differs).map(|(name, pin)| ((*name).to_owned(), pin.clone())).collect();
        if !written.is_empty() {
            let changes = written.iter().map(|(name, pin)| pin.put(connector_id, name));
            records.write(&changes.collect::<Result<Vec<_>, _>>()?)?;
        }
        for (tool, pin) in &written {
            match (known.get(tool), &pin.quarantine) {
                (None, Some(_)) if hold_new(tool) => {
                    tracing::info!(connector_id, tool, "a new tool waits for approval");
                }
                (_, Some(_)) => tracing::warn!(
                    alarm = "tool_changed",
                    connector_id,
                    tool,
                    "a tool's definition changed: it cannot be called until it is approved"
                ),
                (Some(_), None) => {
                    tracing::info!(connector_id, tool, "a tool's definition is again what it was");
                }
                (None, None) if !known.is_empty() => {
                    tracing::info!(connector_id, tool, "a new tool was pinned");
                }
                (None, None) => {}
            }
        }
        let changed: Vec<_> = pins.iter().filter_map(|(name, pin)| pin.changed(name)).collect();
        let mut usable: Vec<String> = Vec::new();
        for (name, _) in named {
            // Each once: what is usable is listed with one definition only.
            if pins.remove(name).is_some_and(|pin| pin.quarantine.is_none()) {
                usable.push((*name).to_owned());
            }
        }
        all.entry(connector_id.into()).or_default().extend(written);
        Ok(Review { usable, changed })
    }

    /// Whether a tool may be called, as far as its definition goes. `connector` is the connector's name. A tool that no
    /// list named is not known here.
    pub(crate) fn check(
        &self,
        connector: &str,
        connector_id: &str,
        tool: &str,
    ) -> Result<(), ConnectorsError> {
        match self.held(connector_id, tool) {
            Some(held) => Err(held.refused(connector)),
            None => Ok(()),
        }
    }

    /// The same for an operation as it is about to be sent: whatever was looked at before, it is called as it was approved
    /// or not at all.
    pub(crate) fn check_operation(
        &self,
        connector: &str,
        connector_id: &str,
        operation: &str,
        definition: &Definition,
    ) -> Result<(), ConnectorsError> {
        let all = self.0.read();
        let known = all.get(connector_id).and_then(|pins| pins.get(operation));
        match known {
            Some(pin) if pin.approved == *definition => Ok(()),
            Some(pin) => {
                let since = pin.quarantine.as_ref().map_or_else(Utc::now, |quarantine| quarantine.since);
                Err(pin.differs(operation, definition, since).refused(connector))
            }
            None => Err(Pin::new(Definition::default(), Utc::now())
                .differs(operation, definition, Utc::now())
                .refused(connector)),
        }
    }

    /// What keeps a tool from being called, as far as its definition goes.
    pub(crate) fn held(&self, connector_id: &str, tool: &str) -> Option<Changed> {
        let all = self.0.read();
        all.get(connector_id)?.get(tool)?.changed(tool)
    }

    /// Approves the new definition of a tool, or of all that changed. Gives the names of those that were in quarantine.
    pub(crate) fn approve(
        &self,
        records: &dyn Records,
        connector_id: &str,
        tool: Option<&str>,
        by: &str,
    ) -> Result<Vec<String>, ConnectorsError> {
        if let Some(tool) = tool
            && !self.0.read().get(connector_id).is_some_and(|pins| pins.contains_key(tool))
        {
            return Err(ConnectorsError::NotFound(format!(
                "no tool '{tool}' was ever listed by this connector"
            )));
        }
        self.approve_where(records, connector_id, by, |name, _| tool.is_none_or(|tool| tool == name))
    }

    /// Approves what somebody has looked at: these definitions, and no others that came meanwhile.
    pub(crate) fn approve_seen(
        &self,
        records: &dyn Records,
        connector_id: &str,
        seen: &[Changed],
        by: &str,
    ) -> Result<Vec<String>, ConnectorsError> {
        let seen: HashMap<&str, &str> =
            seen.iter().map(|changed| (changed.tool.as_str(), changed.new_digest.as_str())).collect();
        self.approve_where(records, connector_id, by, |name, digest| seen.get(name) == Some(&digest))
    }

    fn approve_where(
        &self,
        records: &dyn Records,
        connector_id: &str,
        by: &str,
        is_wanted: impl Fn(&str, &str) -> bool,
    ) -> Result<Vec<String>, ConnectorsError> {
        let mut all = self.0.write();
        let pins = all.entry(connector_id.into()).or_default();
        let now = Utc::now();
        let approved: Vec<(String, Pin)> = pins
            .iter()
            .filter_map(|(name, pin)| {
                let definition = &pin.quarantine.as_ref()?.definition;
                let approved = || Pin { by: Some(by.into()), ..Pin::new(definition.clone(), now) };
                is_wanted(name, &definition.digest).then(|| (name.clone(), approved()))
            })
            .collect();
        if !approved.is_empty() {
            let changes = approved.iter().map(|(name, pin)| pin.put(connector_id, name));
            records.write(&changes.collect::<Result<Vec<_>, _>>()?)?;
        }
        let names = approved.iter().map(|(name, _)| name.clone()).collect();
        pins.extend(approved);
        Ok(names)
    }

    /// The pins of a connector, by name: `[{tool, state, digest, pinned_at, approved_by, changed: {since, digest, fields}?}]`.
    /// The state is `approved`, `changed`, or `new` for what nobody has approved yet: that has no digest of its own.
    pub(crate) fn state(&self, connector_id: &str) -> Value {
        let all = self.0.read();
        let pins = all.get(connector_id).into_iter().flatten();
        let shown = pins.map(|(name, pin)| {
            let changed = pin.changed(name);
            let state = changed.as_ref().map_or("approved", Changed::state);
            let digest = Some(&pin.approved.digest).filter(|digest| !digest.is_empty());
            let changed = changed.map(|changed| {
                json!({ "since": changed.since, "digest": changed.new_digest, "fields": changed.fields })
            });
            json!({ "tool": name, "state": state, "digest": digest, "pinned_at": pin.at, "approved_by": pin.by,
                "changed": changed })
        });
        shown.collect::<Vec<_>>().into()
    }

    /// What removes the pins of a connector from the store. [`Self::forget`] follows when that is written.
    pub(crate) fn deletion(&self, connector_id: &str) -> Vec<Change> {
        let all = self.0.read();
        let names = all.get(connector_id).into_iter().flat_map(BTreeMap::keys);
        names.map(|name| Change::Delete { table: TABLE, key: key(connector_id, name) }).collect()
    }

    /// Forgets a connector that was deleted.
    pub(crate) fn forget(&self, connector_id: &str) {
        self.0.write().remove(connector_id);
    }
}

fn key(connector_id: &str, tool: &str) -> String {
    format!("{connector_id}/{tool}")
}

#[cfg(test)]
mod tests;
