//! Targets of fuzzing: the component of a plugin, from its first byte to its definition, and its policy file.

use std::{sync::Arc, time::Duration};

use airlock_engine::Digest;
use airlock_fuzz::{Fuzz, Judged, Verdict, promised};
use proptest::prelude::*;
use wasmtime::component::Component;

use crate::{
    anatomy::Anatomy,
    config::{Limits, PoolSize},
    plugin::{Rejection, check_header, load},
    policy::{Mode, Policy},
    runtime::Runtime,
};

/// What a plugin with one activity is made of; its exports trap but for `describe`.
fn plugin() -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    let mut module = wat::parse_str(include_str!("../tests/fuzz/plugin.wat")).unwrap();
    wit_component::embed_component_metadata(
        &mut module,
        &resolve,
        world,
        wit_component::StringEncoding::UTF8,
    )
    .unwrap();
    wit_component::ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// The text of a component in which something is repeated that the anatomy counts.
fn component() -> impl Strategy<Value = Vec<u8>> {
    let repeated = |text: &'static str| (0..400_usize).prop_map(move |times| text.repeat(times));
    let function = prop_oneof![
        repeated("(drop (i32.const 1))"),
        repeated("(block (br 0))"),
        repeated("(local i32 i64)"),
        (0..400_usize).prop_map(|depth| format!("{}{}", "(block ".repeat(depth), ")".repeat(depth))),
        (0..400_usize)
            .prop_map(|targets| format!("(block (br_table {} (i32.const 0)))", "0 ".repeat(targets + 1))),
        Just("(loop (br 0))".to_owned()),
        Just("unreachable".to_owned()),
    ];
    let module = (function, 0..4_usize).prop_map(|(body, more)| {
        let more = "(memory 1) (table 1 funcref) (global i32 (i32.const 0))".repeat(usize::from(more == 1));
        format!("(core module {more} (func {body}))")
    });
    let part = prop_oneof![
        4 => module,
        1 => Just("(type (record (field \"a\" u32)))".to_owned()),
        1 => Just("(import \"wasi:http/types@0.2.0\" (instance))".to_owned()),
        1 => Just("(import \"a\" (core module))".to_owned()),
        1 => Just("(export \"x\" (type 0))".to_owned()),
    ];
    let parts = part.prop_recursive(6, 12, 3, |inner| {
        prop::collection::vec(inner, 0..3).prop_map(|parts| format!("(component {})", parts.join(" ")))
    });
    // What does not fit together is no component: it is tried as the text that it is.
    parts.prop_map(|text| wat::parse_str(format!("(component {text})")).unwrap_or_else(|_| text.into_bytes()))
}

/// Everything that becomes of a file of the plugin folder, within this process.
fn loaded(runtime: &Runtime, tokio: &tokio::runtime::Runtime, bytes: &[u8]) -> Result<(), Rejection> {
    check_header(bytes)?;
    let anatomy = Anatomy::of(bytes).map_err(Rejection::Malformed)?;
    anatomy.check().map_err(|excess| Rejection::TooIntricate(excess.to_string()))?;
    let component = Component::from_binary(runtime.engine(), bytes)
        .map_err(|error| Rejection::Malformed(error.root_cause().to_string()))?;
    let plugin = tokio.block_on(load(runtime, &component, Digest([0; 32]), "fuzz".into()))?;
    assert_eq!(plugin.name().as_ref(), "fuzz");
    Ok(())
}

#[test]
fn fuzz_whatever_the_bytes_of_a_component_are_it_is_loaded_or_rejected_with_a_sentence() {
    let pool = PoolSize { workflow_instances: 1, running_activities: 1, ..PoolSize::default() };
    let runtime = Runtime::new(&pool, &Limits::default(), 1 << 30).unwrap();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Fuzz::new("components", env!("CARGO_MANIFEST_DIR"))
        .base([plugin()])
        .grammar(component)
        .words([
            &b"\0asm\x0d\0\x01\0"[..],
            b"\0asm\x01\0\0\0",
            b"\xff\xff\xff\xff\x0f",
            b"\x02\x40",
            b"\x0b",
            b"\x0e",
            b"airlock:plugin/",
        ])
        .longest(24 << 10)
        // A guest that does not say what it holds is stopped after a second.
        .time(Duration::from_secs(2))
        .memory(512 << 20)
        .run(move |bytes| match loaded(&runtime, &tokio, bytes) {
            Ok(()) => Ok(Verdict::Used),
            Err(Rejection::Host(why)) => Err(format!("it is called the host's fault: {why}")),
            Err(rejection) => Ok(Verdict::Refused(rejection.to_string())),
        });
}

/// Marks what must not be told of a policy file.
const CANARY: &str = "hunter2Xk";

fn granted(limits: &Limits, input: &[u8]) -> Judged {
    let Ok(text) = std::str::from_utf8(input) else {
        return Ok(Verdict::Refused("a file that is no text is refused before".into()));
    };
    let policy = match Policy::parse(text, limits) {
        Ok(policy) => policy,
        Err(told) => {
            promised!(told.starts_with("line ") && told.len() < 300, "told: {told}");
            promised!(!told.contains(CANARY) && !told.chars().any(char::is_control), "told: {told:?}");
            return Ok(Verdict::Refused(told));
        }
    };
    promised!(
        (1 << 20..=limits.memory_ceiling_bytes).contains(&policy.memory_bytes),
        "{} bytes",
        policy.memory_bytes
    );
    promised!(!policy.activity_cpu.is_zero(), "no time");
    for (name, value) in &policy.env {
        let is_variable = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
        promised!(is_variable, "the variable {name:?}={value:?}");
    }
    for dir in &policy.dirs {
        let is_inside = dir.guest.starts_with('/') && !dir.guest.split('/').any(|part| part == "..");
        promised!(is_inside && dir.host.is_absolute(), "{dir:?}");
        promised!(
            text.contains("rw") || text.contains('\\') || dir.mode == Mode::ReadOnly,
            "nobody granted to write"
        );
    }
    Ok(Verdict::Used)
}

/// Policies with the keys that there are, and values of every type.
fn policy() -> impl Strategy<Value = Vec<u8>> {
    let value = || {
        prop::sample::select(vec![
            "'/'",
            "\"/reports\"",
            "'ro'",
            "'rw'",
            "64",
            "0",
            "-1",
            "0x40",
            "1_000",
            "1e3",
            "true",
            "[]",
            "{}",
            "1979-05-27",
            "'hunter2Xk'",
            "\"\"\"hunter2Xk\"\"\"",
            "9999999999",
            "99999999999999999999",
            "[[1]]",
            "{ a = 'hunter2Xk' }",
        ])
    };
    let key = prop::sample::select(vec![
        "A",
        "host",
        "guest",
        "mode",
        "memory_mb",
        "activity_cpu_ms",
        "'hunter2Xk='",
        "a.b",
        "\"\"",
        "env.X",
        "limits.memory_mb",
    ]);
    let line = prop_oneof![
        3 => (key, value()).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => prop::sample::select(vec!["[env]", "[[dirs]]", "[limits]", "[limits.x]", "[[env]]", "# hunter2Xk", "[[dirs]]\nhost = '/'\nguest = '/x'\nmode = 'ro'"])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(line, 0..10).prop_map(|lines| lines.join("\n").into_bytes())
}

#[test]
fn fuzz_a_policy_file_grants_what_may_be_granted_or_is_refused_by_place_without_its_text() {
    let limits = Arc::new(Limits::default());
    Fuzz::new("policies", env!("CARGO_MANIFEST_DIR"))
        .grammar(policy)
        .words([
            "[env]\n",
            "[[dirs]]\n",
            "[limits]\n",
            "host = '/'\n",
            "guest = '/x'\n",
            "mode = 'rw'\n",
            "memory_mb = ",
            "'''",
            "\"\"\"",
            "hunter2Xk",
            " = ",
        ])
        .run(move |input| granted(&limits, input));
}
