"""numpy on one thread: the peer that every machine has. Documents come cold, one after another out of a large array."""

import mmap
import time

import numpy as np

from documents import DIM, SHAPES

# As many bytes as the kernels' bench takes cold documents from.
POOL_BYTES = 400 << 20
# Documents of shape T in a sample; fewer of larger ones.
PER_SAMPLE = 40


def measure(samples):
    """Processor seconds per pair of query and document: a list of samples for each shape."""
    return {shape.name: _measure(shape, samples) for shape in SHAPES}


def lower_decile_us(seconds):
    """As the kernels' bench condenses its samples."""
    return sorted(seconds)[len(seconds) // 10] * 1e6


def _measure(shape, samples):
    random = np.random.default_rng(1)
    query = random.standard_normal((shape.query_tokens, DIM), dtype=np.float32)
    some = random.standard_normal((8, shape.document_tokens, DIM), dtype=np.float32)
    pool = _pages(POOL_BYTES // some.nbytes * some.nbytes).reshape(-1, *some.shape[1:])
    for at in range(0, len(pool), len(some)):
        pool[at : at + len(some)] = some
    per_sample = PER_SAMPLE * SHAPES[0].document_tokens // shape.document_tokens
    seconds, first = [], 0
    for _ in range(samples):
        start = time.thread_time()
        for at in range(first, first + per_sample):
            np.max(query @ pool[at % len(pool)].T, axis=1).sum()
        seconds.append((time.thread_time() - start) / per_sample)
        first += per_sample
    return seconds


def _pages(size):
    """Memory in pages of 2 MB, as numpy's own arrays and the kernels' bench have it."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.float32)
