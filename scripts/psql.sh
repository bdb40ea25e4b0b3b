#!/usr/bin/env bash
# psql of the private PostgreSQL on a scratch cluster.  usage: psql.sh CLUSTER [psql's arguments]
# With --print it only prints the command line.
source "$(dirname "$0")/environment.sh"

print=
if [ "${1:-}" = --print ]; then
    print=1
    shift
fi
cluster=${1:?usage: psql.sh [--print] CLUSTER [arguments of psql]}
shift
settings=$("$root/scripts/cluster.sh" environment "$cluster")
eval "$(sed "s/=\(.*\)/='\1'/" <<<"$settings")"
command=("$BINDIR/psql" --host "$PGHOST" --port "$PGPORT" --username "$PGUSER" "$@")
if [ -n "$print" ]; then
    printf '%q ' "${command[@]}" | sed 's/ $/\n/'
else
    exec "${command[@]}"
fi
