//! Looking for a secret where it must not be, in the forms it may take (THREATS, first paragraph).

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// A planted secret.
pub struct Canary {
    /// The secret itself.
    pub secret: String,
    forms: Vec<(String, &'static str)>,
}

impl Canary {
    /// A secret that a plain search can find. Its characters differ between its forms.
    pub fn new(name: &str) -> Self {
        let secret = format!("canary/{name}+\"4711\"&{}", std::process::id());
        let percent = |byte: u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        };
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let json = serde_json::Value::from(secret.as_str()).to_string();
        let basic = STANDARD.encode(format!("user:{secret}"));
        let forms = vec![
            (secret.clone(), "raw"),
            (STANDARD.encode(&secret).trim_end_matches('=').to_owned(), "base64"),
            // What stands before the secret shifts its bits: this is the part that is left whole.
            (basic[8..].trim_end_matches('=').to_owned(), "base64 of user:secret"),
            (secret.bytes().map(percent).collect(), "percent-encoded"),
            (json.trim_matches('"').to_owned(), "JSON"),
            (hex.to_uppercase(), "hex"),
            (hex, "hex"),
        ];
        Self { secret, forms }
    }

    /// Panics if the secret stands in a text.
    pub fn check_text(&self, text: &str, place: &str) {
        self.check_bytes(text.as_bytes(), place);
    }

    fn check_bytes(&self, bytes: &[u8], place: &str) {
        for (form, name) in &self.forms {
            let found = bytes.windows(form.len()).position(|window| window == form.as_bytes());
            if let Some(at) = found {
                let around = &bytes[at.saturating_sub(200)..(at + form.len() + 50).min(bytes.len())];
                panic!("the secret stands in {place} ({name}): …{}…", String::from_utf8_lossy(around));
            }
        }
    }

    /// Panics if the secret stands in any file of a folder.
    pub fn check_folder(&self, folder: &Path) {
        let mut folders: Vec<PathBuf> = vec![folder.into()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("lists") {
                let path = entry.expect("lists").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    self.check_bytes(&fs::read(&path).unwrap_or_default(), &path.display().to_string());
                }
            }
        }
    }
}
