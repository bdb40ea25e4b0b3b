"""Token vectors to measure with: real ones from scifact3k, or generated ones. Used by sql_level and recall.

For time only the shapes count. Recall needs real vectors: without them there is none.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DIM = 128


@dataclass(frozen=True)
class Shape:
    """How many tokens a query and a document have, and how many documents of that size are scored."""

    name: str
    what: str
    query_tokens: int
    document_tokens: int
    documents: int


# As many documents as the 387,683 token vectors of scifact3k suffice for.
SHAPES = (
    Shape("T", "text passage", 32, 180, 2153),
    Shape("P", "page image", 20, 1030, 376),
)


@dataclass(frozen=True)
class Collection:
    """scifact3k: `tokens` (n, 128) of all documents, `starts` where each begins; the same for queries."""

    tokens: np.ndarray
    starts: np.ndarray
    query_tokens: np.ndarray
    query_starts: np.ndarray
    exact: np.ndarray
    """Row numbers of the exact best documents of each query, best first."""

    def documents(self):
        """Each document's tokens."""
        return np.split(self.tokens, self.starts[1:-1])

    def queries(self):
        """Each query's tokens."""
        return np.split(self.query_tokens, self.query_starts[1:-1])


def scifact3k():
    """The collection, or None where it is not at hand."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("INFINITY_EMBED_SHARED", beside)) / "data" / "scifact3k"
    if not folder.is_dir():
        return None

    def load(name):
        return np.load(folder / f"{name}.npy")

    codes = load("docs.i8").astype(np.float32)
    tokens = (codes * load("docs.scale").astype(np.float32)[:, None]) @ load("rot")
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    return Collection(
        tokens,
        load("docs.off"),
        load("queries.f32").astype(np.float32),
        load("queries.off"),
        load("gt.ids"),
    )


def cut(collection, shape):
    """A query and documents of this shape: runs of consecutive real tokens, or random ones of length one."""
    if collection is None:
        random = np.random.default_rng(1)
        return _unit(random, (shape.query_tokens,)), _unit(random, (shape.documents, shape.document_tokens))
    needed = shape.documents * shape.document_tokens
    documents = collection.tokens[:needed].reshape(shape.documents, shape.document_tokens, DIM)
    return collection.query_tokens[: shape.query_tokens], documents


def _unit(random, shape):
    vectors = random.standard_normal((*shape, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
