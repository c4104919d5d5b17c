//! Values of every shape that a type can have in JSON, over every way into a workflow and out of it. Both ends compare: what
//! one writes is what the other reads, and what the schema says.
//!
//! A start over HTTP, a start by a schedule and the input of a child are the same thing to a workflow: the text of its input.

use std::{fmt::Debug, future::Future, marker::PhantomData, time::Duration};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};

use super::{
    Instance, Run, Workflow,
    protocol::{Command, Init, Job, Message, Request},
};
use crate::{
    Activity, ActivityContext, ActivityDefinition, ActivityOptions, Error, HandlerDefinition,
    PluginDefinition, Query, Result, Signal, Update, WorkflowDefinition, WorkflowFn,
    activity::Call,
    plugin::{self, Plugin},
    schema,
    testing::Test,
};

mod table;
mod types;

trait Travels: Serialize + DeserializeOwned + JsonSchema + Debug + Clone + PartialEq + 'static {}

impl<T: Serialize + DeserializeOwned + JsonSchema + Debug + Clone + PartialEq + 'static> Travels for T {}

/// A workflow, an activity or a message about a `T`, by its number in [`ways`].
struct Way<T, const WAY: u8>(PhantomData<fn() -> T>);

impl<T, const WAY: u8> Copy for Way<T, WAY> {}

impl<T, const WAY: u8> Clone for Way<T, WAY> {
    fn clone(&self) -> Self {
        *self
    }
}

/// Names the way, as a function with an attribute does.
fn way<T, const WAY: u8>() -> Way<T, WAY> {
    Way(PhantomData)
}

/// What each way does.
mod ways {
    pub(super) const ECHO: u8 = 0;
    pub(super) const CHILD: u8 = 1;
    pub(super) const NEXT_RUN: u8 = 2;
    pub(super) const SIGNALLED: u8 = 3;
    pub(super) const SIGNALS: u8 = 4;
    pub(super) const ASKED: u8 = 5;
    pub(super) const PERSON: u8 = 6;
    pub(super) const STEP: u8 = 7;
    pub(super) const NAMED_CHILD: u8 = 8;
    pub(super) const NAMES: [&str; 9] =
        ["echo", "child", "next-run", "signalled", "signals", "asked", "person", "step", "named-child"];
}

impl<T: Travels> Activity for Way<T, { ways::STEP }> {
    const NAME: &'static str = "same";
    const CONNECTORS: &'static [&'static str] = &[];
    type Input = T;
    type Output = T;

    fn definition() -> ActivityDefinition {
        ActivityDefinition {
            name: "same",
            description: None,
            input_schema: schema::plain_input::<T>(),
            output_schema: schema::plain_output::<T>(),
            options: ActivityOptions::default(),
            slots: vec![],
        }
    }

    fn run(_: ActivityContext, input: T) -> impl Future<Output = Result<T>> + 'static {
        std::future::ready(Ok(input))
    }
}

impl<T: Travels> Signal for Way<T, { ways::SIGNALLED }> {
    const NAME: &'static str = "say";
    const DESCRIPTION: Option<&'static str> = None;
    const PARAMETER: Option<&'static str> = Some("v");
    type Input = T;
}

impl<T: Travels> Query for Way<T, { ways::ASKED }> {
    const NAME: &'static str = "ask";
    const DESCRIPTION: Option<&'static str> = None;
    const PARAMETER: Option<&'static str> = Some("v");
    type Input = T;
    type Output = T;
}

impl<T: Travels> Update for Way<T, { ways::ASKED }> {
    const NAME: &'static str = "tell";
    const DESCRIPTION: Option<&'static str> = None;
    const PARAMETER: Option<&'static str> = Some("v");
    type Input = T;
    type Output = T;
}

type Say<T> = Way<T, { ways::SIGNALLED }>;
type Ask<T> = Way<T, { ways::ASKED }>;

impl<T: Travels, const WAY: u8> WorkflowFn for Way<T, WAY> {
    const NAME: &'static str = ways::NAMES[WAY as usize];
    const PARAMETER: Option<&'static str> = Some("v");
    const CONNECTORS: &'static [&'static str] = &[];
    const SIGNALS: &'static [&'static str] = &["say"];
    const QUERIES: &'static [&'static str] = &["ask"];
    const UPDATES: &'static [&'static str] = &["tell"];
    type Input = T;
    type Output = T;

    fn definition() -> WorkflowDefinition {
        WorkflowDefinition {
            name: <Self as WorkflowFn>::NAME,
            display_name: None,
            description: None,
            input_schema: schema::workflow_input::<T>(<Self as WorkflowFn>::PARAMETER),
            output_schema: schema::workflow_output::<T>(),
            on_behalf_of: false,
            execution_timeout: None,
            slots: vec![],
            signals: vec![HandlerDefinition::signal::<Say<T>>()],
            queries: vec![HandlerDefinition::query::<Ask<T>>()],
            updates: vec![HandlerDefinition::update::<Ask<T>>()],
            retry: None,
            search_keys: vec![],
        }
    }

    async fn run(ctx: Workflow, input: T) -> Result<T> {
        match WAY {
            ways::CHILD => ctx.child(way::<T, { ways::ECHO }>, input).await,
            ways::NAMED_CHILD => {
                let text = schema::write_workflow_input(Some("v"), &input)?;
                ctx.child_named("echo", RawValue::from_string(text)?).await
            }
            ways::NEXT_RUN if !ctx.run_id().ends_with("-2") => ctx.continue_as_new(input),
            ways::SIGNALLED => ctx.signal::<Say<T>>().await,
            ways::SIGNALS => {
                ctx.signal_execution::<Say<T>>("another", &input).await?;
                Ok(input)
            }
            ways::ASKED => {
                ctx.on_query::<Ask<T>>(Ok);
                ctx.on_update::<Ask<T>, _>(|sent| async move { Ok(sent.value) });
                ctx.signal::<Say<T>>().await
            }
            ways::PERSON => ctx.wait_for_input::<T>().get().await,
            ways::STEP => ctx.activity(way::<T, { ways::STEP }>, input).await,
            _ => Ok(input),
        }
    }
}

/// A plugin with every way of a `T`.
struct Everything<T>(PhantomData<T>);

impl<T: Travels> Plugin for Everything<T> {
    fn definition() -> PluginDefinition {
        PluginDefinition {
            workflows: ways::NAMES
                .iter()
                .map(|&name| WorkflowDefinition { name, ..Way::<T, { ways::ECHO }>::definition() })
                .collect(),
            activities: vec![<Way<T, { ways::STEP }> as Activity>::definition()],
        }
    }

    fn start(name: &str, context: Workflow, input: &str) -> Result<Run> {
        match name {
            "echo" => plugin::start::<Way<T, { ways::ECHO }>>(context, input),
            "child" => plugin::start::<Way<T, { ways::CHILD }>>(context, input),
            "next-run" => plugin::start::<Way<T, { ways::NEXT_RUN }>>(context, input),
            "signalled" => plugin::start::<Way<T, { ways::SIGNALLED }>>(context, input),
            "signals" => plugin::start::<Way<T, { ways::SIGNALS }>>(context, input),
            "asked" => plugin::start::<Way<T, { ways::ASKED }>>(context, input),
            "person" => plugin::start::<Way<T, { ways::PERSON }>>(context, input),
            "step" => plugin::start::<Way<T, { ways::STEP }>>(context, input),
            "named-child" => plugin::start::<Way<T, { ways::NAMED_CHILD }>>(context, input),
            _ => Err(plugin::no_workflow(name)),
        }
    }

    async fn run_activity(call: Call) -> Result<String> {
        plugin::run_activity::<Way<T, { ways::STEP }>>(call).await
    }
}

/// A run that has had its first turn.
fn begun<T: Travels>(workflow: &str, input: &str) -> (Instance, Vec<Command>) {
    let init = Init {
        workflow: workflow.into(),
        execution_id: "e".into(),
        run_id: "r-1".into(),
        input: input.into(),
        seed: 1,
        started_at_ms: 1,
        parent: None,
        attempt: 1,
    };
    let mut instance = Instance::new(init, Everything::<T>::start);
    let commands = instance.activate(1, [Job::Started]);
    (instance, commands)
}

fn message(name: &str, input: &str) -> Message {
    Message { name: name.into(), input: input.into(), sender: "ada".into() }
}

#[track_caller]
fn completed(commands: &[Command], output: &str) {
    match commands.last() {
        Some(Command::Complete(text)) => assert_eq!(text, output),
        other => panic!("{other:?} instead of {output}"),
    }
}

#[track_caller]
fn fits(schema: &str, text: &str) {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let value: Value = serde_json::from_str(text).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    if let Err(error) = validator.validate(&value) {
        panic!("{text} does not fit {schema}: {error}");
    }
}

/// Sends `value` over every way. `input` and `output` are what stands on the wire, where the parameter's name is `v`.
#[track_caller]
fn travels<T: Travels>(value: T, input: &str, output: &str) {
    let plain = serde_json::to_string(&value).unwrap();
    let definition = Way::<T, { ways::ECHO }>::definition();

    // What anybody may send is what the schema says, for the workflow and for its messages.
    fits(&definition.input_schema, input);
    for handler in [&definition.signals[0], &definition.queries[0], &definition.updates[0]] {
        assert_eq!(handler.input_schema, definition.input_schema);
    }
    match &definition.output_schema {
        Some(schema) => fits(schema, output),
        None => assert_eq!(output, "null"),
    }
    fits(&schema::plain_input::<T>(), &plain);

    // A start by somebody or by a schedule.
    completed(&begun::<T>("echo", input).1, output);
    let read: T = schema::read_workflow_input(Some("v"), input).unwrap();
    assert_eq!(read, value);

    // A child, by its type and by its name.
    for parent in ["child", "named-child"] {
        let (mut run, commands) = begun::<T>(parent, input);
        let [Command::Begin(1, Request::Child(child))] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!(child.input, input);
        completed(&run.activate(2, [Job::Resolved(1, Ok(output.into()))]), output);
    }

    // A next run.
    let (_, commands) = begun::<T>("next-run", input);
    let [Command::ContinueAsNew(next)] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(next, input);

    // A signal, from both of its ends.
    let (_, commands) = begun::<T>("signals", input);
    let [Command::Begin(1, Request::Signal { input: sent, .. })] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(sent, input);
    let (mut run, _) = begun::<T>("signalled", input);
    completed(&run.activate(2, [Job::Signal(message("say", input))]), output);

    // An update and a query answer with plain JSON.
    let (mut run, _) = begun::<T>("asked", input);
    let commands = run.activate(2, [Job::Update("u".into(), message("tell", input))]);
    let [Command::UpdateAccepted(_), Command::UpdateCompleted(_, answer)] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(answer.as_ref().unwrap(), &plain);
    assert_eq!(run.query("ask", input).unwrap(), plain);

    // A person is asked for plain JSON.
    let (mut run, commands) = begun::<T>("person", input);
    let task = commands
        .iter()
        .find_map(|command| if let Command::Emit(event) = command { Some(event.id.clone()) } else { None });
    let answer = format!("{{\"task_id\":{},\"input\":{plain}}}", json!(task));
    completed(&run.activate(2, [Job::Update("u".into(), message("__submit_input", &answer))]), output);

    // An activity takes and gives plain JSON.
    let (mut run, commands) = begun::<T>("step", input);
    let [Command::Begin(1, Request::Activity { input: given, .. })] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(given, &plain);
    completed(&run.activate(2, [Job::Resolved(1, Ok(plain.clone()))]), output);

    in_tests(value, input);
}

/// The same in a plugin's own tests.
#[track_caller]
fn in_tests<T: Travels>(value: T, input: &str) {
    let test = || Test::of(Everything::<T>(PhantomData)).crash_at_every_commit();
    let input: Box<RawValue> = RawValue::from_string(input.to_owned()).unwrap();
    let ends = |test: Test<Everything<T>>, workflow: &str| {
        let ended = test.run(workflow, &input);
        assert_eq!(ended.output_as::<T>().unwrap(), value, "{workflow}");
        ended
    };
    for workflow in ["echo", "child", "named-child", "next-run", "signals", "step"] {
        ends(test(), workflow);
    }
    ends(test().activity(way::<T, { ways::STEP }>, Ok), "step");
    ends(test().signal_after::<Say<T>>(0, &value), "signalled");
    let second = Duration::from_secs(1);
    let asked = test().update_after::<Ask<T>>(0, &value).signal_at::<Say<T>>(second, &value);
    let ended = ends(asked, "asked");
    assert!(ended.updates[0].is_ok(), "{:?}", ended.updates);
    assert_eq!(ended.query::<Ask<T>>(&value).unwrap(), value);
    ends(test().input_at(second, &value), "person");
}

#[test]
fn what_is_no_value_of_the_type_is_refused_by_whoever_reads_it() {
    let (_, commands) = begun::<types::Action>("echo", r#"{"move":{"x":1,"y":2}}"#);
    let [Command::Fail(error)] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((error.kind(), error.message()), (Error::INVALID_INPUT, "unknown field `move`, expected `v`"));
}
