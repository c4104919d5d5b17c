//! Taking secrets out of what comes back (THREATS rows 1, 2, 20).
//!
//! Whole secrets of at least eight bytes are replaced, in the forms that a server is likely to give them back in. A server
//! that transforms a secret in another way cannot be caught here; docs/security.md says so.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::Value;

pub(crate) const REDACTED: &str = "[REDACTED]";

/// Shorter secrets are not looked for: they would turn the answer into a guessing game about them.
const SHORTEST: usize = 8;

/// Replaces the forms of some secrets.
#[derive(Default)]
pub(crate) struct Scrubber {
    /// Longest first, so that no part of a longer form is left.
    forms: Vec<String>,
    /// Those of the secrets whose place these took, the latest first.
    older: Vec<Vec<String>>,
}

/// A server may give back a token that was refreshed in the meantime.
const GENERATIONS: usize = 3;

impl Scrubber {
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        let json = Value::from(secret).to_string();
        let hex = hex::encode(secret);
        // As forms have it, and inside base64 the authorization of OAuth clients (RFC 6749 §2.3.1).
        let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        self.in_base64(secret);
        if form != secret {
            self.in_base64(&form);
        }
        self.forms.extend([
            secret.to_owned(),
            form,
            json[1..json.len() - 1].to_owned(),
            percent(secret, |byte| format!("%{byte:02X}")),
            percent(secret, |byte| format!("%{byte:02x}")),
            hex.to_uppercase(),
            hex,
        ]);
        self.forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        self.forms.dedup();
    }

    /// Inside a longer text, such as `user:secret`, base64 depends on the position modulo three. The characters that mix
    /// with a neighbour are left out.
    fn in_base64(&mut self, secret: &str) {
        for shift in 0..3usize {
            let mut padded = vec![0; shift];
            padded.extend(secret.as_bytes());
            let (first, whole) = ([0, 2, 3][shift], padded.len() * 4 / 3);
            for text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
                let last = whole.min(text.len());
                if let Some(middle) = text.get(first..last).filter(|middle| middle.len() >= SHORTEST) {
                    self.forms.push(middle.to_owned());
                }
            }
        }
    }

    /// Goes on replacing what `before` replaced.
    pub(crate) fn remember(&mut self, before: &Self) {
        self.older = std::iter::once(&before.forms).chain(&before.older).take(GENERATIONS).cloned().collect();
    }

    fn forms(&self) -> impl Iterator<Item = &str> {
        self.forms.iter().chain(self.older.iter().flatten()).map(String::as_str)
    }

    /// The text without secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        self.clean(&mut text);
        text
    }

    /// Takes secrets out of a text, and says how many there were.
    fn clean(&self, text: &mut String) -> usize {
        let mut count = 0;
        for form in self.forms() {
            let found = text.matches(form).count();
            if found > 0 {
                count += found;
                *text = text.replace(form, REDACTED);
            }
        }
        count
    }

    /// Takes secrets out of every string of a value, keys included, and says how many there were.
    pub(crate) fn value(&self, value: &mut Value) -> usize {
        if self.forms().next().is_none() {
            return 0;
        }
        match value {
            Value::String(text) => self.clean(text),
            Value::Array(items) => items.iter_mut().map(|item| self.value(item)).sum(),
            Value::Object(fields) => {
                let mut count = fields.values_mut().map(|field| self.value(field)).sum();
                if fields.keys().any(|key| self.forms().any(|form| key.contains(form))) {
                    let dirty = std::mem::take(fields);
                    fields.extend(dirty.into_iter().map(|(mut key, field)| {
                        count += self.clean(&mut key);
                        (key, field)
                    }));
                }
                count
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
    }
}

fn percent(secret: &str, encode: impl Fn(u8) -> String) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    secret
        .bytes()
        .map(|byte| if unreserved(byte) { char::from(byte).to_string() } else { encode(byte) })
        .collect()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    #[test]
    fn row_01_a_secret_is_found_in_each_of_its_forms() {
        let secret = "s3cr3t/+\"quoted\" värde?";
        let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let mut scrubber = Scrubber::default();
        scrubber.add(secret);
        for user in ["", "a", "ab", "abc", "user"] {
            for after in ["", "x", "xy"] {
                for secret in [secret, &form] {
                    let text = STANDARD.encode(format!("{user}{secret}{after}"));
                    let scrubbed = scrubber.text(&format!("Basic {text}"));
                    assert!(scrubbed.contains(REDACTED), "{user:?} {after:?}: {text}");
                }
            }
        }
        let mut value = json!({
            "raw": format!("Bearer {secret}"), secret: 1,
            "nested": [{ "text": json!({ "authorization": secret }).to_string() }],
            "percent": percent(secret, |byte| format!("%{byte:02X}")), "hex": hex::encode(secret),
            "harmless": "stays",
        });
        let count = scrubber.value(&mut value);
        let text = value.to_string();
        assert_eq!((count, text.matches(REDACTED).count()), (5, 5), "{text}");
        assert!(!text.contains("s3cr3t") && text.contains("stays"), "{text}");
    }

    #[test]
    fn a_secret_that_was_replaced_is_still_found() {
        let replaced = |secret: &str, before: &Scrubber| {
            let mut scrubber = Scrubber::default();
            scrubber.add(secret);
            scrubber.remember(before);
            scrubber
        };
        let mut scrubber = replaced("token-number-0", &Scrubber::default());
        for number in 1..=GENERATIONS {
            scrubber = replaced(&format!("token-number-{number}"), &scrubber);
        }
        let text = scrubber.text("token-number-0 token-number-1 token-number-3");
        assert_eq!(text, "[REDACTED] [REDACTED] [REDACTED]");
    }

    #[test]
    fn row_20_a_short_secret_is_no_oracle() {
        let mut scrubber = Scrubber::default();
        scrubber.add("1234567");
        assert_eq!(scrubber.text("1234567"), "1234567");
    }
}
