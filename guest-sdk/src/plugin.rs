//! What the attributes make of functions, and what [`plugin!`](crate::plugin) makes of them together.

use std::future::Future;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    ActivityContext, ActivityDefinition, Error, PluginDefinition, Result, Workflow, WorkflowDefinition,
    activity::Call,
    schema,
    workflow::{Run, declared::Declared},
};

/// A function with `#[activity]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an activity",
    label = "put #[airlock::activity] on the function and name the function here, without calling it"
)]
pub trait Activity: Copy + 'static {
    /// Unique in the plugin.
    const NAME: &'static str;
    /// The connectors that it calls.
    const CONNECTORS: &'static [&'static str] = &[];
    /// What it takes; `()` for nothing.
    type Input: Serialize + DeserializeOwned + JsonSchema + 'static;
    /// What it gives; `()` for nothing.
    type Output: Serialize + DeserializeOwned + JsonSchema + 'static;

    /// What the host is told of it.
    fn definition() -> ActivityDefinition;

    /// Runs its body.
    fn run(
        context: ActivityContext,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output>> + 'static;
}

/// A function with `#[workflow]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a workflow",
    label = "put #[airlock::workflow] on the function and name the function here, without calling it"
)]
pub trait WorkflowFn: Copy + 'static {
    /// Unique over all plugins of a daemon.
    const NAME: &'static str;
    /// The name of the parameter that takes the input; none if it takes nothing.
    const PARAMETER: Option<&'static str>;
    /// The connectors that it and its activities call.
    const CONNECTORS: &'static [&'static str] = &[];
    /// The signals that it takes.
    const SIGNALS: &'static [&'static str] = &[];
    /// The queries that it answers.
    const QUERIES: &'static [&'static str] = &[];
    /// The updates that it carries out.
    const UPDATES: &'static [&'static str] = &[];
    /// What it takes; `()` for nothing.
    type Input: DeserializeOwned + JsonSchema + 'static;
    /// What it gives; `()` for nothing.
    type Output: Serialize + JsonSchema + 'static;

    /// What the host is told of it.
    fn definition() -> WorkflowDefinition;

    /// Runs its body.
    fn run(context: Workflow, input: Self::Input) -> impl Future<Output = Result<Self::Output>> + 'static;
}

/// Everything in a plugin. [`plugin!`](crate::plugin) implements it.
pub trait Plugin: 'static {
    /// What the host is told.
    fn definition() -> PluginDefinition;

    /// Starts a workflow by name.
    ///
    /// # Errors
    /// [`Error::NOT_FOUND`], or [`Error::INVALID_INPUT`] with the field that is wrong.
    fn start(name: &str, context: Workflow, input: &str) -> Result<Run>;

    /// Runs an activity by name.
    ///
    /// # Errors
    /// [`Error::NOT_FOUND`], [`Error::INVALID_INPUT`] with the field that is wrong, or the activity's own.
    fn run_activity(call: Call) -> impl Future<Output = Result<String>>;
}

/// Starts a workflow with JSON text.
///
/// # Errors
/// [`Error::INVALID_INPUT`] with the field that is wrong.
pub fn start<W: WorkflowFn>(context: Workflow, input: &str) -> Result<Run> {
    let input = schema::read_workflow_input(W::PARAMETER, input)?;
    context.set_declared(Declared::of::<W>());
    context.set_next_input(|text| schema::next_input::<W::Input>(W::PARAMETER, text));
    let body = W::run(context, input);
    Ok(Box::pin(async move { schema::write_workflow_output(&body.await?) }))
}

/// Runs an activity with JSON text.
///
/// # Errors
/// [`Error::INVALID_INPUT`] with the field that is wrong, or the activity's own.
pub async fn run_activity<A: Activity>(call: Call) -> Result<String> {
    let input = schema::read_plain(&call.input)?;
    schema::write_plain(&A::run(ActivityContext::new(call), input).await?)
}

/// The plugin has no workflow of this name.
pub fn no_workflow(name: &str) -> Error {
    Error::new(
        Error::NOT_FOUND,
        format!("the plugin has no workflow `{name}`: list it in plugin!(workflows: […])"),
    )
    .non_retryable()
}

/// The plugin has no activity of this name.
pub fn no_activity(name: &str) -> Error {
    Error::new(
        Error::NOT_FOUND,
        format!("the plugin has no activity `{name}`: list it in plugin!(activities: […])"),
    )
    .non_retryable()
}

/// Says which workflows and activities the plugin has, once per crate, at its root:
///
/// ```ignore
/// airlock::plugin!(workflows: [run], activities: [charge, refund]);
/// ```
#[macro_export]
macro_rules! plugin {
    (workflows: [$($workflow:path),* $(,)?] $(, activities: [$($activity:path),* $(,)?])? $(,)?) => {
        /// This plugin.
        #[doc(hidden)]
        #[allow(unreachable_pub)]
        pub struct AirlockPlugin;

        impl $crate::__rt::Plugin for AirlockPlugin {
            fn definition() -> $crate::PluginDefinition {
                $crate::PluginDefinition {
                    workflows: ::std::vec![$(<$workflow as $crate::WorkflowFn>::definition()),*],
                    activities: ::std::vec![$($(<$activity as $crate::Activity>::definition()),*)?],
                }
            }

            fn start(name: &str, context: $crate::Workflow, input: &str) -> $crate::Result<$crate::__rt::Run> {
                $(if name == <$workflow as $crate::WorkflowFn>::NAME {
                    return $crate::__rt::start::<$workflow>(context, input);
                })*
                let _ = (context, input);
                ::core::result::Result::Err($crate::__rt::no_workflow(name))
            }

            async fn run_activity(call: $crate::__rt::Call) -> $crate::Result<::std::string::String> {
                $($(if call.activity == <$activity as $crate::Activity>::NAME {
                    return $crate::__rt::run_activity::<$activity>(call).await;
                })*)?
                ::core::result::Result::Err($crate::__rt::no_activity(&call.activity))
            }
        }

        const _: () = {
            #[allow(dead_code)]
            const WORKFLOWS: &[&[&str]] = &[$(<$workflow as $crate::WorkflowFn>::CONNECTORS),*];
            $($(::core::assert!(
                $crate::__rt::some_declare(WORKFLOWS, <$activity as $crate::Activity>::CONNECTORS),
                ::core::concat!(
                    "the activity `",
                    ::core::stringify!($activity),
                    "` calls a connector that no workflow of this plugin declares: add it to #[workflow(connectors(…))]",
                ),
            );)*)?
        };

        $crate::__export_plugin!(AirlockPlugin);
    };
    (activities: [$($activity:path),* $(,)?] $(,)?) => {
        $crate::plugin!(workflows: [], activities: [$($activity),*]);
    };
    ($($other:tt)*) => {
        ::core::compile_error!("write plugin!(workflows: [a, b], activities: [c, d]);");
    };
}
