//! Storing, showing and deleting credentials.

use airlock_engine::Principal;
use async_recursion::async_recursion as boxed;
use serde_json::{Value, json};

use super::{Connectors, message};
use crate::{
    ConnectorsError,
    audit::{Event, Kind},
    credentials::{Draft, Save},
    error::wording::count,
    registry::{Connector, method::MethodKind, scope::Scope},
};

impl Connectors {
    /// `CredentialsResponse`: the credentials of a scope, without secrets.
    pub fn list_credentials(
        &self,
        who: &Principal,
        connector: &str,
        scope: Scope,
        auth_type: Option<&str>,
        fetch_default: bool,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.find(who, connector)?;
        let mut found = self.0.credentials.of(&connector, scope, who);
        found.retain(|credential| auth_type.is_none_or(|wanted| credential.method.as_str() == wanted));
        found.retain(|credential| !fetch_default || credential.is_default);
        let credentials: Vec<Value> = found.iter().map(|credential| credential.wire(&connector)).collect();
        let preset: Vec<&str> = match connector.headers.iter().any(|(_, value)| value.is_none()) {
            true => vec![MethodKind::Bearer.as_str()],
            false => Vec::new(),
        };
        Ok(json!({ "credentials": credentials, "connector_preset_credentials_for_auth": preset }))
    }

    /// Stores or changes a credential (`CredentialsCreateOrUpdate`).
    #[boxed]
    pub async fn save_credentials(
        &self,
        who: &Principal,
        connector: &str,
        scope: Scope,
        body: Value,
        mode: Save,
    ) -> Result<Value, ConnectorsError> {
        let (inner, connector) = (&self.0, self.0.registry.find(who, connector)?);
        let draft = Draft::parse(&connector, scope, body)?;
        let is_client = draft.secret.as_ref().is_some_and(|(method, _)| *method == MethodKind::Oauth2);
        let name = draft.name.clone();
        let key =
            inner.credentials.save(&*inner.records, &inner.vault, &connector, scope, who, draft, mode)?;
        self.0.authorization.stored(who, &connector, &key)?;
        // A client of the client credentials grant is tried at once: whoever stores it wants to know.
        if is_client && let Some(credential) = inner.credentials.get(&key) {
            self.0.authorization.refreshed(&connector, &key, &credential).await.map_err(
                |error| match error {
                    ConnectorsError::Unauthorized(message) => {
                        ConnectorsError::invalid("/credentials/oauth", message)
                    }
                    other => other,
                },
            )?;
        }
        Ok(message(format!("credential '{name}' was stored for connector '{}'", connector.name)))
    }

    /// Deletes a credential and the key that its secret was sealed with. Its tokens are revoked at their server.
    #[boxed]
    pub async fn delete_credentials(
        &self,
        who: &Principal,
        connector: &str,
        scope: Scope,
        name: &str,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.find(who, connector)?;
        let revoked = self.delete_credential(who, &connector, scope, name).await?;
        let revoked = revoked.map(|revoked| format!("; {revoked}")).unwrap_or_default();
        Ok(message(format!("credential '{name}' of connector '{}' was deleted{revoked}", connector.name)))
    }

    async fn delete_credential(
        &self,
        who: &Principal,
        connector: &Connector,
        scope: Scope,
        name: &str,
    ) -> Result<Option<String>, ConnectorsError> {
        let inner = &self.0;
        let (key, credential) = inner.credentials.find(connector, scope, who, name)?;
        // Before the token is revoked, so that nobody uses it in between.
        let tokens = credential.open(&*self.0.records, &self.0.vault, connector, &key).ok();
        inner.credentials.delete(&*inner.records, connector, scope, who, name)?;
        self.0.lines.forget(&connector.id);
        self.0.credentials.landed(connector);
        self.0.audit.note(Event {
            connector_id: Some(connector.id.clone()),
            connector: Some(connector.name.clone()),
            credential: Some(credential.used(&key)),
            ..Event::by(Kind::CredentialDeleted, who)
        })?;
        Ok(match tokens {
            Some(secret) => self.0.authorization.revoke(connector, &credential, secret).await,
            None => None,
        })
    }

    /// Deletes all credentials of the caller for a connector.
    #[boxed]
    pub async fn delete_all_credentials(
        &self,
        who: &Principal,
        connector: &str,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.find(who, connector)?;
        let all = self.0.credentials.of(&connector, Scope::User, who);
        for credential in &all {
            self.delete_credential(who, &connector, Scope::User, &credential.name).await?;
        }
        let (so_many, were) = (count(all.len(), "credential"), if all.len() == 1 { "was" } else { "were" });
        Ok(message(format!("{so_many} of connector '{}' {were} deleted", connector.name)))
    }
}
