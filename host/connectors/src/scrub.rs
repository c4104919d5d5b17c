//! Taking secrets out of what comes back (THREATS rows 1, 2, 20).
//!
//! Whole secrets of at least eight bytes are replaced, in the forms that a server is likely to give them back in. A server
//! that transforms a secret in another way cannot be caught here; docs/security.md says so.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::Value;

const REDACTED: &str = "[REDACTED]";

/// Shorter secrets are not looked for: they would turn the answer into a guessing game about them.
const SHORTEST: usize = 8;

/// Replaces the forms of some secrets.
#[derive(Default)]
pub(crate) struct Scrubber {
    /// Longest first, so that no part of a longer form is left.
    forms: Vec<String>,
}

impl Scrubber {
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        let json = Value::from(secret).to_string();
        let hex = hex::encode(secret);
        self.forms.extend([
            secret.to_owned(),
            json[1..json.len() - 1].to_owned(),
            percent(secret, |byte| format!("%{byte:02X}")),
            percent(secret, |byte| format!("%{byte:02x}")),
            hex.to_uppercase(),
            hex,
        ]);
        // Inside a longer text, such as `user:secret`, base64 depends on the position modulo three. The characters that
        // mix with a neighbour are left out.
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
        self.forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        self.forms.dedup();
    }

    /// The text without secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for form in &self.forms {
            if text.contains(form.as_str()) {
                text = text.replace(form.as_str(), REDACTED);
            }
        }
        text
    }

    /// Takes secrets out of every string of a value, keys included.
    pub(crate) fn value(&self, value: &mut Value) {
        if self.forms.is_empty() {
            return;
        }
        match value {
            Value::String(text) => {
                if self.is_dirty(text) {
                    *text = self.text(text);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|field| self.value(field));
                if fields.keys().any(|key| self.is_dirty(key)) {
                    let dirty = std::mem::take(fields);
                    fields.extend(dirty.into_iter().map(|(key, field)| (self.text(&key), field)));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn is_dirty(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form.as_str()))
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
        let mut scrubber = Scrubber::default();
        scrubber.add(secret);
        for user in ["", "a", "ab", "abc", "user"] {
            for after in ["", "x", "xy"] {
                let text = STANDARD.encode(format!("{user}{secret}{after}"));
                let scrubbed = scrubber.text(&format!("Basic {text}"));
                assert!(scrubbed.contains(REDACTED), "{user:?} {after:?}: {text}");
            }
        }
        let mut value = json!({
            "raw": format!("Bearer {secret}"), secret: 1,
            "nested": [{ "text": json!({ "authorization": secret }).to_string() }],
            "percent": percent(secret, |byte| format!("%{byte:02X}")), "hex": hex::encode(secret),
            "harmless": "stays",
        });
        scrubber.value(&mut value);
        let text = value.to_string();
        assert_eq!(text.matches(REDACTED).count(), 5, "{text}");
        assert!(!text.contains("s3cr3t") && text.contains("stays"), "{text}");
    }

    #[test]
    fn row_20_a_short_secret_is_no_oracle() {
        let mut scrubber = Scrubber::default();
        scrubber.add("1234567");
        assert_eq!(scrubber.text("1234567"), "1234567");
    }
}
