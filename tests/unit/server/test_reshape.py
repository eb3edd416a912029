"""A tensor may have one shape for clients and another in the graph, with the same elements in the same order."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pixelserve.card import Card, sha256_of
from pixelserve.golden import Golden, write_golden
from pixelserve_server.engine.providers import SessionOptions
from pixelserve_server.engine.reshape import Reshape
from pixelserve_server.engine.session import Session
from pixelserve_server.engine.tensors import BY_NAME, FREE, TensorSpec


@pytest.mark.parametrize(
    ("outside", "inside", "keeps"),
    [
        pytest.param((3, 4), (1, 3, 4, 1), True, id="ones"),
        pytest.param((12,), (3, 4), True, id="one for two"),
        pytest.param((FREE, 12), (FREE, 3, 4), True, id="behind a free one"),
        pytest.param((FREE, 4), (4, FREE), False, id="a free one elsewhere"),
        pytest.param((FREE, FREE), (FREE,), False, id="fewer free ones"),
        pytest.param((3, 4), (3, 5), False, id="other elements"),
        pytest.param((), (1, 1), True, id="a scalar"),
    ],
)
def test_a_reshape_must_keep_the_elements(outside: tuple[int, ...], inside: tuple[int, ...], keeps: bool) -> None:
    assert Reshape(outside, inside).keeps_elements is keeps
    assert Reshape(inside, outside).keeps_elements is keeps


@pytest.mark.parametrize(
    ("outside", "inside", "sent"),
    [
        pytest.param((3, 4), (1, 3, 4), (1, 3, 4), id="fixed"),
        pytest.param((FREE, 1), (FREE,), (5,), id="the batch dimension alone"),
        pytest.param((1,), (), (), id="a scalar"),
        pytest.param((FREE, 12), (FREE, 3, 4), (5, 3, 4), id="rows"),
        pytest.param((FREE, FREE, 3), (1, FREE, FREE, 3, 1), (1, 2, 5, 3, 1), id="two free ones"),
    ],
)
def test_elements_keep_their_order_there_and_back(
    outside: tuple[int, ...], inside: tuple[int, ...], sent: tuple[int, ...]
) -> None:
    reshape = Reshape(outside, inside)
    entered = np.arange(np.prod(sent)).reshape(sent)
    left = reshape.leave(entered)
    assert len(left.shape) == len(outside)
    np.testing.assert_array_equal(left.ravel(), entered.ravel())
    np.testing.assert_array_equal(reshape.enter(left), entered, strict=True)
    # Golden samples have the graph's shapes.
    np.testing.assert_array_equal(reshape.enter(entered), entered, strict=True)


def test_a_fixed_batch_of_the_graph_is_not_hidden() -> None:
    fixed = TensorSpec("x", BY_NAME["FP32"], (1, 3, 4))
    assert not Reshape((FREE, 12), (FREE, 3, 4)).suits(fixed)
    assert Reshape((12,), (1, 3, 4)).suits(fixed)


def test_a_session_takes_and_gives_the_shapes_that_clients_see(
    tmp_path: Path, graph_writer: Callable[..., Path]
) -> None:
    x, y = ("FLOAT", ["N", 2, 3]), ("FLOAT", ["N", 3, 2])
    model = graph_writer(
        tmp_path / "m" / "1" / "model.onnx", {"x": x}, {"y": y}, ("Transpose", "x", "y"), perm=[0, 2, 1]
    )
    reshapes = {
        "x": Reshape((FREE, 6), (FREE, 2, 3)),
        "y": Reshape((FREE, 6), (FREE, 3, 2)),
        "none": Reshape((FREE, 1), (FREE,)),
    }
    session = Session(model, SessionOptions(device="cpu", intra_op_threads=1), reshapes)
    assert [spec.shape for spec in (*session.inputs, *session.outputs)] == [(FREE, 6), (FREE, 6)]
    rows = np.arange(12, dtype=np.float32).reshape(2, 6)
    expected = rows.reshape(2, 2, 3).transpose(0, 2, 1).reshape(2, 6)
    np.testing.assert_array_equal(session.run({"x": rows})["y"], expected, strict=True)


@pytest.mark.parametrize("batches", [True, False], ids=["with rows", "without rows"])
def test_golden_samples_in_the_graphs_shapes_are_replayed(
    tmp_path: Path, graph_writer: Callable[..., Path], open_catalogue: Callable[[Path], SimpleNamespace], batches: bool
) -> None:
    """They were taken from the framework, which knows of no other shape."""
    version, tensor = tmp_path / "m" / "1", ("FLOAT", ["N" if batches else 1, 2, 3])
    graph = graph_writer(version / "model.onnx", {"x": tensor}, {"y": tensor}, ("Neg", "x", "y"))
    ones = "" if batches else "1, "
    sides = (
        f'{side} {{ name: "{name}" data_type: TYPE_FP32 dims: [ 6 ] reshape {{ shape: [ {ones}2, 3 ] }} }}'
        for side, name in (("input", "x"), ("output", "y"))
    )
    (tmp_path / "m" / "config.pbtxt").write_text(f"max_batch_size: {8 * batches} {' '.join(sides)}")
    Card(name="m", task="tabular", sha256=sha256_of(graph), created="2026-01-02T03:04:05Z").write(version / "card.json")
    # Without a batch dimension, the samples' axis stands before the graph's.
    samples = np.arange(30, dtype=np.float32).reshape((5, 2, 3) if batches else (5, 1, 2, 3))
    write_golden(version / "golden.npz", Golden({"x": samples}, {"y": -samples}))
    loaded = open_catalogue(tmp_path).catalogue.get("m")
    assert loaded.evidence.verified, loaded.evidence.summary
    assert [spec.shape for spec in loaded.config.inputs] == [(FREE, 6) if batches else (6,)]


def test_a_reshape_that_is_not_the_graphs_is_left_out(tmp_path: Path, model_writer: Callable[..., Path]) -> None:
    model = model_writer(tmp_path / "m" / "1" / "model.onnx")
    options = SessionOptions(device="cpu", intra_op_threads=1)
    session = Session(model, options, {"values": Reshape((FREE, 2, 2), (FREE, 5))})
    assert session.inputs[0].shape == (FREE, 4)
    assert session.inputs[0].inside is None
