"""What ONNX Runtime says of a failed run is the sender's fault or the server's, and the sender's in plain words."""

import pytest

from pixelserve_server.engine.input_faults import explain

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
