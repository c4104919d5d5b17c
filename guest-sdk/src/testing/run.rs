//! A workflow of a test through all its runs: what it asks for is answered at once.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    marker::PhantomData,
    rc::Rc,
};

use serde_json::Value;

use super::{
    Answer, FIRST_INPUT, Planned, START_MS, What, When, declarations,
    host::{Host, poll_to_end},
};
use crate::{
    Error, PluginDefinition, Result, RetryPolicy,
    activity::Call,
    host::stand_in::StandIn as _,
    plugin::{Plugin, no_activity},
    workflow::{
        Instance,
        declared::unresolved,
        protocol::{Command, Init, Job, Request, Turn},
    },
};

/// What all runs of a test share.
pub(super) struct World {
    pub(super) host: Rc<Host>,
    pub(super) activities: BTreeMap<String, Answer>,
    pub(super) children: BTreeMap<String, Answer>,
    pub(super) crashes: bool,
    pub(super) now_ms: Cell<u64>,
    pub(super) steps: RefCell<Vec<String>>,
    pub(super) updates: RefCell<Vec<Result<Value>>>,
}

impl World {
    fn step(&self, words: String) {
        self.steps.borrow_mut().push(words);
    }
}

/// Runs a workflow through all its runs.
pub(super) fn play<P: Plugin>(
    world: &Rc<World>,
    workflow: &str,
    mut input: String,
    mut planned: Vec<Planned>,
    retry: Option<&RetryPolicy>,
) -> (Result<String>, Instance) {
    let (mut run_number, mut attempt, mut operations) = (1, 1, 0);
    loop {
        let init = Init {
            workflow: workflow.to_owned(),
            execution_id: "test".to_owned(),
            run_id: format!("test-{run_number}"),
            input: input.clone(),
            seed: run_number,
            started_at_ms: world.now_ms.get(),
            parent: None,
            attempt,
        };
        let mut run = Running::<P> {
            world: Rc::clone(world),
            init,
            timers: BTreeMap::new(),
            ready: VecDeque::from([Job::Started]),
            journal: Vec::new(),
            operations,
            updates: 0,
            plugin: PhantomData,
        };
        let mut instance = Instance::new(run.init.clone(), P::start);
        let end = run.play(&mut instance, &mut planned);
        run.replay();
        operations = run.operations;
        run_number += 1;
        match end {
            End::ContinueAsNew(next) => {
                world.step("continue as new".to_owned());
                (input, attempt) = (next, 1);
            }
            End::Output(Err(error)) if may_retry(&error, attempt, retry) => {
                world.step("retry".to_owned());
                attempt += 1;
            }
            End::Output(output) => return (output, instance),
        }
        assert!(run_number < 10_000, "the workflow continues as new without end");
    }
}

fn may_retry(error: &Error, attempt: u32, policy: Option<&RetryPolicy>) -> bool {
    policy.is_some_and(|policy| {
        !error.is_non_retryable()
            && !policy.non_retryable.iter().any(|kind| kind == error.kind())
            && (policy.attempts == 0 || attempt < policy.attempts)
    })
}

enum End {
    Output(Result<String>),
    ContinueAsNew(String),
}

struct Running<P> {
    world: Rc<World>,
    init: Init,
    /// By the time at which they fire, then by number.
    timers: BTreeMap<(u64, u32), ()>,
    ready: VecDeque<Job>,
    journal: Vec<(Turn, Job, String)>,
    operations: usize,
    updates: usize,
    plugin: PhantomData<P>,
}

impl<P: Plugin> Running<P> {
    fn play(&mut self, instance: &mut Instance, planned: &mut Vec<Planned>) -> End {
        loop {
            if !self.journal.is_empty() {
                let ended = self.operations;
                let due = |planned: &Planned| matches!(planned.when, When::After(n) if n <= ended);
                while let Some(place) = planned.iter().position(due) {
                    let job = self.happen(planned.remove(place).what, instance);
                    self.ready.push_back(job);
                }
            }
            let job = self.ready.pop_front().or_else(|| self.next_in_time(planned, instance));
            let Some(job) = job else {
                panic!("the workflow waits for something that nothing can bring about")
            };
            self.operations += usize::from(matches!(job, Job::Resolved(..)));
            if self.world.crashes {
                *instance = self.rebuilt();
            }
            let mut turn =
                Turn { history_events: self.journal.len() as u64, ..self.world.now_ms.get().into() };
            let commands = instance.activate(turn.clone(), [job.clone()]);
            if let Some(error) = instance.shared.undeclared() {
                panic!("{error}");
            }
            turn.replaying = true;
            turn.patches = commands
                .iter()
                .filter_map(|command| match command {
                    Command::Patched(id) => Some(id.clone()),
                    _ => None,
                })
                .collect();
            self.journal.push((turn, job, format!("{commands:?}")));
            for command in commands {
                if let Some(end) = self.perform(command) {
                    return end;
                }
            }
        }
    }

    /// The earliest of timers and what was planned for a time.
    fn next_in_time(&mut self, planned: &mut Vec<Planned>, instance: &Instance) -> Option<Job> {
        let at = |planned: &Planned| match planned.when {
            When::At(time) => Some(START_MS + u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            When::After(_) => None,
        };
        let first = planned.iter().enumerate().filter_map(|(i, planned)| Some((at(planned)?, i))).min();
        let timer = self.timers.first_key_value().map(|(key, ())| *key);
        match (timer, first) {
            (Some((fires, _)), Some((at, place))) if at <= fires => {
                Some(self.at(at, planned.remove(place), instance))
            }
            (None, Some((at, place))) => Some(self.at(at, planned.remove(place), instance)),
            (Some((fires, seq)), _) => {
                self.timers.pop_first();
                self.world.now_ms.set(self.world.now_ms.get().max(fires));
                Some(Job::Resolved(seq, Ok(String::new())))
            }
            (None, None) => None,
        }
    }

    fn at(&mut self, time: u64, planned: Planned, instance: &Instance) -> Job {
        self.world.now_ms.set(self.world.now_ms.get().max(time));
        self.happen(planned.what, instance)
    }

    fn happen(&mut self, what: What, instance: &Instance) -> Job {
        match what {
            What::Cancel(reason) => Job::CancelRequested(reason),
            What::Signal(message) => Job::Signal(message),
            What::Update(mut message) => {
                if message.input.contains(FIRST_INPUT) {
                    let first = instance.query("__get_pending_inputs", "{}").ok();
                    let first: Option<Value> = first.and_then(|text| serde_json::from_str(&text).ok());
                    let id = first.as_ref().and_then(|it| it.pointer("/pending_inputs/0/task_id")?.as_str());
                    message.input = message.input.replace(FIRST_INPUT, id.unwrap_or("none is wanted"));
                }
                self.updates += 1;
                Job::Update(format!("update-{}", self.updates), message)
            }
        }
    }

    /// Does what the workflow asked for. Gives its end if it has ended.
    fn perform(&mut self, command: Command) -> Option<End> {
        let world = Rc::clone(&self.world);
        match command {
            Command::Begin(seq, Request::Timer { duration_ms }) => {
                world.step(format!("timer {duration_ms} ms"));
                self.timers.insert((world.now_ms.get().saturating_add(duration_ms), seq), ());
            }
            Command::Begin(seq, request) => {
                if let Request::Child(child) = &request
                    && child.await_start
                {
                    let id = child.execution_id.clone().unwrap_or_else(|| format!("test-child-{seq}"));
                    self.ready.push_back(Job::ChildStarted(seq, Ok(id)));
                }
                let outcome = self.answer(seq, request);
                self.ready.push_back(Job::Resolved(seq, outcome));
            }
            Command::Cancel(seq) => {
                self.timers.retain(|(_, timer), ()| *timer != seq);
                self.ready.retain(|job| !matches!(job, Job::Resolved(resolved, _) if *resolved == seq));
            }
            Command::Emit(event) => world.host.emit(event),
            Command::UpdateAccepted(_) => {}
            Command::UpdateRejected(_, error) => world.updates.borrow_mut().push(Err(error)),
            Command::UpdateCompleted(_, outcome) => {
                let outcome = outcome.and_then(|text| Ok(serde_json::from_str(&text)?));
                world.updates.borrow_mut().push(outcome);
            }
            Command::SearchKeys(keys) => {
                for (name, _) in keys.iter().filter(|(name, _)| !name.starts_with("internal.")) {
                    world.step(format!("search key {name}"));
                }
            }
            Command::Patched(id) => world.step(format!("patch {id}")),
            Command::ContinueAsNew(input) => return Some(End::ContinueAsNew(input)),
            Command::Complete(output) => {
                return Some(End::Output(Ok(output)));
            }
            Command::Fail(error) => return Some(End::Output(Err(error))),
            Command::Cancelled => return Some(End::Output(Err(Error::cancelled("by the test")))),
        }
        None
    }

    fn answer(&mut self, seq: u32, request: Request) -> Result<String> {
        let world = Rc::clone(&self.world);
        let PluginDefinition { workflows, activities } = P::definition();
        let this = workflows.iter().find(|known| known.name == self.init.workflow);
        let slots: Vec<&str> = this.map_or_else(Vec::new, |this| declarations::connectors(&this.slots));
        world.host.slots.replace(slots.clone());
        let answer = match request {
            Request::Activity { name, input, options } => {
                world.step(format!("activity {name}"));
                let Some(defined) = activities.into_iter().find(|activity| activity.name == name) else {
                    return Err(no_activity(name));
                };
                if let Some(missing) =
                    declarations::connectors(&defined.slots).into_iter().find(|slot| !slots.contains(slot))
                {
                    return Err(unresolved(missing));
                }
                let retry = options.retry.or(defined.options.retry).unwrap_or_default();
                return self.attempts(seq, name, &input, &retry);
            }
            Request::Tool(call) => {
                world.step(format!("tool {}/{}", call.slot, call.tool));
                world.host.call_tool(call)?
            }
            Request::ListTools(slot) => world.host.list_tools(slot)?,
            Request::AwaitAuth(slot) => world.host.await_auth(slot)?,
            Request::Child(child) => {
                world.step(format!("child {}", child.workflow));
                if let Some(answer) = world.children.get(&child.workflow) {
                    return answer(&child.input);
                } else {
                    let Some(known) = workflows.iter().find(|known| known.name == child.workflow) else {
                        return Err(Error::new(
                            Error::NOT_FOUND,
                            format!(
                                "the plugin has no workflow `{0}`: add .child({0:?}, |input| …)",
                                child.workflow
                            ),
                        )
                        .non_retryable());
                    };
                    if known.on_behalf_of && this.is_none_or(|this| !this.on_behalf_of) {
                        return Err(declarations::not_on_behalf(known.name));
                    }
                    let retry = child.retry.or_else(|| known.retry.clone());
                    return play::<P>(&world, &child.workflow, child.input, Vec::new(), retry.as_ref()).0;
                }
            }
            Request::Signal { execution_id, name, .. } => {
                world.step(format!("signal {execution_id}/{name}"));
                Value::Null
            }
            Request::CancelExecution { execution_id, .. } => {
                world.step(format!("cancel {execution_id}"));
                Value::Null
            }
            // It has no answer; it fires.
            Request::Timer { .. } => Value::Null,
        };
        Ok(answer.to_string())
    }

    fn attempts(&self, seq: u32, name: &str, input: &str, retry: &RetryPolicy) -> Result<String> {
        let mut attempt = 1;
        self.world.host.heartbeat.take();
        loop {
            let heartbeat_details = self.world.host.heartbeat.borrow().clone();
            let outcome = match self.world.activities.get(name) {
                Some(answer) => answer(input),
                None => poll_to_end(P::run_activity(Call {
                    activity: name.to_owned(),
                    input: input.to_owned(),
                    execution_id: self.init.execution_id.clone(),
                    workflow: self.init.workflow.clone(),
                    idempotency_key: format!("{}-{seq}", self.init.run_id),
                    attempt,
                    heartbeat_details,
                })),
            };
            match outcome {
                Err(error) if may_retry(&error, attempt, Some(retry)) => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    /// A fresh instance that has been told everything so far.
    fn rebuilt(&self) -> Instance {
        let mut instance = Instance::new(self.init.clone(), P::start);
        for (position, (turn, job, expected)) in self.journal.iter().enumerate() {
            let commands = format!("{:?}", instance.activate(turn.clone(), [job.clone()]));
            assert_eq!(
                &commands, expected,
                "the workflow is not deterministic: its replay differs from its run at activation {position}"
            );
        }
        instance
    }

    fn replay(&self) {
        drop(self.rebuilt());
    }
}
