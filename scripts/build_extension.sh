#!/usr/bin/env bash
# Builds the extension and installs it into the private PostgreSQL.  usage: build_extension.sh release|debug
# Safe under a running server: the library becomes a new file, and backends that run keep the old one.
source "$(dirname "$0")/environment.sh"

case ${1:-} in
release) profile=(--release) ;;
debug) profile=() ;;
*) die "usage: build_extension.sh release|debug" ;;
esac
cd "$root"
cargo pgrx install "${profile[@]}" --package infinity_embed --no-default-features --features "pg$PG_MAJOR" \
    --pg-config "$(private_pg_config "$postgres_home")"
# The second extension has no library of its own.
install -m 644 pgvector/infinity_embed_pgvector* "$("$(private_pg_config "$postgres_home")" --sharedir)/extension/"
