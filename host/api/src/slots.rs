//! The connector slots of workflows, as the caller would find them.

use std::time::Duration;

use airlock_connectors::SlotState;
use airlock_engine::{Extensions, PluginDefinition, Slot, WorkflowDefinition, tools::Mocks};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{ApiState, caller::Caller};

/// So long a server may take when somebody looks at a plugin.
const PATIENCE: Duration = Duration::from_secs(5);

/// So many servers are asked at once.
const AT_ONCE: usize = 8;

/// The slots of all workflows of a plugin. With `ask` the servers are asked whether they answer.
pub(crate) async fn of_plugin(
    state: &ApiState,
    caller: &Caller,
    definition: &PluginDefinition,
    ask: bool,
) -> Vec<Value> {
    let all = definition
        .workflows
        .iter()
        .flat_map(|workflow| workflow.slots.iter().map(move |slot| (workflow, slot)));
    let mut looks = Vec::new();
    for (workflow, slot) in all {
        looks.push(async move {
            let (connectors, who) = (&state.connectors, &caller.principal);
            let found = match ask {
                true => connectors.slot_asked(who, workflow.on_behalf_of, slot, PATIENCE).await,
                false => connectors.slot(who, workflow.on_behalf_of, slot),
            };
            described(workflow, slot, &found)
        });
    }
    stream::iter(looks).buffered(AT_ONCE).collect().await
}

fn described(workflow: &WorkflowDefinition, slot: &Slot, found: &SlotState) -> Value {
    let mut value = json!(found);
    value["workflow"] = workflow.name.as_str().into();
    value["on_behalf_of"] = workflow.on_behalf_of.into();
    value["auto_auth"] = slot.auto_auth.into();
    value
}

/// What will keep the executions of a schedule from working, as far as it is known when it is made.
pub(crate) async fn warnings(
    state: &ApiState,
    caller: &Caller,
    workflow: &str,
    extensions: &Extensions,
) -> Vec<String> {
    let guests = state.engine.guests();
    let Some(digest) = guests.serving(workflow) else { return Vec::new() };
    let Ok(definition) = guests.definition(&digest).await else { return Vec::new() };
    let Some(workflow) = definition.workflow(workflow) else { return Vec::new() };
    let mocked = |slot: &Slot| match &extensions.mocks {
        Mocks::None => false,
        Mocks::All => true,
        Mocks::Connectors(names) => names.contains(&slot.connector),
    };
    let warn = |slot: &Slot| {
        let found = state.connectors.slot(&caller.principal, workflow.on_behalf_of, slot);
        // Mocks need no credential, but a connector. Without auto_auth it is the workflow's own matter.
        let counts = !found.registered || (slot.auto_auth && !mocked(slot));
        found.problem.filter(|_| counts)
    };
    workflow.slots.iter().filter_map(warn).collect()
}
