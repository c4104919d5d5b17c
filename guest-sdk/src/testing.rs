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
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    rc::Rc,
    time::Duration,
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::{
    host::Host,
    run::{World, play},
};
use crate::{
    Activity, CallOptions, Error, HandlerDefinition, Query, Result, Signal, Slot, TaskEvent, Update,
    WorkflowDefinition,
    host::stand_in,
    plugin::Plugin,
    schema,
    workflow::{Instance, declared::Kind, protocol::Message},
};

mod declarations;
mod history;
mod host;
mod run;
#[cfg(test)]
mod tests;

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
    /// option, a signal, query or update is not declared as it has to be. Or the input is no object.
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
        assert!(
            input.starts_with('{') || input == "null",
            "the daemon takes objects as inputs, not {input}: put it under the name of the workflow's parameter"
        );
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
