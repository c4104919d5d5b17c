//! What can go wrong, by whose fault it is. Messages name hosts and codes, never addresses, bodies or secrets.

pub(crate) mod wording;

use std::time::Duration;

use airlock_engine::{Failure, problem::nearest, records::RecordsError};

/// A connector could not be managed or called.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectorsError {
    /// There is no such connector or credential in the caller's scopes.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken, or a rule about defaults would be broken.
    #[error("{0}")]
    Conflict(String),
    /// Something in the request is not as it should be.
    #[error("{message}")]
    Invalid {
        /// JSON pointer into the request.
        pointer: String,
        /// What is expected there.
        message: String,
    },
    /// Part of the contract that this version does not serve.
    #[error("{0}")]
    Unsupported(String),
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// The operator's rules for the connector do not let the call through.
    #[error("{0}")]
    Denied(String),
    /// There were too many calls, by the operator's rules or the server's.
    #[error("{message}")]
    RateLimited {
        /// Which limit it is, and when to come back.
        message: String,
        /// How long to wait.
        retry_after: Duration,
    },
    /// Nothing was called, and another time it may be: the server cannot be reached, is left alone by the breaker, or sent
    /// the call away.
    #[error("{error}")]
    NotCalled {
        /// What the caller is told.
        error: Box<ConnectorsError>,
        /// How long to wait, if that is known.
        retry_after: Option<Duration>,
        /// The breaker did not let the call through.
        is_open: bool,
    },
    /// The answer is larger than the operator's limit.
    #[error("{0}")]
    TooLarge(String),
    /// People were to be asked in the middle of a call, and that did not work.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// There is no usable credential, or the server refused it.
    #[error("{0}")]
    Unauthorized(String),
    /// The server cannot be reached or does not keep to its protocol.
    #[error("{0}")]
    Upstream(String),
    /// The server answered, with an error of its own or with something that cannot be used. It is not failing.
    #[error("{0}")]
    Answered(String),
    /// The server took too long.
    #[error("{0}")]
    Timeout(String),
    /// The store failed.
    #[error("{0}")]
    Store(String),
}

impl ConnectorsError {
    pub(crate) fn invalid(pointer: &str, message: impl Into<String>) -> Self {
        Self::Invalid { pointer: pointer.into(), message: message.into() }
    }

    /// A request that does not have its shape. serde's own words quote what was sent, which may be a secret in the wrong
    /// place.
    pub(crate) fn misshapen(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        let (pointer, problem) = (pointer(error.path()), error.inner().to_string());
        let message = match (meant(&problem), problem.rsplit_once(", expected ")) {
            // Its name may be anything; which one it is like is ours to tell.
            (Some(meant), _) => format!("there is no such field here: '{meant}' is meant?"),
            (None, Some((_, expected))) => format!("expected {expected}"),
            (None, None) if problem.starts_with("missing field") => problem,
            (None, None) => "this is not what is expected here".into(),
        };
        Self::invalid(&pointer, message)
    }

    /// The same, for a place inside another.
    pub(crate) fn under(self, place: &str) -> Self {
        match self {
            Self::Invalid { pointer, message } => {
                Self::Invalid { pointer: format!("{place}{pointer}"), message }
            }
            other => other,
        }
    }

    /// Whether the server was asked for something and gave no answer.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Self::Upstream(_) | Self::Timeout(_) => true,
            Self::NotCalled { error, .. } => error.is_silence(),
            _ => false,
        }
    }

    /// A stable word for what went wrong, for logs, audits and programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotCalled { is_open: true, .. } => "circuit_open",
            Self::NotCalled { error, .. } => error.code(),
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Invalid { .. } => "invalid",
            Self::Unsupported(_) => "unsupported",
            Self::Forbidden(_) => "forbidden",
            Self::Denied(_) => "denied",
            Self::RateLimited { .. } => "rate_limited",
            Self::TooLarge(_) => "too_large",
            Self::Failed(_) => "failed",
            Self::Unauthorized(_) => "unauthorized",
            Self::Upstream(_) | Self::Answered(_) => "upstream",
            Self::Timeout(_) => "timeout",
            Self::Store(_) => "store",
        }
    }
}

/// Of what serde says of an unknown field: the known one that is like it.
fn meant(problem: &str) -> Option<&str> {
    let mut names = problem.strip_prefix("unknown field `")?.split('`').step_by(2);
    let wrong = names.next()?;
    nearest(wrong, names)
}

/// A place as a JSON pointer (RFC 6901).
pub(crate) fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer += &format!("/{index}"),
            Segment::Map { key } => pointer += &format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            // Neither occurs in JSON of this shape.
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

impl From<RecordsError> for ConnectorsError {
    fn from(error: RecordsError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<serde_json::Error> for ConnectorsError {
    fn from(error: serde_json::Error) -> Self {
        Self::Store(format!("a stored record is damaged: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn row_02_what_is_said_of_a_misshapen_request_quotes_nothing_of_it() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "it is only read")]
        struct Request {
            name: String,
            flag: Option<bool>,
        }
        let refuse = |value| match serde_path_to_error::deserialize::<_, Request>(value)
            .map_err(ConnectorsError::misshapen)
        {
            Err(ConnectorsError::Invalid { pointer, message }) => (pointer, message),
            other => panic!("{other:?}"),
        };
        let secret = json!({ "name": "n", "flag": "a-secret, expected a-secret" });
        assert_eq!(refuse(secret), ("/flag".into(), "expected a boolean".into()));
        assert_eq!(refuse(json!({})), (String::new(), "missing field `name`".into()));
    }
}
