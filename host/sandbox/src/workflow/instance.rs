//! A workflow instance: created once, activated many times, thrown away after the first error.

use std::sync::Arc;

use airlock_engine::{
    Json,
    guests::{Activation, GuestError, WorkflowInit, WorkflowInstance},
    history::{Command, Outcome},
};
use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::{Store, component::ResourceAny};

use super::state::WorkflowState;
use crate::{
    activity::hostcall_fuel,
    bindings::{
        PluginPre,
        exports::airlock::plugin::{definitions::PluginDefinition, workflows},
    },
    limits::{budget::Budget, meter::Meter, space::Space},
    output::{Origin, Output},
    plugin::Plugin,
    runtime::Runtime,
    trap::{Circumstances, WORKFLOW_OUT_OF_TIME, explain},
    wire,
};

struct Instance {
    runtime: Arc<Runtime>,
    store: Store<WorkflowState>,
    guest: workflows::Guest,
    workflow: ResourceAny,
    meter: Arc<Meter>,
    name: String,
    /// Set while the guest runs: it stays set when that goes wrong or is abandoned half way.
    broken: bool,
    _permit: OwnedSemaphorePermit,
}

/// Creates an instance. The guest's constructor runs; nothing of the workflow does yet.
pub(crate) async fn create(
    runtime: Arc<Runtime>,
    plugin: &Plugin,
    memory_bytes: usize,
    init: WorkflowInit,
    permit: OwnedSemaphorePermit,
) -> Result<Box<dyn WorkflowInstance>, GuestError> {
    let limits = runtime.limits();
    let origin = Origin {
        plugin: plugin.name(),
        execution: init.execution_id.as_str().to_owned(),
        part: init.workflow.clone(),
    };
    let output = Output::new(origin, limits);
    // Nothing is known of the first turn yet, and a constructor that logs would do so again in each replay.
    output.silence(true);
    let budget = runtime.budget();
    let space = Space::new(memory_bytes, limits.table_elements, budget, budget.share(&init.holder));
    let state = WorkflowState::new(init.seed, init.started_at_ms, space, limits, output);
    let mut store = Store::new(runtime.engine(), state);
    let meter = prepare(&runtime, &mut store);
    let made = meter
        .run(runtime.ticker(), async {
            let guest = plugin.workflows().instantiate(&mut store).await?;
            let workflow = guest.instance().call_constructor(&mut store, &wire::init_to_wit(&init)).await?;
            Ok((guest, workflow))
        })
        .await;
    match made {
        Ok((guest, workflow)) => Ok(Box::new(Instance {
            runtime: runtime.clone(),
            store,
            guest,
            workflow,
            meter,
            name: init.workflow,
            broken: false,
            _permit: permit,
        })),
        Err(error) => Err(trapped(&runtime, &store, &format!("workflow {:?}", init.workflow), &error)),
    }
}

/// Asks a component what it holds, in an instance that can do nothing else.
pub(crate) async fn describe(
    runtime: &Runtime,
    pre: &PluginPre<WorkflowState>,
    plugin: Arc<str>,
) -> Result<PluginDefinition, GuestError> {
    let limits = runtime.limits();
    let output =
        Output::new(Origin { plugin, execution: String::new(), part: "describe".to_owned() }, limits);
    // It is gone in a moment, and nobody's: it has a budget of its own.
    let budget = Budget::new(2 * limits.memory_bytes as u64);
    let space = Space::new(limits.memory_bytes, limits.table_elements, &budget, budget.share(""));
    let state = WorkflowState::new(0, 0, space, limits, output);
    let mut store = Store::new(runtime.engine(), state);
    let meter = prepare(runtime, &mut store);
    let described = meter
        .run(runtime.ticker(), async {
            let guest = pre.instantiate_async(&mut store).await?;
            guest.airlock_plugin_definitions().call_describe(&mut store).await
        })
        .await;
    described.map_err(|error| trapped(runtime, &store, "`definitions.describe`", &error))
}

fn prepare(runtime: &Runtime, store: &mut Store<WorkflowState>) -> Arc<Meter> {
    let limits = runtime.limits();
    let meter = Meter::new(limits.activation_cpu);
    store.limiter(|state| &mut state.space);
    store.set_hostcall_fuel(hostcall_fuel(limits));
    meter.install(store);
    meter
}

fn trapped(
    runtime: &Runtime,
    store: &Store<WorkflowState>,
    who: &str,
    error: &wasmtime::Error,
) -> GuestError {
    if let Some(fault) = runtime.host_fault(error) {
        return fault;
    }
    let state = store.data();
    GuestError::Trapped(explain(
        error,
        &Circumstances {
            who,
            stderr: &state.output.finish(),
            refused: state.space.refused(),
            payload_bytes: state.payload_bytes,
            out_of_time: WORKFLOW_OUT_OF_TIME,
        },
    ))
}

#[async_trait]
impl WorkflowInstance for Instance {
    async fn activate(&mut self, activation: Activation<'_>) -> Result<Vec<Command>, GuestError> {
        if std::mem::replace(&mut self.broken, true) {
            let name = &self.name;
            return Err(GuestError::Host(format!(
                "the instance of workflow {name:?} went wrong before and must be built again by replay"
            )));
        }
        let state = self.store.data_mut();
        state.now_ms = activation.now_ms;
        state.output.silence(activation.replaying);
        self.meter.reset();
        self.store.set_epoch_deadline(1);
        let turn = wire::activation_to_wit(activation);
        let workflows = self.guest.instance();
        let commands = self
            .meter
            .run(self.runtime.ticker(), workflows.call_activate(&mut self.store, self.workflow, &turn))
            .await
            .map_err(|error| {
                trapped(&self.runtime, &self.store, &format!("workflow {:?}", self.name), &error)
            })?;
        let commands =
            wire::commands(commands, self.runtime.limits()).map_err(|error| GuestError::Invalid(error.0))?;
        self.broken = false;
        Ok(commands)
    }

    async fn query(&mut self, name: &str, input: &Json) -> Result<Outcome, GuestError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(GuestError::Host("the instance went wrong before and must be built again".into()));
        }
        let state = self.store.data_mut();
        // A question leaves no trace: what it draws is drawn again.
        let random = state.random.clone();
        state.output.silence(false);
        self.meter.reset();
        self.store.set_epoch_deadline(1);
        let workflows = self.guest.instance();
        let (handler, question) = (name.to_owned(), input.as_str().to_owned());
        let answer = self
            .meter
            .run(
                self.runtime.ticker(),
                workflows.call_query(&mut self.store, self.workflow, &handler, &question),
            )
            .await
            .map_err(|error| {
                trapped(
                    &self.runtime,
                    &self.store,
                    &format!("query {name:?} of workflow {:?}", self.name),
                    &error,
                )
            })?;
        self.store.data_mut().random = random;
        let answer =
            wire::answer(answer, self.runtime.limits()).map_err(|error| GuestError::Invalid(error.0))?;
        self.broken = false;
        Ok(answer)
    }

    fn held_bytes(&self) -> u64 {
        self.store.data().space.held()
    }
}
