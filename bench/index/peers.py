"""Other indexes over the same documents and queries, where their extensions are available: pgvector's HNSW over documents' mean
vectors, whose best are ranked again exactly, and VectorChord's index of vector[]. Both with their own default settings.

Used by `main.py` after a collection has been measured. pgvector's candidates are ranked by our `@#`, which is the fastest there.
"""

import statistics
import time
from dataclasses import dataclass

import measure

# Candidates that are ranked again; also pgvector's ef_search, without which it would not find so many.
CANDIDATES = 100
QUERIES = 100


@dataclass(frozen=True)
class Peer:
    """An index: how its table is filled, made and asked. `{dim}` and `{query}` are put in."""

    name: str
    extension: str
    column: str
    stored: str
    """Expression over our column v, of documents and queries alike."""
    index: str
    ranking: str
    settings: str = ""


MEAN = """(SELECT avg(token::vector({dim})) FROM multivector_unnest(v::multivector) AS t(token))"""
ARRAY = """(SELECT array_agg(token::vector({dim}) ORDER BY number)
    FROM multivector_unnest(v::multivector) WITH ORDINALITY AS t(token, number))"""
PEERS = (
    Peer(
        "pgvector: mean vector, HNSW, best {} again".format(CANDIDATES),
        "vector",
        "vector({dim})",
        MEAN,
        "hnsw (p vector_ip_ops)",
        f"""WITH near AS MATERIALIZED (SELECT id FROM peer ORDER BY p <#> (SELECT p FROM peer_queries WHERE id = {{query}})
                LIMIT {CANDIDATES})
            SELECT id FROM near JOIN documents USING (id)
            ORDER BY v @# (SELECT v::real[] FROM queries WHERE id = {{query}}) LIMIT {{limit}}""",
        f"SET hnsw.ef_search = {CANDIDATES}",
    ),
    Peer(
        "VectorChord: vchordrq",
        "vchord",
        "vector({dim})[]",
        ARRAY,
        "vchordrq (p vector_maxsim_ops)",
        "SELECT id FROM peer ORDER BY p @# (SELECT p FROM peer_queries WHERE id = {query}) LIMIT {limit}",
    ),
)


def measure_all(session, one, exact):
    """Figures of each peer that is available, for the collection that is loaded; `exact` are its rankings."""
    available = session.run("SELECT name FROM pg_available_extensions")
    return {
        f"{one.name}, {peer.name}": _measure(session, one, peer, exact[:QUERIES])
        for peer in PEERS
        if peer.extension in available
    }


def _measure(session, one, peer, exact):
    session.run(f"CREATE EXTENSION IF NOT EXISTS {peer.extension} CASCADE; {measure.INDEX}; {peer.settings}")
    column, stored = (text.format(dim=one.dim) for text in (peer.column, peer.stored))
    for table, source in (("peer", "documents"), ("peer_queries", "queries")):
        session.run(f"""
            DROP TABLE IF EXISTS {table};
            CREATE TABLE {table} (id integer PRIMARY KEY, p {column});
            INSERT INTO {table} SELECT id, {stored} FROM {source} ORDER BY id;
            VACUUM ANALYZE {table}""")
    start = time.monotonic()
    session.run(f"CREATE INDEX peer_p ON peer USING {peer.index}")
    seconds = time.monotonic() - start
    found, times = {measure.K: 0, measure.DEEP: 0}, []
    for query, ranking in enumerate(exact):
        for limit in found:
            statement = peer.ranking.format(query=query, limit=limit)
            ids = measure.ids(session.value(f"SELECT array_agg(id) FROM ({statement}) AS ranked"))
            found[limit] += len(set(ids) & set(ranking[:limit])) / len(ranking[:limit])
        times.append(session.seconds(peer.ranking.format(query=query, limit=measure.K))[1])
    figures = {
        "queries": len(exact),
        "recall_10": found[measure.K] / len(exact),
        "recall_100": found[measure.DEEP] / len(exact),
        "p50_ms": statistics.median(times) * 1e3,
        "p95_ms": sorted(times)[len(times) * 95 // 100] * 1e3,
        "build_s": seconds,
        "index_bytes": int(session.value("SELECT pg_relation_size('peer_p')")),
    }
    session.run("DROP TABLE peer, peer_queries")
    return figures
