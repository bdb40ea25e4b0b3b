"""Measures the index on every collection, prints one table and writes index.json. `bench/run index` starts it."""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from database import Session  # noqa: E402
from documents import scifact3k  # noqa: E402
from machine import describe  # noqa: E402

import collections_made as made  # noqa: E402
import measure  # noqa: E402
import peers  # noqa: E402
from index_report import report  # noqa: E402

INVERSION_QUERIES = 60
GROWN = "40k filled after CREATE INDEX"
UNSEEN = "a topic the codebook has not seen"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--large", action="store_true", help="240,000 passages too: 16 GB of disk, half an hour")
    parser.add_argument("--only", help="a part of a collection's name")
    options = parser.parse_args()
    collection = scifact3k()
    if collection is None:
        raise SystemExit("skipped: the index is measured on scifact3k and what is made of it, which was not found")

    session = Session(options.cluster)
    session.run("CREATE EXTENSION infinity_embed")
    results = {"machine": {**describe(), "command": "make bench-index"}, "collections": [], "special": {}, "peers": {}}
    for one in _collections(collection, options):
        figures, exact = _measure(session, one)
        results["collections"].append(figures)
        results["peers"].update(peers.measure_all(session, one, exact))
        print(f"measured: {one.name}", file=sys.stderr)
        if one.name == "resampled 40k":
            results["special"].update(_filtered(session, results["collections"][-1]["queries"]))
    if _is_wanted(options, GROWN):
        results["special"][GROWN] = _grown(session, made.resampled(collection, 40_000, 100))
    if _is_wanted(options, UNSEEN):
        results["special"][UNSEEN] = _unseen(session, collection)
    session.close()
    file = options.out / "index.json"
    file.write_text(json.dumps(results, indent=2) + "\n")
    print(report(results))
    print(f"\nwritten: {file}")


def _collections(collection, options):
    sets = [
        made.real(collection),
        made.resampled(collection, 40_000, 500),
        made.pages(3_000, 100),
        made.wide(collection),
    ]
    if options.large:
        sets.append(made.resampled(collection, 240_000, 60))
    return [one for one in sets if _is_wanted(options, one.name)]


def _is_wanted(options, name):
    return not options.only or options.only in name


def _measure(session, one):
    measure.load(session, one)
    figures = {"name": one.name, "dim": one.dim, "documents": one.count}
    figures.update(measure.build(session))
    exact, seconds = measure.truth(session, len(one.queries))
    figures["exact_ms"] = seconds * 1e3
    figures.update(measure.search(session, exact))
    figures["inversions"] = measure.inversions(session, min(INVERSION_QUERIES, len(one.queries)))
    figures.update(measure.inserts(session))
    return figures, exact


def _filtered(session, queries):
    """A condition that one row of a hundred fulfils, and of which the index knows nothing."""
    where = "WHERE id % 100 = 7"
    exact, _ = measure.truth(session, min(queries, 100), where=where)
    filtered = measure.search(session, exact, where=where)
    plain, _ = measure.truth(session, min(queries, 100))
    return {"filter of 1 %": filtered, "the same queries without": measure.search(session, plain)}


def _grown(session, one):
    """The index is there first; the table is filled by one COPY."""
    session.run(f"""
        DROP TABLE IF EXISTS documents, queries;
        CREATE TABLE documents (id integer PRIMARY KEY, v multivector({one.dim}, f16));
        CREATE TABLE queries (id integer PRIMARY KEY, v multivector({one.dim}));
        CREATE INDEX documents_v ON documents USING maxsim (v)""")
    session.load_multivectors("documents", one.documents())
    session.load_multivectors("queries", one.queries)
    session.run("VACUUM ANALYZE documents; VACUUM ANALYZE queries")
    exact, _ = measure.truth(session, len(one.queries))
    figures = measure.search(session, exact)
    return {**figures, "inversions": measure.inversions(session, INVERSION_QUERIES)}


def _unseen(session, collection):
    """Trained on documents of one topic, all documents of the other come later; only those are searched."""
    one, side = made.real(collection), made.topics(collection)
    measure.load(session, one)
    session.run("CREATE TABLE later AS SELECT * FROM documents")
    other = ",".join(str(number) for number in range(len(side)) if side[number])
    session.run(f"DELETE FROM documents WHERE id IN ({other}); VACUUM documents")
    measure.build(session)
    session.run(f"INSERT INTO documents SELECT * FROM later WHERE id IN ({other}); DROP TABLE later")
    session.run(f"DELETE FROM documents WHERE id NOT IN ({other}); VACUUM ANALYZE documents")
    exact, _ = measure.truth(session, len(one.queries))
    return measure.search(session, exact)


if __name__ == "__main__":
    main()
