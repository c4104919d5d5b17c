//! What the operator does with keys and the audit log.

use std::io::Write;

use airlock_engine::Principal;
use async_recursion::async_recursion as boxed;
use futures::{StreamExt as _, stream::BoxStream};
use serde_json::{Value, json};

use super::Connectors;
use crate::{
    ConnectorsError, MasterKey,
    audit::{AuditLog, Event, Filter, Head, Kind},
    registry::headers,
    vault,
};

/// Where a new master key comes from.
pub trait MasterKeySource: Send + Sync + 'static {
    /// The next master key.
    ///
    /// # Errors
    /// A sentence that says what the operator has to do instead.
    fn next(&self) -> Result<MasterKey, String>;

    /// Puts the next key where a start of the daemon finds it.
    ///
    /// # Errors
    /// A sentence that says why that is not possible.
    fn commit(&self) -> Result<(), String>;
}

/// Which entries of the audit log one wants; what is absent does not matter.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// The connector's name or id.
    pub connector: Option<String>,
    /// The execution's id.
    pub execution: Option<String>,
    /// The user's id.
    pub user: Option<String>,
    /// The kind of entry, such as `call`.
    pub kind: Option<String>,
}

impl AuditFilter {
    fn parse(self) -> Result<Filter, ConnectorsError> {
        let Self { connector, execution, user, kind } = self;
        let kind = kind.map(|kind| {
            serde_json::from_value(Value::from(kind.as_str())).map_err(|_| {
                ConnectorsError::invalid(
                    "/kind",
                    format!("'{kind}' is not a kind of audit entry, such as 'call'"),
                )
            })
        });
        Ok(Filter { connector, execution, user, kind: kind.transpose()? })
    }
}

/// Bytes of why somebody accepts something.
const LONGEST_REASON: usize = 200;

/// Rows that are wrapped anew in one go.
const BATCH: usize = 200;

impl Connectors {
    /// Seals the keyring with a new master key and wraps every data key with a new vault key, while calls go on.
    #[boxed]
    pub async fn rotate(
        &self,
        who: &Principal,
        source: &dyn MasterKeySource,
    ) -> Result<Value, ConnectorsError> {
        let inner = &self.0;
        // One rotation at a time.
        let lock = inner.authorization.refreshing().lock("rotation");
        let _alone = lock.lock().await;
        let master = source.next().map_err(ConnectorsError::Conflict)?;
        let keyring = inner.vault.keyring();
        keyring.change_master(&master, || source.commit()).map_err(ConnectorsError::Store)?;
        let wrapped = self.rewrap().await?;
        keyring.retire().map_err(|error| ConnectorsError::Store(error.to_string()))?;
        self.0.audit.note(Event::by(Kind::KeyRotated, who))?;
        tracing::info!(wrapped, "the master key was changed");
        Ok(json!({ "message": "the master key was changed", "data_keys": wrapped }))
    }

    /// Wraps what an earlier rotation left, after it was cut short.
    #[boxed]
    pub async fn finish_rotation(&self) -> Result<(), ConnectorsError> {
        let lock = self.0.authorization.refreshing().lock("rotation");
        let _alone = lock.lock().await;
        if self.0.vault.keyring().has_older_keys() {
            let wrapped = self.rewrap().await?;
            let retired = self.0.vault.keyring().retire();
            retired.map_err(|error| ConnectorsError::Store(error.to_string()))?;
            tracing::info!(wrapped, "a change of keys was finished");
        }
        Ok(())
    }

    async fn rewrap(&self) -> Result<usize, ConnectorsError> {
        let inner = &self.0;
        let keys: Vec<String> =
            inner.records.scan(vault::TABLE, "", None, usize::MAX)?.into_iter().map(|(key, _)| key).collect();
        let mut wrapped = 0;
        for keys in keys.chunks(BATCH) {
            // Those of clients are written under this lock, the others under the three below.
            let locks: Vec<_> = keys.iter().filter(|key| key.ends_with("/client")).collect();
            let locks: Vec<_> =
                locks.into_iter().map(|key| inner.authorization.refreshing().lock(key)).collect();
            let mut held = Vec::new();
            for lock in &locks {
                held.push(lock.lock().await);
            }
            // In the order in which a deletion takes them.
            wrapped += inner
                .credentials
                .frozen(|| inner.registry.frozen(|| inner.authorization.frozen(|| self.rewrap_rows(keys))))?;
            drop(held);
            tokio::task::yield_now().await;
        }
        Ok(wrapped)
    }

    fn rewrap_rows(&self, keys: &[String]) -> Result<usize, ConnectorsError> {
        let (records, vault) = (&*self.0.records, &self.0.vault);
        let mut changes = Vec::new();
        for key in keys {
            if let Some(stored) = records.get(vault::TABLE, key)? {
                changes.extend(vault.rewrap(key, &stored)?);
            }
        }
        if !changes.is_empty() {
            records.write(&changes)?;
        }
        Ok(changes.len())
    }

    /// Opens everything that is sealed, and says what does not open. Nothing is shown of what does.
    pub fn verify_vault(&self) -> Result<Value, ConnectorsError> {
        let inner = &self.0;
        let mut broken = Vec::new();
        let mut opened = 0_usize;
        for id in inner.registry.ids() {
            let Some(connector) = inner.registry.by_id(&id) else { continue };
            match headers::open(&*inner.records, &inner.vault, &connector) {
                Ok(headers) => opened += usize::from(headers.iter().any(|header| header.is_secret)),
                Err(_) => broken.push(json!({ "connector": connector.name, "what": "headers" })),
            }
            let prefix = format!("{id}/");
            for (key, credential) in inner.credentials.all() {
                if !key.starts_with(&prefix) {
                    continue;
                }
                let place = credential.place(&connector, &key);
                match inner.vault.get(&*inner.records, &key, &place) {
                    Ok(_) => opened += 1,
                    Err(_) => broken.push(json!({
                        "connector": connector.name, "what": "credential", "credential": credential.name,
                        "scope": credential.scope,
                    })),
                }
            }
        }
        Ok(json!({ "opened": opened, "broken": broken }))
    }

    /// Entries of the audit log after a number, or without one the last ones; the oldest first.
    pub fn audit_entries(
        &self,
        after: Option<u64>,
        limit: usize,
        filter: AuditFilter,
    ) -> Result<Value, ConnectorsError> {
        let filter = filter.parse()?;
        let entries = match after {
            Some(after) => self.0.audit.read(after, limit, &filter)?,
            None => self.0.audit.latest(limit, &filter)?,
        };
        Ok(json!({ "entries": entries }))
    }

    /// The entries after a number, and those that follow, as they come.
    pub fn audit_follow(
        &self,
        after: u64,
        filter: AuditFilter,
    ) -> Result<BoxStream<'static, Result<Value, ConnectorsError>>, ConnectorsError> {
        let entries = self.0.audit.follow(after, filter.parse()?)?;
        Ok(Box::pin(entries.map(|entry| Ok(serde_json::to_value(entry?)?))))
    }

    /// Writes the audit log as JSON lines.
    pub fn audit_export(&self, writer: impl Write, from: u64, to: u64) -> Result<u64, ConnectorsError> {
        Ok(self.0.audit.export(writer, from, to)?)
    }

    /// Where the audit log ends, on the disk: for somebody to keep elsewhere.
    pub fn audit_head(&self) -> Result<Value, ConnectorsError> {
        let head = self.0.audit.head();
        self.0.audit.sync()?;
        Ok(json!({ "head": head.to_string(), "sequence": head.sequence, "hash": head.hash }))
    }

    /// Checks the chain of the audit log from its first entry to its last, against the head that the database keeps, and
    /// against one that was kept elsewhere (`<sequence>:<hash>`) if there is one.
    pub fn audit_verify(&self, head: Option<&str>) -> Result<Value, ConnectorsError> {
        let head: Option<Head> = head
            .map(str::parse)
            .transpose()
            .map_err(|error: String| ConnectorsError::invalid("/head", error))?;
        let not_whole = |problem: String| json!({ "whole": false, "problem": problem });
        if let Some(problem) = self.0.audit.broken() {
            return Ok(not_whole(problem));
        }
        let kept = match AuditLog::kept_head(&*self.0.records) {
            Ok(kept) => kept,
            Err(error) => return Ok(not_whole(error.to_string())),
        };
        Ok(match self.0.audit.verify(&[kept.as_ref(), head.as_ref().filter(|head| head.sequence > 0)]) {
            Ok(verified) => {
                // What was removed for its age cannot be compared.
                let first = verified.first.as_ref().map_or(0, |first| first.sequence);
                let compared = head.as_ref().map(|head| head.sequence == 0 || head.sequence >= first);
                let accepted = verified.accepted.map(|accepted| {
                    json!({
                        "sequence": accepted.sequence, "at": accepted.at, "by": accepted.by,
                        "reason": accepted.reason, "problem": accepted.accepted.problem,
                    })
                });
                json!({
                    "whole": true, "entries": verified.entries, "first": verified.first, "last": verified.last,
                    "removed": verified.removed, "head_compared": compared, "accepted": accepted,
                })
            }
            Err(broken) => not_whole(broken.to_string()),
        })
    }

    /// Accepts that the audit log is not whole, with an entry of it that says who did and why. `problem` is what
    /// [`Self::audit_verify`] said, so that nobody accepts what they have not read. From then on the log is whole since that
    /// entry.
    pub fn audit_accept(
        &self,
        who: &Principal,
        problem: Option<&str>,
        reason: &str,
    ) -> Result<Value, ConnectorsError> {
        if reason.trim().is_empty() || reason.len() > LONGEST_REASON {
            let message = format!("say why in 1 to {LONGEST_REASON} bytes: it is written down");
            return Err(ConnectorsError::invalid("/reason", message));
        }
        let verified = self.audit_verify(None)?;
        let Some(found) = verified["problem"].as_str() else {
            return Err(ConnectorsError::Conflict(
                "the audit log is whole: there is nothing to accept".into(),
            ));
        };
        if problem != Some(found) {
            return Err(ConnectorsError::Conflict(format!(
                "give as 'problem' what is wrong with the audit log, as a check of it says now: {found}"
            )));
        }
        let event = Event { note: Some(reason.trim().to_owned()), ..Event::by(Kind::LogAccepted, who) };
        let sequence = self.0.audit.accept(event, found)?;
        self.0.audit.keep_head(&*self.0.records)?;
        Ok(json!({
            "message": format!("accepted: the audit log is whole since entry {sequence}"),
            "sequence": sequence, "problem": found,
        }))
    }

    /// Writes down where the audit log ends, now and before the daemon stops.
    pub fn keep_audit_head(&self) -> Result<(), ConnectorsError> {
        self.0.audit.sync()?;
        self.0.audit.keep_head(&*self.0.records)
    }
}
