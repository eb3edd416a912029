"""Without golden samples, another engine must compute what ONNX Runtime does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixelserve.card import Card, Parity, sha256_of
from pixelserve.golden import Golden, write_golden
from pixelserve_server.engine.providers import EngineChoice, SessionOptions
from pixelserve_server.engine.providers.openvino import OpenVino
from pixelserve_server.engine.session import Session
from pixelserve_server.errors import RepositoryError
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.loaded import LoadedVersion
from pixelserve_server.repository.loader import Loader

Load = Callable[..., LoadedVersion]
Nodes = list[onnx.NodeProto]

KERNEL = np.random.default_rng(0).normal(size=(4, 1, 2, 2)).astype(np.float32) - 2
CONVOLUTION = [helper.make_node("Conv", ["x", "kernel"], ["c"], kernel_shape=[2, 2])]
POOLING = [helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2])]
SILU = [helper.make_node("Sigmoid", ["p"], ["s"]), helper.make_node("Mul", ["p", "s"], ["y"])]
# OpenVINO 2026.4 computes the SiLU before the pooling, and not after it.
MISCOMPUTED = [*CONVOLUTION, *POOLING, *SILU]
RIGHT = [*CONVOLUTION, *POOLING, helper.make_node("Relu", ["p"], ["y"])]
OPENVINO = EngineChoice("openvino")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., ModelFolder]:
    """Writes version 1 of a model of images [n, 1, 9, 9]."""

    def write(nodes: Nodes, config: str = "max_batch_size: 8", **constants: Any) -> ModelFolder:
        tensors = {"kernel": KERNEL, **constants}
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 9, 9])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
        )
        folder = tmp_path / "model"
        (folder / "1").mkdir(parents=True)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(made, folder / "1" / "model.onnx")
        (folder / "config.pbtxt").write_text(config)
        return ModelFolder(folder)

    return write


@pytest.fixture
def options(loader: Loader) -> Callable[..., SessionOptions]:
    """Options with some engines."""
    return lambda *engines: replace(loader.session_options, engines=engines)


def test_a_model_that_an_engine_computes_wrong_is_refused(write: Any, load: Load, options: Any) -> None:
    with pytest.raises(
        RepositoryError,
        match=r"model\.onnx: openvino computes something else than onnxruntime .*: output y differs .*rule of float32 "
        r".*; use --engine onnxruntime, or export the model with golden samples",
    ):
        load(write(MISCOMPUTED), session_options=options(OPENVINO))


def test_an_engine_for_large_batches_is_compared_with_large_ones(write: Any, load: Load, options: Any) -> None:
    engines = EngineChoice("onnxruntime"), replace(OPENVINO, from_rows=5)
    with pytest.raises(RepositoryError, match="openvino computes something else"):
        load(write(MISCOMPUTED), session_options=options(*engines))


def test_a_model_without_a_batch_dimension_is_compared_too(write: Any, load: Load, options: Any) -> None:
    config = 'max_batch_size: 0 input [ { name: "x" data_type: TYPE_FP32 dims: [ 2, 1, 9, 9 ] } ]'
    with pytest.raises(RepositoryError, match="openvino computes something else"):
        load(write(MISCOMPUTED, config), session_options=options(OPENVINO))


def test_a_model_that_it_computes_right_is_served(write: Any, load: Load, options: Any) -> None:
    assert load(write(RIGHT), session_options=options(OPENVINO)).in_use.engine == "openvino"


def test_golden_samples_decide_where_there_are_any(write: Any, load: Load, options: Any) -> None:
    """They are the engine's own wrong outputs here, so ONNX Runtime was not asked."""
    folder = write(MISCOMPUTED)
    version = folder.version_path(1)
    model = version / "model.onnx"
    images = {"x": np.random.default_rng(1).random((4, 1, 9, 9), np.float32)}
    outputs = Session(model, options(OPENVINO)).run(images)
    parity = [Parity(precision="float32", provider=OpenVino.name, tolerance=1e-4)]
    card = Card(name="model", task="tabular", sha256=sha256_of(model), created="2026-01-02T03:04:05Z", parity=parity)
    card.write(version / "card.json")
    write_golden(version / "golden.npz", Golden(images, dict(outputs)))
    assert load(folder, session_options=options(OPENVINO)).in_use.engine == "openvino"


def test_the_default_engine_is_opened_once(
    write: Any, load: Load, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    start = Session._start

    def count(session: Session, **how: Any) -> None:
        opened.append(session._model)
        start(session, **how)

    monkeypatch.setattr(Session, "_start", count)
    load(write(MISCOMPUTED), session_options=options(EngineChoice("onnxruntime")))
    assert len(opened) == 1


def test_a_model_that_only_the_engine_can_open_is_served(
    write: Any, load: Load, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Session._start

    def refuse(session: Session, **how: Any) -> None:
        if session._options.engine.engine == "onnxruntime":
            raise RepositoryError("not an operator of its")
        start(session, **how)

    monkeypatch.setattr(Session, "_start", refuse)
    assert load(write(RIGHT), session_options=options(OPENVINO)).in_use.engine == "openvino"


def test_a_model_that_draws_random_numbers_is_served(write: Any, load: Load, options: Any) -> None:
    noise = [helper.make_node("RandomUniformLike", ["c"], ["n"]), helper.make_node("Add", ["c", "n"], ["y"])]
    assert load(write([*CONVOLUTION, *noise]), session_options=options(OPENVINO)).in_use.engine == "openvino"


def test_a_model_whose_inputs_only_the_engine_computes_is_served(
    write: Any, load: Load, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("not these")

    folder = write(RIGHT)
    monkeypatch.setattr("pixelserve_server.engine.providers.onnx_runtime.OnnxRuntime.run", fail)
    assert load(folder, session_options=options(OPENVINO)).in_use.engine == "openvino"


def test_integers_may_be_rounded_differently(
    write: Any, load: Load, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 255 steps, one is more than float32's rule allows."""
    steps = {"scale": np.float32(0.05), "zero": np.uint8(128)}
    nodes = [
        *RIGHT[:-1],
        helper.make_node("QuantizeLinear", ["p", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    folder = write(nodes, **steps)
    precisions: list[str] = []

    def note(expected: Any, infer: Any, precision: str) -> float:
        precisions.append(precision)
        return 0.0

    monkeypatch.setattr("pixelserve_server.repository.reference.replay_by_rule", note)
    load(folder, session_options=options(OPENVINO))
    assert set(precisions) == {"int8"}


@pytest.mark.skipif("bfloat16" not in OpenVino().precisions(), reason="this processor would emulate bfloat16")
def test_bfloat16_is_compared_by_its_rule(write: Any, load: Load, options: Any) -> None:
    engine = replace(OPENVINO, precision="bfloat16")
    assert load(write(RIGHT), session_options=options(engine)).in_use.precision == "bfloat16"
