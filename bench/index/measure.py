"""One collection in PostgreSQL: the index against the exact scan of the same table, in the same session.

Times are the server's own (EXPLAIN ANALYZE), one query after the other, everything in shared_buffers.
"""

import json
import statistics
import time
from pathlib import Path

K = 10
DEEP = 100
# Rows of the longest ranking, in which late arrivals are counted.
LONGEST = 1000
RANKING = "SELECT id FROM {table} {where} ORDER BY v @# (SELECT v::real[] FROM queries WHERE id = {query}) LIMIT {limit}"
QUERY = "(SELECT v::real[] FROM queries WHERE id = {query})"
DISTANCES = f"SELECT array_agg(d) FROM (SELECT v @# {QUERY} AS d FROM {{table}} ORDER BY v @# {QUERY} LIMIT {{limit}}) AS ranked"
EXACT = "SET enable_indexscan = off; SET enable_seqscan = on"
INDEX = "SET enable_indexscan = on; SET enable_seqscan = off"


def load(session, made):
    """Tables `documents` and `queries` with this collection."""
    session.run(f"""
        DROP TABLE IF EXISTS documents, queries;
        CREATE TABLE documents (id integer PRIMARY KEY, v multivector({made.dim}, f16));
        CREATE TABLE queries (id integer PRIMARY KEY, v multivector({made.dim}))""")
    session.load_multivectors("documents", made.documents())
    session.load_multivectors("queries", made.queries)
    session.run("VACUUM ANALYZE documents; VACUUM ANALYZE queries")


def build(session, table="documents"):
    """Makes the index: seconds on the clock, seconds of processors, bytes."""
    before, start = _process_seconds(session), time.monotonic()
    session.run(f"CREATE INDEX {table}_v ON {table} USING maxsim (v)")
    seconds, processor = time.monotonic() - start, _process_seconds(session) - before
    return {
        "build_s": seconds,
        "build_cpu_s": processor,
        "index_bytes": int(session.value(f"SELECT pg_relation_size('{table}_v')")),
        "tokens": int(session.value(f"SELECT tokens FROM infinity_embed.index_info('{table}_v')")),
        "lists": int(session.value(f"SELECT lists FROM infinity_embed.index_info('{table}_v')")),
    }


def truth(session, count, table="documents", where=""):
    """The exact best 100 of each query, and the exact scan's time."""
    session.run(EXACT)
    rankings, times = [], []
    for query in range(count):
        statement = RANKING.format(table=table, where=where, query=query, limit=DEEP)
        rankings.append(ids(session.value(f"SELECT array_agg(id) FROM ({statement}) AS ranked")))
        if query < 20:
            times.append(session.seconds(RANKING.format(table=table, where=where, query=query, limit=K))[1])
    return rankings, statistics.median(times)


def search(session, exact, table="documents", where=""):
    """Recall and times of the index for the queries whose exact ranking is given."""
    session.run(INDEX)
    found = {K: 0, DEEP: 0}
    wanted = {K: 0, DEEP: 0}
    times, refined, scored = [], [], []
    for query, ranking in enumerate(exact):
        for limit in (K, DEEP):
            statement = RANKING.format(table=table, where=where, query=query, limit=limit)
            listed = ids(session.value(f"SELECT array_agg(id) FROM ({statement}) AS ranked"))
            found[limit] += len(set(listed) & set(ranking[:limit]))
            wanted[limit] += len(ranking[:limit])
            if limit == K:
                a, b = session.value("SELECT refined, scored FROM infinity_embed.last_search()").split("|")
                refined.append(int(a))
                scored.append(int(b))
        times.append(session.seconds(RANKING.format(table=table, where=where, query=query, limit=K))[1])
    times.sort()
    return {
        "queries": len(exact),
        "recall_10": found[K] / wanted[K],
        "recall_100": found[DEEP] / wanted[DEEP],
        "p50_ms": times[len(times) // 2] * 1e3,
        "p95_ms": times[len(times) * 95 // 100] * 1e3,
        "refined": statistics.mean(refined),
        "scored": statistics.mean(scored),
    }


def inversions(session, count, table="documents"):
    """The share of adjacent rows of a long ranking that come in the wrong order."""
    session.run(INDEX)
    pairs = wrong = 0
    for query in range(count):
        row = session.value(DISTANCES.format(table=table, query=query, limit=LONGEST))
        distances = [float(distance) for distance in row.strip("{}").split(",")]
        pairs += len(distances) - 1
        wrong += sum(later < earlier for earlier, later in zip(distances, distances[1:]))
    return wrong / pairs


def inserts(session, count=200):
    """Inserting single rows into the indexed table and into a copy without index: median ms, bytes of WAL."""
    session.run("CREATE TABLE bare (LIKE documents INCLUDING ALL EXCLUDING INDEXES)")
    figures = {}
    for table in ("bare", "documents"):
        times, bytes_ = [], []
        for at in range(count + 1):
            source = f"SELECT id + 10000000, v FROM documents WHERE id = {at}"
            plan = json.loads("\n".join(session.run(
                f"EXPLAIN (ANALYZE, WAL, TIMING OFF, FORMAT json) INSERT INTO {table} {source}")))
            times.append(plan[0]["Execution Time"])
            bytes_.append(plan[0]["Plan"]["WAL Bytes"])
        # The backend's first reads the codebook.
        figures[table] = (times[0], statistics.median(times[1:]), statistics.median(bytes_[1:]))
    session.run("DROP TABLE bare; DELETE FROM documents WHERE id >= 10000000; VACUUM documents")
    return {
        "first_insert_ms": figures["documents"][0],
        "insert_ms": figures["documents"][1],
        "bare_insert_ms": figures["bare"][1],
        "insert_wal_bytes": figures["documents"][2] - figures["bare"][2],
    }


def ids(array):
    """The numbers of an array as PostgreSQL prints it."""
    return [int(number) for number in array.strip("{}").split(",") if number]


def _process_seconds(session):
    """Of all threads of the backend."""
    fields = Path(f"/proc/{session.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100
