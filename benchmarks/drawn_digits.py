"""Measures the accuracy on digits drawn on a pad or photographed on paper.

    python benchmarks/drawn_digits.py --data-dir DATA

Redraws 2,000 of MNIST's test digits with hard edges on a pad of 280 × 280 pixels, and simulates photographs of 500:
JPEGs of unevenly lit paper. Each picture is preprocessed with the models' config.pbtxt and as before `fit=mnist`;
prints the accuracies. This reads the test split: no choice may depend on it.
"""

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table

from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.decode import decode_file
from pixelserve.imaging.prepare import prepare
from pixelserve.onnx_runtime import ort
from pixelserve_training.datasets import load

PAD = 280
DIGITS = 2_000
PHOTOGRAPHS = 500
SEED = 1
MODELS = ("mnist-cnn", "mnist")
LINES = {"fit=mnist": "mnist", "fit=letterbox": "inversion=auto"}
_INPUT = Input((28, 28, 1), "uint8")
_INK = 128
_SHEET_HEIGHT, _SHEET_WIDTH = 800, 600


@dataclass(frozen=True)
class Drawing:
    """A drawing style."""

    name: str
    """The name."""
    least: float
    """The ink's longer side, as a share of the pad's."""
    most: float
    """The maximum of this share."""
    offset: float
    """The maximum distance from the middle, as a share of the pad's side."""


DRAWINGS = (
    Drawing("fills the pad", 0.64, 0.71, 0.0),
    Drawing("off centre", 0.43, 0.57, 0.11),
    Drawing("small and anywhere", 0.21, 0.43, 0.21),
)


def drawn(digit: np.ndarray[Any, Any], how: Drawing, random: np.random.Generator) -> Image.Image:
    """Returns a digit, uint8 [28, 28], drawn with hard edges on a black pad."""
    rows, columns = np.flatnonzero(digit.max(axis=1)), np.flatnonzero(digit.max(axis=0))
    ink = Image.fromarray(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = PAD * random.uniform(how.least, how.most) / max(ink.size)
    size = max(round(ink.width * scale), 1), max(round(ink.height * scale), 1)
    hard = ink.resize(size, Image.Resampling.BICUBIC).point(lambda level: 255 if level >= _INK else 0)
    middles = (PAD * (0.5 + random.uniform(-how.offset, how.offset)) for _ in size)
    left, top = (int(np.clip(at - side / 2, 0, PAD - side)) for at, side in zip(middles, size, strict=True))
    pad = Image.new("L", (PAD, PAD))
    pad.paste(hard, (left, top))
    return pad


def photographed(digit: np.ndarray[Any, Any], seed: int) -> Image.Image:
    """Returns a digit, uint8 [28, 28], on a sheet of paper: unevenly lit, noisy, a little out of focus, in colour."""
    random = np.random.default_rng(seed)
    stroke = np.zeros((_SHEET_HEIGHT, _SHEET_WIDTH), np.float32)
    above = (_SHEET_HEIGHT - _SHEET_WIDTH) // 2
    ink = Image.fromarray(digit).resize((_SHEET_WIDTH, _SHEET_WIDTH), Image.Resampling.BICUBIC)
    stroke[above : above + _SHEET_WIDTH] = np.asarray(ink, np.float32) / 255
    rows, columns = np.mgrid[0:_SHEET_HEIGHT, 0:_SHEET_WIDTH]
    tilt = random.uniform(-1, 1, 2)
    light = 190 + 50 * (tilt[0] * columns / _SHEET_WIDTH + tilt[1] * rows / _SHEET_HEIGHT)
    noisy = light + random.normal(0, 6, light.shape)
    grey = np.clip(noisy * (1 - 0.7 * stroke), 0, 255).astype(np.uint8)
    return Image.merge("RGB", [Image.fromarray(grey)] * 3).filter(ImageFilter.GaussianBlur(2))


def as_jpeg(image: Image.Image) -> bytes:
    """Returns a picture's JPEG file, like a camera's."""
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


def pictures(how: Drawing, digits: Any) -> Iterator[Image.Image]:
    """Yields drawings of digits, uint8 [N, 28, 28, 1]."""
    random = np.random.default_rng(SEED)
    return (drawn(digit[..., 0], how, random) for digit in digits)


def photographs(digits: Any) -> Iterator[Image.Image]:
    """Yields photographs of digits, uint8 [N, 28, 28, 1]."""
    for seed, digit in enumerate(digits):
        yield decode_file(as_jpeg(photographed(digit[..., 0], seed)), _SHEET_HEIGHT * _SHEET_WIDTH)


def share(session: Any, pixels: Any, labels: Any) -> float:
    """Returns the accuracy on pictures, uint8 [N, 28, 28, 1]."""
    name = session.get_inputs()[0].name
    found = [session.run(None, {name: part})[0].argmax(axis=1) for part in np.array_split(pixels, 10)]
    return float(np.mean(np.concatenate(found) == labels[: len(pixels)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="MNIST's four files, in a folder mnist; default: downloaded")
    parser.add_argument("--models", type=Path, default=Path("models"), help="the model repository")
    args = parser.parse_args()
    split = load("mnist", args.data_dir).test
    specs = {name: parse(line, _INPUT) for name, line in LINES.items()}
    # Drawing takes longer than inference, so each picture is drawn once and preprocessed in every way.
    prepared: dict[str, list[Any]] = {name: [] for name in specs}
    drawings = (pictures(how, split.inputs[:DIGITS]) for how in DRAWINGS)
    for images in (*drawings, photographs(split.inputs[:PHOTOGRAPHS])):
        rows = [[prepare(image, spec) for spec in specs.values()] for image in images]
        for name, pixels in zip(specs, zip(*rows, strict=True), strict=True):
            prepared[name].append(np.stack(pixels))
    table = Table("model", "prepared by", *(how.name for how in DRAWINGS), "photographed")
    for model in MODELS:
        session = ort.InferenceSession(args.models / model / "1" / "model.onnx")
        for name, columns in prepared.items():
            table.add_row(model, name, *(f"{share(session, pixels, split.targets):.1%}" for pixels in columns))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
