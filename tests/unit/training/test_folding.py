"""Operations after a max pooling are folded into the convolution before it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pixelserve_training.exporting import folding
from pixelserve_training.exporting.converters.base import content_of
from pixelserve_training.exporting.converters.tf2onnx import to_onnx
from pixelserve_training.exporting.folding import fold_into_convolutions
from pixelserve_training.exporting.signature import keras_signature
from pixelserve_training.runtime import OnnxModel
from pixelserve_training.zoo import blocks

PLANES = np.random.default_rng(0).normal(0, 2, (5, 1, 7, 6)).astype(np.float32)
HEADER = """<ir_version: 8, opset_import: ["" : 17]> own (float[N,1,7,6] x) => (OUTPUTS)
    <float[2,1,2,2] kernel = {1, -2, 0.5, 3, -1, 0.25, 2, 1}, float[2] bias = {0.5, -1},
     float[1,2,1,1] scale = {0.3, 2.5}, float[2,1,1] shift = {-0.7, 0.4}, float[1,2,1,1] signed = {0.3, -2.5},
     float[1,1,1,1] scalar = {2}, float[1,1,3,3] wide = {1, 1, 1, 1, 1, 1, 1, 1, 1}>"""
POOLED = "c = Conv(x, kernel) p = MaxPool<kernel_shape = [2,2], strides = [2,2]>(c)"
BIASED = POOLED.replace("kernel)", "kernel, bias)")
# Pads are no zeros to a maximum, and stay so in front of a shift.
PADDED = POOLED.replace("strides", "pads = [1,1,1,1], strides")
NORMALIZED = "m = Mul(p, scale) y = Add(m, shift)"
Y = "float[N,2,3,2] y"


def graph(nodes: str, outputs: str = Y) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f"{HEADER.replace('OUTPUTS', outputs)} {{ {nodes} }}")
    onnx.checker.check_model(model, full_check=True)
    return model


def operations(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def assert_folded(model: onnx.ModelProto, expected: list[str]) -> None:
    """Checks that a model is folded to these operations, once, and computes the same but for rounding."""
    before = OnnxModel(model.SerializeToString(), source="", as_written=True)
    assert fold_into_convolutions(model)
    onnx.checker.check_model(model, full_check=True)
    assert operations(model) == expected
    after = OnnxModel(model.SerializeToString(), source="", as_written=True)
    assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
    for name, values in before.run({"x": PLANES}).items():
        np.testing.assert_allclose(after.run({"x": PLANES})[name], values, rtol=1e-5, atol=1e-5)
    assert not fold_into_convolutions(model), "a second time, there is nothing left to do"


@pytest.mark.parametrize("pooled", [POOLED, BIASED], ids=["no bias", "bias"])
def test_a_normalisation_goes_into_the_kernel_and_the_bias(pooled: str) -> None:
    model = graph(f"{pooled} {NORMALIZED}")
    assert_folded(model, ["Conv", "MaxPool"])
    # What was folded is not in the file any more.
    assert {tensor.name for tensor in model.graph.initializer} == set(model.graph.node[0].input[1:])


def test_a_padded_pooling_is_one_too() -> None:
    assert_folded(graph(f"{PADDED} {NORMALIZED}", "float[N,2,4,3] y"), ["Conv", "MaxPool"])


def test_a_scale_without_a_shift_goes_too() -> None:
    assert_folded(graph(f"{BIASED} y = Mul(scale, p)"), ["Conv", "MaxPool"])


def test_a_shift_before_a_silu_stays_because_openvino_computes_a_silu_before_the_pooling() -> None:
    silu = "m = Mul(p, scale) a = Add(m, shift) s = Sigmoid(a) y = Mul(a, s)"
    assert_folded(graph(f"{POOLED} {silu}"), ["Conv", "MaxPool", "Add", "Sigmoid", "Mul"])


def test_a_rectifier_goes_to_where_it_is_computed_within_the_convolution() -> None:
    assert_folded(graph(f"{POOLED} m = Mul(p, scale) a = Add(m, shift) y = Relu(a)"), ["Conv", "Relu", "MaxPool"])
    assert_folded(graph(f"{POOLED} y = Relu(p)"), ["Conv", "Relu", "MaxPool"])


def test_convolutions_that_share_a_kernel_go_on_sharing_it() -> None:
    twice = f"{POOLED} {NORMALIZED} h = Neg(x) " + " ".join(
        ["d = Conv(h, kernel)", "q = MaxPool<kernel_shape = [2,2], strides = [2,2]>(d)", "n = Mul(q, scale)"]
    )
    model = graph(f"{twice} z = Add(n, shift)", f"{Y}, float[N,2,3,2] z")
    assert_folded(model, ["Conv", "MaxPool", "Neg", "Conv", "MaxPool"])
    assert len(model.graph.initializer) == 2


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        pytest.param(
            f"{POOLED} m = Mul(p, signed) y = Add(m, shift)", Y, id="a negative scale turns the maximum round"
        ),
        pytest.param(f"{POOLED} m = Mul(p, scale) y = Add(m, p)", Y, id="pooled twice used"),
        pytest.param(f"{POOLED} y = Mul(p, p)", Y, id="no constant"),
        pytest.param(f"{POOLED} y = Mul(p, scalar)", Y, id="a scalar"),
        pytest.param(f"{POOLED} y = Add(p, shift)", Y, id="a shift alone"),
        pytest.param(f"{POOLED} y = Mul(p, scale)", f"{Y}, float[N,2,6,5] c", id="the convolution is given out"),
        pytest.param(f"{POOLED} y = Mul(p, scale)", f"{Y}, float[N,2,3,2] p", id="the pooling is given out"),
        pytest.param(f"{POOLED} s = Sigmoid(c) y = Mul(p, scale)", f"{Y}, float[N,2,6,5] s", id="used before pooling"),
        pytest.param(
            "p = MaxPool<kernel_shape = [2,2], strides = [2,2]>(x) y = Mul(p, wide)", "float[N,1,3,3] y", id="no Conv"
        ),
        pytest.param(
            "k = Neg(kernel) " + POOLED.replace("kernel)", "k)") + " y = Mul(p, scale)", Y, id="computed kernel"
        ),
    ],
)
def test_what_is_something_else_is_left_alone(nodes: str, outputs: str) -> None:
    model = graph(nodes, outputs)
    content = model.SerializeToString()
    assert not fold_into_convolutions(model)
    assert model.SerializeToString() == content


def test_a_shift_that_the_graph_gives_out_is_named_as_before() -> None:
    assert_folded(graph(f"{POOLED} {NORMALIZED} z = Relu(y)", f"{Y}, float[N,2,3,2] z"), ["Conv", "MaxPool", "Relu"])


def test_a_model_with_branches_is_left_alone() -> None:
    branch = "yes = Cast<to = 9>(scalar) b = Squeeze(yes)"
    chosen = "z = If(b) <then_branch = t () => (float[N,2,3,2] o) {o = Identity(p)}, "
    chosen += "else_branch = e () => (float[N,2,3,2] o) {o = Neg(p)}>"
    model = graph(f"{POOLED} y = Mul(p, scale) {branch} {chosen}", f"{Y}, float[N,2,3,2] z")
    assert not fold_into_convolutions(model)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_an_exported_network_has_nothing_between_pooling_and_activation(
    keras: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 1), dtype="uint8", name="image")
    features = keras.layers.Rescaling(1 / 255)(image)
    for channels in (4, 6):
        features = blocks.convolution(features, channels, pooled=True)
    last = keras.layers.Dense(3, activation="softmax", name="probabilities")
    model = keras.Model(image, last(keras.layers.GlobalAveragePooling2D()(features)))
    random = np.random.default_rng(1)
    model.set_weights([random.uniform(0.1, 2, weights.shape).astype(np.float32) for weights in model.get_weights()])
    folded = content_of(to_onnx(keras_signature(model, source=""), source=""))
    kinds = operations(onnx.load_from_string(folded))
    assert [kind for kind in kinds if kind in ("Conv", "MaxPool", "Relu", "Mul", "Add")][-7:-1] == [
        *("Conv", "Relu", "MaxPool"),
        *("Conv", "Relu", "MaxPool"),
    ]
    pixels = random.integers(0, 256, (9, 12, 12, 1), dtype=np.uint8)
    outputs = OnnxModel(folded, source="").run({"image": pixels})["probabilities"]
    np.testing.assert_allclose(outputs, model.predict(pixels, verbose=0), atol=1e-5)


def test_constants_are_what_is_no_input_as_well() -> None:
    model = graph(f"{POOLED} y = Mul(p, scale)")
    model.graph.input.append(onnx.helper.make_tensor_value_info("scale", onnx.TensorProto.FLOAT, [1, 2, 1, 1]))
    assert not fold_into_convolutions(model)
    (scale,) = [tensor for tensor in model.graph.initializer if tensor.name == "scale"]
    assert numpy_helper.to_array(scale).shape == (1, 2, 1, 1)
    assert folding.constants(model.graph).keys() == {"kernel", "bias", "shift", "signed", "scalar", "wide"}
