#!/usr/bin/env bash
# Shows the main job: a plugin dropped into a folder calls a tool with a credential that it never sees, and an execution
# survives the daemon's death. Everything happens in a temporary folder. KEEP=1 leaves the daemon running at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

airlock=$PWD/target/release/airlock
work=$(mktemp -d)
daemon= server=

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1m') dim=$(printf '\033[2m') off=$(printf '\033[0m'); else bold= dim= off=; fi
say() { printf '\n%s== %s%s\n' "$bold" "$*" "$off"; }
show() { printf '%s$ airlock %s%s\n' "$dim" "$*" "$off"; "$airlock" "$@"; }

stop() {
    for process in $daemon $server; do kill "$process" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
fail() {
    echo "the demo failed: $*" >&2
    for log in "$work"/*.log; do echo "--- $log" >&2; tail -n 20 "$log" >&2; done
}
trap 'status=$?; [ $status -eq 0 ] || fail "see above"; stop; exit $status' EXIT

# Waits until a pattern stands in a log, and prints what follows it.
await() {
    local log=$1 pattern=$2
    for _ in $(seq 3000); do
        if found=$(sed -n "s|.*$pattern\([^ ]*\).*|\1|p" "$log" 2>/dev/null | tail -n 1) && [ -n "$found" ]; then
            echo "$found"
            return
        fi
        sleep 0.1
    done
    echo "'$pattern' did not appear in $log" >&2
    return 1
}

say "1. The example plugins are compiled to WebAssembly and dropped into a folder"
mkdir "$work/plugins" "$work/data"
for plugin in hello github-issues order-saga; do
    (cd "plugins/$plugin" && CARGO_TARGET_DIR=../../target/guests cargo build --quiet --release --locked --target wasm32-wasip2)
    cp "target/guests/wasm32-wasip2/release/${plugin//-/_}.wasm" "$work/plugins/"
done
ls -l "$work/plugins" | awk 'NR > 1 { printf "   %-22s %5d KB\n", $9, $5 / 1024 }'

start_daemon() {
    : > "$work/daemon.log"
    "$airlock" serve --plugins "$work/plugins" --data "$work/data" --listen "$1" --allow-loopback >> "$work/daemon.log" 2>&1 &
    daemon=$!
    AIRLOCK_URL=$(await "$work/daemon.log" 'airlock is ready on ')
    export AIRLOCK_URL
}

say "2. The daemon and a service that wants a token"
start_daemon 127.0.0.1:0
export AIRLOCK_DATA=$work/data
AIRLOCK_API_KEY=$(cat "$work/data/owner.key")
export AIRLOCK_API_KEY
token=demo-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
AIRLOCK_DEMO_TOKEN=$token "$airlock" demo-server --listen 127.0.0.1:0 --token-env AIRLOCK_DEMO_TOKEN > "$work/server.log" 2>&1 &
server=$!
service=$(await "$work/server.log" 'listening on ')
echo "   daemon $AIRLOCK_URL, service $service"
show plugins list

say "3. The service becomes the connector 'github_app', with a credential of this user"
show connectors add github_app --server "$service" --auth bearer --description "issues of the demo"
printf '%s$ airlock credentials set github_app demo %s< token%s\n' "$dim" "" "$off"
printf '%s' "$token" | "$airlock" credentials set github_app demo
show credentials list github_app

say "4. A workflow writes an issue through it"
show run github-issue-creator --input '{"owner": "my-org", "repo": "my-repo", "title": "Bug: something is broken", "body": "Steps to reproduce"}'

say "5. A longer execution; the daemon is killed (SIGKILL) in the middle of it"
id=demo-order-$$
"$airlock" run order-saga --execution-id "$id" --input '{"id": "4711", "items": 12, "delay_ms": 300}' > "$work/order.log" 2>&1 &
follower=$!
for _ in $(seq 3000); do
    [ "$(grep -c pack-item "$work/order.log" || true)" -ge 6 ] && break
    sleep 0.1
done
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || true
shown=$(wc -l < "$work/order.log")
tail -n 8 "$work/order.log" | sed 's/^/   /'
echo "   … the daemon is dead; the command that follows it waits"

say "6. The daemon starts again, the execution goes on, and so does the command"
start_daemon "${AIRLOCK_URL#http://}"
wait "$follower"
tail -n "+$((shown + 1))" "$work/order.log" | sed 's/^/   /'
"$airlock" executions show "$id" --json > "$work/order.json"
"$airlock" executions events "$id" --json > "$work/events.json"
started=$(grep -o '"ACTIVITY_TASK_STARTED"' "$work/events.json" | wc -l)
completed=$(grep -o '"ACTIVITY_TASK_COMPLETED"' "$work/events.json" | wc -l)
grep -q '"COMPLETED"' "$work/order.json" || { echo "the order did not complete" >&2; exit 1; }
# 12 reservations, a charge, 12 packings, the shipment and the note to the customer.
if [ "$started" -ne 27 ] || [ "$completed" -ne 27 ]; then
    echo "27 steps were expected once each, $started started and $completed completed" >&2
    exit 1
fi

say "7. The token is nowhere it should not be"
if grep -rqaF "$token" "$work/data" "$work"/*.log "$work"/*.json; then
    echo "the token stands in clear in the data folder, a log or an answer" >&2
    exit 1
fi
echo "   not in the database, the logs, the events or the answers"

say "Summary"
echo "   github-issue-creator wrote an issue with a token that only the host has seen"
echo "   order-saga lost its daemon in the middle and recorded each of its 27 steps once"
if [ "${KEEP:-}" = 1 ]; then
    trap - EXIT
    echo "   the API listens on $AIRLOCK_URL, the key stands in $work/data/owner.key"
    echo "   KEEP=1: stop it with: kill $daemon $server; rm -r $work"
else
    echo "   the API listened on $AIRLOCK_URL; now everything is stopped (KEEP=1 leaves it running)"
fi
