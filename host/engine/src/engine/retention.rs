//! Removing executions that ended long ago.

use std::{sync::Weak, time::Duration};

use super::{Engine, now_ms};

/// How often to look.
const PAUSE: Duration = Duration::from_secs(60);

/// Runs that are removed at once; between two such steps others have the store.
const AT_ONCE: usize = 200;

/// Removes what has been kept for long enough, until the engine is dropped.
pub(super) async fn run(engine: Weak<Engine>, keep: Duration) {
    loop {
        {
            let Some(engine) = engine.upgrade() else { return };
            engine.purge(keep).await;
        }
        tokio::time::sleep(PAUSE.min(keep)).await;
    }
}

impl Engine {
    async fn purge(&self, keep: Duration) {
        let before = now_ms().saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
        let mut removed = 0;
        loop {
            match self.store.purge(before, AT_ONCE).await {
                Ok(0) => break,
                Ok(count) => removed += count,
                Err(error) => {
                    tracing::warn!(%error, "finished executions could not be removed; trying again later");
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if removed > 0 {
            tracing::info!(removed, "finished executions were removed as configured");
        }
    }
}
