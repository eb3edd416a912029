"""Draws pictures that resemble photographs: deterministic, and free of copyright."""

import io

import numpy as np
from PIL import Image

_GRAIN = 4.0
_OBJECTS = 60


def photo(width: int, height: int, seed: int) -> Image.Image:
    """Returns a picture with structure of all sizes like photographs, flat objects with edges, and sensor noise."""
    chance = np.random.default_rng(seed)
    levels = np.zeros((height, width, 3), np.float32)
    cell = 4
    while cell < 2 * max(width, height):
        coarse = chance.normal(0, min(cell, 256) / 64, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        for channel in range(3):
            levels[..., channel] += np.asarray(
                Image.fromarray(coarse[..., channel]).resize((width, height)), np.float32
            )
        cell *= 2
    levels = (levels - levels.mean()) / levels.std() * 50 + 128
    for _ in range(_OBJECTS):
        left, top = chance.integers(0, width), chance.integers(0, height)
        right, bottom = left + chance.integers(4, width // 3), top + chance.integers(4, height // 3)
        levels[top:bottom, left:right] = levels[top:bottom, left:right] * 0.4 + chance.integers(0, 256, 3) * 0.6
    levels += chance.standard_normal(levels.shape, np.float32) * _GRAIN
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """Returns a picture as a JPEG like a camera's, with colour subsampled by two in both directions."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return file.getvalue()


def png(image: Image.Image) -> bytes:
    """Returns a picture as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
