"""How well each element type ranks, asked in SQL: the share of the exact best 10 that it finds for scifact3k's queries."""

RANKING = "SELECT id FROM collection ORDER BY {column} @# query LIMIT {limit}"
RESCORED = """SELECT id FROM (SELECT id, f32 FROM collection ORDER BY {column} @# query LIMIT 100) AS best
    ORDER BY f32 @# query LIMIT {limit}"""
# name: (column, what is ranked how)
WAYS = {
    "f16": ("f16", RANKING),
    "int8": ("int8", RANKING),
    "bit": ("bit", RANKING),
    "bit, then exact on its best 100": ("bit", RESCORED),
    "f16 pooled x2": ("pooled", RANKING),
}


def measure(session, collection):
    """recall@10 for each way; nothing without the collection."""
    if collection is None:
        print("skipped: recall needs scifact3k, which was not found")
        return {}
    _load(session, collection)
    found = {}
    for way, (column, ranking) in WAYS.items():
        statement = ranking.format(column=column, limit=10)
        # Materialised: a query of a table would be read from TOAST for every document anew.
        rows = session.run(f"""
            WITH q AS MATERIALIZED (SELECT id, embedding::multivector AS query FROM queries)
            SELECT q.id, ARRAY({statement}) FROM q ORDER BY q.id""")
        hits = 0
        for row in rows:
            query, ids = row.split("|")
            exact = set(collection.exact[int(query), :10].tolist())
            hits += sum(int(document) in exact for document in ids.strip("{}").split(","))
        found[way] = hits / (10 * len(rows))
    return found


def _load(session, collection):
    for table, rows in (("documents", collection.documents()), ("queries", collection.queries())):
        session.run(f"CREATE TABLE {table} (id integer, embedding real[])")
        session.load(table, rows)
    session.run("""
        CREATE TABLE collection (id integer, f32 multivector(128), f16 multivector(128, f16), int8 multivector(128, int8),
            bit multivector(128, bit), pooled multivector(128, f16));
        INSERT INTO collection SELECT id, embedding, embedding, embedding, embedding,
            multivector_normalize(multivector_pool(embedding::multivector, 2)) FROM documents;
        VACUUM ANALYZE collection""")
