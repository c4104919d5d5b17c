//! What handlers share.

use std::sync::Arc;

use airlock_connectors::{Connectors, MasterKeySource};
use airlock_engine::{Engine, schedule::Scheduler};
use tokio_util::sync::CancellationToken;

use crate::{
    Keys, Limits,
    budget::{Budget, Turns},
    connections::Places,
    notes,
};

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    pub(crate) engine: Arc<Engine>,
    pub(crate) schedules: Arc<Scheduler>,
    pub(crate) connectors: Connectors,
    pub(crate) keys: Arc<Keys>,
    /// Figures of rooms that are not known here, by their names, for the status.
    pub(crate) rooms: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Where a new master key comes from.
    pub(crate) master_key: Arc<dyn MasterKeySource>,
    /// Cancelled when the daemon stops: streams end then.
    pub(crate) closing: CancellationToken,
    pub(crate) limits: Arc<Limits>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) places: Arc<Places>,
}

impl ApiState {
    /// State for a router, and the engine's word on what is archived. `rooms` gives the figures that the status shows of rooms that
    /// are not known here, an object of theirs by name.
    pub fn new(
        engine: Arc<Engine>,
        schedules: Arc<Scheduler>,
        connectors: Connectors,
        keys: Arc<Keys>,
        rooms: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
        master_key: Arc<dyn MasterKeySource>,
    ) -> Self {
        let closing = CancellationToken::new();
        let limits = Arc::new(Limits::default());
        match notes::archived(&**keys.records()) {
            Ok(archived) => archived.iter().for_each(|workflow| engine.set_archived(workflow, true)),
            Err(error) => tracing::error!(%error, "which workflows are archived cannot be read: all start"),
        }
        Self {
            engine,
            schedules,
            connectors,
            keys,
            rooms,
            master_key,
            closing,
            budget: Budget::new(limits.bytes),
            turns: Turns::new(limits.requests_per_user()),
            places: Places::new(Arc::clone(&limits)),
            limits,
        }
    }

    /// The same with other bounds.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        let limits = Arc::new(limits);
        Self {
            budget: Budget::new(limits.bytes),
            turns: Turns::new(limits.requests_per_user()),
            places: Places::new(Arc::clone(&limits)),
            limits,
            ..self
        }
    }
}
