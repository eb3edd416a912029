"""Models to write as images, and layouts to write to."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import Card, DataSet, sha256_of
from pixelserve.figures import Evaluation
from pixelserve.golden import Golden, write_golden
from pixelserve.oci import writing

CONFIG = 'name: "digits" output { name: "probabilities" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" }'


def write_version(folder: Path, content: bytes, **card: Any) -> Path:
    """Writes a version with its evidence; its model file is of any bytes."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    evidence = Evaluation(split="test", samples=100, metrics={"accuracy": 0.97, "log_loss": 0.1})
    known: dict[str, Any] = {"created": "2026-01-02T03:04:05Z", "dataset": DataSet(name="MNIST", sha256="ab" * 32)}
    known |= {"name": "digits", "task": "image", "sha256": sha256_of(folder / "model.onnx"), "evaluation": evidence}
    Card(**(known | card)).write(folder / "card.json")
    pixels = np.zeros((2, 3), np.float32)
    write_golden(folder / "golden.npz", Golden({"image": pixels}, {"probabilities": pixels}))
    return folder


@pytest.fixture
def version_writer() -> Callable[..., Path]:
    """`write_version`, for the tests."""
    return write_version


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one model of two versions."""
    model = tmp_path / "models" / "digits"
    write_version(model / "1", b"the first")
    write_version(model / "2", b"the second" * 1000)
    (model / "config.pbtxt").write_text(CONFIG)
    (model / "labels.txt").write_text("one\ntwo\nthree\n")
    return tmp_path / "models"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout that is not there yet."""
    return tmp_path / "images"


@pytest.fixture
def write(repository: Path, layout: Path) -> Callable[..., writing.Written]:
    """Writes version 1, or another, into the layout or to another place."""

    def write(version: int = 1, to: str | None = None) -> writing.Written:
        return writing.write(repository, "digits", version, to or f"oci:{layout}", on_wait=lambda: None)

    return write


def blob(layout: Path, digest: str) -> bytes:
    """Returns a blob of a layout."""
    return layout.joinpath("blobs", *digest.split(":")).read_bytes()


@pytest.fixture
def document(layout: Path) -> Callable[[str], Any]:
    """Returns a document of the layout by its digest."""
    return lambda digest: json.loads(blob(layout, digest))
