#!/usr/bin/env bash
# Copies the PostgreSQL of the system under target/ and tells pgrx about it, so that neither root nor the system's own
# extension folders are touched. PostgreSQL finds its files relative to its programs as long as the folders keep their
# layout below the prefix that they share. Copies again when the system's version changed.
# PG_MAJOR chooses the major (15), PG_CONFIG another pg_config than Debian's.
source "$(dirname "$0")/environment.sh"

pg_config=${PG_CONFIG:-/usr/lib/postgresql/$PG_MAJOR/bin/pg_config}
[ -x "$pg_config" ] || die "there is no pg_config at $pg_config; run scripts/prerequisites.sh or set PG_CONFIG"
version=$("$pg_config" --version)
[[ $version == "PostgreSQL $PG_MAJOR."* || $version == "PostgreSQL $PG_MAJOR"[a-z]* ]] ||
    die "$pg_config is of $version, wanted is PostgreSQL $PG_MAJOR"

# The longest folder that contains all the given ones.
common_prefix() {
    local prefix=$1 folder
    for folder in "$@"; do
        while [[ $folder/ != "$prefix"/* ]]; do
            prefix=$(dirname "$prefix")
        done
    done
    echo "$prefix"
}

copy_postgres() {
    local home=$1 folders prefix folder
    folders=("$("$pg_config" --bindir)" "$("$pg_config" --pkglibdir)" "$("$pg_config" --sharedir)"
        "$("$pg_config" --includedir-server)" "$("$pg_config" --includedir)")
    prefix=$(common_prefix "${folders[@]}")
    if [ "$prefix" != /usr ]; then
        folders=("$prefix") # an installation of its own: all of it, its libpq included
    fi
    echo "copying $version from $prefix to $home"
    rm -rf "$home" "$home.new"
    for folder in "${folders[@]}"; do
        mkdir -p "$home.new${folder#"$prefix"}"
        cp -a "$folder/." "$home.new${folder#"$prefix"}/"
    done
    local bindir
    bindir=$("$pg_config" --bindir)
    bindir=${bindir#"$prefix"/}
    echo "$bindir" >"$home.new/.bindir"
    mv "$home.new" "$home"
    # The proof that it found itself: a copy which still points at the system would let us overwrite the system's files.
    [ "$("$home/$bindir/pg_config" --pkglibdir)" != "$("$pg_config" --pkglibdir)" ] ||
        die "the copy at $home still refers to $("$pg_config" --pkglibdir)"
    [[ $("$home/$bindir/pg_config" --includedir-server) == "$home"/* ]] ||
        die "the copy at $home has its headers at $("$home/$bindir/pg_config" --includedir-server)"
    # Last, so that an interrupted copy is made again.
    echo "$pg_config $version" >"$home/.copied_from"
}

for home in "$postgres_home" "$postgres_test_home"; do
    if [ "$(cat "$home/.copied_from" 2>/dev/null)" != "$pg_config $version" ]; then
        copy_postgres "$home"
    fi
done

# pgrx's own registration, only when it changed: pgrx's bindings are built again whenever this file is written.
test_pg_config=$(private_pg_config "$postgres_test_home")
if ! grep -qsF "pg$PG_MAJOR = \"$test_pg_config\"" "$PGRX_HOME/config.toml"; then
    mkdir -p "$PGRX_HOME"
    cargo pgrx init "--pg$PG_MAJOR" "$test_pg_config" --no-run
fi
echo "private PostgreSQL: $version in $postgres_home"
