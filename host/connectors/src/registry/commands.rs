//! Commands that messages name, as they work when they are copied: with the scope, and with what the connector takes.

use super::{
    Connector,
    method::{Grant, Method, MethodKind},
    scope::Scope,
};
use crate::error::wording::word;

impl Connector {
    /// The command that stores a credential of a method. `NAME` stands for a name of one's choice, where there is none yet.
    pub(crate) fn storing(&self, name: Option<&str>, scope: Scope, kind: MethodKind) -> String {
        let name = name.map_or_else(|| "NAME".to_owned(), word);
        let mut command = format!("airlock credentials set {} {name}", word(&self.name));
        match scope {
            Scope::User => {}
            Scope::Workspace => command.push_str(" --scope workspace"),
            Scope::Organization => command.push_str(" --scope organization"),
        }
        match self.method(kind) {
            Some(Method::Basic) => command.push_str(" --username USER"),
            Some(Method::ApiKey { more, .. }) if more.is_empty() => command.push_str(" --api-key"),
            Some(Method::ApiKey { .. }) => command.push_str(" --api-keys"),
            Some(Method::Bearer { headers }) => {
                if let Some(header) = headers.iter().find(|header| header.is_required) {
                    command.push_str(&format!(" --header {}", word(&header.name)));
                }
            }
            Some(Method::Oauth2(oauth)) if oauth.grant == Grant::ClientCredentials => {
                command.push_str(" --client-id ID");
                if oauth.client_auth.as_deref() == Some("private_key_jwt") {
                    command.push_str(" --client-key");
                }
            }
            Some(Method::Oauth2(_) | Method::None) | None => {}
        }
        command
    }

    /// The command with which a person authorises.
    pub(crate) fn authorizing(&self, name: Option<&str>) -> String {
        let name = name.map(|name| format!(" {}", word(name))).unwrap_or_default();
        format!("airlock credentials authorize {}{name}", word(&self.name))
    }

    /// What somebody who has no credential yet can do: `authorise with …, or store a credential with …`. Nothing where the connector
    /// takes none.
    pub(crate) fn first_step(&self, scope: Scope) -> Option<String> {
        // Only for oneself can one go to a browser.
        let by_browser = self.interactive().filter(|_| scope == Scope::User);
        let authorise = by_browser.map(|_| format!("authorise with `{}`", self.authorizing(None)));
        let storable = |method: &&Method| match method {
            Method::None => false,
            Method::Oauth2(oauth) => oauth.grant == Grant::ClientCredentials,
            Method::Bearer { .. } | Method::Basic | Method::ApiKey { .. } => true,
        };
        let store = self.methods.iter().find(storable).map(Method::kind);
        let store =
            store.map(|kind| format!("store a credential with `{}`", self.storing(None, scope, kind)));
        match (authorise, store) {
            (Some(authorise), Some(store)) => Some(format!("{authorise}, or {store}")),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A connector as it may be stored, with these methods.
    pub(crate) fn connector(methods: Value) -> Connector {
        let stored = json!({
            "id": "1", "name": "crm", "description": "", "title": null, "icon_url": null, "system_prompt": null,
            "protocol": "mcp", "server": "https://crm.example/mcp", "visibility": "private", "methods": methods,
            "methods_given": true, "headers": [], "creator": "ada", "workspace": "w", "organization": "o",
            "created_at": "2026-11-29T00:00:00Z", "modified_at": "2026-11-29T00:00:00Z", "version": 1, "inactive": [],
            "control": {}, "api": null,
        });
        serde_json::from_value(stored).expect("a connector")
    }

    fn oauth(grant: &str) -> Value {
        json!({ "oauth2": { "grant": grant, "server": null, "server_given": false, "client_id": null, "scopes": [],
            "client_auth": null } })
    }

    #[test]
    fn the_command_has_the_flags_that_the_connector_and_the_scope_want() {
        let bearer = json!({ "bearer": { "headers": [] } });
        let header = json!({ "bearer": { "headers": [{ "name": "X-Key" }] } });
        let key = json!({ "api_key": { "scheme": null, "place": "header", "name": "X-Key" } });
        for (method, scope, expected) in [
            (&bearer, Scope::User, "store a credential with `airlock credentials set crm NAME`"),
            (
                &bearer,
                Scope::Workspace,
                "store a credential with `airlock credentials set crm NAME --scope workspace`",
            ),
            (
                &bearer,
                Scope::Organization,
                "store a credential with `airlock credentials set crm NAME --scope organization`",
            ),
            (
                &header,
                Scope::User,
                "store a credential with `airlock credentials set crm NAME --header X-Key`",
            ),
            (&key, Scope::User, "store a credential with `airlock credentials set crm NAME --api-key`"),
            (
                &json!("basic"),
                Scope::User,
                "store a credential with `airlock credentials set crm NAME --username USER`",
            ),
            (&oauth("authorization_code"), Scope::User, "authorise with `airlock credentials authorize crm`"),
            (
                &oauth("client_credentials"),
                Scope::Workspace,
                "store a credential with `airlock credentials set crm NAME --scope workspace --client-id ID`",
            ),
        ] {
            let connector = connector(json!([method]));
            assert_eq!(connector.first_step(scope).as_deref(), Some(expected), "{method}");
        }
        let both = connector(json!([bearer, oauth("authorization_code")]));
        assert_eq!(
            both.first_step(Scope::User).as_deref(),
            Some(
                "authorise with `airlock credentials authorize crm`, or store a credential with `airlock credentials set crm NAME`"
            )
        );
        assert_eq!(
            both.first_step(Scope::Workspace).as_deref(),
            Some("store a credential with `airlock credentials set crm NAME --scope workspace`")
        );
        assert_eq!(connector(json!(["none"])).first_step(Scope::User), None);
        let named = both.storing(Some("my token"), Scope::User, MethodKind::Bearer);
        assert_eq!(named, "airlock credentials set crm 'my token'");
    }
}
