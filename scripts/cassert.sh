#!/usr/bin/env bash
# Runs the end-to-end tests on a PostgreSQL that checks itself, 17 unless PG_MAJOR says 15: Debian's source package of it, built
# with --enable-cassert under target/cassert-PG_MAJOR. A failed assertion ends all sessions, and so the test that caused it.
#   cassert.sh [--build] [arguments of cargo test, such as --test index]
# With --build it ends when PostgreSQL and the extension are there. Needs apt-get, and root only where bison or flex are missing.
# Where Debian's mirror lists a version whose sources it does not have, POSTGRES_SOURCE names an archive of another's.
export PG_MAJOR=${PG_MAJOR:-17}
source "$(dirname "$0")/environment.sh"

built=$state/cassert-$PG_MAJOR
pg_config=$built/install/bin/pg_config
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

# Debian's archive of sources, with folders of its own for apt: the system's settings stay as they are.
apt_get() {
    apt-get -q -o Dir::Etc::sourcelist="$built/apt/debian.sources" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$built/apt/lists" -o Dir::Cache="$built/apt/cache" \
        -o APT::Sandbox::User= "$@"
}

fetch_source() {
    mkdir -p "$built/source"
    if [ -n "${POSTGRES_SOURCE:-}" ]; then
        tar -xf "$POSTGRES_SOURCE" -C "$built/source" --strip-components 1
        return
    fi
    mkdir -p "$built"/apt/{lists,cache/archives}/partial
    printf '%s\n' "Types: deb-src" "URIs: $mirror" "Suites: bookworm trixie" "Components: main" \
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" >"$built/apt/debian.sources"
    apt_get update
    (cd "$built" && apt_get source --download-only postgresql-$PG_MAJOR)
    tar -xf "$built/postgresql-$PG_MAJOR"_*.orig.tar.* -C "$built/source" --strip-components 1
}

build_postgres() {
    PG_CONFIG=$pg_config "$root/scripts/prerequisites.sh" bison flex
    rm -rf "$built"
    fetch_source
    cd "$built/source"
    ./configure --quiet --prefix "$built/install" --enable-cassert --without-icu --without-readline --without-zlib \
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
