//! Removing objects that nothing refers to.

use std::{collections::HashSet, sync::Arc, time::Duration};

use airlock_engine::store::StoreError;
use futures::TryStreamExt;
use object_store::ObjectStore;

use super::Objects;

impl Objects {
    /// Removes objects that are older than `age` and not among `wanted`, and says how many. What is younger may belong to
    /// an append that is under way.
    pub(crate) async fn sweep(
        self: Arc<Self>,
        wanted: HashSet<String>,
        age: Duration,
    ) -> Result<usize, StoreError> {
        let payloads = self.place("payloads")?;
        let listed: Vec<_> = match self.store.list(Some(&payloads)).try_collect().await {
            Ok(listed) => listed,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(self.unreachable(&error)),
        };
        let now = std::time::SystemTime::now();
        let mut removed = 0;
        for object in listed {
            let old = now.duration_since(object.last_modified.into()).is_ok_and(|passed| passed >= age);
            let path = object.location.as_ref();
            let path = path.strip_prefix(self.prefix.as_ref()).unwrap_or(path).trim_start_matches('/');
            if old && !wanted.contains(path) {
                self.delete(path).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
