//! What `make test` says at its end.

use std::fs;

use airlock_tests::{root, run};

fn failures(log: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log");
    fs::write(&file, log).expect("writes");
    let script = root().join("tests/failures.sh").display().to_string();
    let output = run("bash".as_ref(), &[&script, &file.display().to_string()], &[], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn failing_tests_are_listed_with_their_targets() {
    let log = "
     Running unittests src/lib.rs (target/release/deps/airlock_api-0123abcd)

test a::b ... ok

test result: ok. 1 passed; 0 failed

     Running tests/rest.rs (target/release/deps/rest-99aabb)

test x ... FAILED
test y ... ok
test z ... what a server says in betweenFAILED

failures:

---- x stdout ----
    not the name of a test

failures:
    x
    z

test result: FAILED. 1 passed; 2 failed

error: test failed, to rerun pass `-p airlock-tests --test rest`
     Running tests/boom.rs (target/release/deps/boom-99aabb)

test w ...
error: test failed, to rerun pass `-p airlock-tests --test boom`

Caused by:
  process didn't exit successfully: `boom` (signal: 6, SIGABRT: process abort signal)
     Running unittests src/main.rs (target/release/deps/airlock-0123abcd)

failures:
    settings::a_test

test result: FAILED. 1 passed; 1 failed

   Doc-tests airlock_sdk

failures:
    src/lib.rs - map (line 3)

test result: FAILED. 0 passed; 1 failed

error: 4 targets failed:
    `-p airlock-tests --test rest`
";
    let expected = [
        "",
        "  tests/rest.rs: x",
        "  tests/rest.rs: z",
        "  tests/boom.rs: ended without a result",
        "  airlock: settings::a_test",
        "  doc tests of airlock_sdk: src/lib.rs - map (line 3)",
    ];
    assert_eq!(failures(log).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn what_does_not_compile_is_told_with_the_compilers_errors() {
    let log =
        "   Compiling x v0.1.0\nerror[E0425]: cannot find\n  --> x\n\nerror: could not compile `x` (lib)\n";
    let expected = ["", "  error[E0425]: cannot find", "  error: could not compile `x` (lib)"];
    assert_eq!(failures(log).lines().collect::<Vec<_>>(), expected);
}
