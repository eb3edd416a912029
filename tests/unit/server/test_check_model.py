"""Checking whether a server could load a model from disk."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pixelserve_server.errors import RepositoryError
from pixelserve_server.tools.check import check_model


def test_every_version_that_is_named_proves_itself_and_goes(root: Path, eventually: Callable[..., None]) -> None:
    before = set(threading.enumerate())
    found = check_model(root / "models" / "mnist-cnn", [1])
    assert found[1].startswith("verified: 16 golden samples reproduced")
    eventually(lambda: set(threading.enumerate()) <= before)


def test_versions_without_evidence_are_computed_all_the_same(tmp_path: Path, model_writer: Callable[..., Path]) -> None:
    for version in "123":
        model_writer(tmp_path / "doubler" / version / "model.onnx")
    assert check_model(tmp_path / "doubler", [1, 3]) == dict.fromkeys([1, 3], "unverified: no card.json")


def test_what_a_server_would_not_load_is_named(tmp_path: Path, model_writer: Callable[..., Path]) -> None:
    model_writer(tmp_path / "doubler" / "1" / "model.onnx")
    (tmp_path / "doubler" / "config.pbtxt").write_text('output { name: "none" data_type: TYPE_FP32 dims: [ 4 ] }')
    with pytest.raises(RepositoryError, match='the model has no tensor "none"'):
        check_model(tmp_path / "doubler", [1])
