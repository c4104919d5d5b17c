#!/usr/bin/env bash
# Reads what `cargo test --no-fail-fast` has said, and lists the tests that failed, each with its target; without any, the
# last errors of cargo itself. usage: failures.sh LOG
set -euo pipefail
awk '
    # "Running tests/rest.rs (target/…)", "Running unittests src/lib.rs (target/release/deps/airlock_api-…)", "Doc-tests x"
    $1 == "Running" { target = $2 == "unittests" ? $NF : $2; sub(/.*\/deps\//, "", target); sub(/-[0-9a-f]+\)$/, "", target) }
    $1 == "Doc-tests" { target = "doc tests of " $2 }
    # The list that ends the output of a target; the details before it begin with the same word.
    /^failures:$/ { count = 0; next }
    /^    [^ ]/ { names[++count] = substr($0, 5); next }
    /^test result: FAILED/ { for (i = 1; i <= count; i++) { print "  " target ": " names[i]; told++ } told_of[target] = 1 }
    /^----|^test result/ { count = 0 }
    # What ended without a result (a signal), and what did not compile.
    /^error: test failed, to rerun/ && !(target in told_of) { print "  " target ": ended without a result"; told++ }
    /^error/ { errors[++last] = $0 }
    END { if (!told) for (i = last > 5 ? last - 4 : 1; i <= last; i++) print "  " errors[i] }
' "$1" | sed '1s/^/\n/'
