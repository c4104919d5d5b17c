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
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    future::Future,
    marker::PhantomData,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use serde_json::{Value, json};

use crate::{
    Error, Result, Slot, TaskEvent,
    activity::Call,
    host::stand_in::{self, StandIn},
    plugin::Plugin,
    workflow::{
        Instance,
        protocol::{Command, Init, Job, Request},
    },
};

type Tool = Box<dyn Fn(Value) -> Result<Value>>;

/// A host for tests. Activities run one after the other and are retried at once; timers fire as soon as nothing else
/// can happen, and only the workflow's clock moves.
pub struct Test<P> {
    host: Host,
    cancel: Option<(usize, String)>,
    plugin: PhantomData<P>,
}

/// How a test's workflow ended.
#[derive(Debug)]
pub struct Ended {
    /// The output as the host would have recorded it, or the failure; of kind [`Error::CANCELLED`] if it was cancelled.
    pub output: Result<Value>,
    /// What the workflow asked for, in order, in words: `activity charge`, `timer 500 ms`, `tool github_app/issue_write`.
    pub steps: Vec<String>,
    /// What it and its activities showed.
    pub events: Vec<TaskEvent>,
}

impl<P: Plugin> Test<P> {
    /// For the type that `plugin!` makes.
    pub fn of(_: P) -> Self {
        Self { host: Host::default(), cancel: None, plugin: PhantomData }
    }

    /// Answers a tool of a slot: with `{"content": […], "metadata": {…}}`, as a connector would, or with a failure.
    #[must_use]
    pub fn tool<S: Slot>(mut self, tool: &str, answer: impl Fn(Value) -> Result<Value> + 'static) -> Self {
        self.host.tools.insert((S::CONNECTOR.to_owned(), tool.to_owned()), Box::new(answer));
        self
    }

    /// Asks the execution to stop after so many of its operations have ended.
    #[must_use]
    pub fn cancel_after(mut self, operations: usize, reason: &str) -> Self {
        self.cancel = Some((operations, reason.to_owned()));
        self
    }

    /// Runs a workflow to its end, then replays it.
    ///
    /// # Panics
    /// The replay asks for something else than the run did: the workflow is not deterministic. Or it waits for something
    /// that nothing can bring about.
    pub fn run(self, workflow: &str, input: Value) -> Ended {
        let host = Rc::new(self.host);
        let _installed = stand_in::install(host.clone());
        let mut run = Running::<P> {
            host: host.clone(),
            init: Init {
                workflow: workflow.to_owned(),
                execution_id: "test".to_owned(),
                run_id: "test".to_owned(),
                input: input.to_string(),
                seed: 1,
                started_at_ms: 1_700_000_000_000,
            },
            now_ms: 1_700_000_000_000,
            timers: BTreeMap::new(),
            ready: VecDeque::from([Job::Started]),
            journal: Vec::new(),
            steps: Vec::new(),
            plugin: PhantomData,
        };
        let output = run.play(self.cancel);
        run.replay();
        Ended { output, steps: run.steps, events: host.events.take() }
    }
}

struct Running<P> {
    host: Rc<Host>,
    init: Init,
    now_ms: u64,
    /// By the time at which they fire, then by number.
    timers: BTreeMap<(u64, u32), ()>,
    ready: VecDeque<Job>,
    journal: Vec<(u64, Job, String)>,
    steps: Vec<String>,
    plugin: PhantomData<P>,
}

impl<P: Plugin> Running<P> {
    fn play(&mut self, mut cancel: Option<(usize, String)>) -> Result<Value> {
        let mut instance = Instance::new(self.init.clone(), P::start);
        let mut ended = 0;
        loop {
            if let Some((_, reason)) =
                cancel.take_if(|(after, _)| ended >= *after && !self.journal.is_empty())
            {
                self.ready.push_front(Job::CancelRequested(reason));
            }
            let job = self.ready.pop_front().or_else(|| self.next_timer());
            let Some(job) = job else {
                panic!("the workflow waits for something that nothing can bring about")
            };
            ended += usize::from(matches!(job, Job::Resolved(..)));
            let commands = instance.activate(self.now_ms, [job.clone()]);
            self.journal.push((self.now_ms, job, format!("{commands:?}")));
            for command in commands {
                if let Some(output) = self.perform(command) {
                    return output;
                }
            }
        }
    }

    fn next_timer(&mut self) -> Option<Job> {
        let ((at, seq), ()) = self.timers.pop_first()?;
        self.now_ms = self.now_ms.max(at);
        Some(Job::Resolved(seq, Ok(String::new())))
    }

    /// Does what the workflow asked for. Gives its output if it has ended.
    fn perform(&mut self, command: Command) -> Option<Result<Value>> {
        match command {
            Command::Begin(seq, Request::Timer { duration_ms }) => {
                self.steps.push(format!("timer {duration_ms} ms"));
                self.timers.insert((self.now_ms.saturating_add(duration_ms), seq), ());
            }
            Command::Begin(seq, request) => {
                let outcome = self.answer(seq, request);
                self.ready.push_back(Job::Resolved(seq, outcome));
            }
            Command::Cancel(seq) => self.timers.retain(|(_, timer), ()| *timer != seq),
            Command::Emit(event) => self.host.emit(event),
            Command::Complete(output) => return Some(serde_json::from_str(&output).map_err(Error::from)),
            Command::Fail(error) => return Some(Err(error)),
            Command::Cancelled => return Some(Err(Error::cancelled(""))),
        }
        None
    }

    fn answer(&mut self, seq: u32, request: Request) -> Result<String> {
        let answer = match request {
            Request::Activity { name, input, options } => {
                self.steps.push(format!("activity {name}"));
                let defined = P::definition().activities.into_iter().find(|activity| activity.name == name);
                let retry =
                    options.retry.or(defined.and_then(|activity| activity.options.retry)).unwrap_or_default();
                return self.attempts(seq, name, &input, &retry);
            }
            Request::Tool { slot, tool, arguments } => {
                self.steps.push(format!("tool {slot}/{tool}"));
                self.host.call_tool(slot, &tool, serde_json::from_str(&arguments)?)?
            }
            Request::ListTools(slot) => self.host.list_tools(slot)?,
            Request::AwaitAuth(slot) => self.host.await_auth(slot)?,
            // It has no answer; it fires.
            Request::Timer { .. } => Value::Null,
        };
        Ok(answer.to_string())
    }

    fn attempts(&self, seq: u32, name: &str, input: &str, retry: &crate::RetryPolicy) -> Result<String> {
        let mut attempt = 1;
        loop {
            let call = Call {
                activity: name.to_owned(),
                input: input.to_owned(),
                execution_id: self.init.execution_id.clone(),
                workflow: self.init.workflow.clone(),
                idempotency_key: format!("test-{seq}"),
                attempt,
            };
            let outcome = poll_to_end(P::run_activity(call));
            match outcome {
                Err(error)
                    if !error.is_non_retryable()
                        && !retry.non_retryable.iter().any(|kind| kind == error.kind())
                        && (retry.attempts == 0 || attempt < retry.attempts) =>
                {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn replay(&self) {
        let mut instance = Instance::new(self.init.clone(), P::start);
        for (position, (now_ms, job, expected)) in self.journal.iter().enumerate() {
            let commands = format!("{:?}", instance.activate(*now_ms, [job.clone()]));
            assert_eq!(
                &commands, expected,
                "the workflow is not deterministic: its replay differs from its run at activation {position}"
            );
        }
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
}

impl StandIn for Host {
    fn call_tool(&self, slot: &str, tool: &str, arguments: Value) -> Result<Value> {
        match self.tools.get(&(slot.to_owned(), tool.to_owned())) {
            Some(answer) => answer(arguments),
            None => Err(Error::new(
                "ConnectorError",
                format!("the test has no tool `{tool}` in slot `{slot}`: add .tool::<Slot>({tool:?}, |arguments| …)"),
            )
            .non_retryable()),
        }
    }

    fn list_tools(&self, slot: &str) -> Result<Value> {
        let names = self.tools.keys().filter(|(connector, _)| connector == slot);
        Ok(names.map(|(_, name)| json!({"name": name, "inputSchema": {"type": "object"}})).collect())
    }

    fn await_auth(&self, slot: &str) -> Result<Value> {
        Ok(json!({"connector_name": slot, "connector_id": slot}))
    }

    fn emit(&self, event: TaskEvent) {
        self.events.borrow_mut().push(event);
    }
}
