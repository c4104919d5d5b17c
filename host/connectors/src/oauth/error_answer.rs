//! What an authorization server says about a failure.

use serde_json::Value;

use super::{document::Document, quote::quoted};

/// An error answer (RFC 6749 §5.2, RFC 7591 §3.2.2).
pub(crate) struct ErrorAnswer {
    pub(crate) error: String,
    pub(crate) error_description: Option<String>,
}

impl ErrorAnswer {
    /// The error in a body, if there is one, in the forms that servers have for it. Some send it with status 200.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        Self::of(&mut Document::read(body).ok()?)
    }

    /// The error in an answer that was read already.
    pub(super) fn of(document: &mut Document) -> Option<Self> {
        const DESCRIPTIONS: [&str; 4] = ["error_description", "error_message", "message", "detail"];
        let described = |document: &mut Document| DESCRIPTIONS.iter().find_map(|name| said(document, name));
        if let Some(error) = said(document, "error") {
            return Some(Self { error, error_description: described(document) });
        }
        // An object with the words inside (Google, Facebook), or none and a flag (Slack).
        if let Some(mut inner) = document.object("error")
            && document.value("error").is_some_and(|error| error != serde_json::json!({}))
        {
            let code = ["code", "type", "status"].iter().find_map(|name| said(&mut inner, name));
            let description = described(&mut inner);
            return match (code, description) {
                (Some(error), error_description) => Some(Self { error, error_description }),
                (None, Some(error)) => Some(Self { error, error_description: None }),
                (None, None) => {
                    Some(Self { error: "an error without a word".into(), error_description: None })
                }
            };
        }
        // Whatever it is, it is no success.
        let is_there = match document.value("error") {
            Some(Value::Bool(error)) => error,
            Some(Value::Array(errors)) => !errors.is_empty(),
            Some(Value::Object(error)) => !error.is_empty(),
            Some(_) => false,
            None => document.has("error"),
        };
        if is_there {
            return Some(Self {
                error: "an error of no known form".into(),
                error_description: described(document),
            });
        }
        // Some send a code of their own for a success as well.
        if !document.has("access_token")
            && let Some(error) = said(document, "error_code").or_else(|| said(document, "errorCode"))
        {
            return Some(Self { error, error_description: described(document) });
        }
        let is_refusal = document.value("ok") == Some(Value::Bool(false));
        is_refusal.then(|| Self { error: "it says ok: false".into(), error_description: described(document) })
    }

    /// Whether it says, in so many words, that the server does not know such a client.
    pub(crate) fn names_no_client(&self) -> bool {
        const PHRASES: [&str; 7] = [
            "unknown client",
            "invalid client",
            "client not found",
            "client was not found",
            "no such client",
            "client does not exist",
            "client is not registered",
        ];
        let description = self.error_description.as_deref().unwrap_or_default().to_ascii_lowercase();
        match self.error.to_ascii_lowercase().as_str() {
            // The second is GitHub's.
            "invalid_client" | "incorrect_client_credentials" | "unknown_client" | "client_not_found" => true,
            "unauthorized_client" | "invalid_request" | "invalid_client_id" => {
                PHRASES.iter().any(|phrase| description.contains(phrase))
            }
            _ => false,
        }
    }

    /// `code (description)`, cleaned of `secrets`.
    pub(crate) fn quoted(&self, secrets: &[&str]) -> String {
        let code = quoted(&self.error, secrets);
        match &self.error_description {
            Some(description) => format!("{code} ({})", quoted(description, secrets)),
            None => code,
        }
    }
}

/// A text or a number under a name.
fn said(document: &mut Document, name: &str) -> Option<String> {
    match document.value(name)? {
        Value::String(text) => Some(text).filter(|text| !text.trim().is_empty()),
        Value::Number(number) if number.as_f64() != Some(0.0) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_about_a_client_that_is_not_there_say_that() {
        let names = |error: &str, description: &str| {
            let description = Some(description.to_owned()).filter(|text| !text.is_empty());
            ErrorAnswer { error: error.into(), error_description: description }.names_no_client()
        };
        for (error, description) in [
            ("invalid_client", ""),
            ("Invalid_Client", "Client authentication failed"),
            ("unauthorized_client", "Invalid client or Invalid client credentials"),
            ("invalid_request", "Client not found: 7"),
        ] {
            assert!(names(error, description), "{error} {description}");
        }
        for (error, description) in [
            ("unauthorized_client", "The client may not use this grant type"),
            ("invalid_request", "client_id is missing"),
            ("invalid_grant", "it was given to an unknown client"),
            ("access_denied", ""),
        ] {
            assert!(!names(error, description), "{error} {description}");
        }
    }

    #[test]
    fn an_error_is_found_in_every_form_that_servers_have_for_it() {
        let quoted = |body: &str| ErrorAnswer::read(body.as_bytes()).map(|error| error.quoted(&[]));
        for (body, expected) in [
            (r#"{"error": "invalid_grant", "error_description": "no\n more"}"#, "invalid_grant (no more)"),
            (r#"{"ok": false, "error": "invalid_code"}"#, "invalid_code"),
            (r#"{"ok": false}"#, "it says ok: false"),
            (r#"{"error": {"code": 190, "type": "OAuthException", "message": "Bad"}}"#, "190 (Bad)"),
            (r#"{"error": {"message": "Bad"}}"#, "Bad"),
            (r#"{"error": {"x": 1}}"#, "an error without a word"),
            (r#"{"error": true, "message": "Bad"}"#, "an error of no known form (Bad)"),
            (r#"{"error": "x", "error": "y"}"#, "an error of no known form"),
            (r#"{"error": [1]}"#, "an error of no known form"),
            (r#"{"error": "", "error_code": 10008, "message": "Bad"}"#, "10008 (Bad)"),
            ("\u{feff}{\"error\": \"x\", \"error_description\": null}", "x"),
            (r#"{"error": "x", "error_description": ["y"]}"#, "x"),
        ] {
            assert_eq!(quoted(body).as_deref(), Some(expected), "{body}");
        }
        for none in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"ok": true}"#,
            r#"{"error": null}"#,
            r#"{"error": []}"#,
            r#"{"error": {}}"#,
        ] {
            assert_eq!(quoted(none), None, "{none}");
        }
    }
}
