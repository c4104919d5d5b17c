//! Answers from mocks: no credential is resolved and no socket is opened (THREATS row 23).

use std::sync::Arc;

use serde_json::Value;

use super::{CallRequest, Calls, words::not_allowed};
use crate::{
    ConnectorsError,
    control::Decision,
    mock::Shape,
    protocol::tools::Tools,
    registry::{Connector, Protocol},
};

impl Calls {
    /// Answers from a mock: no credential is resolved and no socket is opened.
    pub(super) async fn mocked(&self, call: &CallRequest<'_>) -> Result<Value, ConnectorsError> {
        let (connector, user) = (&*call.connector, call.who.user.as_str());
        let tools = self.mocked_tools(connector, user)?;
        if let Some(tools) = &tools {
            let annotations = tools.get(&connector.name, call.tool)?["annotations"].clone();
            if let (Decision::Deny, rule) = connector.control.decided(call.tool, Some(&annotations)) {
                return Err(not_allowed(call.tool, connector, rule));
            }
            tools.check(&connector.name, call.tool, &call.arguments).await?;
        }
        let shape = match connector.protocol {
            Protocol::Mcp => Shape::Mcp,
            Protocol::Http => Shape::Rest { connector: &connector.name },
        };
        if let Some(found) = self.mocks.find(&connector.id, user, call.tool, &call.arguments, shape) {
            tokio::time::sleep(found.delay).await;
            return Ok(found.answer);
        }
        if let Some(example) = tools.and_then(|tools| tools.example(&connector.name, call.tool)) {
            return Ok(example);
        }
        Err(self.mocks.missing(&connector.name, &connector.id, user, call.tool))
    }

    /// The definitions that mocks go by, if there are any.
    pub(super) fn mocked_tools(
        &self,
        connector: &Connector,
        user: &str,
    ) -> Result<Option<Arc<Tools>>, ConnectorsError> {
        Ok(match connector.protocol {
            Protocol::Http => Some(Arc::clone(&self.registry.api(&*self.records, connector)?.tools)),
            Protocol::Mcp => self
                .mocks
                .tools(&connector.id, user)
                .map(|list| Arc::new(Tools::listed(list.to_vec(), Vec::new()))),
        })
    }
}
