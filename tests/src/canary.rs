//! Looking for a secret where it must not be, in the forms it may take (THREATS, first paragraph).

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// A planted secret.
pub struct Canary {
    /// The secret itself.
    pub secret: String,
    /// Its forms, each with a word for what it is.
    pub forms: Vec<(String, &'static str)>,
}

impl Canary {
    /// A secret that a plain search can find. Its characters differ between its forms.
    pub fn new(name: &str) -> Self {
        Self::of(format!("canary/{name}+\"4711\"&{}", std::process::id()))
    }

    /// A secret that is there already.
    pub fn of(secret: String) -> Self {
        let percent = |encode: &dyn Fn(u8) -> String| -> String {
            let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            let one = |byte| if unreserved(byte) { char::from(byte).to_string() } else { encode(byte) };
            secret.bytes().map(one).collect()
        };
        let in_json = |text: &str| {
            let json = serde_json::Value::from(text).to_string();
            json[1..json.len() - 1].to_owned()
        };
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let json = in_json(&secret);
        let mut forms = vec![
            (secret.clone(), "raw"),
            (percent(&|byte| format!("%{byte:02X}")), "percent-encoded"),
            (percent(&|byte| format!("%{byte:02x}")), "percent-encoded"),
            (in_json(&json), "JSON in JSON"),
            (json, "JSON"),
            (hex.to_uppercase(), "hex"),
            (hex, "hex"),
        ];
        // Inside a longer text, such as `user:secret`, base64 depends on the position modulo three: what is searched for
        // are the characters that no neighbour changes. OAuth clients encode twice (RFC 6749 §2.3.1).
        for text in [secret.clone(), percent(&|byte| format!("%{byte:02X}"))] {
            for (shift, first) in [(0, 0), (1, 2), (2, 3)] {
                let mut bytes = vec![0; shift];
                bytes.extend(text.as_bytes());
                let whole = bytes.len() * 4 / 3;
                for encoded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
                    forms.push((encoded[first..whole].to_owned(), "base64"));
                }
            }
        }
        forms.sort();
        forms.dedup_by(|a, b| a.0 == b.0);
        Self { secret, forms }
    }

    /// Whether the secret stands in a text in some form.
    pub fn stands_in(&self, text: &str) -> bool {
        self.forms.iter().any(|(form, _)| text.contains(form))
    }

    /// Panics if the secret stands in a text.
    pub fn check_text(&self, text: &str, place: &str) {
        self.search(text, place);
    }

    /// Panics if the secret stands in these bytes.
    pub fn check_bytes(&self, bytes: &[u8], place: &str) {
        self.search(&String::from_utf8_lossy(bytes), place);
    }

    fn search(&self, text: &str, place: &str) {
        for (form, name) in &self.forms {
            if let Some(at) = text.find(form) {
                let (from, to) = (text.floor_char_boundary(at.saturating_sub(200)), at + form.len() + 50);
                let around = &text[from..text.ceil_char_boundary(to.min(text.len()))];
                panic!("the secret stands in {place} ({name}): …{around}…");
            }
        }
    }

    /// Panics if the secret stands in any file of a folder.
    pub fn check_folder(&self, folder: &Path) {
        Self::check_folder_for(&[self], folder);
    }

    /// The same for many secrets.
    pub fn check_folder_for(canaries: &[&Self], folder: &Path) {
        let mut folders: Vec<PathBuf> = vec![folder.into()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("lists") {
                let path = entry.expect("lists").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = fs::read(&path).unwrap_or_default();
                    let (text, place) = (String::from_utf8_lossy(&bytes), path.display().to_string());
                    canaries.iter().for_each(|canary| canary.search(&text, &place));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_each_of_its_forms() {
        let canary = Canary::new("forms");
        let hex: String = canary.secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut texts = vec![canary.secret.clone(), hex, format!("{:?}", canary.secret)];
        for user in ["", "a:", "ab:", "abc:"] {
            texts.push(STANDARD_NO_PAD.encode(format!("{user}{}", canary.secret)));
            texts.push(URL_SAFE_NO_PAD.encode(format!("{user}{}\n", canary.secret)));
        }
        for text in texts {
            assert!(canary.stands_in(&format!("before {text} after")), "not found: {text}");
        }
        canary.check_text("canary/forms", "a text with less than the secret");
    }
}
