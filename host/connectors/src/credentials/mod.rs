//! Credentials: what is known of them without their secret, and the rules about defaults.

mod credential;
mod draft;

use std::collections::BTreeMap;

use airlock_engine::{
    Principal,
    records::{Change, Records},
};
use chrono::Utc;
use parking_lot::RwLock;
use tokio::sync::broadcast;
use uuid::Uuid;

pub(crate) use self::{
    credential::{Credential, Granted, State},
    draft::{Draft, check_credential_name},
};
use crate::{
    ConnectorsError,
    egress::secret::Secret,
    registry::{Connector, method::MethodKind, scope::Scope},
    vault,
};

pub(crate) const TABLE: &str = "credentials";

/// Whether a credential may exist already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Save {
    /// POST: stores a credential, replacing one of the same name.
    Create,
    /// PATCH: changes what is given.
    Update,
}

/// All credentials, in memory and in the store. The key is `connector/scope/owner/name`.
pub(crate) struct Credentials {
    all: RwLock<BTreeMap<String, Credential>>,
    /// Ids of connectors for which something was stored or changed.
    landed: broadcast::Sender<String>,
}

fn prefix(connector: &Connector, scope: Scope, who: &Principal) -> String {
    format!("{}/{}/", connector.id, scope.key(who))
}

impl Credentials {
    pub(crate) fn open(records: &dyn Records) -> Result<Self, ConnectorsError> {
        let mut all = BTreeMap::new();
        for (key, value) in records.scan(TABLE, "", None, usize::MAX)? {
            all.insert(key, serde_json::from_slice(&value)?);
        }
        Ok(Self { all: RwLock::new(all), landed: broadcast::Sender::new(256) })
    }

    /// Wakes those who wait for something about a connector.
    pub(crate) fn landed(&self, connector: &Connector) {
        // Nobody may be waiting for it.
        let _ = self.landed.send(connector.id.clone());
    }

    /// Ids of connectors, as something lands for them.
    pub(crate) fn news(&self) -> broadcast::Receiver<String> {
        self.landed.subscribe()
    }

    /// The credentials of a scope, by name.
    pub(crate) fn of(&self, connector: &Connector, scope: Scope, who: &Principal) -> Vec<Credential> {
        let prefix = prefix(connector, scope, who);
        let all = self.all.read();
        let found = all.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        found.map(|(_, credential)| credential.clone()).collect()
    }

    /// The credential that a call uses, with its key: the named one, else the default, in the order of the scopes and,
    /// inside a scope, of the connector's methods.
    pub(crate) fn resolve(
        &self,
        connector: &Connector,
        who: &Principal,
        name: Option<&str>,
    ) -> Result<Option<(String, Credential)>, ConnectorsError> {
        let rank = |credential: &Credential| {
            connector.methods.iter().position(|method| method.kind() == credential.method)
        };
        let all = self.all.read();
        for scope in Scope::ORDER {
            let prefix = prefix(connector, scope, who);
            let candidates = all.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
            let found = candidates.filter(|(_, credential)| match name {
                Some(name) => credential.name == name,
                None => credential.is_default && rank(credential).is_some(),
            });
            if let Some((key, credential)) = found.min_by_key(|(_, credential)| rank(credential)) {
                return Ok(Some((key.clone(), credential.clone())));
            }
        }
        match name {
            None => Ok(None),
            Some(name) => Err(not_found(name, connector, looked_in(who))),
        }
    }

    /// The credential of a scope with this name, with its key.
    pub(crate) fn find(
        &self,
        connector: &Connector,
        scope: Scope,
        who: &Principal,
        name: &str,
    ) -> Result<(String, Credential), ConnectorsError> {
        let key = prefix(connector, scope, who) + name;
        let found = self.get(&key).ok_or_else(|| not_found(name, connector, scope))?;
        Ok((key, found))
    }

    /// The methods for which the principal has a default, in whatever scope.
    pub(crate) fn defaults(&self, connector: &Connector, who: &Principal) -> Vec<MethodKind> {
        let all = Scope::ORDER.into_iter().flat_map(|scope| self.of(connector, scope, who));
        all.filter(|credential| credential.is_default).map(|credential| credential.method).collect()
    }

    /// The credential under a key.
    pub(crate) fn get(&self, key: &str) -> Option<Credential> {
        self.all.read().get(key).cloned()
    }

    /// Stores a credential by the rules of the contract (§3.1, `create_credentials` and `update_credentials`). Gives its
    /// key.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn save(
        &self,
        records: &dyn Records,
        vault: &vault::Vault,
        connector: &Connector,
        scope: Scope,
        who: &Principal,
        draft: Draft,
        mode: Save,
    ) -> Result<String, ConnectorsError> {
        check_credential_name(&draft.name)?;
        let (prefix, name) = (prefix(connector, scope, who), draft.name.clone());
        let key = format!("{prefix}{name}");
        // One writer at a time, so that there is never a second default.
        let mut all = self.all.write();
        let before = all.get(&key).cloned();
        let method = match (&draft.secret, &before) {
            (Some((method, _)), Some(before)) if *method != before.method => {
                return Err(ConnectorsError::Conflict(format!(
                    "the credential '{name}' of connector '{}' is of method '{}': choose another name, or delete it first",
                    connector.name,
                    before.method.as_str()
                )));
            }
            (Some((method, _)), _) => *method,
            (None, Some(before)) => before.method,
            (None, None) if mode == Save::Update => return Err(not_found(&name, connector, scope)),
            (None, None) => {
                return Err(ConnectorsError::invalid("/credentials", "a new credential needs a secret"));
            }
        };
        let default = all
            .iter()
            .find(|(other, credential)| {
                other.starts_with(&prefix) && credential.is_default && credential.method == method
            })
            .map(|(other, credential)| (other.clone(), credential.clone()));
        let was_default = before.as_ref().is_some_and(|before| before.is_default);
        let is_default = match (draft.is_default, &default) {
            (Some(false), None) => {
                let message =
                    "the first credential is the default one: leave out is_default or set it to true";
                return Err(ConnectorsError::Conflict(message.into()));
            }
            (Some(false), Some(_)) if was_default => {
                let message =
                    "the default credential cannot be demoted: make another one the default instead";
                return Err(ConnectorsError::Conflict(message.into()));
            }
            (Some(wanted), _) => wanted,
            (None, None) => true,
            (None, Some(_)) => was_default,
        };
        let now = Utc::now();
        let mut credential = before.unwrap_or_else(|| Credential {
            id: Uuid::new_v4(),
            name: name.clone(),
            title: None,
            scope,
            method,
            is_default,
            version: 0,
            generation: 0,
            origin: String::new(),
            fingerprint: String::new(),
            creator: who.user.to_string(),
            created_at: now,
            grant: None,
            state: State::Valid,
            changed_at: now,
        });
        credential.title = draft.title.or(credential.title);
        credential.is_default = is_default;
        let mut changes = Vec::new();
        if let Some((_, secret)) = draft.secret {
            credential.version += 1;
            credential.generation += 1;
            credential.origin = connector.base();
            credential.grant = draft.grant;
            (credential.state, credential.changed_at) = (State::Valid, now);
            changes.push(credential.seal(vault, connector, &key, &secret)?);
        }
        let mut written = vec![(key.clone(), credential)];
        if is_default
            && let Some((other, mut demoted)) = default
            && other != key
        {
            demoted.is_default = false;
            written.push((other, demoted));
        }
        for (key, credential) in &written {
            changes.push(put(key, credential)?);
        }
        records.write(&changes)?;
        all.extend(written);
        Ok(key)
    }

    /// Stores refreshed tokens, if the credential is still the one that was refreshed. Gives what is stored now.
    pub(crate) fn renewed(
        &self,
        records: &dyn Records,
        vault: &vault::Vault,
        connector: &Connector,
        key: &str,
        of: &Credential,
        (secret, grant): (&Secret, Granted),
    ) -> Result<Option<Credential>, ConnectorsError> {
        let mut all = self.all.write();
        let same = |now: &&mut Credential| (now.id, now.version) == (of.id, of.version);
        let Some(current) = all.get_mut(key).filter(same) else { return Ok(None) };
        let mut credential = current.clone();
        credential.version += 1;
        credential.grant = Some(grant);
        if credential.state != State::Valid {
            (credential.state, credential.changed_at) = (State::Valid, Utc::now());
        }
        let sealed = credential.seal(vault, connector, key, secret)?;
        records.write(&[sealed, put(key, &credential)?])?;
        *current = credential.clone();
        Ok(Some(credential))
    }

    /// Notes the state of a credential, if it is still the one that was meant. Says whether that is news.
    pub(crate) fn mark(
        &self,
        records: &dyn Records,
        key: &str,
        of: &Credential,
        state: State,
    ) -> Result<bool, ConnectorsError> {
        let mut all = self.all.write();
        let same = |now: &&mut Credential| (now.id, now.generation) == (of.id, of.generation);
        let Some(current) = all.get_mut(key).filter(same) else { return Ok(false) };
        if current.state == state {
            return Ok(false);
        }
        let credential = Credential { state, changed_at: Utc::now(), ..current.clone() };
        records.write(&[put(key, &credential)?])?;
        *current = credential;
        Ok(true)
    }

    /// All credentials with their keys.
    pub(crate) fn all(&self) -> Vec<(String, Credential)> {
        self.all.read().iter().map(|(key, credential)| (key.clone(), credential.clone())).collect()
    }

    /// Does something while no credential changes.
    pub(crate) fn frozen<T>(&self, work: impl FnOnce() -> T) -> T {
        let _alone = self.all.write();
        work()
    }

    /// Deletes a credential. If it was the default, the oldest of the others becomes it.
    pub(crate) fn delete(
        &self,
        records: &dyn Records,
        connector: &Connector,
        scope: Scope,
        who: &Principal,
        name: &str,
    ) -> Result<(), ConnectorsError> {
        let prefix = prefix(connector, scope, who);
        let key = format!("{prefix}{name}");
        let mut all = self.all.write();
        let credential = all.get(&key).cloned().ok_or_else(|| not_found(name, connector, scope))?;
        let mut changes = deletion(&key);
        let heir = all
            .iter()
            .filter(|(other, heir)| {
                credential.is_default
                    && other.starts_with(&prefix)
                    && **other != key
                    && heir.method == credential.method
            })
            .min_by_key(|(_, other)| other.created_at)
            .map(|(other, heir)| (other.clone(), Credential { is_default: true, ..heir.clone() }));
        if let Some((other, heir)) = &heir {
            changes.push(put(other, heir)?);
        }
        records.write(&changes)?;
        all.remove(&key);
        all.extend(heir);
        Ok(())
    }

    /// Deletes the credentials whose key begins with `prefix` and not with `own`.
    pub(crate) fn delete_others(
        &self,
        records: &dyn Records,
        prefix: &str,
        own: &str,
    ) -> Result<(), ConnectorsError> {
        let goes = |key: &str| key.starts_with(prefix) && !key.starts_with(own);
        let mut all = self.all.write();
        let changes: Vec<Change> = all.keys().filter(|key| goes(key)).flat_map(|key| deletion(key)).collect();
        records.write(&changes)?;
        all.retain(|key, _| !goes(key));
        Ok(())
    }

    /// Deletes everybody's credentials for a connector, written by `write`.
    pub(crate) fn delete_of_connector(
        &self,
        connector: &Connector,
        write: impl FnOnce(Vec<Change>) -> Result<(), ConnectorsError>,
    ) -> Result<(), ConnectorsError> {
        let prefix = format!("{}/", connector.id);
        let mut all = self.all.write();
        write(all.keys().filter(|key| key.starts_with(&prefix)).flat_map(|key| deletion(key)).collect())?;
        all.retain(|key, _| !key.starts_with(&prefix));
        Ok(())
    }
}

fn deletion(key: &str) -> Vec<Change> {
    [TABLE, vault::TABLE].map(|table| Change::Delete { table, key: key.into() }).into()
}

/// The scope that is looked in first.
fn looked_in(who: &Principal) -> Scope {
    match who.user.as_str() == Principal::DEPLOYMENT {
        true => Scope::Workspace,
        false => Scope::User,
    }
}

fn not_found(name: &str, connector: &Connector, scope: Scope) -> ConnectorsError {
    let flag = match scope {
        Scope::User => "",
        Scope::Workspace => " --scope workspace",
        Scope::Organization => " --scope organization",
    };
    ConnectorsError::NotFound(format!(
        "Credential '{name}' not found for connector '{0}': see `airlock credentials list {0}{flag}`",
        connector.name
    ))
}

fn put(key: &str, credential: &Credential) -> Result<Change, ConnectorsError> {
    Ok(Change::Put { table: TABLE, key: key.into(), value: serde_json::to_vec(credential)? })
}
