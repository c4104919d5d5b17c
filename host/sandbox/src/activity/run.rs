//! One attempt of an activity.

use std::sync::Arc;

use airlock_engine::{
    Json,
    guests::{ActivityCall, ActivityError, ActivityHost, GuestError},
};
use wasmtime::Store;

use super::state::ActivityState;
use crate::{
    config::Limits,
    limits::{meter::Meter, space::Space},
    output::{Origin, Output},
    plugin::Plugin,
    policy::Policy,
    runtime::Runtime,
    trap::{ACTIVITY_OUT_OF_TIME, Circumstances, explain},
    wire,
};

/// What an attempt needs beside the plugin.
pub(crate) struct Attempt {
    pub(crate) call: ActivityCall,
    pub(crate) host: Arc<dyn ActivityHost>,
    pub(crate) policy: Arc<Policy>,
}

/// Runs it in an instance of its own.
pub(crate) async fn run(runtime: &Runtime, plugin: &Plugin, attempt: Attempt) -> Result<Json, ActivityError> {
    let Attempt { call, host, policy } = attempt;
    let limits = runtime.limits();
    let meter = Meter::new(policy.activity_cpu);
    let output = Output::new(
        Origin {
            plugin: plugin.name(),
            execution: call.execution_id.as_str().to_owned(),
            part: call.activity.clone(),
        },
        limits,
    );
    let share = runtime
        .budget()
        .admit(&call.holder, plugin.initial_bytes())
        .await
        .map_err(|no_room| GuestError::Host(no_room.to_string()))?;
    let space = Space::new(policy.memory_bytes, limits.table_elements, runtime.budget(), share);
    let state = ActivityState::new(host, limits.clone(), policy, space, output.clone()).map_err(|error| {
        GuestError::Host(format!("a folder granted to the plugin cannot be opened: {}", error.root_cause()))
    })?;
    let mut store = Store::new(runtime.engine(), state);
    store.limiter(|state| &mut state.space);
    store.set_hostcall_fuel(hostcall_fuel(limits));
    meter.install(&mut store);

    let call = wire::call_to_wit(call);
    let result = meter
        .run(runtime.ticker(), async {
            let activities = plugin.activities().instantiate(&mut store).await?;
            activities.call_run(&mut store, &call).await
        })
        .await;
    let stderr = output.finish();
    match result {
        Ok(Ok(text)) => {
            let what = "the result of the activity";
            Ok(wire::json(what, text, limits).map_err(|error| GuestError::Invalid(error.0))?)
        }
        Ok(Err(failure)) => {
            let failure = wire::failure(failure, limits).map_err(|error| GuestError::Invalid(error.0))?;
            Err(ActivityError::Failed(failure))
        }
        Err(error) => {
            if let Some(fault) = runtime.host_fault(&error) {
                return Err(fault.into());
            }
            let explanation = explain(
                &error,
                &Circumstances {
                    who: &format!("activity {:?}", call.activity),
                    stderr: &stderr,
                    refused: store.data().space.refused(),
                    payload_bytes: limits.payload_bytes,
                    out_of_time: ACTIVITY_OUT_OF_TIME,
                },
            );
            Err(GuestError::Trapped(explanation).into())
        }
    }
}

/// What a guest may hand over in one call: a payload and the small things around it.
pub(crate) fn hostcall_fuel(limits: &Limits) -> usize {
    limits.payload_bytes.saturating_add(1 << 20)
}
