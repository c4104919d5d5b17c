//! Why something did not succeed, as histories and guests see it.

use serde::{Deserialize, Serialize};

use crate::Json;

/// A failed activity, tool call or workflow. The message is for a person, the kind for programs and retry policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable word; see the constants of this type for the host's own.
    pub kind: String,
    /// What went wrong and what to do about it.
    pub message: String,
    /// No retry policy applies.
    pub non_retryable: bool,
    /// More for programs.
    pub details: Option<Json>,
}

impl Failure {
    /// A timeout of any sort; the message names which.
    pub const TIMEOUT: &str = "Timeout";
    /// Stopped on request.
    pub const CANCELLED: &str = "Cancelled";
    /// The guest trapped: a panic, or a limit of the sandbox.
    pub const TRAP: &str = "Trap";
    /// The guest handed over something that is not as declared.
    pub const INVALID_INPUT: &str = "InvalidInput";
    /// A connector or its credential is missing or unusable.
    pub const CONNECTOR: &str = "ConnectorError";
    /// Nobody authorised in time.
    pub const CONNECTOR_AUTH_TIMEOUT: &str = "ConnectorAuthTimeout";
    /// Nobody answered a question before it expired.
    pub const QUESTION_EXPIRED: &str = "QuestionExpired";
    /// The tool itself reported an error.
    pub const CONNECTOR_TOOL_CALL: &str = "ConnectorToolCallError";
    /// Too much in too little time.
    pub const RATE_LIMITED: &str = "RateLimited";
    /// The execution was ended by force.
    pub const TERMINATED: &str = "Terminated";
    /// The history has become too long or too large.
    pub const HISTORY_LIMIT: &str = "HistoryLimit";
    /// There is no such execution, workflow or handler.
    pub const NOT_FOUND: &str = "NotFound";
    /// The execution id is taken.
    pub const ALREADY_EXISTS: &str = "AlreadyExists";
    /// The execution has ended.
    pub const ENDED: &str = "Ended";
    /// Something that only a workflow on behalf of its caller may do.
    pub const NOT_ON_BEHALF: &str = "NotOnBehalfOf";

    /// A failure that a retry may cure.
    pub fn retryable(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), non_retryable: false, details: None }
    }

    /// A timeout that a retry may cure. `which` is the limit that was reached: `schedule-to-start`, `start-to-close`,
    /// `schedule-to-close`, `heartbeat` or `execution`; it stands in the details as `{"timeout": which}`.
    pub fn timeout(which: &str, message: impl Into<String>) -> Self {
        let details = Json::from(serde_json::json!({ "timeout": which }));
        Self { details: Some(details), ..Self::retryable(Self::TIMEOUT, message) }
    }

    /// A failure that no retry cures.
    pub fn permanent(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), non_retryable: true, details: None }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}
