//! Random executions against the machine: random programs, random news, crashes at any commit, virtual time.
//!
//! `SIMULATIONS` sets how many histories are tried, `SEED` repeats one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use airlock_engine::{
    ActivityDefinition, ActivityOptions, Digest, Failure, Json, OrganizationId, PluginDefinition, Principal,
    RetryPolicy, RunId, Slot, UserId, WorkflowDefinition, WorkspaceId,
    history::{
        Command, Continuation, Job, Message, ParentClose, Record, SearchValue, Seq, StartChild, Started,
        TaskEvent, TaskPhase, decode, encode,
    },
    machine::{
        BLOCKED_KEY, EXECUTION_STATE_KEY, Effect, Input, Machine, Operation, PAUSED_KEY, ends::Closing,
    },
    store::Status,
    tools::{Binding, CallOptions, Mocks},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// A workflow whose commands follow from its seed and from what it was told, and from nothing else.
struct Program {
    random: StdRng,
    seq: Seq,
    open: Vec<Seq>,
    /// Children that were started with `await_start` and have not begun.
    unborn: Vec<Seq>,
    /// Updates that were accepted and not answered.
    accepted: Vec<String>,
    /// What it was told, in order: signals by id.
    heard: Vec<String>,
    budget: u32,
    ended: bool,
}

impl Program {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let budget = random.random_range(1..30);
        Self {
            random,
            seq: 0,
            open: Vec::new(),
            unborn: Vec::new(),
            accepted: Vec::new(),
            heard: Vec::new(),
            budget,
            ended: false,
        }
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
                Job::Signal { id, .. } => self.heard.extend(id.clone()),
                Job::Update { id, .. } => {
                    self.heard.push(id.clone());
                    if self.random.random_bool(0.3) {
                        let failure = Failure::permanent("Refused", "as the program says");
                        commands.push(Command::UpdateRejected { id: id.clone(), failure });
                    } else {
                        commands.push(Command::UpdateAccepted { id: id.clone() });
                        self.accepted.push(id.clone());
                    }
                }
                Job::ChildStarted { seq, outcome: Ok(_) } => {
                    match self.unborn.iter().position(|unborn| unborn == seq) {
                        Some(place) => drop(self.unborn.remove(place)),
                        None => assert!(given_up.contains(seq), "child {seq} begins twice"),
                    }
                }
                Job::ActivityResolved { seq, .. }
                | Job::TimerFired { seq }
                | Job::ToolResolved { seq, .. }
                | Job::AuthResolved { seq, .. }
                | Job::ChildStarted { seq, .. }
                | Job::ChildResolved { seq, .. }
                | Job::ExternalResolved { seq, .. } => {
                    if let Some(place) = self.unborn.iter().position(|unborn| unborn == seq) {
                        assert!(matches!(job, Job::ChildStarted { .. }), "child {seq} ends before it begins");
                        self.unborn.remove(place);
                    }
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
        while !self.accepted.is_empty() && self.random.random_bool(0.5) {
            let id = self.accepted.remove(0);
            commands.push(Command::UpdateCompleted { id, outcome: Ok(Json::null()) });
        }
        // Some end while much is under way.
        if self.open.is_empty() || self.random.random_bool(0.02) {
            self.ended = true;
            let failure = Failure::retryable("Error", "as the program says");
            commands.push(match self.random.random_range(0..10) {
                0 => Command::ContinueAsNew { workflow: None, input: Json::null() },
                1..3 => Command::Fail { failure },
                _ => Command::Complete { result: Json::null() },
            });
        }
        commands
    }

    fn wish(&mut self) -> Command {
        let kind = self.random.random_range(0..13);
        if kind == 0 && !self.open.is_empty() {
            let place = self.random.random_range(0..self.open.len());
            let seq = self.open.remove(place);
            self.unborn.retain(|unborn| *unborn != seq);
            return Command::Cancel { seq };
        }
        match kind {
            1 => return Command::EmitEvent { event: event() },
            8 => {
                let value = match self.random.random_range(0..3) {
                    0 => SearchValue::Removed,
                    1 => SearchValue::Null,
                    _ => SearchValue::Text("v".into()),
                };
                let name = match self.random.random_range(0..30) {
                    0..5 => EXECUTION_STATE_KEY.to_owned(),
                    n => format!("k{n}"),
                };
                return Command::UpsertSearchKeys { keys: vec![(name, value)] };
            }
            9 => return Command::Patched { id: "p".into() },
            _ => {}
        }
        self.seq += self.random.random_range(1..3);
        let seq = self.seq;
        self.open.push(seq);
        match kind {
            2 => Command::StartTimer {
                seq,
                duration: Duration::from_millis(self.random.random_range(0..5_000)),
            },
            3 => Command::CallTool {
                seq,
                slot: "s".into(),
                tool: "t".into(),
                arguments: Json::null(),
                options: CallOptions::default(),
            },
            4 => Command::ListTools { seq, slot: "s".into() },
            5 => Command::AwaitAuth { seq, slot: "s".into() },
            10 => {
                let await_start = self.random.random_bool(0.5);
                if await_start {
                    self.unborn.push(seq);
                }
                let close = [ParentClose::Terminate, ParentClose::RequestCancel, ParentClose::Abandon]
                    [self.random.random_range(0..3)];
                let child = StartChild {
                    workflow: "w".into(),
                    execution_id: None,
                    input: Json::null(),
                    close,
                    execution_timeout: None,
                    retry: None,
                    await_start,
                };
                Command::StartChild { seq, child: Box::new(child) }
            }
            11 => Command::SignalExternal {
                seq,
                execution_id: "other".into(),
                name: "s".into(),
                input: Json::null(),
            },
            12 => Command::CancelExternal { seq, execution_id: "other".into(), reason: "r".into() },
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
            options: ActivityOptions {
                retry: Some(RetryPolicy { maximum_attempts: 4, ..RetryPolicy::default() }),
                ..ActivityOptions::default()
            },
            slots: Vec::new(),
        }],
    })
}

const RUN: RunId = RunId(uuid::Uuid::from_u128(7));

/// What can happen in a phase.
fn words_of(phase: &str) -> impl Iterator<Item = &'static str> {
    let always = [
        "cancel",
        "terminate",
        "emit",
        "stale attempt",
        "signal",
        "update",
        "pause",
        "resume",
        "unblock",
        "upgrade",
        "tick",
    ];
    let begun: &[&str] = match phase {
        "binding" => &["bound"],
        "running" | "paused" | "blocked" => &[
            "trapped",
            "diverged",
            "heartbeat",
            "attempt ended",
            "tool ended",
            "told",
            "auth ended",
            "child started",
            "child refused",
            "child ended",
        ],
        _ => &[],
    };
    always.into_iter().chain(begun.iter().copied())
}

/// A child as the world sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Child {
    close: ParentClose,
    begun: bool,
    /// It ended, or could not begin, and the run has heard of it.
    over: bool,
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
    /// Those of them that wait for a place and have not begun.
    in_line: BTreeSet<Seq>,
    /// Children that were asked for with each policy, and what the world did to them.
    children: BTreeMap<Seq, Child>,
    timers: BTreeMap<Seq, u64>,
    crashes: u32,
    /// Signals and updates that the machine has durably taken, in order.
    sent: Vec<String>,
    /// The same for those of the turn under way.
    sending: Vec<String>,
    /// The execution was resumed, so that what runs may be asked for again.
    may_repeat: bool,
    /// Search keys that say in which state the run is.
    shown: Vec<String>,
    /// What happened in which phase.
    seen: BTreeMap<(&'static str, &'static str), u64>,
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
            mocks: Mocks::None,
            seed,
            execution_timeout: Duration::from_secs(random.random_range(5..7_200)),
            first_started_at: 1_000,
            not_before: if random.random_bool(0.2) { random.random_range(1_000..9_000) } else { 1_000 },
            retry: random.random_bool(0.3).then(RetryPolicy::default),
            attempt: random.random_range(1..4),
            parent: None,
            continued_from: None,
            search_keys: vec![("k1".into(), None)],
        };
        let machine = Machine::start(Arc::clone(&definition), RUN, started, 1_000);
        Self {
            seed,
            random,
            now: 1_000,
            definition,
            machine,
            program: Program::new(seed),
            history: Vec::new(),
            running: BTreeMap::new(),
            in_line: BTreeSet::new(),
            children: BTreeMap::new(),
            timers: BTreeMap::new(),
            crashes: 0,
            sent: Vec::new(),
            sending: Vec::new(),
            may_repeat: false,
            shown: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    fn tell(&mut self, word: &'static str, input: Input, now: u64) {
        *self.seen.entry((self.machine.phase(), word)).or_default() += 1;
        let id = match &input {
            Input::Signal { id: Some(id), .. } | Input::Update { id, .. } => Some(id.clone()),
            _ => None,
        };
        let taken = self.machine.receive(input, now);
        if let Some(id) = id.filter(|id| taken && !self.sent.contains(id) && !self.sending.contains(id)) {
            self.sending.push(id);
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
            for command in &commands {
                if let Command::StartChild { seq, child } = command {
                    self.children.insert(*seq, Child { close: child.close, begun: false, over: false });
                }
            }
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
        self.show();
        self.sent.append(&mut self.sending);
        if self.random.random_bool(0.1) {
            return self.crash();
        }
        self.carry_out(effects);
        self.note_timers();
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let rests = self.machine.paused().is_some() || self.machine.blocked().is_some();
        for effect in effects {
            if let Some(seq) = effect.begins() {
                assert!(!self.machine.ended() || effect.outlives(), "{effect:?} begins after the end");
                assert!(!rests || effect.outlives(), "{effect:?} begins while the run rests");
                let before = self.running.insert(seq, effect);
                // What goes on after a pause is asked for again, and what outlives the run at its end; the driver knows what runs.
                let again = self.may_repeat || self.machine.ended();
                assert!(before.is_none() || again, "operation {seq} runs twice at once");
                // Some wait for a place, or for their task to run.
                if before.is_none() && self.random.random_bool(0.3) {
                    self.in_line.insert(seq);
                } else if before.is_none() {
                    self.begins(seq);
                }
                continue;
            }
            match effect {
                Effect::Stop { seq } => self.stop(seq),
                Effect::CancelChild { seq, .. } => {
                    let close = self.children[&seq].close;
                    assert_ne!(close, ParentClose::Abandon, "child {seq} was to be abandoned");
                    self.stop(seq);
                }
                Effect::Hold => {
                    let held = self.in_line.iter().copied().filter(|seq| !self.running[seq].outlives());
                    let held: Vec<Seq> = held.collect();
                    held.into_iter().for_each(|seq| self.stop(seq));
                }
                // It comes first, so that nothing begins before what ran is told to stop.
                Effect::Finish => {
                    self.running.retain(|_, effect| effect.outlives());
                    self.in_line.retain(|seq| self.running.contains_key(seq));
                }
                other => panic!("{other:?} begins nothing"),
            }
        }
    }

    fn stop(&mut self, seq: Seq) {
        self.running.remove(&seq);
        self.in_line.remove(&seq);
    }

    /// It has its place.
    fn begins(&mut self, seq: Seq) {
        self.in_line.remove(&seq);
        if let Some(child) = self.children.get_mut(&seq) {
            child.begun = true;
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
        self.in_line.clear();
        self.sending.clear();
        let mut records = self.history.iter().map(|row| decode(row).expect("decodes"));
        let Some((at, Record::Started(started))) = records.next() else { panic!("no start") };
        let digest = started.digest;
        let mut machine = Machine::read(Arc::clone(&self.definition), digest, RUN, *started, at);
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
        // Where it stood before the crash, if that was after a commit, it stands again.
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
        let number = self.random.random_range(0..6);
        let message = Message { name: "m".into(), input: Json::null(), sender: "u".into() };
        match pick {
            0 => self.tell("cancel", Input::Cancel("stop".into()), now),
            1 if self.random.random_bool(0.1) => self.tell("terminate", Input::Terminate("now".into()), now),
            2 => self.tell("emit", Input::Emit(event()), now),
            // An answer of an attempt that is not the current one changes nothing.
            3 => self.tell(
                "stale attempt",
                Input::AttemptEnded {
                    seq: 1,
                    attempt: 99,
                    outcome: Ok(Json::null()),
                    details: None,
                    waited: Duration::ZERO,
                    jitter: 0.0,
                },
                now,
            ),
            4..8 => self.tell("signal", Input::Signal { id: Some(format!("signal-{number}")), message }, now),
            8..11 => self.tell("update", Input::Update { id: format!("update-{number}"), message }, now),
            11..13 => self.tell("pause", Input::Pause("rest".into()), now),
            13..16 => {
                self.may_repeat = true;
                self.tell("resume", Input::Resume, now);
            }
            16 if self.machine.activated() && self.random.random_bool(0.3) => {
                self.tell("diverged", Input::Diverged("difference".into()), now);
            }
            17 => {
                self.may_repeat = true;
                self.tell("unblock", Input::Unblock, now);
            }
            18 if self.random.random_bool(0.05) => {
                self.tell("trapped", Input::Trapped(Failure::permanent("Trap", "trap")), now);
            }
            19 => self.tell("upgrade", Input::Upgrade(Digest([0; 32])), now),
            20..23 => {
                let running = self.running.iter().find_map(|(&seq, effect)| match effect {
                    Effect::RunActivity { attempt, .. } => Some((seq, *attempt)),
                    _ => None,
                });
                if let Some((seq, attempt)) = running {
                    self.tell("heartbeat", Input::Heartbeat { seq, attempt, details: Json::null() }, now);
                }
            }
            _ if pick < 60 && !self.running.is_empty() => {
                let place = self.random.random_range(0..self.running.len());
                let seq = *self.running.keys().nth(place).expect("in range");
                if self.in_line.contains(&seq) {
                    return self.begins(seq);
                }
                let effect = self.running.remove(&seq).expect("is there");
                let outcome = match self.random.random_range(0..4) {
                    0 => Err(Failure::retryable("Error", "again")),
                    1 if self.random.random_bool(0.3) => Err(Failure::permanent("Error", "never")),
                    _ => Ok(Json::from(serde_json::json!({ "seq": seq }))),
                };
                let (word, input) = match effect {
                    Effect::Preflight => (
                        "bound",
                        Input::Bound(outcome.map(|_| {
                            vec![Binding {
                                slot: "s".into(),
                                auto_auth: true,
                                connector_name: "s".into(),
                                connector_id: "1".into(),
                                credentials_name: None,
                                chosen: false,
                                mock: false,
                            }]
                        })),
                    ),
                    Effect::RunActivity { attempt, .. } => {
                        let details = self.random.random_bool(0.3).then(Json::null);
                        let waited = Duration::from_millis(self.random.random_range(0..900));
                        let jitter = self.random.random();
                        let ended = Input::AttemptEnded { seq, attempt, outcome, details, waited, jitter };
                        ("attempt ended", ended)
                    }
                    Effect::CallTool { .. } => ("tool ended", Input::ToolEnded { seq, outcome }),
                    Effect::Tell { .. } => ("told", Input::Told { seq, outcome }),
                    start @ Effect::StartChild { .. } => match self.random.random_range(0..3) {
                        0 => ("child started", {
                            // It goes on, and ends later.
                            self.running.insert(seq, start);
                            Input::ChildStarted { seq }
                        }),
                        1 if outcome.is_err() => {
                            self.children.entry(seq).and_modify(|child| child.over = true);
                            let failure = Failure::permanent("NotFound", "no such workflow");
                            ("child refused", Input::ChildRefused { seq, failure })
                        }
                        _ => ("child ended", Input::ChildEnded { seq, outcome }),
                    },
                    _ => ("auth ended", Input::AuthEnded { seq, outcome }),
                };
                self.tell(word, input, now);
            }
            _ => {
                if self.running.is_empty() {
                    // Nobody works on it, so it must know when something happens by itself.
                    match self.machine.next_time() {
                        Some(next) => self.now = self.now.max(next),
                        None => {
                            assert_eq!(self.machine.phase(), "blocked", "an open execution waits for a time");
                            self.may_repeat = true;
                            self.tell("unblock", Input::Unblock, self.now);
                        }
                    }
                }
                self.tell("tick", Input::Tick, self.now);
            }
        }
    }

    /// The run has ended, whatever was under way: against what this test knows of the parent-close policies and of retries.
    fn check_the_end(&mut self) {
        let effects = self.machine.take_effects();
        self.carry_out(effects);
        assert!(self.running.values().all(Effect::outlives), "{:?} is under way after the end", self.running);
        let in_line: Vec<Seq> = self.in_line.iter().copied().collect();
        in_line.into_iter().for_each(|seq| self.begins(seq));
        for (seq, child) in &self.children {
            // Crashes hide from this test what began before them, and a next process asks only for what is pending.
            let heir = child.close == ParentClose::Abandon && !child.over && self.crashes == 0;
            assert!(!heir || child.begun, "child {seq} was to begin without its parent: {child:?}");
        }
        assert_eq!(self.machine.operations().count(), 0);
        self.show();
        assert!(self.shown.is_empty(), "an ended run is found under {:?}", self.shown);
        let status = self.machine.status();
        let asked = self.machine.cancel_requested();
        match self.machine.next() {
            Some(next) if next.reason == Continuation::Retry => {
                assert_eq!((status, asked), (Status::Failed, false), "it was asked to stop and tries again");
            }
            Some(next) => {
                assert_eq!(next.cancel.is_some(), asked, "the next run hears of what this one was asked");
                assert_eq!(self.machine.closing(), Closing::Left);
            }
            None => assert_eq!(self.machine.closing(), Closing::Execution),
        }
    }

    /// Search keys as the store has them.
    fn show(&mut self) {
        let state = [BLOCKED_KEY, PAUSED_KEY, EXECUTION_STATE_KEY];
        for (name, value) in self.machine.take_search_keys() {
            self.shown.retain(|shown| *shown != name);
            if state.contains(&name.as_str()) && value != SearchValue::Removed {
                self.shown.push(name);
            }
        }
    }

    fn run(mut self) -> (Status, u32, BTreeMap<(&'static str, &'static str), u64>) {
        self.turn();
        let mut steps = 0;
        while !self.machine.ended() {
            self.news();
            self.turn();
            steps += 1;
            assert!(steps < 20_000, "the execution is stuck");
        }
        self.check_the_end();
        // It may have ended while it was read back after a crash.
        for record in self.machine.take_records() {
            self.history.push(encode(self.now, &record));
        }
        // Whatever was durably taken was told, once and in its order, unless the execution ended first.
        let told = self.program.heard.iter();
        let mut expected = self.sent.iter();
        for id in told {
            assert!(
                expected.any(|sent| sent == id),
                "{id} was told out of order, twice or without being sent"
            );
        }
        let by_itself = matches!(self.machine.status(), Status::Completed | Status::ContinuedAsNew);
        if by_itself {
            assert_eq!(self.program.heard, self.sent, "nothing that was sent is lost");
        }
        let records = self.history.iter().map(|row| decode(row).expect("decodes").1);
        let mut size = airlock_engine::history::HistorySize::default();
        records.for_each(|record| size.add(&record));
        assert_eq!(self.machine.size(), size, "the size is the same however often it was read back");
        (self.machine.status(), self.crashes, self.seen)
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
    let mut seen: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for seed in seeds.clone() {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        let (status, crashed, transitions) = run.unwrap_or_else(|_| panic!("repeat this with SEED={seed}"));
        *ends.entry(status.as_str()).or_default() += 1;
        crashes += crashed;
        for (transition, count) in transitions {
            *seen.entry(transition).or_default() += count;
        }
    }
    println!("{} histories, {crashes} crashes, ends: {ends:?}", seeds.end - seeds.start);
    if seeds.end - seeds.start > 1_000 {
        assert_eq!(ends.len(), 6, "every way to end is met: {ends:?}");
        let mut missing = Vec::new();
        for phase in ["delayed", "binding", "running", "paused", "blocked"] {
            for word in words_of(phase) {
                if !seen.contains_key(&(phase, word)) {
                    missing.push((phase, word));
                }
            }
        }
        println!("transitions taken: {seen:#?}");
        assert!(missing.is_empty(), "transitions that were never taken: {missing:?}");
    }
}

#[test]
fn a_history_ends_at_its_limit_with_a_failure_that_says_what_to_do() {
    use airlock_engine::history::HistorySize;
    let mut world = World::new(1);
    world.machine.take_effects();
    world.history.extend(world.machine.take_records().iter().map(|record| encode(world.now, record)));
    for _ in 0..HistorySize::LIMIT.events {
        assert!(world.machine.receive(Input::Emit(event()), world.now), "it ended too early");
        let records = world.machine.take_records();
        world.history.extend(records.iter().map(|record| encode(world.now, record)));
        if world.machine.ended() {
            break;
        }
    }
    assert_eq!(world.machine.status(), Status::Failed);
    let failure = world.machine.failure().expect("a failure");
    assert_eq!(failure.kind, Failure::HISTORY_LIMIT);
    assert!(failure.message.contains("continue as new"), "{}", failure.message);
    assert!(world.history.len() as u64 <= HistorySize::LIMIT.events + 1);
    // It reads back as it was.
    let mut records = world.history.iter().map(|row| decode(row).expect("decodes"));
    let Some((at, Record::Started(started))) = records.next() else { panic!("no start") };
    let digest = started.digest;
    let mut machine = Machine::read(Arc::clone(&world.definition), digest, RUN, *started, at);
    records.for_each(|(at, record)| machine.replay(at, &record).expect("the history makes sense"));
    assert_eq!(machine.status(), Status::Failed);
}
