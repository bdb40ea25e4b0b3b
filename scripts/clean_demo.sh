#!/usr/bin/env bash
# `make clean-demo`: stops and removes what `make demo` made. Where `make test` has run too, the builds and the private
# PostgreSQL stay, because it uses them; `make clean` removes those as well.
source "$(dirname "$0")/environment.sh"

"$root/scripts/cluster.sh" destroy demo
"$root/tools/infinity-lite/stop.sh"
if [ -d "$state/test-logs" ]; then
    rm -rf "$state/infinity-lite"
    echo "the demo is gone; target/ keeps what make test uses (make clean removes it)"
else
    "$root/scripts/clean.sh"
    echo "the demo is gone, and target/ with it"
fi
