//! The engine's view of outside services. The connectors implement it: they alone hold credentials.

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{ExecutionId, Failure, Json, Principal, Slot};

/// Calls services on behalf of a principal.
#[async_trait]
pub trait Tools: Send + Sync + 'static {
    /// Matches the slots of a workflow with registered connectors and with the caller's wishes.
    ///
    /// One binding per slot, in the slots' order. Fails with kind [`Failure::CONNECTOR`] for an unknown connector, for
    /// wishes that name undeclared slots (`Extension bindings reference unknown connectors …`), for wishes on a workflow
    /// that is not on behalf of its caller, and for a named credential that does not exist
    /// (`Credential 'x' not found for connector 'y'`).
    async fn bind(
        &self,
        principal: &Principal,
        slots: &[Slot],
        wishes: &[BindingWish],
        on_behalf_of: bool,
    ) -> Result<Vec<Binding>, Failure>;

    /// Whether the principal can use the connector now, proven by a call to it.
    async fn authorize(
        &self,
        principal: &Principal,
        binding: &Binding,
        moment: AuthMoment,
    ) -> Result<Authorization, Failure>;

    /// Calls a tool. The answer is the raw tool response `{content, metadata}`; a response marked as an error is a
    /// failure of kind [`Failure::CONNECTOR_TOOL_CALL`] with the response in its details. Limit: 120 s.
    async fn call_tool(
        &self,
        origin: &CallOrigin,
        binding: &Binding,
        tool: &str,
        arguments: &Json,
    ) -> Result<Json, Failure>;

    /// The tools of a connector, an array of MCP tool objects. Limit: 30 s.
    async fn list_tools(&self, origin: &CallOrigin, binding: &Binding) -> Result<Json, Failure>;
}

/// What a caller asks for when they start an execution: `extensions.mistralai.connectors.bindings[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingWish {
    /// The slot; may be left out when there is only one.
    pub connector_name: Option<String>,
    /// The credential to use.
    pub credentials_name: Option<String>,
}

/// A slot with the connector it was resolved to. Kept in the history, so it holds names only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The slot's name in the plugin.
    pub slot: String,
    /// Whether the preflight checks it.
    pub auto_auth: bool,
    /// The connector's name.
    pub connector_name: String,
    /// The connector's id.
    pub connector_id: String,
    /// The pinned or wished credential; absent: the principal's default at the time of the call.
    pub credentials_name: Option<String>,
}

/// When authorisation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMoment {
    /// Before the body runs. A connector that takes only bearer tokens and has none fails at once.
    Preflight,
    /// The guest asked: it is prepared to wait for any credential.
    OnDemand,
}

/// The answer to "may I?".
pub enum Authorization {
    /// The principal can use the connector: `{"connector_name", "connector_id", "credentials_name"?}`.
    Ready(Json),
    /// Somebody has to act first.
    Needed(AuthNeeded),
}

/// What is missing, and a way to wait for it.
pub struct AuthNeeded {
    /// The value of the `connector_auth` task event: `{"connector_name", "connector_id", "status": "waiting_for_auth",
    /// "credentials_name"?, "auth_url"?, "message"?}`.
    pub state: Json,
    /// Resolves when it is worth asking again. Costs nothing while it waits.
    pub changed: BoxFuture<'static, ()>,
}

/// Which execution and step a call belongs to, for audit and idempotency.
#[derive(Debug, Clone)]
pub struct CallOrigin {
    /// On whose behalf; from the execution record.
    pub principal: Principal,
    /// The execution.
    pub execution: ExecutionId,
    /// Stable over attempts of the step; passed on where a protocol has a place for it.
    pub idempotency_key: String,
}
