//! Whose a run is, as it was sealed.
//!
//! The owner of a run stands in its row, in clear, because lists filter by it. Whoever can write the database could write
//! another name there, and be shown what is sealed. So the owner is part of what the run's first record is sealed for, and
//! nothing of a run is opened before the row was compared with that.

use std::collections::HashMap;

use airlock_engine::{
    ExecutionKey, OrganizationId, Principal, UserId, WorkspaceId,
    history::{self, CorruptRecord, Record},
    store::StoreError,
};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    failure::failure,
    reference::Reference,
    seal::{Seal, first_place},
};

/// Owners that are remembered at most.
const REMEMBERED: usize = 10_000;

/// Owners that were found in what is sealed.
#[derive(Default)]
pub(crate) struct Owners(Mutex<HashMap<ExecutionKey, Principal>>);

impl Owners {
    pub(crate) fn known(&self, key: ExecutionKey) -> Option<Principal> {
        self.0.lock().get(&key).cloned()
    }

    pub(crate) fn remember(&self, key: ExecutionKey, owner: &Principal) {
        let mut owners = self.0.lock();
        if owners.len() >= REMEMBERED {
            owners.clear();
        }
        owners.insert(key, owner.clone());
    }
}

/// A row, and the first record of its run.
pub(crate) struct First {
    pub(crate) owner: Principal,
    pub(crate) sealed: Option<Vec<u8>>,
}

/// For whom a run was sealed.
pub(crate) enum SealedFor {
    Owner(Principal),
    /// A record of before, which is in the object store.
    Elsewhere(Reference),
    /// A history of before that begins with something else.
    Nobody,
}

impl SealedFor {
    /// What the first record of a run says. `owner` is that of the row.
    pub(crate) fn of(
        seal: &Seal,
        key: ExecutionKey,
        sealed: &[u8],
        owner: &Principal,
    ) -> Result<Self, StoreError> {
        if seal.open(sealed, &first_place(key, owner)).is_some() {
            return Ok(Self::Owner(owner.clone()));
        }
        let opened = open_unowned(seal, key, sealed)?;
        if let Some(reference) = Reference::decode(&opened) {
            return Ok(Self::Elsewhere(reference));
        }
        let started = match history::decode(&opened)?.1 {
            Record::Started(started) => Some(started),
            Record::Copied { record, .. } => match *record {
                Record::Started(started) => Some(started),
                _ => None,
            },
            _ => None,
        };
        Ok(started.map_or(Self::Nobody, |started| Self::Owner(started.principal)))
    }
}

/// What is said of a row whose owner is another one than that of the seal.
pub(crate) fn changed() -> StoreError {
    let why = "the owner in its row is not the one that it was sealed for: the row was changed";
    CorruptRecord::Damaged(why.into()).into()
}

/// Opens the first record of a run of before.
fn open_unowned(seal: &Seal, key: ExecutionKey, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
    seal.open_at(sealed.to_vec(), key, 0, None).map_err(|_| {
        let why = "its seal is broken: the row, its place or the owner of the run was changed";
        CorruptRecord::Damaged(why.into()).into()
    })
}

/// The row of a run, with its first record if that is wanted.
pub(crate) fn first(
    connection: &Connection,
    key: ExecutionKey,
    with_record: bool,
) -> Result<Option<First>, StoreError> {
    let query = || {
        let owner = connection
            .prepare_cached(
                "SELECT (SELECT name FROM names WHERE number = user), \
                 (SELECT name FROM names WHERE number = workspace), \
                 (SELECT name FROM names WHERE number = organization) FROM executions WHERE key = ?1",
            )?
            .query_row(params![key.0], |row| {
                Ok(Principal {
                    user: UserId::new(row.get::<_, String>(0)?),
                    workspace: WorkspaceId::new(row.get::<_, String>(1)?),
                    organization: OrganizationId::new(row.get::<_, String>(2)?),
                })
            })
            .optional()?;
        let Some(owner) = owner else { return Ok(None) };
        if !with_record {
            return Ok(Some((owner, None)));
        }
        let sealed = connection
            .prepare_cached("SELECT idx, body FROM journal WHERE execution = ?1 ORDER BY idx LIMIT 1")?
            .query_row(params![key.0], |row| Ok((row.get::<_, u32>(0)?, row.get(1)?)))
            .optional()?;
        Ok(Some((owner, sealed)))
    };
    match query().map_err(|error| failure(&error))? {
        None => Ok(None),
        // Only the first one says whose the others are.
        Some((_, Some((1.., _)))) => Err(CorruptRecord::Damaged("its first record is gone".into()).into()),
        Some((owner, sealed)) => Ok(Some(First { owner, sealed: sealed.map(|(_, sealed)| sealed) })),
    }
}
