//! From compiled code to a plugin.

use std::sync::Arc;

use airlock_engine::Digest;
use parking_lot::RwLock;
use wasmtime::component::Component;

use super::{
    Plugin, definition,
    rejection::Rejection,
    shape,
    sides::{Activities, Workflows},
};
use crate::{
    bindings::PluginPre,
    runtime::{MEMORIES_PER_COMPONENT, Runtime, TABLES_PER_COMPONENT},
    workflow,
};

/// Bytes of a page of linear memory.
const WASM_PAGE: u64 = 64 << 10;

/// Links the component and asks it what it holds.
pub(crate) async fn load(
    runtime: &Runtime,
    component: &Component,
    digest: Digest,
    name: Arc<str>,
) -> Result<Plugin, Rejection> {
    shape::check_interfaces(runtime.engine(), component)?;
    let initial_bytes = check_demands(runtime, component)?;
    // So that the first call does not wait for it.
    component
        .initialize_copy_on_write_image()
        .map_err(|error| Rejection::Host(format!("no memory image can be made: {}", error.root_cause())))?;
    let wrong = |error: wasmtime::Error| Rejection::WrongTypes(format!("{error:#}"));
    let activities =
        runtime.activities().instantiate_pre(component).and_then(Activities::new).map_err(wrong)?;
    let linked = runtime.workflows().instantiate_pre(component).map_err(wrong)?;
    let workflows = Workflows::new(linked.clone()).map_err(wrong)?;
    let whole = PluginPre::new(linked).map_err(wrong)?;
    let described = workflow::describe(runtime, &whole, name.clone())
        .await
        .map_err(|error| Rejection::Describe(error.to_string()))?;
    let definition = definition::check(described, runtime.limits())?;
    Ok(Plugin {
        digest,
        name: RwLock::new(name),
        definition: Arc::new(definition),
        initial_bytes,
        activities,
        workflows,
    })
}

/// What one instance would need, against what one instance may have. Gives the bytes of memory that it begins with, or
/// somewhat less if it has several memories.
fn check_demands(runtime: &Runtime, component: &Component) -> Result<u64, Rejection> {
    let limits = runtime.limits();
    let Some(required) = component.resources_required() else {
        return Err(Rejection::WrongTypes("it takes core modules as imports".to_owned()));
    };
    // wasmtime counts this one in pages, against its documentation.
    let bytes = required.max_initial_memory_size.map_or(0, |pages| pages.saturating_mul(WASM_PAGE));
    if bytes > limits.memory_bytes as u64 {
        return Err(Rejection::TooDemanding(format!(
            "{} KB of memory at its start, and a guest has {} KB",
            bytes >> 10,
            limits.memory_bytes >> 10
        )));
    }
    if required.num_memories > MEMORIES_PER_COMPONENT || required.num_tables > TABLES_PER_COMPONENT {
        return Err(Rejection::TooDemanding(format!(
            "{} memories and {} tables, and a guest has at most {MEMORIES_PER_COMPONENT} and {TABLES_PER_COMPONENT}",
            required.num_memories, required.num_tables
        )));
    }
    if let Some(elements) = required.max_initial_table_size
        && elements > limits.table_elements as u64
    {
        return Err(Rejection::TooDemanding(format!(
            "a table of {elements} elements, and a guest has {}",
            limits.table_elements
        )));
    }
    Ok(bytes)
}
