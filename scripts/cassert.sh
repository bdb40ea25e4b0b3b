#!/usr/bin/env bash
# Runs the end-to-end tests on a PostgreSQL 17 that checks itself: Debian's source package of it, built with
# --enable-cassert under target/cassert. A failed assertion ends all sessions, and so the test that caused it.
#   cassert.sh [--build] [arguments of cargo test, such as --test index]
# With --build it ends when PostgreSQL and the extension are there. Needs apt-get, and root only where bison or flex are missing.
# Where Debian's mirror lists a version whose sources it does not have, POSTGRES_SOURCE names an archive of another 17's.
export PG_MAJOR=17
source "$(dirname "$0")/environment.sh"

place17=$state/cassert
pg_config=$place17/install/bin/pg_config
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

# Debian's archive of sources, with folders of its own for apt: the system's settings stay as they are.
apt_get() {
    apt-get -q -o Dir::Etc::sourcelist="$place17/apt/debian.sources" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$place17/apt/lists" -o Dir::Cache="$place17/apt/cache" \
        -o APT::Sandbox::User= "$@"
}

fetch_source() {
    mkdir -p "$place17/source"
    if [ -n "${POSTGRES_SOURCE:-}" ]; then
        tar -xf "$POSTGRES_SOURCE" -C "$place17/source" --strip-components 1
        return
    fi
    mkdir -p "$place17"/apt/{lists,cache/archives}/partial
    printf '%s\n' "Types: deb-src" "URIs: $mirror" "Suites: trixie" "Components: main" \
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" >"$place17/apt/debian.sources"
    apt_get update
    (cd "$place17" && apt_get source --download-only postgresql-17)
    tar -xf "$place17"/postgresql-17_*.orig.tar.* -C "$place17/source" --strip-components 1
}

build_postgres() {
    PG_CONFIG=$pg_config "$root/scripts/prerequisites.sh" bison flex
    rm -rf "$place17"
    fetch_source
    cd "$place17/source"
    ./configure --quiet --prefix "$place17/install" --enable-cassert --without-icu --without-readline --without-zlib \
        CFLAGS="-O1 -g"
    make -s -j2 all
    make -s install
    make -s -C src/test/regress install # pg_regress
    make -s -j2 -C contrib install
    cd "$root"
}

if [ ! -x "$pg_config" ]; then
    build_postgres
fi
export PG_CONFIG=$pg_config
exec "$root/scripts/cluster_tests.sh" cassert "$@"
