//! What a plugin says of itself. The attributes fill these in; authors rarely name them.

use std::time::Duration;

use crate::HandlerDefinition;

/// A connector that a plugin uses. Declared with [`connector!`](crate::connector).
pub trait Slot: 'static {
    /// Name or id of a connector that the operator registered.
    const CONNECTOR: &'static str;
    /// Make sure before a workflow starts that its caller is authorised.
    const AUTO_AUTH: bool;
    /// The credential to use; without one, the caller's binding or default decides.
    const CREDENTIALS_NAME: Option<&'static str>;
}

/// [`Slot`] as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotDefinition {
    /// Name or id of the connector.
    pub connector: &'static str,
    /// Authorisation is checked before a workflow starts.
    pub auto_auth: bool,
    /// The pinned credential.
    pub credentials_name: Option<&'static str>,
}

impl SlotDefinition {
    /// The value for a slot's type.
    pub fn of<S: Slot>() -> Self {
        Self { connector: S::CONNECTOR, auto_auth: S::AUTO_AUTH, credentials_name: S::CREDENTIALS_NAME }
    }
}

/// How often and how patiently a failed activity is tried again. The wait before attempt n + 1 is
/// `initial` × `backoff` ^ (n - 1), at most `max`, with some jitter. Where `initial` is zero, the second attempt is made at
/// once, and further waits begin at 10 ms.
///
/// An attempt that could call nothing, because the service is away (its breaker is open, it refuses connections, it says when
/// to come back), uses up none of `attempts` for the first 10 minutes of such an outage and waits as it is told. With
/// `attempts: 1` nothing is waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// All attempts together; 1 means no retry, 0 means without limit.
    pub attempts: u32,
    /// The wait after the first failed attempt.
    pub initial: Duration,
    /// What the wait is multiplied with after each further one; at least 1.
    pub backoff: f64,
    /// The longest wait.
    pub max: Duration,
    /// Kinds of failures that are not tried again.
    pub non_retryable: Vec<String>,
}

impl Default for RetryPolicy {
    /// 3 attempts, 1 s, ×2, at most 100 s: the host's own default.
    fn default() -> Self {
        Self {
            attempts: 3,
            initial: Duration::from_secs(1),
            backoff: 2.0,
            max: Duration::from_secs(100),
            non_retryable: Vec::new(),
        }
    }
}

/// The limits of an activity. What is `None` is left to the activity's definition, then to the host. While an attempt waits
/// for people, to authorise or to answer a question, all of them stand still.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ActivityOptions {
    /// From the moment an attempt is due to the moment it runs. The host's default is no limit.
    pub schedule_to_start: Option<Duration>,
    /// One attempt, from its start. The host's default is 5 minutes.
    pub start_to_close: Option<Duration>,
    /// All attempts and the waits between them. The host's default is no limit.
    pub schedule_to_close: Option<Duration>,
    /// The longest silence between two heartbeats. The host's default is no limit.
    pub heartbeat: Option<Duration>,
    /// When to try again.
    pub retry: Option<RetryPolicy>,
}

/// An activity, as the host sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivityDefinition {
    /// Unique in the plugin.
    pub name: &'static str,
    /// For people.
    pub description: Option<&'static str>,
    /// JSON Schema of the input.
    pub input_schema: String,
    /// JSON Schema of the output; none if there is no output.
    pub output_schema: Option<String>,
    /// Its limits.
    pub options: ActivityOptions,
    /// The connectors it calls.
    pub slots: Vec<SlotDefinition>,
}

/// A workflow, as the host sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkflowDefinition {
    /// Unique over all plugins of a daemon.
    pub name: &'static str,
    /// A title for people.
    pub display_name: Option<&'static str>,
    /// For people.
    pub description: Option<&'static str>,
    /// JSON Schema of the input.
    pub input_schema: String,
    /// JSON Schema of the output; none if there is no output.
    pub output_schema: Option<String>,
    /// Runs with the caller's identity.
    pub on_behalf_of: bool,
    /// From start to end of the execution. The host's default is 1 hour.
    pub execution_timeout: Option<Duration>,
    /// The connectors that it and its activities call.
    pub slots: Vec<SlotDefinition>,
    /// What may be said to it.
    pub signals: Vec<HandlerDefinition>,
    /// What it may be asked.
    pub queries: Vec<HandlerDefinition>,
    /// What it may be told to do.
    pub updates: Vec<HandlerDefinition>,
    /// When a run that failed is tried again.
    pub retry: Option<RetryPolicy>,
    /// Dotted paths into the input whose values become search keys.
    pub search_keys: Vec<&'static str>,
}

/// Everything in a plugin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PluginDefinition {
    /// Its workflows.
    pub workflows: Vec<WorkflowDefinition>,
    /// Its activities.
    pub activities: Vec<ActivityDefinition>,
}

/// Declares a connector that the plugin uses, as a type to name it by:
///
/// ```
/// use airlock_sdk as airlock;
/// airlock::connector!(
///     /// Where the issues are.
///     pub Github = "github_app"
/// );
/// airlock::connector!(Crm = "crm", auto_auth = false, credentials_name = "reporting");
/// ```
///
/// `auto_auth` (default true) makes sure before a workflow starts that its caller is authorised, `credentials_name`
/// asks for the credential of that name.
#[macro_export]
macro_rules! connector {
    ($(#[$meta:meta])* $vis:vis $name:ident = $connector:literal
        $(, auto_auth = $auto:literal)? $(, credentials_name = $credentials:literal)? $(,)?) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        $vis struct $name;

        impl $crate::Slot for $name {
            const CONNECTOR: &'static str = $connector;
            const AUTO_AUTH: bool = $crate::connector!(@first $($auto,)? true);
            const CREDENTIALS_NAME: ::core::option::Option<&'static str> =
                $crate::connector!(@first $(::core::option::Option::Some($credentials),)? ::core::option::Option::None);
        }
    };
    (@first $first:expr $(, $rest:expr)*) => { $first };
}
