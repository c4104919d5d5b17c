//! What the daemon is built from: where it comes from and under which licences.
//!
//! `cargo metadata` says it of the crates that this platform takes, tests and build scripts included. Known weaknesses are
//! not looked for here, since their list is on the internet: `make audit` does that.

use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

/// What may be given on in a binary with no more than its text beside it.
const LICENCES: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// Whether one may choose licences of the list only.
fn is_free(licence: &str) -> Result<bool, String> {
    let expression = Expression::parse_mode(licence, ParseMode::LAX).map_err(|error| error.to_string())?;
    Ok(expression.evaluate(|licence| LICENCES.contains(&licence.to_string().as_str())))
}

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform"])
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON")
}

#[test]
fn everything_comes_from_the_registry_under_a_licence_that_lets_it_be_given_on() {
    let metadata = metadata();
    let members: Vec<&Value> = metadata["workspace_members"].as_array().expect("members").iter().collect();
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 300, "{} packages", packages.len());
    let wrong = packages.iter().filter(|package| !members.contains(&&package["id"])).filter_map(|package| {
        let name = format!("{} {}", package["name"], package["version"]);
        if !package["source"].as_str().is_some_and(|source| source.starts_with("registry+")) {
            return Some(format!("{name} does not come from the registry: {}", package["source"]));
        }
        let Some(licence) = package["license"].as_str() else {
            return Some(format!("{name} names no licence"));
        };
        match is_free(licence) {
            Ok(true) => None,
            Ok(false) => Some(format!("{name} is under {licence}")),
            Err(error) => Some(format!("{name} is under {licence}: {error}")),
        }
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_licence_that_asks_for_more_is_found_out() {
    for (licence, expected) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only", false),
        ("MIT AND GPL-3.0-only", false),
        ("MIT OR GPL-3.0-only", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
    ] {
        assert_eq!(is_free(licence), Ok(expected), "{licence}");
    }
    assert!(is_free("whatever the author likes").is_err());
}
