//! What the places said that were asked for metadata of OAuth: for whoever registers or checks a connector, and for errors.
//!
//! Promises: nothing of a path, a query or a body is told; a host, a status and the names of members are.

use std::{fmt, time::Duration};

use url::Url;

use super::{
    document::{LeftOut, told},
    exchange::host,
};
use crate::{ConnectorsError, error::wording::short};

/// Places that an error names.
const TOLD: usize = 12;

/// Characters of what one of them said, and bytes of all of that.
const LONGEST: usize = 150;
const MOST: usize = 1_000;

/// Why a place was not asked any more.
pub(super) const LATE: &str = "the time was over";

/// A place that was asked.
#[derive(Debug, Clone)]
pub(crate) struct Tried {
    /// Its host and the name of what is looked for there; never a path, which may hold a key.
    pub(crate) place: String,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

/// What a place said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What was looked for; the parts of it that were not used.
    Used(Vec<LeftOut>),
    /// An answer that says nothing about what was looked for.
    Nothing(String),
    /// An answer that points to another place.
    Pointer,
    /// Metadata that are not about the server for tools.
    OtherResource(String),
    /// Metadata of an issuer that may not stand there. Its name is for the operator's eyes.
    OtherIssuer(String),
    /// Metadata that cannot be used.
    Unusable(String),
    /// An address that is not asked.
    Refused(String),
    /// A status that says that it may work later.
    Busy(u16),
    /// No answer in time.
    Late,
    /// No answer.
    Failed(String),
    /// It was not asked.
    Skipped(&'static str),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used(left_out) if left_out.is_empty() => f.write_str("used"),
            Self::Used(left_out) => write!(f, "used without {}", told(left_out)),
            Self::Nothing(what) => f.write_str(what),
            Self::Pointer => f.write_str("points to another place"),
            Self::OtherResource(_) => f.write_str("is about another server"),
            Self::OtherIssuer(_) => f.write_str("names another issuer"),
            Self::Unusable(_) => f.write_str("cannot be used"),
            Self::Refused(why) => write!(f, "not asked: {why}"),
            Self::Busy(status) => write!(f, "status {status}"),
            Self::Late => f.write_str("no answer in time"),
            Self::Failed(_) => f.write_str("no answer"),
            Self::Skipped(why) => write!(f, "not asked: {why}"),
        }
    }
}

impl Outcome {
    /// More than is told to everybody: the reason, or the issuer that was named there. If that is right, the operator can
    /// say so.
    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            Self::OtherIssuer(detail)
            | Self::OtherResource(detail)
            | Self::Unusable(detail)
            | Self::Failed(detail) => Some(detail),
            _ => None,
        }
    }

    /// Whether it is certain that there is nothing to be found.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Used(_) | Self::Nothing(_) | Self::Pointer | Self::OtherResource(_))
    }
}

/// The places that were asked, as far as an error names them.
fn listed(tried: &[Tried]) -> String {
    let mut listed = String::new();
    for (number, tried) in tried.iter().enumerate() {
        let one = format!("{} ({})", tried.place, short(&tried.outcome.to_string(), LONGEST));
        if number == TOLD || listed.len() + one.len() > MOST {
            break;
        }
        listed.push_str(if number == 0 { "" } else { ", " });
        listed.push_str(&one);
    }
    listed
}

/// Why there is no server, by what tells most, and what was tried.
pub(super) fn failure(base: &Url, has_issuer: bool, names_none: bool, tried: &[Tried]) -> ConnectorsError {
    let host = host(base);
    let all = || tried.iter().map(|tried| &tried.outcome);
    let not_found = |why: &str| format!("the authorization server of {host} was not found: {why}");
    let unusable = all().find_map(|outcome| match outcome {
        Outcome::Unusable(message) => Some(message.clone()),
        _ => None,
    });
    let is_other = all().any(|outcome| matches!(outcome, Outcome::OtherIssuer(_)));
    let foreign = all().find_map(|outcome| match outcome {
        Outcome::OtherResource(why) => Some(why),
        _ => None,
    });
    let failed = all().find_map(|outcome| match outcome {
        Outcome::Failed(message) => Some(message.clone()),
        Outcome::Busy(status) => Some(format!("a request for metadata failed with status {status}")),
        Outcome::Late => Some("a request for metadata took too long".to_owned()),
        _ => None,
    });
    let is_late = all().any(|outcome| matches!(outcome, Outcome::Late | Outcome::Skipped(LATE)));
    let message = match (unusable, foreign, failed) {
        (Some(message), ..) => message,
        _ if is_other && has_issuer => not_found(
            "the metadata of its authorization server name another issuer than oauth_issuer (--oauth-issuer)",
        ),
        _ if is_other => not_found(
            "the metadata of its authorization server name another issuer. If that one is right, register the connector \
                 with oauth_issuer (--oauth-issuer)",
        ),
        (_, Some(why), _) if names_none => not_found(&format!(
            "its protected resource metadata are not about this server ({why}): check the address of the connector"
        )),
        (_, _, Some(message)) => not_found(&format!("{message}: try again later")),
        _ if names_none => not_found("what it publishes cannot be used"),
        _ => not_found("none of the authorization servers that it names publishes metadata that may be read"),
    };
    let message = format!("{message}. Asked: {}", listed(tried));
    match is_late && !is_other {
        true => ConnectorsError::Timeout(message),
        false => ConnectorsError::Upstream(message),
    }
}
