#!/usr/bin/env bash
# Stops every scratch cluster of this clone and removes target/, and its folder in /var/tmp if it has one.
source "$(dirname "$0")/environment.sh"

for cluster in $("$root/scripts/cluster.sh" list); do
    "$root/scripts/cluster.sh" destroy "$cluster"
done
if [ -x "$root/tools/infinity-lite/stop.sh" ]; then
    "$root/tools/infinity-lite/stop.sh"
fi
[ "$place" = "$state" ] || rm -rf "$place"
rm -rf "$state"
