"""The 128-dimensional space of the rows: 112 dimensions for words, 16 for looks. Used by the encoders and serve.py.

Both are placed by fixed orthogonal matrices from a seed, so that every start of the server gives the same vectors. The
two subspaces are orthogonal (a word and a look score 0 against each other) yet no coordinate is zero anywhere.
"""

import numpy as np

DIM = 128
VISUAL = 16
SEED = 20240417


def _orthogonal(size: int, generator: np.random.Generator) -> np.ndarray:
    """A random orthogonal matrix; fixing the signs of R's diagonal makes it unique for a given draw."""
    q, r = np.linalg.qr(generator.standard_normal((size, size)))
    return q * np.sign(np.diag(r))


class Subspaces:
    """Places hidden states and patch features in the common space, as L2-normalised f32 rows."""

    def __init__(self, hidden: int) -> None:
        generator = np.random.default_rng(SEED)
        basis = _orthogonal(DIM, generator)
        words = _orthogonal(hidden, generator)[:, : DIM - VISUAL]
        self._words = (words @ basis[VISUAL:]).astype(np.float32)
        self._looks = basis[:VISUAL].astype(np.float32)

    def word_rows(self, hidden_states: np.ndarray) -> np.ndarray:
        """(n, hidden) → (n, 128)."""
        return _normalised(hidden_states @ self._words)

    def look_rows(self, patch_features: np.ndarray) -> np.ndarray:
        """(n, 16) → (n, 128)."""
        return _normalised(patch_features @ self._looks)


def _normalised(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
