#!/usr/bin/env bash
# Builds cargo-pgrx, of the version that Cargo.lock has of pgrx, into target/tools. Does nothing when it is there.
source "$(dirname "$0")/environment.sh"

wanted=$(grep -A 1 '^name = "pgrx"$' "$root/Cargo.lock" | sed -n 's/^version = "\(.*\)"/\1/p')
have=$("$state/tools/bin/cargo-pgrx" pgrx --version 2>/dev/null | cut -d ' ' -f 2) || have=
if [ "$have" != "$wanted" ]; then
    echo "building cargo-pgrx $wanted (some minutes, once)"
    # Unoptimised: it is compiled in half the time, and what it does itself takes no time.
    # Not in /tmp, which is small on some machines; and removed afterwards.
    CARGO_TARGET_DIR=$state/tools/build cargo install --locked --debug --quiet cargo-pgrx --version "$wanted" \
        --root "$state/tools" --force
    rm -rf "$state/tools/build"
fi
