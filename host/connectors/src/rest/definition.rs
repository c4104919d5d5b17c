//! What an operation is, for who approves it: what is sent where, and what is said of it.
//!
//! Two documents that mean the same give the same definition: the order of members and of parameters, white space in texts
//! for people, and what is said about answers' examples do not count.

use serde_json::{Map, Value, json};

use super::{Operation, parse};
use crate::{egress::secret::KeyPlace, protocol::definition::Definition};

/// What a connector adds to what its operations send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The base address.
    pub(crate) server: String,
    /// Where the keys of a credential go. Tokens and passwords have one place, whatever a document says.
    pub(crate) keys: Vec<(KeyPlace, String)>,
}

/// Members of a schema that hold values, which are compared as they are.
const VALUES: [&str; 5] = ["const", "enum", "default", "example", "examples"];

/// Members of a schema that hold schemas by names of somebody's choice.
const NAMED: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

impl Operation {
    /// What is approved of it.
    pub(crate) fn definition(&self, terms: &Terms) -> Definition {
        Definition::of_operation(&self.described(terms))
    }

    fn described(&self, terms: &Terms) -> Value {
        let mut parameters: Vec<_> = self.parameters.iter().collect();
        parameters.sort_by_key(|parameter| (parameter.place, &parameter.name));
        let sorted = |texts: &[String]| {
            let mut texts = texts.to_vec();
            texts.sort();
            texts
        };
        let mut schema = plain(parse(&self.input_schema));
        // What is shown may be cut: the whole is what arguments are checked by.
        if let Some(whole) = &self.check_schema {
            schema = json!([schema, plain(parse(whole))]);
        }
        json!({
            "title": self.title.as_deref().map(words),
            "description": self.description.as_deref().map(words),
            "method": self.verb,
            "path": match &self.moved {
                None => json!(self.path),
                Some(moved) => json!([moved, self.path]),
            },
            "server": terms.server,
            "parameters": { "sent": parameters, "hidden": sorted(&self.hidden) },
            "body": self.body,
            "accept": self.accept,
            "auth": {
                "required": self.requires_auth, "scopes": sorted(&self.scopes), "keys": self.requires_auth.then_some(&terms.keys),
            },
            "inputSchema": schema,
            "outputSchema": self.output_schema.as_deref().map(|schema| plain(parse(schema))),
        })
    }
}

/// A text for people with one space where it has white space.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A schema without what makes no difference.
fn plain(schema: Value) -> Value {
    match schema {
        Value::Object(members) => members.into_iter().map(|(name, member)| member_of(name, member)).collect(),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}

fn member_of(name: String, member: Value) -> (String, Value) {
    let member = match (name.as_str(), member) {
        ("title" | "description", Value::String(text)) => words(&text).into(),
        // These are sets.
        ("required" | "enum" | "type", Value::Array(items)) => {
            let mut items = items;
            items.sort_by_cached_key(Value::to_string);
            items.into()
        }
        (name, Value::Object(named)) if NAMED.contains(&name) => {
            let named = named.into_iter().map(|(name, schema)| (name, plain(schema)));
            Value::Object(named.collect::<Map<_, _>>())
        }
        (name, member) if VALUES.contains(&name) => member,
        (_, member) => plain(member),
    };
    (name, member)
}

#[cfg(test)]
mod tests;
