//! Why something did not succeed, as histories and guests see it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Json;

/// What a failure says of a call that reached nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncalled {
    /// How long to wait before another attempt, if that is known.
    pub retry_after: Option<Duration>,
    /// Whether the attempt uses up one of its policy's.
    pub counts: bool,
}

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

    /// The same failure of a call that reached nobody. The details say so: `{"reason": …, "called": false,
    /// "retry_after_ms": …}`.
    #[must_use]
    pub fn without_a_call(self, reason: &str, retry_after: Option<Duration>) -> Self {
        let mut details = serde_json::json!({ "reason": reason, "called": false });
        if let Some(wait) = retry_after {
            details["retry_after_ms"] = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).into();
        }
        Self { details: Some(details.into()), ..self }
    }

    /// What it says of a call that reached nobody, if it does and may be tried again.
    pub fn uncalled(&self) -> Option<Uncalled> {
        if self.non_retryable || self.kind != Self::CONNECTOR {
            return None;
        }
        let details = self.details.as_ref()?.value();
        (details["called"] == false).then(|| Uncalled {
            retry_after: details["retry_after_ms"].as_u64().map(Duration::from_millis),
            counts: details["counts"] != false,
        })
    }

    /// The same, noted as one that used up no attempt of its policy: `"counts": false` in the details.
    #[must_use]
    pub fn uncounted(self) -> Self {
        self.with_count(serde_json::Value::Bool(false))
    }

    /// The same, whatever a guest that passed it on says of it.
    #[must_use]
    pub fn counted(self) -> Self {
        match self.uncalled() {
            Some(Uncalled { counts: false, .. }) => self.with_count(serde_json::Value::Bool(true)),
            _ => self,
        }
    }

    fn with_count(self, counts: serde_json::Value) -> Self {
        let mut details = self.details.as_ref().map(Json::value).unwrap_or_default();
        if let Some(members) = details.as_object_mut() {
            members.insert("counts".into(), counts);
        }
        Self { details: Some(details.into()), ..self }
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
