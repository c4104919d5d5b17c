//! Write workflows and activities for airlock in Rust.
//!
//! ```
//! use airlock_sdk as airlock;
//!
//! /// Says hello.
//! #[airlock::activity]
//! async fn greet(name: String) -> airlock::Result<String> {
//!     Ok(format!("Hello, {name}!"))
//! }
//!
//! /// Greets somebody.
//! #[airlock::workflow(name = "hello")]
//! async fn hello(ctx: airlock::Workflow, name: String) -> airlock::Result<String> {
//!     ctx.activity(greet, name).await
//! }
//!
//! airlock::plugin!(workflows: [hello], activities: [greet]);
//! # fn main() {}
//! ```
//!
//! A workflow says what is to be done and may wait for days; its body runs again from the start when the host rebuilds
//! it, so it must do the same thing each time: it takes time, randomness and everything from outside from its
//! [`Workflow`]. An activity does the work: it may call [`Tools`], fail, and be tried again.
//!
//! What a workflow uses, its attribute declares: connectors, signals, queries and updates. What is not declared does not
//! compile, as far as the body of the workflow shows it, and fails the plugin's own tests otherwise:
//!
//! ```compile_fail
//! use airlock_sdk as airlock;
//!
//! airlock::query!(Total() -> u32 = "total");
//!
//! #[airlock::workflow] // `queries(Total)` is missing: nobody could ask
//! async fn order(ctx: airlock::Workflow, total: u32) -> airlock::Result<()> {
//!     ctx.on_query::<Total>(move |()| Ok(total));
//!     ctx.sleep(std::time::Duration::from_secs(60)).await
//! }
//! ```
//!
//! Crates made by `airlock plugin new` name this one `airlock`. Elsewhere, `use airlock_sdk as airlock;` in each module
//! with attributes does the same.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps fails as it should"))]

mod activity;
mod definition;
mod error;
mod event;
mod host;
mod json;
pub mod log;
mod message;
mod plugin;
mod schema;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod tools;
mod workflow;

#[cfg(target_arch = "wasm32")]
mod component;

pub use airlock_sdk_macros::{activity, workflow};
pub use futures_util::{
    future::{Either, FutureExt, join_all, try_join_all},
    join, select_biased, try_join,
};

pub use crate::{
    activity::ActivityContext,
    definition::{
        ActivityDefinition, ActivityOptions, PluginDefinition, RetryPolicy, Slot, SlotDefinition,
        WorkflowDefinition,
    },
    error::{Error, Outcome, Result},
    event::{Task, TaskEvent, TaskPhase},
    json::Json,
    message::{HandlerDefinition, Query, Sent, Signal, Update},
    plugin::{Activity, WorkflowFn},
    tools::{Authorised, CallOptions, ToolCall, Tools, await_auth, read_answer, read_data},
    workflow::{
        ActivityCall, Cancelled, Child, ChildCall, HostCall, InputRequest, JoinHandle, ParentClose, Sleep,
        Workflow,
    },
};

/// What the macros write into a plugin's crate. Not for authors.
#[doc(hidden)]
pub mod __rt {
    pub use crate::{
        activity::Call,
        plugin::{Plugin, no_activity, no_workflow, run_activity, start},
        schema::{plain_input, plain_output, workflow_input, workflow_output},
        workflow::{
            Run,
            declared::{connectors_of, declares, declares_all, some_declare},
        },
    };

    #[cfg(target_arch = "wasm32")]
    pub use crate::component::{Component, bindings};

    /// The tools of a parameter's slot.
    pub fn tools<S: crate::Slot>() -> crate::Tools<S> {
        crate::Tools::new()
    }
}

/// Exports a plugin from the component.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_plugin {
    ($plugin:ident) => {
        #[doc(hidden)]
        type AirlockComponent = $crate::__rt::Component<$plugin>;
        $crate::__rt::bindings::export!(AirlockComponent with_types_in $crate::__rt::bindings);
    };
}

/// Elsewhere than in a component there is nobody to export to: a plugin's own tests use [`testing`].
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_plugin {
    ($plugin:ident) => {};
}
