"""Preprocessing matches the programs that models were trained with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.decode import MAX_PIXELS, decode_file
from pixelserve.imaging.prepare import prepare

pytestmark = pytest.mark.slow

# Width and height: reduced, enlarged, 3:1, odd, and as it is.
SIZES = [(90, 60), (20, 30), (120, 40), (37, 71), (48, 32)]
SHAPE = (32, 48, 3)


# Names of the recipes of tests/data/make_torchvision.py, and a pixel level's size in the model's values.
RECIPES = {
    "imagenet": ("imagenet resize=37", 255 * 0.225),
    "crop-bicubic": ("fit=crop resampling=bicubic scale=imagenet", 255 * 0.225),
    "vit": ("vit", 255 * 0.5),
    "nearest": ("fit=stretch resampling=nearest scale=0..1", 255),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of noise over a gradient: each filter leaves another trace of them."""
    folder = tmp_path_factory.mktemp("pictures") / "class"
    folder.mkdir()
    random = np.random.default_rng(7)
    paths = []
    for width, height in SIZES:
        ramp = np.linspace(0, 200, width)[None, :, None] + np.zeros((height, 1, 3))
        pixels = np.clip(ramp + random.normal(0, 40, (height, width, 3)), 0, 255).astype(np.uint8)
        paths.append(folder / f"{width}x{height}.png")
        Image.fromarray(pixels).save(paths[-1])
    return sorted(paths)


def ours(path: Path, line: str, dtype: str = "float32") -> Any:
    return prepare(decode_file(path.read_bytes(), MAX_PIXELS), parse(line, Input(SHAPE, dtype)))


def test_the_keras_preset_is_what_keras_reads_from_a_directory(files: list[Path]) -> None:
    import keras

    loaded = keras.utils.image_dataset_from_directory(
        files[0].parents[1], labels=None, image_size=SHAPE[:2], shuffle=False, batch_size=None, verbose=False
    )
    for path, theirs in zip(files, loaded, strict=True):
        np.testing.assert_allclose(ours(path, "keras scale=0..255"), theirs.numpy(), atol=2e-3, err_msg=path.name)
        # A model that takes bytes gets them rounded.
        assert np.abs(ours(path, "keras", "uint8") - theirs.numpy()).max() <= 0.502


@pytest.mark.parametrize(("name", "resampling"), [("nearest", "nearest"), ("bilinear", "bilinear"), ("box", "area")])
def test_stretched_pictures_are_what_keras_load_img_makes(files: list[Path], name: str, resampling: str) -> None:
    import keras

    for path in files:
        theirs = np.asarray(keras.utils.load_img(path, target_size=SHAPE[:2], interpolation=name))
        np.testing.assert_array_equal(ours(path, f"fit=stretch resampling={resampling}", "uint8"), theirs, path.name)


@pytest.mark.parametrize("recipe", RECIPES)
def test_pictures_are_what_torchvision_makes_to_the_last_level(root: Path, recipe: str) -> None:
    line, level = RECIPES[recipe]
    spec = parse(line, Input((3, 32, 32), "float32"))
    with np.load(root / "tests" / "data" / "pictures" / "torchvision.npz") as made:
        sizes = [name.split()[1] for name in made.files if name.startswith(f"{recipe} ")]
        assert len(sizes) == 6
        for size in sizes:
            width, height = map(int, size.split("x"))
            # Strips are not resized whole, so they may differ by rounding.
            most = 1.01 / level if max(width, height) > 4 * min(width, height) else 1e-5
            seen = prepare(as_torchvision_saw(width, height), spec)
            np.testing.assert_allclose(seen, made[f"{recipe} {size}"], rtol=0, atol=most, err_msg=size)


def as_torchvision_saw(width: int, height: int) -> Image.Image:
    """Returns the picture that tests/data/make_torchvision.py makes of this size."""
    random = np.random.default_rng(width * 1000 + height)
    ramp = np.linspace(0, 200, width)[None, :, None] + np.zeros((height, 1, 3))
    return Image.fromarray(np.clip(ramp + random.normal(0, 40, (height, width, 3)), 0, 255).astype(np.uint8))
