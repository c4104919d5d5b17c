//! Why a sandbox could not be opened.

use std::{io, path::PathBuf};

/// The sandbox cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The plugin folder cannot be made or read.
    #[error("cannot use the plugin folder {path}: {source}; name a folder that the daemon's user can read", path = path.display())]
    PluginDir {
        /// Which folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The data folder cannot be written.
    #[error("cannot write to the data folder {path}: {source}; name a folder that the daemon's user owns", path = path.display())]
    DataDir {
        /// Which folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// wasmtime does not run here, or does not take the limits.
    #[error("cannot start the WebAssembly engine: {0}; check the sandbox's limits in the configuration")]
    Engine(String),
}
