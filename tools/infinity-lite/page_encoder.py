"""Turns a page image into rows: one per word piece read on it, one per patch that has ink. Used by serve.py.

A stand-in for ColQwen2 that a CPU can afford: it reads the page (PP-OCRv4 by rapidocr) and encodes what it read as
text, in reading order. So text finds page images by their words, and images find images by words and looks.
"""

import logging

import numpy as np
from PIL import Image
from rapidocr_onnxruntime import RapidOCR

from patch_features import patch_features
from subspaces import Subspaces
from text_encoder import MAX_TOKENS, TextEncoder

READER_LONG_SIDE = 1024
READER_SHORT_SIDE = 256


class PageEncoder:
    """Not for use by two threads at once: the page reader keeps state between its steps."""

    def __init__(self, text_encoder: TextEncoder, subspaces: Subspaces) -> None:
        self._text_encoder = text_encoder
        self._subspaces = subspaces
        # Lines one by one on one thread: on two busy cores twice as fast as the defaults, which pad lines into batches.
        self._reader = RapidOCR(
            use_cls=False,
            rec_batch_num=1,
            intra_op_num_threads=1,
            det_limit_type="max",
            det_limit_side_len=READER_LONG_SIDE,
        )
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)  # it warns of every page without text

    def encode(self, image: Image.Image) -> np.ndarray:
        """(rows, 128) f32 of an RGB image; words first, then patches; at least one row."""
        looks = self._subspaces.look_rows(patch_features(image))
        words = [self._subspaces.word_rows(self._text_encoder.encode(text)) for text in self._texts(image)]
        return np.concatenate([*words, looks])

    def _texts(self, image: Image.Image) -> list[str]:
        """What stands on the page, in reading order, in pieces that the text encoder takes uncut."""
        texts: list[str] = []
        for line in self._lines(image):
            if texts and self._text_encoder.count(f"{texts[-1]} {line}") < MAX_TOKENS:
                texts[-1] = f"{texts[-1]} {line}"
            else:
                texts.append(line)
        return texts

    def _lines(self, image: Image.Image) -> list[str]:
        found, _ = self._reader(np.asarray(_readable(image))[:, :, ::-1])  # it expects BGR
        return [text for _, text, _ in found or [] if text.strip()]


def _readable(image: Image.Image) -> Image.Image:
    """The image in a size that the reader can take: it breaks on thin strips, or reads a 3 x 600 one for minutes."""
    scale = READER_LONG_SIDE / max(image.size)
    page = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", [max(side, READER_SHORT_SIDE) for side in page.size], page.getpixel((0, 0)))
    sheet.paste(page)
    return sheet
