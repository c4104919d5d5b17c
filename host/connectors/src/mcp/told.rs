//! What errors say: whose fault it is, where, and what to do. The server's own words are scrubbed, on one line and short.

use std::time::Duration;

use airlock_engine::printable::is_active;

use super::failure::{Answered, Failure};
use crate::{
    ConnectorsError,
    egress::{Live, scrub::REDACTED},
    error::wording::short,
    protocol::trouble::{self, Again, Bounds, Sent, Trouble, refused, status_with},
};

/// So much of what a server says is quoted.
const MAX_WORDS: usize = 300;

/// What errors may name.
pub(super) struct Told<'a> {
    pub(super) connector: &'a str,
    pub(super) host: &'a str,
    pub(super) credential: Option<&'a Sent>,
    pub(super) live: &'a Live,
}

impl Told<'_> {
    pub(super) fn late(&self, limit: Duration) -> Trouble {
        trouble::late(self.connector, self.host, limit)
    }

    /// The server took a call (HTTP status 202), and its answer did not come within the limit.
    pub(super) fn silent(&self, limit: Duration) -> Trouble {
        let message = self.server(&format!(
            "took longer than {limit:?}: it took the call (HTTP status 202) and sent no answer, neither there nor on the \
             stream on which it speaks by itself{}",
            effect("tools/call")
        ));
        Trouble { error: ConnectorsError::Timeout(message), again: Again::IfIdempotent }
    }

    /// A request in a session was answered with nothing: what that means nobody knows, and it is said.
    pub(super) fn mute(&self, what: &str, question: &str) -> Trouble {
        let text = format!(
            "answered '{question}' with {}: it may have forgotten the session, or have taken the request and said nothing of \
             it; the next one opens another session{}",
            self.body(what),
            effect(question)
        );
        Trouble { error: ConnectorsError::Answered(self.server(&text)), again: Again::IfIdempotent }
    }

    /// What became of a question.
    pub(super) fn failed(&self, failure: &Failure, question: &str) -> Trouble {
        tracing::debug!(
            connector = self.connector,
            host = self.host,
            question,
            failure = self.words(&format!("{failure:?}")),
            "a server did not give a result"
        );
        let upstream =
            |text: &str, again| Trouble { error: ConnectorsError::Upstream(self.server(text)), again };
        match failure {
            Failure::Unanswered(unanswered) => {
                // Its time is measured elsewhere, and its size is that of a message.
                let bounds = Bounds { time: None, bytes: None };
                trouble::unanswered(self.connector, self.host, *unanswered, &bounds, effect(question))
            }
            Failure::Status { status: 401, .. } | Failure::Answered(Answered { status: 401, .. }) => {
                ConnectorsError::Unauthorized(refused(self.connector, self.host, self.credential)).into()
            }
            Failure::Status { status, retry_after, words } => {
                let words = words.as_deref().map(|words| self.body(words));
                status_with(self.connector, self.host, *status, retry_after.as_deref(), words.as_deref())
            }
            Failure::Answered(answered) => self.answered(answered, question),
            Failure::Redirected { status, to } => {
                let to = to.as_deref().map_or_else(|| "somewhere".into(), |to| self.words(to));
                let text = format!(
                    "redirects (HTTP status {status}) to {to}: that is not followed, so register the connector with that \
                     address if it is right"
                );
                ConnectorsError::Answered(self.server(&text)).into()
            }
            Failure::Unreadable(what) | Failure::Mute(what) => {
                let text = format!(
                    "answered '{question}' with {}: see whether the address is that of an MCP server{}",
                    self.body(what),
                    effect(question)
                );
                ConnectorsError::Answered(self.server(&text)).into()
            }
            Failure::Said(words) => {
                let words = match words.trim() {
                    "" => "without a word".to_owned(),
                    words => format!("which says: {}", self.body(words)),
                };
                let text =
                    format!("answered '{question}' with an event 'error', {words}{}", effect(question));
                ConnectorsError::Answered(self.server(&text)).into()
            }
            Failure::Closed(said) => {
                let said = said.as_deref().map(|said| format!(", and said before: {}", self.body(said)));
                let text = format!(
                    "closed the stream before '{question}' was answered{}{}",
                    said.unwrap_or_default(),
                    effect(question)
                );
                upstream(&text, Again::IfIdempotent)
            }
            Failure::Taken => {
                let text = format!(
                    "took '{question}' (HTTP status 202), and closed the stream on which the answer could come{}",
                    effect(question)
                );
                upstream(&text, Again::IfIdempotent)
            }
            Failure::Ended => upstream("ended the session", Again::IfIdempotent),
        }
    }

    /// The server answered with an error of its own.
    fn answered(&self, answered: &Answered, question: &str) -> Trouble {
        let Answered { status, retry_after, code, message, .. } = answered;
        let message = self.words(message);
        let message = match message.is_empty() {
            true => " without a word".to_owned(),
            false => format!(": {message}"),
        };
        let what = match code.as_str() {
            "" => format!("an error{message}"),
            code => format!("error {}{message}", self.words(code)),
        };
        if matches!(status, 403 | 429 | 500..) {
            return status_with(self.connector, self.host, *status, retry_after.as_deref(), Some(&what));
        }
        let text = match status {
            200..=299 => self.server(&format!("answered with {what}")),
            _ => self.server(&format!("answered with HTTP status {status} and {what}")),
        };
        match code.as_str() {
            "-32602" if question == "tools/call" => ConnectorsError::invalid("/arguments", text).into(),
            _ => ConnectorsError::Answered(text).into(),
        }
    }

    fn server(&self, what: &str) -> String {
        format!("the server of connector '{}' ({}) {what}", self.connector, self.host)
    }

    /// What stands in the body of an answer that is no message. One that repeats what was sent is not quoted at all.
    fn body(&self, words: &str) -> String {
        match self.live.rendered().scrubber.text(words).contains(REDACTED) {
            true => format!("what it says repeats the credential ({REDACTED}) and is not quoted"),
            false => self.words(words),
        }
    }

    /// Words of the server, as they may be told.
    fn words(&self, words: &str) -> String {
        let rendered = self.live.rendered();
        let scrubbed = rendered.scrubber.text(words);
        let line: String =
            scrubbed.chars().map(|char| if is_active(char) || char == '\t' { ' ' } else { char }).collect();
        let line = without_queries(&rendered.scrubber.text(line.trim()));
        short(&line, MAX_WORDS)
    }
}

/// What is not known of a call whose answer cannot be read.
fn effect(question: &str) -> &'static str {
    match question {
        "tools/call" => ". The call may have had its effect",
        _ => "",
    }
}

/// Addresses keep their place and lose what is asked of it: a query may hold a key (THREATS row 2).
fn without_queries(words: &str) -> String {
    let mut kept = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(at) = rest.find('?') {
        let (before, query) = rest.split_at(at);
        let end = query.find([' ', '"', '\'', '<', '>', ')']).unwrap_or(query.len());
        kept.push_str(before);
        kept.push_str(if query[..end].contains('=') { "?…" } else { &query[..end] });
        rest = &query[end..];
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::secret::Secret;

    #[test]
    fn row_02_what_a_server_says_is_told_without_secrets_queries_and_control_characters_and_is_short() {
        let secret = Secret { bearer: Some("token-of-somebody-123".into()), ..Secret::default() };
        let live = Live::new(secret.render(&[], &[]).expect("renders"));
        let told = Told { connector: "crm", host: "crm.test", credential: None, live: &live };
        let status = |words: &str| {
            let words = Some(words.to_owned());
            told.failed(&Failure::Status { status: 400, retry_after: None, words }, "tools/call")
                .error
                .to_string()
        };
        let begins = "the server of connector 'crm' (crm.test) answered with HTTP status 400: ";
        assert_eq!(status("no\r\nway"), format!("{begins}no  way"));
        assert_eq!(
            status("GET /mcp?api_key=k HTTP/1.1 what? \"https://x.test/a?b=c\""),
            format!("{begins}GET /mcp?… HTTP/1.1 what? \"https://x.test/a?…\"")
        );
        assert!(!status("authorization: Bearer token-of-somebody-123").contains("Bearer"));
        for filling in 0..400 {
            let told = status(&format!("{}token-of-somebody-123", "token-of-somebody-123 ".repeat(filling)));
            assert!(!told.contains("token-of") && told.contains(REDACTED));
        }
        let long = format!("{} token-of-somebody-123", "x".repeat(280));
        assert!(!status(&long).contains("token") && status(&"é".repeat(5_000)).chars().count() < 400);
    }
}
