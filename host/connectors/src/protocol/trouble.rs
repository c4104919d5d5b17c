//! An attempt at a service that failed: what the caller is told, and whether another attempt makes sense.

use std::time::{Duration, SystemTime};

use crate::ConnectorsError;

/// An attempt failed.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// What the caller is told if it is not tried again.
    pub(crate) error: ConnectorsError,
    /// Whether another attempt makes sense.
    pub(crate) again: Again,
}

/// Whether another attempt makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It would fail in the same way.
    Never,
    /// Nothing was sent: the connection was refused, the name did not resolve.
    Always,
    /// It may have had its effect: status 502, 504, or 503 without `Retry-After`, a timeout, a reset connection.
    IfIdempotent,
    /// The server did not do it and said when to come back: status 429 or 503 with `Retry-After`.
    After(Duration),
}

impl From<ConnectorsError> for Trouble {
    /// An error that another attempt does not help.
    fn from(error: ConnectorsError) -> Self {
        Self { error, again: Again::Never }
    }
}

/// A status that is not an answer.
pub(crate) fn status(connector: &str, host: &str, code: u16, wait: Option<&str>) -> Trouble {
    status_with(connector, host, code, wait, None)
}

/// The same with what the server said: scrubbed, short and on one line.
pub(crate) fn status_with(
    connector: &str,
    host: &str,
    code: u16,
    wait: Option<&str>,
    words: Option<&str>,
) -> Trouble {
    let said = words.map(|words| format!(": {words}")).unwrap_or_default();
    let message =
        format!("the server of connector '{connector}' ({host}) answered with HTTP status {code}{said}");
    let wait = wait.and_then(|wait| retry_after(wait, SystemTime::now()));
    let again = match (code, wait) {
        (429 | 503, Some(wait)) => Again::After(wait),
        (429, None) => Again::Always,
        (502..=504, _) => Again::IfIdempotent,
        _ => Again::Never,
    };
    let error = match code {
        403 => ConnectorsError::Forbidden(message),
        _ => ConnectorsError::Upstream(message),
    };
    Trouble { error, again }
}

/// A credential that was sent, for words about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) name: String,
    /// What somebody can do when it is refused, with a command.
    pub(crate) remedy: String,
}

/// An answer over the connector's limit.
pub(crate) fn too_large(connector: &str, host: &str, most: u64) -> ConnectorsError {
    ConnectorsError::TooLarge(format!(
        "the answer of connector '{connector}' ({host}) is larger than {most} bytes: ask for less, or let the operator \
         raise max_response_bytes of the connector"
    ))
}

/// A server did not accept what authenticates, or wants something that does.
pub(crate) fn refused(connector: &str, host: &str, credential: Option<&Sent>) -> String {
    match credential {
        Some(Sent { name, remedy }) => {
            format!(
                "the server of connector '{connector}' ({host}) refused the credential '{name}': {remedy}"
            )
        }
        None => {
            format!("the server of connector '{connector}' ({host}) wants a credential, and none was sent")
        }
    }
}

/// The wait that a `Retry-After` header asks for: seconds, or a date (RFC 9110 §10.2.3). A date that has passed is no
/// wait.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long wait.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        let table = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun Nov  6 08:50:07 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("-1", None),
            ("+5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ];
        for (value, expected) in table {
            assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value:?}");
        }
    }
}
