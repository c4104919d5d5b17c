//! Keys that stand in documents: in descriptions, defaults and examples (THREATS row 19).
//!
//! People paste real ones. Everything that guests, models and lists of tools get to see goes through here once, at import.
//! The rules are conservative: what is taken out by mistake is an example, what stays by mistake may be a live key. The
//! forms are those that the issuers document, and values of fields that are named like secrets.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

const REDACTED: &str = "[REDACTED]";

/// A value of a field that is named like a secret is taken out from this length on.
const SHORTEST: usize = 16;

/// Texts that are keys whatever stands around them.
static FORMS: LazyLock<Regex> = LazyLock::new(|| {
    regex(&[
        r"\bgh[oprsu]_[A-Za-z0-9]{20,}",
        r"\bgithub_pat_[A-Za-z0-9_]{20,}",
        r"\bglpat-[A-Za-z0-9_-]{16,}",
        r"\bsk-[A-Za-z0-9_-]{16,}",
        r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,}",
        r"\bwhsec_[A-Za-z0-9+/]{16,}",
        r"\bxox[a-z]-[A-Za-z0-9-]{10,}",
        r"\bxapp-[A-Za-z0-9-]{10,}",
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        r"\bAIza[A-Za-z0-9_-]{30,}",
        r"\bya29\.[A-Za-z0-9_-]{20,}",
        r"\bnpm_[A-Za-z0-9]{30,}",
        r"\bpypi-[A-Za-z0-9_-]{30,}",
        r"\bhf_[A-Za-z0-9]{30,}",
        r"\bfig[dour]_[A-Za-z0-9_-]{20,}",
        r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
    ])
});

/// A name or a scheme, and after it something that may be a key.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    regex(&[
        r"(?i)(\b(?:bearer|basic)\s+)([a-z0-9._~+/=-]{16,})",
        r#"(?i)((?:api[_-]?key|token|secret|passw(?:or)?d|signature)["']?\s*[:=]\s*["']?)([a-z0-9._~+/=-]{16,})"#,
        r"(?i)(\b[a-z][a-z0-9+.-]*://[^/\s:@]+:)([^/\s@]{6,})",
    ])
});

fn regex(forms: &[&str]) -> Regex {
    Regex::new(&forms.join("|")).expect("the expressions are constants, and the tests use each of them")
}

/// Takes keys out of every string of a document.
pub(super) fn redact(value: &mut Value) {
    match value {
        Value::String(text) => redact_text(text),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => {
            // A parameter has its name beside its examples, a property is named by the field that holds it.
            if fields.get("name").and_then(Value::as_str).is_some_and(is_secret) {
                blank_examples(fields.iter_mut());
            }
            for (name, field) in fields.iter_mut() {
                match field {
                    // Scopes have names and texts, no values.
                    Value::Object(texts) if name == "scopes" => {
                        texts.values_mut().filter(|text| text.is_string()).for_each(redact);
                        continue;
                    }
                    Value::Object(about) if is_secret(name) => blank_examples(about.iter_mut()),
                    Value::String(text) if is_secret(name) && text.len() >= SHORTEST => {
                        *text = REDACTED.into()
                    }
                    _ => {}
                }
                if name != "$ref" {
                    redact(field);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn redact_text(text: &mut String) {
    if text.len() < SHORTEST {
        return;
    }
    if FORMS.is_match(text) {
        *text = FORMS.replace_all(text, REDACTED).into_owned();
    }
    if NAMED.is_match(text) {
        let replace = |found: &Captures| {
            let mut groups = found.iter().skip(1).flatten();
            match (groups.next(), groups.next()) {
                // `Bearer authentication-is-required` is prose; keys have digits.
                (Some(kept), Some(key)) if key.as_str().bytes().any(|byte| byte.is_ascii_digit()) => {
                    format!("{}{REDACTED}", kept.as_str())
                }
                _ => found[0].to_owned(),
            }
        };
        *text = NAMED.replace_all(text, replace).into_owned();
    }
}

/// Takes out the values of a secret's example, default and the like.
fn blank_examples<'a>(fields: impl Iterator<Item = (&'a String, &'a mut Value)>) {
    for (name, field) in fields {
        if matches!(name.as_str(), "example" | "examples" | "default" | "const" | "value") {
            blank(field);
        }
    }
}

fn blank(value: &mut Value) {
    match value {
        Value::String(text) if text.len() >= SHORTEST => *text = REDACTED.into(),
        Value::Array(items) => items.iter_mut().for_each(blank),
        Value::Object(fields) => fields.values_mut().for_each(blank),
        _ => {}
    }
}

/// Whether a field of this name holds a secret.
fn is_secret(name: &str) -> bool {
    const ENDS: [&str; 11] = [
        "apikey",
        "token",
        "secret",
        "password",
        "passwd",
        "passphrase",
        "accesskey",
        "secretkey",
        "privatekey",
        "credential",
        "authorization",
    ];
    let name = plain(name);
    ENDS.iter().any(|end| name.ends_with(end))
}

/// Whether a header or query parameter of this name carries the caller's credential, security scheme or not.
pub(super) fn is_credential(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "authorization",
        "xauthorization",
        "apikey",
        "xapikey",
        "accesstoken",
        "xaccesstoken",
        "authtoken",
        "xauthtoken",
        "clientsecret",
    ];
    NAMES.contains(&plain(name).as_str())
}

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|char| char.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scrubbed(mut value: Value) -> Value {
        redact(&mut value);
        value
    }

    #[test]
    fn row_19_keys_are_known_by_their_forms() {
        for key in [
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "github_pat_11ABCDEFG0123456789_abcdefghij",
            "glpat-ABCdef0123456789_xyz",
            "sk-proj-ABCdef0123456789",
            "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
            "whsec_4eC39HqLyjWDarjtT1zdp7dc",
            "xoxb-2345678901-abcdefABCDEF",
            "xapp-1-A02-1234567890",
            "AKIAIOSFODNN7EXAMPLE",
            "AIzaSyA-1234567890abcdefghijklmnopqrstu",
            "ya29.a0AfH6SMBx1234567890abcd",
            "npm_abcdefghijklmnopqrstuvwxyz0123456789",
            "pypi-AgEIcHlwaS5vcmcCJDEyMzQ1Njc4OTAxMjM0",
            "hf_abcdefghijklmnopqrstuvwxyz012345",
            "figd_abcdefghijklmnop-0123456789",
            "SG.abcdefghijklmnop0.qrstuvwxyz0123456",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----",
        ] {
            let text = scrubbed(json!(format!("Use `{key}`, as in this example.")));
            assert_eq!(text, "Use `[REDACTED]`, as in this example.", "{key}");
        }
    }

    #[test]
    fn row_19_keys_are_known_by_what_stands_before_them() {
        for (before, key, after) in [
            ("curl -H 'Authorization: Bearer ", "abcDEF0123456789abcDEF", "'"),
            ("curl -H \"authorization: basic ", "dXNlcjpwYXNzd29yZDE=", "\""),
            ("GET https://example.com/v1?api_key=", "0123456789abcdef", "&page=2"),
            ("X-API-Key: ", "0123456789abcdef", ""),
            ("{\"client_secret\": \"", "abcdefgh01234567", "\"}"),
            ("postgres://user:", "hunter22", "@example.com/db"),
        ] {
            let text = scrubbed(json!(format!("{before}{key}{after}")));
            assert_eq!(text, format!("{before}[REDACTED]{after}"));
        }
    }

    #[test]
    fn row_19_values_of_fields_named_like_secrets_are_taken_out() {
        let document = json!({
            "properties": {
                "apiKey": { "type": "string", "example": "live-key-of-a-customer", "description": "The key of the API" },
                "client-secret": { "default": "live-secret-of-a-customer" },
                "password": { "examples": ["live-password-of-a-customer", "short"] },
            },
            "example": { "access_token": "live-token-of-a-customer", "name": "a name that is long enough" },
            "parameters": [{ "name": "X-Auth-Token", "example": "live-token-of-a-customer", "description": "a token, really" }],
        });
        let text = scrubbed(document).to_string();
        assert!(!text.contains("live-"), "{text}");
        assert_eq!(text.matches(REDACTED).count(), 5, "{text}");
        for kept in ["The key of the API", "a name that is long enough", "short", "a token, really"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }

    #[test]
    fn what_is_no_key_stays() {
        let document = json!({
            "description": "Basic authentication or Bearer authentication-with-a-token is needed. Set token: \
                YOUR_PERSONAL_TOKEN. Repositories have a sha such as 6dcb09b5b57875f334f61aebed695e2e4193db5e.",
            "token": { "$ref": "#/components/schemas/installation-token" },
            "next": "https://example.com:8443/page/2?per_page=100",
            "required": ["password", "the_name_of_a_field"],
            "scopes": { "read:token": "Reads what tokens there are" },
            "node_id": "MDEwOlJlcG9zaXRvcnkxMjk2MjY5",
        });
        assert_eq!(scrubbed(document.clone()), document);
    }

    #[test]
    fn row_19_parameters_that_carry_credentials_are_known_by_name() {
        for name in ["X-API-Key", "api_key", "apiKey", "access_token", "Authorization", "X-Auth-Token"] {
            assert!(is_credential(name), "{name}");
        }
        for name in ["page_token", "key", "token_type", "Idempotency-Key", "X-Request-Id", "state"] {
            assert!(!is_credential(name), "{name}");
        }
    }
}
