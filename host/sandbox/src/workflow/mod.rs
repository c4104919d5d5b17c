//! Workflows: an instance that lives between turns, and imports nothing that can answer differently twice.

mod host;
mod instance;
mod io;
mod random;
pub(crate) mod state;
mod wasi;

pub(crate) use instance::{create, describe};

use wasmtime::component::Linker;

/// Gives a workflow its imports.
pub(crate) fn link(linker: &mut Linker<state::WorkflowState>) -> wasmtime::Result<()> {
    wasi::link(linker)?;
    crate::runtime::link_plugin_imports(linker)
}
