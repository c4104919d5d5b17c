//! Connectors as they are registered, and who sees them.

pub(crate) mod apis;
pub(crate) mod client;
pub(crate) mod commands;
mod connector;
pub(crate) mod headers;
pub(crate) mod method;
mod register;
mod request;
pub(crate) mod scope;
pub(crate) mod sharing;
mod switches;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use airlock_engine::{
    Principal,
    records::{Change, Records},
};
use parking_lot::RwLock;
use url::Url;

use self::apis::Apis;
pub(crate) use self::connector::{ApiSource, Connector, Protocol, Visibility};
use crate::{
    ConnectorsError,
    egress::{Egress, address::Allowed},
    error::wording::word,
    vault::Vault,
};

const TABLE: &str = "connectors";

/// All connectors, in memory and in the store.
pub(crate) struct Registry {
    all: RwLock<HashMap<String, Arc<Connector>>>,
    apis: Apis,
}

/// What registering and changing need besides.
#[derive(Clone, Copy)]
pub(crate) struct With<'a> {
    pub(crate) records: &'a dyn Records,
    pub(crate) vault: &'a Vault,
    pub(crate) egress: &'a Egress,
}

impl Registry {
    pub(crate) fn open(records: &dyn Records) -> Result<Self, ConnectorsError> {
        let mut all = HashMap::new();
        for (id, value) in records.scan(TABLE, "", None, usize::MAX)? {
            all.insert(id, Arc::new(serde_json::from_slice(&value)?));
        }
        Ok(Self { all: RwLock::new(all), apis: Apis::default() })
    }

    /// The connector with this id or name, if the principal sees it.
    pub(crate) fn find(&self, who: &Principal, id_or_name: &str) -> Result<Arc<Connector>, ConnectorsError> {
        let all = self.all.read();
        // What is shared comes first: a name means the same to everybody, whatever somebody calls a private one.
        let by_name = || {
            let named =
                all.values().filter(|connector| connector.name == id_or_name && connector.is_visible_to(who));
            named.min_by_key(|connector| connector.visibility == Visibility::Private)
        };
        let found = all.get(id_or_name).filter(|connector| connector.is_visible_to(who)).or_else(by_name);
        found.cloned().ok_or_else(|| {
            ConnectorsError::NotFound(format!(
                "no connector is called '{id_or_name}': see `airlock connectors list`, or register it with `airlock \
                 connectors add {} --server ADDRESS`",
                word(id_or_name)
            ))
        })
    }

    /// A connector that somebody found before, as it is now. `name`: what it was called then; `when`: what has happened
    /// since, for words.
    pub(crate) fn still(
        &self,
        who: &Principal,
        id: &str,
        name: Option<&str>,
        when: &str,
    ) -> Result<Arc<Connector>, ConnectorsError> {
        let found = self.by_id(id);
        let what = match &found {
            Some(connector) if connector.is_visible_to(who) => return Ok(Arc::clone(connector)),
            Some(_) => "is not shared with its user any more: that ended",
            None => "was removed",
        };
        let name = name.map_or_else(|| "the connector".to_owned(), |name| format!("connector '{name}'"));
        Err(ConnectorsError::NotFound(format!("{name} {what} {when}")))
    }

    /// What the principal sees, by name ([`place`]).
    pub(crate) fn visible(&self, who: &Principal) -> Vec<Arc<Connector>> {
        let all = self.all.read();
        let mut visible: Vec<_> =
            all.values().filter(|connector| connector.is_visible_to(who)).cloned().collect();
        visible.sort_by(|a, b| place(&a.name).cmp(&place(&b.name)));
        visible
    }

    /// Stores a new connector, together with other changes.
    pub(crate) fn save(
        &self,
        records: &dyn Records,
        connector: Connector,
        is_owner: bool,
        changes: Vec<Change>,
    ) -> Result<Arc<Connector>, ConnectorsError> {
        store(&mut self.all.write(), records, connector, is_owner, changes)
    }

    /// Changes a connector: `change` sees it as it is now, and nothing else changes it meanwhile. What is an owner's to change
    /// stays as it is.
    pub(crate) fn change(
        &self,
        records: &dyn Records,
        id: &str,
        change: impl FnOnce(&mut Connector) -> Result<Vec<Change>, ConnectorsError>,
    ) -> Result<Arc<Connector>, ConnectorsError> {
        self.change_as(records, id, false, change)
    }

    /// The same for somebody who may be an owner.
    pub(crate) fn change_as(
        &self,
        records: &dyn Records,
        id: &str,
        is_owner: bool,
        change: impl FnOnce(&mut Connector) -> Result<Vec<Change>, ConnectorsError>,
    ) -> Result<Arc<Connector>, ConnectorsError> {
        let mut all = self.all.write();
        let gone = || ConnectorsError::NotFound("the connector was deleted meanwhile".into());
        let mut connector = Connector::clone(all.get(id).ok_or_else(gone)?);
        let changes = change(&mut connector)?;
        store(&mut all, records, connector, is_owner, changes)
    }

    /// Does something while no connector changes.
    pub(crate) fn frozen<T>(&self, work: impl FnOnce() -> T) -> T {
        let _alone = self.all.write();
        work()
    }

    /// All ids.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.all.read().keys().cloned().collect()
    }

    /// The connectors that have the operations that are kept under this id, its own included.
    pub(crate) fn with_operations_of(&self, id: &str) -> Vec<Arc<Connector>> {
        let all = self.all.read();
        let has = |connector: &&Arc<Connector>| {
            connector.id == id || connector.api.as_ref().is_some_and(|api| api.owner == id)
        };
        all.values().filter(has).cloned().collect()
    }

    /// The connector with this id, whoever asks.
    pub(crate) fn by_id(&self, id: &str) -> Option<Arc<Connector>> {
        self.all.read().get(id).cloned()
    }

    pub(crate) fn remove(
        &self,
        records: &dyn Records,
        id: &str,
        mut changes: Vec<Change>,
    ) -> Result<(), ConnectorsError> {
        changes.push(Change::Delete { table: TABLE, key: id.into() });
        records.write(&changes)?;
        self.all.write().remove(id);
        Ok(())
    }
}

/// Where a name stands among others, as people look things up: capitals and small letters are alike.
pub(crate) fn place(name: &str) -> (String, &str) {
    (name.to_lowercase(), name)
}

/// The one place where a connector is stored, and so the one where it is looked at as it will be.
fn store(
    all: &mut HashMap<String, Arc<Connector>>,
    records: &dyn Records,
    connector: Connector,
    is_owner: bool,
    mut changes: Vec<Change>,
) -> Result<Arc<Connector>, ConnectorsError> {
    let before = all.get(&connector.id);
    if !is_owner {
        needs_no_owner(before.map(|before| &**before), &connector)?;
    }
    // Names that are shared are unique in an organisation. Private ones are their creators': nobody takes one away from others.
    let is_private = |connector: &Connector| connector.visibility == Visibility::Private;
    let is_twin = |other: &Arc<Connector>| {
        other.name == connector.name
            && other.organization == connector.organization
            && other.id != connector.id
            && (other.creator == connector.creator || !is_private(other))
    };
    let is_named = before
        .is_none_or(|before| before.name != connector.name || before.visibility != connector.visibility);
    if is_named && all.values().any(is_twin) {
        let message = format!("a connector called '{}' exists already: choose another name", connector.name);
        return Err(ConnectorsError::Conflict(message));
    }
    let value = serde_json::to_vec(&connector)?;
    changes.push(Change::Put { table: TABLE, key: connector.id.clone(), value });
    records.write(&changes)?;
    let connector = Arc::new(connector);
    all.insert(connector.id.clone(), Arc::clone(&connector));
    Ok(connector)
}

/// What others use and go by is an owner's to give: that a connector is shared, what a shared one is called, and the headers
/// that go with everybody's calls (THREATS row 7).
fn needs_no_owner(before: Option<&Connector>, after: &Connector) -> Result<(), ConnectorsError> {
    if after.visibility == Visibility::Private {
        return Ok(());
    }
    let before = before.filter(|before| before.visibility != Visibility::Private);
    let refused = |what: &str| {
        Err(ConnectorsError::Forbidden(format!(
            "{what}: this needs a key with the role 'owner', or visibility 'private'"
        )))
    };
    let headers = |connector: &Connector| connector.headers.iter().cloned().collect::<BTreeSet<_>>();
    match before {
        _ if !after.headers.is_empty() && before.is_none_or(|before| headers(before) != headers(after)) => {
            refused("headers of a shared connector go with everybody's calls")
        }
        None => refused("a shared connector is what its name means to others"),
        Some(before) if before.name != after.name => refused("others go by the name of a shared connector"),
        Some(before)
            if before.visibility != after.visibility && after.visibility == Visibility::SharedOrg =>
        {
            refused("the whole organisation would see it")
        }
        Some(_) => Ok(()),
    }
}

/// A name of a connector: 1 to 64 of `[A-Za-z0-9_-]`, and not of the form of an id.
pub(crate) fn check_name(name: &str) -> Result<(), ConnectorsError> {
    let valid = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    match valid {
        true if uuid::Uuid::try_parse(name).is_ok() => Err(ConnectorsError::invalid(
            "/name",
            "a connector's name must not look like an id: connectors are found by both",
        )),
        true => Ok(()),
        false => Err(ConnectorsError::invalid(
            "/name",
            "a connector's name has 1 to 64 characters, letters, digits, '_' and '-' only",
        )),
    }
}

/// An address of a server: http or https, no user in it, and somewhere that may be called.
pub(crate) fn check_server(server: &str, allowed: Allowed) -> Result<(), ConnectorsError> {
    let invalid = |message: String| ConnectorsError::invalid("/server", message);
    let url = Url::parse(server).map_err(|error| invalid(format!("it is not an address: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("it must begin with https:// or http://".into()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("it must hold no user or password: store a credential instead".into()));
    }
    allowed.check(&url).map_err(invalid)
}

#[cfg(test)]
mod tests;
