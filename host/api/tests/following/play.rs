//! Workflows and activities that do what their input says, and inputs at random.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use airlock_engine::{
    ActivityDefinition, ActivityOptions, Digest, Failure, Json, PluginDefinition, RetryPolicy,
    WorkflowDefinition,
    guests::{
        Activation, ActivityCall, ActivityError, ActivityHost, GuestError, Guests, PluginState, PluginStatus,
        WorkflowInit, WorkflowInstance,
    },
    history::{Command, Job, Outcome, ParentClose, StartChild, TaskEvent, TaskPhase},
};
use async_trait::async_trait;
use serde_json::{Value, json};

/// The same numbers each time.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A workflow that does what its input says: one stage after the other, all operations of a stage at once; then it fails
/// (`fails` times), continues as new (`again` times) or completes. Asked to stop, it takes a while (`cleanup`) if so said.
struct Play {
    plan: Value,
    attempt: u64,
    stage: usize,
    seq: u32,
    /// What the stage waits for; `true`: only for its start.
    waits: HashMap<u32, bool>,
    /// The timer after which it stops.
    stops: Option<u32>,
}

impl Play {
    fn next_seq(&mut self) -> u32 {
        self.seq += 1;
        self.seq
    }

    fn hear(&mut self, job: &Job, commands: &mut Vec<Command>) {
        match job {
            Job::ActivityResolved { seq, .. } | Job::ChildResolved { seq, .. } => {
                self.waits.remove(seq);
            }
            Job::TimerFired { seq } if self.stops == Some(*seq) => commands.push(Command::Cancelled),
            Job::TimerFired { seq } => {
                self.waits.remove(seq);
            }
            Job::ChildStarted { seq, .. } if self.waits.get(seq) == Some(&true) => {
                self.waits.remove(seq);
            }
            Job::CancelRequested { .. } if self.stops.is_none() => match self.plan["cleanup"].as_u64() {
                Some(ms) => {
                    let seq = self.next_seq();
                    self.stops = Some(seq);
                    commands.push(Command::StartTimer { seq, duration: Duration::from_millis(ms) });
                }
                None => commands.push(Command::Cancelled),
            },
            _ => {}
        }
    }

    fn begin(&mut self, operation: &Value) -> Command {
        let seq = self.next_seq();
        match operation["op"].as_str() {
            Some("activity") => {
                self.waits.insert(seq, false);
                let options = ActivityOptions::default();
                let (activity, input) = ("work".into(), operation["input"].clone().into());
                Command::ScheduleActivity { seq, activity, input, options }
            }
            Some("timer") => {
                self.waits.insert(seq, false);
                let ms = operation["ms"].as_u64().expect("a time");
                Command::StartTimer { seq, duration: Duration::from_millis(ms) }
            }
            Some("child") => {
                let start = operation["wait"] == "start";
                self.waits.insert(seq, start);
                let close = match operation["close"].as_str() {
                    Some("abandon") => ParentClose::Abandon,
                    Some("terminate") => ParentClose::Terminate,
                    _ => ParentClose::RequestCancel,
                };
                let child = StartChild {
                    workflow: "play".into(),
                    execution_id: operation["id"].as_str().map(Into::into),
                    input: operation["plan"].clone().into(),
                    close,
                    execution_timeout: None,
                    retry: None,
                    await_start: start,
                };
                Command::StartChild { seq, child: Box::new(child) }
            }
            _ => Command::EmitEvent { event: shown(seq) },
        }
    }
}

fn shown(number: u32) -> TaskEvent {
    let (id, payload) = (format!("t{number}"), Json::from(json!({ "n": number })));
    TaskEvent { id, task_type: "shown".into(), phase: TaskPhase::InProgress, payload }
}

#[async_trait]
impl WorkflowInstance for Play {
    async fn activate(&mut self, activation: Activation<'_>) -> Result<Vec<Command>, GuestError> {
        let mut commands = Vec::new();
        for job in activation.jobs {
            self.hear(job, &mut commands);
        }
        let is_over = |commands: &[Command]| matches!(commands.last(), Some(Command::Cancelled));
        while self.waits.is_empty() && self.stops.is_none() && !is_over(&commands) {
            let Some(stage) = self.plan["stages"].get(self.stage).cloned() else {
                let again = self.plan["again"].as_u64().unwrap_or(0);
                commands.push(if self.attempt <= self.plan["fails"].as_u64().unwrap_or(0) {
                    Command::Fail { failure: Failure::retryable("Unlucky", "not this time") }
                } else if again > 0 {
                    let mut input = self.plan.clone();
                    input["again"] = json!(again - 1);
                    Command::ContinueAsNew { workflow: None, input: input.into() }
                } else {
                    Command::Complete { result: Json::from(json!(self.stage)) }
                });
                break;
            };
            self.stage += 1;
            for operation in stage.as_array().into_iter().flatten() {
                commands.push(self.begin(operation));
            }
        }
        Ok(commands)
    }

    async fn query(&mut self, _: &str, _: &Json) -> Result<Outcome, GuestError> {
        Ok(Ok(Json::null()))
    }
}

pub struct Cast(Arc<PluginDefinition>);

#[async_trait]
impl Guests for Cast {
    fn plugins(&self) -> Vec<PluginStatus> {
        let state = PluginState::Ready { definition: Arc::clone(&self.0) };
        let (digest, loaded_at) = (Digest([1; 32]), SystemTime::UNIX_EPOCH);
        vec![PluginStatus { name: "cast".into(), digest, bytes: 1, loaded_at, state }]
    }

    fn serving(&self, workflow: &str) -> Option<Digest> {
        self.0.workflow(workflow).map(|_| Digest([1; 32]))
    }

    async fn definition(&self, _: &Digest) -> Result<Arc<PluginDefinition>, GuestError> {
        Ok(Arc::clone(&self.0))
    }

    async fn create(&self, _: &Digest, init: WorkflowInit) -> Result<Box<dyn WorkflowInstance>, GuestError> {
        let (plan, attempt) = (init.input.value(), u64::from(init.attempt));
        Ok(Box::new(Play { plan, attempt, stage: 0, seq: 0, waits: HashMap::new(), stops: None }))
    }

    async fn run_activity(
        &self,
        _: &Digest,
        call: ActivityCall,
        host: Arc<dyn ActivityHost>,
    ) -> Result<Json, ActivityError> {
        let input = call.input.value();
        for number in 0..input["shows"].as_u64().unwrap_or(0) {
            host.emit_event(shown(number as u32)).map_err(ActivityError::Failed)?;
        }
        match u64::from(call.attempt) <= input["fails"].as_u64().unwrap_or(0) {
            true => Err(ActivityError::Failed(Failure::retryable("Declined", "try again"))),
            false => Ok(call.input),
        }
    }

    fn retain(&self, _: &HashSet<Digest>) {}
}

pub fn cast() -> Cast {
    let retry = RetryPolicy {
        initial_interval: Duration::from_millis(2),
        maximum_attempts: 3,
        ..RetryPolicy::default()
    };
    let workflow = WorkflowDefinition {
        name: "play".into(),
        display_name: None,
        description: None,
        input_schema: json!({}).into(),
        output_schema: None,
        on_behalf_of: false,
        execution_timeout: None,
        slots: Vec::new(),
        signals: Vec::new(),
        queries: Vec::new(),
        updates: Vec::new(),
        retry: Some(retry.clone()),
        search_keys: Vec::new(),
    };
    let activity = ActivityDefinition {
        name: "work".into(),
        description: None,
        input_schema: json!({}).into(),
        output_schema: None,
        options: ActivityOptions { retry: Some(retry), ..ActivityOptions::default() },
        slots: Vec::new(),
    };
    Cast(Arc::new(PluginDefinition { workflows: vec![workflow], activities: vec![activity] }))
}

/// A plan at random. `room` is how many more runs there may be.
pub fn plan(random: &mut Random, depth: u32, room: &mut u64) -> Value {
    let mut stages = Vec::new();
    for _ in 0..=random.below(3) {
        let mut stage = Vec::new();
        for _ in 0..=random.below(4) {
            stage.push(match random.below(8) {
                0 | 1 => json!({ "op": "activity", "input": { "shows": random.below(4), "fails": random.below(2) } }),
                2 => json!({ "op": "timer", "ms": random.below(30) }),
                3 => json!({ "op": "emit" }),
                _ if depth > 0 && *room > 0 => {
                    *room -= 1;
                    let close = ["abandon", "terminate", "cancel", "cancel"][random.below(4) as usize];
                    let wait = ["start", "end", "end"][random.below(3) as usize];
                    let plan = plan(random, depth - 1, room);
                    json!({ "op": "child", "plan": plan, "close": close, "wait": wait })
                }
                _ => json!({ "op": "activity", "input": {} }),
            });
        }
        stages.push(Value::from(stage));
    }
    let mut plan = json!({ "stages": stages });
    if random.one_in(4) {
        plan["again"] = json!(1 + random.below(3));
    }
    if random.one_in(5) {
        plan["fails"] = json!(1 + random.below(3));
    }
    if random.one_in(3) {
        plan["cleanup"] = json!(random.below(40));
    }
    plan
}
