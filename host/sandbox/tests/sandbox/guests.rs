//! Components for tests: the hostile guest, built from source, and small ones written by hand.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve, WorldId};

/// The hostile guest (`tests/guests/hostile`).
pub fn hostile() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| build("first", &[]))
}

/// Another version of it: the same names, other bytes.
pub fn hostile_second() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| build("second", &["--features", "second"]))
}

fn build(target: &str, options: &[&str]) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/hostile");
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guests").join(target);
    let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .current_dir(folder)
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target)
        .args(options)
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(
        status.success(),
        "the hostile guest does not build: `rustup target add wasm32-wasip2` adds its target"
    );
    fs::read(target.join("wasm32-wasip2/release/hostile.wasm")).unwrap()
}

fn world() -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    (resolve, world)
}

fn encode(mut module: Vec<u8>, resolve: &Resolve, world: WorldId) -> Vec<u8> {
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// A plugin in which every export traps at once.
pub fn traps_everywhere() -> Vec<u8> {
    let (resolve, world) = world();
    let module =
        wit_component::dummy_module(&resolve, world, ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync));
    encode(module, &resolve, world)
}

/// A plugin that holds the activity `a`, whose `run` has this body (WAT; its parameter `$call` points to the call), beside
/// these further parts of the module. It returns a pointer to a result.
pub fn by_hand(parts: &str, run: &str) -> Vec<u8> {
    let (resolve, world) = world();
    encode(module("", parts, run), &resolve, world)
}

fn module(imports: &str, parts: &str, run: &str) -> Vec<u8> {
    // The definition: no workflows, and one activity at 64 with the name at 48 and the schema at 50. The offsets are those
    // of the canonical ABI: name 0, description 8, input-schema 20, output-schema 28, options 40, slots 176; 184 in all.
    let text = format!(
        r#"(module
            {imports}
            (memory (export "memory") 1)
            (data (i32.const 16) "\00\00\00\00\00\00\00\00\40\00\00\00\01\00\00\00")
            (data (i32.const 48) "atrue")
            (data (i32.const 64) "\30\00\00\00\01\00\00\00")
            (data (i32.const 84) "\31\00\00\00\04\00\00\00")
            (data (i32.const 300) "null")
            (data (i32.const 320) "\00\00\00\00\2c\01\00\00\04\00\00\00")
            (global $top (mut i32) (i32.const 1024))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
                (global.set $top (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            (func (export "airlock:plugin/definitions@0.3.0#describe") (result i32) (i32.const 16))
            (func (export "airlock:plugin/workflows@0.3.0#[constructor]instance")
                (param i32 i32 i32 i32 i32 i32 i32 i32 i64 i64 i32 i32 i32 i32) (result i32) unreachable)
            (func (export "airlock:plugin/workflows@0.3.0#[method]instance.activate")
                (param i32 i64 i32 i32 i32 i32 i32 i64 i64 i32) (result i32) unreachable)
            (func (export "airlock:plugin/workflows@0.3.0#[method]instance.query")
                (param i32 i32 i32 i32 i32) (result i32) unreachable)
            {parts}
            (func (export "airlock:plugin/activities@0.3.0#run")
                (param $activity i32) (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                {run}
                (i32.const 320)))"#
    );
    wat::parse_str(text).unwrap()
}

/// A component that is no plugin: it exports nothing of airlock.
pub fn stranger() -> Vec<u8> {
    wat::parse_str("(component)").unwrap()
}

/// A plugin that also imports a function `f` of this interface, `package:name/interface@version`.
pub fn wants(import: &str) -> Vec<u8> {
    let (package, interface) = import.split_once('/').unwrap();
    let (interface, version) = interface.split_once('@').unwrap();
    let mut resolve = Resolve::default();
    resolve
        .push_str(
            "extra.wit",
            &format!("package {package}@{version}; interface {interface} {{ f: func(); }}"),
        )
        .unwrap();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let (airlock, _) = resolve.push_path(wit).unwrap();
    let world = format!(
        "package test:wants; world wants {{ include airlock:plugin/plugin@0.3.0; import {import}; }}"
    );
    resolve.push_str("wants.wit", &world).unwrap();
    let world = resolve.select_world(&[airlock], Some("test:wants/wants")).unwrap();
    encode(module(&format!("(import {import:?} \"f\" (func))"), "", ""), &resolve, world)
}
