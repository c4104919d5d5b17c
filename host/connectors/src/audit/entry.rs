//! What an audit entry says. No field holds a secret; arguments of calls are there only if the operator asked for them.

use airlock_engine::{Failure, Principal, printable::is_active};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ConnectorsError;

/// Texts are cut to so many bytes.
const MAX_TEXT: usize = 256;

/// Arguments that are longer are cut to so many bytes.
const MAX_ARGUMENTS: usize = 16 << 10;

/// What happened, without its place in the log. `Event { kind, actor, ..Event::default() }` and what is known besides.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    /// Who did it: for a call of an execution, the principal it runs as.
    pub(crate) actor: Actor,
    /// The user for whom the actor did it, if that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) on_behalf_of: Option<String>,
    /// The execution it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) execution: Option<String>,
    /// The step of the execution: its idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) step: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connector_id: Option<String>,
    /// The connector's name at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connector: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tool: Option<String>,
    /// The credential that was used or changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) credential: Option<CredentialVersion>,
    pub(crate) outcome: Outcome,
    /// A stable word for what went wrong: [`ConnectorsError::code`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// A few words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) duration_us: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) request_bytes: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) response_bytes: u64,
    /// How many secrets were taken out of the answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) redactions: u64,
    /// Only if the connector's control asks for it. What is longer than 16 KiB is cut: `{"cut": true, "bytes": its
    /// length, "start": its first part as text}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) arguments: Option<Value>,
    /// The log's own: which entries were removed because of their age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) removed: Option<Removed>,
    /// Which break of the log was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accepted: Option<Accepted>,
}

/// An entry as it stands in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Counts from 1 without a gap.
    pub(crate) sequence: u64,
    /// To the microsecond.
    pub(crate) at: DateTime<Utc>,
    #[serde(flatten)]
    pub(crate) event: Event,
    /// The hash of the entry before, 64 hexadecimal digits; zeros for the first.
    pub(crate) previous: String,
    /// HMAC-SHA-256 over the line up to here.
    pub(crate) hash: String,
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A tool was called, or was not because something refused it.
    #[default]
    Call,
    CredentialStored,
    CredentialDeleted,
    CredentialRefreshed,
    /// A credential's connection state changed; the note says to what.
    CredentialStateChanged,
    ConnectorCreated,
    ConnectorChanged,
    ConnectorDeleted,
    ControlChanged,
    MocksChanged,
    PinApproved,
    /// airlock was registered anew as a client that its authorization server had forgotten.
    ClientReplaced,
    KeyRotated,
    /// The log's own: a line that was not whole was cut off when the log was opened.
    LogRepaired,
    /// The log's own: nothing could be written for a while.
    LogResumed,
    /// The log's own: the oldest entries were removed, as the operator's retention says.
    LogTrimmed,
    /// The log was not whole, and somebody accepted that.
    LogAccepted,
}

/// The words for all kinds, for those who look for entries.
pub const AUDIT_KINDS: [&str; 17] = [
    "call",
    "credential_stored",
    "credential_deleted",
    "credential_refreshed",
    "credential_state_changed",
    "connector_created",
    "connector_changed",
    "connector_deleted",
    "control_changed",
    "mocks_changed",
    "pin_approved",
    "client_replaced",
    "key_rotated",
    "log_repaired",
    "log_resumed",
    "log_trimmed",
    "log_accepted",
];

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Actor {
    pub(crate) user: String,
    pub(crate) workspace: String,
    pub(crate) organization: String,
}

impl From<&Principal> for Actor {
    fn from(who: &Principal) -> Self {
        Self {
            user: who.user.to_string(),
            workspace: who.workspace.to_string(),
            organization: who.organization.to_string(),
        }
    }
}

/// Which secret it was, without the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CredentialVersion {
    /// The credential's key.
    pub(crate) id: String,
    pub(crate) version: u32,
}

/// What an entry of kind [`Kind::LogTrimmed`] says of entries that were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Removed {
    /// The first one.
    pub(crate) first: u64,
    /// The last one.
    pub(crate) through: u64,
    /// The hash of the last one: what the first entry that is left names as the one before.
    pub(crate) hash: String,
    /// How many they are.
    pub(crate) entries: u64,
    /// When the first was written.
    pub(crate) from: DateTime<Utc>,
    /// When the last was written.
    pub(crate) to: DateTime<Utc>,
    /// The number of the last file that went.
    #[serde(default)]
    pub(crate) file: u64,
}

/// What an entry of kind [`Kind::LogAccepted`] says of a log that was not whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accepted {
    /// What was wrong with it.
    pub(crate) problem: String,
    /// The files before, as they were then: their numbers with the SHA-256 of all that stood in them.
    pub(crate) files: Vec<(u64, String)>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    #[default]
    Ok,
    /// The tool itself answered with an error.
    ToolError,
    /// A rule did not let it through.
    Denied,
    /// Something went wrong.
    Failed,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Event {
    /// Something that somebody did.
    pub(crate) fn by(kind: Kind, who: &Principal) -> Self {
        Self { kind, actor: who.into(), ..Self::default() }
    }

    /// Something that the host did by itself.
    pub(crate) fn host(kind: Kind) -> Self {
        let actor = Actor { user: "airlock".into(), ..Actor::default() };
        Self { kind, actor, ..Self::default() }
    }

    /// The event with the outcome that an error is.
    pub(crate) fn failed(self, error: &ConnectorsError) -> Self {
        let outcome = match error {
            ConnectorsError::Denied(_)
            | ConnectorsError::Forbidden(_)
            | ConnectorsError::RateLimited { .. } => Outcome::Denied,
            ConnectorsError::Failed(failure) if failure.kind == Failure::QUESTION_EXPIRED => Outcome::Denied,
            _ => Outcome::Failed,
        };
        Self { outcome, code: Some(error.code().into()), ..self }
    }

    /// Cuts what is too long and cleans what would deceive who reads it in a terminal.
    pub(super) fn clean(mut self) -> Self {
        let optional = [
            &mut self.on_behalf_of,
            &mut self.execution,
            &mut self.step,
            &mut self.connector_id,
            &mut self.connector,
            &mut self.tool,
            &mut self.code,
            &mut self.note,
        ];
        let actor = [&mut self.actor.user, &mut self.actor.workspace, &mut self.actor.organization];
        let credential = self.credential.as_mut().map(|credential| &mut credential.id);
        let problem = self.accepted.as_mut().map(|accepted| &mut accepted.problem);
        optional.into_iter().flatten().chain(actor).chain(credential).chain(problem).for_each(clean);
        self.arguments = self.arguments.map(cut);
        self
    }
}

fn clean(text: &mut String) {
    let end = text.floor_char_boundary(MAX_TEXT);
    text.truncate(end);
    // Nearly all are of letters that need no closer look.
    if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.contains(deceives) {
        *text = text.replace(deceives, " ");
    }
}

fn deceives(character: char) -> bool {
    is_active(character) || character == '\t'
}

fn cut(arguments: Value) -> Value {
    let text = arguments.to_string();
    if text.len() <= MAX_ARGUMENTS {
        return arguments;
    }
    // As a JSON string it gets longer: what is kept of it is what then fits.
    let mut end = text.floor_char_boundary(MAX_ARGUMENTS - 64);
    loop {
        let cut = json!({ "cut": true, "bytes": text.len(), "start": &text[..end] });
        let length = cut.to_string().len();
        if length <= MAX_ARGUMENTS {
            return cut;
        }
        end = text.floor_char_boundary(end * MAX_ARGUMENTS / length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_cleaned() {
        let event = Event {
            actor: Actor { user: "ada\n{\"sequence\":1}".into(), ..Actor::default() },
            tool: Some("é".repeat(200)),
            note: Some("\u{1b}[2Jgone \u{202e}desrever\u{2028}".into()),
            credential: Some(CredentialVersion { id: "a\0b".into(), version: 1 }),
            ..Event::default()
        };
        let event = event.clean();
        assert_eq!(event.actor.user, "ada {\"sequence\":1}");
        assert_eq!(event.tool.expect("is there"), "é".repeat(128));
        assert_eq!(event.note.expect("is there"), " [2Jgone  desrever ");
        assert_eq!(event.credential.expect("is there").id, "a b");
    }

    #[test]
    fn long_arguments_are_cut_and_say_so() {
        let short = json!({ "text": "x".repeat(1_000) });
        assert_eq!(cut(short.clone()), short);
        for text in ["x", "\"", "\u{1}", "é\\"] {
            let long = json!({ "text": text.repeat(40_000) });
            let cut = cut(long.clone());
            assert_eq!((&cut["cut"], &cut["bytes"]), (&json!(true), &json!(long.to_string().len())));
            assert!(cut.to_string().len() <= MAX_ARGUMENTS);
            assert!(cut["start"].as_str().expect("a text").len() > MAX_ARGUMENTS / 4);
        }
    }

    #[test]
    fn a_typical_entry_is_small() {
        let event = Event {
            actor: Actor { user: "ada".into(), workspace: "main".into(), organization: "default".into() },
            execution: Some("0192d2a8-7a11-7cc0-a7a2-1e5c8b1f0d11".into()),
            step: Some("0192d2a8-7a11-7cc0-a7a2-1e5c8b1f0d11/17".into()),
            connector_id: Some("8b2c4f4e-6a4f-4d5e-9d0e-2f1f4b8f1a11".into()),
            connector: Some("github_app".into()),
            tool: Some("create_issue".into()),
            credential: Some(CredentialVersion {
                id: "8b2c4f4e-6a4f-4d5e-9d0e-2f1f4b8f1a11/user/ada/work".into(),
                version: 3,
            }),
            duration_us: 123_456,
            request_bytes: 512,
            response_bytes: 4_096,
            ..Event::default()
        };
        let length = serde_json::to_string(&event).expect("serialises").len();
        assert!(length < 700, "{length} bytes without sequence, time and hashes");
    }

    #[test]
    fn every_kind_has_its_word_and_no_word_is_left() {
        for word in AUDIT_KINDS {
            let kind: Kind = serde_json::from_value(word.into()).expect("a kind");
            assert_eq!(json!(kind), word);
        }
        // The refusal lists the kinds that there are.
        let refused = serde_json::from_value::<Kind>("none".into()).expect_err("no kind").to_string();
        assert_eq!(refused.matches('`').count(), 2 * (AUDIT_KINDS.len() + 1), "{refused}");
    }

    #[test]
    fn an_error_says_how_a_call_ended() {
        let denied = Event::default().failed(&ConnectorsError::Denied("no".into()));
        assert_eq!((denied.outcome, denied.code.as_deref()), (Outcome::Denied, Some("denied")));
        let expired = Failure::permanent(Failure::QUESTION_EXPIRED, "nobody answered");
        assert_eq!(Event::default().failed(&ConnectorsError::Failed(expired)).outcome, Outcome::Denied);
        let failed = Event::default().failed(&ConnectorsError::Timeout("late".into()));
        assert_eq!((failed.outcome, failed.code.as_deref()), (Outcome::Failed, Some("timeout")));
    }
}
