"""The real Infinity HTTP server, queue and batching, with models that a CPU can run. Started by start.sh.

Only the choice of the model class is replaced. Everything a client can see on the wire is infinity_emb's own code:
routes, validation, encoding, authentication, error bodies, downloading and opening of images.
"""

import argparse
import importlib
from types import SimpleNamespace
from typing import Union

import numpy as np
import uvicorn
from infinity_emb.args import EngineArgs
from infinity_emb.infinity_server import create_server
from infinity_emb.primitives import InferenceEngine
from infinity_emb.transformer.abstract import BaseTIMM
from infinity_emb.transformer.quantization.interface import quant_embedding_decorator
from PIL import Image

from page_encoder import PageEncoder
from subspaces import Subspaces
from text_encoder import HIDDEN, TextEncoder

MAX_ASPECT_RATIO = 200


class LateInteractionEncoder(BaseTIMM):
    """Texts and page images to one (rows, 128) array each, in the three steps that Infinity's worker threads run."""

    def __init__(self, *, engine_args: EngineArgs) -> None:
        self.engine_args = engine_args
        self._subspaces = Subspaces(HIDDEN)
        self._text_encoder = TextEncoder()
        self._page_encoder = PageEncoder(self._text_encoder, self._subspaces)

    def encode_pre(self, sentences_or_images: list[Union[str, Image.Image]]) -> list[Union[str, Image.Image]]:
        """Decodes the images. As with the real vision models, an image that breaks here ends the worker thread."""
        return [item if isinstance(item, str) else _decoded(item) for item in sentences_or_images]

    def encode_core(self, features: list[Union[str, Image.Image]]) -> list[np.ndarray]:
        return [
            self._subspaces.word_rows(self._text_encoder.encode(item))
            if isinstance(item, str)
            else self._page_encoder.encode(item)
            for item in features
        ]

    @quant_embedding_decorator()
    def encode_post(self, embedding: list[np.ndarray]) -> list[np.ndarray]:
        return embedding

    def tokenize_lengths(self, sentences: list[str]) -> list[int]:
        return [self._text_encoder.count(sentence) for sentence in sentences]


def _decoded(image: Image.Image) -> Image.Image:
    """RGB pixels; refuses what ColQwen2's image processor refuses. Raises on a truncated or corrupt file."""
    if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
        raise ValueError(f"absolute aspect ratio must be smaller than {MAX_ASPECT_RATIO}, got {image.size}")
    return image.convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7997)
    parser.add_argument("--served-model-name", default="minilm-colbert-lite")
    parser.add_argument("--batch-size", type=int, default=8, help="items the server joins into one step")
    parser.add_argument("--url-prefix", default="")
    parser.add_argument("--api-key", default="")
    options = parser.parse_args()

    # By name: the package shows a function under the module's name.
    select_model = importlib.import_module("infinity_emb.inference.select_model")
    select_model.get_engine_type_from_config = lambda _: SimpleNamespace(value=LateInteractionEncoder)
    engine = EngineArgs(
        model_name_or_path=options.served_model_name,
        served_model_name=options.served_model_name,
        engine=InferenceEngine.debugengine,
        batch_size=options.batch_size,
        model_warmup=False,
    )
    app = create_server(
        engine_args_list=[engine],
        url_prefix=options.url_prefix,
        api_key=options.api_key,
        doc_extra={"host": options.host, "port": options.port},
    )
    uvicorn.run(app, host=options.host, port=options.port, http="httptools", log_level="info")


if __name__ == "__main__":
    main()
