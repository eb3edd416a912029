"""Models exported with a batch of one, and which of them can batch."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pixelserve_training.exporting.free_batch import freed, is_fixed
from pixelserve_training.runtime import OnnxModel

FLOAT = TensorProto.FLOAT
GENERATOR = np.random.default_rng(5)
WEIGHTS = numpy_helper.from_array(GENERATOR.normal(size=(12, 3)).astype(np.float32), "weights")


def model(*nodes: Any, constants: Any = (), kind: int = FLOAT, sizes: Any = (3, 4), outputs: Any = None) -> ModelProto:
    """Makes a model: `x` [1, *sizes] -> `y` [1, 3]."""
    outputs = outputs or {"y": (FLOAT, [1, 3])}
    graph = helper.make_graph(
        list(nodes),
        "one_row",
        [helper.make_tensor_value_info("x", kind, [1, *sizes])],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [WEIGHTS, *constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def free(original: ModelProto) -> ModelProto | None:
    loaded = OnnxModel(original.SerializeToString(), source="original")
    assert is_fixed(loaded)
    return freed(original, loaded, source="freed")


def shape_of(name: str, *dims: int) -> Any:
    return numpy_helper.from_array(np.array(dims, np.int64), name)


FLAT = helper.make_node("Flatten", ["x"], ["flat"])
MULTIPLIED = helper.make_node("MatMul", ["flat", "weights"], ["y"])
LOGITS = helper.make_node("MatMul", ["flat", "weights"], ["logits"])
RESHAPED = helper.make_node("Reshape", ["x", "shape"], ["flat"])

FREE = {
    "rows of a matrix": model(FLAT, MULTIPLIED),
    "softmax over the classes": model(FLAT, LOGITS, helper.make_node("Softmax", ["logits"], ["y"], axis=1)),
    "a reshape to one row": model(RESHAPED, MULTIPLIED, constants=[shape_of("shape", 1, 12)]),
    "a reshape to one row of what is left": model(RESHAPED, MULTIPLIED, constants=[shape_of("shape", 1, -1)]),
    "a reshape by a constant node": model(
        helper.make_node("Constant", [], ["shape"], value=shape_of("shape", 1, 12)), RESHAPED, MULTIPLIED
    ),
    "pixels": model(
        FLAT,
        helper.make_node("Cast", ["flat"], ["pixels"], to=FLOAT),
        helper.make_node("MatMul", ["pixels", "weights"], ["y"]),
        kind=TensorProto.UINT8,
    ),
    "pixels as floats": model(
        helper.make_node("Mul", ["x", "small"], ["scaled"]),
        helper.make_node("Add", ["scaled", "one"], ["moved"]),
        helper.make_node("Flatten", ["moved"], ["flat"]),
        MULTIPLIED,
        constants=[
            numpy_helper.from_array(np.array(1e-6, np.float32), "small"),
            numpy_helper.from_array(np.array(1, np.float32), "one"),
        ],
    ),
    "labels beside the scores": model(
        FLAT,
        MULTIPLIED,
        helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
        outputs={"label": (TensorProto.INT64, [1]), "y": (FLOAT, [1, 3])},
    ),
}
FIXED = {
    "softmax over the rows": model(
        FLAT,
        LOGITS,
        helper.make_node("Softmax", ["logits"], ["shares"], axis=0),
        helper.make_node("Mul", ["shares", "logits"], ["y"]),
    ),
    "the highest of all rows": model(
        FLAT,
        LOGITS,
        helper.make_node("ReduceMax", ["logits"], ["highest"], axes=[0]),
        helper.make_node("Add", ["logits", "highest"], ["y"]),
    ),
    "the first row's answer": model(
        FLAT,
        LOGITS,
        helper.make_node("Slice", ["logits", "zero", "one", "zero"], ["y"]),
        constants=[shape_of("zero", 0), shape_of("one", 1)],
    ),
    "a constant row that cannot be added to more": model(
        FLAT,
        helper.make_node("Concat", ["flat", "rest"], ["longer"], axis=1),
        helper.make_node("MatMul", ["longer", "more_weights"], ["y"]),
        constants=[
            numpy_helper.from_array(np.ones((1, 2), np.float32), "rest"),
            numpy_helper.from_array(GENERATOR.normal(size=(14, 3)).astype(np.float32), "more_weights"),
        ],
    ),
    "answers that the input does not change": model(
        FLAT,
        LOGITS,
        helper.make_node("Mul", ["logits", "nothing"], ["y"]),
        constants=[numpy_helper.from_array(np.zeros(3, np.float32), "nothing")],
    ),
    "a free dimension, for which no size is known": model(FLAT, MULTIPLIED, sizes=("height", 4)),
}


@pytest.mark.parametrize("original", FREE.values(), ids=FREE.keys())
def test_a_model_of_independent_rows_takes_any_number_of_them(original: ModelProto) -> None:
    made = free(original)
    assert made is not None
    loaded = OnnxModel(made.SerializeToString(), source="freed")
    assert loaded.batches
    rows = GENERATOR.uniform(0, 9, (5, 3, 4)).astype(loaded.inputs[0].dtype)
    together = loaded.run_once({"x": rows})
    alone = OnnxModel(original.SerializeToString(), source="original")
    for number, row in enumerate(rows):
        for name, array in alone.run_once({"x": row[np.newaxis]}).items():
            np.testing.assert_allclose(together[name][number], array[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("original", FIXED.values(), ids=FIXED.keys())
def test_any_other_model_stays_as_it_is(original: ModelProto, capfd: Any) -> None:
    before = original.SerializeToString()
    assert free(original) is None
    assert original.SerializeToString() == before
    assert capfd.readouterr().err == ""
