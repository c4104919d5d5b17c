//! Why a request has no result, as it is found where the answer is read; and whether a lost session is the reason.

use std::sync::LazyLock;

use crate::egress::Unanswered;
use regex::Regex;

/// A request without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no answer.
    Unanswered(Unanswered),
    /// An answer with a status that is none, and what was said with it (not scrubbed).
    Status { status: u16, retry_after: Option<String>, words: Option<String> },
    /// An error of JSON-RPC.
    Answered(Answered),
    /// A redirect that is not followed, with the address that it names.
    Redirected { status: u16, to: Option<String> },
    /// The server answered, and what it answered cannot be used.
    Unreadable(String),
    /// An answer with nothing in it, or with the word that the request was taken (HTTP status 202) and no more, in words.
    Mute(String),
    /// The stream ended before the answer came, with what was said in it instead (not scrubbed).
    Closed(Option<String>),
    /// The server took the request (HTTP status 202), and the stream on which its answer could come is closed.
    Taken,
    /// An event that tells of an error in words (not scrubbed) instead of an answer.
    Said(String),
    /// The session was given up meanwhile.
    Ended,
}

/// An error of JSON-RPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    /// As it was sent, if it was a number or a text.
    pub(super) code: String,
    /// Not scrubbed.
    pub(super) message: String,
    pub(super) data: Option<serde_json::Value>,
    /// It names the request. One that does not is about the request as well, as it stands in its answer.
    pub(super) own: bool,
}

/// A session that the server does not know any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// The request was surely refused before it reached a tool.
    pub(super) unreached: bool,
}

impl Failure {
    /// The server wants a credential, or another one.
    pub(super) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Status { status: 401, .. } | Self::Answered(Answered { status: 401, .. }))
    }

    /// Whether the reason may be that the server has forgotten the session. `worked`: it has answered in it before.
    pub(super) fn lost(&self, in_session: bool, worked: bool) -> Option<Lost> {
        if !in_session {
            return None;
        }
        let unreached = |unreached| Some(Lost { unreached });
        match self {
            // What the specification wants (2025-11-25, transports, session management).
            Self::Status { status: 404 | 410, .. } => unreached(true),
            Self::Status { status: 401, .. } if worked => unreached(true),
            Self::Status { status: 400 | 401 | 403 | 409 | 422, words: Some(words), .. }
                if names_session(words) =>
            {
                unreached(true)
            }
            // What failed may have begun.
            Self::Status { status: 500..=599, words: Some(words), .. } if names_session(words) => {
                unreached(false)
            }
            // It may be anything; a new session costs little and may help the next call.
            Self::Status { status: 400 | 409 | 422, .. } => unreached(false),
            Self::Answered(error) => error.lost(worked),
            // Who takes a request without a word may have carried it out.
            Self::Mute(_)
            | Self::Closed(_)
            | Self::Taken
            | Self::Ended
            | Self::Unanswered(Unanswered::Broken) => unreached(false),
            // Words that are no message may be of what stands before the server.
            Self::Said(words) | Self::Unreadable(words) if names_session(words) => unreached(false),
            _ => None,
        }
    }

    /// What it is, without any of the server's words: for the log of those who cannot scrub.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Unanswered(unanswered) => format!("{unanswered:?}"),
            Self::Status { status, .. } => format!("HTTP status {status}"),
            Self::Answered(Answered { status, .. }) => format!("an error, HTTP status {status}"),
            Self::Redirected { status, .. } => format!("a redirect, HTTP status {status}"),
            Self::Unreadable(_) => "unreadable".into(),
            Self::Mute(_) => "empty".into(),
            Self::Closed(_) => "closed".into(),
            Self::Taken => "taken and not answered".into(),
            Self::Said(_) => "an error in words".into(),
            Self::Ended => "ended".into(),
        }
    }
}

impl Answered {
    /// Codes that servers have for requests that they do not take. A tool's own error has others.
    fn is_of_protocol(&self) -> bool {
        matches!(self.code.as_str(), "-32600" | "-32000" | "-32001")
    }

    fn lost(&self, worked: bool) -> Option<Lost> {
        let unreached = |unreached| Some(Lost { unreached });
        // By JSON-RPC 2.0 §5, these codes without an id say that the request itself was not taken.
        let not_taken = !self.own && matches!(self.code.as_str(), "-32600" | "-32700");
        match self.status {
            401 if worked => unreached(true),
            404 | 410 if !self.own => unreached(true),
            400..=499 if names_session(&self.message) => unreached(!self.own || self.is_of_protocol()),
            400..=499 if not_taken => unreached(true),
            404 | 410 if matches!(self.code.as_str(), "-32601" | "-32602") => None,
            400 | 404 | 409 | 410 | 422 => unreached(false),
            // Inside an ordinary answer the words may be a tool's own: only what names the header's session is believed.
            _ if not_taken => unreached(true),
            _ if names_session(&self.message) => {
                unreached(self.is_of_protocol() && (!self.own || names_session_id(&self.message)))
            }
            _ if !self.own => unreached(false),
            _ => None,
        }
    }
}

/// What is said of a session that is not there, before and behind its name. A tool may speak of sessions of its own: only
/// words that say that one is missing count.
static NO_SESSION: LazyLock<Regex> = LazyLock::new(|| {
    let before = r"(?:unknown|invalid|expired|missing|no|bad|stale|inactive|terminated|unrecogni[sz]ed|non-?existent)\s+(?:(?:mcp|active|valid|such|transport|existing|matching|server|http|client)\s+)*session";
    let behind = r"session(?:[-_ ]?id)?(?:\s+header)?(?:\s*[:=]?\s*[`'\x22<]?[\w.:-]{1,128}[`'\x22>]?)?[:,]?\s+(?:is\s+|was\s+|has\s+|have\s+|been\s+|already\s+|could\s+)*(?:not\s+(?:be\s+)?(?:found|valid|known|exist|recogni[sz]ed|active|available)|unknown|invalid|expired|missing|required|terminated|ended|does\s*n(?:o|')t\s+exist|no\s+longer)";
    let joined = format!(
        "(?:{before})|(?:{behind})|session[-_]?(?:not[-_]?found|expired|terminated|invalid)|mcp-session-id"
    );
    Regex::new(&joined).expect("the expression is a constant, and the tests use it")
});

/// Whether it is the session of the protocol that is named, in so many words.
fn names_session_id(words: &str) -> bool {
    let words = words.to_lowercase();
    words.contains("session id") || words.contains("session-id") || words.contains("sessionid")
}

/// Whether a refusal is about the session: the words of the SDKs for TypeScript, Python, Java, Kotlin, C#, Go, Rust, PHP
/// and Ruby, of fastmcp, and of what stands in front of servers.
fn names_session(words: &str) -> bool {
    let words = words.to_lowercase();
    let uninitialized =
        ["not initialized", "uninitialized", "before initiali", "expect initialize", "not been initialized"];
    NO_SESSION.is_match(&words) || uninitialized.iter().any(|phrase| words.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, words: &str) -> Failure {
        let words = Some(words.to_owned()).filter(|words| !words.is_empty());
        Failure::Status { status, retry_after: None, words }
    }

    fn answered(status: u16, code: &str, message: &str, own: bool) -> Failure {
        let (code, message) = (code.to_owned(), message.to_owned());
        Failure::Answered(Answered { status, retry_after: None, code, message, data: None, own })
    }

    #[test]
    fn a_lost_session_is_known_by_what_servers_say_about_it() {
        let again = Some(Lost { unreached: true });
        let told = Some(Lost { unreached: false });
        let table = [
            (status(404, ""), again),
            (status(404, "404 page not found"), again),
            (status(410, "Gone"), again),
            (status(400, "Bad Request: No valid session ID provided"), again),
            (status(400, "Invalid session"), again),
            (status(400, "Bad Request: Server not initialized"), again),
            (status(401, "Unauthorized: Session not found"), again),
            (status(401, ""), again),
            (status(422, "Unexpected message, expect initialize request"), again),
            (answered(404, "-32001", "Session not found", false), again),
            (answered(400, "-32000", "Bad Request: No valid session ID provided", false), again),
            (answered(400, "-32600", "Bad Request: unknown session", true), again),
            (answered(400, "-32000", "Bad Request: Mcp-Session-Id header is required", false), again),
            (answered(200, "-32600", "Invalid Request", false), again),
            (answered(200, "-32001", "Session not found", false), again),
            (answered(500, "-32000", "Invalid session ID", true), again),
            // Told at once; the tool may have been reached.
            (status(400, "Bad Request"), told),
            (status(400, ""), told),
            (answered(200, "-32603", "Internal error: the database is gone", false), told),
            (answered(500, "-32603", "gone", false), told),
            (answered(404, "-32000", "Not Found", true), told),
            (status(500, "session not found"), told),
            (answered(404, "-32603", "session 5 does not exist, it was created just now", true), told),
            (
                answered(400, "-32603", "The recording session was started, but could not be saved", true),
                told,
            ),
            (status(400, "Session of the user was closed twice"), told),
            (Failure::Mute("HTTP status 202 and an empty answer".into()), told),
            (Failure::Closed(None), told),
            (Failure::Said("Session not found".into()), told),
            (Failure::Unreadable("text/plain, which says: Invalid session".into()), told),
            // Nothing to do with a session.
            (answered(200, "-32603", "the database is gone", true), None),
            (answered(404, "-32601", "Method not found", true), None),
            (answered(200, "-32000", "the session of the remote desktop was not found", true), None),
            (answered(200, "-32000", "Login session id 7 was created, then the disk was full", true), None),
            (answered(403, "-32603", "session limit reached after writing", true), None),
            (answered(200, "-32602", "Unknown tool", true), None),
            (status(500, ""), None),
            (status(403, "no"), None),
            (status(429, "session quota"), None),
            (Failure::Unreadable("…".into()), None),
        ];
        for (failure, expected) in table {
            assert_eq!(failure.lost(true, true), expected, "{failure:?}");
            assert_eq!(failure.lost(false, true), None, "{failure:?} without a session");
        }
        assert_eq!(status(401, "").lost(true, false), None, "a session that never worked");
    }
}
