//! Runs a plugin's workflows in its own tests: natively, without a daemon, in no time.
//!
//! ```
//! use airlock_sdk as airlock;
//! use airlock::testing::Test;
//! use serde_json::json;
//!
//! airlock::connector!(Github = "github_app");
//!
//! #[airlock::activity]
//! async fn star(repository: String, github: airlock::Tools<Github>) -> airlock::Result<()> {
//!     github.call("star", json!({"repository": repository})).await?;
//!     Ok(())
//! }
//!
//! #[airlock::workflow(connectors(Github))]
//! async fn fan(ctx: airlock::Workflow, repository: String) -> airlock::Result<String> {
//!     ctx.sleep(std::time::Duration::from_secs(3600)).await?;
//!     ctx.activity(star, repository.clone()).await?;
//!     Ok(repository)
//! }
//!
//! airlock::plugin!(workflows: [fan], activities: [star]);
//!
//! # fn main() {
//! let ended = Test::of(AirlockPlugin)
//!     .tool::<Github>("star", |_| Ok(json!({"content": [], "metadata": {}})))
//!     .run("fan", json!({"repository": "a/b"}));
//! assert_eq!(ended.output.unwrap(), json!({"result": "a/b"}));
//! assert_eq!(ended.steps, ["timer 3600000 ms", "activity star"]);
//! # }
//! ```

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    fmt,
    future::Future,
    marker::PhantomData,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    Activity, CallOptions, Error, HandlerDefinition, PluginDefinition, Query, Result, RetryPolicy, Signal,
    Slot, TaskEvent, Update, WorkflowDefinition,
    activity::Call,
    host::stand_in::{self, StandIn},
    plugin::{Plugin, no_activity},
    schema,
    tools::ToolRequest,
    workflow::{
        Instance,
        declared::{Kind, unresolved},
        protocol::{Command, Init, Job, Message, Request, Turn},
    },
};

mod declarations;
mod history;

type Tool = Box<dyn Fn(Value, &CallOptions) -> Result<Value>>;

/// From JSON text to JSON text: numbers beyond 64 bits do not survive as values.
type Answer = Rc<dyn Fn(&str) -> Result<String>>;

/// A host for tests. Activities run one after the other and are retried at once; timers fire as soon as nothing else
/// can happen, and only the workflow's clock moves. Children that are workflows of the plugin run as well.
pub struct Test<P> {
    host: Host,
    activities: BTreeMap<String, Answer>,
    children: BTreeMap<String, Answer>,
    planned: Vec<Planned>,
    crashes: bool,
    plugin: PhantomData<P>,
}

/// Something that happens from outside.
struct Planned {
    when: When,
    what: What,
}

enum When {
    /// So many operations have ended.
    After(usize),
    /// So much of the workflow's time has passed.
    At(Duration),
}

#[derive(Clone)]
enum What {
    Cancel(String),
    Signal(Message),
    Update(Message),
}

impl What {
    /// Why the daemon does not let the workflow hear of it.
    fn refused(&self, workflow: &WorkflowDefinition) -> Option<Error> {
        let names =
            |handlers: &[HandlerDefinition]| handlers.iter().map(|handler| handler.name).collect::<Vec<_>>();
        let (kind, message, names) = match self {
            Self::Cancel(_) => return None,
            Self::Signal(message) => (Kind::Signal, message, names(&workflow.signals)),
            Self::Update(message) => (Kind::Update, message, names(&workflow.updates)),
        };
        kind.check(&names, workflow.name, &message.name).err()
    }
}

/// How a test's workflow ended.
pub struct Ended {
    /// The output as the host would have recorded it, or the failure; of kind [`Error::CANCELLED`] if it was cancelled.
    pub output: Result<Value>,
    /// What the workflow asked for, in order, in words: `activity charge`, `timer 500 ms`, `tool github_app/issue_write`,
    /// `child ship`, `signal order-7/paid`, `search key customer`, `patch new-way`, `continue as new`, `retry`.
    pub steps: Vec<String>,
    /// What it and its activities showed.
    pub events: Vec<TaskEvent>,
    /// The answers to updates, in the order in which they were sent.
    pub updates: Vec<Result<Value>>,
    /// The output's text.
    text: Result<String>,
    instance: Instance,
}

impl Ended {
    /// The output as its type: numbers beyond 64 bits survive only here.
    ///
    /// # Errors
    /// The workflow's failure; [`Error::INVALID_OUTPUT`] if the output is no `T`.
    pub fn output_as<T: JsonSchema + DeserializeOwned + 'static>(&self) -> Result<T> {
        schema::read_workflow_output(self.text.as_deref().map_err(Error::clone)?)
    }

    /// Asks the workflow something, after its end.
    ///
    /// # Errors
    /// Those of the handler, and [`Error::NOT_FOUND`] if the workflow has declared no such query, or put no handler in place.
    pub fn query<Q: Query>(&self, input: &Q::Input) -> Result<Q::Output> {
        let shared = &self.instance.shared;
        shared.declared.get().check(&shared.workflow, Kind::Query, Q::NAME)?;
        let answer = self.instance.query(Q::NAME, &schema::write_workflow_input(Q::PARAMETER, input)?)?;
        schema::read_plain(&answer)
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ended")
            .field("output", &self.output)
            .field("steps", &self.steps)
            .field("events", &self.events)
            .field("updates", &self.updates)
            .finish_non_exhaustive()
    }
}

impl<P: Plugin> Test<P> {
    /// For the type that `plugin!` makes.
    pub fn of(_: P) -> Self {
        Self {
            host: Host::default(),
            activities: BTreeMap::new(),
            children: BTreeMap::new(),
            planned: Vec::new(),
            crashes: false,
            plugin: PhantomData,
        }
    }

    /// Answers a tool of a slot: with `{"content": […], "metadata": {…}}`, as a connector would, or with a failure.
    #[must_use]
    pub fn tool<S: Slot>(self, tool: &str, answer: impl Fn(Value) -> Result<Value> + 'static) -> Self {
        self.tool_with_options::<S>(tool, move |arguments, _| answer(arguments))
    }

    /// The same, with a look at the options of the call.
    #[must_use]
    pub fn tool_with_options<S: Slot>(
        mut self,
        tool: &str,
        answer: impl Fn(Value, &CallOptions) -> Result<Value> + 'static,
    ) -> Self {
        self.host.tools.insert((S::CONNECTOR.to_owned(), tool.to_owned()), Box::new(answer));
        self
    }

    /// Answers an activity in place of its code. Its retry policy applies.
    #[must_use]
    pub fn activity<A: Activity>(
        mut self,
        activity: fn() -> A,
        answer: impl Fn(A::Input) -> Result<A::Output> + 'static,
    ) -> Self {
        let _ = activity;
        let answer = move |input: &str| schema::write_plain(&answer(schema::read_plain(input)?)?);
        self.activities.insert(A::NAME.to_owned(), Rc::new(answer));
        self
    }

    /// Answers a child workflow in place of its code. Input and output are as on the wire: objects.
    #[must_use]
    pub fn child(mut self, workflow: &str, answer: impl Fn(Value) -> Result<Value> + 'static) -> Self {
        let answer = move |input: &str| Ok(answer(serde_json::from_str(input)?)?.to_string());
        self.children.insert(workflow.to_owned(), Rc::new(answer));
        self
    }

    /// Asks the execution to stop after so many of its operations have ended.
    #[must_use]
    pub fn cancel_after(self, operations: usize, reason: &str) -> Self {
        self.plan(When::After(operations), What::Cancel(reason.to_owned()))
    }

    /// Asks the execution to stop when so much of its time has passed.
    #[must_use]
    pub fn cancel_at(self, time: Duration, reason: &str) -> Self {
        self.plan(When::At(time), What::Cancel(reason.to_owned()))
    }

    /// Sends a signal after so many operations have ended.
    #[must_use]
    pub fn signal_after<S: Signal>(self, operations: usize, input: &S::Input) -> Self {
        self.plan(When::After(operations), What::Signal(message(S::NAME, S::PARAMETER, input)))
    }

    /// Sends a signal when so much of the workflow's time has passed.
    #[must_use]
    pub fn signal_at<S: Signal>(self, time: Duration, input: &S::Input) -> Self {
        self.plan(When::At(time), What::Signal(message(S::NAME, S::PARAMETER, input)))
    }

    /// Asks for an update after so many operations have ended.
    #[must_use]
    pub fn update_after<U: Update>(self, operations: usize, input: &U::Input) -> Self {
        self.plan(When::After(operations), What::Update(message(U::NAME, U::PARAMETER, input)))
    }

    /// Asks for an update when so much of the workflow's time has passed.
    #[must_use]
    pub fn update_at<U: Update>(self, time: Duration, input: &U::Input) -> Self {
        self.plan(When::At(time), What::Update(message(U::NAME, U::PARAMETER, input)))
    }

    /// Gives what is wanted by the first [`wait_for_input`](crate::Workflow::wait_for_input) under way, when so much of the
    /// workflow's time has passed.
    #[must_use]
    pub fn input_at(self, time: Duration, input: impl serde::Serialize) -> Self {
        // A value that has no JSON form shows as an invalid input.
        let input = schema::write_plain(&input).unwrap_or_default();
        let text = format!("{{\"task_id\":{},\"input\":{input}}}", json!(FIRST_INPUT));
        let message = Message { name: "__submit_input".to_owned(), input: text, sender: "test".to_owned() };
        self.plan(When::At(time), What::Update(message))
    }

    /// Crashes the host after every commit: each activation meets an instance that was just rebuilt from the history.
    #[must_use]
    pub fn crash_at_every_commit(mut self) -> Self {
        self.crashes = true;
        self
    }

    fn plan(mut self, when: When, what: What) -> Self {
        self.planned.push(Planned { when, what });
        self
    }

    /// Repeats a history that was downloaded (`airlock executions history ID --json`, or `GET
    /// /v1/workflows/executions/ID/history`) against the plugin as it is now.
    ///
    /// # Errors
    /// The first event that differs, beside the command that the code gives; or the text is no history.
    pub fn replay(self, history: &str) -> Result<()> {
        history::replay::<P>(history)
    }

    /// Runs a workflow to its end, through all runs if it continues as new, then replays it. The input is what a caller
    /// would send.
    ///
    /// # Panics
    /// The replay asks for something else than the run did: the workflow is not deterministic. Or it waits for something
    /// that nothing can bring about. Or the daemon would refuse the plugin, or nobody could reach a handler: a name, an
    /// option, a signal, query or update is not declared as it has to be.
    pub fn run(self, workflow: &str, input: impl serde::Serialize) -> Ended {
        let definition = P::definition();
        if let Err(wrong) = declarations::check(&definition) {
            panic!("the daemon refuses this plugin: {wrong}");
        }
        let known = definition.workflows.into_iter().find(|known| known.name == workflow);
        if let Some(known) = &known
            && let Some(error) = self.planned.iter().find_map(|planned| planned.what.refused(known))
        {
            panic!("{error}");
        }
        let retry = known.and_then(|workflow| workflow.retry);
        let input = schema::write_plain(&input).unwrap_or_else(|error| panic!("the input: {error}"));
        let host = Rc::new(self.host);
        let _installed = stand_in::install(host.clone());
        let world = Rc::new(World {
            host,
            activities: self.activities,
            children: self.children,
            crashes: self.crashes,
            now_ms: Cell::new(START_MS),
            steps: RefCell::default(),
            updates: RefCell::default(),
        });
        let (text, instance) = play::<P>(&world, workflow, input, self.planned, retry.as_ref());
        Ended {
            output: text.clone().and_then(|text| Ok(serde_json::from_str(&text)?)),
            text,
            steps: world.steps.take(),
            events: world.host.events.take(),
            updates: world.updates.take(),
            instance,
        }
    }
}

const START_MS: u64 = 1_700_000_000_000;

/// Stands for the task of the first input that is wanted.
const FIRST_INPUT: &str = "$first";

fn message<T>(name: &str, parameter: Option<&str>, input: &T) -> Message
where
    T: serde::Serialize + JsonSchema + DeserializeOwned + 'static,
{
    // A value that has no JSON form shows as an invalid input.
    let input = schema::write_workflow_input(parameter, input).unwrap_or_default();
    Message { name: name.to_owned(), input, sender: "test".to_owned() }
}

/// What all runs of a test share.
struct World {
    host: Rc<Host>,
    activities: BTreeMap<String, Answer>,
    children: BTreeMap<String, Answer>,
    crashes: bool,
    now_ms: Cell<u64>,
    steps: RefCell<Vec<String>>,
    updates: RefCell<Vec<Result<Value>>>,
}

impl World {
    fn step(&self, words: String) {
        self.steps.borrow_mut().push(words);
    }
}

/// Runs a workflow through all its runs.
fn play<P: Plugin>(
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

/// Nothing of the stand-in waits, so a future that waits and was not woken waits for ever.
fn poll_to_end(body: impl Future<Output = Result<String>>) -> Result<String> {
    let mut body = pin!(body);
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    while woken.0.swap(false, Ordering::Relaxed) {
        if let Poll::Ready(outcome) = body.as_mut().poll(&mut Context::from_waker(&waker)) {
            return outcome;
        }
    }
    Err(Error::new(Error::DEFAULT_KIND, "the activity waits for something that no test brings about")
        .non_retryable())
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Host {
    tools: BTreeMap<(String, String), Tool>,
    events: RefCell<Vec<TaskEvent>>,
    heartbeat: RefCell<Option<String>>,
    /// The connectors of the workflow at work.
    slots: RefCell<Vec<&'static str>>,
}

impl Host {
    fn resolve(&self, slot: &str) -> Result<()> {
        if self.slots.borrow().contains(&slot) { Ok(()) } else { Err(unresolved(slot)) }
    }
}

impl StandIn for Host {
    fn call_tool(&self, call: ToolRequest) -> Result<Value> {
        let ToolRequest { slot, tool, arguments, options } = call;
        self.resolve(slot)?;
        match self.tools.get(&(slot.to_owned(), tool.clone())) {
            Some(answer) => answer(serde_json::from_str(&arguments)?, &options),
            None => Err(Error::new(
                "ConnectorError",
                format!("the test has no tool `{tool}` in slot `{slot}`: add .tool::<Slot>({tool:?}, |arguments| …)"),
            )
            .non_retryable()),
        }
    }

    fn list_tools(&self, slot: &str) -> Result<Value> {
        self.resolve(slot)?;
        let names = self.tools.keys().filter(|(connector, _)| connector == slot);
        Ok(names.map(|(_, name)| json!({"name": name, "inputSchema": {"type": "object"}})).collect())
    }

    fn await_auth(&self, slot: &str) -> Result<Value> {
        self.resolve(slot)?;
        Ok(json!({"connector_name": slot, "connector_id": slot}))
    }

    fn emit(&self, event: TaskEvent) {
        self.events.borrow_mut().push(event);
    }

    fn heartbeat(&self, details: Option<String>) {
        if details.is_some() {
            self.heartbeat.replace(details);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{self as airlock, Sent, Workflow};

    airlock::signal!(Approve(approved: bool) = "approve");
    airlock::query!(Count() -> u32 = "count");
    airlock::update!(Rename(name: String) -> String = "rename");

    #[airlock::activity(retry(attempts = 3))]
    async fn flaky(context: airlock::ActivityContext) -> Result<u32> {
        let before: u32 = context.heartbeat_details().unwrap_or_default();
        context.heartbeat_with(before + 1)?;
        if before < 2 { Err(Error::new("Again", "not yet")) } else { Ok(before) }
    }

    #[airlock::workflow(signals(Approve), queries(Count), updates(Rename))]
    async fn approval(ctx: Workflow) -> Result<Value> {
        let name = Rc::new(RefCell::new("unnamed".to_owned()));
        let (shown, renamed) = (name.clone(), name.clone());
        ctx.on_query::<Count>(move |()| Ok(shown.borrow().len() as u32));
        ctx.on_valid_update::<Rename, _>(
            |sent: &Sent<String>| {
                if sent.value.is_empty() { Err(Error::new("Empty", "a name, please")) } else { Ok(()) }
            },
            move |sent| {
                let before = renamed.replace(sent.value);
                async move { Ok(before) }
            },
        );
        let approved = ctx.timeout(Duration::from_secs(60), ctx.signal::<Approve>()).await??;
        let attempts = ctx.activity(flaky, ()).await?;
        let name = name.borrow().clone();
        Ok(json!({"approved": approved, "attempts": attempts, "name": name}))
    }

    #[airlock::workflow(name = "counter")]
    async fn counter(ctx: Workflow, n: u32) -> Result<u32> {
        ctx.sleep(Duration::from_secs(1)).await?;
        if n < 3 { ctx.continue_as_new(n + 1) } else { Ok(n) }
    }

    #[airlock::workflow(name = "parent")]
    async fn parent(ctx: Workflow) -> Result<u32> {
        let doubled: u32 = ctx.child_named("elsewhere", json!({"n": 2})).await?;
        Ok(ctx.child(counter, 1).await? + doubled)
    }

    #[airlock::workflow(name = "again", retry(attempts = 2))]
    async fn again(ctx: Workflow) -> Result<u32> {
        if ctx.attempt() == 1 { Err(Error::new("First", "fails")) } else { Ok(ctx.attempt()) }
    }

    airlock::connector!(Crm = "crm");

    #[derive(serde::Deserialize)]
    struct Contact {
        name: String,
    }

    #[airlock::activity]
    async fn contact(id: String, crm: airlock::Tools<Crm>) -> Result<String> {
        let call = crm.call("get_contact", json!({"id": id})).retries(3);
        Ok(call.data::<Contact>().await?.name)
    }

    #[airlock::workflow(connectors(Crm))]
    async fn contacts(ctx: Workflow) -> Result<Vec<String>> {
        let first = ctx.activity(contact, "ada".to_owned()).await?;
        let call = ctx.call_tool::<Crm>("get_contact", json!({"id": "bea"})).credentials("work");
        Ok(vec![first, call.data::<Contact>().await?.name])
    }

    crate::plugin!(workflows: [approval, counter, parent, again, contacts], activities: [flaky, contact]);

    #[test]
    fn messages_come_at_their_moment_and_crashes_change_nothing() {
        let test = || {
            Test::of(AirlockPlugin)
                .update_at::<Rename>(Duration::from_secs(1), &String::new())
                .update_at::<Rename>(Duration::from_secs(2), &"ada".to_owned())
                .signal_at::<Approve>(Duration::from_secs(30), &true)
        };
        let ended = test().run("approval", json!({}));
        assert_eq!(ended.output.as_ref().unwrap(), &json!({"approved": true, "attempts": 2, "name": "ada"}));
        assert_eq!(ended.updates.len(), 2);
        assert_eq!(ended.updates[0].as_ref().unwrap_err().kind(), "Empty");
        assert_eq!(ended.updates[1].as_ref().unwrap(), "unnamed");
        assert_eq!(ended.query::<Count>(&()).unwrap(), 3);
        let crashed = test().crash_at_every_commit().run("approval", json!({}));
        assert_eq!(crashed.output.unwrap(), ended.output.unwrap());
    }

    #[test]
    fn a_signal_that_comes_too_late_is_a_timeout() {
        let ended = Test::of(AirlockPlugin)
            .signal_at::<Approve>(Duration::from_secs(61), &true)
            .run("approval", json!({}));
        assert_eq!(ended.output.unwrap_err().kind(), Error::TIMEOUT);
    }

    #[test]
    fn activities_and_children_can_be_mocked_or_real() {
        let ended = Test::of(AirlockPlugin)
            .child("elsewhere", |input| Ok(json!({"result": input["n"].as_u64().unwrap() * 2})))
            .run("parent", json!({}));
        assert_eq!(ended.output.unwrap(), json!({"result": 7}));
        assert_eq!(ended.steps.iter().filter(|step| *step == "continue as new").count(), 2);
        let ended = Test::of(AirlockPlugin)
            .activity(flaky, |()| Ok(9))
            .signal_after::<Approve>(0, &false)
            .run("approval", json!({}));
        assert_eq!(ended.output.unwrap()["attempts"], 9);
    }

    #[test]
    fn mocked_tools_see_the_options_of_a_call() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let noted = seen.clone();
        let ended = Test::of(AirlockPlugin)
            .tool_with_options::<Crm>("get_contact", move |arguments, options| {
                noted.borrow_mut().push(options.clone());
                let envelope = json!({"success": true, "data": {"name": arguments["id"]}, "metadata": {}});
                Ok(json!({"content": [], "metadata": {"mcp_meta": {"structuredContent": envelope}}}))
            })
            .run("contacts", json!({}));
        assert_eq!(ended.output.unwrap(), json!({"result": ["ada", "bea"]}));
        let options = CallOptions { retries: Some(3), ..CallOptions::default() };
        let work = CallOptions { credentials_name: Some("work".into()), ..CallOptions::default() };
        assert_eq!(*seen.borrow(), [options, work]);
    }

    #[test]
    fn a_workflow_is_tried_again_as_its_policy_says() {
        let ended = Test::of(AirlockPlugin).run("again", json!({}));
        assert_eq!(ended.output.unwrap(), json!({"result": 2}));
        assert_eq!(ended.steps, ["retry"]);
    }

    #[test]
    fn a_downloaded_history_is_repeated_and_the_first_difference_named() {
        let history = |milliseconds: u64| {
            json!({"execution_id": "e", "events": [
                {"event_id": 1, "at_ms": 1000, "record": {"Started": {
                    "run_id": "r", "workflow": "counter", "input": {"n": 3}, "seed": 1, "attempt": 1, "parent": null}}},
                {"event_id": 2, "at_ms": 1000, "record": {"Activation": {"jobs": ["Started"], "commands": [
                    {"StartTimer": {"seq": 1, "duration": {"secs": milliseconds / 1000, "nanos": 0}}}]}}},
                {"event_id": 4, "at_ms": 2000, "record": {"Activation": {"jobs": [{"TimerFired": {"seq": 1}}],
                    "commands": [{"Complete": {"result": {"result": 3}}}]}}},
            ]})
            .to_string()
        };
        Test::of(AirlockPlugin).replay(&history(1000)).unwrap();
        let error = Test::of(AirlockPlugin).replay(&history(9000)).unwrap_err();
        assert!(error.message().starts_with("event 3 of the history is"), "{error}");
        assert!(Test::of(AirlockPlugin).replay("{}").is_err());
    }
}
