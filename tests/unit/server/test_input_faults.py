"""ONNX Runtime's errors are attributed to the sender or the server, with a clear message for senders."""

import queue
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pixelserve_server.engine.input_faults import explain
from pixelserve_server.engine.request import Answer, Request
from pixelserve_server.errors import InvalidRequest
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.loaded import LoadedVersion
from pixelserve_server.repository.loader import Loader

RUNNING = "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running"
RESHAPE = (
    "/src/core/providers/cpu/tensor/reshape_helper.h:84 onnxruntime::ReshapeHelper::ReshapeHelper(const TensorShape&, "
    "bool) size != 0 && (input_shape_size % size) == 0 was false. The input tensor cannot be reshaped to the requested "
    "shape. Input shape:{1,13}, requested shape:{-1,12}\n"
)


@pytest.mark.parametrize(
    ("message", "where", "why"),
    [
        (
            f"{RUNNING} Reshape node. Name:'flat' Status Message: {RESHAPE}",
            "its Reshape node flat",
            "The input tensor cannot be reshaped to the requested shape. Input shape:{1,13}, requested shape:{-1,12}",
        ),
        (
            f"{RUNNING} MatMul node. Name:'' Status Message: matmul_helper.h:161 Compute MatMul dimension mismatch",
            "its MatMul node",
            "MatMul dimension mismatch",
        ),
        (f"{RUNNING} Cast node. Name:'c' Status Message: stod", "its Cast node c", "a string is not a number"),
        (
            f"{RUNNING} Gather node. Name:'g' Status Message: indices element out of data bounds, idx=7",
            "its Gather node g",
            "indices element out of data bounds, idx=7",
        ),
        (
            "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: x for the following "
            "indices\n index: 1 Got: 5 Expected: 4\n Please fix either the inputs/outputs or the model.",
            "the model",
            "Got invalid dimensions for input: x for the following indices index: 1 Got: 5 Expected: 4",
        ),
    ],
)
def test_inputs_that_do_not_fit_the_graph_are_explained(message: str, where: str, why: str) -> None:
    assert explain(message) == (
        f"the model cannot compute these inputs; {where} reports: {why}; check their shapes and values"
    )


@pytest.mark.parametrize(
    "message",
    [
        f"{RUNNING} Expand node. Name:'e' Status Message: bfc_arena.cc:360 Failed to allocate memory for 4398046511104",
        f"{RUNNING} Conv node. Name:'c' Status Message: CUDNN_STATUS_EXECUTION_FAILED",
        f"{RUNNING} Conv node. Name:'c' Status Message: CUDA failure 2: out of memory ; GPU=0",
        f"{RUNNING} Loop node. Name:'l' Status Message: std::bad_alloc",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : something else",
        "secret: poisoned",
        "",
    ],
)
def test_the_runtimes_own_trouble_is_not_put_on_the_sender(message: str) -> None:
    assert explain(message) is None


def test_an_explanation_is_short_whatever_was_said() -> None:
    said = explain(f"{RUNNING} Cast node. Name:'' Status Message: {'x' * 10_000}")
    assert said is not None
    assert len(said) < 500


@pytest.fixture
def matched(tmp_path: Path, graph_writer: Callable[..., Path], loader: Loader) -> Iterator[LoadedVersion]:
    """A loaded model that adds two inputs whose widths are free, and must be equal: which only its graph knows."""
    inputs = {"a": ("FLOAT", ["N", "left"]), "b": ("FLOAT", ["N", "right"])}
    graph_writer(tmp_path / "m" / "1" / "model.onnx", inputs, {"y": ("FLOAT", ["N", "any"])}, ("Add", "a b", "y"))
    loaded = loader.load(ModelFolder(tmp_path / "m"), 1)
    yield loaded
    loaded.batcher.drain()


def test_a_shape_that_only_the_graph_can_notice_is_the_senders_mistake_and_costs_no_neighbour(
    matched: LoadedVersion,
) -> None:
    """A session that runs into it several times is not replaced: `loader` fails the test where one raises."""
    answers: queue.Queue[tuple[int, object]] = queue.Queue()
    widths = [(2, 2), (2, 3)] * 6
    for number, (left, right) in enumerate(widths):
        inputs = {"a": np.ones((1, left), np.float32), "b": np.ones((1, right), np.float32)}
        matched.batcher.submit(Request(inputs, 1, partial(lambda who, answer: answers.put((who, answer)), number)))
    found = dict(answers.get(timeout=20) for _ in widths)
    assert [isinstance(found[number], Answer) for number in range(12)] == [True, False] * 6
    error = found[1]
    assert isinstance(error, InvalidRequest)
    assert str(error) == (
        "m version 1: the model cannot compute these inputs; its Add node reports: Attempting to broadcast an axis by "
        "a dimension other than 1. 2 by 3; check their shapes and values"
    )
