//! Guest code, run with wasmtime: the plugin folder, the compile cache, the limits, the capability policy and the
//! bindings of `wit/`. [`Sandbox`] implements [`airlock_engine::guests::Guests`].
//!
//! The crate promises:
//! - A guest reaches nothing but what it imports. A workflow's imports answer the same every time; an activity's
//!   WASI is what the operator granted in `NAME.toml` beside the plugin. Nothing comes from the host's environment.
//! - Memory, tables, handles, processor time, stack depth, what crosses the boundary, events and log lines are
//!   limited. A guest that goes over a limit ends; the host and the other guests go on.
//! - What is broken in the plugin folder is rejected with a sentence that says what to do, and disturbs nobody.
//! - Code is compiled once for each digest and engine, also over restarts; in a process of its own, with limits, if the
//!   configuration names a program for it. What cannot be compiled is remembered, and makes nobody else wait.
//! - All guests together hold no more memory than one budget, of which no user has more than half while others wait.
//!
//! It knows nothing of histories, connectors or credentials: it cannot name a secret's type.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    //! Generated from `wit/`.
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "plugin",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "wasi:io/poll": wasmtime_wasi_io::bindings::wasi::io::poll,
            "airlock:plugin/tools.pending": crate::activity::pending::Pending,
        },
    });
}

mod activity;
mod anatomy;
mod compiler;
mod config;
mod error;
mod folder;
#[cfg(test)]
mod fuzz;
mod library;
mod limits;
mod output;
mod plugin;
mod policy;
mod runtime;
mod sandbox;
mod storage;
mod trap;
mod wire;
mod workflow;

pub use compiler::compile_component;
pub use config::{Compiling, Limits, PoolSize, Program, SandboxConfig};
pub use error::SandboxError;
pub use limits::machine::memory;
pub use sandbox::{Sandbox, SandboxStats};

// What targets of fuzzing hold is counted.
#[cfg(test)]
airlock_fuzz::counted!();
