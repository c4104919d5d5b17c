#!/usr/bin/env bash
# Gives every reader of what others write inputs for a minute, or for as long as AIRLOCK_FUZZ_SECONDS says, two readers at a
# time; what else is given is for the test program (`--skip NAME`). The programs are those of the other tests: the same
# profile, packages and features.
set -euo pipefail
cd "$(dirname "$0")/.."
export AIRLOCK_FUZZ_SECONDS=${AIRLOCK_FUZZ_SECONDS:-60}
exec cargo test --release --locked --workspace --lib --no-fail-fast -- fuzz_ --test-threads=2 --show-output "$@"
