"""Microseconds per document inside PostgreSQL: scoring, and bare detoast, for every way to store it.

Every run takes each statement once, so that a busy machine disturbs all alike. VectorChord and pgvector join where their
extensions are available.
"""

from dataclasses import dataclass
from statistics import median

from documents import SHAPES, cut

# The peers' documents, from real[][].
VECTORS = """(SELECT array_agg(token::vector(128) ORDER BY number)
    FROM multivector_unnest(embedding::multivector) WITH ORDINALITY AS t(token, number))"""


@dataclass(frozen=True)
class Form:
    """A way to store and score documents."""

    name: str
    type: str
    stored: str = "embedding"
    """Expression over a real[][] column, for filling the table."""
    query: str = "embedding::multivector"
    """Expression over a real[][] column. Results of a function lie in memory, as embeddings just fetched do."""
    score: str = "sum(embedding @# (SELECT {query} FROM queries_{shape}))"
    touch: str = "sum(multivector_tokens(embedding))"
    """Reads the whole document and does nothing with it."""


OWN = (
    Form("real[]", "real[]", query="embedding::multivector::real[]", touch="sum(array_length(embedding, 1))"),
    Form("f32", "multivector(128)"),
    Form("f16", "multivector(128, f16)"),
    Form("int8", "multivector(128, int8)"),
    Form("bit", "multivector(128, bit)"),
)
PGVECTOR = Form(
    "pgvector",
    "vector(128)[]",
    stored=VECTORS,
    query=VECTORS,
    score="""sum((SELECT sum(best) FROM (SELECT max(-(token <#> q)) AS best FROM unnest(embedding) AS token,
        unnest((SELECT {query} FROM queries_{shape})) WITH ORDINALITY AS u(q, number) GROUP BY number) AS t))""",
    touch="sum(array_length(embedding, 1))",
)
VECTORCHORD = Form("VectorChord", "vector(128)[]", VECTORS, VECTORS, touch="sum(array_length(embedding, 1))")
PEERS = {"vector": PGVECTOR, "vchord": VECTORCHORD}


def measure(session, collection, rounds):
    """One result per shape and form: microseconds per document and the quotients that the bars are about."""
    forms = OWN + _peers(session)
    for shape in SHAPES:
        _load(session, collection, shape, forms)
    samples = {}
    for turn in range(rounds + 1):
        for shape in SHAPES:
            for form in forms:
                for kind in ("score", "touch"):
                    taken = session.seconds(_statement(shape, form, kind))
                    # The first turn brings tables into memory and catalogs into the session's caches.
                    if turn:
                        samples.setdefault((shape.name, form.name, kind), []).append(taken)
    return [_result(samples, shape, form) for shape in SHAPES for form in forms]


def _peers(session):
    available = session.run("SELECT name FROM pg_available_extensions")
    peers = []
    for extension, form in PEERS.items():
        if extension in available:
            session.run(f"CREATE EXTENSION IF NOT EXISTS {extension} CASCADE")
            peers.append(form)
    return tuple(peers)


def _table(shape, form):
    return f"{shape.name}_{form.name}".lower().replace("[]", "")


def _load(session, collection, shape, forms):
    query, documents = cut(collection, shape)
    source = _table(shape, forms[0])
    for table, rows in ((f"queries_{shape.name}", [query]), (source, documents)):
        # Nothing is gained by compressing these numbers: without trying, real[] is read fastest.
        session.run(f"CREATE TABLE {table} (id integer, embedding real[])")
        session.run(f"ALTER TABLE {table} ALTER embedding SET STORAGE external")
        session.load(table, rows)
    for form in forms[1:]:
        table = _table(shape, form)
        session.run(f"CREATE TABLE {table} (id integer, embedding {form.type})")
        session.run(f"ALTER TABLE {table} ALTER embedding SET STORAGE external")
        session.run(f"INSERT INTO {table} SELECT id, {form.stored} FROM {source} ORDER BY id")
    for form in forms:
        session.run(f"VACUUM ANALYZE {_table(shape, form)}")


def _statement(shape, form, kind):
    expression = form.score if kind == "score" else form.touch
    return f"SELECT {expression.format(query=form.query, shape=shape.name)} FROM {_table(shape, form)}"


def _result(samples, shape, form):
    def medians(kind):
        pairs = samples[shape.name, form.name, kind]
        return [median(column) * 1e6 / shape.documents for column in zip(*pairs)]

    def quotient(name, kind):
        pairs = zip(samples[shape.name, form.name, "score"], samples[shape.name, name, kind])
        return median(ours[0] / other[0] for ours, other in pairs)

    score, detoast = medians("score"), medians("touch")
    return {
        "shape": shape.name,
        "form": form.name,
        "score_us": score[0],
        "detoast_us": detoast[0],
        "score_clock_us": score[1],
        "detoast_clock_us": detoast[1],
        "to_own_detoast": quotient(form.name, "touch"),
        "to_f32": quotient("f32", "score"),
    }
