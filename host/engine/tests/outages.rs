//! A service that is away: what depends on it waits, and is there when the service is back. The machine with a clock of its
//! own, and crashes that lose everything but the history.

use std::{sync::Arc, time::Duration};

use airlock_engine::{
    ActivityDefinition, ActivityOptions, Digest, Failure, Json, OrganizationId, PluginDefinition, Principal,
    RetryPolicy, RunId, UserId, WorkflowDefinition, WorkspaceId,
    history::{Command, Job, Outcome, Record, Started, decode, encode},
    machine::{Input, Machine, Operation},
    outage::Outage,
    tools::Mocks,
};
use proptest::{prelude::*, test_runner::Config};

const RUN: RunId = RunId(uuid::Uuid::from_u128(7));
const BEGUN: u64 = 1_000_000;

fn definition() -> Arc<PluginDefinition> {
    let any = || Json::parse("{}").expect("JSON");
    Arc::new(PluginDefinition {
        workflows: vec![WorkflowDefinition {
            name: "w".into(),
            display_name: None,
            description: None,
            input_schema: any(),
            output_schema: None,
            on_behalf_of: false,
            execution_timeout: None,
            slots: Vec::new(),
            signals: Vec::new(),
            queries: Vec::new(),
            updates: Vec::new(),
            retry: None,
            search_keys: Vec::new(),
        }],
        activities: vec![ActivityDefinition {
            name: "a".into(),
            description: None,
            input_schema: any(),
            output_schema: None,
            options: ActivityOptions::default(),
            slots: Vec::new(),
        }],
    })
}

fn started() -> Started {
    Started {
        run_id: RUN,
        workflow: "w".into(),
        digest: Digest([0; 32]),
        input: Json::null(),
        principal: Principal {
            user: UserId::new("u"),
            workspace: WorkspaceId::new("w"),
            organization: OrganizationId::new("o"),
        },
        wishes: Vec::new(),
        mocks: Mocks::None,
        seed: 1,
        execution_timeout: Duration::from_secs(86_400),
        first_started_at: BEGUN,
        not_before: BEGUN,
        retry: None,
        attempt: 1,
        parent: None,
        continued_from: None,
        search_keys: Vec::new(),
    }
}

/// A service behind a breaker, as the connectors have it.
struct Service {
    away_until: u64,
    /// It says when it is back, or nobody answers at all.
    tells: bool,
    refused: u32,
    open_until: u64,
}

impl Service {
    fn call(&mut self, now: u64) -> Outcome {
        let away = Failure::retryable(Failure::CONNECTOR, "the service is away");
        let left = |until: u64| Some(Duration::from_millis(until - now));
        if now < self.open_until {
            return Err(away.without_a_call("circuit_open", left(self.open_until)));
        }
        if now >= self.away_until {
            return Ok(Json::null());
        }
        self.refused += 1;
        if self.refused >= 5 {
            self.open_until = now + 30_000;
        }
        Err(away.without_a_call("upstream", if self.tells { left(self.away_until) } else { None }))
    }
}

/// An execution with one activity; everything but its history may be lost at any time.
struct World {
    machine: Machine,
    history: Vec<Vec<u8>>,
    now: u64,
}

impl World {
    fn new(options: ActivityOptions) -> Self {
        let machine = Machine::start(definition(), RUN, started(), BEGUN);
        let mut world = Self { machine, history: Vec::new(), now: BEGUN };
        let (activity, input) = ("a".into(), Json::null());
        let command = Command::ScheduleActivity { seq: 1, activity, input, options };
        world.machine.receive(Input::Tick, BEGUN);
        world.machine.commands(vec![command]).expect("is a turn");
        world.commit();
        world
    }

    fn commit(&mut self) {
        let now = self.now;
        self.history.extend(self.machine.take_records().iter().map(|record| encode(now, record)));
        self.machine.take_effects();
    }

    fn crash(&mut self) {
        let mut records = self.history.iter().map(|row| decode(row).expect("decodes"));
        let Some((at, Record::Started(started))) = records.next() else { panic!("no start") };
        self.machine = Machine::read(definition(), started.digest, RUN, *started, at);
        for (at, record) in records {
            self.machine.replay(at, &record).expect("the history makes sense");
        }
        self.machine.resume();
    }

    /// The attempt that is due, and when.
    fn attempt(&self) -> Option<(u32, u64)> {
        match self.machine.operation(1) {
            Some(Operation::Activity { attempt, retry_at, .. }) => {
                Some((*attempt, retry_at.unwrap_or(self.now)))
            }
            _ => None,
        }
    }

    /// Attempts follow one another until the activity has ended: how, when, and after how many attempts.
    fn run(
        mut self,
        mut call: impl FnMut(u64) -> Outcome,
        crashes: u64,
    ) -> (Outcome, u64, u32, Vec<Vec<u8>>) {
        let mut last = 0;
        while let Some((attempt, at)) = self.attempt() {
            assert_eq!(attempt, last + 1, "no attempt is left out");
            last = attempt;
            assert!(attempt < 5_000, "it goes on for ever");
            self.now = self.now.max(at);
            if crashes & (1 << (attempt % 64)) != 0 {
                self.crash();
            }
            self.machine.receive(Input::Tick, self.now);
            self.commit();
            // The call itself takes a moment.
            self.now += 7;
            let outcome = call(self.now);
            let (details, waited, jitter) = (None, Duration::ZERO, f64::from(attempt % 3) / 3.0);
            self.machine
                .receive(Input::AttemptEnded { seq: 1, attempt, outcome, details, waited, jitter }, self.now);
            if let [Job::ActivityResolved { outcome, .. }] = self.machine.jobs() {
                return (outcome.clone(), self.now - BEGUN, attempt, self.history);
            }
            self.commit();
        }
        panic!("the activity is gone");
    }
}

fn policy() -> impl Strategy<Value = Option<RetryPolicy>> {
    let some = (0_u32..6, 0_u64..5_000, 1.0_f64..3.0, 0_u64..200_000).prop_map(
        |(attempts, initial, backoff, max)| RetryPolicy {
            initial_interval: Duration::from_millis(initial),
            backoff_coefficient: backoff,
            maximum_interval: Duration::from_millis(max),
            maximum_attempts: attempts,
            non_retryable_kinds: Vec::new(),
        },
    );
    prop::option::weighted(0.7, some)
}

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn work_lasts_through_an_outage_of_minutes_whatever_its_policy_and_however_often_the_process_dies(
        away in 0_u64..1_200_000, policy in policy(), tells in any::<bool>(), close in prop::option::of(1_000_u64..1_500_000), crashes in any::<u64>(),
    ) {
        let run = |crashes| {
            let schedule_to_close = close.map(Duration::from_millis);
            let world = World::new(ActivityOptions { retry: policy.clone(), schedule_to_close, ..ActivityOptions::default() });
            let mut service = Service { away_until: BEGUN + away, tells, refused: 0, open_until: 0 };
            world.run(move |now| service.call(now), crashes)
        };
        let (outcome, passed, attempts, history) = run(crashes);
        // What is lost with the memory decides nothing.
        let without = run(0);
        prop_assert_eq!((&outcome, passed, attempts, &history), (&without.0, without.1, without.2, &without.3));

        let most = policy.as_ref().map_or(3, |policy| policy.maximum_attempts);
        // The breaker is open for 30 s, a told wait is longer by up to a tenth, and so is the wait before it.
        let slack = if tells { away / 8 + 35_000 } else { 80_000 };
        let limit = Outage::LONGEST.as_millis() as u64;
        let closes = close.is_some_and(|close| close < away + slack);
        if away > 7 && most == 1 {
            prop_assert!(outcome.is_err() && attempts == 1, "{:?}", outcome);
        } else if away + slack < limit && !closes {
            prop_assert!(outcome.is_ok(), "away for {} ms: {:?} after {} ms and {} attempts", away, outcome, passed, attempts);
            prop_assert!(passed <= away + slack + 7, "back after {} ms, noticed after {}", away, passed);
        }
        if let Some(close) = close {
            prop_assert!(passed <= close + 7, "{} of {}", passed, close);
        }
        if outcome.is_err() && most > 1 && close.is_none() {
            prop_assert!(away > limit / 2, "away for {} ms: given up after {}", away, passed);
        }
    }

    /// Attempts that called something count as they always did, however many that called nothing are between them.
    #[test]
    fn an_outage_gives_no_attempt_away_and_takes_none(most in 2_u32..6, kinds in prop::collection::vec(any::<bool>(), 1..15), crashes in any::<u64>()) {
        let retry = RetryPolicy { maximum_attempts: most, initial_interval: Duration::from_millis(5), ..RetryPolicy::default() };
        let world = World::new(ActivityOptions { retry: Some(retry), ..ActivityOptions::default() });
        let failing = Failure::retryable(Failure::CONNECTOR, "status 500");
        let (mut at, mut failed) = (0, 0);
        let (outcome, _, attempts, _) = world.run(|_| {
            let calls_nothing = kinds.get(at).copied().unwrap_or(false);
            at += 1;
            Err(match calls_nothing {
                true => failing.clone().without_a_call("upstream", None),
                false => {
                    failed += 1;
                    failing.clone()
                }
            })
        }, crashes);
        prop_assert_eq!(outcome, Err(failing.clone()));
        prop_assert_eq!(failed, most);
        prop_assert_eq!(attempts as usize, at);
    }
}

#[test]
fn a_history_of_before_says_of_no_attempt_that_it_did_not_count() {
    let mut world = World::new(ActivityOptions::default());
    let failure = Failure {
        details: Some(Json::parse(r#"{"reason":"upstream"}"#).expect("JSON")),
        ..Failure::retryable(Failure::CONNECTOR, "it is not called until later")
    };
    for attempt in 1..=2 {
        let (failure, retry_at) = (failure.clone(), BEGUN + u64::from(attempt));
        let (details, waited) = (None, Duration::ZERO);
        let record = Record::AttemptFailed { seq: 1, attempt, failure, retry_at, details, waited };
        world.history.push(encode(BEGUN, &record));
    }
    world.crash();
    assert_eq!(world.attempt().map(|(attempt, _)| attempt), Some(3));
    // The third of three.
    let outcome = Err(failure);
    let (details, waited, jitter) = (None, Duration::ZERO, 0.0);
    world.machine.receive(Input::Tick, BEGUN + 10);
    world
        .machine
        .receive(Input::AttemptEnded { seq: 1, attempt: 3, outcome, details, waited, jitter }, BEGUN + 10);
    assert!(matches!(world.machine.jobs(), [Job::ActivityResolved { outcome: Err(_), .. }]));
}

#[test]
fn a_guest_cannot_say_that_its_failures_do_not_count() {
    let forged = Failure {
        details: Some(Json::parse(r#"{"called":false,"counts":false}"#).expect("JSON")),
        ..Failure::retryable("Mine", "for ever")
    };
    let world = World::new(ActivityOptions::default());
    let (outcome, _, attempts, _) = world.run(|_| Err(forged.clone()), 0);
    assert_eq!((outcome, attempts), (Err(forged), 3));
}

#[test]
fn a_policy_that_waits_for_nothing_is_not_a_loop_without_a_pause() {
    for (backoff, most, at_least) in [(2.0, 10, 2_550), (1.0, 100, 970), (1.0, 3, 10), (1e300, 20, 100_000)] {
        let retry = RetryPolicy {
            initial_interval: Duration::ZERO,
            backoff_coefficient: backoff,
            maximum_attempts: most,
            ..RetryPolicy::default()
        };
        let world = World::new(ActivityOptions { retry: Some(retry), ..ActivityOptions::default() });
        let (mut at, failing) = (Vec::new(), Failure::retryable("Error", "no"));
        let (_, _, attempts, _) = world.run(
            |now| {
                at.push(now);
                Err(failing.clone())
            },
            0,
        );
        assert_eq!(attempts, most);
        assert_eq!(at[1] - at[0], 7, "the second is made at once");
        let passed = at[at.len() - 1] - at[0];
        assert!(passed >= at_least, "×{backoff}: {most} attempts in {passed} ms");
    }
}
