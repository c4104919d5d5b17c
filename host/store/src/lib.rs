//! The engine's [`Store`](airlock_engine::store::Store) on SQLite, and the [`Records`](airlock_engine::records::Records) of the rooms around it, in one file `airlock.db`.
//!
//! Promises: what an append's future said is durable is on the disk (WAL mode, `synchronous=FULL`); appends take effect
//! in the order of the calls; many of them share one transaction when they come at once (group commit). Histories are
//! sealed with XChaCha20-Poly1305, each record bound to its execution and its place, so that a stolen file shows no
//! payload and a moved row does not open. A folder is used by one process at a time.
//!
//! It knows nothing of what the records mean.

pub mod backup;
mod commit;
pub mod crashes;
mod database;
mod failure;
mod journal;
mod layout;
mod list;
mod names;
mod objects;
mod open;
mod owner;
mod purge;
mod read;
mod reader;
mod records;
mod reference;
mod seal;
mod step;
mod versions;
mod write;

pub use self::{
    database::SqliteStore,
    objects::{ObjectConfig, ObjectConfigError},
    open::OpenError,
    versions::VersionsError,
};
