//! Compiling in this process: for tests and tools, which know what they compile. It has no limits and cannot be stopped.

use std::{fs::File, io::Write, sync::Arc};

use wasmtime::Engine;

use super::NotCompiled;

/// The engine whose code it makes.
#[derive(Debug)]
pub(super) struct Within {
    engine: Engine,
}

impl Within {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    pub(super) async fn compile(&self, component: &Arc<Vec<u8>>, mut file: File) -> Result<(), NotCompiled> {
        let (engine, component) = (self.engine.clone(), component.clone());
        let work = move || {
            let code = engine
                .precompile_component(&component)
                .map_err(|error| NotCompiled::Invalid(error.root_cause().to_string()))?;
            file.write_all(&code)
                .map_err(|error| NotCompiled::Host(format!("its code cannot be written: {error}")))
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(NotCompiled::Host(format!("the compiler failed: {error}"))))
    }
}
