# What every script of this folder shares: where things are, which PostgreSQL, which user runs servers.
# Sourced, never run. All that the scripts make lies under target/ (`$state`), with one exception: PostgreSQL refuses to
# run as root, so root's servers run as an ordinary user; when that user cannot enter the clone (a home folder of mode
# 0700), PostgreSQL and its clusters go to a folder under /var/tmp.
# shellcheck shell=bash

set -euo pipefail
umask 022

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
state=$root/target
export PG_MAJOR=${PG_MAJOR:-15}

# rustup's default folder, for shells that have not read the profile since its installation.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
# cargo-pgrx of our own, in our own folder: the user's ~/.cargo and ~/.pgrx stay as they are.
PATH=$state/tools/bin:$PATH
export PATH
export PGRX_HOME=$state/pgrx/$PG_MAJOR
# cargo-pgrx calls `cargo build` in the workspace root, whose default members are the pure crates.
export PGRX_BUILD_FLAGS="--package infinity_embed"
# Only other platforms need the linker flags that make cargo compile every dependency twice.
if [ "$(uname -m)" = x86_64 ]; then
    export CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND=1
fi

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# The ordinary user that runs root's servers; empty for everybody else.
server_user=
if [ "$(id -u)" = 0 ]; then
    server_user=${INFINITY_EMBED_SERVER_USER:-postgres}
    id -u "$server_user" >/dev/null 2>&1 || server_user=nobody
fi

# Runs a command as the user of the servers. From /, because PostgreSQL's programs refuse to start in a folder that
# they cannot enter.
as_server() {
    if [ -z "$server_user" ]; then
        "$@"
    else
        (cd / && exec setpriv --reuid "$server_user" --regid "$(id -g "$server_user")" --init-groups -- env HOME=/ "$@")
    fi
}

# Prints the folder for PostgreSQL and its clusters. The one under /var/tmp follows from the clone's path, so that it is
# found again when target/ has been removed; anybody may make folders there, so it must be ours.
find_place() {
    mkdir -p "$state"
    if as_server test -x "$state"; then
        echo "$state"
        return
    fi
    local folder
    folder=/var/tmp/infinity_embed.$(cksum <<<"$root" | cut -d ' ' -f 1)
    mkdir "$folder" 2>/dev/null || [ -d "$folder" ] || die "cannot make $folder"
    [ -O "$folder" ] && [ ! -L "$folder" ] || die "$folder is not a folder of this user"
    echo "$folder"
}

place=$(find_place)
# The private copy that the demo and the end-to-end tests use (release build of the extension), and its twin for
# `cargo pgrx test`, which installs builds with test functions in them.
postgres_home=$place/postgresql-$PG_MAJOR
postgres_test_home=$place/postgresql-$PG_MAJOR-test

# Prints the pg_config inside a private copy.
private_pg_config() {
    local home=$1
    [ -f "$home/.bindir" ] || die "there is no private PostgreSQL at $home; run scripts/private_postgres.sh"
    echo "$home/$(cat "$home/.bindir")/pg_config"
}

# Prints the folder of the private PostgreSQL's programs.
private_bindir() {
    dirname "$(private_pg_config "$postgres_home")"
}
