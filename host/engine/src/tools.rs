//! The engine's view of outside services. The connectors implement it: they alone hold credentials.

use std::time::Duration;

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
    async fn bind(&self, request: BindRequest<'_>) -> Result<Vec<Binding>, Failure>;

    /// Whether the principal can use the connector now, proven by a call to it.
    async fn authorize(
        &self,
        principal: &Principal,
        binding: &Binding,
        moment: AuthMoment,
    ) -> Result<Authorization, Failure>;

    /// Calls a tool. The answer is the raw tool response `{content, metadata}`; a response marked as an error is a
    /// failure of kind [`Failure::CONNECTOR_TOOL_CALL`] with the response in its details. Limit: 120 s, or what the
    /// options say, without the time that people take.
    async fn call_tool(&self, call: ToolCall<'_>) -> Result<Json, Failure>;

    /// The tools of a connector, an array of MCP tool objects. Limit: 30 s.
    async fn list_tools(&self, origin: &CallOrigin, binding: &Binding) -> Result<Json, Failure>;
}

/// What a workflow's slots are matched with.
#[derive(Debug, Clone, Copy)]
pub struct BindRequest<'a> {
    /// Who the execution acts for.
    pub principal: &'a Principal,
    /// What the workflow declares.
    pub slots: &'a [Slot],
    /// What the caller asks for.
    pub wishes: &'a [BindingWish],
    /// Whether the execution acts with the caller's identity.
    pub on_behalf_of: bool,
    /// Which connectors answer from mocks in this execution.
    pub mocks: &'a Mocks,
}

/// Which connectors answer from mocks instead of being called.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mocks {
    /// None but those that the operator put into mock mode.
    #[default]
    None,
    /// All of the execution.
    All,
    /// Those in these slots.
    Connectors(Vec<String>),
}

/// A call to a tool.
pub struct ToolCall<'a> {
    /// On whose behalf, and for which step.
    pub origin: &'a CallOrigin,
    /// The connector.
    pub binding: &'a Binding,
    /// The tool's name.
    pub tool: &'a str,
    /// A JSON object, or null for none.
    pub arguments: &'a Json,
    /// What the plugin wants otherwise than usual.
    pub options: &'a CallOptions,
    /// Whoever follows the execution.
    pub conversation: &'a dyn Conversation,
}

/// What a plugin may want otherwise than usual for one call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallOptions {
    /// How long one attempt may take; at most 120 s.
    pub timeout: Option<Duration>,
    /// How often a call that failed for no fault of its own is tried again, inside the call; at most 10.
    pub retries: Option<u32>,
    /// Another credential of the principal. Refused if the caller bound one for the execution.
    pub credentials_name: Option<String>,
    /// Answer from a mock. `false` is no way out of an execution that runs with mocks (THREATS row 23).
    pub use_mock: Option<bool>,
}

impl CallOptions {
    /// The longest time for one attempt.
    pub const MAX_TIMEOUT: Duration = Duration::from_secs(120);
    /// The most retries inside a call.
    pub const MAX_RETRIES: u32 = 10;
    /// The most bytes that the name of a credential can have.
    pub const MAX_CREDENTIALS_NAME: usize = 256;

    /// Whether everything is within its bounds; a failure of kind [`Failure::INVALID_INPUT`] says what is not.
    pub fn check(&self) -> Result<(), Failure> {
        let refuse = |message: String| Err(Failure::permanent(Failure::INVALID_INPUT, message));
        match self {
            Self { timeout: Some(limit), .. } if limit.is_zero() || *limit > Self::MAX_TIMEOUT => {
                refuse(format!(
                    "the timeout of a tool call is {} ms; it can be 1 to {}",
                    limit.as_millis(),
                    Self::MAX_TIMEOUT.as_millis()
                ))
            }
            Self { retries: Some(retries), .. } if *retries > Self::MAX_RETRIES => refuse(format!(
                "a tool call asks for {retries} retries; it can have 0 to {}",
                Self::MAX_RETRIES
            )),
            Self { credentials_name: Some(name), .. } if name.trim().is_empty() => {
                refuse("a tool call names a credential with a blank name: leave it out instead".into())
            }
            Self { credentials_name: Some(name), .. } if name.len() > Self::MAX_CREDENTIALS_NAME => {
                let limit = Self::MAX_CREDENTIALS_NAME;
                refuse(format!("a tool call names a credential with more than {limit} bytes"))
            }
            _ => Ok(()),
        }
    }
}

/// What a call may say to, and ask of, the people who follow the execution while it is under way. Time spent waiting for
/// them does not count for any timeout of the call or of the activity.
#[async_trait]
pub trait Conversation: Send + Sync {
    /// Waits, if need be, until the principal can use the call's connector, as `await-auth` does: with a
    /// `connector_auth` task event, and at most for the window of the engine.
    async fn authorized(&self) -> Result<(), Failure>;

    /// Puts a question to them as a `wait_for_input` task event and waits for the answer, which is valid for the
    /// question's schema. Asked again after a crash, with the same id. A question that expires is withdrawn: a failure of
    /// kind [`Failure::QUESTION_EXPIRED`]. Its time counts from when it was asked first, also after a crash.
    async fn ask(&self, question: Question) -> Result<Json, Failure>;

    /// Tells them how far the call is.
    fn progress(&self, progress: Json);
}

/// Something that a person decides.
#[derive(Debug, Clone)]
pub struct Question {
    /// What to show beside the form.
    pub label: String,
    /// JSON Schema of the answer.
    pub input_schema: Json,
    /// What it is about: an object whose fields stand beside `label` and `input_schema` in the event's payload.
    pub about: Json,
    /// How long it waits for an answer; absent: as long as the execution does.
    pub expires_after: Option<Duration>,
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
    /// The caller chose the credential for this execution: nothing may choose another.
    pub chosen: bool,
    /// Answers come from mocks.
    pub mock: bool,
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

/// Nobody listens: what would be asked fails at once.
pub struct Silence;

#[async_trait]
impl Conversation for Silence {
    async fn authorized(&self) -> Result<(), Failure> {
        Err(Failure::permanent(Failure::CONNECTOR, "nobody can authorise here"))
    }

    async fn ask(&self, question: Question) -> Result<Json, Failure> {
        let message = format!("nobody can be asked here: {}", question.label);
        Err(Failure::permanent(Failure::CONNECTOR, message))
    }

    fn progress(&self, _: Json) {}
}
