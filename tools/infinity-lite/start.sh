#!/usr/bin/env bash
# Starts the lite Infinity server on 127.0.0.1 and prints its URL; prints the URL of the one already running if it answers.
#   start.sh [--port N] [--state NAME] [--served-model-name M] [--url-prefix P] [--api-key K] [--batch-size N]
# The port is a free one unless given. --state names the pid, url and log files under target/infinity-lite/, so that
# tests can run a second server beside the demo's ("server" by default). Installs the server first if need be.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
state=server
port=
prefix=
options=()
while [ $# -gt 0 ]; do
    case $1 in
    --state) state=$2 ;;
    --port) port=$2 ;;
    --url-prefix) prefix=$2 && options+=("$1" "$2") ;;
    *) options+=("$1" "$2") ;;
    esac
    shift 2
done
"$here/setup.sh"
python=$root/target/infinity-lite/venv/bin/python
files=$root/target/infinity-lite/$state

answers() { # is there a server at URL $1, a real one?
    "$python" - "$1/health" 2>/dev/null <<'PYTHON'
import json, sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
json.load(opener.open(sys.argv[1], timeout=2))["unix"]
PYTHON
}

if [ -f "$files.pid" ] && kill -0 "$(cat "$files.pid")" 2>/dev/null && answers "$(sed 1q "$files.url")"; then
    cat "$files.url"
    exit 0
fi
"$here/stop.sh" --state "$state"
if [ -z "$port" ]; then
    port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
fi

# Off: usage reports, the model hub, files in the home folder. Infinity reads the rest of its settings from INFINITY_*,
# so none may leak in.
clean=()
while read -r name; do clean+=(-u "$name"); done < <(compgen -e INFINITY_ || true)
env "${clean[@]}" INFINITY_ANONYMOUS_USAGE_STATS=0 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1 HF_HOME="$files.hub" \
    PYTHONDONTWRITEBYTECODE=1 setsid "$python" "$here/serve.py" --port "$port" ${options[@]+"${options[@]}"} </dev/null >"$files.log" 2>&1 &
pid=$!
echo "$pid" >"$files.pid"
SECONDS=0
while [ $SECONDS -lt 60 ]; do
    if answers "http://127.0.0.1:$port"; then
        echo "http://127.0.0.1:$port$prefix" | tee "$files.url"
        exit 0
    fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
done
echo "the Infinity server did not start within 60 s; the end of $files.log:" >&2
tail -20 "$files.log" >&2
"$here/stop.sh" --state "$state"
exit 1
