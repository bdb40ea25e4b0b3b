#!/usr/bin/env bash
# Compiles the crates with code of its own for aarch64, whose kernels no x86-64 machine compiles otherwise.
#   aarch64_check.sh          compiles
#   aarch64_check.sh --test   compiles and runs the property tests of the kernels, under qemu
# Takes the toolchain's own standard library for the target where it is installed (`rustup target add
# aarch64-unknown-linux-gnu`), else Debian's compiler. What comes from Debian is unpacked under target/tools, by apt-get with
# lists of its own: it needs no root, and the system's packages and architectures stay as they are.
source "$(dirname "$0")/environment.sh"

target=aarch64-unknown-linux-gnu
home=$state/tools/aarch64
debian=$home/root/usr
crates=(--package maxsim --package multivector)

# apt-get and apt-cache for both architectures, with folders of our own and no package installed.
private_apt() {
    local tool=$1
    shift
    "$tool" -o "Dir::State=$home/apt/state" -o "Dir::State::status=$home/apt/status" -o "Dir::Cache=$home/apt/cache" \
        -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Architectures::=arm64 \
        -o APT::Sandbox::User=root -o Debug::NoLocking=true "$@"
}

download() {
    (cd "$home/deb" && private_apt apt-get --quiet --quiet download "$@")
}

# fetch NAME PACKAGE…: downloads and unpacks packages once.
fetch() {
    local name=$1
    shift
    [ ! -f "$home/$name.fetched" ] || return 0
    echo "fetching from Debian: $*"
    if ! download "$@"; then
        # Lists that are older than the packages' last update name files that are gone.
        rm "$home/apt.updated"
        prepare_apt
        download "$@" || die "cannot download $*"
    fi
    local package
    for package in "$home"/deb/*.deb; do
        dpkg-deb --extract "$package" "$home/root"
        rm "$package"
    done
    touch "$home/$name.fetched"
}

prepare_apt() {
    [ ! -f "$home/apt.updated" ] || return 0
    command -v apt-get >/dev/null && [ "$(dpkg --print-architecture)" = amd64 ] ||
        die "no standard library for $target; install it with: rustup target add $target"
    mkdir -p "$home/apt/state/lists/partial" "$home/apt/cache/archives/partial" "$home/deb" "$home/root"
    : >"$home/apt/status"
    private_apt apt-get --quiet --quiet update || echo "some of the system's package sources could not be read"
    touch "$home/apt.updated"
}

# Debian's compiler, and the two libraries whose names carry versions.
use_debian_rustc() {
    prepare_apt
    local libraries
    mapfile -t libraries < <(private_apt apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
        --no-breaks --no-replaces --no-enhances rustc-web 2>/dev/null | grep -xE 'libstd-rust-web-[0-9.]+|libllvm[0-9]+')
    [ "${#libraries[@]}" -ge 2 ] ||
        die "Debian has no rustc-web here, and there is no standard library for $target: rustup target add $target"
    fetch rustc rustc-web libstd-rust-web-dev:arm64 libstd-rust-web-dev "${libraries[@]}"
    rustc_libraries=$debian/lib/x86_64-linux-gnu
    for folder in "$debian"/lib/llvm-*/lib; do
        rustc_libraries+=:$folder
    done
    cat >"$home/rustc" <<EOF
#!/bin/sh
LD_LIBRARY_PATH=$rustc_libraries exec $debian/bin/rustc "\$@"
EOF
    chmod +x "$home/rustc"
    export RUSTC=$home/rustc
}

choose_rustc() {
    local libraries
    libraries=$(rustc --print target-libdir --target "$target")
    if [ -d "$libraries" ]; then
        echo "compiler: $(rustc --version)"
        return
    fi
    use_debian_rustc
    echo "compiler: $("$RUSTC" --version), Debian's"
}

# Linker, C library and qemu. The linker is called directly: a gcc that was not installed does not find its parts.
use_debian_qemu() {
    prepare_apt
    fetch qemu binutils-aarch64-linux-gnu binutils-common libbinutils gcc-12-aarch64-linux-gnu-base libgcc-12-dev-arm64-cross \
        libgcc-s1-arm64-cross libc6-arm64-cross libc6-dev-arm64-cross qemu-user-static
    local c=$debian/aarch64-linux-gnu/lib gcc=$debian/lib/gcc-cross/aarch64-linux-gnu/12
    cat >"$home/link" <<EOF
#!/bin/sh
LD_LIBRARY_PATH=$debian/lib/x86_64-linux-gnu exec $debian/bin/aarch64-linux-gnu-ld.bfd --sysroot=$home/root -pie \
    -dynamic-linker /lib/ld-linux-aarch64.so.1 -L $c -L $gcc $c/Scrt1.o $c/crti.o "\$@" $gcc/libgcc.a $c/crtn.o
EOF
    chmod +x "$home/link"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$home/link
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS=-Clinker-flavor=ld
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$debian/bin/qemu-aarch64-static -L $debian/aarch64-linux-gnu"
}

cd "$root"
mkdir -p "$home"
choose_rustc
# A folder of its own: another compiler would have everything in target/ built again.
export CARGO_TARGET_DIR=$state/aarch64
case ${1:-} in
"")
    # To the end, machine code included; nothing is linked.
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-D warnings"
    cargo build --quiet --lib --target "$target" "${crates[@]}"
    echo "maxsim and multivector compile for $target"
    ;;
--test)
    [ "$(uname -m)" = aarch64 ] || use_debian_qemu
    cargo test --release --target "$target" --package maxsim --lib --test agreement --test products
    ;;
*) die "usage: aarch64_check.sh [--test]" ;;
esac
