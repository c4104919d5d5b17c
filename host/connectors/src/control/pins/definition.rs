//! What a tool is, as digests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What belongs to a definition. Icons and other metadata change without harm.
pub(super) const FIELDS: [&str; 6] = ["name", "title", "description", "inputSchema", "outputSchema", "annotations"];

/// A definition, as digests; empty for a tool that nobody has approved yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Definition {
    /// SHA-256 over the fields as canonical JSON, in hexadecimal digits.
    pub(super) digest: String,
    /// The first digits of the digest of each field that is there, to tell which changed.
    pub(super) fields: BTreeMap<String, String>,
}

impl Definition {
    pub(super) fn of(tool: &Value) -> Self {
        let mut whole = Sha256::new();
        let mut fields = BTreeMap::new();
        for field in FIELDS {
            let value = &tool[field];
            // A field that is null is one that is not there.
            if value.is_null() {
                continue;
            }
            let mut digest = Sha256::new();
            canonical(value, &mut digest);
            let digest = digest.finalize();
            whole.update(field);
            whole.update(digest);
            fields.insert(field.to_owned(), hex::encode(&digest[..8]));
        }
        Self { digest: hex::encode(whole.finalize()), fields }
    }
}

/// Writes JSON so that two values that are the same give the same bytes: keys in byte order, no white space.
fn canonical(value: &Value, digest: &mut Sha256) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            digest.update("{");
            for (name, field) in fields {
                digest.update(Value::from(name.as_str()).to_string());
                digest.update(":");
                canonical(field, digest);
                digest.update(",");
            }
            digest.update("}");
        }
        Value::Array(items) => {
            digest.update("[");
            for item in items {
                canonical(item, digest);
                digest.update(",");
            }
            digest.update("]");
        }
        plain => digest.update(plain.to_string()),
    }
}
