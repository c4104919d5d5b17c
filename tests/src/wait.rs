//! Waiting for a condition, with a limit.

use std::time::{Duration, Instant};

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
