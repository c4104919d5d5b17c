//! What is kept in the data folder: components by digest, for executions that are pinned to them, and their compiled code.

mod compiled;
mod components;
mod durable;
mod precompiled;

pub(crate) use {
    compiled::CompiledCode,
    components::{Components, digest_of},
};
