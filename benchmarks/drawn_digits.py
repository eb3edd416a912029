"""How many digits drawn on a pad are read right, by where and how large they are drawn.

    python benchmarks/drawn_digits.py --data-dir DATA

Redraws 2,000 of MNIST's test digits with hard edges on a pad of 280 × 280 pixels, has each picture prepared as the
models' own config.pbtxt says and as it would be without `fit=mnist`, and prints the share that is read right. This is
a reading of the test split: no choice may be made by it.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.prepare import prepare
from pixelserve.onnx_runtime import ort
from pixelserve_training.datasets import load

PAD = 280
DIGITS = 2_000
SEED = 1
MODELS = ("mnist-cnn", "mnist")
LINES = {"fit=mnist": "mnist", "fit=letterbox": "inversion=auto"}
_INPUT = Input((28, 28, 1), "uint8")
_INK = 128


@dataclass(frozen=True)
class Drawing:
    """How digits are drawn."""

    name: str
    """What it is called."""
    least: float
    """The ink's longer side, as a share of the pad's."""
    most: float
    """The largest such share."""
    offset: float
    """The farthest from the middle, as a share of the pad's side."""


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


def shares(session: Any, line: str, inputs: Any, labels: Any) -> Iterator[float]:
    """Yields the share that is read right, for each of DRAWINGS."""
    spec = parse(line, _INPUT)
    for how in DRAWINGS:
        random = np.random.default_rng(SEED)
        pixels = np.stack([prepare(drawn(digit[..., 0], how, random), spec) for digit in inputs])
        found = [
            session.run(None, {session.get_inputs()[0].name: part})[0].argmax(axis=1)
            for part in np.array_split(pixels, 10)
        ]
        yield float(np.mean(np.concatenate(found) == labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="MNIST's four files, in a folder mnist; default: downloaded")
    parser.add_argument("--models", type=Path, default=Path("models"), help="the model repository")
    args = parser.parse_args()
    split = load("mnist", args.data_dir).test
    table = Table("model", "prepared by", *(how.name for how in DRAWINGS))
    for name in MODELS:
        session = ort.InferenceSession(args.models / name / "1" / "model.onnx")
        for called, line in LINES.items():
            right = shares(session, line, split.inputs[:DIGITS], split.targets[:DIGITS])
            table.add_row(name, called, *(f"{share:.1%}" for share in right))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
