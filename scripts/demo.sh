#!/usr/bin/env bash
# `make demo`: makes everything the demonstration needs (see README.md) and runs examples/demo/demo.sh, which does the
# demonstration itself. What is there already is used again, so that a second run takes seconds.
# INFINITY_API_URL names an Infinity server to use instead of one with small models on this machine's CPU.
source "$(dirname "$0")/environment.sh"
cd "$root"

stage() {
    printf '\n[%4d s] %s\n' "$SECONDS" "$*"
}

stage "prerequisites"
scripts/prerequisites.sh
stage "cargo-pgrx"
scripts/cargo_pgrx.sh
stage "private PostgreSQL"
scripts/private_postgres.sh
stage "the extension, release build"
scripts/build_extension.sh release
stage "a scratch cluster"
scripts/cluster.sh start demo
if [ -z "${INFINITY_API_URL:-}" ]; then
    stage "the Infinity server"
    INFINITY_API_URL=$(tools/infinity-lite/start.sh)
fi
export INFINITY_API_URL
stage "the demonstration, with the Infinity server at $INFINITY_API_URL"
settings=$(scripts/cluster.sh environment demo)
eval "$(sed "s/^\([A-Z]*\)=\(.*\)/export \1='\2'/" <<<"$settings")"
examples/demo/demo.sh
