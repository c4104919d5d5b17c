//! Waiting for a service that cannot be called.
//!
//! A failure may say that nothing was called: the connector's breaker is open, the connection was refused, the service sent
//! the call away and said when to come back. Attempts like that do nothing but find out that it is not over, so they use up
//! none of a policy's attempts: they wait as they were told, until the service has been away for [`Outage::LONGEST`]. From
//! then on they count like any other failure.
//!
//! A policy of one attempt is the wish to hear of a failure at once, whatever it is. It waits for nothing.

use std::time::Duration;

use crate::{Failure, RetryPolicy, history::UnixMs};

/// What an activity or a tool call knows of the outage that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outage {
    /// When the first attempt ended since the last one that called something.
    since: Option<UnixMs>,
    /// How many attempts ended in a row without a call.
    row: u32,
    /// How many ended without using up one of the policy's, ever.
    uncounted: u32,
}

impl Outage {
    /// So long an outage is waited for.
    pub const LONGEST: Duration = Duration::from_secs(600);
    /// Whoever was not told how long to wait waits as the policy says, and at least so long,
    const SHORTEST_WAIT: Duration = Duration::from_secs(1);
    /// at most so long: nobody says when it is over.
    const LONGEST_WAIT: Duration = Duration::from_secs(30);

    /// How long an attempt that ended now waits for the next one without being counted. `None`: it counts.
    pub fn wait(
        &self,
        failure: &Failure,
        policy: &RetryPolicy,
        now: UnixMs,
        jitter: f64,
    ) -> Option<Duration> {
        let told = failure.uncalled()?;
        if policy.maximum_attempts == 1 || policy.non_retryable_kinds.contains(&failure.kind) {
            return None;
        }
        let wait = match told.retry_after {
            Some(told) => told.max(Self::SHORTEST_WAIT),
            None => policy.wait_after(self.row + 1).clamp(Self::SHORTEST_WAIT, Self::LONGEST_WAIT),
        };
        let wait = wait.saturating_add(wait.mul_f64(0.1 * jitter.clamp(0.0, 1.0)));
        let passed = Duration::from_millis(now.saturating_sub(self.since.unwrap_or(now)));
        (passed.saturating_add(wait) <= Self::LONGEST).then_some(wait)
    }

    /// An attempt failed and another one follows. A failure knows whether it counted.
    pub fn note(&mut self, failure: &Failure, now: UnixMs) {
        match failure.uncalled() {
            Some(uncalled) => {
                self.since.get_or_insert(now);
                self.row += 1;
                self.uncounted += u32::from(!uncalled.counts);
            }
            None => (self.since, self.row) = (None, 0),
        }
    }

    /// Of so many attempts, how many count.
    pub fn counted(&self, attempts: u32) -> u32 {
        attempts.saturating_sub(self.uncounted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::Config};

    use super::*;

    fn away(retry_after: Option<Duration>) -> Failure {
        Failure::retryable(Failure::CONNECTOR, "away").without_a_call("circuit_open", retry_after)
    }

    proptest! {
        #![proptest_config(Config { cases: 500, failure_persistence: None, ..Config::default() })]

        #[test]
        fn an_outage_is_waited_for_as_told_and_not_longer_than_its_limit(
            told in prop::option::of(0_u64..900_000), initial in 0_u64..20_000, backoff in 1.0_f64..4.0, jitter in 0.0_f64..1.0,
        ) {
            let policy = RetryPolicy {
                initial_interval: Duration::from_millis(initial), backoff_coefficient: backoff, ..RetryPolicy::default()
            };
            let failure = away(told.map(Duration::from_millis));
            let (mut outage, mut now, mut waits) = (Outage::default(), 5_000_000, 0);
            let begun = now;
            while let Some(wait) = outage.wait(&failure, &policy, now, jitter) {
                prop_assert!(wait >= Duration::from_millis(told.unwrap_or_default()));
                prop_assert!(told.is_some() || wait <= Duration::from_secs(33));
                prop_assert!(wait >= Duration::from_secs(1));
                outage.note(&failure.clone().uncounted(), now);
                now += wait.as_millis() as u64;
                waits += 1;
                prop_assert_eq!(outage.counted(waits + 1), 1);
            }
            let waited = Duration::from_millis(now - begun);
            prop_assert!(waited <= Outage::LONGEST);
            // It gave up for no other reason than that the next wait would have been too long.
            let next = told.map_or(Duration::from_secs(33), |told| Duration::from_millis(told).max(Duration::from_secs(1)).mul_f64(1.1));
            prop_assert!(waited + next + Duration::from_millis(u64::from(waits) + 1) > Outage::LONGEST, "{:?} in {}", waited, waits);
        }
    }

    #[test]
    fn what_called_something_or_is_not_to_be_tried_again_counts() {
        let policy = RetryPolicy::default();
        let wait = |failure: &Failure, policy: &RetryPolicy| Outage::default().wait(failure, policy, 1, 0.0);
        assert_eq!(wait(&away(None), &policy), Some(Duration::from_secs(1)));
        assert_eq!(wait(&Failure::retryable(Failure::CONNECTOR, "status 500"), &policy), None);
        assert_eq!(wait(&Failure { kind: "Mine".into(), ..away(None) }, &policy), None);
        assert_eq!(wait(&Failure { non_retryable: true, ..away(None) }, &policy), None);
        let once = RetryPolicy { maximum_attempts: 1, ..policy.clone() };
        assert_eq!(wait(&away(None), &once), None);
        let not_these = RetryPolicy { non_retryable_kinds: vec![Failure::CONNECTOR.into()], ..policy };
        assert_eq!(wait(&away(None), &not_these), None);
    }

    #[test]
    fn an_outage_that_was_too_long_does_not_begin_anew_until_something_was_called() {
        let (policy, mut outage) = (RetryPolicy::default(), Outage::default());
        outage.note(&away(None).uncounted(), 0);
        assert_eq!(outage.wait(&away(None), &policy, 600_000, 0.0), None);
        outage.note(&away(None), 600_000);
        assert_eq!(outage.wait(&away(None), &policy, 700_000, 0.0), None);
        assert_eq!(outage.counted(3), 2);
        outage.note(&Failure::retryable(Failure::CONNECTOR, "status 500"), 700_000);
        assert!(outage.wait(&away(None), &policy, 700_000, 0.0).is_some());
    }
}
