//! Builds the guests of the tests and the example plugins for wasm32-wasip2.

use std::{env, path::Path, process::Command};

const GUESTS: &[&str] = &[
    "tests/guests/bench",
    "tests/guests/hostile",
    "tests/guests/schemas",
    "tests/guests/echo",
    "tests/guests/durable",
    "tests/guests/shapes",
    "plugins/hello",
    "plugins/github-issues",
    "plugins/order-saga",
    "plugins/approval",
];

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    for folder in ["guest-sdk/src", "guest-sdk/macros/src", "guest-sdk/Cargo.toml", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    for guest in GUESTS {
        build(root, guest, &[], "guests");
    }
    for version in ["v1", "v2"] {
        build(root, "tests/guests/versioned", &["--no-default-features", "--features", version], version);
    }
}

/// Compiles one crate into a target folder of its own under `target/`.
fn build(root: &Path, guest: &str, options: &[&str], target: &str) {
    let folder = root.join(guest);
    println!("cargo::rerun-if-changed={}", folder.join("src").display());
    println!("cargo::rerun-if-changed={}", folder.join("Cargo.toml").display());
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo says where it is"));
    cargo
        .current_dir(&folder)
        .args(["build", "--release", "--locked", "--target", "wasm32-wasip2"])
        .args(options)
        .env("CARGO_TARGET_DIR", root.join("target").join(target));
    // What this build was told about the host's code does not hold for guests.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let about_us = name.starts_with("CARGO_") && name != "CARGO_HOME" || name.starts_with("RUSTC");
        if about_us && name != "CARGO_TARGET_DIR" {
            cargo.env_remove(&name);
        }
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the guest {guest} does not build: is the target there? `make target` adds it");
}
