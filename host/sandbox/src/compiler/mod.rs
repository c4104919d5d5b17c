//! Compiling components, apart from everything else.
//!
//! What is compiled was written by strangers, and compiling takes time and memory that nobody can tell beforehand. So it
//! happens in a process of its own ([`child`]), which gets the bytes on its standard input and writes the code to the file
//! that is its standard output: it has no folder, no environment, limits of memory and of processor time, and is killed when
//! nobody waits for it any more. Several compile beside each other ([`lanes`]): what takes long makes nobody wait.
//!
//! A compiler knows neither the plugin folder nor where code is kept.

mod child;
mod lanes;
mod process;
mod within;

use std::{fs::File, sync::Arc};

use serde::{Deserialize, Serialize};
use wasmtime::Engine;

use self::{child::Child, lanes::Lanes, within::Within};
use crate::config::Compiling;

pub use process::compile_component;

/// Why there is no code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotCompiled {
    /// It is not a valid component.
    Invalid(String),
    /// It takes more than there is for one component, or the compiler fails on it: it will again.
    TooDemanding(String),
    /// Not the component's fault.
    Host(String),
}

/// Compiles, a few at a time.
#[derive(Debug)]
pub(crate) struct Compiler {
    lanes: Lanes,
    way: Way,
    limits: String,
}

#[derive(Debug)]
enum Way {
    Child(Child),
    Within(Within),
}

impl Compiler {
    /// A compiler for what `engine` runs, which names itself by `compatibility`.
    pub(crate) fn new(config: &Compiling, engine: &Engine, compatibility: &str, pooled: bool) -> Self {
        let limits = config.to_string();
        let (way, patience) = match &config.program {
            Some(_) => (Way::Child(Child::new(config, compatibility, pooled)), Some(config.patience)),
            // It cannot be stopped, so nothing is gained by starting anew.
            None => (Way::Within(Within::new(engine.clone())), None),
        };
        Self { lanes: Lanes::new(config.at_once, patience), way, limits }
    }

    /// Names the limits, so that what met them is tried again under others.
    pub(crate) fn limits(&self) -> &str {
        &self.limits
    }

    /// Compiles a component into the file that `code` makes. Dropping the future stops it.
    pub(crate) async fn compile<F>(&self, component: &Arc<Vec<u8>>, code: F) -> Result<(), NotCompiled>
    where
        F: Fn() -> std::io::Result<File> + Send + Sync,
    {
        let work = || async {
            let code = code().map_err(|error| {
                NotCompiled::Host(format!("its code cannot be written to the data folder: {error}"))
            })?;
            match &self.way {
                Way::Child(child) => child.compile(component, code).await,
                Way::Within(within) => within.compile(component, code).await,
            }
        };
        self.lanes.run(work).await
    }
}
