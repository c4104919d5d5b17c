//! How a document says that one authenticates (OpenAPI 3.1 §4.8.27).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::document::resolve;

/// A security scheme: a proposal for a credential's method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecurityScheme {
    /// Its name in the document.
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) kind: SecurityKind,
}

/// What a security scheme asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum SecurityKind {
    Bearer,
    Basic,
    ApiKeyHeader {
        header: String,
    },
    ApiKeyQuery {
        parameter: String,
    },
    #[serde(rename = "oauth2")]
    OAuth2 {
        flows: Vec<OAuthFlow>,
    },
    OpenIdConnect {
        url: String,
    },
    /// Cookies, mutual TLS, digest: it cannot be used.
    Unsupported {
        what: String,
    },
}

/// A flow of OAuth 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OAuthFlow {
    /// The document's word: `authorizationCode`, `clientCredentials`, `implicit`, `password`.
    pub(crate) grant: String,
    pub(crate) authorization_url: Option<String>,
    pub(crate) token_url: Option<String>,
    pub(crate) refresh_url: Option<String>,
    /// What each scope is for.
    pub(crate) scopes: BTreeMap<String, String>,
}

/// What guests must not see and not set, because the credential goes there.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    /// In lower case.
    headers: BTreeSet<String>,
    queries: BTreeSet<String>,
}

impl Hidden {
    pub(super) fn by(schemes: &[SecurityScheme]) -> Self {
        let mut hidden = Self::default();
        for scheme in schemes {
            match &scheme.kind {
                SecurityKind::ApiKeyHeader { header } => {
                    hidden.headers.insert(header.to_ascii_lowercase());
                }
                SecurityKind::ApiKeyQuery { parameter } => {
                    hidden.queries.insert(parameter.clone());
                }
                _ => {}
            }
        }
        hidden
    }

    pub(super) fn header(&self, name: &str) -> bool {
        self.headers.contains(&name.to_ascii_lowercase())
    }

    pub(super) fn query(&self, name: &str) -> bool {
        self.queries.contains(name)
    }

    pub(super) fn queries(&self) -> Vec<String> {
        self.queries.iter().cloned().collect()
    }
}

/// The schemes of a document, by name.
pub(super) fn schemes(root: &Value) -> Vec<SecurityScheme> {
    let all = root.pointer("/components/securitySchemes").and_then(Value::as_object);
    let known = all.into_iter().flatten().filter_map(|(name, scheme)| {
        Some(SecurityScheme { name: name.clone(), kind: kind(resolve(root, scheme)?) })
    });
    let mut known: Vec<_> = known.collect();
    known.sort_by(|a, b| a.name.cmp(&b.name));
    known
}

fn kind(scheme: &Value) -> SecurityKind {
    let text = |name: &str| scheme.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match (text("type").as_str(), text("scheme").to_ascii_lowercase().as_str(), text("in").as_str()) {
        ("http", "bearer", _) => SecurityKind::Bearer,
        ("http", "basic", _) => SecurityKind::Basic,
        ("http", other, _) => SecurityKind::Unsupported { what: format!("HTTP {other}") },
        ("apiKey", _, "header") if text("name").eq_ignore_ascii_case("authorization") => SecurityKind::Bearer,
        ("apiKey", _, "header") => SecurityKind::ApiKeyHeader { header: text("name") },
        ("apiKey", _, "query") => SecurityKind::ApiKeyQuery { parameter: text("name") },
        ("apiKey", _, place) => SecurityKind::Unsupported { what: format!("a key in a {place}") },
        ("oauth2", ..) => SecurityKind::OAuth2 { flows: flows(&scheme["flows"]) },
        ("openIdConnect", ..) => SecurityKind::OpenIdConnect { url: text("openIdConnectUrl") },
        (other, ..) => SecurityKind::Unsupported { what: other.to_owned() },
    }
}

fn flows(flows: &Value) -> Vec<OAuthFlow> {
    let flows = flows.as_object().into_iter().flatten().filter(|(grant, _)| !grant.starts_with("x-"));
    let mut flows: Vec<_> = flows
        .map(|(grant, flow)| {
            let text = |name: &str| flow.get(name).and_then(Value::as_str).map(str::to_owned);
            let scopes = flow.get("scopes").and_then(Value::as_object).into_iter().flatten();
            OAuthFlow {
                grant: grant.clone(),
                authorization_url: text("authorizationUrl"),
                token_url: text("tokenUrl"),
                refresh_url: text("refreshUrl"),
                scopes: scopes
                    .map(|(scope, about)| (scope.clone(), about.as_str().unwrap_or_default().to_owned()))
                    .collect(),
            }
        })
        .collect();
    flows.sort_by(|a, b| a.grant.cmp(&b.grant));
    flows
}

/// Whether an operation needs a credential, and the scopes of the first alternative that names some. An empty list or an
/// empty alternative means that it works without.
pub(super) fn needs(root: &Value, operation: &Value) -> (bool, Vec<String>) {
    let wanted = operation.get("security").or_else(|| root.get("security")).and_then(Value::as_array);
    let alternatives: Vec<_> = wanted.into_iter().flatten().filter_map(Value::as_object).collect();
    let needed = !alternatives.is_empty() && alternatives.iter().all(|schemes| !schemes.is_empty());
    let scopes = alternatives.into_iter().map(|schemes| {
        let scopes = schemes.values().filter_map(Value::as_array).flatten();
        scopes.filter_map(|scope| scope.as_str().map(str::to_owned)).collect::<Vec<_>>()
    });
    let mut scopes = scopes.into_iter().find(|scopes| !scopes.is_empty()).unwrap_or_default();
    scopes.sort();
    scopes.dedup();
    (needed, scopes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_scheme_is_understood() {
        let root = json!({ "components": { "securitySchemes": {
            "a": { "type": "http", "scheme": "Bearer" },
            "b": { "type": "http", "scheme": "basic" },
            "c": { "type": "apiKey", "in": "header", "name": "X-Key" },
            "d": { "type": "apiKey", "in": "query", "name": "key" },
            "e": { "type": "apiKey", "in": "cookie", "name": "session" },
            "f": { "type": "oauth2", "flows": {
                "x-more": {},
                "authorizationCode": {
                    "authorizationUrl": "https://a.example/authorize", "tokenUrl": "https://a.example/token",
                    "refreshUrl": "https://a.example/refresh", "scopes": { "read": "Reads" },
                },
                "clientCredentials": { "tokenUrl": "https://a.example/token", "scopes": {} },
            } },
            "g": { "type": "openIdConnect", "openIdConnectUrl": "https://a.example/.well-known/openid-configuration" },
            "h": { "type": "mutualTLS" },
            "i": { "$ref": "#/components/securitySchemes/b" },
            "j": { "type": "apiKey", "in": "header", "name": "authorization" },
            "k": { "type": "http", "scheme": "digest" },
        } } });
        let schemes = schemes(&root);
        let stored = serde_json::to_value(&schemes).expect("JSON");
        assert_eq!(serde_json::from_value::<Vec<SecurityScheme>>(stored.clone()).expect("schemes"), schemes);
        let types: Vec<_> = stored.as_array().expect("a list").iter().map(|scheme| &scheme["type"]).collect();
        let expected = [
            "bearer",
            "basic",
            "api_key_header",
            "api_key_query",
            "unsupported",
            "oauth2",
            "open_id_connect",
            "unsupported",
            "basic",
            "bearer",
            "unsupported",
        ];
        assert_eq!(types, expected);
        assert_eq!(stored[5]["flows"][0]["grant"], "authorizationCode");
        assert_eq!(stored[5]["flows"][0]["scopes"], json!({ "read": "Reads" }));
        let hidden = Hidden::by(&schemes);
        assert!(hidden.header("x-key") && hidden.query("key") && !hidden.query("X-Key"));
    }

    #[test]
    fn an_operation_says_whether_it_needs_a_credential() {
        let root = json!({ "security": [{ "oauth": ["read", "write"] }] });
        let scopes = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        for (operation, expected) in [
            (json!({}), (true, scopes(&["read", "write"]))),
            (json!({ "security": [] }), (false, Vec::new())),
            (json!({ "security": [{}, { "key": [] }] }), (false, Vec::new())),
            (json!({ "security": [{ "key": [] }, { "oauth": ["admin"] }] }), (true, scopes(&["admin"]))),
        ] {
            assert_eq!(needs(&root, &operation), expected, "{operation}");
        }
        assert_eq!(needs(&json!({}), &json!({})), (false, Vec::new()));
    }
}
