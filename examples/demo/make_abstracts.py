"""Makes abstracts.tsv: 300 SciFact abstracts, in COPY's text format (id, title, abstract).

    python3 make_abstracts.py FOLDER    # with corpus.jsonl and qrels.tsv of BEIR's SciFact

All 283 abstracts that are evidence for some claim of the test set, and 17 others drawn with a fixed seed.
"""

import json
import random
import sys
from pathlib import Path

ABSTRACTS = 300
SEED = 7


def main(folder: Path) -> None:
    with open(folder / "corpus.jsonl", encoding="utf-8") as corpus:
        documents = {document["_id"]: document for document in map(json.loads, corpus)}
    judgements = (folder / "qrels.tsv").read_text().splitlines()[1:]
    evidence = {line.split("\t")[1] for line in judgements}
    others = sorted(documents.keys() - evidence, key=int)
    chosen = evidence | set(random.Random(SEED).sample(others, ABSTRACTS - len(evidence)))
    with open(Path(__file__).parent / "abstracts.tsv", "w", encoding="utf-8") as output:
        for identifier in sorted(chosen, key=int):
            document = documents[identifier]
            print(identifier, escaped(document["title"]), escaped(document["text"]), sep="\t", file=output)


def escaped(text: str) -> str:
    """One field of COPY's text format; runs of white space become one space."""
    return " ".join(text.split()).replace("\\", "\\\\")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
