//! A plugin as a component: the exports of `airlock:plugin` for any [`Plugin`].

use std::{cell::RefCell, marker::PhantomData};

use bindings::exports::airlock::plugin::{activities, definitions, workflows};

use crate::{
    host,
    plugin::Plugin,
    workflow::{
        Instance,
        protocol::{Init, Turn},
    },
};

/// What wit-bindgen makes of `wit/`.
#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::unwrap_used)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "plugin",
        generate_all,
        pub_export_macro: true,
    });
}

pub(crate) mod convert;

/// The exports of a plugin.
pub struct Component<P>(PhantomData<P>);

impl<P: Plugin> definitions::Guest for Component<P> {
    fn describe() -> definitions::PluginDefinition {
        convert::plugin_definition(P::definition())
    }
}

impl<P: Plugin> activities::Guest for Component<P> {
    fn run(call: activities::Call) -> Result<String, activities::Failure> {
        host::block_on(P::run_activity(convert::call(call))).map_err(convert::failure)
    }
}

impl<P: Plugin> workflows::Guest for Component<P> {
    type Instance = Run<P>;
}

/// A run of a workflow.
pub struct Run<P> {
    instance: RefCell<Instance>,
    plugin: PhantomData<P>,
}

impl<P: Plugin> workflows::GuestInstance for Run<P> {
    fn new(init: workflows::Init) -> Self {
        let workflows::Init { workflow, execution_id, run_id, input, seed, started_at_ms, parent, attempt } =
            init;
        let init = Init { workflow, execution_id, run_id, input, seed, started_at_ms, parent, attempt };
        Self { instance: RefCell::new(Instance::new(init, P::start)), plugin: PhantomData }
    }

    fn activate(&self, activation: workflows::Activation) -> Vec<workflows::Command> {
        // The host activates an instance once at a time, and a workflow has no import to come back through.
        let mut instance = self.instance.borrow_mut();
        let turn = Turn {
            now_ms: activation.now_ms,
            replaying: activation.replaying,
            patches: activation.patches,
            history_events: activation.history_events,
            continue_as_new_suggested: activation.continue_as_new_suggested,
        };
        let commands = instance.activate(turn, activation.jobs.into_iter().map(convert::job));
        commands.into_iter().map(convert::command).collect()
    }

    fn query(&self, name: String, input: String) -> Result<String, workflows::Failure> {
        self.instance.borrow().query(&name, &input).map_err(convert::failure)
    }
}
