//! The one place with `unsafe`: compiled code from disk is mapped and will run.

use std::path::Path;

use wasmtime::{Engine, component::Component};

/// Maps code that [`super::CompiledCode`] wrote.
///
/// The caller has checked that the file is the one that was written: its SHA-256 is the noted one.
#[allow(unsafe_code)]
pub(super) fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: `Component::deserialize_file` asks for two things. The contents must come from wasmtime's compiler: they
    // are what `Engine::precompile_component` gave, in this process or in one of the same program (`compiler::process`),
    // which had no other way to write than this file and has ended. The file lies in a folder with mode 0700, and its
    // digest, taken by this process after that end, has been noted or compared. And the file must not change while it is
    // mapped: such files are made under another name and moved into place, never written again, and removing one leaves
    // its mapping intact. Version and settings of the engine are checked by wasmtime itself.
    unsafe { Component::deserialize_file(engine, path) }
}
