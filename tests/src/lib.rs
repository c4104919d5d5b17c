//! What the end-to-end tests share: a daemon that can be killed, an HTTP client, servers that end with the test.

mod canary;
mod client;
mod clock;
mod component;
mod daemon;
mod process;
mod service;

pub use airlock_patience::{LIMIT, eventually};
pub use canary::Canary;
pub use client::Client;
pub use clock::Clock;
pub use component::{conditions, marked};
pub use daemon::{Daemon, Setup};
pub use process::{Server, free_port, run};
pub use service::{Fault, Service, text_result, tools};

use std::path::{Path, PathBuf};

/// The workspace's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// The binary under test; `make test` builds it.
pub fn binary() -> PathBuf {
    let path = root().join("target/release/airlock");
    assert!(path.exists(), "{} is missing: run `cargo build --release -p airlock`", path.display());
    path
}

/// A compiled guest or example plugin, by the name of its crate.
pub fn guest(name: &str) -> PathBuf {
    compiled("guests", name)
}

/// A version of the guest `versioned`: `v1` or `v2`.
pub fn version(version: &str) -> PathBuf {
    compiled(version, "versioned")
}

fn compiled(target: &str, name: &str) -> PathBuf {
    let file = format!("{}.wasm", name.replace('-', "_"));
    let path = root().join("target").join(target).join("wasm32-wasip2/release").join(file);
    assert!(path.exists(), "{} is missing: the build script makes it", path.display());
    path
}

/// A folder or program that `tests/setup.sh` installs.
pub fn dependency(path: &str) -> PathBuf {
    let full = root().join("target/test-deps").join(path);
    assert!(full.exists(), "{} is missing: run `bash tests/setup.sh`", full.display());
    full
}
