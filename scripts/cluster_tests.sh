#!/usr/bin/env bash
# Runs the end-to-end tests on a PostgreSQL other than Debian's 15, which PG_MAJOR and PG_CONFIG name.
#   cluster_tests.sh NAME [--build] [arguments of cargo test, such as --test index]
# NAME is that of the shared cluster. With --build it ends when PostgreSQL and the extension are there.
source "$(dirname "$0")/environment.sh"

name=${1:?usage: cluster_tests.sh NAME [--build] [arguments of cargo test]}
shift
"$root/scripts/private_postgres.sh"
"$root/scripts/build_extension.sh" debug
if [ "${1:-}" = --build ]; then
    exit
fi
export INFINITY_EMBED_TEST_CLUSTER=$name
trap '"$root/scripts/cluster.sh" destroy "$name"' EXIT
cd "$root"
if [ $# -gt 0 ]; then
    cargo test --no-fail-fast --package cluster-tests "$@"
    exit
fi
# The other files of pg_regress show messages that PostgreSQL words differently since 15.
targets=()
for file in tests/cluster/tests/*.rs tests/cluster/tests/*/main.rs; do
    file=${file%/main.rs}
    [ "$(basename "$file" .rs)" = pg_regress ] || targets+=(--test "$(basename "$file" .rs)")
done
status=0
cargo test --no-fail-fast --package cluster-tests "${targets[@]}" || status=$?
for file in index maxsim multivector trigger; do
    cargo test --package cluster-tests --test pg_regress -- "$file" || status=$?
done
exit "$status"
