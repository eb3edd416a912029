from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pixelserve_training import zoo
from pixelserve_training.datasets import idx
from pixelserve_training.exporting import sources
from pixelserve_training.exporting.converters import base
from pixelserve_training.exporting.converters.tf2onnx import to_onnx
from pixelserve_training.exporting.signature import keras_signature
from pixelserve_training.exporting.simplify import simplify
from pixelserve_training.runtime import Array, OnnxModel

MNIST = Path(__file__).resolve().parents[3] / "tests" / "data" / "mnist"
BATCHES = (1, 16, 64)
CONSTANTS = f"""
    int64[4] nchw = {{-1, 1, 28, 28}}, int64[1] first = {{0}}, int64[1] rest = {{784}},
    float scale = {{0.003921569}}, float[1,1,1,1] mean = {{0.5}}, float[1,1,1,1] kernel = {{3}}, bool yes = {{1}},
    float[28,1] factors = {{{", ".join(map(str, range(28)))}}}
"""
SCALED = "x = Cast<to = 1>(image) scaled = Mul(x, scale)"
CONVOLVED = "planes = Reshape(scaled, nchw) y = Conv(planes, kernel)"
FLAT = "size = Shape(image) rows = Gather<axis = 0>(size, first) flat = Concat<axis = 0>(rows, rest)"
Y = "float[N,1,28,28] y"
Z = "float[N,28,28,1] z"


@pytest.fixture(scope="session")
def images() -> Array:
    """Real test images, uint8 [64, 28, 28, 1]."""
    return idx.read(MNIST / "t10k-images-idx3-ubyte.gz", rank=3)[: max(BATCHES), ..., np.newaxis]


@pytest.fixture
def as_tf2onnx_writes_it(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], onnx.ModelProto]:
    monkeypatch.setattr(base, "simplify", lambda _: False)

    def converted(model: Any) -> onnx.ModelProto:
        traced = to_onnx(keras_signature(model, source=""), source="")
        return onnx.load_from_string(base.content_of(traced))

    return converted


def graph(nodes: str, outputs: str = Y, *, image: str = "uint8[N,28,28,1]") -> onnx.ModelProto:
    header = f'<ir_version: 8, opset_import: ["" : 17]> own ({image} image) => ({outputs}) <{CONSTANTS}>'
    model = onnx.parser.parse_model(f"{header} {{ {nodes} }}")
    onnx.checker.check_model(model, full_check=True)
    return model


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    assert simplify(other)
    onnx.checker.check_model(other, full_check=True)
    assert not simplify(other), "a second time, there is nothing left to do"
    return other


def operations(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def assert_left_alone(model: onnx.ModelProto) -> None:
    content = model.SerializeToString()
    assert not simplify(model)
    assert model.SerializeToString() == content


def assert_same_bits(model: onnx.ModelProto, other: onnx.ModelProto, images: Array) -> None:
    before, after = (OnnxModel(each.SerializeToString(), source="") for each in (model, other))
    assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
    for batch in BATCHES:
        expected, found = (each.run({"image": images[:batch]}) for each in (before, after))
        for name, array in expected.items():
            assert array.shape == found[name].shape
            assert array.tobytes() == found[name].tobytes()


@pytest.mark.slow
def test_mnist_cnn_is_reshaped_first_and_computes_no_shapes_and_the_same_bits(
    as_tf2onnx_writes_it: Callable[[Any], onnx.ModelProto], images: Array
) -> None:
    model = as_tf2onnx_writes_it(zoo.find("mnist-cnn").build(10))
    assert operations(model)[:4] == ["Cast", "Mul", "Add", "Reshape"]
    other = rewritten(model)
    assert operations(other)[:4] == ["Reshape", "Cast", "Mul", "Add"]
    assert {"Shape", "Gather", "Slice", "Concat"}.isdisjoint(operations(other))
    assert_same_bits(model, other, images)


@pytest.mark.slow
def test_a_net_of_coloured_pictures_computes_no_shapes_and_the_same_bits(
    as_tf2onnx_writes_it: Callable[[Any], onnx.ModelProto], keras: Any, images: Array
) -> None:
    layers = keras.layers
    model = as_tf2onnx_writes_it(
        keras.Sequential(
            [
                keras.Input((28, 28, 3), dtype="uint8"),
                layers.Rescaling(1 / 127.5, offset=-1),
                layers.Conv2D(4, 3, activation="relu"),
                layers.Flatten(),
                layers.Dense(10, activation="softmax"),
            ]
        )
    )
    other = rewritten(model)
    assert "Shape" not in operations(other)
    colours = np.concatenate([images, np.roll(images, 3, axis=1), 255 - images], axis=3)
    assert_same_bits(model, other, colours)


@pytest.mark.slow
def test_pixels_that_are_flattened_before_a_matrix_product_stay_as_they_are(
    as_tf2onnx_writes_it: Callable[[Any], onnx.ModelProto], keras: Any
) -> None:
    # ONNX Runtime would take the factor into the product, if it came right before it, and round differently.
    layers = keras.layers
    pixels = [keras.Input((28, 28, 1), dtype="uint8"), layers.Rescaling(1 / 255), layers.Flatten()]
    assert_left_alone(as_tf2onnx_writes_it(keras.Sequential([*pixels, layers.Dense(10, activation="softmax")])))


@pytest.mark.slow
def test_what_is_exported_is_the_rewritten_graph(keras: Any) -> None:
    pixels = [keras.Input((28, 28, 1), dtype="uint8"), keras.layers.Rescaling(1 / 255)]
    model = keras.Sequential([*pixels, keras.layers.Conv2D(1, 3)])
    content = base.content_of(to_onnx(keras_signature(model, source=""), source=""))
    assert operations(onnx.load_from_string(content))[0] == "Reshape"


def test_a_reshape_moves_over_every_element_wise_node_with_a_scalar(images: Array) -> None:
    model = graph(
        "x = Cast<to = 1>(image) a = Sub(mean, x) b = Div(a, scale) c = Add(b, mean) d = Reshape(c, nchw)"
        "e = Conv(d, kernel) f = Conv(d, kernel) y = Add(e, f)"
    )
    other = rewritten(model)
    assert operations(other) == ["Reshape", "Cast", "Sub", "Div", "Add", "Conv", "Conv", "Add"]
    assert_same_bits(model, other, images)


def test_a_computed_shape_is_written_down_where_one_dimension_is_free(images: Array) -> None:
    model = graph(f"x = Cast<to = 1>(image) {FLAT} y = Reshape(x, flat)", "float[N,784] y")
    other = rewritten(model)
    assert operations(other) == ["Cast", "Reshape"]
    assert_same_bits(model, other, images)


def test_a_computed_shape_stays_where_more_dimensions_are_free() -> None:
    assert_left_alone(graph(f"{FLAT} y = Reshape(image, flat)", "uint8[N,784] y", image="uint8[N,H,W,1]"))


def test_a_shape_that_no_longer_holds_is_not_left_in_the_graph() -> None:
    model = onnx.shape_inference.infer_shapes(graph(f"{SCALED} {CONVOLVED}"))
    assert {value.name for value in model.graph.value_info} == {"x", "scaled", "planes"}
    other = rewritten(model)
    assert {value.name for value in other.graph.value_info} == {"planes"}
    # Raises where a shape in the graph is not the one that follows from it.
    onnx.shape_inference.infer_shapes(other, strict_mode=True)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        pytest.param(f"{SCALED} {CONVOLVED} z = Relu(scaled)", f"{Y}, {Z}", id="the scaled pixels have two consumers"),
        pytest.param(f"{SCALED} {CONVOLVED}", f"{Y}, float[N,28,28,1] scaled", id="they are an output"),
        pytest.param(f"x = Cast<to = 1>(image) scaled = Mul(x, factors) {CONVOLVED}", Y, id="not by a scalar"),
        pytest.param(f"x = Cast<to = 1>(image) scaled = Mul(x, x) {CONVOLVED}", Y, id="a square"),
        pytest.param(f"x = Cast<to = 1>(image) scaled = Relu(x) {CONVOLVED}", Y, id="another operation"),
        pytest.param(f"{SCALED} planes = Reshape(scaled, nchw) y = Relu(planes)", Y, id="no convolution"),
        pytest.param(
            "x = Reshape(image, nchw) planes = Cast<to = 1>(x) y = Conv(planes, kernel)", Y, id="first already"
        ),
    ],
)
def test_a_graph_is_left_alone_where_a_reshape_cannot_move(nodes: str, outputs: str) -> None:
    assert_left_alone(graph(nodes, outputs))


def test_a_scalar_of_more_dimensions_than_the_input_is_not_moved_over() -> None:
    nodes = f"x = Cast<to = 1>(image) scaled = Sub(x, mean) {CONVOLVED}"
    assert_left_alone(graph(nodes, image="uint8[N,28,28]"))


def test_a_graph_with_branches_is_left_alone() -> None:
    then, other = (f"{name} () => (float[N,28,28,1] {name}_x) {{ {name}_x = Identity(x) }}" for name in ("a", "b"))
    nodes = f"{SCALED} {CONVOLVED} z = If(yes) <then_branch = {then}, else_branch = {other}>"
    assert_left_alone(graph(nodes, f"{Y}, {Z}"))


def test_a_model_of_ones_own_that_has_no_such_reshape_is_left_alone(own_onnx: Path) -> None:
    assert_left_alone(onnx.load(own_onnx))


def test_an_onnx_file_of_ones_own_is_exported_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    onnx.save(graph(f"{SCALED} {CONVOLVED}"), path)
    assert sources.read(path).onnx == path.read_bytes()
