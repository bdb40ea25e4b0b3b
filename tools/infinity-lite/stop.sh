#!/usr/bin/env bash
# Stops the server that start.sh started under the same --state NAME, and waits until it is gone. Idempotent.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
state=server
[ "${1:-}" != --state ] || state=$2
files=$root/target/infinity-lite/$state

# The pid may have been given to another program since: only a process that runs our serve.py is ours.
ours() { tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -q 'infinity-lite/serve\.py'; }

if [ -f "$files.pid" ]; then
    pid=$(cat "$files.pid")
    if ours "$pid"; then
        kill "$pid" 2>/dev/null || true
        for attempt in $(seq 100); do
            ours "$pid" || break
            # Infinity's own shutdown waits for its worker threads, which a dead worker never leaves.
            [ "$attempt" -ne 50 ] || kill -9 "$pid" 2>/dev/null || true
            sleep 0.1
        done
    fi
fi
rm -f "$files.pid" "$files.url"
