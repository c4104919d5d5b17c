//! What both protocols share: what can be called, and what went wrong with an attempt. It knows neither of them.

pub(crate) mod steps;
pub(crate) mod tools;
pub(crate) mod trouble;

use serde_json::Value;

/// What a tool call gives, and how many secrets were taken out of it.
pub(crate) struct Answered {
    pub(crate) value: Value,
    pub(crate) redactions: usize,
}
