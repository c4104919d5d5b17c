//! What may be called is compared with what was approved: the tools that a server lists, and the operations of a document.
//!
//! Operations are compared when they are stored as well, so that those of the document before are known when another one
//! comes, and who brings it hears at once what waits. What is sent is compared once more, as it is about to be sent.

use std::collections::HashSet;

use super::Calls;
use crate::{
    ConnectorsError,
    control::pins::Changed,
    protocol::tools::Tools,
    registry::{Connector, Protocol},
};

impl Calls {
    /// Looks at the tools that a server of MCP lists, once.
    pub(super) fn review_tools(&self, connector: &Connector, tools: &Tools) -> Result<(), ConnectorsError> {
        if !connector.control.pin {
            return Ok(());
        }
        let hold_new = connector.control.review;
        let review = || self.pins.review(&*self.records, &connector.id, &tools.list, hold_new).map(drop);
        tools.once(&connector.id, connector.version, review)
    }

    /// Looks at the operations of a REST API, once, and gives those that wait for approval.
    pub(crate) fn review(&self, connector: &Connector) -> Result<Vec<Changed>, ConnectorsError> {
        self.review_copies(connector, None)
    }

    /// The same for a connector that was just made from a template: what waits there waits here as well.
    pub(crate) fn review_copies(
        &self,
        connector: &Connector,
        template: Option<&Connector>,
    ) -> Result<Vec<Changed>, ConnectorsError> {
        if connector.protocol != Protocol::Http || !connector.control.pin {
            return Ok(Vec::new());
        }
        self.review_operations(connector, template)?;
        let api = self.registry.api(&*self.records, connector)?;
        let names = api.tools.list.iter().filter_map(|tool| tool["name"].as_str());
        Ok(names.filter_map(|name| self.pins.held(&connector.id, name)).collect())
    }

    /// Looks at the operations of a REST API, once.
    pub(super) fn review_operations(
        &self,
        connector: &Connector,
        template: Option<&Connector>,
    ) -> Result<(), ConnectorsError> {
        if !connector.control.pin {
            return Ok(());
        }
        let (records, id) = (&*self.records, &connector.id);
        let api = self.registry.api(records, connector)?;
        api.tools.once(id, connector.version, || {
            // Looked at before: the pins are locked while they are compared.
            let template = template.filter(|template| template.control.pin);
            let waits_there: HashSet<String> = template.map_or_else(HashSet::new, |template| {
                let there = api.definitions(&template.terms()).into_iter();
                let waits = there.filter(|(name, definition)| {
                    self.pins.check_operation(&template.name, &template.id, name, definition).is_err()
                });
                waits.map(|(name, _)| name).collect()
            });
            let definitions = api.definitions(&connector.terms());
            let hold_new = |name: &str| connector.control.review || waits_there.contains(name);
            self.pins.review_operations(records, id, &definitions, hold_new).map(drop)
        })
    }
}
