//! What a tool is, as digests: a tool of an MCP server by what its server says of it, an operation of a REST API by what
//! is sent where as well. What two definitions have to agree in is said here alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What belongs to the definition of a tool. Icons and other metadata change without harm.
const OF_A_TOOL: [&str; 6] = ["name", "title", "description", "inputSchema", "outputSchema", "annotations"];

/// What belongs to the definition of an operation, as [`crate::rest`] writes it.
const OF_AN_OPERATION: [&str; 11] = [
    "title",
    "description",
    "method",
    "path",
    "server",
    "parameters",
    "body",
    "accept",
    "auth",
    "inputSchema",
    "outputSchema",
];

/// A definition, as digests; empty for a tool that nobody has approved yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    /// SHA-256 over the fields as canonical JSON, in hexadecimal digits.
    pub(crate) digest: String,
    /// The first digits of the digest of each field that is there, to tell which changed.
    fields: BTreeMap<String, String>,
}

impl Definition {
    /// Of an MCP tool object.
    pub(crate) fn of_tool(tool: &Value) -> Self {
        Self::of(tool, &OF_A_TOOL)
    }

    /// Of an operation of a REST API.
    pub(crate) fn of_operation(operation: &Value) -> Self {
        Self::of(operation, &OF_AN_OPERATION)
    }

    fn of(described: &Value, fields: &[&str]) -> Self {
        let mut whole = Sha256::new();
        let mut found = BTreeMap::new();
        for field in fields {
            let value = &described[*field];
            // A field that is null is one that is not there.
            if value.is_null() {
                continue;
            }
            let mut digest = Sha256::new();
            canonical(value, &mut digest);
            let digest = digest.finalize();
            whole.update(field);
            whole.update(digest);
            found.insert((*field).to_owned(), hex::encode(&digest[..8]));
        }
        Self { digest: hex::encode(whole.finalize()), fields: found }
    }

    /// The names of the fields in which two definitions differ, in the order in which they are looked at.
    pub(crate) fn differing(&self, other: &Self) -> Vec<String> {
        let own = OF_AN_OPERATION.iter().filter(|field| !OF_A_TOOL.contains(field));
        let fields = OF_A_TOOL.iter().chain(own);
        let differs = |field: &&&str| self.fields.get(**field) != other.fields.get(**field);
        fields.filter(differs).map(|field| (*field).to_owned()).collect()
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
