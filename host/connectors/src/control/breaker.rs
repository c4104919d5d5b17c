//! Circuit breaking: a server that fails again and again is left alone for a while.
//!
//! One breaker per connector. What it sees of a call is that it wants to go (`enter`) and how it ended (`end` of its
//! [`Pass`]). Only [`ConnectorsError::Upstream`] and [`ConnectorsError::Timeout`] are failures; an answer is a success;
//! anything else (a refused credential, wrong arguments, an answer that cannot be used, a call that was given up) says
//! nothing about the server.
//!
//! | state | what happens | next state |
//! | --- | --- | --- |
//! | closed | a success | closed, no failures in a row |
//! | closed | a failure, fewer than `failures` in a row | closed, one more |
//! | closed | a failure, the `failures`th in a row | open for `seconds` |
//! | open | a call before the time is over | open; the call is refused |
//! | open | a call after the time is over | half-open; the call goes through |
//! | half-open | another call | half-open; the call is refused |
//! | half-open | the call that went through succeeds | closed |
//! | half-open | the call that went through fails | open for `seconds` |
//! | half-open | the call that went through says nothing | open, and the time is over |
//!
//! Calls that went through while the breaker was closed and end when it is not any more change nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Breaking;
use crate::ConnectorsError;

/// The breakers of all connectors, by the connectors' ids.
#[derive(Default)]
pub(crate) struct Breakers(Mutex<HashMap<String, Arc<Breaker>>>);

impl Breakers {
    /// The breaker of a connector, with these settings from now on. `name` is the connector's, for messages.
    pub(crate) fn of(&self, connector_id: &str, name: &str, settings: Breaking) -> Arc<Breaker> {
        let mut all = self.0.lock();
        if let Some(breaker) = all.get(connector_id) {
            breaker.inner.lock().settings = settings;
            return Arc::clone(breaker);
        }
        let breaker = Arc::new(Breaker::new(name, settings));
        all.insert(connector_id.into(), Arc::clone(&breaker));
        breaker
    }

    /// Whether the server answered when it was called last, and when that was.
    pub(crate) fn last(&self, connector_id: &str) -> Option<(bool, DateTime<Utc>)> {
        self.0.lock().get(connector_id).and_then(|breaker| breaker.inner.lock().last)
    }

    /// Notes whether the server answered something that is no call, and when. It counts for nothing else; what is older than
    /// what is known says nothing.
    pub(crate) fn note(
        &self,
        connector_id: &str,
        name: &str,
        settings: Breaking,
        (answered, at): (bool, DateTime<Utc>),
    ) {
        let breaker = self.of(connector_id, name, settings);
        let last = &mut breaker.inner.lock().last;
        if last.is_none_or(|(_, known)| known <= at) {
            *last = Some((answered, at));
        }
    }

    /// Starts afresh for a connector: it was changed or deleted.
    pub(crate) fn forget(&self, connector_id: &str) {
        self.0.lock().remove(connector_id);
    }
}

/// The breaker of one connector.
pub(crate) struct Breaker {
    connector: String,
    inner: Mutex<Inner>,
}

struct Inner {
    settings: Breaking,
    state: State,
    /// Whether it answered the last time, for people.
    last: Option<(bool, DateTime<Utc>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

/// How a call ended, as far as the breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Success,
    Failure,
    Nothing,
}

impl Breaker {
    /// A closed breaker. `connector` is the connector's name, for messages.
    pub(crate) fn new(connector: &str, settings: Breaking) -> Self {
        let inner = Inner { settings, state: State::Closed { failures: 0 }, last: None };
        Self { connector: connector.into(), inner: Mutex::new(inner) }
    }

    /// Lets a call through or says until when none goes through.
    pub(crate) fn enter(&self) -> Result<Pass<'_>, ConnectorsError> {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        match inner.state {
            State::Closed { .. } => Ok(Pass { breaker: self, probe: false, ended: false }),
            State::Open { until } if until <= now => {
                inner.state = State::HalfOpen;
                Ok(Pass { breaker: self, probe: true, ended: false })
            }
            State::Open { until } => Err(self.open(inner.settings.failures, until - now)),
            State::HalfOpen => Err(left_alone(
                format!(
                    "the server of connector '{}' failed repeatedly and is being tried with one call: try again when that \
                     has ended",
                    self.connector
                ),
                None,
            )),
        }
    }

    /// Whether calls go through without further ado.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.inner.lock().state, State::Closed { .. })
    }

    fn open(&self, failures: u32, left: Duration) -> ConnectorsError {
        let until = (Utc::now() + left).to_rfc3339_opts(SecondsFormat::Secs, true);
        let message = format!(
            "the server of connector '{}' failed {failures} times in a row: it is not called until {until}, in {} s",
            self.connector,
            seconds(left)
        );
        left_alone(message, Some(left))
    }

    fn settle(&self, probe: bool, verdict: Verdict) {
        let mut inner = self.inner.lock();
        let settings = inner.settings;
        if verdict != Verdict::Nothing {
            inner.last = Some((verdict == Verdict::Success, Utc::now()));
        }
        let open_for = |duration| State::Open { until: Instant::now() + duration };
        inner.state = match (inner.state, probe, verdict) {
            (State::Closed { .. }, false, Verdict::Success) => State::Closed { failures: 0 },
            (State::Closed { failures }, false, Verdict::Failure) if failures + 1 < settings.failures => {
                State::Closed { failures: failures + 1 }
            }
            (State::Closed { .. }, false, Verdict::Failure) => {
                let (connector, seconds) = (&self.connector, settings.seconds);
                tracing::warn!(connector, seconds, "a server fails repeatedly and is left alone");
                open_for(settings.duration())
            }
            (State::HalfOpen, true, Verdict::Success) => {
                tracing::info!(connector = self.connector, "a server that failed repeatedly answers again");
                State::Closed { failures: 0 }
            }
            (State::HalfOpen, true, Verdict::Failure) => open_for(settings.duration()),
            (State::HalfOpen, true, Verdict::Nothing) => open_for(Duration::ZERO),
            (state, ..) => state,
        };
    }
}

/// A call that was not let through.
fn left_alone(message: String, retry_after: Option<Duration>) -> ConnectorsError {
    let error = Box::new(ConnectorsError::Upstream(message));
    ConnectorsError::NotCalled { error, retry_after, is_open: true }
}

/// A call that was let through. Dropped without an end, it says nothing about the server.
#[must_use]
pub(crate) struct Pass<'a> {
    breaker: &'a Breaker,
    /// It is the one that tries whether the server works again.
    probe: bool,
    ended: bool,
}

impl Pass<'_> {
    /// The call has ended, well or with this error.
    pub(crate) fn end(mut self, error: Option<&ConnectorsError>) {
        let verdict = match error {
            None => Verdict::Success,
            Some(ConnectorsError::Upstream(_) | ConnectorsError::Timeout(_)) => Verdict::Failure,
            Some(_) => Verdict::Nothing,
        };
        self.ended = true;
        self.breaker.settle(self.probe, verdict);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.breaker.settle(self.probe, Verdict::Nothing);
        }
    }
}

/// Whole seconds, rounded up: who comes back after so many is not too early.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SETTINGS: Breaking = Breaking { failures: 3, seconds: 30 };

    fn upstream() -> ConnectorsError {
        ConnectorsError::Upstream("the server of connector 'crm' (crm.test) cannot be reached".into())
    }

    fn word(breaker: &Breaker) -> &'static str {
        match breaker.inner.lock().state {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::HalfOpen => "half-open",
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_walked_and_no_other_way_is_taken() {
        let mut seen: BTreeMap<(&str, &str, &str), u32> = BTreeMap::new();
        let mut random = 7_u64;
        let breaker = Breaker::new("crm", SETTINGS);
        let mut under_way: Vec<Pass<'_>> = Vec::new();
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let before = word(&breaker);
            let event = match (random >> 33) % 6 {
                0 | 1 => match breaker.enter() {
                    Ok(pass) => {
                        under_way.push(pass);
                        "enters"
                    }
                    Err(_) => "is refused",
                },
                2 => {
                    tokio::time::advance(Duration::from_secs(10)).await;
                    "time"
                }
                kind if !under_way.is_empty() => {
                    let pass = under_way.remove((random >> 40) as usize % under_way.len());
                    let probe = pass.probe;
                    match kind {
                        3 => pass.end(None),
                        4 => pass.end(Some(&upstream())),
                        _ => drop(pass),
                    }
                    match (kind, probe) {
                        (3, true) => "the one succeeds",
                        (4, true) => "the one fails",
                        (_, true) => "the one says nothing",
                        (3, false) => "succeeds",
                        (4, false) => "fails",
                        (_, false) => "says nothing",
                    }
                }
                _ => continue,
            };
            *seen.entry((before, event, word(&breaker))).or_default() += 1;
        }
        println!("{seen:#?}");
        let taken: Vec<_> = seen.keys().copied().collect();
        let expected = [
            ("closed", "enters", "closed"),
            ("closed", "fails", "closed"),
            ("closed", "fails", "open"),
            ("closed", "says nothing", "closed"),
            ("closed", "succeeds", "closed"),
            ("closed", "time", "closed"),
            ("half-open", "fails", "half-open"),
            ("half-open", "is refused", "half-open"),
            ("half-open", "says nothing", "half-open"),
            ("half-open", "succeeds", "half-open"),
            ("half-open", "the one fails", "open"),
            ("half-open", "the one says nothing", "open"),
            ("half-open", "the one succeeds", "closed"),
            ("half-open", "time", "half-open"),
            ("open", "enters", "half-open"),
            ("open", "fails", "open"),
            ("open", "is refused", "open"),
            ("open", "says nothing", "open"),
            ("open", "succeeds", "open"),
            ("open", "time", "open"),
        ];
        assert_eq!(taken, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_says_until_when() {
        let breaker = Breaker::new("crm", SETTINGS);
        for error in [Some(upstream()), Some(upstream()), None, Some(upstream()), Some(upstream())] {
            breaker.enter().expect("is closed").end(error.as_ref());
        }
        assert!(breaker.is_closed(), "a success in between starts the count again");
        let late = ConnectorsError::Timeout("late".into());
        breaker.enter().expect("is closed").end(Some(&late));
        let told = breaker.enter().err().expect("is open").to_string();
        assert!(told.contains("'crm' failed 3 times in a row") && told.ends_with("in 30 s"), "{told}");
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(breaker.enter().err().expect("is open").to_string().ends_with("in 1 s"));
        tokio::time::advance(Duration::from_secs(1)).await;
        let probe = breaker.enter().expect("one goes through");
        let told = breaker.enter().err().expect("only one").to_string();
        assert!(told.contains("is being tried"), "{told}");
        probe.end(None);
        assert!(breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_the_servers_fault_does_not_count() {
        let breaker = Breaker::new("crm", SETTINGS);
        for _ in 0..10 {
            let error = ConnectorsError::Unauthorized("refused".into());
            breaker.enter().expect("is closed").end(Some(&error));
            drop(breaker.enter());
        }
        assert!(breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_is_given_up_lets_the_next_call_try() {
        let breaker = Breaker::new("crm", Breaking { failures: 1, seconds: 5 });
        breaker.enter().expect("is closed").end(Some(&upstream()));
        tokio::time::advance(Duration::from_secs(5)).await;
        drop(breaker.enter().expect("one goes through"));
        breaker.enter().expect("the next goes through").end(None);
        assert!(breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn new_settings_take_effect_at_once_and_keep_the_count() {
        let breakers = Breakers::default();
        for _ in 0..2 {
            breakers.of("1", "crm", SETTINGS).enter().expect("is closed").end(Some(&upstream()));
        }
        let stricter = breakers.of("1", "crm", Breaking { failures: 2, seconds: 1 });
        stricter.enter().expect("is closed").end(Some(&upstream()));
        assert!(!stricter.is_closed());
        breakers.forget("1");
        assert!(breakers.of("1", "crm", SETTINGS).is_closed());
    }
}
