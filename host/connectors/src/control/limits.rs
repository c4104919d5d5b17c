//! How often a connector is called, and how often its answers held a secret.
//!
//! Both count in memory: after a restart everybody starts afresh. Memory is bounded by the callers of the last minutes:
//! who has their full allowance again is forgotten.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos,
    state::keyed::HashMapStateStore,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Control, Per, Rate, breaker::seconds};
use crate::ConnectorsError;

/// Keys are looked through for old ones when there are so many, and then when there are twice as many as were left.
const SWEEP: usize = 1_024;

/// The rate limits of all connectors.
#[derive(Default)]
pub(crate) struct Limits(Mutex<HashMap<String, Arc<[Limit]>>>);

/// A limit with what has been counted.
struct Limit {
    rate: Rate,
    counted: Arc<Counted>,
}

struct Counted {
    limiter: RateLimiter<String, HashMapStateStore<String>, Time, NoOpMiddleware<Nanos>>,
    sweep_at: AtomicUsize,
}

/// The runtime's clock, so that tests can turn it.
struct Time(Instant);

impl Clock for Time {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

impl Limits {
    /// Counts a call, or refuses it because of a limit. Limits of one user are looked at first, so that who is refused
    /// does not use up what others share. `credential_key` is that of the credential the call will use.
    pub(crate) fn check(
        &self,
        connector_id: &str,
        control: &Control,
        credential_key: Option<&str>,
        user: &str,
    ) -> Result<(), ConnectorsError> {
        for limit in &*self.of(connector_id, &control.rate) {
            let key = match limit.rate.per {
                Per::User => user,
                Per::Credential => credential_key.unwrap_or_default(),
                Per::Connector => "",
            };
            limit.count(key)?;
        }
        Ok(())
    }

    /// The limits of a connector as the control says now. Those that it said before go on counting.
    fn of(&self, connector_id: &str, rates: &[Rate]) -> Arc<[Limit]> {
        let mut all = self.0.lock();
        let known = all.get(connector_id);
        if rates.is_empty() && known.is_none() {
            return Arc::new([]);
        }
        let mut rates = rates.to_vec();
        rates.sort_by_key(|rate| (rate.per, rate.seconds, rate.calls));
        rates.dedup();
        if let Some(known) = known
            && known.iter().map(|limit| limit.rate).eq(rates.iter().copied())
        {
            return Arc::clone(known);
        }
        let counted = |rate: &Rate| {
            let same = known.and_then(|known| known.iter().find(|limit| limit.rate == *rate));
            same.map_or_else(|| Arc::new(Counted::new(*rate)), |limit| Arc::clone(&limit.counted))
        };
        let limits: Arc<[Limit]> =
            rates.iter().map(|rate| Limit { rate: *rate, counted: counted(rate) }).collect();
        match limits.is_empty() {
            true => all.remove(connector_id),
            false => all.insert(connector_id.into(), Arc::clone(&limits)),
        };
        limits
    }

    /// Forgets a connector that is gone.
    pub(crate) fn forget(&self, connector_id: &str) {
        self.0.lock().remove(connector_id);
    }
}

impl Counted {
    fn new(rate: Rate) -> Self {
        let calls = NonZeroU32::new(rate.calls).unwrap_or(NonZeroU32::MIN);
        let each = (Duration::from_secs(rate.seconds.into()) / calls.get()).max(Duration::from_nanos(1));
        // Only a time of zero is no quota.
        let quota = Quota::with_period(each).unwrap_or(Quota::per_second(calls)).allow_burst(calls);
        let limiter = RateLimiter::hashmap_with_clock(quota, Time(Instant::now()));
        Self { limiter, sweep_at: SWEEP.into() }
    }
}

impl Limit {
    fn count(&self, key: &str) -> Result<(), ConnectorsError> {
        let Counted { limiter, sweep_at } = &*self.counted;
        if limiter.len() >= sweep_at.load(Ordering::Relaxed) {
            limiter.retain_recent();
            sweep_at.store(SWEEP.max(2 * limiter.len()), Ordering::Relaxed);
        }
        limiter.check_key(&key.to_owned()).map_err(|until| {
            let retry_after = until.wait_time_from(limiter.clock().now());
            let whose = match self.rate.per {
                Per::User => "per user",
                Per::Credential => "per credential",
                Per::Connector => "for everybody",
            };
            let Rate { calls, seconds: period, .. } = self.rate;
            ConnectorsError::RateLimited {
                message: format!(
                    "the connector may be called {calls} times in {period} s {whose}: try again in {} s",
                    seconds(retry_after)
                ),
                retry_after,
            }
        })
    }
}

/// After how many redacted answers in [`WINDOW`] a user is refused.
const MOST_REDACTIONS: usize = 20;

/// The time in which redacted answers are counted, and for which further calls are refused.
const WINDOW: Duration = Duration::from_secs(60);

/// Notices who makes a server return secrets again and again (THREATS row 20): somebody who guesses at a secret learns
/// from each answer whether a guess was redacted.
#[derive(Default)]
pub(crate) struct Redactions(Mutex<Watched>);

#[derive(Default)]
struct Watched {
    /// By connector and user.
    users: HashMap<(String, String), Watch>,
    sweep_at: usize,
}

/// What is known of a user and a connector.
#[derive(Default)]
struct Watch {
    /// When answers were redacted, within the last [`WINDOW`]; at most [`MOST_REDACTIONS`].
    times: VecDeque<Instant>,
    refused_until: Option<Instant>,
}

impl Watch {
    fn forget_before(&mut self, now: Instant) {
        self.refused_until = self.refused_until.filter(|until| *until > now);
        while self.times.front().is_some_and(|time| now - *time >= WINDOW) {
            self.times.pop_front();
        }
    }
}

impl Redactions {
    /// Whether the user may call the connector, as far as redactions go. Asked before each call.
    pub(crate) fn check(&self, connector_id: &str, user: &str) -> Result<(), ConnectorsError> {
        let (now, watched) = (Instant::now(), self.0.lock());
        if watched.users.is_empty() {
            return Ok(());
        }
        let watch = watched.users.get(&(connector_id.to_owned(), user.to_owned()));
        let until = watch.and_then(|watch| watch.refused_until).filter(|until| *until > now);
        let Some(until) = until else { return Ok(()) };
        let retry_after = until - now;
        Err(ConnectorsError::RateLimited {
            message: format!(
                "too many answers of this connector had to be cleared of secrets for '{user}', which looks like guessing: \
                 try again in {} s",
                seconds(retry_after)
            ),
            retry_after,
        })
    }

    /// Notes that an answer was cleared of `count` secrets; 0 is nothing to note.
    pub(crate) fn note(&self, connector_id: &str, user: &str, count: usize) {
        if count == 0 {
            return;
        }
        let (now, mut watched) = (Instant::now(), self.0.lock());
        if watched.users.len() >= watched.sweep_at {
            watched.users.retain(|_, watch| {
                watch.forget_before(now);
                watch.refused_until.is_some() || !watch.times.is_empty()
            });
            watched.sweep_at = SWEEP.max(2 * watched.users.len());
        }
        let watch = watched.users.entry((connector_id.to_owned(), user.to_owned())).or_default();
        watch.forget_before(now);
        // Calls that were under way when the alarm was raised do not raise it again.
        if watch.refused_until.is_some() {
            return;
        }
        if watch.times.len() < MOST_REDACTIONS {
            watch.times.push_back(now);
            return;
        }
        watch.times.clear();
        watch.refused_until = Some(now + WINDOW);
        tracing::warn!(
            alarm = "redaction",
            connector_id,
            user,
            "more than {MOST_REDACTIONS} answers in a minute had to be cleared of secrets: further calls are refused for \
             a minute"
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn control(rates: serde_json::Value) -> Control {
        Control::parse(json!({ "rate": rates })).expect("is valid")
    }

    fn refused(outcome: Result<(), ConnectorsError>) -> (String, Duration) {
        match outcome {
            Err(ConnectorsError::RateLimited { message, retry_after }) => (message, retry_after),
            other => panic!("{other:?} instead of a limit"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_says_what_it_is_and_when_to_come_back() {
        let limits = Limits::default();
        let control = control(json!([{ "per": "user", "calls": 3, "seconds": 60 }]));
        for _ in 0..3 {
            limits.check("1", &control, None, "ada").expect("goes");
        }
        let (message, retry_after) = refused(limits.check("1", &control, None, "ada"));
        assert_eq!(message, "the connector may be called 3 times in 60 s per user: try again in 20 s");
        assert_eq!(retry_after, Duration::from_secs(20));
        limits.check("1", &control, None, "bob").expect("another user");
        limits.check("2", &control, None, "ada").expect("another connector");
        tokio::time::advance(Duration::from_secs(19)).await;
        assert_eq!(refused(limits.check("1", &control, None, "ada")).1, Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        limits.check("1", &control, None, "ada").expect("one more");
        refused(limits.check("1", &control, None, "ada"));
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_and_connectors_have_limits_of_their_own() {
        let limits = Limits::default();
        let both = control(json!([
            { "per": "connector", "calls": 4, "seconds": 10 }, { "per": "credential", "calls": 2, "seconds": 10 }
        ]));
        limits.check("1", &both, Some("a"), "ada").expect("goes");
        limits.check("1", &both, Some("a"), "bob").expect("goes");
        assert!(
            refused(limits.check("1", &both, Some("a"), "eve")).0.contains("2 times in 10 s per credential")
        );
        limits.check("1", &both, None, "ada").expect("without a credential");
        limits.check("1", &both, None, "ada").expect("what was refused did not count for all");
        assert!(
            refused(limits.check("1", &both, Some("b"), "ada")).0.contains("4 times in 10 s for everybody")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_control_takes_effect_at_once_and_the_rest_goes_on_counting() {
        let limits = Limits::default();
        let user = json!({ "per": "user", "calls": 2, "seconds": 100 });
        let before = control(json!([user]));
        limits.check("1", &before, None, "ada").expect("goes");
        let stricter = control(json!([user, { "per": "connector", "calls": 1, "seconds": 100 }]));
        limits.check("1", &stricter, None, "ada").expect("the second of the user, the first of all");
        refused(limits.check("1", &stricter, None, "bob"));
        refused(limits.check("1", &before, None, "ada"));
        limits.check("1", &Control::default(), None, "ada").expect("there are no limits any more");
        assert!(limits.0.lock().is_empty());
        limits.check("1", &before, None, "ada").expect("counts from the start");
        limits.forget("1");
        assert!(limits.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn old_users_are_forgotten() {
        let limits = Limits::default();
        let control = control(json!([{ "per": "user", "calls": 1, "seconds": 1 }]));
        for user in 0..50_000 {
            limits.check("1", &control, None, &user.to_string()).expect("goes");
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let left = limits.of("1", &control.rate)[0].counted.limiter.len();
        assert!(left <= SWEEP, "{left} users are remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn row_20_guessing_at_a_secret_ends_after_twenty_redactions_in_a_minute() {
        let redactions = Redactions::default();
        let (mut guesses, mut refusals) = (0, 0);
        // Two guesses a second for ten minutes, each of which is right.
        for _ in 0..1_200 {
            match redactions.check("1", "eve") {
                Ok(()) => {
                    guesses += 1;
                    redactions.note("1", "eve", 1);
                }
                Err(error) => {
                    refusals += 1;
                    assert!(error.to_string().contains("looks like guessing"), "{error}");
                }
            }
            redactions.check("1", "ada").expect("others go on");
            redactions.check("2", "eve").expect("so do other connectors");
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        // 21 guesses, a minute of refusals, and so on.
        assert_eq!((guesses, refusals), (9 * 21, 1_200 - 9 * 21));
    }

    #[tokio::test(start_paused = true)]
    async fn row_20_a_server_that_shows_a_secret_now_and_then_goes_on() {
        let redactions = Redactions::default();
        for _ in 0..100 {
            redactions.check("1", "ada").expect("goes");
            redactions.note("1", "ada", 3);
            redactions.note("1", "ada", 0);
            tokio::time::advance(Duration::from_secs(3)).await;
        }
    }

    #[test]
    fn row_20_the_alarm_is_logged_once_with_a_stable_field() {
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Log {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().extend(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let redactions = Redactions::default();
            for _ in 0..30 {
                redactions.note("1", "eve", 1);
            }
        });
        let text = String::from_utf8(log.0.lock().clone()).expect("text");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert_eq!(lines[0]["fields"]["alarm"], "redaction");
        assert_eq!((&lines[0]["level"], &lines[0]["fields"]["user"]), (&json!("WARN"), &json!("eve")));
    }

    #[tokio::test(start_paused = true)]
    async fn row_20_old_users_are_forgotten() {
        let redactions = Redactions::default();
        for user in 0..20_000 {
            redactions.note("1", &user.to_string(), 1);
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert!(redactions.0.lock().users.len() <= 2 * SWEEP);
    }
}
