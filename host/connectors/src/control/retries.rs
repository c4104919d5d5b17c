//! Trying again what failed for no fault of its own, inside one call.
//!
//! A call that may have had an effect is tried again only if it is idempotent. Waits grow from 0.2 s to 5 s with jitter,
//! or are what the server asks for in `Retry-After`, up to [`LONGEST_WAIT`]. The wait between attempts costs no thread.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};

use super::breaker::{Breaker, seconds};
use crate::ConnectorsError;
pub(crate) use crate::protocol::trouble::{Again, Trouble};

/// A call does not wait longer than this for a server that says when to come back.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Runs an attempt, and up to `retries` more while that makes sense and the breaker is closed. Each attempt goes through
/// the breaker; the error is that of the last attempt.
pub(crate) async fn run<T, F, Fut>(
    retries: u32,
    idempotent: bool,
    breaker: &Breaker,
    mut attempt: F,
) -> Result<T, ConnectorsError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Trouble>>,
{
    let waits = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(retries as usize)
        .with_jitter();
    let attempt = || {
        let entered = breaker.enter().map(|pass| (pass, attempt()));
        async move {
            let (pass, attempt) = entered?;
            let outcome = attempt.await;
            pass.end(outcome.as_ref().err().map(|trouble| &trouble.error));
            outcome
        }
    };
    let ended = attempt
        .retry(waits)
        .sleep(tokio::time::sleep)
        .when(|trouble: &Trouble| {
            breaker.is_closed()
                && match trouble.again {
                    Again::Never => false,
                    Again::Always => true,
                    Again::IfIdempotent => idempotent,
                    Again::After(wait) => wait <= LONGEST_WAIT,
                }
        })
        .adjust(|trouble, wait| match trouble.again {
            // The jitter stays, so that those who were sent away together do not come back together.
            Again::After(asked) => wait.map(|wait| asked + wait / 4),
            _ => wait,
        })
        .notify(|trouble, wait| tracing::debug!(error = %trouble.error, ?wait, "a call is tried again"))
        .await;
    ended.map_err(|trouble| match trouble.again {
        Again::After(asked) if asked > LONGEST_WAIT => ConnectorsError::RateLimited {
            message: format!(
                "{}; it asks to come back after {} s, and a call waits {} s at most: try again later",
                trouble.error,
                seconds(asked),
                LONGEST_WAIT.as_secs()
            ),
            retry_after: asked,
        },
        _ => trouble.told(),
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::Instant;

    use super::*;
    use crate::control::Breaking;

    /// Runs attempts that fail in this way, `failures` times, and gives the outcome with the times of the attempts.
    async fn attempts(
        retries: u32,
        idempotent: bool,
        again: Again,
        failures: usize,
    ) -> (Result<&'static str, ConnectorsError>, Vec<Duration>) {
        let breaker = Breaker::new("crm", Breaking { failures: 100, seconds: 30 });
        let (start, times) = (Instant::now(), RefCell::new(Vec::new()));
        let outcome = run(retries, idempotent, &breaker, || {
            times.borrow_mut().push(start.elapsed());
            let fails = times.borrow().len() <= failures;
            async move {
                match fails {
                    true => Err(Trouble { error: ConnectorsError::Upstream("trouble".into()), again }),
                    false => Ok("done"),
                }
            }
        });
        let outcome = outcome.await;
        (outcome, times.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_cannot_have_happened_twice_is_tried_again() {
        let wait = Again::After(Duration::from_secs(1));
        let table = [
            (Again::Never, true, 1),
            (Again::Always, false, 4),
            (Again::IfIdempotent, false, 1),
            (Again::IfIdempotent, true, 4),
            (wait, false, 4),
            (Again::After(LONGEST_WAIT + Duration::from_secs(1)), true, 1),
        ];
        for (again, idempotent, expected) in table {
            let (outcome, times) = attempts(3, idempotent, again, usize::MAX).await;
            assert!(outcome.is_err());
            assert_eq!(times.len(), expected, "{again:?}, idempotent: {idempotent}");
        }
        let (outcome, times) = attempts(3, true, Again::Always, 2).await;
        assert_eq!((outcome.expect("the third works"), times.len()), ("done", 3));
        assert_eq!(attempts(0, true, Again::Always, 1).await.1.len(), 1, "no retries are no retries");
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_with_jitter_and_end_at_five_seconds_and_a_bit() {
        let (_, times) = attempts(10, true, Again::Always, usize::MAX).await;
        let waits: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        assert_eq!(waits.len(), 10);
        for (number, wait) in (0..).zip(&waits) {
            let least = (0.2 * 2_f64.powi(number)).min(5.0);
            assert!((least..least * 2.0 + 0.01).contains(wait), "wait {number} of {waits:?}");
        }
        let (_, others) = attempts(10, true, Again::Always, usize::MAX).await;
        assert_ne!(times, others, "two callers do not wait alike");
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_says_how_long_to_wait() {
        let (outcome, times) = attempts(1, false, Again::After(Duration::from_secs(7)), 1).await;
        outcome.expect("the second works");
        assert!((7.0..7.2).contains(&times[1].as_secs_f64()), "{times:?}");
        let (outcome, _) = attempts(1, false, Again::After(Duration::from_secs(3_600)), 1).await;
        let Err(ConnectorsError::RateLimited { message, retry_after }) = outcome else {
            panic!("{outcome:?} instead of a limit")
        };
        assert_eq!(retry_after, Duration::from_secs(3_600));
        assert_eq!(
            message,
            "trouble; it asks to come back after 3600 s, and a call waits 60 s at most: try again later"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_ends_the_attempts_with_their_own_error() {
        let breaker = Breaker::new("crm", Breaking { failures: 2, seconds: 30 });
        let mut count = 0;
        let attempt = || {
            count += 1;
            let error = ConnectorsError::Upstream("no answer".into());
            async move { Err::<(), _>(Trouble { error, again: Again::Always }) }
        };
        let error = run(10, true, &breaker, attempt).await.expect_err("fails");
        assert_eq!((error.to_string().as_str(), count), ("no answer", 2));
        let mut called = false;
        let attempt = || {
            called = true;
            async { Ok(()) }
        };
        let error = run(10, true, &breaker, attempt).await.expect_err("is refused");
        assert!(error.to_string().contains("is not called until"), "{error}");
        assert!(!called);
    }
}
