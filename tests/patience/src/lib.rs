//! How long tests wait. All of them know it from here.

use std::time::{Duration, Instant};

/// How long a test waits for anything before it says that it hangs. It is for hangs alone: no test passes or fails by how
/// fast a machine is, so it is far more than the slowest machine takes.
pub const LIMIT: Duration = Duration::from_secs(300);

/// Asks again and again until there is an answer.
///
/// # Panics
/// After `limit`, with what was waited for.
pub async fn eventually<T>(limit: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < limit, "gave up after {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
