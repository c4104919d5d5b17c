#!/usr/bin/env bash
# Runs every test to its end, whatever fails on the way, and says at the end what failed.
set -uo pipefail
cd "$(dirname "$0")/.."
logs=target/test-logs
rm -rf "$logs"
mkdir -p "$logs"
failed=()

# One step: a name and a command, whose output goes on to whoever watches and is kept.
step() {
    local name=$1
    shift
    echo "== $name: $*"
    "$@" 2>&1 | tee "$logs/$name.log"
    local status=${PIPESTATUS[0]}
    [ "$status" -eq 0 ] || failed+=("$name:$(bash tests/failures.sh "$logs/$name.log" || true)")
}

step host cargo test --release --locked --workspace --no-fail-fast
# The same inputs each time, as many as there is time for: what passes today passes tomorrow. `make fuzz` makes others.
step fuzz env AIRLOCK_FUZZ_SEED=1 bash tests/fuzz.sh
step sdk cargo test --release --locked --no-fail-fast --manifest-path guest-sdk/Cargo.toml --workspace --all-features --target-dir target/sdk-tests
for plugin in plugins/*; do
    step "$(basename "$plugin")" \
        cargo test --locked --no-fail-fast --manifest-path "$plugin/Cargo.toml" --target-dir target/sdk-tests
done

if [ ${#failed[@]} -eq 0 ]; then
    echo "all tests passed"
    exit 0
fi
echo
echo "these failed (the output is in $logs):"
printf '%s\n' "${failed[@]}"
exit 1
