"""How each patch of a page image looks, in 16 numbers: ink, colour, strokes, place. Used by page_encoder.py.

Classical image statistics, not a vision model: they tell a bar chart from a table, not a cat from a dog.
"""

import numpy as np
from PIL import Image

LONG_SIDE = 640
PATCH = 64
FEATURES = 16
INK_CONTRAST = 0.12  # a pixel this far from the page's background, in any channel of 0..1, is ink


def patch_features(image: Image.Image) -> np.ndarray:
    """(patches, 16) f32 of an RGB image: one row per 64-pixel patch, once scaled to 640, that has ink in it.

    A page of one colour has no ink; then every patch counts, so that there is always at least one row.
    """
    pixels = _scaled(image)
    height, width = pixels.shape[:2]
    background = np.median(pixels.reshape(-1, 3), axis=0)
    ink = np.abs(pixels - background).max(axis=2) > INK_CONTRAST
    if not ink.any():
        ink = np.ones_like(ink)
    gradient_y, gradient_x = np.gradient(pixels.mean(axis=2))
    rows = []
    for top in range(0, height, PATCH):
        for left in range(0, width, PATCH):
            window = np.s_[top : top + PATCH, left : left + PATCH]
            if ink[window].any():
                place = np.array([(left + PATCH / 2) / width - 0.5, (top + PATCH / 2) / height - 0.5])
                strokes = _strokes(gradient_x[window], gradient_y[window])
                rows.append(np.concatenate([_ink(ink[window]), _colour(pixels[window], ink[window]), strokes, place]))
    return np.array(rows, dtype=np.float32)


def _scaled(image: Image.Image) -> np.ndarray:
    """The pixels as 0..1, longer side 640, each side a whole number of patches."""
    scale = LONG_SIDE / max(image.size)
    size = tuple(max(1, round(side * scale / PATCH)) * PATCH for side in image.size)
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR), dtype=np.float32) / 255


def _ink(ink: np.ndarray) -> np.ndarray:
    """How much of the patch is ink, and how the ink lies in its four quarters (5 values)."""
    half = PATCH // 2
    quarters = ink.reshape(2, half, 2, half).mean(axis=(1, 3)).ravel()
    return np.concatenate([[2 * ink.mean() - 0.5], quarters - ink.mean()])


def _colour(pixels: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Lightness, red against green, yellow against blue, saturation and contrast of the ink (5 values)."""
    red, green, blue = pixels[ink].mean(axis=0)
    saturation = (pixels[ink].max(axis=1) - pixels[ink].min(axis=1)).mean()
    lightness = (red + green + blue) / 3
    return np.array(
        [lightness - 0.5, red - green, (red + green) / 2 - blue, saturation - 0.1, pixels[ink].mean(axis=1).std() - 0.2]
    )


def _strokes(gradient_x: np.ndarray, gradient_y: np.ndarray) -> np.ndarray:
    """Shares of the gradient in four directions, less their mean of a quarter (4 values)."""
    strength = np.hypot(gradient_x, gradient_y)
    direction = np.floor((np.arctan2(gradient_y, gradient_x) / np.pi * 4 + 0.5) % 4).astype(int)
    shares = np.bincount(direction.ravel() % 4, strength.ravel(), minlength=4)
    return shares / max(strength.sum(), 1e-6) - 0.25
