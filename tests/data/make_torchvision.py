"""Writes torchvision's preprocessing of images, for tests/contract/test_picture_originals.py to compare with.

    python tests/data/make_torchvision.py

Needs torch and torchvision, which the project itself does not. Writes tests/data/pictures/torchvision.npz: float32
[3, 32, 32] by recipe and picture.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from PIL import Image
from torchvision.transforms import v2

SIDE, SHORTER = 32, 37
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILTERS = v2.InterpolationMode
FOLDER = Path(__file__).parent / "pictures"

# Each ends in float32 [3, height, width].
RECIPES: dict[str, list[Any]] = {
    # The evaluation of its classifiers: torchvision.transforms._presets.ImageClassification.
    "imagenet": [v2.Resize(SHORTER), v2.CenterCrop(SIDE), v2.PILToTensor(), v2.Normalize(MEAN, STD)],
    "crop-bicubic": [v2.Resize(SIDE, FILTERS.BICUBIC), v2.CenterCrop(SIDE), v2.PILToTensor(), v2.Normalize(MEAN, STD)],
    # The image processor of google/vit-base-patch16-224: both sides, bilinear, mean and std 0.5.
    "vit": [v2.Resize((SIDE, SIDE)), v2.PILToTensor(), v2.Normalize((0.5,) * 3, (0.5,) * 3)],
    "nearest": [v2.Resize((SIDE, SIDE), FILTERS.NEAREST), v2.PILToTensor(), v2.Normalize((0.0,) * 3, (1.0,) * 3)],
}


def picture(width: int, height: int) -> Image.Image:
    """Returns the picture of this size that the tests make as well."""
    random = np.random.default_rng(width * 1000 + height)
    ramp = np.linspace(0, 200, width)[None, :, None] + np.zeros((height, 1, 3))
    return Image.fromarray(np.clip(ramp + random.normal(0, 40, (height, width, 3)), 0, 255).astype(np.uint8))


SIZES = [(90, 60), (20, 30), (120, 40), (37, 71), (32, 32), (400, 5)]


def main() -> None:
    made = {}
    for name, steps in RECIPES.items():
        *pixels, normalise = steps
        for width, height in SIZES:
            levels = v2.Compose(pixels)(picture(width, height))
            made[f"{name} {width}x{height}"] = normalise(levels.float() / 255).numpy()
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(FOLDER / "torchvision.npz", version=torchvision.__version__, **made)


if __name__ == "__main__":
    main()
