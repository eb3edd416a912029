"""Measures the effect and cost of each remedy against overfitting for one small network on Fashion-MNIST.

A network with one hidden layer of 512 units trains for ten epochs, alone and with each remedy of docs/overfitting.md.
All train on the same 50,000 images; 10,000 more of the training split are held out. The remedies' strengths are below
and were not tuned; the test split is read at the end, and no choice depends on it. Times are ratios to the single
model's in the same round: ONNX Runtime, batches of 64, one core, alternating forwards and backwards through the
variants. Run it with `make bench-overfitting`, on an idle machine; it trains for about ten minutes on two cores.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pixelserve_training import datasets, learners
from pixelserve_training.datasets import Dataset, Split, hold_out
from pixelserve_training.exporting.converters.tf2onnx import to_onnx
from pixelserve_training.exporting.signature import keras_signature
from pixelserve_training.progress import say
from pixelserve_training.recipe import Ensemble, Goal, KerasRecipe, Regularization
from pixelserve_training.running import runs
from pixelserve_training.running.cross_validation import cross_validate
from pixelserve_training.runtime import OnnxModel
from pixelserve_training.zoo import mnist_mlp

SINGLE = "single model"
BATCH = 64
CALLS = 30
BEGIN, END = "<!-- make bench-overfitting: begin -->", "<!-- make bench-overfitting: end -->"


RECIPE = KerasRecipe(
    name="fashion-mlp",
    summary="one hidden layer of 512 units",
    dataset="fashion-mnist",
    parameters=407_050,
    goal=Goal(0.0),
    build=mnist_mlp.build,
    epochs=10,
    batch_size=256,
    held_out=1 / 6,
    measured={0: 0.0},
    training_s=0,
)

VARIANTS: dict[str, dict[str, Any]] = {
    SINGLE: {},
    "l1 (1e-5)": {"regularization": Regularization(l1=1e-5)},
    "l2 (1e-4)": {"regularization": Regularization(l2=1e-4)},
    "l1 + l2 (5e-6, 5e-5)": {"regularization": Regularization(l1=5e-6, l2=5e-5)},
    "dropout (0.5)": {"regularization": Regularization(dropout=0.5)},
    "early stopping (patience 2)": {"regularization": Regularization(patience=2)},
    "bagging (5 members)": {"ensemble": Ensemble("bagging", members=5)},
    "boosting (5 members)": {"ensemble": Ensemble("boosting", members=5)},
    "stacking (3 members, 3 folds)": {"ensemble": Ensemble("stacking", members=3, folds=3)},
}


@dataclass(frozen=True)
class Row:
    """The results of a variant."""

    variant: str
    """The remedy against overfitting."""
    held_out: float
    """Accuracy on the held-out images, a fraction of 1; of cross-validation, the folds' mean."""
    spread: float | None
    """The folds' standard deviation, a fraction of 1; None without folds."""
    train: float
    """Accuracy on the training images, a fraction of 1."""
    test: float
    """Accuracy on the test split, a fraction of 1."""
    parameters: int
    """Weights in the model."""
    model: OnnxModel
    """It, exported."""


def learn(variant: str, recipe: KerasRecipe, dataset: Dataset) -> Row:
    """Trains a variant, exports it in memory and measures it."""
    say(f"== {variant}")
    network: Any = learners.fit(recipe, dataset)
    train, held_out = hold_out(dataset.train, recipe.held_out)

    def accuracy(split: Split) -> float:
        return float((network.predict(split.inputs).argmax(axis=1) == split.targets).mean())

    content = to_onnx(keras_signature(network.model, source=variant), source=variant)
    return Row(
        variant=variant,
        held_out=accuracy(held_out),
        spread=None,
        train=accuracy(train),
        test=accuracy(dataset.test),
        parameters=network.parameters,
        model=OnnxModel(content, source=variant),
    )


def fold(single: Row, recipe: KerasRecipe, dataset: Dataset) -> Row:
    """Cross-validates the single model; its run also yields the single model."""
    say("== 5-fold")
    validation = cross_validate(replace(recipe, held_out=0.0), dataset, 5)
    return replace(single, variant="5-fold cross-validation", held_out=validation.mean, spread=validation.spread)


def take_times(models: Mapping[str, OnnxModel], images: datasets.Array, rounds: int) -> list[dict[str, float]]:
    """Returns, per round, each model's seconds for `CALLS` runs of a batch, by name."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    taken = []
    for number in range(rounds + 1):
        order = list(models) if number % 2 else list(reversed(list(models)))
        taken.append({name: _time(models[name], images) for name in order})
    # In the first round, caches and memory are cold.
    return taken[1:]


def _time(model: OnnxModel, images: datasets.Array) -> float:
    started_s = time.perf_counter()
    for _ in range(CALLS):
        model.run({"image": images})
    return time.perf_counter() - started_s


def ratios(taken: Sequence[Mapping[str, float]], variant: str) -> list[float]:
    """Returns a variant's time as a multiple of the single model's, by round."""
    return [times[variant] / times[SINGLE] for times in taken]


def table(rows: Sequence[Row], taken: Sequence[Mapping[str, float]]) -> str:
    """Returns the table as Markdown."""
    lines = [
        "| variant | held-out accuracy | test accuracy | training less test | parameters | time per image |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        spread = "" if row.spread is None else f" ± {100 * row.spread:.2f}"
        times = ratios(taken, row.variant if row.variant in taken[0] else SINGLE)
        lines.append(
            f"| {row.variant} | {100 * row.held_out:.2f} %{spread} | {100 * row.test:.2f} % "
            f"| {100 * (row.train - row.test):.2f} points | {row.parameters:,} "
            f"| {statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f}) |"
        )
    return "\n".join(lines)


def describe(recipe: KerasRecipe, dataset: Dataset, rounds: int) -> str:
    """Returns the table's settings in a sentence."""
    train, held_out = hold_out(dataset.train, recipe.held_out)
    versions = runs.library_versions()
    libraries = ", ".join(f"{name} {versions[name]}" for name in ("python", "tensorflow", "keras", "onnxruntime"))
    return (
        f"{len(train):,} training, {len(held_out):,} held-out and {len(dataset.test):,} test images of {dataset.name}, "
        f"{recipe.epochs} epochs, seed {recipe.seed}, {rounds} rounds of times; {libraries}."
    )


def put_between_markers(path: Path, text: str) -> None:
    """Replaces the text between the two markers in a file."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{path}: expected the lines {BEGIN} and {END}; put them where the table belongs")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def parse() -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=os.environ.get("PIXELSERVE_DATA_DIR"),
        help="folder of Fashion-MNIST's official files; without it, Keras downloads them",
    )
    parser.add_argument("--images", type=int, help="training images to use (default: all 60,000); a sixth for the test")
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs, help=f"default: {RECIPE.epochs}")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--rounds", type=int, default=15, help="number of timing rounds (default: 15)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the table between the markers in FILE")
    return parser.parse_args()


def load(data_dir: Path | None, images: int | None) -> Dataset:
    """Returns Fashion-MNIST, or this many of its images."""
    dataset = datasets.load("fashion-mnist", data_dir)
    if images is None:
        return dataset
    first = np.arange(images)
    return replace(dataset, train=dataset.train.take(first), test=dataset.test.take(first[: images // 6]))


def main() -> None:
    """Trains, measures and prints the table."""
    args = parse()
    dataset = load(args.data_dir and Path(args.data_dir), args.images)
    recipe = replace(RECIPE, epochs=args.epochs, seed=args.seed)
    rows = [learn(variant, replace(recipe, **changes), dataset) for variant, changes in VARIANTS.items()]
    taken = take_times({row.variant: row.model for row in rows}, dataset.test.inputs[:BATCH], args.rounds)
    folded = fold(rows[0], recipe, dataset)
    text = f"{describe(recipe, dataset, args.rounds)}\n\n{table([*rows[:6], folded, *rows[6:]], taken)}"
    print(text)
    if args.write:
        put_between_markers(args.write, text)


if __name__ == "__main__":
    main()
