//! Which generation of the public client asks, where the generations want one thing in different forms.

use std::convert::Infallible;

use axum::{
    Json,
    extract::FromRequestParts,
    http::{header::USER_AGENT, request::Parts},
};
use serde_json::Value;

/// How the client names itself before its version.
const NAME: &str = "mistral-client-python/";

/// From this version on owners of connectors have words; before they had numbers.
const WORDS: (u32, u32, u32) = (2, 7, 2);

/// The words by their numbers, from 1 on.
const OWNERS: [&str; 4] = ["user", "org", "workspace", "system"];

/// Who asks, as far as it makes a difference.
pub(crate) struct Client {
    numbers_owners: bool,
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::named(parts.headers.get(USER_AGENT).and_then(|name| name.to_str().ok()).unwrap_or("")))
    }
}

impl Client {
    fn named(agent: &str) -> Self {
        let version = agent.strip_prefix(NAME).and_then(|rest| {
            let mut numbers = rest.split(['.', ' ', '-', 'a', 'b', 'r']).map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
        });
        Self { numbers_owners: version.is_some_and(|version| version < WORDS) }
    }

    /// A connector, or part of it, in this client's form.
    pub(crate) fn adapt(&self, connector: &mut Value) {
        let owner = &mut connector["owner_type"];
        if self.numbers_owners
            && let Some(position) = OWNERS.iter().position(|word| *owner == **word)
        {
            *owner = (position + 1).into();
        }
    }

    /// A connector as the answer to this client.
    pub(crate) fn shown(&self, mut connector: Value) -> Json<Value> {
        self.adapt(&mut connector);
        Json(connector)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn clients_before_2_7_2_get_numbers_for_owners_and_everybody_else_words() {
        for (agent, owner) in [
            ("mistral-client-python/2.5.2", json!(3)),
            ("mistral-client-python/2.4.13", json!(3)),
            ("mistral-client-python/2.7.1", json!(3)),
            ("mistral-client-python/2.7.2", json!("workspace")),
            ("mistral-client-python/2.10.1", json!("workspace")),
            ("mistral-client-python/3.7.0", json!("workspace")),
            ("mistral-client-python/next", json!("workspace")),
            ("curl/8.5.0", json!("workspace")),
            ("", json!("workspace")),
        ] {
            let mut connector = json!({ "owner_type": "workspace" });
            Client::named(agent).adapt(&mut connector);
            assert_eq!(connector["owner_type"], owner, "{agent}");
        }
    }
}
