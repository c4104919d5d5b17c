//! The client side of the MCP conformance suite, against a thin command that is built on the connectors
//! (`host/connectors/examples/conformance.rs`).

use std::process::Command;

use airlock_tests::{LIMIT, dependency, root, run};

/// How the scenarios of an extension begin that airlock has not.
const SKILLS: &str = "sep-2640-client-";

#[test]
fn every_scenario_of_the_mcp_conformance_suite_passes_or_is_listed_with_its_reason() {
    let built = Command::new(env!("CARGO"))
        // The features of the whole workspace, so that nothing is built a second time.
        .args(["build", "--release", "--locked", "--workspace", "--example", "conformance"])
        .current_dir(root())
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the command does not build");
    let suite = dependency("conformance");
    let program = suite.join("node_modules/@modelcontextprotocol/conformance/dist/index.js");
    let results = tempfile::tempdir().expect("a temporary folder");
    let arguments = [
        program.to_str().expect("a path in UTF-8"),
        "client",
        "--command",
        &root().join("target/release/examples/conformance").display().to_string(),
        "--suite",
        "all",
        "--output-dir",
        &results.path().display().to_string(),
        "--expected-failures",
        &root().join("tests/conformance.yml").display().to_string(),
        "--timeout",
        &LIMIT.as_millis().to_string(),
        "--verbose",
    ];
    let mut output = run(&suite.join("node"), &arguments, &[], "");
    if !output.status.success() {
        // The suite itself measures when a client connects again, within half a second, while all its scenarios run at once.
        println!("once more, since it counts on speed:\n{}", String::from_utf8_lossy(&output.stdout));
        output = run(&suite.join("node"), &arguments, &[], "");
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let summary = out.split_once("=== SUITE SUMMARY ===").map_or(&*out, |(_, summary)| summary);
    println!("{summary}");
    assert!(output.status.success(), "{summary}\n{err}");
    // One that says nothing has not been tried, but for those about skills (SEP-2640), which airlock does not ask for.
    let (skills, all): (Vec<&str>, Vec<&str>) =
        summary.lines().filter(|line| line.starts_with('✓')).partition(|line| line.contains(SKILLS));
    assert!(all.len() >= 40, "{} scenarios passed:\n{summary}", all.len());
    assert!(all.iter().all(|line| !line.contains(": 0 passed")), "{summary}");
    assert!(skills.iter().all(|line| line.contains(": 0 passed, 0 failed")), "{summary}");
}
