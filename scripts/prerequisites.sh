#!/usr/bin/env bash
# Checks what the project cannot make itself: Debian packages and Rust. As root on Debian it installs the packages;
# otherwise it names the command and exits 1. Arguments are further packages. A PostgreSQL that is already there, and its clusters, are left alone.
source "$(dirname "$0")/environment.sh"

packages=(gcc libc6-dev make pkg-config clang libclang-dev ca-certificates python3 python3-venv "$@")
if [ -z "${PG_CONFIG:-}" ]; then
    packages+=("postgresql-$PG_MAJOR" "postgresql-server-dev-$PG_MAJOR")
fi

missing_packages() {
    local package
    for package in "${packages[@]}"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

# Debian makes and starts a cluster named "main" when it installs a server. Nobody asked for one: switched off meanwhile.
cluster_defaults=/etc/postgresql-common/createcluster.conf

restore_cluster_defaults() {
    [ ! -f "$cluster_defaults.saved" ] || mv "$cluster_defaults.saved" "$cluster_defaults"
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    if [[ " $* " == *" postgresql-$PG_MAJOR "* ]]; then
        apt-get install -q -y --no-install-recommends postgresql-common
        trap restore_cluster_defaults EXIT
        cp -p "$cluster_defaults" "$cluster_defaults.saved"
        echo "create_main_cluster = false" >>"$cluster_defaults"
    fi
    apt-get install -q -y --no-install-recommends "$@"
    restore_cluster_defaults
}

check_packages() {
    if ! command -v dpkg-query >/dev/null; then
        echo "not Debian: make sure that gcc, make, pkg-config, clang with libclang, python3 with venv," \
            "and PostgreSQL $PG_MAJOR with its server headers are installed; PG_CONFIG names its pg_config"
        return
    fi
    local missing
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "These Debian packages are missing. As root:" >&2
        echo "    apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    echo "installing Debian packages: ${missing[*]}"
    install_packages "${missing[@]}"
}

check_rust() {
    local wanted have tool
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
    have=$(cd "$root" && rustc --version 2>/dev/null | cut -d ' ' -f 2) || have=
    if [ -z "$have" ]; then
        echo "Rust $wanted or newer is missing. Install it with (needs curl):" >&2
        echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" >&2
        exit 1
    fi
    if [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1)" != "$wanted" ]; then
        echo "Rust $have is too old, $wanted or newer is needed. Update it with:" >&2
        echo "    rustup update stable && rustup default stable" >&2
        exit 1
    fi
    for tool in cargo-fmt cargo-clippy; do
        if ! command -v "$tool" >/dev/null; then
            echo "$tool is missing. Install it with:" >&2
            echo "    rustup component add rustfmt clippy" >&2
            exit 1
        fi
    done
}

check_packages
check_rust
echo "prerequisites: complete"
