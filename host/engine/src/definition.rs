//! What a plugin says of itself: its workflows, activities and connector slots.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Json;

/// A named place for a connector, declared by a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Name or id of a registered connector.
    pub connector: String,
    /// Check before the workflow starts that the caller is authorised.
    pub auto_auth: bool,
    /// Use the credential of this name.
    pub credentials_name: Option<String>,
}

/// How often and how patiently a failed activity is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// The wait after the first failed attempt. Zero: none after the first, then [`RetryPolicy::SOON`], which grows as any other.
    pub initial_interval: Duration,
    /// What the wait is multiplied with after each further one; at least 1.
    pub backoff_coefficient: f64,
    /// The longest wait.
    pub maximum_interval: Duration,
    /// All attempts together; 1 means no retry, 0 means without limit.
    pub maximum_attempts: u32,
    /// Failure kinds that are not tried again.
    pub non_retryable_kinds: Vec<String>,
}

impl RetryPolicy {
    /// What fails again and again is not repeated without a pause, however small that is said to be.
    pub const SOON: Duration = Duration::from_millis(10);

    /// The wait after so many failed attempts, without jitter.
    pub fn wait_after(&self, failed: u32) -> Duration {
        let (first, times) = match self.initial_interval {
            Duration::ZERO if failed <= 1 => return Duration::ZERO,
            Duration::ZERO => (Self::SOON, failed - 2),
            initial => (initial, failed.max(1) - 1),
        };
        let factor = self.backoff_coefficient.max(1.0).powi(times.min(1_000) as i32);
        let wait = (first.as_secs_f64() * factor).min(self.maximum_interval.max(Self::SOON).as_secs_f64());
        Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX)
    }
}

impl Default for RetryPolicy {
    /// 3 attempts, 1 s, ×2, at most 100 s (contract/worker-defaults.md).
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(1),
            backoff_coefficient: 2.0,
            maximum_interval: Duration::from_secs(100),
            maximum_attempts: 3,
            non_retryable_kinds: Vec::new(),
        }
    }
}

/// The limits of an activity; what is absent comes from the definition, then from [`ActivityOptions::DEFAULT_START_TO_CLOSE`] and [`RetryPolicy::default`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActivityOptions {
    /// From the moment an attempt is due to the moment it runs.
    pub schedule_to_start: Option<Duration>,
    /// One attempt.
    pub start_to_close: Option<Duration>,
    /// All attempts and the waits between them.
    pub schedule_to_close: Option<Duration>,
    /// The longest silence between two heartbeats.
    pub heartbeat: Option<Duration>,
    /// When to try again.
    pub retry: Option<RetryPolicy>,
}

impl ActivityOptions {
    /// One attempt may take 5 minutes unless it is said otherwise (contract/worker-defaults.md).
    pub const DEFAULT_START_TO_CLOSE: Duration = Duration::from_secs(300);

    /// These options where they say something, else those of `fallback`.
    pub fn or(&self, fallback: &Self) -> Self {
        Self {
            schedule_to_start: self.schedule_to_start.or(fallback.schedule_to_start),
            start_to_close: self.start_to_close.or(fallback.start_to_close),
            schedule_to_close: self.schedule_to_close.or(fallback.schedule_to_close),
            heartbeat: self.heartbeat.or(fallback.heartbeat),
            retry: self.retry.clone().or_else(|| fallback.retry.clone()),
        }
    }
}

/// An activity of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActivityDefinition {
    /// Unique in the plugin.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// JSON Schema of the input.
    pub input_schema: Json,
    /// JSON Schema of the output.
    pub output_schema: Option<Json>,
    /// Its limits.
    pub options: ActivityOptions,
    /// The connectors it calls.
    pub slots: Vec<Slot>,
}

/// A workflow of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowDefinition {
    /// Unique over all plugins.
    pub name: String,
    /// A title for people.
    pub display_name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// JSON Schema of the input.
    pub input_schema: Json,
    /// JSON Schema of the output.
    pub output_schema: Option<Json>,
    /// Runs with the caller's identity.
    pub on_behalf_of: bool,
    /// From start to end; [`WorkflowDefinition::DEFAULT_EXECUTION_TIMEOUT`] if absent.
    pub execution_timeout: Option<Duration>,
    /// The connectors it and its activities call.
    pub slots: Vec<Slot>,
    /// What may be said to it.
    pub signals: Vec<Handler>,
    /// What it may be asked.
    pub queries: Vec<Handler>,
    /// What it may be told to do, with an answer.
    pub updates: Vec<Handler>,
    /// When a failed run is tried again; absent: never.
    pub retry: Option<RetryPolicy>,
    /// Dotted paths into the input whose values become search keys.
    pub search_keys: Vec<String>,
}

/// A message that a workflow takes while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handler {
    /// Unique among the workflow's handlers of its sort.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// JSON Schema of the input.
    pub input_schema: Json,
    /// JSON Schema of the answer; a signal has none.
    pub output_schema: Option<Json>,
}

impl Handler {
    /// Handlers whose names begin like this belong to the SDK, not to the workflow's author, and are not declared.
    pub const RESERVED: &str = "__";
}

impl WorkflowDefinition {
    /// An execution may take 1 hour unless its definition says otherwise (contract/worker-defaults.md).
    pub const DEFAULT_EXECUTION_TIMEOUT: Duration = Duration::from_secs(3600);
}

/// What a component holds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PluginDefinition {
    /// Its workflows.
    pub workflows: Vec<WorkflowDefinition>,
    /// Its activities.
    pub activities: Vec<ActivityDefinition>,
}

impl PluginDefinition {
    /// The workflow of this name.
    pub fn workflow(&self, name: &str) -> Option<&WorkflowDefinition> {
        self.workflows.iter().find(|workflow| workflow.name == name)
    }

    /// The activity of this name.
    pub fn activity(&self, name: &str) -> Option<&ActivityDefinition> {
        self.activities.iter().find(|activity| activity.name == name)
    }
}
