//! A way to a server, as a call needs it: what it offers, how it is asked, and what went wrong ([`Trouble`]). MCP and REST
//! are such ways, and a call does not know which of them it takes.

use std::{sync::Arc, time::Duration};

use airlock_engine::tools::Conversation;
use async_trait::async_trait;
use serde_json::{Map, Value};

use super::{definition::Definition, tools::Tools, trouble::Trouble};

/// contract/preflight.md: a call may take 120 s.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(120);

/// A server with one credential.
#[async_trait]
pub(crate) trait Service: Send + Sync {
    /// What can be called; from memory unless it is old or `refresh` is set.
    async fn tools(&self, refresh: bool) -> Result<Arc<Tools>, Trouble>;

    /// What it will send for a tool, as it is approved. A server of MCP is sent the name, and knows the rest by itself.
    fn definition(&self, _tool: &str) -> Option<Arc<Definition>> {
        None
    }

    /// Makes one call.
    async fn call(&self, call: &Call<'_>) -> Result<Answered, Trouble>;
}

/// One call, checked and allowed.
pub(crate) struct Call<'a> {
    pub(crate) tool: &'a str,
    pub(crate) arguments: &'a Map<String, Value>,
    pub(crate) idempotency_key: Option<&'a str>,
    /// Without the time that people take.
    pub(crate) limit: Duration,
    /// Bytes of the answer.
    pub(crate) max_bytes: u64,
    pub(crate) conversation: &'a dyn Conversation,
}

/// What a call gives (contract: `ConnectorToolCallResponse`), scrubbed.
pub(crate) struct Answered {
    pub(crate) value: Value,
    /// How many secrets were taken out of it.
    pub(crate) redactions: usize,
    pub(crate) credential: Verdict,
}

/// An object of values that are moved into it: `json!` copies what it is given, and answers are large.
pub(crate) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
}

/// `{content, metadata}`, the contract's `ConnectorToolCallResponse`, of content blocks and what MCP says beside them.
pub(crate) fn response(content: Vec<Value>, meta: Value) -> Value {
    object([("content", content.into()), ("metadata", object([("mcp_meta", meta)]))])
}

/// What an answer says of the credential that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The server took it.
    Taken,
    /// Nothing: the operation is public, or the service has trouble of its own.
    Unsaid,
    /// It may not do this. The server's challenge may say why.
    NotEnough,
}
