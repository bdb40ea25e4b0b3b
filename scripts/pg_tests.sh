#!/usr/bin/env bash
# Runs the tests that live inside PostgreSQL (#[pg_test]) with `cargo pgrx test`.  usage: pg_tests.sh [TEST NAME]
# Their data and socket lie in a folder of their own with a short path: the socket's path is limited to 107 bytes.
source "$(dirname "$0")/environment.sh"

scratch=$(mktemp -d /tmp/infinity_embed.XXXXXX)
# The servers' user makes and owns what is inside, we remove it.
trap 'rm -rf "$scratch"' EXIT
arguments=(--pgdata "$scratch")
if [ -n "$server_user" ]; then
    chown "$server_user" "$scratch"
    arguments+=(--runas "$server_user")
    PATH=$root/scripts/as_root:$PATH
fi
cd "$root"
cargo pgrx test "${arguments[@]}" --package infinity_embed --no-default-features "pg$PG_MAJOR" "$@"
