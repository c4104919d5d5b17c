//! An attempt at a service that failed: what the caller is told, and whether another attempt makes sense.

use std::time::{Duration, SystemTime};

use crate::{ConnectorsError, egress::Unanswered};

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

impl Trouble {
    /// What the caller is told, with whether anything was called.
    pub(crate) fn told(self) -> ConnectorsError {
        let retry_after = match self.again {
            Again::Always => None,
            Again::After(wait) => Some(wait),
            Again::Never | Again::IfIdempotent => return self.error,
        };
        ConnectorsError::NotCalled { error: Box::new(self.error), retry_after, is_open: false }
    }
}

impl From<ConnectorsError> for Trouble {
    /// An error that another attempt does not help.
    fn from(error: ConnectorsError) -> Self {
        Self { error, again: Again::Never }
    }
}

/// What bounds an answer.
pub(crate) struct Bounds {
    /// `None`: whoever waits has a limit of their own, and this one is not theirs.
    pub(crate) time: Option<Duration>,
    /// The connector's limit; `None`: that of one message.
    pub(crate) bytes: Option<u64>,
}

/// A server gave no answer. `effect` is what is to be said of a call that may have had one, and stands behind what is told
/// of an answer that was there.
pub(crate) fn unanswered(
    connector: &str,
    host: &str,
    unanswered: Unanswered,
    bounds: &Bounds,
    effect: &str,
) -> Trouble {
    let server = |what: &str| format!("the server of connector '{connector}' ({host}) {what}");
    let upstream = |what: &str, again| Trouble { error: ConnectorsError::Upstream(server(what)), again };
    match unanswered {
        Unanswered::Unreachable(why) => upstream(&format!("cannot be reached: {why}"), Again::Always),
        Unanswered::Late => match bounds.time {
            Some(limit) => late(connector, host, limit),
            None => Trouble {
                error: ConnectorsError::Timeout(server("did not answer in time")),
                again: Again::IfIdempotent,
            },
        },
        Unanswered::Broken => upstream("broke the connection off", Again::IfIdempotent),
        Unanswered::TooLarge => match bounds.bytes {
            Some(most) => too_large(connector, host, most).into(),
            None => {
                let text = format!("answered with more bytes than one message may have{effect}");
                ConnectorsError::TooLarge(server(&text)).into()
            }
        },
        Unanswered::Redirected => upstream(
            "redirects to another server: that is not followed, so register the connector with the other address",
            Again::Never,
        ),
        Unanswered::Encoded => upstream(
            "answered in a content encoding that is not known, or that the answer does not have: gzip, deflate and br are",
            Again::Never,
        ),
        Unanswered::Forbidden(wall) => ConnectorsError::Forbidden(format!(
            "the address of connector '{connector}' ({host}) may not be called: {wall}"
        ))
        .into(),
    }
}

/// A server did not answer within a limit.
pub(crate) fn late(connector: &str, host: &str, limit: Duration) -> Trouble {
    let message = format!("the server of connector '{connector}' ({host}) took longer than {limit:?}");
    Trouble { error: ConnectorsError::Timeout(message), again: Again::IfIdempotent }
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
    use crate::egress::{Obstacle, address::Wall};

    #[test]
    fn every_reason_for_no_answer_names_connector_and_host_and_says_whether_another_attempt_makes_sense() {
        let told = |why, time: Option<u64>, bytes| {
            let bounds = Bounds { time: time.map(Duration::from_secs), bytes };
            let Trouble { error, again } =
                unanswered("crm", "crm.test", why, &bounds, ". It may have had its effect");
            let text = error.to_string();
            assert!(text.contains("'crm' (crm.test)"), "{text}");
            (error.code(), text, again)
        };
        let refused = Unanswered::Unreachable(Obstacle::Refused);
        for (why, time, bytes, code, words, again) in [
            (refused, None, None, "upstream", "cannot be reached: the connection was refused", Again::Always),
            (Unanswered::Late, Some(5), None, "timeout", "took longer than 5s", Again::IfIdempotent),
            (Unanswered::Late, None, None, "timeout", "did not answer in time", Again::IfIdempotent),
            (Unanswered::Broken, None, None, "upstream", "broke the connection off", Again::IfIdempotent),
            (Unanswered::TooLarge, None, Some(7), "too_large", "is larger than 7 bytes", Again::Never),
            (
                Unanswered::TooLarge,
                None,
                None,
                "too_large",
                "may have. It may have had its effect",
                Again::Never,
            ),
            (
                Unanswered::Redirected,
                None,
                None,
                "upstream",
                "register the connector with the other",
                Again::Never,
            ),
            (Unanswered::Encoded, None, None, "upstream", "gzip, deflate and br are", Again::Never),
            (
                Unanswered::Forbidden(Wall::Private),
                None,
                None,
                "forbidden",
                "may not be called",
                Again::Never,
            ),
        ] {
            let (kind, text, said) = told(why, time, bytes);
            assert!(text.contains(words), "{text}");
            assert_eq!((kind, said), (code, again), "{text}");
        }
    }

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
