"""What the queue costs a writer, and how fast it is drained beside a client that does the same work itself.

`bench/run queue` starts it in an environment that is set up: a cluster, a mock server's program and the client's. Everything
is measured several times in turn, so that a busy machine disturbs all alike; the figures are medians, the bars are quotients of one run.
"""

import argparse
import json
import os
import subprocess
import time
from pathlib import Path
from statistics import median

from database import Session
from machine import describe

MODEL = "michaelfeil/colqwen2-v0.1"
REQUEST_SIZE, REQUESTS = 10, 4
# What the queue claims at once: rounds of all its requests.
ROWS_AT_ONCE = 8 * REQUEST_SIZE * REQUESTS
LATENCY_MS = 5
INSERT_BAR, DRAIN_BAR = 2.5, 0.7


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--programs", required=True, type=Path, help="the folder of mock-infinity and bench-client, built")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    server, url = _start_server(options.programs)
    try:
        session = _session(options.cluster, url)
        results = {"machine": describe("make bench-queue"), "rounds": options.rounds, "rows": options.rows}
        results |= _measure(session, options, url)
        session.close()
    finally:
        server.terminate()
        server.wait()
    file = options.out / "queue.json"
    file.write_text(json.dumps(results, indent=2) + "\n")
    print(_report(results))
    print(f"\nwritten: {file}")


def _start_server(programs):
    command = [programs / "mock-infinity", "--port", "0", "--latency-ms", str(LATENCY_MS), "--model", f"{MODEL}=lite"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return server, server.stdout.readline().split()[-1]


def _session(cluster, url):
    first = Session(cluster)
    first.run("CREATE EXTENSION infinity_embed")
    for setting, value in (
        ("url", url),
        ("worker", "off"),
        ("embed_batch_size", REQUEST_SIZE),
        ("max_concurrency", REQUESTS),
    ):
        first.run(f"ALTER DATABASE postgres SET infinity_embed.{setting} = '{value}'")
    first.close()
    session = Session(cluster)
    for table in ("plain", "kept"):
        session.run(f"CREATE TABLE {table} (id bigserial PRIMARY KEY, body text NOT NULL, embedding real[])")
    session.run("SELECT infinity_embed.auto_embed('kept', source => 'body', target => 'embedding')")
    return session


def _measure(session, options, url):
    inserts = {"plain": [], "kept": []}
    drains = {"client": [], "CALL": [], "worker": []}
    for turn in range(options.rounds + 1):
        for way, drain in (("client", _client), ("CALL", _call), ("worker", _worker)):
            for table in ("plain", "kept"):
                seconds = _insert(session, table, options.rows)
                # The first turn brings files to their size and the catalogs into the session's caches.
                if turn:
                    inserts[table].append(seconds)
            # One warm-up is enough, and the client's is as good as any.
            if turn or way == "client":
                seconds = drain(session, options, url)
                if turn:
                    drains[way].append(seconds)
    return {"insert_seconds": inserts, "drain_seconds": drains}


def _insert(session, table, rows):
    session.run(f"TRUNCATE {table} RESTART IDENTITY")
    session.run("CHECKPOINT")
    return _seconds(
        session,
        f"""INSERT INTO {table} (body) SELECT 'passage number ' || i || ' says what all passages say, in a few words more'
            FROM generate_series(1, {rows}) AS i""",
    )


def _client(session, options, url):
    arguments = [url, MODEL, "plain", ROWS_AT_ONCE, REQUEST_SIZE, REQUESTS]
    environment = subprocess.run(
        [Path(__file__).parents[1] / "scripts" / "cluster.sh", "environment", options.cluster],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    begun = time.perf_counter()
    subprocess.run(
        [options.programs / "bench-client", *map(str, arguments)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | dict(line.split("=", 1) for line in environment),
    )
    seconds = time.perf_counter() - begun
    _check(session, "plain")
    return seconds


def _call(session, options, _url):
    seconds = _seconds(session, "CALL infinity_embed.process_queue()")
    _check(session, "kept")
    return seconds


def _worker(session, options, _url):
    session.run("ALTER DATABASE postgres SET infinity_embed.worker = on; SET infinity_embed.worker = on")
    seconds = _seconds(session, "SELECT infinity_embed.wake(); SELECT infinity_embed.wait('kept')")
    session.run("ALTER DATABASE postgres SET infinity_embed.worker = off; SET infinity_embed.worker = off")
    _check(session, "kept")
    return seconds


def _seconds(session, sql):
    begun = time.perf_counter()
    session.run(sql)
    return time.perf_counter() - begun


def _check(session, table):
    missing = session.value(f"SELECT count(*) FROM {table} WHERE embedding IS NULL")
    if missing != "0":
        raise SystemExit(f"{missing} rows of {table} were not embedded")


def _report(results):
    machine, rows = results["machine"], results["rows"]
    inserts, drains = results["insert_seconds"], results["drain_seconds"]
    insert_ratio = median(kept / plain for kept, plain in zip(inserts["kept"], inserts["plain"]))
    shares = {
        way: median(client / own for client, own in zip(drains["client"], drains[way])) for way in ("CALL", "worker")
    }
    results["bars"] = [
        {"bar": "INSERT with auto_embed over the same without", "at_most": INSERT_BAR, "value": insert_ratio},
        *(
            {"bar": f"drained by the {way}, share of the client's rate", "at_least": DRAIN_BAR, "value": share}
            for way, share in shares.items()
        ),
    ]
    lines = [
        f"Machine: {machine['cpu']}, {machine['cores']} cores; load {machine['load']}",
        f"Commit: {machine['commit']}",
        f"Command: `{machine['command']}`",
        f"{rows} rows of text, {REQUEST_SIZE} in a request, {REQUESTS} requests at once, each answered after {LATENCY_MS} ms; "
        f"{ROWS_AT_ONCE} rows read and written at once; medians of {results['rounds']} runs in turn",
        "",
        "| | seconds | rows per second |",
        "|---|---:|---:|",
    ]
    for name, seconds in (
        ("INSERT without triggers", inserts["plain"]),
        ("INSERT with auto_embed", inserts["kept"]),
        ("embedded by the client", drains["client"]),
        ("embedded by CALL process_queue()", drains["CALL"]),
        ("embedded by the worker", drains["worker"]),
    ):
        lines.append(f"| {name} | {median(seconds):.2f} | {rows / median(seconds):.0f} |")
    lines += ["", "| bar | | measured | |", "|---|---:|---:|---:|"]
    for bar in results["bars"]:
        low = "at_least" in bar
        at = bar["at_least"] if low else bar["at_most"]
        met = bar["value"] >= at if low else bar["value"] <= at
        lines.append(f"| {bar['bar']} | {'≥' if low else '≤'} {at} | {bar['value']:.3g} | {'met' if met else 'MISSED'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
