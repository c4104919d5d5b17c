//! What handlers share.

use std::sync::Arc;

use airlock_connectors::{Connectors, MasterKeySource};
use airlock_engine::{Engine, schedule::Scheduler};
use tokio_util::sync::CancellationToken;

use crate::Keys;

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    pub(crate) engine: Arc<Engine>,
    pub(crate) schedules: Arc<Scheduler>,
    pub(crate) connectors: Connectors,
    pub(crate) keys: Arc<Keys>,
    /// Figures of the sandbox, for the status.
    pub(crate) sandbox: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Where a new master key comes from.
    pub(crate) master_key: Arc<dyn MasterKeySource>,
    /// Cancelled when the daemon stops: streams end then.
    pub(crate) closing: CancellationToken,
}

impl ApiState {
    /// State for a router. `sandbox` gives the figures that the status shows of the sandbox.
    pub fn new(
        engine: Arc<Engine>,
        schedules: Arc<Scheduler>,
        connectors: Connectors,
        keys: Arc<Keys>,
        sandbox: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
        master_key: Arc<dyn MasterKeySource>,
    ) -> Self {
        let closing = CancellationToken::new();
        Self { engine, schedules, connectors, keys, sandbox, master_key, closing }
    }
}
