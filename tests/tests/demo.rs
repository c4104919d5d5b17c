//! The first command of the README.

use std::path::Path;

use airlock_tests::{binary, root, run};

#[test]
fn the_demo_shows_what_it_says() {
    binary();
    let script = root().join("tests/demo.sh");
    let output = run(Path::new("bash"), &[script.to_str().expect("a path")], &[], "");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    for line in ["recorded each of its 27 steps once", "now everything is stopped"] {
        assert!(out.contains(line), "'{line}' is missing:\n{out}");
    }
}
