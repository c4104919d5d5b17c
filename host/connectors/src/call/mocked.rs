//! Answers from mocks: no credential is resolved and no socket is opened (THREATS row 23).

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde_json::Value;

use super::{CallRequest, Calls, Definitions, check_arguments, words::not_allowed};
use crate::{
    ConnectorsError,
    control::Decision,
    egress::scrub::Scrubber,
    mock::Shape,
    protocol::tools::Tools,
    registry::{Connector, Protocol},
    rest::{self, Example},
};

impl Calls {
    /// Answers from a mock: no credential is resolved and no socket is opened.
    pub(super) async fn mocked(&self, call: &CallRequest<'_>) -> Result<Value, ConnectorsError> {
        let connector = &*call.connector;
        if let Some(tools) = self.mocked_tools(connector)? {
            let annotations = tools.get(&connector.name, call.tool)?["annotations"].clone();
            if connector.control.decide(call.tool, Some(&annotations)) == Decision::Deny {
                return Err(not_allowed(call.tool, connector));
            }
            let definitions = match connector.protocol {
                Protocol::Mcp => Definitions::Mcp(Arc::clone(&tools)),
                Protocol::Http => Definitions::Http(self.registry.api(&*self.records, connector)?),
            };
            check_arguments(connector, &tools, &definitions, call)?;
        }
        let shape = match connector.protocol {
            Protocol::Mcp => Shape::Mcp,
            Protocol::Http => Shape::Rest { connector: &connector.name },
        };
        if let Some(found) = self.mocks.find(&connector.id, call.tool, &call.arguments, shape) {
            tokio::time::sleep(found.delay).await;
            return Ok(found.answer);
        }
        if connector.protocol == Protocol::Http {
            let api = self.registry.api(&*self.records, connector)?;
            let operation = api.operation(&connector.name, call.tool)?;
            if let Some(Example { status, content_type, body }) = operation.example() {
                let mut headers = HeaderMap::new();
                if let Some(kind) = content_type.as_ref().and_then(|kind| HeaderValue::from_str(kind).ok()) {
                    headers.insert(CONTENT_TYPE, kind);
                }
                let (name, nothing) = (&connector.name, Scrubber::default());
                return Ok(rest::answer(name, operation, *status, &headers, body.as_bytes(), &nothing).value);
            }
        }
        Err(self.mocks.missing(&connector.name, &connector.id, call.tool))
    }

    /// The definitions that mocks go by, if there are any.
    pub(super) fn mocked_tools(&self, connector: &Connector) -> Result<Option<Arc<Tools>>, ConnectorsError> {
        Ok(match connector.protocol {
            Protocol::Http => Some(Arc::clone(&self.registry.api(&*self.records, connector)?.tools)),
            Protocol::Mcp => self.mocks.tools(&connector.id).map(|list| Arc::new(Tools::new(list.to_vec()))),
        })
    }
}
