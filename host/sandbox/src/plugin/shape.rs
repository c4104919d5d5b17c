//! Whether a component has the exports of a plugin, and asks for nothing that is not given.

use semver::{Version, VersionReq};
use wasmtime::{Engine, component::Component};

use super::rejection::Rejection;

/// The version of `wit/` (its package's version).
const VERSION: &str = "0.3.0";

/// The version of WASI that wasmtime gives.
const WASI_VERSION: &str = "0.2.0";

const PACKAGE: &str = "airlock:plugin/";

/// What a plugin must export.
const EXPORTS: [&str; 3] = ["definitions", "workflows", "activities"];

/// What a plugin may import, without versions.
const IMPORTS: [&str; 33] = [
    "airlock:plugin/types",
    "airlock:plugin/tools",
    "airlock:plugin/auth",
    "airlock:plugin/events",
    "airlock:plugin/log",
    "airlock:plugin/activity-context",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:sockets/network",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Looks at the first bytes: is it a component at all?
pub(crate) fn check_header(bytes: &[u8]) -> Result<(), Rejection> {
    // The binary format's preamble: magic, then version and layer; layer 1 is a component.
    match bytes {
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(Rejection::CoreModule),
        [0, b'a', b's', b'm', ..] => {
            Err(Rejection::Malformed("its header is of an unknown version".to_owned()))
        }
        _ => Err(Rejection::NotWasm),
    }
}

/// Looks at exports and imports by name. Types are compared when it is linked.
pub(crate) fn check_interfaces(engine: &Engine, component: &Component) -> Result<(), Rejection> {
    let component_type = component.component_type();
    let exports: Vec<&str> = component_type.exports(engine).map(|(name, _)| name).collect();
    let imports: Vec<&str> = component_type.imports(engine).map(|(name, _)| name).collect();
    check_versions(exports.iter().chain(&imports))?;
    let missing: Vec<String> = EXPORTS
        .iter()
        .map(|interface| format!("{PACKAGE}{interface}"))
        .filter(|wanted| !exports.iter().any(|name| interface(name) == wanted))
        .map(|wanted| format!("{wanted}@{VERSION}"))
        .collect();
    if !missing.is_empty() {
        return Err(Rejection::MissingExports(missing));
    }
    let unknown: Vec<String> =
        imports.iter().filter(|name| !is_given(name)).map(|name| (*name).to_owned()).collect();
    if !unknown.is_empty() {
        return Err(Rejection::MissingImports(unknown));
    }
    Ok(())
}

fn check_versions<'a>(names: impl Iterator<Item = &'a &'a str>) -> Result<(), Rejection> {
    for name in names.filter(|name| name.starts_with(PACKAGE)) {
        if version(name).is_some_and(|found| !is_compatible(&found, VERSION)) {
            let found = name.rsplit_once('@').map_or("", |(_, version)| version);
            return Err(Rejection::OtherVersion {
                found: format!("airlock:plugin@{found}"),
                wanted: format!("airlock:plugin@{VERSION}"),
            });
        }
    }
    Ok(())
}

fn version(name: &str) -> Option<Version> {
    name.rsplit_once('@').and_then(|(_, version)| version.parse().ok())
}

/// Whether something built for `found` can be linked with `given`, by the rules of semantic versioning.
fn is_compatible(found: &Version, given: &str) -> bool {
    // The versions of this file are valid; `*` would only make an error of the linker out of one of ours.
    VersionReq::parse(given)
        .unwrap_or(VersionReq::STAR)
        .matches(&Version { patch: u64::MAX, ..found.clone() })
}

fn interface(name: &str) -> &str {
    name.split_once('@').map_or(name, |(interface, _)| interface)
}

fn is_given(name: &str) -> bool {
    let is_ours = name.starts_with(PACKAGE);
    IMPORTS.contains(&interface(name))
        && (is_ours || version(name).is_some_and(|found| is_compatible(&found, WASI_VERSION)))
}
