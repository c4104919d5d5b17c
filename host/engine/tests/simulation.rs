//! Random executions against the machine: random programs, random news, crashes at any commit, virtual time.
//!
//! `SIMULATIONS` sets how many histories are tried, `SEED` repeats one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use airlock_engine::{
    ActivityDefinition, ActivityOptions, Digest, Failure, Json, OrganizationId, PluginDefinition, Principal,
    RetryPolicy, RunId, Slot, UserId, WorkflowDefinition, WorkspaceId,
    history::{Command, Job, Record, Seq, Started, TaskEvent, TaskPhase, decode, encode},
    machine::{Effect, Input, Machine, Operation},
    store::Status,
    tools::Binding,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// A workflow whose commands follow from its seed and from what it was told, and from nothing else.
struct Program {
    random: StdRng,
    seq: Seq,
    open: Vec<Seq>,
    budget: u32,
    ended: bool,
}

impl Program {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let budget = random.random_range(1..30);
        Self { random, seq: 0, open: Vec::new(), budget, ended: false }
    }

    fn activate(&mut self, jobs: &[Job]) -> Vec<Command> {
        let mut commands = Vec::new();
        let mut given_up = Vec::new();
        assert!(!self.ended, "an ended workflow is not told anything");
        for job in jobs {
            match job {
                Job::Started => {}
                Job::CancelRequested { .. } => {
                    if self.random.random_bool(0.7) {
                        commands.push(Command::Cancelled);
                        self.ended = true;
                        return commands;
                    }
                }
                Job::ActivityResolved { seq, .. }
                | Job::TimerFired { seq }
                | Job::ToolResolved { seq, .. }
                | Job::AuthResolved { seq, .. } => {
                    match self.open.iter().position(|open| open == seq) {
                        Some(place) => drop(self.open.remove(place)),
                        // A job before it in the same turn may have made the program give it up.
                        None => {
                            assert!(given_up.contains(seq), "operation {seq} ended twice or was cancelled")
                        }
                    }
                }
            }
            for _ in 0..self.random.random_range(0..3) {
                if self.budget == 0 {
                    break;
                }
                self.budget -= 1;
                let wish = self.wish();
                if let Command::Cancel { seq } = &wish {
                    given_up.push(*seq);
                }
                commands.push(wish);
            }
        }
        if self.open.is_empty() {
            self.ended = true;
            let failure = Failure::permanent("Error", "as the program says");
            commands.push(match self.random.random_bool(0.8) {
                true => Command::Complete { result: Json::null() },
                false => Command::Fail { failure },
            });
        }
        commands
    }

    fn wish(&mut self) -> Command {
        let kind = self.random.random_range(0..8);
        if kind == 0 && !self.open.is_empty() {
            let place = self.random.random_range(0..self.open.len());
            return Command::Cancel { seq: self.open.remove(place) };
        }
        if kind == 1 {
            return Command::EmitEvent { event: event() };
        }
        self.seq += self.random.random_range(1..3);
        let seq = self.seq;
        self.open.push(seq);
        match kind {
            2 => Command::StartTimer {
                seq,
                duration: Duration::from_millis(self.random.random_range(0..5_000)),
            },
            3 => Command::CallTool { seq, slot: "s".into(), tool: "t".into(), arguments: Json::null() },
            4 => Command::ListTools { seq, slot: "s".into() },
            5 => Command::AwaitAuth { seq, slot: "s".into() },
            _ => Command::ScheduleActivity {
                seq,
                activity: "a".into(),
                input: Json::from(serde_json::json!(seq)),
                options: ActivityOptions::default(),
            },
        }
    }
}

fn event() -> TaskEvent {
    TaskEvent { id: "e".into(), task_type: "t".into(), phase: TaskPhase::Started, payload: Json::null() }
}

fn definition(slots: bool) -> Arc<PluginDefinition> {
    let slot = Slot { connector: "s".into(), auto_auth: true, credentials_name: None };
    let any = || Json::parse("{}").expect("JSON");
    Arc::new(PluginDefinition {
        workflows: vec![WorkflowDefinition {
            name: "w".into(),
            display_name: None,
            description: None,
            input_schema: any(),
            output_schema: None,
            on_behalf_of: true,
            execution_timeout: None,
            slots: if slots { vec![slot] } else { Vec::new() },
        }],
        activities: vec![ActivityDefinition {
            name: "a".into(),
            description: None,
            input_schema: any(),
            output_schema: None,
            options: ActivityOptions {
                retry: Some(RetryPolicy { maximum_attempts: 4, ..RetryPolicy::default() }),
                ..ActivityOptions::default()
            },
            slots: Vec::new(),
        }],
    })
}

/// One execution and the world around it.
struct World {
    seed: u64,
    random: StdRng,
    now: u64,
    definition: Arc<PluginDefinition>,
    machine: Machine,
    program: Program,
    /// The durable history, in its binary form.
    history: Vec<Vec<u8>>,
    running: BTreeMap<Seq, Effect>,
    timers: BTreeMap<Seq, u64>,
    crashes: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
        let definition = definition(random.random_bool(0.5));
        let started = Started {
            run_id: RunId::generate(),
            workflow: "w".into(),
            digest: Digest([0; 32]),
            input: Json::null(),
            principal: Principal {
                user: UserId::new("u"),
                workspace: WorkspaceId::new("w"),
                organization: OrganizationId::new("o"),
            },
            wishes: Vec::new(),
            seed,
            execution_timeout: Duration::from_secs(random.random_range(5..7_200)),
        };
        let machine = Machine::start(Arc::clone(&definition), started, 1_000);
        Self {
            seed,
            random,
            now: 1_000,
            definition,
            machine,
            program: Program::new(seed),
            history: Vec::new(),
            running: BTreeMap::new(),
            timers: BTreeMap::new(),
            crashes: 0,
        }
    }

    /// One turn as the driver does it, with a crash now and then.
    fn turn(&mut self) {
        if !self.machine.jobs().is_empty() {
            let jobs = self.machine.jobs().to_vec();
            for job in &jobs {
                if let Job::TimerFired { seq } = job {
                    let due = self.timers[seq];
                    assert!(self.now >= due, "timer {seq} fired {} ms early", due - self.now);
                }
            }
            let commands = self.program.activate(&jobs);
            self.machine.commands(commands).expect("the program keeps the rules");
        }
        let records = self.machine.take_records();
        let effects = self.machine.take_effects();
        // The process may die before the commit (a start that was never recorded has no execution to lose).
        if !self.history.is_empty() && !records.is_empty() && self.random.random_bool(0.1) {
            return self.crash();
        }
        for record in records {
            self.history.push(encode(self.now, &record));
        }
        if self.random.random_bool(0.1) {
            return self.crash();
        }
        self.carry_out(effects);
        self.note_timers();
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Preflight => drop(self.running.insert(0, effect)),
                Effect::RunActivity { seq, .. } | Effect::CallTool { seq } | Effect::AwaitAuth { seq } => {
                    let before = self.running.insert(seq, effect);
                    assert_eq!(before, None, "operation {seq} runs twice at once");
                }
                Effect::Stop { seq } => drop(self.running.remove(&seq)),
                Effect::Finish => self.running.clear(),
            }
        }
    }

    fn note_timers(&mut self) {
        for seq in 0..=self.program.seq {
            if let Some(Operation::Timer { at }) = self.machine.operation(seq) {
                self.timers.insert(seq, *at);
            }
        }
    }

    /// Everything in memory is lost; the history is read back and repeated.
    fn crash(&mut self) {
        self.crashes += 1;
        self.running.clear();
        let mut records = self.history.iter().map(|row| decode(row).expect("decodes"));
        let Some((at, Record::Started(started))) = records.next() else { panic!("no start") };
        let mut machine = Machine::read(Arc::clone(&self.definition), *started, at);
        let mut program = Program::new(self.seed);
        let mut begun = false;
        for (at, record) in records {
            // A workflow that was cancelled in its preflight has run no code.
            begun |= matches!(&record, Record::Activation { jobs, .. } if jobs.contains(&Job::Started));
            if let Record::Activation { jobs, commands } = &record
                && begun
            {
                assert_eq!(&program.activate(jobs), commands, "a replay equals the first run");
            }
            machine.replay(at, &record).expect("the history makes sense");
        }
        machine.resume();
        self.machine = machine;
        self.program = program;
        self.note_timers();
        self.machine.receive(Input::Tick, self.now);
        let effects = self.machine.take_effects();
        self.carry_out(effects);
    }

    /// Something happens.
    fn news(&mut self) {
        self.now += self.random.random_range(0..50);
        let now = self.now;
        let pick = self.random.random_range(0..100);
        match pick {
            0 => self.machine.receive(Input::Cancel("stop".into()), now),
            1 if self.random.random_bool(0.1) => self.machine.receive(Input::Terminate("now".into()), now),
            2 => self.machine.receive(Input::Emit(event()), now),
            // An answer of an attempt that is not the current one changes nothing.
            3 => self.machine.receive(
                Input::AttemptEnded { seq: 1, attempt: 99, outcome: Ok(Json::null()), jitter: 0.0 },
                now,
            ),
            _ if pick < 60 && !self.running.is_empty() => {
                let place = self.random.random_range(0..self.running.len());
                let seq = *self.running.keys().nth(place).expect("in range");
                let effect = self.running.remove(&seq).expect("is there");
                let outcome = match self.random.random_range(0..4) {
                    0 => Err(Failure::retryable("Error", "again")),
                    1 if self.random.random_bool(0.3) => Err(Failure::permanent("Error", "never")),
                    _ => Ok(Json::from(serde_json::json!({ "seq": seq }))),
                };
                let input = match effect {
                    Effect::Preflight => Input::Bound(outcome.map(|_| {
                        vec![Binding {
                            slot: "s".into(),
                            auto_auth: true,
                            connector_name: "s".into(),
                            connector_id: "1".into(),
                            credentials_name: None,
                        }]
                    })),
                    Effect::RunActivity { attempt, .. } => {
                        Input::AttemptEnded { seq, attempt, outcome, jitter: self.random.random() }
                    }
                    Effect::CallTool { .. } => Input::ToolEnded { seq, outcome },
                    _ => Input::AuthEnded { seq, outcome },
                };
                self.machine.receive(input, now);
            }
            _ => {
                if self.running.is_empty() {
                    // Nobody works on it, so it must know when something happens by itself.
                    let next = self.machine.next_time().expect("an open execution waits for a time");
                    self.now = self.now.max(next);
                }
                self.machine.receive(Input::Tick, self.now);
            }
        }
    }

    fn run(mut self) -> (Status, u32) {
        self.turn();
        let mut steps = 0;
        while !self.machine.ended() {
            self.news();
            self.turn();
            steps += 1;
            assert!(steps < 20_000, "the execution is stuck");
        }
        (self.machine.status(), self.crashes)
    }
}

#[test]
fn random_executions_with_crashes_end_with_each_step_recorded_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATIONS").unwrap_or(200_000),
    };
    let mut ends: BTreeMap<&str, u32> = BTreeMap::new();
    let mut crashes = 0;
    for seed in seeds.clone() {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        let (status, crashed) = run.unwrap_or_else(|_| panic!("repeat this with SEED={seed}"));
        *ends.entry(status.as_str()).or_default() += 1;
        crashes += crashed;
    }
    println!("{} histories, {crashes} crashes, ends: {ends:?}", seeds.end - seeds.start);
    if seeds.end - seeds.start > 1_000 {
        assert_eq!(ends.len(), 5, "every way to end is met: {ends:?}");
    }
}
