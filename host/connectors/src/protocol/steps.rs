//! What was found out about a server, step by step: for whoever registers or checks a connector.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::ConnectorsError;

/// One step, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    name: &'static str,
    state: Stage,
    took: Duration,
    message: String,
    /// What belongs to it, such as the names of what was left out.
    more: Map<String, Value>,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It worked.
    Ok,
    /// It did not, and calls will not either.
    Failed,
    /// It was not tried, or does not matter.
    NotTried,
}

impl Step {
    /// A step that began at a time and ends now.
    pub(crate) fn since(
        began: Instant,
        name: &'static str,
        state: Stage,
        message: impl Into<String>,
    ) -> Self {
        Self::lasting(began.elapsed(), name, state, message)
    }

    /// A step that took so long.
    pub(crate) fn lasting(
        took: Duration,
        name: &'static str,
        state: Stage,
        message: impl Into<String>,
    ) -> Self {
        Self { name, state, took, message: message.into(), more: Map::new() }
    }

    /// A step that failed.
    pub(crate) fn failed(began: Instant, name: &'static str, error: &ConnectorsError) -> Self {
        Self::since(began, name, Stage::Failed, error.to_string()).with("code", error.code().into())
    }

    /// The same with something that belongs to it.
    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.more.insert(field.to_owned(), value);
        self
    }

    /// `{"step", "state": "ok" | "failed" | "not_tried", "duration_ms", "message", …}`.
    pub(crate) fn wire(&self) -> Value {
        let state = match self.state {
            Stage::Ok => "ok",
            Stage::Failed => "failed",
            Stage::NotTried => "not_tried",
        };
        let mut wire = json!({
            "step": self.name, "state": state, "duration_ms": self.took.as_millis() as u64, "message": self.message,
        });
        if let Value::Object(fields) = &mut wire {
            fields.extend(self.more.clone());
        }
        wire
    }

    pub(crate) fn is_failure(&self) -> bool {
        self.state == Stage::Failed
    }
}
