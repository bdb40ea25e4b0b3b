"""The collections that the index is measured on: real ones, and ones made of them. Each is made again alike by its seed.

Documents come as float16 arrays (tokens, dim), which is how the table stores them; queries as float32.
"""

from dataclasses import dataclass
from typing import Callable, Iterator

import numpy as np


@dataclass(frozen=True)
class Set:
    """`documents()` makes them one after the other: all of a large collection at once would not fit into memory."""

    name: str
    dim: int
    count: int
    documents: Callable[[], Iterator[np.ndarray]]
    queries: list


def real(collection, name="scifact3k"):
    """The collection as it is."""
    documents = collection.documents()
    return Set(
        name,
        documents[0].shape[1],
        len(documents),
        lambda: (document.astype(np.float16) for document in documents),
        collection.queries(),
    )


def resampled(collection, count, queries):
    """Passages of 40 to 120 tokens out of shuffled runs of 10 to 40 consecutive real tokens, with noise.

    Queries are the real ones, and resampled ones after them up to their number.
    """

    def documents():
        random = np.random.default_rng(42)
        parts = collection.documents()
        for _ in range(count):
            yield _noisy(_runs(random, parts, random.integers(40, 121), 10, 40), random).astype(np.float16)

    random = np.random.default_rng(43)
    parts = collection.queries()
    made = [_noisy(_runs(random, parts, random.integers(8, 33), 4, 10), random) for _ in range(len(parts), queries)]
    return Set(f"resampled {count // 1000}k", collection.tokens.shape[1], count, documents, (parts + made)[:queries])


def pages(count, queries):
    """Pages of 1,030 patches: a third to two thirds background that all pages have, the rest regions of 5 to 40 patches
    about one of 4,000 things, each in its own way. A query is about 3 to 6 regions of one page."""
    dim, patches = 128, 1030
    random = np.random.default_rng(7)
    common = _unit(random.standard_normal(dim, dtype=np.float32))

    def around(centre, spread, number, source):
        noise = source.standard_normal((number, dim), dtype=np.float32) * (spread / np.sqrt(dim))
        return _unit(centre + noise)

    background = _unit(common + random.standard_normal((8, dim), dtype=np.float32) / 11.3)
    things = _unit(0.6 * common + random.standard_normal((4000, dim), dtype=np.float32) / 11.3)

    def page(number):
        source = np.random.default_rng(1000 + number)
        plain = source.integers(patches // 3, patches * 2 // 3 + 1)
        parts, regions = [around(background[source.integers(0, 8, plain)], 0.35, plain, source)], []
        while sum(map(len, parts)) < patches:
            region = around(things[source.integers(0, len(things))], 0.5, 1, source)
            parts.append(around(region, 0.5, source.integers(5, 41), source))
            regions.append(region)
        query = [
            around(regions[source.integers(0, len(regions))], 0.6, source.integers(2, 6), source)
            for _ in range(source.integers(3, 7))
        ]
        return np.concatenate(parts)[:patches], np.concatenate(query)

    return Set(
        f"pages {count // 1000}k",
        dim,
        count,
        lambda: (page(number)[0].astype(np.float16) for number in range(count)),
        [page(number * count // queries)[1] for number in range(queries)],
    )


def wide(collection):
    """Real tokens in 384 dimensions by a random map, with noise there and lengths between about 0.4 and 2.5."""
    dim = 384
    matrix = np.random.default_rng(11).standard_normal((collection.tokens.shape[1], dim), dtype=np.float32)
    matrix /= np.sqrt(np.float32(dim))

    def widen(values, number):
        random = np.random.default_rng(5000 + number)
        length = np.exp(0.35 * random.standard_normal((len(values), 1), dtype=np.float32))
        noise = random.standard_normal((len(values), dim), dtype=np.float32) * (0.22 / np.sqrt(dim))
        return length * (values @ matrix + noise)

    documents = collection.documents()
    return Set(
        "unnormalised 384",
        dim,
        len(documents),
        lambda: (widen(document, number).astype(np.float16) for number, document in enumerate(documents)),
        [widen(query, 10_000_000 + number) for number, query in enumerate(collection.queries())],
    )


def topics(collection):
    """The documents of either side of the direction in which means of documents differ most: two different topics."""
    documents = collection.documents()
    means = _unit(np.array([document.mean(axis=0) for document in documents]))
    means -= means.mean(axis=0)
    side = means @ np.linalg.svd(means, full_matrices=False)[2][0] > 0
    return side


def _runs(random, parts, tokens, shortest, longest):
    chosen, length = [], 0
    while length < tokens:
        part = parts[random.integers(0, len(parts))]
        size = min(random.integers(shortest, longest + 1), len(part))
        first = random.integers(0, len(part) - size + 1)
        chosen.append(part[first : first + size])
        length += size
    return np.concatenate(chosen)[:tokens]


def _noisy(values, random):
    """Unit vectors at an angle of about 0.22 to the given ones."""
    spread = np.float32(0.22 / np.sqrt(values.shape[1]))
    return _unit(values + spread * random.standard_normal(values.shape, dtype=np.float32))


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
