//! Why something did not succeed.

use std::{borrow::Cow, fmt};

use serde_json::Value;

/// What workflows, activities and most operations return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure: a kind for programs and retry policies, a message for people.
///
/// Every `std::error::Error` turns into one of kind [`Error::DEFAULT_KIND`] with `?`. For that reason this type does
/// not implement `std::error::Error` itself.
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Cow<'static, str>,
    message: String,
    non_retryable: bool,
    details: Option<Value>,
    /// Not a failure: the JSON text that the next run of the workflow begins with.
    next_run: Option<String>,
}

impl Error {
    /// The kind of an error that did not choose one.
    pub const DEFAULT_KIND: &str = "Error";
    /// The execution, or the operation, was cancelled.
    pub const CANCELLED: &str = "Cancelled";
    /// A limit in time was reached.
    pub const TIMEOUT: &str = "Timeout";
    /// The input does not match the declared type.
    pub const INVALID_INPUT: &str = "InvalidInput";
    /// An output does not match the declared type.
    pub const INVALID_OUTPUT: &str = "InvalidOutput";
    /// The plugin has no workflow or activity of that name.
    pub const NOT_FOUND: &str = "NotFound";
    /// A tool reported an error; [`Error::details`] holds its whole answer.
    pub const TOOL_CALL: &str = "ConnectorToolCallError";
    /// A connector or its credential is missing or unusable, or its service does not answer. [`Error::reason`] may say
    /// which of the known reasons it is.
    pub const CONNECTOR: &str = "ConnectorError";
    /// The execution that something was sent to has ended.
    pub const ENDED: &str = "Ended";
    /// The execution id of a child is taken.
    pub const ALREADY_EXISTS: &str = "AlreadyExists";
    /// Nobody authorised a connector in time.
    pub const AUTH_TIMEOUT: &str = "ConnectorAuthTimeout";
    /// Nobody answered a question about a tool call in time.
    pub const QUESTION_EXPIRED: &str = "QuestionExpired";

    /// A failure of the given kind that retry policies may try again.
    pub fn new(kind: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind: kind.into(),
            message: message.into(),
            non_retryable: false,
            details: None,
            next_run: None,
        }))
    }

    /// What a workflow returns to continue as new.
    pub(crate) fn continue_as_new(input: String) -> Self {
        let mut error = Self::new("ContinueAsNew", "the workflow continues as new").non_retryable();
        error.0.next_run = Some(input);
        error
    }

    pub(crate) fn next_run(&self) -> Option<&str> {
        self.0.next_run.as_deref()
    }

    /// Which limit was reached, for an error of kind [`Error::TIMEOUT`] that the host made: `schedule-to-start`,
    /// `start-to-close`, `schedule-to-close`, `heartbeat` or `execution`.
    pub fn timeout(&self) -> Option<&str> {
        if self.kind() == Self::TIMEOUT { self.details()?.get("timeout")?.as_str() } else { None }
    }

    /// Why a connector refused, for an error of kind [`Error::CONNECTOR`]: `insufficient_scope`, `unauthorized`, `denied`,
    /// `rate_limited`, `circuit_open` and others, if the host says.
    pub fn reason(&self) -> Option<&str> {
        if self.kind() == Self::CONNECTOR { self.details()?.get("reason")?.as_str() } else { None }
    }

    /// No retry policy applies to it: trying again cannot help.
    #[must_use]
    pub fn non_retryable(mut self) -> Self {
        self.0.non_retryable = true;
        self
    }

    /// With more for programs.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.0.details = Some(details);
        self
    }

    /// The stable word that programs match on.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The sentence for a person.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether retry policies leave it alone.
    pub fn is_non_retryable(&self) -> bool {
        self.0.non_retryable
    }

    /// More for programs, if there is any.
    pub fn details(&self) -> Option<&Value> {
        self.0.details.as_ref()
    }

    /// Whether it says that the execution or the operation was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.kind() == Self::CANCELLED
    }

    pub(crate) fn cancelled(reason: &str) -> Self {
        let message = match reason {
            "" => "cancelled".to_owned(),
            reason => format!("cancelled: {reason}"),
        };
        Self::new(Self::CANCELLED, message).non_retryable()
    }

    pub(crate) fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(Self::INVALID_INPUT, message).non_retryable()
    }

    #[cfg(target_arch = "wasm32")]
    pub(crate) fn into_parts(self) -> (Cow<'static, str>, String, bool, Option<Value>) {
        let Inner { kind, message, non_retryable, details, .. } = *self.0;
        (kind, message, non_retryable, details)
    }
}

impl Clone for Error {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)
    }
}

impl<E: std::error::Error> From<E> for Error {
    /// The message is the error's own followed by those of its sources.
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Many errors already repeat their source in their own message.
            if !message.contains(&cause_text) {
                message.push_str(": ");
                message.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self::new(Self::DEFAULT_KIND, message)
    }
}

/// What a workflow or an activity may return: a `Result` whose error turns into an [`Error`].
#[diagnostic::on_unimplemented(
    message = "a workflow or activity must return `airlock::Result<T>`, not `{Self}`",
    label = "wrap it: `-> airlock::Result<{Self}>`"
)]
pub trait Outcome {
    /// The value of a success.
    type Value;
    /// As the SDK's own result.
    fn into_result(self) -> Result<Self::Value>;
}

impl<T, E: Into<Error>> Outcome for std::result::Result<T, E> {
    type Value = T;

    fn into_result(self) -> Result<T> {
        self.map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<u32> {
        Ok(text.parse::<u32>()?)
    }

    #[test]
    fn a_std_error_becomes_one_of_the_default_kind() {
        let error = parse("x").unwrap_err();
        assert_eq!(error.kind(), "Error");
        assert_eq!(error.message(), "invalid digit found in string");
        assert!(!error.is_non_retryable());
    }
}
