"""Tiny data sets and models that the tests of training share; TensorFlow is loaded once a session."""

import contextlib
import gzip
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pixelserve import cli
from pixelserve_training import frameworks, zoo
from pixelserve_training.datasets import idx
from pixelserve_training.measuring import timing
from pixelserve_training.recipe import Goal, KerasRecipe
from pixelserve_training.running import fit

ROOT = Path(__file__).resolve().parents[3]
LABELS = ("cat", "dog", "owl")


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    exit_code: int
    out: str
    err: str


@pytest.fixture
def pixelserve(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the `pixelserve` command in this process: pixelserve("train", "mnist-cnn")."""
    monkeypatch.delenv("PIXELSERVE_DATA_DIR", raising=False)

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["pixelserve", *map(str, arguments)])
        capfd.readouterr()
        exit_code = 0
        try:
            cli.main()
        except SystemExit as end:
            exit_code = int(end.code or 0)
        return Ran(exit_code, *capfd.readouterr())

    return run


def write_idx(folder: Path, *, train: int = 64, test: int = 32, compressed: bool = True) -> Path:
    """Writes a synthetic data set in MNIST's files: random pixels, labels in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("t10k", test)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx.encode(array)
            path = folder / f"{split}-{kind}-ubyte{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(content) if compressed else content)
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that holds a synthetic MNIST of 64 and 32 images."""
    root = tmp_path_factory.mktemp("data")
    write_idx(root / "mnist")
    return root


@pytest.fixture(scope="session")
def keras() -> Any:
    return frameworks.load().keras


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The folder of a real run of mnist-cnn: one step on the synthetic data set."""
    folder = tmp_path_factory.mktemp("runs") / "mnist-cnn"
    fit.train("mnist-cnn", data_dir=data_dir, run_dir=folder, overrides={"epochs": 1})
    return folder


@contextlib.contextmanager
def _small_files(most_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_files() -> Callable[[int], AbstractContextManager[None]]:
    """Has the system refuse to write larger files inside a block, as it does on a full disk."""
    return _small_files


@dataclass(frozen=True)
class Own:
    """A classifier as its author has it, in every form, with labels and samples."""

    folder: Path

    @property
    def keras(self) -> Path:
        return self.folder / "own.keras"

    @property
    def h5(self) -> Path:
        return self.folder / "own.h5"

    @property
    def saved_model(self) -> Path:
        return self.folder / "own"

    @property
    def onnx(self) -> Path:
        return self.folder / "own.onnx"

    @property
    def labels(self) -> Path:
        return self.folder / "labels.txt"

    @property
    def samples(self) -> Path:
        """Scaled pixels, float64 [20, 6, 6, 1], and labels."""
        return self.folder / "samples.npz"

    @property
    def raw_samples(self) -> Path:
        """The same as raw pixels, uint8, without labels."""
        return self.folder / "raw.npz"


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory, keras: Any) -> Own:
    own = Own(tmp_path_factory.mktemp("own"))
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3, activation="softmax")]
    )
    model.save(own.keras)
    model.save(own.h5)
    model.export(own.saved_model, verbose=False)
    write_onnx(own.onnx)
    own.labels.write_text("\n".join(LABELS) + "\n")
    pixels = np.random.default_rng(2).integers(0, 256, (20, 6, 6, 1), dtype=np.uint8)
    np.savez(own.samples, x=pixels / 255.0, y=np.arange(20) % 3)
    np.savez(own.raw_samples, pixels)
    return own


def write_onnx(path: Path, *, rows: int | str = "N") -> None:
    """Writes a classifier of three classes: `pixels` float32 [rows, 6, 6, 1] -> `scores` [rows, 3]."""
    weights = np.random.default_rng(3).normal(size=(36, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pixels"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"]),
        ],
        "own",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [rows, 6, 6, 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [rows, 3])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def single_onnx(tmp_path: Path) -> Path:
    """Such a classifier without a batch dimension: exactly one picture a run, since each row depends on the others."""
    path = tmp_path / "single.onnx"
    write_onnx(path, rows=1)
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "own"
    model.graph.node.append(helper.make_node("ReduceMax", ["own"], ["highest"], axes=[0]))
    model.graph.node.append(helper.make_node("Add", ["own", "highest"], ["scores"]))
    onnx.save(model, path)
    return path


@pytest.fixture
def one_row_onnx(tmp_path: Path) -> Path:
    """The first classifier with a batch dimension that was fixed at 1 for no reason."""
    write_onnx(tmp_path / "one_row.onnx", rows=1)
    return tmp_path / "one_row.onnx"


@pytest.fixture
def make_idx() -> Callable[..., Path]:
    return write_idx


@pytest.fixture(scope="session")
def own_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same classifier with a free batch dimension, without loading TensorFlow."""
    path = tmp_path_factory.mktemp("onnx") / "own.onnx"
    write_onnx(path)
    return path


@pytest.fixture(scope="session")
def small_recipe(keras: Any) -> KerasRecipe:
    """A network of one hidden layer for MNIST's files, learned in one epoch of a few steps."""

    def build(classes: int) -> Any:
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input((28, 28, 1), dtype="uint8", name="image"),
                layers.Rescaling(1 / 255),
                layers.Flatten(),
                layers.Dense(8, activation="relu"),
                layers.Dense(classes, activation="softmax", name="probabilities"),
            ],
            name="small",
        )

    return KerasRecipe(
        name="small",
        summary="for tests",
        dataset="mnist",
        parameters=6_370,
        goal=Goal(0.0),
        build=build,
        epochs=1,
        batch_size=32,
        measured={0: 0.1},
        training_s=1,
    )


@pytest.fixture
def small_in_zoo(small_recipe: KerasRecipe, monkeypatch: pytest.MonkeyPatch) -> KerasRecipe:
    """The same, found in the zoo whatever name is asked for."""
    monkeypatch.setattr(zoo, "find", lambda _: small_recipe)
    return small_recipe


@pytest.fixture(scope="module")
def short_timing() -> Iterator[None]:
    """Exports of this module measure times for as short as possible."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_BUDGET_S", 0.0)
        patch.setattr(timing, "_LEAST_ROUNDS", 2)
        yield
